/* segments.h - an array that only grows and never moves, so that readers index it without a lock.
 *
 * Element i lives in part p, where part p holds 8 << p elements: growing allocates one more part and copies nothing.
 *
 *     parts[0] -> 8 elements | parts[1] -> 16 elements | parts[2] -> 32 elements | ...
 *
 * One thread at a time grows it (under the owner's lock). A reader may touch an element once it has learnt its index
 * from something that was published after the element was filled, or when the element itself is atomic.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { IMV_SEGMENTS_FIRST_BITS = 3, IMV_SEGMENTS_PARTS = 30 }; /* 30 parts hold 2^32 elements and more */

struct imv_segments {
    _Atomic(void *) parts[IMV_SEGMENTS_PARTS];
};

static inline unsigned imv_segments_part(uint32_t index, uint64_t *offset) {
    uint64_t shifted = (uint64_t)index + (1u << IMV_SEGMENTS_FIRST_BITS);
    unsigned top = 63u - (unsigned)__builtin_clzll(shifted);
    *offset = shifted - (UINT64_C(1) << top);
    return top - IMV_SEGMENTS_FIRST_BITS;
}

/* The element, or NULL when its part was never made. Any thread. */
static inline void *imv_segments_at(const struct imv_segments *segments, size_t element_bytes, uint32_t index) {
    uint64_t offset;
    unsigned part = imv_segments_part(index, &offset);
    char *base = atomic_load_explicit(&segments->parts[part], memory_order_acquire);
    return base == NULL ? NULL : base + offset * element_bytes;
}

/* Makes the part of the element, zero-filled, when it is not there yet. False when malloc refuses. */
static inline bool imv_segments_reserve(struct imv_segments *segments, size_t element_bytes, uint32_t index) {
    uint64_t offset;
    unsigned part = imv_segments_part(index, &offset);
    if (atomic_load_explicit(&segments->parts[part], memory_order_relaxed) != NULL) return true;
    void *base = calloc((size_t)1 << (part + IMV_SEGMENTS_FIRST_BITS), element_bytes);
    if (base == NULL) return false;
    atomic_store_explicit(&segments->parts[part], base, memory_order_release);
    return true;
}

static inline void imv_segments_release(struct imv_segments *segments) {
    for (unsigned part = 0; part < IMV_SEGMENTS_PARTS; part++) {
        free(atomic_load_explicit(&segments->parts[part], memory_order_relaxed));
        atomic_store_explicit(&segments->parts[part], NULL, memory_order_relaxed);
    }
}
