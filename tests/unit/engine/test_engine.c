#include "tests/support/engine_harness.h"

#include "engine/head.h"
#include "storage/base/log.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- fixtures ---- */

static struct harness harness;
static struct model model;
static char directory[256];
static struct imv_error err;

/* A simulated disk and the in-memory store. */
static void simulated(void) {
    imv_log_set_level(IMV_LOG_WARN);
    harness_init(&harness, "db", 2);
    struct imv_sim_options options = {.seed = 1};
    cr_assert_eq(imv_sim_new(&options, &harness.sim, &err), IMV_OK);
    cr_assert_eq(imv_kv_memory_new(1, &harness.kv_memory, &err), IMV_OK);
    memset(&model, 0, sizeof model);
}

static void simulated_end(void) {
    harness_close(&harness);
    imv_kv_memory_free(harness.kv_memory);
    imv_sim_free(harness.sim);
}

/* Files and RocksDB in a fresh directory. */
static void real(void) {
    imv_log_set_level(IMV_LOG_WARN);
    test_directory(directory, sizeof directory, "engine");
    harness_init(&harness, directory, 2);
    memset(&model, 0, sizeof model);
}

static void real_end(void) {
    harness_close(&harness);
    test_directory_remove(directory);
}

#define ok(expression) cr_assert((expression) == IMV_OK, "%s", err.message)

static void open_again(void) {
    harness_close(&harness);
    ok(harness_open(&harness, &err));
}

/* Writes `count` rows of one series from time index `from` on, by one writer, and waits for the acknowledgement. */
static void put(uint32_t series, uint32_t from, uint32_t count, unsigned fields) {
    struct model_write write = {.writer = series % harness.shards};
    for (uint32_t i = 0; i < count; i++) { ok(model_put(&harness, &model, &write, series, from + i, fields, &err)); }
    imv_writer_mark(harness.writer[write.writer], write.marks);
    cr_assert(harness_settle(&harness));
    ok(imv_writer_check(harness.writer[write.writer], write.marks, &err));
    model_acknowledge(&write);
}

static void put_everywhere(uint32_t from, uint32_t count) {
    for (uint32_t series = 0; series < HARNESS_SERIES; series++) put(series, from, count, 1 + series % 3);
}

static size_t parts_count(void) {
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    size_t count = snapshot->parts->count;
    imv_snapshot_release(snapshot);
    return count;
}

static uint64_t head_rows(void) {
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    uint64_t rows = 0;
    for (uint32_t i = 0; i < snapshot->shards_count; i++) {
        for (uint32_t k = 0; k < snapshot->shards[i].heads_count; k++) {
            rows += imv_head_rows(snapshot->shards[i].heads[k]);
        }
    }
    imv_snapshot_release(snapshot);
    return rows;
}

static uint64_t part_rows(void) {
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    uint64_t rows = 0;
    for (size_t i = 0; i < snapshot->parts->count; i++) rows += snapshot->parts->items[i]->rows;
    imv_snapshot_release(snapshot);
    return rows;
}

/* ---- the life of rows ---- */

static void live(void) {
    ok(harness_open(&harness, &err));
    put_everywhere(0, 10);
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(parts_count(), 0);
    ok(harness_flush(&harness, &err));
    cr_assert_gt(parts_count(), 0);
    cr_assert_eq(head_rows(), 0);
    cr_assert_eq(part_rows(), 80);
    cr_assert(model_holds(&harness, &model, false));
    put_everywhere(5, 10); /* half of them over rows that are in chunks */
    cr_assert(model_holds(&harness, &model, false));
    open_again();
    cr_assert_eq(head_rows(), 80);
    cr_assert_eq(part_rows(), 80);
    cr_assert(model_holds(&harness, &model, false));
    ok(harness_flush(&harness, &err));
    cr_assert(model_holds(&harness, &model, false));
    open_again();
    cr_assert_eq(head_rows(), 0);
    cr_assert_eq(part_rows(), 160);
    cr_assert(model_holds(&harness, &model, false));
}

Test(engine, rows_live_through_flush_and_restart, .init = simulated, .fini = simulated_end) {
    /* What was acknowledged is read back from heads, from chunks, from both, and after a restart from either. */
    live();
}

static void count_line(void *context, const char *line) {
    if (getenv("IMV_TEST_VERBOSE") != NULL) fprintf(stderr, "%s\n", line);
    ++*(size_t *)context;
}

