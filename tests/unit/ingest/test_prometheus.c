#include "ingest/prometheus.h"

#include "engine/exchange.h"
#include "storage/base/budget.h"
#include "storage/base/buffer.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"
#include "tests/support/prometheus.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A reader before a writer whose one shard nobody runs: the tests take the rows. */
static struct {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_budget budget;
    struct imv_writer *writer;
    struct imv_prometheus reader;
    struct imv_buffer request, series, rows, rejects;
} rig;

static void on_reject(void *context, const struct imv_error *reason) {
    (void)context;
    imv_buffer_append_format(&rig.rejects, "%s\n", reason->message);
}

static void begin_request(void) {
    imv_prometheus_init(&rig.reader, rig.writer);
    rig.reader.reject = on_reject;
    imv_buffer_reset(&rig.rows);
    imv_buffer_reset(&rig.rejects);
}

static void start_with(size_t budget_bytes) {
    cr_assert_eq(imv_kv_memory_new(1, &rig.disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(rig.disk, &rig.kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(rig.kv, 1, &rig.catalog, NULL), IMV_OK);
    cr_assert_eq(imv_exchange_init(&rig.exchange, 1, NULL, NULL, NULL), IMV_OK);
    imv_budget_init(&rig.budget, "test_prometheus", budget_bytes);
    cr_assert_eq(imv_writer_new_for(rig.catalog, &rig.exchange, &rig.budget, 0, &rig.writer, NULL), IMV_OK);
    imv_buffer_init(&rig.request, 64 << 20);
    imv_buffer_init(&rig.series, 64 << 20);
    imv_buffer_init(&rig.rows, 64 << 20);
    imv_buffer_init(&rig.rejects, 1 << 20);
    begin_request();
}

static void start(void) { start_with(64 << 20); }

static void stop(void) {
    imv_buffer_release(&rig.request);
    imv_buffer_release(&rig.series);
    imv_buffer_release(&rig.rows);
    imv_buffer_release(&rig.rejects);
    imv_writer_free(rig.writer);
    imv_exchange_release(&rig.exchange);
    imv_budget_release(&rig.budget);
    imv_catalog_close(rig.catalog);
    imv_kv_close(rig.kv);
    imv_kv_memory_free(rig.disk);
}

TestSuite(prometheus, .init = start, .fini = stop, .timeout = 120);

/* Takes what the writer sent and adds it to rig.rows, a row as "up,job=a value=3ff0000000000000 @1000000". */
static void drain(void) {
    imv_writer_send(rig.writer);
    struct imv_exchange_cell *cell = imv_exchange_cell(&rig.exchange, 0, 0);
    for (struct imv_batch *batch; (batch = imv_spsc_pop(&cell->queue)) != NULL; imv_batch_free(batch)) {
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
            imv_buffer_append_str(&rig.rows, row->series->label->name);
            for (uint32_t i = 0; i < row->series->tags_count; i++) {
                struct imv_tag tag = imv_series_tag_at(row->series, i);
                imv_buffer_append_format(&rig.rows, ",%.*s=%.*s", (int)tag.key.size, tag.key.data, (int)tag.value.size,
                                         tag.value.data);
            }
            cr_assert_eq(row->shape->count, 1);
            cr_assert_eq(row->shape->fields[0]->type, IMV_FLOAT);
            imv_buffer_append_format(&rig.rows, " %.*s=%016" PRIx64 " @%" PRId64 "\n",
                                     (int)row->shape->fields[0]->name.size, row->shape->fields[0]->name.data,
                                     row->cells[0], row->timestamp);
        }
        atomic_fetch_add(&cell->applied, 1);
    }
}

static const char *text_of(struct imv_buffer *buffer) {
    cr_assert(imv_buffer_append_char(buffer, 0));
    buffer->size--;
    return buffer->data;
}

static int lines_of(const char *text) {
    int count = 0;
    for (; *text != 0; text++) count += *text == '\n';
    return count;
}

/* Takes all of bytes, which are copied to where reading beyond them is seen. */
static imv_status take_all(const char *bytes, size_t size) {
    char *copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, bytes, size);
    struct imv_error err;
    imv_status status;
    do {
        status = imv_prometheus_take(&rig.reader, copy, size, &err);
        drain();
    } while (status == IMV_FULL || status == IMV_BUSY);
    if (status != IMV_OK) cr_assert_not_null(strstr(err.message, "at byte"), "%s", err.message);
    free(copy);
    return status;
}

