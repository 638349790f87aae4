/* test_hnsw.c - the index without a database: the graph finds what comparing with everything finds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "support/support.h"

static aii_mem mem;
static aiinfra_error err;

static void start(aii_index *index, uint32_t dims, int32_t metric, uint32_t m, uint32_t ef_construction)
{
  const aii_kernels *kernels = aii_kernels_get(0);
  if (aii_index_init(index, &mem, kernels, dims, metric, m, ef_construction, &err) != AIINFRA_OK) {
    fail_msg("%s", err.message);
  }
}

static void random_vector(unsigned long long *seed, float *v, uint32_t dims)
{
  /* around one of 16 centres, as real embeddings lie */
  unsigned long long centre = test_random(seed) % 16;
  for (uint32_t i = 0; i < dims; i++) {
    float noise = (float)(test_random(seed) % 2001) / 1000.0f - 1.0f;
    v[i] = noise + (float)((centre * 7 + i * 13) % 11) / 5.0f - 1.0f;
  }
}

/* The k nearest of all, or of those that a walk finds when there is one, in any order. */
static size_t search(aii_index *index, const float *q, const uint64_t *allow, aii_walk *how, size_t k, aii_near *hits)
{
  aii_finds finds = {0};
  uint64_t n_scanned = 0;
  size_t n = 0;
  if (how != NULL) assert_true(aii_hnsw_search(index, q, how, k, &finds));
  else assert_true(aii_index_scan(index, q, allow, 0, k, &finds, &n_scanned));
  assert_true(aii_finds_settle(index, q, &finds, hits, &n, k));
  aii_finds_free(index, &finds);
  return n;
}

/* How many of the k nearest of a scan a graph search finds, as a share. */
static double recall(aii_index *index, const float *query, const uint64_t *allow, uint32_t ef, size_t k)
{
  aii_near exact[100], found[100];
  size_t both = 0;
  float *q = aii_index_new_query(index, query);
  aii_walk how = {.allow = allow, .ef = ef};
  size_t n_exact = search(index, q, allow, NULL, k, exact), n_found = search(index, q, allow, &how, k, found);
  assert_true(how.n_scanned > 0);
  for (size_t i = 0; i < n_found; i++) {
    for (size_t j = 0; j < n_exact; j++) both += found[i].id == exact[j].id;
    assert_false(aii_block_of(index, found[i].slot)->dead[found[i].slot % AII_BLOCK_SLOTS]);
    assert_true(allow == NULL || aii_bit(allow, found[i].slot));
  }
  aii_index_free_query(index, q);
  return n_exact == 0 ? 1 : (double)both / (double)n_exact;
}

static void test_metrics(void **state)
{
  enum { N = 3000, DIMS = 24, QUERIES = 50 };
  (void)state;
  for (int32_t metric = AIINFRA_METRIC_COSINE; metric <= AIINFRA_METRIC_L2; metric++) {
    aii_index index;
    unsigned long long seed = test_seed();
    float v[DIMS];
    double sum = 0;
    start(&index, DIMS, metric, 16, 100);
    for (int i = 0; i < N; i++) {
      random_vector(&seed, v, DIMS);
      assert_true(aii_index_add(&index, i * 7 - 1000, v));
    }
    assert_true(aii_hnsw_build(&index, UINT32_MAX));
    assert_int_equal(index.n_graph, N);
    for (int i = 0; i < QUERIES; i++) {
      random_vector(&seed, v, DIMS);
      sum += recall(&index, v, NULL, 64, 10);
    }
    printf("metric %d: recall@10 %.4f at ef 64\n", metric, sum / QUERIES);
    assert_true(sum / QUERIES >= 0.95);
    aii_index_destroy(&index);
  }
  assert_int_equal(mem.used_bytes, 0);
}

