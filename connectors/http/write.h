/* write.h - rows over HTTP: POST /write (InfluxDB 1.x) and POST /api/v2/write (2.x), line protocol or Arrow.
 *
 * The body is streamed into the shard's writer as it arrives, plain or gzip, so its size has no limit and costs no memory.
 * 204 is sent when every row of the request is durable and visible. Bad lines are left out and reported with 400 and the
 * first reasons ("partial write"), after the good ones are durable. 507 while the disk is nearly full, at once and
 * also in the middle of a body. 503 when a journal failed: what was sent may or may
 * not be stored, and may be sent again (rows are identified by series and time).
 *
 * With Content-Type application/vnd.apache.arrow.stream the body is an Arrow IPC stream, and what its columns mean is
 * in ingest/arrow.h; answers are the same, with row numbers for line numbers. A stream that breaks off or is not
 * understood is answered 400 with the number of rows stored before that place; 503 also when there is no memory for its
 * messages.
 *
 * Parameters: precision = ns | n | us | u | ms | s | m | h (default ns); db, rp, org and bucket are accepted and
 * ignored: a data directory is one database. Of Arrow: label, of rows that name none; precision is of integer times.
 */
#pragma once

#include "connectors/http/http.h"

struct imv_writer;

extern const struct imv_http_handler imv_http_write_handler;

/* While the disk is nearly full (imv_writer_accepts) answers 507 with the reason and returns true. A request that is
 * refused in its middle may be stored in part; as after 503 it may be sent again. */
bool imv_http_refuse_when_full(struct imv_http_request *request, struct imv_writer *writer);
