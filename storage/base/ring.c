#include "storage/base/ring.h"

#include "storage/base/assert.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* Best first; a kernel that does not know a flag says EINVAL. DEFER_TASKRUN (Linux 6.1) runs completions when we ask
 * for them, on our core, in batches; COOP_TASKRUN (5.19) at least spares the interrupts; SUBMIT_ALL (5.18) goes on past
 * a request that fails at submission, whose error then arrives as a completion. */
static const unsigned setups[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,
    0,
};

imv_status imv_ring_open(struct imv_ring *ring, unsigned entries, struct imv_error *err) {
    imv_assert(entries > 0 && (entries & (entries - 1)) == 0);
    *ring = (struct imv_ring){0};
    ring->deferred_end = &ring->deferred;
    int result = -EINVAL;
    for (size_t i = 0; i < sizeof setups / sizeof *setups && result == -EINVAL; i++) {
        struct io_uring_params params = {.flags = setups[i]};
        result = io_uring_queue_init_params(entries, &ring->uring, &params);
        ring->features = params.features;
    }
    if (result == -ENOSYS || result == -EPERM || result == -EACCES || result == -EINVAL) {
        return imv_fail_errno(err, IMV_UNSUPPORTED, -result, "ring: io_uring is not available");
    }
    if (result != 0) return imv_fail_errno(err, IMV_IO, -result, "ring: cannot open with %u entries", entries);
    /* EXT_ARG: a wait with a timeout is one call. NODROP: a full completion queue loses nothing. */
    unsigned needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
    if ((ring->features & needed) != needed) {
        io_uring_queue_exit(&ring->uring);
        return imv_fail(err, IMV_UNSUPPORTED, "ring: io_uring of this kernel is too old: features %#x, want %#x",
                        ring->features, needed);
    }
    ring->opened = true;
    return IMV_OK;
}

void imv_ring_close(struct imv_ring *ring) {
    if (!ring->opened) return;
    io_uring_queue_exit(&ring->uring);
    ring->opened = false;
}

struct io_uring_sqe *imv_ring_sqe(struct imv_ring *ring) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL) {
        int result;
        do result = io_uring_submit(&ring->uring);
        while (result == -EINTR);
        sqe = io_uring_get_sqe(&ring->uring);
        if (sqe == NULL) return NULL;
    }
    memset(sqe, 0, sizeof *sqe);
    return sqe;
}

void imv_ring_bind(struct imv_ring *ring, struct io_uring_sqe *sqe, struct imv_ring_op *op) {
    io_uring_sqe_set_data(sqe, op);
    if (op != NULL) ring->in_flight++;
}

void imv_ring_defer(struct imv_ring *ring, struct imv_ring_op *op, int result) {
    op->next = NULL;
    op->result = result;
    *ring->deferred_end = op;
    ring->deferred_end = &op->next;
    ring->in_flight++;
}

/* Takes the whole list first: what is deferred meanwhile waits for the next run, so that a run ends. */
static int dispatch_deferred(struct imv_ring *ring) {
    struct imv_ring_op *op = ring->deferred;
    ring->deferred = NULL;
    ring->deferred_end = &ring->deferred;
    int count = 0;
    while (op != NULL) {
        struct imv_ring_op *next = op->next;
        ring->in_flight--;
        count++;
        op->complete(op, op->result, 0);
        op = next;
    }
    return count;
}

/* An entry is given back to the kernel before its op is called, so that `complete` may run the ring again. */
static int dispatch_queue(struct imv_ring *ring) {
    struct io_uring_cq *cq = &ring->uring.cq;
    int count = 0;
    for (unsigned left = io_uring_cq_ready(&ring->uring); left > 0 && io_uring_cq_ready(&ring->uring) > 0; left--) {
        struct io_uring_cqe cqe = cq->cqes[*cq->khead & cq->ring_mask];
        io_uring_cq_advance(&ring->uring, 1);
        struct imv_ring_op *op = io_uring_cqe_get_data(&cqe);
        if (op == NULL) continue;
        if (!(cqe.flags & IORING_CQE_F_MORE)) {
            imv_assert(ring->in_flight > 0);
            ring->in_flight--;
        }
        count++;
        op->complete(op, cqe.res, cqe.flags);
    }
    return count;
}

static bool overflowed(const struct imv_ring *ring) {
    return (IO_URING_READ_ONCE(*ring->uring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0;
}

/* All three ask for events (GETEVENTS), without which a DEFER_TASKRUN ring never sees a completion. */
static int enter(struct imv_ring *ring, int64_t timeout_ns) {
    if (timeout_ns < 0) return io_uring_submit_and_wait(&ring->uring, 1);
    if (timeout_ns == 0) return io_uring_submit_and_get_events(&ring->uring);
    struct __kernel_timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    struct io_uring_cqe *cqe;
    return io_uring_submit_and_wait_timeout(&ring->uring, &cqe, 1, &timeout, NULL);
}

/* EAGAIN, EBUSY: the kernel took no submissions for now; what is there is dispatched and the next run tries again. */
static bool is_passing(int result) {
    return result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY;
}

int imv_ring_run(struct imv_ring *ring, int64_t timeout_ns) {
    int count = dispatch_deferred(ring);
    if (count > 0 || io_uring_cq_ready(&ring->uring) > 0) timeout_ns = 0;
    int result = enter(ring, timeout_ns);
    count += dispatch_queue(ring);
    while (is_passing(result) && overflowed(ring)) {
        result = io_uring_get_events(&ring->uring);
        int more = dispatch_queue(ring);
        if (more == 0) break;
        count += more;
    }
    return is_passing(result) ? count : result;
}
