/* Arrow IPC stream (storage/base/arrow.h): a schema, record batches, the end.
 *
 * A column's type is known only from its values, so the rows of the first batch are gathered before the schema is
 * written:
 *
 *     all values are               type                    all values are          type
 *     integers                     int64                   booleans                bool
 *     and some above 2^63 - 1      uint64                  times                   timestamp[ns, UTC], or int64 with ?time=ns
 *     numbers, some of them real   float64                 durations               duration[ns]
 *     signed and above 2^63 - 1    float64                 anything else, mixed,   utf8: strings as they are, the rest as
 *                                                          or null without a type  in CSV, lists, maps and twins as JSON
 *
 * Later values must fit: integers also go into float64, and everything into utf8. Another one ends the answer with an
 * error that names the column; a client that sees the stream end without its end mark knows that it is cut. */
#include "storage/base/arrow.h"
#include "query/sink/format.h"
#include "storage/base/assert.h"
#include "storage/base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <utf8proc.h>

enum {
    /* A batch: large enough that its metadata is nothing, small enough for the first rows to be there soon. */
    BATCH_ROWS = 16 * 1024,
    BATCH_BYTES = 1 << 20,
    BODY_BYTES_MAX = 1 << 30,
};

/* What values a column has had, as a set. */
enum {
    HAS_INTEGER = 1 << 0,
    HAS_NEGATIVE = 1 << 1,
    HAS_UINTEGER = 1 << 2,
    HAS_FLOAT = 1 << 3,
    HAS_BOOLEAN = 1 << 4,
    HAS_TIME = 1 << 5,
    HAS_DURATION = 1 << 6,
    HAS_OTHER = 1 << 7,
    HAS_INTEGERS = HAS_INTEGER | HAS_NEGATIVE | HAS_UINTEGER,
};

struct column {
    struct imv_str name;
    bool decided;
    struct imv_arrow_type type;
    unsigned fits; /* HAS_..: what the type takes */
    unsigned has;  /* HAS_..: of the rows gathered, or what its kind says although they are null */
    /* The rows gathered: a kind (enum imv_column_kind; STRING: text is ready; 0: null) and a cell each. */
    struct imv_buffer kinds, cells;
    struct imv_buffer text; /* a cell of STRING is offset << 32 | size in it */
};

struct answer {
    struct imv_arena arena;
    struct column *columns;
    size_t columns_count, rows;
    bool schema_written;
    struct imv_arrow_body body;
    struct imv_query_error failure; /* code NULL: none */
};

static struct answer *answer_of(struct imv_text_sink *sink) { return sink->state; }

static bool fail_memory(struct imv_text_sink *sink) {
    sink->failed = true;
    return false;
}

/* ---- gathering rows ---- */

static unsigned has_of(enum imv_column_kind kind, uint64_t cell) {
    switch (kind) {
        case IMV_COLUMN_ABSENT:
        case IMV_COLUMN_NULL: return 0;
        case IMV_COLUMN_INTEGER: return (int64_t)cell < 0 ? HAS_NEGATIVE : HAS_INTEGER;
        case IMV_COLUMN_UINTEGER: return HAS_UINTEGER;
        case IMV_COLUMN_FLOAT: return HAS_FLOAT;
        case IMV_COLUMN_BOOLEAN: return HAS_BOOLEAN;
        case IMV_COLUMN_TIME: return HAS_TIME;
        case IMV_COLUMN_DURATION: return HAS_DURATION;
        default: return HAS_OTHER;
    }
}

/* Appends text, with U+FFFD for bytes that are no UTF-8. */
static void put_utf8(struct imv_buffer *out, struct imv_str text) {
    if (imv_utf8_valid(text)) {
        imv_buffer_append_str(out, text);
        return;
    }
    for (size_t i = 0, plain = 0; plain < text.size;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t size = i == text.size ? 0
                                               : utf8proc_iterate((const utf8proc_uint8_t *)text.data + i,
                                                                  (utf8proc_ssize_t)(text.size - i), &point);
        if (size > 0) {
            i += (size_t)size;
            continue;
        }
        imv_buffer_append(out, text.data + plain, i - plain);
        if (i < text.size) imv_buffer_append_str(out, IMV_STR("\xef\xbf\xbd"));
        plain = i < text.size ? ++i : i;
    }
}

