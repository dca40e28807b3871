#include "engine/deletions.h"

#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { TOMBSTONES = 12, SERIES = 4 };

static struct imv_label label = {.id = 5}, other = {.id = 6};

static struct imv_tombstone random_tombstone(struct imv_prng *prng) {
    int64_t from = (int64_t)imv_prng_below(prng, 20), last = from + (int64_t)imv_prng_below(prng, 10);
    bool whole = imv_prng_below(prng, 4) == 0;
    return (struct imv_tombstone){
        .series = whole ? (uint32_t)IMV_TOMBSTONE_ALL : (uint32_t)imv_prng_below(prng, SERIES),
        .label = 5 + (uint32_t)imv_prng_below(prng, 2),
        .from = imv_prng_below(prng, 10) == 0 ? INT64_MIN : from,
        .last = imv_prng_below(prng, 10) == 0 ? INT64_MAX : last,
        .sequence = imv_prng_below(prng, 6),
        .position = imv_prng_below(prng, 100),
        .generation = imv_prng_below(prng, 5) == 0 ? IMV_GENERATION_PENDING : (uint32_t)imv_prng_below(prng, 6),
    };
}

static bool of_series(const struct imv_tombstone *item, const struct imv_series *series) {
    bool all = item->series == (uint32_t)IMV_TOMBSTONE_ALL;
    return item->label == series->label->id && (all || item->series == series->index);
}

/* Compares what a mask says with the tombstones it was made from, one by one. */
static void compare(const struct imv_tombstone *items, size_t count, const struct imv_series *series,
                    const struct imv_mask *mask, struct imv_prng *prng) {
    int64_t from = (int64_t)imv_prng_below(prng, 32) - 1, last = from + (int64_t)imv_prng_below(prng, 4);
    uint64_t sequence = imv_prng_below(prng, 7);
    uint32_t generation = (uint32_t)imv_prng_below(prng, 7);
    bool hides = false, touches = false, hides_stored = false, touches_stored = false, covers_stored = false;
    for (size_t i = 0; i < count; i++) {
        const struct imv_tombstone *item = &items[i];
        if (!of_series(item, series)) continue;
        bool in = item->from <= from && from <= item->last, over = item->from <= last && from <= item->last;
        bool head = sequence <= item->sequence, stored = generation <= item->generation;
        hides |= in && head;
        touches |= over && head;
        hides_stored |= in && stored;
        touches_stored |= over && stored;
        covers_stored |= item->from <= from && last <= item->last && stored;
    }
    cr_assert_eq(imv_mask_hides(mask, sequence, from), hides);
    cr_assert_eq(imv_mask_touches(mask, sequence, from, last), touches);
    cr_assert_eq(imv_mask_hides_stored(mask, generation, from), hides_stored);
    cr_assert_eq(imv_mask_touches_stored(mask, generation, from, last), touches_stored);
    cr_assert_eq(imv_mask_covers_stored(mask, generation, from, last), covers_stored);
}

/* Rows in rising time, asked for together and one by one. */
static void compare_rows(const struct imv_mask *mask, struct imv_prng *prng) {
    enum { ROWS = 24 };
    int64_t timestamps[ROWS], time = imv_prng_below(prng, 8) == 0 ? INT64_MIN : -2;
    uint16_t kept[ROWS], expected[ROWS];
    size_t expected_count = 0, count = imv_prng_below(prng, ROWS + 1);
    uint32_t generation = (uint32_t)imv_prng_below(prng, 7);
    for (size_t i = 0; i < count; i++) {
        timestamps[i] = time;
        time = time == INT64_MIN ? 0 : time + 1 + (int64_t)imv_prng_below(prng, 3);
        if (!imv_mask_hides_stored(mask, generation, timestamps[i])) expected[expected_count++] = (uint16_t)i;
    }
    cr_assert_eq(imv_mask_keep_stored(mask, generation, timestamps, count, kept), expected_count);
    cr_assert_eq(memcmp(kept, expected, expected_count * sizeof kept[0]), 0);
}

Test(deletions, masks_say_what_their_tombstones_say) {
    /* For any list, series, row and range, a mask answers as a walk over all tombstones does. */
    struct imv_prng prng;
    imv_prng_init(&prng, 7);
    for (int round = 0; round < 2000; round++) {
        struct imv_tombstone items[TOMBSTONES];
        size_t count = imv_prng_below(&prng, TOMBSTONES + 1);
        for (size_t i = 0; i < count; i++) items[i] = random_tombstone(&prng);
        struct imv_deletions *list;
        cr_assert_eq(imv_deletions_new(items, count, &list, NULL), IMV_OK);
        cr_assert_eq(list == NULL, count == 0);
        for (uint32_t index = 0; index < 2 * SERIES; index++) {
            struct imv_series series = {.label = index < SERIES ? &label : &other, .index = index % SERIES};
            struct imv_mask mask = imv_deletions_mask(list, &series);
            for (int i = 0; i < 10; i++) compare(items, count, &series, &mask, &prng);
            compare_rows(&mask, &prng);
        }
        imv_deletions_release(list);
    }
    cr_assert_not(imv_mask_any(NULL));
    cr_assert_not(imv_mask_hides(NULL, 0, 0));
}

Test(deletions, lists_join_in_their_order) {
    /* Two lists joined are the list of all their tombstones, whichever of them are empty. */
    struct imv_prng prng;
    imv_prng_init(&prng, 11);
    for (int round = 0; round < 1000; round++) {
        struct imv_tombstone items[2 * TOMBSTONES];
        struct imv_deletions *lists[2], *joined, *all;
        size_t counts[2], total = 0;
        for (int side = 0; side < 2; side++) {
            counts[side] = imv_prng_below(&prng, TOMBSTONES + 1);
            for (size_t i = 0; i < counts[side]; i++) {
                items[total + i] = random_tombstone(&prng);
                items[total + i].position = total + i; /* no two are equal in order */
            }
            cr_assert_eq(imv_deletions_new(items + total, counts[side], &lists[side], NULL), IMV_OK);
            total += counts[side];
        }
        cr_assert_eq(imv_deletions_join(counts[0] == 0 ? NULL : lists[0]->items, counts[0],
                                        counts[1] == 0 ? NULL : lists[1]->items, counts[1], &joined, NULL),
                     IMV_OK);
        cr_assert_eq(imv_deletions_new(items, total, &all, NULL), IMV_OK);
        cr_assert_eq(joined == NULL, total == 0);
        for (size_t i = 0; i < total; i++) {
            cr_assert_eq(imv_tombstone_compare(&joined->items[i], &all->items[i]), 0);
            cr_assert_eq(joined->items[i].last, all->items[i].last);
        }
        imv_deletions_release(lists[0]);
        imv_deletions_release(lists[1]);
        imv_deletions_release(joined);
        imv_deletions_release(all);
    }
}
