#include "query/group_table.h"

struct imv_group_slot {
    uint64_t hash;
    struct imv_group *group; /* NULL: free */
};

enum { FIRST_CAPACITY = 64 };

void imv_group_table_init(struct imv_exec *exec, uint32_t keys_count, size_t payload_bytes,
                          struct imv_group_table *table) {
    *table = (struct imv_group_table){.exec = exec, .keys_count = keys_count, .payload_bytes = payload_bytes};
    imv_exec_arena_init(exec, &table->arena);
}

void imv_group_table_release(struct imv_group_table *table) {
    if (table->exec == NULL) return;
    imv_exec_give(table->exec, table->slots, table->capacity * sizeof *table->slots);
    imv_arena_release(&table->arena);
    *table = (struct imv_group_table){0};
}

uint64_t imv_group_hash(const struct imv_value *keys, uint32_t count, uint64_t seed) {
    for (uint32_t i = 0; i < count; i++) seed = imv_value_hash(&keys[i], seed);
    return seed;
}

/* Kinds whose values are equal only when their bits are. */
static bool is_plain(imv_value_kind kind) {
    return kind == IMV_VALUE_INTEGER || kind == IMV_VALUE_TIME || kind == IMV_VALUE_DURATION || kind == IMV_VALUE_TWIN;
}

bool imv_group_matches(const struct imv_group *group, const struct imv_value *keys, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_value *a = &group->keys[i], *b = &keys[i];
        bool same = a->kind == b->kind && a->size == b->size && a->integer == b->integer;
        if (same) continue;
        if (a->kind == b->kind && is_plain((imv_value_kind)a->kind)) return false;
        if (imv_value_order(a, b) != 0) return false;
    }
    return true;
}

static void put(struct imv_group_slot *slots, size_t capacity, struct imv_group_slot slot) {
    size_t i = slot.hash & (capacity - 1);
    while (slots[i].group != NULL) i = (i + 1) & (capacity - 1);
    slots[i] = slot;
}

static imv_status grow(struct imv_group_table *table) {
    size_t capacity = table->capacity == 0 ? FIRST_CAPACITY : table->capacity * 2;
    struct imv_group_slot *slots = imv_exec_take(table->exec, capacity * sizeof *slots);
    if (slots == NULL) return imv_exec_fail_memory(table->exec);
    memset(slots, 0, capacity * sizeof *slots);
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].group != NULL) put(slots, capacity, table->slots[i]);
    imv_exec_give(table->exec, table->slots, table->capacity * sizeof *slots);
    table->slots = slots;
    table->capacity = capacity;
    return IMV_OK;
}

static imv_status add(struct imv_group_table *table, const struct imv_value *keys, uint64_t hash,
                      struct imv_group **out) {
    size_t keys_bytes = table->keys_count * sizeof *keys;
    struct imv_group *group = imv_arena_calloc(&table->arena, 1, sizeof *group + keys_bytes + table->payload_bytes);
    if (group == NULL) return imv_exec_fail_memory(table->exec);
    group->hash = hash;
    for (uint32_t i = 0; i < table->keys_count; i++)
        if (!imv_value_copy(&table->arena, &keys[i], &group->keys[i])) return imv_exec_fail_memory(table->exec);
    if (table->last == NULL)
        table->first = group;
    else
        table->last->next = group;
    table->last = group;
    table->count++;
    put(table->slots, table->capacity, (struct imv_group_slot){hash, group});
    *out = group;
    return IMV_OK;
}

imv_status imv_group_table_find(struct imv_group_table *table, const struct imv_value *keys, uint64_t hash,
                                struct imv_group **group, bool *added) {
    *added = false;
    for (size_t i = hash; table->capacity > 0; i++) {
        const struct imv_group_slot *slot = &table->slots[i & (table->capacity - 1)];
        if (slot->group == NULL) break;
        if (slot->hash != hash || !imv_group_matches(slot->group, keys, table->keys_count)) continue;
        *group = slot->group;
        return IMV_OK;
    }
    *added = true;
    if (table->count + 1 > table->capacity / 8 * 7) IMV_TRY(grow(table));
    return add(table, keys, hash, group);
}
