/* ast.h - the tree of a statement, as the parser builds it and the binder completes it.
 *
 * parse.c fills the fields above each "set by the binder" line; bind.c fills those below, rewrites a few expressions
 * (listed at enum imv_expr_kind) and leaves everything else alone. Execution reads the bound tree and never changes it.
 * Everything, names and strings included, lives in the statement's arena; lists are arrays with a count. Each node
 * carries the bytes of the text that it came from (struct imv_span), for errors and column names.
 *
 * Slots. A row in flight is an array of values, one a slot. Every variable of a single query (a branch of UNION) has a
 * slot of its own, numbered from 0 to slots_count - 1 and never used twice, so an operator only writes its own slots
 * and leaves the others as they are: what ORDER BY or WHERE after WITH may still look at is still there. A few slots
 * belong to no variable of the text: anonymous pattern elements, fields of samples, results of aggregates.
 *
 * Locals. The variables of list comprehensions, quantifiers and reduce live only inside one expression: they are not in
 * the row but numbered from 0 to locals_count - 1, by depth of nesting, for a small scratch array of the evaluator.
 *
 * Samples. `SAMPLES OF h AS s` gives a slot to every field that the query reads by name (samples.fields): `s.ts` and
 * `s.usage_user` become plain variables (IMV_EXPR_VARIABLE of that slot), so that a typed column can stand behind each.
 * The slot of `s` itself is filled only when s is used as a whole (samples.whole_used): a map of all fields. The same
 * for `SAMPLES OF h.usage_user AS v` (fields `ts`, `value`), and for a window (`start`, `end`, `duration`).
 *
 * Aggregation. When a projection aggregates, its columns without an aggregate are the grouping keys, evaluated on the
 * incoming row into the slots of their items. Each aggregate call gets a slot for its result (call.slot). All other
 * expressions (columns with aggregates, ORDER BY, WHERE after WITH) are evaluated afterwards and read key slots
 * and aggregate slots only: the binder has replaced every part equal to a grouping key by a variable of the key's slot.
 */
#pragma once

#include "storage/base/arena.h"
#include "storage/base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

struct imv_function; /* query/fn/functions.h */
struct imv_statement;

/* Height of an expression tree: long chains of operators lean to one side, and every walk is recursive. */
enum { IMV_EXPR_HEIGHT_MAX = 1000 };

/* Bytes [offset, offset + size) of the statement's text. */
struct imv_span {
    uint32_t offset, size;
};

/* The bytes of a span. */
static inline struct imv_str imv_span_text(struct imv_str text, struct imv_span span) {
    return (struct imv_str){text.data + span.offset, span.size};
}

/* What is known of a value before the query runs. ANY when it is known only then. Every type admits null. */
enum imv_static_type {
    IMV_STATIC_ANY,
    IMV_STATIC_NULL,
    IMV_STATIC_BOOLEAN,
    IMV_STATIC_INTEGER,
    IMV_STATIC_FLOAT,
    IMV_STATIC_NUMBER, /* integer or float */
    IMV_STATIC_STRING,
    IMV_STATIC_LIST,
    IMV_STATIC_MAP,
    IMV_STATIC_NODE,
    IMV_STATIC_RELATIONSHIP,
    IMV_STATIC_PATH,
    IMV_STATIC_DURATION,
    IMV_STATIC_TIME, /* a sample's time */
};

enum imv_variable_kind {
    IMV_VARIABLE_VALUE,        /* of WITH, LET, UNWIND, or an aggregate's result */
    IMV_VARIABLE_NODE,         /* of a pattern */
    IMV_VARIABLE_RELATIONSHIP, /* of a pattern; a list of them when of variable length */
    IMV_VARIABLE_PATH,         /* of a pattern */
    IMV_VARIABLE_SAMPLES,      /* of SAMPLES: see struct imv_samples */
    IMV_VARIABLE_WINDOW,       /* of WINDOW: see struct imv_window */
    IMV_VARIABLE_LOCAL,        /* of a comprehension, quantifier or reduce */
};

/* One variable. Made by the binder; `WITH h, s AS t` without DISTINCT or aggregates passes on the same variable, so
 * nothing is copied and t.usage_user still is a column. */
struct imv_variable {
    struct imv_str name;  /* {NULL, 0} when the text does not name it */
    struct imv_span span; /* where it was first bound */
    enum imv_variable_kind kind;
    enum imv_static_type type;
    uint32_t slot;               /* of the row; of the locals when kind is IMV_VARIABLE_LOCAL */
    bool uses_window;            /* it is a window or was computed from one */
    struct imv_samples *samples; /* kind SAMPLES, else NULL */
    struct imv_window *window;   /* kind WINDOW, else NULL */
};

