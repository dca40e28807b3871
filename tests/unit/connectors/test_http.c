/* HTTP sessions and the handler of writes on a fake loop: what arrives, in which pieces, and when the peer takes its
 * replies is up to each test. */
#include "connectors/http/http.h"

#include "connectors/http/context.h"
#include "connectors/http/remote_write.h"
#include "connectors/http/write.h"
#include "engine/exchange.h"
#include "engine/writer.h"
#include "storage/base/budget.h"
#include "storage/base/metrics.h"
#include "storage/base/utf8.h"
#include "storage/kv.h"
#include "tests/support/fake_loop.h"
#include "tests/support/kv_memory.h"
#include "tests/support/prometheus.h"

#include <criterion/criterion.h>
#include <snappy-c.h>
#include <stdio.h>
#include <zlib.h>

static struct imv_manual_clock clock_;
static struct imv_loop loop;
static struct imv_http *http;
static struct imv_conn conn;
static int begun, finished;
static struct imv_http_request *pending; /* of the handler that replies later */
static size_t body_bytes;
static char parameter[64];
static imv_status parameter_status;

/* ---- handlers ---- */

static void begin(struct imv_http_request *request) {
    begun++;
    parameter_status = imv_http_parameter(request, "p", parameter, sizeof parameter);
}
static bool take_body(struct imv_http_request *request, const char *bytes, size_t size) {
    (void)request, (void)bytes;
    body_bytes += size;
    return true;
}
static void finish(struct imv_http_request *request) {
    (void)request;
    finished++;
    pending = NULL;
}
static void reply_ok(struct imv_http_request *request) {
    struct imv_str host = imv_http_header(request, "x-text");
    imv_http_reply(request, 200, "text/plain", host.size == 0 ? IMV_STR("ok\n") : host);
}
static void reply_later(struct imv_http_request *request) { pending = request; }
static void reply_early(struct imv_http_request *request) {
    begin(request);
    imv_http_reply_error(request, 413, "invalid", "too large");
}
static bool block_body(struct imv_http_request *request, const char *bytes, size_t size) {
    take_body(request, bytes, size);
    pending = request;
    return false;
}
static void reply_large(struct imv_http_request *request) {
    static char text[300 * 1024];
    memset(text, 'x', sizeof text);
    imv_http_reply(request, 200, NULL, (struct imv_str){text, sizeof text});
}

enum { PIECES = 40, PIECE_BYTES = 64 * 1024 };
static int pieces_sent;

static void stream_on(struct imv_http_request *request) {
    static char text[PIECE_BYTES];
    for (;;) {
        if (pieces_sent == PIECES) {
            imv_http_stream_end(request);
            return;
        }
        memset(text, 'a' + pieces_sent % 26, sizeof text);
        imv_status status = imv_http_stream_send(request, (struct imv_str){text, sizeof text});
        if (status == IMV_FULL) return;
        cr_assert_eq(status, IMV_OK);
        pieces_sent++;
    }
}
static void stream(struct imv_http_request *request) {
    pieces_sent = 0;
    imv_http_stream_begin(request, 200, "text/plain");
    stream_on(request);
}

#define HANDLER(...) \
    &(const struct imv_http_handler) { .finish = finish, ##__VA_ARGS__ }

static const struct imv_http_route routes[] = {
    {"GET", "/ok", HANDLER(.begin = begin, .body = take_body, .end = reply_ok)},
    {"POST", "/ok", HANDLER(.begin = begin, .body = take_body, .end = reply_ok)},
    {"HEAD", "/ok", HANDLER(.begin = begin, .body = take_body, .end = reply_ok)},
    {"POST", "/later", HANDLER(.begin = begin, .body = take_body, .end = reply_later)},
    {"GET", "/later", HANDLER(.begin = begin, .body = take_body, .end = reply_later)},
    {"POST", "/early", HANDLER(.begin = reply_early, .body = take_body, .end = reply_ok)},
    {"POST", "/block", HANDLER(.begin = begin, .body = block_body, .end = reply_later)},
    {"GET", "/large", HANDLER(.begin = begin, .body = take_body, .end = reply_large)},
    {"GET", "/stream", HANDLER(.begin = begin, .body = take_body, .end = stream, .drained = stream_on)},
    {"POST", "/write", &imv_http_write_handler},
    {"POST", "/api/v1/write", &imv_http_remote_write_handler},
    {NULL, NULL, NULL},
};

/* ---- a connection ---- */

static struct imv_http_context context;

static void start(void) {
    imv_manual_clock_init(&clock_, INT64_C(1767225600000000000));
    fake_loop_init(&loop);
    context = (struct imv_http_context){.clock = &clock_.clock, .shards = 1};
    cr_assert_eq(imv_http_new(&(struct imv_http_options){routes, &clock_.clock, &context}, &http, NULL), IMV_OK);
    cr_assert_eq(fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http), IMV_OK);
}

