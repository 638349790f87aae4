/* src/backend/cpu_attention.c - attention over the paged cache, by an online softmax.
 *
 * Keys are taken in tiles of AII_ATTN_TILE positions that begin at absolute multiples of it. For each query
 *
 *   m' = max(m, max of the tile's scores);  l = l * exp(m - m') + sum of exp(score - m');
 *   acc = acc * exp(m - m') + sum of exp(score - m') * value, position by position
 *
 * so the result depends on the position and the window (both ways: and the sequence's length) alone: not on the rows computed with it, not on the size of
 * blocks, not on threads. A tile that a query does not see at all is not visited for it.
 *
 * A unit of work is some adjacent rows of a sequence times the query heads of one KV head: they share the keys and
 * values they read. Halves are turned to floats once a tile for all of them; floats are gathered from their blocks when
 * there are enough queries to gain by it.
 */
#include <math.h>

#include "src/backend/cpu.h"

#define UNIT_QUERIES 16
#define GATHER_QUERIES 4 /* with more than these, copying a tile costs less than many short calls */
#define ALONE_PRODUCTS (256u << 10)

typedef struct attention_job {
  aii_cpu *cpu;
  const aii_kv_view *kv;
  const aii_rows *rows;
  const aii_attn *how;
  const float *sinks;    /* NULL: none */
  uint32_t layer, group; /* group: query heads of a KV head */
  const float *q;
  float *out;
  const uint32_t *chunks; /* first rows of the units' row ranges, n_chunks + 1 of them */
  const uint32_t *ends;   /* [n_rows] tokens of the row's sequence; NULL: rows see backwards only */
  char *scratch;
  size_t scratch_bytes; /* of a worker */
} attention_job;

/* A worker's memory for one unit; `max_q` queries. */
typedef struct unit {
  uint32_t first, n_rows, n_q, head;
  float *q, *acc, *scores, *m, *l; /* [n_q][head_dim], [n_q][value_dim], [n_q][tile], [n_q] twice */
  float *keys, *values;            /* [tile][head_dim], [tile][value_dim], when gathered */
  bool gathered;
  const uint32_t *table;
} unit;

static uint32_t max_queries(uint32_t group)
{
  return AII_MAX(group, UNIT_QUERIES);
}

static size_t unit_floats(uint32_t max_q, const aii_kv_view *kv)
{
  size_t dims = (size_t)kv->head_dim + kv->value_dim;
  return max_q * (dims + AII_ATTN_TILE + 2) + AII_ATTN_TILE * dims;
}

static void unit_layout(unit *u, float *p, uint32_t max_q, const aii_kv_view *kv)
{
  u->q = p;
  u->acc = u->q + (size_t)max_q * kv->head_dim;
  u->keys = u->acc + (size_t)max_q * kv->value_dim;
  u->values = u->keys + (size_t)AII_ATTN_TILE * kv->head_dim;
  u->scores = u->values + (size_t)AII_ATTN_TILE * kv->value_dim;
  u->m = u->scores + (size_t)max_q * AII_ATTN_TILE;
  u->l = u->m + max_q;
}

/* Positions first..end that row r sees. */
static void visible(const attention_job *job, uint32_t r, uint32_t *first, uint32_t *end)
{
  uint32_t pos = job->rows->pos[r], window = job->how->window;
  if (job->ends != NULL) {
    uint32_t half = window > 0 ? window / 2 : UINT32_MAX;
    *first = pos > half ? pos - half : 0;
    *end = job->ends[r] - pos > half ? pos + half + 1 : job->ends[r];
    return;
  }
  *first = window > 0 && pos >= window ? pos - window + 1 : 0;
  *end = pos + 1;
}

