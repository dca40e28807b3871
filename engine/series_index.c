/* series_index.c - the series of the catalog: finding and making them, and the arrays that lead to them. */
#include "engine/catalog_internal.h"

#include "storage/base/assert.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- series by id and by ordinal ---- */

struct imv_series *imv_shard_series_at(const struct imv_shard_series *shard, uint32_t index) {
    if (index >= atomic_load_explicit(&shard->count, memory_order_relaxed)) return NULL;
    struct imv_series_page **page = imv_segments_at(&shard->pages, sizeof *page, index / IMV_PAGE_SERIES);
    return page == NULL || *page == NULL ? NULL : (*page)->series[index % IMV_PAGE_SERIES];
}

static bool reserve_page(struct imv_shard_series *shard, uint32_t index) {
    uint32_t number = index / IMV_PAGE_SERIES;
    struct imv_series_page **page;
    if (!imv_segments_reserve(&shard->pages, sizeof *page, number)) return false;
    page = imv_segments_at(&shard->pages, sizeof *page, number);
    if (*page == NULL) *page = calloc(1, sizeof **page);
    return *page != NULL;
}

static void put_in_page(struct imv_shard_series *shard, struct imv_series *series) {
    struct imv_series_page **page = imv_segments_at(&shard->pages, sizeof *page, series->index / IMV_PAGE_SERIES);
    (*page)->series[series->index % IMV_PAGE_SERIES] = series;
    (*page)->count++;
    if (series->index >= atomic_load_explicit(&shard->count, memory_order_relaxed)) {
        atomic_store_explicit(&shard->count, series->index + 1, memory_order_release);
    }
}

/* The newest block of a shard, or one that is half holes. */
static struct imv_series_block *open_block(const struct imv_label_index *index, uint32_t shard) {
    struct imv_series_block *newest = NULL;
    for (uint32_t i = index->blocks_count; i > 0; i--) {
        struct imv_series_block *block = &index->blocks[i - 1];
        if (block->shard != shard) continue;
        if (block->holes >= IMV_ORDINAL_BLOCK / 2) return block;
        if (newest == NULL) newest = block;
    }
    return newest;
}

static struct imv_series_block *add_block(struct imv_label_index *index, uint32_t shard) {
    if (index->blocks_count == UINT32_MAX / IMV_ORDINAL_BLOCK) return NULL;
    struct imv_series_block *blocks = realloc(index->blocks, (index->blocks_count + 1) * sizeof *blocks);
    if (blocks == NULL) return NULL;
    index->blocks = blocks;
    blocks[index->blocks_count] = (struct imv_series_block){.shard = shard};
    return &blocks[index->blocks_count++];
}

static bool grow_block(struct imv_series_block *block) {
    uint32_t capacity = block->capacity < 4 ? 4 : block->capacity + block->capacity / 2;
    if (capacity > IMV_ORDINAL_BLOCK) capacity = IMV_ORDINAL_BLOCK;
    struct imv_series **series = realloc(block->series, capacity * sizeof *series);
    if (series == NULL) return false;
    block->series = series;
    uint32_t words_before = (block->capacity + 63) / 64, words = (capacity + 63) / 64;
    uint64_t *settled = realloc(block->settled, words * sizeof *settled);
    if (settled == NULL) return false;
    memset(settled + words_before, 0, (words - words_before) * sizeof *settled);
    block->settled = settled;
    block->capacity = capacity;
    return true;
}

/* Finds a free ordinal of the shard and makes room for it. */
static bool reserve_ordinal(struct imv_label_index *index, uint32_t shard, uint32_t *ordinal) {
    struct imv_series_block *block = open_block(index, shard);
    if (block == NULL || (block->used == IMV_ORDINAL_BLOCK && block->holes < IMV_ORDINAL_BLOCK / 2)) {
        block = add_block(index, shard);
    }
    if (block == NULL) return false;
    uint32_t low = block->used;
    if (block->holes >= IMV_ORDINAL_BLOCK / 2) {
        for (low = 0; block->series[low] != NULL;) low++;
    } else if (block->used == block->capacity && !grow_block(block)) {
        return false;
    }
    *ordinal = (uint32_t)(block - index->blocks) * IMV_ORDINAL_BLOCK + low;
    return true;
}

