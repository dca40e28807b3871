#include "engine/ordinal_set.h"

#include "storage/base/assert.h"

#include <stdlib.h>
#include <string.h>

enum form { FORM_ONE, FORM_FEW, FORM_BLOCKS };

enum {
    FEW_MAX = 32, /* beyond it a block's head of 16 bytes and 2-byte members cost less */
    FEW_FIRST_LOG = 2,
    ARRAY_MAX = 4096,    /* 2-byte members: as large as the bitmap */
    ARRAY_BACK = 3072,   /* a bitmap that shrinks becomes an array again here, not at once: both ways cost 8 KiB */
    BITMAP = UINT16_MAX, /* capacity of a block that is one */
    BITMAP_BYTES = IMV_ORDINAL_BLOCK / 8,
};

struct block {
    uint32_t high;     /* of all members: ordinal / 65,536 */
    uint16_t last;     /* members - 1: a block is never empty */
    uint16_t capacity; /* of the array, or BITMAP */
    union {
        uint16_t *lows;
        uint64_t *bits;
    };
};
_Static_assert(sizeof(struct block) == 16, "stated at FEW_MAX");

struct imv_ordinal_blocks {
    uint32_t count, capacity;
    struct block items[];
};

/* ---- arrays ---- */

/* Where value is, or belongs. */
static uint32_t few_place(const uint32_t *items, uint32_t count, uint32_t value) {
    if (count == 0 || items[count - 1] < value) return count;
    uint32_t from = 0, end = count;
    while (from < end) {
        uint32_t middle = from + (end - from) / 2;
        if (items[middle] < value) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return from;
}

static uint32_t lows_place(const uint16_t *items, uint32_t count, uint16_t value) {
    if (count == 0 || items[count - 1] < value) return count;
    uint32_t from = 0, end = count;
    while (from < end) {
        uint32_t middle = from + (end - from) / 2;
        if (items[middle] < value) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return from;
}

/* ---- blocks ---- */

static uint32_t block_count(const struct block *block) { return (uint32_t)block->last + 1; }

/* The place of the block with this high half, or where it belongs. */
static uint32_t block_place(const struct imv_ordinal_blocks *blocks, uint32_t high) {
    if (blocks->count == 0 || blocks->items[blocks->count - 1].high < high) return blocks->count;
    uint32_t from = 0, end = blocks->count;
    while (from < end) {
        uint32_t middle = from + (end - from) / 2;
        if (blocks->items[middle].high < high) {
            from = middle + 1;
        } else {
            end = middle;
        }
    }
    return from;
}

static struct block *block_find(const struct imv_ordinal_set *set, uint32_t high) {
    uint32_t place = block_place(set->blocks, high);
    if (place == set->blocks->count || set->blocks->items[place].high != high) return NULL;
    return &set->blocks->items[place];
}

static bool block_to_bitmap(struct block *block) {
    uint64_t *bits = calloc(1, BITMAP_BYTES);
    if (bits == NULL) return false;
    for (uint32_t i = 0; i < block_count(block); i++) bits[block->lows[i] / 64] |= UINT64_C(1) << block->lows[i] % 64;
    free(block->lows);
    block->bits = bits;
    block->capacity = BITMAP;
    return true;
}

/* Stays a bitmap when malloc refuses. */
static void block_to_array(struct block *block) {
    uint16_t *lows = malloc(block_count(block) * sizeof *lows);
    if (lows == NULL) return;
    uint32_t count = 0;
    for (uint32_t word = 0; word < IMV_ORDINAL_WORDS; word++) {
        for (uint64_t bits = block->bits[word]; bits != 0; bits &= bits - 1) {
            lows[count++] = (uint16_t)(word * 64 + (uint32_t)__builtin_ctzll(bits));
        }
    }
    imv_assert(count == block_count(block));
    free(block->bits);
    block->lows = lows;
    block->capacity = (uint16_t)count;
}

static bool array_grow(struct block *block) {
    uint32_t capacity = block->capacity + block->capacity / 4 + 4;
    if (capacity > ARRAY_MAX) capacity = ARRAY_MAX;
    uint16_t *lows = realloc(block->lows, capacity * sizeof *lows);
    if (lows == NULL) return false;
    block->lows = lows;
    block->capacity = (uint16_t)capacity;
    return true;
}

static bool block_add(struct block *block, uint16_t low) {
    uint32_t count = block_count(block);
    if (block->capacity != BITMAP && count == block->capacity) {
        if (!(count == ARRAY_MAX ? block_to_bitmap(block) : array_grow(block))) return false;
    }
    block->last++;
    if (block->capacity == BITMAP) {
        block->bits[low / 64] |= UINT64_C(1) << low % 64;
        return true;
    }
    uint32_t place = lows_place(block->lows, count, low);
    memmove(block->lows + place + 1, block->lows + place, (count - place) * sizeof *block->lows);
    block->lows[place] = low;
    return true;
}

static struct imv_ordinal_blocks *blocks_grow(struct imv_ordinal_blocks *blocks) {
    uint32_t count = blocks == NULL ? 0 : blocks->count, capacity = count < 2 ? 2 : count + count / 2;
    struct imv_ordinal_blocks *grown = realloc(blocks, sizeof *grown + capacity * sizeof grown->items[0]);
    if (grown == NULL) return NULL;
    grown->count = count;
    grown->capacity = capacity;
    return grown;
}

static bool blocks_add(struct imv_ordinal_set *set, uint32_t ordinal) {
    uint32_t high = ordinal / IMV_ORDINAL_BLOCK;
    uint16_t low = (uint16_t)(ordinal % IMV_ORDINAL_BLOCK);
    struct block *block = block_find(set, high);
    if (block != NULL) return block_add(block, low);
    if (set->blocks->count == set->blocks->capacity) {
        struct imv_ordinal_blocks *grown = blocks_grow(set->blocks);
        if (grown == NULL) return false;
        set->blocks = grown;
    }
    enum { LOWS_FIRST = 4 };
    uint16_t *lows = malloc(LOWS_FIRST * sizeof *lows);
    if (lows == NULL) return false;
    lows[0] = low;
    struct imv_ordinal_blocks *blocks = set->blocks;
    uint32_t place = block_place(blocks, high);
    memmove(blocks->items + place + 1, blocks->items + place, (blocks->count - place) * sizeof blocks->items[0]);
    blocks->items[place] = (struct block){.high = high, .last = 0, .capacity = LOWS_FIRST, .lows = lows};
    blocks->count++;
    return true;
}

static void blocks_free(struct imv_ordinal_blocks *blocks) {
    for (uint32_t i = 0; i < blocks->count; i++) free(blocks->items[i].lows);
    free(blocks);
}

static void blocks_remove(struct imv_ordinal_set *set, uint32_t ordinal) {
    struct block *block = block_find(set, ordinal / IMV_ORDINAL_BLOCK);
    uint16_t low = (uint16_t)(ordinal % IMV_ORDINAL_BLOCK);
    imv_assert(block != NULL);
    if (block->last == 0) {
        struct imv_ordinal_blocks *blocks = set->blocks;
        uint32_t place = (uint32_t)(block - blocks->items);
        free(block->lows);
        blocks->count--;
        memmove(block, block + 1, (blocks->count - place) * sizeof *block);
        return;
    }
    if (block->capacity == BITMAP) {
        block->bits[low / 64] &= ~(UINT64_C(1) << low % 64);
        block->last--;
        if (block_count(block) <= ARRAY_BACK) block_to_array(block);
        return;
    }
    uint32_t place = lows_place(block->lows, block_count(block), low);
    imv_assert(block->lows[place] == low);
    memmove(block->lows + place, block->lows + place + 1, (block_count(block) - place - 1) * sizeof *block->lows);
    block->last--;
}

/* ---- the set ---- */

void imv_ordinal_set_release(struct imv_ordinal_set *set) {
    if (set->form == FORM_FEW) free(set->few);
    if (set->form == FORM_BLOCKS) blocks_free(set->blocks);
    /* Not extra, which others may be reading. */
    set->blocks = NULL;
    set->count = 0;
    set->form = FORM_ONE;
    set->capacity_log = 0;
}

static bool few_to_blocks(struct imv_ordinal_set *set) {
    struct imv_ordinal_set made = {.blocks = blocks_grow(NULL), .form = FORM_BLOCKS};
    if (made.blocks == NULL) return false;
    for (uint32_t i = 0; i < set->count; i++) {
        if (blocks_add(&made, set->few[i])) continue;
        blocks_free(made.blocks);
        return false;
    }
    free(set->few);
    set->blocks = made.blocks;
    set->form = FORM_BLOCKS;
    return true;
}

static bool one_to_few(struct imv_ordinal_set *set) {
    uint32_t *few = malloc(sizeof *few << FEW_FIRST_LOG);
    if (few == NULL) return false;
    few[0] = set->one;
    set->few = few;
    set->form = FORM_FEW;
    set->capacity_log = FEW_FIRST_LOG;
    return true;
}

static bool few_add(struct imv_ordinal_set *set, uint32_t ordinal) {
    if (set->count == UINT32_C(1) << set->capacity_log) {
        uint32_t *few = realloc(set->few, sizeof *few << (set->capacity_log + 1));
        if (few == NULL) return false;
        set->few = few;
        set->capacity_log++;
    }
    uint32_t place = few_place(set->few, set->count, ordinal);
    memmove(set->few + place + 1, set->few + place, (set->count - place) * sizeof *set->few);
    set->few[place] = ordinal;
    return true;
}

bool imv_ordinal_set_add(struct imv_ordinal_set *set, uint32_t ordinal) {
    if (set->count == 0) {
        imv_ordinal_set_release(set);
        set->one = ordinal;
        set->count = 1;
        return true;
    }
    if (set->form == FORM_ONE && !one_to_few(set)) return false;
    if (set->form == FORM_FEW && set->count == FEW_MAX && !few_to_blocks(set)) return false;
    if (!(set->form == FORM_FEW ? few_add(set, ordinal) : blocks_add(set, ordinal))) return false;
    set->count++;
    return true;
}

void imv_ordinal_set_remove(struct imv_ordinal_set *set, uint32_t ordinal) {
    imv_assert(set->count > 0);
    if (set->form == FORM_FEW) {
        uint32_t place = few_place(set->few, set->count, ordinal);
        imv_assert(place < set->count && set->few[place] == ordinal);
        memmove(set->few + place, set->few + place + 1, (set->count - place - 1) * sizeof *set->few);
    } else if (set->form == FORM_BLOCKS) {
        blocks_remove(set, ordinal);
    } else {
        imv_assert(set->one == ordinal);
    }
    set->count--;
    if (set->count == 0) imv_ordinal_set_release(set);
}

static bool lows_has(const uint16_t *lows, uint32_t count, uint16_t low) {
    uint32_t place = lows_place(lows, count, low);
    return place < count && lows[place] == low;
}

bool imv_ordinal_set_has(const struct imv_ordinal_set *set, uint32_t ordinal) {
    if (set->count == 0) return false;
    if (set->form == FORM_ONE) return set->one == ordinal;
    if (set->form == FORM_FEW) {
        uint32_t place = few_place(set->few, set->count, ordinal);
        return place < set->count && set->few[place] == ordinal;
    }
    const struct block *block = block_find(set, ordinal / IMV_ORDINAL_BLOCK);
    uint16_t low = (uint16_t)(ordinal % IMV_ORDINAL_BLOCK);
    if (block == NULL) return false;
    if (block->capacity == BITMAP) return block->bits[low / 64] >> low % 64 & 1;
    return lows_has(block->lows, block_count(block), low);
}

static void block_or(const struct block *block, uint64_t *words) {
    if (block->capacity == BITMAP) {
        for (uint32_t i = 0; i < IMV_ORDINAL_WORDS; i++) words[i] |= block->bits[i];
        return;
    }
    for (uint32_t i = 0; i < block_count(block); i++) words[block->lows[i] / 64] |= UINT64_C(1) << block->lows[i] % 64;
}

/* The plain members: one or few. */
static const uint32_t *plain_members(const struct imv_ordinal_set *set) {
    return set->form == FORM_ONE ? &set->one : set->few;
}

bool imv_ordinal_set_or(const struct imv_ordinal_set *set, uint32_t block, uint64_t *words) {
    if (set->form == FORM_BLOCKS) {
        const struct block *found = block_find(set, block);
        if (found != NULL) block_or(found, words);
        return found != NULL;
    }
    const uint32_t *members = plain_members(set);
    bool any = false;
    for (uint32_t i = 0; i < set->count; i++) {
        if (members[i] / IMV_ORDINAL_BLOCK != block) continue;
        uint32_t low = members[i] % IMV_ORDINAL_BLOCK;
        words[low / 64] |= UINT64_C(1) << low % 64;
        any = true;
    }
    return any;
}

void imv_ordinal_set_or_all(const struct imv_ordinal_set *set, uint64_t *bits, uint64_t bits_count) {
    if (set->form != FORM_BLOCKS) {
        const uint32_t *members = plain_members(set);
        for (uint32_t i = 0; i < set->count; i++) {
            if (members[i] < bits_count) bits[members[i] / 64] |= UINT64_C(1) << members[i] % 64;
        }
        return;
    }
    for (uint32_t i = 0; i < set->blocks->count; i++) {
        const struct block *block = &set->blocks->items[i];
        uint64_t base = (uint64_t)block->high * IMV_ORDINAL_BLOCK;
        if (base + IMV_ORDINAL_BLOCK <= bits_count) block_or(block, bits + base / 64);
    }
}

size_t imv_ordinal_set_bytes(const struct imv_ordinal_set *set) {
    if (set->form == FORM_ONE) return 0;
    if (set->form == FORM_FEW) return sizeof *set->few << set->capacity_log;
    size_t bytes = sizeof *set->blocks + set->blocks->capacity * sizeof set->blocks->items[0];
    for (uint32_t i = 0; i < set->blocks->count; i++) {
        uint16_t capacity = set->blocks->items[i].capacity;
        bytes += capacity == BITMAP ? BITMAP_BYTES : capacity * sizeof(uint16_t);
    }
    return bytes;
}

static uint32_t block_check(const struct block *block) {
    uint32_t count = 0;
    if (block->capacity == BITMAP) {
        for (uint32_t i = 0; i < IMV_ORDINAL_WORDS; i++) count += (uint32_t)__builtin_popcountll(block->bits[i]);
        imv_assert(count == block_count(block));
        return count;
    }
    imv_assert(block_count(block) <= block->capacity && block->capacity <= ARRAY_MAX);
    for (count = 1; count < block_count(block); count++) imv_assert(block->lows[count - 1] < block->lows[count]);
    return count;
}

void imv_ordinal_set_check(const struct imv_ordinal_set *set) {
    if (set->form == FORM_ONE) imv_assert(set->count <= 1);
    if (set->form == FORM_FEW) {
        imv_assert(set->count <= UINT32_C(1) << set->capacity_log);
        for (uint32_t i = 1; i < set->count; i++) imv_assert(set->few[i - 1] < set->few[i]);
    }
    if (set->form != FORM_BLOCKS) return;
    uint32_t count = 0;
    for (uint32_t i = 0; i < set->blocks->count; i++) {
        imv_assert(i == 0 || set->blocks->items[i - 1].high < set->blocks->items[i].high);
        count += block_check(&set->blocks->items[i]);
    }
    imv_assert(count == set->count);
}
