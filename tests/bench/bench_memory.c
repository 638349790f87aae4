/* bench_memory.c - what memory and the response cache cost a call, on one thread, at several sizes.
 *
 * In memory it is what the processor does; in a file, commits wait for no disk (synchronous -1) but what the log moves
 * into the file now and then does; the last line tells what a write costs when each waits for the disk. Facts are sentences of random words. Figures are microseconds.
 *
 * bench_memory [facts]
 */
#include <stdio.h>
#include <stdlib.h>

#include "aiinfra.h"
#include "lib/base/base.h"
#include "tests/support/support.h"

static aiinfra_runtime *rt;
static aiinfra_error err;
static unsigned long long seed = 1;

static void must(aiinfra_status rc)
{
  if (rc == AIINFRA_OK) return;
  printf("%s\n", err.message);
  exit(1);
}

static const char *sentence(void)
{
  static char text[256];
  static const char *const parts[] = {"ka", "ro", "mi", "tel", "su", "ven", "dor", "pla", "shi", "qu"};
  size_t n = 0;
  for (int w = 0; w < 9; w++) {
    for (unsigned long long s = 2 + test_random(&seed) % 2; s > 0; s--)
      n += (size_t)snprintf(text + n, sizeof text - n, "%s", parts[test_random(&seed) % AII_COUNT(parts)]);
    n += (size_t)snprintf(text + n, sizeof text - n, "%s", w == 8 ? "." : " ");
  }
  return text;
}

typedef struct times {
  double *us;
  size_t n;
} times;

static int by_size(const void *a, const void *b)
{
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void show(const char *what, times *t)
{
  double sum = 0;
  for (size_t i = 0; i < t->n; i++) sum += t->us[i];
  qsort(t->us, t->n, sizeof *t->us, by_size);
  printf("%-32s %6zu calls  mean %8.1f  median %8.1f  99 %% %8.1f  most %9.1f us\n", what, t->n, sum / (double)t->n,
         t->us[t->n / 2], t->us[t->n * 99 / 100], t->us[t->n - 1]);
  t->n = 0;
}

/* Runs the call and keeps its time. */
#define TIMED(t, call)                                        \
  do {                                                        \
    uint64_t from_ = aii_now_ns();                            \
    must(call);                                               \
    (t)->us[(t)->n++] = (double)(aii_now_ns() - from_) / 1e3; \
  } while (0)

static aiinfra_db *open_db(const char *name, int32_t synchronous)
{
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_db *db;
  opts.synchronous = synchronous;
  must(aiinfra_db_open(rt, name[0] == ':' ? name : test_tmp(name), &opts, &db, &err));
  return db;
}

static void recall(aiinfra_memory *memory, times *t, const char *what)
{
  char *json;
  for (int i = 0; i < 200; i++) {
    const char *text = sentence();
    TIMED(t, aiinfra_memory_recall(memory, text, NULL, &json, &err));
    aiinfra_string_free(json);
  }
  show(what, t);
}

static void measure_memory(times *t, const char *path, size_t n_facts)
{
  aiinfra_db *db = open_db(path, -1);
  aiinfra_memory *memory;
  int64_t first = 0, id;
  printf("%zu facts, %s\n", n_facts, path[0] == ':' ? "in memory" : "in a file");
  must(aiinfra_memory_open(db, NULL, &memory, &err));
  for (size_t i = 0; i < n_facts; i++) TIMED(t, aiinfra_memory_remember(memory, sentence(), NULL, &id, &err));
  first = id - (int64_t)n_facts + 1;
  show("remember a new fact", t);
  must(aiinfra_memory_remember(memory, "My cat is called Miso.", NULL, NULL, &err));
  for (int i = 0; i < 1000; i++) TIMED(t, aiinfra_memory_remember(memory, "My cat is called Miso.", NULL, NULL, &err));
  show("remember a known fact", t);
  recall(memory, t, "recall 5 of all");
  for (int i = 0; i < 500; i++) TIMED(t, aiinfra_memory_supersede(memory, first + i, sentence(), NULL, NULL, &err));
  show("supersede", t);
  for (int i = 0; i < 500; i++)
    TIMED(t, aiinfra_memory_append(memory, "c", "{\"role\":\"user\",\"content\":\"Hello, how are you?\"}", &err));
  show("append a message", t);
  for (int i = 0; i < 3; i++) TIMED(t, aiinfra_memory_forget(memory, first + 1000 + i, &err));
  show("forget, with the proof", t);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

static void measure_cache(times *t)
{
  enum { ENTRIES = 5000 };
  aiinfra_db *db = open_db("cache.db", -1);
  aiinfra_cache *cache;
  aiinfra_cache_query query = AIINFRA_CACHE_QUERY_INIT;
  char request[512], *json;
  must(aiinfra_cache_open(db, NULL, &cache, &err));
  query.request_json = request;
  for (int i = 0; i < ENTRIES; i++) {
    snprintf(request, sizeof request,
             "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"What is %d %s\"}]}", i, sentence());
    TIMED(t, aiinfra_cache_store(cache, &query, "{\"choices\":[]}", NULL, &err));
  }
  show("cache: store", t);
  for (int i = 0; i < 1000; i++) {
    TIMED(t, aiinfra_cache_lookup(cache, &query, &json, &err));
    aiinfra_string_free(json);
  }
  show("cache: exact hit", t);
  for (char *p = strstr(request, "What is"); *p != '\0'; p++) *p = *p == 'W' ? 'w' : *p;
  for (int i = 0; i < 1000; i++) {
    TIMED(t, aiinfra_cache_lookup(cache, &query, &json, &err));
    if (strstr(json, "semantic") == NULL) must(AIINFRA_EINTERNAL);
    aiinfra_string_free(json);
  }
  show("cache: semantic hit", t);
  for (int i = 0; i < 1000; i++) {
    snprintf(request, sizeof request, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Who is %s\"}]}",
             sentence());
    TIMED(t, aiinfra_cache_lookup(cache, &query, &json, &err));
    aiinfra_string_free(json);
  }
  show("cache: miss", t);
  aiinfra_cache_free(cache);
  aiinfra_db_free(db);
}

static void measure_disk(times *t)
{
  aiinfra_db *db = open_db("disk.db", 0);
  aiinfra_memory *memory;
  must(aiinfra_memory_open(db, NULL, &memory, &err));
  for (int i = 0; i < 200; i++) TIMED(t, aiinfra_memory_remember(memory, sentence(), NULL, NULL, &err));
  show("remember, waiting for the disk", t);
  aiinfra_memory_free(memory);
  aiinfra_db_free(db);
}

int main(int argc, char **argv)
{
  size_t n = argc > 1 ? (size_t)atoi(argv[1]) : 10000;
  times t = {calloc(n + 10000, sizeof(double)), 0};
  if (t.us == NULL || n == 0) return 1;
  must(aiinfra_runtime_create(NULL, &rt, &err));
  measure_memory(&t, ":memory:", n);
  measure_memory(&t, "memory.db", n);
  measure_cache(&t);
  measure_disk(&t);
  aiinfra_runtime_free(rt);
  free(t.us);
  return 0;
}
