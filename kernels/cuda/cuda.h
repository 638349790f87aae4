/* kernels/cuda/cuda.h - what kernels/cuda can launch: the operations of a GPU, queued on a stream.
 *
 * Every kernel computes what kernels.h states, to the bit: sums run in the stated order, products of integers are exact,
 * nothing is contracted, and division and square roots are those of IEEE 754. So a model answers on a GPU what it
 * answers on a CPU, and tests compare with memcmp. The one exception is the exact gelu, as the device has an erf of its
 * own.
 *
 * Pointers are device memory unless said otherwise. Weights lie in the panels of kernels/panel.h. Sizes are those of
 * backend.h, checked by the caller. nvcc compiles the .cu files; tests/support/cuda_on_cpu compiles the same lines for
 * the CPU, which runs the threads of a block as fibres.
 */
#ifndef AII_KERNELS_CUDA_H
#define AII_KERNELS_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void *aii_cuda_stream; /* a cudaStream_t */

enum {
  AII_CUDA_MAX_HEAD = 1024, /* dims of a key or value that attention takes */
  AII_CUDA_SPLIT = 512      /* positions of a part of attention: as cpu_attention.c has it */
};

/* Whether kernels that this thread launches may come to the device before the last one has ended: the device that it uses
 * can. (device.c) */
bool aii_cuda_comes_early(void);

/* Rows of a pass, in device memory. */
typedef struct aii_cuda_rows {
  uint32_t n_rows, table_stride;
  const uint32_t *pos, *seq, *ends; /* [n_rows]; ends: tokens of the row's sequence here */
  const uint32_t *tables;           /* [n_seqs][table_stride] */
} aii_cuda_rows;

/* ---- norms.cu ---- */

/* Activations for quantised weights: q [n_rows][n], d and s [n_rows][n / 32] as quant_q8 makes them. All of it begins at
 * a multiple of 16 bytes. */
typedef struct aii_cuda_q8 {
  int8_t *q;
  float *d, *s;
} aii_cuda_q8;
void aii_cuda_quant_q8(aii_cuda_stream stream, const float *x, uint32_t n_rows, uint32_t n, aii_cuda_q8 out);
/* Rows x [][n] divided by their root mean square, or, layer, less their mean by their deviation; times w (NULL: 1), plus b
 * (NULL: 0). */
typedef struct aii_cuda_norm {
  const float *x, *w, *b;
  uint32_t n;
  float eps;
  bool layer;
} aii_cuda_norm;
/* q8: of out, as well; nothing of the kind where its q is NULL, else n is a multiple of 32. So has activate(). */
void aii_cuda_normalise(aii_cuda_stream stream, const aii_cuda_norm *norm, uint32_t n_rows, float *out, aii_cuda_q8 q8);

/* ---- elements.cu ---- */

/* act: an aii_act */
void aii_cuda_activate(aii_cuda_stream stream, int act, const float *gate, const float *up, size_t n, float *out,
                       aii_cuda_q8 q8);
void aii_cuda_add(aii_cuda_stream stream, float *x, const float *y, float f, size_t n);
void aii_cuda_scale(aii_cuda_stream stream, float *x, float f, size_t n);
void aii_cuda_softcap(aii_cuda_stream stream, float *x, float cap, size_t n);
void aii_cuda_copy(aii_cuda_stream stream, const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width,
                   float *out, size_t out_stride);
void aii_cuda_gate_rows(aii_cuda_stream stream, float *x, const float *gate, uint32_t n_rows, uint32_t width);
void aii_cuda_combine(aii_cuda_stream stream, const float *y, const float *weights, uint32_t n_rows, uint32_t n_used,
                      uint32_t width, float *out);

/* ---- products.cu, products_*.cu for many rows, groups.cu ---- */

