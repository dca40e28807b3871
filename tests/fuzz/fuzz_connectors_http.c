/* Any bytes on an HTTP connection: every request gets at most one final reply, every request that began finishes once,
 * and neither the replies nor the rows depend on how the bytes are cut, on when the writer is full, on when rows become
 * durable, or on how fast the peer takes the output.
 *
 * The input runs twice against the real sessions and handlers: whole, with everything at once, and in pieces, with
 * random delays. What lies below is faked: the loop (tests/support/fake_loop.h), the writer, the query pool and the
 * engine. */
#include "connectors/http/context.h"
#include "connectors/http/query.h"
#include "connectors/http/remote_write.h"
#include "connectors/http/status.h"
#include "connectors/http/write.h"
#include "connectors/query_pool.h"
#include "engine/engine.h"
#include "engine/writer.h"
#include "ingest/arrow.h"
#include "query/column.h"
#include "query/query.h"
#include "storage/base/budget.h"
#include "storage/base/hash.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"
#include "tests/support/fake_loop.h"

enum { ROUNDS_MAX = 100000, ROWS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the writer, the pool and the engine ---- */

static struct {
    struct imv_prng prng;
    bool delays;     /* the run in pieces */
    uint32_t room;   /* rows until the writer is full */
    uint32_t busy;   /* checks until rows are durable */
    uint64_t digest; /* of all rows */
    uint64_t series; /* of the label and the tags of the series made last */
    uint64_t draft;  /* of the row under way */
    uint64_t rows;
    struct imv_query_job *jobs, **jobs_last;
    int begun, finished;
} world;

static void mix(uint64_t *digest, const void *bytes, size_t size) { *digest = imv_hash64(bytes, size, *digest); }

struct imv_series *imv_writer_find_series(struct imv_writer *writer, struct imv_str raw) {
    (void)writer, (void)raw;
    return NULL;
}

/* No series and no shape is known: every line takes the way through imv_writer_begin. */
void imv_writer_find_many(struct imv_writer *writer, const struct imv_str *raws, size_t count,
                          struct imv_series **series) {
    (void)writer, (void)raws;
    memset(series, 0, count * sizeof(struct imv_series *));
}
const struct imv_shape *const *imv_writer_shapes(struct imv_writer *writer, const struct imv_label *label) {
    (void)writer, (void)label;
    return NULL;
}
struct imv_row *imv_writer_place(struct imv_writer *writer, struct imv_series *series, size_t bytes) {
    (void)writer, (void)series, (void)bytes;
    return NULL;
}
void imv_writer_put(struct imv_writer *writer, struct imv_row *row, struct imv_series *series,
                    const struct imv_shape *shape, int64_t timestamp, size_t bytes) {
    (void)writer, (void)row, (void)series, (void)shape, (void)timestamp, (void)bytes;
    imv_assert(row != NULL);
}

/* Arrow has a target of its own; here its streams are refused. */
imv_status imv_arrow_feed_new(const struct imv_arrow_feed_options *options, struct imv_arrow_feed **feed,
                              struct imv_error *err) {
    (void)options, (void)feed;
    return imv_fail(err, IMV_UNSUPPORTED, "no Arrow here");
}
void imv_arrow_feed_free(struct imv_arrow_feed *feed) { imv_assert(feed == NULL); }
imv_status imv_arrow_feed_take(struct imv_arrow_feed *feed, const char *bytes, size_t size, size_t *taken,
                               struct imv_error *err) {
    (void)feed, (void)bytes, (void)size, (void)taken;
    return imv_fail(err, IMV_UNSUPPORTED, "no Arrow here");
}
imv_status imv_arrow_feed_end(const struct imv_arrow_feed *feed, struct imv_error *err) {
    (void)feed;
    return imv_fail(err, IMV_UNSUPPORTED, "no Arrow here");
}
uint64_t imv_arrow_feed_rows(const struct imv_arrow_feed *feed) { return feed == NULL ? 0 : 1; }
uint64_t imv_arrow_feed_rejected(const struct imv_arrow_feed *feed) { return feed == NULL ? 0 : 1; }

imv_status imv_writer_check_row(struct imv_writer *writer, struct imv_str label, const struct imv_tag *tags,
                                size_t tags_count, const struct imv_field *fields, size_t fields_count,
                                struct imv_error *err) {
    (void)writer, (void)label, (void)tags, (void)tags_count, (void)fields, (void)fields_count, (void)err;
    return IMV_OK;
}
imv_status imv_writer_make_series(struct imv_writer *writer, struct imv_str raw, struct imv_str label,
                                  const struct imv_tag *tags, size_t tags_count, struct imv_series **series,
                                  struct imv_error *err) {
    (void)writer, (void)err, (void)raw;
    world.series = 0;
    mix(&world.series, label.data, label.size);
    for (size_t i = 0; i < tags_count; i++) {
        mix(&world.series, tags[i].key.data, tags[i].key.size);
        mix(&world.series, tags[i].value.data, tags[i].value.size);
    }
    *series = (struct imv_series *)(uintptr_t)&world;
    return IMV_OK;
}

imv_status imv_writer_begin(struct imv_writer *writer, struct imv_series *series, uint32_t fields_max, size_t bytes_max,
                            struct imv_error *err) {
    (void)writer, (void)series, (void)fields_max, (void)bytes_max, (void)err;
    imv_assert(!world.delays || world.room > 0);
    world.draft = world.series;
    return IMV_OK;
}

imv_status imv_writer_field(struct imv_writer *writer, struct imv_str name, imv_type type, uint64_t cell,
                            struct imv_error *err) {
    (void)writer;
    if (name.size > 200) return imv_fail(err, IMV_INVALID, "a long name");
    mix(&world.draft, name.data, name.size);
    mix(&world.draft, &(uint64_t[]){(uint64_t)type, cell}, 16);
    return IMV_OK;
}

imv_status imv_writer_field_string(struct imv_writer *writer, struct imv_str name, struct imv_str text,
                                   struct imv_error *err) {
    (void)writer, (void)err;
    mix(&world.draft, name.data, name.size);
    mix(&world.draft, text.data, text.size);
    return IMV_OK;
}

imv_status imv_writer_end(struct imv_writer *writer, int64_t timestamp, struct imv_error *err) {
    (void)writer, (void)err;
    mix(&world.draft, &timestamp, sizeof timestamp);
    mix(&world.digest, &world.draft, sizeof world.draft);
    world.rows++;
    world.room--;
    return IMV_OK;
}

imv_status imv_writer_accepts(struct imv_writer *writer, struct imv_error *err) {
    (void)writer, (void)err;
    return IMV_OK;
}

void imv_engine_observe(struct imv_engine *engine) { (void)engine; }

void imv_writer_abort(struct imv_writer *writer) { (void)writer; }
bool imv_writer_has_room(struct imv_writer *writer) {
    (void)writer;
    return !world.delays || world.room > 0;
}
void imv_writer_mark(const struct imv_writer *writer, uint64_t *marks) { (void)writer, marks[0] = world.rows; }

imv_status imv_writer_check(const struct imv_writer *writer, const uint64_t *marks, struct imv_error *err) {
    (void)writer, (void)marks, (void)err;
    if (!world.delays || world.busy == 0) return IMV_OK;
    world.busy--;
    return IMV_BUSY;
}

imv_status imv_query_pool_submit(struct imv_query_pool *pool, struct imv_query_job *job) {
    (void)pool;
    job->next = NULL;
    *world.jobs_last = job;
    world.jobs_last = &job->next;
    return IMV_OK;
}

void imv_query_pool_wait_begin(struct imv_query_pool *pool) { (void)pool; }
void imv_query_pool_wait_end(struct imv_query_pool *pool) { (void)pool; }

imv_status imv_engine_health(struct imv_engine *engine, struct imv_error *err) {
    (void)engine, (void)err;
    return IMV_OK;
}

/* A statement that starts with a digit returns so many times 64 rows; any other is wrong. Rows and a failure at their
 * end come when it starts with a digit and ends with `!`. */
imv_status imv_query_run(struct imv_engine *engine, const struct imv_query_request *request,
                         struct imv_query_sink *sink, struct imv_query_error *error) {
    (void)engine;
    struct imv_str text = request->text, name = IMV_STR("n");
    *error = (struct imv_query_error){.code = "SyntaxError", .detail = "InvalidSyntax", .message = "no digit"};
    if (text.size == 0 || text.data[0] < '0' || text.data[0] > '9') return IMV_INVALID;
    uint64_t cells[ROWS];
    for (size_t i = 0; i < ROWS; i++) cells[i] = UINT64_C(10000000000000000) + i;
    struct imv_column column = {.kind = IMV_COLUMN_INTEGER, .cells = cells};
    bool going = sink->begin(sink, &name, 1);
    for (int i = 0; i < (text.data[0] - '0') && going && !atomic_load(request->cancelled); i++)
        going = sink->rows(sink, &column, 1, ROWS);
    if (!going || atomic_load(request->cancelled)) return IMV_CANCELLED;
    if (text.data[text.size - 1] == '!') return IMV_TIMEOUT;
    return sink->end(sink, &(struct imv_query_statistics){.rows = ROWS}) ? IMV_OK : IMV_CANCELLED;
}

static bool run_one_job(void) {
    struct imv_query_job *job = world.jobs;
    if (job == NULL) return false;
    world.jobs = job->next;
    if (world.jobs == NULL) world.jobs_last = &world.jobs;
    job->run(job);
    return true;
}

/* ---- handlers of the target itself ---- */

static void nothing(struct imv_http_request *request) { (void)request; }

static bool drop(struct imv_http_request *request, const char *bytes, size_t size) {
    (void)request, (void)bytes, (void)size;
    return true;
}

/* A large reply at once, for pipelined requests that fill the output. */
static void reply_large(struct imv_http_request *request) {
    static char text[100 * 1024];
    imv_http_reply(request, 200, "text/plain", (struct imv_str){text, sizeof text});
}

static void count_begin(struct imv_http_request *request) { world.begun++, nothing(request); }
static void count_finish(struct imv_http_request *request) { world.finished++, nothing(request); }

/* Answers before the body. */
static void reply_early(struct imv_http_request *request) {
    count_begin(request);
    imv_http_reply_error(request, 413, "invalid", "too large");
}

static void counted_write_begin(struct imv_http_request *request) {
    world.begun++;
    imv_http_write_handler.begin(request);
}
static void counted_write_finish(struct imv_http_request *request) {
    world.finished++;
    imv_http_write_handler.finish(request);
}
static void counted_remote_begin(struct imv_http_request *request) {
    world.begun++;
    imv_http_remote_write_handler.begin(request);
}
static void counted_remote_finish(struct imv_http_request *request) {
    world.finished++;
    imv_http_remote_write_handler.finish(request);
}
static void counted_query_begin(struct imv_http_request *request) {
    world.begun++;
    imv_http_query_handler.begin(request);
}
static void counted_query_finish(struct imv_http_request *request) {
    world.finished++;
    imv_http_query_handler.finish(request);
}

static struct imv_http_handler write_handler, remote_handler, query_handler;
static const struct imv_http_handler large_handler = {
    .begin = count_begin, .body = drop, .end = reply_large, .finish = count_finish};
static const struct imv_http_handler early_handler = {
    .begin = reply_early, .body = drop, .end = nothing, .finish = count_finish};

static const struct imv_http_route routes[] = {
    {"POST", "/write", &write_handler},
    {"POST", "/api/v2/write", &write_handler},
    {"POST", "/query", &query_handler},
    {"GET", "/livez", &imv_http_livez_handler},
    {"GET", "/readyz", &imv_http_readyz_handler},
    {"GET", "/ping", &imv_http_ping_handler},
    {"HEAD", "/ping", &imv_http_ping_handler},
    {"GET", "/large", &large_handler},
    {"POST", "/early", &early_handler},
    {"POST", "/api/v1/write", &remote_handler},
    {NULL, NULL, NULL},
};

/* ---- a run ---- */

struct outcome {
    struct imv_buffer output;
    uint64_t digest, rows;
    int64_t replies;
    bool aborted;
};

static struct imv_manual_clock manual;
static struct imv_loop loop;
static struct imv_http *http;

static void let_pass(struct imv_conn *conn) {
    struct imv_prng *prng = &world.prng;
    if (imv_prng_below(prng, 2) == 0) imv_http_turn(http);
    if (imv_prng_below(prng, 3) == 0) run_one_job();
    if (imv_prng_below(prng, 2) == 0) fake_loop_run(&loop);
    if (imv_prng_below(prng, 2) == 0) fake_conn_take(conn, imv_prng_below(prng, 1 << imv_prng_below(prng, 20)));
    if (imv_prng_below(prng, 2) == 0) world.room = (uint32_t)imv_prng_below(prng, 4);
    fake_conn_settle(conn);
}

static void arrive_in_pieces(struct imv_conn *conn, const uint8_t *data, size_t size) {
    uint64_t most = UINT64_C(1) << imv_prng_below(&world.prng, 12);
    while (size > 0 && conn->phase != FAKE_CLOSED) {
        size_t piece = 1 + imv_prng_below(&world.prng, most);
        if (piece > size) piece = size;
        fake_conn_arrive(conn, data, piece);
        fake_conn_settle(conn);
        data += piece;
        size -= piece;
        world.busy = (uint32_t)imv_prng_below(&world.prng, 3);
        let_pass(conn);
    }
}

/* The peer has sent its end: with everything taken and done the connection must close. */
static void run_to_end(struct imv_conn *conn) {
    conn->peer_ended = true;
    for (int round = 0; conn->phase != FAKE_CLOSED; round++) {
        imv_assert(round < ROUNDS_MAX);
        fake_conn_settle(conn);
        if (conn->phase != FAKE_CLOSED) fake_conn_take(conn, SIZE_MAX);
        world.room = world.delays ? 1 + (uint32_t)imv_prng_below(&world.prng, 100) : 0;
        imv_http_turn(http);
        run_one_job();
        fake_loop_run(&loop);
    }
    while (run_one_job() || fake_loop_run(&loop)) {}
}

static void run(const uint8_t *data, size_t size, bool delays, struct outcome *outcome) {
    struct imv_conn conn;
    world.begun = world.finished = 0;
    world.digest = world.rows = 0;
    world.delays = delays;
    world.room = 3;
    world.busy = 0;
    world.jobs_last = &world.jobs;
    imv_prng_init(&world.prng, imv_hash64(data, size, 0));
    int64_t replies = imv_metric_value(IMV_METRIC_http_requests_total);
    imv_assert(fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http) == IMV_OK);
    if (delays)
        arrive_in_pieces(&conn, data, size);
    else
        fake_conn_arrive(&conn, data, size);
    run_to_end(&conn);
    imv_assert(world.begun == world.finished);
    *outcome = (struct outcome){.output = conn.taken,
                                .digest = world.digest,
                                .rows = world.rows,
                                .replies = imv_metric_value(IMV_METRIC_http_requests_total) - replies,
                                .aborted = conn.aborted};
    conn.taken = (struct imv_buffer){0};
    fake_conn_release(&conn);
}

