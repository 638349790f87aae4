/* test_cuda_architectures.c - every architecture on the CPU and on a GPU: the same bits, however a text is cut.
 *
 * The models are the small random ones of tests/data/architectures and tests/data/encoders, as they are and wider, with
 * weights and caches of several types. A text goes in at once and then token by token, and again in small chunks; the
 * cache holds NaNs wherever nothing was written. A real device does all of it, the emulated one what it has time for:
 * AIINFRA_THOROUGH=1 and =0 ask for one and the other.
 */
#include "tests/data/wide_model.h"

#include <dirent.h>

#include "src/model/arch.h"
#include "tests/gpu/both.h"

enum {
  MAX_NAMES = 64,
  N_VOCAB = GOLDEN_VOCAB,
  MAX_PROMPT = 100,
  STEPS = 3,
  MAX_TOKENS = MAX_PROMPT + STEPS,
  BLOCK = 16,
  Q8_BLOCK = 32
};

/* How a model runs. */
typedef struct trial {
  const char *load_type; /* NULL: its weights are F32, as they are */
  uint32_t times;        /* so much wider */
  aii_dtype cache;       /* F16 where heads do not fit Q8_0 */
  uint32_t prompt;       /* tokens, where there is little time; 0: not tried there */
  bool round;            /* bf16_activations */
} trial;

typedef struct list {
  char *names[MAX_NAMES];
  size_t n;
} list;
static list decoders, encoders;
static aiinfra_runtime *loaded; /* keeps the plug-in */
static bool emulated, thorough;
static float want[MAX_TOKENS * N_VOCAB], got[MAX_TOKENS * N_VOCAB];

/* ---- a model on a device ---- */

static aiinfra_runtime_opts runtime_on(int32_t device)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  opts.device = device;
  opts.cuda_path = device == AIINFRA_DEVICE_CUDA ? both_plugin() : NULL;
  opts.n_threads = 1;
  return opts;
}

static void open_on(runner *r, int32_t device, const char *path, const trial *t)
{
  aiinfra_runtime_opts opts = runtime_on(device);
  runner_load_type = t->load_type;
  runner_bf16_activations = t->round;
  runner_open(r, path, &opts, GOLDEN_MAX_TOKENS, BLOCK, t->cache);
}

/* Q8_0 wants keys and values of whole blocks. */
static aii_dtype fitting_cache(const char *path, aii_dtype wanted)
{
  runner r;
  if (wanted != AII_Q8_0) return wanted;
  open_on(&r, AIINFRA_DEVICE_CPU, path, &(trial){.cache = AII_F32});
  bool fits = r.kv.head_dim % Q8_BLOCK == 0 && r.kv.value_dim % Q8_BLOCK == 0;
  runner_close(&r);
  return fits ? AII_Q8_0 : AII_F16;
}

/* Nothing that a pass before the next one wrote helps that. */
static void spoil_cache(runner *r)
{
  aii_backend *be = r->rt->backend;
  char *nans = malloc(r->kv.block_bytes);
  aiinfra_error err;
  memset(nans, 0xff, r->kv.block_bytes);
  for (uint32_t b = 0; b < r->kv.n_blocks; b++)
    runner_say("swap", be->ops->swap_block(be, &r->kv, b, nans, false, &err), &err);
  runner_say("sync", be->ops->sync(be, &err), &err);
  free(nans);
}

/* What is being compared, for the message of a difference. */
static const char *label(const char *name, const trial *t, const char *how)
{
  static char text[160];
  snprintf(text, sizeof text, "%s, %u times as wide, %s%s, a cache of %s, %s", name, t->times,
           t->load_type != NULL ? t->load_type : "F32", t->round ? " with rounded activations" : "",
           aii_dtype_info((uint32_t)t->cache)->name, how);
  return text;
}

/* Numbers of rows: the same bits, none of them a NaN. */
static void assert_same_rows(size_t n_rows, size_t width, const char *what)
{
  for (size_t i = 0; i < n_rows * width; i++) {
    if (isfinite(want[i]) && memcmp(&got[i], &want[i], sizeof got[i]) == 0) continue;
    fail_msg("%s: number %zu of token %zu is %.9g, should be %.9g", what, i % width, i / width, (double)got[i],
             (double)want[i]);
  }
}

/* ---- decoders ---- */

/* The logits of n tokens, of which the first n_chunked go in by `chunk`, the others one by one. */
static void logits_of(runner *r, const aiinfra_token *tokens, uint32_t n, uint32_t n_chunked, uint32_t chunk,
                      float *logits)
{
  spoil_cache(r);
  for (uint32_t at = 0, step; at < n; at += step) {
    step = at < n_chunked ? AII_MIN(chunk, n_chunked - at) : 1;
    runner_step(r, tokens + at, step, at, true, logits + (size_t)at * N_VOCAB);
  }
}

