/* Functions of twins: their labels, properties, numbers and newest sample. */
#include "query/twin.h"

#include "engine/catalog.h"
#include "query/fn/families.h"
#include "query/number.h"

static imv_status twin_argument(struct imv_call *call, const struct imv_value *argument) {
    return argument->kind == IMV_VALUE_TWIN ? IMV_OK : imv_call_fail_argument(call, "a node", argument);
}

imv_status imv_fn_labels(struct imv_call *call, const struct imv_value *arguments, size_t count,
                         struct imv_value *result) {
    (void)count;
    IMV_TRY(twin_argument(call, arguments));
    struct imv_value *label = imv_arena_alloc(call->arena, sizeof *label);
    if (label == NULL) return imv_exec_fail_memory(call->exec);
    *label = imv_value_string(arguments->twin->label->name);
    return imv_call_list(call, label, 1, result);
}

imv_status imv_fn_properties(struct imv_call *call, const struct imv_value *arguments, size_t count,
                             struct imv_value *result) {
    (void)count;
    if (arguments->kind == IMV_VALUE_MAP) return *result = *arguments, IMV_OK;
    if (arguments->kind != IMV_VALUE_TWIN) return imv_call_fail_argument(call, "a node or a map", arguments);
    return imv_twin_properties(call->exec, call->arena, arguments->twin, result);
}

imv_status imv_fn_keys(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    struct imv_value map;
    IMV_TRY(imv_fn_properties(call, arguments, count, &map));
    struct imv_value *keys = imv_arena_alloc(call->arena, (map.size + 1) * sizeof *keys);
    if (keys == NULL) return imv_exec_fail_memory(call->exec);
    for (uint32_t i = 0; i < map.size; i++) keys[i] = imv_value_string(map.entries[i].key);
    return imv_call_list(call, keys, map.size, result);
}

imv_status imv_fn_id(struct imv_call *call, const struct imv_value *arguments, size_t count, struct imv_value *result) {
    (void)count;
    IMV_TRY(twin_argument(call, arguments));
    *result = imv_value_uinteger(imv_series_id(arguments->twin));
    return IMV_OK;
}

imv_status imv_fn_element_id(struct imv_call *call, const struct imv_value *arguments, size_t count,
                             struct imv_value *result) {
    (void)count;
    IMV_TRY(twin_argument(call, arguments));
    char *text = imv_arena_alloc(call->arena, IMV_INTEGER_BYTES_MAX);
    if (text == NULL) return imv_exec_fail_memory(call->exec);
    *result = imv_value_string((struct imv_str){text, imv_uinteger_print(text, imv_series_id(arguments->twin))});
    return IMV_OK;
}

imv_status imv_fn_last_time(struct imv_call *call, const struct imv_value *arguments, size_t count,
                            struct imv_value *result) {
    (void)count;
    IMV_TRY(twin_argument(call, arguments));
    return imv_twin_last_time(call->exec, arguments->twin, result);
}
