/* test_sched.c - thousands of seeded days in the life of the scheduler, on a device made of hashes.
 *
 * The device keeps one 64-bit cell for each position of the cache. Computing a row reads the cell of the position
 * before it through the block table and writes hash(cell, token) to its own; the sampled token is made from that
 * cell. So the output is right only if every block of the sequence holds what it should: a wrong prefix match, a
 * missing copy, a block given away too early all change the text, which is compared with what the sequence gives
 * alone. Arrivals, cancels, deadlines, failing steps, tiny caches, plans ahead and how far the device is when the host
 * comes to look come from the seed; the clock is virtual.
 *
 * AIINFRA_SIM_SEEDS sets the number of days, AIINFRA_SEED the first seed. A failing seed is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "src/sched/sched.h"

enum { MAX_REQUESTS = 48, MAX_TOTAL = 160, MAX_RUNNING = 8, VOCAB = 97, STOP_EVERY = 61, DEFAULT_SEEDS = 3000 };

typedef struct request {
  aii_seq seq;
  aiinfra_token tokens[MAX_TOTAL];
  aiinfra_token alone[MAX_TOTAL]; /* what it gives alone */
  uint32_t n_alone;
  aii_seq_end alone_end;
  uint64_t arrives_ns, cancel_ns;
  bool submitted, refused, canceled, failed;
  int finished;
} request;

/* A plan that is out. */
typedef struct flight {
  const aii_plan *plan;
  aii_plan_result results[MAX_RUNNING];
  bool dropped, run;
} flight;

typedef struct day {
  uint64_t seed, now_ns, steps, steps_allowed;
  aii_rng rng;
  aii_mem mem;
  aii_sched_config config;
  aii_kv_pool *pool;
  aii_sched *sched;
  uint32_t n_blocks, n_slots, block_tokens;
  uint64_t *cells, *slots;
  request *requests;
  uint32_t n_requests, n_in_flight;
  uint32_t fail_percent;
  flight flights[2];
  uint32_t n_flights;
  aii_plan_result before[MAX_RUNNING]; /* of the plan that was run last */
} day;

/* What all days together have seen: a simulation that never preempts proves little. */
static struct {
  uint64_t steps, preemptions, hits, stops, lengths, cancels, timeouts, errors, refused, busy, embeds, fetches, lost;
  uint64_t ahead, dropped, skipped;
} seen;

