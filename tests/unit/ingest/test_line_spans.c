#include "ingest/line_spans.h"

#include "ingest/line.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* Random text that is full of what matters to lines. */
static void fill(struct imv_prng *prng, char *text, size_t size, unsigned plain_share) {
    static const char special[] = " ,=\n\"\\#\r\t ,==\"\n  ";
    for (size_t i = 0; i < size; i++) {
        bool plain = imv_prng_below(prng, 100) < plain_share;
        text[i] = plain ? (char)('a' + imv_prng_below(prng, 26)) : special[imv_prng_below(prng, sizeof special - 1)];
    }
}

Test(line_spans, all_passes_give_the_same_bits) {
    /* Whatever the bytes, the pass that this processor prefers marks what the plain one marks. */
    enum { BLOCKS = 9 };
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    for (int round = 0; round < 3000; round++) {
        char *text = malloc(BLOCKS * IMV_LINE_BLOCK_BYTES);
        uint64_t bits[4][BLOCKS];
        if (round % 2 == 0)
            fill(&prng, text, BLOCKS * IMV_LINE_BLOCK_BYTES, 50);
        else
            for (size_t i = 0; i < BLOCKS * IMV_LINE_BLOCK_BYTES; i++) text[i] = (char)imv_prng_next(&prng);
        size_t blocks = 1 + imv_prng_below(&prng, BLOCKS);
        imv_line_class_plain(text, blocks, bits[0], bits[1]);
        imv_line_class_best()(text, blocks, bits[2], bits[3]);
        cr_assert_arr_eq(bits[0], bits[2], blocks * sizeof bits[0][0], "seed 1, round %d: spaces", round);
        cr_assert_arr_eq(bits[1], bits[3], blocks * sizeof bits[1][0], "seed 1, round %d: events", round);
        free(text);
    }
}

/* What the grammar says of the line at the start of text: false when it is none that is simple. */
static bool simple_line(const char *text, size_t size, struct imv_line_span *span) {
    struct imv_line_scan scan = {0};
    enum imv_line_kind kind;
    struct imv_line line;
    ptrdiff_t end = imv_line_find_end(text, size, &scan);
    if (end < 0 || end > IMV_LINE_SIMPLE_BYTES_MAX || memchr(text, '\\', (size_t)end) != NULL) return false;
    if (imv_line_split(text, (size_t)end, &kind, &line, NULL) != IMV_OK || kind != IMV_LINE_POINT) return false;
    const char *space = memchr(text, ' ', (size_t)end);
    const char *quote = memchr(text, '"', (size_t)end);
    if (line.raw_key.data != text || space == NULL || (quote != NULL && quote < space)) return false;
    /* The grammar leaves a last CR out of the line, and so out of a key that would end with it. */
    cr_assert_eq(space - text, (ptrdiff_t)line.raw_key.size);
    *span = (struct imv_line_span){0, line.raw_key.size, (size_t)end};
    return true;
}

/* Walks text as a feed does: each line is found by the spans exactly when it is simple, with the same ends. */
static void walk(const char *text, size_t size, size_t found_max) {
    struct imv_line_spans spans;
    struct imv_line_span found[32], wanted;
    imv_line_spans_init(&spans, text, size);
    for (size_t at = 0; at < size;) {
        size_t count = imv_line_spans_find(&spans, at, found, found_max);
        if (count == 0) {
            cr_assert_not(simple_line(text + at, size - at, &wanted), "at %zu", at);
            struct imv_line_scan scan = {0};
            ptrdiff_t end = imv_line_find_end(text + at, size - at, &scan);
            if (end < 0) return;
            at += (size_t)end + 1;
        }
        for (size_t i = 0; i < count; i++) {
            cr_assert_eq(found[i].start, at);
            cr_assert(simple_line(text + at, size - at, &wanted), "at %zu", at);
            cr_assert(found[i].key_end == at + wanted.key_end && found[i].end == at + wanted.end, "at %zu", at);
            at = found[i].end + 1;
        }
    }
}

Test(line_spans, lines_end_where_the_grammar_ends_them, .timeout = 60) {
    /* Of any text, simple lines and no others are found, each with the key and the end that line.h gives it. */
    struct imv_prng prng;
    imv_prng_init(&prng, 2);
    for (int round = 0; round < 20000; round++) {
        size_t size = imv_prng_below(&prng, round % 100 == 0 ? 60000 : 300);
        char *text = malloc(size + 1);
        fill(&prng, text, size, 20 + (unsigned)imv_prng_below(&prng, 80));
        walk(text, size, 1 + imv_prng_below(&prng, 32));
        free(text);
    }
}

Test(line_spans, long_lines_are_not_simple) {
    /* A line of the limit is found wherever it stands in a long text; one byte more is not. */
    for (size_t before = 0; before < 3 * IMV_LINE_WINDOW_BYTES; before += 777) {
        for (size_t more = 0; more < 2; more++) {
            size_t length = IMV_LINE_SIMPLE_BYTES_MAX + more, size = 0;
            char *text = malloc(before + length + 100);
            while (size + 4 <= before) size += (size_t)sprintf(text + size, "m 1\n");
            size_t start = size;
            memset(text + size, 'x', length);
            text[size + 5] = ' ';
            text[size + length] = '\n';
            size += length + 1;
            struct imv_line_spans spans;
            struct imv_line_span found;
            imv_line_spans_init(&spans, text, size);
            size_t at = 0, count;
            while ((count = imv_line_spans_find(&spans, at, &found, 1)) == 1 && found.end + 1 < size)
                at = found.end + 1;
            cr_assert_eq(at, start);
            cr_assert_eq(count, 1 - more);
            free(text);
        }
    }
}
