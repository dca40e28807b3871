/* bell.h - digits 0..15 that crowd around 7, in fewer bits where they are likely: the top digits of codes in a block
 * (bitpack.h) whose values are spread like a bell, as steps of walks and noise of measurements are.
 *
 * A window of whole bits over a bell of deviation s takes about log2(6 s) bits, as it must hold the rare ones too; the
 * entropy is log2(4.1 s). Fixed prefix codes for bells of several widths, made beforehand, come within a tenth of a
 * bit, and need no search and no table in the data. Codes have up to 8 bits; a look-up of ten bits gives up to six
 * digits, and the digits are four streams, of which a processor decodes one beside another: 0.6 cycles a digit.
 *
 *     code: u8 | where the streams 0 .. 3 end, in bits: 14 bits each | bits of the streams, one after another
 *
 * Bits are least significant first. Stream s holds the digits from s * quarter on, quarter = (count + 3) / 4. No state,
 * any thread.
 */
#pragma once

#include "storage/codec/bitpack.h"

enum {
    IMV_BELL_DIGITS = 16,
    IMV_BELL_CENTER = 7,
    IMV_BELL_CODES = 6,
    IMV_BELL_STREAMS = 4,
    IMV_BELL_END_BITS = 14,
    IMV_BELL_HEAD_BYTES = 1 + IMV_BELL_STREAMS * IMV_BELL_END_BITS / 8,
    IMV_BELL_LENGTH_MAX = 8,
    IMV_BELL_SLACK = 32, /* digits that decoding may write behind each stream's */
    /* Where a stream's digits are in the output, apart from each other by the slack. */
    IMV_BELL_STRIDE = IMV_PACK_COUNT_MAX / IMV_BELL_STREAMS + IMV_BELL_SLACK,
};

static inline size_t imv_bell_quarter(size_t count) { return (count + IMV_BELL_STREAMS - 1) / IMV_BELL_STREAMS; }
static inline size_t imv_bell_bytes(size_t bits) { return IMV_BELL_HEAD_BYTES + (bits + 7) / 8; }

/* The code that takes the fewest bits for digits that are there so often, and how many. */
size_t imv_bell_choose(const uint16_t counts[IMV_BELL_DIGITS], unsigned *code);

/* Writes count (1..IMV_PACK_COUNT_MAX) digits; returns the byte after. */
uint8_t *imv_bell_write(const uint8_t *digits, size_t count, unsigned code, uint8_t *to);

/* Reads count digits from [from, end), those of stream s to digits + s * IMV_BELL_STRIDE. Returns the byte after, or
 * NULL when these are no such digits. */
const uint8_t *imv_bell_read(const uint8_t *from, const uint8_t *end, size_t count,
                             uint8_t digits[IMV_BELL_STREAMS * IMV_BELL_STRIDE]);
