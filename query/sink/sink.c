#include "query/number.h"
#include "query/sink/format.h"

#include <math.h>

/* A row may be as large as its strings; a gibibyte is more than any query may hold. */
enum { BUFFER_BYTES_MAX = 1 << 30 };

static const struct imv_text_format *format_of(enum imv_sink_format format) {
    static const struct imv_text_format *const formats[] = {[IMV_SINK_JSON] = &imv_format_json,
                                                            [IMV_SINK_NDJSON] = &imv_format_ndjson,
                                                            [IMV_SINK_CSV] = &imv_format_csv,
                                                            [IMV_SINK_ARROW] = &imv_format_arrow};
    return formats[format];
}

const char *imv_sink_content_type(enum imv_sink_format format) { return format_of(format)->content_type; }

bool imv_sink_flush(struct imv_text_sink *sink, bool all) {
    if (sink->buffer.failed || sink->constants.failed) sink->failed = true;
    if (sink->failed) return false;
    if (sink->buffer.size == 0 || (!all && sink->buffer.size < IMV_SINK_BUFFER_BYTES)) return true;
    sink->started = true;
    if (!sink->write(sink->context, sink->buffer.data, sink->buffer.size)) sink->failed = true;
    imv_buffer_reset(&sink->buffer);
    return !sink->failed;
}

bool imv_sink_tells_errors(enum imv_sink_format format) { return format_of(format)->error_alone; }

const struct imv_query_error *imv_text_sink_failure(const struct imv_text_sink *sink) {
    return sink->format->failure == NULL ? NULL : sink->format->failure(sink);
}

/* ---- the query's sink ---- */

static bool sink_begin(struct imv_query_sink *query_sink, const struct imv_str *columns, size_t count) {
    struct imv_text_sink *sink = (struct imv_text_sink *)query_sink;
    sink->begun = true;
    sink->format->begin(sink, columns, count);
    return imv_sink_flush(sink, false);
}

static bool sink_rows(struct imv_query_sink *query_sink, const struct imv_column *columns, size_t count, size_t rows) {
    struct imv_text_sink *sink = (struct imv_text_sink *)query_sink;
    return !sink->failed && sink->format->rows(sink, columns, count, rows);
}

static bool sink_end(struct imv_query_sink *query_sink, const struct imv_query_statistics *statistics) {
    struct imv_text_sink *sink = (struct imv_text_sink *)query_sink;
    return !sink->failed && sink->format->end(sink, statistics) && imv_sink_flush(sink, true);
}

void imv_text_sink_init(struct imv_text_sink *sink, enum imv_sink_format format, bool time_as_integer,
                        imv_sink_write *write, void *context) {
    *sink = (struct imv_text_sink){.sink = {.begin = sink_begin, .rows = sink_rows, .end = sink_end},
                                   .format = format_of(format),
                                   .time_as_integer = time_as_integer,
                                   .write = write,
                                   .context = context};
    imv_buffer_init(&sink->buffer, BUFFER_BYTES_MAX);
    imv_buffer_init(&sink->constants, BUFFER_BYTES_MAX);
    imv_time_printer_init(&sink->time_printer);
}

void imv_text_sink_release(struct imv_text_sink *sink) {
    if (sink->format->release != NULL) sink->format->release(sink);
    sink->state = NULL;
    imv_buffer_release(&sink->buffer);
    imv_buffer_release(&sink->constants);
}

bool imv_text_sink_error(struct imv_text_sink *sink, const struct imv_query_error *error) {
    if (sink->started) {
        sink->format->error(sink, error);
        return imv_sink_flush(sink, true);
    }
    imv_buffer_reset(&sink->buffer);
    if (!sink->format->error_alone) return true;
    imv_query_error_json(&sink->buffer, error);
    return imv_sink_flush(sink, true);
}

/* ---- numbers ---- */

static char *put_word(char *at, struct imv_str word) {
    memcpy(at, word.data, word.size);
    return at + word.size;
}

char *imv_sink_number(struct imv_text_sink *sink, char *at, enum imv_column_kind kind, uint64_t cell, bool *bare) {
    double number;
    *bare = true;
    switch (kind) {
        case IMV_COLUMN_BOOLEAN: return put_word(at, cell != 0 ? IMV_STR("true") : IMV_STR("false"));
        case IMV_COLUMN_INTEGER: return at + imv_integer_print(at, (int64_t)cell);
        case IMV_COLUMN_UINTEGER: return at + imv_uinteger_print(at, cell);
        case IMV_COLUMN_FLOAT:
            number = imv_cell_float(cell);
            *bare = isfinite(number);
            return at + imv_float_print(at, number);
        case IMV_COLUMN_TIME:
            if (sink->time_as_integer) return at + imv_integer_print(at, (int64_t)cell);
            *bare = false;
            imv_time_printer_print(&sink->time_printer, at, (int64_t)cell);
            return at + IMV_TIME_BYTES;
        default:
            imv_assert(kind == IMV_COLUMN_DURATION);
            *bare = false;
            return at + imv_duration_print(at, (int64_t)cell);
    }
}
