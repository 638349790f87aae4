/* test_kv_pool.c - the block pool against a naive model that keeps, for each block, the text it stands for.
 *
 * The model knows nothing of trees or lists: it simulates the device memory as one token for each place. Whatever the
 * pool does, a sequence must read back exactly its own tokens through its table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/kv/kv.h"
#include "support/support.h"

enum { MAX_TOKENS = 96, MAX_SEQS = 8 };

typedef struct sim_seq {
  aii_kv_seq kv;
  aiinfra_token tokens[MAX_TOKENS];
  uint32_t n;
  bool live;
} sim_seq;

typedef struct sim {
  aii_mem mem;
  aii_kv_pool *pool;
  uint32_t n_blocks, block_tokens;
  aiinfra_token *memory; /* [n_blocks][block_tokens]: what the device holds */
  aiinfra_token *slots;  /* [n_slots][block_tokens]: what the second tier holds */
  sim_seq seqs[MAX_SEQS];
  unsigned long long random;
} sim;

static uint32_t below(sim *s, uint32_t n)
{
  return (uint32_t)(test_random(&s->random) % n);
}

static void verify(const sim *s)
{
  uint32_t *refs = calloc(s->n_blocks, sizeof *refs);
  uint32_t held = 0;
  for (uint32_t i = 0; i < MAX_SEQS; i++) {
    const sim_seq *q = &s->seqs[i];
    if (!q->live) continue;
    assert_int_equal(q->kv.n_tokens, q->n);
    assert_int_equal(q->kv.n_blocks, (q->n + s->block_tokens - 1) / s->block_tokens);
    for (uint32_t t = 0; t < q->n; t++) {
      uint32_t block = q->kv.table[t / s->block_tokens];
      assert_true(block < s->n_blocks);
      assert_int_equal(s->memory[block * s->block_tokens + t % s->block_tokens], q->tokens[t]);
    }
    for (uint32_t b = 0; b < q->kv.n_blocks; b++) held += refs[q->kv.table[b]]++ == 0;
  }
  aiinfra_kv_stats stats;
  aii_kv_pool_stats(s->pool, &stats);
  assert_int_equal(stats.n_free + stats.n_cached + held, s->n_blocks);
  assert_int_equal(aii_kv_available(s->pool), stats.n_free + stats.n_cached);
  assert_true(aii_kv_pool_check(s->pool));
  free(refs);
}

static void carry_out_moves(sim *s)
{
  uint32_t n;
  const aii_kv_move *moves = aii_kv_moves(s->pool, &n);
  for (uint32_t i = 0; i < n; i++) {
    aiinfra_token *block = s->memory + moves[i].block * s->block_tokens,
                  *slot = s->slots + moves[i].slot * s->block_tokens;
    memcpy(moves[i].fetch ? block : slot, moves[i].fetch ? slot : block, s->block_tokens * sizeof *block);
  }
  aii_kv_moves_done(s->pool);
}

/* Appends n tokens to a sequence: extend, move, copy, write. False when blocks ran out. */
static bool append(sim *s, sim_seq *q, const aiinfra_token *tokens, uint32_t n)
{
  uint32_t from, to, before = aii_kv_available(s->pool);
  aiinfra_status rc = aii_kv_extend(s->pool, &q->kv, n, &from, &to);
  if (rc == AIINFRA_ENOSPC) {
    assert_int_equal(aii_kv_available(s->pool), before);
    return false;
  }
  assert_int_equal(rc, AIINFRA_OK);
  carry_out_moves(s);
  if (from != AII_NO_BLOCK) {
    memcpy(s->memory + to * s->block_tokens, s->memory + from * s->block_tokens, s->block_tokens * sizeof *s->memory);
  }
  for (uint32_t i = 0; i < n; i++, q->n++) {
    q->tokens[q->n] = tokens[i];
    s->memory[q->kv.table[q->n / s->block_tokens] * s->block_tokens + q->n % s->block_tokens] = tokens[i];
  }
  return true;
}

static void start(sim *s, sim_seq *q)
{
  aiinfra_token prompt[MAX_TOKENS];
  uint32_t n = 1 + below(s, MAX_TOKENS / 2), family = below(s, 3);
  for (uint32_t i = 0; i < n; i++) prompt[i] = (aiinfra_token)(family * 1000 + i / 5 + (below(s, 30) == 0));
  memset(q, 0, sizeof *q);
  assert_int_equal(aii_kv_seq_init(&s->mem, &q->kv, s->pool, MAX_TOKENS, below(s, 2), NULL), AIINFRA_OK);
  uint32_t found = aii_kv_match(s->pool, &q->kv, prompt, n);
  assert_true(found < n && found % s->block_tokens == 0);
  memcpy(q->tokens, prompt, found * sizeof prompt[0]);
  q->n = found;
  q->live = true;
  carry_out_moves(s);
  (void)append(s, q, prompt + found, n - found);
}