Test(engine, rows_live_in_real_files_and_the_offline_check_finds_no_fault, .init = real, .fini = real_end) {
    /* The same on files and RocksDB, and imv_engine_check agrees with what is there. */
    size_t lines = 0;
    live();
    cr_assert_eq(imv_engine_check(directory, count_line, &lines, &err), IMV_BUSY);
    put_everywhere(30, 5);
    harness_close(&harness);
    ok(imv_engine_check(directory, count_line, &lines, &err));
    cr_assert_geq(lines, 3);
}

Test(engine, rows_at_both_ends_of_time_are_kept, .init = simulated, .fini = simulated_end) {
    /* The earliest and the latest 64-bit timestamps are stored, flushed and read like any other. */
    const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -1, 0, INT64_MAX - 1, INT64_MAX};
    ok(harness_open(&harness, &err));
    struct imv_writer *writer = harness.writer[0];
    struct imv_series *series;
    ok(imv_writer_make_series(writer, IMV_STR("e"), IMV_STR("e"), NULL, 0, &series, &err));
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < 6; i++) {
            ok(imv_writer_begin(writer, series, 1, 0, &err));
            ok(imv_writer_field(writer, IMV_STR("a"), IMV_INTEGER, i, &err));
            ok(imv_writer_end(writer, times[i], &err));
        }
        cr_assert(harness_settle(&harness));
        ok(harness_flush(&harness, &err));
    }
    struct imv_snapshot *snapshot;
    struct imv_cursor *cursor;
    const struct imv_rows *rows;
    uint32_t column = 0;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    ok(imv_cursor_new(snapshot, series->label, &column, 1, NULL, &cursor, &err));
    ok(imv_cursor_seek(cursor, series, INT64_MIN, INT64_MAX, &err));
    for (size_t i = 0; i < 6;) {
        ok(imv_cursor_next(cursor, &rows, &err));
        cr_assert_gt(rows->count, 0);
        for (size_t row = 0; row < rows->count; row++, i++) {
            cr_assert_eq(rows->timestamps[row], times[i]);
            cr_assert_eq(rows->columns[0].cells[row], i);
        }
    }
    ok(imv_cursor_next(cursor, &rows, &err));
    cr_assert_eq(rows->count, 0);
    imv_cursor_free(cursor);
    imv_snapshot_release(snapshot);
}

Test(engine, a_snapshot_sees_the_same_rows_before_and_after_a_flush, .init = simulated, .fini = simulated_end) {
    /* A snapshot taken at any moment shows that moment's rows until it is released, whatever is written or flushed. */
    enum { SNAPSHOTS = 6 };
    ok(harness_open(&harness, &err));
    struct imv_snapshot *snapshots[SNAPSHOTS];
    struct model_view *views = calloc(SNAPSHOTS, sizeof *views), *now = malloc(sizeof *now);
    for (uint32_t i = 0; i < SNAPSHOTS; i++) {
        put_everywhere(i * 7, 12);
        ok(imv_snapshot_take(harness.engine, &snapshots[i], &err));
        ok(model_read(snapshots[i], &views[i], &err));
        cr_assert(model_check(&model, &views[i], false));
        if (i % 2 == 1) ok(harness_flush(&harness, &err));
        for (uint32_t k = 0; k <= i; k++) {
            ok(model_read(snapshots[k], now, &err));
            cr_assert_eq(memcmp(now, &views[k], sizeof *now), 0);
        }
    }
    for (uint32_t i = 0; i < SNAPSHOTS; i++) imv_snapshot_release(snapshots[i]);
    free(views);
    free(now);
}

Test(engine, a_head_is_flushed_when_it_is_old, .init = simulated, .fini = simulated_end) {
    /* Rows older than flush_age_ns go to chunks without being asked for, at the deadline that the shard told. */
    harness.flush_age_ns = 100 * HARNESS_SECOND;
    ok(harness_open(&harness, &err));
    put(0, 0, 3, 1);
    int64_t deadline = INT64_MAX;
    for (uint32_t i = 0; i < 2; i++) {
        int64_t own = imv_shard_deadline_ns(harness.shard[i]);
        if (own < deadline) deadline = own;
    }
    cr_assert_eq(deadline, imv_clock_monotonic_ns(&harness.clock.clock) + 100 * HARNESS_SECOND);
    imv_manual_clock_advance(&harness.clock, 99 * HARNESS_SECOND);
    harness_turn(&harness);
    ok(harness_background(&harness, &err));
    cr_assert_eq(part_rows(), 0);
    imv_manual_clock_advance(&harness.clock, HARNESS_SECOND);
    harness_turn(&harness);
    ok(harness_background(&harness, &err));
    cr_assert_eq(part_rows(), 3);
    cr_assert_eq(imv_shard_deadline_ns(harness.shard[0]), INT64_MAX);
}

