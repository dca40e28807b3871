#include "engine/consolidate.h"

#include "engine/chunk_encoder.h"
#include "engine/consolidate_choice.h"
#include "engine/cursor.h"
#include "engine/delete.h"
#include "engine/engine_internal.h"
#include "engine/part_writer.h"
#include "engine/row_collector.h"
#include "storage/base/assert.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    SLICE_CELLS = 1 << 20,
    SERIES_CELLS = 512, /* what finding a series costs, in cells: some seeks, some microseconds */
    /* Inputs times columns: each pair has a vector of 8 KiB while sources are merged, 128 MiB in all. */
    INPUT_COLUMNS_MAX = 16 << 10,
    SPACE_BYTES_LEFT = 256 << 20, /* a flush must find room while a job has written all its output */
};
/* Of a part with several labels, what one of them is guessed to have. */
#define OTHER_LABELS_SHARE 0.25
/* Hundreds of thousands of tombstones over years of parts take half a second. */
static const int64_t weigh_period_ns = INT64_C(300) * 1000000000;
static const int64_t retry_delay_min_ns = INT64_C(1000000000), retry_delay_max_ns = INT64_C(300) * 1000000000;

/* Where the walk over the series of one input is. */
struct walker {
    struct imv_kv_iterator *iterator; /* on the first chunk of the series */
    uint8_t prefix[IMV_PART_KEY_BYTES];
    bool ended;
    uint32_t label;
    uint64_t series;
};

struct imv_consolidation {
    struct imv_engine *engine;
    struct imv_part *inputs[IMV_RUN_PARTS_MAX]; /* the snapshot's, oldest first */
    size_t inputs_count;
    struct imv_part like; /* of the output: tier, class, slot, generation, order */
    struct imv_snapshot *snapshot;
    struct walker walkers[IMV_RUN_PARTS_MAX];
    /* The label at hand, and its series. */
    struct imv_label *label;
    struct imv_cursor *cursor;
    uint32_t *columns; /* malloc'ed */
    imv_type *types;   /* malloc'ed */
    uint64_t series;
    bool in_series; /* the cursor stands on it */
    struct imv_row_collector collector;
    struct imv_chunk_encoder encoder;
    bool part_begun;
    struct imv_part_writer *writer; /* NULL: all is ingested */
    /* Once ingested: */
    struct imv_part **outputs; /* one, or none when no row is left */
    size_t outputs_count;
    bool tried; /* to record: the store may hold the record */
};

/* ---- the walk over series ---- */

/* Reads off at which series the walker stands. */
static imv_status walker_look(struct walker *walker, struct imv_error *err) {
    struct imv_str key, value;
    struct imv_part prefix;
    struct imv_chunk_id id;
    walker->ended = true;
    if (!imv_kv_valid(walker->iterator, &key, &value)) return imv_kv_status(walker->iterator, err);
    if (key.size < IMV_PART_KEY_BYTES || memcmp(key.data, walker->prefix, IMV_PART_KEY_BYTES) != 0) return IMV_OK;
    if (!imv_chunk_key_parse(key, &prefix, &id)) {
        return imv_fail(err, IMV_CORRUPT, "consolidate: a key of %zu bytes among the chunks is none of a chunk",
                        key.size);
    }
    walker->ended = false;
    walker->label = id.label;
    walker->series = id.series;
    return IMV_OK;
}

static imv_status walker_begin(struct imv_consolidation *job, size_t input, struct imv_error *err) {
    struct walker *walker = &job->walkers[input];
    imv_part_prefix_put(walker->prefix, job->inputs[input]);
    IMV_TRY(imv_kv_iterate(job->engine->kv, IMV_KV_CHUNKS, &walker->iterator, err));
    imv_kv_seek(walker->iterator, (struct imv_str){(char *)walker->prefix, sizeof walker->prefix});
    return walker_look(walker, err);
}

