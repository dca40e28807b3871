#include "query/workers.h"

#include "storage/base/assert.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Weighs a third of an ordinary thread: 335 against 1,024 in the kernel's table. */
enum { QUERY_NICE = 5 };

struct imv_workers {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct imv_worker_task *first, **last; /* guarded by lock, as is stopping */
    bool stopping;
    int64_t patience_ns;
    uint32_t threads;
    pthread_t thread[IMV_WORKERS_MAX];
};

void imv_workers_lower_priority(void) {
    struct sched_param none = {0};
    /* Neither can fail for a thread that lowers itself; where a sandbox forbids them queries run at full priority. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), QUERY_NICE);
    (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
}

static struct imv_worker_task *take_first(struct imv_workers *workers) {
    struct imv_worker_task *task = workers->first;
    workers->first = task->next;
    if (workers->first == NULL) workers->last = &workers->first;
    task->waiting = false;
    return task;
}

static void *work(void *argument) {
    struct imv_workers *workers = argument;
    pthread_setname_np(pthread_self(), "imvdb-worker");
    imv_workers_lower_priority();
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        while (workers->first == NULL && !workers->stopping) pthread_cond_wait(&workers->work, &workers->lock);
        if (workers->first == NULL) break;
        struct imv_worker_task *task = take_first(workers);
        pthread_mutex_unlock(&workers->lock);
        task->run(task);
        pthread_mutex_lock(&workers->lock);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

imv_status imv_workers_new(uint32_t threads, int64_t patience_ns, struct imv_workers **out, struct imv_error *err) {
    imv_assert(threads <= IMV_WORKERS_MAX);
    struct imv_workers *workers = calloc(1, sizeof *workers);
    if (workers == NULL) return imv_fail(err, IMV_NO_MEMORY, "workers: no memory");
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->work, NULL);
    workers->last = &workers->first;
    workers->patience_ns = patience_ns;
    while (workers->threads < threads && pthread_create(&workers->thread[workers->threads], NULL, work, workers) == 0) {
        workers->threads++;
    }
    *out = workers;
    return IMV_OK;
}

void imv_workers_free(struct imv_workers *workers) {
    if (workers == NULL) return;
    pthread_mutex_lock(&workers->lock);
    imv_assert(workers->first == NULL);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->work);
    pthread_mutex_unlock(&workers->lock);
    for (uint32_t i = 0; i < workers->threads; i++) pthread_join(workers->thread[i], NULL);
    pthread_cond_destroy(&workers->work);
    pthread_mutex_destroy(&workers->lock);
    free(workers);
}

uint32_t imv_workers_count(const struct imv_workers *workers) { return workers->threads; }
int64_t imv_workers_patience_ns(const struct imv_workers *workers) { return workers->patience_ns; }

void imv_workers_submit(struct imv_workers *workers, struct imv_worker_task *task) {
    pthread_mutex_lock(&workers->lock);
    imv_assert(!task->waiting && !workers->stopping);
    task->waiting = true;
    task->next = NULL;
    *workers->last = task;
    workers->last = &task->next;
    pthread_cond_signal(&workers->work);
    pthread_mutex_unlock(&workers->lock);
}

bool imv_workers_withdraw(struct imv_workers *workers, struct imv_worker_task *task) {
    pthread_mutex_lock(&workers->lock);
    bool waiting = task->waiting;
    if (waiting) {
        struct imv_worker_task **link = &workers->first;
        while (*link != task) link = &(*link)->next;
        *link = task->next;
        if (*link == NULL) workers->last = link;
        task->waiting = false;
    }
    pthread_mutex_unlock(&workers->lock);
    return waiting;
}
