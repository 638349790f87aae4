/* bench_attention.c - attention in the shape of Llama-3.2-1B, beside what the machine allows.
 *
 * Decode attends from depth 4096 through so many layers that no cache holds them; what is told is for sixteen. Its limit
 * is to read every key and value once, at the memory bandwidth measured in the same runs. Prefill computes 512 rows of
 * one sequence from the start: its limit is the rate of multiply-adds. Each instruction set and one thread and two are
 * taken in turn, and the best of the runs counts.
 *
 * Arguments name what is measured, any of F32 F16 Q8_0 avx2 avx512 1 2; none: all of it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/kernels.h"
#include "src/backend/backend.h"

enum {
  HEADS = 32,
  KV_HEADS = 8,
  DIM = 64,
  LAYERS = 16,
  BLOCK = 16,
  DEPTH = 4096,
  PROMPT = 512,
  RUNS = 5,
  WIDTH = HEADS * DIM
};
#define CACHE_BYTES ((size_t)512 << 20) /* at least: more than a last-level cache */
#define MAX_THREADS 2

static aii_mem mem;
static volatile float sink;
static const char *const *wanted;

/* Nobody asked for anything of this kind, or for this. */
static bool chosen(const char *const *kind, size_t n, const char *name)
{
  bool asked = false;
  for (const char *const *w = wanted; *w != NULL; w++) {
    if (strcmp(*w, name) == 0) return true;
    for (size_t i = 0; i < n; i++) asked = asked || strcmp(*w, kind[i]) == 0;
  }
  return !asked;
}

