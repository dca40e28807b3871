#include "engine/engine.h"

#include "engine/backup.h"
#include "engine/consolidate.h"
#include "engine/consolidate_choice.h"
#include "engine/engine_internal.h"
#include "engine/flush.h"
#include "engine/head.h"
#include "engine/resources.h"
#include "engine/retention.h"
#include "storage/base/assert.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Five million keys, each known to the writers of two shards, with the tables that they grow from. */
static const size_t series_cache_bytes_max = (size_t)512 << 20;
/* What a shard needs at least to make progress: a head with a few of the largest rows, a journal whose next segment can
 * be written while others wait for their flush. */
static const size_t head_share_min = (size_t)16 << 20, batch_share_min = (size_t)16 << 20;
enum { WAL_SEGMENTS_MIN = 4 };

/* ---- locks ---- */

static _Thread_local unsigned locks_held; /* bit: rank */

void imv_engine_lock(struct imv_engine *engine, enum imv_engine_rank rank) {
    imv_assert(locks_held >> rank == 0);
    pthread_mutex_lock(&engine->locks[rank]);
    locks_held |= 1u << rank;
}

void imv_engine_unlock(struct imv_engine *engine, enum imv_engine_rank rank) {
    imv_assert(locks_held >> rank == 1);
    locks_held &= ~(1u << rank);
    pthread_mutex_unlock(&engine->locks[rank]);
}

static void locks_init(struct imv_engine *engine) {
    for (int i = 0; i < IMV_RANKS; i++) pthread_mutex_init(&engine->locks[i], NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&engine->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void locks_release(struct imv_engine *engine) {
    pthread_cond_destroy(&engine->changed);
    for (int i = 0; i < IMV_RANKS; i++) pthread_mutex_destroy(&engine->locks[i]);
}

/* Waits for a change, at most duration_ns of real time; STATE is held. */
static void changed_wait(struct imv_engine *engine, int64_t duration_ns) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nanoseconds = until.tv_nsec + duration_ns % 1000000000;
    until.tv_sec += duration_ns / 1000000000 + nanoseconds / 1000000000;
    until.tv_nsec = nanoseconds % 1000000000;
    pthread_cond_timedwait(&engine->changed, &engine->locks[IMV_RANK_STATE], &until);
}

static int64_t real_ns(void) { return imv_clock_monotonic_ns(imv_clock_system()); }

int64_t imv_engine_until_ns(int64_t timeout_ns) {
    int64_t until_ns;
    return __builtin_add_overflow(real_ns(), timeout_ns, &until_ns) ? INT64_MAX : until_ns;
}

bool imv_engine_changed_wait(struct imv_engine *engine, int64_t until_ns) {
    int64_t now_ns = real_ns();
    if (until_ns <= now_ns) return false;
    changed_wait(engine, until_ns - now_ns);
    return true;
}

/* ---- opening ---- */

void imv_engine_options_init(struct imv_engine_options *options, const char *directory) {
    *options = (struct imv_engine_options){.directory = directory,
                                           .head_bytes_max = (size_t)2 << 30,
                                           .batch_bytes_max = (size_t)256 << 20,
                                           .wal_bytes_max = UINT64_C(2) << 30,
                                           .wal_segment_bytes = UINT64_C(64) << 20,
                                           .flush_age_ns = INT64_C(3600) * 1000000000,
                                           .limits = {IMV_SERIES_MAX, IMV_SERIES_MAX, IMV_CATALOG_BYTES_MAX},
                                           .background = true};
}

static uint32_t shards_default(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1) return 1;
    return cores > IMV_SHARDS_MAX ? IMV_SHARDS_MAX : (uint32_t)cores;
}

static char *path_join(const char *directory, const char *name) {
    char *path;
    return asprintf(&path, "%s/%s", directory, name) < 0 ? NULL : path;
}

static imv_status paths_make(struct imv_engine *engine, struct imv_error *err) {
    engine->path = strdup(engine->options.directory);
    engine->wal_path = path_join(engine->options.directory, "wal");
    engine->options.directory = engine->path;
    if (engine->path != NULL && engine->wal_path != NULL) return IMV_OK;
    return imv_fail(err, IMV_NO_MEMORY, "engine: no memory");
}

