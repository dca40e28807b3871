/* expr.h - expressions made ready to run, and their evaluation over batches of rows.
 *
 * imv_compile turns a bound tree of ast.h into nodes of its own: slots are resolved, parameters and everything that
 * needs no row is computed, constant patterns are compiled, and reads of a pattern variable's properties become reads
 * of a slot of their own (twin.h), so that h.usage_user is read once per twin and batch however often it is written.
 *
 * There are two evaluators of one meaning:
 *   - imv_code_column works on a whole batch, node by node: comparisons, arithmetic and logic on typed columns run in the
 *     loops of kernel.h, other operators and functions in a loop over values. The choice is made once per node and batch
 *     (1,024 rows), which is why nodes are a tree and no flat program: nothing is gained below that.
 *   - imv_code_row works on one row, and evaluates only what that row needs: CASE, coalesce, AND and OR before operands
 *     that can fail, comprehensions, quantifiers and reduce. The column evaluator calls it for such nodes.
 *
 * A column or value that comes out lives in the batch's arena, or longer. Errors carry the place in the text. The
 * statement's thread only.
 */
#pragma once

#include "query/column.h"
#include "query/exec.h"
#include "query/twin.h"

struct imv_code;

/* Collects what the expressions of one branch need from each batch. */
struct imv_compiler {
    struct imv_exec *exec;
    uint32_t slots_count; /* of a batch: the binder's, then those of properties; final when all is compiled */
    struct imv_twin_group *groups;
};

void imv_compiler_init(struct imv_compiler *compiler, struct imv_exec *exec, uint32_t slots_count);

/* The code lives in the statement's arena. */
imv_status imv_compile(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code);
/* NULL gives NULL. */
imv_status imv_compile_optional(struct imv_compiler *compiler, const struct imv_expr *expr, struct imv_code **code);

/* The value when it depends on no row and could be computed; else NULL. */
const struct imv_value *imv_code_constant(const struct imv_code *code);
struct imv_span imv_code_span(const struct imv_code *code);

/* The values of all rows of the batch. */
imv_status imv_code_column(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                           struct imv_column *column);

/* The value of one row. */
imv_status imv_code_row(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch, size_t row,
                        struct imv_value *value);

/* The value of an expression that reads no row; it lives in the statement's arena. */
imv_status imv_code_value(struct imv_exec *exec, const struct imv_code *code, struct imv_value *value);

/* The rows (rising) for which a predicate is true. picked has room for IMV_BATCH_ROWS_MAX. */
imv_status imv_code_pick(struct imv_exec *exec, const struct imv_code *code, struct imv_row_batch *batch,
                         uint16_t *picked, size_t *count);

/* ---- questions about trees, for the planner ---- */

/* Calls visit for each slot of the row that expr reads; a slot may come several times. */
void imv_expr_each_slot(const struct imv_expr *expr, void (*visit)(uint32_t slot, void *context), void *context);
bool imv_expr_reads_slot(const struct imv_expr *expr, uint32_t slot);
bool imv_expr_reads_any_slot(const struct imv_expr *expr);
/* May evaluation end in an error? Engine failures and spent memory aside. parameters are the statement's. */
bool imv_expr_can_fail(const struct imv_expr *expr, const struct imv_value *parameters);
/* Is another value possible for the same row (rand)? */
bool imv_expr_is_volatile(const struct imv_expr *expr);
/* a op b is b op' a, for comparisons. */
enum imv_binary_op imv_comparison_mirrored(enum imv_binary_op op);
