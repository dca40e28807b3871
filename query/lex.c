/* lex.c - see lex.h. */
#include "query/lex.h"

#include "storage/base/assert.h"
#include "storage/base/decimal.h"

#include <math.h>
#include <string.h>
#include <utf8proc.h>

/* ---- characters ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* A character of the text: its code point and size, or -1 and 1 for bytes that are not UTF-8. */
struct character {
    int32_t code;
    uint32_t size;
};

static struct character character_at(struct imv_str text, uint32_t offset) {
    unsigned char byte = (unsigned char)text.data[offset];
    if (byte < 0x80) return (struct character){byte, 1};
    utf8proc_int32_t code = -1;
    size_t left = text.size - offset;
    utf8proc_ssize_t size =
        utf8proc_iterate((const utf8proc_uint8_t *)text.data + offset, left < 4 ? (utf8proc_ssize_t)left : 4, &code);
    return size > 0 ? (struct character){code, (uint32_t)size} : (struct character){-1, 1};
}

static bool starts_name(int32_t code) {
    if (code < 0x80) return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') || code == '_';
    switch (utf8proc_category(code)) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_PC: return true;
        default: return false;
    }
}

static bool continues_name(int32_t code) {
    if (starts_name(code)) return true;
    if (code < 0x80) return code >= '0' && code <= '9';
    switch (utf8proc_category(code)) {
        case UTF8PROC_CATEGORY_MN:
        case UTF8PROC_CATEGORY_MC:
        case UTF8PROC_CATEGORY_ND: return true;
        default: return false;
    }
}

static bool is_blank(int32_t code) {
    if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r') || (code >= 0x1c && code <= 0x1f);
    utf8proc_category_t category = utf8proc_category(code);
    return category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP ||
           code == 0xfeff;
}

static uint32_t end_of_name(struct imv_str text, uint32_t at) {
    while (at < text.size) {
        struct character character = character_at(text, at);
        if (character.code < 0 || !continues_name(character.code)) break;
        at += character.size;
    }
    return at;
}

/* ---- tokens ---- */

static struct imv_token token(enum imv_token_kind kind, uint32_t from, uint32_t to) {
    return (struct imv_token){.kind = kind, .span = {from, to - from}};
}

static struct imv_token bad(uint32_t from, uint32_t to, const char *detail, const char *message) {
    return (struct imv_token){IMV_TOKEN_BAD, {from, to - from}, detail, message};
}

/* Skips blanks and comments. Returns false, with the place, at a comment that is not closed. */
static bool skip_blanks(struct imv_str text, uint32_t *at) {
    while (*at < text.size) {
        char next = *at + 1 < text.size ? text.data[*at + 1] : '\0';
        if (text.data[*at] == '/' && next == '/') {
            while (*at < text.size && text.data[*at] != '\n') (*at)++;
        } else if (text.data[*at] == '/' && next == '*') {
            const char *close = memmem(text.data + *at + 2, text.size - *at - 2, "*/", 2);
            if (close == NULL) return false;
            *at = (uint32_t)(close + 2 - text.data);
        } else {
            struct character character = character_at(text, *at);
            if (character.code < 0 || !is_blank(character.code)) return true;
            *at += character.size;
        }
    }
    return true;
}

/* A quoted piece that ends with the quote that it starts with. escapes: a backslash takes the next byte along; else a
 * doubled quote stands for one. 0 when it does not end. */
static uint32_t end_of_quoted(struct imv_str text, uint32_t from, bool escapes) {
    char quote = text.data[from];
    for (uint32_t at = from + 1; at < text.size; at++) {
        if (escapes && text.data[at] == '\\') {
            at++;
        } else if (text.data[at] == quote) {
            if (!escapes && at + 1 < text.size && text.data[at + 1] == quote) {
                at++;
            } else {
                return at + 1;
            }
        }
    }
    return 0;
}

