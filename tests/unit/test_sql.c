/* test_sql.c - the SQLite layer: statements, transactions, and errors that say what happened and what to do. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/sql/sql.h"
#include "support/support.h"

static aii_mem mem;
static aiinfra_error err;

static aii_sql *must_open(const char *path)
{
  aii_sql *sql;
  aii_sql_opts opts = {.busy_timeout_ms = 2000, .synchronous_full = true};
  if (aii_sql_open(&mem, path, &opts, &sql, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return sql;
}

static int64_t count(aii_sql *sql)
{
  aii_stmt *stmt;
  bool row;
  assert_int_equal(aii_sql_prepare(sql, "SELECT count(*) FROM t", &stmt, &err), AIINFRA_OK);
  assert_int_equal(aii_stmt_step(stmt, &row, &err), AIINFRA_OK);
  assert_true(row);
  int64_t n = aii_stmt_get_int(stmt, 0);
  aii_stmt_reset(stmt);
  return n;
}

static aiinfra_status insert(aii_sql *sql, int64_t i, const void *blob, size_t n)
{
  aii_stmt *stmt;
  aiinfra_status rc = aii_sql_prepare(sql, "INSERT INTO t(i, b) VALUES(?1, ?2)", &stmt, &err);
  if (rc != AIINFRA_OK) return rc;
  aii_stmt_int(stmt, 1, i);
  aii_stmt_blob(stmt, 2, blob, n);
  return aii_stmt_run(stmt, &err);
}

static void test_values(void **state)
{
  aii_sql *sql = must_open(":memory:");
  aii_stmt *stmt, *again;
  bool row;
  size_t n;
  static const char text[] = "SELECT ?1, ?2, ?3, ?4, ?5";
  (void)state;
  assert_int_equal(aii_sql_prepare(sql, text, &stmt, &err), AIINFRA_OK);
  aii_stmt_int(stmt, 1, INT64_MIN);
  aii_stmt_real(stmt, 2, 0.1);
  aii_stmt_text(stmt, 3, "a\0b", 3);
  aii_stmt_blob(stmt, 4, "", 0);
  aii_stmt_null(stmt, 5);
  assert_int_equal(aii_stmt_step(stmt, &row, &err), AIINFRA_OK);
  assert_true(row);
  assert_true(aii_stmt_get_int(stmt, 0) == INT64_MIN);
  assert_true(aii_stmt_get_real(stmt, 1) == 0.1);
  assert_memory_equal(aii_stmt_get_text(stmt, 2, &n), "a\0b", 3);
  assert_int_equal(n, 3);
  (void)aii_stmt_get_blob(stmt, 3, &n);
  assert_int_equal(n, 0);
  assert_true(aii_stmt_is_null(stmt, 4));
  assert_string_equal(aii_stmt_get_text(stmt, 4, &n), "");
  assert_int_equal(aii_sql_prepare(sql, text, &again, &err), AIINFRA_OK);
  assert_ptr_equal(stmt, again);
  assert_int_equal(aii_stmt_step(again, &row, &err), AIINFRA_OK);
  assert_true(aii_stmt_is_null(again, 0)); /* found again, it is unbound */
  aii_stmt_int(again, 9, 1);
  aii_stmt_reset(again);
  aii_stmt_int(again, 9, 1); /* there is no ninth: told by the step */
  assert_int_not_equal(aii_stmt_step(again, &row, &err), AIINFRA_OK);
  aii_stmt_reset(again);
  aii_sql_close(sql);
  assert_int_equal(mem.used_bytes, 0);
}

static void test_transactions(void **state)
{
  aii_sql *sql = must_open(test_tmp("tx.db"));
  (void)state;
  assert_int_equal(aii_sql_exec(sql, "CREATE TABLE t(i INTEGER PRIMARY KEY, b)", &err), AIINFRA_OK);
  assert_int_equal(aii_sql_begin(sql, &err), AIINFRA_OK);
  assert_int_equal(insert(sql, 1, "x", 1), AIINFRA_OK);
  aii_sql_rollback(sql);
  aii_sql_rollback(sql); /* without one: nothing */
  assert_int_equal(count(sql), 0);
  assert_int_equal(aii_sql_begin(sql, &err), AIINFRA_OK);
  assert_int_equal(insert(sql, 1, "x", 1), AIINFRA_OK);
  assert_int_equal(aii_sql_last_id(sql), 1);
  assert_int_equal(aii_sql_commit(sql, &err), AIINFRA_OK);
  assert_int_equal(insert(sql, 1, "x", 1), AIINFRA_EEXIST);
  assert_int_equal(aii_sql_begin(sql, &err), AIINFRA_OK);
  assert_int_equal(aii_sql_begin(sql, &err), AIINFRA_OK); /* one left open is rolled back */
  aii_sql_rollback(sql);
  assert_int_equal(aii_sql_exec(sql, "SELEC", &err), AIINFRA_EINTERNAL);
  aii_sql_close(sql);
}

