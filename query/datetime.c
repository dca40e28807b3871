#include "query/datetime.h"

#include "storage/value.h"

enum { SECONDS_A_DAY = 86400 };
static const int64_t NS_A_SECOND = INT64_C(1000000000);

/* ---- calendar ---- */

/* Counts from 0000-03-01, so that the leap day is the last of its year; 400 years are 146,097 days. */
int64_t imv_days_from_civil(int64_t year, int month, int day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(int64_t days, struct imv_civil *civil) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    civil->day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    civil->month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    civil->year = year_of_era + era * 400 + (civil->month <= 2);
}

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

int imv_weekday(int64_t days) { return (int)(days + 3 - floor_divide(days + 3, 7) * 7) + 1; }

void imv_time_to_civil(int64_t ns, struct imv_civil *civil) {
    int64_t seconds = floor_divide(ns, NS_A_SECOND);
    int64_t days = floor_divide(seconds, SECONDS_A_DAY);
    int second_of_day = (int)(seconds - days * SECONDS_A_DAY);
    civil_from_days(days, civil);
    civil->hour = second_of_day / 3600;
    civil->minute = second_of_day / 60 % 60;
    civil->second = second_of_day % 60;
    civil->nanosecond = (int)((uint64_t)ns - (uint64_t)seconds * (uint64_t)NS_A_SECOND);
}

static int days_in_month(int64_t year, int month) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static bool fits(imv_int128 ns, int64_t *out) {
    if (ns < INT64_MIN || ns > INT64_MAX) return false;
    *out = (int64_t)ns;
    return true;
}

bool imv_time_from_civil(const struct imv_civil *civil, int64_t *ns) {
    if (civil->year < -9999 || civil->year > 9999 || civil->month < 1 || civil->month > 12) return false;
    if (civil->day < 1 || civil->day > days_in_month(civil->year, civil->month)) return false;
    if (civil->hour < 0 || civil->hour > 23 || civil->minute < 0 || civil->minute > 59) return false;
    if (civil->second < 0 || civil->second > 59) return false;
    if (civil->nanosecond < 0 || civil->nanosecond >= NS_A_SECOND) return false;
    int64_t days = imv_days_from_civil(civil->year, civil->month, civil->day);
    int64_t seconds = days * SECONDS_A_DAY + civil->hour * 3600 + civil->minute * 60 + civil->second;
    return fits((imv_int128)seconds * NS_A_SECOND + civil->nanosecond, ns);
}

/* ---- printing times ---- */

static void put_digits(char *to, int width, int64_t number) {
    for (int i = width - 1; i >= 0; i--) {
        to[i] = (char)('0' + number % 10);
        number /= 10;
    }
}

static void put_pair(char *to, int64_t number) {
    to[0] = (char)('0' + number / 10);
    to[1] = (char)('0' + number % 10);
}

void imv_time_printer_init(struct imv_time_printer *printer) { *printer = (struct imv_time_printer){0}; }

static void start_day(struct imv_time_printer *printer, int64_t ns) {
    struct imv_civil civil;
    int64_t day = floor_divide(ns, SECONDS_A_DAY * NS_A_SECOND);
    imv_time_to_civil(ns, &civil);
    put_digits(printer->text, 4, civil.year);
    printer->text[4] = printer->text[7] = '-';
    put_pair(printer->text + 5, civil.month);
    put_pair(printer->text + 8, civil.day);
    printer->text[10] = 'T';
    printer->day_ns = (int64_t)((uint64_t)day * (uint64_t)(SECONDS_A_DAY * NS_A_SECOND)); /* may wrap, as below */
    printer->known = true;
}

void imv_time_printer_print(struct imv_time_printer *printer, char *to, int64_t ns) {
    /* The first day of all begins before the first nanosecond of all: the difference is right in any case. */
    uint64_t of_day = (uint64_t)ns - (uint64_t)printer->day_ns;
    if (!printer->known || of_day >= (uint64_t)(SECONDS_A_DAY * NS_A_SECOND)) {
        start_day(printer, ns);
        of_day = (uint64_t)ns - (uint64_t)printer->day_ns;
    }
    uint32_t second = (uint32_t)(of_day / (uint64_t)NS_A_SECOND);
    uint32_t fraction = (uint32_t)(of_day - second * (uint64_t)NS_A_SECOND);
    memcpy(to, printer->text, sizeof printer->text);
    put_pair(to + 11, second / 3600);
    put_pair(to + 14, second / 60 % 60);
    put_pair(to + 17, second % 60);
    to[13] = to[16] = ':';
    to[19] = '.';
    if (fraction == 0)
        memcpy(to + 20, "000000000", 9);
    else
        put_digits(to + 20, 9, fraction);
    to[29] = 'Z';
}

