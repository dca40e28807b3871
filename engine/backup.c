#include "engine/backup.h"

#include "engine/backup_format.h"
#include "engine/engine_internal.h"
#include "storage/base/hash.h"
#include "storage/base/log.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIECE_BYTES = 256 * 1024 };

struct backup {
    struct imv_engine *engine;
    bool (*write)(void *context, const void *bytes, size_t size);
    void *context;
    struct imv_io *io; /* of this thread */
    struct imv_hasher *hasher;
    uint8_t *piece;
    struct imv_backup_file *files; /* in order of the stream */
    size_t files_count, files_capacity;
    uint64_t bytes;
};

static imv_status join(char path[PATH_MAX], const char *directory, const char *name, struct imv_error *err) {
    if (snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX) return IMV_OK;
    return imv_fail(err, IMV_INVALID, "backup: the path %.64s... is too long", directory);
}

imv_status imv_backup_clear(const char *directory, struct imv_error *err) {
    char path[PATH_MAX];
    IMV_TRY(join(path, directory, "checkpoint", err));
    return imv_kv_checkpoint_remove(path, err);
}

/* ---- the stream ---- */

static imv_status put(struct backup *backup, const void *bytes, size_t size, struct imv_error *err) {
    if (size == 0 || backup->write(backup->context, bytes, size)) return IMV_OK;
    return imv_fail(err, IMV_CANCELLED, "backup: nobody takes it any more");
}

static imv_status put_header(struct backup *backup, const char *name, uint64_t bytes, struct imv_error *err) {
    uint8_t block[IMV_TAR_BLOCK_BYTES];
    if (!imv_backup_name_valid(name) || !imv_tar_header_put(block, name, bytes))
        return imv_fail(err, IMV_UNSUPPORTED, "backup: %s of %" PRIu64 " bytes has no place in an archive", name,
                        bytes);
    return put(backup, block, sizeof block, err);
}

static imv_status put_padding(struct backup *backup, uint64_t bytes, struct imv_error *err) {
    static const uint8_t zeros[IMV_TAR_BLOCK_BYTES];
    return put(backup, zeros, imv_tar_padding(bytes), err);
}

static imv_status put_content(struct backup *backup, struct imv_file *file, struct imv_backup_file *entry,
                              struct imv_error *err) {
    imv_hasher_reset(backup->hasher);
    for (uint64_t at = 0; at < entry->bytes;) {
        size_t size = entry->bytes - at < PIECE_BYTES ? (size_t)(entry->bytes - at) : PIECE_BYTES, got;
        IMV_TRY(imv_file_read(file, backup->piece, size, at, &got, err));
        if (got != size) return imv_fail(err, IMV_IO, "backup: %s became shorter while it was read", entry->name);
        imv_hasher_add(backup->hasher, backup->piece, size);
        IMV_TRY(put(backup, backup->piece, size, err));
        at += size;
    }
    entry->hash = imv_hasher_value(backup->hasher);
    backup->bytes += entry->bytes;
    return put_padding(backup, entry->bytes, err);
}

static imv_status put_file(struct backup *backup, const char *path, struct imv_backup_file *entry,
                           struct imv_error *err) {
    struct imv_file *file;
    IMV_TRY(imv_file_open(backup->io, path, IMV_OPEN_READ, &file, err));
    imv_status status = imv_file_size(file, &entry->bytes, err);
    if (status == IMV_OK) status = put_header(backup, entry->name, entry->bytes, err);
    if (status == IMV_OK) status = put_content(backup, file, entry, err);
    imv_file_close(file);
    return status;
}

static imv_status put_manifest(struct backup *backup, struct imv_error *err) {
    static const uint8_t end[2 * IMV_TAR_BLOCK_BYTES];
    struct imv_buffer text;
    imv_buffer_init(&text, IMV_BACKUP_MANIFEST_BYTES_MAX);
    imv_backup_manifest_put(&text, backup->files, backup->files_count);
    imv_status status = text.failed ? imv_fail(err, IMV_NO_MEMORY, "backup: no memory for the manifest") : IMV_OK;
    if (status == IMV_OK) status = put_header(backup, "MANIFEST", text.size, err);
    if (status == IMV_OK) status = put(backup, text.data, text.size, err);
    if (status == IMV_OK) status = put_padding(backup, text.size, err);
    if (status == IMV_OK) status = put(backup, end, sizeof end, err);
    imv_buffer_release(&text);
    return status;
}

