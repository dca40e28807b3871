/* The blocking client against a peer that says exactly what each test wants. */
#include "connectors/cli/client.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the peer does with each request, in order: NULL closes without a reply; a text that starts with `!` is sent
 * without it, and the connection is closed behind it. */
struct peer {
    int listener;
    uint16_t port;
    const char *const *replies;
    size_t replies_count;
    char requests[65536]; /* heads and bodies as they came */
    int connections;
    pthread_t thread;
};

/* One request: its head and as much body as it says. False at the end of the connection. */
static bool read_request(struct peer *peer, int fd) {
    size_t start = strlen(peer->requests), used = start, body = 0;
    const char *end = NULL;
    while (end == NULL || used < (size_t)(end - peer->requests) + 4 + body) {
        ssize_t got = recv(fd, peer->requests + used, sizeof peer->requests - 1 - used, 0);
        if (got <= 0) return false;
        used += (size_t)got;
        peer->requests[used] = 0;
        end = strstr(peer->requests + start, "\r\n\r\n");
        const char *length = end == NULL ? NULL : strstr(peer->requests + start, "Content-Length: ");
        body = length == NULL ? 0 : strtoul(length + 16, NULL, 10);
    }
    return true;
}

static void *serve(void *argument) {
    struct peer *peer = argument;
    for (size_t i = 0; i < peer->replies_count;) {
        int fd = accept(peer->listener, NULL, NULL);
        peer->connections++;
        while (i < peer->replies_count && read_request(peer, fd)) {
            const char *reply = peer->replies[i++];
            if (reply == NULL) break;
            const char *text = reply[0] == '!' ? reply + 1 : reply;
            for (const char *at = text; *at != 0; at++) send(fd, at, 1, MSG_NOSIGNAL); /* in as many pieces as can be */
            if (reply[0] == '!') break;
        }
        close(fd);
    }
    return NULL;
}

static void peer_start(struct peer *peer, const char *const *replies, size_t count) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    *peer = (struct peer){.replies = replies, .replies_count = count};
    peer->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(peer->listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(peer->listener, 8), 0);
    getsockname(peer->listener, (struct sockaddr *)&address, &size);
    peer->port = ntohs(address.sin_port);
    cr_assert_eq(pthread_create(&peer->thread, NULL, serve, peer), 0);
}

static void peer_stop(struct peer *peer) {
    pthread_join(peer->thread, NULL);
    close(peer->listener);
}

static struct imv_client *client_of(uint16_t port) {
    char url[64];
    struct imv_client *client;
    struct imv_error err;
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    cr_assert_eq(imv_client_new(url, &client, &err), IMV_OK, "%s", err.message);
    return client;
}

static imv_status get(struct imv_client *client, struct imv_buffer *body, int *status, struct imv_error *err) {
    imv_buffer_reset(body);
    struct imv_client_request request = {.method = "GET", .path = "/x", .receive = imv_client_collect, .context = body};
    return imv_client_send(client, &request, status, err);
}

static bool is(const struct imv_buffer *body, const char *text) {
    return body->size == strlen(text) && memcmp(body->data == NULL ? "" : body->data, text, body->size) == 0;
}

TestSuite(client, .timeout = 30);

