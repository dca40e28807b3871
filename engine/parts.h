/* parts.h - which chunk files there are: the engine's own table of contents of the `chunks` family.
 *
 * A part is what one flush wrote for one slot of time: chunks whose keys all start with (tier, class, slot, generation),
 * nearly always in a table file of their own (flush.h). Readers see a chunk only through a part that is in their
 * snapshot, so what was ingested by a flush that did not complete is invisible, and is dropped at the next start.
 *
 *     key of a chunk (30 bytes, big-endian, so that memcmp sorts):
 *     tier 1 | class 1 | slot 4 | generation 4 | label 4 | series 8 | start 8 (sign bit flipped)
 *
 * tier: 0 fresh, 1 consolidated. class: labels with the same retention share one, so that a slot is dropped as whole
 * files. slot: UTC days since the day of the earliest 64-bit timestamp (1677-09-21); generation: number of the flush,
 * unique and never used again.
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
    IMV_PART_KEY_BYTES = 10, /* the prefix that all keys of a part share */
};
#define IMV_SLOT_NS (INT64_C(86400) * 1000000000)

struct imv_part {
    uint8_t tier, class;
    uint32_t slot, generation;
    uint32_t label_min, label_max;
    int64_t time_min, time_max;
    uint64_t rows, chunks, bytes;
    _Atomic uint32_t references; /* lists that hold it */
    _Atomic bool retired;        /* to be dropped from the store with the last reference */
};

struct imv_parts {
    _Atomic uint32_t references;
    size_t count;
    struct imv_part *items[]; /* by (slot, generation) rising: the newer generation wins */
};

/* Any timestamp has a slot; the starts of the first slot and of the one after the last are cut to 64 bits. */
uint32_t imv_slot_of(int64_t timestamp);
int64_t imv_slot_start(uint32_t slot);

/* The bytes that all keys of the part start with, and the first key after all of them. */
void imv_part_prefix_put(uint8_t prefix[IMV_PART_KEY_BYTES], const struct imv_part *part);
void imv_part_prefix_end(uint8_t end[IMV_PART_KEY_BYTES], const uint8_t prefix[IMV_PART_KEY_BYTES]);
/* Fills tier, class, slot and generation of part from the first IMV_PART_KEY_BYTES of a key. */
void imv_part_prefix_parse(const uint8_t prefix[IMV_PART_KEY_BYTES], struct imv_part *part);

void imv_chunk_key_put(uint8_t key[IMV_CHUNK_KEY_BYTES], const struct imv_part *part, uint32_t label, uint64_t series,
                       int64_t start);
/* False when it is not a chunk key. */
bool imv_chunk_key_parse(struct imv_str key, struct imv_part *prefix, struct imv_chunk_id *id);

/* Makes the list of what old (NULL: nothing) holds and is not marked as retired, and of added; one reference is the
 * caller's. Takes over the added parts (malloc'ed, without references) when it succeeds. IMV_NO_MEMORY. */
imv_status imv_parts_new(const struct imv_parts *old, struct imv_part *const *added, size_t added_count,
                         struct imv_parts **parts, struct imv_error *err);
/* Undoes imv_parts_new for a list that nobody has seen: the added parts are the caller's again. */
void imv_parts_abandon(struct imv_parts *parts);
void imv_parts_retain(struct imv_parts *parts);
/* At the last reference drops retired parts from kv (their files are deleted) and frees. Any thread. NULL is allowed. */
void imv_parts_release(struct imv_parts *parts, struct imv_kv *kv);
