/* Any bytes as a delete predicate: they are refused, or what comes out is not empty where it must not be, lies in text
 * or scratch, and written down again means the same. */
#include "connectors/http/predicate.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(struct imv_buffer *out, struct imv_str text) {
    imv_buffer_append_char(out, '"');
    for (size_t i = 0; i < text.size; i++) {
        imv_buffer_append_char(out, '\\');
        imv_buffer_append_char(out, text.data[i]);
    }
    imv_buffer_append_char(out, '"');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct imv_error err;
    struct imv_predicate predicate, again;
    char *scratch = malloc(size + 1), *text = malloc(size + 1);
    imv_assert(scratch != NULL && text != NULL);
    if (size > 0) memcpy(text, data, size);
    if (imv_predicate_parse((struct imv_str){text, size}, scratch, &predicate, &err) == IMV_OK) {
        struct imv_buffer printed;
        imv_buffer_init(&printed, 1 << 24);
        imv_buffer_append_str(&printed, IMV_STR("_measurement="));
        print(&printed, predicate.measurement);
        for (size_t i = 0; i < predicate.tags_count; i++) {
            imv_buffer_append_str(&printed, IMV_STR(" AND "));
            print(&printed, predicate.tags[i].key);
            imv_buffer_append_char(&printed, '=');
            print(&printed, predicate.tags[i].value);
        }
        char *room = malloc(printed.size);
        imv_assert(room != NULL && !printed.failed);
        imv_assert(imv_predicate_parse(imv_buffer_view(&printed), room, &again, &err) == IMV_OK);
        imv_assert(imv_str_equal(again.measurement, predicate.measurement) && again.tags_count == predicate.tags_count);
        for (size_t i = 0; i < again.tags_count; i++) {
            imv_assert(imv_str_equal(again.tags[i].key, predicate.tags[i].key) &&
                       imv_str_equal(again.tags[i].value, predicate.tags[i].value));
        }
        free(room);
        imv_buffer_release(&printed);
    } else {
        imv_assert(err.status == IMV_INVALID);
    }
    free(scratch);
    free(text);
    return 0;
}
