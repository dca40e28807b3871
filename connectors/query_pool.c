#include "connectors/query_pool.h"

#include "query/workers.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct imv_query_pool {
    pthread_mutex_t lock;
    pthread_cond_t work;
    /* All of this is guarded by lock. */
    struct imv_query_job *first, **last;
    uint32_t queued, queued_max;
    uint32_t running, running_max; /* jobs under way that do not wait for a client */
    uint32_t idle;                 /* threads that wait for work */
    bool stopping;
    uint32_t threads;
    pthread_t thread[IMV_QUERY_THREADS_MAX];
};

static bool may_start(const struct imv_query_pool *pool) {
    return pool->first != NULL && pool->running < pool->running_max;
}

static void *work(void *argument);

/* With the lock held: gets a thread to look at the queue, a new one when none is idle. A thread that cannot be started
 * is no failure as long as there is one: the job waits for it. */
static int call_thread(struct imv_query_pool *pool) {
    if (!may_start(pool)) return 0;
    if (pool->idle > 0 || pool->threads == IMV_QUERY_THREADS_MAX || pool->stopping) {
        pthread_cond_signal(&pool->work);
        return 0;
    }
    int error = pthread_create(&pool->thread[pool->threads], NULL, work, pool);
    if (error == 0) pool->threads++;
    return pool->threads > 0 ? 0 : error;
}

static void *work(void *argument) {
    struct imv_query_pool *pool = argument;
    pthread_setname_np(pthread_self(), "imvdb-query");
    imv_workers_lower_priority();
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        pool->idle++;
        while (!may_start(pool) && !(pool->stopping && pool->first == NULL))
            pthread_cond_wait(&pool->work, &pool->lock);
        pool->idle--;
        struct imv_query_job *job = pool->first;
        if (job == NULL) break;
        pool->first = job->next;
        if (pool->first == NULL) pool->last = &pool->first;
        if (pool->first == NULL && pool->stopping) pthread_cond_broadcast(&pool->work); /* the others may end */
        pool->queued--;
        pool->running++;
        call_thread(pool); /* two calls may have reached this one thread */
        pthread_mutex_unlock(&pool->lock);
        job->run(job);
        pthread_mutex_lock(&pool->lock);
        pool->running--; /* and this thread looks at the queue again */
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

imv_status imv_query_pool_new(uint32_t running_max, uint32_t queued_max, struct imv_query_pool **out,
                              struct imv_error *err) {
    struct imv_query_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return imv_fail(err, IMV_NO_MEMORY, "query pool: no memory");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pool->last = &pool->first;
    pool->queued_max = queued_max;
    pool->running_max = running_max == 0 ? 1 : running_max;
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
        if (call_thread(pool) != 0) { /* not a single thread: take the job back */
            full = true;
            pool->first = NULL;
            pool->last = &pool->first;
            pool->queued = 0;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return full ? IMV_FULL : IMV_OK;
}

void imv_query_pool_wait_begin(struct imv_query_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->running--;
    call_thread(pool);
    pthread_mutex_unlock(&pool->lock);
}

void imv_query_pool_wait_end(struct imv_query_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    pool->running++; /* at once, even past running_max: its query is half done and holds memory */
    pthread_mutex_unlock(&pool->lock);
}
