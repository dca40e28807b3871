#include "engine/writer_rows.h"

#include "engine/exchange.h"
#include "storage/base/budget.h"
#include "storage/base/buffer.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { SHARDS = 3, ROWS = 2000, SERIES = 17 };

/* A writer of shard 0 between a catalog and the queues of three shards that nobody runs: the tests take the batches. */
struct bench {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_budget budget;
    struct imv_writer *writer;
    struct imv_label *label;
    struct imv_series *series[SERIES];
};

static void bench_init(struct bench *bench, size_t budget_bytes) {
    memset(bench, 0, sizeof *bench);
    cr_assert_eq(imv_kv_memory_new(1, &bench->disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(bench->disk, &bench->kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(bench->kv, SHARDS, &bench->catalog, NULL), IMV_OK);
    cr_assert_eq(imv_exchange_init(&bench->exchange, SHARDS, NULL, NULL, NULL), IMV_OK);
    imv_budget_init(&bench->budget, "test_writer_rows", budget_bytes);
    cr_assert_eq(imv_writer_new_for(bench->catalog, &bench->exchange, &bench->budget, 0, &bench->writer, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_label(bench->catalog, IMV_STR("cpu"), &bench->label, NULL), IMV_OK);
    for (int i = 0; i < SERIES; i++) {
        char host[16];
        snprintf(host, sizeof host, "h%d", i);
        struct imv_tag tag = {IMV_STR("host"), imv_str_from(host)};
        cr_assert_eq(imv_catalog_series(bench->catalog, bench->label, &tag, 1, &bench->series[i], NULL), IMV_OK);
    }
}

static void bench_release(struct bench *bench) {
    imv_writer_free(bench->writer);
    imv_exchange_release(&bench->exchange);
    imv_budget_release(&bench->budget);
    imv_catalog_close(bench->catalog);
    imv_kv_close(bench->kv);
    imv_kv_memory_free(bench->disk);
}

static const struct imv_shape *shape_of(struct bench *bench, const char *const *names, const imv_type *types,
                                        uint32_t count) {
    const struct imv_field *fields[8];
    const struct imv_shape *shape;
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(imv_label_field(bench->catalog, bench->label, imv_str_from(names[i]), types[i], &fields[i], NULL),
                     IMV_OK);
    cr_assert_eq(imv_label_shape(bench->catalog, bench->label, fields, count, &shape, NULL), IMV_OK);
    return shape;
}

/* Takes what was sent to every shard, as text, shard by shard; returns the rows. */
static size_t drain(struct bench *bench, struct imv_buffer *out) {
    size_t rows = 0;
    imv_writer_send(bench->writer);
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, shard, 0)->queue;
        for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL; imv_batch_free(batch)) {
            for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL; rows++) {
                cr_assert_eq(row->series->shard, shard);
                imv_buffer_append_format(out, "%u/%u @%lld", shard, row->series->index, (long long)row->timestamp);
                for (uint32_t i = 0; i < row->shape->count; i++) {
                    bool string = row->shape->fields[i]->type == IMV_STRING;
                    struct imv_str text = string ? imv_cell_str(row->cells[i]) : (struct imv_str){"", 0};
                    imv_buffer_append_format(out, " %s=%llu%.*s", row->shape->fields[i]->name.data,
                                             string ? 0ull : (unsigned long long)row->cells[i], (int)text.size,
                                             text.data);
                }
                imv_buffer_append_char(out, '\n');
            }
        }
    }
    imv_buffer_append_char(out, 0);
    return rows;
}

/* The test's data: an integer, a string, a float. */
struct columns {
    struct imv_series *series[ROWS];
    int64_t timestamps[ROWS];
    uint64_t integers[ROWS], floats[ROWS];
    struct imv_str texts[ROWS];
    char letters[64];
};

static void fill(struct bench *bench, struct columns *columns, uint64_t seed) {
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    memset(columns->letters, 'x', sizeof columns->letters);
    for (int i = 0; i < ROWS; i++) {
        columns->series[i] = bench->series[imv_prng_below(&prng, SERIES)];
        columns->timestamps[i] = (int64_t)imv_prng_below(&prng, 1000000);
        columns->integers[i] = imv_prng_next(&prng);
        columns->floats[i] = imv_prng_next(&prng);
        columns->texts[i] = (struct imv_str){columns->letters, imv_prng_below(&prng, 40)};
    }
}

static const char *const names[] = {"a", "s", "f"};
static const imv_type types[] = {IMV_INTEGER, IMV_STRING, IMV_FLOAT};

