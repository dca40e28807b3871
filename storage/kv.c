/* kv.c - the key-value seam over RocksDB's C API, and the only file that knows RocksDB.
 *
 *     directory/            RocksDB's own files
 *     directory/ingest/     table files being written; what is left of a crash is deleted at open
 *
 * What is set and why (RocksDB 7.8.3):
 * - Two families beside the `default` that RocksDB insists on. `meta` lives in memtables and RocksDB's log, each batch
 *   synced. `chunks` never has a memtable: its files are ingested, overlap nothing, get sequence 0 and land at the
 *   bottom level, where no compaction has work. Ingestion asks for no snapshot consistency, since a live snapshot would
 *   make RocksDB rewrite the file's sequence number; iterators are consistent anyway, they pin a version.
 * - Chunks are not compressed (they are already) and read through mmap, so a value is a slice of the mapping. Block
 *   checksums are not verified on scans of `chunks`: a chunk carries its own, column by column, and RocksDB's would
 *   read the columns that nobody asked for.
 * - A data directory should cost what it holds: no preallocation (allow_fallocate), warnings only in its log,
 *   no statistics, and `meta` is flushed at close so that its log is dropped.
 * - RocksDB ends the process (an assertion of its file writer) when a write to its log or manifest meets a full disk.
 * So
 *   the free space is looked at before each use, and what could need more than there is says IMV_FULL instead.
 * - A write that failed latches in RocksDB: all that follow fail, too. So the next write closes the database and opens
 * it
 *   again, once there is room on the disk and no iterator is left; new iterators wait for that a while, and both give up
 *   after reopen_wait_ns. What is readable stays so all the time but for the moment of the reopening.
 * - The log's recovery mode tolerates a torn last record, which a power cut leaves, and nothing else. Logs are not
 *   recycled: in a recycled log a bad record in the middle looks like the end.
 */
#include "storage/kv.h"

#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum {
    KEY_BYTES_MAX = 128,         /* of `chunks`: drop_range builds the last key before its end from it */
    BLOCK_CACHE_BYTES = 8 << 20, /* serves `meta` alone: mapped blocks of `chunks` are not cached */
    META_MEMTABLE_BYTES = 4 << 20,
    META_BLOCK_BYTES = 16 << 10,
    CHUNKS_BLOCK_BYTES = 32 << 10, /* below it the index grows, above it a seek walks more keys */
    MANIFEST_BYTES_MAX = 16 << 20, /* must stay well above one record per table, or each ingestion rewrites it */
    /* Left free for RocksDB's own files: a few memtables of `meta` and what compacts them. A batch that only deletes is
     * what makes room, so it may use most of that; an open writes a new manifest and log. */
    SPACE_BYTES_MIN = 32 << 20,
    SPACE_TO_DELETE_BYTES_MIN = 1 << 20,
    CHECKSUM_XXH3 = 4, /* rocksdb::kXXH3, which the C API does not name */
    INFO_LOG_WARN = 2, /* the C API has no name; below it each open logs every option's value */
};

static const int64_t reopen_wait_ns = INT64_C(2000000000);

enum { DEFAULT_FAMILY = IMV_KV_FAMILIES, ALL_FAMILIES };
static const char *const family_names[ALL_FAMILIES] = {
    [IMV_KV_META] = "meta", [IMV_KV_CHUNKS] = "chunks", [DEFAULT_FAMILY] = "default"};

struct rocks {
    struct imv_kv kv; /* first: what callers hold */
    char *directory;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[ALL_FAMILIES];
    rocksdb_options_t *options[ALL_FAMILIES];
    rocksdb_cache_t *cache;
    rocksdb_readoptions_t *read_options[IMV_KV_FAMILIES];
    rocksdb_writeoptions_t *write_options;
    rocksdb_envoptions_t *table_env_options;
    rocksdb_ingestexternalfileoptions_t *ingest_options;
    _Atomic uint64_t tables_count; /* names of table files */
    _Atomic bool latched;          /* a write failed since the database was opened */
    uint64_t mappings_max;
    pthread_rwlock_t open_lock; /* held for reading while db is used, for writing while it is exchanged */
    pthread_mutex_t gate_lock;  /* taken before open_lock */
    pthread_cond_t gate_moved;
    uint32_t iterators; /* guarded by gate_lock */
    bool reopening;     /* guarded by gate_lock: new iterators wait */
};

struct rocks_iterator {
    struct imv_kv_iterator iterator; /* first */
    struct rocks *rocks;
    rocksdb_iterator_t *rocksdb;
};

struct rocks_table {
    struct imv_kv_table table;       /* first */
    rocksdb_sstfilewriter_t *writer; /* NULL: finished */
    bool ingested;
    char path[];
};

static const struct imv_kv_ops rocks_ops;
static const struct imv_kv_iterator_ops rocks_iterator_ops;
static const struct imv_kv_table_ops rocks_table_ops;

/* ---- errors ---- */

