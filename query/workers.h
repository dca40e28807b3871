/* workers.h - the threads that help running queries, shared by all of them.
 *
 * A query runs on a thread of its own and hands parts of its work to these; their number is fixed, so that many queries
 * at once do not multiply threads. Tasks wait in one queue, in order. A task is a short piece of work (some
 * milliseconds) and is submitted again for the next one, so queries take turns. A query never depends on them: what no
 * thread has begun it does itself (ops/scan_lanes.h).
 *
 * The threads have a lower priority than those that take in rows (nice, SCHED_BATCH): when both want a core, ingestion
 * has three quarters of it and is not made to wait for a query's time slice when it wakes up.
 *
 * All functions from any thread but the workers' own, tasks excepted: a task may submit.
 */
#pragma once

#include "storage/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct imv_workers;

enum { IMV_WORKERS_MAX = 256 };

/* Owned by whoever submits it, in place until it is withdrawn or has been run. */
struct imv_worker_task {
    void (*run)(struct imv_worker_task *task); /* on a worker's thread */
    struct imv_worker_task *next;              /* private, as is waiting */
    bool waiting;
};

/* threads: 0..IMV_WORKERS_MAX. patience_ns: how long a query works alone before it asks for help; waking a thread costs
 * about 50 us, so less than some times that is not worth it. IMV_NO_MEMORY; threads that cannot be started are left
 * out. */
imv_status imv_workers_new(uint32_t threads, int64_t patience_ns, struct imv_workers **workers, struct imv_error *err);
/* When no task is submitted any more. NULL is allowed. */
void imv_workers_free(struct imv_workers *workers);

/* How many threads there are. */
uint32_t imv_workers_count(const struct imv_workers *workers);
int64_t imv_workers_patience_ns(const struct imv_workers *workers);

/* The task must not be waiting; it may be running, if its run can bear to be called again on another thread. */
void imv_workers_submit(struct imv_workers *workers, struct imv_worker_task *task);
/* Takes a task out of the queue; false when it is not waiting there: its run was called, or it was never submitted. */
bool imv_workers_withdraw(struct imv_workers *workers, struct imv_worker_task *task);

/* Gives the calling thread the priority of a query's: for threads that run statements. */
void imv_workers_lower_priority(void);
