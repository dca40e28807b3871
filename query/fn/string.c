/* Functions of strings. Positions and lengths count code points; bytes that are no UTF-8 count one each and pass
 * through unchanged. */
#include "query/exec.h"
#include "query/fn/families.h"
#include "query/fn/text.h"
#include "storage/base/buffer.h"

#include <utf8proc.h>

/* ---- code points ---- */

/* Bytes of the code point at the start of text, which is not empty. */
static size_t point_size(struct imv_str text) {
    utf8proc_int32_t point;
    utf8proc_ssize_t size = utf8proc_iterate((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.size, &point);
    return size > 0 ? (size_t)size : 1;
}

static struct imv_str after(struct imv_str text, size_t bytes) {
    return (struct imv_str){text.data + bytes, text.size - bytes};
}

size_t imv_text_length(struct imv_str text) {
    size_t points = 0;
    while (text.size > 0) {
        text = after(text, point_size(text));
        points++;
    }
    return points;
}

/* Bytes of the first `points` code points, or of all when there are fewer. */
static size_t prefix_size(struct imv_str text, uint64_t points) {
    struct imv_str rest = text;
    for (; points > 0 && rest.size > 0; points--) rest = after(rest, point_size(rest));
    return text.size - rest.size;
}

bool imv_text_reverse(struct imv_arena *arena, struct imv_str text, struct imv_value *result) {
    char *to = imv_arena_alloc(arena, text.size + 1);
    if (to == NULL) return false;
    size_t end = text.size;
    *result = imv_value_string((struct imv_str){to, text.size});
    while (text.size > 0) {
        size_t size = point_size(text);
        end -= size;
        memcpy(to + end, text.data, size);
        text = after(text, size);
    }
    return true;
}

/* ---- arguments ---- */

static imv_status text_argument(struct imv_call *call, const struct imv_value *argument, struct imv_str *text) {
    if (argument->kind != IMV_VALUE_STRING) return imv_call_fail_argument(call, "a string", argument);
    *text = imv_value_str(argument);
    return IMV_OK;
}

/* A position or length: an integer of 0 or more. */
static imv_status count_argument(struct imv_call *call, const struct imv_value *argument, uint64_t *number) {
    if (argument->kind != IMV_VALUE_INTEGER) return imv_call_fail_argument(call, "an integer", argument);
    if (argument->integer < 0)
        return imv_call_fail(call, "ArgumentError", "NumberOutOfRange", "%s needs an integer of 0 or more", call->name);
    *number = (uint64_t)argument->integer;
    return IMV_OK;
}

/* ---- case ---- */

static imv_status map_points(struct imv_call *call, const struct imv_value *argument,
                             utf8proc_int32_t (*map)(utf8proc_int32_t), struct imv_value *result) {
    struct imv_str text = {0};
    IMV_TRY(text_argument(call, argument, &text));
    char *to = imv_arena_alloc(call->arena, text.size * 2 + 4); /* a mapped code point takes at most one byte more */
    if (to == NULL) return imv_exec_fail_memory(call->exec);
    size_t size = 0;
    while (text.size > 0) {
        utf8proc_int32_t point;
        utf8proc_ssize_t read =
            utf8proc_iterate((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.size, &point);
        if (read > 0)
            size += (size_t)utf8proc_encode_char(map(point), (utf8proc_uint8_t *)to + size);
        else
            to[size++] = text.data[0];
        text = after(text, read > 0 ? (size_t)read : 1);
    }
    *result = imv_value_string((struct imv_str){to, size});
    return IMV_OK;
}

imv_status imv_fn_to_upper(struct imv_call *call, const struct imv_value *arguments, size_t count,
                           struct imv_value *result) {
    (void)count;
    return map_points(call, arguments, utf8proc_toupper, result);
}

imv_status imv_fn_to_lower(struct imv_call *call, const struct imv_value *arguments, size_t count,
                           struct imv_value *result) {
    (void)count;
    return map_points(call, arguments, utf8proc_tolower, result);
}

/* ---- trimming ---- */

static bool is_blank(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static imv_status trim_ends(struct imv_call *call, const struct imv_value *argument, bool left, bool right,
                            struct imv_value *result) {
    struct imv_str text = {0};
    IMV_TRY(text_argument(call, argument, &text));
    while (left && text.size > 0 && is_blank(text.data[0])) text = after(text, 1);
    while (right && text.size > 0 && is_blank(text.data[text.size - 1])) text.size--;
    *result = imv_value_string(text);
    return IMV_OK;
}

imv_status imv_fn_trim(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)count;
    return trim_ends(call, arguments, true, true, result);
}

imv_status imv_fn_ltrim(struct imv_call *call, const struct imv_value *arguments, size_t count,
                        struct imv_value *result) {
    (void)count;
    return trim_ends(call, arguments, true, false, result);
}

imv_status imv_fn_rtrim(struct imv_call *call, const struct imv_value *arguments, size_t count,
                        struct imv_value *result) {
    (void)count;
    return trim_ends(call, arguments, false, true, result);
}

/* ---- parts ---- */

imv_status imv_fn_substring(struct imv_call *call, const struct imv_value *arguments, size_t count,
                            struct imv_value *result) {
    struct imv_str text = {0};
    uint64_t start = 0, length = UINT64_MAX;
    IMV_TRY(text_argument(call, &arguments[0], &text));
    IMV_TRY(count_argument(call, &arguments[1], &start));
    if (count > 2) IMV_TRY(count_argument(call, &arguments[2], &length));
    text = after(text, prefix_size(text, start));
    text.size = prefix_size(text, length);
    *result = imv_value_string(text);
    return IMV_OK;
}

imv_status imv_fn_left(struct imv_call *call, const struct imv_value *arguments, size_t count,
                       struct imv_value *result) {
    (void)count;
    struct imv_str text = {0};
    uint64_t length = 0;
    IMV_TRY(text_argument(call, &arguments[0], &text));
    IMV_TRY(count_argument(call, &arguments[1], &length));
    text.size = prefix_size(text, length);
    *result = imv_value_string(text);
    return IMV_OK;
}

imv_status imv_fn_right(struct imv_call *call, const struct imv_value *arguments, size_t count,
                        struct imv_value *result) {
    (void)count;
    struct imv_str text = {0};
    uint64_t length = 0;
    IMV_TRY(text_argument(call, &arguments[0], &text));
    IMV_TRY(count_argument(call, &arguments[1], &length));
    size_t points = imv_text_length(text);
    if (length < points) text = after(text, prefix_size(text, points - length));
    *result = imv_value_string(text);
    return IMV_OK;
}

imv_status imv_fn_char_length(struct imv_call *call, const struct imv_value *arguments, size_t count,
                              struct imv_value *result) {
    (void)count;
    struct imv_str text = {0};
    IMV_TRY(text_argument(call, arguments, &text));
    *result = imv_value_integer((int64_t)imv_text_length(text));
    return IMV_OK;
}

/* ---- search and replace ---- */

/* Where part, which is not empty, begins in text; NULL when it does not. */
static const char *find(struct imv_str text, struct imv_str part) {
    return text.size < part.size ? NULL : memmem(text.data, text.size, part.data, part.size);
}

static size_t occurrences(struct imv_str text, struct imv_str part) {
    size_t count = 0;
    for (const char *at; (at = find(text, part)) != NULL; count++)
        text = after(text, (size_t)(at - text.data) + part.size);
    return count;
}

/* An empty separator takes the text apart into its code points. */
static imv_status split_points(struct imv_call *call, struct imv_str text, struct imv_value *result) {
    struct imv_value *items = imv_arena_alloc(call->arena, (text.size + 1) * sizeof *items);
    size_t count = 0;
    if (items == NULL) return imv_exec_fail_memory(call->exec);
    for (; text.size > 0; count++) {
        size_t size = point_size(text);
        items[count] = imv_value_string((struct imv_str){text.data, size});
        text = after(text, size);
    }
    return imv_call_list(call, items, count, result);
}

imv_status imv_fn_split(struct imv_call *call, const struct imv_value *arguments, size_t count,
                        struct imv_value *result) {
    (void)count;
    struct imv_str text = {0}, separator = {0};
    IMV_TRY(text_argument(call, &arguments[0], &text));
    IMV_TRY(text_argument(call, &arguments[1], &separator));
    if (separator.size == 0) return split_points(call, text, result);
    size_t parts = occurrences(text, separator) + 1;
    struct imv_value *items = imv_arena_alloc(call->arena, parts * sizeof *items);
    if (items == NULL) return imv_exec_fail_memory(call->exec);
    for (size_t i = 0; i + 1 < parts; i++) {
        size_t size = (size_t)(find(text, separator) - text.data);
        items[i] = imv_value_string((struct imv_str){text.data, size});
        text = after(text, size + separator.size);
    }
    items[parts - 1] = imv_value_string(text);
    return imv_call_list(call, items, parts, result);
}

imv_status imv_fn_replace(struct imv_call *call, const struct imv_value *arguments, size_t count,
                          struct imv_value *result) {
    (void)count;
    struct imv_str text = {0}, search = {0}, replacement = {0};
    IMV_TRY(text_argument(call, &arguments[0], &text));
    IMV_TRY(text_argument(call, &arguments[1], &search));
    IMV_TRY(text_argument(call, &arguments[2], &replacement));
    size_t times = search.size == 0 ? 0 : occurrences(text, search);
    *result = arguments[0];
    if (times == 0) return IMV_OK;
    size_t kept = text.size - times * search.size, added;
    if (__builtin_mul_overflow(times, replacement.size, &added) || added > UINT32_MAX - kept)
        return imv_exec_fail_memory(call->exec);
    char *to = imv_arena_alloc(call->arena, kept + added + 1);
    if (to == NULL) return imv_exec_fail_memory(call->exec);
    *result = imv_value_string((struct imv_str){to, kept + added});
    for (; times > 0; times--) {
        size_t size = (size_t)(find(text, search) - text.data);
        memcpy(to, text.data, size);
        if (replacement.size > 0) memcpy(to + size, replacement.data, replacement.size);
        to += size + replacement.size;
        text = after(text, size + search.size);
    }
    if (text.size > 0) memcpy(to, text.data, text.size);
    return IMV_OK;
}
