/* backup.h - a consistent copy of a running engine, as one stream (backup_format.h).
 *
 *     flush all heads -> checkpoint of the store in DIR/checkpoint -> stream FORMAT and its files -> MANIFEST -> remove it
 *
 * Ingestion and queries go on all the while. Everything that was acknowledged before the call is in it: after the flush
 * it is in chunks and records of the store, so the copy needs no journal, and the watermarks in it let a restored
 * directory start with an empty one. What is acknowledged meanwhile may be in it or not.
 *
 * The checkpoint is taken under the FLUSH lock, under which every record of a part is written: no copied record names
 * chunks that were not copied. It is hard links, so table files that are dropped while the stream is read keep their
 * space until its end. What a crash leaves of it is removed by the next open and by the next backup. One backup at a
 * time.
 */
#pragma once

#include "storage/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct imv_engine;

/* Calls write with all bytes of the backup in order; false from it ends the backup with IMV_CANCELLED. Blocks for as
 * long as write does; not from a shard's thread. IMV_BUSY: another backup is under way. IMV_TIMEOUT: the flush took
 * longer than flush_timeout_ns. IMV_FULL: the disk. IMV_UNSUPPORTED: the store. IMV_IO, IMV_NO_MEMORY. After a failure
 * what was written is no backup: it has no MANIFEST. */
imv_status imv_backup_run(struct imv_engine *engine, int64_t flush_timeout_ns,
                          bool (*write)(void *context, const void *bytes, size_t size), void *context,
                          struct imv_error *err);

/* Removes what a backup that did not end left in a data directory. */
imv_status imv_backup_clear(const char *directory, struct imv_error *err);
