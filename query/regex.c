#define PCRE2_CODE_UNIT_WIDTH 8

#include "query/regex.h"

#include "query/exec.h"

#include <pcre2.h>
#include <stdlib.h>

/* 1,000,000 steps are about 20 ms; the heap is for backtracking, in KiB. A pattern of 4 KiB says all that one can
 * mean. */
enum { MATCH_STEPS_MAX = 1000 * 1000, MATCH_HEAP_KIB = 1024, PATTERN_BYTES_MAX = 4096 };

struct imv_regex {
    struct imv_regex *next; /* of the statement */
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};

imv_status imv_regex_new(struct imv_call *call, struct imv_str pattern, struct imv_regex **out) {
    if (pattern.size > PATTERN_BYTES_MAX)
        return imv_call_fail(call, "ArgumentError", "InvalidRegex", "a pattern has at most %d bytes",
                             PATTERN_BYTES_MAX);
    int error;
    PCRE2_SIZE offset;
    uint32_t options = PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern.data, pattern.size, options, &error, &offset, NULL);
    if (code == NULL) {
        PCRE2_UCHAR reason[128] = "";
        pcre2_get_error_message(error, reason, sizeof reason);
        return imv_call_fail(call, "ArgumentError", "InvalidRegex", "bad pattern at its byte %zu: %s", (size_t)offset,
                             (const char *)reason);
    }
    struct imv_regex *regex = calloc(1, sizeof *regex);
    if (regex != NULL) {
        regex->code = code;
        regex->match = pcre2_match_data_create(1, NULL);
        regex->limits = pcre2_match_context_create(NULL);
    }
    if (regex == NULL || regex->match == NULL || regex->limits == NULL) {
        if (regex != NULL) imv_regex_free(regex);
        if (regex == NULL) pcre2_code_free(code);
        return imv_exec_fail_memory(call->exec);
    }
    pcre2_set_match_limit(regex->limits, MATCH_STEPS_MAX);
    pcre2_set_heap_limit(regex->limits, MATCH_HEAP_KIB);
    *out = regex;
    return IMV_OK;
}

void imv_regex_free(struct imv_regex *regex) {
    if (regex == NULL) return;
    pcre2_match_context_free(regex->limits);
    pcre2_match_data_free(regex->match);
    pcre2_code_free(regex->code);
    free(regex);
}

imv_status imv_regex_match(struct imv_call *call, const struct imv_regex *regex, struct imv_str text, bool *matches) {
    const char *data = text.data == NULL ? "" : text.data;
    int result = pcre2_match(regex->code, (PCRE2_SPTR)data, text.size, 0, 0, regex->match, regex->limits);
    *matches = result >= 0;
    if (result >= 0 || result == PCRE2_ERROR_NOMATCH) return IMV_OK;
    /* Text that is no UTF-8 matches nothing. */
    if (result <= PCRE2_ERROR_UTF8_ERR1 && result >= PCRE2_ERROR_UTF8_ERR21) return IMV_OK;
    return imv_call_fail(call, "ArgumentError", "InvalidRegex", "matching this pattern takes too many steps");
}

void imv_regex_keep(struct imv_exec *exec, struct imv_regex *regex) {
    regex->next = exec->regexes;
    exec->regexes = regex;
}

void imv_regexes_free(struct imv_exec *exec) {
    while (exec->regexes != NULL) {
        struct imv_regex *next = exec->regexes->next;
        imv_regex_free(exec->regexes);
        exec->regexes = next;
    }
}
