/* meta.h - what the engine itself keeps in the `meta` family: parts, watermarks, the flush generation, classes,
 * tombstones.
 *
 *     key                    value
 *     P prefix 10            version 1 | order 4 | label_min 4 | label_max 4 | series_min 8 | series_max 8
 *                            | time_min 8 | time_max 8 | rows 8 | chunks 8 | bytes 8
 *     W shard 4 (BE)         version 1 | position 8: groups of the shard's journal up to it are in chunks
 *     G                      version 1 | generation 4: the highest ever given out
 *     D shard 4 | label 4 | series 4 | position 8 (BE)
 *                            version 1 | from 8 | last 8 | generation 4: a tombstone (deletions.h) whose journal group is in
 *                            chunks; series is an index in the shard, all bits set: the whole label
 *     C class 1              version 1 | retention 8 | label 4 ...: rising ids of all labels ever written under the class
 *
 * Every value ends with the XXH3-64 of what stands before it, seeded with the hash of its key. The catalog owns the
 * keys that begin with L, F and S.
 *
 * A flush changes parts, watermark and generation in one batch: that write is the moment at which rows move from the
 * journal to the chunks. The caller serializes changes (engine->flush_lock).
 */
#pragma once

#include "engine/catalog.h"
#include "engine/deletions.h"
#include "engine/parts.h"
#include "storage/base/arena.h"

enum { IMV_CLASSES_MAX = 256, IMV_META_VERSION = 2 };

/* Labels with the same retention at the time of a flush share a class, so that a slot is dropped as whole files. Class
 * 0 is of what is kept for ever. The labels ever written under a class are remembered: retention may change, and a part
 * is dropped only when all of them are past their present horizon. */
struct imv_class {
    bool used;
    bool changed; /* differs from what is in meta */
    int64_t retention_ns;
    uint32_t labels_count, labels_capacity;
    uint32_t *labels; /* rising; owned */
};

struct imv_meta {
    struct imv_parts *parts;
    uint64_t watermarks[IMV_SHARDS_MAX];
    uint32_t generation;
    struct imv_class classes[IMV_CLASSES_MAX];
    struct imv_deletions *deletions[IMV_SHARDS_MAX]; /* as loaded; whoever opens the shards takes them */
};

/* Reads everything. The caller releases meta. IMV_CORRUPT names the record. */
imv_status imv_meta_load(struct imv_kv *kv, struct imv_meta *meta, struct imv_error *err);
void imv_meta_release(struct imv_meta *meta, struct imv_kv *kv);

/* Changes that go into the store together. The functions that add one never fail on their own: a lack of memory is told
 * by imv_meta_write. */
struct imv_meta_batch {
    struct imv_arena arena;        /* owns keys and values */
    struct imv_kv_change *changes; /* owned */
    size_t count, capacity;
    bool failed;
};

void imv_meta_batch_init(struct imv_meta_batch *batch);
void imv_meta_batch_release(struct imv_meta_batch *batch);
void imv_meta_put_part(struct imv_meta_batch *batch, const struct imv_part *part);
void imv_meta_delete_part(struct imv_meta_batch *batch, const struct imv_part *part);
void imv_meta_put_watermark(struct imv_meta_batch *batch, uint32_t shard, uint64_t position);
void imv_meta_put_generation(struct imv_meta_batch *batch, uint32_t generation);
void imv_meta_put_class(struct imv_meta_batch *batch, uint8_t class, const struct imv_class *value);
void imv_meta_put_tombstone(struct imv_meta_batch *batch, uint32_t shard, const struct imv_tombstone *tombstone);
void imv_meta_delete_tombstone(struct imv_meta_batch *batch, uint32_t shard, const struct imv_tombstone *tombstone);
/* Durable on IMV_OK. After another failure than IMV_NO_MEMORY the store may hold the changes or not: the same batch may
 * be written again. */
imv_status imv_meta_write(struct imv_meta_batch *batch, struct imv_kv *kv, struct imv_error *err);

/* The class for rows of a label with this retention; remembers the label. Rows are never dropped too early: when all
 * classes are taken, one with a longer retention is used. IMV_NO_MEMORY. */
imv_status imv_meta_class(struct imv_meta *meta, uint32_t label, int64_t retention_ns, uint8_t *class,
                          struct imv_error *err);
