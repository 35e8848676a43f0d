/* f64 matrices: product and Gaussian elimination with pivots. */
#include "support.h"

#define SIDE 48
static double a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];

static NOINLINE void product(void) {
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) {
      double cell = 0;
      for (int k = 0; k < SIDE; k++)
        cell += a[i][k] * b[k][j];
      c[i][j] = cell;
    }
}

static NOINLINE double determinant(void) {
  double result = 1;
  for (int column = 0; column < SIDE; column++) {
    int pivot = column;
    double best = 0;
    for (int i = column; i < SIDE; i++) {
      double size = c[i][column] < 0 ? -c[i][column] : c[i][column];
      if (size > best) {
        best = size;
        pivot = i;
      }
    }
    if (best == 0)
      return 0;
    if (pivot != column) {
      for (int k = 0; k < SIDE; k++) {
        double keep = c[pivot][k];
        c[pivot][k] = c[column][k];
        c[column][k] = keep;
      }
      result = -result;
    }
    result *= c[column][column] * 0.0625;
    for (int i = column + 1; i < SIDE; i++) {
      double factor = c[i][column] / c[column][column];
      for (int k = column; k < SIDE; k++)
        c[i][k] -= factor * c[column][k];
    }
  }
  return result;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 99;
  for (i32 round = 0; round < n; round++) {
    for (int i = 0; i < SIDE; i++)
      for (int j = 0; j < SIDE; j++) {
        a[i][j] = (double)(random_next(&state) >> 20) * 0.001 - 2.0;
        b[i][j] = (double)(random_next(&state) >> 20) * 0.001 - 2.0;
      }
    product();
    sum = mix(sum, bits_of(determinant()));
  }
  return sum;
}
