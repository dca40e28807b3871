#include "engine/writer.h"

#include "engine/catalog_internal.h"
#include "engine/exchange.h"
#include "engine/journal.h"
#include "engine/series_cache.h"
#include "storage/base/budget.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "storage/wal.h"
#include "tests/support/kv_memory.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHARDS = 3 };

/* A writer of shard 1 between a catalog and the queues of three shards that nobody runs: the tests take the batches. */
struct bench {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_budget budget;
    struct imv_writer *writer;
    unsigned wakes[SHARDS];
};

static void count_wake(void *context, uint32_t shard) {
    struct bench *bench = context;
    bench->wakes[shard]++;
}

static void bench_init(struct bench *bench, size_t budget_bytes) {
    memset(bench, 0, sizeof *bench);
    cr_assert_eq(imv_kv_memory_new(1, &bench->disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(bench->disk, &bench->kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(bench->kv, SHARDS, &bench->catalog, NULL), IMV_OK);
    cr_assert_eq(imv_exchange_init(&bench->exchange, SHARDS, count_wake, bench, NULL), IMV_OK);
    imv_budget_init(&bench->budget, "test_writer", budget_bytes);
    cr_assert_eq(imv_writer_new_for(bench->catalog, &bench->exchange, &bench->budget, 1, &bench->writer, NULL), IMV_OK);
}

static void bench_release(struct bench *bench) {
    imv_writer_free(bench->writer);
    imv_exchange_release(&bench->exchange);
    imv_budget_release(&bench->budget);
    imv_catalog_close(bench->catalog);
    imv_kv_close(bench->kv);
    imv_kv_memory_free(bench->disk);
}

/* The series label{host=number}. */
static struct imv_series *series_of(struct bench *bench, const char *label, int number) {
    char raw[64], host[16];
    snprintf(raw, sizeof raw, "%s,host=%d", label, number);
    snprintf(host, sizeof host, "%d", number);
    struct imv_series *series = imv_writer_find_series(bench->writer, imv_str_from(raw));
    if (series != NULL) return series;
    struct imv_tag tag = {IMV_STR("host"), imv_str_from(host)};
    struct imv_error err;
    cr_assert_eq(imv_writer_make_series(bench->writer, imv_str_from(raw), imv_str_from(label), &tag, 1, &series, &err),
                 IMV_OK, "%s", err.message);
    return series;
}

/* A series that a given shard owns. */
static struct imv_series *series_on(struct bench *bench, uint32_t shard) {
    for (int i = 0;; i++) {
        struct imv_series *series = series_of(bench, "cpu", i);
        if (series->shard == shard) return series;
    }
}

static imv_status field(struct bench *bench, const char *name, int64_t value, struct imv_error *err) {
    return imv_writer_field(bench->writer, imv_str_from(name), IMV_INTEGER, (uint64_t)value, err);
}

/* Writes a row with the one field v. */
static void write_one(struct bench *bench, struct imv_series *series, int64_t timestamp) {
    struct imv_error err;
    cr_assert_eq(imv_writer_begin(bench->writer, series, 1, 0, &err), IMV_OK, "%s", err.message);
    cr_assert_eq(field(bench, "v", timestamp, &err), IMV_OK, "%s", err.message);
    cr_assert_eq(imv_writer_end(bench->writer, timestamp, &err), IMV_OK, "%s", err.message);
}

static struct imv_batch *take_batch(struct bench *bench, uint32_t shard) {
    return imv_spsc_pop(&imv_exchange_cell(&bench->exchange, shard, 1)->queue);
}

static void apply(struct bench *bench, uint32_t shard, uint64_t batches) {
    atomic_fetch_add(&imv_exchange_cell(&bench->exchange, shard, 1)->applied, batches);
}

/* Prints a row as "label,host=x f=1,g="s" @t". */
static void print_row(const struct imv_row *row, char *to, size_t size) {
    size_t used = (size_t)snprintf(to, size, "%.*s,host=%.*s ", (int)row->series->label->name.size,
                                   row->series->label->name.data, (int)imv_series_tag_at(row->series, 0).value.size,
                                   imv_series_tag_at(row->series, 0).value.data);
    for (uint32_t i = 0; i < row->shape->count; i++) {
        const struct imv_field *of = row->shape->fields[i];
        used +=
            (size_t)snprintf(to + used, size - used, "%s%.*s=", i > 0 ? "," : "", (int)of->name.size, of->name.data);
        if (of->type == IMV_STRING) {
            struct imv_str text = imv_cell_str(row->cells[i]);
            used += (size_t)snprintf(to + used, size - used, "\"%.*s\"", (int)text.size, text.data);
        } else {
            used += (size_t)snprintf(to + used, size - used, "%lld", (long long)row->cells[i]);
        }
    }
    snprintf(to + used, size - used, " @%lld", (long long)row->timestamp);
}

/* The rows of all batches sent to a shard, one a line. */
static const char *sent_rows(struct bench *bench, uint32_t shard) {
    static char lines[1 << 20];
    size_t used = 0;
    lines[0] = 0;
    for (struct imv_batch *batch; (batch = take_batch(bench, shard)) != NULL; imv_batch_free(batch)) {
        uint32_t rows = 0;
        uint64_t values = 0;
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL; rows++) {
            print_row(row, lines + used, sizeof lines - used);
            used += strlen(lines + used);
            lines[used++] = '\n';
            lines[used] = 0;
            values += row->shape->count;
        }
        cr_assert_eq(batch->rows, rows);
        cr_assert_eq(batch->values, values);
        cr_assert_eq(batch->source, 1);
    }
    return lines;
}

Test(writer, the_end_of_a_pause_is_room_at_once) {
    /* A writer that keeps to a pause has no room; whoever is woken at its end finds room before anything is sent again,
     * and none of the series that were removed meanwhile. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    series_of(&bench, "cpu", 1);
    cr_assert(imv_writer_has_room(bench.writer));
    atomic_store(&bench.exchange.pause, 7);
    cr_assert(imv_writer_has_room(bench.writer), "a pause begins with a send");
    imv_writer_send(bench.writer);
    cr_assert_not(imv_writer_has_room(bench.writer));
    cr_assert_eq(atomic_load(&bench.exchange.quiet[1]), 7);
    cr_assert_not_null(imv_writer_find_series(bench.writer, IMV_STR("cpu,host=1")));
    imv_catalog_remove(bench.catalog, NULL, 0);
    atomic_store(&bench.exchange.pause, 0);
    imv_exchange_made_room(&bench.exchange);
    cr_assert_eq(bench.wakes[1], 1);
    cr_assert(imv_writer_has_room(bench.writer));
    cr_assert_null(imv_writer_find_series(bench.writer, IMV_STR("cpu,host=1")));
    bench_release(&bench);
}

Test(writer, rows_go_to_the_owner_of_their_series) {
    /* Each row arrives once, at its owner, in the order of writing; the owners are woken. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    for (int i = 0; i < 3000; i++) write_one(&bench, series_of(&bench, "cpu", i % 50), i);
    imv_writer_send(bench.writer);
    int rows = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        int64_t last = -1;
        cr_assert_gt(bench.wakes[shard], 0);
        for (struct imv_batch *batch; (batch = take_batch(&bench, shard)) != NULL; imv_batch_free(batch)) {
            for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL; rows++) {
                cr_assert_eq(row->series->shard, shard);
                cr_assert_gt(row->timestamp, last);
                last = row->timestamp;
            }
        }
    }
    cr_assert_eq(rows, 3000);
    bench_release(&bench);
}

Test(writer, shapes_are_followed_left_and_found_again) {
    /* Whatever fields a line has, in whatever order, shorter, longer or with a field twice, the row holds them with the
     * last value of each. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_of(&bench, "cpu", 0);
    static const struct {
        const char *names; /* a letter a field; capitals are strings */
        const char *expected;
    } cases[] = {
        {"abc", "a=0,b=1,c=2"},
        {"abc", "a=0,b=1,c=2"},
        {"ab", "a=0,b=1"},
        {"abcd", "a=0,b=1,c=2,d=3"},
        {"acb", "a=0,c=1,b=2"},
        {"aab", "a=1,b=2"},
        {"aba", "a=2,b=1"},
        {"abcdabcd", "a=4,b=5,c=6,d=7"},
        {"x", "x=0"},
        {"Sab", "S=\"s0\",a=1,b=2"},
        {"SabT", "S=\"s0\",a=1,b=2,T=\"s3\""},
        {"SabTcde", "S=\"s0\",a=1,b=2,T=\"s3\",c=4,d=5,e=6"},
        {"SaT", "S=\"s0\",a=1,T=\"s2\""},
        {"SSS", "S=\"s2\""},
        {"SaTST", "S=\"s3\",a=1,T=\"s4\""},
        {"S", "S=\"s0\""},
        {"STUVWXYZabcdefghijkl", "S=\"s0\",T=\"s1\",U=\"s2\",V=\"s3\",W=\"s4\",X=\"s5\",Y=\"s6\",Z=\"s7\",a=8,b=9,c=10,"
                                 "d=11,e=12,f=13,g=14,h=15,i=16,j=17,k=18,l=19"},
        {"abc", "a=0,b=1,c=2"},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct imv_prng prng;
    imv_prng_init(&prng, 7);
    for (int round = 0; round < 400; round++) {
        size_t i = round < CASES ? (size_t)round : imv_prng_below(&prng, CASES);
        uint32_t count = (uint32_t)strlen(cases[i].names), spare = (uint32_t)imv_prng_below(&prng, 3);
        struct imv_error err;
        cr_assert_eq(imv_writer_begin(bench.writer, series, count + spare, 8 * count, &err), IMV_OK);
        for (uint32_t k = 0; k < count; k++) {
            struct imv_str name = {&cases[i].names[k], 1};
            char text[16];
            snprintf(text, sizeof text, "s%u", k);
            imv_status status = name.data[0] >= 'a'
                                    ? imv_writer_field(bench.writer, name, IMV_INTEGER, k, &err)
                                    : imv_writer_field_string(bench.writer, name, imv_str_from(text), &err);
            cr_assert_eq(status, IMV_OK, "%s", err.message);
        }
        cr_assert_eq(imv_writer_end(bench.writer, round, &err), IMV_OK);
        imv_writer_send(bench.writer);
        char expected[512];
        snprintf(expected, sizeof expected, "cpu,host=0 %s @%d\n", cases[i].expected, round);
        cr_assert_str_eq(sent_rows(&bench, series->shard), expected);
    }
    bench_release(&bench);
}

Test(writer, a_row_that_fails_leaves_the_others) {
    /* A type conflict, an empty row and an abandoned one leave no row, and what comes after is as if they had not
     * been. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_of(&bench, "cpu", 0);
    struct imv_error err;
    write_one(&bench, series, 1);
    cr_assert_eq(imv_writer_begin(bench.writer, series, 3, 0, NULL), IMV_OK);
    cr_assert_eq(imv_writer_field(bench.writer, IMV_STR("v"), IMV_FLOAT, 0, &err), IMV_CONFLICT);
    cr_assert_str_eq(err.message, "field \"v\" of \"cpu\" is integer, not float");
    imv_writer_abort(bench.writer);
    cr_assert_eq(imv_writer_begin(bench.writer, series, 3, 0, NULL), IMV_OK);
    cr_assert_eq(imv_writer_end(bench.writer, 2, &err), IMV_INVALID);
    cr_assert_eq(imv_writer_begin(bench.writer, series, 3, 64, NULL), IMV_OK);
    cr_assert_eq(field(&bench, "v", 1, NULL), IMV_OK);
    cr_assert_eq(imv_writer_field_string(bench.writer, IMV_STR("s"), IMV_STR("lost"), NULL), IMV_OK);
    imv_writer_abort(bench.writer);
    write_one(&bench, series, 3);
    cr_assert_eq(imv_writer_begin(bench.writer, series, 1, IMV_STRING_BYTES_MAX + 1, NULL), IMV_OK);
    char *text = calloc(1, IMV_STRING_BYTES_MAX + 1);
    struct imv_str longer = {text, IMV_STRING_BYTES_MAX + 1};
    cr_assert_eq(imv_writer_field_string(bench.writer, IMV_STR("s"), longer, &err), IMV_INVALID);
    imv_writer_abort(bench.writer);
    free(text);
    imv_writer_send(bench.writer);
    cr_assert_str_eq(sent_rows(&bench, series->shard), "cpu,host=0 v=1 @1\ncpu,host=0 v=3 @3\n");
    bench_release(&bench);
}

Test(writer, rows_larger_than_a_batch_get_their_own) {
    /* The longest line with the most fields fits, between small rows and in their order. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_of(&bench, "cpu", 0);
    write_one(&bench, series, 1);
    cr_assert_eq(imv_writer_begin(bench.writer, series, 1024, 64 * 1024, NULL), IMV_OK);
    for (int i = 0; i < 1024; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        static const char text[64] = "0123456789012345678901234567890123456789012345678901234567890123";
        cr_assert_eq(imv_writer_field_string(bench.writer, imv_str_from(name), (struct imv_str){text, 64}, NULL),
                     IMV_OK);
    }
    cr_assert_eq(imv_writer_end(bench.writer, 2, NULL), IMV_OK);
    write_one(&bench, series, 3);
    imv_writer_send(bench.writer);
    int64_t timestamp = 0;
    for (struct imv_batch *batch; (batch = take_batch(&bench, series->shard)) != NULL; imv_batch_free(batch)) {
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
            cr_assert_eq(row->timestamp, ++timestamp);
            if (timestamp == 2) cr_assert(imv_cell_str(row->cells[1023]).size == 64 && row->shape->count == 1024);
        }
    }
    cr_assert_eq(timestamp, 3);
    bench_release(&bench);
}

Test(writer, rows_that_no_group_could_hold_are_refused) {
    /* A row that may become too large for a journal group is refused before it begins. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_of(&bench, "cpu", 0);
    cr_assert_eq(imv_writer_begin(bench.writer, series, IMV_FIELDS_MAX, IMV_WRITER_ROW_BYTES_MAX, NULL), IMV_INVALID);
    cr_assert_eq(imv_writer_begin(bench.writer, series, 1, IMV_WRITER_ROW_BYTES_MAX, NULL), IMV_INVALID);
    cr_assert_eq(imv_writer_begin(bench.writer, series, IMV_FIELDS_MAX, IMV_STRING_BYTES_MAX, NULL), IMV_OK);
    imv_writer_abort(bench.writer);
    write_one(&bench, series, 1);
    bench_release(&bench);
}

Test(writer, a_mark_is_reached_when_every_owner_has_applied_up_to_it) {
    /* A mark taken before, between and after sends is IMV_BUSY until each shard has applied its batches, no earlier and
     * no later. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series[SHARDS];
    for (uint32_t shard = 0; shard < SHARDS; shard++) series[shard] = series_on(&bench, shard);
    uint64_t none[SHARDS], first[SHARDS], second[SHARDS];
    imv_writer_mark(bench.writer, none);
    cr_assert_eq(imv_writer_check(bench.writer, none, NULL), IMV_OK);
    write_one(&bench, series[0], 1);
    write_one(&bench, series[2], 1);
    imv_writer_mark(bench.writer, first); /* not sent yet */
    cr_assert_eq(imv_writer_check(bench.writer, first, NULL), IMV_BUSY);
    imv_writer_send(bench.writer);
    write_one(&bench, series[2], 2);
    imv_writer_mark(bench.writer, second);
    imv_writer_send(bench.writer);
    cr_assert(first[0] == 1 && first[1] == 0 && first[2] == 1);
    cr_assert(second[0] == 1 && second[1] == 0 && second[2] == 2);
    apply(&bench, 2, 1);
    cr_assert_eq(imv_writer_check(bench.writer, first, NULL), IMV_BUSY);
    apply(&bench, 0, 1);
    cr_assert_eq(imv_writer_check(bench.writer, first, NULL), IMV_OK);
    cr_assert_eq(imv_writer_check(bench.writer, second, NULL), IMV_BUSY);
    apply(&bench, 2, 1);
    cr_assert_eq(imv_writer_check(bench.writer, second, NULL), IMV_OK);
    bench_release(&bench);
}

Test(writer, a_failed_journal_is_told) {
    /* After a failure a mark that was reached stays IMV_OK, one that was not is IMV_CLOSED with the reason, and one
     * that waits for healthy shards only goes on waiting and is reached. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    uint64_t reached[SHARDS], pending[SHARDS], healthy[SHARDS];
    write_one(&bench, series_on(&bench, 1), 1);
    imv_writer_mark(bench.writer, healthy);
    imv_writer_send(bench.writer);
    struct imv_series *series = series_on(&bench, 2);
    write_one(&bench, series, 1);
    imv_writer_mark(bench.writer, reached);
    imv_writer_send(bench.writer);
    apply(&bench, 2, 1);
    write_one(&bench, series, 2);
    imv_writer_mark(bench.writer, pending);
    imv_writer_send(bench.writer);
    struct imv_error failure, err;
    imv_fail(&failure, IMV_IO, "wal: the disk is gone");
    imv_exchange_fail(&bench.exchange, 2, &failure);
    cr_assert_eq(imv_writer_check(bench.writer, healthy, &err), IMV_BUSY);
    apply(&bench, 1, 1);
    cr_assert_eq(imv_writer_check(bench.writer, healthy, &err), IMV_OK);
    cr_assert_eq(imv_writer_check(bench.writer, reached, &err), IMV_OK);
    cr_assert_eq(imv_writer_check(bench.writer, pending, &err), IMV_CLOSED);
    cr_assert_not_null(strstr(err.message, "the disk is gone"));
    cr_assert_eq(imv_writer_check(bench.writer, pending, NULL), IMV_CLOSED);
    bench_release(&bench);
}

Test(writer, a_full_queue_keeps_the_order) {
    /* Batches that do not fit the queue wait in the writer, room is denied and asked for, and they follow in order. */
    struct bench bench;
    bench_init(&bench, 256 << 20);
    struct imv_series *series = series_on(&bench, 0);
    int written = 0;
    while (imv_writer_has_room(bench.writer)) {
        write_one(&bench, series, ++written);
        imv_writer_send(bench.writer);
        cr_assert_leq(written, IMV_EXCHANGE_QUEUE_BATCHES);
    }
    cr_assert_eq(written, IMV_EXCHANGE_QUEUE_BATCHES);
    for (int i = 0; i < 5; i++) { /* a caller that does not ask */
        write_one(&bench, series, ++written);
        imv_writer_send(bench.writer);
    }
    cr_assert(atomic_load(&bench.exchange.room_wanted[1]));
    uint64_t marks[SHARDS];
    imv_writer_mark(bench.writer, marks);
    bench.wakes[1] = 0;
    int taken = 0;
    uint64_t batches = 0;
    while (taken < written) {
        struct imv_batch *batch = take_batch(&bench, 0);
        if (batch == NULL) {
            imv_exchange_made_room(&bench.exchange);
            cr_assert(imv_writer_has_room(bench.writer)); /* pushes what waited */
            imv_writer_send(bench.writer);
            continue;
        }
        batches++;
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
            cr_assert_eq(row->timestamp, ++taken);
        }
        imv_batch_free(batch);
    }
    cr_assert_gt(bench.wakes[1], 0);
    cr_assert_eq(batches, marks[0]);
    bench_release(&bench);
}