/* Half of the rows die, some come back changed; a filter hides a third: what is found is alive and allowed. */
static void test_tombstones(void **state)
{
  enum { N = 4000, DIMS = 16 };
  aii_index index;
  unsigned long long seed = test_seed();
  float v[DIMS];
  double plain = 0, filtered = 0;
  (void)state;
  start(&index, DIMS, AIINFRA_METRIC_L2, 16, 100);
  for (int i = 0; i < N; i++) {
    random_vector(&seed, v, DIMS);
    assert_true(aii_index_add(&index, i, v));
  }
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  for (int64_t i = 0; i < N; i += 2) aii_index_kill(&index, aii_idmap_get(&index.map, i));
  for (int64_t i = 0; i < N; i += 8) {
    random_vector(&seed, v, DIMS);
    assert_true(aii_index_add(&index, i, v));
  }
  assert_int_equal(index.n_dead, N / 2);
  assert_true(aii_hnsw_build(&index, 100)); /* in steps */
  assert_int_equal(index.n_graph, N + 100);
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  uint64_t *allow = calloc(index.n / 64 + 1, sizeof *allow);
  for (uint32_t slot = 0; slot < index.n; slot++) {
    if (slot % 3 != 0) allow[slot / 64] |= (uint64_t)1 << slot % 64;
  }
  for (int i = 0; i < 50; i++) {
    random_vector(&seed, v, DIMS);
    plain += recall(&index, v, NULL, 64, 10) / 50;
    filtered += recall(&index, v, allow, 64, 10) / 50;
  }
  printf("half dead: recall@10 %.4f, a third hidden too: %.4f\n", plain, filtered);
  assert_true(plain >= 0.95 && filtered >= 0.95);
  free(allow);
  aii_index_destroy(&index);
  assert_int_equal(mem.used_bytes, 0);
}

/* Rounds in which a tenth of the rows goes and others come, with dead slots taken out in between: the graph finds as much
 * as before, every slot is within reach, and the rows that are there are those that should be. */
static void churn(int32_t metric, size_t vector_bytes)
{
  enum { N = 3000, DIMS = 24, ROUNDS = 20, QUERIES = 100 };
  aii_index index;
  unsigned long long seed = test_seed();
  float v[DIMS];
  double before = 0, after = 0;
  int64_t next = N;
  start(&index, DIMS, metric, 16, 100);
  index.vector_bytes = vector_bytes;
  for (int i = 0; i < N; i++) {
    random_vector(&seed, v, DIMS);
    assert_true(aii_index_add(&index, i, v));
  }
  for (int round = 0; round <= ROUNDS; round++) {
    assert_true(aii_hnsw_build(&index, UINT32_MAX));
    for (int i = 0; (round == 0 || round == ROUNDS) && i < QUERIES; i++) {
      random_vector(&seed, v, DIMS);
      *(round == 0 ? &before : &after) += recall(&index, v, NULL, 64, 10) / QUERIES;
    }
    for (int i = 0; round < ROUNDS && i < N / 10; i++, next++) {
      aii_index_kill(&index, aii_idmap_get(&index.map, next - N));
      random_vector(&seed, v, DIMS);
      assert_true(aii_index_add(&index, next, v));
    }
    if (index.n_dead > index.n / 4) assert_true(aii_hnsw_heal(&index));
  }
  assert_true(aii_hnsw_heal(&index));
  assert_int_equal(index.n, N);
  assert_int_equal(index.n_graph, N);
  for (int64_t id = next - N; id < next; id++) {
    uint32_t slot = aii_idmap_get(&index.map, id);
    assert_true(slot < index.n && aii_block_of(&index, slot)->ids[slot % AII_BLOCK_SLOTS] == id);
  }
  assert_int_equal(aii_idmap_get(&index.map, next - N - 1), AII_NO_SLOT);
  uint64_t *reached = calloc(N / 64 + 1, sizeof *reached);
  uint32_t *queue = calloc(N, sizeof *queue);
  assert_int_equal(aii_hnsw_unreached(&index, reached, queue), 0);
  printf("churn, metric %d: recall@10 %.4f, afterwards %.4f\n", metric, before, after);
  assert_true(after >= before - 0.002);
  free(reached);
  free(queue);
  aii_index_destroy(&index);
  assert_int_equal(mem.used_bytes, 0);
}

static void test_churn(void **state)
{
  (void)state;
  churn(AIINFRA_METRIC_COSINE, SIZE_MAX);
  churn(AIINFRA_METRIC_L2, 1000);
}

/* All rows go, and one comes back. */
static void test_heal_all(void **state)
{
  aii_index index;
  aii_near found[2];
  float v[2] = {1, 0};
  (void)state;
  start(&index, 2, AIINFRA_METRIC_L2, 4, 10);
  for (int i = 0; i < 2000; i++) {
    v[1] = (float)i;
    assert_true(aii_index_add(&index, i, v));
  }
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  for (uint32_t i = 0; i < 2000; i++) aii_index_kill(&index, i);
  assert_true(aii_hnsw_heal(&index));
  assert_int_equal(index.n, 0);
  assert_int_equal(index.n_blocks, 0);
  assert_true(aii_index_add(&index, 7, v));
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  assert_int_equal(search(&index, v, NULL, &(aii_walk){.ef = 10}, 2, found), 1);
  assert_int_equal(found[0].id, 7);
  aii_index_destroy(&index);
  assert_int_equal(mem.used_bytes, 0);
}

