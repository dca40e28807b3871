/* engine_harness.h - a whole engine on the calling thread, and a plain model of what it must hold.
 *
 * The harness opens an engine with its shards and one writer per shard, on a simulated disk and the in-memory store, or
 * on real files and RocksDB. harness_turn is one turn of every shard's loop; harness_settle turns until nothing is
 * under way. Background work is done by harness_background.
 *
 * The model is an array of cells (series, time, field), each of which remembers the value that was acknowledged last
 * and those written since. A read must show the acknowledged value or one that was written later, and nothing else. A
 * deletion writes a value below 0, which reads as nothing; while one is under way its series take no writes, nor is one
 * begun while writes of them are, because the order of the two would be open.
 *
 * Header only: the engine's layer stands above the test support library. One thread.
 */
#pragma once

#include "engine/cursor.h"
#include "engine/engine.h"
#include "engine/engine_internal.h"
#include "engine/shard.h"
#include "storage/base/assert.h"
#include "storage/base/io_sim.h"
#include "tests/support/kv_memory.h"

#include <stdio.h>
#include <stdlib.h>

#define HARNESS_SECOND INT64_C(1000000000)
#define HARNESS_DAY    (86400 * HARNESS_SECOND)
#ifndef HARNESS_DAYS
#define HARNESS_DAYS 4
#endif

enum {
    HARNESS_SHARDS_MAX = 4,
    HARNESS_SERIES = 8, /* of two labels, written by the writers in turn */
    HARNESS_TIMES = 96, /* on HARNESS_DAYS days */
    HARNESS_FIELDS = 2,
    HARNESS_LATER_MAX = 24,
};

struct harness {
    /* Set before harness_open. */
    const char *directory;
    uint32_t shards;
    struct imv_sim *sim;             /* NULL: system calls */
    struct imv_kv_memory *kv_memory; /* NULL: RocksDB */
    struct imv_manual_clock clock;
    size_t head_bytes_max;
    uint64_t wal_bytes_max, wal_segment_bytes; /* 0: the least; 256 KiB */
    int64_t flush_age_ns, cold_ns;             /* 0: the default */
    /* While open. */
    struct imv_engine *engine;
    struct imv_io *io[HARNESS_SHARDS_MAX];
    struct imv_shard *shard[HARNESS_SHARDS_MAX];
    struct imv_writer *writer[HARNESS_SHARDS_MAX];
};

static inline void harness_init(struct harness *harness, const char *directory, uint32_t shards) {
    *harness = (struct harness){.directory = directory, .shards = shards};
    imv_manual_clock_init(&harness->clock, INT64_C(1700000000) * HARNESS_SECOND);
}

/* Closes what is open; also after a failed open or a crash. */
static inline void harness_close(struct harness *harness) {
    for (uint32_t i = 0; i < harness->shards; i++) {
        imv_writer_free(harness->writer[i]);
        harness->writer[i] = NULL;
    }
    for (uint32_t i = 0; i < harness->shards; i++) {
        imv_shard_close(harness->shard[i]);
        harness->shard[i] = NULL;
    }
    imv_engine_close(harness->engine);
    harness->engine = NULL;
    for (uint32_t i = 0; i < harness->shards; i++) {
        if (harness->sim == NULL && harness->io[i] != NULL) imv_io_free(harness->io[i]);
        harness->io[i] = NULL;
    }
}

static inline imv_status harness_open_shards(struct harness *harness, struct imv_error *err) {
    imv_assert(imv_engine_shards_count(harness->engine) == harness->shards);
    for (uint32_t i = 0; i < harness->shards; i++) {
        if (harness->sim != NULL)
            harness->io[i] = imv_sim_io(harness->sim);
        else
            IMV_TRY(imv_io_sys_new(&harness->io[i], err));
        IMV_TRY(imv_shard_open(harness->engine, i, harness->io[i], &harness->shard[i], err));
    }
    for (uint32_t i = 0; i < harness->shards; i++) {
        IMV_TRY(imv_writer_new(harness->engine, i, &harness->writer[i], err));
    }
    return IMV_OK;
}

/* After a failure everything is closed again. */
static inline imv_status harness_open(struct harness *harness, struct imv_error *err) {
    struct imv_engine_options options;
    imv_engine_options_init(&options, harness->directory);
    options.shards = harness->shards;
    options.background = false;
    options.clock = &harness->clock.clock;
    options.wal_segment_bytes = harness->wal_segment_bytes > 0 ? harness->wal_segment_bytes : 256 << 10;
    options.wal_bytes_max = harness->wal_bytes_max;
    if (harness->head_bytes_max > 0) options.head_bytes_max = harness->head_bytes_max;
    if (harness->flush_age_ns > 0) options.flush_age_ns = harness->flush_age_ns;
    options.cold_ns = harness->cold_ns;
    if (harness->sim != NULL) options.io = imv_sim_io(harness->sim);
    if (harness->kv_memory != NULL) IMV_TRY(imv_kv_memory_open(harness->kv_memory, &options.kv, err));
    imv_status status = imv_engine_open(&options, &harness->engine, err);
    if (status == IMV_OK) status = harness_open_shards(harness, err);
    if (status != IMV_OK) harness_close(harness);
    return status;
}

