/* src/backend/cpu_rows.c - the operations that look at one row at a time: embeddings, norms, rotation. */
#include <math.h>

#include "src/backend/cpu.h"

#define ALONE_ELEMENTS (64u << 10)

/* ---- embed ---- */

typedef struct embed_job {
  aii_cpu *cpu;
  aii_fmt fmt;
  const char *table;
  const aii_weight *w;
  const aii_rows *rows;
  float scale;
  float *out;
} embed_job;

static void embed_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const embed_job *job = arg;
  const aii_kernels *k = job->cpu->k;
  size_t n = job->w->n_in;
  (void)worker;
  for (size_t r = first; r < end; r++) {
    aiinfra_token token = job->rows->tokens[r];
    if (token < 0 || (uint32_t)token >= job->w->n_out) {
      memset(job->out + r * n, 0, n * sizeof(float));
      continue;
    }
    k->dequant[job->fmt](job->table + (size_t)token * aii_fmt_row_bytes(job->fmt, n), n, job->out + r * n);
    if (job->scale != 1.0f) k->scale(job->out + r * n, job->scale, n);
  }
}

void aii_cpu_embed(aii_backend *be, const aii_weight *w, const aii_rows *rows, float scale, float *out)
{
  bool floats = w->device != NULL && (w->lookup || w->n_out == 1); /* else the rows of the file, be it packed or not */
  embed_job job = {
      aii_cpu_of(be), floats ? AII_FMT_F32 : aii_cpu_fmt(w->type), floats ? w->device : w->source, w, rows, scale, out};
  for (uint32_t r = 0; r < rows->n_rows; r++)
    if (rows->tokens[r] < 0 || (uint32_t)rows->tokens[r] >= w->n_out)
      aii_cpu_fail(job.cpu, AIINFRA_EINVAL, "a token lies outside the vocabulary");
  aii_cpu_for(job.cpu, rows->n_rows, 16, (size_t)rows->n_rows * w->n_in < ALONE_ELEMENTS, embed_range, &job);
}

/* ---- norm ---- */

typedef struct norm_job {
  const aii_kernels *k;
  const float *x, *w, *b;
  uint32_t width;
  float eps, *out;
} norm_job;

static void norm_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const norm_job *job = arg;
  (void)worker;
  for (size_t r = first; r < end; r++)
    job->k->rms_norm(job->x + r * job->width, job->w, job->width, job->eps, job->out + r * job->width);
}

void aii_cpu_rms_norm(aii_backend *be, const float *x, const aii_weight *w, uint32_t n_rows, uint32_t width, float eps,
                      float *out)
{
  aii_cpu *cpu = aii_cpu_of(be);
  norm_job job = {cpu->k, x, aii_cpu_vector_of(w), NULL, width, eps, out};
  aii_cpu_for(cpu, n_rows, 16, (size_t)n_rows * width < ALONE_ELEMENTS, norm_range, &job);
}

static void layer_norm_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const norm_job *job = arg;
  (void)worker;
  for (size_t r = first; r < end; r++)
    job->k->layer_norm(job->x + r * job->width, job->w, job->b, job->width, job->eps, job->out + r * job->width);
}

void aii_cpu_layer_norm(aii_backend *be, const float *x, const aii_weight *w, const aii_weight *bias, uint32_t n_rows,
                        uint32_t width, float eps, float *out)
{
  aii_cpu *cpu = aii_cpu_of(be);
  norm_job job = {cpu->k, x, aii_cpu_vector_of(w), aii_cpu_vector_of(bias), width, eps, out};
  aii_cpu_for(cpu, n_rows, 16, (size_t)n_rows * width < ALONE_ELEMENTS, layer_norm_range, &job);
}

/* ---- rope ---- */

typedef struct rope_job {
  const aii_kernels *k;
  const aii_rope *rope;
  const aii_rows *rows;
  uint32_t n_heads, n_kv_heads, head_dim;
  float *q, *kv, *angles; /* angles: [worker][n_rot], cosines then sines */
} rope_job;

/* The angle is a float product, as in the reference implementations; its cosine is taken in double, so that large
 * angles lose nothing more and the result does not depend on the C library's float functions. */
static void fill_angles(const aii_rope *rope, uint32_t pos, float *cosines, float *sines)
{
  for (uint32_t i = 0; i < rope->n_rot / 2; i++) {
    double angle = (double)((float)pos * rope->inv_freq[i]);
    cosines[i] = (float)cos(angle) * rope->attn_factor;
    sines[i] = (float)sin(angle) * rope->attn_factor;
  }
}

static void rope_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const rope_job *job = arg;
  uint32_t n_rot = job->rope->n_rot, dim = job->head_dim;
  float *c = job->angles + (size_t)worker * n_rot, *s = c + n_rot / 2;
  void (*rotate)(float *, uint32_t, uint32_t, uint32_t, const float *, const float *) =
      job->rope->kind == AII_ROPE_NEOX ? job->k->rope_neox : job->k->rope_norm;
  for (size_t r = first; r < end; r++) {
    fill_angles(job->rope, job->rows->pos[r], c, s);
    if (job->q != NULL) rotate(job->q + r * job->n_heads * dim, job->n_heads, dim, n_rot, c, s);
    if (job->kv != NULL) rotate(job->kv + r * job->n_kv_heads * dim, job->n_kv_heads, dim, n_rot, c, s);
  }
}

void aii_cpu_rope(aii_backend *be, const aii_rope *rope, const aii_rows *rows, uint32_t n_heads, uint32_t n_kv_heads,
                  uint32_t head_dim, float *q, float *k)
{
  aii_cpu *cpu = aii_cpu_of(be);
  if (rope->n_rot > head_dim || rope->n_rot % 2 != 0) {
    aii_cpu_fail(cpu, AIINFRA_EINVAL, "rope rotates an odd number of dims, or more than a head has");
    return;
  }
  if (rope->n_rot == 0) return;
  float *angles = aii_cpu_scratch(cpu, (size_t)aii_pool_threads(cpu->pool) * rope->n_rot * sizeof(float));
  if (angles == NULL) return;
  rope_job job = {cpu->k, rope, rows, n_heads, n_kv_heads, head_dim, q, k, angles};
  size_t elements = (size_t)rows->n_rows * (n_heads + n_kv_heads) * head_dim;
  aii_cpu_for(cpu, rows->n_rows, 8, elements < ALONE_ELEMENTS, rope_range, &job);
}
