/* Threads as in the server: one per shard with a writer of its own, the engine's background thread, readers that take
 * snapshots. Meant for the thread sanitizer, and for whatever order the machine happens to choose. */
#include "engine/cursor.h"
#include "engine/engine.h"
#include "engine/shard.h"
#include "storage/base/log.h"
#include "tests/support/kv_memory.h"
#include "tests/support/program.h"
#include "tests/support/threaded.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SHARDS = 2, SERIES = 6, ROWS = 1500, READERS = 2 };

static struct imv_engine *engine;
static char directory[256];
static _Atomic uint32_t acknowledged[SHARDS][SERIES]; /* rows 0..n-1 of that writer's series are durable */
static _Atomic uint32_t deleted[SHARDS][SERIES];      /* rows 0..n-1 are gone for good */
static _Atomic uint32_t writers_done;
static _Atomic bool stop;

/* One turn of a shard's loop. A real one sleeps until it is woken; to yield is enough here. */
static void turn(struct imv_shard *shard, struct imv_writer *writer, struct imv_io *io) {
    imv_writer_send(writer);
    imv_shard_run(shard);
    imv_io_poll(io, false);
    imv_shard_run(shard);
    sched_yield();
}

static void write_row(struct imv_writer *writer, uint32_t shard, uint32_t index, uint32_t row) {
    char raw[32], tag[16];
    snprintf(tag, sizeof tag, "%u-%u", shard, index);
    snprintf(raw, sizeof raw, "t,s=%s", tag);
    struct imv_series *series = imv_writer_find_series(writer, imv_str_from(raw));
    if (series == NULL) {
        struct imv_tag tags = {IMV_STR("s"), imv_str_from(tag)};
        cr_assert_eq(imv_writer_make_series(writer, imv_str_from(raw), IMV_STR("t"), &tags, 1, &series, NULL), IMV_OK);
    }
    cr_assert_eq(imv_writer_begin(writer, series, 2, 0, NULL), IMV_OK);
    cr_assert_eq(imv_writer_field(writer, IMV_STR("row"), IMV_INTEGER, row, NULL), IMV_OK);
    if (row % 3 == 0) {
        cr_assert_eq(imv_writer_field(writer, IMV_STR("half"), IMV_FLOAT, imv_float_cell(row * 0.5), NULL), IMV_OK);
    }
    /* A row every hour: the rows of a series lie on 63 days, all over and cold as soon as they are written. */
    cr_assert_eq(imv_writer_end(writer, (int64_t)row * 3600 * 1000000000, NULL), IMV_OK);
}

static void *shard_main(void *argument) {
    uint32_t index = (uint32_t)(uintptr_t)argument;
    struct imv_io *io;
    struct imv_shard *shard;
    struct imv_writer *writer;
    cr_assert_eq(imv_io_sys_new(&io, NULL), IMV_OK);
    cr_assert_eq(imv_shard_open(engine, index, io, &shard, NULL), IMV_OK);
    cr_assert_eq(imv_writer_new(engine, index, &writer, NULL), IMV_OK);
    while (!imv_engine_recovered(engine)) sched_yield();
    for (uint32_t row = 0; row < ROWS; row += 20) {
        for (uint32_t series = 0; series < SERIES; series++) {
            for (uint32_t i = row; i < row + 20; i++) write_row(writer, index, series, i);
        }
        uint64_t marks[SHARDS];
        imv_writer_mark(writer, marks);
        imv_status status;
        do {
            turn(shard, writer, io);
            status = imv_writer_check(writer, marks, NULL);
        } while (status == IMV_BUSY);
        cr_assert_eq(status, IMV_OK);
        for (uint32_t series = 0; series < SERIES; series++) {
            atomic_store_explicit(&acknowledged[index][series], row + 20, memory_order_release);
        }
    }
    atomic_fetch_add(&writers_done, 1);
    while (!atomic_load(&stop)) turn(shard, writer, io);
    imv_writer_free(writer);
    imv_shard_close(shard);
    imv_io_free(io);
    return NULL;
}

/* Reads one series whole: rows without a gap, from one that is not deleted on, to the last that was acknowledged at
 * least. */
static void read_series(struct imv_cursor *cursor, struct imv_series *series, uint32_t from, uint32_t at_least) {
    uint32_t count = UINT32_MAX;
    const struct imv_rows *rows;
    cr_assert_eq(imv_cursor_seek(cursor, series, INT64_MIN, INT64_MAX, NULL), IMV_OK);
    do {
        cr_assert_eq(imv_cursor_next(cursor, &rows, NULL), IMV_OK);
        for (size_t i = 0; i < rows->count; i++, count++) {
            if (count == UINT32_MAX) count = (uint32_t)rows->columns[0].cells[i];
            cr_assert_geq(count, from);
            cr_assert_eq(rows->timestamps[i], (int64_t)count * 3600 * 1000000000);
            cr_assert_eq(rows->columns[0].cells[i], count);
        }
    } while (rows->count > 0);
    cr_assert(at_least == 0 || (count != UINT32_MAX && count >= at_least));
}

