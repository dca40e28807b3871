/* alp.c - ALP, adaptive lossless floating point: doubles that were written as decimals, turned back into integers.
 *
 * After Afroozeh, Kuffo and Boncz, "ALP: Adaptive Lossless floating-Point Compression" (SIGMOD 2023). A double that came
 * from a decimal with few digits is an integer n times 10^factor times 10^-exponent, the products rounded as doubles
 * are. One exponent and factor serve the whole vector; each value is tried, and those that do not come back to the same
 * bits (noise, NaN, -0, infinities) are patched: listed with their positions, as they are. The integers then go
 * through the flat integer codec that makes them smallest.
 *
 *     exponent u8 | factor u8 | exceptions: varint | positions, packed | cells, 8 bytes each | inner encoding
 *
 * Positions are rising, packed at the width of count - 1 and end on a byte. The integer in the place of an exception is
 * its neighbour's, which costs the inner codec nothing.
 *
 * The search: the digits behind the point are counted on a sample with exact divisions, then the exponent is the one for
 * which the products, which decode four times faster than divisions, come back most often.
 */
#include "storage/base/assert.h"
#include "storage/codec/codec.h"
#include "storage/codec/kernels.h"

#include <math.h>

enum { EXPONENT_MAX = 18, SAMPLE = 32, DIGITS_NONE = 255 };

static const double power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8, 1e9,
                               1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
static const double inverse[] = {1e0,   1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,  1e-8, 1e-9,
                                 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17, 1e-18};
_Static_assert(sizeof power / sizeof *power == EXPONENT_MAX + 1, "one for each exponent");
_Static_assert(sizeof inverse / sizeof *inverse == EXPONENT_MAX + 1, "one for each exponent");

/* Adding it rounds a double of less than 2^51 to an integer, which then is its low bits: see imv_kernel_decimal. */
static const double shifter = 0x1.8p52;
static const uint64_t integer_max = UINT64_C(1) << 51;

static inline uint64_t to_integer(uint64_t cell, double up, double down) {
    return imv_float_cell(imv_cell_float(cell) * up * down + shifter) - imv_float_cell(shifter);
}

static inline uint64_t to_cell(uint64_t integer, double up, double down) {
    return imv_float_cell((imv_cell_float(integer + imv_float_cell(shifter)) - shifter) * up * down);
}

static inline bool is_exact(uint64_t cell, uint64_t integer, struct imv_codec_decimal decimal) {
    return integer + integer_max < 2 * integer_max &&
           to_cell(integer, power[decimal.factor], inverse[decimal.exponent]) == cell;
}

/* ---- the search ---- */

static size_t take_sample(const struct imv_codec_input *input, uint64_t *sample) {
    size_t size = input->count < SAMPLE ? input->count : SAMPLE;
    for (size_t i = 0; i < size; i++) sample[i] = input->cells[i * input->count / size];
    return size;
}

static size_t count_exact(const uint64_t *sample, size_t size, struct imv_codec_decimal decimal) {
    size_t exact = 0;
    for (size_t i = 0; i < size; i++)
        exact += is_exact(sample[i], to_integer(sample[i], power[decimal.exponent], inverse[decimal.factor]), decimal);
    return exact;
}

/* The digits behind the decimal point that give the value back, or DIGITS_NONE. */
static unsigned digits_of(uint64_t cell) {
    double value = imv_cell_float(cell);
    for (unsigned digits = 0; digits <= EXPONENT_MAX; digits++) {
        double scaled = value * power[digits];
        if (!(fabs(scaled) < (double)integer_max)) return DIGITS_NONE;
        if (nearbyint(scaled) / power[digits] == value) return digits;
    }
    return DIGITS_NONE;
}

/* The number of digits for which the sample is smallest: an exception costs 64 bits and its position, a digit log2(10)
 * bits in each of the others. DIGITS_NONE when most values are no decimals. */
static unsigned choose_digits(const uint64_t *sample, size_t size) {
    unsigned digits[SAMPLE], best = DIGITS_NONE;
    for (size_t i = 0; i < size; i++) digits[i] = digits_of(sample[i]);
    size_t best_bits = SIZE_MAX;
    for (unsigned candidate = 0; candidate <= EXPONENT_MAX; candidate++) {
        size_t fitting = 0;
        for (size_t i = 0; i < size; i++) fitting += digits[i] <= candidate;
        size_t bits = (size - fitting) * 74 + fitting * candidate * 10 / 3;
        if (fitting * 2 < size || bits >= best_bits) continue;
        best_bits = bits;
        best = candidate;
    }
    return best;
}

static bool search_decimal(const uint64_t *sample, size_t size, struct imv_codec_decimal *decimal) {
    unsigned digits = choose_digits(sample, size);
    if (digits == DIGITS_NONE) return false;
    size_t best = 0;
    for (unsigned exponent = digits; exponent <= EXPONENT_MAX && best < size; exponent++) {
        struct imv_codec_decimal candidate = {true, (uint8_t)exponent, (uint8_t)(exponent - digits)};
        size_t exact = count_exact(sample, size, candidate);
        if (exact <= best) continue;
        best = exact;
        *decimal = candidate;
    }
    return best * 2 >= size && best > 0;
}

/* The last vector's choice is kept while it fits all of the sample but one; superfluous digits in it cost nothing, they
 * are taken out as the integers' common step. */
