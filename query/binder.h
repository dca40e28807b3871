/* binder.h - the state that the binder's files share; nobody else includes it.
 *
 * bind.c has variables, scopes, clauses and the statement; bind_pattern.c patterns; bind_projection.c WITH and RETURN
 * with their aggregation; bind_expression.c expressions; bind_type.c what is known of types.
 *
 * Expressions are bound by copying: imv_bind_expression returns a new tree, the parsed one stays as it was. So the
 * parsed tree of a column can still be compared, name by name, with parts of ORDER BY that mean the same.
 *
 * A function that returns a pointer or bool returns NULL or false after an error, which is then in binder->error.
 */
#pragma once

#include "query/ast.h"
#include "query/error.h"

struct imv_function;

/* What all * of a statement may become together: a chain of WITH * is short to write, but its columns grow as the
 * square. */
enum { IMV_STAR_COLUMNS_MAX = 16 * 1024 };

/* A name that is visible. */
struct imv_scope_entry {
    struct imv_str name;
    struct imv_variable *variable;
};

/* What is visible at a point of the query; of equal names the last one counts. */
struct imv_scope {
    struct imv_scope_entry *entries;
    uint32_t count;
};

/* A variable of a comprehension, quantifier or reduce, while its body is bound; on the C stack, innermost first. */
struct imv_local {
    struct imv_variable *variable;
    const struct imv_local *outer;
};

/* A projection while it is bound. */
struct imv_projection_state {
    struct imv_projection *projection;
    const struct imv_scope *input;       /* what its aggregates see */
    struct imv_expr **sources;           /* the parsed expression of each item */
    struct imv_expr **aggregate_sources; /* and of each aggregate */
    uint32_t aggregate_sources_count;
    bool sorting;         /* in ORDER BY, not in an item */
    bool sort_aggregates; /* this sort key contains an aggregate */
};

struct imv_binder {
    struct imv_statement *statement;
    struct imv_arena *arena;
    struct imv_query_error *error;
    imv_status status; /* of the first error */
    struct imv_single_query *query;
    struct imv_scope scope;
    struct imv_samples *samples; /* the last SAMPLES that WITH did not drop, or NULL: what WINDOW buckets */
    const struct imv_local *locals;
    uint32_t star_columns; /* made of all * so far */
    /* ---- where the expression being bound stands ---- */
    struct imv_projection_state *after; /* not NULL: evaluated after aggregation or DISTINCT */
    const char *constant_in;            /* not NULL: no variables here; "LIMIT" for the message */
    bool in_aggregate;                  /* an argument of an aggregate */
    bool patterns_allowed;              /* as predicates: in conditions only */
    bool uses_window;                   /* set when a variable that depends on a window was met */
    /* The first thing that is written right but cannot be run; reported only when nothing is wrong. */
    const char *unsupported;
    struct imv_span unsupported_span;
};

/* ---- errors (bind.c) ---- */

