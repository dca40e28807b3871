#include "query/group_table.h"
#include "query/ops/operator.h"

struct distinct {
    struct imv_operator op;
    struct imv_group_table table;
    struct imv_value *keys;
};

static imv_status distinct_open(struct imv_operator *op) {
    struct distinct *distinct = (struct distinct *)op;
    uint32_t count = op->plan->distinct.slots_count;
    imv_group_table_init(op->exec, count, 0, &distinct->table);
    distinct->keys = imv_arena_calloc(&op->exec->arena, count + 1, sizeof *distinct->keys);
    return distinct->keys == NULL ? imv_exec_fail_memory(op->exec) : IMV_OK;
}

static imv_status pick_new(struct distinct *distinct, struct imv_row_batch *batch, uint16_t *picked, size_t *count) {
    const struct imv_plan *plan = distinct->op.plan;
    *count = 0;
    for (size_t row = 0; row < batch->rows; row++) {
        struct imv_group *group;
        bool added;
        for (uint32_t i = 0; i < plan->distinct.slots_count; i++)
            distinct->keys[i] = imv_column_value(&batch->slots[plan->distinct.slots[i]], row);
        uint64_t hash = imv_group_hash(distinct->keys, plan->distinct.slots_count, distinct->op.exec->hash_seed);
        IMV_TRY(imv_group_table_find(&distinct->table, distinct->keys, hash, &group, &added));
        if (added) picked[(*count)++] = (uint16_t)row;
    }
    return IMV_OK;
}

static imv_status distinct_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct distinct *distinct = (struct distinct *)op;
    uint16_t picked[IMV_BATCH_ROWS_MAX];
    size_t count = 0;
    do {
        IMV_TRY(imv_operator_next(op->input, batch));
        if (*batch == NULL) return IMV_OK;
        IMV_TRY(pick_new(distinct, *batch, picked, &count));
        if (!imv_row_batch_keep(*batch, picked, count)) return imv_exec_fail_memory(op->exec);
    } while (count == 0);
    return IMV_OK;
}

static void distinct_close(struct imv_operator *op) { imv_group_table_release(&((struct distinct *)op)->table); }

const struct imv_operator_class imv_op_distinct = {
    .bytes = sizeof(struct distinct), .open = distinct_open, .next = distinct_next, .close = distinct_close};
