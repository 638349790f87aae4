/* test_model_convert.c - models that were converted: they run, and score as they should; conversion can be stopped. */
#include "tests/data/model_runner.h"

#include "src/model/arch.h"

enum { WINDOW = 256, STORIES = 300, STEPS = 60 };

static aiinfra_runtime *runtime;

static aiinfra_status convert(const char *in, const char *tokenizer, const char *type, const char *out,
                              aiinfra_error *err)
{
  aiinfra_convert_opts opts = AIINFRA_CONVERT_OPTS_INIT;
  opts.tokenizer = tokenizer;
  opts.type = type;
  return aiinfra_convert(runtime, in, out, &opts, err);
}

static void convert_file(const char *in, const char *type, const char *out)
{
  aiinfra_error err;
  runner_say("convert", convert(in, NULL, type, out, &err), &err);
}

/* The converted checkpoint and the official file of the same model give the same logits, bit for bit. */
static void test_equals_the_official_file(void **state)
{
  (void)state;
  const char *in = test_data("models/stories260K/stories260K.bin"), *out = test_tmp("stories.gguf");
  if (in == NULL) test_skip("models/stories260K is not here");
  convert_file(in, NULL, out);
  runner a, b;
  runner_open(&a, test_data("models/stories260K/stories260K.gguf"), NULL, 64, 16, AII_F32);
  runner_open(&b, out, NULL, 64, 16, AII_F32);
  static const char text[] = "Once upon a time, there was a little girl named Lily.";
  aiinfra_token x[64], y[64];
  size_t n, m;
  assert_int_equal(aiinfra_model_tokenize(a.model, text, sizeof text - 1, 2, x, 64, &n, NULL), AIINFRA_OK);
  assert_int_equal(aiinfra_model_tokenize(b.model, text, sizeof text - 1, 2, y, 64, &m, NULL), AIINFRA_OK);
  assert_int_equal(n, m);
  assert_memory_equal(x, y, n * sizeof x[0]);
  float *p = calloc(64 * 512, sizeof *p), *q = calloc(64 * 512, sizeof *q);
  runner_step(&a, x, (uint32_t)n, 0, true, p);
  runner_step(&b, x, (uint32_t)n, 0, true, q);
  assert_memory_equal(p, q, n * 512 * sizeof *p);
  free(p);
  free(q);
  runner_close(&a);
  runner_close(&b);
}

static const char *babyllama(void)
{
  const char *in = test_data("models/babyllama-tok105/model5000.bin"), *out = test_tmp("babyllama.gguf");
  if (in == NULL) return NULL;
  convert_file(in, NULL, out);
  return out;
}

static void test_babyllama_talks(void **state)
{
  (void)state;
  const char *path = babyllama();
  if (path == NULL) test_skip("models/babyllama-tok105 is not here");
  runner r;
  runner_open(&r, path, NULL, 64, 16, AII_F32);
  static const char text[] = "Once upon a time";
  aiinfra_token tokens[64 + STEPS];
  size_t n;
  assert_int_equal(aiinfra_model_tokenize(r.model, text, sizeof text - 1, 2, tokens, 64, &n, NULL), AIINFRA_OK);
  float *logits = calloc(r.model->hp.n_vocab, sizeof *logits);
  aii_sampling how = {.temperature = 0};
  aii_sampler *sampler;
  assert_int_equal(aii_sampler_create(&r.rt->mem, &how, r.model->hp.n_vocab, &sampler, NULL), AIINFRA_OK);
  runner_step(&r, tokens, (uint32_t)n, 0, false, logits);
  for (uint32_t i = 0; i < STEPS; i++, n++) {
    tokens[n] = aii_sampler_pick(sampler, logits);
    runner_step(&r, &tokens[n], 1, (uint32_t)n, false, logits);
  }
  char *out;
  assert_int_equal(aiinfra_model_detokenize(r.model, tokens, n, 0, &out, NULL, NULL), AIINFRA_OK);
  print_message("%s\n", out);
  assert_memory_equal(out, "Once upon a time, there was a little girl named Lily.", 53);
  aiinfra_string_free(out);
  aii_sampler_free(sampler);
  free(logits);
  runner_close(&r);
}