static imv_status take_request(void) {
    imv_status status = take_all(rig.request.data, rig.request.size);
    imv_buffer_reset(&rig.request);
    return status;
}

static void end_series(void) { prometheus_message(&rig.request, 1, &rig.series); }

/* Labels become label and tags, samples rows of the field `value` with their bits and their time in nanoseconds; a
 * value or a time that is left out is zero, a staleness marker stays the NaN that it is. */
Test(prometheus, samples_become_rows) {
    prometheus_label(&rig.series, "__name__", "cpu:load");
    prometheus_label(&rig.series, "instance", "h1:9100");
    prometheus_label(&rig.series, "job", "a\nb");
    prometheus_sample(&rig.series, 1.5, 1767225600123);
    prometheus_sample(&rig.series, 0, -1);
    prometheus_sample_bits(&rig.series, UINT64_C(0x7ff0000000000002), 3);
    prometheus_sample_bits(&rig.series, UINT64_C(0x8000000000000000), 4);
    prometheus_bytes(&rig.series, 2, IMV_STR(""));
    end_series();
    prometheus_series(&rig.request, "up", NULL, NULL, INFINITY, 5);
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert_str_eq(text_of(&rig.rows),
                     "cpu:load,instance=h1:9100,job=a\nb value=3ff8000000000000 @1767225600123000000\n"
                     "cpu:load,instance=h1:9100,job=a\nb value=0000000000000000 @-1000000\n"
                     "cpu:load,instance=h1:9100,job=a\nb value=7ff0000000000002 @3000000\n"
                     "cpu:load,instance=h1:9100,job=a\nb value=8000000000000000 @4000000\n"
                     "cpu:load,instance=h1:9100,job=a\nb value=0000000000000000 @0\n"
                     "up value=7ff0000000000000 @5000000\n");
    cr_assert_str_eq(text_of(&rig.rejects), "");
    cr_assert(rig.reader.rows == 6 && rig.reader.rejected == 0);
}

/* What is not stored is passed over: metadata, unknown fields of every type, exemplars and histograms, which are
 * counted; a series of nothing else is not made. */
Test(prometheus, other_fields_are_passed_over) {
    prometheus_bytes(&rig.request, 3, IMV_STR("\x08\x01\x12\x02up"));
    prometheus_varint(&rig.request, 9 << 3 | 0), prometheus_varint(&rig.request, UINT64_MAX);
    prometheus_varint(&rig.request, 9 << 3 | 5), imv_buffer_append(&rig.request, "abcd", 4);
    prometheus_varint(&rig.request, 2000 << 3 | 1), imv_buffer_append(&rig.request, "abcdefgh", 8);
    prometheus_label(&rig.series, "__name__", "up");
    prometheus_bytes(&rig.series, 3, IMV_STR("exemplar"));
    prometheus_sample(&rig.series, 1, 1);
    prometheus_bytes(&rig.series, 4, IMV_STR("histogram"));
    prometheus_bytes(&rig.series, 4, IMV_STR("histogram"));
    prometheus_bytes(&rig.series, 77, IMV_STR("unknown"));
    prometheus_sample(&rig.series, 2, 2);
    end_series();
    prometheus_label(&rig.series, "__name__", "latency");
    prometheus_bytes(&rig.series, 4, IMV_STR("histogram"));
    end_series();
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert_str_eq(text_of(&rig.rows), "up value=3ff0000000000000 @1000000\nup value=4000000000000000 @2000000\n");
    cr_assert_str_eq(text_of(&rig.rejects), "");
    cr_assert_eq(imv_metric_value(IMV_METRIC_remote_write_exemplars_ignored_total), 1);
    cr_assert_eq(imv_metric_value(IMV_METRIC_remote_write_histograms_ignored_total), 3);
    cr_assert_null(imv_catalog_find_label(rig.catalog, IMV_STR("latency")));
}

/* A series that breaks a rule of Prometheus or a limit is left out whole, with one reason that names it; the good ones
 * around it are kept, and it leaves no trace that a later good series would contradict. */
