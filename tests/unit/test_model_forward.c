/* test_model_forward.c - the forward pass of every architecture against a naive one in double precision, written from
 * the definitions alone; and the same bits alone, in chunks, beside other sequences, on any number of threads. */
#include "tests/data/model_runner.h"

#include "tests/data/gguf_maker.h"

enum { N_TOKENS = 40, MAX_VOCAB = 320 };

static const gm_shape shapes[] = {
    {.arch = "llama",
     .n_vocab = 300,
     .n_embd = 32,
     .n_layers = 2,
     .n_heads = 4,
     .n_kv_heads = 2,
     .head_dim = 8,
     .n_ff = 48,
     .n_rot = 8,
     .context = 64,
     .tied = false,
     .seed = 1},
    {.arch = "llama",
     .n_vocab = 270,
     .n_embd = 24,
     .n_layers = 3,
     .n_heads = 3,
     .n_kv_heads = 1,
     .head_dim = 10,
     .n_ff = 31,
     .n_rot = 6,
     .context = 64,
     .rope_base = 500000,
     .linear_factor = 4,
     .bias = true,
     .tied = true,
     .rope_freqs = true,
     .seed = 2},
    {.arch = "mistral",
     .n_vocab = 263,
     .n_embd = 16,
     .n_layers = 1,
     .n_heads = 2,
     .n_kv_heads = 2,
     .head_dim = 16,
     .n_ff = 40,
     .n_rot = 16,
     .context = 64,
     .seed = 3},
    {.arch = "qwen2",
     .n_vocab = 310,
     .n_embd = 32,
     .n_layers = 2,
     .n_heads = 4,
     .n_kv_heads = 2,
     .head_dim = 8,
     .n_ff = 64,
     .n_rot = 8,
     .context = 64,
     .rope_base = 1000000,
     .bias = true,
     .tied = true,
     .seed = 4},
    {.arch = "qwen3",
     .n_vocab = 280,
     .n_embd = 32,
     .n_layers = 2,
     .n_heads = 2,
     .n_kv_heads = 1,
     .head_dim = 24,
     .n_ff = 56,
     .n_rot = 24,
     .context = 64,
     .rope_base = 1000000,
     .qk_norm = true,
     .seed = 5},
};

/* ---- the naive model ----------------------------------------------------------------------------------------- */

typedef struct naive {
  const aii_gguf *g;
  const gm_shape *s;
  bool neox;
} naive;

static const float *tensor(const naive *m, uint32_t layer, const char *name)
{
  char full[64];
  if (layer != UINT32_MAX) {
    snprintf(full, sizeof full, "blk.%u.%s", layer, name);
  } else {
    snprintf(full, sizeof full, "%s", name);
  }
  const aii_gguf_tensor *t = aii_gguf_find_tensor(m->g, full);
  return t != NULL ? (const float *)(const void *)t->data : NULL;
}

static void product(const float *w, const float *bias, const double *x, uint32_t n_in, uint32_t n_out, double *y)
{
  for (uint32_t o = 0; o < n_out; o++) {
    y[o] = bias != NULL ? (double)bias[o] : 0;
    for (uint32_t i = 0; i < n_in; i++) y[o] += (double)w[(size_t)o * n_in + i] * x[i];
  }
}

static void norm(const float *w, const double *x, uint32_t n, double *y)
{
  double sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += x[i] * x[i];
  double scale = 1 / sqrt(sum / n + (double)1e-5f);
  for (uint32_t i = 0; i < n; i++) y[i] = x[i] * scale * (double)w[i];
}

static void rotate(const naive *m, double *x, uint32_t pos)
{
  const float *factors = tensor(m, UINT32_MAX, "rope_freqs.weight");
  double base = m->s->rope_base > 0 ? (double)m->s->rope_base : 10000;
  double scale = m->s->linear_factor > 0 ? 1 / (double)m->s->linear_factor : 1;
  for (uint32_t i = 0; i < m->s->n_rot / 2; i++) {
    double angle = pos * scale * pow(base, -2.0 * i / m->s->n_rot) / (factors != NULL ? (double)factors[i] : 1);
    double *a = &x[m->neox ? i : 2 * i], *b = m->neox ? a + m->s->n_rot / 2 : a + 1;
    double re = *a * cos(angle) - *b * sin(angle), im = *a * sin(angle) + *b * cos(angle);
    *a = re, *b = im;
  }
}

