#include "storage/chunk_cut.h"

#include "storage/base/assert.h"

enum {
    /* A span takes about 8 bytes a column: 0.07 bytes a value when it has so many, 0.02 for the 360 of an hour of 10-s
     * rows. Low enough for an hour of 30-s rows of which some are missing. */
    PERIOD_ROWS_MIN = 112,
    /* Fewer rows are no day of such hours, and will be merged into one; to read them all is to decode two vectors. */
    CHUNK_ROWS_MIN = 2 * IMV_VECTOR_ROWS,
};

static const int64_t minute_ns = INT64_C(60000000000);
static const int64_t period_minutes[] = {60, 30, 15, 5, 1};
enum { PERIODS = sizeof period_minutes / sizeof *period_minutes };

struct cutter {
    const int64_t *timestamps;
    struct imv_chunk_cut *cut;
    size_t rows_done;
    bool is_full; /* there is no room for more */
};

/* ---- spans ---- */

/* Makes spans of what is left before row `end`. */
static void cut_rows(struct cutter *cutter, size_t end) {
    struct imv_chunk_cut *cut = cutter->cut;
    for (size_t count; cutter->rows_done < end; cutter->rows_done += count) {
        cutter->is_full = cut->spans == IMV_CHUNK_SPANS_MAX;
        if (cutter->is_full) return;
        count = end - cutter->rows_done < IMV_VECTOR_ROWS ? end - cutter->rows_done : IMV_VECTOR_ROWS;
        cut->span_rows[cut->spans++] = (uint16_t)count;
    }
}

/* The last time of the period that a time is in. */
static int64_t period_last(int64_t time, int64_t period_ns) {
    int64_t inside = time % period_ns, last;
    if (inside < 0) inside += period_ns;
    return __builtin_add_overflow(time, period_ns - 1 - inside, &last) ? INT64_MAX : last;
}

/* The first row of [from, end) after a time; end when there is none. */
static size_t row_after(const int64_t *timestamps, size_t from, size_t end, int64_t time) {
    while (from < end) {
        size_t middle = from + (end - from) / 2;
        if (timestamps[middle] <= time)
            from = middle + 1;
        else
            end = middle;
    }
    return from;
}

/* Gives the periods of rows [from, end) spans of their own, where they have rows enough. */
static void cut_periods(struct cutter *cutter, size_t from, size_t end, int level) {
    int64_t period_ns = period_minutes[level] * minute_ns;
    for (size_t next; from < end; from = next) {
        next = row_after(cutter->timestamps, from, end, period_last(cutter->timestamps[from], period_ns));
        if (next - from < PERIOD_ROWS_MIN) continue;
        cut_rows(cutter, from);
        if (next - from > IMV_VECTOR_ROWS && level + 1 < PERIODS) cut_periods(cutter, from, next, level + 1);
        cut_rows(cutter, next);
    }
}

/* ---- vectors ---- */

static void join_spans(struct cutter *cutter) {
    struct imv_chunk_cut *cut = cutter->cut;
    for (size_t span = 0, last; span < cut->spans; span++) {
        uint16_t rows = cut->span_rows[span];
        bool joins = cut->vectors > 0 && cut->vector_rows[last = cut->vectors - 1] + rows <= IMV_VECTOR_ROWS &&
                     cut->vector_spans[last] < IMV_VECTOR_SPANS_MAX;
        cutter->is_full = cutter->is_full || (!joins && cut->vectors == IMV_CHUNK_VECTORS_MAX);
        if (cutter->is_full) return;
        if (!joins) {
            last = cut->vectors++;
            cut->vector_rows[last] = cut->vector_spans[last] = 0;
        }
        cut->vector_rows[last] = (uint16_t)(cut->vector_rows[last] + rows);
        cut->vector_spans[last]++;
    }
}

/* False when that would make more than there is room for. */
static bool cut_by(const int64_t *timestamps, size_t rows, bool periods, struct imv_chunk_cut *cut) {
    struct cutter cutter = {.timestamps = timestamps, .cut = cut};
    cut->vectors = cut->spans = 0;
    if (periods) cut_periods(&cutter, 0, rows, 0);
    cut_rows(&cutter, rows);
    join_spans(&cutter);
    return !cutter.is_full;
}

void imv_chunk_cut(const int64_t *timestamps, size_t rows, struct imv_chunk_cut *cut) {
    imv_assert(rows >= 1 && rows <= IMV_CHUNK_ROWS_MAX);
    if (rows >= CHUNK_ROWS_MIN && cut_by(timestamps, rows, true, cut)) return;
    bool fits = cut_by(timestamps, rows, false, cut);
    imv_assert(fits);
}
