/* Deletions through a whole engine: what they hide, when they are gone, what is refused. */
#include "tests/support/engine_harness.h"

#include "engine/head.h"
#include "storage/base/log.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct harness harness;
static struct model model;
static struct imv_error err;

#define ok(expression) cr_assert((expression) == IMV_OK, "%s", err.message)

static void simulated(void) {
    imv_log_set_level(IMV_LOG_ERROR);
    harness_init(&harness, "db", 2);
    struct imv_sim_options options = {.seed = 1};
    ok(imv_sim_new(&options, &harness.sim, &err));
    ok(imv_kv_memory_new(1, &harness.kv_memory, &err));
    ok(harness_open(&harness, &err));
}

static void simulated_end(void) {
    harness_close(&harness);
    imv_kv_memory_free(harness.kv_memory);
    imv_sim_free(harness.sim);
}

static void put(uint32_t series, uint32_t from, uint32_t count, unsigned fields) {
    struct model_write write = {.writer = series % harness.shards};
    for (uint32_t i = 0; i < count; i++) { ok(model_put(&harness, &model, &write, series, from + i, fields, &err)); }
    imv_writer_mark(harness.writer[write.writer], write.marks);
    cr_assert(harness_settle(&harness));
    ok(imv_writer_check(harness.writer[write.writer], write.marks, &err));
    model_acknowledge(&write);
}

static void put_all(void) {
    for (uint32_t series = 0; series < HARNESS_SERIES; series++) put(series, 0, 24, 3);
}

/* Deletes and waits. only: one series of the label, or -1 for the whole label. */
static void delete (uint32_t label, int only, int64_t from, int64_t last) {
    struct model_deletion deletion;
    bool wanted[HARNESS_SERIES] = {false};
    if (only >= 0) wanted[only] = true;
    ok(model_delete(&harness, &model, &deletion, label, only < 0 ? NULL : wanted, from, last, &err));
    cr_assert(harness_settle(&harness));
    ok(imv_engine_delete_wait(harness.engine, deletion.request, 0, &err));
    model_delete_end(&model, &deletion, true);
}

static void holds(void) { cr_assert(model_holds(&harness, &model, false)); }

static size_t tombstones(void) {
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    size_t count = 0;
    for (uint32_t i = 0; i < snapshot->shards_count; i++) {
        if (snapshot->shards[i].deletions != NULL) count += snapshot->shards[i].deletions->count;
    }
    imv_snapshot_release(snapshot);
    return count;
}

/* Tombstones that are in the journal alone. */
static size_t pending(void) {
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    size_t count = 0;
    for (uint32_t i = 0; i < snapshot->shards_count; i++) {
        const struct imv_deletions *list = snapshot->shards[i].deletions;
        for (size_t k = 0; list != NULL && k < list->count; k++) count += !list->items[k].recorded;
    }
    imv_snapshot_release(snapshot);
    return count;
}

static uint64_t part_rows(void) {
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    uint64_t rows = 0;
    for (size_t i = 0; i < snapshot->parts->count; i++) rows += snapshot->parts->items[i]->rows;
    imv_snapshot_release(snapshot);
    return rows;
}

static void reopen(bool crash) {
    if (crash) imv_sim_crash(harness.sim);
    if (crash) imv_kv_memory_crash(harness.kv_memory);
    harness_close(&harness);
    ok(harness_open(&harness, &err));
}

Test(delete, rows_in_heads_never_reach_chunks, .init = simulated, .fini = simulated_end) {
    /* What is deleted before its flush is hidden at once, survives a crash, and is not written; the tombstone goes with
     * that flush. */
    put_all();
    delete (0, 2, model_time(4), model_time(40));
    delete (1, -1, INT64_MIN, INT64_MAX);
    holds();
    cr_assert_gt(tombstones(), 0);
    reopen(true);
    holds();
    ok(harness_flush(&harness, &err));
    holds();
    cr_assert_eq(tombstones(), 0);
    cr_assert_lt(part_rows(), 4 * 24);
    reopen(true);
    holds();
}

Test(delete, rows_in_chunks_stay_hidden, .init = simulated, .fini = simulated_end) {
    /* What is deleted after its flush is hidden, before and after the next flush and a restart; rows that are written
     * anew into the range are seen, wherever they are. */
    put_all();
    ok(harness_flush(&harness, &err));
    delete (0, 2, model_time(4), model_time(40));
    delete (1, -1, model_time(0), model_time(9));
    holds();
    put(2, 3, 9, 1);
    put(3, 0, 5, 2);
    holds();
    reopen(false);
    holds();
    ok(harness_flush(&harness, &err));
    holds();
    size_t recorded = tombstones();
    cr_assert_gt(recorded, 0);
    reopen(true);
    holds();
    cr_assert_eq(tombstones(), recorded);
    delete (0, 2, INT64_MIN, INT64_MAX);
    put(2, 5, 1, 3);
    ok(harness_flush(&harness, &err));
    holds();
}

