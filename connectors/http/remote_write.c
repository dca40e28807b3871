#include "connectors/http/remote_write.h"

#include "connectors/http/context.h"
#include "connectors/http/write.h"
#include "ingest/prometheus.h"
#include "storage/base/budget.h"
#include "storage/base/buffer.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <snappy-c.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PACKED_BYTES_MIN = 64 * 1024,
    /* Snappy's densest element is a copy of 64 bytes in three; a body that declares more is not snappy. */
    RATIO_MAX = 22,
};

/* Memory of the shared budget. */
struct block {
    char *bytes;
    size_t size, capacity;
};

struct write {
    struct imv_budget *budget;
    struct imv_loop *loop;
    struct imv_prometheus samples;
    struct block packed, plain;
    struct imv_buffer reasons; /* text of the first refusals */
    bool unpacked, taken, marked;
    struct imv_error failure; /* of the body as a whole */
    uint64_t marks[];         /* one a shard */
};

/* ---- memory ---- */

static bool block_reserve(struct imv_budget *budget, struct block *block, size_t capacity) {
    if (capacity <= block->capacity) return true;
    size_t more = capacity - block->capacity;
    if (!imv_budget_take(budget, more)) return false;
    char *bytes = realloc(block->bytes, capacity);
    if (bytes == NULL) {
        imv_budget_give(budget, more);
        return false;
    }
    block->bytes = bytes;
    block->capacity = capacity;
    return true;
}

static void block_release(struct imv_budget *budget, struct block *block) {
    free(block->bytes);
    imv_budget_give(budget, block->capacity);
    *block = (struct block){0};
}

/* ---- the head ---- */

static bool is_token(struct imv_str text, const char *token) {
    return text.size == strlen(token) && strncasecmp(text.data, token, text.size) == 0;
}

static struct imv_str trim(struct imv_str text) {
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) text.data++, text.size--;
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) text.size--;
    return text;
}

/* The part of text before the separator, trimmed; text goes on behind it. */
static struct imv_str next_part(struct imv_str *text, char separator) {
    const char *end = text->size == 0 ? NULL : memchr(text->data, separator, text->size);
    struct imv_str part = {text->data, end == NULL ? text->size : (size_t)(end - text->data)};
    *text = end == NULL ? (struct imv_str){0} : (struct imv_str){end + 1, text->size - part.size - 1};
    return trim(part);
}

/* NULL when the head says, or leaves open, that the body is remote write 1.0; else what is wrong. */
static const char *refusal_of_head(struct imv_http_request *request) {
    struct imv_str type = imv_http_header(request, "Content-Type");
    struct imv_str encoding = trim(imv_http_header(request, "Content-Encoding"));
    if (type.size > 0 && !is_token(next_part(&type, ';'), "application/x-protobuf"))
        return "Content-Type must be application/x-protobuf";
    while (type.size > 0) {
        struct imv_str value = next_part(&type, ';'), name = next_part(&value, '=');
        if (is_token(name, "proto") && !is_token(trim(value), "prometheus.WriteRequest"))
            return "only remote write 1.0 is spoken here: proto must be prometheus.WriteRequest";
    }
    if (encoding.size > 0 && !is_token(encoding, "snappy")) return "Content-Encoding must be snappy";
    return NULL;
}

static void add_reason(void *context, const struct imv_error *reason) {
    struct write *write = context;
    imv_buffer_append_format(&write->reasons, "%s%s", write->reasons.size == 0 ? "" : "; ", reason->message);
}

static void begin(struct imv_http_request *request) {
    struct imv_http_context *context = imv_http_context(request);
    const char *refusal = refusal_of_head(request);
    if (refusal != NULL) {
        imv_http_reply_error(request, 415, "invalid", refusal);
        return;
    }
    if (imv_http_refuse_when_full(request, context->writer)) return;
    struct write *write = calloc(1, sizeof *write + context->shards * sizeof *write->marks);
    if (write == NULL) {
        imv_http_reply_error(request, 503, "unavailable", "no memory for a write request");
        return;
    }
    write->budget = context->remote_write;
    write->loop = imv_http_loop(request);
    imv_prometheus_init(&write->samples, context->writer);
    write->samples.reject = add_reason;
    write->samples.context = write;
    imv_buffer_init(&write->reasons, 4096);
    imv_http_set_state(request, write);
}

/* ---- the body ---- */

static void refuse_large(struct imv_http_request *request, const char *what, size_t bytes_max) {
    char text[128];
    snprintf(text, sizeof text, "the body has more than %zu bytes %s: send fewer samples at once", bytes_max, what);
    imv_http_reply_error(request, 413, "invalid", text);
}

static void refuse_for_memory(struct imv_http_request *request) {
    imv_http_reply_error(request, 503, "unavailable", "the memory for remote write requests is spent, send it again");
}

/* The length that the body declares; false while its first bytes are not all there, or are none. */
static bool plain_size(const struct block *packed, uint64_t *size) {
    const uint8_t *bytes = (const uint8_t *)packed->bytes;
    return packed->size > 0 && imv_get_varint(bytes, bytes + packed->size, size) != NULL;
}

