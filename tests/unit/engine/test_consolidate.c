#include "engine/consolidate.h"

#include "engine/retention.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"
#include "tests/support/engine_harness.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* ---- fixtures ---- */

static struct harness harness;
static struct model model;
static char directory[256];
static struct imv_error err;

static void begin(const char *path) {
    imv_log_set_level(IMV_LOG_ERROR + 1);
    harness_init(&harness, path, 2);
    harness.cold_ns = HARNESS_SECOND;
    imv_manual_clock_advance(&harness.clock, 30 * HARNESS_DAY); /* the model's days are over */
    memset(&model, 0, sizeof model);
}

static void simulated(void) {
    struct imv_sim_options options = {.seed = 1};
    begin("db");
    cr_assert_eq(imv_sim_new(&options, &harness.sim, &err), IMV_OK);
    cr_assert_eq(imv_kv_memory_new(1, &harness.kv_memory, &err), IMV_OK);
}

static void simulated_end(void) {
    harness_close(&harness);
    imv_kv_memory_free(harness.kv_memory);
    imv_sim_free(harness.sim);
}

static void real(void) {
    test_directory(directory, sizeof directory, "consolidate");
    begin(directory);
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

/* Writes `count` rows of every series from time index `from` on, and waits for the acknowledgement. */
static void put_everywhere(uint32_t from, uint32_t count) {
    for (uint32_t series = 0; series < HARNESS_SERIES; series++) {
        struct model_write write = {.writer = series % harness.shards};
        for (uint32_t i = 0; i < count; i++) {
            ok(model_put(&harness, &model, &write, series, from + i, 1 + (series + i) % 3, &err));
        }
        imv_writer_mark(harness.writer[write.writer], write.marks);
        cr_assert(harness_settle(&harness));
        ok(imv_writer_check(harness.writer[write.writer], write.marks, &err));
        model_acknowledge(&write);
    }
}

static void flush(void) {
    imv_engine_flush_begin(harness.engine);
    harness_turn(&harness);
    bool did_work = true;
    while (!imv_engine_flushed(harness.engine)) {
        ok(imv_engine_background_step(harness.engine, &did_work, &err));
        harness_turn(&harness);
    }
}

/* Lets time pass until everything is cold, and does all there is to do. */
static void consolidate(void) {
    imv_manual_clock_advance(&harness.clock, 400 * HARNESS_SECOND);
    ok(harness_background(&harness, &err));
}

static struct imv_snapshot *take(void) {
    struct imv_snapshot *snapshot;
    ok(imv_snapshot_take(harness.engine, &snapshot, &err));
    return snapshot;
}

static size_t parts_count(enum imv_tier tier) {
    struct imv_snapshot *snapshot = take();
    size_t count = 0;
    for (size_t i = 0; i < snapshot->parts->count; i++) count += snapshot->parts->items[i]->tier == tier;
    imv_snapshot_release(snapshot);
    return count;
}

static uint64_t part_rows(void) {
    struct imv_snapshot *snapshot = take();
    uint64_t rows = 0;
    for (size_t i = 0; i < snapshot->parts->count; i++) rows += snapshot->parts->items[i]->rows;
    imv_snapshot_release(snapshot);
    return rows;
}

/* ---- what is read ---- */

Test(consolidate, readers_see_the_same_before_and_after, .init = simulated, .fini = simulated_end) {
    /* Rows written over and over in three flushes become a part a day, which reads the same, also after a restart; a
     * snapshot from before still reads the old parts, whose files go with it. */
    ok(harness_open(&harness, &err));
    for (uint32_t i = 0; i < 3; i++) {
        put_everywhere(i * 8, 40);
        flush();
    }
    cr_assert_eq(parts_count(IMV_TIER_FRESH), 2 * 3 * HARNESS_DAYS);
    struct imv_snapshot *snapshot = take();
    struct model_view *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    ok(model_read(snapshot, before, &err));
    consolidate();
    cr_assert_eq(parts_count(IMV_TIER_FRESH), 0);
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS);
    cr_assert_eq(part_rows(), HARNESS_SERIES * 56);
    cr_assert(model_holds(&harness, &model, false));
    ok(model_read(snapshot, after, &err));
    cr_assert_eq(memcmp(before, after, sizeof *before), 0);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), 7 * HARNESS_DAYS);
    imv_snapshot_release(snapshot);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), HARNESS_DAYS);
    open_again();
    cr_assert(model_holds(&harness, &model, false));
    put_everywhere(4, 60);
    flush();
    consolidate();
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS);
    free(before);
    free(after);
}