/* Where position p of the unit's sequence lies, and how many positions (below end) follow each other there. */
static uint32_t run_at(const attention_job *job, const unit *u, uint32_t p, uint32_t end, const char **keys,
                       const char **values)
{
  const aii_kv_view *kv = job->kv;
  uint32_t within = p % kv->block_tokens;
  size_t block = u->table[p / kv->block_tokens];
  if (block >= kv->n_blocks) block = 0; /* told by kv_write; never read outside the cache */
  const char *base = (const char *)kv->base + block * kv->block_bytes + job->layer * kv->layer_bytes;
  size_t row = (size_t)u->head * kv->block_tokens + within;
  aii_fmt fmt = aii_cpu_fmt(kv->type);
  *keys = base + row * aii_fmt_row_bytes(fmt, kv->head_dim);
  *values = base + kv->value_offset + row * aii_fmt_row_bytes(fmt, kv->value_dim);
  return AII_MIN(kv->block_tokens - within, end - p);
}

/* The same as floats; when gathered, in u->keys and u->values, a whole tile from position `tile`. */
static uint32_t float_run_at(const attention_job *job, const unit *u, uint32_t tile, uint32_t p, uint32_t end,
                             const float **keys, const float **values)
{
  if (u->gathered) {
    *keys = u->keys + (size_t)(p - tile) * job->kv->head_dim;
    *values = u->values + (size_t)(p - tile) * job->kv->value_dim;
    return end - p;
  }
  const char *k, *v;
  uint32_t n = run_at(job, u, p, end, &k, &v);
  *keys = (const float *)(const void *)k;
  *values = (const float *)(const void *)v;
  return n;
}

static void gather_tile(const attention_job *job, const unit *u, uint32_t tile, uint32_t first, uint32_t end)
{
  size_t key_dim = job->kv->head_dim, value_dim = job->kv->value_dim;
  const aii_kernels *k = job->cpu->k;
  aii_fmt fmt = aii_cpu_fmt(job->kv->type);
  for (uint32_t p = first, n; p < end; p += n) {
    const char *keys, *values;
    n = run_at(job, u, p, end, &keys, &values);
    k->dequant[fmt](keys, n * key_dim, u->keys + (p - tile) * key_dim);
    k->dequant[fmt](values, n * value_dim, u->values + (p - tile) * value_dim);
  }
}

/* Slopes of ALiBi: powers of two for the greatest power of two of heads, those half way between for the others. */
static float slope_of(const attention_job *job, uint32_t head)
{
  uint32_t n = 1;
  while (2 * n <= job->how->n_heads) n *= 2;
  float step = job->how->alibi / (float)n;
  return head < n ? exp2f(-step * (float)(head + 1)) : exp2f(-step * ((float)(head - n) + 0.5f));
}

/* Scores first..end of query i lose what their distance costs; s begins at position `tile`. */
static void add_distance(const attention_job *job, const unit *u, uint32_t i, uint32_t tile, uint32_t first,
                         uint32_t end, float *s)
{
  uint32_t pos = job->rows->pos[u->first + i / job->group];
  float slope = slope_of(job, u->head * job->group + i % job->group);
  for (uint32_t j = first; j < end; j++) {
    uint32_t p = tile + j;
    s[j] -= slope * (float)(p > pos ? p - pos : pos - p);
  }
}

/* Turns the scores of query i into weights; first..end are visible, as offsets in the tile. */
static void soften(const attention_job *job, unit *u, uint32_t i, uint32_t tile, uint32_t first, uint32_t end)
{
  const aii_kernels *k = job->cpu->k;
  uint32_t dim = job->kv->value_dim;
  float *s = u->scores + (size_t)i * AII_ATTN_TILE;
  if (job->how->softcap > 0) k->softcap(s + first, job->how->softcap, end - first);
  if (job->how->alibi > 0) add_distance(job, u, i, tile, first, end, s);
  float top = k->max(s + first, end - first);
  for (uint32_t j = 0; j < first; j++) s[j] = -INFINITY;
  for (uint32_t j = end; j < AII_ATTN_TILE; j++) s[j] = -INFINITY;
  if (top > u->m[i]) {
    float factor = u->m[i] - top;
    k->exp(&factor, 1, &factor);
    u->l[i] *= factor;
    k->scale(u->acc + (size_t)i * dim, factor, dim);
    u->m[i] = top;
  }
  u->l[i] += k->exp_sum(s, AII_ATTN_TILE, u->m[i]);
}