static bool body(struct imv_http_request *request, const char *bytes, size_t size) {
    struct write *write = imv_http_state(request);
    struct block *packed = &write->packed;
    uint64_t declared;
    imv_metric_add(IMV_METRIC_remote_write_bytes_total, (int64_t)size);
    if (size > IMV_REMOTE_WRITE_PACKED_BYTES_MAX - packed->size) {
        refuse_large(request, "packed", IMV_REMOTE_WRITE_PACKED_BYTES_MAX);
        return true;
    }
    size_t wanted = packed->capacity < PACKED_BYTES_MIN ? PACKED_BYTES_MIN : packed->capacity;
    while (wanted < packed->size + size) wanted *= 2;
    if (!block_reserve(write->budget, packed, wanted)) {
        refuse_for_memory(request);
        return true;
    }
    memcpy(packed->bytes + packed->size, bytes, size);
    packed->size += size;
    if (plain_size(packed, &declared) && declared > IMV_REMOTE_WRITE_PLAIN_BYTES_MAX)
        refuse_large(request, "unpacked", IMV_REMOTE_WRITE_PLAIN_BYTES_MAX);
    return true;
}

/* False when there is no memory for it. A body that is not snappy is a failure of the write. */
static bool unpack(struct write *write) {
    struct block *packed = &write->packed, *plain = &write->plain;
    uint64_t declared = 0;
    if (!plain_size(packed, &declared) || declared / RATIO_MAX > packed->size) {
        imv_fail(&write->failure, IMV_INVALID, "the body is not in snappy's block format");
    } else {
        if (!block_reserve(write->budget, plain, declared == 0 ? 1 : (size_t)declared)) return false;
        plain->size = (size_t)declared;
        if (snappy_uncompress(packed->bytes, packed->size, plain->bytes, &plain->size) != SNAPPY_OK) {
            plain->size = 0;
            imv_fail(&write->failure, IMV_INVALID, "the body is not in snappy's block format");
        }
    }
    block_release(write->budget, packed);
    write->unpacked = true;
    return true;
}

/* ---- the reply ---- */

static void reply_partial(struct imv_http_request *request, struct write *write) {
    const struct imv_prometheus *samples = &write->samples;
    struct imv_buffer text;
    imv_buffer_init(&text, 8192);
    imv_buffer_append_format(
        &text, "partial write: %" PRIu64 " of %" PRIu64 " samples were refused, %" PRIu64 " are stored: %.*s%s",
        samples->rejected, samples->rejected + samples->rows, samples->rows, (int)write->reasons.size,
        write->reasons.size == 0 ? "" : write->reasons.data,
        samples->refusals > IMV_PROMETHEUS_REASONS_MAX ? "; ..." : "");
    imv_buffer_append_char(&text, 0);
    imv_http_reply_error(request, 400, "invalid", text.failed ? "partial write" : text.data);
    imv_buffer_release(&text);
}

/* Answers once every row is durable. */
static void reply_when_durable(struct imv_http_request *request, struct write *write) {
    struct imv_error err;
    if (!write->marked) imv_writer_mark(write->samples.writer, write->marks);
    write->marked = true;
    imv_status status = imv_writer_check(write->samples.writer, write->marks, &err);
    if (status == IMV_BUSY)
        imv_http_wait(request);
    else if (status != IMV_OK)
        imv_http_reply_error(request, 503, "unavailable", err.message);
    else if (write->failure.status != IMV_OK)
        imv_http_reply_error(request, 400, "invalid", write->failure.message);
    else if (write->samples.refusals > 0)
        reply_partial(request, write);
    else
        imv_http_reply(request, 204, NULL, (struct imv_str){0});
}

/* Goes on with the request: unpacks it, takes a share of its samples, answers. */
static void go_on(struct imv_http_request *request) {
    struct write *write = imv_http_state(request);
    if (!write->marked && imv_http_refuse_when_full(request, write->samples.writer)) return;
    if (!write->unpacked && !unpack(write)) {
        refuse_for_memory(request);
        return;
    }
    if (!write->taken && write->failure.status == IMV_OK) {
        imv_status status =
            imv_prometheus_take(&write->samples, write->plain.bytes, write->plain.size, &write->failure);
        if (status == IMV_BUSY) imv_loop_wake(write->loop);
        if (status == IMV_BUSY || status == IMV_FULL) {
            imv_http_wait(request);
            return;
        }
        write->taken = true;
        block_release(write->budget, &write->plain);
    }
    reply_when_durable(request, write);
}

static void finish(struct imv_http_request *request) {
    struct write *write = imv_http_state(request);
    if (write == NULL) return;
    block_release(write->budget, &write->packed);
    block_release(write->budget, &write->plain);
    imv_buffer_release(&write->reasons);
    free(write);
}

const struct imv_http_handler imv_http_remote_write_handler = {
    .begin = begin,
    .body = body,
    .end = go_on,
    .turn = go_on,
    .finish = finish,
};
