#include "engine/restore.h"

#include "engine/backup_format.h"
#include "storage/base/assert.h"
#include "storage/base/hash.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIECE_BYTES = 256 * 1024 };

/* Where the archive stands. */
enum place { AT_HEADER, IN_CONTENT, IN_PADDING, AT_END };

struct imv_restore {
    char *directory;
    enum imv_restore_kind kind;
    struct imv_io *io;
    struct imv_hasher *hasher;
    uint8_t *piece;                /* of imv_restore_directory */
    struct imv_backup_file *files; /* taken, in order; MANIFEST is not among them */
    size_t files_count, files_capacity;
    uint64_t bytes;
    struct imv_buffer format, manifest; /* their text: both are written last */
    bool manifest_taken;
    /* The file under way. */
    char name[IMV_BACKUP_NAME_BYTES];
    uint64_t size, done;
    struct imv_file *file;   /* NULL: it goes into text */
    struct imv_buffer *text; /* NULL: it goes into file */
    /* The archive. */
    enum place place;
    uint8_t header[IMV_TAR_BLOCK_BYTES];
    size_t header_bytes, padding;
};

static imv_status join(char path[PATH_MAX], const char *directory, const char *name, struct imv_error *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX) return IMV_OK;
    return imv_fail(err, IMV_INVALID, "restore: the path %.64s... is too long", directory);
}

static imv_status refuse_entry(void *context, const char *name, struct imv_error *err) {
    return imv_fail(err, IMV_EXISTS, "restore: %s is not empty, it holds %s", (const char *)context, name);
}

static imv_status target_make(struct imv_restore *restore, struct imv_error *err) {
    char path[PATH_MAX];
    IMV_TRY(imv_io_sys_new(&restore->io, err));
    IMV_TRY(imv_io_make_directory(restore->io, restore->directory, err));
    IMV_TRY(imv_io_list(restore->io, restore->directory, refuse_entry, restore->directory, err));
    IMV_TRY(join(path, restore->directory, "rocksdb", err));
    return imv_io_make_directory(restore->io, path, err);
}

imv_status imv_restore_new(const char *directory, enum imv_restore_kind kind, struct imv_restore **restore,
                           struct imv_error *err) {
    struct imv_restore *made = calloc(1, sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "restore: no memory");
    made->kind = kind;
    made->directory = strdup(directory);
    made->hasher = imv_hasher_new();
    imv_buffer_init(&made->format, IMV_BACKUP_FORMAT_BYTES_MAX);
    imv_buffer_init(&made->manifest, IMV_BACKUP_MANIFEST_BYTES_MAX);
    imv_status status = made->directory == NULL || made->hasher == NULL
                            ? imv_fail(err, IMV_NO_MEMORY, "restore: no memory")
                            : target_make(made, err);
    if (status != IMV_OK) {
        imv_restore_free(made);
        return status;
    }
    *restore = made;
    return IMV_OK;
}

void imv_restore_free(struct imv_restore *restore) {
    if (restore == NULL) return;
    imv_file_close(restore->file);
    if (restore->io != NULL) imv_io_free(restore->io);
    imv_hasher_free(restore->hasher);
    imv_buffer_release(&restore->format);
    imv_buffer_release(&restore->manifest);
    free(restore->files);
    free(restore->piece);
    free(restore->directory);
    free(restore);
}

uint64_t imv_restore_bytes(const struct imv_restore *restore) { return restore->bytes; }
size_t imv_restore_files(const struct imv_restore *restore) { return restore->files_count; }

/* ---- files ---- */

static imv_status file_begin(struct imv_restore *restore, const char *name, uint64_t size, struct imv_error *err) {
    char path[PATH_MAX];
    imv_assert(imv_backup_name_valid(name) && restore->file == NULL);
    if (restore->manifest_taken) return imv_fail(err, IMV_CORRUPT, "restore: there is %s behind the MANIFEST", name);
    snprintf(restore->name, sizeof restore->name, "%s", name);
    restore->size = size;
    restore->done = 0;
    imv_hasher_reset(restore->hasher);
    restore->text = strcmp(name, "FORMAT") == 0     ? &restore->format
                    : strcmp(name, "MANIFEST") == 0 ? &restore->manifest
                                                    : NULL;
    if (restore->text != NULL) {
        if (size > restore->text->size_max || restore->text->size > 0)
            return imv_fail(err, IMV_CORRUPT, "restore: %s is too large or comes twice", name);
        return IMV_OK;
    }
    IMV_TRY(join(path, restore->directory, name, err));
    imv_status status =
        imv_file_open(restore->io, path, IMV_OPEN_WRITE | IMV_OPEN_CREATE | IMV_OPEN_EXCLUSIVE, &restore->file, err);
    return status != IMV_EXISTS ? status : imv_fail(err, IMV_CORRUPT, "restore: %s comes twice", name);
}

