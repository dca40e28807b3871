/* time_text.h - points in time as people and programs write them in files, to nanoseconds since 1970.
 *
 *     ISO         2026-01-31[(T| )13:45[:30[.123456789]]][Z|+02:00|+0200|+02]     also with / between the date's parts
 *     DMY         31.01.2026 or 31/01/2026, time part as above
 *     MDY         01/31/2026, time part as above
 *     EPOCH       a number: seconds, milliseconds, microseconds or nanoseconds by its magnitude, decimals allowed
 *
 * A reader of a column starts with all forms and drops those that a value does not fit. Times without a zone are in the
 * zone that the caller names.
 */
#pragma once

#include "storage/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum imv_time_form {
    IMV_TIME_ISO = 1 << 0,
    IMV_TIME_DMY = 1 << 1,
    IMV_TIME_MDY = 1 << 2,
    IMV_TIME_EPOCH = 1 << 3,
    IMV_TIME_ANY = 15,
};

/* True when text is a time of this one form; *ns is it. Out of 1677..2262 is false. local: the time has no zone of its
 * own and is in the process's time zone (TZ) instead of UTC. One thread (it uses the C library's time zone). */
bool imv_time_text_parse(struct imv_str text, enum imv_time_form form, bool local, int64_t *ns);

/* The forms of the set that text fits. */
unsigned imv_time_text_forms(struct imv_str text, unsigned forms);
