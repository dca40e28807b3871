/* number.h - numbers as decimal text and back, exactly and fast.
 *
 * A double is written with the fewest digits that read back to the same bits, the nearest of them to its value; as
 * 51.5, 0.001 or 1e22, always with a point or an exponent, so that it is told from an integer. Values with few decimals
 * are found by trying (a multiplication and a division); the others by Raffaello Giulietti's Schubfach (2020), with the
 * powers of ten of storage/base/decimal.h. See bench/micro/bench_query_exec.c.
 *
 * Any thread.
 */
#pragma once

#include "storage/base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMV_INTEGER_BYTES_MAX = 20, /* "-9223372036854775808" */
    IMV_FLOAT_BYTES_MAX = 26,   /* "-1.2345678901234567e-308" */
};

/* Write without NUL and return the bytes written. */
size_t imv_integer_print(char *to, int64_t integer);
size_t imv_uinteger_print(char *to, uint64_t uinteger);
/* NaN, Infinity and -Infinity for what is no number. */
size_t imv_float_print(char *to, double number);

/* Whole text as an integer: digits with an optional sign, in range. */
bool imv_integer_parse(struct imv_str text, int64_t *integer);
/* Whole text as a double: decimal with optional fraction and exponent, NaN, Infinity, inf. A value too large gives
 * infinity. */
bool imv_float_parse(struct imv_str text, double *number);
