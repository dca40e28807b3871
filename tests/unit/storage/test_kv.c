#include "storage/base/buffer.h"
#include "storage/base/prng.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct imv_error err;
#define OK(expression) cr_assert_eq((expression), IMV_OK, "%s: %s", #expression, err.message)

/* ---- a directory per test ---- */

static char directory[64];

static void make_place(void) {
    strcpy(directory, "/tmp/imv_test_kv_XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    strcat(directory, "/kv");
}

static void remove_place(void) {
    char command[128];
    *strrchr(directory, '/') = 0;
    snprintf(command, sizeof command, "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(kv, .init = make_place, .fini = remove_place);

/* A child process dies by itself when the test that made it fails and forgets it. */
static pid_t fork_child(void) {
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) alarm(30);
    return child;
}

static struct imv_kv *open_kv(void) {
    struct imv_kv *kv;
    OK(imv_kv_open(directory, &kv, &err));
    return kv;
}

static struct imv_kv_change put(const char *key, const char *value) {
    return (struct imv_kv_change){IMV_KV_META, imv_str_from(key), imv_str_from(value)};
}
static struct imv_kv_change delete (const char *key) {
    return (struct imv_kv_change){IMV_KV_META, imv_str_from(key), {NULL, 0}};
}

static void expect(struct imv_kv *kv, enum imv_kv_family family, const char *key, const char *value) {
    struct imv_buffer out;
    imv_buffer_init(&out, 1 << 20);
    imv_status status = imv_kv_get(kv, family, imv_str_from(key), &out, &err);
    if (value == NULL) {
        cr_assert_eq(status, IMV_NOT_FOUND, "%s is there", key);
    } else {
        cr_assert_eq(status, IMV_OK, "%s: %s", key, err.message);
        cr_assert(imv_str_equal(imv_buffer_view(&out), imv_str_from(value)), "%s", key);
    }
    imv_buffer_release(&out);
}

/* Ingests one table with the given keys, each its own value. */
static void ingest(struct imv_kv *kv, const char *const *keys, size_t count) {
    struct imv_kv_table *table;
    OK(imv_kv_table_new(kv, &table, &err));
    for (size_t i = 0; i < count; i++) OK(imv_kv_table_put(table, imv_str_from(keys[i]), imv_str_from(keys[i]), &err));
    uint64_t bytes;
    OK(imv_kv_table_finish(table, &bytes, &err));
    cr_assert_gt(bytes, 0);
    OK(imv_kv_ingest(kv, &table, 1, &err));
    imv_kv_table_free(table);
}

static size_t count_keys(struct imv_kv_iterator *iterator) {
    struct imv_str key, value;
    size_t count = 0;
    for (imv_kv_seek(iterator, (struct imv_str){"", 0}); imv_kv_valid(iterator, &key, &value); imv_kv_next(iterator))
        count++;
    OK(imv_kv_status(iterator, &err));
    return count;
}

static size_t count_family(struct imv_kv *kv, enum imv_kv_family family) {
    struct imv_kv_iterator *iterator;
    OK(imv_kv_iterate(kv, family, &iterator, &err));
    size_t count = count_keys(iterator);
    imv_kv_iterator_free(iterator);
    return count;
}

static size_t files_with(const char *folder, const char *suffix, char *first) {
    DIR *entries = opendir(folder);
    cr_assert_not_null(entries);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        size_t size = strlen(entry->d_name), end = strlen(suffix);
        if (entry->d_name[0] == '.' || size < end || strcmp(entry->d_name + size - end, suffix) != 0) continue;
        if (first != NULL) snprintf(first, 256, "%s/%.100s", folder, entry->d_name);
        count++;
    }
    closedir(entries);
    return count;
}

/* ---- what any store must do, RocksDB and the stand-in alike ---- */

static void check_basics(struct imv_kv *kv) {
    struct imv_kv_change batch[] = {put("a", "1"), put("b", "2"), put("c", "")};
    OK(imv_kv_write(kv, batch, 3, &err));
    expect(kv, IMV_KV_META, "a", "1");
    expect(kv, IMV_KV_META, "c", "");
    expect(kv, IMV_KV_CHUNKS, "a", NULL);
    struct imv_kv_change second[] = {delete ("a"), put("b", "3")};
    OK(imv_kv_write(kv, second, 2, &err));
    expect(kv, IMV_KV_META, "a", NULL);
    expect(kv, IMV_KV_META, "b", "3");
    OK(imv_kv_write(kv, NULL, 0, &err));
}

static void check_views(struct imv_kv *kv) {
    ingest(kv, (const char *const[]){"k1", "k2"}, 2);
    struct imv_kv_change change = put("m1", "x");
    OK(imv_kv_write(kv, &change, 1, &err));
    struct imv_kv_iterator *chunks, *meta;
    OK(imv_kv_iterate(kv, IMV_KV_CHUNKS, &chunks, &err));
    OK(imv_kv_iterate(kv, IMV_KV_META, &meta, &err));
    ingest(kv, (const char *const[]){"k3", "k4"}, 2);
    OK(imv_kv_drop_range(kv, IMV_KV_CHUNKS, IMV_STR("k1"), IMV_STR("k3"), &err));
    struct imv_kv_change changes[] = {put("m2", "y"), delete ("m1")};
    OK(imv_kv_write(kv, changes, 2, &err));
    cr_assert_eq(count_keys(chunks), 2);
    cr_assert_eq(count_keys(meta), 1);
    struct imv_str key, value;
    imv_kv_seek(chunks, IMV_STR("k2"));
    cr_assert(imv_kv_valid(chunks, &key, &value) && imv_str_equal(value, IMV_STR("k2")));
    imv_kv_iterator_free(chunks);
    imv_kv_iterator_free(meta);
    expect(kv, IMV_KV_CHUNKS, "k1", NULL);
    expect(kv, IMV_KV_CHUNKS, "k3", "k3");
    cr_assert_eq(count_family(kv, IMV_KV_CHUNKS), 2);
    cr_assert_eq(count_family(kv, IMV_KV_META), 1);
}

static void check_drop(struct imv_kv *kv) {
    ingest(kv, (const char *const[]){"a1", "a5"}, 2);
    ingest(kv, (const char *const[]){"b", "b1"}, 2);
    ingest(kv, (const char *const[]){"c1", "c2"}, 2);
    /* A file whose greatest key is the range's end is not within it. */
    OK(imv_kv_drop_range(kv, IMV_KV_CHUNKS, IMV_STR("a"), IMV_STR("a5"), &err));
    cr_assert_eq(count_family(kv, IMV_KV_CHUNKS), 6);
    OK(imv_kv_drop_range(kv, IMV_KV_CHUNKS, IMV_STR("a"), IMV_STR("b"), &err));
    cr_assert_eq(count_family(kv, IMV_KV_CHUNKS), 4);
    /* Nor is one that reaches out of it on either side. */
    OK(imv_kv_drop_range(kv, IMV_KV_CHUNKS, IMV_STR("b1"), IMV_STR("c2"), &err));
    cr_assert_eq(count_family(kv, IMV_KV_CHUNKS), 4);
    OK(imv_kv_drop_range(kv, IMV_KV_CHUNKS, (struct imv_str){"b\0", 1}, (struct imv_str){"b2\0", 3}, &err));
    cr_assert_eq(count_family(kv, IMV_KV_CHUNKS), 2);
    expect(kv, IMV_KV_CHUNKS, "c1", "c1");
}

static void on_memory(void (*check)(struct imv_kv *kv)) {
    struct imv_kv_memory *memory;
    struct imv_kv *kv;
    OK(imv_kv_memory_new(1, &memory, &err));
    OK(imv_kv_memory_open(memory, &kv, &err));
    check(kv);
    imv_kv_close(kv);
    imv_kv_memory_free(memory);
}

static void on_rocksdb(void (*check)(struct imv_kv *kv)) {
    struct imv_kv *kv = open_kv();
    check(kv);
    imv_kv_close(kv);
}

/* Batches apply whole; families are apart; an empty value is not an absent one. */
Test(kv, basics) {
    on_memory(check_basics);
    on_rocksdb(check_basics);
}

/* An iterator shows what was there when it was made, whatever is written, ingested or dropped later. */
Test(kv, views_stay) {
    on_memory(check_views);
    on_rocksdb(check_views);
}

/* A drop takes exactly the files within [from, to). */
Test(kv, drop_range_excludes_its_end) {
    on_memory(check_drop);
    on_rocksdb(check_drop);
}

/* ---- RocksDB against the stand-in ---- */

static void compare_iterators(struct imv_kv *a, struct imv_kv *b, enum imv_kv_family family, struct imv_prng *prng) {
    struct imv_kv_iterator *left, *right;
    OK(imv_kv_iterate(a, family, &left, &err));
    OK(imv_kv_iterate(b, family, &right, &err));
    for (int i = 0; i < 20; i++) {
        char text[32];
        int size =
            snprintf(text, sizeof text, "%02d/%03d", (int)imv_prng_below(prng, 60), (int)imv_prng_below(prng, 90));
        struct imv_str key, value, other_key, other_value, target = {text, (size_t)size};
        bool forwards = imv_prng_below(prng, 2);
        (forwards ? imv_kv_seek : imv_kv_seek_for_previous)(left, target);
        (forwards ? imv_kv_seek : imv_kv_seek_for_previous)(right, target);
        for (int step = 0; step < 10; step++) {
            bool there = imv_kv_valid(left, &key, &value);
            cr_assert_eq(there, imv_kv_valid(right, &other_key, &other_value));
            if (!there) break;
            cr_assert(imv_str_equal(key, other_key) && imv_str_equal(value, other_value));
            forwards = imv_prng_below(prng, 4) ? forwards : !forwards;
            (forwards ? imv_kv_next : imv_kv_previous)(left);
            (forwards ? imv_kv_next : imv_kv_previous)(right);
        }
        OK(imv_kv_status(left, &err));
    }
    cr_assert_eq(count_keys(left), count_keys(right));
    imv_kv_iterator_free(left);
    imv_kv_iterator_free(right);
}

static void write_both(struct imv_kv *const *kvs, struct imv_prng *prng) {
    char keys[8][16], values[8][16];
    struct imv_kv_change changes[8];
    size_t count = 1 + imv_prng_below(prng, 8);
    for (size_t i = 0; i < count; i++) {
        snprintf(keys[i], sizeof keys[i], "%02d/%03d", (int)imv_prng_below(prng, 60), (int)imv_prng_below(prng, 90));
        snprintf(values[i], sizeof values[i], "%llx", (unsigned long long)imv_prng_below(prng, 1 << 30));
        changes[i] = imv_prng_below(prng, 3) ? put(keys[i], values[i]) : delete (keys[i]);
    }
    for (int i = 0; i < 2; i++) OK(imv_kv_write(kvs[i], changes, count, &err));
}

/* One to three tables at once, each with a prefix that was never used. */
static void ingest_both(struct imv_kv *const *kvs, int *prefix, struct imv_prng *prng) {
    size_t tables_count = 1 + imv_prng_below(prng, 3);
    struct imv_kv_table *tables[2][3];
    for (size_t t = 0; t < tables_count; t++, ++*prefix) {
        for (int i = 0; i < 2; i++) OK(imv_kv_table_new(kvs[i], &tables[i][t], &err));
        for (int k = 0, keys = 1 + (int)imv_prng_below(prng, 80); k < keys; k++) {
            char key[16], value[4096];
            snprintf(key, sizeof key, "%02d/%03d", *prefix, k);
            size_t value_bytes = imv_prng_below(prng, sizeof value);
            memset(value, (int)imv_prng_below(prng, 256), value_bytes);
            for (int i = 0; i < 2; i++)
                OK(imv_kv_table_put(tables[i][t], imv_str_from(key), (struct imv_str){value, value_bytes}, &err));
        }
        uint64_t bytes;
        for (int i = 0; i < 2; i++) OK(imv_kv_table_finish(tables[i][t], &bytes, &err));
    }
    for (int i = 0; i < 2; i++) {
        OK(imv_kv_ingest(kvs[i], tables[i], tables_count, &err));
        for (size_t t = 0; t < tables_count; t++) imv_kv_table_free(tables[i][t]);
    }
}

/* Random writes, ingestions, drops and reopens leave RocksDB and the stand-in with the same content and order. */
Test(kv, same_as_the_stand_in) {
    uint64_t seed = 20240611;
    printf("seed %llu\n", (unsigned long long)seed);
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    struct imv_kv_memory *memory;
    OK(imv_kv_memory_new(seed, &memory, &err));
    struct imv_kv *kvs[2] = {open_kv()};
    OK(imv_kv_memory_open(memory, &kvs[1], &err));
    for (int step = 0, prefix = 0; step < 300; step++) {
        uint64_t draw = imv_prng_below(&prng, 20);
        if (draw < 10) {
            write_both(kvs, &prng);
        } else if (draw < 14 && prefix < 56) {
            ingest_both(kvs, &prefix, &prng);
        } else if (draw < 18) {
            char from[8], to[8];
            int low = (int)imv_prng_below(&prng, 60);
            snprintf(from, sizeof from, "%02d", low);
            snprintf(to, sizeof to, "%02d", low + (int)imv_prng_below(&prng, 3));
            for (int i = 0; i < 2; i++)
                OK(imv_kv_drop_range(kvs[i], IMV_KV_CHUNKS, imv_str_from(from), imv_str_from(to), &err));
        } else if (draw == 18) {
            imv_kv_close(kvs[0]);
            kvs[0] = open_kv();
        }
        compare_iterators(kvs[0], kvs[1], imv_prng_below(&prng, 2) ? IMV_KV_META : IMV_KV_CHUNKS, &prng);
    }
    imv_kv_close(kvs[0]);
    imv_kv_close(kvs[1]);
    imv_kv_memory_free(memory);
}

/* ---- RocksDB alone ---- */

/* A store that is open, here or in another process, is IMV_BUSY. */
Test(kv, second_opener_is_told) {
    struct imv_kv *kv = open_kv(), *second;
    cr_assert_eq(imv_kv_open(directory, &second, &err), IMV_BUSY);
    imv_kv_close(kv);
    int ready[2];
    cr_assert_eq(pipe(ready), 0);
    pid_t child = fork_child();
    if (child == 0) {
        kv = open_kv();
        if (write(ready[1], "!", 1) == 1) pause();
        _exit(1);
    }
    char byte;
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    cr_assert_eq(imv_kv_open(directory, &second, &err), IMV_BUSY, "%s", err.message);
    cr_assert_not_null(strstr(err.message, directory));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    imv_kv_close(open_kv());
}

/* What a write or an ingestion reported done is there after the process is gone without a close. */
Test(kv, survives_sudden_death) {
    pid_t child = fork_child();
    if (child == 0) {
        struct imv_kv *kv = open_kv();
        for (int i = 0; i < 50; i++) {
            char key[16];
            snprintf(key, sizeof key, "m%02d", i);
            struct imv_kv_change change = put(key, "value");
            OK(imv_kv_write(kv, &change, 1, &err));
        }
        ingest(kv, (const char *const[]){"k1", "k2"}, 2);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    cr_assert_eq(status, 0);
    struct imv_kv *kv = open_kv();
    cr_assert_eq(count_family(kv, IMV_KV_META), 50);
    cr_assert_eq(count_family(kv, IMV_KV_CHUNKS), 2);
    imv_kv_close(kv);
}

/* A table that is freed without being ingested, or left by a crash, leaves no file. */
Test(kv, table_leftovers_are_deleted) {
    struct imv_kv *kv = open_kv();
    char folder[128];
    snprintf(folder, sizeof folder, "%s/ingest", directory);
    struct imv_kv_table *table;
    OK(imv_kv_table_new(kv, &table, &err));
    OK(imv_kv_table_put(table, IMV_STR("k"), IMV_STR("v"), &err));
    cr_assert_eq(files_with(folder, ".sst", NULL), 1);
    imv_kv_table_free(table);
    cr_assert_eq(files_with(folder, ".sst", NULL), 0);
    ingest(kv, (const char *const[]){"k1", "k2"}, 2);
    cr_assert_eq(files_with(folder, ".sst", NULL), 0);
    imv_kv_close(kv);
    char leftover[160];
    snprintf(leftover, sizeof leftover, "%s/000007.sst", folder);
    close(open(leftover, O_WRONLY | O_CREAT, 0600));
    imv_kv_close(open_kv());
    cr_assert_eq(files_with(folder, "", NULL), 0);
}

/* Keys that do not rise are refused, and so is a table without keys. */
Test(kv, tables_are_checked) {
    struct imv_kv *kv = open_kv();
    struct imv_kv_table *table;
    OK(imv_kv_table_new(kv, &table, &err));
    OK(imv_kv_table_put(table, IMV_STR("b"), IMV_STR("v"), &err));
    cr_assert_eq(imv_kv_table_put(table, IMV_STR("a"), IMV_STR("v"), &err), IMV_INVALID);
    imv_kv_table_free(table);
    uint64_t bytes;
    OK(imv_kv_table_new(kv, &table, &err));
    cr_assert_eq(imv_kv_table_finish(table, &bytes, &err), IMV_INVALID);
    imv_kv_table_free(table);
    imv_kv_close(kv);
}

/* Ingested files stay the files they were: nothing rewrites them. */
Test(kv, ingested_files_are_not_rewritten) {
    struct imv_kv *kv = open_kv();
    for (int i = 0; i < 40; i++) {
        char keys[2][16];
        snprintf(keys[0], sizeof keys[0], "k%03d", (i * 7) % 40);
        snprintf(keys[1], sizeof keys[1], "k%03d.", (i * 7) % 40);
        ingest(kv, (const char *const[]){keys[0], keys[1]}, 2);
    }
    cr_assert_eq(files_with(directory, ".sst", NULL), 40);
    imv_kv_close(kv);
    kv = open_kv();
    usleep(200000);
    cr_assert_eq(files_with(directory, ".sst", NULL), 40);
    cr_assert_eq(count_family(kv, IMV_KV_CHUNKS), 80);
    imv_kv_close(kv);
}

static uint64_t disk_bytes(const char *folder) {
    DIR *entries = opendir(folder);
    uint64_t bytes = 0;
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        struct stat stat;
        fstatat(dirfd(entries), entry->d_name, &stat, 0);
        if (S_ISREG(stat.st_mode)) bytes += (uint64_t)stat.st_blocks * 512;
    }
    closedir(entries);
    return bytes;
}

/* A store costs little more than what is in it, open or closed, however often it is opened. */
Test(kv, footprint_is_small) {
    for (int i = 0; i < 8; i++) {
        struct imv_kv *kv = open_kv();
        struct imv_kv_change change = put("key", "value");
        OK(imv_kv_write(kv, &change, 1, &err));
        cr_assert_leq(disk_bytes(directory), 100 << 10, "open: %llu", (unsigned long long)disk_bytes(directory));
        imv_kv_close(kv);
    }
    cr_assert_leq(disk_bytes(directory), 100 << 10, "closed: %llu", (unsigned long long)disk_bytes(directory));
}

/* ---- damage ---- */

/* Fills `meta` and dies, so that its log is what the next open reads. Returns the log's path. */
static void leave_log(char *path) {
    pid_t child = fork_child();
    if (child == 0) {
        struct imv_kv *kv = open_kv();
        for (int i = 0; i < 20; i++) {
            char key[16], value[200];
            snprintf(key, sizeof key, "m%02d", i);
            memset(value, 'v', sizeof value);
            struct imv_kv_change change = {IMV_KV_META, imv_str_from(key), {value, sizeof value}};
            OK(imv_kv_write(kv, &change, 1, &err));
        }
        _exit(0);
    }
    waitpid(child, NULL, 0);
    cr_assert_eq(files_with(directory, ".log", path), 1);
}

/* A log cut inside its last record, as a power cut leaves it, opens with all records before that one. */
Test(kv, torn_log_opens) {
    char path[256];
    leave_log(path);
    struct stat stat_before;
    stat(path, &stat_before);
    cr_assert_eq(truncate(path, stat_before.st_size - 20), 0);
    struct imv_kv *kv = open_kv();
    cr_assert_eq(count_family(kv, IMV_KV_META), 19);
    imv_kv_close(kv);
}

static void flip(const char *path, off_t at) {
    int fd = open(path, O_RDWR);
    uint8_t byte;
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* A flipped bit in the middle of the log is corruption, not its end. */
Test(kv, damaged_log_is_reported) {
    char path[256];
    leave_log(path);
    struct stat stat_before;
    stat(path, &stat_before);
    flip(path, stat_before.st_size / 2);
    struct imv_kv *kv = NULL;
    cr_assert_eq(imv_kv_open(directory, &kv, &err), IMV_CORRUPT, "%s", err.message);
    cr_assert_null(kv);
}

/* A missing table file is corruption at open, not a hole in the data. */
Test(kv, missing_table_is_reported) {
    struct imv_kv *kv = open_kv();
    ingest(kv, (const char *const[]){"k1", "k2"}, 2);
    imv_kv_close(kv);
    char path[256];
    cr_assert_eq(files_with(directory, ".sst", path), 1);
    unlink(path);
    imv_status status = imv_kv_open(directory, &kv, &err);
    cr_assert(status == IMV_CORRUPT || status == IMV_IO, "%s", err.message);
}

/* ---- the stand-in's power cuts ---- */

/* A failing operation does nothing and the store goes on; a crash does all of it or nothing, and the dead handle only
 * fails until the next open. */
Test(kv, stand_in_faults) {
    bool seen[2] = {false, false};
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct imv_kv_memory *memory;
        struct imv_kv *kv;
        OK(imv_kv_memory_new(seed, &memory, &err));
        OK(imv_kv_memory_open(memory, &kv, &err));
        struct imv_kv_change first[] = {put("a", "1"), put("b", "1")}, second[] = {put("a", "2"), delete ("b")};
        OK(imv_kv_write(kv, first, 2, &err));
        imv_kv_memory_arm(memory, 2, IMV_KV_MEMORY_FAIL);
        cr_assert_eq(imv_kv_write(kv, second, 2, &err), IMV_IO);
        expect(kv, IMV_KV_META, "a", "1");
        expect(kv, IMV_KV_META, "b", "1");
        imv_kv_memory_arm(memory, 3, IMV_KV_MEMORY_CRASH);
        cr_assert_eq(imv_kv_write(kv, second, 2, &err), IMV_IO);
        struct imv_buffer out;
        imv_buffer_init(&out, 16);
        cr_assert_eq(imv_kv_get(kv, IMV_KV_META, IMV_STR("a"), &out, &err), IMV_IO);
        imv_buffer_release(&out);
        imv_kv_close(kv);
        imv_kv_memory_crash(memory);
        OK(imv_kv_memory_open(memory, &kv, &err));
        bool happened = count_family(kv, IMV_KV_META) == 1;
        seen[happened] = true;
        expect(kv, IMV_KV_META, "a", happened ? "2" : "1");
        expect(kv, IMV_KV_META, "b", happened ? NULL : "1");
        cr_assert_eq(imv_kv_memory_operations(memory), 3);
        imv_kv_close(kv);
        imv_kv_memory_free(memory);
    }
    cr_assert(seen[0] && seen[1]);
}

/* A checkpoint is a store of its own with what there was: later changes of either do not reach the other, files that
 * are dropped meanwhile stay in it, and removing it leaves the store whole. */
Test(kv, a_checkpoint_is_a_store_of_its_own) {
    static const char *const keys[] = {"a1", "a2"};
    struct imv_kv *kv = open_kv(), *copy;
    char path[80];
    snprintf(path, sizeof path, "%s-checkpoint", directory);
    struct imv_kv_change changes[] = {put("one", "1"), put("two", "2")};
    OK(imv_kv_write(kv, changes, 2, &err));
    ingest(kv, keys, 2);
    OK(imv_kv_checkpoint_remove(path, &err));
    OK(imv_kv_checkpoint(kv, path, &err));
    cr_assert_neq(imv_kv_checkpoint(kv, path, &err), IMV_OK, "it is there already");
    struct imv_kv_change later[] = {put("one", "11"), delete ("two")};
    OK(imv_kv_write(kv, later, 2, &err));
    OK(imv_kv_drop_range(kv, IMV_KV_CHUNKS, IMV_STR("a"), IMV_STR("b"), &err));
    OK(imv_kv_open(path, &copy, &err));
    expect(copy, IMV_KV_META, "one", "1");
    expect(copy, IMV_KV_META, "two", "2");
    expect(copy, IMV_KV_CHUNKS, "a2", "a2");
    expect(kv, IMV_KV_META, "one", "11");
    expect(kv, IMV_KV_META, "two", NULL);
    expect(kv, IMV_KV_CHUNKS, "a2", NULL);
    imv_kv_close(copy);
    char ingest_path[96];
    snprintf(ingest_path, sizeof ingest_path, "%s/ingest", path); /* opening it made this */
    cr_assert_eq(rmdir(ingest_path), 0);
    OK(imv_kv_checkpoint_remove(path, &err));
    cr_assert_neq(access(path, F_OK), 0);
    imv_kv_close(kv);
    kv = open_kv();
    expect(kv, IMV_KV_META, "one", "11");
    imv_kv_close(kv);
}

/* A write that failed does not end the store: when the cause is gone the next write succeeds, with what was
 * acknowledged before still there, also while something is being read, for which it waits. */
Test(kv, a_failed_write_is_recovered_from) {
    static char large[200000];
    struct imv_kv *kv = open_kv();
    struct imv_kv_iterator *iterator;
    memset(large, 'x', sizeof large - 1);
    struct imv_kv_change first[] = {put("one", "1")}, failing[] = {put("large", large)}, later[] = {put("two", "2")};
    OK(imv_kv_write(kv, first, 1, &err));
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    small = (struct rlimit){64 * 1024, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    cr_assert_eq(imv_kv_write(kv, failing, 1, &err), IMV_IO, "%s", err.message);
    expect(kv, IMV_KV_META, "one", "1");
    setrlimit(RLIMIT_FSIZE, &before);
    OK(imv_kv_iterate(kv, IMV_KV_META, &iterator, &err));
    cr_assert_eq(imv_kv_write(kv, later, 1, &err), IMV_BUSY, "%s", err.message);
    imv_kv_iterator_free(iterator);
    OK(imv_kv_write(kv, later, 1, &err));
    expect(kv, IMV_KV_META, "one", "1");
    expect(kv, IMV_KV_META, "two", "2");
    imv_kv_close(kv);
    kv = open_kv();
    expect(kv, IMV_KV_META, "one", "1");
    expect(kv, IMV_KV_META, "two", "2");
    imv_kv_close(kv);
}
