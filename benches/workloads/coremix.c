/* A mix in the proportions of small embedded benchmarks, own code: linked lists sorted and searched, small integer matrices,
 * a state machine that reads numbers, and a 16-bit CRC over every result. */
#include "support.h"

typedef struct Node {
  struct Node *next;
  short key, data;
} Node;

#define NODES 40
#define SIDE 9
static Node nodes[NODES];
static short ma[SIDE][SIDE], mb[SIDE][SIDE];
static i32 mc[SIDE][SIDE];
static const char *const samples[16] = {"5012",    "1234",     "-874",   "+122",       "35.54400",  ".1234500", "-110.700", "+0.64400",
                                        "5.500e+3", "-.123e-2", "-87e+832", "+0.6e-12", "T0.3e-1F", "-T.T++Tq", "1T3.4e4z", "34.0e-T^"};
static char input[512];

static NOINLINE u16 crc_byte(u8 data, u16 crc) {
  for (int i = 0; i < 8; i++) {
    u8 carry = (u8)((data & 1) ^ (crc & 1));
    data >>= 1;
    if (carry)
      crc ^= 0x4002;
    crc >>= 1;
    if (carry)
      crc |= 0x8000;
    else
      crc &= 0x7fff;
  }
  return crc;
}
static u16 crc_u16(u16 data, u16 crc) { return crc_byte((u8)(data >> 8), crc_byte((u8)data, crc)); }
static u16 crc_u32(u32 data, u16 crc) { return crc_u16((u16)(data >> 16), crc_u16((u16)data, crc)); }

typedef i32 (*Order)(const Node *, const Node *);
static i32 by_key(const Node *a, const Node *b) { return a->key - b->key; }
static i32 by_data(const Node *a, const Node *b) { return (a->data & 0x7f) - (b->data & 0x7f); }

/* Merge sort of a list. */
static NOINLINE Node *sort_list(Node *list, Order order) {
  for (u32 width = 1;; width *= 2) {
    Node *p = list, *tail = 0;
    u32 merges = 0;
    list = 0;
    while (p) {
      merges++;
      Node *q = p;
      u32 left = 0, right = width;
      for (; left < width && q; left++)
        q = q->next;
      while (left || (right && q)) {
        Node *next;
        if (!left || (right && q && order(p, q) > 0))
          next = q, q = q->next, right--;
        else
          next = p, p = p->next, left--;
        if (tail)
          tail->next = next;
        else
          list = next;
        tail = next;
      }
      p = q;
    }
    if (tail)
      tail->next = 0;
    if (merges <= 1)
      return list;
  }
}

static Node *reverse(Node *list) {
  Node *result = 0;
  while (list) {
    Node *next = list->next;
    list->next = result;
    result = list;
    list = next;
  }
  return result;
}

static const Node *find(const Node *list, short key) {
  while (list && list->key != key)
    list = list->next;
  return list;
}

static u16 list_part(u32 seed, u16 crc) {
  u32 state = seed | 1;
  for (u32 i = 0; i < NODES; i++) {
    nodes[i].next = i + 1 < NODES ? &nodes[i + 1] : 0;
    nodes[i].key = (short)(random_next(&state) & 63);
    nodes[i].data = (short)random_next(&state);
  }
  Node *list = sort_list(nodes, by_key);
  for (short key = 0; key < 64; key += 3) {
    const Node *found = find(list, key);
    if (found)
      crc = crc_u16((u16)found->data, crc);
    list = reverse(list);
  }
  list = sort_list(list, by_data);
  for (const Node *node = list; node; node = node->next)
    crc = crc_u16((u16)node->key, crc);
  return crc;
}

static u16 matrix_part(short seed, u16 crc) {
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) {
      ma[i][j] = (short)(seed + i * j);
      mb[i][j] = (short)(seed ^ (i + j));
    }
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) {
      i32 cell = 0;
      for (int k = 0; k < SIDE; k++)
        cell += (i32)ma[i][k] * (i32)mb[k][j];
      mc[i][j] = cell;
    }
  i32 sum = 0, last = 0;
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) {
      i32 cell = 0;
      for (int k = 0; k < SIDE; k++) {
        i32 both = (i32)ma[i][k] * (i32)mb[k][j];
        cell += (both >> 2 & 15) * (both >> 5 & 127);
      }
      mc[i][j] += cell;
      sum = mc[i][j] > last ? sum + 10 : sum + (mc[i][j] & 7);
      last = mc[i][j];
    }
  return crc_u32((u32)sum, crc);
}

enum { START, SIGN, INTEGER, FRACTION, EXPONENT_MARK, EXPONENT_SIGN, EXPONENT, WRONG, STATES };

static int digit(char c) { return c >= '0' && c <= '9'; }

/* Reads one number up to a comma and gives the kind of it. */
static NOINLINE u32 scan(const char **at, u32 *visits) {
  u32 state = START;
  for (; **at && state != WRONG; ++*at) {
    char c = **at;
    if (c == ',') {
      ++*at;
      break;
    }
    switch (state) {
    case START: state = digit(c) ? INTEGER : c == '+' || c == '-' ? SIGN : c == '.' ? FRACTION : WRONG; break;
    case SIGN: state = digit(c) ? INTEGER : c == '.' ? FRACTION : WRONG; break;
    case INTEGER: state = digit(c) ? INTEGER : c == '.' ? FRACTION : c == 'e' ? EXPONENT_MARK : WRONG; break;
    case FRACTION: state = digit(c) ? FRACTION : c == 'e' || c == 'E' ? EXPONENT_MARK : WRONG; break;
    case EXPONENT_MARK: state = c == '+' || c == '-' ? EXPONENT_SIGN : digit(c) ? EXPONENT : WRONG; break;
    case EXPONENT_SIGN: state = digit(c) ? EXPONENT : WRONG; break;
    case EXPONENT: state = digit(c) ? EXPONENT : WRONG; break;
    default: break;
    }
    visits[state]++;
  }
  if (state == WRONG)
    while (**at && *(*at)++ != ',') {
    }
  return state;
}

static u16 state_part(u32 seed, u16 crc) {
  u32 length = 0, state = seed | 1, visits[STATES] = {0}, finals[STATES] = {0};
  while (length + 12 < sizeof input) {
    const char *sample = samples[random_next(&state) >> 28];
    while (*sample)
      input[length++] = *sample++;
    input[length++] = ',';
  }
  input[length] = 0;
  for (int pass = 0; pass < 2; pass++) {
    const char *at = input;
    while (*at)
      finals[scan(&at, visits)]++;
    for (u32 i = 0; i < length; i += 17)
      if (input[i] != ',')
        input[i] ^= (char)(seed & 7);
  }
  for (u32 i = 0; i < STATES; i++)
    crc = crc_u32(finals[i], crc_u32(visits[i], crc));
  return crc;
}

EXPORT(run) u64 run(i32 n) {
  u16 crc = 0;
  for (i32 i = 0; i < n; i++) {
    crc = list_part((u32)i * 77 + crc, crc);
    crc = matrix_part((short)(i ^ crc), crc);
    crc = state_part((u32)i * 31 + 5, crc);
  }
  return crc;
}