static imv_status file_take(struct imv_restore *restore, const void *bytes, size_t size, struct imv_error *err) {
    imv_assert(size <= restore->size - restore->done);
    imv_hasher_add(restore->hasher, bytes, size);
    if (restore->text != NULL) {
        if (!imv_buffer_append(restore->text, bytes, size))
            return imv_fail(err, IMV_NO_MEMORY, "restore: no memory for %s", restore->name);
    } else {
        IMV_TRY(imv_file_write(restore->file, bytes, size, restore->done, false, err));
    }
    restore->done += size;
    restore->bytes += size;
    return IMV_OK;
}

static imv_status file_end(struct imv_restore *restore, struct imv_error *err) {
    imv_assert(restore->done == restore->size);
    imv_status status = restore->file == NULL ? IMV_OK : imv_file_sync(restore->file, err);
    imv_file_close(restore->file);
    restore->file = NULL;
    restore->manifest_taken = restore->text == &restore->manifest;
    if (status != IMV_OK || restore->manifest_taken) return status;
    if (restore->files_count == restore->files_capacity) {
        size_t capacity = restore->files_capacity == 0 ? 256 : 2 * restore->files_capacity;
        struct imv_backup_file *files = realloc(restore->files, capacity * sizeof *files);
        if (files == NULL) return imv_fail(err, IMV_NO_MEMORY, "restore: no memory for a list of %zu files", capacity);
        restore->files = files;
        restore->files_capacity = capacity;
    }
    struct imv_backup_file *file = &restore->files[restore->files_count++];
    *file = (struct imv_backup_file){.bytes = restore->size, .hash = imv_hasher_value(restore->hasher)};
    memcpy(file->name, restore->name, sizeof file->name);
    return IMV_OK;
}

/* ---- from an archive ---- */

static imv_status header_end(struct imv_restore *restore, struct imv_error *err) {
    char name[IMV_BACKUP_NAME_BYTES];
    uint64_t size;
    bool end;
    restore->header_bytes = 0;
    IMV_TRY(imv_tar_header_get(restore->header, name, &size, &end, err));
    restore->place = end ? AT_END : IN_CONTENT;
    return end ? IMV_OK : file_begin(restore, name, size, err);
}

/* Takes what belongs to the place at hand; returns how many bytes that was. */
static imv_status take_some(struct imv_restore *restore, const uint8_t *bytes, size_t size, size_t *used,
                            struct imv_error *err) {
    switch (restore->place) {
        case AT_HEADER: {
            size_t missing = sizeof restore->header - restore->header_bytes;
            *used = size < missing ? size : missing;
            memcpy(restore->header + restore->header_bytes, bytes, *used);
            restore->header_bytes += *used;
            return restore->header_bytes == sizeof restore->header ? header_end(restore, err) : IMV_OK;
        }
        case IN_CONTENT: {
            uint64_t missing = restore->size - restore->done;
            *used = size < missing ? size : (size_t)missing;
            IMV_TRY(file_take(restore, bytes, *used, err));
            if (restore->done < restore->size) return IMV_OK;
            restore->padding = imv_tar_padding(restore->size);
            restore->place = restore->padding > 0 ? IN_PADDING : AT_HEADER;
            return file_end(restore, err);
        }
        case IN_PADDING:
            *used = size < restore->padding ? size : restore->padding;
            restore->padding -= *used;
            if (restore->padding == 0) restore->place = AT_HEADER;
            return IMV_OK;
        default: *used = size; return IMV_OK; /* tools pad archives at the end */
    }
}

imv_status imv_restore_take(struct imv_restore *restore, const void *bytes, size_t size, struct imv_error *err) {
    const uint8_t *at = bytes;
    while (size > 0) {
        size_t used;
        IMV_TRY(take_some(restore, at, size, &used, err));
        at += used;
        size -= used;
    }
    return IMV_OK;
}

/* ---- from a directory ---- */

static imv_status copy_content(struct imv_restore *restore, struct imv_file *file, struct imv_error *err) {
    while (restore->done < restore->size) {
        uint64_t missing = restore->size - restore->done;
        size_t size = missing < PIECE_BYTES ? (size_t)missing : PIECE_BYTES, got;
        IMV_TRY(imv_file_read(file, restore->piece, size, restore->done, &got, err));
        if (got != size) return imv_fail(err, IMV_CORRUPT, "restore: %s is cut short", restore->name);
        IMV_TRY(file_take(restore, restore->piece, size, err));
    }
    return file_end(restore, err);
}

static imv_status copy_file(struct imv_restore *restore, const char *backup, const char *name, struct imv_error *err) {
    char path[PATH_MAX];
    struct imv_file *file;
    uint64_t size;
    IMV_TRY(join(path, backup, name, err));
    imv_status status = imv_file_open(restore->io, path, IMV_OPEN_READ, &file, err);
    if (status == IMV_NOT_FOUND) return imv_fail(err, IMV_CORRUPT, "restore: the backup %s has no %s", backup, name);
    if (status != IMV_OK) return status;
    status = imv_file_size(file, &size, err);
    if (status == IMV_OK) status = file_begin(restore, name, size, err);
    if (status == IMV_OK) status = copy_content(restore, file, err);
    imv_file_close(file);
    return status;
}

