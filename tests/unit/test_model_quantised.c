/* test_model_quantised.c - a small model stored by each recipe opens, runs, and says nearly what it said as floats. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "aiinfra/eval.h"
#include "src/model/model.h"
#include "tests/data/gguf_maker.h"
#include "tests/support/support.h"

enum { N_VOCAB = 270, N_TOKENS = 12 };

static const gm_shape shape = {.arch = "llama",
                               .n_vocab = N_VOCAB,
                               .n_embd = 256,
                               .n_layers = 1,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 64,
                               .n_ff = 288, /* ffn_down falls back */
                               .n_rot = 64,
                               .context = 32,
                               .seed = 11};

static aiinfra_runtime *rt;
static aiinfra_error err;

static void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s: %s", aiinfra_status_name(rc), err.message);
}

static void run(const uint8_t *bytes, size_t n, float *logits)
{
  aiinfra_token tokens[N_TOKENS];
  aiinfra_model *model = NULL;
  aiinfra_eval *eval = NULL;
  const char *path = test_tmp("quantised.gguf");
  assert_int_equal(test_write_file(path, bytes, n), 0);
  for (int i = 0; i < N_TOKENS; i++) tokens[i] = 3 + 17 * i;
  must(aiinfra_model_open(rt, path, NULL, &model, &err));
  must(aiinfra_eval_create(model, NULL, &eval, &err));
  must(aiinfra_eval_run(eval, tokens, N_TOKENS, N_TOKENS, logits, N_TOKENS * N_VOCAB, &err));
  aiinfra_eval_free(eval);
  aiinfra_model_free(model);
}

/* The tensors of a file, stored by a recipe. */
static uint8_t *stored(const aii_gguf *from, const aii_recipe *recipe, size_t *n)
{
  gguf_maker m;
  gm_init(&m);
  gm_model_keys(&m, &shape);
  for (size_t i = 0; i < aii_gguf_n_tensors(from); i++) {
    const aii_gguf_tensor *t = aii_gguf_tensor_at(from, i);
    char name[64];
    unsigned layer = 0;
    (void)snprintf(name, sizeof name, "%.*s", (int)t->name.n, t->name.p);
    (void)sscanf(name, "blk.%u.", &layer);
    aii_recipe_tensor about = {.name = name,
                               .n_dims = t->n_dims,
                               .ne0 = t->ne[0],
                               .layer = layer,
                               .n_layers = shape.n_layers,
                               .n_gqa = 2,
                               .is_output = strcmp(name, "output.weight") == 0};
    aii_dtype type = aii_recipe_type(recipe, &about);
    const aii_dtype_traits *info = aii_dtype_info((uint32_t)type);
    size_t bytes = (size_t)(t->ne[0] / info->block * info->block_bytes * t->ne[1]);
    void *data = malloc(bytes);
    must(aii_quantize_rows(type, (const float *)(const void *)t->data, (size_t)t->ne[1], (size_t)t->ne[0], NULL, data,
                           &err));
    gm_tensor(&m, name, (uint32_t)type, t->ne[0], t->ne[1], data, bytes);
    free(data);
  }
  return gm_finish(&m, n);
}

/* The distance of logits in parts of their size. */
static double distance(const float *a, const float *b)
{
  double off = 0, size = 0;
  for (int i = 0; i < N_TOKENS * N_VOCAB; i++) {
    off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    size += (double)a[i] * (double)a[i];
  }
  return sqrt(off / size);
}

static void test_every_recipe(void **state)
{
  static float want[N_TOKENS * N_VOCAB], got[N_TOKENS * N_VOCAB];
  size_t n;
  aii_mem mem;
  aii_gguf *from = NULL;
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  must(aiinfra_runtime_create(NULL, &rt, &err));
  uint8_t *floats = gm_model(&shape, &n);
  must(aii_gguf_from_memory(&mem, floats, n, &from, &err));
  run(floats, n, want);
  size_t whole = n;
  for (size_t i = 0; aii_recipe_at(i) != NULL; i++) {
    const aii_recipe *r = aii_recipe_at(i);
    const aii_dtype_traits *base = aii_dtype_info((uint32_t)r->base);
    uint8_t *bytes = stored(from, r, &n);
    run(bytes, n, got);
    free(bytes);
    double off = distance(want, got), bits = AII_MIN(8.0 * base->block_bytes / base->block, 9.0);
    /* half as much for each bit */
    if (!(off <= 2.5 * pow(0.5, bits - 2))) fail_msg("%s is off by %g", r->name, off);
    assert_true(r->base == AII_F32 || n < whole);
  }
  aii_gguf_free(from);
  free(floats);
  aiinfra_runtime_free(rt);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_recipe)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
