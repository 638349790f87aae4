/* test_cuda_ops.c - the operations of the CUDA backend beside the CPU's: the same bits. test_cuda_products.c has products,
 * test_cuda_attention.c those of the cache. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/gpu/both.h"

/* ---- norms, elements ---- */

static void test_norms(void **state)
{
  (void)state;
  const uint32_t widths[] = {8, 64, 131, 1000};
  for (size_t i = 0; i < AII_COUNT(widths); i++) {
    uint32_t n = widths[i];
    weights w = random_weights(AII_F32, n, 1, 1), b = random_weights(AII_F16, n, 1, 1);
    both x = random_both(7, n, 3);
    cpu->ops->rms_norm(cpu, x.cpu, &w.cpu, 7, n, 1e-5f, x.cpu);
    cuda->ops->rms_norm(cuda, x.cuda, &w.cuda, 7, n, 1e-5f, x.cuda);
    assert_same(&x, "rms_norm");
    cpu->ops->rms_norm(cpu, x.cpu, NULL, 7, n, 1e-6f, x.cpu);
    cuda->ops->rms_norm(cuda, x.cuda, NULL, 7, n, 1e-6f, x.cuda);
    assert_same(&x, "rms_norm without a scale");
    cpu->ops->layer_norm(cpu, x.cpu, &w.cpu, &b.cpu, 7, n, 1e-5f, x.cpu);
    cuda->ops->layer_norm(cuda, x.cuda, &w.cuda, &b.cuda, 7, n, 1e-5f, x.cuda);
    assert_same(&x, "layer_norm");
    cpu->ops->layer_norm(cpu, x.cpu, &w.cpu, NULL, 7, n, 1e-5f, x.cpu);
    cuda->ops->layer_norm(cuda, x.cuda, &w.cuda, NULL, 7, n, 1e-5f, x.cuda);
    assert_same(&x, "layer_norm without a bias");
    free_both(&x);
    free_weights(&w), free_weights(&b);
  }
}

static void test_elements(void **state)
{
  (void)state;
  enum { N = 3001 };
  both a = random_both(1, N, 12), b = random_both(1, N, 12), out = random_both(1, N, 1);
  const aii_act acts[] = {AII_ACT_SILU, AII_ACT_GELU, AII_ACT_SWIGLU_OAI};
  for (size_t i = 0; i < AII_COUNT(acts); i++) {
    cpu->ops->activate(cpu, acts[i], a.cpu, b.cpu, N, out.cpu);
    cuda->ops->activate(cuda, acts[i], a.cuda, b.cuda, N, out.cuda);
    assert_same(&out, "an activation");
  }
  cpu->ops->activate(cpu, AII_ACT_GELU, a.cpu, NULL, N, out.cpu);
  cuda->ops->activate(cuda, AII_ACT_GELU, a.cuda, NULL, N, out.cuda);
  assert_same(&out, "gelu alone");
  cpu->ops->add(cpu, a.cpu, b.cpu, 0.3f, N), cuda->ops->add(cuda, a.cuda, b.cuda, 0.3f, N);
  assert_same(&a, "add");
  cpu->ops->scale(cpu, a.cpu, 0.7f, N), cuda->ops->scale(cuda, a.cuda, 0.7f, N);
  assert_same(&a, "scale");
  cpu->ops->softcap(cpu, a.cpu, 5, N), cuda->ops->softcap(cuda, a.cuda, 5, N);
  assert_same(&a, "softcap");
  cpu->ops->copy(cpu, b.cpu, 30, 3, 90, 10, out.cpu, 20), cuda->ops->copy(cuda, b.cuda, 30, 3, 90, 10, out.cuda, 20);
  assert_same(&out, "copy");
  cpu->ops->gate_rows(cpu, a.cpu, b.cpu, 30, 100), cuda->ops->gate_rows(cuda, a.cuda, b.cuda, 30, 100);
  assert_same(&a, "gate_rows");
  free_both(&a), free_both(&b), free_both(&out);
}

