/* test_db_care.c - a database is checked, copied while it is written, measured, optimised; and what it says when that
 * cannot be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aiinfra/memory.h"
#include "lib/sql/sql_internal.h"
#include "src/db/db.h"
#include "src/vector/vector.h"
#include "support/support.h"

enum { DIMS = 8 };

static aiinfra_runtime *rt;
static aiinfra_error err;

static aiinfra_db *must_open(const char *path)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1; /* power stays on */
  if (aiinfra_db_open(rt, path, &opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

static aiinfra_vecstore *must_open_store(aiinfra_db *db)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = DIMS;
  if (aiinfra_vecstore_open(db, "things", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static void put(aiinfra_vecstore *store, int64_t from, int64_t to)
{
  for (int64_t id = from; id < to; id++) {
    float v[DIMS] = {1, (float)id, 2};
    char text[64];
    snprintf(text, sizeof text, "thing number %lld", (long long)id);
    aiinfra_record r = {id, v, text, "{\"a\":1}"};
    if (aiinfra_vecstore_upsert(store, &r, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
}

static uint64_t count(aiinfra_vecstore *store)
{
  uint64_t n;
  assert_int_equal(aiinfra_vecstore_count(store, &n, &err), AIINFRA_OK);
  return n;
}

/* A database with everything in it that a check looks at. */
static aiinfra_db *filled(const char *path, int64_t n)
{
  aiinfra_db *db = must_open(path);
  aiinfra_vecstore *store = must_open_store(db);
  aiinfra_memory *memory;
  put(store, 0, n);
  assert_int_equal(aiinfra_memory_open(db, NULL, &memory, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_memory_remember(memory, "The sky is blue.", NULL, NULL, &err), AIINFRA_OK);
  aiinfra_memory_free(memory);
  aiinfra_vecstore_free(store);
  return db;
}

static json_t *must_parse(char *text)
{
  json_t *json = json_loads(text, 0, NULL);
  assert_non_null(json);
  aiinfra_string_free(text);
  return json;
}

static json_int_t number(const json_t *object, const char *key)
{
  assert_true(json_is_integer(json_object_get(object, key)));
  return json_integer_value(json_object_get(object, key));
}

static const json_t *named(const json_t *list, const char *name)
{
  size_t i;
  const json_t *item;
  json_array_foreach((json_t *)(uintptr_t)list, i, item)
  {
    if (strcmp(json_string_value(json_object_get(item, "name")), name) == 0) return item;
  }
  fail_msg("no %s", name);
  return NULL;
}

/* How many files a folder holds whose names begin so. */
static int files_like(const char *prefix)
{
  int n = 0;
  DIR *dir = opendir(test_tmp_dir());
  for (struct dirent *e; (e = readdir(dir)) != NULL;) n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
  closedir(dir);
  return n;
}

/* ---- check ----------------------------------------------------------------------------------------------------- */

static void test_check(void **state)
{
  static const struct {
    const char *damage, *said;
  } cases[] = {
      {"UPDATE collections SET n_rows = 7 WHERE name = 'things'", "collection things counts 7 rows, but has 5"},
      {"UPDATE rows SET seq = 99 WHERE id = 3 AND collection = 1", "row 3 of collection things has the number 99"},
      {"UPDATE collections SET removed_seq = seq + 1 WHERE name = 'things'", "impossible numbers"},
      {"UPDATE vectors SET vector = x'00' WHERE row = 2", "row 1 of collection things has a vector of 1 bytes"},
      {"DELETE FROM vectors WHERE row = 2", "row 1 of collection things has a vector of 0 bytes"},
      {"UPDATE rows SET payload = '{' WHERE row = 1", "row 0 of collection things has a payload that is no JSON"},
      {"DROP TABLE words_1", "collection things has no table of words"},
      {"UPDATE rows SET text = NULL WHERE row = 1", "collection things has words of a row that is gone"},
      {"DELETE FROM words_1_docsize WHERE id = 4", "row 3 of collection things is not found by its words"},
      {"UPDATE items SET id = 55", "memory 55 of scope default has no row"},
      {"DELETE FROM items", "belongs to no memory"},
      {"UPDATE items SET scope = 77", "a row of table items belongs to nothing"},
      {"INSERT INTO snapshots(collection, next, gen, max_seq) VALUES(1, 1, 1, 99)",
       "snapshot of collection things is ahead"},
      {"DELETE FROM words_1_data WHERE id > 10", "words of collection things"},
  };
  (void)state;
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    aiinfra_db *db = filled(":memory:", 5);
    if (aiinfra_db_check(db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
    assert_int_equal(aii_sql_exec(db->sql, "PRAGMA foreign_keys=OFF", &err), AIINFRA_OK);
    (void)sqlite3_db_config(db->sql->db, SQLITE_DBCONFIG_DEFENSIVE, 0, NULL); /* shadow tables, too */
    if (aii_sql_exec(db->sql, cases[i].damage, &err) != AIINFRA_OK) fail_msg("%s: %s", cases[i].damage, err.message);
    aiinfra_status rc = aiinfra_db_check(db, &err);
    if (rc != AIINFRA_EFORMAT) fail_msg("%s: %s", cases[i].damage, aiinfra_status_name(rc));
    if (strstr(err.message, cases[i].said) == NULL) fail_msg("%s: %s", cases[i].damage, err.message);
    aiinfra_db_free(db);
  }
}

/* ---- backup ---------------------------------------------------------------------------------------------------- */

typedef struct writing {
  aiinfra_vecstore *store;
  int64_t next;
  int calls, cancel_at;
  double last;
} writing;

/* Writes while the copy is made; asks to stop at the cancel_at-th call. */
static int write_between(void *user, double fraction)
{
  writing *w = user;
  assert_true(fraction >= 0 && fraction <= 1);
  w->last = fraction;
  if (++w->calls == w->cancel_at) return 1;
  if (w->calls <= 50) put(w->store, w->next, w->next + 1);
  w->next++;
  return 0;
}

static atomic_bool enough;

static void *keep_writing(void *store)
{
  float v[DIMS] = {1};
  aiinfra_record r = {1, v, "some words", NULL};
  while (!atomic_load(&enough)) {
    if (aiinfra_vecstore_upsert(store, &r, 1, NULL) != AIINFRA_OK) return store;
  }
  return NULL;
}

/* The check of the words takes its turn among those who write. */
static void test_check_beside_writer(void **state)
{
  (void)state;
  pthread_t writer;
  void *failed;
  const char *path = test_tmp("busy.db");
  aiinfra_db *db = must_open(path), *other = must_open(path);
  aiinfra_vecstore *store = must_open_store(other);
  atomic_store(&enough, false);
  assert_int_equal(pthread_create(&writer, NULL, keep_writing, store), 0);
  for (int i = 0; i < 100; i++) {
    if (aiinfra_db_check(db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
  atomic_store(&enough, true);
  assert_int_equal(pthread_join(writer, &failed), 0);
  assert_null(failed);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(other);
  aiinfra_db_free(db);
}

static void test_backup(void **state)
{
  const char *to = test_tmp("copy.db");
  aiinfra_db *db = filled(test_tmp("original.db"), 300);
  writing w = {.store = must_open_store(db), .next = 1000};
  aiinfra_db_backup_opts opts = AIINFRA_DB_BACKUP_OPTS_INIT;
  (void)state;
  opts.progress = write_between;
  opts.progress_user = &w;
  opts.step_pages = 1;
  if (aiinfra_db_backup(db, to, &opts, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_true(w.calls > 50);
  assert_true(w.last == 1);
  assert_int_equal(count(w.store), 350);
  assert_int_equal(files_like("copy.db"), 1); /* no log, no half copy */
  aiinfra_db *copy = must_open(to);
  aiinfra_vecstore *store = must_open_store(copy);
  assert_int_equal(count(store), 300); /* as it was when the copying began */
  assert_int_equal(aiinfra_db_check(copy, &err), AIINFRA_OK);
  put(store, 2000, 2001); /* restored is opened */
  assert_int_equal(count(store), 301);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(copy);
  assert_int_equal(aiinfra_db_backup(db, to, NULL, &err), AIINFRA_EEXIST);
  assert_int_equal(unlink(to), 0);
  assert_int_equal(test_write_file(test_tmp("copy.db-wal"), "x", 1), 0); /* it would be played into the copy */
  assert_int_equal(aiinfra_db_backup(db, to, NULL, &err), AIINFRA_EEXIST);
  assert_non_null(strstr(err.message, "copy.db-wal"));
  aiinfra_vecstore_free(w.store);
  aiinfra_db_free(db);
}

static void test_backup_of_memory(void **state)
{
  aiinfra_db *db = filled(":memory:", 300);
  writing w = {.store = must_open_store(db), .next = 1000};
  aiinfra_db_backup_opts opts = AIINFRA_DB_BACKUP_OPTS_INIT;
  (void)state;
  opts.progress = write_between;
  opts.progress_user = &w;
  opts.step_pages = 1;
  if (aiinfra_db_backup(db, test_tmp("saved.db"), &opts, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  aiinfra_db *copy = must_open(test_tmp("saved.db"));
  aiinfra_vecstore *store = must_open_store(copy);
  assert_true(count(store) >= 300);
  assert_int_equal(aiinfra_db_check(copy, &err), AIINFRA_OK);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(copy);
  aiinfra_vecstore_free(w.store);
  aiinfra_db_free(db);
}

static void test_backup_fails(void **state)
{
  aiinfra_db *db = filled(test_tmp("source.db"), 300);
  writing w = {.store = must_open_store(db), .next = 1000, .cancel_at = 3};
  aiinfra_db_backup_opts opts = AIINFRA_DB_BACKUP_OPTS_INIT;
  (void)state;
  opts.progress = write_between;
  opts.progress_user = &w;
  opts.step_pages = 2;
  assert_int_equal(aiinfra_db_backup(db, test_tmp("stopped.db"), &opts, &err), AIINFRA_ECANCELED);
  assert_int_equal(w.calls, 3);
  assert_int_equal(files_like("stopped.db"), 0);
  assert_int_equal(aiinfra_db_backup(db, test_tmp("none/x.db"), NULL, &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_db_backup(db, ":memory:", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_db_backup(db, "", NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_db_backup(db, NULL, NULL, &err), AIINFRA_EINVAL);
  opts.check = 2;
  assert_int_equal(aiinfra_db_backup(db, test_tmp("stopped.db"), &opts, &err), AIINFRA_EINVAL);
  assert_int_equal(aii_sql_exec(db->sql, "UPDATE collections SET n_rows = 7", &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_backup(db, test_tmp("bad.db"), NULL, &err), AIINFRA_EFORMAT); /* no copy of damage */
  assert_int_equal(files_like("bad.db"), 0);
  opts = (aiinfra_db_backup_opts)AIINFRA_DB_BACKUP_OPTS_INIT;
  opts.check = -1;
  assert_int_equal(aiinfra_db_backup(db, test_tmp("bad.db"), &opts, &err), AIINFRA_OK);
  aiinfra_vecstore_free(w.store);
  aiinfra_db_free(db);
}

/* ---- no room, no right ----------------------------------------------------------------------------------------- */

/* Runs the body in a process of its own, which says what was wrong and returns 0 if nothing was. */
static void in_process(int (*body)(const char *path), const char *path)
{
  int status;
  pid_t child = fork();
  if (child == 0) _exit(body(path));
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_int_equal(status, 0);
}

static int complain(const char *what)
{
  fprintf(stderr, "%s: %s\n", what, err.message);
  return 1;
}

static int fill_the_disk(const char *path)
{
  struct rlimit limit = {200 << 10, 200 << 10};
  aiinfra_db *db;
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  float v[DIMS] = {1};
  aiinfra_status rc = AIINFRA_OK;
  uint64_t n = 0, left = 0;
  opts.dims = DIMS;
  if (aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_OK) return complain("open");
  if (aiinfra_vecstore_open(db, "things", &opts, &store, &err) != AIINFRA_OK) return complain("open store");
  signal(SIGXFSZ, SIG_IGN);
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return complain("limit");
  aiinfra_record r = {0, v, "some words", NULL};
  for (; rc == AIINFRA_OK && r.id < 10000; r.id++) {
    rc = aiinfra_vecstore_upsert(store, &r, 1, &err);
    n += rc == AIINFRA_OK;
  }
  if (rc != AIINFRA_ENOSPC || strstr(err.message, "free some disk space") == NULL) return complain("upsert");
  if (aiinfra_vecstore_count(store, &left, &err) != AIINFRA_OK || left != n) return complain("count");
  if (aiinfra_db_check(db, &err) != AIINFRA_OK) return complain("check");
  return 0;
}

static int back_up_without_room(const char *path)
{
  struct rlimit limit = {100 << 10, 100 << 10};
  aiinfra_db *db;
  if (aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_OK) return complain("open");
  signal(SIGXFSZ, SIG_IGN);
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return complain("limit");
  if (aiinfra_db_backup(db, test_tmp("norom.db"), NULL, &err) != AIINFRA_ENOSPC) return complain("backup");
  return files_like("norom.db") == 0 ? 0 : complain("half a copy");
}

static void test_disk_full(void **state)
{
  (void)state;
  in_process(fill_the_disk, test_tmp("full.db"));
  aiinfra_db_free(filled(test_tmp("large.db"), 300));
  in_process(back_up_without_room, test_tmp("large.db"));
}

/* A file that may only be read must be opened so. */
static int write_without_right(const char *path)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  if (getuid() == 0 && setuid(65534) != 0) return complain("setuid");
  if (aiinfra_db_open(rt, path, NULL, &db, &err) != AIINFRA_EIO) return complain("open");
  if (strstr(err.message, "permissions") == NULL || strstr(err.message, "with read_only") == NULL)
    return complain("the message");
  opts.read_only = 1;
  if (aiinfra_db_open(rt, path, &opts, &db, &err) != AIINFRA_OK) return complain("open to read");
  return aiinfra_db_check(db, &err) == AIINFRA_OK ? 0 : complain("check");
}

static void test_read_only(void **state)
{
  const char *path = test_tmp("readonly.db");
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  aiinfra_db *db;
  char *json;
  (void)state;
  aiinfra_db_free(filled(path, 5));
  assert_int_equal(chmod(test_tmp_dir(), 0777), 0);
  assert_int_equal(chmod(path, 0444), 0);
  in_process(write_without_right, path);
  assert_int_equal(chmod(path, 0644), 0);
  opts.read_only = 1;
  assert_int_equal(aiinfra_db_open(rt, path, &opts, &db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_stats(db, &json, &err), AIINFRA_OK);
  aiinfra_string_free(json);
  assert_int_equal(aiinfra_db_backup(db, test_tmp("of-readonly.db"), NULL, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_db_optimise(db, NULL, NULL, &err), AIINFRA_EIO);
  assert_non_null(strstr(err.message, "without read_only"));
  aiinfra_db_free(db);
}

/* ---- stats, optimise --------------------------------------------------------------------------------------------- */

static void test_stats(void **state)
{
  aiinfra_db *db = filled(test_tmp("stats.db"), 40);
  char *text;
  struct stat st;
  (void)state;
  assert_int_equal(aiinfra_db_stats(db, &text, &err), AIINFRA_OK);
  json_t *stats = must_parse(text);
  const json_t *rows = named(json_object_get(stats, "tables"), "rows");
  const json_t *things = named(json_object_get(stats, "collections"), "things");
  assert_int_equal(number(rows, "rows"), 41); /* and the memory */
  assert_true(number(rows, "bytes") >= 3 * 4096);
  assert_int_equal(number(things, "rows"), 40);
  assert_int_equal(number(things, "seq"), 40);
  assert_int_equal(number(things, "vector_bytes"), 40 * DIMS * 4);
  assert_int_equal(number(things, "payload_bytes"), 40 * 7);
  assert_int_equal(number(things, "text_bytes"), 10 * 14 + 30 * 15);
  assert_true(number(things, "words_bytes") > 0);
  assert_true(json_is_null(json_object_get(things, "snapshot_bytes")));
  assert_int_equal(stat(test_tmp("stats.db-wal"), &st), 0);
  assert_int_equal(number(stats, "wal_bytes"), st.st_size);
  json_decref(stats);
  aiinfra_db_free(db);
  assert_int_equal(aiinfra_db_stats(NULL, &text, &err), AIINFRA_EINVAL);
}

static json_t *must_optimise(aiinfra_db *db, int32_t rewrite)
{
  aiinfra_db_optimise_opts opts = AIINFRA_DB_OPTIMISE_OPTS_INIT;
  char *text;
  opts.rewrite = rewrite;
  if (aiinfra_db_optimise(db, &opts, &text, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(aiinfra_db_check(db, &err), AIINFRA_OK);
  return must_parse(text);
}

static void remove_most(aiinfra_vecstore *store, int64_t n)
{
  for (int64_t id = 10; id < n; id++) assert_int_equal(aiinfra_vecstore_remove(store, &id, 1, NULL, &err), AIINFRA_OK);
}

static int never(void *user, double fraction)
{
  (void)user, (void)fraction;
  return 1;
}

static void test_optimise(void **state)
{
  enum { N = 1000 };
  const char *path = test_tmp("optimise.db");
  aiinfra_db *db = filled(path, N);
  aiinfra_vecstore *store = must_open_store(db);
  aiinfra_db_optimise_opts opts = AIINFRA_DB_OPTIMISE_OPTS_INIT;
  struct stat st;
  (void)state;
  remove_most(store, N);
  opts.progress = never;
  assert_int_equal(aiinfra_db_optimise(db, &opts, NULL, &err), AIINFRA_ECANCELED);
  json_t *result = must_optimise(db, 0);
  assert_true(number(result, "bytes_after") < number(result, "bytes_before") / 3 * 2);
  assert_true(json_is_false(json_object_get(result, "busy")));
  assert_int_equal(stat(path, &st), 0);
  assert_int_equal(st.st_size, number(result, "bytes_after"));
  assert_int_equal(stat(test_tmp("optimise.db-wal"), &st), 0);
  assert_int_equal(st.st_size, 0);
  json_decref(result);
  assert_int_equal(count(store), 10);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  opts = (aiinfra_db_optimise_opts)AIINFRA_DB_OPTIMISE_OPTS_INIT;
  opts.reserved = 1;
  assert_int_equal(aiinfra_db_optimise(NULL, &opts, NULL, &err), AIINFRA_EINVAL);
}

/* Files of before this function keep their free pages until they are rewritten, and give them back from then on. */
static void test_optimise_old(void **state)
{
  enum { N = 300 };
  aiinfra_db *db = filled(test_tmp("old.db"), N);
  aiinfra_vecstore *store = must_open_store(db);
  (void)state;
  assert_int_equal(aii_sql_exec(db->sql, "PRAGMA auto_vacuum=NONE; VACUUM", &err), AIINFRA_OK);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  db = must_open(test_tmp("old.db"));
  store = must_open_store(db);
  remove_most(store, N);
  json_t *kept = must_optimise(db, 0);
  json_t *rewritten = must_optimise(db, 1);
  assert_true(number(rewritten, "bytes_after") < number(kept, "bytes_after"));
  put(store, 10, N);
  remove_most(store, N);
  json_t *given = must_optimise(db, 0);
  assert_true(number(given, "bytes_after") < number(given, "bytes_before"));
  json_decref(kept);
  json_decref(rewritten);
  json_decref(given);
  aiinfra_vecstore_free(store);
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
      cmocka_unit_test(test_check),        cmocka_unit_test(test_check_beside_writer),
      cmocka_unit_test(test_backup),       cmocka_unit_test(test_backup_of_memory),
      cmocka_unit_test(test_backup_fails), cmocka_unit_test(test_disk_full),
      cmocka_unit_test(test_read_only),    cmocka_unit_test(test_stats),
      cmocka_unit_test(test_optimise),     cmocka_unit_test(test_optimise_old),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
