#include "storage/base/buffer.h"
#include "storage/base/prng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Random appends, formats and consumptions give what a plain array gives, and the maximum is never passed. */
Test(buffer, holds_what_was_appended) {
    enum { MAX = 3000 };
    struct imv_buffer buffer;
    imv_buffer_init(&buffer, MAX);
    char model[MAX];
    size_t size = 0;
    struct imv_prng prng;
    imv_prng_init(&prng, 7);
    for (int step = 0; step < 20000; step++) {
        char piece[64];
        size_t length = imv_prng_below(&prng, sizeof piece);
        memset(piece, 'a' + step % 26, length);
        bool fits = size + length <= MAX, appended;
        switch (imv_prng_below(&prng, 4)) {
            case 0: appended = imv_buffer_append(&buffer, piece, length); break;
            case 1:
                fits = size + length + 1 <= MAX; /* formatting needs room for its NUL */
                appended = imv_buffer_append_format(&buffer, "%.*s", (int)length, piece);
                break;
            case 2: appended = imv_buffer_append_str(&buffer, (struct imv_str){piece, length}); break;
            default: {
                size_t gone = imv_prng_below(&prng, size / 3 + 1);
                imv_buffer_consume(&buffer, gone);
                memmove(model, model + gone, size -= gone);
                continue;
            }
        }
        cr_assert_eq(appended, fits);
        cr_assert_eq(buffer.failed, !fits);
        if (fits) {
            memcpy(model + size, piece, length);
            size += length;
        } else {
            cr_assert_not(imv_buffer_append_char(&buffer, 'x'), "once refused, it stays refused");
            cr_assert_eq(buffer.size, size, "a refused append changes nothing");
            imv_buffer_reset(&buffer);
            size = 0;
        }
        cr_assert(imv_str_equal(imv_buffer_view(&buffer), (struct imv_str){model, size}));
        cr_assert_leq(buffer.capacity, MAX);
    }
    imv_buffer_release(&buffer);
    cr_assert(buffer.data == NULL && buffer.size == 0);
}

/* Reserved room may be filled by the caller, and is not counted before. */
Test(buffer, reserves_room) {
    struct imv_buffer buffer;
    imv_buffer_init(&buffer, 100);
    char *room = imv_buffer_reserve(&buffer, 100);
    cr_assert_not_null(room);
    cr_assert_eq(buffer.size, 0);
    memset(room, 'r', 100);
    buffer.size += 100;
    cr_assert_null(imv_buffer_reserve(&buffer, 1));
    cr_assert(buffer.failed);
    imv_buffer_reset(&buffer);
    cr_assert_not_null(imv_buffer_reserve(&buffer, 1));
    cr_assert_null(imv_buffer_reserve(&buffer, (size_t)-1));
    imv_buffer_release(&buffer);
}
