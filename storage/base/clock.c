#include "storage/base/clock.h"

#include <time.h>

static int64_t read_clock(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t system_wall_ns(const struct imv_clock *clock) {
    (void)clock;
    return read_clock(CLOCK_REALTIME);
}

static int64_t system_monotonic_ns(const struct imv_clock *clock) {
    (void)clock;
    return read_clock(CLOCK_MONOTONIC);
}

const struct imv_clock *imv_clock_system(void) {
    static const struct imv_clock clock = {.wall_ns = system_wall_ns, .monotonic_ns = system_monotonic_ns};
    return &clock;
}

static int64_t manual_wall_ns(const struct imv_clock *clock) {
    return atomic_load(&((struct imv_manual_clock *)(uintptr_t)clock)->wall_ns);
}

static int64_t manual_monotonic_ns(const struct imv_clock *clock) {
    return atomic_load(&((struct imv_manual_clock *)(uintptr_t)clock)->monotonic_ns);
}

void imv_manual_clock_init(struct imv_manual_clock *manual, int64_t wall_ns) {
    manual->clock = (struct imv_clock){.wall_ns = manual_wall_ns, .monotonic_ns = manual_monotonic_ns};
    atomic_init(&manual->wall_ns, wall_ns);
    atomic_init(&manual->monotonic_ns, 0);
}

void imv_manual_clock_advance(struct imv_manual_clock *manual, int64_t duration_ns) {
    atomic_fetch_add(&manual->wall_ns, duration_ns);
    atomic_fetch_add(&manual->monotonic_ns, duration_ns);
}