/* y[i][0..n_out) = W x[i / repeat] (+ bias) (+ y[i]) for i < n; W is matrix ids[i], or i % n_mats when ids is NULL. */
typedef struct aii_cuda_product {
  int fmt; /* an aii_fmt with panels */
  const void *w;
  size_t mat_bytes;
  uint32_t n_in, n_out, n_mats, n, repeat;
  uint32_t n_sms; /* multiprocessors of the device: how large tiles are depends on it, results do not */
  const int32_t *ids;
  uint32_t
      *groups; /* scratch memory to sort columns by their matrix in; NULL: they are not sorted, or have one matrix */
  const float *bias;  /* [n_mats][n_out] or NULL */
  const float *x;     /* [n / repeat][n_in]: of float formats */
  aii_cuda_q8 x_q8;   /* of the others */
  bool rounded;       /* BF16 weights as fragments (products_bf16.cu); activations are rounded to BF16 */
  const void *x_bf16; /* then: the rows as aii_cuda_round_rows() makes them, or NULL: x, of few rows */
  bool accumulate;
  float *y;
} aii_cuda_product;
enum {
  AII_CUDA_MAX_PRODUCTS = 3,
  AII_CUDA_FRAGMENT = 32,  /* rows of `rounded` are filled up to a multiple of it */
  AII_CUDA_FEW_ROUNDED = 8 /* rows that products round themselves */
};
/* Words of `groups` that a product needs; 0: sorting it is not worth it. */
size_t aii_cuda_group_words(const aii_cuda_product *p);
/* Rows to BF16, eight at a time as tensor cores take them; of so many bytes. */
static inline size_t aii_cuda_rounded_bytes(size_t n_rows, size_t n)
{
  return (n_rows + 7) / 8 * 8 * ((n + AII_CUDA_FRAGMENT - 1) / AII_CUDA_FRAGMENT * AII_CUDA_FRAGMENT) * 2;
}
void aii_cuda_round_rows(aii_cuda_stream stream, const float *x, uint32_t n_rows, uint32_t n, void *out);
/* Products of the same rows; those of one format go together where rows are few. */
void aii_cuda_multiply(aii_cuda_stream stream, const aii_cuda_product *p, uint32_t n);
/* The same of rows that are normalised first: blocks do so themselves, which x and x_q8 are not needed for. False: nothing was
 * launched, as rows are too many or too long, or weights are rounded. */
bool aii_cuda_multiply_normed(aii_cuda_stream stream, const aii_cuda_norm *norm, const aii_cuda_product *p, uint32_t n);
/* Two products of equal shape and format with the same few rows and ids, normalised first where norm is not NULL; gate.y =
 * act(gate.y) * up.y, and its q8 rows where q8.q is not NULL: then n_out is a multiple of 32. False: nothing was launched,
 * they are none such. */
bool aii_cuda_multiply_gated(aii_cuda_stream stream, const aii_cuda_norm *norm, int act, const aii_cuda_product *gate,
                             const aii_cuda_product *up, aii_cuda_q8 q8);
/* The same with matrices of one row, as floats w [n_mats][n_in]. */
void aii_cuda_dot_rows(aii_cuda_stream stream, const aii_cuda_product *p);

/* ---- cache.cu ---- */

/* angles [position][n_rot]: cosines, then sines */
typedef struct aii_cuda_rope {
  const float *angles;
  uint32_t n_rot;
  bool neox;
} aii_cuda_rope;
void aii_cuda_rotate(aii_cuda_stream stream, const aii_cuda_rope *rope, const aii_cuda_rows *rows, uint32_t n_heads,
                     uint32_t head_dim, float *x);

typedef struct aii_cuda_kv {
  char *base;
  int fmt; /* F32, F16 or Q8_0 */
  uint32_t n_kv_heads, head_dim, value_dim, block_tokens;
  size_t block_bytes, layer_at, value_offset; /* layer_at: of the layer within a block */
  size_t key_bytes, value_bytes;              /* of the elements of a row; scales of Q8_0 lie elsewhere */
} aii_cuda_kv;

/* What products made of rows: k [n_rows][n_kv_heads][head_dim], v likewise of value_dim, and queries. Each head of queries
 * and keys is divided by its root mean square and multiplied by q_norm or k_norm [head_dim] (NULL: neither), then rotated
 * (n_rot 0: not). */
typedef struct aii_cuda_own {
  aii_cuda_rope rope;
  const float *q_norm, *k_norm;
  float eps;
  const float *k, *v; /* k NULL: they lie in the cache, and queries are as they are to be */
} aii_cuda_own;