static void put_in_block(struct imv_label_index *index, struct imv_series *series) {
    struct imv_series_block *block = &index->blocks[series->ordinal / IMV_ORDINAL_BLOCK];
    uint32_t low = series->ordinal % IMV_ORDINAL_BLOCK;
    if (low == block->used) {
        const struct imv_series *before = low == 0 ? NULL : block->series[low - 1];
        /* A replay defines series in any order; behind a hole the order is not known to be broken, but may be. */
        if (low > 0 && (before == NULL || before->index > series->index)) block->disordered = true;
        block->used++;
    } else {
        block->holes--;
        block->disordered = true;
    }
    block->series[low] = series;
}

void imv_series_settle(struct imv_catalog *catalog, struct imv_series *series) {
    struct imv_series_block *block = &series->label->index->blocks[series->ordinal / IMV_ORDINAL_BLOCK];
    uint64_t visible_at = atomic_load_explicit(&series->visible_at, memory_order_acquire);
    imv_assert(visible_at != 0);
    imv_bit_set(block->settled, series->ordinal % IMV_ORDINAL_BLOCK);
    struct imv_shard_series *shard = &catalog->shards[series->shard];
    if (visible_at > IMV_SEQUENCE_LOADED && visible_at > shard->settled_sequence) shard->settled_sequence = visible_at;
}

void imv_label_series_release(struct imv_label_index *index) {
    for (uint32_t i = 0; i < index->blocks_count; i++) {
        free(index->blocks[i].series);
        free(index->blocks[i].settled);
    }
    free(index->blocks);
}

/* ---- tags ---- */

/* Sorts by key (insertion: clients mostly send them sorted) and checks every limit of the header. */
static imv_status sort_tags(const struct imv_tag *tags, size_t count, struct imv_tag *sorted, struct imv_error *err) {
    if (count > IMV_TAGS_MAX) {
        return imv_fail(err, IMV_INVALID, "a series has %zu tags, the limit is %d", count, IMV_TAGS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        IMV_TRY(imv_catalog_check_name("tag key", tags[i].key, err));
        IMV_TRY(imv_catalog_check_name("tag value", tags[i].value, err));
        size_t at = i;
        int order = 1;
        while (at > 0 && (order = imv_str_compare(tags[i].key, sorted[at - 1].key)) < 0) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        if (order == 0) {
            return imv_fail(err, IMV_INVALID, "tag \"%.*s\" is given twice", imv_shown(tags[i].key), tags[i].key.data);
        }
        sorted[at] = tags[i];
    }
    return IMV_OK;
}

/* Tags as codes; IMV_CODE_NONE for what is not there. */
struct codes {
    uint32_t keys[IMV_TAGS_MAX], values[IMV_TAGS_MAX];
    uint32_t missing; /* values that are not there */
};

/* The code of a key. Clients send tags in the same order line after line: what stood in this place last is compared
 * before anything is hashed. */
static struct imv_tag_key *find_key(const struct imv_catalog *catalog, const struct imv_label *label, uint32_t place,
                                    struct imv_str name, uint32_t *code) {
    if (place < atomic_load_explicit(&label->index->keys_count, memory_order_acquire)) {
        struct imv_tag_key *key = imv_label_key_at(label, place);
        *code = place;
        if (imv_str_equal(key->name, name)) return key;
    }
    return imv_label_find_key(catalog, label, name, code);
}

/* The lock is held. */
static void find_codes(const struct imv_catalog *catalog, const struct imv_label *label, const struct imv_tag *sorted,
                       uint32_t count, struct codes *codes) {
    codes->missing = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_tag_key *key = find_key(catalog, label, i, sorted[i].key, &codes->keys[i]);
        codes->values[i] = key == NULL ? IMV_CODE_NONE : imv_tag_key_find_value(catalog, key, sorted[i].value);
        codes->missing += codes->values[i] == IMV_CODE_NONE;
    }
}

