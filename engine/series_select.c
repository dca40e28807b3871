/* series_select.c - which series of a label meet a tree of conditions.
 *
 *     prepare   without the lock, but for look-ups: each condition becomes a list of value codes
 *     combine   under the lock, for each block of 65,536 ordinals: sets of values are united into a bitmap, bitmaps of
 *               conditions are combined as the tree says; what is left and visible comes out
 *
 * The estimate: a block of ten conditions is 10 x 8 KiB in the first-level cache, about 5 us; a million series are 16
 * blocks. A million pointers written are 8 MB, about 2 ms: they are what a large selection costs.
 */
#include "engine/catalog_internal.h"

#include "storage/base/assert.h"

#include <stdlib.h>

enum {
    /* Values whose sets are united block by block; more are united once into a bitmap of the whole label, since looking
     * for a block in each of them costs more than that. */
    CODES_APART_MAX = 64,
};

/* A condition made ready. */
struct node {
    const struct imv_tag_selector *selector;
    struct imv_tag_key *key; /* NULL: the label has no such key, or it is AND or OR */
    uint32_t *codes;         /* rising; of the values that are wanted, or not wanted (NOT_IN) */
    size_t codes_count;
    bool absent;         /* an absent tag meets it */
    bool all;            /* every value of the key meets it */
    uint64_t *united;    /* the values' sets as bits of the whole label, when there are many */
    uint64_t estimate;   /* series, at most */
    struct node **parts; /* by rising estimate for AND */
    size_t parts_count;
};

struct selection {
    struct imv_catalog *catalog;
    const struct imv_label *label;
    const struct imv_label_index *index;
    const uint64_t *sequences;
    struct imv_arena arena;
    uint64_t *levels; /* a bitmap for each level of the tree, then one spare */
    size_t height;
    struct imv_series **series;
    size_t count, capacity;
};

static imv_status fail_memory(const struct selection *selection, struct imv_error *err) {
    return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to select series of \"%.*s\"",
                    imv_shown(selection->label->name), selection->label->name.data);
}

/* ---- preparing ---- */