static struct imv_token lex_quoted(struct imv_str text, uint32_t from) {
    bool name = text.data[from] == '`';
    uint32_t end = end_of_quoted(text, from, !name);
    if (end == 0) {
        return bad(from, from + 1, "UnexpectedSyntax",
                   name ? "the name in backticks is not closed" : "the string is not closed");
    }
    return token(name ? IMV_TOKEN_QUOTED : IMV_TOKEN_STRING, from, end);
}

static struct imv_token lex_parameter(struct imv_str text, uint32_t from) {
    uint32_t at = from + 1;
    if (at < text.size && text.data[at] == '`') {
        struct imv_token quoted = lex_quoted(text, at);
        if (quoted.kind == IMV_TOKEN_BAD) return quoted;
        return token(IMV_TOKEN_PARAMETER, from, at + quoted.span.size);
    }
    uint32_t end = end_of_name(text, at);
    if (end == at) return bad(from, at, "UnexpectedSyntax", "'$' must be followed by the name of a parameter");
    return token(IMV_TOKEN_PARAMETER, from, end);
}

static uint32_t skip_digits(struct imv_str text, uint32_t at) {
    while (at < text.size && is_digit(text.data[at])) at++;
    return at;
}

static bool all_digits_of_base(struct imv_str digits, int base) {
    for (size_t i = 0; i < digits.size; i++) {
        char c = digits.data[i];
        int value = is_digit(c) ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : 99;
        if (value >= base) return false;
    }
    return digits.size > 0;
}

static const struct unit {
    char text[3];
    int64_t ns;
} units[] = {
    {"ns", 1},
    {"us", 1000},
    {"ms", 1000000},
    {"s", 1000000000},
    {"m", INT64_C(60) * 1000000000},
    {"h", INT64_C(3600) * 1000000000},
    {"d", INT64_C(86400) * 1000000000},
    {"w", INT64_C(604800) * 1000000000},
};

static const struct unit *find_unit(struct imv_str suffix) {
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (imv_str_equal(suffix, imv_str_from(units[i].text))) return &units[i];
    }
    return NULL;
}

/* 0x.. and 0o..: the whole word must be digits of the base. */
static struct imv_token lex_based(struct imv_str text, uint32_t from, int base) {
    uint32_t end = end_of_name(text, from + 2);
    if (all_digits_of_base(imv_span_text(text, (struct imv_span){from + 2, end - from - 2}), base)) {
        return token(IMV_TOKEN_INTEGER, from, end);
    }
    return bad(from, end, "InvalidNumberLiteral",
               base == 16 ? "a hexadecimal number is 0x and digits 0-9, a-f" : "an octal number is 0o and digits 0-7");
}

static struct imv_token lex_number(struct imv_str text, uint32_t from) {
    char second = from + 1 < text.size ? (char)(text.data[from + 1] | 0x20) : '\0';
    if (text.data[from] == '0' && second == 'x') return lex_based(text, from, 16);
    if (text.data[from] == '0' && second == 'o') return lex_based(text, from, 8);

    uint32_t at = skip_digits(text, from);
    bool leading_zero = text.data[from] == '0' && at - from > 1;
    bool is_float = false;
    /* `1..3` is a range and `1.x` a property: a point belongs to the number only before a digit. */
    if (at + 1 < text.size && text.data[at] == '.' && is_digit(text.data[at + 1])) {
        is_float = true;
        at = skip_digits(text, at + 1);
    }
    if (at < text.size && (text.data[at] | 0x20) == 'e') {
        uint32_t exponent = at + 1;
        if (exponent < text.size && (text.data[exponent] == '+' || text.data[exponent] == '-')) exponent++;
        uint32_t exponent_end = skip_digits(text, exponent);
        if (exponent_end > exponent) {
            is_float = true;
            at = exponent_end;
        }
    }
    uint32_t end = end_of_name(text, at);
    if (end == at) {
        if (leading_zero && !is_float) {
            return bad(from, end, "InvalidNumberLiteral", "a number cannot start with 0; an octal number is 0o17");
        }
        return token(is_float ? IMV_TOKEN_FLOAT : IMV_TOKEN_INTEGER, from, end);
    }
    if (!is_float && find_unit(imv_span_text(text, (struct imv_span){at, end - at})) != NULL) {
        return token(IMV_TOKEN_DURATION, from, end);
    }
    return bad(from, end, "InvalidNumberLiteral",
               "this is neither a number nor a duration (a whole number and one of ns, us, ms, s, m, h, d, w)");
}

