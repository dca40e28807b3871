/* Functions of times and durations. now() is the same in the whole statement. */
#include "query/datetime.h"
#include "query/exec.h"
#include "query/fn/families.h"

#include <math.h>

imv_status imv_fn_now(struct imv_call *call, const struct imv_value *arguments, size_t count,
                      struct imv_value *result) {
    (void)arguments, (void)count;
    *result = imv_value_time(call->exec->now_ns);
    return IMV_OK;
}

/* Milliseconds since 1970, as openCypher has it. */
imv_status imv_fn_timestamp(struct imv_call *call, const struct imv_value *arguments, size_t count,
                            struct imv_value *result) {
    (void)arguments, (void)count;
    *result = imv_value_integer(call->exec->now_ns / 1000000);
    return IMV_OK;
}

/* An integer entry of a map; otherwise when it is missing. False: it is something else. */
static bool map_integer(const struct imv_value *map, const char *key, int64_t otherwise, int64_t *number) {
    const struct imv_value *value = imv_value_map_get(map, imv_str_from(key));
    *number = otherwise;
    if (value == NULL) return true;
    *number = value->integer;
    return value->kind == IMV_VALUE_INTEGER;
}

static bool map_part(const struct imv_value *map, const char *key, int64_t otherwise, int *number) {
    int64_t wide;
    if (!map_integer(map, key, otherwise, &wide) || wide < 0 || wide > INT32_MAX) return false;
    *number = (int)wide;
    return true;
}

/* Nothing in a map is overlooked: a key that means nothing here would mean another time. */
static bool keys_are_known(const struct imv_value *map) {
    static const char *const known[] = {"year",        "month",       "day",         "hour",       "minute",
                                        "second",      "millisecond", "microsecond", "nanosecond", "epochSeconds",
                                        "epochMillis", "epochNanos",  "timezone"};
    for (uint32_t i = 0; i < map->size; i++) {
        size_t j = 0;
        while (j < sizeof known / sizeof *known && !imv_str_equal(map->entries[i].key, imv_str_from(known[j]))) j++;
        if (j == sizeof known / sizeof *known) return false;
    }
    return true;
}

/* A fixed offset from UTC; named zones are not known here. */
static bool offset_of_map(const struct imv_value *map, int *seconds) {
    const struct imv_value *zone = imv_value_map_get(map, IMV_STR("timezone"));
    *seconds = 0;
    if (zone == NULL) return true;
    return zone->kind == IMV_VALUE_STRING && imv_offset_parse(imv_value_str(zone), seconds);
}

static bool time_of_epoch(const struct imv_value *map, int64_t *ns) {
    static const struct {
        const char *key;
        int64_t ns;
    } units[] = {{"epochSeconds", 1000000000}, {"epochMillis", 1000000}, {"epochNanos", 1}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        const struct imv_value *value = imv_value_map_get(map, imv_str_from(units[i].key));
        if (value == NULL || value->kind != IMV_VALUE_INTEGER) continue;
        return !__builtin_mul_overflow(value->integer, units[i].ns, ns);
    }
    return false;
}

static bool time_of_map(const struct imv_value *map, int64_t *ns) {
    struct imv_civil civil;
    int millisecond, microsecond, offset_seconds;
    if (!keys_are_known(map) || !offset_of_map(map, &offset_seconds)) return false;
    if (time_of_epoch(map, ns)) return true;
    if (!map_integer(map, "year", INT64_MIN, &civil.year) || !map_part(map, "month", 1, &civil.month)) return false;
    if (!map_part(map, "day", 1, &civil.day) || !map_part(map, "hour", 0, &civil.hour)) return false;
    if (!map_part(map, "minute", 0, &civil.minute) || !map_part(map, "second", 0, &civil.second)) return false;
    if (!map_part(map, "millisecond", 0, &millisecond) || !map_part(map, "microsecond", 0, &microsecond)) return false;
    if (!map_part(map, "nanosecond", 0, &civil.nanosecond)) return false;
    if (millisecond > 999 || microsecond > 999999) return false;
    int64_t fraction = (int64_t)millisecond * 1000000 + (int64_t)microsecond * 1000 + civil.nanosecond;
    if (fraction > 999999999) return false;
    civil.nanosecond = (int)fraction;
    return imv_time_from_civil(&civil, ns) && !__builtin_sub_overflow(*ns, offset_seconds * INT64_C(1000000000), ns);
}

