#include "connectors/cli/ask.h"

#include <jansson.h>
#include <stdlib.h>

imv_status imv_ask(struct imv_client *client, struct imv_str text, const struct json_t *params, const char *accept,
                   bool time_as_integer, bool (*receive)(void *context, const char *bytes, size_t size), void *context,
                   int *status, struct imv_error *err) {
    json_t *body = json_pack("{s:o}", "query", json_stringn_nocheck(text.data, text.size));
    if (params != NULL) json_object_set(body, "params", (json_t *)(uintptr_t)params);
    char *encoded = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(body);
    if (encoded == NULL) return imv_fail(err, IMV_INVALID, "the statement is not valid UTF-8");
    struct imv_client_request request = {
        .method = "POST",
        .path = time_as_integer ? "/query?time=ns" : "/query",
        .content_type = "application/json",
        .accept = accept,
        .body = imv_str_from(encoded),
        .receive = receive,
        .context = context,
    };
    imv_status result = imv_client_send(client, &request, status, err);
    free(encoded);
    return result;
}
