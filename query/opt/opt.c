#include "query/opt/opt.h"

imv_status imv_rule_below(struct imv_exec *exec, struct imv_plan *plan, imv_rule *rule) {
    if (plan->kind == IMV_PLAN_OPTIONAL) IMV_TRY(rule(exec, &plan->optional.inner));
    if (plan->kind == IMV_PLAN_UNION)
        for (uint32_t i = 0; i < plan->union_.branches_count; i++) IMV_TRY(rule(exec, &plan->union_.branches[i]));
    return plan->input == NULL ? IMV_OK : rule(exec, &plan->input);
}

imv_status imv_optimize(struct imv_exec *exec, struct imv_plan **plan) {
    IMV_TRY(imv_rule_push_filters(exec, plan));
    IMV_TRY(imv_rule_tag_conditions(exec, plan));
    IMV_TRY(imv_rule_time_bounds(exec, plan));
    IMV_TRY(imv_rule_push_ranges(exec, plan));
    IMV_TRY(imv_rule_push_buckets(exec, plan));
    IMV_TRY(imv_rule_top(exec, plan));
    IMV_TRY(imv_rule_recent_windows(exec, plan));
    IMV_TRY(imv_rule_recent_samples(exec, plan));
    return imv_rule_needed_slots(exec, plan);
}
