#include "engine/directory.h"

#include "engine/catalog.h"
#include "storage/base/hash.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

enum { FORMAT_VERSION = 1, FORMAT_BYTES_MAX = 256 };

static imv_status join(char path[PATH_MAX], const char *directory, const char *name, struct imv_error *err) {
    int size = snprintf(path, PATH_MAX, "%s/%s", directory, name);
    if (size < PATH_MAX) return IMV_OK;
    return imv_fail(err, IMV_INVALID, "data directory: the path %.64s... is too long", directory);
}

static imv_status refuse_data(void *context, const char *name, struct imv_error *err) {
    if (strcmp(name, "wal") != 0 && strcmp(name, "rocksdb") != 0) return IMV_OK;
    return imv_fail(err, IMV_CORRUPT, "data directory: %s holds %s but no FORMAT", (const char *)context, name);
}

/* Makes the entry of path itself durable. */
static imv_status sync_parent(struct imv_io *io, const char *path, struct imv_error *err) {
    char parent[PATH_MAX];
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/') size--;
    while (size > 0 && path[size - 1] != '/') size--;
    while (size > 1 && path[size - 1] == '/') size--;
    if (size == 0) return imv_io_sync_directory(io, ".", err);
    if (size >= sizeof parent) return imv_fail(err, IMV_INVALID, "data directory: the path %.64s... is too long", path);
    memcpy(parent, path, size);
    parent[size] = '\0';
    return imv_io_sync_directory(io, parent, err);
}

static imv_status format_write(struct imv_io *io, const char *path, uint32_t shards, struct imv_error *err) {
    char aside[PATH_MAX], final[PATH_MAX], text[FORMAT_BYTES_MAX];
    IMV_TRY(join(aside, path, "FORMAT.new", err));
    IMV_TRY(join(final, path, "FORMAT", err));
    int size = snprintf(text, sizeof text, "imvdb format=%d shards=%u", FORMAT_VERSION, shards);
    uint64_t checksum = imv_hash64(text, (size_t)size, 0);
    size += snprintf(text + size, sizeof text - (size_t)size, " checksum=%016" PRIx64 "\n", checksum);
    struct imv_file *file = NULL;
    IMV_TRY(imv_file_open(io, aside, IMV_OPEN_WRITE | IMV_OPEN_CREATE, &file, err));
    imv_status status = imv_file_truncate(file, 0, err);
    if (status == IMV_OK) status = imv_file_write(file, text, (size_t)size, 0, false, err);
    if (status == IMV_OK) status = imv_file_sync(file, err);
    imv_file_close(file);
    if (status == IMV_OK) status = imv_io_rename(io, aside, final, err);
    if (status == IMV_OK) status = imv_io_sync_directory(io, path, err);
    return status;
}

static imv_status format_parse(const char *path, const char *text, uint32_t *shards, struct imv_error *err) {
    unsigned version, count;
    int signed_bytes = 0;
    uint64_t checksum;
    if (sscanf(text, "imvdb format=%u", &version) != 1) {
        return imv_fail(err, IMV_CORRUPT, "data directory: %s/FORMAT is not of imvdb: %.40s", path, text);
    }
    if (version != FORMAT_VERSION) {
        return imv_fail(err, IMV_UNSUPPORTED, "data directory: %s is of format %u, this program knows %d", path,
                        version, FORMAT_VERSION);
    }
    int found =
        sscanf(text, "imvdb format=%u shards=%u%n checksum=%16" SCNx64, &version, &count, &signed_bytes, &checksum);
    if (found != 3 || imv_hash64(text, (size_t)signed_bytes, 0) != checksum || count < 1 || count > IMV_SHARDS_MAX) {
        return imv_fail(err, IMV_CORRUPT, "data directory: %s/FORMAT is damaged: %.80s", path, text);
    }
    *shards = count;
    return IMV_OK;
}

static imv_status format_read(struct imv_io *io, const char *path, uint32_t *shards, struct imv_error *err) {
    char name[PATH_MAX], text[FORMAT_BYTES_MAX];
    IMV_TRY(join(name, path, "FORMAT", err));
    struct imv_file *file = NULL;
    IMV_TRY(imv_file_open(io, name, IMV_OPEN_READ, &file, err));
    size_t size = 0;
    imv_status status = imv_file_read(file, text, sizeof text - 1, 0, &size, err);
    imv_file_close(file);
    if (status != IMV_OK) return status;
    text[size] = '\0';
    return format_parse(path, text, shards, err);
}

static imv_status lock_take(struct imv_io *io, const char *path, bool create, struct imv_file **lock,
                            struct imv_error *err) {
    char name[PATH_MAX];
    IMV_TRY(join(name, path, "LOCK", err));
    unsigned flags = IMV_OPEN_READ | IMV_OPEN_WRITE | (create ? IMV_OPEN_CREATE : 0);
    IMV_TRY(imv_file_open(io, name, flags, lock, err));
    imv_status status = imv_file_lock(*lock, err);
    if (status == IMV_OK) return IMV_OK;
    imv_file_close(*lock);
    *lock = NULL;
    if (status != IMV_BUSY) return status;
    return imv_fail(err, IMV_BUSY, "data directory: %s is open in another process", path);
}

imv_status imv_directory_open(struct imv_io *io, const char *path, uint32_t shards, struct imv_directory *directory,
                              struct imv_error *err) {
    *directory = (struct imv_directory){0};
    if (shards > 0) {
        IMV_TRY(imv_io_make_directory(io, path, err));
        IMV_TRY(sync_parent(io, path, err));
    }
    IMV_TRY(lock_take(io, path, shards > 0, &directory->lock, err));
    imv_status status = format_read(io, path, &directory->shards, err);
    if (status == IMV_NOT_FOUND && shards > 0) {
        status = imv_io_list(io, path, refuse_data, (void *)(uintptr_t)path, err);
        if (status == IMV_OK) status = format_write(io, path, shards, err);
        directory->shards = shards;
    }
    if (status != IMV_OK) imv_directory_close(directory);
    return status;
}

void imv_directory_close(struct imv_directory *directory) {
    imv_file_close(directory->lock);
    directory->lock = NULL;
}
