#include "ingest/loop.h"

#include "storage/base/budget.h"
#include "storage/base/io.h"
#include "storage/base/log.h"
#include "storage/base/metrics.h"
#include "storage/base/prng.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Every test of behaviour runs on both back ends. */
#define BOTH(name)                                            \
    static void name(bool epoll);                             \
    Test(loop, name##_uring, .timeout = 120) { name(false); } \
    Test(loop, name##_epoll, .timeout = 120) { name(true); }  \
    static void name(bool epoll)

#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#elif defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

enum { MS = 1000 * 1000 };

/* ------------------------------------------------------------------------------------------------------ a server */

struct server {
    struct imv_loop *loop;
    struct imv_budget budget;
    struct imv_manual_clock manual;
    uint16_t port;
    struct imv_conn *conn; /* the last one opened */
    int opened, closed, ended, drained, data_calls;
    size_t bytes;
    char rest[64];
    void (*on_turn)(struct server *server);
    void (*on_closed)(struct server *server, struct imv_conn *conn);
};

static int64_t server_turn(void *context) {
    struct server *server = context;
    if (server->on_turn != NULL) server->on_turn(server);
    return INT64_MAX;
}

static imv_status count_open(struct imv_conn *conn, void *context) {
    struct server *server = context;
    server->opened++;
    server->conn = conn;
    imv_conn_set_state(conn, server);
    return IMV_OK;
}

static void count_closed(struct imv_conn *conn) {
    struct server *server = imv_conn_state(conn);
    server->closed++;
    if (server->on_closed != NULL) server->on_closed(server, conn);
    if (server->conn == conn) server->conn = NULL;
}

static void count_end(struct imv_conn *conn) {
    struct server *server = imv_conn_state(conn);
    server->ended++;
    imv_conn_close(conn);
}

static size_t swallow(struct imv_conn *conn, const char *bytes, size_t size) {
    (void)bytes;
    struct server *server = imv_conn_state(conn);
    server->data_calls++;
    server->bytes += size;
    return size;
}

static const struct imv_conn_handler swallow_handler = {
    .name = "swallow", .open = count_open, .data = swallow, .end = count_end, .closed = count_closed};

struct server_options {
    bool epoll, manual_clock;
    size_t budget_bytes; /* beyond the shared buffers; 0: 64 MiB */
    uint32_t connections_max;
    int64_t idle_ns, stall_ns;
};

enum { SHARED_BYTES = 64 * 16 * 1024 };

static void server_start(struct server *server, struct server_options options, const struct imv_conn_handler *handler) {
    struct imv_error err = {0};
    imv_log_set_level(IMV_LOG_ERROR);
    *server = (struct server){0};
    imv_budget_init(&server->budget, "connections",
                    SHARED_BYTES + (options.budget_bytes != 0 ? options.budget_bytes : 64u << 20));
    imv_manual_clock_init(&server->manual, 0);
    struct imv_loop_options loop_options = {
        .epoll = options.epoll,
        .budget = &server->budget,
        .connections_max = options.connections_max != 0 ? options.connections_max : 10000,
        .idle_ns = options.idle_ns,
        .stall_ns = options.stall_ns,
        .clock = options.manual_clock ? &server->manual.clock : imv_clock_system(),
        .turn = server_turn,
        .context = server,
    };
    cr_assert_eq(imv_loop_new(&loop_options, &server->loop, &err), IMV_OK, "%s", err.message);
    if (options.epoll) cr_assert_str_eq(imv_loop_backend(server->loop), "epoll");
    cr_assert_eq(imv_loop_listen(server->loop, "127.0.0.1", 0, handler, server, &server->port, &err), IMV_OK, "%s",
                 err.message);
    cr_assert_neq(server->port, 0);
    imv_loop_step(server->loop, 0, &err);
}

static void server_stop(struct server *server) {
    imv_loop_free(server->loop);
    cr_assert_eq(server->opened, server->closed, "opened %d, closed %d", server->opened, server->closed);
    cr_assert_eq(imv_budget_used(&server->budget), 0);
    imv_budget_release(&server->budget);
    cr_assert_eq(imv_metric_value(IMV_METRIC_connections), 0);
}

static void step(struct server *server, int64_t timeout_ns) {
    struct imv_error err = {0};
    cr_assert_eq(imv_loop_step(server->loop, timeout_ns, &err), IMV_OK, "%s", err.message);
}

static void step_many(struct server *server, int count) {
    for (int i = 0; i < count; i++) step(server, 0);
}

static int64_t now_ns(void) { return imv_clock_monotonic_ns(imv_clock_system()); }

/* Steps until the condition holds, at most ten seconds. */
#define STEP_UNTIL(server, condition)                                           \
    do {                                                                        \
        int64_t until_ns = now_ns() + INT64_C(10000) * MS;                      \
        while (!(condition)) {                                                  \
            cr_assert_lt(now_ns(), until_ns, "never happened: %s", #condition); \
            step(server, MS);                                                   \
        }                                                                       \
    } while (0)

/* ------------------------------------------------------------------------------------------------------- clients */

static int client_connect(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0, "connect: %s", strerror(errno));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Bytes written, 0 when the socket is full. */
static size_t client_write(int fd, const void *bytes, size_t size) {
    ssize_t put = send(fd, bytes, size, MSG_NOSIGNAL);
    if (put < 0) cr_assert_eq(errno, EAGAIN, "send: %s", strerror(errno));
    return put < 0 ? 0 : (size_t)put;
}

static void client_write_all(struct server *server, int fd, const char *bytes, size_t size) {
    while (size > 0) {
        size_t put = client_write(fd, bytes, size);
        bytes += put;
        size -= put;
        step(server, 0);
    }
}

/* Reads until the end, stepping the server; what comes is appended to out. Returns the size, or -1 after a reset. */
static ssize_t client_read_to_end(struct server *server, int fd, char *out, size_t size_max) {
    size_t size = 0;
    int64_t until_ns = now_ns() + INT64_C(10000) * MS;
    for (;;) {
        cr_assert_lt(now_ns(), until_ns, "no end after %zu bytes", size);
        ssize_t got = recv(fd, out + size, size_max - size, 0);
        if (got == 0) return (ssize_t)size;
        if (got > 0)
            size += (size_t)got;
        else if (errno == ECONNRESET)
            return -1;
        else
            step(server, MS);
    }
}

static bool client_is_closed(int fd) {
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

/* ---------------------------------------------------------------------------------------------------------- echo */

/* A message is a 32-bit size and so many bytes; the handler takes whole messages only and sends them back. */
static size_t echo_data(struct imv_conn *conn, const char *bytes, size_t size) {
    struct server *server = imv_conn_state(conn);
    server->data_calls++;
    size_t done = 0;
    while (size - done >= 4) {
        size_t message = 4 + imv_get_u32(bytes + done);
        if (size - done < message) break;
        imv_status status = imv_conn_send(conn, bytes + done, message);
        if (status == IMV_FULL) {
            imv_conn_pause(conn);
            break;
        }
        cr_assert_eq(status, IMV_OK);
        done += message;
    }
    return done;
}

static void echo_drained(struct imv_conn *conn) { imv_conn_resume(conn); }

static const struct imv_conn_handler echo_handler = {.name = "echo",
                                                     .open = count_open,
                                                     .data = echo_data,
                                                     .end = count_end,
                                                     .drained = echo_drained,
                                                     .closed = count_closed};

/* One client's stream, made up from its seed as it goes. */
struct echo_client {
    int fd;
    struct imv_prng prng;
    char *stream;
    size_t size, sent, received;
};

static void echo_client_init(struct echo_client *client, uint16_t port, uint64_t seed, size_t size_max) {
    *client = (struct echo_client){.fd = client_connect(port), .stream = malloc(size_max)};
    imv_prng_init(&client->prng, seed);
    for (;;) {
        /* Mostly small, some beyond a shared buffer, a few as large as is allowed. */
        uint64_t kind = imv_prng_below(&client->prng, 100);
        uint64_t max = kind < 80 ? 200 : kind < 97 ? 20000 : 256 * 1024 - 3;
        uint32_t size = (uint32_t)imv_prng_below(&client->prng, max);
        if (client->size + 4 + size > size_max) break;
        imv_put_u32(client->stream + client->size, size);
        for (uint32_t i = 0; i < size; i++) client->stream[client->size + 4 + i] = (char)imv_prng_next(&client->prng);
        client->size += 4 + size;
    }
}

static void echo_client_run(struct echo_client *client) {
    char buffer[65536];
    if (client->sent < client->size && imv_prng_below(&client->prng, 3) > 0) {
        size_t size = 1 + imv_prng_below(&client->prng, imv_prng_below(&client->prng, 4) == 0 ? 300000 : 1000);
        if (size > client->size - client->sent) size = client->size - client->sent;
        client->sent += client_write(client->fd, client->stream + client->sent, size);
    }
    if (imv_prng_below(&client->prng, 3) > 0) {
        ssize_t got = recv(client->fd, buffer, 1 + imv_prng_below(&client->prng, sizeof buffer), 0);
        if (got < 0) {
            cr_assert_eq(errno, EAGAIN, "recv: %s", strerror(errno));
            return;
        }
        cr_assert_neq(got, 0, "closed after %zu of %zu bytes", client->received, client->size);
        cr_assert_leq(client->received + (size_t)got, client->sent);
        cr_assert_eq(memcmp(buffer, client->stream + client->received, (size_t)got), 0, "at %zu", client->received);
        client->received += (size_t)got;
    }
}

/* Whatever pieces the bytes arrive in, the handler sees each once and in order, and what it sends arrives the same. */
BOTH(echo) {
    struct server server;
    uint64_t seed = (uint64_t)now_ns();
    cr_log_info("seed %llu", (unsigned long long)seed);
    server_start(&server, (struct server_options){.epoll = epoll}, &echo_handler);
    enum { CLIENTS = 20 };
    struct echo_client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) echo_client_init(&clients[i], server.port, seed + (uint64_t)i, 1 << 20);
    for (int left = CLIENTS; left > 0;) {
        left = 0;
        for (int i = 0; i < CLIENTS; i++) {
            echo_client_run(&clients[i]);
            left += clients[i].received < clients[i].size;
        }
        step(&server, 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        close(clients[i].fd);
        free(clients[i].stream);
    }
    STEP_UNTIL(&server, server.closed == CLIENTS);
    cr_assert_eq(server.ended, CLIENTS);
    server_stop(&server);
}

/* With a budget that holds hardly any buffer, connections wait for one another and all still get through. */
BOTH(echo_without_budget) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll, .budget_bytes = 300 * 1024}, &echo_handler);
    enum { CLIENTS = 12 };
    struct echo_client clients[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) echo_client_init(&clients[i], server.port, 77 + (uint64_t)i, 1 << 19);
    /* Sending a whole message before the next client does: a client that stops in the middle of one holds its buffer
     * until it is idle for too long, which is another test. */
    for (int i = 0; i < CLIENTS; i++) {
        int64_t until_ns = now_ns() + INT64_C(20000) * MS;
        while (clients[i].received < clients[i].size) {
            cr_assert_lt(now_ns(), until_ns, "stuck at %zu of %zu", clients[i].received, clients[i].size);
            echo_client_run(&clients[i]);
            step(&server, 0);
        }
    }
    cr_assert_leq(server.budget.bytes_peak, server.budget.bytes_max);
    for (int i = 0; i < CLIENTS; i++) {
        close(clients[i].fd);
        free(clients[i].stream);
    }
    server_stop(&server);
}

/* ------------------------------------------------------------------------------------------------------- sending */

enum { FLOOD_BYTES = 32 << 20 };

static char flood_byte(size_t at) { return (char)(at * 2654435761u >> 13); }

/* Sends FLOOD_BYTES in pieces, as fast as the queue takes them. */
static void flood(struct imv_conn *conn) {
    struct server *server = imv_conn_state(conn);
    static char piece[50001];
    while (server->bytes < FLOOD_BYTES) {
        size_t size = FLOOD_BYTES - server->bytes < sizeof piece ? FLOOD_BYTES - server->bytes : sizeof piece;
        for (size_t i = 0; i < size; i++) piece[i] = flood_byte(server->bytes + i);
        if (!imv_conn_may_send(conn, size)) return;
        cr_assert_eq(imv_conn_send(conn, piece, size), IMV_OK);
        server->bytes += size;
    }
    imv_conn_close(conn);
    cr_assert_eq(imv_conn_send(conn, "x", 1), IMV_CLOSED);
}

static size_t flood_data(struct imv_conn *conn, const char *bytes, size_t size) {
    (void)bytes;
    flood(conn);
    return size;
}

static void flood_drained(struct imv_conn *conn) {
    struct server *server = imv_conn_state(conn);
    server->drained++;
    cr_assert_eq(imv_conn_unsent(conn), 0);
    flood(conn);
}

static const struct imv_conn_handler flood_handler = {.name = "flood",
                                                      .open = count_open,
                                                      .data = flood_data,
                                                      .end = count_end,
                                                      .drained = flood_drained,
                                                      .closed = count_closed};

/* Output is queued up to its bound, refused beyond it, and all of it arrives when the reader reads. */
BOTH(slow_reader_is_waited_for) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &flood_handler);
    int fd = client_connect(server.port);
    client_write(fd, "go", 2);
    STEP_UNTIL(&server, server.bytes > 0);
    step_many(&server, 100);
    cr_assert_lt(server.bytes, FLOOD_BYTES, "the kernel took everything: the test shows nothing");
    cr_assert_leq(imv_conn_unsent(server.conn), IMV_CONN_OUTPUT_BYTES_MAX);
    cr_assert_gt(imv_conn_unsent(server.conn), 0);
    cr_assert_leq(imv_budget_used(&server.budget), SHARED_BYTES + IMV_CONN_OUTPUT_BYTES_MAX + (128 << 10));
    char *all = malloc(FLOOD_BYTES + 1);
    cr_assert_eq(client_read_to_end(&server, fd, all, FLOOD_BYTES + 1), FLOOD_BYTES);
    for (size_t i = 0; i < FLOOD_BYTES; i++) cr_assert_eq(all[i], flood_byte(i), "at %zu", i);
    cr_assert_gt(server.drained, 1);
    free(all);
    close(fd);
    STEP_UNTIL(&server, server.closed == 1);
    server_stop(&server);
}

