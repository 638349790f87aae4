/* pool.c - blocks lent to sequences: match a cached prefix, grow, publish, fork, give back. See kv.h for the invariants.
 *
 *            extend                    publish                      release
 *   FREE ------------> HELD (private) ---------> HELD (in the tree) ---------> CACHED
 *    ^                     |                          ^                          |
 *    |<----- release ------'                          '---------- match ---------|
 *    |<------------------------------- evict -----------------------------------'
 *
 * What is evicted may go on in a slot of the second tier (spill.c).
 *
 * Every step costs constant time for each block it touches; nothing is allocated after creation. Loop thread.
 */
#include "src/kv/pool.h"

enum { MAX_BLOCK_TOKENS = 256 };

/* ---- create and free ----------------------------------------------------------------------------------------- */

static bool allocate(aii_kv_pool *p)
{
  uint32_t n_nodes = p->n_blocks + p->n_slots;
  p->blocks = aii_new_array(p->mem, n_nodes, sizeof p->blocks[0]);
  if (p->max_moves > 0) p->moves = aii_new_array(p->mem, p->max_moves, sizeof p->moves[0]);
  if (p->blocks == NULL || (p->max_moves > 0 && p->moves == NULL)) return false;
  if (!p->prefix_cache) return true;
  p->n_buckets = 2;
  while (p->n_buckets / 2 < n_nodes && p->n_buckets < 1u << 31) p->n_buckets *= 2;
  size_t n_tokens;
  if (!aii_size_mul(n_nodes, p->block_tokens, &n_tokens)) return false;
  p->tokens = aii_new_array(p->mem, n_tokens, sizeof p->tokens[0]);
  p->buckets = aii_new_array(p->mem, p->n_buckets, sizeof p->buckets[0]);
  return p->tokens != NULL && p->buckets != NULL;
}

/* Free nodes first..end, as a list. */
static void all_free(aii_kv_pool *p, uint32_t first, uint32_t end, uint32_t *head, uint32_t *n)
{
  for (uint32_t i = first; i < end; i++) p->blocks[i] = (aii_block){.next = i + 1 < end ? i + 1 : AII_NO_BLOCK};
  *head = first < end ? first : AII_NO_BLOCK;
  *n = end - first;
}

