/* nccl.c - sums over GPUs: each rank of a split model has one, and NCCL moves terms between them.
 *
 * NCCL is opened when it is needed, by its name; what is used of it is declared here, so that nothing is wanted to build. The
 * ranks meet through the communicator that they have already: rank 0's id goes round by it. A sum is made of what all
 * ranks have, gathered and added in the order of ranks, as the communicator over MPI makes it: the same bits.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "src/backend/cuda/cuda_backend.h"

/* NCCL's ABI of version 2. */
enum { NCCL_SUCCESS = 0, NCCL_FLOAT32 = 7, NCCL_ID_BYTES = 128 };
typedef struct nccl_id {
  char bytes[NCCL_ID_BYTES];
} nccl_id;

static struct nccl {
  int (*get_unique_id)(nccl_id *id);
  int (*comm_init_rank)(void **comm, int n_ranks, nccl_id id, int rank);
  int (*comm_destroy)(void *comm);
  int (*all_gather)(const void *send, void *receive, size_t n, int type, void *comm, cudaStream_t stream);
  const char *(*error_string)(int code);
} nccl;
static const char *missing; /* NULL: all is there */

static void load(void)
{
  static const struct {
    const char *name;
    void *slot;
  } symbols[] = {{"ncclGetUniqueId", &nccl.get_unique_id},
                 {"ncclCommInitRank", &nccl.comm_init_rank},
                 {"ncclCommDestroy", &nccl.comm_destroy},
                 {"ncclAllGather", &nccl.all_gather},
                 {"ncclGetErrorString", &nccl.error_string}};
  void *library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  missing = library == NULL ? "libnccl.so.2" : NULL;
  for (size_t i = 0; missing == NULL && i < AII_COUNT(symbols); i++) {
    void *symbol = dlsym(library, symbols[i].name);
    memcpy(symbols[i].slot, &symbol, sizeof symbol);
    if (symbol == NULL) missing = symbols[i].name;
  }
}

static aiinfra_status told(aiinfra_error *err, int code, const char *what)
{
  return aii_fail_code(err, AIINFRA_EDEVICE, code, "NCCL: %s: %s", what, nccl.error_string(code));
}

aiinfra_status aii_cuda_join(aii_backend *be, aii_comm *comm, aiinfra_error *err)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  aii_cuda *cuda = aii_cuda_of(be);
  nccl_id id = {{0}};
  (void)pthread_once(&once, load);
  aiinfra_status rc = AIINFRA_OK;
  if (missing != NULL)
    rc = aii_fail(err, AIINFRA_ENOTSUP, "%s is not there: several GPUs need NCCL 2, as NVIDIA's packages have it",
                  missing);
  int code = rc == AIINFRA_OK && comm->rank == 0 ? nccl.get_unique_id(&id) : NCCL_SUCCESS;
  if (code != NCCL_SUCCESS) rc = told(err, code, "an id for the ranks");
  rc = aii_comm_agree(comm, rc, err);
  if (rc == AIINFRA_OK) rc = comm->ops->tell(comm, &id, sizeof id, err);
  if (rc != AIINFRA_OK) return rc;
  if (cudaSetDevice(cuda->device) != cudaSuccess) rc = aii_fail(err, AIINFRA_EDEVICE, "the device is gone");
  if (rc == AIINFRA_OK) code = nccl.comm_init_rank(&cuda->nccl, (int)comm->size, id, (int)comm->rank);
  if (code != NCCL_SUCCESS) rc = told(err, code, "a communicator");
  rc = aii_comm_agree(comm, rc, err);
  cuda->n_ranks = comm->size;
  if (rc != AIINFRA_OK) aii_cuda_leave(cuda);
  return rc;
}

void aii_cuda_leave(aii_cuda *cuda)
{
  if (cuda->nccl != NULL) (void)nccl.comm_destroy(cuda->nccl);
  cuda->nccl = NULL;
  (void)cudaFree(cuda->terms.ptr);
  cuda->terms = (aii_cuda_piece){NULL, 0};
}

void aii_cuda_sum_ranks(aii_backend *be, float *x, size_t n)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  size_t bytes;
  char what[80];
  if (cuda == NULL || n == 0) return;
  if (cuda->nccl == NULL || !aii_size_mul(n, cuda->n_ranks * sizeof *x, &bytes)) {
    aii_cuda_fail(cuda, AIINFRA_EINTERNAL, 0, "a sum over ranks that did not meet");
    return;
  }
  float *terms = aii_cuda_grow(cuda, &cuda->terms, bytes, "device memory for the terms of all ranks");
  if (terms == NULL) return;
  int code = nccl.all_gather(x, terms, n, NCCL_FLOAT32, cuda->nccl, cuda->stream);
  if (code != NCCL_SUCCESS) {
    snprintf(what, sizeof what, "NCCL: a sum over ranks: %.40s", nccl.error_string(code));
    aii_cuda_fail(cuda, AIINFRA_EDEVICE, code, what);
    return;
  }
  cudaError_t rc = cudaMemcpyAsync(x, terms, n * sizeof *x, cudaMemcpyDeviceToDevice, cuda->stream);
  if (!aii_cuda_check(cuda, rc, "a sum over ranks")) return;
  for (uint32_t r = 1; r < cuda->n_ranks; r++) aii_cuda_add(cuda->stream, x, terms + r * n, 1, n);
}
