/* JSON, and the pieces that NDJSON and CSV take from it. */
#include "engine/catalog.h"
#include "query/number.h"
#include "query/sink/format.h"

#include <inttypes.h>
#include <stdlib.h>
#include <utf8proc.h>

/* ---- strings ---- */

static void put_escape(struct imv_buffer *out, unsigned char byte) {
    static const char names[] = "btn?fr"; /* from 8 to 13; 11 has none */
    if (byte == '"' || byte == '\\')
        imv_buffer_append(out, (char[]){'\\', (char)byte}, 2);
    else if (byte >= 8 && byte <= 13 && byte != 11)
        imv_buffer_append(out, (char[]){'\\', names[byte - 8]}, 2);
    else
        imv_buffer_append_format(out, "\\u%04x", byte);
}

static bool is_plain(unsigned char byte) { return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\'; }

void imv_json_string(struct imv_buffer *out, struct imv_str text) {
    size_t plain = 0; /* from here on nothing has been written yet */
    imv_buffer_append_char(out, '"');
    for (size_t i = 0; i < text.size;) {
        unsigned char byte = (unsigned char)text.data[i];
        utf8proc_int32_t point;
        if (is_plain(byte)) {
            i++;
            continue;
        }
        utf8proc_ssize_t size = byte < 0x80 ? 0
                                            : utf8proc_iterate((const utf8proc_uint8_t *)text.data + i,
                                                               (utf8proc_ssize_t)(text.size - i), &point);
        if (size > 0) {
            i += (size_t)size;
            continue;
        }
        imv_buffer_append(out, text.data + plain, i - plain);
        if (byte < 0x80)
            put_escape(out, byte);
        else
            imv_buffer_append_str(out, IMV_STR("\xef\xbf\xbd"));
        plain = ++i;
    }
    if (text.size > plain) imv_buffer_append(out, text.data + plain, text.size - plain);
    imv_buffer_append_char(out, '"');
}

/* ---- values ---- */

static void put_number(struct imv_text_sink *sink, struct imv_buffer *out, enum imv_column_kind kind, uint64_t cell) {
    char text[IMV_SINK_NUMBER_BYTES_MAX + 2];
    bool bare;
    char *end = imv_sink_number(sink, text + 1, kind, cell, &bare);
    if (bare) {
        imv_buffer_append(out, text + 1, (size_t)(end - text) - 1);
        return;
    }
    text[0] = '"';
    *end++ = '"';
    imv_buffer_append(out, text, (size_t)(end - text));
}

static void put_list(struct imv_text_sink *sink, struct imv_buffer *out, const struct imv_value *list) {
    imv_buffer_append_char(out, '[');
    for (uint32_t i = 0; i < list->size; i++) {
        if (i > 0) imv_buffer_append_char(out, ',');
        imv_json_value(sink, out, &list->items[i]);
    }
    imv_buffer_append_char(out, ']');
}

static void put_map(struct imv_text_sink *sink, struct imv_buffer *out, const struct imv_value *map) {
    imv_buffer_append_char(out, '{');
    for (uint32_t i = 0; i < map->size; i++) {
        if (i > 0) imv_buffer_append_char(out, ',');
        imv_json_string(out, map->entries[i].key);
        imv_buffer_append_char(out, ':');
        imv_json_value(sink, out, &map->entries[i].value);
    }
    imv_buffer_append_char(out, '}');
}

static void put_twin(struct imv_buffer *out, const struct imv_series *twin) {
    imv_buffer_append_format(out, "{\"id\":%" PRIu64 ",\"labels\":[", imv_series_id(twin));
    imv_json_string(out, twin->label->name);
    imv_buffer_append_str(out, IMV_STR("],\"properties\":{"));
    for (uint32_t i = 0; i < twin->tags_count; i++) {
        struct imv_tag tag = imv_series_tag_at(twin, i);
        if (i > 0) imv_buffer_append_char(out, ',');
        imv_json_string(out, tag.key);
        imv_buffer_append_char(out, ':');
        imv_json_string(out, tag.value);
    }
    imv_buffer_append_str(out, IMV_STR("}}"));
}

void imv_json_value(struct imv_text_sink *sink, struct imv_buffer *out, const struct imv_value *value) {
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_NULL: imv_buffer_append_str(out, IMV_STR("null")); break;
        case IMV_VALUE_BOOLEAN: put_number(sink, out, IMV_COLUMN_BOOLEAN, value->boolean); break;
        case IMV_VALUE_INTEGER: put_number(sink, out, IMV_COLUMN_INTEGER, value->uinteger); break;
        case IMV_VALUE_UINTEGER: put_number(sink, out, IMV_COLUMN_UINTEGER, value->uinteger); break;
        case IMV_VALUE_FLOAT: put_number(sink, out, IMV_COLUMN_FLOAT, value->uinteger); break;
        case IMV_VALUE_TIME: put_number(sink, out, IMV_COLUMN_TIME, value->uinteger); break;
        case IMV_VALUE_DURATION: put_number(sink, out, IMV_COLUMN_DURATION, value->uinteger); break;
        case IMV_VALUE_STRING: imv_json_string(out, imv_value_str(value)); break;
        case IMV_VALUE_LIST: put_list(sink, out, value); break;
        case IMV_VALUE_MAP: put_map(sink, out, value); break;
        case IMV_VALUE_TWIN: put_twin(out, value->twin); break;
    }
}

