/* models.c - models beside a memory: one that embeds texts, one that scores them by a question. */
#include "models.h"

#include <stdio.h>
#include <string.h>

typedef struct vectors {
  float *out;
  size_t n, dims;
  aiinfra_status status;
  char message[AIINFRA_ERROR_MESSAGE_MAX];
} vectors;

static void tell_why(char message[AIINFRA_ERROR_MESSAGE_MAX], const aiinfra_error *error)
{
  if (error != NULL) memcpy(message, error->message, AIINFRA_ERROR_MESSAGE_MAX);
}

static void on_vectors(void *user, aiinfra_status status, const aiinfra_embed_result *result)
{
  vectors *v = user;
  v->status = status;
  tell_why(v->message, result->error);
  if (status != AIINFRA_OK) return;
  if (result->n_texts == v->n && result->n_dims == v->dims)
    memcpy(v->out, result->vectors, v->n * v->dims * sizeof *v->out);
  else v->status = AIINFRA_EFORMAT;
}

static int embed(void *user, const char *const *texts, size_t n, int question, float *out)
{
  cli_models *m = user;
  vectors v = {out, n, m->embedder.dims, AIINFRA_OK, ""};
  aiinfra_embed_opts opts = AIINFRA_EMBED_OPTS_INIT;
  aiinfra_request *request;
  aiinfra_error err;
  (void)question;
  opts.texts = texts;
  opts.n_texts = n;
  if (aiinfra_batcher_embed_texts(m->embeds.batcher, &opts, on_vectors, &v, &request, &err) != AIINFRA_OK) {
    cli_error("embed", &err);
    return 1;
  }
  (void)cli_wait(request);
  if (v.status != AIINFRA_OK) cli_fail("embed: %s", v.message[0] != '\0' ? v.message : aiinfra_status_text(v.status));
  return v.status != AIINFRA_OK;
}

static void on_scores(void *user, aiinfra_status status, const aiinfra_rerank_result *result)
{
  vectors *v = user;
  v->status = status;
  tell_why(v->message, result->error);
  if (status == AIINFRA_OK) memcpy(v->out, result->scores, v->n * sizeof *v->out);
}

int cli_rerank(void *user, const char *question, const char *const *texts, size_t n, float *scores)
{
  cli_models *m = user;
  vectors v = {scores, n, 0, AIINFRA_OK, ""};
  aiinfra_rerank_opts opts = AIINFRA_RERANK_OPTS_INIT;
  aiinfra_request *request;
  aiinfra_error err;
  opts.query = question;
  opts.documents = texts;
  opts.n_documents = n;
  if (aiinfra_batcher_rerank(m->reranks.batcher, &opts, on_scores, &v, &request, &err) != AIINFRA_OK) {
    cli_error("rerank", &err);
    return 1;
  }
  (void)cli_wait(request);
  if (v.status != AIINFRA_OK) cli_fail("rerank: %s", v.message[0] != '\0' ? v.message : aiinfra_status_text(v.status));
  return v.status != AIINFRA_OK;
}

int cli_models_open(cli_models *m, const char *embedder, const char *reranker)
{
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_error err;
  const char *slash = embedder != NULL ? strrchr(embedder, '/') : NULL;
  memset(m, 0, sizeof *m);
  int code = embedder != NULL ? cli_engine_open(embedder, 0, NULL, NULL, &m->embeds) : CLI_OK;
  if (code == CLI_OK && reranker != NULL) code = cli_engine_open(reranker, 0, NULL, NULL, &m->reranks);
  if (code != CLI_OK || embedder == NULL) return code;
  if (aiinfra_model_get_info(m->embeds.model, &info, &err) != AIINFRA_OK) return cli_error(embedder, &err);
  /* the file's name and size tell one model from another */
  snprintf(m->name, sizeof m->name, "%.80s-%u-%llu", slash != NULL ? slash + 1 : embedder, info.n_embd,
           (unsigned long long)info.n_params);
  m->embedder = (aiinfra_embedder)AIINFRA_EMBEDDER_INIT;
  m->embedder.name = m->name;
  m->embedder.embed = embed;
  m->embedder.user = m;
  m->embedder.dims = info.n_embd;
  return CLI_OK;
}

void cli_models_close(cli_models *m)
{
  cli_engine_close(&m->embeds);
  cli_engine_close(&m->reranks);
}
