/* Byte loads and a table: CRC-32 and Adler-32 over a buffer that changes every round. */
#include "support.h"

#define SIZE 32768
static u8 buffer[SIZE];
static u32 table[256];

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 1;
  for (u32 i = 0; i < 256; i++) {
    u32 c = i;
    for (int k = 0; k < 8; k++)
      c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    table[i] = c;
  }
  for (u32 i = 0; i < SIZE; i++)
    buffer[i] = (u8)random_next(&state);
  for (i32 round = 0; round < n; round++) {
    u32 crc = ~0u, a = 1, b = 0;
    for (u32 i = 0; i < SIZE; i++)
      crc = table[(crc ^ buffer[i]) & 255] ^ crc >> 8;
    for (u32 i = 0; i < SIZE;) {
      for (u32 end = i + 4096; i < end; i++) {
        a += buffer[i];
        b += a;
      }
      a %= 65521;
      b %= 65521;
    }
    sum = mix(mix(sum, ~crc), b << 16 | a);
    buffer[(u32)round * 31 % SIZE] ^= (u8)crc;
  }
  return sum;
}
