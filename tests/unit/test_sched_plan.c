/* test_sched_plan.c - single decisions of the scheduler, each in a situation made for it. The simulator does the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/sched/sched.h"

enum { BLOCK = 4, ROOM = 256 };

typedef struct seat {
  aii_seq seq;
  aiinfra_token tokens[ROOM];
} seat;

static aii_mem mem;
static aii_kv_pool *pool;
static aii_sched *sched;
static seat seats[8];

static void open_sched(uint32_t n_blocks, uint32_t running, uint32_t queue, uint32_t step, uint32_t chunk)
{
  aii_sched_config config = {running, queue, step, chunk};
  aiinfra_error err;
  memset(seats, 0, sizeof seats);
  aii_mem_init(&mem, NULL, 0);
  assert_int_equal(aii_kv_pool_create(&mem, n_blocks, 0, BLOCK, true, &pool, &err), AIINFRA_OK);
  assert_int_equal(aii_sched_create(&mem, &config, pool, &sched, &err), AIINFRA_OK);
}

static void close_sched(void)
{
  for (size_t i = 0; i < AII_COUNT(seats); i++) aii_sched_cancel(sched, &seats[i].seq);
  while (aii_sched_finished(sched) != NULL) {}
  aii_sched_free(sched);
  aii_kv_pool_free(pool);
  assert_int_equal(atomic_load(&mem.used_bytes), 0);
}

/* Tokens differ between seats, so that no prefix is shared unless a test wants it. */
static aii_seq *sit(size_t i, uint32_t n_prompt, uint32_t max_total, int32_t priority)
{
  aii_seq *seq = &seats[i].seq;
  seq->tokens = seats[i].tokens;
  for (uint32_t t = 0; t < n_prompt; t++) seq->tokens[t] = (aiinfra_token)(1000 * i + t);
  seq->n_prompt = n_prompt;
  seq->max_total = max_total;
  seq->priority = priority;
  return seq;
}

static aii_seq *submit(size_t i, uint32_t n_prompt, uint32_t max_total, int32_t priority)
{
  aii_seq *seq = sit(i, n_prompt, max_total, priority);
  assert_int_equal(aii_sched_submit(sched, seq, 1, NULL), AIINFRA_OK);
  return seq;
}

static const aii_plan *step(void)
{
  const aii_plan *plan = NULL;
  assert_true(aii_sched_step(sched, 2, &plan));
  assert_true(aii_sched_check(sched));
  return plan;
}

static void complete(void)
{
  aii_plan_result results[8] = {{.token = 5}, {.token = 5}, {.token = 5}, {.token = 5},
                                {.token = 5}, {.token = 5}, {.token = 5}, {.token = 5}};
  aii_sched_complete(sched, results, 3);
  assert_true(aii_sched_check(sched));
}

static uint32_t rows_of(const aii_plan *plan, const aii_seq *seq)
{
  for (uint32_t i = 0; i < plan->n_parts; i++)
    if (plan->parts[i].seq == seq) return plan->parts[i].n_rows;
  return 0;
}

static void test_prefill_in_chunks_beside_decode(void **state)
{
  (void)state;
  open_sched(64, 4, 4, 16, 6);
  aii_seq *a = submit(0, 10, 40, 0);
  assert_int_equal(rows_of(step(), a), 10); /* alone: no need to go in chunks */
  complete();
  aii_seq *b = submit(1, 14, 40, 0);
  const aii_plan *plan = step();
  assert_int_equal(rows_of(plan, a), 1);
  assert_int_equal(rows_of(plan, b), 6);
  assert_false(plan->parts[1].sample);
  complete();
  assert_int_equal(rows_of(step(), b), 6);
  complete();
  plan = step();
  assert_int_equal(rows_of(plan, b), 2);
  assert_true(plan->parts[1].sample);
  complete();
  assert_int_equal(a->n_tokens, 14);
  assert_int_equal(b->n_tokens, 15);
  close_sched();
}

static void test_priority_then_age(void **state)
{
  (void)state;
  open_sched(64, 1, 8, 16, 0);
  aii_seq *low = submit(0, 4, 6, -1), *old = submit(1, 4, 6, 0), *young = submit(2, 4, 6, 0),
          *high = submit(3, 4, 5, 2);
  assert_int_equal(rows_of(step(), high), 4);
  complete();
  assert_ptr_equal(aii_sched_finished(sched), high);
  assert_int_equal(rows_of(step(), old), 4);
  complete();
  assert_int_equal(young->state, AII_SEQ_WAITING);
  assert_int_equal(low->state, AII_SEQ_WAITING);
  close_sched();
}