/* Longer operators first. */
static const struct {
    char text[3];
    enum imv_token_kind kind;
} operators[] = {
    {"..", IMV_TOKEN_DOTDOT},        {"=~", IMV_TOKEN_MATCHES},
    {"<>", IMV_TOKEN_NOT_EQUAL},     {"<=", IMV_TOKEN_LESS_EQUAL},
    {">=", IMV_TOKEN_GREATER_EQUAL}, {"||", IMV_TOKEN_BARBAR},
    {"(", IMV_TOKEN_LPAREN},         {")", IMV_TOKEN_RPAREN},
    {"[", IMV_TOKEN_LBRACKET},       {"]", IMV_TOKEN_RBRACKET},
    {"{", IMV_TOKEN_LBRACE},         {"}", IMV_TOKEN_RBRACE},
    {",", IMV_TOKEN_COMMA},          {";", IMV_TOKEN_SEMICOLON},
    {":", IMV_TOKEN_COLON},          {".", IMV_TOKEN_DOT},
    {"=", IMV_TOKEN_EQUAL},          {"<", IMV_TOKEN_LESS},
    {">", IMV_TOKEN_GREATER},        {"+", IMV_TOKEN_PLUS},
    {"-", IMV_TOKEN_MINUS},          {"*", IMV_TOKEN_STAR},
    {"/", IMV_TOKEN_SLASH},          {"%", IMV_TOKEN_PERCENT},
    {"^", IMV_TOKEN_CARET},          {"|", IMV_TOKEN_BAR},
    {"&", IMV_TOKEN_AMPERSAND},      {"!", IMV_TOKEN_BANG},
};

static struct imv_token lex_operator(struct imv_str text, uint32_t from) {
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        uint32_t size = (uint32_t)strlen(operators[i].text);
        if (size <= text.size - from && memcmp(text.data + from, operators[i].text, size) == 0) {
            return token(operators[i].kind, from, from + size);
        }
    }
    struct character character = character_at(text, from);
    uint32_t end = from + character.size;
    if (character.code < 0) return bad(from, end, "InvalidUnicodeCharacter", "the text is not valid UTF-8");
    if (character.code >= 0x80) {
        return bad(from, end, "InvalidUnicodeCharacter", "this character has no meaning outside strings and backticks");
    }
    return bad(from, end, "UnexpectedSyntax", "this character has no meaning outside strings and backticks");
}

struct imv_token imv_lex(struct imv_str text, uint32_t offset) {
    imv_assert(offset <= text.size);
    uint32_t at = offset;
    if (!skip_blanks(text, &at)) return bad(at, at + 2, "UnexpectedSyntax", "the comment is not closed");
    if (at == text.size) return token(IMV_TOKEN_END, at, at);
    char c = text.data[at];
    if (is_digit(c)) return lex_number(text, at);
    if (c == '.' && at + 1 < text.size && is_digit(text.data[at + 1])) return lex_number(text, at);
    if (c == '\'' || c == '"' || c == '`') return lex_quoted(text, at);
    if (c == '$') return lex_parameter(text, at);
    struct character character = character_at(text, at);
    if (character.code >= 0 && starts_name(character.code)) return token(IMV_TOKEN_NAME, at, end_of_name(text, at));
    return lex_operator(text, at);
}

/* word is equal to an upper-case keyword in any case. */
static bool is_keyword(struct imv_str word, const char *keyword) {
    for (size_t i = 0; i < word.size; i++) {
        char c = word.data[i];
        char upper = c >= 'a' && c <= 'z' ? (char)(c - 0x20) : c;
        if (keyword[i] == '\0' || upper != keyword[i]) return false;
    }
    return keyword[word.size] == '\0';
}

