#include "storage/codec/kernels.h"

#include "storage/base/bytes.h"

/* One number of a block; width and k are constants after inlining, so what remains is a load, a shift and a mask. A number
 * that starts inside a byte may reach into a ninth. */
static inline __attribute__((always_inline)) uint64_t take(const uint8_t *from, unsigned width, unsigned k) {
    if (width == 0) return 0;
    unsigned bit = k * width, byte = bit / 8, shift = bit % 8;
    uint64_t mask = width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1;
    uint64_t word = imv_get_u64(from + byte) >> shift;
    if (shift + width > 64) word |= (uint64_t)from[byte + 8] << (64 - shift);
    return word & mask;
}

static inline __attribute__((always_inline)) void unpack(const uint8_t *restrict from, size_t blocks, unsigned width,
                                                         uint64_t base, uint64_t *restrict out) {
    for (size_t block = 0; block < blocks; block++, from += width, out += IMV_KERNEL_BLOCK_VALUES) {
        out[0] = base + take(from, width, 0);
        out[1] = base + take(from, width, 1);
        out[2] = base + take(from, width, 2);
        out[3] = base + take(from, width, 3);
        out[4] = base + take(from, width, 4);
        out[5] = base + take(from, width, 5);
        out[6] = base + take(from, width, 6);
        out[7] = base + take(from, width, 7);
    }
}

/* clang-format off */
#define WIDTHS(X) \
    X(0) \
    X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) \
    X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31) X(32) \
    X(33) X(34) X(35) X(36) X(37) X(38) X(39) X(40) X(41) X(42) X(43) X(44) X(45) X(46) X(47) X(48) \
    X(49) X(50) X(51) X(52) X(53) X(54) X(55) X(56) X(57) X(58) X(59) X(60) X(61) X(62) X(63) X(64)
/* clang-format on */

#define DEFINE(width)                                                                                                \
    static void unpack_##width(const uint8_t *restrict from, size_t blocks, uint64_t base, uint64_t *restrict out) { \
        unpack(from, blocks, width, base, out);                                                                      \
    }
WIDTHS(DEFINE)

#define ENTRY(width) unpack_##width,
static void (*const unpackers[])(const uint8_t *restrict, size_t, uint64_t, uint64_t *restrict) = {WIDTHS(ENTRY)};
_Static_assert(sizeof unpackers / sizeof *unpackers == 65, "one for each width");

void imv_kernel_unpack(const uint8_t *restrict from, size_t blocks, unsigned width, uint64_t base,
                       uint64_t *restrict out) {
    unpackers[width](from, blocks, base, out);
}

/* A group's digits, a byte each, first digit lowest. Groups that no digits make decode to some digits. */
#define TERNARY(group)                                                                                \
    ((uint64_t)((group) % 3) | (uint64_t)((group) / 3 % 3) << 8 | (uint64_t)((group) / 9 % 3) << 16 | \
     (uint64_t)((group) / 27 % 3) << 24 | (uint64_t)((group) / 81 % 3) << 32)
#define QUINARY(group)    ((uint32_t)((group) % 5) | (uint32_t)((group) / 5 % 5) << 8 | (uint32_t)((group) / 25 % 5) << 16)
#define FOUR(X, group)    X(group), X((group) + 1), X((group) + 2), X((group) + 3)
#define SIXTEEN(X, group) FOUR(X, group), FOUR(X, (group) + 4), FOUR(X, (group) + 8), FOUR(X, (group) + 12)
#define SIXTY_FOUR(X, group) \
    SIXTEEN(X, group), SIXTEEN(X, (group) + 16), SIXTEEN(X, (group) + 32), SIXTEEN(X, (group) + 48)

static const uint64_t ternary[1 << IMV_KERNEL_TERNARY_BITS] = {SIXTY_FOUR(TERNARY, 0), SIXTY_FOUR(TERNARY, 64),
                                                               SIXTY_FOUR(TERNARY, 128), SIXTY_FOUR(TERNARY, 192)};
