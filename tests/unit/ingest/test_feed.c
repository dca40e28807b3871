#include "ingest/feed.h"

#include "engine/exchange.h"
#include "storage/base/budget.h"
#include "storage/base/buffer.h"
#include "storage/base/clock.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* A feed into a writer whose one shard nobody runs: the tests take the rows. */
struct bench {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_budget budget;
    struct imv_writer *writer;
    struct imv_manual_clock clock;
    struct imv_feed feed;
    struct imv_buffer rows, rejects, comments;
    bool stop_at_comments;
};

static const int64_t NOW = INT64_C(1767225600123456789); /* 2026-01-01T00:00:00.123456789Z */

static void on_reject(void *context, uint64_t line, const struct imv_error *reason) {
    struct bench *bench = context;
    imv_buffer_append_format(&bench->rejects, "%llu %s: %s\n", (unsigned long long)line,
                             imv_status_name(reason->status), reason->message);
}

static bool on_comment(void *context, struct imv_str text) {
    struct bench *bench = context;
    imv_buffer_append_format(&bench->comments, "[%.*s]", (int)text.size, text.data);
    return !bench->stop_at_comments;
}

static void feed_init(struct bench *bench, enum imv_precision precision) {
    imv_feed_init(&bench->feed, bench->writer, &bench->clock.clock, precision);
    bench->feed.reject = on_reject;
    bench->feed.comment = on_comment;
    bench->feed.context = bench;
}

static void bench_init(struct bench *bench, size_t budget_bytes) {
    memset(bench, 0, sizeof *bench);
    cr_assert_eq(imv_kv_memory_new(1, &bench->disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(bench->disk, &bench->kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(bench->kv, 1, &bench->catalog, NULL), IMV_OK);
    cr_assert_eq(imv_exchange_init(&bench->exchange, 1, NULL, NULL, NULL), IMV_OK);
    imv_budget_init(&bench->budget, "test_feed", budget_bytes);
    cr_assert_eq(imv_writer_new_for(bench->catalog, &bench->exchange, &bench->budget, 0, &bench->writer, NULL), IMV_OK);
    imv_manual_clock_init(&bench->clock, NOW);
    imv_buffer_init(&bench->rows, 64 << 20);
    imv_buffer_init(&bench->rejects, 1 << 20);
    imv_buffer_init(&bench->comments, 1 << 20);
    feed_init(bench, IMV_PRECISION_NS);
}

static void bench_release(struct bench *bench) {
    imv_buffer_release(&bench->rows);
    imv_buffer_release(&bench->rejects);
    imv_buffer_release(&bench->comments);
    imv_writer_free(bench->writer);
    imv_exchange_release(&bench->exchange);
    imv_budget_release(&bench->budget);
    imv_catalog_close(bench->catalog);
    imv_kv_close(bench->kv);
    imv_kv_memory_free(bench->disk);
}

/* A row as "cpu,host=a v=1:2 @3": name = type : cell. */
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
            case IMV_FLOAT: imv_buffer_append_format(out, "%g", imv_cell_float(row->cells[i])); break;
            case IMV_INTEGER: imv_buffer_append_format(out, "%lldi", (long long)row->cells[i]); break;
            case IMV_UINTEGER: imv_buffer_append_format(out, "%lluu", (unsigned long long)row->cells[i]); break;
            case IMV_BOOLEAN: imv_buffer_append_str(out, row->cells[i] ? IMV_STR("true") : IMV_STR("false")); break;
            case IMV_STRING: {
                struct imv_str text = imv_cell_str(row->cells[i]);
                imv_buffer_append_format(out, "\"%.*s\"", (int)text.size, text.data);
            }
        }
    }
    imv_buffer_append_format(out, " @%lld\n", (long long)row->timestamp);
}

/* Takes what the writer sent and adds it to bench->rows. */
static void drain(struct bench *bench) {
    imv_writer_send(bench->writer);
    struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, 0, 0)->queue;
    for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL; imv_batch_free(batch)) {
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
            print_row(row, &bench->rows);
        }
    }
}

static const char *text_of(struct imv_buffer *buffer) {
    cr_assert(imv_buffer_append_char(buffer, 0));
    buffer->size--;
    return buffer->data;
}

static size_t take(struct bench *bench, const char *text, bool final) {
    size_t taken = imv_feed_take(&bench->feed, text, strlen(text), final);
    drain(bench);
    return taken;
}

