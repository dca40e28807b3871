/* series_cache.h - what series the raw bytes of a key meant before: one cache a writer.
 *
 * A key is kept as its XXH3-128 under a random seed, 24 bytes an entry with the series, and not compared again: see
 * imv_writer_find_series. Entries live in tables of open addressing. When the younger table is three quarters full it
 * becomes the older one and an empty table takes its place: twice as large, until the maximum is reached. While the
 * cache grows, each insertion moves a few entries over, so that nothing is forgotten and nothing stops. At the maximum
 * nothing is moved: an entry that is found in the older table is put into the younger, and what was not asked for
 * meanwhile is forgotten with the older one.
 *
 * The largest tables have 2^22 slots: 100 MiB each, three million series. Tables are charged to a budget, which the
 * caches of all writers share. When it does not allow a larger table one of the same size is taken in the place of the
 * older one, and when it does not allow that either, the cache forgets everything and begins again in the table that it
 * has: keys are then looked up in the catalog, which costs a microsecond and changes no answer.
 *
 * One thread; the budget's functions are any thread's.
 */
#pragma once

#include "engine/catalog.h"

struct imv_series_cache_table;

struct imv_budget;

struct imv_series_cache {
    uint64_t seed;
    struct imv_budget *budget; /* of tables; NULL: none; set before the first key */
    uint32_t slots_max;
    struct imv_series_cache_table *younger, *older; /* either may be NULL */
    uint32_t moved;                                 /* slots of a smaller older table that are moved already */
};

/* slots_max is a power of two, at least 16. IMV_IO: the system gives no random seed. */
imv_status imv_series_cache_init(struct imv_series_cache *cache, uint32_t slots_max, struct imv_error *err);
void imv_series_cache_release(struct imv_series_cache *cache);

/* NULL when unknown. */
struct imv_series *imv_series_cache_find(struct imv_series_cache *cache, struct imv_str raw);
/* The same for count keys, at most IMV_SERIES_CACHE_FIND_MAX: all slots are asked for before the first is looked at,
 * and the series that are found are asked for too, since the caller goes there next. */
enum { IMV_SERIES_CACHE_FIND_MAX = 16 };
void imv_series_cache_find_many(struct imv_series_cache *cache, const struct imv_str *raws, size_t count,
                                struct imv_series **series);
/* Remembers a key that was not found. Without memory for a table it is simply not remembered. */
void imv_series_cache_put(struct imv_series_cache *cache, struct imv_str raw, struct imv_series *series);