static void fork(sim *s, const sim_seq *from, sim_seq *to)
{
  memset(to, 0, sizeof *to);
  assert_int_equal(aii_kv_seq_init(&s->mem, &to->kv, s->pool, MAX_TOKENS, from->kv.salt, NULL), AIINFRA_OK);
  assert_int_equal(aii_kv_fork(s->pool, &from->kv, &to->kv), AIINFRA_OK);
  memcpy(to->tokens, from->tokens, sizeof to->tokens);
  to->n = from->n;
  to->live = true;
}

static void one_step(sim *s)
{
  sim_seq *q = &s->seqs[below(s, MAX_SEQS)], *other = &s->seqs[below(s, MAX_SEQS)];
  uint32_t what = below(s, 10);
  if (!q->live) {
    start(s, q);
  } else if (what < 5) {
    aiinfra_token next[4];
    uint32_t n = AII_MIN(1 + below(s, 4), MAX_TOKENS - q->n);
    for (uint32_t i = 0; i < n; i++) next[i] = (aiinfra_token)below(s, 3);
    if (n == 0 || !append(s, q, next, n)) {
      aii_kv_release(s->pool, &q->kv);
      q->n = 0;
    }
  } else if (what < 7) {
    aii_kv_publish(s->pool, &q->kv, q->tokens, below(s, q->n + 1), false);
  } else if (what == 7 && !other->live) {
    fork(s, q, other);
  } else if (what == 8) {
    aii_kv_seq_destroy(&s->mem, &q->kv, s->pool);
    q->live = false;
  }
}

static aiinfra_kv_stats random_life(uint32_t n_blocks, uint32_t n_slots, uint32_t block_tokens, unsigned long long seed,
                                    uint32_t steps)
{
  aiinfra_kv_stats stats;
  sim *s = calloc(1, sizeof *s);
  aii_mem_init(&s->mem, NULL, 0);
  s->n_blocks = n_blocks;
  s->block_tokens = block_tokens;
  s->random = seed;
  s->memory = calloc(n_blocks, block_tokens * sizeof *s->memory);
  s->slots = calloc(n_slots + 1, block_tokens * sizeof *s->slots);
  assert_int_equal(aii_kv_pool_create(&s->mem, n_blocks, n_slots, block_tokens, true, &s->pool, NULL), AIINFRA_OK);
  for (uint32_t i = 0; i < steps; i++) {
    one_step(s);
    verify(s);
  }
  for (uint32_t i = 0; i < MAX_SEQS; i++) {
    if (s->seqs[i].live) aii_kv_seq_destroy(&s->mem, &s->seqs[i].kv, s->pool);
  }
  assert_int_equal(aii_kv_available(s->pool), n_blocks);
  assert_true(aii_kv_pool_check(s->pool));
  aii_kv_pool_stats(s->pool, &stats);
  aii_kv_pool_free(s->pool);
  assert_int_equal(s->mem.used_bytes, 0);
  free(s->memory);
  free(s->slots);
  free(s);
  return stats;
}

static void test_random_lives(void **state)
{
  (void)state;
  unsigned long long seed = test_seed();
  for (unsigned long long i = 0; i < 60; i++) {
    uint32_t block_tokens = 1u << (i % 4), n_blocks = 3 + (uint32_t)(i * 7 % 60);
    print_message("seed %llu: %u blocks of %u tokens\n", seed + i, n_blocks, block_tokens);
    (void)random_life(n_blocks, 0, block_tokens, seed + i, 1500);
  }
}

/* The same with a second tier: what comes back from it is what went there. */
static void test_random_lives_with_slots(void **state)
{
  (void)state;
  unsigned long long seed = test_seed();
  uint64_t fetches = 0, most = 0;
  for (unsigned long long i = 0; i < 60; i++) {
    uint32_t block_tokens = 1u << (i % 4), n_blocks = 3 + (uint32_t)(i * 7 % 40), n_slots = 1 + (uint32_t)(i * 5 % 60);
    print_message("seed %llu: %u blocks and %u slots of %u tokens\n", seed + i, n_blocks, n_slots, block_tokens);
    aiinfra_kv_stats stats = random_life(n_blocks, n_slots, block_tokens, seed + i, 1500);
    assert_true(stats.fetches <= stats.spills && stats.spills <= stats.evictions && stats.n_spilled <= n_slots);
    fetches += stats.fetches;
    most = AII_MAX(most, stats.fetches);
  }
  print_message("%llu blocks came back, up to %llu in a life\n", (unsigned long long)fetches, (unsigned long long)most);
  assert_true(fetches > 1000);
}

