/* check.c - proves the pool's invariants by looking at all of it; for tests, and slow. */
#include "src/kv/pool.h"

/* Every block is free, cached or held, and in no two lists. */
static bool check_lists(const aii_kv_pool *p)
{
  uint32_t n_free = 0, n_cached = 0, n_held = 0, prev = AII_NO_BLOCK;
  for (uint32_t b = p->free_head; n_free < p->n_free; b = p->blocks[b].next, n_free++) {
    if (b >= p->n_blocks || p->blocks[b].refs != 0 || p->blocks[b].in_tree) return false;
  }
  for (uint32_t b = p->lru_head; b != AII_NO_BLOCK; prev = b, b = p->blocks[b].next, n_cached++) {
    if (b >= p->n_blocks || n_cached == p->n_cached) return false;
    if (p->blocks[b].refs != 0 || !p->blocks[b].in_tree || p->blocks[b].prev != prev) return false;
  }
  for (uint32_t b = 0; b < p->n_blocks; b++) n_held += p->blocks[b].refs > 0;
  return prev == p->lru_tail && n_cached == p->n_cached && n_free + n_cached + n_held == p->n_blocks;
}

/* Whoever is in the tree is found there once; parents are in the tree, held when their child is, and know how many
 * children they have. */
static bool check_tree(const aii_kv_pool *p)
{
  uint64_t children = 0, with_parent = 0;
  for (uint32_t b = 0; b < p->n_blocks; b++) {
    const aii_block *block = &p->blocks[b];
    if (!block->in_tree) continue;
    children += block->n_children;
    if (aii_kv_tree_find(p, block->parent, block->salt, p->tokens + (size_t)b * p->block_tokens) != b) return false;
    if (block->parent == AII_NO_BLOCK) continue;
    with_parent++;
    if (!p->blocks[block->parent].in_tree || (block->refs > 0 && p->blocks[block->parent].refs == 0)) return false;
  }
  return children == with_parent;
}

/* In the list of cached blocks a child stands before its parent: walking it, no block may have a parent that passed. */
static bool check_order(const aii_kv_pool *p)
{
  uint32_t left = 0;
  for (uint32_t b = p->lru_head; b != AII_NO_BLOCK; b = p->blocks[b].next) {
    left = 0;
    for (uint32_t c = p->blocks[b].next; c != AII_NO_BLOCK; c = p->blocks[c].next) left += p->blocks[c].parent == b;
    if (left > 0) return false;
  }
  return true;
}

bool aii_kv_pool_check(const aii_kv_pool *p)
{
  return check_lists(p) && (!p->prefix_cache || (check_tree(p) && check_order(p)));
}
