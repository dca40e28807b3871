#include "engine/catalog_internal.h"

#include "storage/base/assert.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- tag values ---- */

static struct imv_tag_value *value_at(const struct imv_tag_key *key, uint32_t code) {
    return imv_segments_at(&key->values, sizeof(struct imv_tag_value), code);
}

struct value_probe {
    const struct imv_tag_key *key;
    struct imv_str text;
};

static bool value_has_text(const void *context, uint32_t code) {
    const struct value_probe *probe = context;
    const struct imv_tag_value *value = value_at(probe->key, code);
    return value->size == probe->text.size && memcmp(value->text, probe->text.data, probe->text.size) == 0;
}

uint32_t imv_tag_key_find_value(const struct imv_catalog *catalog, const struct imv_tag_key *key, struct imv_str text) {
    struct value_probe probe = {key, text};
    return imv_code_table_find(&key->values_by_text, imv_catalog_hash(catalog, text.data, text.size), value_has_text,
                               &probe);
}

static imv_status intern_value(struct imv_catalog *catalog, struct imv_tag_key *key, struct imv_str text,
                               uint32_t *code, struct imv_error *err) {
    *code = imv_tag_key_find_value(catalog, key, text);
    if (*code != IMV_CODE_NONE) return IMV_OK;
    if (key->values_count == IMV_CODE_NONE ||
        !imv_segments_reserve(&key->values, sizeof(struct imv_tag_value), key->values_count) ||
        !imv_code_table_reserve(&key->values_by_text)) {
        goto no_memory;
    }
    struct imv_str copy = imv_catalog_text(catalog, text);
    if (copy.data == NULL) goto no_memory;
    *code = key->values_count++;
    struct imv_tag_value *value = value_at(key, *code);
    *value = (struct imv_tag_value){.text = copy.data, .size = (uint16_t)copy.size};
    imv_code_table_insert(&key->values_by_text, imv_catalog_hash(catalog, text.data, text.size), *code);
    return IMV_OK;
no_memory:
    return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for tag value \"%.*s\"", imv_shown(text), text.data);
}

void imv_tag_key_release(struct imv_tag_key *key) {
    for (uint32_t code = 0; code < key->values_count; code++) {
        struct imv_tag_value *value = value_at(key, code);
        if (value->capacity_log > 0) free(value->series.many);
    }
    imv_segments_release(&key->values);
    imv_code_table_release(&key->values_by_text);
}

/* Makes room for one more series in the list of a value. */
static bool reserve_posting(struct imv_tag_value *value) {
    bool inlined = value->capacity_log == 0;
    uint32_t capacity = inlined ? 1 : UINT32_C(1) << value->capacity_log;
    if (value->series_count < capacity) return true;
    uint8_t log = inlined ? 2 : (uint8_t)(value->capacity_log + 1);
    if (log >= 32) return false;
    uint32_t *many = realloc(inlined ? NULL : value->series.many, sizeof *many << log);
    if (many == NULL) return false;
    if (inlined) many[0] = value->series.one;
    value->series.many = many;
    value->capacity_log = log;
    return true;
}

static void add_posting(struct imv_tag_value *value, uint32_t ordinal) {
    uint32_t *list = value->capacity_log == 0 ? &value->series.one : value->series.many;
    list[value->series_count++] = ordinal;
}

/* ---- series ---- */

static struct imv_series *series_at(const struct imv_label_index *index, uint32_t ordinal) {
    struct imv_series **slot = imv_segments_at(&index->series, sizeof *slot, ordinal);
    return *slot;
}

struct series_probe {
    const struct imv_label_index *index;
    const uint32_t *tags;
    uint32_t tags_count;
};

static bool series_has_tags(const void *context, uint32_t ordinal) {
    const struct series_probe *probe = context;
    const struct imv_series *series = series_at(probe->index, ordinal);
    return series->tags_count == probe->tags_count &&
           memcmp(series->tags, probe->tags, 2 * sizeof series->tags[0] * probe->tags_count) == 0;
}

