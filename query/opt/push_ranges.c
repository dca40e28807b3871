#include "query/expr.h"
#include "query/opt/opt.h"

/* The field of the scan that an expression is, the time not being one; UINT32_MAX: none. */
static uint32_t field_of(const struct imv_plan *scan, const struct imv_expr *expr) {
    if (expr->kind != IMV_EXPR_VARIABLE || expr->variable.local) return UINT32_MAX;
    for (uint32_t i = 0; i < scan->sample_scan.fields_count; i++) {
        const struct imv_field_slot *field = &scan->sample_scan.fields[i];
        if (field->slot == expr->variable.slot) return imv_str_equal(field->name, IMV_STR("ts")) ? UINT32_MAX : i;
    }
    return UINT32_MAX;
}

/* The value must be there before any row is, so its computing must not fail. */
static bool is_constant(const struct imv_exec *exec, const struct imv_expr *expr) {
    return !imv_expr_reads_any_slot(expr) && !imv_expr_is_volatile(expr) && !imv_expr_can_fail(expr, exec->parameters);
}

static bool range_of(const struct imv_exec *exec, const struct imv_plan *scan, const struct imv_expr *predicate,
                     struct imv_plan_range *range) {
    if (predicate->kind != IMV_EXPR_BINARY) return false;
    enum imv_binary_op op = predicate->binary.op;
    if (op < IMV_BINARY_EQUAL || op > IMV_BINARY_GREATER_EQUAL || op == IMV_BINARY_NOT_EQUAL) return false;
    uint32_t left = field_of(scan, predicate->binary.left), right = field_of(scan, predicate->binary.right);
    bool is_left = left != UINT32_MAX;
    if (!is_left && right == UINT32_MAX) return false;
    *range = (struct imv_plan_range){.field = is_left ? left : right,
                                     .op = is_left ? op : imv_comparison_mirrored(op),
                                     .value = is_left ? predicate->binary.right : predicate->binary.left};
    return is_constant(exec, range->value);
}

/* A predicate that can fail on a row must meet it, and so must those behind it: it may be kept from failing only by one
 * before it. */
static imv_status take_ranges(struct imv_exec *exec, const struct imv_plan *filter, struct imv_plan *scan) {
    uint32_t count = filter->filter.predicates_count, taken = 0;
    struct imv_plan_range *ranges = imv_arena_calloc(&exec->arena, count, sizeof *ranges);
    if (ranges == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_expr *predicate = filter->filter.predicates[i];
        if (imv_expr_can_fail(predicate, exec->parameters)) break;
        taken += range_of(exec, scan, predicate, &ranges[taken]);
    }
    scan->sample_scan.ranges = ranges;
    scan->sample_scan.ranges_count = taken;
    return IMV_OK;
}

imv_status imv_rule_push_ranges(struct imv_exec *exec, struct imv_plan **plan) {
    struct imv_plan *input = (*plan)->input;
    if (exec->request->without & IMV_QUERY_RANGES) return IMV_OK;
    if ((*plan)->kind == IMV_PLAN_FILTER && input->kind == IMV_PLAN_SAMPLE_SCAN)
        IMV_TRY(take_ranges(exec, *plan, input));
    return imv_rule_below(exec, *plan, imv_rule_push_ranges);
}
