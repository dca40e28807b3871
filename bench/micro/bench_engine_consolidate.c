/* bench_engine_consolidate - what consolidation costs and what it is good for.
 *
 *     bench_engine_consolidate [series] [late per cent]
 *
 * A day of rows of ten integers in 0..100, walking, every 10 s, of `series` series (default 400), flushed hourly on two
 * shards; of the rows a part (default 0) comes up to some hours late. Then the day is consolidated, step by step, and
 * read before and after: whole, and an hour of each series.
 *
 * Expected: a value is decoded once, copied and encoded once: about 15 ns, so 60 million values a second; the longest
 * step is one that syncs a table. Written bytes: 1 for the flush, and 0.23 / 0.28 for chunks of 8,192 rows after 360.
 */
#include "engine/consolidate.h"
#include "engine/cursor.h"
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/shard.h"
#include "storage/base/assert.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { FIELDS = 10, SHARDS = 2, STEPS = 8640, HOUR_STEPS = 360 };
#define SECOND INT64_C(1000000000)

static struct imv_engine *engine;
static struct imv_io *io[SHARDS];
static struct imv_shard *shards[SHARDS];
static struct imv_writer *writer;
static struct imv_series **series;
static uint32_t series_count = 400, late_per_cent;
static int (*walks)[FIELDS];
static struct imv_prng prng;

static int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * SECOND + now.tv_nsec;
}

