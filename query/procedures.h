/* procedures.h - what CALL calls: tables about the server, one row each in the table of procedures.c.
 *
 * A procedure is a function of values (fn/functions.h) whose result is a list of rows, each a list with a value for
 * each column; CALL unwinds it. The rows are made at once, charged to the statement, so a procedure is for tables that
 * fit a query's memory. Names are compared without regard to case.
 *
 * To add one: a function and a row in procedures.c.
 */
#pragma once

#include "query/fn/functions.h"

enum { IMV_PROCEDURE_COLUMNS_MAX = 4 };

struct imv_procedure_column {
    struct imv_str name;
    enum imv_static_type type;
};

struct imv_procedure {
    struct imv_function function; /* a call takes exactly arguments_min arguments */
    const char *description;
    struct imv_procedure_column columns[IMV_PROCEDURE_COLUMNS_MAX];
    size_t columns_count;
};

/* NULL when there is none. */
const struct imv_procedure *imv_procedure_find(struct imv_str name);
/* All of them; NULL behind the last. */
const struct imv_procedure *imv_procedure_at(size_t i);
/* NULL when it has no such column. */
const struct imv_procedure_column *imv_procedure_column(const struct imv_procedure *procedure, struct imv_str name);
