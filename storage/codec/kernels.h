/* kernels.h - the inner loops of decoding: plain functions over pointers and counts, with no object to chase and no
 * check to make.
 *
 * The callers (bitpack.c, the codecs) have checked every bound before. All outputs have room for the count rounded up to
 * 8 values. Kernels for wider instruction sets go behind the same signatures, chosen at run time.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMV_KERNEL_BLOCK_VALUES = 8, /* 8 values of w bits are w bytes: blocks start on bytes at every width */
    IMV_KERNEL_SLACK_BYTES = 8,  /* readable bytes that the kernels ask for behind the last that they use */
    IMV_KERNEL_TERNARY_DIGITS = 5,
    IMV_KERNEL_TERNARY_BITS = 8,
    IMV_KERNEL_QUINARY_DIGITS = 3,
    IMV_KERNEL_QUINARY_BITS = 7,
    IMV_KERNEL_DIGITS_SLACK = 32, /* digits that imv_kernel_digits may write behind the last */
};

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

/* Turns integers of less than 52 bits into doubles: cell i becomes (double)values[i] * factor * inverse, multiplied in
 * this order. */
void imv_kernel_decimal(uint64_t *values, size_t count, double factor, double inverse);
