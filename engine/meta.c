#include "engine/meta.h"

#include "storage/base/hash.h"

#include <stdlib.h>

enum {
    PART_KEY_BYTES = 1 + IMV_PART_KEY_BYTES,
    PART_VALUE_BYTES = 1 + 4 * 3 + 8 * 7,
    WATERMARK_KEY_BYTES = 1 + 4,
    WATERMARK_VALUE_BYTES = 1 + 8,
    GENERATION_VALUE_BYTES = 1 + 4,
    CLASS_KEY_BYTES = 2,
    CLASS_VALUE_BYTES_MIN = 1 + 8,
    TOMBSTONE_KEY_BYTES = 1 + 4 + 4 + 4 + 8,
    TOMBSTONE_VALUE_BYTES = 1 + 8 + 8 + 4,
    HASH_BYTES = 8,
};

/* ---- loading ---- */

static uint64_t value_hash(struct imv_str key, const void *value, size_t size) {
    return imv_hash64(value, size, imv_hash64(key.data, key.size, 0));
}

static imv_status load_part(const uint8_t *key, const uint8_t *value, struct imv_part *part) {
    imv_part_prefix_parse(key + 1, part);
    part->order = imv_get_u32(value + 1);
    part->label_min = imv_get_u32(value + 5);
    part->label_max = imv_get_u32(value + 9);
    part->series_min = imv_get_u64(value + 13);
    part->series_max = imv_get_u64(value + 21);
    part->time_min = (int64_t)imv_get_u64(value + 29);
    part->time_max = (int64_t)imv_get_u64(value + 37);
    part->rows = imv_get_u64(value + 45);
    part->chunks = imv_get_u64(value + 53);
    part->bytes = imv_get_u64(value + 61);
    bool sound = part->order <= part->generation && part->label_min <= part->label_max &&
                 part->series_min <= part->series_max && part->time_min <= part->time_max &&
                 imv_slot_of(part->time_min) == part->slot && imv_slot_of(part->time_max) == part->slot;
    return sound ? IMV_OK : IMV_CORRUPT;
}

static imv_status load_class(const uint8_t *value, size_t size, struct imv_class *class) {
    size_t count = (size - CLASS_VALUE_BYTES_MIN) / sizeof(uint32_t);
    class->used = true;
    class->retention_ns = (int64_t)imv_get_u64(value + 1);
    class->labels = malloc(count * sizeof(uint32_t) + 1);
    if (class->labels == NULL) return IMV_NO_MEMORY;
    class->labels_count = class->labels_capacity = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        class->labels[i] = imv_get_u32(value + CLASS_VALUE_BYTES_MIN + i * sizeof(uint32_t));
        if (i > 0 && class->labels[i] <= class->labels[i - 1]) return IMV_CORRUPT;
    }
    return IMV_OK;
}

/* Parts are collected here until all are known. */
struct loading {
    struct imv_meta *meta;
    struct imv_part **parts;
    size_t count, capacity;
    /* The tombstones of one shard, until those of the next come. */
    uint32_t shard;
    struct imv_tombstone *tombstones;
    size_t tombstones_count, tombstones_capacity;
};

/* Records come in order of key, so the parts of a group come one after the other. */
static struct imv_part *sibling(const struct loading *loading, const struct imv_part *prefix) {
    if (loading->count == 0) return NULL;
    struct imv_part *before = loading->parts[loading->count - 1];
    bool same =
        before->tier == prefix->tier && before->class == prefix->class && before->generation == prefix->generation;
    return same ? before : NULL;
}

static imv_status load_one_part(struct loading *loading, const uint8_t *key, const uint8_t *value) {
    if (loading->count == loading->capacity) {
        size_t capacity = loading->capacity == 0 ? 64 : loading->capacity * 2;
        struct imv_part **parts = realloc(loading->parts, capacity * sizeof *parts);
        if (parts == NULL) return IMV_NO_MEMORY;
        loading->parts = parts;
        loading->capacity = capacity;
    }
    struct imv_part prefix;
    imv_part_prefix_parse(key + 1, &prefix);
    if (prefix.tier >= IMV_TIERS) return IMV_CORRUPT;
    struct imv_part *part = imv_part_new(prefix.tier, sibling(loading, &prefix));
    if (part == NULL) return IMV_NO_MEMORY;
    loading->parts[loading->count++] = part;
    return load_part(key, value, part);
}

