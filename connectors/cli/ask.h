/* ask.h - one statement to a server through the client: what `query` and `shell` share. */
#pragma once

#include "connectors/cli/client.h"

struct json_t;

/* Sends text with params (a JSON object or NULL) to POST /query; accept is a media type. receive gets the answer's
 * body.
 * *status is the HTTP status. */
imv_status imv_ask(struct imv_client *client, struct imv_str text, const struct json_t *params, const char *accept,
                   bool time_as_integer, bool (*receive)(void *context, const char *bytes, size_t size), void *context,
                   int *status, struct imv_error *err);
