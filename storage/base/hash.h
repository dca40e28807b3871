/* hash.h - XXH3 (xxHash 0.8), the hash of checksums and hash tables.
 *
 * It finds accidents, not attackers: ledgers use SHA-256, and tables keyed by what a client sends pass a random seed.
 */
#pragma once

#include "storage/base/bytes.h"

#include <stdint.h>

struct imv_hash128 {
    uint64_t low, high;
};

/* Stable across runs and machines: may be stored. Any thread. */
uint64_t imv_hash64(const void *bytes, size_t size, uint64_t seed);
struct imv_hash128 imv_hash128(const void *bytes, size_t size, uint64_t seed);
