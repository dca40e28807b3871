/* functions.h - every function of TwinQL, one row each in functions.def.
 *
 * A name is matched without regard to case and underscores, so percentile_cont, percentileCont and PERCENTILECONT are
 * one. A scalar function maps values to a value; an aggregate keeps a state per group. Rows that share a name: a few
 * words mean an aggregate over samples and something else otherwise (last(list) is the last element of a list); there
 * sample_aggregate is set and imv_function_find gives the scalar row, imv_function_find_aggregate the other.
 *
 * A scalar function is called with evaluated arguments; when null_in_null_out is set it never sees a null one. Memory
 * it needs comes from call->arena, which lives as long as the batch of rows. Functions keep no state; any thread.
 */
#pragma once

#include "query/ast.h"
#include "query/value.h"
#include "storage/base/status.h"

struct imv_exec;
struct imv_column;

enum { IMV_FUNCTION_ARGUMENTS_ANY = 255 };

/* Where a call happens: what a function may use and where its errors point. */
struct imv_call {
    struct imv_exec *exec;
    struct imv_arena *arena; /* for the result; freed with the batch */
    struct imv_span span;    /* of the call in the text */
    const char *name;        /* of the function or operator, for messages */
};

/* Fails with IMV_INVALID at the place of the call. */
imv_status imv_call_fail(struct imv_call *call, const char *code, const char *detail, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* TypeError / InvalidArgumentValue: what the function needs, and what it got. */
imv_status imv_call_fail_argument(struct imv_call *call, const char *needs, const struct imv_value *got);
/* A list value of items; fails when lists nest too deep. */
imv_status imv_call_list(struct imv_call *call, const struct imv_value *items, size_t count, struct imv_value *list);

typedef imv_status imv_scalar_function(struct imv_call *call, const struct imv_value *arguments, size_t count,
                                       struct imv_value *result);

/* How an aggregate works; see aggregate.h. */
struct imv_aggregate;

struct imv_function {
    struct imv_str name; /* as documented */
    uint8_t arguments_min;
    uint8_t arguments_max; /* IMV_FUNCTION_ARGUMENTS_ANY: no limit */
    bool aggregate;
    bool sample_aggregate; /* scalar row: an aggregate of this name is meant when the argument mentions samples */
    bool null_in_null_out;
    bool volatile_;                /* another value for each call: never folded (rand) */
    enum imv_static_type result;   /* IMV_STATIC_ANY when it depends */
    enum imv_static_type argument; /* what the first argument must be; ANY: checked at run time only */
    imv_scalar_function *scalar;
    const struct imv_aggregate *state;
};

/* NULL when there is none. */
const struct imv_function *imv_function_find(struct imv_str name);
/* The aggregate of that name when the scalar row says sample_aggregate; otherwise as imv_function_find. */
const struct imv_function *imv_function_find_aggregate(struct imv_str name);
/* All rows, for suggestions and lists; NULL behind the last. */
const struct imv_function *imv_function_at(size_t i);
