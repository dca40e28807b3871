/* restore.h - takes a backup (backup_format.h) apart, checking every byte of it.
 *
 *     archive bytes --imv_restore_take--\
 *                                        files, hashed, synced -> finish: compare with the MANIFEST -> last file in place
 *     directory --imv_restore_directory-/
 *
 * The target is either a data directory or a copy of the backup itself as a directory. Its last file comes into place,
 * synced and renamed, when everything else is there, is what the MANIFEST says, and is durable: FORMAT for a data
 * directory, without which no server starts on it, MANIFEST for a backup, without which it is none. So whatever ends a
 * restore early leaves nothing that passes for a whole one.
 *
 * Names are checked before anything is made: nothing outside of the target is touched. One thread.
 */
#pragma once

#include "storage/base/io.h"

enum imv_restore_kind { IMV_RESTORE_DATA, IMV_RESTORE_BACKUP };

struct imv_restore;

/* Makes the directory when absent. IMV_EXISTS: it has something in it. */
imv_status imv_restore_new(const char *directory, enum imv_restore_kind kind, struct imv_restore **restore,
                           struct imv_error *err);
/* Closes what is open; what was written stays. NULL is allowed. */
void imv_restore_free(struct imv_restore *restore);

/* Takes the next bytes of an archive. IMV_CORRUPT: it is none, or none of a backup. IMV_IO. After a failure the restore
 * can only be freed. */
imv_status imv_restore_take(struct imv_restore *restore, const void *bytes, size_t size, struct imv_error *err);
/* Takes a backup that was unpacked into a directory: the files that its MANIFEST names. */
imv_status imv_restore_directory(struct imv_restore *restore, const char *backup, struct imv_error *err);

/* Everything was taken: compares and completes. IMV_CORRUPT names the first file that is missing, too many or
 * another. */
imv_status imv_restore_finish(struct imv_restore *restore, struct imv_error *err);

/* What was taken so far. */
uint64_t imv_restore_bytes(const struct imv_restore *restore);
size_t imv_restore_files(const struct imv_restore *restore);
