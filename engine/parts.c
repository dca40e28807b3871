#include "engine/parts.h"

#include "storage/base/assert.h"
#include "storage/base/log.h"

#include <stdlib.h>

/* The slot of 1970-01-01: the earliest timestamp lies on the 106,752nd day before it. Slots are UTC days, so that
 * windows of a day and of its parts never cross one. */
enum { SLOT_OF_1970 = 106752 };

uint32_t imv_slot_of(int64_t timestamp) {
    int64_t day = timestamp / IMV_SLOT_NS - (timestamp % IMV_SLOT_NS < 0);
    return (uint32_t)(day + SLOT_OF_1970);
}

int64_t imv_slot_start(uint32_t slot) {
    int64_t start;
    if (__builtin_mul_overflow((int64_t)slot - SLOT_OF_1970, IMV_SLOT_NS, &start)) {
        return slot < SLOT_OF_1970 ? INT64_MIN : INT64_MAX;
    }
    return start;
}

/* Where slot and generation stand in a prefix. */
static size_t slot_at(uint8_t tier) { return tier == IMV_TIER_SCATTERED ? 6 : 2; }
static size_t generation_at(uint8_t tier) { return tier == IMV_TIER_SCATTERED ? 2 : 6; }

void imv_part_prefix_put(uint8_t prefix[IMV_PART_KEY_BYTES], const struct imv_part *part) {
    prefix[0] = part->tier;
    prefix[1] = part->class;
    imv_put_be32(prefix + slot_at(part->tier), part->slot);
    imv_put_be32(prefix + generation_at(part->tier), part->generation);
}

void imv_part_prefix_end(uint8_t end[IMV_PART_KEY_BYTES], const uint8_t prefix[IMV_PART_KEY_BYTES], size_t bytes) {
    memset(end, 0, IMV_PART_KEY_BYTES);
    memcpy(end, prefix, bytes);
    for (size_t i = bytes; i-- > 0 && ++end[i] == 0;) {}
}

void imv_part_prefix_parse(const uint8_t prefix[IMV_PART_KEY_BYTES], struct imv_part *part) {
    part->tier = prefix[0];
    part->class = prefix[1];
    part->slot = imv_get_be32(prefix + slot_at(part->tier));
    part->generation = imv_get_be32(prefix + generation_at(part->tier));
}

void imv_chunk_key_put(uint8_t key[IMV_CHUNK_KEY_BYTES], const struct imv_part *part, uint32_t label, uint64_t series,
                       int64_t start) {
    imv_part_prefix_put(key, part);
    imv_put_be32(key + 10, label);
    imv_put_be64(key + 14, series);
    imv_put_be64(key + 22, (uint64_t)start ^ UINT64_C(1) << 63);
}

bool imv_chunk_key_parse(struct imv_str key, struct imv_part *prefix, struct imv_chunk_id *id) {
    if (key.size != IMV_CHUNK_KEY_BYTES) return false;
    const uint8_t *bytes = (const uint8_t *)key.data;
    imv_part_prefix_parse(bytes, prefix);
    id->label = imv_get_be32(bytes + 10);
    id->series = imv_get_be64(bytes + 14);
    id->start = (int64_t)(imv_get_be64(bytes + 22) ^ UINT64_C(1) << 63);
    return prefix->tier < IMV_TIERS && imv_slot_of(id->start) == prefix->slot;
}

/* ---- one part ---- */

struct imv_part *imv_part_new(enum imv_tier tier, struct imv_part *sibling) {
    struct imv_part *part = calloc(1, sizeof *part);
    if (part == NULL) return NULL;
    part->tier = (uint8_t)tier;
    part->made_at_ns = INT64_MIN;
    if (tier != IMV_TIER_SCATTERED) return part;
    part->group = sibling != NULL ? sibling->group : calloc(1, sizeof *part->group);
    if (part->group == NULL) {
        free(part);
        return NULL;
    }
    atomic_fetch_add(&part->group->references, 1);
    atomic_fetch_add(&part->group->live, 1);
    return part;
}