static void stop(void) {
    fake_conn_lose(&conn);
    cr_assert_eq(begun, finished, "%d requests began, %d finished", begun, finished);
    fake_conn_release(&conn);
    imv_http_free(http);
}

TestSuite(http, .init = start, .fini = stop);

static void arrive_bytes(const void *bytes, size_t size) {
    fake_conn_arrive(&conn, bytes, size);
    fake_conn_settle(&conn);
}

static void arrive(const char *text) { arrive_bytes(text, strlen(text)); }

/* What the peer got since the last call. */
static const char *answer(void) {
    static char text[1 << 16];
    do { fake_conn_take(&conn, SIZE_MAX), fake_conn_settle(&conn); } while (imv_conn_unsent(&conn) > 0);
    cr_assert_lt(conn.taken.size, sizeof text);
    memcpy(text, conn.taken.data == NULL ? "" : conn.taken.data, conn.taken.size);
    text[conn.taken.size] = 0;
    imv_buffer_reset(&conn.taken);
    return text;
}

static bool starts_with(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

static int count_of(const char *text, const char *part) {
    int count = 0;
    while ((text = strstr(text, part)) != NULL) count++, text += strlen(part);
    return count;
}

#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"

/* ---- sessions ---- */

/* Pipelined requests are answered in order, one at a time, however they are cut. */
Test(http, pipelined_requests_are_answered_in_order) {
    const char *text =
        "GET /ok HTTP/1.1\r\nX-Text: one\r\n\r\nPOST /ok HTTP/1.1\r\nContent-Length: 4\r\nX-Text: two\r\n\r\n"
        "bodyGET /none HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\nx-TEXT: four\r\n\r\n";
    arrive(text);
    char whole[4096];
    snprintf(whole, sizeof whole, "%s", answer());
    cr_assert_eq(count_of(whole, "HTTP/1.1 "), 4, "%s", whole);
    const char *one = strstr(whole, "one"), *two = strstr(whole, "two"), *four = strstr(whole, "four");
    const char *missing = strstr(whole, "HTTP/1.1 404");
    cr_assert(one != NULL && one < two && two < missing && missing < four, "%s", whole);
    for (const char *at = text; *at != 0; at++) arrive_bytes(at, 1);
    cr_assert_str_eq(answer(), whole);
}

/* The next request waits for a reply that comes later. */
Test(http, a_later_reply_holds_the_next_request) {
    arrive("GET /later HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\n\r\n");
    cr_assert_eq(begun, 1);
    cr_assert_str_eq(answer(), "");
    imv_http_reply(pending, 204, NULL, (struct imv_str){0});
    cr_assert_eq(finished, 1);
    fake_conn_settle(&conn);
    cr_assert_str_eq(answer(), "HTTP/1.1 204 No Content\r\n\r\n" OK_REPLY);
}

/* A reply before the body's end is one reply; the body is dropped and the connection goes on. */
Test(http, an_early_reply_drops_the_rest_of_the_body) {
    arrive("POST /early HTTP/1.1\r\nContent-Length: 10\r\n\r\n123");
    cr_assert(starts_with(answer(), "HTTP/1.1 413"));
    arrive("4567890GET /ok HTTP/1.1\r\n\r\n");
    cr_assert_str_eq(answer(), OK_REPLY);
    cr_assert_eq(body_bytes, 0);
}

/* What follows an early reply cannot lose it: a broken body closes the connection behind the reply. */
Test(http, an_early_reply_survives_a_broken_body) {
    arrive("POST /early HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n");
    const char *text = answer();
    cr_assert(starts_with(text, "HTTP/1.1 413") && count_of(text, "HTTP/1.1 ") == 1, "%s", text);
    cr_assert_eq(conn.phase, FAKE_CLOSED);
}

/* A handler that takes no more stops the input until it resumes, and may reply meanwhile. */
Test(http, a_blocked_body_waits) {
    arrive("POST /block HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc");
    cr_assert_eq(body_bytes, 3);
    arrive("def");
    cr_assert_eq(body_bytes, 3);
    imv_http_resume(pending);
    fake_conn_settle(&conn);
    cr_assert_eq(body_bytes, 6);
    imv_http_reply_error(pending, 503, "unavailable", "full");
    fake_conn_settle(&conn);
    arrive("GET /ok HTTP/1.1\r\n\r\n");
    const char *text = answer();
    cr_assert(starts_with(text, "HTTP/1.1 503") && strstr(text, OK_REPLY) != NULL, "%s", text);
}

/* HTTP/1.0 closes after the reply unless it asks to be kept; HTTP/1.1 is kept unless it asks for a close. */
Test(http, connections_are_kept_by_the_rules_of_their_version) {
    static const struct {
        const char *request;
        bool kept;
    } cases[] = {{"GET /ok HTTP/1.0\r\n\r\n", false},
                 {"GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true},
                 {"GET /ok HTTP/1.1\r\n\r\n", true},
                 {"GET /ok HTTP/1.1\r\nConnection: close\r\n\r\n", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        arrive(cases[i].request);
        arrive("GET /ok HTTP/1.1\r\n\r\n");
        const char *text = answer();
        cr_expect_eq(count_of(text, "200 OK"), cases[i].kept ? 2 : 1, "%s: %s", cases[i].request, text);
        cr_expect_eq(strstr(text, "Connection: close") == NULL, cases[i].kept);
        cr_expect_eq(conn.phase, cases[i].kept ? FAKE_OPEN : FAKE_CLOSED);
        fake_conn_lose(&conn);
        fake_conn_release(&conn);
        cr_assert_eq(fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http), IMV_OK);
    }
}

/* HEAD tells the size of the body and sends none, so that the next reply is found. */
Test(http, head_has_no_body) {
    arrive("HEAD /ok HTTP/1.1\r\n\r\nHEAD /none HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\n\r\n");
    const char *text = answer();
    cr_assert_eq(count_of(text, "ok\n"), 1, "%s", text);
    cr_assert_eq(count_of(text, "Content-Length: 3\r\n"), 2);
    cr_assert_null(strstr(text, "there is nothing"));
}

/* Parameters are percent-decoded; malformed ones and those too long are told from absent ones. */
Test(http, parameters_are_decoded) {
    static const struct {
        const char *query;
        imv_status status;
        const char *value;
    } cases[] = {{"p=a%20b+c%2f%2B", IMV_OK, "a b c/+"},
                 {"x=1&p=&y=2", IMV_OK, ""},
                 {"pp=1&xp=2", IMV_NOT_FOUND, NULL},
                 {"", IMV_NOT_FOUND, NULL},
                 {"p", IMV_NOT_FOUND, NULL},
                 {"p=%4", IMV_INVALID, NULL},
                 {"p=%", IMV_INVALID, NULL},
                 {"p=%zz", IMV_INVALID, NULL},
                 {"p=a%00b", IMV_INVALID, NULL},
                 {"p=%41", IMV_OK, "A"},
                 {"p=123456789012345678901234567890123456789012345678901234567890123", IMV_OK, NULL},
                 {"p=1234567890123456789012345678901234567890123456789012345678901234", IMV_INVALID, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char request[256];
        snprintf(request, sizeof request, "GET /ok?%s HTTP/1.1\r\n\r\n", cases[i].query);
        arrive(request);
        cr_expect_eq(parameter_status, cases[i].status, "%s", cases[i].query);
        if (cases[i].value != NULL) cr_expect_str_eq(parameter, cases[i].value);
    }
}

/* A head that is not complete in time is answered 408 and the connection is closed; one that is complete is not. */
Test(http, a_late_head_is_cut) {
    arrive("GET /ok HTTP/1.1\r\nX: ");
    imv_manual_clock_advance(&clock_, IMV_HTTP_HEAD_NS - 1);
    imv_http_turn(http);
    cr_assert_str_eq(answer(), "");
    imv_manual_clock_advance(&clock_, 2 * INT64_C(1000000000));
    imv_http_turn(http);
    const char *text = answer();
    cr_assert(starts_with(text, "HTTP/1.1 408"), "%s", text);
    cr_assert_eq(conn.phase, FAKE_CLOSED);
    fake_conn_release(&conn);
    fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http);
    arrive("GET /later HTTP/1.1\r\n\r\nGET /o");
    imv_manual_clock_advance(&clock_, 2 * IMV_HTTP_HEAD_NS);
    imv_http_turn(http);
    cr_assert_str_eq(answer(), "");
    imv_http_reply(pending, 204, NULL, (struct imv_str){0});
    fake_conn_settle(&conn);
    arrive("k HTTP/1.1\r\n\r\n");
    imv_http_turn(http);
    cr_assert_str_eq(answer(), "HTTP/1.1 204 No Content\r\n\r\n" OK_REPLY);
}

/* A refused head is refused once: its deadline does not answer it again while the peer does not read. */
Test(http, a_bad_head_is_answered_once) {
    arrive("GET /ok HTTP/1.1\r\nbad header\r\n\r\n");
    imv_manual_clock_advance(&clock_, 2 * IMV_HTTP_HEAD_NS);
    imv_http_turn(http);
    const char *text = answer();
    cr_assert(starts_with(text, "HTTP/1.1 400") && count_of(text, "HTTP/1.1 ") == 1, "%s", text);
}

/* A head that is too large, in bytes or in headers, is answered 431. */
Test(http, a_large_head_is_refused) {
    static char text[IMV_HTTP_HEAD_BYTES_MAX + 1024];
    size_t used = (size_t)sprintf(text, "GET /ok HTTP/1.1\r\nX: ");
    memset(text + used, 'x', IMV_HTTP_HEAD_BYTES_MAX);
    arrive(text);
    cr_assert(starts_with(answer(), "HTTP/1.1 431"));
    fake_conn_release(&conn);
    fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http);
    used = (size_t)sprintf(text, "GET /ok HTTP/1.1\r\n");
    for (int i = 0; i < 65; i++) used += (size_t)sprintf(text + used, "A%d: b\r\n", i);
    arrive(text);
    cr_assert(starts_with(answer(), "HTTP/1.1 431"));
}

/* A malformed header is not called too large because it is the last that there is room for. */
Test(http, the_last_header_may_be_malformed) {
    char text[1024] = "GET /ok HTTP/1.1\r\n";
    for (int i = 0; i < 63; i++) strcat(text, "A: b\r\n");
    strcat(text, "bad header\r\n");
    arrive(text);
    cr_assert(starts_with(answer(), "HTTP/1.1 400"));
}

/* An offered upgrade is not taken up: the request is answered as any other, whole or in pieces, body included. */
Test(http, an_offered_upgrade_is_ignored) {
    const char *text = "POST /ok HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nbody"
                       "GET /ok HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /ok HTTP/1.1\r\n\r\n";
    arrive(text);
    cr_assert_str_eq(answer(), OK_REPLY OK_REPLY OK_REPLY);
    for (const char *at = text; *at != 0; at++) arrive_bytes(at, 1);
    cr_assert_str_eq(answer(), OK_REPLY OK_REPLY OK_REPLY);
    cr_assert_eq(body_bytes, 8);
}

/* Trailers are no headers, and many of them do no harm. */
Test(http, trailers_are_dropped) {
    arrive("POST /ok HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Text: forged\r\n");
    for (int i = 0; i < 100; i++) arrive("A: b\r\n");
    arrive("\r\n");
    cr_assert_str_eq(answer(), OK_REPLY);
}

/* 100 is sent before a body that waits for it, but not to HTTP/1.0, and not when the reply is out already. */
Test(http, continue_is_sent_when_it_may) {
    arrive("POST /ok HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    cr_assert_str_eq(answer(), "HTTP/1.1 100 Continue\r\n\r\n");
    arrive("x");
    cr_assert_str_eq(answer(), OK_REPLY);
    arrive("POST /early HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx");
    cr_assert_null(strstr(answer(), "100 Continue"));
    arrive("POST /ok HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    cr_assert_str_eq(answer(), "");
}

/* Many requests at once whose replies pass the output queue are all answered when the peer reads. */
Test(http, pipelined_requests_wait_for_room_in_the_output) {
    for (int i = 0; i < 10; i++) fake_conn_arrive(&conn, "GET /large HTTP/1.1\r\n\r\n", 23);
    fake_conn_settle(&conn);
    cr_assert_lt(begun, 10);
    size_t got = 0;
    for (int i = 0; i < 100000 && finished < 10; i++) {
        fake_conn_take(&conn, 10000);
        fake_conn_settle(&conn);
        cr_assert_leq(imv_conn_unsent(&conn), IMV_CONN_OUTPUT_BYTES_MAX);
    }
    fake_conn_take(&conn, SIZE_MAX);
    got = conn.taken.size;
    cr_assert_eq(finished, 10);
    cr_assert_not(conn.aborted);
    cr_assert_gt(got, (size_t)10 * 300 * 1024);
}

/* A streamed reply passes a full output queue in whole chunks, complete and in order. */
Test(http, a_stream_goes_on_when_the_output_drains) {
    arrive("GET /stream HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\n\r\n");
    cr_assert_lt(pieces_sent, PIECES);
    for (int i = 0; i < 100000 && finished < 2; i++) {
        fake_conn_take(&conn, 100000);
        fake_conn_settle(&conn);
    }
    fake_conn_take(&conn, SIZE_MAX);
    cr_assert_eq(pieces_sent, PIECES);
    const char *at = memmem(conn.taken.data, conn.taken.size, "\r\n\r\n", 4);
    cr_assert_not_null(at);
    at += 4;
    for (int i = 0; i < PIECES; i++) {
        char *after;
        cr_assert_eq(strtoul(at, &after, 16), PIECE_BYTES);
        cr_assert_eq(after[2], 'a' + i % 26);
        at = after + 2 + PIECE_BYTES + 2;
    }
    cr_assert(starts_with(at, "0\r\n\r\nHTTP/1.1 200 OK"));
}

/* HTTP/1.0 gets a stream plain, ended by the close. */
Test(http, a_stream_to_an_old_client_ends_with_the_connection) {
    arrive("GET /stream HTTP/1.0\r\n\r\n");
    for (int i = 0; i < 100000 && conn.phase != FAKE_CLOSED; i++) {
        fake_conn_take(&conn, 100000);
        fake_conn_settle(&conn);
    }
    cr_assert_null(memmem(conn.taken.data, conn.taken.size, "chunked", 7));
    cr_assert_gt(conn.taken.size, (size_t)PIECES * PIECE_BYTES);
    cr_assert_lt(conn.taken.size, (size_t)PIECES * PIECE_BYTES + 200);
}

/* A connection lost in any state finishes the request that is under way exactly once. */
Test(http, a_lost_connection_finishes_once) {
    static const char *const requests[] = {
        "",
        "GET /o",
        "POST /ok HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
        "GET /later HTTP/1.1\r\n\r\n",
        "POST /block HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
        "POST /early HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
        "GET /stream HTTP/1.1\r\n\r\n",
        "GET /large HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\n\r\n",
        "GET /ok HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\nbroken\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        for (int ended = 0; ended < 2; ended++) {
            arrive(requests[i]);
            conn.peer_ended = ended == 1;
            fake_conn_settle(&conn);
            fake_conn_lose(&conn);
            cr_assert_eq(begun, finished, "%s", requests[i]);
            imv_http_turn(http);
            fake_conn_release(&conn);
            fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http);
        }
    }
}

/* A client that half-closes after its request gets the reply, then the close. */
Test(http, a_half_close_waits_for_the_reply) {
    arrive("GET /later HTTP/1.1\r\n\r\n");
    conn.peer_ended = true;
    fake_conn_settle(&conn);
    cr_assert_eq(conn.phase, FAKE_OPEN);
    imv_http_reply(pending, 204, NULL, (struct imv_str){0});
    fake_conn_settle(&conn);
    cr_assert_str_eq(answer(), "HTTP/1.1 204 No Content\r\n\r\n");
    cr_assert_eq(conn.phase, FAKE_CLOSED);
}

/* ---- writes ---- */

static struct {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    struct imv_exchange exchange;
    struct imv_budget budget, remote_write;
    uint64_t rows;
    int64_t times;
} store;

static void start_write(void) {
    start();
    cr_assert_eq(imv_kv_memory_new(1, &store.disk, NULL), IMV_OK);
    cr_assert_eq(imv_kv_memory_open(store.disk, &store.kv, NULL), IMV_OK);
    cr_assert_eq(imv_catalog_open(store.kv, 1, &store.catalog, NULL), IMV_OK);
    cr_assert_eq(imv_exchange_init(&store.exchange, 1, NULL, NULL, NULL), IMV_OK);
    imv_budget_init(&store.budget, "batches", 256 * 1024);
    imv_budget_init(&store.remote_write, "remote_write", 8 << 20);
    context.remote_write = &store.remote_write;
    cr_assert_eq(imv_writer_new_for(store.catalog, &store.exchange, &store.budget, 0,
                                    (struct imv_writer **)&context.writer, NULL),
                 IMV_OK);
}

static void stop_write(void) {
    stop();
    imv_writer_free(context.writer);
    imv_exchange_release(&store.exchange);
    imv_budget_release(&store.budget);
    imv_budget_release(&store.remote_write); /* asserts that every request gave back what it took */
    imv_catalog_close(store.catalog);
    imv_kv_close(store.kv);
    imv_kv_memory_free(store.disk);
}

TestSuite(http_write, .init = start_write, .fini = stop_write, .timeout = 60);

/* A turn of the shard: takes the rows and makes them durable. */
static void turn(void) {
    imv_writer_send(context.writer);
    struct imv_exchange_cell *cell = imv_exchange_cell(&store.exchange, 0, 0);
    for (struct imv_batch *batch; (batch = imv_spsc_pop(&cell->queue)) != NULL; imv_batch_free(batch)) {
        for (const struct imv_row *row = NULL; (row = imv_batch_next_row(batch, row)) != NULL;) {
            store.rows++;
            store.times += row->timestamp;
        }
        atomic_fetch_add(&cell->applied, 1);
    }
    imv_http_turn(http);
    fake_conn_settle(&conn);
}

static const char *answer_of_write(void) {
    for (int i = 0; i < 100000 && imv_conn_unsent(&conn) == 0; i++) turn();
    return answer();
}

static size_t pack(const char *text, size_t size, unsigned char *packed, size_t packed_size) {
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)text,
                       .avail_in = (unsigned)size,
                       .next_out = packed,
                       .avail_out = (unsigned)packed_size};
    deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return stream.total_out;
}

