/* resources.h - what the engine uses of disk and memory: refusing writes before the disk is full, and telling /metrics.
 *
 * The journal overwrites segments that are there, so what is under way can always be acknowledged; but flushes need new
 * files, and RocksDB must never meet a full disk (kv.c). So when less than options.free_bytes_min are free, nothing new
 * is taken from outside (imv_exchange_refuse): sources that can tell their client do, the others stop reading. Reads,
 * flushes and retention go on. Writes are taken again, with no restart, when an eighth more than that is free.
 *
 * Shards and the background thread look, all together at most ten times a second: each look is one call of statvfs.
 */
#pragma once

#include "storage/base/status.h"

struct imv_engine;

/* Looks at the disk when that is due. Any thread, cheap. */
void imv_resources_look(struct imv_engine *engine);
