/* batcher_api.c - the public functions of aiinfra/batcher.h: check arguments, load options, call down. */
#include <stdio.h>

#include "src/engine/engine.h"

enum { MOST_RUNNING = 4096, MOST_QUEUE = 1 << 20, MOST_STEP_TOKENS = 1 << 16, MOST_TEXTS = 1 << 20 };

static aiinfra_status check_batcher_opts(const aiinfra_batcher_opts *o, aiinfra_error *err)
{
  uint32_t step = o->max_step_tokens, running = o->max_running;
  if (running > MOST_RUNNING)
    return aii_fail(err, AIINFRA_EINVAL, "max_running is %u, at most %d", running, MOST_RUNNING);
  if (o->max_queue > MOST_QUEUE)
    return aii_fail(err, AIINFRA_EINVAL, "max_queue is %u, at most %d", o->max_queue, MOST_QUEUE);
  if (step > MOST_STEP_TOKENS)
    return aii_fail(err, AIINFRA_EINVAL, "max_step_tokens is %u, at most %d", step, MOST_STEP_TOKENS);
  if (step != 0 && running > step)
    return aii_fail(err, AIINFRA_EINVAL, "max_step_tokens is %u, but max_running is %u: each needs a token", step,
                    running);
  if (o->prefix_cache < -1 || o->prefix_cache > 1)
    return aii_fail(err, AIINFRA_EINVAL, "prefix_cache is %d, must be -1, 0 or 1", o->prefix_cache);
  return AIINFRA_OK;
}

aiinfra_status aiinfra_batcher_create(aiinfra_model *model, aiinfra_kv *kv, const aiinfra_batcher_opts *opts,
                                      aiinfra_batcher **out, aiinfra_error *err)
{
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (model == NULL || kv == NULL) return aii_fail(err, AIINFRA_EINVAL, "model or kv is NULL");
  aiinfra_batcher_opts o;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, prefix_cache, err);
  if (rc == AIINFRA_OK) rc = check_batcher_opts(&o, err);
  if (rc != AIINFRA_OK) return rc;
  if (kv->model != model) return aii_fail(err, AIINFRA_EINVAL, "the cache was made for another model");
  if (kv->user != NULL)
    return aii_fail(err, AIINFRA_EBUSY, "the cache has a batcher already; close that one, or create another cache");
  /* a step needs a token for each sequence that runs */
  if (o.max_step_tokens != 0 && o.max_running == 0 && o.max_step_tokens < 32) o.max_running = o.max_step_tokens;
  return aii_batcher_create(model, kv, &o, out, err);
}

static aiinfra_status check_open(const aiinfra_batcher *b, aiinfra_error *err)
{
  if (b->closing) return aii_fail(err, AIINFRA_ECLOSED, "the batcher is closing");
  uint32_t n_open = AII_MAX(b->n_open, b->n_groups);
  if (n_open >= b->opts.max_running + b->opts.max_queue)
    return aii_fail(err, AIINFRA_EBUSY,
                    "%u requests are open, which is all that may run (%u) and wait (%u); submit again "
                    "when one has ended",
                    n_open, b->opts.max_running, b->opts.max_queue);
  return AIINFRA_OK;
}

aiinfra_status aiinfra_batcher_generate(aiinfra_batcher *batcher, const aiinfra_generate_opts *opts,
                                        aiinfra_chunk_cb on_chunk, aiinfra_result_cb on_result, void *user,
                                        aiinfra_request **request, aiinfra_error *err)
{
  if (request != NULL) *request = NULL;
  if (batcher == NULL || opts == NULL) return aii_fail(err, AIINFRA_EINVAL, "batcher or opts is NULL");
  aiinfra_status rc = check_open(batcher, err);
  if (rc == AIINFRA_OK && !batcher->model->hp.causal)
    rc = aii_fail(err, AIINFRA_ENOTSUP, "model '%s' is an encoder: it embeds and reranks, but generates nothing",
                  batcher->model->name);
  if (rc != AIINFRA_OK) return rc;
  aii_gen *gen = aii_gen_new(batcher, user, err);
  if (gen == NULL) return AIINFRA_ENOMEM;
  gen->on_chunk = on_chunk;
  gen->on_result = on_result;
  rc = aii_gen_load(gen, opts, err);
  if (rc == AIINFRA_OK) rc = aii_gen_start(gen, request, err);
  if (rc != AIINFRA_OK) aii_gen_free(gen);
  return rc;
}

