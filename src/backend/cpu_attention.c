/* src/backend/cpu_attention.c - attention over the paged cache, by an online softmax.
 *
 * Keys are taken in tiles of AII_ATTN_TILE positions that begin at absolute multiples of it. For each query
 *
 *   m' = max(m, max of the tile's scores);  l = l * exp(m - m') + sum of exp(score - m');
 *   acc = acc * exp(m - m') + sum of exp(score - m') * value, position by position
 *
 * Every SPLIT positions, at absolute multiples again, this begins anew, and the parts are merged in their order in the
 * same way. So the result depends on the position and the window (both ways: and the sequence's length) alone: not on
 * the rows computed with it, not on the size of blocks, not on threads, which may take the splits of a long sequence
 * apart. What a query does not see at all is not visited for it.
 *
 * A unit of work is some adjacent rows of a sequence times the query heads of one KV head: they share the keys and
 * values they read, which the kernels take as they lie in the cache.
 */
#include <math.h>
#include <stdatomic.h>

#include "src/backend/cpu.h"

#define UNIT_QUERIES 64
#define SPLIT 512             /* a multiple of AII_ATTN_TILE */
#define UNITS_PER_THREAD 8    /* fewer are split, */
#define SPLIT_BYTES (4 << 20) /* unless their parts take more than this */
#define ALONE_PRODUCTS (256u << 10)

/* The softmax of some queries over some positions: [n_q][value_dim], [n_q], [n_q]. */
typedef struct part {
  float *acc, *m, *l;
} part;

typedef struct attention_job {
  aii_cpu *cpu;
  const aii_kv_view *kv;
  const aii_rows *rows;
  const aii_attn *how;
  const float *sinks;           /* NULL: none */
  uint32_t layer, group, max_q; /* group: query heads of a KV head; max_q: queries of a unit, at most */
  aii_fmt fmt;
  size_t key_bytes, value_bytes; /* of a row in the cache */
  const float *q;
  float *out;
  const uint32_t *chunks; /* first rows of the units' row ranges, n_chunks + 1 of them */
  const uint32_t *ends;   /* [n_rows] tokens of the row's sequence; NULL: rows see backwards only */
  uint32_t n_splits;      /* that are work of their own; 0: a unit does all of its own */
  float *parts;           /* [units][n_splits] of them */
  atomic_uint *waiting;   /* [units] splits that are not done */
  char *scratch;
  size_t scratch_bytes; /* of a worker */
} attention_job;

/* Where the keys and values of a tile lie. Those that are not visible are some visible one's. */
typedef struct tile {
  uint32_t first; /* position */
  const void *keys[AII_ATTN_TILE], *values[AII_ATTN_TILE];
} tile;

/* A worker's memory for one unit. */
typedef struct unit {
  uint32_t first, n_rows, n_q, head;
  uint32_t from, end; /* positions that some row sees */
  float *q, *scores;  /* [n_q][head_dim], [n_q][tile] */
  part split, total;
  tile tiles[2]; /* this one, the one behind it */
  const uint32_t *table;
} unit;

static size_t part_floats(const attention_job *job)
{
  return job->max_q * ((size_t)job->kv->value_dim + 2);
}

static part part_at(const attention_job *job, float *p)
{
  float *m = p + job->max_q * (size_t)job->kv->value_dim;
  return (part){p, m, m + job->max_q};
}

static size_t unit_floats(const attention_job *job)
{
  return job->max_q * ((size_t)job->kv->head_dim + AII_ATTN_TILE) + 2 * part_floats(job);
}

static void unit_layout(const attention_job *job, unit *u, float *p)
{
  u->q = p;
  u->scores = u->q + job->max_q * (size_t)job->kv->head_dim;
  u->split = part_at(job, u->scores + (size_t)job->max_q * AII_ATTN_TILE);
  u->total = part_at(job, u->split.acc + part_floats(job));
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
  *keys = base + row * job->key_bytes;
  *values = base + kv->value_offset + row * job->value_bytes;
  return AII_MIN(kv->block_tokens - within, end - p);
}

