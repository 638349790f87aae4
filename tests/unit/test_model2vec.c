/* test_model2vec.c - static embeddings: folders of model2vec, opened as they are and converted.
 *
 * tests/data/model2vec/ has small models and the vectors that NumPy computed of some texts (tests/reference/encoders.py).
 * Beside them stand the models and vectors of model2vec's own tests, where the reference data is here.
 */
#include "tests/data/golden_model.h"

#include <unistd.h>

#include "aiinfra/batcher.h"
#include "aiinfra/convert.h"
#include "tests/data/hf_maker.h"

enum { MAX_WIDTH = 64, MAX_TEXTS = 8 };

typedef struct vectors {
  float v[MAX_TEXTS][MAX_WIDTH];
  size_t n_dims;
  uint32_t n_tokens[MAX_TEXTS];
  aiinfra_status status;
  char message[AIINFRA_ERROR_MESSAGE_MAX];
} vectors;

static void on_result(void *user, aiinfra_status status, const aiinfra_embed_result *result)
{
  vectors *out = user;
  out->status = status;
  if (result->error != NULL) memcpy(out->message, result->error->message, sizeof out->message);
  out->n_dims = result->n_dims;
  assert_true(result->n_dims <= MAX_WIDTH);
  for (size_t i = 0; i < result->n_texts; i++) {
    memcpy(out->v[i], result->vectors + i * result->n_dims, result->n_dims * sizeof(float));
    out->n_tokens[i] = result->n_tokens[i];
  }
}

static void embed(const char *path, const char *const *texts, size_t n, int32_t normalize, vectors *out)
{
  aiinfra_embed_opts opts = AIINFRA_EMBED_OPTS_INIT;
  aiinfra_batcher *batcher;
  aiinfra_request *request;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  aiinfra_kv *kv;
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  runner_say("model", aiinfra_model_open(rt, path, NULL, &model, &err), &err);
  runner_say("kv", aiinfra_kv_create(model, NULL, &kv, &err), &err);
  runner_say("batcher", aiinfra_batcher_create(model, kv, NULL, &batcher, &err), &err);
  opts.texts = texts;
  opts.n_texts = n;
  opts.normalize = normalize;
  memset(out, 0, sizeof *out);
  runner_say("embed", aiinfra_batcher_embed_texts(batcher, &opts, on_result, out, &request, &err), &err);
  (void)aiinfra_request_wait(request, 60000, &err);
  if (out->status != AIINFRA_OK) fail_msg("embed: %s", out->message);
  aiinfra_request_free(request);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
}

static double distance(const float *got, const json_t *wanted, size_t n)
{
  double off = 0, size = 0;
  assert_int_equal(json_array_size(wanted), n);
  for (size_t i = 0; i < n; i++) {
    double want = json_number_value(json_array_get(wanted, i));
    off += ((double)got[i] - want) * ((double)got[i] - want);
    size += want * want;
  }
  return sqrt(off / size);
}

/* ---- small models -------------------------------------------------------------------------------------------------- */

static void add_floats(hf_maker *m, const char *name, size_t rows, size_t width, float base, float spread)
{
  char shape[48];
  uint64_t state = golden_seed(name);
  float *values = malloc(rows * width * sizeof *values);
  for (size_t i = 0; i < rows * width; i++) values[i] = base + spread * gm_random(&state);
  snprintf(shape, sizeof shape, width > 1 ? "%zu,%zu" : "%zu", rows, width);
  hm_tensor(m, name, "F32", shape, values, rows * width * sizeof *values);
  free(values);
}

static void add_mapping(hf_maker *m, const json_t *mapping)
{
  char shape[24];
  int64_t rows[64];
  size_t i;
  json_t *row;
  json_array_foreach(mapping, i, row) rows[i] = json_integer_value(row);
  snprintf(shape, sizeof shape, "%zu", i);
  hm_tensor(m, "mapping", "I64", shape, rows, i * sizeof rows[0]);
}

static void write_json(const char *folder, const char *name, const json_t *value)
{
  char *text = json_dumps(value, JSON_COMPACT);
  hm_text(folder, name, text);
  free(text);
}

