#include "ingest/arrow.h"

#include "engine/exchange.h"
#include "ingest/feed.h"
#include "storage/base/budget.h"
#include "storage/base/clock.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "tests/support/arrow_table.h"
#include "tests/support/kv_memory.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* A writer whose one shard nobody runs: the tests take the rows. */
struct bench {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_budget budget;
    struct imv_writer *writer;
    struct imv_manual_clock clock;
    struct imv_buffer rows, rejects;
};

static const int64_t NOW = INT64_C(1767225600123456789); /* 2026-01-01T00:00:00.123456789Z */

static void bench_init(struct bench *bench, size_t budget_bytes) {
    memset(bench, 0, sizeof *bench);
    cr_assert_eq(imv_kv_memory_new(1, &bench->disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(bench->disk, &bench->kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(bench->kv, 1, &bench->catalog, NULL), IMV_OK);
    cr_assert_eq(imv_exchange_init(&bench->exchange, 1, NULL, NULL, NULL), IMV_OK);
    imv_budget_init(&bench->budget, "test_arrow", budget_bytes);
    cr_assert_eq(imv_writer_new_for(bench->catalog, &bench->exchange, &bench->budget, 0, &bench->writer, NULL), IMV_OK);
    imv_manual_clock_init(&bench->clock, NOW);
    imv_buffer_init(&bench->rows, 256 << 20);
    imv_buffer_init(&bench->rejects, 16 << 20);
}

static void bench_release(struct bench *bench) {
    imv_buffer_release(&bench->rows);
    imv_buffer_release(&bench->rejects);
    imv_writer_free(bench->writer);
    imv_exchange_release(&bench->exchange);
    imv_budget_release(&bench->budget);
    imv_catalog_close(bench->catalog);
    imv_kv_close(bench->kv);
    imv_kv_memory_free(bench->disk);
}

/* ---- what arrives ---- */

/* A row as "cpu,host=a v=1i @3". */
static void print_row(const struct imv_row *row, struct imv_buffer *out) {
    imv_buffer_append_str(out, row->series->label->name);
    for (uint32_t i = 0; i < row->series->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(row->series, i);
        imv_buffer_append_format(out, ",%.*s=%.*s", (int)tag.key.size, tag.key.data, (int)tag.value.size,
                                 tag.value.data);
    }
    for (uint32_t i = 0; i < row->shape->count; i++) {
        const struct imv_field *field = row->shape->fields[i];
        imv_buffer_append_format(out, " %.*s=", (int)field->name.size, field->name.data);
        switch (field->type) {
            case IMV_FLOAT: imv_buffer_append_format(out, "%.17g", imv_cell_float(row->cells[i])); break;
            case IMV_INTEGER: imv_buffer_append_format(out, "%" PRId64 "i", (int64_t)row->cells[i]); break;
            case IMV_UINTEGER: imv_buffer_append_format(out, "%" PRIu64 "u", row->cells[i]); break;
            case IMV_BOOLEAN: imv_buffer_append_str(out, row->cells[i] ? IMV_STR("true") : IMV_STR("false")); break;
            case IMV_STRING: {
                struct imv_str text = imv_cell_str(row->cells[i]);
                imv_buffer_append_format(out, "\"%.*s\"", (int)text.size, text.data);
            }
        }
    }
    imv_buffer_append_format(out, " @%" PRId64 "\n", row->timestamp);
}

/* Takes what the writer sent and adds it to bench->rows. */
static void drain(struct bench *bench) {
    imv_writer_send(bench->writer);
    struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, 0, 0)->queue;
    for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL; imv_batch_free(batch)) {
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;)
            print_row(row, &bench->rows);
    }
    imv_writer_send(bench->writer); /* what the full queue had refused */
}

static const char *text_of(struct imv_buffer *buffer) {
    cr_assert(imv_buffer_append_char(buffer, 0));
    buffer->size--;
    return buffer->data;
}

/* ---- sending ---- */

static void on_reject(void *context, uint64_t row, const struct imv_error *reason) {
    struct bench *bench = context;
    imv_buffer_append_format(&bench->rejects, "%" PRIu64 ": %s\n", row, reason->message);
}

static struct imv_arrow_feed *feed_new(struct bench *bench, const char *label, struct imv_budget *budget) {
    struct imv_arrow_feed_options options = {.writer = bench->writer,
                                             .clock = &bench->clock.clock,
                                             .budget = budget,
                                             .precision = IMV_PRECISION_MS,
                                             .label = imv_str_from(label),
                                             .reject = on_reject,
                                             .context = bench};
    struct imv_arrow_feed *feed;
    cr_assert_eq(imv_arrow_feed_new(&options, &feed, NULL), IMV_OK);
    return feed;
}