/* ---- limits ---- */

/* Writes rows with a string of 60 KB each until the writer has no room or count is reached; returns how many. */
static uint32_t put_large(struct imv_series *series, uint32_t from, uint32_t count, uint64_t *marks) {
    static char text[60000];
    memset(text, 'x', sizeof text);
    struct imv_writer *writer = harness.writer[0];
    uint32_t done = 0;
    for (; done < count && imv_writer_has_room(writer); done++) {
        ok(imv_writer_begin(writer, series, 1, sizeof text, &err));
        ok(imv_writer_field_string(writer, IMV_STR("text"), (struct imv_str){text, sizeof text}, &err));
        ok(imv_writer_end(writer, from + done, &err));
        harness_turn(&harness);
    }
    imv_writer_mark(writer, marks);
    return done;
}

static struct imv_series *large_series(void) {
    struct imv_series *series;
    ok(imv_writer_make_series(harness.writer[0], IMV_STR("large"), IMV_STR("large"), NULL, 0, &series, &err));
    return series;
}

static size_t count_rows(struct imv_series *series) {
    struct imv_snapshot *snapshot;
    struct imv_cursor *cursor;
    const struct imv_rows *rows;
    size_t count = 0;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    ok(imv_cursor_new(snapshot, series->label, NULL, 0, NULL, &cursor, &err));
    ok(imv_cursor_seek(cursor, series, INT64_MIN, INT64_MAX, &err));
    do {
        ok(imv_cursor_next(cursor, &rows, &err));
        count += rows->count;
    } while (rows->count > 0);
    imv_cursor_free(cursor);
    imv_snapshot_release(snapshot);
    return count;
}

Test(engine, writers_wait_for_memory_and_lose_nothing, .init = simulated, .fini = simulated_end) {
    /* When heads may hold no more, writers are stopped; a flush lets them go on; every row arrives once. */
    harness.wal_segment_bytes = 8 << 20;
    harness.wal_bytes_max = 512 << 20;
    harness.head_bytes_max = 1; /* raised to the least that works: 16 MiB a shard */
    ok(harness_open(&harness, &err));
    struct imv_series *series = large_series();
    uint64_t marks[HARNESS_SHARDS_MAX];
    uint32_t written = 0, stops = 0;
    while (written < 1500) {
        uint32_t done = put_large(series, written, 1500 - written, marks);
        written += done;
        if (written == 1500) break;
        stops++;
        for (int i = 0; i < 20; i++) harness_turn(&harness);
        cr_assert_not(imv_writer_has_room(harness.writer[0]), "no flush, no room");
        cr_assert_eq(imv_writer_check(harness.writer[0], marks, &err), IMV_BUSY);
        cr_assert_lt(imv_shard_deadline_ns(harness.shard[series->shard]), INT64_MAX);
        ok(harness_background(&harness, &err));
        for (int i = 0; i < 1000 && !imv_writer_has_room(harness.writer[0]); i++) {
            harness_turn(&harness);
            ok(harness_background(&harness, &err));
        }
    }
    cr_assert_gt(stops, 0);
    for (int i = 0; i < 100 && harness_busy(&harness); i++) {
        harness_turn(&harness);
        ok(harness_background(&harness, &err));
    }
    ok(imv_writer_check(harness.writer[0], marks, &err));
    cr_assert_eq(count_rows(series), 1500);
    open_again();
    cr_assert_eq(count_rows(large_series()), 1500);
}

Test(engine, a_journal_at_its_limit_is_flushed_and_goes_on, .init = simulated, .fini = simulated_end) {
    /* The journal is used again and again within its limit, and a restart replays only what is not in chunks. */
    harness.wal_segment_bytes = 256 << 10;
    ok(harness_open(&harness, &err));
    for (uint32_t round = 0; round < 60; round++) {
        put_everywhere((round * 13) % (HARNESS_TIMES - 40), 40);
        ok(harness_background(&harness, &err));
    }
    harness_turn(&harness);
    uint64_t in_parts = part_rows(), in_heads = head_rows();
    cr_assert_gt(in_parts, 0, "the journal was at half of its limit");
    cr_assert(model_holds(&harness, &model, false));
    open_again();
    cr_assert_eq(part_rows(), in_parts);
    cr_assert_eq(head_rows(), in_heads);
    cr_assert(model_holds(&harness, &model, false));
}

