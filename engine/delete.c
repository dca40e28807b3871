#include "engine/delete.h"

#include "engine/engine_internal.h"
#include "storage/base/assert.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

struct imv_deletion_request {
    _Atomic uint32_t references;
    const struct imv_label *label;
    int64_t from, last;
    bool whole;
    bool concerned[IMV_SHARDS_MAX];
    size_t begins[IMV_SHARDS_MAX + 1]; /* of each shard's indices; the end of the last */
    uint32_t *indices;                 /* rising within a shard; NULL when whole */
    /* ---- STATE lock ---- */
    uint32_t unfinished; /* shards */
    struct imv_error failure;
};

/* ---- requests ---- */

void imv_deletion_retain(struct imv_deletion_request *request) {
    uint32_t before = atomic_fetch_add_explicit(&request->references, 1, memory_order_relaxed);
    imv_assert(before > 0);
}

void imv_deletion_release(struct imv_deletion_request *request) {
    uint32_t before = atomic_fetch_sub_explicit(&request->references, 1, memory_order_acq_rel);
    imv_assert(before > 0);
    if (before > 1) return;
    free(request->indices);
    free(request);
}

static int series_compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The shards that have any of the series, which are in order of id. */
static void shards_mark(struct imv_deletion_request *request, struct imv_series *const *series, size_t count) {
    for (size_t from = 0; from < count;) {
        uint32_t shard = series[from]->shard;
        size_t end = count;
        request->concerned[shard] = true;
        for (from++; from < end;) {
            size_t middle = from + (end - from) / 2;
            if (series[middle]->shard == shard)
                from = middle + 1;
            else
                end = middle;
        }
    }
}

/* Sorts the series by shard and index, without doubles, into the request. */
static imv_status request_fill(struct imv_deletion_request *request, struct imv_series *const *series, size_t count,
                               struct imv_error *err) {
    uint64_t *ids = malloc(count * sizeof *ids + 1);
    request->indices = malloc(count * sizeof request->indices[0] + 1);
    if (ids == NULL || request->indices == NULL) {
        free(ids);
        return imv_fail(err, IMV_NO_MEMORY, "delete: no memory for %zu series", count);
    }
    for (size_t i = 0; i < count; i++) {
        imv_assert(series[i]->label == request->label);
        ids[i] = imv_series_id(series[i]);
    }
    if (count > 0) qsort(ids, count, sizeof *ids, series_compare);
    size_t kept = 0;
    for (uint32_t shard = 0, i = 0; shard < IMV_SHARDS_MAX; shard++) {
        request->begins[shard] = kept;
        for (; i < count && ids[i] >> 40 == shard; i++) {
            request->concerned[shard] = true;
            if (i > 0 && ids[i] == ids[i - 1]) continue;
            request->indices[kept++] = (uint32_t)ids[i];
        }
    }
    request->begins[IMV_SHARDS_MAX] = kept;
    free(ids);
    return IMV_OK;
}

static imv_status request_new(struct imv_engine *engine, const struct imv_deletion *deletion,
                              struct imv_deletion_request **made, struct imv_error *err) {
    if (deletion->from > deletion->last) return imv_fail(err, IMV_INVALID, "delete: the range ends before it begins");
    if (!imv_engine_recovered(engine)) return imv_fail(err, IMV_BUSY, "delete: the journals are being replayed");
    struct imv_deletion_request *request = calloc(1, sizeof *request);
    if (request == NULL) return imv_fail(err, IMV_NO_MEMORY, "delete: no memory");
    atomic_init(&request->references, 1);
    request->label = deletion->label;
    request->from = deletion->from;
    request->last = deletion->last;
    request->whole = deletion->whole;
    struct imv_series *const *series = deletion->series;
    size_t count = deletion->series_count; /* of all series, when whole */
    /* The whole label concerns the shards that have a series of it: only those are sure to know the label after a
     * restart. */
    struct imv_series **all = NULL;
    imv_status status = IMV_OK;
    if (request->whole) {
        struct imv_snapshot *snapshot = NULL; /* keeps series where they are */
        status = imv_snapshot_take(engine, &snapshot, err);
        if (status == IMV_OK) {
            status = imv_catalog_select(engine->catalog, deletion->label, NULL, NULL, &all, &count, err);
        }
        if (status == IMV_OK) shards_mark(request, all, count);
        imv_snapshot_release(snapshot);
        free(all);
    } else {
        status = request_fill(request, series, count, err);
    }
    if (status != IMV_OK) {
        imv_deletion_release(request);
        return status;
    }
    *made = request;
    return IMV_OK;
}

