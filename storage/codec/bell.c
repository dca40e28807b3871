#include "storage/codec/bell.h"

#include "storage/base/assert.h"
#include "storage/base/bytes.h"

/* Bits of each digit: the best prefix codes of at most 8 bits (package-merge) for bells of deviation 0.4, 0.75, 1, 1.4,
 * 2 and 2.8 digits with a little more weight at their edges. On disk: never change a row. */
static const uint8_t lengths[IMV_BELL_CODES][IMV_BELL_DIGITS] = {
    {8, 8, 8, 8, 6, 5, 3, 1, 2, 5, 7, 7, 8, 8, 8, 8}, {8, 8, 8, 7, 7, 5, 3, 1, 2, 5, 6, 8, 8, 8, 8, 8},
    {8, 8, 8, 8, 7, 4, 2, 2, 2, 3, 6, 7, 8, 8, 8, 8}, {8, 8, 8, 6, 5, 4, 2, 2, 2, 4, 5, 6, 7, 8, 8, 8},
    {8, 7, 6, 5, 4, 3, 3, 2, 3, 3, 4, 5, 6, 7, 7, 8}, {6, 6, 5, 4, 4, 3, 3, 3, 3, 3, 4, 4, 5, 6, 7, 7},
};

enum { LOOKUP_BITS = 10, LOOKUPS = 1 << LOOKUP_BITS, LOOKUP_DIGITS = 6, LOOKUPS_A_LOAD = 5 };

/* What the next 10 bits start with, in one word to load: up to six whole digits in the low bytes, how many they are in
 * byte 6, how many bits they take in byte 7. */
enum { COUNT_SHIFT = 48, BITS_SHIFT = 56 };

struct code {
    uint8_t word[IMV_BELL_DIGITS]; /* first bit lowest */
    uint64_t lookup[LOOKUPS];
};

static struct code codes[IMV_BELL_CODES]; /* written before main */

/* Words in the order of their lengths, counted up; bits turned around. */
static void make_words(struct code *code, const uint8_t *length) {
    unsigned next = 0;
    for (unsigned bits = 1; bits <= IMV_BELL_LENGTH_MAX; bits++, next <<= 1) {
        for (unsigned digit = 0; digit < IMV_BELL_DIGITS; digit++) {
            if (length[digit] != bits) continue;
            unsigned word = next++, turned = 0;
            for (unsigned bit = 0; bit < bits; bit++) turned |= (word >> bit & 1) << (bits - 1 - bit);
            code->word[digit] = (uint8_t)turned;
        }
    }
    imv_assert(next == 2U << IMV_BELL_LENGTH_MAX); /* every byte starts with some word */
}

static unsigned first_digit(const struct code *code, const uint8_t *length, unsigned bits) {
    unsigned digit = 0;
    while ((bits & ((1U << length[digit]) - 1)) != code->word[digit]) digit++;
    return digit;
}

static void make_lookups(struct code *code, const uint8_t *length) {
    for (unsigned next = 0; next < LOOKUPS; next++) {
        uint64_t digits = 0, count = 0, bits = 0;
        while (count < LOOKUP_DIGITS) {
            /* Bits that are not known are 0: a digit that needs some of them is not whole. */
            unsigned digit = first_digit(code, length, next >> bits);
            if (bits + length[digit] > LOOKUP_BITS) break;
            digits |= (uint64_t)digit << (8 * count++);
            bits += length[digit];
        }
        code->lookup[next] = digits | count << COUNT_SHIFT | bits << BITS_SHIFT;
    }
}

__attribute__((constructor)) static void make_codes(void) {
    for (unsigned code = 0; code < IMV_BELL_CODES; code++) {
        make_words(&codes[code], lengths[code]);
        make_lookups(&codes[code], lengths[code]);
    }
}

size_t imv_bell_choose(const uint16_t counts[IMV_BELL_DIGITS], unsigned *code) {
    size_t least = SIZE_MAX;
    for (unsigned k = 0; k < IMV_BELL_CODES; k++) {
        size_t bits = 0;
        for (unsigned digit = 0; digit < IMV_BELL_DIGITS; digit++) bits += (size_t)counts[digit] * lengths[k][digit];
        if (bits >= least) continue;
        least = bits;
        *code = k;
    }
    return least;
}