static const char *write_folder(const json_t *golden)
{
  const char *folder = test_tmp("static");
  size_t n_vocab = (size_t)json_integer_value(json_object_get(golden, "n_vocab"));
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  (void)mkdir(folder, 0755);
  write_json(folder, "config.json", json_object_get(golden, "config"));
  write_json(folder, "tokenizer.json", json_object_get(golden, "tokenizer"));
  add_floats(&m, "embeddings", (size_t)json_integer_value(json_object_get(golden, "n_rows")), 6, 0, 1);
  if (json_is_true(json_object_get(golden, "weights"))) add_floats(&m, "weights", n_vocab, 1, 1, 0.5f);
  if (json_is_array(json_object_get(golden, "mapping"))) add_mapping(&m, json_object_get(golden, "mapping"));
  hm_weights(folder, "model.safetensors", &m);
  return folder;
}

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
  static vectors direct, converted;
  const char *texts[MAX_TEXTS];
  size_t i, n;
  json_t *golden = golden_load("model2vec", name), *list = json_object_get(golden, "texts"), *text;
  json_array_foreach(list, i, text) texts[i] = json_string_value(text);
  n = i;
  const char *folder = write_folder(golden);
  embed(folder, texts, n, 0, &direct);
  for (i = 0; i < n; i++) {
    double error = distance(direct.v[i], json_array_get(json_object_get(golden, "vectors"), i), direct.n_dims);
    if (!(error < 1e-6)) fail_msg("%s: text %zu is off by %.1e", name, i, error);
  }
  assert_int_equal(direct.n_tokens[2], 700); /* longer than a step: nothing needs it to be whole */
  char path[600];
  snprintf(path, sizeof path, "%s", test_tmp("static.gguf"));
  convert(folder, path, NULL);
  embed(path, texts, n, 0, &converted);
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
  static vectors v;
  static const char *const texts[] = {"dog zebra", "dog", "zebra"};
  json_t *golden = golden_load("model2vec", "weighted.json");
  embed(write_folder(golden), texts, 3, 1, &v);
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
  refused(write_folder(golden), AIINFRA_EFORMAT, "token 3 has no row");
  json_array_set_new(mapping, 3, json_integer(-1));
  refused(write_folder(golden), AIINFRA_EFORMAT, "token 3 has no row");
  json_array_remove(mapping, 3);
  refused(write_folder(golden), AIINFRA_EFORMAT, "do not fit together");
  json_object_set_new(golden, "weights", json_false());
  refused(write_folder(golden), AIINFRA_EFORMAT, "token_embd.weight"); /* fewer rows than tokens */
  json_array_append_new(mapping, json_integer(0));
  const char *folder = write_folder(golden);
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
  runner_say("model", aiinfra_model_open(rt, write_folder(golden), NULL, &model, &err), &err);
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
  static vectors v;
  json_t *wanted = first_vector(vector);
  if (wanted == NULL) {
    print_message("skipped: no %s beside the checkout\n", vector);
    skip();
  }
  embed(folder, &text, 1, 0, &v);
  double error = distance(v.v[0], json_array_get(wanted, 0), v.n_dims);
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
  static vectors v;
  json_t *wanted = first_vector("embeddings_vocab_quantized.json");
  if (wanted == NULL) {
    print_message("skipped: no model of model2vec beside the checkout\n");
    skip();
  }
  const char *text = "hello";
  char path[600];
  snprintf(path, sizeof path, "%s", test_tmp("q8.gguf"));
  convert(test_data("embeddings/model2vec/vocab-quantized"), path, "Q8_0");
  embed(path, &text, 1, 0, &v);
  assert_true(distance(v.v[0], json_array_get(wanted, 0), v.n_dims) < 1e-2);
  json_decref(wanted);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_small_models), cmocka_unit_test(test_unknown_words),
                                     cmocka_unit_test(test_refusals),     cmocka_unit_test(test_it_only_embeds),
                                     cmocka_unit_test(test_real_models),  cmocka_unit_test(test_quantised)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
