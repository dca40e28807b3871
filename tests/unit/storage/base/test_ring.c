#include "storage/base/clock.h"
#include "storage/base/ring.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct imv_error err;
static struct imv_ring ring;

static void open_ring(void) {
    imv_status status = imv_ring_open(&ring, 8, &err);
    if (status == IMV_UNSUPPORTED) cr_skip_test("%s", err.message);
    cr_assert_eq(status, IMV_OK, "%s", err.message);
}

static void close_ring(void) { imv_ring_close(&ring); }

TestSuite(ring, .init = open_ring, .fini = close_ring);

struct counted {
    struct imv_ring_op op; /* first */
    int completions, result;
    unsigned flags;
    int again; /* so many times submitted again from within complete */
};

static void submit_nop(struct counted *counted);

static void count(struct imv_ring_op *op, int result, unsigned flags) {
    struct counted *counted = (struct counted *)op;
    counted->completions++;
    counted->result = result;
    counted->flags = flags;
    if (counted->again > 0) {
        counted->again--;
        submit_nop(counted);
    }
}

static void submit_nop(struct counted *counted) {
    struct io_uring_sqe *sqe = imv_ring_sqe(&ring);
    cr_assert_not_null(sqe);
    io_uring_prep_nop(sqe);
    counted->op.complete = count;
    imv_ring_bind(&ring, sqe, &counted->op);
}

static void submit_read(struct counted *counted, int descriptor, uint64_t *value) {
    struct io_uring_sqe *sqe = imv_ring_sqe(&ring);
    io_uring_prep_read(sqe, descriptor, value, sizeof *value, 0);
    counted->op.complete = count;
    imv_ring_bind(&ring, sqe, &counted->op);
}

static int64_t now_ns(void) { return imv_clock_monotonic_ns(imv_clock_system()); }

/* Every operation completes once and in_flight counts them, also when far more are submitted than the ring holds. */
Test(ring, completes_each_operation_once) {
    enum { COUNT = 1000 };
    static struct counted operations[COUNT];
    for (int i = 0; i < COUNT; i++) submit_nop(&operations[i]);
    cr_assert_eq(ring.in_flight, COUNT);
    int done = 0;
    while (done < COUNT) {
        int more = imv_ring_run(&ring, -1);
        cr_assert_gt(more, 0);
        done += more;
    }
    cr_assert_eq(done, COUNT);
    cr_assert_eq(ring.in_flight, 0);
    for (int i = 0; i < COUNT; i++) cr_assert_eq(operations[i].completions, 1, "%d", i);
    cr_assert_eq(imv_ring_run(&ring, 0), 0);
}

/* A wait ends at its timeout, does not wait with 0, and ends at a completion without one. */
Test(ring, waits_as_long_as_asked) {
    int descriptor = eventfd(0, 0);
    uint64_t value;
    struct counted read = {0};
    submit_read(&read, descriptor, &value);
    int64_t start = now_ns();
    cr_assert_eq(imv_ring_run(&ring, 0), 0);
    cr_assert_lt(now_ns() - start, 15000000);
    start = now_ns();
    cr_assert_eq(imv_ring_run(&ring, 20000000), 0);
    cr_assert_geq(now_ns() - start, 20000000);
    cr_assert_eq(eventfd_write(descriptor, 7), 0);
    cr_assert_eq(imv_ring_run(&ring, -1), 1);
    cr_assert(read.completions == 1 && read.result == 8 && value == 7);
    close(descriptor);
}

