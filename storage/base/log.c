#include "storage/base/log.h"

#include "storage/base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES_MAX = 1024 };

static _Atomic int level_min = IMV_LOG_INFO;

void imv_log_set_level(enum imv_log_level level) { atomic_store(&level_min, (int)level); }

void imv_log(enum imv_log_level level, const char *component, const char *format, ...) {
    static const char *const names[] = {"debug", "info ", "warn ", "error"};
    if ((int)level < atomic_load_explicit(&level_min, memory_order_relaxed)) return;
    int64_t now = imv_clock_wall_ns(imv_clock_system());
    time_t seconds = (time_t)(now / 1000000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    char line[LINE_BYTES_MAX];
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    used += (size_t)snprintf(line + used, sizeof line - used, ".%03dZ %s %s ", (int)(now / 1000000 % 1000),
                             names[level], component);
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line + used, sizeof line - used, format, args);
    va_end(args);
    used += size < 0 ? 0 : (size_t)size;
    if (used > sizeof line - 1) used = sizeof line - 1;
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used); /* one call: lines of several threads do not mix */
    (void)written;
}
