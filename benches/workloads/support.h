/* What every workload shares: types, attributes, a random number generator and a checksum.
 * No libc: the same sources build for wasm32 without one and natively for the reference results. */
#ifndef SUPPORT_H
#define SUPPORT_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

#if defined(__wasm__)
#define EXPORT(name) __attribute__((export_name(#name), visibility("default")))
#else
#define EXPORT(name) __attribute__((visibility("default")))
#endif
#define NOINLINE __attribute__((noinline))

/* xorshift32: full period, state never zero. */
static inline u32 random_next(u32 *state) {
  u32 x = *state;
  x ^= x << 13;
  x ^= x >> 17;
  x ^= x << 5;
  return *state = x;
}

/* One step of a 64-bit FNV-like checksum over whole words. */
static inline u64 mix(u64 sum, u64 value) {
  return (sum ^ value) * 0x100000001b3ull + 0x9e3779b97f4a7c15ull;
}

/* The bits of a double, so that results are compared exactly. */
static inline u64 bits_of(double value) {
  union {
    double f;
    u64 u;
  } both;
  both.f = value;
  return both.u;
}

/* Every workload's entry. Deterministic and repeatable: a second call in the same instance gives the same result. */
u64 run(i32 n);

#endif