void imv_time_print(char *to, int64_t ns) {
    struct imv_time_printer printer;
    imv_time_printer_init(&printer);
    imv_time_printer_print(&printer, to, ns);
}

/* ---- reading times ---- */

struct reader {
    const char *at, *end;
};

static bool take(struct reader *reader, char wanted) {
    if (reader->at == reader->end || *reader->at != wanted) return false;
    reader->at++;
    return true;
}

static bool take_digits(struct reader *reader, int width, int *number) {
    if (reader->end - reader->at < width) return false;
    int result = 0;
    for (int i = 0; i < width; i++) {
        char digit = reader->at[i];
        if (digit < '0' || digit > '9') return false;
        result = result * 10 + (digit - '0');
    }
    reader->at += width;
    *number = result;
    return true;
}

/* Digits after a point as nanoseconds: 1 to 9 of them. */
static bool take_fraction(struct reader *reader, int *nanosecond) {
    int digits = 0, result = 0;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        if (++digits > 9) return false;
        result = result * 10 + (*reader->at++ - '0');
    }
    if (digits == 0) return false;
    for (; digits < 9; digits++) result *= 10;
    *nanosecond = result;
    return true;
}

static bool take_offset(struct reader *reader, int *seconds) {
    *seconds = 0;
    if (reader->at == reader->end) return true;
    if (take(reader, 'Z') || take(reader, 'z')) return true;
    int sign = take(reader, '-') ? -1 : 1;
    if (sign == 1 && !take(reader, '+')) return false;
    int hours = 0, minutes = 0;
    if (!take_digits(reader, 2, &hours) || hours > 18) return false;
    bool colon = take(reader, ':');
    if (reader->at < reader->end || colon) {
        if (!take_digits(reader, 2, &minutes) || minutes > 59) return false;
    }
    *seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

bool imv_offset_parse(struct imv_str text, int *seconds) {
    struct reader reader = {text.data, text.data + text.size};
    return text.size > 0 && take_offset(&reader, seconds) && reader.at == reader.end;
}

bool imv_time_parse(struct imv_str text, int64_t *ns) {
    struct reader reader = {text.data, text.data + text.size};
    struct imv_civil civil = {0};
    int year, offset_seconds = 0;
    if (text.size == 0) return false;
    if (!take_digits(&reader, 4, &year) || !take(&reader, '-')) return false;
    if (!take_digits(&reader, 2, &civil.month) || !take(&reader, '-')) return false;
    if (!take_digits(&reader, 2, &civil.day)) return false;
    civil.year = year;
    if (take(&reader, 'T') || take(&reader, 't') || take(&reader, ' ')) {
        if (!take_digits(&reader, 2, &civil.hour) || !take(&reader, ':')) return false;
        if (!take_digits(&reader, 2, &civil.minute)) return false;
        if (take(&reader, ':')) {
            if (!take_digits(&reader, 2, &civil.second)) return false;
            if (take(&reader, '.') && !take_fraction(&reader, &civil.nanosecond)) return false;
        }
        if (!take_offset(&reader, &offset_seconds)) return false;
    }
    if (reader.at != reader.end) return false;
    int64_t local;
    if (!imv_time_from_civil(&civil, &local)) return false;
    return !__builtin_sub_overflow(local, offset_seconds * NS_A_SECOND, ns);
}

/* ---- durations ---- */

static size_t put_number(char *to, uint64_t number) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    for (size_t i = 0; i < count; i++) to[i] = digits[count - 1 - i];
    return count;
}

/* A part with its sign and letter; parts that are zero are left out. */
static char *put_part(char *at, bool negative, uint64_t number, char letter) {
    if (number == 0) return at;
    if (negative) *at++ = '-';
    at += put_number(at, number);
    *at++ = letter;
    return at;
}