/* Keys or queries of one token: product, per-head norm where there is one, rotation. */
static void heads(const naive *m, uint32_t l, char what, const double *x, uint32_t n_heads, uint32_t pos, double *out)
{
  char w[32], b[32], n[32];
  snprintf(w, sizeof w, "attn_%c.weight", what);
  snprintf(b, sizeof b, "attn_%c.bias", what);
  snprintf(n, sizeof n, "attn_%c_norm.weight", what);
  product(tensor(m, l, w), tensor(m, l, b), x, m->s->n_embd, n_heads * m->s->head_dim, out);
  for (uint32_t h = 0; h < n_heads && what != 'v'; h++) {
    double *head = out + h * m->s->head_dim;
    if (tensor(m, l, n) != NULL) norm(tensor(m, l, n), head, m->s->head_dim, head);
    rotate(m, head, pos);
  }
}

enum { WIDE = 128 };

static void attend(const naive *m, uint32_t l, double x[][WIDE], uint32_t n)
{
  static double q[WIDE], k[N_TOKENS][WIDE], v[N_TOKENS][WIDE], out[WIDE], h[WIDE], add[WIDE];
  const gm_shape *s = m->s;
  for (uint32_t t = 0; t < n; t++) {
    double weight[N_TOKENS];
    norm(tensor(m, l, "attn_norm.weight"), x[t], s->n_embd, h);
    heads(m, l, 'q', h, s->n_heads, t, q);
    heads(m, l, 'k', h, s->n_kv_heads, t, k[t]);
    heads(m, l, 'v', h, s->n_kv_heads, t, v[t]);
    memset(out, 0, sizeof out);
    for (uint32_t head = 0; head < s->n_heads; head++) {
      uint32_t from = head / (s->n_heads / s->n_kv_heads) * s->head_dim, to = head * s->head_dim;
      double total = 0;
      for (uint32_t p = 0; p <= t; p++) {
        double dot = 0;
        for (uint32_t i = 0; i < s->head_dim; i++) dot += q[to + i] * k[p][from + i];
        total += weight[p] = exp(dot / sqrt((double)s->head_dim));
      }
      for (uint32_t p = 0; p <= t; p++) {
        for (uint32_t i = 0; i < s->head_dim; i++) out[to + i] += weight[p] / total * v[p][from + i];
      }
    }
    product(tensor(m, l, "attn_output.weight"), NULL, out, s->n_heads * s->head_dim, s->n_embd, add);
    for (uint32_t i = 0; i < s->n_embd; i++) x[t][i] += add[i];
  }
}

