/* test_processes.c - four processes have one file open: one writes, three search. Each answer is of whole batches, none older than
 * the one that the process got before, and the file is whole at the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aiinfra/db.h"
#include "aiinfra/runtime.h"
#include "aiinfra/vecstore.h"
#include "support/support.h"

enum { DIMS = 8, BATCH = 10, WINDOW = 12, BATCHES = 1000, READERS = 3 };

typedef struct files {
  aiinfra_runtime *rt;
  aiinfra_db *db;
  aiinfra_vecstore *store;
} files;

static aiinfra_error err;

static bool open_files(files *f, const char *path)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_db_opts db_opts = AIINFRA_DB_OPTS_INIT;
  db_opts.synchronous = -1;
  opts.dims = DIMS;
  return aiinfra_runtime_create(NULL, &f->rt, &err) == AIINFRA_OK &&
         aiinfra_db_open(f->rt, path, &db_opts, &f->db, &err) == AIINFRA_OK &&
         aiinfra_vecstore_open(f->db, "rows", &opts, &f->store, &err) == AIINFRA_OK;
}

static void close_files(files *f)
{
  aiinfra_vecstore_free(f->store);
  aiinfra_db_free(f->db);
  aiinfra_runtime_free(f->rt);
}

static aiinfra_status add(const files *f, int64_t batch, unsigned long long *seed)
{
  float vectors[BATCH][DIMS];
  aiinfra_record records[BATCH];
  for (int i = 0; i < BATCH; i++) {
    for (int d = 0; d < DIMS; d++) vectors[i][d] = 0.1f + (float)(test_random(seed) % 1000);
    records[i] = (aiinfra_record){batch * BATCH + i, vectors[i], "common words", "{\"kept\":true}"};
  }
  return aiinfra_vecstore_upsert(f->store, records, BATCH, &err);
}

static aiinfra_status take_out(const files *f, int64_t batch)
{
  int64_t ids[BATCH];
  for (int i = 0; i < BATCH; i++) ids[i] = batch * BATCH + i;
  return aiinfra_vecstore_remove(f->store, ids, BATCH, NULL, &err);
}

/* *last: the newest batch of the answer before, and then of this one. */
static bool search(const files *f, bool filter, bool words, int64_t *last)
{
  static const float v[DIMS] = {1, 2, 3, 4, 5, 6, 7, 8};
  aiinfra_hit hits[(WINDOW + 2) * BATCH];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  size_t n, counts[WINDOW + 2] = {0};
  int64_t newest = -1;
  q.vector = v;
  q.k = (WINDOW + 2) * BATCH;
  q.filter_json = filter ? "{\"kept\":true}" : NULL;
  q.text = words ? "common" : NULL;
  if (aiinfra_vecstore_search(f->store, &q, hits, q.k, &n, &err) != AIINFRA_OK) return false;
  for (size_t i = 0; i < n; i++) {
    newest = hits[i].id / BATCH > newest ? hits[i].id / BATCH : newest;
    counts[hits[i].id / BATCH % (WINDOW + 2)]++;
  }
  bool whole = n > 0 && newest >= *last;
  for (int i = 0; i < WINDOW + 2; i++) whole = whole && counts[i] % BATCH == 0;
  if (!whole) snprintf(err.message, sizeof err.message, "%zu rows, the newest of batch %lld", n, (long long)newest);
  *last = newest;
  return whole;
}

/* Until the last batch is found. */
static int read_along(const char *path)
{
  files f = {.rt = NULL};
  int64_t last = 0;
  bool ok = open_files(&f, path);
  for (int i = 0; ok && last < BATCHES - 1; i++) ok = search(&f, i % 2 == 0, i % 3 == 0, &last);
  if (!ok) fprintf(stderr, "a reader: %s\n", err.message);
  close_files(&f);
  return ok ? 0 : 1;
}

static void test_four(void **state)
{
  const char *path = test_tmp("four.db");
  unsigned long long seed = test_seed();
  pid_t children[READERS];
  files f = {.rt = NULL};
  int status;
  uint64_t n;
  (void)state;
  if (!open_files(&f, path)) fail_msg("%s", err.message);
  for (int64_t batch = 0; batch < WINDOW; batch++) assert_int_equal(add(&f, batch, &seed), AIINFRA_OK);
  close_files(&f);
  for (int i = 0; i < READERS; i++) {
    children[i] = fork(); /* no thread of this process runs */
    if (children[i] == 0) _exit(read_along(path));
  }
  if (!open_files(&f, path)) fail_msg("%s", err.message);
  for (int64_t batch = WINDOW; batch < BATCHES; batch++) {
    if (add(&f, batch, &seed) != AIINFRA_OK || take_out(&f, batch - WINDOW) != AIINFRA_OK) fail_msg("%s", err.message);
  }
  for (int i = 0; i < READERS; i++) {
    assert_int_equal(waitpid(children[i], &status, 0), children[i]);
    assert_int_equal(status, 0);
  }
  assert_int_equal(aiinfra_vecstore_count(f.store, &n, &err), AIINFRA_OK);
  assert_int_equal(n, WINDOW * BATCH);
  assert_int_equal(aiinfra_db_check(f.db, &err), AIINFRA_OK);
  close_files(&f);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_four)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
