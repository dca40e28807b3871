/* bitpack.h - a run of integers as small numbers over a base: the block that most codecs end in.
 *
 * value = base + step * code. base is the least value, step the greatest common divisor of the distances to it
 * (milliseconds stored as nanoseconds, floats stored as doubles). Codes are packed at the width of the widest. When a
 * few values are far from the rest, the width is chosen for the rest and those few are patched: listed with their
 * positions. All arithmetic is modulo 2^64, so any 64-bit values are fine.
 *
 *     +------+---------+------+------+------------------------------------------------+---------------+--------+
 *     | head | options | base | step | exceptions                                     | low bits      | digits |
 *     | u8   | u8      | zig- | var- | count   | width | below  | positions | codes   | count * width |        |
 *     |      |         | zag  | int  | varint  | u8    | varint | packed    | packed  | bits          |        |
 *     +------+---------+------+------+------------------------------------------------+---------------+--------+
 *
 * head: width 0..64; bit 7: options follow (else none). options: 1 step is there, 2 exceptions are there, 4 ternary
 * digits are there, 8 quinary digits are there (not both). Positions are rising, packed at the width of count - 1. An
 * exception's value is base + step * (code - below): below is how far outliers reach under the base. The code in the
 * place of an exception is 0. Numbers are packed least significant bit first; every packed part ends on a byte.
 *
 * Digits: whole bits are coarse when few are needed. Codes below 3 or 5 times a power of two have a digit above their
 * low bits: code = low + digit << width. Five ternary digits take 8 bits, three quinary ones 7 (the integer sequences
 * of ASTC textures), the first digit least significant. So nine tenths of a random walk's steps, -2..2, take 2.33 bits
 * each instead of 3. As they decode slower than bits, they must save a sixteenth.
 *
 * Option 32, instead of these digits: 16 of them, in a prefix code made for bells (bell.h), must save a sixteenth too.
 * Steps of a random walk take 2.3 bits, noise half a bit less than the window that holds it. A bell's window may start
 * below the least value; base is where it starts then, and below is 0. A bell's base without a step, at 8 low bits or
 * more, is a multiple of 2^(width - 4), and the multiplier is what is stored.
 *
 * Where values change their character (segments.h), a block is several: option 16 alone, and then, instead of the
 * above,
 *
 *     number of segments less 2: u8 | how many values each has but the last: varint | a block for each
 *
 * The plan's size is exact, by arithmetic: choosing between codecs needs no trial. No state, any thread.
 */
#pragma once

#include "storage/codec/segments.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMV_PACK_COUNT_MAX = 1024,
    IMV_PACK_BYTES_MAX = IMV_PACK_COUNT_MAX * 8 + 64, /* of any plan: a plan never takes more than width 64 does */
};

struct imv_pack_plan {
    uint64_t base;
    uint64_t step;
    uint64_t below;
    unsigned width; /* of the low bits */
    unsigned radix; /* 1 no digits, 3, 5, IMV_BELL_DIGITS */
    unsigned bell;  /* the code of a bell's digits, which take bell_bits */
    size_t bell_bits;
    unsigned exception_width;
    size_t exceptions;
    size_t bytes; /* of the whole block */
    bool is_unsigned;
    uint8_t segments; /* 0: one; else ends and is_unsigned say how it is cut, and nothing above but bytes matters */
    uint16_t ends[IMV_SEGMENTS_MAX];
};

static inline unsigned imv_bits_of(uint64_t value) { return value == 0 ? 0 : 64 - (unsigned)__builtin_clzll(value); }
static inline size_t imv_varint_bytes(uint64_t value) { return (imv_bits_of(value | 1) + 6) / 7; }
static inline size_t imv_packed_bytes(size_t count, unsigned width) { return (count * width + 7) / 8; }

/* Plans the smallest block of count (1..IMV_PACK_COUNT_MAX) values. is_unsigned says in which order least is least. */
void imv_pack_plan(const uint64_t *values, size_t count, bool is_unsigned, struct imv_pack_plan *plan);
/* The same without a search: the whole range in bits, with a step when it is wide. For a few values, where the other
 * options are hardly ever worth their bytes. */
void imv_pack_plan_plain(const uint64_t *values, size_t count, bool is_unsigned, struct imv_pack_plan *plan);

/* Writes plan->bytes bytes at `to` and returns the byte after them. The values are those of the plan. */
uint8_t *imv_pack_write(const uint64_t *values, size_t count, const struct imv_pack_plan *plan, uint8_t *to);

/* Reads a block of count (1..IMV_PACK_COUNT_MAX) values into out, which has room for IMV_PACK_COUNT_MAX. Returns the
 * byte after the block, or NULL when [from, end) does not start with one. */
const uint8_t *imv_pack_read(const uint8_t *from, const uint8_t *end, size_t count, uint64_t *out);

/* Numbers of one width without a head, from a byte boundary to the next; each fits the width. Returns the byte
 * after. */
uint8_t *imv_bits_write(const uint64_t *numbers, size_t count, unsigned width, uint8_t *to);
/* count <= IMV_PACK_COUNT_MAX numbers; the caller has checked that imv_packed_bytes(count, width) are in [from,
 * end). */
void imv_bits_read(const uint8_t *from, const uint8_t *end, size_t count, unsigned width, uint64_t *out);
