/* bench_step.c - where the time of a decode step goes: every operation of the backend, the choice of a token, the rest.
 *
 * The first table comes from forward passes of one row with a clock around each operation of the backend. "meetings" are
 * the sections that the compute threads run together: each is a point where all wait for all. The last lines compare
 * whole steps: passes without clocks, and what a request sees that the batcher serves.
 * Arguments: model file, threads, tokens of context.
 */
#include <stdio.h>
#include <stdlib.h>

#include "aiinfra/batcher.h"
#include "src/kv/kv.h"
#include "src/model/model.h"
#include "src/runtime/runtime.h"
#include "tests/support/support.h"

enum { STEPS = 64, WARM_UP = 8, MAX_CONTEXT = 8192 };

typedef enum op { EMBED, NORM, MATMUL, MATMULS, GATED, ROPE, KV_WRITE, ATTENTION, OTHER, N_OPS } op;
static const char *const names[N_OPS] = {
    "embed",     "norm",   "matmul (o, down, logits)", "matmuls (q, k, v)", "gated", "rope", "kv_write",
    "attention", "to_host"};

static struct {
  const aii_backend_ops *ops;
  aii_pool *pool;
  uint64_t ns[N_OPS], calls[N_OPS], meetings[N_OPS], since_ns;
  uint32_t since_meetings;
} clocks;

static void begin(void)
{
  clocks.since_meetings = aii_pool_sections(clocks.pool);
  clocks.since_ns = aii_now_ns();
}

static void end(op which)
{
  clocks.ns[which] += aii_now_ns() - clocks.since_ns;
  clocks.meetings[which] += aii_pool_sections(clocks.pool) - clocks.since_meetings;
  clocks.calls[which]++;
}

static void embed(aii_backend *be, const aii_weight *w, const aii_rows *rows, float scale, float *out)
{
  begin();
  clocks.ops->embed(be, w, rows, scale, out);
  end(EMBED);
}

static void rms_norm(aii_backend *be, const float *x, const aii_weight *w, uint32_t n_rows, uint32_t width, float eps,
                     float *out)
{
  begin();
  clocks.ops->rms_norm(be, x, w, n_rows, width, eps, out);
  end(NORM);
}

static void matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                   bool accumulate, float *y)
{
  begin();
  clocks.ops->matmul(be, w, bias, x, n_rows, accumulate, y);
  end(MATMUL);
}

static void matmuls(aii_backend *be, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows)
{
  begin();
  clocks.ops->matmuls(be, muls, n, x, n_rows);
  end(MATMULS);
}

static void gated(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x, uint32_t n_rows)
{
  begin();
  clocks.ops->gated(be, act, gate, up, x, n_rows);
  end(GATED);
}

static void rope(aii_backend *be, const aii_rope *how, const aii_rows *rows, uint32_t n_heads, uint32_t n_kv_heads,
                 uint32_t head_dim, float *q, float *k)
{
  begin();
  clocks.ops->rope(be, how, rows, n_heads, n_kv_heads, head_dim, q, k);
  end(ROPE);
}

static void kv_write(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const float *k,
                     const float *v)
{
  begin();
  clocks.ops->kv_write(be, kv, layer, rows, k, v);
  end(KV_WRITE);
}

static void attention(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const aii_attn *how,
                      const float *q, float *out)
{
  begin();
  clocks.ops->attention(be, kv, layer, rows, how, q, out);
  end(ATTENTION);
}

static aiinfra_status to_host(aii_backend *be, void *host, const void *device, size_t bytes, aiinfra_error *err)
{
  begin();
  aiinfra_status rc = clocks.ops->to_host(be, host, device, bytes, err);
  end(OTHER);
  return rc;
}

/* ---- the passes ---------------------------------------------------------------------------------------------------- */

typedef struct bench {
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_kv *kv;
  aii_workspace *ws;
  aii_sampler *sampler;
  float *logits;
  uint32_t table[MAX_CONTEXT], context;
} bench;

static void expect(aiinfra_status rc, const aiinfra_error *err)
{
  if (rc == AIINFRA_OK) return;
  fprintf(stderr, "%s: %s\n", aiinfra_status_name(rc), err->message);
  exit(1);
}

/* One row at `pos`; nanoseconds of the pass, those of the choice to *choose. */
static uint64_t step(bench *b, uint32_t pos, uint64_t *choose)
{
  aiinfra_error err;
  aiinfra_token token = (aiinfra_token)(pos * 7919 % b->model->hp.n_vocab);
  uint32_t seq = 0, row = 0;
  const uint32_t *tables[1] = {b->table};
  aii_forward f = {.rows = {1, 1, &token, &pos, &seq, tables}, .n_logits = 1, .logit_rows = &row, .logits = b->logits};
  uint64_t start = aii_now_ns();
  expect(aii_model_forward(b->model, b->ws, &b->kv->view, &f, &err), &err);
  uint64_t middle = aii_now_ns();
  (void)aii_sampler_pick(b->sampler, b->logits);
  *choose += aii_now_ns() - middle;
  return middle - start;
}

static double steps(bench *b, double *choose_us)
{
  uint64_t ns = 0, choose = 0;
  for (uint32_t i = 0; i < WARM_UP; i++) (void)step(b, b->context + i, &choose);
  choose = 0;
  for (uint32_t i = 0; i < STEPS; i++) ns += step(b, b->context + i, &choose);
  *choose_us = (double)choose * 1e-3 / STEPS;
  return (double)ns * 1e-3 / STEPS;
}

