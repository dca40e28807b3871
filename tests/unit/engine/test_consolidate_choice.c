#include "engine/consolidate_choice.h"

#include "storage/base/assert.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARTS_MAX = 1000, SECOND = 1000000000 };
#define HOUR (INT64_C(3600) * SECOND)

static struct imv_part *made[PARTS_MAX];
static size_t made_count;
static struct imv_run_policy policy;
static struct imv_part *run[IMV_RUN_PARTS_MAX];

static void init(void) {
    made_count = 0;
    policy = (struct imv_run_policy){.wall_ns = 10 * IMV_SLOT_NS,
                                     .monotonic_ns = 100 * HOUR,
                                     .cold_ns = HOUR,
                                     .shards = 1,
                                     .parts_max = IMV_RUN_PARTS_MAX};
}

/* As a walk of ten columns measures: rows and what a chunk costs besides. */
static uint64_t bytes_of(const struct imv_part *part) { return part->rows * 23 / 10 + part->chunks * 200; }

/* A part of one label and 100 series of shard 0 on day `day` since 1970, with rows between two hours of it. */
static struct imv_part *add(enum imv_tier tier, uint32_t day, double from, double to, uint64_t rows_of_series) {
    imv_assert(made_count < PARTS_MAX);
    struct imv_part *part = imv_part_new(tier, NULL);
    part->slot = imv_slot_of(0) + day;
    part->generation = part->order = (uint32_t)made_count + 1;
    part->series_max = 99;
    part->time_min = day * IMV_SLOT_NS + (int64_t)(from * (double)HOUR);
    part->time_max = day * IMV_SLOT_NS + (int64_t)(to * (double)HOUR) - 1;
    part->chunks = 100;
    part->rows = 100 * rows_of_series;
    part->bytes = bytes_of(part);
    return made[made_count++] = part;
}

static size_t choose(void) {
    struct imv_parts *parts;
    struct imv_part *scratch[PARTS_MAX];
    cr_assert_eq(imv_parts_new(NULL, made, made_count, &parts, NULL), IMV_OK);
    size_t count = imv_run_choose(parts, &policy, scratch, run);
    for (size_t i = 1; i < count; i++) cr_assert_lt(run[i - 1]->order, run[i]->order);
    imv_parts_abandon(parts);
    return count;
}

static void fini(void) {
    for (size_t i = 0; i < made_count; i++) imv_part_free(made[i]);
}

Test(choice, a_cold_day_of_hourly_flushes_is_one_run, .init = init, .fini = fini) {
    /* All parts of a day that is over are taken at once, those of a day that is not, or was flushed to lately, are
     * not. */
    for (int hour = 0; hour < 24; hour++) add(IMV_TIER_FRESH, 8, hour, hour + 1, 360);
    for (int hour = 0; hour < 24; hour++) add(IMV_TIER_FRESH, 9, hour, hour + 1, 360);
    cr_assert_eq(choose(), 24);
    cr_assert(run[0] == made[0] && run[23] == made[23]);
    policy.wall_ns = 9 * IMV_SLOT_NS + HOUR - 1;
    cr_assert_eq(choose(), 0);
    policy.wall_ns++;
    cr_assert_eq(choose(), 24);
    made[5]->made_at_ns = policy.monotonic_ns - HOUR + 1;
    cr_assert_eq(choose(), 0);
    made[5]->made_at_ns--;
    cr_assert_eq(choose(), 24);
}

Test(choice, what_is_kept_for_days_only_goes_part_by_part, .init = init, .fini = fini) {
    /* A cold slot of a class with a short retention is left as it is, unless too many parts are in a row. */
    bool brief[UINT8_MAX + 1] = {true};
    for (int hour = 0; hour < 24; hour++) add(IMV_TIER_FRESH, 8, hour, hour + 1, 360);
    policy.brief = brief;
    cr_assert_eq(choose(), 0);
    for (int hour = 0; hour < 8; hour++) add(IMV_TIER_FRESH, 8, hour, hour + 1, 360);
    cr_assert_eq(choose(), 32);
    brief[0] = false;
    made_count -= 8;
    for (size_t i = 0; i < 8; i++) imv_part_free(made[made_count + i]);
    cr_assert_eq(choose(), 24);
}

Test(choice, a_small_newest_part_holds_nothing_up, .init = init, .fini = fini) {
    /* Parts of flushes are taken whatever their sizes, since each is rewritten once. */
    for (int i = 0; i < 5; i++) add(IMV_TIER_FRESH, 8, 0, 24, 500);
    add(IMV_TIER_FRESH, 8, 0, 24, 1);
    cr_assert_eq(choose(), 6);
}

