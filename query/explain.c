#include "query/explain.h"

#include "storage/base/buffer.h"

#include <inttypes.h>

const char *imv_plan_name(enum imv_plan_kind kind) {
    static const char *const names[] = {
        [IMV_PLAN_START] = "Start",       [IMV_PLAN_TWIN_SCAN] = "TwinScan",
        [IMV_PLAN_OPTIONAL] = "Optional", [IMV_PLAN_SAMPLE_SCAN] = "SampleScan",
        [IMV_PLAN_WINDOW] = "Window",     [IMV_PLAN_FILTER] = "Filter",
        [IMV_PLAN_PROJECT] = "Project",   [IMV_PLAN_AGGREGATE] = "Aggregate",
        [IMV_PLAN_FILL] = "Fill",         [IMV_PLAN_UNWIND] = "Unwind",
        [IMV_PLAN_DELETE] = "Delete",     [IMV_PLAN_DISTINCT] = "Distinct",
        [IMV_PLAN_SORT] = "Sort",         [IMV_PLAN_TOP] = "Top",
        [IMV_PLAN_SKIP] = "Skip",         [IMV_PLAN_LIMIT] = "Limit",
        [IMV_PLAN_PRODUCE] = "Produce",   [IMV_PLAN_UNION] = "Union",
    };
    return names[kind];
}

/* ---- details ---- */

static void separate(struct imv_buffer *out, uint32_t i) {
    if (i > 0) imv_buffer_append_str(out, IMV_STR(", "));
}

static void print_labels(struct imv_buffer *out, const struct imv_label_expr *labels) {
    switch (labels->kind) {
        case IMV_LABEL_NAME: imv_buffer_append_str(out, labels->name); break;
        case IMV_LABEL_ANY: imv_buffer_append_char(out, '%'); break;
        case IMV_LABEL_NOT:
            imv_buffer_append_char(out, '!');
            print_labels(out, labels->left);
            break;
        case IMV_LABEL_AND:
        case IMV_LABEL_OR:
            imv_buffer_append_char(out, '(');
            print_labels(out, labels->left);
            imv_buffer_append_char(out, labels->kind == IMV_LABEL_AND ? '&' : '|');
            print_labels(out, labels->right);
            imv_buffer_append_char(out, ')');
            break;
    }
}

static void describe_tag(const struct imv_plan_tags *tag, struct imv_buffer *out) {
    static const char *const operators[] = {
        [IMV_PLAN_TAGS_EQUAL] = " = ",
        [IMV_PLAN_TAGS_NOT_EQUAL] = " <> ",
        [IMV_PLAN_TAGS_IN] = " IN ",
        [IMV_PLAN_TAGS_NOT_IN] = " IN ",
        [IMV_PLAN_TAGS_PREFIX] = " STARTS WITH ",
        [IMV_PLAN_TAGS_PRESENT] = " IS NOT NULL",
        [IMV_PLAN_TAGS_ABSENT] = " IS NULL",
    };
    if (tag->kind == IMV_PLAN_TAGS_TEST) {
        imv_expr_print(out, tag->value);
        return;
    }
    if (tag->kind == IMV_PLAN_TAGS_NOT_IN) imv_buffer_append_str(out, IMV_STR("NOT "));
    imv_buffer_append_str(out, tag->key);
    imv_buffer_append_str(out, imv_str_from(operators[tag->kind]));
    if (tag->value != NULL) imv_expr_print(out, tag->value);
}

static void describe_tags(const struct imv_plan_tags *tags, bool nested, struct imv_buffer *out) {
    if (tags->kind > IMV_PLAN_TAGS_OR) {
        describe_tag(tags, out);
        return;
    }
    bool brackets = nested && tags->kind == IMV_PLAN_TAGS_OR;
    if (brackets) imv_buffer_append_char(out, '(');
    describe_tags(tags->left, true, out);
    imv_buffer_append_str(out, tags->kind == IMV_PLAN_TAGS_AND ? IMV_STR(" AND ") : IMV_STR(" OR "));
    describe_tags(tags->right, true, out);
    if (brackets) imv_buffer_append_char(out, ')');
}

static void describe_twin_scan(const struct imv_plan *plan, struct imv_buffer *out) {
    const struct imv_node_pattern *node = plan->twin_scan.node;
    imv_buffer_append_str(out, node->name);
    if (node->labels != NULL) {
        imv_buffer_append_char(out, ':');
        print_labels(out, node->labels);
    }
    if (plan->twin_scan.tags == NULL) return;
    imv_buffer_append_str(out, IMV_STR(", "));
    describe_tags(plan->twin_scan.tags, false, out);
}