static void count_drained(struct imv_conn *conn) {
    struct server *server = imv_conn_state(conn);
    server->drained++;
}

static const struct imv_conn_handler drained_handler = {.name = "drained",
                                                        .open = count_open,
                                                        .data = swallow,
                                                        .end = count_end,
                                                        .drained = count_drained,
                                                        .closed = count_closed};

/* drained is called when the queue was more than half full or a send was refused, and not for each small answer. */
BOTH(drained_is_called_when_it_matters) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &drained_handler);
    int fd = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 1);
    char *bytes = calloc(1, 4 << 20);
    const size_t max = IMV_CONN_OUTPUT_BYTES_MAX;
    cr_assert_eq(imv_conn_send(server.conn, bytes, max + 1), IMV_INVALID);
    cr_assert_eq(imv_conn_send(server.conn, bytes, 1000), IMV_OK);
    STEP_UNTIL(&server, (recv(fd, bytes, 4 << 20, 0), imv_conn_unsent(server.conn) == 0));
    step_many(&server, 3);
    cr_assert_eq(server.drained, 0);
    cr_assert_eq(imv_conn_send(server.conn, bytes, max / 2 + 1), IMV_OK);
    STEP_UNTIL(&server, (recv(fd, bytes, 4 << 20, 0), server.drained == 1));
    cr_assert_eq(imv_conn_send(server.conn, bytes, 1000), IMV_OK);
    cr_assert_eq(imv_conn_send(server.conn, bytes, max), IMV_FULL);
    STEP_UNTIL(&server, (recv(fd, bytes, 4 << 20, 0), server.drained == 2));
    cr_assert_eq(imv_conn_send(server.conn, bytes, max), IMV_OK);
    STEP_UNTIL(&server, (recv(fd, bytes, 4 << 20, 0), server.drained == 3));
    free(bytes);
    close(fd);
    server_stop(&server);
}

