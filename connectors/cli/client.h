/* client.h - a blocking HTTP/1.1 client of one server: what the command line speaks through.
 *
 * One keep-alive connection, one request at a time; it connects again when the server closed an idle connection. One
 * thread.
 */
#pragma once

#include "storage/base/buffer.h"
#include "storage/base/status.h"

struct imv_client;

struct imv_client_request {
    const char *method, *path; /* path with its query, percent-encoded */
    const char *content_type;  /* NULL: none */
    const char *accept;        /* NULL: none */
    struct imv_str body;
    /* Called for each piece of a reply's body; false ends the request with IMV_CANCELLED. NULL: the body is dropped. */
    bool (*receive)(void *context, const char *bytes, size_t size);
    void *context;
};

/* url is http://host[:port], host a name or address; default port 8086. Does not connect yet. IMV_INVALID. */
imv_status imv_client_new(const char *url, struct imv_client **client, struct imv_error *err);
void imv_client_free(struct imv_client *client); /* NULL is allowed */

/* Sends a request and reads its reply; *status is the HTTP status. IMV_IO names the address when nobody answers. A
 * request whose connection breaks before any byte of a reply came is sent again once: use it for what may be
 * repeated. */
imv_status imv_client_send(struct imv_client *client, const struct imv_client_request *request, int *status,
                           struct imv_error *err);

/* A receive function that collects the body into a struct imv_buffer. */
bool imv_client_collect(void *buffer, const char *bytes, size_t size);