static void count_line(void *context, const char *line) {
    if (getenv("IMV_TEST_VERBOSE") != NULL) fprintf(stderr, "%s\n", line);
    ++*(size_t *)context;
}

Test(consolidate, the_real_store_and_the_offline_check_agree, .init = real, .fini = real_end) {
    /* The same on files, and the offline check finds no fault. */
    size_t lines = 0;
    ok(harness_open(&harness, &err));
    for (uint32_t i = 0; i < 3; i++) {
        put_everywhere(i * 8, 40);
        flush();
    }
    consolidate();
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS);
    cr_assert(model_holds(&harness, &model, false));
    open_again();
    cr_assert(model_holds(&harness, &model, false));
    harness_close(&harness);
    ok(imv_engine_check(directory, count_line, &lines, &err));
}

/* ---- a long series against plain arrays ---- */

enum { TIMES = 20000, FIELDS = 3 };

static struct {
    bool has[FIELDS];
    int64_t value[FIELDS]; /* a number of which the field's value is made */
} naive[TIMES];
static const char *const names[FIELDS] = {"i", "f", "s"};

static int64_t time_of(uint32_t index) { return model_time(0) + index * HARNESS_SECOND; }

static void row_put(struct imv_series *series, uint32_t index, unsigned fields, int64_t value) {
    struct imv_writer *writer = harness.writer[0];
    char text[32];
    int size = snprintf(text, sizeof text, "text %lld", (long long)value);
    ok(imv_writer_begin(writer, series, FIELDS, sizeof text, &err));
    if (fields & 1) ok(imv_writer_field(writer, IMV_STR("i"), IMV_INTEGER, (uint64_t)value, &err));
    if (fields & 2) ok(imv_writer_field(writer, IMV_STR("f"), IMV_FLOAT, imv_float_cell((double)value / 4), &err));
    if (fields & 4) { ok(imv_writer_field_string(writer, IMV_STR("s"), (struct imv_str){text, (size_t)size}, &err)); }
    ok(imv_writer_end(writer, time_of(index), &err));
    for (int field = 0; field < FIELDS; field++) {
        if (!(fields >> field & 1)) continue;
        naive[index].has[field] = true;
        naive[index].value[field] = value;
    }
}

static bool value_is(const struct imv_vector *vector, size_t row, int64_t value) {
    char text[32];
    int size = snprintf(text, sizeof text, "text %lld", (long long)value);
    uint64_t cell = vector->cells[row];
    switch (vector->type) {
        case IMV_INTEGER: return (int64_t)cell == value;
        case IMV_FLOAT: return cell == imv_float_cell((double)value / 4);
        default: return imv_str_equal(imv_cell_str(cell), (struct imv_str){text, (size_t)size});
    }
}

/* Reads the series and compares with the arrays. */
static void naive_holds(struct imv_series *series) {
    struct imv_snapshot *snapshot = take();
    struct imv_cursor *cursor;
    uint32_t columns[FIELDS], index = 0;
    for (int field = 0; field < FIELDS; field++) {
        columns[field] = imv_label_find_field(snapshot->catalog, series->label, imv_str_from(names[field]))->id;
    }
    ok(imv_cursor_new(snapshot, series->label, columns, FIELDS, NULL, &cursor, &err));
    ok(imv_cursor_seek(cursor, series, INT64_MIN, INT64_MAX, &err));
    for (const struct imv_rows *rows;;) {
        ok(imv_cursor_next(cursor, &rows, &err));
        if (rows->count == 0) break;
        for (size_t row = 0; row < rows->count; row++, index++) {
            while (index < TIMES && time_of(index) != rows->timestamps[row]) {
                cr_assert(!naive[index].has[0] && !naive[index].has[1] && !naive[index].has[2], "row %u", index);
                index++;
            }
            cr_assert_lt(index, TIMES);
            for (int field = 0; field < FIELDS; field++) {
                const struct imv_vector *vector = &rows->columns[field];
                cr_assert_eq(imv_vector_has(vector, row), naive[index].has[field], "row %u field %d", index, field);
                if (naive[index].has[field]) cr_assert(value_is(vector, row, naive[index].value[field]));
            }
        }
    }
    imv_cursor_free(cursor);
    imv_snapshot_release(snapshot);
}

