/* bench_ingest_arrow - what it costs to read Arrow streams, without sockets, journal or heads.
 *
 * TSBS's cpu rows (ten dictionary tags, ten int64, a timestamp; 128 bytes), 4,000 series, through the whole feed into
 * the writer, a consumer on the same thread freeing its batches. In one long stream, and in streams of 10,000 rows, as
 * requests bring them, each with its dictionaries. Then the same with a null in every other value, which makes each row
 * a run of its own.
 *
 * Estimate for the long stream: 128 bytes copied 10 ns, ten indices to codes and keys 15 ns, the series 10 ns, the row
 * of 104 bytes 20 ns: 55 ns. In streams of 10,000 rows, 0.4 series a row anew: 50 ns more. With nulls, a look-up of the
 * shape a row: 60 ns more.
 */
#include "engine/exchange.h"
#include "ingest/arrow.h"
#include "storage/base/arrow.h"
#include "storage/base/assert.h"
#include "storage/base/clock.h"
#include "storage/base/prng.h"
#include "storage/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SERIES = 4000, TAGS = 10, FIELDS = 10, BATCH_ROWS = 10000, BATCHES = 40, PIECE_BYTES = 256 * 1024, ROUNDS = 5 };

/* CPU time of the thread: the figures hold on a busy machine too. */
static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* ---- streams ---- */

static const uint32_t distinct[TAGS] = {SERIES, 9, 27, 100, 3, 2, 4, 20, 2, 3};

static void put_schema(struct imv_buffer *out) {
    struct imv_arrow_column columns[1 + TAGS + FIELDS] = {
        {.name = IMV_STR("time"), .type = imv_arrow_simple(IMV_ARROW_TIME)}};
    static char names[TAGS + FIELDS][24];
    for (int i = 0; i < TAGS + FIELDS; i++) {
        bool tag = i < TAGS;
        snprintf(names[i], sizeof names[i], tag ? "service_tag_%d" : "usage_field_%d", i);
        columns[1 + i] =
            (struct imv_arrow_column){.name = imv_str_from(names[i]),
                                      .type = tag ? imv_arrow_simple(IMV_ARROW_TEXT) : imv_arrow_int(64, true),
                                      .dictionary = tag,
                                      .dictionary_id = i};
    }
    imv_arrow_put_schema(out, columns, 1 + TAGS + FIELDS, "imvdb.label", "cpu");
}

static void put_dictionaries(struct imv_buffer *out, struct imv_arrow_body *body) {
    for (uint32_t tag = 0; tag < TAGS; tag++) {
        struct imv_buffer text;
        imv_buffer_init(&text, 1 << 20);
        imv_arrow_body_reset(body);
        imv_arrow_body_node(body, distinct[tag], 0);
        imv_arrow_body_buffer(body, 0);
        int32_t *offsets = imv_arrow_body_buffer(body, (distinct[tag] + 1) * sizeof *offsets);
        offsets[0] = 0;
        for (uint32_t i = 0; i < distinct[tag]; i++) {
            imv_buffer_append_format(&text, "value_%u_%u", tag, i);
            offsets[i + 1] = (int32_t)text.size;
        }
        memcpy(imv_arrow_body_buffer(body, text.size), text.data, text.size);
        imv_arrow_put_dictionary(out, tag, false, distinct[tag], body);
        imv_buffer_release(&text);
    }
}

static void *put_column(struct imv_arrow_body *body, bool nulls, uint32_t odd, size_t word) {
    imv_arrow_body_node(body, BATCH_ROWS, nulls ? BATCH_ROWS / 2 : 0);
    uint8_t *valid = imv_arrow_body_buffer(body, nulls ? BATCH_ROWS / 8 : 0);
    if (nulls) memset(valid, odd ? 0xaa : 0x55, BATCH_ROWS / 8);
    return imv_arrow_body_buffer(body, BATCH_ROWS * word);
}

static void put_rows(struct imv_buffer *out, struct imv_arrow_body *body, struct imv_prng *prng, uint32_t batch,
                     bool nulls) {
    imv_arrow_body_reset(body);
    int64_t *times = put_column(body, false, 0, sizeof *times);
    for (uint32_t i = 0; i < BATCH_ROWS; i++) times[i] = (int64_t)(batch * BATCH_ROWS + i) / SERIES * 10000000000;
    for (uint32_t tag = 0; tag < TAGS; tag++) {
        uint32_t *indices = put_column(body, false, 0, sizeof *indices);
        for (uint32_t i = 0; i < BATCH_ROWS; i++) indices[i] = (batch * BATCH_ROWS + i) % SERIES % distinct[tag];
    }
    for (uint32_t field = 0; field < FIELDS; field++) {
        uint64_t *cells = put_column(body, nulls, field % 2, sizeof *cells);
        for (uint32_t i = 0; i < BATCH_ROWS; i++) cells[i] = imv_prng_below(prng, 101);
    }
    imv_arrow_put_records(out, BATCH_ROWS, body);
}

