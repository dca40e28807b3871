#include "connectors/http/write.h"

#include "connectors/http/context.h"
#include "ingest/arrow.h"
#include "ingest/feed.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

enum {
    REASONS_MAX = 10,          /* reported in full; the rest is counted */
    INFLATE_BYTES = 64 * 1024, /* of plain text at a time */
    /* Of plain text in one turn of the loop, a few milliseconds: packed text may hold a thousand times its size, and
     * when it is no rows the writer never fills. */
    INFLATE_TURN_BYTES = 1 << 20,
    REFUSED_BYTES = 1024, /* of good text take as long as one refused line, which is put into words */
    /* What cannot be parsed yet: the rest of a line, and one piece of input that arrived before the writer was full. */
    CARRY_BYTES_MAX = IMV_LINE_BYTES_MAX + IMV_CONN_INPUT_BYTES + INFLATE_BYTES,
};

struct write {
    struct imv_loop *loop;
    struct imv_feed feed;
    struct imv_arrow_feed *arrow; /* NULL: the body is lines, and the feed's */
    struct imv_buffer carry;      /* plain bytes that the feed has not taken */
    struct imv_buffer packed;     /* gzip input that is not inflated yet */
    struct imv_buffer reasons;    /* text of the first bad lines */
    bool gzip, body_complete, marked;
    z_stream inflate;
    bool inflate_open, inflate_done;
    struct imv_error failure; /* of the body as a whole: bad gzip, no memory */
    uint64_t marks[];         /* one a shard */
};

static uint64_t rows(const struct write *write) {
    return write->arrow == NULL ? write->feed.rows : imv_arrow_feed_rows(write->arrow);
}

static uint64_t rejected(const struct write *write) {
    return write->arrow == NULL ? write->feed.rejected : imv_arrow_feed_rejected(write->arrow);
}

static void count_rejected(void *context, uint64_t number, const struct imv_error *reason) {
    struct write *write = context;
    if (rejected(write) <= REASONS_MAX)
        imv_buffer_append_format(&write->reasons, "%s%s %" PRIu64 ": %s", write->reasons.size == 0 ? "" : "; ",
                                 write->arrow == NULL ? "line" : "row", number, reason->message);
}

static bool precision_from(const char *name, enum imv_precision *precision) {
    static const struct {
        const char *name;
        enum imv_precision precision;
    } names[] = {{"ns", IMV_PRECISION_NS}, {"n", IMV_PRECISION_NS}, {"us", IMV_PRECISION_US}, {"u", IMV_PRECISION_US},
                 {"ms", IMV_PRECISION_MS}, {"s", IMV_PRECISION_S},  {"m", IMV_PRECISION_M},   {"h", IMV_PRECISION_H}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i].name) != 0) continue;
        *precision = names[i].precision;
        return true;
    }
    return false;
}

static bool is_arrow(const struct imv_http_request *request) {
    static const char wanted[] = "application/vnd.apache.arrow.stream";
    struct imv_str type = imv_http_header(request, "Content-Type");
    size_t size = sizeof wanted - 1;
    if (type.size < size || strncasecmp(type.data, wanted, size) != 0) return false;
    return type.size == size || type.data[size] == ';' || type.data[size] == ' ';
}

/* May answer the request, and then it may be gone. */
static void begin_arrow(struct imv_http_request *request, struct write *write) {
    struct imv_http_context *context = imv_http_context(request);
    char label[IMV_NAME_BYTES_MAX + 1];
    imv_status given = imv_http_parameter(request, "label", label, sizeof label);
    if (given == IMV_INVALID) {
        imv_http_reply_error(request, 400, "invalid", "label is malformed or longer than 1024 bytes");
        return;
    }
    struct imv_arrow_feed_options options = {.writer = context->writer,
                                             .clock = context->clock,
                                             .budget = context->arrow_budget,
                                             .spare = &context->arrow_spare,
                                             .precision = write->feed.precision,
                                             .label = imv_str_from(given == IMV_OK ? label : ""),
                                             .reject = count_rejected,
                                             .context = write};
    struct imv_error err;
    if (imv_arrow_feed_new(&options, &write->arrow, &err) != IMV_OK)
        imv_http_reply_error(request, 503, "unavailable", err.message);
}

