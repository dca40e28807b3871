/* POST /query between a fake loop and real threads of the pool, with an engine that answers as each test wants: whose
 * turn it is to free what, and what a client sees of answers that end short. */
#include "connectors/http/query.h"

#include "connectors/http/context.h"
#include "connectors/query_pool.h"
#include "query/column.h"
#include "query/query.h"
#include "tests/support/fake_loop.h"
#include "tests/support/threaded.h"

#include <stdio.h>
#include <unistd.h>

/* Set before a query is sent. */
static int batches;          /* of 512 rows, 10 KiB of text each */
static imv_status outcome;   /* behind the last batch */
static int delay_us;         /* before each batch */
static _Atomic int run_ends; /* queries that have ended */
static _Atomic bool last_was_cancelled;

imv_status imv_query_run(struct imv_engine *engine, const struct imv_query_request *request,
                         struct imv_query_sink *sink, struct imv_query_error *error) {
    (void)engine;
    *error = (struct imv_query_error){.code = "Timeout", .detail = "OutOfTime", .message = "told to fail"};
    struct imv_str name = IMV_STR("n");
    uint64_t cells[512];
    for (size_t i = 0; i < 512; i++) cells[i] = UINT64_C(1000000000000000000) + i;
    struct imv_column column = {.kind = IMV_COLUMN_INTEGER, .cells = cells};
    bool going = sink->begin(sink, &name, 1);
    for (int i = 0; i < batches && going && !atomic_load(request->cancelled); i++) {
        if (delay_us > 0) usleep((useconds_t)delay_us);
        going = sink->rows(sink, &column, 1, 512);
    }
    bool cancelled = !going || atomic_load(request->cancelled);
    atomic_store(&last_was_cancelled, cancelled);
    imv_status status = cancelled ? IMV_CANCELLED : outcome;
    if (status == IMV_OK && !sink->end(sink, &(struct imv_query_statistics){.rows = 1})) status = IMV_CANCELLED;
    atomic_fetch_add(&run_ends, 1);
    return status;
}

static const struct imv_http_route routes[] = {{"POST", "/query", &imv_http_query_handler}, {NULL, NULL, NULL}};
static struct imv_loop loop;
static struct imv_http *http;
static struct imv_http_context context;
static struct imv_conn conn;

static void start(void) {
    batches = 1;
    outcome = IMV_OK;
    delay_us = 0;
    atomic_store(&run_ends, 0);
    fake_loop_init(&loop);
    context = (struct imv_http_context){.clock = imv_clock_system(),
                                        .shards = 1,
                                        .query_timeout_ns = INT64_C(60) * 1000000000,
                                        .query_memory_bytes_max = 1 << 20};
    cr_assert_eq(imv_query_pool_new(2, 16, &context.pool, NULL), IMV_OK);
    cr_assert_eq(imv_http_new(&(struct imv_http_options){routes, context.clock, &context}, &http, NULL), IMV_OK);
    cr_assert_eq(fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http), IMV_OK);
}

static void stop(void) {
    fake_conn_lose(&conn);
    imv_query_pool_free(context.pool);
    fake_loop_run(&loop);
    fake_conn_release(&conn);
    imv_http_free(http);
}

static void send_query(const char *headers) {
    char text[256];
    snprintf(text, sizeof text, "POST /query HTTP/1.1\r\n%sContent-Length: 1\r\n\r\nq", headers);
    fake_conn_arrive(&conn, text, strlen(text));
    fake_conn_settle(&conn);
}

static void step(bool take) {
    fake_loop_run(&loop);
    if (take) fake_conn_take(&conn, SIZE_MAX);
    fake_conn_settle(&conn);
    usleep(200);
}

/* Steps until the reply has this end, or the connection is closed. */
static bool ends_with(const char *end) {
    size_t size = strlen(end);
    for (int i = 0; i < 50000 && conn.phase != FAKE_CLOSED; i++) {
        step(true);
        if (conn.taken.size >= size && memcmp(conn.taken.data + conn.taken.size - size, end, size) == 0) return true;
    }
    return false;
}

static bool got(const char *text) {
    return conn.taken.size > 0 && memmem(conn.taken.data, conn.taken.size, text, strlen(text)) != NULL;
}

#define QUERY_TEST(name) Test(query, name, .init = start, .fini = stop, .timeout = 60)

/* A short answer goes out whole with its status, a long one in chunks to its end; the connection is used again. */
QUERY_TEST(answers_come_whole_or_in_chunks) {
    send_query("Accept: text/csv\r\n");
    cr_assert(ends_with("1000000000000000511\r\n"));
    cr_assert(got("Content-Length: ") && !got("chunked"));
    imv_buffer_reset(&conn.taken);
    batches = 300;
    send_query("Accept: text/csv\r\n");
    cr_assert(ends_with("\r\n0\r\n\r\n"));
    cr_assert(got("chunked"));
    cr_assert_gt(conn.taken.size, (size_t)300 * 512 * 21);
    cr_assert_eq(conn.phase, FAKE_OPEN);
}

