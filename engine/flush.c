#include "engine/flush.h"

#include "engine/engine_internal.h"
#include "engine/head.h"
#include "engine/retention.h"
#include "engine/rows.h"
#include "storage/base/assert.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    CHUNK_BYTES_MAX =
        16 << 20, /* a larger chunk is cut into fewer rows; one row is below the journal's payload limit */
    ARENA_BLOCK_BYTES = 1 << 20,
    /* A table costs a sync (about a millisecond) and 100 KB of memory until it is ingested. Up to so many slots each has
     * its own, which retention can drop whole and which overlaps no other; rows scattered over thousands of days would
     * take minutes so, and their small slots share tables instead. */
    SLOTS_APART_MAX = 64,
    SLOT_BYTES_APART = 1 << 20,
    TABLE_BYTES_SHARED = 8 << 20,
};
static const int64_t retry_delay_min_ns = INT64_C(100) * 1000000, retry_delay_max_ns = INT64_C(5) * 1000000000;

struct encoded_chunk {
    uint8_t class;
    uint32_t slot, label, rows;
    uint64_t series;
    int64_t start, last;
    const char *bytes; /* in the flush's arena */
    size_t size;
};

/* One try at one head. */
struct flush {
    struct imv_engine *engine;
    uint32_t shard;
    uint64_t end_sequence;
    int64_t now_ns;
    /* The series at hand. */
    struct imv_rows rows;
    struct imv_arena scratch;  /* columns of one cut */
    struct imv_buffer encoded; /* one chunk */
    uint32_t class_label;      /* label whose class is in `class`, once class_known */
    bool class_known;
    uint8_t class;
    /* What is encoded and not yet in a table. */
    struct imv_arena arena;
    struct encoded_chunk *chunks;
    size_t chunks_count, chunks_capacity;
    /* What is in tables. */
    struct imv_part **parts;
    size_t parts_count, parts_capacity;
    struct imv_kv_table **tables; /* finished, but for the last while table_open */
    size_t tables_count, tables_capacity;
    bool table_open;
    uint8_t table_class;  /* of the open table */
    uint64_t table_bytes; /* in it */
};

/* ---- rows to chunks ---- */

static imv_status chunk_keep(struct flush *flush, const struct encoded_chunk *chunk, struct imv_error *err) {
    if (flush->chunks_count == flush->chunks_capacity) {
        size_t capacity = flush->chunks_capacity == 0 ? 1024 : flush->chunks_capacity * 2;
        struct encoded_chunk *chunks = realloc(flush->chunks, capacity * sizeof *chunks);
        if (chunks == NULL) return imv_fail(err, IMV_NO_MEMORY, "flush: no memory for %zu chunks", capacity);
        flush->chunks = chunks;
        flush->chunks_capacity = capacity;
    }
    struct imv_str copy = imv_arena_copy(&flush->arena, imv_buffer_view(&flush->encoded));
    if (copy.data == NULL)
        return imv_fail(err, IMV_NO_MEMORY, "flush: no memory for a chunk of %zu bytes", chunk->size);
    flush->chunks[flush->chunks_count] = *chunk;
    flush->chunks[flush->chunks_count++].bytes = copy.data;
    return IMV_OK;
}

/* Copies count bits from bit `from` on; returns how many are set. */
static size_t bits_cut(uint64_t *to, const uint64_t *bits, size_t from, size_t count) {
    size_t set = 0, shift = from % 64, words = (count + 63) / 64, last = (from + count - 1) / 64;
    for (size_t i = 0; i < words; i++) {
        size_t at = from / 64 + i;
        uint64_t word = bits[at] >> shift;
        if (shift > 0 && at < last) word |= bits[at + 1] << (64 - shift);
        if (i == words - 1 && count % 64 != 0) word &= (UINT64_C(1) << count % 64) - 1;
        to[i] = word;
        set += (size_t)__builtin_popcountll(word);
    }
    return set;
}