static inline void harness_turn(struct harness *harness) {
    for (uint32_t i = 0; i < harness->shards; i++) {
        imv_writer_send(harness->writer[i]);
        imv_shard_run(harness->shard[i]);
        imv_io_poll(harness->io[i], false);
        imv_shard_run(harness->shard[i]);
    }
}

static inline bool harness_busy(const struct harness *harness) {
    for (uint32_t i = 0; i < harness->shards; i++) {
        if (imv_shard_busy(harness->shard[i])) return true;
    }
    return false;
}

/* Turns until nothing is under way. False when that does not come to pass: memory or journal space is missing. */
static inline bool harness_settle(struct harness *harness) {
    for (int i = 0, idle = 0; i < 10000; i++) {
        harness_turn(harness);
        idle = harness_busy(harness) ? 0 : idle + 1;
        if (idle == 2) return true; /* the last writer's batches were seen by the first shard */
    }
    return false;
}

/* All background work there is. */
static inline imv_status harness_background(struct harness *harness, struct imv_error *err) {
    bool did_work = true;
    while (did_work) IMV_TRY(imv_engine_background_step(harness->engine, &did_work, err));
    return IMV_OK;
}

/* Freezes every head and flushes it. */
static inline imv_status harness_flush(struct harness *harness, struct imv_error *err) {
    imv_engine_flush_begin(harness->engine);
    harness_turn(harness);
    IMV_TRY(harness_background(harness, err));
    harness_turn(harness);
    imv_assert(imv_engine_flushed(harness->engine));
    return IMV_OK;
}

/* ---- the model ---- */

struct model_cell {
    bool acknowledged;
    int64_t value; /* when acknowledged */
    uint32_t later_count;
    int64_t later[HARNESS_LATER_MAX]; /* written since, oldest first */
};

struct model {
    struct model_cell cells[HARNESS_SERIES][HARNESS_TIMES][HARNESS_FIELDS];
    int64_t next_value; /* every value written is another one */
};

/* What one read showed. */
struct model_view {
    bool present[HARNESS_SERIES][HARNESS_TIMES][HARNESS_FIELDS];
    int64_t values[HARNESS_SERIES][HARNESS_TIMES][HARNESS_FIELDS];
};

/* One write operation that is not acknowledged yet. */
struct model_write {
    uint32_t writer;
    uint64_t marks[HARNESS_SHARDS_MAX];
    uint32_t count;
    struct {
        struct model_cell *cell;
        int64_t value;
    } items[128];
};

static const char *const model_fields[HARNESS_FIELDS] = {"a", "b"};

static inline int64_t model_time(uint32_t index) {
    return INT64_C(1699920000) * HARNESS_SECOND + (index % HARNESS_DAYS) * HARNESS_DAY +
           (index / HARNESS_DAYS) * HARNESS_SECOND;
}

static inline int model_time_index(int64_t timestamp) {
    for (uint32_t i = 0; i < HARNESS_TIMES; i++) {
        if (model_time(i) == timestamp) return (int)i;
    }
    return -1;
}

/* Puts one row of a series into its writer; fields is a mask. */
static inline imv_status model_put(struct harness *harness, struct model *model, struct model_write *write,
                                   uint32_t series_index, uint32_t time_index, unsigned fields, struct imv_error *err) {
    struct imv_writer *writer = harness->writer[write->writer];
    char raw[32], tag[8];
    snprintf(raw, sizeof raw, "m%u,s=%u", series_index % 2, series_index);
    snprintf(tag, sizeof tag, "%u", series_index);
    struct imv_series *series = imv_writer_find_series(writer, imv_str_from(raw));
    if (series == NULL) {
        struct imv_tag tags = {IMV_STR("s"), imv_str_from(tag)};
        IMV_TRY(imv_writer_make_series(writer, imv_str_from(raw), (struct imv_str){raw, 2}, &tags, 1, &series, err));
    }
    IMV_TRY(imv_writer_begin(writer, series, HARNESS_FIELDS, 0, err));
    for (uint32_t field = 0; field < HARNESS_FIELDS; field++) {
        if (!(fields >> field & 1)) continue;
        int64_t value = ++model->next_value;
        IMV_TRY(imv_writer_field(writer, imv_str_from(model_fields[field]), IMV_INTEGER, (uint64_t)value, err));
        struct model_cell *cell = &model->cells[series_index][time_index][field];
        imv_assert(cell->later_count < HARNESS_LATER_MAX);
        cell->later[cell->later_count++] = value;
        imv_assert(write->count < sizeof write->items / sizeof write->items[0]);
        write->items[write->count].cell = cell;
        write->items[write->count++].value = value;
    }
    return imv_writer_end(writer, model_time(time_index), err);
}

