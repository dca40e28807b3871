/* engine_internal.h - what engine.c, shard.c, delete.c, flush.c, consolidate.c, retention.c, backup.c and snapshot.c
 * share. Nobody else includes it.
 *
 * Who holds what:
 *
 *     shard thread      its active head (appends), its journal, its queues
 *     STATE lock        which heads there are and which are frozen, the lists of parts and of tombstones, flush tickets,
 *                       deletions that wait
 *     FLUSH lock        writing chunks and `meta` records: one flush or retention pass at a time, and consolidation while
 *                       it chooses and records
 *     PERSIST lock      imv_catalog_persist, one at a time
 *
 * Locks are taken in rising rank, FLUSH, PERSIST, STATE, and before any lock of the catalog; a thread-local mask
 * asserts it. STATE is held for a few pointer copies only: never over I/O, never over an allocation that can be done
 * before.
 */
#pragma once

#include "engine/delete.h"
#include "engine/directory.h"
#include "engine/ended.h"
#include "engine/engine.h"
#include "engine/exchange.h"
#include "engine/meta.h"
#include "storage/base/budget.h"

#include <pthread.h>

enum imv_engine_rank { IMV_RANK_FLUSH, IMV_RANK_PERSIST, IMV_RANK_STATE, IMV_RANKS };

/* One head generation of a shard. The last one of a shard may be active, all before it are frozen. */
struct imv_engine_head {
    struct imv_head *head; /* one reference */
    /* Of a frozen head: */
    uint64_t end_sequence; /* of its last row */
    uint64_t end_position; /* when it is in chunks, so are all journal groups up to here */
    /* What its flush has ingested when the record in `meta` could not be written; FLUSH lock. */
    bool ingested;
    struct imv_part **parts; /* malloc'ed, with parts_count parts that no list holds yet */
    size_t parts_count;
};

struct imv_engine_shard {
    /* ---- STATE lock; the shard's thread alone appends and freezes, the flush alone removes the first ---- */
    struct imv_engine_head heads[IMV_HEADS_MAX]; /* oldest first */
    uint32_t heads_count, frozen_count;
    uint64_t frozen_total, flushed_total; /* heads ever frozen; of these, in chunks */
    uint64_t ticket_seen;                 /* highest flush ticket that the shard has acted on */
    uint64_t ticket_frozen_total;         /* frozen_total then */
    struct imv_error flush_failure;       /* of the flush that is being tried again; status IMV_OK: none */
    struct imv_deletions *deletions;      /* one reference; NULL: nothing is deleted */
    struct imv_deletion_request *deletion_queue[IMV_DELETION_QUEUE]; /* oldest first, a reference each */
    uint32_t deletions_waiting;
    bool open;
    bool opened; /* ever: its journal is replayed */
    /* ---- FLUSH lock ---- */
    int64_t retry_at_ns, retry_delay_ns; /* after a failed flush; monotonic */
    /* ---- any thread ---- */
    _Atomic uint64_t sequence;   /* of the newest row that readers may see; by the shard, release */
    _Atomic bool deletion_asked; /* the queue may have something: spares the shard the lock */
    _Atomic uint64_t started;    /* position of the newest group given to the journal; by the shard, release */
    _Atomic uint64_t watermark;  /* journal groups up to it are in chunks; by the flush, release */
};

struct imv_engine {
    struct imv_engine_options options;
    char *path;     /* copy of options.directory */
    char *wal_path; /* DIR/wal */
    struct imv_io *io;
    bool io_owned;
    struct imv_directory directory;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    const struct imv_clock *clock;
    struct imv_exchange exchange;
    struct imv_budget head_budget, batch_budget, series_cache_budget;
    struct imv_budget catalog_budget, block_cache_budget, memtable_budget; /* shown: counted elsewhere */
    bool budgets_made;
    _Atomic uint64_t head_generation; /* last given out */
    _Atomic uint64_t flush_ticket;    /* last given out */
    uint32_t shards_count;
    _Atomic bool backup_running;
    _Atomic int64_t look_at_ns; /* monotonic: when the disk is looked at next */
    _Atomic uint32_t snapshots; /* taken and not released: none may be left at close */

    pthread_mutex_t locks[IMV_RANKS];
    /* With STATE: a head was frozen or flushed, a ticket seen, a shard opened, a deletion taken or done, stopping. */
    pthread_cond_t changed;
    pthread_t thread; /* background */
    bool thread_started;
    /* ---- STATE lock ---- */
    struct imv_engine_shard *shards;
    bool work; /* something for the background thread to look at */
    bool stopping;
    /* ---- FLUSH lock; meta.parts changes under FLUSH and STATE and may be read under either ---- */
    struct imv_meta meta;
    struct imv_ended ended;
    int64_t retention_at_ns; /* monotonic: when retention is looked at next */
    uint32_t flush_next;     /* shard at which the next background step starts to look */
    /* ---- background steps only ---- */
    struct imv_consolidation *consolidation; /* the job at hand, or NULL */
    int64_t consolidate_at_ns;               /* monotonic: when to go on or to look for the next */
    int64_t weigh_at_ns;                     /* monotonic: when to estimate next what tombstones hide of parts */
    int64_t consolidate_delay_ns;            /* after failures in a row */
};

void imv_engine_lock(struct imv_engine *engine, enum imv_engine_rank rank);
void imv_engine_unlock(struct imv_engine *engine, enum imv_engine_rank rank);

/* When real time timeout_ns from now is, for imv_engine_changed_wait. */
int64_t imv_engine_until_ns(int64_t timeout_ns);
/* Waits for a change (`changed`), STATE being held, which it gives back meanwhile; false: until_ns has passed. */
bool imv_engine_changed_wait(struct imv_engine *engine, int64_t until_ns);

/* The bytes of head memory that are one shard's share. */
size_t imv_engine_head_share(const struct imv_engine *engine);

/* imv_catalog_persist under its lock. */
imv_status imv_engine_persist(struct imv_engine *engine, struct imv_error *err);
