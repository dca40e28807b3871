#include "engine/resources.h"

#include "engine/engine_internal.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"

#include <inttypes.h>

/* A disk of 3 GB/s takes 300 MB in this time: the most that may be missed. */
static const int64_t look_ns = INT64_C(100) * 1000000;

static void refuse(struct imv_engine *engine, uint64_t free_bytes) {
    struct imv_error reason;
    imv_fail(&reason, IMV_FULL,
             "the disk of %s is nearly full: %" PRIu64 " bytes are free, storage.free_space keeps %" PRIu64
             "; nothing is written until there is room",
             engine->path, free_bytes, engine->options.free_bytes_min);
    imv_log(IMV_LOG_ERROR, "engine", "%s", reason.message);
    imv_exchange_refuse(&engine->exchange, &reason);
}

static void accept(struct imv_engine *engine, uint64_t free_bytes) {
    imv_log(IMV_LOG_INFO, "engine", "writes go on: %" PRIu64 " bytes are free on the disk of %s", free_bytes,
            engine->path);
    imv_exchange_refuse(&engine->exchange, NULL);
}

void imv_resources_look(struct imv_engine *engine) {
    uint64_t least = engine->options.free_bytes_min;
    int64_t now_ns = imv_clock_monotonic_ns(engine->clock);
    int64_t due_ns = atomic_load_explicit(&engine->look_at_ns, memory_order_relaxed);
    if (least == 0 || now_ns < due_ns) return;
    /* Whoever moves the time looks; looks are too far apart to overtake each other. */
    if (!atomic_compare_exchange_strong(&engine->look_at_ns, &due_ns, now_ns + look_ns)) return;
    uint64_t free_bytes = imv_kv_free_bytes(engine->kv);
    bool refusing = imv_exchange_accepts(&engine->exchange, NULL) != IMV_OK;
    if (!refusing && free_bytes < least) refuse(engine, free_bytes);
    if (refusing && free_bytes >= least + least / 8) accept(engine, free_bytes);
}

/* ---- for /metrics ---- */

void imv_engine_observe(struct imv_engine *engine) {
    struct imv_kv_usage usage;
    uint64_t free_bytes = imv_kv_free_bytes(engine->kv);
    imv_kv_usage(engine->kv, &usage);
    imv_budget_show(&engine->catalog_budget, imv_catalog_bytes(engine->catalog));
    imv_budget_show(&engine->block_cache_budget, usage.cache_bytes);
    imv_budget_show(&engine->memtable_budget, usage.memtable_bytes);
    imv_metric_set(IMV_METRIC_table_files, (int64_t)usage.tables);
    imv_metric_set(IMV_METRIC_table_files_limit, (int64_t)usage.tables_max);
    imv_metric_set(IMV_METRIC_table_index_bytes, (int64_t)usage.index_bytes);
    imv_metric_set(IMV_METRIC_disk_free_bytes, free_bytes > INT64_MAX ? -1 : (int64_t)free_bytes);
    imv_metric_set(IMV_METRIC_disk_free_bytes_min, (int64_t)engine->options.free_bytes_min);
    imv_metric_set(IMV_METRIC_writes_refused, imv_exchange_accepts(&engine->exchange, NULL) != IMV_OK);
}
