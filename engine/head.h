/* head.h - the rows of one shard that are durable in the journal and not yet in chunks.
 *
 * A head is one generation. The shard appends to its active head; when that is full or old the shard freezes it and
 * starts another, the background thread writes the frozen one out as chunks, and the engine drops it. A head is
 * reference-counted and its memory is one arena, so dropping it is one free.
 *
 *     index of the series --two-level table--> struct imv_head_series --> block <-> block <-> block
 *
 * Per series there is a chain of row blocks of 4, 4, 4, 6, 9, 13, .. 1,024 rows: a million series with a few rows each
 * cost little, a busy one has few blocks. A block stores rows as they came (row-major: an append touches two or three
 * cache lines that lie side by side, not one per field), in one layout (sorted fields, shared by all blocks that have
 * them):
 *
 *     row:  timestamp 8 | sequence - sequence_base 4 | unused 4 | presence mask 8 x ceil(columns / 64) | cells 8 x columns
 *
 * A row whose shape fits the block's layout goes in place; one with a new field starts a block with the united layout.
 * Rows may be out of order and may repeat a timestamp: readers sort, and of equal timestamps the later row wins, field
 * by field. A series knows how many of its first rows are strictly rising, so that the common case is not sorted.
 *
 * Threads: one writer (the shard). Any number of readers, without locks: a row is written first, then published by the
 * series' count of rows (release); a reader takes that count (acquire) and leaves out rows above its snapshot's
 * sequence. Sequences rise along a chain. A row that ends the rising part is announced before it is published. A head
 * keeps the strings that its rows refer to (copied into its arena); series, shapes and fields are the catalog's.
 */
#pragma once

#include "engine/batch.h"
#include "engine/deletions.h"
#include "storage/base/arena.h"

struct imv_head;
struct imv_head_block;
struct imv_head_layout;
struct imv_head_series;
struct imv_rows;

/* generation is unique in the process; sequence_base is the shard's sequence before the first row. */
imv_status imv_head_new(uint32_t shard, uint64_t generation, uint64_t sequence_base, struct imv_budget *budget,
                        struct imv_head **head, struct imv_error *err);
void imv_head_retain(struct imv_head *head);  /* any thread */
void imv_head_release(struct imv_head *head); /* any thread; frees at the last; NULL is allowed */

/* Appends a row of a series of this shard, made visible with sequence (>= any before it, < sequence_base + 2^32).
 * Sets series->head and head_generation. With nothing appended: IMV_FULL when the budget is spent, IMV_NO_MEMORY when a
 * head without a budget runs out. */
imv_status imv_head_append(struct imv_head *head, const struct imv_row *row, uint64_t sequence, struct imv_error *err);

/* Asks for the memory that appending these rows will touch, so that its misses overlap; changes nothing. */
void imv_head_prefetch(const struct imv_head *head, const struct imv_row *const *rows, size_t count);

size_t imv_head_bytes(const struct imv_head *head);  /* memory it holds; any thread */
uint64_t imv_head_rows(const struct imv_head *head); /* any thread */

/* The rows of a series, NULL when it has none here. Any thread that holds a reference. */
const struct imv_head_series *imv_head_find(const struct imv_head *head, const struct imv_series *series);

/* Calls visit for each series with rows, in order of index. Ends at the first failure and returns it. */
imv_status imv_head_each(const struct imv_head *head,
                         imv_status (*visit)(void *context, struct imv_series *series,
                                             const struct imv_head_series *rows, struct imv_error *err),
                         void *context, struct imv_error *err);

/* How many rows there are up to sequence (of equal timestamps each counts, and so do deleted ones), and their exact
 * time range; false when there is none. */
bool imv_head_series_extent(const struct imv_head_series *rows, uint64_t sequence, size_t *rows_max, int64_t *time_min,
                            int64_t *time_max);

/* The newest timestamp among the rows up to sequence that mask (NULL: nothing is deleted) does not hide; false when
 * there is none. */
bool imv_head_last_time(const struct imv_head_series *rows, uint64_t sequence, const struct imv_mask *mask,
                        int64_t *timestamp);

/* Reads the rows with from <= timestamp <= last and sequence at most `sequence` that mask (NULL: nothing is deleted)
 * does not hide, sorted, one row a timestamp (the later row wins field by field), as columns. columns NULL: every
 * column that has a value in them, by rising id. Replaces the content of out, whose memory is in its arena; strings are
 * not copied and live as long as the head. IMV_FULL: out's budget is spent; IMV_NO_MEMORY. */
imv_status imv_head_read(const struct imv_head_series *rows, uint64_t sequence, const struct imv_mask *mask,
                         int64_t from, int64_t last, const uint32_t *columns, size_t columns_count,
                         struct imv_rows *out, struct imv_error *err);

/* The newest value of each asked column at or below sequence in rows that mask (NULL: none) does not hide:
 * timestamps[i], cells[i] are filled where found[i] becomes true; a column that is found already is replaced only by a
 * newer or equal timestamp. */
void imv_head_newest(const struct imv_head_series *rows, uint64_t sequence, const struct imv_mask *mask,
                     const uint32_t *columns, size_t columns_count, int64_t *timestamps, uint64_t *cells, bool *found);

/* What imv_head_read does, piece by piece into buffers of the caller. */
struct imv_head_scan {
    const struct imv_head_series *series;
    const uint32_t *columns;
    size_t columns_count;
    const struct imv_head_layout *layout; /* that positions are of */
    int32_t *positions;                   /* [columns_count]: where the column stands in the layout, or -1 */
    size_t rows_left;                     /* upper bound, exact when the rows are rising */
    /* Rising: the next row is row `row_index` of block. */
    const struct imv_head_block *block;
    uint32_t row_index;
    /* Otherwise, or when some are hidden: the rows by (timestamp, arrival); NULL when rising. */
    const struct imv_head_order *order;
    size_t order_count, order_index;
};

/* positions has room for columns_count; it, columns and what the scan puts into arena must outlive the scan. Errors as
 * imv_head_read, memory being the arena's. */
imv_status imv_head_scan_begin(struct imv_head_scan *scan, const struct imv_head_series *rows, uint64_t sequence,
                               const struct imv_mask *mask, int64_t from, int64_t last, const uint32_t *columns,
                               size_t columns_count, int32_t *positions, struct imv_arena *arena,
                               struct imv_error *err);

/* Puts the next rows, at most rows_max, into timestamps and into the cells and valid bitmaps (not NULL, filled in any
 * case) of vectors[columns_count], each with room for rows_max; values[i] is how many of them have column i. Returns
 * the number of rows, 0 at the end. */
size_t imv_head_scan_next(struct imv_head_scan *scan, size_t rows_max, int64_t *timestamps,
                          const struct imv_vector *vectors, size_t *values);
