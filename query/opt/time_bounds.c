#include "query/expr.h"
#include "query/opt/opt.h"

struct scan_search {
    const struct imv_plan *scan;
    bool found;
};

static void search_own(uint32_t slot, void *context) {
    struct scan_search *search = context;
    search->found |= slot == search->scan->sample_scan.samples->variable->slot;
    for (uint32_t i = 0; i < search->scan->sample_scan.fields_count; i++)
        search->found |= slot == search->scan->sample_scan.fields[i].slot;
}

static bool is_time(const struct imv_plan *scan, const struct imv_expr *expr) {
    if (expr->kind != IMV_EXPR_VARIABLE || expr->variable.local) return false;
    for (uint32_t i = 0; i < scan->sample_scan.fields_count; i++) {
        const struct imv_field_slot *field = &scan->sample_scan.fields[i];
        if (field->slot == expr->variable.slot) return imv_str_equal(field->name, IMV_STR("ts"));
    }
    return false;
}

/* ts op value, or value op ts, where the value is known before the sample is. */
static bool bound_of(const struct imv_plan *scan, const struct imv_expr *predicate, struct imv_plan_bound *bound) {
    if (predicate->kind != IMV_EXPR_BINARY) return false;
    enum imv_binary_op op = predicate->binary.op;
    if (op < IMV_BINARY_EQUAL || op > IMV_BINARY_GREATER_EQUAL || op == IMV_BINARY_NOT_EQUAL) return false;
    bool left = is_time(scan, predicate->binary.left);
    if (!left && !is_time(scan, predicate->binary.right)) return false;
    *bound = (struct imv_plan_bound){.op = left ? op : imv_comparison_mirrored(op),
                                     .value = left ? predicate->binary.right : predicate->binary.left};
    struct scan_search search = {scan, false};
    imv_expr_each_slot(bound->value, search_own, &search);
    return !search.found && !imv_expr_is_volatile(bound->value);
}

static imv_status take_bounds(struct imv_exec *exec, struct imv_plan *filter, struct imv_plan *scan) {
    uint32_t count = filter->filter.predicates_count, kept = 0, taken = 0;
    struct imv_plan_bound *bounds = imv_arena_calloc(&exec->arena, count, sizeof *bounds);
    if (bounds == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_expr *predicate = filter->filter.predicates[i];
        if (bound_of(scan, predicate, &bounds[taken]))
            taken++;
        else
            filter->filter.predicates[kept++] = predicate;
    }
    filter->filter.predicates_count = kept;
    scan->sample_scan.bounds = bounds;
    scan->sample_scan.bounds_count = taken;
    return IMV_OK;
}

imv_status imv_rule_time_bounds(struct imv_exec *exec, struct imv_plan **plan) {
    struct imv_plan *input = (*plan)->input;
    if ((*plan)->kind == IMV_PLAN_FILTER && input->kind == IMV_PLAN_SAMPLE_SCAN) {
        IMV_TRY(take_bounds(exec, *plan, input));
        if ((*plan)->filter.predicates_count == 0) *plan = input;
    }
    return imv_rule_below(exec, *plan, imv_rule_time_bounds);
}
