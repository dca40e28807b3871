/* Deletes the samples of the twins that its input names, between two times that are the same for all. Rows pass
 * through; when the last one is there, the engine is told, label by label, and asked for durability. Above it stands an
 * aggregate, so nothing is answered before.
 *
 * A plain scan of one label is deleted as a whole, which costs the same for a million twins as for one; anything else
 * as a list. The statement's deadline and cancellation end the waiting, not a deletion that is under way. */
#include "engine/engine.h"
#include "query/error.h"
#include "query/ops/operator.h"

/* Between looks at the deadline. */
static const int64_t wait_ns = INT64_C(20) * 1000000;

/* Twins of one label. */
struct victims {
    struct victims *next;
    struct imv_label *label;
    struct imv_series **series; /* charged to the budget */
    size_t count, capacity;
};

struct deleter {
    struct imv_operator op;
    struct imv_code *node, *from, *to;
    struct victims *victims;
    bool begun;
    int64_t first, last; /* of the range; first > last: empty */
};

static imv_status delete_open(struct imv_operator *op) {
    struct deleter *deleter = (struct deleter *)op;
    struct imv_compiler *compiler = &op->branch->compiler;
    IMV_TRY(imv_compile(compiler, op->plan->deleted->node, &deleter->node));
    IMV_TRY(imv_compile_optional(compiler, op->plan->deleted->from, &deleter->from));
    return imv_compile_optional(compiler, op->plan->deleted->to, &deleter->to);
}

/* ---- the range ---- */

static imv_status bound_value(struct deleter *deleter, const struct imv_code *code, int64_t *ns) {
    struct imv_value value;
    if (code == NULL) return IMV_OK;
    IMV_TRY(imv_code_value(deleter->op.exec, code, &value));
    if (imv_value_as_time(&value, ns)) return IMV_OK;
    return imv_exec_fail(deleter->op.exec, IMV_INVALID, imv_code_span(code), "ArgumentError", "InvalidArgumentValue",
                         "FROM and TO need a date-time, its RFC 3339 text or integer nanoseconds, this is a %s",
                         imv_value_kind_name(value.kind));
}

static imv_status find_range(struct deleter *deleter) {
    int64_t to = INT64_MAX;
    deleter->first = INT64_MIN;
    IMV_TRY(bound_value(deleter, deleter->from, &deleter->first));
    IMV_TRY(bound_value(deleter, deleter->to, &to));
    deleter->last = deleter->to == NULL ? INT64_MAX : to - (to > INT64_MIN);
    if (deleter->to != NULL && to == INT64_MIN) deleter->first = INT64_MAX;
    return IMV_OK;
}

/* ---- the twins ---- */

static imv_status find_victims(struct deleter *deleter, struct imv_label *label, struct victims **found) {
    for (*found = deleter->victims; *found != NULL; *found = (*found)->next) {
        if ((*found)->label == label) return IMV_OK;
    }
    *found = imv_arena_calloc(&deleter->op.exec->arena, 1, sizeof **found);
    if (*found == NULL) return imv_exec_fail_memory(deleter->op.exec);
    **found = (struct victims){.next = deleter->victims, .label = label};
    deleter->victims = *found;
    return IMV_OK;
}

static imv_status add_victim(struct deleter *deleter, struct imv_series *series) {
    struct imv_exec *exec = deleter->op.exec;
    struct victims *victims;
    IMV_TRY(find_victims(deleter, series->label, &victims));
    if (victims->count == victims->capacity) {
        size_t capacity = victims->capacity == 0 ? 64 : victims->capacity * 2;
        struct imv_series **grown = imv_exec_take(exec, capacity * sizeof(struct imv_series *));
        if (grown == NULL) return imv_exec_fail_memory(exec);
        if (victims->count > 0) memcpy(grown, victims->series, victims->count * sizeof(struct imv_series *));
        imv_exec_give(exec, victims->series, victims->capacity * sizeof(struct imv_series *));
        victims->series = grown;
        victims->capacity = capacity;
    }
    victims->series[victims->count++] = series;
    return IMV_OK;
}