/* ---- expressions ---- */

enum imv_expr_kind {
    IMV_EXPR_NULL,
    IMV_EXPR_BOOLEAN,   /* boolean */
    IMV_EXPR_INTEGER,   /* integer; a minus before a literal is part of it */
    IMV_EXPR_FLOAT,     /* number */
    IMV_EXPR_STRING,    /* string, escapes resolved */
    IMV_EXPR_DURATION,  /* integer: nanoseconds */
    IMV_EXPR_LIST,      /* list */
    IMV_EXPR_MAP,       /* map */
    IMV_EXPR_PARAMETER, /* parameter */
    IMV_EXPR_VARIABLE, /* variable; the binder also makes these of fields of samples and windows and of grouping keys */
    IMV_EXPR_PROPERTY, /* property: a.name */
    IMV_EXPR_INDEX,    /* index: a[i] */
    IMV_EXPR_SLICE,    /* slice: a[from..to] */
    IMV_EXPR_UNARY,    /* unary */
    IMV_EXPR_BINARY,   /* binary */
    IMV_EXPR_CHAIN,    /* chain: 1 < a <= 3, three operands or more; each evaluated once, as if joined by AND */
    IMV_EXPR_CASE,     /* switch_ */
    IMV_EXPR_CALL,     /* call */
    IMV_EXPR_COMPREHENSION,         /* comprehension: [x IN list WHERE p | e] */
    IMV_EXPR_QUANTIFIER,            /* quantifier: all(x IN list WHERE p) */
    IMV_EXPR_REDUCE,                /* reduce: reduce(a = init, x IN list | e) */
    IMV_EXPR_LABELS,                /* labels: a:cpu, a predicate */
    IMV_EXPR_PATTERN,               /* pattern: (a)-->(b) as a predicate; the binder refuses it */
    IMV_EXPR_PATTERN_COMPREHENSION, /* pattern: [(a)-->(b) WHERE p | e]; the binder refuses it */
    IMV_EXPR_EXISTS,                /* exists: EXISTS { .. }; the binder refuses it */
};

enum imv_unary_op {
    IMV_UNARY_NOT,
    IMV_UNARY_MINUS,
    IMV_UNARY_PLUS,
    IMV_UNARY_IS_NULL,
    IMV_UNARY_IS_NOT_NULL,
};

/* Chains of OR, XOR and AND come as balanced trees (the operators are associative), all others lean left. */
enum imv_binary_op {
    IMV_BINARY_OR,
    IMV_BINARY_XOR,
    IMV_BINARY_AND,
    IMV_BINARY_EQUAL, /* the six comparisons stand together */
    IMV_BINARY_NOT_EQUAL,
    IMV_BINARY_LESS,
    IMV_BINARY_LESS_EQUAL,
    IMV_BINARY_GREATER,
    IMV_BINARY_GREATER_EQUAL,
    IMV_BINARY_IN,
    IMV_BINARY_STARTS_WITH,
    IMV_BINARY_ENDS_WITH,
    IMV_BINARY_CONTAINS,
    IMV_BINARY_MATCHES, /* =~ */
    IMV_BINARY_ADD,
    IMV_BINARY_SUBTRACT,
    IMV_BINARY_MULTIPLY,
    IMV_BINARY_DIVIDE,
    IMV_BINARY_MODULO,
    IMV_BINARY_POWER,
    IMV_BINARY_CONCATENATE, /* || */
};

enum imv_quantifier { IMV_QUANTIFIER_ALL, IMV_QUANTIFIER_ANY, IMV_QUANTIFIER_NONE, IMV_QUANTIFIER_SINGLE };

struct imv_expr_map_entry {
    struct imv_str key;
    struct imv_span span; /* of the key */
    struct imv_expr *value;
};

struct imv_expr_case_branch {
    struct imv_expr *when, *then;
};

struct imv_label_expr;
struct imv_pattern;

