/* io_sim.h - a simulated disk behind the I/O seam: deterministic, in memory, as nasty as a seed says.
 *
 * Every file keeps two images: what a reader of the running process sees, and what would be there after a power cut.
 * A durable write or a sync moves bytes from the first to the second; a crash (imv_sim_crash) decides for every
 * unsynced 512-byte sector and every unsynced directory change, from the seed, whether it made it, and keeps only that.
 * Operations are counted; a fault can be armed at the n-th one. A write that fails may still have written a part. After
 * a failed sync the kernel takes the unwritten sectors for clean: a later sync succeeds and writes none of them.
 *
 * A directory, too, survives a crash for certain only when its parent was synced; "." and "/" are always there.
 * O_DIRECT files refuse what is not aligned; the data of a write under way must not change (asserted). A crash leaves
 * handles of the former process that answer EIO to everything, so that what it had open can be closed and freed; its
 * writes under way complete with EIO at the next poll. Memory is not limited and malloc failures abort.
 */
#pragma once

#include "storage/base/io.h"

struct imv_sim_options {
    uint64_t seed;
    /* Per mille of unsynced sectors that survive a crash; 0 drops all, 1000 keeps all. */
    unsigned survive_per_mille;
    /* A write in flight at a crash may be torn: only some of its sectors arrive, in any order. */
    bool tear;
    /* Asynchronous writes complete in an order drawn from the seed instead of submission order. */
    bool reorder;
};

enum imv_sim_fault {
    IMV_SIM_NONE,
    IMV_SIM_FAIL,  /* EIO, nothing written */
    IMV_SIM_SHORT, /* EIO after a part was written */
    IMV_SIM_NOSPC, /* ENOSPC, nothing written */
    IMV_SIM_CRASH, /* the power goes: this and every later operation fails with EIO until imv_sim_crash */
};

struct imv_sim;

imv_status imv_sim_new(const struct imv_sim_options *options, struct imv_sim **sim, struct imv_error *err);
struct imv_io *imv_sim_io(struct imv_sim *sim); /* owned by sim */
/* All files are closed. NULL is allowed. */
void imv_sim_free(struct imv_sim *sim);

/* Arms a fault at the operation with this number, counted from 1 over writes (when submitted), syncs, truncates,
 * renames, unlinks and directory syncs; sticky makes every later operation fail the same way. One fault is armed at a
 * time. */
void imv_sim_arm(struct imv_sim *sim, uint64_t operation, enum imv_sim_fault fault, bool sticky);
/* How many operations have been counted so far. */
uint64_t imv_sim_operations(const struct imv_sim *sim);
/* Power cut and restart: open files are forgotten, unsynced state survives as options say, faults are disarmed. Writes
 * under way are torn as options say. */
void imv_sim_crash(struct imv_sim *sim);
/* Direct access to a file's surviving bytes for tests that flip bits; NULL when absent. Valid until the next
 * operation. */
uint8_t *imv_sim_bytes(struct imv_sim *sim, const char *path, size_t *size);
/* A deep copy of the whole disk, writes under way included, with another seed: to try many crashes from one state. */
imv_status imv_sim_clone(const struct imv_sim *sim, uint64_t seed, struct imv_sim **copy, struct imv_error *err);
