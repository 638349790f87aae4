/* test_model_load.c - which files become models, and what is said about those that do not. */
#include "tests/data/model_runner.h"

#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

#include "tests/data/gguf_maker.h"

static const gm_shape small = {.arch = "llama",
                               .n_vocab = 263,
                               .n_embd = 16,
                               .n_layers = 2,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 4,
                               .n_ff = 24,
                               .n_rot = 4,
                               .context = 32,
                               .seed = 1};

static aiinfra_runtime *rt;

/* Opens a file and, when it opens, runs one token through it. */
static aiinfra_status open_and_run(const char *path, const aiinfra_model_opts *opts, aiinfra_error *err)
{
  aiinfra_model *model = NULL;
  size_t before = rt->mem.used_bytes;
  aiinfra_status rc = aiinfra_model_open(rt, path, opts, &model, err);
  if (rc != AIINFRA_OK) {
    assert_null(model);
    assert_true(strlen(err->message) > 10);
    assert_int_equal(rt->mem.used_bytes, before);
    return rc;
  }
  aiinfra_model_free(model);
  assert_int_equal(rt->mem.used_bytes, before);
  if (opts != NULL && opts->vocab_only) return rc;
  runner r;
  aiinfra_token token = 1;
  runner_open(&r, path, NULL, 1, 16, AII_F16);
  float *logits = calloc(r.model->hp.n_vocab, sizeof *logits);
  runner_step(&r, &token, 1, 0, false, logits);
  for (uint32_t i = 0; i < r.model->hp.n_vocab; i++) assert_true(isfinite(logits[i]));
  free(logits);
  runner_close(&r);
  return rc;
}

static void test_malformed_files(void **state)
{
  (void)state;
  const char *manifest = test_data("malformed/gguf-synthetic/manifest.json"), *name;
  json_t *cases = manifest != NULL ? json_load_file(manifest, 0, NULL) : NULL, *one;
  if (cases == NULL) test_skip("malformed/gguf-synthetic is not here");
  json_object_foreach(cases, name, one)
  {
    char path[256];
    aiinfra_error err = {0};
    snprintf(path, sizeof path, "malformed/gguf-synthetic/%s", name);
    aiinfra_status rc = open_and_run(test_data(path), NULL, &err);
    const char *expect = json_string_value(json_object_get(one, "expect"));
    print_message("%-40s %-9s %s\n", name, expect, rc == AIINFRA_OK ? "opens" : strchr(err.message, ':') + 2);
    if (strcmp(expect, "accept") == 0) assert_int_equal(rc, AIINFRA_OK);
    if (strcmp(expect, "reject") == 0) {
      assert_true(rc == AIINFRA_EFORMAT || rc == AIINFRA_ENOTSUP || rc == AIINFRA_ENOMEM);
    }
  }
  json_decref(cases);
}

static void test_a_full_vocabulary_of_half_floats(void **state)
{
  (void)state;
  const char *path = test_data("models/tiny-random/llama-2-tiny-random.gguf");
  aiinfra_error err;
  if (path == NULL) test_skip("models/tiny-random is not here");
  assert_int_equal(open_and_run(path, NULL, &err), AIINFRA_OK);
}

static void test_real_vocabularies(void **state)
{
  (void)state;
  static const char *const names[] = {"llama-spm",    "phi-3",    "gpt-2",    "falcon",
                                      "deepseek-llm", "baichuan", "gpt-neox", "bert-bge"};
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_error err;
  char path[128];
  opts.vocab_only = 1;
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    snprintf(path, sizeof path, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf", names[i]);
    if (test_data(path) == NULL) test_skip("tokenizers/ggml-vocab is not here");
    assert_int_equal(open_and_run(test_data(path), &opts, &err), AIINFRA_OK);
  }
  assert_int_equal(open_and_run(test_data("tokenizers/ggml-vocab/ggml-vocab-falcon.gguf"), NULL, &err),
                   AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "architecture 'falcon' does not run in this version; these do: llama, mistral"));
}

/* ---- made files ---------------------------------------------------------------------------------------------- */

