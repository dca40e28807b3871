/* window.h - what Fill shares with Window: widths, and a window as a value. */
#pragma once

#include "query/ops/operator.h"

/* The width in nanoseconds, above 0; TypeError or ArgumentError otherwise. */
imv_status imv_window_width(struct imv_branch *branch, const struct imv_window *window, int64_t *width);

/* start + width, or the end of time. */
int64_t imv_window_end(int64_t start, int64_t width);

/* {start, end, duration}. */
imv_status imv_window_value(struct imv_exec *exec, struct imv_arena *arena, int64_t start, int64_t width,
                            struct imv_value *value);