/* Makes the list of the shard whose tombstones are collected. */
static imv_status load_list(struct loading *loading) {
    struct imv_deletions **list = &loading->meta->deletions[loading->shard];
    size_t count = loading->tombstones_count;
    loading->tombstones_count = 0;
    if (count == 0) return IMV_OK;
    return imv_deletions_new(loading->tombstones, count, list, NULL);
}

static imv_status load_tombstone(struct loading *loading, const uint8_t *key, const uint8_t *value) {
    uint32_t shard = imv_get_be32(key + 1);
    if (shard >= IMV_SHARDS_MAX) return IMV_CORRUPT;
    if (shard != loading->shard) IMV_TRY(load_list(loading));
    loading->shard = shard;
    if (loading->tombstones_count == loading->tombstones_capacity) {
        size_t capacity = loading->tombstones_capacity == 0 ? 64 : loading->tombstones_capacity * 2;
        struct imv_tombstone *grown = realloc(loading->tombstones, capacity * sizeof *grown);
        if (grown == NULL) return IMV_NO_MEMORY;
        loading->tombstones = grown;
        loading->tombstones_capacity = capacity;
    }
    struct imv_tombstone *tombstone = &loading->tombstones[loading->tombstones_count++];
    *tombstone = (struct imv_tombstone){
        .label = imv_get_be32(key + 5),
        .series = imv_get_be32(key + 9),
        .position = imv_get_be64(key + 13),
        .from = (int64_t)imv_get_u64(value + 1),
        .last = (int64_t)imv_get_u64(value + 9),
        .generation = imv_get_u32(value + 17),
        .recorded = true,
    };
    bool sound = tombstone->from <= tombstone->last && tombstone->generation <= loading->meta->generation &&
                 tombstone->position <= loading->meta->watermarks[shard];
    return sound ? IMV_OK : IMV_CORRUPT;
}

/* One record whose checksum and version are right; size leaves the checksum out. */
static imv_status load_value(struct loading *loading, struct imv_str key, const uint8_t *value, size_t size) {
    const uint8_t *bytes = (const uint8_t *)key.data;
    struct imv_meta *meta = loading->meta;
    if (bytes[0] == 'P' && key.size == PART_KEY_BYTES && size == PART_VALUE_BYTES) {
        return load_one_part(loading, bytes, value);
    }
    if (bytes[0] == 'W' && key.size == WATERMARK_KEY_BYTES && size == WATERMARK_VALUE_BYTES) {
        uint32_t shard = imv_get_be32(bytes + 1);
        if (shard >= IMV_SHARDS_MAX) return IMV_CORRUPT;
        meta->watermarks[shard] = imv_get_u64(value + 1);
        return IMV_OK;
    }
    if (bytes[0] == 'G' && key.size == 1 && size == GENERATION_VALUE_BYTES) {
        meta->generation = imv_get_u32(value + 1);
        return IMV_OK;
    }
    if (bytes[0] == 'D' && key.size == TOMBSTONE_KEY_BYTES && size == TOMBSTONE_VALUE_BYTES) {
        return load_tombstone(loading, bytes, value);
    }
    bool whole = size >= CLASS_VALUE_BYTES_MIN && (size - CLASS_VALUE_BYTES_MIN) % sizeof(uint32_t) == 0;
    if (bytes[0] == 'C' && key.size == CLASS_KEY_BYTES && whole)
        return load_class(value, size, &meta->classes[bytes[1]]);
    return IMV_CORRUPT;
}

