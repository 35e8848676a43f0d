/* Dynamic linking, main half: owns memory, table, stack and the objects; calls the side module through its struct of function
 * pointers and through objects whose classes are on either side. Built with dlside.c as two modules (dlpair) and as one (dlmono). */
#include "dl.h"

u32 main_counter;
static u32 notes;

NOINLINE u32 main_scale(u32 value, u32 by) {
  main_counter += by;
  return value * 17 + by;
}
NOINLINE u32 main_note(u32 value) {
  notes ^= value;
  return notes >> 3;
}

static u32 plain_update(Object *o, u32 x) { return o->value += x; }
static u32 plain_peek(const Object *o) { return o->value ^ o->extra; }
static u32 turned_update(Object *o, u32 x) { return o->extra = (o->extra << 1 | o->extra >> 31) ^ x; }
static u32 turned_peek(const Object *o) { return o->extra - o->value; }
const Methods main_methods[2] = {{plain_update, plain_peek}, {turned_update, turned_peek}};

static const Api *api;
API EXPORT(attach) void attach(const Api *side) { api = side; }

#define OBJECTS 64
static Object objects[OBJECTS];
static u8 text[256];

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 x = 1, state = 64;
  main_counter = notes = 0;
  {
    /* The side module keeps state between calls; this sets it to its start. */
    x = api->transform(0xffffffffu, 0);
  }
  for (u32 i = 0; i < OBJECTS; i++) {
    u32 r = random_next(&state);
    if (r & 1) {
      objects[i].methods = &main_methods[r >> 1 & 1];
      objects[i].value = r;
      objects[i].extra = i;
    } else {
      api->create(&objects[i], r >> 1);
    }
  }
  for (u32 i = 0; i < sizeof text; i++)
    text[i] = (u8)random_next(&state);
  for (i32 round = 0; round < n; round++) {
    for (u32 i = 0; i < 32; i++)
      x = api->transform(x, i + main_counter);
    for (u32 i = 0; i < OBJECTS; i++)
      x += objects[i].methods->update(&objects[i], x & 15) + objects[i].methods->peek(&objects[i]);
    x ^= api->visit(objects, OBJECTS);
    text[round & 255] ^= (u8)x;
    x += api->digest(text + (round & 127), 32);
    sum = mix(sum, x ^ main_counter);
  }
  return mix(sum, notes);
}
