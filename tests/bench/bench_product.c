/* bench_product.c - products with weights in the shapes of Llama-3.2-1B, beside what the machine allows.
 *
 * One row and four rows read so many matrices that no cache holds them: their limit is the memory bandwidth measured in
 * the same runs. 512 rows, as of a prompt, take two of the matrices as gate and up, and one as down: billions of products
 * of two numbers a second. The best of the runs counts.
 *
 * BF16-rounded: BF16 weights with activations that are rounded to BF16, where the CPU has the instruction.
 *
 * Arguments name what is measured, any of the types below, avx2 avxvnni avx512 amx, 1 2 (threads), rows prompt; none: all.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/kernels.h"
#include "src/backend/cpu.h"

enum { NARROW = 2048, BROAD = 8192, PROMPT = 512, RUNS = 5, MAX_MATRICES = 96, MAX_THREADS = 2 };
#define READ_BYTES ((size_t)640 << 20) /* at least: more than a last-level cache */
#define PANEL_BYTES (READ_BYTES + ((size_t)2 * NARROW * BROAD * sizeof(float)))

static const char *const type_names[] = {"Q4_0", "Q8_0", "Q4_K", "Q6_K", "BF16", "F16", "BF16-rounded"};
static const aii_dtype types[] = {AII_Q4_0, AII_Q8_0, AII_Q4_K, AII_Q6_K, AII_BF16, AII_F16, AII_BF16};
enum { ROUNDED = AII_COUNT(types) - 1 };
static const char *const isa_names[] = {"avx2", "avxvnni", "avx512", "amx"}, *const thread_names[] = {"1", "2"},
                         *const part_names[] = {"rows", "prompt"};
static const int32_t isas[] = {AIINFRA_ISA_AVX2, AIINFRA_ISA_AVXVNNI, AIINFRA_ISA_AVX512, AIINFRA_ISA_AMX};

static aii_mem mem;
static volatile uint64_t sink;
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
  aii_weight broad[MAX_MATRICES], down; /* narrow to broad, and back */
  uint32_t n;
  size_t bytes; /* of the broad ones, all at `panels` */
  void *panels;
  float *x, *y, *up;
} bench;

/* Sixteen rows of their own, again and again. */
static void *rows_of(aii_dtype type, uint32_t n_in, uint32_t n_out)
{
  const aii_dtype_traits *t = aii_dtype_info((uint32_t)type);
  size_t row = (size_t)n_in / t->block * t->block_bytes;
  char *rows = malloc(row * n_out);
  float x[BROAD];
  if (rows == NULL) exit(1);
  for (uint32_t r = 0; r < n_out; r++) {
    for (uint32_t i = 0; i < n_in && r < AII_PANEL; i++) x[i] = (float)((i * 31 + r) * 2654435761u >> 8) * 0x1p-23f - 1;
    if (r < AII_PANEL) aii_fmt_info(aii_cpu_fmt(type))->encode(x, NULL, n_in, rows + r * row);
    else memcpy(rows + r * row, rows + (r - AII_PANEL) * row, row);
  }
  return rows;
}

/* To memory that the kernel backs with large pages, as a model's. */
static void upload(aii_backend *be, aii_weight *w, size_t t, uint32_t n_in, uint32_t n_out, const void *source,
                   char *to)
{
  aiinfra_error err;
  *w = (aii_weight){
      .type = types[t], .n_in = n_in, .n_out = n_out, .bf16_x = t == ROUNDED, .source = source, .device = to};
  if (be->ops->upload(be, w, &err) == AIINFRA_OK) return;
  printf("%s\n", err.message);
  exit(1);
}

static float *floats(aii_backend *be, size_t n)
{
  void *p;
  if (be->ops->alloc(be, n * sizeof(float), &p, NULL) != AIINFRA_OK) exit(1);
  for (size_t i = 0; i < n; i++) ((float *)p)[i] = (float)(i * 2654435761u >> 8 & 0xffffff) * 0x1p-23f - 1;
  return p;
}

/* What is uploaded is the same for every instruction set and number of threads. */
static void prepare(bench *b, aii_backend *be, size_t t)
{
  void *rows = rows_of(types[t], NARROW, BROAD);
  *b = (bench){.x = floats(be, (size_t)PROMPT * NARROW),
               .y = floats(be, (size_t)PROMPT * BROAD),
               .up = floats(be, (size_t)PROMPT * BROAD)};
  if (be->ops->alloc(be, PANEL_BYTES, &b->panels, NULL) != AIINFRA_OK) exit(1);
  for (; b->bytes < READ_BYTES && b->n < MAX_MATRICES; b->n++) {
    upload(be, &b->broad[b->n], t, NARROW, BROAD, rows, (char *)b->panels + b->bytes);
    b->bytes += aii_cpu_mat_bytes(&b->broad[b->n]);
  }
  free(rows);
  rows = rows_of(types[t], BROAD, NARROW);
  upload(be, &b->down, t, BROAD, NARROW, rows, (char *)b->panels + b->bytes);
  free(rows);
}

