#include "engine/cursor_internal.h"

#include "storage/base/assert.h"
#include "storage/base/metrics.h"

#include <inttypes.h>

enum {
    SOURCE_ARENA_BYTES = 4096, /* of the strings of one vector; grows with use */
    /* A free source keeps no more: the order of a long head out of order would stay for the cursor's life. */
    SOURCE_ARENA_KEPT_BYTES = 1 << 20,
};

/* tier .. series: what all chunks of one series in one part share */
enum { SERIES_KEY_BYTES = IMV_CHUNK_KEY_BYTES - 8 };

/* ---- buffers ---- */

static struct imv_source *new_source(struct imv_cursor *cursor) {
    size_t columns = cursor->columns_count;
    struct imv_arena *arena = &cursor->arena;
    struct imv_source *source = imv_arena_calloc(arena, 1, sizeof *source);
    if (source == NULL) return NULL;
    source->timestamps_buffer = imv_arena_calloc(arena, IMV_VECTOR_ROWS, sizeof source->timestamps_buffer[0]);
    source->vectors = imv_arena_calloc(arena, columns, sizeof source->vectors[0]);
    source->cells_buffer = imv_arena_calloc(arena, columns * IMV_VECTOR_ROWS, sizeof source->cells_buffer[0]);
    source->valid_buffer = imv_arena_calloc(arena, columns * IMV_VECTOR_WORDS, sizeof source->valid_buffer[0]);
    source->positions = imv_arena_calloc(arena, columns, sizeof source->positions[0]);
    source->values = imv_arena_calloc(arena, columns, sizeof source->values[0]);
    if (source->timestamps_buffer == NULL || source->vectors == NULL || source->cells_buffer == NULL ||
        source->valid_buffer == NULL || source->positions == NULL || source->values == NULL) {
        return NULL;
    }
    imv_arena_init(&source->arena, SOURCE_ARENA_BYTES, cursor->budget);
    return source;
}

struct imv_source *imv_source_take(struct imv_cursor *cursor) {
    struct imv_source *source = cursor->free_sources;
    if (source == NULL) return new_source(cursor);
    cursor->free_sources = source->next_free;
    return source;
}

void imv_source_give(struct imv_cursor *cursor, struct imv_source *source) {
    if (source->part != NULL && source->reader->owner == source) source->reader->owner = NULL;
    source->part = NULL;
    if (source->arena.bytes > SOURCE_ARENA_KEPT_BYTES) imv_arena_release(&source->arena);
    source->next_free = cursor->free_sources;
    cursor->free_sources = source;
}

static uint64_t *source_cells(const struct imv_source *source, size_t column) {
    return source->cells_buffer + column * IMV_VECTOR_ROWS;
}
static uint64_t *source_valid(const struct imv_source *source, size_t column) {
    return source->valid_buffer + column * IMV_VECTOR_WORDS;
}

/* ---- chunks under the iterator ---- */

imv_status imv_cursor_reader(struct imv_cursor *cursor, const struct imv_candidate *candidate,
                             struct imv_chunk_reader **reader, struct imv_error *err) {
    struct imv_chunk_reader **found = &cursor->reader_of[candidate->rank];
    if (*found == NULL && cursor->readers_count < IMV_CURSOR_READERS) {
        struct imv_chunk_reader *made = &cursor->readers[cursor->readers_count];
        IMV_TRY(imv_kv_iterate(cursor->snapshot->kv, IMV_KV_CHUNKS, &made->iterator, err));
        cursor->readers_count++;
        *found = made;
    }
    if (*found == NULL) *found = &cursor->readers[IMV_CURSOR_READERS - 1];
    *reader = *found;
    return IMV_OK;
}

imv_status imv_cursor_chunk_failed(const struct imv_cursor *cursor, const struct imv_chunk_id *id, imv_status status,
                                   struct imv_error *err) {
    if (status == IMV_NO_MEMORY) return imv_cursor_fail_alloc(cursor, err);
    if (status == IMV_CORRUPT) imv_metric_add(IMV_METRIC_chunks_corrupt_total, 1);
    struct imv_str name = cursor->label->name;
    return imv_error_wrap(err, status, "chunk of \"%.*s\" series %" PRIu64 " start %" PRId64, (int)name.size, name.data,
                          id->series, id->start);
}

