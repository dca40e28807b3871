/* log.h - the server's log: one line an event, on standard error.
 *
 *     2026-01-01T00:00:00.000Z info  wal shard=0 segments=4 recovered_rows=1200
 *
 * A line is level, component, then text that reads as key=value where it can. Any thread; a line is written whole.
 */
#pragma once

enum imv_log_level { IMV_LOG_DEBUG, IMV_LOG_INFO, IMV_LOG_WARN, IMV_LOG_ERROR };

/* Lines below this level are dropped. The default is IMV_LOG_INFO. */
void imv_log_set_level(enum imv_log_level level);

/* component is a literal such as "wal". Lines over 1,024 bytes are cut. */
void imv_log(enum imv_log_level level, const char *component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
