#include "query/expr_internal.h"
#include "query/kernel.h"
#include "query/operate.h"

static void *cells_for(struct imv_exec *exec, struct imv_row_batch *batch, imv_status *status) {
    void *cells = imv_arena_alloc(batch->arena, batch->rows * sizeof(uint64_t));
    if (cells == NULL) *status = imv_exec_fail_memory(exec);
    return cells;
}

/* ---- row by row ---- */

/* True when every slot that the node reads has one value for the whole batch. Properties are filled to find out. */
static imv_status is_constant_here(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                                   bool *constant) {
    if (code->kind == IMV_CODE_SLOT || code->kind == IMV_CODE_TWIN_PROPERTY) {
        struct imv_column column;
        IMV_TRY(imv_code_column(exec, code, batch, &column));
        *constant = column.constant;
        return IMV_OK;
    }
    *constant = !code->volatile_;
    for (uint32_t i = 0; i < code->arguments_count && *constant; i++)
        if (code->arguments[i] != NULL) IMV_TRY(is_constant_here(exec, code->arguments[i], batch, constant));
    return IMV_OK;
}

static imv_status column_by_rows(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                                 struct imv_column *column) {
    bool constant;
    IMV_TRY(is_constant_here(exec, code, batch, &constant));
    size_t rows = constant ? 1 : batch->rows;
    struct imv_value *values = imv_arena_alloc(batch->arena, rows * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(exec);
    for (size_t row = 0; row < rows; row++) {
        IMV_TRY(imv_exec_step(exec));
        IMV_TRY(imv_code_row(exec, code, batch, row, &values[row]));
    }
    *column = constant ? imv_column_constant(values) : imv_column_values(values);
    return IMV_OK;
}

/* From the columns of the arguments, value by value. */
static imv_status column_by_values(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                                   const struct imv_column *arguments, bool constant, struct imv_column *column) {
    struct imv_value row_values[IMV_CODE_ARGUMENTS_EAGER_MAX];
    size_t rows = constant ? 1 : batch->rows;
    struct imv_value *values = imv_arena_alloc(batch->arena, rows * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(exec);
    for (size_t row = 0; row < rows; row++) {
        IMV_TRY(imv_exec_step(exec));
        for (uint32_t i = 0; i < code->arguments_count; i++) row_values[i] = imv_column_value(&arguments[i], row);
        IMV_TRY(imv_code_apply(exec, code, batch->arena, row_values, &values[row]));
    }
    *column = constant ? imv_column_constant(values) : imv_column_values(values);
    return IMV_OK;
}

/* ---- typed operands ---- */

/* A side of an operator that a kernel can take. */
struct operand {
    enum imv_column_kind kind; /* IMV_COLUMN_VALUES: none that a kernel takes */
    bool constant;
    const uint64_t *cells;
    const uint64_t *valid;
    uint64_t cell; /* of a constant */
};

static enum imv_column_kind kind_of_value(const struct imv_value *value) {
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_NULL: return IMV_COLUMN_NULL;
        case IMV_VALUE_BOOLEAN: return IMV_COLUMN_BOOLEAN;
        case IMV_VALUE_INTEGER: return IMV_COLUMN_INTEGER;
        case IMV_VALUE_FLOAT: return IMV_COLUMN_FLOAT;
        case IMV_VALUE_TIME: return IMV_COLUMN_TIME;
        case IMV_VALUE_DURATION: return IMV_COLUMN_DURATION;
        default: return IMV_COLUMN_VALUES;
    }
}

static void operand_of(const struct imv_column *column, struct operand *operand) {
    *operand = (struct operand){.kind = (enum imv_column_kind)column->kind, .constant = column->constant};
    if (column->constant) {
        struct imv_value value = imv_column_value(column, 0);
        operand->kind = kind_of_value(&value);
        operand->cell = value.uinteger;
        operand->cells = &operand->cell;
    } else if (column->kind != IMV_COLUMN_VALUES) {
        operand->cells = column->cells;
        operand->valid = column->valid;
    }
}

/* Rows that have a value on both sides. */
static imv_status both_valid(struct imv_exec *exec, struct imv_row_batch *batch, const uint64_t *a, const uint64_t *b,
                             const uint64_t **valid) {
    *valid = a == NULL ? b : a;
    if (a == NULL || b == NULL) return IMV_OK;
    size_t words = (batch->rows + 63) / 64;
    uint64_t *both = imv_arena_alloc(batch->arena, words * sizeof *both);
    if (both == NULL) return imv_exec_fail_memory(exec);
    for (size_t i = 0; i < words; i++) both[i] = a[i] & b[i];
    *valid = both;
    return IMV_OK;
}

static bool is_integral(enum imv_column_kind kind) {
    return kind == IMV_COLUMN_INTEGER || kind == IMV_COLUMN_TIME || kind == IMV_COLUMN_DURATION;
}

/* Makes a constant the type of the column it stands beside, where that changes nothing. */
static void adapt_constant(enum imv_column_kind kind, const struct imv_column *column, struct operand *operand) {
    int64_t integer = (int64_t)operand->cell;
    double number = imv_cell_float(operand->cell);
    if (kind == IMV_COLUMN_FLOAT && operand->kind == IMV_COLUMN_INTEGER && integer >= -(INT64_C(1) << 53) &&
        integer <= INT64_C(1) << 53) {
        operand->kind = IMV_COLUMN_FLOAT;
        operand->cell = imv_float_cell((double)integer);
    } else if (kind == IMV_COLUMN_INTEGER && operand->kind == IMV_COLUMN_FLOAT && number >= -0x1p63 &&
               number < 0x1p63 && (double)(int64_t)number == number) {
        operand->kind = IMV_COLUMN_INTEGER;
        operand->cell = (uint64_t)(int64_t)number;
    } else if (kind == IMV_COLUMN_TIME) {
        struct imv_value value = imv_column_value(column, 0);
        if (!imv_value_as_time(&value, &integer)) return;
        operand->kind = IMV_COLUMN_TIME;
        operand->cell = (uint64_t)integer;
    }
}

/* ---- comparison ---- */

/* *done false: no kernel takes these. */
static imv_status compare_columns(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                                  const struct imv_column *arguments, struct imv_column *column, bool *done) {
    struct operand a, b;
    enum imv_binary_op op = code->expr->binary.op;
    bool swap = arguments[0].constant;
    if (swap) op = imv_comparison_mirrored(op);
    operand_of(&arguments[swap], &a);
    operand_of(&arguments[!swap], &b);
    if (b.constant) adapt_constant(a.kind, &arguments[!swap], &b);
    *done = a.kind == b.kind && (a.kind == IMV_COLUMN_FLOAT || is_integral(a.kind));
    if (!*done) return IMV_OK;
    imv_status status = IMV_OK;
    const uint64_t *valid;
    uint64_t *out = cells_for(exec, batch, &status);
    if (status == IMV_OK) status = both_valid(exec, batch, a.valid, b.valid, &valid);
    if (status != IMV_OK) return status;
    if (a.kind == IMV_COLUMN_FLOAT)
        imv_kernel_compare_floats(op, a.cells, b.cells, b.constant, batch->rows, out);
    else
        imv_kernel_compare_integers(op, a.cells, b.cells, b.constant, batch->rows, out);
    *column = imv_column_cells(IMV_COLUMN_BOOLEAN, out, valid);
    return IMV_OK;
}

/* ---- arithmetic ---- */

/* The type of a sum, difference or product of integral operands; VALUES: not one for a kernel. */
static enum imv_column_kind integral_result(enum imv_binary_op op, enum imv_column_kind a, enum imv_column_kind b) {
    if (a == IMV_COLUMN_INTEGER && b == IMV_COLUMN_INTEGER) return IMV_COLUMN_INTEGER;
    if (op == IMV_BINARY_MULTIPLY) return IMV_COLUMN_VALUES;
    if (a == IMV_COLUMN_TIME && b == IMV_COLUMN_DURATION) return IMV_COLUMN_TIME;
    if (a == IMV_COLUMN_DURATION && b == IMV_COLUMN_DURATION) return IMV_COLUMN_DURATION;
    if (a == IMV_COLUMN_DURATION && b == IMV_COLUMN_TIME && op == IMV_BINARY_ADD) return IMV_COLUMN_TIME;
    if (a == IMV_COLUMN_TIME && b == IMV_COLUMN_TIME && op == IMV_BINARY_SUBTRACT) return IMV_COLUMN_DURATION;
    return IMV_COLUMN_VALUES;
}

/* An integer side of an operation on doubles. */
static imv_status to_float(struct imv_exec *exec, struct imv_row_batch *batch, struct operand *operand) {
    imv_status status = IMV_OK;
    if (operand->kind == IMV_COLUMN_FLOAT) return IMV_OK;
    operand->kind = IMV_COLUMN_FLOAT;
    if (operand->constant) {
        operand->cell = imv_float_cell((double)(int64_t)operand->cell);
        return IMV_OK;
    }
    uint64_t *cells = cells_for(exec, batch, &status);
    if (status != IMV_OK) return status;
    imv_kernel_to_floats(operand->cells, batch->rows, cells);
    operand->cells = cells;
    return IMV_OK;
}

static imv_status compute_columns(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                                  const struct imv_column *arguments, struct imv_column *column, bool *done) {
    struct operand a, b;
    enum imv_binary_op op = code->expr->binary.op;
    operand_of(&arguments[0], &a);
    operand_of(&arguments[1], &b);
    bool sum = op == IMV_BINARY_ADD || op == IMV_BINARY_SUBTRACT || op == IMV_BINARY_MULTIPLY;
    enum imv_column_kind integral = sum ? integral_result(op, a.kind, b.kind) : IMV_COLUMN_VALUES;
    bool a_number = a.kind == IMV_COLUMN_INTEGER || a.kind == IMV_COLUMN_FLOAT;
    bool b_number = b.kind == IMV_COLUMN_INTEGER || b.kind == IMV_COLUMN_FLOAT;
    bool floats = (sum || op == IMV_BINARY_DIVIDE) && a_number && b_number &&
                  (a.kind == IMV_COLUMN_FLOAT || b.kind == IMV_COLUMN_FLOAT);
    *done = floats || integral != IMV_COLUMN_VALUES;
    if (!*done) return IMV_OK;
    imv_status status = IMV_OK;
    const uint64_t *valid;
    uint64_t *out = cells_for(exec, batch, &status);
    if (status == IMV_OK) status = both_valid(exec, batch, a.valid, b.valid, &valid);
    if (status == IMV_OK && floats) status = to_float(exec, batch, &a);
    if (status == IMV_OK && floats) status = to_float(exec, batch, &b);
    if (status != IMV_OK) return status;
    if (floats)
        imv_kernel_floats(op, a.cells, a.constant, b.cells, b.constant, batch->rows, out);
    else /* an overflow may be one of a row without a value: the slow way finds out */
        *done = imv_kernel_integers(op, a.cells, a.constant, b.cells, b.constant, batch->rows, out);
    *column = imv_column_cells(floats ? IMV_COLUMN_FLOAT : integral, out, valid);
    return IMV_OK;
}

static imv_status binary_column(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                                const struct imv_column *arguments, struct imv_column *column, bool *done) {
    enum imv_binary_op op = code->expr->binary.op;
    *done = false;
    if (op >= IMV_BINARY_EQUAL && op <= IMV_BINARY_GREATER_EQUAL)
        return compare_columns(exec, code, batch, arguments, column, done);
    if (op >= IMV_BINARY_ADD && op <= IMV_BINARY_DIVIDE)
        return compute_columns(exec, code, batch, arguments, column, done);
    return IMV_OK;
}

/* ---- logic ---- */

/* The truth of each row of a column; TypeError when a value is no boolean. */
static imv_status truths_of(struct imv_exec *exec, const struct imv_code *code, const struct imv_column *column,
                            size_t rows, uint8_t *truths) {
    if (column->kind == IMV_COLUMN_BOOLEAN && !column->constant) {
        for (size_t i = 0; i < rows; i++) truths[i] = column->cells[i] != 0 ? IMV_TRUE : IMV_FALSE;
        for (size_t i = 0; column->valid != NULL && i < rows; i++)
            if (!imv_bit_get(column->valid, i)) truths[i] = IMV_UNKNOWN;
        return IMV_OK;
    }
    struct imv_call call = {.exec = exec, .span = code->expr->span, .name = ""};
    for (size_t i = 0; i < rows; i++) {
        struct imv_value value = imv_column_value(column, i);
        imv_truth truth;
        IMV_TRY(imv_operate_truth(&call, &value, &truth));
        truths[i] = (uint8_t)truth;
        if (column->constant) {
            memset(truths, truth, rows);
            break;
        }
    }
    return IMV_OK;
}

static imv_status column_of_truths(struct imv_exec *exec, struct imv_row_batch *batch, const uint8_t *truths,
                                   struct imv_column *column) {
    imv_status status = IMV_OK;
    uint64_t *cells = cells_for(exec, batch, &status);
    uint64_t *valid = imv_arena_calloc(batch->arena, (batch->rows + 63) / 64, sizeof *valid);
    if (cells == NULL || valid == NULL) return imv_exec_fail_memory(exec);
    for (size_t i = 0; i < batch->rows; i++) {
        cells[i] = truths[i] == IMV_TRUE;
        valid[i / 64] |= (uint64_t)(truths[i] != IMV_UNKNOWN) << i % 64;
    }
    *column = imv_column_cells(IMV_COLUMN_BOOLEAN, cells, valid);
    return IMV_OK;
}

static imv_status logic_column(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                               const struct imv_column *arguments, struct imv_column *column) {
    uint8_t a[IMV_BATCH_ROWS_MAX], b[IMV_BATCH_ROWS_MAX];
    IMV_TRY(truths_of(exec, code->arguments[0], &arguments[0], batch->rows, a));
    IMV_TRY(truths_of(exec, code->arguments[1], &arguments[1], batch->rows, b));
    for (size_t i = 0; i < batch->rows; i++) {
        imv_truth x = (imv_truth)a[i], y = (imv_truth)b[i];
        a[i] = (uint8_t)(code->expr->binary.op == IMV_BINARY_AND  ? imv_truth_and(x, y)
                         : code->expr->binary.op == IMV_BINARY_OR ? imv_truth_or(x, y)
                                                                  : imv_truth_xor(x, y));
    }
    return column_of_truths(exec, batch, a, column);
}

/* IS NULL, IS NOT NULL and NOT. */
static imv_status unary_column(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                               const struct imv_column *argument, struct imv_column *column, bool *done) {
    uint8_t truths[IMV_BATCH_ROWS_MAX];
    enum imv_unary_op op = code->expr->unary.op;
    *done = op == IMV_UNARY_NOT || op == IMV_UNARY_IS_NULL || op == IMV_UNARY_IS_NOT_NULL;
    if (!*done) return IMV_OK;
    if (op == IMV_UNARY_NOT) {
        IMV_TRY(truths_of(exec, code->arguments[0], argument, batch->rows, truths));
        for (size_t i = 0; i < batch->rows; i++) truths[i] = (uint8_t)imv_truth_not((imv_truth)truths[i]);
    } else {
        for (size_t i = 0; i < batch->rows; i++) {
            struct imv_value value = imv_column_value(argument, i);
            truths[i] = (value.kind == IMV_VALUE_NULL) == (op == IMV_UNARY_IS_NULL);
        }
    }
    return column_of_truths(exec, batch, truths, column);
}

/* ---- any node ---- */

static imv_status eager_column(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                               struct imv_column *column) {
    struct imv_column arguments[IMV_CODE_ARGUMENTS_EAGER_MAX];
    bool constant = !code->volatile_, done = false;
    for (uint32_t i = 0; i < code->arguments_count; i++) {
        IMV_TRY(imv_code_column(exec, code->arguments[i], batch, &arguments[i]));
        constant &= arguments[i].constant;
    }
    if (!constant) {
        if (code->kind == IMV_CODE_LOGIC) return logic_column(exec, code, batch, arguments, column);
        if (code->kind == IMV_CODE_BINARY) IMV_TRY(binary_column(exec, code, batch, arguments, column, &done));
        if (code->kind == IMV_CODE_UNARY) IMV_TRY(unary_column(exec, code, batch, arguments, column, &done));
    }
    return done ? IMV_OK : column_by_values(exec, code, batch, arguments, constant, column);
}

imv_status imv_code_column(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                           struct imv_column *column) {
    *column = imv_column_null();
    if (batch->rows == 0) return IMV_OK;
    imv_assert(batch->rows <= IMV_BATCH_ROWS_MAX);
    if (code->kind == IMV_CODE_CONSTANT) {
        *column = imv_column_constant(&code->constant);
        return IMV_OK;
    }
    if (code->kind == IMV_CODE_SLOT || code->kind == IMV_CODE_TWIN_PROPERTY) {
        if (code->kind == IMV_CODE_TWIN_PROPERTY && batch->slots[code->slot].kind == IMV_COLUMN_ABSENT)
            IMV_TRY(imv_twin_group_fill(exec, code->group, batch));
        if (batch->slots[code->slot].kind != IMV_COLUMN_ABSENT) *column = batch->slots[code->slot];
        return IMV_OK;
    }
    if (code->row_only || code->arguments_count > IMV_CODE_ARGUMENTS_EAGER_MAX)
        return column_by_rows(exec, code, batch, column);
    return eager_column(exec, code, batch, column);
}

static size_t pick_cells(const struct imv_column *column, size_t rows, uint16_t *picked) {
    size_t count = 0;
    if (column->valid == NULL) {
        for (size_t i = 0; i < rows; i++) {
            picked[count] = (uint16_t)i;
            count += column->cells[i] != 0;
        }
    } else {
        for (size_t i = 0; i < rows; i++) {
            picked[count] = (uint16_t)i;
            count += column->cells[i] != 0 && imv_bit_get(column->valid, i);
        }
    }
    return count;
}

imv_status imv_code_pick(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                         uint16_t *picked, size_t *count) {
    struct imv_column column;
    uint8_t truths[IMV_BATCH_ROWS_MAX];
    IMV_TRY(imv_code_column(exec, code, batch, &column));
    if (column.kind == IMV_COLUMN_BOOLEAN && !column.constant) {
        *count = pick_cells(&column, batch->rows, picked);
        return IMV_OK;
    }
    IMV_TRY(truths_of(exec, code, &column, batch->rows, truths));
    *count = 0;
    for (size_t i = 0; i < batch->rows; i++)
        if (truths[i] == IMV_TRUE) picked[(*count)++] = (uint16_t)i;
    return IMV_OK;
}
