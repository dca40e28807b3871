/* backup.h - POST /admin/backup: the data of a running server as one tar archive (engine/backup.h).
 *
 * The backup is made and read on a thread of its own pool and streamed as the client takes it, through a bounded
 * buffer; a client that goes away, or that reads nothing for as long as connections may stall, ends it. Nothing is
 * written where the client says, and only a checkpoint of hard links in the data directory while it lasts.
 *
 * 200 and the archive. A failure on the way breaks the connection: the archive then has no MANIFEST and is no backup.
 * 409: another backup is under way. 503: it could not begin, the text says why; try again.
 */
#pragma once

#include "connectors/http/http.h"

extern const struct imv_http_handler imv_http_backup_handler;
