/* test_db.c - the database file: versions, migrations, files that are not ours, damage, several processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/db/db.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_error err;

static aiinfra_db *must_open(const char *path)
{
  aiinfra_db *db;
  if (aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

static void must_exec(const char *path, const char *statements)
{
  aii_sql *sql;
  aii_mem mem;
  aii_sql_opts opts = {.busy_timeout_ms = 1000};
  aii_mem_init(&mem, NULL, 0);
  if (aii_sql_open(&mem, path, &opts, &sql, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  if (aii_sql_exec(sql, statements, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  aii_sql_close(sql);
}

/* Every table that modules build on is there, with the columns they name. */
static void test_tables(void **state)
{
  static const char *const used[] = {
      "SELECT id, name, dims, metric, m, ef_construction, seq, removed_seq, n_rows FROM collections",
      "SELECT row, collection, id, seq, text, keywords, payload FROM rows",
      "SELECT row, vector FROM vectors",
      "SELECT id, scope, kind, hash, document, first_byte, n_bytes, metadata, created_ms, updated_ms FROM items",
      "SELECT id, scope, path, n_bytes, hash, created_ms, updated_ms FROM documents",
      "SELECT scope, conversation, seq, message, created_ms FROM messages",
      "SELECT scope, label, text, updated_ms FROM blocks",
      "SELECT id, agent, state, input, conversation, options, created_ms, updated_ms FROM runs",
      "SELECT run, seq, kind, body, created_ms FROM journal",
  };
  aiinfra_db *db = must_open(":memory:");
  (void)state;
  for (size_t i = 0; i < AII_COUNT(used); i++) {
    if (aii_sql_exec(db->sql, used[i], &err) != AIINFRA_OK) fail_msg("%s: %s", used[i], err.message);
  }
  aiinfra_db_free(db);
}

static void test_versions(void **state)
{
  const char *path = test_tmp("versions.db");
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  (void)state;
  opts.read_only = 1;
  assert_int_equal(aiinfra_db_open(rt, path, &opts, &db, &err), AIINFRA_ENOENT);
  aiinfra_db_free(must_open(path));
  aiinfra_db_free(must_open(path));
  assert_int_equal(aiinfra_db_open(rt, path, &opts, &db, &err), AIINFRA_OK);
  assert_int_not_equal(aii_sql_exec(db->sql, "DELETE FROM runs", &err), AIINFRA_OK);
  aiinfra_db_free(db);
  must_exec(path, "PRAGMA user_version=999");
  assert_int_equal(aiinfra_db_open(rt, path, NULL, &db, &err), AIINFRA_ENOTSUP);
  assert_null(db);
  assert_non_null(strstr(err.message, "newer library"));
  must_exec(path, "PRAGMA user_version=0");
  assert_int_equal(aiinfra_db_open(rt, path, &opts, &db, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "read_only"));
}

/* A file with our mark and version 0 is what a process leaves that was killed before its first migration. */
static void test_migrates(void **state)
{
  const char *path = test_tmp("migrates.db");
  (void)state;
  must_exec(path, "PRAGMA application_id=0x61696931");
  aiinfra_db *db = must_open(path);
  assert_int_equal(aii_sql_exec(db->sql, "INSERT INTO runs(agent) VALUES('a')", &err), AIINFRA_OK);
  aiinfra_db_free(db);
}

static void test_foreign(void **state)
{
  const char *path = test_tmp("foreign.db");
  aiinfra_db *db;
  size_t before, after;
  (void)state;
  must_exec(path, "CREATE TABLE photos(x)");
  char *was = test_read_file(path, &before);
  assert_int_equal(aiinfra_db_open(rt, path, NULL, &db, &err), AIINFRA_EFORMAT);
  assert_non_null(strstr(err.message, "another program"));
  char *is = test_read_file(path, &after);
  assert_int_equal(before, after); /* and is left as it was */
  assert_memory_equal(was, is, before);
  free(was);
  free(is);
  test_write_file(test_tmp("text.db"), "This is a letter, not a database at all.", 40);
  assert_int_equal(aiinfra_db_open(rt, test_tmp("text.db"), NULL, &db, &err), AIINFRA_EFORMAT);
}

