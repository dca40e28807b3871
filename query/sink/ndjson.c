/* NDJSON: every line is a JSON document. */
#include "query/sink/format.h"

static void ndjson_begin(struct imv_text_sink *sink, const struct imv_str *columns, size_t count) {
    imv_buffer_append_char(&sink->buffer, '{');
    imv_json_names(&sink->buffer, columns, count);
    imv_buffer_append_str(&sink->buffer, IMV_STR("}\n"));
}

static bool ndjson_rows(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t rows) {
    return imv_json_rows(sink, columns, count, rows, IMV_STR(""), IMV_STR("\n"));
}

static bool ndjson_end(struct imv_text_sink *sink, const struct imv_query_statistics *statistics) {
    imv_buffer_append_char(&sink->buffer, '{');
    imv_json_statistics(&sink->buffer, statistics);
    imv_buffer_append_str(&sink->buffer, IMV_STR("}\n"));
    return true;
}

static void ndjson_error(struct imv_text_sink *sink, const struct imv_query_error *error) {
    imv_query_error_json(&sink->buffer, error);
    imv_buffer_append_char(&sink->buffer, '\n');
}

const struct imv_text_format imv_format_ndjson = {.content_type = "application/x-ndjson",
                                                  .begin = ndjson_begin,
                                                  .rows = ndjson_rows,
                                                  .end = ndjson_end,
                                                  .error = ndjson_error,
                                                  .error_alone = true};
