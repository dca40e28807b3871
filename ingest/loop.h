/* loop.h - the event loop of one shard thread: sockets, messages from other threads, timers, and the ring that the
 * journal shares.
 *
 * Two back ends behind one interface: io_uring (loop_uring.c) and epoll (loop_epoll.c), which is used where io_uring is
 * forbidden and says so at start. The loop knows nothing of protocols: a connection has a handler, a struct of
 * functions, and a state that belongs to it.
 *
 *     turn:  wait for completions or the nearest deadline -> data, end, drained of handlers -> messages -> deadlines
 *            -> options.turn (the shard runs, acknowledgements go out) -> settle: start what handlers asked for
 *
 * Handlers are called from the turn only, never from within a call that a handler or `turn` makes.
 *
 * Receiving. An idle connection holds no buffer: its first bytes arrive in one of 64 shared buffers of 16 KiB that the
 * loop provides; bytes that are taken whole cost nothing more. A rest moves to the connection's own buffer, of 4 KiB up
 * to IMV_CONN_INPUT_BYTES, charged to the budget; a connection that fills what it is given gets the largest and
 * receives into it directly. A second without traffic shrinks the buffer to what it holds. When the budget is spent,
 * connections wait, unread, until memory comes back: not receiving is the back-pressure. Sending. Bytes are queued per
 * connection up to IMV_CONN_OUTPUT_BYTES_MAX; a peer that takes nothing within the stall time is cut.
 *
 * Everything belongs to the loop's thread but imv_loop_post, imv_loop_wake and imv_loop_stop.
 */
#pragma once

#include "storage/base/bytes.h"
#include "storage/base/clock.h"
#include "storage/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct imv_budget;
struct imv_io;
struct imv_loop;
struct imv_conn;

enum {
    IMV_CONN_INPUT_BYTES = 256 * 1024,    /* the longest run of bytes a handler may leave unconsumed */
    IMV_CONN_OUTPUT_BYTES_MAX = 1 << 20,  /* queued and not yet taken by the kernel */
    IMV_CONN_OUTPUT_BYTES_FREE = 1 << 16, /* of these, what a stream may queue although the budget is spent */
};

struct imv_conn_handler {
    const char *name; /* protocol, for logs */
    /* A connection was accepted. The handler sets the state (imv_conn_set_state). A failure closes it, and closed is
     * not called. Runs on the thread of the loop that the connection was given to, which need not be the listener's. */
    imv_status (*open)(struct imv_conn *conn, void *listener_context);
    /* Bytes arrived: takes what it can use and returns how many. The rest is offered again with more behind it. When it
     * returns 0 with IMV_CONN_INPUT_BYTES offered, the connection is closed as a protocol error. */
    size_t (*data)(struct imv_conn *conn, const char *bytes, size_t size);
    /* The peer sent its end (half-close), after data was offered all that came before. What is still unconsumed is in
     * imv_conn_rest; imv_conn_resume offers it once more. The handler may go on sending and closes when it is done.
     * NULL: imv_conn_close. */
    void (*end)(struct imv_conn *conn);
    /* The output queue is empty after it was more than half full or imv_conn_send or imv_conn_may_send refused. May be
     * NULL. */
    void (*drained)(struct imv_conn *conn);
    /* The connection is gone; the handler frees its state. Called once for each open that succeeded. */
    void (*closed)(struct imv_conn *conn);
};

struct imv_loop_options {
    uint32_t index;            /* shard number, for logs and thread name */
    bool epoll;                /* use epoll even where io_uring works */
    struct imv_budget *budget; /* for the shared buffers (1 MiB a loop), connection buffers and queued output; when
                                  spent, connections wait for a buffer. NULL: no limit */
    uint32_t connections_max;  /* of this loop; one more is accepted and closed at once, counted as rejected */
    int64_t idle_ns;  /* a connection without traffic either way for this long is closed, unless it is paused; 0:
                                 never. A handler may set another value per connection */
    int64_t stall_ns; /* a connection whose peer takes none of the queued output for this long is closed; 0:
                                 never */
    const struct imv_clock *clock;
    /* Called once a turn after all events, before the loop sleeps again. Returns the monotonic ns at which it wants to
     * be called again at the latest (INT64_MAX: whenever something happens). */
    int64_t (*turn)(void *context);
    void *context;
};

/* Makes a loop; must be called on the thread that will run it and free it. Where io_uring cannot be had, the reason is
 * logged and epoll is used. */
imv_status imv_loop_new(const struct imv_loop_options *options, struct imv_loop **loop, struct imv_error *err);
/* Closes all connections (closed is called) and listeners. Files of imv_loop_io are closed before. While a peer still
 * listens it may post accepted connections here: stop listening on all peers, each on its thread, before the first of
 * them is freed. NULL is allowed. */
