/* ops.c - the CUDA backend's table of operations: each checks what it was given, then launches. */
#include "src/backend/cuda/cuda_backend.h"

#define PART_BYTES ((size_t)64 << 20) /* of parts of attention at a time */

/* ---- embeddings: decoded on the host ---- */

typedef struct embed_job {
  const aii_weight *w;
  aii_fmt fmt;
  const aii_rows *rows;
  float scale, *out;
} embed_job;

static void embed_part(void *arg, uint32_t part, uint32_t n_parts)
{
  const embed_job *job = arg;
  size_t n = job->w->n_in, rows = job->rows->n_rows, row_bytes = aii_fmt_row_bytes(job->fmt, n);
  for (size_t r = rows * part / n_parts; r < rows * (part + 1) / n_parts; r++) {
    float *out = job->out + r * n;
    aii_kernels_ref.dequant[job->fmt]((const char *)job->w->source + (size_t)job->rows->tokens[r] * row_bytes, n, out);
    if (job->scale != 1.0f) aii_kernels_ref.scale(out, job->scale, n);
  }
}

static void embed(aii_backend *be, const aii_weight *w, const aii_rows *rows, float scale, float *out)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda == NULL) return;
  for (uint32_t r = 0; r < rows->n_rows; r++)
    if (rows->tokens[r] < 0 || (uint32_t)rows->tokens[r] >= w->n_out) {
      aii_cuda_fail(cuda, AIINFRA_EINVAL, 0, "a token lies outside the vocabulary");
      return;
    }
  size_t bytes = (size_t)rows->n_rows * w->n_in * sizeof(float);
  float *host = aii_cuda_grow_host(cuda, &cuda->pinned, bytes, "host memory for embeddings");
  if (host == NULL || !aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel")) return;
  embed_job job = {w, aii_cuda_fmt(w->type), rows, scale, host};
  aii_pool_run(cuda->pool, rows->n_rows < 16 ? 1 : aii_pool_threads(cuda->pool), embed_part, &job);
  (void)aii_cuda_check(cuda, cudaMemcpyAsync(out, host, bytes, cudaMemcpyHostToDevice, cuda->stream), "embeddings");
}

/* ---- positions and the cache ---- */

/* What rotates those rows; false: told by sync(). */
static bool rotation_of(aii_cuda *cuda, const aii_rope *how, const aii_rows *rows, uint32_t head_dim,
                        aii_cuda_rope *out)
{
  if (how->n_rot > head_dim || how->n_rot % 2 != 0) {
    aii_cuda_fail(cuda, AIINFRA_EINVAL, 0, "rope rotates an odd number of dims, or more than a head has");
    return false;
  }
  *out = (aii_cuda_rope){NULL, how->n_rot, how->kind == AII_ROPE_NEOX};
  return how->n_rot == 0 || (out->angles = aii_cuda_stage_angles(cuda, how, rows)) != NULL;
}

static void rope(aii_backend *be, const aii_rope *how, const aii_rows *rows, uint32_t n_heads, uint32_t n_kv_heads,
                 uint32_t head_dim, float *q, float *k)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  aii_cuda_rows where;
  aii_cuda_rope r;
  if (cuda == NULL || rows->n_rows == 0 || !rotation_of(cuda, how, rows, head_dim, &r)) return;
  if (r.n_rot == 0 || !aii_cuda_stage(cuda, rows, 0, &where)) return;
  if (q != NULL) aii_cuda_rotate(cuda->stream, &r, &where, n_heads, head_dim, q);
  if (k != NULL) aii_cuda_rotate(cuda->stream, &r, &where, n_kv_heads, head_dim, k);
}

