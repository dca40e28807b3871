#include "engine/cursor_internal.h"

#include "storage/base/assert.h"
#include "storage/base/budget.h"

#include <stdlib.h>

enum {
    CURSOR_ARENA_BYTES = 16 * 1024, /* vector buffers are larger and get blocks of their own */
    STRINGS_ARENA_BYTES = 4096,
    /* Fewer rows of one source are copied to a batch that has rows already; more are handed out in place. A batch has a
     * cost of its own down the plan, about that of copying some hundred rows. */
    DIRECT_ROWS_MIN = 256,
};

/* ---- life ---- */

imv_status imv_cursor_fail_alloc(const struct imv_cursor *cursor, struct imv_error *err) {
    if (cursor->budget == NULL) return imv_fail(err, IMV_NO_MEMORY, "cursor: out of memory");
    return imv_fail(err, IMV_FULL, "cursor: the memory budget \"%s\" is spent", cursor->budget->name);
}

static int compare_time_min(const void *left, const void *right) {
    const struct imv_candidate *a = left, *b = right;
    if (a->part->time_min != b->part->time_min) return a->part->time_min < b->part->time_min ? -1 : 1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static int compare_time_max(const void *left, const void *right) {
    const struct imv_candidate *a = left, *b = right;
    if (a->part->time_max != b->part->time_max) return a->part->time_max > b->part->time_max ? -1 : 1;
    return (a->rank < b->rank) - (a->rank > b->rank);
}

static bool part_has_label(const struct imv_part *part, uint32_t label) {
    return part->label_min <= label && label <= part->label_max;
}

static imv_status list_candidates(struct imv_cursor *cursor, struct imv_error *err) {
    const struct imv_parts *parts = cursor->snapshot->parts;
    size_t count = 0;
    for (size_t i = 0; i < parts->count; i++) count += part_has_label(parts->items[i], cursor->label->id);
    cursor->candidates_count = count;
    cursor->by_time_min = imv_arena_calloc(&cursor->arena, count, sizeof cursor->by_time_min[0]);
    cursor->by_time_max = imv_arena_calloc(&cursor->arena, count, sizeof cursor->by_time_max[0]);
    cursor->selection = imv_arena_calloc(&cursor->arena, count, sizeof cursor->selection[0]);
    cursor->reader_of = imv_arena_calloc(&cursor->arena, parts->count, sizeof cursor->reader_of[0]);
    if (cursor->by_time_min == NULL || cursor->by_time_max == NULL || cursor->selection == NULL ||
        cursor->reader_of == NULL) {
        return imv_cursor_fail_alloc(cursor, err);
    }
    for (size_t i = 0, n = 0; i < parts->count; i++) {
        if (!part_has_label(parts->items[i], cursor->label->id)) continue;
        cursor->by_time_min[n] = cursor->by_time_max[n] = (struct imv_candidate){parts->items[i], (uint32_t)i};
        n++;
    }
    qsort(cursor->by_time_min, count, sizeof cursor->by_time_min[0], compare_time_min);
    qsort(cursor->by_time_max, count, sizeof cursor->by_time_max[0], compare_time_max);
    return IMV_OK;
}

static imv_status copy_columns(struct imv_cursor *cursor, const uint32_t *columns, struct imv_error *err) {
    size_t count = cursor->columns_count;
    cursor->columns = imv_arena_calloc(&cursor->arena, count, sizeof cursor->columns[0]);
    cursor->types = imv_arena_calloc(&cursor->arena, count, sizeof cursor->types[0]);
    if (cursor->columns == NULL || cursor->types == NULL) return imv_cursor_fail_alloc(cursor, err);
    for (size_t c = 0; c < count; c++) {
        const struct imv_field *field = imv_label_field_by_id(cursor->label, columns[c]);
        imv_assert(field != NULL);
        cursor->columns[c] = field->id;
        cursor->types[c] = field->type;
        cursor->has_strings = cursor->has_strings || field->type == IMV_STRING;
    }
    cursor->batch.columns_count = count;
    cursor->batch.column_ids = cursor->columns;
    return IMV_OK;
}

imv_status imv_cursor_new(struct imv_snapshot *snapshot, struct imv_label *label, const uint32_t *columns,
                          size_t columns_count, struct imv_budget *budget, struct imv_cursor **cursor_out,
                          struct imv_error *err) {
    struct imv_cursor *cursor = calloc(1, sizeof *cursor);
    if (cursor == NULL) return imv_fail(err, IMV_NO_MEMORY, "cursor: out of memory");
    cursor->snapshot = snapshot;
    cursor->label = label;
    cursor->budget = budget;
    cursor->columns_count = columns_count;
    imv_arena_init(&cursor->arena, CURSOR_ARENA_BYTES, budget);
    imv_arena_init(&cursor->newest_strings, STRINGS_ARENA_BYTES, budget);
    imv_status status = copy_columns(cursor, columns, err);
    if (status == IMV_OK) status = list_candidates(cursor, err);
    if (status != IMV_OK) {
        imv_cursor_free(cursor);
        return status;
    }
    *cursor_out = cursor;
    return IMV_OK;
}

/* Takes the sources from the series that was read before. */
static void drop_sources(struct imv_cursor *cursor) {
    for (size_t i = 0; i < cursor->active_count; i++) imv_source_give(cursor, cursor->active[i]);
    cursor->active_count = 0;
    cursor->emitted = NULL;
}

void imv_cursor_free(struct imv_cursor *cursor) {
    if (cursor == NULL) return;
    drop_sources(cursor);
    for (struct imv_source *source = cursor->free_sources; source != NULL; source = source->next_free) {
        imv_arena_release(&source->arena);
    }
    for (size_t i = 0; i < cursor->readers_count; i++) imv_kv_iterator_free(cursor->readers[i].iterator);
    imv_arena_release(&cursor->newest_strings);
    imv_arena_release(&cursor->arena);
    free(cursor);
}

/* ---- seek ---- */

int64_t imv_cursor_horizon(const struct imv_cursor *cursor) {
    int64_t retention_ns = atomic_load_explicit(&cursor->label->retention_ns, memory_order_relaxed), horizon;
    if (retention_ns <= 0) return INT64_MIN;
    return __builtin_sub_overflow(cursor->snapshot->taken_at_ns, retention_ns, &horizon) ? INT64_MIN : horizon;
}

struct imv_mask imv_cursor_mask(const struct imv_cursor *cursor, const struct imv_series *series) {
    return imv_deletions_mask(cursor->snapshot->shards[series->shard].deletions, series);
}

static void select_parts(struct imv_cursor *cursor, int64_t from, int64_t last) {
    if (cursor->selected && cursor->from == from && cursor->last == last) return;
    cursor->selected = true;
    cursor->from = from;
    cursor->last = last;
    cursor->selection_count = 0;
    for (size_t i = 0; i < cursor->candidates_count; i++) {
        const struct imv_part *part = cursor->by_time_min[i].part;
        if (part->time_min > last) break;
        if (part->time_max >= from) cursor->selection[cursor->selection_count++] = cursor->by_time_min[i];
    }
}

/* Makes room in the list of active sources for one more. The outgrown list stays in the arena. */
static bool reserve_active(struct imv_cursor *cursor) {
    if (cursor->active_count < cursor->active_capacity) return true;
    size_t capacity = cursor->active_capacity == 0 ? 2 * IMV_HEADS_MAX : cursor->active_capacity * 2;
    struct imv_source **grown = imv_arena_calloc(&cursor->arena, capacity, sizeof grown[0]);
    if (grown == NULL) return false;
    if (cursor->active_count > 0) memcpy(grown, cursor->active, cursor->active_count * sizeof grown[0]);
    cursor->active = grown;
    cursor->active_capacity = capacity;
    return true;
}

static imv_status open_heads(struct imv_cursor *cursor, struct imv_error *err) {
    const struct imv_snapshot_shard *shard = &cursor->snapshot->shards[cursor->series->shard];
    for (uint32_t i = 0; i < shard->heads_count; i++) {
        const struct imv_head_series *rows = imv_head_find(shard->heads[i], cursor->series);
        size_t rows_max;
        int64_t time_min, time_max;
        if (rows == NULL || !imv_head_series_extent(rows, shard->sequence, &rows_max, &time_min, &time_max)) continue;
        if (time_max < cursor->from || time_min > cursor->last) continue;
        struct imv_source *source = reserve_active(cursor) ? imv_source_take(cursor) : NULL;
        if (source == NULL) return imv_cursor_fail_alloc(cursor, err);
        uint32_t rank = (uint32_t)cursor->snapshot->parts->count + i;
        imv_source_open_head(cursor, source, rows, rank, time_min);
        cursor->active[cursor->active_count++] = source;
    }
    return IMV_OK;
}

imv_status imv_cursor_seek(struct imv_cursor *cursor, struct imv_series *series, int64_t from, int64_t last,
                           struct imv_error *err) {
    imv_assert(series->label == cursor->label);
    imv_assert(series->shard < cursor->snapshot->shards_count);
    drop_sources(cursor);
    int64_t horizon = imv_cursor_horizon(cursor);
    select_parts(cursor, from > horizon ? from : horizon, last);
    cursor->series = series;
    cursor->bucket_rows = NULL;
    cursor->mask = imv_cursor_mask(cursor, series);
    cursor->selection_index = 0;
    if (cursor->from > cursor->last)
        cursor->selection_index = cursor->selection_count;
    else
        IMV_TRY(open_heads(cursor, err));
    return IMV_OK;
}

/* ---- the next source ---- */

/* What decides the next rows: the source whose next row is the earliest, and the lower bound of all others. */
struct front {
    struct imv_source *source; /* NULL: no active source is left */
    int64_t limit;             /* no row of another source or part is earlier */
    struct imv_source *other;  /* that has the limit; NULL when it is the next part */
    bool limited;              /* false: there is no other */
};

static bool source_before(const struct imv_source *a, const struct imv_source *b) {
    return imv_source_time(a) < imv_source_time(b);
}

static struct front find_front(const struct imv_cursor *cursor) {
    struct front front = {0};
    for (size_t i = 0; i < cursor->active_count; i++) {
        struct imv_source *source = cursor->active[i];
        if (front.source == NULL || source_before(source, front.source)) {
            front.other = front.source;
            front.source = source;
        } else if (front.other == NULL || source_before(source, front.other)) {
            front.other = source;
        }
    }
    if (front.other != NULL) {
        front.limited = true;
        front.limit = imv_source_time(front.other);
    }
    if (cursor->selection_index < cursor->selection_count) {
        int64_t pending = cursor->selection[cursor->selection_index].part->time_min;
        if (pending < cursor->from) pending = cursor->from;
        if (!front.limited || pending <= front.limit) {
            front.limited = true;
            front.limit = pending;
            front.other = NULL;
        }
    }
    return front;
}

static void end_source(struct imv_cursor *cursor, struct imv_source *source) {
    size_t i = 0;
    while (cursor->active[i] != source) i++;
    cursor->active[i] = cursor->active[--cursor->active_count];
    imv_source_give(cursor, source);
}

static imv_status open_next_part(struct imv_cursor *cursor, struct imv_error *err) {
    struct imv_source *source = reserve_active(cursor) ? imv_source_take(cursor) : NULL;
    if (source == NULL) return imv_cursor_fail_alloc(cursor, err);
    bool any = false;
    const struct imv_candidate *candidate = &cursor->selection[cursor->selection_index++];
    imv_status status = imv_source_open_part(cursor, source, candidate, &any, err);
    if (status == IMV_OK && any)
        cursor->active[cursor->active_count++] = source;
    else
        imv_source_give(cursor, source);
    return status;
}

static int64_t source_last_time(const struct imv_source *source) { return source->timestamps[source->rows_count - 1]; }

static imv_status load_source(struct imv_cursor *cursor, struct imv_source *source, struct imv_error *err) {
    bool any = false;
    imv_status status = imv_source_load(cursor, source, &any, err);
    if (status != IMV_OK || !any) end_source(cursor, source);
    return status;
}

/* A source that is not loaded and may have a row at timestamp; NULL when there is none. */
static struct imv_source *unloaded_at(const struct imv_cursor *cursor, int64_t timestamp) {
    for (size_t i = 0; i < cursor->active_count; i++) {
        if (!cursor->active[i]->loaded && cursor->active[i]->time_bound <= timestamp) return cursor->active[i];
    }
    return NULL;
}

enum step { STEP_NONE, STEP_OPEN_PART, STEP_LOAD };

/* What must be done before the front can be used: its source must be loaded, and so must whatever may come before the
 * last of its loaded rows. */
static enum step front_needs(const struct imv_cursor *cursor, const struct front *front, struct imv_source **loading) {
    struct imv_source *source = front->source;
    bool part_limits = front->limited && front->other == NULL;
    if (source == NULL || (part_limits && front->limit <= imv_source_time(source))) return STEP_OPEN_PART;
    *loading = source;
    if (!source->loaded) return STEP_LOAD;
    if (!front->limited || front->limit > source_last_time(source)) return STEP_NONE;
    if (part_limits) return STEP_OPEN_PART;
    *loading = front->other->loaded ? unloaded_at(cursor, imv_source_time(source)) : front->other;
    return *loading != NULL ? STEP_LOAD : STEP_NONE;
}

/* ---- batches ---- */

static void consume_rows(struct imv_cursor *cursor, struct imv_source *source, size_t count) {
    source->row_index += count;
    imv_assert(source->row_index <= source->rows_count);
    if (source->row_index == source->rows_count && !imv_source_advance(cursor, source)) end_source(cursor, source);
}

/* Hands out all loaded rows of a source where they lie; they are used up at the next call. */
static void emit_source(struct imv_cursor *cursor, struct imv_source *source) {
    size_t skipped = source->row_index;
    for (size_t c = 0; skipped > 0 && c < cursor->columns_count; c++) {
        struct imv_vector *vector = &source->vectors[c];
        vector->cells += skipped;
        if (vector->valid != NULL) imv_bits_drop(vector->valid, skipped);
    }
    source->timestamps += skipped;
    source->rows_count -= skipped;
    source->row_index = 0;
    cursor->batch.count = source->rows_count;
    cursor->batch.timestamps = source->timestamps;
    cursor->batch.columns = source->vectors;
    cursor->emitted = source;
}

static imv_status prepare_merge(struct imv_cursor *cursor, struct imv_error *err) {
    size_t columns = cursor->columns_count;
    if (cursor->merged_gaps == NULL) {
        struct imv_arena *arena = &cursor->arena;
        cursor->merged_timestamps = imv_arena_calloc(arena, IMV_VECTOR_ROWS, sizeof cursor->merged_timestamps[0]);
        cursor->merged_vectors = imv_arena_calloc(arena, columns, sizeof cursor->merged_vectors[0]);
        uint64_t *words = imv_arena_calloc(arena, columns * (IMV_VECTOR_ROWS + IMV_VECTOR_WORDS), sizeof words[0]);
        bool *gaps = imv_arena_calloc(arena, columns, sizeof gaps[0]);
        if (cursor->merged_timestamps == NULL || cursor->merged_vectors == NULL || words == NULL || gaps == NULL) {
            return imv_cursor_fail_alloc(cursor, err);
        }
        for (size_t c = 0; c < columns; c++, words += IMV_VECTOR_ROWS + IMV_VECTOR_WORDS) {
            cursor->merged_vectors[c] = (struct imv_vector){cursor->types[c], words, NULL};
        }
        cursor->merged_gaps = gaps;
    }
    for (size_t c = 0; c < columns; c++) {
        struct imv_vector *vector = &cursor->merged_vectors[c];
        vector->valid = vector->cells + IMV_VECTOR_ROWS;
        memset(vector->valid, 0, IMV_VECTOR_WORDS * sizeof vector->valid[0]);
        cursor->merged_gaps[c] = false;
    }
    return IMV_OK;
}

/* Copies one column of count rows from row `from` to row `to`; false when some have no value. */
static bool copy_column(const struct imv_vector *in, size_t from, const struct imv_vector *out, size_t to,
                        size_t count) {
    memcpy(out->cells + to, in->cells + from, count * sizeof out->cells[0]);
    bool all = true;
    for (size_t i = 0; i < count; i++) {
        if (imv_vector_has(in, from + i))
            imv_bit_set(out->valid, to + i);
        else
            all = false;
    }
    return all;
}

static void merge_run(struct imv_cursor *cursor, struct imv_source *source, size_t count, size_t to) {
    size_t from = source->row_index;
    memcpy(cursor->merged_timestamps + to, source->timestamps + from, count * sizeof(int64_t));
    for (size_t c = 0; c < cursor->columns_count; c++) {
        bool all = copy_column(&source->vectors[c], from, &cursor->merged_vectors[c], to, count);
        if (!all) cursor->merged_gaps[c] = true;
    }
    consume_rows(cursor, source, count);
}

/* Puts the next row of source over row `to`: its values win. */
static void overlay_row(struct imv_cursor *cursor, const struct imv_source *source, size_t to) {
    for (size_t c = 0; c < cursor->columns_count; c++) {
        if (!imv_vector_has(&source->vectors[c], source->row_index)) continue;
        cursor->merged_vectors[c].cells[to] = source->vectors[c].cells[source->row_index];
        imv_bit_set(cursor->merged_vectors[c].valid, to);
    }
}

/* The active source with rows at timestamp that has the lowest rank above `rank`; NULL when there is none. */
static struct imv_source *next_at(const struct imv_cursor *cursor, int64_t timestamp, int64_t rank) {
    struct imv_source *found = NULL;
    for (size_t i = 0; i < cursor->active_count; i++) {
        struct imv_source *source = cursor->active[i];
        if (source->rank <= rank || imv_source_time(source) != timestamp) continue;
        if (found == NULL || source->rank < found->rank) found = source;
    }
    return found;
}

/* One row of all sources that have one at timestamp, from the oldest source to the newest. */
static void merge_row(struct imv_cursor *cursor, int64_t timestamp, size_t to) {
    cursor->merged_timestamps[to] = timestamp;
    int64_t rank = -1;
    for (struct imv_source *source; (source = next_at(cursor, timestamp, rank)) != NULL;) {
        imv_assert(source->loaded);
        rank = source->rank;
        overlay_row(cursor, source, to);
        consume_rows(cursor, source, 1);
    }
    for (size_t c = 0; c < cursor->columns_count; c++) {
        if (!imv_bit_get(cursor->merged_vectors[c].valid, to)) cursor->merged_gaps[c] = true;
    }
}

static size_t rows_before(const struct imv_source *source, int64_t limit) {
    size_t i = source->row_index;
    while (i < source->rows_count && source->timestamps[i] < limit) i++;
    return i - source->row_index;
}

static imv_status merge_batch(struct imv_cursor *cursor, struct imv_error *err) {
    IMV_TRY(prepare_merge(cursor, err));
    size_t count = 0;
    while (count < IMV_VECTOR_ROWS) {
        struct front front = find_front(cursor);
        if (front.source == NULL && !front.limited) break;
        struct imv_source *loading;
        enum step step = front_needs(cursor, &front, &loading);
        /* Loading a source ends the life of strings that it gave to this batch. */
        if (step != STEP_NONE && count > 0 && cursor->has_strings) break;
        if (step != STEP_NONE) {
            IMV_TRY(step == STEP_OPEN_PART ? open_next_part(cursor, err) : load_source(cursor, loading, err));
            continue;
        }
        size_t left = front.source->rows_count - front.source->row_index;
        size_t run = front.limited ? rows_before(front.source, front.limit) : left;
        if (count > 0 && run == left && run >= DIRECT_ROWS_MIN) break;
        if (run > IMV_VECTOR_ROWS - count) run = IMV_VECTOR_ROWS - count;
        if (run > 0)
            merge_run(cursor, front.source, run, count);
        else
            merge_row(cursor, front.limit, count);
        count += run > 0 ? run : 1;
    }
    for (size_t c = 0; c < cursor->columns_count; c++) {
        if (!cursor->merged_gaps[c]) cursor->merged_vectors[c].valid = NULL;
    }
    cursor->batch.count = count;
    cursor->batch.timestamps = cursor->merged_timestamps;
    cursor->batch.columns = cursor->merged_vectors;
    return IMV_OK;
}

static imv_status next_batch(struct imv_cursor *cursor, struct imv_error *err) {
    for (;;) {
        struct front front = find_front(cursor);
        if (front.source == NULL && !front.limited) return IMV_OK;
        struct imv_source *loading;
        switch (front_needs(cursor, &front, &loading)) {
            case STEP_OPEN_PART: IMV_TRY(open_next_part(cursor, err)); continue;
            case STEP_LOAD: IMV_TRY(load_source(cursor, loading, err)); continue;
            case STEP_NONE: break;
        }
        if (front.limited && front.limit <= source_last_time(front.source)) return merge_batch(cursor, err);
        emit_source(cursor, front.source);
        return IMV_OK;
    }
}

/* The rows that were handed out in place are used up. */
static void consume_emitted(struct imv_cursor *cursor) {
    struct imv_source *emitted = cursor->emitted;
    cursor->emitted = NULL;
    if (emitted != NULL) consume_rows(cursor, emitted, emitted->rows_count);
}

/* After a failure there is nothing more. */
static void end_series(struct imv_cursor *cursor) {
    drop_sources(cursor);
    cursor->selection_index = cursor->selection_count;
    cursor->batch.count = 0;
}

/* ---- spans that are not decoded ---- */

static imv_status find_span(struct imv_cursor *cursor, struct imv_source **found, struct front *front,
                            struct imv_error *err) {
    *found = NULL;
    for (;;) {
        *front = find_front(cursor);
        struct imv_source *source = front->source;
        if (source == NULL && !front->limited) return IMV_OK;
        bool part_first = front->limited && front->other == NULL;
        if (source == NULL || (part_first && front->limit <= imv_source_time(source))) {
            IMV_TRY(open_next_part(cursor, err));
            continue;
        }
        if (source->loaded || source->part == NULL) return IMV_OK;
        bool any, was_end = source->vector_index == source->chunk.vectors;
        IMV_TRY(imv_source_reach_span(cursor, source, &any, err));
        if (!any) end_source(cursor, source);
        if (!any || was_end) continue; /* another chunk begins later than was known, maybe later than another source */
        if (!part_first || front->limit > imv_source_span(source).last) {
            *found = source;
            return IMV_OK;
        }
        IMV_TRY(open_next_part(cursor, err)); /* it may have nothing of this series */
    }
}

/* ---- ranges of values ---- */

void imv_cursor_set_ranges(struct imv_cursor *cursor, const struct imv_cursor_range *ranges, size_t ranges_count) {
    cursor->ranges = ranges;
    cursor->ranges_count = ranges_count;
}

static bool statistics_meet(imv_type type, const struct imv_chunk_statistics *statistics,
                            const struct imv_cursor_range *range) {
    uint64_t min = statistics->min, max = statistics->max;
    if (statistics->count == statistics->nan_count) return false;
    if (type == IMV_FLOAT) {
        return imv_cell_float(max) >= imv_cell_float(range->low) && imv_cell_float(min) <= imv_cell_float(range->high);
    }
    if (type == IMV_UINTEGER) return max >= range->low && min <= range->high;
    return (int64_t)max >= (int64_t)range->low && (int64_t)min <= (int64_t)range->high;
}

/* May the span that a source loads next have a row with values in all ranges? */
static imv_status span_meets(struct imv_cursor *cursor, const struct imv_source *source, bool *meets,
                             struct imv_error *err) {
    *meets = true;
    for (size_t i = 0; i < cursor->ranges_count && *meets; i++) {
        const struct imv_cursor_range *range = &cursor->ranges[i];
        struct imv_chunk_statistics statistics = {0};
        int index;
        IMV_TRY(imv_cursor_find_column(cursor, &source->chunk, range->column, &index, err));
        if (index >= 0) IMV_TRY(imv_cursor_span_statistics(cursor, source, (uint32_t)index, &statistics, err));
        *meets = statistics_meet(cursor->types[range->column], &statistics, range);
    }
    return IMV_OK;
}

/* Goes past spans without a row in the ranges, as long as no other source has rows among theirs. */
static imv_status skip_spans(struct imv_cursor *cursor, struct imv_error *err) {
    for (;;) {
        struct imv_source *source;
        struct front front;
        bool meets;
        IMV_TRY(find_span(cursor, &source, &front, err));
        if (source == NULL || (front.limited && front.limit <= imv_source_span(source).last)) return IMV_OK;
        IMV_TRY(span_meets(cursor, source, &meets, err));
        if (meets) return IMV_OK;
        imv_cursor_pass_span(cursor, source);
    }
}

/* ---- the next rows ---- */

imv_status imv_cursor_next(struct imv_cursor *cursor, const struct imv_rows **rows, struct imv_error *err) {
    consume_emitted(cursor);
    cursor->batch.count = 0;
    imv_status status = cursor->ranges_count > 0 ? skip_spans(cursor, err) : IMV_OK;
    if (status == IMV_OK) status = next_batch(cursor, err);
    if (status != IMV_OK) end_series(cursor);
    *rows = &cursor->batch;
    return status;
}

imv_status imv_cursor_next_span(struct imv_cursor *cursor, struct imv_source **source, bool *limited, int64_t *limit,
                                struct imv_error *err) {
    struct front front;
    consume_emitted(cursor);
    imv_status status = find_span(cursor, source, &front, err);
    if (status != IMV_OK) {
        end_series(cursor);
        return status;
    }
    *limited = front.limited;
    *limit = front.limit;
    return IMV_OK;
}

void imv_cursor_pass_span(struct imv_cursor *cursor, struct imv_source *source) {
    imv_source_pass_span(source);
    if (!imv_source_advance(cursor, source)) end_source(cursor, source);
}
