/* What the main module and its loadable side module agree on, in the way of a Python extension: the side module gives a
 * struct of function pointers; the main module's functions and data are imported by name. */
#ifndef DL_H
#define DL_H
#include "support.h"

typedef struct Object Object;
typedef struct {
  u32 (*update)(Object *, u32);
  u32 (*peek)(const Object *);
} Methods;
struct Object {
  const Methods *methods;
  u32 value, extra;
};

typedef struct {
  u32 (*transform)(u32, u32);
  u32 (*visit)(Object *, u32);
  void (*create)(Object *, u32);
  u32 (*digest)(const u8 *, u32);
} Api;

#define API __attribute__((visibility("default")))

/* Of the main module. */
API u32 main_scale(u32 value, u32 by);
API u32 main_note(u32 value);
API extern u32 main_counter;
API extern const Methods main_methods[2];

/* Of the side module. */
API const Api *side_api(void);
API extern u32 side_seed;

#endif
