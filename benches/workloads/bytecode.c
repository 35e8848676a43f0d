/* An interpreter in the interpreter: a stack machine whose loop is one br_table, running a program that counts primes and mixes bits. */
#include "support.h"

enum { PUSH, LOAD, STORE, ADD, SUB, MUL, REM, LESS, EQUAL, JUMP, JUMP_IF_ZERO, DUP, XOR, SHIFT_LEFT, SHIFT_RIGHT, PEEK, POKE, DROP, HALT };

/* for (i = 2; i < n; i++) { for (k = 2; k*k <= i && i % k; k++) ; if (k*k > i) { count++; hash = (hash << 5) ^ (hash >> 27) ^ i; memory[i & 63] = hash; } } */
static const i32 program[] = {
    PUSH, 2, STORE, 0,                                    /* 0: i = 2 */
    LOAD, 0, LOAD, 4, LESS, JUMP_IF_ZERO, 84,             /* 4: while i < n */
    PUSH, 2, STORE, 1,                                    /* 11: k = 2 */
    LOAD, 1, DUP, MUL, LOAD, 0, PUSH, 1, ADD, LESS,       /* 15: k*k < i+1 */
    JUMP_IF_ZERO, 45,                                     /* 25 */
    LOAD, 0, LOAD, 1, REM,                                /* 27: i % k */
    JUMP_IF_ZERO, 75,                                     /* 32: composite */
    PUSH, 1, LOAD, 1, ADD, STORE, 1,                      /* 34: k++ */
    JUMP, 15, DROP, DROP,                                 /* 41: the two DROPs are never reached */
    PUSH, 1, LOAD, 2, ADD, STORE, 2,                      /* 45: count++ */
    LOAD, 3, PUSH, 5, SHIFT_LEFT,                         /* 52 */
    LOAD, 3, PUSH, 27, SHIFT_RIGHT, XOR,                  /* 57 */
    LOAD, 0, XOR, DUP, STORE, 3,                          /* 63 */
    LOAD, 0, POKE, LOAD, 0, PEEK,                         /* 69: memory[i & 63] = hash, and back */
    PUSH, 1, LOAD, 0, ADD, STORE, 0, JUMP, 4,             /* 75: i++ */
    HALT,
};
/* Jump targets above are places in the program, which is copied so that no compiler can specialise the loop for it. */
static i32 code[sizeof(program) / sizeof(program[0])];
static i32 memory[64];

static NOINLINE u64 interpret(i32 n) {
  i32 stack[64], locals[5] = {0, 0, 0, 1, n};
  i32 *top = stack;
  const i32 *at = code;
  for (;;) {
    switch (*at++) {
    case PUSH: *top++ = *at++; break;
    case LOAD: *top++ = locals[*at++]; break;
    case STORE: locals[*at++] = *--top; break;
    case ADD: top--, top[-1] = (i32)((u32)top[-1] + (u32)top[0]); break;
    case SUB: top--, top[-1] = (i32)((u32)top[-1] - (u32)top[0]); break;
    case MUL: top--, top[-1] = (i32)((u32)top[-1] * (u32)top[0]); break;
    case REM: top--, top[-1] = (i32)((u32)top[-1] % (u32)top[0]); break;
    case LESS: top--, top[-1] = top[-1] < top[0]; break;
    case EQUAL: top--, top[-1] = top[-1] == top[0]; break;
    case JUMP: at = code + *at; break;
    case JUMP_IF_ZERO: at = *--top ? at + 1 : code + *at; break;
    case DUP: *top = top[-1], top++; break;
    case XOR: top--, top[-1] ^= top[0]; break;
    case SHIFT_LEFT: top--, top[-1] = (i32)((u32)top[-1] << (top[0] & 31)); break;
    case SHIFT_RIGHT: top--, top[-1] = (i32)((u32)top[-1] >> (top[0] & 31)); break;
    case PEEK: top[-1] = memory[top[-1] & 63]; top--, memory[1] ^= top[0]; break;
    case POKE: top -= 2, memory[top[1] & 63] = top[0]; break;
    case DROP: top--; break;
    default: return (u64)(u32)locals[2] << 32 | ((u32)locals[3] + 31 * (u32)memory[1]);
    }
  }
}

EXPORT(run) u64 run(i32 n) {
  u32 length = sizeof(program) / sizeof(program[0]);
  for (u32 i = 0; i < length; i++)
    code[i] = program[i];
  for (u32 i = 0; i < 64; i++)
    memory[i] = 0;
  return interpret(n);
}
