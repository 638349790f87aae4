/* index.c - the slots of a collection in memory, in blocks that never move.
 *
 * The happy path: sync places each row it reads in a slot behind the last one, where nobody looks, then shows them all at
 * once -> a scan or the graph finds slots. Vectors of a cosine collection are scaled to length 1 when they come in, so that a dot product is all that a search computes. Floats stay
 * in memory while they take no more than they may; then only the codes stay, and floats are read from the rows.
 * Only memory can fail, and before anything is shown. Locks: see vector.h.
 */
#include <math.h>

#include "src/vector/vector.h"

aiinfra_status aii_index_init(aii_index *index, aii_mem *mem, const aii_kernels *kernels, uint32_t dims, int32_t metric,
                              uint32_t m, uint32_t ef_construction, aiinfra_error *err)
{
  memset(index, 0, sizeof *index);
  index->mem = mem;
  index->kernels = kernels;
  index->dims = dims;
  index->metric = metric;
  index->element = AIINFRA_ELEMENT_F32;
  index->m = m;
  index->ef_construction = ef_construction;
  index->code_bytes = (dims + AII_CODE_BLOCK - 1) / AII_CODE_BLOCK * AII_CODE_BLOCK;
  index->fine_bytes = index->code_bytes / 8 * 3;
  index->vector_bytes = (size_t)AII_VECTOR_BYTES;
  index->floats = true;
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
  (void)pthread_mutex_init(&index->slots, NULL);
  (void)pthread_mutex_init(&index->pool, NULL);
  (void)pthread_mutex_init(&index->keys, NULL);
  return AIINFRA_OK;
}

void aii_index_begin(const aii_index *like, aii_index *index)
{
  memset(index, 0, sizeof *index);
  index->mem = like->mem;
  index->kernels = like->kernels;
  index->dims = like->dims;
  index->code_bytes = like->code_bytes;
  index->fine_bytes = like->fine_bytes;
  index->m = like->m;
  index->ef_construction = like->ef_construction;
  index->metric = like->metric;
  index->element = like->element;
  index->vector_bytes = like->vector_bytes;
  index->floats = like->floats;
  aii_idmap_init(&index->map, like->mem);
  aii_docs_init(&index->docs, like->mem, 0);
}

static void free_vectors(aii_index *index, aii_block *block)
{
  aii_del_aligned(index->mem, block->vectors, (size_t)AII_BLOCK_SLOTS * index->dims * sizeof(float));
  block->vectors = NULL;
}

static void free_block(aii_index *index, aii_block *block)
{
  if (block == NULL) return;
  free_vectors(index, block);
  aii_del_aligned(index->mem, block->codes, (size_t)AII_BLOCK_SLOTS * index->code_bytes);
  aii_del_aligned(index->mem, block->fine, (size_t)AII_BLOCK_SLOTS * index->fine_bytes);
  aii_del_aligned(index->mem, block->links0, (size_t)AII_BLOCK_SLOTS * 2 * index->m * sizeof(uint32_t));
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
  index->n = index->n_dead = 0;
  index->n_graph = 0;
  index->n_blurred = 0;
  index->entry = 0;
  index->top = 0;
  index->most_error = index->most_norm = 0;
  index->floats = true;
  index->seq = -1;
}

void aii_index_destroy(aii_index *index)
{
  aii_index_clear(index);
  (void)pthread_rwlock_destroy(&index->lock);
  (void)pthread_mutex_destroy(&index->build);
  (void)pthread_mutex_destroy(&index->slots);
  (void)pthread_mutex_destroy(&index->pool);
  (void)pthread_mutex_destroy(&index->keys);
}

bool aii_index_add_block(aii_index *index)
{
  if (!aii_grow(index->mem, &index->blocks, &index->blocks_cap, index->n_blocks + 1, sizeof *index->blocks)) {
    return false;
  }
  aii_block *block = aii_new(index->mem, sizeof *block);
  if (block == NULL) return false;
  block->codes = aii_new_aligned(index->mem, (size_t)AII_BLOCK_SLOTS * index->code_bytes);
  block->fine = aii_new_aligned(index->mem, (size_t)AII_BLOCK_SLOTS * index->fine_bytes);
  bool ok = block->codes != NULL && block->fine != NULL;
  if (ok && index->floats) {
    block->vectors = aii_new_aligned(index->mem, (size_t)AII_BLOCK_SLOTS * index->dims * sizeof(float));
    ok = block->vectors != NULL;
  }
  if (!ok) {
    free_block(index, block);
    return false;
  }
  index->blocks[index->n_blocks++] = block;
  return true;
}

void aii_index_drop_floats(aii_index *index)
{
  for (size_t i = 0; i < index->n_blocks; i++) free_vectors(index, index->blocks[i]);
  index->floats = false;
}

bool aii_index_room(aii_index *index, uint32_t slot)
{
  if (slot >= AII_MAX_SLOTS) return false;
  /* floats of one more slot would take more than they may: from now on they are in the rows alone */
  bool most = index->floats && ((uint64_t)slot + 1) * index->dims > index->vector_bytes / sizeof(float);
  if (most) aii_index_drop_floats(index);
  return slot < index->n_blocks * AII_BLOCK_SLOTS || aii_index_add_block(index);
}