static imv_status status_of(const char *text) {
    static const struct {
        const char *prefix;
        imv_status status;
    } table[] = {
        {"Corruption", IMV_CORRUPT},       {"IO error", IMV_IO},
        {"Invalid argument", IMV_INVALID}, {"Not implemented", IMV_UNSUPPORTED},
        {"NotFound", IMV_NOT_FOUND},       {"Shutdown in progress", IMV_CLOSED},
        {"Resource busy", IMV_BUSY},       {"Operation timed out", IMV_TIMEOUT},
    };
    /* RocksDB reports a lock that another holds as an I/O error; there is one text for another process, one for
     * ours. */
    if (strstr(text, "While lock file") != NULL && strstr(text, strerror(EAGAIN)) != NULL) return IMV_BUSY;
    if (strstr(text, "lock hold by current process") != NULL) return IMV_BUSY;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strncmp(text, table[i].prefix, strlen(table[i].prefix)) == 0) return table[i].status;
    return IMV_IO;
}

/* Turns the text that RocksDB left, which it frees, into a status; IMV_OK when there is none. */
static imv_status take_error(char *text, const char *what, const char *directory, struct imv_error *err) {
    if (text == NULL) return IMV_OK;
    imv_status status = imv_fail(err, status_of(text), "kv: cannot %s in %s: %s", what, directory, text);
    rocksdb_free(text);
    return status;
}

static imv_status space_left(const char *directory, uint64_t *left, struct imv_error *err) {
    struct statvfs disk;
    if (statvfs(directory, &disk) != 0) return imv_fail_errno(err, IMV_IO, errno, "kv: cannot look at %s", directory);
    *left = (uint64_t)disk.f_bavail * disk.f_frsize;
    return IMV_OK;
}

/* IMV_FULL when less than bytes are free. Other users of the disk may take it at any time: this makes the bad case
 * rare. */
static imv_status check_space(const char *directory, uint64_t bytes, struct imv_error *err) {
    uint64_t left;
    IMV_TRY(space_left(directory, &left, err));
    if (left >= bytes) return IMV_OK;
    return imv_fail(err, IMV_FULL, "kv: the disk of %s is full: %llu bytes are left, %llu must stay free", directory,
                    (unsigned long long)left, (unsigned long long)bytes);
}

/* ---- open and close ---- */

/* Option names that the C API has no setter for. ttl=0: RocksDB would rewrite files because they are old. */
static rocksdb_options_t *options_new(struct imv_error *err) {
    rocksdb_options_t *base = rocksdb_options_create(), *options = rocksdb_options_create();
    char *text = NULL;
    rocksdb_get_options_from_string(base, "allow_fallocate=false;ttl=0;", options, &text);
    rocksdb_options_destroy(base);
    if (text == NULL) return options;
    take_error(text, "set options", "memory", err);
    rocksdb_options_destroy(options);
    return NULL;
}

static void set_database_options(rocksdb_options_t *options) {
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_max_open_files(options, -1);
    rocksdb_options_set_max_file_opening_threads(options, 2);
    rocksdb_options_set_max_background_jobs(options, 2);
    rocksdb_options_set_allow_mmap_reads(options, 1);
    rocksdb_options_set_wal_recovery_mode(options, rocksdb_tolerate_corrupted_tail_records_recovery);
    rocksdb_options_set_recycle_log_file_num(options, 0);
    rocksdb_options_set_max_total_wal_size(options, META_MEMTABLE_BYTES);
    rocksdb_options_set_max_manifest_file_size(options, MANIFEST_BYTES_MAX);
    rocksdb_options_set_keep_log_file_num(options, 1);
    rocksdb_options_set_info_log_level(options, INFO_LOG_WARN);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_stats_persist_period_sec(options, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
}

static void set_table_options(rocksdb_options_t *options, rocksdb_cache_t *cache, size_t block_bytes) {
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_size(table, block_bytes);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_checksum(table, CHECKSUM_XXH3);
    rocksdb_block_based_options_set_index_block_restart_interval(table, 16);
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static void set_family_options(rocksdb_options_t *options, rocksdb_cache_t *cache, int family) {
    bool meta = family == IMV_KV_META;
    rocksdb_options_set_compaction_style(options, rocksdb_level_compaction);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 0);
    rocksdb_options_set_max_write_buffer_number(options, 2);
    rocksdb_options_set_write_buffer_size(options, meta ? META_MEMTABLE_BYTES : 64 << 10);
    rocksdb_options_set_compression(options, meta ? rocksdb_lz4_compression : rocksdb_no_compression);
    set_table_options(options, cache, meta ? META_BLOCK_BYTES : CHUNKS_BLOCK_BYTES);
}

static imv_status make_options(struct rocks *rocks, struct imv_error *err) {
    rocks->cache = rocksdb_cache_create_lru(BLOCK_CACHE_BYTES);
    for (int family = 0; family < ALL_FAMILIES; family++) {
        rocks->options[family] = options_new(err);
        if (rocks->options[family] == NULL) return IMV_UNSUPPORTED;
        set_database_options(rocks->options[family]);
        set_family_options(rocks->options[family], rocks->cache, family);
    }
    for (int family = 0; family < IMV_KV_FAMILIES; family++) {
        rocksdb_readoptions_t *read = rocks->read_options[family] = rocksdb_readoptions_create();
        rocksdb_readoptions_set_total_order_seek(read, 1);
        rocksdb_readoptions_set_background_purge_on_iterator_cleanup(read, 1);
        rocksdb_readoptions_set_verify_checksums(read, family != IMV_KV_CHUNKS);
        rocksdb_readoptions_set_fill_cache(read, family != IMV_KV_CHUNKS);
    }
    rocks->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(rocks->write_options, 1);
    rocks->table_env_options = rocksdb_envoptions_create();
    rocks->ingest_options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(rocks->ingest_options, 1);
    rocksdb_ingestexternalfileoptions_set_snapshot_consistency(rocks->ingest_options, 0);
    rocksdb_ingestexternalfileoptions_set_allow_global_seqno(rocks->ingest_options, 1);
    rocksdb_ingestexternalfileoptions_set_allow_blocking_flush(rocks->ingest_options, 0);
    return IMV_OK;
}

static imv_status make_directory(const char *path, struct imv_error *err) {
    if (mkdir(path, 0700) == 0 || errno == EEXIST) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, errno, "kv: cannot make directory %s", path);
}

