/* Completions played over readiness. Sockets are watched edge-triggered, once for their whole life: an edge sets
 * `readable` or `writable`, a call that would block clears it, so an operation that is asked for later needs no system
 * call to know that it must wait. Sockets stay blocking; MSG_DONTWAIT is given with each call.
 */
#include "ingest/loop_internal.h"
#include "storage/base/assert.h"
#include "storage/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    ACCEPTS_MAX = 64, /* in a row, so that a storm of connects does not hold up the others */
};

struct epoll_backend {
    int fd;
    struct imv_epoll_source wake; /* of loop->wake_fd */
    struct imv_loop *loop;
    struct imv_link ready_conns, ready_listeners; /* an operation is under way and can be done */
    uint32_t shared_free[IMV_SHARED_COUNT];       /* a stack, so that the buffer in the cache is used next */
    uint32_t shared_free_count;
};

static struct epoll_backend *backend_of(struct imv_loop *loop) { return loop->backend; }

static struct imv_conn *conn_of(struct imv_epoll_source *source) {
    return IMV_LINK_OWNER(source, struct imv_conn, backend.epoll.source);
}

static imv_status watch(struct imv_loop *loop, int fd, struct imv_epoll_source *source, uint32_t events,
                        struct imv_error *err) {
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};
    if (epoll_ctl(backend_of(loop)->fd, EPOLL_CTL_ADD, fd, &event) == 0) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, errno, "epoll: cannot watch a descriptor");
}

/* ------------------------------------------------------------------------------------------------- receive and send */

static void queue_receive(struct imv_conn *conn) {
    if (!conn->receiving || !conn->backend.epoll.readable || imv_link_is_in(&conn->backend.epoll.ready)) return;
    imv_list_append(&backend_of(conn->loop)->ready_conns, &conn->backend.epoll.ready);
}

static void receive_now(struct imv_conn *conn) {
    struct epoll_backend *epoll = backend_of(conn->loop);
    struct imv_room room = imv_conn_room(conn);
    bool shared = room.bytes == NULL;
    if (shared && epoll->shared_free_count == 0) {
        imv_conn_on_starved(conn);
        return;
    }
    uint32_t index = 0;
    if (shared) {
        index = epoll->shared_free[--epoll->shared_free_count];
        room = (struct imv_room){conn->loop->shared + (size_t)index * IMV_SHARED_BYTES, IMV_SHARED_BYTES};
    }
    ssize_t got;
    do got = recv(conn->fd, room.bytes, room.size, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    int error_number = errno;
    /* A short read has emptied the socket; the next byte is a new edge. Only the peer's end gives no edge after the one
     * that announced it. */
    if (got > 0 && (size_t)got < room.size && !conn->backend.epoll.hung_up) conn->backend.epoll.readable = false;
    if (shared && got > 0) {
        imv_conn_on_shared(conn, index, (size_t)got);
        return;
    }
    if (shared) epoll->shared_free[epoll->shared_free_count++] = index;
    if (got > 0)
        imv_conn_on_received(conn, (size_t)got);
    else if (got == 0)
        imv_conn_on_end(conn);
    else if (error_number == EAGAIN)
        conn->backend.epoll.readable = false; /* still under way */
    else
        imv_conn_on_receive_failed(conn, error_number);
}

static void send_now(struct imv_conn *conn) {
    struct imv_conn_block *block = conn->output;
    ssize_t put;
    do put = send(conn->fd, block->bytes + block->start, block->end - block->start, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (put < 0 && errno == EINTR);
    if (put >= 0)
        imv_conn_on_sent(conn, (size_t)put);
    else if (errno == EAGAIN)
        conn->backend.epoll.writable = false; /* still under way */
    else
        imv_conn_on_send_failed(conn, errno);
}

static void conn_ready(struct imv_epoll_source *source, uint32_t events) {
    struct imv_conn *conn = conn_of(source);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        conn->backend.epoll.readable = true;
        if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) conn->backend.epoll.hung_up = true;
        queue_receive(conn);
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        conn->backend.epoll.writable = true;
        if (conn->sending) send_now(conn);
    }
}

static imv_status epoll_attach(struct imv_conn *conn, struct imv_error *err) {
    conn->backend.epoll.source.ready = conn_ready;
    return watch(conn->loop, conn->fd, &conn->backend.epoll.source, EPOLLIN | EPOLLOUT | EPOLLRDHUP, err);
}

static void epoll_receive(struct imv_conn *conn) { queue_receive(conn); }

static void epoll_recall(struct imv_conn *conn) {
    imv_link_remove(&conn->backend.epoll.ready);
    imv_conn_on_recalled(conn);
}

static void epoll_send(struct imv_conn *conn) {
    if (conn->backend.epoll.writable) send_now(conn);
}

/* Nothing is left in the kernel: an operation that is under way is one that waits for us. */
static void epoll_shut(struct imv_conn *conn) {
    imv_link_remove(&conn->backend.epoll.ready);
    conn->receiving = conn->sending = false;
    imv_conn_touch(conn);
}

static void epoll_give(struct imv_loop *loop, uint32_t shared) {
    struct epoll_backend *epoll = backend_of(loop);
    imv_assert(epoll->shared_free_count < IMV_SHARED_COUNT);
    epoll->shared_free[epoll->shared_free_count++] = shared;
}

/* ----------------------------------------------------------------------------------------------------------- accept */

