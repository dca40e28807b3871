/* plant.h - a small simulated plant: pumps fill tanks through valves, a line packs what the tanks hold, people walk by.
 *
 *     pump,id,area,tank      temperature pressure flow vibration current running
 *     valve,id,tank          position open
 *     tank,id,area           level temperature
 *     machine,id,line        state good reject speed
 *     avatar,id,role         x y z
 *
 * The values hang together (a closed valve raises the pump's pressure, a worn pump vibrates and warms up, an empty tank
 * starves the line), so that queries over them have answers worth looking at. Everything follows from one seed.
 */
#pragma once

#include "storage/base/buffer.h"
#include "storage/base/prng.h"

#include <stdbool.h>
#include <stdint.h>

enum { IMV_PLANT_PUMPS = 6, IMV_PLANT_TANKS = 3, IMV_PLANT_MACHINES = 4, IMV_PLANT_AVATARS = 3 };

struct imv_plant {
    struct imv_prng prng;
    struct {
        double temperature, flow, pressure, wear;
        bool running;
    } pumps[IMV_PLANT_PUMPS];
    struct {
        double position, target;
    } valves[IMV_PLANT_PUMPS];
    struct {
        double level, temperature;
    } tanks[IMV_PLANT_TANKS];
    struct {
        int state; /* 0 RUN, 1 IDLE, 2 FAULT */
        int64_t good, reject;
        double speed;
    } machines[IMV_PLANT_MACHINES];
    struct {
        double x, y, heading;
    } avatars[IMV_PLANT_AVATARS];
};

void imv_plant_init(struct imv_plant *plant, uint64_t seed);

/* Lets seconds pass. */
void imv_plant_step(struct imv_plant *plant, double seconds);

/* Appends the state at a time as line protocol; returns the number of lines. */
int imv_plant_lines(const struct imv_plant *plant, int64_t timestamp_ns, struct imv_buffer *out);
