#include "ingest/line_spans.h"

#include "storage/base/assert.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum {
    BLOCKS_MAX = IMV_LINE_WINDOW_BYTES / IMV_LINE_BLOCK_BYTES,
    BLOCKS_AHEAD = 16, /* classed at once: enough to hide the call, little enough to waste on one line */
};

/* ---- the pass ---- */

void imv_line_class_plain(const char *text, size_t blocks, uint64_t *spaces, uint64_t *events) {
    for (size_t block = 0; block < blocks; block++) {
        uint64_t space = 0, event = 0;
        for (unsigned i = 0; i < IMV_LINE_BLOCK_BYTES; i++) {
            char byte = *text++;
            space |= (uint64_t)(byte == ' ') << i;
            event |= (uint64_t)(byte == '\n' || byte == '"' || byte == '\\') << i;
        }
        spaces[block] = space;
        events[block] = event;
    }
}

#if defined(__x86_64__)
/* 64 bytes need two comparisons of 32 a byte value: about 20 instructions, 8 cycles. */
__attribute__((target("avx2"))) static void class_avx2(const char *text, size_t blocks, uint64_t *spaces,
                                                       uint64_t *events) {
    const __m256i space = _mm256_set1_epi8(' '), feed = _mm256_set1_epi8('\n');
    const __m256i quote = _mm256_set1_epi8('"'), backslash = _mm256_set1_epi8('\\');
    for (size_t block = 0; block < blocks; block++) {
        uint64_t space_bits = 0, event_bits = 0;
        for (unsigned half = 0; half < 2; half++) {
            __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(text + block * 64 + half * 32));
            __m256i event =
                _mm256_or_si256(_mm256_or_si256(_mm256_cmpeq_epi8(bytes, feed), _mm256_cmpeq_epi8(bytes, quote)),
                                _mm256_cmpeq_epi8(bytes, backslash));
            event_bits |= (uint64_t)(uint32_t)_mm256_movemask_epi8(event) << (32 * half);
            space_bits |= (uint64_t)(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, space)) << (32 * half);
        }
        spaces[block] = space_bits;
        events[block] = event_bits;
    }
}

static void class_sse2(const char *text, size_t blocks, uint64_t *spaces, uint64_t *events) {
    const __m128i space = _mm_set1_epi8(' '), feed = _mm_set1_epi8('\n');
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\');
    for (size_t block = 0; block < blocks; block++) {
        uint64_t space_bits = 0, event_bits = 0;
        for (unsigned part = 0; part < 4; part++) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(text + block * 64 + part * 16));
            __m128i event = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, feed), _mm_cmpeq_epi8(bytes, quote)),
                                         _mm_cmpeq_epi8(bytes, backslash));
            event_bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(event) << (16 * part);
            space_bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, space)) << (16 * part);
        }
        spaces[block] = space_bits;
        events[block] = event_bits;
    }
}

imv_line_class_fn *imv_line_class_best(void) { return __builtin_cpu_supports("avx2") ? class_avx2 : class_sse2; }
#else
imv_line_class_fn *imv_line_class_best(void) { return imv_line_class_plain; }
#endif

/* ---- the window ---- */

void imv_line_spans_init(struct imv_line_spans *spans, const char *text, size_t size) {
    spans->text = text;
    spans->size = size;
    spans->base = 0;
    spans->classed = 0;
}

/* Classes the next blocks of the window; false at its end and at the end of the text. */
static __attribute__((noinline)) bool class_more(struct imv_line_spans *spans) {
    imv_line_class_fn *class = imv_line_class_best();
    size_t done = spans->classed, from = spans->base + done * IMV_LINE_BLOCK_BYTES;
    if (done == BLOCKS_MAX || from >= spans->size) return false;
    size_t blocks = (spans->size - from) / IMV_LINE_BLOCK_BYTES;
    if (blocks > BLOCKS_MAX - done) blocks = BLOCKS_MAX - done;
    if (blocks > BLOCKS_AHEAD) blocks = BLOCKS_AHEAD;
    if (blocks > 0) {
        class(spans->text + from, blocks, spans->spaces + done, spans->events + done);
    } else { /* the text ends within this block */
        char padded[IMV_LINE_BLOCK_BYTES] = {0};
        memcpy(padded, spans->text + from, spans->size - from);
        class(padded, 1, spans->spaces + done, spans->events + done);
        blocks = 1;
    }
    spans->classed += blocks;
    return true;
}

/* The first set bit at or after position `at` of the window, SIZE_MAX when there is none. */
static inline size_t next_bit(struct imv_line_spans *spans, const uint64_t *bits, size_t at) {
    size_t block = at / IMV_LINE_BLOCK_BYTES;
    while (block >= spans->classed) {
        if (!class_more(spans)) return SIZE_MAX;
    }
    uint64_t word = bits[block] & (~UINT64_C(0) << (at % IMV_LINE_BLOCK_BYTES));
    while (word == 0) {
        if (++block == spans->classed && !class_more(spans)) return SIZE_MAX;
        word = bits[block];
    }
    return block * IMV_LINE_BLOCK_BYTES + (size_t)__builtin_ctzll(word);
}

/* The end of the line whose key ended at key_end, SIZE_MAX when it is not simple or has none in the window. Without
 * backslashes a quote opens a value when it stands after an equals sign, and the next one closes it. */
static inline size_t find_end(struct imv_line_spans *spans, const char *window, size_t key_end) {
    for (size_t at = key_end;;) {
        size_t event = next_bit(spans, spans->events, at);
        if (event == SIZE_MAX || window[event] == '\n') return event;
        if (window[event] == '"' && window[event - 1] == '=') {
            do {
                event = next_bit(spans, spans->events, event + 1);
            } while (event != SIZE_MAX && window[event] == '\n');
            if (event == SIZE_MAX) return SIZE_MAX;
        }
        if (window[event] == '\\') return SIZE_MAX;
        at = event + 1;
    }
}

size_t imv_line_spans_find(struct imv_line_spans *spans, size_t at, struct imv_line_span *found, size_t found_max) {
    imv_assert(at >= spans->base && at <= spans->size);
    if (at - spans->base >= IMV_LINE_WINDOW_BYTES - IMV_LINE_SIMPLE_BYTES_MAX) {
        spans->base = at;
        spans->classed = 0;
    }
    const char *window = spans->text + spans->base;
    size_t count = 0, start = at - spans->base;
    while (count < found_max) {
        if (spans->base + start >= spans->size || window[start] == '#') break;
        size_t key_end = next_bit(spans, spans->spaces, start);
        size_t event = next_bit(spans, spans->events, start);
        if (event == SIZE_MAX || key_end >= event || key_end == start) break;
        size_t end = find_end(spans, window, key_end);
        if (end == SIZE_MAX || end - start > IMV_LINE_SIMPLE_BYTES_MAX) break;
        found[count++] = (struct imv_line_span){spans->base + start, spans->base + key_end, spans->base + end};
        start = end + 1;
    }
    return count;
}
