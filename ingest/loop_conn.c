#include "ingest/loop_internal.h"
#include "storage/base/assert.h"
#include "storage/base/budget.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A buffer without traffic for this long is given back: shorter, and a client that sends each second pays for a new
 * buffer each time; longer, and a burst of many clients holds the budget. */
#define SHRINK_NS INT64_C(1000000000)
/* The same while others wait for memory. */
#define SHRINK_PRESSED_NS INT64_C(50000000)
/* After the last byte is sent, how long a peer may take to read it and close; what it still sends is dropped. */
#define LINGER_NS INT64_C(2000000000)

enum {
    INPUT_BYTES_MIN = 4096,
    BLOCK_BYTES_MIN = 4096 - 64, /* with its header and malloc's below a page */
    BLOCK_BYTES_MAX = 64 * 1024, /* one send: enough to keep a socket's buffer filled */
};

static void conn_offer(struct imv_conn *conn);
static void conn_call_handler(struct imv_conn *conn);
static void conn_advance_close(struct imv_conn *conn);
static void conn_free(struct imv_conn *conn);
static void conn_start_receive(struct imv_conn *conn);
static void conn_schedule(struct imv_conn *conn);
static void input_keep_rest(struct imv_conn *conn);
static void input_drop(struct imv_conn *conn);
static bool input_make_room(struct imv_conn *conn);
static void input_shrink(struct imv_conn *conn);
static void output_consume(struct imv_conn *conn, size_t size);

/* -------------------------------------------------------------------------------------------------------- life */