/* Feeds bytes in pieces, making room whenever the writer is full; the status at the end. */
static imv_status feed_bytes(struct bench *bench, struct imv_arrow_feed *feed, const char *bytes, size_t size,
                             size_t piece, struct imv_error *err) {
    imv_status status = IMV_OK;
    for (size_t done = 0; done < size || status == IMV_FULL || status == IMV_BUSY;) {
        size_t taken, part = size - done < piece ? size - done : piece;
        status = imv_arrow_feed_take(feed, bytes + done, part, &taken, err);
        cr_assert_leq(taken, part);
        done += taken;
        if (status == IMV_FULL) drain(bench);
        if (status != IMV_OK && status != IMV_FULL && status != IMV_BUSY) return status;
    }
    return imv_arrow_feed_end(feed, err);
}

static imv_status feed_all(struct bench *bench, const char *label, struct imv_str bytes, size_t piece,
                           struct imv_error *err) {
    struct imv_arrow_feed *feed = feed_new(bench, label, NULL);
    imv_status status = feed_bytes(bench, feed, bytes.data, bytes.size, piece, err);
    imv_arrow_feed_free(feed);
    drain(bench);
    return status;
}

/* The rows and the refusals of a table, which must be understood. */
static void feed_table(struct bench *bench, const struct test_arrow_table *table, uint32_t batch_rows,
                       enum test_arrow_dictionaries dictionaries) {
    struct imv_buffer stream;
    struct imv_error err;
    imv_buffer_init(&stream, 64 << 20);
    test_arrow_encode(&stream, table, batch_rows, dictionaries);
    cr_assert_not(stream.failed);
    cr_assert_eq(feed_all(bench, "", imv_buffer_view(&stream), SIZE_MAX, &err), IMV_OK, "%s", err.message);
    imv_buffer_release(&stream);
}

/* ---- tables ---- */

static struct test_arrow_table table_new(uint32_t columns, uint32_t rows) {
    struct test_arrow_table table = {.label = "cpu", .columns_count = columns, .rows = rows};
    table.columns = calloc(columns, sizeof *table.columns);
    return table;
}

static struct test_arrow_column *column_set(struct test_arrow_table *table, uint32_t i, const char *name,
                                            const char *role, struct imv_arrow_type type) {
    table->columns[i].name = name;
    table->columns[i].role = role;
    table->columns[i].type = type;
    return &table->columns[i];
}

/* The rows of a table as line protocol. */
static void print_lines(const struct test_arrow_table *table, struct imv_buffer *out) {
    for (uint32_t row = 0; row < table->rows; row++) {
        imv_buffer_append_str(out, imv_str_from(table->label));
        for (uint32_t i = 0; i < table->columns_count; i++) {
            const struct test_arrow_column *column = &table->columns[i];
            if (strcmp(column->role, "tag") == 0 && !column->cells[row].null)
                imv_buffer_append_format(out, ",%s=%s", column->name, column->cells[row].text);
        }
        char comma = ' ';
        for (uint32_t i = 0; i < table->columns_count; i++) {
            const struct test_arrow_column *column = &table->columns[i];
            const struct test_arrow_cell *cell = &column->cells[row];
            if (strcmp(column->role, "field") != 0 || cell->null) continue;
            imv_buffer_append_format(out, "%c%s=", comma, column->name);
            comma = ',';
            switch (column->type.kind) {
                case IMV_ARROW_FLOAT: imv_buffer_append_format(out, "%.17g", cell->number); break;
                case IMV_ARROW_BOOL: imv_buffer_append_format(out, "%s", cell->integer != 0 ? "true" : "false"); break;
                case IMV_ARROW_TEXT: imv_buffer_append_format(out, "\"%s\"", cell->text); break;
                default:
                    imv_buffer_append_format(out, column->type.is_signed ? "%" PRId64 "i" : "%" PRIu64 "u",
                                             cell->integer);
            }
        }
        imv_buffer_append_format(out, " %" PRId64 "\n", table->columns[0].cells[row].integer);
    }
}

static void fill_cell(struct imv_prng *prng, const struct test_arrow_column *column, uint32_t distinct,
                      struct test_arrow_cell *cell) {
    cell->integer = (int64_t)imv_prng_next(prng);
    cell->number = (double)(float)(imv_prng_unit(prng) * 1e6 - 5e5);
    if (column->type.kind == IMV_ARROW_BOOL) cell->integer &= 1;
    if (column->type.kind == IMV_ARROW_INT && column->type.bits < 64) {
        unsigned cut = 64 - column->type.bits;
        cell->integer = column->type.is_signed ? (int64_t)((uint64_t)cell->integer << cut) >> cut
                                               : (int64_t)((uint64_t)cell->integer << cut >> cut);
    }
    snprintf(cell->text, sizeof cell->text, "%s%" PRIu64, column->name, imv_prng_below(prng, distinct));
}