static void test_babyllama_perplexity(void **state)
{
  (void)state;
  uint32_t scored;
  if (RUNNER_SLOW) test_skip("300 stories are too slow under a sanitizer");
  const char *path = babyllama();
  if (path == NULL) test_skip("models/babyllama-tok105 is not here");
  runner r;
  runner_open(&r, path, NULL, WINDOW, 16, AII_F32);
  double perplexity = runner_perplexity(&r, STORIES, WINDOW, &scored);
  runner_close(&r);
  if (scored == 0) test_skip("corpus/tinystories_v2_sample_2MiB.txt is not here");
  print_message("perplexity %.6f over %u tokens\n", perplexity, scored);
  assert_true(fabs(perplexity - 2.4541) < 0.00005);
}

/* Cut anywhere, or with any byte of its front flipped, a file is refused or converted; never more than that. */
static void test_damaged_files(void **state)
{
  (void)state;
  size_t n, m;
  char *model = test_read_file(test_data("models/stories260K/stories260K.bin"), &n);
  char *words = test_read_file(test_data("models/babyllama-tok105/tok105.model"), &m);
  if (model == NULL || words == NULL) test_skip("models/ is not here");
  const char *in = test_tmp("damaged.bin"), *tok = test_tmp("damaged.model"), *out = test_tmp("damaged.gguf");
  assert_int_equal(test_write_file(tok, words, m), 0);
  assert_int_equal(test_write_file(in, model, n - 1), 0);
  assert_int_equal(convert(in, tok, NULL, out, NULL), AIINFRA_EFORMAT);
  model[20] = 105; /* the vocabulary's size: then the file's own size is wrong */
  model[21] = 0;
  assert_int_equal(test_write_file(in, model, n), 0);
  assert_int_equal(convert(in, tok, NULL, out, NULL), AIINFRA_EFORMAT);
  free(model);
  model = test_read_file(test_data("models/babyllama-tok105/model5000.bin"), &n);
  assert_int_equal(test_write_file(in, model, n), 0);
  for (size_t i = 0; i < m; i += 29) {
    aiinfra_status rc;
    char was = words[i];
    words[i] = (char)(was ^ 0x81);
    assert_int_equal(test_write_file(tok, words, m), 0);
    rc = convert(in, tok, NULL, out, NULL);
    assert_true(rc == AIINFRA_OK || rc == AIINFRA_EFORMAT || rc == AIINFRA_ENOTSUP || rc == AIINFRA_ELIMIT);
    words[i] = was;
    assert_int_equal(test_write_file(tok, words, i), 0);
    assert_int_not_equal(convert(in, tok, NULL, out, NULL), AIINFRA_OK);
  }
  free(model);
  free(words);
}

/* A file of less bits, made from a file: its keys are the source's, and it says almost the same. */
static void test_quantises(void **state)
{
  (void)state;
  const char *in = test_data("models/stories260K/stories260K.gguf"), *out = test_tmp("stories_q8.gguf");
  static const aiinfra_token tokens[] = {1, 403, 407, 261, 378};
  float *p = calloc(2 * 512, sizeof *p), *q = p + 512, worst = 0;
  aiinfra_error err;
  if (in == NULL) test_skip("models/stories260K is not here");
  convert_file(in, "Q8_0", out);
  runner a, b;
  runner_open(&a, in, NULL, 8, 16, AII_F32);
  runner_open(&b, out, NULL, 8, 16, AII_F32);
  assert_int_equal(b.model->layers[0].q.type, AII_Q8_0);
  assert_int_equal(aii_gguf_n_kv(a.model->gguf) + 2,
                   aii_gguf_n_kv(b.model->gguf)); /* file_type, quantization_version */
  runner_step(&a, tokens, 5, 0, false, p);
  runner_step(&b, tokens, 5, 0, false, q);
  for (size_t i = 0; i < 512; i++) worst = fmaxf(worst, fabsf(p[i] - q[i]));
  assert_true(worst > 0 && worst < 0.5f);
  runner_close(&a);
  runner_close(&b);
  assert_int_equal(convert(in, NULL, "Q9", out, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "Q4_0"));
  free(p);
}

