#include "connectors/query_pool.h"

#include "storage/base/metrics.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct imv_query_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct imv_query_job *first, **last; /* guarded by lock */
    uint32_t queued, queued_max;         /* guarded by lock */
    bool stopping;                       /* guarded by lock */
    uint32_t threads;
    pthread_t thread[];
};

static void *work(void *argument) {
    struct imv_query_pool *pool = argument;
    pthread_setname_np(pthread_self(), "imvdb-query");
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->first == NULL && !pool->stopping) pthread_cond_wait(&pool->work, &pool->lock);
        struct imv_query_job *job = pool->first;
        if (job == NULL) break;
        pool->first = job->next;
        if (pool->first == NULL) pool->last = &pool->first;
        pool->queued--;
        pthread_mutex_unlock(&pool->lock);
        imv_metric_add(IMV_METRIC_queries_running, 1);
        job->run(job);
        imv_metric_add(IMV_METRIC_queries_running, -1);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

imv_status imv_query_pool_new(uint32_t threads, uint32_t queued_max, struct imv_query_pool **out,
                              struct imv_error *err) {
    struct imv_query_pool *pool = calloc(1, sizeof *pool + threads * sizeof *pool->thread);
    if (pool == NULL) return imv_fail(err, IMV_NO_MEMORY, "query pool: no memory");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pool->last = &pool->first;
    pool->queued_max = queued_max;
    for (; pool->threads < threads; pool->threads++) {
        int error = pthread_create(&pool->thread[pool->threads], NULL, work, pool);
        if (error == 0) continue;
        imv_query_pool_free(pool);
        return imv_fail_errno(err, IMV_NO_MEMORY, error, "query pool: cannot start a thread");
    }
    *out = pool;
    return IMV_OK;
}

void imv_query_pool_free(struct imv_query_pool *pool) {
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->threads; i++) pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

imv_status imv_query_pool_submit(struct imv_query_pool *pool, struct imv_query_job *job) {
    job->next = NULL;
    pthread_mutex_lock(&pool->lock);
    bool full = pool->queued >= pool->queued_max || pool->stopping;
    if (!full) {
        *pool->last = job;
        pool->last = &job->next;
        pool->queued++;
        pthread_cond_signal(&pool->work);
    }
    pthread_mutex_unlock(&pool->lock);
    return full ? IMV_FULL : IMV_OK;
}
