/* flush.h - writes frozen heads out as chunks.
 *
 *     rows of each series -> cut by slot and size -> encode -> sort by key -> table files by (class, slot)
 *       -> ingest all -> catalog into `meta` -> one batch: parts, watermark, tombstones, generation
 *       -> lists swapped
 *
 * The batch is the moment of truth. Before it, a crash leaves files that no part names (dropped at the next start) and
 * a journal that still has every row. After it, the rows are in chunks and the journal below the watermark is never
 * replayed. Readers see the rows move in one step: the new list of parts and the heads without the flushed one appear
 * under one lock.
 *
 * A flush that fails before the batch starts over later with another generation. When the batch itself fails it is
 * unknown whether the store holds it: the files stay, and the next try writes the same batch again.
 *
 * A slot has table files of its own, so that it is dropped whole. Only when late rows fall into more than a few small
 * slots do these share files, as scattered parts (parts.h): a flush over thousands of days costs a few syncs, not
 * thousands. Files of different flushes overlap in nothing either way.
 *
 * Rows past the retention of their label are not written, nor are deleted ones. Encoded chunks are collected in memory
 * up to IMV_FLUSH_BYTES_MAX, then written as tables of a generation of their own; besides, a flush needs as much memory
 * as the largest series of the head. None of it is charged to the head budget, so that a flush can always give memory
 * back.
 */
#pragma once

#include "storage/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct imv_engine;

enum { IMV_FLUSH_BYTES_MAX = 256 << 20 };

/* Flushes the oldest frozen head of a shard. IMV_NOT_FOUND: it has none. Any thread; one flush runs at a time. On
 * another failure the head stays; it is counted, logged, and imv_flush_next leaves the shard alone for a while that
 * doubles with each failure, from 100 ms to 5 s. */
imv_status imv_flush_head(struct imv_engine *engine, uint32_t shard, struct imv_error *err);

/* Flushes one frozen head of any shard, the shards taking turns. *did_work is true when one was flushed or failed. */
imv_status imv_flush_next(struct imv_engine *engine, bool *did_work, struct imv_error *err);