/* Without memory dead slots stay, and what lives is found as before. */
static void test_heal_without_memory(void **state)
{
  enum { N = 1500, DIMS = 8 };
  aii_index index;
  unsigned long long seed = test_seed();
  float v[DIMS];
  double found = 0;
  (void)state;
  start(&index, DIMS, AIINFRA_METRIC_COSINE, 16, 100);
  for (int i = 0; i < N; i++) {
    random_vector(&seed, v, DIMS);
    assert_true(aii_index_add(&index, i, v));
  }
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  for (uint32_t i = 0; i < N / 2; i++) aii_index_kill(&index, i);
  for (size_t room = 0; room < 1000000; room += 5000) {
    mem.limit_bytes = mem.used_bytes + room;
    if (aii_hnsw_heal(&index)) break;
    assert_int_equal(index.n, N);
    assert_int_equal(index.n_dead, N / 2);
  }
  mem.limit_bytes = 0;
  assert_int_equal(index.n, N / 2);
  for (int i = 0; i < 50; i++) {
    random_vector(&seed, v, DIMS);
    found += recall(&index, v, NULL, 64, 10) / 50;
  }
  assert_true(found >= 0.95);
  aii_index_destroy(&index);
  assert_int_equal(mem.used_bytes, 0);
}

/* An exact search over codes gives what comparing all floats gives, rows and distances, whatever the vectors are like. */
static void test_scan(void **state)
{
  enum { N = 2000, DIMS = 70, K = 10 };
  static float rows[N][DIMS];
  (void)state;
  for (int kind = 0; kind < 12; kind++) {
    aii_index index;
    unsigned long long seed = test_seed();
    start(&index, DIMS, AIINFRA_METRIC_COSINE + kind % 3, 16, 100);
    for (int i = 0; i < N; i++) {
      random_vector(&seed, rows[i], DIMS);
      float far = kind / 3 == 1 ? 1000.0f : 0, size = kind / 3 == 2 ? ldexpf(1, i % 90 - 45) : 1;
      for (int d = 0; d < DIMS; d++) rows[i][d] = rows[i][d] * size + far;
      if (kind / 3 == 3 && i % 5 == 0) memcpy(rows[i], rows[i / 10], sizeof rows[i]); /* many the same */
      assert_true(aii_index_add(&index, i, rows[i]));
    }
    for (int t = 0; t < 20; t++) {
      float *q = aii_index_new_query(&index, rows[t * 77]), v[DIMS];
      aii_near want[K], got[K];
      size_t n_want = 0;
      for (int i = 0; i < N; i++) {
        aii_index_take(&index, v, rows[i]);
        aii_near_offer(want, &n_want, K, (aii_near){i, aii_index_dist(&index, q, v), 0});
      }
      assert_int_equal(search(&index, q, NULL, NULL, K, got), K);
      aii_near_sort(want, K);
      aii_near_sort(got, K);
      for (int i = 0; i < K; i++) {
        assert_int_equal(got[i].id, want[i].id);
        assert_true(memcmp(&got[i].dist, &want[i].dist, sizeof(float)) == 0);
      }
      aii_index_free_query(&index, q);
    }
    aii_index_destroy(&index);
  }
}

/* The same rows make the same graph, link for link. */
static void test_deterministic(void **state)
{
  enum { N = 1500, DIMS = 8 };
  aii_index index[2];
  (void)state;
  for (int t = 0; t < 2; t++) {
    unsigned long long seed = test_seed();
    float v[DIMS];
    start(&index[t], DIMS, AIINFRA_METRIC_COSINE, 8, 50);
    for (int i = 0; i < N; i++) {
      random_vector(&seed, v, DIMS);
      assert_true(aii_index_add(&index[t], i, v));
      if (t == 1 && i % 100 == 0) assert_true(aii_hnsw_build(&index[t], UINT32_MAX));
    }
    assert_true(aii_hnsw_build(&index[t], UINT32_MAX));
  }
  assert_int_equal(index[0].entry, index[1].entry);
  assert_int_equal(index[0].top, index[1].top);
  for (size_t b = 0; b < index[0].n_blocks; b++) {
    assert_memory_equal(index[0].blocks[b]->links0, index[1].blocks[b]->links0, AII_BLOCK_SLOTS * 16 * 4);
  }
  for (int t = 0; t < 2; t++) aii_index_destroy(&index[t]);
}

