#include "connectors/cli/time_text.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>

static const struct {
    const char *text;
    enum imv_time_form form;
    int64_t ns;
} good[] = {
    {"1970-01-01", IMV_TIME_ISO, 0},
    {"2020-03-09 10:14:33", IMV_TIME_ISO, INT64_C(1583748873) * 1000000000},
    {"2020-03-09T10:14:33Z", IMV_TIME_ISO, INT64_C(1583748873) * 1000000000},
    {"2020-03-09T11:14:33+01:00", IMV_TIME_ISO, INT64_C(1583748873) * 1000000000},
    {"2020-03-09T11:14:33+0100", IMV_TIME_ISO, INT64_C(1583748873) * 1000000000},
    {"2020-03-09T05:14:33-05", IMV_TIME_ISO, INT64_C(1583748873) * 1000000000},
    {"2020/3/9 10:14", IMV_TIME_ISO, INT64_C(1583748840) * 1000000000},
    {"2020-03-09 10:14:33.5", IMV_TIME_ISO, INT64_C(1583748873) * 1000000000 + 500000000},
    {"2020-03-09 10:14:33,123456789", IMV_TIME_ISO, INT64_C(1583748873) * 1000000000 + 123456789},
    {"1969-12-31 23:59:59", IMV_TIME_ISO, -1000000000},
    {"2000-02-29", IMV_TIME_ISO, INT64_C(951782400) * 1000000000},
    {"09.03.2020 10:14:33", IMV_TIME_DMY, INT64_C(1583748873) * 1000000000},
    {"9/3/2020 10:14:33", IMV_TIME_DMY, INT64_C(1583748873) * 1000000000},
    {"03/09/2020 10:14:33", IMV_TIME_MDY, INT64_C(1583748873) * 1000000000},
    {"1583748873", IMV_TIME_EPOCH, INT64_C(1583748873) * 1000000000},
    {"1583748873.25", IMV_TIME_EPOCH, INT64_C(1583748873) * 1000000000 + 250000000},
    {"1583748873250", IMV_TIME_EPOCH, INT64_C(1583748873250) * 1000000},
    {"1583748873250001", IMV_TIME_EPOCH, INT64_C(1583748873250001) * 1000},
    {"1583748873250001002", IMV_TIME_EPOCH, INT64_C(1583748873250001002)},
    {"-1", IMV_TIME_EPOCH, -1000000000},
};

Test(time_text, every_documented_form_gives_its_nanoseconds) {
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t ns = 0;
        cr_expect(imv_time_text_parse(imv_str_from(good[i].text), good[i].form, false, &ns), "%s is refused",
                  good[i].text);
        cr_expect_eq(ns, good[i].ns, "%s gives %ld", good[i].text, (long)ns);
    }
}

Test(time_text, what_is_no_time_is_refused) {
    static const char *const bad[] = {"",
                                      "now",
                                      "2020-13-01",
                                      "2020-02-30",
                                      "1900-02-29",
                                      "2020-03-09 24:00:00",
                                      "2020-03-09 10:60:00",
                                      "2020-03-09 10:14:33x",
                                      "2020-03-09 10:14:33+25:00",
                                      "2020-03",
                                      "9999-01-01",
                                      "12.5.20",
                                      "1e9",
                                      "1.2.3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(imv_time_text_forms(imv_str_from(bad[i]), IMV_TIME_ANY), 0, "'%s' is taken", bad[i]);
}

Test(time_text, an_ambiguous_date_fits_both_orders_and_a_clear_one_fits_one) {
    unsigned both = IMV_TIME_DMY | IMV_TIME_MDY;
    cr_expect_eq(imv_time_text_forms(IMV_STR("03/09/2020"), IMV_TIME_ANY), both);
    cr_expect_eq(imv_time_text_forms(IMV_STR("13/09/2020"), IMV_TIME_ANY), (unsigned)IMV_TIME_DMY);
    cr_expect_eq(imv_time_text_forms(IMV_STR("09/13/2020"), IMV_TIME_ANY), (unsigned)IMV_TIME_MDY);
}

Test(time_text, a_local_time_follows_the_zone_and_its_summer_time) {
    setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
    tzset();
    int64_t winter, summer, zoned;
    cr_assert(imv_time_text_parse(IMV_STR("2020-01-01 12:00:00"), IMV_TIME_ISO, true, &winter));
    cr_assert(imv_time_text_parse(IMV_STR("2020-07-01 12:00:00"), IMV_TIME_ISO, true, &summer));
    cr_assert(imv_time_text_parse(IMV_STR("2020-07-01 12:00:00Z"), IMV_TIME_ISO, true, &zoned));
    cr_expect_eq(winter, INT64_C(1577876400) * 1000000000);
    cr_expect_eq(summer, INT64_C(1593597600) * 1000000000);
    cr_expect_eq(zoned, INT64_C(1593604800) * 1000000000);
}