/* With the budget spent, a stream that asks queues little, and is still complete. */
BOTH(output_is_bounded_by_budget) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll, .budget_bytes = 100 * 1024}, &flood_handler);
    int fd = client_connect(server.port);
    client_write(fd, "go", 2);
    STEP_UNTIL(&server, server.bytes > 0);
    step_many(&server, 100);
    cr_assert_leq(imv_conn_unsent(server.conn), 100 * 1024 + IMV_CONN_OUTPUT_BYTES_FREE + 65536);
    char *all = malloc(FLOOD_BYTES + 1);
    cr_assert_eq(client_read_to_end(&server, fd, all, FLOOD_BYTES + 1), FLOOD_BYTES);
    for (size_t i = 0; i < FLOOD_BYTES; i++) cr_assert_eq(all[i], flood_byte(i), "at %zu", i);
    free(all);
    close(fd);
    STEP_UNTIL(&server, server.closed == 1);
    server_stop(&server);
}

/* An abort while output is queued and a send is under way closes once, without delay, and the peer sees a reset. */
BOTH(abort_with_output_under_way) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &flood_handler);
    int fd = client_connect(server.port);
    client_write(fd, "go", 2);
    STEP_UNTIL(&server, server.bytes > 0);
    step_many(&server, 20);
    cr_assert_gt(imv_conn_unsent(server.conn), 0);
    imv_conn_abort(server.conn);
    imv_conn_abort(server.conn);
    cr_assert_eq(server.closed, 0, "closed came within the call");
    cr_assert_eq(imv_conn_send(server.conn, "x", 1), IMV_CLOSED);
    STEP_UNTIL(&server, server.closed == 1);
    char *all = malloc(FLOOD_BYTES);
    cr_assert_eq(client_read_to_end(&server, fd, all, FLOOD_BYTES), -1);
    free(all);
    close(fd);
    server_stop(&server);
}

/* A loop is freed with receives, sends and closes of many connections under way. */
BOTH(free_with_work_under_way) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &flood_handler);
    int fds[30];
    for (int i = 0; i < 30; i++) {
        fds[i] = client_connect(server.port);
        if (i % 3 > 0) client_write(fds[i], "go", 2);
    }
    STEP_UNTIL(&server, server.opened == 30);
    step_many(&server, 5);
    client_write(fds[0], "go", 2);
    server_stop(&server);
    for (int i = 0; i < 30; i++) close(fds[i]);
}

/* A peer that goes away while its output is being sent ends its connection, nothing else. */
BOTH(peer_vanishes) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &flood_handler);
    int fd = client_connect(server.port);
    client_write(fd, "go", 2);
    STEP_UNTIL(&server, server.bytes > 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
    close(fd);
    STEP_UNTIL(&server, server.closed == 1);
    int other = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 2);
    close(other);
    server_stop(&server);
}

static size_t refuse_data(struct imv_conn *conn, const char *bytes, size_t size) {
    (void)bytes;
    struct server *server = imv_conn_state(conn);
    server->data_calls++;
    imv_conn_send(conn, "no, thanks", 10);
    imv_conn_close(conn);
    return size;
}

static const struct imv_conn_handler refuse_handler = {
    .name = "refuse", .open = count_open, .data = refuse_data, .end = count_end, .closed = count_closed};

/* What was sent before a close arrives although the peer goes on sending, and data is not called again. */
BOTH(close_delivers_the_last_words) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &refuse_handler);
    int fd = client_connect(server.port);
    char *bulk = calloc(1, 1 << 20), answer[100];
    client_write(fd, bulk, 1000);
    STEP_UNTIL(&server, server.data_calls > 0);
    client_write_all(&server, fd, bulk, 1 << 20);
    cr_assert_eq(client_read_to_end(&server, fd, answer, sizeof answer), 10);
    cr_assert_eq(memcmp(answer, "no, thanks", 10), 0);
    cr_assert_eq(server.data_calls, 1);
    close(fd);
    STEP_UNTIL(&server, server.closed == 1);
    free(bulk);
    server_stop(&server);
}

/* ------------------------------------------------------------------------------------------------------ receiving */

static size_t keep_all(struct imv_conn *conn, const char *bytes, size_t size) {
    (void)bytes;
    struct server *server = imv_conn_state(conn);
    server->data_calls++;
    server->bytes = size;
    return 0;
}

static void end_with_rest(struct imv_conn *conn) {
    struct server *server = imv_conn_state(conn);
    struct imv_str rest = imv_conn_rest(conn);
    server->ended++;
    snprintf(server->rest, sizeof server->rest, "%.*s", (int)rest.size, rest.data);
    imv_conn_send(conn, rest.data, rest.size);
    imv_conn_close(conn);
}

static const struct imv_conn_handler keep_handler = {
    .name = "keep", .open = count_open, .data = keep_all, .end = end_with_rest, .closed = count_closed};

/* After a half-close the handler sees what is left and can still answer. */
BOTH(half_close) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &keep_handler);
    int fd = client_connect(server.port);
    client_write(fd, "no line ", 8);
    STEP_UNTIL(&server, server.bytes == 8);
    client_write(fd, "feed", 4);
    shutdown(fd, SHUT_WR);
    char answer[100];
    cr_assert_eq(client_read_to_end(&server, fd, answer, sizeof answer), 12);
    cr_assert_str_eq(server.rest, "no line feed");
    STEP_UNTIL(&server, server.closed == 1);
    cr_assert_eq(server.ended, 1);
    close(fd);
    server_stop(&server);
}

static void resume_once(struct imv_conn *conn) {
    struct server *server = imv_conn_state(conn);
    if (server->ended++ == 0) imv_conn_resume(conn);
}

