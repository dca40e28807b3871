/* number.h - decimal text to numbers, exactly: what line protocol and CSV import share. */
#pragma once

#include "storage/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

/* The nearest double of a decimal floating-point literal: [-] digits [. digits] [e [+-] digits], or [-] . digits. All of
 * text must be used. False when it is no such literal, or too large for a double. Rounds to nearest, ties to even, for
 * any length; keeps the sign of zero. Any thread. */
bool imv_parse_float(struct imv_str text, double *value);

/* [-] digits / digits; leading zeros are allowed. False when it is no such number or out of range. */
bool imv_parse_int64(struct imv_str text, int64_t *value);
bool imv_parse_uint64(struct imv_str text, uint64_t *value);
