/* Functions of lists, and those that take lists and strings alike. */
#include "query/exec.h"
#include "query/fn/families.h"
#include "query/fn/text.h"

/* ---- sizes and ends ---- */

imv_status imv_fn_size(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)count;
    switch ((imv_value_kind)arguments->kind) {
        case IMV_VALUE_STRING: *result = imv_value_integer((int64_t)imv_text_length(imv_value_str(arguments))); break;
        case IMV_VALUE_LIST:
        case IMV_VALUE_MAP: *result = imv_value_integer(arguments->size); break;
        default: return imv_call_fail_argument(call, "a list, a map or a string", arguments);
    }
    return IMV_OK;
}

imv_status imv_fn_is_empty(struct imv_call *call, const struct imv_value *arguments, size_t count,
                           struct imv_value *result) {
    IMV_TRY(imv_fn_size(call, arguments, count, result));
    *result = imv_value_boolean(result->integer == 0);
    return IMV_OK;
}

imv_status imv_fn_head(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)count;
    if (arguments->kind != IMV_VALUE_LIST) return imv_call_fail_argument(call, "a list", arguments);
    *result = arguments->size > 0 ? arguments->items[0] : imv_value_null();
    return IMV_OK;
}

imv_status imv_fn_tail(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)count;
    if (arguments->kind != IMV_VALUE_LIST) return imv_call_fail_argument(call, "a list", arguments);
    uint32_t skipped = arguments->size > 0;
    return imv_call_list(call, arguments->items + skipped, arguments->size - skipped, result);
}

/* last(list) is the last element; last(twin.field) says aloud that reading a series property gives its current
 * value. */
imv_status imv_fn_last(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)call, (void)count;
    *result = *arguments;
    if (arguments->kind != IMV_VALUE_LIST) return IMV_OK;
    *result = arguments->size > 0 ? arguments->items[arguments->size - 1] : imv_value_null();
    return IMV_OK;
}

/* ---- making lists ---- */

imv_status imv_fn_reverse(struct imv_call *call, const struct imv_value *arguments, size_t count,
                          struct imv_value *result) {
    (void)count;
    if (arguments->kind == IMV_VALUE_STRING)
        return imv_text_reverse(call->arena, imv_value_str(arguments), result) ? IMV_OK
                                                                               : imv_exec_fail_memory(call->exec);
    if (arguments->kind != IMV_VALUE_LIST) return imv_call_fail_argument(call, "a list or a string", arguments);
    struct imv_value *items = imv_arena_alloc(call->arena, (arguments->size + 1) * sizeof *items);
    if (items == NULL) return imv_exec_fail_memory(call->exec);
    for (uint32_t i = 0; i < arguments->size; i++) items[i] = arguments->items[arguments->size - 1 - i];
    return imv_call_list(call, items, arguments->size, result);
}

/* Elements from start to end, both included, in steps. */
static uint64_t range_size(int64_t start, int64_t end, int64_t step) {
    if (step > 0 ? start > end : start < end) return 0;
    uint64_t distance = step > 0 ? (uint64_t)end - (uint64_t)start : (uint64_t)start - (uint64_t)end;
    return distance / (step > 0 ? (uint64_t)step : -(uint64_t)step) + 1;
}

imv_status imv_fn_range(struct imv_call *call, const struct imv_value *arguments, size_t count,
                        struct imv_value *result) {
    for (size_t i = 0; i < count; i++)
        if (arguments[i].kind != IMV_VALUE_INTEGER)
            return imv_call_fail(call, "ArgumentError", "InvalidArgumentType", "range needs integers, not a %s",
                                 imv_value_kind_name(arguments[i].kind));
    int64_t start = arguments[0].integer, end = arguments[1].integer, step = count > 2 ? arguments[2].integer : 1;
    if (step == 0) return imv_call_fail(call, "ArgumentError", "NumberOutOfRange", "the step of a range is not 0");
    uint64_t size = range_size(start, end, step);
    struct imv_value *items = size > UINT32_MAX ? NULL : imv_arena_alloc(call->arena, (size + 1) * sizeof *items);
    if (items == NULL) return imv_exec_fail_memory(call->exec);
    for (uint64_t i = 0; i < size; i++) items[i] = imv_value_integer((int64_t)((uint64_t)start + i * (uint64_t)step));
    return imv_call_list(call, items, size, result);
}

imv_status imv_fn_coalesce(struct imv_call *call, const struct imv_value *arguments, size_t count,
                           struct imv_value *result) {
    (void)call;
    *result = imv_value_null();
    for (size_t i = 0; i < count && result->kind == IMV_VALUE_NULL; i++) *result = arguments[i];
    return IMV_OK;
}
