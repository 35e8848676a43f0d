/* Integer loops without memory: Collatz lengths, greatest common divisors, modular powers, bit counts. */
#include "support.h"

static u32 collatz(u32 n) {
  u32 steps = 0;
  u64 x = n;
  while (x != 1) {
    x = x & 1 ? 3 * x + 1 : x >> 1;
    steps++;
  }
  return steps;
}

static u32 gcd(u32 a, u32 b) {
  while (b) {
    u32 rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

static u32 power(u32 base, u32 exponent, u32 modulus) {
  u64 result = 1, b = base % modulus;
  for (; exponent; exponent >>= 1) {
    if (exponent & 1)
      result = result * b % modulus;
    b = b * b % modulus;
  }
  return (u32)result;
}

static u32 bits_set(u32 x) {
  u32 count = 0;
  for (; x; x &= x - 1)
    count++;
  return count;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 1;
  u32 state = 2463534242u;
  for (i32 i = 1; i <= n; i++) {
    u32 r = random_next(&state);
    sum = mix(sum, collatz((u32)i));
    sum += gcd(r, (u32)i * 7919u + 1);
    sum ^= power(r, (u32)i & 255, 1000003);
    sum += bits_set(r);
  }
  return sum;
}
