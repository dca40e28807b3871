/* sample_scan.h - what Aggregate and Top ask of a SampleScan below them: the newest windows or samples first. */
#pragma once

#include "query/ops/operator.h"

/* The times that the statement admits, where these do not depend on the row. */
imv_status imv_sample_scan_range(struct imv_operator *op, int64_t *first, int64_t *last);
/* Narrows what is read to [first, last]: from the first batch on, or, when the scan is at its end, once more from the
 * beginning. */
imv_status imv_sample_scan_narrow(struct imv_operator *op, int64_t first, int64_t last);

/* How many rows Top keeps: skip + limit, UINT64_MAX when they are no counts, which Skip and Limit refuse. skip may be
 * NULL. */
imv_status imv_top_count(struct imv_exec *exec, const struct imv_code *skip, const struct imv_code *limit,
                         uint64_t *count);