static uint64_t text_cell(const struct imv_buffer *text, size_t from) {
    return (uint64_t)from << 32 | (uint32_t)(text->size - from);
}

static uint64_t put_string(struct column *column, struct imv_str string) {
    size_t from = column->text.size;
    put_utf8(&column->text, string);
    return text_cell(&column->text, from);
}

static uint64_t put_json(struct imv_text_sink *sink, struct column *column, const struct imv_value *value) {
    size_t from = column->text.size;
    imv_json_value(sink, &column->text, value);
    return text_cell(&column->text, from);
}

static void put_value(struct imv_text_sink *sink, struct column *column, size_t row, const struct imv_value *value) {
    enum imv_column_kind kind;
    uint64_t cell = value->uinteger;
    switch ((imv_value_kind)value->kind) {
        case IMV_VALUE_NULL: kind = IMV_COLUMN_ABSENT; break;
        case IMV_VALUE_BOOLEAN:
            kind = IMV_COLUMN_BOOLEAN;
            cell = value->boolean;
            break;
        case IMV_VALUE_INTEGER: kind = IMV_COLUMN_INTEGER; break;
        case IMV_VALUE_UINTEGER: kind = IMV_COLUMN_UINTEGER; break;
        case IMV_VALUE_FLOAT: kind = IMV_COLUMN_FLOAT; break;
        case IMV_VALUE_TIME: kind = IMV_COLUMN_TIME; break;
        case IMV_VALUE_DURATION: kind = IMV_COLUMN_DURATION; break;
        case IMV_VALUE_STRING:
            kind = IMV_COLUMN_STRING;
            cell = put_string(column, imv_value_str(value));
            break;
        default: kind = IMV_COLUMN_STRING; cell = put_json(sink, column, value);
    }
    column->has |= has_of(kind, cell);
    column->kinds.data[row] = (char)kind;
    imv_put_u64(column->cells.data + 8 * row, kind == IMV_COLUMN_ABSENT ? 0 : cell);
}

/* Cells that are numbers of one kind, as they come from samples. */
static void put_cells(struct column *column, size_t row, const struct imv_column *from, size_t rows) {
    enum imv_column_kind kind = (enum imv_column_kind)from->kind;
    size_t nulls = 0;
    bool negative = false;
    memcpy(column->cells.data + 8 * row, from->cells, 8 * rows);
    memset(column->kinds.data + row, (int)kind, rows);
    for (size_t i = 0; from->valid != NULL && i < rows; i++) {
        if (imv_bit_get(from->valid, i)) continue;
        column->kinds.data[row + i] = IMV_COLUMN_ABSENT;
        imv_put_u64(column->cells.data + 8 * (row + i), 0);
        nulls++;
    }
    if (nulls < rows || !column->decided) column->has |= has_of(kind, 0);
    if (kind != IMV_COLUMN_INTEGER) return;
    for (size_t i = 0; i < rows; i++) negative |= (int64_t)imv_get_u64(column->cells.data + 8 * (row + i)) < 0;
    if (negative) column->has |= HAS_NEGATIVE;
}

static bool is_number(const struct imv_column *column) {
    return !column->constant && column->kind >= IMV_COLUMN_BOOLEAN && column->kind <= IMV_COLUMN_DURATION &&
           column->kind != IMV_COLUMN_STRING;
}

