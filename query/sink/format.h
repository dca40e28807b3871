/* format.h - what one format does, and the pieces that formats share.
 *
 * To add a format: a file with a struct imv_text_format, a value of enum imv_sink_format and its line in sink.c.
 */
#pragma once

#include "query/column.h"
#include "query/sink/sink.h"

struct imv_text_format {
    const char *content_type;
    void (*begin)(struct imv_text_sink *sink, const struct imv_str *columns, size_t count);
    /* Calls imv_sink_flush after each row; false when that does. */
    bool (*rows)(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t rows);
    bool (*end)(struct imv_text_sink *sink, const struct imv_query_statistics *statistics); /* false: as rows */
    void (*error)(struct imv_text_sink *sink, const struct imv_query_error *error); /* in the middle of an answer */
    bool error_alone; /* an answer may consist of the error object */
    /* Why the format itself ended the query; NULL: it did not. May be absent. */
    const struct imv_query_error *(*failure)(const struct imv_text_sink *sink);
    void (*release)(struct imv_text_sink *sink); /* frees sink->state, which begin made. May be absent */
};

extern const struct imv_text_format imv_format_json, imv_format_ndjson, imv_format_csv, imv_format_arrow;

enum { IMV_SINK_BUFFER_BYTES = 64 * 1024, IMV_SINK_NUMBER_BYTES_MAX = 32 };

/* Sends the buffer when it is full enough, or in any case. False: the query is to end. */
bool imv_sink_flush(struct imv_text_sink *sink, bool all);

/* The text of a cell of a numeric kind (BOOLEAN, INTEGER, UINTEGER, FLOAT, TIME, DURATION), without quotes; returns the
 * byte after it. At most IMV_SINK_NUMBER_BYTES_MAX. *bare: the text is a JSON number or word, else it needs quotes. */
char *imv_sink_number(struct imv_text_sink *sink, char *at, enum imv_column_kind kind, uint64_t cell, bool *bare);

/* A value as JSON. */
void imv_json_value(struct imv_text_sink *sink, struct imv_buffer *out, const struct imv_value *value);

/* Rows as JSON arrays, each between two texts: prefix stands before every row but the very first. */
bool imv_json_rows(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t rows,
                   struct imv_str prefix, struct imv_str suffix);
void imv_json_names(struct imv_buffer *out, const struct imv_str *columns, size_t count);
void imv_json_statistics(struct imv_buffer *out, const struct imv_query_statistics *statistics);
/* {"code":..}: the inner object of an error. */
void imv_json_error(struct imv_buffer *out, const struct imv_query_error *error);
