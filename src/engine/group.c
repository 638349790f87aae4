/* group.c - texts that are embedded, or scored by a query, together: one request, one callback, a gen for each text.
 *
 * The happy path is: copy the texts, start as many as may run at once; whenever a turn of the batcher finds room, start
 * more; each text that ends leaves its vector here; when all have, call back. So a long list never fills the queue, and
 * texts that find it full wait here. The first failure, a cancel or the deadline stops the list: what is in flight is
 * cancelled, and the callback comes when the last of it has ended.
 *
 * A vector is the mean of the pooled hidden states, cut to the wanted dimensions and scaled; a score is what the model's
 * head makes of one hidden state. All of it in double, in the order of the text: the same bits in any batch. Loop
 * thread, but for aii_group_add() and aii_group_finish().
 */
#include <math.h>

#include "src/engine/engine.h"

/* ---- life ------------------------------------------------------------------------------------------------------- */

static void free_group(aii_group *g)
{
  aiinfra_batcher *b = g->batcher;
  aii_mem *mem = &b->rt->mem;
  for (size_t i = 0; g->texts != NULL && i < g->n_texts; i++) aii_strfree(mem, g->texts[i]);
  aii_del(mem, g->texts, g->n_texts * sizeof *g->texts);
  aii_strfree(mem, g->query);
  aii_del(mem, g->floats, g->n_texts * g->n_dims * sizeof *g->floats);
  aii_del(mem, g->n_tokens, g->n_texts * sizeof *g->n_tokens);
  aii_del(mem, g, sizeof *g);
}

static aiinfra_status copy_texts(aii_group *g, const aii_group_want *want, aiinfra_error *err)
{
  aii_mem *mem = &g->batcher->rt->mem;
  size_t n_floats;
  g->texts = aii_new_array(mem, g->n_texts, sizeof *g->texts);
  g->n_tokens = aii_new_array(mem, g->n_texts, sizeof *g->n_tokens);
  if (aii_size_mul(g->n_texts, g->n_dims, &n_floats)) g->floats = aii_new_array(mem, n_floats, sizeof *g->floats);
  g->want.texts = NULL; /* the host's: from here on they are ours */
  g->want.query = NULL;
  if (want->query != NULL) g->query = aii_strdup(mem, want->query);
  bool failed =
      g->texts == NULL || g->n_tokens == NULL || g->floats == NULL || (want->query != NULL && g->query == NULL);
  for (size_t i = 0; i < g->n_texts && !failed; i++) {
    g->texts[i] = aii_strdup(mem, want->texts[i]);
    failed = g->texts[i] == NULL;
  }
  if (failed)
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for %zu texts and %zu floats of each", g->n_texts, g->n_dims);
  return AIINFRA_OK;
}

static aii_group *new_group(aiinfra_batcher *b, const aii_group_want *want, aiinfra_error *err)
{
  aii_group *g = aii_new(&b->rt->mem, sizeof *g);
  if (g == NULL) {
    (void)aii_fail(err, AIINFRA_ENOMEM, "no memory for a request");
    return NULL;
  }
  g->batcher = b;
  g->want = *want;
  g->n_texts = want->n_texts;
  g->n_dims = want->n_dims;
  g->deadline_ns = aii_deadline(want->deadline_ms);
  if (copy_texts(g, want, err) == AIINFRA_OK) return g;
  free_group(g);
  return NULL;
}

static void link_group(aii_group *g)
{
  aii_group **at = &g->batcher->groups;
  while (*at != NULL) at = &(*at)->next;
  *at = g;
  g->batcher->n_groups++;
  aii_loop_hold(g->batcher->rt->loop);
}

static void unlink_group(aii_group *g)
{
  aii_group **at = &g->batcher->groups;
  while (*at != g) at = &(*at)->next;
  *at = g->next;
  g->batcher->n_groups--;
  aii_loop_drop(g->batcher->rt->loop);
}

/* ---- texts in flight ------------------------------------------------------------------------------------------------ */

bool aii_group_pools(const aii_gen *gen, uint32_t pos)
{
  switch (gen->group->want.pooling) {
    case AIINFRA_POOLING_CLS: return pos == 0;
    case AIINFRA_POOLING_LAST: return pos + 1 == gen->seq.n_prompt;
    default: return true;
  }
}