static void check_decoder(const char *name, trial t)
{
  json_t *golden = golden_load("architectures", name);
  aiinfra_token tokens[GOLDEN_MAX_TOKENS];
  uint32_t prompt = thorough ? MAX_PROMPT : t.prompt, n = prompt + STEPS;
  runner r;
  assert_in_range(n, 1, golden_tokens(golden, tokens));
  wide_make(golden, t.times);
  const char *path = golden_write(golden);
  t.cache = fitting_cache(path, t.cache);
  open_on(&r, t.round ? AIINFRA_DEVICE_CUDA : AIINFRA_DEVICE_CPU, path, &t);
  assert_true(r.model->bf16_x == t.round);
  logits_of(&r, tokens, n, prompt, prompt, want);
  runner_close(&r);
  open_on(&r, AIINFRA_DEVICE_CUDA, path, &t);
  if (!t.round) {
    logits_of(&r, tokens, n, prompt, prompt, got);
    assert_same_rows(n, N_VOCAB, label(name, &t, "at once"));
  }
  if (!t.round || thorough) {
    logits_of(&r, tokens, n, n, n / (n < 30 ? 2 : 3) + 1, got);
    assert_same_rows(n, N_VOCAB, label(name, &t, "in chunks"));
  }
  if (t.round || thorough) {
    logits_of(&r, tokens, n, n, 7, got);
    assert_same_rows(n, N_VOCAB, label(name, &t, "in small chunks"));
  }
  runner_close(&r);
  json_decref(golden);
}

static bool has_experts(const char *name)
{
  json_t *golden = golden_load("architectures", name), *value;
  const char *key;
  bool found = false;
  json_object_foreach(json_object_get(golden, "keys"), key, value) found |= strstr(key, ".expert_count") != NULL;
  json_decref(golden);
  return found;
}

static void check_decoders(const trial *trials, size_t n, bool only_experts)
{
  assert_true(decoders.n > 20);
  for (size_t t = 0; t < n; t++)
    for (size_t i = 0; i < decoders.n; i++) {
      if (!thorough && trials[t].prompt == 0) continue;
      if (!only_experts || has_experts(decoders.names[i])) check_decoder(decoders.names[i], trials[t]);
    }
}

static void test_decoders(void **state)
{
  (void)state;
  static const trial trials[] = {{NULL, 1, AII_F32, 49, false},    {"BF16", 1, AII_F16, 9, false},
                                 {"Q8_0", 4, AII_Q8_0, 16, false}, {"F16", 4, AII_Q8_0, 0, false},
                                 {"Q8_0", 8, AII_Q8_0, 0, false},  {"Q4_0", 8, AII_Q8_0, 0, false},
                                 {"Q4_K_M", 8, AII_F16, 0, false}, {"MXFP4", 8, AII_F32, 0, false}};
  check_decoders(trials, AII_COUNT(trials), false);
}

static void test_experts(void **state)
{
  (void)state;
  static const trial trials[] = {{"Q4_0", 4, AII_F16, 16, false}, {"MXFP4", 4, AII_F32, 0, false}};
  check_decoders(trials, AII_COUNT(trials), true);
}

/* Rounded products are summed in an order of the GPU's own, which is the same in any chunk. */
static void test_rounded_experts(void **state)
{
  (void)state;
  static const trial trials[] = {{"BF16", 1, AII_F16, 10, true}, {"BF16", 8, AII_F16, 0, true}};
  check_decoders(trials, AII_COUNT(trials), true);
}

/* ---- super-blocks of 256, which the rows of no architecture's small model have ---- */

static void test_super_blocks(void **state)
{
  (void)state;
  static const char *const kinds[] = {"Q4_K_M", "Q2_K", "Q3_K_M", "IQ4_XS", "Q5_K_M", "Q6_K"};
  static const gm_shape shape = {.arch = "llama",
                                 .n_vocab = N_VOCAB,
                                 .n_embd = 256,
                                 .n_layers = 2,
                                 .n_heads = 4,
                                 .n_kv_heads = 2,
                                 .head_dim = 64,
                                 .n_ff = 256,
                                 .n_rot = 64,
                                 .context = 128,
                                 .rope_base = 10000,
                                 .seed = 5};
  const char *path = test_tmp("wide.gguf");
  size_t size;
  uint8_t *file = gm_model(&shape, &size);
  assert_int_equal(test_write_file(path, file, size), 0);
  free(file);
  uint32_t n = thorough ? MAX_TOKENS : 20;
  aiinfra_token tokens[MAX_TOKENS];
  for (uint32_t i = 0; i < n; i++) tokens[i] = (aiinfra_token)(3 + (i * i + 17 * i) % 250);
  for (size_t i = 0; i < AII_COUNT(kinds); i++) {
    const trial t = {kinds[i], 1, AII_Q8_0, 0, false};
    runner r;
    open_on(&r, AIINFRA_DEVICE_CPU, path, &t);
    logits_of(&r, tokens, n, n, n, want);
    runner_close(&r);
    open_on(&r, AIINFRA_DEVICE_CUDA, path, &t);
    logits_of(&r, tokens, n, n - 2, n, got);
    assert_same_rows(n, N_VOCAB, label("super-blocks", &t, "at once"));
    runner_close(&r);
  }
}