static imv_status load_record(struct loading *loading, struct imv_str key, struct imv_str value,
                              struct imv_error *err) {
    const uint8_t *bytes = (const uint8_t *)value.data;
    size_t size = value.size - HASH_BYTES;
    imv_status status = IMV_CORRUPT;
    if (value.size <= HASH_BYTES || value_hash(key, bytes, size) != imv_get_u64(bytes + size)) {
        return imv_fail(err, IMV_CORRUPT, "meta: bad checksum of record %c of %zu bytes", key.data[0], value.size);
    }
    if (bytes[0] != IMV_META_VERSION) {
        return imv_fail(err, IMV_UNSUPPORTED, "meta: record %c has version %u, want %d", key.data[0], bytes[0],
                        IMV_META_VERSION);
    }
    status = load_value(loading, key, bytes, size);
    if (status == IMV_NO_MEMORY) return imv_fail(err, status, "meta: no memory to load");
    if (status != IMV_OK) imv_fail(err, status, "meta: record %c of %zu bytes is damaged", key.data[0], value.size);
    return status;
}

static imv_status load_kind(struct loading *loading, struct imv_kv_iterator *iterator, char kind,
                            struct imv_error *err) {
    struct imv_str key, value;
    imv_kv_seek(iterator, (struct imv_str){&kind, 1});
    while (imv_kv_valid(iterator, &key, &value) && key.data[0] == kind) {
        IMV_TRY(load_record(loading, key, value, err));
        imv_kv_next(iterator);
    }
    return imv_kv_status(iterator, err);
}

imv_status imv_meta_load(struct imv_kv *kv, struct imv_meta *meta, struct imv_error *err) {
    *meta = (struct imv_meta){.classes[0] = {.used = true}};
    struct loading loading = {.meta = meta};
    struct imv_kv_iterator *iterator = NULL;
    imv_status status = imv_kv_iterate(kv, IMV_KV_META, &iterator, err);
    for (const char *kind = "PWGCD"; *kind != '\0' && status == IMV_OK; kind++) {
        status = load_kind(&loading, iterator, *kind, err);
    }
    if (status == IMV_OK && load_list(&loading) != IMV_OK) {
        status = imv_fail(err, IMV_NO_MEMORY, "meta: no memory to load");
    }
    if (status == IMV_OK) status = imv_parts_new(NULL, loading.parts, loading.count, &meta->parts, err);
    if (status != IMV_OK) {
        for (size_t i = 0; i < loading.count; i++) imv_part_free(loading.parts[i]);
        imv_meta_release(meta, kv);
    }
    free(loading.parts);
    free(loading.tombstones);
    imv_kv_iterator_free(iterator);
    return status;
}

void imv_meta_release(struct imv_meta *meta, struct imv_kv *kv) {
    for (size_t i = 0; i < IMV_CLASSES_MAX; i++) free(meta->classes[i].labels);
    for (size_t i = 0; i < IMV_SHARDS_MAX; i++) imv_deletions_release(meta->deletions[i]);
    imv_parts_release(meta->parts, kv);
    *meta = (struct imv_meta){0};
}

/* ---- changing ---- */

void imv_meta_batch_init(struct imv_meta_batch *batch) {
    *batch = (struct imv_meta_batch){0};
    imv_arena_init(&batch->arena, 4096, NULL);
}

void imv_meta_batch_release(struct imv_meta_batch *batch) {
    free(batch->changes);
    imv_arena_release(&batch->arena);
}

static struct imv_kv_change *change_new(struct imv_meta_batch *batch) {
    if (batch->count == batch->capacity) {
        size_t capacity = batch->capacity == 0 ? 16 : batch->capacity * 2;
        struct imv_kv_change *changes = realloc(batch->changes, capacity * sizeof *changes);
        if (changes == NULL) return NULL;
        batch->changes = changes;
        batch->capacity = capacity;
    }
    struct imv_kv_change *change = &batch->changes[batch->count++];
    *change = (struct imv_kv_change){.family = IMV_KV_META};
    return change;
}

