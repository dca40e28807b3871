#include "engine/cursor_internal.h"

#include "storage/base/assert.h"

enum {
    /* Of one call: a millisecond or two of decoding a few columns. */
    BATCHES_MAX = 64,
    SPANS_MAX = 8192, /* answered by statistics */
};

void imv_cursor_set_buckets(struct imv_cursor *cursor, int64_t width, const uint8_t *needs) {
    imv_assert(width >= 0);
    cursor->bucket_width = width;
    cursor->bucket_needs = needs;
}

/* ---- buckets ---- */

/* The start of the bucket of a time and its last time. */
static int64_t bucket_of(const struct imv_cursor *cursor, int64_t time, int64_t *last) {
    if (cursor->bucket_width > 0) return imv_bucket_of(time, cursor->bucket_width, last);
    *last = INT64_MAX;
    return INT64_MIN;
}

/* Makes the bucket of a time the last one of the list; false when it is another one and the list is full. */
static bool enter_bucket(struct imv_cursor *cursor, struct imv_buckets *buckets, int64_t time) {
    if (cursor->bucket_open && time <= cursor->bucket_last) return true;
    if (buckets->count == buckets->capacity) return false;
    buckets->starts[buckets->count] = bucket_of(cursor, time, &cursor->bucket_last);
    buckets->rows[buckets->count] = 0;
    memset(buckets->values + buckets->count * buckets->columns_count, 0,
           buckets->columns_count * sizeof buckets->values[0]);
    buckets->count++;
    cursor->bucket_open = true;
    return true;
}

static struct imv_bucket *last_values(const struct imv_buckets *buckets) {
    return buckets->values + (buckets->count - 1) * buckets->columns_count;
}

/* ---- decoded rows ---- */

/* The end of the rows from `first` on that are not after `last`. Buckets of regular samples have as many rows as the
 * one before, so that is tried first. */
