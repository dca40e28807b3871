/* query_pool.h - the threads that run queries, so that no shard thread ever does.
 *
 * Jobs wait in one bounded queue, in order; a full queue refuses, and the caller answers 503 rather than let waiting
 * queries pile up. At most `running_max` jobs run at a time. A job that waits for a slow client says so
 * (imv_query_pool_wait_begin): it then does not count as running, and another job may start on another thread, so that
 * clients which do not read cannot stop everybody's queries. There are at most IMV_QUERY_THREADS_MAX threads; they are
 * started when needed and stay. Their priority is below that of the shards' threads (query/workers.h).
 */
#pragma once

#include "storage/base/status.h"

#include <stdint.h>

struct imv_query_pool;

enum { IMV_QUERY_THREADS_MAX = 128 };

/* Owned by the caller until run returns; run may free it. */
struct imv_query_job {
    struct imv_query_job *next;
    void (*run)(struct imv_query_job *job); /* on a pool thread */
};

imv_status imv_query_pool_new(uint32_t running_max, uint32_t queued_max, struct imv_query_pool **pool,
                              struct imv_error *err);
/* Runs what is queued, then ends the threads. Jobs are expected to have been cancelled by their owners. */
void imv_query_pool_free(struct imv_query_pool *pool);
/* Any thread. IMV_FULL when queued_max jobs wait already. */
imv_status imv_query_pool_submit(struct imv_query_pool *pool, struct imv_query_job *job);

/* Around a wait for the outside world, on the job's thread. */
void imv_query_pool_wait_begin(struct imv_query_pool *pool);
void imv_query_pool_wait_end(struct imv_query_pool *pool);
