/* Sorting through a comparator that is a function pointer, as C's qsort does: quicksort on elements of any size, heapsort, bisection. */
#include "support.h"

typedef struct {
  u32 key, weight, place;
} Item;
typedef int (*Compare)(const void *, const void *);

#define COUNT 4096
static Item items[COUNT];

static void swap(u8 *a, u8 *b, u32 size) {
  for (; size >= 4; size -= 4, a += 4, b += 4) {
    u32 keep = *(u32 *)a;
    *(u32 *)a = *(u32 *)b;
    *(u32 *)b = keep;
  }
}

static void insertion_sort(u8 *base, u32 count, u32 size, Compare compare) {
  for (u32 i = 1; i < count; i++)
    for (u8 *p = base + i * size; p > base && compare(p - size, p) > 0; p -= size)
      swap(p - size, p, size);
}

static NOINLINE void quicksort(u8 *base, u32 count, u32 size, Compare compare) {
  while (count > 8) {
    u8 *middle = base + count / 2 * size, *last = base + (count - 1) * size;
    if (compare(base, middle) > 0)
      swap(base, middle, size);
    if (compare(middle, last) > 0)
      swap(middle, last, size);
    if (compare(base, middle) > 0)
      swap(base, middle, size);
    swap(base, middle, size);
    u32 low = 1, high = count - 1;
    for (;;) {
      while (low < count && compare(base + low * size, base) < 0)
        low++;
      while (compare(base + high * size, base) > 0)
        high--;
      if (low >= high)
        break;
      swap(base + low++ * size, base + high-- * size, size);
    }
    swap(base, base + high * size, size);
    if (high < count - high - 1) {
      quicksort(base, high, size, compare);
      base += (high + 1) * size;
      count -= high + 1;
    } else {
      quicksort(base + (high + 1) * size, count - high - 1, size, compare);
      count = high;
    }
  }
  insertion_sort(base, count, size, compare);
}

static NOINLINE void heapsort(u8 *base, u32 count, u32 size, Compare compare) {
  for (u32 phase = count / 2 + count; phase-- > 1;) {
    u32 root = 0, end = count;
    if (phase >= count) {
      root = phase - count;
    } else {
      swap(base, base + phase * size, size);
      end = phase;
    }
    for (u32 child; (child = 2 * root + 1) < end; root = child) {
      if (child + 1 < end && compare(base + child * size, base + (child + 1) * size) < 0)
        child++;
      if (compare(base + root * size, base + child * size) >= 0)
        break;
      swap(base + root * size, base + child * size, size);
    }
  }
}

static int by_key(const void *a, const void *b) {
  u32 x = ((const Item *)a)->key, y = ((const Item *)b)->key;
  return (x > y) - (x < y);
}
static int by_weight(const void *a, const void *b) {
  const Item *x = a, *y = b;
  return x->weight != y->weight ? (x->weight > y->weight) - (x->weight < y->weight) : by_key(a, b);
}
static int by_place(const void *a, const void *b) { return (int)(((const Item *)b)->place - ((const Item *)a)->place); }

static Compare const orders[3] = {by_key, by_weight, by_place};

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 5;
  for (i32 round = 0; round < n; round++) {
    for (u32 i = 0; i < COUNT; i++) {
      items[i].key = random_next(&state);
      items[i].weight = random_next(&state) & 255;
      items[i].place = i;
    }
    Compare compare = orders[round % 3];
    quicksort((u8 *)items, COUNT, sizeof(Item), compare);
    for (u32 i = 0; i < COUNT; i += 257)
      sum = mix(mix(sum, items[i].key), items[i].weight);
    heapsort((u8 *)items, COUNT / 4, sizeof(Item), orders[(round + 1) % 3]);
    for (u32 i = 0; i < COUNT; i += 131)
      sum = mix(sum, items[i].place);
  }
  return sum;
}