Test(feed, lines_become_rows) {
    /* Every kind of value, escapes, order of tags and missing tags come through; nothing is refused. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    static const char text[] = "cpu,host=a,region=eu usage=1.5,n=-2i,u=3u,ok=t,s=\"x y\" 10\n"
                               "cpu,region=eu,host=a usage=2 11\n"
                               "mem free=7i 12\r\n"
                               "my\\ label,a\\,b=c\\=d f\\ 1=\"a\\\"b\nc\" 13\n";
    cr_assert_eq(take(&bench, text, false), strlen(text));
    cr_assert_str_eq(text_of(&bench.rows), "cpu,host=a,region=eu usage=1.5 n=-2i u=3u ok=true s=\"x y\" @10\n"
                                           "cpu,host=a,region=eu usage=2 @11\n"
                                           "mem free=7i @12\n"
                                           "my label,a,b=c=d f 1=\"a\"b\nc\" @13\n");
    cr_assert_str_eq(text_of(&bench.rejects), "");
    cr_assert(bench.feed.rows == 4 && bench.feed.lines == 4 && bench.feed.rejected == 0);
    cr_assert_eq(imv_catalog_series_count(bench.catalog, 0), 3);
    bench_release(&bench);
}

Test(feed, a_refused_line_leaves_nothing_behind) {
    /* Neither label nor tag nor series nor field of a line that is refused is there afterwards: the next line may use
     * the names in another way. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    static const char text[] = "cpu,host=a load=1 1\n"
                               "cpu,host=b,rack=r fresh=1i,load=\"x\" 2\n"
                               "cpu,host=a other=1i,load=t 3\n"
                               "cpu,load=x fresh=1i 4\n"
                               "new,a=1 b=1,a=2 5\n"
                               "cpu,host=a twice=1,twice=2i 6\n"
                               "cpu,host=a fresh=\"s\",rack=2,other=t,twice=3i 7\n";
    cr_assert_eq(take(&bench, text, false), strlen(text));
    cr_assert_str_eq(text_of(&bench.rows), "cpu,host=a load=1 @1\n"
                                           "cpu,host=a fresh=\"s\" rack=2 other=true twice=3i @7\n");
    cr_assert_eq(bench.feed.rejected, 5);
    cr_assert_eq(imv_catalog_series_count(bench.catalog, 0), 1);
    cr_assert_null(imv_catalog_find_label(bench.catalog, IMV_STR("new")));
    bench_release(&bench);
}

Test(feed, a_line_without_a_time_gets_the_clock_s) {
    /* The time of the call, cut to the precision; given times are multiplied by it. */
    static const struct {
        enum imv_precision precision;
        int64_t now, one;
    } cases[] = {{IMV_PRECISION_NS, NOW, 1},
                 {IMV_PRECISION_US, NOW - 789, 1000},
                 {IMV_PRECISION_MS, NOW - 456789, 1000000},
                 {IMV_PRECISION_S, NOW - 123456789, 1000000000},
                 {IMV_PRECISION_M, NOW - 123456789, INT64_C(60000000000)},
                 {IMV_PRECISION_H, NOW - 123456789, INT64_C(3600000000000)}};
    struct bench bench;
    bench_init(&bench, 64 << 20);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[128];
        feed_init(&bench, cases[i].precision);
        imv_buffer_reset(&bench.rows);
        take(&bench, "m v=1i\nm v=1i 1\n", false);
        snprintf(expected, sizeof expected, "m v=1i @%lld\nm v=1i @%lld\n", (long long)cases[i].now,
                 (long long)cases[i].one);
        cr_expect_str_eq(text_of(&bench.rows), expected);
    }
    bench_release(&bench);
}