/* The columns of rows [from, from + count) that have a value there. NULL: no memory. */
static struct imv_chunk_column *columns_cut(struct flush *flush, size_t from, size_t count, size_t *columns_count) {
    const struct imv_rows *rows = &flush->rows;
    imv_arena_reset(&flush->scratch);
    struct imv_chunk_column *columns = imv_arena_calloc(&flush->scratch, rows->columns_count, sizeof *columns);
    if (columns == NULL) return NULL;
    *columns_count = 0;
    for (size_t i = 0; i < rows->columns_count; i++) {
        const struct imv_vector *whole = &rows->columns[i];
        struct imv_vector cut = {.type = whole->type, .cells = whole->cells + from};
        if (whole->valid != NULL) {
            cut.valid = imv_arena_alloc(&flush->scratch, (count + 63) / 64 * sizeof(uint64_t));
            if (cut.valid == NULL) return NULL;
            size_t set = bits_cut(cut.valid, whole->valid, from, count);
            if (set == 0) continue;
            if (set == count) cut.valid = NULL;
        }
        columns[(*columns_count)++] = (struct imv_chunk_column){rows->column_ids[i], cut};
    }
    return columns;
}

/* Encodes rows [from, from + *count); with fewer rows when the chunk would be too large. */
static imv_status chunk_encode(struct flush *flush, const struct imv_chunk_id *id, size_t from, size_t *count,
                               struct imv_error *err) {
    for (;;) {
        size_t columns_count;
        const struct imv_chunk_column *columns = columns_cut(flush, from, *count, &columns_count);
        if (columns == NULL) return imv_fail(err, IMV_NO_MEMORY, "flush: no memory for %zu rows", *count);
        imv_buffer_reset(&flush->encoded);
        imv_status status =
            imv_chunk_encode(id, flush->rows.timestamps + from, *count, columns, columns_count, &flush->encoded, err);
        if (status != IMV_FULL || *count == 1) return status;
        *count /= 2;
    }
}

/* The first row at or after the timestamp. */
static size_t row_at(const struct imv_rows *rows, size_t from, int64_t timestamp) {
    size_t low = from, high = rows->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows->timestamps[middle] < timestamp)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
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
    size_t from = row_at(rows, 0, imv_retention_horizon(series->label, flush->now_ns));
    while (from < rows->count) {
        struct encoded_chunk chunk = {.class = flush->class,
                                      .slot = imv_slot_of(rows->timestamps[from]),
                                      .label = series->label->id,
                                      .series = imv_series_id(series),
                                      .start = rows->timestamps[from]};
        struct imv_chunk_id id = {chunk.label, chunk.series, chunk.start};
        size_t count = row_at(rows, from, imv_slot_start(chunk.slot + 1)) - from;
        if (count == 0) count = rows->count - from; /* the last slot ends at the last timestamp, which is in it */
        if (count > IMV_CHUNK_ROWS_MAX) count = IMV_CHUNK_ROWS_MAX;
        IMV_TRY(chunk_encode(flush, &id, from, &count, err));
        chunk.rows = (uint32_t)count;
        chunk.last = rows->timestamps[from + count - 1];
        chunk.size = flush->encoded.size;
        IMV_TRY(chunk_keep(flush, &chunk, err));
        from += count;
    }
    return flush->arena.bytes > IMV_FLUSH_BYTES_MAX ? tables_write(flush, err) : IMV_OK;
}

static imv_status series_flush(void *context, struct imv_series *series, const struct imv_head_series *head_rows,
                               struct imv_error *err) {
    struct flush *flush = context;
    IMV_TRY(imv_head_read(head_rows, flush->end_sequence, INT64_MIN, INT64_MAX, NULL, 0, &flush->rows, err));
    return series_encode(flush, series, err);
}

/* ---- chunks to tables ---- */

static int chunk_compare(const void *left, const void *right) {
    const struct encoded_chunk *a = left, *b = right;
    if (a->class != b->class) return a->class < b->class ? -1 : 1;
    if (a->slot != b->slot) return a->slot < b->slot ? -1 : 1;
    if (a->label != b->label) return a->label < b->label ? -1 : 1;
    if (a->series != b->series) return a->series < b->series ? -1 : 1;
    return (a->start > b->start) - (a->start < b->start);
}

