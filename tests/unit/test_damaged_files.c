/* test_damaged_files.c - files that were cut short or made to break a reader: refused or opened, without a leak, and
 * never with more memory than four times the file.
 *
 * Every byte is counted, the library's and jansson's. A thousand cuts go through each format, half of them through its
 * first part, where sizes and counts stand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aiinfra/model.h"
#include "src/model/gguf.h"
#include "src/text/text.h"
#include "tests/data/gguf_maker.h"
#include "tests/support/support.h"

#ifdef __SANITIZE_THREAD__
enum { CUTS = 50, TIMES = 4 }; /* there are no threads to watch */
#else
enum { CUTS = 1000, TIMES = 4 };
#endif
enum { HANDLES = 4096 }; /* what any file costs, however short */

/* ---- memory, counted ---------------------------------------------------------------------------------------------- */

static size_t used, peak;

static void *count(void *p)
{
  used += malloc_usable_size(p);
  peak = used > peak ? used : peak;
  return p;
}

static void *counted_alloc(void *user, size_t size)
{
  (void)user;
  return count(malloc(size));
}

static void counted_release(void *user, void *p)
{
  (void)user;
  used -= malloc_usable_size(p);
  free(p);
}

static void *counted_resize(void *user, void *p, size_t size)
{
  (void)user;
  size_t before = malloc_usable_size(p);
  void *q = realloc(p, size);
  if (q == NULL) return NULL;
  used -= before;
  return count(q);
}

static void *json_alloc(size_t size)
{
  return counted_alloc(NULL, size);
}

static void json_release(void *p)
{
  counted_release(NULL, p);
}

static const aiinfra_allocator hooks = {counted_alloc, counted_resize, counted_release, NULL};

/* ---- one file ------------------------------------------------------------------------------------------------------ */

typedef aiinfra_status (*opener)(aii_mem *mem, const char *what, size_t n);

/* Opens what is there, as much of it as n says, and lets it go. */
static aiinfra_status open_path(aii_mem *mem, const char *path, size_t n)
{
  aii_gguf *g = NULL;
  aiinfra_error err = {0};
  (void)n;
  aiinfra_status rc = aii_source_open(mem, path, NULL, &g, &err);
  if (rc == AIINFRA_OK) rc = aii_gguf_load(g, NULL, NULL, NULL, &err);
  assert_true(rc == AIINFRA_OK || err.message[0] != 0);
  aii_gguf_free(g);
  return rc;
}

static aiinfra_status take_vocab(aiinfra_status rc, aii_vocab *vocab, const aiinfra_error *err)
{
  assert_true(rc == AIINFRA_OK ? vocab != NULL : vocab == NULL && err->message[0] != 0);
  aii_vocab_free(vocab);
  return rc;
}

static aiinfra_status open_tokenizer_json(aii_mem *mem, const char *bytes, size_t n)
{
  aii_vocab *vocab = NULL;
  aiinfra_error err = {0};
  return take_vocab(aii_vocab_from_hf_json(mem, bytes, n, NULL, &vocab, &err), vocab, &err);
}

static aiinfra_status open_sentencepiece(aii_mem *mem, const char *bytes, size_t n)
{
  aii_vocab *vocab = NULL;
  aiinfra_error err = {0};
  return take_vocab(aii_vocab_from_sentencepiece(mem, bytes, n, NULL, &vocab, &err), vocab, &err);
}

/* What there is takes `bytes` of files. The answer; memory and leaks are looked at here. */
static aiinfra_status bounded(opener open, const char *what, size_t n, size_t bytes)
{
  aii_mem mem;
  aii_mem_init(&mem, &hooks, 0);
  used = peak = 0;
  aiinfra_status rc = open(&mem, what, n);
  if (peak > TIMES * bytes + HANDLES) fail_msg("%zu bytes of memory for %zu bytes of file", peak, bytes);
  if (used != 0) fail_msg("%zu bytes leaked", used);
  return rc;
}

/* The i-th cut of a file of n bytes; they come from behind, so that a file need only be made shorter. */
static size_t cut_at(size_t i, size_t n)
{
  return i < CUTS / 2 ? n - 1 - i * (n / (CUTS / 2)) : (CUTS - 1 - i) * AII_MIN(n / CUTS, (size_t)16);
}

/* ---- beginnings of files ------------------------------------------------------------------------------------------- */

static size_t size_of(const char *path)
{
  struct stat s;
  return stat(path, &s) == 0 ? (size_t)s.st_size : 0;
}

