/* Sort and Top: all rows are copied, with their sort keys, and ordered; rows with equal keys keep their order.
 *
 * Top keeps at least the rows that can be among the first `keep`: when there are twice as many (and a batch), they are
 * ordered and the rest is thrown away, and from then on a row that sorts behind the last one kept is not even
 * copied. */
#include "query/ops/sample_scan.h"

#include <stdlib.h>

struct row {
    uint64_t sequence;
    struct imv_value values[]; /* sort keys, then the slots that are needed */
};

struct sort {
    struct imv_operator op;
    uint32_t keys_count, slots_count;
    struct imv_code **codes;
    struct imv_code *skip, *limit;
    uint32_t *slots;            /* needed above */
    struct imv_column *columns; /* of the batch at hand: keys, then slots */
    uint64_t keep;              /* UINT64_MAX: all */
    struct row **rows;          /* budgeted memory */
    size_t rows_count, capacity;
    struct row *worst;      /* of the rows kept when the rest was thrown away; NULL: not yet */
    struct imv_arena arena; /* the rows */
    uint64_t sequence;
    bool sorted;
    size_t given;
    imv_status failed; /* of a poll while sorting */
    struct imv_source source;
};

/* ---- opening ---- */

static imv_status collect_slots(struct sort *sort) {
    const struct imv_plan *plan = sort->op.plan;
    uint32_t all = sort->op.branch->plan_slots_count;
    sort->slots = imv_arena_calloc(&sort->op.exec->arena, all + 1, sizeof *sort->slots);
    if (sort->slots == NULL) return imv_exec_fail_memory(sort->op.exec);
    for (uint32_t i = 0; i < all; i++)
        if (imv_plan_needs(plan, i)) sort->slots[sort->slots_count++] = i;
    return IMV_OK;
}

static imv_status sort_open(struct imv_operator *op) {
    struct sort *sort = (struct sort *)op;
    struct imv_compiler *compiler = &op->branch->compiler;
    uint32_t keys = op->plan->sort.keys_count;
    imv_exec_arena_init(op->exec, &sort->arena);
    sort->keys_count = keys;
    sort->keep = UINT64_MAX;
    IMV_TRY(collect_slots(sort));
    sort->codes = imv_arena_calloc(&op->exec->arena, keys + 1, sizeof *sort->codes);
    sort->columns = imv_arena_calloc(&op->exec->arena, keys + sort->slots_count + 1, sizeof *sort->columns);
    if (sort->codes == NULL || sort->columns == NULL) return imv_exec_fail_memory(op->exec);
    for (uint32_t i = 0; i < keys; i++) IMV_TRY(imv_compile(compiler, op->plan->sort.keys[i].expr, &sort->codes[i]));
    if (op->plan->kind != IMV_PLAN_TOP) return IMV_OK;
    IMV_TRY(imv_compile_optional(compiler, op->plan->sort.skip, &sort->skip));
    return imv_compile(compiler, op->plan->sort.limit, &sort->limit);
}

imv_status imv_top_count(struct imv_exec *exec, const struct imv_code *skip_code, const struct imv_code *limit_code,
                         uint64_t *count) {
    struct imv_value skip = imv_value_integer(0), limit;
    *count = UINT64_MAX;
    if (skip_code != NULL) IMV_TRY(imv_code_value(exec, skip_code, &skip));
    IMV_TRY(imv_code_value(exec, limit_code, &limit));
    if (skip.kind != IMV_VALUE_INTEGER || limit.kind != IMV_VALUE_INTEGER) return IMV_OK;
    if (skip.integer < 0 || limit.integer < 0) return IMV_OK;
    *count = (uint64_t)skip.integer + (uint64_t)limit.integer;
    return IMV_OK;
}

/* ---- order ---- */

static int compare_keys(const struct sort *sort, const struct imv_value *a, const struct imv_value *b) {
    for (uint32_t i = 0; i < sort->keys_count; i++) {
        int order = imv_value_order(&a[i], &b[i]);
        if (order != 0) return sort->op.plan->sort.keys[i].descending ? -order : order;
    }
    return 0;
}