bool imv_http_refuse_when_full(struct imv_http_request *request, struct imv_writer *writer) {
    struct imv_error err;
    if (imv_writer_accepts(writer, &err) == IMV_OK) return false;
    imv_metric_add(IMV_METRIC_requests_refused_full_total, 1);
    imv_http_reply_error(request, 507, "unavailable", err.message);
    return true;
}

static void begin(struct imv_http_request *request) {
    struct imv_http_context *context = imv_http_context(request);
    enum imv_precision precision = IMV_PRECISION_NS;
    char name[16], text[128];
    imv_status given = imv_http_parameter(request, "precision", name, sizeof name);
    if (given == IMV_INVALID || (given == IMV_OK && !precision_from(name, &precision))) {
        snprintf(text, sizeof text, "precision is '%s': ns, us, ms, s, m or h is expected",
                 given == IMV_OK ? name : "too long or malformed");
        imv_http_reply_error(request, 400, "invalid", text);
        return;
    }
    if (imv_http_refuse_when_full(request, context->writer)) return;
    struct imv_str encoding = imv_http_header(request, "Content-Encoding");
    bool gzip = encoding.size == 4 && strncasecmp(encoding.data, "gzip", 4) == 0;
    if (encoding.size > 0 && !gzip && !(encoding.size == 8 && strncasecmp(encoding.data, "identity", 8) == 0)) {
        imv_http_reply_error(request, 415, "invalid", "Content-Encoding must be gzip or identity");
        return;
    }
    struct write *write = calloc(1, sizeof *write + context->shards * sizeof *write->marks);
    if (write == NULL) {
        imv_http_reply_error(request, 503, "unavailable", "no memory for a write request");
        return;
    }
    write->loop = imv_http_loop(request);
    imv_feed_init(&write->feed, context->writer, context->clock, precision);
    write->feed.reject = count_rejected;
    write->feed.context = write;
    write->gzip = gzip;
    imv_buffer_init(&write->carry, CARRY_BYTES_MAX);
    imv_buffer_init(&write->packed, IMV_CONN_INPUT_BYTES);
    imv_buffer_init(&write->reasons, 4096);
    imv_http_set_state(request, write);
    if (is_arrow(request)) begin_arrow(request, write);
}

/* ---- plain bytes into the feed ---- */

/* Offers bytes to the Arrow feed; *taken says how many it has. True when it has all of them and nothing more to do with
 * them, or when the stream is refused. */
static bool feed_arrow(struct write *write, const char *bytes, size_t size, size_t *taken) {
    struct imv_error err;
    imv_status status = imv_arrow_feed_take(write->arrow, bytes, size, taken, &err);
    if (status == IMV_OK) return true;
    if (status == IMV_BUSY) imv_loop_wake(write->loop);
    if (status == IMV_BUSY || status == IMV_FULL) return false;
    write->failure = err;
    *taken = size;
    return true;
}

static bool feed_carry_to_arrow(struct write *write) {
    size_t used = write->carry.size; /* of a body that is refused the rest is dropped */
    bool room = write->failure.status != IMV_OK || feed_arrow(write, write->carry.data, write->carry.size, &used);
    imv_buffer_consume(&write->carry, used);
    return room;
}

/* Feeds what is carried; true when nothing but an unfinished line is left. The feed may stop for want of room that is
 * there a moment later, since other threads make it: what is left is known only when the feed takes nothing of it. */
static bool feed_carry(struct write *write, bool final) {
    if (write->arrow != NULL) return feed_carry_to_arrow(write);
    while (write->carry.size > 0) {
        if (!imv_writer_has_room(write->feed.writer)) return false;
        size_t taken = imv_feed_take(&write->feed, write->carry.data, write->carry.size, final);
        if (taken == 0) break;
        imv_buffer_consume(&write->carry, taken);
    }
    return true;
}

static void carry(struct write *write, const char *bytes, size_t size) {
    if (!imv_buffer_append(&write->carry, bytes, size))
        imv_fail(&write->failure, IMV_NO_MEMORY, "no memory for the rest of a body");
}

