#include "query/operate.h"

#include "query/datetime.h"
#include "query/exec.h"
#include "query/regex.h"
#include "query/twin.h"
#include "storage/base/buffer.h"

#include <math.h>

/* ---- truth ---- */

imv_truth imv_truth_not(imv_truth a) { return a == IMV_UNKNOWN ? IMV_UNKNOWN : a == IMV_FALSE ? IMV_TRUE : IMV_FALSE; }
imv_truth imv_truth_and(imv_truth a, imv_truth b) {
    if (a == IMV_FALSE || b == IMV_FALSE) return IMV_FALSE;
    return a == IMV_UNKNOWN || b == IMV_UNKNOWN ? IMV_UNKNOWN : IMV_TRUE;
}
imv_truth imv_truth_or(imv_truth a, imv_truth b) {
    if (a == IMV_TRUE || b == IMV_TRUE) return IMV_TRUE;
    return a == IMV_UNKNOWN || b == IMV_UNKNOWN ? IMV_UNKNOWN : IMV_FALSE;
}
imv_truth imv_truth_xor(imv_truth a, imv_truth b) {
    if (a == IMV_UNKNOWN || b == IMV_UNKNOWN) return IMV_UNKNOWN;
    return a != b ? IMV_TRUE : IMV_FALSE;
}

imv_status imv_operate_truth(struct imv_call *call, const struct imv_value *value, imv_truth *truth) {
    if (value->kind == IMV_VALUE_BOOLEAN) return *truth = value->boolean ? IMV_TRUE : IMV_FALSE, IMV_OK;
    if (value->kind == IMV_VALUE_NULL) return *truth = IMV_UNKNOWN, IMV_OK;
    return imv_call_fail(call, "TypeError", "InvalidArgumentType", "a boolean is needed here, this is a %s",
                         imv_value_kind_name(value->kind));
}

/* ---- errors ---- */

static imv_status fail_overflow(struct imv_call *call, enum imv_binary_op op) {
    return imv_call_fail(call, "ArithmeticError", "IntegerOverflow", "the result of %s does not fit 64 bits",
                         imv_binary_op_text(op));
}

static imv_status fail_types(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                             const struct imv_value *b) {
    return imv_call_fail(call, "TypeError", "InvalidArgumentType", "%s does not work on %s and %s",
                         imv_binary_op_text(op), imv_value_kind_name(a->kind), imv_value_kind_name(b->kind));
}

/* ---- arithmetic ---- */

static imv_int128 wide(const struct imv_value *value) {
    return value->kind == IMV_VALUE_UINTEGER ? (imv_int128)value->uinteger : (imv_int128)value->integer;
}

/* An exact result: signed, or unsigned when an operand was. */
static imv_status narrow(struct imv_call *call, enum imv_binary_op op, imv_int128 exact, bool unsigned_operand,
                         struct imv_value *result) {
    if (exact >= INT64_MIN && exact <= INT64_MAX)
        *result = imv_value_integer((int64_t)exact);
    else if (unsigned_operand && exact > 0 && exact <= UINT64_MAX)
        *result = imv_value_uinteger((uint64_t)exact);
    else
        return fail_overflow(call, op);
    return IMV_OK;
}

static imv_status integer_arithmetic(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                                     const struct imv_value *b, struct imv_value *result) {
    bool unsigned_operand = a->kind == IMV_VALUE_UINTEGER || b->kind == IMV_VALUE_UINTEGER;
    imv_int128 x = wide(a), y = wide(b), exact = 0;
    if ((op == IMV_BINARY_DIVIDE || op == IMV_BINARY_MODULO) && y == 0)
        return imv_call_fail(call, "ArithmeticError", "DivisionByZero", "division by zero");
    switch (op) {
        case IMV_BINARY_ADD: exact = x + y; break;
        case IMV_BINARY_SUBTRACT: exact = x - y; break;
        case IMV_BINARY_MULTIPLY:
            if (__builtin_mul_overflow(x, y, &exact)) return fail_overflow(call, op);
            break;
        case IMV_BINARY_DIVIDE: exact = x / y; break;
        default: exact = x % y; break;
    }
    return narrow(call, op, exact, unsigned_operand, result);
}