static int compare_rows(const void *x, const void *y, void *context) {
    const struct row *a = *(struct row *const *)x, *b = *(struct row *const *)y;
    struct sort *sort = context;
    if (sort->failed != IMV_OK) return 0;
    sort->failed = imv_exec_step(sort->op.exec);
    int order = compare_keys(sort, a->values, b->values);
    return order != 0 ? order : (a->sequence > b->sequence) - (a->sequence < b->sequence);
}

static imv_status order_rows(struct sort *sort) {
    if (sort->rows_count > 1) qsort_r(sort->rows, sort->rows_count, sizeof *sort->rows, compare_rows, sort);
    return sort->failed;
}

/* ---- keeping ---- */

static imv_status grow(struct sort *sort) {
    if (sort->rows_count < sort->capacity) return IMV_OK;
    size_t capacity = sort->capacity == 0 ? IMV_BATCH_ROWS_MAX : sort->capacity * 2;
    struct row **rows = imv_exec_take(sort->op.exec, capacity * sizeof *rows);
    if (rows == NULL) return imv_exec_fail_memory(sort->op.exec);
    if (sort->rows_count > 0) memcpy(rows, sort->rows, sort->rows_count * sizeof *rows);
    imv_exec_give(sort->op.exec, sort->rows, sort->capacity * sizeof *rows);
    sort->rows = rows;
    sort->capacity = capacity;
    return IMV_OK;
}

static imv_status copy_row(struct sort *sort, const struct imv_value *values, uint64_t sequence,
                           struct imv_arena *arena, struct row **out) {
    uint32_t count = sort->keys_count + sort->slots_count;
    struct row *row = imv_arena_alloc(arena, sizeof *row + count * sizeof *row->values);
    if (row == NULL) return imv_exec_fail_memory(sort->op.exec);
    row->sequence = sequence;
    for (uint32_t i = 0; i < count; i++)
        if (!imv_value_copy(arena, &values[i], &row->values[i])) return imv_exec_fail_memory(sort->op.exec);
    *out = row;
    return IMV_OK;
}

/* Throws away the rows that cannot be among the first any more, and their memory. */
static imv_status prune(struct sort *sort) {
    IMV_TRY(order_rows(sort));
    struct imv_arena fresh;
    imv_exec_arena_init(sort->op.exec, &fresh);
    imv_status status = IMV_OK;
    if (sort->rows_count > sort->keep) sort->rows_count = sort->keep;
    for (size_t i = 0; i < sort->rows_count && status == IMV_OK; i++)
        status = copy_row(sort, sort->rows[i]->values, sort->rows[i]->sequence, &fresh, &sort->rows[i]);
    imv_arena_release(&sort->arena);
    sort->arena = fresh;
    if (status != IMV_OK) sort->rows_count = 0;
    sort->worst = sort->rows_count > 0 ? sort->rows[sort->rows_count - 1] : NULL;
    return status;
}

static imv_status add_row(struct sort *sort, size_t row, struct imv_value *values) {
    uint32_t count = sort->keys_count + sort->slots_count;
    for (uint32_t i = 0; i < sort->keys_count; i++) values[i] = imv_column_value(&sort->columns[i], row);
    if (sort->worst != NULL && compare_keys(sort, values, sort->worst->values) >= 0) return IMV_OK;
    for (uint32_t i = sort->keys_count; i < count; i++) values[i] = imv_column_value(&sort->columns[i], row);
    IMV_TRY(grow(sort));
    IMV_TRY(copy_row(sort, values, sort->sequence++, &sort->arena, &sort->rows[sort->rows_count]));
    sort->rows_count++;
    return IMV_OK;
}