Test(delete, a_snapshot_keeps_what_it_showed, .init = simulated, .fini = simulated_end) {
    /* A snapshot taken before a deletion shows the rows after it, and after the flush that leaves them out. */
    put_all();
    struct imv_snapshot *snapshot;
    struct model_view *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    cr_assert(before != NULL && after != NULL);
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    ok(model_read(snapshot, before, &err));
    delete (0, -1, INT64_MIN, INT64_MAX);
    ok(harness_flush(&harness, &err));
    ok(model_read(snapshot, after, &err));
    cr_assert_eq(memcmp(before, after, sizeof *before), 0);
    imv_snapshot_release(snapshot);
    free(before);
    free(after);
    holds();
}

Test(delete, many_become_one, .init = simulated, .fini = simulated_end) {
    /* Neighbouring and repeated deletions of a series between two flushes are one tombstone after the flush. */
    put_all();
    ok(harness_flush(&harness, &err));
    int64_t start = model_time(0);
    for (int round = 0; round < 2; round++) {
        for (int64_t at = start; at < start + 20 * HARNESS_SECOND; at += HARNESS_SECOND) {
            delete (0, 4, at, at + HARNESS_SECOND - 1);
        }
    }
    delete (0, 4, start, start + HARNESS_DAY);
    delete (0, 4, start + 5, start + 7);
    cr_assert_eq(tombstones(), 42);
    ok(harness_flush(&harness, &err));
    cr_assert_eq(tombstones(), 1);
    holds();
    reopen(true);
    cr_assert_eq(tombstones(), 1);
    holds();
}

Test(delete, retention_takes_tombstones_along, .init = simulated, .fini = simulated_end) {
    /* When the last part that a tombstone hides rows of is gone, so is the tombstone. */
    put_all();
    ok(harness_flush(&harness, &err));
    delete (0, -1, model_time(0), model_time(9));
    ok(harness_flush(&harness, &err));
    cr_assert_gt(tombstones(), 0);
    ok(imv_engine_set_retention(harness.engine, IMV_STR("m0"), HARNESS_DAY, &err));
    ok(imv_engine_set_retention(harness.engine, IMV_STR("m1"), HARNESS_DAY, &err));
    imv_manual_clock_advance(&harness.clock, 30 * HARNESS_DAY);
    ok(harness_background(&harness, &err));
    cr_assert_eq(part_rows(), 0);
    cr_assert_eq(tombstones(), 0);
    reopen(true);
    cr_assert_eq(tombstones(), 0);
}

Test(delete, a_journal_of_deletions_alone_turns_over, .init = simulated, .fini = simulated_end) {
    /* Deletions without any rows between them do not fill the journal for ever: a flush without rows releases it. */
    put(0, 0, 4, 3);
    for (int i = 0; i < 600; i++) {
        delete (0, 0, model_time(0), model_time(1));
        if (i % 20 == 0) ok(harness_background(&harness, &err));
    }
    holds();
    cr_assert_lt(tombstones(), 600);
}

Test(delete, a_flush_that_is_asked_for_takes_deletions_along, .init = simulated, .fini = simulated_end) {
    /* When a flush is done, the deletions from before it need no journal, also if there was no room for another head
     * when it was asked for. */
    put_all();
    ok(harness_flush(&harness, &err));
    for (uint32_t i = 0; i < IMV_HEADS_MAX; i++) {
        put(0, i, 1, 1);
        imv_engine_flush_begin(harness.engine);
        cr_assert(harness_settle(&harness));
    }
    delete (0, 0, model_time(0), model_time(40));
    imv_engine_flush_begin(harness.engine);
    harness_turn(&harness);
    cr_assert_not(imv_engine_flushed(harness.engine));
    bool did_work;
    while (!imv_engine_flushed(harness.engine)) {
        ok(imv_engine_background_step(harness.engine, &did_work, &err));
        harness_turn(&harness);
    }
    cr_assert_eq(pending(), 0);
    holds();
}