static void arrive_packed(const unsigned char *packed, size_t size) {
    char head[128];
    snprintf(head, sizeof head, "POST /write HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n", size);
    arrive(head);
    arrive_bytes(packed, size);
}

/* A body larger than all that the writer holds is taken as the shard makes room, every row once, packed or not. */
Test(http_write, a_large_body_is_taken_piece_by_piece) {
    enum { ROWS = 60000 };
    static char text[ROWS * 40];
    static unsigned char packed[sizeof text];
    size_t size = 0;
    int64_t times = 0;
    for (int i = 0; i < ROWS; i++, times += i)
        size += (size_t)sprintf(text + size, "m,t=%d v=%d %d\n", i % 7, i, i + 1);
    size_t packed_size = pack(text, size, packed, sizeof packed);
    arrive_packed(packed, packed_size);
    cr_assert_str_eq(answer_of_write(), "HTTP/1.1 204 No Content\r\n\r\n");
    cr_assert_eq(store.rows, ROWS);
    cr_assert_eq(store.times, times);
    char head[128];
    snprintf(head, sizeof head, "POST /write HTTP/1.1\r\nContent-Length: %zu\r\n\r\n", size);
    arrive(head);
    for (size_t at = 0; at < size; at += 100000) {
        arrive_bytes(text + at, size - at < 100000 ? size - at : 100000);
        if (at % 300000 == 0) turn();
    }
    cr_assert_str_eq(answer_of_write(), "HTTP/1.1 204 No Content\r\n\r\n");
    cr_assert_eq(store.rows, 2 * ROWS);
    cr_assert_eq(store.times, 2 * times);
}