static double float_arithmetic(enum imv_binary_op op, double x, double y) {
    switch (op) {
        case IMV_BINARY_ADD: return x + y;
        case IMV_BINARY_SUBTRACT: return x - y;
        case IMV_BINARY_MULTIPLY: return x * y;
        case IMV_BINARY_DIVIDE: return x / y;
        case IMV_BINARY_MODULO: return fmod(x, y);
        default: return pow(x, y);
    }
}

static bool is_temporal(const struct imv_value *value) {
    return value->kind == IMV_VALUE_TIME || value->kind == IMV_VALUE_DURATION;
}

/* A duration times or over a number: exact for integers, rounded to the nanosecond for floats. */
static imv_status scale_duration(struct imv_call *call, enum imv_binary_op op, int64_t ns,
                                 const struct imv_value *number, struct imv_value *result) {
    if (number->kind != IMV_VALUE_FLOAT) {
        struct imv_value plain = imv_value_integer(ns);
        imv_status status = integer_arithmetic(call, op, &plain, number, result);
        if (status != IMV_OK) return status;
        if (result->kind == IMV_VALUE_UINTEGER) return fail_overflow(call, op);
        *result = imv_value_duration(result->integer);
        return IMV_OK;
    }
    double scaled = nearbyint(float_arithmetic(op, (double)ns, number->number));
    if (!(scaled >= -0x1p63 && scaled < 0x1p63)) return fail_overflow(call, op);
    *result = imv_value_duration((int64_t)scaled);
    return IMV_OK;
}

static imv_status temporal_sum(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                               const struct imv_value *b, struct imv_value *result) {
    bool subtract = op == IMV_BINARY_SUBTRACT;
    int64_t ns;
    bool overflow = subtract ? __builtin_sub_overflow(a->integer, b->integer, &ns)
                             : __builtin_add_overflow(a->integer, b->integer, &ns);
    bool a_time = a->kind == IMV_VALUE_TIME, b_time = b->kind == IMV_VALUE_TIME;
    if (b_time && (a_time != subtract)) return fail_types(call, op, a, b);
    if (overflow) return fail_overflow(call, op);
    *result = a_time != b_time ? imv_value_time(ns) : imv_value_duration(ns);
    return IMV_OK;
}

static imv_status temporal_arithmetic(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                                      const struct imv_value *b, struct imv_value *result) {
    bool a_duration = a->kind == IMV_VALUE_DURATION, b_duration = b->kind == IMV_VALUE_DURATION;
    if (is_temporal(a) && is_temporal(b)) {
        if (op == IMV_BINARY_ADD || op == IMV_BINARY_SUBTRACT) return temporal_sum(call, op, a, b, result);
        if (op == IMV_BINARY_DIVIDE && a_duration && b_duration) {
            *result = imv_value_float((double)a->integer / (double)b->integer);
            return IMV_OK;
        }
    }
    if (a_duration && imv_value_is_number(b) && (op == IMV_BINARY_MULTIPLY || op == IMV_BINARY_DIVIDE))
        return scale_duration(call, op, a->integer, b, result);
    if (b_duration && imv_value_is_number(a) && op == IMV_BINARY_MULTIPLY)
        return scale_duration(call, op, b->integer, a, result);
    return fail_types(call, op, a, b);
}