/* As feed_text, for Arrow: unfinished messages are in its feed, so what is carried is what it has no room for. */
static bool feed_bytes(struct write *write, const char *bytes, size_t size) {
    if (write->carry.size > 0) {
        carry(write, bytes, size);
        return feed_carry(write, false);
    }
    size_t taken;
    bool room = feed_arrow(write, bytes, size, &taken);
    carry(write, bytes + taken, size - taken);
    return room;
}

/* Takes all of a piece of text. The common piece holds whole lines: it is parsed in place and only its last, unfinished
 * line is copied. Returns false when the writer is full. */
static bool feed_text(struct write *write, const char *bytes, size_t size) {
    if (write->arrow != NULL) return feed_bytes(write, bytes, size);
    while (write->carry.size > 0 && size > 0) { /* finish the carried line first, a line feed at a time */
        const char *end = memchr(bytes, '\n', size);
        size_t part = end == NULL ? size : (size_t)(end - bytes) + 1;
        carry(write, bytes, part);
        bytes += part;
        size -= part;
        if (!feed_carry(write, false)) {
            carry(write, bytes, size);
            return false;
        }
    }
    if (size == 0) return true;
    size_t taken = imv_feed_take(&write->feed, bytes, size, false);
    carry(write, bytes + taken, size - taken);
    return feed_carry(write, false);
}

/* ---- gzip ---- */

static bool inflate_open(struct write *write) {
    write->inflate_open = write->inflate_open || inflateInit2(&write->inflate, 15 + 16) == Z_OK; /* 16: gzip framing */
    return write->inflate_open;
}

/* Inflates packed bytes until they are used up (true), or the writer is full or the turn's share is done (false). A
 * body may be several gzip members in a row. */
static bool feed_packed(struct write *write, const char *bytes, size_t size, size_t *used) {
    static _Thread_local unsigned char plain[INFLATE_BYTES];
    write->inflate.next_in = (unsigned char *)(uintptr_t)bytes;
    write->inflate.avail_in = (unsigned)size;
    bool room = true;
    size_t inflated = 0;
    while (room && write->failure.status == IMV_OK) {
        write->inflate.next_out = plain;
        write->inflate.avail_out = sizeof plain;
        int result = inflate(&write->inflate, Z_NO_FLUSH);
        size_t made = sizeof plain - write->inflate.avail_out;
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            imv_fail(&write->failure, IMV_INVALID, "the body is not valid gzip: %s",
                     write->inflate.msg == NULL ? "bad data" : write->inflate.msg);
        write->inflate_done = result == Z_STREAM_END;
        uint64_t refused = rejected(write);
        room = feed_text(write, (const char *)plain, made);
        inflated += made + (rejected(write) - refused) * REFUSED_BYTES;
        if (write->inflate_done && write->inflate.avail_in > 0)
            inflateReset(&write->inflate);
        else if (made < sizeof plain)
            break;
        if (inflated >= INFLATE_TURN_BYTES) {
            imv_loop_wake(write->loop);
            room = false;
        }
    }
    *used = size - write->inflate.avail_in;
    return room;
}

static bool take_packed(struct write *write, const char *bytes, size_t size) {
    if (!inflate_open(write)) {
        imv_fail(&write->failure, IMV_NO_MEMORY, "no memory to inflate the body");
        return true;
    }
    size_t used;
    bool room = feed_packed(write, bytes, size, &used);
    if (write->failure.status == IMV_OK && used < size && !imv_buffer_append(&write->packed, bytes + used, size - used))
        imv_fail(&write->failure, IMV_NO_MEMORY, "no memory for the packed body");
    return room;
}

/* Goes on with what was held back; true when all of it is in the writer. */
static bool catch_up(struct write *write) {
    if (!feed_carry(write, false)) return false;
    if (write->packed.size == 0) return true;
    size_t used;
    bool room = feed_packed(write, write->packed.data, write->packed.size, &used);
    imv_buffer_consume(&write->packed, write->failure.status == IMV_OK ? used : write->packed.size);
    return room && write->packed.size == 0;
}

/* ---- the request ---- */

static bool body(struct imv_http_request *request, const char *bytes, size_t size) {
    struct write *write = imv_http_state(request);
    if (write->failure.status != IMV_OK) return true; /* answered at the end; the rest is dropped */
    bool room = write->gzip ? take_packed(write, bytes, size) : feed_text(write, bytes, size);
    if (!room) imv_http_wait(request);
    return room;
}

