/* tree.c - the prefix tree: blocks found again by their parent and their tokens.
 *
 * The tree exists as a hash table only: its key is the parent's block number (for first blocks the salt) and the
 * block's tokens. A hit is verified token by token, so that a collision costs time and never a wrong answer.
 */
#include "src/kv/pool.h"

static uint64_t hash_of(const aii_kv_pool *pool, uint32_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  uint64_t seed = parent == AII_NO_BLOCK ? salt : 0x9E3779B97F4A7C15u * ((uint64_t)parent + 1);
  return aii_hash64(tokens, pool->block_tokens * sizeof tokens[0], seed);
}

static bool equals(const aii_kv_pool *pool, uint32_t block, uint32_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  const aii_block *b = &pool->blocks[block];
  return b->parent == parent && (parent != AII_NO_BLOCK || b->salt == salt) &&
         memcmp(pool->tokens + (size_t)block * pool->block_tokens, tokens, pool->block_tokens * sizeof tokens[0]) == 0;
}

uint32_t aii_kv_tree_find(const aii_kv_pool *pool, uint32_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  uint64_t hash = hash_of(pool, parent, salt, tokens);
  uint32_t at = pool->buckets[hash & (pool->n_buckets - 1)];
  while (at != AII_NO_BLOCK && (pool->blocks[at].hash != hash || !equals(pool, at, parent, salt, tokens))) {
    at = pool->blocks[at].next_hash;
  }
  return at;
}

void aii_kv_tree_insert(aii_kv_pool *pool, uint32_t block, uint32_t parent, uint64_t salt, const aiinfra_token *tokens)
{
  aii_block *b = &pool->blocks[block];
  b->hash = hash_of(pool, parent, salt, tokens);
  b->parent = parent;
  b->salt = salt;
  b->n_children = 0;
  b->in_tree = true;
  memcpy(pool->tokens + (size_t)block * pool->block_tokens, tokens, pool->block_tokens * sizeof tokens[0]);
  uint32_t *bucket = &pool->buckets[b->hash & (pool->n_buckets - 1)];
  b->next_hash = *bucket;
  *bucket = block;
  if (parent != AII_NO_BLOCK) pool->blocks[parent].n_children++;
}

void aii_kv_tree_remove(aii_kv_pool *pool, uint32_t block)
{
  aii_block *b = &pool->blocks[block];
  uint32_t *link = &pool->buckets[b->hash & (pool->n_buckets - 1)];
  while (*link != block) link = &pool->blocks[*link].next_hash;
  *link = b->next_hash;
  if (b->parent != AII_NO_BLOCK) pool->blocks[b->parent].n_children--;
  b->in_tree = false;
}