static size_t close_on_second(struct imv_conn *conn, const char *bytes, size_t size) {
    struct server *server = imv_conn_state(conn);
    server->data_calls++;
    snprintf(server->rest, sizeof server->rest, "%.*s", (int)size, bytes);
    if (server->ended == 0) return 0;
    imv_conn_close(conn);
    return size;
}

static const struct imv_conn_handler reoffer_handler = {
    .name = "reoffer", .open = count_open, .data = close_on_second, .end = resume_once, .closed = count_closed};

/* A resume in end offers the rest once more. */
BOTH(half_close_offers_the_rest_again) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &reoffer_handler);
    int fd = client_connect(server.port);
    client_write(fd, "tail", 4);
    shutdown(fd, SHUT_WR);
    STEP_UNTIL(&server, server.closed == 1);
    cr_assert_str_eq(server.rest, "tail");
    cr_assert_eq(server.data_calls, 2);
    close(fd);
    server_stop(&server);
}

/* A handler that takes nothing is cut at IMV_CONN_INPUT_BYTES. */
BOTH(input_is_bounded) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &keep_handler);
    int fd = client_connect(server.port);
    char *bulk = calloc(1, 1 << 20);
    for (int i = 0; i < 1000 && server.closed == 0; i++) {
        send(fd, bulk, 10000, MSG_NOSIGNAL | MSG_DONTWAIT);
        step(&server, 0);
        cr_assert_leq(server.bytes, IMV_CONN_INPUT_BYTES);
    }
    close(fd);
    STEP_UNTIL(&server, server.closed == 1);
    cr_assert_eq(server.bytes, IMV_CONN_INPUT_BYTES);
    free(bulk);
    server_stop(&server);
}

static size_t pause_data(struct imv_conn *conn, const char *bytes, size_t size) {
    (void)bytes;
    struct server *server = imv_conn_state(conn);
    server->data_calls++;
    imv_conn_pause(conn);
    size_t taken = size > 1000 ? 1000 : size;
    server->bytes += taken;
    return taken;
}

static const struct imv_conn_handler pause_handler = {
    .name = "pause", .open = count_open, .data = pause_data, .end = count_end, .closed = count_closed};

static void resume_turn(struct server *server) {
    if (server->conn != NULL) imv_conn_resume(server->conn);
}

/* A paused connection is not read beyond what was under way; after resumes all bytes come, the end last. */
BOTH(pause_and_resume) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &pause_handler);
    int fd = client_connect(server.port);
    char *bulk = calloc(1, 16 << 20);
    size_t sent = 0;
    for (int i = 0; i < 200; i++) {
        sent += client_write(fd, bulk, 100000);
        step(&server, 0);
    }
    cr_assert_eq(server.data_calls, 1);
    cr_assert_lt(sent, 16 << 20, "the peer's window never closed");
    shutdown(fd, SHUT_WR);
    step_many(&server, 10);
    cr_assert_eq(server.ended, 0);
    cr_assert_leq(imv_budget_used(&server.budget), SHARED_BYTES + 2 * IMV_CONN_INPUT_BYTES);
    server.on_turn = resume_turn;
    STEP_UNTIL(&server, server.closed == 1);
    cr_assert_eq(server.bytes, sent);
    cr_assert_eq(server.ended, 1);
    free(bulk);
    close(fd);
    server_stop(&server);
}

/* Buffers of bulk senders go back a second after their last byte: all when nothing is left, down to a page for a
 * part of a line. */
BOTH(idle_buffers_are_given_back) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll, .manual_clock = true}, &echo_handler);
    int fd = client_connect(server.port);
    char *message = calloc(1, 100004), *back = malloc(100004);
    imv_put_u32(message, 100000);
    client_write_all(&server, fd, message, 100004);
    for (size_t got = 0; got < 100004;) {
        ssize_t part = recv(fd, back, 100004, 0);
        if (part > 0) got += (size_t)part;
        step(&server, 0);
    }
    cr_assert_geq(imv_budget_used(&server.budget), SHARED_BYTES + IMV_CONN_INPUT_BYTES);
    imv_manual_clock_advance(&server.manual, INT64_C(1500) * MS);
    step_many(&server, 5);
    cr_assert_eq(imv_budget_used(&server.budget), SHARED_BYTES);

    client_write_all(&server, fd, message, 100004);
    client_write_all(&server, fd, message, 10);
    STEP_UNTIL(&server, (recv(fd, back, 100004, 0), imv_conn_rest(server.conn).size == 10));
    STEP_UNTIL(&server, (recv(fd, back, 100004, 0), imv_conn_unsent(server.conn) == 0));
    imv_manual_clock_advance(&server.manual, INT64_C(1500) * MS);
    step_many(&server, 5);
    cr_assert_eq(imv_budget_used(&server.budget), SHARED_BYTES + 4096);
    cr_assert_eq(imv_conn_rest(server.conn).size, 10);
    /* The receive that was taken back is asked for again. */
    client_write_all(&server, fd, message + 10, 100004 - 10);
    STEP_UNTIL(&server, (recv(fd, back, 100004, 0), imv_conn_rest(server.conn).size == 0));
    free(message);
    free(back);
    close(fd);
    server_stop(&server);
}

/* ------------------------------------------------------------------------------------------------- many connections */

static size_t rss_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;
    cr_assert_eq(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return (size_t)pages * 4096;
}

/* Thousands of idle connections that were active once hold no buffer and cost little memory. */
BOTH(idle_connections_are_cheap) {
    struct server server;
    enum { COUNT = SANITIZED ? 1000 : 5000 };
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 2 * COUNT + 100) cr_skip_test("the limit on open files is too low");
    server_start(&server, (struct server_options){.epoll = epoll, .idle_ns = INT64_C(3600000) * MS}, &swallow_handler);
    int *fds = calloc(COUNT, sizeof *fds);
    size_t before = rss_bytes();
    for (int i = 0; i < COUNT; i++) {
        fds[i] = client_connect(server.port);
        step(&server, 0);
    }
    STEP_UNTIL(&server, server.opened == COUNT);
    for (int i = 0; i < COUNT; i++) client_write(fds[i], "hello", 5);
    STEP_UNTIL(&server, server.bytes == 5 * COUNT);
    step_many(&server, 5);
    size_t per_connection = (rss_bytes() - before) / COUNT;
    cr_log_info("%s: %zu bytes of memory per idle connection", imv_loop_backend(server.loop), per_connection);
    if (!SANITIZED) cr_assert_lt(per_connection, 2048);
    cr_assert_eq(imv_budget_used(&server.budget), SHARED_BYTES);
    /* Idle connections cost no processor time either. */
    struct timespec cpu_before, cpu_after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_before);
    int64_t until_ns = now_ns() + INT64_C(300) * MS;
    int turns = 0;
    while (now_ns() < until_ns) {
        step(&server, until_ns - now_ns());
        turns++;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu_after);
    cr_assert_lt(turns, 20);
    cr_assert_lt((cpu_after.tv_sec - cpu_before.tv_sec) * 1000 + (cpu_after.tv_nsec - cpu_before.tv_nsec) / MS, 100);
    for (int i = 0; i < COUNT; i++) close(fds[i]);
    free(fds);
    STEP_UNTIL(&server, server.closed == COUNT);
    server_stop(&server);
}