/* Deletes all files in a directory. */
static imv_status clear_directory(const char *path, struct imv_error *err) {
    DIR *entries = opendir(path);
    if (entries == NULL) return imv_fail_errno(err, IMV_IO, errno, "kv: cannot list %s", path);
    imv_status status = IMV_OK;
    for (struct dirent *entry; status == IMV_OK && (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(entries), entry->d_name, 0) != 0)
            status = imv_fail_errno(err, IMV_IO, errno, "kv: cannot delete %s/%s", path, entry->d_name);
    }
    closedir(entries);
    return status;
}

/* Only the holder of RocksDB's lock may do this: another process may be writing there. */
static imv_status clear_ingest_directory(const char *directory, struct imv_error *err) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/ingest", directory) >= PATH_MAX)
        return imv_fail(err, IMV_INVALID, "kv: the path %s is too long", directory);
    IMV_TRY(make_directory(path, err));
    return clear_directory(path, err);
}

static imv_status open_database(struct rocks *rocks, struct imv_error *err) {
    rocksdb_column_family_handle_t *handles[ALL_FAMILIES] = {0};
    char *text = NULL;
    rocks->db =
        rocksdb_open_column_families(rocks->options[DEFAULT_FAMILY], rocks->directory, ALL_FAMILIES, family_names,
                                     (const rocksdb_options_t *const *)rocks->options, handles, &text);
    imv_status status = take_error(text, "open the store", rocks->directory, err);
    /* A family or option that RocksDB refuses is a store of another version, not a caller's mistake. */
    if (status == IMV_INVALID) {
        if (err != NULL) err->status = IMV_UNSUPPORTED;
        return IMV_UNSUPPORTED;
    }
    if (status != IMV_OK) return status;
    memcpy(rocks->families, handles, sizeof handles);
    return IMV_OK;
}

static void close_database(struct rocks *rocks) {
    for (int family = 0; family < ALL_FAMILIES; family++) {
        if (rocks->families[family] != NULL) rocksdb_column_family_handle_destroy(rocks->families[family]);
        rocks->families[family] = NULL;
    }
    if (rocks->db != NULL) rocksdb_close(rocks->db);
    rocks->db = NULL;
}

static void rocks_free(struct rocks *rocks) {
    close_database(rocks);
    pthread_cond_destroy(&rocks->gate_moved);
    pthread_mutex_destroy(&rocks->gate_lock);
    pthread_rwlock_destroy(&rocks->open_lock);
    if (rocks->ingest_options != NULL) rocksdb_ingestexternalfileoptions_destroy(rocks->ingest_options);
    if (rocks->table_env_options != NULL) rocksdb_envoptions_destroy(rocks->table_env_options);
    if (rocks->write_options != NULL) rocksdb_writeoptions_destroy(rocks->write_options);
    for (int family = 0; family < IMV_KV_FAMILIES; family++)
        if (rocks->read_options[family] != NULL) rocksdb_readoptions_destroy(rocks->read_options[family]);
    for (int family = 0; family < ALL_FAMILIES; family++)
        if (rocks->options[family] != NULL) rocksdb_options_destroy(rocks->options[family]);
    if (rocks->cache != NULL) rocksdb_cache_destroy(rocks->cache);
    free(rocks->directory);
    free(rocks);
}

static void gate_init(struct rocks *rocks) {
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&rocks->gate_moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&rocks->gate_lock, NULL);
    pthread_rwlock_init(&rocks->open_lock, NULL);
}

static uint64_t mappings_max(void) {
    unsigned long long count = 65530; /* the kernel's default */
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file == NULL) return count;
    if (fscanf(file, "%llu", &count) != 1) count = 65530;
    fclose(file);
    return count;
}

