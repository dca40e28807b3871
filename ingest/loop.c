#include "ingest/loop.h"

#include "ingest/loop_internal.h"
#include "storage/base/assert.h"
#include "storage/base/budget.h"
#include "storage/base/io.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SHARED_BYTES_ALL = IMV_SHARED_BYTES * IMV_SHARED_COUNT,
    LISTEN_BACKLOG = 4096,        /* the kernel cuts it to net.core.somaxconn */
    RETRY_NS = 100 * 1000 * 1000, /* out of descriptors or memory: how long others have to give some back */
    SHED_MAX = 64, /* connections refused in one go when out of descriptors: 640 a second, at next to no CPU */
};
#define COMPLAINT_NS INT64_C(1000000000)

static void loop_run_messages(struct imv_loop *loop);
static void loop_settle(struct imv_loop *loop);
static void loop_expire(struct imv_loop *loop);
static int64_t loop_sleep_ns(struct imv_loop *loop, int64_t timeout_ns);
static void loop_close_all(struct imv_loop *loop);
static imv_status loop_open_backend(struct imv_loop *loop, struct imv_error *err);

/* -------------------------------------------------------------------------------------------------------- life */

imv_status imv_loop_new(const struct imv_loop_options *options, struct imv_loop **loop, struct imv_error *err) {
    struct imv_loop *made = aligned_alloc(_Alignof(struct imv_loop), sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "loop: no memory");
    *made = (struct imv_loop){.options = *options,
                              .turn_ns = INT64_MAX,
                              .wake_fd = -1,
                              .reserve_fd = -1,
                              .now_is_old = true,
                              .shared = MAP_FAILED};
    imv_list_init(&made->connections);
    imv_list_init(&made->listeners);
    imv_list_init(&made->todo);
    imv_list_init(&made->waiting);
    for (size_t i = 0; i < IMV_WHEEL_SLOTS; i++) imv_list_init(&made->wheel[i]);
    made->wheel_tick = imv_loop_now(made) / IMV_WHEEL_TICK_NS;
    made->complained_ns = made->now_ns - COMPLAINT_NS;
    imv_status status = IMV_OK;
    if (options->budget != NULL && !imv_budget_take(options->budget, SHARED_BYTES_ALL)) {
        free(made);
        return imv_fail(err, IMV_FULL, "loop %u: budget %s cannot spare %d bytes of receive buffers", options->index,
                        options->budget->name, SHARED_BYTES_ALL);
    }
    made->shared = mmap(NULL, SHARED_BYTES_ALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    made->wake_fd = eventfd(0, EFD_CLOEXEC);
    made->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (made->shared == MAP_FAILED) {
        status = imv_fail_errno(err, IMV_NO_MEMORY, errno, "loop %u: no memory for receive buffers", options->index);
    } else if (made->wake_fd < 0 || made->reserve_fd < 0) {
        status = imv_fail_errno(err, IMV_IO, errno, "loop %u: no file descriptor", options->index);
    } else {
        status = loop_open_backend(made, err);
    }
    if (status != IMV_OK) {
        imv_loop_free(made);
        return status;
    }
    *loop = made;
    return IMV_OK;
}

static imv_status loop_open_backend(struct imv_loop *loop, struct imv_error *err) {
    if (!loop->options.epoll) {
        struct imv_error why;
        loop->ops = &imv_loop_uring_ops;
        if (loop->ops->open(loop, &why) == IMV_OK) return IMV_OK;
        imv_log(IMV_LOG_WARN, "loop", "loop=%u falls back to epoll: %s", loop->options.index, why.message);
    }
    loop->ops = &imv_loop_epoll_ops;
    imv_status status = loop->ops->open(loop, err);
    if (status != IMV_OK) loop->ops = NULL;
    return status;
}

void imv_loop_free(struct imv_loop *loop) {
    if (loop == NULL) return;
    loop->freeing = true;
    if (loop->ops != NULL) {
        loop_close_all(loop);
        loop_run_messages(loop);
        imv_io_free(loop->io);
        loop->ops->close(loop);
    }
    if (loop->wake_fd >= 0) close(loop->wake_fd);
    if (loop->reserve_fd >= 0) close(loop->reserve_fd);
    if (loop->shared != MAP_FAILED) munmap(loop->shared, SHARED_BYTES_ALL);
    if (loop->options.budget != NULL) imv_budget_give(loop->options.budget, SHARED_BYTES_ALL);
    free(loop);
}

/* Waits out what the kernel still holds of our memory. */
static void loop_close_all(struct imv_loop *loop) {
    imv_loop_stop_listening(loop);
    for (struct imv_link *link = loop->connections.next; link != &loop->connections; link = link->next) {
        imv_conn_abort(IMV_LINK_OWNER(link, struct imv_conn, all));
    }
    while (!imv_list_is_empty(&loop->connections) || !imv_list_is_empty(&loop->listeners)) {
        loop_settle(loop);
        loop->now_is_old = true;
        loop->dispatching = true;
        imv_status status = loop->ops->wait(loop, imv_list_is_empty(&loop->todo) ? RETRY_NS : 0, NULL);
        loop->dispatching = false;
        imv_assert(status == IMV_OK);
    }
}

const char *imv_loop_backend(const struct imv_loop *loop) { return loop->ops->name; }
uint32_t imv_loop_index(const struct imv_loop *loop) { return loop->options.index; }
uint32_t imv_loop_connections_count(const struct imv_loop *loop) { return loop->connections_count; }
struct imv_io *imv_loop_io(struct imv_loop *loop) {
    return loop->io;
}

/* -------------------------------------------------------------------------------------------------------- turn */

imv_status imv_loop_run(struct imv_loop *loop, struct imv_error *err) {
    char name[16];
    snprintf(name, sizeof name, "imv-shard-%u", loop->options.index % 10000);
    pthread_setname_np(pthread_self(), name);
    while (!atomic_load(&loop->stopping)) IMV_TRY(imv_loop_step(loop, -1, err));
    atomic_store(&loop->stopping, false);
    return IMV_OK;
}

imv_status imv_loop_step(struct imv_loop *loop, int64_t timeout_ns, struct imv_error *err) {
    /* What was submitted since the last wait is written before the loop sleeps; who waits for it gets a turn. */
    if (!loop->ops->drives_io && imv_io_poll(loop->io, false) > 0) loop->again = true;
    int64_t sleep_ns = loop_sleep_ns(loop, timeout_ns);
    if (sleep_ns != 0) {
        /* Pairs with imv_loop_wake: either the waker sees that we sleep, or we see that there is something to do. */
        atomic_store(&loop->sleeping, true);
        if (atomic_load(&loop->notified)) sleep_ns = 0;
    }
    loop->again = false;
    loop->now_is_old = true;
    loop->dispatching = true;
    imv_status status = loop->ops->wait(loop, sleep_ns, err);
    loop->dispatching = false;
    atomic_store(&loop->sleeping, false);
    atomic_exchange(&loop->notified, false);
    if (status != IMV_OK) return status;
    loop_run_messages(loop);
    loop_expire(loop);
    if (loop->options.turn != NULL) loop->turn_ns = loop->options.turn(loop->options.context);
    loop_settle(loop);
    return IMV_OK;
}

/* How long the next wait may last: negative for no limit. */
static int64_t loop_sleep_ns(struct imv_loop *loop, int64_t timeout_ns) {
    if (timeout_ns == 0 || loop->again || !imv_list_is_empty(&loop->todo)) return 0;
    int64_t deadline_ns = loop->turn_ns;
    for (struct imv_link *link = loop->listeners.next; link != &loop->listeners; link = link->next) {
        const struct imv_listener *listener = IMV_LINK_OWNER(link, struct imv_listener, all);
        if (!listener->accepting && listener->retry_ns < deadline_ns) deadline_ns = listener->retry_ns;
    }
    if (!imv_list_is_empty(&loop->waiting) && loop->waiting_ns < deadline_ns) deadline_ns = loop->waiting_ns;
    for (int64_t tick = loop->wheel_tick; tick < loop->wheel_tick + IMV_WHEEL_SLOTS; tick++) {
        size_t slot = (size_t)tick % IMV_WHEEL_SLOTS, left = 64 - slot % 64;
        uint64_t used = loop->wheel_used[slot / 64] >> (slot % 64);
        if (used == 0) {
            tick += (int64_t)left - 1;
        } else if (!imv_list_is_empty(&loop->wheel[slot])) {
            if (tick * IMV_WHEEL_TICK_NS < deadline_ns) deadline_ns = tick * IMV_WHEEL_TICK_NS;
            break;
        } else {
            loop->wheel_used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
        }
    }
    if (deadline_ns == INT64_MAX) return timeout_ns;
    int64_t sleep_ns = deadline_ns - imv_clock_monotonic_ns(loop->options.clock);
    if (sleep_ns < 0) sleep_ns = 0;
    return timeout_ns < 0 || sleep_ns < timeout_ns ? sleep_ns : timeout_ns;
}

static void loop_serve_waiting(struct imv_loop *loop) {
    bool all = !imv_list_is_empty(&loop->waiting) && imv_loop_now(loop) >= loop->waiting_ns;
    if (all) {
        loop->waiting_ns = imv_loop_now(loop) + RETRY_NS;
        /* Takes buffers from those who do not use them right now. */
        for (struct imv_link *link = loop->connections.next; link != &loop->connections; link = link->next) {
            imv_conn_expire(IMV_LINK_OWNER(link, struct imv_conn, all));
        }
    }
    while (!imv_list_is_empty(&loop->waiting) && (all || loop->given > 0)) {
        struct imv_conn *conn = IMV_LINK_OWNER(loop->waiting.next, struct imv_conn, waiting);
        imv_link_remove(&conn->waiting);
        imv_conn_touch(conn);
        if (loop->given > 0) loop->given--;
    }
    loop->given = 0;
}

static void loop_settle(struct imv_loop *loop) {
    for (struct imv_link *link = loop->listeners.next; link != &loop->listeners; link = link->next) {
        struct imv_listener *listener = IMV_LINK_OWNER(link, struct imv_listener, all);
        if (listener->accepting || listener->stopping || imv_loop_now(loop) < listener->retry_ns) continue;
        listener->accepting = true;
        loop->ops->accept(listener);
    }
    loop_serve_waiting(loop);
    /* Those that are touched meanwhile have their turn after the next wait, so that no connection holds up the
     * others. */
    struct imv_link batch;
    imv_list_init(&batch);
    imv_list_move(&batch, &loop->todo);
    while (!imv_list_is_empty(&batch)) {
        struct imv_conn *conn = IMV_LINK_OWNER(batch.next, struct imv_conn, todo);
        imv_link_remove(&conn->todo);
        imv_conn_settle(conn);
    }
}

/* ---------------------------------------------------------------------------------------------------- deadlines */

void imv_loop_schedule(struct imv_conn *conn, int64_t deadline_ns) {
    struct imv_loop *loop = conn->loop;
    if (deadline_ns == INT64_MAX) return;
    int64_t tick = deadline_ns / IMV_WHEEL_TICK_NS + (deadline_ns % IMV_WHEEL_TICK_NS != 0);
    if (tick < loop->wheel_tick) tick = loop->wheel_tick;
    if (tick > loop->wheel_tick + IMV_WHEEL_SLOTS - 1) tick = loop->wheel_tick + IMV_WHEEL_SLOTS - 1;
    /* A deadline that moved back is found out when the old one is looked at: traffic does not touch the wheel. */
    if (imv_link_is_in(&conn->timer) && conn->tick <= tick) return;
    imv_link_remove(&conn->timer);
    conn->tick = tick;
    size_t slot = (size_t)tick % IMV_WHEEL_SLOTS;
    imv_list_append(&loop->wheel[slot], &conn->timer);
    loop->wheel_used[slot / 64] |= UINT64_C(1) << (slot % 64);
}

static void loop_expire(struct imv_loop *loop) {
    int64_t last = imv_loop_now(loop) / IMV_WHEEL_TICK_NS, first = loop->wheel_tick;
    if (last < first) return;
    struct imv_link due;
    imv_list_init(&due);
    for (int64_t tick = first; tick <= last && tick < first + IMV_WHEEL_SLOTS; tick++) {
        imv_list_move(&due, &loop->wheel[(size_t)tick % IMV_WHEEL_SLOTS]);
    }
    loop->wheel_tick = last + 1;
    while (!imv_list_is_empty(&due)) {
        struct imv_conn *conn = IMV_LINK_OWNER(due.next, struct imv_conn, timer);
        imv_link_remove(&conn->timer);
        imv_conn_expire(conn);
    }
}

/* ----------------------------------------------------------------------------------------------------- messages */

void imv_loop_stop(struct imv_loop *loop) {
    atomic_store(&loop->stopping, true);
    imv_loop_wake(loop);
}

void imv_loop_wake(struct imv_loop *loop) {
    /* The exchanges order what the caller wrote before what the loop reads after it cleared the flags. */
    if (atomic_exchange(&loop->notified, true)) return;
    if (!atomic_exchange(&loop->sleeping, false)) return;
    int saved = errno;
    ssize_t written = write(loop->wake_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)written; /* cannot block: at most one write a sleep */
    errno = saved;
}

void imv_loop_post(struct imv_loop *loop, struct imv_loop_message *message) {
    message->next = atomic_load_explicit(&loop->messages, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&loop->messages, &message->next, message, memory_order_release,
                                                  memory_order_relaxed)) {}
    imv_loop_wake(loop);
}