static void find_tile(const attention_job *job, const unit *u, uint32_t at, tile *t)
{
  uint32_t first = AII_MAX(at, u->from), end = AII_MIN(at + AII_ATTN_TILE, u->end), j = first - at;
  t->first = at;
  for (uint32_t p = first, n; p < end; p += n) {
    const char *keys, *values;
    n = run_at(job, u, p, end, &keys, &values);
    for (uint32_t i = 0; i < n; i++, j++) {
      t->keys[j] = keys + i * job->key_bytes;
      t->values[j] = values + i * job->value_bytes;
    }
  }
  for (uint32_t i = 0; i < first - at; i++) {
    t->keys[i] = t->keys[first - at];
    t->values[i] = t->values[first - at];
  }
  for (; j < AII_ATTN_TILE; j++) {
    t->keys[j] = t->keys[end - at - 1];
    t->values[j] = t->values[end - at - 1];
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

/* Scores first..end of query i lose what their distance costs; s begins at position `at`. */
static void add_distance(const attention_job *job, const unit *u, uint32_t i, uint32_t at, uint32_t first, uint32_t end,
                         float *s)
{
  uint32_t pos = job->rows->pos[u->first + i / job->group];
  float slope = slope_of(job, u->head * job->group + i % job->group);
  for (uint32_t j = first; j < end; j++) {
    uint32_t p = at + j;
    s[j] -= slope * (float)(p > pos ? p - pos : pos - p);
  }
}

/* Turns the scores of query i into weights; first..end are visible, as offsets in the tile. */
static void soften(const attention_job *job, unit *u, uint32_t i, uint32_t at, uint32_t first, uint32_t end)
{
  const aii_kernels *k = job->cpu->k;
  uint32_t dim = job->kv->value_dim;
  float *s = u->scores + (size_t)i * AII_ATTN_TILE;
  if (job->how->softcap > 0) k->softcap(s + first, job->how->softcap, end - first);
  if (job->how->alibi > 0) add_distance(job, u, i, at, first, end, s);
  float top = k->max(s + first, end - first);
  for (uint32_t j = 0; j < first; j++) s[j] = -INFINITY;
  for (uint32_t j = end; j < AII_ATTN_TILE; j++) s[j] = -INFINITY;
  if (top > u->split.m[i]) {
    float factor = u->split.m[i] - top;
    k->exp(&factor, 1, &factor);
    u->split.l[i] *= factor;
    k->scale(u->split.acc + (size_t)i * dim, factor, dim);
    u->split.m[i] = top;
  }
  u->split.l[i] += k->exp_sum(s, AII_ATTN_TILE, u->split.m[i]);
}

/* acc of queries i..i+n_q += weights * values over offsets first..end of the tile; then come those of `next`, or NULL. */
static void add_values(const attention_job *job, unit *u, const tile *t, const tile *next, uint32_t i, uint32_t n_q,
                       uint32_t first, uint32_t end)
{
  uint32_t dim = job->kv->value_dim;
  const aii_attn_tile values = {job->fmt, dim, end - first, t->values + first,
                                next != NULL ? next->keys + first : NULL};
  job->cpu->k->attn_values(&values, u->scores + (size_t)i * AII_ATTN_TILE + first, AII_ATTN_TILE, n_q,
                           u->split.acc + (size_t)i * dim);
}

static void visit_tile(const attention_job *job, unit *u, const tile *t, const tile *next)
{
  uint32_t at = t->first, first = AII_MAX(at, u->from) - at, end = AII_MIN(AII_ATTN_TILE, u->end - at);
  const aii_attn_tile keys = {job->fmt, job->kv->head_dim, end - first, t->keys + first, t->values + first};
  job->cpu->k->attn_scores(&keys, u->q, u->n_q, u->scores + first, AII_ATTN_TILE);
  bool whole = true; /* all rows see all of it: one call for their values */
  uint32_t from, to;
  for (uint32_t r = 0; r < u->n_rows; r++) {
    visible(job, u->first + r, &from, &to);
    from = AII_MAX(from, at + first) - at;
    to = AII_MIN(to, at + end) - AII_MIN(to, at);
    whole = whole && from == first && to == end;
    for (uint32_t g = 0; g < job->group && from < to; g++) soften(job, u, r * job->group + g, at, from, to);
  }
  if (whole) {
    add_values(job, u, t, next, 0, u->n_q, first, end);
    return;
  }
  for (uint32_t r = 0; r < u->n_rows; r++) {
    visible(job, u->first + r, &from, &to);
    from = AII_MAX(from, at + first) - at;
    to = AII_MIN(to, at + end) - AII_MIN(to, at);
    if (from < to) add_values(job, u, t, NULL, r * job->group, job->group, from, to);
  }
}

/* The queries over what they see of one split, into u->split. */
static void run_split(const attention_job *job, unit *u, uint32_t split)
{
  uint32_t at = AII_MAX(split * SPLIT, u->from / AII_ATTN_TILE * AII_ATTN_TILE);
  uint32_t end = AII_MIN(split * SPLIT + SPLIT, u->end), current = 0;
  memset(u->split.acc, 0, (size_t)u->n_q * job->kv->value_dim * sizeof(float));
  memset(u->split.l, 0, u->n_q * sizeof(float));
  for (uint32_t i = 0; i < u->n_q; i++) u->split.m[i] = -INFINITY;
  if (at < end) find_tile(job, u, at, &u->tiles[0]);
  for (; at < end; at += AII_ATTN_TILE, current ^= 1) {
    bool more = at + AII_ATTN_TILE < u->end; /* behind the split, too: it is likely to come next */
    if (more) find_tile(job, u, at + AII_ATTN_TILE, &u->tiles[current ^ 1]);
    visit_tile(job, u, &u->tiles[current], more ? &u->tiles[current ^ 1] : NULL);
  }
}

/* A sink is a key that was seen first, of value 0. */
static void begin_total(const attention_job *job, unit *u)
{
  memset(u->total.acc, 0, (size_t)u->n_q * job->kv->value_dim * sizeof(float));
  for (uint32_t i = 0; i < u->n_q; i++) {
    u->total.m[i] = job->sinks != NULL ? job->sinks[u->head * job->group + i % job->group] : -INFINITY;
    u->total.l[i] = job->sinks != NULL ? 1 : 0;
  }
}

static void add_part(const attention_job *job, unit *u, part p)
{
  const aii_kernels *k = job->cpu->k;
  uint32_t dim = job->kv->value_dim;
  for (uint32_t i = 0; i < u->n_q; i++) {
    if (!(p.m[i] > -INFINITY)) continue; /* saw nothing of it */
    float top = AII_MAX(u->total.m[i], p.m[i]), factors[2] = {u->total.m[i] - top, p.m[i] - top};
    k->exp(factors, 2, factors);
    u->total.m[i] = top;
    u->total.l[i] = u->total.l[i] * factors[0] + p.l[i] * factors[1];
    k->scale(u->total.acc + (size_t)i * dim, factors[0], dim);
    k->add_scaled(u->total.acc + (size_t)i * dim, p.acc + (size_t)i * dim, factors[1], dim);
  }
}

static void end_total(const attention_job *job, unit *u)
{
  size_t dim = job->kv->value_dim;
  for (uint32_t r = 0; r < u->n_rows; r++) {
    float *acc = u->total.acc + (size_t)r * job->group * dim;
    for (uint32_t g = 0; g < job->group; g++)
      job->cpu->k->scale(acc + g * dim, 1 / u->total.l[r * job->group + g], dim);
    memcpy(job->out + ((size_t)(u->first + r) * job->how->n_heads + (size_t)u->head * job->group) * dim, acc,
           job->group * dim * sizeof(float));
  }
}

/* Chooses rows and head by the unit's number, and prepares the queries. */
static void begin_unit(const attention_job *job, unit *u, size_t number)
{
  size_t chunk = number / job->kv->n_kv_heads, dim = job->kv->head_dim;
  uint32_t ignored;
  u->head = (uint32_t)(number % job->kv->n_kv_heads);
  u->first = job->chunks[chunk];
  u->n_rows = job->chunks[chunk + 1] - u->first;
  u->n_q = u->n_rows * job->group;
  u->table = job->rows->tables[job->rows->seq[u->first]];
  visible(job, u->first, &u->from, &ignored);
  visible(job, u->first + u->n_rows - 1, &ignored, &u->end); /* rows ascend: the last sees furthest */
  for (uint32_t i = 0; i < u->n_q; i++) {
    size_t row = u->first + i / job->group, head = (size_t)u->head * job->group + i % job->group;
    job->cpu->k->attn_query(job->fmt, job->q + (row * job->how->n_heads + head) * dim, job->kv->head_dim,
                            job->how->scale, u->q + i * dim);
  }
}

static void unit_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const attention_job *job = arg;
  unit u;
  unit_layout(job, &u, (float *)(void *)(job->scratch + worker * job->scratch_bytes));
  for (size_t i = first; i < end; i++) {
    begin_unit(job, &u, i);
    begin_total(job, &u);
    for (uint32_t split = u.from / SPLIT; split * SPLIT < u.end; split++) {
      run_split(job, &u, split);
      add_part(job, &u, u.split);
    }
    end_total(job, &u);
  }
}

/* Whoever does the last split of a unit merges all of them. */
static void split_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const attention_job *job = arg;
  unit u;
  unit_layout(job, &u, (float *)(void *)(job->scratch + worker * job->scratch_bytes));
  for (size_t i = first; i < end; i++) {
    size_t number = i / job->n_splits;
    float *parts = job->parts + number * job->n_splits * part_floats(job);
    begin_unit(job, &u, number);
    u.split = part_at(job, parts + i % job->n_splits * part_floats(job));
    run_split(job, &u, (uint32_t)(i % job->n_splits));
    if (atomic_fetch_sub_explicit(&job->waiting[number], 1, memory_order_acq_rel) > 1) continue;
    begin_total(job, &u);
    for (uint32_t s = 0; s < job->n_splits; s++) add_part(job, &u, part_at(job, parts + s * part_floats(job)));
    end_total(job, &u);
  }
}