/* The write is durable: what it said is what a read must show at least. */
static inline void model_acknowledge(const struct model_write *write) {
    for (uint32_t i = 0; i < write->count; i++) {
        struct model_cell *cell = write->items[i].cell;
        uint32_t at = 0;
        while (at < cell->later_count && cell->later[at] != write->items[i].value) at++;
        if (at == cell->later_count) continue; /* a later write of the same cell was acknowledged before */
        cell->acknowledged = true;
        cell->value = write->items[i].value;
        cell->later_count -= at + 1;
        memmove(cell->later, cell->later + at + 1, cell->later_count * sizeof cell->later[0]);
    }
}

/* One deletion that is not acknowledged yet. */
struct model_deletion {
    struct imv_deletion_request *request; /* NULL: none */
    bool series[HARNESS_SERIES];
    int64_t from, last, value;
};

static inline bool model_deletes(const struct model_deletion *deletion, uint32_t series_index, uint32_t time_index) {
    int64_t time = model_time(time_index);
    return deletion->series[series_index] && deletion->from <= time && time <= deletion->last;
}

/* Begins to delete a time range of the series of a label (0 or 1) that `wanted` names, or of all. */
static inline imv_status model_delete(struct harness *harness, struct model *model, struct model_deletion *deletion,
                                      uint32_t label_index, const bool *wanted, int64_t from, int64_t last,
                                      struct imv_error *err) {
    char name[4];
    snprintf(name, sizeof name, "m%u", label_index);
    struct imv_catalog *catalog = imv_engine_catalog(harness->engine);
    struct imv_label *label = imv_catalog_find_label(catalog, imv_str_from(name));
    *deletion = (struct model_deletion){.from = from, .last = last, .value = -++model->next_value};
    if (label == NULL) return IMV_OK;
    struct imv_series **series, *chosen[HARNESS_SERIES];
    size_t count, chosen_count = 0;
    IMV_TRY(imv_catalog_select(catalog, label, NULL, NULL, &series, &count, err));
    for (size_t i = 0; i < count; i++) {
        struct imv_str tag;
        imv_assert(imv_series_tag(series[i], IMV_STR("s"), &tag));
        uint32_t index = (uint32_t)(tag.data[0] - '0');
        if (wanted != NULL && !wanted[index]) continue;
        deletion->series[index] = true;
        chosen[chosen_count++] = series[i];
    }
    free(series);
    struct imv_deletion asked = {.label = label,
                                 .whole = wanted == NULL,
                                 .series = chosen,
                                 .series_count = chosen_count,
                                 .from = from,
                                 .last = last};
    imv_status status = imv_engine_delete_begin(harness->engine, &asked, 0, &deletion->request, err);
    if (status != IMV_OK) {
        deletion->request = NULL;
        return status;
    }
    for (uint32_t s = 0; s < HARNESS_SERIES; s++) {
        for (uint32_t t = 0; t < HARNESS_TIMES; t++) {
            if (!model_deletes(deletion, s, t)) continue;
            for (uint32_t f = 0; f < HARNESS_FIELDS; f++) {
                struct model_cell *cell = &model->cells[s][t][f];
                imv_assert(cell->later_count < HARNESS_LATER_MAX);
                cell->later[cell->later_count++] = deletion->value;
            }
        }
    }
    return IMV_OK;
}

/* Forgets the request; when it is done, what it deleted must not be read again. */
static inline void model_delete_end(struct model *model, struct model_deletion *deletion, bool done) {
    imv_engine_delete_end(deletion->request);
    deletion->request = NULL;
    for (uint32_t s = 0; s < HARNESS_SERIES && done; s++) {
        for (uint32_t t = 0; t < HARNESS_TIMES; t++) {
            if (!model_deletes(deletion, s, t)) continue;
            for (uint32_t f = 0; f < HARNESS_FIELDS; f++) {
                model->cells[s][t][f] = (struct model_cell){.acknowledged = true, .value = deletion->value};
            }
        }
    }
}

