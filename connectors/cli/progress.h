/* progress.h - how far a bulk load is: a bar on a terminal, and a small file that lets an interrupted load go on.
 *
 * The file is in $XDG_STATE_HOME/imvdb or ~/.local/state/imvdb, named by a hash of what is loaded where; it holds the
 * offset up to which everything is durable. It is replaced by rename, and removed when the load is complete.
 */
#pragma once

#include "storage/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct imv_progress {
    const char *name; /* shown beside the bar */
    uint64_t total, done;
    uint64_t rows;
    int64_t start_ns, shown_ns, saved_ns;
    bool terminal;
    char state_path[4096]; /* "" when there is no place for it */
};

/* identity is everything that makes two loads the same: file, size, modification time, server, options. */
void imv_progress_init(struct imv_progress *progress, const char *name, uint64_t total, const char *identity);

/* The offset that an earlier, interrupted load of the same identity reached; 0 when there is none. */
uint64_t imv_progress_saved(const struct imv_progress *progress);

/* done bytes of the input are durable now, with rows rows. Draws and saves at most some times a second. */
void imv_progress_update(struct imv_progress *progress, uint64_t done, uint64_t rows);

/* Draws the last state, saves it, or removes the file when the load is complete. */
void imv_progress_end(struct imv_progress *progress, bool complete);
