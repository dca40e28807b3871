/* config.h - the settings of a server: defaults, then the configuration file, then the command line.
 *
 *     [server]                          [limits]                        [storage]
 *     data = /var/lib/imvdb             connections = 20000             head_memory = 2GiB
 *     http = 127.0.0.1:8086             connection_memory = 256MiB      batch_memory = 256MiB
 *     ilp = 127.0.0.1:9009              query_memory = 1GiB             wal = 2GiB
 *     bolt = off                        queries_memory = 4GiB           flush_age = 1h
 *     shards = 2                        query_timeout = 5m              consolidate_after = 70m
 *     io = auto                         query_threads = 2               free_space = 256MiB
 *     log = info                        query_workers = 0
 *                                       idle_timeout = 5m               [retention]
 *                                       stall_timeout = 30s             cpu = 30d
 *                                       series = 10000000
 *                                       series_per_label = 10000000     [series]
 *                                       catalog_memory = 4GiB           cpu = 100000
 *
 * Beyond a number of series, of all or of one label ([series] for a label by name), new ones are refused and known ones
 * go on; so at the memory of the catalog's names.
 *
 * A day is consolidated (engine/consolidate.h) so long after it was over and rows of it were last flushed: not given,
 * 10 minutes more than flush_age, so that its last rows are there.
 *
 * An unknown section, key or unit is an error: a server never starts with a setting that it did not understand. Sizes
 * take KiB, MiB, GiB; durations ms, s, m, h, d. The file is INI (libinih).
 */
#pragma once

#include "storage/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { IMV_ADDRESS_BYTES = 64, IMV_RETENTIONS_MAX = 256 };

struct imv_address {
    char host[IMV_ADDRESS_BYTES]; /* numeric IPv4 or IPv6 without brackets */
    uint16_t port;                /* 0: any free one */
    bool off;
};

struct imv_retention {
    char label[256];
    int64_t retention_ns;
};

/* How many series a label may have. */
struct imv_series_limit {
    char label[256];
    uint32_t series_max;
};

struct imv_config {
    char data[4096];
    struct imv_address http, ilp, bolt;
    uint32_t shards; /* 0: one per core; an existing data directory keeps its own */
    bool epoll;      /* io = epoll */
    int log_level;   /* enum imv_log_level */
    uint32_t connections_max;
    size_t connection_memory, head_memory, batch_memory;
    size_t query_memory, queries_memory; /* of one query, of all together */
    uint64_t free_space;                 /* below so many free bytes on the disk writes are refused */
    uint64_t wal_bytes;
    int64_t query_timeout_ns, idle_timeout_ns, stall_timeout_ns, flush_age_ns;
    int64_t consolidate_after_ns; /* 0: flush_age and 10 minutes */
    uint32_t query_threads;
    uint32_t query_workers; /* threads that one query may have, its own included; 0: one per core */
    struct imv_retention retentions[IMV_RETENTIONS_MAX];
    uint32_t retentions_count;
    uint32_t series_max, label_series_max;
    size_t catalog_memory;
    struct imv_series_limit series_limits[IMV_RETENTIONS_MAX];
    uint32_t series_limits_count;
};

void imv_config_init(struct imv_config *config);

/* Reads a file over what is set. IMV_NOT_FOUND; IMV_INVALID names file, line, key and value. */
imv_status imv_config_read(struct imv_config *config, const char *path, struct imv_error *err);

/* Sets one value by its name "section.key". IMV_INVALID names key and value and says what is expected. */
imv_status imv_config_set(struct imv_config *config, const char *section, const char *key, const char *value,
                          struct imv_error *err);

/* Without authentication only loopback addresses may be bound. IMV_INVALID names the address. */
imv_status imv_config_check(const struct imv_config *config, struct imv_error *err);

/* "250ms", "30s", "5m", "8h", "7d" to ns; false when it is none. */
bool imv_parse_duration(const char *text, int64_t *duration_ns);
/* "65536", "64KiB", "256MiB", "2GiB"; false when it is none. */
bool imv_parse_size(const char *text, uint64_t *bytes);
