#include "engine/journal.h"

#include "storage/base/prng.h"
#include "storage/kv.h"
#include "storage/wal.h"
#include "tests/support/kv_memory.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* A catalog on a disk of its own, with one shard. */
struct store {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
};

static struct store store_open(void) {
    struct store store;
    cr_assert_eq(imv_kv_memory_new(1, &store.disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(store.disk, &store.kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(store.kv, 1, &store.catalog, NULL), IMV_OK);
    return store;
}

static void store_close(struct store *store) {
    imv_catalog_close(store->catalog);
    imv_kv_close(store->kv);
    imv_kv_memory_free(store->disk);
}

static struct imv_label *make_label(struct store *store, const char *name) {
    struct imv_label *label;
    cr_assert_eq(imv_catalog_label(store->catalog, imv_str_from(name), &label, NULL), IMV_OK);
    return label;
}

static const struct imv_field *make_field(struct store *store, struct imv_label *label, const char *name,
                                          imv_type type) {
    const struct imv_field *field;
    struct imv_error err;
    cr_assert_eq(imv_label_field(store->catalog, label, imv_str_from(name), type, &field, &err), IMV_OK, "%s",
                 err.message);
    return field;
}

static const struct imv_shape *make_shape(struct store *store, const struct imv_field *const *fields, uint32_t count,
                                          struct imv_label *label) {
    const struct imv_shape *shape;
    cr_assert_eq(imv_label_shape(store->catalog, label, fields, count, &shape, NULL), IMV_OK);
    return shape;
}

static struct imv_series *make_series(struct store *store, struct imv_label *label, const char *host) {
    struct imv_tag tag = {IMV_STR("host"), imv_str_from(host)};
    struct imv_series *series;
    cr_assert_eq(imv_catalog_series(store->catalog, label, &tag, 1, &series, NULL), IMV_OK);
    return series;
}

/* Appends a row; texts[i] is the value of the i-th field when it is a string, else cells[i]. */
static void add_row(struct imv_batch *batch, struct imv_series *series, const struct imv_shape *shape,
                    int64_t timestamp, const uint64_t *cells, const struct imv_str *texts) {
    struct imv_row *row = (struct imv_row *)(void *)(batch->data + batch->size);
    *row = (struct imv_row){.series = series, .shape = shape, .timestamp = timestamp};
    char *end = (char *)&row->cells[shape->count];
    for (uint32_t i = 0; i < shape->count; i++) {
        row->cells[i] = cells[i];
        if (shape->fields[i]->type != IMV_STRING) continue;
        struct imv_string *string = (struct imv_string *)(void *)end;
        string->size = (uint32_t)texts[i].size;
        if (texts[i].size > 0) memcpy(string->bytes, texts[i].data, texts[i].size);
        row->cells[i] = imv_string_cell(string);
        end += (sizeof *string + texts[i].size + 7) & ~(size_t)7;
    }
    batch->size += (size_t)(end - (char *)row);
    batch->rows++;
    batch->values += shape->count;
    batch->definitions +=
        imv_journal_series_bound(series) + imv_journal_fields_bound(shape->label, 0, shape->fields_end);
    batch->text += (size_t)(end - (char *)&row->cells[shape->count]);
    cr_assert_leq(batch->size, batch->capacity);
    cr_assert_eq(imv_row_bytes(row), (size_t)(end - (char *)row));
}

/* A row as text, for comparing across catalogs. */
static void print_row(const struct imv_row *row, struct imv_buffer *out) {
    struct imv_str label = row->series->label->name;
    imv_buffer_append_format(out, "%.*s", (int)label.size, label.data);
    for (uint32_t i = 0; i < row->series->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(row->series, i);
        imv_buffer_append_format(out, ",%.*s=%.*s", (int)tag.key.size, tag.key.data, (int)tag.value.size,
                                 tag.value.data);
    }
    imv_buffer_append_format(out, " #%llu @%lld", (unsigned long long)imv_series_id(row->series),
                             (long long)row->timestamp);
    for (uint32_t i = 0; i < row->shape->count; i++) {
        const struct imv_field *field = row->shape->fields[i];
        imv_buffer_append_format(out, " %.*s#%u:%d=", (int)field->name.size, field->name.data, field->id, field->type);
        if (field->type == IMV_STRING) {
            imv_buffer_append_str(out, imv_cell_str(row->cells[i]));
        } else {
            imv_buffer_append_format(out, "%llx", (unsigned long long)row->cells[i]);
        }
    }
    imv_buffer_append_char(out, '\n');
}

/* Decoded rows go to a list of lines, by series: only the order within a series is promised. */
enum { SERIES_MAX = 64 };
struct sink {
    struct imv_buffer lines[SERIES_MAX];
    size_t rows;
    struct imv_buffer deletions; /* a line each */
};

static void sink_init(struct sink *sink) {
    sink->rows = 0;
    for (int i = 0; i < SERIES_MAX; i++) imv_buffer_init(&sink->lines[i], 64 << 20);
    imv_buffer_init(&sink->deletions, 64 << 20);
}

static void sink_release(struct sink *sink) {
    for (int i = 0; i < SERIES_MAX; i++) imv_buffer_release(&sink->lines[i]);
    imv_buffer_release(&sink->deletions);
}

static imv_status sink_row(void *context, const struct imv_row *row, struct imv_error *err) {
    (void)err;
    struct sink *sink = context;
    cr_assert_lt(row->series->index, SERIES_MAX);
    print_row(row, &sink->lines[row->series->index]);
    sink->rows++;
    return IMV_OK;
}

static void print_deletion(const struct imv_journal_deletion *deletion, struct imv_buffer *out) {
    imv_buffer_append_format(out, "%u %lld..%lld %d:", deletion->label->id, (long long)deletion->from,
                             (long long)deletion->last, deletion->whole);
    for (size_t i = 0; i < deletion->series_count; i++) imv_buffer_append_format(out, " %u", deletion->series[i]);
    imv_buffer_append_char(out, '\n');
}

static imv_status sink_deletion(void *context, const struct imv_journal_deletion *deletion, struct imv_error *err) {
    (void)err;
    struct sink *sink = context;
    print_deletion(deletion, &sink->deletions);
    return IMV_OK;
}

static imv_status read_deletion(void *context, const struct imv_journal_deletion *deletion, struct imv_error *err) {
    (void)err;
    struct imv_buffer line;
    imv_buffer_init(&line, 1 << 20);
    print_deletion(deletion, &line);
    *(size_t *)context += line.size;
    imv_buffer_release(&line);
    return IMV_OK;
}

static imv_status read_row(void *context, const struct imv_row *row, struct imv_error *err) {
    (void)err;
    struct imv_buffer line;
    imv_buffer_init(&line, 1 << 20);
    print_row(row, &line);
    *(size_t *)context += line.size;
    imv_buffer_release(&line);
    return IMV_OK;
}

static imv_status refuse_row(void *context, const struct imv_row *row, struct imv_error *err) {
    (void)context, (void)row;
    return imv_fail(err, IMV_FULL, "no more rows");
}

static struct imv_str payload_view(const struct imv_buffer *payload) { return imv_buffer_view(payload); }

static imv_status decode(struct store *store, struct imv_str payload, struct sink *sink, struct imv_error *err) {
    const struct imv_journal_visitor visitor = {.row = sink_row, .deletion = sink_deletion, .context = sink};
    return imv_journal_decode(store->catalog, 0, (const uint8_t *)payload.data, payload.size, &visitor, err);
}

/* Random batches over a few labels, shapes and series. */
struct maker {
    struct store store;
    struct imv_prng prng;
    const struct imv_field *fields[2][12];
    struct imv_label *labels[2];
    struct imv_series *series[2][20];
};

static void maker_init(struct maker *maker, uint64_t seed) {
    maker->store = store_open();
    imv_prng_init(&maker->prng, seed);
    for (int l = 0; l < 2; l++) {
        maker->labels[l] = make_label(&maker->store, l == 0 ? "pump" : "a \"label\"\nof two lines");
        for (int i = 0; i < 12; i++) {
            char name[16];
            snprintf(name, sizeof name, "f%d", i);
            maker->fields[l][i] = make_field(&maker->store, maker->labels[l], name, (imv_type)(1 + i % 5));
        }
        for (int i = 0; i < 20; i++) {
            char host[16];
            snprintf(host, sizeof host, "h%d", i);
            maker->series[l][i] = make_series(&maker->store, maker->labels[l], host);
        }
    }
}

static uint64_t random_cell(struct imv_prng *prng, imv_type type) {
    uint64_t bits = imv_prng_next(prng) >> imv_prng_below(prng, 64);
    switch (type) {
        case IMV_BOOLEAN: return bits & 1;
        case IMV_FLOAT: return imv_prng_below(prng, 4) == 0 ? bits : imv_float_cell((double)(bits % 1000) / 10);
        case IMV_INTEGER: return imv_prng_below(prng, 2) ? bits : -bits;
        default: return bits;
    }
}

static void random_row(struct maker *maker, struct imv_batch *batch) {
    static const char text[] = "the quick brown fox jumps over the lazy dog";
    struct imv_prng *prng = &maker->prng;
    size_t label = imv_prng_below(prng, 2);
    const struct imv_field *fields[12];
    uint64_t cells[12];
    struct imv_str texts[12];
    uint32_t count = 1 + (uint32_t)imv_prng_below(prng, 6), first = (uint32_t)imv_prng_below(prng, 3);
    for (uint32_t i = 0; i < count; i++) {
        fields[i] = maker->fields[label][(first + 5 * i) % 12]; /* 5 and 12 have no common divisor: none stands twice */
        cells[i] = random_cell(prng, fields[i]->type);
        texts[i] = (struct imv_str){text, imv_prng_below(prng, sizeof text)};
    }
    const struct imv_shape *shape = make_shape(&maker->store, fields, count, maker->labels[label]);
    int64_t timestamp = (int64_t)(imv_prng_next(prng) >> imv_prng_below(prng, 64));
    add_row(batch, maker->series[label][imv_prng_below(prng, 20)], shape, timestamp, cells, texts);
}

static struct imv_batch *random_batches(struct maker *maker, int batches, int rows) {
    struct imv_batch *first = NULL, **link = &first;
    for (int b = 0; b < batches; b++) {
        struct imv_batch *batch = imv_batch_new(NULL, 0, (size_t)rows * 512 + 64);
        int count = 1 + (int)imv_prng_below(&maker->prng, (uint64_t)rows);
        for (int i = 0; i < count; i++) random_row(maker, batch);
        *link = batch;
        link = &batch->next;
    }
    return first;
}

static void free_batches(struct imv_batch *batch) {
    while (batch != NULL) {
        struct imv_batch *next = batch->next;
        imv_batch_free(batch);
        batch = next;
    }
}

Test(journal, what_was_encoded_is_decoded, .timeout = 60) {
    /* Rows of random shapes come out of a fresh catalog with the same names, ids, types, cells and order per series,
     * and no batch adds more than its bound. */
    for (uint64_t seed = 1; seed <= 8; seed++) {
        fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
        struct maker maker;
        maker_init(&maker, seed);
        struct store other = store_open();
        struct imv_journal_encoder *encoder;
        cr_assert_eq(imv_journal_encoder_new(maker.store.catalog, 0, &encoder, NULL), IMV_OK);
        for (int group = 0; group < 4; group++) {
            struct imv_batch *batches = random_batches(&maker, 3, 2000);
            struct sink expected, got;
            sink_init(&expected);
            sink_init(&got);
            size_t bound = 0;
            for (struct imv_batch *batch = batches; batch != NULL; batch = batch->next) {
                bound += imv_journal_bound(batch);
                for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
                    sink_row(&expected, row, NULL);
                }
            }
            struct imv_buffer payload;
            imv_buffer_init(&payload, bound);
            struct imv_error err;
            cr_assert_eq(imv_journal_encode(encoder, batches, &payload, &err), IMV_OK, "%s", err.message);
            cr_assert_eq(decode(&other, payload_view(&payload), &got, &err), IMV_OK, "%s", err.message);
            cr_assert_eq(got.rows, expected.rows);
            for (int i = 0; i < SERIES_MAX; i++) {
                cr_assert(imv_str_equal(imv_buffer_view(&got.lines[i]), imv_buffer_view(&expected.lines[i])));
            }
            imv_buffer_release(&payload);
            sink_release(&expected);
            sink_release(&got);
            free_batches(batches);
        }
        imv_journal_encoder_free(encoder);
        store_close(&other);
        store_close(&maker.store);
    }
}

Test(journal, every_float_keeps_its_bits) {
    /* NaN payloads, both zeros, infinities and the ends of the integers come back bit by bit, whatever the row
     * count. */
    static const uint64_t cells[] = {0,
                                     UINT64_C(0x8000000000000000),
                                     UINT64_C(0x7ff0000000000000),
                                     UINT64_C(0xfff0000000000000),
                                     UINT64_C(0x7ff8000000000001),
                                     UINT64_C(0xfff123456789abcd),
                                     1,
                                     UINT64_MAX,
                                     INT64_MAX,
                                     UINT64_C(0x0123456789abcdef)};
    enum { CELLS = sizeof cells / sizeof cells[0] };
    struct store store = store_open(), other = store_open();
    struct imv_label *label = make_label(&store, "cpu");
    const struct imv_field *fields[3] = {make_field(&store, label, "f", IMV_FLOAT),
                                         make_field(&store, label, "i", IMV_INTEGER),
                                         make_field(&store, label, "u", IMV_UINTEGER)};
    const struct imv_shape *shape = make_shape(&store, fields, 3, label);
    struct imv_series *series = make_series(&store, label, "a");
    struct imv_journal_encoder *encoder;
    cr_assert_eq(imv_journal_encoder_new(store.catalog, 0, &encoder, NULL), IMV_OK);
    for (int count = 1; count <= 40; count++) {
        struct imv_batch *batch = imv_batch_new(NULL, 0, 0);
        struct sink expected, got;
        sink_init(&expected);
        sink_init(&got);
        for (int i = 0; i < count; i++) {
            uint64_t row[3] = {cells[i % CELLS], cells[(i * 7) % CELLS], cells[(i * 3) % CELLS]};
            add_row(batch, series, shape, (int64_t)cells[(i * 9) % CELLS], row, NULL);
        }
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
            sink_row(&expected, row, NULL);
        }
        struct imv_buffer payload;
        imv_buffer_init(&payload, 1 << 20);
        cr_assert_eq(imv_journal_encode(encoder, batch, &payload, NULL), IMV_OK);
        cr_assert_eq(decode(&other, payload_view(&payload), &got, NULL), IMV_OK);
        cr_assert(imv_str_equal(imv_buffer_view(&got.lines[0]), imv_buffer_view(&expected.lines[0])));
        imv_buffer_release(&payload);
        imv_batch_free(batch);
        sink_release(&expected);
        sink_release(&got);
    }
    imv_journal_encoder_free(encoder);
    store_close(&other);
    store_close(&store);
}