static uint32_t hash_tags(const struct imv_catalog *catalog, const uint32_t *tags, uint32_t tags_count) {
    return imv_catalog_hash(catalog, tags, 2 * sizeof tags[0] * tags_count);
}

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

/* The series with these sorted tags, or NULL. The lock is held. */
static struct imv_series *find_series(const struct imv_catalog *catalog, const struct imv_label *label,
                                      const struct imv_tag *sorted, uint32_t count) {
    uint32_t tags[2 * IMV_TAGS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        const struct imv_tag_key *key = imv_label_find_key(catalog, label, sorted[i].key, &tags[2 * i]);
        if (key == NULL) return NULL;
        tags[2 * i + 1] = imv_tag_key_find_value(catalog, key, sorted[i].value);
        if (tags[2 * i + 1] == IMV_CODE_NONE) return NULL;
    }
    struct series_probe probe = {label->index, tags, count};
    uint32_t ordinal =
        imv_code_table_find(&label->index->series_by_tags, hash_tags(catalog, tags, count), series_has_tags, &probe);
    return ordinal == IMV_CODE_NONE ? NULL : series_at(label->index, ordinal);
}

static uint8_t *put_key_part(uint8_t *to, struct imv_str text) {
    imv_put_u32(to, (uint32_t)text.size);
    if (text.size > 0) memcpy(to + 4, text.data, text.size);
    return to + 4 + text.size;
}

/* The shard that owns a series: the hash of its canonical key. The key (label, then the sorted tags, each text behind its
 * 32-bit length), the hash and its seed must never change: stored series would change owners. */
static uint32_t owner_of(struct imv_catalog *catalog, const struct imv_label *label, const struct imv_tag *sorted,
                         uint32_t count) {
    enum { OWNER_SEED = 0 };
    uint8_t *end = put_key_part(catalog->key_scratch, label->name);
    for (uint32_t i = 0; i < count; i++) end = put_key_part(put_key_part(end, sorted[i].key), sorted[i].value);
    size_t size = (size_t)(end - catalog->key_scratch);
    imv_assert(size <= IMV_KEY_BYTES_MAX);
    return (uint32_t)(imv_hash64(catalog->key_scratch, size, OWNER_SEED) % catalog->shards_count);
}

static imv_status intern_tags(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *sorted,
                              uint32_t count, uint32_t *tags, struct imv_error *err) {
    for (uint32_t i = 0; i < count; i++) {
        IMV_TRY(imv_label_key(catalog, label, sorted[i].key, &tags[2 * i], err));
        struct imv_tag_key *key = imv_label_key_at(label, tags[2 * i]);
        IMV_TRY(intern_value(catalog, key, sorted[i].value, &tags[2 * i + 1], err));
    }
    return IMV_OK;
}

static struct imv_tag_value *tag_value(const struct imv_label *label, const uint32_t *pair) {
    return value_at(imv_label_key_at(label, pair[0]), pair[1]);
}

static bool reserve_postings(const struct imv_label *label, const uint32_t *tags, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (!reserve_posting(tag_value(label, &tags[2 * i]))) return false;
    }
    return true;
}

/* Makes the series with these sorted tags at (shard, index), which is free. The lock is held for writing. All that can
 * fail comes before the first change that a reader could see. */