/* Adds an item to an array of pointers that doubles; false: no memory. */
static bool pointer_append(void *array, size_t *count, size_t *capacity, void *item) {
    void ***items = array;
    if (*count == *capacity) {
        size_t larger = *capacity == 0 ? 16 : *capacity * 2;
        void **grown = realloc(*items, larger * sizeof *grown);
        if (grown == NULL) return false;
        *items = grown;
        *capacity = larger;
    }
    (*items)[(*count)++] = item;
    return true;
}

static imv_status table_finish(struct flush *flush, struct imv_error *err) {
    if (!flush->table_open) return IMV_OK;
    flush->table_open = false;
    uint64_t file_bytes;
    return imv_kv_table_finish(flush->tables[flush->tables_count - 1], &file_bytes, err);
}

static imv_status table_begin(struct flush *flush, uint8_t class, struct imv_error *err) {
    IMV_TRY(table_finish(flush, err));
    struct imv_kv_table *table;
    IMV_TRY(imv_kv_table_new(flush->engine->kv, &table, err));
    if (!pointer_append(&flush->tables, &flush->tables_count, &flush->tables_capacity, table)) {
        imv_kv_table_free(table);
        return imv_fail(err, IMV_NO_MEMORY, "flush: no memory for a table");
    }
    flush->table_open = true;
    flush->table_class = class;
    flush->table_bytes = 0;
    return IMV_OK;
}

/* Writes the chunks of one class and slot into the open table and describes them as a part. */
static imv_status part_write(struct flush *flush, const struct encoded_chunk *chunks, size_t count,
                             struct imv_error *err) {
    struct imv_part *part = calloc(1, sizeof *part);
    if (part == NULL || !pointer_append(&flush->parts, &flush->parts_count, &flush->parts_capacity, part)) {
        free(part);
        return imv_fail(err, IMV_NO_MEMORY, "flush: no memory for a part");
    }
    part->class = chunks[0].class;
    part->slot = chunks[0].slot;
    part->generation = flush->engine->meta.generation;
    part->label_min = chunks[0].label;
    part->label_max = chunks[count - 1].label;
    part->time_min = INT64_MAX;
    part->time_max = INT64_MIN;
    part->chunks = count;
    for (size_t i = 0; i < count; i++) {
        uint8_t key[IMV_CHUNK_KEY_BYTES];
        imv_chunk_key_put(key, part, chunks[i].label, chunks[i].series, chunks[i].start);
        IMV_TRY(imv_kv_table_put(flush->tables[flush->tables_count - 1], (struct imv_str){(char *)key, sizeof key},
                                 (struct imv_str){chunks[i].bytes, chunks[i].size}, err));
        part->rows += chunks[i].rows;
        part->bytes += chunks[i].size;
        if (chunks[i].start < part->time_min) part->time_min = chunks[i].start;
        if (chunks[i].last > part->time_max) part->time_max = chunks[i].last;
    }
    flush->table_bytes += part->bytes;
    return IMV_OK;
}

/* The chunks from `from` on that are of one class and slot; *bytes is their size. */
static size_t slot_count(const struct flush *flush, size_t from, uint64_t *bytes) {
    const struct encoded_chunk *first = &flush->chunks[from];
    size_t count = 0;
    *bytes = 0;
    while (from + count < flush->chunks_count && first[count].class == first->class &&
           first[count].slot == first->slot) {
        *bytes += first[count++].size;
    }
    return count;
}

static size_t slots_count(const struct flush *flush) {
    size_t slots = 0;
    uint64_t bytes;
    for (size_t from = 0; from < flush->chunks_count; from += slot_count(flush, from, &bytes)) slots++;
    return slots;
}