static imv_status add_batch(struct sort *sort, struct imv_row_batch *batch) {
    struct imv_exec *exec = sort->op.exec;
    uint32_t count = sort->keys_count + sort->slots_count;
    struct imv_value *values = imv_arena_alloc(batch->arena, (count + 1) * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < sort->keys_count; i++)
        IMV_TRY(imv_code_column(exec, sort->codes[i], batch, &sort->columns[i]));
    for (uint32_t i = 0; i < sort->slots_count; i++) sort->columns[sort->keys_count + i] = batch->slots[sort->slots[i]];
    for (size_t row = 0; row < batch->rows; row++) IMV_TRY(add_row(sort, row, values));
    if (sort->keep < UINT64_MAX / 4 && sort->rows_count > 2 * sort->keep + IMV_BATCH_ROWS_MAX) IMV_TRY(prune(sort));
    return IMV_OK;
}

static imv_status pull_rows(struct sort *sort) {
    struct imv_row_batch *batch;
    for (;;) {
        IMV_TRY(imv_operator_next(sort->op.input, &batch));
        if (batch == NULL) return IMV_OK;
        IMV_TRY(add_batch(sort, batch));
    }
}

/* Reads the samples of the newest minute first, and while there are fewer rows than are kept those of eight times as
 * long before: what is older sorts behind. */
static imv_status pull_recent(struct sort *sort) {
    const int64_t minute_ns = INT64_C(60) * 1000000000;
    struct imv_operator *scan = sort->op.input;
    while (scan->plan->kind != IMV_PLAN_SAMPLE_SCAN) scan = scan->input;
    int64_t first, last, newest = imv_snapshot_newest(sort->op.exec->snapshot);
    IMV_TRY(imv_sample_scan_range(scan, &first, &last));
    if (last > newest) last = newest;
    for (int64_t span = minute_ns;; span = span > INT64_MAX / 8 ? INT64_MAX : span * 8) {
        int64_t from;
        if (__builtin_sub_overflow(last, span, &from) || span == INT64_MAX) from = INT64_MIN;
        IMV_TRY(imv_sample_scan_narrow(scan, from, last));
        IMV_TRY(pull_rows(sort));
        if (from <= first || sort->rows_count >= sort->keep) return IMV_OK;
        last = from - 1;
    }
}

static imv_status sort_all(struct sort *sort) {
    if (sort->limit != NULL) IMV_TRY(imv_top_count(sort->op.exec, sort->skip, sort->limit, &sort->keep));
    IMV_TRY(sort->op.plan->sort.is_recent ? pull_recent(sort) : pull_rows(sort));
    sort->sorted = true;
    return order_rows(sort);
}

/* ---- giving ---- */

static imv_status sort_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct sort *sort = (struct sort *)op;
    struct imv_source *source = &sort->source;
    if (!sort->sorted) IMV_TRY(sort_all(sort));
    if (!imv_source_ready(source)) IMV_TRY(imv_source_init(op->exec, op->branch, 0, source));
    size_t rows = sort->rows_count - sort->given;
    if (rows == 0) return IMV_OK;
    if (rows > IMV_BATCH_ROWS_MAX) rows = IMV_BATCH_ROWS_MAX;
    imv_source_reset(source);
    struct imv_value *values = imv_arena_alloc(&source->arena, (rows * sort->slots_count + 1) * sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(op->exec);
    for (size_t row = 0; row < rows; row++) {
        const struct imv_value *kept = sort->rows[sort->given + row]->values + sort->keys_count;
        for (uint32_t i = 0; i < sort->slots_count; i++) values[i * rows + row] = kept[i];
    }
    for (uint32_t i = 0; i < sort->slots_count; i++)
        source->batch.slots[sort->slots[i]] = imv_column_values(values + i * rows);
    source->batch.rows = rows;
    sort->given += rows;
    *batch = &source->batch;
    return IMV_OK;
}

static void sort_close(struct imv_operator *op) {
    struct sort *sort = (struct sort *)op;
    imv_exec_give(op->exec, sort->rows, sort->capacity * sizeof *sort->rows);
    imv_arena_release(&sort->arena);
    imv_source_release(&sort->source);
}

const struct imv_operator_class imv_op_sort = {
    .bytes = sizeof(struct sort), .open = sort_open, .next = sort_next, .close = sort_close};