static void feed(const naive *m, uint32_t l, double *x)
{
  static double h[WIDE], gate[WIDE], up[WIDE], add[WIDE];
  const gm_shape *s = m->s;
  norm(tensor(m, l, "ffn_norm.weight"), x, s->n_embd, h);
  product(tensor(m, l, "ffn_gate.weight"), NULL, h, s->n_embd, s->n_ff, gate);
  product(tensor(m, l, "ffn_up.weight"), NULL, h, s->n_embd, s->n_ff, up);
  for (uint32_t i = 0; i < s->n_ff; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
  product(tensor(m, l, "ffn_down.weight"), NULL, gate, s->n_ff, s->n_embd, add);
  for (uint32_t i = 0; i < s->n_embd; i++) x[i] += add[i];
}

static void naive_logits(const naive *m, const aiinfra_token *tokens, uint32_t n, double logits[][MAX_VOCAB])
{
  static double x[N_TOKENS][WIDE], h[WIDE];
  const gm_shape *s = m->s;
  const float *embd = tensor(m, UINT32_MAX, "token_embd.weight"), *out = tensor(m, UINT32_MAX, "output.weight");
  for (uint32_t t = 0; t < n; t++) {
    for (uint32_t i = 0; i < s->n_embd; i++) x[t][i] = (double)embd[(uint32_t)tokens[t] * s->n_embd + i];
  }
  for (uint32_t l = 0; l < s->n_layers; l++) {
    attend(m, l, x, n);
    for (uint32_t t = 0; t < n; t++) feed(m, l, x[t]);
  }
  for (uint32_t t = 0; t < n; t++) {
    norm(tensor(m, UINT32_MAX, "output_norm.weight"), x[t], s->n_embd, h);
    product(out != NULL ? out : embd, NULL, h, s->n_embd, s->n_vocab, logits[t]);
  }
}

/* ---- tests --------------------------------------------------------------------------------------------------- */

static const char *write_model(const gm_shape *shape, const char *name)
{
  size_t n;
  uint8_t *bytes = gm_model(shape, &n);
  const char *path = test_tmp(name);
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  return path;
}

static void random_tokens(const gm_shape *s, unsigned long long seed, aiinfra_token *tokens)
{
  for (uint32_t i = 0; i < N_TOKENS; i++) tokens[i] = (aiinfra_token)(test_random(&seed) % s->n_vocab);
}

static void test_against_the_definition(void **state)
{
  (void)state;
  static double want[N_TOKENS][MAX_VOCAB];
  for (size_t i = 0; i < AII_COUNT(shapes); i++) {
    const gm_shape *s = &shapes[i];
    runner r;
    aiinfra_token tokens[N_TOKENS];
    float *got = calloc(N_TOKENS * s->n_vocab, sizeof *got);
    runner_open(&r, write_model(s, "model.gguf"), NULL, N_TOKENS, 8, AII_F32);
    naive m = {r.model->gguf, s, s->arch[0] == 'q'};
    random_tokens(s, 11 + i, tokens);
    naive_logits(&m, tokens, N_TOKENS, want);
    runner_step(&r, tokens, N_TOKENS, 0, true, got);
    double worst = 0, size = 0;
    for (uint32_t t = 0; t < N_TOKENS; t++) {
      for (uint32_t v = 0; v < s->n_vocab; v++) {
        worst = fmax(worst, fabs((double)got[t * s->n_vocab + v] - want[t][v]));
        size = fmax(size, fabs(want[t][v]));
      }
    }
    print_message("%s: logits up to %.2f, largest difference %.2g\n", s->arch, size, worst);
    assert_true(size > 0.5 && worst < 2e-5 * size);
    free(got);
    runner_close(&r);
  }
}

typedef struct lane {
  aiinfra_token tokens[N_TOKENS];
  uint32_t table[64];
} lane;

/* Two sequences in one pass, each with its own rows; the logits of the first one's last row. */
static void run_pair(runner *r, const lane *a, uint32_t first, uint32_t n, const lane *b, uint32_t m, float *logits,
                     float *hidden)
{
  aiinfra_token tokens[2 * N_TOKENS];
  uint32_t pos[2 * N_TOKENS], seq[2 * N_TOKENS], rows = 0, last = m + n - 1;
  const uint32_t *tables[2] = {b->table, a->table};
  for (uint32_t i = 0; i < m; i++, rows++) tokens[rows] = b->tokens[i], pos[rows] = i, seq[rows] = 0;
  for (uint32_t i = 0; i < n; i++, rows++) tokens[rows] = a->tokens[first + i], pos[rows] = first + i, seq[rows] = 1;
  aii_forward pass = {.rows = {rows, 2, tokens, pos, seq, tables},
                      .n_logits = 1,
                      .logit_rows = &last,
                      .logits = logits,
                      .n_hidden = 1,
                      .hidden_rows = &last,
                      .hidden = hidden};
  aiinfra_error err;
  runner_say("forward", aii_model_forward(r->model, r->ws, &r->kv, &pass, &err), &err);
}

/* The logits of the last token, computed in chunks of `chunk` beside `beside` rows of another sequence. */
static void last_logits(const gm_shape *s, const char *path, int32_t n_threads, uint32_t block_tokens, uint32_t chunk,
                        uint32_t beside, float *logits, float *hidden)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  opts.n_threads = n_threads;
  runner r;
  lane a, b;
  runner_open(&r, path, &opts, 2 * N_TOKENS, block_tokens, AII_F32);
  random_tokens(s, 5, a.tokens);
  random_tokens(s, 6 + beside, b.tokens);
  for (uint32_t i = 0; i < r.kv.n_blocks / 2; i++) {
    a.table[i] = r.table[2 * i];
    b.table[i] = r.table[2 * i + 1];
  }
  uint32_t n = r.kv.n_blocks / 2 * block_tokens; /* half of the cache is the other's */
  n = AII_MIN(n, (uint32_t)N_TOKENS - 10);
  for (uint32_t at = 0; at < n; at += chunk) run_pair(&r, &a, at, AII_MIN(chunk, n - at), &b, beside, logits, hidden);
  runner_close(&r);
}