Test(writer, spent_batch_memory_stops_the_caller_not_the_row) {
    /* With has_room asked before each row no row is ever refused, whatever the budget; room comes back with the
     * memory. */
    struct bench bench;
    bench_init(&bench, 6 * IMV_BATCH_BYTES + 200 * 1024);
    uint64_t written = 0, read = 0;
    for (int round = 0; round < 20; round++) {
        while (imv_writer_has_room(bench.writer)) {
            written++;
            write_one(&bench, series_of(&bench, "cpu", (int)(written % 40)), (int64_t)written);
        }
        imv_writer_send(bench.writer);
        cr_assert_not(imv_writer_has_room(bench.writer));
        cr_assert(atomic_load(&bench.exchange.room_wanted[1]));
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            for (struct imv_batch *batch; (batch = take_batch(&bench, shard)) != NULL; imv_batch_free(batch))
                read += batch->rows;
        }
        imv_exchange_made_room(&bench.exchange);
    }
    cr_assert_eq(read, written);
    cr_assert_gt(written, 20 * 1000);
    bench_release(&bench);
}

Test(writer, without_asking_a_spent_budget_is_full) {
    /* A caller that does not ask for room gets IMV_FULL and loses only that row. */
    struct bench bench;
    bench_init(&bench, 2 * IMV_BATCH_BYTES);
    struct imv_series *series = series_on(&bench, 0);
    imv_status status = IMV_OK;
    int written = 0;
    while (written < 100000) {
        status = imv_writer_begin(bench.writer, series, 1, 0, NULL);
        if (status != IMV_OK) break;
        cr_assert_eq(field(&bench, "v", written, NULL), IMV_OK);
        cr_assert_eq(imv_writer_end(bench.writer, ++written, NULL), IMV_OK);
    }
    cr_assert_eq(status, IMV_FULL);
    imv_writer_send(bench.writer);
    imv_batch_free(take_batch(&bench, 0));
    write_one(&bench, series, written + 1);
    bench_release(&bench);
}

