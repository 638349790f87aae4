/* backend_rates.c - what the CPU backend makes of the kernels on all threads: decode, prefill, attention, overhead.
 *
 * Decode reads more weights than any cache holds; its limit is the memory bandwidth measured here with as many threads.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/backend/backend.h"
#include "tests/kernels/rates.h"

enum { DIM = 2048, OUT = 8192, N_MATRICES = 32, PROMPT = 256 };

static aii_mem mem;
static volatile uint64_t sink;

static double seconds(void)
{
  return (double)aii_now_ns() * 1e-9;
}

typedef struct reader {
  const uint64_t *p;
  size_t n;
  _Atomic uint64_t sum;
} reader;

static void read_part(void *arg, uint32_t part, uint32_t n_parts)
{
  reader *r = arg;
  uint64_t s[4] = {0};
  for (size_t i = r->n / n_parts * part; i + 4 <= r->n / n_parts * (part + 1); i += 4)
    for (int j = 0; j < 4; j++) s[j] ^= r->p[i + (size_t)j];
  atomic_fetch_add(&r->sum, s[0] ^ s[1] ^ s[2] ^ s[3]);
}

static double best(double a, double b)
{
  return a < b ? a : b;
}

static void fill(float *x, size_t n)
{
  for (size_t i = 0; i < n; i++) x[i] = sinf((float)i * 0.7f);
}

static void rate_type(aii_backend *be, aii_dtype type, const char *memory, const float *x, float *y)
{
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)type);
  size_t bytes = (size_t)DIM / t->block * t->block_bytes * OUT;
  aii_weight w[N_MATRICES];
  aiinfra_error err;
  for (int i = 0; i < N_MATRICES; i++) {
    w[i] = (aii_weight){.type = type, .n_in = DIM, .n_out = OUT, .source = memory + (size_t)i * bytes};
    if (be->ops->upload(be, &w[i], &err) != AIINFRA_OK) return;
  }
  double decode = 1e9, four = 1e9, prefill = 1e9;
  for (int run = 0; run < 5; run++) {
    double start = seconds();
    for (int i = 0; i < N_MATRICES; i++) be->ops->matmul(be, &w[i], NULL, x, 1, false, y);
    decode = best(decode, seconds() - start);
    start = seconds();
    for (int i = 0; i < N_MATRICES; i++) be->ops->matmul(be, &w[i], NULL, x, 4, false, y);
    four = best(four, seconds() - start);
    start = seconds();
    be->ops->matmul(be, &w[0], NULL, x, PROMPT, false, y);
    prefill = best(prefill, seconds() - start);
  }
  double flops = 2.0 * DIM * OUT;
  printf("  %-5s decode %6.2f GB/s (4 rows %6.2f) over %zu MB; prefill %7.2f GFLOP/s, %.1f times faster a row\n",
         t->name, (double)bytes * N_MATRICES / decode * 1e-9, (double)bytes * N_MATRICES / four * 1e-9,
         bytes * N_MATRICES >> 20, flops * PROMPT / prefill * 1e-9, decode / N_MATRICES / (prefill / PROMPT));
}

static void rate_attention(aii_backend *be, aii_dtype type, uint32_t n_rows, uint32_t length)
{
  enum { HEADS = 32, KV = 8, HEAD = 64, BLOCK = 16 };
  aii_kv_view kv = {.type = type,
                    .n_layers = 1,
                    .n_kv_heads = KV,
                    .head_dim = HEAD,
                    .value_dim = HEAD,
                    .block_tokens = BLOCK,
                    .n_blocks = length / BLOCK};
  if (!aii_kv_lay_out(&kv)) return;
  kv.base = calloc(kv.n_blocks, kv.block_bytes);
  uint32_t *table = malloc(kv.n_blocks * 4), *pos = malloc(n_rows * 4), *seq = calloc(n_rows, 4);
  float *q = malloc((size_t)n_rows * HEADS * HEAD * 4), *out = malloc((size_t)n_rows * HEADS * HEAD * 4);
  for (uint32_t i = 0; i < kv.n_blocks; i++) table[i] = i;
  for (uint32_t i = 0; i < n_rows; i++) pos[i] = length - n_rows + i;
  fill(q, (size_t)n_rows * HEADS * HEAD);
  const uint32_t *tables[1] = {table};
  aii_rows rows = {.n_rows = n_rows, .n_seqs = 1, .pos = pos, .seq = seq, .tables = tables};
  const aii_attn how = {.n_heads = HEADS, .scale = 0.125f};
  double took = 1e9;
  for (int run = 0; run < 7; run++) {
    double start = seconds();
    be->ops->attention(be, &kv, 0, &rows, &how, q, out);
    took = best(took, seconds() - start);
  }
  double products = 2.0 * HEADS * HEAD * n_rows * (length - (n_rows - 1) / 2.0);
  printf("  attention %s, %3u rows at %5u: %8.1f us, %6.2f GFLOP/s, cache read at %.2f GB/s\n",
         aii_dtype_info((uint32_t)type)->name, n_rows, length, took * 1e6, products * 2 / took * 1e-9,
         (double)kv.n_blocks * (double)kv.block_bytes / took * 1e-9);
  free(kv.base);
  free(table);
  free(pos);
  free(seq);
  free(q);
  free(out);
}

static void nothing(void *arg, uint32_t part, uint32_t n_parts)
{
  (void)arg;
  (void)part;
  (void)n_parts;
}

static void rate_overhead(aii_backend *be, aii_pool *pool)
{
  float x[64], y[256];
  float w[64 * 64];
  fill(x, 64);
  fill(w, 64 * 64);
  aii_weight m = {.type = AII_F32, .n_in = 64, .n_out = 64, .source = w};
  aiinfra_error err;
  if (be->ops->upload(be, &m, &err) != AIINFRA_OK) return;
  double matmul = 1e9, norm = 1e9, section = 1e9;
  for (int run = 0; run < 5; run++) {
    double start = seconds();
    for (int i = 0; i < 1000; i++) be->ops->matmul(be, &m, NULL, x, 1, false, y);
    matmul = best(matmul, seconds() - start);
    start = seconds();
    for (int i = 0; i < 1000; i++) be->ops->rms_norm(be, x, NULL, 1, 64, 1e-5f, y);
    norm = best(norm, seconds() - start);
    start = seconds();
    for (int i = 0; i < 1000; i++) aii_pool_run(pool, 2, nothing, NULL);
    section = best(section, seconds() - start);
  }
  printf("  small operations: matmul 64x64 %.2f us, rms_norm 64 %.2f us, an empty section of 2 parts %.2f us\n",
         matmul * 1e3, norm * 1e3, section * 1e3);
}

void test_backend_rates(uint32_t n_threads)
{
  aii_pool *pool;
  aii_backend *be;
  aiinfra_error err;
  aii_mem_init(&mem, NULL, 0);
  if (aii_pool_create(&mem, n_threads, 0, &pool, &err) != AIINFRA_OK) return;
  if (aii_cpu_backend_create(&mem, pool, 0, &be, &err) != AIINFRA_OK) return;
  size_t bytes = (size_t)DIM * 2 * OUT * N_MATRICES;
  char *memory = malloc(bytes);
  float *x = malloc((size_t)PROMPT * DIM * 4), *y = malloc((size_t)PROMPT * OUT * 4);
  for (size_t i = 0; i < bytes; i += 2) { /* as halves, about 1.0 to 1.2; as blocks, any integers */
    uint16_t h = (uint16_t)(0x3c00 + i * 2654435761u / 7 % 255);
    memcpy(memory + i, &h, 2);
  }
  fill(x, (size_t)PROMPT * DIM);
  double read = 1e9;
  for (int run = 0; run < 5; run++) {
    reader r = {.p = (const uint64_t *)(const void *)memory, .n = bytes / 8};
    double start = seconds();
    aii_pool_run(pool, n_threads, read_part, &r);
    read = best(read, seconds() - start);
    sink += atomic_load(&r.sum);
  }
  printf("%u threads; memory read: %.2f GB/s\n", n_threads, (double)bytes / read * 1e-9);
  static const aii_dtype types[] = {AII_F16, AII_BF16, AII_Q8_0, AII_Q4_0};
  for (size_t i = 0; i < AII_COUNT(types); i++) rate_type(be, types[i], memory, x, y);
  static const aii_dtype caches[] = {AII_F32, AII_F16, AII_Q8_0};
  for (size_t t = 0; t < AII_COUNT(caches); t++) {
    rate_attention(be, caches[t], 1, 4096);
    rate_attention(be, caches[t], 128, 1024);
  }
  rate_overhead(be, pool);
  free(memory);
  free(x);
  free(y);
  be->ops->destroy(be);
  aii_pool_free(pool);
}