static imv_status walker_pass(struct walker *walker, uint32_t label, uint64_t series, struct imv_error *err) {
    while (!walker->ended && walker->label == label && walker->series == series) {
        imv_kv_next(walker->iterator);
        IMV_TRY(walker_look(walker, err));
    }
    return IMV_OK;
}

/* The first series that any input has; *any false: there is none left. All walkers go past it. */
static imv_status series_next(struct imv_consolidation *job, uint32_t *label, uint64_t *series, bool *any,
                              struct imv_error *err) {
    *any = false;
    for (size_t i = 0; i < job->inputs_count; i++) {
        const struct walker *walker = &job->walkers[i];
        if (walker->ended) continue;
        if (*any && (walker->label > *label || (walker->label == *label && walker->series >= *series))) continue;
        *any = true;
        *label = walker->label;
        *series = walker->series;
    }
    for (size_t i = 0; *any && i < job->inputs_count; i++) {
        IMV_TRY(walker_pass(&job->walkers[i], *label, *series, err));
    }
    return IMV_OK;
}

/* ---- rows to chunks ---- */

/* Writes the collected rows. */
static imv_status collected_write(struct imv_consolidation *job, struct imv_error *err) {
    const struct imv_rows *rows = &job->collector.rows;
    for (size_t from = 0; from < rows->count;) {
        struct imv_part_chunk chunk;
        IMV_TRY(imv_chunk_encoder_run(&job->encoder, rows, from, job->label->id, job->series, &chunk, err));
        if (!job->part_begun) IMV_TRY(imv_part_writer_begin(job->writer, &job->like, err));
        job->part_begun = true;
        IMV_TRY(imv_part_writer_put(job->writer, &chunk, err));
        from += chunk.rows;
    }
    imv_row_collector_empty(&job->collector);
    return IMV_OK;
}

static imv_status batch_collect(struct imv_consolidation *job, const struct imv_rows *batch, struct imv_error *err) {
    for (size_t from = 0, taken; from < batch->count; from += taken) {
        IMV_TRY(imv_row_collector_add(&job->collector, batch, from, &taken, err));
        if (imv_row_collector_full(&job->collector)) IMV_TRY(collected_write(job, err));
    }
    return IMV_OK;
}

static void label_leave(struct imv_consolidation *job) {
    imv_cursor_free(job->cursor);
    free(job->columns);
    free(job->types);
    job->cursor = NULL;
    job->columns = NULL;
    job->types = NULL;
    job->label = NULL;
}

/* Makes a cursor over all fields that the label has; a chunk has none that it has not. */
static imv_status label_enter(struct imv_consolidation *job, struct imv_label *label, struct imv_error *err) {
    label_leave(job);
    size_t count = atomic_load_explicit(&label->fields_count, memory_order_acquire);
    job->label = label;
    job->columns = calloc(count + 1, sizeof *job->columns);
    job->types = calloc(count + 1, sizeof *job->types);
    if (job->columns == NULL || job->types == NULL) {
        return imv_fail(err, IMV_NO_MEMORY, "consolidate: no memory for %zu columns", count);
    }
    for (size_t i = 0; i < count; i++) {
        job->columns[i] = (uint32_t)i;
        job->types[i] = imv_label_field_by_id(label, (uint32_t)i)->type;
    }
    IMV_TRY(imv_row_collector_begin(&job->collector, job->columns, job->types, count, err));
    return imv_cursor_new(job->snapshot, label, job->columns, count, NULL, &job->cursor, err);
}