static double seconds(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct bench {
  aii_kv_view kv;
  size_t bytes; /* of keys and values */
  uint32_t table[DEPTH / BLOCK], pos[DEPTH], seq[DEPTH];
  const uint32_t *tables[1];
  float *q, *out;
} bench;

static aii_rows rows_of(bench *b, uint32_t n_rows, uint32_t length)
{
  for (uint32_t i = 0; i < n_rows; i++) b->pos[i] = length - n_rows + i;
  b->tables[0] = b->table;
  return (aii_rows){.n_rows = n_rows, .n_seqs = 1, .pos = b->pos, .seq = b->seq, .tables = b->tables};
}

/* Writes the first layer of all positions, and copies it to the others. */
static void fill(bench *b, aii_backend *be)
{
  for (uint32_t at = 0; at < DEPTH; at += PROMPT) {
    aii_rows rows = rows_of(b, PROMPT, at + PROMPT);
    be->ops->kv_write(be, &b->kv, 0, &rows, b->q + at % 128, b->q + 512 + at % 64);
  }
  for (uint32_t i = 0; i < b->kv.n_blocks; i++) {
    char *first = (char *)b->kv.base + i * b->kv.block_bytes;
    for (uint32_t l = 1; l < b->kv.n_layers; l++) memcpy(first + l * b->kv.layer_bytes, first, b->kv.layer_bytes);
  }
}

static void prepare(bench *b, aii_backend *be, aii_dtype type)
{
  *b = (bench){.kv = {.type = type,
                      .n_layers = 1,
                      .n_kv_heads = KV_HEADS,
                      .head_dim = DIM,
                      .value_dim = DIM,
                      .block_tokens = BLOCK,
                      .n_blocks = DEPTH / BLOCK}};
  if (!aii_kv_lay_out(&b->kv)) exit(1);
  b->kv.n_layers = (uint32_t)(CACHE_BYTES / (b->kv.n_blocks * b->kv.layer_bytes) + 1);
  if (!aii_kv_lay_out(&b->kv)) exit(1);
  b->bytes = (size_t)b->kv.n_blocks * b->kv.n_layers * b->kv.layer_bytes;
  if (be->ops->alloc(be, b->kv.n_blocks * b->kv.block_bytes, &b->kv.base, NULL) != AIINFRA_OK) exit(1);
  b->q = malloc(sizeof(float) * (PROMPT * WIDTH + 1024));
  b->out = malloc(sizeof(float) * PROMPT * WIDTH);
  if (b->q == NULL || b->out == NULL) exit(1);
  for (uint32_t i = 0; i < b->kv.n_blocks; i++) b->table[i] = i * 7 % b->kv.n_blocks;
  for (uint32_t i = 0; i < PROMPT * WIDTH + 1024; i++) b->q[i] = (float)(i * 2654435761u >> 8) * 0x1p-23f - 1;
  fill(b, be);
}

static void dispose(bench *b, aii_backend *be)
{
  be->ops->release(be, b->kv.base, b->kv.n_blocks * b->kv.block_bytes);
  free(b->q);
  free(b->out);
}

/* Seconds of n_rows rows that end at `length`, through n_layers layers. */
static double attend(bench *b, aii_backend *be, uint32_t n_rows, uint32_t length, uint32_t n_layers)
{
  const aii_attn how = {.n_heads = HEADS, .scale = 0.125f};
  aii_rows rows = rows_of(b, n_rows, length);
  double start = seconds();
  for (uint32_t l = 0; l < n_layers; l++) be->ops->attention(be, &b->kv, l, &rows, &how, b->q, b->out);
  return seconds() - start;
}

/* ---- the limits ---- */

static void read_part(void *arg, uint32_t part, uint32_t n_parts)
{
  const bench *b = arg;
  size_t n = b->bytes / 64 / n_parts * 8;
  const uint64_t *p = (const uint64_t *)b->kv.base + part * n;
  uint64_t sums[8] = {0};
  for (size_t i = 0; i + 8 <= n; i += 8) {
    __builtin_prefetch(p + i + 512);
    for (size_t j = 0; j < 8; j++) sums[j] ^= p[i + j];
  }
  for (int j = 0; j < 8; j++) sink = sink + (float)sums[j];
}

enum { FMA_ROUNDS = 1000000 };

#if defined(__x86_64__)
/* FMA_ROUNDS times 12 multiply-adds of a whole register. */
#define MULTIPLY_ADDS(name, isa, vec, set1, fma, first)                                     \
  __attribute__((target(isa))) static void name(void *arg, uint32_t part, uint32_t n_parts) \
  {                                                                                         \
    (void)arg, (void)part, (void)n_parts;                                                   \
    vec a[12], f = set1(0.999f);                                                            \
    for (int i = 0; i < 12; i++) a[i] = set1((float)i);                                     \
    for (int r = 0; r < FMA_ROUNDS; r++) {                                                  \
      _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++) a[i] = fma(a[i], f, f);         \
    }                                                                                       \
    for (int i = 0; i < 12; i++) sink = sink + first(a[i]);                                 \
  }
MULTIPLY_ADDS(fma_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32)
MULTIPLY_ADDS(fma_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32)
#endif

/* GFLOP/s of all threads; 0: not measured on this machine. */
static double peak_of(aii_pool *pool, uint32_t n, int32_t isa)
{
#if defined(__x86_64__)
  bool wide = isa == AIINFRA_ISA_AVX512;
  double start = seconds();
  aii_pool_run(pool, n, wide ? fma_avx512 : fma_avx2, NULL);
  return 2e-9 * (wide ? 16 : 8) * 12 * FMA_ROUNDS * n / (seconds() - start);
#else
  (void)pool, (void)n, (void)isa;
  return 0;
#endif
}

/* ---- what is measured ---- */

static const char *const type_names[] = {"F32", "F16", "Q8_0"}, *const isa_names[] = {"avx2", "avx512"},
                         *const thread_names[] = {"1", "2"};
static const aii_dtype types[] = {AII_F32, AII_F16, AII_Q8_0};
static const int32_t isas[] = {AIINFRA_ISA_AVX2, AIINFRA_ISA_AVX512};
enum { N_TYPES = AII_COUNT(types), N_ISAS = AII_COUNT(isas) };

typedef struct best {
  double decode, prefill, memory, peak;
} best;

