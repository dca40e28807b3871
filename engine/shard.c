#include "engine/shard.h"

#include "engine/engine_internal.h"
#include "engine/flush.h"
#include "engine/head.h"
#include "engine/journal.h"
#include "engine/resources.h"
#include "storage/base/assert.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/wal.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    STAGED_BYTES_MAX = 2 * IMV_WAL_PAYLOAD_BYTES_MAX, /* two groups: more would only take room from the queues */
    ROWS_AT_ONCE = 16,                                /* about as many cache misses as a core has under way */
    GROUP_SHARE = 8, /* a group is at most this part of the head share: what is in flight fits the reserve below */
};
/* Nothing starts above this part of the head memory: the rest is for the groups in flight, so that a durable row seldom
 * waits for memory. */
static const size_t reserve_numerator = 3, reserve_denominator = 4;
/* When work waits for memory or for the journal's space and no wake-up announces it, e.g. a snapshot's release. */
static const int64_t retry_ns = INT64_C(10) * 1000000;

/* Batches in order of arrival. */
struct batch_list {
    struct imv_batch *first, **end;
};

/* What is in one journal group: batches of rows, or a part of a deletion. */
struct group {
    uint64_t position;
    bool synced;
    struct imv_batch *batches; /* the ones that are not applied completely */
    const struct imv_row *row; /* of the first batch: the last row that is applied; NULL: none */
    struct imv_deletion_request
        *deletion; /* a reference; NULL: rows. Of it [deletion_from, deletion_from + deletion_count) */
    size_t deletion_from, deletion_count;
    bool deletion_last; /* nothing of it follows */
};

struct imv_shard {
    struct imv_engine *engine;
    struct imv_engine_shard *state;
    uint32_t index;
    struct imv_wal *wal;
    struct imv_journal_encoder *encoder;
    struct imv_head *active; /* the last of state->heads when that is not frozen, else NULL; the reference is there */
    int64_t active_since_ns;
    uint64_t sequence;          /* of the newest row in a head; published in state->sequence */
    uint64_t applied_position;  /* all groups up to it are in heads or chunks */
    uint64_t released_position; /* what the journal has been told */
    uint64_t replaying_position;
    bool failed;                            /* the journal is closed */
    bool waiting;                           /* there is work that no completion of ours will wake us for */
    uint32_t next_source;                   /* queue to look at first */
    struct batch_list staged;               /* taken from the queues, in no group yet */
    size_t staged_bytes;                    /* of memory: batches with a few rows each may not take all there is */
    struct imv_deletion_request *deletion;  /* of which something is in no group yet, with its reference; NULL: none */
    size_t deletion_next;                   /* the first of its series that is in none */
    size_t deletions_pending;               /* tombstones that all requests taken will still bring */
    bool deletion_before;                   /* the last group was of a deletion: rows have their turn */
    size_t deletions_unfrozen;              /* tombstones applied since the last head was frozen */
    int64_t deletions_since_ns;             /* when the first of them was */
    struct imv_batch *encoded;              /* in payload, which the journal has not taken yet; NULL: none */
    struct imv_buffer payload;              /* its maximum is what a group may hold */
    struct group groups[IMV_WAL_IN_FLIGHT]; /* under way or durable and not applied, oldest first */
    uint32_t groups_count;
};

/* ---- heads ---- */

static void publish(struct imv_shard *shard) {
    atomic_store_explicit(&shard->state->sequence, shard->sequence, memory_order_release);
}

/* Lists a fresh active head. IMV_FULL: the budget is spent, or IMV_HEADS_MAX heads wait for their flush. */
static imv_status head_start(struct imv_shard *shard, struct imv_error *err) {
    struct imv_engine *engine = shard->engine;
    imv_engine_lock(engine, IMV_RANK_STATE);
    bool full = shard->state->heads_count == IMV_HEADS_MAX;
    imv_engine_unlock(engine, IMV_RANK_STATE);
    if (full) return imv_fail(err, IMV_FULL, "shard %u: %d heads wait to be flushed", shard->index, IMV_HEADS_MAX);
    uint64_t generation = atomic_fetch_add(&engine->head_generation, 1) + 1;
    IMV_TRY(imv_head_new(shard->index, generation, shard->sequence, &engine->head_budget, &shard->active, err));
    shard->active_since_ns = imv_clock_monotonic_ns(engine->clock);
    imv_engine_lock(engine, IMV_RANK_STATE);
    shard->state->heads[shard->state->heads_count++] = (struct imv_engine_head){.head = shard->active};
    imv_engine_unlock(engine, IMV_RANK_STATE);
    return IMV_OK;
}