static void loop_run_messages(struct imv_loop *loop) {
    if (atomic_load_explicit(&loop->messages, memory_order_relaxed) == NULL) return;
    struct imv_loop_message *newest = atomic_exchange_explicit(&loop->messages, NULL, memory_order_acquire);
    struct imv_loop_message *oldest = NULL;
    while (newest != NULL) {
        struct imv_loop_message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct imv_loop_message *next = oldest->next;
        oldest->run(oldest);
        oldest = next;
    }
}

/* ---------------------------------------------------------------------------------------------------- listeners */

struct address {
    struct sockaddr_storage storage;
    socklen_t size;
};

static imv_status parse_address(const char *text, uint16_t port, struct address *address, struct imv_error *err) {
    *address = (struct address){0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->storage;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        address->size = sizeof *v4;
    } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        address->size = sizeof *v6;
    } else {
        return imv_fail(err, IMV_INVALID, "loop: not a numeric IPv4 or IPv6 address: %s", text);
    }
    return IMV_OK;
}

/* SO_REUSEPORT lets any process of the same user join an address, so a second server would silently take half of the
 * connections. The first loop therefore binds without it, which fails when anybody is there, and allows its peers to
 * join afterwards. */
static int bind_and_listen(int fd, const struct address *address, bool first) {
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) return errno;
    if (!first && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return errno;
    if (bind(fd, (const struct sockaddr *)&address->storage, address->size) != 0) return errno;
    if (first && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) return errno;
    if (listen(fd, LISTEN_BACKLOG) != 0) return errno;
    return 0;
}

