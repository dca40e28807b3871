/* batch.h - parsed rows on their way from the shard that read them to the shard that owns their series.
 *
 * A batch is one block of memory: rows are packed one after the other, strings behind the cells of their row. Rows of
 * one batch all belong to one destination shard, in the order in which they came. Sending a batch passes ownership
 * through the destination's queue; the destination frees it after its rows are durable and applied.
 *
 *     row:  series 8 | shape 8 | timestamp 8 | cells 8 x shape->count | strings (struct imv_string, padded to 8)
 */
#pragma once

#include "engine/catalog.h"
#include "storage/base/assert.h"

struct imv_budget;

/* ~600 rows of ten fields: large enough to amortise a queue slot, small enough that the open batches of an idle shard
 * cost nothing. */
enum { IMV_BATCH_BYTES = 64 * 1024 };

struct imv_row {
    struct imv_series *series;
    const struct imv_shape *shape;
    int64_t timestamp;
    uint64_t cells[]; /* shape->count; of STRING: a pointer into the same batch */
};

struct imv_batch {
    struct imv_batch *next; /* for whoever holds it */
    struct imv_budget *budget;
    uint32_t source; /* shard that made it */
    uint32_t rows;
    uint64_t values;
    /* What the rows may take in a journal group besides their numbers, counted by whoever fills the batch: upper bounds
     * of the definitions that the group must bring for them, and of the bytes of their strings. */
    size_t definitions, text;
    size_t capacity, size; /* of data, in bytes */
    _Alignas(8) char data[];
};

/* A batch with room for at least bytes (IMV_BATCH_BYTES when less); NULL when the budget or malloc refuses. The budget
 * is charged until imv_batch_free; NULL: none is. NULL may be freed. */
struct imv_batch *imv_batch_new(struct imv_budget *budget, uint32_t source, size_t bytes);
void imv_batch_free(struct imv_batch *batch);

/* The end of a row's strings, for imv_row_bytes. */
size_t imv_row_bytes_with_strings(const struct imv_row *row);

/* Bytes of a row with its strings, a multiple of 8. */
static inline size_t imv_row_bytes(const struct imv_row *row) {
    if (row->shape->strings_count > 0) return imv_row_bytes_with_strings(row);
    return sizeof *row + row->shape->count * sizeof row->cells[0];
}

/* Walks rows: start with NULL, end at NULL. */
static inline const struct imv_row *imv_batch_next_row(const struct imv_batch *batch, const struct imv_row *row) {
    const char *next = row == NULL ? batch->data : (const char *)row + imv_row_bytes(row);
    imv_assert(next <= batch->data + batch->size);
    return next == batch->data + batch->size ? NULL : (const struct imv_row *)(const void *)next;
}