static bool active_has_rows(const struct imv_shard *shard) {
    return shard->active != NULL && imv_head_rows(shard->active) > 0;
}

/* A flush would move the watermark: a head without rows does it for deletions. */
static bool worth_freezing(const struct imv_shard *shard) {
    return active_has_rows(shard) || shard->deletions_unfrozen > 0;
}

/* Hands the active head over to the flush. A group that is applied in part stays above its end position: it would be
 * replayed whole, and its rows, being the same, win over themselves. False: there is none, and other heads have to be
 * flushed before there can be one without rows. */
static bool head_freeze(struct imv_shard *shard) {
    imv_assert(worth_freezing(shard));
    if (shard->active == NULL && head_start(shard, NULL) != IMV_OK) return false;
    publish(shard);
    shard->deletions_unfrozen = 0;
    imv_engine_lock(shard->engine, IMV_RANK_STATE);
    struct imv_engine_head *entry = &shard->state->heads[shard->state->frozen_count];
    imv_assert(entry->head == shard->active);
    entry->end_sequence = shard->sequence;
    entry->end_position = shard->applied_position;
    shard->state->frozen_count++;
    shard->state->frozen_total++;
    shard->engine->work = true;
    pthread_cond_broadcast(&shard->engine->changed);
    imv_engine_unlock(shard->engine, IMV_RANK_STATE);
    shard->active = NULL;
    return true;
}

/* Marks the newest flush ticket as acted on: all that was done when it was given out, deletions too, is in frozen heads
 * or chunks. */
static void ticket_take(struct imv_shard *shard, uint64_t ticket) {
    imv_engine_lock(shard->engine, IMV_RANK_STATE);
    shard->state->ticket_seen = ticket;
    shard->state->ticket_frozen_total = shard->state->frozen_total;
    pthread_cond_broadcast(&shard->engine->changed);
    imv_engine_unlock(shard->engine, IMV_RANK_STATE);
}

static bool has_frozen(struct imv_shard *shard) {
    imv_engine_lock(shard->engine, IMV_RANK_STATE);
    bool frozen = shard->state->frozen_count > 0;
    imv_engine_unlock(shard->engine, IMV_RANK_STATE);
    return frozen;
}

/* Since when there is something worth freezing, which there is. Deletions get old, too: what they hide leaves the disk
 * only after a flush. */
static int64_t unfrozen_since_ns(const struct imv_shard *shard) {
    if (!active_has_rows(shard)) return shard->deletions_since_ns;
    if (shard->deletions_unfrozen == 0 || shard->active_since_ns < shard->deletions_since_ns) {
        return shard->active_since_ns;
    }
    return shard->deletions_since_ns;
}

static bool freeze_due(struct imv_shard *shard) {
    const struct imv_engine *engine = shard->engine;
    if (!worth_freezing(shard)) return false;
    if (shard->deletions_unfrozen > IMV_TOMBSTONES_MAX / 4) return true; /* the flush may merge or drop them */
    if (active_has_rows(shard) && imv_head_bytes(shard->active) > imv_engine_head_share(engine) / 2) return true;
    int64_t age_ns = imv_clock_monotonic_ns(engine->clock) - unfrozen_since_ns(shard);
    if (age_ns >= engine->options.flush_age_ns) return true;
    /* While one is being flushed, journal bytes stay where they are: another small head would not help. */
    return imv_wal_bytes(shard->wal) > engine->options.wal_bytes_max / 2 && !has_frozen(shard);
}

static void heads_turn(struct imv_shard *shard) {
    uint64_t ticket = atomic_load_explicit(&shard->engine->flush_ticket, memory_order_acquire);
    bool asked = ticket != shard->state->ticket_seen; /* written by this thread alone */
    bool wanted = asked ? worth_freezing(shard) : freeze_due(shard);
    if ((!wanted || head_freeze(shard)) && asked) ticket_take(shard, ticket);
}

