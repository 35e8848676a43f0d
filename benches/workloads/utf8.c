/* Byte memory with unpredictable branches: writes UTF-8, validates and decodes it, changes case, run-length codes and decodes. */
#include "support.h"

#define SIZE 65536
static u8 text[SIZE], packed[2 * SIZE + 16], unpacked[SIZE];

static u32 encode(u32 seed) {
  u32 length = 0, state = seed;
  while (length + 16 < SIZE) {
    u32 r = random_next(&state), code;
    if ((r & 7) < 5)
      code = 'a' + (r >> 8) % 26;
    else if ((r & 7) == 5)
      code = 0x80 + (r >> 8) % 0x700;
    else if ((r & 15) == 6)
      code = 0x800 + (r >> 8) % 0xd000;
    else if ((r & 15) == 14)
      code = 0x10000 + (r >> 8) % 0xffff;
    else
      code = ' ';
    u32 repeat = (r >> 28) < 2 ? 8 : 1;
    if (code >= 0x80)
      repeat = 1;
    for (; repeat; repeat--) {
      if (code < 0x80) {
        text[length++] = (u8)code;
      } else if (code < 0x800) {
        text[length++] = (u8)(0xc0 | code >> 6);
        text[length++] = (u8)(0x80 | (code & 63));
      } else if (code < 0x10000) {
        text[length++] = (u8)(0xe0 | code >> 12);
        text[length++] = (u8)(0x80 | (code >> 6 & 63));
        text[length++] = (u8)(0x80 | (code & 63));
      } else {
        text[length++] = (u8)(0xf0 | code >> 18);
        text[length++] = (u8)(0x80 | (code >> 12 & 63));
        text[length++] = (u8)(0x80 | (code >> 6 & 63));
        text[length++] = (u8)(0x80 | (code & 63));
      }
    }
  }
  return length;
}

/* Gives the next code point, or -1 for a malformed sequence. */
static i32 decode(u32 *place, u32 length) {
  u32 i = *place;
  u32 first = text[i++];
  u32 more, code, least;
  if (first < 0x80) {
    *place = i;
    return (i32)first;
  } else if (first >= 0xc2 && first < 0xe0) {
    more = 1, code = first & 31, least = 0x80;
  } else if (first >= 0xe0 && first < 0xf0) {
    more = 2, code = first & 15, least = 0x800;
  } else if (first >= 0xf0 && first < 0xf5) {
    more = 3, code = first & 7, least = 0x10000;
  } else {
    *place = i;
    return -1;
  }
  for (; more; more--) {
    if (i >= length || (text[i] & 0xc0) != 0x80) {
      *place = i;
      return -1;
    }
    code = code << 6 | (text[i++] & 63);
  }
  *place = i;
  return code < least || (code >= 0xd800 && code < 0xe000) ? -1 : (i32)code;
}

static u32 pack(u32 length) {
  u32 out = 0;
  for (u32 i = 0; i < length;) {
    u32 run_length = 1;
    while (i + run_length < length && run_length < 127 && text[i + run_length] == text[i])
      run_length++;
    packed[out++] = (u8)run_length;
    packed[out++] = text[i];
    i += run_length;
  }
  return out;
}

static u32 unpack(u32 size) {
  u32 out = 0;
  for (u32 i = 0; i < size; i += 2)
    for (u32 k = 0; k < packed[i]; k++)
      unpacked[out++] = packed[i + 1];
  return out;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  for (i32 round = 0; round < n; round++) {
    u32 length = encode(12345u + (u32)round);
    for (u32 i = 3; i < length; i += 997)
      text[i] ^= (u8)round;
    u32 characters = 0, errors = 0, code_sum = 0;
    for (u32 i = 0; i < length;) {
      i32 code = decode(&i, length);
      if (code < 0)
        errors++;
      else
        characters++, code_sum = code_sum * 31 + (u32)code;
    }
    for (u32 i = 0; i < length; i++)
      if (text[i] >= 'a' && text[i] <= 'z')
        text[i] ^= 32;
    u32 back = unpack(pack(length));
    u32 differences = back ^ length;
    for (u32 i = 0; i < length; i++)
      differences += unpacked[i] != text[i];
    sum = mix(mix(mix(sum, characters), errors), mix(code_sum, differences));
  }
  return sum;
}