/* Keys and values go to the cache; q [n_rows][n_heads][head_dim], where it is not NULL, changes in place. */
typedef struct aii_cuda_write {
  aii_cuda_kv kv;
  aii_cuda_rows rows;
  aii_cuda_own own;
  uint32_t n_heads;
  float *q;
} aii_cuda_write;
void aii_cuda_kv_write(aii_cuda_stream stream, const aii_cuda_write *w);

/* ---- attention.cu, attention_q8.cu, attention_f16.cu ---- */

/* Rows come in chunks of one sequence each, of at most most_rows rows: chunk i has the rows chunks[i] .. chunks[i + 1];
 * chunks NULL: row i alone. Those to compute now are n_chunks of them from first_chunk on, with the rows first_row ..
 * first_row + n_rows. */
typedef struct aii_cuda_attn {
  aii_cuda_kv kv;
  aii_cuda_rows rows;
  uint32_t n_heads, window;
  bool both_ways;
  bool rounded; /* queries and weights may be rounded to F16, as backend.h has it */
  float scale, softcap;
  const float *slopes, *sinks; /* [n_heads] or NULL; slopes: of ALiBi */
  const float *q;
  aii_cuda_own
      own; /* with k: each row is the only one of its sequence, and a block has all heads that share a KV head */
  float *out;
  aii_cuda_q8 q8; /* of out, as well; nothing of the kind where its q is NULL, else value_dim is a multiple of 32 */
  const uint32_t *chunks;
  uint32_t most_rows, first_chunk, n_chunks, first_row, n_rows;
  uint32_t n_splits; /* at least as many as the furthest position has */
  float *parts;      /* of several splits: [n_rows][n_heads][n_splits][value_dim + 2] */
  uint32_t *arrived; /* of several splits: [n_chunks][n_heads] zeros, which are zeros again afterwards */
} aii_cuda_attn;
/* Query heads that a block takes, at most. */
uint32_t aii_cuda_most_queries(const aii_cuda_kv *kv);
/* How many rows chunks should have at most, so that n_rows of them keep as many multiprocessors busy; by the shape and the
 * number of splits. */
uint32_t aii_cuda_attend_rows(const aii_cuda_attn *a, uint32_t n_rows, uint32_t n_sms);
void aii_cuda_attend(aii_cuda_stream stream, const aii_cuda_attn *a);

/* ---- experts.cu ---- */

typedef struct aii_cuda_routing {
  uint32_t n_experts, n_used, n_groups, n_groups_used;
  bool sigmoid, normalise;
  float scale;
  const float *bias;
} aii_cuda_routing;
/* choice [n_rows][n_experts] is scratch. */
void aii_cuda_route(aii_cuda_stream stream, const aii_cuda_routing *how, float *scores, float *choice, uint32_t n_rows,
                    int32_t *ids, float *weights);

/* ---- shortlist.cu ---- */

enum { AII_CUDA_RUN = 256, AII_CUDA_BEST = 1024, AII_CUDA_NO_MASK = -1 };

/* As backend.h has them. */
typedef struct aii_cuda_edit {
  int32_t token;
  float divide, take, add;
} aii_cuda_edit;
typedef struct aii_cuda_candidate {
  float logit;
  int32_t id;
} aii_cuda_candidate;

typedef struct aii_cuda_ask {
  uint32_t row, n_best, n_edits;
  int32_t mask;
  uint64_t first_edit, told_at; /* told_at: where the answer goes, in bytes */
  float scale;
  uint32_t draws;
  double unit;
} aii_cuda_ask;

/* n_best candidates follow, then AII_CUDA_RUN logits of the run where there is a draw. */
typedef struct aii_cuda_told {
  uint32_t n, run;
  double total, at;
  float top;
  uint32_t unused;
} aii_cuda_told;

typedef struct aii_cuda_shortlist {
  float *logits;
  uint32_t n_vocab, n, n_runs, mask_words;
  const aii_cuda_ask *asks;   /* [n] */
  const aii_cuda_edit *edits; /* of all, each row's one behind the other */
  const uint32_t *masks;      /* [][mask_words], a bit a token */
  uint32_t *tops;             /* scratch [n][n_runs] */
  float *sums;                /* scratch [n][n_runs] */
  char *told;
} aii_cuda_shortlist;
void aii_cuda_choose(aii_cuda_stream stream, const aii_cuda_shortlist *s, bool edits, bool weighs);

#ifdef __cplusplus
}
#endif
#endif
