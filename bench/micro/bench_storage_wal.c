/* Writes groups of one size to a journal as fast as they become durable, two under way, through each back end, and
 * recovers a journal. Segments are released as soon as they are durable, so that all are used again after a warm-up.
 *
 * Estimate: a group costs one O_DIRECT | RWF_DSYNC write, so groups/s is what the device does at queue depth 2 (about
 * 6k/s at 4 KiB, 3k/s at 64 KiB, 2.5k/s at 256 KiB on a virtual disk); framing costs one XXH3 and one attempt to
 * compress, at 1 MiB of random bytes about 0.2 ms beside 2 ms of the device. The plain back end writes one by one.
 *
 * Recovery reads, checks and hands over; the estimate is the device's reading, about 1 s per GB.
 *
 *     bench_storage_wal [directory on the disk to measure, default .]
 */
#include "storage/base/clock.h"
#include "storage/base/log.h"
#include "storage/base/prng.h"
#include "storage/base/ring.h"
#include "storage/wal.h"

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SEGMENT_BYTES = 64 << 20, WARM_BYTES = 200 << 20, SAMPLES_MAX = 1 << 16 };

static const int64_t RUN_NS = 1000000000;

static struct imv_error err;
static struct imv_ring ring;
static struct imv_io *io;
static struct imv_wal *wal;
static uint8_t payload[IMV_WAL_PAYLOAD_BYTES_MAX];
static int64_t submitted_ns[IMV_WAL_IN_FLIGHT];
static int64_t samples_ns[SAMPLES_MAX];
static size_t samples_count;
static bool keep; /* nothing is released */

static void must(imv_status status) {
    if (status == IMV_OK) return;
    fprintf(stderr, "%s\n", err.message);
    exit(1);
}

static int64_t now_ns(void) { return imv_clock_monotonic_ns(imv_clock_system()); }

static void on_synced(void *context, uint64_t position, imv_status status, const struct imv_error *error) {
    (void)context;
    if (status != IMV_OK) {
        fprintf(stderr, "%s\n", error->message);
        exit(1);
    }
    if (samples_count < SAMPLES_MAX) {
        samples_ns[samples_count++] = now_ns() - submitted_ns[position % IMV_WAL_IN_FLIGHT];
    }
    if (!keep) imv_wal_release(wal, position);
}

static imv_status on_replay(void *context, uint64_t position, const uint8_t *bytes, size_t size,
                            struct imv_error *error) {
    (void)position, (void)bytes, (void)error;
    *(uint64_t *)context += size;
    return IMV_OK;
}

static void open_wal(const char *directory, uint64_t *replayed_bytes, uint64_t replay_after) {
    struct imv_wal_options options = {.segment_bytes = SEGMENT_BYTES,
                                      .replay_after = replay_after,
                                      .replay = on_replay,
                                      .synced = on_synced,
                                      .context = replayed_bytes};
    must(imv_wal_open(io, directory, &options, &wal, &err));
}

/* Writes groups of size until bytes are written or time is over; returns how many. */
static uint64_t write_groups(size_t size, uint64_t bytes, int64_t duration_ns) {
    int64_t end_ns = now_ns() + duration_ns;
    uint64_t count = 0, position = 0;
    while (count * size < bytes && now_ns() < end_ns) {
        int64_t started_ns = now_ns();
        imv_status status = imv_wal_write(wal, payload, size, &position, &err);
        if (status == IMV_BUSY) {
            imv_io_poll(io, true);
            continue;
        }
        must(status);
        submitted_ns[position % IMV_WAL_IN_FLIGHT] = started_ns;
        count++;
    }
    while (imv_io_poll(io, true) > 0) {}
    return count;
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure(size_t size) {
    samples_count = 0;
    int64_t start_ns = now_ns();
    uint64_t count = write_groups(size, UINT64_MAX, RUN_NS);
    double seconds = (double)(now_ns() - start_ns) * 1e-9;
    qsort(samples_ns, samples_count, sizeof *samples_ns, by_size);
    printf("%-8s %7zu bytes  %7.0f groups/s %7.1f MB/s  p50 %6.3f ms  p99 %6.3f ms\n", io->ops->name, size,
           (double)count / seconds, (double)(count * size) / seconds * 1e-6,
           (double)samples_ns[samples_count / 2] * 1e-6, (double)samples_ns[samples_count * 99 / 100] * 1e-6);
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *where) {
    (void)about, (void)kind, (void)where;
    return remove(path);
}

static void run(const char *directory) {
    uint64_t replayed_bytes = 0;
    int64_t start_ns = now_ns();
    open_wal(directory, &replayed_bytes, 0);
    printf("%-8s open of a new directory %.3f s\n", io->ops->name, (double)(now_ns() - start_ns) * 1e-9);
    write_groups(1 << 20, WARM_BYTES, 1000 * RUN_NS);
    for (size_t size = 4000; size <= 1 << 20; size *= 4) measure(size);
    uint64_t before = imv_wal_synced(wal);
    keep = true;
    write_groups(64 << 10, 512 << 20, 1000 * RUN_NS);
    imv_wal_close(wal);
    start_ns = now_ns();
    open_wal(directory, &replayed_bytes, before);
    double seconds = (double)(now_ns() - start_ns) * 1e-9;
    printf("%-8s recovery of %.0f MB %.3f s, %.2f s per GB\n", io->ops->name, (double)replayed_bytes * 1e-6, seconds,
           seconds / ((double)replayed_bytes * 1e-9));
    imv_wal_close(wal);
    keep = false;
    nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int main(int argc, char **argv) {
    imv_log_set_level(IMV_LOG_WARN);
    char directory[4096];
    snprintf(directory, sizeof directory, "%s/bench_wal_%d", argc > 1 ? argv[1] : ".", (int)getpid());
    struct imv_prng prng;
    imv_prng_init(&prng, 1);
    for (size_t i = 0; i < sizeof payload; i += 8) imv_put_u64(payload + i, imv_prng_next(&prng));
    must(imv_io_sys_new(&io, &err));
    run(directory);
    imv_io_free(io);
    if (imv_ring_open(&ring, 64, &err) != IMV_OK) {
        printf("%s\n", err.message);
        return 0;
    }
    must(imv_io_uring_new(&ring, &io, &err));
    run(directory);
    imv_io_free(io);
    imv_ring_close(&ring);
    return 0;
}
