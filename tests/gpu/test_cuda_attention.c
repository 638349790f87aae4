/* test_cuda_attention.c - the cache and attention of the CUDA backend beside the CPU's: the same bits; where they may be
 * rounded nearly so, and the same for any number of rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/gpu/both.h"

enum { MOST_SEQS = 3 };

/* Sequences of which so many positions were written, and so many of the last rows attend; 0: there is no more. */
typedef struct attn_case {
  const char *what;
  aii_dtype type;
  uint32_t heads, kv_heads, head_dim, value_dim, block;
  uint32_t lengths[MOST_SEQS], rows[MOST_SEQS];
  aii_attn how;
} attn_case;

/* ---- a cache on both devices ---- */

typedef struct caches {
  aii_kv_view cpu, cuda;
  uint32_t *tables[MOST_SEQS], n_seqs;
  uint32_t *pos, *seq; /* of all that is written, or of those that attend */
} caches;

static void kv_alloc(aii_backend *be, aii_kv_view *kv)
{
  aiinfra_error err;
  assert_true(aii_kv_lay_out(kv));
  assert_int_equal(be->ops->alloc(be, kv->block_bytes * kv->n_blocks, &kv->base, &err), AIINFRA_OK);
}

static caches caches_of(const attn_case *c)
{
  uint32_t longest = 1, total = 0;
  caches k = {.n_seqs = 0};
  for (; k.n_seqs < MOST_SEQS && c->lengths[k.n_seqs] > 0; k.n_seqs++) {
    longest = AII_MAX(longest, c->lengths[k.n_seqs]);
    total += c->lengths[k.n_seqs];
  }
  uint32_t n_blocks = (longest + c->block - 1) / c->block;
  k.cpu = k.cuda = (aii_kv_view){.type = c->type,
                                 .n_layers = 2,
                                 .n_kv_heads = c->kv_heads,
                                 .head_dim = c->head_dim,
                                 .value_dim = c->value_dim,
                                 .block_tokens = c->block,
                                 .n_blocks = k.n_seqs * n_blocks};
  kv_alloc(cpu, &k.cpu), kv_alloc(cuda, &k.cuda);
  for (uint32_t s = 0; s < k.n_seqs; s++) {
    k.tables[s] = malloc(n_blocks * sizeof(uint32_t));
    for (uint32_t b = 0; b < n_blocks; b++) k.tables[s][b] = k.n_seqs * (n_blocks - 1 - b) + s;
  }
  k.pos = malloc(total * sizeof *k.pos);
  k.seq = malloc(total * sizeof *k.seq);
  return k;
}

static void free_caches(caches *k)
{
  cpu->ops->release(cpu, k->cpu.base, k->cpu.block_bytes * k->cpu.n_blocks);
  cuda->ops->release(cuda, k->cuda.base, k->cuda.block_bytes * k->cuda.n_blocks);
  for (uint32_t s = 0; s < k->n_seqs; s++) free(k->tables[s]);
  free(k->pos), free(k->seq);
}

/* The last counts[s] of each sequence's rows. */
static aii_rows last_rows(caches *k, const uint32_t *lengths, const uint32_t *counts)
{
  uint32_t n = 0;
  for (uint32_t s = 0; s < k->n_seqs; s++)
    for (uint32_t p = lengths[s] - counts[s]; p < lengths[s]; p++, n++) k->pos[n] = p, k->seq[n] = s;
  return (aii_rows){
      .n_rows = n, .n_seqs = k->n_seqs, .pos = k->pos, .seq = k->seq, .tables = (const uint32_t *const *)k->tables};
}

static void write_all(caches *k, const attn_case *c)
{
  aii_rows rows = last_rows(k, c->lengths, c->lengths);
  both key = random_both(rows.n_rows, c->kv_heads * c->head_dim, 1);
  both value = random_both(rows.n_rows, c->kv_heads * c->value_dim, 1);
  cpu->ops->kv_write(cpu, &k->cpu, 1, &rows, key.cpu, value.cpu);
  cuda->ops->kv_write(cuda, &k->cuda, 1, &rows, key.cuda, value.cuda);
  sync_both();
  free_both(&key), free_both(&value);
}

