#include "storage/base/prng.h"
#include "storage/codec/bitpack.h"
#include "storage/codec/kernels.h"
#include "storage/sum.h"
#include "storage/value.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* Random vectors of up to 1024 values on which every kernel is compared with its twin. With IMV_KERNEL_VALUES a run
 * takes so many values for each kernel instead. */
enum { COUNT_MAX = IMV_PACK_COUNT_MAX, VALUES_DEFAULT = 300000 };

static struct imv_prng prng;
static const struct imv_kernels *twins[2];

static size_t values_wanted(void) {
    const char *text = getenv("IMV_KERNEL_VALUES");
    return text != NULL ? strtoull(text, NULL, 10) : VALUES_DEFAULT;
}

static bool begin(uint64_t seed) {
    imv_prng_init(&prng, seed);
    twins[0] = &imv_kernels_scalar;
    twins[1] = imv_kernels_avx2();
    if (twins[1] == NULL) cr_skip_test("this processor has no AVX2");
    return twins[1] != NULL;
}

static size_t any_count(void) {
    return imv_prng_below(&prng, 4) ? imv_prng_below(&prng, COUNT_MAX + 1) : imv_prng_below(&prng, 20);
}

/* Cells of all kinds: narrow, wide, extremes, decimals, special doubles. */
static void fill(uint64_t *cells, size_t count) {
    static const uint64_t some[] = {0,
                                    1,
                                    UINT64_MAX,
                                    INT64_MAX,
                                    UINT64_C(1) << 63,
                                    (UINT64_C(1) << 63) + 1,
                                    UINT64_C(0x7ff0000000000000),
                                    UINT64_C(0xfff0000000000000),
                                    UINT64_C(0x7ff8000000000000),
                                    UINT64_C(0xfff0000000000001),
                                    UINT64_C(0x7fefffffffffffff),
                                    UINT64_C(0xffefffffffffffff),
                                    UINT64_C(0x3ff0000000000000)};
    uint64_t kind = imv_prng_below(&prng, 6), shift = imv_prng_below(&prng, 64);
    for (size_t i = 0; i < count; i++) {
        uint64_t random = imv_prng_next(&prng);
        double value = (double)((int64_t)random >> (shift % 56 + 8));
        cells[i] = kind == 0   ? random
                   : kind == 1 ? random >> shift
                   : kind == 2 ? some[random % 13]
                   : kind == 3 ? imv_float_cell(value / 100)
                   : kind == 4 ? imv_float_cell(value * 1e-7)
                               : (random & 7 ? random >> shift : some[(random >> 8) % 13]);
    }
}

static uint64_t inputs[2][COUNT_MAX + 8], outputs[2][2][COUNT_MAX + 8];

static void expect_same(const char *what, size_t count, size_t cells) {
    for (int k = 0; k < 2; k++)
        cr_assert_eq(memcmp(outputs[0][k], outputs[1][k], cells * 8), 0, "%s of %zu differs", what, count);
}

static void same_outputs(void) {
    for (int k = 0; k < 2; k++) {
        memcpy(outputs[0][k], inputs[k], sizeof inputs[k]);
        memcpy(outputs[1][k], inputs[k], sizeof inputs[k]);
    }
}

/* Numbers of every width, at every position of a block, come out the same, and are what their bits say. */
Test(kernels, unpacking_twins) {
    if (!begin(1)) return;
    for (size_t done = 0, width = 0; done < values_wanted(); width = (width + 1) % 65) {
        size_t blocks = imv_prng_below(&prng, COUNT_MAX / 8 + 1), bytes = blocks * width;
        uint8_t *packed = malloc(bytes + IMV_KERNEL_SLACK_BYTES);
        for (size_t i = 0; i < bytes + IMV_KERNEL_SLACK_BYTES; i++) packed[i] = (uint8_t)imv_prng_next(&prng);
        uint64_t base = imv_prng_next(&prng) >> imv_prng_below(&prng, 64);
        for (int k = 0; k < 2; k++) twins[k]->unpack(packed, blocks, (unsigned)width, base, outputs[k][0]);
        expect_same("unpacking", blocks * 8, 0);
        cr_assert_eq(memcmp(outputs[0][0], outputs[1][0], blocks * 64), 0, "width %zu", width);
        for (size_t i = 0; i < blocks * 8; i += 1 + imv_prng_below(&prng, 50)) {
            uint64_t number = 0;
            for (size_t bit = 0; bit < width; bit++) {
                size_t at = i * width + bit;
                number |= (uint64_t)(packed[at / 8] >> at % 8 & 1) << bit;
            }
            cr_assert_eq(outputs[1][0][i], base + number, "width %zu", width);
        }
        free(packed);
        done += blocks * 8 + 1;
    }
}