/* ---- durable rows into heads ---- */

static imv_status row_apply(struct imv_shard *shard, const struct imv_row *row, struct imv_error *err) {
    if (shard->active == NULL) IMV_TRY(head_start(shard, err));
    IMV_TRY(imv_head_append(shard->active, row, shard->sequence + 1, err));
    shard->sequence++;
    imv_series_note_time(row->series, row->timestamp);
    if (atomic_load_explicit(&row->series->visible_at, memory_order_relaxed) == 0) {
        atomic_store_explicit(&row->series->visible_at, shard->sequence, memory_order_release);
    }
    return IMV_OK;
}

/* Counts the batch as applied, which acknowledges it, and frees it. */
static void batch_finish(struct imv_shard *shard, struct imv_batch *batch) {
    publish(shard);
    struct imv_exchange_cell *cell = imv_exchange_cell(&shard->engine->exchange, shard->index, batch->source);
    uint64_t applied = atomic_load_explicit(&cell->applied, memory_order_relaxed);
    atomic_store_explicit(&cell->applied, applied + 1, memory_order_release);
    imv_metric_add(IMV_METRIC_ingest_rows_total, batch->rows);
    imv_metric_add(IMV_METRIC_ingest_values_total, (int64_t)batch->values);
    imv_batch_free(batch);
}

static imv_status deletion_apply(struct imv_shard *shard, const struct imv_journal_deletion *deletion,
                                 uint64_t position, struct imv_error *err) {
    publish(shard);
    IMV_TRY(imv_deletion_apply(shard->engine, shard->index, deletion, shard->sequence, position, err));
    if (shard->deletions_unfrozen == 0) shard->deletions_since_ns = imv_clock_monotonic_ns(shard->engine->clock);
    shard->deletions_unfrozen += deletion->whole ? 1 : deletion->series_count;
    return IMV_OK;
}

/* Of a deletion in parts the last one tells how it ended. */
static void group_deletion_end(struct imv_shard *shard, struct group *group, const struct imv_error *err) {
    if (group->deletion == NULL) return;
    if (group->deletion_last)
        imv_deletion_finish(shard->engine, group->deletion, err);
    else
        imv_deletion_release(group->deletion);
    group->deletion = NULL;
}

/* False when memory is short. */
static bool group_apply_deletion(struct imv_shard *shard, struct group *group) {
    if (group->deletion == NULL) return true;
    struct imv_journal_deletion part =
        imv_deletion_part(group->deletion, shard->index, group->deletion_from, group->deletion_count);
    if (deletion_apply(shard, &part, group->position, NULL) != IMV_OK) return false;
    shard->deletions_pending -= group->deletion_count;
    group_deletion_end(shard, group, NULL);
    return true;
}

/* Applies the rows of the group's first batch that are not applied yet, some at a time: their memory is asked for
 * before the first of them is written. */
static bool batch_apply(struct imv_shard *shard, struct group *group) {
    const struct imv_row *rows[ROWS_AT_ONCE];
    for (;;) {
        size_t count = 0;
        for (const struct imv_row *row = group->row; count < ROWS_AT_ONCE; count++) {
            row = imv_batch_next_row(group->batches, row);
            if (row == NULL) break;
            __builtin_prefetch(row->series);
            rows[count] = row;
        }
        if (count == 0) return true;
        if (shard->active != NULL) imv_head_prefetch(shard->active, rows, count);
        for (size_t i = 0; i < count; i++) {
            if (row_apply(shard, rows[i], NULL) != IMV_OK) return false;
            group->row = rows[i];
        }
    }
}

/* False when memory is short: the group goes on from where it is later. */
static bool group_apply(struct imv_shard *shard, struct group *group, uint64_t *sources) {
    if (!group_apply_deletion(shard, group)) return false;
    while (group->batches != NULL) {
        struct imv_batch *batch = group->batches;
        if (!batch_apply(shard, group)) return false;
        *sources |= UINT64_C(1) << batch->source;
        group->batches = batch->next;
        group->row = NULL;
        batch_finish(shard, batch);
    }
    return true;
}