struct imv_expr {
    enum imv_expr_kind kind;
    uint32_t height; /* 1 for a leaf */
    struct imv_span span;
    enum imv_static_type type; /* set by the binder */
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct imv_str string;
        struct {
            struct imv_expr **items;
            uint32_t count;
        } list;
        struct {
            struct imv_expr_map_entry *entries;
            uint32_t count;
        } map;
        struct {
            struct imv_str name; /* without the $ */
            uint32_t index;      /* into statement->parameters */
        } parameter;
        struct {
            struct imv_str name;
            /* set by the binder */
            uint32_t slot;
            bool local;                    /* slot counts locals, not the row */
            bool field;                    /* of samples or a window: name is "s.usage_user" */
            struct imv_variable *variable; /* NULL when the slot is a field's, a key's or an aggregate's */
        } variable;
        struct {
            struct imv_expr *base;
            struct imv_str name;
            struct imv_span name_span;
        } property;
        struct {
            struct imv_expr *base, *at;
        } index;
        struct {
            struct imv_expr *base, *from, *to; /* from and to may be NULL */
        } slice;
        struct {
            enum imv_unary_op op;
            struct imv_expr *operand;
        } unary;
        struct {
            enum imv_binary_op op;
            struct imv_expr *left, *right;
        } binary;
        struct {
            struct imv_expr **operands;
            enum imv_binary_op *ops; /* count - 1 comparisons, ops[i] between operands i and i + 1 */
            uint32_t count;          /* of operands, at least 3 */
        } chain;
        struct {
            struct imv_expr *subject; /* NULL: CASE WHEN condition .. */
            struct imv_expr_case_branch *branches;
            uint32_t count;
            struct imv_expr *otherwise; /* ELSE; may be NULL */
        } switch_;
        struct {
            struct imv_str name; /* as written, parts joined by dots: "point.distance" */
            struct imv_span name_span;
            struct imv_expr **arguments;
            uint32_t count;
            bool distinct; /* count(DISTINCT x) */
            bool star;     /* count(*) */
            /* set by the binder */
            const struct imv_function *function;
            bool aggregate; /* the value is read from slot, which the aggregation filled */
            uint32_t slot;
        } call;
        struct {
            struct imv_str name;
            struct imv_span name_span;
            struct imv_expr *list;
            struct imv_expr *where;  /* may be NULL */
            struct imv_expr *result; /* NULL: the element itself */
            uint32_t local;          /* set by the binder */
        } comprehension;
        struct {
            enum imv_quantifier quantifier;
            struct imv_str name;
            struct imv_span name_span;
            struct imv_expr *list;
            struct imv_expr *where; /* never NULL */
            uint32_t local;         /* set by the binder */
        } quantifier;
        struct {
            struct imv_str accumulator, name;
            struct imv_span accumulator_span, name_span;
            struct imv_expr *init, *list, *result;
            uint32_t accumulator_local, local; /* set by the binder */
        } reduce;
        struct {
            struct imv_expr *base;
            const struct imv_label_expr *labels;
        } labels;
        struct {
            struct imv_pattern *pattern;
            struct imv_expr *where, *result; /* of a pattern comprehension; where may be NULL */
        } pattern;
        struct {
            struct imv_single_query *query;
        } exists;
    };
};

/* ---- patterns ---- */

enum imv_label_expr_kind { IMV_LABEL_NAME, IMV_LABEL_ANY /* % */, IMV_LABEL_AND, IMV_LABEL_OR, IMV_LABEL_NOT };

/* :A:B and :A&B are AND, :A|B is OR, :!A is NOT. */
struct imv_label_expr {
    enum imv_label_expr_kind kind;
    uint32_t height;
    struct imv_span span;
    struct imv_str name;                /* NAME */
    const struct imv_label_expr *left;  /* AND, OR, NOT */
    const struct imv_label_expr *right; /* AND, OR */
};

struct imv_node_pattern {
    struct imv_span span;
    struct imv_str name; /* {NULL, 0}: anonymous */
    struct imv_span name_span;
    const struct imv_label_expr *labels; /* NULL: any */
    struct imv_expr *properties;         /* a map or a parameter; may be NULL */
    struct imv_expr *where;              /* (n WHERE ..); may be NULL */
    /* set by the binder */
    struct imv_variable *variable; /* never NULL: an anonymous element has one without name */
    bool bound_before;             /* the variable has a value already: the pattern only checks it */
};

enum imv_direction { IMV_DIRECTION_EITHER, IMV_DIRECTION_RIGHT, IMV_DIRECTION_LEFT };

struct imv_relationship_pattern {
    struct imv_span span;
    struct imv_str name;
    struct imv_span name_span;
    const struct imv_label_expr *types; /* NULL: any */
    struct imv_expr *properties;
    struct imv_expr *where;
    enum imv_direction direction;
    bool variable_length;       /* *, *2, *1..3 */
    int64_t hops_min, hops_max; /* -1: not given */
    /* set by the binder */
    struct imv_variable *variable;
    bool bound_before;
};

/* (n0)-[r0]-(n1)-[r1]-(n2): one node more than relationships. */
struct imv_pattern {
    struct imv_span span;
    struct imv_str name; /* p = (..); {NULL, 0} when it has none */
    struct imv_span name_span;
    struct imv_node_pattern *nodes;
    struct imv_relationship_pattern *relationships; /* nodes_count - 1 */
    uint32_t nodes_count;
    struct imv_variable *variable; /* set by the binder; NULL without a name */
};