static int compare_codes(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static imv_status reserve_codes(struct selection *selection, struct node *node, size_t count, struct imv_error *err) {
    node->codes = imv_arena_alloc(&selection->arena, count * sizeof *node->codes + 1);
    return node->codes == NULL ? fail_memory(selection, err) : IMV_OK;
}

static imv_status look_up(struct selection *selection, struct node *node, struct imv_error *err) {
    const struct imv_tag_selector *selector = node->selector;
    IMV_TRY(reserve_codes(selection, node, selector->values_count, err));
    imv_catalog_lock_shared(selection->catalog);
    for (size_t i = 0; i < selector->values_count; i++) {
        uint32_t code = imv_tag_key_find_value(selection->catalog, node->key, selector->values[i]);
        if (code != IMV_CODE_NONE) node->codes[node->codes_count++] = code;
    }
    imv_catalog_unlock(selection->catalog);
    qsort(node->codes, node->codes_count, sizeof *node->codes, compare_codes);
    size_t kept = 0;
    for (size_t i = 0; i < node->codes_count; i++) {
        if (kept == 0 || node->codes[kept - 1] != node->codes[i]) node->codes[kept++] = node->codes[i];
    }
    node->codes_count = kept;
    return IMV_OK;
}

/* Some values of a key, taken under the lock and looked at without it. */
struct some_values {
    struct imv_str texts[IMV_TAG_TEST_MAX];
    uint32_t codes[IMV_TAG_TEST_MAX];
    bool matches[IMV_TAG_TEST_MAX];
    size_t count;
};

/* The next values from code *from on; none at the end. Their texts stay as long as their series are looked at. */
static void take_values(const struct selection *selection, const struct imv_tag_key *key, uint32_t *from,
                        struct some_values *some) {
    some->count = 0;
    imv_catalog_lock_shared(selection->catalog);
    for (; *from < key->values_count && some->count < IMV_TAG_TEST_MAX; (*from)++) {
        const struct imv_tag_value *value = imv_tag_value_at(key, *from);
        if (value->text == NULL || value->set.count == 0) continue;
        some->texts[some->count] = (struct imv_str){value->text, value->set.extra};
        some->codes[some->count++] = *from;
    }
    imv_catalog_unlock(selection->catalog);
}

static imv_status match_prefix(void *context, const struct imv_str *texts, size_t count, bool *matches,
                               struct imv_error *err) {
    (void)err;
    const struct imv_str *prefix = context;
    for (size_t i = 0; i < count; i++) {
        matches[i] = texts[i].size >= prefix->size && memcmp(texts[i].data, prefix->data, prefix->size) == 0;
    }
    return IMV_OK;
}

/* Asks about every value of the key. */
static imv_status test_values(struct selection *selection, struct node *node, struct imv_error *err) {
    const struct imv_tag_selector *selector = node->selector;
    bool prefix = selector->kind == IMV_TAG_PREFIX;
    struct some_values *some = imv_arena_alloc(&selection->arena, sizeof *some);
    size_t capacity = 0;
    if (some == NULL) return fail_memory(selection, err);
    for (uint32_t from = 0;;) {
        take_values(selection, node->key, &from, some);
        if (some->count == 0) return IMV_OK;
        IMV_TRY(
            prefix ? match_prefix((void *)(uintptr_t)&selector->values[0], some->texts, some->count, some->matches, err)
                   : selector->test(selector->context, some->texts, some->count, some->matches, err));
        if (node->codes_count + some->count > capacity) {
            uint32_t *before = node->codes;
            capacity = (node->codes_count + some->count) * 2;
            IMV_TRY(reserve_codes(selection, node, capacity, err));
            if (node->codes_count > 0) memcpy(node->codes, before, node->codes_count * sizeof *before);
        }
        for (size_t i = 0; i < some->count; i++) {
            if (some->matches[i]) node->codes[node->codes_count++] = some->codes[i];
        }
    }
}

static imv_status test_absent(const struct selection *selection, struct node *node, struct imv_error *err) {
    (void)selection;
    struct imv_str absent = {0};
    return node->selector->test(node->selector->context, &absent, 1, &node->absent, err);
}

static imv_status prepare_leaf(struct selection *selection, struct node *node, struct imv_error *err) {
    const struct imv_tag_selector *selector = node->selector;
    uint32_t code;
    imv_catalog_lock_shared(selection->catalog);
    node->key = imv_label_find_key(selection->catalog, selection->label, selector->key, &code);
    imv_catalog_unlock(selection->catalog);
    node->absent = selector->kind == IMV_TAG_ABSENT;
    node->all = selector->kind == IMV_TAG_PRESENT;
    if (selector->kind == IMV_TAG_TEST) IMV_TRY(test_absent(selection, node, err));
    if (node->key == NULL || node->all || selector->kind == IMV_TAG_ABSENT) return IMV_OK;
    bool listed = selector->kind == IMV_TAG_IN || selector->kind == IMV_TAG_NOT_IN;
    return listed ? look_up(selection, node, err) : test_values(selection, node, err);
}

static imv_status prepare(struct selection *selection, const struct imv_tag_selector *selector, size_t level,
                          struct node **out, struct imv_error *err) {
    imv_assert(level < IMV_TAG_SELECTOR_HEIGHT_MAX);
    struct node *node = imv_arena_calloc(&selection->arena, 1, sizeof *node);
    if (node == NULL) return fail_memory(selection, err);
    node->selector = selector;
    *out = node;
    if (level + 1 > selection->height) selection->height = level + 1;
    if (selector->kind != IMV_TAG_AND && selector->kind != IMV_TAG_OR) return prepare_leaf(selection, node, err);
    node->parts = imv_arena_calloc(&selection->arena, selector->parts_count + 1, sizeof *node->parts);
    if (node->parts == NULL) return fail_memory(selection, err);
    node->parts_count = selector->parts_count;
    for (size_t i = 0; i < node->parts_count; i++) {
        IMV_TRY(prepare(selection, &selector->parts[i], level + 1, &node->parts[i], err));
    }
    return IMV_OK;
}

/* ---- under the lock ---- */

static int compare_estimates(const void *a, const void *b) {
    uint64_t left = (*(struct node *const *)a)->estimate, right = (*(struct node *const *)b)->estimate;
    return (left > right) - (left < right);
}

static bool unite(struct selection *selection, struct node *node) {
    uint64_t bits = (uint64_t)selection->index->blocks_count * IMV_ORDINAL_BLOCK;
    node->united = calloc(bits / 64 + 1, sizeof *node->united);
    if (node->united == NULL) return false;
    for (size_t i = 0; i < node->codes_count; i++) {
        imv_ordinal_set_or_all(&imv_tag_value_at(node->key, node->codes[i])->set, node->united, bits);
    }
    return true;
}

static bool estimate_leaf(struct selection *selection, struct node *node) {
    uint64_t all = atomic_load_explicit(&selection->index->series_count, memory_order_relaxed), listed = 0;
    uint64_t present = node->key == NULL ? 0 : node->key->set.count;
    for (size_t i = 0; i < node->codes_count; i++) listed += imv_tag_value_at(node->key, node->codes[i])->set.count;
    bool inverted = node->selector->kind == IMV_TAG_NOT_IN;
    node->estimate = (node->all ? present : inverted ? present - listed : listed) + (node->absent ? all - present : 0);
    return node->codes_count <= CODES_APART_MAX || unite(selection, node);
}

static bool estimate(struct selection *selection, struct node *node) {
    bool and = node->selector->kind == IMV_TAG_AND;
    if (!and&&node->selector->kind != IMV_TAG_OR) return estimate_leaf(selection, node);
    node->estimate = and? UINT64_MAX : 0;
    for (size_t i = 0; i < node->parts_count; i++) {
        if (!estimate(selection, node->parts[i])) return false;
        uint64_t part = node->parts[i]->estimate;
        if (and? part < node->estimate : false) node->estimate = part;
        if (!and) node->estimate += part;
    }
    if (and) qsort(node->parts, node->parts_count, sizeof(struct node *), compare_estimates);
    return true;
}

static void release_united(struct node *node) {
    free(node->united);
    for (size_t i = 0; i < node->parts_count; i++) {
        if (node->parts[i] != NULL) release_united(node->parts[i]);
    }
}

static uint64_t *level_words(const struct selection *selection, size_t level) {
    return selection->levels + level * IMV_ORDINAL_WORDS;
}

static void clear(uint64_t *words) { memset(words, 0, IMV_ORDINAL_WORDS * sizeof *words); }

/* Unites the listed values of a block into cleared words; false when there is none. */
static bool unite_block(const struct node *node, uint32_t block, uint64_t *words) {
    if (node->united != NULL) {
        memcpy(words, node->united + (size_t)block * IMV_ORDINAL_WORDS, IMV_ORDINAL_WORDS * sizeof *words);
        return true;
    }
    bool any = false;
    for (size_t i = 0; i < node->codes_count; i++) {
        any |= imv_ordinal_set_or(&imv_tag_value_at(node->key, node->codes[i])->set, block, words);
    }
    return any;
}

/* The series of a block that meet a condition on one tag; false when there is surely none. */
static bool meet_leaf(const struct selection *selection, const struct node *node, uint32_t block, size_t level) {
    uint64_t *words = level_words(selection, level), *spare = level_words(selection, selection->height);
    bool inverted = node->selector->kind == IMV_TAG_NOT_IN;
    clear(words);
    if (!inverted && !node->absent) {
        if (node->all) return node->key != NULL && imv_ordinal_set_or(&node->key->set, block, words);
        return unite_block(node, block, words);
    }
    clear(spare);
    if (inverted) {
        if (node->key == NULL || !imv_ordinal_set_or(&node->key->set, block, words)) return false;
        if (unite_block(node, block, spare)) {
            for (size_t i = 0; i < IMV_ORDINAL_WORDS; i++) words[i] &= ~spare[i];
        }
        return true;
    }
    if (node->key != NULL) imv_ordinal_set_or(&node->key->set, block, spare);
    unite_block(node, block, words);
    for (size_t i = 0; i < IMV_ORDINAL_WORDS; i++) words[i] |= ~spare[i];
    return true;
}

/* The members of a block into the bitmap of the level; false when there is surely none. */
static bool meet(const struct selection *selection, const struct node *node, uint32_t block, size_t level) {
    bool and = node->selector->kind == IMV_TAG_AND;
    if (!and&&node->selector->kind != IMV_TAG_OR) return meet_leaf(selection, node, block, level);
    uint64_t *words = level_words(selection, level);
    const uint64_t *part = words + IMV_ORDINAL_WORDS;
    memset(words, and? 0xff : 0, IMV_ORDINAL_WORDS * sizeof *words);
    bool any = and;
    for (size_t i = 0; i < node->parts_count; i++) {
        bool met = meet(selection, node->parts[i], block, level + 1);
        if (and) {
            if (!met) return false;
            for (size_t w = 0; w < IMV_ORDINAL_WORDS; w++) words[w] &= part[w];
        } else if (met) {
            for (size_t w = 0; w < IMV_ORDINAL_WORDS; w++) words[w] |= part[w];
            any = true;
        }
    }
    return any;
}

static bool is_visible(const struct imv_series *series, const uint64_t *sequences) {
    uint64_t visible_at = atomic_load_explicit(&series->visible_at, memory_order_acquire);
    if (visible_at <= IMV_SEQUENCE_LOADED || sequences == NULL) return visible_at != 0;
    return visible_at <= sequences[series->shard];
}

static bool reserve_result(struct selection *selection, size_t more) {
    if (selection->count + more <= selection->capacity) return true;
    size_t capacity =
        selection->capacity * 2 > selection->count + more ? selection->capacity * 2 : selection->count + more;
    struct imv_series **series = realloc(selection->series, capacity * sizeof(struct imv_series *));
    if (series == NULL) return false;
    selection->series = series;
    selection->capacity = capacity;
    return true;
}

/* Puts the series of a block whose bits are set in words (NULL: all) into the result. */
static bool gather(struct selection *selection, const struct imv_series_block *block, const uint64_t *words) {
    bool settled = selection->sequences == NULL ||
                   selection->sequences[block->shard] >= selection->catalog->shards[block->shard].settled_sequence;
    for (uint32_t base = 0; base < block->used; base += 64) {
        uint64_t bits = words == NULL ? UINT64_MAX : words[base / 64];
        if (block->used - base < 64) bits &= (UINT64_C(1) << (block->used - base)) - 1;
        if (bits == 0) continue;
        if (!reserve_result(selection, 64)) return false;
        uint64_t sure = settled ? block->settled[base / 64] : 0;
        for (; bits != 0; bits &= bits - 1) {
            uint32_t bit = (uint32_t)__builtin_ctzll(bits);
            struct imv_series *series = block->series[base + bit];
            bool shown = sure >> bit & 1 || (series != NULL && is_visible(series, selection->sequences));
            selection->series[selection->count] = series;
            selection->count += shown;
        }
    }
    return true;
}

static int compare_series(const void *a, const void *b) {
    uint64_t left = imv_series_id(*(struct imv_series *const *)a),
             right = imv_series_id(*(struct imv_series *const *)b);
    return (left > right) - (left < right);
}

/* Blocks of one shard may have been given out while holes of an earlier one were filled. */
static bool gather_shard(struct selection *selection, const struct node *root, uint32_t shard) {
    size_t first = selection->count;
    bool disordered = false;
    for (uint32_t i = 0; i < selection->index->blocks_count; i++) {
        const struct imv_series_block *block = &selection->index->blocks[i];
        if (block->shard != shard || block->used == block->holes) continue;
        if (root != NULL && !meet(selection, root, i, 0)) continue;
        disordered |= block->disordered;
        if (!gather(selection, block, root == NULL ? NULL : level_words(selection, 0))) return false;
    }
    if (disordered)
        qsort(selection->series + first, selection->count - first, sizeof(struct imv_series *), compare_series);
    return true;
}

static bool combine(struct selection *selection, struct node *root) {
    imv_catalog_lock_shared(selection->catalog);
    bool done = root == NULL || estimate(selection, root);
    uint64_t most = root == NULL ? UINT64_MAX : root->estimate;
    uint64_t all = atomic_load_explicit(&selection->index->series_count, memory_order_relaxed);
    /* 64 behind the last: gather writes a word's worth before it counts. */
    if (done) done = reserve_result(selection, (size_t)(most < all ? most : all) + 64);
    for (uint32_t shard = 0; done && shard < selection->catalog->shards_count; shard++) {
        done = gather_shard(selection, root, shard);
    }
    imv_catalog_unlock(selection->catalog);
    return done;
}

imv_status imv_catalog_select(struct imv_catalog *catalog, struct imv_label *label,
                              const struct imv_tag_selector *selector, const uint64_t *sequences,
                              struct imv_series ***series, size_t *count, struct imv_error *err) {
    enum { SCRATCH_BYTES = 4096 };
    struct selection selection = {.catalog = catalog, .label = label, .index = label->index, .sequences = sequences};
    imv_arena_init(&selection.arena, SCRATCH_BYTES, NULL);
    struct node *root = NULL;
    imv_status status = selector == NULL ? IMV_OK : prepare(&selection, selector, 0, &root, err);
    if (status == IMV_OK) {
        selection.levels = malloc((selection.height + 1) * IMV_ORDINAL_WORDS * sizeof *selection.levels);
        bool done = selection.levels != NULL && combine(&selection, root);
        if (!done) status = fail_memory(&selection, err);
    }
    if (root != NULL) release_united(root);
    free(selection.levels);
    imv_arena_release(&selection.arena);
    if (status != IMV_OK) {
        free(selection.series);
        return status;
    }
    *series = selection.series;
    *count = selection.count;
    return IMV_OK;
}
