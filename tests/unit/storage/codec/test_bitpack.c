#include "storage/base/prng.h"
#include "storage/codec/bitpack.h"
#include "storage/codec/kernels.h"
#include "tests/support/values.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static struct imv_prng prng;

/* Writes into memory of exactly the planned size, reads back from it, and compares. Returns the size. */
static size_t round_trip(const uint64_t *values, size_t count, bool is_unsigned) {
    struct imv_pack_plan plan;
    imv_pack_plan(values, count, is_unsigned, &plan);
    uint8_t *bytes = malloc(plan.bytes);
    uint64_t back[IMV_PACK_COUNT_MAX];
    cr_assert_eq(imv_pack_write(values, count, &plan, bytes), bytes + plan.bytes);
    cr_assert_eq(imv_pack_read(bytes, bytes + plan.bytes, count, back), bytes + plan.bytes);
    cr_assert_eq(memcmp(values, back, count * sizeof *values), 0);
    free(bytes);
    return plan.bytes;
}

/* Every width comes back, at every count around a block, from memory that ends with the block. */
Test(bitpack, every_width) {
    imv_prng_init(&prng, 1);
    static const size_t counts[] = {1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 100, 1000, 1023, 1024};
    for (unsigned width = 0; width <= 64; width++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            uint64_t numbers[IMV_PACK_COUNT_MAX], back[IMV_PACK_COUNT_MAX];
            size_t count = counts[c], size = imv_packed_bytes(count, width);
            for (size_t i = 0; i < count; i++) numbers[i] = width == 0 ? 0 : imv_prng_next(&prng) >> (64 - width);
            uint8_t *bytes = malloc(size + 1);
            cr_assert_eq(imv_bits_write(numbers, count, width, bytes), bytes + size);
            uint8_t *exact = malloc(size);
            memcpy(exact, bytes, size);
            imv_bits_read(exact, exact + size, count, width, back);
            cr_assert_eq(memcmp(numbers, back, count * sizeof *numbers), 0, "width %u count %zu", width, count);
            free(exact);
            free(bytes);
        }
    }
}

/* Any values come back, in signed and in unsigned order. */
Test(bitpack, any_values) {
    imv_prng_init(&prng, 2);
    struct imv_arena arena;
    imv_arena_init(&arena, 4096, NULL);
    for (size_t g = 0; g < imv_values_count; g++) {
        if (imv_values[g].type == IMV_STRING) continue;
        for (int round = 0; round < 10; round++) {
            uint64_t values[IMV_PACK_COUNT_MAX];
            size_t count = 1 + imv_prng_below(&prng, IMV_PACK_COUNT_MAX);
            imv_values[g].fill(&prng, &arena, values, count);
            round_trip(values, count, false);
            round_trip(values, count, true);
        }
    }
    imv_arena_release(&arena);
}

/* What all values share is stored once: a constant takes no codes, multiples only their quotients. */
Test(bitpack, shared_parts_are_free) {
    uint64_t values[1000];
    for (int i = 0; i < 1000; i++) values[i] = 77;
    cr_assert_eq(round_trip(values, 1000, false), 3);
    for (int i = 0; i < 1000; i++) values[i] = 5 + (uint64_t)(i % 4) * 1000000;
    cr_assert_leq(round_trip(values, 1000, false), 250 + 8);
    for (int i = 0; i < 1000; i++) values[i] = (uint64_t)-3 - (uint64_t)(i % 2) * ((UINT64_C(1) << 62) + 4);
    cr_assert_leq(round_trip(values, 1000, false), 125 + 24);
    for (int i = 0; i < 1000; i++) values[i] = (uint64_t)(i % 2) << 63;
    cr_assert_leq(round_trip(values, 1000, true), 125 + 24);
}

/* A few values far from the rest, on either side, do not widen the rest. */
Test(bitpack, outliers_are_patched) {
    imv_prng_init(&prng, 3);
    for (int side = 0; side < 3; side++) {
        uint64_t values[1024];
        for (int i = 0; i < 1024; i++) values[i] = 1000000 + imv_prng_below(&prng, 8);
        for (int i = 0; i < 10; i++) {
            uint64_t far = imv_prng_next(&prng) >> 8;
            values[imv_prng_below(&prng, 1024)] = side == 0 ? far : side == 1 ? -far : i % 2 ? far : -far;
        }
        size_t size = round_trip(values, 1024, false);
        cr_assert_leq(size, 384 + 10 * 10 + 40, "side %d: %zu", side, size);
    }
}

/* The plan is never larger than the plain width without exceptions. */
Test(bitpack, exceptions_pay) {
    imv_prng_init(&prng, 4);
    for (int round = 0; round < 300; round++) {
        uint64_t values[1024], low = UINT64_MAX, high = 0;
        size_t count = 1 + imv_prng_below(&prng, 1024);
        unsigned shift = (unsigned)imv_prng_below(&prng, 40);
        for (size_t i = 0; i < count; i++) {
            values[i] = imv_prng_next(&prng) >> (20 + imv_prng_below(&prng, shift + 1));
            low = values[i] < low ? values[i] : low;
            high = values[i] > high ? values[i] : high;
        }
        size_t plain =
            1 + imv_varint_bytes(imv_zigzag((int64_t)low)) + imv_packed_bytes(count, imv_bits_of(high - low));
        cr_assert_leq(round_trip(values, count, false), plain);
    }
}