imv_status imv_kv_open(const char *directory, struct imv_kv **kv, struct imv_error *err) {
    *kv = NULL;
    struct rocks *rocks = calloc(1, sizeof *rocks);
    if (rocks == NULL) return imv_fail(err, IMV_NO_MEMORY, "kv: no memory to open %s", directory);
    rocks->kv.ops = &rocks_ops;
    rocks->mappings_max = mappings_max();
    gate_init(rocks);
    rocks->directory = strdup(directory);
    imv_status status = IMV_OK;
    if (rocks->directory == NULL) status = imv_fail(err, IMV_NO_MEMORY, "kv: no memory to open %s", directory);
    if (status == IMV_OK) status = make_directory(directory, err);
    if (status == IMV_OK) status = check_space(directory, SPACE_TO_DELETE_BYTES_MIN, err);
    if (status == IMV_OK) status = make_options(rocks, err);
    if (status == IMV_OK) status = open_database(rocks, err);
    if (status == IMV_OK) status = clear_ingest_directory(directory, err);
    if (status != IMV_OK) {
        rocks_free(rocks);
        return status;
    }
    *kv = &rocks->kv;
    return IMV_OK;
}

static void rocks_close(struct imv_kv *kv) {
    struct rocks *rocks = (struct rocks *)kv;
    if (rocks->db == NULL) {
        rocks_free(rocks);
        return;
    }
    /* All is synced already: this only turns the log into a smaller table file, so a failure loses nothing. */
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    char *text = NULL;
    rocksdb_flush_cf(rocks->db, options, rocks->families[IMV_KV_META], &text);
    rocksdb_free(text);
    rocksdb_flushoptions_destroy(options);
    rocks_free(rocks);
}

/* ---- after a failed write ---- */

static struct timespec in_reopen_wait(void) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t nanoseconds = until.tv_nsec + reopen_wait_ns;
    return (struct timespec){until.tv_sec + nanoseconds / 1000000000, nanoseconds % 1000000000};
}

/* Closes and opens the database. Without one, should that fail, everything says so until it succeeds. */
static imv_status exchange_database(struct rocks *rocks, struct imv_error *err) {
    pthread_rwlock_wrlock(&rocks->open_lock);
    close_database(rocks);
    imv_status status = open_database(rocks, err);
    if (status == IMV_OK) atomic_store(&rocks->latched, false);
    pthread_rwlock_unlock(&rocks->open_lock);
    imv_log(status == IMV_OK ? IMV_LOG_WARN : IMV_LOG_ERROR, "kv", "%s is opened again after a failed write: %s",
            rocks->directory, status == IMV_OK ? "done" : err->message);
    return status;
}

static imv_status reopen(struct rocks *rocks, struct imv_error *err) {
    struct imv_error local;
    struct timespec until = in_reopen_wait();
    IMV_TRY(check_space(rocks->directory, SPACE_BYTES_MIN, err));
    pthread_mutex_lock(&rocks->gate_lock);
    rocks->reopening = true;
    int timed_out = 0;
    while (rocks->iterators > 0 && timed_out == 0)
        timed_out = pthread_cond_timedwait(&rocks->gate_moved, &rocks->gate_lock, &until);
    imv_status status = rocks->iterators > 0            ? imv_fail(err, IMV_BUSY,
                                                                   "kv: a write to %s failed before, and what is being "
                                                                              "read keeps it from being opened again",
                                                                   rocks->directory)
                        : !atomic_load(&rocks->latched) ? IMV_OK /* another thread did it */
                                                        : exchange_database(rocks, err != NULL ? err : &local);
    rocks->reopening = false;
    pthread_cond_broadcast(&rocks->gate_moved);
    pthread_mutex_unlock(&rocks->gate_lock);
    return status;
}

/* Begins the use of the database, until use_end. */
static imv_status use_begin(struct rocks *rocks, struct imv_error *err) {
    pthread_rwlock_rdlock(&rocks->open_lock);
    if (rocks->db != NULL) return IMV_OK;
    pthread_rwlock_unlock(&rocks->open_lock);
    return imv_fail(err, IMV_IO, "kv: %s could not be opened again after a failed write", rocks->directory);
}
static void use_end(struct rocks *rocks) { pthread_rwlock_unlock(&rocks->open_lock); }

/* The same for a write, which a failed one before it would make fail. */
static imv_status write_begin(struct rocks *rocks, struct imv_error *err) {
    if (atomic_load(&rocks->latched)) IMV_TRY(reopen(rocks, err));
    return use_begin(rocks, err);
}
static imv_status write_end(struct rocks *rocks, imv_status status) {
    if (status != IMV_OK) atomic_store(&rocks->latched, true);
    use_end(rocks);
    return status;
}

/* ---- reads and writes ---- */

