/* alp.c - ALP, adaptive lossless floating point: doubles that were written as decimals, turned back into integers.
 *
 * After Afroozeh, Kuffo and Boncz, "ALP: Adaptive Lossless floating-Point Compression" (SIGMOD 2023). A double that
 * came from a decimal with few digits is an integer n times 10^factor times 10^-exponent, the products rounded as
 * doubles are. One exponent and factor serve the whole vector. The integers go through the flat integer codec that
 * makes them smallest.
 *
 * Values that do not come back to the same bits have a residual: what is to be added to the bits. Where decimals went
 * through arithmetic (40.998999999999995) residuals are a few units in the last place, and take a few bits each. Where
 * a value is no decimal at all (noise, NaN, -0, infinities), its integer is its neighbour's, which costs nothing, and
 * its residual is whatever leads from there to its bits: an exception of the residuals' block.
 *
 *     exponent * (exponent + 1) / 2 + factor: u8 | inner codec: 7 bits, bit 7: residuals follow
 *     | block of count residuals (bitpack.h) | inner encoding
 *
 * The search: the digits behind the point are counted on a sample with exact divisions, then the exponent is the one
 * for which the products, which decode four times faster than divisions, come back most often.
 */
#include "storage/base/assert.h"
#include "storage/codec/codec.h"
#include "storage/codec/kernels.h"

#include <math.h>

enum {
    EXPONENT_MAX = 18,
    SAMPLE = 32,
    DIGITS_NONE = 255,
    RESIDUALS_FOLLOW = 0x80,
    HEAD_BYTES = 2,
    NEAR = 8,               /* a residual up to this is what arithmetic leaves of a decimal */
    RESIDUAL_MAX = 1 << 12, /* above it a value takes its neighbour's integer */
};

/* Below it a double has digits enough to tell a decimal that went through arithmetic from any other number. */
static const double near_max = 0x1p40;

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

/* What the bits of a cell are above those that its integer decodes to. */
static inline uint64_t residual_of(uint64_t cell, uint64_t integer, struct imv_codec_decimal decimal) {
    return cell - to_cell(integer, power[decimal.factor], inverse[decimal.exponent]);
}

static inline bool is_within(uint64_t residual, uint64_t distance) { return residual + distance <= 2 * distance; }
static inline bool is_integer(uint64_t integer) { return integer + integer_max < 2 * integer_max; }

/* ---- the search ---- */

static size_t take_sample(const struct imv_codec_input *input, uint64_t *sample) {
    size_t size = input->count < SAMPLE ? input->count : SAMPLE;
    for (size_t i = 0; i < size; i++) sample[i] = input->cells[i * input->count / size];
    return size;
}

/* How many of the sample have a residual of at most distance. */
static size_t count_within(const uint64_t *sample, size_t size, struct imv_codec_decimal decimal, uint64_t distance) {
    size_t count = 0;
    for (size_t i = 0; i < size; i++) {
        uint64_t integer = to_integer(sample[i], power[decimal.exponent], inverse[decimal.factor]);
        count += is_integer(integer) && is_within(residual_of(sample[i], integer, decimal), distance);
    }
    return count;
}

