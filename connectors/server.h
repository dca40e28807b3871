/* server.h - puts the parts together: one thread per shard with its loop, writer and listeners; the query pool; the
 * engine's background; start, signals, and an orderly stop.
 *
 *     main thread:   engine open -> shard threads recover -> listeners -> "ready" -> waits for SIGTERM or SIGINT
 *     shard thread:  loop turn { sockets, journal completions } -> imv_shard_run -> acknowledgements
 *     stop:          no new connections or input -> heads are flushed -> loops end -> journals close -> engine closes
 */
#pragma once

#include "connectors/config.h"

/* Runs a server until a signal stops it (a second signal ends the process at once). Prints "listening <protocol>
 * <address:port>" per listener and "ready" on standard output. Returns what made it fail to start or stop. */
imv_status imv_server_run(const struct imv_config *config, struct imv_error *err);