static const char *name_of(uint32_t i) {
    static char names[256][8];
    snprintf(names[i], sizeof names[i], "c%u", i);
    return names[i];
}

/* A table of random types, nulls and values: time, tags, fields. Every row has a value. */
static struct test_arrow_table random_table(struct imv_prng *prng, uint32_t tags, uint32_t fields, uint32_t rows,
                                            uint32_t distinct) {
    struct test_arrow_table table = table_new(1 + tags + fields, rows);
    column_set(&table, 0, "time", "time", imv_arrow_simple(IMV_ARROW_TIME));
    for (uint32_t i = 1; i < table.columns_count; i++) {
        static const uint8_t widths[] = {8, 16, 32, 64};
        struct imv_arrow_type type = imv_arrow_simple(IMV_ARROW_TEXT);
        if (imv_prng_below(prng, 3) == 0) type.bits = 64;
        if (i > tags) {
            switch (imv_prng_below(prng, 5)) {
                case 0: type = imv_arrow_float(imv_prng_below(prng, 2) == 0 ? 32 : 64); break;
                case 1: type = imv_arrow_simple(IMV_ARROW_BOOL); break;
                case 2: break;
                default: type = imv_arrow_int(widths[imv_prng_below(prng, 4)], imv_prng_below(prng, 2) == 0);
            }
        }
        column_set(&table, i, name_of(i), i > tags ? "field" : "tag", type);
        table.columns[i].dictionary = type.kind == IMV_ARROW_TEXT && imv_prng_below(prng, 3) > 0;
    }
    for (uint32_t i = 0; i < table.columns_count; i++) {
        uint64_t nulls = imv_prng_below(prng, 3); /* none, few, many */
        for (uint32_t row = 0; row < rows; row++) {
            struct test_arrow_cell *cell = &table.columns[i].cells[row];
            fill_cell(prng, &table.columns[i], distinct, cell);
            cell->null = i > 0 && i != tags + 1 && imv_prng_below(prng, 8) < nulls * nulls;
            if (i == 0) cell->integer >>= 2;
        }
    }
    return table;
}

/* ---- tests ---- */

static void compare_with_lines(struct imv_prng *prng, const struct test_arrow_table *table) {
    struct bench by_arrow, by_lines;
    bench_init(&by_arrow, 64 << 20);
    bench_init(&by_lines, 64 << 20);
    feed_table(&by_arrow, table, 1 + (uint32_t)imv_prng_below(prng, table->rows),
               imv_prng_below(prng, 2) == 0 ? TEST_ARROW_REPLACED : TEST_ARROW_ADDED);
    struct imv_buffer lines;
    imv_buffer_init(&lines, 64 << 20);
    print_lines(table, &lines);
    struct imv_feed feed;
    imv_feed_init(&feed, by_lines.writer, &by_lines.clock.clock, IMV_PRECISION_NS);
    for (size_t done = 0; done < lines.size; drain(&by_lines))
        done += imv_feed_take(&feed, lines.data + done, lines.size - done, true);
    cr_assert_eq(feed.rejected, 0);
    cr_assert_eq(by_arrow.rejects.size, 0, "%s", text_of(&by_arrow.rejects));
    cr_assert_str_eq(text_of(&by_arrow.rows), text_of(&by_lines.rows));
    imv_buffer_release(&lines);
    bench_release(&by_arrow);
    bench_release(&by_lines);
}

Test(arrow, a_table_gives_the_rows_that_its_lines_give, .timeout = 120) {
    /* Whatever the types, nulls, dictionaries and batch sizes: the same rows in the same order as line protocol. */
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct imv_prng prng;
        imv_prng_init(&prng, seed);
        uint32_t tags = (uint32_t)imv_prng_below(&prng, 12), fields = 1 + (uint32_t)imv_prng_below(&prng, 70);
        struct test_arrow_table table =
            random_table(&prng, tags, fields, 1 + (uint32_t)imv_prng_below(&prng, 1500), 1 + (seed % 3) * 20);
        printf("seed %" PRIu64 ": %u tags, %u fields, %u rows\n", seed, tags, fields, table.rows);
        compare_with_lines(&prng, &table);
        free(table.columns);
    }
}

Test(arrow, many_tags_of_many_values_keep_their_series_apart, .timeout = 120) {
    /* Codes that do not fit 128 bits are hashed, and mean the same series. */
    struct imv_prng prng;
    imv_prng_init(&prng, 5);
    struct test_arrow_table table = random_table(&prng, 60, 2, 1200, 1000);
    compare_with_lines(&prng, &table);
    free(table.columns);
}

