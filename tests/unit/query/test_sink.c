#include "query/column.h"
#include "tests/unit/query/query_rig.h"

#include <math.h>

/* What a sink wrote, and when it is to refuse. */
struct page {
    struct imv_buffer text;
    size_t writes, writes_max;
};

static bool page_write(void *context, const char *bytes, size_t size) {
    struct page *page = context;
    if (page->writes == page->writes_max) return false;
    page->writes++;
    return imv_buffer_append(&page->text, bytes, size);
}

static struct page page;
static struct imv_text_sink sink;

static void open_sink(enum imv_sink_format format, bool time_as_integer) {
    page = (struct page){.writes_max = SIZE_MAX};
    imv_buffer_init(&page.text, 64 << 20);
    imv_text_sink_init(&sink, format, time_as_integer, page_write, &page);
}

static void close_sink(void) {
    imv_text_sink_release(&sink);
    imv_buffer_release(&page.text);
}

static const char *text(void) {
    imv_buffer_append_char(&page.text, 0);
    return page.text.data;
}

static const struct imv_query_statistics statistics = {.rows = 2, .samples = 9, .elapsed_ns = 1234567};

/* Two rows of every kind of column. */
static bool write_answer(void) {
    static const struct imv_str names[] = {{"i", 1}, {"f", 1}, {"t", 1}, {"b", 1}, {"s", 1},
                                           {"v", 1}, {"c", 1}, {"d", 1}, {"u", 1}};
    enum { COLUMNS = sizeof names / sizeof *names };
    _Alignas(8) static struct {
        uint32_t size;
        char bytes[12];
    } a = {5, "a,\"b\n"}, e = {0, ""};
    uint64_t integers[] = {(uint64_t)-5, 7}, floats[] = {imv_float_cell(1.5), imv_float_cell(NAN)}, times[] = {0, 1};
    uint64_t booleans[] = {1, 0}, strings[] = {(uintptr_t)&a, (uintptr_t)&e}, durations[] = {1500000000, 0};
    uint64_t uintegers[] = {UINT64_MAX, 0}, second[] = {2}, first[] = {1};
    struct imv_value items[] = {imv_value_integer(1), imv_value_null()};
    struct imv_map_entry entries[] = {{IMV_STR("k\x01"), imv_value_string(IMV_STR("x"))}};
    struct imv_value values[2], constant = imv_value_string(IMV_STR("=1+1"));
    cr_assert(imv_value_list(items, 2, &values[0]) && imv_value_map(entries, 1, &values[1]));
    struct imv_column columns[COLUMNS] = {imv_column_cells(IMV_COLUMN_INTEGER, integers, second),
                                          imv_column_cells(IMV_COLUMN_FLOAT, floats, NULL),
                                          imv_column_cells(IMV_COLUMN_TIME, times, NULL),
                                          imv_column_cells(IMV_COLUMN_BOOLEAN, booleans, NULL),
                                          imv_column_cells(IMV_COLUMN_STRING, strings, NULL),
                                          imv_column_values(values),
                                          imv_column_constant(&constant),
                                          imv_column_cells(IMV_COLUMN_DURATION, durations, first),
                                          imv_column_cells(IMV_COLUMN_UINTEGER, uintegers, NULL)};
    return sink.sink.begin(&sink.sink, names, COLUMNS) && sink.sink.rows(&sink.sink, columns, COLUMNS, 2) &&
           sink.sink.end(&sink.sink, &statistics);
}

/* JSON is written byte for byte as documented. */
Test(sink, json) {
    open_sink(IMV_SINK_JSON, false);
    cr_assert(write_answer());
    cr_expect_str_eq(text(),
                     "{\"columns\":[\"i\",\"f\",\"t\",\"b\",\"s\",\"v\",\"c\",\"d\",\"u\"],\"rows\":["
                     "[null,1.5,\"1970-01-01T00:00:00.000000000Z\",true,\"a,\\\"b\\n\",[1,null],\"=1+1\",\"PT1.5S\","
                     "18446744073709551615],"
                     "[7,\"NaN\",\"1970-01-01T00:00:00.000000001Z\",false,\"\",{\"k\\u0001\":\"x\"},\"=1+1\",null,0]],"
                     "\"stats\":{\"rows\":2,\"samples\":9,\"elapsed_ms\":1.235}}");
    close_sink();
}

