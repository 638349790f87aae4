/* test_cuda_layers.c - the layers of a decoder by the CUDA backend: how many kernels a step of decoding launches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "tests/gpu/both.h"

/* ---- attention and a dense network ---- */

enum { EMBD = 256, HEADS = 4, KV_HEADS = 2, DIM = 64, FF = 512, LAYER_KERNELS = 5 };

typedef struct layer {
  weights norm, q, k, v, o, ffn_norm, gate, up, down;
} layer;

static void run_layer(aii_backend *be, const layer *l, bool on_cpu, const aii_rows *rows, const aii_kv_view *kv,
                      const both *x, const both *h, const both *q, const both *k, const both *v, const both *t)
{
#define W(w) (on_cpu ? &l->w.cpu : &l->w.cuda)
#define P(b) (on_cpu ? (b)->cpu : (b)->cuda)
  const uint32_t n = rows->n_rows;
  static const float inv[DIM / 2] = {1, 0.7f, 0.5f, 0.3f, 0.1f};
  const aii_rope rope = {AII_ROPE_NORM, DIM, inv, 1};
  const aii_attn how = {.n_heads = HEADS, .scale = 0.125f};
  const aii_mul qkv[] = {{W(q), NULL, P(q)}, {W(k), NULL, P(k)}, {W(v), NULL, P(v)}}, gate = {W(gate), NULL, P(t)},
                up = {W(up), NULL, P(t) + (size_t)n * FF};
  both_norm_matmuls(be, &(aii_norm){W(norm), NULL, 1e-5f, false, P(h)}, qkv, 3, P(x), n);
  if (be->ops->attend_own != NULL) {
    be->ops->attend_own(be, kv, 0, rows, &(aii_own){.rope = &rope, .k = P(k), .v = P(v)}, &how, P(q), P(h));
  } else {
    be->ops->rope(be, &rope, rows, HEADS, KV_HEADS, DIM, P(q), P(k));
    be->ops->kv_write(be, kv, 0, rows, P(k), P(v));
    be->ops->attention(be, kv, 0, rows, &how, P(q), P(h));
  }
  be->ops->matmul(be, W(o), NULL, P(h), n, true, P(x));
  both_norm_gated(be, &(aii_norm){W(ffn_norm), NULL, 1e-5f, false, P(h)}, AII_ACT_SILU, &gate, &up, P(x), n);
  be->ops->matmul(be, W(down), NULL, P(t), n, true, P(x));
#undef W
#undef P
}

static void layer_case(aii_dtype type, uint32_t n)
{
  layer l = {.norm = random_weights(AII_F32, EMBD, 1, 1),
             .q = random_weights(type, EMBD, HEADS * DIM, 1),
             .k = random_weights(type, EMBD, KV_HEADS * DIM, 1),
             .v = random_weights(type, EMBD, KV_HEADS * DIM, 1),
             .o = random_weights(type, HEADS * DIM, EMBD, 1),
             .ffn_norm = random_weights(AII_F32, EMBD, 1, 1),
             .gate = random_weights(type, EMBD, FF, 1),
             .up = random_weights(type, EMBD, FF, 1),
             .down = random_weights(type, FF, EMBD, 1)};
  const uint32_t pos[4] = {0, 0, 0, 0}, seq[4] = {0, 1, 2, 3}, blocks[4] = {2, 0, 3, 1},
                 *tables[4] = {blocks, blocks + 1, blocks + 2, blocks + 3};
  const aii_rows rows = {.n_rows = n, .n_seqs = n, .pos = pos, .seq = seq, .tables = tables};
  aii_kv_view on_cpu = {.type = AII_F16,
                        .n_layers = 1,
                        .n_kv_heads = KV_HEADS,
                        .head_dim = DIM,
                        .value_dim = DIM,
                        .block_tokens = 16,
                        .n_blocks = 4},
              on_cuda;
  aiinfra_error err;
  assert_true(aii_kv_lay_out(&on_cpu));
  on_cuda = on_cpu;
  const size_t bytes = on_cpu.block_bytes * on_cpu.n_blocks;
  assert_int_equal(cpu->ops->alloc(cpu, bytes, &on_cpu.base, &err), AIINFRA_OK);
  assert_int_equal(cuda->ops->alloc(cuda, bytes, &on_cuda.base, &err), AIINFRA_OK);
  both x = random_both(n, EMBD, 1), h = random_both(n, EMBD, 1), q = random_both(n, HEADS * DIM, 1),
       k = random_both(n, KV_HEADS * DIM, 1), v = random_both(n, KV_HEADS * DIM, 1), t = random_both(2 * n, FF, 1);
  const unsigned long long *kernels = both_counter("fake_cuda_kernels"), before = kernels != NULL ? *kernels : 0;
  run_layer(cpu, &l, true, &rows, &on_cpu, &x, &h, &q, &k, &v, &t);
  run_layer(cuda, &l, false, &rows, &on_cuda, &x, &h, &q, &k, &v, &t);
  const unsigned most = LAYER_KERNELS + (type == AII_BF16 && n > 1 ? 2 : 0); /* its rows are normalised before */
  if (kernels != NULL && *kernels - before > most)
    fail_msg("a layer of %u rows launches %llu kernels; %u should do", n, *kernels - before, most);
  assert_same(&x, "a layer");
  cpu->ops->release(cpu, on_cpu.base, bytes), cuda->ops->release(cuda, on_cuda.base, bytes);
  free_both(&x), free_both(&h), free_both(&q), free_both(&k), free_both(&v), free_both(&t);
  free_weights(&l.norm), free_weights(&l.q), free_weights(&l.k), free_weights(&l.v), free_weights(&l.o);
  free_weights(&l.ffn_norm), free_weights(&l.gate), free_weights(&l.up), free_weights(&l.down);
}