static const uint32_t quinary[1 << IMV_KERNEL_QUINARY_BITS] = {SIXTY_FOUR(QUINARY, 0), SIXTY_FOUR(QUINARY, 64)};

/* Each group is stored whole, its unused bytes overwritten by the next: one load and one store for 3 or 5 digits. */
static void ternary_digits(const uint8_t *restrict from, size_t count, uint8_t *restrict digits) {
    for (size_t i = 0; i < count; i += IMV_KERNEL_TERNARY_DIGITS) imv_put_u64(digits + i, ternary[*from++]);
}

/* Eight groups of 7 bits are 7 bytes. */
static void quinary_digits(const uint8_t *restrict from, size_t count, uint8_t *restrict digits) {
    for (size_t i = 0; i < count; i += 8 * IMV_KERNEL_QUINARY_DIGITS, from += IMV_KERNEL_QUINARY_BITS) {
        uint64_t groups = imv_get_u64(from);
        imv_put_u32(digits + i, quinary[groups & 127]);
        imv_put_u32(digits + i + 3, quinary[groups >> 7 & 127]);
        imv_put_u32(digits + i + 6, quinary[groups >> 14 & 127]);
        imv_put_u32(digits + i + 9, quinary[groups >> 21 & 127]);
        imv_put_u32(digits + i + 12, quinary[groups >> 28 & 127]);
        imv_put_u32(digits + i + 15, quinary[groups >> 35 & 127]);
        imv_put_u32(digits + i + 18, quinary[groups >> 42 & 127]);
        imv_put_u32(digits + i + 21, quinary[groups >> 49 & 127]);
    }
}

void imv_kernel_digits(const uint8_t *restrict from, size_t count, unsigned radix, uint8_t *restrict digits) {
    if (radix == 3)
        ternary_digits(from, count, digits);
    else
        quinary_digits(from, count, digits);
}

void imv_kernel_add_digits(const uint8_t *restrict digits, size_t count, unsigned shift, uint64_t *restrict values) {
    for (size_t i = 0; i < count; i++) values[i] += (uint64_t)digits[i] << shift;
}

/* Products of 32-bit numbers are one instruction for two values, those of 64-bit numbers are not. */
void imv_kernel_scale(uint64_t *values, size_t count, uint64_t base, uint64_t step, bool is_narrow) {
    if (is_narrow)
        for (size_t i = 0; i < count; i++) values[i] = base + (uint64_t)(uint32_t)step * (uint32_t)values[i];
    else
        for (size_t i = 0; i < count; i++) values[i] = base + step * values[i];
}

/* Sums of four are made beside the chain of additions, which is then one a four. */
void imv_kernel_prefix_sum(const uint64_t *restrict deltas, size_t count, uint64_t first, uint64_t *restrict out) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        uint64_t two = deltas[i] + deltas[i + 1], three = two + deltas[i + 2];
        uint64_t four = two + (deltas[i + 2] + deltas[i + 3]);
        out[i] = first + deltas[i];
        out[i + 1] = first + two;
        out[i + 2] = first + three;
        out[i + 3] = first += four;
    }
    for (; i < count; i++) out[i] = first += deltas[i];
}

/* Neither SSE nor AVX2 converts 64-bit integers to doubles. Adding the bits of 2^52 + 2^51 to a number below 2^51 gives
 * the double 2^52 + 2^51 + number. */
void imv_kernel_decimal(uint64_t *values, size_t count, double factor, double inverse) {
    const double shifter = 0x1.8p52;
    uint64_t shifter_bits;
    memcpy(&shifter_bits, &shifter, sizeof shifter_bits);
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = values[i] + shifter_bits;
        double number;
        memcpy(&number, &bits, sizeof number);
        number = (number - shifter) * factor * inverse;
        memcpy(&values[i], &number, sizeof number);
    }
}