/* False: told by sync(). */
static bool cache_of(aii_cuda *cuda, const aii_kv_view *kv, uint32_t layer, aii_cuda_kv *out)
{
  aii_fmt fmt = aii_cuda_fmt(kv->type);
  bool whole = kv->head_dim % AII_QBLOCK == 0 && kv->value_dim % AII_QBLOCK == 0, q8 = fmt == AII_FMT_Q8_0;
  bool takes = kv->type == AII_F32 || kv->type == AII_F16 || (q8 && whole);
  if (!takes || layer >= kv->n_layers || kv->head_dim > AII_CUDA_MAX_HEAD || kv->value_dim > AII_CUDA_MAX_HEAD) {
    aii_cuda_fail(cuda, AIINFRA_ENOTSUP, 0, "a KV cache of this type, shape or layer");
    return false;
  }
  *out = (aii_cuda_kv){.base = kv->base,
                       .fmt = (int)fmt,
                       .n_kv_heads = kv->n_kv_heads,
                       .head_dim = kv->head_dim,
                       .value_dim = kv->value_dim,
                       .block_tokens = kv->block_tokens,
                       .block_bytes = kv->block_bytes,
                       .layer_at = layer * kv->layer_bytes,
                       .value_offset = kv->value_offset,
                       .key_bytes = q8 ? kv->head_dim : aii_fmt_row_bytes(fmt, kv->head_dim),
                       .value_bytes = q8 ? kv->value_dim : aii_fmt_row_bytes(fmt, kv->value_dim)};
  return true;
}

static bool has_blocks(aii_cuda *cuda, const aii_kv_view *kv, const aii_rows *rows)
{
  for (uint32_t r = 0; r < rows->n_rows; r++)
    if (rows->tables[rows->seq[r]][rows->pos[r] / kv->block_tokens] >= kv->n_blocks) {
      aii_cuda_fail(cuda, AIINFRA_EINTERNAL, 0, "a block table names a block outside the KV cache");
      return false;
    }
  return true;
}

static void kv_write(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const float *k,
                     const float *v)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  aii_cuda_write w = {.own = {.k = k, .v = v}};
  if (cuda == NULL || rows->n_rows == 0 || !cache_of(cuda, kv, layer, &w.kv) || !has_blocks(cuda, kv, rows)) return;
  if (aii_cuda_stage(cuda, rows, kv->block_tokens, &w.rows)) aii_cuda_kv_write(cuda->stream, &w);
}

/* ---- attention ---- */

/* Zeros for blocks to count themselves in, as they find and leave them. NULL: told by sync(). */
static uint32_t *counters(aii_cuda *cuda, size_t n)
{
  const void *before = cuda->arrived.ptr;
  const size_t bytes = cuda->arrived.bytes;
  void *p = aii_cuda_grow(cuda, &cuda->arrived, n * sizeof(uint32_t), "device memory for attention");
  if (p == NULL || (p == before && bytes == cuda->arrived.bytes)) return p;
  if (aii_cuda_check(cuda, cudaMemsetAsync(p, 0, cuda->arrived.bytes, cuda->stream), "zeros")) return p;
  cuda->arrived.bytes = 0;
  return NULL;
}

/* Launches chunks for as many rows at a time as parts have room for; host: where the chunks begin, as host memory. */
static void attend_all(aii_cuda *cuda, aii_cuda_attn *a, uint32_t n_chunks, const uint32_t *host)
{
  const uint32_t n_rows = a->rows.n_rows;
  size_t row_bytes = (size_t)a->n_heads * a->n_splits * (a->kv.value_dim + 2) * sizeof(float);
  size_t each = a->n_splits > 1 ? AII_MAX(PART_BYTES / row_bytes, (size_t)a->most_rows) : n_rows;
  each = AII_MIN(each, (size_t)n_rows);
  if (a->n_splits > 1) {
    a->parts = aii_cuda_grow(cuda, &cuda->scratch, each * row_bytes, "scratch memory for attention");
    a->arrived = counters(cuda, AII_MIN((size_t)n_chunks, each) * a->n_heads);
    if (a->parts == NULL || a->arrived == NULL) return;
  }
  for (uint32_t chunk = 0; chunk < n_chunks; chunk += a->n_chunks) {
    uint32_t end = chunk;
    a->first_chunk = chunk;
    a->first_row = host != NULL ? host[chunk] : chunk;
    while (end < n_chunks && (host != NULL ? host[end + 1] : end + 1) - a->first_row <= each) end++;
    a->n_chunks = end - chunk;
    a->n_rows = (host != NULL ? host[end] : end) - a->first_row;
    aii_cuda_attend(cuda->stream, a);
  }
}

