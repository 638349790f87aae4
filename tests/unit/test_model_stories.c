/* test_model_stories.c - a trained model, run from its official file: the golden text and the reference perplexity. */
#include "tests/data/model_runner.h"

enum { WINDOW = 512, STORIES = 300, STEPS = 200 };

static const char *file;

/* From BOS alone, the likeliest token each time. */
static void test_greedy_text(void **state)
{
  (void)state;
  char *golden = test_read_file(test_data("models/stories260K/expected_greedy_200steps.txt"), NULL);
  if (golden == NULL) test_skip("models/stories260K/expected_greedy_200steps.txt is not here");
  runner r;
  runner_open(&r, file, NULL, 8, 16, AII_F32);
  aii_sampler *sampler;
  aii_sampling how = {.temperature = 0};
  aiinfra_error err;
  runner_say("sampler", aii_sampler_create(&r.rt->mem, &how, r.model->hp.n_vocab, &sampler, &err), &err);
  float *logits = calloc(r.model->hp.n_vocab, sizeof *logits);
  aiinfra_token tokens[STEPS + 1] = {aii_vocab_bos(r.model->vocab)};
  for (uint32_t i = 0; i < STEPS; i++) {
    runner_step(&r, &tokens[i], 1, i, false, logits);
    tokens[i + 1] = aii_sampler_pick(sampler, logits);
  }
  char *text;
  runner_say("text", aiinfra_model_detokenize(r.model, tokens + 1, STEPS, 0, &text, NULL, &err), &err);
  size_t n = strlen(golden);
  while (n > 0 && golden[n - 1] == '\n') golden[--n] = '\0'; /* the file's own line end */
  size_t m = strlen(text);
  while (m > 0 && text[m - 1] == '\n') text[--m] = '\0';
  assert_string_equal(text, golden);
  aiinfra_string_free(text);
  aii_sampler_free(sampler);
  free(logits);
  free(golden);
  runner_close(&r);
}

static void test_perplexity(void **state)
{
  (void)state;
  uint32_t scored;
  if (RUNNER_SLOW) test_skip("300 stories are too slow under a sanitizer");
  runner r;
  runner_open(&r, file, NULL, WINDOW, 16, AII_F32);
  double perplexity = runner_perplexity(&r, STORIES, WINDOW, &scored);
  runner_close(&r);
  if (scored == 0) test_skip("corpus/tinystories_v2_sample_2MiB.txt is not here");
  assert_int_equal(scored, 122862);
  assert_true(fabs(perplexity - 4.6433) < 0.00005);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_greedy_text), cmocka_unit_test(test_perplexity)};
  file = test_data("models/stories260K/stories260K.gguf");
  if (file == NULL) return test_skip_all("models/stories260K is not here");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
