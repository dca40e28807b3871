/* bench_engine_journal - what a row costs in the journal: encoding, decoding, bytes before and after lz4.
 *
 * Groups of 20,000 rows of ten fields over 4,000 series, as TSBS's cpu-only set (integers that walk between 0 and 100),
 * as decimals of a sensor (71.2), as full doubles, and as rows of nine alternating shapes.
 */
#include "engine/journal.h"
#include "storage/base/assert.h"
#include "storage/base/prng.h"
#include "storage/kv.h"

#include <inttypes.h>
#include <lz4.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { FIELDS = 10, SERIES = 4000, ROWS = 20000, ROUNDS = 20, SHAPES = 9 };

/* CPU time of the thread: the figures hold on a busy machine too. Waiting for the disk is not in them. */
static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

struct data {
    struct imv_catalog *catalog;
    struct imv_label *labels[SHAPES];
    const struct imv_shape *shapes[SHAPES];
    struct imv_series *series[SHAPES][SERIES];
    double walk[SERIES][FIELDS];
};

static void make(struct data *data, const char *prefix, imv_type type) {
    for (int s = 0; s < SHAPES; s++) {
        char name[64];
        const struct imv_field *fields[FIELDS];
        snprintf(name, sizeof name, "%s%d", prefix, s);
        imv_status status = imv_catalog_label(data->catalog, imv_str_from(name), &data->labels[s], NULL);
        for (int f = 0; f < FIELDS; f++) {
            snprintf(name, sizeof name, "field_%d", f);
            status |= imv_label_field(data->catalog, data->labels[s], imv_str_from(name), type, &fields[f], NULL);
        }
        status |= imv_label_shape(data->catalog, data->labels[s], fields, FIELDS, &data->shapes[s], NULL);
        for (int i = 0; i < SERIES; i++) {
            snprintf(name, sizeof name, "host_%d", i);
            struct imv_tag tag = {IMV_STR("hostname"), imv_str_from(name)};
            status |= imv_catalog_series(data->catalog, data->labels[s], &tag, 1, &data->series[s][i], NULL);
        }
        imv_assert(status == IMV_OK);
    }
}

enum kind { TSBS, DECIMALS, DOUBLES, MIXED };

static uint64_t next_cell(struct data *data, enum kind kind, struct imv_prng *prng, int series, int field) {
    double *walk = &data->walk[series][field];
    *walk = fmin(100, fmax(0, *walk + 2 * imv_prng_unit(prng) - 1));
    switch (kind) {
        case DECIMALS: return imv_float_cell(round(*walk * 10) / 10);
        case DOUBLES: return imv_float_cell(*walk);
        default: return (uint64_t)*walk;
    }
}

static struct imv_batch *fill(struct data *data, enum kind kind, struct imv_prng *prng, int64_t *row_number) {
    struct imv_batch *first = NULL, **link = &first;
    for (int i = 0; i < ROWS; i++) {
        size_t bytes = sizeof(struct imv_row) + FIELDS * sizeof(uint64_t);
        struct imv_batch *batch =
            link == &first ? NULL : (struct imv_batch *)(void *)((char *)link - offsetof(struct imv_batch, next));
        if (batch == NULL || batch->capacity - batch->size < bytes) {
            batch = imv_batch_new(NULL, 0, 0);
            imv_assert(batch != NULL);
            *link = batch;
            link = &batch->next;
        }
        int64_t number = (*row_number)++;
        int shape = kind == MIXED ? (int)(number % SHAPES) : 0,
            series = (int)(number / (kind == MIXED ? SHAPES : 1) % SERIES);
        struct imv_row *row = (struct imv_row *)(void *)(batch->data + batch->size);
        *row = (struct imv_row){.series = data->series[shape][series],
                                .shape = data->shapes[shape],
                                .timestamp = INT64_C(1767225600000000000) + number / SERIES * 10000000000};
        for (int f = 0; f < FIELDS; f++) row->cells[f] = next_cell(data, kind, prng, series, f);
        batch->size += bytes;
        batch->rows++;
    }
    return first;
}

static imv_status ignore(void *context, const struct imv_row *row, struct imv_error *err) {
    (void)err;
    *(uint64_t *)context += row->cells[0];
    return IMV_OK;
}

static void run(struct data *data, enum kind kind, const char *name) {
    static char packed[LZ4_COMPRESSBOUND(8 << 20)];
    struct imv_journal_encoder *encoder;
    struct imv_buffer payload;
    struct imv_prng prng;
    int64_t encode_ns = 0, bound_ns = 0, decode_ns = 0, lz4_ns = 0, row_number = 0;
    size_t bytes = 0, packed_bytes = 0;
    uint64_t sum = 0;
    imv_status status = imv_journal_encoder_new(data->catalog, 0, &encoder, NULL);
    imv_buffer_init(&payload, 8 << 20);
    imv_prng_init(&prng, 1);
    for (int round = 0; round < ROUNDS; round++) {
        struct imv_batch *batches = fill(data, kind, &prng, &row_number);
        imv_buffer_reset(&payload);
        int64_t start = now_ns();
        for (struct imv_batch *batch = batches; batch != NULL; batch = batch->next) sum += imv_journal_bound(batch);
        bound_ns += now_ns() - start;
        start = now_ns();
        status |= imv_journal_encode(encoder, batches, &payload, NULL);
        encode_ns += now_ns() - start;
        start = now_ns();
        const struct imv_journal_visitor visitor = {.row = ignore, .context = &sum}; /* there are no deletions */
        status |= imv_journal_decode(data->catalog, 0, (const uint8_t *)payload.data, payload.size, &visitor, NULL);
        decode_ns += now_ns() - start;
        start = now_ns();
        packed_bytes += (size_t)LZ4_compress_default(payload.data, packed, (int)payload.size, sizeof packed);
        lz4_ns += now_ns() - start;
        bytes += payload.size;
        while (batches != NULL) {
            struct imv_batch *next = batches->next;
            imv_batch_free(batches);
            batches = next;
        }
    }
    imv_assert(status == IMV_OK);
    double rows = (double)ROWS * ROUNDS;
    printf("%-9s encode %6.1f ns/row (bound %.1f), decode %6.1f, lz4 %6.1f; %5.1f bytes/row, %5.1f packed (%" PRIu64
           ")\n",
           name, (double)encode_ns / rows, (double)bound_ns / rows, (double)decode_ns / rows, (double)lz4_ns / rows,
           (double)bytes / rows, (double)packed_bytes / rows, sum & 1);
    imv_buffer_release(&payload);
    imv_journal_encoder_free(encoder);
}

int main(void) {
    char directory[] = "/tmp/bench_engine_journal.XXXXXX", command[64];
    struct imv_kv *kv;
    struct imv_error err;
    static struct data data;
    if (mkdtemp(directory) == NULL) return 1;
    imv_status status = imv_kv_open(directory, &kv, &err);
    if (status == IMV_OK) status = imv_catalog_open(kv, 1, &data.catalog, &err);
    if (status != IMV_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    struct imv_prng prng;
    imv_prng_init(&prng, 2);
    for (int i = 0; i < SERIES * FIELDS; i++) data.walk[i / FIELDS][i % FIELDS] = 100 * imv_prng_unit(&prng);
    make(&data, "integers", IMV_INTEGER);
    run(&data, TSBS, "tsbs");
    run(&data, MIXED, "mixed");
    make(&data, "floats", IMV_FLOAT);
    run(&data, DECIMALS, "decimals");
    run(&data, DOUBLES, "doubles");
    imv_catalog_close(data.catalog);
    imv_kv_close(kv);
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}
