/* parameters.h - a JSON object as the parameters of a statement.
 *
 * Numbers without point and exponent are integers and must fit 64 bits with a sign, all others are doubles; arrays are
 * lists, objects maps. A time is given as a string or as integer nanoseconds and becomes one where the statement uses
 * it as one.
 */
#pragma once

#include "query/query.h"
#include "storage/base/arena.h"

/* Reads text, a JSON object (or nothing at all: no parameters). Everything lives in arena, *parameters included.
 * IMV_INVALID (SyntaxError / InvalidParameters): no object, deeper than 64, a number out of
 * range; IMV_NO_MEMORY. Any thread. */
imv_status imv_parameters_parse(struct imv_str text, struct imv_arena *arena,
                                const struct imv_query_parameter **parameters, size_t *count,
                                struct imv_query_error *error);

struct json_t;

/* The same from a parsed JSON value, for who has read a larger document already. object may be NULL or JSON null. */
imv_status imv_parameters_from_json(const struct json_t *object, struct imv_arena *arena,
                                    const struct imv_query_parameter **parameters, size_t *count,
                                    struct imv_query_error *error);
