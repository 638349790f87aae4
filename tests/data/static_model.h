/* static_model.h - small models of static embeddings from their descriptions, and the vectors they give.
 *
 * A description is a file of tests/data/model2vec, which tests/reference/encoders.py wrote.
 */
#ifndef AIINFRA_TESTS_STATIC_MODEL_H
#define AIINFRA_TESTS_STATIC_MODEL_H

#include "tests/data/golden_model.h"

#include "aiinfra/batcher.h"
#include "tests/data/hf_maker.h"

enum { STATIC_WIDTH = 64, STATIC_TEXTS = 8 };

typedef struct static_vectors {
  float v[STATIC_TEXTS][STATIC_WIDTH];
  size_t n_dims;
  uint32_t n_tokens[STATIC_TEXTS];
  aiinfra_status status;
  char message[AIINFRA_ERROR_MESSAGE_MAX];
} static_vectors;

static inline void static_on_result(void *user, aiinfra_status status, const aiinfra_embed_result *result)
{
  static_vectors *out = user;
  out->status = status;
  if (result->error != NULL) memcpy(out->message, result->error->message, sizeof out->message);
  out->n_dims = result->n_dims;
  assert_true(result->n_dims <= STATIC_WIDTH);
  for (size_t i = 0; i < result->n_texts; i++) {
    memcpy(out->v[i], result->vectors + i * result->n_dims, result->n_dims * sizeof(float));
    out->n_tokens[i] = result->n_tokens[i];
  }
}

static inline void static_embed(const char *path, const char *const *texts, size_t n, int32_t normalize,
                                static_vectors *out)
{
  aiinfra_embed_opts opts = AIINFRA_EMBED_OPTS_INIT;
  aiinfra_batcher *batcher;
  aiinfra_request *request;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  aiinfra_kv *kv;
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  runner_say("model", aiinfra_model_open(rt, path, NULL, &model, &err), &err);
  runner_say("kv", aiinfra_kv_create(model, NULL, &kv, &err), &err);
  runner_say("batcher", aiinfra_batcher_create(model, kv, NULL, &batcher, &err), &err);
  opts.texts = texts;
  opts.n_texts = n;
  opts.normalize = normalize;
  memset(out, 0, sizeof *out);
  runner_say("embed", aiinfra_batcher_embed_texts(batcher, &opts, static_on_result, out, &request, &err), &err);
  (void)aiinfra_request_wait(request, 60000, &err);
  if (out->status != AIINFRA_OK) fail_msg("embed: %s", out->message);
  aiinfra_request_free(request);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
}

static inline double static_distance(const float *got, const json_t *wanted, size_t n)
{
  double off = 0, size = 0;
  assert_int_equal(json_array_size(wanted), n);
  for (size_t i = 0; i < n; i++) {
    double want = json_number_value(json_array_get(wanted, i));
    off += ((double)got[i] - want) * ((double)got[i] - want);
    size += want * want;
  }
  return sqrt(off / size);
}

/* ---- small models: folders from their descriptions ---- */

static inline void static_add_floats(hf_maker *m, const char *name, size_t rows, size_t width, float base, float spread)
{
  char shape[48];
  uint64_t state = golden_seed(name);
  float *values = malloc(rows * width * sizeof *values);
  for (size_t i = 0; i < rows * width; i++) values[i] = base + spread * gm_random(&state);
  snprintf(shape, sizeof shape, width > 1 ? "%zu,%zu" : "%zu", rows, width);
  hm_tensor(m, name, "F32", shape, values, rows * width * sizeof *values);
  free(values);
}

static inline void static_add_mapping(hf_maker *m, const json_t *mapping)
{
  char shape[24];
  int64_t rows[64];
  size_t i;
  json_t *row;
  json_array_foreach(mapping, i, row) rows[i] = json_integer_value(row);
  snprintf(shape, sizeof shape, "%zu", i);
  hm_tensor(m, "mapping", "I64", shape, rows, i * sizeof rows[0]);
}

static inline void static_write_json(const char *folder, const char *name, const json_t *value)
{
  char *text = json_dumps(value, JSON_COMPACT);
  hm_text(folder, name, text);
  free(text);
}

static inline const char *static_write(const json_t *golden)
{
  const char *folder = test_tmp("static");
  size_t n_vocab = (size_t)json_integer_value(json_object_get(golden, "n_vocab"));
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  (void)mkdir(folder, 0755);
  static_write_json(folder, "config.json", json_object_get(golden, "config"));
  static_write_json(folder, "tokenizer.json", json_object_get(golden, "tokenizer"));
  static_add_floats(&m, "embeddings", (size_t)json_integer_value(json_object_get(golden, "n_rows")), 6, 0, 1);
  if (json_is_true(json_object_get(golden, "weights"))) static_add_floats(&m, "weights", n_vocab, 1, 1, 0.5f);
  if (json_is_array(json_object_get(golden, "mapping"))) static_add_mapping(&m, json_object_get(golden, "mapping"));
  hm_weights(folder, "model.safetensors", &m);
  return folder;
}

#endif