/* Nothing more is started, and what runs is cancelled. The first reason is kept. */
static void stop(aii_group *g, aiinfra_status status, const aiinfra_error *err)
{
  if (g->status != AIINFRA_OK) return;
  g->status = status;
  g->error = *err;
  g->error.status = (int32_t)status;
  for (aii_gen *gen = g->batcher->open; gen != NULL; gen = gen->next)
    if (gen->group == g) aii_gen_cancel(gen);
  aii_batcher_wake(g->batcher);
}

void aii_group_cancel(void *group)
{
  aiinfra_error err;
  (void)aii_fail(&err, AIINFRA_ECANCELED, "the request was cancelled");
  stop(group, AIINFRA_ECANCELED, &err);
}

static aiinfra_status start_text(aii_group *g, aiinfra_error *err)
{
  aiinfra_batcher *b = g->batcher;
  aii_gen *gen = aii_gen_new(b, NULL, err);
  if (gen == NULL) return AIINFRA_ENOMEM;
  aiinfra_status rc = aii_pass_want_hidden(b, err);
  gen->group = g;
  gen->index = g->n_started;
  gen->input.text = g->texts[gen->index];
  gen->input.query = g->query;
  gen->seq.embed = gen->seq.no_cache = true;
  gen->seq.whole = !b->model->hp.causal && b->model->hp.n_layers > 0; /* else rows know nothing of each other */
  gen->seq.priority = g->want.priority;
  gen->seq.deadline_ns = g->deadline_ns;
  gen->sum = aii_new_array(&b->rt->mem, 2 * (size_t)b->model->hp.n_embd, sizeof *gen->sum);
  if (rc == AIINFRA_OK && gen->sum == NULL) rc = aii_fail(err, AIINFRA_ENOMEM, "no memory for a vector");
  if (rc == AIINFRA_OK) rc = aii_gen_start_member(gen, err);
  if (rc != AIINFRA_OK) {
    aii_gen_free(gen);
    return rc;
  }
  g->n_started++;
  g->n_busy++;
  return AIINFRA_OK;
}

/* What is wrong with one text of several is said with its number. */
static aiinfra_status blame(const aii_group *g, size_t index, aiinfra_status rc, aiinfra_error *err)
{
  return g->n_texts > 1 && rc == AIINFRA_EINVAL ? aii_wrap(err, rc, "%s[%zu]", g->want.field, index) : rc;
}

/* Starts texts until there is no room. The queue being full is no failure but before the first one. */
static aiinfra_status pump(aii_group *g, aiinfra_error *err)
{
  const aiinfra_batcher_opts *o = &g->batcher->opts;
  while (g->status == AIINFRA_OK && g->n_started < g->n_texts && g->n_busy < o->max_running &&
         g->batcher->n_open < o->max_running + o->max_queue) {
    aiinfra_status rc = start_text(g, err);
    if (rc == AIINFRA_EBUSY && g->n_started > 0) return AIINFRA_OK;
    if (rc != AIINFRA_OK) return blame(g, g->n_started, rc, err);
  }
  return AIINFRA_OK;
}

void aii_groups_pump(aiinfra_batcher *b)
{
  for (aii_group *g = b->groups; g != NULL; g = g->next) {
    aiinfra_error err;
    aiinfra_status rc = AIINFRA_OK;
    if (g->status == AIINFRA_OK && g->n_started < g->n_texts && g->deadline_ns != 0 && g->deadline_ns <= aii_now_ns())
      rc = aii_fail(&err, AIINFRA_ETIMEDOUT, "the request's deadline passed");
    if (rc == AIINFRA_OK) rc = pump(g, &err);
    if (rc != AIINFRA_OK) stop(g, rc, &err);
  }
}

