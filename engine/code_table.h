/* code_table.h - a hash table from things to their codes (dense 32-bit numbers), eight bytes an entry.
 *
 * The table holds 32 bits of hash and the code; what the code stands for is the owner's, who compares. Open
 * addressing, linear probing, at most two thirds full.
 *
 * A *shared* table may be read by any thread while its one writer adds: a full table is copied at once into a larger
 * one, and the former is kept until release (names of labels, fields and tag keys: small). A table that is not shared
 * is read under its owner's lock; it grows in steps, a few entries moved with each insertion, so that no single
 * insertion into a table of millions takes long, and frees what it outgrew. Only of such a table entries are removed,
 * too.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define IMV_CODE_NONE UINT32_MAX

struct imv_code_slots;

struct imv_code_table {
    _Atomic(struct imv_code_slots *) slots; /* NULL until the first reserve */
    struct imv_code_slots *moving;          /* not shared: what is being moved into slots, NULL when done */
    uint32_t moved;                         /* how many slots of `moving` are done */
    uint32_t count;
    bool shared;
};

void imv_code_table_init(struct imv_code_table *table, bool shared);
void imv_code_table_release(struct imv_code_table *table);

/* The code whose entry has this hash and for which equal(context, code) holds, or IMV_CODE_NONE. */
uint32_t imv_code_table_find(const struct imv_code_table *table, uint32_t hash,
                             bool (*equal)(const void *context, uint32_t code), const void *context);

/* Makes room for one more entry; false when malloc refuses, with the table as it was. */
bool imv_code_table_reserve(struct imv_code_table *table);
/* Adds an entry for which room was reserved. code < IMV_CODE_NONE. What the code stands for is complete: readers of a
 * shared table may see it at once. */
void imv_code_table_insert(struct imv_code_table *table, uint32_t hash, uint32_t code);

/* Takes out the entry with this hash and code, which is there. Not of a shared table. */
void imv_code_table_remove(struct imv_code_table *table, uint32_t hash, uint32_t code);