static imv_status directory_open(struct imv_engine *engine, struct imv_error *err) {
    engine->io = engine->options.io;
    if (engine->io == NULL) {
        IMV_TRY(imv_io_sys_new(&engine->io, err));
        engine->io_owned = true;
    }
    uint32_t shards = engine->options.shards > 0 ? engine->options.shards : shards_default();
    if (shards > IMV_SHARDS_MAX) {
        return imv_fail(err, IMV_INVALID, "engine: %u shards are more than %d", shards, IMV_SHARDS_MAX);
    }
    IMV_TRY(imv_directory_open(engine->io, engine->path, shards, &engine->directory, err));
    engine->shards_count = engine->directory.shards;
    if (engine->options.shards > 0 && engine->options.shards != engine->shards_count) {
        imv_log(IMV_LOG_INFO, "engine", "directory=%s keeps its shards=%u", engine->path, engine->shards_count);
    }
    return IMV_OK;
}

static imv_status store_open(struct imv_engine *engine, struct imv_error *err) {
    engine->kv = engine->options.kv;
    if (engine->kv != NULL) return IMV_OK;
    IMV_TRY(imv_backup_clear(engine->path, err));
    char *path = path_join(engine->path, "rocksdb");
    if (path == NULL) return imv_fail(err, IMV_NO_MEMORY, "engine: no memory");
    imv_status status = imv_kv_open(path, &engine->kv, err);
    free(path);
    return status;
}

/* The bounds of the options that keep every part able to make progress. */
static void budgets_init(struct imv_engine *engine) {
    struct imv_engine_options *options = &engine->options;
    size_t shards = engine->shards_count;
    if (options->head_bytes_max < shards * head_share_min) options->head_bytes_max = shards * head_share_min;
    if (options->batch_bytes_max < shards * batch_share_min) options->batch_bytes_max = shards * batch_share_min;
    if (options->wal_bytes_max < WAL_SEGMENTS_MIN * options->wal_segment_bytes) {
        options->wal_bytes_max = WAL_SEGMENTS_MIN * options->wal_segment_bytes;
    }
    if (options->cold_ns <= 0) options->cold_ns = options->flush_age_ns + IMV_COLD_NS;
    imv_budget_init(&engine->head_budget, "heads", options->head_bytes_max);
    imv_budget_init(&engine->batch_budget, "batches", options->batch_bytes_max);
    imv_budget_init(&engine->series_cache_budget, "series_caches", series_cache_bytes_max);
    imv_budget_init(&engine->catalog_budget, "catalog", imv_catalog_bytes_max(engine->catalog));
    struct imv_kv_usage usage;
    imv_kv_usage(engine->kv, &usage);
    imv_budget_init(&engine->block_cache_budget, "block_cache", usage.cache_bytes_max);
    imv_budget_init(&engine->memtable_budget, "memtables", usage.memtable_bytes_max);
    engine->budgets_made = true;
}

static imv_status shards_make(struct imv_engine *engine, struct imv_error *err) {
    engine->shards = calloc(engine->shards_count, sizeof *engine->shards);
    if (engine->shards == NULL) return imv_fail(err, IMV_NO_MEMORY, "engine: no memory for its shards");
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        atomic_init(&engine->shards[i].sequence, IMV_SEQUENCE_LOADED);
        atomic_init(&engine->shards[i].watermark, engine->meta.watermarks[i]);
        engine->shards[i].deletions = engine->meta.deletions[i];
        engine->meta.deletions[i] = NULL;
        if (engine->shards[i].deletions != NULL) {
            imv_metric_add(IMV_METRIC_tombstones, (int64_t)engine->shards[i].deletions->count);
        }
    }
    return imv_exchange_init(&engine->exchange, engine->shards_count, engine->options.wake, engine->options.context,
                             err);
}

/* A part under its key prefix, to be found among all prefixes in the store. */
struct named {
    uint8_t prefix[IMV_PART_KEY_BYTES];
    struct imv_part *part;
};

static int named_compare(const void *left, const void *right) {
    return memcmp(((const struct named *)left)->prefix, ((const struct named *)right)->prefix, IMV_PART_KEY_BYTES);
}

