/* kv_memory.h - an ordered map in RocksDB's place, with failures and power cuts at a chosen operation.
 *
 * A struct imv_kv_memory is the disk: what is durable. Opening it gives a struct imv_kv with RocksDB's behaviour: a
 * write or an ingestion is durable when it returns, iterators keep the view they were made with, drop_range drops whole
 * tables. A crash cuts the power: handles opened before it only fail from then on (and are still to be closed), a table
 * that was not ingested is gone, and what was durable is found by the next open.
 *
 *     new -> open -> ... -> arm(n, CRASH) -> ... operations fail -> close the dead handle -> crash -> open -> check
 *
 * A view that an iterator hands out is a copy that dies when the iterator moves, so that a sanitizer sees a late use.
 * Any thread; one open handle at a time (a second is IMV_BUSY, as with RocksDB's lock).
 */
#pragma once

#include "storage/kv.h"

struct imv_kv_memory;

enum imv_kv_memory_fault {
    IMV_KV_MEMORY_FAIL,  /* IMV_IO, nothing happened */
    IMV_KV_MEMORY_CRASH, /* IMV_IO; whether it happened is drawn from the seed; every later operation fails too */
};

imv_status imv_kv_memory_new(uint64_t seed, struct imv_kv_memory **memory, struct imv_error *err);
/* No handle is open. NULL is allowed. */
void imv_kv_memory_free(struct imv_kv_memory *memory);
/* The handle is closed with imv_kv_close. */
imv_status imv_kv_memory_open(struct imv_kv_memory *memory, struct imv_kv **kv, struct imv_error *err);

/* Arms a fault at the operation with this number, counted from 1 over writes, table finishes, ingestions and drops. */
void imv_kv_memory_arm(struct imv_kv_memory *memory, uint64_t operation, enum imv_kv_memory_fault fault);
/* How many operations have been counted so far. */
uint64_t imv_kv_memory_operations(const struct imv_kv_memory *memory);
/* Power cut and restart: open handles are dead, faults are disarmed, the next open works again. */
void imv_kv_memory_crash(struct imv_kv_memory *memory);
/* The stored bytes of a key's value, to damage them in place; NULL when absent. Valid until the next change. */
uint8_t *imv_kv_memory_bytes(struct imv_kv_memory *memory, enum imv_kv_family family, struct imv_str key, size_t *size);
/* What imv_kv_space says from now on; nothing else keeps to it. Without it, all there could be. */
void imv_kv_memory_set_space(struct imv_kv_memory *memory, uint64_t bytes);
/* How many iterators there are. */
size_t imv_kv_memory_iterators(const struct imv_kv_memory *memory);
/* How many ingested tables there are. */
size_t imv_kv_memory_tables(const struct imv_kv_memory *memory);