Test(prometheus, a_bad_series_is_named_and_the_good_ones_are_kept) {
    static char long_name[IMV_NAME_BYTES_MAX + 2];
    memset(long_name, 'x', sizeof long_name - 1);
    const struct {
        const char *labels[6];
        const char *reason;
    } cases[] = {
        {{"job", "x"}, "{job=\"x\"}: there is no label __name__"},
        {{"__name__", ""}, "{}: there is no label __name__"},
        {{"__name__", "m", "", "x"}, "m{=\"x\"}: a label has no name"},
        {{"__name__", "m", "a", "1", "a", "2"}, "m{a=\"1\",a=\"2\"}: "},
        {{"__name__", "m", "__name__", "n"}, "mn{}: label __name__ is given twice"},
        {{"__name__", "m", "\xff", "1"}, "m{\xff=\"1\"}: the name of a label is not UTF-8"},
        {{"__name__", "m", "a\n", "\xc3"}, "m{a?=\"\xc3\"}: the value of label 'a\n' is not UTF-8"},
        {{"__name__", "\xff"}, "\xff{}: the value of label '__name__' is not UTF-8"},
        {{"__name__", "m", "value", "1"}, "m{value=\"1\"}: label 'value' has the name of the field"},
        {{"__name__", "m", "a", long_name}, "m{a=\"xxxxx"},
        {{"__name__", long_name}, "xxxxx"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        begin_request();
        prometheus_series(&rig.request, "good", NULL, NULL, 1, 1);
        for (int k = 0; k < 6 && cases[i].labels[k] != NULL; k += 2)
            prometheus_label(&rig.series, cases[i].labels[k], cases[i].labels[k + 1]);
        for (int k = 0; k < 3; k++) prometheus_sample(&rig.series, k, k);
        end_series();
        prometheus_series(&rig.request, "m", "a", "b", 1, 1);
        cr_assert_eq(take_request(), IMV_OK);
        const char *reasons = text_of(&rig.rejects);
        cr_expect(strncmp(reasons, cases[i].reason, strlen(cases[i].reason)) == 0, "%zu: %s", i, reasons);
        cr_expect(rig.reader.rows == 2 && rig.reader.rejected == 3, "%zu: %s", i, reasons);
        cr_expect_str_eq(text_of(&rig.rows),
                         "good value=3ff0000000000000 @1000000\nm,a=b value=3ff0000000000000 @1000000\n");
    }
    cr_expect_null(imv_catalog_find_label(rig.catalog, IMV_STR("n")));
}

/* An empty value is an absent label, as Prometheus has it; labels may come in any order and are sorted. */
Test(prometheus, labels_without_value_are_absent) {
    prometheus_label(&rig.series, "b", "2");
    prometheus_label(&rig.series, "a", "1");
    prometheus_label(&rig.series, "c", "");
    prometheus_label(&rig.series, "__name__", "m");
    prometheus_sample(&rig.series, 1, 1);
    end_series();
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert_str_eq(text_of(&rig.rows), "m,a=1,b=2 value=3ff0000000000000 @1000000\n");
}

/* A field `value` of another type refuses the series of that label only, once said however many samples it has. */
Test(prometheus, a_type_conflict_refuses_the_series) {
    struct imv_series *series;
    struct imv_error err;
    cr_assert_eq(imv_writer_make_series(rig.writer, IMV_STR("m"), IMV_STR("m"), NULL, 0, &series, &err), IMV_OK);
    const struct imv_field *field;
    cr_assert_eq(imv_label_field(rig.catalog, series->label, IMV_STR("value"), IMV_INTEGER, &field, &err), IMV_OK);
    prometheus_label(&rig.series, "__name__", "m");
    for (int i = 0; i < 5; i++) prometheus_sample(&rig.series, i, i);
    end_series();
    prometheus_series(&rig.request, "n", NULL, NULL, 1, 1);
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert_eq(lines_of(text_of(&rig.rejects)), 1, "%s", rig.rejects.data);
    cr_assert(strncmp(rig.rejects.data, "m{}: ", 5) == 0 && strstr(rig.rejects.data, "integer") != NULL);
    cr_assert(rig.reader.rows == 1 && rig.reader.rejected == 5);
}

/* Labels among the samples refuse the rest of their series; what stood before them is kept, and so is what follows. */
Test(prometheus, labels_behind_samples_are_refused) {
    prometheus_label(&rig.series, "__name__", "m");
    prometheus_sample(&rig.series, 1, 1);
    prometheus_label(&rig.series, "a", "b");
    prometheus_sample(&rig.series, 2, 2);
    end_series();
    prometheus_series(&rig.request, "n", NULL, NULL, 1, 1);
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert_str_eq(text_of(&rig.rejects),
                     "m{}: its labels do not stand together before its samples, or have more than 1048576 bytes\n");
    cr_assert(rig.reader.rows == 2 && rig.reader.rejected == 1);
}

/* Only the sample whose time does not fit is left out. */
Test(prometheus, a_time_out_of_range_refuses_the_sample) {
    static const int64_t times[] = {INT64_MIN, INT64_MAX, INT64_C(9223372036855), -INT64_C(9223372036855)};
    prometheus_label(&rig.series, "__name__", "m");
    for (size_t i = 0; i < 4; i++) {
        prometheus_sample(&rig.series, 1, times[i]);
        prometheus_sample(&rig.series, 1, (int64_t)i);
    }
    prometheus_sample(&rig.series, 1, INT64_C(9223372036854));
    end_series();
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert(rig.reader.rows == 5 && rig.reader.rejected == 4);
    cr_assert_eq(lines_of(text_of(&rig.rejects)), 4);
    cr_assert_not_null(strstr(rig.rejects.data, "m{}: the time -9223372036854775808 ms does not fit"));
}

/* However much a hostile series says of itself, its refusals are counted, and only the first are put into words; these
 * words look at a part of its labels. */
Test(prometheus, refusals_of_samples_are_worded_for_the_first_only) {
    enum { SAMPLES = 60000 };
    while (rig.series.size < IMV_PROMETHEUS_LABELS_BYTES_MAX - 100) prometheus_label(&rig.series, "a", "");
    prometheus_label(&rig.series, "__name__", "m");
    for (int i = 0; i < SAMPLES; i++) prometheus_sample(&rig.series, 1, INT64_MAX);
    end_series();
    prometheus_series(&rig.request, "n", NULL, NULL, 1, 1);
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert_eq(lines_of(text_of(&rig.rejects)), IMV_PROMETHEUS_REASONS_MAX);
    cr_assert(strncmp(rig.rejects.data, "{a=\"\",a=\"\"", 10) == 0, "%.200s", rig.rejects.data);
    cr_assert(rig.reader.refusals == SAMPLES && rig.reader.rejected == SAMPLES && rig.reader.rows == 1);
}

/* Labels beyond the limit of one series refuse it, whether they would be empty or not; the next series is taken. */
Test(prometheus, too_many_bytes_of_labels_refuse_the_series) {
    prometheus_label(&rig.series, "__name__", "m");
    while (rig.series.size < IMV_PROMETHEUS_LABELS_BYTES_MAX + 100) prometheus_label(&rig.series, "a", "");
    prometheus_sample(&rig.series, 1, 1);
    end_series();
    prometheus_series(&rig.request, "n", NULL, NULL, 1, 1);
    cr_assert_eq(take_request(), IMV_OK);
    cr_assert_not_null(strstr(text_of(&rig.rejects), "more than 1048576 bytes"), "%.300s", rig.rejects.data);
    cr_assert(rig.reader.refusals == 1 && rig.reader.rejected == 1 && rig.reader.rows == 1);
}

/* A request with a bit of everything, for the tests that break it. */
static void fill_request(int series_count, int samples_count) {
    for (int i = 0; i < series_count; i++) {
        char value[32];
        snprintf(value, sizeof value, "h%d", i);
        prometheus_label(&rig.series, "__name__", i % 5 == 4 ? "" : i % 2 == 0 ? "cpu" : "mem");
        prometheus_label(&rig.series, "host", value);
        for (int k = 0; k < samples_count; k++) prometheus_sample(&rig.series, i + k * 0.5, 1000 * k + i);
        if (i % 3 == 0) prometheus_bytes(&rig.series, 3, IMV_STR("exemplar"));
        end_series();
        if (i % 3 == 1) prometheus_bytes(&rig.request, 3, IMV_STR("metadata"));
    }
}

/* Of a request that is cut short anywhere the samples before the cut are taken, nothing else, and it is called
 * malformed unless the cut is between two fields. */
Test(prometheus, every_prefix_is_handled) {
    fill_request(6, 3);
    begin_request();
    cr_assert_eq(take_all(rig.request.data, rig.request.size), IMV_OK);
    char *whole = strdup(text_of(&rig.rows));
    int good = 0;
    for (size_t size = 0; size < rig.request.size; size++) {
        begin_request();
        good += take_all(rig.request.data, size) == IMV_OK;
        const char *rows = text_of(&rig.rows);
        cr_assert(strncmp(whole, rows, strlen(rows)) == 0, "%zu: %s", size, rows);
    }
    cr_assert_eq(good, 8); /* before each of six series and two metadata */
    free(whole);
}

/* Any flipped byte is taken for what it then says, or refused: nothing is read beyond the request. */
Test(prometheus, every_byte_may_be_flipped) {
    fill_request(6, 3);
    int refused = 0;
    for (size_t i = 0; i < rig.request.size; i++) {
        for (int mask = 0x80; mask > 0; mask >>= 1) {
            begin_request();
            rig.request.data[i] ^= (char)mask;
            refused += take_all(rig.request.data, rig.request.size) == IMV_INVALID || rig.rejects.size > 0;
            rig.request.data[i] ^= (char)mask;
            cr_assert_leq(rig.reader.rows + rig.reader.rejected, 6 * 3 * 3);
        }
    }
    cr_assert_gt(refused, 100);
}

/* However often the writer is full, and however large the request is, every sample is taken once and in order, and
 * every refusal is said once. */
Test(prometheus, a_full_writer_loses_and_doubles_nothing) {
    stop();
    start_with(128 * 1024);
    fill_request(40, 700);
    struct imv_buffer request = rig.request;
    rig.request = (struct imv_buffer){.size_max = 1 << 20};
    uint64_t seen_full = 0;
    imv_status status;
    struct imv_error err;
    do {
        status = imv_prometheus_take(&rig.reader, request.data, request.size, &err);
        seen_full += status == IMV_FULL;
        drain();
    } while (status == IMV_FULL || status == IMV_BUSY);
    cr_assert_eq(status, IMV_OK);
    cr_assert_gt(seen_full, 3);
    cr_assert(rig.reader.rows == 32 * 700 && rig.reader.rejected == 8 * 700);
    cr_assert_eq(lines_of(text_of(&rig.rejects)), 8);
    const char *line = text_of(&rig.rows);
    for (int i = 0; i < 40; i++) {
        for (int k = 0; k < 700 && i % 5 != 4; k++) {
            char expected[128];
            double value = i + k * 0.5;
            uint64_t bits;
            memcpy(&bits, &value, 8);
            int size = snprintf(expected, sizeof expected, "%s,host=h%d value=%016" PRIx64 " @%lld\n",
                                i % 2 == 0 ? "cpu" : "mem", i, bits, (1000LL * k + i) * 1000000);
            cr_assert(strncmp(line, expected, (size_t)size) == 0, "%s: %.80s", expected, line);
            line += size;
        }
    }
    cr_assert_eq(*line, 0);
    imv_buffer_release(&request);
}

/* A large request is taken a share at a time, whatever it is made of: samples, refused samples, labels, other
 * fields. */
Test(prometheus, a_large_request_takes_several_calls) {
    for (int kind = 0; kind < 4; kind++) {
        begin_request();
        while (rig.request.size + rig.series.size < 5 * IMV_PROMETHEUS_TURN_BYTES) {
            if (kind < 2 && rig.series.size == 0) prometheus_label(&rig.series, kind == 0 ? "__name__" : "a", "m");
            if (kind < 2) prometheus_sample(&rig.series, 1, (int64_t)rig.series.size);
            if (kind == 2) prometheus_label(&rig.series, "a", "b");
            if (kind == 3) prometheus_bytes(&rig.request, 3, IMV_STR("metadata"));
        }
        if (kind < 3) end_series();
        struct imv_error err;
        int calls = 1;
        imv_status status;
        for (; (status = imv_prometheus_take(&rig.reader, rig.request.data, rig.request.size, &err)) == IMV_BUSY;
             calls++)
            drain();
        drain();
        cr_expect_eq(status, IMV_OK);
        cr_expect(kind == 2 || (calls >= 5 && calls <= 7), "kind %d: %d calls", kind, calls);
        imv_buffer_reset(&rig.request);
    }
}
