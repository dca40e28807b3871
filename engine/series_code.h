/* series_code.h - the tags of a series as bytes, the same in the catalog's records and in the journal.
 *
 *     tags count (varint) | for each tag, in order of key: key size (varint) | key | value size (varint) | value
 *
 * Text, not the codes of the catalog: a record means the same in any process, and compression finds the repetition.
 */
#pragma once

#include "engine/catalog.h"

enum {
    IMV_SERIES_CODE_BYTES_MAX = IMV_VARINT_BYTES_MAX + 2 * IMV_TAGS_MAX * (IMV_VARINT_BYTES_MAX + IMV_NAME_BYTES_MAX),
};

/* How many bytes it takes, at most. */
size_t imv_series_code_bound(const struct imv_series *series);
/* Writes the tags at `to`, which has room for the bound; returns the byte after them. */
uint8_t *imv_series_code_put(const struct imv_series *series, uint8_t *to);
/* Reads tags[IMV_TAGS_MAX] from [from, end) as views; returns the byte after them, or NULL when they are cut short or
 * too many. Names are checked by whoever uses them. */
const uint8_t *imv_series_code_get(const uint8_t *from, const uint8_t *end, struct imv_tag *tags, size_t *tags_count);