static bool gather(struct imv_text_sink *sink, struct column *column, const struct imv_column *from, size_t rows) {
    size_t row = column->kinds.size;
    if (imv_buffer_reserve(&column->kinds, rows) == NULL || imv_buffer_reserve(&column->cells, 8 * rows) == NULL)
        return false;
    column->kinds.size += rows;
    column->cells.size += 8 * rows;
    if (is_number(from)) {
        put_cells(column, row, from, rows);
        return true;
    }
    if (from->kind != IMV_COLUMN_VALUES && !column->decided) column->has |= has_of((enum imv_column_kind)from->kind, 0);
    for (size_t i = 0; i < rows; i++) {
        struct imv_value value = imv_column_value(from, i);
        put_value(sink, column, row + i, &value);
    }
    return !column->text.failed;
}

/* ---- types ---- */

static void decide(struct column *column, bool time_as_integer) {
    unsigned has = column->has;
    column->decided = true;
    if (has == 0 || (has & HAS_OTHER)) {
        column->type = imv_arrow_simple(IMV_ARROW_TEXT);
        column->fits = ~0u;
    } else if ((has & ~(unsigned)(HAS_INTEGER | HAS_NEGATIVE)) == 0) {
        column->type = imv_arrow_int(64, true);
        column->fits = HAS_INTEGER | HAS_NEGATIVE;
    } else if ((has & ~(unsigned)(HAS_INTEGER | HAS_UINTEGER)) == 0) {
        column->type = imv_arrow_int(64, false);
        column->fits = HAS_INTEGER | HAS_UINTEGER;
    } else if ((has & ~(unsigned)(HAS_INTEGERS | HAS_FLOAT)) == 0) {
        column->type = imv_arrow_float(64);
        column->fits = HAS_INTEGERS | HAS_FLOAT;
    } else if (has == HAS_BOOLEAN) {
        column->type = imv_arrow_simple(IMV_ARROW_BOOL);
        column->fits = has;
    } else if (has == HAS_TIME) {
        column->type = time_as_integer ? imv_arrow_int(64, true) : imv_arrow_simple(IMV_ARROW_TIME);
        column->fits = has;
    } else if (has == HAS_DURATION) {
        column->type = imv_arrow_simple(IMV_ARROW_DURATION);
        column->fits = has;
    } else {
        column->type = imv_arrow_simple(IMV_ARROW_TEXT);
        column->fits = ~0u;
    }
}

static bool write_schema(struct imv_text_sink *sink) {
    struct answer *answer = answer_of(sink);
    struct imv_arrow_column *declared = imv_arena_calloc(&answer->arena, answer->columns_count + 1,
                                                         sizeof *declared); /* + 1: there may be no columns */
    if (declared == NULL) return fail_memory(sink);
    for (size_t i = 0; i < answer->columns_count; i++) {
        struct column *column = &answer->columns[i];
        decide(column, sink->time_as_integer);
        declared[i] = (struct imv_arrow_column){.name = column->name, .type = column->type};
        if (column->type.kind == IMV_ARROW_TIME) declared[i].time_zone = "UTC";
    }
    imv_arrow_put_schema(&sink->buffer, declared, (uint32_t)answer->columns_count, NULL, NULL);
    answer->schema_written = true;
    return true;
}

static bool check_types(struct answer *answer) {
    for (size_t i = 0; i < answer->columns_count; i++) {
        const struct column *column = &answer->columns[i];
        if ((column->has & ~column->fits) == 0) continue;
        answer->failure = (struct imv_query_error){.code = "TypeError", .detail = "MixedColumn"};
        snprintf(answer->failure.message, sizeof answer->failure.message,
                 "column '%.*s' was written as %s, and a later value is of another kind: convert it, or ask for JSON",
                 column->name.size > 128 ? 128 : (int)column->name.size, column->name.data, column->type.name);
        return false;
    }
    return true;
}

/* ---- batches ---- */

