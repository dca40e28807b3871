/* io.h - the one seam under all our file I/O.
 *
 * A struct imv_io is a back end: io_uring (io_uring.c), plain system calls (io_sys.c) or a simulator (io_sim.c) that
 * fails, cuts short, tears, reorders and drops unsynced writes from a seed. RocksDB does its own I/O; everything else
 * that imvdb writes goes through here, so that a test can crash it at any point.
 *
 * Blocking calls are for start-up, recovery and rare work. The journal's hot path is asynchronous: submit a write, be
 * called back by imv_io_poll (or by the loop that drives the same ring) in any order. One thread drives a back end.
 *
 * A write that is `durable` is on stable storage when it completes with IMV_OK (RWF_DSYNC). A failed durable write is
 * never retried: the kernel may have dropped the pages, and a retry could succeed falsely.
 */
#pragma once

#include "storage/base/bytes.h"
#include "storage/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct imv_file; /* one open file; owned by whoever opened it, closed by imv_file_close */

enum imv_open_flags {
    IMV_OPEN_READ = 1 << 0,
    IMV_OPEN_WRITE = 1 << 1,
    IMV_OPEN_CREATE = 1 << 2,    /* make it when absent */
    IMV_OPEN_EXCLUSIVE = 1 << 3, /* with CREATE: IMV_EXISTS when present */
    IMV_OPEN_DIRECT = 1 << 4,    /* O_DIRECT: buffers, sizes and offsets are multiples of IMV_IO_BLOCK_BYTES. Where the
                                    file system has none (older tmpfs), the page cache is used; durable stays durable */
};

/* Alignment that O_DIRECT asks for, and the unit in which a torn write is assumed to tear at best. */
enum { IMV_IO_BLOCK_BYTES = 4096 };

/* One asynchronous write. The caller owns it and the data until done is called. */
struct imv_io_write {
    struct imv_file *file;
    const void *data;
    size_t size;
    uint64_t offset;
    bool durable;
    /* Called once: all bytes written (and durable when asked), or the errno of the first failure (EIO for a
     * short write). */
    void (*done)(struct imv_io_write *write, int error_number);
    void *context;
    union {
        struct imv_io_write *next; /* back ends: queue link */
        char reserved[64];         /* back ends: ring operation */
    } backend;
};

struct imv_io;

struct imv_io_ops {
    const char *name; /* "io_uring", "sys", "sim": said at start-up */
    imv_status (*open)(struct imv_io *io, const char *path, unsigned flags, struct imv_file **file,
                       struct imv_error *err);
    void (*close)(struct imv_file *file);
    imv_status (*read)(struct imv_file *file, void *buffer, size_t size, uint64_t offset, size_t *read_bytes,
                       struct imv_error *err);
    imv_status (*write)(struct imv_file *file, const void *data, size_t size, uint64_t offset, bool durable,
                        struct imv_error *err);
    imv_status (*sync)(struct imv_file *file, struct imv_error *err);
    imv_status (*size)(struct imv_file *file, uint64_t *bytes, struct imv_error *err);
    imv_status (*truncate)(struct imv_file *file, uint64_t bytes, struct imv_error *err);
    imv_status (*lock)(struct imv_file *file, struct imv_error *err);
    imv_status (*rename)(struct imv_io *io, const char *from, const char *to, struct imv_error *err);
    imv_status (*unlink)(struct imv_io *io, const char *path, struct imv_error *err);
    imv_status (*make_directory)(struct imv_io *io, const char *path, struct imv_error *err);
    imv_status (*sync_directory)(struct imv_io *io, const char *path, struct imv_error *err);
    imv_status (*list)(struct imv_io *io, const char *path,
                       imv_status (*visit)(void *context, const char *name, struct imv_error *err), void *context,
                       struct imv_error *err);
    void (*submit)(struct imv_io *io, struct imv_io_write *write);
    int (*poll)(struct imv_io *io, bool wait);
    void (*free)(struct imv_io *io);
};

/* First member of every back end and of every file. */
struct imv_io {
    const struct imv_io_ops *ops;
};
struct imv_file {
    struct imv_io *io;
};

/* Back ends. The caller frees them with imv_io_free after closing all their files. */
imv_status imv_io_sys_new(struct imv_io **io, struct imv_error *err);
struct imv_ring;
/* Asynchronous writes go through ring, which its owner drives; imv_io_poll drives it too (for users without a loop). */
imv_status imv_io_uring_new(struct imv_ring *ring, struct imv_io **io, struct imv_error *err);

/* Opens path. IMV_NOT_FOUND, IMV_EXISTS, IMV_IO. On IMV_OK *file is the caller's to close. */
imv_status imv_file_open(struct imv_io *io, const char *path, unsigned flags, struct imv_file **file,
                         struct imv_error *err);
/* Closes without syncing; NULL is allowed. */
void imv_file_close(struct imv_file *file);
/* Reads up to size bytes; fewer only at the end of the file (*read_bytes says). */
imv_status imv_file_read(struct imv_file *file, void *buffer, size_t size, uint64_t offset, size_t *read_bytes,
                         struct imv_error *err);
/* Writes all of data, or fails; durable as in struct imv_io_write. */
imv_status imv_file_write(struct imv_file *file, const void *data, size_t size, uint64_t offset, bool durable,
                          struct imv_error *err);
/* fdatasync. After a failure the file's unsynced content must be taken as lost. */
imv_status imv_file_sync(struct imv_file *file, struct imv_error *err);
imv_status imv_file_size(struct imv_file *file, uint64_t *bytes, struct imv_error *err);
imv_status imv_file_truncate(struct imv_file *file, uint64_t bytes, struct imv_error *err);
/* Takes an exclusive advisory lock, held until close or the process's end. IMV_BUSY when another holds it. */
imv_status imv_file_lock(struct imv_file *file, struct imv_error *err);
imv_status imv_io_rename(struct imv_io *io, const char *from, const char *to, struct imv_error *err);
imv_status imv_io_unlink(struct imv_io *io, const char *path, struct imv_error *err);
/* IMV_OK also when the directory is there already. */
imv_status imv_io_make_directory(struct imv_io *io, const char *path, struct imv_error *err);
/* Makes creations, renames and unlinks in the directory durable. */
imv_status imv_io_sync_directory(struct imv_io *io, const char *path, struct imv_error *err);
/* Calls visit for each entry but "." and "..", in byte order of the names; stops at the first failure. */
imv_status imv_io_list(struct imv_io *io, const char *path,
                       imv_status (*visit)(void *context, const char *name, struct imv_error *err), void *context,
                       struct imv_error *err);
/* Starts an asynchronous write. Never fails and never calls done itself: a failure is told through done, later. */
void imv_io_submit(struct imv_io *io, struct imv_io_write *write);
/* Calls done for completed writes and returns how many; with wait, blocks for at least one when any is under way. The
 * plain back end does all submitted writes here, one after the other. */
int imv_io_poll(struct imv_io *io, bool wait);
/* Frees the back end; all files closed, no write under way. NULL is allowed. */
void imv_io_free(struct imv_io *io);