Test(arrow, byte_by_byte_is_the_same_as_whole) {
    /* How a stream is cut into pieces changes nothing. */
    struct imv_prng prng;
    imv_prng_init(&prng, 11);
    struct test_arrow_table table = random_table(&prng, 4, 6, 300, 10);
    struct imv_buffer stream;
    imv_buffer_init(&stream, 64 << 20);
    test_arrow_encode(&stream, &table, 70, TEST_ARROW_ADDED);
    struct bench whole, cut;
    struct imv_error err;
    bench_init(&whole, 64 << 20);
    bench_init(&cut, 64 << 20);
    cr_assert_eq(feed_all(&whole, "", imv_buffer_view(&stream), SIZE_MAX, &err), IMV_OK);
    cr_assert_eq(feed_all(&cut, "", imv_buffer_view(&stream), 1, &err), IMV_OK);
    cr_assert_str_eq(text_of(&whole.rows), text_of(&cut.rows));
    bench_release(&whole);
    bench_release(&cut);
    imv_buffer_release(&stream);
    free(table.columns);
}

/* Feeds a copy that ends where its memory ends, so that a read beyond it is seen. */
static imv_status feed_copy(struct bench *bench, const char *bytes, size_t size, struct imv_error *err) {
    char *copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, bytes, size);
    imv_status status = feed_all(bench, "", (struct imv_str){copy, size}, SIZE_MAX, err);
    free(copy);
    return status;
}

static struct imv_buffer small_stream(void) {
    struct imv_prng prng;
    imv_prng_init(&prng, 3);
    struct test_arrow_table table = random_table(&prng, 3, 7, 20, 4);
    struct imv_buffer stream;
    imv_buffer_init(&stream, 1 << 20);
    test_arrow_encode(&stream, &table, 12, TEST_ARROW_ADDED);
    free(table.columns);
    return stream;
}

Test(arrow, every_prefix_is_whole_messages_or_refused, .timeout = 120) {
    /* A stream that ends early is refused, except between two messages, where its end mark may be missing. */
    struct imv_buffer stream = small_stream();
    struct bench bench;
    bench_init(&bench, 64 << 20);
    unsigned good = 0;
    for (size_t size = 0; size < stream.size; size++) {
        struct imv_error err = {0};
        imv_status status = feed_copy(&bench, stream.data, size, &err);
        cr_assert(status == IMV_OK || status == IMV_INVALID, "%zu: %s", size, err.message);
        good += status == IMV_OK;
    }
    cr_assert_leq(good, 16, "%u prefixes are good", good);
    cr_assert_geq(good, 3);
    bench_release(&bench);
    imv_buffer_release(&stream);
}

Test(arrow, every_flipped_byte_is_survived, .timeout = 120) {
    /* Damage leads to an error, refused rows or other values; never to a read outside of the message. */
    struct imv_buffer stream = small_stream();
    struct bench bench;
    for (size_t i = 0; i < stream.size; i++) {
        struct imv_error err = {0};
        if (i % 512 == 0) bench_init(&bench, 64 << 20);
        for (unsigned bit = 0; bit < 8; bit += i % 3 + 1) {
            stream.data[i] ^= (char)(1 << bit);
            imv_status status = feed_copy(&bench, stream.data, stream.size, &err);
            cr_assert(status == IMV_OK || status == IMV_INVALID || status == IMV_UNSUPPORTED, "%zu: %s", i,
                      err.message);
            stream.data[i] ^= (char)(1 << bit);
        }
        if (i % 512 == 511 || i + 1 == stream.size) bench_release(&bench);
    }
    imv_buffer_release(&stream);
}

