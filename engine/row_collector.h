/* row_collector.h - gathers batches of rows of one series until there are enough for a chunk; private to consolidation.
 *
 * Columns are fixed by begin. Strings are copied. Memory is the collector's and is bounded: 4 million cells, that is
 * 8,192 rows of up to 511 columns, fewer of more, and 16 MiB of strings beyond the batch that reaches it. One thread.
 */
#pragma once

#include "engine/rows.h"
#include "storage/base/status.h"

struct imv_row_collector {
    struct imv_rows rows; /* what was gathered; owns its memory but for strings */
    struct imv_arena strings;
    size_t capacity; /* rows; a multiple of a vector's */
};

void imv_row_collector_init(struct imv_row_collector *collector);
void imv_row_collector_release(struct imv_row_collector *collector);

/* Starts over with these columns, rising ids. IMV_NO_MEMORY. */
imv_status imv_row_collector_begin(struct imv_row_collector *collector, const uint32_t *columns, const imv_type *types,
                                   size_t columns_count, struct imv_error *err);

/* Takes rows of a batch with the same columns, from `from` on, as many as there is room for; *taken tells how many.
 * IMV_NO_MEMORY. */
imv_status imv_row_collector_add(struct imv_row_collector *collector, const struct imv_rows *batch, size_t from,
                                 size_t *taken, struct imv_error *err);

/* No more may be added before it is emptied. */
bool imv_row_collector_full(const struct imv_row_collector *collector);
/* Forgets the rows, not the columns. */
void imv_row_collector_empty(struct imv_row_collector *collector);
