/* spsc.h - a bounded queue of pointers from one thread to one other.
 *
 * Lamport's ring with cached indices: a push or pop touches the other side's cache line only when its own view says
 * full or empty. Full means the producer must stop reading its sockets: that is the back-pressure.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct imv_spsc {
    _Alignas(64) _Atomic size_t head; /* written by the consumer */
    size_t tail_seen;                 /* consumer's copy of tail */
    _Alignas(64) _Atomic size_t tail; /* written by the producer */
    size_t head_seen;                 /* producer's copy of head */
    _Alignas(64) void **slots;
    size_t mask; /* capacity - 1 */
};

/* capacity is a power of two. Returns false when malloc refuses. */
bool imv_spsc_init(struct imv_spsc *queue, size_t capacity);
void imv_spsc_release(struct imv_spsc *queue);

/* Producer thread. False when full. */
static inline bool imv_spsc_push(struct imv_spsc *queue, void *item) {
    size_t tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    if (tail - queue->head_seen > queue->mask) {
        queue->head_seen = atomic_load_explicit(&queue->head, memory_order_acquire);
        if (tail - queue->head_seen > queue->mask) return false;
    }
    queue->slots[tail & queue->mask] = item;
    atomic_store_explicit(&queue->tail, tail + 1, memory_order_release);
    return true;
}

/* Consumer thread. NULL when empty. */
static inline void *imv_spsc_pop(struct imv_spsc *queue) {
    size_t head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    if (head == queue->tail_seen) {
        queue->tail_seen = atomic_load_explicit(&queue->tail, memory_order_acquire);
        if (head == queue->tail_seen) return NULL;
    }
    void *item = queue->slots[head & queue->mask];
    atomic_store_explicit(&queue->head, head + 1, memory_order_release);
    return item;
}
