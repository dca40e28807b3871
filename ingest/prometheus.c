#include "ingest/prometheus.h"

#include "storage/base/buffer.h"
#include "storage/base/metrics.h"
#include "storage/base/utf8.h"

#include <inttypes.h>

void imv_prometheus_init(struct imv_prometheus *prometheus, struct imv_writer *writer) {
    *prometheus = (struct imv_prometheus){.writer = writer};
}

/* ---- the wire format of protobuf ---- */

enum wire_type { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 }; /* 3 and 4, groups, are gone */
enum { FIELD_NUMBER_MAX = (1 << 29) - 1 };

struct wire_field {
    uint32_t number;
    enum wire_type type;
    uint64_t bits;        /* of all types but BYTES */
    struct imv_str bytes; /* of BYTES: a view of the input */
};

/* Reads the field at `at`; returns the byte after it, NULL when there is none. */
static const uint8_t *read_field(const uint8_t *at, const uint8_t *end, struct wire_field *field) {
    uint64_t tag, size;
    at = imv_get_varint(at, end, &tag);
    if (at == NULL || tag >> 3 == 0 || tag >> 3 > FIELD_NUMBER_MAX) return NULL;
    field->number = (uint32_t)(tag >> 3);
    field->type = (enum wire_type)(tag & 7);
    switch (field->type) {
        case WIRE_VARINT: return imv_get_varint(at, end, &field->bits);
        case WIRE_FIXED64:
            if (end - at < 8) return NULL;
            field->bits = imv_get_u64(at);
            return at + 8;
        case WIRE_FIXED32:
            if (end - at < 4) return NULL;
            field->bits = imv_get_u32(at);
            return at + 4;
        case WIRE_BYTES:
            at = imv_get_varint(at, end, &size);
            if (at == NULL || size > (uint64_t)(end - at)) return NULL;
            field->bytes = (struct imv_str){(const char *)at, (size_t)size};
            return at + size;
    }
    return NULL;
}

static const uint8_t *begin_of(struct imv_str bytes) { return (const uint8_t *)bytes.data; }
static const uint8_t *end_of(struct imv_str bytes) { return (const uint8_t *)bytes.data + bytes.size; }

/* ---- the messages ---- */

enum { REQUEST_SERIES = 1 };
enum { SERIES_LABEL = 1, SERIES_SAMPLE = 2, SERIES_EXEMPLAR = 3, SERIES_HISTOGRAM = 4 };
enum { LABEL_NAME = 1, LABEL_VALUE = 2 };
enum { SAMPLE_VALUE = 1, SAMPLE_TIMESTAMP = 2 };

struct sample {
    uint64_t cell;
    int64_t timestamp_ms;
};

/* A member that is not there has its default, and the last of several counts: the rules of protobuf. */
static bool read_sample(struct imv_str bytes, struct sample *sample) {
    *sample = (struct sample){0};
    for (const uint8_t *at = begin_of(bytes), *end = end_of(bytes); at < end;) {
        struct wire_field field;
        at = read_field(at, end, &field);
        if (at == NULL) return false;
        if (field.number == SAMPLE_VALUE) {
            if (field.type != WIRE_FIXED64) return false;
            sample->cell = field.bits;
        } else if (field.number == SAMPLE_TIMESTAMP) {
            if (field.type != WIRE_VARINT) return false;
            sample->timestamp_ms = (int64_t)field.bits;
        }
    }
    return true;
}

static bool read_label(struct imv_str bytes, struct imv_tag *tag) {
    *tag = (struct imv_tag){{"", 0}, {"", 0}};
    for (const uint8_t *at = begin_of(bytes), *end = end_of(bytes); at < end;) {
        struct wire_field field;
        at = read_field(at, end, &field);
        if (at == NULL) return false;
        if (field.number != LABEL_NAME && field.number != LABEL_VALUE) continue;
        if (field.type != WIRE_BYTES) return false;
        *(field.number == LABEL_NAME ? &tag->key : &tag->value) = field.bytes;
    }
    return true;
}