static imv_status add_series(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *sorted,
                             uint32_t count, uint32_t shard, uint32_t index, struct imv_series **series,
                             struct imv_error *err) {
    uint32_t tags[2 * IMV_TAGS_MAX];
    IMV_TRY(intern_tags(catalog, label, sorted, count, tags, err));
    struct imv_label_index *in_label = label->index;
    struct imv_shard_series *in_shard = &catalog->shards[shard];
    size_t tags_bytes = 2 * sizeof tags[0] * count;
    struct imv_series *made = imv_arena_calloc(&catalog->arena, 1, sizeof *made + tags_bytes);
    if (made == NULL || !reserve_postings(label, tags, count) ||
        !imv_segments_reserve(&in_label->series, sizeof made, in_label->series_count) ||
        !imv_segments_reserve(&in_shard->slots, sizeof made, index) ||
        !imv_code_table_reserve(&in_label->series_by_tags)) {
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for a series of \"%.*s\"", imv_shown(label->name),
                        label->name.data);
    }
    uint32_t *own_tags = (uint32_t *)(made + 1);
    memcpy(own_tags, tags, tags_bytes);
    *made = (struct imv_series){.label = label, .shard = shard, .index = index, .tags_count = count, .tags = own_tags};

    uint32_t ordinal = in_label->series_count++;
    struct imv_series **by_ordinal = imv_segments_at(&in_label->series, sizeof *by_ordinal, ordinal);
    *by_ordinal = made;
    imv_code_table_insert(&in_label->series_by_tags, hash_tags(catalog, tags, count), ordinal);
    for (uint32_t i = 0; i < count; i++) add_posting(tag_value(label, &tags[2 * i]), ordinal);
    _Atomic(struct imv_series *) *slot = imv_segments_at(&in_shard->slots, sizeof *slot, index);
    atomic_store_explicit(slot, made, memory_order_release);
    if (index >= atomic_load_explicit(&in_shard->count, memory_order_relaxed)) {
        atomic_store_explicit(&in_shard->count, index + 1, memory_order_release);
    }
    catalog->series_count++;
    imv_metric_add(IMV_METRIC_series, 1);
    *series = made;
    return IMV_OK;
}

static imv_status make_series(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *sorted,
                              uint32_t count, struct imv_series **series, struct imv_error *err) {
    uint64_t series_max = atomic_load_explicit(&catalog->series_max, memory_order_relaxed);
    if (catalog->series_count >= series_max) {
        return imv_fail(err, IMV_FULL, "a new series of \"%.*s\" would be more than the limit of %" PRIu64,
                        imv_shown(label->name), label->name.data, series_max);
    }
    IMV_TRY(imv_catalog_check_bytes(catalog, err));
    uint32_t shard = owner_of(catalog, label, sorted, count);
    uint32_t index = imv_catalog_series_count(catalog, shard);
    if (index == UINT32_MAX) return imv_fail(err, IMV_FULL, "catalog: shard %" PRIu32 " has 2^32 series", shard);
    return add_series(catalog, label, sorted, count, shard, index, series, err);
}

