/* context.h - what the HTTP handlers of one loop share; the context of its struct imv_http. */
#pragma once

#include "ingest/arrow.h"
#include "storage/base/clock.h"

#include <stddef.h>
#include <stdint.h>

struct imv_budget;
struct imv_engine;
struct imv_query_pool;
struct imv_workers;
struct imv_writer;

struct imv_http_context {
    struct imv_engine *engine;
    struct imv_writer *writer; /* of this loop's shard */
    struct imv_query_pool *pool;
    struct imv_workers *workers;        /* of queries; NULL: none */
    struct imv_query_pool *backup_pool; /* runs one backup at a time */
    struct imv_budget *remote_write;    /* memory of all remote write requests */
    struct imv_budget *arrow_budget;    /* of all Arrow streams under way; NULL: no common limit */
    struct imv_arrow_spare arrow_spare;
    const struct imv_clock *clock;
    uint32_t shards;
    int64_t query_timeout_ns;        /* the longest a query may run */
    size_t query_memory_bytes_max;   /* of one query */
    struct imv_budget *query_memory; /* of all queries; NULL: no common limit */
};
