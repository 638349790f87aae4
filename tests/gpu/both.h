/* tests/gpu/both.h - numbers and weights on the CPU and on a GPU, for tests that compare what becomes of them.
 *
 * AIINFRA_CUDA_PLUGIN names the plug-in to test, by default the one whose kernels run on the CPU.
 */
#ifndef AII_TESTS_GPU_BOTH_H
#define AII_TESTS_GPU_BOTH_H

#include "src/backend/backend.h"
#include "tests/support/support.h"

extern aii_mem mem;
extern unsigned long long seed;
extern aii_pool *pool;
extern aii_backend *cpu, *cuda;
int both_set_up(void **state);
int both_tear_down(void **state);
/* The plug-in to test. */
const char *both_plugin(void);
/* What the emulated device counts; NULL: a real one does not. */
const unsigned long long *both_counter(const char *name);

float uniform(void); /* -1 to 1 */
float *floats(size_t n, float spread);
void sync_both(void);

typedef struct both {
  size_t n, width;
  float *cpu, *cuda; /* host and device memory */
} both;
both both_of(const float *x, size_t rows, size_t width);
both random_both(size_t rows, size_t width, float spread);
void free_both(both *b);
/* What is on the device; the caller frees it. */
float *fetched(const both *b);
/* The same bits; with a tolerance, nearly. */
void assert_near(const both *b, double tolerance, const char *what);
void assert_same(const both *b, const char *what);

typedef struct weights {
  aii_weight cpu, cuda;
} weights;
weights random_weights(aii_dtype type, uint32_t n_in, uint32_t n_out, uint32_t n_mats);
void free_weights(weights *w);

/* What a device may do at once, or one after the other. */
void both_norm_matmuls(aii_backend *be, const aii_norm *norm, const aii_mul *muls, uint32_t n, const float *x,
                       uint32_t n_rows);
void both_norm_gated(aii_backend *be, const aii_norm *norm, aii_act act, const aii_mul *gate, const aii_mul *up,
                     const float *x, uint32_t n_rows);

enum { N_TYPES = 21 };
extern const aii_dtype types[N_TYPES]; /* that can be multiplied */

#endif