/* The fields of a series up to its first that is no label, or to the limit: as they stand they are the key of the
 * series cache. Keys of line protocol never begin with a line feed, and these all do (tag 0x0a), so the two cannot
 * meet. */
static struct imv_str find_labels(struct imv_str series) {
    const uint8_t *at = begin_of(series), *end = end_of(series);
    struct wire_field field;
    for (const uint8_t *next; at < end && at - begin_of(series) < IMV_PROMETHEUS_LABELS_BYTES_MAX; at = next) {
        next = read_field(at, end, &field);
        if (next == NULL || field.number != SERIES_LABEL || field.type != WIRE_BYTES) break;
    }
    return (struct imv_str){series.data, (size_t)(at - begin_of(series))};
}

/* ---- labels to a series ---- */

static imv_status check_label(const struct imv_tag *tag, struct imv_error *err) {
    if (tag->key.size == 0) return imv_fail(err, IMV_INVALID, "a label has no name");
    if (!imv_utf8_valid(tag->key)) return imv_fail(err, IMV_INVALID, "the name of a label is not UTF-8");
    if (!imv_utf8_valid(tag->value))
        return imv_fail(err, IMV_INVALID, "the value of label '%.*s' is not UTF-8",
                        (int)(tag->key.size < 100 ? tag->key.size : 100), tag->key.data);
    if (imv_str_equal(tag->key, IMV_STR("value")))
        return imv_fail(err, IMV_INVALID, "label 'value' has the name of the field that holds the samples");
    return IMV_OK;
}

/* Cuts labels into the metric's name and tags[IMV_TAGS_MAX]. Doubles among the tags are left to the catalog. */
static imv_status parse_labels(struct imv_str labels, struct imv_str *name, struct imv_tag *tags, size_t *count,
                               struct imv_error *err) {
    *name = (struct imv_str){0};
    *count = 0;
    for (const uint8_t *at = begin_of(labels), *end = end_of(labels); at < end;) {
        struct wire_field field;
        struct imv_tag tag;
        at = read_field(at, end, &field);
        if (!read_label(field.bytes, &tag)) return imv_fail(err, IMV_INVALID, "a label is malformed");
        IMV_TRY(check_label(&tag, err));
        if (tag.value.size == 0) continue;
        if (imv_str_equal(tag.key, IMV_STR("__name__"))) {
            if (name->size > 0) return imv_fail(err, IMV_INVALID, "label __name__ is given twice");
            *name = tag.value;
        } else {
            if (*count == IMV_TAGS_MAX) return imv_fail(err, IMV_INVALID, "more than %d labels", IMV_TAGS_MAX);
            tags[(*count)++] = tag;
        }
    }
    return name->size > 0 ? IMV_OK : imv_fail(err, IMV_INVALID, "there is no label __name__");
}

static imv_status find_series(struct imv_writer *writer, struct imv_str labels, struct imv_series **series,
                              struct imv_error *err) {
    *series = imv_writer_find_series(writer, labels);
    if (*series != NULL) return IMV_OK;
    struct imv_str name;
    struct imv_tag tags[IMV_TAGS_MAX];
    size_t count;
    IMV_TRY(parse_labels(labels, &name, tags, &count, err));
    const struct imv_field value = {.name = IMV_STR("value"), .type = IMV_FLOAT};
    IMV_TRY(imv_writer_check_row(writer, name, tags, count, &value, 1, err));
    return imv_writer_make_series(writer, labels, name, tags, count, series, err);
}

/* ---- reasons ---- */

enum {
    SHOWN_BYTES = 160,           /* of a series */
    SHOWN_LABELS = IMV_TAGS_MAX, /* looked at for it: most of what a hostile request sends may be empty */
};

/* Appends what is shown of a text at most. */
static void append_shown(struct imv_buffer *out, struct imv_str text) {
    imv_buffer_append(out, text.data, text.size <= SHOWN_BYTES ? text.size : SHOWN_BYTES + 1);
}