/* NDJSON is a header, a row a line, and statistics; times are integers when asked for. */
Test(sink, ndjson) {
    open_sink(IMV_SINK_NDJSON, true);
    cr_assert(write_answer());
    cr_expect_str_eq(text(), "{\"columns\":[\"i\",\"f\",\"t\",\"b\",\"s\",\"v\",\"c\",\"d\",\"u\"]}\n"
                             "[null,1.5,0,true,\"a,\\\"b\\n\",[1,null],\"=1+1\",\"PT1.5S\",18446744073709551615]\n"
                             "[7,\"NaN\",1,false,\"\",{\"k\\u0001\":\"x\"},\"=1+1\",null,0]\n"
                             "{\"stats\":{\"rows\":2,\"samples\":9,\"elapsed_ms\":1.235}}\n");
    close_sink();
}

/* CSV quotes where RFC 4180 asks for it and nowhere else. */
Test(sink, csv) {
    open_sink(IMV_SINK_CSV, false);
    cr_assert(write_answer());
    cr_expect_str_eq(
        text(),
        "i,f,t,b,s,v,c,d,u\r\n"
        ",1.5,1970-01-01T00:00:00.000000000Z,true,\"a,\"\"b\n\",\"[1,null]\",=1+1,PT1.5S,18446744073709551615\r\n"
        "7,NaN,1970-01-01T00:00:00.000000001Z,false,,\"{\"\"k\\u0001\"\":\"\"x\"\"}\",=1+1,,0\r\n");
    close_sink();
}

/* An answer without rows is still whole. */
Test(sink, no_rows) {
    static const struct imv_str name = {"a", 1};
    open_sink(IMV_SINK_JSON, false);
    cr_assert(sink.sink.begin(&sink.sink, &name, 1) && sink.sink.end(&sink.sink, &statistics));
    cr_expect_str_eq(text(),
                     "{\"columns\":[\"a\"],\"rows\":[],\"stats\":{\"rows\":2,\"samples\":9,\"elapsed_ms\":1.235}}");
    close_sink();
}

/* JSON strings escape what must be, keep what is UTF-8, and replace what is not. */
Test(sink, strings) {
    static const struct {
        const char *bytes, *wanted;
    } cases[] = {
        {"plain", "\"plain\""},
        {"q\"b\\", "\"q\\\"b\\\\\""},
        {"\b\t\n\f\r\v\x1f", "\"\\b\\t\\n\\f\\r\\u000b\\u001f\""},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\""},
        {"a\xff"
         "b",
         "\"a\xef\xbf\xbd"
         "b\""},
        {"\xc3", "\"\xef\xbf\xbd\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"/\x7f", "\"/\x7f\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const struct imv_str name = {"a", 1};
        struct imv_value value = imv_value_string(imv_str_from(cases[i].bytes));
        struct imv_column column = imv_column_values(&value);
        char wanted[256];
        open_sink(IMV_SINK_NDJSON, false);
        cr_assert(sink.sink.begin(&sink.sink, &name, 1) && sink.sink.rows(&sink.sink, &column, 1, 1));
        sink.sink.end(&sink.sink, &statistics);
        snprintf(wanted, sizeof wanted, "[%s]\n", cases[i].wanted);
        cr_expect_not_null(strstr(text(), wanted), "%s", text());
        close_sink();
    }
}

static const struct imv_query_error error = {.code = "TypeError",
                                             .detail = "InvalidArgumentType",
                                             .message = "no \"good\"",
                                             .line = 1,
                                             .column = 7,
                                             .snippet = "x\n^",
                                             .suggestion = "did you mean 'y'?"};