/* All but what its rows are, and splits. False: told by sync(). */
static bool attention_of(aii_cuda *cuda, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows,
                         const aii_attn *how, const float *q, float *out, aii_cuda_attn *a)
{
  if (kv->n_kv_heads == 0 || how->n_heads == 0 || how->n_heads % kv->n_kv_heads != 0) {
    aii_cuda_fail(cuda, AIINFRA_ENOTSUP, 0, "attention of query heads that are no multiple of the KV heads");
    return false;
  }
  *a = (aii_cuda_attn){.n_heads = how->n_heads,
                       .window = how->window,
                       .both_ways = how->both_ways,
                       .rounded = how->rounded,
                       .scale = how->scale,
                       .softcap = how->softcap,
                       .sinks = aii_cuda_vector_of(how->sinks),
                       .q = q,
                       .out = out};
  if (!cache_of(cuda, kv, layer, &a->kv) || !aii_cuda_stage(cuda, rows, kv->block_tokens, &a->rows)) return false;
  return how->alibi <= 0 || (a->slopes = aii_cuda_stage_slopes(cuda, how->alibi, how->n_heads)) != NULL;
}

static void attend(aii_cuda *cuda, const aii_rows *rows, aii_cuda_attn *a)
{
  uint32_t longest = 0, n = rows->n_rows;
  for (uint32_t r = 0; r < n; r++) longest = AII_MAX(longest, rows->pos[r] + 1);
  a->n_splits = (longest - 1) / AII_CUDA_SPLIT + 1;
  if (cuda->step != NULL) a->n_splits = aii_cuda_rounded(a->n_splits);
  aii_cuda_chunks chunks;
  if (!aii_cuda_stage_chunks(cuda, rows, aii_cuda_attend_rows(a, n, cuda->n_sms), &chunks)) return;
  a->chunks = chunks.device;
  a->most_rows = chunks.most_rows;
  if (a->kv.value_dim % AII_QBLOCK == 0)
    a->q8 = aii_cuda_make_q8(cuda, a->out, n, (size_t)a->n_heads * a->kv.value_dim, NULL);
  attend_all(cuda, a, chunks.n, chunks.host);
}

static void attention(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const aii_attn *how,
                      const float *q, float *out)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  aii_cuda_attn a;
  if (cuda == NULL || rows->n_rows == 0) return;
  if (attention_of(cuda, kv, layer, rows, how, q, out, &a)) attend(cuda, rows, &a);
}

/* Whether blocks can see to the keys and values that they read themselves: no other block reads them. */
static bool reads_own(const aii_cuda_attn *a, const aii_rows *rows)
{
  bool alone = !a->both_ways && a->n_heads / a->kv.n_kv_heads <= aii_cuda_most_queries(&a->kv);
  for (uint32_t r = 1; r < rows->n_rows; r++) alone = alone && rows->seq[r] != rows->seq[r - 1];
  return alone;
}

static void attend_own(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const aii_own *own,
                       const aii_attn *how, float *q, float *out)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  aii_cuda_attn a;
  if (cuda == NULL || rows->n_rows == 0 || !has_blocks(cuda, kv, rows)) return;
  if (!attention_of(cuda, kv, layer, rows, how, q, out, &a)) return;
  aii_cuda_own placed = {.q_norm = aii_cuda_vector_of(own->q_norm),
                         .k_norm = aii_cuda_vector_of(own->k_norm),
                         .eps = own->eps,
                         .k = own->k,
                         .v = own->v};
  if (own->rope != NULL && !rotation_of(cuda, own->rope, rows, kv->head_dim, &placed.rope)) return;
  if (reads_own(&a, rows)) {
    a.own = placed;
  } else {
    const aii_cuda_write w = {.kv = a.kv, .rows = a.rows, .own = placed, .n_heads = how->n_heads, .q = q};
    aii_cuda_kv_write(cuda->stream, &w);
  }
  attend(cuda, rows, &a);
}

/* ---- elements ---- */

static void add(aii_backend *be, float *x, const float *y, float f, size_t n)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL && n > 0) aii_cuda_add(cuda->stream, x, y, f, n);
}

