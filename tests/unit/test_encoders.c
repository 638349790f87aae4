/* test_encoders.c - the hidden states of encoders against what Hugging Face transformers computed.
 *
 * tests/data/encoders/ has a file for each small model: its keys, the names and shapes of its tensors, tokens, and the
 * last hidden states of a few of them; tests/data/rerankers/ has the logits of pairs. Weights are a formula of a tensor's
 * name, shared with tests/reference/encoders.py, which wrote the files. And each text gives the same bits whatever runs beside it.
 */
#include "tests/data/golden_model.h"

#include "aiinfra/batcher.h"
#include "aiinfra/eval.h"

enum { WIDTH = 32, MAX_TOKENS = GOLDEN_MAX_TOKENS };

static void check(const char *name, const aiinfra_runtime_opts *opts, uint32_t block_tokens)
{
  static float hidden[2 * MAX_TOKENS * WIDTH], again[2 * MAX_TOKENS * WIDTH];
  json_t *golden = golden_load("encoders", name);
  aiinfra_token tokens[MAX_TOKENS];
  uint32_t n = golden_tokens(golden, tokens);
  runner r;
  runner_open(&r, golden_write(golden), opts, 2 * MAX_TOKENS, block_tokens, AII_F32);
  runner_hidden(&r, tokens, n, 0, hidden);
  double error = golden_error(golden, hidden, WIDTH);
  print_message("%s: %.1e\n", name, error);
  assert_true(error < 2e-6);
  runner_hidden(&r, tokens, n, 30, again);
  assert_memory_equal(again, hidden, n * WIDTH * sizeof(float));
  runner_hidden(&r, tokens, 30, 0, hidden);
  assert_memory_equal(again + n * WIDTH, hidden, 30 * WIDTH * sizeof(float));
  runner_close(&r);
  json_decref(golden);
}

static void test_hidden_states(void **state)
{
  (void)state;
  static const char *const names[] = {
      "bert.json",         "xlm-roberta.json",        "nomic-bert.json",       "modern-bert.json",
      "jina-bert-v2.json", "jina-bert-v2-fused.json", "jina-bert-v2-code.json"};
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

static void on_scores(void *user, aiinfra_status status, const aiinfra_rerank_result *result)
{
  const json_t *golden = user, *wanted = json_object_get(golden, "scores");
  if (status != AIINFRA_OK) fail_msg("rerank: %s", result->error->message);
  assert_int_equal(result->total_tokens, json_integer_value(json_object_get(golden, "n_tokens")));
  for (size_t i = 0; i < result->n_documents; i++) {
    double off = (double)result->scores[i] - json_number_value(json_array_get(wanted, i));
    if (!(fabs(off) < 1e-5)) fail_msg("document %zu: the score is off by %g", i, off);
  }
}

/* The logits that transformers gives to pairs, whatever else is in the step. */
static void check_reranker(const char *name)
{
  const char *documents[8];
  json_t *golden = golden_load("rerankers", name), *list = json_object_get(golden, "documents"), *document;
  aiinfra_rerank_opts opts = AIINFRA_RERANK_OPTS_INIT;
  aiinfra_batcher *batcher;
  aiinfra_request *request;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  aiinfra_kv *kv;
  size_t i;
  print_message("%s\n", name);
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  runner_say("model", aiinfra_model_open(rt, golden_write(golden), NULL, &model, &err), &err);
  runner_say("kv", aiinfra_kv_create(model, NULL, &kv, &err), &err);
  runner_say("batcher", aiinfra_batcher_create(model, kv, NULL, &batcher, &err), &err);
  json_array_foreach(list, i, document) documents[i] = json_string_value(document);
  opts.query = json_string_value(json_object_get(golden, "query"));
  opts.documents = documents;
  opts.n_documents = json_array_size(list);
  opts.raw_scores = 1;
  runner_say("rerank", aiinfra_batcher_rerank(batcher, &opts, on_scores, golden, &request, &err), &err);
  runner_say("rerank", aiinfra_request_wait(request, 60000, &err), &err);
  aiinfra_request_free(request);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  json_decref(golden);
}

static void test_rerankers(void **state)
{
  (void)state;
  check_reranker("bert.json");
  check_reranker("modern-bert-mean.json");
  check_reranker("modern-bert-cls.json");
}

static void test_batcher(void **state)
{
  (void)state;
  static const char *const texts[8] = {"one", "a longer text of some words", "",     "two", "the dog and the cat sat",
                                       "x",   "a longer text of some words", "three"};
  static vectors together, alone;
  json_t *golden = golden_load("encoders", "bert.json");
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
  runner_say("model", aiinfra_model_open(rt, golden_write(golden), NULL, &model, &err), &err);
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_hidden_states), cmocka_unit_test(test_rerankers),
                                     cmocka_unit_test(test_batcher)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