static void test_open_errors(void **state)
{
  aii_sql *sql;
  aii_sql_opts opts = {.busy_timeout_ms = 100, .must_exist = true};
  (void)state;
  assert_int_equal(aii_sql_open(&mem, test_tmp("none.db"), &opts, &sql, &err), AIINFRA_ENOENT);
  assert_null(sql);
  assert_non_null(strstr(err.message, "does not exist"));
  opts.must_exist = false;
  assert_int_equal(aii_sql_open(&mem, test_tmp("no/folder.db"), &opts, &sql, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "folder"));
  assert_int_equal(aii_sql_open(&mem, test_tmp_dir(), &opts, &sql, &err), AIINFRA_EIO);
  assert_int_equal(aii_sql_open(&mem, "", &opts, &sql, &err), AIINFRA_EINVAL);
  char junk[8192];
  memset(junk, 'j', sizeof junk);
  assert_int_equal(test_write_file(test_tmp("junk.db"), junk, sizeof junk), 0);
  assert_int_equal(aii_sql_open(&mem, test_tmp("junk.db"), &opts, &sql, &err), AIINFRA_EFORMAT);
  assert_non_null(strstr(err.message, "not a database"));
  assert_int_equal(mem.used_bytes, 0);
}

static void test_busy(void **state)
{
  const char *path = test_tmp("busy.db");
  aii_sql *a = must_open(path), *b;
  aii_sql_opts opts = {.busy_timeout_ms = 50};
  (void)state;
  assert_int_equal(aii_sql_open(&mem, path, &opts, &b, &err), AIINFRA_OK);
  assert_int_equal(aii_sql_begin(a, &err), AIINFRA_OK);
  assert_int_equal(aii_sql_begin(b, &err), AIINFRA_EBUSY);
  assert_non_null(strstr(err.message, "busy_timeout_ms"));
  aii_sql_rollback(a);
  assert_int_equal(aii_sql_begin(b, &err), AIINFRA_OK);
  aii_sql_rollback(b);
  aii_sql_close(a);
  aii_sql_close(b);
}

/* Both a page limit of SQLite's and a limit of the system read as a full disk, and nothing is half written. */
static void test_full(void **state)
{
  const char *path = test_tmp("full.db");
  aii_sql *sql = must_open(path);
  char *big = calloc(1, 1 << 20);
  struct rlimit old, low;
  (void)state;
  assert_int_equal(aii_sql_exec(sql, "CREATE TABLE t(i INTEGER PRIMARY KEY, b); PRAGMA max_page_count=50", &err), 0);
  assert_int_equal(insert(sql, 1, big, 1 << 20), AIINFRA_ENOSPC);
  assert_non_null(strstr(err.message, "full"));
  assert_int_equal(aii_sql_exec(sql, "PRAGMA max_page_count=1000000", &err), 0);
  getrlimit(RLIMIT_FSIZE, &old);
  low = old;
  low.rlim_cur = 300000;
  void (*was)(int) = signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &low);
  aiinfra_status rc = insert(sql, 1, big, 1 << 20);
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, was);
  if (rc != AIINFRA_ENOSPC) fail_msg("%s (code %d)", err.message, err.code);
  assert_int_equal(count(sql), 0);
  assert_int_equal(insert(sql, 1, big, 1 << 20), AIINFRA_OK);
  aii_sql_close(sql);
  free(big);
}

/* A writer that is killed at any moment leaves whole transactions behind: two rows each. */
static void test_killed(void **state)
{
  const char *path = test_tmp("killed.db");
  (void)state;
  aii_sql *sql = must_open(path);
  assert_int_equal(aii_sql_exec(sql, "CREATE TABLE t(i INTEGER PRIMARY KEY, b)", &err), AIINFRA_OK);
  aii_sql_close(sql);
  int64_t last = 0;
  for (int round = 0; round < 4; round++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      sql = must_open(path);
      for (int64_t i = count(sql);; i += 2) {
        if (aii_sql_begin(sql, NULL) != 0 || insert(sql, i, "a", 1) != 0 || insert(sql, i + 1, "b", 1) != 0 ||
            aii_sql_commit(sql, NULL) != 0) {
          _exit(1);
        }
      }
    }
    usleep(60000);
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    sql = must_open(path);
    int64_t n = count(sql);
    assert_true(n >= last && n % 2 == 0);
    last = n;
    aii_sql_close(sql);
  }
  assert_true(last > 0);
}

enum { THREADS = 4, ROUNDS = 50 };

static void *write_rows(void *arg)
{
  aii_sql *sql = arg;
  intptr_t failed = 0;
  for (int i = 0; i < ROUNDS; i++) {
    aii_sql_lock(sql);
    aii_stmt *stmt;
    failed |= aii_sql_begin(sql, NULL);
    failed |= aii_sql_prepare(sql, "INSERT INTO t(b) VALUES(1)", &stmt, NULL);
    failed |= aii_stmt_run(stmt, NULL);
    failed |= aii_sql_commit(sql, NULL);
    aii_sql_unlock(sql);
  }
  return (void *)failed;
}

static void test_threads(void **state)
{
  aii_sql *sql = must_open(":memory:");
  pthread_t threads[THREADS];
  (void)state;
  assert_int_equal(aii_sql_exec(sql, "CREATE TABLE t(i INTEGER PRIMARY KEY, b)", &err), AIINFRA_OK);
  for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&threads[i], NULL, write_rows, sql), 0);
  for (int i = 0; i < THREADS; i++) {
    void *failed;
    assert_int_equal(pthread_join(threads[i], &failed), 0);
    assert_null(failed);
  }
  assert_int_equal(count(sql), THREADS * ROUNDS);
  aii_sql_close(sql);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_values),  cmocka_unit_test(test_transactions), cmocka_unit_test(test_open_errors),
      cmocka_unit_test(test_busy),    cmocka_unit_test(test_full),         cmocka_unit_test(test_killed),
      cmocka_unit_test(test_threads),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