static int group_compare(const void *left, const void *right) {
    return memcmp(((const struct named *)left)->prefix, ((const struct named *)right)->prefix,
                  IMV_PART_GROUP_KEY_BYTES);
}

/* All parts in order of the bytes of their prefixes, malloc'ed. */
static struct named *parts_named(const struct imv_parts *parts) {
    struct named *named = calloc(parts->count + 1, sizeof *named);
    if (named == NULL) return NULL;
    for (size_t i = 0; i < parts->count; i++) {
        named[i].part = parts->items[i];
        imv_part_prefix_put(named[i].prefix, parts->items[i]);
    }
    if (parts->count > 0) qsort(named, parts->count, sizeof *named, named_compare);
    return named;
}

static imv_status orphans_drop_range(struct imv_engine *engine, const uint8_t *from, const uint8_t *to,
                                     struct imv_error *err) {
    return imv_kv_drop_range(engine->kv, IMV_KV_CHUNKS, (struct imv_str){(char *)(uintptr_t)from, IMV_PART_KEY_BYTES},
                             (struct imv_str){(char *)(uintptr_t)to, IMV_PART_KEY_BYTES}, err);
}

/* What is at a prefix that no part names: true when its files hold nothing else and may go. Scattered parts share files
 * with others that may still be named. */
static bool orphan_found(struct imv_meta *meta, const struct named *named, const struct named *orphan) {
    struct imv_part part;
    imv_part_prefix_parse(orphan->prefix, &part);
    if (part.generation > meta->generation) meta->generation = part.generation;
    if (part.tier != IMV_TIER_SCATTERED) return true;
    const struct named *other = bsearch(orphan, named, meta->parts->count, sizeof *named, group_compare);
    if (other == NULL) return true;
    atomic_fetch_add(&other->part->group->dead, 1);
    return false;
}

/* Walks over all prefixes among the chunks, from each to the next, and drops those that no part names: what a flush or
 * consolidation ingested without recording it, or what was taken out of the record and could not be dropped. Neighbours
 * are dropped as one range. A generation seen there is not used again, should a file have to stay. */
static imv_status orphans_walk(struct imv_engine *engine, struct imv_kv_iterator *iterator, const struct named *named,
                               size_t *found, size_t *dropped, struct imv_error *err) {
    uint8_t from[IMV_PART_KEY_BYTES], to[IMV_PART_KEY_BYTES] = {0};
    bool pending = false; /* [from, to) is to be dropped */
    struct imv_str key, value;
    for (;;) {
        imv_kv_seek(iterator, (struct imv_str){(char *)to, sizeof to});
        if (!imv_kv_valid(iterator, &key, &value)) break;
        struct named here = {0};
        if (key.size < sizeof here.prefix) {
            return imv_fail(err, IMV_CORRUPT, "engine: a key of %zu bytes among the chunks", key.size);
        }
        memcpy(here.prefix, key.data, sizeof here.prefix);
        bool known = bsearch(&here, named, engine->meta.parts->count, sizeof *named, named_compare) != NULL;
        if (known || !orphan_found(&engine->meta, named, &here)) {
            if (pending) IMV_TRY(orphans_drop_range(engine, from, to, err));
            pending = false;
            *found += known;
        } else {
            if (!pending) memcpy(from, here.prefix, sizeof from);
            pending = true;
            ++*dropped;
        }
        imv_part_prefix_end(to, here.prefix, sizeof here.prefix);
    }
    IMV_TRY(imv_kv_status(iterator, err));
    return pending ? orphans_drop_range(engine, from, to, err) : IMV_OK;
}