/* The tokens of each row's sequence, all of which are here. */
static const uint32_t *find_ends(const aii_rows *rows, uint32_t *ends)
{
  for (uint32_t r = rows->n_rows; r-- > 0;)
    ends[r] = r + 1 < rows->n_rows && rows->seq[r + 1] == rows->seq[r] ? ends[r + 1] : rows->pos[r] + 1;
  return ends;
}

/* Cuts the rows into ranges of one sequence, few enough for a unit; returns their number. chunks may be NULL. */
static size_t cut_chunks(const aii_rows *rows, uint32_t group, uint32_t *chunks, uint32_t *max_rows)
{
  uint32_t most = AII_MAX(UNIT_QUERIES / group, 1), first = 0;
  size_t n = 0;
  *max_rows = 0;
  for (uint32_t r = 0; r < rows->n_rows; r++) {
    if (r == 0 || rows->seq[r] != rows->seq[r - 1] || r - first == most) {
      if (chunks != NULL) chunks[n] = r;
      first = r;
      n++;
    }
    *max_rows = AII_MAX(*max_rows, r + 1 - first);
  }
  if (chunks != NULL) chunks[n] = rows->n_rows;
  return n;
}

/* Units are split when they are too few for the threads. */
static uint32_t count_splits(const attention_job *job, size_t n_units, uint32_t longest)
{
  uint32_t n = (longest + SPLIT - 1) / SPLIT, threads = aii_pool_threads(job->cpu->pool);
  bool few = threads > 1 && n > 1 && n_units < (size_t)threads * UNITS_PER_THREAD;
  return few && n_units * n * part_floats(job) * sizeof(float) <= SPLIT_BYTES ? n : 0;
}