imv_status imv_cursor_open_chunk(struct imv_cursor *cursor, const struct imv_chunk_reader *reader,
                                 const struct imv_part *part, const struct imv_series *series, struct imv_chunk *chunk,
                                 bool *any, struct imv_error *err) {
    struct imv_str key, value;
    *any = imv_kv_valid(reader->iterator, &key, &value);
    if (!*any) return imv_kv_status(reader->iterator, err);
    uint8_t expected[IMV_CHUNK_KEY_BYTES];
    imv_chunk_key_put(expected, part, cursor->label->id, imv_series_id(series), 0);
    *any = key.size == IMV_CHUNK_KEY_BYTES && memcmp(key.data, expected, SERIES_KEY_BYTES) == 0;
    if (!*any) return IMV_OK;
    struct imv_chunk_id id = {
        .label = cursor->label->id,
        .series = imv_series_id(series),
        .start = (int64_t)(imv_get_be64(key.data + SERIES_KEY_BYTES) ^ UINT64_C(1) << 63),
    };
    imv_status status = imv_chunk_open(value.data, value.size, &id, chunk, err);
    return status == IMV_OK ? IMV_OK : imv_cursor_chunk_failed(cursor, &id, status, err);
}

imv_status imv_cursor_find_column(const struct imv_cursor *cursor, const struct imv_chunk *chunk, size_t column,
                                  int *index, struct imv_error *err) {
    *index = imv_chunk_find_column(chunk, cursor->columns[column]);
    if (*index < 0) return IMV_OK;
    imv_type type = imv_chunk_column_type(chunk, (uint32_t)*index);
    if (type == cursor->types[column]) return IMV_OK;
    imv_fail(err, IMV_CORRUPT, "column %" PRIu32 " is %s, its field is %s", cursor->columns[column],
             imv_type_name(type), imv_type_name(cursor->types[column]));
    return imv_cursor_chunk_failed(cursor, &chunk->id, IMV_CORRUPT, err);
}

imv_status imv_cursor_span_statistics(const struct imv_cursor *cursor, const struct imv_source *source, uint32_t index,
                                      struct imv_chunk_statistics *statistics, struct imv_error *err) {
    imv_status status =
        imv_chunk_span_statistics(&source->chunk, index, source->vector_index, source->span_index, statistics, err);
    return status == IMV_OK ? IMV_OK : imv_cursor_chunk_failed(cursor, &source->chunk.id, status, err);
}

imv_status imv_cursor_statistics(const struct imv_cursor *cursor, const struct imv_chunk *chunk, uint32_t index,
                                 uint32_t vector, struct imv_chunk_statistics *statistics, struct imv_error *err) {
    imv_status status =
        imv_chunk_aggregate_column(chunk, index, vector, 0, imv_chunk_vector_rows(chunk, vector), statistics, err);
    return status == IMV_OK ? IMV_OK : imv_cursor_chunk_failed(cursor, &chunk->id, status, err);
}

/* ---- parts ---- */

static void put_key(uint8_t key[IMV_CHUNK_KEY_BYTES], const struct imv_cursor *cursor, const struct imv_source *source,
                    int64_t start) {
    imv_chunk_key_put(key, source->part, cursor->label->id, imv_series_id(cursor->series), start);
}

static imv_status open_chunk(struct imv_cursor *cursor, struct imv_source *source, bool *any, struct imv_error *err) {
    source->reader->owner = source;
    return imv_cursor_open_chunk(cursor, source->reader, source->part, cursor->series, &source->chunk, any, err);
}

/* The first span of the chunk that reaches the range; there is one. */
static void enter_chunk(const struct imv_cursor *cursor, struct imv_source *source) {
    const struct imv_chunk *chunk = &source->chunk;
    int64_t first, last = chunk->time_min;
    source->vector_index = source->span_index = 0;
    for (uint32_t v = 0; v < chunk->vectors; v++) {
        source->vector_index = v;
        imv_chunk_vector_times(chunk, v, &first, &last);
        if (last >= cursor->from) break;
    }
    struct imv_chunk_span span = imv_source_span(source);
    while (span.last < cursor->from) {
        source->span_index++;
        span = imv_source_span(source);
    }
    source->time_bound = span.first > cursor->from ? span.first : cursor->from;
}