/* Of packed text that ends early or breaks the whole lines are kept, and the line it broke off in is not: cut short it
 * would be another value. */
Test(http_write, the_line_in_which_packed_text_breaks_off_is_dropped) {
    static const char text[] = "m v=1 1\nm v=2 2\nm v=345 3\n";
    unsigned char packed[256];
    for (size_t whole = pack(text, sizeof text - 1, packed, sizeof packed), size = whole - 1; size > 0; size--) {
        store.rows = 0;
        arrive_packed(packed, size);
        const char *reply = answer_of_write();
        cr_assert(starts_with(reply, "HTTP/1.1 400") && strstr(reply, "gzip") != NULL, "%s", reply);
        cr_assert_leq(store.rows, 3);
    }
    unsigned char open[256];
    z_stream stream = {.next_in = (unsigned char *)(uintptr_t)text, .avail_in = 20, .next_out = open, .avail_out = 256};
    deflateInit2(&stream, 0, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    deflate(&stream, Z_SYNC_FLUSH); /* up to "m v=" of the third line and one digit of its value */
    store.rows = 0;
    arrive_packed(open, stream.total_out);
    cr_assert(starts_with(answer_of_write(), "HTTP/1.1 400"));
    cr_assert_eq(store.rows, 2);
    deflateEnd(&stream);
}

/* Packed text without rows is inflated a share at a time, so that a small body cannot stop the loop. */
Test(http_write, dense_packed_text_is_inflated_over_many_turns) {
    enum { SIZE = 32 << 20 };
    char *text = malloc(SIZE);
    unsigned char *packed = malloc(1 << 20);
    for (size_t i = 0; i < SIZE; i++) text[i] = i % 64 == 63 ? '\n' : '#';
    size_t size = pack(text, SIZE, packed, 1 << 20);
    arrive_packed(packed, size);
    int turns = 0;
    for (; imv_conn_unsent(&conn) == 0 && turns < 1000; turns++) turn();
    cr_assert_geq(turns, 30);
    cr_assert_str_eq(answer(), "HTTP/1.1 204 No Content\r\n\r\n");
    free(text);
    free(packed);
}

/* Lines that are refused take longer than those that are stored, so a turn takes a smaller share of them. */
Test(http_write, dense_bad_lines_are_refused_over_more_turns) {
    enum { SIZE = 8 << 20 };
    char *text = malloc(SIZE);
    unsigned char *packed = malloc(1 << 20);
    for (size_t i = 0; i < SIZE; i++) text[i] = i % 2 == 1 ? '\n' : 'a';
    size_t size = pack(text, SIZE, packed, 1 << 20);
    arrive_packed(packed, size);
    int turns = 0;
    for (; imv_conn_unsent(&conn) == 0 && turns < 1000; turns++) turn();
    cr_assert_geq(turns, 100);
    cr_assert_not_null(strstr(answer(), "4194304 of 4194304 lines were refused"));
    free(text);
    free(packed);
}

/* A precision that is not one is refused, however long or malformed, and never taken for the default. */
Test(http_write, a_wrong_precision_is_refused) {
    static const char *const values[] = {"years", "milliseconds-since-1970", "m%73%", "ns%00", "NS", ""};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char request[128];
        snprintf(request, sizeof request, "POST /write?precision=%s HTTP/1.1\r\nContent-Length: 7\r\n\r\nm v=1 1",
                 values[i]);
        arrive(request);
        const char *reply = answer_of_write();
        cr_assert(starts_with(reply, "HTTP/1.1 400") && strstr(reply, "precision") != NULL, "%s: %s", values[i], reply);
    }
    cr_assert_eq(store.rows, 0);
}

