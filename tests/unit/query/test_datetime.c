#include "query/datetime.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

#define SECOND INT64_C(1000000000)

static const char *print_time(int64_t ns) {
    static char text[IMV_TIME_BYTES + 1];
    imv_time_print(text, ns);
    text[IMV_TIME_BYTES] = 0;
    return text;
}

static const char *print_duration(int64_t ns) {
    static char text[IMV_DURATION_BYTES_MAX + 1];
    size_t size = imv_duration_print(text, ns);
    cr_assert(size <= IMV_DURATION_BYTES_MAX);
    text[size] = 0;
    return text;
}

/* Times print as RFC 3339 in UTC with nine digits, from the first to the last that 64 bits hold. */
Test(datetime, prints_times) {
    cr_expect_str_eq(print_time(0), "1970-01-01T00:00:00.000000000Z");
    cr_expect_str_eq(print_time(-1), "1969-12-31T23:59:59.999999999Z");
    cr_expect_str_eq(print_time(INT64_C(1767225600) * SECOND), "2026-01-01T00:00:00.000000000Z");
    cr_expect_str_eq(print_time(INT64_C(951782400) * SECOND + 5), "2000-02-29T00:00:00.000000005Z");
    cr_expect_str_eq(print_time(INT64_MAX), "2262-04-11T23:47:16.854775807Z");
    cr_expect_str_eq(print_time(INT64_MIN), "1677-09-21T00:12:43.145224192Z");
}

