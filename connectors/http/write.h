/* write.h - line protocol over HTTP: POST /write (InfluxDB 1.x) and POST /api/v2/write (2.x).
 *
 * The body is streamed into the shard's writer as it arrives, plain or gzip, so its size has no limit and costs no memory.
 * 204 is sent when every row of the request is durable and visible. Bad lines are left out and reported with 400 and the
 * first reasons ("partial write"), after the good ones are durable. 503 when a journal failed: what was sent may or may
 * not be stored, and may be sent again (rows are identified by series and time).
 *
 * Parameters: precision = ns | n | us | u | ms | s | m | h (default ns); db, rp, org and bucket are accepted and ignored:
 * a data directory is one database.
 */
#pragma once

#include "connectors/http/http.h"

extern const struct imv_http_handler imv_http_write_handler;