static void describe_bound(struct imv_buffer *out, const char *word, const struct imv_expr *bound) {
    if (bound == NULL) return;
    imv_buffer_append_format(out, " %s ", word);
    imv_expr_print(out, bound);
}

static void describe_sample_scan(const struct imv_plan *plan, struct imv_buffer *out) {
    const struct imv_samples *samples = plan->sample_scan.samples;
    imv_expr_print(out, samples->node);
    if (samples->series.data != NULL)
        imv_buffer_append_format(out, ".%.*s", (int)samples->series.size, samples->series.data);
    describe_bound(out, "FROM", samples->from);
    describe_bound(out, "TO", samples->to);
    for (uint32_t i = 0; i < plan->sample_scan.bounds_count; i++) {
        const struct imv_plan_bound *bound = &plan->sample_scan.bounds[i];
        imv_buffer_append_format(out, "%s ts %s ", i == 0 ? "," : " AND", imv_binary_op_text(bound->op));
        imv_expr_print(out, bound->value);
    }
    imv_buffer_append_str(out, IMV_STR(" -> "));
    if (samples->whole_used) imv_buffer_append_str(out, IMV_STR("all fields"));
    for (uint32_t i = 0; i < plan->sample_scan.fields_count && !samples->whole_used; i++) {
        separate(out, i);
        imv_buffer_append_str(out, plan->sample_scan.fields[i].name);
    }
    if (plan->sample_scan.bucket_needs == NULL) return;
    imv_buffer_append_str(out, IMV_STR(", in buckets"));
    if (plan->sample_scan.bucket_window == NULL) return;
    imv_buffer_append_str(out, IMV_STR(" of "));
    imv_expr_print(out, plan->sample_scan.bucket_window->width);
}

static void describe_delete(const struct imv_samples *samples, struct imv_buffer *out) {
    imv_buffer_append_str(out, IMV_STR("samples of "));
    imv_expr_print(out, samples->node);
    if (samples->from == NULL && samples->to == NULL) imv_buffer_append_str(out, IMV_STR(" ALL"));
    describe_bound(out, "FROM", samples->from);
    describe_bound(out, "TO", samples->to);
}

static void describe_window(const struct imv_window *window, struct imv_buffer *out) {
    static const char *const fills[] = {"", " FILL null", " FILL prev", " FILL linear", " FILL "};
    imv_expr_print(out, window->width);
    imv_buffer_append_str(out, imv_str_from(fills[window->fill]));
    if (window->fill == IMV_FILL_VALUE) imv_expr_print(out, window->fill_value);
}

static void describe_items(const struct imv_plan_item *items, uint32_t count, struct imv_buffer *out) {
    for (uint32_t i = 0; i < count; i++) {
        separate(out, i);
        imv_expr_print(out, items[i].expr);
    }
}

static void describe_aggregate(const struct imv_plan *plan, struct imv_buffer *out) {
    for (uint32_t i = 0; i < plan->aggregate.aggregates_count; i++) {
        separate(out, i);
        imv_expr_print(out, plan->aggregate.aggregates[i]);
    }
    if (plan->aggregate.keys_count == 0) return;
    imv_buffer_append_str(out, IMV_STR(" BY "));
    describe_items(plan->aggregate.keys, plan->aggregate.keys_count, out);
    if (plan->aggregate.recent_limit != NULL) imv_buffer_append_str(out, IMV_STR(", newest windows first"));
}

static void describe_sort(const struct imv_plan *plan, struct imv_buffer *out) {
    for (uint32_t i = 0; i < plan->sort.keys_count; i++) {
        separate(out, i);
        imv_expr_print(out, plan->sort.keys[i].expr);
        if (plan->sort.keys[i].descending) imv_buffer_append_str(out, IMV_STR(" DESC"));
    }
    if (plan->kind != IMV_PLAN_TOP) return;
    imv_buffer_append_str(out, IMV_STR(" LIMIT "));
    imv_expr_print(out, plan->sort.limit);
    if (plan->sort.skip != NULL) {
        imv_buffer_append_str(out, IMV_STR(" + "));
        imv_expr_print(out, plan->sort.skip);
    }
    if (plan->sort.is_recent) imv_buffer_append_str(out, IMV_STR(", newest samples first"));
}

