/* exchange.h - the queues between writers and shards, and what each shard has applied.
 *
 * One bounded single-producer queue per (source, destination) pair carries batches; the destination counts the batches
 * of each source that it has made durable and applied. A source's mark is the vector of batches it has sent; comparing
 * the two is the acknowledgement. Every wait is by wake-up of the other side's loop, never by spinning.
 *
 * A source that finds a queue full or the batch memory spent says that it wants room (imv_exchange_want_room), tries
 * once more and then waits; whoever takes batches out or frees them says so (imv_exchange_made_room), which wakes it.
 * Either the second try sees the room or the other side sees the wish, so that no wake-up is lost.
 */
#pragma once

#include "engine/catalog.h"
#include "storage/base/spsc.h"

#include <pthread.h>

struct imv_batch;

enum {
    IMV_EXCHANGE_QUEUE_BATCHES = 256
}; /* 16 MiB of rows per pair at most; a full queue stops the source's sockets */

struct imv_exchange_cell {
    struct imv_spsc queue;
    _Alignas(64) _Atomic uint64_t applied; /* batches of source that destination has applied; by destination, release */
};

/* Why nothing more is acknowledged by a shard. */
struct imv_exchange_failure {
    struct imv_error err; /* set before failed */
    _Atomic bool failed;  /* by the shard, release */
};

struct imv_exchange {
    uint32_t shards;
    struct imv_exchange_cell *cells;       /* [destination * shards + source] */
    _Atomic bool *room_wanted;             /* one a shard: its writer waits for room in a queue or for batch memory */
    struct imv_exchange_failure *failures; /* one a shard */
    _Atomic bool *wake_pending;            /* one a shard: set by imv_exchange_wake, cleared by imv_exchange_woken */
    _Atomic bool refusing;                 /* nothing new is taken from outside; what is on its way goes on */
    struct imv_error refusal;              /* why; guarded by refusal_lock */
    pthread_mutex_t refusal_lock;
    /* A wish that writers take no rows: the number of the pause, 0: none. A writer notes the number in quiet[its shard]
     * when it takes none and all that it took is applied; it takes rows again when it sees that the pause is over. */
    _Atomic uint64_t pause;
    _Atomic uint64_t quiet[IMV_SHARDS_MAX];
    void (*wake)(void *context, uint32_t shard);
    void *context;
};

/* wake is called from any thread, at most once until the shard calls imv_exchange_woken. */
imv_status imv_exchange_init(struct imv_exchange *exchange, uint32_t shards, void (*wake)(void *, uint32_t),
                             void *context, struct imv_error *err);
/* Frees the batches that are still queued. */
void imv_exchange_release(struct imv_exchange *exchange);

static inline struct imv_exchange_cell *imv_exchange_cell(struct imv_exchange *exchange, uint32_t destination,
                                                          uint32_t source) {
    return &exchange->cells[(size_t)destination * exchange->shards + source];
}

/* Gets shard to run soon. Any thread. */
void imv_exchange_wake(struct imv_exchange *exchange, uint32_t shard);
/* Called by the shard before it looks at its queues and counters, so that a later wake is not lost. */
void imv_exchange_woken(struct imv_exchange *exchange, uint32_t shard);
/* Called by a shard's writer before its last try at a full queue or a spent budget; it then waits for a wake-up. */
void imv_exchange_want_room(struct imv_exchange *exchange, uint32_t shard);
/* Wakes every shard that wants room. Any thread, after taking batches out of a queue or freeing them. */
void imv_exchange_made_room(struct imv_exchange *exchange);
/* Says why the shard acknowledges nothing more and wakes every shard. The failed shard's thread, once. */
void imv_exchange_fail(struct imv_exchange *exchange, uint32_t shard, const struct imv_error *err);
/* Why the shard acknowledges nothing more; NULL when it does. Any thread. */
const struct imv_error *imv_exchange_failure(const struct imv_exchange *exchange, uint32_t shard);

/* Closes the way in with a reason, or opens it again with NULL; wakes all shards. Any thread. */
void imv_exchange_refuse(struct imv_exchange *exchange, const struct imv_error *reason);
/* IMV_OK: rows are taken; else the reason. Any thread. */
imv_status imv_exchange_accepts(struct imv_exchange *exchange, struct imv_error *err);