/* Rows of a series in flushes: blocks in order, late rows, rows again, and rows with some of the fields. */
static void naive_write(struct imv_series *series, struct imv_prng *prng, int flushes, uint32_t *next, int64_t *value) {
    for (int i = 0; i < flushes; i++) {
        uint32_t count = 200 + (uint32_t)imv_prng_below(prng, 1200);
        for (uint32_t k = 0; k < count && *next < TIMES; k++) {
            bool late = *next > 0 && imv_prng_below(prng, 4) == 0;
            uint32_t index = late ? (uint32_t)imv_prng_below(prng, *next) : (*next)++;
            if (!late && imv_prng_below(prng, 20) == 0) continue;
            row_put(series, index, 1 + (unsigned)imv_prng_below(prng, 7), ++*value);
        }
        cr_assert(harness_settle(&harness));
        flush();
    }
}

Test(consolidate, any_rows_merge_as_plain_arrays_do, .init = simulated, .fini = simulated_end) {
    /* Late, repeated and partial rows of all kinds of fields, in many flushes and in parts that were consolidated
     * before: the newest value of each field stays, and chunks are full but for the last. */
    struct imv_prng prng;
    struct imv_series *series;
    uint32_t next = 0;
    int64_t value = 0;
    uint64_t seed = getenv("IMV_TEST_SEED") != NULL ? strtoull(getenv("IMV_TEST_SEED"), NULL, 10) : 5;
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    imv_prng_init(&prng, seed);
    ok(harness_open(&harness, &err));
    ok(imv_writer_make_series(harness.writer[0], IMV_STR("d"), IMV_STR("d"), NULL, 0, &series, &err));
    for (int round = 0; round < 4; round++) {
        naive_write(series, &prng, 6, &next, &value);
        naive_holds(series);
        consolidate();
        naive_holds(series);
    }
    struct imv_snapshot *snapshot = take();
    cr_assert_leq(snapshot->parts->count, 4, "one a round, or fewer");
    uint64_t rows = 0;
    for (size_t i = 0; i < snapshot->parts->count; i++) {
        const struct imv_part *part = snapshot->parts->items[i];
        cr_assert_eq(part->chunks, (part->rows + IMV_CHUNK_ROWS_MAX - 1) / IMV_CHUNK_ROWS_MAX);
        rows += part->rows;
    }
    cr_assert_gt(rows, IMV_CHUNK_ROWS_MAX);
    imv_snapshot_release(snapshot);
    open_again();
    ok(imv_writer_make_series(harness.writer[0], IMV_STR("d"), IMV_STR("d"), NULL, 0, &series, &err));
    naive_holds(series);
}

/* ---- precedence ---- */

Test(consolidate, the_output_keeps_the_place_of_its_inputs, .init = simulated, .fini = simulated_end) {
    /* Whichever neighbours of four generations of the same rows are rewritten, the newest of all still wins. */
    for (unsigned kept = 0; kept < 4; kept++) {
        harness.cold_ns = INT64_MAX;
        ok(harness_open(&harness, &err));
        for (int i = 0; i < 4; i++) {
            put_everywhere(0, 24);
            flush();
        }
        /* One generation cannot be read by consolidation: runs end there. */
        const struct imv_parts *parts = harness.engine->meta.parts;
        uint32_t generations[4] = {0}, found = 0;
        for (size_t i = 0; i < parts->count && found < 4; i++) {
            if (parts->items[i]->tier == IMV_TIER_FRESH && parts->items[i]->series_min == 0) {
                generations[found++] = parts->items[i]->generation;
            }
        }
        for (size_t i = 0; i < parts->count; i++) {
            parts->items[i]->unfit = parts->items[i]->generation == generations[kept];
        }
        harness.engine->options.cold_ns = HARNESS_SECOND;
        int64_t before = imv_metric_value(IMV_METRIC_consolidation_total);
        consolidate();
        cr_assert_gt(imv_metric_value(IMV_METRIC_consolidation_total), before);
        cr_assert(model_holds(&harness, &model, false));
        put_everywhere(3, 5);
        cr_assert(model_holds(&harness, &model, false));
        open_again();
        cr_assert(model_holds(&harness, &model, false));
        harness.engine->options.cold_ns = HARNESS_SECOND;
        consolidate();
        cr_assert(model_holds(&harness, &model, false));
        harness_close(&harness);
    }
}