void imv_plan_describe(const struct imv_plan *plan, struct imv_buffer *out) {
    switch (plan->kind) {
        case IMV_PLAN_TWIN_SCAN: describe_twin_scan(plan, out); break;
        case IMV_PLAN_SAMPLE_SCAN: describe_sample_scan(plan, out); break;
        case IMV_PLAN_WINDOW: describe_window(plan->window.window, out); break;
        case IMV_PLAN_FILL: describe_window(plan->fill.window->window.window, out); break;
        case IMV_PLAN_FILTER:
            for (uint32_t i = 0; i < plan->filter.predicates_count; i++) {
                if (i > 0) imv_buffer_append_str(out, IMV_STR(" AND "));
                imv_expr_print(out, plan->filter.predicates[i]);
            }
            break;
        case IMV_PLAN_PROJECT: describe_items(plan->project.items, plan->project.items_count, out); break;
        case IMV_PLAN_AGGREGATE: describe_aggregate(plan, out); break;
        case IMV_PLAN_UNWIND: imv_expr_print(out, plan->unwind.list); break;
        case IMV_PLAN_DELETE: describe_delete(plan->deleted, out); break;
        case IMV_PLAN_SORT:
        case IMV_PLAN_TOP: describe_sort(plan, out); break;
        case IMV_PLAN_SKIP:
        case IMV_PLAN_LIMIT: imv_expr_print(out, plan->count); break;
        case IMV_PLAN_PRODUCE:
            for (uint32_t i = 0; i < plan->produce.projection->items_count; i++) {
                separate(out, i);
                imv_buffer_append_str(out, plan->produce.projection->items[i].name);
            }
            break;
        case IMV_PLAN_START:
        case IMV_PLAN_OPTIONAL:
        case IMV_PLAN_DISTINCT:
        case IMV_PLAN_UNION: break;
    }
}

/* ---- rows ---- */

enum { COLUMNS_MAX = 4, LINE_BYTES_MAX = 64 * 1024 };

/* Rows of an EXPLAIN or PROFILE while they are sent. */
struct explain {
    struct imv_query_sink *sink;
    uint32_t columns_count;
    uint64_t rows;
    imv_status status;
};

static void give_row(struct explain *explain, const struct imv_plan *plan, const struct imv_operator *op,
                     uint32_t depth) {
    struct imv_buffer name, details;
    imv_buffer_init(&name, LINE_BYTES_MAX);
    imv_buffer_init(&details, LINE_BYTES_MAX);
    for (uint32_t i = 0; i < depth; i++) imv_buffer_append_str(&name, IMV_STR("  "));
    imv_buffer_append_str(&name, imv_str_from(imv_plan_name(plan->kind)));
    imv_plan_describe(plan, &details);
    struct imv_value values[COLUMNS_MAX] = {imv_value_string(imv_buffer_view(&name)),
                                            imv_value_string(imv_buffer_view(&details))};
    struct imv_column columns[COLUMNS_MAX];
    if (op != NULL) {
        values[2] = imv_value_uinteger(op->rows);
        values[3] = imv_value_float((double)op->elapsed_ns / 1e6);
    }
    for (uint32_t i = 0; i < explain->columns_count; i++) columns[i] = imv_column_values(&values[i]);
    if (!explain->sink->rows(explain->sink, columns, explain->columns_count, 1)) explain->status = IMV_CANCELLED;
    explain->rows++;
    imv_buffer_release(&name);
    imv_buffer_release(&details);
}

static void give_tree(struct explain *explain, const struct imv_plan *plan, const struct imv_operator *op,
                      uint32_t depth) {
    for (; plan != NULL && explain->status == IMV_OK; plan = plan->input, depth++) {
        give_row(explain, plan, op, depth);
        if (plan->kind == IMV_PLAN_OPTIONAL)
            give_tree(explain, plan->optional.inner, op == NULL ? NULL : imv_optional_inner(op), depth + 2);
        for (uint32_t i = 0; plan->kind == IMV_PLAN_UNION && i < plan->union_.branches_count; i++)
            give_tree(explain, plan->union_.branches[i], op == NULL ? NULL : imv_union_branch(op, i), depth + 1);
        op = op == NULL ? NULL : op->input;
    }
}

imv_status imv_explain(const struct imv_plan *plan, const struct imv_operator *op, struct imv_query_sink *sink,
                       uint64_t *rows) {
    static const struct imv_str names[COLUMNS_MAX] = {{"operator", 8}, {"details", 7}, {"rows", 4}, {"ms", 2}};
    struct explain explain = {.sink = sink, .columns_count = op == NULL ? 2 : 4};
    if (!sink->begin(sink, names, explain.columns_count)) return IMV_CANCELLED;
    give_tree(&explain, plan, op, 0);
    *rows = explain.rows;
    return explain.status;
}
