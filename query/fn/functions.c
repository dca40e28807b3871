#include "query/fn/functions.h"

#include "query/exec.h"
#include "query/fn/aggregate.h"
#include "query/fn/families.h"

#include <stdarg.h>
#include <stdio.h>

#define ROW(text, min, max, nulls, result_type, argument_type, c_name)                                      \
    .name = {text, sizeof text - 1}, .arguments_min = min, .arguments_max = max, .null_in_null_out = nulls, \
    .result = IMV_STATIC_##result_type, .argument = IMV_STATIC_##argument_type, .scalar = imv_fn_##c_name
#define SCALAR(...)        {ROW(__VA_ARGS__)},
#define VOLATILE(...)      {ROW(__VA_ARGS__), .volatile_ = true},
#define SAMPLE_SCALAR(...) {ROW(__VA_ARGS__), .sample_aggregate = true},
#define AGGREGATE(text, min, max, result_type, c_name) \
    {.name = {text, sizeof text - 1},                  \
     .arguments_min = min,                             \
     .arguments_max = max,                             \
     .aggregate = true,                                \
     .result = IMV_STATIC_##result_type,               \
     .state = &imv_aggregate_##c_name},

static const struct imv_function functions[] = {
#include "query/fn/functions.def"
};
enum { FUNCTIONS_COUNT = sizeof functions / sizeof *functions };

/* The next byte of a name that counts, in lower case; 0 at the end. */
static char next_letter(struct imv_str name, size_t *i) {
    while (*i < name.size && name.data[*i] == '_') (*i)++;
    if (*i == name.size) return 0;
    char letter = name.data[(*i)++];
    return letter >= 'A' && letter <= 'Z' ? (char)(letter | 0x20) : letter;
}

static bool same_name(struct imv_str a, struct imv_str b) {
    size_t i = 0, j = 0;
    char letter;
    do {
        letter = next_letter(a, &i);
        if (letter != next_letter(b, &j)) return false;
    } while (letter != 0);
    return true;
}

const struct imv_function *imv_function_find(struct imv_str name) {
    for (size_t i = 0; i < FUNCTIONS_COUNT; i++)
        if (same_name(functions[i].name, name)) return &functions[i];
    return NULL;
}

const struct imv_function *imv_function_find_aggregate(struct imv_str name) {
    for (size_t i = 0; i < FUNCTIONS_COUNT; i++)
        if (functions[i].aggregate && same_name(functions[i].name, name)) return &functions[i];
    return imv_function_find(name);
}

const struct imv_function *imv_function_at(size_t i) { return i < FUNCTIONS_COUNT ? &functions[i] : NULL; }

imv_status imv_call_fail(struct imv_call *call, const char *code, const char *detail, const char *format, ...) {
    char message[512];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return imv_exec_fail(call->exec, IMV_INVALID, call->span, code, detail, "%s", message);
}

imv_status imv_call_fail_argument(struct imv_call *call, const char *needs, const struct imv_value *got) {
    return imv_call_fail(call, "TypeError", "InvalidArgumentValue", "%s needs %s, this is a %s", call->name, needs,
                         imv_value_kind_name(got->kind));
}

imv_status imv_call_list(struct imv_call *call, const struct imv_value *items, size_t count, struct imv_value *list) {
    if (imv_value_list(items, count, list)) return IMV_OK;
    return imv_call_fail(call, "ArgumentError", "NestingTooDeep", "lists and maps nest at most %d deep",
                         IMV_VALUE_DEPTH_MAX);
}
