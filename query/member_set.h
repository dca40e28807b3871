/* member_set.h - IN over a constant list: the list as a hash table, made once per statement.
 *
 * Only of lists whose items can be told apart by their hash: numbers, strings, booleans, durations, nulls. The set
 * refers to the list's items and lives, like them, as long as the statement. The answers are those of imv_value_equal
 * with each item, three-valued: what is not found among items that include null is unknown.
 */
#pragma once

#include "query/exec.h"

struct imv_member_set;

/* *set NULL: the list is short, or has items of other kinds. IMV_NO_MEMORY, IMV_FULL. */
imv_status imv_member_set_new(struct imv_exec *exec, const struct imv_value *list, struct imv_member_set **set);

/* Can the set answer for this value? Times equal texts and numbers that mean them, so those are compared one by one. */
static inline bool imv_member_set_takes(const struct imv_value *value) { return value->kind != IMV_VALUE_TIME; }

/* value IN list. */
imv_truth imv_member_set_has(const struct imv_member_set *set, const struct imv_value *value);
