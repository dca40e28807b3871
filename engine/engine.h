/* engine.h - the whole of one data directory: catalog, shards, heads, parts, snapshots, background work.
 *
 *     DIR/LOCK     held while open            DIR/wal/      journal segments of all shards
 *     DIR/FORMAT   version, shard count       DIR/rocksdb/  chunks and catalog
 *
 * Life: open (store, catalog, parts; drops what an unfinished flush left) -> each shard thread opens its shard -> serve
 * -> stop the shards -> imv_engine_close. Lock order: engine->lock (snapshots, head lists, parts) before the catalog's.
 */
#pragma once

#include "engine/snapshot.h"
#include "engine/writer.h"
#include "storage/base/clock.h"
#include "storage/base/io.h"

struct imv_budget;
struct imv_exchange;
struct imv_shard;

struct imv_engine_options {
    const char *directory;
    uint32_t shards;              /* for a new directory; an old one keeps its number. 0: one per core */
    size_t head_bytes_max;        /* over all shards; above half of a shard's share its head is flushed, above all of it
                                     writers wait. Default 2 GiB */
    size_t batch_bytes_max;       /* parsed rows not yet durable, over all shards. Default 256 MiB */
    uint64_t wal_bytes_max;       /* journal cap of one shard, flushed at half. Default 2 GiB */
    uint64_t wal_segment_bytes;   /* default 64 MiB */
    int64_t flush_age_ns;         /* a head with rows older than this is flushed. Default 1 h */
    bool background;              /* run flush and retention on an own thread; without it imv_engine_background_step does */
    const struct imv_clock *clock; /* NULL: the system's */
    struct imv_io *io;            /* for LOCK and FORMAT; NULL: plain system calls */
    struct imv_kv *kv;            /* NULL: RocksDB in DIR/rocksdb; else taken over by the engine (tests) */
    /* Called from any thread to get shard to call imv_shard_run soon; must be cheap and may be called often. */
    void (*wake)(void *context, uint32_t shard);
    void *context;
};

/* The defaults above. */
void imv_engine_options_init(struct imv_engine_options *options, const char *directory);

/* IMV_BUSY: another process has the directory. IMV_UNSUPPORTED: FORMAT is of a newer version. IMV_CORRUPT, IMV_IO. */
imv_status imv_engine_open(const struct imv_engine_options *options, struct imv_engine **engine, struct imv_error *err);

/* All shards, writers and snapshots are closed before. */
void imv_engine_close(struct imv_engine *engine);

uint32_t imv_engine_shards_count(const struct imv_engine *engine);
struct imv_catalog *imv_engine_catalog(struct imv_engine *engine);
struct imv_kv *imv_engine_kv(struct imv_engine *engine);
const struct imv_clock *imv_engine_clock(const struct imv_engine *engine);
/* For writers: the queues to the shards, and the memory of batches. */
struct imv_exchange *imv_engine_exchange(struct imv_engine *engine);
struct imv_budget *imv_engine_batch_budget(struct imv_engine *engine);

/* Asks every shard to freeze its head and waits until everything acknowledged before the call is in chunks, or
 * timeout_ns passed (IMV_TIMEOUT). The shards must be running. Not from a shard's thread. */
imv_status imv_engine_flush(struct imv_engine *engine, int64_t timeout_ns, struct imv_error *err);

/* The same in three steps for whoever drives shards itself (tests, shutdown): ask; then run shards and background steps
 * until imv_engine_flushed. */
void imv_engine_flush_begin(struct imv_engine *engine);
bool imv_engine_flushed(struct imv_engine *engine);

/* One piece of background work: a flush of one frozen head, or dropping slots past retention. *did_work false when there
 * was none. Only when options.background is false. */
imv_status imv_engine_background_step(struct imv_engine *engine, bool *did_work, struct imv_error *err);

/* The first failure that closed a shard (IMV_OK when none): for /readyz. Any thread. */
imv_status imv_engine_health(struct imv_engine *engine, struct imv_error *err);

/* Sets the retention of a label, making the label when absent. */
imv_status imv_engine_set_retention(struct imv_engine *engine, struct imv_str label, int64_t retention_ns,
                                    struct imv_error *err);

/* Offline verification of a data directory: every journal, every chunk and part, the catalog. Calls report with a line
 * per finding and a summary. IMV_CORRUPT when anything is damaged. */
imv_status imv_engine_check(const char *directory, void (*report)(void *context, const char *line), void *context,
                            struct imv_error *err);
