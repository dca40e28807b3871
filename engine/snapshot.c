#include "engine/snapshot.h"

#include "engine/engine_internal.h"
#include "engine/head.h"
#include "storage/base/assert.h"

#include <stdlib.h>

static struct imv_snapshot *snapshot_new(struct imv_engine *engine) {
    struct imv_snapshot *snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL) return NULL;
    snapshot->engine = engine;
    snapshot->catalog = engine->catalog;
    snapshot->kv = engine->kv;
    snapshot->shards_count = engine->shards_count;
    snapshot->shards = calloc(engine->shards_count, sizeof *snapshot->shards);
    snapshot->sequences = calloc(engine->shards_count, sizeof *snapshot->sequences);
    if (snapshot->shards != NULL && snapshot->sequences != NULL) return snapshot;
    free(snapshot->shards);
    free(snapshot->sequences);
    free(snapshot);
    return NULL;
}

/* A deletion is listed after the sequence of the rows that it hides is published.
 *
 * The heads that are listed hold every row up to the sequence that is not in the parts of the same moment: rows leave
 * the list of heads and enter that of parts under the same lock, and a row's head is listed before its sequence is
 * published. */
static void shard_pin(const struct imv_engine_shard *state, struct imv_snapshot_shard *pinned) {
    pinned->heads_count = state->heads_count;
    for (uint32_t i = 0; i < state->heads_count; i++) {
        pinned->heads[i] = state->heads[i].head;
        imv_head_retain(pinned->heads[i]);
    }
    pinned->deletions = state->deletions;
    imv_deletions_retain(pinned->deletions);
    pinned->sequence = atomic_load_explicit(&state->sequence, memory_order_acquire);
}

imv_status imv_snapshot_take(struct imv_engine *engine, struct imv_snapshot **snapshot, struct imv_error *err) {
    struct imv_snapshot *taken = snapshot_new(engine);
    if (taken == NULL) return imv_fail(err, IMV_NO_MEMORY, "snapshot: no memory");
    imv_engine_lock(engine, IMV_RANK_STATE);
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        shard_pin(&engine->shards[i], &taken->shards[i]);
        taken->sequences[i] = taken->shards[i].sequence;
    }
    taken->parts = engine->meta.parts;
    imv_parts_retain(taken->parts);
    atomic_fetch_add(&engine->snapshots, 1); /* under the lock: who removes series holds it while there is none */
    imv_engine_unlock(engine, IMV_RANK_STATE);
    taken->taken_at_ns = imv_clock_wall_ns(engine->clock);
    *snapshot = taken;
    return IMV_OK;
}

struct newest {
    uint64_t sequence;
    int64_t time;
};

static imv_status see_series(void *context, struct imv_series *series, const struct imv_head_series *rows,
                             struct imv_error *err) {
    (void)series, (void)err;
    struct newest *newest = context;
    size_t rows_max;
    int64_t time_min, time_max;
    if (imv_head_series_extent(rows, newest->sequence, &rows_max, &time_min, &time_max) && time_max > newest->time)
        newest->time = time_max;
    return IMV_OK;
}

int64_t imv_snapshot_newest(const struct imv_snapshot *snapshot) {
    struct newest newest = {.time = INT64_MIN};
    for (size_t i = 0; i < snapshot->parts->count; i++)
        if (snapshot->parts->items[i]->time_max > newest.time) newest.time = snapshot->parts->items[i]->time_max;
    for (uint32_t i = 0; i < snapshot->shards_count; i++) {
        const struct imv_snapshot_shard *shard = &snapshot->shards[i];
        newest.sequence = shard->sequence;
        for (uint32_t k = 0; k < shard->heads_count; k++)
            (void)imv_head_each(shard->heads[k], see_series, &newest, NULL); /* see_series does not fail */
    }
    return newest.time;
}

imv_status imv_snapshot_of_parts(struct imv_engine *engine, struct imv_parts *parts, struct imv_snapshot **snapshot,
                                 struct imv_error *err) {
    struct imv_snapshot *made = snapshot_new(engine);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "snapshot: no memory");
    imv_engine_lock(engine, IMV_RANK_STATE);
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        made->shards[i].deletions = engine->shards[i].deletions;
        imv_deletions_retain(made->shards[i].deletions);
    }
    atomic_fetch_add(&engine->snapshots, 1);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    made->parts = parts;
    made->taken_at_ns = imv_clock_wall_ns(engine->clock);
    *snapshot = made;
    return IMV_OK;
}

void imv_snapshot_release(struct imv_snapshot *snapshot) {
    if (snapshot == NULL) return;
    for (uint32_t i = 0; i < snapshot->shards_count; i++) {
        struct imv_snapshot_shard *shard = &snapshot->shards[i];
        for (uint32_t k = 0; k < shard->heads_count; k++) imv_head_release(shard->heads[k]);
        imv_deletions_release(shard->deletions);
    }
    imv_parts_release(snapshot->parts, snapshot->kv);
    uint32_t before = atomic_fetch_sub(&snapshot->engine->snapshots, 1);
    imv_assert(before > 0);
    free(snapshot->shards);
    free(snapshot->sequences);
    free(snapshot);
}
