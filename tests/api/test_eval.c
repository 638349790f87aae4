/* test_eval.c - aiinfra/eval.h as a host sees it: logits that do not depend on how a text is cut into calls, the golden
 * text by way of logits, and a batcher of the same runtime that goes on undisturbed.
 */
#include "stories.h"

#include <math.h>
#include <pthread.h>

#include "aiinfra/eval.h"
#include "tests/data/gguf_maker.h"

static aiinfra_runtime *rt;
static aiinfra_model *model;
static aiinfra_error err;
enum { N_VOCAB = 270, CONTEXT = 600, N_TOKENS = 560 };

static const gm_shape shape = {.arch = "qwen3",
                               .n_vocab = N_VOCAB,
                               .n_embd = 16,
                               .n_layers = 2,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 4,
                               .n_ff = 24,
                               .n_rot = 4,
                               .context = CONTEXT,
                               .qk_norm = true,
                               .seed = 5};

static int setup(void **state)
{
  (void)state;
  size_t n;
  uint8_t *bytes = gm_model(&shape, &n);
  const char *path = test_tmp("model.gguf");
  int bad = test_write_file(path, bytes, n);
  free(bytes);
  return bad || aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK ||
         aiinfra_model_open(rt, path, NULL, &model, &err) != AIINFRA_OK;
}

static int teardown(void **state)
{
  (void)state;
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  return 0;
}

static void fill(aiinfra_token *tokens, size_t n)
{
  unsigned long long random = 3;
  for (size_t i = 0; i < n; i++) tokens[i] = (aiinfra_token)(test_random(&random) % N_VOCAB);
}

