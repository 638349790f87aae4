/* check.c - proves the pool's invariants by looking at all of it; for tests, and slow. */
#include "src/kv/pool.h"

/* A list of cached blocks or filled slots, which are nodes first..end. */
static bool check_list(const aii_kv_pool *p, const aii_block_list *list, uint32_t first, uint32_t end)
{
  uint32_t n = 0, prev = AII_NO_BLOCK;
  for (uint32_t b = list->head; b != AII_NO_BLOCK; prev = b, b = p->blocks[b].next, n++) {
    if (b < first || b >= end || n == list->n) return false;
    if (p->blocks[b].refs != 0 || !p->blocks[b].in_tree || p->blocks[b].prev != prev) return false;
  }
  return prev == list->tail && n == list->n;
}

static bool check_free(const aii_kv_pool *p, uint32_t head, uint32_t n, uint32_t first, uint32_t end)
{
  for (uint32_t b = head; n > 0; b = p->blocks[b].next, n--)
    if (b < first || b >= end || p->blocks[b].refs != 0 || p->blocks[b].in_tree) return false;
  return true;
}

/* Every block is free, cached or held, every slot free or filled, and in no two lists. */
static bool check_lists(const aii_kv_pool *p)
{
  uint32_t n_held = 0, end = p->n_blocks + p->n_slots;
  for (uint32_t b = 0; b < p->n_blocks; b++) n_held += p->blocks[b].refs > 0;
  return check_free(p, p->free_head, p->n_free, 0, p->n_blocks) &&
         check_free(p, p->free_slot_head, p->n_free_slots, p->n_blocks, end) &&
         check_list(p, &p->cached, 0, p->n_blocks) && check_list(p, &p->spilled, p->n_blocks, end) &&
         p->n_free + p->cached.n + n_held == p->n_blocks && p->n_free_slots + p->spilled.n == p->n_slots;
}

static uint32_t named(const aii_kv_pool *p, uint64_t name)
{
  for (uint32_t b = 0; b < p->n_blocks + p->n_slots; b++)
    if (p->blocks[b].in_tree && p->blocks[b].name == name) return b;
  return AII_NO_BLOCK;
}

/* Whoever is in the tree is found there; parents are in the tree, blocks when their child is one, held when it is. */
static bool check_tree(const aii_kv_pool *p)
{
  for (uint32_t b = 0; b < p->n_blocks + p->n_slots; b++) {
    const aii_block *block = &p->blocks[b];
    if (!block->in_tree) continue;
    if (aii_kv_tree_find(p, block->parent, block->salt, p->tokens + (size_t)b * p->block_tokens) != b) return false;
    if (block->parent == AII_NO_NAME) continue;
    uint32_t parent = named(p, block->parent);
    if (parent == AII_NO_BLOCK && b >= p->n_blocks) continue; /* evicted for good */
    if (parent == AII_NO_BLOCK || (b < p->n_blocks && parent >= p->n_blocks)) return false;
    if (block->refs > 0 && p->blocks[parent].refs == 0) return false;
  }
  return true;
}

/* In a list a child stands before its parent: walking it, no node may have a child that is still to come. */
static bool check_order(const aii_kv_pool *p, const aii_block_list *list)
{
  for (uint32_t b = list->head; b != AII_NO_BLOCK; b = p->blocks[b].next)
    for (uint32_t c = p->blocks[b].next; c != AII_NO_BLOCK; c = p->blocks[c].next)
      if (p->blocks[c].parent == p->blocks[b].name) return false;
  return true;
}

bool aii_kv_pool_check(const aii_kv_pool *p)
{
  if (!check_lists(p) || p->n_moves > p->max_moves) return false;
  return !p->prefix_cache || (check_tree(p) && check_order(p, &p->cached) && check_order(p, &p->spilled));
}
