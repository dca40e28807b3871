#include "query/lex.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

/* The kinds of all tokens of a text, as numbers joined by blanks, for comparison with what is expected. */
static void kinds_of(const char *text, char *out, size_t room) {
    struct imv_str str = imv_str_from(text);
    uint32_t at = 0;
    size_t used = 0;
    out[0] = '\0';
    for (;;) {
        struct imv_token token = imv_lex(str, at);
        cr_assert_geq(token.span.offset, at);
        if (token.kind == IMV_TOKEN_END || used + 8 > room) return;
        used += (size_t)snprintf(out + used, room - used, "%s%d", used == 0 ? "" : " ", token.kind);
        if (token.kind == IMV_TOKEN_BAD) return;
        at = token.span.offset + token.span.size;
    }
}

static struct imv_token only(const char *text) {
    struct imv_token token = imv_lex(imv_str_from(text), 0);
    if (token.kind != IMV_TOKEN_BAD) {
        cr_assert_eq(imv_lex(imv_str_from(text), token.span.offset + token.span.size).kind, IMV_TOKEN_END, "%s", text);
    }
    return token;
}

Test(lex, each_token_has_its_kind) {
    /* Every kind is found, whole, in a text of its own. */
    static const struct {
        const char *text;
        enum imv_token_kind kind;
    } cases[] = {
        {"name", IMV_TOKEN_NAME},
        {"_x1", IMV_TOKEN_NAME},
        {"größe", IMV_TOKEN_NAME},
        {"温度", IMV_TOKEN_NAME},
        {"`a b`", IMV_TOKEN_QUOTED},
        {"`a``b`", IMV_TOKEN_QUOTED},
        {"``", IMV_TOKEN_QUOTED},
        {"'it'", IMV_TOKEN_STRING},
        {"\"it\"", IMV_TOKEN_STRING},
        {"'a\\'b'", IMV_TOKEN_STRING},
        {"'a\nb'", IMV_TOKEN_STRING},
        {"0", IMV_TOKEN_INTEGER},
        {"12", IMV_TOKEN_INTEGER},
        {"0x1F", IMV_TOKEN_INTEGER},
        {"0o17", IMV_TOKEN_INTEGER},
        {"1.5", IMV_TOKEN_FLOAT},
        {".5", IMV_TOKEN_FLOAT},
        {"1e9", IMV_TOKEN_FLOAT},
        {"1E-9", IMV_TOKEN_FLOAT},
        {".1e+5", IMV_TOKEN_FLOAT},
        {"00.5", IMV_TOKEN_FLOAT},
        {"250ms", IMV_TOKEN_DURATION},
        {"30s", IMV_TOKEN_DURATION},
        {"5m", IMV_TOKEN_DURATION},
        {"8h", IMV_TOKEN_DURATION},
        {"7d", IMV_TOKEN_DURATION},
        {"2w", IMV_TOKEN_DURATION},
        {"9ns", IMV_TOKEN_DURATION},
        {"9us", IMV_TOKEN_DURATION},
        {"$x", IMV_TOKEN_PARAMETER},
        {"$1", IMV_TOKEN_PARAMETER},
        {"$`a b`", IMV_TOKEN_PARAMETER},
        {"(", IMV_TOKEN_LPAREN},
        {")", IMV_TOKEN_RPAREN},
        {"[", IMV_TOKEN_LBRACKET},
        {"]", IMV_TOKEN_RBRACKET},
        {"{", IMV_TOKEN_LBRACE},
        {"}", IMV_TOKEN_RBRACE},
        {",", IMV_TOKEN_COMMA},
        {";", IMV_TOKEN_SEMICOLON},
        {":", IMV_TOKEN_COLON},
        {".", IMV_TOKEN_DOT},
        {"..", IMV_TOKEN_DOTDOT},
        {"=", IMV_TOKEN_EQUAL},
        {"<>", IMV_TOKEN_NOT_EQUAL},
        {"<", IMV_TOKEN_LESS},
        {"<=", IMV_TOKEN_LESS_EQUAL},
        {">", IMV_TOKEN_GREATER},
        {">=", IMV_TOKEN_GREATER_EQUAL},
        {"=~", IMV_TOKEN_MATCHES},
        {"+", IMV_TOKEN_PLUS},
        {"-", IMV_TOKEN_MINUS},
        {"*", IMV_TOKEN_STAR},
        {"/", IMV_TOKEN_SLASH},
        {"%", IMV_TOKEN_PERCENT},
        {"^", IMV_TOKEN_CARET},
        {"|", IMV_TOKEN_BAR},
        {"||", IMV_TOKEN_BARBAR},
        {"&", IMV_TOKEN_AMPERSAND},
        {"!", IMV_TOKEN_BANG},
        {"", IMV_TOKEN_END},
        {" \t\r\n", IMV_TOKEN_END},
        {"// only a comment", IMV_TOKEN_END},
        {"/* a /* b */", IMV_TOKEN_END},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct imv_token token = only(cases[i].text);
        cr_assert_eq(token.kind, cases[i].kind, "%s: %d", cases[i].text, token.kind);
        if (token.kind != IMV_TOKEN_END) cr_assert_eq(token.span.size, strlen(cases[i].text), "%s", cases[i].text);
    }
}

