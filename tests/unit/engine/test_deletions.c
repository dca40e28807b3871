#include "engine/deletions.h"

#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

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
        }
        imv_deletions_release(list);
    }
    cr_assert_not(imv_mask_any(NULL));
    cr_assert_not(imv_mask_hides(NULL, 0, 0));
}
