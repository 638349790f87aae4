/* src/backend/cpu.h - the CPU backend inside: its state, and how it splits work.
 *
 * cpu.c has memory and weights, cpu_matmul.c products, cpu_cache.c the cache, cpu_attention.c
 * attention, cpu_experts.c experts, cpu_rows.c what looks at rows, cpu_elements.c what looks at elements. No operation's
 * result depends on how its work is split, so the split follows speed alone: small work stays on the caller.
 */
#ifndef AII_BACKEND_CPU_H
#define AII_BACKEND_CPU_H

#include "kernels/kernels.h"
#include "src/backend/backend.h"

typedef struct aii_cpu {
  aii_backend base;
  aii_pool *pool; /* borrowed; NULL: one thread */
  const aii_kernels *k;
  char *work;    /* AII_PRODUCT_WORK a thread */
  char *scratch; /* grows to what the largest operation needs, freed with the backend */
  size_t scratch_bytes;
  aiinfra_status failed; /* of an operation that returns nothing; told and cleared by sync */
  const char *failure;
} aii_cpu;

static inline aii_cpu *aii_cpu_of(aii_backend *be)
{
  return AII_CONTAINER(be, aii_cpu, base);
}

/* The cache has a type and a shape that the CPU can work with. */
bool aii_cpu_kv_takes(const aii_kv_view *kv);
/* A layer of the cache, and what its groups measure. */
typedef struct aii_cpu_kv {
  const aii_kv_view *view;
  aii_fmt fmt;
  uint32_t width; /* positions of a group as it lies there: AII_ATTN_GROUP, or all of a smaller block's */
  char *base;     /* of block 0 */
  size_t keys_bytes, group_bytes, head_bytes; /* a group's keys, these and its values, a head of a block */
  size_t work_bytes;                          /* that aii_cpu_kv_group() needs */
} aii_cpu_kv;
aii_cpu_kv aii_cpu_kv_of(const aii_kv_view *kv, uint32_t layer);
/* The 16 positions from `first`, a multiple of 16, of a head's keys or values, as kernels take them; the block table
 * reaches to position end at least. In the cache itself, or put together in work. */
const void *aii_cpu_kv_group(const aii_cpu_kv *kv, aii_attn_part part, uint32_t head, const uint32_t *table,
                             uint32_t first, uint32_t end, void *work);

/* At least `bytes`, aligned to 64, valid until the next call. NULL when memory is out, which sync() will tell. */
void *aii_cpu_scratch(aii_cpu *cpu, size_t bytes);

/* Remembers the first failure until sync() tells it. */
void aii_cpu_fail(aii_cpu *cpu, aiinfra_status status, const char *what);

/* fn(arg, worker, first, end) over 0..n in ranges of `grain`, taken by the threads as they get free; worker is below
 * the number of threads and belongs to one thread at a time. All on the caller when alone or n <= grain. */
typedef void (*aii_range_fn)(void *arg, uint32_t worker, size_t first, size_t end);
void aii_cpu_for(aii_cpu *cpu, size_t n, size_t grain, bool alone, aii_range_fn fn, void *arg);

/* A weight is a vector (n_out 1: float rows, in place or its device form), a table to look rows up in, or a matrix: in
 * panels (its device form) where its format has them, else as it is in the file. */
aii_fmt aii_cpu_fmt(aii_dtype type);
aii_fmt aii_cpu_fmt_of(const aii_weight *w);         /* as products take it */
const float *aii_cpu_vector_of(const aii_weight *w); /* NULL for NULL */

/* Fills in w, w_stride, n_in, n_rows of a product with matrix `mat` of w. */
aii_product aii_cpu_product_of(const aii_weight *w, size_t mat);
/* Bytes of one of w's matrices, as products take it. */
size_t aii_cpu_mat_bytes(const aii_weight *w);
/* Scratch that any product with w may need; 0: none. */
size_t aii_cpu_matmul_scratch(const aii_weight *w);
/* Activations as products take them. */
typedef enum aii_cpu_form { AII_CPU_FLOATS, AII_CPU_Q8, AII_CPU_BF16, AII_CPU_FORMS } aii_cpu_form;
aii_cpu_form aii_cpu_form_of(aii_fmt fmt);
size_t aii_cpu_x_bytes(aii_cpu_form form, size_t n); /* of a row of n of them */
/* n floats to a row of a form other than floats. */
void aii_cpu_make_x(const aii_kernels *k, aii_cpu_form form, const float *x, size_t n, void *row);
/* Of so many panels, those that a thread takes at a time. */
size_t aii_cpu_grain(const aii_cpu *cpu, size_t panels);
/* y[i] = w . x[i] (+ bias) (+ y[i]) for a weight that is one row */
void aii_cpu_dot_rows(const aii_cpu *cpu, const float *w, const float *bias, const float *x, size_t n_in,
                      uint32_t n_rows, bool accumulate, float *y);

void aii_cpu_embed(aii_backend *be, const aii_weight *w, const aii_rows *rows, float scale, float *out);
void aii_cpu_rms_norm(aii_backend *be, const float *x, const aii_weight *w, uint32_t n_rows, uint32_t width, float eps,
                      float *out);
void aii_cpu_layer_norm(aii_backend *be, const float *x, const aii_weight *w, const aii_weight *bias, uint32_t n_rows,
                        uint32_t width, float eps, float *out);
void aii_cpu_matmul(aii_backend *be, const aii_weight *w, const aii_weight *bias, const float *x, uint32_t n_rows,
                    bool accumulate, float *y);
void aii_cpu_matmuls(aii_backend *be, const aii_mul *muls, uint32_t n, const float *x, uint32_t n_rows);
void aii_cpu_gated(aii_backend *be, aii_act act, const aii_mul *gate, const aii_mul *up, const float *x,
                   uint32_t n_rows);
void aii_cpu_rope(aii_backend *be, const aii_rope *rope, const aii_rows *rows, uint32_t n_heads, uint32_t n_kv_heads,
                  uint32_t head_dim, float *q, float *k);
void aii_cpu_kv_write(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const float *k,
                      const float *v);
void aii_cpu_attention(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows,
                       const aii_attn *how, const float *q, float *out);
/* out = act(gate) * up, n values, on this thread */
void aii_cpu_act(const aii_kernels *k, aii_act act, const float *gate, const float *up, size_t n, float *out);
void aii_cpu_activate(aii_backend *be, aii_act act, const float *gate, const float *up, size_t n, float *out);
void aii_cpu_add(aii_backend *be, float *x, const float *y, float f, size_t n);
void aii_cpu_scale(aii_backend *be, float *x, float f, size_t n);
void aii_cpu_softcap(aii_backend *be, float *x, float cap, size_t n);
void aii_cpu_copy(aii_backend *be, const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width,
                  float *out, size_t out_stride);
void aii_cpu_route(aii_backend *be, const aii_routing *how, float *scores, uint32_t n_rows, int32_t *ids,
                   float *weights);
void aii_cpu_matmul_ids(aii_backend *be, const aii_weight *w, const aii_weight *bias, const int32_t *ids,
                        const float *x, uint32_t repeat, uint32_t n, float *y);
void aii_cpu_combine(aii_backend *be, const float *y, const float *weights, uint32_t n_rows, uint32_t n_used,
                     uint32_t width, float *out);
void aii_cpu_gate_rows(aii_backend *be, float *x, const float *gate, uint32_t n_rows, uint32_t width);

#endif