/* What a refused line holds is no reason for an answer that is not JSON: bytes that are no UTF-8 are replaced. */
Test(http_write, a_refusal_is_valid_utf8) {
    arrive("POST /write HTTP/1.1\r\nContent-Length: 11\r\n\r\nm f=\xff\x01\"\\\xc3 1");
    const char *reply = answer_of_write();
    cr_assert(starts_with(reply, "HTTP/1.1 400"), "%s", reply);
    cr_assert(imv_utf8_valid(imv_str_from(reply)), "%s", reply);
    cr_assert_not_null(strstr(reply, "\xef\xbf\xbd"), "%s", reply);
}

/* ---- remote write ---- */

static void arrive_remote(const char *headers, const void *body, size_t size) {
    char head[512];
    snprintf(head, sizeof head, "POST /api/v1/write HTTP/1.1\r\n%sContent-Length: %zu\r\n\r\n", headers, size);
    arrive(head);
    for (size_t at = 0; at < size; at += 40000)
        arrive_bytes((const char *)body + at, size - at < 40000 ? size - at : 40000);
}

/* Sends a request packed, empties it, and returns the answer. */
static const char *write_remote(struct imv_buffer *message) {
    size_t size = snappy_max_compressed_length(message->size);
    char *packed = malloc(size);
    cr_assert_eq(snappy_compress(message->size == 0 ? "" : message->data, message->size, packed, &size), SNAPPY_OK);
    arrive_remote("Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n", packed, size);
    free(packed);
    imv_buffer_reset(message);
    return answer_of_write();
}

