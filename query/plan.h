/* plan.h - the tree of operators that answers a statement, before it runs.
 *
 * imv_plan_statement turns the clauses of a bound statement into operators, one after the other, as they are written;
 * the rules of opt/ then rearrange them; ops/ runs what is left. A plan refers to the statement's expressions and adds
 * a few of its own; it lives in the statement's arena and is the same for EXPLAIN and for running.
 *
 *     TwinScan    for each row: the twins with a label that meet the conditions       MATCH
 *     Optional    for each row: the rows of an inner plan, or one with nulls          OPTIONAL MATCH
 *     SampleScan  for each row: the samples of its twin between two times             SAMPLES
 *     Delete      passes rows on; at the end deletes the samples of their twins       DELETE
 *     Window      adds the start of the bucket that holds a sample's time             WINDOW
 *     Filter      keeps rows for which all predicates are true                        WHERE, FILTER
 *     Project     computes expressions into slots                                     WITH, LET, RETURN
 *     Aggregate   one row per group of keys                                           count(..) and the like
 *     Fill        makes the groups of windows that had no samples                     FILL
 *     Unwind      one row per element of a list                                       UNWIND
 *     Distinct    drops rows that were there before                                   DISTINCT, UNION
 *     Sort, Top   orders rows; Top keeps only the first ones                          ORDER BY
 *     Skip, Limit                                                                     SKIP, LIMIT
 *     Produce     the result's columns, from a branch's slots                         RETURN
 *     Union       the rows of all branches                                            UNION
 *     Start       one row without values, or the row that Optional looks at           leaf
 *
 * Slots are those of ast.h; the plan adds more behind them (slots_count), and compiling adds more behind those. Below a
 * Produce a batch has a branch's slots; above it, its slots are the result's columns.
 */
#pragma once

#include "query/ast.h"
#include "query/exec.h"

enum imv_plan_kind {
    IMV_PLAN_START,
    IMV_PLAN_TWIN_SCAN,
    IMV_PLAN_OPTIONAL,
    IMV_PLAN_SAMPLE_SCAN,
    IMV_PLAN_DELETE,
    IMV_PLAN_WINDOW,
    IMV_PLAN_FILTER,
    IMV_PLAN_PROJECT,
    IMV_PLAN_AGGREGATE,
    IMV_PLAN_FILL,
    IMV_PLAN_UNWIND,
    IMV_PLAN_DISTINCT,
    IMV_PLAN_SORT,
    IMV_PLAN_TOP,
    IMV_PLAN_SKIP,
    IMV_PLAN_LIMIT,
    IMV_PLAN_PRODUCE,
    IMV_PLAN_UNION,
};

/* An expression and the slot that its value goes to. */
struct imv_plan_item {
    const struct imv_expr *expr;
    uint32_t slot;
    bool uses_window; /* of a grouping key: Fill computes it again for the windows it makes */
};

/* What the tags of a twin must be: a tree that the catalog's index answers (struct imv_tag_selector). Each leaf is
 * about one tag; NOT stands in leaves only. A leaf holds where its predicate is true: null is not. */
enum imv_plan_tags_kind {
    IMV_PLAN_TAGS_AND,
    IMV_PLAN_TAGS_OR,
    IMV_PLAN_TAGS_EQUAL,     /* key = value */
    IMV_PLAN_TAGS_NOT_EQUAL, /* key <> value */
    IMV_PLAN_TAGS_IN,        /* key IN value */
    IMV_PLAN_TAGS_NOT_IN,    /* NOT key IN value */
    IMV_PLAN_TAGS_PRESENT,   /* key IS NOT NULL */
    IMV_PLAN_TAGS_ABSENT,    /* key IS NULL */
    IMV_PLAN_TAGS_PREFIX,    /* key STARTS WITH value */
    IMV_PLAN_TAGS_TEST,      /* value, a predicate over the tag alone: evaluated once for each text the tag has */
};

struct imv_plan_tags {
    enum imv_plan_tags_kind kind;
    struct imv_str key;
    const struct imv_expr *value;
    const struct imv_plan_tags *left, *right; /* of AND and OR */
};

/* A limit on a sample's time that comes from a predicate: ts op value. */
struct imv_plan_bound {
    enum imv_binary_op op; /* a comparison but <> */
    const struct imv_expr *value;
};

/* A comparison of a sample's field with a value that no row changes: field op value. */
struct imv_plan_range {
    uint32_t field;        /* of the scan */
    enum imv_binary_op op; /* a comparison but <> */
    const struct imv_expr *value;
};

