/* engine.h - the whole of one data directory: catalog, shards, heads, parts, snapshots, background work.
 *
 *     DIR/LOCK     held while open            DIR/wal/      journal segments of all shards
 *     DIR/FORMAT   version, shard count       DIR/rocksdb/  chunks and catalog
 *
 * Life: open (store, catalog, parts; drops what an unfinished flush left) -> each shard's thread opens its shard, once
 * -> imv_engine_recovered -> serve -> stop the shards -> imv_engine_close. Nothing may be written before all shards are
 * open: a label or series made meanwhile could get a number that a journal still to be replayed gives to another.
 *
 * A clean stop: stop the sources, imv_engine_flush_begin, run shards until imv_engine_flushed, close them, close the
 * engine. Any other stop is a crash as far as the engine cares: the journals hold what is not in chunks.
 */
#pragma once

#include "engine/snapshot.h"
#include "engine/writer.h"
#include "storage/base/clock.h"
#include "storage/base/io.h"

struct imv_budget;
struct imv_deletion_request;
struct imv_exchange;
struct imv_shard;

struct imv_engine_options {
    const char *directory;
    uint32_t shards; /* for a new directory; an old one keeps its number. 0: one per core */
    /* Over all shards, at least 16 MiB each: above half of a shard's share its head is flushed, above three quarters of
     * the whole nothing more is taken into the journal, so that writers wait. Default 2 GiB. */
    size_t head_bytes_max;
    size_t batch_bytes_max;     /* parsed rows not yet durable, over all; at least 16 MiB a shard. Default 256 MiB */
    uint64_t free_bytes_min;    /* of the disk: below it writes are refused (resources.h); 0, the default: never */
    uint64_t wal_bytes_max;     /* journal cap of one shard, flushed at half; at least 4 segments. Default 2 GiB */
    uint64_t wal_segment_bytes; /* default 64 MiB */
    int64_t flush_age_ns;       /* a head with rows or deletions older than this is flushed. Default 1 h */
    struct imv_catalog_limits limits; /* of the catalog; default IMV_SERIES_MAX twice, IMV_CATALOG_BYTES_MAX */
    /* A slot is consolidated so long after it was over and flushed to (consolidate_choice.h). Default 0: flush_age_ns
     * and 10 min more. */
    int64_t cold_ns;
    bool background; /* an own thread flushes and retires; else imv_engine_background_step. Default true */
    const struct imv_clock *clock; /* NULL: the system's */
    struct imv_io *io;             /* for LOCK and FORMAT; NULL: plain system calls */
    struct imv_kv *kv;             /* NULL: RocksDB in DIR/rocksdb; else closed by the engine, also when open fails */
    /* Called from any thread to get shard to call imv_shard_run soon; must be cheap and may be called often. */
    void (*wake)(void *context, uint32_t shard);
    void *context;
};

/* The defaults above. */
void imv_engine_options_init(struct imv_engine_options *options, const char *directory);

/* IMV_BUSY: another process has the directory. IMV_UNSUPPORTED: FORMAT is of a newer version. IMV_CORRUPT, IMV_IO. */
imv_status imv_engine_open(const struct imv_engine_options *options, struct imv_engine **engine, struct imv_error *err);

/* All shards, writers and snapshots are closed before. NULL is allowed. */
void imv_engine_close(struct imv_engine *engine);

/* True once every shard has been opened: serving may begin. Any thread. */
bool imv_engine_recovered(struct imv_engine *engine);

uint32_t imv_engine_shards_count(const struct imv_engine *engine);
struct imv_catalog *imv_engine_catalog(struct imv_engine *engine);
struct imv_kv *imv_engine_kv(struct imv_engine *engine);
const struct imv_clock *imv_engine_clock(const struct imv_engine *engine);
/* For writers: the queues to the shards, and the memory of batches. */
struct imv_exchange *imv_engine_exchange(struct imv_engine *engine);
struct imv_budget *imv_engine_batch_budget(struct imv_engine *engine);
/* Of the series caches of all writers (series_cache.h). */
struct imv_budget *imv_engine_series_cache_budget(struct imv_engine *engine);

