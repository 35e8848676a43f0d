/* Calls through an exported table that may grow, as every program with loadable modules has: one target, targets in turn,
 * and a state machine in which each function gives the next one. */
#include "support.h"

typedef u32 (*Operation)(u32, u32);
static u32 add(u32 a, u32 b) { return a + b; }
static u32 subtract(u32 a, u32 b) { return a - b; }
static u32 exclusive(u32 a, u32 b) { return a ^ b; }
static u32 multiply(u32 a, u32 b) { return a * (b | 1); }

Operation operations[4] = {add, subtract, exclusive, multiply};

typedef struct State State;
typedef const State *(*Transition)(u32 *);
struct State {
  Transition run;
};
static const State states[4];
static const State *state_a(u32 *x) { return *x = *x * 5 + 1, &states[*x >> 30]; }
static const State *state_b(u32 *x) { return *x ^= *x >> 7, &states[(*x >> 3) & 3]; }
static const State *state_c(u32 *x) { return *x += 0x9e3779b9u, &states[2 + (*x >> 31)]; }
static const State *state_d(u32 *x) { return *x = *x << 9 | *x >> 23, &states[*x & 1]; }
static const State states[4] = {{state_a}, {state_b}, {state_c}, {state_d}};

EXPORT(run) u64 run(i32 n) {
  u32 x = 1, y = 7;
  Operation volatile chosen = exclusive;
  Operation fixed = chosen;
  for (i32 i = 0; i < n; i++) {
    x = fixed(x, (u32)i);
    x = operations[i & 3](x, y);
    y = operations[x >> 5 & 3](y, x);
  }
  const State *state = &states[0];
  for (i32 i = 0; i < n; i++)
    state = state->run(&x);
  return mix(x, y);
}
