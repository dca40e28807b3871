/* remote_write.h - Prometheus remote write 1.0: POST /api/v1/write.
 *
 * The body is a prometheus.WriteRequest (ingest/prometheus.h) in snappy's block format, which can only be unpacked as a
 * whole: it is collected, unpacked, and goes into the shard's writer a share a turn. 204 is sent when every sample is
 * durable and visible. What the mapping refuses is left out and reported with 400 and the first reasons, which name the
 * series, after the good samples are durable; senders do not repeat a request that was answered 400. 400 also when the
 * body is no snappy or no protobuf. 503 when memory for such requests is spent or a journal failed: senders repeat it,
 * and samples are identified by series and time. 415 for what is not remote write 1.0; senders of 2.0 fall back to 1.0.
 *
 * Bounds: IMV_REMOTE_WRITE_PACKED_BYTES_MAX as sent, IMV_REMOTE_WRITE_PLAIN_BYTES_MAX unpacked, by the length that the
 * body declares in its first bytes (both 413; what snappy cannot reach from the bytes sent is 400 before memory is
 * taken). Both are taken from the budget of the context, which all such requests share.
 */
#pragma once

#include "connectors/http/http.h"

enum {
    IMV_REMOTE_WRITE_PACKED_BYTES_MAX = 16 << 20, /* senders send some hundred KiB */
    IMV_REMOTE_WRITE_PLAIN_BYTES_MAX = 32 << 20, /* unpacked in one piece: 30 ms at 1 GB/s, the longest a loop stands */
};

extern const struct imv_http_handler imv_http_remote_write_handler;