aiinfra_status aii_group_start(aiinfra_batcher *b, const aii_group_want *want, aiinfra_request **request,
                               aiinfra_error *err)
{
  aiinfra_error why;
  aii_group *g = new_group(b, want, err);
  if (g == NULL) return AIINFRA_ENOMEM;
  g->request = aii_request_new(b->rt, aii_group_cancel, g);
  aiinfra_status rc = g->request != NULL ? AIINFRA_OK : aii_fail(&why, AIINFRA_ENOMEM, "no memory for a request");
  if (rc == AIINFRA_OK) rc = pump(g, &why);
  if (rc != AIINFRA_OK && g->n_started == 0) {
    if (g->request != NULL) aii_request_end(g->request, rc);
    aiinfra_request_free(g->request);
    free_group(g);
    if (err != NULL) *err = why;
    return rc;
  }
  link_group(g);
  if (rc != AIINFRA_OK) stop(g, rc, &why);
  if (g->deadline_ns != 0) aii_batcher_watch(b, g->deadline_ns);
  if (request != NULL) *request = g->request;
  else aiinfra_request_free(g->request);
  return AIINFRA_OK;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

void aii_group_add(aii_gen *gen, const float *hidden)
{
  uint32_t n = gen->batcher->model->hp.n_embd;
  if (gen->n_summed++ == 0) memset(gen->sum, 0, n * sizeof *gen->sum);
  for (uint32_t i = 0; i < n; i++) gen->sum[i] += (double)hidden[i];
}

void aii_group_finish(aii_gen *gen)
{
  const aiinfra_model *m = gen->batcher->model;
  if (gen->group->query == NULL) return;
  for (uint32_t i = 0; i < m->hp.n_embd; i++) gen->sum[i] /= gen->n_summed;
  gen->score = aii_head_score(m->head, gen->sum, gen->sum + m->hp.n_embd);
}

/* False when a vector to be normalised has no finite length. */
static bool make_vector(const aii_gen *gen, float *out)
{
  const aii_group *g = gen->group;
  double n = gen->n_summed, squares = 0.0, scale = 1.0 / n;
  for (size_t i = 0; i < g->n_dims; i++) {
    double mean = gen->sum[i] / n;
    squares += mean * mean;
  }
  if (!isfinite(squares) || (g->want.normalize && !(squares > 0.0))) return false;
  if (g->want.normalize) scale = 1.0 / (sqrt(squares) * n);
  for (size_t i = 0; i < g->n_dims; i++) out[i] = (float)(gen->sum[i] * scale);
  return true;
}

static bool make_score(const aii_gen *gen, float *out)
{
  *out = (float)(gen->group->want.raw_scores ? gen->score : 1.0 / (1.0 + exp(-gen->score)));
  return isfinite(gen->score);
}

void aii_group_take(aii_gen *gen, aiinfra_status status)
{
  aii_group *g = gen->group;
  aiinfra_error *err = &gen->error;
  float *out = g->floats + gen->index * g->n_dims;
  g->n_busy--;
  g->n_tokens[gen->index] = gen->seq.n_prompt;
  if (status == AIINFRA_OK && !(g->query != NULL ? make_score(gen, out) : make_vector(gen, out)))
    status = aii_fail(err, AIINFRA_EINTERNAL, "the model's hidden states are not finite");
  if (status != AIINFRA_OK) stop(g, blame(g, gen->index, status, err), err);
  else if (g->n_started < g->n_texts) aii_batcher_wake(g->batcher);
}

static bool has_ended(const aii_group *g)
{
  return g->n_busy == 0 && (g->status != AIINFRA_OK || g->n_started == g->n_texts);
}

static void call(const aii_group *g)
{
  const aii_group_want *w = &g->want;
  bool good = g->status == AIINFRA_OK;
  const aiinfra_error *error = good ? NULL : &g->error;
  const float *floats = good ? g->floats : NULL;
  uint64_t total = 0;
  size_t n = good ? g->n_texts : 0, n_dims = good ? g->n_dims : 0;
  for (size_t i = 0; i < g->n_texts; i++) total += g->n_tokens[i];
  aiinfra_embed_result vectors = {floats, good ? g->n_tokens : NULL, error, total, n, n_dims};
  aiinfra_rerank_result scores = {floats, error, total, n};
  aii_loop_enter(g->batcher->rt->loop);
  if (w->on_vectors != NULL) w->on_vectors(w->user, g->status, &vectors);
  if (w->on_scores != NULL) w->on_scores(w->user, g->status, &scores);
  if (w->on_vector != NULL) w->on_vector(w->user, g->status, floats, n_dims, g->n_tokens[0], error);
  aii_loop_leave(g->batcher->rt->loop);
}

/* The host may submit, cancel and close in its callback: the list is looked through anew. */
void aii_groups_deliver(aiinfra_batcher *b)
{
  for (aii_group *g = b->groups; g != NULL;) {
    if (!has_ended(g)) {
      g = g->next;
      continue;
    }
    aiinfra_request *request = g->request;
    aiinfra_status status = g->status;
    call(g);
    unlink_group(g);
    free_group(g);
    aii_request_end(request, status);
    g = b->groups;
  }
}
