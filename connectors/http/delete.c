#include "connectors/http/delete.h"

#include "connectors/http/context.h"
#include "connectors/http/predicate.h"
#include "engine/engine.h"
#include "query/datetime.h"
#include "storage/base/buffer.h"

#include <jansson.h>
#include <stdlib.h>

enum { BODY_BYTES_MAX = 64 * 1024 };

struct deletion {
    struct imv_buffer body;
    struct imv_deletion_request *request; /* NULL: not begun */
};

static void begin(struct imv_http_request *http) {
    struct deletion *deletion = calloc(1, sizeof *deletion);
    if (deletion == NULL) {
        imv_http_reply_error(http, 503, "unavailable", "no memory for a deletion");
        return;
    }
    imv_buffer_init(&deletion->body, BODY_BYTES_MAX);
    imv_http_set_state(http, deletion);
}

static bool body(struct imv_http_request *http, const char *bytes, size_t size) {
    struct deletion *deletion = imv_http_state(http);
    if (!imv_buffer_append(&deletion->body, bytes, size)) {
        imv_http_reply_error(http, 413, "request too large", "the body is larger than 64 KiB");
    }
    return true;
}

/* ---- what is asked for ---- */

static imv_status read_time(const json_t *root, const char *name, int64_t *ns, struct imv_error *err) {
    const json_t *value = json_object_get(root, name);
    struct imv_str text = {json_string_value(value), json_string_length(value)};
    if (text.data == NULL) return imv_fail(err, IMV_INVALID, "%s is missing: an RFC 3339 time is expected", name);
    if (imv_time_parse(text, ns)) return IMV_OK;
    return imv_fail(err, IMV_INVALID, "%s is '%.*s': an RFC 3339 time is expected", name,
                    (int)(text.size < 64 ? text.size : 64), text.data);
}

/* The series of the label with these tags. */
static imv_status select_series(struct imv_catalog *catalog, const struct imv_predicate *predicate,
                                struct imv_deletion *deletion, struct imv_series ***series, struct imv_error *err) {
    struct imv_tag_selector parts[IMV_PREDICATE_TAGS_MAX];
    for (size_t i = 0; i < predicate->tags_count; i++) {
        parts[i] = (struct imv_tag_selector){
            .kind = IMV_TAG_IN, .key = predicate->tags[i].key, .values = &predicate->tags[i].value, .values_count = 1};
    }
    struct imv_tag_selector all = {.kind = IMV_TAG_AND, .parts = parts, .parts_count = predicate->tags_count};
    IMV_TRY(imv_catalog_select(catalog, deletion->label, &all, NULL, series, &deletion->series_count, err));
    deletion->series = *series;
    return IMV_OK;
}

/* Begins what the predicate says; *request stays NULL when the measurement is not known. */
static imv_status begin_deletion(struct imv_engine *engine, const struct imv_predicate *predicate, int64_t start,
                                 int64_t stop, struct imv_deletion_request **request, struct imv_error *err) {
    struct imv_catalog *catalog = imv_engine_catalog(engine);
    struct imv_deletion deletion = {.label = imv_catalog_find_label(catalog, predicate->measurement),
                                    .whole = predicate->tags_count == 0,
                                    .from = start,
                                    .last = stop};
    if (deletion.label == NULL) return IMV_OK;
    struct imv_series **series = NULL;
    struct imv_snapshot *snapshot; /* keeps series where they are */
    IMV_TRY(imv_snapshot_take(engine, &snapshot, err));
    imv_status status = deletion.whole ? IMV_OK : select_series(catalog, predicate, &deletion, &series, err);
    if (status == IMV_OK) status = imv_engine_delete_begin(engine, &deletion, 0, request, err);
    if (status != IMV_OK) *request = NULL;
    imv_snapshot_release(snapshot);
    free(series);
    return status;
}

static imv_status read_predicate(struct imv_engine *engine, const json_t *root, struct imv_deletion_request **request,
                                 struct imv_error *err) {
    int64_t start, stop;
    IMV_TRY(read_time(root, "start", &start, err));
    IMV_TRY(read_time(root, "stop", &stop, err));
    if (start > stop) return imv_fail(err, IMV_INVALID, "start is after stop");
    const json_t *value = json_object_get(root, "predicate");
    struct imv_str text = {json_string_value(value), json_string_length(value)};
    if (text.data == NULL) text = IMV_STR("");
    char *scratch = malloc(text.size + 1);
    struct imv_predicate predicate;
    if (scratch == NULL) return imv_fail(err, IMV_NO_MEMORY, "no memory for a deletion");
    imv_status status = imv_predicate_parse(text, scratch, &predicate, err);
    if (status == IMV_OK) status = begin_deletion(engine, &predicate, start, stop, request, err);
    free(scratch);
    return status;
}

static imv_status read_body(struct imv_engine *engine, struct deletion *deletion, struct imv_error *err) {
    json_error_t reason;
    json_t *root = json_loadb(deletion->body.size > 0 ? deletion->body.data : "", deletion->body.size,
                              JSON_REJECT_DUPLICATES, &reason);
    imv_status status = root == NULL ? imv_fail(err, IMV_INVALID, "the body is not JSON: %s, line %d, column %d",
                                                reason.text, reason.line, reason.column)
                                     : read_predicate(engine, root, &deletion->request, err);
    json_decref(root);
    return status;
}

/* ---- answers ---- */

static void reply(struct imv_http_request *http, imv_status status, const struct imv_error *err) {
    if (status == IMV_OK)
        imv_http_reply(http, 204, NULL, (struct imv_str){0});
    else
        imv_http_reply_error(http, status == IMV_INVALID ? 400 : 503, status == IMV_INVALID ? "invalid" : "unavailable",
                             err->message);
}

static void turn(struct imv_http_request *http) {
    const struct imv_http_context *context = imv_http_context(http);
    struct deletion *deletion = imv_http_state(http);
    struct imv_error err;
    imv_status status = imv_engine_delete_wait(context->engine, deletion->request, 0, &err);
    if (status == IMV_BUSY)
        imv_http_wait(http);
    else
        reply(http, status, &err);
}

static void end(struct imv_http_request *http) {
    const struct imv_http_context *context = imv_http_context(http);
    struct deletion *deletion = imv_http_state(http);
    struct imv_error err;
    imv_status status = read_body(context->engine, deletion, &err);
    if (deletion->request != NULL)
        turn(http);
    else
        reply(http, status, &err);
}

static void finish(struct imv_http_request *http) {
    struct deletion *deletion = imv_http_state(http);
    if (deletion == NULL) return;
    imv_engine_delete_end(deletion->request);
    imv_buffer_release(&deletion->body);
    free(deletion);
}

const struct imv_http_handler imv_http_delete_handler = {
    .begin = begin, .body = body, .end = end, .turn = turn, .finish = finish};