/* ---- attention ---- */

/* Whether tensor cores multiply what is rounded to F16. */
static bool rounds(const attn_case *c)
{
  return c->how.rounded && c->type == AII_F16 && c->head_dim % 16 == 0 && c->value_dim % 16 == 0;
}

/* Each head of a result, as a vector: what it is off by is short beside it. */
static void assert_heads_near(const both *b, uint32_t dim, const char *what)
{
  const double most = 1.5e-3;
  float *got = fetched(b);
  for (size_t i = 0; i < b->n; i += dim) {
    double off = 0, length = 0;
    for (size_t d = i; d < i + dim; d++) {
      off += pow((double)got[d] - (double)b->cpu[d], 2);
      length += pow((double)b->cpu[d], 2);
    }
    if (!(sqrt(off) <= most * sqrt(length))) fail_msg("%s: head %zu is off by %g", what, i / dim, sqrt(off / length));
  }
  free(got);
}

static void assert_attended(const both *out, const attn_case *c)
{
  if (rounds(c)) assert_heads_near(out, c->value_dim, c->what);
  else assert_same(out, c->what);
}

static void assert_same_results(const both *a, const both *b, const char *what)
{
  float *x = fetched(a), *y = fetched(b);
  if (memcmp(x, y, a->n * sizeof(float)) != 0) fail_msg("%s: other bits when rows come otherwise", what);
  free(x), free(y);
}

/* So many rows at a time have the bits that they have together. */
static void attend_again(const caches *k, const attn_case *c, const aii_rows *rows, const aii_attn *how, const both *q,
                         const both *together, uint32_t at_once)
{
  both out = random_both(rows->n_rows, together->width, 1);
  for (uint32_t r = 0; r < rows->n_rows; r += at_once) {
    aii_rows some = *rows;
    some.n_rows = AII_MIN(at_once, rows->n_rows - r);
    some.pos += r, some.seq += r;
    cuda->ops->attention(cuda, &k->cuda, 1, &some, how, q->cuda + r * q->width, out.cuda + r * out.width);
  }
  assert_same_results(&out, together, c->what);
  free_both(&out);
}

static void attend(caches *k, const attn_case *c)
{
  aii_rows rows = last_rows(k, c->lengths, c->rows);
  both q = random_both(rows.n_rows, c->heads * c->head_dim, 2);
  both out = random_both(rows.n_rows, c->heads * c->value_dim, 1);
  weights sinks = random_weights(AII_F32, c->heads, 1, 1);
  aii_attn on_cpu = c->how, on_cuda = c->how;
  on_cpu.n_heads = on_cuda.n_heads = c->heads;
  on_cpu.scale = on_cuda.scale = 1 / sqrtf((float)c->head_dim);
  if (c->how.sinks != NULL) on_cpu.sinks = &sinks.cpu, on_cuda.sinks = &sinks.cuda;
  cpu->ops->attention(cpu, &k->cpu, 1, &rows, &on_cpu, q.cpu, out.cpu);
  cuda->ops->attention(cuda, &k->cuda, 1, &rows, &on_cuda, q.cuda, out.cuda);
  assert_attended(&out, c);
  for (uint32_t at_once = 1; rounds(c) && !c->how.both_ways && at_once < rows.n_rows; at_once *= 16)
    attend_again(k, c, &rows, &on_cuda, &q, &out, at_once);
  free_both(&q), free_both(&out);
  free_weights(&sinks);
}

static void attention_case(const attn_case *c)
{
  caches k = caches_of(c);
  write_all(&k, c);
  attend(&k, c);
  free_caches(&k);
}

