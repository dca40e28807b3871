#include "query/opt/opt.h"

imv_status imv_rule_top(struct imv_exec *exec, struct imv_plan **plan) {
    struct imv_plan *limit = *plan;
    if (limit->kind == IMV_PLAN_LIMIT) {
        struct imv_plan *skip = limit->input->kind == IMV_PLAN_SKIP ? limit->input : NULL;
        struct imv_plan *sort = skip != NULL ? skip->input : limit->input;
        if (sort->kind == IMV_PLAN_SORT) {
            sort->kind = IMV_PLAN_TOP;
            sort->sort.skip = skip != NULL ? skip->count : NULL;
            sort->sort.limit = limit->count;
        }
    }
    return imv_rule_below(exec, limit, imv_rule_top);
}