/* More connections than shared buffers that all become readable at once are all served. */
BOTH(shared_buffers_run_out) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll}, &swallow_handler);
    enum { COUNT = 400 };
    int fds[COUNT];
    for (int i = 0; i < COUNT; i++) fds[i] = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == COUNT);
    step_many(&server, 3);
    for (int round = 1; round <= 20; round++) {
        for (int i = 0; i < COUNT; i++) client_write(fds[i], "0123456789", 10);
        STEP_UNTIL(&server, server.bytes == (size_t)round * 10 * COUNT);
    }
    for (int i = 0; i < COUNT; i++) close(fds[i]);
    STEP_UNTIL(&server, server.closed == COUNT);
    server_stop(&server);
}

/* One connection more than the limit is closed at once and counted. */
BOTH(connections_max) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll, .connections_max = 3}, &swallow_handler);
    int64_t rejected = imv_metric_value(IMV_METRIC_connections_rejected_total);
    int fds[4];
    for (int i = 0; i < 3; i++) fds[i] = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 3);
    fds[3] = client_connect(server.port);
    STEP_UNTIL(&server, client_is_closed(fds[3]));
    cr_assert_eq(imv_metric_value(IMV_METRIC_connections_rejected_total), rejected + 1);
    cr_assert_eq(imv_metric_value(IMV_METRIC_connections), 3);
    cr_assert_eq(imv_loop_connections_count(server.loop), 3);
    close(fds[0]);
    STEP_UNTIL(&server, server.closed == 1);
    fds[0] = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 4);
    for (int i = 0; i < 4; i++) close(fds[i]);
    server_stop(&server);
}

/* Connects from a process of its own, so that only the server runs out of descriptors. */
static pid_t storm(uint16_t port, int seconds) {
    pid_t child = fork();
    if (child != 0) return child;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    time_t end = time(NULL) + seconds;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    while (time(NULL) <= end) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) usleep(1000);
        close(fd);
    }
    _exit(0);
}

/* Out of file descriptors, the loop serves those it has, turns the others away and does not spin; then it recovers. */
BOTH(out_of_descriptors) {
    struct server server;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 256;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    server_start(&server, (struct server_options){.epoll = epoll}, &echo_handler);
    int old = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 1);
    int fillers[256], fillers_count = 0;
    while ((fillers[fillers_count] = dup(0)) >= 0) fillers_count++;
    int64_t rejected = imv_metric_value(IMV_METRIC_connections_rejected_total);
    pid_t child = storm(server.port, 1);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    int64_t until_ns = now_ns() + INT64_C(1000) * MS;
    int turns = 0, echoes = 0;
    bool asked = false;
    while (now_ns() < until_ns) {
        char answer[16];
        if (!asked) asked = client_write(old, "\4\0\0\0ping", 8) == 8;
        step(&server, 20 * MS);
        turns++;
        if (recv(old, answer, sizeof answer, 0) == 8) {
            asked = false;
            echoes++;
            usleep(20000);
        }
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    int64_t cpu_ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / MS;
    int64_t refused = imv_metric_value(IMV_METRIC_connections_rejected_total) - rejected;
    cr_log_info("turns %d, echoes %d, refused %lld, processor %lld ms", turns, echoes, (long long)refused,
                (long long)cpu_ms);
    cr_assert_gt(echoes, 10);
    cr_assert_lt(turns, 1000);
    cr_assert_lt(cpu_ms, SANITIZED ? 500 : 200);
    cr_assert_gt(refused, 0);
    cr_assert_eq(server.opened, 1);
    kill(child, SIGKILL);
    while (fillers_count > 0) close(fillers[--fillers_count]);
    int fresh = client_connect(server.port);
    STEP_UNTIL(&server, server.opened >= 2);
    close(fresh);
    close(old);
    server_stop(&server);
}

/* ---------------------------------------------------------------------------------------------------- deadlines */

/* A connection without traffic is closed after its idle time; traffic, a pause or an own value of 0 keep it. */
BOTH(idle_time_out) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll, .manual_clock = true, .idle_ns = INT64_C(60000) * MS},
                 &swallow_handler);
    int64_t timed_out = imv_metric_value(IMV_METRIC_connections_timed_out_total);
    int busy = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 1);
    int paused = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 2);
    struct imv_conn *paused_conn = server.conn;
    imv_conn_pause(paused_conn);
    int forever = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 3);
    imv_conn_set_idle(server.conn, 0);
    int shorter = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 4);
    imv_conn_set_idle(server.conn, INT64_C(10000) * MS);
    int idle = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 5);
    for (int second = 0; second < 59; second++) {
        imv_manual_clock_advance(&server.manual, INT64_C(1000) * MS);
        if (second % 20 == 0) {
            client_write(busy, "x", 1);
            STEP_UNTIL(&server, server.bytes == (size_t)second / 20 + 1);
        }
        step_many(&server, 3);
        if (second == 8) cr_assert_eq(server.closed, 0);
        if (second == 11) cr_assert_eq(server.closed, 1);
    }
    cr_assert_eq(server.closed, 1);
    cr_assert(client_is_closed(shorter));
    imv_manual_clock_advance(&server.manual, INT64_C(1200) * MS);
    step_many(&server, 5);
    cr_assert_eq(server.closed, 2);
    cr_assert(client_is_closed(idle));
    imv_manual_clock_advance(&server.manual, INT64_C(200000) * MS);
    step_many(&server, 5);
    cr_assert_eq(server.closed, 3);
    cr_assert(client_is_closed(busy));
    cr_assert(!client_is_closed(forever));
    imv_conn_resume(paused_conn);
    step_many(&server, 5);
    cr_assert_eq(server.closed, 3, "the idle time starts at the resume");
    imv_manual_clock_advance(&server.manual, INT64_C(61000) * MS);
    step_many(&server, 5);
    cr_assert_eq(server.closed, 4);
    cr_assert_eq(imv_metric_value(IMV_METRIC_connections_timed_out_total), timed_out + 4);
    close(busy), close(idle), close(paused), close(forever), close(shorter);
    server_stop(&server);
}

/* A peer that takes nothing of its output is cut after the stall time; one that takes a little each time is not. */
BOTH(stall_time_out) {
    struct server server;
    server_start(&server,
                 (struct server_options){.epoll = epoll, .manual_clock = true, .stall_ns = INT64_C(10000) * MS},
                 &flood_handler);
    int64_t timed_out = imv_metric_value(IMV_METRIC_connections_timed_out_total);
    int fd = client_connect(server.port);
    client_write(fd, "go", 2);
    STEP_UNTIL(&server, server.bytes > 0);
    step_many(&server, 20);
    char *some = malloc(1 << 20);
    for (int i = 0; i < 5; i++) {
        imv_manual_clock_advance(&server.manual, INT64_C(9000) * MS);
        size_t unsent = imv_conn_unsent(server.conn);
        STEP_UNTIL(&server, (recv(fd, some, 1 << 20, 0), imv_conn_unsent(server.conn) < unsent || server.drained > 0));
        step_many(&server, 20);
        cr_assert_eq(server.closed, 0);
    }
    STEP_UNTIL(&server, (imv_manual_clock_advance(&server.manual, INT64_C(1000) * MS), server.closed == 1));
    cr_assert_eq(imv_metric_value(IMV_METRIC_connections_timed_out_total), timed_out + 1);
    free(some);
    close(fd);
    server_stop(&server);
}