/* Deletes the older half of what is acknowledged of a series. */
static void delete_half(uint32_t shard, uint32_t index) {
    struct imv_catalog *catalog = imv_engine_catalog(engine);
    struct imv_label *label = imv_catalog_find_label(catalog, IMV_STR("t"));
    uint32_t rows = atomic_load(&acknowledged[shard][index]) / 2;
    if (label == NULL || rows == 0) return;
    char text[16];
    snprintf(text, sizeof text, "%u-%u", shard, index);
    struct imv_str value = imv_str_from(text);
    struct imv_tag_selector selector = {.kind = IMV_TAG_IN, .key = IMV_STR("s"), .values = &value, .values_count = 1};
    struct imv_series **series;
    size_t count;
    struct imv_error err;
    cr_assert_eq(imv_catalog_select(catalog, label, &selector, NULL, &series, &count, NULL), IMV_OK);
    struct imv_deletion deletion = {.label = label,
                                    .series = series,
                                    .series_count = count,
                                    .from = INT64_MIN,
                                    .last = (int64_t)(rows - 1) * 3600 * 1000000000};
    cr_assert_eq(imv_engine_delete(engine, &deletion, INT64_C(30) * 1000000000, &err), IMV_OK, "%s", err.message);
    atomic_store(&deleted[shard][index], rows);
    free(series);
}

static void read_all(void) {
    uint32_t at_least[SHARDS][SERIES], from[SHARDS][SERIES];
    for (uint32_t i = 0; i < SHARDS * SERIES; i++) {
        from[i / SERIES][i % SERIES] = atomic_load(&deleted[i / SERIES][i % SERIES]);
        at_least[i / SERIES][i % SERIES] =
            atomic_load_explicit(&acknowledged[i / SERIES][i % SERIES], memory_order_acquire);
    }
    struct imv_snapshot *snapshot;
    cr_assert_eq(imv_snapshot_take(engine, &snapshot, NULL), IMV_OK);
    struct imv_label *label = imv_catalog_find_label(imv_engine_catalog(engine), IMV_STR("t"));
    const struct imv_field *field =
        label == NULL ? NULL : imv_label_find_field(imv_engine_catalog(engine), label, IMV_STR("row"));
    if (field != NULL) {
        struct imv_cursor *cursor;
        struct imv_series **series;
        size_t count, expected = 0;
        cr_assert_eq(imv_catalog_select(snapshot->catalog, label, NULL, snapshot->sequences, &series, &count, NULL),
                     IMV_OK);
        cr_assert_eq(imv_cursor_new(snapshot, label, &field->id, 1, NULL, &cursor, NULL), IMV_OK);
        for (uint32_t i = 0; i < SHARDS * SERIES; i++) expected += at_least[i / SERIES][i % SERIES] > 0;
        cr_assert_geq(count, expected);
        for (size_t i = 0; i < count; i++) {
            struct imv_str tag;
            cr_assert(imv_series_tag(series[i], IMV_STR("s"), &tag));
            int shard = tag.data[0] - '0', index = tag.data[2] - '0';
            read_series(cursor, series[i], from[shard][index], at_least[shard][index]);
        }
        imv_cursor_free(cursor);
        free(series);
    }
    imv_snapshot_release(snapshot);
}

static void *reader_main(void *argument) {
    (void)argument;
    while (!atomic_load(&stop)) {
        read_all();
        sched_yield();
    }
    return NULL;
}

static void open_engine(struct imv_kv *kv, bool background) {
    struct imv_engine_options options;
    imv_engine_options_init(&options, directory);
    options.shards = SHARDS;
    options.wal_segment_bytes = 64 << 10;
    options.wal_bytes_max = 256 << 10;
    options.background = background;
    options.cold_ns = 1;
    options.kv = kv;
    struct imv_error err;
    cr_assert_eq(imv_engine_open(&options, &engine, &err), IMV_OK, "%s", err.message);
}

/* Writes, reads, deletes and flushes at once; with a kv of its own the store is in memory. */
static void run(struct imv_kv *kv) {
    pthread_t shards[SHARDS], readers[READERS];
    open_engine(kv, true);
    for (uintptr_t i = 0; i < SHARDS; i++) { cr_assert_eq(pthread_create(&shards[i], NULL, shard_main, (void *)i), 0); }
    while (!imv_engine_recovered(engine)) sched_yield();
    for (int i = 0; i < READERS; i++) cr_assert_eq(pthread_create(&readers[i], NULL, reader_main, NULL), 0);
    for (uint32_t turn = 0; atomic_load(&writers_done) < SHARDS; turn++) {
        delete_half(turn % SHARDS, turn / SHARDS % SERIES);
        struct imv_error err;
        cr_assert_eq(imv_engine_flush(engine, INT64_C(30) * 1000000000, &err), IMV_OK, "%s", err.message);
        cr_assert_eq(imv_engine_set_retention(engine, IMV_STR("other"), 1000, &err), IMV_OK, "%s", err.message);
        usleep(2000);
    }
    cr_assert_eq(imv_engine_flush(engine, INT64_C(30) * 1000000000, NULL), IMV_OK);
    read_all();
    atomic_store(&stop, true);
    for (int i = 0; i < SHARDS; i++) pthread_join(shards[i], NULL);
    for (int i = 0; i < READERS; i++) pthread_join(readers[i], NULL);
    imv_engine_close(engine);
}

static void fresh(void) {
    imv_log_set_level(IMV_LOG_WARN);
    test_directory(directory, sizeof directory, "threads");
}

static void remove_directory(void) { test_directory_remove(directory); }

Test(engine_threads, shards_readers_and_flushes_agree, .init = fresh, .fini = remove_directory) {
    /* While rows are written, flushed, deleted and read by different threads, every snapshot shows each series without
     * a gap, with all rows that were acknowledged and none that were deleted before it was taken. */
    struct imv_kv_memory *memory;
    struct imv_kv *kv;
    cr_assert_eq(imv_kv_memory_new(1, &memory, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(memory, &kv, NULL), IMV_OK);
    run(kv);
    imv_kv_memory_free(memory);
}

#if !defined(__SANITIZE_THREAD__) /* RocksDB is not built for it */
Test(engine_threads, the_same_on_the_real_store, .init = fresh, .fini = remove_directory) {
    /* The same on RocksDB. */
    run(NULL);
}
#endif
