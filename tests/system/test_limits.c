/* Many connections, slow and rude ones, and very large requests: memory stays within the stated bounds and others are
 * served all the while. */
#include "connectors/cli/ask.h"
#include "tests/support/program.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IDLE = 900, SLOW_READERS = 50, HALF_OPEN = 50, MIB = 1 << 20 };

/* The bounds that the server is started with, and what is not in a pool: code, RocksDB, stacks, the allocator's
 * slack. */
enum { HEAD_MIB = 128, BATCH_MIB = 64, CONNECTION_MIB = 64, QUERY_MIB = 32, QUERY_THREADS = 2, UNPOOLED_MIB = 192 };
static const long bound_bytes =
    (long)(HEAD_MIB + BATCH_MIB + CONNECTION_MIB + QUERY_MIB * QUERY_THREADS + UNPOOLED_MIB) * MIB;

static struct test_server server;

static bool send_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent <= 0) return false;
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

static int read_status(int fd) {
    char head[2048];
    size_t used = 0;
    while (used < sizeof head - 1 && recv(fd, head + used, 1, 0) == 1) {
        head[++used] = 0;
        if (used >= 4 && memcmp(head + used - 4, "\r\n\r\n", 4) == 0) return atoi(head + 9);
    }
    return -1;
}

static char *ask(const char *text) {
    static char result[4096];
    struct imv_client *client;
    struct imv_buffer answer;
    struct imv_error err;
    int status = 0;
    imv_buffer_init(&answer, 1 << 20);
    cr_assert_eq(imv_client_new(server.url, &client, &err), IMV_OK);
    cr_assert_eq(imv_ask(client, imv_str_from(text), NULL, "application/json", false, imv_client_collect, &answer,
                         &status, &err),
                 IMV_OK, "%s", err.message);
    json_t *root = json_loadb(answer.data, answer.size, 0, NULL);
    char *dump = json_dumps(json_object_get(root, "rows"), JSON_COMPACT);
    snprintf(result, sizeof result, "%d %s", status, dump == NULL ? "" : dump);
    free(dump);
    json_decref(root);
    imv_buffer_release(&answer);
    imv_client_free(client);
    return result;
}

static void expect_within_bound(const char *when) {
    long peak = test_resident_bytes(server.pid, true);
    fprintf(stderr, "limits: %s: resident %ld MiB, peak %ld MiB of at most %ld\n", when,
            test_resident_bytes(server.pid, false) / MIB, peak / MIB, bound_bytes / MIB);
    cr_expect_lt(peak, bound_bytes, "%s", when);
}

/* A request of `total` bytes made of `unit` again and again; returns the status of the answer. */
static int send_large(const char *unit, size_t unit_size, size_t total) {
    char head[256], *block = malloc(MIB);
    size_t block_size = MIB / unit_size * unit_size;
    for (size_t i = 0; i < block_size; i += unit_size) memcpy(block + i, unit, unit_size);
    int fd = test_connect(server.http_port);
    int size = snprintf(head, sizeof head, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", total);
    bool sent = send_all(fd, head, (size_t)size);
    for (size_t done = 0; sent && done < total;) {
        size_t part = total - done < block_size ? total - done : block_size;
        sent = send_all(fd, block, part);
        done += part;
    }
    int status = read_status(fd);
    close(fd);
    free(block);
    return status;
}

static void load_rows(int rows) {
    char *text = malloc((size_t)rows * 64);
    size_t size = 0;
    for (int i = 0; i < rows; i++)
        size += (size_t)sprintf(text + size, "big,s=%d a=%d.25,b=%di %d000\n", i % 100, i, i, i);
    char head[128];
    int fd = test_connect(server.http_port);
    int head_size = snprintf(head, sizeof head, "POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", size);
    cr_assert(send_all(fd, head, (size_t)head_size) && send_all(fd, text, size));
    cr_assert_eq(read_status(fd), 204);
    close(fd);
    free(text);
}

Test(limits, a_thousand_connections_slow_readers_and_a_gibibyte_stay_within_the_stated_memory, .timeout = 900) {
    const char *program = test_program(IMV_SOURCE_DIR);
    if (program == NULL) cr_skip_test("the release program is not built");
    struct rlimit files = {4096, 4096};
    setrlimit(RLIMIT_NOFILE, &files);
    test_directory(server.directory, sizeof server.directory, "limits");
    char head[64], batch[64], connection[64], query[64];
    snprintf(head, sizeof head, "storage.head_memory=%dMiB", HEAD_MIB);
    snprintf(batch, sizeof batch, "storage.batch_memory=%dMiB", BATCH_MIB);
    snprintf(connection, sizeof connection, "limits.connection_memory=%dMiB", CONNECTION_MIB);
    snprintf(query, sizeof query, "limits.query_memory=%dMiB", QUERY_MIB);
    const char *const extra[] = {"--set", head, "--set", batch, "--set", connection, "--set", query, NULL};
    cr_assert(test_server_start(&server, program, extra), "no start, see %s", server.log);
    static int idle[IDLE], slow[SLOW_READERS], half[HALF_OPEN];
    load_rows(300000);
    long before = test_resident_bytes(server.pid, false);
    for (int i = 0; i < IDLE; i++) cr_assert_geq(idle[i] = test_connect(i % 2 ? server.http_port : server.ilp_port), 0);
    for (int i = 0; i < HALF_OPEN; i++) {
        cr_assert_geq(half[i] = test_connect(i % 2 ? server.http_port : server.ilp_port), 0);
        const char *part = i % 2 ? "POST /write HTTP/1.1\r\nContent-Le" : "m,tag=half val";
        cr_assert(send_all(half[i], part, strlen(part)));
    }
    usleep(300000);
    long each = (test_resident_bytes(server.pid, false) - before) / (IDLE + HALF_OPEN);
    fprintf(stderr, "limits: %ld bytes resident per idle or half-open connection\n", each);
    cr_expect_lt(each, 24 * 1024, "a half-open line connection holds at most one page of its buffer");

    /* Slow readers: the answer is far larger than what may wait for them; they take a little and stop. */
    for (int i = 0; i < SLOW_READERS; i++) {
        static const char request[] = "POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 54\r\n\r\n"
                                      "MATCH (b:big) SAMPLES OF b AS s RETURN b.s, s.ts, s.a ";
        int small = 4096;
        cr_assert_geq(slow[i] = test_connect(server.http_port), 0);
        setsockopt(slow[i], SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        cr_assert(send_all(slow[i], request, sizeof request - 1));
    }
    sleep(2);
    expect_within_bound("slow readers");

    static const char line[] = "gib,series=one value=1.5,other=2i 1767225600000000000\n";
    size_t gib = ((size_t)1 << 30) / (sizeof line - 1) * (sizeof line - 1);
    cr_expect_eq(send_large(line, sizeof line - 1, gib), 204);
    expect_within_bound("a request of 1 GiB of lines");
    cr_expect_str_eq(ask("MATCH (g:gib) RETURN g.value"), "200 [[1.5]]", "while slow readers hold the query threads");
    cr_expect_eq(send_large("aaaaaaaa", 8, (size_t)1 << 30), 400);
    expect_within_bound("a line of 1 GiB");

    for (int i = 0; i < IDLE; i++) close(idle[i]);
    for (int i = 0; i < HALF_OPEN; i++) close(half[i]);
    for (int i = 0; i < SLOW_READERS; i++) close(slow[i]);
    cr_expect_eq(test_server_stop(&server, SIGTERM), 0);
    test_directory_remove(server.directory);
    unlink(server.log);
}
