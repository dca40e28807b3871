/* kernels.h - the inner loops of codecs and scans: plain functions over pointers and counts, with no object to chase
 * and no check to make.
 *
 * Each exists twice: for any x86-64-v2 processor (kernels_scalar.c) and with AVX2 (kernels_avx2.c), in two tables of
 * the same shape. Which table is used is decided once, before main, by what the processor can do; the imv_kernel_
 * functions call through it. Twins give the same bits for all inputs: tests run both and compare.
 *
 * The callers (bitpack.c, the codecs) have checked every bound before. Outputs of decoding have room for the count
 * rounded up to 8 values; counts may be 0. No state but the choice of the table; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMV_KERNEL_BLOCK_VALUES = 8, /* 8 values of w bits are w bytes: blocks start on bytes at every width */
    IMV_KERNEL_SLACK_BYTES = 16, /* readable bytes that the kernels ask for behind the last that they use */
    IMV_KERNEL_TERNARY_DIGITS = 5,
    IMV_KERNEL_TERNARY_BITS = 8,
    IMV_KERNEL_QUINARY_DIGITS = 3,
    IMV_KERNEL_QUINARY_BITS = 7,
    IMV_KERNEL_DIGITS_SLACK = 32, /* digits that imv_kernel_digits may write behind the last */
    IMV_KERNEL_SUM_LANES = 8,
};

/* Of integers; in signed order, or in unsigned order when flip is 2^63, which then is in min and max too. */
struct imv_kernel_integers {
    int64_t min, max;                 /* of cell ^ flip; INT64_MAX and INT64_MIN of none */
    uint64_t low_halves, high_halves; /* sums of the 32-bit halves of the cells, the high ones as unsigned numbers */
    uint64_t negative;                /* cells with the sign bit set */
};

/* Of doubles that are not NaN. Value i is added to lane i % IMV_KERNEL_SUM_LANES by TwoSum (storage/sum.h); a lane that
 * leaves the finite numbers holds nothing of use. Of zeros of both signs min and max are either. */
struct imv_kernel_floats {
    double min, max; /* infinity and -infinity of none */
    uint64_t nan_count;
    double high[IMV_KERNEL_SUM_LANES], low[IMV_KERNEL_SUM_LANES];
};

typedef enum imv_kernel_comparison {
    IMV_KERNEL_EQUAL,
    IMV_KERNEL_NOT_EQUAL,
    IMV_KERNEL_LESS,
    IMV_KERNEL_LESS_EQUAL,
    IMV_KERNEL_GREATER,
    IMV_KERNEL_GREATER_EQUAL,
} imv_kernel_comparison;

struct imv_kernels {
    const char *name;
    void (*unpack)(const uint8_t *restrict from, size_t blocks, unsigned width, uint64_t base, uint64_t *restrict out);
    void (*add_digits)(const uint8_t *restrict digits, size_t count, unsigned shift, uint64_t *restrict values);
    void (*scale)(uint64_t *values, size_t count, uint64_t base, uint64_t step, bool is_narrow);
    void (*prefix_sum)(const uint64_t *restrict deltas, size_t count, uint64_t first, uint64_t *restrict out);
    void (*add)(uint64_t *restrict values, const uint64_t *restrict added, size_t count, uint64_t base);
    void (*decimal)(uint64_t *values, size_t count, double factor, double inverse);
    uint64_t (*to_decimal)(const uint64_t *restrict cells, size_t count, double up, double down, double factor,
                           double inverse, uint64_t *restrict integers, uint64_t *restrict residuals);
    void (*differences)(const uint64_t *restrict cells, size_t count, uint64_t *restrict deltas);
    void (*integers)(const uint64_t *cells, size_t count, uint64_t flip, struct imv_kernel_integers *found);
    void (*floats)(const uint64_t *cells, size_t count, struct imv_kernel_floats *found);
    void (*compare_integers)(const uint64_t *cells, size_t count, uint64_t flip, imv_kernel_comparison comparison,
                             uint64_t constant, uint64_t *bits);
    void (*compare_floats)(const uint64_t *cells, size_t count, imv_kernel_comparison comparison, double constant,
                           uint64_t *bits);
};

