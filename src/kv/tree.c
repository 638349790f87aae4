/* tree.c - the prefix tree: blocks found again by their parent and their tokens.
 *
 * The tree exists as a hash table only: its key is the parent's name (for first blocks the salt) and the block's tokens.
 * A name is a number that is given once: a block that moves to the second tier keeps it, so its children stay where they
 * are. A hit is verified token by token, so that a collision costs time and never a wrong answer.
 */
#include "src/kv/pool.h"

static uint64_t hash_of(const aii_kv_pool *pool, uint64_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  uint64_t seed = parent == AII_NO_NAME ? salt : 0x9E3779B97F4A7C15u * (parent + 1);
  return aii_hash64(tokens, pool->block_tokens * sizeof tokens[0], seed);
}

static bool equals(const aii_kv_pool *pool, uint32_t block, uint64_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  const aii_block *b = &pool->blocks[block];
  return b->parent == parent && (parent != AII_NO_NAME || b->salt == salt) &&
         memcmp(pool->tokens + (size_t)block * pool->block_tokens, tokens, pool->block_tokens * sizeof tokens[0]) == 0;
}

uint32_t aii_kv_tree_find(const aii_kv_pool *pool, uint64_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  uint64_t hash = hash_of(pool, parent, salt, tokens);
  uint32_t at = pool->buckets[hash & (pool->n_buckets - 1)];
  while (at != AII_NO_BLOCK && (pool->blocks[at].hash != hash || !equals(pool, at, parent, salt, tokens))) {
    at = pool->blocks[at].next_hash;
  }
  return at;
}

static void link(aii_kv_pool *pool, uint32_t block)
{
  uint32_t *bucket = &pool->buckets[pool->blocks[block].hash & (pool->n_buckets - 1)];
  pool->blocks[block].next_hash = *bucket;
  *bucket = block;
}

void aii_kv_tree_insert(aii_kv_pool *pool, uint32_t block, uint64_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  memcpy(pool->tokens + (size_t)block * pool->block_tokens, tokens, pool->block_tokens * sizeof tokens[0]);
  aii_kv_tree_restore(pool, block, pool->n_names + 1, parent, salt);
}

void aii_kv_tree_restore(aii_kv_pool *pool, uint32_t block, uint64_t name, uint64_t parent, uint64_t salt)
{
  aii_block *b = &pool->blocks[block];
  b->hash = hash_of(pool, parent, salt, pool->tokens + (size_t)block * pool->block_tokens);
  b->name = name;
  b->parent = parent;
  b->salt = salt;
  b->in_tree = true;
  pool->n_names = AII_MAX(pool->n_names, name);
  link(pool, block);
}

void aii_kv_tree_remove(aii_kv_pool *pool, uint32_t block)
{
  aii_block *b = &pool->blocks[block];
  uint32_t *at = &pool->buckets[b->hash & (pool->n_buckets - 1)];
  while (*at != block) at = &pool->blocks[*at].next_hash;
  *at = b->next_hash;
  b->in_tree = false;
}

void aii_kv_tree_move(aii_kv_pool *pool, uint32_t from, uint32_t to)
{
  aii_block *old = &pool->blocks[from], *b = &pool->blocks[to];
  size_t n = pool->block_tokens;
  aii_kv_tree_remove(pool, from);
  b->hash = old->hash;
  b->name = old->name;
  b->parent = old->parent;
  b->salt = old->salt;
  b->in_tree = true;
  memcpy(pool->tokens + to * n, pool->tokens + from * n, n * sizeof pool->tokens[0]);
  link(pool, to);
}
