/* Short keys: SipHash-2-4 of strings of 1 to 64 bytes into an open-addressed hash table. */
#include "support.h"

#define SLOTS 16384
static u64 keys[SLOTS];
static u32 values[SLOTS];
static u8 text[128];

static inline u64 rotate(u64 x, u32 by) { return x << by | x >> (64 - by); }

#define ROUND                                                                                                                              \
  v0 += v1, v1 = rotate(v1, 13), v1 ^= v0, v0 = rotate(v0, 32), v2 += v3, v3 = rotate(v3, 16), v3 ^= v2, v0 += v3, v3 = rotate(v3, 21),    \
      v3 ^= v0, v2 += v1, v1 = rotate(v1, 17), v1 ^= v2, v2 = rotate(v2, 32)

static NOINLINE u64 siphash(const u8 *bytes, u32 length, u64 k0, u64 k1) {
  u64 v0 = 0x736f6d6570736575ull ^ k0, v1 = 0x646f72616e646f6dull ^ k1;
  u64 v2 = 0x6c7967656e657261ull ^ k0, v3 = 0x7465646279746573ull ^ k1;
  u64 last = (u64)length << 56;
  u32 i = 0;
  for (; i + 8 <= length; i += 8) {
    u64 m = 0;
    for (int k = 7; k >= 0; k--)
      m = m << 8 | bytes[i + (u32)k];
    v3 ^= m;
    ROUND;
    ROUND;
    v0 ^= m;
  }
  for (u32 k = 0; i + k < length; k++)
    last |= (u64)bytes[i + k] << (8 * k);
  v3 ^= last;
  ROUND;
  ROUND;
  v0 ^= last;
  v2 ^= 0xff;
  ROUND;
  ROUND;
  ROUND;
  ROUND;
  return v0 ^ v1 ^ v2 ^ v3;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 31337, used = 0;
  for (u32 i = 0; i < SLOTS; i++)
    keys[i] = 0, values[i] = 0;
  for (i32 i = 0; i < n; i++) {
    u32 r = random_next(&state);
    u32 length = 1 + (r & 63);
    u32 word = r >> 8 & 8191;
    for (u32 k = 0; k < length; k++)
      text[k] = (u8)(word >> (k & 7) ^ k);
    u64 hash = siphash(text, length, 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull) | 1;
    u32 slot = (u32)(hash >> 32) & (SLOTS - 1);
    while (keys[slot] && keys[slot] != hash)
      slot = (slot + 1) & (SLOTS - 1);
    if (!keys[slot]) {
      if (used >= SLOTS * 3 / 4)
        continue;
      keys[slot] = hash;
      used++;
    }
    values[slot]++;
    sum = mix(sum, hash + values[slot]);
  }
  return sum;
}
