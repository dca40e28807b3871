#include "query/column.h"
#include "query/sink/sink.h"
#include "storage/base/arrow.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* What a sink wrote, and when it is to refuse. */
struct page {
    struct imv_buffer bytes;
    size_t writes, writes_max;
};

static bool page_write(void *context, const char *bytes, size_t size) {
    struct page *page = context;
    if (page->writes == page->writes_max) return false;
    page->writes++;
    return imv_buffer_append(&page->bytes, bytes, size);
}

static struct page page;
static struct imv_text_sink sink;

static void open_sink(bool time_as_integer) {
    page = (struct page){.writes_max = SIZE_MAX};
    imv_buffer_init(&page.bytes, 256 << 20);
    imv_text_sink_init(&sink, IMV_SINK_ARROW, time_as_integer, page_write, &page);
}

static void close_sink(void) {
    imv_text_sink_release(&sink);
    imv_buffer_release(&page.bytes);
}

static const struct imv_query_statistics statistics = {.rows = 2, .samples = 9, .elapsed_ns = 1234567};

/* ---- reading back ---- */

enum { COLUMNS_MAX = 16 };

static void print_cell(struct imv_buffer *out, const struct imv_arrow_type *type, struct imv_str values,
                       struct imv_str bytes, size_t row) {
    uint64_t cell = type->bits == 64 ? imv_get_u64(values.data + 8 * row) : 0;
    switch (type->kind) {
        case IMV_ARROW_FLOAT: imv_buffer_append_format(out, "%.17g", imv_cell_float(cell)); break;
        case IMV_ARROW_BOOL: imv_buffer_append_format(out, "%d", values.data[row / 8] >> row % 8 & 1); break;
        case IMV_ARROW_TEXT: {
            uint32_t from = imv_get_u32(values.data + 4 * row), end = imv_get_u32(values.data + 4 * row + 4);
            cr_assert(from <= end && end <= bytes.size);
            imv_buffer_append_format(out, "'%.*s'", (int)(end - from), bytes.data + from);
            break;
        }
        default: imv_buffer_append_format(out, type->is_signed ? "%" PRId64 : "%" PRIu64, cell);
    }
}

static void print_batch(struct imv_buffer *out, const struct imv_arrow_message *message, struct imv_str body,
                        const struct imv_arrow_field *fields, uint32_t columns) {
    struct imv_arrow_batch batch;
    struct imv_str valid[COLUMNS_MAX], values[COLUMNS_MAX], bytes[COLUMNS_MAX] = {{0}};
    cr_assert_eq(imv_arrow_batch_open(message, body, &batch, NULL), IMV_OK);
    for (uint32_t i = 0; i < columns; i++) {
        int64_t rows, nulls;
        cr_assert(imv_arrow_next_node(&batch, &rows, &nulls) && rows == batch.rows);
        cr_assert(imv_arrow_next_buffer(&batch, &valid[i]) && imv_arrow_next_buffer(&batch, &values[i]));
        if (fields[i].type.kind == IMV_ARROW_TEXT) cr_assert(imv_arrow_next_buffer(&batch, &bytes[i]));
        cr_assert_eq(valid[i].size, nulls == 0 ? 0 : (size_t)(rows + 7) / 8);
    }
    imv_buffer_append_format(out, "-- %" PRId64 "\n", batch.rows);
    for (int64_t row = 0; row < batch.rows && row < 4; row++) {
        for (uint32_t i = 0; i < columns; i++) {
            if (i > 0) imv_buffer_append_char(out, ' ');
            if (valid[i].size > 0 && (valid[i].data[row / 8] >> row % 8 & 1) == 0)
                imv_buffer_append_str(out, IMV_STR("null"));
            else
                print_cell(out, &fields[i].type, values[i], bytes[i], (size_t)row);
        }
        imv_buffer_append_char(out, '\n');
    }
}