/* Tags as they lie behind a series. */
struct tag_bytes {
    size_t size;
    uint8_t bytes[2 * 5 * IMV_TAGS_MAX];
};

static void put_codes(const struct codes *codes, uint32_t count, struct tag_bytes *tags) {
    uint8_t *end = tags->bytes;
    for (uint32_t i = 0; i < count; i++) end = imv_put_varint(imv_put_varint(end, codes->keys[i]), codes->values[i]);
    tags->size = (size_t)(end - tags->bytes);
}

struct series_probe {
    const struct imv_label_index *index;
    const struct tag_bytes *tags;
    uint32_t tags_count;
};

/* Byte by byte: a series has no end of its own in memory, but it ends where a difference comes first. */
static bool series_has_tags(const void *context, uint32_t ordinal) {
    const struct series_probe *probe = context;
    const struct imv_series *series = imv_label_series_at(probe->index, ordinal);
    if (series->tags_count != probe->tags_count) return false;
    const uint8_t *tags = imv_series_tags(series);
    for (size_t i = 0; i < probe->tags->size; i++) {
        if (tags[i] != probe->tags->bytes[i]) return false;
    }
    return true;
}

static uint32_t hash_tags(const struct imv_catalog *catalog, const struct tag_bytes *tags) {
    return imv_catalog_hash(catalog, tags->bytes, tags->size);
}

/* The series with these sorted tags, or NULL; codes are filled. The lock is held. */
static struct imv_series *find_series(const struct imv_catalog *catalog, const struct imv_label *label,
                                      const struct imv_tag *sorted, uint32_t count, struct codes *codes) {
    find_codes(catalog, label, sorted, count, codes);
    if (codes->missing > 0) return NULL;
    struct tag_bytes tags;
    put_codes(codes, count, &tags);
    struct series_probe probe = {label->index, &tags, count};
    uint32_t ordinal =
        imv_code_table_find(&label->index->series_by_tags, hash_tags(catalog, &tags), series_has_tags, &probe);
    return ordinal == IMV_CODE_NONE ? NULL : imv_label_series_at(label->index, ordinal);
}

static uint8_t *put_key_part(uint8_t *to, struct imv_str text) {
    imv_put_u32(to, (uint32_t)text.size);
    if (text.size > 0) memcpy(to + 4, text.data, text.size);
    return to + 4 + text.size;
}

/* The shard that owns a series: the hash of its canonical key. The key (label, then the sorted tags, each text behind
 * its 32-bit length), the hash and its seed must never change: stored series would change owners. */
static uint32_t owner_of(struct imv_catalog *catalog, const struct imv_label *label, const struct imv_tag *sorted,
                         uint32_t count) {
    enum { OWNER_SEED = 0 };
    uint8_t *end = put_key_part(catalog->key_scratch, label->name);
    for (uint32_t i = 0; i < count; i++) end = put_key_part(put_key_part(end, sorted[i].key), sorted[i].value);
    size_t size = (size_t)(end - catalog->key_scratch);
    imv_assert(size <= IMV_KEY_BYTES_MAX);
    return (uint32_t)(imv_hash64(catalog->key_scratch, size, OWNER_SEED) % catalog->shards_count);
}

/* ---- making ---- */

/* A key that no series has may be a field meanwhile. */
static imv_status check_keys(struct imv_catalog *catalog, const struct imv_label *label, const struct imv_tag *sorted,
                             uint32_t count, const struct codes *codes, struct imv_error *err) {
    for (uint32_t i = 0; i < count; i++) {
        if (codes->keys[i] != IMV_CODE_NONE && imv_label_key_at(label, codes->keys[i])->set.count > 0) continue;
        IMV_TRY(imv_label_check_key(catalog, label, sorted[i].key, err));
    }
    return IMV_OK;
}