/* ---- rows ---- */

static bool is_number(enum imv_column_kind kind) {
    return kind >= IMV_COLUMN_BOOLEAN && kind <= IMV_COLUMN_DURATION && kind != IMV_COLUMN_STRING;
}

/* Constant columns are printed once per batch; a row copies them. */
struct constant {
    size_t offset, size; /* in sink->constants */
};

/* Sizes of what stands in one row for certain: constants, numbers and commas. */
static size_t print_constants(struct imv_text_sink *sink, const struct imv_column *columns, size_t count,
                              struct constant *constants) {
    size_t bytes = 2;
    imv_buffer_reset(&sink->constants);
    for (size_t i = 0; i < count; i++) {
        constants[i].offset = sink->constants.size;
        if (columns[i].constant) {
            struct imv_value value = imv_column_value(&columns[i], 0);
            imv_json_value(sink, &sink->constants, &value);
        }
        constants[i].size = sink->constants.size - constants[i].offset;
        bytes += constants[i].size + IMV_SINK_NUMBER_BYTES_MAX + 3;
    }
    return bytes;
}

static char *put_cell(struct imv_text_sink *sink, char *at, const struct imv_column *column, size_t row) {
    bool bare;
    if (!imv_column_has(column, row)) {
        memcpy(at, "null", 4);
        return at + 4;
    }
    if (column->kind == IMV_COLUMN_INTEGER) return at + imv_integer_print(at, (int64_t)column->cells[row]);
    char *end = imv_sink_number(sink, at + 1, (enum imv_column_kind)column->kind, column->cells[row], &bare);
    if (!bare) {
        *at = '"';
        *end++ = '"';
        return end;
    }
    memmove(at, at + 1, (size_t)(end - at) - 1);
    return end - 1;
}

/* One row into the buffer; bytes is what print_constants said. */
static bool put_row(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t row,
                    const struct constant *constants, size_t bytes) {
    struct imv_buffer *out = &sink->buffer;
    char *at = imv_buffer_reserve(out, bytes);
    if (at == NULL) return false;
    *at++ = '[';
    for (size_t i = 0; i < count; i++) {
        const struct imv_column *column = &columns[i];
        if (i > 0) *at++ = ',';
        if (column->constant) {
            memcpy(at, sink->constants.data + constants[i].offset, constants[i].size);
            at += constants[i].size;
        } else if (is_number((enum imv_column_kind)column->kind)) {
            at = put_cell(sink, at, column, row);
        } else {
            struct imv_value value = imv_column_value(column, row);
            out->size = (size_t)(at - out->data);
            imv_json_value(sink, out, &value);
            at = imv_buffer_reserve(out, bytes);
            if (at == NULL) return false;
        }
    }
    *at++ = ']';
    out->size = (size_t)(at - out->data);
    return true;
}

