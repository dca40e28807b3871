/* ended.h - series that ended leave memory: when retention has taken the last row of a series, the series goes too.
 *
 * Otherwise an endless coming and going of series (containers, sessions, batches) would fill memory, index and `meta`
 * though the rows are long gone. A series that is asked for again later is a new one with a new id; ids are never given
 * out twice, so that chunks of a removed series, which may still lie in a part with younger rows, are seen by nobody.
 *
 *     idle --look: every row of some series is past retention, and none is in a head--> taken up
 *       --all journal groups that were started by then are in chunks--> pausing
 *       --every writer is quiet: it takes no rows, and all that it took are in heads--> removing --> idle
 *
 * Why each step: replay must not meet a removed series, so the journal below which it had rows must never be replayed;
 * rows that come meanwhile give it back (newest_s). Writers and feeds remember series by pointer; while all are quiet
 * and no snapshot is held, nobody has a pointer but caches, which forget all when they see another imv_catalog_epoch.
 * The records leave `meta` first, a few thousand at a time, so a crash in between loses series without rows and nothing
 * else.
 *
 * The pause begins when no snapshot is held and lasts some milliseconds, at most IMV_ENDED_PAUSE_NS; when writers or
 * new snapshots do not let go by then, it is given up until the next look. A shard whose last journal groups hold no
 * rows keeps its ended series until rows come.
 *
 * Under the FLUSH lock.
 */
#pragma once

#include "engine/catalog.h"

struct imv_engine;

enum {
    IMV_ENDED_MAX = 1 << 18, /* series of one look: 4 MiB of list; the rest is found by the next */
    IMV_ENDED_AT_ONCE = 4096 /* of one write of `meta`, and of one hold of the STATE lock: 5 ms */
};
#define IMV_ENDED_PAUSE_NS (INT64_C(2) * 1000000000)

enum imv_ended_phase { IMV_ENDED_IDLE, IMV_ENDED_TAKEN, IMV_ENDED_PAUSING };

struct imv_ended {
    enum imv_ended_phase phase;
    struct imv_ended_series *list; /* malloc'ed; NULL when idle */
    size_t count;
    uint64_t started[IMV_SHARDS_MAX]; /* journal positions that must be in chunks */
    uint64_t pauses;                  /* so far: the number of the pause */
    int64_t pause_until_ns;           /* monotonic */
};

/* Looks for ended series when none are taken up. Called when retention looks. */
void imv_ended_look(struct imv_engine *engine);
/* Goes on with what was taken up, as far as it goes now. */
imv_status imv_ended_step(struct imv_engine *engine, struct imv_error *err);
/* Whether writers pause. Background steps only, which alone change it. */
static inline bool imv_ended_pauses(const struct imv_ended *ended) { return ended->phase == IMV_ENDED_PAUSING; }
/* At close. */
void imv_ended_release(struct imv_ended *ended);
