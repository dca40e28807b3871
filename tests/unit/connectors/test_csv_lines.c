#include "connectors/cli/csv_lines.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* All lines of a CSV text, or the error's message; the caller frees it. */
static char *lines_of(const char *csv, const struct imv_csv_options *options) {
    struct imv_error err = {0};
    struct imv_csv_plan *plan = NULL;
    struct imv_str text = imv_str_from(csv);
    struct imv_csv_reader *reader = malloc(sizeof *reader);
    struct imv_buffer out;
    imv_buffer_init(&out, 1 << 20);
    char delimiter = imv_csv_find_delimiter(text);
    imv_status status = imv_csv_plan_new(text, delimiter, options, &plan, &err);
    imv_csv_init(reader, text, delimiter);
    bool end = false, empty;
    if (status == IMV_OK) status = imv_csv_next(reader, &end, &err);
    while (status == IMV_OK && (status = imv_csv_next(reader, &end, &err)) == IMV_OK && !end)
        status = imv_csv_line(plan, reader, &out, &empty, &err);
    imv_csv_release(reader);
    free(reader);
    imv_csv_plan_free(plan);
    imv_buffer_append_char(&out, 0);
    char *result = strdup(status == IMV_OK ? out.data : err.message);
    imv_buffer_release(&out);
    return result;
}

static void expect(const char *csv, const struct imv_csv_options *options, const char *wanted) {
    char *have = lines_of(csv, options);
    cr_expect_str_eq(have, wanted, "for\n%s\nhave %s\nwant %s", csv, have, wanted);
    free(have);
}

Test(csv_lines, columns_get_the_type_that_all_their_cells_fit) {
    struct imv_csv_options options = {.label = "m", .time = "t"};
    expect("t,i,u,f,b,s,z\n1,1,18446744073709551615,1.50,true,x,007\n2,-2,0,2,FALSE,1,008\n", &options,
           "m i=1i,u=18446744073709551615u,f=1.50,b=t,s=\"x\",z=\"007\" 1000000000\n"
           "m i=-2i,u=0u,f=2,b=f,s=\"1\",z=\"008\" 2000000000\n");
}

Test(csv_lines, missing_cells_have_no_value_and_empty_records_no_line) {
    struct imv_csv_options options = {.label = "m"};
    expect("time;a;b\n1;NaN;\n2;1.0;\n3;;\n\n4;null;x\n", &options, "m a=1.0 2000000000\nm b=\"x\" 4000000000\n");
}

Test(csv_lines, tags_come_from_columns_and_constants_and_names_are_escaped) {
    struct imv_csv_options options = {
        .label = "flow bench", .time = "date time", .tags = {"unit no", "run=v 1"}, .tags_count = 2};
    expect("date time,unit no,Flow Rate,a=b\n2020-03-09 10:14:33,\"x, y\",32.0,\"say \"\"hi\"\"\"\n", &options,
           "flow\\ bench,run=v\\ 1,unit\\ no=x\\,\\ y Flow\\ Rate=32.0,a\\=b=\"say \\\"hi\\\"\" 1583748873000000000\n");
}

Test(csv_lines, delimiter_and_line_ends_are_found) {
    struct imv_csv_options options = {.label = "m"};
    expect("\xef\xbb\xbftime\tv\r\n1\t2\r\n", &options, "m v=2i 1000000000\n");
    expect("v|when\n2|1970-01-01T00:00:01Z", &options, "m v=2i 1000000000\n");
}

Test(csv_lines, what_cannot_be_read_is_said_with_its_place) {
    struct imv_csv_options options = {.label = "m"}, named = {.label = "m", .time = "nope"},
                           tagged = {.label = "m", .tags = {"nope"}, .tags_count = 1};
    expect("", &options, "the file is empty");
    expect("time,v\n", &options, "there is no record after the header");
    expect("time,v\n1,2\n3\n", &options, "record 3 has 1 cells, the header has 2");
    expect("time,v\n1,2\nsoon,3\n", &options,
           "record 3: 'soon' is not a time of the form that the records before have");
    expect("time,v\n1,\"2\n", &options, "record 2: a quote does not close");
    expect("a,b\nx,y\n", &options, "no column looks like a time; name it with --time COLUMN");
    expect("time,v\n1,2\n", &named, "--time nope: there is no such column");
    expect("time,v\n1,2\n", &tagged, "--tag nope: there is no such column (NAME=VALUE gives a constant)");
    expect("time,v\n01/02/2020,2\n", &options,
           "the dates could be day/month or month/day: say which with --date-order");
    options.date_order = "dmy";
    expect("time,v\n01/02/2020,2\n", &options, "m v=2i 1580515200000000000\n");
}

Test(csv_lines, a_line_feed_in_a_tag_cannot_begin_another_line) {
    struct imv_csv_options options = {.label = "m", .time = "t", .tags = {"a"}, .tags_count = 1};
    expect("t,a,v\n1,\"x v=1 1\nother,b=c\",2\n", &options, "record 2: a line feed in the tag a");
    expect("t,a,\"v v=1 1\nw\"\n1,x,2\n", &options, "column 3 of the header has a line feed in its name");
    options.tags_count = 0;
    expect("t,v\n1,\"x\ny\"\n", &options, "m v=\"x\ny\" 1000000000\n");
}
