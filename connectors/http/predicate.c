#include "connectors/http/predicate.h"

#include <strings.h>

enum { PARENTHESES_MAX = 16 };

struct parser {
    struct imv_str text;
    size_t at;
    char *scratch; /* where the next text goes */
    struct imv_predicate *predicate;
    unsigned depth;
};

static imv_status refuse(const struct parser *parser, const char *what, struct imv_error *err) {
    return imv_fail(err, IMV_INVALID, "predicate: %s at byte %zu", what, parser->at + 1);
}

static void skip_blanks(struct parser *parser) {
    while (parser->at < parser->text.size && strchr(" \t\r\n", parser->text.data[parser->at]) != NULL &&
           parser->text.data[parser->at] != 0) {
        parser->at++;
    }
}

static bool accept(struct parser *parser, char wanted) {
    skip_blanks(parser);
    if (parser->at == parser->text.size || parser->text.data[parser->at] != wanted) return false;
    parser->at++;
    return true;
}

static bool is_word(char byte) {
    unsigned char c = (unsigned char)byte;
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c > 0x7f ||
           (c != 0 && strchr("_-.:/", c) != NULL);
}

static struct imv_str word(struct parser *parser) {
    skip_blanks(parser);
    size_t from = parser->at;
    while (parser->at < parser->text.size && is_word(parser->text.data[parser->at])) parser->at++;
    return (struct imv_str){parser->text.data + from, parser->at - from};
}

/* The rest of a text in quotes, without escapes, in scratch. */
static imv_status quoted(struct parser *parser, char quote, struct imv_str *text, struct imv_error *err) {
    text->data = parser->scratch;
    while (parser->at < parser->text.size) {
        char byte = parser->text.data[parser->at++];
        if (byte == quote) {
            text->size = (size_t)(parser->scratch - text->data);
            return IMV_OK;
        }
        if (byte == '\\' && parser->at < parser->text.size) byte = parser->text.data[parser->at++];
        *parser->scratch++ = byte;
    }
    return refuse(parser, "a text has no end", err);
}

static imv_status parse_text(struct parser *parser, bool key, struct imv_str *text, struct imv_error *err) {
    if (accept(parser, '"')) return quoted(parser, '"', text, err);
    if (!key && accept(parser, '\'')) return quoted(parser, '\'', text, err);
    *text = word(parser);
    return text->size > 0 ? IMV_OK : refuse(parser, key ? "a tag is expected" : "a value is expected", err);
}

static imv_status parse_equality(struct parser *parser, struct imv_error *err) {
    struct imv_predicate *predicate = parser->predicate;
    struct imv_tag tag;
    IMV_TRY(parse_text(parser, true, &tag.key, err));
    if (!accept(parser, '=')) return refuse(parser, "'=' is expected, the only comparison there is,", err);
    IMV_TRY(parse_text(parser, false, &tag.value, err));
    if (imv_str_equal(tag.key, IMV_STR("_field"))) {
        return refuse(parser, "points are deleted with all their fields, _field cannot be chosen,", err);
    }
    if (imv_str_equal(tag.key, IMV_STR("_measurement"))) {
        if (predicate->measurement.data != NULL) return refuse(parser, "_measurement stands twice", err);
        predicate->measurement = tag.value;
        return IMV_OK;
    }
    if (predicate->tags_count == IMV_PREDICATE_TAGS_MAX) return refuse(parser, "more than 64 conditions", err);
    predicate->tags[predicate->tags_count++] = tag;
    return IMV_OK;
}

static imv_status parse_conjunction(struct parser *parser, struct imv_error *err);

static imv_status parse_part(struct parser *parser, struct imv_error *err) {
    if (!accept(parser, '(')) return parse_equality(parser, err);
    if (++parser->depth > PARENTHESES_MAX) return refuse(parser, "too many parentheses", err);
    IMV_TRY(parse_conjunction(parser, err));
    parser->depth--;
    return accept(parser, ')') ? IMV_OK : refuse(parser, "')' is expected", err);
}

static imv_status parse_conjunction(struct parser *parser, struct imv_error *err) {
    for (;;) {
        IMV_TRY(parse_part(parser, err));
        size_t before = parser->at;
        struct imv_str joint = word(parser);
        if (joint.size == 3 && strncasecmp(joint.data, "AND", 3) == 0) continue;
        parser->at = before;
        if (joint.size == 0) return IMV_OK;
        return refuse(parser, "conditions can be joined by AND only, something else stands", err);
    }
}

imv_status imv_predicate_parse(struct imv_str text, char *scratch, struct imv_predicate *predicate,
                               struct imv_error *err) {
    struct parser parser = {.text = text, .scratch = scratch, .predicate = predicate};
    *predicate = (struct imv_predicate){0};
    skip_blanks(&parser);
    if (parser.at < text.size) IMV_TRY(parse_conjunction(&parser, err));
    skip_blanks(&parser);
    if (parser.at < text.size) return refuse(&parser, "something follows the end", err);
    if (predicate->measurement.data != NULL) return IMV_OK;
    return imv_fail(err, IMV_INVALID,
                    "predicate: it must name a _measurement, as in _measurement=\"cpu\": nothing is deleted in all of "
                    "them at once");
}