/* Goes to the next series that the catalog knows; *any false: there is none. */
static imv_status series_enter(struct imv_consolidation *job, bool *any, struct imv_error *err) {
    uint32_t label;
    struct imv_series *series = NULL;
    *any = true;
    while (series == NULL) {
        IMV_TRY(series_next(job, &label, &job->series, any, err));
        if (!*any) return IMV_OK;
        series = imv_catalog_series_by_id(job->engine->catalog, job->series);
    }
    if (series->label->id != label) {
        return imv_fail(err, IMV_CORRUPT, "consolidate: series %" PRIu64 " has chunks of label %" PRIu32, job->series,
                        label);
    }
    if (series->label != job->label) IMV_TRY(label_enter(job, series->label, err));
    IMV_TRY(imv_cursor_seek(job->cursor, series, INT64_MIN, INT64_MAX, err));
    job->in_series = true;
    return IMV_OK;
}

/* Does up to a slice of cells; *ended: all series are done. */
static imv_status slice_read(struct imv_consolidation *job, bool *ended, struct imv_error *err) {
    *ended = false;
    for (size_t cells = 0; cells < SLICE_CELLS;) {
        if (!job->in_series) {
            bool any;
            IMV_TRY(series_enter(job, &any, err));
            *ended = !any;
            if (*ended) return IMV_OK;
            cells += SERIES_CELLS;
        }
        const struct imv_rows *batch;
        IMV_TRY(imv_cursor_next(job->cursor, &batch, err));
        job->in_series = batch->count > 0;
        IMV_TRY(job->in_series ? batch_collect(job, batch, err) : collected_write(job, err));
        cells += batch->count * (batch->columns_count + 1);
    }
    return IMV_OK;
}

/* ---- the record ---- */

/* Frees the iterators: the store cannot be opened again after a failed write as long as there are any (kv.h). */
static void reading_end(struct imv_consolidation *job) {
    label_leave(job);
    for (size_t i = 0; i < job->inputs_count; i++) {
        imv_kv_iterator_free(job->walkers[i].iterator);
        job->walkers[i].iterator = NULL;
    }
}

/* Puts all that was written into the store. */
static imv_status outputs_ingest(struct imv_consolidation *job, struct imv_error *err) {
    reading_end(job);
    if (job->part_begun) IMV_TRY(imv_part_writer_end(job->writer, err));
    IMV_TRY(imv_part_writer_ingest(job->writer, err));
    job->outputs = imv_part_writer_take(job->writer, &job->outputs_count);
    imv_part_writer_free(job->writer);
    job->writer = NULL;
    return IMV_OK;
}

/* True when retention took an input out of the list. FLUSH lock. */
static bool inputs_changed(const struct imv_consolidation *job) {
    for (size_t i = 0; i < job->inputs_count; i++) {
        if (atomic_load(&job->inputs[i]->retired)) return true;
    }
    return false;
}

static imv_status record_write(struct imv_consolidation *job, struct imv_error *err) {
    struct imv_meta_batch batch;
    imv_meta_batch_init(&batch);
    for (size_t i = 0; i < job->outputs_count; i++) imv_meta_put_part(&batch, job->outputs[i]);
    for (size_t i = 0; i < job->inputs_count; i++) imv_meta_delete_part(&batch, job->inputs[i]);
    imv_meta_put_generation(&batch, job->engine->meta.generation);
    imv_status status = imv_meta_write(&batch, job->engine->kv, err);
    if (status != IMV_NO_MEMORY) job->tried = true;
    imv_meta_batch_release(&batch);
    return status;
}

/* Lets readers see the outputs in the place of the inputs. FLUSH lock. */
static imv_status record(struct imv_consolidation *job, struct imv_error *err) {
    struct imv_engine *engine = job->engine;
    bool marked[IMV_RUN_PARTS_MAX];
    struct imv_parts *parts = NULL;
    for (size_t i = 0; i < job->inputs_count; i++) marked[i] = !atomic_exchange(&job->inputs[i]->retired, true);
    imv_status status = imv_parts_new(engine->meta.parts, job->outputs, job->outputs_count, &parts, err);
    if (status == IMV_OK) status = record_write(job, err);
    if (status != IMV_OK) {
        /* What retention had retired stays so. */
        for (size_t i = 0; i < job->inputs_count; i++) {
            if (marked[i]) atomic_store(&job->inputs[i]->retired, false);
        }
        if (parts != NULL) imv_parts_abandon(parts);
        return status;
    }
    job->outputs_count = 0; /* the list's now */
    imv_engine_lock(engine, IMV_RANK_STATE);
    struct imv_parts *before = engine->meta.parts;
    engine->meta.parts = parts;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    imv_parts_release(before, engine->kv);
    return IMV_OK;
}