imv_status imv_loop_listen(struct imv_loop *loop, const char *address_text, uint16_t port,
                           const struct imv_conn_handler *handler, void *context, uint16_t *bound_port,
                           struct imv_error *err) {
    struct address address;
    IMV_TRY(parse_address(address_text, port, &address, err));
    struct imv_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) return imv_fail(err, IMV_NO_MEMORY, "loop: no memory for a listener");
    *listener = (struct imv_listener){.loop = loop, .handler = handler, .context = context};
    listener->fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error_number = listener->fd < 0 ? errno : bind_and_listen(listener->fd, &address, loop->options.index == 0);
    if (error_number == 0 && getsockname(listener->fd, (struct sockaddr *)&address.storage, &address.size) != 0) {
        error_number = errno;
    }
    if (error_number != 0) {
        if (listener->fd >= 0) close(listener->fd);
        free(listener);
        return imv_fail_errno(err, error_number == EADDRINUSE ? IMV_BUSY : IMV_IO, error_number,
                              "loop: cannot listen on %s port %u", address_text, port);
    }
    *bound_port = ntohs(address.storage.ss_family == AF_INET ? ((struct sockaddr_in *)&address.storage)->sin_port
                                                             : ((struct sockaddr_in6 *)&address.storage)->sin6_port);
    imv_list_append(&loop->listeners, &listener->all);
    return IMV_OK;
}