static imv_status arithmetic(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                             const struct imv_value *b, struct imv_value *result) {
    if (is_temporal(a) || is_temporal(b)) return temporal_arithmetic(call, op, a, b, result);
    if (!imv_value_is_number(a) || !imv_value_is_number(b)) return fail_types(call, op, a, b);
    if (a->kind != IMV_VALUE_FLOAT && b->kind != IMV_VALUE_FLOAT && op != IMV_BINARY_POWER)
        return integer_arithmetic(call, op, a, b, result);
    *result = imv_value_float(float_arithmetic(op, imv_value_to_float(a), imv_value_to_float(b)));
    return IMV_OK;
}

/* ---- strings and lists ---- */

static imv_status concatenate_text(struct imv_call *call, struct imv_str a, struct imv_str b,
                                   struct imv_value *result) {
    if (a.size + b.size > UINT32_MAX) return imv_exec_fail_memory(call->exec);
    char *text = imv_arena_alloc(call->arena, a.size + b.size + 1);
    if (text == NULL) return imv_exec_fail_memory(call->exec);
    if (a.size > 0) memcpy(text, a.data, a.size);
    if (b.size > 0) memcpy(text + a.size, b.data, b.size);
    *result = imv_value_string((struct imv_str){text, a.size + b.size});
    return IMV_OK;
}

/* 'a' + 1 is 'a1'. */
static imv_status add_to_text(struct imv_call *call, const struct imv_value *a, const struct imv_value *b,
                              struct imv_value *result) {
    struct imv_buffer text[2];
    imv_buffer_init(&text[0], UINT32_MAX);
    imv_buffer_init(&text[1], UINT32_MAX);
    imv_status status = IMV_OK;
    if (!imv_value_print(&text[0], a) || !imv_value_print(&text[1], b)) status = imv_exec_fail_memory(call->exec);
    if (status == IMV_OK) status = concatenate_text(call, imv_buffer_view(&text[0]), imv_buffer_view(&text[1]), result);
    imv_buffer_release(&text[0]);
    imv_buffer_release(&text[1]);
    return status;
}

static imv_status concatenate_lists(struct imv_call *call, const struct imv_value *a, size_t a_count,
                                    const struct imv_value *b, size_t b_count, struct imv_value *result) {
    struct imv_value *items = imv_arena_alloc(call->arena, (a_count + b_count + 1) * sizeof *items);
    if (items == NULL) return imv_exec_fail_memory(call->exec);
    if (a_count > 0) memcpy(items, a, a_count * sizeof *items);
    if (b_count > 0) memcpy(items + a_count, b, b_count * sizeof *items);
    return imv_call_list(call, items, a_count + b_count, result);
}

static imv_status add(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                      const struct imv_value *b, struct imv_value *result) {
    bool a_list = a->kind == IMV_VALUE_LIST, b_list = b->kind == IMV_VALUE_LIST;
    bool a_text = a->kind == IMV_VALUE_STRING, b_text = b->kind == IMV_VALUE_STRING;
    if (a_list && b_list) return concatenate_lists(call, a->items, a->size, b->items, b->size, result);
    if (a_text && b_text) return concatenate_text(call, imv_value_str(a), imv_value_str(b), result);
    if (op == IMV_BINARY_CONCATENATE) return fail_types(call, op, a, b);
    if (a_list) return concatenate_lists(call, a->items, a->size, b, 1, result);
    if (b_list) return concatenate_lists(call, a, 1, b->items, b->size, result);
    if ((a_text && (imv_value_is_number(b) || is_temporal(b))) ||
        (b_text && (imv_value_is_number(a) || is_temporal(a))))
        return add_to_text(call, a, b, result);
    return arithmetic(call, op, a, b, result);
}

static bool starts_with(struct imv_str text, struct imv_str part) {
    return part.size <= text.size && (part.size == 0 || memcmp(text.data, part.data, part.size) == 0);
}

static bool ends_with(struct imv_str text, struct imv_str part) {
    if (part.size > text.size) return false;
    return part.size == 0 || memcmp(text.data + text.size - part.size, part.data, part.size) == 0;
}

