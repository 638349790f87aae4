/* src/backend/cuda/cuda_backend.h - the CUDA backend inside: its state, and how its parts fit.
 *
 *   device.c   life, memory, copies
 *   weights.c  matrices, brought to the device in the panels that the CPU has
 *   stage.c    what the host knows of a pass, brought to the device: rows, tables, chunks, angles, slopes
 *   ops.c      the table of operations: checks, then a launch
 *   products.c   products, and what makes the rows that they take
 *   shortlist.c  what samplers want to see of logits
 *   graph.c    decode steps, launched at once
 *   nccl.c     sums over the GPUs of several ranks
 *
 * Tables of embeddings stay on the host: their few rows of a pass are decoded there. Everything is queued on one stream.
 * Operations that return nothing remember their first failure for sync().
 */
#ifndef AII_BACKEND_CUDA_H
#define AII_BACKEND_CUDA_H

#include <cuda_runtime_api.h>

#include "kernels/cuda/cuda.h"
#include "kernels/kernels.h"
#include "src/backend/backend.h"

/* A piece of memory that grows and never shrinks. */
typedef struct aii_cuda_piece {
  void *ptr;
  size_t bytes;
} aii_cuda_piece;

enum { AII_CUDA_ROPES = 4, AII_CUDA_GRAPHS = 64 };

/* What launches of a step depend on; no padding. */
typedef struct aii_cuda_key {
  aii_repeat what;
  uint32_t table_stride, n_splits;
} aii_cuda_key;

typedef enum aii_cuda_kind { AII_CUDA_NEW = 0, AII_CUDA_SEEN, AII_CUDA_KEPT, AII_CUDA_PLAIN } aii_cuda_kind;
typedef struct aii_cuda_graph {
  aii_cuda_key key;
  aii_cuda_kind state;
  uint32_t ropes;       /* bits of those that it reads */
  uint64_t epoch, used; /* used: the last step; 0: never */
  cudaGraphExec_t exec; /* of KEPT */
} aii_cuda_graph;

/* Angles of the positions below n_pos, by the frequencies they were made of. */
typedef struct aii_cuda_angles {
  const float *inv_freq; /* NULL: unused */
  float factor;
  uint32_t n_rot, n_pos;
  aii_cuda_piece device;
} aii_cuda_angles;

/* The q8 form of n floats at x; x NULL: of none. */
typedef struct aii_cuda_made {
  const float *x;
  size_t n;
  aii_cuda_q8 q8;
} aii_cuda_made;

typedef struct aii_cuda {
  aii_backend base;
  aii_pool *pool; /* borrowed */
  int device;
  cudaStream_t stream;
  aii_cuda_piece scratch;           /* of one operation */
  aii_cuda_piece arrived;           /* zeros between operations */
  aii_cuda_piece q8[2];             /* quantised rows */
  aii_cuda_made made, ready;        /* by this operation; by the one before */
  aii_cuda_piece rounded;           /* rows, rounded to BF16 */
  const float *rounded_x;           /* what they were, in this operation; NULL: none */
  uint32_t n_sms, n_q8;             /* multiprocessors; weights that take quantised rows */
  bool comes_early;                 /* kernels may come to the device before the last one has ended */
  aii_cuda_piece staged;            /* the rows of the pass: pos, seq, ends, tables */
  aii_cuda_piece asked, told;       /* of logits, by their samplers */
  aii_cuda_piece pinned, host_rows; /* host memory: embeddings; and rows as they were staged */
  aii_cuda_piece host_asked, host_told;
  size_t staged_words, staged_rows; /* rows 0: nothing is staged */
  aii_cuda_piece chunks, host_chunks;
  size_t staged_chunks; /* 0: none are */
  aii_cuda_angles ropes[AII_CUDA_ROPES];
  uint32_t next_rope;
  aii_cuda_piece slopes;
  float alibi;
  uint32_t n_slopes;
  aii_cuda_graph graphs[AII_CUDA_GRAPHS];
  aii_cuda_graph *step;    /* between again and keep; NULL: another pass */
  bool captures, spoiled;  /* launches are captured; a capture has failed */
  uint64_t epoch, n_steps; /* epoch: another when memory that launches know of is not theirs any more */
  void *nccl;              /* ncclComm_t; NULL: this GPU has the whole model */
  uint32_t n_ranks;
  aii_cuda_piece terms; /* of all ranks */
  aiinfra_status failed;
  int code;
  char failure[160];
} aii_cuda;

static inline aii_cuda *aii_cuda_of(aii_backend *be)
{
  return AII_CONTAINER(be, aii_cuda, base);
}

/* Begins an operation: chooses the device for this thread; the backend, or NULL when it failed before: then nothing is queued. */
aii_cuda *aii_cuda_enter(aii_backend *be);
void aii_cuda_fail(aii_cuda *cuda, aiinfra_status status, int code, const char *what);
/* False, and told by sync(), when the call failed. */
bool aii_cuda_check(aii_cuda *cuda, cudaError_t rc, const char *what);
/* An error that is told at once. */
aiinfra_status aii_cuda_error(aiinfra_error *err, cudaError_t rc, const char *what, size_t bytes);
/* At least so many bytes; waits for what uses the old ones. NULL: told by sync(). */
void *aii_cuda_grow(aii_cuda *cuda, aii_cuda_piece *piece, size_t bytes, const char *what);
void *aii_cuda_grow_host(aii_cuda *cuda, aii_cuda_piece *piece, size_t bytes, const char *what);