Test(choice, large_chunks_in_a_row_are_left_alone, .init = init, .fini = fini) {
    /* Parts whose chunks are full vectors are not rewritten for being many, unless their rows interleave. */
    for (int hour = 0; hour < 24; hour++) add(IMV_TIER_FRESH, 8, hour, hour + 1, 3600);
    cr_assert_eq(choose(), 0);
    made[23]->time_min = made[0]->time_min;
    cr_assert_eq(choose(), 24);
    /* Other series, or another label, are nothing to merge with. */
    made[23]->series_min = 200, made[23]->series_max = 300;
    cr_assert_eq(choose(), 0);
    made[23]->series_min = 0;
    made[23]->label_min = made[23]->label_max = 1;
    cr_assert_eq(choose(), 0);
}

Test(choice, little_late_data_does_not_rewrite_a_large_part, .init = init, .fini = fini) {
    /* What came late to a consolidated day is merged with its like, and with the day when it is half of it. */
    add(IMV_TIER_CONSOLIDATED, 8, 0, 24, 8640);
    for (int i = 0; i < 10; i++) add(IMV_TIER_FRESH, 8, i, 24, 36);
    cr_assert_eq(choose(), 10);
    cr_assert_eq(run[0], made[1]);
    for (int i = 0; i < 110; i++) add(IMV_TIER_FRESH, 8, i % 20, 24, 40);
    policy.cold_ns = INT64_MAX;
    cr_assert_eq(choose(), 120, "not cold, but too many in a row");
    policy.cold_ns = HOUR;
    for (size_t i = 1; i < made_count; i++) imv_part_free(made[i]);
    made_count = 1;
    add(IMV_TIER_FRESH, 8, 0, 24, 4320);
    cr_assert_eq(choose(), 2);
}

Test(choice, many_flushes_into_a_day_that_goes_on_become_one_part, .init = init, .fini = fini) {
    /* The oldest parts of flushes in a row are taken as soon as there are 32 of a shard, consolidated ones are not. */
    policy.shards = 2;
    add(IMV_TIER_CONSOLIDATED, 9, 0, 2, 60);
    for (int i = 0; i < 63; i++) add(IMV_TIER_FRESH, 9, 2, 3, 60);
    cr_assert_eq(choose(), 0);
    add(IMV_TIER_SCATTERED, 9, 2, 3, 60);
    cr_assert_eq(choose(), 64);
    cr_assert(run[0] == made[1] && run[63] == made[64]);
    for (int i = 0; i < 100; i++) add(IMV_TIER_FRESH, 9, 3, 4, 60);
    cr_assert_eq(choose(), IMV_RUN_PARTS_MAX);
    cr_assert_eq(run[0], made[1]);
    policy.parts_max = 4;
    cr_assert_eq(choose(), 4);
}

Test(choice, a_run_holds_nothing_between_its_parts, .init = init, .fini = fini) {
    /* A part of another class that may hold the same series, or one that cannot be read, ends a run. */
    for (int hour = 0; hour < 12; hour++) add(IMV_TIER_FRESH, 8, hour, hour + 1, 360);
    made[4]->class = 1;
    cr_assert_eq(choose(), 4);
    cr_assert_eq(run[3], made[3]);
    for (int i = 0; i < 4; i++) made[i]->unfit = true;
    cr_assert_eq(choose(), 7);
    cr_assert_eq(run[0], made[5]);
    made[4]->label_min = made[4]->label_max = 7;
    made[2]->unfit = made[3]->unfit = false;
    cr_assert_eq(choose(), 9);
    cr_assert_eq(run[0], made[2]);
}

Test(choice, parts_of_shards_have_no_chunks_to_share, .init = init, .fini = fini) {
    /* A part of each shard is not rewritten: there would be as many chunks as before. */
    for (uint64_t shard = 0; shard < 8; shard++) {
        struct imv_part *part = add(IMV_TIER_FRESH, 8, 0, 24, 10);
        part->series_min = shard << 40;
        part->series_max = shard << 40 | 99;
    }
    cr_assert_eq(choose(), 0);
}

Test(choice, a_scattered_part_moves_when_most_of_its_file_is_dead, .init = init, .fini = fini) {
    /* Alone in its slot it stays where it is, until half of the parts that share its files are gone. */
    struct imv_part *part = add(IMV_TIER_SCATTERED, 8, 0, 24, 10);
    cr_assert_eq(choose(), 0);
    atomic_store(&part->group->live, 3);
    atomic_store(&part->group->dead, 2);
    cr_assert_eq(choose(), 0);
    atomic_store(&part->group->dead, 3);
    cr_assert_eq(choose(), 1);
    policy.wall_ns = 8 * IMV_SLOT_NS;
    cr_assert_eq(choose(), 0);
}

