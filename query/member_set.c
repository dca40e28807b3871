#include "query/member_set.h"

#include "storage/base/assert.h"

enum { ITEMS_MIN = 8 }; /* of fewer, comparing each is as fast */

struct imv_member_set {
    uint64_t seed;
    bool has_null;
    size_t capacity;                 /* a power of two, at least twice the items */
    const struct imv_value *slots[]; /* open addressing; NULL: free */
};

static bool is_hashable(const struct imv_value *value) {
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_NULL:
        case IMV_VALUE_BOOLEAN:
        case IMV_VALUE_INTEGER:
        case IMV_VALUE_UINTEGER:
        case IMV_VALUE_FLOAT:
        case IMV_VALUE_STRING:
        case IMV_VALUE_DURATION: return true;
        default: return false;
    }
}

/* The slot of an equal item, or the free one where it would go. NaN equals nothing and finds a free one. */
static size_t find_slot(const struct imv_member_set *set, const struct imv_value *value) {
    size_t i = imv_value_hash(value, set->seed) & (set->capacity - 1);
    while (set->slots[i] != NULL && imv_value_equal(set->slots[i], value) != IMV_TRUE)
        i = (i + 1) & (set->capacity - 1);
    return i;
}

imv_status imv_member_set_new(struct imv_exec *exec, const struct imv_value *list, struct imv_member_set **out) {
    imv_assert(list->kind == IMV_VALUE_LIST);
    *out = NULL;
    if (list->size < ITEMS_MIN) return IMV_OK;
    for (uint32_t i = 0; i < list->size; i++)
        if (!is_hashable(&list->items[i])) return IMV_OK;
    size_t capacity = 2 * ITEMS_MIN;
    while (capacity < 2 * (size_t)list->size) capacity *= 2;
    struct imv_member_set *set = imv_arena_calloc(&exec->arena, 1, sizeof *set + capacity * sizeof *set->slots);
    if (set == NULL) return imv_exec_fail_memory(exec);
    set->seed = exec->hash_seed;
    set->capacity = capacity;
    for (uint32_t i = 0; i < list->size; i++) {
        const struct imv_value *item = &list->items[i];
        IMV_TRY(imv_exec_step(exec));
        if (item->kind == IMV_VALUE_NULL)
            set->has_null = true;
        else if (imv_value_equal(item, item) == IMV_TRUE) /* not NaN, of which many would make one long run */
            set->slots[find_slot(set, item)] = item;
    }
    *out = set;
    return IMV_OK;
}

imv_truth imv_member_set_has(const struct imv_member_set *set, const struct imv_value *value) {
    imv_assert(imv_member_set_takes(value));
    if (value->kind == IMV_VALUE_NULL) return IMV_UNKNOWN;
    if (is_hashable(value) && set->slots[find_slot(set, value)] != NULL) return IMV_TRUE;
    return set->has_null ? IMV_UNKNOWN : IMV_FALSE;
}