/* Adds a record; returns where its value of size bytes goes (sealed later by seal), or NULL with `failed` set. */
static uint8_t *record_new(struct imv_meta_batch *batch, const void *key, size_t key_size, size_t size) {
    struct imv_kv_change *change = change_new(batch);
    struct imv_str copy = imv_arena_copy(&batch->arena, (struct imv_str){key, key_size});
    uint8_t *value = imv_arena_alloc(&batch->arena, size + HASH_BYTES);
    if (change == NULL || copy.data == NULL || value == NULL) {
        batch->failed = true;
        return NULL;
    }
    change->key = copy;
    change->value = (struct imv_str){(char *)value, size + HASH_BYTES};
    value[0] = IMV_META_VERSION;
    return value;
}

/* Puts the checksum behind the newest record. */
static void seal(struct imv_meta_batch *batch) {
    const struct imv_kv_change *change = &batch->changes[batch->count - 1];
    size_t size = change->value.size - HASH_BYTES;
    uint8_t *value = (uint8_t *)change->value.data;
    imv_put_u64(value + size, value_hash(change->key, value, size));
}

static void part_key(uint8_t key[PART_KEY_BYTES], const struct imv_part *part) {
    key[0] = 'P';
    imv_part_prefix_put(key + 1, part);
}

void imv_meta_put_part(struct imv_meta_batch *batch, const struct imv_part *part) {
    uint8_t key[PART_KEY_BYTES];
    part_key(key, part);
    uint8_t *value = record_new(batch, key, sizeof key, PART_VALUE_BYTES);
    if (value == NULL) return;
    imv_put_u32(value + 1, part->order);
    imv_put_u32(value + 5, part->label_min);
    imv_put_u32(value + 9, part->label_max);
    imv_put_u64(value + 13, part->series_min);
    imv_put_u64(value + 21, part->series_max);
    imv_put_u64(value + 29, (uint64_t)part->time_min);
    imv_put_u64(value + 37, (uint64_t)part->time_max);
    imv_put_u64(value + 45, part->rows);
    imv_put_u64(value + 53, part->chunks);
    imv_put_u64(value + 61, part->bytes);
    seal(batch);
}

static void record_delete(struct imv_meta_batch *batch, const void *key, size_t key_size) {
    struct imv_kv_change *change = change_new(batch);
    struct imv_str copy = imv_arena_copy(&batch->arena, (struct imv_str){key, key_size});
    if (change == NULL || copy.data == NULL) {
        batch->failed = true;
        return;
    }
    change->key = copy;
}

void imv_meta_delete_part(struct imv_meta_batch *batch, const struct imv_part *part) {
    uint8_t key[PART_KEY_BYTES];
    part_key(key, part);
    record_delete(batch, key, sizeof key);
}

static void tombstone_key(uint8_t key[TOMBSTONE_KEY_BYTES], uint32_t shard, const struct imv_tombstone *tombstone) {
    key[0] = 'D';
    imv_put_be32(key + 1, shard);
    imv_put_be32(key + 5, tombstone->label);
    imv_put_be32(key + 9, tombstone->series);
    imv_put_be64(key + 13, tombstone->position);
}

void imv_meta_put_tombstone(struct imv_meta_batch *batch, uint32_t shard, const struct imv_tombstone *tombstone) {
    uint8_t key[TOMBSTONE_KEY_BYTES];
    tombstone_key(key, shard, tombstone);
    uint8_t *value = record_new(batch, key, sizeof key, TOMBSTONE_VALUE_BYTES);
    if (value == NULL) return;
    imv_put_u64(value + 1, (uint64_t)tombstone->from);
    imv_put_u64(value + 9, (uint64_t)tombstone->last);
    imv_put_u32(value + 17, tombstone->generation);
    seal(batch);
}

void imv_meta_delete_tombstone(struct imv_meta_batch *batch, uint32_t shard, const struct imv_tombstone *tombstone) {
    uint8_t key[TOMBSTONE_KEY_BYTES];
    tombstone_key(key, shard, tombstone);
    record_delete(batch, key, sizeof key);
}