static void sources_wake(struct imv_shard *shard, uint64_t sources) {
    for (; sources != 0; sources &= sources - 1) {
        imv_exchange_wake(&shard->engine->exchange, (uint32_t)__builtin_ctzll(sources));
    }
}

/* Applies all groups that are durable. When memory refuses a row, the head that is there is frozen: its flush will give
 * memory back, and wakes us. */
static void groups_apply(struct imv_shard *shard) {
    uint64_t sources = 0;
    while (shard->groups_count > 0 && shard->groups[0].synced) {
        if (!group_apply(shard, &shard->groups[0], &sources)) {
            if (active_has_rows(shard)) (void)head_freeze(shard);
            break;
        }
        shard->applied_position = shard->groups[0].position;
        shard->groups_count--;
        memmove(shard->groups, shard->groups + 1, shard->groups_count * sizeof shard->groups[0]);
    }
    if (sources == 0) return;
    imv_exchange_made_room(&shard->engine->exchange);
    sources_wake(shard, sources);
}

/* ---- rows into the journal ---- */

static void list_append(struct batch_list *list, struct imv_batch *batch) {
    batch->next = NULL;
    *list->end = batch;
    list->end = &batch->next;
}

static void batches_free(struct imv_batch *batch) {
    while (batch != NULL) {
        struct imv_batch *next = batch->next;
        imv_batch_free(batch);
        batch = next;
    }
}

static void group_drop(struct imv_shard *shard, struct group *group, const struct imv_error *err) {
    batches_free(group->batches);
    group_deletion_end(shard, group, err);
}

/* Frees all rows that are in no durable group, and tells those who wait for deletions that these will not be. */
static void undurable_drop(struct imv_shard *shard, const struct imv_error *err) {
    if (shard->deletion != NULL) imv_deletion_finish(shard->engine, shard->deletion, err);
    shard->deletion = NULL;
    imv_deletions_refuse(shard->engine, shard->index, err);
    batches_free(shard->staged.first);
    shard->staged = (struct batch_list){NULL, &shard->staged.first};
    shard->staged_bytes = 0;
    batches_free(shard->encoded);
    shard->encoded = NULL;
    while (shard->groups_count > 0 && !shard->groups[shard->groups_count - 1].synced) {
        group_drop(shard, &shard->groups[--shard->groups_count], err);
    }
}

/* The journal takes nothing more: reads and flushes go on, acknowledgements end. */
static void shard_fail(struct imv_shard *shard, const struct imv_error *cause) {
    if (shard->failed) return;
    shard->failed = true;
    struct imv_error err = *cause;
    imv_error_wrap(&err, err.status, "shard %u is closed for writing", shard->index);
    imv_log(IMV_LOG_ERROR, "shard", "%s", err.message);
    undurable_drop(shard, &err);
    imv_exchange_fail(&shard->engine->exchange, shard->index, &err);
    imv_exchange_made_room(&shard->engine->exchange);
}

static void on_synced(void *context, uint64_t position, imv_status status, const struct imv_error *err) {
    struct imv_shard *shard = context;
    if (status != IMV_OK) {
        shard_fail(shard, err);
        return;
    }
    for (uint32_t i = 0; i < shard->groups_count; i++) {
        if (shard->groups[i].synced) continue;
        imv_assert(shard->groups[i].position == position);
        shard->groups[i].synced = true;
        break;
    }
    groups_apply(shard);
}

/* Takes batches from all queues in turn while there is room to stage them; of a failed shard they are dropped. */
static void queues_drain(struct imv_shard *shard) {
    struct imv_exchange *exchange = &shard->engine->exchange;
    uint32_t shards = exchange->shards, empty = 0;
    bool any = false;
    while (empty < shards && shard->staged_bytes < STAGED_BYTES_MAX) {
        struct imv_exchange_cell *cell = imv_exchange_cell(exchange, shard->index, shard->next_source);
        shard->next_source = (shard->next_source + 1) % shards;
        struct imv_batch *batch = imv_spsc_pop(&cell->queue);
        empty = batch == NULL ? empty + 1 : 0;
        if (batch == NULL) continue;
        any = true;
        if (shard->failed) {
            imv_batch_free(batch);
            continue;
        }
        list_append(&shard->staged, batch);
        shard->staged_bytes += batch->capacity;
    }
    if (any) imv_exchange_made_room(exchange);
}