static imv_status get_value(struct rocks *rocks, enum imv_kv_family family, struct imv_str key,
                            struct imv_buffer *value, struct imv_error *err) {
    char *text = NULL;
    rocksdb_pinnableslice_t *slice = rocksdb_get_pinned_cf(rocks->db, rocks->read_options[family],
                                                           rocks->families[family], key.data, key.size, &text);
    IMV_TRY(take_error(text, "get a key", rocks->directory, err));
    if (slice == NULL)
        return imv_fail(err, IMV_NOT_FOUND, "kv: no such key in %s of %s", family_names[family], rocks->directory);
    size_t size;
    const char *bytes = rocksdb_pinnableslice_value(slice, &size);
    imv_buffer_reset(value);
    bool fits = imv_buffer_append(value, bytes, size);
    rocksdb_pinnableslice_destroy(slice);
    return fits ? IMV_OK : imv_fail(err, IMV_NO_MEMORY, "kv: no room for a value of %zu bytes", size);
}

static imv_status rocks_get(struct imv_kv *kv, enum imv_kv_family family, struct imv_str key, struct imv_buffer *value,
                            struct imv_error *err) {
    struct rocks *rocks = (struct rocks *)kv;
    IMV_TRY(use_begin(rocks, err));
    imv_status status = get_value(rocks, family, key, value, err);
    use_end(rocks);
    return status;
}

/* What must be free for a batch: twice its bytes, for the log and the memtable's file, above what always stays free. */
static uint64_t batch_space(const struct imv_kv_change *changes, size_t count) {
    uint64_t bytes = 0;
    bool only_deletes = true;
    for (size_t i = 0; i < count; i++) {
        bytes += changes[i].key.size + changes[i].value.size;
        only_deletes = only_deletes && changes[i].value.data == NULL;
    }
    return 2 * bytes + (only_deletes ? SPACE_TO_DELETE_BYTES_MIN : SPACE_BYTES_MIN);
}

static imv_status rocks_write(struct imv_kv *kv, const struct imv_kv_change *changes, size_t count,
                              struct imv_error *err) {
    struct rocks *rocks = (struct rocks *)kv;
    IMV_TRY(check_space(rocks->directory, batch_space(changes, count), err));
    IMV_TRY(write_begin(rocks, err));
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (size_t i = 0; i < count; i++) {
        const struct imv_kv_change *change = &changes[i];
        rocksdb_column_family_handle_t *family = rocks->families[change->family];
        if (change->value.data == NULL)
            rocksdb_writebatch_delete_cf(batch, family, change->key.data, change->key.size);
        else
            rocksdb_writebatch_put_cf(batch, family, change->key.data, change->key.size, change->value.data,
                                      change->value.size);
    }
    char *text = NULL;
    rocksdb_write(rocks->db, rocks->write_options, batch, &text);
    rocksdb_writebatch_destroy(batch);
    return write_end(rocks, take_error(text, "write a batch", rocks->directory, err));
}

/* ---- iterators ---- */

/* A reopening that takes too long, because of those that were there before, is not waited for. */
static void iterator_count(struct rocks *rocks) {
    struct timespec until = in_reopen_wait();
    pthread_mutex_lock(&rocks->gate_lock);
    while (rocks->reopening && pthread_cond_timedwait(&rocks->gate_moved, &rocks->gate_lock, &until) == 0) {}
    rocks->iterators++;
    pthread_mutex_unlock(&rocks->gate_lock);
}

static void iterator_discount(struct rocks *rocks) {
    pthread_mutex_lock(&rocks->gate_lock);
    rocks->iterators--;
    if (rocks->reopening) pthread_cond_broadcast(&rocks->gate_moved);
    pthread_mutex_unlock(&rocks->gate_lock);
}

static imv_status rocks_iterate(struct imv_kv *kv, enum imv_kv_family family, struct imv_kv_iterator **iterator,
                                struct imv_error *err) {
    struct rocks *rocks = (struct rocks *)kv;
    struct rocks_iterator *made = malloc(sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "kv: no memory for an iterator");
    made->iterator.ops = &rocks_iterator_ops;
    made->rocks = rocks;
    iterator_count(rocks);
    imv_status status = use_begin(rocks, err);
    if (status != IMV_OK) {
        iterator_discount(rocks);
        free(made);
        return status;
    }
    made->rocksdb = rocksdb_create_iterator_cf(rocks->db, rocks->read_options[family], rocks->families[family]);
    use_end(rocks);
    *iterator = &made->iterator;
    return IMV_OK;
}

static rocksdb_iterator_t *rocksdb_of(const struct imv_kv_iterator *iterator) {
    return ((const struct rocks_iterator *)iterator)->rocksdb;
}
static void rocks_iterator_free(struct imv_kv_iterator *iterator) {
    rocksdb_iter_destroy(rocksdb_of(iterator));
    iterator_discount(((struct rocks_iterator *)iterator)->rocks);
    free(iterator);
}
static void rocks_seek(struct imv_kv_iterator *iterator, struct imv_str key) {
    rocksdb_iter_seek(rocksdb_of(iterator), key.data, key.size);
}
static void rocks_seek_for_previous(struct imv_kv_iterator *iterator, struct imv_str key) {
    rocksdb_iter_seek_for_prev(rocksdb_of(iterator), key.data, key.size);
}
static void rocks_next(struct imv_kv_iterator *iterator) { rocksdb_iter_next(rocksdb_of(iterator)); }
static void rocks_previous(struct imv_kv_iterator *iterator) { rocksdb_iter_prev(rocksdb_of(iterator)); }