/* What decodes and encodes integers and decimals gives the same bits from both. */
Test(kernels, codec_twins) {
    if (!begin(2)) return;
    for (size_t done = 0, count; done < values_wanted(); done += count + 1) {
        count = any_count();
        fill(inputs[0], count);
        fill(inputs[1], count);
        uint64_t base = imv_prng_next(&prng), step = imv_prng_next(&prng) >> imv_prng_below(&prng, 64), any[2];
        uint8_t digits[COUNT_MAX];
        for (size_t i = 0; i < count; i++) digits[i] = (uint8_t)imv_prng_below(&prng, 5);
        unsigned shift = (unsigned)imv_prng_below(&prng, 61);
        double up = 1, down = 1;
        for (uint64_t i = imv_prng_below(&prng, 19); i > 0; i--) up *= 10;
        for (uint64_t i = imv_prng_below(&prng, 19); i > 0; i--) down /= 10;
#define TWINS(call)                                   \
    same_outputs();                                   \
    for (int k = 0; k < 2; k++) {                     \
        uint64_t *out = outputs[k][0];                \
        uint64_t *other = outputs[k][1];              \
        const struct imv_kernels *kernels = twins[k]; \
        call;                                         \
        (void)out, (void)other;                       \
    }                                                 \
    expect_same(#call, count, COUNT_MAX)
        TWINS(kernels->add_digits(digits, count, shift, out));
        TWINS(kernels->scale(out, count, base, step, false));
        TWINS(kernels->scale(out, count, base, step & UINT32_MAX, (step & 1) == 0));
        TWINS(kernels->prefix_sum(inputs[0], count, base, out));
        TWINS(kernels->add(out, inputs[1], count, base));
        TWINS(kernels->add(out, NULL, count, base));
        TWINS(kernels->differences(inputs[0], count, out));
        TWINS(any[k] = kernels->to_decimal(inputs[0], count, up, down, 1 / down, 1 / up, out, other));
        cr_assert_eq(any[0] == 0, any[1] == 0);
        for (size_t i = 0; i < count; i++) inputs[0][i] = (uint64_t)((int64_t)inputs[0][i] >> 13);
        TWINS(kernels->decimal(out, count, up, down));
#undef TWINS
    }
}

static bool same_double(double a, double b) { return imv_float_cell(a) == imv_float_cell(b); }

/* Aggregates are the same bit for bit: minima, maxima, sums in all lanes that stay finite, counts. */
Test(kernels, aggregate_twins) {
    if (!begin(3)) return;
    for (size_t done = 0, count; done < values_wanted(); done += count + 1) {
        count = any_count();
        fill(inputs[0], count);
        struct imv_kernel_integers integers[2];
        uint64_t flip = imv_prng_below(&prng, 2) << 63;
        for (int k = 0; k < 2; k++) twins[k]->integers(inputs[0], count, flip, &integers[k]);
        cr_assert_eq(memcmp(&integers[0], &integers[1], sizeof *integers), 0);
        struct imv_kernel_floats floats[2];
        for (int k = 0; k < 2; k++) twins[k]->floats(inputs[0], count, &floats[k]);
        cr_assert(floats[0].min == floats[1].min && floats[0].max == floats[1].max);
        cr_assert_eq(floats[0].nan_count, floats[1].nan_count);
        for (int lane = 0; lane < IMV_KERNEL_SUM_LANES; lane++) {
            bool finite[2];
            for (int k = 0; k < 2; k++) finite[k] = isfinite(floats[k].high[lane]) && isfinite(floats[k].low[lane]);
            cr_assert_eq(finite[0], finite[1]);
            if (finite[0])
                cr_assert(same_double(floats[0].high[lane], floats[1].high[lane]) &&
                          same_double(floats[0].low[lane], floats[1].low[lane]));
        }
    }
}

static bool compares(bool less, bool equal, bool greater, imv_kernel_comparison comparison) {
    const bool answers[] = {equal, !equal, less, less || equal, greater, greater || equal};
    return answers[comparison];
}

/* Every comparison selects the same rows from both, and those that compare so one by one; nothing behind the count. */
Test(kernels, comparison_twins) {
    if (!begin(4)) return;
    for (size_t done = 0, count; done < values_wanted(); done += count + 1) {
        count = any_count();
        fill(inputs[0], count);
        uint64_t constant = imv_prng_next(&prng) >> imv_prng_below(&prng, 64), flip = imv_prng_below(&prng, 2) << 63;
        if (count > 0 && imv_prng_below(&prng, 2)) constant = inputs[0][imv_prng_below(&prng, count)];
        double number = imv_cell_float(constant);
        for (imv_kernel_comparison comparison = IMV_KERNEL_EQUAL; comparison <= IMV_KERNEL_GREATER_EQUAL;
             comparison++) {
            uint64_t bits[2][COUNT_MAX / 64 + 1], words = (count + 63) / 64;
            for (int is_float = 0; is_float < 2; is_float++) {
                for (int k = 0; k < 2; k++) {
                    if (is_float)
                        twins[k]->compare_floats(inputs[0], count, comparison, number, bits[k]);
                    else
                        twins[k]->compare_integers(inputs[0], count, flip, comparison, constant, bits[k]);
                }
                cr_assert_eq(memcmp(bits[0], bits[1], words * 8), 0);
                for (size_t i = 0; i < words * 64; i += 1 + imv_prng_below(&prng, 9)) {
                    bool want = false;
                    if (i < count && is_float) {
                        double value = imv_cell_float(inputs[0][i]);
                        want = compares(value<number, value == number, value> number, comparison);
                    } else if (i < count) {
                        int64_t value = (int64_t)(inputs[0][i] ^ flip), bound = (int64_t)(constant ^ flip);
                        want = compares(value<bound, value == bound, value> bound, comparison);
                    }
                    cr_assert_eq(imv_bit_get(bits[1], i), want);
                }
                uint16_t rows[COUNT_MAX];
                size_t found = imv_kernel_rows(bits[1], count, rows), next = 0;
                for (size_t i = 0; i < count; i++)
                    if (imv_bit_get(bits[1], i)) cr_assert(next < found && rows[next++] == i);
                cr_assert_eq(next, found);
            }
        }
    }
}

/* Any table can be put to use and taken back. */
Test(kernels, tables_can_be_chosen) {
    const struct imv_kernels *best = imv_kernels();
    imv_kernels_use(&imv_kernels_scalar);
    cr_assert_eq(imv_kernels(), &imv_kernels_scalar);
    imv_kernels_use(NULL);
    cr_assert_eq(imv_kernels(), best);
}
