#include "query/ops/operator.h"

struct start {
    struct imv_operator op;
    struct imv_source source;
    bool given;
};

static imv_status start_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct start *start = (struct start *)op;
    if (start->given) return IMV_OK;
    if (!imv_source_ready(&start->source)) IMV_TRY(imv_source_init(op->exec, op->branch, 0, &start->source));
    imv_source_reset(&start->source);
    if (op->branch->outer != NULL) imv_source_copy_row(&start->source, op->branch->outer, 0);
    start->source.batch.rows = 1;
    start->given = true;
    *batch = &start->source.batch;
    return IMV_OK;
}

static imv_status start_restart(struct imv_operator *op) {
    ((struct start *)op)->given = false;
    return IMV_OK;
}

static void start_close(struct imv_operator *op) { imv_source_release(&((struct start *)op)->source); }

const struct imv_operator_class imv_op_start = {
    .bytes = sizeof(struct start), .next = start_next, .restart = start_restart, .close = start_close};
