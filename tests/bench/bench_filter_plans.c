/* bench_filter_plans.c - filtered searches: recall and speed at every share of passing rows, wherever these rows lie.
 *
 * Which rows pass, of a collection of clustered vectors of length 1 (as embeddings lie: clusters in few directions, bent
 * into many):
 *
 *   random          any
 *   near, far       those nearest to the query, or farthest from it
 *   clusters        whole clusters: any, those nearest to the query, or farthest from it
 *   clusters near
 *   clusters far
 *
 * For each: recall@10 and time of the plan that is chosen, and of the exact search. Plans take turns query by query, and
 * times are medians over all queries, of the processor alone, so that others on the machine matter less.
 * AIINFRA_BENCH_ROWS sets the size (20000), AIINFRA_BENCH_PLANS=1 shows walks at several ef.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "src/vector/vector.h"
#include "support/support.h"

enum { DIMS = 128, LATENT = 32, CLUSTERS = 256, QUERIES = 50, K = 10, EF = 64, MOST_PLANS = 12 };
typedef enum kind { RANDOM, NEAR, FAR, CLUSTERS_ANY, CLUSTERS_NEAR, CLUSTERS_FAR, KINDS } kind;
static const char *const KIND_NAMES[] = {"random", "near", "far", "clusters", "clusters near", "clusters far"};

static aiinfra_error err;
static aii_mem mem;
static float centres[CLUSTERS][LATENT], spread[LATENT][DIMS];
static uint16_t *cluster_of; /* by slot */
static aii_near *order;      /* all slots, of the query at hand: nearest first, or in any order */
static float rank_of[CLUSTERS];

