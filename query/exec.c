#include "query/exec.h"

#include "query/error.h"

#include <stdio.h>
#include <stdlib.h>

/* 64 KiB: a batch of 1,024 values of sixteen bytes and its bitmaps fit a few times. */
enum { ARENA_BLOCK_BYTES = 64 * 1024 };

imv_status imv_exec_poll(struct imv_exec *exec) {
    const struct imv_query_request *request = exec->request;
    if (request->cancelled != NULL && atomic_load_explicit(request->cancelled, memory_order_relaxed))
        return imv_query_fail_nowhere(exec->error, IMV_CANCELLED, "ResourceError", "Cancelled",
                                      "the query was cancelled");
    if (request->deadline_ns != INT64_MAX && imv_clock_monotonic_ns(exec->clock) >= request->deadline_ns)
        return imv_query_fail_nowhere(exec->error, IMV_TIMEOUT, "ResourceError", "Timeout",
                                      "the query ran into its deadline");
    return IMV_OK;
}

imv_status imv_exec_fail(struct imv_exec *exec, imv_status status, struct imv_span span, const char *code,
                         const char *detail, const char *format, ...) {
    char message[sizeof exec->error->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return imv_query_fail(exec->error, status, exec->request->text, span, code, detail, "%s", message);
}

imv_status imv_exec_fail_memory(struct imv_exec *exec) {
    if (atomic_load_explicit(&exec->budget.refusals_of_parent, memory_order_relaxed) > 0)
        return imv_query_fail_nowhere(exec->error, IMV_FULL, "ResourceError", "MemoryLimit",
                                      "the queries that run now need more than their %zu bytes of memory together; try "
                                      "again later",
                                      exec->request->memory->bytes_max);
    if (atomic_load_explicit(&exec->budget.refusals, memory_order_relaxed) == 0)
        return imv_query_fail_memory(exec->error);
    return imv_query_fail_nowhere(exec->error, IMV_FULL, "ResourceError", "MemoryLimit",
                                  "the query needs more than its %zu bytes of memory", exec->budget.bytes_max);
}

imv_status imv_exec_fail_engine(struct imv_exec *exec, const struct imv_error *err) {
    if (err->status == IMV_FULL || err->status == IMV_NO_MEMORY) return imv_exec_fail_memory(exec);
    return imv_query_fail_nowhere(exec->error, err->status, "StorageError",
                                  err->status == IMV_CORRUPT ? "Corrupt" : "Failed", "%s", err->message);
}

void *imv_exec_take(struct imv_exec *exec, size_t bytes) {
    if (!imv_budget_take(&exec->budget, bytes)) return NULL;
    void *memory = malloc(bytes);
    if (memory == NULL) imv_budget_give(&exec->budget, bytes);
    return memory;
}

void imv_exec_give(struct imv_exec *exec, void *memory, size_t bytes) {
    if (memory == NULL) return;
    free(memory);
    imv_budget_give(&exec->budget, bytes);
}

void imv_exec_arena_init(struct imv_exec *exec, struct imv_arena *arena) {
    imv_arena_init(arena, ARENA_BLOCK_BYTES, &exec->budget);
}
