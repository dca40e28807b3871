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

#define WIDTHS(X)                                                                                                   \
    X(0)                                                                                                            \
    X(1)                                                                                                            \
    X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) \
        X(22) X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31) X(32) X(33) X(34) X(35) X(36) X(37) X(38) X(39) \
            X(40) X(41) X(42) X(43) X(44) X(45) X(46) X(47) X(48) X(49) X(50) X(51) X(52) X(53) X(54) X(55) X(56)   \
                X(57) X(58) X(59) X(60) X(61) X(62) X(63) X(64)

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

void imv_kernel_scale(uint64_t *values, size_t count, uint64_t base, uint64_t step) {
    for (size_t i = 0; i < count; i++) values[i] = base + step * values[i];
}

void imv_kernel_prefix_sum(const uint64_t *restrict deltas, size_t count, uint64_t first, uint64_t *restrict out) {
    for (size_t i = 0; i < count; i++) out[i] = first += deltas[i];
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
