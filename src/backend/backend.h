/* src/backend/backend.h - one table of operations that every compute device implements.
 *
 * The model speaks to a device through aii_backend only. Buffers are device memory: on the CPU plain pointers. Calls
 * are queued in order; aii_backend.sync() waits for what was queued (the CPU has then always finished). A backend is
 * used by one thread at a time: the engine's worker (weights: the thread that opens the model).
 *
 * Batch invariance: each output element is computed by the same sequence of operations whatever the number of rows,
 * of threads, and of other sequences in the call. Reductions run in an order that depends on the shape of the weight
 * and on the position alone.
 *
 * Activations are float32, row-major, [n_rows][width]. A weight [n_in, n_out] means y[o] = sum_i W[o][i] * x[i].
 */
#ifndef AII_BACKEND_H
#define AII_BACKEND_H

#include "aiinfra/runtime.h"
#include "lib/base/base.h"

/* Element types that can be computed with: GGUF ids. Rows of a block type have a multiple of `block` elements. */
typedef enum aii_dtype {
  AII_F32 = 0,
  AII_F16 = 1,
  AII_Q4_0 = 2,
  AII_Q4_1 = 3,
  AII_Q5_0 = 6,
  AII_Q5_1 = 7,
  AII_Q8_0 = 8,
  AII_Q2_K = 10,
  AII_Q3_K = 11,
  AII_Q4_K = 12,
  AII_Q5_K = 13,
  AII_Q6_K = 14,
  AII_IQ4_NL = 20,
  AII_IQ4_XS = 23,
  AII_I8 = 24,
  AII_I16 = 25,
  AII_I32 = 26,
  AII_I64 = 27,
  AII_F64 = 28,
  AII_BF16 = 30,
  AII_TQ1_0 = 34,
  AII_TQ2_0 = 35,
  AII_MXFP4 = 39,
  AII_NVFP4 = 40,
  AII_Q1_0 = 41,
  AII_Q2_0 = 42
} aii_dtype;

typedef struct aii_dtype_traits {
  const char *name; /* "Q8_0" */
  uint32_t block;   /* elements in a block */
  uint32_t block_bytes;
} aii_dtype_traits;
const aii_dtype_traits *aii_dtype_info(uint32_t gguf_type); /* NULL: not known */

/* Rows of floats to rows of a type, one behind the other at dst. importance (NULL: all equal) has n_per_row weights of
 * the squared error, one a column. ENOTSUP: a type that can only be read. EINVAL: rows of no whole number of blocks, a
 * value that is not finite or too large for the type; the message names its place. Rows are independent of each other:
 * threads may take some each. (quantize.c) */
aiinfra_status aii_quantize_rows(aii_dtype type, const float *src, size_t n_rows, size_t n_per_row,
                                 const float *importance, void *dst, aiinfra_error *err);
/* The reverse, exact. ENOTSUP, EINVAL as above. */
aiinfra_status aii_dequantize_rows(aii_dtype type, const void *src, size_t n_rows, size_t n_per_row, float *dst,
                                   aiinfra_error *err);

/* A weight on a device. `source` stays mapped as long as the weight lives (the backend may use it in place). */
typedef struct aii_weight {
  aii_dtype type;
  uint32_t n_in, n_out; /* n_out rows of n_in elements; a vector has n_out 1 */
  uint32_t n_mats;      /* matrices (or vectors) of that shape, one behind the other: experts; 0 is 1 */
  bool lookup;          /* rows are only looked up, never multiplied */
  bool bf16_x;          /* a matrix of type BF16: activations are rounded to BF16 before they are multiplied with it */
  const void *source;   /* rows as in the file, host memory */
  void *device;         /* the backend's own form: packed or on the device; on the CPU may be NULL: use source */
  size_t device_bytes;
  bool adopted; /* device is borrowed */
} aii_weight;
size_t aii_weight_bytes(const aii_weight *w); /* of source; its type is known */

