/* The query pool: order, limits, and that no job waits for a thread that could have been had. */
#include "connectors/query_pool.h"

#include "tests/support/threaded.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { JOBS_MAX = 400 };

struct job {
    struct imv_query_job job;
    int number;
    bool waits; /* for a slow client, until the gate opens */
    bool holds; /* its place, until the gate opens */
};

static struct imv_query_pool *pool;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* Guarded by lock. */
static int order[JOBS_MAX], started, done, running, running_most;
static bool gate;

static void enter(int number) {
    pthread_mutex_lock(&lock);
    order[started++] = number;
    if (++running > running_most) running_most = running;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void pass_gate(void) {
    pthread_mutex_lock(&lock);
    while (!gate) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void run(struct imv_query_job *job) {
    struct job *self = (struct job *)job;
    enter(self->number);
    if (self->holds) pass_gate();
    if (self->waits) {
        pthread_mutex_lock(&lock);
        running--;
        pthread_mutex_unlock(&lock);
        imv_query_pool_wait_begin(pool);
        pass_gate();
        imv_query_pool_wait_end(pool);
        pthread_mutex_lock(&lock);
        running++;
        pthread_mutex_unlock(&lock);
    }
    pthread_mutex_lock(&lock);
    running--;
    done++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void open_pool(uint32_t running_max, uint32_t queued_max) {
    started = done = running = running_most = 0;
    gate = false;
    cr_assert_eq(imv_query_pool_new(running_max, queued_max, &pool, NULL), IMV_OK);
}

static void open_gate(void) {
    pthread_mutex_lock(&lock);
    gate = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

/* Waits at most ten seconds until a counter has a value. */
static bool reaches(const int *counter, int value) {
    for (int i = 0; i < 10000; i++) {
        pthread_mutex_lock(&lock);
        bool reached = *counter >= value;
        pthread_mutex_unlock(&lock);
        if (reached) return true;
        usleep(1000);
    }
    return false;
}

static imv_status submit(struct job *job, int number) {
    job->job.run = run;
    job->number = number;
    return imv_query_pool_submit(pool, &job->job);
}

/* With one place jobs run one at a time in the order in which they came. */
Test(query_pool, jobs_run_in_order) {
    static struct job jobs[100];
    open_pool(1, 100);
    jobs[0].holds = true;
    for (int i = 0; i < 100; i++) cr_assert_eq(submit(&jobs[i], i), IMV_OK);
    open_gate();
    imv_query_pool_free(pool);
    cr_assert_eq(done, 100);
    cr_assert_eq(running_most, 1);
    for (int i = 0; i < 100; i++) cr_assert_eq(order[i], i);
}

/* A full queue refuses, and takes jobs again when one has started. */
Test(query_pool, a_full_queue_refuses) {
    static struct job jobs[8];
    open_pool(1, 2);
    jobs[0].holds = true;
    cr_assert_eq(submit(&jobs[0], 0), IMV_OK);
    cr_assert(reaches(&started, 1));
    cr_assert_eq(submit(&jobs[1], 1), IMV_OK);
    cr_assert_eq(submit(&jobs[2], 2), IMV_OK);
    cr_assert_eq(submit(&jobs[3], 3), IMV_FULL);
    open_gate();
    cr_assert(reaches(&done, 3));
    cr_assert_eq(submit(&jobs[3], 3), IMV_OK);
    imv_query_pool_free(pool);
    cr_assert_eq(done, 4);
}

/* Jobs that wait for their clients let others run, as many as wait; all go on when the clients do. */
Test(query_pool, waiting_jobs_let_others_run) {
    static struct job jobs[50];
    open_pool(2, 100);
    for (int i = 0; i < 40; i++) {
        jobs[i].waits = true;
        cr_assert_eq(submit(&jobs[i], i), IMV_OK);
    }
    cr_assert(reaches(&started, 40));
    for (int i = 40; i < 50; i++) cr_assert_eq(submit(&jobs[i], i), IMV_OK);
    cr_assert(reaches(&done, 10), "others run while forty wait");
    open_gate();
    imv_query_pool_free(pool);
    cr_assert_eq(done, 50);
}

/* Two jobs that come at once when one thread is idle both start: neither waits for the other to end. */
Test(query_pool, jobs_that_come_together_start_together) {
    static struct job jobs[600];
    for (int round = 0; round < 200; round++) {
        struct job *first = &jobs[round * 3];
        open_pool(2, 10);
        cr_assert_eq(submit(&first[0], 0), IMV_OK);
        cr_assert(reaches(&done, 1)); /* its thread is idle, or about to be */
        first[1].holds = first[2].holds = true;
        cr_assert_eq(submit(&first[1], 1), IMV_OK);
        cr_assert_eq(submit(&first[2], 2), IMV_OK);
        cr_assert(reaches(&started, 3), "round %d: a place was left free", round);
        open_gate();
        imv_query_pool_free(pool);
    }
}

/* Freed with jobs in its queue the pool runs them all, those that wait included, and refuses new ones. */
Test(query_pool, a_pool_is_freed_with_jobs_queued) {
    static struct job jobs[200];
    open_pool(3, 200);
    open_gate();
    for (int i = 0; i < 200; i++) {
        jobs[i].waits = i % 3 == 0;
        cr_assert_eq(submit(&jobs[i], i), IMV_OK);
    }
    imv_query_pool_free(pool);
    cr_assert_eq(done, 200);
}

/* Threads are started when needed: a pool that never worked is freed, and so is none. */
Test(query_pool, an_unused_pool_is_freed) {
    open_pool(0, 0);
    static struct job job;
    cr_assert_eq(submit(&job, 0), IMV_FULL, "no place in the queue");
    imv_query_pool_free(pool);
    imv_query_pool_free(NULL);
}