static void scale(aii_backend *be, float *x, float f, size_t n)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL && n > 0) aii_cuda_scale(cuda->stream, x, f, n);
}

static void softcap(aii_backend *be, float *x, float cap, size_t n)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL && n > 0) aii_cuda_softcap(cuda->stream, x, cap, n);
}

static void copy(aii_backend *be, const float *x, size_t x_stride, uint32_t repeat, size_t n, uint32_t width,
                 float *out, size_t out_stride)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL && n > 0) aii_cuda_copy(cuda->stream, x, x_stride, repeat, n, width, out, out_stride);
}

/* ---- experts ---- */

static void route(aii_backend *be, const aii_routing *how, float *scores, uint32_t n_rows, int32_t *ids, float *weights)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda == NULL || n_rows == 0) return;
  bool groups = how->n_groups > 1;
  if (how->n_used > how->n_experts || (groups && (how->n_groups > AII_MAX_GROUPS || how->n_groups_used == 0))) {
    aii_cuda_fail(cuda, AIINFRA_EINVAL, 0, "routing to more experts or groups than there are");
    return;
  }
  cuda->made = cuda->ready; /* the rows that scores came of */
  aii_cuda_routing r = {.n_experts = how->n_experts,
                        .n_used = how->n_used,
                        .n_groups = how->n_groups,
                        .n_groups_used = how->n_groups_used,
                        .sigmoid = how->sigmoid,
                        .normalise = how->normalise,
                        .scale = how->scale != 0 ? how->scale : 1,
                        .bias = aii_cuda_vector_of(how->bias)};
  float *choice = aii_cuda_grow(cuda, &cuda->scratch, (size_t)n_rows * how->n_experts * sizeof(float),
                                "scratch memory for routing");
  if (choice != NULL) aii_cuda_route(cuda->stream, &r, scores, choice, n_rows, ids, weights);
}

static void combine(aii_backend *be, const float *y, const float *weights, uint32_t n_rows, uint32_t n_used,
                    uint32_t width, float *out)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL && n_rows > 0) aii_cuda_combine(cuda->stream, y, weights, n_rows, n_used, width, out);
}

static void gate_rows(aii_backend *be, float *x, const float *gate, uint32_t n_rows, uint32_t width)
{
  aii_cuda *cuda = aii_cuda_enter(be);
  if (cuda != NULL && n_rows > 0) aii_cuda_gate_rows(cuda->stream, x, gate, n_rows, width);
}

const aii_backend_ops aii_cuda_ops = {
    .name = "cuda",
    .in_place = false,
    .destroy = aii_cuda_destroy,
    .alloc = aii_cuda_alloc,
    .release = aii_cuda_release,
    .free_bytes = aii_cuda_free_bytes,
    .upload = aii_cuda_upload,
    .unload = aii_cuda_unload,
    .to_host = aii_cuda_to_host,
    .copy_block = aii_cuda_copy_block,
    .swap_block = aii_cuda_swap_block,
    .alloc_host = aii_cuda_alloc_host,
    .release_host = aii_cuda_release_host,
    .sync = aii_cuda_sync,
    .embed = embed,
    .rms_norm = aii_cuda_op_rms_norm,
    .layer_norm = aii_cuda_op_layer_norm,
    .matmul = aii_cuda_op_matmul,
    .matmuls = aii_cuda_op_matmuls,
    .gated = aii_cuda_op_gated,
    .norm_matmuls = aii_cuda_op_norm_matmuls,
    .norm_gated = aii_cuda_op_norm_gated,
    .rope = rope,
    .kv_write = kv_write,
    .attention = attention,
    .attend_own = attend_own,
    .activate = aii_cuda_op_activate,
    .add = add,
    .scale = scale,
    .softcap = softcap,
    .copy = copy,
    .route = route,
    .matmul_ids = aii_cuda_op_matmul_ids,
    .gated_ids = aii_cuda_op_gated_ids,
    .combine = combine,
    .gate_rows = gate_rows,
    .shortlist = aii_cuda_shortlist_rows,
    .again = aii_cuda_again,
    .keep = aii_cuda_keep,
    .join = aii_cuda_join,
    .sum_ranks = aii_cuda_sum_ranks,
};
