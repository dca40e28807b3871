#include "connectors/config.h"

#include "engine/catalog.h"
#include "storage/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)
static const int64_t second_ns = 1000000000;

void imv_config_init(struct imv_config *config) {
    *config = (struct imv_config){
        .http = {"127.0.0.1", 8086, false},
        .ilp = {"127.0.0.1", 9009, false},
        .bolt = {"127.0.0.1", 7687, true},
        .log_level = IMV_LOG_INFO,
        .connections_max = 20000,
        .connection_memory = 256 * MIB,
        .query_memory = GIB,
        .queries_memory = 4 * GIB,
        .free_space = 256 * MIB,
        .head_memory = 2 * GIB,
        .batch_memory = 256 * MIB,
        .wal_bytes = 2 * GIB,
        .query_timeout_ns = 300 * second_ns,
        .idle_timeout_ns = 300 * second_ns,
        .stall_timeout_ns = 30 * second_ns,
        .flush_age_ns = 3600 * second_ns,
        .query_threads = 2,
        .series_max = IMV_SERIES_MAX,
        .label_series_max = IMV_SERIES_MAX,
        .catalog_memory = IMV_CATALOG_BYTES_MAX,
    };
}

/* ---- values ---- */

/* Splits "<number><unit>" and scales; false on anything else or an overflow. */
static bool parse_scaled(const char *text, const char *const *units, const uint64_t *scales, size_t count,
                         uint64_t *value) {
    char *unit;
    errno = 0;
    if (*text < '0' || *text > '9') return false;
    unsigned long long number = strtoull(text, &unit, 10);
    if (errno != 0) return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(unit, units[i]) == 0) return !__builtin_mul_overflow(number, scales[i], value);
    }
    return false;
}

bool imv_parse_duration(const char *text, int64_t *duration_ns) {
    static const char *const units[] = {"ns", "us", "ms", "s", "m", "h", "d"};
    static const uint64_t scales[] = {1, 1000, 1000000, 1000000000, 60000000000, 3600000000000, 86400000000000};
    uint64_t value;
    if (!parse_scaled(text, units, scales, sizeof scales / sizeof *scales, &value) || value > INT64_MAX) return false;
    *duration_ns = (int64_t)value;
    return true;
}

bool imv_parse_size(const char *text, uint64_t *bytes) {
    static const char *const units[] = {"", "B", "KiB", "MiB", "GiB"};
    static const uint64_t scales[] = {1, 1, UINT64_C(1) << 10, UINT64_C(1) << 20, UINT64_C(1) << 30};
    return parse_scaled(text, units, scales, sizeof scales / sizeof *scales, bytes);
}

static bool parse_address(const char *text, struct imv_address *address) {
    if (strcmp(text, "off") == 0) {
        address->off = true;
        return true;
    }
    const char *colon = strrchr(text, ':');
    if (colon == NULL) return false;
    size_t size = (size_t)(colon - text);
    bool bracketed = size >= 2 && text[0] == '[' && colon[-1] == ']';
    if (bracketed) text++, size -= 2;
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] == 0 || *end != 0 || port > 65535 || size == 0 || size >= sizeof address->host) return false;
    *address = (struct imv_address){.port = (uint16_t)port};
    memcpy(address->host, text, size);
    struct in_addr v4;
    struct in6_addr v6;
    return inet_pton(AF_INET, address->host, &v4) == 1 || (bracketed && inet_pton(AF_INET6, address->host, &v6) == 1);
}

