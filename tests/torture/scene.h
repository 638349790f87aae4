/* scene.h - what the scenarios share: a tiny random model as a file, a runtime on the failing allocator, the way from
 * the file to a batcher.
 */
#ifndef AIINFRA_TESTS_TORTURE_SCENE_H
#define AIINFRA_TESTS_TORTURE_SCENE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra.h"
#include "tests/data/gguf_maker.h"
#include "tests/support/support.h"
#include "tests/torture/torture.h"

#define SCENE_TEMPLATE                                                                                   \
  "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if tools %}{% for t in tools %}" \
  "{{ t.function | tojson }}{% endfor %}<tool_call>{% endif %}{% if add_generation_prompt %}assistant: {% endif %}"

/* Writes the model once; the path stays valid. */
static inline const char *scene_model(void)
{
  static const gm_shape shape = {.arch = "llama",
                                 .n_vocab = 263,
                                 .n_embd = 16,
                                 .n_layers = 2,
                                 .n_heads = 4,
                                 .n_kv_heads = 2,
                                 .head_dim = 4,
                                 .n_ff = 24,
                                 .n_rot = 4,
                                 .context = 2048,
                                 .chat_template = SCENE_TEMPLATE,
                                 .head_tokens = {70, 71},
                                 .head_dense = 0.5f,
                                 .rerank_prompt = "{query}: {document}",
                                 .seed = 1};
  static char path[512];
  size_t size;
  uint8_t *bytes;
  if (path[0] != '\0') return path;
  snprintf(path, sizeof path, "%s", test_tmp("tiny.gguf"));
  bytes = gm_model(&shape, &size);
  assert_int_equal(test_write_file(path, bytes, size), 0);
  free(bytes);
  return path;
}

typedef struct scene {
  aiinfra_runtime *runtime;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
} scene;

static inline aiinfra_status scene_runtime(aiinfra_runtime **out)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  opts.allocator = torture_allocator();
  opts.n_threads = 1;
  return torture_made(aiinfra_runtime_create(&opts, out, NULL), out, "runtime_create");
}

static inline aiinfra_status scene_open(scene *s)
{
  aiinfra_kv_opts kv_opts = AIINFRA_KV_OPTS_INIT;
  aiinfra_status rc;
  memset(s, 0, sizeof *s);
  kv_opts.budget_bytes = kv_opts.spill_bytes = 1 << 20;
  rc = scene_runtime(&s->runtime);
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_model_open(s->runtime, scene_model(), NULL, &s->model, NULL), &s->model, "model_open");
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_kv_create(s->model, &kv_opts, &s->kv, NULL), &s->kv, "kv_create");
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_batcher_create(s->model, s->kv, NULL, &s->batcher, NULL), &s->batcher, "batcher_create");
  return rc;
}

static inline void scene_close(scene *s)
{
  aiinfra_batcher_free(s->batcher);
  aiinfra_kv_free(s->kv);
  aiinfra_model_free(s->model);
  aiinfra_runtime_free(s->runtime);
}

/* Waits for a request, frees it, and checks that its terminal callback has run once. */
static inline aiinfra_status scene_wait(aiinfra_request *request, const int *done)
{
  aiinfra_status rc = aiinfra_request_wait(request, 20000, NULL);
  torture_check(aiinfra_request_done(request) == 1, "the request ends");
  torture_check(*done == 1, "its callback runs once");
  aiinfra_request_free(request);
  return rc;
}

#endif
