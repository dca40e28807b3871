/* bind_pattern.c - variables of graph patterns. */
#include "query/binder.h"

static bool fail_conflict(struct imv_binder *binder, const struct imv_variable *variable, struct imv_str name,
                          struct imv_span span, const char *wanted) {
    return imv_binder_fail(binder, span, "VariableTypeConflict", "variable `%.*s` is %s already, it cannot be %s too",
                           (int)name.size, name.data,
                           variable->kind == IMV_VARIABLE_SAMPLES  ? "a sample"
                           : variable->kind == IMV_VARIABLE_WINDOW ? "a window"
                                                                   : imv_static_type_text(variable->type),
                           wanted);
}

/* ---- nodes ---- */

static bool can_be_node(const struct imv_variable *variable) {
    return variable->kind == IMV_VARIABLE_NODE ||
           (variable->kind == IMV_VARIABLE_VALUE && imv_static_type_fits(variable->type, IMV_STATIC_NODE));
}

static bool bind_node_variable(struct imv_binder *binder, struct imv_node_pattern *node) {
    struct imv_variable *known = node->name.data == NULL ? NULL : imv_scope_find(&binder->scope, node->name);
    if (known == NULL) {
        node->variable =
            node->name.data == NULL
                ? imv_binder_new_variable(binder, node->name, node->span, IMV_VARIABLE_NODE, IMV_STATIC_NODE)
                : imv_binder_declare(binder, node->name, node->name_span, IMV_VARIABLE_NODE, IMV_STATIC_NODE);
        return node->variable != NULL;
    }
    if (!can_be_node(known)) return fail_conflict(binder, known, node->name, node->name_span, "a twin");
    node->variable = known;
    node->bound_before = true;
    return true;
}

/* { .. } and WHERE of an element; a parameter instead of a map is refused, as in openCypher. */
static bool bind_element(struct imv_binder *binder, struct imv_expr **properties, struct imv_expr **where) {
    if (*properties != NULL && (*properties)->kind == IMV_EXPR_PARAMETER) {
        return imv_binder_fail(binder, (*properties)->span, "InvalidParameterUse",
                               "a parameter cannot stand for all properties of a pattern; write {name: $value}");
    }
    return imv_bind_in_place(binder, properties) && imv_bind_condition(binder, where, "WHERE");
}

static bool bind_node(struct imv_binder *binder, struct imv_node_pattern *node) {
    return bind_node_variable(binder, node) && bind_element(binder, &node->properties, &node->where);
}

/* ---- relationships ---- */

static bool can_be_relationship(const struct imv_variable *variable, bool variable_length) {
    if (variable->kind != IMV_VARIABLE_VALUE) return variable->kind == IMV_VARIABLE_RELATIONSHIP;
    return imv_static_type_fits(variable->type, variable_length ? IMV_STATIC_LIST : IMV_STATIC_RELATIONSHIP);
}

static bool bind_relationship_variable(struct imv_binder *binder, struct imv_relationship_pattern *relationship,
                                       uint32_t known_before) {
    enum imv_static_type type = relationship->variable_length ? IMV_STATIC_LIST : IMV_STATIC_RELATIONSHIP;
    struct imv_str name = relationship->name;
    if (name.data == NULL) {
        relationship->variable =
            imv_binder_new_variable(binder, name, relationship->span, IMV_VARIABLE_RELATIONSHIP, type);
        return relationship->variable != NULL;
    }
    struct imv_variable *known = imv_scope_find(&binder->scope, name);
    if (known == NULL) {
        relationship->variable =
            imv_binder_declare(binder, name, relationship->name_span, IMV_VARIABLE_RELATIONSHIP, type);
        return relationship->variable != NULL;
    }
    if (!can_be_relationship(known, relationship->variable_length)) {
        return fail_conflict(binder, known, name, relationship->name_span, "a relationship");
    }
    for (uint32_t i = known_before; i < binder->scope.count; i++) {
        if (binder->scope.entries[i].variable != known) continue;
        return imv_binder_fail(binder, relationship->name_span, "RelationshipUniquenessViolation",
                               "relationship `%.*s` stands twice in one MATCH", (int)name.size, name.data);
    }
    relationship->variable = known;
    relationship->bound_before = true;
    return true;
}

static bool bind_relationship(struct imv_binder *binder, struct imv_relationship_pattern *relationship,
                              uint32_t known_before) {
    imv_binder_unsupported(binder, relationship->span, "relationships between twins are not stored yet");
    return bind_relationship_variable(binder, relationship, known_before) &&
           bind_element(binder, &relationship->properties, &relationship->where);
}

/* ---- patterns ---- */

static bool bind_path(struct imv_binder *binder, struct imv_pattern *pattern) {
    if (pattern->name.data == NULL) return true;
    imv_binder_unsupported(binder, pattern->name_span, "paths are not available yet");
    pattern->variable =
        imv_binder_declare(binder, pattern->name, pattern->name_span, IMV_VARIABLE_PATH, IMV_STATIC_PATH);
    return pattern->variable != NULL;
}

bool imv_bind_patterns(struct imv_binder *binder, struct imv_pattern *patterns, uint32_t count) {
    uint32_t known_before = binder->scope.count;
    for (uint32_t i = 0; i < count; i++) {
        struct imv_pattern *pattern = &patterns[i];
        for (uint32_t j = 0; j < pattern->nodes_count; j++) {
            if (j > 0 && !bind_relationship(binder, &pattern->relationships[j - 1], known_before)) return false;
            if (!bind_node(binder, &pattern->nodes[j])) return false;
        }
        if (!bind_path(binder, pattern)) return false;
    }
    return true;
}

static bool check_name(struct imv_binder *binder, struct imv_str name, struct imv_span span) {
    if (name.data == NULL || imv_scope_find(&binder->scope, name) != NULL) return true;
    return imv_binder_fail_undefined(binder, name, span);
}

bool imv_bind_pattern_predicate(struct imv_binder *binder, const struct imv_pattern *pattern) {
    if (!binder->patterns_allowed) {
        return imv_binder_fail(binder, pattern->span, "UnexpectedSyntax",
                               "a pattern is a condition: it can stand in WHERE, not here");
    }
    for (uint32_t i = 0; i < pattern->nodes_count; i++) {
        if (!check_name(binder, pattern->nodes[i].name, pattern->nodes[i].name_span)) return false;
        if (i == 0) continue;
        const struct imv_relationship_pattern *relationship = &pattern->relationships[i - 1];
        if (!check_name(binder, relationship->name, relationship->name_span)) return false;
    }
    imv_binder_unsupported(binder, pattern->span, "relationships between twins are not stored yet");
    return true;
}
