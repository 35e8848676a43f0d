/* A byte compressor of the LZ77 family with a hash table of recent places, and its decompressor. */
#include "support.h"

#define SIZE 49152
static u8 source[SIZE], packed[SIZE + SIZE / 8 + 64], unpacked[SIZE];
static u32 recent[4096];

static u32 word_at(const u8 *p) { return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }

static NOINLINE u32 compress(u32 length) {
  u32 out = 0, literals = 0;
  for (u32 i = 0; i < 4096; i++)
    recent[i] = 0;
  u32 i = 0;
  while (i < length) {
    u32 match = 0, from = 0;
    if (i + 4 <= length) {
      u32 slot = word_at(source + i) * 2654435761u >> 20;
      from = recent[slot];
      recent[slot] = i + 1;
      if (from && i - --from < 32768) {
        while (match < 130 && i + match < length && source[from + match] == source[i + match])
          match++;
      }
    }
    if (match >= 4 || literals == 127 || i + 1 == length) {
      u32 start = i - literals;
      if (match < 4)
        literals++, match = 0, i++;
      if (literals) {
        packed[out++] = (u8)literals;
        for (u32 k = 0; k < literals; k++)
          packed[out++] = source[start + k];
        literals = 0;
      }
      if (match) {
        packed[out++] = (u8)(128 + match - 4);
        packed[out++] = (u8)(i - from);
        packed[out++] = (u8)((i - from) >> 8);
        i += match;
      }
    } else {
      literals++;
      i++;
    }
  }
  return out;
}

static NOINLINE u32 decompress(u32 size) {
  u32 out = 0;
  for (u32 i = 0; i < size;) {
    u32 control = packed[i++];
    if (control < 128) {
      for (; control; control--)
        unpacked[out++] = packed[i++];
    } else {
      u32 distance = packed[i] | (u32)packed[i + 1] << 8;
      i += 2;
      for (control -= 124; control; control--, out++)
        unpacked[out] = unpacked[out - distance];
    }
  }
  return out;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 1000;
  for (i32 round = 0; round < n; round++) {
    for (u32 i = 0; i < SIZE;) {
      u32 r = random_next(&state);
      if (i > 64 && (r & 3)) {
        u32 distance = 1 + (r >> 8) % (i < 4096 ? i : 4096), length = 3 + (r >> 24 & 31);
        for (; length && i < SIZE; length--, i++)
          source[i] = source[i - distance];
      } else {
        source[i++] = (u8)(r >> 16);
      }
    }
    u32 size = compress(SIZE), back = decompress(size), wrong = back ^ SIZE;
    for (u32 i = 0; i < SIZE; i++)
      wrong += source[i] != unpacked[i];
    sum = mix(mix(sum, size), wrong);
  }
  return sum;
}
