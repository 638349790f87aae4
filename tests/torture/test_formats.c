/* test_formats.c - memory runs out while a Hugging Face folder is opened, and while it is converted and quantised. */
#include "tests/torture/scene.h"

#include "tests/data/hf_maker.h"

static const char *folder(void)
{
  static char path[512];
  if (path[0] == '\0') {
    snprintf(path, sizeof path, "%s/folder", test_tmp_dir());
    hm_llama(path, true);
  }
  return path;
}

/* A model of model2vec, whose vectors are computed when it opens. */
static const char *static_folder(void)
{
  static char path[512];
  static const int32_t mapping[7] = {0, 1, 2, 2, 1, 0, 2};
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  uint64_t r = 5;
  snprintf(path, sizeof path, "%s/static", test_tmp_dir());
  hm_text(path, "config.json", "{\"model_type\":\"model2vec\",\"architectures\":[\"StaticModel\"]}");
  hm_text(path, "tokenizer.json", HM_TOKENIZER);
  hm_random(&m, "embeddings", 3, 4, 0, &r);
  hm_random(&m, "weights", 0, 7, 1, &r);
  hm_tensor(&m, "mapping", "I32", "7", mapping, sizeof mapping);
  hm_weights(path, "model.safetensors", &m);
  return path;
}

static aiinfra_status open_folder(void *ctx)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  aiinfra_model *model = NULL;
  opts.load_type = "F16";
  torture_pause("runtime");
  aiinfra_status rc = scene_runtime(&runtime);
  torture_resume();
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_model_open(runtime, ctx, &opts, &model, NULL), &model, "model_open");
  aiinfra_model_free(model);
  aiinfra_runtime_free(runtime);
  return rc;
}

static aiinfra_status convert(void *ctx)
{
  aiinfra_convert_opts opts = AIINFRA_CONVERT_OPTS_INIT;
  aiinfra_runtime *runtime = NULL;
  (void)ctx;
  opts.type = "F16";
  torture_pause("runtime");
  aiinfra_status rc = scene_runtime(&runtime);
  torture_resume();
  if (rc == AIINFRA_OK) rc = aiinfra_convert(runtime, folder(), test_tmp("out.gguf"), &opts, NULL);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void a_folder(void **state)
{
  (void)state;
  assert_int_equal(torture_run("formats.open", open_folder, (void *)(uintptr_t)folder(), NULL), 0);
}

static void static_vectors(void **state)
{
  (void)state;
  assert_int_equal(torture_run("formats.static", open_folder, (void *)(uintptr_t)static_folder(), NULL), 0);
}

static void a_conversion(void **state)
{
  const torture_opts opts = {.sources = TORTURE_HOOK | TORTURE_MALLOC | TORTURE_IO};
  (void)state;
  assert_int_equal(torture_run("formats.convert", convert, NULL, &opts), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_folder), cmocka_unit_test(static_vectors),
                                     cmocka_unit_test(a_conversion)};
  (void)folder();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
