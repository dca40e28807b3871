/* bind.h - gives every name of a parsed statement its meaning, or says by name what is wrong with it.
 *
 * The binder walks the clauses in order with a scope (which variables are visible) and fills the "set by the binder"
 * fields of ast.h: variables and slots, functions, grouping keys and aggregates, fields of samples and windows, and
 * types where they are known. It reports, with the openCypher TCK's details: UndefinedVariable, VariableAlreadyBound,
 * VariableTypeConflict, UnknownFunction, InvalidNumberOfArguments, InvalidArgumentType, InvalidAggregation,
 * NestedAggregation, AmbiguousAggregationExpression, ColumnNameConflict, NoExpressionAlias, NoVariablesInScope,
 * NonConstantExpression, NegativeIntegerArgument, InvalidClauseComposition, InvalidParameterUse,
 * DifferentColumnsInUnion; and its own: UnsupportedFeature, WindowWithoutSamples, UnboundedFill, UnknownField,
 * TooManyColumns.
 *
 * Labels, tags and fields are data, not names of the language: an unknown one is no mistake and is left to execution.
 */
#pragma once

#include "query/ast.h"
#include "query/query.h"

/* Binds a parsed statement in place, once. IMV_INVALID with error filled, IMV_NO_MEMORY. Any thread. */
imv_status imv_bind(struct imv_statement *statement, struct imv_query_error *error);
