/* Conversions between types. Text that does not read as the wanted type gives null; a value of a type that can never be
 * converted is an error, or null for the ..OrNull twins. */
#include "query/exec.h"
#include "query/fn/families.h"
#include "query/number.h"
#include "storage/base/buffer.h"

#include <math.h>

static bool is_scalar(const struct imv_value *value) {
    return value->kind != IMV_VALUE_LIST && value->kind != IMV_VALUE_MAP && value->kind != IMV_VALUE_TWIN;
}

imv_status imv_fn_to_string(struct imv_call *call, const struct imv_value *arguments, size_t count,
                            struct imv_value *result) {
    (void)count;
    if (arguments->kind == IMV_VALUE_STRING) return *result = *arguments, IMV_OK;
    if (!is_scalar(arguments)) return imv_call_fail_argument(call, "a scalar", arguments);
    struct imv_buffer text;
    imv_buffer_init(&text, 128);
    imv_value_print(&text, arguments);
    struct imv_str copy = imv_arena_copy(call->arena, imv_buffer_view(&text));
    bool failed = text.failed || copy.data == NULL;
    imv_buffer_release(&text);
    *result = imv_value_string(copy);
    return failed ? imv_exec_fail_memory(call->exec) : IMV_OK;
}

imv_status imv_fn_to_string_or_null(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                    struct imv_value *result) {
    *result = imv_value_null();
    return is_scalar(arguments) ? imv_fn_to_string(call, arguments, count, result) : IMV_OK;
}

/* A double's whole part; null when it does not fit. */
static struct imv_value whole_part(double number) {
    if (!(number >= -0x1p63 && number < 0x1p64)) return imv_value_null();
    return number < 0x1p63 ? imv_value_integer((int64_t)number) : imv_value_uinteger((uint64_t)number);
}

static struct imv_str trimmed(struct imv_str text) {
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) text.data++, text.size--;
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) text.size--;
    return text;
}

static struct imv_value integer_of_text(struct imv_str text) {
    int64_t integer;
    double number;
    text = trimmed(text);
    if (imv_integer_parse(text, &integer)) return imv_value_integer(integer);
    return imv_float_parse(text, &number) ? whole_part(number) : imv_value_null();
}

imv_status imv_fn_to_integer(struct imv_call *call, const struct imv_value *arguments, size_t count,
                             struct imv_value *result) {
    (void)count;
    switch ((imv_value_kind)arguments->kind) {
        case IMV_VALUE_INTEGER:
        case IMV_VALUE_UINTEGER: *result = *arguments; return IMV_OK;
        case IMV_VALUE_FLOAT: *result = whole_part(arguments->number); return IMV_OK;
        case IMV_VALUE_BOOLEAN: *result = imv_value_integer(arguments->boolean); return IMV_OK;
        case IMV_VALUE_STRING: *result = integer_of_text(imv_value_str(arguments)); return IMV_OK;
        case IMV_VALUE_TIME:
        case IMV_VALUE_DURATION: *result = imv_value_integer(arguments->integer); return IMV_OK;
        default: return imv_call_fail_argument(call, "a number, a boolean, a time or a string", arguments);
    }
}

imv_status imv_fn_to_integer_or_null(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                     struct imv_value *result) {
    *result = imv_value_null();
    return is_scalar(arguments) ? imv_fn_to_integer(call, arguments, count, result) : IMV_OK;
}

imv_status imv_fn_to_float(struct imv_call *call, const struct imv_value *arguments, size_t count,
                           struct imv_value *result) {
    (void)count;
    double number;
    *result = imv_value_null();
    if (imv_value_is_number(arguments)) {
        *result = imv_value_float(imv_value_to_float(arguments));
    } else if (arguments->kind == IMV_VALUE_STRING) {
        if (imv_float_parse(trimmed(imv_value_str(arguments)), &number)) *result = imv_value_float(number);
    } else {
        return imv_call_fail_argument(call, "a number or a string", arguments);
    }
    return IMV_OK;
}

imv_status imv_fn_to_float_or_null(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                   struct imv_value *result) {
    *result = imv_value_null();
    bool fits = imv_value_is_number(arguments) || arguments->kind == IMV_VALUE_STRING;
    return fits ? imv_fn_to_float(call, arguments, count, result) : IMV_OK;
}

static bool is_word(struct imv_str text, const char *word) {
    return text.size == strlen(word) && strncasecmp(text.data, word, text.size) == 0;
}

imv_status imv_fn_to_boolean(struct imv_call *call, const struct imv_value *arguments, size_t count,
                             struct imv_value *result) {
    (void)count;
    *result = imv_value_null();
    if (arguments->kind == IMV_VALUE_BOOLEAN) {
        *result = *arguments;
    } else if (arguments->kind == IMV_VALUE_INTEGER) {
        *result = imv_value_boolean(arguments->integer != 0);
    } else if (arguments->kind == IMV_VALUE_STRING) {
        struct imv_str text = imv_value_str(arguments);
        if (is_word(text, "true") || is_word(text, "false")) *result = imv_value_boolean(is_word(text, "true"));
    } else {
        return imv_call_fail_argument(call, "a boolean, an integer or a string", arguments);
    }
    return IMV_OK;
}

imv_status imv_fn_to_boolean_or_null(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                     struct imv_value *result) {
    *result = imv_value_null();
    bool fits = arguments->kind == IMV_VALUE_BOOLEAN || arguments->kind == IMV_VALUE_INTEGER ||
                arguments->kind == IMV_VALUE_STRING;
    return fits ? imv_fn_to_boolean(call, arguments, count, result) : IMV_OK;
}
