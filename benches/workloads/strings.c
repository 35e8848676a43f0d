/* Text as C programs handle it: copies, lengths, comparisons, splitting, number formatting, a table of words, a tiny allocator. */
#include "support.h"

#define POOL 262144
static char pool[POOL] __attribute__((aligned(8)));
static u32 pool_used;
static char line[1024], word[64];

/* Places in the pool instead of pointers, so that a 64-bit build gives the same results. 0 is null. */
typedef struct {
  u32 next, text, count, hash;
} Entry;
#define BUCKETS 1024
static u32 buckets[BUCKETS];
typedef u64 UnalignedWord __attribute__((aligned(1), may_alias));

static NOINLINE u32 length_of(const char *s) {
  const char *p = s;
  while (*p)
    p++;
  return (u32)(p - s);
}
static NOINLINE void copy(char *to, const char *from, u32 length) {
  for (; length >= 8; length -= 8, to += 8, from += 8)
    *(UnalignedWord *)to = *(const UnalignedWord *)from;
  while (length--)
    *to++ = *from++;
}
static NOINLINE int compare(const char *a, const char *b) {
  while (*a && *a == *b)
    a++, b++;
  return (u8)*a - (u8)*b;
}
static NOINLINE u32 take(u32 size) {
  size = (size + 7) & ~7u;
  if (pool_used + size > POOL)
    return 0;
  u32 place = pool_used;
  pool_used += size;
  return place;
}
static NOINLINE u32 format(char *to, u32 value) {
  char digits[12];
  u32 count = 0, length = 0;
  do {
    digits[count++] = (char)('0' + value % 10);
    value /= 10;
  } while (value);
  while (count)
    to[length++] = digits[--count];
  to[length] = 0;
  return length;
}
static NOINLINE u32 parse(const char *s) {
  u32 value = 0;
  for (; *s >= '0' && *s <= '9'; s++)
    value = value * 10 + (u32)(*s - '0');
  return value;
}
static NOINLINE Entry *entry(const char *s) {
  u32 hash = 5381;
  for (const char *p = s; *p; p++)
    hash = hash * 33 ^ (u8)*p;
  u32 *bucket = &buckets[hash % BUCKETS];
  for (u32 place = *bucket; place;) {
    Entry *e = (Entry *)(pool + place);
    if (e->hash == hash && compare(pool + e->text, s) == 0)
      return e;
    place = e->next;
  }
  u32 length = length_of(s);
  u32 place = take(sizeof(Entry)), text = take(length + 1);
  if (!place || !text)
    return 0;
  copy(pool + text, s, length + 1);
  Entry *e = (Entry *)(pool + place);
  e->hash = hash;
  e->text = text;
  e->count = 0;
  e->next = *bucket;
  *bucket = place;
  return e;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 424242;
  pool_used = 8;
  for (u32 i = 0; i < BUCKETS; i++)
    buckets[i] = 0;
  for (i32 round = 0; round < n; round++) {
    u32 length = 0;
    while (length + 40 < sizeof line) {
      u32 r = random_next(&state);
      if (r & 1) {
        static const char *const stems[4] = {"call", "link", "load", "trap"};
        copy(line + length, stems[r >> 1 & 3], 4);
        length += 4;
        line[length++] = '_';
      }
      length += format(line + length, r >> 20);
      line[length++] = r & 2 ? ' ' : ';';
    }
    line[length] = 0;
    for (const char *p = line; *p;) {
      u32 size = 0;
      while (p[size] && p[size] != ' ' && p[size] != ';')
        size++;
      copy(word, p, size);
      word[size] = 0;
      p += size + 1;
      Entry *e = entry(word);
      if (e)
        sum = mix(sum, ++e->count + length_of(pool + e->text) * 1000 + parse(word));
    }
  }
  return mix(sum, pool_used);
}
