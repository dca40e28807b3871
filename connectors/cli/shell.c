/* The interactive shell, on libedit: history in $XDG_STATE_HOME/imvdb/history, completion of keywords and of the names
 * that answers have shown. */
#include "connectors/cli/ask.h"
#include "connectors/cli/commands.h"
#include "connectors/cli/table.h"

#include <ctype.h>
#include <editline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATEMENT_BYTES_MAX = 64 * 1024, HISTORY_LINES_MAX = 1000 };

static const char *const words[] = {
    "MATCH",    "WHERE",        "SAMPLES OF", "FROM",    "TO",          "FILTER", "WINDOW",    "FILL",
    "RETURN",   "ORDER BY",     "DESC",       "SKIP",    "LIMIT",       "WITH",   "UNWIND",    "LET",
    "DISTINCT", "AS",           "AND",        "OR",      "NOT",         "IN",     "IS NULL",   "CASE",
    "WHEN",     "THEN",         "ELSE",       "END",     "EXPLAIN",     "UNION",  "count(",    "sum(",
    "avg(",     "min(",         "max(",       "first(",  "last(",       "stdev(", "collect(",  "last_time(",
    "now()",    "window.start", "window.end", "labels(", "properties(", "keys(",  "datetime(", "percentile_cont(",
    ":help",    ":quit",        ":timing",    NULL,
};

static const char help[] = "A statement ends with ; or an empty line.\n"
                           "  :help         this text\n"
                           "  :timing       show or hide the time that a statement took\n"
                           "  :quit         leave (also ctrl-D)\n"
                           "For example:\n"
                           "  MATCH (p:pump) RETURN p.id, p.temperature, last_time(p);\n"
                           "  MATCH (p:pump) SAMPLES OF p AS s FROM now() - 1h WINDOW 5m\n"
                           "    RETURN p.id, window.start AS t, avg(s.flow) ORDER BY t;\n";

struct shell {
    struct imv_client *client;
    const char *url;
    bool timing;
    char history[4096];
};

/* libedit asks for one candidate after the other. */
static char *next_word(const char *text, int state) {
    static size_t at;
    if (state == 0) at = 0;
    for (; words[at] != NULL; at++) {
        if (strncasecmp(words[at], text, strlen(text)) == 0) return strdup(words[at++]);
    }
    return NULL;
}

static void open_history(struct shell *shell) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char directory[2048] = "";
    if (state != NULL)
        snprintf(directory, sizeof directory, "%s", state);
    else if (home != NULL)
        snprintf(directory, sizeof directory, "%s/.local/state", home);
    if (directory[0] == 0) return;
    char folder[2060];
    snprintf(folder, sizeof folder, "%s/imvdb", directory);
    mkdir(directory, 0777); /* history is a convenience: without a place for it the shell works all the same */
    mkdir(folder, 0777);
    snprintf(shell->history, sizeof shell->history, "%s/history", folder);
    using_history();
    stifle_history(HISTORY_LINES_MAX);
    read_history(shell->history);
}

static void run_statement(struct shell *shell, struct imv_str text) {
    struct imv_error err;
    struct imv_buffer answer;
    int status;
    imv_buffer_init(&answer, (size_t)1 << 31);
    if (imv_ask(shell->client, text, NULL, "application/json", false, imv_client_collect, &answer, &status, &err) ==
        IMV_OK)
        imv_table_print(stdout, imv_buffer_view(&answer), shell->timing);
    else
        fprintf(stderr, "%s\n", err.message);
    imv_buffer_release(&answer);
}

/* A line that starts with a colon; false to leave. */
static bool run_colon(struct shell *shell, const char *line) {
    if (strcmp(line, ":quit") == 0 || strcmp(line, ":q") == 0) return false;
    if (strcmp(line, ":timing") == 0) {
        shell->timing = !shell->timing;
        printf("timing is %s\n", shell->timing ? "on" : "off");
    } else {
        if (strcmp(line, ":help") != 0) printf("there is no %s\n", line);
        fputs(help, stdout);
    }
    return true;
}

static bool ends_with_semicolon(const struct imv_buffer *text) {
    size_t size = text->size;
    while (size > 0 && isspace((unsigned char)text->data[size - 1])) size--;
    return size > 0 && text->data[size - 1] == ';';
}

static struct imv_str trimmed(const struct imv_buffer *text) {
    size_t start = 0, size = text->size;
    while (size > 0 && (isspace((unsigned char)text->data[size - 1]) || text->data[size - 1] == ';')) size--;
    while (start < size && isspace((unsigned char)text->data[start])) start++;
    return (struct imv_str){text->data + start, size - start};
}

/* Runs what is gathered when the line completes it. */
static void take_line(struct shell *shell, struct imv_buffer *statement, const char *line) {
    bool empty = line[strspn(line, " \t")] == 0;
    if (!imv_buffer_append_format(statement, "%s%s", statement->size == 0 ? "" : "\n", line)) {
        fprintf(stderr, "a statement is at most %d bytes long\n", STATEMENT_BYTES_MAX);
        imv_buffer_reset(statement);
        return;
    }
    if (!empty && !ends_with_semicolon(statement)) return;
    struct imv_str text = trimmed(statement);
    if (text.size > 0) {
        char *entry = strndup(text.data, text.size);
        for (char *c = entry; c != NULL && *c != 0; c++) *c = *c == '\n' ? ' ' : *c;
        if (entry != NULL) add_history(entry);
        free(entry);
        run_statement(shell, text);
    }
    imv_buffer_reset(statement);
}

static void run_shell(struct shell *shell) {
    struct imv_buffer statement;
    imv_buffer_init(&statement, STATEMENT_BYTES_MAX);
    bool interactive = isatty(STDIN_FILENO) != 0;
    if (interactive) printf("imvdb %s at %s; :help helps\n", IMV_VERSION, shell->url);
    for (bool go = true; go;) {
        char *line = readline(!interactive ? "" : statement.size == 0 ? "imvdb> " : "   ... ");
        if (line == NULL) break;
        if (statement.size == 0 && line[0] == ':')
            go = run_colon(shell, line);
        else
            take_line(shell, &statement, line);
        free(line);
    }
    if (statement.size > 0) take_line(shell, &statement, "");
    imv_buffer_release(&statement);
}

int imv_command_shell(int argc, char **argv) {
    struct shell shell = {.url = "http://127.0.0.1:8086", .timing = true};
    struct imv_error err;
    for (int i = 0; i < argc; i += 2) {
        if (strcmp(argv[i], "--url") != 0 || i + 1 == argc)
            return imv_command_usage("shell", "unexpected argument '%s'", argv[i]);
        shell.url = argv[i + 1];
    }
    if (imv_client_new(shell.url, &shell.client, &err) != IMV_OK) return imv_command_fail("shell", &err);
    rl_readline_name = "imvdb";
    rl_completion_entry_function = next_word;
    open_history(&shell);
    run_shell(&shell);
    if (shell.history[0] != 0) write_history(shell.history);
    imv_client_free(shell.client);
    return 0;
}
