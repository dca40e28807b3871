#include "query/ops/operator.h"

struct filter {
    struct imv_operator op;
    struct imv_code **predicates;
};

static imv_status filter_open(struct imv_operator *op) {
    struct filter *filter = (struct filter *)op;
    uint32_t count = op->plan->filter.predicates_count;
    filter->predicates = imv_arena_calloc(&op->exec->arena, count + 1, sizeof *filter->predicates);
    if (filter->predicates == NULL) return imv_exec_fail_memory(op->exec);
    for (uint32_t i = 0; i < count; i++)
        IMV_TRY(imv_compile(&op->branch->compiler, op->plan->filter.predicates[i], &filter->predicates[i]));
    return IMV_OK;
}

/* Columns that nobody above reads are not worth copying. Those of properties are behind the plan's and always stay. */
static void forget_unneeded(const struct imv_plan *plan, struct imv_row_batch *batch, uint32_t plan_slots) {
    for (uint32_t i = 0; i < plan_slots; i++)
        if (!imv_plan_needs(plan, i)) batch->slots[i] = (struct imv_column){.kind = IMV_COLUMN_ABSENT};
}

static imv_status filter_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct filter *filter = (struct filter *)op;
    uint16_t picked[IMV_BATCH_ROWS_MAX];
    do {
        IMV_TRY(imv_operator_next(op->input, batch));
        if (*batch == NULL) return IMV_OK;
        uint32_t count = op->plan->filter.predicates_count;
        for (uint32_t i = 0; i < count && (*batch)->rows > 0; i++) {
            size_t kept;
            IMV_TRY(imv_code_pick(op->exec, filter->predicates[i], *batch, picked, &kept));
            if (i + 1 == count && kept > 0) forget_unneeded(op->plan, *batch, op->branch->plan_slots_count);
            if (!imv_row_batch_keep(*batch, picked, kept)) return imv_exec_fail_memory(op->exec);
        }
    } while ((*batch)->rows == 0);
    return IMV_OK;
}

static imv_status filter_restart(struct imv_operator *op) { return imv_operator_restart(op->input); }

const struct imv_operator_class imv_op_filter = {
    .bytes = sizeof(struct filter), .open = filter_open, .next = filter_next, .restart = filter_restart};
