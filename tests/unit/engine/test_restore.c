#include "engine/restore.h"

#include "engine/backup_format.h"
#include "storage/base/hash.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- an archive, and a place for it ---- */

static char root[256];
static struct imv_buffer archive;

static void start(void) {
    test_directory(root, sizeof root, "restore");
    imv_buffer_init(&archive, 1 << 20);
}
static void stop(void) {
    test_directory_remove(root);
    imv_buffer_release(&archive);
}
TestSuite(restore, .init = start, .fini = stop, .timeout = 120);

struct part {
    const char *name, *text;
};
static const struct part usual[] = {{"FORMAT", "imvdb format=1\n"},
                                    {"rocksdb/000001.sst", "what a table file holds"},
                                    {"rocksdb/000002.sst", ""},
                                    {"rocksdb/CURRENT", "MANIFEST-000005\n"},
                                    {NULL, NULL}};

static void put_file(const char *name, struct imv_str text) {
    static const uint8_t zeros[IMV_TAR_BLOCK_BYTES];
    uint8_t block[IMV_TAR_BLOCK_BYTES];
    cr_assert(imv_tar_header_put(block, name, text.size));
    imv_buffer_append(&archive, block, sizeof block);
    imv_buffer_append_str(&archive, text);
    imv_buffer_append(&archive, zeros, imv_tar_padding(text.size));
}

/* The archive of parts whose MANIFEST names named; whole archives have both the same. */
static void fill(const struct part *parts, const struct part *named) {
    static const uint8_t end[2 * IMV_TAR_BLOCK_BYTES];
    struct imv_backup_file files[8] = {0};
    size_t count = 0;
    struct imv_buffer manifest;
    imv_buffer_reset(&archive);
    imv_buffer_init(&manifest, 4096);
    for (; parts->name != NULL; parts++) put_file(parts->name, imv_str_from(parts->text));
    for (; named->name != NULL; named++, count++) {
        snprintf(files[count].name, sizeof files[count].name, "%s", named->name);
        files[count].bytes = strlen(named->text);
        files[count].hash = imv_hash64(named->text, strlen(named->text), 0);
    }
    imv_backup_manifest_put(&manifest, files, count);
    put_file("MANIFEST", imv_buffer_view(&manifest));
    imv_buffer_append(&archive, end, sizeof end);
    imv_buffer_release(&manifest);
}

static const char *path_of(const char *target, const char *name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s/%s", root, target, name);
    return path;
}

static bool holds(const char *target, const char *name, const char *text) {
    char have[4096];
    int fd = open(path_of(target, name), O_RDONLY);
    if (fd < 0) return false;
    ssize_t size = read(fd, have, sizeof have);
    close(fd);
    return size == (ssize_t)strlen(text) && memcmp(have, text, strlen(text)) == 0;
}

/* Restores size bytes of the archive in pieces into a new directory of the root. */
static imv_status restore(const char *target, enum imv_restore_kind kind, size_t size, size_t piece,
                          struct imv_error *err) {
    struct imv_restore *made;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", root, target);
    test_directory_remove(path);
    cr_assert_eq(imv_restore_new(path, kind, &made, err), IMV_OK, "%s", err->message);
    char *copy = malloc(size == 0 ? 1 : size); /* reading beyond is seen */
    memcpy(copy, archive.data, size);
    imv_status status = IMV_OK;
    for (size_t at = 0; at < size && status == IMV_OK; at += piece)
        status = imv_restore_take(made, copy + at, size - at < piece ? size - at : piece, err);
    if (status == IMV_OK) status = imv_restore_finish(made, err);
    imv_restore_free(made);
    free(copy);
    return status;
}

static void check_whole(const char *target, bool with_manifest) {
    for (const struct part *part = usual; part->name != NULL; part++)
        cr_expect(holds(target, part->name, part->text), "%s", part->name);
    cr_expect_eq(access(path_of(target, "MANIFEST"), F_OK) == 0, with_manifest);
    cr_expect_neq(access(path_of(target, "incomplete"), F_OK), 0);
}

/* An archive in pieces of any size becomes the files that were put into it, as data or as a backup; from the directory
 * of the backup comes the same data. */
Test(restore, what_went_in_comes_out) {
    struct imv_error err;
    static const size_t pieces[] = {1, 7, 511, 512, 513, 1 << 20};
    fill(usual, usual);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        cr_assert_eq(restore("data", IMV_RESTORE_DATA, archive.size, pieces[i], &err), IMV_OK, "%s", err.message);
        check_whole("data", false);
    }
    cr_assert_eq(restore("backup", IMV_RESTORE_BACKUP, archive.size, 4096, &err), IMV_OK, "%s", err.message);
    check_whole("backup", true);
    struct imv_restore *made;
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/backup", root);
    snprintf(to, sizeof to, "%s/again", root);
    cr_assert_eq(imv_restore_new(to, IMV_RESTORE_DATA, &made, &err), IMV_OK);
    cr_assert_eq(imv_restore_directory(made, from, &err), IMV_OK, "%s", err.message);
    cr_assert_eq(imv_restore_finish(made, &err), IMV_OK, "%s", err.message);
    imv_restore_free(made);
    check_whole("again", false);
}

/* An archive that is cut short anywhere is no backup, and what it leaves neither starts as data nor restores. */
Test(restore, a_cut_archive_does_not_pass) {
    struct imv_error err;
    fill(usual, usual);
    size_t whole = archive.size - IMV_TAR_BLOCK_BYTES; /* one block of zeros ends it, too */
    for (size_t size = 0; size<whole; size += size % 512> 4 && size % 512 < 500 ? 37 : 1) {
        imv_status status = restore("data", size % 2 == 0 ? IMV_RESTORE_DATA : IMV_RESTORE_BACKUP, size, 4096, &err);
        cr_assert_eq(status, IMV_CORRUPT, "%zu: %s", size, err.message);
        cr_assert_neq(access(path_of("data", size % 2 == 0 ? "FORMAT" : "MANIFEST"), F_OK), 0);
    }
}

