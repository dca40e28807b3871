#include "engine/series_cache.h"

#include "storage/base/assert.h"
#include "storage/base/budget.h"
#include "storage/base/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

enum {
    SLOTS_FIRST = 1024,
    MOVES_PER_PUT = 4, /* a table of n slots must be moved within the 3/4 n insertions until the next one is full */
    HUGE_PAGE_BYTES = 2 << 20,
};

struct slot {
    struct imv_hash128 key;
    struct imv_series *series; /* NULL: empty */
};
_Static_assert(sizeof(struct slot) == 24, "there may be millions");

struct imv_series_cache_table {
    uint32_t mask, count;
    struct slot slots[];
};

imv_status imv_series_cache_init(struct imv_series_cache *cache, uint32_t slots_max, struct imv_error *err) {
    imv_assert(slots_max >= 16 && (slots_max & (slots_max - 1)) == 0);
    *cache = (struct imv_series_cache){.slots_max = slots_max};
    if (getrandom(&cache->seed, sizeof cache->seed, 0) == sizeof cache->seed) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, errno, "series cache: no random seed");
}

static size_t table_bytes(uint32_t slots) {
    return sizeof(struct imv_series_cache_table) + slots * sizeof(struct slot);
}

/* Zeroed memory. Large tables are asked for in huge pages: each key goes to another page, and with a million keys the
 * walk to find it, in a virtual machine twice as long, took a quarter of the time of a row. */
static struct imv_series_cache_table *table_map(size_t bytes) {
    if (bytes < HUGE_PAGE_BYTES) return calloc(1, bytes);
    void *table = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) return NULL;
    madvise(table, bytes, MADV_HUGEPAGE); /* small pages do, too */
    return table;
}

static void table_unmap(struct imv_series_cache_table *table, size_t bytes) {
    if (bytes < HUGE_PAGE_BYTES)
        free(table);
    else
        munmap(table, bytes);
}

static void free_table(struct imv_series_cache *cache, struct imv_series_cache_table *table) {
    if (table == NULL) return;
    if (cache->budget != NULL) imv_budget_give(cache->budget, table_bytes(table->mask + 1));
    table_unmap(table, table_bytes(table->mask + 1));
}

/* An empty table; NULL when the budget or malloc refuses. */
static struct imv_series_cache_table *new_table(struct imv_series_cache *cache, uint32_t slots) {
    size_t bytes = table_bytes(slots);
    if (cache->budget != NULL && !imv_budget_take(cache->budget, bytes)) return NULL;
    struct imv_series_cache_table *made = table_map(bytes);
    if (made != NULL)
        made->mask = slots - 1;
    else if (cache->budget != NULL)
        imv_budget_give(cache->budget, bytes);
    return made;
}

void imv_series_cache_release(struct imv_series_cache *cache) {
    free_table(cache, cache->younger);
    free_table(cache, cache->older);
    cache->younger = cache->older = NULL;
}

/* The slot of the key, or the empty one where it belongs. */
static struct slot *probe(struct imv_series_cache_table *table, struct imv_hash128 key) {
    for (uint32_t i = (uint32_t)key.low & table->mask;; i = (i + 1) & table->mask) {
        struct slot *slot = &table->slots[i];
        if (slot->series == NULL || (slot->key.low == key.low && slot->key.high == key.high)) return slot;
    }
}

/* Makes room in the younger table: it becomes the older one. False: there is no table, nor memory for one. */
static bool turn_over(struct imv_series_cache *cache) {
    struct imv_series_cache_table *full = cache->younger;
    uint32_t slots = full == NULL ? SLOTS_FIRST : full->mask + 1;
    if (full != NULL && slots <= cache->slots_max / 2) slots *= 2;
    if (slots > cache->slots_max) slots = cache->slots_max;
    struct imv_series_cache_table *made = new_table(cache, slots);
    free_table(cache, cache->older);
    cache->older = NULL;
    cache->moved = 0;
    if (made == NULL && full != NULL) made = new_table(cache, full->mask + 1);
    if (made != NULL) {
        cache->older = full;
        cache->younger = made;
    } else if (full != NULL) {
        memset(full->slots, 0, (full->mask + (size_t)1) * sizeof full->slots[0]);
        full->count = 0;
    }
    return cache->younger != NULL;
}

static void insert(struct imv_series_cache_table *table, struct imv_hash128 key, struct imv_series *series) {
    struct slot *slot = probe(table, key);
    if (slot->series == NULL) table->count++;
    *slot = (struct slot){key, series};
}

static void move_some(struct imv_series_cache *cache) {
    struct imv_series_cache_table *older = cache->older;
    for (int i = 0; i < MOVES_PER_PUT && cache->moved <= older->mask; i++) {
        const struct slot *slot = &older->slots[cache->moved++];
        if (slot->series != NULL) insert(cache->younger, slot->key, slot->series);
    }
    if (cache->moved <= older->mask) return;
    free_table(cache, older);
    cache->older = NULL;
}

static void put(struct imv_series_cache *cache, struct imv_hash128 key, struct imv_series *series) {
    if (cache->younger == NULL || cache->younger->count > cache->younger->mask / 4 * 3) {
        if (!turn_over(cache)) return;
    }
    insert(cache->younger, key, series);
    if (cache->older != NULL && cache->older->mask < cache->younger->mask) move_some(cache);
}

static struct imv_series *find(struct imv_series_cache *cache, struct imv_hash128 key) {
    struct imv_series *series = probe(cache->younger, key)->series;
    if (series != NULL || cache->older == NULL) return series;
    series = probe(cache->older, key)->series;
    if (series != NULL) put(cache, key, series);
    return series;
}

struct imv_series *imv_series_cache_find(struct imv_series_cache *cache, struct imv_str raw) {
    if (cache->younger == NULL) return NULL;
    return find(cache, imv_hash128(raw.data, raw.size, cache->seed));
}

void imv_series_cache_find_many(struct imv_series_cache *cache, const struct imv_str *raws, size_t count,
                                struct imv_series **series) {
    imv_assert(count <= IMV_SERIES_CACHE_FIND_MAX);
    struct imv_hash128 keys[IMV_SERIES_CACHE_FIND_MAX];
    if (cache->younger == NULL) {
        memset(series, 0, count * sizeof *series);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        keys[i] = imv_hash128(raws[i].data, raws[i].size, cache->seed);
        __builtin_prefetch(&cache->younger->slots[(uint32_t)keys[i].low & cache->younger->mask]);
    }
    for (size_t i = 0; i < count; i++) {
        series[i] = find(cache, keys[i]);
        __builtin_prefetch(series[i]);
    }
}

void imv_series_cache_put(struct imv_series_cache *cache, struct imv_str raw, struct imv_series *series) {
    put(cache, imv_hash128(raw.data, raw.size, cache->seed), series);
}