/* Makes sure that the store does not hold a record that was tried, when it must not come to be any more: the records of
 * the inputs that are left are as before. FLUSH lock. */
static imv_status record_undo(struct imv_consolidation *job, struct imv_error *err) {
    struct imv_meta_batch batch;
    imv_meta_batch_init(&batch);
    for (size_t i = 0; i < job->outputs_count; i++) imv_meta_delete_part(&batch, job->outputs[i]);
    for (size_t i = 0; i < job->inputs_count; i++) {
        if (!atomic_load(&job->inputs[i]->retired)) imv_meta_put_part(&batch, job->inputs[i]);
    }
    imv_status status = imv_meta_write(&batch, job->engine->kv, err);
    imv_meta_batch_release(&batch);
    return status;
}

/* Takes files back out of the store that were ingested for nothing and that no record can name. */
static void outputs_drop(struct imv_consolidation *job) {
    struct imv_parts *parts;
    for (size_t i = 0; i < job->outputs_count; i++) atomic_store(&job->outputs[i]->retired, true);
    if (imv_parts_new(NULL, job->outputs, job->outputs_count, &parts, NULL) != IMV_OK) return;
    job->outputs_count = 0;
    imv_parts_release(parts, job->engine->kv);
}

static void report(const struct imv_consolidation *job, uint64_t rows, uint64_t bytes) {
    uint64_t rows_before = 0, bytes_before = 0;
    for (size_t i = 0; i < job->inputs_count; i++) {
        rows_before += job->inputs[i]->rows;
        bytes_before += job->inputs[i]->bytes;
    }
    imv_metric_add(IMV_METRIC_consolidation_total, 1);
    imv_metric_add(IMV_METRIC_consolidation_bytes_total, (int64_t)bytes);
    imv_metric_add(IMV_METRIC_consolidation_replaced_bytes_total, (int64_t)bytes_before);
    imv_log(IMV_LOG_DEBUG, "consolidate",
            "slot=%u class=%u parts=%zu rows=%" PRIu64 "->%" PRIu64 " bytes=%" PRIu64 "->%" PRIu64, job->like.slot,
            job->like.class, job->inputs_count, rows_before, rows, bytes_before, bytes);
}

/* *ended: the job is over, with or without success. */
static imv_status outputs_record(struct imv_consolidation *job, bool *ended, struct imv_error *err) {
    struct imv_engine *engine = job->engine;
    uint64_t rows = 0, bytes = 0;
    for (size_t i = 0; i < job->outputs_count; i++) {
        rows += job->outputs[i]->rows;
        bytes += job->outputs[i]->bytes;
    }
    imv_status status = IMV_OK;
    imv_engine_lock(engine, IMV_RANK_FLUSH);
    if (inputs_changed(job)) {
        if (job->tried) status = record_undo(job, err);
        if (status == IMV_OK) outputs_drop(job);
    } else {
        status = record(job, err);
        if (status == IMV_OK) report(job, rows, bytes);
    }
    imv_engine_unlock(engine, IMV_RANK_FLUSH);
    *ended = status == IMV_OK;
    return status;
}

/* ---- life of a job ---- */

void imv_consolidation_free(struct imv_consolidation *job) {
    if (job == NULL) return;
    reading_end(job);
    imv_row_collector_release(&job->collector);
    imv_chunk_encoder_release(&job->encoder);
    imv_part_writer_free(job->writer);
    for (size_t i = 0; i < job->outputs_count; i++) imv_part_free(job->outputs[i]);
    free(job->outputs);
    imv_snapshot_release(job->snapshot);
    free(job);
}