Test(delete, a_deletion_alone_is_flushed_in_time, .init = simulated, .fini = simulated_end) {
    /* Where nothing more is written, a deletion is flushed after the time after which rows are, and rows may go. */
    put_all();
    ok(harness_flush(&harness, &err));
    delete (0, 2, model_time(4), model_time(40));
    struct imv_engine_options options;
    imv_engine_options_init(&options, "db");
    imv_manual_clock_advance(&harness.clock, options.flush_age_ns - HARNESS_SECOND);
    bool due = false;
    for (uint32_t i = 0; i < harness.shards; i++) {
        int64_t deadline_ns = imv_shard_deadline_ns(harness.shard[i]);
        due |= deadline_ns == imv_clock_monotonic_ns(&harness.clock.clock) + HARNESS_SECOND;
    }
    cr_assert(due);
    cr_assert_gt(pending(), 0);
    imv_manual_clock_advance(&harness.clock, HARNESS_SECOND);
    harness_turn(&harness);
    ok(harness_background(&harness, &err));
    cr_assert_eq(pending(), 0);
    holds();
}

Test(delete, what_cannot_be_is_refused, .init = simulated, .fini = simulated_end) {
    /* A range that ends before it begins; more requests than wait at a shard; a shard that is closed; nobody who runs
     * the shards in time. What waits when a shard closes is told so. */
    put_all();
    struct imv_label *label = imv_catalog_find_label(imv_engine_catalog(harness.engine), IMV_STR("m0"));
    struct imv_deletion deletion = {.label = label, .whole = true, .from = 2, .last = 1};
    cr_assert_eq(imv_engine_delete(harness.engine, &deletion, 0, &err), IMV_INVALID);
    deletion.last = 2;
    cr_assert_eq(imv_engine_delete(harness.engine, &deletion, 1000000, &err), IMV_TIMEOUT);
    struct imv_deletion_request *requests[IMV_DELETION_QUEUE];
    for (int i = 1; i < IMV_DELETION_QUEUE; i++) {
        ok(imv_engine_delete_begin(harness.engine, &deletion, 0, &requests[i], &err));
        cr_assert_eq(imv_engine_delete_wait(harness.engine, requests[i], 0, &err), IMV_BUSY);
    }
    cr_assert_eq(imv_engine_delete_begin(harness.engine, &deletion, 0, &requests[0], &err), IMV_BUSY);
    for (uint32_t i = 0; i < harness.shards; i++) {
        imv_writer_free(harness.writer[i]);
        harness.writer[i] = NULL;
        imv_shard_close(harness.shard[i]);
        harness.shard[i] = NULL;
    }
    for (int i = 1; i < IMV_DELETION_QUEUE; i++) {
        cr_assert_eq(imv_engine_delete_wait(harness.engine, requests[i], 0, &err), IMV_CLOSED);
        imv_engine_delete_end(requests[i]);
    }
    cr_assert_eq(imv_engine_delete(harness.engine, &deletion, 1000000, &err), IMV_CLOSED);
}

Test(delete, the_number_of_tombstones_is_bounded, .init = simulated, .fini = simulated_end) {
    /* A shard that has as many tombstones as it may takes one more only when there is room again. */
    put_all();
    struct imv_tombstone *items = calloc(IMV_TOMBSTONES_MAX, sizeof *items);
    cr_assert_not_null(items);
    for (uint32_t i = 0; i < IMV_TOMBSTONES_MAX; i++) {
        items[i] = (struct imv_tombstone){.label = 1000, .series = i, .position = UINT64_MAX, .last = 1};
    }
    struct imv_label *label = imv_catalog_find_label(imv_engine_catalog(harness.engine), IMV_STR("m0"));
    struct imv_deletion deletion = {.label = label, .whole = true, .from = INT64_MIN, .last = INT64_MAX};
    for (uint32_t room = 0; room < 2; room++) {
        struct imv_deletion_request *request;
        for (uint32_t i = 0; i < harness.shards; i++) {
            struct imv_deletions *list;
            ok(imv_deletions_new(items, IMV_TOMBSTONES_MAX - room, &list, &err));
            imv_deletions_release(harness.engine->shards[i].deletions);
            harness.engine->shards[i].deletions = list;
        }
        ok(imv_engine_delete_begin(harness.engine, &deletion, 0, &request, &err));
        cr_assert(harness_settle(&harness));
        imv_status status = imv_engine_delete_wait(harness.engine, request, 0, &err);
        imv_engine_delete_end(request);
        cr_assert_eq(status, room == 0 ? IMV_FULL : IMV_OK);
        if (room == 0) cr_assert_not_null(strstr(err.message, "131072"));
        if (room == 0) holds();
    }
    cr_assert_eq(tombstones(), harness.shards * IMV_TOMBSTONES_MAX);
    free(items);
}