static imv_status orphans_drop(struct imv_engine *engine, struct imv_error *err) {
    struct imv_kv_iterator *iterator = NULL;
    struct named *named = parts_named(engine->meta.parts);
    if (named == NULL) return imv_fail(err, IMV_NO_MEMORY, "engine: no memory for the list of parts");
    size_t found = 0, dropped = 0, parts = engine->meta.parts->count;
    imv_status status = imv_kv_iterate(engine->kv, IMV_KV_CHUNKS, &iterator, err);
    if (status == IMV_OK) status = orphans_walk(engine, iterator, named, &found, &dropped, err);
    imv_kv_iterator_free(iterator);
    free(named);
    if (dropped > 0) imv_log(IMV_LOG_INFO, "engine", "dropped=%zu slots that no part names", dropped);
    if (status == IMV_OK && found < parts) {
        imv_log(IMV_LOG_ERROR, "engine", "%zu of %zu parts have no chunks: run the offline check", parts - found,
                parts);
    }
    return status;
}

/* Of loaded series no more is known than that their rows are in parts. */
static void loaded_series_note(struct imv_engine *engine) {
    int64_t newest = INT64_MIN;
    for (size_t i = 0; i < engine->meta.parts->count; i++) {
        if (engine->meta.parts->items[i]->time_max > newest) newest = engine->meta.parts->items[i]->time_max;
    }
    imv_catalog_note_loaded(engine->catalog, newest);
}

static void *background_main(void *argument);

static imv_status background_start(struct imv_engine *engine, struct imv_error *err) {
    if (!engine->options.background) return IMV_OK;
    int error_number = pthread_create(&engine->thread, NULL, background_main, engine);
    if (error_number != 0) return imv_fail_errno(err, IMV_NO_MEMORY, error_number, "engine: no background thread");
    engine->thread_started = true;
    return IMV_OK;
}

imv_status imv_engine_open(const struct imv_engine_options *options, struct imv_engine **engine,
                           struct imv_error *err) {
    struct imv_engine *opened = calloc(1, sizeof *opened);
    if (opened == NULL) {
        imv_kv_close(options->kv);
        return imv_fail(err, IMV_NO_MEMORY, "engine: no memory");
    }
    opened->options = *options;
    opened->kv = options->kv;
    opened->clock = options->clock != NULL ? options->clock : imv_clock_system();
    locks_init(opened);
    imv_status status = paths_make(opened, err);
    if (status == IMV_OK) status = directory_open(opened, err);
    if (status == IMV_OK) status = store_open(opened, err);
    if (status == IMV_OK) status = imv_meta_load(opened->kv, &opened->meta, err);
    if (status == IMV_OK) status = imv_catalog_open(opened->kv, opened->shards_count, &opened->catalog, err);
    if (status == IMV_OK) imv_catalog_set_limits(opened->catalog, &opened->options.limits);
    if (status == IMV_OK) loaded_series_note(opened);
    if (status == IMV_OK) status = orphans_drop(opened, err);
    if (status == IMV_OK) budgets_init(opened);
    if (status == IMV_OK) status = shards_make(opened, err);
    if (status == IMV_OK) status = background_start(opened, err);
    if (status != IMV_OK) {
        imv_engine_close(opened);
        return status;
    }
    imv_log(IMV_LOG_INFO, "engine", "directory=%s shards=%u parts=%zu generation=%u", opened->path,
            opened->shards_count, opened->meta.parts->count, opened->meta.generation);
    *engine = opened;
    return IMV_OK;
}

/* ---- closing ---- */

static void background_stop(struct imv_engine *engine) {
    if (!engine->thread_started) return;
    imv_engine_lock(engine, IMV_RANK_STATE);
    engine->stopping = true;
    pthread_cond_broadcast(&engine->changed);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    pthread_join(engine->thread, NULL);
}

static void shard_state_release(struct imv_engine_shard *state) {
    imv_assert(!state->open && state->deletions_waiting == 0);
    if (state->deletions != NULL) imv_metric_add(IMV_METRIC_tombstones, -(int64_t)state->deletions->count);
    imv_deletions_release(state->deletions);
    for (uint32_t i = 0; i < state->heads_count; i++) {
        struct imv_engine_head *entry = &state->heads[i];
        for (size_t k = 0; k < entry->parts_count; k++) imv_part_free(entry->parts[k]);
        free(entry->parts);
        imv_head_release(entry->head);
    }
}

static void shown_release(struct imv_budget *budget) {
    imv_budget_show(budget, 0);
    imv_budget_release(budget);
}

