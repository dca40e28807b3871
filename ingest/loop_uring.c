/* The loop on one io_uring, which the journal's writes share.
 *
 * Accepting is one multishot operation a listener. Receives are single-shot: not asking for the next is the
 * back-pressure, which multishot does not have. A connection without a buffer receives into a ring of buffers that the
 * kernel picks from when bytes are there, so that thousands of pending receives need 64 buffers.
 */
#include "ingest/loop_internal.h"
#include "storage/base/assert.h"
#include "storage/base/io.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    RING_ENTRIES = 1024, /* submissions between two waits; more are submitted early */
    BUFFER_GROUP = 0,
    BUFFER_RING_BYTES = IMV_SHARED_COUNT * sizeof(struct io_uring_buf),
};

struct uring_backend {
    struct imv_ring ring;
    struct imv_loop *loop;
    struct imv_ring_op wake; /* the read of loop->wake_fd; nobody else may write to it on the ring */
    bool wake_pending;
    uint64_t wake_count;
    struct io_uring_buf_ring *buffers; /* shared with the kernel */
};

static struct uring_backend *backend_of(struct imv_loop *loop) { return loop->backend; }

/* Binds a filled entry. */
static void submit(struct uring_backend *uring, struct io_uring_sqe *sqe, struct imv_ring_op *op,
                   void (*complete)(struct imv_ring_op *op, int result, unsigned flags)) {
    op->complete = complete;
    imv_ring_bind(&uring->ring, sqe, op);
}

/* Without an entry the operation fails with EAGAIN, at the next run of the ring like all others. */
static void refuse(struct uring_backend *uring, struct imv_ring_op *op,
                   void (*complete)(struct imv_ring_op *op, int result, unsigned flags)) {
    op->complete = complete;
    imv_ring_defer(&uring->ring, op, -EAGAIN);
}

static void cancel(struct uring_backend *uring, struct imv_ring_op *op) {
    struct io_uring_sqe *sqe = imv_ring_sqe(&uring->ring);
    if (sqe == NULL) return;
    io_uring_prep_cancel(sqe, op, 0);
    imv_ring_bind(&uring->ring, sqe, NULL);
}

/* ------------------------------------------------------------------------------------------------- receive and send */

static void receive_complete(struct imv_ring_op *op, int result, unsigned flags) {
    struct imv_conn *conn = IMV_LINK_OWNER(op, struct imv_conn, backend.uring.receive);
    if (flags & IORING_CQE_F_BUFFER) {
        uint32_t shared = flags >> IORING_CQE_BUFFER_SHIFT;
        if (result > 0) {
            imv_conn_on_shared(conn, shared, (size_t)result);
            return;
        }
        conn->loop->ops->give(conn->loop, shared);
    }
    if (result > 0)
        imv_conn_on_received(conn, (size_t)result);
    else if (result == 0)
        imv_conn_on_end(conn);
    else if (result == -ENOBUFS || result == -EAGAIN || result == -ENOMEM)
        imv_conn_on_starved(conn);
    else if (result == -ECANCELED || result == -EINTR)
        imv_conn_on_recalled(conn);
    else
        imv_conn_on_receive_failed(conn, -result);
}

static void uring_receive(struct imv_conn *conn) {
    struct uring_backend *uring = backend_of(conn->loop);
    struct imv_ring_op *op = &conn->backend.uring.receive;
    struct io_uring_sqe *sqe = imv_ring_sqe(&uring->ring);
    if (sqe == NULL) {
        refuse(uring, op, receive_complete);
        return;
    }
    struct imv_room room = imv_conn_room(conn);
    io_uring_prep_recv(sqe, conn->fd, room.bytes, room.size, 0);
    if (room.bytes == NULL) {
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = BUFFER_GROUP;
    }
    submit(uring, sqe, op, receive_complete);
}

static void uring_recall(struct imv_conn *conn) { cancel(backend_of(conn->loop), &conn->backend.uring.receive); }

static void send_complete(struct imv_ring_op *op, int result, unsigned flags) {
    (void)flags;
    struct imv_conn *conn = IMV_LINK_OWNER(op, struct imv_conn, backend.uring.send);
    bool passing = result == -EAGAIN || result == -EINTR || result == -ENOMEM;
    if (result >= 0 || passing)
        imv_conn_on_sent(conn, result > 0 ? (size_t)result : 0);
    else
        imv_conn_on_send_failed(conn, -result);
}

static void uring_send(struct imv_conn *conn) {
    struct uring_backend *uring = backend_of(conn->loop);
    struct imv_ring_op *op = &conn->backend.uring.send;
    struct io_uring_sqe *sqe = imv_ring_sqe(&uring->ring);
    if (sqe == NULL) {
        refuse(uring, op, send_complete);
        return;
    }
    struct imv_conn_block *block = conn->output;
    io_uring_prep_send(sqe, conn->fd, block->bytes + block->start, block->end - block->start, MSG_NOSIGNAL);
    submit(uring, sqe, op, send_complete);
}

/* Both operations end when the socket is shut down, whatever they wait for. */
static void uring_shut(struct imv_conn *conn) {
    if (conn->receiving || conn->sending)
        shutdown(conn->fd, SHUT_RDWR);
    else
        imv_conn_touch(conn);
}

static imv_status uring_attach(struct imv_conn *conn, struct imv_error *err) {
    (void)conn, (void)err;
    return IMV_OK;
}

