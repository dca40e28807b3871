/* opt.h - the rules that rearrange a plan before it runs, one a file, applied in the order of imv_optimize.
 *
 *     push_filters     predicates go down to the first operator that gives what they read
 *     tag_conditions   predicates over tags, each about one tag and joined by AND, OR, XOR and NOT, become conditions of the
 *                      TwinScan, answered by the inverted index
 *     time_bounds      comparisons with a sample's time become bounds of the SampleScan, so that other chunks are not read
 *     push_ranges      comparisons of fields with constants let the SampleScan leave out what cannot meet them; the Filter stays
 *     push_buckets     plain aggregates of fields, by window or in all, are made by the SampleScan, from statistics of chunks
 *                      where it can; the Aggregate folds its buckets instead of rows
 *     top              ORDER BY with LIMIT keeps only the rows that can be among the first
 *     recent_windows   ORDER BY window.start DESC with LIMIT reads the newest windows first and ends when there are enough
 *     recent_samples   ORDER BY the time of samples DESC with LIMIT does the same with samples
 *     needed_slots     each operator learns which slots are read above it
 *
 * A rule keeps the rows that come out, and their order; an aggregate that would have failed in a window that is not shown
 * need not be made. Predicates that can fail stay where they are written, so that no
 * row meets one that a predicate before it would have kept away.
 *
 * To add one: a file, a line in this list and one in imv_optimize.
 */
#pragma once

#include "query/plan.h"

imv_status imv_optimize(struct imv_exec *exec, struct imv_plan **plan);

typedef imv_status imv_rule(struct imv_exec *exec, struct imv_plan **plan);
imv_rule imv_rule_push_filters, imv_rule_tag_conditions, imv_rule_time_bounds, imv_rule_push_ranges,
    imv_rule_push_buckets, imv_rule_top, imv_rule_recent_windows, imv_rule_recent_samples, imv_rule_needed_slots;

/* Can a SampleScan be run again for other times? Its own bounds must be the same for every row. */
bool imv_plan_can_restart(const struct imv_plan *scan);

/* Applies a rule to each plan below an operator: its input, inner plan or branches. */
imv_status imv_rule_below(struct imv_exec *exec, struct imv_plan *plan, imv_rule *rule);