Test(writer, a_new_writer_goes_on_counting) {
    /* Numbers go on where the former writer of the shard stopped, so that old counters do not acknowledge new rows. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_on(&bench, 0);
    write_one(&bench, series, 1);
    imv_writer_send(bench.writer);
    apply(&bench, 0, 1);
    imv_writer_free(bench.writer);
    cr_assert_eq(imv_writer_new_for(bench.catalog, &bench.exchange, &bench.budget, 1, &bench.writer, NULL), IMV_OK);
    write_one(&bench, series, 2);
    uint64_t marks[SHARDS];
    imv_writer_mark(bench.writer, marks);
    imv_writer_send(bench.writer);
    cr_assert_eq(imv_writer_check(bench.writer, marks, NULL), IMV_BUSY);
    apply(&bench, 0, 1);
    cr_assert_eq(imv_writer_check(bench.writer, marks, NULL), IMV_OK);
    bench_release(&bench);
}

Test(writer, rows_are_cut_when_there_are_too_many_shapes) {
    /* Beyond IMV_SHAPES_BYTES_MAX a row with a new set of fields arrives as one row per field, strings included. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_of(&bench, "cpu", 0);
    write_one(&bench, series, 1);
    bench.catalog->shapes_bytes = IMV_SHAPES_BYTES_MAX;
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(imv_writer_begin(bench.writer, series, 3, 64, NULL), IMV_OK);
        cr_assert_eq(field(&bench, "v", 7, NULL), IMV_OK);
        cr_assert_eq(imv_writer_field_string(bench.writer, IMV_STR("s"), IMV_STR("a string"), NULL), IMV_OK);
        cr_assert_eq(field(&bench, "w", 8, NULL), IMV_OK);
        cr_assert_eq(imv_writer_end(bench.writer, 2, NULL), IMV_OK);
    }
    write_one(&bench, series, 3);
    imv_writer_send(bench.writer);
    cr_assert_str_eq(sent_rows(&bench, series->shard),
                     "cpu,host=0 v=1 @1\n"
                     "cpu,host=0 v=7 @2\ncpu,host=0 s=\"a string\" @2\ncpu,host=0 w=8 @2\n"
                     "cpu,host=0 v=7 @2\ncpu,host=0 s=\"a string\" @2\ncpu,host=0 w=8 @2\n"
                     "cpu,host=0 v=3 @3\n");
    bench_release(&bench);
}

Test(writer, a_batch_with_its_definitions_fits_a_group, .timeout = 60) {
    /* Rows of ever new series with the longest tags, and of labels with the longest field names, are cut into batches
     * whose bound stays below the journal's maximum and holds what encoding them takes. */
    struct bench bench;
    bench_init(&bench, 256 << 20);
    static char longest[IMV_NAME_BYTES_MAX];
    memset(longest, 'x', sizeof longest);
    struct imv_journal_encoder *encoders[SHARDS];
    for (uint32_t i = 0; i < SHARDS; i++) {
        cr_assert_eq(imv_journal_encoder_new(bench.catalog, i, &encoders[i], NULL), IMV_OK);
    }
    struct imv_tag tags[32];
    char keys[32][16];
    for (int i = 0; i < 32; i++) {
        snprintf(keys[i], sizeof keys[i], "k%d", i);
        tags[i] = (struct imv_tag){imv_str_from(keys[i]), {longest, sizeof longest}};
    }
    for (int i = 0; i < 400; i++) {
        char label[16], raw[16], name[IMV_NAME_BYTES_MAX + 1];
        snprintf(label, sizeof label, "l%d", i / 100);
        snprintf(raw, sizeof raw, "r%d", i);
        imv_put_u32(longest, (uint32_t)i | 0x01010101u << 1);
        struct imv_series *series;
        struct imv_error err;
        cr_assert_eq(
            imv_writer_make_series(bench.writer, imv_str_from(raw), imv_str_from(label), tags, 32, &series, &err),
            IMV_OK, "%s", err.message);
        cr_assert_eq(imv_writer_begin(bench.writer, series, 5, 0, &err), IMV_OK);
        for (int f = 0; f < 5; f++) {
            snprintf(name, sizeof name, "%0*d", IMV_NAME_BYTES_MAX, (i % 100) * 5 + f);
            cr_assert_eq(field(&bench, name, 1, &err), IMV_OK, "%s", err.message);
        }
        cr_assert_eq(imv_writer_end(bench.writer, 1, &err), IMV_OK);
    }
    imv_writer_send(bench.writer);
    size_t largest = 0, batches = 0;
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        for (struct imv_batch *batch; (batch = take_batch(&bench, shard)) != NULL; imv_batch_free(batch)) {
            size_t bound = imv_journal_bound(batch);
            if (bound > largest) largest = bound;
            struct imv_buffer payload;
            imv_buffer_init(&payload, bound);
            cr_assert_eq(imv_journal_encode(encoders[shard], batch, &payload, NULL), IMV_OK);
            cr_assert_leq(payload.size, bound);
            imv_buffer_release(&payload);
            batches++;
        }
    }
    cr_assert_gt(batches, SHARDS);
    cr_assert_lt(largest, IMV_WAL_PAYLOAD_BYTES_MAX / 2); /* by far: the labels here are not as wide as they may be */
    for (uint32_t i = 0; i < SHARDS; i++) imv_journal_encoder_free(encoders[i]);
    bench_release(&bench);
}

