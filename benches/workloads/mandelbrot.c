/* Floating-point loop in locals only: escape times over a square of the complex plane. */
#include "support.h"

static u32 escape_time(double cr, double ci, u32 limit) {
  double zr = 0, zi = 0;
  for (u32 i = 0; i < limit; i++) {
    double rr = zr * zr, ii = zi * zi;
    if (rr + ii > 4.0)
      return i;
    zi = 2.0 * zr * zi + ci;
    zr = rr - ii + cr;
  }
  return limit;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  for (i32 y = 0; y < n; y++)
    for (i32 x = 0; x < n; x++)
      sum = mix(sum, escape_time(3.0 * x / n - 2.2, 3.0 * y / n - 1.5, 100));
  return sum;
}