/* One payload with two labels, all types and all kinds of records. */
static void small_payload(struct maker *maker, struct imv_buffer *payload) {
    struct imv_journal_encoder *encoder;
    cr_assert_eq(imv_journal_encoder_new(maker->store.catalog, 0, &encoder, NULL), IMV_OK);
    struct imv_batch *batches = random_batches(maker, 2, 40);
    imv_buffer_init(payload, 1 << 20);
    cr_assert_eq(imv_journal_encode(encoder, batches, payload, NULL), IMV_OK);
    struct imv_series *series = imv_batch_next_row(batches, NULL)->series;
    struct imv_journal_deletion deletion = {
        .label = series->label, .from = INT64_MIN, .last = 77, .series = &series->index, .series_count = 1};
    cr_assert_eq(imv_journal_encode_deletion(&deletion, payload, NULL), IMV_OK);
    free_batches(batches);
    imv_journal_encoder_free(encoder);
}

/* Decodes a copy in memory of its exact size, so that a sanitizer sees the first byte beyond. */
static imv_status decode_copy(struct store *store, const char *bytes, size_t size) {
    uint8_t *copy = malloc(size + 1);
    memcpy(copy, bytes, size);
    uint8_t *exact = realloc(copy, size > 0 ? size : 1);
    size_t sum = 0;
    struct imv_error err = {0};
    const struct imv_journal_visitor visitor = {.row = read_row, .deletion = read_deletion, .context = &sum};
    imv_status status = imv_journal_decode(store->catalog, 0, exact, size, &visitor, &err);
    if (status != IMV_OK) cr_assert(err.status == status && err.message[0] != 0);
    free(exact);
    return status;
}