void imv_engine_close(struct imv_engine *engine) {
    if (engine == NULL) return;
    background_stop(engine);
    imv_consolidation_free(engine->consolidation);
    imv_assert(atomic_load(&engine->snapshots) == 0);
    for (uint32_t i = 0; engine->shards != NULL && i < engine->shards_count; i++) {
        shard_state_release(&engine->shards[i]);
    }
    free(engine->shards);
    if (engine->exchange.cells != NULL) imv_exchange_release(&engine->exchange);
    if (engine->budgets_made) {
        imv_budget_release(&engine->head_budget);
        imv_budget_release(&engine->batch_budget);
        imv_budget_release(&engine->series_cache_budget);
        shown_release(&engine->catalog_budget);
        shown_release(&engine->block_cache_budget);
        shown_release(&engine->memtable_budget);
    }
    imv_ended_release(&engine->ended);
    imv_catalog_close(engine->catalog);
    imv_meta_release(&engine->meta, engine->kv);
    imv_kv_close(engine->kv);
    imv_directory_close(&engine->directory);
    if (engine->io_owned) imv_io_free(engine->io);
    locks_release(engine);
    free(engine->path);
    free(engine->wal_path);
    free(engine);
}

/* ---- small things ---- */

uint32_t imv_engine_shards_count(const struct imv_engine *engine) { return engine->shards_count; }
struct imv_catalog *imv_engine_catalog(struct imv_engine *engine) {
    return engine->catalog;
}
struct imv_kv *imv_engine_kv(struct imv_engine *engine) {
    return engine->kv;
}
const struct imv_clock *imv_engine_clock(const struct imv_engine *engine) { return engine->clock; }
struct imv_exchange *imv_engine_exchange(struct imv_engine *engine) {
    return &engine->exchange;
}
struct imv_budget *imv_engine_batch_budget(struct imv_engine *engine) {
    return &engine->batch_budget;
}

struct imv_budget *imv_engine_series_cache_budget(struct imv_engine *engine) {
    return &engine->series_cache_budget;
}

size_t imv_engine_head_share(const struct imv_engine *engine) {
    return engine->options.head_bytes_max / engine->shards_count;
}

bool imv_engine_recovered(struct imv_engine *engine) {
    imv_engine_lock(engine, IMV_RANK_STATE);
    bool recovered = true;
    for (uint32_t i = 0; i < engine->shards_count; i++) recovered &= engine->shards[i].opened;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return recovered;
}

imv_status imv_engine_health(struct imv_engine *engine, struct imv_error *err) {
    struct imv_error failure = {0};
    for (uint32_t i = 0; i < engine->shards_count && failure.status == IMV_OK; i++) {
        const struct imv_error *closed = imv_exchange_failure(&engine->exchange, i);
        if (closed != NULL) failure = *closed;
    }
    if (failure.status == IMV_OK) imv_exchange_accepts(&engine->exchange, &failure);
    if (failure.status == IMV_OK) {
        imv_engine_lock(engine, IMV_RANK_STATE);
        for (uint32_t i = 0; i < engine->shards_count && failure.status == IMV_OK; i++) {
            failure = engine->shards[i].flush_failure;
        }
        imv_engine_unlock(engine, IMV_RANK_STATE);
    }
    if (failure.status != IMV_OK && err != NULL) *err = failure;
    return failure.status;
}

imv_status imv_engine_persist(struct imv_engine *engine, struct imv_error *err) {
    imv_engine_lock(engine, IMV_RANK_PERSIST);
    imv_status status = imv_catalog_persist(engine->catalog, err);
    imv_engine_unlock(engine, IMV_RANK_PERSIST);
    return status;
}

static void background_wake(struct imv_engine *engine) {
    imv_engine_lock(engine, IMV_RANK_STATE);
    engine->work = true;
    pthread_cond_broadcast(&engine->changed);
    imv_engine_unlock(engine, IMV_RANK_STATE);
}

