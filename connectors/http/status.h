/* status.h - GET /metrics, /livez, /readyz and InfluxDB's /ping.
 *
 * /livez answers as long as the loop turns; /readyz says 503 with the reason once a journal has failed. */
#pragma once

#include "connectors/http/http.h"

struct imv_engine;

extern const struct imv_http_handler imv_http_metrics_handler;
extern const struct imv_http_handler imv_http_livez_handler;
extern const struct imv_http_handler imv_http_readyz_handler;
extern const struct imv_http_handler imv_http_ping_handler;