/* The digits behind the decimal point that give the value back, or nearly, or DIGITS_NONE. */
static unsigned digits_of(uint64_t cell) {
    double value = imv_cell_float(cell);
    for (unsigned digits = 0; digits <= EXPONENT_MAX; digits++) {
        double scaled = value * power[digits];
        if (!(fabs(scaled) < (double)integer_max)) return DIGITS_NONE;
        uint64_t distance = fabs(scaled) < near_max ? NEAR : 0;
        if (is_within(cell - imv_float_cell(nearbyint(scaled) / power[digits]), distance)) return digits;
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
    *decimal = (struct imv_codec_decimal){true, (uint8_t)digits, 0};
    for (unsigned exponent = digits; exponent <= EXPONENT_MAX && best < size; exponent++) {
        struct imv_codec_decimal candidate = {true, (uint8_t)exponent, (uint8_t)(exponent - digits)};
        size_t exact = count_within(sample, size, candidate, 0);
        if (exact <= best) continue;
        best = exact;
        *decimal = candidate;
    }
    return count_within(sample, size, *decimal, NEAR) * 2 >= size;
}

/* The last vector's choice is kept while it fits all of the sample but one; superfluous digits in it cost nothing, they
 * are taken out as the integers' common step. */
static bool find_decimal(const struct imv_codec_input *input, struct imv_codec_decimal *decimal) {
    uint64_t sample[SAMPLE];
    size_t size = take_sample(input, sample);
    if (input->decimal != NULL && input->decimal->known) {
        *decimal = *input->decimal;
        if (count_within(sample, size, *decimal, NEAR) + 1 >= size) return true;
    }
    if (!search_decimal(sample, size, decimal)) return false;
    if (input->decimal != NULL) *input->decimal = *decimal;
    return true;
}

/* ---- encoding ---- */

struct transformed {
    uint64_t integers[IMV_PACK_COUNT_MAX], residuals[IMV_PACK_COUNT_MAX];
    bool is_exact;  /* no residual but 0 */
    size_t strange; /* values that have their neighbour's integer */
};

static void transform(const struct imv_codec_input *input, struct imv_codec_decimal decimal,
                      struct transformed *transformed) {
    uint64_t *integers = transformed->integers, *residuals = transformed->residuals;
    size_t count = input->count;
    transformed->is_exact =
        imv_kernel_to_decimal(input->cells, count, power[decimal.exponent], inverse[decimal.factor],
                              power[decimal.factor], inverse[decimal.exponent], integers, residuals) == 0;
    transformed->strange = 0;
    if (transformed->is_exact) return;
    /* The first values that are strange take the integer of the first that is not. */
    size_t known = 0;
    while (known < count && !(is_integer(integers[known]) && is_within(residuals[known], RESIDUAL_MAX))) known++;
    uint64_t last = known < count ? integers[known] : 0;
    for (size_t i = 0; i < count; i++) {
        bool strange = !(is_integer(integers[i]) && is_within(residuals[i], RESIDUAL_MAX));
        integers[i] = last = strange ? last : integers[i];
        transformed->strange += strange;
        if (strange) residuals[i] = residual_of(input->cells[i], last, decimal);
    }
}

static struct imv_codec_input inner(const struct imv_codec_input *input, const uint64_t *integers) {
    return (struct imv_codec_input){
        .type = IMV_INTEGER, .cells = integers, .count = input->count, .level = input->level + 1};
}

static bool plan_alp(const struct imv_codec_input *input, struct imv_codec_plan *plan) {
    struct transformed transformed;
    if (!find_decimal(input, &plan->decimal)) return false;
    transform(input, plan->decimal, &transformed);
    if (transformed.strange > input->count / 2) return false;
    plan->bytes = HEAD_BYTES;
    plan->residuals.bytes = 0;
    if (!transformed.is_exact) {
        imv_pack_plan(transformed.residuals, input->count, false, &plan->residuals);
        plan->bytes += plan->residuals.bytes;
    }
    struct imv_codec_input integers = inner(input, transformed.integers);
    struct imv_codec_plan integers_plan;
    imv_codec_choose(&integers, &integers_plan);
    plan->inner = integers_plan.codec;
    plan->inner_bytes = integers_plan.bytes;
    plan->pack = integers_plan.pack;
    plan->bytes += integers_plan.bytes;
    return true;
}

static uint8_t *encode_alp(const struct imv_codec_input *input, const struct imv_codec_plan *plan, uint8_t *to) {
    struct transformed transformed;
    transform(input, plan->decimal, &transformed);
    imv_assert(transformed.is_exact == (plan->residuals.bytes == 0));
    unsigned exponent = plan->decimal.exponent;
    *to++ = (uint8_t)(exponent * (exponent + 1) / 2 + plan->decimal.factor);
    *to++ = (uint8_t)(plan->inner | (transformed.is_exact ? 0 : RESIDUALS_FOLLOW));
    if (!transformed.is_exact) to = imv_pack_write(transformed.residuals, input->count, &plan->residuals, to);
    struct imv_codec_input integers = inner(input, transformed.integers);
    struct imv_codec_plan integers_plan = {.codec = plan->inner, .bytes = plan->inner_bytes, .pack = plan->pack};
    return imv_codec_encode(&integers, &integers_plan, to);
}

/* ---- decoding ---- */

static bool decode_alp(const uint8_t *from, const uint8_t *end, unsigned level, size_t count, uint64_t *cells) {
    if (end - from < HEAD_BYTES) return false;
    unsigned exponent = 0, factor = from[0], codec = from[1] & ~(unsigned)RESIDUALS_FOLLOW;
    bool has_residuals = from[1] & RESIDUALS_FOLLOW;
    uint64_t residuals[IMV_PACK_COUNT_MAX];
    while (factor > exponent) factor -= ++exponent;
    if (exponent > EXPONENT_MAX) return false;
    from += HEAD_BYTES;
    if (has_residuals) from = imv_pack_read(from, end, count, residuals);
    if (from == NULL || !imv_codec_decode(codec, from, end, level + 1, count, cells)) return false;
    imv_kernel_decimal(cells, count, power[factor], inverse[exponent]);
    if (has_residuals) imv_kernel_add(cells, residuals, count, 0);
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