size_t imv_duration_print(char *to, int64_t ns) {
    bool negative = ns < 0;
    uint64_t rest = negative ? -(uint64_t)ns : (uint64_t)ns;
    uint64_t seconds = rest / (uint64_t)NS_A_SECOND, fraction = rest % (uint64_t)NS_A_SECOND;
    char *at = to;
    memcpy(at, "PT", 2);
    at = put_part(at + 2, negative, seconds / 3600, 'H');
    at = put_part(at, negative, seconds / 60 % 60, 'M');
    seconds %= 60;
    if (fraction == 0) {
        at = put_part(at, negative, seconds, 'S');
        if (ns == 0) at += put_number(at, 0), *at++ = 'S';
        return (size_t)(at - to);
    }
    if (negative) *at++ = '-';
    at += put_number(at, seconds);
    *at++ = '.';
    put_digits(at, 9, (int64_t)fraction);
    at += 9;
    while (at[-1] == '0') at--;
    *at++ = 'S';
    return (size_t)(at - to);
}

static bool take_number(struct reader *reader, uint64_t *number) {
    const char *from = reader->at;
    uint64_t result = 0;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        if (__builtin_mul_overflow(result, 10u, &result)) return false;
        if (__builtin_add_overflow(result, (uint64_t)(*reader->at++ - '0'), &result)) return false;
    }
    *number = result;
    return reader->at > from;
}

/* Nanoseconds of one unit of a designator, or 0; minutes come after the T, as months would before it. */
static uint64_t unit_ns(char designator, bool after_t) {
    const uint64_t second = (uint64_t)NS_A_SECOND;
    switch (designator) {
        case 'W': return after_t ? 0 : 7 * SECONDS_A_DAY * second;
        case 'D': return after_t ? 0 : SECONDS_A_DAY * second;
        case 'H': return after_t ? 3600 * second : 0;
        case 'M': return after_t ? 60 * second : 0;
        case 'S': return after_t ? second : 0;
        default: return 0;
    }
}

static bool take_part(struct reader *reader, bool after_t, uint64_t *unit, imv_int128 *total) {
    uint64_t number;
    int fraction = 0;
    int sign = take(reader, '-') ? -1 : 1;
    if (!take_number(reader, &number)) return false;
    bool has_fraction = take(reader, '.');
    if (has_fraction && !take_fraction(reader, &fraction)) return false;
    if (reader->at == reader->end) return false;
    uint64_t ns = unit_ns(*reader->at++, after_t);
    if (ns == 0 || ns >= *unit) return false; /* each unit once, from large to small */
    if (has_fraction && reader->at != reader->end) return false;
    *unit = ns;
    *total += sign * ((imv_int128)number * ns + (imv_int128)fraction * ns / NS_A_SECOND);
    return true;
}

bool imv_duration_parse(struct imv_str text, int64_t *ns) {
    struct reader reader = {text.data, text.data + text.size};
    if (text.size == 0) return false;
    bool negative = take(&reader, '-'), after_t = false;
    if (!take(&reader, 'P') || reader.at == reader.end) return false;
    imv_int128 total = 0;
    uint64_t unit = UINT64_MAX;
    while (reader.at < reader.end) {
        if (!after_t && take(&reader, 'T')) after_t = true;
        if (!take_part(&reader, after_t, &unit, &total)) return false;
    }
    uint64_t limit = (uint64_t)INT64_MAX + negative;
    if (total > limit) return false;
    *ns = negative ? (int64_t) - (uint64_t)total : (int64_t)total;
    return true;
}

int64_t imv_time_bucket(int64_t time, int64_t width, int64_t origin) {
    int64_t distance, start;
    if (!__builtin_sub_overflow(time, origin, &distance)) {
        int64_t rest = distance % width;
        if (rest < 0) rest += width;
        return __builtin_sub_overflow(time, rest, &start) ? INT64_MIN : start;
    }
    imv_int128 rest = ((imv_int128)time - origin) % width;
    if (rest < 0) rest += width;
    imv_int128 wide = (imv_int128)time - rest;
    return wide < INT64_MIN ? INT64_MIN : (int64_t)wide;
}
