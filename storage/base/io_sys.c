#include "storage/base/io_sys.h"

#include "storage/base/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct sys_io {
    struct imv_io io;           /* first */
    struct imv_io_write *queue; /* submitted, written by the next poll; oldest first */
    struct imv_io_write **queue_end;
};

static struct imv_sys_file *sys_file(struct imv_file *file) { return (struct imv_sys_file *)file; }

/* What is stored is the owner's alone: it may hold what its clients must not read past the server. */
enum { FILE_MODE = 0600, DIRECTORY_MODE = 0700 };

static int open_flags(unsigned flags) {
    int result = O_CLOEXEC;
    bool reads = flags & IMV_OPEN_READ, writes = flags & IMV_OPEN_WRITE;
    result |= reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;
    if (flags & IMV_OPEN_CREATE) result |= O_CREAT;
    if (flags & IMV_OPEN_EXCLUSIVE) result |= O_EXCL;
    if (flags & IMV_OPEN_DIRECT) result |= O_DIRECT;
    return result;
}

static int open_retrying(const char *path, int flags) {
    int descriptor;
    do descriptor = open(path, flags, FILE_MODE);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

static imv_status sys_open(struct imv_io *io, const char *path, unsigned flags, struct imv_file **file,
                           struct imv_error *err) {
    int wanted = open_flags(flags);
    bool direct = flags & IMV_OPEN_DIRECT;
    int descriptor = open_retrying(path, wanted);
    if (descriptor < 0 && errno == EINVAL && direct) {
        /* The file system has no O_DIRECT (tmpfs): RWF_DSYNC alone keeps the promise. The refused call may have created
         * the file already, so EXCLUSIVE must not be asked again. */
        direct = false;
        descriptor = open_retrying(path, wanted & ~(O_DIRECT | O_EXCL));
    }
    if (descriptor < 0) {
        imv_status status = errno == ENOENT ? IMV_NOT_FOUND : errno == EEXIST ? IMV_EXISTS : IMV_IO;
        return imv_fail_errno(err, status, errno, "io: cannot open %s", path);
    }
    struct imv_sys_file *opened = malloc(sizeof *opened);
    if (opened == NULL) {
        close(descriptor);
        return imv_fail(err, IMV_NO_MEMORY, "io: no memory to open %s", path);
    }
    *opened = (struct imv_sys_file){.file.io = io, .descriptor = descriptor, .direct = direct};
    *file = &opened->file;
    return IMV_OK;
}

static void sys_close(struct imv_file *file) {
    close(sys_file(file)->descriptor);
    free(sys_file(file));
}

static imv_status sys_read(struct imv_file *file, void *buffer, size_t size, uint64_t offset, size_t *read_bytes,
                           struct imv_error *err) {
    const struct imv_sys_file *from = sys_file(file);
    size_t have = 0;
    while (have < size) {
        ssize_t got = pread(from->descriptor, (char *)buffer + have, size - have, (off_t)(offset + have));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            return imv_fail_errno(err, IMV_IO, errno, "io: cannot read %zu bytes at %" PRIu64, size, offset);
        }
        have += (size_t)got;
        /* O_DIRECT reads part of a block only at the end of the file, and cannot go on from there. */
        if (got == 0 || !imv_sys_may_continue(from, have)) break;
    }
    *read_bytes = have;
    return IMV_OK;
}

/* Returns 0 or the errno of the failure. */
static int write_all(const struct imv_sys_file *to, const void *data, size_t size, uint64_t offset, bool durable) {
    size_t written = 0;
    while (written < size) {
        struct iovec piece = {.iov_base = (char *)(uintptr_t)data + written, .iov_len = size - written};
        ssize_t put = pwritev2(to->descriptor, &piece, 1, (off_t)(offset + written), durable ? RWF_DSYNC : 0);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return errno;
        written += (size_t)put;
        if (put == 0 || (written < size && !imv_sys_may_continue(to, written))) return EIO;
    }
    return 0;
}

static imv_status sys_write(struct imv_file *file, const void *data, size_t size, uint64_t offset, bool durable,
                            struct imv_error *err) {
    int error_number = write_all(sys_file(file), data, size, offset, durable);
    if (error_number == 0) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, error_number, "io: cannot write %zu bytes at %" PRIu64, size, offset);
}

static imv_status sys_sync(struct imv_file *file, struct imv_error *err) {
    if (fdatasync(sys_file(file)->descriptor) == 0) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, errno, "io: cannot sync");
}

static imv_status sys_size(struct imv_file *file, uint64_t *bytes, struct imv_error *err) {
    struct stat about;
    if (fstat(sys_file(file)->descriptor, &about) != 0) {
        return imv_fail_errno(err, IMV_IO, errno, "io: cannot tell the size of a file");
    }
    *bytes = (uint64_t)about.st_size;
    return IMV_OK;
}

static imv_status sys_truncate(struct imv_file *file, uint64_t bytes, struct imv_error *err) {
    if (ftruncate(sys_file(file)->descriptor, (off_t)bytes) == 0) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, errno, "io: cannot truncate to %" PRIu64 " bytes", bytes);
}