static aiinfra_status check_texts(const char *name, const char *const *texts, size_t n, aiinfra_error *err)
{
  char field[40];
  if (texts == NULL || n == 0) return aii_fail(err, AIINFRA_EINVAL, "there are no %s", name);
  if (n > MOST_TEXTS) return aii_fail(err, AIINFRA_EINVAL, "%zu %s; a request has at most %d", n, name, MOST_TEXTS);
  for (size_t i = 0; i < n; i++) {
    (void)snprintf(field, sizeof field, "%s[%zu]", name, i);
    if (texts[i] == NULL) return aii_fail(err, AIINFRA_EINVAL, "%s is NULL", field);
    aiinfra_status rc = aii_check_text(texts[i], field, err);
    if (rc != AIINFRA_OK) return rc;
  }
  return AIINFRA_OK;
}

static aiinfra_status check_embed(const aiinfra_batcher *b, const aiinfra_embed_opts *o, aiinfra_error *err)
{
  if (o->pooling < 0 || o->pooling > AIINFRA_POOLING_LAST)
    return aii_fail(err, AIINFRA_EINVAL, "pooling is %d, must be an aiinfra_pooling", o->pooling);
  if (o->normalize < -1 || o->normalize > 1)
    return aii_fail(err, AIINFRA_EINVAL, "normalize is %d, must be -1, 0 or 1", o->normalize);
  if (o->dimensions > b->model->hp.n_embd)
    return aii_fail(err, AIINFRA_EINVAL, "dimensions is %u, the model's vectors have %u", o->dimensions,
                    b->model->hp.n_embd);
  return check_texts("texts", o->texts, o->n_texts, err);
}

static aii_group_want want_vectors(const aiinfra_batcher *b, const aiinfra_embed_opts *o, void *user)
{
  const aiinfra_model *m = b->model;
  return (aii_group_want){.texts = o->texts,
                          .n_texts = o->n_texts,
                          .field = "texts",
                          .n_dims = o->dimensions != 0 ? o->dimensions : m->hp.n_embd,
                          .pooling = o->pooling != 0   ? o->pooling
                                     : m->pooling != 0 ? m->pooling
                                                       : AIINFRA_POOLING_MEAN,
                          .normalize = o->normalize != 0 ? o->normalize > 0 : !m->raw_vectors,
                          .priority = o->priority,
                          .deadline_ms = o->deadline_ms,
                          .user = user};
}

aiinfra_status aiinfra_batcher_embed(aiinfra_batcher *batcher, const char *text, aiinfra_embed_cb on_vector, void *user,
                                     aiinfra_request **request, aiinfra_error *err)
{
  if (request != NULL) *request = NULL;
  if (batcher == NULL || text == NULL) return aii_fail(err, AIINFRA_EINVAL, "batcher or text is NULL");
  aiinfra_embed_opts o = AIINFRA_EMBED_OPTS_INIT;
  o.texts = &text;
  o.n_texts = 1;
  aiinfra_status rc = check_open(batcher, err);
  if (rc == AIINFRA_OK) rc = check_embed(batcher, &o, err);
  if (rc != AIINFRA_OK) return rc;
  aii_group_want want = want_vectors(batcher, &o, user);
  want.on_vector = on_vector;
  return aii_group_start(batcher, &want, request, err);
}

aiinfra_status aiinfra_batcher_embed_texts(aiinfra_batcher *batcher, const aiinfra_embed_opts *opts,
                                           aiinfra_embed_result_cb on_result, void *user, aiinfra_request **request,
                                           aiinfra_error *err)
{
  if (request != NULL) *request = NULL;
  if (batcher == NULL || opts == NULL) return aii_fail(err, AIINFRA_EINVAL, "batcher or opts is NULL");
  aiinfra_embed_opts o;
  aiinfra_status rc = check_open(batcher, err);
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&o, opts, priority, err);
  if (rc == AIINFRA_OK) rc = check_embed(batcher, &o, err);
  if (rc != AIINFRA_OK) return rc;
  aii_group_want want = want_vectors(batcher, &o, user);
  want.on_vectors = on_result;
  return aii_group_start(batcher, &want, request, err);
}

