/* both.c - the two backends of a test, and what lies on both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

#include "tests/gpu/both.h"

aii_mem mem;
unsigned long long seed;
aii_pool *pool;
aii_backend *cpu, *cuda;

const char *both_plugin(void)
{
  const char *path = getenv("AIINFRA_CUDA_PLUGIN");
  return path != NULL ? path : test_built("libaiinfra-cuda-on-cpu.so");
}

const unsigned long long *both_counter(const char *name)
{
  void *library = dlopen(both_plugin(), RTLD_NOW | RTLD_NOLOAD);
  return library != NULL ? dlsym(library, name) : NULL;
}

float uniform(void)
{
  return (float)(test_random(&seed) >> 40) * 0x1p-23f - 1.0f;
}

float *floats(size_t n, float spread)
{
  float *x = malloc(n * sizeof *x);
  assert_non_null(x);
  for (size_t i = 0; i < n; i++) x[i] = spread * uniform();
  return x;
}

void sync_both(void)
{
  aiinfra_error err;
  if (cpu->ops->sync(cpu, &err) != AIINFRA_OK) fail_msg("cpu: %s", err.message);
  if (cuda->ops->sync(cuda, &err) != AIINFRA_OK) fail_msg("cuda: %s", err.message);
}

/* ---- numbers on both devices ---- */

both both_of(const float *x, size_t rows, size_t width)
{
  aiinfra_error err;
  both b = {rows * width, width, malloc(rows * width * sizeof(float)), NULL};
  aii_weight table = {.type = AII_F32, .n_in = (uint32_t)width, .n_out = (uint32_t)rows, .lookup = true, .source = x};
  aiinfra_token *tokens = malloc(rows * sizeof *tokens);
  aii_rows list = {.n_rows = (uint32_t)rows, .tokens = tokens};
  void *device;
  for (size_t i = 0; i < rows; i++) tokens[i] = (aiinfra_token)i;
  memcpy(b.cpu, x, b.n * sizeof(float));
  assert_int_equal(cuda->ops->alloc(cuda, b.n * sizeof(float), &device, &err), AIINFRA_OK);
  b.cuda = device;
  cuda->ops->embed(cuda, &table, &list, 1, b.cuda);
  sync_both();
  free(tokens);
  return b;
}

both random_both(size_t rows, size_t width, float spread)
{
  float *x = floats(rows * width, spread);
  both b = both_of(x, rows, width);
  free(x);
  return b;
}

void free_both(both *b)
{
  free(b->cpu);
  cuda->ops->release(cuda, b->cuda, b->n * sizeof(float));
}

float *fetched(const both *b)
{
  aiinfra_error err;
  float *got = malloc(b->n * sizeof(float));
  sync_both();
  assert_int_equal(cuda->ops->to_host(cuda, got, b->cuda, b->n * sizeof(float), &err), AIINFRA_OK);
  return got;
}

void assert_near(const both *b, double tolerance, const char *what)
{
  float *got = fetched(b);
  for (size_t i = 0; i < b->n; i++) {
    if (memcmp(&got[i], &b->cpu[i], sizeof(float)) == 0 || (got[i] == 0 && b->cpu[i] == 0)) continue;
    if (fabs((double)got[i] - (double)b->cpu[i]) <= tolerance * fabs((double)b->cpu[i])) continue;
    fail_msg("%s: element %zu of %zu is %.9g, should be %.9g", what, i, b->n, (double)got[i], (double)b->cpu[i]);
  }
  free(got);
}

void assert_same(const both *b, const char *what)
{
  assert_near(b, 0, what);
}

/* ---- weights ---- */

weights random_weights(aii_dtype type, uint32_t n_in, uint32_t n_out, uint32_t n_mats)
{
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)type);
  size_t rows = (size_t)n_out * n_mats, bytes = (size_t)n_in / t->block * t->block_bytes * rows;
  float *x = floats(rows * n_in, 1);
  char *data = malloc(bytes);
  aiinfra_error err;
  if (aii_quantize_rows(type, x, rows, n_in, NULL, data, &err) != AIINFRA_OK)
    for (size_t i = 0; i < bytes; i++) data[i] = (char)(test_random(&seed) % 64);
  free(x);
  weights w = {.cpu = {.type = type, .n_in = n_in, .n_out = n_out, .n_mats = n_mats, .source = data}};
  w.cuda = w.cpu;
  assert_int_equal(cpu->ops->upload(cpu, &w.cpu, &err), AIINFRA_OK);
  if (cuda->ops->upload(cuda, &w.cuda, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return w;
}

void free_weights(weights *w)
{
  const void *source = w->cpu.source;
  cpu->ops->unload(cpu, &w->cpu);
  cuda->ops->unload(cuda, &w->cuda);
  free((void *)(uintptr_t)source);
}

const aii_dtype types[N_TYPES] = {AII_F32,    AII_F16,   AII_BF16,  AII_Q8_0,  AII_Q4_0,  AII_Q4_1, AII_Q5_0,
                                  AII_Q5_1,   AII_Q2_K,  AII_Q3_K,  AII_Q4_K,  AII_Q5_K,  AII_Q6_K, AII_IQ4_NL,
                                  AII_IQ4_XS, AII_TQ1_0, AII_TQ2_0, AII_MXFP4, AII_NVFP4, AII_Q1_0, AII_Q2_0};

static void normalise(aii_backend *be, const aii_norm *norm, const float *x, uint32_t n_rows, uint32_t width)
{
  if (norm->layer) be->ops->layer_norm(be, x, norm->w, norm->bias, n_rows, width, norm->eps, norm->out);
  else be->ops->rms_norm(be, x, norm->w, n_rows, width, norm->eps, norm->out);
}

void both_norm_matmuls(aii_backend *be, const aii_norm *norm, const aii_mul *muls, uint32_t n, const float *x,
                       uint32_t n_rows)
{
  if (be->ops->norm_matmuls != NULL) {
    be->ops->norm_matmuls(be, norm, muls, n, x, n_rows);
    return;
  }
  normalise(be, norm, x, n_rows, muls[0].w->n_in);
  be->ops->matmuls(be, muls, n, norm->out, n_rows);
}

void both_norm_gated(aii_backend *be, const aii_norm *norm, aii_act act, const aii_mul *gate, const aii_mul *up,
                     const float *x, uint32_t n_rows)
{
  if (be->ops->norm_gated != NULL) {
    be->ops->norm_gated(be, norm, act, gate, up, x, n_rows);
    return;
  }
  normalise(be, norm, x, n_rows, gate->w->n_in);
  be->ops->gated(be, act, gate, up, norm->out, n_rows);
}

int both_set_up(void **state)
{
  (void)state;
  aiinfra_error err;
  aii_mem_init(&mem, NULL, 0);
  seed = test_seed();
  assert_int_equal(aii_pool_create(&mem, 2, AII_POOL_CROWD, &pool, &err), AIINFRA_OK);
  assert_int_equal(aii_cpu_backend_create(&mem, pool, 0, &cpu, &err), AIINFRA_OK);
  if (aii_cuda_backend_create(&mem, pool, both_plugin(), 0, &cuda, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return 0;
}

int both_tear_down(void **state)
{
  (void)state;
  cpu->ops->destroy(cpu);
  cuda->ops->destroy(cuda);
  aii_pool_free(pool);
  assert_int_equal(mem.used_bytes, 0);
  return 0;
}
