/* kernel.h - the inner loops of expressions: plain arrays in, plain arrays out.
 *
 * Each works on count 64-bit cells. Rows without a value take part like the others, whatever their cells hold, and are
 * masked by the bitmap afterwards; so a kernel never fails and never looks at a bitmap. b_constant: b has one cell. Any
 * thread.
 */
#pragma once

#include "query/ast.h"

#include <stddef.h>

/* out[i] = a[i] op b[i], 0 or 1, for the six comparisons. */
void imv_kernel_compare_integers(enum imv_binary_op op, const uint64_t *a, const uint64_t *b, bool b_constant,
                                 size_t count, uint64_t *out);
void imv_kernel_compare_floats(enum imv_binary_op op, const uint64_t *a, const uint64_t *b, bool b_constant,
                               size_t count, uint64_t *out);

/* + - * on integers. False when the result of some row does not fit: out is then of no use. */
bool imv_kernel_integers(enum imv_binary_op op, const uint64_t *a, bool a_constant, const uint64_t *b, bool b_constant,
                         size_t count, uint64_t *out);
/* + - * / on doubles. */
void imv_kernel_floats(enum imv_binary_op op, const uint64_t *a, bool a_constant, const uint64_t *b, bool b_constant,
                       size_t count, uint64_t *out);

/* Integers as doubles. */
void imv_kernel_to_floats(const uint64_t *integers, size_t count, uint64_t *out);

/* out[i] is the start of the bucket [start, start + width) that holds times[i]; buckets are multiples of width. Times
 * mostly rise, so the bucket of the row before is tried first. */
void imv_kernel_buckets(const uint64_t *times, size_t count, int64_t width, uint64_t *out);
