/* batcher.c - the life of a batcher and its turns on the loop.
 *
 * A turn collects what ended, puts the next passes on their way, then calls the host back. A turn is posted by whoever
 * changed something: a submission, a cancel, the deadline timer; a finished pass makes one itself. The host may do
 * anything in its callbacks, also free the batcher: it ends at the end of a turn, when nothing of it is in use.
 * Loop thread.
 */
#include "src/engine/engine.h"

/* ---- turns ------------------------------------------------------------------------------------------------------- */

void aii_batcher_queue(aii_gen *gen)
{
  aiinfra_batcher *b = gen->batcher;
  if (gen->queued) return;
  gen->queued = true;
  gen->out_next = NULL;
  if (b->out_tail != NULL) b->out_tail->out_next = gen;
  else b->out_head = gen;
  b->out_tail = gen;
}

static aii_gen *next_out(aiinfra_batcher *b)
{
  aii_gen *gen = b->out_head;
  if (gen == NULL) return NULL;
  b->out_head = gen->out_next;
  if (b->out_head == NULL) b->out_tail = NULL;
  gen->queued = false;
  return gen;
}

static void collect_ended(aiinfra_batcher *b)
{
  for (aii_seq *seq; (seq = aii_sched_finished(b->sched)) != NULL;) {
    aii_gen *gen = AII_CONTAINER(seq, aii_gen, seq);
    gen->phase = AII_GEN_ENDED;
    aii_batcher_queue(gen);
  }
}

/* Frees the batcher, which nobody uses any more. */
static void destroy(aiinfra_batcher *b)
{
  aiinfra_runtime *rt = b->rt;
  aiinfra_close_cb closed = b->closed;
  void *user = b->closed_user;
  aii_timer_free(b->timer);
  aii_sched_free(b->sched);
  aii_passes_destroy(b);
  b->kv->user = NULL;
  aii_kv_unref(b->kv);
  aii_model_unref(b->model);
  aii_del(&rt->mem, b, sizeof *b);
  if (closed != NULL) {
    aii_loop_enter(rt->loop);
    closed(user);
    aii_loop_leave(rt->loop);
  }
  aii_runtime_unref(rt);
}

static bool idle(const aiinfra_batcher *b)
{
  return b->n_users == 0 && b->n_open == 0 && b->groups == NULL && !aii_passes_out(b) && !b->turn_posted && !b->in_turn;
}

void aii_batcher_turn(aiinfra_batcher *b)
{
  b->in_turn = true;
  collect_ended(b);
  aii_groups_pump(b);
  aii_passes_send(b);
  aii_meter_plan(b);
  for (aii_gen *gen; (gen = next_out(b)) != NULL;) aii_gen_deliver(gen);
  aii_groups_deliver(b);
  b->in_turn = false;
  if (b->closing && idle(b)) destroy(b);
}

static void posted_turn(aii_task *task)
{
  aiinfra_batcher *b = AII_CONTAINER(task, aiinfra_batcher, turn);
  b->turn_posted = false;
  aii_loop_drop(b->rt->loop);
  aii_batcher_turn(b);
}

void aii_batcher_wake(aiinfra_batcher *b)
{
  if (b->turn_posted) return;
  b->turn_posted = true;
  aii_loop_hold(b->rt->loop);
  aii_loop_post(b->rt->loop, &b->turn);
}

/* ---- deadlines --------------------------------------------------------------------------------------------------- */

void aii_batcher_watch(aiinfra_batcher *b, uint64_t deadline_ns)
{
  if (b->timer_ns != 0 && b->timer_ns <= deadline_ns) return;
  uint64_t now_ns = aii_now_ns();
  uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
  b->timer_ns = deadline_ns;
  aii_timer_start(b->timer, left_ns / 1000000u + (left_ns % 1000000u != 0), false);
}

static void on_timer(void *user)
{
  aiinfra_batcher *b = user;
  b->timer_ns = 0;
  uint64_t next_ns = aii_sched_expire(b->sched, aii_now_ns());
  if (next_ns != 0) aii_batcher_watch(b, next_ns);
  aii_batcher_wake(b);
}

/* ---- create, close ----------------------------------------------------------------------------------------------- */

