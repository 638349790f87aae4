/* test_filtered.c - searches of rows that pass a filter, wherever these lie: as many as there are, none that does not
 * pass, the same each time, and at least 99 of a hundred that comparing with all of them finds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { N = 16000, DIMS = 24, CLUSTERS = 64, K = 10, EF = 32, QUERIES = 25 };
typedef enum kind { RANDOM, NEAR, FAR, CLUSTERS_ANY, CLUSTERS_NEAR, CLUSTERS_FAR, KINDS } kind;
static const char *const KIND_NAMES[] = {"random", "near", "far", "clusters", "clusters near", "clusters far"};

static aii_mem mem;
static aiinfra_error err;
static aii_index all; /* the rows of most tests, with their graph */
static uint16_t cluster_of[N];
static aii_near order[N]; /* in which rows are let pass */

static uint16_t random_vector(unsigned long long *seed, float v[DIMS])
{
  uint16_t cluster = (uint16_t)(test_random(seed) % CLUSTERS);
  unsigned long long centre = cluster;
  for (int i = 0; i < DIMS; i++) {
    v[i] = (float)(test_random(&centre) % 2001) / 500.0f - 2.0f;
    v[i] += (float)(test_random(seed) % 2001) / 1000.0f - 1.0f;
  }
  return cluster;
}

static void start(aii_index *index, int32_t metric)
{
  if (aii_index_init(index, &mem, aii_kernels_get(0), DIMS, metric, 16, 100, &err) != AIINFRA_OK) {
    fail_msg("%s", err.message);
  }
}

/* ---- which rows pass ------------------------------------------------------------------------------------------- */

static int by_distance(const void *a, const void *b)
{
  return aii_near_before(a, b) ? -1 : 1;
}

static void make_order(const aii_index *index, const float *query, kind what, unsigned long long *seed)
{
  float far_of[CLUSTERS] = {0};
  for (uint32_t i = 0; i < index->n; i++) {
    float dist = aii_index_dist(index, query, aii_vector_of(index, i));
    order[i] = (aii_near){i, what == RANDOM ? (float)(test_random(seed) % 65536) : dist, i};
    far_of[cluster_of[i]] += dist; /* about as many rows in each */
  }
  for (int c = 0; what == CLUSTERS_ANY && c < CLUSTERS; c++) far_of[c] = (float)(test_random(seed) % 65536);
  for (uint32_t i = 0; i < index->n; i++) {
    if (what >= CLUSTERS_ANY) order[i].dist = far_of[cluster_of[order[i].slot]];
    if (what == FAR || what == CLUSTERS_FAR) order[i].dist = -order[i].dist;
  }
  qsort(order, index->n, sizeof *order, by_distance);
}

static aii_mask let_pass(const aii_index *index, uint32_t n)
{
  aii_mask mask = {.n_words = index->n / 64 + 1};
  mask.bits = calloc(mask.n_words, sizeof *mask.bits);
  assert_non_null(mask.bits);
  for (uint32_t i = 0; i < index->n && mask.n_passing < n; i++) {
    if (aii_is_dead(index, order[i].slot)) continue;
    mask.bits[order[i].slot / 64] |= (uint64_t)1 << order[i].slot % 64;
    mask.n_passing++;
  }
  return mask;
}

/* ---- searches -------------------------------------------------------------------------------------------------- */

/* Sorted; checks that all of them pass. */
static size_t search(aii_index *index, const float *q, const aii_mask *mask, int32_t mode, aii_searchplan *plan,
                     aii_near *hits)
{
  aii_finds finds = {0};
  size_t n = 0;
  *plan = (aii_searchplan){0};
  aii_searchplan_choose(index, mode, EF, mask, plan);
  assert_true(aii_searchplan_run(index, q, mask, plan, K, &finds));
  assert_true(aii_finds_settle(index, q, &finds, hits, &n, K));
  aii_finds_free(index, &finds);
  aii_near_sort(hits, n);
  assert_int_equal(n, AII_MIN((uint32_t)K, mask->n_passing));
  for (size_t i = 0; i < n; i++) {
    assert_true(aii_bit(mask->bits, hits[i].slot) && !aii_is_dead(index, hits[i].slot));
    for (size_t j = 0; j < i; j++) assert_int_not_equal(hits[i].id, hits[j].id);
  }
  return n;
}

