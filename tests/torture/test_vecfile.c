/* test_vecfile.c - memory and the disk fail while files of vectors are imported and exported: whole batches, whole files. */
#include <stdio.h>
#include <unistd.h>

#include "tests/torture/scene.h"

enum { ROWS = 5, BATCH = 2 };

static char from_json[512], from_npy[512], to[512];

static const char LINES[] =
    "{\"id\":1,\"vector\":[1,0.5],\"vectors\":{\"image\":[1,2],\"words\":{\"indices\":[7,2],\"values\":[1,2]},"
    "\"tokens\":"
    "[[1,2],[3,4]]},\"text\":\"the red fox\",\"payload\":{\"n\":[1,{\"a\":null}]}}\n"
    "{\"id\":2,\"vector\":[2,0.5],\"vectors\":{\"image\":null}}\n\n{\"id\":3,\"vector\":[3,0.5],\"payload\":{}}\n"
    "{\"id\":4,\"vector\":[4,0.5],\"text\":\"\"}\n{\"id\":5,\"vector\":[5,0.5]}\n";

/* What next_row tells is what the collection has. */
static aiinfra_status import(aiinfra_vecstore *store, const char *path, const char *using_name, uint64_t before)
{
  aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
  uint64_t next = 99, n = 0;
  opts.batch_rows = BATCH;
  opts.first_id = ROWS + 1;
  opts.using_name = using_name;
  aiinfra_status rc = aiinfra_vecstore_import(store, path, &opts, &next, NULL);
  torture_check(next <= ROWS && (next % BATCH == 0 || next == ROWS), "whole batches are told");
  if (rc == AIINFRA_OK) torture_check(next == ROWS, "all rows are told");
  torture_pause("the rows that are there");
  torture_check(aiinfra_vecstore_count(store, &n, NULL) == AIINFRA_OK, "count");
  torture_check(n >= before + next && n <= before + ROWS, "what was told is there");
  torture_resume();
  return rc;
}

static aiinfra_status export(aiinfra_vecstore *store, const char *path)
{
  aiinfra_vecstore_export_opts opts = AIINFRA_VECSTORE_EXPORT_OPTS_INIT;
  uint64_t n = 99;
  opts.batch_rows = BATCH;
  aiinfra_status rc = aiinfra_vecstore_export(store, path, &opts, &n, NULL);
  torture_check(n == (rc == AIINFRA_OK ? 2 * ROWS : 0), "all rows or none");
  torture_check((access(path, F_OK) == 0) == (rc == AIINFRA_OK), "a whole file or none");
  (void)remove(path);
  return rc;
}

static aiinfra_status use(aiinfra_runtime *runtime, aiinfra_vecstore *store)
{
  static const char *const endings[] = {"jsonl", "npy", "fvecs"};
  uint32_t dims = 9;
  uint64_t rows;
  aiinfra_status rc = aiinfra_vector_file_probe(runtime, from_json, 0, &dims, &rows, NULL);
  torture_check(dims == (rc == AIINFRA_OK ? 2 : 0), "dims or none");
  if (rc == AIINFRA_OK) rc = import(store, from_json, NULL, 0);
  if (rc == AIINFRA_OK) rc = import(store, from_npy, NULL, ROWS);
  if (rc == AIINFRA_OK) rc = import(store, from_npy, "image", ROWS);
  for (size_t i = 0; rc == AIINFRA_OK && i < sizeof endings / sizeof *endings; i++) {
    char path[600];
    snprintf(path, sizeof path, "%s.%s", to, endings[i]);
    rc = export(store, path);
  }
  return rc;
}

static aiinfra_status scenario(void *ctx)
{
  aiinfra_runtime *runtime = NULL;
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 2;
  opts.vectors_json = "{\"image\":{\"dims\":2},\"words\":{\"sparse\":true},\"tokens\":{\"dims\":2,\"multi\":true}}";
  (void)ctx;
  torture_pause("runtime, database and collection");
  aiinfra_status rc = scene_runtime(&runtime);
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(runtime, ":memory:", NULL, &db, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_open(db, "rows", &opts, &store, NULL);
  torture_resume();
  if (rc == AIINFRA_OK) rc = use(runtime, store);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  aiinfra_runtime_free(runtime);
  return rc;
}

static void vecfile(void **state)
{
  static const aiinfra_status allowed[] = {AIINFRA_EFORMAT};
  torture_opts opts = {.sources = TORTURE_HOOK | TORTURE_MALLOC, .max_calls = 200};
  (void)state;
  assert_int_equal(torture_run("vecfile.memory", scenario, NULL, &opts), 0);
  opts.sources = TORTURE_IO;
  opts.allowed = allowed; /* a read that ends early is a file that was cut short */
  opts.n_allowed = 1;
  assert_int_equal(torture_run("vecfile.disk", scenario, NULL, &opts), 0);
}

static int set_up(void **state)
{
  static const char header[] = "\x93NUMPY\1\0\x38\0{'descr': '|u1', 'fortran_order': False, 'shape': (5, 2)}";
  uint8_t npy[sizeof header - 1 + 2 * ROWS];
  (void)state;
  snprintf(from_json, sizeof from_json, "%s", test_tmp("rows.jsonl"));
  snprintf(from_npy, sizeof from_npy, "%s", test_tmp("rows.npy"));
  snprintf(to, sizeof to, "%s", test_tmp("out"));
  memcpy(npy, header, sizeof header - 1);
  npy[8] = sizeof header - 1 - 10;
  memset(npy + sizeof header - 1, 7, 2 * ROWS);
  return test_write_file(from_json, LINES, sizeof LINES - 1) != 0 || test_write_file(from_npy, npy, sizeof npy) != 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(vecfile)};
  return cmocka_run_group_tests(tests, set_up, NULL);
}