static void test_decoding(void **state)
{
  (void)state;
  static const aii_weight sinks;
  const attn_case cases[] = {
      {"F32", AII_F32, 4, 2, 16, 16, 16, {40, 21}, {1, 1}, {.window = 0}},
      {"F16, small blocks", AII_F16, 6, 2, 32, 32, 4, {70, 36}, {2, 2}, {.window = 0}},
      {"Q8_0", AII_Q8_0, 4, 1, 64, 64, 16, {90, 46}, {3, 3}, {.window = 0}},
      {"Q8_0, blocks of one", AII_Q8_0, 2, 2, 64, 32, 1, {70, 5, 64}, {1, 1, 1}, {.window = 0}},
      {"Q8_0, two splits", AII_Q8_0, 5, 1, 32, 32, 16, {600, 301}, {1, 1}, {.window = 0}},
      {"F16, three splits", AII_F16, 8, 1, 16, 16, 32, {1100, 551}, {1, 1}, {.window = 0}},
      {"three splits, sinks", AII_F16, 3, 1, 64, 64, 32, {1100, 551, 20}, {1, 1, 1}, {.sinks = &sinks}},
      {"a window", AII_F16, 2, 2, 16, 16, 16, {100, 51}, {4, 4}, {.window = 21}},
      {"a window over splits", AII_F32, 1, 1, 16, 16, 16, {530, 266}, {2, 2}, {.window = 40}},
      {"a window far from the start", AII_Q8_0, 4, 2, 32, 32, 16, {1300}, {1}, {.window = 600}},
      {"a soft cap", AII_F16, 2, 1, 16, 16, 16, {50, 26}, {2, 2}, {.softcap = 20}},
      {"distances", AII_F32, 6, 3, 16, 16, 16, {50, 26}, {2, 2}, {.alibi = 8}},
      {"sinks", AII_F16, 4, 2, 16, 16, 16, {50, 26}, {2, 2}, {.sinks = &sinks}},
      {"wide keys, narrow values", AII_F16, 4, 1, 192, 128, 16, {40, 21}, {2, 2}, {.window = 0}},
      {"a wide head", AII_F32, 5, 1, 576, 512, 16, {20, 11}, {2, 2}, {.window = 0}},
      {"a latent head", AII_F16, 40, 1, 576, 512, 16, {70}, {1}, {.window = 0}},
      {"a latent head of Q8_0", AII_Q8_0, 40, 1, 576, 512, 16, {70}, {1}, {.window = 0}},
      {"the widest head", AII_F16, 3, 1, 1024, 1024, 16, {66}, {2}, {.window = 0}},
      {"the widest head of Q8_0", AII_Q8_0, 17, 1, 1024, 1024, 16, {66}, {1}, {.window = 0}},
      {"odd dims of F16", AII_F16, 3, 1, 20, 13, 16, {70, 8}, {1, 1}, {.window = 0}},
      {"odd dims of F32", AII_F32, 3, 1, 7, 30, 16, {70, 8}, {1, 3}, {.window = 0}},
  };
  for (size_t i = 0; i < AII_COUNT(cases); i++) attention_case(&cases[i]);
}

