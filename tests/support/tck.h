/* tck.h - the queries of the openCypher TCK's feature files, with outlines expanded, for tests of the query layer.
 *
 * Only what a parser and a binder can be judged by is read: the text of each query that a scenario executes, and the
 * error that it expects. A test that uses it skips when the files are not there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct imv_tck_case {
    char file[64]; /* "Match1.feature" */
    char *query;   /* the text, indentation removed */
    char *phase;   /* "compile time", "runtime", "any time"; NULL: the query succeeds */
    char *type;    /* "SyntaxError" */
    char *detail;  /* "UndefinedVariable", "*" */
};

struct imv_tck {
    struct imv_tck_case *cases;
    size_t count;
};

/* Reads all feature files below root/tck/features. False when there are none. */
bool imv_tck_load(const char *root, struct imv_tck *tck);
void imv_tck_free(struct imv_tck *tck);

/* Where the shared files are: IMV_SHARED, or source_dir/../shared. */
const char *imv_shared_path(const char *source_dir);

/* Does the query contain this word, in any case? */
bool imv_tck_has_word(const char *query, const char *word);