static double normal(void) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += imv_prng_unit(&prng);
    return sum;
}

/* Values that are spread like a bell take about their entropy: a fifth of a bit and the head of the block more. */
Test(bitpack, bells_are_small) {
    imv_prng_init(&prng, 6);
    for (int power = 0; power < 50; power++) {
        uint64_t values[1024];
        double deviation = ldexp(1 + imv_prng_unit(&prng), power);
        for (int i = 0; i < 1024; i++) values[i] = (uint64_t)(int64_t)round(normal() * deviation);
        double bits = (double)round_trip(values, 1024, false) * 8 / 1024, entropy = log2(4.133 * deviation);
        cr_assert_leq(bits, entropy + 0.21 + 24 * 8.0 / 1024, "deviation %g: %g bits, entropy %g", deviation, bits,
                      entropy);
        for (size_t count = 1; count < 200; count += 1 + count / 5) round_trip(values, count, count % 2);
    }
}

/* Where values change their character, each part packs as if it were alone. */
Test(bitpack, changes_are_cut_at) {
    imv_prng_init(&prng, 7);
    for (int round = 0; round < 200; round++) {
        uint64_t values[1024];
        size_t cut = 130 + imv_prng_below(&prng, 700), plain = 0;
        for (size_t i = 0; i < 1024; i++)
            values[i] = i < cut ? imv_prng_below(&prng, 4) : (UINT64_C(1) << 40) + imv_prng_below(&prng, 1 << 20);
        plain += imv_packed_bytes(cut, 2) + imv_packed_bytes(1024 - cut, 20);
        cr_assert_leq(round_trip(values, 1024, false), plain + 24);
        for (size_t i = 0; i < 1024; i++) values[i] = -values[i];
        round_trip(values, 1024, true);
        for (size_t i = 0; i < 1024; i++)
            values[i] = (imv_prng_next(&prng) >> 58) << (i / (50 + imv_prng_below(&prng, 3)) * 3 % 50);
        round_trip(values, 1024, round % 2);
    }
}

/* Segments and bells that are cut short are refused, and any change to them does no harm. */
Test(bitpack, large_damage_is_survived) {
    imv_prng_init(&prng, 8);
    int bells = 0, segmented = 0;
    for (int round = 0; round < 30; round++) {
        uint64_t values[1024], back[IMV_PACK_COUNT_MAX];
        size_t count = 200 + imv_prng_below(&prng, 825), cut = round % 3 == 0 ? count : count / 2;
        for (size_t i = 0; i < count; i++) {
            uint64_t bell = (uint64_t)(int64_t)(normal() * 30);
            values[i] = i < cut ? bell : round % 2 ? bell << 20 : 77;
        }
        struct imv_pack_plan plan;
        imv_pack_plan(values, count, false, &plan);
        bells += plan.segments == 0 && plan.radix == 16;
        segmented += plan.segments > 0;
        uint8_t *bytes = malloc(plan.bytes);
        imv_pack_write(values, count, &plan, bytes);
        for (size_t size = 0; size < plan.bytes; size++) {
            uint8_t *prefix = malloc(size);
            memcpy(prefix, bytes, size);
            cr_assert_null(imv_pack_read(prefix, prefix + size, count, back));
            free(prefix);
        }
        for (size_t i = 0; i < plan.bytes; i += i < 40 ? 1 : imv_prng_below(&prng, 20) + 1) {
            for (int change = 1; change < 256; change += 1 + (int)imv_prng_below(&prng, i < 40 ? 4 : 100)) {
                bytes[i] ^= (uint8_t)change;
                imv_pack_read(bytes, bytes + plan.bytes, count, back);
                bytes[i] ^= (uint8_t)change;
            }
        }
        free(bytes);
    }
    cr_assert(bells >= 5 && segmented >= 10, "%d %d", bells, segmented);
}

/* A block that is cut short is no block; a block with any byte changed does no harm. */
Test(bitpack, damage_is_survived) {
    imv_prng_init(&prng, 5);
    for (int round = 0; round < 40; round++) {
        uint64_t values[1024], back[IMV_PACK_COUNT_MAX];
        size_t count = 1 + imv_prng_below(&prng, 100);
        for (size_t i = 0; i < count; i++)
            values[i] = imv_prng_below(&prng, 30) ? imv_prng_below(&prng, 9) * 25 : imv_prng_next(&prng) & ~7ULL;
        struct imv_pack_plan plan;
        imv_pack_plan(values, count, false, &plan);
        uint8_t *bytes = malloc(plan.bytes);
        imv_pack_write(values, count, &plan, bytes);
        for (size_t cut = 0; cut < plan.bytes; cut++) {
            uint8_t *prefix = malloc(cut);
            memcpy(prefix, bytes, cut);
            cr_assert_null(imv_pack_read(prefix, prefix + cut, count, back));
            free(prefix);
        }
        for (size_t i = 0; i < plan.bytes; i++) {
            for (int change = 1; change < 256; change += 1 + (int)imv_prng_below(&prng, 8)) {
                bytes[i] ^= (uint8_t)change;
                imv_pack_read(bytes, bytes + plan.bytes, count, back);
                bytes[i] ^= (uint8_t)change;
            }
        }
        free(bytes);
    }
}