static void format_peer(struct imv_conn *conn) {
    struct sockaddr_storage storage = {0};
    socklen_t size = sizeof storage;
    char address[INET6_ADDRSTRLEN] = "?";
    getpeername(conn->fd, (struct sockaddr *)&storage, &size);
    if (storage.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&storage;
        inet_ntop(AF_INET6, &v6->sin6_addr, address, sizeof address);
        snprintf(conn->peer, sizeof conn->peer, "[%s]:%u", address, ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&storage;
        inet_ntop(AF_INET, &v4->sin_addr, address, sizeof address);
        snprintf(conn->peer, sizeof conn->peer, "%s:%u", address, ntohs(v4->sin_port));
    }
}

void imv_conn_adopt(struct imv_loop *loop, int fd, const struct imv_conn_handler *handler, void *context) {
    struct imv_conn *conn = NULL;
    if (loop->freeing || loop->connections_count >= loop->options.connections_max) {
        imv_loop_complain(loop, "too many");
    } else if ((conn = calloc(1, sizeof *conn)) == NULL) {
        imv_loop_complain(loop, "no memory");
    }
    if (conn == NULL) {
        close(fd);
        return;
    }
    conn->loop = loop;
    conn->handler = handler;
    conn->fd = fd;
    conn->input.shared = -1;
    conn->idle_ns = loop->options.idle_ns;
    conn->received_ns = conn->sent_ns = imv_loop_now(loop);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    format_peer(conn);
    struct imv_error why = {0};
    imv_status status = loop->ops->attach(conn, &why);
    if (status == IMV_OK) status = handler->open(conn, context);
    if (status != IMV_OK) {
        imv_metric_add(IMV_METRIC_connections_rejected_total, 1);
        imv_log(IMV_LOG_DEBUG, "loop", "%s %s refused: %s %s", handler->name, conn->peer, imv_status_name(status),
                why.message);
        imv_link_remove(&conn->todo);
        if (conn->unsent > 0) output_consume(conn, conn->unsent);
        close(fd);
        free(conn);
        return;
    }
    imv_list_append(&loop->connections, &conn->all);
    loop->connections_count++;
    imv_metric_add(IMV_METRIC_connections, 1);
    imv_conn_touch(conn);
}

void imv_conn_touch(struct imv_conn *conn) {
    if (!imv_link_is_in(&conn->todo)) imv_list_append(&conn->loop->todo, &conn->todo);
}

void imv_conn_settle(struct imv_conn *conn) {
    if (conn->phase == IMV_CONN_OPEN && !conn->aborted) conn_call_handler(conn);
    conn_advance_close(conn);
    if (conn->phase == IMV_CONN_SHUT) {
        if (!conn->receiving && !conn->sending) conn_free(conn);
        return;
    }
    input_keep_rest(conn);
    if (conn->output != NULL && !conn->sending) {
        conn->sending = true;
        conn->loop->ops->send(conn);
    }
    conn_start_receive(conn);
    conn_schedule(conn);
}

/* Tells the handler what could not be told when it happened. */
static void conn_call_handler(struct imv_conn *conn) {
    const struct imv_conn_handler *handler = conn->handler;
    if (conn->wants_drained && conn->output == NULL) {
        conn->wants_drained = false;
        conn->loop->again = true;
        if (handler->drained != NULL) handler->drained(conn);
    }
    if (conn->reoffer && !conn->paused) {
        conn->reoffer = false;
        conn->loop->again = true;
        if (conn->input.size > 0) conn_offer(conn);
    }
    if (conn->ended && !conn->end_told && !conn->paused && conn->phase == IMV_CONN_OPEN && !conn->aborted) {
        conn->end_told = true;
        conn->loop->again = true;
        if (handler->end != NULL)
            handler->end(conn);
        else
            imv_conn_close(conn);
    }
}

static void conn_advance_close(struct imv_conn *conn) {
    if (conn->phase == IMV_CONN_CLOSING && conn->output == NULL && !conn->sending) {
        conn->phase = IMV_CONN_LINGERING;
        conn->linger_ns = imv_loop_now(conn->loop) + LINGER_NS;
        shutdown(conn->fd, SHUT_WR);
    }
    if (conn->phase == IMV_CONN_SHUT) return;
    if (!conn->aborted && !(conn->phase == IMV_CONN_LINGERING && conn->ended)) return;
    conn->phase = IMV_CONN_SHUT;
    imv_link_remove(&conn->waiting);
    imv_link_remove(&conn->timer);
    /* A peer that does not read would keep the kernel's copy of the output for minutes: reset instead. */
    if (conn->unsent > 0) {
        setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    }
    conn->loop->ops->shut(conn);
}

static void conn_free(struct imv_conn *conn) {
    struct imv_loop *loop = conn->loop;
    conn->handler->closed(conn);
    imv_link_remove(&conn->todo);
    imv_link_remove(&conn->all);
    input_drop(conn);
    if (conn->unsent > 0) output_consume(conn, conn->unsent);
    close(conn->fd);
    free(conn);
    loop->connections_count--;
    imv_metric_add(IMV_METRIC_connections, -1);
}

/* ---------------------------------------------------------------------------------------------------- receiving */

static void conn_start_receive(struct imv_conn *conn) {
    bool wanted = conn->phase == IMV_CONN_OPEN ? !conn->paused : conn->phase != IMV_CONN_SHUT;
    if (!wanted || conn->receiving || conn->ended || imv_link_is_in(&conn->waiting)) return;
    if (!input_make_room(conn)) return;
    conn->receiving = true;
    conn->loop->ops->receive(conn);
}

struct imv_room imv_conn_room(const struct imv_conn *conn) {
    const struct imv_conn_input *input = &conn->input;
    if (input->bytes == NULL) return (struct imv_room){NULL, 0};
    imv_assert(input->shared < 0 && input->start + input->size < input->capacity);
    return (struct imv_room){input->bytes + input->start + input->size, input->capacity - input->start - input->size};
}

static void conn_arrived(struct imv_conn *conn) {
    conn->receiving = conn->recalled = false;
    conn->received_ns = imv_loop_now(conn->loop);
    if (conn->phase == IMV_CONN_OPEN && !conn->aborted && !conn->paused) {
        /* The ring may also be run by whoever waits for a file; handlers are not called from there. */
        if (conn->loop->dispatching)
            conn_offer(conn);
        else
            conn->reoffer = true;
    }
    input_keep_rest(conn);
    imv_conn_touch(conn);
}

void imv_conn_on_received(struct imv_conn *conn, size_t size) {
    struct imv_room room = imv_conn_room(conn);
    imv_assert(conn->receiving && size > 0 && size <= room.size);
    conn->input.size += (uint32_t)size;
    conn->bulk = size == room.size;
    conn_arrived(conn);
}

void imv_conn_on_shared(struct imv_conn *conn, uint32_t shared, size_t size) {
    imv_assert(conn->receiving && conn->input.bytes == NULL);
    imv_assert(shared < IMV_SHARED_COUNT && size > 0 && size <= IMV_SHARED_BYTES);
    conn->input = (struct imv_conn_input){.bytes = conn->loop->shared + (size_t)shared * IMV_SHARED_BYTES,
                                          .size = (uint32_t)size,
                                          .capacity = IMV_SHARED_BYTES,
                                          .shared = (int32_t)shared};
    conn->bulk = size == IMV_SHARED_BYTES;
    conn_arrived(conn);
}

static void conn_wait(struct imv_conn *conn) {
    struct imv_loop *loop = conn->loop;
    if (imv_link_is_in(&conn->waiting)) return;
    if (imv_list_is_empty(&loop->waiting)) loop->waiting_ns = imv_loop_now(loop) + IMV_WHEEL_TICK_NS;
    imv_list_append(&loop->waiting, &conn->waiting);
}

void imv_conn_on_starved(struct imv_conn *conn) {
    conn->receiving = conn->recalled = false;
    if (conn->phase != IMV_CONN_SHUT) conn_wait(conn);
    imv_conn_touch(conn);
}

void imv_conn_on_recalled(struct imv_conn *conn) {
    conn->receiving = conn->recalled = false;
    input_shrink(conn);
    imv_conn_touch(conn);
}

void imv_conn_on_end(struct imv_conn *conn) {
    conn->receiving = conn->recalled = false;
    conn->ended = true;
    conn->received_ns = imv_loop_now(conn->loop);
    imv_conn_touch(conn);
}

static void conn_on_failed(struct imv_conn *conn, int error_number) {
    if (conn->phase != IMV_CONN_SHUT) {
        struct imv_error why;
        imv_fail_errno(&why, IMV_IO, error_number, "%s %s", conn->handler->name, conn->peer);
        imv_log(IMV_LOG_DEBUG, "loop", "%s", why.message);
    }
    imv_conn_abort(conn);
}

void imv_conn_on_receive_failed(struct imv_conn *conn, int error_number) {
    conn->receiving = conn->recalled = false;
    conn_on_failed(conn, error_number);
}

static void conn_offer(struct imv_conn *conn) {
    struct imv_conn_input *input = &conn->input;
    size_t offered = input->size;
    size_t taken = conn->handler->data(conn, input->bytes + input->start, offered);
    imv_assert(taken <= offered);
    input->start += (uint32_t)taken;
    input->size -= (uint32_t)taken;
    if (taken > 0 || offered < IMV_CONN_INPUT_BYTES || conn->paused) return;
    if (conn->phase != IMV_CONN_OPEN || conn->aborted) return;
    imv_log(IMV_LOG_WARN, "loop", "%s %s closed: more than %d bytes without an end", conn->handler->name, conn->peer,
            IMV_CONN_INPUT_BYTES);
    imv_conn_close(conn);
}

/* ------------------------------------------------------------------------------------------------ input buffers */

/* Leaves room for as much again, so that a rest that grows byte by byte is not copied each time. */
static uint32_t capacity_for(uint32_t size) {
    uint32_t capacity = INPUT_BYTES_MIN;
    while (capacity < IMV_CONN_INPUT_BYTES && capacity < 2 * size) capacity *= 4;
    return capacity;
}

/* Frees or gives back the bytes, not their charge. */
static void input_free_bytes(struct imv_conn *conn) {
    struct imv_conn_input *input = &conn->input;
    if (input->shared >= 0)
        conn->loop->ops->give(conn->loop, (uint32_t)input->shared);
    else if (input->capacity == IMV_CONN_INPUT_BYTES)
        munmap(input->bytes, input->capacity);
    else
        free(input->bytes);
    imv_loop_gave(conn->loop);
}

/* What the budget is charged for the input buffer. */
static uint32_t input_charge(const struct imv_conn *conn) { return conn->input.shared < 0 ? conn->input.capacity : 0; }

static void input_drop(struct imv_conn *conn) {
    struct imv_budget *budget = conn->loop->options.budget;
    if (conn->input.bytes == NULL) return;
    if (budget != NULL) imv_budget_give(budget, input_charge(conn));
    input_free_bytes(conn);
    conn->input = (struct imv_conn_input){.shared = -1};
}

static char *buffer_new(uint32_t capacity) {
    /* The largest are mapped, so that their memory is the system's again at once, and page-aligned. */
    if (capacity < IMV_CONN_INPUT_BYTES) return malloc(capacity);
    char *bytes = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return bytes == MAP_FAILED ? NULL : bytes;
}

/* Moves the unconsumed bytes to an own buffer of the given capacity. False, nothing changed: no budget or memory. */
static bool input_move(struct imv_conn *conn, uint32_t capacity) {
    struct imv_conn_input *input = &conn->input;
    struct imv_budget *budget = conn->loop->options.budget;
    imv_assert(!conn->receiving && input->size <= capacity);
    /* Only the difference is charged: connections that all wait to grow would wait for one another for ever. */
    uint32_t had = input_charge(conn);
    if (budget != NULL && capacity > had && !imv_budget_take(budget, capacity - had)) return false;
    char *bytes = buffer_new(capacity);
    if (bytes == NULL) {
        if (budget != NULL && capacity > had) imv_budget_give(budget, capacity - had);
        return false;
    }
    if (input->size > 0) memcpy(bytes, input->bytes + input->start, input->size);
    if (input->bytes != NULL) input_free_bytes(conn);
    if (budget != NULL && capacity < had) imv_budget_give(budget, had - capacity);
    *input = (struct imv_conn_input){.bytes = bytes, .size = input->size, .capacity = capacity, .shared = -1};
    return true;
}

/* After input came or was consumed: a shared buffer goes back, by moving the rest if there is one. */
static void input_keep_rest(struct imv_conn *conn) {
    struct imv_conn_input *input = &conn->input;
    if (input->bytes == NULL || conn->receiving) return;
    if (conn->phase != IMV_CONN_OPEN) input->size = 0;
    if (input->size == 0) {
        bool keep = input->shared < 0 && input->capacity > INPUT_BYTES_MIN && conn->phase == IMV_CONN_OPEN;
        if (!keep) input_drop(conn);
    } else if (input->shared >= 0) {
        if (!input_move(conn, conn->bulk ? IMV_CONN_INPUT_BYTES : capacity_for(input->size)) &&
            !input_move(conn, capacity_for(input->size))) {
            conn_wait(conn);
        }
    }
}

/* Before a receive: false when it must wait for memory. */
static bool input_make_room(struct imv_conn *conn) {
    struct imv_conn_input *input = &conn->input;
    imv_assert(input->shared < 0 && input->size < IMV_CONN_INPUT_BYTES);
    if (conn->bulk && input->capacity < IMV_CONN_INPUT_BYTES && conn->phase == IMV_CONN_OPEN) {
        conn->bulk = false; /* asked once: without budget it goes on with what it has */
        if (input_move(conn, IMV_CONN_INPUT_BYTES)) return true;
    }
    if (input->bytes == NULL) return true;
    if (input->size == 0) input->start = 0;
    uint32_t room = input->capacity - input->start - input->size;
    if (input->start > 0 && room < input->capacity / 2) {
        memmove(input->bytes, input->bytes + input->start, input->size);
        input->start = 0;
        room = input->capacity - input->size;
    }
    if (room >= input->capacity / 4 || input->capacity == IMV_CONN_INPUT_BYTES) return true;
    if (input_move(conn, capacity_for(input->size)) || room > 0) return true;
    conn_wait(conn);
    return false;
}

static bool input_may_shrink(const struct imv_conn *conn) {
    const struct imv_conn_input *input = &conn->input;
    if (input->bytes == NULL || input->shared >= 0) return false;
    return input->size == 0 || capacity_for(input->size) < input->capacity;
}

static void input_shrink(struct imv_conn *conn) {
    if (conn->receiving || !input_may_shrink(conn)) return;
    conn->bulk = false;
    if (conn->input.size == 0)
        input_drop(conn);
    else
        input_move(conn, capacity_for(conn->input.size));
}

/* ------------------------------------------------------------------------------------------------------ sending */

/* Makes blocks for size bytes; NULL when memory is refused. Not yet linked to the connection. */
static struct imv_conn_block *blocks_new(struct imv_conn *conn, size_t size, imv_status *status) {
    struct imv_budget *budget = conn->loop->options.budget;
    size_t capacity = size < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN : size < BLOCK_BYTES_MAX ? size : BLOCK_BYTES_MAX;
    size_t cost = sizeof(struct imv_conn_block) + capacity;
    bool charged = budget != NULL && imv_budget_take(budget, cost);
    struct imv_conn_block *block = malloc(cost), *rest = NULL;
    if (block == NULL) *status = IMV_NO_MEMORY;
    if (block != NULL && size > capacity) rest = blocks_new(conn, size - capacity, status);
    if (*status != IMV_OK) {
        if (charged) imv_budget_give(budget, cost);
        free(block);
        return NULL;
    }
    block->next = rest;
    block->start = block->end = 0;
    block->capacity = (uint32_t)capacity;
    block->charged = charged;
    return block;
}

static const char *block_fill(struct imv_conn_block *block, const char *bytes, const char *end) {
    size_t room = block->capacity - block->end, size = (size_t)(end - bytes);
    if (size > room) size = room;
    if (size > 0) memcpy(block->bytes + block->end, bytes, size);
    block->end += (uint32_t)size;
    return bytes + size;
}

imv_status imv_conn_send(struct imv_conn *conn, const void *bytes, size_t size) {
    if (conn->phase != IMV_CONN_OPEN || conn->aborted) return IMV_CLOSED;
    if (size == 0) return IMV_OK;
    if (size > IMV_CONN_OUTPUT_BYTES_MAX) return IMV_INVALID;
    imv_status status = IMV_OK;
    struct imv_conn_block *last = conn->output_last, *more = NULL;
    size_t room = last == NULL ? 0 : last->capacity - last->end;
    if (size > IMV_CONN_OUTPUT_BYTES_MAX - conn->unsent)
        status = IMV_FULL;
    else if (size > room)
        more = blocks_new(conn, size - room, &status);
    if (status != IMV_OK) {
        conn->wants_drained = true;
        return status;
    }
    const char *at = bytes, *end = at + size;
    if (last != NULL) at = block_fill(last, at, end);
    if (more != NULL) {
        if (last != NULL)
            last->next = more;
        else
            conn->output = more;
        for (struct imv_conn_block *block = more; block != NULL; block = block->next) {
            at = block_fill(block, at, end);
            conn->output_last = block;
        }
    }
    imv_assert(at == end);
    if (conn->unsent == 0) conn->sent_ns = imv_loop_now(conn->loop);
    conn->unsent += size;
    if (conn->unsent > IMV_CONN_OUTPUT_BYTES_MAX / 2) conn->wants_drained = true;
    imv_conn_touch(conn);
    return IMV_OK;
}

bool imv_conn_may_send(struct imv_conn *conn, size_t size) {
    if (conn->unsent == 0) return true;
    struct imv_budget *budget = conn->loop->options.budget;
    bool spent = budget != NULL && imv_budget_used(budget) + size > budget->bytes_max;
    size_t max = spent ? IMV_CONN_OUTPUT_BYTES_FREE : IMV_CONN_OUTPUT_BYTES_MAX;
    if (size <= max && conn->unsent <= max - size) return true;
    conn->wants_drained = true;
    return false;
}

static void output_consume(struct imv_conn *conn, size_t size) {
    imv_assert(size <= conn->unsent);
    conn->unsent -= size;
    while (size > 0) {
        struct imv_conn_block *block = conn->output;
        size_t part = block->end - block->start;
        if (part > size) part = size;
        block->start += (uint32_t)part;
        size -= part;
        if (block->start < block->end) break;
        conn->output = block->next;
        if (conn->output == NULL) conn->output_last = NULL;
        if (block->charged) imv_budget_give(conn->loop->options.budget, sizeof *block + block->capacity);
        free(block);
        imv_loop_gave(conn->loop);
    }
    imv_assert((conn->unsent == 0) == (conn->output == NULL));
}

void imv_conn_on_sent(struct imv_conn *conn, size_t size) {
    imv_assert(conn->sending);
    conn->sending = false;
    conn->sent_ns = imv_loop_now(conn->loop);
    output_consume(conn, size);
    imv_conn_touch(conn);
}

void imv_conn_on_send_failed(struct imv_conn *conn, int error_number) {
    conn->sending = false;
    conn_on_failed(conn, error_number);
}

/* ---------------------------------------------------------------------------------------------------- deadlines */

static int64_t later(int64_t from_ns, int64_t duration_ns) {
    return duration_ns > INT64_MAX - from_ns ? INT64_MAX : from_ns + duration_ns;
}

static int64_t idle_deadline(const struct imv_conn *conn) {
    if (conn->phase != IMV_CONN_OPEN || conn->paused || conn->idle_ns <= 0) return INT64_MAX;
    return later(conn->received_ns > conn->sent_ns ? conn->received_ns : conn->sent_ns, conn->idle_ns);
}

static int64_t stall_deadline(const struct imv_conn *conn) {
    int64_t stall_ns = conn->loop->options.stall_ns;
    return conn->unsent == 0 || stall_ns <= 0 ? INT64_MAX : later(conn->sent_ns, stall_ns);
}

static int64_t shrink_deadline(const struct imv_conn *conn) {
    if (conn->recalled || !input_may_shrink(conn)) return INT64_MAX;
    return conn->received_ns + (imv_list_is_empty(&conn->loop->waiting) ? SHRINK_NS : SHRINK_PRESSED_NS);
}

static void conn_schedule(struct imv_conn *conn) {
    int64_t deadline_ns = conn->phase == IMV_CONN_LINGERING ? conn->linger_ns : INT64_MAX;
    int64_t others[] = {idle_deadline(conn), stall_deadline(conn), shrink_deadline(conn)};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (others[i] < deadline_ns) deadline_ns = others[i];
    }
    imv_loop_schedule(conn, deadline_ns);
}