extern const struct imv_kernels imv_kernels_scalar;
/* NULL where it was not built or the processor cannot run it. */
const struct imv_kernels *imv_kernels_avx2(void);
/* The table in use. */
const struct imv_kernels *imv_kernels(void);
/* Puts another table to use, for tests and benches, while no other thread runs. NULL: the processor's best again. */
void imv_kernels_use(const struct imv_kernels *kernels);

/* ---- decoding ---- */

/* out[i] = base + the i-th number of `width` bits (0..64), least significant bit first, for blocks * 8 numbers. */
void imv_kernel_unpack(const uint8_t *restrict from, size_t blocks, unsigned width, uint64_t base,
                       uint64_t *restrict out);

/* digits[i] = the i-th digit of radix 3 or 5, grouped as bitpack.h says. */
void imv_kernel_digits(const uint8_t *restrict from, size_t count, unsigned radix, uint8_t *restrict digits);

/* values[i] += digits[i] << shift. */
void imv_kernel_add_digits(const uint8_t *restrict digits, size_t count, unsigned shift, uint64_t *restrict values);

/* values[i] = base + step * values[i]. is_narrow: step and all values are below 2^32. */
void imv_kernel_scale(uint64_t *values, size_t count, uint64_t base, uint64_t step, bool is_narrow);

/* out[i] = first + deltas[0] + .. + deltas[i]. */
void imv_kernel_prefix_sum(const uint64_t *restrict deltas, size_t count, uint64_t first, uint64_t *restrict out);

/* values[i] += base + added[i]; added may be NULL for none. */
void imv_kernel_add(uint64_t *restrict values, const uint64_t *restrict added, size_t count, uint64_t base);

/* Turns integers of less than 52 bits into doubles: cell i becomes (double)values[i] * factor * inverse, multiplied in
 * this order. */
void imv_kernel_decimal(uint64_t *values, size_t count, double factor, double inverse);

/* ---- encoding ---- */

/* The other way: integers[i] = the integer nearest to cells[i] * up * down where it is below 2^51, else any;
 * residuals[i] = what is to be added to the bits of integers[i] decoded with factor and inverse. Returns 0 when all
 * residuals are 0 and all integers below 2^51. */
uint64_t imv_kernel_to_decimal(const uint64_t *restrict cells, size_t count, double up, double down, double factor,
                               double inverse, uint64_t *restrict integers, uint64_t *restrict residuals);

/* deltas[i] = cells[i + 1] - cells[i], count - 1 of them. */
void imv_kernel_differences(const uint64_t *restrict cells, size_t count, uint64_t *restrict deltas);

/* ---- aggregates and comparisons ---- */

void imv_kernel_aggregate_integers(const uint64_t *cells, size_t count, uint64_t flip,
                                   struct imv_kernel_integers *found);
void imv_kernel_aggregate_floats(const uint64_t *cells, size_t count, struct imv_kernel_floats *found);

/* Bit i of the (count + 63) / 64 words: cells[i] compares so to the constant; 0 behind the count. flip: 0 for signed
 * and boolean cells, 2^63 for unsigned ones. Rows without a value are the caller's to mask out. */
void imv_kernel_select_integers(const uint64_t *cells, size_t count, uint64_t flip, imv_kernel_comparison comparison,
                                uint64_t constant, uint64_t *bits);
/* As IEEE 754 compares: NaN is not equal to anything, and not less or greater. */
void imv_kernel_select_floats(const uint64_t *cells, size_t count, imv_kernel_comparison comparison, double constant,
                              uint64_t *bits);

/* The indexes of the set bits among the first count, rising; rows has room for as many. Returns how many. */
size_t imv_kernel_rows(const uint64_t *bits, size_t count, uint16_t *rows);
