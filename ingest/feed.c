#include "ingest/feed.h"

#include "ingest/line_known.h"
#include "ingest/line_spans.h"
#include "storage/base/assert.h"
#include "storage/base/clock.h"
#include "storage/base/metrics.h"

_Static_assert((int)IMV_LINE_TAGS_MAX == (int)IMV_TAGS_MAX, "a line's tags are a series' tags");
_Static_assert((int)IMV_LINE_FIELDS_MAX <= (int)IMV_FIELDS_MAX, "a line's fields are a row's fields");

void imv_feed_init(struct imv_feed *feed, struct imv_writer *writer, const struct imv_clock *clock,
                   enum imv_precision precision) {
    *feed = (struct imv_feed){.writer = writer, .clock = clock, .precision = precision};
    feed->unit_ns = imv_precision_unit(precision);
}

/* A point, parsed: views into the line or the scratch. */
struct point {
    uint32_t fields_count;
    size_t text_bytes; /* of all string values */
    int64_t timestamp;
    bool timestamp_present;
    struct imv_line_field fields[IMV_LINE_FIELDS_MAX];
};

static imv_status parse_point(const struct imv_line *line, enum imv_precision precision,
                              struct imv_line_scratch *scratch, struct point *point, struct imv_error *err) {
    const char *at = line->fields;
    point->fields_count = 0;
    point->text_bytes = 0;
    for (bool done = false; !done;) {
        if (point->fields_count == IMV_LINE_FIELDS_MAX) {
            return imv_fail(err, IMV_INVALID, "more than %d fields in a line", IMV_LINE_FIELDS_MAX);
        }
        struct imv_line_field *field = &point->fields[point->fields_count++];
        IMV_TRY(imv_line_field(line, &at, scratch, field, &done, err));
        if (field->type == IMV_STRING) point->text_bytes += field->text.size;
    }
    return imv_line_timestamp(line, at, precision, &point->timestamp, &point->timestamp_present, err);
}

/* Asked before a series is made, so that a line whose fields are refused leaves nothing behind. */
static imv_status check_row(struct imv_writer *writer, const struct point *point, struct imv_str label,
                            const struct imv_tag *tags, size_t tags_count, struct imv_error *err) {
    struct imv_field fields[IMV_LINE_FIELDS_MAX];
    for (uint32_t i = 0; i < point->fields_count; i++) {
        fields[i] = (struct imv_field){.name = point->fields[i].name, .type = point->fields[i].type};
    }
    return imv_writer_check_row(writer, label, tags, tags_count, fields, point->fields_count, err);
}

/* The series of the line's key, through the cache or made from its parts. */
static imv_status find_series(struct imv_writer *writer, const struct imv_line *line, const struct point *point,
                              struct imv_line_scratch *scratch, struct imv_series **series, struct imv_error *err) {
    *series = imv_writer_find_series(writer, line->raw_key);
    if (*series != NULL) return IMV_OK;
    struct imv_str label;
    struct imv_line_tag parsed[IMV_LINE_TAGS_MAX];
    struct imv_tag tags[IMV_LINE_TAGS_MAX];
    size_t count;
    IMV_TRY(imv_line_key(line, scratch, &label, parsed, &count, err));
    for (size_t i = 0; i < count; i++) tags[i] = (struct imv_tag){parsed[i].key, parsed[i].value};
    IMV_TRY(check_row(writer, point, label, tags, count, err));
    return imv_writer_make_series(writer, line->raw_key, label, tags, count, series, err);
}

static imv_status write_fields(struct imv_writer *writer, const struct point *point, struct imv_error *err) {
    for (uint32_t i = 0; i < point->fields_count; i++) {
        const struct imv_line_field *field = &point->fields[i];
        IMV_TRY(field->type == IMV_STRING ? imv_writer_field_string(writer, field->name, field->text, err)
                                          : imv_writer_field(writer, field->name, field->type, field->cell, err));
    }
    return IMV_OK;
}

