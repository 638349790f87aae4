/* test_imatrix.c - importance matrices: what is summed, the file, and what reading it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "aiinfra/eval.h"
#include "aiinfra/imatrix.h"
#include "src/model/model.h"
#include "tests/data/gguf_maker.h"
#include "tests/support/support.h"

enum { N_VOCAB = 270, N_EMBD = 32, N_TOKENS = 50 };

static const gm_shape shape = {.arch = "qwen2",
                               .n_vocab = N_VOCAB,
                               .n_embd = N_EMBD,
                               .n_layers = 2,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 8,
                               .n_ff = 48,
                               .n_rot = 8,
                               .context = 64,
                               .bias = true,
                               .tied = true,
                               .seed = 5};

static aiinfra_runtime *rt;
static aiinfra_model *model;
static aiinfra_error err;
static aii_mem mem;
static aiinfra_token tokens[N_TOKENS];

static void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s: %s", aiinfra_status_name(rc), err.message);
}

static int setup(void **state)
{
  (void)state;
  size_t n;
  unsigned long long random = 3;
  uint8_t *bytes = gm_model(&shape, &n);
  const char *path = test_tmp("model.gguf");
  int bad = test_write_file(path, bytes, n);
  free(bytes);
  aii_mem_init(&mem, NULL, 0);
  for (int i = 0; i < N_TOKENS; i++) tokens[i] = (aiinfra_token)(test_random(&random) % N_VOCAB);
  return bad || aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK ||
         aiinfra_model_open(rt, path, NULL, &model, &err) != AIINFRA_OK;
}

static int teardown(void **state)
{
  (void)state;
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  return atomic_load(&mem.used_bytes) == 0 ? 0 : -1;
}

static void run(float *logits)
{
  aiinfra_eval *eval = NULL;
  must(aiinfra_eval_create(model, NULL, &eval, &err));
  must(aiinfra_eval_run(eval, tokens, N_TOKENS, 1, logits, N_VOCAB, &err));
  aiinfra_eval_free(eval);
}

/* What the first layer's attention gets: the embeddings, normed. */
static void expected(double mean[N_EMBD])
{
  const float *embd = model->tok_embd.source;
  const float *w = (const void *)aii_gguf_find_tensor(model->gguf, "blk.0.attn_norm.weight")->data;
  memset(mean, 0, N_EMBD * sizeof *mean);
  for (int t = 0; t < N_TOKENS; t++) {
    const float *x = embd + (size_t)tokens[t] * N_EMBD;
    double squares = 0;
    for (int i = 0; i < N_EMBD; i++) squares += (double)x[i] * (double)x[i];
    for (int i = 0; i < N_EMBD; i++) {
      double v = (double)x[i] / sqrt(squares / N_EMBD + 1e-5) * (double)w[i];
      mean[i] += v * v / N_TOKENS;
    }
  }
}

static void test_sums(void **state)
{
  (void)state;
  aiinfra_imatrix *im = NULL, *second = (aiinfra_imatrix *)(void *)&err;
  float plain[N_VOCAB], observed[N_VOCAB], got[N_EMBD], down[48];
  double want[N_EMBD];
  bool found;
  char path[512];
  (void)snprintf(path, sizeof path, "%s", test_tmp("imatrix.gguf"));
  run(plain);
  must(aiinfra_imatrix_create(model, &im, &err));
  assert_int_equal(aiinfra_imatrix_create(model, &second, &err), AIINFRA_EBUSY);
  assert_null(second);
  assert_int_equal(aiinfra_imatrix_save(im, path, NULL, &err), AIINFRA_EINVAL); /* nothing seen */
  run(observed);
  assert_memory_equal(plain, observed, sizeof plain);
  must(aiinfra_imatrix_save(im, path, "made up", &err));
  run(observed);
  must(aiinfra_imatrix_save(im, path, "made up", &err)); /* replaces; the same text twice has the same means */
  assert_int_equal(aiinfra_imatrix_save(im, "/nowhere/at/all", NULL, &err), AIINFRA_ENOENT);
  aiinfra_imatrix_free(im);
  run(observed); /* no longer counted, and no longer looked at */

  aii_gguf *file = NULL;
  must(aii_importance_open(&mem, path, &file, &err));
  expected(want);
  must(aii_importance_get(file, "blk.0.attn_k.weight", 0, 1, N_EMBD, got, &found, &err));
  assert_true(found);
  for (int i = 0; i < N_EMBD; i++)
    if (fabs((double)got[i] - want[i]) > 1e-4 * want[i])
      fail_msg("column %d is %g, not %g", i, (double)got[i], want[i]);
  must(aii_importance_get(file, "blk.1.ffn_down.weight", 0, 1, 48, down, &found, &err));
  assert_true(found && down[0] > 0);
  must(aii_importance_get(file, "token_embd.weight", 0, 1, N_EMBD, got, &found, &err));
  assert_true(found); /* serves as the output, too */
  must(aii_importance_get(file, "blk.2.attn_k.weight", 0, 1, N_EMBD, got, &found, &err));
  assert_false(found);
  assert_int_equal(aii_importance_get(file, "blk.0.attn_k.weight", 0, 1, 16, got, &found, &err), AIINFRA_EFORMAT);
  assert_int_equal(aii_importance_get(file, "blk.0.attn_k.weight", 1, 2, N_EMBD, got, &found, &err), AIINFRA_EFORMAT);
  const aii_gguf_tensor *counts = aii_gguf_find_tensor(file, "blk.0.attn_k.weight.counts");
  float count;
  memcpy(&count, counts->data, sizeof count);
  assert_true(count == 2 * N_TOKENS);
  aii_gguf_free(file);
}

static void test_refusals(void **state)
{
  (void)state;
  aii_gguf *file = (aii_gguf *)(void *)&err;
  aiinfra_imatrix *im = (aiinfra_imatrix *)(void *)&err;
  assert_int_equal(aii_importance_open(&mem, test_tmp("model.gguf"), &file, &err), AIINFRA_EFORMAT);
  assert_null(file);
  assert_non_null(strstr(err.message, "no importance matrix"));
  assert_int_equal(aiinfra_imatrix_create(NULL, &im, &err), AIINFRA_EINVAL);
  assert_null(im);
  assert_int_equal(aiinfra_imatrix_create(model, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_imatrix_save(NULL, "x", NULL, &err), AIINFRA_EINVAL);
  aiinfra_imatrix_free(NULL);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
