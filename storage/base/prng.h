/* prng.h - seeded random numbers, so that a run can be replayed from one number.
 *
 * xoroshiro128+ (Blackman and Vigna, 2018), seeded by splitmix64. Not for secrets. One thread a generator.
 */
#pragma once

#include <stdint.h>

struct imv_prng {
    uint64_t state[2];
};

static inline void imv_prng_init(struct imv_prng *prng, uint64_t seed) {
    for (int i = 0; i < 2; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        prng->state[i] = z ^ z >> 31;
    }
}

static inline uint64_t imv_prng_next(struct imv_prng *prng) {
    uint64_t a = prng->state[0], b = prng->state[1], result = a + b;
    b ^= a;
    prng->state[0] = (a << 24 | a >> 40) ^ b ^ b << 16;
    prng->state[1] = b << 37 | b >> 27;
    return result;
}

/* A number in [0, bound); bound > 0. The bias is below 2^-32 for bounds below 2^32. */
static inline uint64_t imv_prng_below(struct imv_prng *prng, uint64_t bound) {
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)imv_prng_next(prng) * bound >> 64);
}

/* A double in [0, 1). */
static inline double imv_prng_unit(struct imv_prng *prng) { return (double)(imv_prng_next(prng) >> 11) * 0x1p-53; }
