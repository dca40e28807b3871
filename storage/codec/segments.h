/* segments.h - where a run of integers changes its character, so that each part packs better with a base and width of
 * its own: a machine that is switched off, a vehicle that stands.
 *
 * The ranges of blocks of 64 values are found; dynamic programming joins neighbours into segments so that the bits of
 * all, at the width of each one's whole range, and the head of each are least; then the ends are moved by single
 * values. 150 ranges are tried for 1,024 values, after a look at the blocks alone has said that it may pay. No state,
 * any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { IMV_SEGMENTS_MAX = 8 };

/* Finds 2..IMV_SEGMENTS_MAX segments that are estimated to pack count (up to 1,024) values into clearly less than
 * `bytes`, and their ends, each the index after a segment's last value. Returns how many, or 0 when there are none. */
size_t imv_segments_find(const uint64_t *values, size_t count, bool is_unsigned, size_t bytes,
                         uint16_t ends[IMV_SEGMENTS_MAX]);