/* acc of queries i..i+n_q += weights * values over positions first..end of the tile. */
static void add_values(const attention_job *job, unit *u, uint32_t tile, uint32_t i, uint32_t n_q, uint32_t first,
                       uint32_t end)
{
  uint32_t dim = job->kv->value_dim;
  for (uint32_t p = first, n; p < end; p += n) {
    const float *keys, *values;
    n = float_run_at(job, u, tile, p, end, &keys, &values);
    job->cpu->k->attn_values(u->scores + (size_t)i * AII_ATTN_TILE + (p - tile), AII_ATTN_TILE, n_q, values, n, dim,
                             u->acc + (size_t)i * dim);
  }
}

/* One tile: positions tile..tile_end, of which some row sees first..tile_end. */
static void visit_tile(const attention_job *job, unit *u, uint32_t tile, uint32_t first, uint32_t tile_end)
{
  if (u->gathered) gather_tile(job, u, tile, first, tile_end);
  for (uint32_t p = first, n; p < tile_end; p += n) {
    const float *keys, *values;
    n = float_run_at(job, u, tile, p, tile_end, &keys, &values);
    job->cpu->k->attn_scores(u->q, u->n_q, keys, n, job->kv->head_dim, job->how->scale, u->scores + (p - tile),
                             AII_ATTN_TILE);
  }
  bool whole = true; /* all rows see all of it: one call for their values */
  for (uint32_t r = 0; r < u->n_rows; r++) {
    uint32_t from, to;
    visible(job, u->first + r, &from, &to);
    from = AII_MAX(from, tile);
    to = AII_MIN(to, tile_end);
    whole = whole && from == first && to == tile_end;
    for (uint32_t g = 0; g < job->group && from < to; g++)
      soften(job, u, r * job->group + g, tile, from - tile, to - tile);
  }
  if (whole) {
    add_values(job, u, tile, 0, u->n_q, first, tile_end);
    return;
  }
  for (uint32_t r = 0; r < u->n_rows; r++) {
    uint32_t from, to;
    visible(job, u->first + r, &from, &to);
    add_values(job, u, tile, r * job->group, job->group, AII_MAX(from, tile), AII_MIN(to, tile_end));
  }
}

static void run_unit(const attention_job *job, unit *u)
{
  uint32_t key_dim = job->kv->head_dim, dim = job->kv->value_dim, first, end, last_first, last_end;
  size_t heads = (size_t)u->first * job->how->n_heads + (size_t)u->head * job->group; /* in front of the unit's first */
  u->n_q = u->n_rows * job->group;
  u->gathered = job->kv->type != AII_F32 || u->n_q > GATHER_QUERIES;
  u->table = job->rows->tables[job->rows->seq[u->first]];
  for (uint32_t r = 0; r < u->n_rows; r++)
    memcpy(u->q + (size_t)r * job->group * key_dim, job->q + (heads + (size_t)r * job->how->n_heads) * key_dim,
           (size_t)job->group * key_dim * sizeof(float));
  memset(u->acc, 0, (size_t)u->n_q * dim * sizeof(float));
  for (uint32_t i = 0; i < u->n_q; i++) { /* a sink is a key that was seen first, of value 0 */
    u->m[i] = job->sinks != NULL ? job->sinks[u->head * job->group + i % job->group] : -INFINITY;
    u->l[i] = job->sinks != NULL ? 1 : 0;
  }
  visible(job, u->first, &first, &end);
  visible(job, u->first + u->n_rows - 1, &last_first, &last_end); /* rows ascend: the last sees furthest */
  for (uint32_t tile = first / AII_ATTN_TILE * AII_ATTN_TILE; tile < last_end; tile += AII_ATTN_TILE)
    visit_tile(job, u, tile, AII_MAX(tile, first), AII_MIN(tile + AII_ATTN_TILE, last_end));
  for (uint32_t r = 0; r < u->n_rows; r++) {
    for (uint32_t g = 0; g < job->group; g++) {
      uint32_t i = r * job->group + g;
      job->cpu->k->scale(u->acc + (size_t)i * dim, 1 / u->l[i], dim);
    }
    memcpy(job->out + (heads + (size_t)r * job->how->n_heads) * dim, u->acc + (size_t)r * job->group * dim,
           (size_t)job->group * dim * sizeof(float));
  }
}

