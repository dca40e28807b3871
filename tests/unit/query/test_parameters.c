#include "query/parameters.h"
#include "query/value.h"
#include "storage/base/buffer.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct imv_arena arena;

static void setup(void) { imv_arena_init(&arena, 1024, NULL); }
static void teardown(void) { imv_arena_release(&arena); }

/* Every JSON value becomes the value that it looks like. */
Test(parameters, reads_values, .init = setup, .fini = teardown) {
    const struct imv_query_parameter *parameters;
    struct imv_query_error error = {0};
    size_t count;
    const char *text = "{\"i\": -5, \"f\": 1.0, \"s\": \"a\\u0000b\", \"t\": true, \"n\": null, \"l\": [1, [2]], "
                       "\"m\": {\"k\": \"v\"}}";
    cr_assert_eq(imv_parameters_parse(imv_str_from(text), &arena, &parameters, &count, &error), IMV_OK);
    cr_assert_eq(count, 7);
    struct imv_buffer out;
    imv_buffer_init(&out, 4096);
    for (size_t i = 0; i < count; i++) {
        imv_buffer_append_format(&out, "%.*s=%s:", (int)parameters[i].name.size, parameters[i].name.data,
                                 imv_value_kind_name(parameters[i].value->kind));
        imv_value_print(&out, parameters[i].value);
        imv_buffer_append_char(&out, ';');
    }
    static const char wanted[] =
        "i=integer:-5;f=float:1.0;s=string:a\0b;t=boolean:true;n=null:null;l=list:[1, [2]];m=map:{k: 'v'};";
    cr_expect_eq(out.size, sizeof wanted - 1);
    cr_expect_eq(memcmp(out.data, wanted, sizeof wanted - 1), 0, "%.*s", (int)out.size, out.data);
    imv_buffer_release(&out);
}

/* Nothing means no parameters; what is no object, too deep, too large or no JSON is an error. */
Test(parameters, refuses_the_rest, .init = setup, .fini = teardown) {
    static const char *const bad[] = {"[]",
                                      "1",
                                      "{",
                                      "{\"a\":}",
                                      "{\"a\": 9223372036854775808}",
                                      "{\"a\": 1e999}",
                                      "{\"a\": 1, \"a\": 2}",
                                      "{\"a\": \"\\ud800\"}",
                                      "{} x"};
    const struct imv_query_parameter *parameters;
    struct imv_query_error error = {0};
    size_t count = 1;
    cr_assert_eq(imv_parameters_parse(IMV_STR(""), &arena, &parameters, &count, &error), IMV_OK);
    cr_expect_eq(count, 0);
    cr_assert_eq(imv_parameters_parse(IMV_STR("null"), &arena, &parameters, &count, &error), IMV_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(imv_parameters_parse(imv_str_from(bad[i]), &arena, &parameters, &count, &error), IMV_INVALID, "%s",
                     bad[i]);
        cr_expect_str_eq(error.detail, "InvalidParameters");
    }
    char deep[1024] = "{\"a\":";
    for (int i = 0; i < 100; i++) strcat(deep, "[");
    for (int i = 0; i < 100; i++) strcat(deep, "]");
    strcat(deep, "}");
    cr_expect_eq(imv_parameters_parse(imv_str_from(deep), &arena, &parameters, &count, &error), IMV_INVALID);
}

/* No cut and no flipped byte of a document does harm. */
Test(parameters, survives_damage, .init = setup, .fini = teardown) {
    const char *text = "{\"host\": [\"h1\", -1.5e3, null], \"m\": {\"k\": 12}}";
    size_t size = strlen(text), count;
    const struct imv_query_parameter *parameters;
    struct imv_query_error error;
    for (size_t cut = 0; cut < size; cut++) {
        char *copy = malloc(cut + 1);
        memcpy(copy, text, cut);
        imv_parameters_parse((struct imv_str){copy, cut}, &arena, &parameters, &count, &error);
        free(copy);
    }
    for (size_t at = 0; at < size; at++)
        for (int byte = 0; byte < 256; byte++) {
            char copy[128];
            memcpy(copy, text, size);
            copy[at] = (char)byte;
            imv_parameters_parse((struct imv_str){copy, size}, &arena, &parameters, &count, &error);
        }
}
