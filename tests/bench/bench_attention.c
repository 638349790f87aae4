/* bench_attention.c - attention of one thread in the shape of Llama-3.2-1B, beside what the machine allows.
 *
 * Decode goes through 16 layers at depth 4096, which no cache holds: its limit is to read every key and value once, at
 * the memory bandwidth measured in the same runs. Prefill computes 512 rows of one sequence from the start: its limit is
 * the rate of multiply-adds. All are taken in turn, the best of the runs counts, and time is the processor's, so that
 * other programs count little.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "src/backend/backend.h"

enum { HEADS = 32, KV_HEADS = 8, DIM = 64, LAYERS = 16, BLOCK = 16, DEPTH = 4096, PROMPT = 512, RUNS = 7 };

static aii_mem mem;
static volatile float sink;

static double cpu_seconds(void)
{
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Halves of about -2 to 2, or floats and blocks that mean as harmless values. */
static void fill(aii_kv_view *kv)
{
  uint32_t state = 1;
  float x[DIM];
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)kv->type);
  size_t row = DIM / t->block * t->block_bytes;
  for (size_t at = 0; at + row <= kv->n_blocks * kv->block_bytes; at += row) {
    aiinfra_error err;
    for (int i = 0; i < DIM; i++) x[i] = (float)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-22f - 2;
    if (aii_quantize_rows(kv->type, x, 1, DIM, NULL, (char *)kv->base + at, &err) != AIINFRA_OK) return;
  }
}

typedef struct bench {
  aii_backend *be;
  aii_kv_view kv;
  uint32_t table[DEPTH / BLOCK], pos[PROMPT], seq[PROMPT];
  float *q, *out;
} bench;

static void prepare(bench *b, aii_backend *be, aii_dtype type)
{
  *b = (bench){.be = be};
  b->kv = (aii_kv_view){.type = type,
                        .n_layers = LAYERS,
                        .n_kv_heads = KV_HEADS,
                        .head_dim = DIM,
                        .value_dim = DIM,
                        .block_tokens = BLOCK,
                        .n_blocks = DEPTH / BLOCK};
  if (!aii_kv_lay_out(&b->kv)) exit(1);
  if (be->ops->alloc(be, b->kv.n_blocks * b->kv.block_bytes, &b->kv.base, NULL) != AIINFRA_OK) exit(1);
  b->q = malloc(sizeof(float) * PROMPT * HEADS * DIM);
  b->out = malloc(sizeof(float) * PROMPT * HEADS * DIM);
  if (b->q == NULL || b->out == NULL) exit(1);
  for (uint32_t i = 0; i < b->kv.n_blocks; i++) b->table[i] = i * 7 % b->kv.n_blocks;
  for (uint32_t i = 0; i < PROMPT * HEADS * DIM; i++) b->q[i] = (float)(i * 2654435761u >> 8) * 0x1p-23f - 1;
  fill(&b->kv);
}

static void dispose(bench *b)
{
  b->be->ops->release(b->be, b->kv.base, b->kv.n_blocks * b->kv.block_bytes);
  free(b->q);
  free(b->out);
}

/* Seconds of n_rows rows that end at `length`, through n_layers layers. */
static double attend(bench *b, uint32_t n_rows, uint32_t length, uint32_t n_layers)
{
  const uint32_t *tables[1] = {b->table};
  const aii_attn how = {.n_heads = HEADS, .scale = 0.125f};
  aii_rows rows = {.n_rows = n_rows, .n_seqs = 1, .pos = b->pos, .seq = b->seq, .tables = tables};
  for (uint32_t i = 0; i < n_rows; i++) b->pos[i] = length - n_rows + i;
  double start = cpu_seconds();
  for (uint32_t l = 0; l < n_layers; l++) b->be->ops->attention(b->be, &b->kv, l, &rows, &how, b->q, b->out);
  return cpu_seconds() - start;
}