/* ---- what happens meanwhile ---- */

/* Begins a job and does `steps` steps of it; false when there were no so many. */
static bool job_begin(int steps) {
    imv_manual_clock_advance(&harness.clock, 400 * HARNESS_SECOND);
    bool did_work;
    for (int i = 0; i < steps; i++) {
        ok(imv_consolidate_step(harness.engine, &did_work, &err));
        if (!did_work || harness.engine->consolidation == NULL) return false;
    }
    return true;
}

Test(consolidate, a_flush_in_the_middle_wins, .init = simulated, .fini = simulated_end) {
    /* Rows written over the ones being rewritten, and flushed before any step of the job, are the newer ones after
     * it. */
    int steps = 1;
    for (bool under_way = true; under_way; steps++) {
        ok(harness_open(&harness, &err));
        for (int i = 0; i < 2; i++) {
            put_everywhere(0, 40);
            flush();
        }
        under_way = job_begin(steps);
        put_everywhere(0, 40);
        flush();
        cr_assert(model_holds(&harness, &model, false));
        for (bool did_work = true; did_work;) ok(imv_consolidate_step(harness.engine, &did_work, &err));
        cr_assert(model_holds(&harness, &model, false));
        open_again();
        cr_assert(model_holds(&harness, &model, false));
        consolidate();
        cr_assert(model_holds(&harness, &model, false));
        harness_close(&harness);
    }
    cr_assert_geq(steps, 4, "a job has several steps");
}

/* The model forgets what lies below the horizon of a label. */
static void model_forget(uint32_t label, int64_t horizon) {
    for (uint32_t series = label; series < HARNESS_SERIES; series += 2) {
        for (uint32_t time = 0; time < HARNESS_TIMES; time++) {
            if (model_time(time) < horizon) memset(model.cells[series][time], 0, sizeof model.cells[series][time]);
        }
    }
}

Test(consolidate, what_retention_takes_in_the_middle_stays_gone, .init = simulated, .fini = simulated_end) {
    /* Inputs that retention retires before any step of the job do not come back, whether it ends or begins anew, and
     * all files go but those of the parts that are left. */
    int steps = 1;
    for (bool under_way = true; under_way; steps++) {
        ok(harness_open(&harness, &err));
        for (uint32_t label = 0; label < 2; label++) {
            char name[4];
            snprintf(name, sizeof name, "m%u", label);
            ok(imv_engine_set_retention(harness.engine, imv_str_from(name), 400 * HARNESS_DAY, &err));
        }
        for (int i = 0; i < 3; i++) {
            put_everywhere(0, 40);
            flush();
        }
        under_way = job_begin(steps);
        /* Everything of both labels is past before the third day, and an hour before it, as more time passes below. */
        int64_t horizon = model_time(2) - 3600 * HARNESS_SECOND;
        int64_t retention = imv_clock_wall_ns(&harness.clock.clock) - horizon;
        for (uint32_t label = 0; label < 2; label++) {
            char name[4];
            bool did_work;
            snprintf(name, sizeof name, "m%u", label);
            ok(imv_engine_set_retention(harness.engine, imv_str_from(name), retention, &err));
            ok(imv_engine_background_step(harness.engine, &did_work, &err));
            model_forget(label, horizon);
        }
        cr_assert(model_holds(&harness, &model, false));
        ok(harness_background(&harness, &err));
        cr_assert(model_holds(&harness, &model, false));
        struct imv_snapshot *snapshot = take();
        for (size_t i = 0; i < snapshot->parts->count; i++) {
            cr_assert_geq(snapshot->parts->items[i]->time_max, horizon);
        }
        cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), snapshot->parts->count);
        imv_snapshot_release(snapshot);
        open_again();
        cr_assert(model_holds(&harness, &model, false));
        consolidate();
        cr_assert(model_holds(&harness, &model, false));
        harness_close(&harness);
    }
}

