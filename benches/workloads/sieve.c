/* Word memory: prime sieve on bits, prefix counts, binary search in them. */
#include "support.h"

#define LIMIT 500000
static u32 composite[LIMIT / 32 + 1], primes[50000];

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  for (i32 round = 0; round < n; round++) {
    for (u32 i = 0; i < LIMIT / 32 + 1; i++)
      composite[i] = 0;
    u32 count = 0;
    for (u32 i = 2; i < LIMIT; i++) {
      if (composite[i >> 5] >> (i & 31) & 1)
        continue;
      primes[count++] = i;
      if (i < 708)
        for (u32 k = i * i; k < LIMIT; k += i)
          composite[k >> 5] |= 1u << (k & 31);
    }
    u32 state = 77u + (u32)round;
    for (u32 i = 0; i < 20000; i++) {
      u32 wanted = random_next(&state) % LIMIT, low = 0, high = count;
      while (low < high) {
        u32 middle = (low + high) / 2;
        if (primes[middle] < wanted)
          low = middle + 1;
        else
          high = middle;
      }
      sum = mix(sum, low);
    }
    sum = mix(sum, count);
  }
  return sum;
}
