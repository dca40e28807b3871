/* predicate.h - the predicate of InfluxDB's delete call: what it names, as a label and conditions on tags.
 *
 *     _measurement="cpu" AND hostname="h1" AND "rack no"='12'
 *
 *     predicate = equality, { 'AND', equality } | '(', predicate, ')'
 *     equality  = key, '=', value
 *     key       = word | "text"         value = word | "text" | 'text'      \ takes the next byte of a text as it is
 *
 * Words are letters, digits and _ - . : / and bytes above 0x7f. AND in any case. As in InfluxDB there is no OR and no
 * other comparison, and _field cannot be named; other than there, _measurement must be, once: a call that names nothing
 * would delete everything.
 *
 * Pure computation; any thread.
 */
#pragma once

#include "engine/catalog.h"

enum { IMV_PREDICATE_TAGS_MAX = 64 };

struct imv_predicate {
    struct imv_str measurement;
    struct imv_tag tags[IMV_PREDICATE_TAGS_MAX];
    size_t tags_count;
};

/* Takes a predicate apart. What comes out lies in scratch, which has at least text.size bytes. IMV_INVALID says what is
 * wrong and where. */
imv_status imv_predicate_parse(struct imv_str text, char *scratch, struct imv_predicate *predicate,
                               struct imv_error *err);
