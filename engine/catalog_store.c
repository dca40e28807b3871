/* catalog_store.c - the catalog in the `meta` family: a record for each label, field, series and shard.
 *
 *     key:  'L' | label id 4                     value:  check 4 | retention ns (varint) | name
 *           'F' | label id 4 | field id 4                check 4 | type 1 | name
 *           'S' | series id 8                            check 4 | label id (varint) | tags (see series_code.h)
 *           'N' | shard 4                                check 4 | index 4: series with lower ones may have been removed
 *
 * Ids in keys are big-endian; a name goes to the end of its value. check is the low half of XXH3-64 over what follows
 * it, seeded by XXH3-64 of the key: RocksDB checks its blocks by itself, this finds a value under a wrong key and
 * whatever happened above RocksDB.
 *
 * A record is written once; only a label's is replaced, when its retention changes. Writes are idempotent, so a persist
 * that fails half-way is simply done again.
 */
#include "engine/catalog_internal.h"
#include "engine/series_code.h"

#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/kv.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    CHECK_BYTES = 4,
    KEY_BYTES_MAX = 9,
    /* Of one write: mostly ~1.5 MB, a few milliseconds of RocksDB's write thread. */
    CHANGES_MAX = 8192,
    CHANGES_BYTES_MAX = 8 << 20,
    SERIES_VALUE_BYTES_MAX = CHECK_BYTES + IMV_VARINT_BYTES_MAX + IMV_SERIES_CODE_BYTES_MAX,
};

struct key {
    uint8_t bytes[KEY_BYTES_MAX];
    size_t size;
};

static struct key label_key(uint32_t label) {
    struct key key = {.bytes = {'L'}, .size = 5};
    imv_put_be32(key.bytes + 1, label);
    return key;
}

static struct key field_key(uint32_t label, uint32_t field) {
    struct key key = {.bytes = {'F'}, .size = 9};
    imv_put_be32(key.bytes + 1, label);
    imv_put_be32(key.bytes + 5, field);
    return key;
}

static struct key series_key(uint64_t id) {
    struct key key = {.bytes = {'S'}, .size = 9};
    imv_put_be64(key.bytes + 1, id);
    return key;
}

static uint32_t check_of(struct imv_str key, const void *body, size_t size) {
    return (uint32_t)imv_hash64(body, size, imv_hash64(key.data, key.size, 0));
}

/* ---- writing ---- */

/* Changes that go to kv in one write; keys and values are in the arena until then. */
struct changes {
    struct imv_kv *kv;
    struct imv_arena arena;
    struct imv_kv_change list[CHANGES_MAX];
    size_t count;
    uint8_t value[SERIES_VALUE_BYTES_MAX]; /* of the record under construction; the body starts after the check */
};

static struct changes *changes_new(struct imv_kv *kv) {
    struct changes *changes = malloc(sizeof *changes);
    if (changes == NULL) return NULL;
    changes->kv = kv;
    changes->count = 0;
    imv_arena_init(&changes->arena, 256 * 1024, NULL);
    return changes;
}

static void changes_free(struct changes *changes) {
    imv_arena_release(&changes->arena);
    free(changes);
}

static imv_status changes_write(struct changes *changes, struct imv_error *err) {
    imv_status status = changes->count == 0 ? IMV_OK : imv_kv_write(changes->kv, changes->list, changes->count, err);
    changes->count = 0;
    imv_arena_release(&changes->arena);
    return status;
}

/* Adds the record whose body was put into changes->value and ends at `end`. */
static imv_status changes_add(struct changes *changes, const struct key *key, const uint8_t *end,
                              struct imv_error *err) {
    imv_assert(changes->count < CHANGES_MAX);
    struct imv_str key_text = {(const char *)key->bytes, key->size};
    const uint8_t *body = changes->value + CHECK_BYTES;
    imv_assert(end >= body && end <= changes->value + sizeof changes->value);
    imv_put_u32(changes->value, check_of(key_text, body, (size_t)(end - body)));
    struct imv_kv_change *change = &changes->list[changes->count];
    change->family = IMV_KV_META;
    change->key = imv_arena_copy(&changes->arena, key_text);
    change->value =
        imv_arena_copy(&changes->arena, (struct imv_str){(const char *)changes->value, (size_t)(end - changes->value)});
    if (change->key.data == NULL || change->value.data == NULL) {
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to write a record");
    }
    changes->count++;
    if (changes->count < CHANGES_MAX && changes->arena.bytes < CHANGES_BYTES_MAX) return IMV_OK;
    return changes_write(changes, err);
}

static uint8_t *put_text(uint8_t *to, struct imv_str text) {
    memcpy(to, text.data, text.size);
    return to + text.size;
}