/* Any flipped byte is found, unless nothing depends on it: padding and the unused fields of headers. */
Test(restore, a_flipped_byte_is_found) {
    struct imv_error err;
    fill(usual, usual);
    int found = 0, tried = 0;
    for (size_t i = 0; i < archive.size; i++) {
        if (archive.data[i] == 0 && i % 61 != 0) continue; /* most zeros are padding */
        archive.data[i] ^= (char)(1 << i % 8);
        imv_status status = restore("data", IMV_RESTORE_DATA, archive.size, 1 << 20, &err);
        archive.data[i] ^= (char)(1 << i % 8);
        if (status == IMV_OK)
            check_whole("data", false);
        else
            cr_assert(status == IMV_CORRUPT || status == IMV_UNSUPPORTED, "%zu: %s", i, err.message);
        tried++;
        found += status != IMV_OK;
    }
    cr_assert_gt(found, tried * 9 / 10);
}

/* A file that is missing, too many, twice, in another's place or another than its MANIFEST says is named. */
Test(restore, what_differs_from_the_manifest_is_named) {
    struct imv_error err;
    static const struct part missing[] = {{"FORMAT", "f"}, {NULL, NULL}},
                             more[] = {{"FORMAT", "f"}, {"rocksdb/a", "1"}, {NULL, NULL}},
                             other[] = {{"FORMAT", "f"}, {"rocksdb/a", "2"}, {NULL, NULL}},
                             twice[] = {{"FORMAT", "f"}, {"rocksdb/a", "1"}, {"rocksdb/a", "1"}, {NULL, NULL}},
                             no_format[] = {{"rocksdb/a", "1"}, {NULL, NULL}};
    static const struct {
        const struct part *parts, *named;
        const char *reason;
    } cases[] = {{missing, more, "has no rocksdb/a"},
                 {more, missing, "does not name rocksdb/a"},
                 {other, more, "rocksdb/a is damaged"},
                 {twice, twice, "rocksdb/a comes twice"},
                 {no_format, no_format, "has no FORMAT"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fill(cases[i].parts, cases[i].named);
        cr_expect_eq(restore("data", IMV_RESTORE_DATA, archive.size, 4096, &err), IMV_CORRUPT);
        cr_expect_not_null(strstr(err.message, cases[i].reason), "%s", err.message);
    }
}

/* Nothing is written outside of the target, whatever an archive calls its files. */
Test(restore, names_cannot_escape) {
    struct imv_error err;
    static const char *const names[] = {"../x",       "/tmp/x", "rocksdb/../../x", "rocksdb/", "rocksdb/a/b", "rocksdb",
                                        "rocksdb/.x", "LOCK",   "wal/0-1.wal",     "",         "rocksdb/a b", "format"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        cr_expect_not(imv_backup_name_valid(names[i]), "%s", names[i]);
        imv_buffer_reset(&archive);
        put_file(names[i], IMV_STR("text"));
        cr_expect_eq(restore("data", IMV_RESTORE_DATA, archive.size, 4096, &err), IMV_CORRUPT, "%s", names[i]);
    }
    cr_expect_neq(access(path_of(".", "x"), F_OK), 0);
}

/* A directory with anything in it is refused and left as it is. */
Test(restore, a_directory_in_use_is_refused) {
    struct imv_error err;
    struct imv_restore *made;
    char path[512];
    snprintf(path, sizeof path, "%s/full", root);
    cr_assert_eq(mkdir(path, 0700), 0);
    close(open(path_of("full", "FORMAT"), O_CREAT | O_WRONLY, 0600));
    cr_assert_eq(imv_restore_new(path, IMV_RESTORE_DATA, &made, &err), IMV_EXISTS);
    cr_assert_not_null(strstr(err.message, "holds FORMAT"), "%s", err.message);
}

/* Every cut and every flipped byte of a manifest is refused, and no count makes it take memory for files it has not. */
Test(restore, a_manifest_is_checked) {
    struct imv_backup_file files[2] = {{"FORMAT", 15, 1}, {"rocksdb/000001.sst", UINT64_MAX, UINT64_MAX}}, *read;
    struct imv_buffer text;
    size_t count;
    imv_buffer_init(&text, 4096);
    imv_backup_manifest_put(&text, files, 2);
    cr_assert_eq(imv_backup_manifest_get(imv_buffer_view(&text), &read, &count, NULL), IMV_OK);
    cr_assert_eq(count, 2);
    for (int i = 0; i < 2; i++) {
        cr_assert_str_eq(read[i].name, files[i].name);
        cr_assert(read[i].bytes == files[i].bytes && read[i].hash == files[i].hash);
    }
    free(read);
    for (size_t size = 0; size < text.size; size++)
        cr_assert_eq(imv_backup_manifest_get((struct imv_str){text.data, size}, &read, &count, NULL), IMV_CORRUPT);
    for (size_t i = 0; i < text.size; i++) {
        for (int mask = 0x80; mask > 0; mask >>= 1) {
            text.data[i] ^= (char)mask;
            imv_status status = imv_backup_manifest_get(imv_buffer_view(&text), &read, &count, NULL);
            bool same_digit = status == IMV_OK && mask == 0x20; /* of a checksum in capitals */
            cr_assert(status == IMV_CORRUPT || status == IMV_UNSUPPORTED || same_digit, "byte %zu", i);
            if (status == IMV_OK) free(read);
            text.data[i] ^= (char)mask;
        }
    }
    imv_buffer_release(&text);
}
