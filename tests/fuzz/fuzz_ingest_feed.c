/* Any bytes, twice in a row so that series and sets of fields are known: the rows and the refusals are the same whether
 * lines go the quick way or, with a blank before each, through the grammar, and however the bytes are cut on their
 * way. */
#include "engine/exchange.h"
#include "ingest/feed.h"
#include "storage/base/assert.h"
#include "storage/base/budget.h"
#include "storage/base/buffer.h"
#include "storage/base/clock.h"
#include "storage/base/hash.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A feed into a writer whose one shard nobody runs. */
struct bench {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_budget budget;
    struct imv_writer *writer;
    struct imv_manual_clock clock;
    struct imv_feed feed;
    struct imv_buffer rows;
};

static void must(imv_status status) { imv_assert(status == IMV_OK); }

static void bench_init(struct bench *bench) {
    memset(bench, 0, sizeof *bench);
    must(imv_kv_memory_new(1, &bench->disk, NULL));
    must(imv_kv_memory_open(bench->disk, &bench->kv, NULL));
    must(imv_catalog_open(bench->kv, 1, &bench->catalog, NULL));
    must(imv_exchange_init(&bench->exchange, 1, NULL, NULL, NULL));
    imv_budget_init(&bench->budget, "fuzz_feed", 1 << 20);
    must(imv_writer_new_for(bench->catalog, &bench->exchange, &bench->budget, 0, &bench->writer, NULL));
    imv_manual_clock_init(&bench->clock, 1000000007);
    imv_buffer_init(&bench->rows, SIZE_MAX / 2);
    imv_feed_init(&bench->feed, bench->writer, &bench->clock.clock, IMV_PRECISION_MS);
}

static void bench_release(struct bench *bench) {
    imv_buffer_release(&bench->rows);
    imv_writer_free(bench->writer);
    imv_exchange_release(&bench->exchange);
    imv_budget_release(&bench->budget);
    imv_catalog_close(bench->catalog);
    imv_kv_close(bench->kv);
    imv_kv_memory_free(bench->disk);
}

static void put_text(struct imv_buffer *out, struct imv_str text) {
    imv_buffer_append(out, &text.size, sizeof text.size);
    imv_buffer_append_str(out, text);
}

static void put_row(struct imv_buffer *out, const struct imv_row *row) {
    put_text(out, row->series->label->name);
    for (uint32_t i = 0; i < row->series->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(row->series, i);
        put_text(out, tag.key);
        put_text(out, tag.value);
    }
    for (uint32_t i = 0; i < row->shape->count; i++) {
        const struct imv_field *field = row->shape->fields[i];
        put_text(out, field->name);
        imv_buffer_append_char(out, (char)field->type);
        if (field->type == IMV_STRING)
            put_text(out, imv_cell_str(row->cells[i]));
        else
            imv_buffer_append(out, &row->cells[i], sizeof row->cells[i]);
    }
    imv_buffer_append(out, &row->timestamp, sizeof row->timestamp);
}

static void drain(struct bench *bench) {
    imv_writer_send(bench->writer);
    struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, 0, 0)->queue;
    for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL; imv_batch_free(batch)) {
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;)
            put_row(&bench->rows, row);
    }
}

/* All of the text at once; the writer is emptied when it is full. */
static void feed_whole(struct bench *bench, struct imv_str text) {
    for (size_t done = 0; done < text.size; drain(bench))
        done += imv_feed_take(&bench->feed, text.data + done, text.size - done, true);
}

/* Piece by piece, each where reading beyond it is seen. */
static void feed_pieces(struct bench *bench, struct imv_str text, struct imv_prng *prng) {
    size_t have = 0;
    for (size_t done = 0; done < text.size;) {
        have += 1 + imv_prng_below(prng, text.size - done - have + 1);
        if (have > text.size - done) have = text.size - done;
        bool final = done + have == text.size;
        char *copy = malloc(have);
        memcpy(copy, text.data + done, have);
        size_t taken = imv_feed_take(&bench->feed, copy, have, final);
        free(copy);
        imv_assert(taken <= have);
        done += taken;
        have -= taken;
        if (imv_prng_below(prng, 4) == 0 || !imv_writer_has_room(bench->writer)) drain(bench);
    }
    drain(bench);
}

/* The text with a blank before each of its lines, each ended by a line feed as it was. False: a line is as long as
 * allowed. */
static bool put_blanks(struct imv_str text, struct imv_buffer *out) {
    for (size_t start = 0; start < text.size;) {
        struct imv_line_scan scan = {0};
        ptrdiff_t end = imv_line_find_end(text.data + start, text.size - start, &scan);
        size_t size = end < 0 ? text.size - start : (size_t)end + 1;
        if (size >= IMV_LINE_BYTES_MAX) return false;
        imv_buffer_append_char(out, ' ');
        imv_buffer_append(out, text.data + start, size);
        start += size;
    }
    return true;
}

static void compare(const struct bench *a, const struct bench *b) {
    imv_assert(a->feed.rows == b->feed.rows);
    imv_assert(a->feed.rejected == b->feed.rejected);
    imv_assert(a->feed.lines == b->feed.lines);
    imv_assert(imv_str_equal(imv_buffer_view(&a->rows), imv_buffer_view(&b->rows)));
    imv_assert(imv_catalog_labels_count(a->catalog) == imv_catalog_labels_count(b->catalog));
    imv_assert(imv_catalog_series_count(a->catalog, 0) == imv_catalog_series_count(b->catalog, 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct imv_buffer blanks;
    struct bench quick, grammar, pieces;
    struct imv_prng prng;
    struct imv_str text = {(const char *)data, size};
    imv_buffer_init(&blanks, SIZE_MAX / 2);
    if (put_blanks(text, &blanks)) {
        bench_init(&quick);
        bench_init(&grammar);
        bench_init(&pieces);
        imv_prng_init(&prng, imv_hash64(data, size, 0));
        for (int round = 0; round < 2; round++) {
            feed_whole(&quick, text);
            feed_whole(&grammar, imv_buffer_view(&blanks));
            feed_pieces(&pieces, text, &prng);
        }
        compare(&quick, &grammar);
        compare(&quick, &pieces);
        bench_release(&quick);
        bench_release(&grammar);
        bench_release(&pieces);
    }
    imv_buffer_release(&blanks);
    return 0;
}
