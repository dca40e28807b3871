#include "connectors/http/http.h"

#include "query/sink/sink.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/metrics.h"

#include <http_parser.h>
#include <stdio.h>
#include <stdlib.h>

/* Offsets into the session's head buffer: the buffer may move while it grows. */
struct span {
    uint32_t offset, size;
};

enum { HEADERS_MAX = 64 };

enum reply_state { REPLY_NONE, REPLY_STREAMING, REPLY_DONE };

struct imv_http_request {
    struct imv_http *http;
    struct imv_conn *conn; /* NULL once the connection is gone */
    const struct imv_http_handler *handler;
    void *state;
    struct imv_http_request *waiting_next; /* list of http, while waiting */
    bool waiting, begun, ended, blocked, keep_alive;
    bool parsing; /* inside session_data: it completes requests itself */
    bool held;    /* input waits for room in the output */
    bool chunked; /* how the streamed reply is framed; HTTP/1.0 gets plain bytes and a close */
    enum reply_state reply;
    struct span url, names[HEADERS_MAX], values[HEADERS_MAX];
    uint32_t headers;
    struct imv_str path, query;
    struct imv_buffer head;
    http_parser parser;                       /* of the whole connection */
    int64_t head_deadline_ns;                 /* INT64_MAX: no head is being received */
    struct imv_http_request *previous, *next; /* all sessions of http */
};

struct imv_http {
    struct imv_http_options options;
    struct imv_http_request *sessions;
    struct imv_http_request *waiting;
    int64_t next_sweep_ns;
};

static const int64_t sweep_ns = 1000000000; /* heads are late by seconds, a scan a second is enough */

static int64_t now_ns(const struct imv_http *http) { return imv_clock_monotonic_ns(http->options.clock); }

imv_status imv_http_new(const struct imv_http_options *options, struct imv_http **http, struct imv_error *err) {
    *http = calloc(1, sizeof **http);
    if (*http == NULL) return imv_fail(err, IMV_NO_MEMORY, "http: no memory for a server");
    (*http)->options = *options;
    return IMV_OK;
}

void imv_http_free(struct imv_http *http) {
    if (http == NULL) return;
    imv_assert(http->sessions == NULL);
    free(http);
}

/* ---- the end of a request ---- */

static void stop_waiting(struct imv_http_request *request) {
    if (!request->waiting) return;
    struct imv_http_request **link = &request->http->waiting;
    while (*link != request) link = &(*link)->waiting_next;
    *link = request->waiting_next;
    request->waiting = false;
}

static void finish(struct imv_http_request *request) {
    if (!request->begun) return;
    request->begun = false;
    stop_waiting(request);
    if (request->handler != NULL && request->handler->finish != NULL) request->handler->finish(request);
    request->state = NULL;
    request->handler = NULL;
}

/* Gets ready for the next request once the body is read and the reply is out. */
static void complete_if_over(struct imv_http_request *request) {
    if (!request->ended || request->reply != REPLY_DONE) return;
    finish(request);
    request->ended = false;
    request->reply = REPLY_NONE;
    imv_buffer_release(&request->head);
    if (request->conn == NULL) return;
    if (!request->keep_alive)
        imv_conn_close(request->conn);
    else if (!request->parsing)
        imv_conn_resume(request->conn);
}

/* ---- parsing ---- */

static struct imv_http_request *request_of(http_parser *parser) { return parser->data; }

static struct imv_str view(const struct imv_http_request *request, struct span span) {
    return (struct imv_str){request->head.data + span.offset, span.size};
}

/* Appends a piece of a token; a token may come in several pieces, which then follow each other in the head buffer. */
static int append(struct imv_http_request *request, struct span *span, const char *bytes, size_t size) {
    if (span->size == 0) span->offset = (uint32_t)request->head.size;
    if (!imv_buffer_append(&request->head, bytes, size)) return -1;
    span->size += (uint32_t)size;
    return 0;
}

static int on_message_begin(http_parser *parser) {
    struct imv_http_request *request = request_of(parser);
    request->url = (struct span){0};
    request->headers = 0;
    request->names[0] = request->values[0] = (struct span){0};
    imv_buffer_init(&request->head, IMV_HTTP_HEAD_BYTES_MAX);
    request->head_deadline_ns = now_ns(request->http) + IMV_HTTP_HEAD_NS;
    return 0;
}

