/* Recursion with one argument: nothing but calls, compares and additions. */
#include "support.h"

static NOINLINE u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

EXPORT(run) u64 run(i32 n) { return fib((u32)n); }