/* How many inputs of this run may be merged at once, by the widest label that they have. */
static size_t inputs_max(struct imv_engine *engine, struct imv_part *const *run, size_t count) {
    const struct imv_class *class = &engine->meta.classes[run[0]->class];
    size_t columns = 1;
    for (uint32_t i = 0; i < class->labels_count; i++) {
        const struct imv_label *label = imv_catalog_label_by_id(engine->catalog, class->labels[i]);
        size_t fields = label == NULL ? 0 : atomic_load_explicit(&label->fields_count, memory_order_acquire);
        bool held = false;
        for (size_t k = 0; k < count && !held; k++) {
            held = run[k]->label_min <= class->labels[i] && class->labels[i] <= run[k]->label_max;
        }
        if (held && fields > columns) columns = fields;
    }
    size_t most = INPUT_COLUMNS_MAX / columns;
    return most < 2 ? 2 : most;
}

/* So long after now, or when slots get cold, if that is sooner. */
static int64_t soon_ns(const struct imv_engine *engine, int64_t period_ns) {
    int64_t cold_ns = engine->options.cold_ns;
    return imv_clock_monotonic_ns(engine->clock) + (cold_ns < period_ns ? cold_ns : period_ns);
}

/* ---- what deletions have left behind ---- */

/* Adds what a tombstone hides of a part, as a share of its rows: the time that both have in common, of one series among
 * as many as there are chunks. */
static void part_weigh(struct imv_part *part, const struct imv_tombstone *tombstone) {
    int64_t from = tombstone->from > part->time_min ? tombstone->from : part->time_min;
    int64_t last = tombstone->last < part->time_max ? tombstone->last : part->time_max;
    double common = (double)last - (double)from + 1, length = (double)part->time_max - (double)part->time_min + 1;
    double series = 1 / (double)part->chunks;
    if (tombstone->series == (uint32_t)IMV_TOMBSTONE_ALL) {
        series = part->label_min == part->label_max ? 1 : OTHER_LABELS_SHARE;
    }
    double hidden = part->hidden_permille + 1000 * series * common / length;
    /* At least 1: there is something. */
    part->hidden_permille = hidden >= 1000 ? 1000 : hidden < 1 ? 1 : (uint32_t)hidden;
}

static void tombstones_weigh(struct imv_engine *engine, uint32_t shard, const struct imv_deletions *deletions) {
    const struct imv_parts *parts = engine->meta.parts;
    bool crowded = deletions->count > IMV_TOMBSTONES_MAX / 2;
    for (size_t i = 0; i < deletions->count; i++) {
        const struct imv_tombstone *tombstone = &deletions->items[i];
        if (tombstone->generation == IMV_GENERATION_PENDING) continue;
        uint32_t slot_last = imv_slot_of(tombstone->last);
        for (size_t k = imv_parts_find(parts, imv_slot_of(tombstone->from)); k < parts->count; k++) {
            struct imv_part *part = parts->items[k];
            if (part->slot > slot_last) break;
            if (!imv_tombstone_concerns(tombstone, shard, part)) continue;
            if (crowded)
                part->hidden_permille = 1000;
            else
                part_weigh(part, tombstone);
        }
    }
}

/* Estimates of all parts how much of them is deleted. FLUSH lock. */
static void parts_weigh(struct imv_engine *engine) {
    const struct imv_parts *parts = engine->meta.parts;
    for (size_t i = 0; i < parts->count; i++) parts->items[i]->hidden_permille = 0;
    for (uint32_t shard = 0; shard < engine->shards_count; shard++) {
        imv_engine_lock(engine, IMV_RANK_STATE);
        struct imv_deletions *deletions = engine->shards[shard].deletions;
        imv_deletions_retain(deletions);
        imv_engine_unlock(engine, IMV_RANK_STATE);
        if (deletions != NULL) tombstones_weigh(engine, shard, deletions);
        imv_deletions_release(deletions);
    }
}