Test(journal, every_cut_is_found, .timeout = 60) {
    /* A payload that ends early is IMV_CORRUPT unless it ends between two records. */
    struct maker maker;
    struct imv_buffer payload;
    maker_init(&maker, 1);
    small_payload(&maker, &payload);
    size_t whole = 0;
    for (size_t size = 0; size <= payload.size; size++) {
        struct store other = store_open();
        imv_status status = decode_copy(&other, payload.data, size);
        if (size == whole) {
            cr_assert_eq(status, IMV_OK);
            if (size < payload.size) whole += 5 + imv_get_u32(payload.data + size + 1);
        } else {
            cr_assert_eq(status, IMV_CORRUPT);
        }
        store_close(&other);
    }
    cr_assert_eq(whole, payload.size);
    imv_buffer_release(&payload);
    store_close(&maker.store);
}

Test(journal, every_flipped_byte_is_survived, .timeout = 60) {
    /* Whatever byte is damaged, decoding ends with IMV_OK or IMV_CORRUPT and touches nothing it should not. */
    struct maker maker;
    struct imv_buffer payload;
    maker_init(&maker, 2);
    small_payload(&maker, &payload);
    static const uint8_t masks[] = {0x01, 0x80, 0xff, 0x55};
    size_t refused = 0;
    for (size_t at = 0; at < payload.size; at++) {
        for (size_t m = 0; m < sizeof masks; m++) {
            struct store other = store_open();
            payload.data[at] ^= (char)masks[m];
            imv_status status = decode_copy(&other, payload.data, payload.size);
            payload.data[at] ^= (char)masks[m];
            cr_assert(status == IMV_OK || status == IMV_CORRUPT);
            refused += status == IMV_CORRUPT;
            store_close(&other);
        }
    }
    cr_assert_gt(refused, payload.size);
    imv_buffer_release(&payload);
    store_close(&maker.store);
}

