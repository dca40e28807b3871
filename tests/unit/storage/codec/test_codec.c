#include "storage/codec/codec.h"
#include "tests/support/values.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const size_t counts[] = {1, 2, 3, 4, 5, 8, 9, 31, 100, 720, 1023, 1024};

/* Encodes into memory of exactly the planned size, decodes from it, and compares bit for bit. */
static void round_trip(const struct imv_codec_input *input, const struct imv_codec_plan *plan, const char *what) {
    uint8_t *bytes = malloc(plan->bytes);
    uint64_t back[IMV_PACK_COUNT_MAX];
    cr_assert_eq(imv_codec_encode(input, plan, bytes), bytes + plan->bytes);
    cr_assert(imv_codec_decode(plan->codec, bytes, bytes + plan->bytes, input->level, input->count, back));
    cr_assert_eq(memcmp(back, input->cells, input->count * sizeof *back), 0, "%s %s %zu", what,
                 imv_codec_name(plan->codec), input->count);
    free(bytes);
}

static void fill(const struct imv_values *values, struct imv_prng *prng, uint64_t *cells, size_t count) {
    values->fill(prng, NULL, cells, count);
}

/* Every codec gives back, bit for bit, whatever it takes, at every level, in exactly the bytes it planned. */
Test(codec, every_codec_round_trips) {
    struct imv_prng prng;
    imv_prng_init(&prng, 7);
    bool used[IMV_CODECS_COUNT] = {0};
    for (size_t g = 0; g < imv_values_count; g++) {
        if (imv_values[g].type == IMV_STRING) continue;
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            uint64_t cells[IMV_PACK_COUNT_MAX];
            fill(&imv_values[g], &prng, cells, counts[c]);
            for (unsigned id = 0; id < IMV_CODECS_COUNT; id++) {
                const struct imv_codec *codec = imv_codec_of(id);
                for (unsigned level = 0; codec != NULL && level <= codec->level_max; level++) {
                    struct imv_codec_input input = {imv_values[g].type, cells, counts[c], level, NULL};
                    struct imv_codec_plan plan = {.codec = id, .bytes = SIZE_MAX};
                    if ((codec->types >> imv_values[g].type & 1) == 0 || !codec->plan(&input, &plan)) continue;
                    round_trip(&input, &plan, imv_values[g].name);
                    used[id] = true;
                }
            }
        }
    }
    for (unsigned id = 0; id < IMV_CODECS_COUNT; id++) cr_assert_eq(used[id], imv_codec_of(id) != NULL, "%u", id);
}

/* The choice round-trips and is no larger than any other codec's plan, but where the search is cut short: at a
 * constant, at floats of half their size, at less than a byte a value; a sixteenth where a sample says which codecs to
 * plan. */
Test(codec, choice_is_smallest) {
    struct imv_prng prng;
    imv_prng_init(&prng, 8);
    for (size_t g = 0; g < imv_values_count; g++) {
        if (imv_values[g].type == IMV_STRING) continue;
        for (int round = 0; round < 5; round++) {
            uint64_t cells[IMV_PACK_COUNT_MAX];
            size_t count = 1 + imv_prng_below(&prng, IMV_PACK_COUNT_MAX);
            fill(&imv_values[g], &prng, cells, count);
            struct imv_codec_input input = {imv_values[g].type, cells, count, 0, NULL};
            struct imv_codec_plan best;
            imv_codec_choose(&input, &best);
            cr_assert_leq(best.bytes, IMV_CODEC_BYTES_MAX);
            round_trip(&input, &best, imv_values[g].name);
            if (best.codec == IMV_CODEC_CONST) continue;
            size_t slack = input.type == IMV_FLOAT ? count * 4 : count;
            for (unsigned id = 0; id < IMV_CODECS_COUNT; id++) {
                const struct imv_codec *codec = imv_codec_of(id);
                struct imv_codec_plan plan = {.codec = id, .bytes = SIZE_MAX};
                if (codec != NULL && (codec->types >> input.type & 1) && codec->plan(&input, &plan))
                    cr_assert(best.bytes <= plan.bytes + plan.bytes / 16 || best.bytes <= slack, "%s: %s %zu, %s %zu",
                              imv_values[g].name, imv_codec_name(best.codec), best.bytes, codec->name, plan.bytes);
            }
        }
    }
}

static size_t smallest_plan(const struct imv_codec_input *input) {
    size_t smallest = SIZE_MAX;
    for (unsigned id = 0; id < IMV_CODECS_COUNT; id++) {
        const struct imv_codec *codec = imv_codec_of(id);
        struct imv_codec_plan plan = {.codec = id, .bytes = SIZE_MAX};
        if (codec == NULL || !(codec->types >> input->type & 1) || !codec->plan(input, &plan)) continue;
        if (plan.bytes < smallest) smallest = plan.bytes;
    }
    return smallest;
}

