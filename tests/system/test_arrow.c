/* Arrow streams in and out of a running server. */
#include "connectors/cli/ask.h"
#include "tests/support/arrow_table.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

static struct test_server server;
static const char *program;

static void start(void) {
    program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    server = (struct test_server){0};
    test_directory(server.directory, sizeof server.directory, "arrow");
    cr_assert(test_server_start(&server, program, NULL), "no start, see %s", server.log);
}

static void stop(void) {
    if (server.pid == 0) return;
    cr_expect_eq(test_server_stop(&server, SIGTERM), 0);
    test_directory_remove(server.directory);
    unlink(server.log);
}

TestSuite(arrow_system, .init = start, .fini = stop, .timeout = 120);

/* ---- HTTP ---- */

static void send_bytes(int fd, const void *bytes, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t part = send(fd, (const char *)bytes + sent, size - sent, MSG_NOSIGNAL);
        cr_assert_gt(part, 0);
        sent += (size_t)part;
    }
}

/* Sends a request on a connection of its own and collects the whole answer, head and body, NUL-terminated; the
 * status. */
static int exchange(const char *path, const char *headers, struct imv_str body, struct imv_buffer *answer) {
    char head[1024], bytes[65536];
    int fd = test_connect(server.http_port);
    cr_assert_geq(fd, 0);
    int size =
        snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n",
                 path, headers, body.size);
    send_bytes(fd, head, (size_t)size);
    send_bytes(fd, body.data, body.size);
    imv_buffer_init(answer, 256 << 20);
    for (ssize_t got; (got = recv(fd, bytes, sizeof bytes, 0)) > 0;) imv_buffer_append(answer, bytes, (size_t)got);
    imv_buffer_append_char(answer, 0);
    cr_assert_gt(answer->size, 12);
    close(fd);
    return atoi(answer->data + 9);
}

#define ARROW_TYPE "Content-Type: application/vnd.apache.arrow.stream\r\n"

static int write_arrow(const char *path, const char *headers, struct imv_str body, char *answer, size_t size) {
    struct imv_buffer whole;
    char all[256];
    snprintf(all, sizeof all, "%s%s", ARROW_TYPE, headers);
    int status = exchange(path, all, body, &whole);
    snprintf(answer, size, "%s", whole.data);
    imv_buffer_release(&whole);
    return status;
}

