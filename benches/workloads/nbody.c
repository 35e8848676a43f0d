/* Floating-point structs in memory: the solar system's five large bodies, symplectic steps. */
#include "support.h"

typedef struct {
  double position[3], velocity[3], mass;
} Body;

#define BODIES 5
static Body bodies[BODIES];

static double square_root(double x) {
#if defined(__wasm__)
  return __builtin_sqrt(x);
#else
  extern double sqrt(double);
  return sqrt(x);
#endif
}

/* Rounded start values; the exact ephemeris does not matter. */
static const double start[BODIES][7] = {
    {0, 0, 0, 0, 0, 0, 39.478417604357434},
    {4.84143, -1.16032, -0.10362, 0.60633, 2.81199, -0.02522, 0.037694},
    {8.34337, 4.12480, -0.40352, -1.01077, 1.82566, 0.00842, 0.011286},
    {12.89437, -15.11115, -0.22331, 1.08279, 0.86871, -0.01083, 0.001724},
    {15.37970, -25.91931, 0.17926, 0.97909, 0.59470, -0.03476, 0.002034},
};

static void advance(double dt) {
  for (int i = 0; i < BODIES; i++) {
    Body *a = &bodies[i];
    for (int j = i + 1; j < BODIES; j++) {
      Body *b = &bodies[j];
      double dx = a->position[0] - b->position[0];
      double dy = a->position[1] - b->position[1];
      double dz = a->position[2] - b->position[2];
      double square = dx * dx + dy * dy + dz * dz;
      double pull = dt / (square * square_root(square));
      a->velocity[0] -= dx * b->mass * pull;
      a->velocity[1] -= dy * b->mass * pull;
      a->velocity[2] -= dz * b->mass * pull;
      b->velocity[0] += dx * a->mass * pull;
      b->velocity[1] += dy * a->mass * pull;
      b->velocity[2] += dz * a->mass * pull;
    }
  }
  for (int i = 0; i < BODIES; i++)
    for (int k = 0; k < 3; k++)
      bodies[i].position[k] += dt * bodies[i].velocity[k];
}

EXPORT(run) u64 run(i32 n) {
  for (int i = 0; i < BODIES; i++) {
    for (int k = 0; k < 3; k++) {
      bodies[i].position[k] = start[i][k];
      bodies[i].velocity[k] = start[i][3 + k];
    }
    bodies[i].mass = start[i][6];
  }
  for (i32 i = 0; i < n; i++)
    advance(0.01);
  u64 sum = 0;
  for (int i = 0; i < BODIES; i++)
    for (int k = 0; k < 3; k++)
      sum = mix(mix(sum, bits_of(bodies[i].position[k])), bits_of(bodies[i].velocity[k]));
  return sum;
}