Test(consolidate, a_job_that_is_left_undone_leaves_nothing, .init = simulated, .fini = simulated_end) {
    /* Closed, or cut off by a crash, before any step, the directory opens with the old parts or the new ones and no
     * other files. */
    for (int crash = 0; crash < 2; crash++) {
        int steps = 1;
        for (bool under_way = true; under_way; steps++) {
            ok(harness_open(&harness, &err));
            for (int i = 0; i < 2; i++) {
                put_everywhere(0, 40);
                flush();
            }
            under_way = job_begin(steps);
            if (crash == 1) {
                imv_sim_crash(harness.sim);
                imv_kv_memory_crash(harness.kv_memory);
            }
            open_again();
            struct imv_snapshot *snapshot = take();
            cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), snapshot->parts->count);
            imv_snapshot_release(snapshot);
            cr_assert(model_holds(&harness, &model, false));
            harness_close(&harness);
        }
    }
}

/* ---- failures ---- */

Test(consolidate, a_failure_anywhere_loses_nothing_and_is_tried_again, .init = simulated, .fini = simulated_end) {
    /* Whichever operation of the store fails, all rows stay readable and the next try, after its delay, succeeds; the
     * store then holds the files of the parts and no other. */
    for (uint64_t nth = 1; nth <= 16; nth++) {
        ok(harness_open(&harness, &err));
        for (int i = 0; i < 2; i++) {
            put_everywhere((uint32_t)nth * 2, 40);
            flush();
        }
        imv_manual_clock_advance(&harness.clock, 400 * HARNESS_SECOND);
        imv_kv_memory_arm(harness.kv_memory, imv_kv_memory_operations(harness.kv_memory) + nth, IMV_KV_MEMORY_FAIL);
        bool did_work = true;
        int failures = 0;
        while (did_work) failures += imv_consolidate_step(harness.engine, &did_work, &err) != IMV_OK;
        cr_assert_leq(failures, 1);
        cr_assert(model_holds(&harness, &model, false));
        imv_kv_memory_arm(harness.kv_memory, 0, IMV_KV_MEMORY_FAIL);
        consolidate();
        cr_assert_eq(harness.engine->consolidation, NULL);
        cr_assert(model_holds(&harness, &model, false));
        open_again();
        cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), parts_count(IMV_TIER_CONSOLIDATED), "nth %llu",
                     (unsigned long long)nth);
        cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS);
        cr_assert(model_holds(&harness, &model, false));
        harness_close(&harness);
    }
}

Test(consolidate, what_waits_for_the_store_holds_no_iterator, .init = simulated, .fini = simulated_end) {
    /* After a failed write the store is opened again, for which no iterator may be left: a job whose record failed has
     * none, and one that is still read gives way to a flush and is done later. */
    ok(harness_open(&harness, &err));
    for (int i = 0; i < 2; i++) {
        put_everywhere(0, 40);
        flush();
    }
    cr_assert(job_begin(1));
    cr_assert_gt(imv_kv_memory_iterators(harness.kv_memory), 0);
    imv_consolidate_give_way(harness.engine);
    cr_assert_eq(imv_kv_memory_iterators(harness.kv_memory), 0);
    cr_assert_null(harness.engine->consolidation);
    bool did_work;
    ok(imv_consolidate_step(harness.engine, &did_work, &err));
    cr_assert_not(did_work, "not before its delay");
    cr_assert(job_begin(1));
    while (imv_kv_memory_iterators(harness.kv_memory) > 0) {
        ok(imv_consolidate_step(harness.engine, &did_work, &err));
        cr_assert_not_null(harness.engine->consolidation, "it is recorded in a step of its own");
    }
    imv_kv_memory_arm(harness.kv_memory, imv_kv_memory_operations(harness.kv_memory) + 1, IMV_KV_MEMORY_FAIL);
    cr_assert_eq(imv_consolidate_step(harness.engine, &did_work, &err), IMV_IO);
    imv_consolidate_give_way(harness.engine);
    cr_assert_not_null(harness.engine->consolidation, "the store may hold its record");
    cr_assert_eq(imv_kv_memory_iterators(harness.kv_memory), 0);
    for (int i = 0; i < 2; i++) consolidate();
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS);
    cr_assert(model_holds(&harness, &model, false));
}

