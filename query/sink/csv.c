/* CSV, RFC 4180. */
#include "query/sink/format.h"

static void put_text(struct imv_buffer *out, struct imv_str text) {
    bool quotes = false;
    for (size_t i = 0; i < text.size && !quotes; i++)
        quotes = text.data[i] == '"' || text.data[i] == ',' || text.data[i] == '\r' || text.data[i] == '\n';
    if (!quotes) {
        imv_buffer_append_str(out, text);
        return;
    }
    imv_buffer_append_char(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '"') imv_buffer_append_char(out, '"');
        imv_buffer_append_char(out, text.data[i]);
    }
    imv_buffer_append_char(out, '"');
}

/* Lists, maps and twins as JSON text. */
static void put_json(struct imv_text_sink *sink, const struct imv_value *value) {
    imv_buffer_reset(&sink->constants);
    imv_json_value(sink, &sink->constants, value);
    put_text(&sink->buffer, imv_buffer_view(&sink->constants));
}

static void put_number(struct imv_text_sink *sink, enum imv_column_kind kind, uint64_t cell) {
    bool bare;
    char *at = imv_buffer_reserve(&sink->buffer, IMV_SINK_NUMBER_BYTES_MAX);
    if (at == NULL) return;
    char *end = imv_sink_number(sink, at, kind, cell, &bare);
    sink->buffer.size += (size_t)(end - at);
}

static void put_value(struct imv_text_sink *sink, const struct imv_value *value) {
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_NULL: break;
        case IMV_VALUE_BOOLEAN: put_number(sink, IMV_COLUMN_BOOLEAN, value->boolean); break;
        case IMV_VALUE_INTEGER: put_number(sink, IMV_COLUMN_INTEGER, value->uinteger); break;
        case IMV_VALUE_UINTEGER: put_number(sink, IMV_COLUMN_UINTEGER, value->uinteger); break;
        case IMV_VALUE_FLOAT: put_number(sink, IMV_COLUMN_FLOAT, value->uinteger); break;
        case IMV_VALUE_TIME: put_number(sink, IMV_COLUMN_TIME, value->uinteger); break;
        case IMV_VALUE_DURATION: put_number(sink, IMV_COLUMN_DURATION, value->uinteger); break;
        case IMV_VALUE_STRING: put_text(&sink->buffer, imv_value_str(value)); break;
        case IMV_VALUE_LIST:
        case IMV_VALUE_MAP:
        case IMV_VALUE_TWIN: put_json(sink, value); break;
    }
}

static void csv_begin(struct imv_text_sink *sink, const struct imv_str *columns, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (i > 0) imv_buffer_append_char(&sink->buffer, ',');
        put_text(&sink->buffer, columns[i]);
    }
    imv_buffer_append_str(&sink->buffer, IMV_STR("\r\n"));
}

static bool csv_rows(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t rows) {
    for (size_t row = 0; row < rows; row++) {
        for (size_t i = 0; i < count; i++) {
            struct imv_value value = imv_column_value(&columns[i], row);
            if (i > 0) imv_buffer_append_char(&sink->buffer, ',');
            put_value(sink, &value);
        }
        imv_buffer_append_str(&sink->buffer, IMV_STR("\r\n"));
        if (!imv_sink_flush(sink, false)) return false;
    }
    return true;
}

static bool csv_end(struct imv_text_sink *sink, const struct imv_query_statistics *statistics) {
    (void)sink, (void)statistics;
    return true;
}

static void csv_error(struct imv_text_sink *sink, const struct imv_query_error *error) { (void)sink, (void)error; }

const struct imv_text_format imv_format_csv = {.content_type = "text/csv; charset=utf-8; header=present",
                                               .begin = csv_begin,
                                               .rows = csv_rows,
                                               .end = csv_end,
                                               .error = csv_error};
