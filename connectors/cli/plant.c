#include "connectors/cli/plant.h"

#include <inttypes.h>
#include <math.h>

enum machine_state { RUN, IDLE, FAULT };

static const double ambient = 21.0;

static double noise(struct imv_prng *prng, double size) { return (imv_prng_unit(prng) - 0.5) * 2 * size; }
static bool chance(struct imv_prng *prng, double per_second, double seconds) {
    return imv_prng_unit(prng) < 1 - exp(-per_second * seconds);
}
static double clamp(double value, double low, double high) { return fmin(fmax(value, low), high); }
/* Moves value towards target with a time constant in seconds. */
static double approach(double value, double target, double constant, double seconds) {
    return target + (value - target) * exp(-seconds / constant);
}
static int tank_of(int pump) { return pump % IMV_PLANT_TANKS; }

void imv_plant_init(struct imv_plant *plant, uint64_t seed) {
    *plant = (struct imv_plant){0};
    imv_prng_init(&plant->prng, seed);
    for (int i = 0; i < IMV_PLANT_PUMPS; i++) {
        plant->pumps[i].temperature = ambient;
        plant->pumps[i].running = true;
        plant->pumps[i].wear = imv_prng_unit(&plant->prng) * 0.5;
        plant->valves[i].position = plant->valves[i].target = 80;
    }
    for (int i = 0; i < IMV_PLANT_TANKS; i++) {
        plant->tanks[i].level = 60;
        plant->tanks[i].temperature = ambient;
    }
    for (int i = 0; i < IMV_PLANT_AVATARS; i++) {
        plant->avatars[i].x = 10 * i;
        plant->avatars[i].heading = imv_prng_unit(&plant->prng) * 6.28;
    }
}

/* A level controller opens the valves of a low tank and closes those of a full one. */
static void step_valve(struct imv_plant *plant, int i, double seconds) {
    double level = plant->tanks[tank_of(i)].level;
    if (level > 85)
        plant->valves[i].target = 10;
    else if (level < 40)
        plant->valves[i].target = 95;
    else if (chance(&plant->prng, 0.01, seconds))
        plant->valves[i].target = 30 + imv_prng_unit(&plant->prng) * 60;
    plant->valves[i].position = approach(plant->valves[i].position, plant->valves[i].target, 4, seconds);
}

static void step_pump(struct imv_plant *plant, int i, double seconds) {
    bool running = plant->pumps[i].running;
    if (chance(&plant->prng, running ? 0.0005 : 0.02, seconds)) plant->pumps[i].running = running = !running;
    double opening = plant->valves[i].position / 100;
    plant->pumps[i].wear += seconds * 2e-6;
    if (plant->pumps[i].wear > 1) plant->pumps[i].wear = 0; /* overhauled, about once a week */
    plant->pumps[i].flow = running ? (32 * opening + noise(&plant->prng, 0.4)) * (1 - 0.2 * plant->pumps[i].wear) : 0;
    plant->pumps[i].pressure = running ? 2.1 + 3 * (1 - opening) + noise(&plant->prng, 0.03) : 0.2;
    double warm = running ? ambient + 28 + 14 * (1 - opening) + 20 * plant->pumps[i].wear : ambient;
    plant->pumps[i].temperature = approach(plant->pumps[i].temperature, warm, 300, seconds) + noise(&plant->prng, 0.02);
}

static void step_tank(struct imv_plant *plant, int i, double seconds) {
    double in = 0, out = 0;
    for (int p = i; p < IMV_PLANT_PUMPS; p += IMV_PLANT_TANKS) in += plant->pumps[p].flow;
    for (int m = i; m < IMV_PLANT_MACHINES; m += IMV_PLANT_TANKS) out += plant->machines[m].speed * 0.5;
    plant->tanks[i].level = clamp(plant->tanks[i].level + (in - out) / 60 * seconds * 0.2, 0, 100);
    plant->tanks[i].temperature = approach(plant->tanks[i].temperature, ambient + in * 0.1, 900, seconds);
}