/* A copy of a file of the shared data, in the test's own folder. */
static bool copy(const char *from, const char *to)
{
  size_t n = 0;
  char *bytes = test_data(from) != NULL ? test_read_file(test_data(from), &n) : NULL;
  if (bytes == NULL) return false;
  assert_int_equal(test_write_file(to, bytes, n), 0);
  free(bytes);
  return true;
}

/* Cuts a file and opens `path`, which needs it and `beside` bytes more. Every cut must be refused. */
static void cut_file(const char *file, const char *path, size_t beside)
{
  size_t n = size_of(file);
  assert_true(n > 0);
  for (size_t i = 0; i < CUTS; i++) {
    size_t cut = cut_at(i, n);
    assert_int_equal(truncate(file, (off_t)cut), 0);
    if (bounded(open_path, path, 0, cut + beside) == AIINFRA_OK) fail_msg("%s opened with %zu bytes", path, cut);
  }
}

static void cut_bytes(opener open, const char *name)
{
  size_t n = 0;
  char *bytes = test_data(name) != NULL ? test_read_file(test_data(name), &n) : NULL;
  if (bytes == NULL) test_skip("%s is not here", name);
  for (size_t i = 0; i < CUTS; i++) {
    size_t cut = cut_at(i, n);
    char *exact = malloc(cut + 1); /* a sanitizer sees a byte too far */
    assert_non_null(exact);
    memcpy(exact, bytes, cut);
    aiinfra_status rc = bounded(open, exact, cut, cut);
    free(exact);
    if (rc == AIINFRA_OK) fail_msg("%s opened with %zu bytes", name, cut);
  }
  free(bytes);
}

static void test_gguf(void **state)
{
  static const char *const names[] = {"models/stories260K/stories260K.gguf",
                                      "models/tiny-random/llama-2-tiny-random.gguf",
                                      "tokenizers/ggml-vocab/ggml-vocab-gpt-2.gguf"};
  (void)state;
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    const char *path = test_tmp("cut.gguf");
    if (!copy(names[i], path)) test_skip("%s is not here", names[i]);
    cut_file(path, path, 0);
  }
}

static void test_folder(void **state)
{
  static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors"};
  char folder[500], from[128], to[3][600];
  (void)state;
  snprintf(folder, sizeof folder, "%s", test_tmp("folder"));
  assert_int_equal(mkdir(folder, 0755), 0);
  for (size_t cut = 0; cut < AII_COUNT(names); cut++) {
    size_t beside = 0;
    for (size_t i = 0; i < AII_COUNT(names); i++) {
      snprintf(from, sizeof from, "embeddings/model2vec/vocab-quantized/%s", names[i]);
      snprintf(to[i], sizeof to[i], "%s/%s", folder, names[i]);
      if (!copy(from, to[i])) test_skip("%s is not here", from);
      if (i != cut) beside += size_of(to[i]);
    }
    cut_file(to[cut], folder, beside);
  }
}

static void test_llama2c(void **state)
{
  char model[600], tokenizer[600];
  (void)state;
  snprintf(model, sizeof model, "%s", test_tmp("stories.bin"));
  snprintf(tokenizer, sizeof tokenizer, "%s", test_tmp("tok512.bin"));
  if (!copy("models/stories260K/stories260K.bin", model) || !copy("models/stories260K/tok512.bin", tokenizer)) {
    test_skip("models/stories260K is not here");
  }
  cut_file(tokenizer, model, size_of(model));
  assert_true(copy("models/stories260K/tok512.bin", tokenizer));
  cut_file(model, model, 0);
}

static void test_tokenizer_json(void **state)
{
  (void)state;
  cut_bytes(open_tokenizer_json, "tokenizers/hf-json/phi-2/tokenizer.json");
  cut_bytes(open_tokenizer_json, "embeddings/model2vec/vocab-quantized/tokenizer.json");
}

static void test_sentencepiece(void **state)
{
  (void)state;
  cut_bytes(open_sentencepiece, "tokenizers/sentencepiece/llama2-32k.tokenizer.model");
  cut_bytes(open_sentencepiece, "models/babyllama-tok105/tok105.model");
}

