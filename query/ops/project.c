#include "query/ops/operator.h"

struct project {
    struct imv_operator op;
    struct imv_code **codes;
};

static imv_status project_open(struct imv_operator *op) {
    struct project *project = (struct project *)op;
    uint32_t count = op->plan->project.items_count;
    project->codes = imv_arena_calloc(&op->exec->arena, count + 1, sizeof *project->codes);
    if (project->codes == NULL) return imv_exec_fail_memory(op->exec);
    for (uint32_t i = 0; i < count; i++)
        IMV_TRY(imv_compile(&op->branch->compiler, op->plan->project.items[i].expr, &project->codes[i]));
    return IMV_OK;
}

/* One after the other: a later item may read the slot of an earlier one. */
static imv_status project_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct project *project = (struct project *)op;
    IMV_TRY(imv_operator_next(op->input, batch));
    if (*batch == NULL) return IMV_OK;
    for (uint32_t i = 0; i < op->plan->project.items_count; i++) {
        struct imv_column column;
        IMV_TRY(imv_code_column(op->exec, project->codes[i], *batch, &column));
        (*batch)->slots[op->plan->project.items[i].slot] = column;
    }
    return IMV_OK;
}

const struct imv_operator_class imv_op_project = {
    .bytes = sizeof(struct project), .open = project_open, .next = project_next};