/* A request of any size the limits allow is taken as the writer has room, and answered when all of it is durable. */
Test(http_write, remote_write_is_answered_when_it_is_durable) {
    struct imv_buffer message;
    imv_buffer_init(&message, 8 << 20);
    prometheus_series(&message, "up", "job", "a", 1, 1);
    size_t size = 1024;
    char packed[1024];
    snappy_compress(message.data, message.size, packed, &size);
    arrive_remote("", packed, size);
    for (int i = 0; i < 3; i++) imv_http_turn(http), fake_conn_settle(&conn);
    cr_assert_str_eq(answer(), "", "nothing is durable yet");
    cr_assert_str_eq(answer_of_write(), "HTTP/1.1 204 No Content\r\n\r\n");
    cr_assert_eq(store.rows, 1);
    imv_buffer_reset(&message);
    for (int i = 0; i < 60000; i++) prometheus_series(&message, "up", "job", i % 2 == 0 ? "a" : "b", i, i);
    cr_assert_str_eq(write_remote(&message), "HTTP/1.1 204 No Content\r\n\r\n");
    cr_assert_eq(store.rows, 60001);
    cr_assert_str_eq(write_remote(&message), "HTTP/1.1 204 No Content\r\n\r\n", "an empty request is a good one");
    cr_assert_eq(imv_budget_used(&store.remote_write), 0);
    imv_buffer_release(&message);
}