/* Asks every shard to freeze its head and waits until everything acknowledged before the call is in chunks, or
 * timeout_ns passed (IMV_TIMEOUT). The shards must be running. Not from a shard's thread. */
imv_status imv_engine_flush(struct imv_engine *engine, int64_t timeout_ns, struct imv_error *err);

/* The same in three steps for whoever drives shards itself (tests, shutdown): ask; then run shards and background steps
 * until imv_engine_flushed. */
void imv_engine_flush_begin(struct imv_engine *engine);
bool imv_engine_flushed(struct imv_engine *engine);

/* One piece of background work: a flush of one frozen head, dropping slots past retention, a slice of consolidation.
 * *did_work false when there was none. Only when options.background is false. */
imv_status imv_engine_background_step(struct imv_engine *engine, bool *did_work, struct imv_error *err);

/* Sets the gauges and the shown budgets that are not kept up to date by themselves, before they are printed. Any
 * thread. */
void imv_engine_observe(struct imv_engine *engine);

/* Why the engine cannot do all it should, for /readyz: the first failure that closed a shard, which stays until a
 * restart; else that writes are refused for want of space on the disk; else the failure of a flush that is being tried
 * again, as long as that lasts (a full disk: writers will have to wait). IMV_OK: nothing is wrong. Any thread. */
imv_status imv_engine_health(struct imv_engine *engine, struct imv_error *err);

/* Sets the retention of a label, making the label when absent; 0 keeps for ever. Durable on IMV_OK. IMV_INVALID: below
 * 0. IMV_BUSY: not all shards are open yet. */
imv_status imv_engine_set_retention(struct imv_engine *engine, struct imv_str label, int64_t retention_ns,
                                    struct imv_error *err);

/* What is to be deleted: the rows within [from, last] of some series of a label, or of all that it has. */
struct imv_deletion {
    struct imv_label *label;
    bool whole;                       /* all series of the label: costs the same for a million of them as for one */
    struct imv_series *const *series; /* unless whole: of the label, in any order, doubles allowed */
    size_t series_count;
    int64_t from, last;
};

/* Deletes, and waits until that is durable and no new snapshot shows the rows, or timeout_ns passed (IMV_TIMEOUT: it
 * may still take place). Rows acknowledged before the call are deleted, rows written after its return are not. A series
 * is deleted as a whole or not at all; several are not one transaction, see delete.h. IMV_FULL: too many deletions hold
 * space in chunks (deletions.h). IMV_BUSY: not all shards are open yet, or too many deletions wait. IMV_CLOSED: the
 * journal of an owner failed or it is stopping; part of it may have taken place. IMV_INVALID: an empty range. Any
 * thread but those of shards. */
imv_status imv_engine_delete(struct imv_engine *engine, const struct imv_deletion *deletion, int64_t timeout_ns,
                             struct imv_error *err);

/* The same in steps, for who has to look at other things meanwhile or drives shards itself: begin; wait until it says
 * something else than IMV_BUSY; then end, which may come at any time and frees. Each waits at most timeout_ns; with 0 a
 * shard's thread may call it. All shards are woken when the deletion is done. After a failed begin there is nothing to
 * end; after IMV_BUSY it may be tried again. */
imv_status imv_engine_delete_begin(struct imv_engine *engine, const struct imv_deletion *deletion, int64_t timeout_ns,
                                   struct imv_deletion_request **request, struct imv_error *err);
imv_status imv_engine_delete_wait(struct imv_engine *engine, struct imv_deletion_request *request, int64_t timeout_ns,
                                  struct imv_error *err);
void imv_engine_delete_end(struct imv_deletion_request *request); /* NULL is allowed */

/* Offline verification of a data directory: every journal, every chunk and part, the catalog. Calls report with a line
 * per finding and a summary. IMV_CORRUPT when anything is damaged. */
imv_status imv_engine_check(const char *directory, void (*report)(void *context, const char *line), void *context,
                            struct imv_error *err);
