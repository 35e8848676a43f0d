/* i32 matrices: product, transposition, and an edit distance over a word matrix. */
#include "support.h"

#define SIDE 64
static i32 a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE], distance[SIDE + 1][SIDE + 1];

static NOINLINE void product(i32 to[SIDE][SIDE], i32 x[SIDE][SIDE], i32 y[SIDE][SIDE]) {
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) {
      u32 cell = 0;
      for (int k = 0; k < SIDE; k++)
        cell += (u32)x[i][k] * (u32)y[k][j];
      to[i][j] = (i32)cell;
    }
}

static NOINLINE void transpose(i32 x[SIDE][SIDE]) {
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < i; j++) {
      i32 keep = x[i][j];
      x[i][j] = x[j][i];
      x[j][i] = keep;
    }
}

static NOINLINE i32 edit_distance(const i32 *x, const i32 *y) {
  for (int i = 0; i <= SIDE; i++)
    distance[i][0] = distance[0][i] = i;
  for (int i = 1; i <= SIDE; i++)
    for (int j = 1; j <= SIDE; j++) {
      i32 best = distance[i - 1][j - 1] + ((x[i - 1] & 3) != (y[j - 1] & 3));
      if (distance[i - 1][j] + 1 < best)
        best = distance[i - 1][j] + 1;
      if (distance[i][j - 1] + 1 < best)
        best = distance[i][j - 1] + 1;
      distance[i][j] = best;
    }
  return distance[SIDE][SIDE];
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 4242;
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) {
      a[i][j] = (i32)random_next(&state) >> 8;
      b[i][j] = (i32)random_next(&state) >> 8;
    }
  for (i32 round = 0; round < n; round++) {
    product(c, a, b);
    transpose(c);
    product(a, c, b);
    for (int i = 0; i < SIDE; i += 8)
      sum = mix(sum, (u64)edit_distance(a[i], c[i]));
    sum = mix(sum, (u32)a[round & 63][17]);
  }
  return sum;
}
