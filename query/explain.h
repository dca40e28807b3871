/* explain.h - EXPLAIN and PROFILE: a plan as rows of a result.
 *
 *     operator            details                                         rows      ms     (the last two: PROFILE)
 *     Produce             h.hostname, m                                   3         0.41
 *       Aggregate         max(s.usage_user) BY h.hostname                 3         0.40
 *         SampleScan      h FROM $a TO $b -> usage_user                   1080      0.31
 *           TwinScan      h:cpu, region = 'eu'                            3         0.02
 *             Start                                                       1         0.00
 *
 * An operator stands above its input; branches of Union and the inner plan of Optional are indented below it. ms is the
 * time spent in an operator and everything below it.
 */
#pragma once

#include "query/ops/operator.h"

/* Sends the rows; op is NULL for EXPLAIN. IMV_CANCELLED: the sink refused. */
imv_status imv_explain(const struct imv_plan *plan, const struct imv_operator *op, struct imv_query_sink *sink,
                       uint64_t *rows);