/* ---- what is in it ---- */

static imv_status list_file(struct backup *backup, const char *name, struct imv_error *err) {
    if (backup->files_count == backup->files_capacity) {
        size_t capacity = backup->files_capacity == 0 ? 256 : 2 * backup->files_capacity;
        struct imv_backup_file *files = realloc(backup->files, capacity * sizeof *files);
        if (files == NULL) return imv_fail(err, IMV_NO_MEMORY, "backup: no memory for a list of %zu files", capacity);
        backup->files = files;
        backup->files_capacity = capacity;
    }
    struct imv_backup_file *file = &backup->files[backup->files_count++];
    *file = (struct imv_backup_file){0};
    if ((size_t)snprintf(file->name, sizeof file->name, "%s", name) < sizeof file->name) return IMV_OK;
    return imv_fail(err, IMV_UNSUPPORTED, "backup: the name %s is too long", name);
}

static imv_status list_stored(void *context, const char *name, struct imv_error *err) {
    char path[NAME_MAX + 16];
    snprintf(path, sizeof path, "rocksdb/%s", name);
    return list_file(context, path, err);
}

static imv_status put_all(struct backup *backup, const char *checkpoint, struct imv_error *err) {
    char path[PATH_MAX];
    IMV_TRY(list_file(backup, "FORMAT", err));
    IMV_TRY(imv_io_list(backup->io, checkpoint, list_stored, backup, err));
    for (size_t i = 0; i < backup->files_count; i++) {
        struct imv_backup_file *file = &backup->files[i];
        IMV_TRY(i == 0 ? join(path, backup->engine->path, file->name, err)
                       : join(path, checkpoint, file->name + strlen("rocksdb/"), err));
        IMV_TRY(put_file(backup, path, file, err));
    }
    return put_manifest(backup, err);
}

/* ---- one backup ---- */

static imv_status checkpoint_make(struct imv_engine *engine, const char *path, struct imv_error *err) {
    imv_engine_lock(engine, IMV_RANK_FLUSH);
    imv_status status = imv_kv_checkpoint(engine->kv, path, err);
    imv_engine_unlock(engine, IMV_RANK_FLUSH);
    return status;
}

static imv_status run(struct backup *backup, int64_t flush_timeout_ns, struct imv_error *err) {
    struct imv_engine *engine = backup->engine;
    char path[PATH_MAX];
    backup->hasher = imv_hasher_new();
    backup->piece = malloc(PIECE_BYTES);
    if (backup->hasher == NULL || backup->piece == NULL) return imv_fail(err, IMV_NO_MEMORY, "backup: no memory");
    IMV_TRY(imv_io_sys_new(&backup->io, err));
    IMV_TRY(imv_backup_clear(engine->path, err));
    IMV_TRY(imv_engine_flush(engine, flush_timeout_ns, err));
    IMV_TRY(join(path, engine->path, "checkpoint", err));
    imv_status status = checkpoint_make(engine, path, err);
    if (status == IMV_OK) status = put_all(backup, path, err);
    imv_status removed = imv_backup_clear(engine->path, status == IMV_OK ? err : NULL);
    return status != IMV_OK ? status : removed;
}

imv_status imv_backup_run(struct imv_engine *engine, int64_t flush_timeout_ns,
                          bool (*write)(void *context, const void *bytes, size_t size), void *context,
                          struct imv_error *err) {
    if (atomic_exchange(&engine->backup_running, true))
        return imv_fail(err, IMV_BUSY, "backup: another one is under way");
    struct backup backup = {.engine = engine, .write = write, .context = context};
    imv_status status = run(&backup, flush_timeout_ns, err);
    if (status == IMV_OK) imv_log(IMV_LOG_INFO, "backup", "files=%zu bytes=%" PRIu64, backup.files_count, backup.bytes);
    if (backup.io != NULL) imv_io_free(backup.io);
    imv_hasher_free(backup.hasher);
    free(backup.piece);
    free(backup.files);
    atomic_store(&engine->backup_running, false);
    return status;
}