static bool contains(struct imv_str text, struct imv_str part) {
    return part.size == 0 || (text.size > 0 && memmem(text.data, text.size, part.data, part.size) != NULL);
}

static imv_status matches(struct imv_call *call, struct imv_str text, struct imv_str pattern,
                          struct imv_value *result) {
    struct imv_regex *regex = NULL;
    bool found = false;
    imv_status status = imv_regex_new(call, pattern, &regex);
    if (status == IMV_OK) status = imv_regex_match(call, regex, text, &found);
    imv_regex_free(regex);
    *result = imv_value_boolean(found);
    return status;
}

/* Operands that are no strings give null. */
static imv_status text_predicate(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                                 const struct imv_value *b, struct imv_value *result) {
    *result = imv_value_null();
    if (a->kind != IMV_VALUE_STRING || b->kind != IMV_VALUE_STRING) return IMV_OK;
    struct imv_str text = imv_value_str(a), part = imv_value_str(b);
    switch (op) {
        case IMV_BINARY_STARTS_WITH: *result = imv_value_boolean(starts_with(text, part)); break;
        case IMV_BINARY_ENDS_WITH: *result = imv_value_boolean(ends_with(text, part)); break;
        case IMV_BINARY_CONTAINS: *result = imv_value_boolean(contains(text, part)); break;
        default: return matches(call, text, part, result);
    }
    return IMV_OK;
}

static imv_status is_in(struct imv_call *call, const struct imv_value *a, const struct imv_value *list,
                        struct imv_value *result) {
    *result = imv_value_null();
    if (list->kind == IMV_VALUE_NULL) return IMV_OK;
    if (list->kind != IMV_VALUE_LIST)
        return imv_call_fail(call, "TypeError", "InvalidArgumentType", "IN needs a list on its right, not a %s",
                             imv_value_kind_name(list->kind));
    imv_truth truth = IMV_FALSE;
    for (uint32_t i = 0; i < list->size && truth != IMV_TRUE; i++) {
        IMV_TRY(imv_exec_step(call->exec));
        truth = imv_truth_or(truth, imv_value_equal(a, &list->items[i]));
    }
    *result = imv_value_truth(truth);
    return IMV_OK;
}

/* ---- comparison ---- */

static struct imv_value compare(enum imv_binary_op op, const struct imv_value *a, const struct imv_value *b) {
    if (op == IMV_BINARY_EQUAL) return imv_value_truth(imv_value_equal(a, b));
    if (op == IMV_BINARY_NOT_EQUAL) return imv_value_truth(imv_truth_not(imv_value_equal(a, b)));
    imv_comparison comparison = imv_value_compare(a, b);
    if (comparison == IMV_COMPARED_UNKNOWN) return imv_value_null();
    bool less = comparison == IMV_COMPARED_LESS, greater = comparison == IMV_COMPARED_GREATER;
    bool equal = comparison == IMV_COMPARED_EQUAL;
    switch (op) {
        case IMV_BINARY_LESS: return imv_value_boolean(less);
        case IMV_BINARY_LESS_EQUAL: return imv_value_boolean(less || equal);
        case IMV_BINARY_GREATER: return imv_value_boolean(greater);
        default: return imv_value_boolean(greater || equal);
    }
}

imv_status imv_operate_binary(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                              const struct imv_value *b, struct imv_value *result) {
    if (op >= IMV_BINARY_EQUAL && op <= IMV_BINARY_GREATER_EQUAL) return *result = compare(op, a, b), IMV_OK;
    if (op == IMV_BINARY_IN) return is_in(call, a, b, result);
    if (a->kind == IMV_VALUE_NULL || b->kind == IMV_VALUE_NULL) return *result = imv_value_null(), IMV_OK;
    switch (op) {
        case IMV_BINARY_STARTS_WITH:
        case IMV_BINARY_ENDS_WITH:
        case IMV_BINARY_CONTAINS:
        case IMV_BINARY_MATCHES: return text_predicate(call, op, a, b, result);
        case IMV_BINARY_ADD:
        case IMV_BINARY_CONCATENATE: return add(call, op, a, b, result);
        default: return arithmetic(call, op, a, b, result);
    }
}

