#include "query/opt/opt.h"

/* The slots that are read above the operator looked at. */
struct needs {
    struct imv_exec *exec;
    uint64_t *slots;
    size_t words;
};

static void add(uint32_t slot, void *context) {
    struct needs *needs = context;
    imv_bit_set(needs->slots, slot);
}

static void drop(uint32_t slot, void *context) {
    struct needs *needs = context;
    needs->slots[slot / 64] &= ~(UINT64_C(1) << slot % 64);
}

static imv_status keep_copy(struct needs *needs, struct imv_plan *plan) {
    plan->needed = imv_arena_calloc(&needs->exec->arena, needs->words, sizeof *plan->needed);
    if (plan->needed == NULL) return imv_exec_fail_memory(needs->exec);
    memcpy(plan->needed, needs->slots, needs->words * sizeof *plan->needed);
    return IMV_OK;
}

/* From the top of a branch, or of an inner plan, down to its Start. */
static imv_status walk(struct needs *needs, struct imv_plan *plan) {
    for (; plan != NULL; plan = plan->input) {
        IMV_TRY(keep_copy(needs, plan));
        if (plan->kind == IMV_PLAN_AGGREGATE) memset(needs->slots, 0, needs->words * sizeof *needs->slots);
        if (plan->kind == IMV_PLAN_OPTIONAL) IMV_TRY(walk(needs, plan->optional.inner));
        imv_plan_each_write(plan, drop, needs);
        imv_plan_each_read(plan, add, needs);
    }
    return IMV_OK;
}

imv_status imv_rule_needed_slots(struct imv_exec *exec, struct imv_plan **plan) {
    if ((*plan)->kind != IMV_PLAN_PRODUCE) return imv_rule_below(exec, *plan, imv_rule_needed_slots);
    struct needs needs = {.exec = exec, .words = (*plan)->produce.slots_count / 64 + 1};
    needs.slots = imv_arena_calloc(&exec->arena, needs.words, sizeof *needs.slots);
    return needs.slots == NULL ? imv_exec_fail_memory(exec) : walk(&needs, *plan);
}