/* ---- the series cache ---- */

Test(writer, placed_rows_are_rows) {
    /* A row that was placed and put stands in the batch like one given field by field; one that was not put leaves no
     * trace; before any shape is known, or without an open batch with room, there is no place. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_on(&bench, 2);
    cr_assert_null(imv_writer_shapes(bench.writer, series->label));
    cr_assert_null(imv_writer_place(bench.writer, series, 32));
    write_one(&bench, series, 1);
    const struct imv_shape *shape = imv_writer_shapes(bench.writer, series->label)[0];
    cr_assert_eq(shape->count, 1);
    for (int64_t i = 2; i < 5; i++) {
        struct imv_row *row = imv_writer_place(bench.writer, series, 1000);
        cr_assert_not_null(row);
        row->cells[0] = (uint64_t)i;
        if (i != 3) imv_writer_put(bench.writer, row, series, shape, i, sizeof *row + sizeof row->cells[0]);
    }
    cr_assert_null(imv_writer_place(bench.writer, series, IMV_BATCH_BYTES));
    write_one(&bench, series, 9);
    uint64_t marks[SHARDS];
    imv_writer_mark(bench.writer, marks);
    cr_assert_eq(marks[2], 1);
    imv_writer_send(bench.writer);
    const char *rows = sent_rows(&bench, 2);
    static const int64_t times[] = {1, 2, 4, 9};
    for (int i = 0; i < 4; i++) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "v=%lld @%lld\n", (long long)times[i], (long long)times[i]);
        rows = strstr(rows, wanted);
        cr_assert_not_null(rows, "%s", wanted);
    }
    cr_assert_null(strchr(strchr(rows, '\n') + 1, '\n'));
    bench_release(&bench);
}

Test(writer, placed_rows_count_their_definitions) {
    /* When the series of placed rows may bring too many definitions into the owner's journal, the batch has no place
     * left: it is closed as for any other row. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_on(&bench, 0);
    write_one(&bench, series, 1);
    const struct imv_shape *shape = imv_writer_shapes(bench.writer, series->label)[0];
    size_t bound = imv_journal_series_bound(series), placed = 0;
    for (struct imv_row *row; (row = imv_writer_place(bench.writer, series, 32)) != NULL; placed++) {
        imv_writer_put(bench.writer, row, series, shape, 1, 32);
    }
    size_t by_room = IMV_BATCH_BYTES / 32, by_definitions = IMV_WRITER_DEFINITIONS_MAX / bound;
    cr_assert_lt(placed, by_room < by_definitions ? by_room : by_definitions + 1);
    atomic_store(&series->visible_at, IMV_SEQUENCE_LOADED);
    bench_release(&bench);
}

Test(series_cache, it_never_gives_a_wrong_answer_and_stays_small) {
    /* Against a model: an answer is the last series put for these bytes or NULL; what was used lately is remembered. */
    enum { SLOTS = 256, KEYS = 2000 };
    static struct imv_series series[KEYS];
    struct imv_series_cache cache;
    cr_assert_eq(imv_series_cache_init(&cache, SLOTS, NULL), IMV_OK);
    struct imv_prng prng;
    imv_prng_init(&prng, 11);
    int hits = 0, lookups = 0;
    for (int step = 0; step < 200000; step++) {
        /* Half of the lookups go to 50 keys. */
        int key = (int)imv_prng_below(&prng, imv_prng_below(&prng, 2) ? 50 : KEYS);
        char raw[16];
        snprintf(raw, sizeof raw, "key%d", key);
        struct imv_series *found = imv_series_cache_find(&cache, imv_str_from(raw));
        cr_assert(found == NULL || found == &series[key]);
        if (key < 50) {
            lookups++;
            hits += found != NULL;
        }
        if (found == NULL) imv_series_cache_put(&cache, imv_str_from(raw), &series[key]);
        if (step % 16 != 0) continue;
        /* Sixteen at once get what one at a time gets, but that a lookup may move another key out of the older
         * table. */
        struct imv_str raws[IMV_SERIES_CACHE_FIND_MAX];
        struct imv_series *many[IMV_SERIES_CACHE_FIND_MAX];
        char text[IMV_SERIES_CACHE_FIND_MAX][16];
        size_t count = imv_prng_below(&prng, IMV_SERIES_CACHE_FIND_MAX + 1);
        for (size_t i = 0; i < count; i++) {
            snprintf(text[i], sizeof text[i], "key%zu", i);
            raws[i] = imv_str_from(text[i]);
        }
        imv_series_cache_find_many(&cache, raws, count, many);
        for (size_t i = 0; i < count; i++) cr_assert(many[i] == NULL || many[i] == &series[i]);
        imv_series_cache_find_many(&cache, raws, count, many);
        for (size_t i = 0; i < count; i++) cr_assert_eq(many[i], imv_series_cache_find(&cache, raws[i]));
    }
    cr_assert_gt(hits, lookups / 10 * 8);
    imv_series_cache_release(&cache);
    cr_assert_eq(imv_series_cache_init(&cache, 1 << 14, NULL), IMV_OK);
    for (int round = 0; round < 3; round++) {
        hits = 0;
        for (int key = 0; key < KEYS; key++) {
            char raw[16];
            snprintf(raw, sizeof raw, "key%d", key);
            struct imv_series *found = imv_series_cache_find(&cache, imv_str_from(raw));
            hits += found != NULL;
            if (found == NULL) imv_series_cache_put(&cache, imv_str_from(raw), &series[key]);
        }
        cr_assert_eq(hits, round == 0 ? 0 : KEYS);
    }
    imv_series_cache_release(&cache);
}

