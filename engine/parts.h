/* parts.h - which chunk files there are: the engine's own table of contents of the `chunks` family.
 *
 * A part is what one flush or consolidation wrote for one slot of time: chunks whose keys all start with the part's
 * prefix. Readers see a chunk only through a part that is in their snapshot, so what was ingested by work that did not
 * complete is invisible, and is dropped at the next start.
 *
 *     key of a chunk (30 bytes, big-endian, so that memcmp sorts):
 *     fresh, consolidated:  tier 1 | class 1 | slot 4 | generation 4 | label 4 | series 8 | start 8 (sign bit flipped)
 *     scattered:            tier 1 | class 1 | generation 4 | slot 4 | label 4 | series 8 | start 8
 *
 * tier: how the part lies in files. A fresh part (of a flush) and a consolidated one have files of their own. The
 * scattered parts of one class and flush, its small slots when there are many, lie one behind the other in the same
 * files; their keys have the generation first, so that these files overlap no other either. They are a group: its files
 * go when its last part goes.
 *
 * class: labels with the same retention share one, so that a slot is dropped as whole files. slot: UTC days since the
 * day of the earliest 64-bit timestamp (1677-09-21). generation: number of the flush or consolidation, unique and never
 * used again. order: of two parts of a slot the one with the higher order is newer and wins; a flush's order is its
 * generation, a consolidated part takes the place in this order of the newest part that it replaces.
 *
 * A list of parts is immutable and reference-counted; a change makes a new list. A part that is taken out of the list
 * is dropped from the store when the last list that holds it is released, so a snapshot never loses rows.
 */
#pragma once

#include "storage/base/status.h"
#include "storage/chunk.h"
#include "storage/kv.h"

#include <stdatomic.h>

enum {
    IMV_CHUNK_KEY_BYTES = 30,
    IMV_PART_KEY_BYTES = 10,      /* the prefix that all keys of a part share */
    IMV_PART_GROUP_KEY_BYTES = 6, /* of it, what all keys of a group of scattered parts share */
};
#define IMV_SLOT_NS (INT64_C(86400) * 1000000000)

enum imv_tier { IMV_TIER_FRESH, IMV_TIER_CONSOLIDATED, IMV_TIER_SCATTERED, IMV_TIERS }; /* stored: never renumber */

/* What the scattered parts of one class and flush share. */
struct imv_part_group {
    _Atomic uint32_t references; /* parts that point here */
    _Atomic uint32_t live;       /* of its parts: not yet dropped */
    _Atomic uint32_t dead;       /* dropped, their bytes are still in the files */
};

struct imv_part {
    uint8_t tier, class;
    uint32_t slot, generation, order;
    uint32_t label_min, label_max;
    uint64_t series_min, series_max; /* ids; of all its labels together */
    int64_t time_min, time_max;
    uint64_t rows, chunks, bytes;
    struct imv_part_group *group; /* of a scattered part, else NULL */
    int64_t made_at_ns;           /* monotonic; INT64_MIN: before the engine was opened */
    uint32_t hidden_permille;     /* of its rows, estimated: hidden by tombstones (consolidate.c); FLUSH lock */
    bool unfit;                   /* a chunk of it could not be read: left alone until the next start; FLUSH lock */
    _Atomic uint32_t references;  /* lists that hold it */
    _Atomic bool retired;         /* to be dropped from the store with the last reference */
};

struct imv_parts {
    _Atomic uint32_t references;
    size_t count;
    struct imv_part *items[]; /* by (slot, order) rising: the newer one wins */
};

/* False: the part has no chunk of the series. Parts of flushes have series of one shard only. */
static inline bool imv_part_may_have(const struct imv_part *part, uint64_t series) {
    return part->series_min <= series && series <= part->series_max;
}

/* Any timestamp has a slot; the starts of the first slot and of the one after the last are cut to 64 bits. */
uint32_t imv_slot_of(int64_t timestamp);
int64_t imv_slot_start(uint32_t slot);

/* The bytes that all keys of the part start with, and the first key after all that start with the first `bytes` of
 * them (IMV_PART_KEY_BYTES: the part; IMV_PART_GROUP_KEY_BYTES of a scattered part: its group). */
void imv_part_prefix_put(uint8_t prefix[IMV_PART_KEY_BYTES], const struct imv_part *part);
void imv_part_prefix_end(uint8_t end[IMV_PART_KEY_BYTES], const uint8_t prefix[IMV_PART_KEY_BYTES], size_t bytes);
/* Fills tier, class, slot and generation of part from the first IMV_PART_KEY_BYTES of a key. */
void imv_part_prefix_parse(const uint8_t prefix[IMV_PART_KEY_BYTES], struct imv_part *part);

void imv_chunk_key_put(uint8_t key[IMV_CHUNK_KEY_BYTES], const struct imv_part *part, uint32_t label, uint64_t series,
                       int64_t start);
/* False when it is not a chunk key. */
bool imv_chunk_key_parse(struct imv_str key, struct imv_part *prefix, struct imv_chunk_id *id);

/* An empty part, malloc'ed. A scattered part joins the group of `sibling` (a part of the same class and generation), or
 * gets a new one when that is NULL. NULL: no memory. */
struct imv_part *imv_part_new(enum imv_tier tier, struct imv_part *sibling);
/* Frees a part that no list holds; nothing is dropped from the store. NULL is allowed. */
void imv_part_free(struct imv_part *part);

/* Makes the list of what old (NULL: nothing) holds and is not marked as retired, and of added; one reference is the
 * caller's. Takes over the added parts (without references) when it succeeds. IMV_NO_MEMORY. */
imv_status imv_parts_new(const struct imv_parts *old, struct imv_part *const *added, size_t added_count,
                         struct imv_parts **parts, struct imv_error *err);
/* Index of the first part of the slot or of a later one. */
size_t imv_parts_find(const struct imv_parts *parts, uint32_t slot);
/* Undoes imv_parts_new for a list that nobody has seen: the added parts are the caller's again. */
void imv_parts_abandon(struct imv_parts *parts);
void imv_parts_retain(struct imv_parts *parts);
/* At the last reference drops retired parts from kv (their files are deleted) and frees. Any thread. NULL is
 * allowed. */
void imv_parts_release(struct imv_parts *parts, struct imv_kv *kv);
