/* families.h - the C functions behind the rows of functions.def, so that the table can name them. */
#pragma once

#include "query/fn/functions.h"

#define SCALAR(text, min, max, nulls, result, argument, c_name)        imv_scalar_function imv_fn_##c_name;
#define VOLATILE(text, min, max, nulls, result, argument, c_name)      imv_scalar_function imv_fn_##c_name;
#define SAMPLE_SCALAR(text, min, max, nulls, result, argument, c_name) imv_scalar_function imv_fn_##c_name;
#define AGGREGATE(text, min, max, result, c_name)
#include "query/fn/functions.def"
#undef SCALAR
#undef VOLATILE
#undef SAMPLE_SCALAR
#undef AGGREGATE