/* ---- single properties --------------------------------------------------------------------------------------- */

typedef struct pair {
  aii_mem mem;
  aii_kv_pool *pool;
  aii_kv_seq a, b;
  aiinfra_token tokens[64];
} pair;

static void pair_open_slots(pair *p, uint32_t n_blocks, uint32_t n_slots, uint64_t salt_a, uint64_t salt_b)
{
  aii_mem_init(&p->mem, NULL, 0);
  assert_int_equal(aii_kv_pool_create(&p->mem, n_blocks, n_slots, 4, true, &p->pool, NULL), AIINFRA_OK);
  assert_int_equal(aii_kv_seq_init(&p->mem, &p->a, p->pool, 64, salt_a, NULL), AIINFRA_OK);
  assert_int_equal(aii_kv_seq_init(&p->mem, &p->b, p->pool, 64, salt_b, NULL), AIINFRA_OK);
  for (int i = 0; i < 64; i++) p->tokens[i] = i;
}

static void pair_open(pair *p, uint32_t n_blocks, uint64_t salt_a, uint64_t salt_b)
{
  pair_open_slots(p, n_blocks, 0, salt_a, salt_b);
}

static void pair_close(pair *p)
{
  assert_true(aii_kv_pool_check(p->pool));
  aii_kv_seq_destroy(&p->mem, &p->a, p->pool);
  aii_kv_seq_destroy(&p->mem, &p->b, p->pool);
  aii_kv_pool_free(p->pool);
  assert_int_equal(p->mem.used_bytes, 0);
}

static aiinfra_status extend(pair *p, aii_kv_seq *seq, uint32_t n)
{
  uint32_t from, to;
  return aii_kv_extend(p->pool, seq, n, &from, &to);
}

static void test_prefix_is_shared(void **state)
{
  (void)state;
  pair p;
  pair_open(&p, 16, 7, 7);
  assert_int_equal(aii_kv_match(p.pool, &p.a, p.tokens, 12), 0);
  assert_int_equal(extend(&p, &p.a, 12), AIINFRA_OK);
  aii_kv_publish(p.pool, &p.a, p.tokens, 12, false);
  /* whole blocks, and one token is left to compute */
  assert_int_equal(aii_kv_match(p.pool, &p.b, p.tokens, 12), 8);
  assert_int_equal(p.b.table[1], p.a.table[1]);
  aii_kv_release(p.pool, &p.b);
  assert_int_equal(aii_kv_match(p.pool, &p.b, p.tokens, 13), 12);
  aiinfra_kv_stats stats;
  aii_kv_pool_stats(p.pool, &stats);
  assert_int_equal(stats.prefix_queries, 12 + 12 + 13);
  assert_int_equal(stats.prefix_hits, 20);
  pair_close(&p);
}

static void test_salt_separates(void **state)
{
  (void)state;
  pair p;
  pair_open(&p, 16, 1, 2);
  assert_int_equal(extend(&p, &p.a, 12), AIINFRA_OK);
  aii_kv_publish(p.pool, &p.a, p.tokens, 12, false);
  assert_int_equal(aii_kv_match(p.pool, &p.b, p.tokens, 12), 0);
  assert_int_equal(aii_kv_fork(p.pool, &p.a, &p.b), AIINFRA_EINVAL);
  pair_close(&p);
}

static void test_same_text_twice_is_kept_once(void **state)
{
  (void)state;
  pair p;
  pair_open(&p, 16, 0, 0);
  assert_int_equal(extend(&p, &p.a, 12), AIINFRA_OK);
  assert_int_equal(extend(&p, &p.b, 12), AIINFRA_OK);
  assert_int_equal(aii_kv_available(p.pool), 10);
  aii_kv_publish(p.pool, &p.a, p.tokens, 12, false);
  aii_kv_publish(p.pool, &p.b, p.tokens, 12, false);
  assert_int_equal(aii_kv_available(p.pool), 13);
  assert_memory_equal(p.a.table, p.b.table, 3 * sizeof p.a.table[0]);
  pair_close(&p);
}