static void measure(bench *b, uint32_t threads, int32_t isa, best *r)
{
  aii_pool *pool;
  aii_backend *be;
  aiinfra_error err;
  if (aii_pool_create(&mem, threads, false, &pool, &err) != AIINFRA_OK) exit(1);
  if (aii_cpu_backend_create(&mem, pool, isa, &be, &err) != AIINFRA_OK) exit(1);
  double start = seconds();
  aii_pool_run(pool, threads, read_part, b);
  double memory = (double)b->bytes / (seconds() - start), peak = peak_of(pool, threads, isa);
  double decode = attend(b, be, 1, DEPTH, b->kv.n_layers), prefill = attend(b, be, PROMPT, PROMPT, 4);
  if (be->ops->sync(be, &err) != AIINFRA_OK) printf("  %s\n", err.message);
  r->memory = AII_MAX(r->memory, memory * 1e-9);
  r->peak = AII_MAX(r->peak, peak);
  r->decode = AII_MIN(r->decode, decode);
  r->prefill = AII_MIN(r->prefill, prefill);
  be->ops->destroy(be);
  aii_pool_free(pool);
}

static void report(const bench *b, const char *type, const char *isa, uint32_t threads, const best *r, double memory)
{
  double work = 4.0 * WIDTH * PROMPT * (PROMPT + 1) / 2 * 4, rate = (double)b->bytes * 1e-9 / r->decode,
         flops = work * 1e-9 / r->prefill;
  printf("%-4s %-6s %u threads: decode at %d %6.2f GB/s, %3.0f %% of memory, %6.2f ms a token; "
         "prefill of %d %6.1f GFLOP/s, %3.0f %% of the peak\n",
         type, isa, threads, DEPTH, rate, 100 * rate / memory, 1e3 * r->decode * LAYERS / b->kv.n_layers, PROMPT, flops,
         r->peak > 0 ? 100 * flops / r->peak : 0);
}

static void run(bench *b, const char *type)
{
  static best results[N_ISAS][MAX_THREADS];
  double memory[MAX_THREADS] = {0};
  for (int s = 0; s < N_ISAS; s++)
    for (int t = 0; t < MAX_THREADS; t++) results[s][t] = (best){.decode = 1e9, .prefill = 1e9};
  for (int i = 0; i < RUNS * N_ISAS * MAX_THREADS; i++) {
    int s = i % N_ISAS, t = i / N_ISAS % MAX_THREADS;
    if (aii_kernels_get(isas[s]) == NULL || !chosen(isa_names, N_ISAS, isa_names[s]) ||
        !chosen(thread_names, MAX_THREADS, thread_names[t]))
      continue;
    measure(b, (uint32_t)t + 1, isas[s], &results[s][t]);
    memory[t] = AII_MAX(memory[t], results[s][t].memory);
  }
  for (int s = 0; s < N_ISAS; s++)
    for (int t = 0; t < MAX_THREADS; t++)
      if (results[s][t].memory > 0) {
        printf("%s, %d threads: memory read %.2f GB/s, multiply-adds %.1f GFLOP/s\n", isa_names[s], t + 1, memory[t],
               results[s][t].peak);
        report(b, type, isa_names[s], (uint32_t)t + 1, &results[s][t], memory[t]);
      }
}

int main(int argc, char **argv)
{
  (void)argc;
  wanted = (const char *const *)(argv + 1);
  aii_mem_init(&mem, NULL, 0);
  for (int t = 0; t < N_TYPES; t++) {
    if (!chosen(type_names, N_TYPES, type_names[t])) continue;
    static bench b;
    aii_backend *be;
    aiinfra_error err;
    if (aii_cpu_backend_create(&mem, NULL, 0, &be, &err) != AIINFRA_OK) return 1;
    prepare(&b, be, types[t]);
    run(&b, type_names[t]);
    dispose(&b, be);
    be->ops->destroy(be);
  }
  return 0;
}
