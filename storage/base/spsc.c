#include "storage/base/spsc.h"

#include "storage/base/assert.h"

#include <stdlib.h>

bool imv_spsc_init(struct imv_spsc *queue, size_t capacity) {
    imv_assert(capacity > 0 && (capacity & (capacity - 1)) == 0);
    queue->slots = calloc(capacity, sizeof *queue->slots);
    queue->mask = capacity - 1;
    queue->tail_seen = queue->head_seen = 0;
    atomic_init(&queue->head, 0);
    atomic_init(&queue->tail, 0);
    return queue->slots != NULL;
}

void imv_spsc_release(struct imv_spsc *queue) {
    free(queue->slots);
    queue->slots = NULL;
}
