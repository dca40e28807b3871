/* line_spans.h - where simple lines begin and end, found 64 bytes at a time.
 *
 * A line is simple when it is whole, at most IMV_LINE_SIMPLE_BYTES_MAX long, begins with its key, has a space after the
 * key and no backslash anywhere. That is nearly every line; all others are left to line.h, which is the grammar.
 *
 * One pass classes bytes into two bitmaps, a bit a byte: `spaces`, and `events` (line feed, quote, backslash). Of a
 * line the first space ends the key, and the first event that is a line feed outside of a quoted value ends it. Commas
 * and equals signs are not mapped: who knows the series and the shape of a line compares names where they must stand
 * (line_known.h), which asks for no positions.
 *
 *     bytes    cpu,host=a usage=1i,state="ok" 17\n
 *     spaces   ..........1...................1....
 *     events   ...........................1..1....1
 *
 * The pass runs on AVX2 when the processor has it (32 bytes a comparison), on SSE2 or plain C otherwise; all give the
 * same bits. Bytes are classed once as long as searches go forward within a window of IMV_LINE_WINDOW_BYTES.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMV_LINE_SIMPLE_BYTES_MAX = 4096,
    IMV_LINE_WINDOW_BYTES = 16 * 1024, /* of text: 4 KiB of bitmaps stay in the first level cache */
    IMV_LINE_BLOCK_BYTES = 64,
};

/* Offsets into the text. */
struct imv_line_span {
    size_t start, key_end, end; /* [start, key_end) is the key, end is the line feed */
};

struct imv_line_spans {
    const char *text;
    size_t size;
    /* private */
    size_t base;    /* where the window begins */
    size_t classed; /* blocks of the window that have their bits */
    uint64_t spaces[IMV_LINE_WINDOW_BYTES / IMV_LINE_BLOCK_BYTES];
    uint64_t events[IMV_LINE_WINDOW_BYTES / IMV_LINE_BLOCK_BYTES];
};

/* Starts with a text, which must stay as it is while spans are looked for. */
void imv_line_spans_init(struct imv_line_spans *spans, const char *text, size_t size);

/* Finds the simple lines that stand one after the other from offset at, up to found_max of them or the end of the
 * window. 0: the line at `at` is not simple, or not whole. */
size_t imv_line_spans_find(struct imv_line_spans *spans, size_t at, struct imv_line_span *found, size_t found_max);

/* ---- the pass, for its test ---- */

/* Classes blocks of IMV_LINE_BLOCK_BYTES: one word a block and map. */
typedef void imv_line_class_fn(const char *text, size_t blocks, uint64_t *spaces, uint64_t *events);
imv_line_class_fn imv_line_class_plain;
/* The fastest that this processor runs. */
imv_line_class_fn *imv_line_class_best(void);
