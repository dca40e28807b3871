#include "connectors/cli/client.h"

#include <errno.h>
#include <http_parser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECEIVE_BYTES = 64 * 1024 };

struct imv_client {
    char host[256], port[8];
    int fd; /* -1: not connected */
    char received[RECEIVE_BYTES];
};

struct reply {
    const struct imv_client_request *request;
    bool complete, started, refused; /* refused: the receiver wants no more */
    bool keep_alive;
};

imv_status imv_client_new(const char *url, struct imv_client **client, struct imv_error *err) {
    struct http_parser_url parts;
    http_parser_url_init(&parts);
    bool is_http = strncasecmp(url, "http://", 7) == 0;
    if (!is_http || http_parser_parse_url(url, strlen(url), 0, &parts) != 0 ||
        parts.field_data[UF_HOST].len >= sizeof(*client)->host)
        return imv_fail(err, IMV_INVALID, "'%s' is not a server's address: http://HOST:PORT is expected", url);
    *client = calloc(1, sizeof **client);
    if (*client == NULL) return imv_fail(err, IMV_NO_MEMORY, "no memory for a client");
    memcpy((*client)->host, url + parts.field_data[UF_HOST].off, parts.field_data[UF_HOST].len);
    snprintf((*client)->port, sizeof(*client)->port, "%u", parts.port == 0 ? 8086 : (unsigned)parts.port);
    (*client)->fd = -1;
    return IMV_OK;
}

static void disconnect(struct imv_client *client) {
    if (client->fd >= 0) close(client->fd);
    client->fd = -1;
}

void imv_client_free(struct imv_client *client) {
    if (client == NULL) return;
    disconnect(client);
    free(client);
}

static imv_status connect_to(struct imv_client *client, struct imv_error *err) {
    if (client->fd >= 0) return IMV_OK;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses;
    int error = getaddrinfo(client->host, client->port, &hints, &addresses);
    if (error != 0) return imv_fail(err, IMV_IO, "cannot find %s: %s", client->host, gai_strerror(error));
    for (struct addrinfo *address = addresses; address != NULL && client->fd < 0; address = address->ai_next) {
        int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
        if (fd < 0) continue;
        if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
            client->fd = fd;
        else
            close(fd);
    }
    freeaddrinfo(addresses);
    if (client->fd < 0)
        return imv_fail_errno(err, IMV_IO, errno, "no server answers at %s:%s", client->host, client->port);
    int one = 1;
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return IMV_OK;
}

static bool send_all(int fd, const char *bytes, size_t size, int flags) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, flags | MSG_NOSIGNAL);
        if (sent <= 0) {
            if (sent < 0 && errno == EINTR) continue;
            return false;
        }
        bytes += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool send_request(struct imv_client *client, const struct imv_client_request *request) {
    char head[1024];
    int size = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s:%s\r\nContent-Length: %zu\r\n%s%s%s%s%s%s\r\n",
                        request->method, request->path, client->host, client->port, request->body.size,
                        request->content_type == NULL ? "" : "Content-Type: ",
                        request->content_type == NULL ? "" : request->content_type,
                        request->content_type == NULL ? "" : "\r\n",
                        request->accept == NULL ? "" : "Accept: ", request->accept == NULL ? "" : request->accept,
                        request->accept == NULL ? "" : "\r\n");
    if (size < 0 || (size_t)size >= sizeof head) return false;
    return send_all(client->fd, head, (size_t)size, request->body.size > 0 ? MSG_MORE : 0) &&
           send_all(client->fd, request->body.data, request->body.size, 0);
}

static int on_body(http_parser *parser, const char *bytes, size_t size) {
    struct reply *reply = parser->data;
    if (reply->request->receive == NULL || reply->request->receive(reply->request->context, bytes, size)) return 0;
    reply->refused = true;
    return 1;
}

static int on_message_complete(http_parser *parser) {
    struct reply *reply = parser->data;
    if (parser->status_code == 100) return 0; /* the real reply follows */
    reply->complete = true;
    reply->keep_alive = http_should_keep_alive(parser) != 0;
    http_parser_pause(parser, 1);
    return 0;
}

static imv_status read_reply(struct imv_client *client, struct reply *reply, int *status, struct imv_error *err) {
    static const http_parser_settings settings = {.on_body = on_body, .on_message_complete = on_message_complete};
    http_parser parser;
    http_parser_init(&parser, HTTP_RESPONSE);
    parser.data = reply;
    while (!reply->complete) {
        ssize_t size = recv(client->fd, client->received, sizeof client->received, 0);
        if (size < 0 && errno == EINTR) continue;
        if (size < 0)
            return imv_fail_errno(err, IMV_IO, errno, "the connection to %s:%s broke", client->host, client->port);
        reply->started = reply->started || size > 0;
        http_parser_execute(&parser, &settings, client->received, (size_t)size);
        if (reply->refused) return imv_fail(err, IMV_CANCELLED, "the reply was not read to its end");
        if (!reply->complete && (size == 0 || HTTP_PARSER_ERRNO(&parser) != HPE_OK))
            return imv_fail(err, IMV_IO, "%s:%s closed the connection in the middle of its reply", client->host,
                            client->port);
    }
    *status = (int)parser.status_code;
    return IMV_OK;
}

imv_status imv_client_send(struct imv_client *client, const struct imv_client_request *request, int *status,
                           struct imv_error *err) {
    for (int attempt = 0;; attempt++) {
        bool reused = client->fd >= 0;
        IMV_TRY(connect_to(client, err));
        struct reply reply = {.request = request};
        imv_status result = send_request(client, request) ? read_reply(client, &reply, status, err)
                                                          : imv_fail_errno(err, IMV_IO, errno, "cannot send to %s:%s",
                                                                           client->host, client->port);
        if (result != IMV_OK || !reply.keep_alive) disconnect(client);
        bool stale = result == IMV_IO && reused && !reply.started; /* the server had closed the idle connection */
        if (!stale || attempt > 0) return result;
    }
}

bool imv_client_collect(void *buffer, const char *bytes, size_t size) { return imv_buffer_append(buffer, bytes, size); }
