/* Virtual calls: objects of five classes behind tables of function pointers, visited in an order that no predictor learns. */
#include "support.h"

typedef struct Shape Shape;
typedef struct {
  u32 (*area)(const Shape *);
  void (*grow)(Shape *, u32);
  u32 (*kind)(const Shape *);
} Methods;
struct Shape {
  const Methods *methods;
  u32 a, b, c;
};

#define COUNT 512
static Shape shapes[COUNT];

static u32 square_area(const Shape *s) { return s->a * s->a; }
static u32 rectangle_area(const Shape *s) { return s->a * s->b; }
static u32 box_area(const Shape *s) { return 2 * (s->a * s->b + s->b * s->c + s->c * s->a); }
static u32 disc_area(const Shape *s) { return s->a * s->a * 355 / 113; }
static u32 triangle_area(const Shape *s) { return s->a * s->b / 2; }
static void grow_all(Shape *s, u32 by) { s->a += by, s->b += by, s->c += by; }
static void grow_first(Shape *s, u32 by) { s->a += by; }
static void turn(Shape *s, u32 by) {
  u32 keep = s->a;
  s->a = s->b + by;
  s->b = keep;
}
static u32 kind_flat(const Shape *s) { return s->a & 1; }
static u32 kind_solid(const Shape *s) { return 2 | (s->c & 1); }

static const Methods classes[5] = {{square_area, grow_first, kind_flat},
                                   {rectangle_area, turn, kind_flat},
                                   {box_area, grow_all, kind_solid},
                                   {disc_area, grow_first, kind_flat},
                                   {triangle_area, turn, kind_flat}};

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 2026;
  for (u32 i = 0; i < COUNT; i++) {
    u32 r = random_next(&state);
    shapes[i].methods = &classes[r % 5];
    shapes[i].a = r >> 8 & 255;
    shapes[i].b = r >> 16 & 255;
    shapes[i].c = r >> 24;
  }
  for (i32 round = 0; round < n; round++) {
    u32 total = 0;
    for (u32 i = 0; i < COUNT; i++) {
      Shape *s = &shapes[i];
      total += s->methods->area(s);
      s->methods->grow(s, total & 3);
      total ^= s->methods->kind(s);
    }
    sum = mix(sum, total);
  }
  return sum;
}
