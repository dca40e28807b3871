/* datetime.h - sample times and durations as text.
 *
 * A sample's time is an int64 of nanoseconds since 1970 UTC: 1677-09-21 to 2262-04-11. Its text is RFC 3339 in UTC with
 * all nine digits, 30 bytes, always: 2026-01-01T00:00:00.000000000Z. A duration is an int64 of nanoseconds; its text is
 * ISO 8601 in hours, minutes and seconds (PT36H, PT0.25S), each part of a negative one with its sign (PT-1H-30M): days
 * of 24 h are not told apart from hours.
 *
 * Everything here is pure computation; any thread.
 */
#pragma once

#include "storage/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    IMV_TIME_BYTES = 30,         /* of a printed time, without NUL */
    IMV_DURATION_BYTES_MAX = 40, /* of a printed duration, without NUL */
};

/* A proleptic Gregorian date-time in UTC. */
struct imv_civil {
    int64_t year;
    int month, day; /* from 1 */
    int hour, minute, second;
    int nanosecond;
};

void imv_time_to_civil(int64_t ns, struct imv_civil *civil);
/* False when a part is out of its range (second 60 too) or the time does not fit. */
bool imv_time_from_civil(const struct imv_civil *civil, int64_t *ns);
/* Days since 1970-01-01 of a date; the date is not checked. */
int64_t imv_days_from_civil(int64_t year, int month, int day);
/* 1 (Monday) to 7. */
int imv_weekday(int64_t days);

/* Writes IMV_TIME_BYTES bytes. */
void imv_time_print(char *to, int64_t ns);

/* Prints many times that lie near each other: the text of the day is kept. */
struct imv_time_printer {
    int64_t day_ns; /* when the day begins whose text is kept */
    bool known;
    char text[11]; /* 2026-01-01T */
};
void imv_time_printer_init(struct imv_time_printer *printer);
void imv_time_printer_print(struct imv_time_printer *printer, char *to, int64_t ns);

/* Reads YYYY-MM-DD, or that with Thh:mm[:ss[.fraction]] (T, t or a space) and Z or an offset +hh:mm, +hhmm or +hh.
 * Without an offset it is UTC. False: it is something else, no such date, more than nine digits of fraction, or it does
 * not fit. */
bool imv_time_parse(struct imv_str text, int64_t *ns);

/* Reads Z or an offset as above, the whole text. */
bool imv_offset_parse(struct imv_str text, int *seconds);

/* Returns the bytes written, at most IMV_DURATION_BYTES_MAX. */
size_t imv_duration_print(char *to, int64_t ns);

/* Reads ISO 8601 durations of weeks, days, hours, minutes and seconds (P1DT2H, PT0.25S, -PT5M, PT-5M), the last part
 * with a fraction. Months and years have no fixed length: false, as for anything else. */
bool imv_duration_parse(struct imv_str text, int64_t *ns);

/* The start of the bucket of width ns (above 0) that holds time; buckets are aligned to origin. Saturates at the
 * ends. */
int64_t imv_time_bucket(int64_t time, int64_t width, int64_t origin);
