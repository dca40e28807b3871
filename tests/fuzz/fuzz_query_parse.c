/* Any bytes: parsing and binding end, an error is fit to be shown, and the printed form of a statement is a statement
 * that prints the same. */
#include "query/bind.h"
#include "query/parse.h"
#include "storage/base/assert.h"
#include "storage/base/buffer.h"
#include "storage/base/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(const struct imv_query_error *error) {
    imv_assert(error->code != NULL && error->detail != NULL && error->message[0] != '\0');
    imv_assert(imv_utf8_valid(imv_str_from(error->message)));
    imv_assert(imv_utf8_valid(imv_str_from(error->snippet)));
    imv_assert(imv_utf8_valid(imv_str_from(error->suggestion)));
}

/* The printed form has more parentheses: it may be too deep or too long, but nothing else can be wrong with it. */
static void check_again(const struct imv_buffer *first) {
    struct imv_arena arena;
    struct imv_statement *statement;
    struct imv_query_error error = {0};
    imv_arena_init(&arena, 16 * 1024, NULL);
    if (imv_parse(imv_buffer_view(first), &arena, &statement, &error) == IMV_OK) {
        struct imv_buffer second;
        imv_buffer_init(&second, 1 << 24);
        imv_statement_print(&second, statement);
        imv_assert(imv_str_equal(imv_buffer_view(first), imv_buffer_view(&second)));
        imv_buffer_release(&second);
    } else {
        imv_assert(strcmp(error.detail, "NestingTooDeep") == 0 || strcmp(error.detail, "QueryTooLong") == 0);
    }
    imv_arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size == 0 ? 1 : size);
    if (size > 0) memcpy(text, data, size);
    struct imv_arena arena;
    struct imv_statement *statement;
    struct imv_query_error error = {0};
    imv_arena_init(&arena, 16 * 1024, NULL);
    imv_status status = imv_parse((struct imv_str){text, size}, &arena, &statement, &error);
    if (status == IMV_OK) {
        struct imv_buffer printed;
        imv_buffer_init(&printed, 1 << 24);
        imv_statement_print(&printed, statement);
        imv_assert(!printed.failed);
        check_again(&printed);
        imv_buffer_release(&printed);
        status = imv_bind(statement, &error);
    }
    if (status != IMV_OK) check_error(&error);
    imv_arena_release(&arena);
    free(text);
    return 0;
}
