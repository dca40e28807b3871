/* rows.h - a run of rows of one series as columns, in strictly rising time order: what readers get and flushes
 * write. */
#pragma once

#include "storage/base/arena.h"
#include "storage/value.h"

struct imv_rows {
    struct imv_arena arena; /* owns everything below but strings, see the producer */
    size_t count;
    int64_t *timestamps;
    size_t columns_count;
    uint32_t *column_ids; /* rising when the producer chose them, else as asked */
    struct imv_vector *columns;
};

void imv_rows_init(struct imv_rows *rows, struct imv_budget *budget); /* budget may be NULL */
void imv_rows_release(struct imv_rows *rows);
/* Empties it and frees its memory but for what the next use will want. */
void imv_rows_reset(struct imv_rows *rows);