imv_status imv_fn_datetime(struct imv_call *call, const struct imv_value *arguments, size_t count,
                           struct imv_value *result) {
    int64_t ns;
    if (count == 0) return imv_fn_now(call, arguments, count, result);
    if (arguments->kind == IMV_VALUE_MAP ? time_of_map(arguments, &ns) : imv_value_as_time(arguments, &ns)) {
        *result = imv_value_time(ns);
        return IMV_OK;
    }
    if (arguments->kind != IMV_VALUE_STRING && arguments->kind != IMV_VALUE_MAP)
        return imv_call_fail_argument(call, "a string, a map or integer nanoseconds", arguments);
    return imv_call_fail(
        call, "ArgumentError", "InvalidArgumentValue",
        "datetime cannot read this: it takes '2026-01-01T00:00:00Z' between 1677-09-22 and 2262-04-11");
}

static bool duration_of_map(const struct imv_value *map, int64_t *ns) {
    static const struct {
        const char *key;
        int64_t ns;
    } units[] = {
        {"weeks", INT64_C(604800000000000)},
        {"days", INT64_C(86400000000000)},
        {"hours", INT64_C(3600000000000)},
        {"minutes", INT64_C(60000000000)},
        {"seconds", 1000000000},
        {"milliseconds", 1000000},
        {"microseconds", 1000},
        {"nanoseconds", 1},
    };
    imv_int128 total = 0;
    uint32_t known = 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        const struct imv_value *value = imv_value_map_get(map, imv_str_from(units[i].key));
        if (value == NULL) continue;
        known++;
        if (value->kind == IMV_VALUE_INTEGER) {
            total += (imv_int128)value->integer * units[i].ns;
        } else if (value->kind == IMV_VALUE_FLOAT && fabs(value->number) < 1e18) {
            total += (imv_int128)nearbyint(value->number * (double)units[i].ns);
        } else {
            return false;
        }
    }
    if (known != map->size || total < INT64_MIN || total > INT64_MAX) return false;
    *ns = (int64_t)total;
    return true;
}

imv_status imv_fn_duration(struct imv_call *call, const struct imv_value *arguments, size_t count,
                           struct imv_value *result) {
    (void)count;
    int64_t ns = 0;
    bool read = false;
    if (arguments->kind == IMV_VALUE_DURATION) return *result = *arguments, IMV_OK;
    if (arguments->kind == IMV_VALUE_STRING)
        read = imv_duration_parse(imv_value_str(arguments), &ns);
    else if (arguments->kind == IMV_VALUE_MAP)
        read = duration_of_map(arguments, &ns);
    else
        return imv_call_fail_argument(call, "a string or a map", arguments);
    *result = imv_value_duration(ns);
    if (read) return IMV_OK;
    return imv_call_fail(call, "ArgumentError", "InvalidArgumentValue",
                         "duration cannot read this: it takes 'PT1H30M', or a map of weeks, days, hours, minutes, "
                         "seconds and their parts");
}

/* The start of the bucket of a width that holds a time; aligned to 1970, or to a third argument. */
imv_status imv_fn_time_bucket(struct imv_call *call, const struct imv_value *arguments, size_t count,
                              struct imv_value *result) {
    int64_t time, origin = 0;
    if (arguments[0].kind != IMV_VALUE_DURATION) return imv_call_fail_argument(call, "a duration", &arguments[0]);
    if (arguments[0].integer <= 0)
        return imv_call_fail(call, "ArgumentError", "NumberOutOfRange", "time_bucket needs a width above 0");
    if (!imv_value_as_time(&arguments[1], &time)) return imv_call_fail_argument(call, "a time", &arguments[1]);
    if (count > 2 && !imv_value_as_time(&arguments[2], &origin))
        return imv_call_fail_argument(call, "a time", &arguments[2]);
    *result = imv_value_time(imv_time_bucket(time, arguments[0].integer, origin));
    return IMV_OK;
}