/* The KV cache of one model on a device. Block b of layer l holds keys at
 *   base + b * block_bytes + l * layer_bytes                        [n_kv_heads], each block_tokens rows of head_dim
 * and value_offset bytes behind values                              [n_kv_heads], each block_tokens rows of value_dim.
 * How such rows lie within their bytes is the backend's own affair. */
typedef struct aii_kv_view {
  void *base;
  aii_dtype type; /* F32, F16 or Q8_0 */
  uint32_t n_layers, n_kv_heads, head_dim, value_dim, block_tokens, n_blocks;
  size_t block_bytes, layer_bytes, value_offset;
  uint32_t id; /* among the ranks of a split model, once they were told of it (model/ranks.c) */
  bool told;
} aii_kv_view;

/* Sets the last three by the others; each run of keys or values begins on a cache line. False: keys or values are no
 * whole number of the type's blocks, or a size has no end. (dtype.c) */
bool aii_kv_lay_out(aii_kv_view *kv);

/* The rows of one forward pass. Row r is the token tokens[r] of sequence seq[r] at position pos[r]; the rows of a
 * sequence are adjacent and ascend. It attends to positions 0..pos[r] of its sequence (or, in both directions, to all of
 * the sequence, whose rows are then all here), found through block_table: position p lies in block tables[seq[r]][p / block_tokens]. All arrays are host memory. */
typedef struct aii_rows {
  uint32_t n_rows, n_seqs;
  const aiinfra_token *tokens;   /* [n_rows] */
  const uint32_t *pos;           /* [n_rows] */
  const uint32_t *seq;           /* [n_rows] index into tables */
  const uint32_t *const *tables; /* [n_seqs] block ids */
} aii_rows;

typedef enum aii_rope_kind {
  AII_ROPE_NORM = 0, /* rotates (x[2i], x[2i+1]) */
  AII_ROPE_NEOX = 1, /* rotates (x[i], x[i + n_rot/2]) */
  AII_ROPE_NONE = 2  /* positions come from elsewhere: the model never asks a backend to rotate */
} aii_rope_kind;

typedef struct aii_rope {
  aii_rope_kind kind;
  uint32_t n_rot;        /* dims that rotate, even; the rest pass through */
  const float *inv_freq; /* [n_rot/2], host memory: base^(-2i/n_rot), scalings applied */
  float attn_factor;     /* multiplies cos and sin; 1 by default */
} aii_rope;

/* How queries meet keys; zero but for n_heads and scale is plain causal attention. Rounded: queries and the weights of the
 * softmax may be rounded to F16 where a device multiplies them with keys and values of F16 on tensor cores; what becomes of a
 * row still depends on that row alone. */
typedef struct aii_attn {
  uint32_t n_heads;
  uint32_t
      window; /* > 0: positions p with pos[r] - p >= window are masked; both ways, those with |pos[r] - p| > window / 2 */
  bool both_ways; /* later positions are seen too */
  bool rounded;   /* see above; false: everything is as stated */
  float alibi;    /* > 0: the largest bias: a score loses slope(head) * |pos[r] - p|, slopes as ALiBi has them */
  float scale;    /* multiplies q . k */
  float softcap;  /* > 0: a scaled score s becomes softcap * tanh(s / softcap) */
  const aii_weight
      *sinks; /* NULL, or [n_heads]: scores of a key without a value, one more term of each softmax's sum */
} aii_attn;

/* Keys [n_rows][n_kv_heads][head_dim] and values of rows, as products gave them, and what becomes of keys and queries before
 * they meet. */
typedef struct aii_own {
  const aii_rope *rope;              /* NULL: they are not rotated */
  const aii_weight *q_norm, *k_norm; /* [head_dim], of each head; NULL: none */
  float eps;                         /* of the norms */
  const float *k, *v;
} aii_own;