Test(consolidate, a_full_disk_is_waited_out, .init = simulated, .fini = simulated_end) {
    /* Nothing is begun that may not fit; when there is room again it is done. */
    ok(harness_open(&harness, &err));
    for (int i = 0; i < 2; i++) {
        put_everywhere(0, 40);
        flush();
    }
    imv_kv_memory_set_space(harness.kv_memory, 1000);
    imv_manual_clock_advance(&harness.clock, 400 * HARNESS_SECOND);
    bool did_work;
    cr_assert_eq(imv_consolidate_step(harness.engine, &did_work, &err), IMV_FULL);
    cr_assert_eq(harness.engine->consolidation, NULL);
    ok(imv_consolidate_step(harness.engine, &did_work, &err));
    cr_assert_not(did_work, "not before its delay");
    imv_kv_memory_set_space(harness.kv_memory, UINT64_MAX);
    consolidate();
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS);
    cr_assert(model_holds(&harness, &model, false));
}

/* Damages the first chunk of the oldest part, or repairs it. */
static void chunk_flip(const struct imv_part *part) {
    struct imv_kv_iterator *iterator;
    uint8_t prefix[IMV_PART_KEY_BYTES];
    struct imv_str key, value;
    size_t size;
    imv_part_prefix_put(prefix, part);
    ok(imv_kv_iterate(harness.engine->kv, IMV_KV_CHUNKS, &iterator, &err));
    imv_kv_seek(iterator, (struct imv_str){(char *)prefix, sizeof prefix});
    cr_assert(imv_kv_valid(iterator, &key, &value));
    uint8_t *bytes = imv_kv_memory_bytes(harness.kv_memory, IMV_KV_CHUNKS, key, &size);
    bytes[size / 2] ^= 1;
    imv_kv_iterator_free(iterator);
}

Test(consolidate, parts_that_cannot_be_read_are_left_and_others_are_not, .init = simulated, .fini = simulated_end) {
    /* A damaged chunk ends the consolidation of its day only, and no row of the day is dropped. */
    ok(harness_open(&harness, &err));
    for (int i = 0; i < 2; i++) {
        put_everywhere(0, 40);
        flush();
    }
    struct imv_snapshot *snapshot = take();
    const struct imv_part *damaged = snapshot->parts->items[0];
    chunk_flip(damaged);
    int failures = 0;
    for (int i = 0; i < 100; i++) {
        bool did_work;
        imv_manual_clock_advance(&harness.clock, 400 * HARNESS_SECOND);
        failures += imv_consolidate_step(harness.engine, &did_work, &err) != IMV_OK;
    }
    cr_assert_eq(failures, 1);
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS - 1);
    cr_assert_eq(parts_count(IMV_TIER_FRESH), 4);
    chunk_flip(damaged);
    imv_snapshot_release(snapshot);
    cr_assert(model_holds(&harness, &model, false));
    open_again();
    consolidate();
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS);
    cr_assert(model_holds(&harness, &model, false));
}

/* ---- scattered parts ---- */

static void days_put(struct imv_series *series, int64_t days, int64_t offset) {
    for (int64_t day = 0; day < days; day++) {
        ok(imv_writer_begin(harness.writer[0], series, 1, 0, &err));
        ok(imv_writer_field(harness.writer[0], IMV_STR("a"), IMV_INTEGER, (uint64_t)day, &err));
        ok(imv_writer_end(harness.writer[0], day * HARNESS_DAY + offset, &err));
    }
    cr_assert(harness_settle(&harness));
    flush();
}