void imv_loop_free(struct imv_loop *loop);
/* options.index. */
uint32_t imv_loop_index(const struct imv_loop *loop);
/* "io_uring" or "epoll". */
const char *imv_loop_backend(const struct imv_loop *loop);
/* options.index. */
uint32_t imv_loop_index(const struct imv_loop *loop);
/* Open connections. */
uint32_t imv_loop_connections_count(const struct imv_loop *loop);
/* The I/O back end for this thread's files: asynchronous writes complete inside imv_loop_run. Owned by the loop. */
struct imv_io *imv_loop_io(struct imv_loop *loop);

/* Runs until imv_loop_stop; returns the failure that ended it. */
imv_status imv_loop_run(struct imv_loop *loop, struct imv_error *err);
/* One turn: waits at most timeout_ns (0: not at all, negative: no limit). For tests and shutdown. */
imv_status imv_loop_step(struct imv_loop *loop, int64_t timeout_ns, struct imv_error *err);
/* Ends the imv_loop_run under way, or the next one. Any thread, also a signal handler. */
void imv_loop_stop(struct imv_loop *loop);
/* Wakes the loop so that `turn` is called soon. Any thread; cheap when the loop is awake. */
void imv_loop_wake(struct imv_loop *loop);

/* Runs message->run(message) on the loop's thread, soon. Any thread; the message is the caller's until run is called.
 * Messages that are still queued when the loop is freed are run then. */
struct imv_loop_message {
    struct imv_loop_message *next;
    void (*run)(struct imv_loop_message *message);
};
void imv_loop_post(struct imv_loop *loop, struct imv_loop_message *message);

/* Listens on address:port (numeric IPv4 or IPv6; port 0 picks one). Each loop opens its own listener on the same
 * address with SO_REUSEPORT; accepted connections are spread over all loops of `peers` in turn, so that few bulk
 * connections use all cores. handler and context must outlive the loop and its peers. *bound_port is the real one. The
 * loop of index 0 listens first, and claims the address: IMV_BUSY when anybody has it, another imvdb included.
 * IMV_INVALID: not an address. */
imv_status imv_loop_listen(struct imv_loop *loop, const char *address, uint16_t port,
                           const struct imv_conn_handler *handler, void *context, uint16_t *bound_port,
                           struct imv_error *err);
/* Stops accepting; open connections stay. Not from within a handler. */
void imv_loop_stop_listening(struct imv_loop *loop);
/* The loops among which accepted connections are spread, this one included; the array must outlive them. Without it a
 * loop keeps what it accepts. */
void imv_loop_set_peers(struct imv_loop *loop, struct imv_loop **peers, uint32_t count);

void imv_conn_set_state(struct imv_conn *conn, void *state);
void *imv_conn_state(const struct imv_conn *conn);
struct imv_loop *imv_conn_loop(const struct imv_conn *conn);
/* "127.0.0.1:5123" for logs. */
const char *imv_conn_peer(const struct imv_conn *conn);
/* Bytes that were offered to data and not consumed; valid until the handler returns. */
struct imv_str imv_conn_rest(const struct imv_conn *conn);
/* Queues a copy of bytes for sending. IMV_FULL when output is queued and IMV_CONN_OUTPUT_BYTES_MAX would be passed
 * (nothing of bytes is queued): wait for drained. Into an empty queue goes whatever is not larger than that.
 * IMV_INVALID: it is larger. IMV_CLOSED after a close. IMV_NO_MEMORY. */
imv_status imv_conn_send(struct imv_conn *conn, const void *bytes, size_t size);
/* Whether size more bytes, in any number of sends, should be queued now: for streams of output, which ask before each
 * piece. False, and drained follows, when IMV_CONN_OUTPUT_BYTES_MAX would be passed, or IMV_CONN_OUTPUT_BYTES_FREE
 * while the budget is spent. With nothing queued it is true. */
bool imv_conn_may_send(struct imv_conn *conn, size_t size);
/* Bytes queued and not yet taken by the kernel. */
size_t imv_conn_unsent(const struct imv_conn *conn);
/* Stops and resumes receiving: unread bytes stay in the kernel and the peer's window closes; that the peer is gone is
 * noticed after the resume. After a resume, data that was left unconsumed is offered again even when nothing new
 * arrives. */
void imv_conn_pause(struct imv_conn *conn);
void imv_conn_resume(struct imv_conn *conn);
/* Closes after the queued output is sent; input is read and dropped from now on (an unread rest would make the kernel
 * reset the connection and lose the output), for at most two seconds after the output is sent. closed follows, not
 * within this call. */
void imv_conn_close(struct imv_conn *conn);
/* Closes now, dropping queued output. closed follows, not within this call. */
void imv_conn_abort(struct imv_conn *conn);
/* True when the peer has ended or reset its side and nothing that it sent is left unread. A paused connection does not
 * notice by itself; this looks at the socket, one system call. */
bool imv_conn_peer_gone(const struct imv_conn *conn);
/* Replaces the loop's idle time for this connection; 0: never. Checked to a tenth of a second. */
void imv_conn_set_idle(struct imv_conn *conn, int64_t idle_ns);
