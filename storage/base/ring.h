/* ring.h - one io_uring and the dispatch of its completions.
 *
 * Each shard thread owns one ring (SINGLE_ISSUER, DEFER_TASKRUN where the kernel has them). The I/O seam puts journal
 * writes on it, the net loop sockets; a completion calls the `complete` of the operation that it belongs to. This
 * header, io_uring.c, ring.c and the net loop are the only places that see liburing.
 */
#pragma once

#include "storage/base/status.h"

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>

struct imv_ring {
    struct io_uring uring;
    bool opened;
    unsigned features;     /* IORING_FEAT_* of this kernel */
    unsigned in_flight;    /* operations whose final completion has not come */
};

/* Embedded by whoever submits; must stay in place until its final completion (without IORING_CQE_F_MORE). */
struct imv_ring_op {
    void (*complete)(struct imv_ring_op *op, int result, unsigned flags);
};

/* Opens a ring with room for entries submissions (a power of two). The opening thread is its only user from then on
 * (SINGLE_ISSUER). IMV_UNSUPPORTED where io_uring is absent or forbidden: the caller falls back to epoll and says so. */
imv_status imv_ring_open(struct imv_ring *ring, unsigned entries, struct imv_error *err);
void imv_ring_close(struct imv_ring *ring);

/* Returns a cleared submission entry whose completion goes to op; prep functions may be called on it afterwards (they
 * keep user_data only if set last, so use imv_ring_sqe, prep, then imv_ring_bind). Submits what is queued when full. */
struct io_uring_sqe *imv_ring_sqe(struct imv_ring *ring);
void imv_ring_bind(struct imv_ring *ring, struct io_uring_sqe *sqe, struct imv_ring_op *op);

/* Submits what is queued, waits until at least one completion is there or timeout_ns passes (0: does not wait, -1: no
 * limit), and dispatches all that are there. Returns how many; negative errno on a failure of the ring itself. */
int imv_ring_run(struct imv_ring *ring, int64_t timeout_ns);