/* As many rows as there may be, several sequences at once, chunks that begin and end within tiles. */
static void test_prompts(void **state)
{
  (void)state;
  static const aii_weight sinks;
  const attn_case cases[] = {
      {"from the start", AII_F16, 8, 2, 64, 64, 16, {130}, {130}, {.window = 0}},
      {"from the start, F32", AII_F32, 8, 2, 64, 64, 16, {130}, {130}, {.window = 0}},
      {"from the start, Q8_0", AII_Q8_0, 8, 2, 64, 64, 16, {130}, {130}, {.window = 0}},
      {"within a tile", AII_F16, 4, 1, 128, 128, 16, {190}, {131}, {.window = 0}},
      {"three sequences", AII_F16, 5, 1, 80, 80, 16, {99, 70, 20}, {33, 1, 20}, {.window = 0}},
      {"three sequences, Q8_0", AII_Q8_0, 3, 1, 128, 128, 16, {99, 70, 130}, {33, 1, 70}, {.window = 0}},
      {"across splits", AII_F16, 4, 2, 64, 64, 32, {560, 530}, {70, 20}, {.window = 0}},
      {"across splits, Q8_0", AII_Q8_0, 4, 2, 64, 64, 32, {560, 530}, {70, 20}, {.window = 0}},
      {"across splits, sinks", AII_F16, 2, 2, 64, 64, 32, {560, 20}, {70, 20}, {.sinks = &sinks}},
      {"a window", AII_F16, 4, 1, 64, 64, 16, {200}, {130}, {.window = 37}},
      {"a window over splits", AII_Q8_0, 4, 1, 32, 32, 16, {620}, {130}, {.window = 70}},
      {"a soft cap", AII_F16, 16, 2, 64, 64, 16, {80}, {80}, {.softcap = 15}},
      {"distances", AII_F16, 6, 6, 64, 64, 16, {100}, {100}, {.alibi = 8}},
      {"both ways", AII_F32, 2, 2, 16, 16, 16, {30}, {30}, {.both_ways = true}},
      {"both ways, a window", AII_F32, 2, 2, 16, 16, 16, {40, 70}, {40, 70}, {.both_ways = true, .window = 11}},
      {"both ways, over splits", AII_F16, 4, 4, 32, 32, 16, {520}, {520}, {.both_ways = true, .window = 100}},
      {"many heads of a KV head", AII_F16, 16, 1, 64, 64, 16, {50}, {50}, {.window = 0}},
      {"more than a block takes", AII_F16, 70, 1, 32, 32, 16, {40}, {9}, {.window = 0}},
      {"heads of 256", AII_F16, 8, 1, 256, 256, 16, {75}, {75}, {.window = 0}},
      {"heads of 256, Q8_0", AII_Q8_0, 8, 1, 256, 256, 16, {75}, {75}, {.window = 0}},
      {"heads of 256, F32", AII_F32, 3, 1, 256, 256, 16, {75}, {30}, {.window = 30}},
      {"wide keys, narrow values", AII_F16, 8, 2, 192, 128, 16, {70}, {70}, {.window = 0}},
      {"wide heads", AII_F16, 16, 1, 576, 512, 16, {70}, {5}, {.window = 0}},
      {"wide heads, Q8_0", AII_Q8_0, 4, 1, 576, 512, 16, {70}, {9}, {.window = 0}},
      {"odd dims", AII_F16, 8, 2, 36, 20, 16, {70}, {70}, {.window = 0}},
  };
  for (size_t i = 0; i < AII_COUNT(cases); i++) attention_case(&cases[i]);
}