Test(engine, a_replay_larger_than_a_head_flushes_on_the_way, .init = simulated, .fini = simulated_end) {
    /* A journal with more rows than a head may hold is recovered by flushing while it is read. */
    harness.wal_segment_bytes = 8 << 20;
    harness.wal_bytes_max = 512 << 20;
    ok(harness_open(&harness, &err));
    uint64_t marks[HARNESS_SHARDS_MAX];
    cr_assert_eq(put_large(large_series(), 0, 1000, marks), 1000);
    cr_assert(harness_settle(&harness));
    cr_assert_eq(head_rows(), 1000);
    harness.head_bytes_max = 1;
    open_again();
    cr_assert_gt(part_rows(), 700);
    cr_assert_eq(part_rows() + head_rows(), 1000);
    cr_assert_eq(count_rows(large_series()), 1000);
    open_again();
    cr_assert_eq(count_rows(large_series()), 1000);
}

static void put_row_of(struct imv_series *series, int64_t timestamp, char *text, size_t size) {
    struct imv_writer *writer = harness.writer[0];
    ok(imv_writer_begin(writer, series, 1, size, &err));
    ok(imv_writer_field_string(writer, IMV_STR("text"), (struct imv_str){text, size}, &err));
    ok(imv_writer_end(writer, timestamp, &err));
}

/* Leads to a durable group of 30 rows of which memory has let only a part into the heads, and that part in chunks.
 * Returns what must be given back to the head budget. */
static size_t cut_a_group(struct imv_series *series, uint64_t *marks) {
    static char text[60000];
    memset(text, 'x', sizeof text);
    struct imv_budget *budget = &harness.engine->head_budget;
    put_row_of(series, 0, text, sizeof text);
    cr_assert(harness_settle(&harness));
    for (int64_t row = 1; row <= 30; row++) put_row_of(series, row, text, sizeof text);
    imv_writer_mark(harness.writer[0], marks);
    imv_writer_send(harness.writer[0]);
    imv_shard_run(harness.shard[0]);
    size_t taken = budget->bytes_max - imv_budget_used(budget) - 1000000;
    cr_assert(imv_budget_take(budget, taken));
    for (int i = 0; i < 5; i++) harness_turn(&harness);
    cr_assert_eq(imv_writer_check(harness.writer[0], marks, &err), IMV_BUSY);
    cr_assert(imv_shard_busy(harness.shard[0]));
    size_t visible = count_rows(series);
    cr_assert(visible > 1 && visible < 31, "%zu", visible);
    ok(harness_background(&harness, &err));
    cr_assert_gt(part_rows(), 1);
    return taken;
}

Test(engine, a_group_that_memory_cuts_in_two_arrives_whole, .init = simulated, .fini = simulated_end) {
    /* A durable group may be applied in pieces around a flush; every row is there once, also after a crash between. */
    uint64_t marks[HARNESS_SHARDS_MAX];
    harness.shards = 1;
    harness.wal_segment_bytes = 8 << 20;
    ok(harness_open(&harness, &err));
    struct imv_series *series = large_series();
    size_t taken = cut_a_group(series, marks);
    imv_budget_give(&harness.engine->head_budget, taken);
    cr_assert(harness_settle(&harness));
    ok(imv_writer_check(harness.writer[0], marks, &err));
    cr_assert_eq(count_rows(series), 31);
    cr_assert_eq(part_rows() + head_rows(), 31, "nothing is stored twice");
    ok(harness_flush(&harness, &err));
    open_again();
    cr_assert_eq(count_rows(large_series()), 31);
    cr_assert_eq(part_rows(), 31);
}

Test(engine, a_crash_in_a_group_that_was_cut_in_two_loses_nothing, .init = simulated, .fini = simulated_end) {
    /* The group is replayed whole; what of it was in chunks is there a second time and reads as one. */
    uint64_t marks[HARNESS_SHARDS_MAX];
    harness.shards = 1;
    harness.wal_segment_bytes = 8 << 20;
    ok(harness_open(&harness, &err));
    size_t taken = cut_a_group(large_series(), marks);
    imv_sim_crash(harness.sim);
    imv_kv_memory_crash(harness.kv_memory);
    imv_budget_give(&harness.engine->head_budget, taken);
    open_again();
    cr_assert_eq(count_rows(large_series()), 31);
    cr_assert_eq(head_rows(), 30);
    ok(harness_flush(&harness, &err));
    open_again();
    cr_assert_eq(count_rows(large_series()), 31);
}

