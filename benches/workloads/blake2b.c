/* 64-bit rotations and additions: BLAKE2b-512 (RFC 7693) of a message of n kilobytes. */
#include "support.h"

static const u64 start[8] = {0x6a09e667f3bcc908ull, 0xbb67ae8584caa73bull, 0x3c6ef372fe94f82bull, 0xa54ff53a5f1d36f1ull,
                             0x510e527fade682d1ull, 0x9b05688c2b3e6c1full, 0x1f83d9abfb41bd6bull, 0x5be0cd19137e2179ull};
static const u8 order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

static u64 h[8], message[16], v[16];

static inline u64 rotate(u64 x, u32 by) { return x >> by | x << (64 - by); }

static inline void quarter(u64 *v, int a, int b, int c, int d, u64 x, u64 y) {
  v[a] += v[b] + x;
  v[d] = rotate(v[d] ^ v[a], 32);
  v[c] += v[d];
  v[b] = rotate(v[b] ^ v[c], 24);
  v[a] += v[b] + y;
  v[d] = rotate(v[d] ^ v[a], 16);
  v[c] += v[d];
  v[b] = rotate(v[b] ^ v[c], 63);
}

static NOINLINE void compress(u64 count, int last) {
  for (int i = 0; i < 8; i++) {
    v[i] = h[i];
    v[i + 8] = start[i];
  }
  v[12] ^= count;
  if (last)
    v[14] = ~v[14];
  for (int r = 0; r < 12; r++) {
    const u8 *s = order[r % 10];
    quarter(v, 0, 4, 8, 12, message[s[0]], message[s[1]]);
    quarter(v, 1, 5, 9, 13, message[s[2]], message[s[3]]);
    quarter(v, 2, 6, 10, 14, message[s[4]], message[s[5]]);
    quarter(v, 3, 7, 11, 15, message[s[6]], message[s[7]]);
    quarter(v, 0, 5, 10, 15, message[s[8]], message[s[9]]);
    quarter(v, 1, 6, 11, 12, message[s[10]], message[s[11]]);
    quarter(v, 2, 7, 8, 13, message[s[12]], message[s[13]]);
    quarter(v, 3, 4, 9, 14, message[s[14]], message[s[15]]);
  }
  for (int i = 0; i < 8; i++)
    h[i] ^= v[i] ^ v[i + 8];
}

EXPORT(run) u64 run(i32 n) {
  for (int i = 0; i < 8; i++)
    h[i] = start[i];
  h[0] ^= 0x01010040;
  u32 blocks = (u32)n * 8;
  for (u32 i = 0; i < blocks; i++) {
    for (u32 k = 0; k < 16; k++)
      message[k] = (u64)(i * 16 + k) * 0x0101010101010101ull;
    compress((u64)(i + 1) * 128, i + 1 == blocks);
  }
  return h[0] ^ h[7];
}