static void test_eviction_is_oldest_first_and_leaves_first(void **state)
{
  (void)state;
  pair p;
  pair_open(&p, 6, 0, 0);
  aiinfra_token other[64];
  for (int i = 0; i < 64; i++) other[i] = 500 + i;
  assert_int_equal(extend(&p, &p.a, 12), AIINFRA_OK);
  aii_kv_publish(p.pool, &p.a, p.tokens, 12, false);
  aii_kv_release(p.pool, &p.a);
  assert_int_equal(extend(&p, &p.b, 12), AIINFRA_OK);
  aii_kv_publish(p.pool, &p.b, other, 12, false);
  aii_kv_release(p.pool, &p.b);
  assert_int_equal(extend(&p, &p.a, 4), AIINFRA_OK); /* evicts the last block of the older text */
  assert_int_equal(aii_kv_match(p.pool, &p.b, p.tokens, 64), 8);
  aii_kv_release(p.pool, &p.b);
  assert_int_equal(aii_kv_match(p.pool, &p.b, other, 64), 12);
  pair_close(&p);
}

static void fill_and_release(pair *p, aii_kv_seq *seq, const aiinfra_token *tokens, uint32_t n)
{
  assert_int_equal(extend(p, seq, n), AIINFRA_OK);
  aii_kv_publish(p->pool, seq, tokens, n, false);
  aii_kv_release(p->pool, seq);
}

/* A text that was evicted whole comes back whole; the moves say from where to where, in an order that can be followed. */
static void test_second_tier(void **state)
{
  (void)state;
  pair p;
  uint32_t n;
  aiinfra_token other[64];
  pair_open_slots(&p, 3, 4, 0, 0);
  for (int i = 0; i < 64; i++) other[i] = 500 + i;
  fill_and_release(&p, &p.a, p.tokens, 12);
  assert_int_equal(extend(&p, &p.b, 12), AIINFRA_OK); /* takes all blocks */
  const aii_kv_move *moves = aii_kv_moves(p.pool, &n);
  assert_int_equal(n, 3);
  for (uint32_t i = 0; i < n; i++) assert_false(moves[i].fetch);
  aii_kv_moves_done(p.pool);
  assert_int_equal(aii_kv_match(p.pool, &p.a, p.tokens, 64), 0); /* it is there, but no block is to be had */
  aii_kv_publish(p.pool, &p.b, other, 12, false);
  aii_kv_release(p.pool, &p.b);
  assert_int_equal(aii_kv_match(p.pool, &p.a, p.tokens, 64), 12);
  moves = aii_kv_moves(p.pool, &n);
  assert_int_equal(n,
                   6); /* each block is emptied, then filled; one slot is free: each is filled before it is emptied */
  for (uint32_t i = 0; i < n; i += 2) {
    assert_true(!moves[i].fetch && moves[i + 1].fetch);
    assert_int_equal(moves[i].block, moves[i + 1].block);
  }
  aii_kv_moves_done(p.pool);
  aii_kv_release(p.pool, &p.a);
  aii_kv_forget(p.pool);
  assert_int_equal(aii_kv_match(p.pool, &p.a, p.tokens, 64), 0);
  assert_int_equal(aii_kv_match(p.pool, &p.b, other, 64), 0);
  fill_and_release(&p, &p.a, p.tokens, 12);
  assert_int_equal(aii_kv_match(p.pool, &p.b, p.tokens, 64), 12);
  pair_close(&p);
}

/* A block that was computed although its equal was in a slot takes over from it. */
static void test_computed_again(void **state)
{
  (void)state;
  pair p;
  aiinfra_kv_stats stats;
  pair_open_slots(&p, 4, 4, 0, 0);
  fill_and_release(&p, &p.a, p.tokens, 12);
  assert_int_equal(extend(&p, &p.b, 16), AIINFRA_OK);
  aii_kv_publish(p.pool, &p.b, p.tokens, 16, false);
  aii_kv_pool_stats(p.pool, &stats);
  assert_int_equal(stats.n_spilled, 0);
  assert_int_equal(stats.fetches, 0);
  aii_kv_release(p.pool, &p.b);
  assert_int_equal(aii_kv_match(p.pool, &p.a, p.tokens, 64), 16);
  pair_close(&p);
}

/* The list of moves is bounded: beyond it a block is evicted for good. */
static void test_many_moves(void **state)
{
  (void)state;
  pair p;
  uint32_t n;
  pair_open_slots(&p, 2, 40, 0, 0);
  for (aiinfra_token first = 0; first < 20; first++) {
    aiinfra_token text[8];
    for (int i = 0; i < 8; i++) text[i] = 100 * first + i;
    fill_and_release(&p, &p.a, text, 8);
    assert_true(aii_kv_pool_check(p.pool));
  }
  (void)aii_kv_moves(p.pool, &n);
  assert_int_equal(n, 4);
  assert_int_equal(aii_kv_match(p.pool, &p.a, p.tokens, 64), 0); /* its slots are there, the list is full */
  aii_kv_moves_done(p.pool);
  assert_int_equal(aii_kv_match(p.pool, &p.a, p.tokens, 64), 8);
  pair_close(&p);
}