Test(arrow, bad_rows_are_named_and_the_others_kept) {
    /* Null time, unusable tag, no value, a time out of range, a field of another type: each by row, and nothing of them
     * is left in the catalog. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_error err;
    struct imv_label *label;
    const struct imv_field *field;
    cr_assert_eq(imv_catalog_label(bench.catalog, IMV_STR("cpu"), &label, &err), IMV_OK);
    cr_assert_eq(imv_label_field(bench.catalog, label, IMV_STR("v"), IMV_STRING, &field, &err), IMV_OK);
    struct test_arrow_table table = table_new(4, 8);
    struct imv_arrow_type seconds = imv_arrow_simple(IMV_ARROW_TIME);
    seconds.unit_ns = 1000000000;
    struct test_arrow_column *time = column_set(&table, 0, "time", NULL, seconds);
    struct test_arrow_column *host = column_set(&table, 1, "host", NULL, imv_arrow_simple(IMV_ARROW_TEXT));
    struct test_arrow_column *v = column_set(&table, 2, "v", NULL, imv_arrow_int(64, true));
    struct test_arrow_column *w = column_set(&table, 3, "w", NULL, imv_arrow_float(64));
    for (int i = 0; i < 8; i++) {
        time->cells[i].integer = i;
        strcpy(host->cells[i].text, "a");
        v->cells[i].null = true;
        w->cells[i].number = i;
    }
    time->cells[1].null = true;
    strcpy(host->cells[2].text, "");
    strcpy(host->cells[3].text, "b\xff");
    w->cells[4].null = true;
    time->cells[5].integer = INT64_MAX / 1000;
    strcpy(host->cells[6].text, "only-here");
    v->cells[6].null = false;
    feed_table(&bench, &table, 8, TEST_ARROW_REPLACED);
    cr_assert_str_eq(text_of(&bench.rows), "cpu,host=a w=0 @0\ncpu,host=a w=7 @7000000000\n");
    cr_assert_str_eq(
        text_of(&bench.rejects),
        "2: the time is null\n"
        "3: column \"host\": its text is empty, longer than 1024 bytes, not UTF-8, or has a control character\n"
        "4: column \"host\": its text is empty, longer than 1024 bytes, not UTF-8, or has a control character\n"
        "5: a row without a value\n"
        "6: column \"time\": it does not fit 64 bits of nanoseconds\n"
        "7: field \"v\" of \"cpu\" is string, not integer\n");
    cr_assert_eq(imv_catalog_series_count(bench.catalog, 0), 1);
    free(table.columns);
    bench_release(&bench);
}

Test(arrow, tags_longer_than_a_line_may_be_are_refused) {
    /* Label and tags of a row together have the limit of a line; the row beside it is taken. */
    struct bench bench;
    struct imv_error err;
    bench_init(&bench, 64 << 20);
    struct test_arrow_table table = table_new(101, 1);
    static char long_names[100][800];
    column_set(&table, 0, "v", NULL, imv_arrow_int(64, true));
    for (int i = 0; i < 100; i++) {
        memset(long_names[i], 'n', 790);
        snprintf(long_names[i] + 790, 10, "%d", i);
        strcpy(column_set(&table, 1 + i, long_names[i], NULL, imv_arrow_simple(IMV_ARROW_TEXT))->cells[0].text, "x");
    }
    struct imv_buffer stream;
    imv_buffer_init(&stream, 1 << 20);
    test_arrow_encode(&stream, &table, 1, TEST_ARROW_REPLACED);
    cr_assert_eq(feed_all(&bench, "", imv_buffer_view(&stream), SIZE_MAX, &err), IMV_OK, "%s", err.message);
    cr_assert_str_eq(text_of(&bench.rejects), "1: label and tags of a row are longer than 65536 bytes\n");
    for (int i = 50; i < 100; i++) table.columns[1 + i].cells[0].null = true;
    bench.rejects.size = 0;
    feed_table(&bench, &table, 1, TEST_ARROW_REPLACED);
    cr_assert_eq(bench.rejects.size, 0);
    imv_buffer_release(&stream);
    free(table.columns);
    bench_release(&bench);
}

Test(arrow, rows_that_the_catalog_refuses_leave_nothing_behind) {
    /* Beyond the limit of series no new label is made; a field that is a tag of its label makes no series. */
    struct bench bench;
    struct imv_error err;
    struct imv_series *series;
    bench_init(&bench, 64 << 20);
    const struct imv_tag tags[] = {{IMV_STR("host"), IMV_STR("a")}, {IMV_STR("v"), IMV_STR("x")}};
    cr_assert_eq(imv_catalog_resolve(bench.catalog, IMV_STR("tank"), tags, 2, &series, &err), IMV_OK);
    const struct imv_catalog_limits limits = {.series_max = 2, .label_series_max = 2, .bytes_max = 64 << 20};
    imv_catalog_set_limits(bench.catalog, &limits);
    struct test_arrow_table table = table_new(4, 4);
    struct test_arrow_column *time = column_set(&table, 0, "t", NULL, imv_arrow_simple(IMV_ARROW_TIME));
    struct test_arrow_column *label = column_set(&table, 1, "kind", "label", imv_arrow_simple(IMV_ARROW_TEXT));
    struct test_arrow_column *host = column_set(&table, 2, "host", NULL, imv_arrow_simple(IMV_ARROW_TEXT));
    struct test_arrow_column *v = column_set(&table, 3, "v", NULL, imv_arrow_int(64, true));
    static const char *const labels[] = {"tank", "pump", "valve", "pipe"};
    for (int i = 0; i < 4; i++) {
        time->cells[i].integer = v->cells[i].integer = i;
        strcpy(label->cells[i].text, labels[i]);
        strcpy(host->cells[i].text, "b");
    }
    feed_table(&bench, &table, 4, TEST_ARROW_REPLACED);
    cr_assert_str_eq(text_of(&bench.rows), "pump,host=b v=1i @1\n");
    cr_assert_not_null(strstr(text_of(&bench.rejects), "1: \"v\" of \"tank\" is a tag, not a field\n3: "), "%s",
                       bench.rejects.data);
    cr_assert_eq(imv_catalog_labels_count(bench.catalog), 2);
    cr_assert_eq(imv_catalog_series_count(bench.catalog, 0), 2);
    free(table.columns);
    bench_release(&bench);
}

