/* src/kv/pool.h - the block pool as its own files see it. Private to src/kv; the invariants are in kv.h. */
#ifndef AII_KV_POOL_H
#define AII_KV_POOL_H

#include "src/kv/kv.h"

/* A block of the device, or a slot of the second tier: nodes n_blocks and up are slots. */
typedef struct aii_block {
  uint32_t refs;       /* sequences that have it in their table */
  uint32_t next_hash;  /* chain of the hash table */
  uint32_t prev, next; /* a free list (next only), or the list of cached blocks or of filled slots */
  uint64_t name;       /* in the tree: no other block ever has it. It goes with what moves between block and slot. */
  uint64_t parent;     /* in the tree: the name of the parent; AII_NO_NAME: a first block */
  uint64_t salt;       /* of a first block in the tree */
  uint64_t hash;
  bool in_tree;
} aii_block;
enum { AII_NO_NAME = 0 };

/* Cached blocks stand in a list, least recently used first. A sequence gives its blocks back from the last to the
 * first, and whoever holds a block holds its ancestors: so a child always stands before its parent, the head of the
 * list is always a leaf, and eviction takes the head. What is evicted goes to the end of the list of filled slots, where
 * the same holds: its descendants went there before it. */
typedef struct aii_block_list {
  uint32_t head, tail, n;
} aii_block_list;

struct aii_kv_pool {
  aii_mem *mem;
  uint32_t n_blocks, n_slots, block_tokens;
  bool prefix_cache;
  aii_block *blocks;     /* [n_blocks + n_slots] */
  aiinfra_token *tokens; /* [n_blocks + n_slots][block_tokens] of those in the tree; NULL without prefix cache */
  uint32_t *buckets;     /* hash table of the tree: numbers of blocks and slots */
  uint32_t n_buckets;    /* a power of two */
  uint32_t free_head, n_free, free_slot_head, n_free_slots;
  aii_block_list cached, spilled;
  aii_kv_move *moves; /* [max_moves] */
  uint32_t n_moves, max_moves;
  bool lent; /* somebody carries them out */
  uint64_t n_names, epoch;
  uint64_t prefix_queries, prefix_hits, evictions, copies, spills, fetches;
};

/* The child of `parent` with these tokens, or AII_NO_BLOCK. (tree.c) */
uint32_t aii_kv_tree_find(const aii_kv_pool *pool, uint64_t parent, uint64_t salt, const aiinfra_token *tokens);
void aii_kv_tree_insert(aii_kv_pool *pool, uint32_t block, uint64_t parent, uint64_t salt, const aiinfra_token *tokens);
void aii_kv_tree_remove(aii_kv_pool *pool, uint32_t block);
/* What `from` was in the tree, `to` is now. Its children need not know. */
void aii_kv_tree_move(aii_kv_pool *pool, uint32_t from, uint32_t to);

/* The same with a name that was given before, for tokens that are in their place. */
void aii_kv_tree_restore(aii_kv_pool *pool, uint32_t block, uint64_t name, uint64_t parent, uint64_t salt);

/* (pool.c, spill.c) A node that is in no list any more; the caller has seen that there is a free one. */
uint32_t aii_kv_take_free(aii_kv_pool *pool);
uint32_t aii_kv_take_free_slot(aii_kv_pool *pool);

/* (pool.c) */
void aii_kv_list_append(aii_kv_pool *pool, aii_block_list *list, uint32_t block);
void aii_kv_list_remove(aii_kv_pool *pool, aii_block_list *list, uint32_t block);
uint32_t aii_kv_take_block(aii_kv_pool *pool);

/* The content of a block that is evicted is to go to a slot. False: there is none; nothing changed. (spill.c) */
bool aii_kv_spill(aii_kv_pool *pool, uint32_t block);
/* A block, held once, for what is in a slot; AII_NO_BLOCK, and nothing changed, when there is none. */
uint32_t aii_kv_fetch(aii_kv_pool *pool, uint32_t slot);
/* What stood in the slot stands in the block from now on. */
void aii_kv_leave_slot(aii_kv_pool *pool, uint32_t slot, uint32_t block);

#endif