Test(choice, a_part_of_which_much_is_deleted_is_rewritten, .init = init, .fini = fini) {
    /* Alone in its slot or not, when an eighth of its rows are hidden, and not when fewer are. */
    struct imv_part *part = add(IMV_TIER_CONSOLIDATED, 8, 0, 24, 8640);
    part->hidden_permille = 124;
    cr_assert_eq(choose(), 0);
    part->hidden_permille = 125;
    cr_assert_eq(choose(), 1);
    policy.wall_ns = 8 * IMV_SLOT_NS;
    cr_assert_eq(choose(), 0);
}

/* Replaces a run by one part, as consolidation would when rows neither double nor vanish. */
static uint64_t rewrite(size_t count) {
    struct imv_part *part = imv_part_new(IMV_TIER_CONSOLIDATED, NULL);
    *part = (struct imv_part){.tier = IMV_TIER_CONSOLIDATED,
                              .slot = run[0]->slot,
                              .class = run[0]->class,
                              .order = run[count - 1]->order,
                              .made_at_ns = INT64_MIN,
                              .series_max = 99,
                              .time_min = INT64_MAX,
                              .time_max = INT64_MIN};
    for (size_t i = 0; i < count; i++) {
        part->rows += run[i]->rows;
        if (run[i]->time_min < part->time_min) part->time_min = run[i]->time_min;
        if (run[i]->time_max > part->time_max) part->time_max = run[i]->time_max;
        size_t at = 0;
        while (made[at] != run[i]) at++;
        made[at] = made[--made_count];
        imv_part_free(run[i]);
    }
    part->chunks = part->rows / 8192 > 100 ? part->rows / 8192 : 100;
    part->bytes = bytes_of(part);
    made[made_count++] = part;
    return part->bytes;
}

Test(choice, any_sequence_of_flushes_is_written_few_times, .init = init, .fini = fini) {
    /* Over ten days of flushes with late rows, hourly or each minute, what is written stays below 2.5 times what
     * flushes wrote, and parts stay few: 45 a day at most, each of 32 flushes, and those of today. */
    const struct {
        int64_t period;
        uint64_t rows;
        uint32_t late_per_cent;
    } cases[] = {{HOUR, 360, 0},     {HOUR, 3600, 20},    {HOUR, 360, 20},
                 {HOUR / 60, 60, 0}, {HOUR / 60, 60, 20}, {HOUR / 12, 1, 20}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        uint64_t flushed = 0, rewritten = 0, order = 0;
        size_t parts_most = 0;
        policy.wall_ns = 0;
        while (policy.wall_ns < 10 * IMV_SLOT_NS) {
            policy.wall_ns += cases[c].period;
            policy.monotonic_ns = policy.wall_ns;
            int64_t from = policy.wall_ns - cases[c].period;
            uint32_t day = (uint32_t)(from / IMV_SLOT_NS);
            double hour = (double)(from % IMV_SLOT_NS) / (double)HOUR, length = (double)cases[c].period / (double)HOUR;
            /* Late rows lie anywhere in the day before: in the parts of today and of yesterday. */
            uint64_t late = cases[c].rows * cases[c].late_per_cent / 100;
            uint64_t yesterday = day == 0 ? 0 : (uint64_t)((double)late * (24 - hour) / 24);
            struct imv_part *part =
                add(IMV_TIER_FRESH, day, late > 0 ? 0 : hour, hour + length, cases[c].rows - yesterday);
            part->order = (uint32_t)++order;
            part->made_at_ns = policy.monotonic_ns;
            flushed += part->bytes;
            if (yesterday > 0) {
                part = add(IMV_TIER_FRESH, day - 1, hour, 24, yesterday);
                part->order = (uint32_t)order;
                part->made_at_ns = policy.monotonic_ns;
                flushed += part->bytes;
            }
            if (made_count > parts_most) parts_most = made_count;
            for (size_t count; (count = choose()) > 0;) rewritten += rewrite(count);
        }
        double amplification = (double)(flushed + rewritten) / (double)flushed;
        if (getenv("IMV_TEST_VERBOSE") != NULL) {
            fprintf(stderr, "case %zu: written %.2f times, %zu parts at most, %zu at the end\n", c, amplification,
                    parts_most, made_count);
        }
        cr_assert_leq(amplification, 2.5, "case %zu: %f", c, amplification);
        cr_assert_leq(parts_most, 520, "case %zu: %zu", c, parts_most);
        fini();
        made_count = 0;
    }
}
