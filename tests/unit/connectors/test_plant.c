/* The simulated plant: the same from the same seed, and always a plant that could be. */
#include "connectors/cli/plant.h"

#include "ingest/line.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

static void run(uint64_t seed, int steps, double seconds, struct imv_buffer *out) {
    struct imv_plant plant;
    imv_plant_init(&plant, seed);
    imv_buffer_init(out, 64 << 20);
    for (int i = 0; i < steps; i++) {
        imv_plant_step(&plant, seconds);
        imv_plant_lines(&plant, i, out);
    }
    cr_assert_not(out->failed);
}

/* One seed is one plant; another seed is another. */
Test(plant, everything_follows_from_the_seed) {
    struct imv_buffer a, b, c;
    run(7, 200, 1, &a);
    run(7, 200, 1, &b);
    run(8, 200, 1, &c);
    cr_assert(a.size == b.size && memcmp(a.data, b.data, a.size) == 0);
    cr_assert_not(a.size == c.size && memcmp(a.data, c.data, a.size) == 0);
    imv_buffer_release(&a);
    imv_buffer_release(&b);
    imv_buffer_release(&c);
}

/* Over days, in short steps and in long ones, values stay in their physical range and counters never go back. */
Test(plant, values_stay_in_their_range) {
    static const double steps[] = {0.1, 1, 60, 3600};
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct imv_plant plant;
        imv_plant_init(&plant, seed);
        int64_t good[IMV_PLANT_MACHINES] = {0}, reject[IMV_PLANT_MACHINES] = {0};
        for (int i = 0; i < 5000; i++) {
            imv_plant_step(&plant, steps[seed % 4]);
            for (int p = 0; p < IMV_PLANT_PUMPS; p++) {
                cr_assert(plant.pumps[p].flow >= 0 && plant.pumps[p].flow < 60, "flow %g", plant.pumps[p].flow);
                cr_assert(plant.pumps[p].pressure > 0 && plant.pumps[p].pressure < 10);
                cr_assert(plant.pumps[p].temperature > 15 && plant.pumps[p].temperature < 150,
                          "temperature %g, wear %g", plant.pumps[p].temperature, plant.pumps[p].wear);
                cr_assert(plant.valves[p].position >= 0 && plant.valves[p].position <= 100);
            }
            for (int t = 0; t < IMV_PLANT_TANKS; t++)
                cr_assert(plant.tanks[t].level >= 0 && plant.tanks[t].level <= 100);
            for (int m = 0; m < IMV_PLANT_MACHINES; m++) {
                cr_assert(plant.machines[m].state >= 0 && plant.machines[m].state <= 2);
                cr_assert(plant.machines[m].speed >= 0 && plant.machines[m].speed <= 120);
                cr_assert(plant.machines[m].good >= good[m] && plant.machines[m].reject >= reject[m], "seed %d",
                          (int)seed);
                good[m] = plant.machines[m].good;
                reject[m] = plant.machines[m].reject;
            }
            for (int a = 0; a < IMV_PLANT_AVATARS; a++)
                cr_assert(plant.avatars[a].x >= 0 && plant.avatars[a].x <= 60 && plant.avatars[a].y >= 0 &&
                          plant.avatars[a].y <= 30);
        }
    }
}

/* Each line is line protocol, with the time that was given. */
Test(plant, lines_are_line_protocol) {
    struct imv_plant plant;
    struct imv_buffer out;
    imv_plant_init(&plant, 3);
    imv_plant_step(&plant, 1);
    imv_buffer_init(&out, 1 << 20);
    int wanted = imv_plant_lines(&plant, INT64_C(1767225600000000000), &out), count = 0;
    for (size_t start = 0; start < out.size; count++) {
        struct imv_line_scan scan = {0};
        struct imv_line line;
        enum imv_line_kind kind;
        struct imv_error err = {0};
        ptrdiff_t end = imv_line_find_end(out.data + start, out.size - start, &scan);
        cr_assert_geq(end, 0);
        cr_assert_eq(imv_line_split(out.data + start, (size_t)end, &kind, &line, &err), IMV_OK, "%s", err.message);
        cr_assert_eq(kind, IMV_LINE_POINT);
        cr_assert_eq(memcmp(out.data + start + end - 20, " 1767225600000000000", 20), 0);
        start += (size_t)end + 1;
    }
    cr_assert_eq(count, wanted);
    imv_buffer_release(&out);
}