aiinfra_status aii_kv_pool_create(aii_mem *mem, uint32_t n_blocks, uint32_t n_slots, uint32_t block_tokens,
                                  bool prefix_cache, aii_kv_pool **out, aiinfra_error *err)
{
  *out = NULL;
  if (n_blocks == 0 || (uint64_t)n_blocks + n_slots >= AII_NO_BLOCK)
    return aii_fail(err, AIINFRA_EINVAL, "a cache of %u blocks, and of %u more in a second tier", n_blocks, n_slots);
  if (block_tokens == 0 || block_tokens > MAX_BLOCK_TOKENS || (block_tokens & (block_tokens - 1)) != 0) {
    return aii_fail(err, AIINFRA_EINVAL, "block_tokens is %u; it must be a power of two up to %d", block_tokens,
                    MAX_BLOCK_TOKENS);
  }
  aii_kv_pool *p = aii_new(mem, sizeof *p);
  if (p == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a block pool");
  *p = (aii_kv_pool){.mem = mem,
                     .n_blocks = n_blocks,
                     .n_slots = prefix_cache ? n_slots : 0,
                     .block_tokens = block_tokens,
                     .prefix_cache = prefix_cache,
                     .max_moves = prefix_cache && n_slots > 0 ? 2 * AII_MIN(n_blocks, UINT32_MAX / 2) : 0,
                     .cached = {AII_NO_BLOCK, AII_NO_BLOCK, 0},
                     .spilled = {AII_NO_BLOCK, AII_NO_BLOCK, 0}};
  if (!allocate(p)) {
    aii_kv_pool_free(p);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory to keep account of %u blocks", n_blocks);
  }
  for (uint32_t i = 0; i < p->n_buckets; i++) p->buckets[i] = AII_NO_BLOCK;
  all_free(p, 0, n_blocks, &p->free_head, &p->n_free);
  all_free(p, n_blocks, n_blocks + p->n_slots, &p->free_slot_head, &p->n_free_slots);
  *out = p;
  return AIINFRA_OK;
}

void aii_kv_pool_free(aii_kv_pool *p)
{
  if (p == NULL) return;
  size_t n_nodes = p->n_blocks + p->n_slots;
  aii_del(p->mem, p->blocks, n_nodes * sizeof p->blocks[0]);
  aii_del(p->mem, p->moves, p->max_moves * sizeof p->moves[0]);
  aii_del(p->mem, p->tokens, n_nodes * p->block_tokens * sizeof p->tokens[0]);
  aii_del(p->mem, p->buckets, p->n_buckets * sizeof p->buckets[0]);
  aii_del(p->mem, p, sizeof *p);
}

/* ---- lists --------------------------------------------------------------------------------------------------- */

void aii_kv_list_append(aii_kv_pool *p, aii_block_list *list, uint32_t block)
{
  aii_block *b = &p->blocks[block];
  b->prev = list->tail;
  b->next = AII_NO_BLOCK;
  *(list->tail != AII_NO_BLOCK ? &p->blocks[list->tail].next : &list->head) = block;
  list->tail = block;
  list->n++;
}

void aii_kv_list_remove(aii_kv_pool *p, aii_block_list *list, uint32_t block)
{
  aii_block *b = &p->blocks[block];
  *(b->prev != AII_NO_BLOCK ? &p->blocks[b->prev].next : &list->head) = b->next;
  *(b->next != AII_NO_BLOCK ? &p->blocks[b->next].prev : &list->tail) = b->prev;
  list->n--;
}

static void free_push(aii_kv_pool *p, uint32_t block)
{
  p->blocks[block].next = p->free_head;
  p->free_head = block;
  p->n_free++;
}

uint32_t aii_kv_take_free(aii_kv_pool *p)
{
  uint32_t block = p->free_head;
  p->free_head = p->blocks[block].next;
  p->n_free--;
  return block;
}

/* A free block, or the least recently used cached one. The caller has seen that there is one. */
uint32_t aii_kv_take_block(aii_kv_pool *p)
{
  uint32_t block;
  if (p->n_free > 0) {
    block = aii_kv_take_free(p);
  } else {
    block = p->cached.head;
    aii_kv_list_remove(p, &p->cached, block);
    if (!aii_kv_spill(p, block)) aii_kv_tree_remove(p, block);
    p->evictions++;
  }
  p->blocks[block].refs = 1;
  return block;
}

static void hold(aii_kv_pool *p, uint32_t block)
{
  aii_block *b = &p->blocks[block];
  if (b->refs++ == 0) aii_kv_list_remove(p, &p->cached, block);
}

static void let_go(aii_kv_pool *p, uint32_t block)
{
  aii_block *b = &p->blocks[block];
  if (--b->refs > 0) return;
  if (b->in_tree) {
    aii_kv_list_append(p, &p->cached, block);
  } else {
    free_push(p, block);
  }
}

/* ---- sequences ----------------------------------------------------------------------------------------------- */

aiinfra_status aii_kv_seq_init(aii_mem *mem, aii_kv_seq *seq, const aii_kv_pool *p, uint32_t max_tokens, uint64_t salt,
                               aiinfra_error *err)
{
  *seq = (aii_kv_seq){.salt = salt};
  uint32_t cap = (uint32_t)(((uint64_t)max_tokens + p->block_tokens - 1) / p->block_tokens);
  if (cap == 0) return aii_fail(err, AIINFRA_EINVAL, "a sequence needs room for a token");
  seq->table = aii_new_array(mem, cap, sizeof seq->table[0]);
  if (seq->table == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a table of %u blocks", cap);
  seq->cap_blocks = cap;
  return AIINFRA_OK;
}

void aii_kv_release(aii_kv_pool *p, aii_kv_seq *seq)
{
  while (seq->n_blocks > 0) let_go(p, seq->table[--seq->n_blocks]); /* children before parents: see pool.h */
  seq->n_tokens = seq->n_published = 0;
}

void aii_kv_seq_destroy(aii_mem *mem, aii_kv_seq *seq, aii_kv_pool *p)
{
  aii_kv_release(p, seq);
  aii_del(mem, seq->table, seq->cap_blocks * sizeof seq->table[0]);
  *seq = (aii_kv_seq){.salt = seq->salt};
}

/* Of an epoch: what was forgotten is not found again. */
static uint64_t salt_of(const aii_kv_pool *p, const aii_kv_seq *seq)
{
  return p->epoch == 0 ? seq->salt : aii_hash64(&p->epoch, sizeof p->epoch, seq->salt);
}

uint32_t aii_kv_match(aii_kv_pool *p, aii_kv_seq *seq, const aiinfra_token *tokens, uint32_t n)
{
  assert(seq->n_blocks == 0);
  if (!p->prefix_cache || n == 0) return 0;
  uint64_t parent = AII_NO_NAME;
  uint32_t most = AII_MIN((n - 1) / p->block_tokens, seq->cap_blocks);
  while (seq->n_blocks < most) {
    const aiinfra_token *part = tokens + (size_t)seq->n_blocks * p->block_tokens;
    uint32_t block = aii_kv_tree_find(p, parent, salt_of(p, seq), part);
    if (block != AII_NO_BLOCK && block >= p->n_blocks) block = aii_kv_fetch(p, block);
    else if (block != AII_NO_BLOCK) hold(p, block);
    if (block == AII_NO_BLOCK) break;
    seq->table[seq->n_blocks++] = block;
    parent = p->blocks[block].name;
  }
  seq->n_published = seq->n_blocks;
  seq->n_tokens = seq->n_blocks * p->block_tokens;
  p->prefix_queries += n;
  p->prefix_hits += seq->n_tokens;
  return seq->n_tokens;
}

aiinfra_status aii_kv_extend(aii_kv_pool *p, aii_kv_seq *seq, uint32_t n, uint32_t *copy_from, uint32_t *copy_to)
{
  *copy_from = *copy_to = AII_NO_BLOCK;
  if (n == 0) return AIINFRA_OK;
  uint64_t total = (uint64_t)seq->n_tokens + n;
  uint64_t want = (total + p->block_tokens - 1) / p->block_tokens;
  if (want > seq->cap_blocks || total > UINT32_MAX) return AIINFRA_EINVAL;
  bool partial = seq->n_tokens % p->block_tokens != 0;
  bool copy = partial && p->blocks[seq->table[seq->n_blocks - 1]].refs > 1;
  if (want - seq->n_blocks + copy > aii_kv_available(p)) return AIINFRA_ENOSPC;

  if (copy) {
    *copy_from = seq->table[seq->n_blocks - 1];
    *copy_to = aii_kv_take_block(p);
    seq->table[seq->n_blocks - 1] = *copy_to;
    let_go(p, *copy_from);
    p->copies++;
  }
  while (seq->n_blocks < want) seq->table[seq->n_blocks++] = aii_kv_take_block(p);
  seq->n_tokens = (uint32_t)total;
  return AIINFRA_OK;
}

/* A block was computed whose equal is in a slot: the slot is not needed. */
static uint32_t adopt(aii_kv_pool *p, uint32_t slot, uint32_t block)
{
  if (p->blocks[block].in_tree) return AII_NO_BLOCK;
  aii_kv_leave_slot(p, slot, block);
  return block;
}

void aii_kv_publish(aii_kv_pool *p, aii_kv_seq *seq, const aiinfra_token *tokens, uint32_t n_tokens, bool in_use)
{
  if (!p->prefix_cache) return;
  uint32_t full = AII_MIN(n_tokens, seq->n_tokens) / p->block_tokens;
  for (uint32_t i = seq->n_published; i < full; i++) {
    const aiinfra_token *part = tokens + (size_t)i * p->block_tokens;
    uint64_t parent = i > 0 ? p->blocks[seq->table[i - 1]].name : AII_NO_NAME;
    uint32_t mine = seq->table[i], block = aii_kv_tree_find(p, parent, salt_of(p, seq), part);
    if (block != AII_NO_BLOCK && block >= p->n_blocks) block = adopt(p, block, mine);
    if (block == AII_NO_BLOCK) {
      if (p->blocks[mine].in_tree) return; /* under other tokens: the caller's tokens are not what was written */
      aii_kv_tree_insert(p, mine, parent, salt_of(p, seq), part);
    } else if (block != mine) {
      /* A fork that shares mine would then hold children of a block it does not hold (invariant 5). */
      if (in_use || p->blocks[mine].refs > 1) return;
      hold(p, block);
      seq->table[i] = block;
      let_go(p, mine);
    }
    seq->n_published = i + 1;
  }
}

aiinfra_status aii_kv_fork(aii_kv_pool *p, const aii_kv_seq *from, aii_kv_seq *to)
{
  if (to->n_blocks != 0 || to->cap_blocks < from->n_blocks || to->salt != from->salt) return AIINFRA_EINVAL;
  for (uint32_t i = 0; i < from->n_blocks; i++) {
    to->table[i] = from->table[i];
    hold(p, from->table[i]);
  }
  to->n_blocks = from->n_blocks;
  to->n_tokens = from->n_tokens;
  to->n_published = from->n_published;
  return AIINFRA_OK;
}

/* ---- account ------------------------------------------------------------------------------------------------- */

uint32_t aii_kv_available(const aii_kv_pool *p)
{
  return p->n_free + p->cached.n;
}

uint32_t aii_kv_spare(const aii_kv_pool *p)
{
  return p->n_slots > 0 ? p->n_free : aii_kv_available(p);
}

void aii_kv_forget(aii_kv_pool *p)
{
  p->epoch++;
}

void aii_kv_pool_stats(const aii_kv_pool *p, aiinfra_kv_stats *stats)
{
  stats->prefix_queries = p->prefix_queries;
  stats->prefix_hits = p->prefix_hits;
  stats->evictions = p->evictions;
  stats->copies = p->copies;
  stats->n_blocks = p->n_blocks;
  stats->n_free = p->n_free;
  stats->n_cached = p->cached.n;
  stats->block_tokens = p->block_tokens;
  stats->spills = p->spills;
  stats->fetches = p->fetches;
  stats->n_slots = p->n_slots;
  stats->n_spilled = p->spilled.n;
}