static void queue_accept(struct imv_listener *listener) {
    if (!listener->accepting || !listener->backend.epoll.readable) return;
    if (imv_link_is_in(&listener->backend.epoll.ready)) return;
    imv_list_append(&backend_of(listener->loop)->ready_listeners, &listener->backend.epoll.ready);
}

static void accept_now(struct imv_listener *listener) {
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (errno == EAGAIN) listener->backend.epoll.readable = false;
            return;
        }
        if (fd < 0) {
            imv_listener_on_stopped(listener, errno);
            return;
        }
        imv_listener_on_accepted(listener, fd);
    }
    queue_accept(listener);
}

static void listener_ready(struct imv_epoll_source *source, uint32_t events) {
    (void)events;
    struct imv_listener *listener = IMV_LINK_OWNER(source, struct imv_listener, backend.epoll.source);
    listener->backend.epoll.readable = true;
    queue_accept(listener);
}

/* The first time it also starts to watch, which tells at once whether connections wait already. */
static void epoll_accept(struct imv_listener *listener) {
    struct imv_epoll_source *source = &listener->backend.epoll.source;
    struct imv_error why;
    if (source->ready == NULL) {
        fcntl(listener->fd, F_SETFL, fcntl(listener->fd, F_GETFL) | O_NONBLOCK);
        if (watch(listener->loop, listener->fd, source, EPOLLIN, &why) != IMV_OK) {
            imv_listener_on_stopped(listener, ENOMEM);
            return;
        }
        source->ready = listener_ready;
    }
    queue_accept(listener);
}

static void epoll_stop(struct imv_listener *listener) {
    imv_link_remove(&listener->backend.epoll.ready);
    imv_listener_on_stopped(listener, 0);
}

/* ------------------------------------------------------------------------------------------------------------- turn */

static void wake_ready(struct imv_epoll_source *source, uint32_t events) {
    (void)events;
    struct epoll_backend *epoll = IMV_LINK_OWNER(source, struct epoll_backend, wake);
    uint64_t count;
    ssize_t got = read(epoll->loop->wake_fd, &count, sizeof count);
    (void)got;
}

/* Rounded up: a loop that wakes too early would spin until its deadline. */
static int milliseconds(int64_t timeout_ns) {
    if (timeout_ns < 0) return -1;
    int64_t result = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return result < 3600 * 1000 ? (int)result : 3600 * 1000;
}

static imv_status epoll_wait_once(struct imv_loop *loop, int64_t timeout_ns, struct imv_error *err) {
    struct epoll_backend *epoll = backend_of(loop);
    struct epoll_event events[EVENTS_MAX];
    bool ready = !imv_list_is_empty(&epoll->ready_conns) || !imv_list_is_empty(&epoll->ready_listeners);
    int count = epoll_wait(epoll->fd, events, EVENTS_MAX, ready ? 0 : milliseconds(timeout_ns));
    if (count < 0 && errno != EINTR) return imv_fail_errno(err, IMV_IO, errno, "epoll: wait failed");
    for (int i = 0; i < count; i++) {
        struct imv_epoll_source *source = events[i].data.ptr;
        source->ready(source, events[i].events);
    }
    struct imv_link batch;
    imv_list_init(&batch);
    imv_list_move(&batch, &epoll->ready_listeners);
    while (!imv_list_is_empty(&batch)) {
        struct imv_listener *listener = IMV_LINK_OWNER(batch.next, struct imv_listener, backend.epoll.ready);
        imv_link_remove(&listener->backend.epoll.ready);
        accept_now(listener);
    }
    imv_list_move(&batch, &epoll->ready_conns);
    while (!imv_list_is_empty(&batch)) {
        struct imv_conn *conn = IMV_LINK_OWNER(batch.next, struct imv_conn, backend.epoll.ready);
        imv_link_remove(&conn->backend.epoll.ready);
        receive_now(conn);
    }
    return IMV_OK;
}

static void epoll_close(struct imv_loop *loop) {
    close(backend_of(loop)->fd);
    free(loop->backend);
}

static imv_status epoll_open(struct imv_loop *loop, struct imv_error *err) {
    struct epoll_backend *epoll = calloc(1, sizeof *epoll);
    if (epoll == NULL) return imv_fail(err, IMV_NO_MEMORY, "epoll: no memory");
    loop->backend = epoll;
    *epoll = (struct epoll_backend){.fd = epoll_create1(EPOLL_CLOEXEC), .wake.ready = wake_ready, .loop = loop};
    imv_list_init(&epoll->ready_conns);
    imv_list_init(&epoll->ready_listeners);
    for (uint32_t i = 0; i < IMV_SHARED_COUNT; i++) epoll_give(loop, i);
    imv_status status = IMV_OK;
    if (epoll->fd < 0)
        status = imv_fail_errno(err, IMV_IO, errno, "epoll: cannot open");
    else
        status = watch(loop, loop->wake_fd, &epoll->wake, EPOLLIN, err);
    if (status == IMV_OK) status = imv_io_sys_new(&loop->io, err);
    if (status == IMV_OK) return IMV_OK;
    if (epoll->fd >= 0) close(epoll->fd);
    free(epoll);
    return status;
}

const struct imv_loop_ops imv_loop_epoll_ops = {
    .name = "epoll",
    .open = epoll_open,
    .close = epoll_close,
    .wait = epoll_wait_once,
    .accept = epoll_accept,
    .stop = epoll_stop,
    .attach = epoll_attach,
    .receive = epoll_receive,
    .recall = epoll_recall,
    .send = epoll_send,
    .shut = epoll_shut,
    .give = epoll_give,
};