/* Refused series are named, the first ten of them, and the good ones are stored. */
Test(http_write, remote_write_names_what_it_refuses) {
    struct imv_buffer message;
    imv_buffer_init(&message, 1 << 20);
    for (int i = 0; i < 12; i++) prometheus_series(&message, "", "job", "a", i, i);
    prometheus_series(&message, "up", "job", "a", 1, 1);
    const char *reply = write_remote(&message);
    cr_assert(starts_with(reply, "HTTP/1.1 400"), "%s", reply);
    cr_assert_not_null(strstr(reply, "partial write: 12 of 13 samples were refused, 1 are stored: {job="), "%s", reply);
    cr_assert_eq(count_of(reply, "there is no label __name__"), 2 * 10); /* the message stands twice in the body */
    cr_assert_not_null(strstr(reply, "; ...\""));
    cr_assert_eq(store.rows, 1);
    imv_buffer_release(&message);
}

/* What is not remote write 1.0 is answered 415 and says what is; absent headers are taken for it. */
Test(http_write, remote_write_speaks_one_version) {
    static const struct {
        const char *headers;
        bool taken;
    } cases[] = {
        {"", true},
        {"Content-Type: application/x-protobuf\r\n", true},
        {"content-type: Application/X-Protobuf ; charset=x; proto = prometheus.WriteRequest\r\n", true},
        {"Content-Encoding: SNAPPY\r\n", true},
        {"Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\n", false},
        {"Content-Type: application/json\r\n", false},
        {"Content-Encoding: gzip\r\n", false},
        {"Content-Encoding: identity\r\n", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        arrive_remote(cases[i].headers, "", 1);
        const char *reply = answer_of_write();
        cr_expect(starts_with(reply, cases[i].taken ? "HTTP/1.1 204" : "HTTP/1.1 415"), "%s: %s", cases[i].headers,
                  reply);
    }
}

/* A body is refused by the length that it declares, before memory is taken for it; one that is no snappy, or whose
 * length it cannot reach, is a bad request. */
Test(http_write, remote_write_refuses_bombs_and_garbage) {
    static const struct {
        const char *body;
        size_t size;
        const char *status;
    } cases[] = {
        {"\x81\x80\x80\x10", 4, "413"},                          /* 32 MiB and a byte */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, "413"}, /* 2^64 - 1 */
        {"\x80\x80\x80\x10\x00", 5, "400"},                      /* 32 MiB from five bytes */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11, "400"},
        {"\x80", 1, "400"},
        {"", 0, "400"},
        {"\x05garbage", 8, "400"},
        {"\x03\x08"
         "abc",
         5, "400"}, /* good snappy, no protobuf */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        arrive_remote("", cases[i].body, cases[i].size);
        const char *reply = answer_of_write();
        cr_expect(strncmp(reply + 9, cases[i].status, 3) == 0, "%zu: %s", i, reply);
        cr_expect_eq(imv_budget_used(&store.remote_write), 0);
    }
    cr_expect_lt(store.remote_write.bytes_peak, (size_t)1 << 20);
}

