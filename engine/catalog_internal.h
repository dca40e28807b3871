/* catalog_internal.h - the structs behind catalog.h, shared by catalog.c, label.c, series_index.c and catalog_store.c.
 *
 *     catalog -- labels[id] --> label -- fields[id] --> field
 *        |                        +-- keys[code] --> tag key -- values[code] --> text, list of series (ordinals)
 *        |                        +-- series[ordinal] --> series
 *        +------ shards[shard].slots[index] ----------------^
 *
 * An ordinal numbers the series of one label in order of creation; lists of series hold ordinals (4 bytes, not 8).
 * A series of ten tags costs about 300 bytes: 144 itself, 24 and text for a value of its own, 16 for the two arrays, 13
 * for the hash entry, 4 to 8 for each tag's list. bench/micro/bench_engine_writer.c prints the measured figure.
 *
 * catalog->lock guards all growth. What is marked "published" may be read without it.
 */
#pragma once

#include "engine/catalog.h"
#include "engine/code_table.h"
#include "engine/segments.h"
#include "storage/base/arena.h"
#include "storage/base/hash.h"

#include <pthread.h>

/* One interned tag value. text and size are published; the list of series is guarded by the lock. */
struct imv_tag_value {
    const char *text;
    uint16_t size;
    uint8_t capacity_log; /* 0: the list is `one`; else `many` has room for 1 << capacity_log ordinals */
    uint32_t series_count;
    union {
        uint32_t one;
        uint32_t *many; /* owned */
    } series;
};
_Static_assert(sizeof(struct imv_tag_value) == 24, "there may be one for each series");
_Static_assert(IMV_NAME_BYTES_MAX <= UINT16_MAX, "the size of a value's text");

struct imv_tag_key {
    struct imv_str name;
    struct imv_segments values; /* struct imv_tag_value by code; published */
    uint32_t values_count;      /* guarded by the lock */
    struct imv_code_table values_by_text;
};

struct imv_label_index {
    struct imv_label *label;
    struct imv_code_table fields_by_name; /* shared */
    uint32_t fields_capacity;
    size_t field_names_bytes;
    struct imv_code_table keys_by_name; /* shared */
    struct imv_segments keys;           /* struct imv_tag_key * by code; published */
    _Atomic uint32_t keys_count;
    struct imv_segments series; /* struct imv_series * by ordinal; published */
    uint32_t series_count;      /* guarded by the lock */
    struct imv_code_table series_by_tags;
    struct imv_segments shapes; /* struct imv_shape *, in order of making; guarded by the lock */
    uint32_t shapes_count;
    struct imv_code_table shapes_by_fields;
    /* What `meta` holds; guarded by persist_lock. */
    bool stored;
    uint32_t stored_fields;
    int64_t stored_retention_ns;
    uint32_t storing_fields; /* what the persist under way is writing */
    int64_t storing_retention_ns;
};

/* The series of one shard by index. A slot may be NULL: see "Ids and crashes" in catalog.h. */
struct imv_shard_series {
    struct imv_segments slots; /* _Atomic(struct imv_series *); published */
    _Atomic uint32_t count;    /* one past the highest index */
    /* What `meta` holds: every series below `stored` that is not in `unstored`. Guarded by the lock. */
    uint32_t stored;
    uint32_t *unstored;
    size_t unstored_count, unstored_capacity;
};

struct imv_catalog {
    struct imv_kv *kv;
    uint32_t shards_count;
    uint64_t seed; /* of all tables, random: their keys come from clients */
    pthread_rwlock_t lock;
    pthread_mutex_t persist_lock;         /* taken before lock */
    struct imv_arena arena;               /* structs and names; guarded by the lock */
    char *text_next, *text_end;           /* the piece of the arena that texts are packed into */
    uint8_t *key_scratch;                 /* IMV_KEY_BYTES_MAX: a series key; guarded by the lock */
    struct imv_code_table labels_by_name; /* shared */
    _Atomic(struct imv_label *) *labels;  /* IMV_LABELS_MAX, by id; published */
    _Atomic uint32_t labels_count;        /* one past the highest id */
    uint32_t shapes_count;
    size_t shapes_bytes;
    uint64_t series_count; /* over all shards; guarded by the lock */
    _Atomic uint64_t series_max, bytes_max;
    struct imv_shard_series *shards;
};

/* The most series indices that a replay may skip at once: more is damage, not a crash between creation and journal. */
enum { IMV_SERIES_GAP_MAX = 1 << 24 };

/* label, then each tag key and value, each behind a 4-byte length. */
enum { IMV_KEY_BYTES_MAX = (1 + 2 * IMV_TAGS_MAX) * (4 + IMV_NAME_BYTES_MAX) };

static inline uint32_t imv_catalog_hash(const struct imv_catalog *catalog, const void *bytes, size_t size) {
    return (uint32_t)(imv_hash64(bytes, size, catalog->seed) >> 32);
}

/* catalog.c */
/* Copies text into the arena without padding; {NULL, 0} when out of memory. The lock is held. */
struct imv_str imv_catalog_text(struct imv_catalog *catalog, struct imv_str text);
/* IMV_INVALID when name is empty or too long; what says which kind of name it is. */
imv_status imv_catalog_check_name(const char *what, struct imv_str name, struct imv_error *err);
/* IMV_FULL when the catalog has used up its bytes: asked before something new is made, not before a replay. The lock is
 * held. */
imv_status imv_catalog_check_bytes(const struct imv_catalog *catalog, struct imv_error *err);
/* How much of a name a message shows, for "%.*s". */
static inline int imv_shown(struct imv_str name) { return name.size > 64 ? 64 : (int)name.size; }

/* label.c */
struct imv_label_index *imv_label_index_new(struct imv_catalog *catalog, struct imv_label *label);
void imv_label_index_free(struct imv_label_index *index);
struct imv_tag_key *imv_label_find_key(const struct imv_catalog *catalog, const struct imv_label *label,
                                       struct imv_str name, uint32_t *code);
/* Finds or makes a tag key; the lock is held for writing. IMV_CONFLICT: a field has that name. */
imv_status imv_label_key(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name, uint32_t *code,
                         struct imv_error *err);
static inline struct imv_tag_key *imv_label_key_at(const struct imv_label *label, uint32_t code) {
    struct imv_tag_key **slot = imv_segments_at(&label->index->keys, sizeof *slot, code);
    return *slot;
}

/* series_index.c */
uint32_t imv_tag_key_find_value(const struct imv_catalog *catalog, const struct imv_tag_key *key, struct imv_str text);
void imv_tag_key_release(struct imv_tag_key *key);
/* The lock is held for writing. */
imv_status imv_shard_series_remember(struct imv_shard_series *shard, uint32_t index, struct imv_error *err);

/* catalog_store.c */
imv_status imv_catalog_load(struct imv_catalog *catalog, struct imv_error *err);
