/* test_model_open.c - memory runs out while a runtime is made, a model is opened, a cache and a batcher with it, and while
 * its logits are looked at; and while packed weights are written and read, which no failure of their file may stop. */
#include "tests/torture/scene.h"

static aiinfra_status make_runtime(void *ctx)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_status rc = scene_runtime(&runtime);
  (void)ctx;
  aiinfra_runtime_free(runtime);
  return rc;
}

static aiinfra_status open_model(void *ctx)
{
  scene s;
  aiinfra_status rc = scene_open(&s);
  (void)ctx;
  scene_close(&s);
  return rc;
}

static aiinfra_status use_vocabulary(void *ctx)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_token tokens[64];
  char *text = NULL;
  size_t n = 0, n_bytes = 0;
  aiinfra_status rc;
  (void)ctx;
  opts.vocab_only = 1;
  torture_pause("runtime");
  rc = scene_runtime(&runtime);
  torture_resume();
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_model_open(runtime, scene_model(), &opts, &model, NULL), &model, "model_open");
  if (rc == AIINFRA_OK) rc = aiinfra_model_tokenize(model, "one two", 7, AIINFRA_TOKENIZE_BOS, tokens, 64, &n, NULL);
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_model_detokenize(model, tokens, n, 1, &text, &n_bytes, NULL), &text, "detokenize");
  aiinfra_string_free(text);
  text = NULL;
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_model_describe(model, &text, NULL), &text, "describe");
  aiinfra_string_free(text);
  text = NULL;
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_model_render(model, "[{\"role\": \"user\", \"content\": \"Hi\"}]", NULL, 1, &text, NULL),
                      &text, "render");
  aiinfra_string_free(text);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return rc;
}

static aiinfra_status evaluate(void *ctx)
{
  static const aiinfra_token tokens[] = {1, 70, 71, 72};
  static float logits[2 * 263];
  aiinfra_eval *eval = NULL;
  scene s;
  aiinfra_status rc;
  (void)ctx;
  torture_pause("set-up");
  rc = scene_open(&s);
  torture_resume();
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_eval_create(s.model, NULL, &eval, NULL), &eval, "eval_create");
  if (rc == AIINFRA_OK) rc = aiinfra_eval_run(eval, tokens, 4, 2, logits, 2 * 263, NULL);
  torture_check(rc != AIINFRA_OK || aiinfra_eval_length(eval) == 4, "the tokens are in the sequence");
  aiinfra_eval_free(eval);
  scene_close(&s);
  return rc;
}

static aiinfra_status observe(void *ctx)
{
  aiinfra_token tokens[4] = {3, 4, 5, 6};
  aiinfra_eval *eval = NULL;
  aiinfra_imatrix *im = NULL;
  scene s;
  aiinfra_status rc;
  (void)ctx;
  torture_pause("set-up");
  rc = scene_open(&s);
  if (rc == AIINFRA_OK) rc = aiinfra_eval_create(s.model, NULL, &eval, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_imatrix_create(s.model, &im, NULL), &im, "imatrix_create");
  if (rc == AIINFRA_OK) rc = aiinfra_eval_run(eval, tokens, 4, 0, NULL, 0, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_imatrix_save(im, test_tmp("imatrix.gguf"), "torture", NULL);
  aiinfra_imatrix_free(im);
  aiinfra_eval_free(eval);
  scene_close(&s);
  return rc;
}

/* Twice: the first opening writes the packed file, or is told that it cannot, the second one maps it. */
static aiinfra_status open_packed(void *ctx)
{
  const char *path = test_tmp("torture.packed");
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_status rc;
  (void)ctx;
  opts.packed_path = path;
  torture_pause("runtime");
  (void)remove(path);
  rc = scene_runtime(&runtime);
  torture_resume();
  for (int i = 0; i < 2 && rc == AIINFRA_OK; i++) {
    rc = torture_made(aiinfra_model_open(runtime, scene_model(), &opts, &model, NULL), &model, "model_open");
    aiinfra_model_free(model);
    model = NULL;
  }
  aiinfra_runtime_free(runtime);
  return rc;
}

/* BF16 weights, and what is multiplied with them rounded where the CPU can: rows of another form need room. */
static aiinfra_status round_activations(void *ctx)
{
  static const aiinfra_token tokens[] = {1, 70, 71, 72};
  static float logits[263];
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  aiinfra_eval *eval = NULL;
  (void)ctx;
  opts.load_type = "BF16";
  opts.bf16_activations = 1;
  torture_pause("runtime");
  aiinfra_status rc = scene_runtime(&runtime);
  torture_resume();
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_model_open(runtime, scene_model(), &opts, &model, NULL), &model, "model_open");
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_eval_create(model, NULL, &eval, NULL), &eval, "eval_create");
  if (rc == AIINFRA_OK) rc = aiinfra_eval_run(eval, tokens, 4, 1, logits, 263, NULL);
  aiinfra_eval_free(eval);
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void a_runtime(void **state)
{
  (void)state;
  assert_int_equal(torture_run("runtime", make_runtime, NULL, NULL), 0);
}

static void a_model(void **state)
{
  (void)state;
  assert_int_equal(torture_run("model.open", open_model, NULL, NULL), 0);
}

static void packed_weights(void **state)
{
  const torture_opts opts = {.sources = TORTURE_HOOK | TORTURE_MALLOC | TORTURE_IO};
  (void)state;
  assert_int_equal(torture_run("model.packed", open_packed, NULL, &opts), 0);
}

static void a_vocabulary(void **state)
{
  (void)state;
  assert_int_equal(torture_run("model.text", use_vocabulary, NULL, NULL), 0);
}

static void logits(void **state)
{
  (void)state;
  assert_int_equal(torture_run("model.logits", evaluate, NULL, NULL), 0);
}

static void rounded_activations(void **state)
{
  (void)state;
  assert_int_equal(torture_run("model.bf16_activations", round_activations, NULL, NULL), 0);
}

static void importance(void **state)
{
  (void)state;
  assert_int_equal(torture_run("model.imatrix", observe, NULL, NULL), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_runtime),          cmocka_unit_test(a_model),
                                     cmocka_unit_test(a_vocabulary),       cmocka_unit_test(logits),
                                     cmocka_unit_test(importance),         cmocka_unit_test(packed_weights),
                                     cmocka_unit_test(rounded_activations)};
  scene_model();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
