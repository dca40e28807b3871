/* scan_lanes.h - reads the samples of a list of series, on as many threads as are free, in the order of the list.
 *
 * The list (jobs) is cut into morsels of a few series. A lane is what reads: cursors of its own, on one thread at a
 * time. It takes the next morsel and makes blocks of up to 1,024 rows, or of buckets (engine/buckets.h), from it. The
 * first lane belongs to the query's thread, the others run on the workers (query/workers.h) when a scan takes longer
 * than these are patient. Blocks are given out in the order of morsels, so the result is the same with any number of
 * lanes:
 *
 *     jobs       [morsel 0 | morsel 1 | morsel 2 | morsel 3 | ..
 *     lane 0      block block            block ..
 *     lane 1                  block              block block
 *     given       ---------->
 *
 * A lane holds a few ready blocks at most, then it pauses until one is given out. While the next block is not ready,
 * the query's thread reads itself: with the lane that has the next morsel when no thread runs it, else with its own. So
 * a scan never waits for a worker that does not come.
 *
 * Memory is the statement's budget's. The functions belong to the query's thread.
 */
#pragma once

#include "engine/cursor.h"
#include "query/exec.h"

enum { IMV_SCAN_JOBS_MAX = 1024 };

/* What is read of the series of one label. Its owner keeps it, unchanged, until the lanes are freed. */
struct imv_scan_label {
    struct imv_scan_label *next; /* the owner's */
    struct imv_label *label;
    const uint32_t *ids; /* of the fields to read */
    uint32_t columns_count;
    const struct imv_cursor_range *ranges; /* rows outside of one of them need not be given */
    uint32_t ranges_count;
    bool is_bucketed;     /* buckets are wanted, not rows */
    int64_t bucket_width; /* 0: one bucket */
    const uint8_t *bucket_needs;
    int32_t series_column; /* of buckets: only rows with a value of this column count; -1: all do */
};

struct imv_scan_job {
    const struct imv_scan_label *label;
    struct imv_series *series;
    int64_t first, last; /* times */
};

/* Rows or buckets of some jobs that have the same label. */
struct imv_scan_block {
    const struct imv_scan_label *label;
    size_t rows;                      /* at most 1,024; may be 0 */
    const uint16_t *jobs;             /* [rows]: which job each belongs to; rising */
    uint64_t samples;                 /* rows that were read for it */
    const int64_t *timestamps;        /* rows only */
    const struct imv_vector *columns; /* rows only */
    struct imv_buckets buckets;       /* buckets only; a bucket may be cut in two */
};

struct imv_scan_lanes;

imv_status imv_scan_lanes_new(struct imv_exec *exec, struct imv_scan_lanes **lanes);
void imv_scan_lanes_free(struct imv_scan_lanes *lanes); /* NULL is allowed */

/* Begins with a list; the one before must be at its end. jobs must stay in place until this one is. */
void imv_scan_lanes_start(struct imv_scan_lanes *lanes, const struct imv_scan_job *jobs, size_t jobs_count);

/* The next block, which holds until the next call; NULL at the end of the list. Fails as the cursors do, and when the
 * statement is to end. */
imv_status imv_scan_lanes_next(struct imv_scan_lanes *lanes, const struct imv_scan_block **block);
