#include "engine/flush.h"

#include "engine/chunk_encoder.h"
#include "engine/engine_internal.h"
#include "engine/head.h"
#include "engine/part_writer.h"
#include "engine/retention.h"
#include "engine/rows.h"
#include "storage/base/assert.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    ARENA_BLOCK_BYTES = 1 << 20,
    /* A table costs a sync, about a millisecond, and a slot with one of its own is dropped as a whole. So the few slots
     * of a usual flush, today's and yesterday's, and large ones have their own; when more than so many slots are small,
     * they are scattered parts in one table, and a flush costs at most a sync for each MB and this many more. */
    SMALL_SLOTS_APART_MAX = 8,
    SLOT_BYTES_APART = 1 << 20,
};
static const int64_t retry_delay_min_ns = INT64_C(100) * 1000000, retry_delay_max_ns = INT64_C(5) * 1000000000;

/* A chunk that is not yet in a table; its bytes are in the flush's arena. */
struct encoded_chunk {
    uint8_t class, tier;
    uint32_t slot;
    struct imv_part_chunk chunk;
};

/* One try at one head. */
struct flush {
    struct imv_engine *engine;
    uint32_t shard;
    uint64_t end_sequence;
    struct imv_deletions *deletions; /* that this flush leaves out; referenced */
    int64_t now_ns;
    struct imv_rows rows; /* of the series at hand */
    struct imv_chunk_encoder encoder;
    uint32_t class_label; /* label whose class is in `class`, once class_known */
    bool class_known;
    uint8_t class;
    /* What is encoded and not yet in a table. */
    struct imv_arena arena;
    struct encoded_chunk *chunks;
    size_t chunks_count, chunks_capacity;
    struct imv_part_writer *writer; /* what is in tables */
};

/* ---- rows to chunks ---- */

static imv_status chunk_keep(struct flush *flush, const struct imv_part_chunk *chunk, struct imv_error *err) {
    if (flush->chunks_count == flush->chunks_capacity) {
        size_t capacity = flush->chunks_capacity == 0 ? 1024 : flush->chunks_capacity * 2;
        struct encoded_chunk *chunks = realloc(flush->chunks, capacity * sizeof *chunks);
        if (chunks == NULL) return imv_fail(err, IMV_NO_MEMORY, "flush: no memory for %zu chunks", capacity);
        flush->chunks = chunks;
        flush->chunks_capacity = capacity;
    }
    struct imv_str copy = imv_arena_copy(&flush->arena, chunk->bytes);
    if (copy.data == NULL)
        return imv_fail(err, IMV_NO_MEMORY, "flush: no memory for a chunk of %zu bytes", chunk->bytes.size);
    struct encoded_chunk *kept = &flush->chunks[flush->chunks_count++];
    *kept = (struct encoded_chunk){.class = flush->class, .slot = imv_slot_of(chunk->id.start), .chunk = *chunk};
    kept->chunk.bytes = copy;
    return IMV_OK;
}

static imv_status class_find(struct flush *flush, const struct imv_label *label, struct imv_error *err) {
    if (flush->class_known && flush->class_label == label->id) return IMV_OK;
    int64_t retention_ns = atomic_load_explicit(&label->retention_ns, memory_order_relaxed);
    flush->class_known = false;
    IMV_TRY(imv_meta_class(&flush->engine->meta, label->id, retention_ns, &flush->class, err));
    flush->class_known = true;
    flush->class_label = label->id;
    return IMV_OK;
}

static imv_status tables_write(struct flush *flush, struct imv_error *err);

static imv_status series_encode(struct flush *flush, struct imv_series *series, struct imv_error *err) {
    const struct imv_rows *rows = &flush->rows;
    IMV_TRY(class_find(flush, series->label, err));
    size_t from = imv_rows_find(rows, 0, imv_retention_horizon(series->label, flush->now_ns));
    while (from < rows->count) {
        struct imv_part_chunk chunk;
        IMV_TRY(
            imv_chunk_encoder_run(&flush->encoder, rows, from, series->label->id, imv_series_id(series), &chunk, err));
        IMV_TRY(chunk_keep(flush, &chunk, err));
        from += chunk.rows;
    }
    return flush->arena.bytes > IMV_FLUSH_BYTES_MAX ? tables_write(flush, err) : IMV_OK;
}