static bool is_loopback(const struct imv_address *address) {
    struct in_addr v4;
    if (inet_pton(AF_INET, address->host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    return strcmp(address->host, "::1") == 0;
}

imv_status imv_config_check(const struct imv_config *config, struct imv_error *err) {
    const struct imv_address *const addresses[] = {&config->http, &config->ilp, &config->bolt};
    static const char *const names[] = {"http", "ilp", "bolt"};
    for (size_t i = 0; i < 3; i++) {
        if (addresses[i]->off || is_loopback(addresses[i])) continue;
        return imv_fail(err, IMV_INVALID,
                        "%s: %s is not a loopback address, and without authentication only those are bound", names[i],
                        addresses[i]->host);
    }
    if (!config->bolt.off) return imv_fail(err, IMV_INVALID, "bolt: this server does not speak Bolt; use bolt = off");
    if (config->data[0] == 0) return imv_fail(err, IMV_INVALID, "no data directory given: use --data DIR");
    return IMV_OK;
}

/* ---- keys ---- */

enum setting_kind { TEXT, ADDRESS, COUNT, SIZE, DURATION, IO_CHOICE, LEVEL };

struct setting {
    const char *section, *key;
    enum setting_kind kind;
    size_t offset;
    const char *expected;
};

#define SETTING(section, key, kind, member, expected) \
    { section, key, kind, offsetof(struct imv_config, member), expected }

static const struct setting settings[] = {
    SETTING("server", "data", TEXT, data, "a path"),
    SETTING("server", "http", ADDRESS, http, "ADDRESS:PORT or off"),
    SETTING("server", "ilp", ADDRESS, ilp, "ADDRESS:PORT or off"),
    SETTING("server", "bolt", ADDRESS, bolt, "ADDRESS:PORT or off"),
    SETTING("server", "shards", COUNT, shards, "a number from 0 to 64"),
    SETTING("server", "io", IO_CHOICE, epoll, "auto or epoll"),
    SETTING("server", "log", LEVEL, log_level, "debug, info, warn or error"),
    SETTING("limits", "connections", COUNT, connections_max, "a number"),
    SETTING("limits", "connection_memory", SIZE, connection_memory, "a size such as 256MiB"),
    SETTING("limits", "query_memory", SIZE, query_memory, "a size such as 1GiB"),
    SETTING("limits", "queries_memory", SIZE, queries_memory, "a size such as 4GiB"),
    SETTING("limits", "query_timeout", DURATION, query_timeout_ns, "a duration such as 5m"),
    SETTING("limits", "query_threads", COUNT, query_threads, "a number"),
    SETTING("limits", "query_workers", COUNT, query_workers, "a number from 0 to 256"),
    SETTING("limits", "idle_timeout", DURATION, idle_timeout_ns, "a duration such as 5m"),
    SETTING("limits", "stall_timeout", DURATION, stall_timeout_ns, "a duration such as 30s"),
    SETTING("limits", "series", COUNT, series_max, "a number"),
    SETTING("limits", "series_per_label", COUNT, label_series_max, "a number"),
    SETTING("limits", "catalog_memory", SIZE, catalog_memory, "a size such as 4GiB"),
    SETTING("storage", "head_memory", SIZE, head_memory, "a size such as 2GiB"),
    SETTING("storage", "batch_memory", SIZE, batch_memory, "a size such as 256MiB"),
    SETTING("storage", "wal", SIZE, wal_bytes, "a size such as 2GiB"),
    SETTING("storage", "flush_age", DURATION, flush_age_ns, "a duration such as 1h"),
    SETTING("storage", "consolidate_after", DURATION, consolidate_after_ns, "a duration such as 70m"),
    SETTING("storage", "free_space", SIZE, free_space, "a size such as 256MiB"),
};

static bool parse_count(const char *text, uint32_t *count) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != 0 || errno != 0 || value > UINT32_MAX) return false;
    *count = (uint32_t)value;
    return true;
}

static bool parse_level(const char *text, int *level) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        *level = i;
        return true;
    }
    return false;
}

