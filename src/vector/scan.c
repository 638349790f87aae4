/* scan.c - the exact search: codes rule out what cannot be among the nearest, vectors decide over the rest.
 *
 * First by codes alone, with the largest error of any slot: a slot that is farther than the cap-th nearest so far by more
 * than twice what any may be off is out for good. What is left is measured with its fine bits and has bounds of its own:
 * the cap-th smallest upper bound rules out slots whose lower bound is above it. So all of the nearest are left, equal
 * ones included. Only memory can fail.
 */
#include <math.h>

#include "src/vector/vector.h"

enum { RUN = 64 };     /* slots of one word of a mask */
enum { AT_ONCE = 32 }; /* slots whose products are computed in one call, at least: rows far apart are fetched ahead */
enum { FEW = 32 };     /* so many are found without codes */

typedef struct scan {
  aii_index *index;
  const uint64_t *allow;
  const float *query;
  float length;   /* of the query */
  aii_code code;  /* of the query */
  float *vector;  /* room for one */
  aii_near *near; /* heap of the cap nearest: by codes, then by upper bounds */
  size_t n_near, cap;
  float limit;                                    /* a distance by codes above it: out */
  uint32_t waiting[AT_ONCE + RUN + 1], n_waiting; /* slots whose products come next */
  aii_finds *finds;
} scan;

void aii_finds_free(const aii_index *index, aii_finds *finds)
{
  aii_del(index->mem, finds->items, finds->cap * sizeof *finds->items);
  *finds = (aii_finds){0};
}

bool aii_finds_add(const aii_index *index, aii_finds *finds, uint32_t slot, float dist)
{
  const aii_block *block = aii_block_of(index, slot);
  uint32_t at = slot % AII_BLOCK_SLOTS;
  if (!aii_grow(index->mem, &finds->items, &finds->cap, finds->n + 1, sizeof *finds->items)) return false;
  finds->items[finds->n++] = (aii_find){block->ids[at], dist, slot, block->rows[at]};
  return true;
}

bool aii_finds_settle(const aii_index *index, const float *query, const aii_finds *finds, aii_near *heap, size_t *n,
                      size_t cap)
{
  size_t bytes = (size_t)index->code_bytes * sizeof(float);
  float *vector = index->floats ? NULL : aii_new_aligned(index->mem, bytes);
  if (vector == NULL && !index->floats) return false;
  for (size_t i = 0; i < finds->n; i++) {
    const aii_find *f = &finds->items[i];
    if (vector != NULL) aii_code_vector(index, f->slot, vector);
    float dist = aii_index_dist(index, query, vector != NULL ? vector : aii_vector_of(index, f->slot));
    aii_near_offer(heap, n, cap, (aii_near){f->id, dist, f->slot});
  }
  aii_del_aligned(index->mem, vector, bytes);
  return true;
}

/* Where no slot behind is among the nearest: as far as the last of the nearest by codes, twice what these may be off
 * for any slot, and what floats add up wrongly. */
static void set_limit(scan *s)
{
  double most = sqrt((double)s->index->most_norm) * (1 + 1e-6), length = (double)s->length;
  double error = (double)s->index->most_error, part = 1e-5 + ((double)s->index->dims / 16 + 8) * 2.4e-7;
  double lost = (double)s->code.coarse, total = length + most + error + lost;
  double last = (double)s->near[0].dist, limit;
  if (s->index->metric == AIINFRA_METRIC_L2) {
    double far = sqrt(AII_MAX(0.0, last) + part * total * total) + 2 * (error + lost);
    limit = far * far + part * total * total;
  } else {
    limit = last + 2 * (error * length + (most + error) * lost) + part * (most + error) * (length + lost);
  }
  s->limit = isfinite(limit) ? (float)(limit + fabs(limit) * 1e-6) : INFINITY;
}

/* The slots that count of those from `from` to the end of its word of the mask; how many. */
static uint32_t wanted_of(const scan *s, uint32_t from, uint32_t *wanted)
{
  const aii_block *block = aii_block_of(s->index, from);
  uint32_t base = from - from % RUN, n_wanted = 0, left = AII_MIN((uint32_t)RUN, s->index->n - base);
  uint64_t bits = s->allow != NULL ? s->allow[base / RUN] : UINT64_MAX;
  bits &= UINT64_MAX << from % RUN & UINT64_MAX >> (RUN - left);
  for (; bits != 0; bits &= bits - 1) {
    wanted[n_wanted] = base + (uint32_t)__builtin_ctzll(bits);
    n_wanted += !block->dead[wanted[n_wanted] % AII_BLOCK_SLOTS];
  }
  return n_wanted;
}