void imv_meta_put_watermark(struct imv_meta_batch *batch, uint32_t shard, uint64_t position) {
    uint8_t key[WATERMARK_KEY_BYTES] = {'W'};
    imv_put_be32(key + 1, shard);
    uint8_t *value = record_new(batch, key, sizeof key, WATERMARK_VALUE_BYTES);
    if (value == NULL) return;
    imv_put_u64(value + 1, position);
    seal(batch);
}

void imv_meta_put_generation(struct imv_meta_batch *batch, uint32_t generation) {
    uint8_t *value = record_new(batch, "G", 1, GENERATION_VALUE_BYTES);
    if (value == NULL) return;
    imv_put_u32(value + 1, generation);
    seal(batch);
}

void imv_meta_put_class(struct imv_meta_batch *batch, uint8_t class, const struct imv_class *content) {
    uint8_t key[CLASS_KEY_BYTES] = {'C', class};
    size_t size = CLASS_VALUE_BYTES_MIN + content->labels_count * sizeof(uint32_t);
    uint8_t *value = record_new(batch, key, sizeof key, size);
    if (value == NULL) return;
    imv_put_u64(value + 1, (uint64_t)content->retention_ns);
    for (uint32_t i = 0; i < content->labels_count; i++) {
        imv_put_u32(value + CLASS_VALUE_BYTES_MIN + i * sizeof(uint32_t), content->labels[i]);
    }
    seal(batch);
}

imv_status imv_meta_write(struct imv_meta_batch *batch, struct imv_kv *kv, struct imv_error *err) {
    if (batch->failed) return imv_fail(err, IMV_NO_MEMORY, "meta: no memory for a batch of changes");
    return imv_kv_write(kv, batch->changes, batch->count, err);
}

/* ---- classes ---- */

/* The class with exactly this retention, else a free one, else the one with the next longer retention. */
static uint8_t class_choose(struct imv_meta *meta, int64_t retention_ns) {
    int empty = 0, longer = 0;
    for (int i = IMV_CLASSES_MAX - 1; i > 0; i--) {
        const struct imv_class *class = &meta->classes[i];
        if (class->used && class->retention_ns == retention_ns) return (uint8_t)i;
        if (!class->used) empty = i;
        bool is_longer = class->used && class->retention_ns > retention_ns;
        if (is_longer && (longer == 0 || class->retention_ns < meta->classes[longer].retention_ns)) longer = i;
    }
    if (empty == 0) return (uint8_t)longer;
    meta->classes[empty].used = meta->classes[empty].changed = true;
    meta->classes[empty].retention_ns = retention_ns;
    return (uint8_t)empty;
}

static imv_status class_add_label(struct imv_class *class, uint32_t label, struct imv_error *err) {
    uint32_t at = class->labels_count;
    while (at > 0 && class->labels[at - 1] >= label) at--;
    if (at < class->labels_count && class->labels[at] == label) return IMV_OK;
    if (class->labels_count == class->labels_capacity) {
        uint32_t capacity = class->labels_capacity * 2 + 8;
        uint32_t *labels = realloc(class->labels, capacity * sizeof *labels);
        if (labels == NULL) return imv_fail(err, IMV_NO_MEMORY, "meta: no memory for the labels of a class");
        class->labels = labels;
        class->labels_capacity = capacity;
    }
    memmove(class->labels + at + 1, class->labels + at, (class->labels_count - at) * sizeof *class->labels);
    class->labels[at] = label;
    class->labels_count++;
    class->changed = true;
    return IMV_OK;
}

imv_status imv_meta_class(struct imv_meta *meta, uint32_t label, int64_t retention_ns, uint8_t *class,
                          struct imv_error *err) {
    *class = retention_ns <= 0 ? 0 : class_choose(meta, retention_ns);
    return class_add_label(&meta->classes[*class], label, err);
}
