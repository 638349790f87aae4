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

/* ---- experts ---------------------------------------------------------------------------------------------------- */

enum { EXPERTS = 5, USED = 2, FF_EXP = 24 };

static void expert_tensor(gguf_maker *m, const char *name, uint64_t n_in, uint64_t n_out, uint64_t *random)
{
  uint64_t ne[3] = {n_in, n_out, EXPERTS};
  size_t n = (size_t)(n_in * n_out) * EXPERTS;
  float *values = malloc(n * sizeof *values);
  for (size_t i = 0; i < n; i++) values[i] = 0.2f * gm_random(random);
  gm_pad(&m->data, m->alignment);
  gm_info(m, name, 0, 3, ne, m->data.n);
  gm_add(&m->data, values, n * sizeof *values);
  free(values);
}

static uint8_t *expert_model(size_t *size)
{
  gm_shape s = shape;
  gguf_maker m;
  uint64_t r = 9;
  s.arch = "qwen3moe";
  s.n_layers = 1;
  gm_init(&m);
  gm_model_keys(&m, &s);
  gm_arch_u32(&m, &s, "expert_count", EXPERTS);
  gm_arch_u32(&m, &s, "expert_used_count", USED);
  gm_arch_u32(&m, &s, "expert_feed_forward_length", FF_EXP);
  gm_random_tensor(&m, "token_embd.weight", N_EMBD, N_VOCAB, 0, 1, &r);
  gm_random_tensor(&m, "output_norm.weight", N_EMBD, 1, 1, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.attn_norm.weight", N_EMBD, 1, 1, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.attn_q.weight", N_EMBD, 32, 0, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.attn_k.weight", N_EMBD, 16, 0, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.attn_v.weight", N_EMBD, 16, 0, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.attn_q_norm.weight", 8, 1, 1, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.attn_k_norm.weight", 8, 1, 1, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.attn_output.weight", 32, N_EMBD, 0, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.ffn_norm.weight", N_EMBD, 1, 1, 0.2f, &r);
  gm_random_tensor(&m, "blk.0.ffn_gate_inp.weight", N_EMBD, EXPERTS, 0, 1, &r);
  expert_tensor(&m, "blk.0.ffn_gate_exps.weight", N_EMBD, FF_EXP, &r);
  expert_tensor(&m, "blk.0.ffn_up_exps.weight", N_EMBD, FF_EXP, &r);
  expert_tensor(&m, "blk.0.ffn_down_exps.weight", FF_EXP, N_EMBD, &r);
  return gm_finish(&m, size);
}

static float number(const aii_gguf *file, const char *name, size_t i)
{
  float f = 0;
  const aii_gguf_tensor *t = aii_gguf_find_tensor(file, name);
  if (t == NULL) fail_msg("%s is missing", name);
  else memcpy(&f, t->data + i * sizeof f, sizeof f);
  return f;
}

/* Every row goes to the router once and to two experts: their sums are twice the router's. */
static void test_experts(void **state)
{
  (void)state;
  size_t n;
  uint8_t *bytes = expert_model(&n);
  aiinfra_model *dense = model;
  aiinfra_imatrix *im = NULL;
  aii_gguf *file = NULL;
  float logits[N_VOCAB];
  char path[512];
  (void)snprintf(path, sizeof path, "%s", test_tmp("experts.gguf"));
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  must(aiinfra_model_open(rt, path, NULL, &model, &err));
  must(aiinfra_imatrix_create(model, &im, &err));
  run(logits);
  must(aiinfra_imatrix_save(im, test_tmp("imatrix.gguf"), NULL, &err));
  aiinfra_imatrix_free(im);
  aiinfra_model_free(model);
  model = dense;
  must(aii_importance_open(&mem, test_tmp("imatrix.gguf"), &file, &err));
  double rows = 0, router, experts;
  for (size_t e = 0; e < EXPERTS; e++) rows += (double)number(file, "blk.0.ffn_down_exps.weight.counts", e);
  assert_true(rows == USED * N_TOKENS);
  for (size_t i = 0; i < N_EMBD; i++) {
    router = (double)number(file, "blk.0.ffn_gate_inp.weight.in_sum2", i);
    experts = 0;
    for (size_t e = 0; e < EXPERTS; e++)
      experts += (double)number(file, "blk.0.ffn_up_exps.weight.in_sum2", e * N_EMBD + i);
    assert_true(fabs(experts - USED * router) < 1e-4 * router);
  }
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
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_experts),
                                     cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, setup, teardown);
}