/* Quantised while opening, it is the same model as the file that was quantised before. */
static void test_loads_as_type(void **state)
{
  (void)state;
  const char *in = test_data("models/stories260K/stories260K.bin"), *out = test_tmp("stories_q4.gguf");
  static const aiinfra_token tokens[] = {1, 403, 407, 261, 378};
  float p[512], q[512];
  if (in == NULL) test_skip("models/stories260K is not here");
  convert_file(in, "Q4_0", out);
  runner file;
  runner_open(&file, out, NULL, 8, 16, AII_F32);
  runner_step(&file, tokens, 5, 0, false, p);
  runner_close(&file);
  runner_load_type = "q4_0";
  runner_open(&file, in, NULL, 8, 16, AII_F32);
  runner_load_type = NULL;
  runner_step(&file, tokens, 5, 0, false, q);
  runner_close(&file);
  assert_memory_equal(p, q, sizeof p);
}

typedef struct watcher {
  double last;
  int calls, stop_at;
} watcher;

static int watch(void *user, double fraction)
{
  watcher *w = user;
  assert_true(fraction >= w->last && fraction <= 1);
  w->last = fraction;
  return ++w->calls == w->stop_at;
}

/* Stopped at any moment, it leaves what was there; at the end it has told everything. */
static void test_cancel(void **state)
{
  (void)state;
  const char *in = test_data("models/stories260K/stories260K.gguf"), *out = test_tmp("cancelled.gguf");
  aiinfra_convert_opts opts = AIINFRA_CONVERT_OPTS_INIT;
  watcher w = {0, 0, 0};
  size_t n;
  if (in == NULL) test_skip("models/stories260K is not here");
  opts.progress = watch;
  opts.progress_user = &w;
  assert_int_equal(test_write_file(out, "old", 3), 0);
  for (w.stop_at = 1; w.stop_at < 30; w.stop_at += 7) {
    w.calls = 0, w.last = 0;
    assert_int_equal(aiinfra_convert(runtime, in, out, &opts, NULL), AIINFRA_ECANCELED);
    char *text = test_read_file(out, &n);
    assert_string_equal(text, "old");
    free(text);
  }
  w = (watcher){0, 0, 0};
  assert_int_equal(aiinfra_convert(runtime, in, out, &opts, NULL), AIINFRA_OK);
  assert_true(w.last == 1);
  w = (watcher){0, 0, 0};
  assert_int_equal(aiinfra_convert(runtime, out, out, &opts, NULL), AIINFRA_OK); /* onto itself */
}

/* Memory stays far below the model's size. */
static void test_memory(void **state)
{
  (void)state;
  const char *in = babyllama();
  if (in == NULL) test_skip("models/babyllama-tok105 is not here");
  size_t before = runtime->mem.used_bytes;
  runtime->mem.peak_bytes = before;
  convert_file(in, "F16", test_tmp("memory.gguf"));
  assert_int_equal(runtime->mem.used_bytes, before);
  assert_true(runtime->mem.peak_bytes - before < 2200000);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &runtime, NULL) == AIINFRA_OK ? 0 : -1;
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_runtime_free(runtime);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_equals_the_official_file),
      cmocka_unit_test(test_babyllama_talks),
      cmocka_unit_test(test_babyllama_perplexity),
      cmocka_unit_test(test_damaged_files),
      cmocka_unit_test(test_quantises),
      cmocka_unit_test(test_loads_as_type),
      cmocka_unit_test(test_cancel),
      cmocka_unit_test(test_memory),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