/* Puts the request into the queues of all shards that it concerns, or of none; STATE is held. */
static imv_status request_enqueue(struct imv_engine *engine, struct imv_deletion_request *request,
                                  struct imv_error *err) {
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        const struct imv_engine_shard *state = &engine->shards[i];
        if (!request->concerned[i]) continue;
        if (!state->open) return imv_fail(err, IMV_CLOSED, "delete: shard %u is closed", i);
        if (state->deletions_waiting == IMV_DELETION_QUEUE) {
            return imv_fail(err, IMV_BUSY, "delete: %d deletions wait at shard %u", IMV_DELETION_QUEUE, i);
        }
    }
    for (uint32_t i = 0; i < engine->shards_count; i++) {
        struct imv_engine_shard *state = &engine->shards[i];
        if (!request->concerned[i]) continue;
        state->deletion_queue[state->deletions_waiting++] = request;
        atomic_store_explicit(&state->deletion_asked, true, memory_order_release);
        imv_deletion_retain(request);
        request->unfinished++;
    }
    return IMV_OK;
}

/* Puts the request into the queues, waiting until then for room in them. */
static imv_status request_send(struct imv_engine *engine, struct imv_deletion_request *request, int64_t until_ns,
                               struct imv_error *err) {
    bool in_time = true;
    imv_status status;
    imv_engine_lock(engine, IMV_RANK_STATE);
    while ((status = request_enqueue(engine, request, err)) == IMV_BUSY && in_time) {
        in_time = imv_engine_changed_wait(engine, until_ns);
    }
    imv_engine_unlock(engine, IMV_RANK_STATE);
    for (uint32_t i = 0; status == IMV_OK && i < engine->shards_count; i++) {
        if (request->concerned[i]) imv_exchange_wake(&engine->exchange, i);
    }
    return status;
}

imv_status imv_engine_delete_begin(struct imv_engine *engine, const struct imv_deletion *deletion, int64_t timeout_ns,
                                   struct imv_deletion_request **request, struct imv_error *err) {
    int64_t until_ns = imv_engine_until_ns(timeout_ns);
    IMV_TRY(request_new(engine, deletion, request, err));
    imv_status status = request_send(engine, *request, until_ns, err);
    if (status != IMV_OK) imv_deletion_release(*request);
    return status;
}

/* STATE is held. */
static imv_status request_status(const struct imv_deletion_request *request, struct imv_error *err) {
    if (request->unfinished > 0) return imv_fail(err, IMV_BUSY, "delete: not done yet");
    if (request->failure.status != IMV_OK && err != NULL) *err = request->failure;
    return request->failure.status;
}

imv_status imv_engine_delete_wait(struct imv_engine *engine, struct imv_deletion_request *request, int64_t timeout_ns,
                                  struct imv_error *err) {
    int64_t until_ns = imv_engine_until_ns(timeout_ns);
    bool in_time = true;
    imv_status status;
    imv_engine_lock(engine, IMV_RANK_STATE);
    while ((status = request_status(request, err)) == IMV_BUSY && in_time) {
        in_time = imv_engine_changed_wait(engine, until_ns);
    }
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return status;
}

void imv_engine_delete_end(struct imv_deletion_request *request) {
    if (request != NULL) imv_deletion_release(request);
}

imv_status imv_engine_delete(struct imv_engine *engine, const struct imv_deletion *deletion, int64_t timeout_ns,
                             struct imv_error *err) {
    int64_t until_ns = imv_engine_until_ns(timeout_ns);
    struct imv_deletion_request *request;
    IMV_TRY(imv_engine_delete_begin(engine, deletion, timeout_ns, &request, err));
    imv_status status = imv_engine_delete_wait(engine, request, until_ns - imv_engine_until_ns(0), err);
    imv_engine_delete_end(request);
    if (status != IMV_BUSY) return status;
    return imv_fail(err, IMV_TIMEOUT, "delete: not done after %" PRId64 " ms; it may still take place",
                    timeout_ns / 1000000);
}

/* ---- the shard's side ---- */

size_t imv_deletion_count(const struct imv_deletion_request *request, uint32_t shard) {
    return request->whole ? 1 : request->begins[shard + 1] - request->begins[shard];
}

