/* src/backend/cpu_elements.c - the operations that look at one element at a time, and copies. */
#include "src/backend/cpu.h"

#define ALONE_ELEMENTS (64u << 10)
#define ELEMENT_GRAIN (16u << 10) /* a multiple of the lanes */

typedef struct element_job {
  const aii_kernels *k;
  aii_act act;
  const float *a, *b;
  float f, *out;
} element_job;

static void each_element(aii_backend *be, element_job job, size_t n, aii_range_fn fn)
{
  aii_cpu *cpu = aii_cpu_of(be);
  job.k = cpu->k;
  aii_cpu_for(cpu, n, ELEMENT_GRAIN, n < ALONE_ELEMENTS, fn, &job);
}

void aii_cpu_act(const aii_kernels *k, aii_act act, const float *gate, const float *up, size_t n, float *out)
{
  switch (act) {
    case AII_ACT_SILU: k->silu_mul(gate, up, n, out); break;
    case AII_ACT_GELU: k->gelu_mul(gate, up, n, out); break;
    case AII_ACT_GELU_ERF: k->gelu_erf_mul(gate, up, n, out); break;
    case AII_ACT_SWIGLU_OAI: k->swiglu_oai(gate, up, n, out); break;
  }
}

static void activate_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const element_job *job = arg;
  (void)worker;
  aii_cpu_act(job->k, job->act, job->a + first, job->b != NULL ? job->b + first : NULL, end - first, job->out + first);
}

void aii_cpu_activate(aii_backend *be, aii_act act, const float *gate, const float *up, size_t n, float *out)
{
  each_element(be, (element_job){.act = act, .a = gate, .b = up, .out = out}, n, activate_range);
}

static void add_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const element_job *job = arg;
  (void)worker;
  job->k->add_scaled(job->out + first, job->a + first, job->f, end - first);
}

void aii_cpu_add(aii_backend *be, float *x, const float *y, float f, size_t n)
{
  each_element(be, (element_job){.a = y, .f = f, .out = x}, n, add_range);
}

static void scale_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const element_job *job = arg;
  (void)worker;
  job->k->scale(job->out + first, job->f, end - first);
}

void aii_cpu_scale(aii_backend *be, float *x, float f, size_t n)
{
  each_element(be, (element_job){.f = f, .out = x}, n, scale_range);
}

static void softcap_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const element_job *job = arg;
  (void)worker;
  job->k->softcap(job->out + first, job->f, end - first);
}

void aii_cpu_softcap(aii_backend *be, float *x, float cap, size_t n)
{
  each_element(be, (element_job){.f = cap, .out = x}, n, softcap_range);
}

/* ---- copies ---- */

typedef struct copy_job {
  const float *x;
  float *out;
  size_t x_stride, out_stride, bytes;
  uint32_t repeat;
} copy_job;

static void copy_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const copy_job *job = arg;
  (void)worker;
  for (size_t i = first; i < end; i++)
    memcpy(job->out + i * job->out_stride, job->x + i / job->repeat * job->x_stride, job->bytes);
}

void aii_cpu_copy(aii_backend *be, const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width,
                  float *out, size_t out_stride)
{
  copy_job job = {x, out, x_stride, out_stride, width * sizeof(float), repeat};
  aii_cpu_for(aii_cpu_of(be), n, 64, n * width < ALONE_ELEMENTS, copy_range, &job);
}