static imv_status negate(struct imv_call *call, const struct imv_value *a, struct imv_value *result) {
    struct imv_value zero = a->kind == IMV_VALUE_DURATION ? imv_value_duration(0) : imv_value_integer(0);
    if (a->kind == IMV_VALUE_FLOAT) return *result = imv_value_float(-a->number), IMV_OK;
    return imv_operate_binary(call, IMV_BINARY_SUBTRACT, &zero, a, result);
}

imv_status imv_operate_unary(struct imv_call *call, enum imv_unary_op op, const struct imv_value *a,
                             struct imv_value *result) {
    imv_truth truth;
    bool is_null = a->kind == IMV_VALUE_NULL;
    *result = imv_value_boolean(is_null == (op == IMV_UNARY_IS_NULL));
    if (op == IMV_UNARY_IS_NULL || op == IMV_UNARY_IS_NOT_NULL) return IMV_OK;
    *result = imv_value_null();
    if (is_null) return IMV_OK;
    if (op == IMV_UNARY_NOT) {
        imv_status status = imv_operate_truth(call, a, &truth);
        if (status == IMV_OK) *result = imv_value_truth(imv_truth_not(truth));
        return status;
    }
    if (op == IMV_UNARY_MINUS) return negate(call, a, result);
    *result = *a;
    if (imv_value_is_number(a) || a->kind == IMV_VALUE_DURATION) return IMV_OK;
    return imv_call_fail(call, "TypeError", "InvalidArgumentType", "+ needs a number, not a %s",
                         imv_value_kind_name(a->kind));
}

/* ---- parts of values ---- */

static imv_status index_list(struct imv_call *call, const struct imv_value *list, const struct imv_value *at,
                             struct imv_value *result) {
    if (at->kind != IMV_VALUE_INTEGER)
        return imv_call_fail(call, "TypeError", "InvalidArgumentType", "a list is indexed by an integer, not a %s",
                             imv_value_kind_name(at->kind));
    int64_t i = at->integer < 0 ? at->integer + list->size : at->integer;
    *result = i >= 0 && i < list->size ? list->items[i] : imv_value_null();
    return IMV_OK;
}

imv_status imv_operate_index(struct imv_call *call, const struct imv_value *base, const struct imv_value *at,
                             struct imv_value *result) {
    *result = imv_value_null();
    if (base->kind == IMV_VALUE_NULL || at->kind == IMV_VALUE_NULL) return IMV_OK;
    if (base->kind == IMV_VALUE_LIST) return index_list(call, base, at, result);
    if (base->kind != IMV_VALUE_MAP && base->kind != IMV_VALUE_TWIN)
        return imv_call_fail(call, "TypeError", "InvalidArgumentType", "a %s cannot be indexed",
                             imv_value_kind_name(base->kind));
    if (at->kind != IMV_VALUE_STRING)
        return imv_call_fail(call, "TypeError", "MapElementAccessByNonString", "a %s is indexed by a string, not a %s",
                             imv_value_kind_name(base->kind), imv_value_kind_name(at->kind));
    return imv_operate_property(call, base, imv_value_str(at), result);
}

/* One bound of a slice, counted from the end when negative, cut to the list. False: no integer. */
static bool slice_bound(const struct imv_value *bound, int64_t otherwise, int64_t size, int64_t *position) {
    *position = otherwise;
    if (bound == NULL) return true;
    if (bound->kind != IMV_VALUE_INTEGER) return false;
    int64_t i = bound->integer < 0 ? bound->integer + size : bound->integer;
    *position = i < 0 ? 0 : i > size ? size : i;
    return true;
}