static imv_status write_point(struct imv_feed *feed, const struct imv_line *line, int64_t now, struct imv_error *err) {
    char unescaped[IMV_LINE_BYTES_MAX]; /* not cleared: only lines with escapes touch it */
    struct imv_line_scratch scratch = {unescaped, unescaped + sizeof unescaped};
    struct point point;
    IMV_TRY(parse_point(line, feed->precision, &scratch, &point, err));
    struct imv_series *series;
    IMV_TRY(find_series(feed->writer, line, &point, &scratch, &series, err));
    IMV_TRY(imv_writer_begin(feed->writer, series, point.fields_count, point.text_bytes, err));
    imv_status status = write_fields(feed->writer, &point, err);
    if (status != IMV_OK) {
        imv_writer_abort(feed->writer);
        return status;
    }
    return imv_writer_end(feed->writer, point.timestamp_present ? point.timestamp : now, err);
}

/* Counts the line under way as refused. */
static void reject(struct imv_feed *feed, const char *text, size_t size, const struct imv_error *cause) {
    enum { SHOWN_BYTES = 48 };
    feed->rejected++;
    if (feed->reject == NULL) return;
    char shown[SHOWN_BYTES];
    size_t count = size < sizeof shown ? size : sizeof shown;
    for (size_t i = 0; i < count; i++) {
        unsigned char byte = (unsigned char)text[i];
        shown[i] = byte < 0x20 || byte == 0x7f ? '?' : text[i];
    }
    struct imv_error reason;
    imv_fail(&reason, cause->status, "%s: %.*s%s", cause->message, (int)count, shown, count < size ? "..." : "");
    feed->reject(feed->context, feed->lines + 1, &reason);
}

/* Handles one line; false when the feed is to stop behind it. */
static bool take_line(struct imv_feed *feed, const char *text, size_t size, int64_t now) {
    struct imv_error err;
    enum imv_line_kind kind;
    struct imv_line line;
    bool go_on = true;
    imv_status status = imv_line_split(text, size, &kind, &line, &err);
    if (status == IMV_OK && kind == IMV_LINE_POINT) {
        status = write_point(feed, &line, now, &err);
        feed->rows += status == IMV_OK;
    } else if (status == IMV_OK && kind == IMV_LINE_COMMENT && feed->comment != NULL) {
        struct imv_str comment = {line.raw_key.data + 1, line.raw_key.size - 1};
        go_on = feed->comment(feed->context, comment);
    }
    if (status != IMV_OK) reject(feed, text, size, &err);
    feed->lines++;
    return go_on;
}

/* A line has passed its limit without an end: it is refused now, and dropped up to its end. */
static void begin_skip(struct imv_feed *feed, const char *text, size_t size) {
    struct imv_error err;
    imv_fail(&err, IMV_INVALID, "line of more than %d bytes", IMV_LINE_BYTES_MAX);
    reject(feed, text, size, &err);
    feed->skipping = true;
}

static void end_skip(struct imv_feed *feed) {
    feed->skipping = false;
    feed->lines++;
}

/* What is there of the line under way has no end yet. Returns how many bytes of it are done. */
static size_t take_rest(struct imv_feed *feed, const char *text, size_t size, bool final, int64_t now) {
    if (!feed->skipping && size > IMV_LINE_BYTES_MAX) begin_skip(feed, text, size);
    if (!final) {
        if (!feed->skipping) return 0;
        imv_line_scan_drop(text, size, &feed->scan);
        return size;
    }
    if (feed->skipping) {
        end_skip(feed);
    } else if (size > 0) {
        take_line(feed, text, size, now);
    }
    feed->scan = (struct imv_line_scan){0};
    return size;
}

/* ---- simple lines ---- */

/* A simple line of a known series, text ending with its line feed and followed by padding. False: nothing was done. */
static bool write_known(struct imv_feed *feed, const char *text, size_t key_end, size_t end, struct imv_series *series,
                        int64_t now) {
    const struct imv_shape *const *shapes = imv_writer_shapes(feed->writer, series->label);
    size_t room = imv_line_known_row_bytes(end - key_end);
    struct imv_row *row = imv_writer_place(feed->writer, series, room);
    if (shapes == NULL || row == NULL) return false;
    if (text[end - 1] == '\r') end--;
    struct imv_line_known known;
    if (!imv_line_known_parse(text + key_end + 1, text + end, shapes, IMV_WRITER_SHAPES, feed->unit_ns, row, room,
                              &known)) {
        return false;
    }
    imv_writer_put(feed->writer, row, series, known.shape, known.timestamp_present ? known.timestamp : now,
                   known.bytes);
    feed->rows++;
    feed->lines++;
    return true;
}