static void test_embed(void **state)
{
  (void)state;
  const aiinfra_token tokens[] = {3, 0, 9, 9, 5}, bad[] = {10};
  aii_rows rows = {.n_rows = 5, .tokens = tokens};
  for (size_t t = 0; t < N_TYPES; t++) {
    weights w = random_weights(types[t], 256, 10, 1);
    both out = random_both(5, 256, 1);
    cpu->ops->embed(cpu, &w.cpu, &rows, 1.5f, out.cpu);
    cuda->ops->embed(cuda, &w.cuda, &rows, 1.5f, out.cuda);
    assert_same(&out, "embed");
    rows = (aii_rows){.n_rows = 1, .tokens = bad};
    cuda->ops->embed(cuda, &w.cuda, &rows, 1, out.cuda);
    aiinfra_error err;
    assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, "outside the vocabulary"));
    rows = (aii_rows){.n_rows = 5, .tokens = tokens};
    free_both(&out);
    free_weights(&w);
  }
}

/* ---- rotation ---- */

static void test_rope(void **state)
{
  (void)state;
  enum { ROWS = 6, HEADS = 4, KV = 2, DIM = 16, ROT = 12 };
  const uint32_t pos[ROWS] = {0, 1, 2, 700, 701, 5000}, seq[ROWS] = {0, 0, 0, 1, 1, 2};
  aii_rows rows = {.n_rows = ROWS, .n_seqs = 3, .pos = pos, .seq = seq};
  float inv[ROT / 2];
  for (int i = 0; i < ROT / 2; i++) inv[i] = powf(10000, -2.0f * (float)i / ROT);
  for (int kind = AII_ROPE_NORM; kind <= AII_ROPE_NEOX; kind++) {
    aii_rope rope = {(aii_rope_kind)kind, ROT, inv, 1.1f};
    both q = random_both(ROWS, HEADS * DIM, 1), k = random_both(ROWS, KV * DIM, 1);
    cpu->ops->rope(cpu, &rope, &rows, HEADS, KV, DIM, q.cpu, k.cpu);
    cuda->ops->rope(cuda, &rope, &rows, HEADS, KV, DIM, q.cuda, k.cuda);
    assert_same(&q, "rotated queries");
    assert_same(&k, "rotated keys");
    free_both(&q), free_both(&k);
  }
}

/* ---- experts ---- */

static void routing_case(aii_routing how, uint32_t n_rows, bool with_bias)
{
  uint32_t n = how.n_experts, k = how.n_used;
  const unsigned long long *kernels = both_counter("fake_cuda_kernels"); /* NULL on a GPU */
  bool sorted = n_rows * k > 48 && n_rows * k >= 2 * n;
  weights bias = random_weights(AII_F32, n, 1, 1);
  both scores = random_both(n_rows, n, 3), ids = random_both(n_rows, k, 1), w = random_both(n_rows, k, 1);
  aii_routing on_cpu = how, on_cuda = how;
  if (with_bias) on_cpu.bias = &bias.cpu, on_cuda.bias = &bias.cuda;
  cpu->ops->route(cpu, &on_cpu, scores.cpu, n_rows, (int32_t *)(void *)ids.cpu, w.cpu);
  cuda->ops->route(cuda, &on_cuda, scores.cuda, n_rows, (int32_t *)(void *)ids.cuda, w.cuda);
  assert_same(&ids, "experts");
  assert_same(&w, "their weights");
  const aii_dtype kinds[] = {AII_F16, AII_Q8_0, AII_Q4_K, AII_MXFP4, AII_Q3_K};
  for (size_t t = 0; t < AII_COUNT(kinds); t++) {
    weights mats = random_weights(kinds[t], 256, 20, n), biases = random_weights(AII_F32, 20, 1, n);
    both x = random_both(n_rows, 256, 1), y = random_both(n_rows * k, 20, 1), out = random_both(n_rows, 20, 1);
    cpu->ops->matmul_ids(cpu, &mats.cpu, &biases.cpu, (int32_t *)(void *)ids.cpu, x.cpu, k, n_rows * k, y.cpu);
    unsigned long long before = kernels != NULL ? *kernels : 0;
    cuda->ops->matmul_ids(cuda, &mats.cuda, &biases.cuda, (int32_t *)(void *)ids.cuda, x.cuda, k, n_rows * k, y.cuda);
    if (kernels != NULL && kinds[t] == AII_F16) assert_int_equal(*kernels - before, sorted ? 2 : 1);
    assert_same(&y, "products of experts");
    cpu->ops->combine(cpu, y.cpu, w.cpu, n_rows, k, 20, out.cpu);
    cuda->ops->combine(cuda, y.cuda, w.cuda, n_rows, k, 20, out.cuda);
    assert_same(&out, "their sum");
    free_both(&x), free_both(&y), free_both(&out);
    free_weights(&mats), free_weights(&biases);
  }
  free_both(&scores), free_both(&ids), free_both(&w);
  free_weights(&bias);
}

