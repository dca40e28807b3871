/* expr_internal.h - the nodes that expr_compile.c makes and expr.c and expr_column.c run. */
#pragma once

#include "query/expr.h"
#include "query/fn/functions.h"

struct imv_member_set;
struct imv_regex;

enum imv_code_kind {
    IMV_CODE_CONSTANT,
    IMV_CODE_SLOT,
    IMV_CODE_LOCAL,
    IMV_CODE_TWIN_PROPERTY, /* slot, filled by group when it is absent */
    IMV_CODE_PROPERTY,      /* arguments[0].name */
    IMV_CODE_INDEX,
    IMV_CODE_SLICE, /* arguments[1] and [2] may be NULL */
    IMV_CODE_UNARY,
    IMV_CODE_BINARY,
    IMV_CODE_LOGIC, /* AND, OR, XOR */
    IMV_CODE_CHAIN,
    IMV_CODE_CASE, /* subject or NULL, then when and then by turns, then otherwise or NULL */
    IMV_CODE_CALL,
    IMV_CODE_COALESCE,      /* arguments are evaluated until one is not null */
    IMV_CODE_COMPREHENSION, /* list, where or NULL, result or NULL */
    IMV_CODE_QUANTIFIER,    /* list, where */
    IMV_CODE_REDUCE,        /* init, list, result */
    IMV_CODE_LABELS,
    IMV_CODE_LIST,
    IMV_CODE_MAP,
};

struct imv_code {
    enum imv_code_kind kind;
    bool can_fail;
    bool row_only; /* the column evaluator leaves it to the row evaluator */
    bool volatile_;
    uint32_t arguments_count;
    struct imv_code **arguments;
    const struct imv_expr *expr; /* whence it came: operators, names, spans */
    union {
        struct imv_value constant;
        struct {
            uint32_t slot; /* or local */
            struct imv_twin_group *group;
        };
        struct {
            const struct imv_function *function;
            const char *function_name;
        };
        struct imv_regex *regex;        /* BINARY =~ with a constant pattern */
        struct imv_member_set *members; /* BINARY IN with a constant list; NULL: compare with each item */
    };
};

/* Computes one node from the values of its arguments; not for kinds that evaluate lazily. */
imv_status imv_code_apply(struct imv_exec *exec, const struct imv_code *code, struct imv_arena *arena,
                          const struct imv_value *arguments, struct imv_value *result);

enum { IMV_CODE_ARGUMENTS_EAGER_MAX = 16 }; /* functions with more arguments go through the row evaluator's arena */
