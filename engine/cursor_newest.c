#include "engine/cursor_internal.h"

#include "storage/base/assert.h"

enum { FIRST_MISSES_MAX = 8 }; /* in a row: series of this part have many chunks, or end at different times */

/* Where the values that are found so far come from: of equal timestamps the source of the higher rank wins. Heads come
 * after every part. */
struct newest {
    struct imv_cursor *cursor;
    struct imv_series *series;
    int64_t horizon;
    struct imv_mask mask;
    int64_t *timestamps;
    uint64_t *cells;
    bool *found;
    uint32_t *ranks;
};

static imv_status prepare(struct imv_cursor *cursor, struct imv_error *err) {
    imv_arena_reset(&cursor->newest_strings);
    if (cursor->newest_ranks != NULL) return IMV_OK;
    struct imv_arena *arena = &cursor->arena;
    cursor->newest_timestamps = imv_arena_calloc(arena, IMV_VECTOR_ROWS, sizeof cursor->newest_timestamps[0]);
    cursor->newest_cells = imv_arena_calloc(arena, IMV_VECTOR_ROWS, sizeof cursor->newest_cells[0]);
    uint32_t *ranks = imv_arena_calloc(arena, cursor->columns_count, sizeof ranks[0]);
    if (cursor->newest_timestamps == NULL || cursor->newest_cells == NULL || ranks == NULL) {
        return imv_cursor_fail_alloc(cursor, err);
    }
    cursor->newest_ranks = ranks;
    return IMV_OK;
}

/* Whether a value at timestamp from a source of this rank would replace what is found of a column. */
static bool improves(const struct newest *newest, size_t column, int64_t timestamp, uint32_t rank) {
    if (!newest->found[column]) return true;
    if (timestamp != newest->timestamps[column]) return timestamp > newest->timestamps[column];
    return rank > newest->ranks[column];
}

static void from_heads(struct newest *newest) {
    struct imv_cursor *cursor = newest->cursor;
    const struct imv_snapshot_shard *shard = &cursor->snapshot->shards[newest->series->shard];
    for (uint32_t i = 0; i < shard->heads_count; i++) {
        const struct imv_head_series *rows = imv_head_find(shard->heads[i], newest->series);
        if (rows == NULL) continue;
        imv_head_newest(rows, shard->sequence, &newest->mask, cursor->columns, cursor->columns_count,
                        newest->timestamps, newest->cells, newest->found);
    }
    for (size_t c = 0; c < cursor->columns_count; c++) {
        newest->ranks[c] = UINT32_MAX;
        if (newest->found[c] && newest->timestamps[c] < newest->horizon) newest->found[c] = false;
    }
}

/* ---- one chunk ---- */

/* Finds the last value of a column in a vector that has one there, by decoding it; *any false: all are deleted. */
static imv_status decode_last(struct newest *newest, const struct imv_chunk *chunk, uint32_t generation, uint32_t index,
                              uint32_t vector, bool *any, int64_t *timestamp, uint64_t *cell, struct imv_error *err) {
    struct imv_cursor *cursor = newest->cursor;
    *any = false;
    uint64_t valid[IMV_VECTOR_WORDS];
    bool all_valid;
    imv_status status = imv_chunk_decode_times(chunk, vector, cursor->newest_timestamps, err);
    if (status == IMV_OK) {
        status = imv_chunk_decode_column(chunk, index, vector, cursor->newest_cells, valid, &all_valid,
                                         &cursor->newest_strings, err);
    }
    if (status != IMV_OK) return imv_cursor_chunk_failed(cursor, &chunk->id, status, err);
    bool hidden = false;
    for (size_t row = imv_chunk_vector_rows(chunk, vector); row-- > 0;) {
        if (!imv_bit_get(valid, row)) continue;
        *timestamp = cursor->newest_timestamps[row];
        *cell = cursor->newest_cells[row];
        *any = !imv_mask_hides_stored(&newest->mask, generation, *timestamp);
        if (*any) return IMV_OK;
        hidden = true;
    }
    if (hidden) return IMV_OK;
    imv_fail(err, IMV_CORRUPT, "column %u has no value where its statistics count some", index);
    return imv_cursor_chunk_failed(cursor, &chunk->id, IMV_CORRUPT, err);
}