/* ---- failures ---- */

Test(engine, a_failed_journal_ends_acknowledgements_and_reads_go_on, .init = simulated, .fini = simulated_end) {
    /* After a failed write nothing more is acknowledged and health says why; what was acknowledged stays readable, can
     * be flushed, and is there after a restart. */
    ok(harness_open(&harness, &err));
    put_everywhere(0, 5);
    ok(imv_engine_health(harness.engine, &err));
    imv_sim_arm(harness.sim, imv_sim_operations(harness.sim) + 1, IMV_SIM_FAIL, true);
    struct model_write write = {.writer = 0};
    for (uint32_t series = 0; series < HARNESS_SERIES; series++) {
        ok(model_put(&harness, &model, &write, series, 9, 1, &err));
    }
    imv_writer_mark(harness.writer[0], write.marks);
    harness_settle(&harness);
    cr_assert_eq(imv_writer_check(harness.writer[0], write.marks, &err), IMV_CLOSED);
    cr_assert_eq(imv_engine_health(harness.engine, &err), IMV_IO);
    cr_assert(strstr(err.message, "closed for writing") != NULL, "%s", err.message);
    cr_assert(model_holds(&harness, &model, false));
    imv_sim_arm(harness.sim, 0, IMV_SIM_NONE, false);
    ok(harness_flush(&harness, &err));
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(imv_writer_check(harness.writer[0], write.marks, &err), IMV_CLOSED);
    open_again();
    ok(imv_engine_health(harness.engine, &err));
    cr_assert(model_holds(&harness, &model, true));
    put_everywhere(20, 5);
    cr_assert(model_holds(&harness, &model, false));
}

Test(engine, a_flush_that_fails_anywhere_loses_nothing_and_is_tried_again, .init = simulated, .fini = simulated_end) {
    /* Whichever operation of the store fails, all rows stay readable and the next try, after its delay, succeeds. */
    ok(harness_open(&harness, &err));
    for (uint64_t nth = 1; nth <= 12; nth++) {
        put_everywhere((uint32_t)nth * 5, 6);
        imv_kv_memory_arm(harness.kv_memory, imv_kv_memory_operations(harness.kv_memory) + nth, IMV_KV_MEMORY_FAIL);
        imv_engine_flush_begin(harness.engine);
        harness_turn(&harness);
        bool did_work = true;
        int failures = 0;
        while (did_work) failures += imv_engine_background_step(harness.engine, &did_work, &err) != IMV_OK;
        cr_assert_leq(failures, 1);
        cr_assert(failures == 1 || nth > 5);
        cr_assert_eq(imv_engine_flushed(harness.engine), failures == 0);
        cr_assert_eq(imv_engine_health(harness.engine, &err), failures == 0 ? IMV_OK : IMV_IO);
        cr_assert(model_holds(&harness, &model, false));
        imv_manual_clock_advance(&harness.clock, HARNESS_SECOND);
        ok(harness_background(&harness, &err));
        cr_assert(imv_engine_flushed(harness.engine));
        ok(imv_engine_health(harness.engine, &err));
        cr_assert(model_holds(&harness, &model, false));
    }
    uint64_t rows = part_rows();
    open_again();
    cr_assert_eq(part_rows(), rows);
    cr_assert_eq(head_rows(), 0);
    cr_assert(model_holds(&harness, &model, false));
}

Test(engine, files_of_an_unfinished_flush_are_dropped_at_the_next_start, .init = simulated, .fini = simulated_end) {
    /* A flush that ends between ingestion and record leaves files that nobody sees and the next start drops. */
    harness.shards = 1;
    ok(harness_open(&harness, &err));
    put_everywhere(0, 8);
    size_t before = imv_kv_memory_tables(harness.kv_memory);
    imv_engine_flush_begin(harness.engine);
    harness_turn(&harness);
    /* Four slots: four finishes, the ingestion, the catalog, then the record. */
    imv_kv_memory_arm(harness.kv_memory, imv_kv_memory_operations(harness.kv_memory) + 6, IMV_KV_MEMORY_FAIL);
    bool did_work;
    cr_assert_neq(imv_engine_background_step(harness.engine, &did_work, &err), IMV_OK);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), before + 4);
    cr_assert_eq(part_rows(), 0);
    uint32_t generation = harness.engine->meta.generation;
    open_again();
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), before);
    cr_assert_geq(harness.engine->meta.generation, generation, "generations are never used again");
    cr_assert(model_holds(&harness, &model, false));
    ok(harness_flush(&harness, &err));
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), before + 4);
    cr_assert(model_holds(&harness, &model, false));
}

