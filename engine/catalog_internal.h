/* catalog_internal.h - the structs behind catalog.h, shared by catalog.c, label.c, series_*.c and catalog_store.c.
 *
 *     catalog -- labels[id] --> label -- fields[id] --> field
 *        |                        +-- keys[code] --> tag key -- values[code] --> text, set of ordinals
 *        |                        +-- blocks[ordinal / 65,536].series[ordinal % 65,536] --> series
 *        +------ shards[shard].pages[index / 4,096].series[..] ------------------^
 *
 * An ordinal numbers the series of one label. A block of 65,536 ordinals belongs to one shard and is given out from 0
 * upwards, so that the ordinals of a block are in order of series id (unless holes that removed series left were
 * filled: `disordered`) and a selection comes out of the sets in the order it is wanted.
 *
 * A series of ten tags costs about 180 bytes: 88 itself with its tags, 40 for a value of its own with its text, 2 x 8 in
 * the two arrays, 2 x 12 in hash tables, and 10 for the sets of the other nine values.
 * bench/micro/bench_engine_catalog.c prints the measured figure.
 *
 * catalog->lock guards all growth. What is marked "published" may be read without it.
 */
#pragma once

#include "engine/catalog.h"
#include "engine/code_table.h"
#include "engine/ordinal_set.h"
#include "engine/segments.h"
#include "storage/base/arena.h"
#include "storage/base/hash.h"

#include <pthread.h>

/* One interned tag value. text and set.extra, its size, are published; the rest is guarded by the lock. */
struct imv_tag_value {
    const char *text;           /* NULL: the code is free */
    struct imv_ordinal_set set; /* the series that have it; of a free code `one` is the next free one */
};
_Static_assert(sizeof(struct imv_tag_value) == 24, "there may be one for each series");
_Static_assert(IMV_NAME_BYTES_MAX <= UINT16_MAX, "the size of a value's text");

struct imv_tag_key {
    struct imv_str name;
    struct imv_segments values; /* struct imv_tag_value by code; published */
    /* Guarded by the lock. */
    uint32_t values_count;      /* one past the highest code */
    uint32_t values_used;       /* codes that are not free */
    uint32_t values_free;       /* the first free code, or IMV_CODE_NONE */
    struct imv_ordinal_set set; /* the series that have the key; none: as if there were no such key */
    struct imv_code_table values_by_text;
};

/* 65,536 ordinals of one shard. */
struct imv_series_block {
    struct imv_series **series; /* [capacity]; NULL: a hole */
    uint64_t *settled;          /* bit: visible to every snapshot at or above settled_sequence of the shard */
    uint32_t shard;
    uint32_t used, capacity; /* ordinals ever given out; room */
    uint32_t holes;          /* of these, without a series */
    bool disordered;         /* a hole was filled */
};

