#include "query/expr.h"
#include "query/opt/opt.h"

static bool is_slot(const struct imv_expr *expr, uint32_t slot) {
    return expr->kind == IMV_EXPR_VARIABLE && !expr->variable.local && expr->variable.slot == slot;
}

/* The Aggregate below a Top, with nothing but projections between. */
static struct imv_plan *find_aggregate(struct imv_plan *top) {
    struct imv_plan *plan = top->input;
    while (plan->kind == IMV_PLAN_PROJECT) plan = plan->input;
    return plan->kind == IMV_PLAN_AGGREGATE ? plan : NULL;
}

static uint32_t window_start_slot(const struct imv_plan *window) {
    for (uint32_t i = 0; i < window->window.fields_count; i++)
        if (imv_str_equal(window->window.fields[i].name, IMV_STR("start"))) return window->window.fields[i].slot;
    return UINT32_MAX;
}

/* Is the first sort key the start of the windows, the newest first? */
static bool sorts_by_start(const struct imv_plan *top, const struct imv_plan *aggregate,
                           const struct imv_plan *window) {
    uint32_t start = window_start_slot(window);
    if (top->sort.keys_count == 0 || !top->sort.keys[0].descending) return false;
    for (uint32_t i = 0; i < aggregate->aggregate.keys_count; i++) {
        const struct imv_plan_item *key = &aggregate->aggregate.keys[i];
        if (is_slot(key->expr, start) && is_slot(top->sort.keys[0].expr, key->slot)) return true;
    }
    return false;
}

static void mark(struct imv_plan *top) {
    struct imv_plan *aggregate = find_aggregate(top);
    if (aggregate == NULL || aggregate->aggregate.bucket_fields == NULL) return;
    const struct imv_plan *window = aggregate->input;
    if (window->kind != IMV_PLAN_WINDOW || !imv_plan_can_restart(window->input)) return;
    if (!sorts_by_start(top, aggregate, window)) return;
    aggregate->aggregate.recent_limit = top->sort.limit;
    aggregate->aggregate.recent_skip = top->sort.skip;
}

imv_status imv_rule_recent_windows(struct imv_exec *exec, struct imv_plan **plan) {
    if (exec->request->without & IMV_QUERY_RECENT) return IMV_OK;
    if ((*plan)->kind == IMV_PLAN_TOP) mark(*plan);
    return imv_rule_below(exec, *plan, imv_rule_recent_windows);
}