/* A peer that neither reads the end nor closes is cut two seconds after the last byte was sent. */
BOTH(linger_time_out) {
    struct server server;
    server_start(&server, (struct server_options){.epoll = epoll, .manual_clock = true}, &refuse_handler);
    int fd = client_connect(server.port);
    client_write(fd, "x", 1);
    STEP_UNTIL(&server, server.data_calls == 1);
    step_many(&server, 10);
    cr_assert_eq(server.closed, 0);
    imv_manual_clock_advance(&server.manual, INT64_C(2100) * MS);
    step_many(&server, 5);
    cr_assert_eq(server.closed, 1);
    close(fd);
    server_stop(&server);
}

static int64_t turn_in_30_ms(void *context) {
    int *turns = context;
    ++*turns;
    return now_ns() + 30 * MS;
}

/* The loop calls turn again when turn asked for it, and not before. */
BOTH(turn_bounds_the_sleep) {
    int turns = 0;
    struct imv_loop *loop;
    struct imv_error err = {0};
    struct imv_loop_options options = {
        .epoll = epoll, .clock = imv_clock_system(), .turn = turn_in_30_ms, .context = &turns};
    cr_assert_eq(imv_loop_new(&options, &loop, &err), IMV_OK, "%s", err.message);
    cr_assert_eq(imv_loop_step(loop, 0, &err), IMV_OK);
    int64_t start = now_ns();
    for (int i = 0; i < 5; i++) cr_assert_eq(imv_loop_step(loop, -1, &err), IMV_OK);
    cr_assert_geq(now_ns() - start, INT64_C(140) * MS);
    cr_assert_lt(now_ns() - start, INT64_C(1000) * MS);
    cr_assert_eq(turns, 6);
    imv_loop_free(loop);
}

/* ------------------------------------------------------------------------------------------------------ listeners */

/* An address in use, by another loop of index 0 or by anybody, is IMV_BUSY; nonsense is IMV_INVALID. */
BOTH(listen_errors) {
    struct server server;
    struct imv_error err = {0};
    uint16_t port;
    server_start(&server, (struct server_options){.epoll = epoll}, &swallow_handler);
    struct imv_loop *other;
    struct imv_loop_options options = {.epoll = epoll, .clock = imv_clock_system(), .connections_max = 10};
    cr_assert_eq(imv_loop_new(&options, &other, &err), IMV_OK);
    cr_assert_eq(imv_loop_listen(other, "127.0.0.1", server.port, &swallow_handler, &server, &port, &err), IMV_BUSY);
    cr_assert_not_null(strstr(err.message, "127.0.0.1"));
    cr_assert_eq(imv_loop_listen(other, "localhost", 0, &swallow_handler, &server, &port, &err), IMV_INVALID);
    cr_assert_eq(imv_loop_listen(other, "203.0.113.1", 0, &swallow_handler, &server, &port, &err), IMV_IO);
    imv_loop_free(other);
    options.index = 1;
    cr_assert_eq(imv_loop_new(&options, &other, &err), IMV_OK);
    cr_assert_eq(imv_loop_listen(other, "127.0.0.1", server.port, &swallow_handler, &server, &port, &err), IMV_OK, "%s",
                 err.message);
    cr_assert_eq(port, server.port);
    imv_loop_free(other);
    server_stop(&server);
}

/* After imv_loop_stop_listening connects are refused, open connections go on, and listening again works. */
BOTH(stop_listening) {
    struct server server;
    struct imv_error err = {0};
    server_start(&server, (struct server_options){.epoll = epoll}, &swallow_handler);
    int fd = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 1);
    imv_loop_stop_listening(server.loop);
    step_many(&server, 5);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(server.port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int late = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_neq(connect(late, (struct sockaddr *)&address, sizeof address), 0);
    close(late);
    client_write(fd, "still here", 10);
    STEP_UNTIL(&server, server.bytes == 10);
    cr_assert_eq(imv_loop_listen(server.loop, "127.0.0.1", server.port, &swallow_handler, &server, &server.port, &err),
                 IMV_OK, "%s", err.message);
    step(&server, 0);
    late = client_connect(server.port);
    STEP_UNTIL(&server, server.opened == 2);
    close(late);
    close(fd);
    server_stop(&server);
}

/* IPv6 works, and the peer's name says so. */
BOTH(ipv6) {
    struct server server;
    struct imv_error err = {0};
    uint16_t port;
    server_start(&server, (struct server_options){.epoll = epoll}, &swallow_handler);
    if (imv_loop_listen(server.loop, "::1", 0, &swallow_handler, &server, &port, &err) != IMV_OK) {
        server_stop(&server);
        cr_skip_test("no IPv6 here");
    }
    step(&server, 0);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    STEP_UNTIL(&server, server.opened == 1);
    cr_assert_eq(strncmp(imv_conn_peer(server.conn), "[::1]:", 6), 0, "%s", imv_conn_peer(server.conn));
    close(fd);
    server_stop(&server);
}

/* ------------------------------------------------------------------------------------------------- threads,
 * messages */

struct worker {
    pthread_t thread;
    uint32_t index;
    bool epoll;
    struct imv_loop **loops;
    pthread_barrier_t *barrier;
    uint16_t *port;
};

/* Which loop a connection landed on is told by where open ran. */
static imv_status spread_open(struct imv_conn *conn, void *context) {
    (void)context;
    static _Thread_local struct server mine;
    mine.opened++;
    imv_conn_set_state(conn, &mine);
    char index = (char)('0' + imv_loop_index(imv_conn_loop(conn)));
    imv_conn_send(conn, &index, 1);
    return IMV_OK;
}

static const struct imv_conn_handler spread_handler = {.name = "spread",
                                                       .open = spread_open,
                                                       .data = echo_data,
                                                       .end = count_end,
                                                       .drained = echo_drained,
                                                       .closed = count_closed};

static void *spread_main(void *argument) {
    struct worker *worker = argument;
    struct imv_error err = {0};
    struct imv_loop_options options = {
        .index = worker->index, .epoll = worker->epoll, .connections_max = 1000, .clock = imv_clock_system()};
    struct imv_loop **mine = &worker->loops[worker->index];
    cr_assert_eq(imv_loop_new(&options, mine, &err), IMV_OK, "%s", err.message);
    imv_loop_set_peers(*mine, worker->loops, 2);
    pthread_barrier_wait(worker->barrier);
    for (uint32_t i = 0; i < 2; i++) { /* the first one first: it finds the port */
        uint16_t port;
        if (i == worker->index) {
            cr_assert_eq(imv_loop_listen(*mine, "127.0.0.1", *worker->port, &spread_handler, NULL, &port, &err), IMV_OK,
                         "%s", err.message);
            *worker->port = port;
        }
        pthread_barrier_wait(worker->barrier);
    }
    cr_assert_eq(imv_loop_run(*mine, &err), IMV_OK, "%s", err.message);
    imv_loop_stop_listening(*mine);
    pthread_barrier_wait(worker->barrier);
    imv_loop_free(*mine);
    return NULL;
}

