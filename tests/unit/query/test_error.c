#include "query/error.h"
#include "storage/base/utf8.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct imv_query_error failed_at(const char *text, uint32_t offset, uint32_t size) {
    struct imv_query_error error;
    imv_status status = imv_query_fail(&error, IMV_INVALID, imv_str_from(text), (struct imv_span){offset, size},
                                       "SyntaxError", "UnexpectedSyntax", "no %s", "luck");
    cr_assert_eq(status, IMV_INVALID);
    cr_assert_str_eq(error.code, "SyntaxError");
    cr_assert_str_eq(error.detail, "UnexpectedSyntax");
    cr_assert_str_eq(error.message, "no luck");
    cr_assert_str_empty(error.suggestion);
    return error;
}

Test(error, the_place_counts_code_points) {
    /* Lines end with LF, columns count characters and not bytes, both from 1. */
    static const struct {
        const char *text;
        uint32_t offset;
        int line, column;
    } cases[] = {
        {"", 0, 1, 1},           {"abc", 0, 1, 1},    {"abc", 2, 1, 3},     {"abc", 3, 1, 4},
        {"a\nb", 2, 2, 1},       {"a\nbc", 3, 2, 2},  {"a\r\nb", 3, 2, 1},  {"\n\n\n", 3, 4, 1},
        {"größe = x", 10, 1, 9}, {"温度 x", 7, 1, 4}, {"😀\n😀 x", 10, 2, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int line, column;
        imv_text_place(imv_str_from(cases[i].text), cases[i].offset, &line, &column);
        cr_assert_eq(line, cases[i].line, "%s: line %d", cases[i].text, line);
        cr_assert_eq(column, cases[i].column, "%s: column %d", cases[i].text, column);
    }
}

Test(error, the_snippet_shows_the_line_with_a_caret_below) {
    /* The caret line stands below the span, one caret a character, at least one. */
    static const struct {
        const char *text;
        uint32_t offset, size;
        const char *snippet;
    } cases[] = {
        {"RETURN foo", 7, 3, "RETURN foo\n       ^^^"},
        {"RETURN", 6, 0, "RETURN\n      ^"},
        {"", 0, 0, "\n^"},
        {"MATCH (n)\nRETURN x\nLIMIT 1", 17, 1, "RETURN x\n       ^"},
        {"RETURN\tx", 7, 1, "RETURN x\n       ^"},
        {"a\r\nb x\r\nc", 5, 1, "b x\n  ^"},
        {"RETURN größe", 7, 7, "RETURN größe\n       ^^^^^"},
        {"RETURN 'a\nb'", 7, 5, "RETURN 'a\n       ^^"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct imv_query_error error = failed_at(cases[i].text, cases[i].offset, cases[i].size);
        cr_assert_str_eq(error.snippet, cases[i].snippet, "%s", error.snippet);
    }
}

Test(error, a_long_line_is_cut_around_the_place) {
    /* Of any line, with characters of any width, the place is shown, the caret points at it, the text stays UTF-8. */
    static const char *const letters[] = {"a", "ö", "温", "😀"};
    for (int width = 0; width < 4; width++) {
        char text[1024];
        size_t letter = strlen(letters[width]), count = 200;
        for (size_t i = 0; i < count; i++) memcpy(text + i * letter, letters[width], letter);
        for (size_t i = 0; i < count; i++) {
            char line[1024];
            memcpy(line, text, count * letter);
            line[count * letter] = '\0';
            memset(line + i * letter, '#', letter);
            struct imv_query_error error = failed_at(line, (uint32_t)(i * letter), (uint32_t)letter);
            struct imv_str snippet = imv_str_from(error.snippet);
            cr_assert(imv_utf8_valid(snippet));
            char *caret_line = strchr(error.snippet, '\n');
            cr_assert_not_null(caret_line);
            size_t column = strspn(caret_line + 1, " "), at = 0;
            for (size_t skipped = 0; skipped < column; at++) {
                skipped += ((unsigned char)error.snippet[at + 1] & 0xc0) != 0x80;
            }
            cr_assert_eq(error.snippet[at], '#', "letter %zu of width %zu: %s", i, letter, error.snippet);
        }
    }
}

Test(error, text_that_is_no_utf8_is_not_repeated) {
    /* The snippet goes to clients as JSON: broken bytes leave it empty, however many there are. */
    char text[4096];
    memset(text, 0x80, sizeof text);
    for (uint32_t at = 0; at < sizeof text; at += 61) {
        struct imv_query_error error;
        imv_query_fail(&error, IMV_INVALID, (struct imv_str){text, sizeof text}, (struct imv_span){at, 5},
                       "SyntaxError", "InvalidUnicodeCharacter", "no");
        cr_assert_str_empty(error.snippet);
    }
}

Test(error, a_long_message_is_cut_between_characters) {
    /* However long its parts are, a message stays valid UTF-8. */
    char part[1200];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(part, 'x', shift);
        for (size_t i = 0; i < 250; i++) memcpy(part + shift + i * 4, "😀", 4);
        part[shift + 1000] = '\0';
        struct imv_query_error error;
        imv_query_fail_nowhere(&error, IMV_INVALID, "SyntaxError", "UnexpectedSyntax", "%s", part);
        cr_assert(imv_utf8_valid(imv_str_from(error.message)));
        cr_assert_geq(strlen(error.message), sizeof error.message - 5);
        cr_assert_eq(error.line, 0);
        cr_assert_eq(error.column, 0);
        cr_assert_str_empty(error.snippet);
    }
}

Test(error, nobody_needs_to_ask) {
    /* An error that the caller does not want is not written. */
    struct imv_suggester suggester;
    imv_suggester_init(&suggester, IMV_STR("retrun"));
    imv_suggester_offer(&suggester, IMV_STR("RETURN"));
    cr_assert_eq(imv_query_fail(NULL, IMV_INVALID, IMV_STR("x"), (struct imv_span){0, 1}, "a", "b", "c"), IMV_INVALID);
    cr_assert_eq(imv_query_fail_nowhere(NULL, IMV_TIMEOUT, "a", "b", "c"), IMV_TIMEOUT);
    cr_assert_eq(imv_query_fail_memory(NULL), IMV_NO_MEMORY);
    imv_query_suggest(NULL, &suggester);
}

Test(error, the_nearest_name_is_suggested) {
    /* The candidate with the fewest edits is suggested, the first of equals, and none that is too far. */
    static const char *const known[] = {"hostname", "region", "usage_user", "usage_idle", "RETURN", "WHERE", "h", "ts"};
    static const char *const cases[][2] = {
        {"hostnam", "hostname"},
        {"hostnmae", "hostname"},
        {"Hostname", "hostname"},
        {"regoin", "region"},
        {"usage_usr", "usage_user"},
        {"usage_idel", "usage_idle"},
        {"retrun", "RETURN"},
        {"WERE", "WHERE"},
        {"H", "h"},
        {"st", "ts"},
        {"x", NULL},
        {"", NULL},
        {"temperature", NULL},
        {"weather", NULL},
        {"hostnameandmore", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct imv_suggester suggester;
        imv_suggester_init(&suggester, imv_str_from(cases[i][0]));
        for (size_t j = 0; j < sizeof known / sizeof known[0]; j++) {
            imv_suggester_offer(&suggester, imv_str_from(known[j]));
        }
        struct imv_query_error error = failed_at("x", 0, 1);
        imv_query_suggest(&error, &suggester);
        char wanted[64] = "";
        if (cases[i][1] != NULL) snprintf(wanted, sizeof wanted, "did you mean '%s'?", cases[i][1]);
        cr_assert_str_eq(error.suggestion, wanted, "%s: %s", cases[i][0], error.suggestion);
    }
}

Test(error, long_names_are_neither_compared_nor_suggested) {
    /* A name of any length is safe to look up, as wanted one and as candidate. */
    char name[70000];
    memset(name, 'x', sizeof name);
    for (size_t size = 60; size < sizeof name; size = size * 2 + 1) {
        struct imv_suggester suggester;
        imv_suggester_init(&suggester, (struct imv_str){name, size});
        imv_suggester_offer(&suggester, (struct imv_str){name, size - 1});
        cr_assert_eq(suggester.best.size > 0, size <= 64, "%zu", size);
        imv_suggester_init(&suggester, IMV_STR("short"));
        imv_suggester_offer(&suggester, (struct imv_str){name, size});
        cr_assert_eq(suggester.best.size, 0);
    }
}
