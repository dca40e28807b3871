/* threaded.h - Criterion for tests of threads; under the thread sanitizer the little of it that they use.
 *
 * Criterion maps its arena where the sanitizer keeps its shadow and dies. There the macros below register the tests
 * with a main of their own, which runs them one after the other in one process, ends with the first failure, and writes
 * a TAP report when asked with --tap=FILE. tests/threaded.txt lists the programs.
 */
#pragma once

#ifndef __SANITIZE_THREAD__
#include <criterion/criterion.h>
#else

/* Criterion's own macros are exempt from this warning, being in a system header. */
#pragma GCC diagnostic ignored "-Wsign-compare"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct threaded_options {
    void (*init)(void);
    void (*fini)(void);
    double timeout; /* left to the caller of the program */
};

struct threaded_test {
    const char *suite, *name;
    void (*run)(void);
    struct threaded_options options;
};

enum { THREADED_TESTS_MAX = 256 };
static struct threaded_test threaded_tests[THREADED_TESTS_MAX];
static int threaded_tests_count;

#define Test(suite_name, test_name, ...)                                                                    \
    static void suite_name##_##test_name##_run(void);                                                       \
    __attribute__((constructor)) static void suite_name##_##test_name##_register(void) {                    \
        threaded_tests[threaded_tests_count++] =                                                            \
            (struct threaded_test){#suite_name, #test_name, suite_name##_##test_name##_run, {__VA_ARGS__}}; \
    }                                                                                                       \
    static void suite_name##_##test_name##_run(void)

__attribute__((format(printf, 4, 5))) static inline void threaded_assert(bool holds, const char *condition, int line,
                                                                         const char *format, ...) {
    if (holds) return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "line %d: %s:", line, condition);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

#define cr_assert(condition, ...)         threaded_assert(condition, #condition, __LINE__, " " __VA_ARGS__)
#define cr_assert_not(condition, ...)     cr_assert(!(condition), ##__VA_ARGS__)
#define cr_assert_eq(a, b, ...)           cr_assert((a) == (b), ##__VA_ARGS__)
#define cr_assert_neq(a, b, ...)          cr_assert((a) != (b), ##__VA_ARGS__)
#define cr_assert_lt(a, b, ...)           cr_assert((a) < (b), ##__VA_ARGS__)
#define cr_assert_leq(a, b, ...)          cr_assert((a) <= (b), ##__VA_ARGS__)
#define cr_assert_gt(a, b, ...)           cr_assert((a) > (b), ##__VA_ARGS__)
#define cr_assert_geq(a, b, ...)          cr_assert((a) >= (b), ##__VA_ARGS__)
#define cr_assert_null(a, ...)            cr_assert((a) == NULL, ##__VA_ARGS__)
#define cr_assert_not_null(a, ...)        cr_assert((a) != NULL, ##__VA_ARGS__)
#define cr_assert_str_eq(a, b, ...)       cr_assert(strcmp((a), (b)) == 0, ##__VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) cr_assert(memcmp((a), (b), (size)) == 0, ##__VA_ARGS__)
#define cr_expect_eq                      cr_assert_eq
#define cr_expect_str_eq                  cr_assert_str_eq

int main(int count, char **arguments) {
    FILE *tap = NULL;
    for (int i = 1; i < count; i++) {
        if (strncmp(arguments[i], "--tap=", 6) == 0) tap = fopen(arguments[i] + 6, "w");
    }
    if (tap != NULL) fprintf(tap, "TAP version 13\n1..%d\n", threaded_tests_count);
    for (int i = 0; i < threaded_tests_count; i++) {
        const struct threaded_test *test = &threaded_tests[i];
        if (test->options.init != NULL) test->options.init();
        test->run();
        if (test->options.fini != NULL) test->options.fini();
        fprintf(stderr, "ok %s::%s\n", test->suite, test->name);
        if (tap == NULL) continue;
        fprintf(tap, "ok - %s::%s\n", test->suite, test->name);
        fflush(tap);
    }
    if (tap != NULL) fclose(tap);
    return 0;
}
#endif
