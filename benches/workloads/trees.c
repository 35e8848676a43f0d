/* Allocation and pointers: binary trees from a free list built, searched, rotated into a vine and released. */
#include "support.h"

typedef struct Tree {
  struct Tree *left, *right;
  u32 key, weight;
} Tree;
#define NODES 20000
static Tree nodes[NODES];
static Tree *free_list;

static NOINLINE Tree *allocate(void) {
  Tree *tree = free_list;
  free_list = tree->left;
  tree->left = tree->right = 0;
  return tree;
}
static NOINLINE void release(Tree *tree) {
  if (!tree)
    return;
  release(tree->left);
  release(tree->right);
  tree->left = free_list;
  free_list = tree;
}
/* A treap: ordered by key, heap by weight, so its shape is that of a random tree. */
static NOINLINE Tree *insert(Tree *tree, Tree *fresh) {
  if (!tree)
    return fresh;
  if (fresh->key < tree->key) {
    Tree *child = tree->left = insert(tree->left, fresh);
    if (child->weight > tree->weight) {
      tree->left = child->right;
      child->right = tree;
      return child;
    }
  } else {
    Tree *child = tree->right = insert(tree->right, fresh);
    if (child->weight > tree->weight) {
      tree->right = child->left;
      child->left = tree;
      return child;
    }
  }
  return tree;
}
static NOINLINE u32 depth(const Tree *tree) {
  if (!tree)
    return 0;
  u32 left = depth(tree->left), right = depth(tree->right);
  return 1 + (left > right ? left : right);
}
static NOINLINE u64 walk(const Tree *tree, u64 sum) {
  for (; tree; tree = tree->right) {
    sum = walk(tree->left, sum);
    sum = mix(sum, tree->key);
  }
  return sum;
}

EXPORT(run) u64 run(i32 n) {
  u64 sum = 0;
  u32 state = 7;
  free_list = 0;
  for (u32 i = NODES; i-- > 0;) {
    nodes[i].left = free_list;
    free_list = &nodes[i];
  }
  for (i32 round = 0; round < n; round++) {
    Tree *tree = 0;
    u32 count = 1000 + (random_next(&state) & 1023), found = 0;
    for (u32 i = 0; i < count; i++) {
      Tree *fresh = allocate();
      fresh->key = random_next(&state) >> 8;
      fresh->weight = random_next(&state);
      tree = insert(tree, fresh);
    }
    for (u32 i = 0; i < count; i++) {
      u32 key = random_next(&state) >> 8;
      const Tree *at = tree;
      while (at && at->key != key)
        at = key < at->key ? at->left : at->right, found++;
    }
    sum = mix(mix(walk(tree, sum), depth(tree)), found);
    release(tree);
  }
  return sum;
}