/* ---- retention ---- */

/* The model forgets what lies below the horizon of its label. */
static void model_forget(uint32_t label, int64_t horizon) {
    for (uint32_t series = label; series < HARNESS_SERIES; series += 2) {
        for (uint32_t time = 0; time < HARNESS_TIMES; time++) {
            if (model_time(time) >= horizon) continue;
            memset(model.cells[series][time], 0, sizeof model.cells[series][time]);
        }
    }
}

static void retention_passes(void) {
    imv_manual_clock_advance(&harness.clock, 61 * HARNESS_SECOND);
    ok(harness_background(&harness, &err));
}

Test(engine, slots_past_retention_are_dropped_and_others_stay, .init = simulated, .fini = simulated_end) {
    /* Rows past their label's retention vanish from reads at once, their files when no snapshot holds them; the rows of
     * a label that keeps longer, or for ever, stay. */
    ok(harness_open(&harness, &err));
    put_everywhere(0, 40);
    int64_t day_0 = model_time(0) - model_time(0) % HARNESS_DAY;
    ok(imv_engine_set_retention(harness.engine, IMV_STR("m0"), 30 * HARNESS_DAY, &err));
    ok(harness_flush(&harness, &err));
    size_t tables = imv_kv_memory_tables(harness.kv_memory);
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    struct model_view *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    ok(model_read(snapshot, before, &err));
    /* Noon of the 32nd day: the first slot and half of the second are past. */
    imv_manual_clock_advance(&harness.clock,
                             day_0 + 31 * HARNESS_DAY + HARNESS_DAY / 2 - imv_clock_wall_ns(&harness.clock.clock));
    model_forget(0, day_0 + HARNESS_DAY + HARNESS_DAY / 2);
    cr_assert(model_holds(&harness, &model, false));
    ok(harness_background(&harness, &err));
    size_t parts = parts_count();
    cr_assert_lt(parts, snapshot->parts->count);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), tables, "a snapshot holds them");
    ok(model_read(snapshot, after, &err));
    cr_assert_eq(memcmp(before, after, sizeof *before), 0);
    imv_snapshot_release(snapshot);
    cr_assert_lt(imv_kv_memory_tables(harness.kv_memory), tables);
    tables = imv_kv_memory_tables(harness.kv_memory);
    cr_assert(model_holds(&harness, &model, false));
    open_again();
    cr_assert_eq(parts_count(), parts);
    cr_assert(model_holds(&harness, &model, false));
    /* Kept longer: what is still there comes to no harm in a class that was made for less. */
    ok(imv_engine_set_retention(harness.engine, IMV_STR("m0"), 400 * HARNESS_DAY, &err));
    imv_manual_clock_advance(&harness.clock, 90 * HARNESS_DAY);
    retention_passes();
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), tables);
    open_again();
    cr_assert_eq(atomic_load(&imv_catalog_find_label(imv_engine_catalog(harness.engine), IMV_STR("m0"))->retention_ns),
                 400 * HARNESS_DAY);
    /* Kept for less than all there is: files go, those of the other label, kept for ever, do not. */
    ok(imv_engine_set_retention(harness.engine, IMV_STR("m0"), HARNESS_DAY, &err));
    retention_passes();
    model_forget(0, INT64_MAX);
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_lt(imv_kv_memory_tables(harness.kv_memory), tables);
    struct imv_label *label = imv_catalog_find_label(imv_engine_catalog(harness.engine), IMV_STR("m0"));
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    for (size_t i = 0; i < snapshot->parts->count; i++) {
        const struct imv_part *part = snapshot->parts->items[i];
        cr_assert(part->label_min > label->id || part->label_max < label->id || part->label_min != part->label_max);
    }
    imv_snapshot_release(snapshot);
    free(before);
    free(after);
}