Test(lex, malformed_tokens_say_why) {
    /* A token that cannot be is BAD, at its place, with the detail that the TCK gives it. */
    static const struct {
        const char *text, *detail;
        uint32_t offset, size;
    } cases[] = {
        {" 9223372h54775808", "InvalidNumberLiteral", 1, 16},
        {"0x", "InvalidNumberLiteral", 0, 2},
        {"0x1A2b3j4D5E6f7", "InvalidNumberLiteral", 0, 15},
        {"0o8", "InvalidNumberLiteral", 0, 3},
        {"012", "InvalidNumberLiteral", 0, 3},
        {"5mo", "InvalidNumberLiteral", 0, 3},
        {"5M", "InvalidNumberLiteral", 0, 2},
        {"1.5h", "InvalidNumberLiteral", 0, 4},
        {"1e", "InvalidNumberLiteral", 0, 2},
        {"1_000", "InvalidNumberLiteral", 0, 5},
        {"5mé", "InvalidNumberLiteral", 0, 4},
        {"'open", "UnexpectedSyntax", 0, 1},
        {"'open\\'", "UnexpectedSyntax", 0, 1},
        {"`open", "UnexpectedSyntax", 0, 1},
        {"/* open *", "UnexpectedSyntax", 0, 2},
        {"$", "UnexpectedSyntax", 0, 1},
        {"$`x", "UnexpectedSyntax", 1, 1},
        {"#", "UnexpectedSyntax", 0, 1},
        {"\x01", "UnexpectedSyntax", 0, 1},
        {"—", "InvalidUnicodeCharacter", 0, 3},
        {"\xff", "InvalidUnicodeCharacter", 0, 1},
        {"\xe2\x82", "InvalidUnicodeCharacter", 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct imv_token token = imv_lex(imv_str_from(cases[i].text), 0);
        cr_assert_eq(token.kind, IMV_TOKEN_BAD, "%s: %d", cases[i].text, token.kind);
        cr_assert_str_eq(token.detail, cases[i].detail, "%s", cases[i].text);
        cr_assert_not_null(token.message);
        cr_assert_eq(token.span.offset, cases[i].offset, "%s", cases[i].text);
        cr_assert_eq(token.span.size, cases[i].size, "%s: %u", cases[i].text, token.span.size);
    }
}

Test(lex, tokens_separate_without_blanks) {
    /* Where one token ends and the next begins does not depend on blanks, except between words. */
    char close[256], apart[256];
    static const char *const pairs[][2] = {
        {"1..3", "1 .. 3"},
        {"a[1..]", "a [ 1 .. ]"},
        {"*..3", "* .. 3"},
        {"1.x", "1 . x"},
        {"x.y", "x . y"},
        {"(a)<-[:T*1..2]-(b)", "( a ) < - [ : T * 1 .. 2 ] - ( b )"},
        {"a<=b<>c>=d", "a <= b <> c >= d"},
        {"a=~'x'", "a =~ 'x'"},
        {"1-2//c\n+3/*c*/-4", "1 - 2 + 3 - 4"},
        {"{a:1,`b`:$x}", "{ a : 1 , `b` : $x }"},
        {"\xc2\xa0"
         "a\xe3\x80\x80"
         "b\xef\xbb\xbf",
         "a b"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        kinds_of(pairs[i][0], close, sizeof close);
        kinds_of(pairs[i][1], apart, sizeof apart);
        cr_assert_str_eq(close, apart, "%s", pairs[i][0]);
        cr_assert_gt(strlen(close), 0);
    }
}

Test(lex, keywords_ignore_case) {
    /* A keyword is a plain name in any case; a quoted name never is one. */
    struct imv_str text = IMV_STR("mAtCh `MATCH` MATCHES MATC");
    struct imv_token token = imv_lex(text, 0);
    cr_assert(imv_token_is(text, token, "MATCH"));
    cr_assert_not(imv_token_is(text, token, "MATCHES"));
    cr_assert_not(imv_token_is(text, imv_lex(text, 5), "MATCH"));
    cr_assert_not(imv_token_is(text, imv_lex(text, 13), "MATCH"));
    cr_assert_not(imv_token_is(text, imv_lex(text, 21), "MATCH"));
}

Test(lex, integers_are_exact_to_the_last) {
    /* Every 64-bit integer is read, in three bases, and nothing beyond. */
    static const struct {
        const char *text;
        bool negative;
        int64_t value;
        const char *detail;
    } cases[] = {
        {"0", false, 0, NULL},
        {"0", true, 0, NULL},
        {"9223372036854775807", false, INT64_MAX, NULL},
        {"9223372036854775808", false, 0, "IntegerOverflow"},
        {"9223372036854775808", true, INT64_MIN, NULL},
        {"9223372036854775809", true, 0, "IntegerOverflow"},
        {"99999999999999999999999", false, 0, "IntegerOverflow"},
        {"0x7FFFFFFFFFFFFFFF", false, INT64_MAX, NULL},
        {"0X8000000000000000", true, INT64_MIN, NULL},
        {"0x8000000000000000", false, 0, "IntegerOverflow"},
        {"0o777", false, 511, NULL},
        {"0o1000000000000000000000", true, INT64_MIN, NULL},
        {"0o1000000000000000000001", true, 0, "IntegerOverflow"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t value = 42;
        const char *detail = imv_lex_integer(imv_str_from(cases[i].text), cases[i].negative, &value);
        if (cases[i].detail == NULL) {
            cr_assert_null(detail, "%s", cases[i].text);
            cr_assert_eq(value, cases[i].value, "%s", cases[i].text);
        } else {
            cr_assert_str_eq(detail, cases[i].detail, "%s", cases[i].text);
            cr_assert_eq(value, 42);
        }
    }
}

Test(lex, floats_round_to_nearest_and_overflow_is_told) {
    /* A float literal is the nearest double, however long; too large a one is an error, too small a one zero. */
    char digits[1200] = "0.";
    double value;
    cr_assert_null(imv_lex_float(IMV_STR("3985764.3405892687"), &value));
    cr_assert_eq(value, 3985764.3405892687);
    cr_assert_str_eq(imv_lex_float(IMV_STR("1.34E999"), &value), "FloatingPointOverflow");
    cr_assert_null(imv_lex_float(IMV_STR("1e-999"), &value));
    cr_assert_eq(value, 0);
    memset(digits + 2, '3', 1000);
    cr_assert_null(imv_lex_float((struct imv_str){digits, 1002}, &value));
    cr_assert_eq(value, 1.0 / 3);
}

Test(lex, durations_are_nanoseconds) {
    /* The unit scales exactly; what does not fit 64 bits is an error. */
    int64_t ns;
    cr_assert_null(imv_lex_duration(IMV_STR("250ms"), &ns));
    cr_assert_eq(ns, 250000000);
    cr_assert_null(imv_lex_duration(IMV_STR("1w"), &ns));
    cr_assert_eq(ns, INT64_C(604800000000000));
    cr_assert_null(imv_lex_duration(IMV_STR("9223372036854775807ns"), &ns));
    cr_assert_eq(ns, INT64_MAX);
    cr_assert_str_eq(imv_lex_duration(IMV_STR("9223372036854775808ns"), &ns), "IntegerOverflow");
    cr_assert_str_eq(imv_lex_duration(IMV_STR("106752d"), &ns), "IntegerOverflow");
    cr_assert_null(imv_lex_duration(IMV_STR("106751d"), &ns));
}

Test(lex, escapes_become_what_they_stand_for) {
    /* Each escape of a string is resolved to UTF-8; surrogates only in pairs. */
    static const struct {
        const char *literal, *value;
    } cases[] = {
        {"'plain'", "plain"},
        {"''", ""},
        {"'a\\nb\\t\\r\\b\\f'", "a\nb\t\r\b\f"},
        {"\"it\\'s \\\"so\\\"\"", "it's \"so\""},
        {"'\\\\'", "\\"},
        {"'\\`'", "`"},
        {"'\\u00e9'", "é"},
        {"'\\uD83D\\uDE00x'", "😀x"},
        {"'\\U0001F600'", "😀"},
        {"'\\u6E29\\u5ea6'", "温度"},
    };
    char value[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = 0;
        struct imv_span bad;
        cr_assert_null(imv_lex_string(imv_str_from(cases[i].literal), value, &size, &bad), "%s", cases[i].literal);
        value[size] = '\0';
        cr_assert_str_eq(value, cases[i].value, "%s", cases[i].literal);
    }
}

Test(lex, bad_escapes_are_found) {
    /* An escape that means nothing is reported with its place. */
    static const struct {
        const char *literal, *detail;
        uint32_t offset, size;
    } cases[] = {
        {"'\\uH'", "InvalidUnicodeLiteral", 1, 2},
        {"'ab\\u12'", "InvalidUnicodeLiteral", 3, 4},
        {"'\\u'", "InvalidUnicodeLiteral", 1, 2},
        {"'\\uD83D'", "InvalidUnicodeLiteral", 1, 6},
        {"'\\uDE00'", "InvalidUnicodeLiteral", 1, 6},
        {"'\\uD83Dx'", "InvalidUnicodeLiteral", 1, 6},
        {"'\\uD83D\\u0041'", "InvalidUnicodeLiteral", 1, 6},
        {"'\\U00110000'", "InvalidUnicodeLiteral", 1, 10},
        {"'a\\d'", "UnexpectedSyntax", 2, 2},
        {"'\\é'", "UnexpectedSyntax", 1, 3},
    };
    char value[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = 0;
        struct imv_span bad;
        const char *detail = imv_lex_string(imv_str_from(cases[i].literal), value, &size, &bad);
        cr_assert_not_null(detail, "%s", cases[i].literal);
        cr_assert_str_eq(detail, cases[i].detail, "%s", cases[i].literal);
        cr_assert_eq(bad.offset, cases[i].offset, "%s: %u", cases[i].literal, bad.offset);
        cr_assert_eq(bad.size, cases[i].size, "%s: %u", cases[i].literal, bad.size);
    }
}

Test(lex, names_lose_their_marks) {
    /* Backticks and the $ of a parameter are not part of the name. */
    static const char *const cases[][2] = {
        {"name", "name"}, {"`a b`", "a b"}, {"`a``b`", "a`b"}, {"``", ""}, {"$x", "x"}, {"$1", "1"}, {"$`a``b`", "a`b"},
    };
    char name[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t size = imv_lex_name(imv_str_from(cases[i][0]), name);
        name[size] = '\0';
        cr_assert_str_eq(name, cases[i][1]);
    }
}

Test(lex, any_bytes_end) {
    /* From any offset of any bytes the lexer goes on, stays inside the text and comes to an end. */
    char bytes[256];
    for (int seed = 0; seed < 256; seed++) {
        for (int i = 0; i < 256; i++) bytes[i] = (char)((i * 167 + seed * (i + 13)) ^ (i >> (seed % 7)));
        struct imv_str text = {bytes, sizeof bytes};
        for (uint32_t at = 0; at < text.size;) {
            struct imv_token token = imv_lex(text, at);
            cr_assert_geq(token.span.offset, at);
            cr_assert_leq(token.span.offset + token.span.size, text.size);
            if (token.kind == IMV_TOKEN_END) break;
            cr_assert_gt(token.span.size, 0);
            at = token.span.offset + token.span.size;
        }
    }
}
