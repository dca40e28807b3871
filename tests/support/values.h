/* values.h - columns of many characters for tests of codecs, chunks and whatever stores values: constant, regular,
 * noisy, sparse, extreme. A table of generators; each fills cells from a random number generator, so that a seed
 * replays a failure.
 */
#pragma once

#include "storage/base/arena.h"
#include "storage/base/prng.h"
#include "storage/value.h"

struct imv_values {
    const char *name;
    imv_type type;
    /* Strings are put into arena, which other types leave alone. */
    void (*fill)(struct imv_prng *prng, struct imv_arena *arena, uint64_t *cells, size_t count);
};

extern const struct imv_values imv_values[];
extern const size_t imv_values_count;

/* A string cell with a copy of the bytes. */
uint64_t imv_values_string(struct imv_arena *arena, const void *bytes, size_t size);

/* Clears bits of count rows: none, few, most, in runs, alternating. */
void imv_values_validity(struct imv_prng *prng, uint64_t *valid, size_t count);

/* Equality of two cells of a type: bits, or the bytes of strings. */
bool imv_values_equal(imv_type type, uint64_t a, uint64_t b);