Test(series_cache, without_memory_it_forgets_and_goes_on) {
    /* Whatever the budget allows, answers are right, tables stay within it and go back; what fits the tables is
     * found. */
    enum { KEYS = 3000 };
    static struct imv_series series[KEYS];
    for (size_t kib = 0; kib <= 256; kib = kib == 0 ? 20 : kib * 2) {
        struct imv_budget budget;
        struct imv_series_cache cache;
        imv_budget_init(&budget, "test_series_cache", kib * 1024);
        cr_assert_eq(imv_series_cache_init(&cache, 1 << 14, NULL), IMV_OK);
        cache.budget = &budget;
        int last_hits = 0;
        for (int step = 0; step < 4 * KEYS; step++) {
            int key = step % KEYS;
            char raw[16], former[16];
            snprintf(raw, sizeof raw, "key%d", key);
            snprintf(former, sizeof former, "key%d", key == 0 ? 0 : key - 1);
            struct imv_series *found = imv_series_cache_find(&cache, imv_str_from(raw));
            cr_assert(found == NULL || found == &series[key]);
            if (found == NULL) imv_series_cache_put(&cache, imv_str_from(raw), &series[key]);
            last_hits += imv_series_cache_find(&cache, imv_str_from(former)) == &series[key == 0 ? 0 : key - 1];
            cr_assert_leq(imv_budget_used(&budget), kib * 1024);
        }
        if (kib < 32) cr_assert_eq(last_hits > 0, kib * 1024 > 1024 * 24);
        if (kib >= 64) cr_assert_gt(last_hits, 4 * KEYS / 10 * 9);
        imv_series_cache_release(&cache);
        imv_budget_release(&budget);
    }
}