enum { DEFAULT_RUNNING = 32, DEFAULT_QUEUE = 256, DEFAULT_STEP_TOKENS = 512, ENCODER_STEP_TOKENS = 2048 };
/* Prompt tokens of one sequence in a step while others decode: the larger, the longer those wait for a token. */
enum { CHUNK_SHARE = 4, LEAST_CHUNK = 32 };

/* An encoder's text must fit one step. */
static uint32_t step_tokens(const aiinfra_model *model)
{
  uint32_t whole = AII_MIN(model->max_context, (uint32_t)ENCODER_STEP_TOKENS);
  return model->hp.causal || model->hp.n_layers == 0 ? DEFAULT_STEP_TOKENS
                                                     : AII_MAX((uint32_t)DEFAULT_STEP_TOKENS, whole);
}

static void fill_defaults(aiinfra_batcher *b)
{
  aiinfra_batcher_opts *o = &b->opts;
  if (o->max_running == 0) o->max_running = DEFAULT_RUNNING;
  if (o->max_queue == 0) o->max_queue = DEFAULT_QUEUE;
  if (o->max_step_tokens == 0) o->max_step_tokens = AII_MAX(step_tokens(b->model), o->max_running);
  aiinfra_kv_stats stats;
  aii_kv_pool_stats(b->kv->pool, &stats);
  uint64_t in_cache = (uint64_t)stats.n_blocks * stats.block_tokens;
  b->max_total = (uint32_t)AII_MIN((uint64_t)b->model->max_context, in_cache);
}

static aiinfra_status create_parts(aiinfra_batcher *b, aiinfra_error *err)
{
  const aiinfra_batcher_opts *o = &b->opts;
  aii_sched_config config = {.max_running = o->max_running,
                             .max_queue = o->max_queue,
                             .max_step_tokens = o->max_step_tokens,
                             .chunk_tokens = AII_MAX(o->max_step_tokens / CHUNK_SHARE, (uint32_t)LEAST_CHUNK)};
  aiinfra_status rc = aii_passes_create(b, err);
  if (rc == AIINFRA_OK) rc = aii_sched_create(&b->rt->mem, &config, b->kv->pool, &b->sched, err);
  if (rc == AIINFRA_OK) rc = aii_timer_create(b->rt->loop, on_timer, b, &b->timer, err);
  return rc;
}

aiinfra_status aii_batcher_create(aiinfra_model *model, aiinfra_kv *kv, const aiinfra_batcher_opts *opts,
                                  aiinfra_batcher **out, aiinfra_error *err)
{
  aiinfra_runtime *rt = model->rt;
  aiinfra_batcher *b = aii_new(&rt->mem, sizeof *b);
  if (b == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a batcher");
  b->rt = rt;
  b->model = model;
  b->kv = kv;
  b->opts = *opts;
  b->turn.fn = posted_turn;
  aii_rng_seed(&b->rng, aii_now_ns() ^ (uint64_t)aii_unix_ms() << 20 ^ (uintptr_t)b);
  fill_defaults(b);
  aiinfra_status rc = create_parts(b, err);
  if (rc != AIINFRA_OK) {
    aii_sched_free(b->sched);
    aii_passes_destroy(b);
    aii_del(&rt->mem, b, sizeof *b);
    return rc;
  }
  aii_meter_open(b);
  aii_runtime_ref(rt);
  aii_model_ref(model);
  aii_kv_ref(kv);
  kv->user = b;
  *out = b;
  return AIINFRA_OK;
}

void aii_batcher_ref(aiinfra_batcher *b)
{
  b->n_users++;
}

void aii_batcher_unref(aiinfra_batcher *b)
{
  b->n_users--;
  if (b->closing) aii_batcher_wake(b);
}

void aii_batcher_close(aiinfra_batcher *b, aiinfra_close_cb closed, void *user)
{
  b->closing = true;
  b->closed = closed;
  b->closed_user = user;
  for (aii_gen *gen = b->open; gen != NULL; gen = gen->next) aii_gen_cancel(gen);
  for (aii_group *group = b->groups; group != NULL; group = group->next) aii_group_cancel(group);
  if (closed == NULL && idle(b)) destroy(b);
  else aii_batcher_wake(b);
}
