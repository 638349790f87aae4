/* test_ingest.c - memory and the disk fail while a database is opened, documents are read in, and memory is asked. */
#include "tests/torture/scene.h"

#include <unistd.h>

typedef struct store {
  aiinfra_runtime *runtime;
  aiinfra_db *db;
  aiinfra_memory *memory;
} store;

static const char *document(void)
{
  static char path[512];
  static const char text[] =
      "# Server\n\nThe server listens on port 8080.\n\n## Limits\n\nIt takes 1024 connections.\n";
  if (path[0] != '\0') return path;
  snprintf(path, sizeof path, "%s", test_tmp("server.md"));
  assert_int_equal(test_write_file(path, text, sizeof text - 1), 0);
  return path;
}

static aiinfra_status open_store(store *s, const char *path)
{
  aiinfra_status rc;
  memset(s, 0, sizeof *s);
  torture_pause("runtime");
  rc = scene_runtime(&s->runtime);
  torture_resume();
  if (rc == AIINFRA_OK) rc = torture_made(aiinfra_db_open(s->runtime, path, NULL, &s->db, NULL), &s->db, "db_open");
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_memory_open(s->db, NULL, &s->memory, NULL), &s->memory, "memory_open");
  return rc;
}

static void close_store(store *s)
{
  aiinfra_memory_free(s->memory);
  aiinfra_db_free(s->db);
  aiinfra_runtime_free(s->runtime);
}

static aiinfra_status ingest(void *ctx)
{
  const char *paths[] = {document()};
  aiinfra_ingest_stats stats = {.struct_size = sizeof stats};
  store s;
  char *text = NULL;
  aiinfra_status rc = open_store(&s, ctx);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_ingest(s.memory, paths, 1, NULL, NULL, &stats, NULL);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_remember(s.memory, "My cat is called Miso.", NULL, NULL, NULL);
  if (rc == AIINFRA_OK)
    rc = torture_made(aiinfra_memory_recall(s.memory, "Which port?", NULL, &text, NULL), &text, "recall");
  if (rc == AIINFRA_OK) torture_check(stats.skipped == 1 || strstr(text, "8080") != NULL, "the passage is found");
  aiinfra_string_free(text);
  close_store(&s);
  return rc;
}

/* What was written while the disk failed must still be a database. */
static aiinfra_status ingest_file(void *ctx)
{
  const char *path = ctx;
  char name[600];
  aiinfra_status rc = ingest(ctx);
  store s;
  torture_pause("look at what is left");
  if (access(path, F_OK) == 0) {
    if (open_store(&s, path) == AIINFRA_OK)
      torture_check(aiinfra_db_check(s.db, NULL) == AIINFRA_OK, "the database is sound");
    else torture_check(false, "the database opens again");
    close_store(&s);
  }
  unlink(path);
  snprintf(name, sizeof name, "%s-wal", path);
  unlink(name);
  snprintf(name, sizeof name, "%s-shm", path);
  unlink(name);
  torture_resume();
  return rc;
}

static void memory_fails(void **state)
{
  (void)state;
  assert_int_equal(torture_run("ingest.memory", ingest, (void *)":memory:", NULL), 0);
}

static void the_disk_fails(void **state)
{
  static const aiinfra_status also[] = {AIINFRA_EFORMAT};
  const torture_opts opts = {.sources = TORTURE_IO, .allowed = also, .n_allowed = 1};
  char path[512];
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("torture.db"));
  assert_int_equal(torture_run("ingest.disk", ingest_file, path, &opts), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(memory_fails), cmocka_unit_test(the_disk_fails)};
  document();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