/* Takes the batches of the next group off the staged list: as many as fit, at least one. */
static struct imv_batch *group_cut(struct imv_shard *shard) {
    size_t bytes_max = imv_engine_head_share(shard->engine) / GROUP_SHARE, bytes = 0, bound = 0;
    struct imv_batch *first = shard->staged.first, **end = &shard->staged.first;
    while (*end != NULL) {
        struct imv_batch *batch = *end;
        bytes += batch->size;
        bound += imv_journal_bound(batch);
        if (batch != first && (bytes > bytes_max || bound > shard->payload.size_max)) break;
        shard->staged_bytes -= batch->capacity;
        end = &batch->next;
    }
    shard->staged.first = *end;
    if (*end == NULL) shard->staged.end = &shard->staged.first;
    *end = NULL;
    return first;
}

static void group_put_back(struct imv_shard *shard, struct imv_batch *batches) {
    struct imv_batch **end = &batches;
    while (*end != NULL) {
        shard->staged_bytes += (*end)->capacity;
        end = &(*end)->next;
    }
    *end = shard->staged.first;
    if (shard->staged.first == NULL) shard->staged.end = end;
    shard->staged.first = batches;
}

/* Encodes the next group into payload. False: there is none, or not now. */
static bool group_encode(struct imv_shard *shard) {
    if (shard->staged.first == NULL) return false;
    struct imv_batch *batches = group_cut(shard);
    struct imv_error err;
    imv_buffer_reset(&shard->payload);
    imv_status status = imv_journal_encode(shard->encoder, batches, &shard->payload, &err);
    if (status == IMV_OK) {
        shard->encoded = batches;
        return true;
    }
    group_put_back(shard, batches);
    if (status != IMV_NO_MEMORY) shard_fail(shard, &err); /* the writers keep rows below what a group can hold */
    return false;
}

static bool may_start(const struct imv_shard *shard) {
    if (shard->failed || shard->groups_count == IMV_WAL_IN_FLIGHT || !imv_wal_ready(shard->wal)) return false;
    if (shard->groups_count > 0 && shard->groups[0].synced) return false; /* waits for memory */
    struct imv_budget *budget = &shard->engine->head_budget;
    return imv_budget_used(budget) / reserve_numerator <= budget->bytes_max / reserve_denominator;
}

/* Takes the next request when the one before is in groups completely. */
static void deletion_take(struct imv_shard *shard) {
    if (shard->failed || shard->deletion != NULL) return;
    shard->deletion = imv_deletion_take(shard->engine, shard->index, shard->deletions_pending);
    if (shard->deletion == NULL) return;
    shard->deletion_next = 0;
    shard->deletions_pending += imv_deletion_count(shard->deletion, shard->index);
}

/* Encodes the next part of the deletion into payload and describes it as a group. False: there is none, it is the rows'
 * turn, or not now. */
static bool deletion_encode(struct imv_shard *shard, struct group *group) {
    bool rows_wait = shard->staged.first != NULL || shard->encoded != NULL;
    if (shard->deletion == NULL || shard->encoded != NULL || (rows_wait && shard->deletion_before)) return false;
    size_t left = imv_deletion_count(shard->deletion, shard->index) - shard->deletion_next;
    size_t count = imv_journal_deletion_series_max(shard->payload.size_max);
    if (count > left) count = left;
    *group = (struct group){.deletion = shard->deletion,
                            .deletion_from = shard->deletion_next,
                            .deletion_count = count,
                            .deletion_last = count == left};
    struct imv_journal_deletion part = imv_deletion_part(shard->deletion, shard->index, shard->deletion_next, count);
    imv_buffer_reset(&shard->payload);
    return imv_journal_encode_deletion(&part, &shard->payload, NULL) == IMV_OK;
}