void imv_conn_expire(struct imv_conn *conn) {
    if (conn->phase == IMV_CONN_SHUT || conn->aborted) return;
    int64_t now_ns = imv_loop_now(conn->loop);
    bool idle = idle_deadline(conn) <= now_ns, stalled = stall_deadline(conn) <= now_ns;
    if (idle || stalled) {
        imv_metric_add(IMV_METRIC_connections_timed_out_total, 1);
        imv_log(IMV_LOG_DEBUG, "loop", "%s %s closed: %s unsent=%zu unread=%u", conn->handler->name, conn->peer,
                stalled ? "does not read" : "idle", conn->unsent, conn->input.size);
        imv_conn_abort(conn);
        return;
    }
    if (conn->phase == IMV_CONN_LINGERING && conn->linger_ns <= now_ns) {
        imv_conn_abort(conn);
        return;
    }
    if (shrink_deadline(conn) <= now_ns) {
        if (conn->receiving) {
            conn->recalled = true;
            conn->loop->ops->recall(conn);
        } else {
            input_shrink(conn);
        }
    }
    conn_schedule(conn);
}

/* ---------------------------------------------------------------------------------------------- what handlers call */

void imv_conn_set_state(struct imv_conn *conn, void *state) { conn->state = state; }
void *imv_conn_state(const struct imv_conn *conn) { return conn->state; }
struct imv_loop *imv_conn_loop(const struct imv_conn *conn) {
    return conn->loop;
}
const char *imv_conn_peer(const struct imv_conn *conn) { return conn->peer; }
size_t imv_conn_unsent(const struct imv_conn *conn) { return conn->unsent; }

struct imv_str imv_conn_rest(const struct imv_conn *conn) {
    const struct imv_conn_input *input = &conn->input;
    if (input->size == 0) return (struct imv_str){NULL, 0};
    return (struct imv_str){input->bytes + input->start, input->size};
}

void imv_conn_pause(struct imv_conn *conn) { conn->paused = true; }

void imv_conn_resume(struct imv_conn *conn) {
    conn->paused = false;
    conn->reoffer = conn->input.size > 0;
    conn->received_ns = imv_loop_now(conn->loop);
    imv_conn_touch(conn);
}

void imv_conn_close(struct imv_conn *conn) {
    if (conn->phase != IMV_CONN_OPEN) return;
    conn->phase = IMV_CONN_CLOSING;
    imv_conn_touch(conn);
}

void imv_conn_abort(struct imv_conn *conn) {
    conn->aborted = true;
    imv_conn_touch(conn);
}

bool imv_conn_peer_gone(const struct imv_conn *conn) {
    char byte;
    if (conn->ended) return true;
    ssize_t size = recv(conn->fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT);
    return size == 0 || (size < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

void imv_conn_set_idle(struct imv_conn *conn, int64_t idle_ns) {
    conn->idle_ns = idle_ns;
    imv_conn_touch(conn);
}
