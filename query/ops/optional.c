/* OPTIONAL MATCH: the inner plan runs once per outer row; when it gives nothing the outer row passes with nulls. */
#include "query/ops/operator.h"

struct optional {
    struct imv_operator op;
    struct imv_operator *inner;
    struct imv_source row;  /* the outer row, alone */
    struct imv_source none; /* the same with nulls */
    struct imv_row_batch *input;
    size_t next_row;
    bool inside, any; /* the inner plan is under way, and has given rows */
};

static imv_status optional_open(struct imv_operator *op) {
    struct optional *optional = (struct optional *)op;
    return imv_operator_open(op->exec, op->branch, op->plan->optional.inner, &optional->inner);
}

/* The next outer row, alone in a batch of its own. *end when there is none. */
static imv_status begin_row(struct optional *optional, bool *end) {
    *end = false;
    if (optional->input == NULL || optional->next_row >= optional->input->rows) {
        optional->next_row = 0;
        IMV_TRY(imv_operator_next(optional->op.input, &optional->input));
        *end = optional->input == NULL;
        if (*end) return IMV_OK;
    }
    imv_source_reset(&optional->row);
    imv_source_copy_row(&optional->row, optional->input, optional->next_row++);
    optional->row.batch.rows = 1;
    optional->inside = true;
    optional->any = false;
    return imv_operator_restart(optional->inner);
}

static void give_none(struct optional *optional) {
    const struct imv_plan *plan = optional->op.plan;
    imv_source_reset(&optional->none);
    imv_source_copy_row(&optional->none, &optional->row.batch, 0);
    for (uint32_t i = 0; i < plan->optional.slots_count; i++)
        optional->none.batch.slots[plan->optional.slots[i]] = imv_column_null();
    optional->none.batch.rows = 1;
}

static imv_status optional_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct optional *optional = (struct optional *)op;
    struct imv_branch *branch = op->branch;
    if (!imv_source_ready(&optional->row)) {
        IMV_TRY(imv_source_init(op->exec, branch, 0, &optional->row));
        IMV_TRY(imv_source_init(op->exec, branch, 0, &optional->none));
    }
    for (;;) {
        bool end;
        if (!optional->inside) {
            IMV_TRY(begin_row(optional, &end));
            if (end) return IMV_OK;
        }
        struct imv_row_batch *outer = branch->outer;
        branch->outer = &optional->row.batch;
        imv_status status = imv_operator_next(optional->inner, batch);
        branch->outer = outer;
        if (status != IMV_OK) return status;
        if (*batch != NULL) {
            optional->any = true;
            return IMV_OK;
        }
        optional->inside = false;
        if (optional->any) continue;
        give_none(optional);
        *batch = &optional->none.batch;
        return IMV_OK;
    }
}

static void optional_close(struct imv_operator *op) {
    struct optional *optional = (struct optional *)op;
    imv_operator_close(optional->inner);
    imv_source_release(&optional->row);
    imv_source_release(&optional->none);
}

const struct imv_operator_class imv_op_optional = {
    .bytes = sizeof(struct optional), .open = optional_open, .next = optional_next, .close = optional_close};

const struct imv_operator *imv_optional_inner(const struct imv_operator *op) {
    return ((const struct optional *)op)->inner;
}