/* A query that fails before its answer is large is answered with the error alone, in CSV too. */
QUERY_TEST(a_failure_replaces_a_short_answer) {
    outcome = IMV_TIMEOUT;
    batches = 5;
    send_query("Accept: text/csv\r\n");
    cr_assert(ends_with("}}"));
    cr_assert(got("HTTP/1.1 408") && got("application/json") && got("told to fail") && !got("1000000000000000000"));
}

/* A CSV answer that fails in its middle has no place for the error: the connection breaks, so that a part cannot be
 * taken for the whole. */
QUERY_TEST(a_long_csv_answer_that_fails_is_cut) {
    outcome = IMV_TIMEOUT;
    batches = 200;
    send_query("Accept: text/csv\r\n");
    cr_assert_not(ends_with("\r\n0\r\n\r\n"));
    cr_assert_eq(conn.phase, FAKE_CLOSED);
    cr_assert(got("200 OK"));
}

/* A JSON answer that fails in its middle tells the error inside and ends as it should. */
QUERY_TEST(a_long_json_answer_that_fails_tells_why) {
    outcome = IMV_TIMEOUT;
    batches = 200;
    send_query("");
    cr_assert(ends_with("\r\n0\r\n\r\n"));
    cr_assert(got("told to fail"));
}

/* A client that does not read stops the query; when its time is up the answer is cut and not ended. */
QUERY_TEST(a_client_that_does_not_read_runs_out_of_time) {
    context.query_timeout_ns = INT64_C(300) * 1000000;
    batches = 1000;
    send_query("");
    for (int i = 0; i < 20000 && atomic_load(&run_ends) == 0; i++) step(false);
    cr_assert_eq(atomic_load(&run_ends), 1);
    cr_assert(atomic_load(&last_was_cancelled));
    cr_assert_not(ends_with("\r\n0\r\n\r\n"));
    cr_assert_eq(conn.phase, FAKE_CLOSED);
}

/* A client that goes away at any moment cancels its query, and everything is freed, whoever is last. */
QUERY_TEST(a_client_that_goes_away_cancels_its_query) {
    batches = 400;
    for (int round = 0; round < 60; round++) {
        delay_us = round % 4 == 0 ? 50 : 0;
        send_query("Accept: application/x-ndjson\r\n");
        for (int i = 0; i < round % 7; i++) step(round % 3 == 0);
        usleep((useconds_t)(round * 37 % 900));
        fake_conn_lose(&conn);
        if (round % 2 == 0) fake_loop_run(&loop);
        fake_conn_release(&conn);
        for (int i = 0; i < 20000 && atomic_load(&run_ends) <= round; i++) usleep(200);
        cr_assert_eq(atomic_load(&run_ends), round + 1, "round %d", round);
        fake_conn_open(&conn, &loop, &imv_http_conn_handler, &http);
    }
}

/* Queries that find no place in the queue are refused and leave nothing behind. */
QUERY_TEST(a_full_queue_is_told) {
    enum { CLIENTS = 40 };
    static struct imv_conn clients[CLIENTS];
    delay_us = 200000;
    int refused = 0;
    for (int i = 0; i < CLIENTS; i++) {
        fake_conn_open(&clients[i], &loop, &imv_http_conn_handler, &http);
        fake_conn_arrive(&clients[i], "POST /query HTTP/1.1\r\nContent-Length: 1\r\n\r\nq", 44);
        fake_conn_settle(&clients[i]);
        fake_conn_take(&clients[i], SIZE_MAX);
        refused += clients[i].taken.size > 12 && memcmp(clients[i].taken.data + 9, "503", 3) == 0;
    }
    cr_assert_geq(refused, CLIENTS - 16 - 2);
    for (int i = 0; i < CLIENTS; i++) {
        fake_conn_lose(&clients[i]);
        fake_conn_release(&clients[i]);
    }
}

/* A body above its limit is answered 413 once, and the next request is heard. */
QUERY_TEST(a_large_body_is_refused) {
    enum { SIZE = (1 << 20) + 100000 };
    char *body = calloc(1, SIZE);
    char head[128];
    snprintf(head, sizeof head, "POST /query HTTP/1.1\r\nContent-Length: %d\r\n\r\n", SIZE);
    fake_conn_arrive(&conn, head, strlen(head));
    fake_conn_arrive(&conn, body, SIZE);
    free(body);
    fake_conn_settle(&conn);
    fake_conn_take(&conn, SIZE_MAX);
    cr_assert(got("HTTP/1.1 413"));
    imv_buffer_reset(&conn.taken);
    send_query("Accept: text/csv\r\n");
    cr_assert(ends_with("1000000000000000511\r\n"));
}