struct imv_label_index {
    struct imv_label *label;
    struct imv_code_table fields_by_name; /* shared */
    uint32_t fields_capacity;
    size_t field_names_bytes;
    struct imv_code_table keys_by_name; /* shared */
    struct imv_segments keys;           /* struct imv_tag_key * by code; published */
    _Atomic uint32_t keys_count;
    struct imv_series_block *blocks; /* guarded by the lock */
    uint32_t blocks_count;
    _Atomic uint64_t series_count, series_max; /* series_max 0: only the catalog's limits count */
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

enum { IMV_PAGE_SERIES = 4096 };

/* Series of one shard with neighbouring indices. Guarded by the lock. */
struct imv_series_page {
    uint32_t count; /* of series */
    struct imv_series *series[IMV_PAGE_SERIES];
};

/* The series of one shard by index. There may be none for an index: see "Ids and crashes" in catalog.h. */
struct imv_shard_series {
    struct imv_segments pages; /* struct imv_series_page *; NULL: it has no series */
    _Atomic uint32_t count;    /* one past the highest index */
    uint32_t removed_end;      /* removed series have indices below it; as `meta` says */
    uint64_t settled_sequence; /* the highest visible_at of a settled series; guarded by the lock */
    /* What `meta` holds: every series below `stored` that is not in `unstored`. Guarded by the lock. */
    uint32_t stored;
    uint32_t *unstored;
    size_t unstored_count, unstored_capacity;
};

enum {
    IMV_PIECE_STEP = 8,
    IMV_PIECE_BYTES_MAX = 4096, /* a series of IMV_TAGS_MAX tags is smaller */
    IMV_PIECE_CLASSES = IMV_PIECE_BYTES_MAX / IMV_PIECE_STEP,
};

struct imv_catalog {
    struct imv_kv *kv;
    uint32_t shards_count;
    uint64_t seed; /* of all tables, random: their keys come from clients */
    pthread_rwlock_t lock;
    pthread_mutex_t persist_lock;         /* taken before lock */
    struct imv_arena arena;               /* structs and names; guarded by the lock */
    char *piece_next, *piece_end;         /* the block of the arena that pieces are cut from; guarded by the lock */
    void *pieces[IMV_PIECE_CLASSES];      /* given back, by size, each pointing to the next; guarded by the lock */
    uint64_t pieces_bytes;                /* of those */
    uint8_t *key_scratch;                 /* IMV_KEY_BYTES_MAX: a series key; guarded by the lock */
    struct imv_code_table labels_by_name; /* shared */
    _Atomic(struct imv_label *) *labels;  /* IMV_LABELS_MAX, by id; published */
    _Atomic uint32_t labels_count;        /* one past the highest id */
    uint32_t shapes_count;
    size_t shapes_bytes;
    uint64_t series_count; /* over all shards; guarded by the lock */
    _Atomic uint64_t series_max, label_series_max, bytes_max;
    struct imv_shard_series *shards;
    _Atomic uint64_t epoch; /* of removals */
};

/* The most series indices that a replay may skip at once: more is damage, not a crash between creation and journal. */
enum { IMV_SERIES_GAP_MAX = 1 << 24 };

/* label, then each tag key and value, each behind a 4-byte length. */
enum { IMV_KEY_BYTES_MAX = (1 + 2 * IMV_TAGS_MAX) * (4 + IMV_NAME_BYTES_MAX) };

/* catalog.c: the lock, for growth and for reading what is not published. Shards that make series at the same time meet here
 * every few microseconds; a thread that finds it taken looks again for about as long as making a series takes before it
 * sleeps, as sleeping and being woken takes ten times that. */
void imv_catalog_lock(struct imv_catalog *catalog);
void imv_catalog_lock_shared(struct imv_catalog *catalog);
void imv_catalog_unlock(struct imv_catalog *catalog);

static inline uint32_t imv_catalog_hash(const struct imv_catalog *catalog, const void *bytes, size_t size) {
    return (uint32_t)(imv_hash64(bytes, size, catalog->seed) >> 32);
}

_Static_assert(sizeof(struct imv_series) + 2 * 5 * IMV_TAGS_MAX <= IMV_PIECE_BYTES_MAX, "a series is one piece");

/* catalog.c */
/* Memory of the catalog that can be given back: 8-byte aligned, not cleared; NULL when out of memory. bytes is at most
 * IMV_PIECE_BYTES_MAX. The lock is held. */
void *imv_catalog_take(struct imv_catalog *catalog, size_t bytes);
void imv_catalog_give(struct imv_catalog *catalog, void *piece, size_t bytes);
/* Copies text into the catalog; {NULL, 0} when out of memory. The lock is held. */
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
/* Also a key that no series has any more. */
struct imv_tag_key *imv_label_find_key(const struct imv_catalog *catalog, const struct imv_label *label,
                                       struct imv_str name, uint32_t *code);
/* IMV_CONFLICT: a field has that name. */
imv_status imv_label_check_key(struct imv_catalog *catalog, const struct imv_label *label, struct imv_str name,
                               struct imv_error *err);
/* Makes a tag key whose name is free; the lock is held for writing. */
imv_status imv_label_add_key(struct imv_catalog *catalog, struct imv_label *label, struct imv_str name, uint32_t *code,
                             struct imv_error *err);
static inline struct imv_tag_key *imv_label_key_at(const struct imv_label *label, uint32_t code) {
    struct imv_tag_key **slot = imv_segments_at(&label->index->keys, sizeof *slot, code);
    return *slot;
}

/* series_values.c */
static inline struct imv_tag_value *imv_tag_value_at(const struct imv_tag_key *key, uint32_t code) {
    return imv_segments_at(&key->values, sizeof(struct imv_tag_value), code);
}
uint32_t imv_tag_key_find_value(const struct imv_catalog *catalog, const struct imv_tag_key *key, struct imv_str text);
/* Makes a value whose text is not there; it has no series. The lock is held for writing. */
imv_status imv_tag_key_add_value(struct imv_catalog *catalog, struct imv_tag_key *key, struct imv_str text,
                                 uint32_t *code, struct imv_error *err);
/* Frees the code of a value that no series has and nobody reads. The lock is held for writing. */
void imv_tag_key_drop_value(struct imv_catalog *catalog, struct imv_tag_key *key, uint32_t code);
void imv_tag_key_release(struct imv_tag_key *key);

/* series_index.c */
/* The tags behind a series: tags_count pairs of varints, key code and value code, in order of the keys' bytes. */
static inline const uint8_t *imv_series_tags(const struct imv_series *series) { return (const uint8_t *)(series + 1); }
/* Reads one varint of imv_series_tags. */
static inline const uint8_t *imv_series_tags_next(const uint8_t *at, uint32_t *code) {
    uint32_t value = *at & 0x7f;
    for (unsigned shift = 7; *at++ >= 0x80; shift += 7) value |= (uint32_t)(*at & 0x7f) << shift;
    *code = value;
    return at;
}
/* The series of an ordinal, which may be a hole. The lock is held. */
static inline struct imv_series *imv_label_series_at(const struct imv_label_index *index, uint32_t ordinal) {
    return index->blocks[ordinal / IMV_ORDINAL_BLOCK].series[ordinal % IMV_ORDINAL_BLOCK];
}
/* The series with this id, or NULL; the lock is held. */
struct imv_series *imv_shard_series_at(const struct imv_shard_series *shard, uint32_t index);
/* The lock is held for writing. */
imv_status imv_shard_series_remember(struct imv_shard_series *shard, uint32_t index, struct imv_error *err);
/* Marks a visible series as one that selections need not look at; the lock is held for writing. */
void imv_series_settle(struct imv_catalog *catalog, struct imv_series *series);
void imv_label_series_release(struct imv_label_index *index);

/* Takes a series out of all tables and frees it; the lock is held for writing. */
void imv_series_remove(struct imv_catalog *catalog, struct imv_series *series);

/* catalog_store.c */
imv_status imv_catalog_load(struct imv_catalog *catalog, struct imv_error *err);