static double normal(unsigned long long *seed)
{
  double u = (double)(1 + test_random(seed) % 1000000) / 1000001, v = (double)(test_random(seed) % 1000000) / 1000000;
  return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static uint16_t random_row(unsigned long long *seed, float v[DIMS])
{
  uint16_t cluster = (uint16_t)(test_random(seed) % CLUSTERS);
  for (int d = 0; d < DIMS; d++) v[d] = 0.1f * (float)normal(seed);
  for (int l = 0; l < LATENT; l++) {
    float inside = centres[cluster][l] + 0.7f * (float)normal(seed);
    for (int d = 0; d < DIMS; d++) v[d] += inside * spread[l][d];
  }
  return cluster;
}

static void fill(aii_index *index, uint32_t n, unsigned long long *seed)
{
  float v[DIMS];
  for (int c = 0; c < CLUSTERS; c++) {
    for (int l = 0; l < LATENT; l++) centres[c][l] = (float)normal(seed);
  }
  for (int l = 0; l < LATENT; l++) {
    for (int d = 0; d < DIMS; d++) spread[l][d] = (float)normal(seed) / sqrtf(LATENT);
  }
  cluster_of = calloc(n, sizeof *cluster_of);
  order = calloc(n, sizeof *order);
  for (uint32_t i = 0; i < n; i++) {
    cluster_of[i] = random_row(seed, v);
    assert_true(aii_index_add(index, i, v));
  }
}

/* ---- which rows pass ------------------------------------------------------------------------------------------- */

static int by_distance(const void *a, const void *b)
{
  return aii_near_before(a, b) ? -1 : 1;
}

/* The order in which rows are let pass. */
static void make_order(const aii_index *index, const float *query, kind what, unsigned long long *seed)
{
  uint32_t counts[CLUSTERS] = {0};
  for (int c = 0; c < CLUSTERS; c++) rank_of[c] = 0;
  for (uint32_t i = 0; i < index->n; i++) {
    float dist = aii_index_dist(index, query, aii_vector_of(index, i));
    order[i] = (aii_near){i, what == RANDOM ? (float)(test_random(seed) % 65536) : dist, i};
    rank_of[cluster_of[i]] += dist;
    counts[cluster_of[i]]++;
  }
  for (int c = 0; what == CLUSTERS_ANY && c < CLUSTERS; c++) {
    rank_of[c] = (float)(test_random(seed) % 65536);
    counts[c] = 1;
  }
  for (uint32_t i = 0; i < index->n && what != RANDOM && what != NEAR; i++) {
    uint16_t c = cluster_of[order[i].slot];
    if (what != FAR) order[i].dist = rank_of[c] / (float)counts[c];
    if (what == FAR || what == CLUSTERS_FAR) order[i].dist = -order[i].dist;
  }
  qsort(order, index->n, sizeof *order, by_distance);
}

static void let_pass(uint32_t n, aii_mask *mask)
{
  memset(mask->bits, 0, mask->n_words * sizeof *mask->bits);
  for (uint32_t i = 0; i < n; i++) mask->bits[order[i].slot / 64] |= (uint64_t)1 << order[i].slot % 64;
  mask->n_passing = n;
}

/* ---- searches -------------------------------------------------------------------------------------------------- */

typedef struct figures {
  aii_searchplan plan;
  uint32_t ef;
  bool automatic;
  double us[QUERIES], found, distances;
  uint32_t kinds[3]; /* how often each plan answered */
} figures;

/* Of this thread: others may have the core in between. */
static double cpu_us(void)
{
  struct timespec t;
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double search(aii_index *index, const float *q, const aii_mask *mask, aii_searchplan *plan, aii_near *hits,
                     size_t *n)
{
  aii_finds finds = {0};
  *n = 0;
  double begin = cpu_us();
  assert_true(aii_searchplan_run(index, q, mask, plan, K, &finds));
  assert_true(aii_finds_settle(index, q, &finds, hits, n, K));
  double us = cpu_us() - begin;
  aii_finds_free(index, &finds);
  return us;
}

static void measure(aii_index *index, const float *q, const aii_mask *mask, figures *f, int at, const aii_near *exact)
{
  aii_near hits[K];
  size_t n;
  aii_searchplan plan = {.kind = f->plan.kind, .ef = f->ef};
  if (f->automatic) aii_searchplan_choose(index, AIINFRA_SEARCH_AUTO, f->ef, mask, &plan);
  f->us[at] = search(index, q, mask, &plan, hits, &n);
  f->kinds[plan.kind]++;
  f->distances += (double)plan.n_scanned / QUERIES;
  for (size_t a = 0; a < n; a++) {
    assert_true(aii_bit(mask->bits, hits[a].slot));
    for (size_t b = 0; b < K; b++) f->found += hits[a].id == exact[b].id;
  }
}

static int by_value(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static double median(figures *f)
{
  qsort(f->us, QUERIES, sizeof *f->us, by_value);
  return f->us[QUERIES / 2];
}

static void show(figures *f)
{
  aii_searchplan plan = {.kind = AII_PLAN_EXACT};
  for (int p = 0; p < 3; p++) plan.kind = f->kinds[p] > f->kinds[plan.kind] ? (aii_searchplan_kind)p : plan.kind;
  double us = median(f);
  printf("  %-5s %-14s ef %4u  recall %.4f  %8.0f distances  %8.1f us  %7.0f/s  %5.1f ns a distance\n",
         f->automatic ? "auto" : "", aii_searchplan_name(&plan), f->ef, f->found / (QUERIES * K), f->distances, us,
         1e6 / us, us * 1e3 / f->distances);
}

static int plans_of(figures *f, bool all)
{
  static const struct {
    aii_searchplan_kind kind;
    uint32_t ef;
  } more[] = {{AII_PLAN_GRAPH, EF}, {AII_PLAN_GRAPH, 2 * EF}, {AII_PLAN_GRAPH, 4 * EF}, {AII_PLAN_GRAPH, 8 * EF}};
  f[0] = (figures){.automatic = true, .ef = EF};
  f[1] = (figures){.plan.kind = AII_PLAN_EXACT, .ef = EF};
  if (!all) return 2;
  for (size_t i = 0; i < AII_COUNT(more); i++) f[2 + i] = (figures){.plan.kind = more[i].kind, .ef = more[i].ef};
  return 2 + (int)AII_COUNT(more);
}

static void measure_share(aii_index *index, aii_mask *mask, kind what, uint32_t percent, bool all)
{
  static figures f[MOST_PLANS];
  unsigned long long seed = 77;
  uint32_t n_passing = (uint32_t)((uint64_t)index->n * percent / 100);
  int n_plans = plans_of(f, all);
  for (int i = 0; i < QUERIES; i++) {
    float v[DIMS];
    aii_near exact[K];
    size_t n;
    aii_searchplan truth = {.kind = AII_PLAN_EXACT};
    (void)random_row(&seed, v);
    float *q = aii_index_new_query(index, v);
    make_order(index, q, what, &seed);
    let_pass(n_passing, mask);
    (void)search(index, q, mask, &truth, exact, &n);
    assert_int_equal(n, K);
    for (int p = 0; p < n_plans; p++) measure(index, q, mask, &f[(p + i) % n_plans], i, exact);
    aii_index_free_query(index, q);
  }
  printf("%s, %u %% pass (%u)\n", KIND_NAMES[what], percent, n_passing);
  for (int p = 0; p < n_plans; p++) show(&f[p]);
  (void)fflush(stdout);
}

static void test_plans(void **state)
{
  static const uint32_t percent[] = {80, 40, 20, 10, 5, 2, 1};
  const char *rows = getenv("AIINFRA_BENCH_ROWS");
  uint32_t n = rows != NULL ? (uint32_t)atol(rows) : 20000;
  unsigned long long seed = test_seed();
  aii_index index;
  (void)state;
  assert_int_equal(aii_index_init(&index, &mem, aii_kernels_get(0), DIMS, AIINFRA_METRIC_COSINE, 16, 100, &err),
                   AIINFRA_OK);
  index.vector_bytes = SIZE_MAX; /* orders and truths are made of floats */
  fill(&index, n, &seed);
  uint64_t begin = aii_now_ns();
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  printf("%u rows of %d floats, graph built in %.1f s\n", n, DIMS, (double)(aii_now_ns() - begin) / 1e9);
  aii_mask mask = {.n_words = n / 64 + 1};
  mask.bits = calloc(mask.n_words, sizeof *mask.bits);
  for (int k = 0; k < KINDS; k++) {
    for (size_t i = 0; i < AII_COUNT(percent); i++) {
      measure_share(&index, &mask, (kind)k, percent[i], getenv("AIINFRA_BENCH_PLANS") != NULL);
    }
  }
  free(mask.bits);
  free(cluster_of);
  free(order);
  aii_index_destroy(&index);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_plans)};
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