static imv_status intern_tags(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *sorted,
                              uint32_t count, struct codes *codes, struct imv_error *err) {
    for (uint32_t i = 0; i < count; i++) {
        if (codes->values[i] != IMV_CODE_NONE) continue;
        if (codes->keys[i] == IMV_CODE_NONE) {
            IMV_TRY(imv_label_add_key(catalog, label, sorted[i].key, &codes->keys[i], err));
        }
        struct imv_tag_key *key = imv_label_key_at(label, codes->keys[i]);
        IMV_TRY(imv_tag_key_add_value(catalog, key, sorted[i].value, &codes->values[i], err));
    }
    return IMV_OK;
}

/* Takes the ordinal out of the sets of the first `count` tags. */
static void leave_sets(const struct imv_label *label, const struct codes *codes, uint32_t count, uint32_t ordinal) {
    for (uint32_t i = 0; i < count; i++) {
        struct imv_tag_key *key = imv_label_key_at(label, codes->keys[i]);
        imv_ordinal_set_remove(&key->set, ordinal);
        imv_ordinal_set_remove(&imv_tag_value_at(key, codes->values[i])->set, ordinal);
    }
}

static bool enter_sets(const struct imv_label *label, const struct codes *codes, uint32_t count, uint32_t ordinal) {
    for (uint32_t i = 0; i < count; i++) {
        struct imv_tag_key *key = imv_label_key_at(label, codes->keys[i]);
        bool added = imv_ordinal_set_add(&key->set, ordinal);
        if (added && imv_ordinal_set_add(&imv_tag_value_at(key, codes->values[i])->set, ordinal)) continue;
        if (added) imv_ordinal_set_remove(&key->set, ordinal);
        leave_sets(label, codes, i, ordinal);
        return false;
    }
    return true;
}

/* Drops those of the values that no series has. */
static void drop_values(struct imv_catalog *catalog, const struct imv_label *label, const struct codes *codes,
                        uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (codes->keys[i] == IMV_CODE_NONE || codes->values[i] == IMV_CODE_NONE) continue;
        struct imv_tag_key *key = imv_label_key_at(label, codes->keys[i]);
        if (imv_tag_value_at(key, codes->values[i])->set.count == 0) {
            imv_tag_key_drop_value(catalog, key, codes->values[i]);
        }
    }
}

/* Memory for the series and its places in all tables, and its membership of the sets. */
static struct imv_series *allocate_series(struct imv_catalog *catalog, struct imv_label *label,
                                          const struct codes *codes, uint32_t count, const struct tag_bytes *tags,
                                          uint32_t shard, uint32_t index) {
    uint32_t ordinal;
    if (!reserve_page(&catalog->shards[shard], index) || !reserve_ordinal(label->index, shard, &ordinal) ||
        !imv_code_table_reserve(&label->index->series_by_tags)) {
        return NULL;
    }
    struct imv_series *made = imv_catalog_take(catalog, sizeof *made + tags->size);
    if (made == NULL) return NULL;
    if (!enter_sets(label, codes, count, ordinal)) {
        imv_catalog_give(catalog, made, sizeof *made + tags->size);
        return NULL;
    }
    *made = (struct imv_series){
        .label = label, .shard = (uint8_t)shard, .index = index, .tags_count = (uint16_t)count, .ordinal = ordinal};
    memcpy(made + 1, tags->bytes, tags->size);
    return made;
}

/* Makes the series with these sorted tags at (shard, index), which is free. The lock is held for writing. A failure
 * leaves nothing behind but keys without series. */
static imv_status add_series(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *sorted,
                             uint32_t count, struct codes *codes, uint32_t shard, uint32_t index,
                             struct imv_series **series, struct imv_error *err) {
    IMV_TRY(check_keys(catalog, label, sorted, count, codes, err));
    imv_status status = intern_tags(catalog, label, sorted, count, codes, err);
    struct tag_bytes tags;
    struct imv_series *made = NULL;
    if (status == IMV_OK) {
        put_codes(codes, count, &tags);
        made = allocate_series(catalog, label, codes, count, &tags, shard, index);
    }
    if (made == NULL) {
        drop_values(catalog, label, codes, count);
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for a series of \"%.*s\"", imv_shown(label->name),
                        label->name.data);
    }
    put_in_block(label->index, made);
    put_in_page(&catalog->shards[shard], made);
    imv_code_table_insert(&label->index->series_by_tags, hash_tags(catalog, &tags), made->ordinal);
    catalog->series_count++;
    atomic_fetch_add_explicit(&label->index->series_count, 1, memory_order_relaxed);
    imv_metric_add(IMV_METRIC_series, 1);
    *series = made;
    return IMV_OK;
}