/* ---- choosing ---- */

static size_t run_choose(struct imv_engine *engine, struct imv_part **run, struct imv_error *err) {
    const struct imv_parts *parts = engine->meta.parts;
    bool brief[IMV_CLASSES_MAX];
    for (int i = 0; i < IMV_CLASSES_MAX; i++) {
        int64_t retention_ns = engine->meta.classes[i].retention_ns;
        brief[i] = retention_ns > 0 && retention_ns < IMV_BRIEF_NS;
    }
    struct imv_run_policy policy = {.wall_ns = imv_clock_wall_ns(engine->clock),
                                    .monotonic_ns = imv_clock_monotonic_ns(engine->clock),
                                    .cold_ns = engine->options.cold_ns,
                                    .brief = brief,
                                    .shards = engine->shards_count,
                                    .parts_max = IMV_RUN_PARTS_MAX};
    struct imv_part **scratch = calloc(parts->count + 1, sizeof *scratch);
    if (scratch == NULL) {
        imv_fail(err, IMV_NO_MEMORY, "consolidate: no memory to look at %zu parts", parts->count);
        return 0;
    }
    size_t count = imv_run_choose(parts, &policy, scratch, run);
    free(scratch);
    if (count == 0) return 0;
    size_t most = inputs_max(engine, run, count);
    return count < most ? count : most;
}

static imv_status space_check(struct imv_engine *engine, struct imv_part *const *run, size_t count,
                              struct imv_error *err) {
    uint64_t needed = 0, left;
    for (size_t i = 0; i < count; i++) needed += run[i]->bytes;
    IMV_TRY(imv_kv_space(engine->kv, &left, err));
    if (needed + SPACE_BYTES_LEFT <= left) return IMV_OK;
    return imv_fail(err, IMV_FULL, "consolidate: %" PRIu64 " bytes are to be written, %" PRIu64 " are free", needed,
                    left);
}

static imv_status job_new(struct imv_engine *engine, struct imv_part *const *run, size_t count,
                          struct imv_consolidation **made, struct imv_error *err) {
    struct imv_consolidation *job = *made = calloc(1, sizeof *job);
    if (job == NULL) return imv_fail(err, IMV_NO_MEMORY, "consolidate: no memory for a job");
    job->engine = engine;
    imv_row_collector_init(&job->collector);
    imv_chunk_encoder_init(&job->encoder);
    struct imv_parts *parts;
    IMV_TRY(imv_parts_new(NULL, run, count, &parts, err));
    imv_status status = imv_snapshot_of_parts(engine, parts, &job->snapshot, err);
    if (status != IMV_OK) {
        imv_parts_abandon(parts);
        return status;
    }
    memcpy(job->inputs, run, count * sizeof *run);
    job->inputs_count = count;
    job->like = (struct imv_part){.tier = IMV_TIER_CONSOLIDATED,
                                  .class = run[0]->class,
                                  .slot = run[0]->slot,
                                  .generation = ++engine->meta.generation,
                                  .order = run[count - 1]->order,
                                  .made_at_ns = INT64_MIN};
    return imv_part_writer_new(engine->kv, &job->writer, err);
}

/* Chooses a run and begins its job, when there is one. The walkers begin at the first slice. */
static imv_status job_choose(struct imv_engine *engine, struct imv_error *err) {
    struct imv_part *run[IMV_RUN_PARTS_MAX];
    err->status = IMV_OK;
    imv_engine_lock(engine, IMV_RANK_FLUSH);
    if (imv_clock_monotonic_ns(engine->clock) >= engine->weigh_at_ns) {
        engine->weigh_at_ns = soon_ns(engine, weigh_period_ns);
        parts_weigh(engine);
    }
    size_t count = run_choose(engine, run, err);
    imv_status status = count > 0 ? space_check(engine, run, count, err) : err->status;
    if (status == IMV_OK && count > 0 && engine->meta.generation == UINT32_MAX) {
        status = imv_fail(err, IMV_FULL, "consolidate: no generation is left");
    }
    if (status == IMV_OK && count > 0) status = job_new(engine, run, count, &engine->consolidation, err);
    imv_engine_unlock(engine, IMV_RANK_FLUSH);
    for (size_t i = 0; status == IMV_OK && i < count; i++) status = walker_begin(engine->consolidation, i, err);
    return status;
}

