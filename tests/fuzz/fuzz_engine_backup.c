/* Any bytes as the first header of an archive and as a manifest: nothing is read beyond them, and what is accepted has
 * names that may stand in a backup and is written back as the same. */
#include "engine/backup_format.h"
#include "storage/base/assert.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_header(const uint8_t *data, size_t size) {
    uint8_t block[IMV_TAR_BLOCK_BYTES] = {0}, again[IMV_TAR_BLOCK_BYTES];
    char name[IMV_BACKUP_NAME_BYTES], name_again[IMV_BACKUP_NAME_BYTES];
    uint64_t bytes, bytes_again;
    bool end;
    memcpy(block, data, size < sizeof block ? size : sizeof block);
    if (imv_tar_header_get(block, name, &bytes, &end, NULL) != IMV_OK || end) return;
    imv_assert(imv_backup_name_valid(name));
    if (!imv_tar_header_put(again, name, bytes)) return;
    imv_assert(imv_tar_header_get(again, name_again, &bytes_again, &end, NULL) == IMV_OK && !end);
    imv_assert(strcmp(name, name_again) == 0 && bytes == bytes_again);
}

static void try_manifest(const uint8_t *data, size_t size) {
    struct imv_backup_file *files;
    size_t count;
    char *text = malloc(size == 0 ? 1 : size);
    memcpy(text, data, size);
    if (imv_backup_manifest_get((struct imv_str){text, size}, &files, &count, NULL) == IMV_OK) {
        struct imv_buffer again;
        imv_buffer_init(&again, 1 << 24);
        for (size_t i = 0; i < count; i++) imv_assert(imv_backup_name_valid(files[i].name));
        imv_backup_manifest_put(&again, files, count);
        free(files);
        imv_assert(imv_backup_manifest_get(imv_buffer_view(&again), &files, &count, NULL) == IMV_OK);
        free(files);
        imv_buffer_release(&again);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_header(data, size);
    try_manifest(data, size);
    return 0;
}
