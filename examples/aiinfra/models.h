/* models.h - models beside a memory: one that embeds texts, one that scores them by a question. */
#ifndef AIINFRA_MODELS_H
#define AIINFRA_MODELS_H

#include "cli.h"

typedef struct cli_models {
  cli_engine embeds, reranks;
  aiinfra_embedder embedder;
  char name[128];
} cli_models;

/* Opens the models that are named; either may be NULL. cli_models_close() must follow, whatever it returns. */
int cli_models_open(cli_models *m, const char *embedder, const char *reranker);
void cli_models_close(cli_models *m);
/* An aiinfra_rerank_fn; user is a cli_models with a reranker. */
int cli_rerank(void *user, const char *question, const char *const *texts, size_t n, float *scores);

#endif