/* IMV_FULL when one more series would pass a limit; of is NULL when the label is new. The lock is held. */
static imv_status check_limits(const struct imv_catalog *catalog, struct imv_str label,
                               const struct imv_label_index *of, struct imv_error *err) {
    uint64_t own_max = of == NULL ? 0 : atomic_load_explicit(&of->series_max, memory_order_relaxed);
    if (own_max == 0) own_max = atomic_load_explicit(&catalog->label_series_max, memory_order_relaxed);
    uint64_t own = of == NULL ? 0 : atomic_load_explicit(&of->series_count, memory_order_relaxed);
    uint64_t all_max = atomic_load_explicit(&catalog->series_max, memory_order_relaxed);
    imv_status status = IMV_OK;
    if (own >= own_max) {
        status = imv_fail(err, IMV_FULL,
                          "a new series of \"%.*s\" would pass its limit of %" PRIu64 " series: it has %" PRIu64,
                          imv_shown(label), label.data, own_max, own);
    } else if (catalog->series_count >= all_max) {
        status = imv_fail(err, IMV_FULL,
                          "a new series of \"%.*s\" would pass the limit of %" PRIu64
                          " series in all: there are %" PRIu64 ", %" PRIu64 " of them of this label",
                          imv_shown(label), label.data, all_max, catalog->series_count, own);
    } else {
        status = imv_catalog_check_bytes(catalog, err);
    }
    if (status != IMV_OK) imv_metric_add(IMV_METRIC_series_refused_total, 1);
    return status;
}

static imv_status make_series(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *sorted,
                              uint32_t count, struct codes *codes, struct imv_series **series, struct imv_error *err) {
    IMV_TRY(check_limits(catalog, label->name, label->index, err));
    uint32_t shard = owner_of(catalog, label, sorted, count);
    uint32_t index = imv_catalog_series_count(catalog, shard);
    if (index == UINT32_MAX) return imv_fail(err, IMV_FULL, "catalog: shard %" PRIu32 " has 2^32 series", shard);
    return add_series(catalog, label, sorted, count, codes, shard, index, series, err);
}

static imv_status series_of(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *sorted,
                            uint32_t count, struct imv_series **series, struct imv_error *err) {
    struct codes codes;
    imv_catalog_lock_shared(catalog);
    *series = find_series(catalog, label, sorted, count, &codes);
    imv_catalog_unlock(catalog);
    if (*series != NULL) return IMV_OK;

    imv_status status = IMV_OK;
    imv_catalog_lock(catalog);
    *series = find_series(catalog, label, sorted, count, &codes);
    if (*series == NULL) status = make_series(catalog, label, sorted, count, &codes, series, err);
    imv_catalog_unlock(catalog);
    return status;
}

imv_status imv_catalog_series(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *tags,
                              size_t tags_count, struct imv_series **series, struct imv_error *err) {
    struct imv_tag sorted[IMV_TAGS_MAX];
    IMV_TRY(sort_tags(tags, tags_count, sorted, err));
    return series_of(catalog, label, sorted, (uint32_t)tags_count, series, err);
}

imv_status imv_catalog_resolve(struct imv_catalog *catalog, struct imv_str name, const struct imv_tag *tags,
                               size_t tags_count, struct imv_series **series, struct imv_error *err) {
    struct imv_tag sorted[IMV_TAGS_MAX];
    IMV_TRY(sort_tags(tags, tags_count, sorted, err));
    struct imv_label *label = imv_catalog_find_label(catalog, name);
    if (label == NULL) {
        imv_catalog_lock_shared(catalog);
        imv_status status = check_limits(catalog, name, NULL, err);
        imv_catalog_unlock(catalog);
        if (status == IMV_OK) status = imv_catalog_label(catalog, name, &label, err);
        if (status != IMV_OK) return status;
    }
    return series_of(catalog, label, sorted, (uint32_t)tags_count, series, err);
}