Test(consolidate, shared_files_of_scattered_rows_are_freed, .init = simulated, .fini = simulated_end) {
    /* Two scattered flushes over the same days are merged day by day, and their files go. One alone stays as it is
     * until half of its days are gone. */
    enum { DAYS = 40 };
    struct imv_series *series;
    ok(harness_open(&harness, &err));
    ok(imv_writer_make_series(harness.writer[0], IMV_STR("d"), IMV_STR("d"), NULL, 0, &series, &err));
    days_put(series, DAYS, 0);
    consolidate();
    cr_assert_eq(parts_count(IMV_TIER_SCATTERED), DAYS);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), 1);
    days_put(series, DAYS / 2 - 1, HARNESS_SECOND);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), 2);
    consolidate();
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), DAYS / 2 - 1);
    cr_assert_eq(parts_count(IMV_TIER_SCATTERED), DAYS / 2 + 1);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), DAYS / 2);
    cr_assert_eq(part_rows(), DAYS + DAYS / 2 - 1);
    open_again(); /* the file's dead parts are counted again */
    ok(imv_writer_make_series(harness.writer[0], IMV_STR("d"), IMV_STR("d"), NULL, 0, &series, &err));
    days_put(series, DAYS / 2 + 1, 2 * HARNESS_SECOND);
    consolidate();
    consolidate();
    cr_assert_eq(parts_count(IMV_TIER_SCATTERED), 0);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory),
                 parts_count(IMV_TIER_FRESH) + parts_count(IMV_TIER_CONSOLIDATED));
    cr_assert_eq(part_rows(), DAYS + DAYS / 2 - 1 + DAYS / 2 + 1);
}

/* ---- deletions ---- */

/* Deletes the rows of the first `days` days of all series of a label, and waits for it. */
static void delete_days(uint32_t label, uint32_t days) {
    struct model_deletion deletion = {0};
    int64_t from = model_time(0) - model_time(0) % HARNESS_DAY;
    ok(model_delete(&harness, &model, &deletion, label, NULL, from, from + days * HARNESS_DAY - 1, &err));
    cr_assert(harness_settle(&harness));
    ok(imv_engine_delete_wait(harness.engine, deletion.request, 0, &err));
    model_delete_end(&model, &deletion, true);
}

static uint64_t rows_in_model(void) {
    uint64_t rows = 0;
    struct imv_snapshot *snapshot = take();
    struct model_view *view = malloc(sizeof *view);
    ok(model_read(snapshot, view, &err));
    for (uint32_t s = 0; s < HARNESS_SERIES; s++) {
        for (uint32_t t = 0; t < HARNESS_TIMES; t++) rows += view->present[s][t][0] || view->present[s][t][1];
    }
    free(view);
    imv_snapshot_release(snapshot);
    return rows;
}

static size_t tombstones_count(void) {
    size_t count = 0;
    for (uint32_t i = 0; i < harness.shards; i++) {
        const struct imv_deletions *deletions = harness.engine->shards[i].deletions;
        if (deletions != NULL) count += deletions->count;
    }
    return count;
}

Test(consolidate, deleted_rows_leave_the_parts_and_tombstones_go, .init = simulated, .fini = simulated_end) {
    /* A part of which a deletion hides much is rewritten without those rows, even when it is alone in its slot; then
     * the tombstone is not needed any more. What was written after the deletion stays. */
    ok(harness_open(&harness, &err));
    put_everywhere(0, 40);
    flush();
    consolidate();
    delete_days(0, 2);
    cr_assert_gt(tombstones_count(), 0);
    put_everywhere(4, 8);
    cr_assert(model_holds(&harness, &model, false));
    flush();
    cr_assert(model_holds(&harness, &model, false));
    for (int i = 0; i < 4; i++) consolidate();
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(part_rows(), rows_in_model());
    cr_assert_eq(tombstones_count(), 0);
    open_again();
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(tombstones_count(), 0);
    /* Everything; the next flush, of other rows, gives the tombstones their generation. */
    delete_days(0, HARNESS_DAYS);
    delete_days(1, HARNESS_DAYS);
    put_everywhere(0, 1);
    flush();
    for (int i = 0; i < 4; i++) consolidate();
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(part_rows(), HARNESS_SERIES);
    cr_assert_eq(tombstones_count(), 0);
}