bool imv_json_rows(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t rows,
                   struct imv_str prefix, struct imv_str suffix) {
    struct constant few[64], *constants = count <= 64 ? few : malloc(count * sizeof *constants);
    bool good = constants != NULL;
    size_t bytes = good ? print_constants(sink, columns, count, constants) : 0;
    for (size_t row = 0; row < rows && good; row++) {
        if (sink->any_rows) imv_buffer_append_str(&sink->buffer, prefix);
        sink->any_rows = true;
        put_row(sink, columns, count, row, constants, bytes);
        imv_buffer_append_str(&sink->buffer, suffix);
        good = imv_sink_flush(sink, false);
    }
    if (constants != few) free(constants);
    return good;
}

/* ---- the other parts ---- */

void imv_json_names(struct imv_buffer *out, const struct imv_str *columns, size_t count) {
    imv_buffer_append_str(out, IMV_STR("\"columns\":["));
    for (size_t i = 0; i < count; i++) {
        if (i > 0) imv_buffer_append_char(out, ',');
        imv_json_string(out, columns[i]);
    }
    imv_buffer_append_char(out, ']');
}

void imv_json_statistics(struct imv_buffer *out, const struct imv_query_statistics *statistics) {
    imv_buffer_append_format(out, "\"stats\":{\"rows\":%" PRIu64 ",\"samples\":%" PRIu64 ",\"elapsed_ms\":%.3f}",
                             statistics->rows, statistics->samples, (double)statistics->elapsed_ns / 1e6);
}

void imv_json_error(struct imv_buffer *out, const struct imv_query_error *error) {
    imv_buffer_append_str(out, IMV_STR("{\"code\":"));
    imv_json_string(out, imv_str_from(error->code == NULL ? "" : error->code));
    imv_buffer_append_str(out, IMV_STR(",\"detail\":"));
    imv_json_string(out, imv_str_from(error->detail == NULL ? "" : error->detail));
    imv_buffer_append_str(out, IMV_STR(",\"message\":"));
    imv_json_string(out, imv_str_from(error->message));
    imv_buffer_append_format(out, ",\"line\":%d,\"column\":%d", error->line, error->column);
    if (error->snippet[0] != 0) {
        imv_buffer_append_str(out, IMV_STR(",\"snippet\":"));
        imv_json_string(out, imv_str_from(error->snippet));
    }
    if (error->suggestion[0] != 0) {
        imv_buffer_append_str(out, IMV_STR(",\"suggestion\":"));
        imv_json_string(out, imv_str_from(error->suggestion));
    }
    imv_buffer_append_char(out, '}');
}

bool imv_query_error_json(struct imv_buffer *out, const struct imv_query_error *error) {
    imv_buffer_append_str(out, IMV_STR("{\"error\":"));
    imv_json_error(out, error);
    return imv_buffer_append_char(out, '}');
}

static void json_begin(struct imv_text_sink *sink, const struct imv_str *columns, size_t count) {
    imv_buffer_append_char(&sink->buffer, '{');
    imv_json_names(&sink->buffer, columns, count);
    imv_buffer_append_str(&sink->buffer, IMV_STR(",\"rows\":["));
}

static bool json_rows(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t rows) {
    return imv_json_rows(sink, columns, count, rows, IMV_STR(","), IMV_STR(""));
}

static bool json_end(struct imv_text_sink *sink, const struct imv_query_statistics *statistics) {
    imv_buffer_append_str(&sink->buffer, IMV_STR("],"));
    imv_json_statistics(&sink->buffer, statistics);
    imv_buffer_append_char(&sink->buffer, '}');
    return true;
}

static void json_error(struct imv_text_sink *sink, const struct imv_query_error *error) {
    imv_buffer_append_str(&sink->buffer, IMV_STR("],\"error\":"));
    imv_json_error(&sink->buffer, error);
    imv_buffer_append_char(&sink->buffer, '}');
}

const struct imv_text_format imv_format_json = {.content_type = "application/json",
                                                .begin = json_begin,
                                                .rows = json_rows,
                                                .end = json_end,
                                                .error = json_error,
                                                .error_alone = true};