static void write_validity(struct imv_arrow_body *body, const struct column *column, size_t rows) {
    size_t nulls = 0;
    for (size_t i = 0; i < rows; i++) nulls += column->kinds.data[i] == IMV_COLUMN_ABSENT;
    imv_arrow_body_node(body, rows, nulls);
    uint8_t *bits = imv_arrow_body_buffer(body, nulls == 0 ? 0 : (rows + 7) / 8);
    if (bits == NULL) return;
    memset(bits, 0, (rows + 7) / 8);
    for (size_t i = 0; i < rows; i++) bits[i / 8] |= (uint8_t)((column->kinds.data[i] != IMV_COLUMN_ABSENT) << i % 8);
}

static void write_cells(struct imv_arrow_body *body, const struct column *column, size_t rows) {
    char *to = imv_arrow_body_buffer(body, 8 * rows);
    if (to != NULL) memcpy(to, column->cells.data, 8 * rows);
}

static void write_floats(struct imv_arrow_body *body, const struct column *column, size_t rows) {
    char *to = imv_arrow_body_buffer(body, 8 * rows);
    for (size_t i = 0; to != NULL && i < rows; i++) {
        uint64_t cell = imv_get_u64(column->cells.data + 8 * i);
        if (column->kinds.data[i] == IMV_COLUMN_INTEGER) cell = imv_float_cell((double)(int64_t)cell);
        if (column->kinds.data[i] == IMV_COLUMN_UINTEGER) cell = imv_float_cell((double)cell);
        imv_put_u64(to + 8 * i, cell);
    }
}

static void write_booleans(struct imv_arrow_body *body, const struct column *column, size_t rows) {
    uint8_t *bits = imv_arrow_body_buffer(body, (rows + 7) / 8);
    if (bits == NULL) return;
    memset(bits, 0, (rows + 7) / 8);
    for (size_t i = 0; i < rows; i++) bits[i / 8] |= (uint8_t)((imv_get_u64(column->cells.data + 8 * i) != 0) << i % 8);
}

/* The text of a row, from the column's or printed into number. */
static struct imv_str row_text(struct imv_text_sink *sink, const struct column *column, size_t row, char *number) {
    enum imv_column_kind kind = (enum imv_column_kind)column->kinds.data[row];
    uint64_t cell = imv_get_u64(column->cells.data + 8 * row);
    bool bare;
    if (kind == IMV_COLUMN_ABSENT) return (struct imv_str){"", 0};
    if (kind == IMV_COLUMN_STRING) return (struct imv_str){column->text.data + (cell >> 32), (uint32_t)cell};
    return (struct imv_str){number, (size_t)(imv_sink_number(sink, number, kind, cell, &bare) - number)};
}

static void write_texts(struct imv_text_sink *sink, struct imv_arrow_body *body, const struct column *column,
                        size_t rows) {
    char number[IMV_SINK_NUMBER_BYTES_MAX];
    uint32_t total = 0;
    char *offsets = imv_arrow_body_buffer(body, 4 * (rows + 1));
    if (offsets == NULL) return;
    for (size_t i = 0; i <= rows; i++) {
        imv_put_u32(offsets + 4 * i, total);
        if (i < rows) total += (uint32_t)row_text(sink, column, i, number).size;
    }
    char *to = imv_arrow_body_buffer(body, total);
    for (size_t i = 0; to != NULL && i < rows; i++) {
        struct imv_str text = row_text(sink, column, i, number);
        if (text.size > 0) memcpy(to, text.data, text.size);
        to += text.size;
    }
}

static void write_column(struct imv_text_sink *sink, struct imv_arrow_body *body, const struct column *column,
                         size_t rows) {
    write_validity(body, column, rows);
    switch (column->type.kind) {
        case IMV_ARROW_TEXT: write_texts(sink, body, column, rows); break;
        case IMV_ARROW_BOOL: write_booleans(body, column, rows); break;
        case IMV_ARROW_FLOAT: write_floats(body, column, rows); break;
        default: write_cells(body, column, rows);
    }
}

