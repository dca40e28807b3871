/* kv_memory.c - see the header. A family is a list of runs, each sorted by key; `meta` is a single run that is changed
 * in place, `chunks` one run per ingested table. Runs are reference-counted: an iterator merges copies of the
 * references at its start, so what happens later does not reach it. */
#include "tests/support/kv_memory.h"

#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/prng.h"

#include <pthread.h>
#include <stdlib.h>

struct record {
    size_t references; /* guarded by the memory's lock */
    size_t key_bytes, value_bytes;
    char bytes[]; /* key, then value */
};

struct run {
    size_t count, capacity;
    struct record **records;
};

struct imv_kv_memory {
    pthread_mutex_t lock;
    struct imv_prng prng;
    uint64_t operations, fault_at;
    enum imv_kv_memory_fault fault;
    uint64_t epoch; /* one more with each crash */
    bool crashed;   /* between an armed crash and imv_kv_memory_crash */
    bool opened;
    uint64_t space_bytes;
    struct run meta;
    struct run *tables; /* oldest first */
    size_t tables_count, iterators_count;
};

struct handle {
    struct imv_kv kv;
    struct imv_kv_memory *memory;
    uint64_t epoch;
};

struct memory_iterator {
    struct imv_kv_iterator iterator;
    struct imv_kv_memory *memory;
    struct run run;
    size_t position;   /* run.count and above: not valid */
    char *key, *value; /* copies of the current record, or NULL */
};

struct memory_table {
    struct imv_kv_table table;
    struct handle *handle;
    struct run run;
    uint64_t bytes;
    bool finished, ingested;
};

static struct imv_str key_of(const struct record *record) { return (struct imv_str){record->bytes, record->key_bytes}; }
static struct imv_str value_of(const struct record *record) {
    return (struct imv_str){record->bytes + record->key_bytes, record->value_bytes};
}

static struct record *record_new(struct imv_str key, struct imv_str value) {
    struct record *record = malloc(sizeof *record + key.size + value.size);
    imv_assert(record != NULL);
    *record = (struct record){.references = 1, .key_bytes = key.size, .value_bytes = value.size};
    memcpy(record->bytes, key.data, key.size);
    if (value.size > 0) memcpy(record->bytes + key.size, value.data, value.size);
    return record;
}

static void record_release(struct record *record) {
    if (--record->references == 0) free(record);
}