imv_status imv_restore_directory(struct imv_restore *restore, const char *backup, struct imv_error *err) {
    restore->piece = malloc(PIECE_BYTES);
    if (restore->piece == NULL) return imv_fail(err, IMV_NO_MEMORY, "restore: no memory");
    IMV_TRY(copy_file(restore, backup, "MANIFEST", err));
    struct imv_backup_file *files;
    size_t count;
    IMV_TRY(imv_backup_manifest_get(imv_buffer_view(&restore->manifest), &files, &count, err));
    restore->manifest_taken = false; /* here it comes first */
    imv_status status = IMV_OK;
    for (size_t i = 0; i < count && status == IMV_OK; i++) status = copy_file(restore, backup, files[i].name, err);
    free(files);
    restore->manifest_taken = true;
    restore->place = AT_END;
    return status;
}

/* ---- the end ---- */

static imv_status compare(const struct imv_restore *restore, const struct imv_backup_file *files, size_t count,
                          struct imv_error *err) {
    for (size_t i = 0; i < count; i++) {
        const struct imv_backup_file *wanted = &files[i], *have = &restore->files[i];
        if (i >= restore->files_count || strcmp(wanted->name, have->name) != 0)
            return imv_fail(err, IMV_CORRUPT, "restore: the backup has no %s where its MANIFEST has it", wanted->name);
        if (wanted->bytes != have->bytes || wanted->hash != have->hash)
            return imv_fail(err, IMV_CORRUPT,
                            "restore: %s is damaged: %" PRIu64 " bytes with hash %016" PRIx64
                            ", the MANIFEST says %" PRIu64 " with %016" PRIx64,
                            wanted->name, have->bytes, have->hash, wanted->bytes, wanted->hash);
    }
    if (restore->files_count > count)
        return imv_fail(err, IMV_CORRUPT, "restore: the MANIFEST does not name %s", restore->files[count].name);
    return restore->format.size > 0 ? IMV_OK : imv_fail(err, IMV_CORRUPT, "restore: the backup has no FORMAT");
}

/* Writes a text aside, synced, and renames it to its name. */
static imv_status text_place(struct imv_restore *restore, const char *name, const struct imv_buffer *text,
                             struct imv_error *err) {
    char aside[PATH_MAX], path[PATH_MAX];
    struct imv_file *file;
    IMV_TRY(join(path, restore->directory, name, err));
    IMV_TRY(join(aside, restore->directory, "incomplete", err));
    IMV_TRY(imv_file_open(restore->io, aside, IMV_OPEN_WRITE | IMV_OPEN_CREATE | IMV_OPEN_EXCLUSIVE, &file, err));
    imv_status status = imv_file_write(file, text->data, text->size, 0, false, err);
    if (status == IMV_OK) status = imv_file_sync(file, err);
    imv_file_close(file);
    if (status == IMV_OK) status = imv_io_rename(restore->io, aside, path, err);
    return status == IMV_OK ? imv_io_sync_directory(restore->io, restore->directory, err) : status;
}

/* A data directory has a LOCK, which who only looks does not make. */
static imv_status lock_place(struct imv_restore *restore, struct imv_error *err) {
    char path[PATH_MAX];
    struct imv_file *file;
    IMV_TRY(join(path, restore->directory, "LOCK", err));
    IMV_TRY(imv_file_open(restore->io, path, IMV_OPEN_WRITE | IMV_OPEN_CREATE, &file, err));
    imv_file_close(file);
    return IMV_OK;
}

imv_status imv_restore_finish(struct imv_restore *restore, struct imv_error *err) {
    if (!restore->manifest_taken || restore->place != AT_END)
        return imv_fail(err, IMV_CORRUPT, "restore: the backup is cut short: there is no end to it");
    struct imv_backup_file *files;
    size_t count;
    char path[PATH_MAX];
    IMV_TRY(imv_backup_manifest_get(imv_buffer_view(&restore->manifest), &files, &count, err));
    imv_status status = compare(restore, files, count, err);
    free(files);
    if (status != IMV_OK) return status;
    IMV_TRY(join(path, restore->directory, "rocksdb", err));
    IMV_TRY(imv_io_sync_directory(restore->io, path, err));
    IMV_TRY(join(path, restore->directory, "..", err)); /* its own entry may be new */
    IMV_TRY(imv_io_sync_directory(restore->io, path, err));
    if (restore->kind == IMV_RESTORE_DATA) IMV_TRY(lock_place(restore, err));
    IMV_TRY(text_place(restore, "FORMAT", &restore->format, err));
    if (restore->kind == IMV_RESTORE_DATA) return IMV_OK;
    return text_place(restore, "MANIFEST", &restore->manifest, err);
}