/* Replies of every framing are read to their end, on one connection as long as it is kept. */
Test(client, replies_of_every_framing_are_read) {
    static const char *const replies[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad",
        "!HTTP/1.0 200 OK\r\n\r\nup to the end",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"};
    static const struct {
        int status;
        const char *body;
    } wanted[] = {{200, "hello"}, {200, "abcde"}, {204, ""}, {400, "bad"}, {200, "up to the end"}, {200, ""}};
    struct peer peer;
    peer_start(&peer, replies, 6);
    struct imv_client *client = client_of(peer.port);
    struct imv_buffer body;
    struct imv_error err = {0};
    int status;
    imv_buffer_init(&body, 4096);
    for (size_t i = 0; i < 6; i++) {
        cr_assert_eq(get(client, &body, &status, &err), IMV_OK, "%zu: %s", i, err.message);
        cr_expect_eq(status, wanted[i].status);
        cr_expect(is(&body, wanted[i].body), "%zu: %.*s", i, (int)body.size, body.data);
    }
    imv_buffer_release(&body);
    imv_client_free(client);
    peer_stop(&peer);
    cr_assert_eq(peer.connections, 3);
}

/* A request names method, path, host, size and types, and carries its body. */
Test(client, a_request_is_complete) {
    static const char *const replies[] = {"!HTTP/1.1 204 No Content\r\n\r\n"};
    struct peer peer;
    struct imv_error err;
    int status;
    peer_start(&peer, replies, 1);
    struct imv_client *client = client_of(peer.port);
    struct imv_client_request request = {.method = "POST",
                                         .path = "/write?precision=ns",
                                         .content_type = "text/plain",
                                         .accept = "text/csv",
                                         .body = IMV_STR("m v=1\n")};
    cr_assert_eq(imv_client_send(client, &request, &status, &err), IMV_OK, "%s", err.message);
    imv_client_free(client);
    peer_stop(&peer);
    char wanted[512];
    snprintf(wanted, sizeof wanted,
             "POST /write?precision=ns HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Length: 6\r\nContent-Type: "
             "text/plain\r\nAccept: text/csv\r\n\r\nm v=1\n",
             peer.port);
    cr_assert_str_eq(peer.requests, wanted);
}

/* When the server closed the idle connection the request goes again on a new one, once. */
Test(client, a_stale_connection_is_replaced) {
    static const char *const replies[] = {"!HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo", NULL, NULL};
    struct peer peer;
    struct imv_buffer body;
    struct imv_error err;
    int status;
    imv_buffer_init(&body, 4096);
    peer_start(&peer, replies, 4);
    struct imv_client *client = client_of(peer.port);
    cr_assert_eq(get(client, &body, &status, &err), IMV_OK);
    usleep(20000);
    cr_assert_eq(get(client, &body, &status, &err), IMV_OK);
    cr_assert(is(&body, "two"));
    cr_assert_eq(get(client, &body, &status, &err), IMV_IO, "closed on the old connection and on the new one");
    imv_buffer_release(&body);
    imv_client_free(client);
    peer_stop(&peer);
    cr_assert_eq(peer.connections, 3);
}

/* A reply that breaks off, or is none, is an error and not sent for again. */
Test(client, a_broken_reply_is_an_error) {
    static const char *const replies[] = {"!HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhal",
                                          "!HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                                          "!SSH-2.0-OpenSSH\r\n", "!HTTP/1.1 200"};
    struct peer peer;
    struct imv_buffer body;
    struct imv_error err;
    int status;
    imv_buffer_init(&body, 4096);
    peer_start(&peer, replies, 4);
    struct imv_client *client = client_of(peer.port);
    for (int i = 0; i < 4; i++) cr_expect_eq(get(client, &body, &status, &err), IMV_IO, "%d", i);
    imv_buffer_release(&body);
    imv_client_free(client);
    peer_stop(&peer);
    cr_assert_eq(peer.connections, 4);
}

static bool refuse(void *context, const char *bytes, size_t size) {
    (void)context, (void)bytes, (void)size;
    return false;
}

/* A receiver that wants no more ends the request, and the next one starts afresh. */
Test(client, a_refused_reply_is_cancelled) {
    static const char *const replies[] = {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                                          "!HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain"};
    struct peer peer;
    struct imv_buffer body;
    struct imv_error err;
    int status;
    imv_buffer_init(&body, 4096);
    peer_start(&peer, replies, 2);
    struct imv_client *client = client_of(peer.port);
    struct imv_client_request request = {.method = "GET", .path = "/", .receive = refuse};
    cr_assert_eq(imv_client_send(client, &request, &status, &err), IMV_CANCELLED);
    cr_assert_eq(get(client, &body, &status, &err), IMV_OK);
    cr_assert(is(&body, "again"));
    imv_buffer_release(&body);
    imv_client_free(client);
    peer_stop(&peer);
}

/* Only http://host[:port] is an address; who does not answer is named. */
Test(client, addresses_are_checked) {
    static const char *const bad[] = {"",        "127.0.0.1:8086", "https://localhost",
                                      "ftp://x", "http://",        "http://x:99999"};
    struct imv_client *client;
    struct imv_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(imv_client_new(bad[i], &client, &err), IMV_INVALID, "%s", bad[i]);
    struct imv_client_request request = {.method = "GET", .path = "/"};
    int status, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    bind(listener, (struct sockaddr *)&address, size); /* a port that nobody listens on */
    getsockname(listener, (struct sockaddr *)&address, &size);
    client = client_of(ntohs(address.sin_port));
    cr_assert_eq(imv_client_send(client, &request, &status, &err), IMV_IO);
    cr_assert_not_null(strstr(err.message, "127.0.0.1"), "%s", err.message);
    close(listener);
    imv_client_free(client);
    imv_client_free(NULL);
}