static imv_status add_batch(struct deleter *deleter, struct imv_row_batch *batch) {
    struct imv_exec *exec = deleter->op.exec;
    struct imv_column nodes;
    IMV_TRY(imv_code_column(exec, deleter->node, batch, &nodes));
    for (size_t row = 0; row < batch->rows; row++) {
        struct imv_value node = imv_column_value(&nodes, row);
        if (node.kind == IMV_VALUE_NULL) continue;
        if (node.kind != IMV_VALUE_TWIN) {
            return imv_exec_fail(exec, IMV_INVALID, imv_code_span(deleter->node), "TypeError", "InvalidArgumentType",
                                 "only a twin has samples, not a %s", imv_value_kind_name(node.kind));
        }
        IMV_TRY(add_victim(deleter, node.twin));
    }
    return IMV_OK;
}

/* Are the rows all twins of one label, whatever they are? */
static bool is_whole_label(const struct imv_plan *plan) {
    const struct imv_plan *scan = plan->input;
    if (scan->kind != IMV_PLAN_TWIN_SCAN || scan->input->kind != IMV_PLAN_START) return false;
    const struct imv_node_pattern *node = scan->twin_scan.node;
    return scan->twin_scan.tags == NULL && node->labels != NULL && node->labels->kind == IMV_LABEL_NAME &&
           node->variable->slot == plan->deleted->node->variable.slot;
}

/* ---- the deletion ---- */

static imv_status fail_delete(struct imv_exec *exec, const struct imv_error *err) {
    return imv_query_fail_nowhere(exec->error, err->status, "StorageError", "Failed", "%s", err->message);
}

static imv_status await(struct imv_exec *exec, struct imv_deletion_request *request) {
    for (;;) {
        struct imv_error err = {0};
        imv_status status = imv_engine_delete_wait(exec->engine, request, wait_ns, &err);
        if (status == IMV_OK) return IMV_OK;
        if (status != IMV_BUSY) return fail_delete(exec, &err);
        IMV_TRY(imv_exec_poll(exec));
    }
}

static imv_status delete_one(struct deleter *deleter, const struct victims *victims) {
    struct imv_exec *exec = deleter->op.exec;
    struct imv_deletion deletion = {.label = victims->label,
                                    .whole = is_whole_label(deleter->op.plan),
                                    .series = victims->series,
                                    .series_count = victims->count,
                                    .from = deleter->first,
                                    .last = deleter->last};
    struct imv_deletion_request *request;
    for (;;) {
        struct imv_error err = {0};
        imv_status status = imv_engine_delete_begin(exec->engine, &deletion, wait_ns, &request, &err);
        if (status == IMV_OK) break;
        if (status != IMV_BUSY) return fail_delete(exec, &err);
        IMV_TRY(imv_exec_poll(exec));
    }
    imv_status status = await(exec, request);
    imv_engine_delete_end(request);
    return status;
}

static imv_status delete_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct deleter *deleter = (struct deleter *)op;
    if (!deleter->begun) IMV_TRY(find_range(deleter));
    deleter->begun = true;
    IMV_TRY(imv_operator_next(op->input, batch));
    if (*batch != NULL) return add_batch(deleter, *batch);
    const struct victims *victims = deleter->first <= deleter->last ? deleter->victims : NULL;
    for (; victims != NULL; victims = victims->next) IMV_TRY(delete_one(deleter, victims));
    return IMV_OK;
}

static void delete_close(struct imv_operator *op) {
    for (struct victims *victims = ((struct deleter *)op)->victims; victims != NULL; victims = victims->next) {
        imv_exec_give(op->exec, victims->series, victims->capacity * sizeof(struct imv_series *));
    }
}

const struct imv_operator_class imv_op_delete = {
    .bytes = sizeof(struct deleter), .open = delete_open, .next = delete_next, .close = delete_close};
