#include "storage/base/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t imv_hash64(const void *bytes, size_t size, uint64_t seed) { return XXH3_64bits_withSeed(bytes, size, seed); }

struct imv_hash128 imv_hash128(const void *bytes, size_t size, uint64_t seed) {
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, size, seed);
    return (struct imv_hash128){.low = hash.low64, .high = hash.high64};
}

/* The state has an alignment of its own, which xxHash's allocation keeps. */
static XXH3_state_t *state_of(struct imv_hasher *hasher) { return (XXH3_state_t *)(void *)hasher; }

struct imv_hasher *imv_hasher_new(void) {
    XXH3_state_t *state = XXH3_createState();
    if (state != NULL) XXH3_64bits_reset(state);
    return (struct imv_hasher *)(void *)state;
}

void imv_hasher_free(struct imv_hasher *hasher) { XXH3_freeState(state_of(hasher)); }
void imv_hasher_reset(struct imv_hasher *hasher) { XXH3_64bits_reset(state_of(hasher)); }

void imv_hasher_add(struct imv_hasher *hasher, const void *bytes, size_t size) {
    if (size > 0) XXH3_64bits_update(state_of(hasher), bytes, size);
}

uint64_t imv_hasher_value(const struct imv_hasher *hasher) {
    return XXH3_64bits_digest((const XXH3_state_t *)(const void *)hasher);
}