static void test_experts(void **state)
{
  (void)state;
  routing_case((aii_routing){.n_experts = 8, .n_used = 2}, 9, false);
  routing_case((aii_routing){.n_experts = 5, .n_used = 3, .normalise = true, .scale = 2.5f}, 9, false);
  routing_case(
      (aii_routing){
          .n_experts = 16, .n_used = 4, .n_groups = 4, .n_groups_used = 2, .sigmoid = true, .normalise = true},
      9, true);
  /* So many that they are sorted: some experts have more than a tile, some none. */
  routing_case((aii_routing){.n_experts = 40, .n_used = 2}, 90, true);
  routing_case((aii_routing){.n_experts = 3, .n_used = 2}, 230, false);
}

/* What bends within experts, then what is made of it; the launches of the first. */
static unsigned long long gated_experts(aii_dtype gate_type, aii_dtype up_type, aii_act act, uint32_t n_out,
                                        uint32_t n_rows)
{
  enum { MATS = 5, USED = 2, WIDTH = 256, DOWN = 20 };
  const uint32_t n = n_rows * USED;
  weights g = random_weights(gate_type, WIDTH, n_out, MATS), u = random_weights(up_type, WIDTH, n_out, MATS),
          bias = random_weights(AII_F32, n_out, 1, MATS), down = random_weights(AII_F32, n_out, DOWN, MATS);
  both x = random_both(n_rows, WIDTH, 2), yg = random_both(n, n_out, 1), yu = random_both(n, n_out, 1),
       y = random_both(n, DOWN, 1), ids = random_both(n, 1, 1);
  int32_t *which = (int32_t *)(void *)ids.cpu;
  for (uint32_t i = 0; i < n; i++) which[i] = (int32_t)(i * i % MATS);
  both same = both_of(ids.cpu, n, 1);
  const int32_t *on_cuda = (int32_t *)(void *)same.cuda;
  const unsigned long long *kernels = both_counter("fake_cuda_kernels"), before = kernels != NULL ? *kernels : 0;
  cuda->ops->gated_ids(cuda, act, &(aii_mul){&g.cuda, &bias.cuda, yg.cuda}, &(aii_mul){&u.cuda, &bias.cuda, yu.cuda},
                       on_cuda, x.cuda, USED, n);
  const unsigned long long launched = kernels != NULL ? *kernels - before : 0;
  cuda->ops->matmul_ids(cuda, &down.cuda, NULL, on_cuda, yg.cuda, 1, n, y.cuda);
  cpu->ops->matmul_ids(cpu, &g.cpu, &bias.cpu, which, x.cpu, USED, n, yg.cpu);
  cpu->ops->matmul_ids(cpu, &u.cpu, &bias.cpu, which, x.cpu, USED, n, yu.cpu);
  cpu->ops->activate(cpu, act, yg.cpu, yu.cpu, yg.n, yg.cpu);
  cpu->ops->matmul_ids(cpu, &down.cpu, NULL, which, yg.cpu, 1, n, y.cpu);
  assert_same(&yg, "what bends within experts");
  assert_same(&y, "what is made of it");
  free_both(&x), free_both(&yg), free_both(&yu), free_both(&y), free_both(&ids), free_both(&same);
  free_weights(&g), free_weights(&u), free_weights(&bias), free_weights(&down);
  return launched;
}

static void test_gated_experts(void **state)
{
  (void)state;
  const aii_dtype kinds[] = {AII_F16, AII_Q8_0, AII_Q4_K, AII_MXFP4};
  const bool counts = both_counter("fake_cuda_kernels") != NULL;
  for (size_t t = 0; t < AII_COUNT(kinds); t++) {
    unsigned long long launched = gated_experts(kinds[t], kinds[t], AII_ACT_SILU, 64, 3);
    if (counts) assert_in_range(launched, 1, kinds[t] == AII_F16 ? 1 : 2); /* with rows made q8 */
  }
  gated_experts(AII_Q8_0, AII_Q8_0, AII_ACT_SWIGLU_OAI, 48, 4); /* no whole blocks */
  gated_experts(AII_Q8_0, AII_Q4_K, AII_ACT_SILU, 64, 3);       /* two formats */
  gated_experts(AII_Q3_K, AII_Q3_K, AII_ACT_SILU, 64, 3);
  gated_experts(AII_Q4_K, AII_Q4_K, AII_ACT_SILU, 96, 70); /* sorted */
  gated_experts(AII_F16, AII_F16, AII_ACT_GELU, 40, 70);
}