Test(journal, definitions_are_written_once) {
    /* A second group with the same series and fields holds rows only; a new field brings itself along; a fresh encoder
     * defines label and fields again, and replaying all of it changes nothing. */
    struct store store = store_open(), other = store_open();
    struct imv_label *label = make_label(&store, "cpu");
    const struct imv_field *fields[2] = {make_field(&store, label, "a", IMV_INTEGER)};
    const struct imv_shape *one = make_shape(&store, fields, 1, label);
    struct imv_series *series = make_series(&store, label, "h1");
    uint64_t cells[2] = {1, 2};
    struct imv_buffer payloads[4];
    for (int i = 0; i < 4; i++) {
        static struct imv_journal_encoder *encoder;
        if (i == 0 || i == 3) cr_assert_eq(imv_journal_encoder_new(store.catalog, 0, &encoder, NULL), IMV_OK);
        const struct imv_shape *shape = one;
        if (i >= 2) {
            fields[1] = make_field(&store, label, "b", IMV_INTEGER);
            shape = make_shape(&store, fields, 2, label);
        }
        struct imv_batch *batch = imv_batch_new(NULL, 0, 0);
        add_row(batch, series, shape, i, cells, NULL);
        imv_buffer_init(&payloads[i], 4096);
        cr_assert_eq(imv_journal_encode(encoder, batch, &payloads[i], NULL), IMV_OK);
        imv_batch_free(batch);
        if (i >= 2) imv_journal_encoder_free(encoder);
    }
    const char kinds[4][5] = {{1, 2, 3, 4}, {4}, {2, 4}, {1, 2, 2, 4}};
    for (int i = 0; i < 4; i++) {
        size_t at = 0, records = 0;
        while (at < payloads[i].size) {
            cr_assert_eq(payloads[i].data[at], kinds[i][records], "group %d record %zu", i, records);
            records++;
            at += 5 + imv_get_u32(payloads[i].data + at + 1);
        }
        cr_assert_eq(kinds[i][records], 0);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 4; i++) {
            struct sink sink;
            sink_init(&sink);
            cr_assert_eq(decode(&other, payload_view(&payloads[i]), &sink, NULL), IMV_OK);
            cr_assert_eq(sink.rows, 1);
            sink_release(&sink);
        }
    }
    cr_assert_eq(imv_catalog_series_count(other.catalog, 0), 1);
    cr_assert(imv_catalog_series_by_id(other.catalog, 0)->journaled);
    cr_assert_eq(atomic_load(&imv_catalog_label_by_id(other.catalog, 0)->fields_count), 2);
    for (int i = 0; i < 4; i++) imv_buffer_release(&payloads[i]);
    store_close(&other);
    store_close(&store);
}