/* Takes the first chunk from where the reader stands that reaches the range. */
static imv_status find_chunk(struct imv_cursor *cursor, struct imv_source *source, bool *any, struct imv_error *err) {
    for (;; imv_chunk_reader_next(source->reader)) {
        IMV_TRY(open_chunk(cursor, source, any, err));
        if (!*any || source->chunk.time_max >= cursor->from) break;
    }
    if (*any) enter_chunk(cursor, source);
    if (*any && source->time_bound > cursor->last) *any = false;
    return IMV_OK;
}

/* As find_chunk, for a range that starts inside the part: the chunk that holds its start, when there is one, is the
 * last that starts at or before it. Often that is the only one of the series, and the reader is right before it. */
static imv_status find_chunk_inside(struct imv_cursor *cursor, struct imv_source *source, bool *any,
                                    struct imv_error *err) {
    struct imv_chunk_reader *reader = source->reader;
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    put_key(key, cursor, source, INT64_MIN);
    if (imv_chunk_reader_step(reader, key)) {
        IMV_TRY(open_chunk(cursor, source, any, err));
        if (!*any || source->chunk.time_max >= cursor->from) return find_chunk(cursor, source, any, err);
    }
    put_key(key, cursor, source, cursor->from);
    imv_chunk_reader_seek_back(reader, key);
    IMV_TRY(open_chunk(cursor, source, any, err));
    if (!*any) imv_chunk_reader_seek(reader, key);
    return find_chunk(cursor, source, any, err);
}

imv_status imv_source_open_part(struct imv_cursor *cursor, struct imv_source *source,
                                const struct imv_candidate *candidate, bool *any, struct imv_error *err) {
    const struct imv_part *part = candidate->part;
    source->loaded = false;
    *any = imv_part_may_have(part, imv_series_id(cursor->series)) &&
           !imv_mask_covers_stored(&cursor->mask, part->generation, part->time_min, part->time_max);
    if (!*any) return IMV_OK;
    IMV_TRY(imv_cursor_reader(cursor, candidate, &source->reader, err));
    source->part = part;
    source->rank = candidate->rank;
    if (cursor->from > source->part->time_min) return find_chunk_inside(cursor, source, any, err);
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    put_key(key, cursor, source, INT64_MIN);
    imv_chunk_reader_seek(source->reader, key);
    return find_chunk(cursor, source, any, err);
}

static imv_status next_chunk(struct imv_cursor *cursor, struct imv_source *source, bool *any, struct imv_error *err) {
    if (source->reader->owner == source) {
        imv_chunk_reader_next(source->reader);
    } else {
        uint8_t key[IMV_CHUNK_KEY_BYTES];
        imv_assert(source->chunk.id.start < INT64_MAX);
        put_key(key, cursor, source, source->chunk.id.start + 1);
        imv_chunk_reader_seek(source->reader, key);
    }
    return find_chunk(cursor, source, any, err);
}

/* Gets the bytes of the source's chunk back under the reader. */
static imv_status return_to_chunk(struct imv_cursor *cursor, struct imv_source *source, struct imv_error *err) {
    if (source->reader->owner == source) return IMV_OK;
    bool any;
    struct imv_chunk_id id = source->chunk.id;
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    put_key(key, cursor, source, id.start);
    imv_chunk_reader_seek(source->reader, key);
    IMV_TRY(open_chunk(cursor, source, &any, err));
    if (any && source->chunk.id.start == id.start) return IMV_OK;
    imv_fail(err, IMV_CORRUPT, "it is gone from the store");
    return imv_cursor_chunk_failed(cursor, &id, IMV_CORRUPT, err);
}

