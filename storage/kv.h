/* kv.h - the ordered key-value store under chunks and catalog: RocksDB, seen through what we need of it.
 *
 * kv.c alone includes RocksDB. Its use here is narrow: `meta` takes small batches through RocksDB's own log, each
 * synced before it is reported done; `chunks` takes only files that are written aside, synced and ingested, disjoint by
 * construction (engine/parts.h), so that they land at the bottom level and are never rewritten. Values of `chunks` are
 * read through mmap: an iterator's value is a view of the file, valid until the iterator moves.
 *
 * A struct imv_kv has operations behind it so that tests can put an ordered map with simulated crashes in RocksDB's
 * place (tests/support/kv_memory.h). All functions may be called from any thread; an iterator or a table file belongs
 * to one.
 */
#pragma once

#include "storage/base/bytes.h"
#include "storage/base/status.h"

struct imv_buffer;

enum imv_kv_family { IMV_KV_META, IMV_KV_CHUNKS, IMV_KV_FAMILIES };

struct imv_kv;
struct imv_kv_iterator;
struct imv_kv_table; /* a table file being written */

/* One change of a batch. */
struct imv_kv_change {
    enum imv_kv_family family; /* IMV_KV_META only: chunks change by ingestion */
    struct imv_str key;
    struct imv_str value; /* data NULL: delete */
};

/* What the store uses. */
struct imv_kv_usage {
    uint64_t cache_bytes, cache_bytes_max;       /* blocks of `meta` */
    uint64_t memtable_bytes, memtable_bytes_max; /* of `meta` */
    uint64_t index_bytes;                        /* of open table files, in memory */
    uint64_t tables, tables_max;                 /* table files; each is a mapping, of which the kernel gives so many */
};

struct imv_kv_ops {
    void (*close)(struct imv_kv *kv);
    imv_status (*get)(struct imv_kv *kv, enum imv_kv_family family, struct imv_str key, struct imv_buffer *value,
                      struct imv_error *err);
    imv_status (*write)(struct imv_kv *kv, const struct imv_kv_change *changes, size_t count, struct imv_error *err);
    imv_status (*iterate)(struct imv_kv *kv, enum imv_kv_family family, struct imv_kv_iterator **iterator,
                          struct imv_error *err);
    imv_status (*table_new)(struct imv_kv *kv, struct imv_kv_table **table, struct imv_error *err);
    imv_status (*ingest)(struct imv_kv *kv, struct imv_kv_table **tables, size_t count, struct imv_error *err);
    imv_status (*drop_range)(struct imv_kv *kv, enum imv_kv_family family, struct imv_str from, struct imv_str to,
                             struct imv_error *err);
    void (*usage)(struct imv_kv *kv, struct imv_kv_usage *usage); /* NULL: nothing is known */
    uint64_t (*free_bytes)(struct imv_kv *kv);                    /* NULL: unlimited */
    imv_status (*checkpoint)(struct imv_kv *kv, const char *directory, struct imv_error *err); /* NULL: unsupported */
    imv_status (*space)(struct imv_kv *kv, uint64_t *bytes, struct imv_error *err);
};
struct imv_kv {
    const struct imv_kv_ops *ops;
};

struct imv_kv_iterator_ops {
    void (*free)(struct imv_kv_iterator *iterator);
    void (*seek)(struct imv_kv_iterator *iterator, struct imv_str key);
    void (*seek_for_previous)(struct imv_kv_iterator *iterator, struct imv_str key);
    void (*next)(struct imv_kv_iterator *iterator);
    void (*previous)(struct imv_kv_iterator *iterator);
    bool (*valid)(const struct imv_kv_iterator *iterator, struct imv_str *key, struct imv_str *value);
    imv_status (*status)(const struct imv_kv_iterator *iterator, struct imv_error *err);
};
struct imv_kv_iterator {
    const struct imv_kv_iterator_ops *ops;
};

struct imv_kv_table_ops {
    imv_status (*put)(struct imv_kv_table *table, struct imv_str key, struct imv_str value, struct imv_error *err);
    imv_status (*finish)(struct imv_kv_table *table, uint64_t *file_bytes, struct imv_error *err);
    void (*free)(struct imv_kv_table *table);
};
struct imv_kv_table {
    const struct imv_kv_table_ops *ops;
};