/* A packed file that is cut short is made anew: that takes what a model takes that has none. */
static void test_packed(void **state)
{
  static const gm_shape shape = {.arch = "llama",
                                 .n_vocab = 270,
                                 .n_embd = 64,
                                 .n_layers = 2,
                                 .n_heads = 4,
                                 .n_kv_heads = 2,
                                 .head_dim = 16,
                                 .n_ff = 64,
                                 .n_rot = 16,
                                 .context = 32,
                                 .seed = 5};
  (void)state;
  size_t n, before, most = 0;
  uint8_t *bytes = gm_model(&shape, &n);
  char path[600], packed[600];
  snprintf(path, sizeof path, "%s", test_tmp("whole.gguf"));
  snprintf(packed, sizeof packed, "%s", test_tmp("whole.packed"));
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  aiinfra_runtime *rt = NULL;
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_model_opts model_opts = AIINFRA_MODEL_OPTS_INIT;
  opts.allocator = &hooks;
  opts.n_threads = 1;
  model_opts.packed_path = packed;
  used = 0;
  assert_int_equal(aiinfra_runtime_create(&opts, &rt, NULL), AIINFRA_OK);
  before = used;
  for (size_t i = 0, size = 0; i <= CUTS; i++) { /* first there is none */
    aiinfra_model *model = NULL;
    if (i > 0) assert_int_equal(truncate(packed, (off_t)cut_at(i - 1, size)), 0);
    peak = used;
    assert_int_equal(aiinfra_model_open(rt, path, &model_opts, &model, NULL), AIINFRA_OK);
    aiinfra_model_free(model);
    assert_int_equal(used, before);
    if (i == 0) size = size_of(packed), most = peak + HANDLES;
    if (peak > most) fail_msg("%zu bytes of memory, %zu without the packed file", peak - before, most - before);
    assert_int_equal(size_of(packed), size);
  }
  aiinfra_runtime_free(rt);
  assert_int_equal(used, 0);
}

/* ---- files made to break a reader ----------------------------------------------------------------------------------- */

/* JSON of every kind, none of it a tokenizer. */
static void test_json(void **state)
{
  char folder[600];
  (void)state;
  if (test_data("malformed/json-nst/test_parsing") == NULL) test_skip("malformed/json-nst is not here");
  snprintf(folder, sizeof folder, "%s", test_data("malformed/json-nst/test_parsing"));
  DIR *dir = opendir(folder);
  assert_non_null(dir);
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    char path[1024];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
    char *bytes = entry->d_name[0] != '.' ? test_read_file(path, &n) : NULL;
    if (bytes == NULL) continue;
    if (bounded(open_tokenizer_json, bytes, n, n) == AIINFRA_OK) fail_msg("%s opened", path);
    free(bytes);
  }
  closedir(dir);
}

/* Each file of a collection, copied to where `path` finds it. */
static void collection(const char *folder, const char *to, const char *path, size_t beside)
{
  char from[256];
  const char *name;
  json_t *one;
  snprintf(from, sizeof from, "malformed/%s/manifest.json", folder);
  json_t *cases = test_data(from) != NULL ? json_load_file(test_data(from), 0, NULL) : NULL;
  if (cases == NULL) test_skip("malformed/%s is not here", folder);
  json_object_foreach(cases, name, one)
  {
    snprintf(from, sizeof from, "malformed/%s/%s", folder, name);
    assert_true(copy(from, to));
    size_t json_bytes = used; /* of the manifest */
    used = 0;
    aiinfra_status rc = bounded(open_path, path, 0, size_of(to) + beside);
    used = json_bytes;
    bool accept = strcmp(json_string_value(json_object_get(one, "expect")), "accept") == 0;
    if (accept && beside == 0 && rc != AIINFRA_OK) fail_msg("%s is refused", name);
  }
  json_decref(cases);
}

static void test_made_gguf(void **state)
{
  char path[600];
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("made.gguf"));
  collection("gguf-synthetic", path, path, 0);
}

static void test_made_safetensors(void **state)
{
  char folder[500], config[600], weights[600];
  (void)state;
  snprintf(folder, sizeof folder, "%s", test_tmp("made"));
  assert_int_equal(mkdir(folder, 0755), 0);
  snprintf(config, sizeof config, "%s/config.json", folder);
  snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
  if (!copy("embeddings/model2vec/vocab-quantized/config.json", config)) test_skip("embeddings/model2vec is not here");
  collection("safetensors-synthetic", weights, folder, size_of(config));
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gguf),
                                     cmocka_unit_test(test_folder),
                                     cmocka_unit_test(test_llama2c),
                                     cmocka_unit_test(test_tokenizer_json),
                                     cmocka_unit_test(test_sentencepiece),
                                     cmocka_unit_test(test_packed),
                                     cmocka_unit_test(test_json),
                                     cmocka_unit_test(test_made_gguf),
                                     cmocka_unit_test(test_made_safetensors)};
  json_set_alloc_funcs(json_alloc, json_release);
  if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 0); /* thousands of cuts need no disk */
  return cmocka_run_group_tests(tests, NULL, NULL);
}