struct imv_plan {
    enum imv_plan_kind kind;
    struct imv_plan *input; /* NULL for leaves and Union */
    uint64_t *needed;       /* bitmap over slots: what operators above read; set by the last rule */
    union {
        struct {
            const struct imv_node_pattern *node;
            const struct imv_plan_tags *tags; /* NULL: any */
        } twin_scan;
        struct {
            struct imv_plan *inner; /* its Start gives the outer row */
            uint32_t *slots;        /* what the inner plan writes: null when it has no rows */
            uint32_t slots_count;
        } optional;
        struct {
            const struct imv_samples *samples;
            struct imv_field_slot *fields; /* those of samples and those the plan needs */
            uint32_t fields_count;
            struct imv_plan_bound *bounds;
            uint32_t bounds_count;
            /* Comparisons of fields that the Filter above makes: where none can be true rows are left out. */
            struct imv_plan_range *ranges;
            uint32_t ranges_count;
            /* By field: what the Aggregate above wants of it in each bucket (enum imv_bucket_need), which then gets
             * buckets instead of rows. NULL: it wants rows. */
            const uint8_t *bucket_needs;
            const struct imv_window *bucket_window; /* NULL: one bucket */
        } sample_scan;
        const struct imv_samples *deleted; /* Delete: node, from, to */
        struct {
            const struct imv_window *window;
            uint32_t time_slot;
            struct imv_field_slot *fields; /* start is always one of them */
            uint32_t fields_count;
        } window;
        struct {
            const struct imv_expr **predicates;
            uint32_t predicates_count;
        } filter;
        struct {
            struct imv_plan_item *items;
            uint32_t items_count;
        } project;
        struct {
            struct imv_plan_item *keys;
            uint32_t keys_count;
            const struct imv_expr **aggregates; /* calls; call.slot takes the value */
            uint32_t *time_slots;               /* per aggregate: the time of its samples, UINT32_MAX: none */
            /* Per aggregate, when it is given buckets: the scan's field, UINT32_MAX for rows. Else NULL. */
            const uint32_t *bucket_fields;
            /* The Top above keeps only groups of the newest windows: as soon as windows from some time on have skip +
             * limit groups, older ones need not be read. NULL: all must. skip may be NULL. */
            const struct imv_expr *recent_skip, *recent_limit;
            uint32_t aggregates_count;
        } aggregate;
        struct {
            const struct imv_plan *aggregate;
            const struct imv_plan *window;
            uint32_t start_slot;
        } fill;
        struct {
            const struct imv_expr *list;
            uint32_t slot;
        } unwind;
        struct {
            uint32_t *slots;
            uint32_t slots_count;
        } distinct;
        struct {
            const struct imv_sort_key *keys;
            uint32_t keys_count;
            const struct imv_expr *skip, *limit; /* Top: how many rows it keeps; skip may be NULL */
            bool is_recent; /* Top: by the time of samples, the newest first, so those are to be read first */
        } sort;
        const struct imv_expr *count; /* Skip, Limit */
        struct {
            const struct imv_projection *projection;
            uint32_t slots_count; /* of the branch below, the plan's own included */
        } produce;
        struct {
            struct imv_plan **branches;
            uint32_t branches_count;
        } union_;
    };
};

/* The plan as the clauses say; *plan lives in the exec's arena. IMV_INVALID (FILL without an aggregate), IMV_NO_MEMORY,
 * IMV_FULL. */
imv_status imv_plan_statement(struct imv_exec *exec, const struct imv_statement *statement, struct imv_plan **plan);

/* The slots that an operator itself reads and writes; a slot may come several times. Not those of inner plans. */
void imv_plan_each_read(const struct imv_plan *plan, void (*visit)(uint32_t slot, void *context), void *context);
void imv_plan_each_write(const struct imv_plan *plan, void (*visit)(uint32_t slot, void *context), void *context);
/* The slots of other variables that a tree of tags reads. */
void imv_plan_tags_each_slot(const struct imv_plan_tags *tags, void (*visit)(uint32_t slot, void *context),
                             void *context);

static inline bool imv_plan_needs(const struct imv_plan *plan, uint32_t slot) {
    return plan->needed == NULL || imv_bit_get(plan->needed, slot);
}

const char *imv_plan_name(enum imv_plan_kind kind);

/* One line about what an operator does: labels, predicates, keys. */
void imv_plan_describe(const struct imv_plan *plan, struct imv_buffer *out);
