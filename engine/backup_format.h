/* backup_format.h - the bytes of a backup: a tar archive (ustar) of a data directory without its journal, and at its
 * end the MANIFEST that makes it a backup.
 *
 *     FORMAT              as in the data directory
 *     rocksdb/<name> ..   a checkpoint of the store (kv.h)
 *     MANIFEST            imvdb backup=1 files=<n>
 *                         <XXH3-64, 16 hex digits> <bytes> <name>      a line for each file above, in that order
 *                         checksum=<XXH3-64 of the text before this line>
 *
 * Unpacked with tar it is a directory of these files, which restore takes as well. The MANIFEST comes last, so what was
 * cut short has none; it names every file, so what is missing, added or changed is found.
 */
#pragma once

#include "storage/base/buffer.h"
#include "storage/base/status.h"

enum {
    IMV_TAR_BLOCK_BYTES = 512,
    IMV_BACKUP_NAME_BYTES = 100,              /* with its zero: the room of a ustar header */
    IMV_BACKUP_MANIFEST_BYTES_MAX = 64 << 20, /* half a million files */
    IMV_BACKUP_FORMAT_BYTES_MAX = 4096,
};

struct imv_backup_file {
    char name[IMV_BACKUP_NAME_BYTES];
    uint64_t bytes, hash;
};

/* Of a name that may stand in a backup: FORMAT, MANIFEST, or rocksdb/ and a plain file name. */
bool imv_backup_name_valid(const char *name);

/* Writes the header of a file; false: the name or the size does not fit. */
bool imv_tar_header_put(uint8_t block[IMV_TAR_BLOCK_BYTES], const char *name, uint64_t bytes);
/* Reads the header of a file. *end is true for the block of zeros that ends an archive. IMV_CORRUPT: bad checksum, name
 * or kind of entry. */
imv_status imv_tar_header_get(const uint8_t block[IMV_TAR_BLOCK_BYTES], char name[IMV_BACKUP_NAME_BYTES],
                              uint64_t *bytes, bool *end, struct imv_error *err);
/* The zeros behind so many bytes of content. */
static inline size_t imv_tar_padding(uint64_t bytes) { return (size_t)(-bytes & (IMV_TAR_BLOCK_BYTES - 1)); }

/* Appends the text of a manifest. */
void imv_backup_manifest_put(struct imv_buffer *out, const struct imv_backup_file *files, size_t count);
/* Parses one; *files is malloc'ed. IMV_CORRUPT; IMV_UNSUPPORTED: of a newer version. */
imv_status imv_backup_manifest_get(struct imv_str text, struct imv_backup_file **files, size_t *count,
                                   struct imv_error *err);