static void expect_made(uint8_t *bytes, size_t n, aiinfra_status status, const char *message)
{
  aiinfra_error err = {0};
  const char *path = test_tmp("made.gguf");
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  aiinfra_status rc = open_and_run(path, NULL, &err);
  if (rc != status || (message != NULL && strstr(err.message, message) == NULL)) {
    fail_msg("expected %s '%s', got %s '%s'", aiinfra_status_name(status), message != NULL ? message : "",
             aiinfra_status_name(rc), err.message);
  }
}

static void expect_shape(gm_shape s, aiinfra_status status, const char *message)
{
  size_t n;
  uint8_t *bytes = gm_model(&s, &n);
  expect_made(bytes, n, status, message);
}

static void test_shapes(void **state)
{
  (void)state;
  gm_shape s;
  expect_shape(small, AIINFRA_OK, NULL);
  s = small, s.arch = "mamba";
  expect_shape(s, AIINFRA_ENOTSUP, "architecture 'mamba'");
  s = small, s.n_kv_heads = 3;
  expect_shape(s, AIINFRA_EFORMAT, "do not divide evenly");
  s = small, s.n_rot = 3;
  expect_shape(s, AIINFRA_EFORMAT, "must be even");
  s = small, s.n_rot = 6;
  expect_shape(s, AIINFRA_EFORMAT, "a head of 4");
  s = small, s.arch = "qwen2";
  expect_shape(s, AIINFRA_EFORMAT, "tensor 'blk.0.attn_q.bias' is missing");
  s = small, s.qk_norm = true;
  expect_shape(s, AIINFRA_ENOTSUP, "is not one that architecture 'llama' has");
  s = small, s.linear_factor = INFINITY;
  expect_shape(s, AIINFRA_EFORMAT, "rope.scaling.factor");
}

/* The file with an extra or another key in front; later duplicates are left out by renaming what the shape makes. */
static void expect_key(void (*add)(gguf_maker *m), const char *instead_of, aiinfra_status status, const char *message)
{
  gguf_maker m;
  size_t n, len = strlen(instead_of);
  gm_init(&m);
  gm_model_keys(&m, &small);
  for (size_t i = 0; i + len < m.kvs.n && len > 0; i++) {
    if (memcmp(m.kvs.p + i, instead_of, len) == 0) m.kvs.p[i] = '~';
  }
  add(&m);
  uint8_t *bytes = gm_finish(&m, &n);
  expect_made(bytes, n, status, message);
}

static void nan_eps(gguf_maker *m)
{
  gm_key_f32(m, "llama.attention.layer_norm_rms_epsilon", NAN);
}

static void zero_base(gguf_maker *m)
{
  gm_key_f32(m, "llama.rope.freq_base", 0);
}

static void twisted(gguf_maker *m)
{
  gm_key_str(m, "llama.rope.scaling.type", "twisted");
}

static void experts(gguf_maker *m)
{
  gm_key_u32(m, "llama.expert_count", 8);
}

static void by_layer(gguf_maker *m)
{
  gm_key_array(m, "llama.feed_forward_length", 4, 2);
  gm_u32(&m->kvs, 24), gm_u32(&m->kvs, 32);
}

static void no_layers(gguf_maker *m)
{
  gm_key_u32(m, "llama.block_count", 0);
}

static void text_width(gguf_maker *m)
{
  gm_key_str(m, "llama.embedding_length", "16");
}

static void wide(gguf_maker *m)
{
  gm_key_u32(m, "llama.embedding_length", UINT32_MAX);
}

static void bos_outside(gguf_maker *m)
{
  gm_key_u32(m, "tokenizer.ggml.bos_token_id", 263);
}

static void other_tokenizer(gguf_maker *m)
{
  gm_key_str(m, "tokenizer.ggml.model", "plamo2");
}

static void short_scores(gguf_maker *m)
{
  gm_key_array(m, "tokenizer.ggml.scores", 6, 1);
  gm_u32(&m->kvs, 0);
}

static void nothing(gguf_maker *m)
{
  (void)m;
}