/* A few integers round-trip through the choice, which takes no more than ten bits a value above the smallest plan, and
 * over all data hardly more. */
Test(codec, few_integers_are_small) {
    struct imv_prng prng;
    size_t bytes = 0, smallest = 0;
    imv_prng_init(&prng, 10);
    for (size_t g = 0; g < imv_values_count; g++) {
        if (imv_values[g].type != IMV_INTEGER && imv_values[g].type != IMV_UINTEGER) continue;
        for (size_t count = 1; count <= 40; count++) {
            uint64_t cells[IMV_PACK_COUNT_MAX];
            fill(&imv_values[g], &prng, cells, count);
            struct imv_codec_input input = {imv_values[g].type, cells, count, 0, NULL};
            struct imv_codec_plan plan;
            imv_codec_choose(&input, &plan);
            round_trip(&input, &plan, imv_values[g].name);
            size_t least = smallest_plan(&input);
            cr_assert_leq(plan.bytes, least + (count * 10 + 7) / 8, "%s: %zu values", imv_values[g].name, count);
            bytes += plan.bytes;
            smallest += least;
        }
    }
    cr_assert_leq(bytes, smallest + smallest / 50, "%zu, %zu", bytes, smallest);
}

static const struct imv_values *values_named(const char *name) {
    for (size_t g = 0; g < imv_values_count; g++)
        if (strcmp(imv_values[g].name, name) == 0) return &imv_values[g];
    cr_assert_fail("no values named %s", name);
    return NULL;
}

/* Each character of data meets the codec made for it, and takes no more bits a value than stated. */
Test(codec, characters_meet_their_codec) {
    static const struct {
        const char *values;
        imv_codec_id codec;
        double bits_max;
    } table[] = {
        {"constant_integer", IMV_CODEC_CONST, 0.1},
        {"linear", IMV_CODEC_LINEAR, 0.2},
        {"walk", IMV_CODEC_DELTA, 3.1},
        {"jittered_times", IMV_CODEC_DELTA, 6.8},
        {"parabola", IMV_CODEC_DOD, 3.4},
        {"random_boolean", IMV_CODEC_FOR, 1.1},
        {"boolean_runs", IMV_CODEC_RLE, 0.3},
        {"enumeration", IMV_CODEC_DICT, 3.6},
        {"random_bits", IMV_CODEC_RAW, 64},
        {"decimals_2", IMV_CODEC_ALP, 10},
        {"decimals_0", IMV_CODEC_ALP, 4},
        {"noise", IMV_CODEC_RAW, 64},
        {"single_precision", IMV_CODEC_FOR, 30},
        {"states", IMV_CODEC_RLE, 0.6},
        {"set_points", IMV_CODEC_RLE, 0.9},
        {"narrow_with_outliers", IMV_CODEC_FOR, 4},
    };
    struct imv_prng prng;
    imv_prng_init(&prng, 9);
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        uint64_t cells[IMV_PACK_COUNT_MAX];
        const struct imv_values *values = values_named(table[k].values);
        fill(values, &prng, cells, IMV_PACK_COUNT_MAX);
        struct imv_codec_input input = {values->type, cells, IMV_PACK_COUNT_MAX, 0, NULL};
        struct imv_codec_plan plan;
        imv_codec_choose(&input, &plan);
        cr_expect_eq(plan.codec, table[k].codec, "%s: %s", values->name, imv_codec_name(plan.codec));
        cr_expect_leq((double)plan.bytes * 8 / IMV_PACK_COUNT_MAX, table[k].bits_max, "%s: %zu bytes", values->name,
                      plan.bytes);
    }
}

/* ALP keeps its exponent while it fits, finds another when it does not, and never changes a bit. */
Test(codec, decimal_choice_is_sticky) {
    struct imv_prng prng;
    imv_prng_init(&prng, 10);
    struct imv_codec_decimal decimal = {0};
    static const char *const order[] = {"decimals_3", "decimals_3", "decimals_1", "decimals_6", "decimals_2", "noise"};
    uint8_t seen[6];
    for (size_t k = 0; k < 6; k++) {
        uint64_t cells[IMV_PACK_COUNT_MAX];
        fill(values_named(order[k]), &prng, cells, IMV_PACK_COUNT_MAX);
        struct imv_codec_input input = {IMV_FLOAT, cells, IMV_PACK_COUNT_MAX, 0, &decimal};
        struct imv_codec_plan plan;
        imv_codec_choose(&input, &plan);
        round_trip(&input, &plan, order[k]);
        seen[k] = decimal.exponent - decimal.factor;
        cr_assert_eq(plan.codec, k < 5 ? IMV_CODEC_ALP : IMV_CODEC_RAW);
    }
    cr_assert_eq(seen[0], 3);
    cr_assert_eq(seen[1], 3);
    cr_assert_eq(seen[3], 6);
}

