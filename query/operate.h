/* operate.h - the operators of TwinQL on single values, with openCypher's rules.
 *
 * null in, null out, except where three-valued logic knows better (false AND null is false). Integers are exact: an
 * overflow is an error and a division truncates; one float makes the result a float; ^ always gives a float. Times and
 * durations: time +- duration, time - time, duration +- duration, duration * and / number, duration / duration.
 *
 * Pure computation but for memory from call->arena; errors carry call->span.
 */
#pragma once

#include "query/fn/functions.h"

/* Any binary operator but AND, OR and XOR. */
imv_status imv_operate_binary(struct imv_call *call, enum imv_binary_op op, const struct imv_value *a,
                              const struct imv_value *b, struct imv_value *result);
imv_status imv_operate_unary(struct imv_call *call, enum imv_unary_op op, const struct imv_value *a,
                             struct imv_value *result);

/* A value as an operand of AND, OR, XOR, NOT or a predicate. TypeError when it is neither boolean nor null. */
imv_status imv_operate_truth(struct imv_call *call, const struct imv_value *value, imv_truth *truth);
imv_truth imv_truth_and(imv_truth a, imv_truth b);
imv_truth imv_truth_or(imv_truth a, imv_truth b);
imv_truth imv_truth_xor(imv_truth a, imv_truth b);
imv_truth imv_truth_not(imv_truth a);

imv_status imv_operate_index(struct imv_call *call, const struct imv_value *base, const struct imv_value *at,
                             struct imv_value *result);
/* from and to may be NULL: to the ends. */
imv_status imv_operate_slice(struct imv_call *call, const struct imv_value *base, const struct imv_value *from,
                             const struct imv_value *to, struct imv_value *result);
/* base.name, of a map, a twin, a time (year .. nanosecond, epochSeconds, epochMillis) or a duration (hours .. ). */
imv_status imv_operate_property(struct imv_call *call, const struct imv_value *base, struct imv_str name,
                                struct imv_value *result);