static void uring_give(struct imv_loop *loop, uint32_t shared) {
    struct io_uring_buf_ring *buffers = backend_of(loop)->buffers;
    io_uring_buf_ring_add(buffers, loop->shared + (size_t)shared * IMV_SHARED_BYTES, IMV_SHARED_BYTES,
                          (unsigned short)shared, io_uring_buf_ring_mask(IMV_SHARED_COUNT), 0);
    io_uring_buf_ring_advance(buffers, 1);
}

/* ----------------------------------------------------------------------------------------------------------- accept */

static void accept_complete(struct imv_ring_op *op, int result, unsigned flags) {
    struct imv_listener *listener = IMV_LINK_OWNER(op, struct imv_listener, backend.uring);
    if (result >= 0) imv_listener_on_accepted(listener, result);
    if (!(flags & IORING_CQE_F_MORE)) imv_listener_on_stopped(listener, result < 0 ? -result : 0);
}

static void uring_accept(struct imv_listener *listener) {
    struct uring_backend *uring = backend_of(listener->loop);
    struct imv_ring_op *op = &listener->backend.uring;
    struct io_uring_sqe *sqe = imv_ring_sqe(&uring->ring);
    if (sqe == NULL) {
        refuse(uring, op, accept_complete);
        return;
    }
    io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    submit(uring, sqe, op, accept_complete);
}

/* Shutting the socket down ends the accept as well, should the ring have no room for a cancellation. */
static void uring_stop(struct imv_listener *listener) {
    cancel(backend_of(listener->loop), &listener->backend.uring);
    shutdown(listener->fd, SHUT_RDWR);
}

/* ------------------------------------------------------------------------------------------------------------- turn */

static void wake_complete(struct imv_ring_op *op, int result, unsigned flags) {
    (void)result, (void)flags;
    IMV_LINK_OWNER(op, struct uring_backend, wake)->wake_pending = false;
}

static void read_wake(struct uring_backend *uring) {
    if (uring->wake_pending) return;
    struct io_uring_sqe *sqe = imv_ring_sqe(&uring->ring);
    if (sqe == NULL) return;
    io_uring_prep_read(sqe, uring->loop->wake_fd, &uring->wake_count, sizeof uring->wake_count, 0);
    submit(uring, sqe, &uring->wake, wake_complete);
    uring->wake_pending = true;
}

static imv_status uring_wait(struct imv_loop *loop, int64_t timeout_ns, struct imv_error *err) {
    struct uring_backend *uring = backend_of(loop);
    read_wake(uring);
    if (!uring->wake_pending && timeout_ns != 0) timeout_ns = 0; /* no entry was free: nobody could wake us */
    int result = imv_ring_run(&uring->ring, timeout_ns < 0 ? -1 : timeout_ns);
    if (result >= 0 || result == -ENOMEM) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, -result, "uring: the ring failed");
}

/* Connections and listeners are gone; only the read of the eventfd may be under way. */
static void uring_close(struct imv_loop *loop) {
    struct uring_backend *uring = backend_of(loop);
    while (uring->wake_pending) {
        cancel(uring, &uring->wake);
        if (imv_ring_run(&uring->ring, -1) < 0) break;
    }
    imv_ring_close(&uring->ring);
    munmap(uring->buffers, BUFFER_RING_BYTES);
    free(uring);
}

static imv_status register_buffers(struct uring_backend *uring, struct imv_error *err) {
    void *memory = mmap(NULL, BUFFER_RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return imv_fail_errno(err, IMV_NO_MEMORY, errno, "uring: no memory for a buffer ring");
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)memory, .ring_entries = IMV_SHARED_COUNT, .bgid = BUFFER_GROUP};
    int result = io_uring_register_buf_ring(&uring->ring.uring, &registration, 0);
    if (result != 0) {
        munmap(memory, BUFFER_RING_BYTES);
        return imv_fail_errno(err, IMV_UNSUPPORTED, -result, "uring: this kernel has no buffer rings");
    }
    uring->buffers = memory;
    io_uring_buf_ring_init(uring->buffers);
    for (uint32_t i = 0; i < IMV_SHARED_COUNT; i++) uring_give(uring->loop, i);
    return IMV_OK;
}

static imv_status uring_open(struct imv_loop *loop, struct imv_error *err) {
    struct uring_backend *uring = calloc(1, sizeof *uring);
    if (uring == NULL) return imv_fail(err, IMV_NO_MEMORY, "uring: no memory");
    uring->loop = loop;
    loop->backend = uring;
    imv_status status = imv_ring_open(&uring->ring, RING_ENTRIES, err);
    if (status == IMV_OK) status = register_buffers(uring, err);
    if (status == IMV_OK) status = imv_io_uring_new(&uring->ring, &loop->io, err);
    if (status == IMV_OK) return IMV_OK;
    imv_ring_close(&uring->ring);
    if (uring->buffers != NULL) munmap(uring->buffers, BUFFER_RING_BYTES);
    free(uring);
    return status;
}

const struct imv_loop_ops imv_loop_uring_ops = {
    .name = "io_uring",
    .drives_io = true,
    .open = uring_open,
    .close = uring_close,
    .wait = uring_wait,
    .accept = uring_accept,
    .stop = uring_stop,
    .attach = uring_attach,
    .receive = uring_receive,
    .recall = uring_recall,
    .send = uring_send,
    .shut = uring_shut,
    .give = uring_give,
};
