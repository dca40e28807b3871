#include "engine/backup_format.h"

#include "storage/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { BACKUP_VERSION = 1 };

bool imv_backup_name_valid(const char *name) {
    if (strcmp(name, "FORMAT") == 0 || strcmp(name, "MANIFEST") == 0) return true;
    if (strncmp(name, "rocksdb/", 8) != 0 || name[8] == 0 || name[8] == '.') return false;
    for (const char *at = name + 8; *at != 0; at++) {
        bool plain = (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
        if (!plain && *at != '.' && *at != '-' && *at != '_') return false;
    }
    return true;
}

/* ---- tar ---- */

/* POSIX.1-1988 with the ustar extension: numbers are octal text. */
struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], unused[12];
};
_Static_assert(sizeof(struct ustar) == IMV_TAR_BLOCK_BYTES, "on-disk size");
_Static_assert((int)IMV_BACKUP_NAME_BYTES == 100, "the field of the header");

static const uint64_t tar_bytes_max = UINT64_C(077777777777);

static unsigned tar_checksum(const struct ustar *header) {
    const uint8_t *bytes = (const uint8_t *)header;
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *header; i++) {
        bool own = i >= offsetof(struct ustar, checksum) && i < offsetof(struct ustar, type);
        sum += own ? ' ' : bytes[i];
    }
    return sum;
}

bool imv_tar_header_put(uint8_t block[IMV_TAR_BLOCK_BYTES], const char *name, uint64_t bytes) {
    struct ustar header = {.mode = "0000600", .uid = "0000000", .gid = "0000000", .type = '0', .magic = "ustar"};
    if (strlen(name) >= sizeof header.name || bytes > tar_bytes_max) return false;
    memcpy(header.name, name, strlen(name));
    memcpy(header.version, "00", 2);
    snprintf(header.size, sizeof header.size, "%011" PRIo64, bytes);
    snprintf(header.mtime, sizeof header.mtime, "%011o", 0u);
    snprintf(header.checksum, sizeof header.checksum, "%06o", tar_checksum(&header) & 0777777);
    header.checksum[7] = ' ';
    memcpy(block, &header, sizeof header);
    return true;
}

static bool octal(const char *text, size_t size, uint64_t *value) {
    *value = 0;
    size_t i = 0;
    for (; i < size && text[i] >= '0' && text[i] <= '7'; i++) *value = *value << 3 | (uint64_t)(text[i] - '0');
    return i > 0 && (i == size || text[i] == 0 || text[i] == ' ');
}

imv_status imv_tar_header_get(const uint8_t block[IMV_TAR_BLOCK_BYTES], char name[IMV_BACKUP_NAME_BYTES],
                              uint64_t *bytes, bool *end, struct imv_error *err) {
    struct ustar header;
    memcpy(&header, block, sizeof header);
    size_t zeros = 0;
    while (zeros < sizeof header && block[zeros] == 0) zeros++;
    *end = zeros == sizeof header;
    if (*end) return IMV_OK;
    uint64_t checksum;
    if (memcmp(header.magic, "ustar", 5) != 0 || !octal(header.checksum, sizeof header.checksum, &checksum) ||
        checksum != tar_checksum(&header))
        return imv_fail(err, IMV_CORRUPT, "backup: a header of the archive is damaged, or it is no tar archive");
    if (memchr(header.name, 0, sizeof header.name) == NULL || header.type != '0' || header.prefix[0] != 0 ||
        !imv_backup_name_valid(header.name) || !octal(header.size, sizeof header.size, bytes))
        return imv_fail(err, IMV_CORRUPT, "backup: the archive holds what no backup holds: %.99s", header.name);
    memcpy(name, header.name, sizeof header.name);
    return IMV_OK;
}

/* ---- the manifest ---- */

void imv_backup_manifest_put(struct imv_buffer *out, const struct imv_backup_file *files, size_t count) {
    imv_buffer_append_format(out, "imvdb backup=%d files=%zu\n", BACKUP_VERSION, count);
    for (size_t i = 0; i < count; i++)
        imv_buffer_append_format(out, "%016" PRIx64 " %" PRIu64 " %s\n", files[i].hash, files[i].bytes, files[i].name);
    if (!out->failed) imv_buffer_append_format(out, "checksum=%016" PRIx64 "\n", imv_hash64(out->data, out->size, 0));
}

static imv_status bad_manifest(const char *why, struct imv_error *err) {
    return imv_fail(err, IMV_CORRUPT, "backup: the MANIFEST is damaged: %s", why);
}

/* Cuts a line off text; false when there is no whole one. */
static bool take_line(struct imv_str *text, char *line, size_t size) {
    const char *end = text->size == 0 ? NULL : memchr(text->data, '\n', text->size);
    if (end == NULL || (size_t)(end - text->data) >= size) return false;
    size_t length = (size_t)(end - text->data);
    memcpy(line, text->data, length);
    line[length] = 0;
    *text = (struct imv_str){end + 1, text->size - length - 1};
    return strlen(line) == length;
}

static bool parse_file(const char *line, struct imv_backup_file *file) {
    int used = 0;
    if (sscanf(line, "%16" SCNx64 " %" SCNu64 " %99s%n", &file->hash, &file->bytes, file->name, &used) != 3)
        return false;
    return line[used] == 0 && imv_backup_name_valid(file->name) && strcmp(file->name, "MANIFEST") != 0;
}

imv_status imv_backup_manifest_get(struct imv_str text, struct imv_backup_file **files, size_t *count,
                                   struct imv_error *err) {
    enum { LAST_LINE_BYTES = 26, LINE_BYTES_MAX = 192, FILE_LINE_BYTES_MIN = 20 };
    struct imv_str rest = text;
    char line[LINE_BYTES_MAX];
    unsigned version;
    uint64_t hash;
    *files = NULL;
    if (!take_line(&rest, line, sizeof line) || sscanf(line, "imvdb backup=%u files=%zu", &version, count) != 2)
        return bad_manifest("it does not begin as one", err);
    if (version != BACKUP_VERSION)
        return imv_fail(err, IMV_UNSUPPORTED, "backup: it is of version %u, this program knows %d", version,
                        BACKUP_VERSION);
    const char *last = text.data + text.size - (text.size < LAST_LINE_BYTES ? text.size : LAST_LINE_BYTES);
    char end[LAST_LINE_BYTES + 1] = {0};
    memcpy(end, last, (size_t)(text.data + text.size - last));
    if (sscanf(end, "checksum=%16" SCNx64, &hash) != 1 ||
        imv_hash64(text.data, (size_t)(last - text.data), 0) != hash || end[LAST_LINE_BYTES - 1] != '\n')
        return bad_manifest("its checksum is another", err);
    if (*count > rest.size / FILE_LINE_BYTES_MIN) return bad_manifest("it has fewer lines than files", err);
    struct imv_backup_file *made = calloc(*count + 1, sizeof *made);
    if (made == NULL) return imv_fail(err, IMV_NO_MEMORY, "backup: no memory for a list of %zu files", *count);
    for (size_t i = 0; i < *count; i++) {
        if (take_line(&rest, line, sizeof line) && parse_file(line, &made[i])) continue;
        free(made);
        return bad_manifest("a line of it does not parse", err);
    }
    if (rest.size != LAST_LINE_BYTES) {
        free(made);
        return bad_manifest("it has more lines than files", err);
    }
    *files = made;
    return IMV_OK;
}