Test(engine, rows_past_retention_are_not_written, .init = simulated, .fini = simulated_end) {
    /* A flush leaves out what no reader could see. */
    ok(harness_open(&harness, &err));
    put(0, 0, 16, 1);
    imv_manual_clock_advance(&harness.clock, 10 * HARNESS_DAY);
    int64_t now = imv_clock_wall_ns(&harness.clock.clock);
    int64_t horizon = model_time(1);
    ok(imv_engine_set_retention(harness.engine, IMV_STR("m0"), now - horizon, &err));
    model_forget(0, horizon);
    cr_assert(model_holds(&harness, &model, false));
    ok(harness_flush(&harness, &err));
    cr_assert_eq(part_rows(), 12, "the four rows of the first day are gone");
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(imv_engine_set_retention(harness.engine, IMV_STR("m0"), -1, &err), IMV_INVALID);
}

/* ---- the directory ---- */

static void file_damage(const char *path, off_t at) {
    int file = open(path, O_RDWR);
    cr_assert_geq(file, 0, "%s", path);
    char byte;
    cr_assert_eq(pread(file, &byte, 1, at), 1);
    byte ^= 0x40;
    cr_assert_eq(pwrite(file, &byte, 1, at), 1);
    close(file);
}

static void path_in(char *path, const char *name) { snprintf(path, 512, "%s/%s", directory, name); }

Test(engine, a_directory_keeps_its_shards_and_is_opened_once, .init = real, .fini = real_end) {
    /* FORMAT fixes the number of shards; a second open is refused; a damaged or newer FORMAT is refused by name. */
    char path[512];
    ok(harness_open(&harness, &err));
    struct imv_engine_options options;
    imv_engine_options_init(&options, directory);
    options.shards = 7;
    options.background = false;
    struct imv_engine *engine;
    cr_assert_eq(imv_engine_open(&options, &engine, &err), IMV_BUSY);
    harness_close(&harness);
    ok(imv_engine_open(&options, &engine, &err));
    cr_assert_eq(imv_engine_shards_count(engine), 2);
    cr_assert_not(imv_engine_recovered(engine));
    imv_engine_close(engine);
    path_in(path, "FORMAT");
    struct stat stat_before;
    cr_assert_eq(stat(path, &stat_before), 0);
    for (off_t at = 0; at < stat_before.st_size - 1; at++) {
        file_damage(path, at);
        imv_status status = imv_engine_open(&options, &engine, &err);
        cr_assert(status == IMV_CORRUPT || status == IMV_UNSUPPORTED, "byte %ld: %s", (long)at,
                  imv_status_name(status));
        file_damage(path, at);
    }
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(imv_engine_open(&options, &engine, &err), IMV_CORRUPT, "no FORMAT beside data");
    size_t lines = 0;
    cr_assert_eq(imv_engine_check(directory, count_line, &lines, &err), IMV_NOT_FOUND);
    FILE *file = fopen(path, "w");
    fprintf(file, "imvdb format=2 shards=2 checksum=0\n");
    fclose(file);
    cr_assert_eq(imv_engine_open(&options, &engine, &err), IMV_UNSUPPORTED);
}

/* Writes a row a day, every other of `days` days from `first` on. */
static void put_days(struct imv_series *series, int64_t first, int64_t days) {
    struct imv_writer *writer = harness.writer[0];
    for (int64_t day = first; day < first + days; day += 2) {
        ok(imv_writer_begin(writer, series, 1, 0, &err));
        ok(imv_writer_field(writer, IMV_STR("a"), IMV_INTEGER, (uint64_t)day, &err));
        ok(imv_writer_end(writer, day * HARNESS_DAY, &err));
    }
    cr_assert(harness_settle(&harness));
    ok(harness_flush(&harness, &err));
}