#define CHECK(day, condition)                                                                                      \
  do {                                                                                                             \
    if (!(condition)) {                                                                                            \
      print_error("seed %llu, step %llu: %s\n", (unsigned long long)(day)->seed, (unsigned long long)(day)->steps, \
                  #condition);                                                                                     \
      fail();                                                                                                      \
    }                                                                                                              \
  } while (0)

static uint32_t pick(day *d, uint32_t low, uint32_t high)
{
  return low + (uint32_t)aii_rng_below(&d->rng, high - low + 1);
}

/* ---- the device ------------------------------------------------------------------------------------------------ */

static uint64_t chain(uint64_t before, aiinfra_token token)
{
  return aii_hash64(&token, sizeof token, before);
}

static aiinfra_token sampled(uint64_t cell)
{
  return (aiinfra_token)(cell % VOCAB);
}

static bool stops(uint64_t cell)
{
  return cell / VOCAB % STOP_EVERY == 0;
}

static uint64_t *cell_at(day *d, const aii_seq *seq, uint32_t pos)
{
  uint32_t index = pos / d->block_tokens;
  CHECK(d, index < seq->kv.n_blocks);
  uint32_t block = seq->kv.table[index];
  CHECK(d, block < d->n_blocks);
  return &d->cells[(size_t)block * d->block_tokens + pos % d->block_tokens];
}

/* token: of the only row, in a plan ahead; else NULL. */
static void run_part(day *d, const aii_plan_part *part, const aiinfra_token *token, aii_plan_result *result, bool fails)
{
  const aii_seq *seq = part->seq;
  uint64_t cell = part->first == 0 ? seq->salt : *cell_at(d, seq, part->first - 1);
  for (uint32_t i = 0; i < part->n_rows; i++) {
    cell = chain(cell, token != NULL ? *token : seq->tokens[part->first + i]);
    if (fails) cell ^= 0xBAD;
    *cell_at(d, seq, part->first + i) = cell;
  }
  *result = (aii_plan_result){.token = sampled(cell), .stop = part->sample && stops(cell), .failed = fails};
}

static void run_moves(day *d, const aii_plan *plan, uint32_t n)
{
  for (uint32_t i = 0; i < n; i++) {
    const aii_kv_move *move = &plan->moves[i];
    CHECK(d, move->block < d->n_blocks && move->slot < d->n_slots);
    uint64_t *block = &d->cells[(size_t)move->block * d->block_tokens];
    uint64_t *slot = &d->slots[(size_t)move->slot * d->block_tokens];
    memcpy(move->fetch ? block : slot, move->fetch ? slot : block, d->block_tokens * sizeof *block);
  }
}

/* A failure may come before the last move: then nobody knows what is where. */
static void lose_all(day *d)
{
  for (uint32_t i = 0; i < d->n_requests; i++)
    if (d->requests[i].seq.state == AII_SEQ_RUNNING) d->requests[i].failed = true;
  aii_sched_lost(d->sched);
  seen.lost++;
}

/* Whether a part of a plan ahead is not computed: its sequence has ended with the plan before, or nobody wants the plan. */
static bool skips(const day *d, const flight *f, const aii_plan_part *part)
{
  if (!f->plan->ahead) return false;
  const aii_plan_result *before = &d->before[part->behind];
  return f->dropped || before->stop || before->failed || before->skipped;
}

static void run_flight(day *d, flight *f)
{
  const aii_plan *plan = f->plan;
  bool fails = pick(d, 0, 99) < d->fail_percent, any = false;
  run_moves(d, plan, fails ? pick(d, 0, plan->n_moves) : plan->n_moves);
  if (fails && plan->n_moves > 0) lose_all(d);
  for (uint32_t i = 0; i < plan->n_copies; i++) {
    uint64_t *from = &d->cells[(size_t)plan->copies[i].from * d->block_tokens];
    memcpy(&d->cells[(size_t)plan->copies[i].to * d->block_tokens], from, d->block_tokens * sizeof *from);
  }
  for (uint32_t i = 0; i < plan->n_parts; i++) {
    const aii_plan_part *part = &plan->parts[i];
    f->results[i] = (aii_plan_result){.skipped = skips(d, f, part)};
    seen.skipped += f->results[i].skipped;
    if (f->results[i].skipped) continue;
    run_part(d, part, plan->ahead ? &d->before[part->behind].token : NULL, &f->results[i], fails);
    if (fails) AII_CONTAINER(part->seq, request, seq)->failed = true;
    any = true;
  }
  memcpy(d->before, f->results, sizeof d->before);
  f->run = true;
  d->steps += any;
  d->now_ns += 1000000 + plan->n_rows * 50000u;
  CHECK(d, d->steps_allowed == 0 || d->steps <= d->steps_allowed);
}

/* ---- what a request is and gives alone -------------------------------------------------------------------------- */

static void run_alone(request *r)
{
  uint64_t cell = r->seq.salt;
  memcpy(r->alone, r->tokens, r->seq.n_prompt * sizeof *r->tokens);
  r->n_alone = r->seq.n_prompt;
  r->alone_end = AII_END_STOP;
  for (uint32_t i = 0; i < r->seq.n_prompt; i++) cell = chain(cell, r->tokens[i]);
  while (!r->seq.embed) {
    r->alone[r->n_alone++] = sampled(cell);
    if (stops(cell)) return;
    if (r->n_alone == r->seq.max_total) break;
    cell = chain(cell, sampled(cell));
  }
  if (!r->seq.embed) r->alone_end = AII_END_LENGTH;
}

/* Prompts begin like one of four families, so that prefixes are shared. */
static void make_request(day *d, request *r)
{
  memset(r, 0, sizeof *r);
  aii_seq *seq = &r->seq;
  uint32_t fits = AII_MIN(d->n_blocks * d->block_tokens, (uint32_t)MAX_TOTAL);
  uint32_t family = pick(d, 0, 3), same = pick(d, 0, fits);
  seq->embed = pick(d, 0, 9) == 0;
  seq->n_prompt = pick(d, 1, AII_MAX(1, fits - 1));
  seq->max_total = seq->embed ? seq->n_prompt : pick(d, seq->n_prompt + 1, AII_MAX(fits, seq->n_prompt + 1));
  if (pick(d, 0, 19) == 0) seq->max_total = d->n_blocks * d->block_tokens + pick(d, 0, 9);
  seq->max_total = AII_MAX(AII_MIN(seq->max_total, (uint32_t)MAX_TOTAL), seq->n_prompt + !seq->embed);
  seq->no_cache = seq->embed || pick(d, 0, 9) == 0;
  seq->awaited = pick(d, 0, 9) == 0;
  seq->priority = (int32_t)pick(d, 0, 2) - 1;
  seq->salt = pick(d, 0, 4) == 0 ? 7 : 0;
  for (uint32_t i = 0; i < seq->n_prompt; i++)
    r->tokens[i] = (aiinfra_token)(i < same ? (family * 31 + i) % VOCAB : pick(d, 0, VOCAB - 1));
  seq->tokens = r->tokens;
  r->arrives_ns = (uint64_t)pick(d, 0, 400) * 1000000;
  if (pick(d, 0, 4) == 0) r->cancel_ns = r->arrives_ns + (uint64_t)pick(d, 0, 150) * 1000000;
  if (pick(d, 0, 4) == 0) seq->deadline_ns = r->arrives_ns + (uint64_t)pick(d, 1, 150) * 1000000;
  run_alone(r);
}

static void make_day(day *d, uint64_t seed)
{
  static const uint32_t block_sizes[] = {1, 2, 4, 8, 16};
  memset(d, 0, sizeof *d);
  d->seed = seed;
  aii_rng_seed(&d->rng, seed);
  aii_mem_init(&d->mem, NULL, 0);
  d->block_tokens = block_sizes[pick(d, 0, AII_COUNT(block_sizes) - 1)];
  d->n_blocks = pick(d, 2, pick(d, 0, 1) ? 12 : 80);
  d->n_slots = pick(d, 0, 1) ? pick(d, 1, 40) : 0;
  d->config.max_running = pick(d, 1, MAX_RUNNING);
  d->config.max_queue = pick(d, 1, 24);
  d->config.max_step_tokens = pick(d, d->config.max_running, 64);
  d->config.chunk_tokens = pick(d, 0, d->config.max_step_tokens);
  d->fail_percent = pick(d, 0, 3) == 0 ? 2 : 0;
  d->n_requests = pick(d, 1, MAX_REQUESTS);
  d->cells = test_calloc((size_t)d->n_blocks * d->block_tokens, sizeof *d->cells);
  d->slots = test_calloc((size_t)(d->n_slots + 1) * d->block_tokens, sizeof *d->slots);
  d->requests = test_calloc(d->n_requests, sizeof *d->requests);
  for (uint32_t i = 0; i < d->n_requests; i++) make_request(d, &d->requests[i]);
  bool prefix_cache = pick(d, 0, 4) != 0;
  aiinfra_error err;
  assert_int_equal(aii_kv_pool_create(&d->mem, d->n_blocks, d->n_slots, d->block_tokens, prefix_cache, &d->pool, &err),
                   0);
  assert_int_equal(aii_sched_create(&d->mem, &d->config, d->pool, &d->sched, &err), 0);
}

/* ---- a day ------------------------------------------------------------------------------------------------------ */

static void arrive(day *d, request *r)
{
  aiinfra_error err;
  uint32_t longest = r->seq.max_total - (r->seq.embed ? 0 : 1);
  bool fits = (longest + d->block_tokens - 1) / d->block_tokens <= d->n_blocks;
  aiinfra_status rc = aii_sched_submit(d->sched, &r->seq, d->now_ns, &err);
  if (!fits) {
    CHECK(d, rc == AIINFRA_EINVAL);
  } else if (d->n_in_flight == d->config.max_queue + d->config.max_running) {
    CHECK(d, rc == AIINFRA_EBUSY);
    seen.busy++;
  } else {
    CHECK(d, rc == AIINFRA_OK);
  }
  r->submitted = rc == AIINFRA_OK;
  r->refused = !r->submitted;
  seen.refused += r->refused;
  d->n_in_flight += r->submitted;
}

static void check_finished(day *d, request *r)
{
  const aii_seq *seq = &r->seq;
  CHECK(d, seq->state == AII_SEQ_FINISHED && r->finished == 1 && seq->kv.n_blocks == 0);
  CHECK(d, seq->n_tokens <= r->n_alone);
  CHECK(d, memcmp(r->tokens, r->alone, seq->n_tokens * sizeof *r->tokens) == 0);
  seen.hits += seq->n_cached;
  switch (seq->end) {
    case AII_END_STOP:
    case AII_END_LENGTH:
      CHECK(d, seq->n_tokens == r->n_alone && seq->end == r->alone_end);
      seen.stops += seq->end == AII_END_STOP;
      seen.lengths += seq->end == AII_END_LENGTH;
      seen.embeds += seq->embed;
      break;
    case AII_END_CANCELED:
      CHECK(d, r->canceled);
      seen.cancels++;
      break;
    case AII_END_TIMEOUT:
      CHECK(d, seq->deadline_ns != 0 && seq->deadline_ns <= d->now_ns);
      seen.timeouts++;
      break;
    case AII_END_ERROR:
      CHECK(d, r->failed);
      seen.errors++;
      break;
    default: CHECK(d, !"ended without a reason");
  }
}

static void collect(day *d)
{
  for (aii_seq *seq; (seq = aii_sched_finished(d->sched)) != NULL;) {
    request *r = AII_CONTAINER(seq, request, seq);
    r->finished++;
    d->n_in_flight--;
    check_finished(d, r);
  }
}

static void happen(day *d)
{
  for (uint32_t i = 0; i < d->n_requests; i++) {
    request *r = &d->requests[i];
    if (!r->submitted && !r->refused && r->arrives_ns <= d->now_ns) arrive(d, r);
    if (!r->submitted || r->canceled || r->finished || r->cancel_ns == 0 || r->cancel_ns > d->now_ns) continue;
    r->canceled = true;
    aii_sched_cancel(d->sched, &r->seq);
    collect(d); /* a place in the queue is free at once */
  }
  uint64_t next_ns = aii_sched_expire(d->sched, d->now_ns);
  CHECK(d, next_ns == 0 || next_ns > d->now_ns);
}

static bool in_plan(const aii_plan *plan, const aii_seq *seq)
{
  for (uint32_t i = 0; i < plan->n_parts; i++)
    if (plan->parts[i].seq == seq) return true;
  return false;
}

static void check_plan(day *d, const aii_plan *plan)
{
  uint32_t rows = 0;
  const aii_seq *first = NULL;
  for (uint32_t i = 0; i < plan->n_parts; i++) {
    const aii_plan_part *part = &plan->parts[i];
    rows += part->n_rows;
    CHECK(d, part->n_rows > 0 && part->first + part->n_rows <= part->seq->n_tokens);
    CHECK(d, part->first == part->seq->n_computed);
    CHECK(d, part->sample == (!part->seq->embed && part->first + part->n_rows == part->seq->n_tokens));
  }
  CHECK(d, rows == plan->n_rows && rows <= d->config.max_step_tokens);
  for (uint32_t i = 0; i < d->n_requests; i++) {
    const aii_seq *seq = &d->requests[i].seq;
    bool runs = seq->state == AII_SEQ_RUNNING;
    if (runs && seq->n_computed > 0 && seq->n_tokens - seq->n_computed == 1) CHECK(d, in_plan(plan, seq));
    if (!runs) continue;
    if (first == NULL || seq->priority > first->priority ||
        (seq->priority == first->priority && seq->order < first->order))
      first = seq;
  }
  CHECK(d, first != NULL && in_plan(plan, first)); /* the most important one always progresses */
}

static bool all_arrived(const day *d)
{
  for (uint32_t i = 0; i < d->n_requests; i++)
    if (!d->requests[i].submitted && !d->requests[i].refused) return false;
  return true;
}

/* Once everybody is there, each step brings the most important sequence a row nearer to its end. */
static void bound_steps(day *d)
{
  if (d->steps_allowed != 0 || !all_arrived(d)) return;
  d->steps_allowed = d->steps + 1;
  for (uint32_t i = 0; i < d->n_requests; i++)
    if (d->requests[i].submitted && !d->requests[i].finished) d->steps_allowed += d->requests[i].seq.max_total;
}

/* A plan ahead is of the same sequences, a row on; where one ends, it has none. */
static void check_ahead(day *d, const aii_plan *plan, const aii_plan *before)
{
  CHECK(d, plan->ahead && plan->n_moves == 0 && plan->n_copies == 0 && plan->n_rows == plan->n_parts);
  for (uint32_t i = 0; i < plan->n_parts; i++) {
    const aii_plan_part *part = &plan->parts[i], *earlier = &before->parts[part->behind];
    CHECK(d, part->seq == earlier->seq && part->first == earlier->first + earlier->n_rows);
    CHECK(d, part->n_rows == 1 && part->sample && earlier->sample && part->seq->n_out == 2);
    CHECK(d, part->first + 1 < part->seq->max_total && !part->seq->awaited);
  }
}

/* A cancel or a deadline ends a sequence with the plans that were out, not later. */
static void check_nobody_lingers(day *d)
{
  for (uint32_t i = 0; i < d->n_requests; i++) {
    const request *r = &d->requests[i];
    CHECK(d, r->finished || r->seq.n_out > 0 || (!r->canceled && r->seq.doomed == AII_END_NONE));
  }
}

static void take_off(day *d, const aii_plan *plan)
{
  d->flights[d->n_flights++] = (flight){.plan = plan};
  CHECK(d, aii_sched_check(d->sched));
}

static void plan_flights(day *d)
{
  const aii_plan *plan, *second;
  if (d->n_flights == 0 && aii_sched_step(d->sched, d->now_ns, &plan)) {
    check_plan(d, plan);
    take_off(d, plan);
  }
  if (d->n_flights > 0) CHECK(d, !aii_sched_step(d->sched, d->now_ns, &second));
  if (d->n_flights == 1 && pick(d, 0, 3) > 0 && aii_sched_ahead(d->sched, &plan)) {
    check_ahead(d, plan, d->flights[0].plan);
    take_off(d, plan);
    seen.ahead++;
  }
  if (d->n_flights == 2) CHECK(d, !aii_sched_ahead(d->sched, &second));
}

/* The host may come too late to drop it. */
static void rethink(day *d)
{
  if (!aii_sched_rethink(d->sched) || d->flights[1].run || pick(d, 0, 1) == 0) return;
  d->flights[1].dropped = true;
  seen.dropped++;
}

/* The device is behind the host, or ahead of it. */
static void run_flights(day *d)
{
  if (!d->flights[0].run) run_flight(d, &d->flights[0]);
  happen(d); /* cancels and deadlines while the worker is busy */
  rethink(d);
  if (d->n_flights == 2 && pick(d, 0, 1) == 0) run_flight(d, &d->flights[1]);
  CHECK(d, aii_sched_check(d->sched));
}

static void one_step(day *d)
{
  happen(d);
  collect(d);
  bound_steps(d);
  plan_flights(d);
  if (d->n_flights > 0) {
    run_flights(d);
    aii_sched_complete(d->sched, d->flights[0].results, d->now_ns);
    d->flights[0] = d->flights[1];
    d->n_flights--;
  } else {
    CHECK(d, aii_sched_n_running(d->sched) + aii_sched_n_waiting(d->sched) == 0);
    d->now_ns += 1000000;
  }
  CHECK(d, aii_sched_check(d->sched));
  collect(d);
  check_nobody_lingers(d);
}

static void live(uint64_t seed)
{
  static day d;
  aiinfra_kv_stats stats;
  make_day(&d, seed);
  while (d.n_in_flight > 0 || !all_arrived(&d)) one_step(&d);
  for (uint32_t i = 0; i < d.n_requests; i++) CHECK(&d, d.requests[i].finished == (d.requests[i].submitted ? 1 : 0));
  CHECK(&d, aii_kv_available(d.pool) == d.n_blocks);
  seen.steps += d.steps;
  seen.preemptions += aii_sched_preemptions(d.sched);
  aii_kv_pool_stats(d.pool, &stats);
  seen.fetches += stats.fetches;
  aii_sched_free(d.sched);
  aii_kv_pool_free(d.pool);
  CHECK(&d, atomic_load(&d.mem.used_bytes) == 0);
  test_free(d.requests);
  test_free(d.cells);
  test_free(d.slots);
}

static uint64_t env_number(const char *name, uint64_t fallback)
{
  const char *value = getenv(name);
  return value != NULL && value[0] != '\0' ? strtoull(value, NULL, 10) : fallback;
}

static void test_seeded_days(void **state)
{
  (void)state;
  uint64_t first = env_number("AIINFRA_SEED", 1), n = env_number("AIINFRA_SIM_SEEDS", DEFAULT_SEEDS);
  for (uint64_t i = 0; i < n; i++) live(first + i);
  print_message(
      "%llu days, %llu steps: %llu stopped, %llu at length, %llu embedded, %llu cancelled, %llu timed out, "
      "%llu failed, %llu refused (%llu busy), %llu preemptions, %llu tokens from the prefix cache, %llu blocks "
      "from the second tier, %llu times all was lost; %llu plans ahead, of which %llu were dropped and %llu rows "
      "skipped\n",
      (unsigned long long)n, (unsigned long long)seen.steps, (unsigned long long)seen.stops,
      (unsigned long long)seen.lengths, (unsigned long long)seen.embeds, (unsigned long long)seen.cancels,
      (unsigned long long)seen.timeouts, (unsigned long long)seen.errors, (unsigned long long)seen.refused,
      (unsigned long long)seen.busy, (unsigned long long)seen.preemptions, (unsigned long long)seen.hits,
      (unsigned long long)seen.fetches, (unsigned long long)seen.lost, (unsigned long long)seen.ahead,
      (unsigned long long)seen.dropped, (unsigned long long)seen.skipped);
  if (n < 500) return;
  assert_true(seen.preemptions > 0 && seen.hits > 0 && seen.stops > 0 && seen.lengths > 0 && seen.cancels > 0);
  assert_true(seen.fetches > 0 && seen.lost > 0 && seen.ahead > 0 && seen.dropped > 0 && seen.skipped > 0);
  assert_true(seen.timeouts > 0 && seen.errors > 0 && seen.busy > 0 && seen.embeds > 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_seeded_days)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