/* What bends a feed-forward network: kernels.h has the formulas. */
typedef enum aii_act { AII_ACT_SILU, AII_ACT_GELU, AII_ACT_SWIGLU_OAI, AII_ACT_GELU_ERF } aii_act;

#define AII_MAX_GROUPS 64 /* of experts */

/* How a row's router scores become experts and their weights. Ties go to the lower index. */
typedef struct aii_routing {
  uint32_t n_experts, n_used;
  uint32_t n_groups, n_groups_used; /* > 1: experts come from the best groups of n_experts / n_groups alone */
  bool sigmoid;                     /* scores by sigmoid; else by softmax over all experts */
  bool normalise;                   /* the weights of the used experts sum to 1 */
  float scale;                      /* multiplies the weights; 0 is 1 */
  const aii_weight *bias;           /* NULL, or [n_experts]: added to scores to choose by, not to weights */
} aii_routing;

/* One of several products with the same rows. */
#define AII_MAX_MULS 3
typedef struct aii_mul {
  const aii_weight *w, *bias; /* bias may be NULL */
  float *y;
} aii_mul;

/* What rows go through before they are multiplied: rms_norm, or, layer, layer_norm. */
typedef struct aii_norm {
  const aii_weight *w, *bias; /* bias may be NULL; w, too, of rms_norm */
  float eps;
  bool layer;
  float *out; /* [n_rows][n_in]: what lies there afterwards is left open */
} aii_norm;

/* A logit x > 0 becomes x / divide, another x * divide; then it loses `take` and gains `add`. */
typedef struct aii_edit {
  aiinfra_token token;
  float divide, take, add;
} aii_edit;

typedef struct aii_candidate {
  float logit;
  aiinfra_token id;
} aii_candidate;

enum {
  AII_MAX_BEST = 1024, /* candidates of a row */
  AII_LOGIT_RUN = 256  /* logits whose weights are summed together */
};

/* A row of logits in device memory, what is to be done to it, and what its sampler wants to see of it. */
typedef struct aii_shortlist {
  uint32_t row;
  uint32_t n_edits;
  const aii_edit *edits; /* of different tokens: they change the row */
  const uint64_t
      *allowed; /* a bit for each of the first n_allowed tokens: without it, it counts as -INFINITY; NULL: all */
  uint32_t n_allowed;
  uint32_t n_best; /* candidates that are wanted, at most AII_MAX_BEST; 0: only the edits */
  float scale; /* > 0: the sum of all weights, too. A token weighs exp((its logit - the largest) * scale), a float */
  bool draws;  /* the run of logits as well in which the sum over the ids passes unit times the sum of all */
  double unit;

  /* what comes back; pointers are valid until the next call */
  uint32_t n;                /* of `best`: less than n_best when no other token is more likely than -INFINITY */
  const aii_candidate *best; /* the n_best largest logits, of equal ones the lowest ids; by id */
  double total;              /* the sums of runs as exp_sum makes them, added up in their order */
  uint32_t run;
  double at;           /* unit * total, less the sums of the runs before this one */
  const float *logits; /* of the run */
} aii_shortlist;

/* What a pass that comes again has in common with the others: all that its operations are called with, but for what its
 * aii_rows hold. No padding: it is compared by its bytes. */
typedef struct aii_repeat {
  const void *workspace, *cache; /* device memory */
  uint32_t n_rows, block_tokens;
} aii_repeat;

typedef struct aii_backend aii_backend;
typedef struct aii_comm aii_comm; /* see below */

