#include "ingest/line.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* Parses one line wholly; on IMV_OK *fields counts its fields. The line is copied to its exact size, so that a read
 * past its end is seen by the address sanitizer. */
static imv_status parse(const char *text, size_t size, enum imv_precision precision, size_t *fields, int64_t *timestamp,
                        struct imv_error *err) {
    char *copy = malloc(size == 0 ? 1 : size), *memory = malloc(size + 1);
    memcpy(copy, text, size);
    struct imv_line_scratch scratch = {memory, memory + size};
    enum imv_line_kind kind;
    struct imv_line line;
    struct imv_str measurement;
    static struct imv_line_tag tags[IMV_LINE_TAGS_MAX];
    size_t tags_count;
    *fields = 0;
    imv_status status = imv_line_split(copy, size, &kind, &line, err);
    if (status == IMV_OK && kind == IMV_LINE_POINT) {
        status = imv_line_key(&line, &scratch, &measurement, tags, &tags_count, err);
        const char *at = line.fields;
        bool done = false, present;
        while (status == IMV_OK && !done) {
            struct imv_line_field field;
            status = imv_line_field(&line, &at, &scratch, &field, &done, err);
            *fields += status == IMV_OK;
        }
        if (status == IMV_OK) status = imv_line_timestamp(&line, at, precision, timestamp, &present, err);
    }
    free(copy);
    free(memory);
    return status;
}

Test(line, every_prefix_and_every_changed_byte_is_taken_or_refused_without_reading_beyond) {
    static const char text[] =
        "c\\,pu,ho\\ st=h\\=1,r\xc3\xa9gion=e\\\\u a=1.5e3,b=-3i,c=7u,d=true,s=\"q\\\"uo,te \\\\\" 123456789";
    size_t size = sizeof text - 1, fields;
    int64_t timestamp;
    cr_assert_eq(parse(text, size, IMV_PRECISION_NS, &fields, &timestamp, NULL), IMV_OK);
    cr_assert_eq(fields, 5);
    for (size_t cut = 0; cut < size; cut++) parse(text, cut, IMV_PRECISION_NS, &fields, &timestamp, NULL);
    char changed[sizeof text];
    for (size_t i = 0; i < size; i++) {
        for (int byte = 0; byte < 256; byte++) {
            memcpy(changed, text, sizeof text);
            changed[i] = (char)byte;
            parse(changed, size, IMV_PRECISION_NS, &fields, &timestamp, NULL);
        }
    }
}

Test(line, timestamps_scale_by_precision_and_refuse_what_does_not_fit) {
    struct imv_error err;
    size_t fields;
    int64_t timestamp;
    static const struct {
        enum imv_precision precision;
        int64_t unit;
    } units[] = {{IMV_PRECISION_NS, 1},         {IMV_PRECISION_US, 1000},       {IMV_PRECISION_MS, 1000000},
                 {IMV_PRECISION_S, 1000000000}, {IMV_PRECISION_M, 60000000000}, {IMV_PRECISION_H, 3600000000000}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        cr_assert_eq(parse("m v=1 -17", 9, units[i].precision, &fields, &timestamp, &err), IMV_OK);
        cr_expect_eq(timestamp, -17 * units[i].unit);
        cr_expect_eq(imv_precision_floor(units[i].precision, units[i].unit * 5 + units[i].unit - 1), units[i].unit * 5);
        cr_expect_eq(imv_precision_floor(units[i].precision, -1), -units[i].unit);
    }
    cr_assert_eq(parse("m v=1 9223372036855", 19, IMV_PRECISION_MS, &fields, &timestamp, &err), IMV_INVALID);
    cr_assert_eq(parse("m v=1 1.5", 9, IMV_PRECISION_NS, &fields, &timestamp, &err), IMV_INVALID);
    cr_expect(strstr(err.message, "timestamp") != NULL && strstr(err.message, "column 7") != NULL, "%s", err.message);
}

Test(line, a_quoted_line_feed_does_not_end_a_line_and_a_quote_elsewhere_hides_nothing) {
    static const struct {
        const char *text;
        ptrdiff_t end;
    } cases[] = {
        {"m v=\"a\nb\" 1\nx", 11},        {"m\"x v=1\n", 7},  {"m,t=\"a v=1\nb v=2\n", 10}, {"m v=\"a\\\"\nb\"\n", 11},
        {"# it's \"quoted\nm v=1\n", 14}, {"m v=\"a\nb", -1}, {"m v\\=\"x=1\n", 9},         {"\n", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size = strlen(cases[i].text);
        struct imv_line_scan whole = {0}, pieces = {0};
        cr_expect_eq(imv_line_find_end(cases[i].text, size, &whole), cases[i].end, "case %zu", i);
        ptrdiff_t end = -1;
        for (size_t have = 0; have <= size && end < 0; have++) end = imv_line_find_end(cases[i].text, have, &pieces);
        cr_expect_eq(end, cases[i].end, "case %zu in pieces", i);
    }
}

Test(line, limits_are_refused_with_their_number) {
    struct imv_error err;
    size_t fields;
    int64_t timestamp;
    size_t size = IMV_LINE_BYTES_MAX + 1;
    char *text = malloc(size);
    memset(text, 'a', size);
    memcpy(text, "m v=1", 5);
    cr_assert_eq(parse(text, size, IMV_PRECISION_NS, &fields, &timestamp, &err), IMV_INVALID);
    cr_expect(strstr(err.message, "65536") != NULL, "%s", err.message);
    size_t used = 1;
    text[0] = 'm';
    for (int i = 0; i <= IMV_LINE_TAGS_MAX; i++) used += (size_t)sprintf(text + used, ",t%d=v", i);
    used += (size_t)sprintf(text + used, " v=1");
    cr_assert_eq(parse(text, used, IMV_PRECISION_NS, &fields, &timestamp, &err), IMV_INVALID);
    cr_expect(strstr(err.message, "256 tags") != NULL, "%s", err.message);
    free(text);
}
