/* SKIP and LIMIT. */
#include "query/ops/operator.h"

struct counted {
    struct imv_operator op;
    struct imv_code *code;
    bool known;
    uint64_t left; /* rows still to be dropped, or to be given */
};

static imv_status counted_open(struct imv_operator *op) {
    return imv_compile(&op->branch->compiler, op->plan->count, &((struct counted *)op)->code);
}

static imv_status read_count(struct counted *counted) {
    struct imv_exec *exec = counted->op.exec;
    const char *clause = counted->op.plan->kind == IMV_PLAN_SKIP ? "SKIP" : "LIMIT";
    struct imv_value value;
    if (counted->known) return IMV_OK;
    IMV_TRY(imv_code_value(exec, counted->code, &value));
    struct imv_span span = imv_code_span(counted->code);
    if (value.kind != IMV_VALUE_INTEGER)
        return imv_exec_fail(exec, IMV_INVALID, span, "SyntaxError", "InvalidArgumentType",
                             "%s needs an integer, not a %s", clause, imv_value_kind_name(value.kind));
    if (value.integer < 0)
        return imv_exec_fail(exec, IMV_INVALID, span, "SyntaxError", "NegativeIntegerArgument", "%s cannot be negative",
                             clause);
    counted->left = (uint64_t)value.integer;
    counted->known = true;
    return IMV_OK;
}

static imv_status keep(struct imv_exec *exec, struct imv_row_batch *batch, size_t first, size_t count) {
    uint16_t picked[IMV_BATCH_ROWS_MAX];
    for (size_t i = 0; i < count; i++) picked[i] = (uint16_t)(first + i);
    return imv_row_batch_keep(batch, picked, count) ? IMV_OK : imv_exec_fail_memory(exec);
}

static imv_status skip_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct counted *skip = (struct counted *)op;
    IMV_TRY(read_count(skip));
    for (;;) {
        IMV_TRY(imv_operator_next(op->input, batch));
        if (*batch == NULL || skip->left == 0) return IMV_OK;
        size_t rows = (*batch)->rows;
        if (skip->left < rows) break;
        skip->left -= rows;
    }
    size_t dropped = skip->left;
    skip->left = 0;
    return keep(op->exec, *batch, dropped, (*batch)->rows - dropped);
}

static imv_status limit_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct counted *limit = (struct counted *)op;
    IMV_TRY(read_count(limit));
    if (limit->left == 0) return IMV_OK;
    IMV_TRY(imv_operator_next(op->input, batch));
    if (*batch == NULL) return IMV_OK;
    size_t rows = (*batch)->rows < limit->left ? (*batch)->rows : limit->left;
    limit->left -= rows;
    (*batch)->rows = rows; /* the columns have more rows than the batch, which harms nobody */
    return IMV_OK;
}

const struct imv_operator_class imv_op_skip = {
    .bytes = sizeof(struct counted), .open = counted_open, .next = skip_next};
const struct imv_operator_class imv_op_limit = {
    .bytes = sizeof(struct counted), .open = counted_open, .next = limit_next};