/* Compares the slots that wait. */
static bool compare(scan *s, uint64_t *n_scanned)
{
  const uint8_t *rows[AT_ONCE + RUN];
  int32_t dots[AT_ONCE + RUN];
  uint32_t n = s->n_waiting;
  bool ok = true;
  if (n == 0) return true;
  for (uint32_t i = 0; i < n; i++) rows[i] = aii_codes_of(s->index, s->waiting[i]);
  s->index->kernels->vec_codes(rows, n, s->code.codes, s->index->code_bytes, s->code.start, dots);
  *n_scanned += n;
  for (uint32_t i = 0; ok && i < n; i++) {
    uint32_t slot = s->waiting[i];
    float dist = aii_code_dist(s->index, &s->code, slot, dots[i]);
    if (dist > s->limit) continue;
    ok = aii_finds_add(s->index, s->finds, slot, dist);
    aii_near_offer(s->near, &s->n_near, s->cap, (aii_near){(int64_t)slot, dist, slot});
    if (s->n_near == s->cap) set_limit(s);
  }
  s->n_waiting = 0;
  return ok;
}

/* Of the finds from `begin` on: those whose lower bound is not above the cap-th smallest upper one. */
static void narrow(scan *s, size_t begin)
{
  aii_find *items = s->finds->items;
  size_t kept = begin;
  s->n_near = 0;
  for (size_t i = begin; i < s->finds->n; i++) {
    uint32_t slot = items[i].slot;
    if (items[i].dist > s->limit) continue;
    aii_code_vector(s->index, slot, s->vector);
    aii_bounds b = aii_code_bounds(s->index, slot, aii_index_dist(s->index, s->query, s->vector), s->length);
    aii_near_offer(s->near, &s->n_near, s->cap, (aii_near){(int64_t)slot, b.high, slot});
    items[kept] = items[i];
    items[kept++].dist = b.low;
  }
  float threshold = s->n_near == s->cap ? s->near[0].dist : INFINITY;
  s->finds->n = begin;
  for (size_t i = begin; i < kept; i++) {
    if (items[i].dist <= threshold) items[s->finds->n++] = items[i];
  }
}

static bool scan_codes(scan *s, uint32_t from, uint64_t *n_scanned)
{
  size_t begin = s->finds->n;
  bool ok = true;
  for (uint32_t slot = from; ok && slot < s->index->n; slot = slot - slot % RUN + RUN) {
    s->n_waiting += wanted_of(s, slot, s->waiting + s->n_waiting);
    if (s->n_waiting >= AT_ONCE) ok = compare(s, n_scanned);
  }
  ok = ok && compare(s, n_scanned);
  if (ok) narrow(s, begin);
  return ok;
}

/* Up to `most` of those wanted; false: there are more, or no memory. */
static bool find_few(scan *s, uint32_t from, size_t most)
{
  uint32_t wanted[RUN + 1];
  size_t begin = s->finds->n;
  bool ok = true;
  for (uint32_t slot = from; ok && slot < s->index->n; slot = slot - slot % RUN + RUN) {
    uint32_t n = wanted_of(s, slot, wanted);
    ok = s->finds->n - begin + n <= most;
    for (uint32_t i = 0; ok && i < n; i++) ok = aii_finds_add(s->index, s->finds, wanted[i], -INFINITY);
  }
  if (!ok) s->finds->n = begin;
  return ok;
}

bool aii_index_scan(aii_index *index, const float *query, const uint64_t *allow, uint32_t from, size_t cap,
                    aii_finds *finds, uint64_t *n_scanned)
{
  scan s = {.index = index, .allow = allow, .query = query, .cap = cap, .limit = INFINITY, .finds = finds};
  size_t begin = finds->n;
  if (from >= index->n || cap == 0) return true;
  s.length = aii_length_of(query, index->dims);
  if (find_few(&s, from, cap > SIZE_MAX / 2 - FEW ? SIZE_MAX / 2 : cap + FEW)) {
    *n_scanned += finds->n - begin;
    return true;
  }
  size_t vector_bytes = (size_t)index->code_bytes * sizeof(float), code_bytes = index->code_bytes + index->fine_bytes;
  uint8_t *codes = aii_new_aligned(index->mem, code_bytes);
  s.near = aii_new_array(index->mem, cap, sizeof *s.near);
  s.vector = aii_new_aligned(index->mem, vector_bytes);
  bool ok = s.near != NULL && codes != NULL && s.vector != NULL;
  if (ok) {
    aii_code_make(index, query, codes, &s.code);
    ok = scan_codes(&s, from, n_scanned);
  }
  aii_del_aligned(index->mem, s.vector, vector_bytes);
  aii_del(index->mem, s.near, cap * sizeof *s.near);
  aii_del_aligned(index->mem, codes, code_bytes);
  return ok;
}