/* About how many positions the rows see in all; *longest: the end of the furthest. */
static uint64_t count_positions(const aii_rows *rows, uint32_t window, uint32_t *longest)
{
  uint64_t positions = 0;
  *longest = 0;
  for (uint32_t r = 0; r < rows->n_rows; r++) {
    uint32_t end = rows->pos[r] + 1;
    positions += window > 0 ? AII_MIN(window, end) : end;
    *longest = AII_MAX(*longest, end);
  }
  return positions;
}

static size_t lines(size_t bytes)
{
  return (bytes + 63) / 64 * 64;
}

/* Cuts the work and lays out its memory; returns the number of units, 0 when memory is out. */
static size_t plan(attention_job *job, uint32_t longest)
{
  const aii_rows *rows = job->rows;
  uint32_t max_rows;
  size_t n_units = cut_chunks(rows, job->group, NULL, &max_rows) * job->kv->n_kv_heads;
  job->max_q = max_rows * job->group;
  job->n_splits = count_splits(job, n_units, longest);
  job->scratch_bytes = lines(unit_floats(job) * sizeof(float));
  size_t chunk_bytes = lines((2 * (size_t)rows->n_rows + 1) * sizeof(uint32_t));
  size_t waiting_bytes = lines(job->n_splits > 0 ? n_units * sizeof *job->waiting : 0);
  size_t part_bytes = lines(n_units * job->n_splits * part_floats(job) * sizeof(float));
  size_t bytes = aii_pool_threads(job->cpu->pool) * job->scratch_bytes;
  char *scratch = aii_cpu_scratch(job->cpu, chunk_bytes + waiting_bytes + part_bytes + bytes);
  if (scratch == NULL) return 0;
  uint32_t *chunks = (uint32_t *)(void *)scratch;
  cut_chunks(rows, job->group, chunks, &max_rows);
  job->chunks = chunks;
  if (job->how->both_ways) job->ends = find_ends(rows, chunks + rows->n_rows + 1);
  job->waiting = (atomic_uint *)(void *)(scratch + chunk_bytes);
  for (size_t i = 0; i < n_units && job->n_splits > 0; i++) atomic_init(&job->waiting[i], job->n_splits);
  job->parts = (float *)(void *)(scratch + chunk_bytes + waiting_bytes);
  job->scratch = scratch + chunk_bytes + waiting_bytes + part_bytes;
  return n_units;
}

