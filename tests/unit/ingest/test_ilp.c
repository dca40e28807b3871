#include "ingest/ilp.h"

#include "engine/writer.h"
#include "storage/base/budget.h"
#include "storage/base/clock.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BOTH(name)                                          \
    static void name(bool epoll);                           \
    Test(ilp, name##_uring, .timeout = 60) { name(false); } \
    Test(ilp, name##_epoll, .timeout = 60) { name(true); }  \
    static void name(bool epoll)

enum { MS = 1000 * 1000 };

/* -------------------------------------------------------------------------------------------------------- a writer */

/* Stands in for the engine's: counts rows, is as full and as durable as the test says. */
struct imv_writer {
    uint64_t rows, durable; /* a mark is a number of rows */
    uint64_t room;          /* rows that fit before it is full */
    bool failed;
    bool row_open;
    int64_t sum, last_time; /* of all values of fields, to see that each row came once */
};

static struct imv_writer writer;
static struct imv_series *const any_series = (struct imv_series *)&writer;

struct imv_series *imv_writer_find_series(struct imv_writer *of, struct imv_str raw) {
    (void)of, (void)raw;
    return any_series;
}
imv_status imv_writer_check_row(struct imv_writer *writer, struct imv_str label, const struct imv_tag *tags,
                                size_t tags_count, const struct imv_field *fields, size_t fields_count,
                                struct imv_error *err) {
    (void)writer, (void)label, (void)tags, (void)tags_count, (void)fields, (void)fields_count, (void)err;
    return IMV_OK;
}
imv_status imv_writer_make_series(struct imv_writer *of, struct imv_str raw, struct imv_str label,
                                  const struct imv_tag *tags, size_t tags_count, struct imv_series **series,
                                  struct imv_error *err) {
    (void)of, (void)raw, (void)label, (void)tags, (void)tags_count, (void)series, (void)err;
    return IMV_NO_MEMORY;
}
imv_status imv_writer_begin(struct imv_writer *to, struct imv_series *series, uint32_t fields_max, size_t bytes_max,
                            struct imv_error *err) {
    (void)series, (void)fields_max, (void)bytes_max;
    if (to->room == 0) return imv_fail(err, IMV_FULL, "full");
    to->row_open = true;
    return IMV_OK;
}
imv_status imv_writer_field(struct imv_writer *to, struct imv_str name, imv_type type, uint64_t cell,
                            struct imv_error *err) {
    (void)type;
    if (imv_str_equal(name, IMV_STR("bad"))) return imv_fail(err, IMV_CONFLICT, "field \"bad\"\nis\tof another type");
    to->sum += (int64_t)cell;
    return IMV_OK;
}
imv_status imv_writer_field_string(struct imv_writer *to, struct imv_str name, struct imv_str text,
                                   struct imv_error *err) {
    (void)to, (void)name, (void)text, (void)err;
    return IMV_OK;
}
imv_status imv_writer_end(struct imv_writer *to, int64_t timestamp, struct imv_error *err) {
    (void)err;
    cr_assert(to->row_open);
    to->row_open = false;
    to->rows++;
    to->room--;
    to->last_time = timestamp;
    return IMV_OK;
}
/* Rows of known shapes are the writer's own way; here every line goes field by field. */
void imv_writer_find_many(struct imv_writer *of, const struct imv_str *raws, size_t count, struct imv_series **series) {
    (void)of, (void)raws;
    memset(series, 0, count * sizeof *series);
}
const struct imv_shape *const *imv_writer_shapes(struct imv_writer *of, const struct imv_label *label) {
    (void)of, (void)label;
    return NULL;
}
struct imv_row *imv_writer_place(struct imv_writer *to, struct imv_series *series, size_t bytes) {
    (void)to, (void)series, (void)bytes;
    return NULL;
}
void imv_writer_put(struct imv_writer *to, struct imv_row *row, struct imv_series *series,
                    const struct imv_shape *shape, int64_t timestamp, size_t bytes) {
    (void)to, (void)row, (void)series, (void)shape, (void)timestamp, (void)bytes;
    cr_assert_fail("nothing was placed");
}
void imv_writer_abort(struct imv_writer *to) { to->row_open = false; }
void imv_writer_send(struct imv_writer *of) { (void)of; }
bool imv_writer_has_room(struct imv_writer *of) { return of->room > 0; }
void imv_writer_mark(const struct imv_writer *of, uint64_t *marks) { marks[0] = of->rows; }
imv_status imv_writer_check(const struct imv_writer *of, const uint64_t *marks, struct imv_error *err) {
    if (marks[0] <= of->durable) return IMV_OK;
    if (of->failed) return imv_fail(err, IMV_CLOSED, "the journal of shard 0\nfailed: No space left on device");
    return IMV_BUSY;
}

/* -------------------------------------------------------------------------------------------------------- a server */

struct server {
    struct imv_loop *loop;
    struct imv_budget budget;
    struct imv_ilp *ilp;
    uint16_t port;
    bool lazy; /* rows become durable only when the test says so */
};

static int64_t server_turn(void *context) {
    struct server *server = context;
    if (!server->lazy && !writer.failed) writer.durable = writer.rows;
    imv_ilp_turn(server->ilp);
    return INT64_MAX;
}

static void server_start(struct server *server, bool epoll) {
    struct imv_error err = {0};
    imv_log_set_level(IMV_LOG_ERROR + 1);
    *server = (struct server){0};
    writer = (struct imv_writer){.room = UINT64_MAX};
    imv_budget_init(&server->budget, "connections", 64u << 20);
    struct imv_loop_options options = {.epoll = epoll,
                                       .budget = &server->budget,
                                       .connections_max = 100,
                                       .clock = imv_clock_system(),
                                       .turn = server_turn,
                                       .context = server};
    cr_assert_eq(imv_loop_new(&options, &server->loop, &err), IMV_OK, "%s", err.message);
    cr_assert_eq(imv_ilp_new(&writer, imv_clock_system(), 1, &server->ilp, &err), IMV_OK);
    cr_assert_eq(
        imv_loop_listen(server->loop, "127.0.0.1", 0, &imv_ilp_conn_handler, &server->ilp, &server->port, &err), IMV_OK,
        "%s", err.message);
    imv_loop_step(server->loop, 0, &err);
}

static void server_stop(struct server *server) {
    imv_loop_free(server->loop);
    imv_ilp_free(server->ilp);
    imv_budget_release(&server->budget);
}

static void step(struct server *server, int64_t timeout_ns) {
    struct imv_error err = {0};
    cr_assert_eq(imv_loop_step(server->loop, timeout_ns, &err), IMV_OK, "%s", err.message);
}

static void step_many(struct server *server, int count) {
    for (int i = 0; i < count; i++) step(server, MS);
}

static int64_t now_ns(void) { return imv_clock_monotonic_ns(imv_clock_system()); }

#define STEP_UNTIL(server, condition)                                           \
    do {                                                                        \
        int64_t until_ns = now_ns() + INT64_C(10000) * MS;                      \
        while (!(condition)) {                                                  \
            cr_assert_lt(now_ns(), until_ns, "never happened: %s", #condition); \
            step(server, MS);                                                   \
        }                                                                       \
    } while (0)

static int client_connect(struct server *server) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0, "connect: %s", strerror(errno));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void client_write(struct server *server, int fd, const char *text, size_t size) {
    while (size > 0) {
        ssize_t put = send(fd, text, size, MSG_NOSIGNAL);
        if (put < 0) cr_assert_eq(errno, EAGAIN, "send: %s", strerror(errno));
        if (put > 0) text += put, size -= (size_t)put;
        step(server, 0);
    }
}

static void client_say(struct server *server, int fd, const char *text) {
    client_write(server, fd, text, strlen(text));
}

/* Reads what there is within a few turns. */
static const char *client_hear(struct server *server, int fd) {
    static char text[1 << 20];
    size_t size = 0;
    for (int i = 0; i < 10; i++) {
        ssize_t got = recv(fd, text + size, sizeof text - 1 - size, 0);
        if (got > 0) size += (size_t)got;
        step(server, MS);
    }
    text[size] = 0;
    return text;
}

/* Reads until size bytes or the end came. */
static char *client_hear_all(struct server *server, int fd, size_t size_max, size_t *size) {
    char *text = calloc(1, size_max + 1);
    *size = 0;
    int64_t until_ns = now_ns() + INT64_C(10000) * MS;
    while (*size < size_max) {
        cr_assert_lt(now_ns(), until_ns, "only %zu of %zu bytes", *size, size_max);
        ssize_t got = recv(fd, text + *size, size_max - *size, 0);
        if (got == 0) break;
        if (got > 0) *size += (size_t)got;
        step(server, got > 0 ? 0 : MS);
    }
    return text;
}

static bool is_closed(struct server *server, int fd) {
    char byte;
    for (int i = 0; i < 20; i++) step(server, MS / 10);
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

/* -------------------------------------------------------------------------------------------------------- the tests */

/* #sync is answered with the rows of this connection, but not before all of them are durable. */
BOTH(sync_waits_for_durable) {
    struct server server;
    server_start(&server, epoll);
    server.lazy = true;
    int fd = client_connect(&server);
    client_say(&server, fd, "cpu,h=1 v=1i 5\ncpu,h=2 v=2i 6\n#sync\ncpu,h=3 v=3i 7\n");
    STEP_UNTIL(&server, writer.rows == 3);
    cr_assert_str_eq(client_hear(&server, fd), "");
    writer.durable = 1;
    cr_assert_str_eq(client_hear(&server, fd), "");
    writer.durable = 2;
    cr_assert_str_eq(client_hear(&server, fd), "#ok 2\n");
    client_say(&server, fd, "#sync\r\n");
    cr_assert_str_eq(client_hear(&server, fd), "");
    writer.durable = 3;
    cr_assert_str_eq(client_hear(&server, fd), "#ok 3\n");
    cr_assert_eq(writer.sum, 6);
    cr_assert_eq(writer.last_time, 7);
    close(fd);
    server_stop(&server);
}

/* Each connection is told its own rows; answers of all come in order. */
BOTH(rows_are_counted_per_connection) {
    struct server server;
    server_start(&server, epoll);
    server.lazy = true;
    int a = client_connect(&server), b = client_connect(&server);
    client_say(&server, a, "a v=1i\na v=1i\n#sync\n");
    STEP_UNTIL(&server, writer.rows == 2);
    client_say(&server, b, "b v=1i\n#sync\n");
    STEP_UNTIL(&server, writer.rows == 3);
    client_say(&server, a, "#sync\na v=1i\n#sync\n");
    STEP_UNTIL(&server, writer.rows == 4);
    writer.durable = 3;
    cr_assert_str_eq(client_hear(&server, a), "#ok 2\n#ok 2\n");
    cr_assert_str_eq(client_hear(&server, b), "#ok 1\n");
    writer.durable = 4;
    cr_assert_str_eq(client_hear(&server, a), "#ok 3\n");
    close(a), close(b);
    server_stop(&server);
}

/* Only exactly `#sync` asks: other comments are comments. */
BOTH(other_comments_say_nothing) {
    struct server server;
    server_start(&server, epoll);
    int fd = client_connect(&server);
    client_say(&server, fd, "#Sync\n# sync\n#sync \n#syncs\n#\n#sync\r\r\n\n\r\n#sync\n");
    cr_assert_str_eq(client_hear(&server, fd), "#ok 0\n");
    close(fd);
    server_stop(&server);
}

/* Bad lines are counted and end nothing; what the writer refuses counts as bad too. */
BOTH(bad_lines_go_on) {
    struct server server;
    server_start(&server, epoll);
    int64_t rejected = imv_metric_value(IMV_METRIC_ingest_lines_rejected_total);
    int fd = client_connect(&server);
    client_say(&server, fd, "a v=1i 1\nnonsense\na v=\n\1\2\3\na bad=1i 2\na v=1i 2\n#sync\n");
    cr_assert_str_eq(client_hear(&server, fd), "#ok 2\n");
    cr_assert_eq(imv_metric_value(IMV_METRIC_ingest_lines_rejected_total), rejected + 4);
    close(fd);
    server_stop(&server);
}

/* However the bytes are cut, each line counts once. */
BOTH(any_pieces) {
    struct server server;
    server_start(&server, epoll);
    struct imv_prng prng;
    uint64_t seed = (uint64_t)now_ns();
    cr_log_info("seed %llu", (unsigned long long)seed);
    imv_prng_init(&prng, seed);
    char *text = malloc(8 << 20);
    size_t size = 0;
    int64_t sum = 0;
    uint64_t rows = 0;
    while (size < (4 << 20)) {
        int64_t value = (int64_t)imv_prng_below(&prng, 1000000);
        size_t padding = imv_prng_below(&prng, 50) == 0 ? imv_prng_below(&prng, 60000) : imv_prng_below(&prng, 20);
        size += (size_t)sprintf(text + size, "m,t=x v=%lldi,s=\"", (long long)value);
        memset(text + size, imv_prng_below(&prng, 20) == 0 ? '\n' : 'y', padding);
        size += padding;
        size += (size_t)sprintf(text + size, "\" %llu\n", (unsigned long long)rows);
        sum += value;
        rows++;
    }
    size += (size_t)sprintf(text + size, "#sync\n");
    int fd = client_connect(&server);
    for (size_t sent = 0; sent < size;) {
        size_t piece = 1 + imv_prng_below(&prng, imv_prng_below(&prng, 2) == 0 ? 100 : 200000);
        if (piece > size - sent) piece = size - sent;
        client_write(&server, fd, text + sent, piece);
        sent += piece;
    }
    char answer[64];
    sprintf(answer, "#ok %llu\n", (unsigned long long)rows);
    STEP_UNTIL(&server, writer.rows == rows);
    cr_assert_str_eq(client_hear(&server, fd), answer);
    cr_assert_eq(writer.sum, sum);
    free(text);
    close(fd);
    server_stop(&server);
}

/* A full writer stops the reading; when it has room again all connections go on, and no line is lost or taken twice. */
BOTH(back_pressure) {
    struct server server;
    server_start(&server, epoll);
    writer.room = 10;
    enum { CLIENTS = 5, LINES = 3000 };
    int fds[CLIENTS];
    char *text = malloc(LINES * 32);
    size_t size = 0;
    for (int i = 0; i < LINES; i++) size += (size_t)sprintf(text + size, "m,t=abcdefgh v=%di %d\n", i, i);
    size += (size_t)sprintf(text + size, "#sync\n");
    for (int c = 0; c < CLIENTS; c++) {
        fds[c] = client_connect(&server);
        cr_assert_eq(send(fds[c], text, size, MSG_NOSIGNAL), (ssize_t)size);
    }
    step_many(&server, 20);
    cr_assert_eq(writer.rows, 10);
    struct imv_prng prng;
    imv_prng_init(&prng, 9);
    while (writer.rows < CLIENTS * LINES) {
        if (imv_prng_below(&prng, 3) == 0) writer.room += imv_prng_below(&prng, 200);
        uint64_t before = writer.rows, room = writer.room;
        step(&server, 0);
        cr_assert_leq(writer.rows - before, room);
    }
    cr_assert_eq(writer.sum, (int64_t)CLIENTS * LINES * (LINES - 1) / 2);
    writer.room = 1000;
    for (int c = 0; c < CLIENTS; c++) {
        cr_assert_str_eq(client_hear(&server, fds[c]), "#ok 3000\n");
        close(fds[c]);
    }
    free(text);
    server_stop(&server);
}

/* Beyond IMV_ILP_SYNCS_MAX pending answers the connection is not read; then all are answered in order. */
BOTH(many_syncs) {
    struct server server;
    server_start(&server, epoll);
    server.lazy = true;
    int fd = client_connect(&server);
    enum { COUNT = 1000 };
    char *text = malloc(COUNT * 20), *expected = malloc(COUNT * 20);
    size_t size = 0, expected_size = 0;
    for (int i = 0; i < COUNT; i++) {
        size += (size_t)sprintf(text + size, "m v=1i\n#sync\n");
        expected_size += (size_t)sprintf(expected + expected_size, "#ok %d\n", i + 1);
    }
    cr_assert_eq(send(fd, text, size, MSG_NOSIGNAL), (ssize_t)size);
    step_many(&server, 10);
    cr_assert_eq(writer.rows, IMV_ILP_SYNCS_MAX);
    server.lazy = false;
    size_t got;
    char *answers = client_hear_all(&server, fd, expected_size, &got);
    cr_assert_eq(got, expected_size);
    cr_assert_eq(memcmp(answers, expected, got), 0);
    cr_assert_eq(writer.rows, COUNT);
    free(answers), free(text), free(expected);
    close(fd);
    server_stop(&server);
}

/* A client that asks and never reads is not read any more, and costs a bounded queue. */
BOTH(answers_that_nobody_reads) {
    struct server server;
    server_start(&server, epoll);
    int fd = client_connect(&server);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){4096}, sizeof(int));
    char text[6000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = "#sync\n"[i % 6];
    size_t sent = 0, at = 0;
    int refused = 0;
    while (refused < 200) {
        cr_assert_lt(sent, 200u << 20, "it goes on reading");
        ssize_t put = send(fd, text + at, sizeof text - at, MSG_NOSIGNAL);
        refused = put < 0 ? refused + 1 : 0;
        if (put > 0) {
            sent += (size_t)put;
            at = (at + (size_t)put) % sizeof text;
        }
        step(&server, put < 0 ? MS / 10 : 0);
    }
    cr_assert_leq(imv_budget_used(&server.budget), (1 << 20) + IMV_CONN_INPUT_BYTES + 65536);
    /* It goes on when they are read; a part shows it, for so small a window is slow. */
    enum { PART = 120000 };
    size_t got;
    char *answers = client_hear_all(&server, fd, PART, &got);
    cr_assert_eq(got, PART);
    cr_assert_gt(sent, PART);
    for (size_t i = 0; i < PART; i++) cr_assert_eq(answers[i], "#ok 0\n"[i % 6]);
    free(answers);
    close(fd);
    server_stop(&server);
}

/* After the client's end its last line without line feed is taken, pending answers go out, then the server closes. */
BOTH(half_close) {
    struct server server;
    server_start(&server, epoll);
    server.lazy = true;
    int fd = client_connect(&server);
    client_say(&server, fd, "a v=1i\n#sync\na v=2i\n#sync");
    shutdown(fd, SHUT_WR);
    STEP_UNTIL(&server, writer.rows == 2);
    step_many(&server, 5);
    cr_assert(!is_closed(&server, fd));
    writer.durable = 2;
    size_t size;
    char *answers = client_hear_all(&server, fd, 100, &size);
    cr_assert_str_eq(answers, "#ok 1\n#ok 2\n");
    free(answers);
    cr_assert(is_closed(&server, fd));
    close(fd);
    /* The same with nothing to answer, and with nothing sent at all. */
    const char *const texts[] = {"a v=4i", "a v=8i\n", ""};
    for (int i = 0; i < 3; i++) {
        fd = client_connect(&server);
        client_say(&server, fd, texts[i]);
        shutdown(fd, SHUT_WR);
        STEP_UNTIL(&server, is_closed(&server, fd));
        close(fd);
    }
    cr_assert_eq(writer.rows, 4);
    cr_assert_eq(writer.sum, 15);
    server_stop(&server);
}

/* The end arrives while the writer is full, with answers held back: everything is still taken and answered. */
BOTH(half_close_under_pressure) {
    struct server server;
    server_start(&server, epoll);
    writer.room = 1;
    int fd = client_connect(&server);
    for (int i = 0; i < 200; i++) client_say(&server, fd, "a v=1i\n#sync\n");
    client_say(&server, fd, "a v=1i");
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < 1000 && writer.rows < 201; i++) {
        writer.room = (uint64_t)i % 3;
        step(&server, MS / 10);
    }
    cr_assert_eq(writer.rows, 201);
    writer.room = 10;
    size_t size;
    char *answers = client_hear_all(&server, fd, 1 << 16, &size);
    cr_assert_eq(strncmp(answers, "#ok 1\n#ok 2\n", 12), 0);
    cr_assert_str_eq(answers + size - 8, "#ok 200\n");
    free(answers);
    close(fd);
    server_stop(&server);
}

/* A failed journal is told, on one line, to who asked and to who waits for room; the connection closes. */
BOTH(journal_failure) {
    struct server server;
    server_start(&server, epoll);
    server.lazy = true;
    const char *const expected = "#error the journal of shard 0?failed: No space left on device\n";
    int asking = client_connect(&server), waiting = client_connect(&server), late = client_connect(&server);
    client_say(&server, asking, "a v=1i\n#sync\na v=1i\n#sync\n");
    STEP_UNTIL(&server, writer.rows == 2);
    writer.room = 0;
    client_say(&server, waiting, "a v=1i\na v=1i\n");
    step_many(&server, 5);
    writer.failed = true;
    size_t size;
    char *answers = client_hear_all(&server, asking, 1000, &size);
    cr_assert_str_eq(answers, expected);
    free(answers);
    answers = client_hear_all(&server, waiting, 1000, &size);
    cr_assert_str_eq(answers, expected);
    free(answers);
    writer.room = 100;
    client_say(&server, late, "a v=1i\n#sync\na v=1i\na v=1i\n");
    answers = client_hear_all(&server, late, 1000, &size);
    cr_assert_str_eq(answers, expected);
    free(answers);
    close(asking), close(waiting), close(late);
    server_stop(&server);
}

/* Connections that go away with answers pending or while they wait leave nothing behind. */
BOTH(clients_vanish) {
    struct server server;
    server_start(&server, epoll);
    server.lazy = true;
    uint64_t seed = (uint64_t)now_ns();
    cr_log_info("seed %llu", (unsigned long long)seed);
    struct imv_prng prng;
    imv_prng_init(&prng, seed);
    for (int round = 0; round < 300; round++) {
        int fds[4];
        writer.room = imv_prng_below(&prng, 6);
        for (int i = 0; i < 4; i++) {
            fds[i] = client_connect(&server);
            int lines = (int)imv_prng_below(&prng, 8);
            for (int j = 0; j < lines; j++) {
                const char *line = imv_prng_below(&prng, 2) == 0 ? "#sync\n" : "a v=1i\n";
                send(fds[i], line, strlen(line), MSG_NOSIGNAL);
            }
            if (imv_prng_below(&prng, 3) == 0) shutdown(fds[i], SHUT_WR);
        }
        for (int i = 0; i < 4; i++) {
            step(&server, 0);
            if (imv_prng_below(&prng, 2) == 0) writer.durable = writer.rows;
            if (imv_prng_below(&prng, 2) == 0) writer.room += imv_prng_below(&prng, 6);
            if (imv_prng_below(&prng, 2) == 0)
                setsockopt(fds[i], SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
            close(fds[i]);
        }
    }
    writer.room = 1000000;
    writer.durable = UINT64_MAX;
    STEP_UNTIL(&server, imv_loop_connections_count(server.loop) == 0);
    int fd = client_connect(&server);
    client_say(&server, fd, "a v=1i\n#sync\n");
    cr_assert_str_eq(client_hear(&server, fd), "#ok 1\n");
    close(fd);
    server_stop(&server);
}

/* A line longer than the limit is refused once and its rest dropped; the connection goes on. */
BOTH(overlong_line) {
    struct server server;
    server_start(&server, epoll);
    int64_t rejected = imv_metric_value(IMV_METRIC_ingest_lines_rejected_total);
    int fd = client_connect(&server);
    char *text = malloc(1 << 20);
    memset(text, 'x', 1 << 20);
    client_write(&server, fd, text, 1 << 20);
    client_say(&server, fd, "\na v=1i\n#sync\n");
    cr_assert_str_eq(client_hear(&server, fd), "#ok 1\n");
    cr_assert_eq(imv_metric_value(IMV_METRIC_ingest_lines_rejected_total), rejected + 1);
    free(text);
    close(fd);
    server_stop(&server);
}