Test(feed, bad_lines_are_told_and_the_others_kept) {
    /* Each refused line is reported once with its number, the reason and its first bytes; its neighbours are stored. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    int64_t counted = imv_metric_value(IMV_METRIC_ingest_lines_rejected_total);
    static const char text[] = "m v=1i 1\n"
                               "\n"
                               "m v=1.5 2\n"
                               "# a comment\n"
                               "broken\n"
                               "m,v=3 w=1 3\n"
                               "m v=1i,w=,x=2 4\n"
                               "m v=2i 5\n";
    cr_assert_eq(take(&bench, text, false), strlen(text));
    cr_assert_str_eq(text_of(&bench.rows), "m v=1i @1\nm v=2i @5\n");
    cr_assert_str_eq(text_of(&bench.comments), "[ a comment]");
    cr_assert(bench.feed.rows == 2 && bench.feed.lines == 8 && bench.feed.rejected == 4);
    cr_assert_eq(imv_metric_value(IMV_METRIC_ingest_lines_rejected_total), counted + 4);
    char *reasons = strdup(text_of(&bench.rejects)), *at = reasons;
    static const char *const starts[] = {"3 conflict: field \"v\" of \"m\" is integer, not float: m v=1.5 2",
                                         "5 invalid: ", "6 conflict: \"v\" of \"m\" is a field, not a tag: m,v=3 w=1 3",
                                         "7 invalid: "};
    for (int i = 0; i < 4; i++) {
        char *line = strsep(&at, "\n");
        cr_expect_eq(strncmp(line, starts[i], strlen(starts[i])), 0, "%s", line);
    }
    cr_assert_str_eq(at, "");
    free(reasons);
    bench_release(&bench);
}

Test(feed, a_line_with_a_syntax_error_leaves_no_trace) {
    /* Neither its series, nor its tags, nor the fields before the error are in the catalog. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    take(&bench, "m,host=a v=1,w= 1\nm,host=a v=1 x\n", false);
    cr_assert_eq(bench.feed.rejected, 2);
    cr_assert_null(imv_catalog_find_label(bench.catalog, IMV_STR("m")));
    take(&bench, "m,host=a v=1i 1\n", false);
    cr_assert_eq(bench.feed.rows, 1);
    bench_release(&bench);
}

Test(feed, control_characters_are_not_shown) {
    /* The excerpt of a refused line holds no control characters and is cut to a few bytes. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    char text[256] = "m\t\x01 ";
    memset(text + 4, 'x', 200);
    strcpy(text + 204, "\n");
    take(&bench, text, false);
    const char *rejects = text_of(&bench.rejects);
    cr_assert_not_null(strstr(rejects, ": m?? xxxx"));
    cr_assert_lt(strlen(rejects), 200);
    bench_release(&bench);
}

Test(feed, unfinished_lines_stay_with_the_caller) {
    /* What has no line feed is not taken until it gets one or is final. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    cr_assert_eq(take(&bench, "m v=1i 1\nm v=2i", false), 9);
    cr_assert_eq(take(&bench, "m v=2i 2", false), 0);
    cr_assert_eq(bench.feed.rows, 1);
    cr_assert_eq(take(&bench, "m v=2i 2", true), 8);
    cr_assert_eq(take(&bench, "", true), 0);
    cr_assert_str_eq(text_of(&bench.rows), "m v=1i @1\nm v=2i @2\n");
    cr_assert_eq(bench.feed.lines, 2);
    bench_release(&bench);
}

/* Offers text in random pieces, as a transport does: what is not taken is offered again with more behind it. */
static void take_in_pieces(struct bench *bench, struct imv_str text, struct imv_prng *prng, size_t piece_max) {
    size_t from = 0, end = 0;
    while (end < text.size) {
        end += 1 + imv_prng_below(prng, piece_max);
        if (end > text.size) end = text.size;
        char *copy = malloc(end - from + 1); /* of the exact size, so that a sanitizer sees the first byte beyond */
        memcpy(copy, text.data + from, end - from);
        size_t taken = imv_feed_take(&bench->feed, copy, end - from, end == text.size);
        free(copy);
        cr_assert_leq(taken, end - from);
        cr_assert_leq(end - from - taken, IMV_LINE_BYTES_MAX);
        from += taken;
        drain(bench);
    }
    cr_assert_eq(from, text.size);
}

Test(feed, the_cuts_of_the_transport_do_not_matter, .timeout = 60) {
    /* However the input is cut into pieces, rows, refusals, comments and counts are the same. */
    struct imv_buffer text;
    imv_buffer_init(&text, 1 << 20);
    for (int i = 0; i < 60; i++) {
        imv_buffer_append_format(&text, "m,host=h%d v=%di,s=\"line\none\",t=\"\\\"\" %d\n", i % 5, i, i);
        if (i % 7 == 0) imv_buffer_append_format(&text, "# %d\n\n bad line %d\nm,host=\"q v=%di %d\n", i, i, i, i);
    }
    imv_buffer_append_format(&text, "m,host=last v=1i 1"); /* no line feed */
    struct bench whole;
    bench_init(&whole, 64 << 20);
    cr_assert_eq(imv_feed_take(&whole.feed, text.data, text.size, true), text.size);
    drain(&whole);
    cr_assert_gt(whole.feed.rows, 60);
    cr_assert_gt(whole.feed.rejected, 0);
    struct imv_prng prng;
    imv_prng_init(&prng, 5);
    for (int round = 0; round < 40; round++) {
        struct bench pieces;
        bench_init(&pieces, 64 << 20);
        take_in_pieces(&pieces, imv_buffer_view(&text), &prng, round < 10 ? 1 : 100);
        cr_assert_str_eq(text_of(&pieces.rows), text_of(&whole.rows));
        cr_assert_str_eq(text_of(&pieces.rejects), text_of(&whole.rejects));
        cr_assert_str_eq(text_of(&pieces.comments), text_of(&whole.comments));
        cr_assert(pieces.feed.rows == whole.feed.rows && pieces.feed.lines == whole.feed.lines);
        bench_release(&pieces);
    }
    bench_release(&whole);
    imv_buffer_release(&text);
}

Test(feed, lines_that_are_too_long_are_skipped, .timeout = 60) {
    /* A line beyond the limit is one refusal, however it arrives; a line feed in its quoted text does not end it; the
     * lines around it are stored with their right numbers. */
    struct imv_buffer text;
    imv_buffer_init(&text, 1 << 22);
    struct imv_prng prng;
    imv_prng_init(&prng, 6);
    for (int quoted = 0; quoted < 3; quoted++) {
        imv_buffer_reset(&text);
        imv_buffer_append_str(&text, IMV_STR("m v=1i 1\nm "));
        if (quoted == 1) imv_buffer_append_str(&text, IMV_STR("s=\""));
        size_t length = quoted == 2 ? IMV_LINE_BYTES_MAX + 1 : 300 * 1024;
        for (size_t i = 0; i < length; i++) imv_buffer_append_char(&text, 'x');
        if (quoted == 0) imv_buffer_append_str(&text, IMV_STR("=1,s=\""));
        imv_buffer_append_str(&text, quoted == 2 ? IMV_STR("=1 2\n") : IMV_STR("\nm v=666i 6\n\" 2\n"));
        imv_buffer_append_str(&text, IMV_STR("m v=3i 3\nbad\n"));
        for (int round = 0; round < 4; round++) {
            struct bench bench;
            bench_init(&bench, 64 << 20);
            if (round == 0) {
                cr_assert_eq(imv_feed_take(&bench.feed, text.data, text.size, true), text.size);
                drain(&bench);
            } else {
                take_in_pieces(&bench, imv_buffer_view(&text), &prng, (size_t)round * 70000);
            }
            cr_assert_str_eq(text_of(&bench.rows), "m v=1i @1\nm v=3i @3\n");
            cr_assert_eq(bench.feed.rejected, 2);
            cr_assert_eq(strncmp(text_of(&bench.rejects), "2 invalid: line of ", 19), 0);
            cr_assert_not_null(strstr(text_of(&bench.rejects), "\n4 invalid: "));
            cr_assert_eq(bench.feed.lines, 4);
            bench_release(&bench);
        }
    }
    struct bench bench;
    bench_init(&bench, 64 << 20);
    take_in_pieces(&bench, (struct imv_str){text.data + 9, IMV_LINE_BYTES_MAX + 3}, &prng, 50000); /* ends inside */
    cr_assert(bench.feed.rejected == 1 && bench.feed.lines == 1 && !bench.feed.skipping);
    bench_release(&bench);
    imv_buffer_release(&text);
}

Test(feed, the_longest_line_is_taken) {
    /* A line of exactly the limit, and one of 1,024 fields, are stored; one field more is refused. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    struct imv_buffer text;
    imv_buffer_init(&text, 1 << 20);
    imv_buffer_append_str(&text, IMV_STR("m s=\""));
    while (text.size < IMV_LINE_BYTES_MAX - 3) imv_buffer_append_char(&text, 'y');
    imv_buffer_append_str(&text, IMV_STR("\" 1\n"));
    cr_assert_eq(text.size, IMV_LINE_BYTES_MAX + 1);
    for (int fields = 1024; fields <= 1025; fields++) {
        imv_buffer_append_str(&text, IMV_STR("m "));
        for (int i = 0; i < fields; i++) imv_buffer_append_format(&text, "%sf%d=%di", i > 0 ? "," : "", i, i);
        imv_buffer_append_str(&text, IMV_STR(" 2\n"));
    }
    cr_assert_eq(imv_feed_take(&bench.feed, text.data, text.size, false), text.size);
    cr_assert(bench.feed.rows == 2 && bench.feed.rejected == 1);
    cr_assert_eq(strncmp(text_of(&bench.rejects), "3 invalid: more than 1024 fields", 32), 0);
    imv_buffer_release(&text);
    bench_release(&bench);
}

Test(feed, a_blocked_writer_stops_the_feed_between_lines) {
    /* When the writer has no room the feed takes less, refuses nothing, and goes on later where it stopped. */
    struct bench bench;
    bench_init(&bench, 4 * IMV_BATCH_BYTES + 150 * 1024);
    struct imv_buffer text;
    imv_buffer_init(&text, 8 << 20);
    for (int i = 0; i < 50000; i++) imv_buffer_append_format(&text, "m v=%di,w=\"w%d\" %d\n", i, i, i);
    size_t done = 0, stops = 0;
    while (done < text.size) {
        size_t taken = imv_feed_take(&bench.feed, text.data + done, text.size - done, true);
        done += taken;
        stops += done < text.size;
        cr_assert(taken > 0 || done == text.size);
        drain(&bench);
    }
    cr_assert(bench.feed.rows == 50000 && bench.feed.rejected == 0);
    cr_assert_gt(stops, 2);
    bench_release(&bench);
    imv_buffer_release(&text);
}

Test(feed, a_comment_may_stop_the_feed) {
    /* After the comment that asked for it the rest is left to the caller. */
    struct bench bench;
    bench_init(&bench, 64 << 20);
    bench.stop_at_comments = true;
    cr_assert_eq(take(&bench, "m v=1i 1\n#sync\nm v=2i 2\n", false), 15);
    cr_assert_str_eq(text_of(&bench.comments), "[sync]");
    cr_assert_eq(take(&bench, "m v=2i 2\n", false), 9);
    cr_assert_eq(bench.feed.lines, 3);
    bench_release(&bench);
}

/* A line of m or n with a few fields, some of which are spoilt by a byte; no leading blank. */
static void append_random_line(struct imv_buffer *text, struct imv_prng *prng) {
    static const char *const values[] = {"v=%di", "f=%d.25", "ok=true",      "s=\"a b\nc%d\"",
                                         "u=%du", "v=%d.5",  "s=\"\\\"%d\"", "g\\ h=%di"};
    size_t start = text->size;
    imv_buffer_append_format(text, "%c,host=h%d%s ", "mn"[imv_prng_below(prng, 2)], (int)imv_prng_below(prng, 9),
                             imv_prng_below(prng, 8) == 0 ? ",a=\\ b" : "");
    for (uint64_t i = 0, count = 1 + imv_prng_below(prng, 4); i < count; i++) {
        if (i > 0) imv_buffer_append_char(text, ',');
        imv_buffer_append_format(text, values[imv_prng_below(prng, 100) < 90 ? i : imv_prng_below(prng, 8)],
                                 (int)imv_prng_below(prng, 1000));
    }
    imv_buffer_append_format(text, " %d%s\n", (int)imv_prng_below(prng, 100000),
                             imv_prng_below(prng, 9) == 0 ? "\r" : "");
    if (imv_prng_below(prng, 4) == 0) {
        static const char bytes[] = ",=x \"1\\\r";
        text->data[start + 1 + imv_prng_below(prng, text->size - start - 2)] =
            bytes[imv_prng_below(prng, sizeof bytes - 1)];
    }
}

Test(feed, simple_and_other_lines_give_the_same_rows, .timeout = 60) {
    /* A blank before a line changes nothing but the way it is parsed: rows, refusals and series are the same. */
    struct imv_prng prng;
    imv_prng_init(&prng, 7);
    for (int round = 0; round < 60; round++) {
        struct imv_buffer text, blank;
        struct bench simple, other;
        imv_buffer_init(&text, 1 << 20);
        imv_buffer_init(&blank, 1 << 20);
        for (int i = 0; i < 100; i++) {
            size_t start = text.size;
            append_random_line(&text, &prng);
            imv_buffer_append_char(&blank, ' ');
            imv_buffer_append_str(&blank, (struct imv_str){text.data + start, text.size - start});
        }
        bench_init(&simple, 64 << 20);
        bench_init(&other, 64 << 20);
        cr_assert_eq(imv_feed_take(&simple.feed, text.data, text.size, true), text.size);
        cr_assert_eq(imv_feed_take(&other.feed, blank.data, blank.size, true), blank.size);
        drain(&simple);
        drain(&other);
        cr_assert_str_eq(text_of(&simple.rows), text_of(&other.rows), "seed 7, round %d", round);
        cr_assert(simple.feed.rows == other.feed.rows && simple.feed.rejected == other.feed.rejected &&
                  simple.feed.lines == other.feed.lines);
        cr_assert_gt(simple.feed.rows, 10);
        bench_release(&simple);
        bench_release(&other);
        imv_buffer_release(&text);
        imv_buffer_release(&blank);
    }
}
