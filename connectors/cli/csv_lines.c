#include "connectors/cli/csv_lines.h"

#include "connectors/cli/time_text.h"
#include "storage/base/decimal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <strings.h>

enum role { ROLE_FIELD, ROLE_TIME, ROLE_TAG };

struct column {
    enum role role;
    struct imv_str escaped; /* name as line protocol writes it */
    struct imv_str name;
    bool any, integer, uinteger, number, boolean; /* what every value so far could be */
    imv_type type;
};

struct imv_csv_plan {
    struct imv_arena arena;
    const struct imv_csv_options *options;
    struct imv_str key; /* label and constant tags, escaped */
    size_t count, time_index;
    enum imv_time_form form;
    unsigned forms; /* that all times so far fit */
    uint64_t records;
    struct column columns[];
};

/* ---- text of line protocol ---- */

/* Backslashes before what would end a name. Line protocol cannot write a name that ends in a backslash: the server
 * refuses such a line. */
static void append_escaped(struct imv_buffer *out, struct imv_str text, const char *special) {
    for (size_t i = 0; i < text.size; i++) {
        if (strchr(special, text.data[i]) != NULL && text.data[i] != 0) imv_buffer_append_char(out, '\\');
        imv_buffer_append_char(out, text.data[i]);
    }
}

static void append_string(struct imv_buffer *out, struct imv_str text) {
    imv_buffer_append_char(out, '"');
    append_escaped(out, text, "\"\\");
    imv_buffer_append_char(out, '"');
}

static const char name_special[] = ", =", label_special[] = ", ";

/* In a name or a tag a line feed would end the line, and what follows would be another one. */
static bool has_line_feed(struct imv_str text) { return text.size > 0 && memchr(text.data, '\n', text.size) != NULL; }

/* ---- the types of columns ---- */

static bool is_missing(struct imv_str cell) {
    static const char *const words[] = {"nan", "na", "n/a", "null", "none", "-"};
    if (cell.size == 0) return true;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (cell.size == strlen(words[i]) && strncasecmp(cell.data, words[i], cell.size) == 0) return true;
    }
    return false;
}

static bool is_boolean(struct imv_str cell) {
    return (cell.size == 4 && strncasecmp(cell.data, "true", 4) == 0) ||
           (cell.size == 5 && strncasecmp(cell.data, "false", 5) == 0);
}

static struct imv_str without_plus(struct imv_str cell) {
    return cell.size > 1 && cell.data[0] == '+' ? (struct imv_str){cell.data + 1, cell.size - 1} : cell;
}

/* 007 is a name, not a number. */
static bool has_leading_zero(struct imv_str cell) {
    const char *at = cell.data;
    size_t size = cell.size;
    if (size > 0 && *at == '-') at++, size--;
    return size > 1 && at[0] == '0' && at[1] >= '0' && at[1] <= '9';
}

static void look_at(struct column *column, struct imv_str cell) {
    if (is_missing(cell)) return;
    int64_t integer;
    uint64_t uinteger;
    double number;
    struct imv_str text = without_plus(cell);
    column->any = true;
    bool zero = has_leading_zero(text);
    column->integer = column->integer && !zero && imv_decimal_int64(text, &integer);
    column->uinteger = column->uinteger && !zero && imv_decimal_uint64(text, &uinteger);
    column->number = column->number && !zero && imv_decimal_float(text, &number) && isfinite(number);
    column->boolean = column->boolean && is_boolean(cell);
}

static imv_type type_of(const struct column *column) {
    if (column->integer) return IMV_INTEGER;
    if (column->uinteger) return IMV_UINTEGER;
    if (column->number) return IMV_FLOAT;
    return column->boolean ? IMV_BOOLEAN : IMV_STRING;
}

/* ---- the plan ---- */

static bool is_named(struct imv_str name, const char *wanted) {
    return name.size == strlen(wanted) && memcmp(name.data, wanted, name.size) == 0;
}

static ptrdiff_t find_column(const struct imv_csv_plan *plan, const char *name) {
    for (size_t i = 0; i < plan->count; i++) {
        if (is_named(plan->columns[i].name, name)) return (ptrdiff_t)i;
    }
    return -1;
}

static imv_status read_header(struct imv_csv_plan *plan, const struct imv_csv_reader *reader, struct imv_error *err) {
    struct imv_buffer escaped;
    imv_buffer_init(&escaped, 1 << 20);
    for (size_t i = 0; i < plan->count; i++) {
        imv_buffer_reset(&escaped);
        append_escaped(&escaped, reader->cells[i], name_special);
        plan->columns[i] = (struct column){
            .name = imv_arena_copy(&plan->arena, reader->cells[i]),
            .escaped = imv_arena_copy(&plan->arena, imv_buffer_view(&escaped)),
            .integer = true,
            .uinteger = true,
            .number = true,
            .boolean = true,
        };
        if (reader->cells[i].size == 0 || has_line_feed(reader->cells[i])) {
            imv_buffer_release(&escaped);
            return imv_fail(err, IMV_INVALID, "column %zu of the header has %s", i + 1,
                            reader->cells[i].size == 0 ? "no name" : "a line feed in its name");
        }
    }
    imv_buffer_release(&escaped);
    return IMV_OK;
}