/* The newest value of a column in a chunk, if it would replace what is found. */
static imv_status column_from_chunk(struct newest *newest, const struct imv_chunk *chunk, size_t column,
                                    const struct imv_candidate *candidate, struct imv_error *err) {
    int index;
    uint32_t rank = candidate->rank, generation = candidate->part->generation;
    IMV_TRY(imv_cursor_find_column(newest->cursor, chunk, column, &index, err));
    if (index < 0) return IMV_OK;
    for (uint32_t vector = chunk->vectors; vector-- > 0;) {
        int64_t first, timestamp;
        imv_chunk_vector_times(chunk, vector, &first, &timestamp);
        if (timestamp < newest->horizon || !improves(newest, column, timestamp, rank)) return IMV_OK;
        struct imv_chunk_statistics statistics;
        IMV_TRY(imv_cursor_statistics(newest->cursor, chunk, (uint32_t)index, vector, &statistics, err));
        if (statistics.count == 0 || imv_mask_covers_stored(&newest->mask, generation, first, timestamp)) continue;
        uint64_t cell = statistics.last;
        /* The statistics tell the last value; its time they tell only when the last row has it. */
        bool told = statistics.count == imv_chunk_vector_rows(chunk, vector), any = true;
        told = told && !imv_mask_touches_stored(&newest->mask, generation, first, timestamp);
        if (!told || newest->cursor->types[column] == IMV_STRING) {
            IMV_TRY(decode_last(newest, chunk, generation, (uint32_t)index, vector, &any, &timestamp, &cell, err));
        }
        if (!any) continue;
        if (timestamp >= newest->horizon && improves(newest, column, timestamp, rank)) {
            newest->found[column] = true;
            newest->timestamps[column] = timestamp;
            newest->cells[column] = cell;
            newest->ranks[column] = rank;
        }
        return IMV_OK;
    }
    return IMV_OK;
}

/* ---- parts ---- */

/* Whether rows up to time_max of a source of this rank could replace anything. */
static bool worth_reading(const struct newest *newest, int64_t time_max, uint32_t rank) {
    if (time_max < newest->horizon) return false;
    for (size_t c = 0; c < newest->cursor->columns_count; c++) {
        if (improves(newest, c, time_max, rank)) return true;
    }
    return false;
}

/* Tries the first chunk of the series in the part: when it goes on to the end of the part nothing is behind it, and
 * when there is none nothing else is to be found. Where series are read in order of id the reader is mostly right
 * before it, or knows the gap that it is not in, and neither takes a seek. *there false: the last chunk is still to be
 * sought. */
static imv_status try_first_chunk(struct imv_cursor *cursor, const struct imv_candidate *candidate,
                                  const struct imv_series *series, struct imv_chunk_reader *reader, bool *there,
                                  struct imv_error *err) {
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    struct imv_chunk chunk;
    bool any;
    *there = false;
    if (reader->misses == FIRST_MISSES_MAX) return IMV_OK;
    imv_chunk_key_put(key, candidate->part, cursor->label->id, imv_series_id(series), INT64_MIN);
    imv_chunk_reader_seek(reader, key);
    IMV_TRY(imv_cursor_open_chunk(cursor, reader, candidate->part, series, &chunk, &any, err));
    *there = !any || chunk.time_max == candidate->part->time_max;
    reader->misses = *there ? 0 : reader->misses + 1;
    return IMV_OK;
}

/* Puts the part's reader on the last chunk of the series, if there is one. */
static imv_status seek_last_chunk(struct imv_cursor *cursor, const struct imv_candidate *candidate,
                                  const struct imv_series *series, struct imv_chunk_reader **reader,
                                  struct imv_error *err) {
    IMV_TRY(imv_cursor_reader(cursor, candidate, reader, err));
    bool there;
    IMV_TRY(try_first_chunk(cursor, candidate, series, *reader, &there, err));
    if (there) return IMV_OK;
    uint8_t key[IMV_CHUNK_KEY_BYTES];
    imv_chunk_key_put(key, candidate->part, cursor->label->id, imv_series_id(series), INT64_MAX);
    imv_chunk_reader_seek_back(*reader, key);
    return IMV_OK;
}

/* Chunks of a series in one part do not overlap, so the first value that is found going back is the newest of the
 * part, and what precedes a chunk is older than its start. */
static imv_status from_part(struct newest *newest, const struct imv_candidate *candidate, struct imv_error *err) {
    struct imv_cursor *cursor = newest->cursor;
    struct imv_chunk_reader *reader;
    if (!imv_part_may_have(candidate->part, imv_series_id(newest->series))) return IMV_OK;
    IMV_TRY(seek_last_chunk(cursor, candidate, newest->series, &reader, err));
    for (;; imv_chunk_reader_previous(reader)) {
        struct imv_chunk chunk;
        bool any;
        IMV_TRY(imv_cursor_open_chunk(cursor, reader, candidate->part, newest->series, &chunk, &any, err));
        if (!any) return IMV_OK;
        for (size_t c = 0; c < cursor->columns_count; c++) {
            if (!improves(newest, c, chunk.time_max, candidate->rank)) continue;
            IMV_TRY(column_from_chunk(newest, &chunk, c, candidate, err));
        }
        int64_t start = chunk.id.start;
        if (start == INT64_MIN || !worth_reading(newest, start - 1, candidate->rank)) return IMV_OK;
    }
}