/* Adds what is new of a label; what that is, the index remembers until it is written. */
static imv_status add_label_records(struct changes *changes, struct imv_label *label, struct imv_error *err) {
    struct imv_label_index *index = label->index;
    index->storing_fields = atomic_load_explicit(&label->fields_count, memory_order_acquire);
    index->storing_retention_ns = atomic_load_explicit(&label->retention_ns, memory_order_acquire);
    if (!index->stored || index->stored_retention_ns != index->storing_retention_ns) {
        struct key key = label_key(label->id);
        uint8_t *end = imv_put_varint(changes->value + CHECK_BYTES, (uint64_t)index->storing_retention_ns);
        IMV_TRY(changes_add(changes, &key, put_text(end, label->name), err));
    }
    for (uint32_t id = index->stored_fields; id < index->storing_fields; id++) {
        const struct imv_field *field = imv_label_field_by_id(label, id);
        struct key key = field_key(label->id, id);
        changes->value[CHECK_BYTES] = (uint8_t)field->type;
        IMV_TRY(changes_add(changes, &key, put_text(changes->value + CHECK_BYTES + 1, field->name), err));
    }
    return IMV_OK;
}

static imv_status persist_labels(struct imv_catalog *catalog, struct changes *changes, struct imv_error *err) {
    uint32_t count = imv_catalog_labels_count(catalog);
    for (uint32_t id = 0; id < count; id++) {
        struct imv_label *label = imv_catalog_label_by_id(catalog, id);
        if (label != NULL) IMV_TRY(add_label_records(changes, label, err));
    }
    IMV_TRY(changes_write(changes, err));
    for (uint32_t id = 0; id < count; id++) {
        struct imv_label *label = imv_catalog_label_by_id(catalog, id);
        if (label == NULL) continue;
        label->index->stored = true;
        label->index->stored_fields = label->index->storing_fields;
        label->index->stored_retention_ns = label->index->storing_retention_ns;
    }
    return IMV_OK;
}

static imv_status add_series_record(struct changes *changes, const struct imv_series *series, struct imv_error *err) {
    struct key key = series_key(imv_series_id(series));
    uint8_t *end = imv_put_varint(changes->value + CHECK_BYTES, series->label->id);
    return changes_add(changes, &key, imv_series_code_put(series, end), err);
}

/* Which series of a shard to look at: those that a former persist left out, then those made since. */
struct series_work {
    uint32_t *indices;
    size_t count;
    size_t written; /* indices[0, written) are in kv or need not be */
};

static imv_status take_work(struct imv_catalog *catalog, struct imv_shard_series *shard, struct series_work *work,
                            struct imv_error *err) {
    imv_status status = IMV_OK;
    imv_catalog_lock(catalog);
    uint32_t end = atomic_load_explicit(&shard->count, memory_order_relaxed);
    work->count = shard->unstored_count + (end - shard->stored);
    work->written = 0;
    work->indices = malloc(work->count * sizeof *work->indices + 1);
    if (work->indices == NULL) {
        status = imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to list %zu series", work->count);
    } else {
        uint32_t *to = work->indices;
        for (size_t i = 0; i < shard->unstored_count; i++) *to++ = shard->unstored[i];
        while (shard->stored < end) *to++ = shard->stored++;
        shard->unstored_count = 0;
    }
    imv_catalog_unlock(catalog);
    return status;
}

/* Puts back what was not written. Without memory to remember it the shard's series are all written again next time. */
static void return_work(struct imv_catalog *catalog, struct imv_shard_series *shard, struct series_work *work) {
    imv_catalog_lock(catalog);
    for (size_t i = 0; i < work->written; i++) {
        struct imv_series *series = imv_shard_series_at(shard, work->indices[i]);
        if (series != NULL) imv_series_settle(catalog, series);
    }
    for (size_t i = work->written; i < work->count; i++) {
        if (imv_shard_series_remember(shard, work->indices[i], NULL) == IMV_OK) continue;
        shard->unstored_count = 0;
        shard->stored = 0;
        break;
    }
    imv_catalog_unlock(catalog);
    free(work->indices);
}

/* Writes the series of work that are visible; moves those that are not to the end of the list, behind `written`. */
static imv_status write_work(struct imv_catalog *catalog, uint32_t shard, struct changes *changes,
                             struct series_work *work, struct imv_error *err) {
    size_t at = 0, end = work->count; /* [written, at) is in changes; [end, count) is invisible */
    while (at < end) {
        uint32_t index = work->indices[at];
        struct imv_series *series = imv_catalog_series_by_id(catalog, (uint64_t)shard << 40 | index);
        if (series != NULL && atomic_load_explicit(&series->visible_at, memory_order_acquire) == 0) {
            work->indices[at] = work->indices[--end];
            work->indices[end] = index;
            continue;
        }
        at++;
        if (series == NULL) continue;
        IMV_TRY(add_series_record(changes, series, err));
        if (changes->count == 0) work->written = at;
    }
    IMV_TRY(changes_write(changes, err));
    work->written = at;
    return IMV_OK;
}