/* Index of the first record with a key >= key. */
static size_t run_find(const struct run *run, struct imv_str key, bool *found) {
    size_t low = 0, high = run->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (imv_str_compare(key_of(run->records[middle]), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < run->count && imv_str_equal(key_of(run->records[low]), key);
    return low;
}

static void run_insert(struct run *run, size_t at, struct record *record) {
    if (run->count == run->capacity) {
        run->capacity = run->capacity == 0 ? 16 : run->capacity * 2;
        run->records = realloc(run->records, run->capacity * sizeof *run->records);
        imv_assert(run->records != NULL);
    }
    memmove(run->records + at + 1, run->records + at, (run->count - at) * sizeof *run->records);
    run->records[at] = record;
    run->count++;
}

static void run_put(struct run *run, struct record *record) {
    bool found;
    size_t at = run_find(run, key_of(record), &found);
    if (!found) {
        run_insert(run, at, record);
        return;
    }
    record_release(run->records[at]);
    run->records[at] = record;
}

static void run_delete(struct run *run, struct imv_str key) {
    bool found;
    size_t at = run_find(run, key, &found);
    if (!found) return;
    record_release(run->records[at]);
    run->count--;
    memmove(run->records + at, run->records + at + 1, (run->count - at) * sizeof *run->records);
}

static void run_release(struct run *run) {
    for (size_t i = 0; i < run->count; i++) record_release(run->records[i]);
    free(run->records);
    *run = (struct run){0};
}

/* Puts references to all of from's records into run; they win over what is there. */
static void run_merge(struct run *run, const struct run *from) {
    struct run merged = {.capacity = run->count + from->count + 1};
    merged.records = malloc(merged.capacity * sizeof *merged.records);
    imv_assert(merged.records != NULL);
    size_t i = 0, k = 0;
    while (i < run->count || k < from->count) {
        int order = i == run->count    ? 1
                    : k == from->count ? -1
                                       : imv_str_compare(key_of(run->records[i]), key_of(from->records[k]));
        if (order == 0) record_release(run->records[i++]);
        struct record *record = order < 0 ? run->records[i++] : from->records[k++];
        if (order >= 0) record->references++;
        merged.records[merged.count++] = record;
    }
    free(run->records);
    *run = merged;
}

/* ---- the disk ---- */

imv_status imv_kv_memory_new(uint64_t seed, struct imv_kv_memory **memory, struct imv_error *err) {
    *memory = calloc(1, sizeof **memory);
    if (*memory == NULL) return imv_fail(err, IMV_NO_MEMORY, "kv_memory: no memory");
    pthread_mutex_init(&(*memory)->lock, NULL);
    (*memory)->space_bytes = UINT64_MAX;
    imv_prng_init(&(*memory)->prng, seed);
    return IMV_OK;
}

void imv_kv_memory_free(struct imv_kv_memory *memory) {
    if (memory == NULL) return;
    imv_assert(!memory->opened);
    run_release(&memory->meta);
    for (size_t i = 0; i < memory->tables_count; i++) run_release(&memory->tables[i]);
    free(memory->tables);
    pthread_mutex_destroy(&memory->lock);
    free(memory);
}

void imv_kv_memory_arm(struct imv_kv_memory *memory, uint64_t operation, enum imv_kv_memory_fault fault) {
    pthread_mutex_lock(&memory->lock);
    memory->fault_at = operation;
    memory->fault = fault;
    pthread_mutex_unlock(&memory->lock);
}

void imv_kv_memory_set_space(struct imv_kv_memory *memory, uint64_t bytes) { memory->space_bytes = bytes; }
uint64_t imv_kv_memory_operations(const struct imv_kv_memory *memory) { return memory->operations; }
size_t imv_kv_memory_tables(const struct imv_kv_memory *memory) { return memory->tables_count; }
size_t imv_kv_memory_iterators(const struct imv_kv_memory *memory) { return memory->iterators_count; }

void imv_kv_memory_crash(struct imv_kv_memory *memory) {
    pthread_mutex_lock(&memory->lock);
    memory->epoch++;
    memory->crashed = memory->opened = false;
    memory->fault_at = 0;
    pthread_mutex_unlock(&memory->lock);
}

static struct record *find_record(struct imv_kv_memory *memory, enum imv_kv_family family, struct imv_str key) {
    bool found = false;
    if (family == IMV_KV_META) {
        size_t at = run_find(&memory->meta, key, &found);
        return found ? memory->meta.records[at] : NULL;
    }
    for (size_t i = memory->tables_count; i-- > 0;) {
        size_t at = run_find(&memory->tables[i], key, &found);
        if (found) return memory->tables[i].records[at];
    }
    return NULL;
}

uint8_t *imv_kv_memory_bytes(struct imv_kv_memory *memory, enum imv_kv_family family, struct imv_str key,
                             size_t *size) {
    struct record *record = find_record(memory, family, key);
    if (record == NULL) return NULL;
    *size = record->value_bytes;
    return (uint8_t *)record->bytes + record->key_bytes;
}

/* ---- operations; every one holds the lock between begin and end ---- */

static imv_status begin(struct handle *handle, struct imv_error *err) {
    struct imv_kv_memory *memory = handle->memory;
    pthread_mutex_lock(&memory->lock);
    if (handle->epoch == memory->epoch && !memory->crashed) return IMV_OK;
    pthread_mutex_unlock(&memory->lock);
    return imv_fail(err, IMV_IO, "kv_memory: the power is off");
}

static void end(struct handle *handle) { pthread_mutex_unlock(&handle->memory->lock); }

/* As begin, for an operation that counts. *happens tells whether to do it; on a failure the lock is held all the same
 * when *happens is true. */
static imv_status begin_counted(struct handle *handle, bool *happens, struct imv_error *err) {
    struct imv_kv_memory *memory = handle->memory;
    *happens = false;
    IMV_TRY(begin(handle, err));
    memory->operations++;
    if (memory->operations != memory->fault_at) {
        *happens = true;
        return IMV_OK;
    }
    if (memory->fault == IMV_KV_MEMORY_CRASH) {
        memory->crashed = true;
        *happens = imv_prng_below(&memory->prng, 2) == 1;
    }
    if (!*happens) end(handle);
    return imv_fail(err, IMV_IO, "kv_memory: armed fault at operation %llu", (unsigned long long)memory->fault_at);
}

static void memory_close(struct imv_kv *kv) {
    struct handle *handle = (struct handle *)kv;
    pthread_mutex_lock(&handle->memory->lock);
    if (handle->epoch == handle->memory->epoch) handle->memory->opened = false;
    pthread_mutex_unlock(&handle->memory->lock);
    free(handle);
}

static imv_status memory_get(struct imv_kv *kv, enum imv_kv_family family, struct imv_str key, struct imv_buffer *value,
                             struct imv_error *err) {
    struct handle *handle = (struct handle *)kv;
    IMV_TRY(begin(handle, err));
    struct record *record = find_record(handle->memory, family, key);
    imv_buffer_reset(value);
    imv_status status = IMV_OK;
    if (record == NULL)
        status = imv_fail(err, IMV_NOT_FOUND, "kv_memory: no such key");
    else if (!imv_buffer_append_str(value, value_of(record)))
        status = imv_fail(err, IMV_NO_MEMORY, "kv_memory: no room for a value");
    end(handle);
    return status;
}

static imv_status memory_write(struct imv_kv *kv, const struct imv_kv_change *changes, size_t count,
                               struct imv_error *err) {
    struct handle *handle = (struct handle *)kv;
    bool happens;
    imv_status status = begin_counted(handle, &happens, err);
    if (!happens) return status;
    for (size_t i = 0; i < count; i++) {
        if (changes[i].value.data == NULL)
            run_delete(&handle->memory->meta, changes[i].key);
        else
            run_put(&handle->memory->meta, record_new(changes[i].key, changes[i].value));
    }
    end(handle);
    return status;
}

/* ---- iterators ---- */

static void drop_copies(struct memory_iterator *iterator) {
    free(iterator->key);
    free(iterator->value);
    iterator->key = iterator->value = NULL;
}

static void copy_current(struct memory_iterator *iterator) {
    drop_copies(iterator);
    if (iterator->position >= iterator->run.count) return;
    const struct record *record = iterator->run.records[iterator->position];
    iterator->key = malloc(record->key_bytes + 1);
    iterator->value = malloc(record->value_bytes + 1);
    imv_assert(iterator->key != NULL && iterator->value != NULL);
    /* Values lie unaligned in a mapped file too. */
    memcpy(iterator->key, key_of(record).data, record->key_bytes);
    memcpy(iterator->value + 1, value_of(record).data, record->value_bytes);
}

static void iterator_free(struct imv_kv_iterator *base) {
    struct memory_iterator *iterator = (struct memory_iterator *)base;
    pthread_mutex_lock(&iterator->memory->lock);
    run_release(&iterator->run);
    iterator->memory->iterators_count--;
    pthread_mutex_unlock(&iterator->memory->lock);
    drop_copies(iterator);
    free(iterator);
}

static void iterator_seek(struct imv_kv_iterator *base, struct imv_str key) {
    struct memory_iterator *iterator = (struct memory_iterator *)base;
    bool found;
    iterator->position = run_find(&iterator->run, key, &found);
    copy_current(iterator);
}

static void iterator_seek_for_previous(struct imv_kv_iterator *base, struct imv_str key) {
    struct memory_iterator *iterator = (struct memory_iterator *)base;
    bool found;
    size_t at = run_find(&iterator->run, key, &found);
    iterator->position = found ? at : at - 1; /* below 0 wraps to an end */
    copy_current(iterator);
}

static void iterator_next(struct imv_kv_iterator *base) {
    struct memory_iterator *iterator = (struct memory_iterator *)base;
    imv_assert(iterator->key != NULL);
    iterator->position++;
    copy_current(iterator);
}

static void iterator_previous(struct imv_kv_iterator *base) {
    struct memory_iterator *iterator = (struct memory_iterator *)base;
    imv_assert(iterator->key != NULL);
    iterator->position--;
    copy_current(iterator);
}

static bool iterator_valid(const struct imv_kv_iterator *base, struct imv_str *key, struct imv_str *value) {
    const struct memory_iterator *iterator = (const struct memory_iterator *)base;
    if (iterator->key == NULL) return false;
    const struct record *record = iterator->run.records[iterator->position];
    *key = (struct imv_str){iterator->key, record->key_bytes};
    *value = (struct imv_str){iterator->value + 1, record->value_bytes};
    return true;
}

static imv_status iterator_status(const struct imv_kv_iterator *base, struct imv_error *err) {
    (void)base;
    (void)err;
    return IMV_OK;
}

static const struct imv_kv_iterator_ops iterator_ops = {
    .free = iterator_free,
    .seek = iterator_seek,
    .seek_for_previous = iterator_seek_for_previous,
    .next = iterator_next,
    .previous = iterator_previous,
    .valid = iterator_valid,
    .status = iterator_status,
};

static imv_status memory_iterate(struct imv_kv *kv, enum imv_kv_family family, struct imv_kv_iterator **iterator,
                                 struct imv_error *err) {
    struct handle *handle = (struct handle *)kv;
    struct imv_kv_memory *memory = handle->memory;
    IMV_TRY(begin(handle, err));
    struct memory_iterator *made = calloc(1, sizeof *made);
    imv_assert(made != NULL);
    made->iterator.ops = &iterator_ops;
    made->memory = memory;
    if (family == IMV_KV_META) run_merge(&made->run, &memory->meta);
    for (size_t i = 0; family == IMV_KV_CHUNKS && i < memory->tables_count; i++)
        run_merge(&made->run, &memory->tables[i]);
    made->position = made->run.count;
    memory->iterators_count++;
    end(handle);
    *iterator = &made->iterator;
    return IMV_OK;
}

/* ---- tables ---- */

static imv_status table_put(struct imv_kv_table *base, struct imv_str key, struct imv_str value,
                            struct imv_error *err) {
    struct memory_table *table = (struct memory_table *)base;
    size_t count = table->run.count;
    imv_assert(!table->finished && key.size > 0);
    if (count > 0 && imv_str_compare(key_of(table->run.records[count - 1]), key) >= 0)
        return imv_fail(err, IMV_INVALID, "kv_memory: keys of a table must rise strictly");
    run_insert(&table->run, count, record_new(key, value));
    table->bytes += key.size + value.size;
    return IMV_OK;
}

static imv_status table_finish(struct imv_kv_table *base, uint64_t *file_bytes, struct imv_error *err) {
    struct memory_table *table = (struct memory_table *)base;
    if (table->run.count == 0) return imv_fail(err, IMV_INVALID, "kv_memory: a table without keys");
    bool happens;
    imv_status status = begin_counted(table->handle, &happens, err);
    if (happens) end(table->handle);
    table->finished = status == IMV_OK;
    *file_bytes = table->bytes;
    return status;
}

static void table_free(struct imv_kv_table *base) {
    struct memory_table *table = (struct memory_table *)base;
    run_release(&table->run);
    free(table);
}

static const struct imv_kv_table_ops table_ops = {.put = table_put, .finish = table_finish, .free = table_free};

static imv_status memory_table_new(struct imv_kv *kv, struct imv_kv_table **table, struct imv_error *err) {
    struct memory_table *made = calloc(1, sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "kv_memory: no memory for a table");
    made->table.ops = &table_ops;
    made->handle = (struct handle *)kv;
    *table = &made->table;
    return IMV_OK;
}

static imv_status memory_ingest(struct imv_kv *kv, struct imv_kv_table **tables, size_t count, struct imv_error *err) {
    struct handle *handle = (struct handle *)kv;
    struct imv_kv_memory *memory = handle->memory;
    bool happens;
    imv_status status = begin_counted(handle, &happens, err);
    if (!happens) return status;
    memory->tables = realloc(memory->tables, (memory->tables_count + count) * sizeof *memory->tables);
    imv_assert(memory->tables != NULL);
    for (size_t i = 0; i < count; i++) {
        struct memory_table *table = (struct memory_table *)tables[i];
        imv_assert(table->finished && !table->ingested);
        table->ingested = true;
        memory->tables[memory->tables_count++] = table->run;
        table->run = (struct run){0};
    }
    end(handle);
    return status;
}

static bool within(struct imv_str key, struct imv_str from, struct imv_str to) {
    return imv_str_compare(key, from) >= 0 && imv_str_compare(key, to) < 0;
}

static imv_status memory_drop_range(struct imv_kv *kv, enum imv_kv_family family, struct imv_str from,
                                    struct imv_str to, struct imv_error *err) {
    struct handle *handle = (struct handle *)kv;
    struct imv_kv_memory *memory = handle->memory;
    bool happens;
    imv_status status = begin_counted(handle, &happens, err);
    if (!happens) return status;
    size_t kept = 0;
    for (size_t i = 0; i < memory->tables_count; i++) {
        struct run *table = &memory->tables[i];
        bool drop = family == IMV_KV_CHUNKS && within(key_of(table->records[0]), from, to) &&
                    within(key_of(table->records[table->count - 1]), from, to);
        if (drop)
            run_release(table);
        else
            memory->tables[kept++] = *table;
    }
    memory->tables_count = kept;
    end(handle);
    return status;
}

static imv_status memory_space(struct imv_kv *kv, uint64_t *bytes, struct imv_error *err) {
    struct handle *handle = (struct handle *)kv;
    IMV_TRY(begin(handle, err));
    *bytes = handle->memory->space_bytes;
    end(handle);
    return IMV_OK;
}

static const struct imv_kv_ops memory_ops = {
    .close = memory_close,
    .get = memory_get,
    .write = memory_write,
    .iterate = memory_iterate,
    .table_new = memory_table_new,
    .ingest = memory_ingest,
    .drop_range = memory_drop_range,
    .space = memory_space,
};

imv_status imv_kv_memory_open(struct imv_kv_memory *memory, struct imv_kv **kv, struct imv_error *err) {
    if (memory->opened) return imv_fail(err, IMV_BUSY, "kv_memory: already open");
    struct handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL) return imv_fail(err, IMV_NO_MEMORY, "kv_memory: no memory");
    *handle = (struct handle){.kv.ops = &memory_ops, .memory = memory, .epoch = memory->epoch};
    memory->opened = true;
    *kv = &handle->kv;
    return IMV_OK;
}
