/* fake_loop.h - the loop's side of connections (ingest/loop.h) without sockets, for tests and fuzzing of what speaks on
 * them.
 *
 * Defines imv_loop_post, imv_conn_send and so on, so that a program that includes it once links these and not the
 * ingest loop. Nothing happens by itself: the test says what arrives, in which pieces, and how much of the output the
 * peer takes; fake_conn_settle lets handlers run until they have nothing more to do, in the order that the real loop
 * keeps.
 */
#pragma once

#include "ingest/loop.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"

#include <pthread.h>
#include <stdlib.h>

struct imv_loop {
    pthread_mutex_t lock; /* guards messages: other threads post */
    struct imv_loop_message *messages, **messages_last;
    uint32_t index;
};

enum fake_phase { FAKE_OPEN, FAKE_CLOSING, FAKE_CLOSED };

struct imv_conn {
    struct imv_loop *loop;
    const struct imv_conn_handler *handler;
    void *state;
    struct imv_buffer network; /* the peer sent it, nobody received it */
    struct imv_buffer input;   /* offered and not consumed */
    struct imv_buffer queue;   /* output that the peer has not taken */
    struct imv_buffer taken;   /* output that the peer has taken */
    size_t queue_start;        /* of the queue, bytes before it are in taken */
    enum fake_phase phase;
    bool aborted, paused, reoffer, wants_drained;
    bool peer_ended, end_told;
};

static inline void fake_loop_init(struct imv_loop *loop) {
    *loop = (struct imv_loop){0};
    pthread_mutex_init(&loop->lock, NULL);
    loop->messages_last = &loop->messages;
}

/* Runs what was posted; returns whether there was anything. */
static inline bool fake_loop_run(struct imv_loop *loop) {
    bool any = false;
    for (;;) {
        pthread_mutex_lock(&loop->lock);
        struct imv_loop_message *message = loop->messages;
        if (message != NULL) {
            loop->messages = message->next;
            if (loop->messages == NULL) loop->messages_last = &loop->messages;
        }
        pthread_mutex_unlock(&loop->lock);
        if (message == NULL) return any;
        any = true;
        message->run(message);
    }
}

static inline imv_status fake_conn_open(struct imv_conn *conn, struct imv_loop *loop,
                                        const struct imv_conn_handler *handler, void *context) {
    *conn = (struct imv_conn){.loop = loop, .handler = handler};
    imv_buffer_init(&conn->network, 64 << 20);
    imv_buffer_init(&conn->input, IMV_CONN_INPUT_BYTES);
    imv_buffer_init(&conn->queue, 64 << 20);
    imv_buffer_init(&conn->taken, 256 << 20);
    return handler->open(conn, context);
}

static inline void fake_conn_release(struct imv_conn *conn) {
    imv_buffer_release(&conn->network);
    imv_buffer_release(&conn->input);
    imv_buffer_release(&conn->queue);
    imv_buffer_release(&conn->taken);
}

/* The connection is gone, as after a reset or an abort. */
static inline void fake_conn_lose(struct imv_conn *conn) {
    if (conn->phase == FAKE_CLOSED) return;
    conn->phase = FAKE_CLOSED;
    conn->handler->closed(conn);
    imv_buffer_reset(&conn->queue);
    conn->queue_start = 0;
}

static inline void fake_conn_arrive(struct imv_conn *conn, const void *bytes, size_t size) {
    imv_assert(imv_buffer_append(&conn->network, bytes, size));
}

/* The peer takes at most size bytes of the output. */
static inline void fake_conn_take(struct imv_conn *conn, size_t size) {
    if (size > imv_conn_unsent(conn)) size = imv_conn_unsent(conn);
    if (size == 0) return;
    imv_assert(imv_buffer_append(&conn->taken, conn->queue.data + conn->queue_start, size));
    conn->queue_start += size;
    if (imv_conn_unsent(conn) > 0) return;
    imv_buffer_reset(&conn->queue);
    conn->queue_start = 0;
}

static inline void fake_conn_offer(struct imv_conn *conn) {
    size_t offered = conn->input.size;
    /* A copy of exactly this size: a read beyond it is found. */
    char *copy = malloc(offered);
    imv_assert(copy != NULL);
    memcpy(copy, conn->input.data, offered);
    size_t used = conn->handler->data(conn, copy, offered);
    free(copy);
    imv_assert(used <= offered);
    imv_buffer_consume(&conn->input, used);
    if (used == 0 && offered >= IMV_CONN_INPUT_BYTES && !conn->paused) imv_conn_close(conn);
}