static imv_status series_flush(void *context, struct imv_series *series, const struct imv_head_series *head_rows,
                               struct imv_error *err) {
    struct flush *flush = context;
    struct imv_mask mask = imv_deletions_mask(flush->deletions, series);
    IMV_TRY(imv_head_read(head_rows, flush->end_sequence, &mask, INT64_MIN, INT64_MAX, NULL, 0, &flush->rows, err));
    return series_encode(flush, series, err);
}

/* ---- chunks to tables ---- */

/* The order of the keys: within a class and tier by slot in any case, the generation being one. */
static int chunk_compare(const void *left, const void *right) {
    const struct encoded_chunk *a = left, *b = right;
    if (a->tier != b->tier) return a->tier < b->tier ? -1 : 1;
    if (a->class != b->class) return a->class < b->class ? -1 : 1;
    if (a->slot != b->slot) return a->slot < b->slot ? -1 : 1;
    const struct imv_chunk_id *one = &a->chunk.id, *other = &b->chunk.id;
    if (one->label != other->label) return one->label < other->label ? -1 : 1;
    if (one->series != other->series) return one->series < other->series ? -1 : 1;
    return (one->start > other->start) - (one->start < other->start);
}

static void chunks_sort(struct flush *flush) {
    if (flush->chunks_count > 0) qsort(flush->chunks, flush->chunks_count, sizeof *flush->chunks, chunk_compare);
}

/* The chunks from `from` on that are of one class and slot; *bytes is their size. */
static size_t slot_count(const struct flush *flush, size_t from, uint64_t *bytes) {
    const struct encoded_chunk *first = &flush->chunks[from];
    size_t count = 0;
    *bytes = 0;
    while (from + count < flush->chunks_count && first[count].class == first->class &&
           first[count].slot == first->slot) {
        *bytes += first[count++].chunk.bytes.size;
    }
    return count;
}

/* Marks the chunks of small slots as scattered, when there are many such slots; returns whether it did. Chunks are
 * sorted and all fresh. */
static bool chunks_scatter(struct flush *flush) {
    size_t small = 0;
    uint64_t bytes;
    for (size_t from = 0; from < flush->chunks_count; from += slot_count(flush, from, &bytes)) {
        slot_count(flush, from, &bytes);
        small += bytes < SLOT_BYTES_APART;
    }
    if (small <= SMALL_SLOTS_APART_MAX) return false;
    for (size_t from = 0; from < flush->chunks_count;) {
        size_t count = slot_count(flush, from, &bytes);
        for (size_t i = from; i < from + count && bytes < SLOT_BYTES_APART; i++) {
            flush->chunks[i].tier = IMV_TIER_SCATTERED;
        }
        from += count;
    }
    return true;
}

/* Writes the chunks of one class and slot as a part. */
static imv_status part_write(struct flush *flush, const struct encoded_chunk *chunks, size_t count,
                             struct imv_error *err) {
    uint32_t generation = flush->engine->meta.generation;
    struct imv_part part = {.tier = chunks[0].tier,
                            .class = chunks[0].class,
                            .slot = chunks[0].slot,
                            .generation = generation,
                            .order = generation,
                            .made_at_ns = imv_clock_monotonic_ns(flush->engine->clock)};
    IMV_TRY(imv_part_writer_begin(flush->writer, &part, err));
    for (size_t i = 0; i < count; i++) IMV_TRY(imv_part_writer_put(flush->writer, &chunks[i].chunk, err));
    return imv_part_writer_end(flush->writer, err);
}

/* Puts all encoded chunks into parts of a new generation. */
static imv_status tables_write(struct flush *flush, struct imv_error *err) {
    if (flush->engine->meta.generation == UINT32_MAX) return imv_fail(err, IMV_FULL, "flush: no generation is left");
    flush->engine->meta.generation++;
    chunks_sort(flush);
    if (chunks_scatter(flush)) chunks_sort(flush);
    for (size_t from = 0; from < flush->chunks_count;) {
        uint64_t bytes;
        size_t count = slot_count(flush, from, &bytes);
        IMV_TRY(part_write(flush, &flush->chunks[from], count, err));
        from += count;
    }
    flush->chunks_count = 0;
    imv_arena_reset(&flush->arena);
    return IMV_OK;
}

/* ---- one try ---- */

