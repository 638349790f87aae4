/* test_model_convert.c - llama2.c checkpoints that our own command converted: they run, and score as they should. */
#include "tests/data/model_runner.h"

#include "examples/aiinfra/convert.c"

enum { WINDOW = 256, STORIES = 300, STEPS = 60 };

static void convert_file(const char *in, const char *tok, const char *out)
{
  char *argv[] = {"convert", (char *)(uintptr_t)in, "--tokenizer", (char *)(uintptr_t)tok, (char *)(uintptr_t)out};
  assert_int_equal(cmd_convert(5, argv), 0);
}

/* The converted checkpoint and the official file of the same model give the same logits, bit for bit. */
static void test_equals_the_official_file(void **state)
{
  (void)state;
  const char *in = test_data("models/stories260K/stories260K.bin"), *out = test_tmp("stories.gguf");
  if (in == NULL) test_skip("models/stories260K is not here");
  convert_file(in, test_data("models/stories260K/tok512.bin"), out);
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
  convert_file(in, test_data("models/babyllama-tok105/tok105.model"), out);
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
  char *argv[] = {"convert", (char *)(uintptr_t)in, "--tokenizer", (char *)(uintptr_t)tok, (char *)(uintptr_t)out};
  assert_int_equal(test_write_file(tok, words, m), 0);
  assert_int_equal(test_write_file(in, model, n - 1), 0);
  assert_int_equal(cmd_convert(5, argv), 1);
  model[20] = 105; /* the vocabulary's size: then the file's own size is wrong */
  model[21] = 0;
  assert_int_equal(test_write_file(in, model, n), 0);
  assert_int_equal(cmd_convert(5, argv), 1);
  free(model);
  model = test_read_file(test_data("models/babyllama-tok105/model5000.bin"), &n);
  assert_int_equal(test_write_file(in, model, n), 0);
  for (size_t i = 0; i < m; i += 7) {
    char was = words[i];
    words[i] = (char)(was ^ 0x81);
    assert_int_equal(test_write_file(tok, words, m), 0);
    assert_in_range(cmd_convert(5, argv), 0, 1);
    words[i] = was;
    assert_int_equal(test_write_file(tok, words, i), 0);
    assert_in_range(cmd_convert(5, argv), 0, 1);
  }
  free(model);
  free(words);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_equals_the_official_file),
                                     cmocka_unit_test(test_babyllama_talks),
                                     cmocka_unit_test(test_babyllama_perplexity), cmocka_unit_test(test_damaged_files)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