static bool find_decimal(const struct imv_codec_input *input, struct imv_codec_decimal *decimal) {
    uint64_t sample[SAMPLE];
    size_t size = take_sample(input, sample);
    if (input->decimal != NULL && input->decimal->known) {
        *decimal = *input->decimal;
        if (count_exact(sample, size, *decimal) + 1 >= size) return true;
    }
    if (!search_decimal(sample, size, decimal)) return false;
    if (input->decimal != NULL) *input->decimal = *decimal;
    return true;
}

/* ---- encoding ---- */

/* Fills integers and the positions of exceptions; returns how many of these there are. */
static size_t transform(const struct imv_codec_input *input, struct imv_codec_decimal decimal, uint64_t *integers,
                        uint64_t *positions) {
    double up = power[decimal.exponent], down = inverse[decimal.factor];
    size_t exceptions = 0;
    for (size_t i = 0; i < input->count; i++) integers[i] = to_integer(input->cells[i], up, down);
    for (size_t i = 0; i < input->count; i++) {
        positions[exceptions] = i;
        exceptions += !is_exact(input->cells[i], integers[i], decimal);
    }
    return exceptions;
}

/* Gives exceptions the integer before them, the leading ones the first that is none. */
static void fill_exceptions(uint64_t *integers, size_t count, const uint64_t *positions, size_t exceptions) {
    if (exceptions == 0) return;
    size_t leading = 0;
    while (leading < exceptions && positions[leading] == leading) leading++;
    for (size_t i = 0; i < leading; i++) integers[i] = leading < count ? integers[leading] : 0;
    for (size_t i = leading; i < exceptions; i++) integers[positions[i]] = integers[positions[i] - 1];
}

static struct imv_codec_input inner(const struct imv_codec_input *input, const uint64_t *integers) {
    return (struct imv_codec_input){
        .type = IMV_INTEGER, .cells = integers, .count = input->count, .level = input->level + 1};
}

static bool plan_alp(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    uint64_t integers[IMV_PACK_COUNT_MAX], positions[IMV_PACK_COUNT_MAX];
    if (!find_decimal(input, &plan->decimal)) return false;
    plan->exceptions = transform(input, plan->decimal, integers, positions);
    if (plan->exceptions > input->count / 2) return false;
    fill_exceptions(integers, input->count, positions, plan->exceptions);
    struct imv_codec_input integers_input = inner(input, integers);
    struct imv_codec_plan integers_plan;
    imv_codec_choose(&integers_input, &integers_plan);
    plan->inner = integers_plan.codec;
    plan->pack = integers_plan.pack;
    plan->bytes = 2 + imv_varint_bytes(plan->exceptions) +
                  imv_packed_bytes(plan->exceptions, imv_bits_of(input->count - 1)) + 8 * plan->exceptions + 1 +
                  integers_plan.bytes;
    plan->inner_bytes = integers_plan.bytes;
    return true;
}

static uint8_t *encode_alp(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    uint64_t integers[IMV_PACK_COUNT_MAX], positions[IMV_PACK_COUNT_MAX];
    size_t exceptions = transform(input, plan->decimal, integers, positions);
    imv_assert(exceptions == plan->exceptions);
    fill_exceptions(integers, input->count, positions, exceptions);
    *to++ = plan->decimal.exponent;
    *to++ = plan->decimal.factor;
    to = imv_put_varint(to, exceptions);
    to = imv_bits_write(positions, exceptions, imv_bits_of(input->count - 1), to);
    for (size_t i = 0; i < exceptions; i++, to += 8) imv_put_u64(to, input->cells[positions[i]]);
    *to++ = (uint8_t)plan->inner;
    struct imv_codec_input integers_input = inner(input, integers);
    struct imv_codec_plan integers_plan = {.codec = plan->inner, .bytes = plan->inner_bytes, .pack = plan->pack};
    return imv_codec_encode(&integers_input, &integers_plan, to);
}

/* ---- decoding ---- */

static bool decode_alp(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    if (end - from < 2 || from[0] > EXPONENT_MAX || from[1] > from[0]) return false;
    unsigned exponent = from[0], factor = from[1], width = imv_bits_of(count - 1);
    uint64_t exceptions, positions[IMV_PACK_COUNT_MAX];
    from = imv_get_varint(from + 2, end, &exceptions);
    if (from == NULL || exceptions > count) return false;
    size_t positions_bytes = imv_packed_bytes(exceptions, width);
    if ((size_t)(end - from) < positions_bytes + 8 * exceptions) return false;
    const uint8_t *patches = from + positions_bytes;
    imv_bits_read(from, end, exceptions, width, positions);
    if (!imv_codec_inner_decode(patches + 8 * exceptions, end, level + 1, count, cells)) return false;
    imv_kernel_decimal(cells, count, power[factor], inverse[exponent]);
    for (size_t i = 0; i < exceptions; i++) {
        if (positions[i] >= count || (i > 0 && positions[i] <= positions[i - 1])) return false;
        cells[positions[i]] = imv_get_u64(patches + 8 * i);
    }
    return true;
}

const struct imv_codec imv_codec_alp = {
    .name = "ALP",
    .types = 1 << IMV_FLOAT,
    .level_max = 1,
    .plan = plan_alp,
    .encode = encode_alp,
    .decode = decode_alp,
};