typedef struct aii_backend_ops {
  const char *name; /* "cpu", "cuda" */
  bool in_place;    /* device memory is host memory: results may go where the host wants them */
  void (*destroy)(aii_backend *be);

  aiinfra_status (*alloc)(aii_backend *be, size_t bytes, void **out, aiinfra_error *err); /* 64-byte aligned */
  void (*release)(aii_backend *be, void *ptr, size_t bytes);
  uint64_t (*free_bytes)(aii_backend *be); /* memory that could still be had */
  /* Fills device; may keep source. device NULL, or where packed_bytes() bytes are for it, aligned to 64, from alloc() and
   * the caller's to release: many weights in one piece find larger pages. */
  aiinfra_status (*upload)(aii_backend *be, aii_weight *w, aiinfra_error *err);
  void (*unload)(aii_backend *be, aii_weight *w);
  /* A form of weights that can be kept in files, as it follows from their elements alone; both NULL: this backend has
   * none. packed_bytes tells what upload makes for w in host memory at device; 0: nothing of the kind. adopt is upload
   * with such bytes, aligned to 64, which stay as long as the weight lives. */
  uint32_t packed_layout; /* another number when the form changes */
  size_t (*packed_bytes)(const aii_weight *w);
  aiinfra_status (*adopt)(aii_backend *be, aii_weight *w, const void *packed, aiinfra_error *err);
  /* Whether aii_weight.bf16_x may be set: the device has an instruction that makes it worth while. NULL: it may, and does
   * nothing where there is none. */
  bool (*takes_bf16_x)(const aii_backend *be);
  aiinfra_status (*to_host)(aii_backend *be, void *host, const void *device, size_t bytes, aiinfra_error *err);
  aiinfra_status (*copy_block)(aii_backend *be, const aii_kv_view *kv, uint32_t from, uint32_t to, aiinfra_error *err);
  /* Queued: the block's bytes to host memory, or from there. */
  aiinfra_status (*swap_block)(aii_backend *be, const aii_kv_view *kv, uint32_t block, void *host, bool to_host,
                               aiinfra_error *err);
  /* Host memory that the device copies from and to without a stop. Both NULL: any is. */
  aiinfra_status (*alloc_host)(aii_backend *be, size_t bytes, void **out, aiinfra_error *err);
  void (*release_host)(aii_backend *be, void *ptr, size_t bytes);
  aiinfra_status (*sync)(aii_backend *be, aiinfra_error *err); /* also the place where queued errors surface */

  /* out[r] = row tokens[r] of w, times scale */
  void (*embed)(aii_backend *be, const aii_weight *w, const aii_rows *rows, float scale, float *out);
  /* out[r] = x[r] / rms(x[r]) * weight; eps inside the root. w NULL: no scale */
  void (*rms_norm)(aii_backend *be, const float *x, const aii_weight *w, uint32_t n_rows, uint32_t width, float eps,
                   float *out);
  /* out[r] = (x[r] - mean) / deviation * weight + bias; eps inside the root. bias NULL: none */
  void (*layer_norm)(aii_backend *be, const float *x, const aii_weight *w, const aii_weight *bias, uint32_t n_rows,
                     uint32_t width, float eps, float *out);
  /* y[r][0..n_out) = W x[r] (+ bias) (+ y when accumulate) */
  void (*matmul)(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                 bool accumulate, float *y);
  /* as n <= AII_MAX_MULS calls of matmul that do not accumulate, but x is prepared once and threads meet once */
  void (*matmuls)(aii_backend *be, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows);
  /* the same with gate and up, of equal shape; then gate.y = act(gate.y) * up.y */
  void (*gated)(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x, uint32_t n_rows);
  /* both NULL, or these two with the norm of x instead of x */
  void (*norm_matmuls)(aii_backend *be, const aii_norm *norm, const aii_mul *muls, uint32_t n, const float *x,
                       uint32_t n_rows);
  void (*norm_gated)(aii_backend *be, const aii_norm *norm, aii_act act, const aii_mul *gate, const aii_mul *up,
                     const float *x, uint32_t n_rows);
  /* rotates q [n_rows][n_heads][head_dim] in place, k [n_rows][n_kv_heads][head_dim] too; either may be NULL. q + n
   * rotates the dims from n on */
  void (*rope)(aii_backend *be, const aii_rope *rope, const aii_rows *rows, uint32_t n_heads, uint32_t n_kv_heads,
               uint32_t head_dim, float *q, float *k);
  /* writes k and v of every row into its place of the cache */
  void (*kv_write)(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const float *k,
                   const float *v);
  /* out [n_rows][n_heads][value_dim] = softmax(scale * q k^T) v over the cached positions 0..pos[r]. Query head h reads
   * KV head h / (n_heads / n_kv_heads). */
  void (*attention)(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const aii_attn *how,
                    const float *q, float *out);
  /* NULL, or all that comes behind products, at once: rms_norm of heads, rope, kv_write and attention. q may change. */
  void (*attend_own)(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const aii_own *own,
                     const aii_attn *how, float *q, float *out);
  /* out = act(gate) * up, element by element, n values; up NULL (gelu only): out = act(gate) */
  void (*activate)(aii_backend *be, aii_act act, const float *gate, const float *up, size_t n, float *out);
  /* x = fma(f, y, x), n values */
  void (*add)(aii_backend *be, float *x, const float *y, float f, size_t n);
  /* x *= f, n values */
  void (*scale)(aii_backend *be, float *x, float f, size_t n);
  /* x = cap * tanh(x / cap), n values */
  void (*softcap)(aii_backend *be, float *x, float cap, size_t n);
  /* n pieces of `width` floats: piece i goes from x + (i / repeat) * x_stride to out + i * out_stride */
  void (*copy)(aii_backend *be, const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width, float *out,
               size_t out_stride);

  /* experts (cpu_experts.c). ids [n_rows][n_used], weights [n_rows][n_used], both device memory */
  /* scores [n_rows][n_experts], which it overwrites, to the used experts and their weights, the best first */
  void (*route)(aii_backend *be, const aii_routing *how, float *scores, uint32_t n_rows, int32_t *ids, float *weights);
  /* y[i] = W[ids[i]] x[i / repeat] (+ bias[ids[i]]) for i < n; ids NULL: W[i % n_mats], as heads take turns */
  void (*matmul_ids)(aii_backend *be, const aii_weight *w, const aii_weight *bias, const int32_t *ids, const float *x,
                     uint32_t repeat, uint32_t n, float *y);
  /* NULL, or matmul_ids of a gate and of what it gates, of equal shape; then gate.y = act(gate.y) * up.y */
  void (*gated_ids)(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const int32_t *ids,
                    const float *x, uint32_t repeat, uint32_t n);
  /* out[r] = sum over j < n_used of weights[r][j] * y[r][j], in that order; y [n_rows][n_used][width] */
  void (*combine)(aii_backend *be, const float *y, const float *weights, uint32_t n_rows, uint32_t n_used,
                  uint32_t width, float *out);
  /* x[r] *= sigmoid(gate[r]) */
  void (*gate_rows)(aii_backend *be, float *x, const float *gate, uint32_t n_rows, uint32_t width);

  /* Tells of n rows of logits [n_vocab] what their samplers want to see, and waits for it; NULL: there is nothing that does so
   * faster than the sampler. What was queued may fail here. */
  aiinfra_status (*shortlist)(aii_backend *be, float *logits, uint32_t n_vocab, aii_shortlist *rows, uint32_t n,
                              aiinfra_error *err);

  /* Passes that come again; both NULL: nothing is kept of them. again: queues what was kept of such a pass, and true; else its
   * operations follow, the same for equal `what`, none of which copies to or from the host, then keep. keep: false when
   * nothing of it was done: its operations are to be called again, and keep. */
  bool (*again)(aii_backend *be, const aii_repeat *what, const aii_rows *rows);
  bool (*keep)(aii_backend *be);

  /* Several devices with a part of a model each; both NULL where device memory is host memory, which a communicator can
   * read. join: once, by all ranks at a time. Then x [n] becomes the sum of all ranks' x, as aii_comm_ops has it. */
  aiinfra_status (*join)(aii_backend *be, aii_comm *comm, aiinfra_error *err);
  void (*sum_ranks)(aii_backend *be, float *x, size_t n);
} aii_backend_ops;