/* Opens or creates the store in directory. IMV_BUSY when another process has it, IMV_CORRUPT, IMV_IO. Here and in all
 * that writes IMV_FULL: the disk is so full that RocksDB must not try; nothing happened, try again when there is
 * room. */
imv_status imv_kv_open(const char *directory, struct imv_kv **kv, struct imv_error *err);
/* All iterators and tables are freed before. NULL is allowed. */
void imv_kv_close(struct imv_kv *kv);

/* Replaces value's content. IMV_NOT_FOUND when absent. */
imv_status imv_kv_get(struct imv_kv *kv, enum imv_kv_family family, struct imv_str key, struct imv_buffer *value,
                      struct imv_error *err);
/* Applies all changes atomically; on IMV_OK they are on stable storage. IMV_BUSY, here and from ingest and drop_range:
 * a write failed before, and the iterators that there are keep the store from being opened again; nothing happened. */
imv_status imv_kv_write(struct imv_kv *kv, const struct imv_kv_change *changes, size_t count, struct imv_error *err);

/* A view of one family as it is now: later writes, ingestions and drops do not change what it shows. */
imv_status imv_kv_iterate(struct imv_kv *kv, enum imv_kv_family family, struct imv_kv_iterator **iterator,
                          struct imv_error *err);
void imv_kv_iterator_free(struct imv_kv_iterator *iterator); /* NULL is allowed */
/* To the first key >= key; to the last key <= key. */
void imv_kv_seek(struct imv_kv_iterator *iterator, struct imv_str key);
void imv_kv_seek_for_previous(struct imv_kv_iterator *iterator, struct imv_str key);
void imv_kv_next(struct imv_kv_iterator *iterator);
void imv_kv_previous(struct imv_kv_iterator *iterator);
/* False at the end (or after an error: see imv_kv_status). The views hold until the iterator moves or is freed. */
bool imv_kv_valid(const struct imv_kv_iterator *iterator, struct imv_str *key, struct imv_str *value);
imv_status imv_kv_status(const struct imv_kv_iterator *iterator, struct imv_error *err);

/* A table file for ingestion: keys in strictly rising order, then finish (synced), then ingest, then free. A table that
 * is freed without being ingested is deleted. *file_bytes is the size on disk. */
imv_status imv_kv_table_new(struct imv_kv *kv, struct imv_kv_table **table, struct imv_error *err);
imv_status imv_kv_table_put(struct imv_kv_table *table, struct imv_str key, struct imv_str value,
                            struct imv_error *err);
imv_status imv_kv_table_finish(struct imv_kv_table *table, uint64_t *file_bytes, struct imv_error *err);
void imv_kv_table_free(struct imv_kv_table *table); /* NULL is allowed */
/* Makes finished tables part of `chunks`, all or none visible, durable on return. */
imv_status imv_kv_ingest(struct imv_kv *kv, struct imv_kv_table **tables, size_t count, struct imv_error *err);

/* Drops whole files that lie within [from, to); what remains in the range stays readable. Iterators that exist keep
 * seeing it. */
imv_status imv_kv_drop_range(struct imv_kv *kv, enum imv_kv_family family, struct imv_str from, struct imv_str to,
                             struct imv_error *err);

/* Makes directory, which must not exist and be on the store's file system, a store of its own with everything that was
 * durable before the call: table files are hard links, so it costs little until these are dropped here. Durable on
 * return. IMV_UNSUPPORTED: this store cannot. */
imv_status imv_kv_checkpoint(struct imv_kv *kv, const char *directory, struct imv_error *err);
/* Deletes a checkpoint, also one that a crash cut short. IMV_OK when there is none. */
imv_status imv_kv_checkpoint_remove(const char *directory, struct imv_error *err);

/* How many bytes table files may take before the store says IMV_FULL; others may use the disk, too. IMV_IO. */
imv_status imv_kv_space(struct imv_kv *kv, uint64_t *bytes, struct imv_error *err);
/* Zeros where nothing is known. Any thread. */
void imv_kv_usage(struct imv_kv *kv, struct imv_kv_usage *usage);
/* What others than root may still write on the store's file system; UINT64_MAX when it is unknown or has no bound. */
uint64_t imv_kv_free_bytes(struct imv_kv *kv);
