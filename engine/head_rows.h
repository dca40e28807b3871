/* head_rows.h - how the rows of a head lie in memory; private to head.c, which writes them, and head_read.c.
 *
 * Everything here is in the head's arena and immutable once published, but for the fields that say otherwise.
 */
#pragma once

#include "engine/head.h"
#include "storage/base/assert.h"

/* The fields of a block of rows, rising by id. Interned: in one head equal layouts are one pointer. Along a chain
 * layouts only grow. */
struct imv_head_layout {
    const struct imv_head *head;
    uint32_t columns_count;
    uint32_t mask_words;
    uint32_t row_bytes;
    const struct imv_field *fields[];
};

struct imv_head_row {
    int64_t timestamp;
    uint32_t sequence; /* above the head's sequence_base */
    uint32_t unused;
    uint64_t words[]; /* layout->mask_words of presence, then layout->columns_count cells */
};
_Static_assert(sizeof(struct imv_head_row) == 16, "stated in head.h");

struct imv_head_block {
    _Atomic(struct imv_head_block *) next; /* written by the shard thread, release/acquire */
    struct imv_head_block *previous;
    const struct imv_head_layout *layout;
    uint32_t first_row;         /* index in the chain of its first row; it ends where the next block begins */
    int64_t time_min, time_max; /* written before `next`: valid only where that is not NULL */
    _Alignas(16) char rows[];
};

/* One line: with it and the row an append is done. */
struct imv_head_series {
    _Atomic(struct imv_head_block *) tail; /* written by the shard thread, release/acquire */
    struct imv_head_block *first;          /* written before rows becomes 1 */
    struct imv_series *series;
    _Atomic uint32_t rows; /* in the chain; written by the shard thread last of all, release/acquire */
    /* Rows before this one are strictly rising; written by the shard thread before the row that breaks it is published
     * by rows, so it is right for any count of rows that was read before it. */
    _Atomic uint32_t rising_rows;
    /* ---- the shard's thread only ---- */
    const struct imv_head_map *map; /* of the last row's shape to the tail's layout */
    char *row_next;                 /* where row number `rows` goes */
    uint32_t rows_end;              /* rows when the tail is full */
    uint32_t row_bytes;             /* of the tail */
    int64_t time_max;
};
_Static_assert(sizeof(struct imv_head_series) == 64, "one cache line");

uint64_t imv_head_sequence_base(const struct imv_head *head);

static inline const struct imv_head_row *imv_head_block_row(const struct imv_head_block *block, size_t row_index) {
    return (const struct imv_head_row *)(const void *)(block->rows + row_index * block->layout->row_bytes);
}

/* How many of the first rows_count rows of the chain are in block. */
static inline uint32_t imv_head_block_rows(const struct imv_head_block *block, uint32_t rows_count) {
    const struct imv_head_block *next = atomic_load_explicit(&block->next, memory_order_acquire);
    uint32_t end = next != NULL && next->first_row < rows_count ? next->first_row : rows_count;
    imv_assert(end > block->first_row);
    return end - block->first_row;
}