/* Puts all encoded chunks into tables of a new generation: a table a slot; small slots together when there are many. */
static imv_status tables_write(struct flush *flush, struct imv_error *err) {
    if (flush->engine->meta.generation == UINT32_MAX) return imv_fail(err, IMV_FULL, "flush: no generation is left");
    flush->engine->meta.generation++;
    if (flush->chunks_count > 0) qsort(flush->chunks, flush->chunks_count, sizeof *flush->chunks, chunk_compare);
    bool many = slots_count(flush) > SLOTS_APART_MAX;
    for (size_t from = 0; from < flush->chunks_count;) {
        const struct encoded_chunk *first = &flush->chunks[from];
        uint64_t bytes;
        size_t count = slot_count(flush, from, &bytes);
        bool apart = !many || bytes >= SLOT_BYTES_APART;
        if (apart || !flush->table_open || flush->table_class != first->class ||
            flush->table_bytes >= TABLE_BYTES_SHARED) {
            IMV_TRY(table_begin(flush, first->class, err));
        }
        IMV_TRY(part_write(flush, first, count, err));
        if (apart) IMV_TRY(table_finish(flush, err));
        from += count;
    }
    IMV_TRY(table_finish(flush, err));
    flush->chunks_count = 0;
    imv_arena_reset(&flush->arena);
    return IMV_OK;
}

/* ---- one try ---- */

static void flush_init(struct flush *flush, struct imv_engine *engine, uint32_t shard, uint64_t end_sequence) {
    *flush = (struct flush){.engine = engine, .shard = shard, .end_sequence = end_sequence};
    flush->now_ns = imv_clock_wall_ns(engine->clock);
    imv_rows_init(&flush->rows, NULL);
    imv_arena_init(&flush->scratch, 64 << 10, NULL);
    imv_buffer_init(&flush->encoded, CHUNK_BYTES_MAX);
    imv_arena_init(&flush->arena, ARENA_BLOCK_BYTES, NULL);
}

static void flush_release(struct flush *flush) {
    imv_rows_release(&flush->rows);
    imv_arena_release(&flush->scratch);
    imv_buffer_release(&flush->encoded);
    imv_arena_release(&flush->arena);
    for (size_t i = 0; i < flush->tables_count; i++) imv_kv_table_free(flush->tables[i]);
    for (size_t i = 0; i < flush->parts_count; i++) free(flush->parts[i]);
    free(flush->chunks);
    free(flush->tables);
    free(flush->parts);
}

/* Ingests the rows of a head; entry then describes what the store holds. */
static imv_status head_ingest(struct imv_engine *engine, uint32_t shard, struct imv_engine_head *entry,
                              struct imv_error *err) {
    struct flush flush;
    flush_init(&flush, engine, shard, entry->end_sequence);
    imv_status status = imv_head_each(entry->head, series_flush, &flush, err);
    if (status == IMV_OK) status = tables_write(&flush, err);
    if (status == IMV_OK && flush.tables_count > 0) {
        status = imv_kv_ingest(engine->kv, flush.tables, flush.tables_count, err);
    }
    if (status == IMV_OK) {
        entry->ingested = true;
        entry->parts = flush.parts;
        entry->parts_count = flush.parts_count;
        flush.parts = NULL;
        flush.parts_count = 0;
    }
    flush_release(&flush);
    return status;
}

/* Makes the ingested parts, the watermark and whatever classes changed durable in one write. */
static imv_status head_record(struct imv_engine *engine, uint32_t shard, const struct imv_engine_head *entry,
                              struct imv_error *err) {
    struct imv_meta_batch batch;
    imv_meta_batch_init(&batch);
    for (size_t i = 0; i < entry->parts_count; i++) imv_meta_put_part(&batch, entry->parts[i]);
    for (int i = 0; i < IMV_CLASSES_MAX; i++) {
        if (engine->meta.classes[i].changed) imv_meta_put_class(&batch, (uint8_t)i, &engine->meta.classes[i]);
    }
    imv_meta_put_watermark(&batch, shard, entry->end_position);
    imv_meta_put_generation(&batch, engine->meta.generation);
    imv_status status = imv_meta_write(&batch, engine->kv, err);
    imv_meta_batch_release(&batch);
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
    imv_status status = head_record(engine, shard, entry, err);
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
