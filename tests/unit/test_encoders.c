/* test_encoders.c - the hidden states of encoders against what Hugging Face transformers computed.
 *
 * tests/data/encoders/ has a file for each small model: its keys, the names and shapes of its tensors, tokens, and the
 * last hidden states of a few of them. Weights are a formula of a tensor's name, shared with
 * tests/reference/encoders.py, which wrote the files. And each text gives the same bits whatever runs beside it.
 */
#include "tests/data/model_runner.h"

#include <jansson.h>

#include "aiinfra/batcher.h"
#include "aiinfra/eval.h"
#include "tests/data/gguf_maker.h"

enum { N_VOCAB = 263, WIDTH = 32, MAX_TOKENS = 128 };

static void add_key(gguf_maker *m, const char *key, const json_t *value)
{
  switch (json_typeof(value)) {
    case JSON_STRING: gm_key_str(m, key, json_string_value(value)); break;
    case JSON_INTEGER: gm_key_u32(m, key, (uint32_t)json_integer_value(value)); break;
    case JSON_REAL: gm_key_f32(m, key, (float)json_real_value(value)); break;
    default: gm_key_bool(m, key, json_is_true(value)); break;
  }
}

/* [name, [ne...], base, spread] */
static void add_tensor(gguf_maker *m, const json_t *spec)
{
  const char *name = json_string_value(json_array_get(spec, 0));
  const json_t *ne = json_array_get(spec, 1);
  uint64_t state = 0xcbf29ce484222325u;
  for (const char *c = name; *c != '\0'; c++) state = (state ^ (unsigned char)*c) * 0x100000001b3u;
  gm_random_tensor(m, name, (uint32_t)json_integer_value(json_array_get(ne, 0)),
                   json_array_size(ne) > 1 ? (uint32_t)json_integer_value(json_array_get(ne, 1)) : 1,
                   (float)json_number_value(json_array_get(spec, 2)), (float)json_number_value(json_array_get(spec, 3)),
                   &state);
}

static json_t *load(const char *name)
{
  char path[256];
  json_error_t error;
  snprintf(path, sizeof path, "tests/data/encoders/%s.json", name);
  json_t *golden = json_load_file(path, 0, &error);
  if (golden == NULL) fail_msg("%s: %s", path, error.text);
  return golden;
}

static const char *write_model(const json_t *golden)
{
  gguf_maker m;
  const char *key, *path = test_tmp("encoder.gguf");
  json_t *value;
  size_t i, n;
  gm_init(&m);
  json_object_foreach(json_object_get(golden, "keys"), key, value) add_key(&m, key, value);
  gm_vocab(&m, N_VOCAB);
  json_array_foreach(json_object_get(golden, "tensors"), i, value) add_tensor(&m, value);
  uint8_t *bytes = gm_finish(&m, &n);
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  return path;
}

/* The hidden states of the golden text, and of its first n_second tokens as a second sequence of the same pass. */
static void hidden_states(runner *r, const aiinfra_token *tokens, uint32_t n, uint32_t n_second, float *out)
{
  uint32_t pos[2 * MAX_TOKENS], seq[2 * MAX_TOKENS], rows[2 * MAX_TOKENS], total = n + n_second;
  aiinfra_token all[2 * MAX_TOKENS];
  uint32_t *second = calloc(r->kv.n_blocks, sizeof *second);
  const uint32_t *tables[2] = {r->table, second};
  uint32_t used = (n + r->kv.block_tokens - 1) / r->kv.block_tokens;
  for (uint32_t b = used; b < r->kv.n_blocks; b++) second[b - used] = r->table[b];
  for (uint32_t i = 0; i < total; i++) {
    pos[i] = i < n ? i : i - n;
    seq[i] = i >= n;
    rows[i] = i;
    all[i] = tokens[pos[i]];
  }
  aii_forward pass = {.rows = {.n_rows = total, .n_seqs = 2, .tokens = all, .seq = seq, .pos = pos, .tables = tables},
                      .n_hidden = total,
                      .hidden_rows = rows,
                      .hidden = out};
  aiinfra_error err;
  runner_say("forward", aii_model_forward(r->model, r->ws, &r->kv, &pass, &err), &err);
  free(second);
}

