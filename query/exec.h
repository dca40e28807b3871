/* exec.h - what one running statement shares: its snapshot, memory, clock, parameters, and the way it ends early.
 *
 * imv_query_run makes one, on its stack, after binding, and every operator and function is handed a pointer. It is used
 * by the query's thread only.
 *
 * Memory: everything that a statement holds is charged to `budget` (through arenas, or imv_exec_take for what malloc
 * gives). A spent budget ends the statement with IMV_FULL. `arena` lives as long as the statement; what belongs to a
 * batch of rows lives in the batch's arena.
 *
 * Ending early: operators call imv_exec_poll once a batch and every few thousand steps of a long loop.
 *
 * Errors: the first imv_exec_fail fills the caller's imv_query_error; the status travels up through the operators.
 */
#pragma once

#include "engine/snapshot.h"
#include "query/ast.h"
#include "query/query.h"
#include "query/value.h"
#include "storage/base/arena.h"
#include "storage/base/budget.h"
#include "storage/base/prng.h"

struct imv_regex;
struct imv_twin_readers;

struct imv_exec {
    struct imv_engine *engine;
    struct imv_catalog *catalog;
    struct imv_snapshot *snapshot;
    const struct imv_query_request *request;
    const struct imv_clock *clock;
    struct imv_query_error *error; /* the caller's; may be NULL */
    struct imv_budget budget;      /* not registered by name: there are too many of them */
    struct imv_arena arena;
    int64_t now_ns;                     /* wall time, fixed per statement */
    const struct imv_value *parameters; /* by index into statement->parameters */
    uint64_t hash_seed;                 /* of tables keyed by what the query computes */
    struct imv_prng prng;               /* of rand() */
    uint64_t samples;                   /* rows read from series */
    struct imv_value *locals;           /* variables of comprehensions, by number */
    bool profile;                       /* operators take the time */
    uint64_t steps;                     /* of loops, to poll now and then */
    struct imv_regex *regexes;
    struct imv_twin_readers *twin_readers;
};

/* IMV_TIMEOUT or IMV_CANCELLED, with the error filled, when the statement is to end; else IMV_OK. */
imv_status imv_exec_poll(struct imv_exec *exec);

/* The same every 1,024 calls: for the body of a loop. */
static inline imv_status imv_exec_step(struct imv_exec *exec) {
    return ++exec->steps % 1024 == 0 ? imv_exec_poll(exec) : IMV_OK;
}

/* Fills the error for a place in the text and returns status. */
imv_status imv_exec_fail(struct imv_exec *exec, imv_status status, struct imv_span span, const char *code,
                         const char *detail, const char *format, ...) __attribute__((format(printf, 6, 7)));

/* The memory budget or malloc refused: IMV_FULL or IMV_NO_MEMORY. */
imv_status imv_exec_fail_memory(struct imv_exec *exec);

/* A failure of the engine below, with its own words. */
imv_status imv_exec_fail_engine(struct imv_exec *exec, const struct imv_error *err);

/* malloc and free that are charged to the budget; the size must be given back. NULL when refused. */
void *imv_exec_take(struct imv_exec *exec, size_t bytes);
void imv_exec_give(struct imv_exec *exec, void *memory, size_t bytes);

/* An arena charged to the statement. */
void imv_exec_arena_init(struct imv_exec *exec, struct imv_arena *arena);