imv_status imv_shard_series_remember(struct imv_shard_series *shard, uint32_t index, struct imv_error *err) {
    if (shard->unstored_count == shard->unstored_capacity) {
        size_t capacity = shard->unstored_capacity == 0 ? 64 : shard->unstored_capacity * 2;
        uint32_t *unstored = realloc(shard->unstored, capacity * sizeof *unstored);
        if (unstored == NULL) return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to remember a series");
        shard->unstored = unstored;
        shard->unstored_capacity = capacity;
    }
    shard->unstored[shard->unstored_count++] = index;
    return IMV_OK;
}

static imv_status define_series(struct imv_catalog *catalog, uint32_t shard, uint64_t index, struct imv_label *label,
                                const struct imv_tag *sorted, uint32_t count, struct imv_series **series,
                                struct imv_error *err) {
    uint64_t id = (uint64_t)shard << 40 | index;
    struct codes codes;
    *series = find_series(catalog, label, sorted, count, &codes);
    if (*series != NULL && imv_series_id(*series) == id) return IMV_OK;
    if (*series != NULL ||
        (index < UINT32_MAX && imv_shard_series_at(&catalog->shards[shard], (uint32_t)index) != NULL)) {
        return imv_fail(err, IMV_CORRUPT, "catalog: series %" PRIu32 "/%" PRIu64 " of \"%.*s\" is another one there",
                        shard, index, imv_shown(label->name), label->name.data);
    }
    if (index > (uint64_t)imv_catalog_series_count(catalog, shard) + IMV_SERIES_GAP_MAX || index >= UINT32_MAX) {
        return imv_fail(err, IMV_CORRUPT, "catalog: series %" PRIu32 "/%" PRIu64 " is far above the %" PRIu32 " there",
                        shard, index, imv_catalog_series_count(catalog, shard));
    }
    uint32_t owner = owner_of(catalog, label, sorted, count);
    if (owner != shard) {
        return imv_fail(err, IMV_CORRUPT,
                        "catalog: series %" PRIu32 "/%" PRIu64 " of \"%.*s\" belongs to shard %" PRIu32, shard, index,
                        imv_shown(label->name), label->name.data, owner);
    }
    struct imv_shard_series *in_shard = &catalog->shards[shard];
    if (index < in_shard->stored) IMV_TRY(imv_shard_series_remember(in_shard, (uint32_t)index, err));
    imv_status status = add_series(catalog, label, sorted, count, &codes, shard, (uint32_t)index, series, err);
    return status == IMV_CONFLICT ? imv_error_wrap(err, IMV_CORRUPT, "catalog") : status;
}

imv_status imv_catalog_define_series(struct imv_catalog *catalog, uint64_t id, struct imv_label *label,
                                     const struct imv_tag *tags, size_t tags_count, struct imv_series **series,
                                     struct imv_error *err) {
    uint64_t shard = id >> 40, index = id & ((UINT64_C(1) << 40) - 1);
    if (shard >= catalog->shards_count) {
        return imv_fail(err, IMV_CORRUPT, "catalog: series %" PRIu64 "/%" PRIu64 ", but there are %" PRIu32 " shards",
                        shard, index, catalog->shards_count);
    }
    struct imv_tag sorted[IMV_TAGS_MAX];
    if (sort_tags(tags, tags_count, sorted, err) != IMV_OK) return imv_error_wrap(err, IMV_CORRUPT, "catalog");
    imv_catalog_lock(catalog);
    imv_status status =
        define_series(catalog, (uint32_t)shard, index, label, sorted, (uint32_t)tags_count, series, err);
    imv_catalog_unlock(catalog);
    return status;
}

/* ---- removing ---- */

