#include "storage/codec/kernels.h"

#include "storage/base/bytes.h"

static const struct imv_kernels *kernels = &imv_kernels_scalar;

const struct imv_kernels *imv_kernels(void) { return kernels; }

void imv_kernels_use(const struct imv_kernels *used) {
    const struct imv_kernels *best = imv_kernels_avx2();
    kernels = used != NULL ? used : best != NULL ? best : &imv_kernels_scalar;
}

/* Before main, so that no thread ever sees the choice change. */
__attribute__((constructor)) static void choose(void) { imv_kernels_use(NULL); }

/* ---- digits: table lookups, the same for all processors ---- */

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

/* ---- through the table ---- */

void imv_kernel_unpack(const uint8_t *restrict from, size_t blocks, unsigned width, uint64_t base,
                       uint64_t *restrict out) {
    kernels->unpack(from, blocks, width, base, out);
}

void imv_kernel_add_digits(const uint8_t *restrict digits, size_t count, unsigned shift, uint64_t *restrict values) {
    kernels->add_digits(digits, count, shift, values);
}

void imv_kernel_scale(uint64_t *values, size_t count, uint64_t base, uint64_t step, bool is_narrow) {
    kernels->scale(values, count, base, step, is_narrow);
}

void imv_kernel_prefix_sum(const uint64_t *restrict deltas, size_t count, uint64_t first, uint64_t *restrict out) {
    kernels->prefix_sum(deltas, count, first, out);
}

void imv_kernel_add(uint64_t *restrict values, const uint64_t *restrict added, size_t count, uint64_t base) {
    kernels->add(values, added, count, base);
}

void imv_kernel_decimal(uint64_t *values, size_t count, double factor, double inverse) {
    kernels->decimal(values, count, factor, inverse);
}

uint64_t imv_kernel_to_decimal(const uint64_t *restrict cells, size_t count, double up, double down, double factor,
                               double inverse, uint64_t *restrict integers, uint64_t *restrict residuals) {
    return kernels->to_decimal(cells, count, up, down, factor, inverse, integers, residuals);
}

void imv_kernel_differences(const uint64_t *restrict cells, size_t count, uint64_t *restrict deltas) {
    kernels->differences(cells, count, deltas);
}

void imv_kernel_aggregate_integers(const uint64_t *cells, size_t count, uint64_t flip,
                                   struct imv_kernel_integers *found) {
    kernels->integers(cells, count, flip, found);
}

void imv_kernel_aggregate_floats(const uint64_t *cells, size_t count, struct imv_kernel_floats *found) {
    kernels->floats(cells, count, found);
}

void imv_kernel_select_integers(const uint64_t *cells, size_t count, uint64_t flip, imv_kernel_comparison comparison,
                                uint64_t constant, uint64_t *bits) {
    kernels->compare_integers(cells, count, flip, comparison, constant, bits);
}

void imv_kernel_select_floats(const uint64_t *cells, size_t count, imv_kernel_comparison comparison, double constant,
                              uint64_t *bits) {
    kernels->compare_floats(cells, count, comparison, constant, bits);
}

size_t imv_kernel_rows(const uint64_t *bits, size_t count, uint16_t *rows) {
    size_t found = 0;
    for (size_t word = 0; word * 64 < count; word++) {
        uint64_t left = bits[word];
        if (count - word * 64 < 64) left &= (UINT64_C(1) << (count - word * 64)) - 1;
        for (; left != 0; left &= left - 1) rows[found++] = (uint16_t)(word * 64 + (size_t)__builtin_ctzll(left));
    }
    return found;
}
