#include "connectors/cli/ask.h"
#include "connectors/cli/commands.h"
#include "connectors/cli/table.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

enum { STATEMENT_BYTES_MAX = 64 * 1024 };

struct options {
    const char *url, *format, *text;
    bool time_as_integer;
    json_t *params;
};

/* NAME=VALUE; VALUE as JSON when it reads as such, else as text. */
static bool add_parameter(json_t *params, const char *text) {
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text) return false;
    char *name = strndup(text, (size_t)(equals - text));
    json_t *value = json_loads(equals + 1, JSON_DECODE_ANY, NULL);
    if (value == NULL) value = json_string(equals + 1);
    bool added = name != NULL && json_object_set_new(params, name, value) == 0;
    free(name);
    return added;
}

static int parse(struct options *options, int argc, char **argv) {
    for (int i = 0; i < argc; i++) {
        const char *flag = argv[i];
        if (strncmp(flag, "--", 2) != 0) {
            if (options->text != NULL) return imv_command_usage("query", "more than one statement: '%s'", flag);
            options->text = flag;
            continue;
        }
        if (i + 1 == argc) return imv_command_usage("query", "%s needs a value", flag);
        const char *value = argv[++i];
        if (strcmp(flag, "--url") == 0)
            options->url = value;
        else if (strcmp(flag, "--format") == 0)
            options->format = value;
        else if (strcmp(flag, "--time") == 0 && strcmp(value, "ns") == 0)
            options->time_as_integer = true;
        else if (strcmp(flag, "--param") == 0) {
            if (!add_parameter(options->params, value))
                return imv_command_usage("query", "--param %s: NAME=VALUE is expected", value);
        } else
            return imv_command_usage("query", "there is no flag %s %s", flag, value);
    }
    if (options->text == NULL) return imv_command_usage("query", "no statement given");
    return 0;
}

static bool print_through(void *context, const char *bytes, size_t size) {
    return fwrite(bytes, 1, size, context) == size;
}

/* NULL: no memory, or longer than any statement may be; its first part could be another statement. */
static char *read_statement(void) {
    char *text = malloc(STATEMENT_BYTES_MAX + 2);
    size_t size = text == NULL ? 0 : fread(text, 1, STATEMENT_BYTES_MAX + 1, stdin);
    if (size <= STATEMENT_BYTES_MAX && text != NULL) {
        text[size] = 0;
        return text;
    }
    free(text);
    return NULL;
}

static int ask_and_print(const struct options *options, struct imv_client *client, const char *text,
                         const char *accept) {
    struct imv_error err;
    struct imv_buffer answer;
    int status;
    bool table = strcmp(options->format, "table") == 0;
    imv_buffer_init(&answer, (size_t)1 << 31);
    imv_status asked =
        imv_ask(client, imv_str_from(text), options->params, accept, options->time_as_integer,
                table ? imv_client_collect : print_through, table ? (void *)&answer : (void *)stdout, &status, &err);
    int result;
    if (asked != IMV_OK)
        result = imv_command_fail("query", &err);
    else if (table)
        result = imv_table_print(stdout, imv_buffer_view(&answer), true) ? 0 : 1;
    else
        result = status == 200 ? 0 : 1;
    imv_buffer_release(&answer);
    return result;
}

int imv_command_query(int argc, char **argv) {
    static const struct {
        const char *format, *accept;
    } formats[] = {{"table", "application/json"},
                   {"json", "application/json"},
                   {"ndjson", "application/x-ndjson"},
                   {"csv", "text/csv"},
                   {"arrow", "application/vnd.apache.arrow.stream"}};
    struct options options = {.url = "http://127.0.0.1:8086", .format = "table", .params = json_object()};
    struct imv_error err;
    struct imv_client *client = NULL;
    int result = parse(&options, argc, argv);
    const char *accept = NULL;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(options.format, formats[i].format) == 0) accept = formats[i].accept;
    }
    if (result == 0 && accept == NULL)
        result =
            imv_command_usage("query", "--format %s: table, json, ndjson, csv or arrow is expected", options.format);
    if (result == 0 && imv_client_new(options.url, &client, &err) != IMV_OK) result = imv_command_fail("query", &err);
    if (result == 0) {
        bool from_input = strcmp(options.text, "-") == 0;
        char *read = from_input ? read_statement() : NULL;
        if (from_input && read == NULL)
            result = imv_command_usage("query", "the statement is longer than %d bytes", STATEMENT_BYTES_MAX);
        else
            result = ask_and_print(&options, client, from_input ? read : options.text, accept);
        free(read);
    }
    imv_client_free(client);
    json_decref(options.params);
    return result;
}