static int on_url(http_parser *parser, const char *bytes, size_t size) {
    struct imv_http_request *request = request_of(parser);
    return append(request, &request->url, bytes, size);
}

static int on_header_field(http_parser *parser, const char *bytes, size_t size) {
    struct imv_http_request *request = request_of(parser);
    if (request->begun) return 0; /* a trailer: dropped, it must not pass for a header */
    if (request->headers == 0 || request->values[request->headers - 1].offset != UINT32_MAX) {
        if (request->headers == HEADERS_MAX) return -1;
        request->names[request->headers] = (struct span){0};
        request->values[request->headers] = (struct span){.offset = UINT32_MAX}; /* no value yet: the name may go on */
        request->headers++;
    }
    return append(request, &request->names[request->headers - 1], bytes, size);
}

static int on_header_value(http_parser *parser, const char *bytes, size_t size) {
    struct imv_http_request *request = request_of(parser);
    if (request->begun) return 0;
    struct span *value = &request->values[request->headers - 1];
    if (value->offset == UINT32_MAX) *value = (struct span){.offset = (uint32_t)request->head.size};
    return append(request, value, bytes, size);
}

static const struct imv_http_route *find_route(struct imv_http_request *request, bool *path_known) {
    *path_known = false;
    for (const struct imv_http_route *route = request->http->options.routes; route->path != NULL; route++) {
        if (!imv_str_equal(request->path, imv_str_from(route->path))) continue;
        *path_known = true;
        if (imv_str_equal(imv_http_method(request), imv_str_from(route->method))) return route;
    }
    return NULL;
}

static bool speaks_1_1(const http_parser *parser) {
    return parser->http_major > 1 || (parser->http_major == 1 && parser->http_minor >= 1);
}

