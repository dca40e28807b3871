#include "engine/ended.h"

#include "engine/engine_internal.h"
#include "engine/head.h"
#include "storage/base/log.h"

#include <stdlib.h>

static bool all_open(struct imv_engine *engine) {
    bool open = true;
    imv_engine_lock(engine, IMV_RANK_STATE);
    for (uint32_t i = 0; i < engine->shards_count; i++) open &= engine->shards[i].open;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return open;
}

/* Is the series in a head? STATE is not held: this thread alone removes heads (FLUSH), and a head that appears
 * meanwhile gets its rows by way of newest_s. */
static bool in_head(struct imv_engine *engine, const struct imv_series *series) {
    bool found = false;
    imv_engine_lock(engine, IMV_RANK_STATE);
    const struct imv_engine_shard *state = &engine->shards[series->shard];
    for (uint32_t i = 0; i < state->heads_count && !found; i++) {
        found = imv_head_find(state->heads[i].head, series) != NULL;
    }
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return found;
}

/* Keeps in the list those that are in no head and that no row came to; the others are given back. */
static size_t still_ended(struct imv_engine *engine, struct imv_ended_series *list, size_t count) {
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t newest_s = atomic_load_explicit(&list[i].series->newest_s, memory_order_acquire);
        if (newest_s == 0 && !in_head(engine, list[i].series)) {
            list[kept++] = list[i];
        } else {
            imv_catalog_give_back(&list[i]);
        }
    }
    return kept;
}

static void forget(struct imv_ended *ended) {
    free(ended->list);
    ended->list = NULL;
    ended->count = 0;
    ended->phase = IMV_ENDED_IDLE;
}

static void give_up(struct imv_ended *ended, size_t from) {
    for (size_t i = from; i < ended->count; i++) imv_catalog_give_back(&ended->list[i]);
    forget(ended);
}

void imv_ended_look(struct imv_engine *engine) {
    struct imv_ended *ended = &engine->ended;
    if (ended->phase != IMV_ENDED_IDLE || !all_open(engine)) return;
    struct imv_error err;
    if (imv_catalog_take_ended(engine->catalog, imv_clock_wall_ns(engine->clock), IMV_ENDED_MAX, &ended->list,
                               &ended->count, &err) != IMV_OK) {
        imv_log(IMV_LOG_ERROR, "retention", "%s", err.message);
        ended->list = NULL;
        ended->count = 0;
        return;
    }
    ended->count = still_ended(engine, ended->list, ended->count);
    if (ended->count == 0) {
        forget(ended);
        return;
    }
    /* Whatever group held a row of them was started before: the row was in a head, or the series would not be
     * visible. */
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        ended->started[i] = atomic_load_explicit(&engine->shards[i].started, memory_order_acquire);
    }
    ended->phase = IMV_ENDED_TAKEN;
}

static bool journal_is_behind(const struct imv_engine *engine) {
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        uint64_t watermark = atomic_load_explicit(&engine->shards[i].watermark, memory_order_acquire);
        if (watermark < engine->ended.started[i]) return false;
    }
    return true;
}

static void wake_all(struct imv_engine *engine) {
    for (uint32_t i = 0; i < engine->shards_count; i++) imv_exchange_wake(&engine->exchange, i);
}

static void pause_begin(struct imv_engine *engine) {
    struct imv_ended *ended = &engine->ended;
    ended->phase = IMV_ENDED_PAUSING;
    ended->pause_until_ns = imv_clock_monotonic_ns(engine->clock) + IMV_ENDED_PAUSE_NS;
    atomic_store_explicit(&engine->exchange.pause, ++ended->pauses, memory_order_release);
    wake_all(engine);
}

static void pause_end(struct imv_engine *engine) {
    atomic_store_explicit(&engine->exchange.pause, 0, memory_order_release);
    imv_exchange_made_room(&engine->exchange);
    wake_all(engine);
}

static bool all_quiet(struct imv_engine *engine) {
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        if (atomic_load_explicit(&engine->exchange.quiet[i], memory_order_acquire) != engine->ended.pauses)
            return false;
    }
    return true;
}

/* Removes some series, whose records go first. False: a snapshot is held. */
static bool remove_some(struct imv_engine *engine, const struct imv_ended_series *list, size_t count,
                        imv_status *status, struct imv_error *err) {
    imv_engine_lock(engine, IMV_RANK_PERSIST);
    *status = imv_catalog_delete_records(engine->catalog, list, count, err);
    imv_engine_lock(engine, IMV_RANK_STATE);
    bool alone = atomic_load(&engine->snapshots) == 0;
    bool removed = *status == IMV_OK && alone;
    if (removed) imv_catalog_remove(engine->catalog, list, count);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    /* Also when it is unknown whether the records are gone. */
    if (!removed) imv_catalog_keep(engine->catalog, list, count);
    imv_engine_unlock(engine, IMV_RANK_PERSIST);
    return removed;
}

static imv_status remove_all(struct imv_engine *engine, struct imv_error *err) {
    struct imv_ended *ended = &engine->ended;
    imv_status status = IMV_OK;
    size_t done = 0, removed = 0;
    while (done < ended->count && status == IMV_OK && atomic_load(&engine->snapshots) == 0) {
        size_t count = ended->count - done < IMV_ENDED_AT_ONCE ? ended->count - done : IMV_ENDED_AT_ONCE;
        size_t kept = still_ended(engine, ended->list + done, count);
        bool gone = kept == 0 || remove_some(engine, ended->list + done, kept, &status, err);
        done += count;
        if (gone) removed += kept;
        if (!gone) break;
    }
    if (removed > 0) imv_log(IMV_LOG_INFO, "retention", "series_removed=%zu", removed);
    give_up(ended, done);
    return status;
}

imv_status imv_ended_step(struct imv_engine *engine, struct imv_error *err) {
    struct imv_ended *ended = &engine->ended;
    if (ended->phase == IMV_ENDED_IDLE) return IMV_OK;
    if (!all_open(engine)) {
        if (ended->phase == IMV_ENDED_PAUSING) pause_end(engine);
        give_up(ended, 0);
        return IMV_OK;
    }
    if (ended->phase == IMV_ENDED_TAKEN) {
        /* While a query or a consolidation holds a snapshot, writers would pause for nothing. The next consolidation
         * waits until series are gone. */
        bool alone = engine->consolidation == NULL && atomic_load(&engine->snapshots) == 0;
        if (alone && journal_is_behind(engine)) pause_begin(engine);
        return IMV_OK;
    }
    bool late = imv_clock_monotonic_ns(engine->clock) >= ended->pause_until_ns;
    if (all_quiet(engine) && (late || atomic_load(&engine->snapshots) == 0)) {
        imv_status status = remove_all(engine, err);
        pause_end(engine);
        return status;
    }
    if (!late) return IMV_OK;
    pause_end(engine);
    give_up(ended, 0);
    return IMV_OK;
}

void imv_ended_release(struct imv_ended *ended) { forget(ended); }
