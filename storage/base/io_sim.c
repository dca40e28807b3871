#include "storage/base/io_sim.h"

#include "storage/base/assert.h"
#include "storage/base/prng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum { SECTOR_BYTES = 512 };

/* A sector is clean (the running process and the disk agree), dirty (a sync will bring it to the disk) or lost: a sync
 * failed on it, after which the kernel takes it for clean, so that a later sync succeeds without writing it. */
enum sector_state { CLEAN, DIRTY, LOST };

struct sector {
    uint8_t *stable; /* what the disk has, while not clean */
    enum sector_state state;
};

/* A file's content, found by any number of names. Owned by sim->nodes. */
struct node {
    struct node *next;
    uint8_t *bytes; /* what the running process reads; zeros beyond size */
    struct sector *sectors;
    size_t capacity; /* whole sectors */
    size_t size;
    size_t size_stable;
    const struct sim_file *locker; /* who holds the advisory lock */
    struct node *copy;             /* while cloning */
    bool reached;                  /* while sweeping */
};

/* A name. node is NULL for a directory. */
struct entry {
    char *path;
    struct node *node;
};

struct directory {
    struct entry *entries; /* in byte order of path */
    size_t count;
};

/* A change of a directory that is not synced: path is set to node (or made a directory), or removed; a rename also
 * removes `from`. Each made it to the disk or not on its own. */
struct change {
    char *path;
    char *from; /* NULL but for a rename */
    struct node *node;
    bool removal;
};

struct pending {
    struct imv_io_write *write; /* NULL in a clone: nobody waits for it */
    struct node *node;
    uint8_t *data; /* a copy: the disk writes what was submitted */
    size_t size;
    uint64_t offset;
    bool durable;
    bool dead; /* the power went while it was under way */
    enum imv_sim_fault fault;
};

struct sim_file {
    struct imv_file file; /* first */
    struct sim_file *next;
    struct node *node;
    unsigned flags;
    bool stale; /* opened before a crash */
};

struct imv_sim {
    struct imv_io io; /* first */
    struct imv_sim_options options;
    struct imv_prng prng;
    uint64_t operations;
    uint64_t fault_operation; /* 0: none is armed */
    enum imv_sim_fault fault;
    bool fault_sticky;
    bool off; /* the power is gone */
    struct node *nodes;
    struct sim_file *files;
    struct directory live, stable;
    struct change *changes;
    size_t changes_count;
    struct pending *queue; /* oldest first */
    size_t queue_count;
};

static struct imv_sim *sim_of(struct imv_io *io) { return (struct imv_sim *)io; }
static struct sim_file *sim_file(struct imv_file *file) { return (struct sim_file *)file; }

/* The simulator serves tests: without memory there is nothing to test. */
static void *must(void *memory) {
    imv_assert(memory != NULL);
    return memory;
}

static void *copy_bytes(const void *bytes, size_t size) {
    void *copy = must(malloc(size == 0 ? 1 : size));
    if (size > 0) memcpy(copy, bytes, size);
    return copy;
}

static bool draw(struct imv_sim *sim) { return imv_prng_below(&sim->prng, 1000) < sim->options.survive_per_mille; }

static imv_status no_power(struct imv_error *err) { return imv_fail_errno(err, IMV_IO, EIO, "sim: the power is off"); }

/* -- content ------------------------------------------------------------------------------------------------------- */

static struct node *node_new(struct imv_sim *sim) {
    struct node *node = must(calloc(1, sizeof *node));
    node->next = sim->nodes;
    sim->nodes = node;
    return node;
}

static void node_free(struct node *node) {
    for (size_t i = 0; i < node->capacity / SECTOR_BYTES; i++) free(node->sectors[i].stable);
    free(node->sectors);
    free(node->bytes);
    free(node);
}

