/* sink.h - answers as bytes: JSON, NDJSON, CSV and Arrow, streamed into a callback as rows come.
 *
 *     JSON    {"columns":["h","v"],"rows":[["a",1],["b",2.5]],"stats":{"rows":2,"samples":9,"elapsed_ms":0.7}}
 *     NDJSON  {"columns":["h","v"]}           then one array a line, then {"stats":{..}}
 *     CSV     RFC 4180: a header line, CRLF, quotes only where needed, null is empty; text is written as it is, also when
 *             it begins with = + - @ (a reader that runs formulas must guard itself)
 *     Arrow   an IPC stream; how columns get their types is in arrow.c. No statistics
 *
 * A time is RFC 3339 in UTC with nanoseconds, or an integer of nanoseconds when asked for; a duration ISO 8601; an
 * integer exact, also above 2^63; a double the shortest text that reads back to the same bits; NaN and infinities the
 * strings "NaN", "Infinity", "-Infinity"; a twin {"id":7,"labels":["cpu"],"properties":{tags}}. Bytes that are no UTF-8
 * become U+FFFD in JSON. Lists and maps in CSV are written as JSON.
 *
 * Text gathers in a buffer of 64 KiB and goes to write when it is full and at the end; write may block, and returns
 * false to end the query. One thread.
 */
#pragma once

#include "query/datetime.h"
#include "query/query.h"

enum imv_sink_format { IMV_SINK_JSON, IMV_SINK_NDJSON, IMV_SINK_CSV, IMV_SINK_ARROW };

typedef bool imv_sink_write(void *context, const char *bytes, size_t size);

struct imv_text_format; /* sink/format.h */

struct imv_text_sink {
    struct imv_query_sink sink; /* pass &text_sink.sink to imv_query_run */
    const struct imv_text_format *format;
    bool time_as_integer;
    imv_sink_write *write;
    void *context;
    struct imv_buffer buffer;    /* text that has not gone to write */
    struct imv_buffer constants; /* text of the constant columns of the batch at hand */
    struct imv_time_printer time_printer;
    void *state; /* of the format */
    bool begun, any_rows;
    bool started; /* something has gone to write */
    bool failed;  /* write refused, or no memory: everything after it is dropped */
};

void imv_text_sink_init(struct imv_text_sink *text_sink, enum imv_sink_format format, bool time_as_integer,
                        imv_sink_write *write, void *context);
void imv_text_sink_release(struct imv_text_sink *text_sink);

/* Ends an answer whose query failed, after imv_query_run. While nothing has gone to write, whatever is in the buffer is
 * dropped and the answer is {"error":{"code":..,"detail":..,"message":..,"line":..,"column":..,"snippet":..,
 * "suggestion":..}} in JSON and NDJSON (the last two when not empty) and nothing in CSV and Arrow. In the middle of an
 * answer JSON closes "rows" and adds "error" as another member, NDJSON adds the object as its last line, and CSV and
 * Arrow end short, for lack of a place. False: write refused. */
bool imv_text_sink_error(struct imv_text_sink *text_sink, const struct imv_query_error *error);

/* Why the sink itself ended the query: what Arrow cannot hold. NULL: it did not. Belongs to the sink. */
const struct imv_query_error *imv_text_sink_failure(const struct imv_text_sink *text_sink);

/* True when an answer of this format can tell its own error. */
bool imv_sink_tells_errors(enum imv_sink_format format);

/* True when bytes have gone to write: the status of the answer can no longer be chosen. */
static inline bool imv_text_sink_started(const struct imv_text_sink *text_sink) { return text_sink->started; }

/* application/json and so on. */
const char *imv_sink_content_type(enum imv_sink_format format);

/* The error object alone, {"error":{..}}, appended to out. False when out is full. */
bool imv_query_error_json(struct imv_buffer *out, const struct imv_query_error *error);

/* Text as a JSON string. What is no UTF-8 becomes U+FFFD, so that the result is JSON whatever the text. */
void imv_json_string(struct imv_buffer *out, struct imv_str text);
