#include "query/query.h"

#include "engine/engine.h"
#include "query/bind.h"
#include "query/error.h"
#include "query/explain.h"
#include "query/operate.h"
#include "query/opt/opt.h"
#include "query/parse.h"
#include "query/regex.h"

/* ---- beginning and end ---- */

static struct imv_exec exec_of(struct imv_engine *engine, const struct imv_query_request *request,
                               struct imv_query_error *error) {
    const struct imv_clock *clock = request->clock != NULL ? request->clock : imv_engine_clock(engine);
    return (struct imv_exec){
        .engine = engine,
        .catalog = imv_engine_catalog(engine),
        .request = request,
        .clock = clock,
        .error = error,
        .budget = {.name = "query", .bytes_max = request->memory_bytes_max, .parent = request->memory},
        .now_ns = imv_clock_wall_ns(clock),
    };
}

static void exec_release(struct imv_exec *exec) {
    imv_twin_readers_free(exec);
    imv_regexes_free(exec);
    imv_snapshot_release(exec->snapshot);
    imv_arena_release(&exec->arena);
    imv_assert(imv_budget_used(&exec->budget) == 0);
}

/* ---- parameters ---- */

static const struct imv_value *find_parameter(const struct imv_query_request *request, struct imv_str name) {
    for (size_t i = 0; i < request->parameters_count; i++)
        if (imv_str_equal(request->parameters[i].name, name)) return request->parameters[i].value;
    return NULL;
}

static imv_status fail_missing(struct imv_exec *exec, const struct imv_parameter_use *use) {
    struct imv_suggester suggester;
    imv_status status = imv_exec_fail(exec, IMV_INVALID, use->span, "ParameterMissing", "MissingParameter",
                                      "the statement needs a parameter `%.*s`", (int)use->name.size, use->name.data);
    imv_suggester_init(&suggester, use->name);
    for (size_t i = 0; i < exec->request->parameters_count; i++)
        imv_suggester_offer(&suggester, exec->request->parameters[i].name);
    imv_query_suggest(exec->error, &suggester);
    return status;
}

static imv_status take_parameters(struct imv_exec *exec, const struct imv_statement *statement) {
    struct imv_value *values = imv_arena_calloc(&exec->arena, statement->parameters_count + 1, sizeof *values);
    if (values == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < statement->parameters_count; i++) {
        const struct imv_value *value = find_parameter(exec->request, statement->parameters[i].name);
        if (value == NULL) return fail_missing(exec, &statement->parameters[i]);
        values[i] = *value;
    }
    exec->parameters = values;
    return IMV_OK;
}

/* What running needs beyond the text: values of parameters, scratch memory, the snapshot. */
static imv_status prepare(struct imv_exec *exec, const struct imv_statement *statement) {
    uint32_t locals = 0;
    struct imv_error err = {0};
    IMV_TRY(take_parameters(exec, statement));
    for (uint32_t i = 0; i < statement->branches_count; i++)
        if (statement->branches[i].locals_count > locals) locals = statement->branches[i].locals_count;
    exec->locals = imv_arena_calloc(&exec->arena, locals + 1, sizeof *exec->locals);
    if (exec->locals == NULL) return imv_exec_fail_memory(exec);
    exec->hash_seed = (uint64_t)imv_clock_monotonic_ns(exec->clock) * 0x9e3779b97f4a7c15u ^ (uintptr_t)exec->locals;
    imv_prng_init(&exec->prng, exec->hash_seed);
    exec->profile = statement->explain == IMV_EXPLAIN_PROFILE;
    if (imv_snapshot_take(exec->engine, &exec->snapshot, &err) != IMV_OK) return imv_exec_fail_engine(exec, &err);
    return IMV_OK;
}

/* ---- rows ---- */

/* The sink said no: the client is gone, or has a reason of its own. */
static imv_status fail_sink(struct imv_exec *exec) {
    return imv_query_fail_nowhere(exec->error, IMV_CANCELLED, "ResourceError", "Cancelled",
                                  "the receiver of the result stopped");
}

static imv_status send_header(struct imv_exec *exec, const struct imv_statement *statement,
                              struct imv_query_sink *sink) {
    const struct imv_projection *result = imv_single_query_result(&statement->branches[0]);
    struct imv_str *names = imv_arena_calloc(&exec->arena, result->items_count + 1, sizeof *names);
    if (names == NULL) return imv_exec_fail_memory(exec);
    for (uint32_t i = 0; i < result->items_count; i++) names[i] = result->items[i].name;
    return sink->begin(sink, names, result->items_count) ? IMV_OK : fail_sink(exec);
}

/* Runs the operators; sink NULL: for their counters alone. The header goes before the first rows and not earlier: until
 * then a failure can still be the whole answer. */
static imv_status pull(struct imv_exec *exec, const struct imv_statement *statement, struct imv_operator *op,
                       struct imv_query_sink *sink, uint64_t *rows) {
    bool begun = sink == NULL;
    for (;;) {
        struct imv_row_batch *batch;
        IMV_TRY(imv_operator_next(op, &batch));
        if (!begun) IMV_TRY(send_header(exec, statement, sink));
        begun = true;
        if (batch == NULL) return IMV_OK;
        *rows += batch->rows;
        if (sink != NULL && !sink->rows(sink, batch->slots, batch->slots_count, batch->rows)) return fail_sink(exec);
    }
}

static imv_status execute(struct imv_exec *exec, const struct imv_statement *statement, const struct imv_plan *plan,
                          struct imv_query_sink *sink, struct imv_query_statistics *statistics) {
    struct imv_operator *op = NULL;
    bool profile = statement->explain == IMV_EXPLAIN_PROFILE;
    if (statement->explain == IMV_EXPLAIN_PLAN) {
        imv_status told = imv_explain(plan, NULL, sink, &statistics->rows);
        return told == IMV_CANCELLED ? fail_sink(exec) : told;
    }
    imv_status status = imv_operator_open(exec, NULL, plan, &op);
    if (status == IMV_OK) status = pull(exec, statement, op, profile ? NULL : sink, &statistics->rows);
    if (status == IMV_OK && profile) {
        status = imv_explain(plan, op, sink, &statistics->rows);
        if (status == IMV_CANCELLED) status = fail_sink(exec);
    }
    imv_operator_close(op);
    return status;
}

static imv_status run(struct imv_exec *exec, struct imv_query_sink *sink) {
    int64_t started_ns = imv_clock_monotonic_ns(exec->clock);
    struct imv_statement *statement;
    struct imv_plan *plan;
    struct imv_query_statistics statistics = {0};
    IMV_TRY(imv_parse(exec->request->text, &exec->arena, &statement, exec->error));
    IMV_TRY(imv_bind(statement, exec->error));
    IMV_TRY(prepare(exec, statement));
    IMV_TRY(imv_plan_statement(exec, statement, &plan));
    IMV_TRY(imv_optimize(exec, &plan));
    IMV_TRY(execute(exec, statement, plan, sink, &statistics));
    statistics.samples = exec->samples;
    statistics.elapsed_ns = imv_clock_monotonic_ns(exec->clock) - started_ns;
    return sink->end(sink, &statistics) ? IMV_OK : fail_sink(exec);
}

imv_status imv_query_run(struct imv_engine *engine, const struct imv_query_request *request,
                         struct imv_query_sink *sink, struct imv_query_error *error) {
    struct imv_query_error ignored;
    struct imv_exec exec = exec_of(engine, request, error != NULL ? error : &ignored);
    imv_exec_arena_init(&exec, &exec.arena);
    imv_status status = run(&exec, sink);
    exec_release(&exec);
    return status;
}