static void dispose(bench *b, aii_backend *be)
{
  for (uint32_t i = 0; i < b->n; i++) be->ops->unload(be, &b->broad[i]);
  be->ops->unload(be, &b->down);
  be->ops->release(be, b->panels, PANEL_BYTES);
  be->ops->release(be, b->x, (size_t)PROMPT * NARROW * sizeof(float));
  be->ops->release(be, b->y, (size_t)PROMPT * BROAD * sizeof(float));
  be->ops->release(be, b->up, (size_t)PROMPT * BROAD * sizeof(float));
}

/* ---- what is measured ---- */

typedef struct best {
  double memory, one, four, gated, down; /* gigabytes a second, and thousand million products */
} best;

static void read_part(void *arg, uint32_t part, uint32_t n_parts)
{
  const bench *b = arg;
  uint64_t sums[8] = {0};
  for (uint32_t m = part; m < b->n; m += n_parts) {
    const uint64_t *p = b->broad[m].device;
    const size_t n = b->bytes / b->n / 8;
    for (size_t i = 0; i + 8 <= n; i += 8) {
      __builtin_prefetch(p + i + 512);
      for (size_t j = 0; j < 8; j++) sums[j] ^= p[i + j];
    }
  }
  for (int j = 0; j < 8; j++) sink = sink + sums[j];
}

static double rows(const bench *b, aii_backend *be, uint32_t n)
{
  double start = seconds();
  for (uint32_t m = 0; m < b->n; m++) be->ops->matmul(be, &b->broad[m], NULL, b->x, n, false, b->y);
  return (double)b->bytes * 1e-9 / (seconds() - start);
}

static double prompt(const bench *b, aii_backend *be, bool down)
{
  const aii_mul gate = {&b->broad[0], NULL, b->y}, up = {&b->broad[1], NULL, b->up};
  double start = seconds(), products = (double)PROMPT * NARROW * BROAD * 1e-9;
  if (down) be->ops->matmul(be, &b->down, NULL, b->y, PROMPT, true, b->x);
  else be->ops->gated(be, AII_ACT_SILU, &gate, &up, b->x, PROMPT);
  return (down ? 1 : 2) * products / (seconds() - start);
}

static void measure(const bench *b, uint32_t threads, int32_t isa, best *r)
{
  aii_pool *pool;
  aii_backend *be;
  aiinfra_error err;
  if (aii_pool_create(&mem, threads, 0, &pool, &err) != AIINFRA_OK) exit(1);
  if (aii_cpu_backend_create(&mem, pool, isa, &be, &err) != AIINFRA_OK) exit(1);
  aii_cpu_scratch(aii_cpu_of(be), aii_cpu_matmul_scratch(&b->down));
  if (chosen(part_names, AII_COUNT(part_names), "rows")) {
    double start = seconds();
    aii_pool_run(pool, threads, read_part, (void *)(uintptr_t)b);
    r->memory = AII_MAX(r->memory, (double)b->bytes * 1e-9 / (seconds() - start));
    r->one = AII_MAX(r->one, rows(b, be, 1));
    r->four = AII_MAX(r->four, rows(b, be, 4));
  }
  if (chosen(part_names, AII_COUNT(part_names), "prompt")) {
    r->gated = AII_MAX(r->gated, prompt(b, be, false));
    r->down = AII_MAX(r->down, prompt(b, be, true));
  }
  if (be->ops->sync(be, &err) != AIINFRA_OK) printf("  %s\n", err.message);
  be->ops->destroy(be);
  aii_pool_free(pool);
}

static void run(const bench *b, size_t type)
{
  for (size_t s = 0; s < AII_COUNT(isas); s++)
    for (size_t t = 0; t < MAX_THREADS; t++) {
      best r = {0};
      if (aii_kernels_get(isas[s]) == NULL || (type == ROUNDED && !aii_kernels_pair_bf16(aii_kernels_get(isas[s]))) ||
          !chosen(isa_names, AII_COUNT(isas), isa_names[s]) || !chosen(thread_names, MAX_THREADS, thread_names[t]))
        continue;
      for (int i = 0; i < RUNS; i++) measure(b, (uint32_t)t + 1, isas[s], &r);
      printf("%-4s %-7s %zu threads: a row %5.2f, four %5.2f of %5.2f GB/s; prompt: gate and up %5.1f, down %5.1f "
             "thousand million products/s\n",
             type_names[type], isa_names[s], t + 1, r.one, r.four, r.memory, r.gated, r.down);
    }
}

int main(int argc, char **argv)
{
  static bench b;
  (void)argc;
  wanted = (const char *const *)(argv + 1);
  aii_mem_init(&mem, NULL, 0);
  for (size_t t = 0; t < AII_COUNT(types); t++) {
    aii_backend *be;
    aiinfra_error err;
    if (!chosen(type_names, AII_COUNT(types), type_names[t])) continue;
    if (aii_cpu_backend_create(&mem, NULL, 0, &be, &err) != AIINFRA_OK) return 1;
    if (t != ROUNDED || be->ops->takes_bf16_x(be)) {
      prepare(&b, be, t);
      run(&b, t);
      dispose(&b, be);
    }
    be->ops->destroy(be);
  }
  return 0;
}