static imv_status sys_lock(struct imv_file *file, struct imv_error *err) {
    if (flock(sys_file(file)->descriptor, LOCK_EX | LOCK_NB) == 0) return IMV_OK;
    if (errno == EWOULDBLOCK) return imv_fail(err, IMV_BUSY, "io: the file is locked by another process");
    return imv_fail_errno(err, IMV_IO, errno, "io: cannot lock");
}

static imv_status sys_rename(struct imv_io *io, const char *from, const char *to, struct imv_error *err) {
    (void)io;
    if (rename(from, to) == 0) return IMV_OK;
    return imv_fail_errno(err, errno == ENOENT ? IMV_NOT_FOUND : IMV_IO, errno, "io: cannot rename %s to %s", from, to);
}

static imv_status sys_unlink(struct imv_io *io, const char *path, struct imv_error *err) {
    (void)io;
    if (unlink(path) == 0) return IMV_OK;
    return imv_fail_errno(err, errno == ENOENT ? IMV_NOT_FOUND : IMV_IO, errno, "io: cannot remove %s", path);
}

static imv_status sys_make_directory(struct imv_io *io, const char *path, struct imv_error *err) {
    (void)io;
    if (mkdir(path, DIRECTORY_MODE) == 0) return IMV_OK;
    int error_number = errno;
    struct stat about;
    if (error_number == EEXIST && stat(path, &about) == 0 && S_ISDIR(about.st_mode)) return IMV_OK;
    return imv_fail_errno(err, error_number == ENOENT ? IMV_NOT_FOUND : IMV_IO, error_number,
                          "io: cannot make directory %s", path);
}

static imv_status sys_sync_directory(struct imv_io *io, const char *path, struct imv_error *err) {
    (void)io;
    int descriptor = open_retrying(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) {
        return imv_fail_errno(err, errno == ENOENT ? IMV_NOT_FOUND : IMV_IO, errno, "io: cannot open directory %s",
                              path);
    }
    imv_status status = IMV_OK;
    if (fsync(descriptor) != 0) status = imv_fail_errno(err, IMV_IO, errno, "io: cannot sync directory %s", path);
    close(descriptor);
    return status;
}

static int is_entry(const struct dirent *entry) {
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Not alphasort, which follows the locale. */
static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static imv_status sys_list(struct imv_io *io, const char *path,
                           imv_status (*visit)(void *context, const char *name, struct imv_error *err), void *context,
                           struct imv_error *err) {
    (void)io;
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_entry, by_bytes);
    if (count < 0) {
        return imv_fail_errno(err, errno == ENOENT ? IMV_NOT_FOUND : IMV_IO, errno, "io: cannot list %s", path);
    }
    imv_status status = IMV_OK;
    for (int i = 0; i < count; i++) {
        if (status == IMV_OK) status = visit(context, entries[i]->d_name, err);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static void sys_submit(struct imv_io *io, struct imv_io_write *write) {
    struct sys_io *sys = (struct sys_io *)io;
    write->backend.next = NULL;
    *sys->queue_end = write;
    sys->queue_end = &write->backend.next;
}

/* Takes the whole queue first: what done submits waits for the next poll. */
static int sys_poll(struct imv_io *io, bool wait) {
    (void)wait; /* a plain write is done when it returns */
    struct sys_io *sys = (struct sys_io *)io;
    struct imv_io_write *write = sys->queue;
    sys->queue = NULL;
    sys->queue_end = &sys->queue;
    int count = 0;
    while (write != NULL) {
        struct imv_io_write *next = write->backend.next;
        int error_number = write_all(sys_file(write->file), write->data, write->size, write->offset, write->durable);
        count++;
        write->done(write, error_number);
        write = next;
    }
    return count;
}

static void sys_free(struct imv_io *io) {
    imv_assert(((struct sys_io *)io)->queue == NULL);
    free(io);
}

const struct imv_io_ops imv_io_sys_ops = {
    .name = "sys",
    .open = sys_open,
    .close = sys_close,
    .read = sys_read,
    .write = sys_write,
    .sync = sys_sync,
    .size = sys_size,
    .truncate = sys_truncate,
    .lock = sys_lock,
    .rename = sys_rename,
    .unlink = sys_unlink,
    .make_directory = sys_make_directory,
    .sync_directory = sys_sync_directory,
    .list = sys_list,
    .submit = sys_submit,
    .poll = sys_poll,
    .free = sys_free,
};

imv_status imv_io_sys_new(struct imv_io **io, struct imv_error *err) {
    struct sys_io *sys = malloc(sizeof *sys);
    if (sys == NULL) return imv_fail(err, IMV_NO_MEMORY, "io: no memory for a back end");
    *sys = (struct sys_io){.io.ops = &imv_io_sys_ops};
    sys->queue_end = &sys->queue;
    *io = &sys->io;
    return IMV_OK;
}
