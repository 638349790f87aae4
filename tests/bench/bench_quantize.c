/* bench_quantize.c - every stored type: bits per weight, what encoding loses, and how fast one thread writes and reads.
 *
 * The error is the root of the mean squared error in parts of the data's deviation, for Gaussian data and for Laplacian
 * data, whose tails are as heavy as those of trained weights. Types that can only be read have none.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "lib/base/base.h"
#include "src/backend/backend.h"
#include "tests/support/support.h"

enum { ROWS = 64, COLUMNS = 4096, N = ROWS * COLUMNS, MAX_TYPES = 64, RUNS = 3 };

static unsigned long long seed = 1;

static double unit(void)
{
  return ((double)(test_random(&seed) >> 11) + 0.5) * 0x1p-53;
}

static void fill(float *x, bool laplace)
{
  for (int i = 0; i < N; i++) {
    double u = unit(), v = unit();
    if (laplace) x[i] = (float)((u < 0.5 ? log(2 * u) : -log(2 - 2 * u)) * sqrt(0.5));
    else x[i] = (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
  }
}

/* Of the processor, so that other programs do not count. */
static double cpu_seconds(void)
{
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

typedef struct result {
  double error, write_s, read_s;
} result;

static bool measure(aii_dtype type, const float *x, void *packed, float *y, result *r)
{
  aiinfra_error err;
  double sum = 0;
  *r = (result){0, 1e9, 1e9};
  for (int run = 0; run < RUNS; run++) {
    double start = cpu_seconds();
    if (aii_quantize_rows(type, x, ROWS, COLUMNS, NULL, packed, &err) != AIINFRA_OK) return false;
    r->write_s = AII_MIN(r->write_s, cpu_seconds() - start);
    start = cpu_seconds();
    if (aii_dequantize_rows(type, packed, ROWS, COLUMNS, y, &err) != AIINFRA_OK) return false;
    r->read_s = AII_MIN(r->read_s, cpu_seconds() - start);
  }
  for (int i = 0; i < N; i++) sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
  r->error = sqrt(sum / N);
  return true;
}

int main(void)
{
  float *gauss = malloc(N * sizeof *gauss), *laplace = malloc(N * sizeof *laplace), *y = malloc(N * sizeof *y);
  void *packed = calloc(N, 8);
  fill(gauss, false);
  fill(laplace, true);
  printf("type    bits/weight  error, Gaussian  error, Laplacian  written  read (million weights/s, one thread)\n");
  for (uint32_t t = 0; t < MAX_TYPES; t++) {
    const aii_dtype_traits *info = aii_dtype_info(t);
    result g, l;
    if (info == NULL) continue;
    printf("%-7s %11.4f", info->name, 8.0 * info->block_bytes / info->block);
    if (measure((aii_dtype)t, gauss, packed, y, &g) && measure((aii_dtype)t, laplace, packed, y, &l))
      printf("  %15.5f  %16.5f  %7.1f  %6.0f\n", g.error, l.error, N / l.write_s * 1e-6, N / l.read_s * 1e-6);
    else printf("  only read\n");
  }
  free(gauss);
  free(laplace);
  free(y);
  free(packed);
  return 0;
}