Test(journal, a_full_payload_is_left_as_it_was, .timeout = 60) {
    /* Whatever room is too little, encoding says IMV_FULL, leaves the payload and forgets what it had marked, so that
     * the next group defines it all. */
    struct maker maker;
    maker_init(&maker, 3);
    struct imv_batch *batches = random_batches(&maker, 2, 60);
    size_t needed = 0;
    for (size_t room = 8; needed == 0; room += 97) {
        struct imv_journal_encoder *encoder;
        cr_assert_eq(imv_journal_encoder_new(maker.store.catalog, 0, &encoder, NULL), IMV_OK);
        struct imv_buffer payload;
        imv_buffer_init(&payload, room);
        cr_assert(imv_buffer_append_str(&payload, IMV_STR("before")));
        imv_status status = imv_journal_encode(encoder, batches, &payload, NULL);
        if (status == IMV_OK) {
            needed = room;
        } else {
            cr_assert_eq(status, IMV_FULL);
            cr_assert(imv_str_equal(imv_buffer_view(&payload), IMV_STR("before")) && !payload.failed);
            for (int i = 0; i < 20; i++) cr_assert_not(maker.series[0][i]->journaled || maker.series[1][i]->journaled);
            struct imv_buffer larger;
            struct store other = store_open();
            struct sink sink;
            sink_init(&sink);
            imv_buffer_init(&larger, 1 << 20);
            cr_assert_eq(imv_journal_encode(encoder, batches, &larger, NULL), IMV_OK);
            cr_assert_eq(decode(&other, payload_view(&larger), &sink, NULL), IMV_OK);
            sink_release(&sink);
            imv_buffer_release(&larger);
            store_close(&other);
            for (int i = 0; i < 20; i++) maker.series[0][i]->journaled = maker.series[1][i]->journaled = false;
        }
        imv_buffer_release(&payload);
        imv_journal_encoder_free(encoder);
    }
    cr_assert_gt(needed, 1000);
    free_batches(batches);
    store_close(&maker.store);
}

