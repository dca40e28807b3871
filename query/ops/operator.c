#include "query/ops/operator.h"

#include "storage/base/clock.h"

static const struct imv_operator_class *class_of(enum imv_plan_kind kind) {
    static const struct imv_operator_class *const classes[] = {
        [IMV_PLAN_START] = &imv_op_start,       [IMV_PLAN_TWIN_SCAN] = &imv_op_twin_scan,
        [IMV_PLAN_OPTIONAL] = &imv_op_optional, [IMV_PLAN_SAMPLE_SCAN] = &imv_op_sample_scan,
        [IMV_PLAN_WINDOW] = &imv_op_window,     [IMV_PLAN_FILTER] = &imv_op_filter,
        [IMV_PLAN_PROJECT] = &imv_op_project,   [IMV_PLAN_AGGREGATE] = &imv_op_aggregate,
        [IMV_PLAN_FILL] = &imv_op_fill,         [IMV_PLAN_UNWIND] = &imv_op_unwind,
        [IMV_PLAN_DISTINCT] = &imv_op_distinct, [IMV_PLAN_SORT] = &imv_op_sort,
        [IMV_PLAN_TOP] = &imv_op_sort,          [IMV_PLAN_SKIP] = &imv_op_skip,
        [IMV_PLAN_LIMIT] = &imv_op_limit,       [IMV_PLAN_PRODUCE] = &imv_op_produce,
        [IMV_PLAN_UNION] = &imv_op_union,       [IMV_PLAN_DELETE] = &imv_op_delete,
    };
    return classes[kind];
}

imv_status imv_operator_open(struct imv_exec *exec, struct imv_branch *branch, const struct imv_plan *plan,
                             struct imv_operator **out) {
    const struct imv_operator_class *class = class_of(plan->kind);
    if (plan->kind == IMV_PLAN_PRODUCE) {
        branch = imv_arena_calloc(&exec->arena, 1, sizeof *branch);
        if (branch == NULL) return imv_exec_fail_memory(exec);
        branch->exec = exec;
        branch->plan_slots_count = plan->produce.slots_count;
        imv_compiler_init(&branch->compiler, exec, plan->produce.slots_count);
    }
    struct imv_operator *op = imv_arena_calloc(&exec->arena, 1, class->bytes);
    if (op == NULL) return imv_exec_fail_memory(exec);
    *op = (struct imv_operator){.class = class, .exec = exec, .branch = branch, .plan = plan};
    *out = op;
    if (plan->input != NULL) IMV_TRY(imv_operator_open(exec, branch, plan->input, &op->input));
    op->opened = true;
    return class->open == NULL ? IMV_OK : class->open(op);
}

imv_status imv_operator_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct imv_exec *exec = op->exec;
    int64_t from_ns = exec->profile ? imv_clock_monotonic_ns(exec->clock) : 0;
    *batch = NULL;
    imv_status status = imv_exec_poll(exec);
    if (status == IMV_OK) status = op->class->next(op, batch);
    if (status == IMV_OK && *batch != NULL) {
        imv_assert((*batch)->rows > 0 && (*batch)->rows <= IMV_BATCH_ROWS_MAX);
        op->rows += (*batch)->rows;
    }
    if (exec->profile) op->elapsed_ns += imv_clock_monotonic_ns(exec->clock) - from_ns;
    return status;
}

imv_status imv_operator_restart(struct imv_operator *op) {
    imv_assert(op->class->restart != NULL);
    return op->class->restart(op);
}

void imv_operator_close(struct imv_operator *op) {
    if (op == NULL) return;
    if (op->opened && op->class->close != NULL) op->class->close(op);
    imv_operator_close(op->input);
}

/* ---- batches of a source ---- */

imv_status imv_source_init(struct imv_exec *exec, const struct imv_branch *branch, uint32_t slots_count,
                           struct imv_source *source) {
    if (slots_count == 0) slots_count = branch->compiler.slots_count;
    source->batch.slots = imv_arena_calloc(&exec->arena, slots_count + 1, sizeof *source->batch.slots);
    if (source->batch.slots == NULL) return imv_exec_fail_memory(exec);
    source->batch.slots_count = slots_count;
    imv_exec_arena_init(exec, &source->arena);
    source->batch.arena = &source->arena;
    return IMV_OK;
}

void imv_source_release(struct imv_source *source) {
    if (imv_source_ready(source)) imv_arena_release(&source->arena);
}

void imv_source_reset(struct imv_source *source) {
    imv_arena_reset(&source->arena);
    memset(source->batch.slots, 0, source->batch.slots_count * sizeof *source->batch.slots);
    source->batch.rows = 0;
    source->batch.buckets = NULL;
}

void imv_source_copy_row(struct imv_source *source, const struct imv_row_batch *batch, size_t row) {
    imv_assert(batch->slots_count <= source->batch.slots_count && row < batch->rows);
    for (uint32_t i = 0; i < batch->slots_count; i++) {
        struct imv_column column = batch->slots[i];
        if (!column.constant && column.kind > IMV_COLUMN_NULL) {
            if (column.kind == IMV_COLUMN_VALUES)
                column.values += row;
            else if (imv_column_has(&column, row))
                column.cells += row;
            else
                column = imv_column_null();
            column.valid = NULL;
            column.constant = true;
        }
        source->batch.slots[i] = column;
    }
}
