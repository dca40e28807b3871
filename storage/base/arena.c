#include "storage/base/arena.h"

#include "storage/base/assert.h"
#include "storage/base/budget.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ALIGNMENT = 16,
    RESET_BLOCK_BYTES_MAX = 1 << 20, /* a reset grows fresh blocks up to here, where malloc's cost is lost in the use */
};

struct imv_arena_block {
    struct imv_arena_block *older;
    size_t bytes; /* of the whole block, header included */
};
_Static_assert(sizeof(struct imv_arena_block) % ALIGNMENT == 0, "pieces follow the header");

void imv_arena_init(struct imv_arena *arena, size_t block_bytes, struct imv_budget *budget) {
    imv_assert(block_bytes >= 256);
    *arena = (struct imv_arena){.block_bytes = block_bytes, .budget = budget};
}

static struct imv_arena_block *add_block(struct imv_arena *arena, size_t bytes) {
    if (arena->budget != NULL && !imv_budget_take(arena->budget, bytes)) return NULL;
    struct imv_arena_block *block = malloc(bytes);
    if (block == NULL) {
        if (arena->budget != NULL) imv_budget_give(arena->budget, bytes);
        return NULL;
    }
    *block = (struct imv_arena_block){.older = arena->blocks, .bytes = bytes};
    arena->blocks = block;
    arena->bytes += bytes;
    return block;
}

/* A piece that would waste most of a fresh block gets a block of its own, behind the one being filled. */
static void *alloc_large(struct imv_arena *arena, size_t size) {
    struct imv_arena_block *filling = arena->blocks;
    struct imv_arena_block *block = add_block(arena, sizeof *block + size);
    if (block == NULL) return NULL;
    if (filling != NULL) {
        arena->blocks = filling;
        block->older = filling->older;
        filling->older = block;
    }
    return block + 1;
}

void *imv_arena_alloc(struct imv_arena *arena, size_t size) {
    if (size > SIZE_MAX / 2) return NULL;
    if (size == 0) size = 1; /* NULL means refused, also for a piece of nothing in an arena without blocks */
    size = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if ((size_t)(arena->end - arena->next) < size) {
        if (size > arena->block_bytes / 4) return alloc_large(arena, size);
        struct imv_arena_block *block = add_block(arena, arena->block_bytes);
        if (block == NULL) return NULL;
        arena->next = (char *)(block + 1);
        arena->end = (char *)block + block->bytes;
    }
    void *piece = arena->next;
    arena->next += size;
    return piece;
}

void *imv_arena_calloc(struct imv_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return NULL;
    void *piece = imv_arena_alloc(arena, bytes);
    if (piece != NULL) memset(piece, 0, bytes);
    return piece;
}

struct imv_str imv_arena_copy(struct imv_arena *arena, struct imv_str text) {
    char *copy = imv_arena_alloc(arena, text.size + 1);
    if (copy == NULL) return (struct imv_str){0};
    if (text.size > 0) memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    return (struct imv_str){copy, text.size};
}

struct imv_str imv_arena_format(struct imv_arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int size = vasprintf(&text, format, args);
    va_end(args);
    if (size < 0) return (struct imv_str){0};
    struct imv_str copy = imv_arena_copy(arena, (struct imv_str){text, (size_t)size});
    free(text);
    return copy;
}

void imv_arena_reset(struct imv_arena *arena) {
    struct imv_arena_block *kept = arena->blocks;
    if (kept == NULL) return;
    for (struct imv_arena_block *block = kept->older; block != NULL; block = block->older) {
        if (block->bytes > kept->bytes) kept = block;
    }
    for (struct imv_arena_block *block = arena->blocks; block != NULL;) {
        struct imv_arena_block *older = block->older;
        if (block != kept) free(block);
        block = older;
    }
    if (arena->budget != NULL) imv_budget_give(arena->budget, arena->bytes - kept->bytes);
    if (arena->bytes > kept->bytes && arena->block_bytes < RESET_BLOCK_BYTES_MAX) {
        arena->block_bytes = arena->bytes < RESET_BLOCK_BYTES_MAX ? arena->bytes : RESET_BLOCK_BYTES_MAX;
    }
    kept->older = NULL;
    arena->blocks = kept;
    arena->bytes = kept->bytes;
    arena->next = (char *)(kept + 1);
    arena->end = (char *)kept + kept->bytes;
}

void imv_arena_release(struct imv_arena *arena) {
    for (struct imv_arena_block *block = arena->blocks; block != NULL;) {
        struct imv_arena_block *older = block->older;
        free(block);
        block = older;
    }
    if (arena->budget != NULL) imv_budget_give(arena->budget, arena->bytes);
    imv_arena_init(arena, arena->block_bytes, arena->budget);
}
