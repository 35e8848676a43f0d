/* Dynamic linking, side half: position-independent. Its own static data is reached through __memory_base, shared data through
 * GOT.mem, addresses of the main module's functions through GOT.func, and those functions are imported and called directly. */
#include "dl.h"

u32 side_seed;
static u32 visits;
static u32 table[16];

static u32 (*callback)(u32);

static NOINLINE u32 transform(u32 x, u32 y) {
  if (x == 0xffffffffu && y == 0) {
    side_seed = 12345;
    visits = 0;
    callback = main_note;
    for (u32 i = 0; i < 16; i++)
      table[i] = i * 0x1db71064u;
  }
  side_seed = side_seed * 1103515245u + 12345u;
  u32 scaled = main_scale(x, y & 7);
  if (scaled & 1)
    scaled ^= callback(scaled);
  return scaled + (side_seed >> 16) + main_counter;
}

static u32 side_update(Object *o, u32 x) { return o->value = main_scale(o->value, x) ^ ++visits; }
static u32 side_peek(const Object *o) { return o->value + table[o->extra & 15]; }
static u32 other_update(Object *o, u32 x) { return o->extra += main_methods[1].update(o, x) & 255; }
static u32 other_peek(const Object *o) { return o->extra ^ side_seed; }
static const Methods side_methods[2] = {{side_update, side_peek}, {other_update, other_peek}};

static NOINLINE u32 visit(Object *objects, u32 count) {
  u32 sum = 0;
  for (u32 i = 0; i < count; i++) {
    sum += objects[i].methods->peek(&objects[i]);
    if ((sum & 3) == 0)
      sum ^= objects[i].methods->update(&objects[i], sum & 31);
  }
  return sum + visits;
}

static NOINLINE void create(Object *o, u32 kind) {
  o->methods = &side_methods[kind & 1];
  o->value = kind;
  o->extra = kind >> 4;
}

static NOINLINE u32 digest(const u8 *bytes, u32 length) {
  u32 sum = side_seed;
  for (u32 i = 0; i < length; i++)
    sum = table[(sum ^ bytes[i]) & 15] ^ (sum >> 4) ^ main_counter;
  return sum;
}

static const Api functions = {transform, visit, create, digest};
EXPORT(side_api) const Api *side_api(void) { return &functions; }
