#include "engine/catalog.h"
#include "query/expr.h"
#include "query/opt/opt.h"

/* Is expr the property of the scan's variable that is a tag, or at least no field? A field has another value in each
 * row, a tag is what the index knows. */
static bool is_tag(struct imv_exec *exec, const struct imv_plan *scan, const struct imv_expr *expr) {
    const struct imv_node_pattern *node = scan->twin_scan.node;
    if (expr->kind != IMV_EXPR_PROPERTY || expr->property.base->kind != IMV_EXPR_VARIABLE) return false;
    if (expr->property.base->variable.local || expr->property.base->variable.slot != node->variable->slot) return false;
    if (node->labels == NULL || node->labels->kind != IMV_LABEL_NAME) return false;
    struct imv_label *label = imv_catalog_find_label(exec->catalog, node->labels->name);
    return label != NULL && imv_label_find_field(exec->catalog, label, expr->property.name) == NULL;
}

/* A value that is known before the twin is, and that a tag's text can equal: a time would be read from it. */
static bool is_value(const struct imv_plan *scan, const struct imv_expr *expr) {
    return expr->type != IMV_STATIC_TIME && !imv_expr_reads_slot(expr, scan->twin_scan.node->variable->slot) &&
           !imv_expr_is_volatile(expr);
}

static bool condition_of(struct imv_exec *exec, const struct imv_plan *scan, const struct imv_expr *predicate,
                         struct imv_plan_condition *condition) {
    if (predicate->kind != IMV_EXPR_BINARY) return false;
    const struct imv_expr *tag = predicate->binary.left, *value = predicate->binary.right;
    bool in = predicate->binary.op == IMV_BINARY_IN;
    if (!in && predicate->binary.op != IMV_BINARY_EQUAL) return false;
    if (!in && !is_tag(exec, scan, tag)) {
        tag = predicate->binary.right;
        value = predicate->binary.left;
    }
    if (!is_tag(exec, scan, tag) || !is_value(scan, value)) return false;
    *condition = (struct imv_plan_condition){.key = tag->property.name, .value = value, .in = in};
    return true;
}

static imv_status take_conditions(struct imv_exec *exec, struct imv_plan *filter, struct imv_plan *scan) {
    uint32_t count = filter->filter.predicates_count, kept = 0, taken = 0;
    struct imv_plan_condition *conditions = imv_arena_calloc(&exec->arena, count, sizeof *conditions);
    if (conditions == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_expr *predicate = filter->filter.predicates[i];
        if (condition_of(exec, scan, predicate, &conditions[taken]))
            taken++;
        else
            filter->filter.predicates[kept++] = predicate;
    }
    filter->filter.predicates_count = kept;
    scan->twin_scan.conditions = conditions;
    scan->twin_scan.conditions_count = taken;
    return IMV_OK;
}

imv_status imv_rule_tag_conditions(struct imv_exec *exec, struct imv_plan **plan) {
    struct imv_plan *input = (*plan)->input;
    if ((*plan)->kind == IMV_PLAN_FILTER && input->kind == IMV_PLAN_TWIN_SCAN) {
        IMV_TRY(take_conditions(exec, *plan, input));
        if ((*plan)->filter.predicates_count == 0) *plan = input;
    }
    return imv_rule_below(exec, *plan, imv_rule_tag_conditions);
}
