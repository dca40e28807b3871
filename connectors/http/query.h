/* query.h - POST /query: one TwinQL statement in, rows out as they come.
 *
 * The body is {"query": "...", "params": {..}} with Content-Type application/json, or the plain text of the statement.
 * `Accept` chooses JSON (default), application/x-ndjson or text/csv; ?time=ns prints times as integers.
 *
 * The statement runs on a thread of the query pool, which writes text into a bounded buffer; the loop moves it to the
 * connection. A client that reads slowly stops the query at QUERY_OUTPUT_BYTES_MAX, one that goes away
 * (closes or half-closes its side) cancels it within about a second. An
 * answer that fits the buffer goes out whole with its status; a longer one is chunked, and an error in its middle is
 * told inside (see query/sink/sink.h).
 *
 * 400 the statement or its parameters are wrong, 408 out of time, 413 body above 1 MiB, 422 out of memory, 503 too many
 * queries wait, 500 damaged data.
 */
#pragma once

#include "connectors/http/http.h"

extern const struct imv_http_handler imv_http_query_handler;