/* Connections are spread evenly over two loops on two threads, whatever the kernel chose, and echo on both. */
BOTH(connections_are_spread) {
    imv_log_set_level(IMV_LOG_ERROR);
    struct imv_loop *loops[2] = {NULL, NULL};
    struct worker workers[2] = {0};
    pthread_barrier_t barrier;
    uint16_t port = 0;
    pthread_barrier_init(&barrier, NULL, 3);
    for (uint32_t i = 0; i < 2; i++) {
        workers[i] = (struct worker){.index = i, .epoll = epoll, .loops = loops, .barrier = &barrier, .port = &port};
        pthread_create(&workers[i].thread, NULL, spread_main, &workers[i]);
    }
    for (int i = 0; i < 3; i++) pthread_barrier_wait(&barrier);
    enum { COUNT = 40 };
    struct echo_client clients[COUNT];
    int counts[2] = {0, 0};
    for (int i = 0; i < COUNT; i++) {
        echo_client_init(&clients[i], port, 5000 + (uint64_t)i, 1 << 17);
        fcntl(clients[i].fd, F_SETFL, 0);
        char index;
        cr_assert_eq(recv(clients[i].fd, &index, 1, 0), 1);
        counts[index - '0']++;
        fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
    }
    cr_assert_eq(counts[0], COUNT / 2, "%d and %d", counts[0], counts[1]);
    for (int left = COUNT; left > 0;) {
        left = 0;
        for (int i = 0; i < COUNT; i++) {
            echo_client_run(&clients[i]);
            left += clients[i].received < clients[i].size;
        }
    }
    for (int i = 0; i < COUNT; i++) {
        if (i % 2 == 0) close(clients[i].fd);
        free(clients[i].stream);
    }
    for (int i = 0; i < 2; i++) imv_loop_stop(loops[i]);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++) pthread_join(workers[i].thread, NULL);
    for (int i = 1; i < COUNT; i += 2) close(clients[i].fd);
    pthread_barrier_destroy(&barrier);
    cr_assert_eq(imv_metric_value(IMV_METRIC_connections), 0);
}

enum { POSTERS = 3, POSTS = 20000 };

struct post {
    struct imv_loop_message message; /* first */
    int poster, number;
};

static int post_next[POSTERS];
static int posts_left = POSTERS * POSTS;
static struct imv_loop *post_loop;

static void post_run(struct imv_loop_message *message) {
    struct post *post = (struct post *)message;
    cr_assert_eq(post->number, post_next[post->poster]);
    post_next[post->poster]++;
    if (--posts_left == 0) imv_loop_stop(post_loop);
}

static void *post_main(void *argument) {
    struct post *posts = argument;
    for (int i = 0; i < POSTS; i++) {
        imv_loop_post(post_loop, &posts[i].message);
        /* Now and then let the loop fall asleep, to meet it on its way there. */
        if (i % 64 == 0) sched_yield();
        if (i % 1024 == 0) usleep(200);
    }
    return NULL;
}

/* Messages from several threads run once each, in the order of their thread; none is lost while the loop falls
 * asleep. */
BOTH(messages) {
    struct imv_error err = {0};
    struct imv_loop_options options = {.epoll = epoll, .clock = imv_clock_system()};
    cr_assert_eq(imv_loop_new(&options, &post_loop, &err), IMV_OK);
    struct post *posts[POSTERS];
    pthread_t threads[POSTERS];
    for (int i = 0; i < POSTERS; i++) {
        posts[i] = calloc(POSTS, sizeof *posts[i]);
        for (int j = 0; j < POSTS; j++) posts[i][j] = (struct post){{.run = post_run}, i, j};
        pthread_create(&threads[i], NULL, post_main, posts[i]);
    }
    cr_assert_eq(imv_loop_run(post_loop, &err), IMV_OK);
    for (int i = 0; i < POSTERS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(post_next[i], POSTS);
        free(posts[i]);
    }
    imv_loop_free(post_loop);
}

static int run_count;
static void count_run(struct imv_loop_message *message) {
    (void)message;
    run_count++;
}

/* A message that is still queued when the loop is freed is run by then. */
BOTH(messages_at_the_end) {
    struct imv_error err = {0};
    struct imv_loop *loop;
    struct imv_loop_options options = {.epoll = epoll, .clock = imv_clock_system()};
    cr_assert_eq(imv_loop_new(&options, &loop, &err), IMV_OK);
    struct imv_loop_message message = {.run = count_run};
    imv_loop_post(loop, &message);
    imv_loop_free(loop);
    cr_assert_eq(run_count, 1);
}

static _Atomic int wakes_seen;
static int64_t count_turn(void *context) {
    (void)context;
    wakes_seen++;
    return INT64_MAX;
}

static void *wake_main(void *argument) {
    struct imv_loop *loop = argument;
    for (int i = 0; i < 2000; i++) {
        int before = wakes_seen;
        imv_loop_wake(loop);
        int64_t until_ns = now_ns() + INT64_C(5000) * MS;
        while (wakes_seen == before) {
            cr_assert_lt(now_ns(), until_ns, "wake %d was lost", i);
            sched_yield();
        }
    }
    imv_loop_stop(loop);
    return NULL;
}

/* Every wake is followed by a call of turn, whether the loop slept, ran or was between the two. */
BOTH(wakes) {
    struct imv_error err = {0};
    struct imv_loop *loop;
    struct imv_loop_options options = {.epoll = epoll, .clock = imv_clock_system(), .turn = count_turn};
    cr_assert_eq(imv_loop_new(&options, &loop, &err), IMV_OK);
    pthread_t thread;
    pthread_create(&thread, NULL, wake_main, loop);
    cr_assert_eq(imv_loop_run(loop, &err), IMV_OK);
    pthread_join(thread, NULL);
    imv_loop_free(loop);
}

static struct imv_loop *self_loop;
static int64_t wake_self(void *context) {
    int *turns = context;
    if (++*turns < 5)
        imv_loop_wake(self_loop);
    else
        imv_loop_stop(self_loop);
    return INT64_MAX;
}

/* A wake while the loop runs keeps it from falling asleep. */
BOTH(wake_before_the_sleep) {
    struct imv_error err = {0};
    int turns = 0;
    struct imv_loop_options options = {
        .epoll = epoll, .clock = imv_clock_system(), .turn = wake_self, .context = &turns};
    cr_assert_eq(imv_loop_new(&options, &self_loop, &err), IMV_OK);
    imv_loop_wake(self_loop);
    cr_assert_eq(imv_loop_run(self_loop, &err), IMV_OK);
    cr_assert_eq(turns, 5);
    imv_loop_free(self_loop);
}

static struct imv_loop *signal_loop;
static void stop_on_signal(int number) {
    (void)number;
    imv_loop_stop(signal_loop);
}

/* A signal handler can stop a loop that sleeps without a deadline. */
BOTH(stop_from_a_signal) {
    struct imv_error err = {0};
    struct imv_loop_options options = {.epoll = epoll, .clock = imv_clock_system()};
    cr_assert_eq(imv_loop_new(&options, &signal_loop, &err), IMV_OK);
    signal(SIGALRM, stop_on_signal);
    ualarm(50000, 0);
    cr_assert_eq(imv_loop_run(signal_loop, &err), IMV_OK);
    imv_loop_stop(signal_loop);
    cr_assert_eq(imv_loop_run(signal_loop, &err), IMV_OK, "a stop before the run counts too");
    imv_loop_free(signal_loop);
}

/* ------------------------------------------------------------------------------------------------------------ files */

struct file_test {
    struct imv_io_write write;
    struct imv_loop *loop;
    int done, error_number, left;
};

static void file_done(struct imv_io_write *write, int error_number) {
    struct file_test *test = write->context;
    test->done++;
    test->error_number |= error_number;
    if (--test->left > 0)
        imv_io_submit(imv_loop_io(test->loop), write);
    else
        imv_loop_stop(test->loop);
}

