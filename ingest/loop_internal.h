/* loop_internal.h - what loop.c, loop_conn.c and the two back ends share; for these files only.
 *
 * loop.c (turn, messages, timers, listeners) and loop_conn.c (connections) own every decision: who may receive, into
 * what, when output goes out, who is cut. A back end only carries operations: it is told to receive, send, accept or
 * shut, and tells each completion once. io_uring does this by nature; loop_epoll.c plays it over readiness.
 *
 *     decision                      back end
 *     ops->receive(conn)       ->   recv ...   -> imv_conn_on_shared | on_received | on_end | on_starved
 *                                            | on_receive_failed
 *     ops->recall(conn)        ->   cancels it -> imv_conn_on_recalled (or one of the above, if that came first)
 *     ops->send(conn)          ->   send ...   -> imv_conn_on_sent | on_send_failed
 *     ops->shut(conn)          ->   makes both end soon, with any of the above
 *     ops->accept(listener)    ->   accept ... -> imv_listener_on_accepted, until imv_listener_on_stopped
 *     ops->stop(listener)      ->   cancels it -> imv_listener_on_stopped
 *
 * At most one receive and one send of a connection are under way. receive, send, shut and accept are called from the
 * settle phase only; a completion never starts the next operation itself but puts the connection on loop->todo. So
 * imv_conn_settle is the one place where a connection's state moves on, and where it is freed.
 *
 *     OPEN --close--> CLOSING --output sent--> LINGERING --peer's end or 2 s--> SHUT --nothing under way--> freed
 *       \---------------\----------- abort ------------\----------------------^
 */
#pragma once

#include "ingest/loop.h"
#include "storage/base/ring.h"

#include <stddef.h>
#include <sys/socket.h>

/* A doubly linked list whose head is a link of its own; a link that is in no list points to nothing. */
struct imv_link {
    struct imv_link *previous, *next;
};

static inline void imv_list_init(struct imv_link *list) { *list = (struct imv_link){list, list}; }
static inline bool imv_list_is_empty(const struct imv_link *list) { return list->next == list; }
static inline bool imv_link_is_in(const struct imv_link *link) { return link->next != NULL; }
static inline void imv_list_append(struct imv_link *list, struct imv_link *link) {
    *link = (struct imv_link){list->previous, list};
    link->previous->next = link;
    list->previous = link;
}
static inline void imv_link_remove(struct imv_link *link) {
    if (link->next == NULL) return;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    *link = (struct imv_link){NULL, NULL};
}
/* Moves everything from one list to the end of another. */
static inline void imv_list_move(struct imv_link *to, struct imv_link *from) {
    if (imv_list_is_empty(from)) return;
    from->next->previous = to->previous;
    to->previous->next = from->next;
    from->previous->next = to;
    to->previous = from->previous;
    imv_list_init(from);
}
#define IMV_LINK_OWNER(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

enum {
    IMV_SHARED_BYTES = 16 * 1024, /* one shared receive buffer: a request or a batch of lines mostly fits */
    IMV_SHARED_COUNT = 64,        /* of a loop; a power of two, as io_uring wants its buffer ring */
    /* The timer wheel: a tenth of a second is as exact as time-outs of seconds need to be; one turn of it is 51 s, so
     * an idle connection is looked at about once a minute. */
    IMV_WHEEL_TICK_NS = 100 * 1000 * 1000,
    IMV_WHEEL_SLOTS = 512,
};

/* Bytes received and not yet consumed: [bytes + start, bytes + start + size). */
struct imv_conn_input {
    char *bytes;       /* NULL: no buffer */
    uint32_t start;    /* first byte not consumed */
    uint32_t size;     /* bytes not consumed */
    uint32_t capacity; /* of bytes */
    int32_t shared;    /* number of the shared buffer that bytes is, or -1: bytes is the connection's own */
};

/* A piece of queued output. Bytes may be appended while its first part is being sent. */
struct imv_conn_block {
    struct imv_conn_block *next;
    uint32_t start, end, capacity; /* [start, end) is to be sent */
    bool charged;                  /* its memory is charged to the budget */
    char bytes[];
};