static void deletion_started(struct imv_shard *shard, const struct group *group) {
    shard->deletion_before = group->deletion != NULL;
    if (!shard->deletion_before) return;
    shard->deletion_next += group->deletion_count;
    if (group->deletion_last)
        shard->deletion = NULL;
    else
        imv_deletion_retain(group->deletion);
    deletion_take(shard);
}

static void groups_start(struct imv_shard *shard) {
    deletion_take(shard);
    while (may_start(shard)) {
        struct group group = {0};
        if (!deletion_encode(shard, &group)) {
            if (shard->encoded == NULL && !group_encode(shard)) return;
            group = (struct group){.batches = shard->encoded};
        }
        struct imv_error err;
        imv_status status = imv_wal_write(shard->wal, shard->payload.data, shard->payload.size, &group.position, &err);
        if (status == IMV_BUSY || status == IMV_FULL) return;
        if (status != IMV_OK) {
            shard_fail(shard, &err);
            return;
        }
        shard->groups[shard->groups_count++] = group;
        atomic_store_explicit(&shard->state->started, group.position, memory_order_release);
        shard->encoded = NULL;
        deletion_started(shard, &group);
    }
}

static void journal_release(struct imv_shard *shard) {
    uint64_t watermark = atomic_load_explicit(&shard->state->watermark, memory_order_acquire);
    if (watermark == shard->released_position || shard->failed) return;
    imv_wal_release(shard->wal, watermark);
    shard->released_position = watermark;
}

void imv_shard_run(struct imv_shard *shard) {
    imv_resources_look(shard->engine);
    imv_exchange_woken(&shard->engine->exchange, shard->index);
    groups_apply(shard);
    journal_release(shard);
    queues_drain(shard);
    if (shard->failed) {
        imv_deletions_refuse(shard->engine, shard->index, imv_exchange_failure(&shard->engine->exchange, shard->index));
    }
    heads_turn(shard);
    groups_start(shard);
    bool under_way = shard->groups_count > 0 && !shard->groups[shard->groups_count - 1].synced;
    shard->waiting = imv_shard_busy(shard) && !under_way;
}

bool imv_shard_busy(const struct imv_shard *shard) {
    return shard->staged.first != NULL || shard->encoded != NULL || shard->deletion != NULL || shard->groups_count > 0;
}

int64_t imv_shard_deadline_ns(const struct imv_shard *shard) {
    int64_t deadline_ns = INT64_MAX;
    if (worth_freezing(shard) &&
        __builtin_add_overflow(unfrozen_since_ns(shard), shard->engine->options.flush_age_ns, &deadline_ns)) {
        deadline_ns = INT64_MAX;
    }
    int64_t now_ns = imv_clock_monotonic_ns(shard->engine->clock), retry_at_ns = now_ns + retry_ns;
    /* What is due and was not frozen is a deletion, and there was no room for its head. */
    if (deadline_ns <= now_ns) return retry_at_ns;
    return shard->waiting && retry_at_ns < deadline_ns ? retry_at_ns : deadline_ns;
}

/* ---- opening and closing ---- */

/* Freezes and flushes the active head at once: during replay nobody else gives memory back. */
static imv_status replay_flush(struct imv_shard *shard, struct imv_error *err) {
    if (active_has_rows(shard)) (void)head_freeze(shard);
    imv_status status = IMV_OK;
    while (status == IMV_OK) status = imv_flush_head(shard->engine, shard->index, err);
    return status == IMV_NOT_FOUND ? IMV_OK : status;
}

static imv_status replay_row(void *context, const struct imv_row *row, struct imv_error *err) {
    struct imv_shard *shard = context;
    imv_status status = row_apply(shard, row, err);
    if (status != IMV_FULL) return status;
    IMV_TRY(replay_flush(shard, err));
    return row_apply(shard, row, err);
}

static imv_status replay_deletion(void *context, const struct imv_journal_deletion *deletion, struct imv_error *err) {
    struct imv_shard *shard = context;
    return deletion_apply(shard, deletion, shard->replaying_position, err);
}