static size_t read_codes(const struct imv_series *series, struct codes *codes) {
    const uint8_t *at = imv_series_tags(series);
    for (uint32_t i = 0; i < series->tags_count; i++) {
        at = imv_series_tags_next(imv_series_tags_next(at, &codes->keys[i]), &codes->values[i]);
    }
    return (size_t)(at - imv_series_tags(series));
}

static void leave_page(struct imv_shard_series *shard, uint32_t index) {
    struct imv_series_page **page = imv_segments_at(&shard->pages, sizeof *page, index / IMV_PAGE_SERIES);
    (*page)->series[index % IMV_PAGE_SERIES] = NULL;
    if (--(*page)->count > 0) return;
    free(*page);
    *page = NULL;
}

static void leave_block(struct imv_label_index *index, uint32_t ordinal) {
    struct imv_series_block *block = &index->blocks[ordinal / IMV_ORDINAL_BLOCK];
    uint32_t low = ordinal % IMV_ORDINAL_BLOCK;
    block->series[low] = NULL;
    block->settled[low / 64] &= ~(UINT64_C(1) << low % 64);
    if (++block->holes < block->used) return;
    /* All of it is free: its ordinals start again from 0, in order. */
    free(block->series);
    free(block->settled);
    *block = (struct imv_series_block){.shard = block->shard};
}

void imv_series_remove(struct imv_catalog *catalog, struct imv_series *series) {
    struct imv_label *label = series->label;
    struct codes codes;
    struct tag_bytes tags;
    uint32_t count = series->tags_count;
    size_t size = read_codes(series, &codes);
    put_codes(&codes, count, &tags);
    imv_assert(size == tags.size);
    imv_code_table_remove(&label->index->series_by_tags, hash_tags(catalog, &tags), series->ordinal);
    leave_sets(label, &codes, count, series->ordinal);
    drop_values(catalog, label, &codes, count);
    leave_page(&catalog->shards[series->shard], series->index);
    leave_block(label->index, series->ordinal);
    imv_catalog_give(catalog, series, sizeof *series + size);
    catalog->series_count--;
    atomic_fetch_sub_explicit(&label->index->series_count, 1, memory_order_relaxed);
    imv_metric_add(IMV_METRIC_series, -1);
}

void imv_catalog_remove(struct imv_catalog *catalog, const struct imv_ended_series *list, size_t count) {
    imv_catalog_lock(catalog);
    for (size_t i = 0; i < count; i++) imv_series_remove(catalog, list[i].series);
    atomic_fetch_add_explicit(&catalog->epoch, 1, memory_order_release);
    imv_catalog_unlock(catalog);
}

void imv_catalog_keep(struct imv_catalog *catalog, const struct imv_ended_series *list, size_t count) {
    imv_catalog_lock(catalog);
    for (size_t i = 0; i < count; i++) {
        struct imv_shard_series *shard = &catalog->shards[list[i].series->shard];
        imv_catalog_give_back(&list[i]);
        /* Without memory to remember it all are written again. */
        if (imv_shard_series_remember(shard, list[i].series->index, NULL) != IMV_OK) shard->stored = 0;
    }
    imv_catalog_unlock(catalog);
}

void imv_catalog_give_back(const struct imv_ended_series *ended) {
    uint32_t taken = 0;
    atomic_compare_exchange_strong(&ended->series->newest_s, &taken, ended->newest_s);
}

uint64_t imv_catalog_epoch(const struct imv_catalog *catalog) {
    return atomic_load_explicit(&catalog->epoch, memory_order_acquire);
}

/* A walk over all series for those that are past their label's horizon. */
struct ended_search {
    int64_t now_ns;
    struct imv_ended_series *list;
    size_t count, capacity, max;
};

static bool has_ended(const struct ended_search *search, const struct imv_series *series, uint32_t newest_s) {
    int64_t retention_ns = atomic_load_explicit(&series->label->retention_ns, memory_order_relaxed), horizon_ns;
    if (retention_ns <= 0 || newest_s == 0 || newest_s == UINT32_MAX) return false;
    if (atomic_load_explicit(&series->visible_at, memory_order_acquire) == 0) return false;
    if (__builtin_sub_overflow(search->now_ns, retention_ns, &horizon_ns)) return false;
    return (int64_t)newest_s * 1000000000 < horizon_ns;
}