static imv_status job_advance(struct imv_consolidation *job, bool *ended, struct imv_error *err) {
    *ended = false;
    if (job->writer == NULL) return outputs_record(job, ended, err);
    bool read;
    IMV_TRY(slice_read(job, &read, err));
    return read ? outputs_ingest(job, err) : IMV_OK;
}

/* ---- scheduling ---- */

/* Lets the parts of a job be that found one of them damaged. */
static void inputs_leave(struct imv_consolidation *job) {
    imv_engine_lock(job->engine, IMV_RANK_FLUSH);
    for (size_t i = 0; i < job->inputs_count; i++) job->inputs[i]->unfit = true;
    imv_engine_unlock(job->engine, IMV_RANK_FLUSH);
}

static void job_end(struct imv_engine *engine) {
    imv_consolidation_free(engine->consolidation);
    engine->consolidation = NULL;
}

static void delay(struct imv_engine *engine) {
    int64_t delay_ns = engine->consolidate_delay_ns == 0 ? retry_delay_min_ns : engine->consolidate_delay_ns * 2;
    engine->consolidate_delay_ns = delay_ns < retry_delay_max_ns ? delay_ns : retry_delay_max_ns;
    engine->consolidate_at_ns = imv_clock_monotonic_ns(engine->clock) + engine->consolidate_delay_ns;
}

static void job_failed(struct imv_engine *engine, const struct imv_error *err) {
    struct imv_consolidation *job = engine->consolidation;
    delay(engine);
    imv_metric_add(IMV_METRIC_consolidation_failures_total, 1);
    imv_log(IMV_LOG_ERROR, "consolidate", "retry_ms=%" PRId64 " %s", engine->consolidate_delay_ns / 1000000,
            err->message);
    if (job == NULL) return;
    if (err->status == IMV_CORRUPT) inputs_leave(job);
    /* A record that may have been written names the outputs: that job goes on until it is, or is taken back. */
    if (job->tried) return;
    if (job->outputs_count > 0) outputs_drop(job);
    job_end(engine);
}

imv_status imv_consolidate_step(struct imv_engine *engine, bool *did_work, struct imv_error *err) {
    struct imv_error local;
    if (err == NULL) err = &local;
    *did_work = false;
    if (imv_clock_monotonic_ns(engine->clock) < engine->consolidate_at_ns) return IMV_OK;
    imv_status status;
    bool ended = false;
    if (engine->consolidation == NULL) {
        /* A job holds a snapshot, which would keep writers in the pause. */
        if (engine->ended.phase == IMV_ENDED_PAUSING) return IMV_OK;
        status = job_choose(engine, err);
        *did_work = status != IMV_OK || engine->consolidation != NULL;
        if (!*did_work) engine->consolidate_at_ns = soon_ns(engine, IMV_CONSOLIDATE_PERIOD_NS);
    } else {
        *did_work = true;
        status = job_advance(engine->consolidation, &ended, err);
    }
    if (status != IMV_OK) job_failed(engine, err);
    if (ended) {
        engine->consolidate_delay_ns = 0;
        job_end(engine);
    }
    return status;
}

void imv_consolidate_give_way(struct imv_engine *engine) {
    if (engine->consolidation == NULL || engine->consolidation->writer == NULL) return; /* it holds no iterators */
    delay(engine);
    job_end(engine);
}
