/* The rows of all branches, one branch after the other. */
#include "query/ops/operator.h"

struct all {
    struct imv_operator op;
    struct imv_operator **branches;
    uint32_t current;
};

static imv_status union_open(struct imv_operator *op) {
    struct all *all = (struct all *)op;
    uint32_t count = op->plan->union_.branches_count;
    all->branches = imv_arena_calloc(&op->exec->arena, count + 1, sizeof(struct imv_operator *));
    if (all->branches == NULL) return imv_exec_fail_memory(op->exec);
    for (uint32_t i = 0; i < count; i++)
        IMV_TRY(imv_operator_open(op->exec, NULL, op->plan->union_.branches[i], &all->branches[i]));
    return IMV_OK;
}

static imv_status union_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct all *all = (struct all *)op;
    for (; all->current < op->plan->union_.branches_count; all->current++) {
        IMV_TRY(imv_operator_next(all->branches[all->current], batch));
        if (*batch != NULL) return IMV_OK;
    }
    return IMV_OK;
}

static void union_close(struct imv_operator *op) {
    struct all *all = (struct all *)op;
    for (uint32_t i = 0; all->branches != NULL && i < op->plan->union_.branches_count; i++)
        imv_operator_close(all->branches[i]);
}

const struct imv_operator_class imv_op_union = {
    .bytes = sizeof(struct all), .open = union_open, .next = union_next, .close = union_close};

const struct imv_operator *imv_union_branch(const struct imv_operator *op, uint32_t i) {
    return ((const struct all *)op)->branches[i];
}
