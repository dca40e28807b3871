#include "engine/retention.h"

#include "engine/engine_internal.h"
#include "storage/base/log.h"

#include <stdlib.h>

/* The latest horizon that all labels of the part agree on. */
static int64_t part_horizon(struct imv_engine *engine, const struct imv_part *part, int64_t now_ns) {
    const struct imv_class *class = &engine->meta.classes[part->class];
    int64_t horizon = INT64_MAX;
    for (uint32_t i = 0; i < class->labels_count && horizon > INT64_MIN; i++) {
        if (class->labels[i] < part->label_min || class->labels[i] > part->label_max) continue;
        const struct imv_label *label = imv_catalog_label_by_id(engine->catalog, class->labels[i]);
        int64_t own = label == NULL ? INT64_MIN : imv_retention_horizon(label, now_ns);
        if (own < horizon) horizon = own;
    }
    return horizon == INT64_MAX ? INT64_MIN : horizon; /* no label: not a part that we understand */
}

/* Marks what is to go; a mark means nothing while a list that the engine holds has the part. */
static size_t mark(struct imv_engine *engine, struct imv_meta_batch *batch) {
    int64_t now_ns = imv_clock_wall_ns(engine->clock);
    const struct imv_parts *parts = engine->meta.parts;
    size_t count = 0;
    for (size_t i = 0; i < parts->count; i++) {
        struct imv_part *part = parts->items[i];
        if (part->time_max >= part_horizon(engine, part, now_ns)) continue;
        atomic_store(&part->retired, true);
        imv_meta_delete_part(batch, part);
        count++;
    }
    return count;
}

static void unmark(struct imv_engine *engine) {
    const struct imv_parts *parts = engine->meta.parts;
    for (size_t i = 0; i < parts->count; i++) atomic_store(&parts->items[i]->retired, false);
}

static imv_status retire(struct imv_engine *engine, struct imv_meta_batch *batch, struct imv_error *err) {
    struct imv_parts *parts = NULL;
    imv_status status = imv_parts_new(engine->meta.parts, NULL, 0, &parts, err);
    if (status == IMV_OK) status = imv_meta_write(batch, engine->kv, err);
    if (status != IMV_OK) {
        unmark(engine);
        if (parts != NULL) imv_parts_abandon(parts);
        return status;
    }
    imv_engine_lock(engine, IMV_RANK_STATE);
    struct imv_parts *before = engine->meta.parts;
    engine->meta.parts = parts;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    imv_parts_release(before, engine->kv);
    return IMV_OK;
}

imv_status imv_retention_step(struct imv_engine *engine, bool *did_work, struct imv_error *err) {
    struct imv_error local;
    if (err == NULL) err = &local;
    *did_work = false;
    imv_engine_lock(engine, IMV_RANK_FLUSH);
    int64_t now_ns = imv_clock_monotonic_ns(engine->clock);
    imv_status status = IMV_OK;
    if (now_ns >= engine->retention_at_ns) {
        engine->retention_at_ns = now_ns + IMV_RETENTION_PERIOD_NS;
        struct imv_meta_batch batch;
        imv_meta_batch_init(&batch);
        size_t count = mark(engine, &batch);
        if (count > 0) {
            status = retire(engine, &batch, err);
            *did_work = true;
        }
        if (status == IMV_OK) status = imv_deletions_sweep(engine, err);
        imv_ended_look(engine);
        if (status != IMV_OK) imv_log(IMV_LOG_ERROR, "retention", "%s", err->message);
        if (status == IMV_OK && count > 0) imv_log(IMV_LOG_INFO, "retention", "parts_dropped=%zu", count);
        imv_meta_batch_release(&batch);
    }
    if (status == IMV_OK) status = imv_ended_step(engine, err);
    imv_engine_unlock(engine, IMV_RANK_FLUSH);
    return status;
}