static imv_status flush_init(struct flush *flush, struct imv_engine *engine, uint32_t shard, uint64_t end_sequence,
                             struct imv_error *err) {
    *flush = (struct flush){.engine = engine, .shard = shard, .end_sequence = end_sequence};
    flush->now_ns = imv_clock_wall_ns(engine->clock);
    imv_rows_init(&flush->rows, NULL);
    imv_chunk_encoder_init(&flush->encoder);
    imv_arena_init(&flush->arena, ARENA_BLOCK_BYTES, NULL);
    return imv_part_writer_new(engine->kv, &flush->writer, err);
}

static void flush_release(struct flush *flush) {
    imv_deletions_release(flush->deletions);
    imv_rows_release(&flush->rows);
    imv_chunk_encoder_release(&flush->encoder);
    imv_arena_release(&flush->arena);
    imv_part_writer_free(flush->writer);
    free(flush->chunks);
}

/* Ingests the rows of a head; entry then describes what the store holds. */
static imv_status head_ingest(struct imv_engine *engine, uint32_t shard, struct imv_engine_head *entry,
                              struct imv_error *err) {
    struct flush flush;
    imv_status status = flush_init(&flush, engine, shard, entry->end_sequence, err);
    if (status == IMV_OK) status = imv_deletions_seal(engine, shard, &flush.deletions, err);
    if (status == IMV_OK) status = imv_head_each(entry->head, series_flush, &flush, err);
    if (status == IMV_OK) status = tables_write(&flush, err);
    if (status == IMV_OK) status = imv_part_writer_ingest(flush.writer, err);
    if (status == IMV_OK) {
        entry->ingested = true;
        entry->parts = imv_part_writer_take(flush.writer, &entry->parts_count);
    }
    flush_release(&flush);
    return status;
}

/* Makes the ingested parts, the watermark, the tombstones below it and whatever classes changed durable in one
 * write. */
static imv_status head_record(struct imv_engine *engine, uint32_t shard, const struct imv_engine_head *entry,
                              struct imv_settlement *settlement, struct imv_error *err) {
    struct imv_meta_batch batch;
    imv_meta_batch_init(&batch);
    imv_status status = imv_deletions_settle(engine, shard, entry->end_position, &batch, settlement, err);
    if (status != IMV_OK) {
        imv_meta_batch_release(&batch);
        return status;
    }
    for (size_t i = 0; i < entry->parts_count; i++) imv_meta_put_part(&batch, entry->parts[i]);
    for (int i = 0; i < IMV_CLASSES_MAX; i++) {
        if (engine->meta.classes[i].changed) imv_meta_put_class(&batch, (uint8_t)i, &engine->meta.classes[i]);
    }
    imv_meta_put_watermark(&batch, shard, entry->end_position);
    imv_meta_put_generation(&batch, engine->meta.generation);
    status = imv_meta_write(&batch, engine->kv, err);
    imv_meta_batch_release(&batch);
    if (status != IMV_OK) imv_settlement_release(settlement);
    for (int i = 0; status == IMV_OK && i < IMV_CLASSES_MAX; i++) engine->meta.classes[i].changed = false;
    return status;
}

/* Lets readers see the parts in the place of the head. */
static void head_retire(struct imv_engine *engine, uint32_t shard, struct imv_parts *parts) {
    struct imv_engine_shard *state = &engine->shards[shard];
    imv_engine_lock(engine, IMV_RANK_STATE);
    struct imv_engine_head entry = state->heads[0];
    struct imv_parts *before = engine->meta.parts;
    engine->meta.parts = parts;
    state->heads_count--;
    state->frozen_count--;
    memmove(state->heads, state->heads + 1, state->heads_count * sizeof state->heads[0]);
    state->flushed_total++;
    state->flush_failure.status = IMV_OK;
    imv_assert(entry.end_position >= atomic_load_explicit(&state->watermark, memory_order_relaxed));
    atomic_store_explicit(&state->watermark, entry.end_position, memory_order_release);
    pthread_cond_broadcast(&engine->changed);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    imv_parts_release(before, engine->kv);
    imv_head_release(entry.head);
    free(entry.parts);
    /* The memory may be what other shards wait for, too. */
    for (uint32_t i = 0; i < engine->shards_count; i++) imv_exchange_wake(&engine->exchange, i);
}