struct imv_journal_deletion imv_deletion_part(const struct imv_deletion_request *request, uint32_t shard, size_t from,
                                              size_t count) {
    struct imv_journal_deletion part = {
        .label = request->label, .from = request->from, .last = request->last, .whole = request->whole};
    if (request->whole) return part;
    part.series = request->indices + request->begins[shard] + from;
    part.series_count = count;
    return part;
}

/* STATE is held. */
static struct imv_deletion_request *queue_pop(struct imv_engine *engine, struct imv_engine_shard *state) {
    if (state->deletions_waiting == 0) {
        atomic_store_explicit(&state->deletion_asked, false, memory_order_relaxed);
        return NULL;
    }
    struct imv_deletion_request *first = state->deletion_queue[0];
    state->deletions_waiting--;
    memmove(state->deletion_queue, state->deletion_queue + 1, state->deletions_waiting * sizeof first);
    pthread_cond_broadcast(&engine->changed); /* there is room */
    return first;
}

static struct imv_deletion_request *queue_take(struct imv_engine *engine, uint32_t shard, size_t *tombstones) {
    struct imv_engine_shard *state = &engine->shards[shard];
    if (!atomic_load_explicit(&state->deletion_asked, memory_order_acquire)) return NULL;
    imv_engine_lock(engine, IMV_RANK_STATE);
    struct imv_deletion_request *request = queue_pop(engine, state);
    *tombstones = state->deletions == NULL ? 0 : state->deletions->count;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return request;
}

struct imv_deletion_request *imv_deletion_take(struct imv_engine *engine, uint32_t shard, size_t pending) {
    struct imv_deletion_request *request;
    size_t tombstones;
    while ((request = queue_take(engine, shard, &tombstones)) != NULL) {
        size_t count = imv_deletion_count(request, shard);
        if (tombstones + pending + count <= IMV_TOMBSTONES_MAX) return request;
        struct imv_error err;
        imv_fail(
            &err, IMV_FULL,
            "delete: %zu series and %zu deletions that hold space in chunks are more than the %d that shard %u takes",
            count, tombstones + pending, IMV_TOMBSTONES_MAX, shard);
        imv_deletion_finish(engine, request, &err);
    }
    return NULL;
}

void imv_deletion_finish(struct imv_engine *engine, struct imv_deletion_request *request, const struct imv_error *err) {
    imv_engine_lock(engine, IMV_RANK_STATE);
    imv_assert(request->unfinished > 0);
    request->unfinished--;
    if (err != NULL && request->failure.status == IMV_OK) request->failure = *err;
    bool last = request->unfinished == 0;
    pthread_cond_broadcast(&engine->changed);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    for (uint32_t i = 0; last && i < engine->shards_count; i++) imv_exchange_wake(&engine->exchange, i);
    imv_deletion_release(request);
}

void imv_deletions_refuse(struct imv_engine *engine, uint32_t shard, const struct imv_error *err) {
    struct imv_deletion_request *request;
    size_t tombstones;
    while ((request = queue_take(engine, shard, &tombstones)) != NULL) imv_deletion_finish(engine, request, err);
}

/* ---- lists ---- */

static size_t list_count(const struct imv_deletions *list) { return list == NULL ? 0 : list->count; }

static struct imv_deletions *list_get(struct imv_engine *engine, uint32_t shard) {
    imv_engine_lock(engine, IMV_RANK_STATE);
    struct imv_deletions *list = engine->shards[shard].deletions;
    imv_deletions_retain(list);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return list;
}

/* Puts `after` in the place of `before`, taking over both references, when that is still the list; else releases
 * them. */
static bool list_swap(struct imv_engine *engine, uint32_t shard, struct imv_deletions *before,
                      struct imv_deletions *after) {
    struct imv_engine_shard *state = &engine->shards[shard];
    int64_t more = (int64_t)list_count(after) - (int64_t)list_count(before);
    imv_engine_lock(engine, IMV_RANK_STATE);
    bool current = state->deletions == before;
    if (current) state->deletions = after;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    imv_deletions_release(before);
    imv_deletions_release(current ? before : after);
    if (current) imv_metric_add(IMV_METRIC_tombstones, more);
    return current;
}

/* A list of what `before` holds and of added, which are in its order. */
static imv_status list_join(const struct imv_deletions *before, const struct imv_tombstone *added, size_t added_count,
                            struct imv_deletions **joined, struct imv_error *err) {
    const struct imv_tombstone *items = before == NULL ? NULL : before->items;
    return imv_deletions_join(items, list_count(before), added, added_count, joined, err);
}