static void *signal_parent(void *thread) {
    usleep(20000);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

static void on_signal(int number) { (void)number; }

/* A signal ends a wait without an error, so that the loop can look at its flags. */
Test(ring, is_woken_by_a_signal) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    int descriptor = eventfd(0, 0);
    uint64_t value;
    struct counted read = {0};
    submit_read(&read, descriptor, &value);
    pthread_t self = pthread_self(), thread;
    cr_assert_eq(pthread_create(&thread, NULL, signal_parent, &self), 0);
    cr_assert_eq(imv_ring_run(&ring, 10000000000), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(eventfd_write(descriptor, 1), 0);
    cr_assert_eq(imv_ring_run(&ring, -1), 1);
    close(descriptor);
}

/* `complete` may submit the same operation again. */
Test(ring, submits_again_from_complete) {
    struct counted counted = {.again = 20};
    submit_nop(&counted);
    while (ring.in_flight > 0) cr_assert_geq(imv_ring_run(&ring, -1), 0);
    cr_assert_eq(counted.completions, 21);
}

static void run_inside(struct imv_ring_op *op, int result, unsigned flags) {
    count(op, result, flags);
    cr_assert_geq(imv_ring_run(&ring, 0), 0);
}

/* `complete` may run the ring; no completion is lost or told twice by it. */
Test(ring, runs_from_complete) {
    struct counted operations[20] = {0};
    for (int i = 0; i < 20; i++) {
        submit_nop(&operations[i]);
        if (i % 3 == 0) operations[i].op.complete = run_inside;
    }
    while (ring.in_flight > 0) cr_assert_geq(imv_ring_run(&ring, -1), 0);
    for (int i = 0; i < 20; i++) cr_assert_eq(operations[i].completions, 1, "%d", i);
}

/* A multishot operation is under way until its last completion. */
Test(ring, counts_a_multishot_once) {
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    struct counted watch = {.op.complete = count};
    struct io_uring_sqe *sqe = imv_ring_sqe(&ring);
    io_uring_prep_poll_multishot(sqe, ends[0], POLLIN);
    imv_ring_bind(&ring, sqe, &watch.op);
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(write(ends[1], "x", 1), 1);
        cr_assert_eq(imv_ring_run(&ring, -1), 1);
        cr_assert_eq(watch.completions, i);
        cr_assert(watch.flags & IORING_CQE_F_MORE);
        cr_assert_eq(ring.in_flight, 1);
    }
    sqe = imv_ring_sqe(&ring);
    io_uring_prep_cancel(sqe, &watch.op, 0);
    imv_ring_bind(&ring, sqe, NULL);
    while (ring.in_flight > 0) cr_assert_geq(imv_ring_run(&ring, -1), 0);
    cr_assert_eq(watch.result, -ECANCELED);
    close(ends[0]);
    close(ends[1]);
}

/* A deferred completion comes with the next run, not before, and the run does not wait for more. */
Test(ring, completes_what_was_deferred) {
    struct counted counted[2] = {{.op.complete = count}, {.op.complete = count, .again = 1}};
    imv_ring_defer(&ring, &counted[0].op, -EAGAIN);
    imv_ring_defer(&ring, &counted[1].op, 5);
    cr_assert(counted[0].completions == 0 && ring.in_flight == 2);
    cr_assert_geq(imv_ring_run(&ring, -1), 2);
    cr_assert(counted[0].completions == 1 && counted[0].result == -EAGAIN && counted[1].completions >= 1);
    while (ring.in_flight > 0) cr_assert_geq(imv_ring_run(&ring, -1), 0);
    cr_assert(counted[1].completions == 2 && counted[1].result == 0);
}

/* Closing with operations under way does not call them, and closing twice is allowed. */
Test(ring, closes_with_operations_under_way) {
    int descriptor = eventfd(0, 0);
    static uint64_t value;
    static struct counted read;
    submit_read(&read, descriptor, &value);
    cr_assert_eq(imv_ring_run(&ring, 0), 0);
    imv_ring_close(&ring);
    imv_ring_close(&ring);
    cr_assert_eq(read.completions, 0);
    close(descriptor);
}

/* Where io_uring is forbidden, as in many containers, opening says IMV_UNSUPPORTED and why. */
Test(ring, says_where_it_is_forbidden) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    struct imv_ring other;
    cr_assert_eq(imv_ring_open(&other, 8, &err), IMV_UNSUPPORTED);
    cr_assert(strstr(err.message, "Operation not permitted") != NULL, "%s", err.message);
    imv_ring_close(&other);
}
