/* snapshot.h - one consistent view of everything that is durable.
 *
 * A snapshot pins, under one short lock: the heads of every shard with the shard's sequence and tombstones, and the
 * list of parts. A row is in it when it was made visible and not deleted before the snapshot was taken, whether it was
 * still in a head or in a chunk; never both, never neither. Taking one costs a few atomic increments; holding one costs
 * the memory of the heads that are flushed meanwhile, so holders have deadlines.
 *
 * A snapshot may be used from any thread, by several at once for reading; take and release from any.
 */
#pragma once

#include "engine/catalog.h"
#include "engine/deletions.h"
#include "engine/parts.h"

struct imv_engine;
struct imv_head;

enum { IMV_HEADS_MAX = 8 }; /* of one shard: the active one and those waiting to be flushed */

struct imv_snapshot_shard {
    uint64_t sequence;               /* rows above it are left out */
    struct imv_deletions *deletions; /* what they hide is left out; referenced, NULL: nothing */
    uint32_t heads_count;
    struct imv_head *heads[IMV_HEADS_MAX]; /* oldest first; referenced */
};

struct imv_snapshot {
    struct imv_engine *engine;
    struct imv_catalog *catalog;
    struct imv_kv *kv;
    struct imv_parts *parts; /* referenced */
    uint32_t shards_count;
    struct imv_snapshot_shard *shards;
    uint64_t *sequences; /* shards[i].sequence again, for imv_catalog_select */
    int64_t taken_at_ns; /* wall time; `now` for retention */
};

imv_status imv_snapshot_take(struct imv_engine *engine, struct imv_snapshot **snapshot, struct imv_error *err);
/* No row is later than this; INT64_MIN when there are none. Looks at every series that has rows in heads. */
int64_t imv_snapshot_newest(const struct imv_snapshot *snapshot);
/* A view of these parts and no heads, with the tombstones there are now, for consolidation. Takes over the caller's
 * reference when it succeeds. */
imv_status imv_snapshot_of_parts(struct imv_engine *engine, struct imv_parts *parts, struct imv_snapshot **snapshot,
                                 struct imv_error *err);
void imv_snapshot_release(struct imv_snapshot *snapshot); /* NULL is allowed */