static void listener_free(struct imv_listener *listener) {
    imv_link_remove(&listener->all);
    close(listener->fd);
    free(listener);
}

void imv_loop_stop_listening(struct imv_loop *loop) {
    for (struct imv_link *link = loop->listeners.next, *next; link != &loop->listeners; link = next) {
        next = link->next;
        struct imv_listener *listener = IMV_LINK_OWNER(link, struct imv_listener, all);
        if (listener->stopping) continue;
        listener->stopping = true;
        if (listener->accepting)
            loop->ops->stop(listener);
        else
            listener_free(listener);
    }
}

void imv_loop_set_peers(struct imv_loop *loop, struct imv_loop **peers, uint32_t count) {
    loop->peers = peers;
    loop->peers_count = count;
}

/* An accepted socket on its way to the loop that will own it. */
struct handoff {
    struct imv_loop_message message; /* first */
    struct imv_loop *loop;
    const struct imv_conn_handler *handler;
    void *context;
    int fd;
};

static void handoff_run(struct imv_loop_message *message) {
    struct handoff *handoff = (struct handoff *)message;
    imv_conn_adopt(handoff->loop, handoff->fd, handoff->handler, handoff->context);
    free(handoff);
}

void imv_listener_on_accepted(struct imv_listener *listener, int fd) {
    struct imv_loop *loop = listener->loop, *owner = loop;
    imv_metric_add(IMV_METRIC_connections_total, 1);
    if (loop->peers_count > 1) {
        uint32_t turn = atomic_fetch_add_explicit(&loop->peers[0]->handed, 1, memory_order_relaxed);
        owner = loop->peers[turn % loop->peers_count];
    }
    if (owner == loop || listener->stopping) {
        imv_conn_adopt(loop, fd, listener->handler, listener->context);
        return;
    }
    struct handoff *handoff = malloc(sizeof *handoff);
    if (handoff == NULL) {
        close(fd);
        imv_loop_complain(loop, "no memory");
        return;
    }
    *handoff = (struct handoff){{.run = handoff_run}, owner, listener->handler, listener->context, fd};
    imv_loop_post(owner, &handoff->message);
}