static imv_status place_tags(struct imv_csv_plan *plan, struct imv_error *err) {
    struct imv_buffer key;
    imv_buffer_init(&key, 1 << 20);
    append_escaped(&key, imv_str_from(plan->options->label), label_special);
    imv_status status = IMV_OK;
    for (size_t i = 0; i < plan->options->tags_count && status == IMV_OK; i++) {
        const char *tag = plan->options->tags[i], *equals = strchr(tag, '=');
        ptrdiff_t index = equals == NULL ? find_column(plan, tag) : -1;
        if (equals == NULL && index < 0) {
            status = imv_fail(err, IMV_INVALID, "--tag %s: there is no such column (NAME=VALUE gives a constant)", tag);
        } else if (equals == NULL) {
            plan->columns[index].role = ROLE_TAG;
        } else {
            imv_buffer_append_char(&key, ',');
            append_escaped(&key, (struct imv_str){tag, (size_t)(equals - tag)}, name_special);
            imv_buffer_append_char(&key, '=');
            append_escaped(&key, imv_str_from(equals + 1), name_special);
        }
    }
    plan->key = imv_arena_copy(&plan->arena, imv_buffer_view(&key));
    imv_buffer_release(&key);
    return status;
}

static ptrdiff_t guess_time_column(const struct imv_csv_plan *plan) {
    static const char *const names[] = {"time", "timestamp", "datetime", "date_time", "date", "ts", "_time"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        for (size_t i = 0; i < plan->count; i++) {
            struct imv_str name = plan->columns[i].name;
            if (name.size == strlen(names[n]) && strncasecmp(name.data, names[n], name.size) == 0) return (ptrdiff_t)i;
        }
    }
    return -1;
}

/* By name, or else the first column whose cell in the first record is a civil time. */
static imv_status place_time(struct imv_csv_plan *plan, const struct imv_csv_reader *first, struct imv_error *err) {
    const char *wanted = plan->options->time;
    ptrdiff_t index = wanted != NULL ? find_column(plan, wanted) : guess_time_column(plan);
    if (index < 0 && wanted != NULL) return imv_fail(err, IMV_INVALID, "--time %s: there is no such column", wanted);
    for (size_t i = 0; i < first->count && i < plan->count && index < 0; i++) {
        if (imv_time_text_forms(first->cells[i], IMV_TIME_ISO | IMV_TIME_DMY | IMV_TIME_MDY) != 0) index = (ptrdiff_t)i;
    }
    if (index < 0) return imv_fail(err, IMV_INVALID, "no column looks like a time; name it with --time COLUMN");
    plan->time_index = (size_t)index;
    plan->columns[index].role = ROLE_TIME;
    return IMV_OK;
}

static imv_status look_at_record(struct imv_csv_plan *plan, const struct imv_csv_reader *reader,
                                 struct imv_error *err) {
    if (reader->count != plan->count)
        return imv_fail(err, IMV_INVALID, "record %" PRIu64 " has %zu cells, the header has %zu", reader->record,
                        reader->count, plan->count);
    struct imv_str time = reader->cells[plan->time_index];
    unsigned forms = imv_time_text_forms(time, plan->forms);
    if (forms == 0)
        return imv_fail(err, IMV_INVALID, "record %" PRIu64 ": '%.*s' is not a time%s", reader->record,
                        (int)(time.size < 60 ? time.size : 60), time.data,
                        plan->records == 0 ? "" : " of the form that the records before have");
    plan->forms = forms;
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->columns[i].role == ROLE_FIELD) look_at(&plan->columns[i], reader->cells[i]);
        if (plan->columns[i].role == ROLE_TAG && has_line_feed(reader->cells[i]))
            return imv_fail(err, IMV_INVALID, "record %" PRIu64 ": a line feed in the tag %.*s", reader->record,
                            (int)plan->columns[i].name.size, plan->columns[i].name.data);
    }
    plan->records++;
    return IMV_OK;
}

static imv_status choose_form(struct imv_csv_plan *plan, struct imv_error *err) {
    const char *order = plan->options->date_order;
    unsigned day_or_month = IMV_TIME_DMY | IMV_TIME_MDY;
    if (order != NULL && (plan->forms & day_or_month))
        plan->forms &= strcmp(order, "dmy") == 0 ? (unsigned)IMV_TIME_DMY : (unsigned)IMV_TIME_MDY;
    if ((plan->forms & day_or_month) == day_or_month)
        return imv_fail(err, IMV_INVALID, "the dates could be day/month or month/day: say which with --date-order");
    plan->form = (enum imv_time_form)(plan->forms & -plan->forms);
    if (plan->forms == 0) return imv_fail(err, IMV_INVALID, "--date-order %s does not fit the dates", order);
    return IMV_OK;
}