aii_fmt aii_cuda_fmt(aii_dtype type);
/* As it lies on the device: F32 for formats that are neither in panels nor decoded by kernels. */
aii_fmt aii_cuda_panel_fmt(const aii_weight *w);
bool aii_cuda_takes_q8(const aii_weight *w);
bool aii_cuda_rounds(const aii_weight *w); /* activations to BF16 */
size_t aii_cuda_mat_bytes(const aii_weight *w);
/* NULL for NULL. */
const float *aii_cuda_vector_of(const aii_weight *w);
aiinfra_status aii_cuda_upload(aii_backend *be, aii_weight *w, aiinfra_error *err);
void aii_cuda_unload(aii_backend *be, aii_weight *w);

/* Rows of a pass, on the device; block_tokens 0: their tables are not needed. False: told by sync(). */
bool aii_cuda_stage(aii_cuda *cuda, const aii_rows *rows, uint32_t block_tokens, aii_cuda_rows *out);
/* The rows in chunks of one sequence each, of at most `most` rows; both arrays NULL: each row is one. They end with the
 * number of rows. False: told by sync(). */
typedef struct aii_cuda_chunks {
  const uint32_t *device, *host;
  uint32_t n, most_rows; /* most_rows: of the largest */
} aii_cuda_chunks;
bool aii_cuda_stage_chunks(aii_cuda *cuda, const aii_rows *rows, uint32_t most, aii_cuda_chunks *out);
/* Angles for rotating those rows. NULL: told by sync(). */
const float *aii_cuda_stage_angles(aii_cuda *cuda, const aii_rope *rope, const aii_rows *rows);
/* Slopes of ALiBi of each head. NULL: told by sync(). */
const float *aii_cuda_stage_slopes(aii_cuda *cuda, float alibi, uint32_t n_heads);
void aii_cuda_stage_free(aii_cuda *cuda);

extern const aii_backend_ops aii_cuda_ops;
/* The parts of it that device.c has. */
void aii_cuda_destroy(aii_backend *be);
aiinfra_status aii_cuda_alloc(aii_backend *be, size_t bytes, void **out, aiinfra_error *err);
void aii_cuda_release(aii_backend *be, void *ptr, size_t bytes);
uint64_t aii_cuda_free_bytes(aii_backend *be);
aiinfra_status aii_cuda_to_host(aii_backend *be, void *host, const void *device, size_t bytes, aiinfra_error *err);
aiinfra_status aii_cuda_copy_block(aii_backend *be, const aii_kv_view *kv, uint32_t from, uint32_t to,
                                   aiinfra_error *err);
aiinfra_status aii_cuda_swap_block(aii_backend *be, const aii_kv_view *kv, uint32_t block, void *host, bool to_host,
                                   aiinfra_error *err);
aiinfra_status aii_cuda_alloc_host(aii_backend *be, size_t bytes, void **out, aiinfra_error *err);
void aii_cuda_release_host(aii_backend *be, void *ptr, size_t bytes);
aiinfra_status aii_cuda_sync(aii_backend *be, aiinfra_error *err);
/* Where a kernel that makes rows x is to write their q8 form, for the next operation; q is NULL where nobody wants it.
 * busy: NULL, or other q8 rows that are still read. */
aii_cuda_q8 aii_cuda_make_q8(aii_cuda *cuda, const float *x, size_t n_rows, size_t width, const int8_t *busy);
/* Those of products.c. */
void aii_cuda_op_rms_norm(aii_backend *be, const float *x, const aii_weight *w, uint32_t n_rows, uint32_t width,
                          float eps, float *out);
void aii_cuda_op_layer_norm(aii_backend *be, const float *x, const aii_weight *w, const aii_weight *bias,
                            uint32_t n_rows, uint32_t width, float eps, float *out);
void aii_cuda_op_activate(aii_backend *be, aii_act act, const float *gate, const float *up, size_t n, float *out);
void aii_cuda_op_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                        bool accumulate, float *y);
void aii_cuda_op_matmuls(aii_backend *be, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows);
void aii_cuda_op_gated(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x,
                       uint32_t n_rows);
void aii_cuda_op_norm_matmuls(aii_backend *be, const aii_norm *norm, const aii_mul *muls, uint32_t n, const float *x,
                              uint32_t n_rows);
void aii_cuda_op_norm_gated(aii_backend *be, const aii_norm *norm, aii_act act, const aii_mul *gate, const aii_mul *up,
                            const float *x, uint32_t n_rows);
void aii_cuda_op_matmul_ids(aii_backend *be, const aii_weight *w, const aii_weight *bias, const int32_t *ids,
                            const float *x, uint32_t repeat, uint32_t n, float *y);
void aii_cuda_op_gated_ids(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const int32_t *ids,
                           const float *x, uint32_t repeat, uint32_t n);
/* Those of graph.c. */
bool aii_cuda_again(aii_backend *be, const aii_repeat *what, const aii_rows *rows);
bool aii_cuda_keep(aii_backend *be);
uint32_t aii_cuda_rounded(uint32_t n); /* up to a power of two */
void aii_cuda_graphs_free(aii_cuda *cuda);
/* That of shortlist.c. */
aiinfra_status aii_cuda_shortlist_rows(aii_backend *be, float *logits, uint32_t n_vocab, aii_shortlist *rows,
                                       uint32_t n, aiinfra_error *err);
void aii_cuda_shortlist_free(aii_cuda *cuda);
/* Those of nccl.c. */
aiinfra_status aii_cuda_join(aii_backend *be, aii_comm *comm, aiinfra_error *err);
void aii_cuda_sum_ranks(aii_backend *be, float *x, size_t n);
void aii_cuda_leave(aii_cuda *cuda);

#endif
