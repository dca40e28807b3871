/* The file that lets an interrupted load go on. */
#include "connectors/cli/progress.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char state[64];

static void start(void) {
    snprintf(state, sizeof state, "/tmp/imv_progress_XXXXXX");
    cr_assert_not_null(mkdtemp(state));
    setenv("XDG_STATE_HOME", state, 1);
}

static void stop(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", state);
    cr_assert_eq(system(command), 0);
}

TestSuite(progress, .init = start, .fini = stop);

static int files_count(void) {
    char path[128];
    int count = 0;
    snprintf(path, sizeof path, "%s/imvdb", state);
    DIR *directory = opendir(path);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.';
    if (directory != NULL) closedir(directory);
    return count;
}

/* An interrupted load is found where it stopped, by the same identity only. */
Test(progress, an_interrupted_load_goes_on) {
    struct imv_progress progress;
    imv_progress_init(&progress, "file", 1000, "a");
    cr_assert_eq(imv_progress_saved(&progress), 0);
    imv_progress_update(&progress, 700, 10);
    imv_progress_end(&progress, false);
    imv_progress_init(&progress, "file", 1000, "b");
    cr_assert_eq(imv_progress_saved(&progress), 0);
    imv_progress_init(&progress, "file", 1000, "a");
    cr_assert_eq(imv_progress_saved(&progress), 700);
    imv_progress_end(&progress, true);
    cr_assert_eq(imv_progress_saved(&progress), 0);
    cr_assert_eq(files_count(), 0);
}

/* A load that is killed has saved what was durable half a second ago, and never more. */
Test(progress, updates_are_saved_from_time_to_time) {
    struct imv_progress progress, other;
    imv_progress_init(&progress, "file", 1000, "a");
    imv_progress_init(&other, "file", 1000, "a");
    imv_progress_update(&progress, 100, 1);
    cr_assert_leq(imv_progress_saved(&other), 100);
    usleep(600000);
    imv_progress_update(&progress, 200, 2);
    cr_assert_eq(imv_progress_saved(&other), 200);
    cr_assert_eq(files_count(), 1, "nothing but the one file, also not the one that replaced it");
}

/* A file that holds no offset, or one beyond the end, counts as none. */
Test(progress, a_damaged_file_counts_as_none) {
    static const char *const texts[] = {"", "text", "1001", "99999999999999999999999", "-5"};
    struct imv_progress progress;
    imv_progress_init(&progress, "file", 1000, "a");
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        FILE *file = fopen(progress.state_path, "w");
        fputs(texts[i], file);
        fclose(file);
        cr_expect_eq(imv_progress_saved(&progress), 0, "%s", texts[i]);
    }
}

/* Without a place for the file a load runs all the same. */
Test(progress, a_missing_place_is_no_failure) {
    struct imv_progress progress;
    setenv("XDG_STATE_HOME", "/dev/null", 1);
    imv_progress_init(&progress, "file", 0, "a");
    imv_progress_update(&progress, 5, 1);
    imv_progress_end(&progress, false);
    cr_assert_eq(imv_progress_saved(&progress), 0);
}