/* All batches, in one stream or each in its own; ends has the end of each stream. */
static void make_streams(struct imv_buffer *out, bool one, bool nulls, size_t *ends, size_t *count) {
    struct imv_prng prng;
    struct imv_arrow_body body;
    imv_prng_init(&prng, 1);
    imv_arrow_body_init(&body, 64 << 20);
    *count = 0;
    for (uint32_t batch = 0; batch < BATCHES; batch++) {
        if (batch == 0 || !one) {
            put_schema(out);
            put_dictionaries(out, &body);
        }
        put_rows(out, &body, &prng, batch, nulls);
        if (one && batch + 1 < BATCHES) continue;
        imv_arrow_put_end(out);
        ends[(*count)++] = out->size;
    }
    imv_assert(!out->failed);
    imv_arrow_body_release(&body);
}

/* ---- reading ---- */

struct bench {
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_writer *writer;
    struct imv_arrow_spare spare;
};

/* Takes the batches, and makes series visible, as if their rows were durable. */
static void drain(struct bench *bench, bool visible) {
    imv_writer_send(bench->writer);
    struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, 0, 0)->queue;
    for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL; imv_batch_free(batch)) {
        for (const struct imv_row *row = NULL; visible && (row = imv_batch_next_row(batch, row)) != NULL;)
            atomic_store(&row->series->visible_at, IMV_SEQUENCE_LOADED);
    }
}

static void read_stream(struct bench *bench, const char *bytes, size_t size, bool visible) {
    struct imv_arrow_feed_options options = {
        .writer = bench->writer, .clock = imv_clock_system(), .spare = &bench->spare};
    struct imv_arrow_feed *feed;
    imv_status status = imv_arrow_feed_new(&options, &feed, NULL);
    imv_assert(status == IMV_OK);
    for (size_t done = 0, taken; done < size || status != IMV_OK; done += taken) {
        size_t part = size - done < PIECE_BYTES ? size - done : PIECE_BYTES;
        status = imv_arrow_feed_take(feed, bytes + done, part, &taken, NULL);
        imv_assert(status == IMV_OK || status == IMV_FULL || status == IMV_BUSY);
        drain(bench, visible);
    }
    imv_assert(imv_arrow_feed_rejected(feed) == 0);
    imv_arrow_feed_free(feed);
}

static void measure(struct bench *bench, const char *name, bool one, bool nulls) {
    struct imv_buffer streams;
    size_t ends[BATCHES], count;
    imv_buffer_init(&streams, 1 << 30);
    make_streams(&streams, one, nulls, ends, &count);
    double best_ns = 1e18;
    for (int round = -1; round < ROUNDS; round++) {
        int64_t begun = now_ns();
        for (size_t i = 0; i < count; i++) {
            size_t from = i == 0 ? 0 : ends[i - 1];
            read_stream(bench, streams.data + from, ends[i] - from, round < 0);
        }
        double taken = (double)(now_ns() - begun) / (BATCH_ROWS * BATCHES);
        if (round >= 0 && taken < best_ns) best_ns = taken;
    }
    printf("%-28s %6.1f ns a row, %5.2f GB/s\n", name, best_ns,
           (double)streams.size / (BATCH_ROWS * BATCHES) / best_ns);
    imv_buffer_release(&streams);
}

int main(void) {
    struct bench bench = {0};
    struct imv_kv *kv = NULL;
    char directory[] = "/tmp/bench_ingest_arrow.XXXXXX", command[64];
    imv_status status = mkdtemp(directory) == NULL ? IMV_IO : imv_kv_open(directory, &kv, NULL);
    if (status == IMV_OK) status = imv_catalog_open(kv, 1, &bench.catalog, NULL);
    if (status == IMV_OK) status = imv_exchange_init(&bench.exchange, 1, NULL, NULL, NULL);
    if (status == IMV_OK) status = imv_writer_new_for(bench.catalog, &bench.exchange, NULL, 0, &bench.writer, NULL);
    imv_assert(status == IMV_OK);
    measure(&bench, "one stream", true, false);
    measure(&bench, "streams of 10,000 rows", false, false);
    measure(&bench, "one stream, half of it null", true, true);
    imv_arrow_spare_release(&bench.spare);
    imv_writer_free(bench.writer);
    imv_exchange_release(&bench.exchange);
    imv_catalog_close(bench.catalog);
    imv_kv_close(kv);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}