void aii_cpu_attention(aii_backend *be, const aii_kv_view *kv, uint32_t layer, const aii_rows *rows,
                       const aii_attn *how, const float *q, float *out)
{
  aii_cpu *cpu = aii_cpu_of(be);
  bool shaped = kv->n_kv_heads > 0 && how->n_heads > 0 && how->n_heads % kv->n_kv_heads == 0 && layer < kv->n_layers;
  if (!shaped || !aii_cpu_kv_takes(kv)) {
    aii_cpu_fail(cpu, AIINFRA_ENOTSUP, "attention over a KV cache of this type or shape");
    return;
  }
  aii_fmt fmt = aii_cpu_fmt(kv->type);
  attention_job job = {.cpu = cpu,
                       .kv = kv,
                       .rows = rows,
                       .how = how,
                       .sinks = aii_cpu_vector_of(how->sinks),
                       .layer = layer,
                       .group = how->n_heads / kv->n_kv_heads,
                       .fmt = fmt,
                       .key_bytes = aii_fmt_row_bytes(fmt, kv->head_dim),
                       .value_bytes = aii_fmt_row_bytes(fmt, kv->value_dim),
                       .q = q,
                       .out = out};
  uint32_t longest;
  uint64_t products = count_positions(rows, how->window, &longest) * how->n_heads * kv->head_dim;
  size_t n_units = plan(&job, longest);
  if (job.n_splits > 0) aii_cpu_for(cpu, n_units * job.n_splits, 1, false, split_range, &job);
  else aii_cpu_for(cpu, n_units, 1, products < ALONE_PRODUCTS, unit_range, &job);
}
