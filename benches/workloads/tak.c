/* Recursion with several arguments: Takeuchi's and Ackermann's functions, and Hofstadter's mutual pair. */
#include "support.h"

static NOINLINE i32 tak(i32 x, i32 y, i32 z) {
  if (y >= x)
    return z;
  return tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y));
}

static NOINLINE u32 ackermann(u32 m, u32 n) {
  if (m == 0)
    return n + 1;
  if (n == 0)
    return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

static NOINLINE i32 male(i32 n);
static NOINLINE i32 female(i32 n) { return n == 0 ? 1 : n - male(female(n - 1)); }
static NOINLINE i32 male(i32 n) { return n == 0 ? 0 : n - female(male(n - 1)); }

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  for (i32 i = 0; i < n; i++) {
    sum = mix(sum, (u64)tak(10 + (i & 1), 6, 2));
    sum = mix(sum, ackermann(2, 30 + (u32)(i & 3)));
    sum = mix(sum, (u64)female(20 + (i & 7)));
  }
  return sum;
}
