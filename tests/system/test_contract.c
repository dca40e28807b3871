/* The outside faces of a server, byte by byte: writes, queries, errors, start-up failures. */
#include "connectors/cli/ask.h"
#include "storage/base/buffer.h"
#include "tests/support/program.h"
#include "tests/support/prometheus.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <snappy-c.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

static struct test_server server;
static const char *program;

static void start(void) {
    program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    server = (struct test_server){0};
    test_directory(server.directory, sizeof server.directory, "contract");
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
}

static void stop(void) {
    if (server.pid == 0) return;
    cr_expect_eq(test_server_stop(&server, SIGTERM), 0);
    test_directory_remove(server.directory);
    unlink(server.log);
}

TestSuite(contract, .init = start, .fini = stop, .timeout = 120);

/* ---- raw HTTP ---- */

static void send_text(int fd, const char *format, ...) {
    char text[8192];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    cr_assert_eq(send(fd, text, (size_t)size, MSG_NOSIGNAL), size);
}

static void send_bytes(int fd, const void *bytes, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t part = send(fd, (const char *)bytes + sent, size - sent, MSG_NOSIGNAL);
        cr_assert_gt(part, 0);
        sent += (size_t)part;
    }
}

/* Reads one response with Content-Length, 204 or 100; returns its status and its body (NUL-terminated). */
static int read_response(int fd, char *body, size_t size) {
    char head[8192];
    size_t used = 0;
    while (used < sizeof head - 1) {
        ssize_t got = recv(fd, head + used, 1, 0);
        if (got <= 0) return -1;
        head[++used] = 0;
        if (used >= 4 && memcmp(head + used - 4, "\r\n\r\n", 4) == 0) break;
    }
    const char *length = strcasestr(head, "\r\ncontent-length:");
    size_t wanted = length == NULL ? 0 : strtoul(length + 17, NULL, 10), have = 0;
    while (have < wanted && have < size - 1) {
        ssize_t got = recv(fd, body + have, wanted - have < size - 1 - have ? wanted - have : size - 1 - have, 0);
        if (got <= 0) return -1;
        have += (size_t)got;
    }
    body[have] = 0;
    return atoi(head + 9);
}

