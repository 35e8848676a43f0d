/* f32 arithmetic, conversions and strided memory: radix-2 Fourier transforms there and back, then a rounding to 16 bits. */
#include "support.h"

#define SIZE 1024
static float re[SIZE], im[SIZE], cosine[SIZE / 2], sine[SIZE / 2];

static void make_tables(void) {
  /* Rotation by 2 pi / SIZE, in double so that the error stays below f32's. */
  const double c = 0.99998117528260110909, s = 0.0061358846491544753597;
  double x = 1, y = 0;
  for (int i = 0; i < SIZE / 2; i++) {
    cosine[i] = (float)x;
    sine[i] = (float)y;
    double next = x * c - y * s;
    y = x * s + y * c;
    x = next;
  }
}

static void transform(float direction) {
  for (u32 i = 1, j = 0; i < SIZE; i++) {
    u32 bit = SIZE >> 1;
    for (; j & bit; bit >>= 1)
      j ^= bit;
    j |= bit;
    if (i < j) {
      float a = re[i], b = im[i];
      re[i] = re[j];
      im[i] = im[j];
      re[j] = a;
      im[j] = b;
    }
  }
  for (u32 half = 1; half < SIZE; half <<= 1) {
    u32 stride = SIZE / 2 / half;
    for (u32 first = 0; first < SIZE; first += 2 * half)
      for (u32 k = 0; k < half; k++) {
        u32 p = first + k, q = p + half;
        float wr = cosine[k * stride], wi = sine[k * stride] * direction;
        float xr = re[q] * wr - im[q] * wi, xi = re[q] * wi + im[q] * wr;
        re[q] = re[p] - xr;
        im[q] = im[p] - xi;
        re[p] += xr;
        im[p] += xi;
      }
  }
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 88172645u;
  make_tables();
  for (i32 round = 0; round < n; round++) {
    for (int i = 0; i < SIZE; i++) {
      re[i] = (float)(i32)(random_next(&state) >> 17) - 16384.0f;
      im[i] = 0;
    }
    transform(-1.0f);
    for (int i = SIZE / 8; i < SIZE - SIZE / 8; i++)
      re[i] = im[i] = 0;
    transform(1.0f);
    for (int i = 0; i < SIZE; i++)
      sum = mix(sum, (u16)(short)(i32)(re[i] * (1.0f / SIZE)));
  }
  return sum;
}
