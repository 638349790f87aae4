/* sum.c - sums of many bytes, made by all threads; and the number that stands for what a model computes. */
#include "src/model/arch.h"
#include "src/model/gguf.h"

enum { PIECE = 256 << 10 };

/* ---- many bytes ---- */

static uint64_t fold(uint64_t a, uint64_t b)
{
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* A hash as aii_hash64() makes it, in eight chains side by side: one alone waits for its products, not for memory. */
static uint64_t hash_of(const uint8_t *bytes, size_t n, uint64_t seed)
{
  enum { CHAINS = 8, STEP = 16 };
  uint64_t h[CHAINS + 1], word[2];
  size_t stripe = n / (CHAINS * STEP) * STEP;
  for (uint64_t i = 0; i < CHAINS; i++) h[i] = aii_hash64(&i, sizeof i, seed);
  for (size_t at = 0; at < stripe; at += STEP) {
    for (size_t i = 0; i < CHAINS; i++) {
      memcpy(word, bytes + i * stripe + at, sizeof word);
      h[i] = fold(word[0] ^ h[i] ^ 0x9E3779B97F4A7C15u, word[1] ^ 0xC2B2AE3D27D4EB4Fu);
    }
  }
  h[CHAINS] = aii_hash64(bytes + CHAINS * stripe, n - CHAINS * stripe, seed);
  return aii_hash64(h, sizeof h, n);
}

typedef struct sum_job {
  const uint8_t *bytes;
  size_t n;
  _Atomic size_t next;
  _Atomic uint64_t sum;
} sum_job;

static void sum_part(void *arg, uint32_t part, uint32_t n_parts)
{
  sum_job *job = arg;
  uint64_t sum = 0;
  (void)part;
  (void)n_parts;
  for (;;) {
    size_t at = atomic_fetch_add_explicit(&job->next, PIECE, memory_order_relaxed);
    if (at >= job->n) break;
    sum += hash_of(job->bytes + at, AII_MIN(job->n - at, (size_t)PIECE), at);
  }
  atomic_fetch_add_explicit(&job->sum, sum, memory_order_relaxed);
}

/* The hashes of all pieces, each seeded with its place: their sum does not depend on who takes which. */
uint64_t aii_sum_of(aii_pool *pool, const void *bytes, size_t n)
{
  sum_job job = {.bytes = bytes, .n = n};
  atomic_init(&job.next, 0);
  atomic_init(&job.sum, 0);
  size_t pieces = n / PIECE + 1;
  aii_pool_run(pool, (uint32_t)AII_MIN(pieces, aii_pool_threads(pool)), sum_part, &job);
  return atomic_load(&job.sum);
}

/* ---- a model ---- */

uint64_t aii_model_sum(aiinfra_model *m)
{
  const char *device = m->rt->backend->ops->name;
  uint64_t sum = aii_hash64(m->gguf->bytes, m->gguf->data_start, m->max_context);
  size_t cursor = 0;
  sum = aii_hash64(device, strlen(device), sum);
  for (int i = 0; i < 2 && m->rope != NULL; i++)
    if (m->rope[i].inv_freq != NULL)
      sum = aii_hash64(m->rope[i].inv_freq, m->hp.n_rot / 2 * sizeof m->rope[i].inv_freq[0], sum);
  for (const aii_weight *w; (w = aii_tensors_at(m, &cursor)) != NULL;) {
    const uint64_t what[] = {(uint64_t)w->type, w->n_in,   w->n_out,
                             w->n_mats,         w->bf16_x, aii_sum_of(m->rt->pool, w->source, aii_weight_bytes(w))};
    sum = aii_hash64(what, sizeof what, sum);
  }
  return sum;
}
