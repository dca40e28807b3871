#include "storage/base/assert.h"
#include "storage/base/io_sys.h"
#include "storage/base/ring.h"

#include <errno.h>
#include <linux/fs.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>

struct uring_io {
    struct imv_io io; /* first */
    struct imv_io_ops ops;
    struct imv_ring *ring;
    unsigned in_flight; /* writes of this back end */
    uint64_t completed; /* writes whose done was called, ever */
};

/* What a write carries while it is on the ring. */
struct uring_write {
    struct imv_ring_op op; /* first */
    size_t written;        /* bytes, by earlier pieces */
    bool unsent;           /* the ring had no room: nothing was tried, so it may be tried again */
};
_Static_assert(sizeof(struct uring_write) <= sizeof((struct imv_io_write *)0)->backend, "fits its place");

static struct uring_write *piece_of(struct imv_io_write *write) { return (struct uring_write *)&write->backend; }

static struct imv_io_write *write_of(struct imv_ring_op *op) {
    return (struct imv_io_write *)((char *)op - offsetof(struct imv_io_write, backend));
}

static void submit_rest(struct uring_io *uring, struct imv_io_write *write) {
    struct uring_write *piece = piece_of(write);
    struct io_uring_sqe *sqe = imv_ring_sqe(uring->ring);
    piece->unsent = sqe == NULL;
    if (sqe == NULL) {
        imv_ring_defer(uring->ring, &piece->op, -EAGAIN);
        return;
    }
    int descriptor = ((struct imv_sys_file *)write->file)->descriptor;
    io_uring_prep_write(sqe, descriptor, (const char *)write->data + piece->written,
                        (unsigned)(write->size - piece->written), write->offset + piece->written);
    if (write->durable) sqe->rw_flags = RWF_DSYNC;
    imv_ring_bind(uring->ring, sqe, &piece->op);
}

static void piece_complete(struct imv_ring_op *op, int result, unsigned flags) {
    (void)flags;
    struct imv_io_write *write = write_of(op);
    struct uring_io *uring = (struct uring_io *)write->file->io;
    struct uring_write *piece = piece_of(write);
    if (piece->unsent) {
        submit_rest(uring, write);
        return;
    }
    if (result > 0) {
        piece->written += (size_t)result;
        imv_assert(piece->written <= write->size);
        if (piece->written < write->size && imv_sys_may_continue((struct imv_sys_file *)write->file, piece->written)) {
            submit_rest(uring, write);
            return;
        }
    }
    int error_number = result < 0 ? -result : piece->written < write->size ? EIO : 0;
    uring->in_flight--;
    uring->completed++;
    write->done(write, error_number);
}

static void uring_submit(struct imv_io *io, struct imv_io_write *write) {
    struct uring_io *uring = (struct uring_io *)io;
    imv_assert(write->size <= INT32_MAX);
    *piece_of(write) = (struct uring_write){.op.complete = piece_complete};
    uring->in_flight++;
    submit_rest(uring, write);
}

/* The ring may carry the operations of others, so a wait goes on until one of ours is done. */
static int uring_poll(struct imv_io *io, bool wait) {
    struct uring_io *uring = (struct uring_io *)io;
    uint64_t before = uring->completed;
    for (;;) {
        wait = wait && uring->in_flight > 0;
        int result = imv_ring_run(uring->ring, wait ? -1 : 0);
        if (!wait || uring->completed != before) return (int)(uring->completed - before);
        if (result == -ENOMEM)
            sched_yield();
        else
            imv_assert(result >= 0);
    }
}

static void uring_free(struct imv_io *io) {
    imv_assert(((struct uring_io *)io)->in_flight == 0);
    free(io);
}

imv_status imv_io_uring_new(struct imv_ring *ring, struct imv_io **io, struct imv_error *err) {
    imv_assert(ring->opened);
    struct uring_io *uring = malloc(sizeof *uring);
    if (uring == NULL) return imv_fail(err, IMV_NO_MEMORY, "io: no memory for a back end");
    *uring = (struct uring_io){.ops = imv_io_sys_ops, .ring = ring};
    uring->ops.name = "io_uring";
    uring->ops.submit = uring_submit;
    uring->ops.poll = uring_poll;
    uring->ops.free = uring_free;
    uring->io.ops = &uring->ops;
    *io = &uring->io;
    return IMV_OK;
}