Test(journal, a_row_that_is_refused_ends_the_decoding) {
    /* A failure of the callback is returned as it is. */
    struct maker maker;
    struct imv_buffer payload;
    maker_init(&maker, 4);
    small_payload(&maker, &payload);
    struct store other = store_open();
    struct imv_error err;
    const struct imv_journal_visitor visitor = {.row = refuse_row, .deletion = read_deletion};
    cr_assert_eq(imv_journal_decode(other.catalog, 0, (uint8_t *)payload.data, payload.size, &visitor, &err), IMV_FULL);
    cr_assert_str_eq(err.message, "no more rows");
    imv_buffer_release(&payload);
    store_close(&other);
    store_close(&maker.store);
}

Test(journal, a_payload_of_another_shard_is_refused) {
    /* Series carry their owner in their key, so a payload cannot be replayed into the wrong shard. */
    struct maker maker;
    struct imv_buffer payload;
    maker_init(&maker, 5);
    small_payload(&maker, &payload);
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    cr_assert_eq(imv_kv_memory_new(1, &disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(disk, &kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(kv, 3, &catalog, NULL), IMV_OK);
    size_t sum = 0;
    const struct imv_journal_visitor visitor = {.row = read_row, .deletion = read_deletion, .context = &sum};
    cr_assert_eq(imv_journal_decode(catalog, 1, (uint8_t *)payload.data, payload.size, &visitor, NULL), IMV_CORRUPT);
    imv_catalog_close(catalog);
    imv_kv_close(kv);
    imv_kv_memory_free(disk);
    imv_buffer_release(&payload);
    store_close(&maker.store);
}

static void put_record(struct imv_buffer *payload, char kind, const void *body, uint32_t size) {
    uint8_t length[4];
    imv_put_u32(length, size);
    imv_buffer_append_char(payload, kind);
    imv_buffer_append(payload, length, sizeof length);
    imv_buffer_append(payload, body, size);
}

Test(journal, rows_that_contradict_the_catalog_are_refused) {
    /* Each rule of a ROWS record is checked on its own. */
    struct store store = store_open();
    struct imv_label *cpu = make_label(&store, "cpu"), *mem = make_label(&store, "mem");
    make_field(&store, cpu, "b", IMV_BOOLEAN);
    make_field(&store, cpu, "i", IMV_INTEGER);
    make_field(&store, mem, "b", IMV_BOOLEAN);
    make_series(&store, cpu, "a");
    make_series(&store, mem, "a");
    static const struct {
        uint8_t body[16];
        uint32_t size;
        imv_status status;
    } cases[] = {
        {{0, 1, 1, 0, 0, 0, 1}, 7, IMV_OK},            /* label cpu, one row, field b, series 0, time 0, true */
        {{0, 1, 1, 0, 0, 0, 2}, 7, IMV_CORRUPT},       /* an unused bit is set */
        {{0, 1, 1, 0, 0, 0, 1, 0}, 8, IMV_CORRUPT},    /* a byte too many */
        {{0, 1, 2, 0, 0, 0, 0, 1, 1}, 9, IMV_CORRUPT}, /* the field stands twice */
        {{0, 1, 2, 0, 1, 0, 0, 1, 2}, 9, IMV_OK},      /* both fields */
        {{0, 1, 1, 2, 0, 0, 1}, 7, IMV_CORRUPT},       /* no such field */
        {{2, 1, 1, 0, 0, 0, 1}, 7, IMV_CORRUPT},       /* no such label */
        {{0, 1, 1, 0, 2, 0, 1}, 7, IMV_CORRUPT},       /* series 1 is of mem */
        {{1, 1, 1, 0, 2, 0, 1}, 7, IMV_OK},            /* which is fine there */
        {{0, 1, 1, 0, 4, 0, 1}, 7, IMV_CORRUPT},       /* no such series */
        {{0, 1, 1, 0, 1, 0, 1}, 7, IMV_CORRUPT},       /* series -1 */
        {{0, 0, 1, 0, 0, 0, 1}, 7, IMV_CORRUPT},       /* no rows */
        {{0, 0x81, 0x08, 1, 0}, 5, IMV_CORRUPT},       /* 1,025 rows */
        {{0, 1, 0, 0, 0}, 5, IMV_CORRUPT},             /* no columns */
        {{0, 1, 0x81, 0x20, 0, 0}, 6, IMV_CORRUPT},    /* 4,097 columns */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct imv_buffer payload;
        imv_buffer_init(&payload, 4096);
        put_record(&payload, 4, cases[i].body, cases[i].size);
        cr_expect_eq(decode_copy(&store, payload.data, payload.size), cases[i].status, "case %zu", i);
        imv_buffer_release(&payload);
    }
    struct imv_buffer payload;
    imv_buffer_init(&payload, 4096);
    put_record(&payload, 5, "", 0);
    cr_assert_eq(decode_copy(&store, payload.data, payload.size), IMV_CORRUPT);
    imv_buffer_release(&payload);
    store_close(&store);
}

/* What a payload of one deletion says after it was decoded. */
static void expect_deletion(struct store *store, const struct imv_journal_deletion *deletion) {
    struct imv_buffer payload, expected;
    struct sink sink;
    imv_buffer_init(&payload, 1 << 20);
    imv_buffer_init(&expected, 1 << 20);
    sink_init(&sink);
    cr_assert_eq(imv_journal_encode_deletion(deletion, &payload, NULL), IMV_OK);
    cr_assert_eq(decode(store, payload_view(&payload), &sink, NULL), IMV_OK);
    print_deletion(deletion, &expected);
    cr_assert(imv_str_equal(imv_buffer_view(&sink.deletions), imv_buffer_view(&expected)));
    cr_assert_eq(sink.rows, 0);
    sink_release(&sink);
    imv_buffer_release(&payload);
    imv_buffer_release(&expected);
}

Test(journal, deletions_come_back) {
    /* A deletion of some series, of all, of any range, decodes to what it was. */
    struct store store = store_open();
    struct imv_label *label, *other;
    cr_assert_eq(imv_catalog_label(store.catalog, IMV_STR("cpu"), &label, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_label(store.catalog, IMV_STR("mem"), &other, NULL), IMV_OK);
    uint32_t indices[300];
    size_t count = 0;
    for (int i = 0; i < 400; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        struct imv_tag tag = {IMV_STR("h"), imv_str_from(name)};
        struct imv_series *series;
        cr_assert_eq(imv_catalog_series(store.catalog, i % 4 == 3 ? other : label, &tag, 1, &series, NULL), IMV_OK);
        if (i % 4 != 3 && count < 300) indices[count++] = series->index;
    }
    static const int64_t times[] = {INT64_MIN, -1, 0, 1700000000000000000, INT64_MAX};
    for (size_t a = 0; a < 5; a++) {
        for (size_t b = a; b < 5; b++) {
            struct imv_journal_deletion deletion = {.label = label, .from = times[a], .last = times[b], .whole = true};
            expect_deletion(&store, &deletion);
            deletion.whole = false;
            deletion.series = indices + a;
            deletion.series_count = b == 4 ? count - a : 1;
            expect_deletion(&store, &deletion);
        }
    }
    store_close(&store);
}

Test(journal, deletions_of_what_is_not_there_are_refused) {
    /* A deletion that names a series of another label or none at all, or one that a payload has no room for. */
    struct store store = store_open();
    struct imv_label *label, *other;
    struct imv_series *series;
    struct imv_tag tag = {IMV_STR("h"), IMV_STR("1")};
    cr_assert_eq(imv_catalog_label(store.catalog, IMV_STR("cpu"), &label, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_label(store.catalog, IMV_STR("mem"), &other, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_series(store.catalog, label, &tag, 1, &series, NULL), IMV_OK);
    uint32_t indices[] = {series->index, series->index + 1};
    struct imv_journal_deletion deletions[] = {
        {.label = other, .last = 1, .series = indices, .series_count = 1},
        {.label = label, .last = 1, .series = indices + 1, .series_count = 1},
        {.label = label, .last = 1, .series = indices, .series_count = 2},
    };
    for (size_t i = 0; i < 3; i++) {
        struct imv_buffer payload;
        imv_buffer_init(&payload, 1 << 20);
        cr_assert_eq(imv_journal_encode_deletion(&deletions[i], &payload, NULL), IMV_OK);
        cr_assert_eq(decode_copy(&store, payload.data, payload.size), IMV_CORRUPT);
        imv_buffer_release(&payload);
        imv_buffer_init(&payload, 20);
        cr_assert_eq(imv_journal_encode_deletion(&deletions[i], &payload, NULL), IMV_FULL);
        cr_assert_eq(payload.size, 0);
        imv_buffer_release(&payload);
    }
    size_t most = imv_journal_deletion_series_max(1000);
    cr_assert(most > 150 && imv_journal_deletion_series_max(10) == 0);
    store_close(&store);
}
