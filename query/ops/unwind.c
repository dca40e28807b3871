/* One row per element of a list; null has none, and any other value is a list of itself. */
#include "query/ops/operator.h"

struct unwind {
    struct imv_operator op;
    struct imv_code *list;
    struct imv_source source;
    struct imv_row_batch *input;
    struct imv_column lists;
    size_t row;
    bool inside;
    struct imv_value items; /* of the row: a list, or the value that stands for one */
    uint32_t given;
};

static imv_status unwind_open(struct imv_operator *op) {
    return imv_compile(&op->branch->compiler, op->plan->unwind.list, &((struct unwind *)op)->list);
}

/* The next row that has elements; *end when there is none. */
static imv_status next_row(struct unwind *unwind, bool *end) {
    *end = false;
    for (;;) {
        unwind->row++;
        if (unwind->input == NULL || unwind->row >= unwind->input->rows) {
            unwind->row = 0;
            IMV_TRY(imv_operator_next(unwind->op.input, &unwind->input));
            *end = unwind->input == NULL;
            if (*end) return IMV_OK;
            IMV_TRY(imv_code_column(unwind->op.exec, unwind->list, unwind->input, &unwind->lists));
        }
        struct imv_value value = imv_column_value(&unwind->lists, unwind->row);
        if (value.kind == IMV_VALUE_NULL || (value.kind == IMV_VALUE_LIST && value.size == 0)) continue;
        unwind->items = value;
        unwind->given = 0;
        unwind->inside = true;
        return IMV_OK;
    }
}

static imv_status unwind_next(struct imv_operator *op, struct imv_row_batch **batch) {
    struct unwind *unwind = (struct unwind *)op;
    if (!imv_source_ready(&unwind->source)) IMV_TRY(imv_source_init(op->exec, op->branch, 0, &unwind->source));
    if (!unwind->inside) {
        bool end;
        IMV_TRY(next_row(unwind, &end));
        if (end) return IMV_OK;
    }
    imv_source_reset(&unwind->source);
    imv_source_copy_row(&unwind->source, unwind->input, unwind->row);
    bool list = unwind->items.kind == IMV_VALUE_LIST;
    uint32_t rows = list ? unwind->items.size - unwind->given : 1;
    if (rows > IMV_BATCH_ROWS_MAX) rows = IMV_BATCH_ROWS_MAX;
    const struct imv_value *items = list ? unwind->items.items + unwind->given : &unwind->items;
    unwind->source.batch.slots[op->plan->unwind.slot] = imv_column_values(items);
    unwind->source.batch.rows = rows;
    unwind->given += rows;
    unwind->inside = list && unwind->given < unwind->items.size;
    *batch = &unwind->source.batch;
    return IMV_OK;
}

static void unwind_close(struct imv_operator *op) { imv_source_release(&((struct unwind *)op)->source); }

const struct imv_operator_class imv_op_unwind = {
    .bytes = sizeof(struct unwind), .open = unwind_open, .next = unwind_next, .close = unwind_close};