enum imv_conn_phase { IMV_CONN_OPEN, IMV_CONN_CLOSING, IMV_CONN_LINGERING, IMV_CONN_SHUT };

struct imv_epoll_source {
    void (*ready)(struct imv_epoll_source *source, uint32_t events);
};

struct imv_conn {
    struct imv_loop *loop;
    const struct imv_conn_handler *handler;
    void *state; /* the handler's */
    int fd;
    enum imv_conn_phase phase;
    bool paused;
    bool reoffer;            /* the rest goes to data once more at the next settle */
    bool bulk;               /* the last receive filled all it was given */
    bool ended;              /* the peer sent its end */
    bool end_told;           /* the handler knows */
    bool aborted;            /* to be shut at the next settle */
    bool wants_drained;      /* drained is to be called when the queue is empty */
    bool receiving, sending; /* under way in the back end */
    bool recalled;           /* ops->recall was called for the receive under way */
    struct imv_link all;     /* loop->connections */
    struct imv_link todo;    /* loop->todo: to be settled */
    struct imv_link waiting; /* loop->waiting: for a shared buffer or for budget */
    struct imv_link timer;   /* a slot of the wheel */
    int64_t tick;            /* of its slot */
    struct imv_conn_input input;
    struct imv_conn_block *output, *output_last;
    size_t unsent;
    int64_t idle_ns;
    int64_t received_ns; /* monotonic: bytes came, or a pause ended */
    int64_t sent_ns;     /* monotonic: the kernel took output, or the queue stopped being empty */
    int64_t linger_ns;   /* monotonic: end of LINGERING */
    union {
        struct {
            struct imv_ring_op receive, send;
        } uring;
        struct {
            struct imv_epoll_source source; /* first */
            struct imv_link ready;          /* epoll->ready: a receive is under way and the socket is readable */
            bool readable, writable, hung_up;
        } epoll;
    } backend;
    char peer[56]; /* "[IPv6 address]:port" */
};
_Static_assert(sizeof(struct imv_conn) <= 512, "thousands of idle connections cost little");

struct imv_listener {
    struct imv_loop *loop;
    const struct imv_conn_handler *handler;
    void *context;
    int fd;
    struct imv_link all; /* loop->listeners */
    bool accepting;      /* under way in the back end */
    bool stopping;
    int64_t retry_ns; /* monotonic; when not accepting: out of file descriptors, try again then */
    union {
        struct imv_ring_op uring;
        struct {
            struct imv_epoll_source source; /* first */
            struct imv_link ready;
            bool readable;
        } epoll;
    } backend;
};

struct imv_loop_ops {
    const char *name;
    bool drives_io; /* wait completes writes of loop->io; else imv_io_poll does */
    /* Sets loop->backend and loop->io. loop->shared is there. */
    imv_status (*open)(struct imv_loop *loop, struct imv_error *err);
    /* Nothing is under way any more. */
    void (*close)(struct imv_loop *loop);
    /* Waits for something to do, at most timeout_ns (negative: no limit), and tells what was done. */
    imv_status (*wait)(struct imv_loop *loop, int64_t timeout_ns, struct imv_error *err);
    void (*accept)(struct imv_listener *listener);
    void (*stop)(struct imv_listener *listener);
    imv_status (*attach)(struct imv_conn *conn, struct imv_error *err);
    void (*receive)(struct imv_conn *conn);
    void (*recall)(struct imv_conn *conn);
    void (*send)(struct imv_conn *conn);
    void (*shut)(struct imv_conn *conn);
    /* The shared buffer may be received into again. */
    void (*give)(struct imv_loop *loop, uint32_t shared);
};
extern const struct imv_loop_ops imv_loop_uring_ops, imv_loop_epoll_ops;