static void describe_label(const struct imv_tag *tag, const char *separator, struct imv_buffer *out) {
    imv_buffer_append_str(out, imv_str_from(separator));
    append_shown(out, tag->key);
    imv_buffer_append_str(out, IMV_STR("=\""));
    append_shown(out, tag->value);
    imv_buffer_append_char(out, '"');
}

/* up{job="x",instance="y"}, or as much of it as can be read and is shown. */
static void describe(struct imv_str labels, struct imv_buffer *out) {
    const char *separator = "{";
    for (int part = 0; part < 2; part++) { /* the name, then the labels */
        const uint8_t *at = begin_of(labels), *end = end_of(labels);
        for (int count = 0; at < end && count < SHOWN_LABELS && out->size <= SHOWN_BYTES; count++) {
            struct imv_tag tag;
            struct wire_field field;
            at = read_field(at, end, &field);
            if (!read_label(field.bytes, &tag)) break;
            bool is_name = imv_str_equal(tag.key, IMV_STR("__name__"));
            if (is_name && part == 0) append_shown(out, tag.value);
            if (is_name || part == 0) continue;
            describe_label(&tag, separator, out);
            separator = ",";
        }
    }
    imv_buffer_append_str(out, separator[0] == '{' ? IMV_STR("{}") : IMV_STR("}"));
}

static void say(struct imv_prometheus *prometheus, struct imv_str labels, const struct imv_error *cause) {
    if (++prometheus->refusals > IMV_PROMETHEUS_REASONS_MAX || prometheus->reject == NULL) return;
    struct imv_buffer series;
    imv_buffer_init(&series, 8 * SHOWN_BYTES);
    describe(labels, &series);
    size_t shown = series.size < SHOWN_BYTES ? series.size : SHOWN_BYTES;
    for (size_t i = 0; i < shown; i++) {
        unsigned char byte = (unsigned char)series.data[i];
        if (byte < 0x20 || byte == 0x7f) series.data[i] = '?';
    }
    struct imv_error reason;
    imv_fail(&reason, cause->status, "%.*s%s: %s", (int)shown, shown == 0 ? "" : series.data,
             shown < series.size ? "..." : "", cause->message);
    prometheus->reject(prometheus->context, &reason);
    imv_buffer_release(&series);
}

/* ---- samples to rows ---- */

static imv_status write_sample(struct imv_writer *writer, struct imv_series *series, uint64_t cell, int64_t timestamp,
                               struct imv_error *err) {
    IMV_TRY(imv_writer_begin(writer, series, 1, 0, err));
    imv_status status = imv_writer_field(writer, IMV_STR("value"), IMV_FLOAT, cell, err);
    if (status != IMV_OK) {
        imv_writer_abort(writer);
        return status;
    }
    return imv_writer_end(writer, timestamp, err);
}

/* Takes or refuses one sample. *series is found at the first. A failure that is not of this sample's time is one of all
 * samples of the series: the first says so, the others are only counted. */
static void take_sample(struct imv_prometheus *prometheus, struct imv_str labels, struct imv_series **series,
                        const struct sample *sample) {
    struct imv_error err;
    imv_status status = IMV_OK;
    int64_t timestamp;
    if (*series == NULL) status = find_series(prometheus->writer, labels, series, &err);
    if (status == IMV_OK && __builtin_mul_overflow(sample->timestamp_ms, INT64_C(1000000), &timestamp)) {
        imv_fail(&err, IMV_INVALID, "the time %" PRId64 " ms does not fit 64-bit nanoseconds", sample->timestamp_ms);
        say(prometheus, labels, &err);
        prometheus->rejected++;
        return;
    }
    if (status == IMV_OK) status = write_sample(prometheus->writer, *series, sample->cell, timestamp, &err);
    if (status == IMV_OK) {
        prometheus->rows++;
        return;
    }
    say(prometheus, labels, &err);
    prometheus->rejected++;
    prometheus->series_refused = true;
}