/* In the order of a list: the series rise. */
static struct imv_tombstone *tombstones_of(const struct imv_journal_deletion *deletion, uint64_t sequence,
                                           uint64_t position, size_t *count) {
    *count = deletion->whole ? 1 : deletion->series_count;
    struct imv_tombstone *items = malloc(*count * sizeof *items);
    for (size_t i = 0; items != NULL && i < *count; i++) {
        items[i] = (struct imv_tombstone){
            .series = deletion->whole ? (uint32_t)IMV_TOMBSTONE_ALL : deletion->series[i],
            .label = deletion->label->id,
            .from = deletion->from,
            .last = deletion->last,
            .sequence = sequence,
            .position = position,
            .generation = IMV_GENERATION_PENDING,
        };
    }
    return items;
}

imv_status imv_deletion_apply(struct imv_engine *engine, uint32_t shard, const struct imv_journal_deletion *deletion,
                              uint64_t sequence, uint64_t position, struct imv_error *err) {
    size_t count;
    struct imv_tombstone *items = tombstones_of(deletion, sequence, position, &count);
    if (items == NULL) return imv_fail(err, IMV_NO_MEMORY, "delete: no memory for %zu series", count);
    imv_status status;
    for (bool done = false; !done;) {
        struct imv_deletions *before = list_get(engine, shard), *after;
        status = list_join(before, items, count, &after, err);
        if (status != IMV_OK) imv_deletions_release(before);
        done = status != IMV_OK || list_swap(engine, shard, before, after);
    }
    free(items);
    if (status == IMV_OK) imv_metric_add(IMV_METRIC_deletions_total, 1);
    return status;
}

imv_status imv_deletions_seal(struct imv_engine *engine, uint32_t shard, struct imv_deletions **deletions,
                              struct imv_error *err) {
    for (;;) {
        struct imv_deletions *before = list_get(engine, shard), *after;
        size_t pending = 0;
        for (size_t i = 0; i < list_count(before); i++) {
            pending += before->items[i].generation == IMV_GENERATION_PENDING;
        }
        *deletions = before;
        if (pending == 0) return IMV_OK;
        imv_status status = list_join(before, NULL, 0, &after, err);
        if (status != IMV_OK) {
            imv_deletions_release(before);
            *deletions = NULL;
            return status;
        }
        for (size_t i = 0; i < after->count; i++) {
            struct imv_tombstone *item = &after->items[i];
            if (item->generation == IMV_GENERATION_PENDING) item->generation = engine->meta.generation;
        }
        imv_deletions_retain(after);
        *deletions = after;
        if (list_swap(engine, shard, before, after)) return IMV_OK;
        imv_deletions_release(after);
    }
}

/* ---- settling ---- */

bool imv_tombstone_concerns(const struct imv_tombstone *tombstone, uint32_t shard, const struct imv_part *part) {
    if (part->generation > tombstone->generation) return false;
    if (tombstone->label < part->label_min || tombstone->label > part->label_max) return false;
    if (tombstone->last < part->time_min || tombstone->from > part->time_max) return false;
    uint64_t first = (uint64_t)shard << 40, last = first | UINT32_MAX;
    if (tombstone->series != (uint32_t)IMV_TOMBSTONE_ALL) first = last = first | tombstone->series;
    return first <= part->series_max && part->series_min <= last;
}

/* Whether a part may hold rows that the tombstone hides. */
static bool needed(const struct imv_parts *parts, uint32_t shard, const struct imv_tombstone *tombstone) {
    size_t low = imv_parts_find(parts, imv_slot_of(tombstone->from));
    uint32_t slot_last = imv_slot_of(tombstone->last);
    for (size_t i = low; i < parts->count && parts->items[i]->slot <= slot_last; i++) {
        if (imv_tombstone_concerns(tombstone, shard, parts->items[i])) return true;
    }
    return false;
}

/* Makes one tombstone of two of one series that hide the rows of the same parts in one range, or of which one hides all
 * that the other does. Rows of heads do not matter: both are of groups that are in chunks. */
static bool merged(struct imv_tombstone *into, const struct imv_tombstone *next) {
    if (into->series != next->series || into->label != next->label) return false;
    bool joined = into->last == INT64_MAX || next->from <= into->last + 1;
    if (into->generation == next->generation && joined) {
        if (next->last > into->last) {
            into->last = next->last;
            into->recorded = false;
        }
        return true;
    }
    return next->last <= into->last && next->generation <= into->generation;
}

