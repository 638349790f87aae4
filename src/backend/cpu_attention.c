/* src/backend/cpu_attention.c - attention over the paged cache, by an online softmax.
 *
 * Keys are taken in tiles of AII_ATTN_TILE positions that begin at absolute multiples of it. For each query, with scores
 * as binary logarithms,
 *
 *   m' = the largest of the tile's scores, if it is above m + 8; else m
 *   l = l * 2^(m - m') + sum of 2^(score - m');
 *   acc = acc * 2^(m - m') + sum of 2^(score - m') * value, position by position
 *
 * Every SPLIT positions, at absolute multiples again, this begins anew, and the parts are merged in their order in the
 * same way. So the result depends on the position and the window (both ways: and the sequence's length) alone: not on
 * the rows computed with it, not on the size of blocks, not on threads, which may take the splits of a long sequence
 * apart. What a query does not see at all is not visited for it.
 *
 * A unit of work is some adjacent rows of a sequence times the query heads of one KV head: they share the keys and
 * values they read. Few queries take these as they lie in the cache; for many, each tile is turned to floats once.
 */
#include <math.h>
#include <stdatomic.h>

#include "src/backend/cpu.h"

#define GROUPS (AII_ATTN_TILE / AII_ATTN_GROUP)
#define UNIT_QUERIES 64
#define OPEN_QUERIES 8        /* more make it worth to turn tiles to floats */
#define ENOUGH_QUERIES 4      /* of a row, that kernels take together */
#define SPLIT 512             /* a multiple of AII_ATTN_TILE */
#define UNITS_PER_THREAD 8    /* fewer are split, */
#define SPLIT_BYTES (4 << 20) /* unless their parts take more than this */
#define ALONE_PRODUCTS (256u << 10)
#define LINE 64
#define LOG2_E 0x1.715476p+0f
#define LOG_2 0x1.62e43p-1f

/* The softmax of some queries over some positions: [n_q][value_dim], [n_q], [n_q]. */
typedef struct part {
  float *acc, *m, *l;
} part;

