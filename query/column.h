/* column.h - values of many rows at once: typed columns, and the batch of rows that operators pass on.
 *
 * A column holds one slot's values for all rows of a batch. When they are of one type they are 64-bit cells, as chunks
 * and cursors have them, so that a sample's field goes from the decoder to a kernel or a printer without being touched;
 * otherwise they are struct imv_value. A constant column has one cell that stands for every row.
 *
 *     kind                        a row's value
 *     ABSENT                      none: nothing has been put here
 *     NULL                        null in every row
 *     BOOLEAN INTEGER UINTEGER    cells; a bitmap says which rows have one (NULL: all have)
 *     FLOAT STRING TIME DURATION
 *     TWIN                        cells that are pointers to struct imv_series
 *     VALUES                      values; nulls among them, no bitmap
 *
 * A cell of UINTEGER may be small enough for an INTEGER; imv_column_value gives the value its one form.
 *
 * Who owns what: a column is a view. Cells belong to the batch's arena, to the cursor behind a scan, or to the
 * statement, all of which outlive the batch. A batch belongs to the operator that made it and holds until that operator
 * is asked for the next one; operators on the way add columns to it and shrink it, in place. One thread.
 */
#pragma once

#include "query/value.h"
#include "storage/base/assert.h"

enum { IMV_BATCH_ROWS_MAX = 1024 }; /* IMV_VECTOR_ROWS of storage: a decoded vector is a batch */

enum imv_column_kind {
    IMV_COLUMN_ABSENT,
    IMV_COLUMN_NULL,
    IMV_COLUMN_BOOLEAN,
    IMV_COLUMN_INTEGER,
    IMV_COLUMN_UINTEGER,
    IMV_COLUMN_FLOAT,
    IMV_COLUMN_STRING, /* cells are pointers to struct imv_string */
    IMV_COLUMN_TIME,
    IMV_COLUMN_DURATION,
    IMV_COLUMN_TWIN,
    IMV_COLUMN_VALUES,
};

struct imv_column {
    uint8_t kind;  /* enum imv_column_kind */
    bool constant; /* row 0 stands for all rows; a null one is of kind NULL or VALUES */
    union {
        const uint64_t *cells;
        const struct imv_value *values; /* kind VALUES */
    };
    const uint64_t *valid; /* bit i: row i has a value; NULL: every row has one. Not of VALUES, not of constants */
};

struct imv_bucket_view;

struct imv_row_batch {
    size_t rows;
    struct imv_column *slots;
    uint32_t slots_count;
    struct imv_arena *arena; /* for what operators add; emptied when the batch is filled anew */
    /* Not NULL: each row stands for the samples of a bucket of time, for the Aggregate that the plan has put above the
     * scan (plan.h); fields of samples are absent. */
    const struct imv_bucket_view *buckets;
};

static inline struct imv_column imv_column_null(void) {
    return (struct imv_column){.kind = IMV_COLUMN_NULL, .constant = true};
}
/* value must outlive the column. */
static inline struct imv_column imv_column_constant(const struct imv_value *value) {
    return (struct imv_column){.kind = IMV_COLUMN_VALUES, .constant = true, .values = value};
}
static inline struct imv_column imv_column_values(const struct imv_value *values) {
    return (struct imv_column){.kind = IMV_COLUMN_VALUES, .values = values};
}
static inline struct imv_column imv_column_cells(enum imv_column_kind kind, const uint64_t *cells,
                                                 const uint64_t *valid) {
    return (struct imv_column){.kind = (uint8_t)kind, .cells = cells, .valid = valid};
}

/* The column kind of a stored type. */
static inline enum imv_column_kind imv_column_kind_of(imv_type type) {
    switch (type) {
        case IMV_FLOAT: return IMV_COLUMN_FLOAT;
        case IMV_INTEGER: return IMV_COLUMN_INTEGER;
        case IMV_UINTEGER: return IMV_COLUMN_UINTEGER;
        case IMV_BOOLEAN: return IMV_COLUMN_BOOLEAN;
        case IMV_STRING: return IMV_COLUMN_STRING;
    }
    return IMV_COLUMN_NULL;
}

/* True when row has a value that is not null; for typed columns only. */
static inline bool imv_column_has(const struct imv_column *column, size_t row) {
    return column->valid == NULL || imv_bit_get(column->valid, row);
}

static inline struct imv_value imv_column_cell_value(enum imv_column_kind kind, uint64_t cell) {
    switch (kind) {
        case IMV_COLUMN_BOOLEAN: return imv_value_boolean(cell != 0);
        case IMV_COLUMN_INTEGER: return imv_value_integer((int64_t)cell);
        case IMV_COLUMN_UINTEGER: return imv_value_uinteger(cell);
        case IMV_COLUMN_FLOAT: return imv_value_float(imv_cell_float(cell));
        case IMV_COLUMN_STRING: return imv_value_string(imv_cell_str(cell));
        case IMV_COLUMN_TIME: return imv_value_time((int64_t)cell);
        case IMV_COLUMN_DURATION: return imv_value_duration((int64_t)cell);
        case IMV_COLUMN_TWIN: return imv_value_twin((struct imv_series *)(uintptr_t)cell);
        default: return imv_value_null();
    }
}

/* The value of a row; an ABSENT column reads as null. */
static inline struct imv_value imv_column_value(const struct imv_column *column, size_t row) {
    if (column->constant) row = 0;
    if (column->kind == IMV_COLUMN_VALUES) return column->values[row];
    if (column->kind <= IMV_COLUMN_NULL || !imv_column_has(column, row)) return imv_value_null();
    return imv_column_cell_value((enum imv_column_kind)column->kind, column->cells[row]);
}

/* A column of the rows picked[0..count), in this order, in arena; constants stay as they are. False: out of memory. */
bool imv_column_gather(struct imv_arena *arena, const struct imv_column *column, const uint16_t *picked, size_t count,
                       struct imv_column *gathered);

/* Keeps the rows picked (rising) of every slot. False: out of memory. */
bool imv_row_batch_keep(struct imv_row_batch *batch, const uint16_t *picked, size_t count);
