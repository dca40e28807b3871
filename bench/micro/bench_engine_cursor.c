/* Scans series through cursors: from heads, and from chunks in RocksDB, as a dashboard does (a window of one column of
 * every series) and as an export does (all columns, all parts); and asks for current values.
 *
 * 4,000 series of ten float columns, 600 rows each in every source: one head, or four parts of one slot.
 * Estimate for a window of one column from one chunk: a warm seek 4 us, checks of header and two columns 0.5 us, two
 * decodes of 600 values 1 us: about 6 us a series, 100 M values/s.
 */
#include "engine/cursor.h"
#include "engine/head.h"
#include "storage/base/clock.h"
#include "storage/base/prng.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { FIELDS = 10, SERIES = 4000, ROWS = 600, PARTS = 4, LABEL = 1 };

#define STEP_NS INT64_C(6000000000)

static struct imv_field fields[FIELDS];
static struct imv_field *pointers[FIELDS];
static struct imv_label label;
static struct imv_series series[SERIES];
static struct imv_part parts_made[PARTS];
static double values[SERIES][FIELDS];
static struct imv_prng prng;

static void must(imv_status status, const struct imv_error *err) {
    if (status == IMV_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static double now_ns(void) { return (double)imv_clock_monotonic_ns(imv_clock_system()); }

static void make_label(void) {
    for (uint32_t i = 0; i < FIELDS; i++) {
        fields[i] = (struct imv_field){IMV_STR("field"), i, IMV_FLOAT};
        pointers[i] = &fields[i];
    }
    label = (struct imv_label){.id = LABEL, .name = IMV_STR("cpu")};
    label.fields = pointers;
    label.fields_count = FIELDS;
    for (uint32_t i = 0; i < SERIES; i++) series[i] = (struct imv_series){.label = &label, .index = i};
    imv_prng_init(&prng, 1);
}

/* A random walk over whole percents, as a processor's load is reported. */
static uint64_t next_cell(size_t which, size_t field) {
    double value = values[which][field] + (double)imv_prng_below(&prng, 3) - 1;
    if (value < 0 || value > 100) value = 50;
    values[which][field] = value;
    return imv_float_cell(value);
}

static struct imv_head *fill_head(void) {
    struct imv_error err;
    struct imv_shape *shape = calloc(1, sizeof *shape + FIELDS * sizeof shape->fields[0]);
    struct imv_row *row = calloc(1, sizeof *row + FIELDS * sizeof row->cells[0]);
    struct imv_head *head;
    if (shape == NULL || row == NULL) abort();
    shape->label = &label;
    shape->count = FIELDS;
    for (uint32_t i = 0; i < FIELDS; i++) shape->fields[i] = &fields[i];
    must(imv_head_new(0, 1, 0, NULL, &head, &err), &err);
    row->shape = shape;
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t s = 0; s < SERIES; s++) {
            row->series = &series[s];
            row->timestamp = (int64_t)r * STEP_NS;
            for (size_t f = 0; f < FIELDS; f++) row->cells[f] = next_cell(s, f);
            must(imv_head_append(head, row, 1, &err), &err);
        }
    }
    free(shape);
    free(row);
    return head;
}

static size_t put_chunk(struct imv_kv_table *table, const struct imv_part *part, size_t which) {
    static int64_t timestamps[ROWS];
    static uint64_t cells[FIELDS][ROWS];
    struct imv_error err;
    struct imv_chunk_column columns[FIELDS];
    for (size_t r = 0; r < ROWS; r++) {
        timestamps[r] = part->time_min + (int64_t)r * STEP_NS;
        for (size_t f = 0; f < FIELDS; f++) cells[f][r] = next_cell(which, f);
    }
    for (uint32_t f = 0; f < FIELDS; f++) columns[f] = (struct imv_chunk_column){f, {IMV_FLOAT, cells[f], NULL}};
    struct imv_chunk_id id = {LABEL, imv_series_id(&series[which]), timestamps[0]};
    struct imv_buffer value;
    imv_buffer_init(&value, 1 << 20);
    must(imv_chunk_encode(&id, timestamps, ROWS, columns, FIELDS, &value, &err), &err);
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    imv_chunk_key_put(key, part, LABEL, id.series, id.start);
    must(imv_kv_table_put(table, (struct imv_str){(char *)key, sizeof key}, imv_buffer_view(&value), &err), &err);
    size_t size = value.size;
    imv_buffer_release(&value);
    return size;
}