/* A SyntaxError; returns NULL. The first error wins. */
void *imv_binder_fail(struct imv_binder *binder, struct imv_span span, const char *detail, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* With another code. */
void *imv_binder_fail_as(struct imv_binder *binder, struct imv_span span, const char *code, const char *detail,
                         const char *format, ...) __attribute__((format(printf, 5, 6)));
void *imv_binder_fail_memory(struct imv_binder *binder);
void imv_binder_unsupported(struct imv_binder *binder, struct imv_span span, const char *message);

void *imv_binder_alloc(struct imv_binder *binder, size_t count, size_t size);
void *imv_binder_append(struct imv_binder *binder, void **items, uint32_t *count, size_t element);

/* ---- variables and scopes (bind.c) ---- */

/* NULL when the name is not visible. */
struct imv_variable *imv_scope_find(const struct imv_scope *scope, struct imv_str name);
bool imv_scope_add(struct imv_binder *binder, struct imv_scope *scope, struct imv_str name,
                   struct imv_variable *variable);

/* A new variable of the row, with the next slot; not in scope yet. name may be {NULL, 0}. */
struct imv_variable *imv_binder_new_variable(struct imv_binder *binder, struct imv_str name, struct imv_span span,
                                             enum imv_variable_kind kind, enum imv_static_type type);
/* The same, put into scope; VariableAlreadyBound when the name is taken. */
struct imv_variable *imv_binder_declare(struct imv_binder *binder, struct imv_str name, struct imv_span span,
                                        enum imv_variable_kind kind, enum imv_static_type type);
/* What a variable becomes when its value is copied to a new slot: samples and windows become maps. */
enum imv_variable_kind imv_binder_kind_of_copy(const struct imv_expr *expr);

/* UndefinedVariable, with a suggestion. Returns NULL. */
void *imv_binder_fail_undefined(struct imv_binder *binder, struct imv_str name, struct imv_span span);

/* ---- expressions (bind_expression.c) ---- */

/* Returns the bound copy. The context is what binder says. */
struct imv_expr *imv_bind_expression(struct imv_binder *binder, const struct imv_expr *expr);
/* In place; a NULL *expr is fine. */
bool imv_bind_in_place(struct imv_binder *binder, struct imv_expr **expr);
/* A condition: WHERE, FILTER. Must be boolean; may contain pattern predicates. */
bool imv_bind_condition(struct imv_binder *binder, struct imv_expr **expr, const char *where);
/* An expression without variables. */
bool imv_bind_constant(struct imv_binder *binder, struct imv_expr **expr, const char *where);

/* A reference to a variable of the row. */
struct imv_expr *imv_bind_reference(struct imv_binder *binder, const struct imv_expr *expr,
                                    struct imv_variable *variable);
/* The slot of a field of samples or of a window, made when it is new; NULL with an error set. */
const struct imv_field_slot *imv_bind_sample_field(struct imv_binder *binder, struct imv_samples *samples,
                                                   struct imv_str name, struct imv_span span);

/* The function of a parsed call, by name and by whether its arguments mention samples; NULL when there is none. */
const struct imv_function *imv_bind_function(struct imv_binder *binder, const struct imv_expr *call);
/* Does a parsed expression contain an aggregate call? */
bool imv_bind_aggregates(struct imv_binder *binder, const struct imv_expr *expr);
/* The copy of an aggregate call: arguments bound against the input, without a slot yet. */
struct imv_expr *imv_bind_aggregate_call(struct imv_binder *binder, const struct imv_expr *call);

/* ---- projections (bind_projection.c) ---- */

bool imv_bind_projection(struct imv_binder *binder, struct imv_clause *clause);
/* Called for every part of an expression while binder->after is set. *done: the result (NULL: an error) stands for the
 * whole part; otherwise it is bound as usual. */
struct imv_expr *imv_bind_after(struct imv_binder *binder, const struct imv_expr *expr, bool *done);

/* ---- patterns (bind_pattern.c) ---- */

bool imv_bind_patterns(struct imv_binder *binder, struct imv_pattern *patterns, uint32_t count);
/* A pattern as a predicate may only use variables that exist. */
bool imv_bind_pattern_predicate(struct imv_binder *binder, const struct imv_pattern *pattern);

/* ---- types (bind_type.c) ---- */

/* "an integer", "a list": for messages. */
const char *imv_static_type_text(enum imv_static_type type);
/* May a value of the actual type be one of the wanted type? */
bool imv_static_type_fits(enum imv_static_type actual, enum imv_static_type wanted);
/* The type of "one or the other". */
enum imv_static_type imv_static_type_join(enum imv_static_type a, enum imv_static_type b);
/* Of the elements of a list. */
enum imv_static_type imv_static_element_type(const struct imv_expr *list);
/* Sets expr->type of an operator from its bound operands; false with InvalidArgumentType. */
bool imv_bind_unary_type(struct imv_binder *binder, struct imv_expr *expr);
bool imv_bind_binary_type(struct imv_binder *binder, struct imv_expr *expr);