/* Writes the rows gathered as a batch, after the schema when it is the first. */
static bool write_batch(struct imv_text_sink *sink) {
    struct answer *answer = answer_of(sink);
    if (!answer->schema_written && !write_schema(sink)) return false;
    if (!check_types(answer)) return false;
    if (answer->rows == 0) return true;
    imv_arrow_body_reset(&answer->body);
    for (size_t i = 0; i < answer->columns_count; i++) {
        struct column *column = &answer->columns[i];
        write_column(sink, &answer->body, column, answer->rows);
        imv_buffer_reset(&column->kinds);
        imv_buffer_reset(&column->cells);
        imv_buffer_reset(&column->text);
        column->has = 0;
    }
    imv_arrow_put_records(&sink->buffer, answer->rows, &answer->body);
    answer->rows = 0;
    return imv_sink_flush(sink, false);
}

/* ---- the format ---- */

static void arrow_begin(struct imv_text_sink *sink, const struct imv_str *columns, size_t count) {
    struct answer *answer = calloc(1, sizeof *answer);
    if (answer == NULL) {
        sink->failed = true;
        return;
    }
    sink->state = answer;
    imv_arena_init(&answer->arena, 4096, NULL);
    imv_arrow_body_init(&answer->body, BODY_BYTES_MAX);
    answer->columns = imv_arena_calloc(&answer->arena, count + 1, sizeof *answer->columns);
    if (answer->columns == NULL) sink->failed = true;
    for (; answer->columns_count < count && !sink->failed; answer->columns_count++) {
        struct column *column = &answer->columns[answer->columns_count];
        column->name = imv_arena_copy(&answer->arena, columns[answer->columns_count]);
        if (column->name.data == NULL) sink->failed = true;
        imv_buffer_init(&column->kinds, BODY_BYTES_MAX);
        imv_buffer_init(&column->cells, BODY_BYTES_MAX);
        imv_buffer_init(&column->text, BODY_BYTES_MAX);
    }
}

static bool arrow_rows(struct imv_text_sink *sink, const struct imv_column *columns, size_t count, size_t rows) {
    struct answer *answer = answer_of(sink);
    size_t bytes = 0;
    imv_assert(count == answer->columns_count);
    for (size_t i = 0; i < count; i++) {
        if (!gather(sink, &answer->columns[i], &columns[i], rows)) return fail_memory(sink);
        bytes += answer->columns[i].cells.size + answer->columns[i].text.size;
    }
    answer->rows += rows;
    return (answer->rows < BATCH_ROWS && bytes < BATCH_BYTES) || write_batch(sink);
}

static bool arrow_end(struct imv_text_sink *sink, const struct imv_query_statistics *statistics) {
    (void)statistics;
    if (!write_batch(sink)) return false;
    imv_arrow_put_end(&sink->buffer);
    return true;
}

static void arrow_error(struct imv_text_sink *sink, const struct imv_query_error *error) { (void)sink, (void)error; }

static const struct imv_query_error *arrow_failure(const struct imv_text_sink *sink) {
    const struct answer *answer = sink->state;
    return answer == NULL || answer->failure.code == NULL ? NULL : &answer->failure;
}

static void arrow_release(struct imv_text_sink *sink) {
    struct answer *answer = answer_of(sink);
    if (answer == NULL) return;
    for (size_t i = 0; i < answer->columns_count; i++) {
        imv_buffer_release(&answer->columns[i].kinds);
        imv_buffer_release(&answer->columns[i].cells);
        imv_buffer_release(&answer->columns[i].text);
    }
    imv_arrow_body_release(&answer->body);
    imv_arena_release(&answer->arena);
    free(answer);
}

const struct imv_text_format imv_format_arrow = {.content_type = "application/vnd.apache.arrow.stream",
                                                 .begin = arrow_begin,
                                                 .rows = arrow_rows,
                                                 .end = arrow_end,
                                                 .error = arrow_error,
                                                 .failure = arrow_failure,
                                                 .release = arrow_release};
