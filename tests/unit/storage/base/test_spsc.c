#include "storage/base/spsc.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

static void *number(uintptr_t value) { return (void *)value; }

/* Items come out in the order they went in; a full queue refuses, an empty one gives NULL, over many rounds. */
Test(spsc, is_a_bounded_queue) {
    for (size_t capacity = 1; capacity <= 8; capacity *= 2) {
        struct imv_spsc queue;
        cr_assert(imv_spsc_init(&queue, capacity));
        uintptr_t in = 0, out = 0;
        for (int round = 0; round < 100; round++) {
            while (imv_spsc_push(&queue, number(in + 1))) in++;
            cr_assert_eq(in - out, capacity);
            for (size_t i = 0; i <= (size_t)round % capacity; i++) cr_assert_eq(imv_spsc_pop(&queue), number(++out));
        }
        while (out < in) cr_assert_eq(imv_spsc_pop(&queue), number(++out));
        cr_assert_null(imv_spsc_pop(&queue));
        imv_spsc_release(&queue);
    }
}

enum { ITEMS = 200000 };

static void *produce(void *context) {
    for (uintptr_t i = 1; i <= ITEMS; i++) {
        while (!imv_spsc_push(context, number(i))) sched_yield();
    }
    return NULL;
}

/* Between two threads nothing is lost, repeated or out of order. */
Test(spsc, passes_between_threads) {
    struct imv_spsc queue;
    cr_assert(imv_spsc_init(&queue, 64));
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, produce, &queue), 0);
    for (uintptr_t i = 1; i <= ITEMS; i++) {
        void *item;
        while ((item = imv_spsc_pop(&queue)) == NULL) sched_yield();
        cr_assert_eq(item, number(i));
    }
    pthread_join(thread, NULL);
    cr_assert_null(imv_spsc_pop(&queue));
    imv_spsc_release(&queue);
}