static void test_arguments(void **state)
{
  (void)state;
  aiinfra_eval *e = (aiinfra_eval *)(void *)&err;
  aiinfra_eval_opts opts = AIINFRA_EVAL_OPTS_INIT;
  aiinfra_token tokens[4] = {1, 2, 3, 4};
  float logits[2 * N_VOCAB];
  assert_int_equal(aiinfra_eval_create(NULL, NULL, &e, &err), AIINFRA_EINVAL);
  assert_null(e);
  assert_int_equal(aiinfra_eval_create(model, NULL, NULL, &err), AIINFRA_EINVAL);
  opts.max_context = CONTEXT + 1;
  assert_int_equal(aiinfra_eval_create(model, &opts, &e, &err), AIINFRA_EINVAL);
  assert_null(e);
  opts.max_context = 5;
  opts.kv_dtype = 77;
  assert_int_equal(aiinfra_eval_create(model, &opts, &e, &err), AIINFRA_EINVAL);
  opts.kv_dtype = 0;
  MUST(aiinfra_eval_create(model, &opts, &e, &stories_err));
  assert_int_equal(aiinfra_eval_run(NULL, tokens, 1, 0, NULL, 0, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_eval_run(e, NULL, 1, 0, NULL, 0, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_eval_run(e, tokens, 0, 0, NULL, 0, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_eval_run(e, tokens, 1, 2, logits, 2 * N_VOCAB, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_eval_run(e, tokens, 1, 1, NULL, N_VOCAB, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_eval_run(e, tokens, 2, 2, logits, 2 * N_VOCAB - 1, &err), AIINFRA_ENOSPC);
  tokens[1] = N_VOCAB;
  assert_int_equal(aiinfra_eval_run(e, tokens, 2, 0, NULL, 0, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "tokens[1]"));
  tokens[1] = -1;
  assert_int_equal(aiinfra_eval_run(e, tokens, 2, 0, NULL, 0, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_eval_length(e), 0);
  tokens[1] = 2;
  MUST(aiinfra_eval_run(e, tokens, 4, 0, NULL, 0, &stories_err));
  assert_int_equal(aiinfra_eval_run(e, tokens, 2, 0, NULL, 0, &err), AIINFRA_ENOSPC);
  assert_int_equal(aiinfra_eval_length(e), 4);
  aiinfra_eval_free(e);
  aiinfra_eval_free(NULL);
  aiinfra_eval_cut(NULL, 0);
  assert_int_equal(aiinfra_eval_length(NULL), 0);
}

static void test_pieces_and_cuts(void **state)
{
  (void)state;
  static aiinfra_token tokens[N_TOKENS];
  static float whole[N_TOKENS * N_VOCAB], piece[N_TOKENS * N_VOCAB];
  size_t room = (size_t)N_TOKENS * N_VOCAB, row = N_VOCAB * sizeof(float);
  aiinfra_eval *e;
  fill(tokens, N_TOKENS);
  MUST(aiinfra_eval_create(model, NULL, &e, &stories_err));
  MUST(aiinfra_eval_run(e, tokens, N_TOKENS, N_TOKENS, whole, room, &stories_err)); /* more than one step */
  assert_int_equal(aiinfra_eval_length(e), N_TOKENS);
  aiinfra_eval_cut(e, 0);
  for (size_t at = 0, n; at < N_TOKENS; at += n) {
    n = at % 7 * 20 + 1;
    if (n > N_TOKENS - at) n = N_TOKENS - at;
    MUST(aiinfra_eval_run(e, tokens + at, n, n, piece + at * N_VOCAB, room, &stories_err));
  }
  assert_memory_equal(whole, piece, N_TOKENS * row);
  aiinfra_eval_cut(e, 1000); /* longer than it is: nothing */
  assert_int_equal(aiinfra_eval_length(e), N_TOKENS);
  aiinfra_eval_cut(e, 100);
  MUST(aiinfra_eval_run(e, tokens + 100, 20, 3, piece, 3 * N_VOCAB, &stories_err));
  assert_memory_equal(whole + 117 * N_VOCAB, piece, 3 * row);
  aiinfra_eval_free(e);
}

static void test_keeps_the_model(void **state)
{
  (void)state;
  aiinfra_model *own;
  aiinfra_eval *e;
  aiinfra_token token = 7;
  float logits[N_VOCAB];
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  MUST(aiinfra_model_open(rt, test_tmp("model.gguf"), NULL, &own, &stories_err));
  MUST(aiinfra_eval_create(own, NULL, &e, &stories_err));
  aiinfra_model_free(own);
  MUST(aiinfra_eval_run(e, &token, 1, 1, logits, N_VOCAB, &stories_err));
  for (int i = 0; i < N_VOCAB; i++) assert_true(isfinite(logits[i]));
  aiinfra_eval_free(e);
  opts.vocab_only = 1;
  MUST(aiinfra_model_open(rt, test_tmp("model.gguf"), &opts, &own, &stories_err));
  assert_int_equal(aiinfra_eval_create(own, NULL, &e, &err), AIINFRA_ENOTSUP);
  aiinfra_model_free(own);
}

/* ---- a trained model --------------------------------------------------------------------------------------------- */

enum { STEPS = 60, STORY_VOCAB = 512 };

/* From BOS the likeliest token each time, through logits alone. */
static void greedy(aiinfra_model *m, aiinfra_token *tokens)
{
  float logits[STORY_VOCAB];
  aiinfra_eval *e;
  aiinfra_error error;
  assert_int_equal(aiinfra_eval_create(m, NULL, &e, &error), AIINFRA_OK);
  tokens[0] = 1;
  for (int i = 0; i < STEPS; i++) {
    assert_int_equal(aiinfra_eval_run(e, tokens + i, 1, 1, logits, STORY_VOCAB, &error), AIINFRA_OK);
    tokens[i + 1] = 0;
    for (int t = 1; t < STORY_VOCAB; t++)
      if (logits[t] > logits[tokens[i + 1]]) tokens[i + 1] = t;
  }
  aiinfra_eval_free(e);
}

static void *greedy_thread(void *arg)
{
  static aiinfra_token tokens[STEPS + 1];
  greedy(arg, tokens);
  return tokens;
}

static void test_beside_a_batcher(void **state)
{
  (void)state;
  if (test_data(STORIES_GGUF) == NULL) test_skip("%s is not here", STORIES_GGUF);
  char *golden = test_read_file(test_data(STORIES_GOLDEN), NULL), *text;
  stories s;
  pthread_t thread;
  void *tokens;
  size_t n;
  stories_open(&s, 2, NULL);
  aiinfra_generate_opts opts = stories_opts("", 200);
  answer *a = stories_submit(&s, &opts);
  assert_int_equal(pthread_create(&thread, NULL, greedy_thread, s.model), 0);
  stories_wait(a);
  assert_int_equal(pthread_join(thread, &tokens), 0);
  assert_string_equal(a->text, golden);
  MUST(aiinfra_model_detokenize(s.model, (aiinfra_token *)tokens + 1, STEPS, 0, &text, &n, &stories_err));
  assert_memory_equal(text, golden, n);
  aiinfra_string_free(text);
  answer_free(a);
  stories_close(&s);
  free(golden);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_arguments), cmocka_unit_test(test_pieces_and_cuts),
                                     cmocka_unit_test(test_keeps_the_model), cmocka_unit_test(test_beside_a_batcher)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