/* The stream as text: columns with types, then each batch with its number of rows and the first four. */
static const char *answer(void) {
    static struct imv_buffer out;
    struct imv_arrow_field fields[COLUMNS_MAX];
    uint32_t columns = 0;
    size_t at = 0, size;
    struct imv_flat_reader reader, schema_reader;
    imv_buffer_release(&out);
    imv_buffer_init(&out, 1 << 20);
    for (;;) {
        struct imv_arrow_message message;
        cr_assert_leq(at + 8, page.bytes.size, "the stream has no end");
        cr_assert_eq(imv_arrow_prefix(page.bytes.data + at, &size, NULL), IMV_OK);
        at += 8;
        if (size == 0) break;
        cr_assert_leq(at + size, page.bytes.size);
        struct imv_flat_reader *of = columns == 0 ? &schema_reader : &reader;
        cr_assert_eq(imv_arrow_message_open(page.bytes.data + at, size, of, &message, NULL), IMV_OK);
        at += size;
        if (message.header == IMV_ARROW_SCHEMA) {
            cr_assert_eq(imv_arrow_schema_count(&message, &columns, NULL), IMV_OK);
            for (uint32_t i = 0; i < columns; i++) {
                cr_assert_eq(imv_arrow_schema_field(&message, i, &fields[i], NULL), IMV_OK);
                imv_buffer_append_format(&out, "%s%.*s:%s", i > 0 ? " " : "", (int)fields[i].name.size,
                                         fields[i].name.data, fields[i].type.name);
            }
            imv_buffer_append_char(&out, '\n');
        } else {
            print_batch(&out, &message, (struct imv_str){page.bytes.data + at, message.body_bytes}, fields, columns);
        }
        at += message.body_bytes;
    }
    cr_assert_eq(at, page.bytes.size);
    imv_buffer_append_char(&out, 0);
    return out.data;
}

/* ---- tests ---- */

static const struct imv_str names[] = {{"a", 1}, {"b", 1}, {"c", 1}, {"d", 1}, {"e", 1},
                                       {"f", 1}, {"g", 1}, {"h", 1}, {"i", 1}};

static bool begin(size_t count) { return sink.sink.begin(&sink.sink, names, count); }
static bool rows(const struct imv_column *columns, size_t count, size_t number) {
    return sink.sink.rows(&sink.sink, columns, count, number);
}
static bool end(void) { return sink.sink.end(&sink.sink, &statistics); }

Test(sink_arrow, each_kind_has_its_type) {
    /* Columns of cells and of values, constant ones and nulls read back under the types that are documented. */
    _Alignas(8) static struct {
        uint32_t size;
        char bytes[12];
    } a = {5, "a,\"b\n"}, e = {2, "x\xff"};
    uint64_t integers[] = {(uint64_t)-5, 7}, floats[] = {imv_float_cell(1.5), imv_float_cell(-0.0)};
    uint64_t times[] = {0, 1}, booleans[] = {1, 0}, strings[] = {(uintptr_t)&a, (uintptr_t)&e}, durations[] = {5, 0};
    uint64_t uintegers[] = {UINT64_MAX, 0}, second[] = {2}, first[] = {1};
    struct imv_value items[] = {imv_value_integer(1), imv_value_null()}, values[2];
    struct imv_map_entry entries[] = {{IMV_STR("k"), imv_value_string(IMV_STR("x"))}};
    struct imv_value constant = imv_value_integer(9);
    cr_assert(imv_value_list(items, 2, &values[0]) && imv_value_map(entries, 1, &values[1]));
    struct imv_column columns[] = {imv_column_cells(IMV_COLUMN_INTEGER, integers, second),
                                   imv_column_cells(IMV_COLUMN_FLOAT, floats, NULL),
                                   imv_column_cells(IMV_COLUMN_TIME, times, NULL),
                                   imv_column_cells(IMV_COLUMN_BOOLEAN, booleans, NULL),
                                   imv_column_cells(IMV_COLUMN_STRING, strings, NULL),
                                   imv_column_values(values),
                                   imv_column_constant(&constant),
                                   imv_column_cells(IMV_COLUMN_DURATION, durations, first),
                                   imv_column_cells(IMV_COLUMN_UINTEGER, uintegers, NULL)};
    open_sink(false);
    cr_assert(begin(9) && rows(columns, 9, 2) && end());
    cr_expect_str_eq(answer(), "a:int64 b:float64 c:timestamp d:bool e:utf8 f:utf8 g:int64 h:duration i:uint64\n"
                               "-- 2\n"
                               "null 1.5 0 1 'a,\"b\n' '[1,null]' 9 5 18446744073709551615\n"
                               "7 -0 1 0 'x\xef\xbf\xbd' '{\"k\":\"x\"}' 9 null 0\n");
    close_sink();
    open_sink(true);
    cr_assert(begin(1) && rows(&columns[2], 1, 2) && end());
    cr_expect_str_eq(answer(), "a:int64\n-- 2\n0\n1\n");
    close_sink();
}