static bool rocks_valid(const struct imv_kv_iterator *iterator, struct imv_str *key, struct imv_str *value) {
    if (!rocksdb_iter_valid(rocksdb_of(iterator))) return false;
    key->data = rocksdb_iter_key(rocksdb_of(iterator), &key->size);
    value->data = rocksdb_iter_value(rocksdb_of(iterator), &value->size);
    return true;
}

static imv_status rocks_iterator_status(const struct imv_kv_iterator *iterator, struct imv_error *err) {
    char *text = NULL;
    rocksdb_iter_get_error(rocksdb_of(iterator), &text);
    return take_error(text, "iterate", "the store", err);
}

/* ---- table files and ingestion ---- */

static imv_status rocks_table_new(struct imv_kv *kv, struct imv_kv_table **table, struct imv_error *err) {
    struct rocks *rocks = (struct rocks *)kv;
    IMV_TRY(check_space(rocks->directory, SPACE_BYTES_MIN, err));
    uint64_t number = atomic_fetch_add_explicit(&rocks->tables_count, 1, memory_order_relaxed);
    size_t path_bytes = strlen(rocks->directory) + 48;
    struct rocks_table *made = calloc(1, sizeof *made + path_bytes);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "kv: no memory for a table file");
    made->table.ops = &rocks_table_ops;
    snprintf(made->path, path_bytes, "%s/ingest/%06llu.sst", rocks->directory, (unsigned long long)number);
    made->writer = rocksdb_sstfilewriter_create(rocks->table_env_options, rocks->options[IMV_KV_CHUNKS]);
    char *text = NULL;
    rocksdb_sstfilewriter_open(made->writer, made->path, &text);
    imv_status status = take_error(text, "make a table file", rocks->directory, err);
    if (status != IMV_OK) {
        imv_kv_table_free(&made->table);
        return status;
    }
    *table = &made->table;
    return IMV_OK;
}

static imv_status rocks_table_put(struct imv_kv_table *table, struct imv_str key, struct imv_str value,
                                  struct imv_error *err) {
    struct rocks_table *rocks_table = (struct rocks_table *)table;
    imv_assert(key.size > 0 && key.size <= KEY_BYTES_MAX);
    char *text = NULL;
    rocksdb_sstfilewriter_put(rocks_table->writer, key.data, key.size, value.data, value.size, &text);
    return take_error(text, "add to a table file", rocks_table->path, err);
}

/* The writer syncs the file and then drops it from the page cache. Fresh data is what is read most, so ask for it back:
 * the kernel reads it behind our back, and a refusal costs nothing but a slower first query. */
static void warm_file(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
    close(fd);
}

static imv_status rocks_table_finish(struct imv_kv_table *table, uint64_t *file_bytes, struct imv_error *err) {
    struct rocks_table *rocks_table = (struct rocks_table *)table;
    char *text = NULL;
    rocksdb_sstfilewriter_finish(rocks_table->writer, &text);
    IMV_TRY(take_error(text, "finish a table file", rocks_table->path, err));
    rocksdb_sstfilewriter_file_size(rocks_table->writer, file_bytes);
    /* Its buffers are 100 KB and more; what is finished may wait for hundreds of others to be ingested with it. */
    rocksdb_sstfilewriter_destroy(rocks_table->writer);
    rocks_table->writer = NULL;
    warm_file(rocks_table->path);
    return IMV_OK;
}

static void rocks_table_free(struct imv_kv_table *table) {
    struct rocks_table *rocks_table = (struct rocks_table *)table;
    if (rocks_table->writer != NULL) rocksdb_sstfilewriter_destroy(rocks_table->writer);
    if (!rocks_table->ingested) unlink(rocks_table->path);
    free(rocks_table);
}

static imv_status rocks_ingest(struct imv_kv *kv, struct imv_kv_table **tables, size_t count, struct imv_error *err) {
    struct rocks *rocks = (struct rocks *)kv;
    IMV_TRY(check_space(rocks->directory, SPACE_BYTES_MIN, err));
    const char **paths = calloc(count, sizeof *paths);
    if (paths == NULL) return imv_fail(err, IMV_NO_MEMORY, "kv: no memory to ingest %zu tables", count);
    for (size_t i = 0; i < count; i++) {
        struct rocks_table *table = (struct rocks_table *)tables[i];
        imv_assert(table->writer == NULL && !table->ingested);
        paths[i] = table->path;
    }
    imv_status status = write_begin(rocks, err);
    if (status == IMV_OK) {
        char *text = NULL;
        rocksdb_ingest_external_file_cf(rocks->db, rocks->families[IMV_KV_CHUNKS], paths, count, rocks->ingest_options,
                                        &text);
        status = write_end(rocks, take_error(text, "ingest table files", rocks->directory, err));
    }
    free(paths);
    if (status != IMV_OK) return status;
    for (size_t i = 0; i < count; i++) ((struct rocks_table *)tables[i])->ingested = true;
    return IMV_OK;
}

