/* clock.h - time as an argument.
 *
 * Whatever needs the time holds a struct imv_clock; the server gives it the system's, a test one that it sets. Wall
 * time is nanoseconds since 1970 UTC and may jump; monotonic time never goes back and is for deadlines and durations.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct imv_clock {
    int64_t (*wall_ns)(const struct imv_clock *clock);
    int64_t (*monotonic_ns)(const struct imv_clock *clock);
};

/* The system's clock; any thread. */
const struct imv_clock *imv_clock_system(void);

/* A clock that stands still until it is set; any thread. */
struct imv_manual_clock {
    struct imv_clock clock; /* first: pass &manual.clock */
    _Atomic int64_t wall_ns;
    _Atomic int64_t monotonic_ns;
};
void imv_manual_clock_init(struct imv_manual_clock *manual, int64_t wall_ns);
void imv_manual_clock_advance(struct imv_manual_clock *manual, int64_t duration_ns);

static inline int64_t imv_clock_wall_ns(const struct imv_clock *clock) { return clock->wall_ns(clock); }
static inline int64_t imv_clock_monotonic_ns(const struct imv_clock *clock) { return clock->monotonic_ns(clock); }