/* Handles one field of a series that stands behind its labels. IMV_INVALID: it is malformed. IMV_FULL. */
static imv_status take_series_field(struct imv_prometheus *prometheus, struct imv_str labels,
                                    struct imv_series **series, const struct wire_field *field) {
    struct sample sample;
    struct imv_error err;
    if (field->number > SERIES_HISTOGRAM) return IMV_OK;
    if (field->type != WIRE_BYTES) return IMV_INVALID;
    switch (field->number) {
        case SERIES_SAMPLE:
            if (!read_sample(field->bytes, &sample)) return IMV_INVALID;
            if (prometheus->series_refused) {
                prometheus->rejected++;
                return IMV_OK;
            }
            if (!imv_writer_has_room(prometheus->writer)) return IMV_FULL;
            take_sample(prometheus, labels, series, &sample);
            return IMV_OK;
        case SERIES_LABEL:
            if (prometheus->series_refused) return IMV_OK;
            imv_fail(&err, IMV_INVALID,
                     "its labels do not stand together before its samples, or have more than %d bytes",
                     IMV_PROMETHEUS_LABELS_BYTES_MAX);
            say(prometheus, labels, &err);
            prometheus->series_refused = true;
            return IMV_OK;
        case SERIES_EXEMPLAR: imv_metric_add(IMV_METRIC_remote_write_exemplars_ignored_total, 1); return IMV_OK;
        default: imv_metric_add(IMV_METRIC_remote_write_histograms_ignored_total, 1); return IMV_OK;
    }
}

/* Goes on in one series. Whoever comes back to it finds it again by its labels: no pointer into the catalog is kept
 * from one turn to the next. */
static imv_status take_series(struct imv_prometheus *prometheus, struct imv_str bytes, const uint8_t *stop) {
    struct imv_str labels = find_labels(bytes);
    struct imv_series *series = NULL;
    const uint8_t *at = begin_of(bytes) + (prometheus->series_at > 0 ? prometheus->series_at : labels.size);
    imv_status status = IMV_OK;
    while (at < end_of(bytes) && status == IMV_OK) {
        struct wire_field field;
        const uint8_t *next = read_field(at, end_of(bytes), &field);
        if (at >= stop)
            status = IMV_BUSY;
        else if (next == NULL)
            status = IMV_INVALID;
        else
            status = take_series_field(prometheus, labels, &series, &field);
        if (status == IMV_OK) at = next;
    }
    prometheus->series_at = (size_t)(at - begin_of(bytes));
    return status;
}

static imv_status take_request(struct imv_prometheus *prometheus, struct imv_str request) {
    const uint8_t *start = begin_of(request), *end = end_of(request);
    size_t from = prometheus->message_at + prometheus->series_at;
    const uint8_t *stop =
        request.size - from > IMV_PROMETHEUS_TURN_BYTES ? start + from + IMV_PROMETHEUS_TURN_BYTES : end;
    while (prometheus->message_at < request.size) {
        struct wire_field field;
        const uint8_t *at = start + prometheus->message_at, *next = read_field(at, end, &field);
        if (next == NULL) return IMV_INVALID;
        if (at >= stop) return IMV_BUSY;
        if (field.number == REQUEST_SERIES) {
            if (field.type != WIRE_BYTES) return IMV_INVALID;
            IMV_TRY(take_series(prometheus, field.bytes, stop));
        }
        prometheus->message_at = (size_t)(next - start);
        prometheus->series_at = 0;
        prometheus->series_refused = false;
    }
    return IMV_OK;
}

imv_status imv_prometheus_take(struct imv_prometheus *prometheus, const char *bytes, size_t size,
                               struct imv_error *err) {
    uint64_t rejected = prometheus->rejected;
    imv_status status = take_request(prometheus, (struct imv_str){bytes, size});
    imv_metric_add(IMV_METRIC_remote_write_samples_rejected_total, (int64_t)(prometheus->rejected - rejected));
    if (status == IMV_INVALID)
        imv_fail(err, IMV_INVALID, "the body is no WriteRequest: bad protobuf in the field at byte %zu",
                 prometheus->message_at);
    return status;
}