imv_status imv_engine_set_retention(struct imv_engine *engine, struct imv_str label_name, int64_t retention_ns,
                                    struct imv_error *err) {
    if (retention_ns < 0) {
        return imv_fail(err, IMV_INVALID, "retention: %" PRId64 " ns is below nothing", retention_ns);
    }
    if (!imv_engine_recovered(engine)) return imv_fail(err, IMV_BUSY, "retention: the journals are being replayed");
    struct imv_label *label;
    IMV_TRY(imv_catalog_label(engine->catalog, label_name, &label, err));
    imv_label_set_retention(engine->catalog, label, retention_ns);
    IMV_TRY(imv_engine_persist(engine, err));
    imv_engine_lock(engine, IMV_RANK_FLUSH);
    engine->retention_at_ns = INT64_MIN;
    imv_engine_unlock(engine, IMV_RANK_FLUSH);
    background_wake(engine);
    return IMV_OK;
}

/* ---- flushing ---- */

static uint64_t ticket_draw(struct imv_engine *engine) {
    uint64_t ticket = atomic_fetch_add_explicit(&engine->flush_ticket, 1, memory_order_acq_rel) + 1;
    for (uint32_t i = 0; i < engine->shards_count; i++) imv_exchange_wake(&engine->exchange, i);
    return ticket;
}

/* STATE is held. A closed shard freezes nothing more; what it left is in its journal. */
static bool ticket_done(const struct imv_engine *engine, uint64_t ticket) {
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        const struct imv_engine_shard *state = &engine->shards[i];
        if (!state->open) continue;
        if (state->ticket_seen < ticket || state->flushed_total < state->ticket_frozen_total) return false;
    }
    return true;
}

void imv_engine_flush_begin(struct imv_engine *engine) { ticket_draw(engine); }

bool imv_engine_flushed(struct imv_engine *engine) {
    uint64_t ticket = atomic_load_explicit(&engine->flush_ticket, memory_order_acquire);
    imv_engine_lock(engine, IMV_RANK_STATE);
    bool done = ticket_done(engine, ticket);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return done;
}

imv_status imv_engine_flush(struct imv_engine *engine, int64_t timeout_ns, struct imv_error *err) {
    uint64_t ticket = ticket_draw(engine);
    int64_t until_ns = imv_engine_until_ns(timeout_ns);
    imv_engine_lock(engine, IMV_RANK_STATE);
    bool done;
    while (!(done = ticket_done(engine, ticket)) && imv_engine_changed_wait(engine, until_ns)) {}
    imv_engine_unlock(engine, IMV_RANK_STATE);
    if (done) return IMV_OK;
    return imv_fail(err, IMV_TIMEOUT, "engine: the flush is not done after %" PRId64 " ms", timeout_ns / 1000000);
}

/* ---- background ---- */

static imv_status background_step(struct imv_engine *engine, bool *did_work, struct imv_error *err) {
    imv_status status = imv_flush_next(engine, did_work, err);
    if (status == IMV_BUSY) imv_consolidate_give_way(engine);
    IMV_TRY(status);
    if (!*did_work) IMV_TRY(imv_retention_step(engine, did_work, err));
    return *did_work ? IMV_OK : imv_consolidate_step(engine, did_work, err);
}

imv_status imv_engine_background_step(struct imv_engine *engine, bool *did_work, struct imv_error *err) {
    imv_assert(!engine->thread_started);
    return background_step(engine, did_work, err);
}

/* How long the background sleeps when nobody wishes for work: failed flushes and retention are due again after a
 * second. While writers pause, nobody tells when they are quiet. */
static int64_t background_wait_ns(const struct imv_engine *engine) {
    return imv_ended_pauses(&engine->ended) ? 1000000 : 1000000000;
}

/* Unless there is more to do already, waits for a wish for work, or a while. False: stop. */
static bool background_next(struct imv_engine *engine, bool more) {
    int64_t wait_ns = background_wait_ns(engine);
    imv_engine_lock(engine, IMV_RANK_STATE);
    if (!more && !engine->work && !engine->stopping) changed_wait(engine, wait_ns);
    engine->work = false;
    bool go_on = !engine->stopping;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return go_on;
}

static void *background_main(void *argument) {
    struct imv_engine *engine = argument;
    bool did_work = true;
    while (background_next(engine, did_work)) {
        imv_resources_look(engine);
        background_step(engine, &did_work, NULL); /* failures are logged where they are, and tried again later */
    }
    return NULL;
}
