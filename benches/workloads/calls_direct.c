/* Direct calls of small functions with one to six parameters, integer and floating-point: calling cost and little else. */
#include "support.h"

static NOINLINE u32 step1(u32 a) { return a * 3 + 1; }
static NOINLINE u32 step2(u32 a, u32 b) { return (a ^ b) + (b >> 3); }
static NOINLINE u32 step3(u32 a, u32 b, u32 c) { return a + b * c; }
static NOINLINE u64 step4(u64 a, u32 b, u64 c, u32 d) { return a + b - (c ^ d); }
static NOINLINE double step5(double a, double b) { return a * 0.5 + b; }
static NOINLINE u32 step6(u32 a, u32 b, u32 c, u32 d, u32 e, u32 f) { return (a + b) ^ (c + d) ^ (e + f); }
static NOINLINE u32 outer(u32 a, u32 b) { return step2(step1(a), step1(b)); }

EXPORT(run) u64 run(i32 n) {
  u32 x = 1, y = 2;
  u64 z = 3;
  double f = 1;
  for (i32 i = 0; i < n; i++) {
    x = step1(x);
    y = step2(y, x);
    x = step3(x, y, (u32)i);
    z = step4(z, x, z >> 7, y);
    f = step5(f, (double)(x & 1023));
    x = step6(x, y, (u32)z, (u32)i, x >> 16, y << 3);
    y = outer(x, y);
  }
  return mix(mix(mix(x, y), z), bits_of(f));
}