/* As above, where rounding is allowed: of F16, and of what tensor cores do not take. */
static void test_rounded(void **state)
{
  (void)state;
  static const aii_weight sinks;
  const attn_case cases[] = {
      {"decoding", AII_F16, 8, 2, 128, 128, 16, {70, 36, 64}, {1, 1, 1}, {.window = 0}},
      {"from the start", AII_F16, 8, 2, 64, 64, 16, {70}, {70}, {.window = 0}},
      {"within a tile", AII_F16, 4, 1, 128, 128, 16, {190}, {129}, {.window = 0}},
      {"small heads, blocks of one", AII_F16, 3, 3, 16, 16, 1, {70, 9}, {5, 9}, {.window = 0}},
      {"three sequences", AII_F16, 5, 1, 80, 80, 16, {99, 70, 20}, {33, 1, 20}, {.window = 0}},
      {"across splits", AII_F16, 4, 2, 64, 64, 32, {560, 530}, {66, 20}, {.window = 0}},
      {"three splits, sinks", AII_F16, 3, 1, 64, 64, 32, {1100, 551, 20}, {2, 1, 1}, {.sinks = &sinks}},
      {"a window", AII_F16, 4, 1, 64, 64, 16, {200}, {130}, {.window = 37}},
      {"a window over splits", AII_F16, 4, 2, 32, 32, 16, {1300}, {20}, {.window = 600}},
      {"a soft cap", AII_F16, 16, 2, 64, 64, 16, {80}, {34}, {.softcap = 15}},
      {"distances", AII_F16, 6, 6, 64, 64, 16, {100}, {20}, {.alibi = 8}},
      {"distances, values of 256", AII_F16, 4, 2, 32, 256, 16, {150}, {20}, {.alibi = 8}},
      {"distances, values of 512", AII_F16, 2, 2, 32, 512, 16, {150}, {2}, {.alibi = 8}},
      {"both ways, over splits", AII_F16, 1, 1, 32, 32, 16, {520}, {520}, {.both_ways = true, .window = 100}},
      {"more than a block takes", AII_F16, 70, 1, 32, 32, 16, {40}, {9}, {.window = 0}},
      {"heads of 256", AII_F16, 8, 1, 256, 256, 16, {75}, {33}, {.window = 0}},
      {"wide keys, narrow values", AII_F16, 8, 2, 192, 128, 16, {70}, {65}, {.window = 0}},
      {"narrow keys, wide values", AII_F16, 2, 1, 32, 208, 16, {70}, {34}, {.window = 0}},
      {"keys of 320", AII_F16, 32, 1, 320, 96, 16, {20}, {4}, {.window = 0}},
      {"a latent head", AII_F16, 40, 1, 576, 512, 16, {70}, {2}, {.window = 0}},
      {"the widest head", AII_F16, 17, 1, 1024, 1024, 16, {66}, {2}, {.window = 0}},
      {"F32", AII_F32, 8, 2, 64, 64, 16, {70}, {20}, {.window = 0}},
      {"Q8_0", AII_Q8_0, 8, 2, 64, 64, 16, {70}, {20}, {.window = 0}},
      {"odd keys", AII_F16, 8, 2, 36, 32, 16, {70}, {20}, {.window = 0}},
      {"odd values", AII_F16, 8, 2, 32, 20, 16, {70}, {20}, {.window = 0}},
  };
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    attn_case c = cases[i];
    c.how.rounded = true;
    attention_case(&c);
  }
}

static uint32_t one_of(const uint32_t *values, size_t n)
{
  return values[test_random(&seed) % n];
}

/* Shapes by chance. */
static void test_any_shape(void **state)
{
  enum { TIMES = 60 };
  const uint32_t groups[] = {1, 2, 3, 4, 5, 8, 16}, dims[] = {32, 64, 80, 96, 128, 256}, blocks[] = {1, 2, 8, 16, 64},
                 types_of[] = {AII_F32, AII_F16, AII_Q8_0}, windows[] = {0, 0, 0, 5, 64, 100};
  (void)state;
  for (int n = 0; n < TIMES; n++) {
    char what[160];
    attn_case c = {.what = what, .type = (aii_dtype)one_of(types_of, AII_COUNT(types_of))};
    c.kv_heads = 1 + (uint32_t)(test_random(&seed) % 2);
    c.heads = c.kv_heads * one_of(groups, AII_COUNT(groups));
    c.head_dim = one_of(dims, AII_COUNT(dims));
    c.value_dim = test_random(&seed) % 3 != 0 ? c.head_dim : one_of(dims, AII_COUNT(dims));
    if (c.type == AII_Q8_0) c.head_dim = c.head_dim / 32 * 32, c.value_dim = c.value_dim / 32 * 32;
    c.block = one_of(blocks, AII_COUNT(blocks));
    c.how.window = one_of(windows, AII_COUNT(windows));
    c.how.rounded = test_random(&seed) % 2 != 0;
    for (uint32_t s = 0; s < 1 + test_random(&seed) % MOST_SEQS; s++) {
      c.lengths[s] = 1 + (uint32_t)(test_random(&seed) % (test_random(&seed) % 8 == 0 ? 700 : 150));
      c.rows[s] = 1 + (uint32_t)(test_random(&seed) % AII_MIN(c.lengths[s], test_random(&seed) % 2 == 0 ? 3u : 70u));
    }
    snprintf(what, sizeof what, "case %d of seed %llu: %s%s, %u of %u heads, dims %u and %u, window %u, %u of %u", n,
             test_seed(), aii_dtype_info((uint32_t)c.type)->name, c.how.rounded ? " rounded" : "", c.heads, c.kv_heads,
             c.head_dim, c.value_dim, c.how.window, c.rows[0], c.lengths[0]);
    attention_case(&c);
  }
}

