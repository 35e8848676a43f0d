/* Backtracking with unpredictable branches: n queens by bits and by arrays, and knight's tours cut off at a number of steps. */
#include "support.h"

static NOINLINE u32 queens(u32 all, u32 columns, u32 left, u32 right) {
  if (columns == all)
    return 1;
  u32 count = 0;
  for (u32 open = all & ~(columns | left | right); open;) {
    u32 bit = open & -open;
    open ^= bit;
    count += queens(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
  }
  return count;
}

static u8 row_of[16];
static NOINLINE u32 queens_array(u32 size, u32 column) {
  if (column == size)
    return 1;
  u32 count = 0;
  for (u32 row = 0; row < size; row++) {
    u32 other = 0;
    for (; other < column; other++) {
      u32 r = row_of[other];
      if (r == row || r + (column - other) == row || row + (column - other) == r)
        break;
    }
    if (other == column) {
      row_of[column] = (u8)row;
      count += queens_array(size, column + 1);
    }
  }
  return count;
}

static u8 board[12 * 12];
static u32 budget;
static NOINLINE int tour(u32 place, u32 step) {
  static const i32 moves[8] = {-25, -23, -14, -10, 10, 14, 23, 25};
  if (step == 36)
    return 1;
  if (budget-- == 0)
    return -1;
  board[place] = (u8)step;
  for (int i = 0; i < 8; i++) {
    u32 next = place + (u32)moves[i];
    if (!board[next]) {
      int result = tour(next, step + 1);
      if (result)
        return result;
    }
  }
  board[place] = 0;
  return 0;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  for (i32 i = 0; i < n; i++) {
    sum = mix(sum, queens(511, 0, 0, 0));
    sum = mix(sum, queens_array(7, 0));
    for (u32 k = 0; k < 144; k++) {
      u32 x = k % 12, y = k / 12;
      board[k] = x < 2 || x > 7 || y < 2 || y > 7 ? 255 : 0;
    }
    budget = 20000;
    sum = mix(sum, (u64)(tour(26 + ((u32)i & 3), 1) + 2) << 32 | budget);
  }
  return sum;
}
