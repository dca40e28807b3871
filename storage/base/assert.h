/* assert.h - checks of what only our own bug can break.
 *
 * imv_assert stays on in release builds: a database that goes on with a broken invariant is worse than one that stops.
 */
#pragma once

/* Writes the failed condition with its place to standard error and aborts. Async-signal-unsafe, any thread. */
_Noreturn void imv_assert_failed(const char *condition, const char *file, int line);

#define imv_assert(condition) \
    (__builtin_expect(!!(condition), 1) ? (void)0 : imv_assert_failed(#condition, __FILE__, __LINE__))