static void check(const char *name, const aiinfra_runtime_opts *opts, uint32_t block_tokens)
{
  static float hidden[2 * MAX_TOKENS * WIDTH], again[2 * MAX_TOKENS * WIDTH];
  json_t *golden = load(name), *row, *list = json_object_get(golden, "tokens");
  aiinfra_token tokens[MAX_TOKENS];
  uint32_t n = (uint32_t)json_array_size(list);
  const char *key;
  double off = 0, size = 0;
  runner r;
  for (uint32_t i = 0; i < n; i++) tokens[i] = (aiinfra_token)json_integer_value(json_array_get(list, i));
  runner_open(&r, write_model(golden), opts, 2 * MAX_TOKENS, block_tokens, AII_F32);
  hidden_states(&r, tokens, n, 0, hidden);
  json_object_foreach(json_object_get(golden, "rows"), key, row)
  {
    const float *got = hidden + strtoul(key, NULL, 10) * WIDTH;
    for (uint32_t i = 0; i < WIDTH; i++) {
      double want = json_number_value(json_array_get(row, i));
      off += ((double)got[i] - want) * ((double)got[i] - want);
      size += want * want;
    }
  }
  print_message("%s: %.1e\n", name, sqrt(off / size));
  assert_true(sqrt(off / size) < 2e-6);
  hidden_states(&r, tokens, n, 30, again);
  assert_memory_equal(again, hidden, n * WIDTH * sizeof(float));
  hidden_states(&r, tokens, 30, 0, hidden);
  assert_memory_equal(again + n * WIDTH, hidden, 30 * WIDTH * sizeof(float));
  runner_close(&r);
  json_decref(golden);
}

static void test_hidden_states(void **state)
{
  (void)state;
  static const char *const names[] = {"bert",        "xlm-roberta",  "nomic-bert",
                                      "modern-bert", "jina-bert-v2", "jina-bert-v2-fused"};
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
    check(names[i], NULL, 16);
    opts.n_threads = 1;
    opts.isa = AIINFRA_ISA_REF;
    check(names[i], &opts, 4);
  }
}

/* ---- through the front door ----------------------------------------------------------------------------------------- */

typedef struct vectors {
  float v[16][WIDTH];
  aiinfra_status status;
  char message[AIINFRA_ERROR_MESSAGE_MAX];
} vectors;

static void on_result(void *user, aiinfra_status status, const aiinfra_embed_result *result)
{
  vectors *out = user;
  out->status = status;
  if (status == AIINFRA_OK) memcpy(out->v, result->vectors, result->n_texts * sizeof out->v[0]);
  else memcpy(out->message, result->error->message, sizeof out->message);
}

static void embed(aiinfra_batcher *batcher, const char *const *texts, size_t n, int32_t priority, vectors *out)
{
  aiinfra_embed_opts opts = AIINFRA_EMBED_OPTS_INIT;
  aiinfra_request *request;
  aiinfra_error err;
  opts.texts = texts;
  opts.n_texts = n;
  opts.priority = priority;
  runner_say("embed", aiinfra_batcher_embed_texts(batcher, &opts, on_result, out, &request, &err), &err);
  (void)aiinfra_request_wait(request, 60000, &err);
  aiinfra_request_free(request);
}

static void test_batcher(void **state)
{
  (void)state;
  static const char *const texts[8] = {"one", "a longer text of some words", "",     "two", "the dog and the cat sat",
                                       "x",   "a longer text of some words", "three"};
  static vectors together, alone;
  json_t *golden = load("bert");
  aiinfra_batcher_opts opts = AIINFRA_BATCHER_OPTS_INIT;
  aiinfra_generate_opts ask = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_error err;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
  aiinfra_eval *eval;
  opts.max_running = 4;
  opts.max_step_tokens = 40; /* no two long texts in one step */
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  runner_say("model", aiinfra_model_open(rt, write_model(golden), NULL, &model, &err), &err);
  runner_say("kv", aiinfra_kv_create(model, NULL, &kv, &err), &err);
  runner_say("batcher", aiinfra_batcher_create(model, kv, &opts, &batcher, &err), &err);
  embed(batcher, texts, 8, 0, &together);
  assert_int_equal(together.status, AIINFRA_OK);
  for (int i = 0; i < 8; i++) {
    embed(batcher, texts + i, 1, 0, &alone);
    assert_memory_equal(alone.v[0], together.v[i], sizeof alone.v[0]);
  }
  assert_memory_not_equal(together.v[0], together.v[3], sizeof alone.v[0]); /* the first token knows the others */
  static const char *const too_long[1] = {"a text that is longer than one step of forty tokens has room for"};
  aiinfra_embed_opts refused = AIINFRA_EMBED_OPTS_INIT;
  refused.texts = too_long;
  refused.n_texts = 1;
  assert_int_equal(aiinfra_batcher_embed_texts(batcher, &refused, NULL, NULL, NULL, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "max_step_tokens"));
  ask.text = "x";
  assert_int_equal(aiinfra_batcher_generate(batcher, &ask, NULL, NULL, NULL, NULL, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "encoder"));
  assert_int_equal(aiinfra_eval_create(model, NULL, &eval, &err), AIINFRA_ENOTSUP);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  json_decref(golden);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_hidden_states), cmocka_unit_test(test_batcher)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