/* Rows that are all the same, extreme, or few: nothing to tell apart, nothing to break. */
static void test_extremes(void **state)
{
  aii_index index;
  aii_near found[100];
  size_t n = 0;
  float v[3] = {3e38f, -3e38f, 1e-45f}, tiny[3] = {1e-44f, 0, 0}, *q;
  (void)state;
  start(&index, 3, AIINFRA_METRIC_COSINE, 2, 4);
  assert_true(aii_hnsw_build(&index, UINT32_MAX)); /* empty */
  for (int i = 0; i < 300; i++) assert_true(aii_index_add(&index, i, i % 2 == 0 ? v : tiny));
  assert_true(aii_hnsw_build(&index, UINT32_MAX));
  q = aii_index_new_query(&index, v);
  n = search(&index, q, NULL, NULL, 100, found);
  aii_near_sort(found, n);
  assert_int_equal(n, 100);
  for (size_t i = 0; i < n; i++) {
    assert_int_equal(found[i].id, (int64_t)i * 2); /* equal distances by id */
    assert_true(fabsf(aii_index_score(&index, found[i].dist) - 1) < 1e-6f);
  }
  n = search(&index, q, NULL, &(aii_walk){.ef = 100}, 100, found);
  assert_true(n > 0);
  aii_index_free_query(&index, q);
  aii_index_destroy(&index);
  start(&index, 2, AIINFRA_METRIC_IP, 4, 10);
  float huge[2] = {3e38f, 3e38f}, anti[2] = {3e38f, -3e38f};
  assert_true(aii_index_add(&index, 1, huge) && aii_index_add(&index, 2, anti));
  n = search(&index, huge, NULL, NULL, 2, found); /* overflow is far, not a number */
  assert_int_equal(n, 2);
  aii_near_sort(found, n);
  assert_int_equal(found[0].id, 1);
  aii_index_destroy(&index);
  assert_int_equal(mem.used_bytes, 0);
}

/* SIFT descriptors with their true neighbours. */
static void test_bigann(void **state)
{
  enum { N = 9800, QUERIES = 200, DIMS = 128, K = 10 };
  (void)state;
  if (test_data("vectors/bigann10k/base.u8bin") == NULL) test_skip("no shared reference data (vectors/bigann10k)");
  char *base = test_read_file(test_data("vectors/bigann10k/base.u8bin"), NULL);
  char *truth = test_read_file(test_data("vectors/bigann10k/gt_split9800_200_l2_top100.bin"), NULL);
  assert_non_null(base);
  assert_non_null(truth);
  aii_index index;
  float v[DIMS];
  size_t hits = 0;
  start(&index, DIMS, AIINFRA_METRIC_L2, 16, 200);
  for (int i = 0; i < N + QUERIES; i++) {
    for (int j = 0; j < DIMS; j++) v[j] = (float)(unsigned char)base[8 + i * DIMS + j];
    if (i < N) {
      assert_true(aii_index_add(&index, i, v));
      continue;
    }
    if (i == N) assert_true(aii_hnsw_build(&index, UINT32_MAX));
    aii_near found[K];
    size_t n = search(&index, v, NULL, &(aii_walk){.ef = 64}, K, found);
    assert_int_equal(n, K);
    for (size_t f = 0; f < n; f++) {
      for (size_t k = 0; k < K; k++) {
        int32_t id;
        memcpy(&id, truth + 8 + ((size_t)(i - N) * 100 + k) * 4, 4);
        hits += found[f].id == id;
      }
    }
  }
  printf("bigann10k: recall@10 %.4f at ef 64\n", (double)hits / (QUERIES * K));
  assert_true((double)hits / (QUERIES * K) >= 0.97);
  aii_index_destroy(&index);
  free(base);
  free(truth);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_metrics),  cmocka_unit_test(test_tombstones), cmocka_unit_test(test_deterministic),
      cmocka_unit_test(test_extremes), cmocka_unit_test(test_bigann),     cmocka_unit_test(test_churn),
      cmocka_unit_test(test_heal_all), cmocka_unit_test(test_scan),       cmocka_unit_test(test_heal_without_memory),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
