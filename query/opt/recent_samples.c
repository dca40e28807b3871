#include "query/expr.h"
#include "query/opt/opt.h"

static bool reads_slots(const struct imv_expr *expr) { return expr != NULL && imv_expr_reads_any_slot(expr); }

bool imv_plan_can_restart(const struct imv_plan *scan) {
    const struct imv_samples *samples = scan->sample_scan.samples;
    if (reads_slots(samples->from) || reads_slots(samples->to)) return false;
    for (uint32_t i = 0; i < scan->sample_scan.bounds_count; i++)
        if (reads_slots(scan->sample_scan.bounds[i].value)) return false;
    const struct imv_plan *below = scan->input;
    while (below->kind == IMV_PLAN_FILTER || below->kind == IMV_PLAN_TWIN_SCAN) below = below->input;
    return below->kind == IMV_PLAN_START;
}

/* The expression that a slot is given by a Project between top and scan; NULL: none. */
static const struct imv_expr *projected(const struct imv_plan *top, const struct imv_plan *scan, uint32_t slot) {
    for (const struct imv_plan *plan = top->input; plan != scan; plan = plan->input) {
        if (plan->kind != IMV_PLAN_PROJECT) continue;
        for (uint32_t i = plan->project.items_count; i-- > 0;)
            if (plan->project.items[i].slot == slot) return plan->project.items[i].expr;
    }
    return NULL;
}

/* Is an expression the time of the scan's samples, by whatever name? */
static bool is_time(const struct imv_plan *top, const struct imv_plan *scan, const struct imv_expr *expr) {
    for (int names = 0; names < 8 && expr->kind == IMV_EXPR_VARIABLE && !expr->variable.local; names++) {
        uint32_t slot = expr->variable.slot;
        for (uint32_t i = 0; i < scan->sample_scan.fields_count; i++) {
            const struct imv_field_slot *field = &scan->sample_scan.fields[i];
            if (field->slot == slot) return imv_str_equal(field->name, IMV_STR("ts"));
        }
        expr = projected(top, scan, slot);
        if (expr == NULL) return false;
    }
    return false;
}

static void mark(struct imv_plan *top) {
    const struct imv_plan *scan = top->input;
    while (scan->kind == IMV_PLAN_PROJECT || scan->kind == IMV_PLAN_FILTER || scan->kind == IMV_PLAN_WINDOW)
        scan = scan->input;
    if (scan->kind != IMV_PLAN_SAMPLE_SCAN || !imv_plan_can_restart(scan)) return;
    if (top->sort.keys_count == 0 || !top->sort.keys[0].descending) return;
    top->sort.is_recent = is_time(top, scan, top->sort.keys[0].expr);
}

imv_status imv_rule_recent_samples(struct imv_exec *exec, struct imv_plan **plan) {
    if (exec->request->without & IMV_QUERY_RECENT) return IMV_OK;
    if ((*plan)->kind == IMV_PLAN_TOP) mark(*plan);
    return imv_rule_below(exec, *plan, imv_rule_recent_samples);
}