struct imv_loop {
    struct imv_loop_options options;
    const struct imv_loop_ops *ops;
    void *backend;
    struct imv_io *io;
    int wake_fd;    /* eventfd: written by other threads when the loop sleeps, read by the back end */
    int reserve_fd; /* given up to accept and refuse a connection when descriptors run out; -1 when lost */
    int64_t now_ns; /* monotonic, read once a turn, after the wait: use imv_loop_now */
    bool now_is_old;
    int64_t turn_ns;  /* what options.turn asked for */
    bool again;       /* a handler ran after options.turn: the next turn does not sleep */
    bool dispatching; /* inside ops->wait of a turn: handlers may be called */
    bool freeing;
    char *shared;       /* IMV_SHARED_COUNT buffers of IMV_SHARED_BYTES, page-aligned */
    uint32_t given;     /* buffers that came back since connections waiting for one were last served */
    int64_t waiting_ns; /* monotonic; when all waiting connections try again */
    uint32_t connections_count;
    struct imv_link connections, listeners, todo, waiting;
    struct imv_loop **peers;
    uint32_t peers_count;
    _Atomic uint32_t handed; /* of peers[0], by all of them: whose turn it is to get a connection; relaxed */
    int64_t complained_ns;   /* monotonic; last log line about descriptors or limits */
    uint64_t refused;        /* connections, since that line */
    int64_t wheel_tick;      /* the slots of all ticks before it are done */
    uint64_t wheel_used[IMV_WHEEL_SLOTS / 64]; /* slots that may hold something */
    struct imv_link wheel[IMV_WHEEL_SLOTS];
    _Alignas(64) _Atomic(struct imv_loop_message *) messages; /* newest first; pushed by all */
    _Atomic bool notified; /* something waits for the loop; set by all, cleared by the loop */
    _Atomic bool sleeping; /* whoever clears it writes wake_fd */
    _Atomic bool stopping;
};

static inline int64_t imv_loop_now(struct imv_loop *loop) {
    if (loop->now_is_old) loop->now_ns = imv_clock_monotonic_ns(loop->options.clock);
    loop->now_is_old = false;
    return loop->now_ns;
}
/* Makes sure that the connection is looked at by imv_conn_expire at deadline_ns or up to a tick later. */
void imv_loop_schedule(struct imv_conn *conn, int64_t deadline_ns);
/* A buffer or budget came back: one more waiting connection may try again. */
static inline void imv_loop_gave(struct imv_loop *loop) { loop->given++; }
/* Counts a refused connection and logs at most once a second how many were, and why. */
void imv_loop_complain(struct imv_loop *loop, const char *reason);

/* Makes a connection of an accepted socket, or closes it. */
void imv_conn_adopt(struct imv_loop *loop, int fd, const struct imv_conn_handler *handler, void *context);
/* Puts the connection on loop->todo. */
void imv_conn_touch(struct imv_conn *conn);
/* Does what the connection's state asks for; may free it. */
void imv_conn_settle(struct imv_conn *conn);
/* Acts on deadlines that have passed and schedules the next. */
void imv_conn_expire(struct imv_conn *conn);

/* Where the next receive of conn goes: its own buffer's free room, or {NULL, 0}: a shared buffer. */
struct imv_room {
    char *bytes;
    size_t size;
};
struct imv_room imv_conn_room(const struct imv_conn *conn);

/* Completions of a receive; the receive is no longer under way. */
void imv_conn_on_received(struct imv_conn *conn, size_t size);
void imv_conn_on_shared(struct imv_conn *conn, uint32_t shared, size_t size);
void imv_conn_on_starved(struct imv_conn *conn); /* no shared buffer */
void imv_conn_on_recalled(struct imv_conn *conn);
void imv_conn_on_end(struct imv_conn *conn);
/* Completion of a send; size may be less than what was queued. */
void imv_conn_on_sent(struct imv_conn *conn, size_t size);
/* A receive or a send ended by error_number. */
void imv_conn_on_receive_failed(struct imv_conn *conn, int error_number);
void imv_conn_on_send_failed(struct imv_conn *conn, int error_number);

void imv_listener_on_accepted(struct imv_listener *listener, int fd);
/* Accepting ended: by error_number, or 0 after stop, then the struct is freed. */
void imv_listener_on_stopped(struct imv_listener *listener, int error_number);