/* Parts of splits need more memory than they get: some rows are computed after the others. */
static void test_many_parts(void **state)
{
  (void)state;
  const attn_case c = {"many parts", AII_F16, 64, 1, 32, 1024, 16, {520}, {140}, {.window = 3}};
  const unsigned long long *kernels = both_counter("fake_cuda_kernels");
  unsigned long long before = kernels != NULL ? *kernels : 0;
  attention_case(&c);
  if (kernels != NULL) assert_true(*kernels - before >= 1 + 2); /* the write, then twice attention */
}

/* ---- all that comes behind products ---- */

/* Rows of each sequence, how many dims rotate, and whether heads are normalised. */
typedef struct own_case {
  attn_case attn;
  aii_rope_kind kind;
  uint32_t rot;
  bool norms;
} own_case;

static void own_attention(const own_case *o)
{
  const attn_case *c = &o->attn;
  float inv[64];
  for (uint32_t i = 0; i < o->rot / 2; i++) inv[i] = powf(10000, -2.0f * (float)i / (float)o->rot);
  const aii_rope rope = {o->kind, o->rot, inv, 1.1f};
  caches k = caches_of(c);
  write_all(&k, c);
  aii_rows rows = last_rows(&k, c->lengths, c->rows);
  const uint32_t n = rows.n_rows;
  both q = random_both(n, c->heads * c->head_dim, 2), key = random_both(n, c->kv_heads * c->head_dim, 1),
       value = random_both(n, c->kv_heads * c->value_dim, 1), out = random_both(n, c->heads * c->value_dim, 1),
       y = random_both(n, 48, 1);
  weights qn = random_weights(AII_F32, c->head_dim, 1, 1), kn = random_weights(AII_F32, c->head_dim, 1, 1),
          after = random_weights(AII_Q8_0, (c->heads * c->value_dim + 31) / 32 * 32, 48, 1);
  aii_attn how = c->how;
  how.n_heads = c->heads;
  how.scale = 1 / sqrtf((float)c->head_dim);
  const aii_own own = {.rope = o->rot > 0 ? &rope : NULL,
                       .q_norm = o->norms ? &qn.cuda : NULL,
                       .k_norm = o->norms ? &kn.cuda : NULL,
                       .eps = 1e-5f,
                       .k = key.cuda,
                       .v = value.cuda};
  cuda->ops->attend_own(cuda, &k.cuda, 1, &rows, &own, &how, q.cuda, out.cuda);
  if (c->heads * c->value_dim % 32 == 0) cuda->ops->matmul(cuda, &after.cuda, NULL, out.cuda, n, false, y.cuda);
  if (o->norms) {
    cpu->ops->rms_norm(cpu, q.cpu, &qn.cpu, n * c->heads, c->head_dim, 1e-5f, q.cpu);
    cpu->ops->rms_norm(cpu, key.cpu, &kn.cpu, n * c->kv_heads, c->head_dim, 1e-5f, key.cpu);
  }
  cpu->ops->rope(cpu, &rope, &rows, c->heads, c->kv_heads, c->head_dim, q.cpu, key.cpu);
  cpu->ops->kv_write(cpu, &k.cpu, 1, &rows, key.cpu, value.cpu);
  cpu->ops->attention(cpu, &k.cpu, 1, &rows, &how, q.cpu, out.cpu);
  if (c->heads * c->value_dim % 32 == 0) cpu->ops->matmul(cpu, &after.cpu, NULL, out.cpu, n, false, y.cpu);
  assert_attended(&out, c);
  if (rounds(c)) {
    both rotated = both_of(q.cpu, n, q.width);
    attend_again(&k, c, &rows, &how, &rotated, &out, n);
    free_both(&rotated);
  } else {
    assert_same(&y, "the product of what was attended to");
  }
  attend(&k, c); /* what is in the cache */
  free_both(&q), free_both(&key), free_both(&value), free_both(&out), free_both(&y);
  free_weights(&qn), free_weights(&kn), free_weights(&after);
  free_caches(&k);
}

