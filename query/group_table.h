/* group_table.h - groups of equal keys: the hash table under aggregation and DISTINCT.
 *
 * Keys are compared by the order of values (value.h): null equals null, NaN equals NaN, 1 equals 1.0. A group is one
 * piece of the table's arena: its keys, copied, and payload_bytes of zeros for its owner, aligned to 16. Groups stay
 * where they are and keep the order in which they came.
 *
 *     slots: open addressing, linear probing, at most 7/8 full      [hash | group] [hash | group] ...
 *
 * Memory is charged to the statement. One thread.
 */
#pragma once

#include "query/exec.h"

struct imv_group {
    uint64_t hash;
    struct imv_group *next; /* in order of coming */
    struct imv_value keys[];
};

struct imv_group_table {
    struct imv_exec *exec;
    struct imv_arena arena; /* groups; their owner may put more into it */
    struct imv_group_slot *slots;
    size_t capacity; /* of slots: a power of two, or 0 */
    size_t count;    /* groups */
    uint32_t keys_count;
    size_t payload_bytes;
    struct imv_group *first, *last;
};

void imv_group_table_init(struct imv_exec *exec, uint32_t keys_count, size_t payload_bytes,
                          struct imv_group_table *table);
void imv_group_table_release(struct imv_group_table *table);

/* Hash of a key in a list of keys: start with the statement's seed, go on with the result. */
uint64_t imv_group_hash(const struct imv_value *keys, uint32_t count, uint64_t seed);

/* The group of these keys, made when there is none (*added). hash is imv_group_hash of all keys under
 * exec->hash_seed. */
imv_status imv_group_table_find(struct imv_group_table *table, const struct imv_value *keys, uint64_t hash,
                                struct imv_group **group, bool *added);

/* Do the keys of a group equal these? */
bool imv_group_matches(const struct imv_group *group, const struct imv_value *keys, uint32_t count);

/* Where a group's payload is. */
static inline void *imv_group_payload(const struct imv_group_table *table, const struct imv_group *group) {
    return (char *)group + sizeof *group + table->keys_count * sizeof(struct imv_value);
}
_Static_assert(sizeof(struct imv_group) % 16 == 0, "payloads are aligned like the arena's pieces");