/* All rows that pass, compared one by one. */
static size_t compare_all(const aii_index *index, const float *q, const aii_mask *mask, aii_near *hits)
{
  size_t n = 0;
  for (uint32_t i = 0; i < index->n; i++) {
    if (!aii_bit(mask->bits, i)) continue;
    int64_t id = aii_block_of(index, i)->ids[i % AII_BLOCK_SLOTS];
    aii_near_offer(hits, &n, K, (aii_near){id, aii_index_dist(index, q, aii_vector_of(index, i)), i});
  }
  return n;
}

typedef struct outcome {
  double recall;
  uint32_t plans[3]; /* how often each answered */
} outcome;

static outcome measure(aii_index *index, kind what, uint32_t percent, int32_t mode)
{
  unsigned long long seed = 99;
  outcome o = {0};
  size_t both = 0, want = 0;
  for (int i = 0; i < QUERIES; i++) {
    float v[DIMS];
    aii_near exact[K], found[K], again[K];
    aii_searchplan plan, second;
    (void)random_vector(&seed, v);
    float *q = aii_index_new_query(index, v);
    make_order(index, q, what, &seed);
    aii_mask mask = let_pass(index, (index->n - index->n_dead) * percent / 100);
    size_t n_exact = compare_all(index, q, &mask, exact), n = search(index, q, &mask, mode, &plan, found);
    assert_int_equal(search(index, q, &mask, mode, &second, again), n);
    assert_memory_equal(found, again, n * sizeof *found);
    assert_int_equal(plan.n_scanned, second.n_scanned);
    for (size_t a = 0; a < n; a++) {
      for (size_t b = 0; b < n_exact; b++) both += found[a].id == exact[b].id;
    }
    want += n_exact;
    o.plans[plan.kind]++;
    free(mask.bits);
    aii_index_free_query(index, q);
  }
  o.recall = (double)both / (double)want;
  return o;
}

static outcome check(aii_index *index, kind what, uint32_t percent, int32_t mode)
{
  outcome o = measure(index, what, percent, mode);
  printf("%s, %u %%: recall@10 %.4f; exact %u, graph %u, filtered graph %u\n", KIND_NAMES[what], percent, o.recall,
         o.plans[AII_PLAN_EXACT], o.plans[AII_PLAN_GRAPH], o.plans[AII_PLAN_FILTERED]);
  if (o.recall < 0.99) fail_msg("%s, %u %%: recall@10 %.4f", KIND_NAMES[what], percent, o.recall);
  return o;
}

static void test_recall(void **state)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  static const uint32_t percent[] = {10, 40}; /* slow there */
#else
  static const uint32_t percent[] = {1, 2, 5, 10, 20, 30, 40, 60, 80};
#endif
  (void)state;
  for (int k = 0; k < KINDS; k++) {
    for (size_t i = 0; i < AII_COUNT(percent); i++) (void)check(&all, (kind)k, percent[i], AIINFRA_SEARCH_AUTO);
  }
}

/* The way follows what is near the query, not the share that passes on the whole. */
static void test_ways(void **state)
{
  (void)state;
  assert_int_equal(check(&all, RANDOM, 80, AIINFRA_SEARCH_AUTO).plans[AII_PLAN_GRAPH], QUERIES);
  assert_true(check(&all, RANDOM, 28, AIINFRA_SEARCH_AUTO).plans[AII_PLAN_FILTERED] > QUERIES / 3);
  assert_int_equal(check(&all, NEAR, 40, AIINFRA_SEARCH_AUTO).plans[AII_PLAN_GRAPH], QUERIES);
  assert_int_equal(check(&all, FAR, 60, AIINFRA_SEARCH_AUTO).plans[AII_PLAN_EXACT], QUERIES);
  assert_int_equal(check(&all, CLUSTERS_FAR, 60, AIINFRA_SEARCH_AUTO).plans[AII_PLAN_EXACT], QUERIES);
  /* asked for: also where comparing costs less */
  assert_true(check(&all, RANDOM, 10, AIINFRA_SEARCH_GRAPH).plans[AII_PLAN_FILTERED] >= QUERIES - 2);
}