static void step_machine(struct imv_plant *plant, int i, double seconds) {
    bool starved = plant->tanks[i % IMV_PLANT_TANKS].level < 5;
    int state = plant->machines[i].state;
    if (state == RUN && (starved || chance(&plant->prng, 0.002, seconds)))
        state = IDLE;
    else if (state == RUN && chance(&plant->prng, 0.0008, seconds))
        state = FAULT;
    else if (state == IDLE && !starved && chance(&plant->prng, 0.05, seconds))
        state = RUN;
    else if (state == FAULT && chance(&plant->prng, 0.01, seconds))
        state = RUN;
    plant->machines[i].state = state;
    plant->machines[i].speed = approach(plant->machines[i].speed, state == RUN ? 120 : 0, 3, seconds);
    double packed = plant->machines[i].speed / 60 * seconds;
    int64_t whole = (int64_t)packed + (imv_prng_unit(&plant->prng) < packed - floor(packed));
    int64_t bad = whole > 0 && imv_prng_unit(&plant->prng) < 0.01 ? 1 : 0;
    plant->machines[i].good += whole - bad;
    plant->machines[i].reject += bad;
}

static void step_avatar(struct imv_plant *plant, int i, double seconds) {
    plant->avatars[i].heading += noise(&plant->prng, 0.5);
    plant->avatars[i].x = clamp(plant->avatars[i].x + cos(plant->avatars[i].heading) * seconds * 1.2, 0, 60);
    plant->avatars[i].y = clamp(plant->avatars[i].y + sin(plant->avatars[i].heading) * seconds * 1.2, 0, 30);
}

void imv_plant_step(struct imv_plant *plant, double seconds) {
    for (int i = 0; i < IMV_PLANT_PUMPS; i++) {
        step_valve(plant, i, seconds);
        step_pump(plant, i, seconds);
    }
    for (int i = 0; i < IMV_PLANT_TANKS; i++) step_tank(plant, i, seconds);
    for (int i = 0; i < IMV_PLANT_MACHINES; i++) step_machine(plant, i, seconds);
    for (int i = 0; i < IMV_PLANT_AVATARS; i++) step_avatar(plant, i, seconds);
}

int imv_plant_lines(const struct imv_plant *plant, int64_t ns, struct imv_buffer *out) {
    static const char *const states[] = {"RUN", "IDLE", "FAULT"}, *const roles[] = {"worker", "worker", "supervisor"};
    for (int i = 0; i < IMV_PLANT_PUMPS; i++) {
        double vibration = plant->pumps[i].running ? 1.2 + 4 * plant->pumps[i].wear : 0.05;
        imv_buffer_append_format(out,
                                 "pump,id=P-%d,area=A%d,tank=T-%d temperature=%.2f,pressure=%.3f,flow=%.2f,"
                                 "vibration=%.3f,current=%.2f,running=%s %" PRId64 "\n",
                                 101 + i, 1 + i / IMV_PLANT_TANKS, 1 + tank_of(i), plant->pumps[i].temperature,
                                 plant->pumps[i].pressure, plant->pumps[i].flow, vibration,
                                 plant->pumps[i].running ? 4 + plant->pumps[i].pressure : 0.0,
                                 plant->pumps[i].running ? "true" : "false", ns);
        imv_buffer_append_format(out, "valve,id=V-%d,tank=T-%d position=%.1f,open=%s %" PRId64 "\n", 101 + i,
                                 1 + tank_of(i), plant->valves[i].position,
                                 plant->valves[i].position > 5 ? "true" : "false", ns);
    }
    for (int i = 0; i < IMV_PLANT_TANKS; i++)
        imv_buffer_append_format(out, "tank,id=T-%d,area=A1 level=%.2f,temperature=%.2f %" PRId64 "\n", 1 + i,
                                 plant->tanks[i].level, plant->tanks[i].temperature, ns);
    for (int i = 0; i < IMV_PLANT_MACHINES; i++)
        imv_buffer_append_format(
            out, "machine,id=M%d,line=L4 state=\"%s\",good=%" PRId64 "i,reject=%" PRId64 "i,speed=%.1f %" PRId64 "\n",
            17 + i, states[plant->machines[i].state], plant->machines[i].good, plant->machines[i].reject,
            plant->machines[i].speed, ns);
    for (int i = 0; i < IMV_PLANT_AVATARS; i++)
        imv_buffer_append_format(out, "avatar,id=A-%d,role=%s x=%.2f,y=%.2f,z=0 %" PRId64 "\n", 1 + i, roles[i],
                                 plant->avatars[i].x, plant->avatars[i].y, ns);
    return 2 * IMV_PLANT_PUMPS + IMV_PLANT_TANKS + IMV_PLANT_MACHINES + IMV_PLANT_AVATARS;
}
