/* text.h - lengths and reversal of strings by code point, shared by the functions of strings and of lists. */
#pragma once

#include "query/value.h"

size_t imv_text_length(struct imv_str text);
/* False when out of memory. */
bool imv_text_reverse(struct imv_arena *arena, struct imv_str text, struct imv_value *result);
