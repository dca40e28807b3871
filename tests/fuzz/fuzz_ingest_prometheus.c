/* Any bytes as a WriteRequest: nothing is read beyond them, and the rows, the refusals and the outcome do not depend on
 * how often the writer is full. The writer is faked: it takes every series whose label and tags it can read. */
#include "ingest/prometheus.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"
#include "storage/base/prng.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
    struct imv_prng prng;
    bool delays;
    uint32_t room;
    uint64_t digest, series, rejects;
} world;

static void mix(uint64_t *digest, const void *bytes, size_t size) { *digest = imv_hash64(bytes, size, *digest); }

struct imv_series *imv_writer_find_series(struct imv_writer *writer, struct imv_str raw) {
    (void)writer;
    mix(&world.series, raw.data, raw.size);
    return NULL;
}

imv_status imv_writer_check_row(struct imv_writer *writer, struct imv_str label, const struct imv_tag *tags,
                                size_t tags_count, const struct imv_field *fields, size_t fields_count,
                                struct imv_error *err) {
    (void)writer, (void)label, (void)tags, (void)tags_count, (void)fields, (void)fields_count, (void)err;
    return IMV_OK;
}
imv_status imv_writer_make_series(struct imv_writer *writer, struct imv_str raw, struct imv_str label,
                                  const struct imv_tag *tags, size_t tags_count, struct imv_series **series,
                                  struct imv_error *err) {
    (void)writer, (void)raw;
    if (label.size > 100) return imv_fail(err, IMV_INVALID, "a long label");
    world.series = 0;
    mix(&world.series, label.data, label.size);
    for (size_t i = 0; i < tags_count; i++) {
        imv_assert(tags[i].key.size > 0 && tags[i].value.size > 0);
        mix(&world.series, tags[i].key.data, tags[i].key.size);
        mix(&world.series, tags[i].value.data, tags[i].value.size);
    }
    *series = (struct imv_series *)(uintptr_t)&world;
    return IMV_OK;
}

imv_status imv_writer_begin(struct imv_writer *writer, struct imv_series *series, uint32_t fields_max, size_t bytes_max,
                            struct imv_error *err) {
    (void)writer, (void)fields_max, (void)bytes_max, (void)err;
    imv_assert(series != NULL && (!world.delays || world.room > 0));
    return IMV_OK;
}

imv_status imv_writer_field(struct imv_writer *writer, struct imv_str name, imv_type type, uint64_t cell,
                            struct imv_error *err) {
    (void)writer, (void)name;
    imv_assert(type == IMV_FLOAT);
    mix(&world.digest, &cell, sizeof cell);
    return (uint8_t)cell == 7 ? imv_fail(err, IMV_CONFLICT, "no sevens") : IMV_OK;
}

imv_status imv_writer_end(struct imv_writer *writer, int64_t timestamp, struct imv_error *err) {
    (void)writer, (void)err;
    mix(&world.digest, &(uint64_t[]){(uint64_t)timestamp, world.series}, 16);
    world.room--;
    return IMV_OK;
}

void imv_writer_abort(struct imv_writer *writer) { (void)writer; }
bool imv_writer_has_room(struct imv_writer *writer) {
    (void)writer;
    return !world.delays || world.room > 0;
}

static void on_reject(void *context, const struct imv_error *reason) {
    (void)context;
    world.rejects++;
    mix(&world.digest, reason->message, strlen(reason->message));
}

struct outcome {
    imv_status status;
    uint64_t digest, rejects, rows, rejected;
};

static struct outcome run(const char *bytes, size_t size, bool delays) {
    struct imv_prometheus prometheus;
    struct imv_error err;
    imv_prng_init(&world.prng, imv_hash64(bytes, size, 0));
    world.delays = delays;
    world.room = 0;
    world.digest = world.rejects = 0;
    imv_prometheus_init(&prometheus, NULL);
    prometheus.reject = on_reject;
    imv_status status;
    do {
        status = imv_prometheus_take(&prometheus, bytes, size, &err);
        world.room = 1 + (uint32_t)imv_prng_below(&world.prng, 3);
    } while (status == IMV_BUSY || status == IMV_FULL);
    return (struct outcome){status, world.digest, world.rejects, prometheus.rows, prometheus.rejected};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *bytes = malloc(size == 0 ? 1 : size);
    memcpy(bytes, data, size);
    struct outcome whole = run(bytes, size, false), pieces = run(bytes, size, true);
    imv_assert(whole.status == pieces.status && whole.rejects == pieces.rejects);
    imv_assert(whole.rows == pieces.rows && whole.rejected == pieces.rejected);
    imv_assert(whole.digest == pieces.digest);
    free(bytes);
    return 0;
}