static void test_copy_on_write(void **state)
{
  (void)state;
  pair p;
  uint32_t from, to;
  pair_open(&p, 4, 0, 0);
  assert_int_equal(extend(&p, &p.a, 6), AIINFRA_OK);
  assert_int_equal(aii_kv_fork(p.pool, &p.a, &p.b), AIINFRA_OK);
  assert_int_equal(aii_kv_available(p.pool), 2);
  assert_int_equal(aii_kv_extend(p.pool, &p.b, 1, &from, &to), AIINFRA_OK);
  assert_int_equal(from, p.a.table[1]);
  assert_int_equal(to, p.b.table[1]);
  assert_int_not_equal(from, to);
  assert_int_equal(p.a.table[0], p.b.table[0]);
  assert_int_equal(aii_kv_extend(p.pool, &p.a, 1, &from, &to), AIINFRA_OK); /* the last owner writes in place */
  assert_int_equal(from, AII_NO_BLOCK);
  pair_close(&p);
}

static void test_running_out_changes_nothing(void **state)
{
  (void)state;
  pair p;
  pair_open(&p, 3, 0, 0);
  assert_int_equal(extend(&p, &p.a, 6), AIINFRA_OK);
  assert_int_equal(aii_kv_fork(p.pool, &p.a, &p.b), AIINFRA_OK);
  assert_int_equal(extend(&p, &p.b, 3), AIINFRA_ENOSPC); /* a copy and one more */
  assert_int_equal(p.b.n_tokens, 6);
  assert_int_equal(aii_kv_available(p.pool), 1);
  assert_int_equal(extend(&p, &p.b, 2), AIINFRA_OK);
  assert_int_equal(extend(&p, &p.b, 60), AIINFRA_EINVAL); /* longer than its table */
  pair_close(&p);
}

static void test_without_prefix_cache(void **state)
{
  (void)state;
  aii_mem mem;
  aii_kv_pool *pool;
  aii_kv_seq seq;
  aiinfra_token tokens[16] = {0};
  uint32_t from, to;
  aii_mem_init(&mem, NULL, 0);
  assert_int_equal(aii_kv_pool_create(&mem, 4, 4, 4, false, &pool, NULL), AIINFRA_OK);
  assert_int_equal(aii_kv_seq_init(&mem, &seq, pool, 16, 0, NULL), AIINFRA_OK);
  assert_int_equal(aii_kv_extend(pool, &seq, 16, &from, &to), AIINFRA_OK);
  aii_kv_publish(pool, &seq, tokens, 16, false);
  aii_kv_release(pool, &seq);
  assert_int_equal(aii_kv_match(pool, &seq, tokens, 16), 0);
  assert_true(aii_kv_pool_check(pool));
  aii_kv_seq_destroy(&mem, &seq, pool);
  aii_kv_pool_free(pool);
  assert_int_equal(mem.used_bytes, 0);
}

static void test_bad_arguments(void **state)
{
  (void)state;
  aii_mem mem;
  aii_kv_pool *pool;
  aii_mem_init(&mem, NULL, 0);
  assert_int_equal(aii_kv_pool_create(&mem, 0, 0, 16, true, &pool, NULL), AIINFRA_EINVAL);
  assert_int_equal(aii_kv_pool_create(&mem, 8, 0, 12, true, &pool, NULL), AIINFRA_EINVAL);
  assert_int_equal(aii_kv_pool_create(&mem, 8, 0, 512, true, &pool, NULL), AIINFRA_EINVAL);
  assert_int_equal(aii_kv_pool_create(&mem, 8, UINT32_MAX - 8, 16, true, &pool, NULL), AIINFRA_EINVAL);
  assert_null(pool);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_random_lives),
      cmocka_unit_test(test_random_lives_with_slots),
      cmocka_unit_test(test_second_tier),
      cmocka_unit_test(test_computed_again),
      cmocka_unit_test(test_many_moves),
      cmocka_unit_test(test_prefix_is_shared),
      cmocka_unit_test(test_salt_separates),
      cmocka_unit_test(test_same_text_twice_is_kept_once),
      cmocka_unit_test(test_eviction_is_oldest_first_and_leaves_first),
      cmocka_unit_test(test_copy_on_write),
      cmocka_unit_test(test_running_out_changes_nothing),
      cmocka_unit_test(test_without_prefix_cache),
      cmocka_unit_test(test_bad_arguments),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