/* ---- what must hold ---- */

/* Skips one reply at the start of text; returns its status, 0 when it is not a whole one. */
static int skip_reply(struct imv_str *text) {
    const char *end = memmem(text->data, text->size, "\r\n\r\n", 4);
    imv_assert(end != NULL && text->size > 12 && memcmp(text->data, "HTTP/1.1 ", 9) == 0);
    int status = atoi(text->data + 9);
    size_t head = (size_t)(end - text->data) + 4, body = 0;
    const char *length = memmem(text->data, head, "Content-Length: ", 16);
    const char *chunked = memmem(text->data, head, "chunked", 7);
    *text = (struct imv_str){text->data + head, text->size - head};
    if (length != NULL) body = strtoul(length + 16, NULL, 10);
    bool of_head = text->size == 0 || (text->size > 9 && memcmp(text->data, "HTTP/1.1 ", 9) == 0);
    if (of_head && chunked == NULL) body = 0;
    if (length == NULL && chunked == NULL && status == 200) body = text->size; /* HTTP/1.0: up to the end */
    for (bool more = chunked != NULL; more;) {
        char *after;
        size_t size = strtoul(text->data, &after, 16);
        size_t whole = (size_t)(after - text->data) + 2 + size + 2;
        imv_assert(after != text->data && whole <= text->size);
        *text = (struct imv_str){text->data + whole, text->size - whole};
        more = size > 0;
    }
    imv_assert(body <= text->size);
    *text = (struct imv_str){text->data + body, text->size - body};
    return status;
}