static imv_status replay_group(void *context, uint64_t position, const uint8_t *payload, size_t size,
                               struct imv_error *err) {
    struct imv_shard *shard = context;
    const struct imv_journal_visitor visitor = {.row = replay_row, .deletion = replay_deletion, .context = shard};
    shard->replaying_position = position;
    imv_status status = imv_journal_decode(shard->engine->catalog, shard->index, payload, size, &visitor, err);
    if (status != IMV_OK) return imv_error_wrap(err, status, "shard %u, group %" PRIu64, shard->index, position);
    shard->applied_position = position;
    publish(shard);
    bool large = shard->active != NULL && imv_head_bytes(shard->active) > imv_engine_head_share(shard->engine) / 2;
    return large ? replay_flush(shard, err) : IMV_OK;
}

static imv_status journal_open(struct imv_shard *shard, struct imv_io *io, struct imv_error *err) {
    const struct imv_engine *engine = shard->engine;
    uint64_t watermark = atomic_load_explicit(&shard->state->watermark, memory_order_acquire);
    struct imv_wal_options options = {.shard = shard->index,
                                      .segment_bytes = engine->options.wal_segment_bytes,
                                      .bytes_max = engine->options.wal_bytes_max,
                                      .replay_after = watermark,
                                      .clock = engine->clock,
                                      .replay = replay_group,
                                      .synced = on_synced,
                                      .context = shard};
    uint64_t sequence_before = shard->sequence;
    IMV_TRY(imv_wal_open(io, engine->wal_path, &options, &shard->wal, err));
    atomic_store_explicit(&shard->state->started, imv_wal_synced(shard->wal), memory_order_release);
    journal_release(shard);
    imv_log(IMV_LOG_INFO, "shard", "shard=%u position=%" PRIu64 " in_chunks=%" PRIu64 " replayed_rows=%" PRIu64,
            shard->index, imv_wal_synced(shard->wal), watermark, shard->sequence - sequence_before);
    return IMV_OK;
}

static void shard_free(struct imv_shard *shard) {
    struct imv_error err;
    imv_fail(&err, IMV_CLOSED, "shard %u is closed", shard->index);
    undurable_drop(shard, &err);
    while (shard->groups_count > 0) group_drop(shard, &shard->groups[--shard->groups_count], &err);
    imv_journal_encoder_free(shard->encoder);
    imv_buffer_release(&shard->payload);
    free(shard);
}

imv_status imv_shard_open(struct imv_engine *engine, uint32_t index, struct imv_io *io, struct imv_shard **shard,
                          struct imv_error *err) {
    imv_assert(index < engine->shards_count);
    struct imv_shard *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return imv_fail(err, IMV_NO_MEMORY, "shard %u: no memory", index);
    opened->engine = engine;
    opened->state = &engine->shards[index];
    opened->index = index;
    opened->staged.end = &opened->staged.first;
    opened->sequence = atomic_load_explicit(&opened->state->sequence, memory_order_relaxed);
    opened->applied_position = atomic_load_explicit(&opened->state->watermark, memory_order_acquire);
    /* Of a segment, the header and the frame around the payload take a block each. */
    size_t segment_room = engine->options.wal_segment_bytes - 2 * IMV_IO_BLOCK_BYTES;
    imv_buffer_init(&opened->payload,
                    segment_room < IMV_WAL_PAYLOAD_BYTES_MAX ? segment_room : IMV_WAL_PAYLOAD_BYTES_MAX);
    imv_status status = imv_journal_encoder_new(engine->catalog, index, &opened->encoder, err);
    if (status == IMV_OK) status = journal_open(opened, io, err);
    if (status != IMV_OK) {
        shard_free(opened);
        return status;
    }
    imv_engine_lock(engine, IMV_RANK_STATE);
    imv_assert(!opened->state->opened);
    opened->state->open = opened->state->opened = true;
    pthread_cond_broadcast(&engine->changed);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    *shard = opened;
    return IMV_OK;
}

void imv_shard_close(struct imv_shard *shard) {
    if (shard == NULL) return;
    imv_wal_close(shard->wal); /* completions of what was under way still apply */
    struct imv_engine *engine = shard->engine;
    imv_engine_lock(engine, IMV_RANK_STATE);
    shard->state->open = false;
    pthread_cond_broadcast(&engine->changed);
    imv_engine_unlock(engine, IMV_RANK_STATE);
    shard_free(shard);
}