static bool assign(const struct setting *setting, struct imv_config *config, const char *value) {
    void *to = (char *)config + setting->offset;
    uint64_t bytes;
    switch (setting->kind) {
        case TEXT:
            if (strlen(value) >= sizeof config->data) return false;
            strcpy(to, value);
            return true;
        case ADDRESS: return parse_address(value, to);
        case COUNT: return parse_count(value, to);
        case SIZE:
            if (!imv_parse_size(value, &bytes) || bytes < 1024) return false;
            memcpy(to, &bytes, sizeof bytes); /* size_t and uint64_t are the same here */
            return true;
        case DURATION: return imv_parse_duration(value, to);
        case IO_CHOICE: *(bool *)to = strcmp(value, "epoll") == 0; return *(bool *)to || strcmp(value, "auto") == 0;
        case LEVEL: return parse_level(value, to);
    }
    return false;
}
_Static_assert(sizeof(size_t) == sizeof(uint64_t), "sizes are 64-bit");

static imv_status set_retention(struct imv_config *config, const char *label, const char *value,
                                struct imv_error *err) {
    if (config->retentions_count == IMV_RETENTIONS_MAX)
        return imv_fail(err, IMV_FULL, "more than %d retentions", IMV_RETENTIONS_MAX);
    struct imv_retention *retention = &config->retentions[config->retentions_count];
    if (strlen(label) >= sizeof retention->label)
        return imv_fail(err, IMV_INVALID, "retention: the label '%s' is too long", label);
    if (!imv_parse_duration(value, &retention->retention_ns))
        return imv_fail(err, IMV_INVALID, "retention of '%s' is '%s': a duration such as 30d is expected", label,
                        value);
    strcpy(retention->label, label);
    config->retentions_count++;
    return IMV_OK;
}

static imv_status set_series_limit(struct imv_config *config, const char *label, const char *value,
                                   struct imv_error *err) {
    if (config->series_limits_count == IMV_RETENTIONS_MAX)
        return imv_fail(err, IMV_FULL, "more than %d labels in [series]", IMV_RETENTIONS_MAX);
    struct imv_series_limit *limit = &config->series_limits[config->series_limits_count];
    if (strlen(label) >= sizeof limit->label)
        return imv_fail(err, IMV_INVALID, "series: the label '%s' is too long", label);
    if (!parse_count(value, &limit->series_max) || limit->series_max == 0)
        return imv_fail(err, IMV_INVALID, "series of '%s' is '%s': a number above 0 is expected", label, value);
    strcpy(limit->label, label);
    config->series_limits_count++;
    return IMV_OK;
}

imv_status imv_config_set(struct imv_config *config, const char *section, const char *key, const char *value,
                          struct imv_error *err) {
    if (strcmp(section, "retention") == 0) return set_retention(config, key, value, err);
    if (strcmp(section, "series") == 0) return set_series_limit(config, key, value, err);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const struct setting *setting = &settings[i];
        if (strcmp(section, setting->section) != 0 || strcmp(key, setting->key) != 0) continue;
        if (assign(setting, config, value) && config->shards <= 64 && config->query_workers <= 256) return IMV_OK;
        return imv_fail(err, IMV_INVALID, "%s.%s is '%s': %s is expected", section, key, value, setting->expected);
    }
    return imv_fail(err, IMV_INVALID, "there is no setting '%s' in section [%s]", key, section);
}

/* ---- the file ---- */

struct reading {
    struct imv_config *config;
    struct imv_error *err;
    imv_status status;
};

static int set_from_file(void *user, const char *section, const char *key, const char *value) {
    struct reading *reading = user;
    if (reading->status == IMV_OK) reading->status = imv_config_set(reading->config, section, key, value, reading->err);
    return reading->status == IMV_OK;
}

imv_status imv_config_read(struct imv_config *config, const char *path, struct imv_error *err) {
    struct imv_error reason = {0};
    struct reading reading = {config, &reason, IMV_OK};
    int line = ini_parse(path, set_from_file, &reading);
    if (line < 0) return imv_fail_errno(err, IMV_NOT_FOUND, errno, "cannot read the configuration file %s", path);
    if (line > 0)
        return imv_fail(err, IMV_INVALID, "%s, line %d: %s", path, line,
                        reading.status == IMV_OK ? "this is neither [section] nor key = value" : reason.message);
    return IMV_OK;
}
