#include "connectors/http/query.h"

#include "connectors/http/context.h"
#include "connectors/query_pool.h"
#include "query/parameters.h"
#include "query/sink/sink.h"
#include "storage/base/arena.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/metrics.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    BODY_BYTES_MAX = 1 << 20,
    QUERY_OUTPUT_BYTES_MAX = 512 * 1024, /* text that waits for the connection */
    PIECE_BYTES = 128 * 1024,            /* of one chunk */
    STREAM_BYTES = 64 * 1024,            /* an answer below this waits for its end and goes out whole */
};

struct query {
    struct imv_query_job job;        /* queued in the pool */
    struct imv_loop_message message; /* posted to the loop when there is news */
    struct imv_loop *loop;
    struct imv_http_context *context;
    /* ---- the query's thread, once the job is submitted ---- */
    struct imv_arena arena; /* statement and parameters */
    struct imv_query_request request;
    struct imv_text_sink sink;
    enum imv_sink_format format;
    /* ---- the loop's thread ---- */
    struct imv_http_request *http; /* NULL once the request is over */
    struct imv_buffer body, sending;
    size_t sent; /* of sending */
    bool streaming, submitted;
    /* ---- between them ---- */
    _Atomic bool cancelled;
    pthread_mutex_t lock;
    pthread_cond_t moved;  /* output was taken, or the query was cancelled */
    struct imv_buffer out; /* guarded by lock */
    bool posted;           /* guarded by lock: the message is queued in the loop */
    bool done;             /* guarded by lock: the query's thread has ended its work */
    bool released;         /* guarded by lock: the request side holds it no more */
    imv_status status;     /* guarded by lock: set with done */
    /* Guarded by lock, set before done: the error of an answer that ends short and cannot tell it. */
    struct imv_buffer failure;
};

/* ---- life ---- */

static void destroy(struct query *query) {
    imv_arena_release(&query->arena);
    imv_text_sink_release(&query->sink);
    imv_buffer_release(&query->body);
    imv_buffer_release(&query->sending);
    imv_buffer_release(&query->out);
    imv_buffer_release(&query->failure);
    pthread_cond_destroy(&query->moved);
    pthread_mutex_destroy(&query->lock);
    free(query);
}

/* Called with the lock held; unlocks. Frees when the request, the job and the message are all through with it. */
static void unlock_and_destroy_if_last(struct query *query) {
    bool last = query->released && query->done && !query->posted;
    pthread_mutex_unlock(&query->lock);
    if (last) destroy(query);
}

/* Called with the lock held. */
static void post(struct query *query) {
    if (query->posted || query->released) return;
    query->posted = true;
    imv_loop_post(query->loop, &query->message);
}

/* ---- the query's thread ---- */

/* Waits until the connection took some output, the query was cancelled, or its time is up. Called with the lock
 * held. */
static void wait_for_client(struct query *query) {
    struct timespec deadline = {query->request.deadline_ns / 1000000000, query->request.deadline_ns % 1000000000};
    imv_query_pool_wait_begin(query->context->pool);
    if (pthread_cond_timedwait(&query->moved, &query->lock, &deadline) != 0) atomic_store(&query->cancelled, true);
    imv_query_pool_wait_end(query->context->pool);
}

static bool write_out(void *context, const char *bytes, size_t size) {
    struct query *query = context;
    pthread_mutex_lock(&query->lock);
    while (query->out.size > 0 && query->out.size + size > QUERY_OUTPUT_BYTES_MAX && !atomic_load(&query->cancelled))
        wait_for_client(query);
    bool written = !atomic_load(&query->cancelled) && imv_buffer_append(&query->out, bytes, size);
    if (written && query->out.size >= STREAM_BYTES) post(query);
    pthread_mutex_unlock(&query->lock);
    return written;
}

/* Ends the answer of a query that failed. CSV and Arrow have no place for an error, and a cancelled query can write no
 * more. */
static void write_error(struct query *query, const struct imv_query_error *error) {
    bool told = imv_text_sink_error(&query->sink, error) && imv_sink_tells_errors(query->format);
    if (told) return;
    pthread_mutex_lock(&query->lock);
    imv_query_error_json(&query->failure, error);
    pthread_mutex_unlock(&query->lock);
}