static bool search_page(struct ended_search *search, const struct imv_series_page *page) {
    for (uint32_t i = 0; i < IMV_PAGE_SERIES && search->count < search->max; i++) {
        struct imv_series *series = page->series[i];
        if (series == NULL) continue;
        uint32_t newest_s = atomic_load_explicit(&series->newest_s, memory_order_acquire);
        if (!has_ended(search, series, newest_s)) continue;
        if (search->count == search->capacity) {
            size_t capacity = search->capacity == 0 ? 64 : search->capacity * 2;
            struct imv_ended_series *list = realloc(search->list, capacity * sizeof *list);
            if (list == NULL) return false;
            search->list = list;
            search->capacity = capacity;
        }
        search->list[search->count] = (struct imv_ended_series){series, newest_s};
        /* A row that comes meanwhile raises it again. */
        search->count += atomic_compare_exchange_strong(&series->newest_s, &newest_s, 0);
    }
    return true;
}

imv_status imv_catalog_take_ended(struct imv_catalog *catalog, int64_t now_ns, size_t max,
                                  struct imv_ended_series **list, size_t *count, struct imv_error *err) {
    struct ended_search search = {.now_ns = now_ns, .max = max};
    bool done = true;
    for (uint32_t shard = 0; shard < catalog->shards_count; shard++) {
        uint32_t pages = imv_catalog_series_count(catalog, shard) / IMV_PAGE_SERIES + 1;
        for (uint32_t number = 0; number < pages && done; number++) {
            imv_catalog_lock_shared(catalog);
            struct imv_series_page **page = imv_segments_at(&catalog->shards[shard].pages, sizeof *page, number);
            if (page != NULL && *page != NULL) done = search_page(&search, *page);
            imv_catalog_unlock(catalog);
        }
    }
    *list = search.list;
    *count = search.count;
    if (done) return IMV_OK;
    for (size_t i = 0; i < search.count; i++) imv_catalog_give_back(&search.list[i]);
    free(search.list);
    return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to list series that ended");
}

void imv_catalog_note_loaded(struct imv_catalog *catalog, int64_t timestamp) {
    for (uint32_t shard = 0; shard < catalog->shards_count; shard++) {
        for (uint32_t index = 0; index < imv_catalog_series_count(catalog, shard); index++) {
            struct imv_series *series = imv_shard_series_at(&catalog->shards[shard], index);
            if (series == NULL) continue;
            atomic_store_explicit(&series->newest_s, 1, memory_order_relaxed);
            imv_series_note_time(series, timestamp);
        }
    }
}

/* ---- reading ---- */

struct imv_tag imv_series_tag_at(const struct imv_series *series, uint32_t i) {
    imv_assert(i < series->tags_count);
    const uint8_t *at = imv_series_tags(series);
    for (uint32_t skip = 2 * i; skip > 0; at++) skip -= *at < 0x80;
    uint32_t key_code, value_code;
    imv_series_tags_next(imv_series_tags_next(at, &key_code), &value_code);
    const struct imv_tag_key *key = imv_label_key_at(series->label, key_code);
    const struct imv_tag_value *value = imv_tag_value_at(key, value_code);
    return (struct imv_tag){key->name, {value->text, value->set.extra}};
}

bool imv_series_tag(const struct imv_series *series, struct imv_str key, struct imv_str *value) {
    const uint8_t *at = imv_series_tags(series);
    for (uint32_t i = 0; i < series->tags_count; i++) {
        uint32_t key_code, value_code;
        at = imv_series_tags_next(imv_series_tags_next(at, &key_code), &value_code);
        const struct imv_tag_key *in = imv_label_key_at(series->label, key_code);
        if (!imv_str_equal(in->name, key)) continue;
        const struct imv_tag_value *found = imv_tag_value_at(in, value_code);
        *value = (struct imv_str){found->text, found->set.extra};
        return true;
    }
    return false;
}