static void test_keys(void **state)
{
  (void)state;
  expect_key(nan_eps, "llama.attention.layer_norm", AIINFRA_EFORMAT, "must be a finite number above 0");
  expect_key(zero_base, "", AIINFRA_EFORMAT, "rope.freq_base");
  expect_key(twisted, "", AIINFRA_ENOTSUP, "RoPE scaling 'twisted'");
  expect_key(experts, "", AIINFRA_EFORMAT, "'llama.expert_used_count' is missing");
  expect_key(by_layer, "llama.feed_forward", AIINFRA_ENOTSUP, "differs between layers");
  expect_key(no_layers, "llama.block_count", AIINFRA_EFORMAT, "'llama.block_count' is 0");
  expect_key(text_width, "llama.embedding_length", AIINFRA_EFORMAT, "'llama.embedding_length' is no number");
  expect_key(wide, "llama.embedding_length", AIINFRA_EFORMAT, "it must be a number from 1 to");
  expect_key(nothing, "llama.context_length", AIINFRA_EFORMAT, "'llama.context_length' is missing");
  expect_key(nothing, "general.architecture", AIINFRA_EFORMAT, "'general.architecture' is missing");
  expect_key(nothing, "tokenizer.ggml.tokens", AIINFRA_EFORMAT, "'tokenizer.ggml.tokens' is missing");
  expect_key(bos_outside, "", AIINFRA_EFORMAT, "the vocabulary has 263 tokens");
  expect_key(other_tokenizer, "tokenizer.ggml.model", AIINFRA_ENOTSUP, "tokenizer 'plamo2'");
  expect_key(short_scores, "tokenizer.ggml.scores", AIINFRA_EFORMAT, "one number for each of 263 tokens");
  expect_key(nothing, "", AIINFRA_EFORMAT, "the file has only 0 tensors");
}

/* A file of holes, larger than any memory: refused by its directory alone. */
static void test_does_not_fit_in_memory(void **state)
{
  (void)state;
  enum { LAYERS = 8 };
  const uint64_t width = 4096, ff = 1 << 24;
  gm_shape s = small;
  gguf_maker m;
  uint64_t r = 1, offset = 0;
  s.n_embd = (uint32_t)width, s.n_ff = 1 << 24, s.n_layers = LAYERS, s.head_dim = 4;
  gm_init(&m);
  gm_model_keys(&m, &s);
  gm_random_tensor(&m, "token_embd.weight", s.n_embd, s.n_vocab, 0, 1, &r);
  gm_random_tensor(&m, "output_norm.weight", s.n_embd, 1, 1, 0, &r);
  const struct {
    const char *name;
    uint64_t n_in, n_out;
  } tensors[] = {{"attn_norm.weight", width, 1}, {"attn_q.weight", width, 16},      {"attn_k.weight", width, 8},
                 {"attn_v.weight", width, 8},    {"attn_output.weight", 16, width}, {"ffn_norm.weight", width, 1},
                 {"ffn_gate.weight", width, ff}, {"ffn_up.weight", width, ff},      {"ffn_down.weight", ff, width}};
  gm_pad(&m.data, 32);
  offset = m.data.n;
  for (uint32_t l = 0; l < LAYERS; l++) {
    for (size_t t = 0; t < AII_COUNT(tensors); t++) {
      char name[64];
      uint64_t ne[2] = {tensors[t].n_in, tensors[t].n_out};
      snprintf(name, sizeof name, "blk.%u.%s", l, tensors[t].name);
      gm_info(&m, name, 0, 2, ne, offset);
      offset += ne[0] * ne[1] * 4;
    }
  }
  size_t n, data = m.data.n;
  uint8_t *bytes = gm_finish(&m, &n);
  const char *path = test_tmp("huge.gguf");
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  off_t size = (off_t)(n - data + offset);
  if (truncate(path, size) != 0) test_skip("this file system has no files of %lld bytes", (long long)size);
  aiinfra_model *model;
  aiinfra_error err;
  aiinfra_status rc = aiinfra_model_open(rt, path, NULL, &model, &err);
  print_message("%s\n", err.message);
  assert_int_equal(rc, AIINFRA_ENOMEM);
  assert_null(model);
  (void)unlink(path);
}

/* ---- options ------------------------------------------------------------------------------------------------- */

static int count_progress(void *user, double fraction)
{
  double *last = user;
  assert_true(fraction > *last && fraction <= 1);
  *last = fraction;
  return 0;
}

static int cancel_half_way(void *user, double fraction)
{
  (void)user;
  return fraction > 0.5;
}

