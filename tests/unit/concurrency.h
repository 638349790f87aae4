/* tests/unit/concurrency.h - what tests of readers beside one writer share: who has written what, and whether an answer is
 * what some commit left. Included behind the names that cmocka wants.
 */
#ifndef AII_TESTS_CONCURRENCY_H
#define AII_TESTS_CONCURRENCY_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "src/vector/named.h"
#include "support/support.h"

enum { DIMS = 16, BATCH = 50, WINDOW = 26, REMOVED = 3, MAX_READERS = 64, MOST = (WINDOW + REMOVED) * BATCH };

/* Batches [removed, added) are there; what is under way lies between that and the other two. */
typedef struct shared {
  aiinfra_vecstore *store;
  _Atomic int64_t removing, removed, added, adding;
  _Atomic int stop, failed;
  _Atomic long searches[16]; /* by kind */
} shared;

typedef struct reader {
  pthread_t thread;
  shared *shared;
  unsigned long long seed;
  char why[160]; /* it failed */
} reader;

static inline void random_vector(unsigned long long *seed, float *v)
{
  for (int i = 0; i < DIMS; i++) v[i] = (float)(test_random(seed) % 2001) / 1000.0f - 1.0f;
  v[0] += 0.5f;
}

#define EXPECT(cond, ...)                                 \
  do {                                                    \
    if (!(cond)) {                                        \
      (void)snprintf(r->why, sizeof r->why, __VA_ARGS__); \
      return false;                                       \
    }                                                     \
  } while (0)

static inline bool is_sorted(reader *r, const aiinfra_hit *hits, size_t n)
{
  for (size_t i = 1; i < n; i++) EXPECT(hits[i - 1].score >= hits[i].score, "hit %zu is better than the one before", i);
  return true;
}

/* All rows, or those of every other batch: step 2. */
static inline bool check_whole(reader *r, const aiinfra_hit *hits, size_t n, int64_t removed, int64_t added,
                               int64_t step)
{
  int64_t removing = r->shared->removing, adding = r->shared->adding, first = INT64_MAX, last = -1;
  size_t counts[2 * WINDOW] = {0};
  for (size_t i = 0; i < n; i++) {
    int64_t batch = hits[i].id / BATCH;
    EXPECT(batch >= removed && batch < adding, "batch %lld is not there", (long long)batch);
    EXPECT(batch - removed < 2 * WINDOW, "batch %lld is far", (long long)batch);
    counts[batch - removed]++;
    first = batch < first ? batch : first;
    last = batch > last ? batch : last;
  }
  EXPECT(last >= added - step, "%lld batches, but %lld were added", (long long)last + 1, (long long)added);
  EXPECT(first < removing + step, "begins with batch %lld, but %lld were removed", (long long)first,
         (long long)removing);
  for (int64_t batch = first; batch <= last; batch += step) {
    EXPECT(counts[batch - removed] == BATCH, "%zu rows of batch %lld", counts[batch - removed], (long long)batch);
  }
  return true;
}

/* Each case takes AIINFRA_CONCURRENCY_SECONDS, with AIINFRA_CONCURRENCY_READERS; the defaults are 2 and 3. */
static inline uint64_t test_ends_ns(void)
{
  const char *text = getenv("AIINFRA_CONCURRENCY_SECONDS");
  return aii_now_ns() + (text != NULL ? (uint64_t)atol(text) : 2) * 1000000000u;
}

static inline uint32_t test_readers(void)
{
  const char *text = getenv("AIINFRA_CONCURRENCY_READERS");
  unsigned long n = text != NULL ? strtoul(text, NULL, 10) : 3;
  return n >= 1 && n <= MAX_READERS ? (uint32_t)n : 3;
}

#endif
