/* http.h - HTTP/1.1 on a loop's connections (RFC 9110, RFC 9112): parsing by http-parser, routing, replies.
 *
 * A session is one connection; it handles one request at a time, in order, so pipelined requests wait in the
 * connection's input. A request goes to the handler of its route:
 *
 *     begin -> body* -> end -> (turn | drained)* -> finish      and the handler replies at any point after begin
 *
 * The next request is begun when the output has room for any reply, so that a client that sends many requests at once
 * is not cut while it reads. An offered upgrade is not taken up; trailers are dropped.
 *
 * A reply before the end of the body makes the rest of the body be read and dropped. `finish` is called exactly once,
 * after the reply is complete or when the connection is lost: the handler frees what it keeps in request->state. It may
 * be called inside the replying function, so a handler touches its state no more once it has replied.
 *
 * Limits: request line and headers IMV_HTTP_HEAD_BYTES_MAX together (431), a head must be complete within
 * IMV_HTTP_HEAD_NS (408). Bodies are streamed and have no limit of their own; a handler that collects one states its
 * own.
 *
 * Everything belongs to the loop's thread.
 */
#pragma once

#include "ingest/loop.h"
#include "storage/base/bytes.h"

struct imv_http;
struct imv_http_request;

enum { IMV_HTTP_HEAD_BYTES_MAX = 16 * 1024 };
#define IMV_HTTP_HEAD_NS (INT64_C(30) * 1000000000)

struct imv_http_handler {
    /* The head is complete. May reply. */
    void (*begin)(struct imv_http_request *request);
    /* A piece of the body: all of it is taken. False stops further input until imv_http_resume. */
    bool (*body)(struct imv_http_request *request, const char *bytes, size_t size);
    /* The body is complete. May reply, now or later. */
    void (*end)(struct imv_http_request *request);
    /* Called each turn of the loop while the request waits (imv_http_wait). May be NULL. */
    void (*turn)(struct imv_http_request *request);
    /* The output queue has room again. May be NULL. */
    void (*drained)(struct imv_http_request *request);
    /* The request is over. May be NULL. */
    void (*finish)(struct imv_http_request *request);
    /* A client that ends its side while its reply is pending has gone away: the connection is cut, which finishes the
     * request. For work that nobody waits for any more; looked at once a second. */
    bool ends_with_client;
};

struct imv_http_route {
    const char *method, *path;
    const struct imv_http_handler *handler;
};

/* One server per loop. routes end with a row of NULLs and outlive it; context is the handlers'. */
struct imv_http_options {
    const struct imv_http_route *routes;
    const struct imv_clock *clock;
    void *context;
};
imv_status imv_http_new(const struct imv_http_options *options, struct imv_http **http, struct imv_error *err);
/* After the loop closed all connections. */
void imv_http_free(struct imv_http *http);

/* The connection handler to listen with; the listener's context is a struct imv_http ** indexed by the loop that owns
 * the connection (imv_loop_index). */
extern const struct imv_conn_handler imv_http_conn_handler;

/* Called by the loop's turn: runs `turn` of waiting requests and cuts heads that take too long. Returns the monotonic
 * ns at which it wants to be called again. */
int64_t imv_http_turn(struct imv_http *http);

/* The request's parts; views hold until finish. */
struct imv_str imv_http_method(const struct imv_http_request *request);
struct imv_str imv_http_path(const struct imv_http_request *request);
/* A header's value by name (case-insensitive); {NULL, 0} when absent; the first when repeated. */
struct imv_str imv_http_header(const struct imv_http_request *request, const char *name);
/* A parameter of the URL's query, percent-decoded into buffer. IMV_NOT_FOUND: absent. IMV_INVALID: malformed or too
 * long for buffer. */
imv_status imv_http_parameter(const struct imv_http_request *request, const char *name, char *buffer, size_t size);
void *imv_http_context(const struct imv_http_request *request);
struct imv_loop *imv_http_loop(const struct imv_http_request *request);
void imv_http_set_state(struct imv_http_request *request, void *state);
void *imv_http_state(const struct imv_http_request *request);

/* Asks for `turn` until the reply is complete. */
void imv_http_wait(struct imv_http_request *request);
/* Goes on with input after a body callback returned false. */
void imv_http_resume(struct imv_http_request *request);

/* A whole reply. type may be NULL for none; body may be empty. */
void imv_http_reply(struct imv_http_request *request, int status, const char *type, struct imv_str body);
/* A JSON error in the form that InfluxDB clients read: {"code":..,"message":..,"error":..}. */
void imv_http_reply_error(struct imv_http_request *request, int status, const char *code, const char *message);
/* A reply of unknown length: begin, send pieces, end. send returns IMV_FULL when the output queue is full (wait for
 * drained), IMV_CLOSED when the connection is gone. */
void imv_http_stream_begin(struct imv_http_request *request, int status, const char *type);
imv_status imv_http_stream_send(struct imv_http_request *request, struct imv_str bytes);
void imv_http_stream_end(struct imv_http_request *request);
/* Ends a stream that cannot be completed: the connection is cut so that the client sees a broken reply. */
void imv_http_stream_abort(struct imv_http_request *request);
