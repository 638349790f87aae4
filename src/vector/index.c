/* index.c - the vectors of a collection in memory, in blocks that never move, and the exact scan over them.
 *
 * The happy path: sync adds a slot for each row it reads -> a scan or the graph offers slots to a heap. Vectors of a
 * cosine collection are scaled to length 1 when they come in, so that a dot product is all that a search computes.
 * Only memory can fail; aii_index_add() takes all it needs before it changes anything. Locks: see vector.h.
 */
#include <math.h>

#include "src/vector/vector.h"

enum { SCAN_RUN = 32 }; /* slots whose distances are computed in one call */

aiinfra_status aii_index_init(aii_index *index, aii_mem *mem, const aii_kernels *kernels, uint32_t dims, int32_t metric,
                              uint32_t m, uint32_t ef_construction, aiinfra_error *err)
{
  memset(index, 0, sizeof *index);
  index->mem = mem;
  index->kernels = kernels;
  index->dims = dims;
  index->metric = metric;
  index->m = m;
  index->ef_construction = ef_construction;
  index->seq = -1;
  aii_idmap_init(&index->map, mem);
  aii_docs_init(&index->docs, mem, AII_PAYLOAD_BYTES);
  pthread_rwlockattr_t attr; /* writers first: searches without end must not keep new rows out */
  (void)pthread_rwlockattr_init(&attr);
  (void)pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  int failed = pthread_rwlock_init(&index->lock, &attr);
  (void)pthread_rwlockattr_destroy(&attr);
  if (failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a lock");
  (void)pthread_mutex_init(&index->build, NULL); /* a plain mutex of Linux holds no resource: cannot fail */
  (void)pthread_mutex_init(&index->pool, NULL);
  return AIINFRA_OK;
}

static void free_block(aii_index *index, aii_block *block)
{
  size_t vector_bytes = (size_t)AII_BLOCK_SLOTS * index->dims * sizeof(float);
  if (block == NULL) return;
  aii_del_aligned(index->mem, block->vectors, vector_bytes);
  aii_del(index->mem, block->links0, (size_t)AII_BLOCK_SLOTS * (1 + 2 * index->m) * sizeof(uint32_t));
  aii_del(index->mem, block, sizeof *block);
}

void aii_index_clear(aii_index *index)
{
  aii_hnsw_free(index);
  for (size_t i = 0; i < index->n_blocks; i++) free_block(index, index->blocks[i]);
  aii_del(index->mem, index->blocks, index->blocks_cap * sizeof *index->blocks);
  aii_idmap_free(&index->map);
  aii_docs_clear(&index->docs);
  index->blocks = NULL;
  index->n_blocks = index->blocks_cap = 0;
  index->n = index->n_dead = index->n_graph = index->entry = index->top = 0;
  index->seq = -1;
}

void aii_index_destroy(aii_index *index)
{
  aii_index_clear(index);
  (void)pthread_rwlock_destroy(&index->lock);
  (void)pthread_mutex_destroy(&index->build);
  (void)pthread_mutex_destroy(&index->pool);
}

static bool add_block(aii_index *index)
{
  if (!aii_grow(index->mem, &index->blocks, &index->blocks_cap, index->n_blocks + 1, sizeof *index->blocks)) {
    return false;
  }
  aii_block *block = aii_new(index->mem, sizeof *block);
  if (block == NULL) return false;
  block->vectors = aii_new_aligned(index->mem, (size_t)AII_BLOCK_SLOTS * index->dims * sizeof(float));
  if (block->vectors == NULL) {
    free_block(index, block);
    return false;
  }
  index->blocks[index->n_blocks++] = block;
  return true;
}

/* Copies, to length 1 when the metric is cosine. */
static void take(const aii_index *index, float *to, const float *from)
{
  double sum = 0;
  float scale = 1;
  if (index->metric == AIINFRA_METRIC_COSINE) {
    for (uint32_t i = 0; i < index->dims; i++) sum += (double)from[i] * (double)from[i];
    if (sum > 0) scale = (float)(1.0 / sqrt(sum));
    /* lengths beyond float's range: 1/length has lost its digits or is 0, so scale in double */
    if (!(sum > 1e-60 && sum < 1e60)) {
      for (uint32_t i = 0; i < index->dims; i++) to[i] = (float)((double)from[i] / sqrt(sum));
      return;
    }
  }
  for (uint32_t i = 0; i < index->dims; i++) to[i] = from[i] * scale;
}

bool aii_index_add(aii_index *index, int64_t id, const float *vector)
{
  if (index->n == AII_NO_SLOT) return false;
  if (index->n == index->n_blocks * AII_BLOCK_SLOTS && !add_block(index)) return false;
  uint32_t old = aii_idmap_get(&index->map, id), slot = index->n;
  if (!aii_idmap_set(&index->map, id, slot)) return false;
  aii_block *block = aii_block_of(index, slot);
  float *own = block->vectors + (size_t)(slot % AII_BLOCK_SLOTS) * index->dims;
  take(index, own, vector);
  if (old != AII_NO_SLOT && !aii_is_dead(index, old) &&
      memcmp(own, aii_vector_of(index, old), index->dims * sizeof *own) == 0) {
    (void)aii_idmap_set(&index->map, id, old); /* the id is there: needs no memory */
    return true;
  }
  if (old != AII_NO_SLOT) aii_index_kill(index, old);
  block->ids[slot % AII_BLOCK_SLOTS] = id;
  block->dead[slot % AII_BLOCK_SLOTS] = false;
  index->n++;
  return true;
}

void aii_index_kill(aii_index *index, uint32_t slot)
{
  bool *dead = &aii_block_of(index, slot)->dead[slot % AII_BLOCK_SLOTS];
  if (!*dead) index->n_dead++;
  *dead = true;
}

float *aii_index_new_query(aii_index *index, const float *vector)
{
  float *query = aii_new_aligned(index->mem, index->dims * sizeof *query);
  if (query != NULL) take(index, query, vector);
  return query;
}

void aii_index_free_query(aii_index *index, float *query)
{
  aii_del_aligned(index->mem, query, index->dims * sizeof *query);
}

/* Distances of adjacent slots of one block. What is not a number (overflow) is farther than anything. */
static void distances(const aii_index *index, const float *rows, uint32_t n, const float *query, float *out)
{
  if (index->metric == AIINFRA_METRIC_L2) {
    index->kernels->vec_l2sq(rows, index->dims, n, query, index->dims, out);
  } else {
    index->kernels->vec_dot(rows, index->dims, n, query, index->dims, out);
    for (uint32_t i = 0; i < n; i++) out[i] = -out[i];
  }
  for (uint32_t i = 0; i < n; i++) {
    if (isnan(out[i])) out[i] = INFINITY;
  }
}

float aii_index_dist(const aii_index *index, const float *query, uint32_t slot)
{
  float dist;
  distances(index, aii_vector_of(index, slot), 1, query, &dist);
  return dist;
}

float aii_index_score(const aii_index *index, float dist)
{
  return index->metric == AIINFRA_METRIC_COSINE ? AII_MAX(-1.0f, AII_MIN(1.0f, -dist)) : -dist;
}

/* The slots from..from+n lie in one block. When most of them count they are computed in one go. */
static void scan_run(const aii_index *index, const float *query, const uint64_t *allow, uint32_t from, uint32_t n,
                     aii_near *heap, size_t *n_heap, size_t cap)
{
  const aii_block *block = aii_block_of(index, from);
  uint32_t base = from % AII_BLOCK_SLOTS, n_wanted = 0, wanted[SCAN_RUN];
  float dist[SCAN_RUN];
  for (uint32_t i = 0; i < n; i++) {
    if (!block->dead[base + i] && (allow == NULL || aii_bit(allow, from + i))) wanted[n_wanted++] = i;
  }
  const float *rows = block->vectors + (size_t)base * index->dims;
  if (n_wanted * 4 >= n) distances(index, rows, n, query, dist);
  for (uint32_t w = 0; w < n_wanted; w++) {
    uint32_t i = wanted[w];
    if (n_wanted * 4 < n) distances(index, rows + (size_t)i * index->dims, 1, query, &dist[i]);
    aii_near_offer(heap, n_heap, cap, (aii_near){block->ids[base + i], dist[i], from + i});
  }
}

void aii_index_scan(const aii_index *index, const float *query, const uint64_t *allow, uint32_t from, uint32_t to,
                    aii_near *heap, size_t *n, size_t cap)
{
  for (uint32_t slot = from, run; slot < to; slot += run) {
    run = AII_MIN(AII_MIN((uint32_t)SCAN_RUN, to - slot), AII_BLOCK_SLOTS - slot % AII_BLOCK_SLOTS);
    scan_run(index, query, allow, slot, run, heap, n, cap);
  }
}