Test(sink_arrow, mixed_values_find_a_common_type) {
    /* Numbers of several kinds become doubles, anything else text; nulls alone are text too. */
    struct imv_value numbers[] = {imv_value_integer(-1), imv_value_float(0.5), imv_value_uinteger(UINT64_MAX)};
    struct imv_value unsigned_too[] = {imv_value_integer(1), imv_value_null(), imv_value_uinteger(UINT64_MAX)};
    struct imv_value all[] = {imv_value_integer(-1), imv_value_boolean(true), imv_value_string(IMV_STR("s"))};
    struct imv_value times[] = {imv_value_time(0), imv_value_integer(3), imv_value_null()};
    struct imv_column columns[] = {imv_column_values(numbers), imv_column_values(unsigned_too), imv_column_values(all),
                                   imv_column_values(times), imv_column_null()};
    open_sink(false);
    cr_assert(begin(5) && rows(columns, 5, 3) && end());
    cr_expect_str_eq(answer(), "a:float64 b:uint64 c:utf8 d:utf8 e:utf8\n"
                               "-- 3\n"
                               "-1 1 '-1' '1970-01-01T00:00:00.000000000Z' null\n"
                               "0.5 null 'true' '3' null\n"
                               "1.8446744073709552e+19 18446744073709551615 's' null null\n");
    close_sink();
}

Test(sink_arrow, an_empty_answer_is_a_schema) {
    /* No rows, or no columns: a whole stream all the same. */
    open_sink(false);
    cr_assert(begin(2) && end());
    cr_expect_str_eq(answer(), "a:utf8 b:utf8\n");
    close_sink();
    open_sink(false);
    cr_assert(begin(0) && end());
    cr_expect_str_eq(answer(), "\n");
    close_sink();
}

static uint64_t counting[IMV_BATCH_ROWS_MAX];

Test(sink_arrow, long_answers_are_batches_of_one_type) {
    /* Rows go out in batches; what comes later fits the type found first, integers into doubles too. */
    static uint64_t ones[IMV_BATCH_ROWS_MAX];
    for (size_t i = 0; i < IMV_BATCH_ROWS_MAX; i++) {
        counting[i] = i;
        ones[i] = imv_float_cell((double)i);
    }
    struct imv_column floats = imv_column_cells(IMV_COLUMN_FLOAT, ones, NULL);
    struct imv_column integers = imv_column_cells(IMV_COLUMN_INTEGER, counting, NULL), null = imv_column_null();
    open_sink(false);
    cr_assert(begin(1));
    for (int i = 0; i < 20; i++) cr_assert(rows(&floats, 1, IMV_BATCH_ROWS_MAX));
    cr_assert(rows(&integers, 1, 3) && rows(&null, 1, 1) && end());
    cr_expect_str_eq(answer(), "a:float64\n-- 16384\n0\n1\n2\n3\n-- 4100\n0\n1\n2\n3\n");
    close_sink();
}

Test(sink_arrow, a_value_that_does_not_fit_ends_the_answer_and_says_so) {
    /* After the schema is out another kind of value cannot be written: the sink refuses and names the column. */
    uint64_t half = imv_float_cell(0.5);
    struct imv_column integers = imv_column_cells(IMV_COLUMN_INTEGER, counting, NULL);
    struct imv_column number = imv_column_cells(IMV_COLUMN_FLOAT, &half, NULL);
    open_sink(false);
    cr_assert(begin(1));
    for (int i = 0; i < 16; i++) cr_assert(rows(&integers, 1, IMV_BATCH_ROWS_MAX));
    cr_assert_null(imv_text_sink_failure(&sink));
    cr_assert(rows(&number, 1, 1));
    cr_assert_not(end());
    const struct imv_query_error *failure = imv_text_sink_failure(&sink);
    cr_assert_not_null(failure);
    cr_expect_str_eq(failure->message,
                     "column 'a' was written as int64, and a later value is of another kind: convert it, "
                     "or ask for JSON");
    close_sink();
}

Test(sink_arrow, a_refused_write_ends_the_answer) {
    /* Whichever write is refused, the sink says so and drops the rest. */
    for (size_t refused = 0; refused < 4; refused++) {
        struct imv_column integers = imv_column_cells(IMV_COLUMN_INTEGER, counting, NULL);
        bool good = true;
        open_sink(false);
        page.writes_max = refused;
        cr_assert(begin(1));
        for (int i = 0; i < 100 && good; i++) good = rows(&integers, 1, IMV_BATCH_ROWS_MAX);
        good = good && end();
        cr_assert_not(good);
        cr_assert_null(imv_text_sink_failure(&sink));
        close_sink();
    }
}