Test(consolidate, a_record_that_failed_is_taken_back_when_inputs_are_gone, .init = simulated, .fini = simulated_end) {
    /* When retention retires the inputs of a job whose record failed, so that the store may hold it or not, their rows
     * do not come back, also when retention is made longer again: tombstones of deleted ones among them may be gone. */
    bool did_work;
    int64_t horizon = model_time(1) - model_time(1) % HARNESS_DAY;
    ok(harness_open(&harness, &err));
    for (int i = 0; i < 2; i++) {
        put_everywhere(0, 40);
        flush();
    }
    cr_assert(job_begin(1));
    while (imv_kv_memory_iterators(harness.kv_memory) > 0) ok(imv_consolidate_step(harness.engine, &did_work, &err));
    imv_kv_memory_arm(harness.kv_memory, imv_kv_memory_operations(harness.kv_memory) + 1, IMV_KV_MEMORY_FAIL);
    cr_assert_eq(imv_consolidate_step(harness.engine, &did_work, &err), IMV_IO);
    delete_days(0, 1);
    flush();
    cr_assert_gt(tombstones_count(), 0);
    int64_t retentions_ns[] = {imv_clock_wall_ns(&harness.clock.clock) - horizon, 0};
    for (int i = 0; i < 2; i++) {
        ok(imv_engine_set_retention(harness.engine, IMV_STR("m0"), retentions_ns[i], &err));
        ok(imv_engine_set_retention(harness.engine, IMV_STR("m1"), retentions_ns[i], &err));
        ok(imv_retention_step(harness.engine, &did_work, &err));
    }
    cr_assert_eq(tombstones_count(), 0);
    for (uint32_t label = 0; label < 2; label++) model_forget(label, horizon);
    cr_assert(model_holds(&harness, &model, false));
    for (int i = 0; i < 3; i++) consolidate();
    cr_assert(model_holds(&harness, &model, false));
    cr_assert_eq(parts_count(IMV_TIER_CONSOLIDATED), HARNESS_DAYS - 1);
    cr_assert_eq(imv_kv_memory_tables(harness.kv_memory), HARNESS_DAYS - 1);
    open_again();
    cr_assert(model_holds(&harness, &model, false));
}

Test(consolidate, a_deletion_in_the_middle_holds, .init = simulated, .fini = simulated_end) {
    /* Rows deleted before any step of a job are gone after it, and what is written after the deletion is not. */
    int steps = 1;
    for (bool under_way = true; under_way; steps++) {
        ok(harness_open(&harness, &err));
        for (int i = 0; i < 2; i++) {
            put_everywhere(0, 40);
            flush();
        }
        under_way = job_begin(steps);
        delete_days(0, 3);
        cr_assert(model_holds(&harness, &model, false));
        put_everywhere(1, 6);
        if (steps % 2 == 0) flush();
        for (bool did_work = true; did_work;) ok(imv_consolidate_step(harness.engine, &did_work, &err));
        cr_assert(model_holds(&harness, &model, false));
        flush();
        cr_assert(model_holds(&harness, &model, false));
        open_again();
        for (int i = 0; i < 3; i++) consolidate();
        cr_assert(model_holds(&harness, &model, false));
        harness_close(&harness);
    }
}

/* ---- series that end ---- */

Test(consolidate, writers_do_not_pause_for_a_job, .init = simulated, .fini = simulated_end) {
    /* Removing ended series, for which writers pause until no snapshot is held, waits for a job to end, and a job does
     * not begin in the pause. */
    ok(harness_open(&harness, &err));
    for (int i = 0; i < 2; i++) {
        put_everywhere(0, 40);
        flush();
    }
    struct imv_engine *engine = harness.engine;
    engine->ended.phase = IMV_ENDED_PAUSING;
    cr_assert_not(job_begin(1));
    engine->ended.phase = IMV_ENDED_TAKEN;
    cr_assert(job_begin(1));
    bool did_work;
    ok(imv_retention_step(engine, &did_work, &err));
    cr_assert_eq(engine->ended.phase, IMV_ENDED_TAKEN);
    while (engine->consolidation != NULL) ok(imv_consolidate_step(engine, &did_work, &err));
    ok(imv_retention_step(engine, &did_work, &err));
    cr_assert_eq(engine->ended.phase, IMV_ENDED_PAUSING);
    consolidate();
    cr_assert(model_holds(&harness, &model, false));
}
