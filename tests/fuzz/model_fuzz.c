/* model_fuzz.c - any bytes as the head of a GGUF file, with enough bytes behind it for the weights of a small model: the
 * model is refused, or it loads, describes itself and computes.
 *
 * tests/fuzz/model_heads.py wrote the heads of the corpus: one for each architecture. */
#include <stdlib.h>
#include <string.h>

#include "aiinfra/eval.h"
#include "src/model/arch.h"

enum { WEIGHTS = 400 << 10, MAX_VOCAB = 1024, MAX_CONTEXT = 4, MOST_PARAMS = 200000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile bool sink;

static void compute(aiinfra_model *model)
{
  static float logits[MAX_VOCAB];
  static const aiinfra_token tokens[] = {1, 0, 2};
  aiinfra_model_info info = {.struct_size = sizeof info};
  aiinfra_eval_opts opts = AIINFRA_EVAL_OPTS_INIT;
  aiinfra_eval *eval;
  aiinfra_error err;
  if (aiinfra_model_get_info(model, &info, &err) != AIINFRA_OK || info.n_params > MOST_PARAMS) return;
  opts.max_context = info.max_context < MAX_CONTEXT ? info.max_context : MAX_CONTEXT;
  if (aiinfra_eval_create(model, &opts, &eval, &err) != AIINFRA_OK) return;
  aiinfra_status rc = aiinfra_eval_run(eval, tokens, 2, 1, logits, MAX_VOCAB, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_eval_run(eval, tokens + 2, 1, 1, logits, MAX_VOCAB, &err);
  sink = rc == AIINFRA_OK && logits[0] > 0;
  aiinfra_eval_free(eval);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static aiinfra_runtime *rt;
  aiinfra_runtime_opts runtime_opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_model *model;
  aiinfra_error err;
  aii_buf text;
  aii_gguf *g;
  runtime_opts.n_threads = 1;
  runtime_opts.memory_limit_bytes = 256 << 20;
  if (rt == NULL && aiinfra_runtime_create(&runtime_opts, &rt, &err) != AIINFRA_OK) return 0;
  uint8_t *file = malloc(size + WEIGHTS);
  if (file == NULL) return 0;
  memcpy(file, data, size);
  memset(file + size, 0x3c, WEIGHTS); /* small numbers in most types */
  if (aii_gguf_from_memory(&rt->mem, file, size + WEIGHTS, &g, &err) == AIINFRA_OK &&
      aii_model_load(rt, g, "fuzz", &opts, &model, &err) == AIINFRA_OK) {
    aii_buf_init(&text, &rt->mem, 0);
    aii_model_describe(model, &text);
    aii_buf_free(&text);
    compute(model);
    aiinfra_model_free(model);
  }
  free(file);
  return 0;
}
