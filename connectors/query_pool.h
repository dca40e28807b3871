/* query_pool.h - the threads that run queries, so that no shard thread ever does.
 *
 * A fixed number of threads takes jobs from one bounded queue, in order. A full queue refuses: the caller answers 503
 * rather than let waiting queries pile up.
 */
#pragma once

#include "storage/base/status.h"

#include <stdint.h>

struct imv_query_pool;

/* Owned by the caller until run returns; run may free it. */
struct imv_query_job {
    struct imv_query_job *next;
    void (*run)(struct imv_query_job *job); /* on a pool thread */
};

imv_status imv_query_pool_new(uint32_t threads, uint32_t queued_max, struct imv_query_pool **pool,
                              struct imv_error *err);
/* Runs what is queued, then ends the threads. Jobs are expected to have been cancelled by their owners. */
void imv_query_pool_free(struct imv_query_pool *pool);
/* Any thread. IMV_FULL when queued_max jobs wait already. */
imv_status imv_query_pool_submit(struct imv_query_pool *pool, struct imv_query_job *job);