/* What is printed reads back to the same nanosecond, and the C library agrees on the calendar. */
Test(datetime, times_round_trip) {
    struct imv_prng prng;
    struct imv_time_printer printer;
    imv_prng_init(&prng, 42);
    imv_time_printer_init(&printer);
    int64_t ns = 0;
    for (int i = 0; i < 100000; i++) {
        /* Mostly near the time before, as the printer that keeps the day expects, and often far away. */
        ns = i % 5 == 0
                 ? (int64_t)imv_prng_next(&prng)
                 : (int64_t)((uint64_t)ns + imv_prng_below(&prng, (uint64_t)SECOND * 40000) - (uint64_t)SECOND * 20000);
        char text[IMV_TIME_BYTES + 1], wanted[64];
        imv_time_printer_print(&printer, text, ns);
        text[IMV_TIME_BYTES] = 0;
        time_t second = (time_t)(ns / SECOND - (ns % SECOND < 0));
        struct tm tm;
        gmtime_r(&second, &tm);
        size_t size = strftime(wanted, sizeof wanted, "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(wanted + size, sizeof wanted - size, ".%09lldZ", (long long)((ns % SECOND + SECOND) % SECOND));
        cr_assert_str_eq(text, wanted, "seed 42, round %d", i);
        int64_t back;
        cr_assert(imv_time_parse(imv_str_from(text), &back));
        cr_assert_eq(back, ns);
    }
}

/* Dates, times without seconds, fractions and offsets are read as they are meant. */
Test(datetime, reads_times) {
    static const struct {
        const char *text;
        int64_t ns;
    } cases[] = {
        {"1970-01-01", 0},
        {"1970-01-02", 86400 * SECOND},
        {"1970-01-01T00:01", 60 * SECOND},
        {"1970-01-01 00:00:01Z", SECOND},
        {"1970-01-01t00:00:01.5z", SECOND * 3 / 2},
        {"1970-01-01T01:00:00+01:00", 0},
        {"1970-01-01T01:00:00+0100", 0},
        {"1970-01-01T01:00:00+01", 0},
        {"1969-12-31T18:30:00-05:30", 0},
        {"2024-02-29T00:00:00Z", INT64_C(1709164800) * SECOND},
        {"2262-04-11T23:47:16.854775807Z", INT64_MAX},
        {"1677-09-21T00:12:43.145224192Z", INT64_MIN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ns = -1;
        cr_expect(imv_time_parse(imv_str_from(cases[i].text), &ns), "%s", cases[i].text);
        cr_expect_eq(ns, cases[i].ns, "%s: %lld", cases[i].text, (long long)ns);
    }
}

/* What is no time, or none that fits, is refused. */
Test(datetime, refuses_what_is_no_time) {
    static const char *const cases[] = {"",
                                        "x",
                                        "1970",
                                        "1970-1-1",
                                        "1970-13-01",
                                        "1970-00-10",
                                        "1970-02-29",
                                        "1900-02-29",
                                        "2026-04-31",
                                        "1970-01-01T",
                                        "1970-01-01T1",
                                        "1970-01-01T24:00:00",
                                        "1970-01-01T00:60:00",
                                        "1970-01-01T00:00:60",
                                        "1970-01-01T00:00:00.",
                                        "1970-01-01T00:00:00.1234567890",
                                        "1970-01-01T00:00:00+",
                                        "1970-01-01T00:00:00+1",
                                        "1970-01-01T00:00:00+01:",
                                        "1970-01-01T00:00:00+01:60",
                                        "1970-01-01T00:00:00+19:00",
                                        "1970-01-01T00:00:00Zx",
                                        "2262-04-11T23:47:16.854775808Z",
                                        "1677-09-21T00:12:43.145224191Z",
                                        "2262-04-11T23:47:16-00:01",
                                        "9999-12-31",
                                        "-001-01-01",
                                        " 1970-01-01",
                                        "1970-01-01 ",
                                        "now"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ns;
        cr_expect_not(imv_time_parse(imv_str_from(cases[i]), &ns), "%s", cases[i]);
    }
}

/* No cut and no flipped byte of a time makes the reader touch memory that is not its own, and a time that is still read
 * prints as one. */
Test(datetime, survives_damage) {
    const char *text = "2026-05-06T07:08:09.123456789+02:30";
    size_t size = strlen(text);
    for (size_t cut = 0; cut < size; cut++) {
        char *copy = malloc(cut == 0 ? 1 : cut);
        int64_t ns;
        memcpy(copy, text, cut);
        imv_time_parse((struct imv_str){copy, cut}, &ns);
        free(copy);
    }
    for (size_t at = 0; at < size; at++) {
        for (int byte = 0; byte < 256; byte++) {
            char copy[64];
            int64_t ns, back;
            memcpy(copy, text, size);
            copy[at] = (char)byte;
            if (!imv_time_parse((struct imv_str){copy, size}, &ns)) continue;
            cr_assert(imv_time_parse(imv_str_from(print_time(ns)), &back));
            cr_assert_eq(back, ns);
        }
    }
}

/* Durations print with the sign on each part, and read back. */
Test(datetime, durations) {
    static const struct {
        int64_t ns;
        const char *text;
    } cases[] = {
        {0, "PT0S"},
        {SECOND, "PT1S"},
        {250000000, "PT0.25S"},
        {-1, "PT-0.000000001S"},
        {90 * SECOND, "PT1M30S"},
        {-90 * SECOND, "PT-1M-30S"},
        {36 * 3600 * SECOND, "PT36H"},
        {INT64_MAX, "PT2562047H47M16.854775807S"},
        {INT64_MIN, "PT-2562047H-47M-16.854775808S"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ns;
        cr_expect_str_eq(print_duration(cases[i].ns), cases[i].text);
        cr_assert(imv_duration_parse(imv_str_from(cases[i].text), &ns), "%s", cases[i].text);
        cr_expect_eq(ns, cases[i].ns);
    }
    struct imv_prng prng;
    imv_prng_init(&prng, 7);
    for (int i = 0; i < 100000; i++) {
        int64_t ns = (int64_t)imv_prng_next(&prng) >> imv_prng_below(&prng, 64), back;
        cr_assert(imv_duration_parse(imv_str_from(print_duration(ns)), &back));
        cr_assert_eq(back, ns, "%s", print_duration(ns));
    }
}

/* Other forms of durations are read, and what has no fixed length or no sense is refused. */
Test(datetime, reads_durations) {
    int64_t ns;
    cr_assert(imv_duration_parse(IMV_STR("P1W2DT3H4M5.5S"), &ns));
    cr_expect_eq(ns, ((((INT64_C(9) * 24 + 3) * 60 + 4) * 60 + 5) * SECOND) + SECOND / 2);
    cr_assert(imv_duration_parse(IMV_STR("-PT5M"), &ns));
    cr_expect_eq(ns, -300 * SECOND);
    cr_assert(imv_duration_parse(IMV_STR("PT1.5H"), &ns));
    cr_expect_eq(ns, 5400 * SECOND);
    static const char *const cases[] = {"",
                                        "P",
                                        "PT",
                                        "T1S",
                                        "1S",
                                        "P1Y",
                                        "P1M",
                                        "PT1",
                                        "PT1D",
                                        "PT1S1M",
                                        "P1H",
                                        "PT1.S",
                                        "PT.5S",
                                        "PT1.5H1M",
                                        "P1DT",
                                        "PT1SS",
                                        "PT9223372037S",
                                        "PT99999999999999999999S",
                                        "P1.0000000001D"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_not(imv_duration_parse(imv_str_from(cases[i]), &ns), "%s", cases[i]);
}

/* A bucket begins at or before its time, less than a width before it, at a multiple of the width from the origin. */
Test(datetime, buckets) {
    struct imv_prng prng;
    imv_prng_init(&prng, 9);
    for (int i = 0; i < 100000; i++) {
        int64_t width = (int64_t)(imv_prng_next(&prng) >> (1 + imv_prng_below(&prng, 62)));
        int64_t time = (int64_t)imv_prng_next(&prng) >> imv_prng_below(&prng, 20);
        int64_t origin = i % 2 == 0 ? 0 : (int64_t)imv_prng_next(&prng) >> imv_prng_below(&prng, 40);
        if (width <= 0) continue;
        int64_t start = imv_time_bucket(time, width, origin);
        if (start == INT64_MIN) continue;
        cr_assert(start <= time);
        cr_assert((uint64_t)time - (uint64_t)start < (uint64_t)width);
        cr_assert_eq((int64_t)(((__int128)start - origin) % width), 0);
    }
    cr_expect_eq(imv_time_bucket(-1, 60, 0), -60);
    cr_expect_eq(imv_time_bucket(60, 60, 0), 60);
    cr_expect_eq(imv_time_bucket(INT64_MIN, 7, 0), INT64_MIN);
}
