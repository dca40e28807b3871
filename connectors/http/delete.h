/* delete.h - InfluxDB's POST /api/v2/delete: {"start": "..", "stop": "..", "predicate": ".."}.
 *
 * Deletes the points of one measurement, or of its series with given tags, with start <= time <= stop (both RFC 3339 or
 * a date, both required). predicate.h says what a predicate may be; it must name the measurement. Whether there were
 * such points is not told, as with InfluxDB: 204 when the deletion is durable and no query sees them any more; 400 says
 * what is wrong; 413 a body above 64 KiB; 503 when it cannot be done now (too many deletions, a journal that failed).
 * bucket, org and other parameters are accepted and ignored.
 *
 * A request waits on its loop, which the engine wakes when the deletion is done: no thread is blocked. A client that
 * goes away does not stop the deletion.
 */
#pragma once

#include "connectors/http/http.h"

extern const struct imv_http_handler imv_http_delete_handler;
