/* stage.c - what the host knows of a pass, brought to the device once.
 *
 * The rows of a pass are the same for all its operations: they are compared with what was staged last, which costs less
 * than asking the caller to say so. Angles are made on the host, as the CPU backend makes them, for all positions up to
 * the furthest so far.
 */
#include <math.h>

#include "src/backend/cuda/cuda_backend.h"

/* ---- rows ---- */

/* Words for pos, seq and ends, then the tables; none when block_tokens is 0. */
static void fill(const aii_rows *rows, uint32_t block_tokens, uint32_t stride, uint32_t *out)
{
  uint32_t n = rows->n_rows, *ends = out + 2 * (size_t)n, *tables = out + 3 * (size_t)n;
  memcpy(out, rows->pos, n * sizeof *out);
  memcpy(out + n, rows->seq, n * sizeof *out);
  for (uint32_t r = n; r-- > 0;)
    ends[r] = r + 1 < n && rows->seq[r + 1] == rows->seq[r] ? ends[r + 1] : rows->pos[r] + 1;
  memset(tables, 0, (size_t)rows->n_seqs * stride * sizeof *out);
  for (uint32_t r = 0; r < n && block_tokens != 0; r++) {
    uint32_t used = rows->pos[r] / block_tokens + 1;
    if (r + 1 < n && rows->seq[r + 1] == rows->seq[r]) continue; /* the last row of a sequence sees furthest */
    memcpy(tables + (size_t)rows->seq[r] * stride, rows->tables[rows->seq[r]], used * sizeof *out);
  }
}

/* Where they are now; without tables the ones that are there may stay. */
static bool is_staged(const aii_cuda *cuda, const aii_rows *rows, uint32_t block_tokens, size_t words, const void *now)
{
  size_t n = rows->n_rows;
  if (cuda->staged_rows != n) return false;
  if (block_tokens != 0)
    return words == cuda->staged_words && memcmp(cuda->host_rows.ptr, now, words * sizeof(uint32_t)) == 0;
  return memcmp(cuda->host_rows.ptr, now, 2 * n * sizeof(uint32_t)) == 0;
}

bool aii_cuda_stage(aii_cuda *cuda, const aii_rows *rows, uint32_t block_tokens, aii_cuda_rows *out)
{
  uint32_t stride = 0, n = rows->n_rows;
  for (uint32_t r = 0; r < n && block_tokens != 0; r++) stride = AII_MAX(stride, rows->pos[r] / block_tokens + 1);
  if (stride > 0) stride = aii_cuda_rounded(stride);
  size_t words = 3 * (size_t)n + (size_t)rows->n_seqs * stride, bytes = words * sizeof(uint32_t);
  const void *before = cuda->host_rows.ptr;
  char *host = aii_cuda_grow_host(cuda, &cuda->host_rows, 2 * bytes, "host memory for the rows of a pass");
  if (host == NULL) return false;
  if (host != before) cuda->staged_rows = 0;
  uint32_t *now = (uint32_t *)(void *)(host + cuda->host_rows.bytes / 2 / sizeof(uint32_t) * sizeof(uint32_t));
  fill(rows, block_tokens, stride, now);
  if (!is_staged(cuda, rows, block_tokens, words, now)) {
    cuda->staged_rows = 0;
    void *device = aii_cuda_grow(cuda, &cuda->staged, bytes, "device memory for the rows of a pass");
    if (device == NULL || !aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel")) return false;
    memcpy(host, now, bytes);
    cudaError_t rc = cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream);
    if (!aii_cuda_check(cuda, rc, "the rows of a pass")) return false;
    cuda->staged_words = words;
    cuda->staged_rows = n;
  }
  const uint32_t *p = cuda->staged.ptr;
  *out = (aii_cuda_rows){n, stride, p, p + n, p + 2 * (size_t)n, p + 3 * (size_t)n};
  return true;
}

/* ---- chunks ---- */

/* Fills starts, which has room for one more than there are rows. */
static aii_cuda_chunks cut(const aii_rows *rows, uint32_t most, uint32_t *starts)
{
  aii_cuda_chunks c = {NULL, starts, 0, 0};
  uint32_t first = 0;
  for (uint32_t r = 0; r < rows->n_rows; r++) {
    if (r == 0 || rows->seq[r] != rows->seq[r - 1] || r - first == most) starts[c.n++] = first = r;
    c.most_rows = AII_MAX(c.most_rows, r + 1 - first);
  }
  starts[c.n] = rows->n_rows;
  return c;
}

