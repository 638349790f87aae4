/* test_model2vec.c - static embeddings: folders of model2vec, opened as they are and converted.
 *
 * tests/data/model2vec/ has small models and the vectors that NumPy computed of some texts (tests/reference/encoders.py).
 * Beside them stand the models and vectors of model2vec's own tests, where the reference data is here.
 */
#include "tests/data/static_model.h"

#include <unistd.h>

#include "aiinfra/convert.h"

static void convert(const char *from, const char *to, const char *type)
{
  aiinfra_convert_opts opts = AIINFRA_CONVERT_OPTS_INIT;
  aiinfra_runtime *rt;
  aiinfra_error err;
  opts.type = type;
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  runner_say("convert", aiinfra_convert(rt, from, to, &opts, &err), &err);
  aiinfra_runtime_free(rt);
}

static void check(const char *name)
{
  static static_vectors direct, converted;
  const char *texts[STATIC_TEXTS];
  size_t i, n;
  json_t *golden = golden_load("model2vec", name), *list = json_object_get(golden, "texts"), *text;
  json_array_foreach(list, i, text) texts[i] = json_string_value(text);
  n = i;
  const char *folder = static_write(golden);
  static_embed(folder, texts, n, 0, &direct);
  for (i = 0; i < n; i++) {
    double error = static_distance(direct.v[i], json_array_get(json_object_get(golden, "vectors"), i), direct.n_dims);
    if (!(error < 1e-6)) fail_msg("%s: text %zu is off by %.1e", name, i, error);
  }
  assert_int_equal(direct.n_tokens[2], 700); /* longer than a step: nothing needs it to be whole */
  char path[600];
  snprintf(path, sizeof path, "%s", test_tmp("static.gguf"));
  convert(folder, path, NULL);
  static_embed(path, texts, n, 0, &converted);
  assert_memory_equal(&converted, &direct, sizeof direct);
  json_decref(golden);
}

static void test_small_models(void **state)
{
  (void)state;
  check("plain.json");
  check("weighted.json");
  check("mapped.json");
}

/* What stands for no word counts only where nothing else does. */
static void test_unknown_words(void **state)
{
  (void)state;
  static static_vectors v;
  static const char *const texts[] = {"dog zebra", "dog", "zebra"};
  json_t *golden = golden_load("model2vec", "weighted.json");
  static_embed(static_write(golden), texts, 3, 1, &v);
  assert_memory_equal(v.v[0], v.v[1], sizeof v.v[0]);
  assert_int_equal(v.n_tokens[0], 1);
  assert_int_equal(v.n_tokens[2], 1);
  assert_memory_not_equal(v.v[2], v.v[1], sizeof v.v[0]);
  json_decref(golden);
}

/* ---- what is refused ----------------------------------------------------------------------------------------------- */

static void refused(const char *folder, aiinfra_status status, const char *said)
{
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  aiinfra_status rc = aiinfra_model_open(rt, folder, NULL, &model, &err);
  if (rc != status || strstr(err.message, said) == NULL)
    fail_msg("expected %s '%s', got %s '%s'", aiinfra_status_name(status), said, aiinfra_status_name(rc), err.message);
  assert_null(model);
  aiinfra_runtime_free(rt);
}

static void test_refusals(void **state)
{
  (void)state;
  json_t *golden = golden_load("model2vec", "mapped.json"), *mapping = json_object_get(golden, "mapping");
  json_array_set_new(mapping, 3, json_integer(7));
  refused(static_write(golden), AIINFRA_EFORMAT, "token 3 has no row");
  json_array_set_new(mapping, 3, json_integer(-1));
  refused(static_write(golden), AIINFRA_EFORMAT, "token 3 has no row");
  json_array_remove(mapping, 3);
  refused(static_write(golden), AIINFRA_EFORMAT, "do not fit together");
  json_object_set_new(golden, "weights", json_false());
  refused(static_write(golden), AIINFRA_EFORMAT, "token_embd.weight"); /* fewer rows than tokens */
  json_array_append_new(mapping, json_integer(0));
  const char *folder = static_write(golden);
  char path[600];
  snprintf(path, sizeof path, "%s/tokenizer.json", folder);
  (void)unlink(path);
  refused(folder, AIINFRA_ENOENT, "tokenizer.json");
  json_decref(golden);
}