static void test_important_pushes_out(void **state)
{
  (void)state;
  open_sched(64, 1, 8, 16, 0);
  aii_seq *low = submit(0, 4, 20, 0);
  step();
  complete();
  aii_seq *high = submit(1, 4, 5, 1);
  const aii_plan *plan = step();
  assert_int_equal(rows_of(plan, high), 4);
  assert_int_equal(low->state, AII_SEQ_WAITING);
  assert_int_equal(aii_sched_preemptions(sched), 1);
  complete();
  plan = step();
  assert_true(rows_of(plan, low) > 0);
  assert_true(plan->parts[0].first > 0); /* what it had computed is still cached */
  complete();
  close_sched();
}

static void test_youngest_is_preempted(void **state)
{
  (void)state;
  open_sched(6, 2, 8, 16, 0);
  aii_seq *a = submit(0, 8, 24, 0), *b = submit(1, 7, 24, 0);
  step();
  complete();
  for (int i = 0; i < 40 && aii_sched_preemptions(sched) == 0; i++) {
    step();
    complete();
  }
  assert_int_equal(a->state, AII_SEQ_RUNNING);
  assert_int_equal(b->state, AII_SEQ_WAITING);
  assert_int_equal(b->n_computed, 0);
  assert_true(b->n_tokens > b->n_prompt); /* its tokens are kept */
  close_sched();
}

static void test_prefix_is_shared(void **state)
{
  (void)state;
  open_sched(64, 4, 8, 64, 0);
  aii_seq *a = submit(0, 10, 12, 0);
  step();
  complete();
  aii_seq *b = sit(1, 10, 12, 0);
  memcpy(b->tokens, a->tokens, 10 * sizeof *b->tokens);
  assert_int_equal(aii_sched_submit(sched, b, 1, NULL), AIINFRA_OK);
  const aii_plan *plan = step();
  assert_int_equal(rows_of(plan, b), 2); /* two blocks of four came from the cache */
  assert_int_equal(b->n_cached, 8);
  complete();
  close_sched();
}

static void test_cancel_waits_for_the_plan(void **state)
{
  (void)state;
  open_sched(64, 1, 8, 16, 0);
  aii_seq *runs = submit(0, 4, 20, 0), *waits = submit(1, 4, 20, 0);
  step();
  aii_sched_cancel(sched, runs);
  aii_sched_cancel(sched, waits);
  assert_ptr_equal(aii_sched_finished(sched), waits);
  assert_null(aii_sched_finished(sched));
  complete();
  assert_ptr_equal(aii_sched_finished(sched), runs);
  assert_int_equal(runs->end, AII_END_CANCELED);
  assert_int_equal(runs->n_tokens, 4); /* the token that was on its way is dropped */
  assert_int_equal(aii_kv_available(pool), 64);
  close_sched();
}

static void test_deadlines(void **state)
{
  (void)state;
  open_sched(64, 1, 8, 16, 0);
  aii_seq *a = sit(0, 4, 20, 0), *b = sit(1, 4, 20, 0);
  a->deadline_ns = 100;
  b->deadline_ns = 50;
  assert_int_equal(aii_sched_submit(sched, a, 1, NULL), AIINFRA_OK);
  assert_int_equal(aii_sched_submit(sched, b, 1, NULL), AIINFRA_OK);
  assert_int_equal(aii_sched_expire(sched, 10), 50);
  assert_int_equal(aii_sched_expire(sched, 50), 100);
  assert_ptr_equal(aii_sched_finished(sched), b);
  assert_int_equal(b->end, AII_END_TIMEOUT);
  close_sched();
}

static void test_refusals(void **state)
{
  (void)state;
  aiinfra_error err;
  open_sched(4, 1, 2, 16, 0);
  assert_int_equal(aii_sched_submit(sched, sit(0, 4, 18, 0), 1, &err), AIINFRA_EINVAL); /* 17 positions, 16 exist */
  assert_int_equal(aii_sched_submit(sched, sit(0, 4, 4, 0), 1, &err), AIINFRA_EINVAL);  /* nothing to generate */
  assert_int_equal(aii_sched_submit(sched, sit(0, 0, 4, 0), 1, &err), AIINFRA_EINVAL);
  for (size_t i = 0; i < 3; i++) submit(i, 4, 17, 0);
  assert_int_equal(aii_sched_submit(sched, sit(3, 4, 17, 0), 1, &err), AIINFRA_EBUSY);
  close_sched();
  aii_sched_config bad = {4, 4, 3, 0};
  assert_int_equal(aii_sched_create(&mem, &bad, NULL, &sched, &err), AIINFRA_EINVAL);
  assert_null(sched);
}

