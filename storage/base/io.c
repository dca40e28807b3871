#include "storage/base/io.h"

#include "storage/base/assert.h"

imv_status imv_file_open(struct imv_io *io, const char *path, unsigned flags, struct imv_file **file,
                         struct imv_error *err) {
    imv_assert(flags & (IMV_OPEN_READ | IMV_OPEN_WRITE));
    imv_assert(!(flags & IMV_OPEN_EXCLUSIVE) || (flags & IMV_OPEN_CREATE));
    *file = NULL;
    imv_status status = io->ops->open(io, path, flags, file, err);
    imv_assert((status == IMV_OK) == (*file != NULL));
    return status;
}

void imv_file_close(struct imv_file *file) {
    if (file != NULL) file->io->ops->close(file);
}

imv_status imv_file_read(struct imv_file *file, void *buffer, size_t size, uint64_t offset, size_t *read_bytes,
                         struct imv_error *err) {
    *read_bytes = 0;
    imv_status status = file->io->ops->read(file, buffer, size, offset, read_bytes, err);
    imv_assert(*read_bytes <= size);
    return status;
}

imv_status imv_file_write(struct imv_file *file, const void *data, size_t size, uint64_t offset, bool durable,
                          struct imv_error *err) {
    return file->io->ops->write(file, data, size, offset, durable, err);
}

imv_status imv_file_sync(struct imv_file *file, struct imv_error *err) { return file->io->ops->sync(file, err); }

imv_status imv_file_size(struct imv_file *file, uint64_t *bytes, struct imv_error *err) {
    return file->io->ops->size(file, bytes, err);
}

imv_status imv_file_truncate(struct imv_file *file, uint64_t bytes, struct imv_error *err) {
    return file->io->ops->truncate(file, bytes, err);
}

imv_status imv_file_lock(struct imv_file *file, struct imv_error *err) { return file->io->ops->lock(file, err); }

imv_status imv_io_rename(struct imv_io *io, const char *from, const char *to, struct imv_error *err) {
    return io->ops->rename(io, from, to, err);
}

imv_status imv_io_unlink(struct imv_io *io, const char *path, struct imv_error *err) {
    return io->ops->unlink(io, path, err);
}

imv_status imv_io_make_directory(struct imv_io *io, const char *path, struct imv_error *err) {
    return io->ops->make_directory(io, path, err);
}

imv_status imv_io_sync_directory(struct imv_io *io, const char *path, struct imv_error *err) {
    return io->ops->sync_directory(io, path, err);
}

imv_status imv_io_list(struct imv_io *io, const char *path,
                       imv_status (*visit)(void *context, const char *name, struct imv_error *err), void *context,
                       struct imv_error *err) {
    return io->ops->list(io, path, visit, context, err);
}

void imv_io_submit(struct imv_io *io, struct imv_io_write *write) {
    imv_assert(write->file->io == io && write->size > 0 && write->done != NULL);
    io->ops->submit(io, write);
}

int imv_io_poll(struct imv_io *io, bool wait) { return io->ops->poll(io, wait); }

void imv_io_free(struct imv_io *io) {
    if (io != NULL) io->ops->free(io);
}