/* Decimals of every number of digits that a double holds come back, and are worth encoding up to twelve. */
Test(codec, decimals_of_all_digits) {
    struct imv_prng prng;
    imv_prng_init(&prng, 11);
    for (int digits = 0; digits <= 17; digits++) {
        uint64_t cells[IMV_PACK_COUNT_MAX];
        double value = 100, power = pow(10, digits);
        for (int i = 0; i < IMV_PACK_COUNT_MAX; i++) {
            value += imv_prng_unit(&prng) - 0.5;
            cells[i] = imv_float_cell(round(value * power) / power);
        }
        struct imv_codec_input input = {IMV_FLOAT, cells, IMV_PACK_COUNT_MAX, 0, NULL};
        struct imv_codec_plan plan;
        imv_codec_choose(&input, &plan);
        round_trip(&input, &plan, "decimals");
        double bits = (double)plan.bytes * 8 / IMV_PACK_COUNT_MAX;
        if (digits <= 12) cr_expect_leq(bits, 3 + 3.4 * digits, "%d digits: %.1f bits", digits, bits);
    }
}

/* An encoding that is cut short is refused, but where a shorter one is an encoding too; one with any byte changed does
 * no harm. */
Test(codec, damage_is_survived) {
    struct imv_prng prng;
    imv_prng_init(&prng, 12);
    for (size_t g = 0; g < imv_values_count; g++) {
        if (imv_values[g].type == IMV_STRING) continue;
        uint64_t cells[64], back[IMV_PACK_COUNT_MAX];
        size_t count = 2 + imv_prng_below(&prng, 60);
        fill(&imv_values[g], &prng, cells, count);
        for (unsigned id = 0; id < IMV_CODECS_COUNT; id++) {
            const struct imv_codec *codec = imv_codec_of(id);
            struct imv_codec_input input = {imv_values[g].type, cells, count, 0, NULL};
            struct imv_codec_plan plan = {.codec = id, .bytes = SIZE_MAX};
            if (codec == NULL || (codec->types >> input.type & 1) == 0 || !codec->plan(&input, &plan)) continue;
            uint8_t *bytes = malloc(plan.bytes);
            imv_codec_encode(&input, &plan, bytes);
            for (size_t cut = 0; cut < plan.bytes; cut++) {
                uint8_t *prefix = malloc(cut);
                memcpy(prefix, bytes, cut);
                bool decoded = imv_codec_decode(id, prefix, prefix + cut, 0, count, back);
                bool holds_const =
                    id == IMV_CODEC_CONST || id == IMV_CODEC_ALP || id == IMV_CODEC_RLE || id == IMV_CODEC_DICT;
                cr_assert(!decoded || holds_const, "%s cut to %zu of %zu", codec->name, cut, plan.bytes);
                free(prefix);
            }
            for (size_t i = 0; i < plan.bytes; i++) {
                for (int change = 1; change < 256; change += 1 + (int)imv_prng_below(&prng, 16)) {
                    bytes[i] ^= (uint8_t)change;
                    imv_codec_decode(id, bytes, bytes + plan.bytes, 0, count, back);
                    bytes[i] ^= (uint8_t)change;
                }
            }
            free(bytes);
        }
    }
}

/* Unknown ids, those of strings, and codecs too deep inside others are refused. */
Test(codec, strangers_are_refused) {
    uint8_t bytes[16] = {0};
    uint64_t cells[IMV_PACK_COUNT_MAX];
    for (unsigned id = IMV_CODEC_TEXT; id < 256; id++)
        cr_assert_not(imv_codec_decode(id, bytes, bytes + 16, 0, 2, cells));
    cr_assert_not(imv_codec_decode(IMV_CODEC_RLE, bytes, bytes + 16, 1, 2, cells));
    cr_assert_not(imv_codec_decode(IMV_CODEC_ALP, bytes, bytes + 16, 2, 2, cells));
    cr_assert_not(imv_codec_inner_decode(bytes, bytes, 0, 2, cells));
    cr_assert(imv_codec_decode(IMV_CODEC_RAW, bytes, bytes + 16, 2, 2, cells));
}
