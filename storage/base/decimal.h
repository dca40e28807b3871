/* decimal.h - decimal text to numbers, exactly: the one parser of line protocol, CSV and query text.
 *
 * A number of at most 19 significant digits is an integer w of 64 bits and a power of ten q. When both are exact
 * doubles, one multiplication or division rounds correctly (Clinger 1990, "How to read floating point numbers
 * accurately"); else w times the 128 leading bits of 10^q does, for every w and q (Eisel and Lemire; Lemire 2021,
 * "Number parsing at a gigabyte per second"; Mushtak and Lemire 2022, "Fast number parsing without fallback"). Of
 * longer numbers the first 19 digits, rounded down and up, mostly agree on the double; the rest goes to strtod, cut to
 * the digits that can matter.
 *
 * All functions: any thread, no memory.
 */
#pragma once

#include "storage/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

/* The nearest double of [-] digits [. digits] [e [+-] digits] or [-] . digits, ties to even, for any length; keeps the
 * sign of zero. All of text must be used; false when it is no such literal. Too large a number gives an infinity: a
 * caller that takes none looks for it. */
bool imv_decimal_float(struct imv_str text, double *value);

/* [-] digits / digits; leading zeros are allowed. False when it is no such number or out of range. */
bool imv_decimal_int64(struct imv_str text, int64_t *value);
bool imv_decimal_uint64(struct imv_str text, uint64_t *value);

/* The nearest double to digits * 10^exponent; infinity when too large. */
double imv_decimal_scale(uint64_t digits, int64_t exponent);

/* ---- eight digits at a time ----
 *
 * chunk is eight bytes of text, the first in the lowest byte (imv_get_u64). */

#define IMV_DECIMAL_ZEROS UINT64_C(0x3030303030303030)

/* How many of the first bytes are digits, 0 to 8. A carry out of a byte that is no digit spoils those behind it
 * only. */
static inline unsigned imv_decimal_digits_count(uint64_t chunk) {
    uint64_t values = chunk ^ IMV_DECIMAL_ZEROS;
    uint64_t others = ((values + UINT64_C(0x7676767676767676)) | values) & UINT64_C(0x8080808080808080);
    return others == 0 ? 8 : (unsigned)__builtin_ctzll(others) / 8;
}

/* The number that the first `count` bytes say, all digits; 1 <= count <= 8. Pairs, then fours, then all eight are
 * joined. */
static inline uint32_t imv_decimal_digits_value(uint64_t chunk, unsigned count) {
    uint64_t values = (chunk ^ IMV_DECIMAL_ZEROS) << (64 - 8 * count); /* zeros in front */
    values = values * 10 + (values >> 8);
    return (uint32_t)(((values & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
                       ((values >> 16) & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
                      32);
}

/* ---- powers of ten ----
 *
 * imv_decimal_powers[q - IMV_DECIMAL_POWER_MIN] is 10^q as {high, low} 64 bits of a 128-bit mantissa whose top bit is
 * set. It is exact for 0 <= q <= 55 and rounded down otherwise, but up for -27 <= q < 0, as the algorithm asks for. The
 * table is written by scripts/decimal_powers; test_decimal.c computes it again. */
enum { IMV_DECIMAL_POWER_MIN = -342, IMV_DECIMAL_POWER_MAX = 324 };
extern const uint64_t imv_decimal_powers[IMV_DECIMAL_POWER_MAX - IMV_DECIMAL_POWER_MIN + 1][2];

/* True when the entry is below 10^q. */
static inline bool imv_decimal_power_is_below(int q) { return q < -27 || q > 55; }