static void must(imv_status status, const struct imv_error *err) {
    if (status == IMV_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static void turn(void) {
    imv_writer_send(writer);
    for (int i = 0; i < SHARDS; i++) {
        imv_shard_run(shards[i]);
        imv_io_poll(io[i], false);
        imv_shard_run(shards[i]);
    }
}

static void engine_open(const char *directory) {
    struct imv_engine_options options;
    struct imv_error err;
    imv_engine_options_init(&options, directory);
    options.shards = SHARDS;
    options.background = false;
    options.cold_ns = 1;
    must(imv_engine_open(&options, &engine, &err), &err);
    for (uint32_t i = 0; i < SHARDS; i++) {
        must(imv_io_sys_new(&io[i], &err), &err);
        must(imv_shard_open(engine, i, io[i], &shards[i], &err), &err);
    }
    must(imv_writer_new(engine, 0, &writer, &err), &err);
}

static void engine_close(void) {
    imv_writer_free(writer);
    for (int i = 0; i < SHARDS; i++) imv_shard_close(shards[i]);
    imv_engine_close(engine);
    for (int i = 0; i < SHARDS; i++) imv_io_free(io[i]);
}

static void series_make(void) {
    struct imv_error err;
    series = calloc(series_count, sizeof *series);
    walks = calloc(series_count, sizeof *walks);
    imv_assert(series != NULL && walks != NULL);
    for (uint32_t i = 0; i < series_count; i++) {
        char host[32];
        snprintf(host, sizeof host, "host_%u", i);
        struct imv_tag tag = {IMV_STR("hostname"), imv_str_from(host)};
        must(imv_writer_make_series(writer, imv_str_from(host), IMV_STR("cpu"), &tag, 1, &series[i], &err), &err);
        for (int f = 0; f < FIELDS; f++) walks[i][f] = (int)imv_prng_below(&prng, 101);
    }
}

static void row_put(uint32_t host, uint32_t step) {
    static const char *const names[FIELDS] = {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"};
    struct imv_error err;
    must(imv_writer_begin(writer, series[host], FIELDS, 0, &err), &err);
    uint64_t bits = imv_prng_next(&prng);
    for (int f = 0; f < FIELDS; f++, bits >>= 2) {
        int *walk = &walks[host][f];
        *walk += (int)(bits % 4 % 3) - 1;
        *walk = *walk < 0 ? 0 : *walk > 100 ? 100 : *walk;
        must(imv_writer_field(writer, imv_str_from(names[f]), IMV_INTEGER, (uint64_t)*walk, &err), &err);
    }
    must(imv_writer_end(writer, step * 10 * SECOND, &err), &err);
}

/* The rows that arrive in an hour: those of it but for what is late, and what was late before. */
static void hour_write(uint32_t hour) {
    static const uint32_t delay_hours[4] = {1, 2, 5, 9};
    for (uint32_t step = hour * HOUR_STEPS; step < (hour + 1) * HOUR_STEPS; step++) {
        for (uint32_t host = 0; host < series_count; host++) {
            if (step * 7919 % 100 >= late_per_cent) row_put(host, step);
            uint32_t delay = delay_hours[step % 4] * HOUR_STEPS;
            if (step >= delay && (step - delay) * 7919 % 100 < late_per_cent) row_put(host, step - delay);
        }
        do { turn(); } while (!imv_writer_has_room(writer));
    }
}

static void hour_flush(void) {
    struct imv_error err;
    bool did_work;
    while (imv_shard_busy(shards[0]) || imv_shard_busy(shards[1])) turn();
    imv_engine_flush_begin(engine);
    engine->consolidate_at_ns = INT64_MAX;
    while (!imv_engine_flushed(engine)) {
        turn();
        must(imv_engine_background_step(engine, &did_work, &err), &err);
    }
}

/* Reads a range of every series, all columns. */
static void read_all(const char *what, int64_t from, int64_t last) {
    struct imv_error err;
    struct imv_snapshot *snapshot;
    struct imv_cursor *cursor;
    uint32_t columns[FIELDS];
    for (uint32_t f = 0; f < FIELDS; f++) columns[f] = f;
    must(imv_snapshot_take(engine, &snapshot, &err), &err);
    for (int round = 0; round < 2; round++) {
        uint64_t rows_count = 0;
        int64_t begun = now_ns(CLOCK_THREAD_CPUTIME_ID);
        must(imv_cursor_new(snapshot, series[0]->label, columns, FIELDS, NULL, &cursor, &err), &err);
        for (uint32_t i = 0; i < series_count; i++) {
            const struct imv_rows *rows;
            must(imv_cursor_seek(cursor, series[i], from, last, &err), &err);
            do {
                must(imv_cursor_next(cursor, &rows, &err), &err);
                rows_count += rows->count;
            } while (rows->count > 0);
        }
        imv_cursor_free(cursor);
        double seconds = (double)(now_ns(CLOCK_THREAD_CPUTIME_ID) - begun) / 1e9;
        if (round == 1) {
            printf("%s: %zu parts, %llu rows, %.2f ns a value, %.1f us a series\n", what, snapshot->parts->count,
                   (unsigned long long)rows_count, seconds * 1e9 / (double)rows_count / FIELDS,
                   seconds * 1e6 / series_count);
        }
    }
    imv_snapshot_release(snapshot);
}

static void consolidate(void) {
    struct imv_error err;
    int64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID), begun = now_ns(CLOCK_MONOTONIC), longest = 0, steps = 0;
    engine->consolidate_at_ns = 0;
    for (bool did_work = true; did_work; steps++) {
        int64_t step = now_ns(CLOCK_MONOTONIC);
        must(imv_consolidate_step(engine, &did_work, &err), &err);
        step = now_ns(CLOCK_MONOTONIC) - step;
        if (step > longest) longest = step;
    }
    double seconds = (double)(now_ns(CLOCK_MONOTONIC) - begun) / 1e9;
    cpu = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    double values = (double)series_count * STEPS * FIELDS;
    double flushed = (double)imv_metric_value(IMV_METRIC_flush_bytes_total);
    double written = (double)imv_metric_value(IMV_METRIC_consolidation_bytes_total);
    printf("consolidation: %.2f s, %.1f million values a second of CPU, %lld steps, longest %.1f ms\n", seconds,
           values * 1e3 / (double)cpu, (long long)steps, (double)longest / 1e6);
    printf("bytes a value: %.3f flushed, %.3f consolidated; write amplification %.2f\n", flushed / values,
           written / values, (flushed + written) / flushed);
}

int main(int argc, char **argv) {
    char directory[] = "/tmp/bench_engine_consolidate.XXXXXX", command[64];
    if (argc > 1) series_count = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2) late_per_cent = (uint32_t)strtoul(argv[2], NULL, 10);
    if (mkdtemp(directory) == NULL) return 1;
    imv_log_set_level(IMV_LOG_ERROR);
    imv_prng_init(&prng, 1);
    engine_open(directory);
    series_make();
    int64_t begun = now_ns(CLOCK_MONOTONIC);
    for (uint32_t hour = 0; hour < 24; hour++) {
        hour_write(hour);
        hour_flush();
    }
    printf("written in %.1f s\n", (double)(now_ns(CLOCK_MONOTONIC) - begun) / 1e9);
    read_all("a day, flushed", INT64_MIN, INT64_MAX);
    read_all("an hour, flushed", 12 * 3600 * SECOND, 13 * 3600 * SECOND - 1);
    consolidate();
    read_all("a day, consolidated", INT64_MIN, INT64_MAX);
    read_all("an hour, consolidated", 12 * 3600 * SECOND, 13 * 3600 * SECOND - 1);
    engine_close();
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}