static struct imv_parts *fill_parts(struct imv_kv *kv) {
    struct imv_error err;
    struct imv_parts *parts = calloc(1, sizeof *parts + PARTS * sizeof parts->items[0]);
    size_t bytes = 0;
    double start = now_ns();
    if (parts == NULL) abort();
    parts->count = PARTS;
    for (uint32_t p = 0; p < PARTS; p++) {
        struct imv_part *part = parts->items[p] = &parts_made[p];
        int64_t begin = (int64_t)p * ROWS * STEP_NS;
        *part = (struct imv_part){.slot = imv_slot_of(0),
                                  .generation = p + 1,
                                  .label_min = LABEL,
                                  .label_max = LABEL,
                                  .series_max = UINT64_MAX};
        part->time_min = begin;
        part->time_max = begin + (ROWS - 1) * STEP_NS;
        struct imv_kv_table *table;
        uint64_t file_bytes;
        must(imv_kv_table_new(kv, &table, &err), &err);
        for (size_t s = 0; s < SERIES; s++) bytes += put_chunk(table, part, s);
        must(imv_kv_table_finish(table, &file_bytes, &err), &err);
        must(imv_kv_ingest(kv, &table, 1, &err), &err);
        imv_kv_table_free(table);
    }
    double chunks = SERIES * PARTS;
    printf("write   %d parts of %d chunks, %.0f bytes each: %.1f us/chunk\n", PARTS, SERIES, (double)bytes / chunks,
           (now_ns() - start) / chunks / 1e3);
    return parts;
}

static void scan(const char *what, struct imv_snapshot *snapshot, size_t columns_count, int64_t from, int64_t last) {
    static const uint32_t columns[FIELDS] = {3, 0, 1, 2, 4, 5, 6, 7, 8, 9};
    struct imv_error err;
    struct imv_cursor *cursor;
    double best = 0;
    size_t rows_count = 0;
    for (int round = 0; round < 3; round++) {
        double start = now_ns();
        rows_count = 0;
        must(imv_cursor_new(snapshot, &label, columns, columns_count, NULL, &cursor, &err), &err);
        for (size_t s = 0; s < SERIES; s++) {
            const struct imv_rows *rows;
            must(imv_cursor_seek(cursor, &series[s], from, last, &err), &err);
            do {
                must(imv_cursor_next(cursor, &rows, &err), &err);
                rows_count += rows->count;
            } while (rows->count > 0);
        }
        imv_cursor_free(cursor);
        double elapsed = now_ns() - start;
        if (round == 0 || elapsed < best) best = elapsed;
    }
    double cells = (double)(rows_count * columns_count);
    printf("%-40s %6.2f us/series %8.1f M rows/s %8.1f M values/s\n", what, best / SERIES / 1e3,
           (double)rows_count / best * 1e3, cells / best * 1e3);
}

static void newest(const char *what, struct imv_snapshot *snapshot) {
    static const uint32_t column = 3;
    struct imv_error err;
    struct imv_cursor *cursor;
    must(imv_cursor_new(snapshot, &label, &column, 1, NULL, &cursor, &err), &err);
    double start = now_ns();
    for (size_t s = 0; s < SERIES; s++) {
        int64_t timestamp;
        uint64_t cell;
        bool found;
        must(imv_cursor_newest(cursor, &series[s], &timestamp, &cell, &found, &err), &err);
        if (!found) abort();
    }
    printf("%-40s %6.2f us/series\n", what, (now_ns() - start) / SERIES / 1e3);
    imv_cursor_free(cursor);
}

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *position) {
    (void)status, (void)flag, (void)position;
    return remove(path);
}

int main(void) {
    struct imv_error err;
    char directory[] = "/tmp/imv_bench_cursor_XXXXXX";
    struct imv_kv *kv;
    if (mkdtemp(directory) == NULL) return 1;
    must(imv_kv_open(directory, &kv, &err), &err);
    make_label();
    struct imv_parts *parts = fill_parts(kv);
    struct imv_parts none = {0};
    struct imv_snapshot_shard shard = {.sequence = 1};
    struct imv_snapshot chunks = {.kv = kv, .parts = parts, .shards_count = 1, .shards = &shard};
    int64_t third = 2 * ROWS * STEP_NS, third_end = third + (ROWS - 1) * STEP_NS;
    scan("chunks: 1 column, a whole chunk", &chunks, 1, third, third_end);
    scan("chunks: 1 column, 60 rows inside one", &chunks, 1, third + 300 * STEP_NS, third + 359 * STEP_NS);
    scan("chunks: 1 column, all parts", &chunks, 1, INT64_MIN, INT64_MAX);
    scan("chunks: 10 columns, all parts", &chunks, 10, INT64_MIN, INT64_MAX);
    newest("chunks: current value", &chunks);

    shard.heads[shard.heads_count++] = fill_head();
    struct imv_snapshot heads = {.kv = kv, .parts = &none, .shards_count = 1, .shards = &shard};
    scan("head: 1 column", &heads, 1, INT64_MIN, INT64_MAX);
    scan("head: 10 columns", &heads, 10, INT64_MIN, INT64_MAX);
    newest("head: current value", &heads);

    /* The head has the timestamps of the first part: every row is merged. */
    scan("head over chunk: 1 column, every row merged", &chunks, 1, 0, (ROWS - 1) * STEP_NS);

    imv_head_release(shard.heads[0]);
    free(parts);
    imv_kv_close(kv);
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    return 0;
}