/* Asynchronous writes complete inside imv_loop_run, also when nothing else happens. */
BOTH(files) {
    struct imv_error err = {0};
    struct file_test test = {.left = 5};
    struct imv_loop_options options = {.epoll = epoll, .clock = imv_clock_system()};
    cr_assert_eq(imv_loop_new(&options, &test.loop, &err), IMV_OK);
    char path[] = "/tmp/imv_loop_XXXXXX";
    close(mkstemp(path));
    struct imv_io *io = imv_loop_io(test.loop);
    test.write = (struct imv_io_write){.data = "hello", .size = 5, .done = file_done, .context = &test};
    cr_assert_eq(imv_file_open(io, path, IMV_OPEN_WRITE, &test.write.file, &err), IMV_OK);
    imv_io_submit(io, &test.write);
    cr_assert_eq(imv_loop_run(test.loop, &err), IMV_OK);
    cr_assert_eq(test.done, 5);
    cr_assert_eq(test.error_number, 0);
    imv_file_close(test.write.file);
    imv_loop_free(test.loop);
    unlink(path);
}

/* ------------------------------------------------------------------------------------------------- random
 * operations */

/* A handler that does at random whatever a handler may do. What holds: each open is followed by one closed, bytes
 * arrive in order, and nothing is left at the end; the sanitizers see the rest. */
static struct imv_prng chaos_prng;
enum { CHAOS_CONNS = 24 };
static struct imv_conn *chaos_conns[CHAOS_CONNS];

struct chaos {
    struct server *server;
    size_t received; /* bytes consumed: the stream counts up */
};

static void chaos_act(struct imv_conn *conn) {
    static const char bytes[200000];
    switch (imv_prng_below(&chaos_prng, 24)) {
        case 0: imv_conn_close(conn); break;
        case 1: imv_conn_abort(conn); break;
        case 2: imv_conn_pause(conn); break;
        case 3:
        case 4:
        case 5:
        case 6: imv_conn_resume(conn); break;
        case 7: imv_conn_send(conn, bytes, imv_prng_below(&chaos_prng, sizeof bytes)); break;
        case 8:
        case 9: imv_conn_send(conn, bytes, imv_prng_below(&chaos_prng, 100)); break;
        case 10: imv_conn_set_idle(conn, (int64_t)imv_prng_below(&chaos_prng, 20000) * MS); break;
        default: break;
    }
}

static void chaos_act_any(void) {
    struct imv_conn *conn = chaos_conns[imv_prng_below(&chaos_prng, CHAOS_CONNS)];
    if (conn != NULL) chaos_act(conn);
}

static imv_status chaos_open(struct imv_conn *conn, void *context) {
    if (imv_prng_below(&chaos_prng, 10) == 0) return IMV_FULL;
    struct chaos *chaos = calloc(1, sizeof *chaos);
    chaos->server = context;
    chaos->server->opened++;
    imv_conn_set_state(conn, chaos);
    for (int i = 0; i < CHAOS_CONNS; i++) {
        if (chaos_conns[i] != NULL) continue;
        chaos_conns[i] = conn;
        break;
    }
    chaos_act(conn);
    return IMV_OK;
}

static size_t chaos_data(struct imv_conn *conn, const char *bytes, size_t size) {
    struct chaos *chaos = imv_conn_state(conn);
    size_t taken = imv_prng_below(&chaos_prng, 3) == 0 ? imv_prng_below(&chaos_prng, size + 1) : size;
    for (size_t i = 0; i < taken; i++) {
        cr_assert_eq((unsigned char)bytes[i], (chaos->received + i) % 251, "at %zu", chaos->received + i);
    }
    chaos->received += taken;
    chaos_act(conn);
    chaos_act_any();
    return taken;
}

static void chaos_end(struct imv_conn *conn) {
    chaos_act(conn);
    chaos_act_any();
    if (imv_prng_below(&chaos_prng, 2) == 0) imv_conn_close(conn);
}

static void chaos_drained(struct imv_conn *conn) {
    cr_assert_eq(imv_conn_unsent(conn), 0);
    chaos_act(conn);
}

static void chaos_closed(struct imv_conn *conn) {
    struct chaos *chaos = imv_conn_state(conn);
    chaos->server->closed++;
    for (int i = 0; i < CHAOS_CONNS; i++) {
        if (chaos_conns[i] == conn) chaos_conns[i] = NULL;
    }
    free(chaos);
}

static const struct imv_conn_handler chaos_handler = {.name = "chaos",
                                                      .open = chaos_open,
                                                      .data = chaos_data,
                                                      .end = chaos_end,
                                                      .drained = chaos_drained,
                                                      .closed = chaos_closed};

static void chaos_turn(struct server *server) {
    (void)server;
    chaos_act_any();
    chaos_act_any();
}

BOTH(random_operations) {
    struct server server;
    uint64_t seed = (uint64_t)now_ns();
    cr_log_info("seed %llu", (unsigned long long)seed);
    imv_prng_init(&chaos_prng, seed);
    server_start(&server,
                 (struct server_options){.epoll = epoll,
                                         .manual_clock = true,
                                         .budget_bytes = 1 << 20,
                                         .idle_ns = INT64_C(20000) * MS,
                                         .stall_ns = INT64_C(20000) * MS,
                                         .connections_max = CHAOS_CONNS - 4},
                 &chaos_handler);
    server.on_turn = chaos_turn;
    struct {
        int fd;
        size_t sent;
    } clients[CHAOS_CONNS];
    for (int i = 0; i < CHAOS_CONNS; i++) clients[i].fd = -1;
    static char stream[251 + 400000], sink[400000];
    for (size_t i = 0; i < sizeof stream; i++) stream[i] = (char)(i % 251);
    struct imv_prng prng;
    imv_prng_init(&prng, seed + 1);
    for (int round = 0; round < (SANITIZED ? 15000 : 40000); round++) {
        int i = (int)imv_prng_below(&prng, CHAOS_CONNS);
        uint64_t action = imv_prng_below(&prng, 100);
        if (clients[i].fd < 0) {
            clients[i].fd = client_connect(server.port);
            clients[i].sent = 0;
        } else if (action < 50) {
            size_t size = imv_prng_below(&prng, imv_prng_below(&prng, 8) == 0 ? 400000 : 500);
            ssize_t put = send(clients[i].fd, stream + clients[i].sent % 251, size, MSG_NOSIGNAL);
            if (put > 0) clients[i].sent += (size_t)put;
        } else if (action < 90) {
            recv(clients[i].fd, sink, imv_prng_below(&prng, sizeof sink), 0);
        } else if (action < 94) {
            shutdown(clients[i].fd, SHUT_WR);
        } else if (action < 96) {
            setsockopt(clients[i].fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger));
            close(clients[i].fd);
            clients[i].fd = -1;
        } else if (action < 99) {
            close(clients[i].fd);
            clients[i].fd = -1;
        }
        if (imv_prng_below(&prng, 20) == 0) {
            imv_manual_clock_advance(&server.manual, (int64_t)imv_prng_below(&prng, 1000) * MS);
        }
        step(&server, 0);
    }
    cr_assert_gt(server.opened, 20);
    server_stop(&server);
    for (int i = 0; i < CHAOS_CONNS; i++) {
        if (clients[i].fd >= 0) close(clients[i].fd);
    }
}
