/* cursor.h - reads the samples of series in a snapshot, in time order, from heads and chunks at once.
 *
 * A cursor is made once per query and pointed at one series after the other. Sources are merged by time: where they do
 * not overlap (nearly always) a batch is decoded straight from one of them; where they do, rows are merged and of equal
 * timestamps the newer source wins field by field (older part < newer part < older head < newer head). Rows older than
 * the label's retention are left out, and so is what is deleted (deletions.h): vectors that a tombstone covers are not
 * decoded, those that it touches are decoded and cut.
 *
 * Series in order of id read fastest: their chunks are neighbours, so the cursor steps where it would seek. Buffers are
 * kept from series to series.
 *
 * One thread per cursor. A damaged chunk ends the read with IMV_CORRUPT, naming it, and is counted.
 */
#pragma once

#include "engine/buckets.h"
#include "engine/rows.h"
#include "engine/snapshot.h"

struct imv_cursor;

/* Reads these columns (field ids of the label, in this order; may be none: timestamps only). The snapshot must outlive
 * the cursor. budget (may be NULL) is charged for what it decodes. */
imv_status imv_cursor_new(struct imv_snapshot *snapshot, struct imv_label *label, const uint32_t *columns,
                          size_t columns_count, struct imv_budget *budget, struct imv_cursor **cursor,
                          struct imv_error *err);
void imv_cursor_free(struct imv_cursor *cursor); /* NULL is allowed */

/* Points the cursor at a series, at the first row with from <= timestamp <= last. */
imv_status imv_cursor_seek(struct imv_cursor *cursor, struct imv_series *series, int64_t from, int64_t last,
                           struct imv_error *err);

/* The next rows, at most IMV_VECTOR_ROWS; rows->count 0 at the end. A row appears when any field of the series has a
 * value at its timestamp, also when none of the asked columns has. The content is the cursor's and holds until the next
 * call. IMV_CORRUPT, IMV_IO, IMV_NO_MEMORY, IMV_FULL (budget). */
imv_status imv_cursor_next(struct imv_cursor *cursor, const struct imv_rows **rows, struct imv_error *err);

/* Values of a column of the cursor that is FLOAT, INTEGER or UINTEGER: low <= value <= high, as its type compares. */
struct imv_cursor_range {
    uint32_t column;
    uint64_t low, high; /* cells */
};

/* imv_cursor_next may leave out rows that have no value in one of these ranges, and does where the statistics of a span
 * say so; the caller looks at the rows that come. ranges must outlive the cursor; they hold from the next seek on. */
void imv_cursor_set_ranges(struct imv_cursor *cursor, const struct imv_cursor_range *ranges, size_t ranges_count);

/* Instead of imv_cursor_next: what the series' rows come to in each bucket of time (buckets.h), in rising order. width
 * is that of the buckets in ns, above 0, or 0 for one bucket of all rows; needs[i] says what is wanted of column i.
 * Both hold from the next seek on, for every series. */
void imv_cursor_set_buckets(struct imv_cursor *cursor, int64_t width, const uint8_t *needs);

/* Appends buckets of the series to a list until that is full, the series is at its end (*more false), or some
 * milliseconds have passed, so that the caller can look at its deadline: the next call may then go on in the same
 * bucket with another entry. A span (storage/chunk.h) that lies in one bucket and that no other source overlaps is
 * answered by its statistics; other rows are decoded. Errors as imv_cursor_next; the list is then of no use. */
imv_status imv_cursor_next_buckets(struct imv_cursor *cursor, struct imv_buckets *buckets, bool *more,
                                   struct imv_error *err);

/* The newest value of each of the cursor's columns in the whole past of a series, and its timestamp: the current value.
 * found[i] false: the series never had one (or retention took it). Strings live until the next call on the cursor. */
imv_status imv_cursor_newest(struct imv_cursor *cursor, struct imv_series *series, int64_t *timestamps, uint64_t *cells,
                             bool *found, struct imv_error *err);

/* The newest timestamp of any field of the series; *found false when it has no row. */
imv_status imv_cursor_last_time(struct imv_cursor *cursor, struct imv_series *series, int64_t *timestamp, bool *found,
                                struct imv_error *err);
