/* arena.h - memory that is freed all at once.
 *
 * An arena hands out pieces of blocks that it gets from malloc and frees them together: a request, a parsed query, a
 * head generation. Pieces are never freed one by one. One thread allocates; pieces may be read by any thread.
 */
#pragma once

#include "storage/base/bytes.h"

#include <stdarg.h>
#include <stddef.h>

struct imv_budget;
struct imv_arena_block;

struct imv_arena {
    struct imv_arena_block *blocks; /* newest first */
    char *next;                     /* first free byte of the newest block */
    char *end;
    size_t block_bytes;        /* size of a fresh block; larger pieces get their own */
    size_t bytes;              /* sum of all blocks: what the arena costs */
    struct imv_budget *budget; /* may be NULL; charged by block */
};

/* The caller owns the struct. block_bytes is the malloc granularity; budget may be NULL. Never fails. */
void imv_arena_init(struct imv_arena *arena, size_t block_bytes, struct imv_budget *budget);

/* Returns size bytes aligned for any type, or NULL when malloc refuses or the budget is spent. Not cleared. */
void *imv_arena_alloc(struct imv_arena *arena, size_t size);

/* As imv_arena_alloc, zero-filled, for count elements; NULL also when count * size overflows. */
void *imv_arena_calloc(struct imv_arena *arena, size_t count, size_t size);

/* Copies text into the arena and appends a NUL that the view does not count; {NULL, 0} when out of memory. */
struct imv_str imv_arena_copy(struct imv_arena *arena, struct imv_str text);

/* printf into the arena; {NULL, 0} when out of memory. */
struct imv_str imv_arena_format(struct imv_arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Takes back all pieces at once and keeps the largest block for the next use. Fresh blocks are made larger (to 1 MiB)
 * when one was not enough, so that a loop that fills and resets an arena settles on one block and mallocs no more. */
void imv_arena_reset(struct imv_arena *arena);

/* Frees every block; the arena can be used again. */
void imv_arena_release(struct imv_arena *arena);