/* More than the largest body is refused while it arrives, and what all requests share is given back: 503 when it is
 * spent, taken again afterwards. */
Test(http_write, remote_write_is_bounded) {
    size_t size = IMV_REMOTE_WRITE_PACKED_BYTES_MAX + 1;
    char *body = calloc(1, size);
    memcpy(body, "\x80\x80\x80\x01", 4); /* 2 MiB */
    arrive_remote("", body, size);
    cr_assert(starts_with(answer_of_write(), "HTTP/1.1 503"), "the budget of 8 MiB comes first");
    store.remote_write.bytes_max = 64 << 20;
    arrive_remote("", body, size);
    cr_assert(starts_with(answer_of_write(), "HTTP/1.1 413"));
    cr_assert_eq(imv_budget_used(&store.remote_write), 0);
    arrive_remote("", "", 1);
    cr_assert(starts_with(answer_of_write(), "HTTP/1.1 204"));
    free(body);
}

/* A connection that is lost in the middle of a body gives its memory back. */
Test(http_write, a_lost_remote_write_is_forgotten) {
    arrive("POST /api/v1/write HTTP/1.1\r\nContent-Length: 100000\r\n\r\n");
    char part[50000] = {0};
    arrive_bytes(part, sizeof part);
    cr_assert_gt(imv_budget_used(&store.remote_write), 0);
    fake_conn_lose(&conn);
    cr_assert_eq(imv_budget_used(&store.remote_write), 0);
}

/* While the disk is nearly full writes of every kind are answered 507 with the reason, also in the middle of a body,
 * and taken again afterwards. */
Test(http_write, a_full_disk_refuses_writes) {
    struct imv_error reason;
    imv_fail(&reason, IMV_FULL, "the disk is nearly full");
    arrive("POST /write HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nm v=1 1\n");
    turn();
    imv_exchange_refuse(&store.exchange, &reason);
    static char lines[1000000 - 8];
    for (size_t i = 0; i + 8 <= sizeof lines; i += 8) memcpy(lines + i, "m v=1 1\n", 8);
    for (size_t at = 0; at < sizeof lines; at += 50000)
        arrive_bytes(lines + at, sizeof lines - at < 50000 ? sizeof lines - at : 50000);
    const char *reply = answer_of_write();
    cr_assert(starts_with(reply, "HTTP/1.1 507"), "%s", reply);
    cr_assert_not_null(strstr(reply, "the disk is nearly full"), "%s", reply);
    arrive("POST /write HTTP/1.1\r\nContent-Length: 7\r\n\r\nm v=1 1");
    cr_assert(starts_with(answer_of_write(), "HTTP/1.1 507"));
    arrive_remote("", "", 1);
    cr_assert(starts_with(answer_of_write(), "HTTP/1.1 507"));
    imv_exchange_refuse(&store.exchange, NULL);
    arrive("POST /write HTTP/1.1\r\nContent-Length: 7\r\n\r\nm v=1 1");
    cr_assert(starts_with(answer_of_write(), "HTTP/1.1 204"));
    cr_assert_eq(imv_metric_value(IMV_METRIC_requests_refused_full_total), 3);
}
