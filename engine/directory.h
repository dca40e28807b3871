/* directory.h - a data directory: who has it open, and of which format it is.
 *
 *     DIR/LOCK     empty; locked while open
 *     DIR/FORMAT   one line of text: imvdb format=1 shards=2 checksum=<16 hex digits>
 *
 * FORMAT is the first thing made in a new directory, written aside, synced and renamed; it never changes. The shard
 * count is part of it because a series' owner is the hash of its key modulo that count. The checksum is the XXH3-64 of
 * the text before it.
 */
#pragma once

#include "storage/base/io.h"

struct imv_directory {
    struct imv_file *lock;
    uint32_t shards;
};

/* Locks the directory and reads FORMAT. With shards > 0 a directory without FORMAT is made one of so many shards; with
 * 0 it is IMV_NOT_FOUND. IMV_BUSY: another has it. IMV_UNSUPPORTED: a newer version. IMV_CORRUPT: FORMAT is damaged, or
 * missing beside data. */
imv_status imv_directory_open(struct imv_io *io, const char *path, uint32_t shards, struct imv_directory *directory,
                              struct imv_error *err);
void imv_directory_close(struct imv_directory *directory);