/* ---- encoders ---- */

/* Exact GELU differs in its last bits on a real device, and what is rounded behind it may differ by a step. */
static double tolerance(const runner *r, const trial *t)
{
  if (emulated || r->model->arch->act != AII_ACT_GELU_ERF) return 0;
  return t->load_type != NULL && strcmp(t->load_type, "Q8_0") == 0 ? 1e-2 : t->cache == AII_F32 ? 1e-5 : 1e-3;
}

static void check_encoder(const char *name, trial t)
{
  json_t *golden = golden_load("encoders", name);
  aiinfra_token tokens[GOLDEN_MAX_TOKENS];
  uint32_t n = golden_tokens(golden, tokens), n_second = 20;
  runner r;
  if (!thorough) n = t.prompt;
  wide_make(golden, t.times);
  const char *path = golden_write(golden);
  t.cache = fitting_cache(path, t.cache);
  open_on(&r, AIINFRA_DEVICE_CPU, path, &t);
  size_t width = r.model->hp.n_embd, total = (size_t)(n + n_second) * width;
  assert_true(total <= AII_COUNT(want));
  spoil_cache(&r);
  runner_hidden(&r, tokens, n, n_second, want);
  runner_close(&r);
  open_on(&r, AIINFRA_DEVICE_CUDA, path, &t);
  spoil_cache(&r);
  runner_hidden(&r, tokens, n, n_second, got);
  double off = 0, size = 0, most = tolerance(&r, &t);
  if (most == 0) assert_same_rows(n + n_second, width, label(name, &t, "two texts"));
  for (size_t i = 0; i < total; i++) {
    off += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
    size += (double)want[i] * (double)want[i];
  }
  if (!(sqrt(off / size) <= most)) fail_msg("%s: off by %.2g", label(name, &t, "two texts"), sqrt(off / size));
  memcpy(want, got, total * sizeof want[0]);
  spoil_cache(&r);
  runner_hidden(&r, tokens, n_second, 0, got);
  memmove(want, want + n * width, n_second * width * sizeof want[0]);
  assert_same_rows(n_second, width, label(name, &t, "alone"));
  runner_close(&r);
  json_decref(golden);
}

static void test_encoders(void **state)
{
  (void)state;
  static const trial trials[] = {
      {NULL, 1, AII_F32, 49, false}, {"BF16", 1, AII_F16, 0, false}, {"Q8_0", 4, AII_Q8_0, 0, false}};
  assert_true(encoders.n > 6);
  for (size_t t = 0; t < AII_COUNT(trials); t++)
    for (size_t i = 0; i < encoders.n; i++)
      if (thorough || trials[t].prompt > 0) check_encoder(encoders.names[i], trials[t]);
}

/* ---- the door ---- */

static int by_name(const void *a, const void *b)
{
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_files(const char *folder, list *l)
{
  DIR *dir = opendir(test_path(folder));
  for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL && l->n < MAX_NAMES;)
    if (strstr(e->d_name, ".json") != NULL) l->names[l->n++] = strdup(e->d_name);
  if (dir != NULL) closedir(dir);
  qsort(l->names, l->n, sizeof l->names[0], by_name);
}

static int set_up(void **state)
{
  (void)state;
  aiinfra_runtime_opts opts = runtime_on(AIINFRA_DEVICE_CUDA);
  aiinfra_error err;
  list_files("tests/data/architectures", &decoders);
  list_files("tests/data/encoders", &encoders);
  runner_say("runtime", aiinfra_runtime_create(&opts, &loaded, &err), &err);
  emulated = both_counter("fake_cuda_kernels") != NULL;
  const char *asked = getenv("AIINFRA_THOROUGH");
  thorough = asked != NULL ? strcmp(asked, "0") != 0 : !emulated;
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_runtime_free(loaded);
  for (size_t i = 0; i < decoders.n; i++) free(decoders.names[i]);
  for (size_t i = 0; i < encoders.n; i++) free(encoders.names[i]);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_decoders), cmocka_unit_test(test_experts),
                                     cmocka_unit_test(test_rounded_experts), cmocka_unit_test(test_super_blocks),
                                     cmocka_unit_test(test_encoders)};
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