/* A step that comes again has a row of each sequence, and must not depend on what is copied here. */
bool aii_cuda_stage_chunks(aii_cuda *cuda, const aii_rows *rows, uint32_t most, aii_cuda_chunks *out)
{
  const size_t room = (size_t)rows->n_rows + 1;
  *out = (aii_cuda_chunks){NULL, NULL, rows->n_rows, 1};
  if (most == 1 || rows->n_rows == 1 || cuda->step != NULL) return true;
  const void *before = cuda->host_chunks.ptr;
  uint32_t *host = aii_cuda_grow_host(cuda, &cuda->host_chunks, 2 * room * sizeof *host, "host memory for chunks");
  if (host == NULL) return false;
  if (host != before) cuda->staged_chunks = 0;
  uint32_t *now = host + cuda->host_chunks.bytes / 2 / sizeof *host;
  aii_cuda_chunks c = cut(rows, most, now);
  if (c.most_rows == 1) return true;
  const size_t words = (size_t)c.n + 1, bytes = words * sizeof *host;
  if (cuda->staged_chunks != words || memcmp(host, now, bytes) != 0) {
    cuda->staged_chunks = 0;
    void *device = aii_cuda_grow(cuda, &cuda->chunks, bytes, "device memory for chunks");
    if (device == NULL || !aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel")) return false;
    memcpy(host, now, bytes);
    cudaError_t rc = cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream);
    if (!aii_cuda_check(cuda, rc, "the chunks of a pass")) return false;
    cuda->staged_chunks = words;
  }
  *out = (aii_cuda_chunks){cuda->chunks.ptr, host, c.n, c.most_rows};
  return true;
}

/* ---- angles ---- */

static aii_cuda_angles *angles_of(aii_cuda *cuda, const aii_rope *rope)
{
  for (int i = 0; i < AII_CUDA_ROPES; i++) {
    aii_cuda_angles *a = &cuda->ropes[i];
    if (a->inv_freq == rope->inv_freq && a->n_rot == rope->n_rot && a->factor == rope->attn_factor) return a;
  }
  aii_cuda_angles *a = &cuda->ropes[cuda->next_rope++ % AII_CUDA_ROPES];
  cuda->epoch++;
  a->inv_freq = rope->inv_freq;
  a->n_rot = rope->n_rot;
  a->factor = rope->attn_factor;
  a->n_pos = 0;
  return a;
}

static void fill_angles(const aii_rope *rope, uint32_t n_pos, float *out)
{
  for (uint32_t pos = 0; pos < n_pos; pos++, out += rope->n_rot) {
    for (uint32_t i = 0; i < rope->n_rot / 2; i++) {
      double angle = (double)((float)pos * rope->inv_freq[i]);
      out[i] = (float)cos(angle) * rope->attn_factor;
      out[rope->n_rot / 2 + i] = (float)sin(angle) * rope->attn_factor;
    }
  }
}

const float *aii_cuda_stage_angles(aii_cuda *cuda, const aii_rope *rope, const aii_rows *rows)
{
  uint32_t want = 0;
  for (uint32_t r = 0; r < rows->n_rows; r++) want = AII_MAX(want, rows->pos[r] + 1);
  aii_cuda_angles *a = angles_of(cuda, rope);
  if (cuda->step != NULL) cuda->step->ropes |= 1u << (a - cuda->ropes);
  if (a->n_pos >= want) return a->device.ptr;
  uint32_t n_pos = 256;
  while (n_pos < want) n_pos *= 2;
  size_t bytes = (size_t)n_pos * rope->n_rot * sizeof(float);
  float *host = aii_new_raw(cuda->base.mem, bytes);
  if (host == NULL) {
    aii_cuda_fail(cuda, AIINFRA_ENOMEM, 0, "host memory for angles");
    return NULL;
  }
  fill_angles(rope, n_pos, host);
  void *device = aii_cuda_grow(cuda, &a->device, bytes, "device memory for angles");
  bool done =
      device != NULL &&
      aii_cuda_check(cuda, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream), "angles") &&
      aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "angles");
  aii_del(cuda->base.mem, host, bytes);
  if (!done) return NULL;
  a->n_pos = n_pos;
  return a->device.ptr;
}

/* ---- slopes ---- */

const float *aii_cuda_stage_slopes(aii_cuda *cuda, float alibi, uint32_t n_heads)
{
  if (cuda->alibi == alibi && cuda->n_slopes == n_heads) return cuda->slopes.ptr;
  cuda->epoch++;
  size_t bytes = n_heads * sizeof(float);
  float *host = aii_new_raw(cuda->base.mem, bytes), *device = NULL;
  uint32_t n = 1;
  while (2 * n <= n_heads) n *= 2;
  float step = alibi / (float)n;
  if (host == NULL) aii_cuda_fail(cuda, AIINFRA_ENOMEM, 0, "host memory for slopes");
  else device = aii_cuda_grow(cuda, &cuda->slopes, bytes, "device memory for slopes");
  for (uint32_t h = 0; h < n_heads && host != NULL; h++)
    host[h] = h < n ? exp2f(-step * (float)(h + 1)) : exp2f(-step * ((float)(h - n) + 0.5f));
  bool done =
      device != NULL &&
      aii_cuda_check(cuda, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, cuda->stream), "slopes") &&
      aii_cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "slopes");
  aii_del(cuda->base.mem, host, bytes);
  cuda->alibi = done ? alibi : 0;
  cuda->n_slopes = done ? n_heads : 0;
  return done ? device : NULL;
}

void aii_cuda_stage_free(aii_cuda *cuda)
{
  (void)cudaFree(cuda->staged.ptr);
  (void)cudaFree(cuda->chunks.ptr);
  (void)cudaFree(cuda->slopes.ptr);
  for (int i = 0; i < AII_CUDA_ROPES; i++) (void)cudaFree(cuda->ropes[i].device.ptr);
  (void)cudaFreeHost(cuda->pinned.ptr);
  (void)cudaFreeHost(cuda->host_rows.ptr);
  (void)cudaFreeHost(cuda->host_chunks.ptr);
}
