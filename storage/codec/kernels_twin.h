/* kernels_twin.h - loops that compilers vectorize well: written once, compiled by kernels_scalar.c and kernels_avx2.c
 * for their processors. Private to these two. What they do is told in kernels.h.
 */
#pragma once

#include "storage/base/bytes.h"
#include "storage/codec/kernels.h"

#include <limits.h>

#define IMV_TWIN static inline __attribute__((always_inline))

/* Neither SSE nor AVX2 converts between 64-bit integers and doubles. Adding the bits of 2^52 + 2^51 to a number below
 * 2^51 gives the double 2^52 + 2^51 + number; adding that double to one rounds it to an integer in its low bits. */
static const double imv_twin_shifter = 0x1.8p52;
#define IMV_TWIN_SHIFTER_BITS UINT64_C(0x4338000000000000)

IMV_TWIN double imv_twin_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
IMV_TWIN uint64_t imv_twin_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* One number of a block; width and k are constants after inlining, so what remains is a load, a shift and a mask. A
 * number that starts inside a byte may reach into a ninth. */
IMV_TWIN uint64_t imv_twin_take(const uint8_t *from, unsigned width, unsigned k) {
    if (width == 0) return 0;
    unsigned bit = k * width, byte = bit / 8, shift = bit % 8;
    uint64_t mask = width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1;
    uint64_t word = imv_get_u64(from + byte) >> shift;
    if (shift + width > 64) word |= (uint64_t)from[byte + 8] << (64 - shift);
    return word & mask;
}

IMV_TWIN void imv_twin_unpack(const uint8_t *restrict from, size_t blocks, unsigned width, uint64_t base,
                              uint64_t *restrict out) {
    for (size_t block = 0; block < blocks; block++, from += width, out += IMV_KERNEL_BLOCK_VALUES) {
        out[0] = base + imv_twin_take(from, width, 0);
        out[1] = base + imv_twin_take(from, width, 1);
        out[2] = base + imv_twin_take(from, width, 2);
        out[3] = base + imv_twin_take(from, width, 3);
        out[4] = base + imv_twin_take(from, width, 4);
        out[5] = base + imv_twin_take(from, width, 5);
        out[6] = base + imv_twin_take(from, width, 6);
        out[7] = base + imv_twin_take(from, width, 7);
    }
}

/* clang-format off */
#define IMV_TWIN_WIDTHS(X) \
    X(0) \
    X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) \
    X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31) X(32) \
    X(33) X(34) X(35) X(36) X(37) X(38) X(39) X(40) X(41) X(42) X(43) X(44) X(45) X(46) X(47) X(48) \
    X(49) X(50) X(51) X(52) X(53) X(54) X(55) X(56) X(57) X(58) X(59) X(60) X(61) X(62) X(63) X(64)
/* clang-format on */

IMV_TWIN void imv_twin_add_digits(const uint8_t *restrict digits, size_t count, unsigned shift,
                                  uint64_t *restrict values) {
    for (size_t i = 0; i < count; i++) values[i] += (uint64_t)digits[i] << shift;
}

/* Products of 32-bit numbers are one instruction for several values, those of 64-bit numbers are not. */
IMV_TWIN void imv_twin_scale(uint64_t *values, size_t count, uint64_t base, uint64_t step, bool is_narrow) {
    if (is_narrow)
        for (size_t i = 0; i < count; i++) values[i] = base + (uint64_t)(uint32_t)step * (uint32_t)values[i];
    else
        for (size_t i = 0; i < count; i++) values[i] = base + step * values[i];
}

IMV_TWIN void imv_twin_add(uint64_t *restrict values, const uint64_t *restrict added, size_t count, uint64_t base) {
    if (added == NULL)
        for (size_t i = 0; i < count; i++) values[i] += base;
    else
        for (size_t i = 0; i < count; i++) values[i] += base + added[i];
}

IMV_TWIN double imv_twin_decimal_of(uint64_t integer, double factor, double inverse) {
    return (imv_twin_double(integer + IMV_TWIN_SHIFTER_BITS) - imv_twin_shifter) * factor * inverse;
}

IMV_TWIN void imv_twin_decimal(uint64_t *values, size_t count, double factor, double inverse) {
    for (size_t i = 0; i < count; i++) values[i] = imv_twin_bits(imv_twin_decimal_of(values[i], factor, inverse));
}

IMV_TWIN uint64_t imv_twin_to_decimal(const uint64_t *restrict cells, size_t count, double up, double down,
                                      double factor, double inverse, uint64_t *restrict integers,
                                      uint64_t *restrict residuals) {
    uint64_t any = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t integer =
            imv_twin_bits(imv_twin_double(cells[i]) * up * down + imv_twin_shifter) - IMV_TWIN_SHIFTER_BITS;
        integers[i] = integer;
        residuals[i] = cells[i] - imv_twin_bits(imv_twin_decimal_of(integer, factor, inverse));
        any |= residuals[i] | (integer + (UINT64_C(1) << 51)) >> 52;
    }
    return any;
}

IMV_TWIN void imv_twin_differences(const uint64_t *restrict cells, size_t count, uint64_t *restrict deltas) {
    for (size_t i = 1; i < count; i++) deltas[i - 1] = cells[i] - cells[i - 1];
}

IMV_TWIN void imv_twin_integers(const uint64_t *cells, size_t count, uint64_t flip, struct imv_kernel_integers *found) {
    int64_t low = INT64_MAX, high = INT64_MIN;
    uint64_t low_halves = 0, high_halves = 0, negative = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t value = (int64_t)(cells[i] ^ flip);
        low = value < low ? value : low;
        high = value > high ? value : high;
        low_halves += cells[i] & UINT32_MAX;
        high_halves += cells[i] >> 32;
        negative += cells[i] >> 63;
    }
    *found = (struct imv_kernel_integers){low, high, low_halves, high_halves, negative};
}

IMV_TWIN bool imv_twin_compares(int64_t a, imv_kernel_comparison comparison, int64_t b) {
    switch (comparison) {
        case IMV_KERNEL_EQUAL: return a == b;
        case IMV_KERNEL_NOT_EQUAL: return a != b;
        case IMV_KERNEL_LESS: return a < b;
        case IMV_KERNEL_LESS_EQUAL: return a <= b;
        case IMV_KERNEL_GREATER: return a > b;
        default: return a >= b;
    }
}

IMV_TWIN bool imv_twin_compares_float(double a, imv_kernel_comparison comparison, double b) {
    switch (comparison) {
        case IMV_KERNEL_EQUAL: return a == b;
        case IMV_KERNEL_NOT_EQUAL: return a != b;
        case IMV_KERNEL_LESS: return a < b;
        case IMV_KERNEL_LESS_EQUAL: return a <= b;
        case IMV_KERNEL_GREATER: return a > b;
        default: return a >= b;
    }
}

/* The word of bits of up to 64 cells. */
IMV_TWIN uint64_t imv_twin_compare_word(const uint64_t *cells, size_t count, uint64_t flip,
                                        imv_kernel_comparison comparison, int64_t constant) {
    uint64_t word = 0;
    for (size_t i = 0; i < count; i++)
        word |= (uint64_t)imv_twin_compares((int64_t)(cells[i] ^ flip), comparison, constant) << i;
    return word;
}

IMV_TWIN uint64_t imv_twin_compare_float_word(const uint64_t *cells, size_t count, imv_kernel_comparison comparison,
                                              double constant) {
    uint64_t word = 0;
    for (size_t i = 0; i < count; i++)
        word |= (uint64_t)imv_twin_compares_float(imv_twin_double(cells[i]), comparison, constant) << i;
    return word;
}