Test(writer_rows, rows_by_columns_are_the_rows_by_names) {
    /* Rows that are given by columns arrive as the same rows do that are given field by field, in the same order. */
    static struct columns columns;
    struct bench bench;
    bench_init(&bench, 64 << 20);
    fill(&bench, &columns, 7);
    struct imv_buffer by_columns, by_names;
    imv_buffer_init(&by_columns, 16 << 20);
    imv_buffer_init(&by_names, 16 << 20);
    for (uint32_t fields = 1; fields <= 3; fields++) {
        const struct imv_shape *shape = shape_of(&bench, names, types, fields);
        struct imv_writer_column values[] = {
            {.cells = columns.integers}, {.texts = columns.texts}, {.cells = columns.floats}};
        struct imv_writer_rows rows = {columns.series, columns.timestamps, values};
        struct imv_error err;
        size_t next;
        cr_assert_eq(imv_writer_put_rows(bench.writer, shape, &rows, 0, 100, &next, &err), IMV_OK);
        cr_assert_eq(next, 100);
        cr_assert_eq(imv_writer_put_rows(bench.writer, shape, &rows, 100, ROWS, &next, &err), IMV_OK);
        imv_buffer_reset(&by_columns);
        cr_assert_eq(drain(&bench, &by_columns), ROWS);
        for (int i = 0; i < ROWS; i++) {
            cr_assert(imv_writer_has_room(bench.writer));
            cr_assert_eq(imv_writer_begin(bench.writer, columns.series[i], fields, columns.texts[i].size, &err),
                         IMV_OK);
            imv_writer_field(bench.writer, IMV_STR("a"), IMV_INTEGER, columns.integers[i], &err);
            if (fields > 1) imv_writer_field_string(bench.writer, IMV_STR("s"), columns.texts[i], &err);
            if (fields > 2) imv_writer_field(bench.writer, IMV_STR("f"), IMV_FLOAT, columns.floats[i], &err);
            cr_assert_eq(imv_writer_end(bench.writer, columns.timestamps[i], &err), IMV_OK);
        }
        imv_buffer_reset(&by_names);
        cr_assert_eq(drain(&bench, &by_names), ROWS);
        cr_assert_str_eq(by_columns.data, by_names.data);
    }
    imv_buffer_release(&by_columns);
    imv_buffer_release(&by_names);
    bench_release(&bench);
}

Test(writer_rows, a_full_writer_takes_some_rows_and_says_which_is_next) {
    /* Without batch memory rows are refused at a stated place, and going on there later loses none and doubles none. */
    static struct columns columns;
    struct bench bench;
    bench_init(&bench, 400 * 1024);
    fill(&bench, &columns, 8);
    const struct imv_shape *shape = shape_of(&bench, names, types, 3);
    struct imv_writer_column values[] = {
        {.cells = columns.integers}, {.texts = columns.texts}, {.cells = columns.floats}};
    struct imv_writer_rows rows = {columns.series, columns.timestamps, values};
    struct imv_buffer out;
    imv_buffer_init(&out, 64 << 20);
    size_t written = 0, arrived = 0, refusals = 0;
    for (int pass = 0; pass < 5; pass++) {
        for (size_t next = 0; next < ROWS;) {
            size_t from = next;
            struct imv_error err;
            imv_status status = imv_writer_put_rows(bench.writer, shape, &rows, from, ROWS, &next, &err);
            written += next - from;
            cr_assert(status == IMV_OK || status == IMV_FULL);
            if (status == IMV_OK) continue;
            refusals++;
            imv_buffer_reset(&out);
            arrived += drain(&bench, &out);
            cr_assert_eq(arrived, written);
        }
    }
    imv_buffer_reset(&out);
    arrived += drain(&bench, &out);
    cr_assert_eq(arrived, 5 * ROWS);
    cr_assert_gt(refusals, 0);
    imv_buffer_release(&out);
    bench_release(&bench);
}

Test(writer_rows, a_row_above_the_limit_is_named_and_skipped) {
    /* A row whose strings pass IMV_WRITER_ROW_BYTES_MAX is refused by itself; those around it are taken. */
    static char big[IMV_STRING_BYTES_MAX];
    struct bench bench;
    bench_init(&bench, 64 << 20);
    const char *const many[] = {"s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"};
    imv_type strings[8];
    struct imv_str texts[3] = {IMV_STR("a"), {big, sizeof big}, IMV_STR("c")};
    struct imv_writer_column values[8];
    for (int i = 0; i < 8; i++) {
        strings[i] = IMV_STRING;
        values[i] = (struct imv_writer_column){.texts = texts};
    }
    const struct imv_shape *shape = shape_of(&bench, many, strings, 8);
    struct imv_series *series[3] = {bench.series[0], bench.series[1], bench.series[2]};
    struct imv_writer_rows rows = {series, (int64_t[]){1, 2, 3}, values};
    struct imv_error err;
    size_t next;
    cr_assert_eq(imv_writer_put_rows(bench.writer, shape, &rows, 0, 3, &next, &err), IMV_INVALID);
    cr_assert_eq(next, 1);
    cr_assert_eq(imv_writer_put_rows(bench.writer, shape, &rows, 2, 3, &next, &err), IMV_OK);
    struct imv_buffer out;
    imv_buffer_init(&out, 1 << 20);
    cr_assert_eq(drain(&bench, &out), 2);
    imv_buffer_release(&out);
    bench_release(&bench);
}