static void scattered(size_t (*files)(void)) {
    enum { DAYS = 400 };
    harness.cold_ns = INT64_MAX; /* nothing is consolidated */
    ok(harness_open(&harness, &err));
    struct imv_series *series;
    ok(imv_writer_make_series(harness.writer[0], IMV_STR("d"), IMV_STR("d"), NULL, 0, &series, &err));
    put_days(series, 0, DAYS);
    put_days(series, 1, DAYS);
    put_days(series, 0, DAYS);
    cr_assert_eq(parts_count(), 3 * DAYS / 2);
    cr_assert_leq(files(), 3, "small slots share files");
    cr_assert_eq(count_rows(series), DAYS);
    open_again();
    cr_assert_eq(parts_count(), 3 * DAYS / 2);
    ok(imv_writer_make_series(harness.writer[0], IMV_STR("d"), IMV_STR("d"), NULL, 0, &series, &err));
    cr_assert_eq(count_rows(series), DAYS);
    /* All days but the last ten go; their files too, when nothing is left in them. */
    atomic_store(&harness.clock.wall_ns, DAYS * HARNESS_DAY);
    ok(imv_engine_set_retention(harness.engine, IMV_STR("d"), 10 * HARNESS_DAY, &err));
    ok(harness_background(&harness, &err));
    cr_assert_eq(parts_count(), 15);
    cr_assert_eq(count_rows(series), 10);
    open_again();
    cr_assert_eq(parts_count(), 15);
    imv_manual_clock_advance(&harness.clock, 100 * HARNESS_DAY);
    ok(harness_background(&harness, &err));
    cr_assert_eq(parts_count(), 0);
    cr_assert_eq(files(), 0);
    open_again();
    cr_assert_eq(parts_count(), 0);
}

static size_t memory_files(void) { return imv_kv_memory_tables(harness.kv_memory); }
static size_t no_files(void) { return 0; }

Test(engine, rows_of_many_days_share_files, .init = simulated, .fini = simulated_end) {
    /* Rows scattered over hundreds of days make few files, are read and retired by day, and the files go in the end. */
    scattered(memory_files);
    cr_assert_eq(memory_files(), 0);
}

Test(engine, rows_of_many_days_on_the_real_store, .init = real, .fini = real_end) {
    /* The same on RocksDB, and the offline check agrees. */
    size_t lines = 0;
    scattered(no_files);
    harness_close(&harness);
    ok(imv_engine_check(directory, count_line, &lines, &err));
}

/* Flips a byte a third into each file of directory/name that ends in suffix, one at a time, and expects the check to
 * find it; returns how many there were. */
static int damage_each(const char *name, const char *suffix, off_t (*place)(off_t size)) {
    char folder[512], path[1024];
    path_in(folder, name);
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort), damaged = 0;
    cr_assert_geq(count, 0);
    for (int i = 0; i < count; i++) {
        size_t length = strlen(entries[i]->d_name), end = strlen(suffix);
        struct stat state;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        if (length > end && strcmp(entries[i]->d_name + length - end, suffix) == 0 && stat(path, &state) == 0) {
            size_t lines = 0;
            damaged++;
            file_damage(path, place(state.st_size));
            cr_assert_eq(imv_engine_check(directory, count_line, &lines, &err), IMV_CORRUPT, "%s", path);
            file_damage(path, place(state.st_size));
        }
        free(entries[i]);
    }
    free(entries);
    return damaged;
}

static off_t a_third_in(off_t size) { return size / 3; }
static off_t in_the_first_group(off_t size) { return size > 4196 ? 4196 : 0; }

Test(engine, the_offline_check_finds_damage, .init = real, .fini = real_end) {
    /* A flipped bit in chunks or journal, and a part whose record is wrong, are told. */
    size_t lines = 0;
    ok(harness_open(&harness, &err));
    put_everywhere(0, 60);
    ok(harness_flush(&harness, &err));
    put_everywhere(0, 60);
    harness_close(&harness);
    ok(imv_engine_check(directory, count_line, &lines, &err));
    cr_assert_gt(damage_each("rocksdb", ".sst", a_third_in), 8);
    ok(imv_engine_check(directory, count_line, &lines, &err));
    cr_assert_eq(damage_each("wal", "1.wal", in_the_first_group), 2);
    ok(imv_engine_check(directory, count_line, &lines, &err));
    /* A record that says more rows than there are. */
    char store[512];
    path_in(store, "rocksdb");
    struct imv_kv *kv;
    struct imv_meta meta;
    struct imv_meta_batch batch;
    ok(imv_kv_open(store, &kv, &err));
    ok(imv_meta_load(kv, &meta, &err));
    imv_meta_batch_init(&batch);
    meta.parts->items[0]->rows++;
    imv_meta_put_part(&batch, meta.parts->items[0]);
    ok(imv_meta_write(&batch, kv, &err));
    imv_meta_batch_release(&batch);
    imv_meta_release(&meta, kv);
    imv_kv_close(kv);
    cr_assert_eq(imv_engine_check(directory, count_line, &lines, &err), IMV_CORRUPT);
}