static size_t run_end(const int64_t *times, size_t first, size_t count, int64_t last, size_t expected) {
    if (times[count - 1] <= last) return count;
    size_t guess = first + expected;
    if (expected > 0 && guess < count && times[guess - 1] <= last && times[guess] > last) return guess;
    size_t low = first + 1, high = count - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (times[middle] <= last)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Adds the rows at hand; false when the list is full before they are used up. */
static bool add_rows(struct imv_cursor *cursor, struct imv_buckets *buckets) {
    const struct imv_rows *rows = cursor->bucket_rows;
    size_t expected = 0;
    while (cursor->bucket_row < rows->count) {
        size_t first = cursor->bucket_row;
        if (!enter_bucket(cursor, buckets, rows->timestamps[first])) return false;
        size_t end = run_end(rows->timestamps, first, rows->count, cursor->bucket_last, expected);
        struct imv_bucket *values = last_values(buckets);
        for (size_t c = 0; c < cursor->columns_count; c++)
            imv_bucket_add_rows(&values[c], &rows->columns[c], cursor->bucket_needs[c], rows->timestamps, first, end);
        buckets->rows[buckets->count - 1] += end - first;
        cursor->bucket_row = end;
        expected = end - first;
    }
    cursor->bucket_rows = NULL;
    return true;
}

/* ---- statistics ---- */

/* Do the statistics of a span say all that is asked of a column? They tell no times: those of the first and last value
 * are known when every row has one. */
static bool is_told(const struct imv_cursor *cursor, size_t column, const struct imv_chunk_statistics *statistics,
                    uint32_t rows) {
    uint8_t needs = cursor->bucket_needs[column];
    if (statistics->count == 0 || needs == 0) return true;
    if (cursor->types[column] == IMV_STRING) return false;
    return (needs & (IMV_BUCKET_FIRST | IMV_BUCKET_LAST)) == 0 || statistics->count == rows;
}

/* Reads the statistics of the span that a source loads next; *told false: its rows must be decoded. */
static imv_status read_statistics(struct imv_cursor *cursor, const struct imv_source *source, uint32_t rows, bool *told,
                                  struct imv_error *err) {
    *told = true;
    for (size_t c = 0; c < cursor->columns_count && *told; c++) {
        struct imv_chunk_statistics *statistics = &cursor->bucket_statistics[c];
        int index;
        IMV_TRY(imv_cursor_find_column(cursor, &source->chunk, c, &index, err));
        if (index < 0)
            *statistics = (struct imv_chunk_statistics){0};
        else
            IMV_TRY(imv_cursor_span_statistics(cursor, source, (uint32_t)index, statistics, err));
        *told = is_told(cursor, c, statistics, rows);
    }
    return IMV_OK;
}

enum answer { ANSWER_ROWS, ANSWER_FULL, ANSWER_DONE };

/* Answers the next span of a source from its statistics, when it lies in one bucket and in the range and no row of
 * another source is before `limit`. ANSWER_ROWS: it must be decoded; ANSWER_FULL: the list has no room for its
 * bucket. */
static imv_status answer_span(struct imv_cursor *cursor, const struct imv_source *source, bool limited, int64_t limit,
                              struct imv_buckets *buckets, enum answer *answer, struct imv_error *err) {
    struct imv_chunk_span span = imv_source_span(source);
    int64_t bucket_last;
    bool told;
    *answer = ANSWER_ROWS;
    if (span.first < cursor->from || span.last > cursor->last || (limited && limit <= span.last)) return IMV_OK;
    if (imv_mask_touches_stored(&cursor->mask, source->part->generation, span.first, span.last)) return IMV_OK;
    bucket_of(cursor, span.first, &bucket_last);
    if (span.last > bucket_last) return IMV_OK;
    IMV_TRY(read_statistics(cursor, source, span.rows, &told, err));
    if (!told) return IMV_OK;
    *answer = ANSWER_FULL;
    if (!enter_bucket(cursor, buckets, span.first)) return IMV_OK;
    struct imv_bucket *values = last_values(buckets);
    for (size_t c = 0; c < cursor->columns_count; c++)
        imv_bucket_add(&values[c], cursor->types[c], cursor->bucket_needs[c], &cursor->bucket_statistics[c], span.first,
                       span.last);
    buckets->rows[buckets->count - 1] += span.rows;
    *answer = ANSWER_DONE;
    return IMV_OK;
}

/* ---- the loop ---- */

static imv_status prepare(struct imv_cursor *cursor, struct imv_error *err) {
    if (cursor->bucket_statistics != NULL) return IMV_OK;
    cursor->bucket_statistics =
        imv_arena_calloc(&cursor->arena, cursor->columns_count + 1, sizeof cursor->bucket_statistics[0]);
    return cursor->bucket_statistics == NULL ? imv_cursor_fail_alloc(cursor, err) : IMV_OK;
}

/* Takes from statistics what can be. *decode: rows must be decoded next; else the list is full, or it is time to look
 * around. */
static imv_status answer_spans(struct imv_cursor *cursor, struct imv_buckets *buckets, bool *decode,
                               struct imv_error *err) {
    *decode = true;
    for (int spans = 0; spans < SPANS_MAX; spans++) {
        int64_t limit;
        bool limited;
        struct imv_source *source;
        IMV_TRY(imv_cursor_next_span(cursor, &source, &limited, &limit, err));
        if (source == NULL) return IMV_OK;
        enum answer answer;
        IMV_TRY(answer_span(cursor, source, limited, limit, buckets, &answer, err));
        if (answer == ANSWER_ROWS) return IMV_OK;
        if (answer == ANSWER_FULL) break;
        imv_cursor_pass_span(cursor, source);
    }
    *decode = false;
    return IMV_OK;
}

imv_status imv_cursor_next_buckets(struct imv_cursor *cursor, struct imv_buckets *buckets, bool *more,
                                   struct imv_error *err) {
    imv_assert(cursor->bucket_needs != NULL && buckets->columns_count == cursor->columns_count);
    IMV_TRY(prepare(cursor, err));
    cursor->bucket_open = false;
    *more = true;
    for (int batches = 0; batches < BATCHES_MAX; batches++) {
        bool decode;
        if (cursor->bucket_rows != NULL && !add_rows(cursor, buckets)) return IMV_OK;
        IMV_TRY(answer_spans(cursor, buckets, &decode, err));
        if (!decode) return IMV_OK;
        IMV_TRY(imv_cursor_next(cursor, &cursor->bucket_rows, err));
        cursor->bucket_row = 0;
        if (cursor->bucket_rows->count > 0) continue;
        cursor->bucket_rows = NULL;
        *more = false;
        break;
    }
    return IMV_OK;
}