struct aii_backend {
  const aii_backend_ops *ops;
  const aii_backend_ops *observed; /* NULL, or what forward passes use instead: it looks on, and calls ops */
  aii_mem *mem;
};

/* Threads of the CPU: a pool that runs one parallel section at a time. fn(arg, part, n_parts) runs for every part.
 * Workers spin for a while after a section, then sleep on a futex. n_threads counts the caller; it is cut to the
 * number of CPUs that the creating thread may use. */
typedef struct aii_pool aii_pool;
enum {
  AII_POOL_PIN = 1,  /* each worker to a core */
  AII_POOL_CROWD = 2 /* n_threads whatever there are cores, for tests */
};
aiinfra_status aii_pool_create(aii_mem *mem, uint32_t n_threads, uint32_t flags, aii_pool **out, aiinfra_error *err);
void aii_pool_free(aii_pool *pool);
uint32_t aii_pool_threads(const aii_pool *pool);
uint32_t aii_pool_sections(const aii_pool *pool); /* run by more than one thread so far; wraps around */
void aii_pool_run(aii_pool *pool, uint32_t n_parts, void (*fn)(void *arg, uint32_t part, uint32_t n_parts), void *arg);

/* The CPU backend on a pool (borrowed). isa: aiinfra_isa, 0 the best; ENOTSUP when the CPU lacks it. */
aiinfra_status aii_cpu_backend_create(aii_mem *mem, aii_pool *pool, int32_t isa, aii_backend **out, aiinfra_error *err);
int32_t aii_cpu_best_isa(void); /* an aiinfra_isa */