static void test_it_only_embeds(void **state)
{
  (void)state;
  json_t *golden = golden_load("model2vec", "plain.json");
  aiinfra_generate_opts ask = AIINFRA_GENERATE_OPTS_INIT;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  aiinfra_kv *kv;
  aiinfra_batcher *batcher;
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  runner_say("model", aiinfra_model_open(rt, static_write(golden), NULL, &model, &err), &err);
  runner_say("kv", aiinfra_kv_create(model, NULL, &kv, &err), &err);
  runner_say("batcher", aiinfra_batcher_create(model, kv, NULL, &batcher, &err), &err);
  ask.text = "dog";
  assert_int_equal(aiinfra_batcher_generate(batcher, &ask, NULL, NULL, NULL, NULL, &err), AIINFRA_ENOTSUP);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  json_decref(golden);
}

/* ---- real models ---------------------------------------------------------------------------------------------------- */

static json_t *first_vector(const char *name)
{
  char path[128];
  json_error_t error;
  snprintf(path, sizeof path, "embeddings/model2vec/%s", name);
  return json_load_file(test_data(path), 0, &error);
}

/* "hello" a thousand times, and "hello world". */
static void compare(const char *folder, const char *text, const char *vector, double most)
{
  static static_vectors v;
  json_t *wanted = first_vector(vector);
  if (wanted == NULL) {
    print_message("skipped: no %s beside the checkout\n", vector);
    skip();
  }
  static_embed(folder, &text, 1, 0, &v);
  double error = static_distance(v.v[0], json_array_get(wanted, 0), v.n_dims);
  print_message("%s: %.1e\n", folder, error);
  assert_true(error < most);
  json_decref(wanted);
}

/* The folders of 2 dimensions share one tokenizer. */
static const char *copy_folder(const char *name)
{
  static const char *const files[3][2] = {
      {"config.json", NULL}, {"model.safetensors", NULL}, {"tokenizer.json", "float32"}};
  const char *folder = test_tmp("shared");
  (void)mkdir(folder, 0755);
  for (int i = 0; i < 3; i++) {
    char path[160];
    size_t n;
    snprintf(path, sizeof path, "embeddings/model2vec/%s/%s", files[i][1] != NULL ? files[i][1] : name, files[i][0]);
    char *bytes = test_read_file(test_data(path), &n);
    if (bytes == NULL) {
      print_message("skipped: no %s beside the checkout\n", path);
      skip();
    }
    hm_write(folder, files[i][0], bytes, n);
    free(bytes);
  }
  return folder;
}

static const char *many_hellos(void)
{
  static char text[6 * 1000 + 1];
  for (int i = 0; i < 1000; i++) memcpy(text + 6 * i, "hello ", 6);
  return text;
}

static void test_real_models(void **state)
{
  (void)state;
  compare(test_data("embeddings/model2vec/vocab-quantized"), many_hellos(), "embeddings_vocab_quantized.json", 1e-6);
  static const struct {
    const char *name;
    double most;
  } kinds[] = {{"float32", 1e-5}, {"float16", 2e-3}, {"int8", 2e-2}}; /* their vectors were summed in F32 */
  for (int i = 0; i < 3; i++) {
    const char *folder = copy_folder(kinds[i].name);
    compare(folder, "hello world", "embeddings_short.json", kinds[i].most);
    compare(folder, many_hellos(), "embeddings_long.json", kinds[i].most);
  }
}

/* Smaller vectors of the real model still point the same way. */
static void test_quantised(void **state)
{
  (void)state;
  static static_vectors v;
  json_t *wanted = first_vector("embeddings_vocab_quantized.json");
  if (wanted == NULL) {
    print_message("skipped: no model of model2vec beside the checkout\n");
    skip();
  }
  const char *text = "hello";
  char path[600];
  snprintf(path, sizeof path, "%s", test_tmp("q8.gguf"));
  convert(test_data("embeddings/model2vec/vocab-quantized"), path, "Q8_0");
  static_embed(path, &text, 1, 0, &v);
  assert_true(static_distance(v.v[0], json_array_get(wanted, 0), v.n_dims) < 1e-2);
  json_decref(wanted);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_small_models), cmocka_unit_test(test_unknown_words),
                                     cmocka_unit_test(test_refusals),     cmocka_unit_test(test_it_only_embeds),
                                     cmocka_unit_test(test_real_models),  cmocka_unit_test(test_quantised)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