/* Bytes changed anywhere: opening and checking tell of it or read right, never crash. */
static void test_damage(void **state)
{
  const char *path = test_tmp("damage.db"), *bad = test_tmp("bad.db");
  unsigned long long seed = test_seed();
  size_t n, refused = 0;
  (void)state;
  aiinfra_db *db = must_open(path);
  for (int i = 0; i < 300; i++) {
    assert_int_equal(aii_sql_exec(db->sql,
                                  "INSERT INTO journal VALUES(1,(SELECT count(*) FROM journal),'k',"
                                  "hex(randomblob(100)),0)",
                                  &err),
                     AIINFRA_OK);
  }
  aiinfra_db_free(db);
  char *bytes = test_read_file(path, &n);
  for (int round = 0; round < 40; round++) {
    char *copy = malloc(n);
    memcpy(copy, bytes, n);
    size_t page = 4096 * (size_t)(test_random(&seed) % (n / 4096));
    for (size_t i = 0; i < 64; i++) copy[page + i] = (char)test_random(&seed);
    remove(test_tmp("bad.db-wal"));
    remove(test_tmp("bad.db-shm"));
    test_write_file(bad, copy, n);
    free(copy);
    aiinfra_status rc = aiinfra_db_open(rt, bad, NULL, &db, &err);
    if (rc == AIINFRA_OK) {
      rc = aiinfra_db_check(db, &err);
      aiinfra_db_free(db);
    } else {
      assert_null(db);
    }
    if (rc != AIINFRA_OK) {
      if (rc != AIINFRA_EFORMAT) fail_msg("%s: %s", aiinfra_status_name(rc), err.message);
      refused++;
    }
  }
  assert_true(refused > 30); /* free pages may hold anything */
  test_write_file(bad, bytes, n / 2);
  assert_int_equal(aiinfra_db_open(rt, bad, NULL, &db, &err), AIINFRA_EFORMAT);
  assert_non_null(strstr(err.message, "backup"));
  free(bytes);
}

/* Processes that open a new file at the same moment all find it whole. */
static void test_processes(void **state)
{
  enum { N = 6 };
  const char *path = test_tmp("processes.db");
  pid_t children[N];
  (void)state;
  for (int i = 0; i < N; i++) {
    children[i] = fork();
    if (children[i] == 0) {
      aiinfra_db *db;
      int bad = aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_OK;
      for (int j = 0; j < 10 && !bad; j++) {
        bad = aii_sql_exec(db->sql, "INSERT INTO runs(agent) VALUES('x')", &err) != AIINFRA_OK;
      }
      if (bad) fprintf(stderr, "process %d: %s\n", i, err.message);
      _exit(bad);
    }
  }
  for (int i = 0; i < N; i++) {
    int status;
    assert_int_equal(waitpid(children[i], &status, 0), children[i]);
    assert_int_equal(status, 0);
  }
  aiinfra_db *db = must_open(path);
  char *json;
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_describe(db, &json, &err), AIINFRA_OK);
  assert_non_null(strstr(json, "\"runs\":60"));
  aiinfra_string_free(json);
  aiinfra_db_free(db);
}

static int64_t count_runs(aii_sql *sql)
{
  int64_t n = -1;
  if (aii_db_ask_int(sql, "SELECT count(*) FROM runs", &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return n;
}

/* Readers see what is committed, each its own view, while the database's connection is in a transaction. */
static void test_readers(void **state)
{
  static const char insert[] = "INSERT INTO runs(agent) VALUES('a')";
  aiinfra_db *db = must_open(test_tmp("readers.db"));
  aii_sql *readers[AII_READERS + 2];
  (void)state;
  for (size_t i = 0; i < AII_COUNT(readers); i++) assert_non_null(readers[i] = aii_db_take_reader(db));
  aii_sql_lock(db->sql);
  assert_int_equal(aii_sql_begin(db->sql, &err), AIINFRA_OK);
  if (aii_sql_exec(db->sql, insert, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(count_runs(readers[0]), 0);
  assert_int_equal(aii_sql_begin_read(readers[1], &err), AIINFRA_OK);
  assert_int_equal(count_runs(readers[1]), 0);
  assert_int_equal(aii_sql_commit(db->sql, &err), AIINFRA_OK);
  aii_sql_unlock(db->sql);
  assert_int_equal(count_runs(readers[0]), 1);
  assert_int_equal(count_runs(readers[1]), 0); /* its view began before */
  aii_sql_rollback(readers[1]);
  assert_int_not_equal(aii_sql_exec(readers[0], insert, &err), AIINFRA_OK); /* they do not write */
  for (size_t i = 0; i < AII_COUNT(readers); i++) aii_db_give_reader(db, readers[i]);
  assert_int_equal(db->n_readers, AII_READERS);
  aiinfra_db_free(db);
  db = must_open(":memory:");
  assert_null(aii_db_take_reader(db));
  aii_sql *sql = aii_db_read_lock(db);
  assert_ptr_equal(sql, db->sql);
  aii_db_read_unlock(db, sql);
  aiinfra_db_free(db);
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err);
}

static int tear_down(void **state)
{
  (void)state;
  bool leaked = rt->refs != 1;
  aiinfra_runtime_free(rt);
  return leaked;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_tables),  cmocka_unit_test(test_versions), cmocka_unit_test(test_migrates),
      cmocka_unit_test(test_foreign), cmocka_unit_test(test_damage),   cmocka_unit_test(test_processes),
      cmocka_unit_test(test_readers),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
