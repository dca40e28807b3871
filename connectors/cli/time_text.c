#include "connectors/cli/time_text.h"

#include <stddef.h>
#include <time.h>

struct scanner {
    const char *at, *end;
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* A number of min to max digits. */
static bool take_number(struct scanner *in, int min, int max, int64_t *value) {
    int digits = 0;
    *value = 0;
    for (; digits < max && in->at < in->end && is_digit(*in->at); in->at++, digits++)
        *value = *value * 10 + (*in->at - '0');
    return digits >= min;
}

static bool take_char(struct scanner *in, char c) {
    if (in->at == in->end || *in->at != c) return false;
    in->at++;
    return true;
}

/* Days from 1970-01-01 to a date of the proleptic Gregorian calendar (Howard Hinnant's days_from_civil). */
static int64_t days_from_civil(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

static bool valid_date(int64_t year, int64_t month, int64_t day) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12 || day < 1) return false;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return day <= days[month - 1] + (month == 2 && leap);
}

static bool take_date(struct scanner *in, enum imv_time_form form, int64_t *year, int64_t *month, int64_t *day) {
    int64_t first, second, third;
    bool iso = form == IMV_TIME_ISO;
    if (!take_number(in, iso ? 4 : 1, iso ? 4 : 2, &first) || in->at == in->end) return false;
    char separator = *in->at;
    bool fits =
        iso ? separator == '-' || separator == '/' : separator == '/' || (separator == '.' && form == IMV_TIME_DMY);
    if (!fits || !take_char(in, separator) || !take_number(in, 1, 2, &second) || !take_char(in, separator))
        return false;
    if (!take_number(in, iso ? 1 : 4, iso ? 2 : 4, &third)) return false;
    *year = iso ? first : third;
    *month = form == IMV_TIME_MDY ? first : second;
    *day = iso ? third : form == IMV_TIME_MDY ? second : first;
    return valid_date(*year, *month, *day);
}

struct time_of_day {
    int64_t hour, minute, second, nanosecond;
};

static bool take_fraction(struct scanner *in, int64_t *nanosecond) {
    const char *start = in->at;
    if (!take_number(in, 1, 9, nanosecond)) return false;
    for (ptrdiff_t digits = in->at - start; digits < 9; digits++) *nanosecond *= 10;
    while (in->at < in->end && is_digit(*in->at)) in->at++; /* finer than a nanosecond: cut off */
    return true;
}

static bool take_time(struct scanner *in, struct time_of_day *time) {
    if (!take_number(in, 1, 2, &time->hour) || !take_char(in, ':') || !take_number(in, 2, 2, &time->minute))
        return false;
    if (take_char(in, ':') && !take_number(in, 2, 2, &time->second)) return false;
    if ((take_char(in, '.') || take_char(in, ',')) && !take_fraction(in, &time->nanosecond)) return false;
    return time->hour <= 23 && time->minute <= 59 && time->second <= 60;
}

/* Z or an offset; *present false when there is neither. */
static bool take_zone(struct scanner *in, bool *present, int64_t *offset_s) {
    *present = false;
    *offset_s = 0;
    if (in->at == in->end) return true;
    *present = true;
    if (take_char(in, 'Z') || take_char(in, 'z')) return true;
    bool west = take_char(in, '-');
    int64_t hours, minutes = 0;
    if ((!west && !take_char(in, '+')) || !take_number(in, 2, 2, &hours)) return false;
    if (in->at < in->end && (take_char(in, ':'), !take_number(in, 2, 2, &minutes))) return false;
    *offset_s = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return hours <= 18 && minutes <= 59;
}

static bool local_seconds(int64_t year, int64_t month, int64_t day, const struct time_of_day *time, int64_t *seconds) {
    struct tm parts = {.tm_year = (int)year - 1900,
                       .tm_mon = (int)month - 1,
                       .tm_mday = (int)day,
                       .tm_hour = (int)time->hour,
                       .tm_min = (int)time->minute,
                       .tm_sec = (int)time->second,
                       .tm_isdst = -1};
    *seconds = mktime(&parts);
    return *seconds != -1;
}

static bool parse_civil(struct scanner *in, enum imv_time_form form, bool local, int64_t *ns) {
    int64_t year, month, day, offset_s, seconds;
    struct time_of_day time = {0};
    bool zoned;
    if (!take_date(in, form, &year, &month, &day)) return false;
    if ((take_char(in, 'T') || take_char(in, ' ')) && !take_time(in, &time)) return false;
    if (!take_zone(in, &zoned, &offset_s) || in->at != in->end) return false;
    if (local && !zoned) {
        if (!local_seconds(year, month, day, &time, &seconds)) return false;
    } else {
        seconds =
            days_from_civil(year, month, day) * 86400 + time.hour * 3600 + time.minute * 60 + time.second - offset_s;
    }
    return !__builtin_mul_overflow(seconds, 1000000000, ns) && !__builtin_add_overflow(*ns, time.nanosecond, ns);
}

/* Below 10^11 a number is seconds (until the year 5138), below 10^14 milliseconds, below 10^17 microseconds. */
static bool parse_epoch(struct scanner *in, int64_t *ns) {
    bool negative = take_char(in, '-');
    int64_t whole, fraction = 0;
    if (!take_number(in, 1, 19, &whole) || whole < 0) return false;
    if (take_char(in, '.') && !take_fraction(in, &fraction)) return false;
    if (in->at != in->end) return false;
    int64_t unit = whole < 100000000000         ? 1000000000
                   : whole < 100000000000000    ? 1000000
                   : whole < 100000000000000000 ? 1000
                                                : 1;
    if (__builtin_mul_overflow(whole, unit, ns) || __builtin_add_overflow(*ns, fraction / (1000000000 / unit), ns))
        return false;
    if (negative) *ns = -*ns;
    return true;
}

bool imv_time_text_parse(struct imv_str text, enum imv_time_form form, bool local, int64_t *ns) {
    struct scanner in = {text.data, text.data + text.size};
    return form == IMV_TIME_EPOCH ? parse_epoch(&in, ns) : parse_civil(&in, form, local, ns);
}

unsigned imv_time_text_forms(struct imv_str text, unsigned forms) {
    unsigned fitting = 0;
    int64_t ns;
    for (unsigned form = IMV_TIME_ISO; form <= IMV_TIME_EPOCH; form <<= 1) {
        if ((forms & form) && imv_time_text_parse(text, (enum imv_time_form)form, false, &ns)) fitting |= form;
    }
    return fitting;
}