/* Clients that wait in the backlog would hang until their own time-out, so some are accepted and closed, with a
 * descriptor kept for this. */
static void listener_shed(struct imv_listener *listener) {
    struct imv_loop *loop = listener->loop;
    int flags = fcntl(listener->fd, F_GETFL);
    fcntl(listener->fd, F_SETFL, flags | O_NONBLOCK);
    int fd = 0;
    for (int i = 0; i < SHED_MAX && fd >= 0; i++) {
        if (loop->reserve_fd >= 0) close(loop->reserve_fd);
        fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            close(fd);
            imv_metric_add(IMV_METRIC_connections_total, 1);
            imv_loop_complain(loop, "out of file descriptors");
        }
        loop->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    fcntl(listener->fd, F_SETFL, flags);
}

void imv_listener_on_stopped(struct imv_listener *listener, int error_number) {
    struct imv_loop *loop = listener->loop;
    listener->accepting = false;
    if (listener->stopping) {
        listener_free(listener);
        return;
    }
    listener->retry_ns = imv_loop_now(loop);
    /* The connection that failed was at fault, not we: the next may do better. */
    if (error_number == 0 || error_number == ECONNABORTED || error_number == EINTR || error_number == EAGAIN) return;
    if (error_number == EMFILE || error_number == ENFILE) {
        listener_shed(listener);
    } else {
        struct imv_error why;
        imv_fail_errno(&why, IMV_IO, error_number, "loop %u: cannot accept for %s", loop->options.index,
                       listener->handler->name);
        imv_log(IMV_LOG_WARN, "loop", "%s", why.message);
    }
    listener->retry_ns += RETRY_NS;
}

void imv_loop_complain(struct imv_loop *loop, const char *reason) {
    imv_metric_add(IMV_METRIC_connections_rejected_total, 1);
    loop->refused++;
    if (imv_loop_now(loop) - loop->complained_ns < COMPLAINT_NS) return;
    imv_log(IMV_LOG_WARN, "loop", "loop=%u refused %" PRIu64 " connections: %s (open=%u max=%u)", loop->options.index,
            loop->refused, reason, loop->connections_count, loop->options.connections_max);
    loop->complained_ns = loop->now_ns;
    loop->refused = 0;
}