static imv_status head_flush(struct imv_engine *engine, uint32_t shard, struct imv_engine_head *entry,
                             struct imv_error *err) {
    if (!entry->ingested) IMV_TRY(head_ingest(engine, shard, entry, err));
    /* Before the watermark lets go of the journal's definitions. */
    IMV_TRY(imv_engine_persist(engine, err));
    struct imv_parts *parts = NULL;
    IMV_TRY(imv_parts_new(engine->meta.parts, entry->parts, entry->parts_count, &parts, err));
    struct imv_settlement settlement;
    imv_status status = head_record(engine, shard, entry, &settlement, err);
    if (status != IMV_OK) {
        imv_parts_abandon(parts);
        return status;
    }
    uint64_t bytes = 0, rows = 0;
    for (size_t i = 0; i < entry->parts_count; i++) {
        bytes += entry->parts[i]->bytes;
        rows += entry->parts[i]->rows;
    }
    imv_metric_add(IMV_METRIC_flush_total, 1);
    imv_metric_add(IMV_METRIC_flush_bytes_total, (int64_t)bytes);
    imv_log(IMV_LOG_DEBUG, "flush", "shard=%u position=%" PRIu64 " parts=%zu rows=%" PRIu64 " bytes=%" PRIu64, shard,
            entry->end_position, entry->parts_count, rows, bytes);
    head_retire(engine, shard, parts);
    imv_deletions_settled(engine, shard, &settlement);
    return IMV_OK;
}

/* ---- scheduling ---- */

static struct imv_engine_head *frozen_first(struct imv_engine *engine, uint32_t shard) {
    struct imv_engine_shard *state = &engine->shards[shard];
    imv_engine_lock(engine, IMV_RANK_STATE);
    bool any = state->frozen_count > 0;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return any ? &state->heads[0] : NULL; /* stays the first until a flush removes it, which only we do */
}

static void note_failure(struct imv_engine *engine, uint32_t shard, const struct imv_error *err) {
    struct imv_engine_shard *state = &engine->shards[shard];
    int64_t delay_ns = state->retry_delay_ns == 0 ? retry_delay_min_ns : state->retry_delay_ns * 2;
    state->retry_delay_ns = delay_ns < retry_delay_max_ns ? delay_ns : retry_delay_max_ns;
    state->retry_at_ns = imv_clock_monotonic_ns(engine->clock) + state->retry_delay_ns;
    imv_engine_lock(engine, IMV_RANK_STATE);
    state->flush_failure = *err;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    imv_metric_add(IMV_METRIC_flush_failures_total, 1);
    imv_log(IMV_LOG_ERROR, "flush", "shard=%u retry_ms=%" PRId64 " %s", shard, state->retry_delay_ns / 1000000,
            err->message);
}

imv_status imv_flush_head(struct imv_engine *engine, uint32_t shard, struct imv_error *err) {
    struct imv_error local;
    if (err == NULL) err = &local;
    imv_engine_lock(engine, IMV_RANK_FLUSH);
    struct imv_engine_head *entry = frozen_first(engine, shard);
    imv_status status = IMV_NOT_FOUND;
    if (entry != NULL) {
        status = head_flush(engine, shard, entry, err);
        if (status == IMV_OK) {
            engine->shards[shard].retry_at_ns = engine->shards[shard].retry_delay_ns = 0;
        } else {
            note_failure(engine, shard, err);
        }
    } else {
        imv_fail(err, IMV_NOT_FOUND, "flush: shard %u has no frozen head", shard);
    }
    imv_engine_unlock(engine, IMV_RANK_FLUSH);
    return status;
}

imv_status imv_flush_next(struct imv_engine *engine, bool *did_work, struct imv_error *err) {
    *did_work = false;
    int64_t now_ns = imv_clock_monotonic_ns(engine->clock);
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        imv_engine_lock(engine, IMV_RANK_FLUSH);
        uint32_t shard = engine->flush_next;
        engine->flush_next = (shard + 1) % engine->shards_count;
        bool due = now_ns >= engine->shards[shard].retry_at_ns && frozen_first(engine, shard) != NULL;
        imv_engine_unlock(engine, IMV_RANK_FLUSH);
        if (!due) continue;
        imv_status status = imv_flush_head(engine, shard, err);
        *did_work = status != IMV_NOT_FOUND;
        if (*did_work) return status;
    }
    return IMV_OK;
}