static void test_same_bits_in_any_batch(void **state)
{
  (void)state;
  static float want[MAX_VOCAB], got[MAX_VOCAB], want_h[WIDE], got_h[WIDE];
  for (size_t i = 0; i < AII_COUNT(shapes); i++) {
    const gm_shape *s = &shapes[i];
    const char *path = write_model(s, "model.gguf");
    last_logits(s, path, 1, 2, N_TOKENS, 0, want, want_h);
    const uint32_t ways[][4] = {{1, 2, 1, 0}, {2, 4, 7, 0}, {3, 8, N_TOKENS, 20}, {2, 1, 3, 13}, {4, 2, 1, 1}};
    for (size_t w = 0; w < AII_COUNT(ways); w++) {
      last_logits(s, path, (int32_t)ways[w][0], ways[w][1], ways[w][2], ways[w][3], got, got_h);
      assert_memory_equal(got, want, s->n_vocab * sizeof want[0]);
      assert_memory_equal(got_h, want_h, s->n_embd * sizeof want_h[0]);
    }
  }
}

/* Threads that meet wait for each other: decoding must not do that often. */
static void test_few_meetings_a_layer(void **state)
{
  (void)state;
  static const gm_shape wide = {.arch = "llama",
                                .n_vocab = 300,
                                .n_embd = 1024,
                                .n_layers = 2,
                                .n_heads = 16,
                                .n_kv_heads = 4,
                                .head_dim = 64,
                                .n_ff = 1536,
                                .n_rot = 64,
                                .context = 64,
                                .seed = 9};
  static float logits[MAX_VOCAB];
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_token tokens[N_TOKENS];
  runner r;
  opts.n_threads = 2;
  runner_open(&r, write_model(&wide, "wide.gguf"), &opts, N_TOKENS, 16, AII_F16);
  random_tokens(&wide, 1, tokens);
  runner_step(&r, tokens, N_TOKENS - 1, 0, false, logits);
  uint32_t before = aii_pool_sections(r.rt->pool);
  runner_step(&r, tokens + N_TOKENS - 1, 1, N_TOKENS - 1, false, logits);
  uint32_t meetings = aii_pool_sections(r.rt->pool) - before, threads = aii_pool_threads(r.rt->pool);
  runner_close(&r);
  print_message("%u meetings in %u layers\n", meetings, wide.n_layers);
  assert_true(meetings <= 5 * wide.n_layers + 1);
  if (threads == 1) test_skip("one core: nobody to meet");
  assert_true(meetings >= 3 * wide.n_layers); /* or it was not measured */
}

static void expect_refused(runner *r, aiinfra_token token, uint32_t pos, uint32_t n_rows, uint32_t logit_row)
{
  aiinfra_token tokens[4] = {token, token, token, token};
  uint32_t at[4] = {pos, pos, pos, pos}, seq[4] = {0}, row = logit_row;
  const uint32_t *tables[1] = {r->table};
  float logits[MAX_VOCAB];
  aii_forward pass = {
      .rows = {n_rows, 1, tokens, at, seq, tables}, .n_logits = 1, .logit_rows = &row, .logits = logits};
  assert_int_equal(aii_model_forward(r->model, r->ws, &r->kv, &pass, NULL), AIINFRA_EINVAL);
}

static void test_refuses_what_does_not_fit(void **state)
{
  (void)state;
  runner r;
  runner_open(&r, write_model(&shapes[0], "model.gguf"), NULL, 2, 8, AII_F32);
  expect_refused(&r, 300, 0, 1, 0);
  expect_refused(&r, -1, 0, 1, 0);
  expect_refused(&r, 1, 64, 1, 0);
  expect_refused(&r, 1, 0, 3, 0);
  expect_refused(&r, 1, 0, 0, 0);
  expect_refused(&r, 1, 0, 1, 1);
  aii_workspace *ws;
  assert_int_equal(aii_workspace_create(r.model, 0, 1, &ws, NULL), AIINFRA_EINVAL);
  assert_null(ws);
  runner_close(&r);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_against_the_definition), cmocka_unit_test(test_same_bits_in_any_batch),
      cmocka_unit_test(test_few_meetings_a_layer), cmocka_unit_test(test_refuses_what_does_not_fit)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
