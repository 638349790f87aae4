/* test_architectures.c - every architecture's logits against what Hugging Face transformers computed.
 *
 * tests/data/architectures/ has a file for each small model: its keys, the names and shapes of its tensors, a prompt, the
 * tokens that greedy decoding chose, and a few logits. Weights are a formula of a tensor's name, shared with
 * tests/reference/models.py, which wrote the files (`make reference`). And each model gives the same bits whatever runs
 * beside it.
 */
#include "tests/data/golden_model.h"

#include <dirent.h>

#include "src/kv/kv.h"

enum { MAX_CASES = 64, N_VOCAB = GOLDEN_VOCAB, MAX_TOKENS = GOLDEN_MAX_TOKENS };

static char *names[MAX_CASES];
static size_t n_cases;

static double error_of(const json_t *golden, const float *logits)
{
  double off = 0, size = 0;
  size_t i, j;
  json_t *row, *id;
  json_array_foreach(json_object_get(golden, "logits"), i, row)
  {
    size_t at = (size_t)json_integer_value(json_array_get(row, 0)) * N_VOCAB;
    json_array_foreach(json_array_get(row, 1), j, id)
    {
      double want = json_number_value(json_array_get(json_array_get(row, 2), j));
      double got = (double)logits[at + (size_t)json_integer_value(id)];
      off += (got - want) * (got - want);
      size += want * want;
    }
  }
  return sqrt(off / size);
}

static aiinfra_token largest(const float *x)
{
  aiinfra_token best = 0;
  for (aiinfra_token i = 1; i < N_VOCAB; i++) best = x[i] > x[best] ? i : best;
  return best;
}

static void test_logits_of_transformers(void **state)
{
  (void)state;
  static float logits[MAX_TOKENS * N_VOCAB];
  for (size_t i = 0; i < n_cases; i++) {
    json_t *golden = golden_load("architectures", names[i]);
    aiinfra_token tokens[MAX_TOKENS];
    uint32_t n = golden_tokens(golden, tokens),
             n_prompt = (uint32_t)json_integer_value(json_object_get(golden, "n_prompt"));
    runner r;
    runner_open(&r, golden_write(golden), NULL, n_prompt, 16, AII_F32);
    runner_step(&r, tokens, n_prompt, 0, true, logits);
    for (uint32_t t = n_prompt; t < n; t++) {
      aiinfra_token chosen = largest(logits + (size_t)(t - 1) * N_VOCAB);
      if (chosen != tokens[t]) fail_msg("%s: token %u is %d, should be %d", names[i], t, chosen, tokens[t]);
      runner_step(&r, &chosen, 1, t, true, logits + (size_t)t * N_VOCAB);
    }
    double error = error_of(golden, logits);
    print_message("%-24s relative error %.1e\n", names[i], error);
    if (!(error <= 1e-5)) fail_msg("%s: relative error %.2g", names[i], error);
    runner_close(&r);
    json_decref(golden);
  }
}

/* The logits of the last of n tokens, which go in by `chunk`, on so many threads. */
static void last_logits(const char *path, int32_t threads, uint32_t chunk, uint32_t block, const aiinfra_token *tokens,
                        uint32_t n, float *logits)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  runner r;
  opts.n_threads = threads;
  runner_open(&r, path, &opts, n, block, AII_F32);
  for (uint32_t at = 0; at < n; at += chunk) runner_step(&r, tokens + at, AII_MIN(chunk, n - at), at, false, logits);
  runner_close(&r);
}

