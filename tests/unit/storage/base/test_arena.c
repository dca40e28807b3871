#include "storage/base/arena.h"
#include "storage/base/budget.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdint.h>

/* Pieces are aligned, do not overlap and keep their content, whatever their sizes; the budget gets all of it back. */
Test(arena, hands_out_separate_pieces) {
    enum { PIECES = 2000 };
    static struct {
        uint8_t *bytes;
        size_t size;
    } pieces[PIECES];
    struct imv_budget budget;
    imv_budget_init(&budget, "test_arena", 1 << 30);
    struct imv_arena arena;
    imv_arena_init(&arena, 1024, &budget);
    for (int round = 0; round < 3; round++) {
        struct imv_prng prng;
        imv_prng_init(&prng, (uint64_t)round);
        for (int i = 0; i < PIECES; i++) {
            pieces[i].size = imv_prng_below(&prng, i % 10 == 0 ? 5000 : 100);
            pieces[i].bytes = imv_arena_alloc(&arena, pieces[i].size);
            cr_assert_not_null(pieces[i].bytes, "size %zu", pieces[i].size);
            cr_assert_eq((uintptr_t)pieces[i].bytes % 16, 0);
            memset(pieces[i].bytes, i, pieces[i].size);
        }
        for (int i = 0; i < PIECES; i++) {
            for (size_t k = 0; k < pieces[i].size; k++) cr_assert_eq(pieces[i].bytes[k], (uint8_t)i);
        }
        cr_assert_eq(imv_budget_used(&budget), arena.bytes);
        imv_arena_release(&arena);
        cr_assert_eq(imv_budget_used(&budget), 0);
    }
    imv_budget_release(&budget);
}

/* A piece that the budget does not allow, or whose size overflows, is NULL, and smaller ones are still handed out. */
Test(arena, respects_its_budget) {
    struct imv_budget budget;
    imv_budget_init(&budget, "test_arena", 4096);
    struct imv_arena arena;
    imv_arena_init(&arena, 1024, &budget);
    cr_assert_null(imv_arena_alloc(&arena, 5000));
    cr_assert_null(imv_arena_alloc(&arena, SIZE_MAX - 8));
    cr_assert_null(imv_arena_calloc(&arena, SIZE_MAX / 2, 3));
    int count = 0;
    while (imv_arena_alloc(&arena, 100) != NULL) count++;
    cr_assert(count >= 30 && count <= 40, "%d", count);
    imv_arena_release(&arena);
    imv_budget_release(&budget);
}

/* A large piece does not end the block that is being filled. */
Test(arena, goes_on_filling_behind_a_large_piece) {
    struct imv_arena arena;
    imv_arena_init(&arena, 1024, NULL);
    char *first = imv_arena_alloc(&arena, 16);
    imv_arena_alloc(&arena, 10000);
    cr_assert_eq(imv_arena_alloc(&arena, 16), first + 16);
    imv_arena_release(&arena);
}

/* Copies and formatted texts end with a NUL that their view does not count; calloc clears, also an empty array. */
Test(arena, copies_and_formats) {
    struct imv_arena arena;
    imv_arena_init(&arena, 256, NULL);
    memset(imv_arena_alloc(&arena, 64), 0xff, 64);
    struct imv_str copy = imv_arena_copy(&arena, (struct imv_str){"a\0b", 3});
    cr_assert(copy.size == 3 && memcmp(copy.data, "a\0b", 4) == 0);
    cr_assert_str_eq(imv_arena_copy(&arena, (struct imv_str){NULL, 0}).data, "");
    struct imv_str text = imv_arena_format(&arena, "%s=%d%0300d", "x", 7, 0);
    cr_assert(text.size == 303 && strncmp(text.data, "x=7000", 6) == 0 && text.data[303] == 0);
    uint64_t *numbers = imv_arena_calloc(&arena, 50, sizeof *numbers);
    for (int i = 0; i < 50; i++) cr_assert_eq(numbers[i], 0);
    imv_arena_release(&arena);
    cr_assert_not_null(imv_arena_calloc(&arena, 0, 8), "an empty array is not a failure");
    imv_arena_release(&arena);
}
