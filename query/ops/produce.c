/* The result's columns, from the slots of a branch, in the order of RETURN. */
#include "query/ops/operator.h"

struct produce {
    struct imv_operator op;
    struct imv_row_batch batch; /* of the columns; memory is the input's */
};

static imv_status produce_open(struct imv_operator *op) {
    struct produce *produce = (struct produce *)op;
    uint32_t count = op->plan->produce.projection->items_count;
    produce->batch.slots = imv_arena_calloc(&op->exec->arena, count + 1, sizeof *produce->batch.slots);
    produce->batch.slots_count = count;
    return produce->batch.slots == NULL ? imv_exec_fail_memory(op->exec) : IMV_OK;
}

static imv_status produce_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct produce *produce = (struct produce *)op;
    struct imv_row_batch *input;
    IMV_TRY(imv_operator_next(op->input, &input));
    if (input == NULL) return IMV_OK;
    for (uint32_t i = 0; i < produce->batch.slots_count; i++) {
        const struct imv_column *column = &input->slots[op->plan->produce.projection->items[i].variable->slot];
        produce->batch.slots[i] = column->kind == IMV_COLUMN_ABSENT ? imv_column_null() : *column;
    }
    produce->batch.rows = input->rows;
    produce->batch.arena = input->arena;
    *batch = &produce->batch;
    return IMV_OK;
}

const struct imv_operator_class imv_op_produce = {
    .bytes = sizeof(struct produce), .open = produce_open, .next = produce_next};
