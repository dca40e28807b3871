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
    unsigned features;            /* IORING_FEAT_* of this kernel */
    unsigned in_flight;           /* operations whose final completion has not come */
    struct imv_ring_op *deferred; /* completions that wait for the next imv_ring_run, oldest first */
    struct imv_ring_op **deferred_end;
};

/* Embedded by whoever submits; must stay in place until its final completion (without IORING_CQE_F_MORE). `complete`
 * may submit again and may free the op on the final completion. */
struct imv_ring_op {
    void (*complete)(struct imv_ring_op *op, int result, unsigned flags);
    struct imv_ring_op *next; /* the ring's, while deferred */
    int result;               /* the ring's, while deferred */
};

/* Opens a ring with room for entries submissions (a power of two). The opening thread is its only user from then on
 * (SINGLE_ISSUER). IMV_UNSUPPORTED where io_uring is absent, forbidden or older than Linux 5.11: the caller falls back
 * to epoll and says so. IMV_IO when the system lacks memory or descriptors for it. */
imv_status imv_ring_open(struct imv_ring *ring, unsigned entries, struct imv_error *err);
/* Operations under way are cancelled by the kernel and never complete; a ring that was never opened is allowed. */
void imv_ring_close(struct imv_ring *ring);

/* Returns a cleared submission entry; fill it by a prep function, then call imv_ring_bind (prep functions clear
 * user_data, so bind comes last). Submits what is queued when full; NULL only when the kernel then takes none of it
 * (out of memory, or completions waiting to be dispatched): the caller gives up or calls imv_ring_defer with
 * -EAGAIN. */
struct io_uring_sqe *imv_ring_sqe(struct imv_ring *ring);
/* The completion of sqe goes to op. NULL: nobody is told, the completion is not counted. */
void imv_ring_bind(struct imv_ring *ring, struct io_uring_sqe *sqe, struct imv_ring_op *op);

/* Completes op with result in the next imv_ring_run, without the kernel: so that a caller that finds out at submission
 * that an operation fails can say so the same way as for all others. */
void imv_ring_defer(struct imv_ring *ring, struct imv_ring_op *op, int result);

/* Submits what is queued, waits until at least one completion is there or timeout_ns passes (0: does not wait, -1: no
 * limit), and dispatches all that are there. Returns how many, 0 also when a signal ended the wait; negative errno on a
 * failure of the ring itself. May be called from within `complete`. */
int imv_ring_run(struct imv_ring *ring, int64_t timeout_ns);
