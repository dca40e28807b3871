/* retention.h - takes out parts whose every row is past its label's retention.
 *
 * A reader never sees a row older than now minus the retention of its label, so dropping files is only about space. A
 * part goes when all labels that its class ever had within its range of labels are past their present horizon: a
 * retention that was made longer keeps old parts, one that was made shorter lets them go early, and a label that is
 * kept for ever holds the parts that it may share. The part first leaves `meta`, then the engine's list, and its files
 * are dropped with the last snapshot that holds it.
 */
#pragma once

#include "engine/catalog.h"

#include <limits.h>

struct imv_engine;

/* How often the background looks: much finer than a slot. */
#define IMV_RETENTION_PERIOD_NS (INT64_C(60) * 1000000000)

/* Rows with a timestamp below it are past the label's retention; INT64_MIN when they are kept for ever. */
static inline int64_t imv_retention_horizon(const struct imv_label *label, int64_t now_ns) {
    int64_t retention_ns = atomic_load_explicit(&label->retention_ns, memory_order_relaxed), horizon;
    if (retention_ns <= 0 || __builtin_sub_overflow(now_ns, retention_ns, &horizon)) return INT64_MIN;
    return horizon;
}

/* Retires what is past retention, and the tombstones that no part needs, when the time to look has come; *did_work
 * tells whether anything was. */
imv_status imv_retention_step(struct imv_engine *engine, bool *did_work, struct imv_error *err);