/* Takes lines that were found, as many as the writer has room for; returns how many. Those that turn out not to be
 * known go the way of all lines. */
static size_t take_found(struct imv_feed *feed, const struct imv_line_spans *spans, const struct imv_line_span *found,
                         size_t count, int64_t now) {
    struct imv_str keys[IMV_WRITER_FIND_MAX];
    struct imv_series *series[IMV_WRITER_FIND_MAX];
    for (size_t i = 0; i < count; i++) {
        keys[i] = (struct imv_str){spans->text + found[i].start, found[i].key_end - found[i].start};
    }
    imv_writer_find_many(feed->writer, keys, count, series);
    for (size_t i = 0; i < count; i++) {
        const struct imv_line_span *span = &found[i];
        const char *text = spans->text + span->start;
        size_t length = span->end - span->start;
        if (series[i] != NULL) {
            char copy[IMV_LINE_SIMPLE_BYTES_MAX + 1 + IMV_LINE_PADDING];
            if (spans->size - span->end <= IMV_LINE_PADDING) {
                memcpy(copy, text, length + 1);
                memset(copy + length + 1, 0, IMV_LINE_PADDING);
                text = copy;
            }
            if (write_known(feed, text, span->key_end - span->start, length, series[i], now)) continue;
            text = spans->text + span->start;
        }
        if (!imv_writer_has_room(feed->writer)) return i;
        take_line(feed, text, length, now);
    }
    return count;
}

/* Takes the simple lines that stand at offset done; returns where the next line begins. */
static size_t take_simple(struct imv_feed *feed, struct imv_line_spans *spans, size_t done, int64_t now) {
    struct imv_line_span found[IMV_WRITER_FIND_MAX];
    for (;;) {
        size_t count = imv_line_spans_find(spans, done, found, IMV_WRITER_FIND_MAX);
        if (count == 0) return done;
        size_t taken = take_found(feed, spans, found, count, now);
        if (taken > 0) done = found[taken - 1].end + 1;
        feed->scan = (struct imv_line_scan){0};
        if (taken < count) return done;
    }
}

/* ---- all lines ---- */

static size_t take_lines(struct imv_feed *feed, const char *bytes, size_t size, bool final, int64_t now) {
    size_t done = 0;
    struct imv_line_spans spans;
    imv_line_spans_init(&spans, bytes, size);
    while (done < size || (final && feed->skipping)) {
        if (!imv_writer_has_room(feed->writer)) return done;
        /* A line that is followed byte by byte, or that has passed what is simple, is not looked at from its start
         * again. */
        if (!feed->skipping && feed->scan.flags == 0 && feed->scan.scanned <= IMV_LINE_SIMPLE_BYTES_MAX) {
            size_t former = done;
            done = take_simple(feed, &spans, done, now);
            if (done > former) continue;
        }
        const char *text = bytes + done;
        ptrdiff_t length = imv_line_find_end(text, size - done, &feed->scan);
        if (length < 0) return done + take_rest(feed, text, size - done, final, now);
        feed->scan = (struct imv_line_scan){0};
        done += (size_t)length + 1;
        if (feed->skipping) {
            end_skip(feed);
        } else if (!take_line(feed, text, (size_t)length, now)) {
            return done;
        }
    }
    return done;
}

size_t imv_feed_take(struct imv_feed *feed, const char *bytes, size_t size, bool final) {
    uint64_t rejected = feed->rejected;
    int64_t now = imv_precision_floor(feed->precision, imv_clock_wall_ns(feed->clock));
    size_t done = take_lines(feed, bytes, size, final, now);
    imv_assert(done <= size);
    imv_metric_add(IMV_METRIC_ingest_bytes_total, (int64_t)done);
    imv_metric_add(IMV_METRIC_ingest_lines_rejected_total, (int64_t)(feed->rejected - rejected));
    return done;
}