imv_status imv_cursor_newest(struct imv_cursor *cursor, struct imv_series *series, int64_t *timestamps, uint64_t *cells,
                             bool *found, struct imv_error *err) {
    imv_assert(series->label == cursor->label);
    IMV_TRY(prepare(cursor, err));
    struct newest newest = {
        .cursor = cursor,
        .series = series,
        .horizon = imv_cursor_horizon(cursor),
        .mask = imv_cursor_mask(cursor, series),
        .timestamps = timestamps,
        .cells = cells,
        .found = found,
        .ranks = cursor->newest_ranks,
    };
    for (size_t c = 0; c < cursor->columns_count; c++) found[c] = false;
    from_heads(&newest);
    for (size_t i = 0; i < cursor->candidates_count; i++) {
        const struct imv_candidate *candidate = &cursor->by_time_max[i];
        if (!worth_reading(&newest, candidate->part->time_max, UINT32_MAX)) break; /* nor are the parts after it */
        if (worth_reading(&newest, candidate->part->time_max, candidate->rank)) {
            IMV_TRY(from_part(&newest, candidate, err));
        }
    }
    return IMV_OK;
}

/* The newest timestamp of a chunk that is not deleted. */
static imv_status chunk_last_time(struct imv_cursor *cursor, const struct imv_chunk *chunk, const struct imv_mask *mask,
                                  uint32_t generation, int64_t *timestamp, bool *any, struct imv_error *err) {
    for (uint32_t vector = chunk->vectors; vector-- > 0;) {
        int64_t first;
        imv_chunk_vector_times(chunk, vector, &first, timestamp);
        *any = !imv_mask_touches_stored(mask, generation, first, *timestamp);
        if (*any) return IMV_OK;
        if (imv_mask_covers_stored(mask, generation, first, *timestamp)) continue;
        imv_status status = imv_chunk_decode_times(chunk, vector, cursor->newest_timestamps, err);
        if (status != IMV_OK) return imv_cursor_chunk_failed(cursor, &chunk->id, status, err);
        for (size_t row = imv_chunk_vector_rows(chunk, vector); row-- > 0;) {
            *timestamp = cursor->newest_timestamps[row];
            *any = !imv_mask_hides_stored(mask, generation, *timestamp);
            if (*any) return IMV_OK;
        }
    }
    *any = false;
    return IMV_OK;
}

/* The newest timestamp of the series in a part that is not deleted. */
static imv_status part_last_time(struct imv_cursor *cursor, const struct imv_candidate *candidate,
                                 const struct imv_series *series, const struct imv_mask *mask, int64_t *timestamp,
                                 bool *any, struct imv_error *err) {
    struct imv_chunk_reader *reader;
    *any = imv_part_may_have(candidate->part, imv_series_id(series));
    if (!*any) return IMV_OK;
    IMV_TRY(seek_last_chunk(cursor, candidate, series, &reader, err));
    for (;; imv_chunk_reader_previous(reader)) {
        struct imv_chunk chunk;
        IMV_TRY(imv_cursor_open_chunk(cursor, reader, candidate->part, series, &chunk, any, err));
        if (!*any) return IMV_OK;
        IMV_TRY(chunk_last_time(cursor, &chunk, mask, candidate->part->generation, timestamp, any, err));
        if (*any) return IMV_OK;
    }
}

imv_status imv_cursor_last_time(struct imv_cursor *cursor, struct imv_series *series, int64_t *timestamp, bool *found,
                                struct imv_error *err) {
    imv_assert(series->label == cursor->label);
    IMV_TRY(prepare(cursor, err));
    int64_t newest = INT64_MIN, horizon = imv_cursor_horizon(cursor);
    *found = false;
    struct imv_mask mask = imv_cursor_mask(cursor, series);
    const struct imv_snapshot_shard *shard = &cursor->snapshot->shards[series->shard];
    for (uint32_t i = 0; i < shard->heads_count; i++) {
        const struct imv_head_series *rows = imv_head_find(shard->heads[i], series);
        int64_t time_max;
        if (rows == NULL || !imv_head_last_time(rows, shard->sequence, &mask, &time_max)) continue;
        if (!*found || time_max > newest) newest = time_max;
        *found = true;
    }
    for (size_t i = 0; i < cursor->candidates_count; i++) {
        const struct imv_part *part = cursor->by_time_max[i].part;
        if (part->time_max < horizon || (*found && part->time_max <= newest)) break;
        int64_t time_max;
        bool any;
        IMV_TRY(part_last_time(cursor, &cursor->by_time_max[i], series, &mask, &time_max, &any, err));
        if (!any) continue;
        if (!*found || time_max > newest) newest = time_max;
        *found = true;
    }
    if (*found && newest < horizon) *found = false;
    *timestamp = newest;
    return IMV_OK;
}