imv_status imv_catalog_series(struct imv_catalog *catalog, struct imv_label *label, const struct imv_tag *tags,
                              size_t tags_count, struct imv_series **series, struct imv_error *err) {
    struct imv_tag sorted[IMV_TAGS_MAX];
    IMV_TRY(sort_tags(tags, tags_count, sorted, err));
    uint32_t count = (uint32_t)tags_count;
    pthread_rwlock_rdlock(&catalog->lock);
    *series = find_series(catalog, label, sorted, count);
    pthread_rwlock_unlock(&catalog->lock);
    if (*series != NULL) return IMV_OK;

    imv_status status = IMV_OK;
    pthread_rwlock_wrlock(&catalog->lock);
    *series = find_series(catalog, label, sorted, count);
    if (*series == NULL) status = make_series(catalog, label, sorted, count, series, err);
    pthread_rwlock_unlock(&catalog->lock);
    return status;
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
    *series = find_series(catalog, label, sorted, count);
    if (*series != NULL && imv_series_id(*series) == id) return IMV_OK;
    if (*series != NULL || imv_catalog_series_by_id(catalog, id) != NULL) {
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
    imv_status status = add_series(catalog, label, sorted, count, shard, (uint32_t)index, series, err);
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
    pthread_rwlock_wrlock(&catalog->lock);
    imv_status status =
        define_series(catalog, (uint32_t)shard, index, label, sorted, (uint32_t)tags_count, series, err);
    pthread_rwlock_unlock(&catalog->lock);
    return status;
}

struct imv_tag imv_series_tag_at(const struct imv_series *series, uint32_t i) {
    imv_assert(i < series->tags_count);
    const uint32_t *pair = &series->tags[2 * i];
    const struct imv_tag_key *key = imv_label_key_at(series->label, pair[0]);
    const struct imv_tag_value *value = value_at(key, pair[1]);
    return (struct imv_tag){key->name, {value->text, value->size}};
}

bool imv_series_tag(const struct imv_series *series, struct imv_str key, struct imv_str *value) {
    for (uint32_t i = 0; i < series->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(series, i);
        if (!imv_str_equal(tag.key, key)) continue;
        *value = tag.value;
        return true;
    }
    return false;
}

/* ---- selection ---- */

/* A condition with its names resolved: tag key `key` has one of the sorted `codes`. */
struct filter {
    struct imv_tag_key *in;
    uint32_t key;
    uint32_t *codes;
    size_t codes_count;
    uint64_t series_count; /* that meet it */
};

static int compare_codes(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Resolves a condition; nothing meets it when filter->series_count is 0. The lock is held. */
static bool resolve(const struct imv_catalog *catalog, const struct imv_label *label,
                    const struct imv_tag_condition *condition, struct imv_arena *arena, struct filter *filter) {
    *filter = (struct filter){0};
    filter->in = imv_label_find_key(catalog, label, condition->key, &filter->key);
    if (filter->in == NULL) return true;
    filter->codes = imv_arena_calloc(arena, condition->values_count, sizeof filter->codes[0]);
    if (filter->codes == NULL) return false;
    size_t found = 0;
    for (size_t i = 0; i < condition->values_count; i++) {
        uint32_t code = imv_tag_key_find_value(catalog, filter->in, condition->values[i]);
        if (code != IMV_CODE_NONE) filter->codes[found++] = code;
    }
    qsort(filter->codes, found, sizeof filter->codes[0], compare_codes);
    for (size_t i = 0; i < found; i++) {
        if (i > 0 && filter->codes[i] == filter->codes[i - 1]) continue;
        filter->codes[filter->codes_count++] = filter->codes[i];
        filter->series_count += value_at(filter->in, filter->codes[i])->series_count;
    }
    return true;
}

static bool passes(const struct imv_series *series, const struct filter *filter) {
    for (uint32_t i = 0; i < series->tags_count; i++) {
        if (series->tags[2 * i] != filter->key) continue;
        uint32_t code = series->tags[2 * i + 1];
        if (filter->codes_count == 1) return filter->codes[0] == code;
        return bsearch(&code, filter->codes, filter->codes_count, sizeof code, compare_codes) != NULL;
    }
    return false;
}

/* The ordinals of all series that meet the filter (of all of the label without one). The lock is held. */
static bool candidates(const struct imv_label_index *index, const struct filter *filter, uint32_t **ordinals,
                       size_t *count) {
    *count = filter == NULL ? index->series_count : (size_t)filter->series_count;
    *ordinals = malloc(*count * sizeof **ordinals + 1);
    if (*ordinals == NULL) return false;
    uint32_t *to = *ordinals;
    if (filter == NULL) {
        for (uint32_t i = 0; i < index->series_count; i++) *to++ = i;
        return true;
    }
    for (size_t i = 0; i < filter->codes_count; i++) {
        const struct imv_tag_value *value = value_at(filter->in, filter->codes[i]);
        const uint32_t *list = value->capacity_log == 0 ? &value->series.one : value->series.many;
        memcpy(to, list, value->series_count * sizeof *list);
        to += value->series_count;
    }
    return true;
}

static bool is_visible(const struct imv_series *series, const uint64_t *sequences) {
    uint64_t visible_at = atomic_load_explicit(&series->visible_at, memory_order_acquire);
    if (visible_at <= IMV_SEQUENCE_LOADED || sequences == NULL) return visible_at != 0;
    return visible_at <= sequences[series->shard];
}

static int compare_series(const void *a, const void *b) {
    uint64_t left = imv_series_id(*(struct imv_series *const *)a),
             right = imv_series_id(*(struct imv_series *const *)b);
    return (left > right) - (left < right);
}

/* Puts series into order of id. Within a shard ordinals mostly follow the index, so a pass that separates the shards
 * mostly does it; sorting a million by comparison would take a hundred times as long. */
static bool order_by_id(struct imv_series **series, size_t count, uint32_t shards_count) {
    size_t starts[IMV_SHARDS_MAX + 1] = {0};
    for (size_t i = 0; i < count; i++) starts[series[i]->shard + 1]++;
    for (uint32_t shard = 0; shard < shards_count; shard++) starts[shard + 1] += starts[shard];
    struct imv_series **by_shard = malloc(count * sizeof *by_shard + 1);
    if (by_shard == NULL) return false;
    for (size_t i = 0; i < count; i++) by_shard[starts[series[i]->shard]++] = series[i];
    if (count > 0) memcpy(series, by_shard, count * sizeof *series);
    free(by_shard);
    for (size_t i = 1; i < count; i++) {
        if (imv_series_id(series[i - 1]) < imv_series_id(series[i])) continue;
        qsort(series, count, sizeof *series, compare_series);
        break;
    }
    return true;
}

/* Keeps of the candidates those that are visible and pass every filter, in order of id. No lock: series do not change. */
static bool keep(const struct imv_catalog *catalog, const struct imv_label *label, const struct filter *filters,
                 size_t filters_count, const uint64_t *sequences, const uint32_t *ordinals, size_t ordinals_count,
                 struct imv_series ***series, size_t *count) {
    *series = malloc(ordinals_count * sizeof **series + 1);
    if (*series == NULL) return false;
    size_t kept = 0;
    for (size_t i = 0; i < ordinals_count; i++) {
        struct imv_series *one = series_at(label->index, ordinals[i]);
        bool pass = is_visible(one, sequences);
        for (size_t f = 0; pass && f < filters_count; f++) pass = passes(one, &filters[f]);
        if (pass) (*series)[kept++] = one;
    }
    *count = kept;
    if (order_by_id(*series, kept, catalog->shards_count)) return true;
    free(*series);
    return false;
}

/* Resolves all conditions and copies the candidates that the narrowest leaves; what takes long happens without the
 * lock. */
static bool narrow(struct imv_catalog *catalog, const struct imv_label *label,
                   const struct imv_tag_condition *conditions, size_t conditions_count, struct imv_arena *arena,
                   struct filter *filters, uint32_t **ordinals, size_t *ordinals_count) {
    pthread_rwlock_rdlock(&catalog->lock);
    bool done = true;
    const struct filter *narrowest = NULL;
    for (size_t i = 0; done && i < conditions_count; i++) {
        done = resolve(catalog, label, &conditions[i], arena, &filters[i]);
        if (narrowest == NULL || filters[i].series_count < narrowest->series_count) narrowest = &filters[i];
    }
    if (done) done = candidates(label->index, narrowest, ordinals, ordinals_count);
    pthread_rwlock_unlock(&catalog->lock);
    return done;
}

imv_status imv_catalog_select(struct imv_catalog *catalog, struct imv_label *label,
                              const struct imv_tag_condition *conditions, size_t conditions_count,
                              const uint64_t *sequences, struct imv_series ***series, size_t *count,
                              struct imv_error *err) {
    enum { SCRATCH_BYTES = 4096 };
    struct imv_arena arena;
    imv_arena_init(&arena, SCRATCH_BYTES, NULL);
    uint32_t *ordinals = NULL;
    size_t ordinals_count = 0;
    struct filter *filters = imv_arena_calloc(&arena, conditions_count, sizeof *filters);
    bool done = filters != NULL &&
                narrow(catalog, label, conditions, conditions_count, &arena, filters, &ordinals, &ordinals_count) &&
                keep(catalog, label, filters, conditions_count, sequences, ordinals, ordinals_count, series, count);
    free(ordinals);
    imv_arena_release(&arena);
    if (done) return IMV_OK;
    return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to select series of \"%.*s\"", imv_shown(label->name),
                    label->name.data);
}