static void reply_partial(struct imv_http_request *request, struct write *write) {
    struct imv_buffer text;
    imv_buffer_init(&text, 8192);
    imv_buffer_append_format(
        &text, "partial write: %" PRIu64 " of %" PRIu64 " %s were refused, %" PRIu64 " rows are stored: %.*s",
        rejected(write), rejected(write) + rows(write), write->arrow == NULL ? "lines" : "rows", rows(write),
        (int)write->reasons.size, write->reasons.size == 0 ? "" : write->reasons.data);
    if (rejected(write) > REASONS_MAX) imv_buffer_append_format(&text, "; ...");
    imv_buffer_append_char(&text, 0);
    imv_http_reply_error(request, 400, "invalid", text.failed ? "partial write" : text.data);
    imv_buffer_release(&text);
}

/* The body as a whole is refused; of Arrow it matters from where on. */
static void reply_failure(struct imv_http_request *request, struct write *write) {
    bool memory = write->failure.status == IMV_NO_MEMORY;
    char text[IMV_ERROR_MESSAGE_BYTES + 128];
    int size = snprintf(text, sizeof text, "%s", write->failure.message);
    if (write->arrow != NULL)
        snprintf(text + size, sizeof text - (size_t)size,
                 "; before it %" PRIu64 " rows are stored, %" PRIu64 " refused", rows(write), rejected(write));
    imv_http_reply_error(request, memory ? 503 : 400, memory ? "unavailable" : "invalid", text);
}

static void reply(struct imv_http_request *request, struct write *write) {
    if (write->failure.status != IMV_OK)
        reply_failure(request, write);
    else if (rejected(write) > 0)
        reply_partial(request, write);
    else
        imv_http_reply(request, 204, NULL, (struct imv_str){0});
}

/* Answers once every row is durable. */
static void reply_when_durable(struct imv_http_request *request) {
    struct write *write = imv_http_state(request);
    if (!write->marked) {
        imv_writer_mark(write->feed.writer, write->marks);
        write->marked = true;
    }
    struct imv_error err;
    imv_status status = imv_writer_check(write->feed.writer, write->marks, &err);
    if (status == IMV_BUSY)
        imv_http_wait(request);
    else if (status == IMV_OK)
        reply(request, write);
    else
        imv_http_reply_error(request, 503, "unavailable", err.message);
}

static void end(struct imv_http_request *request) {
    struct write *write = imv_http_state(request);
    write->body_complete = true;
    if (!catch_up(write)) {
        imv_http_wait(request);
        return;
    }
    if (write->gzip && write->failure.status == IMV_OK && !write->inflate_done)
        imv_fail(&write->failure, IMV_INVALID, "the body ends inside its gzip data");
    if (write->failure.status != IMV_OK) imv_buffer_reset(&write->carry); /* the last line may be cut */
    if (!feed_carry(write, true)) {                                       /* full at the very last line */
        imv_http_wait(request);
        return;
    }
    if (write->arrow != NULL && write->failure.status == IMV_OK) imv_arrow_feed_end(write->arrow, &write->failure);
    reply_when_durable(request);
}

static void turn(struct imv_http_request *request) {
    struct write *write = imv_http_state(request);
    if (!write->marked && imv_http_refuse_when_full(request, write->feed.writer)) return;
    if (write->body_complete && !write->marked) {
        end(request);
    } else if (write->marked) {
        reply_when_durable(request);
    } else if (imv_writer_has_room(write->feed.writer) && catch_up(write)) {
        imv_http_resume(request);
    }
}

static void finish(struct imv_http_request *request) {
    struct write *write = imv_http_state(request);
    if (write == NULL) return;
    if (write->inflate_open) inflateEnd(&write->inflate);
    imv_arrow_feed_free(write->arrow);
    imv_buffer_release(&write->carry);
    imv_buffer_release(&write->packed);
    imv_buffer_release(&write->reasons);
    free(write);
}

const struct imv_http_handler imv_http_write_handler = {
    .begin = begin,
    .body = body,
    .end = end,
    .turn = turn,
    .finish = finish,
};