static size_t lower_bound(const int64_t *timestamps, size_t count, int64_t from) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (timestamps[middle] < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static imv_status decode_column(struct imv_cursor *cursor, struct imv_source *source, size_t column, size_t skipped,
                                struct imv_error *err) {
    uint64_t *cells = source_cells(source, column), *valid = source_valid(source, column);
    int index;
    bool all_valid = false;
    IMV_TRY(imv_cursor_find_column(cursor, &source->chunk, column, &index, err));
    if (index < 0) {
        memset(valid, 0, IMV_VECTOR_WORDS * sizeof valid[0]);
    } else {
        imv_status status = imv_chunk_decode_column(&source->chunk, (uint32_t)index, source->vector_index, cells, valid,
                                                    &all_valid, &source->arena, err);
        if (status != IMV_OK) return imv_cursor_chunk_failed(cursor, &source->chunk.id, status, err);
        if (!all_valid && skipped > 0) imv_bits_drop(valid, skipped);
    }
    source->vectors[column] = (struct imv_vector){cursor->types[column], cells + skipped, all_valid ? NULL : valid};
    return IMV_OK;
}

/* Moves the kept rows of a column together. Those cells are the source's own buffer. */
static void keep_rows(struct imv_vector *vector, uint64_t *cells, const uint16_t *kept, size_t count) {
    uint64_t valid[IMV_VECTOR_WORDS] = {0};
    for (size_t i = 0; i < count; i++) {
        cells[i] = cells[kept[i]];
        if (imv_vector_has(vector, kept[i])) imv_bit_set(valid, i);
    }
    if (vector->valid != NULL) memcpy(vector->valid, valid, sizeof valid);
}

/* Takes out of the loaded rows what is deleted. */
static void hide_rows(const struct imv_cursor *cursor, struct imv_source *source) {
    uint16_t kept[IMV_VECTOR_ROWS];
    size_t skipped = (size_t)(source->timestamps - source->timestamps_buffer);
    size_t count =
        imv_mask_keep_stored(&cursor->mask, source->part->generation, source->timestamps, source->rows_count, kept);
    if (count == source->rows_count) return;
    for (size_t i = 0; i < count; i++) source->timestamps[i] = source->timestamps[kept[i]];
    for (size_t c = 0; c < cursor->columns_count; c++) {
        keep_rows(&source->vectors[c], source_cells(source, c) + skipped, kept, count);
    }
    source->rows_count = count;
}

/* Decodes the rows of vector_index that are in the range and not deleted, from span_index on. */
static imv_status decode_vector(struct imv_cursor *cursor, struct imv_source *source, struct imv_error *err) {
    const struct imv_chunk *chunk = &source->chunk;
    uint32_t generation = source->part->generation;
    source->rows_count = 0;
    int64_t vector_first, vector_last;
    IMV_TRY(return_to_chunk(cursor, source, err));
    imv_chunk_vector_times(chunk, source->vector_index, &vector_first, &vector_last);
    if (imv_mask_covers_stored(&cursor->mask, generation, vector_first, vector_last)) return IMV_OK;
    int64_t *timestamps = source->timestamps_buffer;
    imv_status status = imv_chunk_decode_times(chunk, source->vector_index, timestamps, err);
    if (status != IMV_OK) return imv_cursor_chunk_failed(cursor, &chunk->id, status, err);
    size_t rows = imv_chunk_vector_rows(chunk, source->vector_index);
    size_t begin = imv_source_span(source).row_from;
    if (timestamps[begin] < cursor->from) begin = lower_bound(timestamps, rows, cursor->from);
    size_t end = timestamps[rows - 1] <= cursor->last ? rows : lower_bound(timestamps, rows, cursor->last + 1);
    source->row_index = 0;
    source->rows_count = end > begin ? end - begin : 0;
    source->timestamps = timestamps + begin;
    if (source->rows_count == 0) return IMV_OK;
    imv_arena_reset(&source->arena);
    for (size_t c = 0; c < cursor->columns_count; c++) IMV_TRY(decode_column(cursor, source, c, begin, err));
    if (imv_mask_touches_stored(&cursor->mask, generation, vector_first, vector_last)) hide_rows(cursor, source);
    return IMV_OK;
}

imv_status imv_source_reach_span(struct imv_cursor *cursor, struct imv_source *source, bool *any,
                                 struct imv_error *err) {
    *any = true;
    if (source->vector_index == source->chunk.vectors) return next_chunk(cursor, source, any, err);
    return return_to_chunk(cursor, source, err);
}

static void pass_vector(struct imv_source *source) {
    source->vector_index++;
    source->span_index = 0;
    if (source->vector_index < source->chunk.vectors) source->span_time = imv_source_span(source).first;
}

void imv_source_pass_span(struct imv_source *source) {
    if (source->span_index + 1 == imv_chunk_vector_spans(&source->chunk, source->vector_index)) {
        pass_vector(source);
    } else {
        source->span_index++;
        source->span_time = imv_source_span(source).first;
    }
}

static imv_status load_part(struct imv_cursor *cursor, struct imv_source *source, bool *any, struct imv_error *err) {
    do {
        IMV_TRY(imv_source_reach_span(cursor, source, any, err));
        if (!*any) return IMV_OK;
        IMV_TRY(decode_vector(cursor, source, err));
        pass_vector(source);
        if (source->rows_count > 0) break;
        /* The first vector that reaches the range may have its rows on both sides of it; all of one may be deleted. */
        *any = imv_source_advance(cursor, source);
    } while (*any);
    source->loaded = *any;
    return IMV_OK;
}

/* ---- heads ---- */

void imv_source_open_head(struct imv_cursor *cursor, struct imv_source *source, const struct imv_head_series *rows,
                          uint32_t rank, int64_t time_min) {
    source->part = NULL;
    source->head_rows = rows;
    source->rank = rank;
    source->loaded = false;
    source->scanning = false;
    source->time_bound = time_min > cursor->from ? time_min : cursor->from;
}

static imv_status load_head(struct imv_cursor *cursor, struct imv_source *source, bool *any, struct imv_error *err) {
    if (!source->scanning) {
        imv_arena_reset(&source->arena);
        uint64_t sequence = cursor->snapshot->shards[cursor->series->shard].sequence;
        IMV_TRY(imv_head_scan_begin(&source->scan, source->head_rows, sequence, &cursor->mask, cursor->from,
                                    cursor->last, cursor->columns, cursor->columns_count, source->positions,
                                    &source->arena, err));
        source->scanning = true;
    }
    for (size_t c = 0; c < cursor->columns_count; c++) {
        source->vectors[c] = (struct imv_vector){cursor->types[c], source_cells(source, c), source_valid(source, c)};
    }
    source->timestamps = source->timestamps_buffer;
    source->row_index = 0;
    source->rows_count =
        imv_head_scan_next(&source->scan, IMV_VECTOR_ROWS, source->timestamps, source->vectors, source->values);
    for (size_t c = 0; c < cursor->columns_count; c++) {
        if (source->values[c] == source->rows_count) source->vectors[c].valid = NULL;
    }
    *any = source->loaded = source->rows_count > 0;
    return IMV_OK;
}

/* ---- both ---- */

imv_status imv_source_load(struct imv_cursor *cursor, struct imv_source *source, bool *any, struct imv_error *err) {
    imv_assert(!source->loaded);
    return source->part == NULL ? load_head(cursor, source, any, err) : load_part(cursor, source, any, err);
}

bool imv_source_advance(const struct imv_cursor *cursor, struct imv_source *source) {
    source->loaded = false;
    if (source->part == NULL) {
        if (source->scan.rows_left == 0) return false;
        source->time_bound = source->timestamps[source->rows_count - 1] + 1;
        return true;
    }
    const struct imv_chunk *chunk = &source->chunk;
    if (source->vector_index < chunk->vectors) {
        source->time_bound = source->span_time;
        return source->time_bound <= cursor->last;
    }
    int64_t end = cursor->last < source->part->time_max ? cursor->last : source->part->time_max;
    if (chunk->time_max >= end) return false;
    source->time_bound = chunk->time_max + 1;
    return true;
}

void imv_bits_drop(uint64_t bits[IMV_VECTOR_WORDS], size_t dropped) {
    size_t words = dropped / 64, low = dropped % 64;
    for (size_t i = 0; i < IMV_VECTOR_WORDS; i++) {
        size_t from = i + words;
        uint64_t word = from < IMV_VECTOR_WORDS ? bits[from] >> low : 0;
        if (low > 0 && from + 1 < IMV_VECTOR_WORDS) word |= bits[from + 1] << (64 - low);
        bits[i] = word;
    }
}
