#include "query/expr.h"
#include "query/opt/opt.h"

struct writes_search {
    const struct imv_expr *predicate;
    bool found;
};

static void search_writes(uint32_t slot, void *context) {
    struct writes_search *search = context;
    search->found |= imv_expr_reads_slot(search->predicate, slot);
}

/* Do the rows that pass below an operator pass above it, and only these? */
static bool can_pass(const struct imv_plan *plan, const struct imv_expr *predicate) {
    struct writes_search search = {predicate, false};
    switch (plan->kind) {
        case IMV_PLAN_FILTER:
        case IMV_PLAN_SORT: return true;
        case IMV_PLAN_TWIN_SCAN:
        case IMV_PLAN_SAMPLE_SCAN:
        case IMV_PLAN_WINDOW:
        case IMV_PLAN_PROJECT:
        case IMV_PLAN_UNWIND: imv_plan_each_write(plan, search_writes, &search); return !search.found;
        default: return false;
    }
}

static imv_status append(struct imv_exec *exec, struct imv_plan *filter, const struct imv_expr *predicate) {
    uint32_t count = filter->filter.predicates_count;
    const struct imv_expr **predicates = imv_arena_calloc(&exec->arena, count + 1, sizeof *predicates);
    if (predicates == NULL) return imv_exec_fail_memory(exec);
    if (count > 0) memcpy(predicates, filter->filter.predicates, count * sizeof *predicates);
    predicates[count] = predicate;
    filter->filter.predicates = predicates;
    filter->filter.predicates_count = count + 1;
    return IMV_OK;
}

/* Puts the predicate above *link, or further down. */
static imv_status sink(struct imv_exec *exec, struct imv_plan **link, const struct imv_expr *predicate) {
    while ((*link)->kind != IMV_PLAN_FILTER && can_pass(*link, predicate)) link = &(*link)->input;
    if ((*link)->kind == IMV_PLAN_FILTER) {
        if (can_pass((*link)->input, predicate)) return sink(exec, &(*link)->input, predicate);
        return append(exec, *link, predicate);
    }
    struct imv_plan *filter = imv_arena_calloc(&exec->arena, 1, sizeof *filter);
    if (filter == NULL) return imv_exec_fail_memory(exec);
    *filter = (struct imv_plan){.kind = IMV_PLAN_FILTER, .input = *link};
    *link = filter;
    return append(exec, filter, predicate);
}

/* Predicates that stay are moved to the front of the list. */
static imv_status push_filter(struct imv_exec *exec, struct imv_plan *filter) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < filter->filter.predicates_count; i++) {
        const struct imv_expr *predicate = filter->filter.predicates[i];
        bool moves = !imv_expr_can_fail(predicate, exec->parameters) && !imv_expr_is_volatile(predicate);
        if (moves && can_pass(filter->input, predicate))
            IMV_TRY(sink(exec, &filter->input, predicate));
        else
            filter->filter.predicates[kept++] = predicate;
    }
    filter->filter.predicates_count = kept;
    return IMV_OK;
}

imv_status imv_rule_push_filters(struct imv_exec *exec, struct imv_plan **plan) {
    while ((*plan)->kind == IMV_PLAN_FILTER) {
        IMV_TRY(push_filter(exec, *plan));
        if ((*plan)->filter.predicates_count > 0) break;
        *plan = (*plan)->input;
    }
    return imv_rule_below(exec, *plan, imv_rule_push_filters);
}
