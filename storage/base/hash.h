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

/* imv_hash64 with seed 0 of bytes that come in pieces. One thread. */
struct imv_hasher;
struct imv_hasher *imv_hasher_new(void);         /* NULL without memory */
void imv_hasher_free(struct imv_hasher *hasher); /* NULL is allowed */
void imv_hasher_reset(struct imv_hasher *hasher);
void imv_hasher_add(struct imv_hasher *hasher, const void *bytes, size_t size);
/* The hash of what was added since the reset; more may be added. */
uint64_t imv_hasher_value(const struct imv_hasher *hasher);
