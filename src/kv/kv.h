/* src/kv/kv.h - block pool, block tables, prefix tree. Pure bookkeeping over block numbers; the bytes lie on the device.
 *
 * Invariants:
 *  1. A block is free, or referenced by refs > 0 sequences, or cached (refs 0, reachable in the prefix tree).
 *  2. A full block whose tokens are known may be in the prefix tree, keyed by its parent block and its tokens; its
 *     contents never change while it is there.
 *  3. Only the last block of a sequence is written to, and only when refs is 1 and it is not in the tree (copy on
 *     write otherwise).
 *  4. Cached blocks are evicted least recently used first, leaves before their parents.
 *  5. Whoever references a block of the tree references all of its ancestors. So a cached block has only cached
 *     descendants, and every cached block can be had: available = free + cached.
 *  6. What is evicted goes to a slot of the second tier, if there is one. Ancestors of a block are blocks; those of a slot
 *     may be either. Slots are emptied in the order in which they were filled, so their descendants are gone before.
 * Loop thread only. Allocates nothing after aii_kv_pool_create().
 */
#ifndef AII_KV_H
#define AII_KV_H

#include "aiinfra/kv.h"
#include "lib/base/base.h"
#include "src/backend/backend.h"
#include "src/model/model.h"

typedef struct aii_kv_pool aii_kv_pool;
#define AII_NO_BLOCK UINT32_MAX

/* n_slots: blocks of the second tier, which keeps what is evicted; 0: none. */
aiinfra_status aii_kv_pool_create(aii_mem *mem, uint32_t n_blocks, uint32_t n_slots, uint32_t block_tokens,
                                  bool prefix_cache, aii_kv_pool **out, aiinfra_error *err);
void aii_kv_pool_free(aii_kv_pool *pool);

/* A sequence's place in the cache. `table` has room for the sequence's longest length, owned by the sequence. */
typedef struct aii_kv_seq {
  uint32_t *table; /* block ids */
  uint32_t n_blocks, cap_blocks;
  uint32_t n_tokens; /* positions written or promised to be written by the running step */
  uint64_t salt;     /* sequences share prefixes only with the same salt */
  /* private to the pool */
  uint32_t n_published; /* leading blocks that are in the prefix tree */
} aii_kv_seq;
aiinfra_status aii_kv_seq_init(aii_mem *mem, aii_kv_seq *seq, const aii_kv_pool *pool, uint32_t max_tokens,
                               uint64_t salt, aiinfra_error *err);
void aii_kv_seq_destroy(aii_mem *mem, aii_kv_seq *seq, aii_kv_pool *pool); /* gives back its blocks */

/* Attaches the longest cached prefix of tokens[0..n): whole blocks, at most n - 1 tokens, so that at least one token is
 * computed. Returns the number of tokens found; the sequence must be empty. */
uint32_t aii_kv_match(aii_kv_pool *pool, aii_kv_seq *seq, const aiinfra_token *tokens, uint32_t n);
/* Makes room for n more tokens at the end. ENOSPC (nothing changed, no message) when blocks run out even after
 * eviction; EINVAL when the table has no room. When the last block is shared, *copy_from and *copy_to name a block copy
 * to do first (else AII_NO_BLOCK). */
aiinfra_status aii_kv_extend(aii_kv_pool *pool, aii_kv_seq *seq, uint32_t n, uint32_t *copy_from, uint32_t *copy_to);
/* Enters the sequence's full blocks into the prefix tree: tokens[0..n_tokens) are what was written. A block whose equal
 * is in the tree already is given back (unless a fork shares it), and the table names that one instead: unless the table is
 * in use, by a step that reads it; then that waits for the next call. */
void aii_kv_publish(aii_kv_pool *pool, aii_kv_seq *seq, const aiinfra_token *tokens, uint32_t n_tokens, bool in_use);
/* A second, empty sequence on the same tokens so far: shares all blocks, also the unfinished last one. EINVAL when its
 * table is too short or it has another salt. */
aiinfra_status aii_kv_fork(aii_kv_pool *pool, const aii_kv_seq *from, aii_kv_seq *to);
/* Gives back all blocks (preemption); published ones stay cached. */
void aii_kv_release(aii_kv_pool *pool, aii_kv_seq *seq);
/* Contents to copy between a block and a slot: before the blocks are used, before the copies of aii_kv_extend(), in this
 * order. The list is the pool's, and grows until done: call that when all were carried out. (spill.c) */
typedef struct aii_kv_move {
  uint32_t block, slot;
  bool fetch; /* from the slot to the block; else the other way */
} aii_kv_move;
const aii_kv_move *aii_kv_moves(aii_kv_pool *pool, uint32_t *n);
void aii_kv_moves_done(aii_kv_pool *pool);
/* Nothing that is in the tree now is found again: a move failed, so nobody knows what is where. Sequences that have blocks
 * must give them back. */
void aii_kv_forget(aii_kv_pool *pool);
uint32_t aii_kv_available(const aii_kv_pool *pool); /* free plus cached blocks */
uint32_t aii_kv_spare(const aii_kv_pool *pool);     /* of these, those that are to be had without a move */
void aii_kv_pool_stats(const aii_kv_pool *pool, aiinfra_kv_stats *stats); /* all but block_bytes and struct_size */
bool aii_kv_pool_check(const aii_kv_pool *pool); /* the invariants, for tests: true when they hold */

/* The bytes of the slots: host memory, or a file in a folder. Calls come while nobody else uses the device. (store.c) */
typedef struct aii_kv_store aii_kv_store;
aiinfra_status aii_kv_store_create(aii_backend *be, const char *dir, size_t n_slots, size_t slot_bytes,
                                   aii_kv_store **out, aiinfra_error *err);
void aii_kv_store_free(aii_kv_store *store); /* NULL is allowed */
char *aii_kv_store_slot(aii_kv_store *store, uint32_t slot);
/* Queued as copies of blocks are. */
aiinfra_status aii_kv_store_move(aii_kv_store *store, const aii_kv_view *view, const aii_kv_move *move,
                                 aiinfra_error *err);

struct aiinfra_kv {
  aiinfra_model *model;
  _Atomic uint32_t refs;
  aii_kv_pool *pool;
  aii_kv_view view;
  size_t slab_bytes;
  aii_kv_store *store; /* of the second tier; NULL: none */
  void *user;          /* the batcher that uses it; NULL: none */
};
/* As aiinfra_kv_create(), but exactly as large as one sequence of n_tokens needs; opts.budget_bytes is not looked at. */
aiinfra_status aii_kv_create(aiinfra_model *model, const aiinfra_kv_opts *opts, uint32_t n_tokens, aiinfra_kv **out,
                             aiinfra_error *err);
void aii_kv_ref(aiinfra_kv *kv);
void aii_kv_unref(aiinfra_kv *kv);

#endif