Test(writer, a_refusal_closes_the_way_in) {
    /* While nothing new is taken the writer has no room and says why; what it had goes on; the end wakes the shards and
     * gives room again. */
    struct bench bench;
    struct imv_error reason, err;
    bench_init(&bench, 64 << 20);
    struct imv_series *series = series_on(&bench, 0);
    write_one(&bench, series, 1);
    cr_assert_eq(imv_writer_accepts(bench.writer, &err), IMV_OK);
    imv_fail(&reason, IMV_FULL, "the disk is nearly full");
    imv_exchange_refuse(&bench.exchange, &reason);
    imv_writer_send(bench.writer);
    cr_assert_not(imv_writer_has_room(bench.writer));
    cr_assert_eq(imv_writer_accepts(bench.writer, &err), IMV_FULL);
    cr_assert_str_eq(err.message, "the disk is nearly full");
    struct imv_batch *batch = take_batch(&bench, 0);
    cr_assert(batch != NULL && batch->rows == 1);
    imv_batch_free(batch);
    for (uint32_t shard = 0; shard < SHARDS; shard++)
        imv_exchange_woken(&bench.exchange, shard), bench.wakes[shard] = 0;
    imv_exchange_refuse(&bench.exchange, NULL);
    for (uint32_t shard = 0; shard < SHARDS; shard++) cr_expect_eq(bench.wakes[shard], 1);
    cr_assert(imv_writer_has_room(bench.writer));
    cr_assert_eq(imv_writer_accepts(bench.writer, &err), IMV_OK);
    bench_release(&bench);
}