static void watch(bench *b, aii_backend_ops *ops)
{
  aii_backend *be = b->rt->backend;
  *ops = *be->ops;
  clocks.ops = be->ops;
  clocks.pool = b->rt->pool;
  ops->embed = embed;
  ops->rms_norm = rms_norm;
  ops->matmul = matmul;
  ops->matmuls = matmuls;
  ops->gated = gated;
  ops->rope = rope;
  ops->kv_write = kv_write;
  ops->attention = attention;
  ops->to_host = to_host;
  be->observed = ops;
}

static void show_ops(bench *b)
{
  aii_backend_ops ops;
  double ignored, n = WARM_UP + STEPS;
  uint64_t meetings = 0;
  watch(b, &ops);
  double us = steps(b, &ignored), sum = 0;
  b->rt->backend->observed = NULL;
  printf("%-26s %9s %8s %7s %9s\n", "operation", "us/step", "us/call", "calls", "meetings");
  for (int i = 0; i < N_OPS; i++) {
    double each = (double)clocks.ns[i] * 1e-3 / n;
    sum += each;
    meetings += clocks.meetings[i];
    if (clocks.calls[i] == 0) continue;
    printf("%-26s %9.1f %8.2f %7.1f %9.2f\n", names[i], each, each * n / (double)clocks.calls[i],
           (double)clocks.calls[i] / n, (double)clocks.meetings[i] / n);
  }
  printf("%-26s %9.1f of %.1f; %.2f meetings a step, %.2f a layer\n", "all", sum, us, (double)meetings / n,
         (double)meetings / n / b->model->hp.n_layers);
}

/* ---- a request ----------------------------------------------------------------------------------------------------- */

static double decode_us, busy_us;

static void on_result(void *user, aiinfra_status status, const aiinfra_result *result)
{
  (void)user;
  if (status == AIINFRA_OK && result->n_generated > 1)
    decode_us = (double)result->decode_ns * 1e-3 / (result->n_generated - 1);
}

static double serve(bench *b)
{
  aiinfra_error err;
  aiinfra_batcher *batcher;
  aiinfra_request *request;
  aiinfra_token token = 1;
  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  opts.tokens = &token;
  opts.n_tokens = 1;
  opts.max_tokens = STEPS;
  opts.ignore_eos = 1;
  expect(aiinfra_batcher_create(b->model, b->kv, NULL, &batcher, &err), &err);
  expect(aiinfra_batcher_generate(batcher, &opts, NULL, on_result, NULL, &request, &err), &err);
  expect(aiinfra_request_wait(request, -1, &err), &err);
  aiinfra_request_free(request);
  aiinfra_batcher_stats stats = {.struct_size = sizeof stats};
  expect(aiinfra_batcher_get_stats(batcher, &stats, &err), &err);
  busy_us = (double)stats.busy_ns * 1e-3 / (double)stats.steps;
  aiinfra_batcher_free(batcher);
  return decode_us;
}

static void prepare(bench *b, const char *path, int threads)
{
  aiinfra_error err;
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  aiinfra_kv_opts kv = AIINFRA_KV_OPTS_INIT;
  opts.n_threads = threads;
  expect(aiinfra_runtime_create(&opts, &b->rt, &err), &err);
  expect(aiinfra_model_open(b->rt, path, NULL, &b->model, &err), &err);
  kv.block_tokens = 16;
  expect(aii_kv_create(b->model, &kv, b->context + WARM_UP + STEPS + 16, &b->kv, &err), &err);
  expect(aii_workspace_create(b->model, 1, 1, &b->ws, &err), &err);
  expect(aii_sampler_create(&b->rt->mem, &(aii_sampling){.temperature = 0}, b->model->hp.n_vocab, &b->sampler, &err),
         &err);
  b->logits = calloc(b->model->hp.n_vocab, sizeof *b->logits);
  for (uint32_t i = 0; i < b->kv->view.n_blocks && i < MAX_CONTEXT; i++) b->table[i] = i;
}

int main(int argc, char **argv)
{
  static bench b;
  const char *path = argc > 1 ? argv[1] : test_data("models/stories260K/stories260K.gguf");
  double choose;
  if (path == NULL) return test_skip_all("no stories260K.gguf in AIINFRA_SHARED_DATA");
  b.context = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 32;
  if (b.context > MAX_CONTEXT) return 1;
  prepare(&b, path, argc > 2 ? atoi(argv[2]) : 0);
  printf("%s, %u threads, %u tokens of context\n", b.model->name, aii_pool_threads(b.rt->pool), b.context);
  show_ops(&b);
  double pass = steps(&b, &choose);
  double served = serve(&b);
  printf(
      "a pass %.1f us, the greedy choice %.1f us; a request's step %.1f us, of which the worker computes for %.1f and "
      "the way to the loop and back takes %.1f\n",
      pass, choose, served, busy_us, served - busy_us);
  aii_sampler_free(b.sampler);
  aii_workspace_free(b.ws);
  free(b.logits);
  aiinfra_kv_free(b.kv);
  aiinfra_model_free(b.model);
  aiinfra_runtime_free(b.rt);
  return 0;
}
