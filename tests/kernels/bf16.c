/* bf16.c - rounding to BF16, and products of pairs of it, where numbers are subnormal, zero, very large, or none. */
#include "tests/kernels/bf16.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "tests/kernels/emulated.h"
#include "tests/support/support.h"

enum { MAX_VARIANTS = 5 };

static unsigned long long seed;

/* All that this CPU can run or emulate; their number. */
static int find_variants(const aii_kernels **variants)
{
  int n = 0;
  for (int32_t isa = AIINFRA_ISA_AVX2; isa <= AIINFRA_ISA_AMX; isa++)
    if (aii_kernels_get(isa) != NULL) variants[n++] = aii_kernels_get(isa);
  if (test_emulated_avx512() != NULL) variants[n++] = test_emulated_avx512();
  seed = seed == 0 ? test_seed() : seed;
  return n;
}

static uint32_t random_bits(void)
{
  return (uint32_t)(test_random(&seed) >> 32);
}

/* Finite; subnormal ones and zeros of both signs among them. */
static uint16_t any_bf16(void)
{
  const uint32_t bits = random_bits(), exponent = random_bits() % 4 == 0 ? 0 : 60 + random_bits() % 134;
  return (uint16_t)((bits & 0x807f) | exponent << 7);
}

enum { N = 45, ROWS = 16, COLS = 13, SUMS = ROWS * COLS };

static void multiply_any(const aii_kernels *const *variants, int n_variants)
{
  static _Alignas(64) unsigned char panel[(N + 1) / 2 * 64], work[AII_PRODUCT_WORK];
  static uint16_t rows[ROWS][N], x[COLS][N + 1];
  float want[SUMS], got[SUMS];
  for (int i = 0; i < ROWS * N; i++) rows[i / N][i % N] = any_bf16();
  for (int i = 0; i < COLS * N; i++) x[i / N][i % N] = any_bf16();
  assert_true(aii_panel_bytes(AII_FMT_BF16_PAIRS, N) == sizeof panel);
  aii_panel_pack(AII_FMT_BF16_PAIRS, rows, sizeof rows[0], ROWS, N, panel);
  aii_product p = {.w = panel,
                   .w_stride = sizeof panel,
                   .n_in = N,
                   .n_rows = ROWS,
                   .x = x,
                   .x_stride = sizeof x[0],
                   .n_cols = COLS,
                   .y = want,
                   .y_stride = ROWS,
                   .work = work};
  aii_kernels_ref.product[AII_FMT_BF16_PAIRS](&p);
  for (int i = 0; i < SUMS; i++) assert_true(want[i] == 0 || fabsf(want[i]) >= 0x1p-126f || isnan(want[i]));
  p.y = got;
  for (int v = 0; v < n_variants; v++) {
    if (!aii_kernels_pair_bf16(variants[v])) continue;
    variants[v]->product[AII_FMT_BF16_PAIRS](&p);
    for (int i = 0; i < SUMS; i++) assert_true(want[i] == got[i] || (isnan(want[i]) && isnan(got[i])));
  }
}

void test_pairs_of_all_sizes(void **state)
{
  const aii_kernels *variants[MAX_VARIANTS];
  int n_variants = find_variants(variants);
  (void)state;
  for (int round = 0; round < 300; round++) multiply_any(variants, n_variants);
}

/* Infinities, NaN, which stays NaN, and ties among them. */
static float any_float(void)
{
  uint32_t u = random_bits(), kind = random_bits() % 20;
  float f;
  if (kind < 4) u |= kind % 2 == 0 ? 0x7f800000 : 0xff800000;
  if (kind > 2 && kind < 8) u = (u & 0xffff0000) | (kind % 2 == 0 ? 0x8000 : 0);
  memcpy(&f, &u, sizeof f);
  return f;
}

static void assert_nearest(float f, uint16_t half)
{
  const uint32_t u = (uint32_t)half << 16;
  float back;
  memcpy(&back, &u, sizeof back);
  const double off = fabs((double)back - (double)f), most = fmax(fabs((double)f) * 0x1p-8, 0x1p-134);
  if (isnan(f)) assert_true(isnan(back));
  else assert_true(back == f || off <= most || (isinf(back) && fabsf(f) > 0x1.fep127f));
}

void test_bf16_of_any_float(void **state)
{
  enum { FLOATS = 1000 };
  static float x[FLOATS];
  static uint16_t want[FLOATS], got[FLOATS];
  const aii_kernels *variants[MAX_VARIANTS];
  int n_variants = find_variants(variants);
  (void)state;
  for (int round = 0; round < 20; round++) {
    for (int i = 0; i < FLOATS; i++) x[i] = any_float();
    aii_kernels_ref.quant[AII_FMT_BF16](x, FLOATS, want);
    for (int i = 0; i < FLOATS; i++) assert_nearest(x[i], want[i]);
    for (int v = 0; v < n_variants; v++) {
      variants[v]->quant[AII_FMT_BF16](x, FLOATS, got);
      assert_memory_equal(want, got, sizeof want);
    }
  }
}