/* Fewer pass than are wanted, or none: all of them are found. */
static void test_few(void **state)
{
  float v[DIMS] = {0};
  aii_near exact[K], found[K];
  aii_searchplan plan;
  unsigned long long seed = test_seed();
  (void)state;
  for (uint32_t n = 0; n <= K + 2; n++) {
    (void)random_vector(&seed, v);
    make_order(&all, v, RANDOM, &seed);
    aii_mask mask = let_pass(&all, n);
    size_t n_exact = compare_all(&all, v, &mask, exact);
    for (int32_t mode = AIINFRA_SEARCH_AUTO; mode <= AIINFRA_SEARCH_GRAPH; mode++) {
      assert_int_equal(search(&all, v, &mask, mode, &plan, found), n_exact);
    }
    free(mask.bits);
  }
}

/* Half of the rows die behind their slots' backs. */
static void test_dead(void **state)
{
  enum { ROWS = 12000 };
  aii_index index;
  unsigned long long seed = test_seed();
  float v[DIMS];
  (void)state;
  start(&index, AIINFRA_METRIC_COSINE);
  for (int i = 0; i < ROWS; i++) {
    (void)random_vector(&seed, v);
    assert_true(aii_index_add(&index, i, v));
  }
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  for (uint32_t i = 0; i < ROWS; i += 2) aii_index_kill(&index, i);
  for (int k = RANDOM; k <= FAR; k++) {
    (void)check(&index, (kind)k, 80, AIINFRA_SEARCH_AUTO);
    (void)check(&index, (kind)k, 20, AIINFRA_SEARCH_GRAPH);
  }
  aii_index_destroy(&index);
}

/* Memory that runs out is told, and the search after it is as good as any. */
static void test_without_memory(void **state)
{
  enum { ROWS = 4000 };
  aii_index index;
  unsigned long long seed = test_seed();
  float v[DIMS];
  aii_finds finds = {0};
  bool done = false;
  int failures = 0;
  (void)state;
  start(&index, AIINFRA_METRIC_L2);
  for (int i = 0; i < ROWS; i++) {
    (void)random_vector(&seed, v);
    assert_true(aii_index_add(&index, i, v));
  }
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  make_order(&index, v, RANDOM, &seed);
  aii_mask mask = let_pass(&index, ROWS / 10);
  for (size_t room = 0; !done; room += 64) {
    aii_searchplan plan = {0};
    mem.limit_bytes = mem.used_bytes + room;
    aii_searchplan_choose(&index, AIINFRA_SEARCH_GRAPH, EF, &mask, &plan);
    done = aii_searchplan_run(&index, v, &mask, &plan, K, &finds);
    failures += !done;
    if (done) assert_int_equal(plan.kind, AII_PLAN_FILTERED);
  }
  mem.limit_bytes = 0;
  assert_true(finds.n >= K && failures > 0);
  aii_finds_free(&index, &finds);
  free(mask.bits);
  aii_index_destroy(&index);
}

static int set_up(void **state)
{
  unsigned long long seed = test_seed();
  float v[DIMS];
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  start(&all, AIINFRA_METRIC_L2);
  for (int i = 0; i < N; i++) {
    cluster_of[i] = random_vector(&seed, v);
    if (!aii_index_add(&all, i, v)) return -1;
  }
  return aii_hnsw_build(&all, UINT32_MAX) ? 0 : -1;
}

static int tear_down(void **state)
{
  (void)state;
  aii_index_destroy(&all);
  return mem.used_bytes == 0 ? 0 : -1;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_recall), cmocka_unit_test(test_ways),           cmocka_unit_test(test_few),
      cmocka_unit_test(test_dead),   cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
