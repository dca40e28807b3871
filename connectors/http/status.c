#include "connectors/http/status.h"

#include "connectors/http/context.h"
#include "engine/engine.h"
#include "storage/base/buffer.h"
#include "storage/base/metrics.h"

enum { METRICS_BYTES_MAX = 512 * 1024 };

static bool no_body(struct imv_http_request *request, const char *bytes, size_t size) {
    (void)request, (void)bytes, (void)size;
    return true;
}

static void nothing(struct imv_http_request *request) { (void)request; }

static void metrics(struct imv_http_request *request) {
    struct imv_buffer text;
    imv_buffer_init(&text, METRICS_BYTES_MAX);
    imv_engine_observe(((struct imv_http_context *)imv_http_context(request))->engine);
    imv_metrics_print(&text);
    if (text.failed)
        imv_http_reply_error(request, 503, "unavailable", "no memory to print the metrics");
    else
        imv_http_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8", imv_buffer_view(&text));
    imv_buffer_release(&text);
}

static void livez(struct imv_http_request *request) {
    imv_http_reply(request, 200, "text/plain; charset=utf-8", IMV_STR("ok\n"));
}

static void readyz(struct imv_http_request *request) {
    struct imv_http_context *context = imv_http_context(request);
    struct imv_error err;
    if (imv_engine_health(context->engine, &err) == IMV_OK)
        livez(request);
    else
        imv_http_reply_error(request, 503, "unavailable", err.message);
}

static void ping(struct imv_http_request *request) { imv_http_reply(request, 204, NULL, (struct imv_str){0}); }

const struct imv_http_handler imv_http_metrics_handler = {.begin = nothing, .body = no_body, .end = metrics};
const struct imv_http_handler imv_http_livez_handler = {.begin = nothing, .body = no_body, .end = livez};
const struct imv_http_handler imv_http_readyz_handler = {.begin = nothing, .body = no_body, .end = readyz};
const struct imv_http_handler imv_http_ping_handler = {.begin = nothing, .body = no_body, .end = ping};