imv_status imv_deletions_settle(struct imv_engine *engine, uint32_t shard, uint64_t position,
                                struct imv_meta_batch *batch, struct imv_settlement *settlement,
                                struct imv_error *err) {
    *settlement = (struct imv_settlement){.before = list_get(engine, shard)};
    const struct imv_deletions *before = settlement->before;
    if (before == NULL) return IMV_OK;
    struct imv_tombstone *kept = malloc(before->count * sizeof *kept);
    if (kept == NULL) {
        imv_settlement_release(settlement);
        return imv_fail(err, IMV_NO_MEMORY, "delete: no memory to settle %zu deletions", before->count);
    }
    size_t count = 0, candidate = SIZE_MAX; /* the last kept one that is settled */
    for (size_t i = 0; i < before->count; i++) {
        struct imv_tombstone item = before->items[i];
        if (item.position > position) {
            kept[count++] = item;
            continue;
        }
        imv_assert(item.generation != IMV_GENERATION_PENDING);
        if (needed(engine->meta.parts, shard, &item) && (candidate == SIZE_MAX || !merged(&kept[candidate], &item))) {
            candidate = count;
            kept[count++] = item;
            continue;
        }
        /* Also when it is not known to be recorded: a write that failed may have put it there. */
        imv_meta_delete_tombstone(batch, shard, &item);
        settlement->changes++;
    }
    for (size_t i = 0; i < count; i++) {
        if (kept[i].position > position || kept[i].recorded) continue;
        imv_meta_put_tombstone(batch, shard, &kept[i]);
        kept[i].recorded = true;
        settlement->changes++;
    }
    settlement->kept = kept;
    settlement->kept_count = count;
    return IMV_OK;
}

/* What the shard's thread has added to the list since the settlement began; those have the highest positions. */
static size_t added_since(const struct imv_deletions *now, const struct imv_deletions *before,
                          struct imv_tombstone *added) {
    uint64_t known = 0;
    for (size_t i = 0; i < before->count; i++) {
        if (before->items[i].position > known) known = before->items[i].position;
    }
    size_t count = 0;
    for (size_t i = 0; i < list_count(now); i++) {
        if (now->items[i].position > known) added[count++] = now->items[i];
    }
    return count;
}

void imv_deletions_settled(struct imv_engine *engine, uint32_t shard, struct imv_settlement *settlement) {
    for (bool done = settlement->changes == 0; !done;) {
        struct imv_deletions *now = list_get(engine, shard), *after = NULL;
        struct imv_tombstone *added = malloc(list_count(now) * sizeof *added + 1);
        imv_status status = IMV_NO_MEMORY;
        if (added != NULL) {
            size_t count = added_since(now, settlement->before, added);
            status = imv_deletions_join(settlement->kept, settlement->kept_count, added, count, &after, NULL);
        }
        free(added);
        if (status != IMV_OK) imv_deletions_release(now);
        done = status != IMV_OK || list_swap(engine, shard, now, after);
    }
    imv_settlement_release(settlement);
}

void imv_settlement_release(struct imv_settlement *settlement) {
    free(settlement->kept);
    imv_deletions_release(settlement->before);
    *settlement = (struct imv_settlement){0};
}

static imv_status shard_sweep(struct imv_engine *engine, uint32_t shard, struct imv_error *err) {
    struct imv_meta_batch batch;
    struct imv_settlement settlement;
    imv_meta_batch_init(&batch);
    uint64_t watermark = atomic_load_explicit(&engine->shards[shard].watermark, memory_order_acquire);
    imv_status status = imv_deletions_settle(engine, shard, watermark, &batch, &settlement, err);
    if (status == IMV_OK && settlement.changes > 0) status = imv_meta_write(&batch, engine->kv, err);
    if (status == IMV_OK)
        imv_deletions_settled(engine, shard, &settlement);
    else
        imv_settlement_release(&settlement);
    imv_meta_batch_release(&batch);
    return status;
}

imv_status imv_deletions_sweep(struct imv_engine *engine, struct imv_error *err) {
    for (uint32_t shard = 0; shard < engine->shards_count; shard++) IMV_TRY(shard_sweep(engine, shard, err));
    return IMV_OK;
}
