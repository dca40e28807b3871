/* Hostile journal payloads: decoding into an empty catalog ends with IMV_OK or IMV_CORRUPT, and what it made of a good
 * one can be read. */
#include "engine/journal.h"
#include "storage/base/assert.h"
#include "storage/kv.h"
#include "tests/support/kv_memory.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads all of a row. */
static imv_status read_row(void *context, const struct imv_row *row, struct imv_error *err) {
    (void)err;
    uint64_t *sum = context;
    *sum += (uint64_t)row->timestamp;
    for (uint32_t i = 0; i < row->series->tags_count; i++) *sum += imv_series_tag_at(row->series, i).value.size;
    for (uint32_t i = 0; i < row->shape->count; i++) {
        if (row->shape->fields[i]->type != IMV_STRING) continue;
        struct imv_str text = imv_cell_str(row->cells[i]);
        for (size_t k = 0; k < text.size; k++) *sum += (uint8_t)text.data[k];
    }
    return IMV_OK;
}

static imv_status read_deletion(void *context, const struct imv_journal_deletion *deletion, struct imv_error *err) {
    (void)err;
    uint64_t *sum = context;
    imv_assert(deletion->from <= deletion->last && deletion->whole == (deletion->series_count == 0));
    for (size_t i = 0; i < deletion->series_count; i++) *sum += deletion->series[i];
    return IMV_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct imv_kv_memory *disk;
    struct imv_kv *kv;
    struct imv_catalog *catalog;
    imv_assert(imv_kv_memory_new(1, &disk, NULL) == IMV_OK);
    imv_assert(imv_kv_memory_open(disk, &kv, NULL) == IMV_OK);
    imv_assert(imv_catalog_open(kv, 1, &catalog, NULL) == IMV_OK);
    struct imv_error err;
    uint64_t sum = 0;
    struct imv_journal_visitor visitor = {.row = read_row, .deletion = read_deletion, .context = &sum};
    imv_status status = imv_journal_decode(catalog, 0, data, size, &visitor, &err);
    imv_assert(status == IMV_OK || status == IMV_CORRUPT);
    if (status == IMV_OK) {
        /* A second replay of the same changes nothing. */
        uint32_t series_count = imv_catalog_series_count(catalog, 0);
        uint64_t again = 0;
        visitor.context = &again;
        imv_assert(imv_journal_decode(catalog, 0, data, size, &visitor, &err) == IMV_OK);
        imv_assert(again == sum && imv_catalog_series_count(catalog, 0) == series_count);
    }
    imv_catalog_close(catalog);
    imv_kv_close(kv);
    imv_kv_memory_free(disk);
    return 0;
}