static void check_replies(const struct outcome *outcome) {
    struct imv_str text = imv_buffer_view(&outcome->output);
    int64_t replies = 0;
    while (text.size > 0) replies += skip_reply(&text) != 100;
    imv_assert(replies == outcome->replies);
}

/* A header that is one too many and also malformed is refused for what is seen first, which the pieces decide. */
static bool may_have_too_many_headers(const uint8_t *data, size_t size) {
    size_t lines = 0;
    for (size_t i = 0; i < size; i++) lines += data[i] == '\n';
    return lines > 64;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct imv_budget remote_write;
    static struct imv_http_context context = {
        .clock = &manual.clock, .shards = 1, .remote_write = &remote_write, .query_timeout_ns = 1};
    if (http == NULL) {
        write_handler = imv_http_write_handler;
        write_handler.begin = counted_write_begin;
        write_handler.finish = counted_write_finish;
        remote_handler = imv_http_remote_write_handler;
        remote_handler.begin = counted_remote_begin;
        remote_handler.finish = counted_remote_finish;
        imv_budget_init(&remote_write, "remote_write", 64 << 20);
        query_handler = imv_http_query_handler;
        query_handler.begin = counted_query_begin;
        query_handler.finish = counted_query_finish;
        imv_manual_clock_init(&manual, INT64_C(1767225600000000000));
        fake_loop_init(&loop);
        imv_assert(imv_http_new(&(struct imv_http_options){routes, &manual.clock, &context}, &http, NULL) == IMV_OK);
    }
    struct outcome whole, pieces;
    run(data, size, false, &whole);
    run(data, size, true, &pieces);
    imv_assert(!whole.aborted && !pieces.aborted);
    imv_assert(imv_budget_used(&remote_write) == 0);
    check_replies(&whole);
    imv_assert(whole.replies == pieces.replies);
    imv_assert(whole.rows == pieces.rows && whole.digest == pieces.digest);
    if (!may_have_too_many_headers(data, size)) {
        imv_assert(whole.output.size == pieces.output.size);
        imv_assert(whole.output.size == 0 || memcmp(whole.output.data, pieces.output.data, whole.output.size) == 0);
    }
    imv_buffer_release(&whole.output);
    imv_buffer_release(&pieces.output);
    return 0;
}