static void test_dense(void **state)
{
  (void)state;
  for (uint32_t n = 1; n <= 4; n++) {
    layer_case(AII_Q4_K, n);
    layer_case(AII_Q8_0, n);
    layer_case(AII_BF16, n);
  }
}

/* ---- a mixture of experts, behind attention ---- */

enum { EXPERTS = 6, USED = 2, FF_EXPERT = 64, EXPERTS_KERNELS = 7 };

typedef struct mixture {
  weights norm, router, gate, up, down;
} mixture;

static void run_mixture(aii_backend *be, const mixture *m, bool on_cpu, uint32_t n, const both *x, const both *h,
                        const both *scores, const both *choice, const both *t)
{
#define W(w) (on_cpu ? &m->w.cpu : &m->w.cuda)
#define P(b) (on_cpu ? (b)->cpu : (b)->cuda)
  const uint32_t pairs = n * USED;
  const aii_routing how = {.n_experts = EXPERTS, .n_used = USED, .normalise = true};
  int32_t *ids = (int32_t *)(void *)P(choice);
  float *weights_of = P(choice) + pairs, *gate = P(t), *up = gate + (size_t)pairs * FF_EXPERT,
        *each = up + (size_t)pairs * FF_EXPERT, *sum = each + (size_t)pairs * EMBD;
  be->ops->rms_norm(be, P(x), W(norm), n, EMBD, 1e-5f, P(h));
  be->ops->matmul(be, W(router), NULL, P(h), n, false, P(scores));
  be->ops->route(be, &how, P(scores), n, ids, weights_of);
  if (be->ops->gated_ids != NULL) {
    be->ops->gated_ids(be, AII_ACT_SILU, &(aii_mul){W(gate), NULL, gate}, &(aii_mul){W(up), NULL, up}, ids, P(h), USED,
                       pairs);
  } else {
    be->ops->matmul_ids(be, W(gate), NULL, ids, P(h), USED, pairs, gate);
    be->ops->matmul_ids(be, W(up), NULL, ids, P(h), USED, pairs, up);
    be->ops->activate(be, AII_ACT_SILU, gate, up, (size_t)pairs * FF_EXPERT, gate);
  }
  be->ops->matmul_ids(be, W(down), NULL, ids, gate, 1, pairs, each);
  be->ops->combine(be, each, weights_of, n, USED, EMBD, sum);
  be->ops->add(be, P(x), sum, 1, (size_t)n * EMBD);
#undef W
#undef P
}

static void mixture_case(aii_dtype type, uint32_t n)
{
  mixture m = {.norm = random_weights(AII_F32, EMBD, 1, 1),
               .router = random_weights(AII_F32, EMBD, EXPERTS, 1),
               .gate = random_weights(type, EMBD, FF_EXPERT, EXPERTS),
               .up = random_weights(type, EMBD, FF_EXPERT, EXPERTS),
               .down = random_weights(type == AII_Q4_K ? AII_Q8_0 : type, FF_EXPERT, EMBD, EXPERTS)};
  both x = random_both(n, EMBD, 1), h = random_both(n, EMBD, 1), scores = random_both(n, EXPERTS, 1),
       choice = random_both(n, 2 * USED, 1), t = random_both(n, (2 * FF_EXPERT + EMBD) * USED + EMBD, 1);
  const unsigned long long *kernels = both_counter("fake_cuda_kernels"), before = kernels != NULL ? *kernels : 0;
  run_mixture(cuda, &m, false, n, &x, &h, &scores, &choice, &t);
  const unsigned long long launched = kernels != NULL ? *kernels - before : 0;
  run_mixture(cpu, &m, true, n, &x, &h, &scores, &choice, &t);
  if (launched > EXPERTS_KERNELS) fail_msg("experts of %u rows launch %llu kernels", n, launched);
  assert_same(&x, "a layer with experts");
  free_both(&x), free_both(&h), free_both(&scores), free_both(&choice), free_both(&t);
  free_weights(&m.norm), free_weights(&m.router), free_weights(&m.gate), free_weights(&m.up), free_weights(&m.down);
}

static void test_experts(void **state)
{
  (void)state;
  for (uint32_t n = 1; n <= 4; n++) {
    mixture_case(AII_Q4_K, n);
    mixture_case(AII_Q8_0, n);
    mixture_case(AII_F16, n);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_dense), cmocka_unit_test(test_experts)};
  return cmocka_run_group_tests(tests, both_set_up, both_tear_down);
}
