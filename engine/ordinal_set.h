/* ordinal_set.h - a set of 32-bit numbers, small whether it has one member or a million.
 *
 * The catalog keeps one for each tag value: the series that have it. Most values have one series or a few, some have
 * every third series of a label; both must be cheap, and a selection must combine sets by whole words.
 *
 *     up to 1      the member itself, in the struct
 *     up to 32     an array of 4-byte members, rising
 *     more         blocks of 65,536 numbers, rising; a block is
 *                      an array of 2-byte low halves, rising       while it has at most 4,096 members
 *                      a bitmap of 8 KiB                           with more: 2 bits to 2 bytes a member
 *
 * This is the layout of "Better bitmap performance with Roaring bitmaps" (Chambi et al. 2016) without its run
 * containers: the members of a tag value seldom stand side by side.
 *
 * Members may come in any order; rising ones, the common case, are appended. Memory is malloc's. The owner locks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMV_ORDINAL_BLOCK = 65536, /* numbers of a block */
    IMV_ORDINAL_WORDS = IMV_ORDINAL_BLOCK / 64,
};

struct imv_ordinal_blocks;

/* All zero: empty. */
struct imv_ordinal_set {
    union {
        uint32_t one;
        uint32_t *few;
        struct imv_ordinal_blocks *blocks;
    };
    uint32_t count;
    uint8_t form;         /* private */
    uint8_t capacity_log; /* private */
    uint16_t extra;       /* fills the hole: the owner's */
};
_Static_assert(sizeof(struct imv_ordinal_set) == 16, "there may be one for each series");

/* Leaves an empty set; extra stays. */
void imv_ordinal_set_release(struct imv_ordinal_set *set);

/* ordinal is no member. False, and the set as it was, when malloc refuses. */
bool imv_ordinal_set_add(struct imv_ordinal_set *set, uint32_t ordinal);
/* ordinal is a member. Never fails; gives memory back as the set shrinks. */
void imv_ordinal_set_remove(struct imv_ordinal_set *set, uint32_t ordinal);
bool imv_ordinal_set_has(const struct imv_ordinal_set *set, uint32_t ordinal);

/* Sets the bits of the members within block number `block` in words[IMV_ORDINAL_WORDS]. False when there is none. */
bool imv_ordinal_set_or(const struct imv_ordinal_set *set, uint32_t block, uint64_t *words);

/* Sets the bits of all members below bits_count in bits. */
void imv_ordinal_set_or_all(const struct imv_ordinal_set *set, uint64_t *bits, uint64_t bits_count);

/* Memory outside the struct. */
size_t imv_ordinal_set_bytes(const struct imv_ordinal_set *set);

/* Asserts the order and the counts of everything: for tests. */
void imv_ordinal_set_check(const struct imv_ordinal_set *set);