/* The first row of an answer, as compact JSON. */
static const char *row(const char *query) {
    static char result[4096];
    struct imv_buffer answer;
    exchange("/query", "", imv_str_from(query), &answer);
    const char *body = strstr(answer.data, "\r\n\r\n");
    json_t *root = json_loads(body == NULL ? "" : body + 4, JSON_DISABLE_EOF_CHECK, NULL);
    char *dump = json_dumps(json_array_get(json_object_get(root, "rows"), 0), JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(result, sizeof result, "%s", dump != NULL ? dump : answer.data);
    free(dump);
    json_decref(root);
    imv_buffer_release(&answer);
    return result;
}

/* ---- tables ---- */

enum { ROWS = 4000 };

/* time, host (50 hosts), v = row, f = row / 2 where row is odd. */
static struct test_arrow_table make_table(int64_t first) {
    struct test_arrow_table table = {.label = "cpu", .columns_count = 4, .rows = ROWS};
    struct test_arrow_column *c = table.columns = calloc(4, sizeof *table.columns);
    cr_assert_not_null(c);
    c[0].name = "time", c[0].type = imv_arrow_simple(IMV_ARROW_TIME);
    c[1].name = "host", c[1].type = imv_arrow_simple(IMV_ARROW_TEXT), c[1].dictionary = true;
    c[2].name = "v", c[2].type = imv_arrow_int(32, true);
    c[3].name = "f", c[3].type = imv_arrow_float(64);
    for (int64_t i = 0; i < ROWS; i++) {
        c[0].cells[i].integer = 1767225600000000000 + (first + i) * 1000000;
        snprintf(c[1].cells[i].text, sizeof c[1].cells[i].text, "h%d", (int)(i % 50));
        c[2].cells[i].integer = first + i;
        c[3].cells[i].number = (double)(first + i) / 2;
        c[3].cells[i].null = i % 2 == 0;
    }
    return table;
}

static struct imv_buffer encode(const struct test_arrow_table *table, uint32_t batch_rows) {
    struct imv_buffer stream;
    imv_buffer_init(&stream, 64 << 20);
    test_arrow_encode(&stream, table, batch_rows, TEST_ARROW_ADDED);
    return stream;
}

/* ---- tests ---- */

Test(arrow_system, rows_are_there_when_the_stream_is_answered) {
    /* 204 means durable and visible, plain or gzip, on both paths; another stream with other dictionaries goes on. */
    char answer[4096];
    for (int64_t part = 0; part < 3; part++) {
        struct test_arrow_table table = make_table(part * ROWS);
        struct imv_buffer stream = encode(&table, part == 0 ? ROWS : 77);
        if (part < 2) {
            const char *path = part == 0 ? "/write" : "/api/v2/write?bucket=b";
            cr_assert_eq(write_arrow(path, "", imv_buffer_view(&stream), answer, sizeof answer), 204, "%s", answer);
        } else {
            static unsigned char packed[1 << 20];
            z_stream z = {.next_in = (unsigned char *)stream.data,
                          .avail_in = (unsigned)stream.size,
                          .next_out = packed,
                          .avail_out = sizeof packed};
            deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
            cr_assert_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
            struct imv_str body = {(char *)packed, z.total_out};
            deflateEnd(&z);
            cr_assert_eq(write_arrow("/write", "Content-Encoding: gzip\r\n", body, answer, sizeof answer), 204, "%s",
                         answer);
        }
        imv_buffer_release(&stream);
        free(table.columns);
    }
    cr_expect_str_eq(row("MATCH (c:cpu) SAMPLES OF c AS s RETURN count(*), sum(s.v), count(s.f), max(s.f)"),
                     "[12000,71994000,6000,5999.5]");
    cr_expect_str_eq(row("MATCH (c:cpu) RETURN count(*)"), "[50]");
}

Test(arrow_system, bad_rows_and_broken_streams_say_where) {
    /* Refused rows are named by number and the rest is kept; a stream that is cut says how many rows were stored. */
    char answer[8192];
    struct test_arrow_table table = make_table(0);
    table.columns[0].cells[1].null = true;
    strcpy(table.columns[1].cells[3999].text, "");
    struct imv_buffer stream = encode(&table, 1000);
    cr_expect_eq(write_arrow("/write", "", imv_buffer_view(&stream), answer, sizeof answer), 400);
    cr_expect(strstr(answer,
                     "partial write: 2 of 4000 rows were refused, 3998 rows are stored: row 2: the time is null; "
                     "row 4000: column \\\"host\\\": ") != NULL,
              "%s", answer);
    cr_expect_str_eq(row("MATCH (c:cpu) SAMPLES OF c AS s RETURN count(*)"), "[3998]");
    struct imv_str cut = {stream.data, stream.size - 100};
    cr_expect_eq(write_arrow("/write", "", cut, answer, sizeof answer), 400);
    cr_expect(strstr(answer, "arrow: the stream ends inside a message; before it 2999 rows are stored, 1 refused") !=
                  NULL,
              "%s", answer);
    cr_expect_eq(write_arrow("/write", "", IMV_STR("cpu v=1 1\n"), answer, sizeof answer), 400);
    imv_buffer_release(&stream);
    free(table.columns);
}

Test(arrow_system, what_a_query_answers_can_be_written) {
    /* The stream of /query is taken by /write as it is: the copy has the same rows. */
    char answer[4096];
    struct test_arrow_table table = make_table(0);
    struct imv_buffer stream = encode(&table, ROWS), read;
    cr_assert_eq(write_arrow("/write", "", imv_buffer_view(&stream), answer, sizeof answer), 204, "%s", answer);
    struct imv_str query =
        IMV_STR("MATCH (c:cpu) SAMPLES OF c AS s RETURN s.ts AS time, c.host AS host, s.v AS v, s.f AS f");
    cr_assert_eq(exchange("/query", "Accept: application/vnd.apache.arrow.stream\r\n", query, &read), 200);
    char *body = strstr(read.data, "\r\n\r\n");
    cr_assert(strcasestr(read.data, "application/vnd.apache.arrow.stream") != NULL);
    struct imv_buffer plain;
    imv_buffer_init(&plain, 64 << 20);
    if (strcasestr(read.data, "chunked") != NULL && strcasestr(read.data, "chunked") < body) {
        for (char *at = body + 4;;) {
            size_t size = strtoul(at, &at, 16);
            if (size == 0) break;
            imv_buffer_append(&plain, at + 2, size);
            at += 2 + size + 2;
        }
    } else {
        imv_buffer_append(&plain, body + 4, read.size - 1 - (size_t)(body + 4 - read.data));
    }
    cr_assert_eq(write_arrow("/write?label=copy", "", imv_buffer_view(&plain), answer, sizeof answer), 204, "%s",
                 answer);
    static const char figures[] =
        "SAMPLES OF c AS s RETURN count(*), sum(s.v), count(s.f), sum(s.f), min(s.ts), max(s.ts)";
    char of_copy[256], of_original[256], text[512];
    snprintf(text, sizeof text, "MATCH (c:copy) %s", figures);
    snprintf(of_copy, sizeof of_copy, "%s", row(text));
    snprintf(text, sizeof text, "MATCH (c:cpu) %s", figures);
    snprintf(of_original, sizeof of_original, "%s", row(text));
    cr_expect_str_eq(of_copy, of_original);
    cr_expect(strncmp(of_copy, "[4000,7998000,2000,", 19) == 0, "%s", of_copy);
    imv_buffer_release(&plain);
    imv_buffer_release(&read);
    imv_buffer_release(&stream);
    free(table.columns);
}

Test(arrow_system, another_library_agrees) {
    /* What the Apache Arrow library for JavaScript writes is taken, and it reads back the same. $IMV_ARROW_JS is a
     * folder of node modules with apache-arrow in it. */
    const char *modules = getenv("IMV_ARROW_JS");
    if (modules == NULL || access(modules, R_OK) != 0) {
        stop(); /* a test that is skipped does not come to its end */
        cr_skip_test("IMV_ARROW_JS is not set: no folder of node modules with apache-arrow");
    }
    char node_path[600], output[4096];
    snprintf(node_path, sizeof node_path, "NODE_PATH=%s", modules);
    const char *arguments[] = {node_path, "node", IMV_SOURCE_DIR "/tests/system/arrow_check.cjs", server.url, NULL};
    cr_expect_eq(test_run("/usr/bin/env", arguments, output, sizeof output), 0, "%s", output);
}