void imv_part_free(struct imv_part *part) {
    if (part == NULL) return;
    if (part->group != NULL && atomic_fetch_sub(&part->group->references, 1) == 1) free(part->group);
    free(part);
}

/* What the files of a retired part hold alone: the part, or its group when no other of its parts is left. */
static size_t dropped_prefix_bytes(struct imv_part *part) {
    if (part->group == NULL) return IMV_PART_KEY_BYTES;
    atomic_fetch_add(&part->group->dead, 1);
    return atomic_fetch_sub(&part->group->live, 1) == 1 ? IMV_PART_GROUP_KEY_BYTES : 0;
}

static void part_drop(struct imv_part *part, struct imv_kv *kv) {
    uint8_t from[IMV_PART_KEY_BYTES], to[IMV_PART_KEY_BYTES];
    size_t bytes = dropped_prefix_bytes(part);
    if (bytes == 0) return;
    imv_part_prefix_put(from, part);
    imv_part_prefix_end(to, from, bytes);
    struct imv_error err;
    /* A file that stays is invisible, and is tried again at the next start. */
    if (imv_kv_drop_range(kv, IMV_KV_CHUNKS, (struct imv_str){(char *)from, bytes}, (struct imv_str){(char *)to, bytes},
                          &err) != IMV_OK) {
        imv_log(IMV_LOG_WARN, "parts", "cannot drop slot=%u generation=%u: %s", part->slot, part->generation,
                err.message);
    }
}

static void part_release(struct imv_part *part, struct imv_kv *kv) {
    if (atomic_fetch_sub(&part->references, 1) > 1) return;
    if (atomic_load(&part->retired)) part_drop(part, kv);
    imv_part_free(part);
}

/* ---- lists ---- */

static int part_compare(const void *left, const void *right) {
    const struct imv_part *a = *(struct imv_part *const *)left, *b = *(struct imv_part *const *)right;
    if (a->slot != b->slot) return a->slot < b->slot ? -1 : 1;
    if (a->order != b->order) return a->order < b->order ? -1 : 1;
    return (a->class > b->class) - (a->class < b->class);
}

imv_status imv_parts_new(const struct imv_parts *old, struct imv_part *const *added, size_t added_count,
                         struct imv_parts **parts, struct imv_error *err) {
    size_t count_max = (old == NULL ? 0 : old->count) + added_count;
    struct imv_parts *list = malloc(sizeof *list + count_max * sizeof list->items[0]);
    if (list == NULL) return imv_fail(err, IMV_NO_MEMORY, "parts: no memory for a list of %zu", count_max);
    atomic_init(&list->references, 1);
    list->count = 0;
    for (size_t i = 0; old != NULL && i < old->count; i++) {
        if (!atomic_load(&old->items[i]->retired)) list->items[list->count++] = old->items[i];
    }
    for (size_t i = 0; i < added_count; i++) list->items[list->count++] = added[i];
    qsort(list->items, list->count, sizeof list->items[0], part_compare);
    for (size_t i = 0; i < list->count; i++) atomic_fetch_add(&list->items[i]->references, 1);
    *parts = list;
    return IMV_OK;
}

size_t imv_parts_find(const struct imv_parts *parts, uint32_t slot) {
    size_t low = 0, high = parts->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (parts->items[middle]->slot < slot)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void imv_parts_abandon(struct imv_parts *parts) {
    for (size_t i = 0; i < parts->count; i++) atomic_fetch_sub(&parts->items[i]->references, 1);
    free(parts);
}

void imv_parts_retain(struct imv_parts *parts) {
    uint32_t before = atomic_fetch_add_explicit(&parts->references, 1, memory_order_relaxed);
    imv_assert(before > 0);
}

void imv_parts_release(struct imv_parts *parts, struct imv_kv *kv) {
    if (parts == NULL || atomic_fetch_sub(&parts->references, 1) > 1) return;
    for (size_t i = 0; i < parts->count; i++) part_release(parts->items[i], kv);
    free(parts);
}
