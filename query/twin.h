/* twin.h - what a query sees of a twin: labels, tags, and the current values of its series properties.
 *
 * A property of a twin is a tag or a field of its label, never both. A tag is text that the catalog keeps; a field read
 * as a scalar is its newest value in the snapshot, which costs a read through a cursor. Cursors are made once per label
 * and set of fields, and kept until the statement ends.
 *
 * Properties of pattern variables are read by column: all that the query names of one variable are one group, filled
 * for a whole batch at a time, with one cursor read per twin. Whatever else evaluates to a twin (an element of a
 * collected list) is read one property at a time.
 *
 * The query's thread only.
 */
#pragma once

#include "query/column.h"
#include "query/exec.h"

/* The properties of one node variable that a branch of the statement reads by name. */
struct imv_twin_group {
    uint32_t node_slot;
    uint32_t names_count;
    struct imv_str *names;
    uint32_t *slots; /* where each property goes */
    struct imv_twin_group *next;
    struct imv_twin_reader *reader; /* of the label seen last; private to twin.c */
};

/* Fills the slots of the group for every row of the batch; what is no twin gives null. */
imv_status imv_twin_group_fill(struct imv_exec *exec, struct imv_twin_group *group, struct imv_row_batch *batch);

/* One property; null when the twin has none. The value lives in arena or longer. */
imv_status imv_twin_property(struct imv_exec *exec, struct imv_arena *arena, struct imv_series *twin,
                             struct imv_str name, struct imv_value *value);

/* All tags, then all fields that have a current value, as a map. */
imv_status imv_twin_properties(struct imv_exec *exec, struct imv_arena *arena, struct imv_series *twin,
                               struct imv_value *map);

/* Time of the newest row of any field; null when there is none. */
imv_status imv_twin_last_time(struct imv_exec *exec, struct imv_series *twin, struct imv_value *time);

bool imv_twin_has_labels(const struct imv_series *twin, const struct imv_label_expr *labels);
bool imv_label_name_matches(struct imv_str label, const struct imv_label_expr *labels);

/* Frees the cursors; before the snapshot is released. */
void imv_twin_readers_free(struct imv_exec *exec);
