/* src/backend/cpu_cache.c - how the CPU keeps keys and values in the cache.
 *
 * A head's run of a block is cut into groups of positions, laid out as kernels.h says: 16 of them, or all of a block that
 * has fewer. Attention wants groups of 16: those of small blocks are put together in memory of its own.
 */
#include "src/backend/cpu.h"

#define ALONE_ELEMENTS (64u << 10)

bool aii_cpu_kv_takes(const aii_kv_view *kv)
{
  if (kv->type == AII_Q8_0) return kv->head_dim % AII_QBLOCK == 0 && kv->value_dim % AII_QBLOCK == 0;
  return kv->type == AII_F32 || kv->type == AII_F16;
}

/* Positions in a group as it lies in the cache. */
static uint32_t width_of(const aii_kv_view *kv)
{
  return AII_MIN(kv->block_tokens, AII_ATTN_GROUP);
}

aii_cpu_kv aii_cpu_kv_of(const aii_kv_view *kv, uint32_t layer)
{
  aii_fmt fmt = aii_cpu_fmt(kv->type);
  uint32_t width = width_of(kv);
  size_t keys = aii_fmt_row_bytes(fmt, kv->head_dim), values = aii_fmt_row_bytes(fmt, kv->value_dim);
  return (aii_cpu_kv){.view = kv,
                      .fmt = fmt,
                      .width = width,
                      .base = (char *)kv->base + layer * kv->layer_bytes,
                      .keys_bytes = width * keys,
                      .group_bytes = width * (keys + values),
                      .head_bytes = kv->block_tokens * (keys + values),
                      .work_bytes = width == AII_ATTN_GROUP ? 0 : (AII_ATTN_GROUP + 1) * AII_MAX(keys, values)};
}

/* Where the group with position `within` of a block begins; one of values follows that of their keys. A block outside
 * the cache counts as the first: told by kv_write, never read or written. */
static char *group_at(const aii_cpu_kv *kv, aii_attn_part part, uint32_t head, size_t block, uint32_t within)
{
  if (block >= kv->view->n_blocks) block = 0;
  return kv->base + block * kv->view->block_bytes + head * kv->head_bytes + within / kv->width * kv->group_bytes +
         (part == AII_ATTN_KEYS ? 0 : kv->keys_bytes);
}

const void *aii_cpu_kv_group(const aii_cpu_kv *kv, aii_attn_part part, uint32_t head, const uint32_t *table,
                             uint32_t first, uint32_t end, void *work)
{
  uint32_t tokens = kv->view->block_tokens, dim = part == AII_ATTN_KEYS ? kv->view->head_dim : kv->view->value_dim;
  if (kv->width == AII_ATTN_GROUP) return group_at(kv, part, head, table[first / tokens], first % tokens);
  char *row = (char *)work + AII_ATTN_GROUP * aii_fmt_row_bytes(kv->fmt, dim);
  for (uint32_t p = first; p < first + AII_ATTN_GROUP; p++) {
    if (p < end) {
      const void *from = group_at(kv, part, head, table[p / tokens], p % tokens);
      aii_attn_get(part, kv->fmt, dim, from, kv->width, p % kv->width, row);
    }
    aii_attn_put(part, kv->fmt, dim, row, work, AII_ATTN_GROUP, p - first); /* behind the end: any row */
  }
  return work;
}

/* ---- writing ---- */

typedef struct write_job {
  aii_cpu *cpu;
  aii_cpu_kv kv;
  const aii_rows *rows;
  const float *k, *v;
  char *row; /* [worker] of row_bytes */
  size_t row_bytes;
} write_job;

static void write_row(const write_job *job, aii_attn_part part, uint32_t head, size_t block, uint32_t within,
                      const float *x, char *row)
{
  const aii_cpu_kv *kv = &job->kv;
  uint32_t dim = part == AII_ATTN_KEYS ? kv->view->head_dim : kv->view->value_dim;
  job->cpu->k->quant[kv->fmt](x, dim, row);
  aii_attn_put(part, kv->fmt, dim, row, group_at(kv, part, head, block, within), kv->width, within % kv->width);
}

static void write_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const write_job *job = arg;
  const aii_kv_view *kv = job->kv.view;
  char *row = job->row + worker * job->row_bytes;
  for (size_t r = first; r < end; r++) {
    uint32_t pos = job->rows->pos[r], within = pos % kv->block_tokens;
    uint32_t block = job->rows->tables[job->rows->seq[r]][pos / kv->block_tokens];
    if (block >= kv->n_blocks) continue;
    for (uint32_t h = 0; h < kv->n_kv_heads; h++) {
      size_t from = r * kv->n_kv_heads + h;
      write_row(job, AII_ATTN_KEYS, h, block, within, job->k + from * kv->head_dim, row);
      write_row(job, AII_ATTN_VALUES, h, block, within, job->v + from * kv->value_dim, row);
    }
  }
}

void aii_cpu_kv_write(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows, const float *k,
                      const float *v)
{
  write_job job = {.cpu = aii_cpu_of(be), .rows = rows, .k = k, .v = v};
  if (!aii_cpu_kv_takes(kv) || layer >= kv->n_layers) {
    aii_cpu_fail(job.cpu, AIINFRA_ENOTSUP, "a KV cache of this type or layer");
    return;
  }
  job.kv = aii_cpu_kv_of(kv, layer);
  for (uint32_t r = 0; r < rows->n_rows; r++)
    if (rows->tables[rows->seq[r]][rows->pos[r] / kv->block_tokens] >= kv->n_blocks)
      aii_cpu_fail(job.cpu, AIINFRA_EINTERNAL, "a block table names a block outside the KV cache");
  job.row_bytes = aii_fmt_row_bytes(aii_cpu_fmt(kv->type), AII_MAX(kv->head_dim, kv->value_dim));
  job.row_bytes = (job.row_bytes + 63) / 64 * 64;
  job.row = aii_cpu_scratch(job.cpu, aii_pool_threads(job.cpu->pool) * job.row_bytes);
  if (job.row == NULL) return;
  size_t elements = (size_t)rows->n_rows * kv->n_kv_heads * (kv->head_dim + kv->value_dim);
  aii_cpu_for(job.cpu, rows->n_rows, 16, elements < ALONE_ELEMENTS, write_range, &job);
}
