#include "engine/row_collector.h"

#include "storage/base/prng.h"
#include "storage/chunk.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { COLUMNS = 3, ROWS = 20000 };

static struct imv_prng prng;
static struct imv_row_collector collector;
static uint64_t next_row; /* checked so far */

static bool has(uint64_t row, size_t column) { return (row * 7 + column * 3) % 5 != 0 || row / 1500 % 2 == 0; }

/* Row `row` is known by its number: its time, and in each column a value made of it. */
static void batch_fill(struct imv_rows *batch, uint64_t from, size_t count) {
    imv_rows_reset(batch);
    static const uint32_t ids[COLUMNS] = {1, 4, 9};
    batch->count = count;
    batch->timestamps = imv_arena_calloc(&batch->arena, count, sizeof(int64_t));
    batch->columns_count = COLUMNS;
    batch->column_ids = imv_arena_calloc(&batch->arena, COLUMNS, sizeof(uint32_t));
    batch->columns = imv_arena_calloc(&batch->arena, COLUMNS, sizeof *batch->columns);
    for (size_t c = 0; c < COLUMNS; c++) {
        struct imv_vector *vector = &batch->columns[c];
        bool all = true;
        batch->column_ids[c] = ids[c];
        vector->type = c == 2 ? IMV_STRING : IMV_INTEGER;
        vector->cells = imv_arena_calloc(&batch->arena, count, sizeof(uint64_t));
        vector->valid = imv_arena_calloc(&batch->arena, (count + 63) / 64, sizeof(uint64_t));
        for (size_t i = 0; i < count; i++) {
            uint64_t row = from + i;
            batch->timestamps[i] = (int64_t)row * 10;
            if (!has(row, c)) {
                all = false;
                continue;
            }
            imv_bit_set(vector->valid, i);
            struct imv_string *string = imv_arena_alloc(&batch->arena, sizeof *string + 24);
            string->size = (uint32_t)sprintf(string->bytes, "row %llu", (unsigned long long)row);
            vector->cells[i] = c == 2 ? imv_string_cell(string) : row * COLUMNS + c;
        }
        if (all) vector->valid = NULL;
    }
}

static void check_and_empty(void) {
    const struct imv_rows *rows = &collector.rows;
    for (size_t i = 0; i < rows->count; i++, next_row++) {
        cr_assert_eq(rows->timestamps[i], (int64_t)next_row * 10);
        for (size_t c = 0; c < COLUMNS; c++) {
            cr_assert_eq(imv_vector_has(&rows->columns[c], i), has(next_row, c), "row %llu", (long long)next_row);
            if (!has(next_row, c)) continue;
            char text[32];
            uint64_t cell = rows->columns[c].cells[i];
            sprintf(text, "row %llu", (unsigned long long)next_row);
            if (c == 2)
                cr_assert(imv_str_equal(imv_cell_str(cell), imv_str_from(text)));
            else
                cr_assert_eq(cell, next_row * COLUMNS + c);
        }
    }
    imv_row_collector_empty(&collector);
}

Test(row_collector, rows_come_out_as_they_went_in) {
    /* Batches of any size, with and without gaps, become full buffers that hold the same rows in the same order;
     * strings outlive their batch. */
    static const uint32_t ids[COLUMNS] = {1, 4, 9};
    static const imv_type types[COLUMNS] = {IMV_INTEGER, IMV_INTEGER, IMV_STRING};
    struct imv_rows batch;
    struct imv_error err;
    imv_prng_init(&prng, 3);
    imv_rows_init(&batch, NULL);
    imv_row_collector_init(&collector);
    for (int round = 0; round < 3; round++) {
        cr_assert_eq(imv_row_collector_begin(&collector, ids, types, COLUMNS, &err), IMV_OK);
        uint64_t row = next_row = 0;
        while (row < ROWS) {
            size_t count = 1 + imv_prng_below(&prng, round == 0 ? 80 : IMV_VECTOR_ROWS);
            batch_fill(&batch, row, count);
            for (size_t from = 0, taken; from < count; from += taken) {
                cr_assert_eq(imv_row_collector_add(&collector, &batch, from, &taken, &err), IMV_OK);
                cr_assert_gt(taken, 0);
                if (!imv_row_collector_full(&collector)) continue;
                cr_assert_eq(collector.rows.count, IMV_CHUNK_ROWS_MAX);
                check_and_empty();
            }
            row += count;
        }
        check_and_empty();
        cr_assert_eq(next_row, row);
    }
    imv_rows_release(&batch);
    imv_row_collector_release(&collector);
}

Test(row_collector, wide_rows_make_fewer) {
    /* The capacity is whole vectors, at least one, and at most four million cells. */
    struct imv_error err;
    static uint32_t ids[4096];
    static imv_type types[4096];
    imv_row_collector_init(&collector);
    for (uint32_t i = 0; i < 4096; i++) ids[i] = i, types[i] = IMV_FLOAT;
    const size_t widths[] = {0, 1, 511, 512, 1000, 4096};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        cr_assert_eq(imv_row_collector_begin(&collector, ids, types, widths[i], &err), IMV_OK);
        cr_assert_eq(collector.capacity % IMV_VECTOR_ROWS, 0);
        cr_assert(collector.capacity >= IMV_VECTOR_ROWS && collector.capacity <= IMV_CHUNK_ROWS_MAX);
        if (widths[i] < 4000) cr_assert_leq(collector.capacity * widths[i], 4 << 20);
        if (widths[i] <= 511) cr_assert_eq(collector.capacity, IMV_CHUNK_ROWS_MAX);
    }
    imv_row_collector_release(&collector);
}