typedef struct attention_job {
  aii_cpu *cpu;
  const aii_kv_view *kv;
  aii_cpu_kv cache;
  const aii_rows *rows;
  const aii_attn *how;
  const float *sinks;    /* NULL: none */
  uint32_t group, max_q; /* group: query heads of a KV head; max_q: queries of a unit, at most */
  aii_fmt fmt;
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

/* Where the keys and values of a tile lie. Groups without a visible position are some other one's. */
typedef struct tile {
  uint32_t first; /* position */
  const void *keys[GROUPS], *values[GROUPS];
} tile;

/* A worker's memory for one unit. */
typedef struct unit {
  uint32_t first, n_rows, n_q, head;
  uint32_t from, end; /* positions that some row sees */
  float *q, *scores;  /* [n_q][head_dim], [n_q][tile] */
  float *floats;      /* of a tile */
  char *groups;       /* of two tiles, where the cache does not have them whole */
  part split, total;
  float *lanes;  /* [n_q][16]: of split.l */
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

static size_t open_floats(const attention_job *job)
{
  return job->max_q > OPEN_QUERIES ? (size_t)AII_ATTN_TILE * AII_MAX(job->kv->head_dim, job->kv->value_dim) : 0;
}

static size_t lines(size_t bytes)
{
  return (bytes + LINE - 1) / LINE * LINE;
}

static size_t unit_bytes(const attention_job *job)
{
  size_t floats = job->max_q * ((size_t)job->kv->head_dim + AII_ATTN_TILE + AII_ATTN_GROUP) + open_floats(job) +
                  2 * part_floats(job);
  return lines(floats * sizeof(float)) + 2 * GROUPS * 2 * lines(job->cache.work_bytes);
}

/* Scores and floats come first: they are aligned to lines. */
static void unit_layout(const attention_job *job, unit *u, char *p)
{
  u->groups = p;
  u->scores = (float *)(void *)(p + 2 * GROUPS * 2 * lines(job->cache.work_bytes));
  u->lanes = u->scores + (size_t)job->max_q * AII_ATTN_TILE;
  u->floats = u->lanes + (size_t)job->max_q * AII_ATTN_GROUP;
  u->q = u->floats + open_floats(job);
  u->split = part_at(job, u->q + job->max_q * (size_t)job->kv->head_dim);
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

/* The groups of the tile at `at`; *t is tiles[which]. */
static void find_tile(const attention_job *job, unit *u, uint32_t at, uint32_t which)
{
  tile *t = &u->tiles[which];
  uint32_t from = AII_MAX(at, u->from), last = AII_MIN(at + AII_ATTN_TILE, u->end) - 1;
  const size_t each = lines(job->cache.work_bytes);
  char *work = u->groups + which * GROUPS * 2 * each;
  t->first = at;
  for (uint32_t g = (from - at) / AII_ATTN_GROUP; g <= (last - at) / AII_ATTN_GROUP; g++, work += 2 * each) {
    uint32_t p = at + g * AII_ATTN_GROUP;
    t->keys[g] = aii_cpu_kv_group(&job->cache, AII_ATTN_KEYS, u->head, u->table, p, u->end, work);
    t->values[g] = aii_cpu_kv_group(&job->cache, AII_ATTN_VALUES, u->head, u->table, p, u->end, work + each);
  }
  for (uint32_t g = 0; g < GROUPS; g++) {
    uint32_t other = AII_MIN(AII_MAX(g, (from - at) / AII_ATTN_GROUP), (last - at) / AII_ATTN_GROUP);
    t->keys[g] = t->keys[other];
    t->values[g] = t->values[other];
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

/* The scores of query i of row r lose what their distance costs. */
static void add_distance(const attention_job *job, const unit *u, const tile *t, uint32_t r, uint32_t i,
                         const aii_attn_state *s, float *x)
{
  uint32_t pos = job->rows->pos[u->first + r],
           at = t->first + (AII_MAX(t->first, u->from) - t->first) / AII_ATTN_GROUP * AII_ATTN_GROUP;
  float slope = slope_of(job, u->head * job->group + i);
  for (uint32_t j = s->first; j < s->end; j++) {
    uint32_t p = at + j;
    x[j] -= slope * (float)(p > pos ? p - pos : pos - p);
  }
}

/* The queries of row r to one tile, of which they see positions first..end. */
static aii_attn_state state_of(const attention_job *job, const unit *u, const tile *t, uint32_t r, uint32_t n_rows,
                               uint32_t first, uint32_t end)
{
  size_t q = (size_t)r * job->group;
  uint32_t skipped = (AII_MAX(t->first, u->from) - t->first) / AII_ATTN_GROUP * AII_ATTN_GROUP;
  return (aii_attn_state){.n_q = n_rows * job->group,
                          .dim = job->kv->value_dim,
                          .first = first - t->first - skipped,
                          .end = end - t->first - skipped,
                          .scores = u->scores + q * AII_ATTN_TILE,
                          .stride = AII_ATTN_TILE,
                          .m = u->split.m + q,
                          .l = u->lanes + q * AII_ATTN_GROUP,
                          .acc = u->split.acc + q * job->kv->value_dim};
}

/* Positions of the tile that row r sees, all of which are in the cache; none: *first >= *end. */
static void visible_in(const attention_job *job, const unit *u, const tile *t, uint32_t r, uint32_t *first,
                       uint32_t *end)
{
  visible(job, u->first + r, first, end);
  *first = AII_MAX(AII_MAX(*first, t->first), u->from);
  *end = AII_MIN(AII_MIN(*end, t->first + AII_ATTN_TILE), u->end);
}

/* Row r, and all between the first and the last such row, sees all that any row of the unit does. */
static bool sees(const attention_job *job, const unit *u, const tile *t, uint32_t r, uint32_t from, uint32_t to)
{
  uint32_t first, end;
  visible_in(job, u, t, r, &first, &end);
  return first == from && end == to;
}

/* Scores are bent before they become logarithms, which else the queries see to. */
static bool bent(const aii_attn *how)
{
  return how->softcap > 0 || how->alibi > 0;
}

static void bend(const attention_job *job, const unit *u, const tile *t, uint32_t r, const aii_attn_state *s)
{
  const aii_kernels *k = job->cpu->k;
  for (uint32_t i = 0; i < s->n_q; i++) {
    float *x = s->scores + i * s->stride;
    if (job->how->softcap > 0) k->softcap(x + s->first, job->how->softcap, s->end - s->first);
    if (job->how->alibi > 0) add_distance(job, u, t, r + i / job->group, i % job->group, s, x);
    k->scale(x + s->first, LOG2_E, s->end - s->first);
  }
}

/* The tile with its groups as floats, where that is worth it; what comes next is fetched meanwhile. */
static aii_attn_tile opened(const attention_job *job, const unit *u, aii_attn_tile t, const void *groups[GROUPS])
{
  if (u->n_q <= OPEN_QUERIES || job->fmt == AII_FMT_Q8_0) return t;
  const size_t n = (size_t)AII_ATTN_GROUP * t.dim, bytes = aii_fmt_row_bytes(job->fmt, n);
  for (uint32_t g = 0; g < t.n_groups; g++) {
    job->cpu->k->dequant[job->fmt](t.groups[g], n, u->floats + g * n);
    groups[g] = u->floats + g * n;
    for (size_t at = 0; at < bytes && t.next != NULL; at += LINE)
      __builtin_prefetch((const char *)t.next[g] + at, 0, 2);
  }
  return (aii_attn_tile){AII_FMT_F32, t.dim, t.n_groups, groups, NULL};
}

/* Rows are taken one by one, as they see different things, unless all see all and are too few queries each. */
static void visit_tile(const attention_job *job, const unit *u, const tile *t, const tile *next)
{
  const uint32_t from = AII_MAX(t->first, u->from), to = AII_MIN(t->first + AII_ATTN_TILE, u->end);
  const uint32_t g = (from - t->first) / AII_ATTN_GROUP, n = (to - 1 - t->first) / AII_ATTN_GROUP + 1 - g;
  const void *groups[GROUPS];
  aii_attn_tile keys = {job->fmt, job->kv->head_dim, n, t->keys + g, t->values + g};
  aii_attn_tile values = {job->fmt, job->kv->value_dim, n, t->values + g, next != NULL ? next->keys + g : NULL};
  keys = opened(job, u, keys, groups);
  job->cpu->k->attn_scores(&keys, u->q, u->n_q, u->scores, AII_ATTN_TILE);
  values = opened(job, u, values, groups);
  uint32_t step =
      job->group < ENOUGH_QUERIES && sees(job, u, t, 0, from, to) && sees(job, u, t, u->n_rows - 1, from, to)
          ? u->n_rows
          : 1;
  for (uint32_t r = 0; r < u->n_rows; r += step) {
    uint32_t first, end;
    visible_in(job, u, t, r, &first, &end);
    if (first >= end) continue;
    aii_attn_state s = state_of(job, u, t, r, step, first, end);
    if (bent(job->how)) bend(job, u, t, r, &s);
    s.next = values.next != NULL ? *values.next : NULL;
    s.next_bytes = job->cache.keys_bytes;
    job->cpu->k->attn_soften(&s);
    job->cpu->k->attn_values(&values, &s);
    values.next = NULL;
  }
}

/* By halves; destroys them. */
static float sum_of(float lanes[AII_ATTN_GROUP])
{
  for (int w = AII_ATTN_GROUP / 2; w > 0; w /= 2)
    for (int i = 0; i < w; i++) lanes[i] += lanes[i + w];
  return lanes[0];
}

/* The queries over what they see of one split, into u->split. */
static void run_split(const attention_job *job, unit *u, uint32_t split)
{
  uint32_t at = AII_MAX(split * SPLIT, u->from / AII_ATTN_TILE * AII_ATTN_TILE);
  uint32_t end = AII_MIN(split * SPLIT + SPLIT, u->end), current = 0;
  memset(u->split.acc, 0, (size_t)u->n_q * job->kv->value_dim * sizeof(float));
  memset(u->lanes, 0, (size_t)u->n_q * AII_ATTN_GROUP * sizeof(float));
  for (uint32_t i = 0; i < u->n_q; i++) u->split.m[i] = -INFINITY;
  if (at < end) find_tile(job, u, at, 0);
  for (; at < end; at += AII_ATTN_TILE, current ^= 1) {
    bool more = at + AII_ATTN_TILE < u->end; /* behind the split, too: it is likely to come next */
    if (more) find_tile(job, u, at + AII_ATTN_TILE, current ^ 1);
    visit_tile(job, u, &u->tiles[current], more ? &u->tiles[current ^ 1] : NULL);
  }
  for (uint32_t i = 0; i < u->n_q; i++) u->split.l[i] = sum_of(u->lanes + (size_t)i * AII_ATTN_GROUP);
}

/* A sink is a key that was seen first, of value 0. */
static void begin_total(const attention_job *job, unit *u)
{
  memset(u->total.acc, 0, (size_t)u->n_q * job->kv->value_dim * sizeof(float));
  for (uint32_t i = 0; i < u->n_q; i++) {
    u->total.m[i] = job->sinks != NULL ? job->sinks[u->head * job->group + i % job->group] * LOG2_E : -INFINITY;
    u->total.l[i] = job->sinks != NULL ? 1 : 0;
  }
}

static void add_part(const attention_job *job, unit *u, part p)
{
  const aii_kernels *k = job->cpu->k;
  uint32_t dim = job->kv->value_dim;
  for (uint32_t i = 0; i < u->n_q; i++) {
    if (!(p.m[i] > -INFINITY)) continue; /* saw nothing of it */
    if (!(u->total.m[i] > -INFINITY)) {  /* the first: as the sums below have it */
      u->total.m[i] = p.m[i];
      u->total.l[i] = p.l[i];
      memcpy(u->total.acc + (size_t)i * dim, p.acc + (size_t)i * dim, dim * sizeof(float));
      continue;
    }
    float top = AII_MAX(u->total.m[i], p.m[i]), factors[2] = {(u->total.m[i] - top) * LOG_2, (p.m[i] - top) * LOG_2};
    k->exp(factors, 2, factors);
    u->total.m[i] = top;
    u->total.l[i] = u->total.l[i] * factors[0] + p.l[i] * factors[1];
    k->scale(u->total.acc + (size_t)i * dim, factors[0], dim);
    k->add_scaled(u->total.acc + (size_t)i * dim, p.acc + (size_t)i * dim, factors[1], dim);
  }
}

/* Where row r of the unit has its results. */
static float *out_of(const attention_job *job, const unit *u, uint32_t r)
{
  return job->out + ((size_t)(u->first + r) * job->how->n_heads + (size_t)u->head * job->group) * job->kv->value_dim;
}

static void end_total(const attention_job *job, unit *u)
{
  size_t dim = job->kv->value_dim;
  for (uint32_t r = 0; r < u->n_rows; r++) {
    float *acc = u->total.acc + (size_t)r * job->group * dim;
    for (uint32_t g = 0; g < job->group; g++)
      job->cpu->k->scale(acc + g * dim, 1 / u->total.l[r * job->group + g], dim);
    memcpy(out_of(job, u, r), acc, job->group * dim * sizeof(float));
  }
}

/* The queries of row r. */
static const float *queries_of(const attention_job *job, const unit *u, uint32_t r)
{
  return job->q + ((size_t)(u->first + r) * job->how->n_heads + (size_t)u->head * job->group) * job->kv->head_dim;
}

/* The rows of queries and results are far apart: asked for all at once, they come while others are waited for. */
static void fetch_rows(const attention_job *job, const unit *u)
{
  const size_t q_bytes = job->group * (size_t)job->kv->head_dim * sizeof(float),
               out_bytes = job->group * (size_t)job->kv->value_dim * sizeof(float);
  for (uint32_t r = 0; r < u->n_rows; r++)
    for (size_t at = 0; at < q_bytes; at += LINE) __builtin_prefetch((const char *)queries_of(job, u, r) + at);
  for (uint32_t r = 0; r < u->n_rows; r++)
    for (size_t at = 0; at < out_bytes; at += LINE) __builtin_prefetch((char *)out_of(job, u, r) + at, 1);
}

/* Chooses rows and head by the unit's number, and prepares the queries. */
static void begin_unit(const attention_job *job, unit *u, size_t number)
{
  size_t chunk = number / job->kv->n_kv_heads, dim = job->kv->head_dim;
  uint32_t ignored;
  float scale = bent(job->how) ? job->how->scale : job->how->scale * LOG2_E;
  u->head = (uint32_t)(number % job->kv->n_kv_heads);
  u->first = job->chunks[chunk];
  u->n_rows = job->chunks[chunk + 1] - u->first;
  u->n_q = u->n_rows * job->group;
  u->table = job->rows->tables[job->rows->seq[u->first]];
  visible(job, u->first, &u->from, &ignored);
  visible(job, u->first + u->n_rows - 1, &ignored, &u->end); /* rows ascend: the last sees furthest */
  fetch_rows(job, u);
  for (uint32_t i = 0; i < u->n_q; i++)
    job->cpu->k->attn_query(job->fmt, queries_of(job, u, i / job->group) + i % job->group * dim, job->kv->head_dim,
                            scale, u->q + i * dim);
}

static void unit_range(void *arg, uint32_t worker, size_t first, size_t end)
{
  const attention_job *job = arg;
  unit u;
  unit_layout(job, &u, job->scratch + worker * job->scratch_bytes);
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
  unit_layout(job, &u, job->scratch + worker * job->scratch_bytes);
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

/* Cuts the work and lays out its memory; returns the number of units, 0 when memory is out. */
static size_t plan(attention_job *job, uint32_t longest)
{
  const aii_rows *rows = job->rows;
  uint32_t max_rows;
  size_t n_units = cut_chunks(rows, job->group, NULL, &max_rows) * job->kv->n_kv_heads;
  job->max_q = max_rows * job->group;
  job->n_splits = count_splits(job, n_units, longest);
  job->scratch_bytes = unit_bytes(job);
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
  attention_job job = {.cpu = cpu,
                       .kv = kv,
                       .cache = aii_cpu_kv_of(kv, layer),
                       .rows = rows,
                       .how = how,
                       .sinks = aii_cpu_vector_of(how->sinks),
                       .group = how->n_heads / kv->n_kv_heads,
                       .fmt = aii_cpu_fmt(kv->type),
                       .q = q,
                       .out = out};
  uint32_t longest;
  uint64_t products = count_positions(rows, how->window, &longest) * how->n_heads * kv->head_dim;
  size_t n_units = plan(&job, longest);
  if (job.n_splits > 0) aii_cpu_for(cpu, n_units * job.n_splits, 1, false, split_range, &job);
  else aii_cpu_for(cpu, n_units, 1, products < ALONE_PRODUCTS, unit_range, &job);
}
