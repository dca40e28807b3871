#include "engine/ordinal_set.h"

#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 3, NUMBERS = BLOCKS * IMV_ORDINAL_BLOCK };

static void check_against(const struct imv_ordinal_set *set, const bool *model, uint32_t count) {
    static uint64_t all[NUMBERS / 64], words[IMV_ORDINAL_WORDS];
    imv_ordinal_set_check(set);
    cr_assert_eq(set->count, count);
    memset(all, 0, sizeof all);
    imv_ordinal_set_or_all(set, all, NUMBERS);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        memset(words, 0, sizeof words);
        bool any = imv_ordinal_set_or(set, block, words);
        cr_assert_eq(memcmp(words, all + block * IMV_ORDINAL_WORDS, sizeof words), 0);
        bool has = false;
        for (uint32_t i = 0; i < IMV_ORDINAL_WORDS; i++) has |= words[i] != 0;
        cr_assert_eq(any, has);
    }
    for (uint32_t i = 0; i < NUMBERS; i++) cr_assert_eq(all[i / 64] >> i % 64 & 1, model[i]);
}

Test(ordinal_set, equals_an_array_of_flags) {
    /* Over random additions and removals, sparse and dense, the members are those of an array of flags. */
    static bool model[NUMBERS];
    for (uint64_t seed = 1; seed <= 6; seed++) {
        fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        struct imv_prng prng;
        imv_prng_init(&prng, seed);
        memset(model, 0, sizeof model);
        struct imv_ordinal_set set = {.extra = 7};
        uint32_t count = 0, range = seed % 2 == 0 ? NUMBERS : 9000, peak = seed % 3 == 0 ? 40 : 6000;
        for (int step = 0; step < 30000; step++) {
            bool grows = step / 10000 != 1;
            uint32_t ordinal = (uint32_t)imv_prng_below(&prng, range) + (seed % 2 == 0 ? 0 : 60000);
            if (!model[ordinal] && (grows ? count < peak : imv_prng_below(&prng, 20) == 0)) {
                cr_assert(imv_ordinal_set_add(&set, ordinal));
                model[ordinal] = true;
                count++;
            } else if (model[ordinal] && (!grows || count == peak)) {
                imv_ordinal_set_remove(&set, ordinal);
                model[ordinal] = false;
                count--;
            }
            cr_assert_eq(imv_ordinal_set_has(&set, ordinal), model[ordinal]);
            if (step % 1999 == 0) check_against(&set, model, count);
        }
        check_against(&set, model, count);
        for (uint32_t i = 0; i < NUMBERS; i++) {
            if (model[i]) imv_ordinal_set_remove(&set, i);
        }
        cr_assert_eq(imv_ordinal_set_bytes(&set), 0);
        cr_assert(set.count == 0 && set.extra == 7);
        imv_ordinal_set_release(&set);
    }
}

Test(ordinal_set, stays_small) {
    /* A third of a block's numbers cost a bitmap, every hundredth two bytes each, one number nothing. */
    struct imv_ordinal_set dense = {0}, sparse = {0}, one = {0};
    for (uint32_t i = 0; i < IMV_ORDINAL_BLOCK; i++) {
        if (i % 3 == 0) cr_assert(imv_ordinal_set_add(&dense, i));
        if (i % 100 == 0) cr_assert(imv_ordinal_set_add(&sparse, i));
    }
    cr_assert(imv_ordinal_set_add(&one, 5));
    cr_assert_eq(imv_ordinal_set_bytes(&one), 0);
    cr_assert_leq(imv_ordinal_set_bytes(&dense), IMV_ORDINAL_BLOCK / 8 + 64);
    cr_assert_leq(imv_ordinal_set_bytes(&sparse), 3 * sparse.count);
    imv_ordinal_set_release(&dense);
    imv_ordinal_set_release(&sparse);
    imv_ordinal_set_release(&one);
}
