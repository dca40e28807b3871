#include "storage/base/arena.h"
#include "storage/base/budget.h"
#include "storage/codec/codec.h"
#include "tests/support/values.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct imv_error err;
static struct imv_arena arena, decoded;
static struct imv_buffer out;
static struct imv_prng prng;

static void set_up(void) {
    imv_arena_init(&arena, 64 << 10, NULL);
    imv_arena_init(&decoded, 64 << 10, NULL);
    imv_buffer_init(&out, 128 << 20);
    imv_prng_init(&prng, 21);
}
static void tear_down(void) {
    imv_arena_release(&arena);
    imv_arena_release(&decoded);
    imv_buffer_release(&out);
}
TestSuite(text, .init = set_up, .fini = tear_down);

static imv_codec_id encode(const uint64_t *cells, size_t count) {
    imv_codec_id codec;
    imv_buffer_reset(&out);
    cr_assert_eq(imv_text_encode(cells, count, &out, &codec, &err), IMV_OK, "%s", err.message);
    return codec;
}

static void round_trip(const uint64_t *cells, size_t count) {
    imv_codec_id codec = encode(cells, count);
    uint8_t *exact = malloc(out.size);
    uint64_t back[IMV_PACK_COUNT_MAX];
    memcpy(exact, out.data, out.size);
    cr_assert_eq(imv_text_decode(codec, exact, exact + out.size, count, back, &decoded, &err), IMV_OK, "%s",
                 err.message);
    for (size_t i = 0; i < count; i++) {
        cr_assert(imv_values_equal(IMV_STRING, cells[i], back[i]), "string %zu", i);
        cr_assert_eq(back[i] % 4, 0);
    }
    free(exact);
    imv_arena_release(&decoded);
}

static const struct imv_values *values_named(const char *name) {
    for (size_t g = 0; g < imv_values_count; g++)
        if (strcmp(imv_values[g].name, name) == 0) return &imv_values[g];
    cr_assert_fail("no values named %s", name);
    return NULL;
}

/* Strings of any bytes and any length up to the maximum come back, aligned. */
Test(text, round_trips) {
    for (size_t g = 0; g < imv_values_count; g++) {
        if (imv_values[g].type != IMV_STRING) continue;
        static const size_t counts[] = {1, 2, 3, 10, 500, 1024};
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            uint64_t cells[IMV_PACK_COUNT_MAX];
            imv_values[g].fill(&prng, &arena, cells, counts[c]);
            round_trip(cells, counts[c]);
        }
    }
}

/* Few distinct strings are stored once each, and text is squeezed. */
Test(text, is_small) {
    uint64_t cells[IMV_PACK_COUNT_MAX];
    values_named("few_strings")->fill(&prng, &arena, cells, IMV_PACK_COUNT_MAX);
    cr_assert_eq(encode(cells, IMV_PACK_COUNT_MAX), IMV_CODEC_TEXT_DICT);
    cr_assert_leq(out.size, 384 + 64);
    values_named("same_string")->fill(&prng, &arena, cells, IMV_PACK_COUNT_MAX);
    encode(cells, IMV_PACK_COUNT_MAX);
    cr_assert_leq(out.size, 24);
    values_named("text_lines")->fill(&prng, &arena, cells, IMV_PACK_COUNT_MAX);
    cr_assert_eq(encode(cells, IMV_PACK_COUNT_MAX), IMV_CODEC_TEXT);
    cr_assert_leq(out.size, IMV_PACK_COUNT_MAX * 20);
}

/* Cut short it is refused; with any byte changed it is refused or gives strings that can be read. */
Test(text, damage_is_survived) {
    static const char *const names[] = {"few_strings", "text_lines", "random_strings", "same_string"};
    for (size_t n = 0; n < 4; n++) {
        uint64_t cells[40], back[IMV_PACK_COUNT_MAX];
        values_named(names[n])->fill(&prng, &arena, cells, 40);
        imv_codec_id codec = encode(cells, 40);
        uint8_t *bytes = malloc(out.size);
        memcpy(bytes, out.data, out.size);
        for (size_t cut = 0; cut < out.size; cut++) {
            uint8_t *prefix = malloc(cut);
            memcpy(prefix, bytes, cut);
            cr_assert_eq(imv_text_decode(codec, prefix, prefix + cut, 40, back, &decoded, &err), IMV_CORRUPT);
            free(prefix);
        }
        for (size_t i = 0; i < out.size; i++) {
            for (int change = 1; change < 256; change += 1 + (int)imv_prng_below(&prng, 16)) {
                bytes[i] ^= (uint8_t)change;
                if (imv_text_decode(codec, bytes, bytes + out.size, 40, back, &decoded, NULL) == IMV_OK) {
                    size_t sum = 0;
                    for (int k = 0; k < 40; k++)
                        for (size_t b = 0; b < imv_cell_str(back[k]).size; b++)
                            sum += (uint8_t)imv_cell_str(back[k]).data[b];
                    cr_assert_neq(sum, SIZE_MAX);
                }
                bytes[i] ^= (uint8_t)change;
                imv_arena_release(&decoded);
            }
        }
        free(bytes);
    }
}

/* Lengths that claim far more than the bytes can hold are refused before memory is taken for them. */
Test(text, claims_are_bounded) {
    uint64_t lengths[IMV_PACK_COUNT_MAX], back[IMV_PACK_COUNT_MAX];
    for (int i = 0; i < IMV_PACK_COUNT_MAX; i++) lengths[i] = IMV_STRING_BYTES_MAX;
    struct imv_pack_plan plan;
    imv_pack_plan(lengths, IMV_PACK_COUNT_MAX, false, &plan);
    uint8_t bytes[64] = {0};
    uint8_t *end = imv_pack_write(lengths, IMV_PACK_COUNT_MAX, &plan, bytes);
    *end = 1;
    cr_assert_eq(imv_text_decode(IMV_CODEC_TEXT, bytes, end + 20, IMV_PACK_COUNT_MAX, back, &decoded, &err),
                 IMV_CORRUPT);
    cr_assert_eq(decoded.bytes, 0);
    lengths[3]++;
    imv_pack_plan(lengths, IMV_PACK_COUNT_MAX, false, &plan);
    end = imv_pack_write(lengths, IMV_PACK_COUNT_MAX, &plan, bytes);
    cr_assert_eq(imv_text_decode(IMV_CODEC_TEXT, bytes, end, IMV_PACK_COUNT_MAX, back, &decoded, &err), IMV_CORRUPT);
}

/* A full buffer is IMV_FULL, a spent budget IMV_NO_MEMORY. */
Test(text, limits_are_told_apart) {
    uint64_t cells[100], back[IMV_PACK_COUNT_MAX];
    imv_codec_id codec;
    values_named("random_strings")->fill(&prng, &arena, cells, 100);
    for (size_t size_max = 0; size_max < 300; size_max += 10) {
        struct imv_buffer small;
        imv_buffer_init(&small, size_max);
        cr_assert_eq(imv_text_encode(cells, 100, &small, &codec, &err), IMV_FULL);
        imv_buffer_release(&small);
    }
    codec = encode(cells, 100);
    struct imv_budget budget;
    imv_budget_init(&budget, "test", 100);
    struct imv_arena limited;
    imv_arena_init(&limited, 4096, &budget);
    cr_assert_eq(imv_text_decode(codec, (uint8_t *)out.data, (uint8_t *)out.data + out.size, 100, back, &limited, &err),
                 IMV_NO_MEMORY);
    imv_arena_release(&limited);
    imv_budget_release(&budget);
}