static inline imv_status model_read_series(struct imv_cursor *cursor, struct imv_series *series, const uint32_t *fields,
                                           size_t fields_count, struct model_view *view, struct imv_error *err) {
    struct imv_str tag;
    imv_assert(imv_series_tag(series, IMV_STR("s"), &tag));
    uint32_t index = (uint32_t)(tag.data[0] - '0');
    int64_t before = INT64_MIN;
    IMV_TRY(imv_cursor_seek(cursor, series, INT64_MIN, INT64_MAX, err));
    for (;;) {
        const struct imv_rows *rows;
        IMV_TRY(imv_cursor_next(cursor, &rows, err));
        if (rows->count == 0) return IMV_OK;
        for (size_t row = 0; row < rows->count; row++) {
            int time_index = model_time_index(rows->timestamps[row]);
            if (time_index < 0 || (rows->timestamps[row] <= before && before != INT64_MIN)) {
                return imv_fail(err, IMV_CORRUPT, "series %u: a row at %lld after %lld", index,
                                (long long)rows->timestamps[row], (long long)before);
            }
            before = rows->timestamps[row];
            for (size_t field = 0; field < fields_count; field++) {
                if (!imv_vector_has(&rows->columns[field], row)) continue;
                view->present[index][time_index][fields[field]] = true;
                view->values[index][time_index][fields[field]] = (int64_t)rows->columns[field].cells[row];
            }
        }
    }
}

static inline imv_status model_read_label(struct imv_snapshot *snapshot, struct imv_label *label,
                                          struct model_view *view, struct imv_error *err) {
    uint32_t ids[HARNESS_FIELDS], fields[HARNESS_FIELDS];
    size_t fields_count = 0, series_count = 0;
    for (uint32_t i = 0; i < HARNESS_FIELDS; i++) {
        const struct imv_field *field = imv_label_find_field(snapshot->catalog, label, imv_str_from(model_fields[i]));
        if (field == NULL) continue;
        fields[fields_count] = i;
        ids[fields_count++] = field->id;
    }
    struct imv_series **series = NULL;
    struct imv_cursor *cursor = NULL;
    imv_status status =
        imv_catalog_select(snapshot->catalog, label, NULL, snapshot->sequences, &series, &series_count, err);
    if (status == IMV_OK) status = imv_cursor_new(snapshot, label, ids, fields_count, NULL, &cursor, err);
    for (size_t i = 0; i < series_count && status == IMV_OK; i++) {
        status = model_read_series(cursor, series[i], fields, fields_count, view, err);
    }
    imv_cursor_free(cursor);
    free(series);
    return status;
}

/* Reads all that a snapshot shows. */
static inline imv_status model_read(struct imv_snapshot *snapshot, struct model_view *view, struct imv_error *err) {
    *view = (struct model_view){0};
    for (uint32_t i = 0; i < 2; i++) {
        char name[4];
        snprintf(name, sizeof name, "m%u", i);
        struct imv_label *label = imv_catalog_find_label(snapshot->catalog, imv_str_from(name));
        if (label != NULL) IMV_TRY(model_read_label(snapshot, label, view, err));
    }
    return IMV_OK;
}

static inline bool model_cell_allows(const struct model_cell *cell, bool present, int64_t value) {
    if (!present) value = 0;
    if (!cell->acknowledged ? !present : value == (cell->value < 0 ? 0 : cell->value)) return true;
    for (uint32_t i = 0; i < cell->later_count; i++) {
        if (value == (cell->later[i] < 0 ? 0 : cell->later[i])) return true;
    }
    return false;
}

/* Whether the view is one that the model allows; says the first difference. With settle, what is seen becomes what is
 * acknowledged: after a restart nothing else can come. */
static inline bool model_check(struct model *model, const struct model_view *view, bool settle) {
    for (uint32_t s = 0; s < HARNESS_SERIES; s++) {
        for (uint32_t t = 0; t < HARNESS_TIMES; t++) {
            for (uint32_t f = 0; f < HARNESS_FIELDS; f++) {
                struct model_cell *cell = &model->cells[s][t][f];
                bool present = view->present[s][t][f];
                int64_t value = view->values[s][t][f];
                if (!model_cell_allows(cell, present, value)) {
                    fprintf(stderr, "series %u time %u field %u: read %s%lld, acknowledged %s%lld, %u later\n", s, t, f,
                            present ? "" : "nothing ", (long long)value, cell->acknowledged ? "" : "nothing ",
                            (long long)cell->value, cell->later_count);
                    return false;
                }
                if (!settle) continue;
                *cell = (struct model_cell){.acknowledged = present, .value = value};
            }
        }
    }
    return true;
}

/* Reads everything now and compares. */
static inline bool model_holds(struct harness *harness, struct model *model, bool settle) {
    struct imv_error err;
    struct imv_snapshot *snapshot;
    struct model_view *view = malloc(sizeof *view);
    bool holds = false;
    if (view != NULL && imv_snapshot_take(harness->engine, &snapshot, &err) == IMV_OK) {
        if (model_read(snapshot, view, &err) == IMV_OK)
            holds = model_check(model, view, settle);
        else
            fprintf(stderr, "read: %s\n", err.message);
        imv_snapshot_release(snapshot);
    }
    free(view);
    return holds;
}
