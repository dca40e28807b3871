#include "engine/exchange.h"

#include "engine/batch.h"
#include "storage/base/assert.h"

#include <stdlib.h>

imv_status imv_exchange_init(struct imv_exchange *exchange, uint32_t shards, void (*wake)(void *, uint32_t),
                             void *context, struct imv_error *err) {
    imv_assert(shards >= 1 && shards <= IMV_SHARDS_MAX);
    *exchange = (struct imv_exchange){.shards = shards, .wake = wake, .context = context};
    pthread_mutex_init(&exchange->refusal_lock, NULL);
    size_t cells = (size_t)shards * shards;
    exchange->cells = aligned_alloc(64, cells * sizeof *exchange->cells);
    exchange->wake_pending = calloc(shards, sizeof *exchange->wake_pending);
    exchange->room_wanted = calloc(shards, sizeof *exchange->room_wanted);
    exchange->failures = calloc(shards, sizeof *exchange->failures);
    if (exchange->cells != NULL) memset(exchange->cells, 0, cells * sizeof *exchange->cells);
    if (exchange->cells == NULL || exchange->wake_pending == NULL || exchange->room_wanted == NULL ||
        exchange->failures == NULL)
        goto no_memory;
    for (size_t i = 0; i < cells; i++) {
        if (!imv_spsc_init(&exchange->cells[i].queue, IMV_EXCHANGE_QUEUE_BATCHES)) goto no_memory;
    }
    return IMV_OK;
no_memory:
    imv_exchange_release(exchange);
    return imv_fail(err, IMV_NO_MEMORY, "exchange: no memory for the queues of %u shards", shards);
}

void imv_exchange_release(struct imv_exchange *exchange) {
    size_t cells = exchange->cells == NULL ? 0 : (size_t)exchange->shards * exchange->shards;
    for (size_t i = 0; i < cells; i++) {
        struct imv_spsc *queue = &exchange->cells[i].queue;
        if (queue->slots == NULL) continue;
        for (struct imv_batch *batch; (batch = imv_spsc_pop(queue)) != NULL;) imv_batch_free(batch);
        imv_spsc_release(queue);
    }
    pthread_mutex_destroy(&exchange->refusal_lock);
    free(exchange->cells);
    free(exchange->wake_pending);
    free(exchange->room_wanted);
    free(exchange->failures);
    exchange->cells = NULL;
    exchange->wake_pending = exchange->room_wanted = NULL;
    exchange->failures = NULL;
}

void imv_exchange_wake(struct imv_exchange *exchange, uint32_t shard) {
    if (atomic_exchange(&exchange->wake_pending[shard], true)) return;
    if (exchange->wake != NULL) exchange->wake(exchange->context, shard);
}

void imv_exchange_woken(struct imv_exchange *exchange, uint32_t shard) {
    atomic_store(&exchange->wake_pending[shard], false);
}

void imv_exchange_want_room(struct imv_exchange *exchange, uint32_t shard) {
    atomic_store(&exchange->room_wanted[shard], true);
    atomic_thread_fence(memory_order_seq_cst); /* the wish before the last look at queue and budget */
}

void imv_exchange_made_room(struct imv_exchange *exchange) {
    atomic_thread_fence(memory_order_seq_cst); /* the room before the look at the wishes */
    for (uint32_t shard = 0; shard < exchange->shards; shard++) {
        if (!atomic_load_explicit(&exchange->room_wanted[shard], memory_order_relaxed)) continue;
        if (atomic_exchange(&exchange->room_wanted[shard], false)) imv_exchange_wake(exchange, shard);
    }
}

void imv_exchange_fail(struct imv_exchange *exchange, uint32_t shard, const struct imv_error *err) {
    struct imv_exchange_failure *failure = &exchange->failures[shard];
    imv_assert(!atomic_load_explicit(&failure->failed, memory_order_relaxed));
    failure->err = *err;
    atomic_store_explicit(&failure->failed, true, memory_order_release);
    for (uint32_t i = 0; i < exchange->shards; i++) imv_exchange_wake(exchange, i);
}

const struct imv_error *imv_exchange_failure(const struct imv_exchange *exchange, uint32_t shard) {
    const struct imv_exchange_failure *failure = &exchange->failures[shard];
    return atomic_load_explicit(&failure->failed, memory_order_acquire) ? &failure->err : NULL;
}

void imv_exchange_refuse(struct imv_exchange *exchange, const struct imv_error *reason) {
    pthread_mutex_lock(&exchange->refusal_lock);
    if (reason != NULL) exchange->refusal = *reason;
    atomic_store_explicit(&exchange->refusing, reason != NULL, memory_order_release);
    pthread_mutex_unlock(&exchange->refusal_lock);
    if (reason == NULL) imv_exchange_made_room(exchange);
    for (uint32_t i = 0; i < exchange->shards; i++) imv_exchange_wake(exchange, i);
}

imv_status imv_exchange_accepts(struct imv_exchange *exchange, struct imv_error *err) {
    if (!atomic_load_explicit(&exchange->refusing, memory_order_acquire)) return IMV_OK;
    pthread_mutex_lock(&exchange->refusal_lock);
    if (err != NULL) *err = exchange->refusal;
    imv_status status = exchange->refusal.status;
    pthread_mutex_unlock(&exchange->refusal_lock);
    return status;
}