/* RocksDB's range includes its end, ours does not: `last` becomes the greatest key below `to`, no key being longer than
 * KEY_BYTES_MAX. */
static size_t key_before(struct imv_str to, uint8_t last[KEY_BYTES_MAX]) {
    imv_assert(to.size > 0 && to.size <= KEY_BYTES_MAX);
    memcpy(last, to.data, to.size);
    if (last[to.size - 1] == 0) return to.size - 1;
    last[to.size - 1]--;
    memset(last + to.size, 0xff, KEY_BYTES_MAX - to.size);
    return KEY_BYTES_MAX;
}

static imv_status rocks_drop_range(struct imv_kv *kv, enum imv_kv_family family, struct imv_str from, struct imv_str to,
                                   struct imv_error *err) {
    struct rocks *rocks = (struct rocks *)kv;
    uint8_t last[KEY_BYTES_MAX];
    size_t last_bytes = key_before(to, last);
    IMV_TRY(write_begin(rocks, err));
    char *text = NULL;
    rocksdb_delete_file_in_range_cf(rocks->db, rocks->families[family], from.data, from.size, (const char *)last,
                                    last_bytes, &text);
    return write_end(rocks, take_error(text, "drop a range", rocks->directory, err));
}

/* ---- checkpoints ---- */

static imv_status rocks_checkpoint(struct imv_kv *kv, const char *directory, struct imv_error *err) {
    struct rocks *rocks = (struct rocks *)kv;
    IMV_TRY(check_space(rocks->directory, SPACE_BYTES_MIN, err)); /* it flushes `meta` and copies the manifest */
    IMV_TRY(write_begin(rocks, err));
    char *text = NULL;
    rocksdb_checkpoint_t *checkpoint = rocksdb_checkpoint_object_create(rocks->db, &text);
    if (text == NULL) rocksdb_checkpoint_create(checkpoint, directory, 0, &text);
    if (checkpoint != NULL) rocksdb_checkpoint_object_destroy(checkpoint);
    use_end(rocks);
    return take_error(text, "make a checkpoint", rocks->directory, err);
}

static imv_status remove_directory(const char *path, struct imv_error *err) {
    if (access(path, F_OK) != 0 && errno == ENOENT) return IMV_OK;
    IMV_TRY(clear_directory(path, err));
    return rmdir(path) == 0 ? IMV_OK : imv_fail_errno(err, IMV_IO, errno, "kv: cannot remove %s", path);
}

imv_status imv_kv_checkpoint_remove(const char *directory, struct imv_error *err) {
    char aside[PATH_MAX]; /* RocksDB makes it under this name and renames it */
    if (snprintf(aside, sizeof aside, "%s.tmp", directory) >= PATH_MAX)
        return imv_fail(err, IMV_INVALID, "kv: the path %s is too long", directory);
    IMV_TRY(remove_directory(aside, err));
    return remove_directory(directory, err);
}

/* ---- space ---- */

static imv_status rocks_space(struct imv_kv *kv, uint64_t *bytes, struct imv_error *err) {
    IMV_TRY(space_left(((struct rocks *)kv)->directory, bytes, err));
    *bytes -= *bytes < SPACE_BYTES_MIN ? *bytes : SPACE_BYTES_MIN;
    return IMV_OK;
}

/* ---- what is used ---- */

static uint64_t property(struct rocks *rocks, enum imv_kv_family family, const char *name) {
    uint64_t value;
    return rocksdb_property_int_cf(rocks->db, rocks->families[family], name, &value) == 0 ? value : 0;
}

static uint64_t tables_of(struct rocks *rocks, enum imv_kv_family family) {
    enum { LEVELS = 7 };
    uint64_t count = 0;
    for (int level = 0; level < LEVELS; level++) {
        char name[48];
        snprintf(name, sizeof name, "rocksdb.num-files-at-level%d", level);
        char *text = rocksdb_property_value_cf(rocks->db, rocks->families[family], name);
        if (text != NULL) count += strtoull(text, NULL, 10);
        rocksdb_free(text);
    }
    return count;
}

static void rocks_usage(struct imv_kv *kv, struct imv_kv_usage *usage) {
    struct rocks *rocks = (struct rocks *)kv;
    if (use_begin(rocks, NULL) != IMV_OK) return;
    usage->cache_bytes = rocksdb_cache_get_usage(rocks->cache);
    usage->cache_bytes_max = BLOCK_CACHE_BYTES;
    usage->memtable_bytes = property(rocks, IMV_KV_META, "rocksdb.cur-size-all-mem-tables");
    usage->memtable_bytes_max = 2 * META_MEMTABLE_BYTES;
    for (int family = 0; family < IMV_KV_FAMILIES; family++) {
        usage->index_bytes += property(rocks, family, "rocksdb.estimate-table-readers-mem");
        usage->tables += tables_of(rocks, family);
    }
    usage->tables_max = rocks->mappings_max;
    use_end(rocks);
}

static uint64_t rocks_free_bytes(struct imv_kv *kv) {
    uint64_t bytes;
    return space_left(((struct rocks *)kv)->directory, &bytes, NULL) == IMV_OK ? bytes : UINT64_MAX;
}