uint8_t *imv_bell_write(const uint8_t *digits, size_t count, unsigned code, uint8_t *to) {
    uint8_t *head = to;
    size_t quarter = imv_bell_quarter(count), bits = 0;
    uint64_t word = 0, ends = 0;
    unsigned used = 0;
    to += IMV_BELL_HEAD_BYTES;
    for (size_t stream = 0; stream < IMV_BELL_STREAMS; stream++) {
        size_t first = stream * quarter, last = first + quarter < count ? first + quarter : count;
        for (size_t i = first; i < last; i++) {
            unsigned length = lengths[code][digits[i]];
            word |= (uint64_t)codes[code].word[digits[i]] << used;
            used += length;
            bits += length;
            for (; used >= 32; used -= 32, word >>= 32, to += 4) imv_put_u32(to, (uint32_t)word);
        }
        ends |= bits << (stream * IMV_BELL_END_BITS);
    }
    for (; used > 0; used = used > 8 ? used - 8 : 0, word >>= 8) *to++ = (uint8_t)word;
    *head++ = (uint8_t)code;
    for (unsigned i = 1; i < IMV_BELL_HEAD_BYTES; i++, ends >>= 8) *head++ = (uint8_t)ends;
    return to;
}

struct stream {
    const uint8_t *bytes; /* readable for 8 bytes from wherever the stream gets */
    size_t bit;
    uint8_t *to, *end;
};

/* Five look-ups of one load: 50 of at least 57 bits, up to 30 digits. */
static inline void decode_some(const uint64_t *lookups, struct stream *stream) {
    uint64_t bits = imv_get_u64(stream->bytes + stream->bit / 8) >> stream->bit % 8;
    uint64_t used = 0;
    for (int i = 0; i < LOOKUPS_A_LOAD; i++) {
        uint64_t lookup = lookups[bits % LOOKUPS];
        imv_put_u64(stream->to, lookup);
        stream->to += lookup >> COUNT_SHIFT & 0xff;
        used += lookup >> BITS_SHIFT;
        bits >>= lookup >> BITS_SHIFT;
    }
    stream->bit += used;
}

const uint8_t *imv_bell_read(const uint8_t *from, const uint8_t *end, size_t count,
                             uint8_t digits[IMV_BELL_STREAMS * IMV_BELL_STRIDE]) {
    /* A stream starts within its 8 bits a digit, takes at most as many for a quarter and the slack, and is loaded by 8
     * bytes; behind the end there are zeros. */
    uint8_t bytes[IMV_PACK_COUNT_MAX + IMV_BELL_STRIDE + 8];
    struct stream streams[IMV_BELL_STREAMS];
    uint64_t ends = 0, bit = 0;
    if (end - from < IMV_BELL_HEAD_BYTES || *from >= IMV_BELL_CODES) return NULL;
    const uint64_t *lookups = codes[*from++].lookup;
    for (unsigned i = 0; i < IMV_BELL_HEAD_BYTES - 1; i++) ends |= (uint64_t)*from++ << (8 * i);
    size_t quarter = imv_bell_quarter(count);
    for (size_t i = 0; i < IMV_BELL_STREAMS; i++, ends >>= IMV_BELL_END_BITS) {
        size_t first = i * quarter < count ? i * quarter : count, left = count - first;
        uint8_t *to = digits + i * IMV_BELL_STRIDE;
        streams[i] = (struct stream){bytes, bit, to, to + (left < quarter ? left : quarter)};
        if ((ends & ((1U << IMV_BELL_END_BITS) - 1)) < bit) return NULL;
        bit = ends & ((1U << IMV_BELL_END_BITS) - 1);
    }
    size_t size = (bit + 7) / 8;
    if (bit > count * IMV_BELL_LENGTH_MAX || size > (size_t)(end - from)) return NULL;
    memcpy(bytes, from, size);
    memset(bytes + size, 0, sizeof bytes - size);
    struct stream a = streams[0], b = streams[1], c = streams[2], d = streams[3];
    while (a.to < a.end && b.to < b.end && c.to < c.end && d.to < d.end) {
        decode_some(lookups, &a);
        decode_some(lookups, &b);
        decode_some(lookups, &c);
        decode_some(lookups, &d);
    }
    while (a.to < a.end) decode_some(lookups, &a);
    while (b.to < b.end) decode_some(lookups, &b);
    while (c.to < c.end) decode_some(lookups, &c);
    while (d.to < d.end) decode_some(lookups, &d);
    return from + size;
}