static void test_same_bits_however_computed(void **state)
{
  (void)state;
  static float want[N_VOCAB], got[N_VOCAB];
  for (size_t i = 0; i < n_cases; i++) {
    json_t *golden = golden_load("architectures", names[i]);
    aiinfra_token tokens[MAX_TOKENS];
    uint32_t n = AII_MIN(golden_tokens(golden, tokens), 40u);
    const char *path = golden_write(golden);
    last_logits(path, 1, n, 16, tokens, n, want);
    last_logits(path, 3, n, 4, tokens, n, got);
    assert_memory_equal(got, want, sizeof got);
    last_logits(path, 2, 7, 8, tokens, n, got);
    assert_memory_equal(got, want, sizeof got);
    last_logits(path, 1, 1, 32, tokens, n, got);
    assert_memory_equal(got, want, sizeof got);
    json_decref(golden);
  }
}

/* In a cache of the kind that the batcher uses, whose keys and values may differ in size. */
static void test_in_a_public_cache(void **state)
{
  (void)state;
  static float want[N_VOCAB], got[N_VOCAB];
  for (size_t i = 0; i < n_cases; i++) {
    json_t *golden = golden_load("architectures", names[i]);
    aiinfra_token tokens[MAX_TOKENS];
    uint32_t n = AII_MIN(golden_tokens(golden, tokens), 40u);
    aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
    aiinfra_error err;
    aiinfra_kv *kv;
    runner r;
    opts.dtype = AIINFRA_DTYPE_F32;
    runner_open(&r, golden_write(golden), NULL, n, 16, AII_F32);
    runner_step(&r, tokens, n, 0, false, want);
    runner_say("cache", aiinfra_kv_create(r.model, &opts, &kv, &err), &err);
    aii_kv_view own = r.kv;
    r.kv = kv->view;
    runner_step(&r, tokens, n, 0, false, got);
    assert_memory_equal(got, want, sizeof got);
    r.kv = own;
    aiinfra_kv_free(kv);
    runner_close(&r);
    json_decref(golden);
  }
}

/* Each tensor is needed: without it the model is refused, by a message that names it. */
static void test_missing_tensors(void **state)
{
  (void)state;
  aiinfra_runtime *rt;
  assert_int_equal(aiinfra_runtime_create(NULL, &rt, NULL), AIINFRA_OK);
  for (size_t i = 0; i < n_cases; i++) {
    json_t *golden = golden_load("architectures", names[i]), *tensors = json_object_get(golden, "tensors");
    for (size_t t = 0; t < json_array_size(tensors); t++) {
      json_t *spec = json_incref(json_array_get(tensors, t));
      const char *name = json_string_value(json_array_get(spec, 0));
      bool optional = strcmp(name, "output.weight") == 0 || strncmp(name, "rope_", 5) == 0 ||
                      strstr(name, "exp_probs_b") != NULL ||
                      (strncmp(names[i], "llama", 5) == 0 && strstr(name, ".bias") != NULL);
      json_array_remove(tensors, t);
      aiinfra_model *model;
      aiinfra_error err = {0};
      aiinfra_status rc = aiinfra_model_open(rt, golden_write(golden), NULL, &model, &err);
      if (!optional && (rc != AIINFRA_EFORMAT || strstr(err.message, name) == NULL))
        fail_msg("%s without %s: %s '%s'", names[i], name, aiinfra_status_name(rc), err.message);
      aiinfra_model_free(model);
      json_array_insert_new(tensors, t, spec);
    }
    json_decref(golden);
  }
  aiinfra_runtime_free(rt);
}

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits_of_transformers),
                                     cmocka_unit_test(test_same_bits_however_computed),
                                     cmocka_unit_test(test_in_a_public_cache), cmocka_unit_test(test_missing_tensors)};
  DIR *dir = opendir(test_path("tests/data/architectures"));
  if (dir == NULL) return 1;
  for (struct dirent *e; (e = readdir(dir)) != NULL && n_cases < MAX_CASES;)
    if (strstr(e->d_name, ".json") != NULL) names[n_cases++] = strdup(e->d_name);
  closedir(dir);
  qsort(names, n_cases, sizeof names[0], by_name);
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  for (size_t i = 0; i < n_cases; i++) free(names[i]);
  return failed;
}
