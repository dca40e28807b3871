/* Any bytes, cut in two at any place: an Arrow stream is taken or refused without a read outside of it; and what is
 * taken does not depend on the cut. The first two bytes say where the cut is. */
#include "engine/exchange.h"
#include "ingest/arrow.h"
#include "storage/base/assert.h"
#include "storage/base/clock.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bench {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_writer *writer;
    struct imv_manual_clock clock;
};

static void bench_init(struct bench *bench) {
    imv_status status = imv_kv_memory_new(1, &bench->disk, NULL);
    if (status == IMV_OK) status = imv_kv_memory_open(bench->disk, &bench->kv, NULL);
    if (status == IMV_OK) status = imv_catalog_open(bench->kv, 1, &bench->catalog, NULL);
    if (status == IMV_OK) status = imv_exchange_init(&bench->exchange, 1, NULL, NULL, NULL);
    if (status == IMV_OK) status = imv_writer_new_for(bench->catalog, &bench->exchange, NULL, 0, &bench->writer, NULL);
    imv_assert(status == IMV_OK);
    imv_manual_clock_init(&bench->clock, 1767225600000000000);
}

static void bench_release(struct bench *bench) {
    imv_writer_free(bench->writer);
    imv_exchange_release(&bench->exchange);
    imv_catalog_close(bench->catalog);
    imv_kv_close(bench->kv);
    imv_kv_memory_free(bench->disk);
}

static void drain(struct bench *bench) {
    imv_writer_send(bench->writer);
    struct imv_spsc *queue = &imv_exchange_cell(&bench->exchange, 0, 0)->queue;
    for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL;) imv_batch_free(batch);
}

static imv_status take(struct bench *bench, struct imv_arrow_feed *feed, const char *bytes, size_t size) {
    imv_status status;
    do {
        size_t taken;
        status = imv_arrow_feed_take(feed, bytes, size, &taken, NULL);
        imv_assert(taken <= size);
        bytes += taken;
        size -= taken;
        if (status == IMV_FULL) drain(bench);
    } while (status == IMV_FULL || status == IMV_BUSY);
    return status;
}

/* Rows taken and refused of the stream in two pieces. */
static uint64_t run(const char *bytes, size_t size, size_t cut) {
    struct bench bench = {0};
    struct imv_arrow_feed *feed;
    bench_init(&bench);
    struct imv_arrow_feed_options options = {
        .writer = bench.writer, .clock = &bench.clock.clock, .precision = IMV_PRECISION_MS, .label = IMV_STR("cpu")};
    imv_status status = imv_arrow_feed_new(&options, &feed, NULL);
    imv_assert(status == IMV_OK);
    status = take(&bench, feed, bytes, cut);
    if (status == IMV_OK) status = take(&bench, feed, bytes + cut, size - cut);
    if (status == IMV_OK) imv_arrow_feed_end(feed, NULL);
    uint64_t rows = imv_arrow_feed_rows(feed) << 32 | imv_arrow_feed_rejected(feed);
    imv_arrow_feed_free(feed);
    drain(&bench);
    bench_release(&bench);
    return rows;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2) return 0;
    size_t cut = imv_get_u16(data), rest = size - 2;
    char *bytes = malloc(rest == 0 ? 1 : rest);
    memcpy(bytes, data + 2, rest);
    uint64_t whole = run(bytes, rest, rest), parts = run(bytes, rest, cut < rest ? cut : rest);
    imv_assert(whole == parts);
    free(bytes);
    return 0;
}
