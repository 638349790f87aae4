/* src/kv/pool.h - the block pool as its own files see it. Private to src/kv; the invariants are in kv.h. */
#ifndef AII_KV_POOL_H
#define AII_KV_POOL_H

#include "src/kv/kv.h"

typedef struct aii_block {
  uint32_t refs;       /* sequences that have it in their table */
  uint32_t parent;     /* in the tree; AII_NO_BLOCK: a first block */
  uint32_t n_children; /* in the tree */
  uint32_t next_hash;  /* chain of the hash table */
  uint32_t prev, next; /* free list (next only) or the list of cached blocks */
  uint64_t salt;       /* of a first block in the tree */
  uint64_t hash;
  bool in_tree;
} aii_block;

/* Cached blocks stand in a list, least recently used first. A sequence gives its blocks back from the last to the
 * first, and whoever holds a block holds its ancestors: so a child always stands before its parent, the head of the
 * list is always a leaf, and eviction takes the head. */
struct aii_kv_pool {
  aii_mem *mem;
  uint32_t n_blocks, block_tokens;
  bool prefix_cache;
  aii_block *blocks;
  aiinfra_token *tokens; /* [n_blocks][block_tokens] of blocks in the tree; NULL without prefix cache */
  uint32_t *buckets;     /* hash table of the tree: block ids */
  uint32_t n_buckets;    /* a power of two */
  uint32_t free_head, n_free;
  uint32_t lru_head, lru_tail, n_cached;
  uint64_t prefix_queries, prefix_hits, evictions, copies;
};

/* The child of `parent` with these tokens, or AII_NO_BLOCK. (tree.c) */
uint32_t aii_kv_tree_find(const aii_kv_pool *pool, uint32_t parent, uint64_t salt, const aiinfra_token *tokens);
void aii_kv_tree_insert(aii_kv_pool *pool, uint32_t block, uint32_t parent, uint64_t salt, const aiinfra_token *tokens);
void aii_kv_tree_remove(aii_kv_pool *pool, uint32_t block);

#endif