bool imv_token_is(struct imv_str text, struct imv_token token_, const char *keyword) {
    return token_.kind == IMV_TOKEN_NAME && is_keyword(imv_span_text(text, token_.span), keyword);
}

bool imv_lex_reserved(struct imv_str word) {
    static const char *const words[] = {"AND",    "OR",     "XOR",  "NOT",  "IN",    "IS",      "AS",
                                        "CASE",   "WHEN",   "THEN", "ELSE", "WHERE", "MATCH",   "WITH",
                                        "UNWIND", "RETURN", "NULL", "TRUE", "FALSE", "DISTINCT"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (is_keyword(word, words[i])) return true;
    }
    return false;
}

const char *imv_token_kind_text(enum imv_token_kind kind) {
    static const char *const names[] = {
        [IMV_TOKEN_END] = "the end of the query",
        [IMV_TOKEN_BAD] = "something malformed",
        [IMV_TOKEN_NAME] = "a name",
        [IMV_TOKEN_QUOTED] = "a name",
        [IMV_TOKEN_STRING] = "a string",
        [IMV_TOKEN_INTEGER] = "a number",
        [IMV_TOKEN_FLOAT] = "a number",
        [IMV_TOKEN_DURATION] = "a duration",
        [IMV_TOKEN_PARAMETER] = "a parameter",
        [IMV_TOKEN_LPAREN] = "'('",
        [IMV_TOKEN_RPAREN] = "')'",
        [IMV_TOKEN_LBRACKET] = "'['",
        [IMV_TOKEN_RBRACKET] = "']'",
        [IMV_TOKEN_LBRACE] = "'{'",
        [IMV_TOKEN_RBRACE] = "'}'",
        [IMV_TOKEN_COMMA] = "','",
        [IMV_TOKEN_SEMICOLON] = "';'",
        [IMV_TOKEN_COLON] = "':'",
        [IMV_TOKEN_DOT] = "'.'",
        [IMV_TOKEN_DOTDOT] = "'..'",
        [IMV_TOKEN_EQUAL] = "'='",
        [IMV_TOKEN_NOT_EQUAL] = "'<>'",
        [IMV_TOKEN_LESS] = "'<'",
        [IMV_TOKEN_LESS_EQUAL] = "'<='",
        [IMV_TOKEN_GREATER] = "'>'",
        [IMV_TOKEN_GREATER_EQUAL] = "'>='",
        [IMV_TOKEN_MATCHES] = "'=~'",
        [IMV_TOKEN_PLUS] = "'+'",
        [IMV_TOKEN_MINUS] = "'-'",
        [IMV_TOKEN_STAR] = "'*'",
        [IMV_TOKEN_SLASH] = "'/'",
        [IMV_TOKEN_PERCENT] = "'%'",
        [IMV_TOKEN_CARET] = "'^'",
        [IMV_TOKEN_BAR] = "'|'",
        [IMV_TOKEN_BARBAR] = "'||'",
        [IMV_TOKEN_AMPERSAND] = "'&'",
        [IMV_TOKEN_BANG] = "'!'",
    };
    return names[kind];
}

/* ---- values of literals ---- */

const char *imv_lex_integer(struct imv_str literal, bool negative, int64_t *out) {
    size_t i = 0;
    unsigned base = 10;
    if (literal.size > 2 && (literal.data[1] | 0x20) == 'x') base = 16;
    if (literal.size > 2 && (literal.data[1] | 0x20) == 'o') base = 8;
    if (base != 10) i = 2;
    uint64_t magnitude = 0;
    for (; i < literal.size; i++) {
        char c = literal.data[i];
        unsigned digit = is_digit(c) ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a' + 10);
        if (__builtin_mul_overflow(magnitude, base, &magnitude)) return "IntegerOverflow";
        if (__builtin_add_overflow(magnitude, digit, &magnitude)) return "IntegerOverflow";
    }
    if (magnitude > (uint64_t)INT64_MAX + negative) return "IntegerOverflow";
    *out = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return NULL;
}