static double read_memory(const bench *b)
{
  const uint64_t *p = b->kv.base;
  uint64_t sums[8] = {0};
  double start = cpu_seconds();
  for (size_t i = 0; i + 8 <= b->kv.n_blocks * b->kv.block_bytes / 8; i += 8)
    for (size_t j = 0; j < 8; j++) sums[j] ^= p[i + j];
  double took = cpu_seconds() - start;
  for (int j = 0; j < 8; j++) sink = sink + (float)sums[j];
  return took;
}

enum { FMA_ROUNDS = 2000000 };

/* Seconds of FMA_ROUNDS times 12 multiply-adds of eight floats; 0: not measured on this machine. */
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static double multiply_adds(void)
{
  __m256 a[12], f = _mm256_set1_ps(0.999f);
  for (int i = 0; i < 12; i++) a[i] = _mm256_set1_ps((float)i);
  double start = cpu_seconds();
  for (int r = 0; r < FMA_ROUNDS; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) a[i] = _mm256_fmadd_ps(a[i], f, f);
  }
  double took = cpu_seconds() - start;
  for (int i = 0; i < 12; i++) sink = sink + _mm256_cvtss_f32(a[i]);
  return took;
}
#else
static double multiply_adds(void)
{
  return 0;
}
#endif

int main(void)
{
  static const aii_dtype types[] = {AII_F32, AII_F16, AII_Q8_0};
  enum { N_TYPES = AII_COUNT(types) };
  static bench benches[N_TYPES];
  double decode[N_TYPES], prefill[N_TYPES], memory = 1e9, fma = 1e9;
  aii_backend *be;
  aiinfra_error err;
  aii_mem_init(&mem, NULL, 0);
  if (aii_cpu_backend_create(&mem, NULL, 0, &be, &err) != AIINFRA_OK) return 1;
  for (int t = 0; t < N_TYPES; t++) {
    prepare(&benches[t], be, types[t]);
    decode[t] = prefill[t] = 1e9;
  }
  for (int run = 0; run < RUNS; run++) {
    memory = AII_MIN(memory, read_memory(&benches[0]));
    fma = AII_MIN(fma, multiply_adds());
    for (int t = 0; t < N_TYPES; t++) {
      decode[t] = AII_MIN(decode[t], attend(&benches[t], 1, DEPTH, LAYERS));
      prefill[t] = AII_MIN(prefill[t], attend(&benches[t], PROMPT, PROMPT, 2));
    }
  }
  double bytes = (double)benches[0].kv.n_blocks * (double)benches[0].kv.block_bytes;
  double rate = bytes / memory * 1e-9, peak = fma > 0 ? 2.0 * 8 * 12 * FMA_ROUNDS / fma * 1e-9 : 0;
  printf("one thread; memory read: %.2f GB/s; multiply-adds of 256 bits: %.1f GFLOP/s\n", rate, peak);
  for (int t = 0; t < N_TYPES; t++) {
    double kv = (double)benches[t].kv.n_blocks * (double)benches[t].kv.block_bytes;
    double decode_work = 4.0 * HEADS * DIM * DEPTH * LAYERS, work = 4.0 * HEADS * DIM * PROMPT * (PROMPT + 1) / 2 * 2;
    printf("%-5s decode at %d: %6.2f GB/s of keys and values (%.0f %% of memory), %6.1f GFLOP/s, %.2f ms a token; "
           "prefill of %d: %6.1f GFLOP/s (%.0f %% of the peak)\n",
           aii_dtype_info((uint32_t)types[t])->name, DEPTH, kv / decode[t] * 1e-9, 100 * kv / decode[t] * 1e-9 / rate,
           decode_work / decode[t] * 1e-9, decode[t] * 1e3, PROMPT, work / prefill[t] * 1e-9,
           peak > 0 ? 100 * work / prefill[t] * 1e-9 / peak : 0);
    if (be->ops->sync(be, &err) != AIINFRA_OK) printf("  %s\n", err.message);
    dispose(&benches[t]);
  }
  be->ops->destroy(be);
  return 0;
}
