/* utf8.h - is this text UTF-8? (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF) */
#pragma once

#include "storage/base/bytes.h"

#include <stdbool.h>

/* True for the empty text. Any thread. */
bool imv_utf8_valid(struct imv_str text);