static void run(struct imv_query_job *job) {
    struct query *query = (struct query *)job;
    struct imv_query_error error = {0};
    int64_t start = imv_clock_monotonic_ns(query->context->clock);
    imv_metric_add(IMV_METRIC_queries_running, 1);
    imv_status status = imv_query_run(query->context->engine, &query->request, &query->sink.sink, &error);
    const struct imv_query_error *refused = imv_text_sink_failure(&query->sink);
    if (status != IMV_OK) write_error(query, refused != NULL ? refused : &error);
    imv_metric_add(IMV_METRIC_queries_running, -1);
    imv_metric_add(IMV_METRIC_queries_total, 1);
    if (status != IMV_OK) imv_metric_add(IMV_METRIC_queries_failed_total, 1);
    imv_metric_observe_ns(IMV_METRIC_query_seconds, imv_clock_monotonic_ns(query->context->clock) - start);
    pthread_mutex_lock(&query->lock);
    query->done = true;
    query->status = status;
    post(query);
    unlock_and_destroy_if_last(query);
}

/* ---- the loop's thread: moving output ---- */

static int http_status_of(imv_status status) {
    switch (status) {
        case IMV_OK: return 200;
        case IMV_TIMEOUT: return 408;
        case IMV_FULL:
        case IMV_NO_MEMORY: return 422;
        case IMV_CORRUPT:
        case IMV_IO: return 500;
        default: return 400;
    }
}

static const char *content_type(const struct query *query, imv_status status) {
    return imv_sink_content_type(status == IMV_OK ? query->format : IMV_SINK_JSON);
}

/* Takes what the query wrote; tells whether that was all. */
static bool take_output(struct query *query, imv_status *status) {
    pthread_mutex_lock(&query->lock);
    if (query->sent == query->sending.size) {
        struct imv_buffer empty = query->sending;
        imv_buffer_reset(&empty);
        query->sending = query->out;
        query->out = empty;
        query->sent = 0;
        pthread_cond_signal(&query->moved);
    }
    bool all = query->done && query->out.size == 0;
    *status = query->status;
    pthread_mutex_unlock(&query->lock);
    return all;
}

/* The error in place of the answer, or, behind a part of it, a broken connection: a whole reply it must not seem. */
static void reply_failure(struct query *query, imv_status status) {
    if (query->streaming)
        imv_http_stream_abort(query->http);
    else
        imv_http_reply(query->http, http_status_of(status), content_type(query, status),
                       imv_buffer_view(&query->failure));
}

/* Sends until the connection is full, the output is empty for now, or the answer is complete. */
static void move_output(struct query *query) {
    imv_status status;
    for (;;) {
        bool all = take_output(query, &status);
        if (all && query->failure.size > 0) {
            reply_failure(query, status);
            return;
        }
        struct imv_str left = {0};
        if (query->sending.size > query->sent)
            left = (struct imv_str){query->sending.data + query->sent, query->sending.size - query->sent};
        if (all && !query->streaming && left.size + 1024 < IMV_CONN_OUTPUT_BYTES_MAX / 2) {
            query->sent = query->sending.size;
            imv_http_reply(query->http, http_status_of(status), content_type(query, status), left);
            return;
        }
        if (left.size == 0 && !all) return; /* news will come */
        if (!query->streaming) {
            query->streaming = true;
            imv_http_stream_begin(query->http, 200, content_type(query, IMV_OK));
        }
        if (left.size == 0) {
            imv_http_stream_end(query->http);
            return;
        }
        struct imv_str piece = {left.data, left.size < PIECE_BYTES ? left.size : PIECE_BYTES};
        imv_status sent = imv_http_stream_send(query->http, piece);
        if (sent == IMV_FULL) return; /* drained will come */
        if (sent != IMV_OK) {
            imv_http_stream_abort(query->http);
            return;
        }
        query->sent += piece.size;
    }
}

static void on_message(struct imv_loop_message *message) {
    struct query *query = (struct query *)((char *)message - offsetof(struct query, message));
    pthread_mutex_lock(&query->lock);
    query->posted = false;
    if (query->released) {
        unlock_and_destroy_if_last(query);
        return;
    }
    pthread_mutex_unlock(&query->lock);
    move_output(query);
}

/* ---- the request ---- */

static bool accepts(struct imv_str accept, const char *type) {
    return accept.size > 0 && memmem(accept.data, accept.size, type, strlen(type)) != NULL;
}

static struct imv_query_error request_error(const char *code, const char *detail, const char *message) {
    struct imv_query_error error = {.code = code, .detail = detail};
    snprintf(error.message, sizeof error.message, "%s", message);
    return error;
}

/* The answer to a request that no query is begun for. */
static void refuse(struct imv_http_request *http, int status, const struct imv_query_error *error) {
    struct imv_buffer text;
    imv_buffer_init(&text, 8192);
    imv_query_error_json(&text, error);
    imv_http_reply(http, status, "application/json", imv_buffer_view(&text));
    imv_buffer_release(&text);
}

static void refuse_busy(struct imv_http_request *http, const char *message) {
    struct imv_query_error error = request_error("ResourceError", "Unavailable", message);
    refuse(http, 503, &error);
}

