#include "connectors/http/predicate.h"

#include <criterion/criterion.h>

static char scratch[4096];
static struct imv_predicate predicate;
static struct imv_error err;

static imv_status parse(const char *text) { return imv_predicate_parse(imv_str_from(text), scratch, &predicate, &err); }

static void expect_tag(size_t i, const char *key, const char *value) {
    cr_assert_lt(i, predicate.tags_count);
    cr_assert(imv_str_equal(predicate.tags[i].key, imv_str_from(key)));
    cr_assert(imv_str_equal(predicate.tags[i].value, imv_str_from(value)));
}

Test(predicate, equalities_joined_by_and) {
    /* Words and quoted texts, escapes, parentheses and any case of AND. */
    cr_assert_eq(parse("_measurement=\"cpu\""), IMV_OK);
    cr_assert(imv_str_equal(predicate.measurement, IMV_STR("cpu")) && predicate.tags_count == 0);
    cr_assert_eq(parse(" host = \"a\\\"b\\\\\" aNd (\"rack no\"='1 2' AND(_measurement=m-1.x)) "), IMV_OK);
    cr_assert(imv_str_equal(predicate.measurement, IMV_STR("m-1.x")) && predicate.tags_count == 2);
    expect_tag(0, "host", "a\"b\\");
    expect_tag(1, "rack no", "1 2");
}

Test(predicate, what_could_delete_more_is_refused) {
    /* No measurement, two, a field, another comparison or joint, and every predicate that is cut short. */
    static const char *const bad[] = {"",
                                      "  ",
                                      "host=\"h1\"",
                                      "_measurement=a AND _measurement=b",
                                      "_measurement=a AND _field=x",
                                      "_measurement=a OR host=b",
                                      "_measurement=a AND host!=b",
                                      "_measurement=a AND host=~/b/",
                                      "_measurement=a host=b",
                                      "_measurement=a,host=b",
                                      "_measurement=a AND",
                                      "(_measurement=a",
                                      "_measurement=a)",
                                      "'_measurement'=a",
                                      "((((((((((((((((((_measurement=a))))))))))))))))))"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) cr_assert_eq(parse(bad[i]), IMV_INVALID, "%s", bad[i]);
    const char *whole = "(host='b') AND (_measurement=\"cpu\")";
    for (size_t size = 0; size < strlen(whole); size++) {
        cr_assert_eq(imv_predicate_parse((struct imv_str){whole, size}, scratch, &predicate, &err), IMV_INVALID);
    }
    cr_assert_eq(parse(whole), IMV_OK);
}