static imv_status persist_series(struct imv_catalog *catalog, uint32_t shard, struct changes *changes,
                                 struct imv_error *err) {
    struct series_work work;
    IMV_TRY(take_work(catalog, &catalog->shards[shard], &work, err));
    imv_status status = write_work(catalog, shard, changes, &work, err);
    return_work(catalog, &catalog->shards[shard], &work);
    return status;
}

imv_status imv_catalog_persist(struct imv_catalog *catalog, struct imv_error *err) {
    struct changes *changes = changes_new(catalog->kv);
    if (changes == NULL) return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to write it");
    pthread_mutex_lock(&catalog->persist_lock);
    imv_status status = persist_labels(catalog, changes, err);
    for (uint32_t shard = 0; status == IMV_OK && shard < catalog->shards_count; shard++) {
        status = persist_series(catalog, shard, changes, err);
    }
    pthread_mutex_unlock(&catalog->persist_lock);
    changes_free(changes);
    return status;
}

/* ---- removing ---- */

static struct key removed_key(uint32_t shard) {
    struct key key = {.bytes = {'N'}, .size = 5};
    imv_put_be32(key.bytes + 1, shard);
    return key;
}

/* Notes for each shard which indices are given out. */
static imv_status put_removed_ends(struct imv_catalog *catalog, struct changes *changes, struct imv_error *err) {
    for (uint32_t shard = 0; shard < catalog->shards_count; shard++) {
        struct key key = removed_key(shard);
        imv_put_u32(changes->value + CHECK_BYTES, imv_catalog_series_count(catalog, shard));
        IMV_TRY(changes_add(changes, &key, changes->value + CHECK_BYTES + 4, err));
    }
    return IMV_OK;
}

static imv_status delete_record(struct changes *changes, const struct imv_series *series, struct imv_error *err) {
    imv_assert(changes->count < CHANGES_MAX);
    struct key key = series_key(imv_series_id(series));
    struct imv_str text = imv_arena_copy(&changes->arena, (struct imv_str){(const char *)key.bytes, key.size});
    if (text.data == NULL) return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to delete a record");
    changes->list[changes->count++] = (struct imv_kv_change){.family = IMV_KV_META, .key = text};
    return IMV_OK;
}

imv_status imv_catalog_delete_records(struct imv_catalog *catalog, const struct imv_ended_series *list, size_t count,
                                      struct imv_error *err) {
    imv_assert(count + catalog->shards_count < CHANGES_MAX);
    struct changes *changes = changes_new(catalog->kv);
    if (changes == NULL) return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory to delete records");
    pthread_mutex_lock(&catalog->persist_lock);
    imv_status status = put_removed_ends(catalog, changes, err);
    for (size_t i = 0; i < count && status == IMV_OK; i++) status = delete_record(changes, list[i].series, err);
    if (status == IMV_OK) status = changes_write(changes, err);
    pthread_mutex_unlock(&catalog->persist_lock);
    changes_free(changes);
    return status;
}

/* ---- loading ---- */

/* The body of a record, checked; its text runs to the end. */
struct record {
    struct imv_str key;
    const uint8_t *at, *end;
};

static imv_status bad_record(const struct record *record, const char *what, struct imv_error *err) {
    char name[2 * KEY_BYTES_MAX + 1] = "";
    for (size_t i = 0; i < record->key.size && i < KEY_BYTES_MAX; i++) {
        static const char digits[] = "0123456789abcdef";
        name[2 * i] = digits[(uint8_t)record->key.data[i] >> 4];
        name[2 * i + 1] = digits[(uint8_t)record->key.data[i] & 15];
        name[2 * i + 2] = 0;
    }
    return imv_fail(err, IMV_CORRUPT, "catalog: record %s: %s", name, what);
}

static imv_status load_label(struct imv_catalog *catalog, struct record *record, struct imv_error *err) {
    if (record->key.size != 5) return bad_record(record, "bad key size", err);
    uint32_t id = imv_get_be32(record->key.data + 1);
    uint64_t retention_ns;
    record->at = imv_get_varint(record->at, record->end, &retention_ns);
    if (record->at == NULL || retention_ns > INT64_MAX) return bad_record(record, "bad retention", err);
    struct imv_str name = {(const char *)record->at, (size_t)(record->end - record->at)};
    struct imv_label *label;
    IMV_TRY(imv_catalog_define_label(catalog, id, name, &label, err));
    imv_label_set_retention(catalog, label, (int64_t)retention_ns);
    label->index->stored = true;
    label->index->stored_retention_ns = (int64_t)retention_ns;
    return IMV_OK;
}