static void test_own(void **state)
{
  (void)state;
  const aii_dtype kinds[] = {AII_F32, AII_F16, AII_Q8_0};
  const uint32_t rots[] = {0, 24, 64};
  const struct {
    uint32_t lengths[MOST_SEQS], rows[MOST_SEQS];
  } all[] = {{{40, 21, 1}, {40, 21, 1}}, {{40, 65, 1}, {1, 1, 1}}};
  for (uint32_t n = 0; n < 2 * 3 * 3 * 2 * 2; n++) {
    own_case o = {.attn = {"rows' own", kinds[n / 2 % 3], 6, 2, 64, 32, 16, {0}, {0}, {.window = 0}},
                  .kind = n % 2 == 0 ? AII_ROPE_NORM : AII_ROPE_NEOX,
                  .rot = rots[n / 6 % 3],
                  .norms = n % 4 < 2};
    memcpy(o.attn.lengths, all[n / 18 % 2].lengths, sizeof o.attn.lengths);
    memcpy(o.attn.rows, all[n / 18 % 2].rows, sizeof o.attn.rows);
    o.attn.how.rounded = n / 36 > 0;
    if (n / 36 == 0 || rounds(&o.attn)) own_attention(&o);
  }
  const own_case others[] = {
      {{"more heads than a block takes", AII_F16, 70, 1, 32, 32, 16, {40, 20}, {1, 1}, {.window = 0}}, 0, 32, true},
      {{"odd dims", AII_F16, 3, 1, 20, 13, 16, {70, 8}, {1, 1}, {.window = 0}}, AII_ROPE_NEOX, 10, true},
      {{"the last of a split, the first of one", AII_F16, 6, 2, 64, 32, 16, {513, 512, 1100}, {1, 1, 1}, {.window = 0}},
       AII_ROPE_NEOX,
       24,
       true},
      {{"three splits of Q8_0", AII_Q8_0, 6, 2, 64, 32, 16, {513, 512, 1100}, {1, 1, 1}, {.window = 0}},
       AII_ROPE_NORM,
       64,
       false},
      {{"a window", AII_Q8_0, 8, 2, 64, 64, 16, {1300, 90}, {1, 1}, {.window = 600}}, AII_ROPE_NEOX, 64, true},
      {{"both ways", AII_F32, 4, 2, 32, 32, 16, {30, 1}, {30, 1}, {.both_ways = true}}, AII_ROPE_NEOX, 32, false},
      {{"wide heads", AII_Q8_0, 4, 1, 576, 512, 16, {70, 9}, {1, 1}, {.window = 0}}, AII_ROPE_NORM, 64, false},
      {{"distances, blocks of one", AII_F16, 4, 4, 64, 64, 1, {70, 9}, {1, 1}, {.alibi = 8}}, 0, 0, false},
  };
  for (size_t i = 0; i < AII_COUNT(others); i++) {
    own_case o = others[i];
    own_attention(&o);
    o.attn.how.rounded = true;
    if (rounds(&o.attn)) own_attention(&o);
  }
}

