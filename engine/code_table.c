#include "engine/code_table.h"

#include "storage/base/assert.h"

#include <stddef.h>
#include <stdlib.h>

enum {
    SLOTS_FIRST = 8,
    MOVES_PER_INSERT = 8, /* a table of n slots must be moved within the n / 3 insertions until the next growth */
};

/* An entry that was taken out of a table that is being moved: searches go on behind it. */
static const uint64_t REMOVED = UINT64_C(1) << 32;

struct imv_code_slots {
    struct imv_code_slots *older; /* shared: outgrown, perhaps still being read */
    uint32_t mask;
    _Atomic uint64_t entries[]; /* hash << 32 | code + 1; 0: empty; REMOVED: only in a table that is being moved */
};

void imv_code_table_init(struct imv_code_table *table, bool shared) {
    *table = (struct imv_code_table){.shared = shared};
}

void imv_code_table_release(struct imv_code_table *table) {
    free(table->moving);
    for (struct imv_code_slots *slots = atomic_load(&table->slots); slots != NULL;) {
        struct imv_code_slots *older = slots->older;
        free(slots);
        slots = older;
    }
    imv_code_table_init(table, table->shared);
}

static uint32_t find_in(const struct imv_code_slots *slots, uint32_t hash,
                        bool (*equal)(const void *context, uint32_t code), const void *context) {
    for (uint32_t i = hash & slots->mask;; i = (i + 1) & slots->mask) {
        uint64_t entry = atomic_load_explicit(&slots->entries[i], memory_order_acquire);
        if (entry == 0) return IMV_CODE_NONE;
        uint32_t code = (uint32_t)entry - 1;
        if ((uint32_t)(entry >> 32) == hash && entry != REMOVED && equal(context, code)) return code;
    }
}

uint32_t imv_code_table_find(const struct imv_code_table *table, uint32_t hash,
                             bool (*equal)(const void *context, uint32_t code), const void *context) {
    const struct imv_code_slots *slots = atomic_load_explicit(&table->slots, memory_order_acquire);
    if (slots == NULL) return IMV_CODE_NONE;
    uint32_t code = find_in(slots, hash, equal, context);
    if (code == IMV_CODE_NONE && !table->shared && table->moving != NULL) {
        code = find_in(table->moving, hash, equal, context);
    }
    return code;
}

static void put(struct imv_code_slots *slots, uint64_t entry) {
    uint32_t i = (uint32_t)(entry >> 32) & slots->mask;
    while (atomic_load_explicit(&slots->entries[i], memory_order_relaxed) != 0) i = (i + 1) & slots->mask;
    atomic_store_explicit(&slots->entries[i], entry, memory_order_release);
}

static void move_some(struct imv_code_table *table, struct imv_code_slots *to, uint32_t slots_count) {
    struct imv_code_slots *from = table->moving;
    for (; slots_count > 0 && table->moved <= from->mask; slots_count--) {
        uint64_t entry = atomic_load_explicit(&from->entries[table->moved++], memory_order_relaxed);
        if (entry != 0 && entry != REMOVED) put(to, entry);
    }
    if (table->moved > from->mask) {
        free(from);
        table->moving = NULL;
    }
}

static bool grow(struct imv_code_table *table, struct imv_code_slots *former) {
    uint64_t capacity = former == NULL ? SLOTS_FIRST : ((uint64_t)former->mask + 1) * 2;
    if (capacity > UINT64_C(1) << 31) return false;
    struct imv_code_slots *slots = calloc(1, sizeof *slots + capacity * sizeof slots->entries[0]);
    if (slots == NULL) return false;
    slots->mask = (uint32_t)capacity - 1;
    imv_assert(table->moving == NULL);
    if (former != NULL && table->shared) {
        for (uint32_t i = 0; i <= former->mask; i++) {
            uint64_t entry = atomic_load_explicit(&former->entries[i], memory_order_relaxed);
            if (entry != 0) put(slots, entry);
        }
        slots->older = former;
    } else {
        table->moving = former;
        table->moved = 0;
    }
    atomic_store_explicit(&table->slots, slots, memory_order_release);
    return true;
}

bool imv_code_table_reserve(struct imv_code_table *table) {
    struct imv_code_slots *slots = atomic_load_explicit(&table->slots, memory_order_relaxed);
    if (slots != NULL && ((uint64_t)table->count + 1) * 3 <= ((uint64_t)slots->mask + 1) * 2) return true;
    return grow(table, slots);
}

void imv_code_table_insert(struct imv_code_table *table, uint32_t hash, uint32_t code) {
    imv_assert(code != IMV_CODE_NONE);
    struct imv_code_slots *slots = atomic_load_explicit(&table->slots, memory_order_relaxed);
    imv_assert(slots != NULL && table->count < slots->mask);
    if (table->moving != NULL) move_some(table, slots, MOVES_PER_INSERT);
    put(slots, (uint64_t)hash << 32 | (code + 1));
    table->count++;
}

/* Where the entry is, or UINT32_MAX. */
static uint32_t place_of(const struct imv_code_slots *slots, uint64_t wanted) {
    for (uint32_t i = (uint32_t)(wanted >> 32) & slots->mask;; i = (i + 1) & slots->mask) {
        uint64_t entry = atomic_load_explicit(&slots->entries[i], memory_order_relaxed);
        if (entry == wanted) return i;
        if (entry == 0) return UINT32_MAX;
    }
}

/* Empties a slot and moves up entries behind it that would not be found across the gap. */
static void close_gap(struct imv_code_slots *slots, uint32_t gap) {
    for (uint32_t i = (gap + 1) & slots->mask;; i = (i + 1) & slots->mask) {
        uint64_t entry = atomic_load_explicit(&slots->entries[i], memory_order_relaxed);
        if (entry == 0) break;
        uint32_t home = (uint32_t)(entry >> 32) & slots->mask;
        if (((i - home) & slots->mask) < ((i - gap) & slots->mask)) continue;
        atomic_store_explicit(&slots->entries[gap], entry, memory_order_relaxed);
        gap = i;
    }
    atomic_store_explicit(&slots->entries[gap], 0, memory_order_relaxed);
}

void imv_code_table_remove(struct imv_code_table *table, uint32_t hash, uint32_t code) {
    imv_assert(!table->shared && table->count > 0);
    uint64_t wanted = (uint64_t)hash << 32 | (code + 1);
    struct imv_code_slots *slots = atomic_load_explicit(&table->slots, memory_order_relaxed);
    table->count--;
    if (table->moving != NULL) {
        uint32_t place = place_of(table->moving, wanted);
        if (place != UINT32_MAX && place >= table->moved) {
            atomic_store_explicit(&table->moving->entries[place], REMOVED, memory_order_relaxed);
            return;
        }
        if (place != UINT32_MAX) atomic_store_explicit(&table->moving->entries[place], REMOVED, memory_order_relaxed);
    }
    uint32_t place = place_of(slots, wanted);
    imv_assert(place != UINT32_MAX);
    close_gap(slots, place);
}
