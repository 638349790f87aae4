/* gen.c - a request from its birth to the scheduler's queue, and its early ends.
 *
 * The happy path is: new, load (options.c), start: prepare here, or on libuv's pool when the texts are long, then
 * submit to the scheduler and wake the batcher. What fails inside the submitting call is returned; what fails later ends
 * the request through its terminal callback. Loop thread, but for prepare_on_pool().
 */
#include "src/engine/engine.h"

aii_gen *aii_gen_new(aiinfra_batcher *b, void *user, aiinfra_error *err)
{
  aii_gen *gen = aii_new(&b->rt->mem, sizeof *gen);
  if (gen == NULL) {
    (void)aii_fail(err, AIINFRA_ENOMEM, "no memory for a request");
    return NULL;
  }
  gen->batcher = b;
  gen->user = user;
  aii_stream_init(&gen->stream, &b->rt->mem);
  gen->next = b->open;
  if (b->open != NULL) b->open->prev = gen;
  b->open = gen;
  b->n_open++;
  aii_loop_hold(b->rt->loop);
  return gen;
}

void aii_gen_free(aii_gen *gen)
{
  aiinfra_batcher *b = gen->batcher;
  aii_mem *mem = &b->rt->mem;
  if (gen->prev != NULL) gen->prev->next = gen->next;
  else b->open = gen->next;
  if (gen->next != NULL) gen->next->prev = gen->prev;
  b->n_open--;
  aii_gen_drop_input(gen);
  aii_stream_free(&gen->stream);
  aii_output_free(gen->output);
  if (gen->sampler != NULL) aii_sampler_free(gen->sampler);
  aii_penalty_free(gen->penalty);
  if (gen->grammar_state != NULL) aii_grammar_state_free(gen->grammar_state);
  if (gen->grammar != NULL) aii_grammar_free(gen->grammar);
  aii_quote_free(gen->quote);
  aii_del(mem, gen->seq.tokens, gen->cap_tokens * sizeof *gen->seq.tokens);
  aii_del(mem, gen->sum, 2 * (size_t)b->model->hp.n_embd * sizeof *gen->sum);
  aii_del(mem, gen, sizeof *gen);
  aii_loop_drop(b->rt->loop);
}

void aii_gen_fail(aii_gen *gen, aiinfra_status status, const aiinfra_error *err)
{
  gen->status = status;
  gen->error = *err;
  gen->error.status = (int32_t)status;
}

/* Ends a gen that the scheduler does not have. */
static void end_unscheduled(aii_gen *gen, aii_seq_end end)
{
  gen->seq.end = end;
  gen->phase = AII_GEN_ENDED;
  aii_batcher_queue(gen);
  aii_batcher_wake(gen->batcher);
}

static aiinfra_status schedule(aii_gen *gen, aiinfra_error *err)
{
  aiinfra_batcher *b = gen->batcher;
  uint64_t submitted_ns = gen->seq.submitted_ns;
  gen->seq.awaited = gen->stream.n_stops > 0;
  aiinfra_status rc = aii_sched_submit(b->sched, &gen->seq, submitted_ns, err);
  if (rc != AIINFRA_OK) return rc;
  gen->phase = AII_GEN_SCHEDULED;
  if (gen->seq.deadline_ns != 0) aii_batcher_watch(b, gen->seq.deadline_ns);
  aii_batcher_wake(b);
  return AIINFRA_OK;
}

/* ---- on libuv's pool --------------------------------------------------------------------------------------------- */

static void prepare_on_pool(void *user)
{
  aii_gen *gen = user;
  gen->status = aii_gen_prepare(gen, &gen->error);
}

static void prepared(void *user)
{
  aii_gen *gen = user;
  bool late = gen->seq.deadline_ns != 0 && gen->seq.deadline_ns <= aii_now_ns();
  if (gen->cancel_asked || late) {
    gen->status = AIINFRA_OK;
    end_unscheduled(gen, gen->cancel_asked ? AII_END_CANCELED : AII_END_TIMEOUT);
    return;
  }
  if (gen->status == AIINFRA_OK) gen->status = schedule(gen, &gen->error);
  if (gen->status != AIINFRA_OK) end_unscheduled(gen, AII_END_ERROR);
}

/* ---- start, cancel ----------------------------------------------------------------------------------------------- */

static aiinfra_status prepare_and_schedule(aii_gen *gen, aiinfra_error *err)
{
  aiinfra_status rc;
  if (aii_gen_input_bytes(gen) > AII_MAX_INLINE_BYTES) {
    rc = gen->group == NULL ? aii_gen_own_input(gen, err) : AIINFRA_OK; /* a group has its own copy */
    return rc == AIINFRA_OK ? aii_loop_work(gen->batcher->rt->loop, prepare_on_pool, prepared, gen, err) : rc;
  }
  rc = aii_gen_prepare(gen, err);
  return rc == AIINFRA_OK ? schedule(gen, err) : rc;
}

aiinfra_status aii_gen_start_member(aii_gen *gen, aiinfra_error *err)
{
  gen->seq.submitted_ns = aii_now_ns();
  return prepare_and_schedule(gen, err);
}

aiinfra_status aii_gen_start(aii_gen *gen, aiinfra_request **request, aiinfra_error *err)
{
  gen->seq.submitted_ns = aii_now_ns();
  gen->request = aii_request_new(gen->batcher->rt, aii_gen_cancel, gen);
  if (gen->request == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a request");
  aiinfra_request *handle = gen->request;
  aiinfra_status rc = prepare_and_schedule(gen, err);
  if (rc != AIINFRA_OK) aii_request_end(handle, rc);
  if (rc == AIINFRA_OK && request != NULL) *request = handle;
  else aiinfra_request_free(handle);
  return rc;
}

void aii_gen_cancel(void *impl)
{
  aii_gen *gen = impl;
  gen->cancel_asked = true;
  if (gen->phase != AII_GEN_SCHEDULED) return;
  aii_sched_cancel(gen->batcher->sched, &gen->seq);
  aii_batcher_wake(gen->batcher);
}