static int post(const char *path, const char *headers, const char *body, char *answer, size_t size) {
    int fd = test_connect(server.http_port);
    cr_assert_geq(fd, 0);
    send_text(fd, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: %zu\r\n\r\n", path, headers, strlen(body));
    send_bytes(fd, body, strlen(body));
    int status = read_response(fd, answer, size);
    close(fd);
    return status;
}

/* The first cell of the first row of a query, as compact JSON. */
static char *cell(const char *text) {
    static char result[65536];
    char answer[65536];
    snprintf(result, sizeof result, "status %d", post("/query", "", text, answer, sizeof answer));
    json_t *root = json_loads(answer, 0, NULL);
    const json_t *value = json_array_get(json_array_get(json_object_get(root, "rows"), 0), 0);
    char *dump = value == NULL ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    if (dump != NULL)
        snprintf(result, sizeof result, "%s", dump);
    else
        snprintf(result + strlen(result), sizeof result - strlen(result), ": %.500s", answer);
    free(dump);
    json_decref(root);
    return result;
}

/* ---- writes ---- */

Test(contract, a_write_is_visible_when_it_is_answered_in_every_precision) {
    char answer[4096];
    static const struct {
        const char *path, *time, *expected;
    } cases[] = {
        {"/write", "1767225600000000001", "\"2026-01-01T00:00:00.000000001Z\""},
        {"/write?precision=n", "1767225600000000002", "\"2026-01-01T00:00:00.000000002Z\""},
        {"/write?db=plant&precision=u", "1767225600000003", "\"2026-01-01T00:00:00.000003000Z\""},
        {"/write?precision=ms", "1767225600004", "\"2026-01-01T00:00:00.004000000Z\""},
        {"/write?precision=s", "1767225605", "\"2026-01-01T00:00:05.000000000Z\""},
        {"/api/v2/write?bucket=b&org=o&precision=us", "1767225600000006", "\"2026-01-01T00:00:00.000006000Z\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[256], query[256];
        snprintf(line, sizeof line, "m,case=c%zu v=%zui %s\n", i, i, cases[i].time);
        cr_expect_eq(post(cases[i].path, "", line, answer, sizeof answer), 204, "%s", answer);
        snprintf(query, sizeof query, "MATCH (m:m) WHERE m.case = 'c%zu' SAMPLES OF m AS s RETURN s.ts", i);
        cr_expect_str_eq(cell(query), cases[i].expected);
    }
}

Test(contract, bad_lines_are_named_and_good_ones_of_the_same_request_are_kept) {
    char answer[8192];
    cr_expect_eq(post("/write", "", "m v=1 1\nm v= 2\nm v=3 3\nm v=\"text\" 4\n", answer, sizeof answer), 400);
    cr_expect(strstr(answer, "line 2") != NULL && strstr(answer, "line 4") != NULL, "%s", answer);
    cr_expect(strstr(answer, "2 of 4 lines") != NULL, "%s", answer);
    cr_expect(strstr(answer, "float") != NULL && strstr(answer, "string") != NULL, "the conflict names both types: %s",
              answer);
    cr_expect_str_eq(cell("MATCH (m:m) SAMPLES OF m AS s RETURN count(*)"), "2");
    cr_expect_eq(post("/write?precision=years", "", "m v=1 1\n", answer, sizeof answer), 400);
    cr_expect(strstr(answer, "years") != NULL, "%s", answer);
}

Test(contract, deletions_of_both_kinds_are_seen_when_they_are_answered) {
    char answer[4096];
    const char *path = "/api/v2/delete?bucket=b&org=o";
    cr_expect_eq(
        post("/write", "", "d,h=1 v=1 1\nd,h=1 v=1 2\nd,h=1 v=1 3\nd,h=2 v=1 1\nd,h=2 v=1 2\n", answer, sizeof answer),
        204);
    cr_expect_eq(post(path, "",
                      "{\"start\":\"1970-01-01T00:00:00.000000002Z\",\"stop\":\"1970-01-01T00:00:00.000000003Z\","
                      "\"predicate\":\"_measurement=\\\"d\\\" AND h=\\\"1\\\"\"}",
                      answer, sizeof answer),
                 204, "%s", answer);
    cr_expect_str_eq(cell("MATCH (d:d) SAMPLES OF d AS s RETURN count(*)"), "3");
    cr_expect_str_eq(cell("MATCH (d:d) DELETE SAMPLES OF d TO 2"), "2");
    cr_expect_str_eq(cell("MATCH (d:d) SAMPLES OF d AS s RETURN count(*)"), "1");
    static const struct {
        const char *body, *reason;
    } bad[] = {{"{\"start\":\"2020-01-01\",\"stop\":\"2030-01-01\"}", "_measurement"},
               {"{\"start\":\"2020-01-01\",\"predicate\":\"_measurement=d\"}", "stop is missing"},
               {"{\"start\":\"2030-01-01\",\"stop\":\"2020-01-01\",\"predicate\":\"_measurement=d\"}", "after stop"},
               {"{\"start\":\"soon\",\"stop\":\"2020-01-01\",\"predicate\":\"_measurement=d\"}", "soon"},
               {"[]", "start is missing"},
               {"{", "not JSON"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(post(path, "", bad[i].body, answer, sizeof answer), 400, "%s", answer);
        cr_expect(strstr(answer, bad[i].reason) != NULL, "%s", answer);
    }
    cr_expect_eq(post(path, "",
                      "{\"start\":\"1970-01-01\",\"stop\":\"2030-01-01\",\"predicate\":\"_measurement=none\"}", answer,
                      sizeof answer),
                 204, "%s", answer);
    cr_expect_str_eq(cell("MATCH (d:d) SAMPLES OF d AS s RETURN count(*)"), "1");
}

Test(contract, gzip_chunked_continue_and_pipelining_work) {
    char answer[8192];
    unsigned char packed[65536];
    static char text[400000];
    size_t size = 0;
    for (int i = 0; i < 8000; i++) size += (size_t)sprintf(text + size, "gz,t=%d v=%di %d\n", i % 10, i, i + 1);
    z_stream stream = {
        .next_in = (unsigned char *)text, .avail_in = (unsigned)size, .next_out = packed, .avail_out = sizeof packed};
    deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    cr_assert_eq(deflate(&stream, Z_FINISH), Z_STREAM_END);
    int fd = test_connect(server.http_port);
    send_text(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %lu\r\n\r\n",
              stream.total_out);
    for (size_t i = 0; i < stream.total_out; i += 777)
        send_bytes(fd, packed + i, stream.total_out - i < 777 ? stream.total_out - i : 777);
    cr_expect_eq(read_response(fd, answer, sizeof answer), 204, "%s", answer);
    deflateEnd(&stream);
    cr_expect_str_eq(cell("MATCH (g:gz) SAMPLES OF g AS s RETURN count(*)"), "8000");

    send_text(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello");
    cr_expect_eq(read_response(fd, answer, sizeof answer), 400);
    cr_expect(strstr(answer, "gzip") != NULL, "%s", answer);

    send_text(fd, "POST /write HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nch v=1\r\n7\r\n 1\nch "
                  "v\r\n5\r\n=2 2\n\r\n0\r\n\r\n");
    cr_expect_eq(read_response(fd, answer, sizeof answer), 204, "%s", answer);
    cr_expect_str_eq(cell("MATCH (c:ch) SAMPLES OF c AS s RETURN sum(s.v)"), "3.0");

    send_text(fd, "POST /write HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    cr_expect_eq(read_response(fd, answer, sizeof answer), 100);
    send_text(fd, "ch v=4 4\n");
    cr_expect_eq(read_response(fd, answer, sizeof answer), 204, "%s", answer);

    for (int i = 0; i < 20; i++)
        send_text(fd, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\npipe v=1 %02d", i + 10);
    send_text(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 20; i++) cr_expect_eq(read_response(fd, answer, sizeof answer), 204, "%s", answer);
    cr_expect_eq(read_response(fd, answer, sizeof answer), 200);
    cr_expect_str_eq(cell("MATCH (p:pipe) SAMPLES OF p AS s RETURN count(*)"), "20");
    close(fd);
}

Test(contract, lines_over_tcp_are_answered_when_synced_and_a_bad_line_ends_nothing) {
    int fd = test_connect(server.ilp_port);
    char line[256] = "";
    send_text(fd, "t v=1 1\nnonsense\nt v=2 2\r\n#sync\nt v=3 3\n#sync\n");
    size_t used = 0;
    int answers = 0;
    while (answers < 2 && used < sizeof line - 1 && recv(fd, line + used, 1, 0) == 1) answers += line[used++] == '\n';
    line[used] = 0;
    cr_expect_str_eq(line, "#ok 2\n#ok 3\n");
    cr_expect_str_eq(cell("MATCH (t:t) SAMPLES OF t AS s RETURN count(*)"), "3");
    send_text(fd, "t v=4 4");
    shutdown(fd, SHUT_WR);
    cr_expect_eq(recv(fd, line, sizeof line, 0), 0, "the server closes after the end");
    close(fd);
    for (int i = 0; i < 50 && strcmp(cell("MATCH (t:t) SAMPLES OF t AS s RETURN count(*)"), "4") != 0; i++)
        usleep(20000);
    cr_expect_str_eq(cell("MATCH (t:t) SAMPLES OF t AS s RETURN count(*)"), "4");
}

/* ---- remote write ---- */

static int post_samples(struct imv_buffer *message, const char *type, char *answer, size_t size) {
    size_t packed_size = snappy_max_compressed_length(message->size);
    char *packed = malloc(packed_size);
    cr_assert_eq(snappy_compress(message->data, message->size, packed, &packed_size), SNAPPY_OK);
    int fd = test_connect(server.http_port);
    send_text(fd,
              "POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Encoding: snappy\r\n"
              "X-Prometheus-Remote-Write-Version: 0.1.0\r\nContent-Length: %zu\r\n\r\n",
              type, packed_size);
    send_bytes(fd, packed, packed_size);
    int status = read_response(fd, answer, size);
    close(fd);
    free(packed);
    return status;
}

/* Samples of Prometheus are there when they are acknowledged, under their metric, labels and milliseconds, and after a
 * restart too; what is refused is named and keeps nothing else from being stored; other versions are told so. */
Test(contract, prometheus_writes_its_samples) {
    struct imv_buffer message;
    char answer[4096];
    imv_buffer_init(&message, 8 << 20);
    for (int i = 0; i < 20000; i++)
        prometheus_series(&message, "http:requests", "instance", i % 2 == 0 ? "h1:9100" : "h2:9100", i * 0.25,
                          INT64_C(1767225600000) + i / 2 * 15000);
    cr_assert_eq(post_samples(&message, "application/x-protobuf", answer, sizeof answer), 204, "%s", answer);
    imv_buffer_reset(&message);
    prometheus_series(&message, "up", "value", "1", 1, 1);
    prometheus_series(&message, "up", "job", "n", 1, 1);
    cr_assert_eq(post_samples(&message, "application/x-protobuf;proto=prometheus.WriteRequest", answer, sizeof answer),
                 400);
    cr_assert_not_null(strstr(answer, "1 of 2 samples were refused, 1 are stored: up{value="), "%s", answer);
    cr_assert_eq(
        post_samples(&message, "application/x-protobuf;proto=io.prometheus.write.v2.Request", answer, sizeof answer),
        415);
    cr_assert_not_null(strstr(answer, "1.0"), "%s", answer);
    for (int restarted = 0; restarted < 2; restarted++) {
        cr_assert_str_eq(cell("MATCH (r:`http:requests` {instance:'h2:9100'}) RETURN r.value"), "4999.75");
        cr_assert_str_eq(cell("MATCH (u:up) RETURN count(u)"), "1");
        cr_assert_eq(test_server_stop(&server, SIGKILL), SIGKILL);
        cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
    }
    imv_buffer_release(&message);
}

/* ---- queries ---- */

Test(contract, values_of_every_type_come_back_exactly) {
    char answer[8192];
    cr_assert_eq(
        post("/write", "",
             "v f=0.1,g=-0,h=1e308,i=-9223372036854775808i,u=18446744073709551615u,b=T,s=\"q\\\"\\\\\xc3\xa9\n\" 7\n",
             answer, sizeof answer),
        204, "%s", answer);
    post("/query?time=ns", "", "MATCH (v:v) SAMPLES OF v AS s RETURN s.ts, s.f, s.g, s.h, s.i, s.u, s.b, s.s", answer,
         sizeof answer);
    cr_expect(
        strstr(answer, "[7,0.1,-0.0,1e308,-9223372036854775808,18446744073709551615,true,\"q\\\"\\\\\xc3\xa9\\n\"]") !=
                NULL ||
            strstr(answer,
                   "[7,0.1,-0.0,1e+308,-9223372036854775808,18446744073709551615,true,\"q\\\"\\\\\xc3\xa9\\n\"]") !=
                NULL,
        "%s", answer);
    cr_expect_str_eq(cell("MATCH (v:v) RETURN v.i"), "-9223372036854775808", "a property is its current value");
    cr_expect_str_eq(cell("MATCH (v:v) RETURN last_time(v)"), "\"1970-01-01T00:00:00.000000007Z\"");
}

Test(contract, answers_come_as_json_ndjson_and_csv) {
    char answer[8192];
    int fd = test_connect(server.http_port);
    static const struct {
        const char *accept, *start;
    } cases[] = {{"application/json", "{\"columns\":[\"a\",\"b\"],\"rows\":[[1,\"x\"]]"},
                 {"application/x-ndjson", "{\"columns\":[\"a\",\"b\"]}\n[1,\"x\"]\n"},
                 {"text/csv", "a,b\r\n1,x\r\n"}};
    for (size_t i = 0; i < 3; i++) {
        send_text(
            fd,
            "POST /query HTTP/1.1\r\nHost: x\r\nAccept: %s\r\nContent-Length: 27\r\n\r\nRETURN 1 AS a, 'x' AS b    ",
            cases[i].accept);
        cr_expect_eq(read_response(fd, answer, sizeof answer), 200, "%s", answer);
        cr_expect_eq(strncmp(answer, cases[i].start, strlen(cases[i].start)), 0, "%s", answer);
    }
    close(fd);
    const char *json = "{\"query\": \"RETURN $a + 1 AS b\", \"params\": {\"a\": 41}}";
    cr_expect_eq(post("/query", "Content-Type: application/json\r\n", json, answer, sizeof answer), 200);
    cr_expect(strstr(answer, "[[42]]") != NULL, "%s", answer);
}

Test(contract, a_wrong_statement_is_refused_with_code_place_and_snippet) {
    char answer[8192];
    cr_expect_eq(post("/query", "", "MATCH (h:cpu)\nRETURN q.x", answer, sizeof answer), 400);
    json_t *root = json_loads(answer, 0, NULL);
    const json_t *error = json_object_get(root, "error");
    cr_expect_str_eq(json_string_value(json_object_get(error, "code")), "SyntaxError", "%s", answer);
    cr_expect_str_eq(json_string_value(json_object_get(error, "detail")), "UndefinedVariable");
    cr_expect_eq(json_integer_value(json_object_get(error, "line")), 2);
    cr_expect_eq(json_integer_value(json_object_get(error, "column")), 8);
    cr_expect_not_null(strchr(json_string_value(json_object_get(error, "snippet")), '^'));
    json_decref(root);
    cr_expect_eq(post("/query", "", "RETURN $missing", answer, sizeof answer), 400);
    cr_expect(strstr(answer, "ParameterMissing") != NULL || strstr(answer, "MissingParameter") != NULL, "%s", answer);
    cr_expect_eq(post("/query", "Content-Type: application/json\r\n", "{\"query\": 1}", answer, sizeof answer), 400);
}

/* The value of a metric without labels. */
static long metric(const char *name) {
    char text[256 * 1024], line[128];
    int fd = test_connect(server.http_port);
    send_text(fd, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    cr_assert_eq(read_response(fd, text, sizeof text), 200);
    close(fd);
    snprintf(line, sizeof line, "\n%s ", name);
    const char *at = strstr(text, line);
    cr_assert_not_null(at, "there is no metric %s", name);
    return strtol(at + strlen(line), NULL, 10);
}

Test(contract, a_query_whose_client_went_away_is_cancelled) {
    static const char text[] =
        "UNWIND range(1, 5000) AS a UNWIND range(1, 5000) AS b UNWIND range(1, 5000) AS c RETURN count(*)";
    int fd = test_connect(server.http_port);
    send_text(fd, "POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", strlen(text), text);
    for (int i = 0; i < 100 && metric("imvdb_queries_running") == 0; i++) usleep(10000);
    cr_expect_eq(metric("imvdb_queries_running"), 1, "the query takes minutes");
    close(fd);
    for (int i = 0; i < 500 && metric("imvdb_queries_running") > 0; i++) usleep(10000);
    cr_expect_eq(metric("imvdb_queries_running"), 0);
}

/* ---- limits and errors of HTTP ---- */

Test(contract, requests_beyond_a_limit_are_refused_with_their_status) {
    char answer[8192];
    static char large[(1 << 20) + 10];
    cr_expect_eq(post("/nowhere", "", "x", answer, sizeof answer), 404);
    int fd = test_connect(server.http_port);
    send_text(fd, "GET /write HTTP/1.1\r\nHost: x\r\n\r\n");
    cr_expect_eq(read_response(fd, answer, sizeof answer), 405);
    send_text(fd, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n");
    cr_expect_eq(read_response(fd, answer, sizeof answer), 200, "the connection goes on");
    close(fd);
    memset(large, ' ', sizeof large - 1);
    cr_expect_eq(post("/query", "", large, answer, sizeof answer), 413);
    fd = test_connect(server.http_port);
    send_text(fd, "GET /livez HTTP/1.1\r\nHost: x\r\n");
    memset(large, 'a', 1000);
    large[1000] = 0;
    for (int i = 0; i < 20; i++) {
        char line[1100];
        int size = snprintf(line, sizeof line, "X-%d: %s\r\n", i, large);
        if (send(fd, line, (size_t)size, MSG_NOSIGNAL) != size) break;
    }
    cr_expect_eq(read_response(fd, answer, sizeof answer), 431);
    close(fd);
    fd = test_connect(server.http_port);
    send_text(fd, "this is not http\r\n\r\n");
    cr_expect_eq(read_response(fd, answer, sizeof answer), 400);
    close(fd);
}

Test(contract, metrics_and_health_are_there) {
    struct imv_client *client;
    struct imv_buffer text;
    struct imv_error err;
    int status;
    imv_buffer_init(&text, 1 << 20);
    cr_assert_eq(imv_client_new(server.url, &client, &err), IMV_OK);
    struct imv_client_request request = {
        .method = "GET", .path = "/metrics", .receive = imv_client_collect, .context = &text};
    cr_assert_eq(imv_client_send(client, &request, &status, &err), IMV_OK, "%s", err.message);
    imv_buffer_append_char(&text, 0);
    cr_expect_eq(status, 200);
    cr_expect_not_null(strstr(text.data, "imvdb_ingest_rows_total 0"));
    cr_expect_not_null(strstr(text.data, "imvdb_memory_limit_bytes{pool=\"connections\"}"));
    imv_buffer_release(&text);
    imv_client_free(client);
}

/* ---- start-up ---- */

static void expect_refusal(const char *const *arguments, int wanted, const char *part) {
    char output[8192];
    int status = test_run(program, arguments, output, sizeof output);
    cr_expect_eq(status, wanted, "exit %d: %s", status, output);
    cr_expect_not_null(strstr(output, part), "'%s' does not say '%s'", output, part);
}

Test(contract, start_up_failures_say_what_is_wrong) {
    const char *const busy[] = {"serve", "--data", server.directory, "--http", "127.0.0.1:0", "--ilp", "off", NULL};
    expect_refusal(busy, 1, server.directory);
    const char *const flag[] = {"serve", "--data", "/tmp/x", "--colour", "red", NULL};
    expect_refusal(flag, 2, "--colour");
    const char *const open_address[] = {"serve", "--data", "/tmp/x", "--http", "0.0.0.0:0", NULL};
    expect_refusal(open_address, 1, "loopback");
    const char *const missing[] = {"serve", NULL};
    expect_refusal(missing, 2, "--data");
    const char *const command[] = {"sevre", NULL};
    expect_refusal(command, 2, "sevre");
    char taken[64], other[256];
    test_directory(other, sizeof other, "other");
    snprintf(taken, sizeof taken, "127.0.0.1:%u", server.http_port);
    const char *const port[] = {"serve", "--data", other, "--http", taken, "--ilp", "off", NULL};
    expect_refusal(port, 1, taken + 10);
    char format[300];
    snprintf(format, sizeof format, "%s/FORMAT", other);
    FILE *file = fopen(format, "r+");
    cr_assert_not_null(file, "a refused start has made its data directory");
    fclose(file);
    test_directory_remove(other);
}