const char *imv_lex_float(struct imv_str literal, double *out) {
    bool parsed = imv_decimal_float(literal, out);
    imv_assert(parsed);
    return isinf(*out) ? "FloatingPointOverflow" : NULL;
}

const char *imv_lex_duration(struct imv_str literal, int64_t *out_ns) {
    size_t digits = 0;
    while (is_digit(literal.data[digits])) digits++;
    const struct unit *unit = find_unit((struct imv_str){literal.data + digits, literal.size - digits});
    imv_assert(unit != NULL);
    int64_t count;
    const char *detail = imv_lex_integer((struct imv_str){literal.data, digits}, false, &count);
    if (detail != NULL) return detail;
    if (__builtin_mul_overflow(count, unit->ns, &count)) return "IntegerOverflow";
    *out_ns = count;
    return NULL;
}

/* count hexadecimal digits at `at`; -1 when they are not there. */
static int64_t hex_digits(struct imv_str literal, size_t at, size_t count) {
    int64_t value = 0;
    if (at + count > literal.size - 1) return -1;
    struct imv_str digits = {literal.data + at, count};
    if (!all_digits_of_base(digits, 16)) return -1;
    for (size_t i = 0; i < count; i++) {
        char c = digits.data[i];
        value = value * 16 + (is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

/* The code point of the \u or \U at `at`, and how many bytes of the literal it took; -1 when malformed. Surrogates
 * count only as a pair. */
static int64_t unicode_escape(struct imv_str literal, size_t at, size_t *taken) {
    size_t digits = literal.data[at + 1] == 'u' ? 4 : 8;
    int64_t code = hex_digits(literal, at + 2, digits);
    *taken = 2 + digits;
    if (code >= 0xd800 && code <= 0xdbff && digits == 4 && at + 8 < literal.size && literal.data[at + 6] == '\\' &&
        literal.data[at + 7] == 'u') {
        int64_t low = hex_digits(literal, at + 8, 4);
        if (low >= 0xdc00 && low <= 0xdfff) {
            *taken = 12;
            return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    return code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? -1 : code;
}

static char simple_escape(char c) {
    switch (c) {
        case 'b': return '\b';
        case 'f': return '\f';
        case 'n': return '\n';
        case 'r': return '\r';
        case 't': return '\t';
        case '\\':
        case '\'':
        case '"':
        case '`': return c;
        default: return '\0';
    }
}

const char *imv_lex_string(struct imv_str literal, char *to, size_t *size, struct imv_span *bad_escape) {
    size_t used = 0;
    *bad_escape = (struct imv_span){0, 0};
    for (size_t at = 1; at + 1 < literal.size;) {
        if (literal.data[at] != '\\') {
            to[used++] = literal.data[at++];
            continue;
        }
        char kind = literal.data[at + 1];
        if (kind == 'u' || kind == 'U') {
            size_t taken;
            int64_t code = unicode_escape(literal, at, &taken);
            if (code < 0) {
                size_t end = at + 2;
                while (end < at + taken && all_digits_of_base((struct imv_str){literal.data + end, 1}, 16)) end++;
                *bad_escape = (struct imv_span){(uint32_t)at, (uint32_t)(end - at)};
                return "InvalidUnicodeLiteral";
            }
            used += (size_t)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)to + used);
            at += taken;
            continue;
        }
        char simple = simple_escape(kind);
        if (simple == '\0') {
            *bad_escape = (struct imv_span){(uint32_t)at, 1 + character_at(literal, (uint32_t)at + 1).size};
            return "UnexpectedSyntax";
        }
        to[used++] = simple;
        at += 2;
    }
    *size = used;
    return NULL;
}

size_t imv_lex_name(struct imv_str literal, char *to) {
    size_t at = literal.data[0] == '$';
    if (literal.data[at] != '`') {
        memcpy(to, literal.data + at, literal.size - at);
        return literal.size - at;
    }
    size_t used = 0;
    for (at++; at + 1 < literal.size; at++) {
        to[used++] = literal.data[at];
        if (literal.data[at] == '`') at++;
    }
    return used;
}