static int on_headers_complete(http_parser *parser) {
    struct imv_http_request *request = request_of(parser);
    request->head_deadline_ns = INT64_MAX;
    request->keep_alive = http_should_keep_alive(parser) != 0;
    request->begun = true;
    parser->upgrade = 0; /* an offer that is not taken up; of CONNECT the path is unknown */
    struct imv_str url = view(request, request->url);
    const char *mark = url.size == 0 ? NULL : memchr(url.data, '?', url.size);
    request->path = mark == NULL ? url : (struct imv_str){url.data, (size_t)(mark - url.data)};
    request->query = mark == NULL ? (struct imv_str){0} : (struct imv_str){mark + 1, url.size - request->path.size - 1};
    bool path_known;
    const struct imv_http_route *route = find_route(request, &path_known);
    if (route == NULL) {
        imv_http_reply_error(request, path_known ? 405 : 404, path_known ? "method not allowed" : "not found",
                             path_known ? "this path does not take this method" : "there is nothing at this path");
        return 0;
    }
    request->handler = route->handler;
    request->handler->begin(request);
    struct imv_str expect = imv_http_header(request, "Expect");
    bool continues = expect.size == 12 && strncasecmp(expect.data, "100-continue", 12) == 0;
    if (request->reply == REPLY_NONE && continues && speaks_1_1(parser))
        imv_conn_send(request->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    return 0;
}

static int on_body(http_parser *parser, const char *bytes, size_t size) {
    struct imv_http_request *request = request_of(parser);
    if (request->reply != REPLY_NONE) return 0; /* answered already: the rest is dropped */
    if (!request->handler->body(request, bytes, size) && request->reply == REPLY_NONE) {
        request->blocked = true;
        imv_conn_pause(request->conn);
        http_parser_pause(parser, 1);
    }
    return 0;
}

static int on_message_complete(http_parser *parser) {
    struct imv_http_request *request = request_of(parser);
    request->ended = true;
    http_parser_pause(parser, 1); /* the next request waits for this one's reply */
    if (request->reply == REPLY_NONE) request->handler->end(request);
    if (request->reply != REPLY_DONE) imv_conn_pause(request->conn);
    return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_message_begin,
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- the connection ---- */

static imv_status session_open(struct imv_conn *conn, void *listener_context) {
    struct imv_http *http = ((struct imv_http **)listener_context)[imv_loop_index(imv_conn_loop(conn))];
    struct imv_http_request *request = calloc(1, sizeof *request);
    if (request == NULL) return IMV_NO_MEMORY;
    request->http = http;
    request->conn = conn;
    request->head_deadline_ns = INT64_MAX;
    http_parser_init(&request->parser, HTTP_REQUEST);
    request->parser.data = request;
    imv_buffer_init(&request->head, IMV_HTTP_HEAD_BYTES_MAX);
    request->next = http->sessions;
    if (request->next != NULL) request->next->previous = request;
    http->sessions = request;
    imv_conn_set_state(conn, request);
    return IMV_OK;
}

static void reply_to_bad_input(struct imv_http_request *request) {
    request->keep_alive = false;
    request->ended = request->begun = true;
    request->head_deadline_ns = INT64_MAX;
    enum http_errno number = HTTP_PARSER_ERRNO(&request->parser);
    /* Callbacks fail at nothing but the limits of a head. */
    bool too_large = number == HPE_HEADER_OVERFLOW || number == HPE_CB_url || number == HPE_CB_header_field ||
                     number == HPE_CB_header_value;
    if (request->reply == REPLY_NONE)
        imv_http_reply_error(request, too_large ? 431 : 400, "invalid",
                             too_large ? "the request's head is too large" : http_errno_description(number));
    else if (request->reply == REPLY_STREAMING)
        imv_conn_abort(request->conn);
}

/* Requests that came together are answered one by one: the next one waits until the output has room for any reply. */
static bool must_hold(struct imv_http_request *request) {
    if (request->begun || imv_conn_may_send(request->conn, IMV_CONN_OUTPUT_BYTES_MAX / 2)) return false;
    request->held = true;
    imv_conn_pause(request->conn);
    return true;
}

static size_t session_data(struct imv_conn *conn, const char *bytes, size_t size) {
    struct imv_http_request *request = imv_conn_state(conn);
    size_t used = 0;
    request->parsing = true;
    /* One request at a time: what follows stays in the connection's input until the reply is out. */
    while (used < size && !request->blocked && !(request->ended && request->reply != REPLY_DONE) &&
           !must_hold(request)) {
        used += http_parser_execute(&request->parser, &settings, bytes + used, size - used);
        if (HTTP_PARSER_ERRNO(&request->parser) == HPE_PAUSED) {
            http_parser_pause(&request->parser, 0);
        } else if (HTTP_PARSER_ERRNO(&request->parser) != HPE_OK) {
            reply_to_bad_input(request);
            used = size;
        }
        bool closing = request->ended && request->reply == REPLY_DONE && !request->keep_alive;
        complete_if_over(request);
        if (closing) used = size;
    }
    request->parsing = false;
    return used;
}

static void session_end(struct imv_conn *conn) {
    struct imv_http_request *request = imv_conn_state(conn);
    if (request->ended && request->reply != REPLY_DONE)
        request->keep_alive = false; /* reply first, then close */
    else
        imv_conn_close(conn);
}

static void session_drained(struct imv_conn *conn) {
    struct imv_http_request *request = imv_conn_state(conn);
    if (request->held) {
        request->held = false;
        imv_conn_resume(conn);
    } else if (request->begun && request->handler != NULL && request->handler->drained != NULL) {
        request->handler->drained(request);
    }
}

static void session_closed(struct imv_conn *conn) {
    struct imv_http_request *request = imv_conn_state(conn);
    if (request == NULL) return; /* open failed */
    request->conn = NULL;
    finish(request);
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        request->http->sessions = request->next;
    if (request->next != NULL) request->next->previous = request->previous;
    imv_buffer_release(&request->head);
    free(request);
}

const struct imv_conn_handler imv_http_conn_handler = {
    .name = "http",
    .open = session_open,
    .data = session_data,
    .end = session_end,
    .drained = session_drained,
    .closed = session_closed,
};

static void cut_late_heads(struct imv_http *http, int64_t now) {
    for (struct imv_http_request *request = http->sessions; request != NULL; request = request->next) {
        if (request->head_deadline_ns > now) continue;
        request->head_deadline_ns = INT64_MAX;
        imv_metric_add(IMV_METRIC_connections_timed_out_total, 1);
        request->keep_alive = false;
        request->ended = request->begun = true;
        imv_http_reply_error(request, 408, "timeout", "the request's head was not complete in time");
    }
}

static void cut_lost_clients(struct imv_http *http) {
    for (struct imv_http_request *request = http->sessions; request != NULL; request = request->next) {
        bool pending = request->begun && request->ended && request->reply != REPLY_DONE && request->handler != NULL;
        if (pending && request->handler->ends_with_client && imv_conn_peer_gone(request->conn))
            imv_conn_abort(request->conn); /* closed follows, and finishes the request */
    }
}

int64_t imv_http_turn(struct imv_http *http) {
    for (struct imv_http_request *request = http->waiting; request != NULL;) {
        struct imv_http_request *next = request->waiting_next; /* turn may complete the request and unlink it */
        request->handler->turn(request);
        request = next;
    }
    int64_t now = now_ns(http);
    if (now >= http->next_sweep_ns) {
        cut_late_heads(http, now);
        cut_lost_clients(http);
        http->next_sweep_ns = now + sweep_ns;
    }
    return http->sessions == NULL ? INT64_MAX : http->next_sweep_ns;
}

/* ---- what a handler asks and says ---- */

struct imv_str imv_http_method(const struct imv_http_request *request) {
    return imv_str_from(http_method_str((enum http_method)request->parser.method));
}
struct imv_str imv_http_path(const struct imv_http_request *request) {
    return request->path;
}
void *imv_http_context(const struct imv_http_request *request) { return request->http->options.context; }
struct imv_loop *imv_http_loop(const struct imv_http_request *request) {
    return imv_conn_loop(request->conn);
}
void imv_http_set_state(struct imv_http_request *request, void *state) { request->state = state; }
void *imv_http_state(const struct imv_http_request *request) { return request->state; }

struct imv_str imv_http_header(const struct imv_http_request *request, const char *name) {
    size_t size = strlen(name);
    for (uint32_t i = 0; i < request->headers; i++) {
        struct imv_str have = view(request, request->names[i]);
        if (have.size == size && strncasecmp(have.data, name, size) == 0 && request->values[i].offset != UINT32_MAX)
            return view(request, request->values[i]);
    }
    return (struct imv_str){0};
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* application/x-www-form-urlencoded: %XX and + for a space. A zero byte would end the text early: it is refused. */
static bool percent_decode(struct imv_str text, char *buffer, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (used + 1 >= size) return false;
        char byte = text.data[i];
        if (byte == '+') byte = ' ';
        if (byte == '%') {
            if (i + 2 >= text.size) return false;
            int high = hex_digit(text.data[i + 1]), low = hex_digit(text.data[i + 2]);
            if (high < 0 || low < 0) return false;
            byte = (char)(high << 4 | low);
            i += 2;
        }
        if (byte == 0) return false;
        buffer[used++] = byte;
    }
    buffer[used] = 0;
    return true;
}

imv_status imv_http_parameter(const struct imv_http_request *request, const char *name, char *buffer, size_t size) {
    struct imv_str rest = request->query;
    size_t name_size = strlen(name);
    while (rest.size > 0) {
        const char *mark = memchr(rest.data, '&', rest.size);
        struct imv_str pair = {rest.data, mark == NULL ? rest.size : (size_t)(mark - rest.data)};
        rest = mark == NULL ? (struct imv_str){0} : (struct imv_str){mark + 1, rest.size - pair.size - 1};
        if (pair.size <= name_size || memcmp(pair.data, name, name_size) != 0 || pair.data[name_size] != '=') continue;
        struct imv_str value = {pair.data + name_size + 1, pair.size - name_size - 1};
        return percent_decode(value, buffer, size) ? IMV_OK : IMV_INVALID;
    }
    return IMV_NOT_FOUND;
}

void imv_http_wait(struct imv_http_request *request) {
    if (request->waiting) return;
    imv_assert(request->handler->turn != NULL);
    request->waiting = true;
    request->waiting_next = request->http->waiting;
    request->http->waiting = request;
}

void imv_http_resume(struct imv_http_request *request) {
    if (!request->blocked) return;
    request->blocked = false;
    if (request->conn != NULL) imv_conn_resume(request->conn);
}

/* ---- replies ---- */

static const char *reason_of(int status) { return http_status_str((enum http_status)status); }

static imv_status send_head(struct imv_http_request *request, int status, const char *type, const char *framing) {
    char head[512];
    int size = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\n%s%s%s%s%s\r\n", status, reason_of(status),
                        type == NULL ? "" : "Content-Type: ", type == NULL ? "" : type, type == NULL ? "" : "\r\n",
                        framing, request->keep_alive ? "" : "Connection: close\r\n");
    imv_assert(size > 0 && (size_t)size < sizeof head);
    imv_metric_add(IMV_METRIC_http_requests_total, 1);
    if (status >= 400) imv_metric_add(IMV_METRIC_http_errors_total, 1);
    return request->conn == NULL ? IMV_CLOSED : imv_conn_send(request->conn, head, (size_t)size);
}

/* The reply is out. Outside of the parser the request may be over with this. */
static void replied(struct imv_http_request *request, imv_status status) {
    stop_waiting(request);
    request->reply = REPLY_DONE;
    if (status != IMV_OK && request->conn != NULL)
        imv_conn_abort(request->conn); /* the peer does not read its replies */
    if (request->parsing) return;
    imv_http_resume(request); /* the rest of an unread body is dropped */
    complete_if_over(request);
}

void imv_http_reply(struct imv_http_request *request, int status, const char *type, struct imv_str body) {
    imv_assert(request->reply == REPLY_NONE);
    char framing[48];
    if (status == 204)
        framing[0] = 0;
    else
        snprintf(framing, sizeof framing, "Content-Length: %zu\r\n", body.size);
    imv_status sent = send_head(request, status, type, framing);
    if (sent == IMV_OK && body.size > 0 && request->parser.method != HTTP_HEAD)
        sent = imv_conn_send(request->conn, body.data, body.size);
    replied(request, sent);
}

void imv_http_reply_error(struct imv_http_request *request, int status, const char *code, const char *message) {
    struct imv_buffer body;
    imv_buffer_init(&body, 64 * 1024); /* a message of 8 KiB twice, with escapes */
    imv_buffer_append_format(&body, "{\"code\":\"%s\",\"message\":", code);
    imv_json_string(&body, imv_str_from(message));
    imv_buffer_append_format(&body, ",\"error\":");
    imv_json_string(&body, imv_str_from(message));
    imv_buffer_append_format(&body, "}\n");
    imv_http_reply(request, status, "application/json", imv_buffer_view(&body));
    imv_buffer_release(&body);
}

void imv_http_stream_begin(struct imv_http_request *request, int status, const char *type) {
    imv_assert(request->reply == REPLY_NONE);
    request->reply = REPLY_STREAMING;
    request->chunked = speaks_1_1(&request->parser);
    if (!request->chunked) request->keep_alive = false;
    const char *framing = request->chunked ? "Transfer-Encoding: chunked\r\n" : "";
    if (send_head(request, status, type, framing) != IMV_OK && request->conn != NULL) imv_conn_abort(request->conn);
}

imv_status imv_http_stream_send(struct imv_http_request *request, struct imv_str bytes) {
    imv_assert(request->reply == REPLY_STREAMING);
    if (request->conn == NULL) return IMV_CLOSED;
    if (bytes.size == 0) return IMV_OK;
    if (!imv_conn_may_send(request->conn, bytes.size + 32)) return IMV_FULL;
    if (!request->chunked) return imv_conn_send(request->conn, bytes.data, bytes.size);
    char head[24];
    int size = snprintf(head, sizeof head, "%zx\r\n", bytes.size);
    IMV_TRY(imv_conn_send(request->conn, head, (size_t)size));
    IMV_TRY(imv_conn_send(request->conn, bytes.data, bytes.size));
    return imv_conn_send(request->conn, "\r\n", 2);
}

void imv_http_stream_end(struct imv_http_request *request) {
    imv_assert(request->reply == REPLY_STREAMING);
    imv_status status = request->conn == NULL ? IMV_CLOSED
                        : request->chunked    ? imv_conn_send(request->conn, "0\r\n\r\n", 5)
                                              : IMV_OK;
    replied(request, status);
}

void imv_http_stream_abort(struct imv_http_request *request) {
    imv_assert(request->reply == REPLY_STREAMING);
    replied(request, IMV_CLOSED);
}
