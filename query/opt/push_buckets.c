#include "query/expr.h"
#include "query/fn/aggregate.h"
#include "query/opt/opt.h"

/* An Aggregate above a SampleScan, a Window between them or not. */
struct stack {
    struct imv_plan *aggregate, *scan;
    const struct imv_plan *window; /* NULL: none */
};

static bool find_stack(struct imv_plan *plan, struct stack *stack) {
    *stack = (struct stack){.aggregate = plan};
    if (plan->kind != IMV_PLAN_AGGREGATE) return false;
    struct imv_plan *below = plan->input;
    if (below->kind == IMV_PLAN_WINDOW) {
        stack->window = below;
        below = below->input;
    }
    stack->scan = below;
    return below->kind == IMV_PLAN_SAMPLE_SCAN && !below->sample_scan.samples->whole_used;
}

/* The field of the scan that a slot is; UINT32_MAX: none. */
static uint32_t field_of(const struct imv_plan *scan, uint32_t slot) {
    for (uint32_t i = 0; i < scan->sample_scan.fields_count; i++)
        if (scan->sample_scan.fields[i].slot == slot) return i;
    return UINT32_MAX;
}

static bool is_time(const struct imv_plan *scan, uint32_t field) {
    return imv_str_equal(scan->sample_scan.fields[field].name, IMV_STR("ts"));
}

struct key_search {
    const struct imv_plan *scan;
    bool found;
};

static void search_scan(uint32_t slot, void *context) {
    struct key_search *search = context;
    search->found |= slot == search->scan->sample_scan.samples->variable->slot;
    search->found |= field_of(search->scan, slot) != UINT32_MAX;
}

/* Is a key the same for all rows of a bucket? */
static bool key_is_plain(const struct stack *stack, const struct imv_expr *key) {
    struct key_search search = {stack->scan, false};
    imv_expr_each_slot(key, search_scan, &search);
    return !search.found && !imv_expr_is_volatile(key);
}

/* The field whose buckets an aggregate can be made of, UINT32_MAX for count(*); false: it needs the rows. */
static bool aggregate_is_plain(const struct stack *stack, uint32_t i, uint32_t *field) {
    const struct imv_expr *call = stack->aggregate->aggregate.aggregates[i];
    const struct imv_aggregate *state = call->call.function->state;
    uint32_t time_slot = stack->aggregate->aggregate.time_slots[i];
    *field = UINT32_MAX;
    if (state->merge == NULL || call->call.distinct || call->call.count > 1) return false;
    if (call->call.count == 0) return true;
    const struct imv_expr *argument = call->call.arguments[0];
    if (argument->kind != IMV_EXPR_VARIABLE || argument->variable.local) return false;
    *field = field_of(stack->scan, argument->variable.slot);
    if (*field == UINT32_MAX || is_time(stack->scan, *field)) return false;
    return time_slot == UINT32_MAX || field_of(stack->scan, time_slot) != UINT32_MAX;
}

static bool keys_are_plain(const struct stack *stack) {
    for (uint32_t i = 0; i < stack->aggregate->aggregate.keys_count; i++)
        if (!key_is_plain(stack, stack->aggregate->aggregate.keys[i].expr)) return false;
    return true;
}

static imv_status push(struct imv_exec *exec, struct stack *stack) {
    uint32_t count = stack->aggregate->aggregate.aggregates_count;
    uint32_t *fields = imv_arena_calloc(&exec->arena, count + 1, sizeof *fields);
    uint8_t *needs = imv_arena_calloc(&exec->arena, stack->scan->sample_scan.fields_count + 1, sizeof *needs);
    if (fields == NULL || needs == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < count; i++) {
        if (!aggregate_is_plain(stack, i, &fields[i])) return IMV_OK;
        if (fields[i] == UINT32_MAX) continue;
        needs[fields[i]] |= stack->aggregate->aggregate.aggregates[i]->call.function->state->bucket_needs;
    }
    stack->aggregate->aggregate.bucket_fields = fields;
    stack->scan->sample_scan.bucket_needs = needs;
    stack->scan->sample_scan.bucket_window = stack->window == NULL ? NULL : stack->window->window.window;
    return IMV_OK;
}

imv_status imv_rule_push_buckets(struct imv_exec *exec, struct imv_plan **plan) {
    struct stack stack;
    if (exec->request->without & IMV_QUERY_BUCKETS) return IMV_OK;
    if (find_stack(*plan, &stack) && keys_are_plain(&stack)) IMV_TRY(push(exec, &stack));
    return imv_rule_below(exec, *plan, imv_rule_push_buckets);
}