static void test_options(void **state)
{
  (void)state;
  size_t n;
  uint8_t *bytes = gm_model(&small, &n);
  const char *path = test_tmp("options.gguf");
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  aiinfra_model *model;
  aiinfra_error err;
  double last = 0;
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  opts.progress = count_progress, opts.progress_user = &last, opts.max_context = 20;
  assert_int_equal(aiinfra_model_open(rt, path, &opts, &model, &err), AIINFRA_OK);
  assert_true(last == 1.0);
  assert_int_equal(model->max_context, 20);
  aiinfra_model_free(model);
  opts.max_context = 33;
  assert_int_equal(aiinfra_model_open(rt, path, &opts, &model, &err), AIINFRA_EINVAL);
  opts.max_context = 0, opts.progress = cancel_half_way;
  assert_int_equal(aiinfra_model_open(rt, path, &opts, &model, &err), AIINFRA_ECANCELED);
  assert_null(model);
  opts.progress = NULL, opts.vocab_only = 2;
  assert_int_equal(aiinfra_model_open(rt, path, &opts, &model, &err), AIINFRA_EINVAL);
}

/* ---- memory that runs out -------------------------------------------------------------------------------------- */

static long calls, fail_at;

static void *fail_alloc(void *user, size_t size)
{
  (void)user;
  return ++calls == fail_at ? NULL : malloc(size);
}

static void *fail_resize(void *user, void *ptr, size_t size)
{
  (void)user;
  return ++calls == fail_at ? NULL : realloc(ptr, size);
}

static void fail_release(void *user, void *ptr)
{
  (void)user;
  free(ptr);
}

/* Opens, makes a cache and a workspace, runs a token, describes; frees it all. */
static aiinfra_status whole_life(aiinfra_runtime *own, const char *path, aiinfra_error *err)
{
  aiinfra_model *model = NULL;
  aii_workspace *ws = NULL;
  char *json = NULL;
  aiinfra_status rc = aiinfra_model_open(own, path, NULL, &model, err);
  if (rc == AIINFRA_OK) rc = aii_workspace_create(model, 4, 4, &ws, err);
  if (rc == AIINFRA_OK) rc = aiinfra_model_describe(model, &json, err);
  if (rc == AIINFRA_OK) {
    aiinfra_token tokens[32];
    size_t n;
    rc = aiinfra_model_tokenize(model, "hello", 5, AIINFRA_TOKENIZE_BOS, tokens, 32, &n, err);
  }
  aiinfra_string_free(json);
  aii_workspace_free(ws);
  aiinfra_model_free(model);
  return rc;
}

static void test_every_allocation_fails_once(void **state)
{
  (void)state;
  size_t n;
  uint8_t *bytes = gm_model(&small, &n);
  const char *path = test_tmp("torture.gguf");
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  const aiinfra_allocator hooks = {fail_alloc, fail_resize, fail_release, NULL};
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_runtime *own;
  aiinfra_error err = {0};
  opts.allocator = &hooks;
  fail_at = 0;
  assert_int_equal(aiinfra_runtime_create(&opts, &own, &err), AIINFRA_OK);
  size_t before = own->mem.used_bytes;
  calls = 0;
  assert_int_equal(whole_life(own, path, &err), AIINFRA_OK);
  long total = calls;
  for (long i = 1; i <= total; i++) {
    calls = 0, fail_at = i;
    aiinfra_status rc = whole_life(own, path, &err);
    if (rc != AIINFRA_ENOMEM) fail_msg("allocation %ld of %ld failed: %s", i, total, aiinfra_status_name(rc));
    assert_int_equal(own->mem.used_bytes, before);
  }
  fail_at = 0;
  print_message("%ld allocations\n", total);
  aiinfra_runtime_free(own);
}

static int setup(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, NULL) != AIINFRA_OK;
}

static int teardown(void **state)
{
  (void)state;
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_malformed_files),
                                     cmocka_unit_test(test_a_full_vocabulary_of_half_floats),
                                     cmocka_unit_test(test_real_vocabularies),
                                     cmocka_unit_test(test_shapes),
                                     cmocka_unit_test(test_keys),
                                     cmocka_unit_test(test_does_not_fit_in_memory),
                                     cmocka_unit_test(test_options),
                                     cmocka_unit_test(test_every_allocation_fails_once)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