bool aii_index_has_room(const aii_index *index, uint32_t slot)
{
  bool most = index->floats && ((uint64_t)slot + 1) * index->dims > index->vector_bytes / sizeof(float);
  return !most && slot < index->n_blocks * AII_BLOCK_SLOTS;
}

/* Copies, to length 1 when the metric is cosine. */
void aii_index_take(const aii_index *index, float *to, const float *from)
{
  double sum = 0;
  float scale = 1;
  if (index->metric == AIINFRA_METRIC_COSINE) {
    double lane[8] = {0}; /* one sum would wait for itself */
    for (uint32_t i = 0; i < index->dims; i++) lane[i % 8] += (double)from[i] * (double)from[i];
    for (int i = 0; i < 8; i++) sum += lane[i];
    if (sum > 0) scale = (float)(1.0 / sqrt(sum));
    /* lengths beyond float's range: 1/length has lost its digits or is 0, so scale in double */
    if (!(sum > 1e-60 && sum < 1e60)) {
      for (uint32_t i = 0; i < index->dims; i++) to[i] = (float)((double)from[i] / sqrt(sum));
      return;
    }
  }
  for (uint32_t i = 0; i < index->dims; i++) to[i] = from[i] * scale;
}

/* The slot has this vector already, as far as the index can tell. */
static bool is_same(const aii_index *index, uint32_t slot, const float *vector, const aii_code *code)
{
  if (!index->floats) return aii_code_is(index, slot, code);
  return memcmp(vector, aii_vector_of(index, slot), index->dims * sizeof *vector) == 0;
}

void aii_index_note(aii_index *index, float scale, float norm, float error)
{
  float of_codes = scale * sqrtf((float)index->dims) * 0.51f; /* half a scale an element */
  index->most_error = AII_MAX(index->most_error, AII_MAX(of_codes, error));
  index->most_norm = AII_MAX(index->most_norm, norm);
}

static void put(aii_index *index, uint32_t slot, int64_t id, const float *vector, const aii_code *code)
{
  uint32_t at = slot % AII_BLOCK_SLOTS;
  aii_block *block = aii_block_of(index, slot);
  if (index->floats) memcpy(block->vectors + (size_t)at * index->dims, vector, index->dims * sizeof *vector);
  aii_code_store(index, slot, code);
  block->ids[at] = id;
  block->rows[at] = 0;
  block->level[at] = 0;
  block->dead[at] = false;
}

bool aii_index_place(aii_index *index, uint32_t slot, int64_t id, const void *stored, uint32_t *at, float *coarse)
{
  size_t floats = (size_t)index->dims * sizeof(float);
  uint32_t old = aii_idmap_get(&index->map, id);
  aii_code code;
  float *own = aii_new_aligned(index->mem, floats);
  uint8_t *codes = aii_new_aligned(index->mem, index->code_bytes + index->fine_bytes);
  bool ok = own != NULL && codes != NULL;
  if (ok) {
    (void)aii_element_take(index, stored, aii_element_bytes(index->element, index->dims), own);
    aii_code_make(index, own, codes, &code);
    bool same = old != AII_NO_SLOT && !aii_is_dead(index, old) && is_same(index, old, own, &code);
    if (!same) put(index, slot, id, own, &code);
    *at = same ? old : slot;
    *coarse = code.coarse;
  }
  aii_del_aligned(index->mem, codes, index->code_bytes + index->fine_bytes);
  aii_del_aligned(index->mem, own, floats);
  return ok;
}

void aii_index_show(aii_index *index, float coarse)
{
  uint32_t slot = index->n++, at = slot % AII_BLOCK_SLOTS;
  const aii_block *block = aii_block_of(index, slot);
  uint32_t old = aii_idmap_get(&index->map, block->ids[at]);
  index->most_error = AII_MAX(index->most_error, coarse);
  index->most_norm = AII_MAX(index->most_norm, block->norm[at]);
  if (old != AII_NO_SLOT) aii_index_kill(index, old);
  (void)aii_idmap_set(&index->map, block->ids[at], slot); /* there is room */
}

bool aii_index_add(aii_index *index, int64_t id, const void *stored)
{
  uint32_t at;
  float coarse;
  if (!aii_index_room(index, index->n) || !aii_idmap_reserve(&index->map, index->map.n + 1)) return false;
  if (!aii_index_place(index, index->n, id, stored, &at, &coarse)) return false;
  if (at == index->n) aii_index_show(index, coarse);
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
  if (query != NULL) aii_index_take(index, query, vector);
  return query;
}

void aii_index_free_query(aii_index *index, float *query)
{
  aii_del_aligned(index->mem, query, index->dims * sizeof *query);
}

float aii_index_dist(const aii_index *index, const float *query, const float *vector)
{
  float dist;
  if (index->metric == AIINFRA_METRIC_L2) {
    index->kernels->vec_l2sq(vector, index->dims, 1, query, index->dims, &dist);
  } else {
    index->kernels->vec_dot(vector, index->dims, 1, query, index->dims, &dist);
    dist = -dist;
  }
  return isnan(dist) ? INFINITY : dist; /* overflow is farther than anything */
}

float aii_index_score(const aii_index *index, float dist)
{
  return index->metric == AIINFRA_METRIC_COSINE ? AII_MAX(-1.0f, AII_MIN(1.0f, -dist)) : -dist;
}
