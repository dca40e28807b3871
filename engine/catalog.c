#include "engine/catalog_internal.h"

#include "storage/base/assert.h"
#include "storage/base/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    ARENA_BLOCK_BYTES = 1 << 20,
    PIECES_BYTES =
        64 * 1024, /* what pieces are cut from: by itself the arena takes steps of 16 bytes and a malloc each */
};

/* Looks at a lock that is taken: 5 us at 40 cycles a pause. */
enum { LOCK_LOOKS = 300 };

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void imv_catalog_lock(struct imv_catalog *catalog) {
    for (int i = 0; i < LOCK_LOOKS; i++) {
        if (pthread_rwlock_trywrlock(&catalog->lock) == 0) return;
        pause_briefly();
    }
    pthread_rwlock_wrlock(&catalog->lock);
}

void imv_catalog_lock_shared(struct imv_catalog *catalog) {
    for (int i = 0; i < LOCK_LOOKS; i++) {
        if (pthread_rwlock_tryrdlock(&catalog->lock) == 0) return;
        pause_briefly();
    }
    pthread_rwlock_rdlock(&catalog->lock);
}

void imv_catalog_unlock(struct imv_catalog *catalog) { pthread_rwlock_unlock(&catalog->lock); }

static imv_status init_locks(struct imv_catalog *catalog, struct imv_error *err) {
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    /* Without this a stream of selections would keep creations, which hold up sockets, waiting for ever. */
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    int error = pthread_rwlock_init(&catalog->lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    if (error == 0) error = pthread_mutex_init(&catalog->persist_lock, NULL);
    return error == 0 ? IMV_OK : imv_fail_errno(err, IMV_NO_MEMORY, error, "catalog: cannot make its locks");
}

static imv_status init(struct imv_catalog *catalog, struct imv_kv *kv, uint32_t shards, struct imv_error *err) {
    catalog->kv = kv;
    catalog->shards_count = shards;
    const struct imv_catalog_limits limits = {IMV_SERIES_MAX, IMV_SERIES_MAX, IMV_CATALOG_BYTES_MAX};
    imv_catalog_set_limits(catalog, &limits);
    if (getrandom(&catalog->seed, sizeof catalog->seed, 0) != sizeof catalog->seed) {
        return imv_fail_errno(err, IMV_IO, errno, "catalog: no random seed");
    }
    imv_arena_init(&catalog->arena, ARENA_BLOCK_BYTES, NULL);
    imv_code_table_init(&catalog->labels_by_name, true);
    catalog->labels = calloc(IMV_LABELS_MAX, sizeof *catalog->labels);
    catalog->shards = calloc(shards, sizeof *catalog->shards);
    catalog->key_scratch = malloc(IMV_KEY_BYTES_MAX);
    if (catalog->labels == NULL || catalog->shards == NULL || catalog->key_scratch == NULL) {
        return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for its tables");
    }
    return IMV_OK;
}

imv_status imv_catalog_open(struct imv_kv *kv, uint32_t shards, struct imv_catalog **catalog, struct imv_error *err) {
    imv_assert(shards >= 1 && shards <= IMV_SHARDS_MAX);
    struct imv_catalog *made = calloc(1, sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory");
    imv_status status = init_locks(made, err);
    if (status != IMV_OK) {
        free(made);
        return status;
    }
    status = init(made, kv, shards, err);
    if (status == IMV_OK) status = imv_catalog_load(made, err);
    if (status != IMV_OK) {
        imv_catalog_close(made);
        return status;
    }
    *catalog = made;
    return IMV_OK;
}

void imv_catalog_close(struct imv_catalog *catalog) {
    if (catalog == NULL) return;
    for (uint32_t id = 0; catalog->labels != NULL && id < imv_catalog_labels_count(catalog); id++) {
        struct imv_label *label = imv_catalog_label_by_id(catalog, id);
        if (label != NULL) imv_label_index_free(label->index);
    }
    imv_metric_add(IMV_METRIC_series, -(int64_t)catalog->series_count);
    for (uint32_t shard = 0; catalog->shards != NULL && shard < catalog->shards_count; shard++) {
        for (uint32_t i = 0; i <= catalog->shards[shard].count / IMV_PAGE_SERIES; i++) {
            struct imv_series_page **page = imv_segments_at(&catalog->shards[shard].pages, sizeof *page, i);
            if (page != NULL) free(*page);
        }
        imv_segments_release(&catalog->shards[shard].pages);
        free(catalog->shards[shard].unstored);
    }
    free(catalog->shards);
    free(catalog->labels);
    free(catalog->key_scratch);
    imv_code_table_release(&catalog->labels_by_name);
    imv_arena_release(&catalog->arena);
    pthread_mutex_destroy(&catalog->persist_lock);
    pthread_rwlock_destroy(&catalog->lock);
    free(catalog);
}

void imv_catalog_set_limits(struct imv_catalog *catalog, const struct imv_catalog_limits *limits) {
    atomic_store_explicit(&catalog->series_max, limits->series_max, memory_order_relaxed);
    atomic_store_explicit(&catalog->label_series_max, limits->label_series_max, memory_order_relaxed);
    atomic_store_explicit(&catalog->bytes_max, limits->bytes_max, memory_order_relaxed);
}

uint64_t imv_catalog_bytes(struct imv_catalog *catalog) {
    imv_catalog_lock_shared(catalog);
    uint64_t bytes = catalog->arena.bytes - catalog->pieces_bytes;
    imv_catalog_unlock(catalog);
    return bytes;
}

uint64_t imv_catalog_bytes_max(const struct imv_catalog *catalog) {
    return atomic_load_explicit(&catalog->bytes_max, memory_order_relaxed);
}

imv_status imv_catalog_check_bytes(const struct imv_catalog *catalog, struct imv_error *err) {
    uint64_t bytes_max = atomic_load_explicit(&catalog->bytes_max, memory_order_relaxed);
    if (catalog->arena.bytes - catalog->pieces_bytes < bytes_max) return IMV_OK;
    return imv_fail(err, IMV_FULL, "the catalog has reached its limit of %" PRIu64 " bytes, no new names are taken",
                    bytes_max);
}

static size_t piece_class(size_t bytes) {
    imv_assert(bytes > 0 && bytes <= IMV_PIECE_BYTES_MAX);
    return (bytes - 1) / IMV_PIECE_STEP;
}

void *imv_catalog_take(struct imv_catalog *catalog, size_t bytes) {
    size_t class = piece_class(bytes), size = (class + 1) * IMV_PIECE_STEP;
    void *piece = catalog->pieces[class];
    if (piece != NULL) {
        memcpy(&catalog->pieces[class], piece, sizeof piece);
        catalog->pieces_bytes -= size;
        return piece;
    }
    if ((size_t)(catalog->piece_end - catalog->piece_next) < size) {
        char *block = imv_arena_alloc(&catalog->arena, PIECES_BYTES);
        if (block == NULL) return NULL;
        catalog->piece_next = block;
        catalog->piece_end = block + PIECES_BYTES;
    }
    piece = catalog->piece_next;
    catalog->piece_next += size;
    return piece;
}

void imv_catalog_give(struct imv_catalog *catalog, void *piece, size_t bytes) {
    size_t class = piece_class(bytes);
    memcpy(piece, &catalog->pieces[class], sizeof piece);
    catalog->pieces[class] = piece;
    catalog->pieces_bytes += (class + 1) * IMV_PIECE_STEP;
}

struct imv_str imv_catalog_text(struct imv_catalog *catalog, struct imv_str text) {
    char *copy = imv_catalog_take(catalog, text.size);
    if (copy == NULL) return (struct imv_str){0};
    memcpy(copy, text.data, text.size);
    return (struct imv_str){copy, text.size};
}

imv_status imv_catalog_check_name(const char *what, struct imv_str name, struct imv_error *err) {
    if (name.size == 0) return imv_fail(err, IMV_INVALID, "%s is empty", what);
    if (name.size > IMV_NAME_BYTES_MAX) {
        return imv_fail(err, IMV_INVALID, "%s \"%.*s...\" has %zu bytes, the limit is %d", what, imv_shown(name),
                        name.data, name.size, IMV_NAME_BYTES_MAX);
    }
    return IMV_OK;
}

struct name_probe {
    const struct imv_catalog *catalog;
    struct imv_str name;
};

static bool label_has_name(const void *context, uint32_t id) {
    const struct name_probe *probe = context;
    const struct imv_label *label = atomic_load_explicit(&probe->catalog->labels[id], memory_order_acquire);
    return imv_str_equal(label->name, probe->name);
}

struct imv_label *imv_catalog_find_label(struct imv_catalog *catalog, struct imv_str name) {
    struct name_probe probe = {catalog, name};
    uint32_t hash = imv_catalog_hash(catalog, name.data, name.size);
    uint32_t id = imv_code_table_find(&catalog->labels_by_name, hash, label_has_name, &probe);
    return id == IMV_CODE_NONE ? NULL : imv_catalog_label_by_id(catalog, id);
}

struct imv_label *imv_catalog_label_by_id(struct imv_catalog *catalog, uint32_t id) {
    return id >= IMV_LABELS_MAX ? NULL : atomic_load_explicit(&catalog->labels[id], memory_order_acquire);
}

uint32_t imv_catalog_labels_count(struct imv_catalog *catalog) {
    return atomic_load_explicit(&catalog->labels_count, memory_order_acquire);
}

uint32_t imv_catalog_series_count(struct imv_catalog *catalog, uint32_t shard) {
    imv_assert(shard < catalog->shards_count);
    return atomic_load_explicit(&catalog->shards[shard].count, memory_order_acquire);
}

struct imv_series *imv_catalog_series_by_id(struct imv_catalog *catalog, uint64_t id) {
    uint64_t shard = id >> 40, index = id & ((UINT64_C(1) << 40) - 1);
    if (shard >= catalog->shards_count || index >= imv_catalog_series_count(catalog, (uint32_t)shard)) return NULL;
    imv_catalog_lock_shared(catalog);
    struct imv_series *series = imv_shard_series_at(&catalog->shards[shard], (uint32_t)index);
    imv_catalog_unlock(catalog);
    return series;
}

bool imv_catalog_id_is_used(struct imv_catalog *catalog, uint64_t id) {
    uint64_t shard = id >> 40, index = id & ((UINT64_C(1) << 40) - 1);
    return shard < catalog->shards_count && index < imv_catalog_series_count(catalog, (uint32_t)shard);
}

/* Makes the label with this id; name and id are free. The lock is held for writing. */
static imv_status add_label(struct imv_catalog *catalog, uint32_t id, struct imv_str name, struct imv_label **label,
                            struct imv_error *err) {
    struct imv_label *made = imv_arena_calloc(&catalog->arena, 1, sizeof *made);
    struct imv_str text = made == NULL ? (struct imv_str){0} : imv_catalog_text(catalog, name);
    if (text.data == NULL || !imv_code_table_reserve(&catalog->labels_by_name)) goto no_memory;
    made->id = id;
    made->name = text;
    made->index = imv_label_index_new(catalog, made);
    if (made->index == NULL) goto no_memory;
    atomic_store_explicit(&catalog->labels[id], made, memory_order_release);
    if (id >= imv_catalog_labels_count(catalog)) {
        atomic_store_explicit(&catalog->labels_count, id + 1, memory_order_release);
    }
    imv_code_table_insert(&catalog->labels_by_name, imv_catalog_hash(catalog, name.data, name.size), id);
    *label = made;
    return IMV_OK;
no_memory:
    return imv_fail(err, IMV_NO_MEMORY, "catalog: no memory for label \"%.*s\"", imv_shown(name), name.data);
}

static imv_status make_label(struct imv_catalog *catalog, struct imv_str name, struct imv_label **label,
                             struct imv_error *err) {
    uint32_t id = imv_catalog_labels_count(catalog);
    if (id == IMV_LABELS_MAX) {
        return imv_fail(err, IMV_FULL, "label \"%.*s\" would be one more than the limit of %d labels", imv_shown(name),
                        name.data, IMV_LABELS_MAX);
    }
    IMV_TRY(imv_catalog_check_bytes(catalog, err));
    return add_label(catalog, id, name, label, err);
}

imv_status imv_catalog_label(struct imv_catalog *catalog, struct imv_str name, struct imv_label **label,
                             struct imv_error *err) {
    *label = imv_catalog_find_label(catalog, name);
    if (*label != NULL) return IMV_OK;
    IMV_TRY(imv_catalog_check_name("label", name, err));
    imv_status status = IMV_OK;
    imv_catalog_lock(catalog);
    *label = imv_catalog_find_label(catalog, name);
    if (*label == NULL) status = make_label(catalog, name, label, err);
    imv_catalog_unlock(catalog);
    return status;
}

static imv_status define_label(struct imv_catalog *catalog, uint32_t id, struct imv_str name, struct imv_label **label,
                               struct imv_error *err) {
    struct imv_label *by_name = imv_catalog_find_label(catalog, name);
    struct imv_label *by_id = imv_catalog_label_by_id(catalog, id);
    if (by_name == NULL && by_id == NULL) return add_label(catalog, id, name, label, err);
    if (by_name == by_id) {
        *label = by_id;
        return IMV_OK;
    }
    return by_id != NULL ? imv_fail(err, IMV_CORRUPT, "catalog: label %u is \"%.*s\", not \"%.*s\"", id,
                                    imv_shown(by_id->name), by_id->name.data, imv_shown(name), name.data)
                         : imv_fail(err, IMV_CORRUPT, "catalog: label \"%.*s\" is %u, not %u", imv_shown(name),
                                    name.data, by_name->id, id);
}

imv_status imv_catalog_define_label(struct imv_catalog *catalog, uint32_t id, struct imv_str name,
                                    struct imv_label **label, struct imv_error *err) {
    if (id >= IMV_LABELS_MAX) return imv_fail(err, IMV_CORRUPT, "catalog: label %u is above the limit", id);
    if (imv_catalog_check_name("label", name, err) != IMV_OK) {
        return imv_error_wrap(err, IMV_CORRUPT, "catalog: label %u", id);
    }
    imv_catalog_lock(catalog);
    imv_status status = define_label(catalog, id, name, label, err);
    imv_catalog_unlock(catalog);
    return status;
}
