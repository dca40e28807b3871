/* operator.h - what runs: a tree of operators that pull batches of rows from each other.
 *
 * imv_operator_open makes the operators of a plan, inputs first, each compiling its expressions. imv_operator_next asks
 * for the next batch: never an empty one; NULL at the end. A batch belongs to the operator that made it (its source)
 * and holds until that operator is asked again; Filter, Project and the like hand on the batch of their input with
 * slots added or rows taken away. Operators that keep rows (Aggregate, Sort, Distinct) copy them into their own arena.
 *
 * Only the operators of a pattern (Start, TwinScan, Filter) can be restarted: Optional runs them once per outer row.
 *
 * To add one: a plan kind, a file with a struct imv_operator_class, and its line in the table of operator.c. The
 * statement's thread only.
 */
#pragma once

#include "query/expr.h"
#include "query/plan.h"

struct imv_operator;

/* What the operators of one branch share. */
struct imv_branch {
    struct imv_exec *exec;
    struct imv_compiler compiler;
    uint32_t plan_slots_count;   /* those behind are of properties */
    struct imv_row_batch *outer; /* one row, for the Start of an inner plan; NULL: a row without values */
};

struct imv_operator_class {
    size_t bytes; /* of the operator's struct, which begins with a struct imv_operator */
    imv_status (*open)(struct imv_operator *op);
    imv_status (*next)(struct imv_operator *op, struct imv_row_batch **batch);
    imv_status (*restart)(struct imv_operator *op); /* NULL: cannot */
    void (*close)(struct imv_operator *op);         /* NULL: nothing to free */
};

struct imv_operator {
    const struct imv_operator_class *class;
    struct imv_exec *exec;
    struct imv_branch *branch; /* NULL above the branches */
    const struct imv_plan *plan;
    struct imv_operator *input;
    bool opened;        /* its open was called, if only to fail */
    uint64_t rows;      /* given so far */
    int64_t elapsed_ns; /* spent in next, inputs included; only when the exec profiles */
};

imv_status imv_operator_open(struct imv_exec *exec, struct imv_branch *branch, const struct imv_plan *plan,
                             struct imv_operator **op);
imv_status imv_operator_next(struct imv_operator *op, struct imv_row_batch **batch);
imv_status imv_operator_restart(struct imv_operator *op);
/* NULL is allowed; also after a failed open. */
void imv_operator_close(struct imv_operator *op);

/* ---- batches of a source ---- */

/* A batch with its arena. */
struct imv_source {
    struct imv_row_batch batch;
    struct imv_arena arena;
};

/* Before the first batch: all expressions are compiled, so the number of slots is final. slots_count 0: the
 * branch's. */
imv_status imv_source_init(struct imv_exec *exec, const struct imv_branch *branch, uint32_t slots_count,
                           struct imv_source *source);
static inline bool imv_source_ready(const struct imv_source *source) { return source->batch.slots != NULL; }
void imv_source_release(struct imv_source *source);
/* Empties the arena and makes every slot absent. */
void imv_source_reset(struct imv_source *source);

/* The slots of a row of another batch as constants. */
void imv_source_copy_row(struct imv_source *source, const struct imv_row_batch *batch, size_t row);

extern const struct imv_operator_class imv_op_start, imv_op_twin_scan, imv_op_optional, imv_op_sample_scan,
    imv_op_delete, imv_op_window, imv_op_filter, imv_op_project, imv_op_aggregate, imv_op_fill, imv_op_unwind,
    imv_op_distinct, imv_op_sort, imv_op_skip, imv_op_limit, imv_op_produce, imv_op_union;

/* Operators below an Optional and a Union, for PROFILE. */
const struct imv_operator *imv_optional_inner(const struct imv_operator *op);
const struct imv_operator *imv_union_branch(const struct imv_operator *op, uint32_t i);
