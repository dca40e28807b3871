/* table.h - prints an answer as an aligned table, as shells do. */
#pragma once

#include "storage/base/bytes.h"
#include "storage/base/status.h"

#include <stdbool.h>
#include <stdio.h>

/* answer is the JSON that POST /query gives; prints its rows and a line with their number, or the error with its
 * snippet. Returns true when the answer was rows. Columns are cut at 60 characters unless the output is not a
 * terminal. */
bool imv_table_print(FILE *out, struct imv_str answer, bool timing);
