/* ours.c - libaiinfra's side of `make bench-vector`: a vector store that obeys lines and answers each with JSON.
 *
 *   ours DIR N DIMS N_QUERIES METRIC     in DIR: base.f32, queries.f32, cluster.i32
 *
 *   load                        writes all rows, a thousand in a transaction
 *   build                       reads them and makes the graph: what the first search waits for
 *   search TRUTH EF MODE [FILTER]   all queries, one by one; TRUTH: file of 10 ids for each
 *   explain EF [FILTER]         how such a search is answered
 *   single N SYNC               N rows, each in a transaction of its own; SYNC as aiinfra_db_opts wants it
 *   churn FROM N                replaces rows by new ids from FROM on, with the vectors of the base
 *
 * Row i has the id i and the payload {"share": (i * 7919 + 13) % 1000, "cluster": cluster of i}.
 */
#include <aiinfra.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { K = 10, BATCH = 1000 };

static struct {
  const char *dir;
  int64_t n, dims, n_queries;
  float *base, *queries;
  int32_t *cluster;
  aiinfra_runtime *rt;
  aiinfra_db *db;
  aiinfra_vecstore *store;
} b;

static void fail(const char *what, const char *why)
{
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static double now(void)
{
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Resident bytes of this process that are no file's. */
static long memory(void)
{
  char line[256];
  long kib = 0;
  FILE *f = fopen("/proc/self/status", "r");
  while (f != NULL && fgets(line, sizeof line, f) != NULL) (void)sscanf(line, "RssAnon: %ld", &kib);
  if (f != NULL) (void)fclose(f);
  return kib * 1024;
}

static void *read_all(const char *name, size_t bytes)
{
  char path[4096];
  void *p = malloc(bytes);
  (void)snprintf(path, sizeof path, "%s/%s", b.dir, name);
  FILE *f = fopen(path, "rb");
  if (f == NULL || p == NULL || fread(p, 1, bytes, f) != bytes) fail(path, "cannot be read");
  (void)fclose(f);
  return p;
}

static void open_store(const char *name, int32_t metric, int32_t synchronous, aiinfra_db **db, aiinfra_vecstore **store)
{
  char path[4096];
  aiinfra_error err;
  aiinfra_db_opts d = AIINFRA_DB_OPTS_INIT;
  aiinfra_vecstore_opts o = AIINFRA_VECSTORE_OPTS_INIT;
  const char *limit = getenv("VECTOR_BYTES");
  d.synchronous = synchronous;
  o.dims = (uint32_t)b.dims;
  o.metric = metric;
  if (limit != NULL) o.vector_bytes = strtoull(limit, NULL, 10);
  (void)snprintf(path, sizeof path, "%s/%s", b.dir, name);
  (void)remove(path);
  if (aiinfra_db_open(b.rt, path, &d, db, &err) != AIINFRA_OK) fail(path, err.message);
  if (aiinfra_vecstore_open(*db, "bench", &o, store, &err) != AIINFRA_OK) fail(path, err.message);
}

static void upsert(aiinfra_vecstore *store, int64_t from, int64_t n, int64_t id)
{
  static aiinfra_record records[BATCH];
  static char payloads[BATCH][64];
  aiinfra_error err;
  for (int64_t i = 0; i < n; i++) {
    int64_t row = (from + i) % b.n;
    (void)snprintf(payloads[i], sizeof payloads[i], "{\"share\":%d,\"cluster\":%d}", (int)((row * 7919 + 13) % 1000),
                   b.cluster[row]);
    records[i] = (aiinfra_record){id + i, b.base + row * b.dims, NULL, payloads[i]};
  }
  if (aiinfra_vecstore_upsert(store, records, (size_t)n, &err) != AIINFRA_OK) fail("upsert", err.message);
}

static void load(void)
{
  double begin = now();
  for (int64_t i = 0; i < b.n; i += BATCH) upsert(b.store, i, i + BATCH < b.n ? BATCH : b.n - i, i);
  printf("{\"seconds\": %.4f}\n", now() - begin);
}

static size_t search(const float *query, uint32_t ef, int32_t mode, const char *filter, char **explain,
                     aiinfra_hit *hits)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_error err;
  size_t n;
  q.vector = query;
  q.k = K;
  q.ef = ef;
  q.mode = mode;
  q.filter_json = filter;
  q.explain = explain;
  if (aiinfra_vecstore_search(b.store, &q, hits, K, &n, &err) != AIINFRA_OK) fail("search", err.message);
  return n;
}

static void build(void)
{
  aiinfra_hit hits[K];
  long before = memory();
  double begin = now();
  (void)search(b.queries, 10, AIINFRA_SEARCH_GRAPH, NULL, NULL, hits);
  double seconds = now() - begin;
  printf("{\"seconds\": %.4f, \"bytes\": %ld}\n", seconds, memory() - before);
}

static void measure(const char *truth_name, uint32_t ef, int32_t mode, const char *filter)
{
  size_t n_truth = (size_t)b.n_queries * K;
  int32_t *truth = read_all(truth_name, n_truth * sizeof *truth);
  aiinfra_hit *hits = calloc(n_truth, sizeof *hits);
  size_t *found = calloc((size_t)b.n_queries, sizeof *found), right = 0, wanted = 0;
  (void)search(b.queries, ef, mode, filter, NULL, hits);
  double begin = now();
  for (int64_t q = 0; q < b.n_queries; q++) {
    found[q] = search(b.queries + q * b.dims, ef, mode, filter, NULL, hits + q * K);
  }
  double seconds = now() - begin;
  for (int64_t q = 0; q < b.n_queries; q++) {
    for (int t = 0; t < K; t++) {
      wanted += truth[q * K + t] >= 0;
      for (size_t h = 0; h < found[q]; h++) right += hits[q * K + (int64_t)h].id == truth[q * K + t];
    }
  }
  printf("{\"qps\": %.2f, \"recall\": %.5f}\n", (double)b.n_queries / seconds, (double)right / (double)wanted);
  free(truth);
  free(hits);
  free(found);
}

static void explain(uint32_t ef, const char *filter)
{
  aiinfra_hit hits[K];
  char *text;
  (void)search(b.queries, ef, AIINFRA_SEARCH_AUTO, filter, &text, hits);
  puts(text);
  aiinfra_string_free(text);
}

static void single(int64_t n, int32_t synchronous)
{
  aiinfra_db *db;
  aiinfra_vecstore *store;
  open_store("single.db", AIINFRA_METRIC_COSINE, synchronous, &db, &store);
  double begin = now();
  for (int64_t i = 0; i < n; i++) upsert(store, i, 1, i);
  printf("{\"rate\": %.2f}\n", (double)n / (now() - begin));
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void churn(int64_t from, int64_t n)
{
  double begin = now();
  aiinfra_error err;
  int64_t *ids = malloc((size_t)n * sizeof *ids);
  for (int64_t i = 0; i < n; i++) ids[i] = from - b.n + i;
  if (aiinfra_vecstore_remove(b.store, ids, (size_t)n, NULL, &err) != AIINFRA_OK) fail("remove", err.message);
  free(ids);
  for (int64_t i = 0; i < n; i += BATCH) upsert(b.store, from + i, i + BATCH < n ? BATCH : n - i, from + i);
  printf("{\"seconds\": %.4f}\n", now() - begin);
}

static void obey(char *line)
{
  char truth[256], filter[512] = "";
  long long n = 0, ef = 0, mode = 0;
  line[strcspn(line, "\n")] = 0;
  if (strcmp(line, "load") == 0) load();
  else if (strcmp(line, "build") == 0) build();
  else if (sscanf(line, "search %255s %lld %lld %511[^\n]", truth, &ef, &mode, filter) >= 3)
    measure(truth, (uint32_t)ef, (int32_t)mode, filter[0] != 0 ? filter : NULL);
  else if (sscanf(line, "explain %lld %511[^\n]", &ef, filter) >= 1)
    explain((uint32_t)ef, filter[0] != 0 ? filter : NULL);
  else if (sscanf(line, "single %lld %lld", &n, &mode) == 2) single(n, (int32_t)mode);
  else if (sscanf(line, "churn %lld %lld", &ef, &n) == 2) churn(ef, n);
  else fail(line, "not understood");
  (void)fflush(stdout);
}

int main(int argc, char **argv)
{
  char line[2048];
  aiinfra_error err;
  if (argc != 6) fail("ours", "DIR N DIMS N_QUERIES METRIC");
  b.dir = argv[1];
  b.n = atoll(argv[2]);
  b.dims = atoll(argv[3]);
  b.n_queries = atoll(argv[4]);
  b.base = read_all("base.f32", (size_t)(b.n * b.dims) * sizeof(float));
  b.queries = read_all("queries.f32", (size_t)(b.n_queries * b.dims) * sizeof(float));
  b.cluster = read_all("cluster.i32", (size_t)b.n * sizeof(int32_t));
  if (aiinfra_runtime_create(NULL, &b.rt, &err) != AIINFRA_OK) fail("runtime", err.message);
  open_store("ours.db", atoi(argv[5]), -1, &b.db, &b.store);
  while (fgets(line, sizeof line, stdin) != NULL) obey(line);
  aiinfra_vecstore_free(b.store);
  aiinfra_db_free(b.db);
  aiinfra_runtime_free(b.rt);
  free(b.base);
  free(b.queries);
  free(b.cluster);
  return 0;
}