static void test_refused(void **state)
{
  (void)state;
  const attn_case c = {"refused", AII_F16, 2, 2, 64, 64, 16, {20}, {20}, {.window = 0}};
  const float inv[33] = {1};
  aii_rope rope = {AII_ROPE_NEOX, 66, inv, 1};
  const aii_attn how = {.n_heads = 2, .scale = 1};
  aiinfra_error err;
  caches k = caches_of(&c);
  aii_rows rows = last_rows(&k, c.lengths, c.rows);
  both x = random_both(rows.n_rows, 2 * 64, 1), out = random_both(rows.n_rows, 2 * 64, 1);
  const aii_own own = {.rope = &rope, .k = x.cuda, .v = x.cuda};
  cuda->ops->attend_own(cuda, &k.cuda, 1, &rows, &own, &how, x.cuda, out.cuda);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_EINVAL);
  rope.n_rot = 64;
  cuda->ops->attend_own(cuda, &k.cuda, 2, &rows, &own, &how, x.cuda, out.cuda);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_ENOTSUP);
  k.tables[0][1] = k.cuda.n_blocks;
  cuda->ops->attend_own(cuda, &k.cuda, 1, &rows, &own, &how, x.cuda, out.cuda);
  assert_int_equal(cuda->ops->sync(cuda, &err), AIINFRA_EINTERNAL);
  assert_same(&x, "queries that were refused");
  free_both(&x), free_both(&out);
  free_caches(&k);
}

/* ---- what it costs, where the emulated device counts it ---- */

static unsigned long long counted(const char *name)
{
  const unsigned long long *count = both_counter(name);
  if (count == NULL) test_skip("a real device does not count");
  return *count;
}

/* Bytes of keys and values that attention to the whole of a prompt reads, as multiples of the bytes that it sees when each
 * row reads for itself. */
static double share_read(const attn_case *c)
{
  caches k = caches_of(c);
  uint32_t n = c->lengths[0];
  double row_bytes = c->type == AII_Q8_0 ? 34.0 / 32 : c->type == AII_F16 ? 2 : 4;
  write_all(&k, c);
  unsigned long long before = counted("fake_cuda_cache_reads");
  attend(&k, c);
  double read = (double)(counted("fake_cuda_cache_reads") - before);
  free_caches(&k);
  return read / (row_bytes * (c->head_dim + c->value_dim) * c->kv_heads * (n * (n + 1) / 2));
}

static void test_reads(void **state)
{
  (void)state;
  /* Chunks of 16 rows: 16 of them read what the last one sees. */
  attn_case c = {"reads", AII_F16, 8, 2, 64, 64, 16, {512}, {512}, {.window = 0}};
  const aii_dtype kinds[] = {AII_F32, AII_F16, AII_Q8_0};
  for (size_t t = 0; t < AII_COUNT(kinds); t++) {
    c.type = kinds[t];
    assert_true(share_read(&c) < 1.05 / 16);
  }
  /* A step reads what it sees once for each KV head. */
  attn_case step = {"reads of a step", AII_F16, 16, 2, 128, 128, 16, {300}, {1}, {.window = 0}};
  caches k = caches_of(&step);
  write_all(&k, &step);
  for (int rounded = 0; rounded < 2; rounded++) {
    step.how.rounded = rounded != 0;
    unsigned long long before = counted("fake_cuda_cache_reads"), kernels = counted("fake_cuda_kernels");
    attend(&k, &step);
    assert_int_equal(counted("fake_cuda_cache_reads") - before, 300 * 2 * (128 + 128) * 2);
    assert_int_equal(counted("fake_cuda_kernels") - kernels, 1);
  }
  free_caches(&k);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_decoding),  cmocka_unit_test(test_prompts),    cmocka_unit_test(test_rounded),
      cmocka_unit_test(test_any_shape), cmocka_unit_test(test_many_parts), cmocka_unit_test(test_own),
      cmocka_unit_test(test_refused),   cmocka_unit_test(test_reads),
  };
  return cmocka_run_group_tests(tests, both_set_up, both_tear_down);
}