imv_status imv_operate_slice(struct imv_call *call, const struct imv_value *base, const struct imv_value *from,
                             const struct imv_value *to, struct imv_value *result) {
    *result = imv_value_null();
    if (base->kind == IMV_VALUE_NULL) return IMV_OK;
    if ((from != NULL && from->kind == IMV_VALUE_NULL) || (to != NULL && to->kind == IMV_VALUE_NULL)) return IMV_OK;
    if (base->kind != IMV_VALUE_LIST)
        return imv_call_fail(call, "TypeError", "InvalidArgumentType", "only a list can be sliced, not a %s",
                             imv_value_kind_name(base->kind));
    int64_t first, end;
    if (!slice_bound(from, 0, base->size, &first) || !slice_bound(to, base->size, base->size, &end))
        return imv_call_fail(call, "TypeError", "InvalidArgumentType", "the bounds of a slice are integers");
    size_t count = end > first ? (size_t)(end - first) : 0;
    return imv_call_list(call, base->items + (count > 0 ? first : 0), count, result);
}

static bool name_is(struct imv_str name, const char *wanted) { return imv_str_equal(name, imv_str_from(wanted)); }

static struct imv_value time_part(int64_t ns, struct imv_str name) {
    struct imv_civil civil;
    imv_time_to_civil(ns, &civil);
    int64_t days = imv_days_from_civil(civil.year, civil.month, civil.day);
    int64_t seconds = days * 86400 + civil.hour * 3600 + civil.minute * 60 + civil.second;
    const struct {
        const char *name;
        int64_t value;
    } parts[] = {
        {"year", civil.year},
        {"quarter", (civil.month + 2) / 3},
        {"month", civil.month},
        {"day", civil.day},
        {"dayOfWeek", imv_weekday(days)},
        {"ordinalDay", days - imv_days_from_civil(civil.year, 1, 1) + 1},
        {"hour", civil.hour},
        {"minute", civil.minute},
        {"second", civil.second},
        {"millisecond", civil.nanosecond / 1000000},
        {"microsecond", civil.nanosecond / 1000},
        {"nanosecond", civil.nanosecond},
        {"epochSeconds", seconds},
        {"epochMillis", seconds * 1000 + civil.nanosecond / 1000000},
        {"epochNanos", ns},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (name_is(name, parts[i].name)) return imv_value_integer(parts[i].value);
    return imv_value_null();
}

static struct imv_value duration_part(int64_t ns, struct imv_str name) {
    static const struct {
        const char *name;
        int64_t ns;
    } parts[] = {
        {"days", INT64_C(86400000000000)},
        {"hours", INT64_C(3600000000000)},
        {"minutes", INT64_C(60000000000)},
        {"seconds", 1000000000},
        {"milliseconds", 1000000},
        {"microseconds", 1000},
        {"nanoseconds", 1},
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (name_is(name, parts[i].name)) return imv_value_integer(ns / parts[i].ns);
    return imv_value_null();
}

imv_status imv_operate_property(struct imv_call *call, const struct imv_value *base, struct imv_str name,
                                struct imv_value *result) {
    const struct imv_value *found;
    *result = imv_value_null();
    switch ((imv_value_kind)base->kind) {
        case IMV_VALUE_NULL: return IMV_OK;
        case IMV_VALUE_MAP:
            found = imv_value_map_get(base, name);
            if (found != NULL) *result = *found;
            return IMV_OK;
        case IMV_VALUE_TWIN: return imv_twin_property(call->exec, call->arena, base->twin, name, result);
        case IMV_VALUE_TIME: *result = time_part(base->integer, name); return IMV_OK;
        case IMV_VALUE_DURATION: *result = duration_part(base->integer, name); return IMV_OK;
        default:
            return imv_call_fail(call, "TypeError", "InvalidArgumentType", "a %s has no properties",
                                 imv_value_kind_name(base->kind));
    }
}