/* Heads take turns over matrices. */
static void test_turns(void **state)
{
  (void)state;
  for (uint32_t n = 12; n <= 300; n *= 25) {
    weights w = random_weights(AII_Q8_0, 64, 24, 3);
    both x = random_both(n, 64, 1), y = random_both(n, 24, 1);
    cpu->ops->matmul_ids(cpu, &w.cpu, NULL, NULL, x.cpu, 1, n, y.cpu);
    cuda->ops->matmul_ids(cuda, &w.cuda, NULL, NULL, x.cuda, 1, n, y.cuda);
    assert_same(&y, "turns");
    free_both(&x), free_both(&y);
    free_weights(&w);
  }
}

/* ---- what is refused ---- */

static void test_refusals(void **state)
{
  (void)state;
  aiinfra_error err;
  aii_weight w = {.type = AII_Q4_0, .n_in = 40, .n_out = 2, .source = "x"};
  assert_int_equal(cuda->ops->upload(cuda, &w, &err), AIINFRA_EFORMAT);
  assert_null(w.device);
  aii_kv_view kv = {.type = AII_Q8_0,
                    .n_layers = 1,
                    .n_kv_heads = 1,
                    .head_dim = 40,
                    .value_dim = 32,
                    .block_tokens = 16,
                    .n_blocks = 1};
  const uint32_t zero[1] = {0}, *tables[1] = {zero};
  aii_rows rows = {.n_rows = 1, .n_seqs = 1, .pos = zero, .seq = zero, .tables = tables};
  both k = random_both(1, 64, 1);
  cuda->ops->kv_write(cuda, &kv, 0, &rows, k.cuda, k.cuda);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_ENOTSUP);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_OK); /* told once */
  assert_int_equal(cuda->ops->copy_block(cuda, &kv, 0, 1, &err), AIINFRA_EINVAL);
  free_both(&k);
}

/* ---- ranks: NCCL with one of them; e2e/test_ranks.sh has two ---- */

static aiinfra_status alone_tell(aii_comm *comm, void *bytes, size_t n, aiinfra_error *err)
{
  (void)comm, (void)bytes, (void)n, (void)err;
  return AIINFRA_OK;
}

static aiinfra_status alone_sum(aii_comm *comm, float *x, size_t n, aiinfra_error *err)
{
  (void)comm, (void)x, (void)n, (void)err;
  return AIINFRA_OK;
}

static void test_one_rank(void **state)
{
  static const aii_comm_ops ops = {.name = "alone", .tell = alone_tell, .sum = alone_sum};
  aii_comm comm = {.ops = &ops, .size = 1};
  aiinfra_error err;
  (void)state;
  both x = random_both(3, 1000, 1);
  cuda->ops->sum_ranks(cuda, x.cuda, x.n);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_EINTERNAL);
  assert_non_null(strstr(err.message, "did not meet"));
  /* Without a GPU the one that needs none is found first. */
  if (getenv("AIINFRA_CUDA_PLUGIN") == NULL)
    assert_non_null(dlopen(test_built("nccl-on-cpu/libnccl.so.2"), RTLD_NOW | RTLD_GLOBAL));
  aiinfra_status rc = cuda->ops->join(cuda, &comm, &err);
  if (rc == AIINFRA_ENOTSUP) {
    free_both(&x);
    print_message("skipped: %s\n", err.message);
    skip();
  }
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
  cuda->ops->sum_ranks(cuda, x.cuda, x.n);
  assert_same(&x, "the sum of one rank");
  free_both(&x);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_norms), cmocka_unit_test(test_elements), cmocka_unit_test(test_embed),
      cmocka_unit_test(test_rope),  cmocka_unit_test(test_experts),  cmocka_unit_test(test_gated_experts),
      cmocka_unit_test(test_turns), cmocka_unit_test(test_refusals), cmocka_unit_test(test_one_rank),
  };
  return cmocka_run_group_tests(tests, both_set_up, both_tear_down);
}
