/* metrics.h - counters of the server, one table (metrics.def), printed as Prometheus text (exposition format 0.0.4).
 *
 * Updates are relaxed atomics on a cache line of their own and may come from any thread. Budgets (budget.h) are printed
 * along as imvdb_memory_bytes{pool="..."}.
 */
#pragma once

#include <stdint.h>

struct imv_buffer;

enum imv_metric {
#define METRIC(kind, name, help) IMV_METRIC_##name,
#include "storage/base/metrics.def"
#undef METRIC
    IMV_METRICS_COUNT
};

/* A counter goes up by amount; a gauge moves by it, down when negative. */
void imv_metric_add(enum imv_metric metric, int64_t amount);

/* Sets a gauge. */
void imv_metric_set(enum imv_metric metric, int64_t value);

/* Adds one observation, in nanoseconds, to a histogram; it is printed in seconds. */
void imv_metric_observe_ns(enum imv_metric metric, int64_t duration_ns);

/* The current value of a counter or gauge. */
int64_t imv_metric_value(enum imv_metric metric);

/* Appends all metrics, and all memory budgets, as Prometheus text. */
void imv_metrics_print(struct imv_buffer *out);
