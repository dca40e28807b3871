#include "storage/base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t imv_hash64(const void *bytes, size_t size, uint64_t seed) { return XXH3_64bits_withSeed(bytes, size, seed); }

struct imv_hash128 imv_hash128(const void *bytes, size_t size, uint64_t seed) {
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, size, seed);
    return (struct imv_hash128){.low = hash.low64, .high = hash.high64};
}