/* One round of what the loop would do; false when there was nothing to do. */
static inline bool fake_conn_step(struct imv_conn *conn) {
    if (conn->phase == FAKE_CLOSED) return false;
    if (conn->aborted || (conn->phase == FAKE_CLOSING && imv_conn_unsent(conn) == 0)) {
        fake_conn_lose(conn);
        return true;
    }
    if (conn->phase == FAKE_CLOSING) return false;
    if (conn->wants_drained && imv_conn_unsent(conn) == 0) {
        conn->wants_drained = false;
        if (conn->handler->drained != NULL) conn->handler->drained(conn);
        return true;
    }
    if (conn->paused) return false;
    if (conn->reoffer && conn->input.size > 0) {
        conn->reoffer = false;
        fake_conn_offer(conn);
        return true;
    }
    size_t room = IMV_CONN_INPUT_BYTES - conn->input.size;
    size_t size = conn->network.size < room ? conn->network.size : room;
    if (size > 0) {
        imv_assert(imv_buffer_append(&conn->input, conn->network.data, size));
        imv_buffer_consume(&conn->network, size);
        fake_conn_offer(conn);
        return true;
    }
    if (!conn->peer_ended || conn->end_told) return false;
    conn->end_told = true;
    if (conn->handler->end != NULL)
        conn->handler->end(conn);
    else
        imv_conn_close(conn);
    return true;
}

static inline void fake_conn_settle(struct imv_conn *conn) {
    while (fake_conn_step(conn)) {}
}

/* ---- what handlers call ---- */

uint32_t imv_loop_index(const struct imv_loop *loop) { return loop->index; }
void imv_loop_wake(struct imv_loop *loop) { (void)loop; }
void imv_loop_post(struct imv_loop *loop, struct imv_loop_message *message) {
    message->next = NULL;
    pthread_mutex_lock(&loop->lock);
    *loop->messages_last = message;
    loop->messages_last = &message->next;
    pthread_mutex_unlock(&loop->lock);
}

void imv_conn_set_state(struct imv_conn *conn, void *state) { conn->state = state; }
void *imv_conn_state(const struct imv_conn *conn) { return conn->state; }
struct imv_loop *imv_conn_loop(const struct imv_conn *conn) {
    return conn->loop;
}

imv_status imv_conn_send(struct imv_conn *conn, const void *bytes, size_t size) {
    if (conn->phase != FAKE_OPEN || conn->aborted) return IMV_CLOSED;
    if (size > IMV_CONN_OUTPUT_BYTES_MAX) return IMV_INVALID;
    if (size > IMV_CONN_OUTPUT_BYTES_MAX - imv_conn_unsent(conn)) {
        conn->wants_drained = true;
        return IMV_FULL;
    }
    imv_assert(imv_buffer_append(&conn->queue, bytes, size));
    if (imv_conn_unsent(conn) > IMV_CONN_OUTPUT_BYTES_MAX / 2) conn->wants_drained = true;
    return IMV_OK;
}

bool imv_conn_peer_gone(const struct imv_conn *conn) {
    (void)conn;
    return false;
}
bool imv_conn_may_send(struct imv_conn *conn, size_t size) {
    if (imv_conn_unsent(conn) == 0) return true;
    if (size <= IMV_CONN_OUTPUT_BYTES_MAX && imv_conn_unsent(conn) <= IMV_CONN_OUTPUT_BYTES_MAX - size) return true;
    conn->wants_drained = true;
    return false;
}

size_t imv_conn_unsent(const struct imv_conn *conn) { return conn->queue.size - conn->queue_start; }
void imv_conn_pause(struct imv_conn *conn) { conn->paused = true; }

void imv_conn_resume(struct imv_conn *conn) {
    conn->paused = false;
    conn->reoffer = conn->input.size > 0;
}

void imv_conn_close(struct imv_conn *conn) {
    if (conn->phase == FAKE_OPEN) conn->phase = FAKE_CLOSING;
}

void imv_conn_abort(struct imv_conn *conn) { conn->aborted = true; }