static void attention_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const attention_job *job = arg;
  unit u;
  unit_layout(&u, (float *)(void *)(job->scratch + worker * job->scratch_bytes), max_queries(job->group), job->kv);
  for (size_t i = first; i < end; i++) {
    size_t chunk = i / job->kv->n_kv_heads;
    u.head = (uint32_t)(i % job->kv->n_kv_heads);
    u.first = job->chunks[chunk];
    u.n_rows = job->chunks[chunk + 1] - u.first;
    run_unit(job, &u);
  }
}

/* The tokens of each row's sequence, all of which are here. */
static const uint32_t *find_ends(const aii_rows *rows, uint32_t *ends)
{
  for (uint32_t r = rows->n_rows; r-- > 0;)
    ends[r] = r + 1 < rows->n_rows && rows->seq[r + 1] == rows->seq[r] ? ends[r + 1] : rows->pos[r] + 1;
  return ends;
}

/* Cuts the rows into ranges of one sequence, few enough for a unit; returns their number. */
static size_t cut_chunks(const aii_rows *rows, uint32_t group, uint32_t *chunks)
{
  uint32_t most = max_queries(group) / group;
  size_t n = 0;
  for (uint32_t r = 0; r < rows->n_rows; r++)
    if (r == 0 || rows->seq[r] != rows->seq[r - 1] || r - chunks[n - 1] == most) chunks[n++] = r;
  chunks[n] = rows->n_rows;
  return n;
}

void aii_cpu_attention(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows,
                       const aii_attn *how, const float *q, float *out)
{
  uint32_t n_heads = how->n_heads;
  aii_cpu *cpu = aii_cpu_of(be);
  bool shaped = kv->n_kv_heads > 0 && n_heads > 0 && n_heads % kv->n_kv_heads == 0 && layer < kv->n_layers;
  if (!shaped || (kv->type != AII_F32 && kv->type != AII_F16)) {
    aii_cpu_fail(cpu, AIINFRA_ENOTSUP, "attention over a KV cache of this type or shape");
    return;
  }
  attention_job job = {.cpu = cpu,
                       .kv = kv,
                       .rows = rows,
                       .how = how,
                       .sinks = aii_cpu_vector_of(how->sinks),
                       .layer = layer,
                       .group = n_heads / kv->n_kv_heads,
                       .q = q,
                       .out = out};
  size_t chunk_bytes = ((2 * (size_t)rows->n_rows + 1) * sizeof(uint32_t) + 63) / 64 * 64;
  job.scratch_bytes = (unit_floats(max_queries(job.group), kv) * sizeof(float) + 63) / 64 * 64;
  char *scratch = aii_cpu_scratch(cpu, chunk_bytes + aii_pool_threads(cpu->pool) * job.scratch_bytes);
  if (scratch == NULL) return;
  uint32_t *chunks = (uint32_t *)(void *)scratch;
  size_t n_chunks = cut_chunks(rows, job.group, chunks);
  job.chunks = chunks;
  if (how->both_ways) job.ends = find_ends(rows, chunks + rows->n_rows + 1);
  job.scratch = scratch + chunk_bytes;
  uint64_t products = 0;
  for (uint32_t r = 0; r < rows->n_rows; r++) {
    uint32_t first, end;
    visible(&job, r, &first, &end);
    products += (uint64_t)(end - first) * n_heads * kv->head_dim;
  }
  aii_cpu_for(cpu, n_chunks * kv->n_kv_heads, 1, products < ALONE_PRODUCTS, attention_range, &job);
}