static aiinfra_status check_rerank(const aiinfra_batcher *b, const aiinfra_rerank_opts *o, aiinfra_error *err)
{
  if (b->model->head == NULL)
    return aii_fail(err, AIINFRA_ENOTSUP,
                    "model '%s' is no reranker: it has no classification head (tensor "
                    "'cls.output.weight')",
                    b->model->name);
  if (o->query == NULL) return aii_fail(err, AIINFRA_EINVAL, "query is NULL");
  if (o->raw_scores != 0 && o->raw_scores != 1)
    return aii_fail(err, AIINFRA_EINVAL, "raw_scores is %d, must be 0 or 1", o->raw_scores);
  aiinfra_status rc = aii_check_text(o->query, "query", err);
  return rc == AIINFRA_OK ? check_texts("documents", o->documents, o->n_documents, err) : rc;
}

aiinfra_status aiinfra_batcher_rerank(aiinfra_batcher *batcher, const aiinfra_rerank_opts *opts,
                                      aiinfra_rerank_cb on_result, void *user, aiinfra_request **request,
                                      aiinfra_error *err)
{
  if (request != NULL) *request = NULL;
  if (batcher == NULL || opts == NULL) return aii_fail(err, AIINFRA_EINVAL, "batcher or opts is NULL");
  aiinfra_rerank_opts o;
  aiinfra_status rc = check_open(batcher, err);
  if (rc == AIINFRA_OK) rc = AII_OPTS_LOAD(&o, opts, raw_scores, err);
  if (rc == AIINFRA_OK) rc = check_rerank(batcher, &o, err);
  if (rc != AIINFRA_OK) return rc;
  aii_group_want want = {.texts = o.documents,
                         .n_texts = o.n_documents,
                         .field = "documents",
                         .query = o.query,
                         .n_dims = 1,
                         .pooling = batcher->model->head->pooling,
                         .raw_scores = o.raw_scores == 1,
                         .priority = o.priority,
                         .deadline_ms = o.deadline_ms,
                         .on_scores = on_result,
                         .user = user};
  return aii_group_start(batcher, &want, request, err);
}

aiinfra_status aiinfra_batcher_get_stats(const aiinfra_batcher *batcher, aiinfra_batcher_stats *stats,
                                         aiinfra_error *err)
{
  if (batcher == NULL || stats == NULL) return aii_fail(err, AIINFRA_EINVAL, "batcher or stats is NULL");
  if (stats->struct_size < sizeof *stats)
    return aii_fail(err, AIINFRA_EINVAL, "stats.struct_size is %zu, must be at least %zu", stats->struct_size,
                    sizeof *stats);
  if (stats->struct_size > sizeof *stats)
    return aii_fail(err, AIINFRA_ENOTSUP, "stats.struct_size is %zu, this version fills %zu bytes", stats->struct_size,
                    sizeof *stats);
  *stats = batcher->stats;
  stats->struct_size = sizeof *stats;
  stats->preemptions = aii_sched_preemptions(batcher->sched);
  stats->n_running = aii_sched_n_running(batcher->sched);
  stats->n_waiting = aii_sched_n_waiting(batcher->sched);
  return AIINFRA_OK;
}

aiinfra_model *aiinfra_batcher_model(const aiinfra_batcher *batcher)
{
  return batcher != NULL ? batcher->model : NULL;
}

void aiinfra_batcher_close(aiinfra_batcher *batcher, aiinfra_close_cb closed, void *user)
{
  if (batcher != NULL && !batcher->closing) aii_batcher_close(batcher, closed, user);
}

void aiinfra_batcher_free(aiinfra_batcher *batcher)
{
  aiinfra_batcher_close(batcher, NULL, NULL);
}