static const struct imv_kv_ops rocks_ops = {
    .close = rocks_close,
    .get = rocks_get,
    .write = rocks_write,
    .iterate = rocks_iterate,
    .table_new = rocks_table_new,
    .ingest = rocks_ingest,
    .drop_range = rocks_drop_range,
    .checkpoint = rocks_checkpoint,
    .space = rocks_space,
    .usage = rocks_usage,
    .free_bytes = rocks_free_bytes,
};
static const struct imv_kv_iterator_ops rocks_iterator_ops = {
    .free = rocks_iterator_free,
    .seek = rocks_seek,
    .seek_for_previous = rocks_seek_for_previous,
    .next = rocks_next,
    .previous = rocks_previous,
    .valid = rocks_valid,
    .status = rocks_iterator_status,
};
static const struct imv_kv_table_ops rocks_table_ops = {
    .put = rocks_table_put,
    .finish = rocks_table_finish,
    .free = rocks_table_free,
};

/* ---- the seam ---- */

void imv_kv_close(struct imv_kv *kv) {
    if (kv != NULL) kv->ops->close(kv);
}

imv_status imv_kv_get(struct imv_kv *kv, enum imv_kv_family family, struct imv_str key, struct imv_buffer *value,
                      struct imv_error *err) {
    return kv->ops->get(kv, family, key, value, err);
}

imv_status imv_kv_write(struct imv_kv *kv, const struct imv_kv_change *changes, size_t count, struct imv_error *err) {
    for (size_t i = 0; i < count; i++) imv_assert(changes[i].family == IMV_KV_META);
    return count == 0 ? IMV_OK : kv->ops->write(kv, changes, count, err);
}

imv_status imv_kv_iterate(struct imv_kv *kv, enum imv_kv_family family, struct imv_kv_iterator **iterator,
                          struct imv_error *err) {
    return kv->ops->iterate(kv, family, iterator, err);
}

void imv_kv_iterator_free(struct imv_kv_iterator *iterator) {
    if (iterator != NULL) iterator->ops->free(iterator);
}
void imv_kv_seek(struct imv_kv_iterator *iterator, struct imv_str key) { iterator->ops->seek(iterator, key); }
void imv_kv_seek_for_previous(struct imv_kv_iterator *iterator, struct imv_str key) {
    iterator->ops->seek_for_previous(iterator, key);
}
void imv_kv_next(struct imv_kv_iterator *iterator) { iterator->ops->next(iterator); }
void imv_kv_previous(struct imv_kv_iterator *iterator) { iterator->ops->previous(iterator); }

bool imv_kv_valid(const struct imv_kv_iterator *iterator, struct imv_str *key, struct imv_str *value) {
    return iterator->ops->valid(iterator, key, value);
}
imv_status imv_kv_status(const struct imv_kv_iterator *iterator, struct imv_error *err) {
    return iterator->ops->status(iterator, err);
}

imv_status imv_kv_table_new(struct imv_kv *kv, struct imv_kv_table **table, struct imv_error *err) {
    *table = NULL;
    return kv->ops->table_new(kv, table, err);
}
imv_status imv_kv_table_put(struct imv_kv_table *table, struct imv_str key, struct imv_str value,
                            struct imv_error *err) {
    return table->ops->put(table, key, value, err);
}
imv_status imv_kv_table_finish(struct imv_kv_table *table, uint64_t *file_bytes, struct imv_error *err) {
    return table->ops->finish(table, file_bytes, err);
}
void imv_kv_table_free(struct imv_kv_table *table) {
    if (table != NULL) table->ops->free(table);
}

imv_status imv_kv_ingest(struct imv_kv *kv, struct imv_kv_table **tables, size_t count, struct imv_error *err) {
    return count == 0 ? IMV_OK : kv->ops->ingest(kv, tables, count, err);
}

imv_status imv_kv_drop_range(struct imv_kv *kv, enum imv_kv_family family, struct imv_str from, struct imv_str to,
                             struct imv_error *err) {
    return kv->ops->drop_range(kv, family, from, to, err);
}

imv_status imv_kv_checkpoint(struct imv_kv *kv, const char *directory, struct imv_error *err) {
    if (kv->ops->checkpoint == NULL) return imv_fail(err, IMV_UNSUPPORTED, "kv: this store makes no checkpoints");
    return kv->ops->checkpoint(kv, directory, err);
}

imv_status imv_kv_space(struct imv_kv *kv, uint64_t *bytes, struct imv_error *err) {
    return kv->ops->space(kv, bytes, err);
}

void imv_kv_usage(struct imv_kv *kv, struct imv_kv_usage *usage) {
    *usage = (struct imv_kv_usage){0};
    if (kv->ops->usage != NULL) kv->ops->usage(kv, usage);
}

uint64_t imv_kv_free_bytes(struct imv_kv *kv) {
    return kv->ops->free_bytes == NULL ? UINT64_MAX : kv->ops->free_bytes(kv);
}
