/* cublas.c - as much of cuBLAS as tests/gpu/roof.cu calls, for tests: a product takes a millisecond and computes nothing.
 *
 * What it is asked for must be the product of BF16 that cuBLAS's documentation describes. AIINFRA_FAKE_CUBLAS: "dead"
 * starts on no device.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define API __attribute__((visibility("default")))
enum { OK = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, OP_N = 0, OP_T = 1, R_16BF = 14, COMPUTE_32F = 68 };

API int cublasCreate_v2(void **handle);
API int cublasSetStream_v2(void *handle, void *stream);
API int cublasGemmEx(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a,
                     int type_a, int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c,
                     int ldc, int compute, int algorithm);

static char the_handle;

int cublasCreate_v2(void **handle)
{
  const char *how = getenv("AIINFRA_FAKE_CUBLAS");
  *handle = &the_handle;
  return how != NULL && strcmp(how, "dead") == 0 ? NOT_INITIALIZED : OK;
}

int cublasSetStream_v2(void *handle, void *stream)
{
  return handle == &the_handle && stream != NULL ? OK : INVALID_VALUE;
}

int cublasGemmEx(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int type_a,
                 int lda, const void *b, int type_b, int ldb, const void *beta, void *c, int type_c, int ldc,
                 int compute, int algorithm)
{
  const struct timespec millisecond = {.tv_nsec = 1000000};
  if (handle != &the_handle || a == NULL || b == NULL || c == NULL || algorithm != -1) return INVALID_VALUE;
  if (type_a != R_16BF || type_b != R_16BF || type_c != R_16BF || compute != COMPUTE_32F) return INVALID_VALUE;
  if (*(const float *)alpha != 1 || *(const float *)beta != 0) return INVALID_VALUE;
  if (m < 1 || n < 1 || k < 1 || lda < (op_a == OP_N ? m : k) || ldb < (op_b == OP_T ? n : k) || ldc < m)
    return INVALID_VALUE;
  nanosleep(&millisecond, NULL);
  return OK;
}