static const aii_plan *ahead(void)
{
  const aii_plan *plan = NULL;
  bool made = aii_sched_ahead(sched, &plan);
  assert_true(aii_sched_check(sched));
  assert_int_equal(made, plan != NULL);
  return plan;
}

/* The row behind each that samples; nothing behind the last token that is computed. */
static void test_ahead_follows_all_that_sample(void **state)
{
  (void)state;
  open_sched(64, 4, 4, 16, 6);
  aii_seq *a = submit(0, 10, 40, 0), *b = submit(1, 3, 5, 0);
  (void)step();
  const aii_plan *plan = ahead();
  assert_non_null(plan);
  assert_int_equal(plan->n_parts, 2);
  assert_int_equal(plan->parts[0].first, 10);
  assert_int_equal(plan->parts[1].first, 3);
  assert_null(ahead()); /* two are out */
  assert_false(aii_sched_rethink(sched));
  complete();
  plan = ahead(); /* b's fifth token is its last, and is not computed */
  assert_non_null(plan);
  assert_int_equal(rows_of(plan, a), 1);
  assert_int_equal(rows_of(plan, b), 0);
  complete();
  assert_ptr_equal(aii_sched_finished(sched), b);
  assert_int_equal(b->n_tokens, 5);
  assert_int_equal(a->n_tokens, 12);
  complete();
  close_sched();
}

static void test_nothing_ahead(void **state)
{
  (void)state;
  open_sched(64, 4, 4, 8, 4);
  assert_null(ahead()); /* of nothing */
  aii_seq *a = submit(0, 12, 40, 0);
  (void)step();
  assert_null(ahead()); /* a chunk of a prompt samples nothing */
  complete();
  a->awaited = true;
  (void)step();
  assert_null(ahead()); /* its token must be seen first */
  complete();
  a->awaited = false;
  (void)step();
  (void)submit(1, 3, 40, 0);
  assert_null(ahead()); /* somebody waits */
  complete();
  close_sched();
}

/* Somebody comes: the plan ahead is dropped, nothing is planned behind it, and its row is computed by the next one. */
static void test_ahead_is_dropped(void **state)
{
  (void)state;
  open_sched(64, 4, 4, 16, 6);
  aii_seq *a = submit(0, 10, 40, 0);
  (void)step();
  assert_non_null(ahead());
  aii_seq *b = submit(1, 3, 40, 0);
  assert_true(aii_sched_rethink(sched));
  complete();
  assert_int_equal(a->n_tokens, 11);
  assert_null(ahead());
  aii_plan_result skipped = {.skipped = true};
  aii_sched_complete(sched, &skipped, 3);
  assert_int_equal(a->n_tokens, 11);
  assert_int_equal(a->kv.n_tokens, 11); /* the room is kept */
  const aii_plan *plan = step();
  assert_int_equal(rows_of(plan, a), 1);
  assert_int_equal(rows_of(plan, b), 3);
  assert_int_equal(plan->parts[0].first, 10);
  assert_int_equal(a->kv.n_tokens, 11);
  complete();
  close_sched();
}

/* Its blocks come back when no plan that has a part of it is out. */
static void test_cancelled_with_two_plans_out(void **state)
{
  (void)state;
  open_sched(64, 4, 4, 16, 6);
  aii_seq *a = submit(0, 10, 40, 0);
  (void)step();
  assert_non_null(ahead());
  aii_sched_cancel(sched, a);
  assert_true(aii_sched_rethink(sched));
  complete();
  assert_null(aii_sched_finished(sched));
  assert_true(a->kv.n_blocks > 0);
  complete(); /* it had begun */
  assert_ptr_equal(aii_sched_finished(sched), a);
  assert_int_equal(a->end, AII_END_CANCELED);
  assert_int_equal(a->n_tokens, 10);
  close_sched();
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_prefill_in_chunks_beside_decode),
      cmocka_unit_test(test_priority_then_age),
      cmocka_unit_test(test_important_pushes_out),
      cmocka_unit_test(test_youngest_is_preempted),
      cmocka_unit_test(test_prefix_is_shared),
      cmocka_unit_test(test_cancel_waits_for_the_plan),
      cmocka_unit_test(test_deadlines),
      cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_ahead_follows_all_that_sample),
      cmocka_unit_test(test_nothing_ahead),
      cmocka_unit_test(test_ahead_is_dropped),
      cmocka_unit_test(test_cancelled_with_two_plans_out),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
