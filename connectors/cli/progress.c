#include "connectors/cli/progress.h"

#include "storage/base/clock.h"
#include "storage/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t draw_ns = 100000000, save_ns = 500000000;

/* Makes every directory of path. */
static bool make_directories(const char *path) {
    char part[4096];
    if (strlen(path) >= sizeof part) return false;
    strcpy(part, path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = 0;
        mkdir(part, 0777); /* it may be there; the last one decides */
        *slash = '/';
    }
    struct stat status;
    return mkdir(part, 0777) == 0 || (stat(part, &status) == 0 && S_ISDIR(status.st_mode));
}

static bool state_directory(char *path, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int used = state != NULL && *state == '/' ? snprintf(path, size, "%s/imvdb", state)
               : home != NULL                 ? snprintf(path, size, "%s/.local/state/imvdb", home)
                                              : -1;
    return used > 0 && (size_t)used + 64 < size && make_directories(path);
}

void imv_progress_init(struct imv_progress *progress, const char *name, uint64_t total, const char *identity) {
    char directory[2048];
    *progress = (struct imv_progress){.name = name, .total = total, .terminal = isatty(STDERR_FILENO) != 0};
    progress->start_ns = imv_clock_monotonic_ns(imv_clock_system());
    struct imv_hash128 hash = imv_hash128(identity, strlen(identity), 0);
    if (state_directory(directory, sizeof directory))
        snprintf(progress->state_path, sizeof progress->state_path, "%s/import-%016" PRIx64 "%016" PRIx64, directory,
                 hash.high, hash.low);
}

uint64_t imv_progress_saved(const struct imv_progress *progress) {
    uint64_t done = 0;
    FILE *file = progress->state_path[0] == 0 ? NULL : fopen(progress->state_path, "r");
    if (file == NULL) return 0;
    if (fscanf(file, "%" SCNu64, &done) != 1 || done > progress->total) done = 0;
    fclose(file);
    return done;
}

static void save(const struct imv_progress *progress) {
    char temporary[4200];
    if (progress->state_path[0] == 0) return;
    snprintf(temporary, sizeof temporary, "%s.new", progress->state_path);
    FILE *file = fopen(temporary, "w");
    if (file == NULL) return; /* the load itself does not depend on it */
    bool written = fprintf(file, "%" PRIu64 "\n", progress->done) > 0;
    if (fclose(file) == 0 && written) rename(temporary, progress->state_path);
}

static void draw(const struct imv_progress *progress, int64_t now) {
    enum { WIDTH = 30 };
    if (!progress->terminal) return;
    double share = progress->total == 0 ? 1 : (double)progress->done / (double)progress->total;
    double seconds = (double)(now - progress->start_ns) * 1e-9;
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++) bar[i] = i < (int)(share * WIDTH) ? '#' : '.';
    bar[WIDTH] = 0;
    fprintf(stderr, "\r%s [%s] %3d %%  %" PRIu64 " rows, %.0f rows/s ", progress->name, bar, (int)(share * 100),
            progress->rows, seconds > 0 ? (double)progress->rows / seconds : 0);
}

void imv_progress_update(struct imv_progress *progress, uint64_t done, uint64_t rows) {
    int64_t now = imv_clock_monotonic_ns(imv_clock_system());
    progress->done = done;
    progress->rows = rows;
    if (now - progress->shown_ns >= draw_ns) {
        draw(progress, now);
        progress->shown_ns = now;
    }
    if (now - progress->saved_ns >= save_ns) {
        save(progress);
        progress->saved_ns = now;
    }
}

void imv_progress_end(struct imv_progress *progress, bool complete) {
    draw(progress, imv_clock_monotonic_ns(imv_clock_system()));
    if (progress->terminal) fputc('\n', stderr);
    if (!complete)
        save(progress);
    else if (progress->state_path[0] != 0)
        unlink(progress->state_path);
}