Test(arrow, no_line_has_the_key_of_a_row) {
    /* What rows of a stream leave in the cache of series makes no line good that the grammar refuses. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct test_arrow_table table = table_new(2, 1);
    column_set(&table, 0, "host", NULL, imv_arrow_simple(IMV_ARROW_TEXT));
    column_set(&table, 1, "v", NULL, imv_arrow_int(64, true));
    strcpy(table.columns[0].cells[0].text, "a");
    feed_table(&bench, &table, 1, TEST_ARROW_REPLACED);
    for (char first = 1; first < 32; first++) {
        char line[] = "?cpu\0host\0a v=1i\n?\0cpu\0host\0a v=1i\n";
        *strchr(line, '?') = line[sizeof "?cpu\0host\0a v=1i"] = first;
        struct imv_feed feed;
        imv_feed_init(&feed, bench.writer, &bench.clock.clock, IMV_PRECISION_NS);
        cr_assert_eq(imv_feed_take(&feed, line, sizeof line - 1, true), sizeof line - 1);
        cr_assert(feed.rows == 0 && feed.rejected >= 2, "%d", first);
    }
    free(table.columns);
    bench_release(&bench);
}

Test(arrow, labels_by_column_and_default) {
    /* A label column names each row's label, null takes the schema's; each label has fields of its own. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct test_arrow_table table = table_new(3, 5);
    struct test_arrow_column *time = column_set(&table, 0, "t", NULL, imv_arrow_simple(IMV_ARROW_TIME));
    struct test_arrow_column *label = column_set(&table, 1, "kind", "label", imv_arrow_simple(IMV_ARROW_TEXT));
    struct test_arrow_column *v = column_set(&table, 2, "v", NULL, imv_arrow_int(8, false));
    static const char *const names[] = {"pump", "tank", "", "tank", "pump"};
    label->dictionary = true;
    for (int i = 0; i < 5; i++) {
        time->cells[i].integer = i;
        v->cells[i].integer = 10 * i;
        strcpy(label->cells[i].text, names[i]);
        label->cells[i].null = i == 2;
    }
    feed_table(&bench, &table, 2, TEST_ARROW_ADDED);
    cr_assert_str_eq(text_of(&bench.rows), "pump v=0u @0\ntank v=10u @1\ncpu v=20u @2\ntank v=30u @3\npump v=40u @4\n");
    cr_assert_eq(bench.rejects.size, 0);
    bench.rows.size = 0;
    table.label = NULL;
    feed_table(&bench, &table, 5, TEST_ARROW_REPLACED);
    cr_assert_str_eq(text_of(&bench.rows), "pump v=0u @0\ntank v=10u @1\ntank v=30u @3\npump v=40u @4\n");
    cr_assert_str_eq(text_of(&bench.rejects), "3: the label is null\n");
    free(table.columns);
    bench_release(&bench);
}

Test(arrow, times_of_every_kind) {
    /* Units become nanoseconds; without a timestamp an integer column named time is one, in the request's precision;
     * without any time rows get the clock's. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct test_arrow_table table = table_new(3, 1);
    struct test_arrow_column *v = column_set(&table, 0, "v", NULL, imv_arrow_simple(IMV_ARROW_DURATION));
    v->type.unit_ns = 1000;
    v->cells[0].integer = -7;
    struct imv_arrow_type type = imv_arrow_simple(IMV_ARROW_TIME);
    static const int64_t units[] = {1, 1000, 1000000, 1000000000};
    column_set(&table, 2, "n", NULL, imv_arrow_simple(IMV_ARROW_NULL));
    for (int i = 0; i < 4; i++) {
        type.unit_ns = units[i];
        column_set(&table, 1, "anything", NULL, type)->cells[0].integer = 1767225600;
        feed_table(&bench, &table, 1, TEST_ARROW_REPLACED);
    }
    column_set(&table, 1, "timestamp", NULL, imv_arrow_int(32, false));
    feed_table(&bench, &table, 1, TEST_ARROW_REPLACED);
    column_set(&table, 1, "w", NULL, imv_arrow_int(32, false));
    feed_table(&bench, &table, 1, TEST_ARROW_REPLACED);
    cr_assert_str_eq(text_of(&bench.rows), "cpu v=-7000i @1767225600\n"
                                           "cpu v=-7000i @1767225600000\n"
                                           "cpu v=-7000i @1767225600000000\n"
                                           "cpu v=-7000i @1767225600000000000\n"
                                           "cpu v=-7000i @1767225600000000\n"
                                           "cpu v=-7000i w=1767225600u @1767225600123000000\n");
    free(table.columns);
    bench_release(&bench);
}

/* What a stream of this table is refused for. */
static void expect_refusal(const struct test_arrow_table *table, const char *message) {
    struct bench bench;
    struct imv_buffer stream;
    struct imv_error err;
    bench_init(&bench, 64 << 20);
    imv_buffer_init(&stream, 1 << 20);
    test_arrow_encode(&stream, table, 1, TEST_ARROW_REPLACED);
    cr_assert_neq(feed_all(&bench, "", imv_buffer_view(&stream), SIZE_MAX, &err), IMV_OK);
    cr_assert_str_eq(err.message, message);
    cr_assert_eq(bench.rows.size, 0);
    imv_buffer_release(&stream);
    bench_release(&bench);
}

Test(arrow, what_cannot_be_taken_is_named) {
    /* A schema that cannot be mapped is refused with the column, its type and the way out. */
    struct test_arrow_table table = table_new(2, 1);
    column_set(&table, 0, "v", NULL, imv_arrow_float(16));
    column_set(&table, 1, "host", NULL, imv_arrow_simple(IMV_ARROW_TEXT));
    expect_refusal(&table, "arrow: column \"v\" is float16, which cannot be taken");
    column_set(&table, 0, "v", "tag", imv_arrow_int(16, true));
    expect_refusal(&table, "arrow: column \"v\" is int16, which cannot be a tag");
    column_set(&table, 0, "v", "ratio", imv_arrow_int(16, true));
    expect_refusal(&table, "arrow: column \"v\" has the role \"ratio\": label, tag, field or time is expected");
    column_set(&table, 0, "host", NULL, imv_arrow_int(16, true));
    expect_refusal(&table, "arrow: two columns have the name \"host\"");
    column_set(&table, 0, "r", NULL, imv_arrow_simple(IMV_ARROW_TEXT));
    expect_refusal(&table, "arrow: no column is a field");
    column_set(&table, 0, "a", NULL, imv_arrow_simple(IMV_ARROW_TIME));
    column_set(&table, 1, "b", NULL, imv_arrow_simple(IMV_ARROW_TIME));
    expect_refusal(&table, "arrow: 2 columns could be the time: give one the role time");
    column_set(&table, 1, "b", NULL, imv_arrow_int(16, true));
    table.label = NULL;
    expect_refusal(&table, "arrow: no label: give a column the role label, the schema the metadata imvdb.label, or the "
                           "request the parameter label");
    free(table.columns);
}

Test(arrow, a_compressed_body_is_refused) {
    /* The codec is named, and what to do instead. */
    struct test_arrow_table table = table_new(1, 1);
    column_set(&table, 0, "v", NULL, imv_arrow_int(64, true));
    struct imv_buffer stream;
    imv_buffer_init(&stream, 1 << 20);
    test_arrow_encode(&stream, &table, 1, TEST_ARROW_REPLACED);
    stream.size -= 8; /* the end */
    size_t prefix = stream.size;
    imv_buffer_append(&stream, "\xff\xff\xff\xff\0\0\0\0", 8);
    struct imv_flat_writer flat = {&stream, stream.size};
    uint32_t root = imv_flat_put_offset(&flat), message = imv_flat_put_table(&flat, (const uint8_t[]){2, 1, 4, 8}, 4);
    imv_flat_close(&flat, root, message);
    imv_flat_set(&flat, message, 0, 2, 4);
    imv_flat_set(&flat, message, 1, 1, IMV_ARROW_RECORDS);
    uint32_t batch = imv_flat_put_table(&flat, (const uint8_t[]){8, 0, 0, 4}, 4);
    imv_flat_set_offset(&flat, message, 2, batch);
    uint32_t compression = imv_flat_put_table(&flat, (const uint8_t[]){1}, 1);
    imv_flat_set_offset(&flat, batch, 3, compression);
    imv_flat_set(&flat, compression, 0, 1, 1);
    while ((stream.size - flat.start) % 8 != 0) imv_buffer_append_char(&stream, 0);
    imv_put_u32(stream.data + prefix + 4, (uint32_t)(stream.size - flat.start));
    struct bench bench;
    struct imv_error err;
    bench_init(&bench, 64 << 20);
    cr_assert_eq(feed_all(&bench, "", imv_buffer_view(&stream), SIZE_MAX, &err), IMV_UNSUPPORTED);
    cr_assert_str_eq(err.message,
                     "arrow: a body compressed by ZSTD; send it uncompressed, or the whole request with gzip");
    cr_assert_str_eq(text_of(&bench.rows), "cpu v=0i @1767225600123000000\n"); /* the batch before it stays */
    bench_release(&bench);
    imv_buffer_release(&stream);
    free(table.columns);
}

Test(arrow, a_full_writer_stops_the_stream_and_loses_nothing, .timeout = 120) {
    /* With little batch memory the stream waits for room again and again; rows come complete, once and in order. */
    struct imv_prng prng;
    imv_prng_init(&prng, 21);
    struct test_arrow_table table = random_table(&prng, 3, 40, 4000, 30);
    struct bench small, large;
    bench_init(&small, 300 * 1024);
    bench_init(&large, 64 << 20);
    feed_table(&small, &table, 4000, TEST_ARROW_REPLACED);
    feed_table(&large, &table, 4000, TEST_ARROW_REPLACED);
    cr_assert_gt(atomic_load(&small.budget.refusals), 0);
    cr_assert_str_eq(text_of(&small.rows), text_of(&large.rows));
    bench_release(&small);
    bench_release(&large);
    free(table.columns);
}

Test(arrow, full_tables_of_texts_are_forgotten_and_begun_again, .timeout = 120) {
    /* More distinct tags than memory for their codes: all rows arrive under their series all the same. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_budget budget;
    imv_budget_init(&budget, "test_arrow_stream", 3 * 256 * 1024);
    struct imv_arrow_feed *feed = feed_new(&bench, "cpu", &budget);
    struct test_arrow_table table = table_new(3, 500);
    struct test_arrow_column *time = column_set(&table, 0, "time", NULL, imv_arrow_simple(IMV_ARROW_TIME));
    struct test_arrow_column *host = column_set(&table, 1, "host", NULL, imv_arrow_simple(IMV_ARROW_TEXT));
    struct test_arrow_column *v = column_set(&table, 2, "v", NULL, imv_arrow_int(64, true));
    struct imv_buffer stream;
    imv_buffer_init(&stream, 64 << 20);
    struct imv_error err;
    for (int part = 0; part < 40; part++) {
        for (int i = 0; i < 500; i++) {
            time->cells[i].integer = i;
            snprintf(host->cells[i].text, sizeof host->cells[i].text, "host-%d", part * 500 + i);
            v->cells[i].integer = part * 500 + i;
        }
        struct imv_buffer one;
        imv_buffer_init(&one, 1 << 20);
        test_arrow_encode(&one, &table, 500, TEST_ARROW_REPLACED);
        size_t schema = 8 + imv_get_u32(one.data + 4), skip = part == 0 ? 0 : schema;
        imv_buffer_append(&stream, one.data + skip, one.size - skip - 8);
        imv_buffer_release(&one);
    }
    cr_assert_eq(feed_bytes(&bench, feed, stream.data, stream.size, 4096, &err), IMV_OK, "%s", err.message);
    drain(&bench);
    cr_assert_gt(atomic_load(&budget.refusals), 0);
    cr_assert_eq(imv_arrow_feed_rows(feed), 20000);
    cr_assert_eq(imv_catalog_series_count(bench.catalog, 0), 20000);
    const char *at = text_of(&bench.rows);
    for (int i = 0; i < 20000; i++) {
        char wanted[64];
        int size = snprintf(wanted, sizeof wanted, "cpu,host=host-%d v=%di @%d\n", i, i, i % 500);
        cr_assert_eq(memcmp(at, wanted, (size_t)size), 0, "row %d", i);
        at += size;
    }
    imv_arrow_feed_free(feed);
    imv_budget_release(&budget);
    imv_buffer_release(&stream);
    free(table.columns);
    bench_release(&bench);
}

Test(arrow, memory_that_is_spent_refuses_the_stream) {
    /* A stream that the budget has no room for ends with IMV_NO_MEMORY, and gives back all it had. */
    struct imv_buffer stream = small_stream();
    struct bench bench;
    struct imv_error err;
    struct imv_budget budget;
    bench_init(&bench, 64 << 20);
    for (size_t bytes = 20 * 1024; bytes < 400 * 1024; bytes += 4096) {
        imv_budget_init(&budget, "test_arrow_stream", bytes);
        struct imv_arrow_feed *feed = feed_new(&bench, "cpu", &budget);
        imv_status status = feed_bytes(&bench, feed, stream.data, stream.size, SIZE_MAX, &err);
        cr_assert(status == IMV_OK || status == IMV_NO_MEMORY, "%s", err.message);
        imv_arrow_feed_free(feed);
        cr_assert_eq(imv_budget_used(&budget), 0);
        imv_budget_release(&budget);
    }
    imv_buffer_release(&stream);
    bench_release(&bench);
}