/* ---- clauses ---- */

struct imv_match {
    bool optional;
    struct imv_pattern *patterns; /* several: all combinations */
    uint32_t patterns_count;
    struct imv_expr *where; /* may be NULL */
};

/* A field of a sample or a window that the query reads, and the slot it is to be put into. */
struct imv_field_slot {
    struct imv_str name; /* "ts", "value", "usage_user"; "start", "end", "duration" */
    uint32_t slot;
    enum imv_static_type type;
};

/* SAMPLES OF h AS s FROM a TO b, and SAMPLES OF h.usage_user AS v: one row for each sample with a <= ts < b. */
struct imv_samples {
    struct imv_expr *source; /* a variable, or a property of a variable */
    struct imv_str name;     /* AS; {NULL, 0}: none */
    struct imv_span name_span;
    struct imv_expr *from, *to; /* may be NULL: unbounded */
    /* set by the binder */
    struct imv_expr *node; /* the variable whose samples are read; may turn out not to be a node when it is ANY */
    struct imv_str series; /* "usage_user" in the second form, else {NULL, 0} */
    struct imv_variable *variable; /* never NULL */
    bool whole_used;               /* the slot of variable is read too: a map of ts and all fields */
    struct imv_field_slot *fields; /* no name twice; grows while the rest of the query is bound */
    uint32_t fields_count;
};

enum imv_fill { IMV_FILL_NONE, IMV_FILL_NULL, IMV_FILL_PREVIOUS, IMV_FILL_LINEAR, IMV_FILL_VALUE };

/* WINDOW 1m AS w FILL linear: buckets the samples of the SAMPLES before it; [start, end) multiples of the width. */
struct imv_window {
    struct imv_expr *width; /* constant over the query: a duration literal, a parameter, or made of those */
    struct imv_str name;    /* AS; {NULL, 0}: it is called window */
    struct imv_span name_span;
    enum imv_fill fill;
    struct imv_expr *fill_value; /* IMV_FILL_VALUE; constant over the query */
    /* set by the binder */
    struct imv_samples *samples; /* whose ts is bucketed */
    struct imv_variable *variable;
    bool whole_used;
    struct imv_field_slot *fields; /* of start, end, duration: those that are read */
    uint32_t fields_count;
};

struct imv_let {
    struct imv_str name;
    struct imv_span name_span;
    struct imv_expr *value;
    struct imv_variable *variable; /* set by the binder */
};

struct imv_unwind {
    struct imv_expr *list;
    struct imv_str name;
    struct imv_span name_span;
    struct imv_variable *variable; /* set by the binder */
};

/* A column of a procedure and the variable that takes it. */
struct imv_yield {
    struct imv_str column;
    struct imv_span column_span;
    struct imv_str name; /* AS; the column's without */
    struct imv_span name_span;
    struct imv_variable *variable; /* set by the binder */
};

struct imv_procedure; /* query/procedures.h */

/* CALL name(..) YIELD a, b AS c WHERE ..: one row for each row of the procedure. */
struct imv_procedure_call {
    struct imv_expr *call; /* IMV_EXPR_CALL; the binder sets its function to the procedure's */
    struct imv_yield *yields;
    uint32_t yields_count; /* none is written: all columns, which the binder then puts here */
    struct imv_expr *where;
    /* set by the binder */
    const struct imv_procedure *procedure;
    struct imv_variable *row; /* a list of the columns' values */
};

struct imv_projection_item {
    struct imv_expr *expr;
    struct imv_str name;       /* the alias, or the exact source text of the expression */
    struct imv_span name_span; /* of the alias; empty without */
    bool aliased;
    /* set by the binder */
    struct imv_variable *variable; /* variable->slot is where the value goes; equal to expr's slot: nothing to copy */
    bool aggregating; /* contains an aggregate; the others are grouping keys when the projection aggregates */
    bool uses_window; /* depends on a window: FILL makes rows for windows without samples of these keys */
};

struct imv_sort_key {
    struct imv_expr *expr;
    bool descending;
};

/* WITH and RETURN. Order of work: (group and aggregate | evaluate items), DISTINCT, ORDER BY, SKIP, LIMIT, WHERE. */
struct imv_projection {
    bool distinct;
    bool star; /* of the text; the binder puts the variables in scope before the items instead */
    struct imv_projection_item *items; /* in order of the columns */
    uint32_t items_count;
    struct imv_sort_key *sort_keys;
    uint32_t sort_keys_count;
    struct imv_expr *skip, *limit; /* constant over the query (no variables); may be NULL */
    struct imv_expr *where;        /* WITH only; may be NULL */
    /* set by the binder */
    bool aggregating;
    struct imv_expr **aggregates; /* every aggregate call of items and sort keys; kind IMV_EXPR_CALL */
    uint32_t aggregates_count;
};

