/* kernels_scalar.c - the kernels for every processor that the tree is compiled for. */
#include "storage/codec/kernels_twin.h"

#include <math.h>

#define DEFINE(width)                                                                                                \
    static void unpack_##width(const uint8_t *restrict from, size_t blocks, uint64_t base, uint64_t *restrict out) { \
        imv_twin_unpack(from, blocks, width, base, out);                                                             \
    }
IMV_TWIN_WIDTHS(DEFINE)

#define ENTRY(width) unpack_##width,
static void (*const unpackers[])(const uint8_t *restrict, size_t, uint64_t,
                                 uint64_t *restrict) = {IMV_TWIN_WIDTHS(ENTRY)};
_Static_assert(sizeof unpackers / sizeof *unpackers == 65, "one for each width");

static void unpack(const uint8_t *restrict from, size_t blocks, unsigned width, uint64_t base, uint64_t *restrict out) {
    unpackers[width](from, blocks, base, out);
}

static void add_digits(const uint8_t *restrict digits, size_t count, unsigned shift, uint64_t *restrict values) {
    imv_twin_add_digits(digits, count, shift, values);
}

static void scale(uint64_t *values, size_t count, uint64_t base, uint64_t step, bool is_narrow) {
    imv_twin_scale(values, count, base, step, is_narrow);
}

/* Sums of four are made beside the chain of additions, which is then one a four. */
static void prefix_sum(const uint64_t *restrict deltas, size_t count, uint64_t first, uint64_t *restrict out) {
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

static void add(uint64_t *restrict values, const uint64_t *restrict added, size_t count, uint64_t base) {
    imv_twin_add(values, added, count, base);
}

static void decimal(uint64_t *values, size_t count, double factor, double inverse) {
    imv_twin_decimal(values, count, factor, inverse);
}

static uint64_t to_decimal(const uint64_t *restrict cells, size_t count, double up, double down, double factor,
                           double inverse, uint64_t *restrict integers, uint64_t *restrict residuals) {
    return imv_twin_to_decimal(cells, count, up, down, factor, inverse, integers, residuals);
}

static void differences(const uint64_t *restrict cells, size_t count, uint64_t *restrict deltas) {
    imv_twin_differences(cells, count, deltas);
}

static void integers(const uint64_t *cells, size_t count, uint64_t flip, struct imv_kernel_integers *found) {
    imv_twin_integers(cells, count, flip, found);
}

static void floats(const uint64_t *cells, size_t count, struct imv_kernel_floats *found) {
    *found = (struct imv_kernel_floats){.min = INFINITY, .max = -INFINITY};
    for (size_t i = 0; i < count; i++) {
        double value = imv_twin_double(cells[i]), *high = &found->high[i % IMV_KERNEL_SUM_LANES];
        if (isnan(value)) {
            found->nan_count++;
            continue;
        }
        found->min = value < found->min ? value : found->min;
        found->max = value > found->max ? value : found->max;
        double total = *high + value, added = total - *high;
        found->low[i % IMV_KERNEL_SUM_LANES] += (*high - (total - added)) + (value - added);
        *high = total;
    }
}

static void compare_integers(const uint64_t *cells, size_t count, uint64_t flip, imv_kernel_comparison comparison,
                             uint64_t constant, uint64_t *bits) {
    int64_t bound = (int64_t)(constant ^ flip);
    for (size_t i = 0; i < count; i += 64)
        bits[i / 64] = imv_twin_compare_word(cells + i, count - i < 64 ? count - i : 64, flip, comparison, bound);
}

static void compare_floats(const uint64_t *cells, size_t count, imv_kernel_comparison comparison, double constant,
                           uint64_t *bits) {
    for (size_t i = 0; i < count; i += 64)
        bits[i / 64] = imv_twin_compare_float_word(cells + i, count - i < 64 ? count - i : 64, comparison, constant);
}

const struct imv_kernels imv_kernels_scalar = {
    .name = "scalar",
    .unpack = unpack,
    .add_digits = add_digits,
    .scale = scale,
    .prefix_sum = prefix_sum,
    .add = add,
    .decimal = decimal,
    .to_decimal = to_decimal,
    .differences = differences,
    .integers = integers,
    .floats = floats,
    .compare_integers = compare_integers,
    .compare_floats = compare_floats,
};