/* Processes that compute one model together: rank 0 leads, each has a part of every matrix. A communicator carries what
 * they tell each other; its calls are made by all ranks in the same order, by one thread at a time, in host memory. */
typedef struct aii_comm_ops {
  const char *name; /* "mpi" */
  void (*destroy)(aii_comm *comm);
  /* Rank 0's bytes become everybody's. */
  aiinfra_status (*tell)(aii_comm *comm, void *bytes, size_t n, aiinfra_error *err);
  /* x [n] becomes the sum of all ranks' x, in the order of ranks: the same bits everywhere. */
  aiinfra_status (*sum)(aii_comm *comm, float *x, size_t n, aiinfra_error *err);
  /* counts[rank] numbers of each rank, one behind the other, to out of rank 0; other ranks' out is not used. Rank 0's x may
   * be out. */
  aiinfra_status (*collect)(aii_comm *comm, const float *x, const size_t *counts, float *out, aiinfra_error *err);
} aii_comm_ops;
struct aii_comm {
  const aii_comm_ops *ops;
  uint32_t rank, size;
  uint32_t neighbour; /* number of this rank among those of its machine */
};

/* Every rank says how it went: any that failed fails all, so that none waits for another. (comm.c) */
aiinfra_status aii_comm_agree(aii_comm *comm, aiinfra_status mine, aiinfra_error *err);

/* The communicator over MPI, through the plug-in at path (NULL: beside this library). ENOTSUP with the reason when there is
 * no plug-in or MPI does not start. (plugin.c) */
aiinfra_status aii_mpi_comm_create(aii_mem *mem, const char *path, aii_comm **out, aiinfra_error *err);

/* The CUDA backend, through the plug-in at path (NULL: beside this library); pool is borrowed. ENOTSUP with the reason
 * when there is no plug-in, no driver, no device or one that is too old. (plugin.c) */
aiinfra_status aii_cuda_backend_create(aii_mem *mem, aii_pool *pool, const char *path, int32_t device,
                                       aii_backend **out, aiinfra_error *err);

#endif