enum imv_clause_kind {
    IMV_CLAUSE_MATCH,   /* match */
    IMV_CLAUSE_SAMPLES, /* samples */
    IMV_CLAUSE_WINDOW,  /* window */
    IMV_CLAUSE_FILTER,  /* filter: the condition */
    IMV_CLAUSE_LET,     /* lets, lets_count */
    IMV_CLAUSE_UNWIND,  /* unwind */
    IMV_CLAUSE_CALL,    /* call */
    IMV_CLAUSE_DELETE,  /* samples: the twin in source, from and to, both NULL: ALL. The parser puts the RETURN of the
                           number of twins behind it */
    IMV_CLAUSE_WITH,    /* projection */
    IMV_CLAUSE_RETURN,  /* projection; always the last clause, except inside EXISTS */
};

struct imv_clause {
    enum imv_clause_kind kind;
    struct imv_span span;
    union {
        struct imv_match match;
        struct imv_samples samples;
        struct imv_window window;
        struct imv_expr *filter;
        struct {
            struct imv_let *lets; /* a later one sees the earlier ones */
            uint32_t lets_count;
        };
        struct imv_unwind unwind;
        struct imv_procedure_call call;
        struct imv_projection projection;
    };
};

/* ---- statements ---- */

/* Clauses run in order, each on the rows of the one before; the first on one row without values. */
struct imv_single_query {
    struct imv_span span;
    struct imv_clause *clauses;
    uint32_t clauses_count;
    /* set by the binder */
    struct imv_variable **variables; /* all of the row, in order of binding; for EXPLAIN and sizes */
    uint32_t variables_count;
    uint32_t slots_count;  /* width of a row */
    uint32_t locals_count; /* size of the evaluator's scratch array */
};

struct imv_parameter_use {
    struct imv_str name;
    struct imv_span span; /* of the first use */
};

enum imv_explain { IMV_EXPLAIN_NONE, IMV_EXPLAIN_PLAN, IMV_EXPLAIN_PROFILE };

/* Branches joined by UNION; the columns (names and order) of the last RETURN are the same in all of them. */
struct imv_statement {
    struct imv_arena *arena; /* owns all of it */
    struct imv_str text;     /* the caller's; must outlive the statement */
    enum imv_explain explain;
    struct imv_single_query *branches;
    uint32_t branches_count;
    bool union_all;                       /* UNION ALL keeps equal rows; the two kinds do not mix */
    struct imv_parameter_use *parameters; /* each name once */
    uint32_t parameters_count;
};

/* The RETURN of a branch: names (items[i].name) and slots of the result's columns. */
static inline const struct imv_projection *imv_single_query_result(const struct imv_single_query *query) {
    return &query->clauses[query->clauses_count - 1].projection;
}

/* Is the branch a DELETE? */
static inline bool imv_single_query_deletes(const struct imv_single_query *query) {
    return query->clauses_count > 1 && query->clauses[query->clauses_count - 2].kind == IMV_CLAUSE_DELETE;
}

/* ---- building, walking and printing (ast.c) ---- */

/* Appends to an array in the arena: *items of *count elements, of element bytes each. The capacity is the least power
 * of two that holds the count. Returns the new zeroed element, or NULL when out of memory. */
void *imv_ast_append(struct imv_arena *arena, void **items, uint32_t *count, size_t element);

/* Calls visit for each direct child of expr, in order of the text. Stops and returns false when visit does. Does not go
 * into patterns and EXISTS. */
bool imv_expr_each_child(const struct imv_expr *expr, bool (*visit)(struct imv_expr *child, void *context),
                         void *context);

/* True when both mean the same: kinds, names, slots and literals agree; spans do not matter. */
bool imv_expr_equal(const struct imv_expr *a, const struct imv_expr *b);

struct imv_buffer;

/* TwinQL text of an expression with all parentheses, e.g. "((a.x + 1) < $p)"; durations as 90s. For EXPLAIN, tests. */
void imv_expr_print(struct imv_buffer *out, const struct imv_expr *expr);

/* The whole statement, one clause a line, expressions as imv_expr_print. */
void imv_statement_print(struct imv_buffer *out, const struct imv_statement *statement);

/* "=", "STARTS WITH", ... */
const char *imv_binary_op_text(enum imv_binary_op op);