static void begin(struct imv_http_request *http) {
    struct query *query = calloc(1, sizeof *query);
    if (query == NULL) {
        refuse_busy(http, "no memory for a query");
        return;
    }
    query->job.run = run;
    query->message.run = on_message;
    query->loop = imv_http_loop(http);
    query->context = imv_http_context(http);
    query->http = http;
    query->done = true; /* until it is submitted nobody else holds it */
    pthread_mutex_init(&query->lock, NULL);
    pthread_condattr_t monotonic; /* deadlines are monotonic */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&query->moved, &monotonic);
    pthread_condattr_destroy(&monotonic);
    imv_arena_init(&query->arena, 16 * 1024, NULL);
    imv_buffer_init(&query->body, BODY_BYTES_MAX);
    imv_buffer_init(&query->out, SIZE_MAX / 2); /* bounded by write_out: one piece may pass the limit */
    imv_buffer_init(&query->sending, SIZE_MAX / 2);
    imv_buffer_init(&query->failure, 8192);
    struct imv_str accept = imv_http_header(http, "Accept");
    char time[8];
    query->format = accepts(accept, "ndjson")                                ? IMV_SINK_NDJSON
                    : accepts(accept, "text/csv")                            ? IMV_SINK_CSV
                    : accepts(accept, "application/vnd.apache.arrow.stream") ? IMV_SINK_ARROW
                                                                             : IMV_SINK_JSON;
    bool time_as_integer = imv_http_parameter(http, "time", time, sizeof time) == IMV_OK && strcmp(time, "ns") == 0;
    imv_text_sink_init(&query->sink, query->format, time_as_integer, write_out, query);
    imv_http_set_state(http, query);
}

static bool body(struct imv_http_request *http, const char *bytes, size_t size) {
    struct query *query = imv_http_state(http);
    if (imv_buffer_append(&query->body, bytes, size)) return true;
    struct imv_query_error error = request_error("ArgumentError", "InvalidRequest", "the body is larger than 1 MiB");
    refuse(http, 413, &error);
    return true;
}

/* Takes statement and parameters out of a JSON body. */
static bool read_json(struct query *query, struct imv_query_error *error) {
    json_error_t reason;
    json_t *root = json_loadb(query->body.data, query->body.size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &reason);
    const json_t *text = json_object_get(root, "query");
    bool good = json_is_string(text);
    if (root == NULL) {
        char message[256];
        snprintf(message, sizeof message, "the body is not JSON: %s, line %d, column %d", reason.text, reason.line,
                 reason.column);
        *error = request_error("ArgumentError", "InvalidRequest", message);
    } else if (!good) {
        *error =
            request_error("ArgumentError", "InvalidRequest", "the body must be {\"query\": \"...\", \"params\": {..}}");
    } else {
        query->request.text =
            imv_arena_copy(&query->arena, (struct imv_str){json_string_value(text), json_string_length(text)});
        good = query->request.text.data != NULL &&
               imv_parameters_from_json(json_object_get(root, "params"), &query->arena, &query->request.parameters,
                                        &query->request.parameters_count, error) == IMV_OK;
    }
    json_decref(root);
    return good;
}

static void end(struct imv_http_request *http) {
    struct query *query = imv_http_state(http);
    struct imv_query_error error = request_error("ArgumentError", "InvalidRequest", "no memory to read the request");
    struct imv_str type = imv_http_header(http, "Content-Type");
    query->request = (struct imv_query_request){
        .text = imv_buffer_view(&query->body),
        .deadline_ns = imv_clock_monotonic_ns(query->context->clock) + query->context->query_timeout_ns,
        .memory_bytes_max = query->context->query_memory_bytes_max,
        .memory = query->context->query_memory,
        .cancelled = &query->cancelled,
        .workers = query->context->workers,
    };
    if (accepts(type, "json") && !read_json(query, &error)) {
        refuse(http, 400, &error);
        return;
    }
    query->done = false;
    query->submitted = imv_query_pool_submit(query->context->pool, &query->job) == IMV_OK;
    if (query->submitted) return;
    query->done = true;
    refuse_busy(http, "too many queries are waiting; try again later");
}

static void drained(struct imv_http_request *http) {
    struct query *query = imv_http_state(http);
    if (query->streaming) move_output(query);
}

static void finish(struct imv_http_request *http) {
    struct query *query = imv_http_state(http);
    if (query == NULL) return;
    atomic_store(&query->cancelled, true);
    pthread_mutex_lock(&query->lock);
    query->http = NULL;
    query->released = true;
    pthread_cond_signal(&query->moved);
    unlock_and_destroy_if_last(query);
}

const struct imv_http_handler imv_http_query_handler = {
    .begin = begin,
    .body = body,
    .end = end,
    .drained = drained,
    .finish = finish,
    .ends_with_client = true,
};