/* An error before the first byte is the whole answer, even when rows were in the buffer. */
Test(sink, error_first) {
    static const char wanted[] =
        "{\"error\":{\"code\":\"TypeError\",\"detail\":\"InvalidArgumentType\",\"message\":\"no \\\"good\\\"\","
        "\"line\":1,\"column\":7,\"snippet\":\"x\\n^\",\"suggestion\":\"did you mean 'y'?\"}}";
    static const struct imv_str name = {"a", 1};
    for (int begun = 0; begun < 2; begun++) {
        open_sink(IMV_SINK_JSON, false);
        if (begun) cr_assert(sink.sink.begin(&sink.sink, &name, 1));
        cr_expect_not(imv_text_sink_started(&sink));
        cr_assert(imv_text_sink_error(&sink, &error));
        cr_expect_str_eq(text(), wanted);
        close_sink();
    }
    open_sink(IMV_SINK_CSV, false);
    cr_assert(imv_text_sink_error(&sink, &error));
    cr_expect_eq(page.text.size, 0);
    close_sink();
}

/* In the middle of an answer the error comes behind the rows, and JSON and NDJSON stay well-formed. */
Test(sink, error_in_the_middle) {
    static const struct imv_str name = {"a", 1};
    static const char *const ends[] = {"],\"error\":{\"code\":\"TypeError\"", "\n{\"error\":{\"code\":\"TypeError\""};
    for (int format = IMV_SINK_JSON; format <= IMV_SINK_NDJSON; format++) {
        struct imv_value value = imv_value_integer(1);
        struct imv_column column = imv_column_constant(&value);
        open_sink((enum imv_sink_format)format, false);
        cr_assert(sink.sink.begin(&sink.sink, &name, 1));
        while (!imv_text_sink_started(&sink)) cr_assert(sink.sink.rows(&sink.sink, &column, 1, 1024));
        cr_assert(imv_text_sink_error(&sink, &error));
        cr_expect_not_null(strstr(text(), ends[format]));
        close_sink();
    }
}

/* When write refuses, the sink says so at once and writes no more. */
Test(sink, refusal_ends_it) {
    static const struct imv_str name = {"a", 1};
    struct imv_value value = imv_value_string(IMV_STR("some text that fills the buffer"));
    struct imv_column column = imv_column_constant(&value);
    open_sink(IMV_SINK_CSV, false);
    page.writes_max = 1;
    cr_assert(sink.sink.begin(&sink.sink, &name, 1));
    int batches = 0;
    while (sink.sink.rows(&sink.sink, &column, 1, 1024)) cr_assert(++batches < 100);
    cr_expect_eq(page.writes, 1);
    cr_expect_not(sink.sink.rows(&sink.sink, &column, 1, 1));
    cr_expect_not(sink.sink.end(&sink.sink, &statistics));
    cr_expect_eq(page.writes, 1);
    close_sink();
}

/* A twin is written with its id, label and tags. */
Test(sink, twins) {
    struct rig rig;
    rig_open(&rig);
    struct rig_field field = {"v", IMV_INTEGER, 1, NULL};
    rig_write(&rig, "pump", "site=a,unit=p\"1", 1, &field, 1);
    rig_settle(&rig, false);
    rig_expect(&rig, "MATCH (p:pump) WITH p, id(p) AS i RETURN p.site, [p][0] = p", "[\"a\",true]");
    const char *answer = rig_run(&rig, "MATCH (p:pump) RETURN p");
    cr_expect_not_null(strstr(answer, ",\"labels\":[\"pump\"],\"properties\":{\"site\":\"a\",\"unit\":\"p\\\"1\"}}"),
                       "%s", answer);
    cr_expect_eq(strncmp(answer, "[{\"id\":", 7), 0);
    rig_close(&rig);
}