static imv_status load_field(struct imv_catalog *catalog, struct record *record, struct imv_error *err) {
    if (record->key.size != 9 || record->at == record->end) return bad_record(record, "bad size", err);
    struct imv_label *label = imv_catalog_label_by_id(catalog, imv_get_be32(record->key.data + 1));
    if (label == NULL) return bad_record(record, "no such label", err);
    uint32_t id = imv_get_be32(record->key.data + 5);
    imv_type type = (imv_type)*record->at++;
    struct imv_str name = {(const char *)record->at, (size_t)(record->end - record->at)};
    IMV_TRY(imv_catalog_define_field(catalog, label, id, name, type, err));
    label->index->stored_fields = id + 1;
    return IMV_OK;
}

static imv_status load_series(struct imv_catalog *catalog, struct record *record, struct imv_error *err) {
    if (record->key.size != 9) return bad_record(record, "bad key size", err);
    uint64_t label_id = 0;
    struct imv_tag tags[IMV_TAGS_MAX];
    size_t tags_count;
    record->at = imv_get_varint(record->at, record->end, &label_id);
    if (record->at != NULL) record->at = imv_series_code_get(record->at, record->end, tags, &tags_count);
    if (record->at == NULL) return bad_record(record, "cut short in its tags", err);
    struct imv_label *label = label_id > UINT32_MAX ? NULL : imv_catalog_label_by_id(catalog, (uint32_t)label_id);
    if (label == NULL) return bad_record(record, "no such label", err);
    if (record->at != record->end) return bad_record(record, "bytes behind its tags", err);
    struct imv_series *series;
    IMV_TRY(
        imv_catalog_define_series(catalog, imv_get_be64(record->key.data + 1), label, tags, tags_count, &series, err));
    atomic_store_explicit(&series->visible_at, IMV_SEQUENCE_LOADED, memory_order_release);
    series->journaled = IMV_JOURNALED;
    atomic_store_explicit(&series->newest_s, UINT32_MAX, memory_order_relaxed);
    imv_series_settle(catalog, series);
    return IMV_OK;
}

static imv_status load_removed_end(struct imv_catalog *catalog, struct record *record, struct imv_error *err) {
    if (record->key.size != 5 || record->end - record->at != 4) return bad_record(record, "bad size", err);
    uint32_t shard = imv_get_be32(record->key.data + 1);
    if (shard >= catalog->shards_count) return bad_record(record, "no such shard", err);
    catalog->shards[shard].removed_end = imv_get_u32(record->at);
    return IMV_OK;
}

static imv_status load_records(struct imv_catalog *catalog, struct imv_kv_iterator *iterator, char letter,
                               imv_status (*load)(struct imv_catalog *, struct record *, struct imv_error *),
                               struct imv_error *err) {
    struct imv_str key, value;
    for (imv_kv_seek(iterator, (struct imv_str){&letter, 1}); imv_kv_valid(iterator, &key, &value);
         imv_kv_next(iterator)) {
        if (key.size == 0 || key.data[0] != letter) break;
        struct record record = {.key = key};
        if (value.size < CHECK_BYTES) return bad_record(&record, "cut short", err);
        record.at = (const uint8_t *)value.data + CHECK_BYTES;
        record.end = (const uint8_t *)value.data + value.size;
        uint32_t want = imv_get_u32(value.data), have = check_of(key, record.at, value.size - CHECK_BYTES);
        if (have != want) return bad_record(&record, "bad checksum", err);
        IMV_TRY(load(catalog, &record, err));
    }
    return imv_kv_status(iterator, err);
}

imv_status imv_catalog_load(struct imv_catalog *catalog, struct imv_error *err) {
    struct imv_kv_iterator *iterator;
    IMV_TRY(imv_kv_iterate(catalog->kv, IMV_KV_META, &iterator, err));
    imv_status status = load_records(catalog, iterator, 'L', load_label, err);
    if (status == IMV_OK) status = load_records(catalog, iterator, 'F', load_field, err);
    if (status == IMV_OK) status = load_records(catalog, iterator, 'S', load_series, err);
    if (status == IMV_OK) status = load_records(catalog, iterator, 'N', load_removed_end, err);
    imv_kv_iterator_free(iterator);
    for (uint32_t shard = 0; shard < catalog->shards_count; shard++) {
        struct imv_shard_series *series = &catalog->shards[shard];
        if (series->count < series->removed_end) series->count = series->removed_end;
        catalog->shards[shard].stored = imv_catalog_series_count(catalog, shard);
    }
    return status;
}