static void node_reserve(struct node *node, size_t size) {
    if (size <= node->capacity) return;
    size_t capacity = (size + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
    if (capacity < node->capacity * 2) capacity = node->capacity * 2;
    size_t before = node->capacity / SECTOR_BYTES, after = capacity / SECTOR_BYTES;
    node->bytes = must(realloc(node->bytes, capacity));
    memset(node->bytes + node->capacity, 0, capacity - node->capacity);
    node->sectors = must(realloc(node->sectors, after * sizeof *node->sectors));
    memset(node->sectors + before, 0, (after - before) * sizeof *node->sectors);
    node->capacity = capacity;
}

static void sector_dirty(struct node *node, size_t index) {
    struct sector *sector = &node->sectors[index];
    if (sector->stable == NULL) sector->stable = copy_bytes(node->bytes + index * SECTOR_BYTES, SECTOR_BYTES);
    sector->state = DIRTY;
}

static void sector_clean(struct node *node, size_t index) {
    struct sector *sector = &node->sectors[index];
    free(sector->stable);
    *sector = (struct sector){0};
}

/* The part of [offset, offset + size) that lies in one sector. */
struct span {
    size_t sector, offset, size;
};

static struct span first_span(uint64_t offset, size_t size) {
    size_t room = SECTOR_BYTES - offset % SECTOR_BYTES;
    return (struct span){(size_t)(offset / SECTOR_BYTES), (size_t)offset, size < room ? size : room};
}

static void node_write(struct node *node, const uint8_t *data, size_t size, uint64_t offset, bool durable) {
    if (size == 0) return;
    node_reserve(node, (size_t)offset + size);
    size_t end = (size_t)offset + size;
    for (size_t done = 0; done < size;) {
        struct span span = first_span(offset + done, size - done);
        if (!durable) sector_dirty(node, span.sector);
        memcpy(node->bytes + span.offset, data + done, span.size);
        if (durable) sector_clean(node, span.sector);
        done += span.size;
    }
    if (end > node->size) node->size = end;
    if (durable) node->size_stable = node->size;
}

static void node_sync(struct node *node) {
    for (size_t i = 0; i < node->capacity / SECTOR_BYTES; i++) {
        if (node->sectors[i].state == DIRTY) sector_clean(node, i);
    }
    node->size_stable = node->size;
}

/* What the kernel does with dirty pages that it cannot write: some may have made it, and all count as clean. */
static void node_sync_failed(struct imv_sim *sim, struct node *node) {
    for (size_t i = 0; i < node->capacity / SECTOR_BYTES; i++) {
        if (node->sectors[i].state != DIRTY) continue;
        if (draw(sim))
            sector_clean(node, i);
        else
            node->sectors[i].state = LOST;
    }
}

static void node_truncate(struct node *node, size_t size) {
    node_reserve(node, size);
    if (size < node->size) {
        for (size_t at = size; at < node->size;) {
            struct span span = first_span(at, node->size - at);
            sector_dirty(node, span.sector);
            memset(node->bytes + span.offset, 0, span.size);
            at += span.size;
        }
    }
    node->size = size;
}

/* Keeps of the unsynced state what the seed says. */
static void node_crash(struct imv_sim *sim, struct node *node) {
    size_t reached = 0;
    bool size_survives = node->size == node->size_stable || draw(sim);
    for (size_t i = 0; i < node->capacity / SECTOR_BYTES; i++) {
        if (node->sectors[i].state == CLEAN) continue;
        bool survives = node->sectors[i].state == DIRTY && draw(sim);
        if (survives)
            reached = (i + 1) * SECTOR_BYTES;
        else
            memcpy(node->bytes + i * SECTOR_BYTES, node->sectors[i].stable, SECTOR_BYTES);
        sector_clean(node, i);
    }
    if (!size_survives) {
        bool grew = node->size > node->size_stable;
        size_t kept = reached < node->size ? reached : node->size;
        node->size = grew && kept > node->size_stable ? kept : node->size_stable;
    }
    if (node->size < node->capacity) memset(node->bytes + node->size, 0, node->capacity - node->size);
    node->size_stable = node->size;
    node->locker = NULL;
}

/* -- names --------------------------------------------------------------------------------------------------------- */

/* "a//b/" and "a/b" are one name. The caller frees the result. */
static char *clean_path(const char *path) {
    char *clean = must(malloc(strlen(path) + 2)), *to = clean;
    for (const char *from = path; *from != 0; from++) {
        if (*from == '/' && to > clean && to[-1] == '/') continue;
        *to++ = *from;
    }
    if (to > clean + 1 && to[-1] == '/') to--;
    *to = 0;
    return clean;
}

static char *parent_path(const char *path) {
    const char *slash = strrchr(path, '/');
    if (slash == NULL) return copy_bytes(".", 2);
    if (slash == path) return copy_bytes("/", 2);
    char *parent = copy_bytes(path, (size_t)(slash - path) + 1);
    parent[slash - path] = 0;
    return parent;
}

/* Where path stands, or would stand. */
static size_t directory_position(const struct directory *directory, const char *path) {
    size_t low = 0, high = directory->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(directory->entries[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct entry *directory_find(const struct directory *directory, const char *path) {
    size_t position = directory_position(directory, path);
    if (position == directory->count || strcmp(directory->entries[position].path, path) != 0) return NULL;
    return &directory->entries[position];
}

static void directory_set(struct directory *directory, const char *path, struct node *node) {
    struct entry *found = directory_find(directory, path);
    if (found != NULL) {
        found->node = node;
        return;
    }
    size_t position = directory_position(directory, path);
    directory->entries = must(realloc(directory->entries, (directory->count + 1) * sizeof *directory->entries));
    memmove(directory->entries + position + 1, directory->entries + position,
            (directory->count - position) * sizeof *directory->entries);
    directory->entries[position] = (struct entry){copy_bytes(path, strlen(path) + 1), node};
    directory->count++;
}

static void directory_remove(struct directory *directory, const char *path) {
    struct entry *found = directory_find(directory, path);
    if (found == NULL) return;
    free(found->path);
    size_t position = (size_t)(found - directory->entries);
    memmove(found, found + 1, (directory->count - position - 1) * sizeof *found);
    directory->count--;
}

static void directory_release(struct directory *directory) {
    for (size_t i = 0; i < directory->count; i++) free(directory->entries[i].path);
    free(directory->entries);
    *directory = (struct directory){0};
}

static bool is_directory(const struct directory *directory, const char *path) {
    if (strcmp(path, ".") == 0 || strcmp(path, "/") == 0) return true;
    const struct entry *entry = directory_find(directory, path);
    return entry != NULL && entry->node == NULL;
}

static void change_apply(struct directory *directory, const struct change *change) {
    if (change->from != NULL) directory_remove(directory, change->from);
    if (change->removal)
        directory_remove(directory, change->path);
    else
        directory_set(directory, change->path, change->node);
}

static void change_free(struct change *change) {
    free(change->path);
    free(change->from);
}

/* Does the change for the running process and remembers that the disk may not have it. Takes over the strings. */
static void change_make(struct imv_sim *sim, struct change change) {
    change_apply(&sim->live, &change);
    sim->changes = must(realloc(sim->changes, (sim->changes_count + 1) * sizeof *sim->changes));
    sim->changes[sim->changes_count++] = change;
}

/* Brings to the disk the changes in the directory at path; all of them when path is NULL, each if the seed says so. */
static void changes_settle(struct imv_sim *sim, const char *path) {
    size_t kept = 0;
    for (size_t i = 0; i < sim->changes_count; i++) {
        struct change *change = &sim->changes[i];
        char *parent = parent_path(change->path);
        bool settles = path == NULL || strcmp(parent, path) == 0;
        free(parent);
        if (!settles) {
            sim->changes[kept++] = *change;
            continue;
        }
        if (path != NULL || draw(sim)) change_apply(&sim->stable, change);
        change_free(change);
    }
    sim->changes_count = kept;
}

/* After a crash: what the disk has is what there is, but for entries whose directory did not make it. Parents sort
 * before their children, so one pass is enough. */
static void names_crash(struct imv_sim *sim) {
    changes_settle(sim, NULL);
    directory_release(&sim->live);
    for (size_t i = 0; i < sim->stable.count; i++) {
        const struct entry *entry = &sim->stable.entries[i];
        char *parent = parent_path(entry->path);
        if (is_directory(&sim->live, parent)) directory_set(&sim->live, entry->path, entry->node);
        free(parent);
    }
    directory_release(&sim->stable);
    for (size_t i = 0; i < sim->live.count; i++) {
        directory_set(&sim->stable, sim->live.entries[i].path, sim->live.entries[i].node);
    }
}

/* -- faults -------------------------------------------------------------------------------------------------------- */

static size_t sectors_of(size_t size) { return (size + SECTOR_BYTES - 1) / SECTOR_BYTES; }

/* Brings some sectors of a write that was under way to the disk. */
static void tear(struct imv_sim *sim, struct node *node, const uint8_t *data, size_t size, uint64_t offset) {
    enum { NOTHING, ALL, PREFIX, EACH } mode = draw(sim) ? ALL : NOTHING;
    if (sim->options.tear) mode = (int)imv_prng_below(&sim->prng, EACH + 1);
    size_t prefix = imv_prng_below(&sim->prng, sectors_of(size) + 1) * SECTOR_BYTES;
    for (size_t done = 0; done < size;) {
        struct span span = first_span(offset + done, size - done);
        bool arrives =
            mode == ALL || (mode == PREFIX && done < prefix) || (mode == EACH && imv_prng_below(&sim->prng, 2) == 0);
        if (arrives) node_write(node, data + done, span.size, offset + done, true);
        done += span.size;
    }
}

static void power_off(struct imv_sim *sim) {
    sim->off = true;
    for (size_t i = 0; i < sim->queue_count; i++) {
        struct pending *pending = &sim->queue[i];
        if (pending->dead) continue;
        pending->dead = true;
        bool refused = pending->fault == IMV_SIM_FAIL || pending->fault == IMV_SIM_NOSPC;
        if (!refused) tear(sim, pending->node, pending->data, pending->size, pending->offset);
    }
}

/* Counts an operation and says what befalls it. */
static enum imv_sim_fault next_fault(struct imv_sim *sim) {
    sim->operations++;
    if (sim->fault_operation == 0 || sim->operations < sim->fault_operation) return IMV_SIM_NONE;
    return sim->operations == sim->fault_operation || sim->fault_sticky ? sim->fault : IMV_SIM_NONE;
}

static int fault_errno(enum imv_sim_fault fault) {
    return fault == IMV_SIM_NONE ? 0 : fault == IMV_SIM_NOSPC ? ENOSPC : EIO;
}

static imv_status fault_status(enum imv_sim_fault fault, const char *what, struct imv_error *err) {
    if (fault == IMV_SIM_NONE) return IMV_OK;
    return imv_fail_errno(err, IMV_IO, fault_errno(fault), "sim: cannot %s", what);
}

/* A write that ends now, well or not. */
static void write_now(struct imv_sim *sim, struct node *node, const uint8_t *data, size_t size, uint64_t offset,
                      bool durable, enum imv_sim_fault fault) {
    if (fault == IMV_SIM_NONE) node_write(node, data, size, offset, durable);
    if (fault == IMV_SIM_SHORT) {
        size_t part = imv_prng_below(&sim->prng, sectors_of(size)) * SECTOR_BYTES;
        node_write(node, data, part, offset, false);
    }
}

/* -- the seam ------------------------------------------------------------------------------------------------------ */

static imv_status sim_open(struct imv_io *io, const char *path, unsigned flags, struct imv_file **file,
                           struct imv_error *err) {
    struct imv_sim *sim = sim_of(io);
    if (sim->off) return no_power(err);
    char *name = clean_path(path), *parent = parent_path(name);
    const struct entry *entry = directory_find(&sim->live, name);
    imv_status status = IMV_OK;
    if (!is_directory(&sim->live, parent) || (entry == NULL && !(flags & IMV_OPEN_CREATE))) {
        status = imv_fail_errno(err, IMV_NOT_FOUND, ENOENT, "sim: cannot open %s", path);
    } else if (entry != NULL && (flags & IMV_OPEN_EXCLUSIVE)) {
        status = imv_fail_errno(err, IMV_EXISTS, EEXIST, "sim: cannot open %s", path);
    } else if (is_directory(&sim->live, name)) {
        status = imv_fail_errno(err, IMV_IO, EISDIR, "sim: cannot open %s", path);
    }
    free(parent);
    if (status == IMV_OK) {
        struct node *node = entry != NULL ? entry->node : node_new(sim);
        struct sim_file *opened = must(malloc(sizeof *opened));
        *opened = (struct sim_file){.file.io = io, .next = sim->files, .node = node, .flags = flags};
        sim->files = opened;
        *file = &opened->file;
        if (entry == NULL) {
            change_make(sim, (struct change){.path = name, .node = node});
            return IMV_OK;
        }
    }
    free(name);
    return status;
}

static void sim_close(struct imv_file *file) {
    struct imv_sim *sim = sim_of(file->io);
    struct sim_file **link = &sim->files;
    while (*link != sim_file(file)) link = &(*link)->next;
    *link = sim_file(file)->next;
    if (!sim_file(file)->stale && sim_file(file)->node->locker == sim_file(file)) sim_file(file)->node->locker = NULL;
    free(file);
}

/* What keeps any call on a file from being made. */
static imv_status file_check(const struct sim_file *file, unsigned flag, const void *data, size_t size, uint64_t offset,
                             struct imv_error *err) {
    if (sim_of(file->file.io)->off || file->stale) return no_power(err);
    if (!(file->flags & flag)) return imv_fail_errno(err, IMV_IO, EBADF, "sim: the file is not open for this");
    if ((file->flags & IMV_OPEN_DIRECT) && ((uintptr_t)data | size | offset) % IMV_IO_BLOCK_BYTES != 0) {
        return imv_fail_errno(err, IMV_IO, EINVAL, "sim: O_DIRECT with %zu bytes at %" PRIu64 " is not aligned", size,
                              offset);
    }
    return IMV_OK;
}

static imv_status sim_read(struct imv_file *file, void *buffer, size_t size, uint64_t offset, size_t *read_bytes,
                           struct imv_error *err) {
    IMV_TRY(file_check(sim_file(file), IMV_OPEN_READ, buffer, size, offset, err));
    const struct node *node = sim_file(file)->node;
    size_t left = offset < node->size ? node->size - (size_t)offset : 0;
    *read_bytes = size < left ? size : left;
    if (*read_bytes > 0) memcpy(buffer, node->bytes + offset, *read_bytes);
    return IMV_OK;
}

static imv_status sim_write(struct imv_file *file, const void *data, size_t size, uint64_t offset, bool durable,
                            struct imv_error *err) {
    IMV_TRY(file_check(sim_file(file), IMV_OPEN_WRITE, data, size, offset, err));
    struct imv_sim *sim = sim_of(file->io);
    enum imv_sim_fault fault = next_fault(sim);
    write_now(sim, sim_file(file)->node, data, size, offset, durable, fault);
    if (fault == IMV_SIM_CRASH) {
        power_off(sim);
        tear(sim, sim_file(file)->node, data, size, offset);
    }
    return fault_status(fault, "write", err);
}

static imv_status sim_sync(struct imv_file *file, struct imv_error *err) {
    struct imv_sim *sim = sim_of(file->io);
    if (sim->off || sim_file(file)->stale) return no_power(err);
    enum imv_sim_fault fault = next_fault(sim);
    if (fault == IMV_SIM_NONE)
        node_sync(sim_file(file)->node);
    else if (fault == IMV_SIM_CRASH)
        power_off(sim);
    else
        node_sync_failed(sim, sim_file(file)->node);
    return fault_status(fault, "sync", err);
}

static imv_status sim_size(struct imv_file *file, uint64_t *bytes, struct imv_error *err) {
    if (sim_of(file->io)->off || sim_file(file)->stale) return no_power(err);
    *bytes = sim_file(file)->node->size;
    return IMV_OK;
}

/* True when the operation has its effect; with CRASH it is left to the seed whether the disk ever sees it. */
static bool takes_effect(struct imv_sim *sim, enum imv_sim_fault fault) {
    if (fault == IMV_SIM_CRASH) power_off(sim);
    return fault == IMV_SIM_NONE || fault == IMV_SIM_CRASH;
}

static imv_status sim_truncate(struct imv_file *file, uint64_t bytes, struct imv_error *err) {
    IMV_TRY(file_check(sim_file(file), IMV_OPEN_WRITE, NULL, 0, 0, err));
    struct imv_sim *sim = sim_of(file->io);
    enum imv_sim_fault fault = next_fault(sim);
    if (takes_effect(sim, fault)) node_truncate(sim_file(file)->node, (size_t)bytes);
    return fault_status(fault, "truncate", err);
}

static imv_status sim_lock(struct imv_file *file, struct imv_error *err) {
    if (sim_of(file->io)->off || sim_file(file)->stale) return no_power(err);
    struct node *node = sim_file(file)->node;
    if (node->locker != NULL && node->locker != sim_file(file)) {
        return imv_fail(err, IMV_BUSY, "sim: the file is locked by another");
    }
    node->locker = sim_file(file);
    return IMV_OK;
}

static imv_status sim_rename(struct imv_io *io, const char *from, const char *to, struct imv_error *err) {
    struct imv_sim *sim = sim_of(io);
    if (sim->off) return no_power(err);
    char *old_name = clean_path(from), *new_name = clean_path(to), *parent = parent_path(new_name);
    const struct entry *entry = directory_find(&sim->live, old_name);
    imv_status status = IMV_OK;
    if (entry == NULL || entry->node == NULL || !is_directory(&sim->live, parent)) {
        status = imv_fail_errno(err, IMV_NOT_FOUND, ENOENT, "sim: cannot rename %s to %s", from, to);
    }
    free(parent);
    if (status == IMV_OK) {
        enum imv_sim_fault fault = next_fault(sim);
        status = fault_status(fault, "rename", err);
        if (takes_effect(sim, fault)) {
            change_make(sim, (struct change){.path = new_name, .from = old_name, .node = entry->node});
            return status;
        }
    }
    free(old_name);
    free(new_name);
    return status;
}

static imv_status sim_unlink(struct imv_io *io, const char *path, struct imv_error *err) {
    struct imv_sim *sim = sim_of(io);
    if (sim->off) return no_power(err);
    char *name = clean_path(path);
    const struct entry *entry = directory_find(&sim->live, name);
    imv_status status = IMV_OK;
    if (entry == NULL || entry->node == NULL) {
        status = imv_fail_errno(err, IMV_NOT_FOUND, ENOENT, "sim: cannot remove %s", path);
    } else {
        enum imv_sim_fault fault = next_fault(sim);
        status = fault_status(fault, "unlink", err);
        if (takes_effect(sim, fault)) {
            change_make(sim, (struct change){.path = name, .removal = true});
            return status;
        }
    }
    free(name);
    return status;
}

static imv_status sim_make_directory(struct imv_io *io, const char *path, struct imv_error *err) {
    struct imv_sim *sim = sim_of(io);
    if (sim->off) return no_power(err);
    char *name = clean_path(path), *parent = parent_path(name);
    imv_status status = IMV_OK;
    if (!is_directory(&sim->live, parent)) {
        status = imv_fail_errno(err, IMV_NOT_FOUND, ENOENT, "sim: cannot make directory %s", path);
    } else if (!is_directory(&sim->live, name)) {
        if (directory_find(&sim->live, name) != NULL) {
            status = imv_fail_errno(err, IMV_IO, EEXIST, "sim: cannot make directory %s", path);
        } else {
            change_make(sim, (struct change){.path = copy_bytes(name, strlen(name) + 1)});
        }
    }
    free(parent);
    free(name);
    return status;
}

static imv_status sim_sync_directory(struct imv_io *io, const char *path, struct imv_error *err) {
    struct imv_sim *sim = sim_of(io);
    if (sim->off) return no_power(err);
    char *name = clean_path(path);
    imv_status status = IMV_OK;
    if (!is_directory(&sim->live, name)) {
        status = imv_fail_errno(err, IMV_NOT_FOUND, ENOENT, "sim: cannot sync directory %s", path);
    } else {
        enum imv_sim_fault fault = next_fault(sim);
        if (fault == IMV_SIM_NONE) changes_settle(sim, name);
        if (fault == IMV_SIM_CRASH) power_off(sim);
        status = fault_status(fault, "sync a directory", err);
    }
    free(name);
    return status;
}

/* visit may change the directory, so it is shown a copy. */
static imv_status sim_list(struct imv_io *io, const char *path,
                           imv_status (*visit)(void *context, const char *name, struct imv_error *err), void *context,
                           struct imv_error *err) {
    struct imv_sim *sim = sim_of(io);
    if (sim->off) return no_power(err);
    char *name = clean_path(path);
    imv_status status = IMV_OK;
    if (!is_directory(&sim->live, name)) {
        status = imv_fail_errno(err, IMV_NOT_FOUND, ENOENT, "sim: cannot list %s", path);
    }
    struct directory shown = {0};
    for (size_t i = 0; status == IMV_OK && i < sim->live.count; i++) {
        char *parent = parent_path(sim->live.entries[i].path);
        if (strcmp(parent, name) == 0) directory_set(&shown, sim->live.entries[i].path, NULL);
        free(parent);
    }
    for (size_t i = 0; status == IMV_OK && i < shown.count; i++) {
        const char *slash = strrchr(shown.entries[i].path, '/');
        status = visit(context, slash != NULL ? slash + 1 : shown.entries[i].path, err);
    }
    directory_release(&shown);
    free(name);
    return status;
}

/* The operation is counted when it is submitted, so that its number does not depend on the order of completion. */
static void sim_submit(struct imv_io *io, struct imv_io_write *write) {
    struct imv_sim *sim = sim_of(io);
    struct sim_file *file = sim_file(write->file);
    bool refused = file_check(file, IMV_OPEN_WRITE, write->data, write->size, write->offset, NULL) != IMV_OK;
    enum imv_sim_fault fault = refused ? IMV_SIM_FAIL : next_fault(sim);
    sim->queue = must(realloc(sim->queue, (sim->queue_count + 1) * sizeof *sim->queue));
    sim->queue[sim->queue_count++] = (struct pending){.write = write,
                                                      .node = file->node,
                                                      .data = copy_bytes(write->data, write->size),
                                                      .size = write->size,
                                                      .offset = write->offset,
                                                      .durable = write->durable,
                                                      .dead = sim->off || file->stale,
                                                      .fault = fault};
    if (fault == IMV_SIM_CRASH) power_off(sim);
}

static void complete(struct imv_sim *sim, size_t index) {
    struct pending pending = sim->queue[index];
    sim->queue_count--;
    memmove(sim->queue + index, sim->queue + index + 1, (sim->queue_count - index) * sizeof *sim->queue);
    /* The caller must not have touched the data of a write under way. */
    imv_assert(pending.write == NULL || memcmp(pending.data, pending.write->data, pending.size) == 0);
    if (!pending.dead) {
        write_now(sim, pending.node, pending.data, pending.size, pending.offset, pending.durable, pending.fault);
    }
    free(pending.data);
    if (pending.write != NULL) pending.write->done(pending.write, pending.dead ? EIO : fault_errno(pending.fault));
}

static int sim_poll(struct imv_io *io, bool wait) {
    struct imv_sim *sim = sim_of(io);
    size_t count = sim->queue_count;
    if (sim->options.reorder && count > 0) {
        count = imv_prng_below(&sim->prng, count + 1);
        if (count == 0 && wait) count = 1;
    }
    for (size_t i = 0; i < count; i++) {
        complete(sim, sim->options.reorder ? imv_prng_below(&sim->prng, sim->queue_count) : 0);
    }
    return (int)count;
}

static void sim_io_free(struct imv_io *io) { (void)io; /* imv_sim_free frees it with the disk */ }

static const struct imv_io_ops sim_ops = {
    .name = "sim",
    .open = sim_open,
    .close = sim_close,
    .read = sim_read,
    .write = sim_write,
    .sync = sim_sync,
    .size = sim_size,
    .truncate = sim_truncate,
    .lock = sim_lock,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .make_directory = sim_make_directory,
    .sync_directory = sim_sync_directory,
    .list = sim_list,
    .submit = sim_submit,
    .poll = sim_poll,
    .free = sim_io_free,
};

/* -- the simulator ------------------------------------------------------------------------------------------------- */

imv_status imv_sim_new(const struct imv_sim_options *options, struct imv_sim **sim, struct imv_error *err) {
    imv_assert(options->survive_per_mille <= 1000);
    *sim = calloc(1, sizeof **sim);
    if (*sim == NULL) return imv_fail(err, IMV_NO_MEMORY, "sim: no memory");
    (*sim)->io.ops = &sim_ops;
    (*sim)->options = *options;
    imv_prng_init(&(*sim)->prng, options->seed);
    return IMV_OK;
}

struct imv_io *imv_sim_io(struct imv_sim *sim) {
    return &sim->io;
}

void imv_sim_free(struct imv_sim *sim) {
    if (sim == NULL) return;
    imv_assert(sim->files == NULL);
    for (size_t i = 0; i < sim->queue_count; i++) free(sim->queue[i].data);
    for (size_t i = 0; i < sim->changes_count; i++) change_free(&sim->changes[i]);
    directory_release(&sim->live);
    directory_release(&sim->stable);
    for (struct node *node = sim->nodes; node != NULL;) {
        struct node *next = node->next;
        node_free(node);
        node = next;
    }
    free(sim->queue);
    free(sim->changes);
    free(sim);
}

void imv_sim_arm(struct imv_sim *sim, uint64_t operation, enum imv_sim_fault fault, bool sticky) {
    sim->fault_operation = fault == IMV_SIM_NONE ? 0 : operation;
    sim->fault = fault;
    sim->fault_sticky = sticky;
}

uint64_t imv_sim_operations(const struct imv_sim *sim) { return sim->operations; }

/* Frees content that no name leads to any more. */
static void sweep(struct imv_sim *sim) {
    for (size_t i = 0; i < sim->live.count; i++) {
        if (sim->live.entries[i].node != NULL) sim->live.entries[i].node->reached = true;
    }
    struct node **link = &sim->nodes;
    while (*link != NULL) {
        struct node *node = *link;
        bool reached = node->reached;
        node->reached = false;
        if (reached)
            link = &node->next;
        else {
            *link = node->next;
            node_free(node);
        }
    }
}

void imv_sim_crash(struct imv_sim *sim) {
    power_off(sim);
    names_crash(sim);
    for (struct node *node = sim->nodes; node != NULL; node = node->next) node_crash(sim, node);
    for (struct sim_file *file = sim->files; file != NULL; file = file->next) file->stale = true;
    sweep(sim);
    imv_sim_arm(sim, 0, IMV_SIM_NONE, false);
    sim->off = false;
}

uint8_t *imv_sim_bytes(struct imv_sim *sim, const char *path, size_t *size) {
    char *name = clean_path(path);
    const struct entry *entry = directory_find(&sim->live, name);
    free(name);
    if (entry == NULL || entry->node == NULL) return NULL;
    node_reserve(entry->node, 1); /* so that an empty file is not taken for none */
    *size = entry->node->size;
    return entry->node->bytes;
}

static void node_clone(struct imv_sim *to, struct node *from) {
    struct node *node = node_new(to);
    struct node *next = node->next;
    *node = *from;
    node->next = next;
    node->locker = NULL;
    size_t sectors = from->capacity / SECTOR_BYTES;
    node->bytes = copy_bytes(from->bytes, from->capacity);
    node->sectors = copy_bytes(from->sectors, sectors * sizeof *from->sectors);
    for (size_t i = 0; i < sectors; i++) {
        if (from->sectors[i].stable != NULL) {
            node->sectors[i].stable = copy_bytes(from->sectors[i].stable, SECTOR_BYTES);
        }
    }
    from->copy = node;
}

static struct node *copy_of(const struct node *node) { return node != NULL ? node->copy : NULL; }

static void directory_clone(struct directory *to, const struct directory *from) {
    for (size_t i = 0; i < from->count; i++) directory_set(to, from->entries[i].path, copy_of(from->entries[i].node));
}

imv_status imv_sim_clone(const struct imv_sim *sim, uint64_t seed, struct imv_sim **copy, struct imv_error *err) {
    struct imv_sim_options options = sim->options;
    options.seed = seed;
    IMV_TRY(imv_sim_new(&options, copy, err));
    struct imv_sim *to = *copy;
    to->operations = sim->operations;
    to->off = sim->off;
    for (struct node *node = sim->nodes; node != NULL; node = node->next) node_clone(to, node);
    directory_clone(&to->live, &sim->live);
    directory_clone(&to->stable, &sim->stable);
    to->changes = must(calloc(sim->changes_count + 1, sizeof *to->changes));
    for (; to->changes_count < sim->changes_count; to->changes_count++) {
        const struct change *from = &sim->changes[to->changes_count];
        to->changes[to->changes_count] =
            (struct change){.path = copy_bytes(from->path, strlen(from->path) + 1),
                            .from = from->from != NULL ? copy_bytes(from->from, strlen(from->from) + 1) : NULL,
                            .node = copy_of(from->node),
                            .removal = from->removal};
    }
    to->queue = must(calloc(sim->queue_count + 1, sizeof *to->queue));
    for (size_t i = 0; i < sim->queue_count; i++) {
        if (sim->queue[i].dead) continue;
        struct pending *pending = &to->queue[to->queue_count++];
        *pending = sim->queue[i];
        pending->write = NULL;
        pending->node = copy_of(pending->node);
        pending->data = copy_bytes(pending->data, pending->size);
    }
    return IMV_OK;
}