static imv_status read_records(struct imv_csv_plan *plan, struct imv_csv_reader *reader, struct imv_error *err) {
    bool end, first = true;
    for (;;) {
        IMV_TRY(imv_csv_next(reader, &end, err));
        if (end) break;
        if (first) IMV_TRY(place_time(plan, reader, err));
        first = false;
        IMV_TRY(look_at_record(plan, reader, err));
    }
    if (first) return imv_fail(err, IMV_INVALID, "there is no record after the header");
    for (size_t i = 0; i < plan->count; i++) plan->columns[i].type = type_of(&plan->columns[i]);
    return choose_form(plan, err);
}

imv_status imv_csv_plan_new(struct imv_str text, char delimiter, const struct imv_csv_options *options,
                            struct imv_csv_plan **out, struct imv_error *err) {
    struct imv_csv_plan *plan = NULL;
    struct imv_csv_reader *reader = malloc(sizeof *reader);
    if (reader == NULL) return imv_fail(err, IMV_NO_MEMORY, "no memory to read CSV");
    imv_csv_init(reader, text, delimiter);
    bool end;
    imv_status status = imv_csv_next(reader, &end, err);
    if (status == IMV_OK && end) status = imv_fail(err, IMV_INVALID, "the file is empty");
    if (status != IMV_OK) goto out;
    plan = calloc(1, sizeof *plan + reader->count * sizeof *plan->columns);
    if (plan == NULL) {
        status = imv_fail(err, IMV_NO_MEMORY, "no memory for %zu columns", reader->count);
        goto out;
    }
    plan->count = reader->count;
    plan->options = options;
    plan->forms = IMV_TIME_ANY;
    imv_arena_init(&plan->arena, 4096, NULL);
    status = read_header(plan, reader, err);
    if (status == IMV_OK) status = place_tags(plan, err);
    if (status == IMV_OK) status = read_records(plan, reader, err);
out:
    imv_csv_release(reader);
    free(reader);
    if (status == IMV_OK)
        *out = plan;
    else
        imv_csv_plan_free(plan);
    return status;
}

void imv_csv_plan_free(struct imv_csv_plan *plan) {
    if (plan == NULL) return;
    imv_arena_release(&plan->arena);
    free(plan);
}

uint64_t imv_csv_plan_records(const struct imv_csv_plan *plan) { return plan->records; }

/* ---- lines ---- */

static void append_value(struct imv_buffer *out, imv_type type, struct imv_str cell) {
    switch (type) {
        case IMV_INTEGER:
            imv_buffer_append_str(out, without_plus(cell));
            imv_buffer_append_char(out, 'i');
            break;
        case IMV_UINTEGER:
            imv_buffer_append_str(out, without_plus(cell));
            imv_buffer_append_char(out, 'u');
            break;
        case IMV_FLOAT: imv_buffer_append_str(out, without_plus(cell)); break;
        case IMV_BOOLEAN: imv_buffer_append_char(out, cell.size == 4 ? 't' : 'f'); break;
        case IMV_STRING: append_string(out, cell); break;
    }
}

imv_status imv_csv_line(const struct imv_csv_plan *plan, const struct imv_csv_reader *reader, struct imv_buffer *out,
                        bool *empty, struct imv_error *err) {
    size_t before = out->size, fields = 0;
    int64_t ns = 0;
    imv_buffer_append_str(out, plan->key);
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->columns[i].role != ROLE_TAG || reader->cells[i].size == 0) continue;
        imv_buffer_append_char(out, ',');
        imv_buffer_append_str(out, plan->columns[i].escaped);
        imv_buffer_append_char(out, '=');
        append_escaped(out, reader->cells[i], name_special);
    }
    for (size_t i = 0; i < plan->count; i++) {
        const struct column *column = &plan->columns[i];
        struct imv_str cell = reader->cells[i];
        bool missing = column->type == IMV_STRING ? cell.size == 0 : is_missing(cell);
        if (column->role != ROLE_FIELD || !column->any || missing) continue;
        imv_buffer_append_char(out, fields++ == 0 ? ' ' : ',');
        imv_buffer_append_str(out, column->escaped);
        imv_buffer_append_char(out, '=');
        append_value(out, column->type, cell);
    }
    *empty = fields == 0;
    if (*empty)
        out->size = before;
    else if (!imv_time_text_parse(reader->cells[plan->time_index], plan->form, plan->options->local, &ns))
        return imv_fail(err, IMV_INVALID, "record %" PRIu64 ": this time does not exist", reader->record);
    else
        imv_buffer_append_format(out, " %" PRId64 "\n", ns);
    if (out->failed) return imv_fail(err, IMV_FULL, "record %" PRIu64 " is too large", reader->record);
    return IMV_OK;
}
