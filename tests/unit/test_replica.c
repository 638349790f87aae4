/* test_replica.c - nodes that share a database in PostgreSQL: in turns, at once, killed, with the server gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>

#include "aiinfra/memory.h"
#include "aiinfra/vecstore.h"
#include "src/db/replica.h"
#include "support/budget.h"
#include "support/postgres_server.h"

static aiinfra_runtime *rt;
static aiinfra_error err;
static const float X[3] = {1, 0, 0}, Y[3] = {0, 1, 0};

static const char *uri_of(const char *node, const char *schema, const char *more)
{
  static char uris[4][4096];
  static unsigned next;
  char *uri = uris[next++ % 4];
  snprintf(uri, sizeof uris[0], "postgres://tester:s3cret@/postgres?host=%s&sync_ms=0&plugin=%s&schema=%s&replica=%s%s",
           server_folder, test_built("libaiinfra-postgres.so"), schema, test_tmp(node), more);
  return uri;
}

static aiinfra_db *node(const char *name, const char *schema)
{
  aiinfra_db *db;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.busy_timeout_ms = 3000;
  if (aiinfra_db_open(rt, uri_of(name, schema, ""), &opts, &db, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return db;
}

static aiinfra_vecstore *store_of(aiinfra_db *db)
{
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 3;
  if (aiinfra_vecstore_open(db, "notes", &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static aiinfra_status put(aiinfra_vecstore *store, int64_t id, const float *vector, const char *text)
{
  aiinfra_record record = {id, vector, text, "{\"kind\":\"note\"}"};
  return aiinfra_vecstore_upsert(store, &record, 1, &err);
}

static void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

/* The ids that a search by words finds, best first, as "1 2 3". */
static const char *found(aiinfra_vecstore *store, const char *words)
{
  static char ids[256];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  size_t n = 0, at = 0;
  q.text = words;
  must(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err));
  ids[0] = '\0';
  for (size_t i = 0; i < n; i++)
    at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%lld", i > 0 ? " " : "", (long long)hits[i].id);
  return ids;
}

static int64_t nearest(aiinfra_vecstore *store, const float *vector)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  size_t n = 0;
  q.vector = vector;
  must(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err));
  return n > 0 ? hits[0].id : -1;
}

static void must_sql(const char *sql, const char *expected)
{
  char out[512];
  if (server_do("psql", sql, out, sizeof out) != 0) fail_msg("%s: %s", sql, out);
  if (expected != NULL) assert_string_equal(out, expected);
}

static void test_turns(void **state)
{
  aiinfra_db *a = node("turns-a", "turns"), *b = node("turns-b", "turns");
  aiinfra_vecstore *left = store_of(a), *right = store_of(b);
  const int64_t first = 1;
  size_t n = 0;
  (void)state;
  must(put(left, 1, X, "The server listens on port 7420."));
  assert_string_equal(found(right, "server"), "1");
  must(put(right, 2, Y, "Backups are made every night."));
  assert_int_equal(nearest(left, Y), 2);
  must(put(right, 1, X, "The printer listens."));
  assert_string_equal(found(left, "server"), "");
  assert_string_equal(found(left, "printer"), "1");
  must(aiinfra_vecstore_remove(left, &first, 1, &n, &err));
  assert_int_equal(n, 1);
  assert_string_equal(found(right, "printer"), "");
  assert_int_equal(nearest(right, X), 2);
  must(aiinfra_db_check(a, &err));
  must(aiinfra_db_check(b, &err));
  must_sql("SELECT text, length(vector) FROM turns.rows JOIN turns.vectors USING(row)",
           "Backups are made every night.|12");
  aiinfra_vecstore_free(left);
  aiinfra_vecstore_free(right);
  aiinfra_db_free(a);
  aiinfra_db_free(b);
  a = node("turns-new", "turns"); /* comes late: reads whole tables */
  left = store_of(a);
  assert_string_equal(found(left, "backup"), "2");
  must(aiinfra_db_check(a, &err));
  aiinfra_vecstore_free(left);
  aiinfra_db_free(a);
}

/* ---- parts of collections ---------------------------------------------------------------------------------------- */

static aiinfra_vecstore *tenant_of(aiinfra_db *db, const char *tenant)
{
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 3;
  opts.tenant = tenant;
  opts.vectors_json = "{\"image\":{\"dims\":3,\"metric\":\"l2\"},\"words\":{\"sparse\":true}}";
  must(aiinfra_vecstore_open(db, "things", &opts, &store, &err));
  return store;
}

static void put_image(aiinfra_vecstore *store, int64_t id)
{
  aiinfra_named_vector n = {id, "image", Y, NULL, 3};
  must(put(store, id, X, "a thing"));
  must(aiinfra_vecstore_upsert_named(store, &n, 1, &err));
}

static size_t n_images(aiinfra_vecstore *store)
{
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[10];
  size_t n = 0;
  q.vector = Y;
  q.options_json = "{\"using\":\"image\"}";
  must(aiinfra_vecstore_search(store, &q, hits, 10, &n, &err));
  return n;
}

/* Tenants, vectors under names and times reach the other node; rows take along there what they took along here. */
static void test_parts(void **state)
{
  aiinfra_db *a = node("parts-a", "parts"), *b = node("parts-b", "parts");
  aiinfra_vecstore *whole = tenant_of(a, NULL), *left = tenant_of(a, "x"), *right = tenant_of(b, "x");
  int64_t first = 1;
  uint64_t n = 0;
  (void)state;
  for (int64_t id = 1; id <= 4; id++) put_image(left, id);
  put_image(whole, 1);
  assert_int_equal(n_images(right), 4);
  must(aiinfra_vecstore_remove(left, &first, 1, NULL, &err));
  assert_int_equal(n_images(right), 3);
  assert_int_equal(n_images(whole), 1);
  must(aiinfra_vecstore_change(right, "{\"set_expiry\":{\"expires_ms\":1,\"ids\":[2]}}", &n, &err));
  assert_int_equal(n, 1);
  assert_int_equal(n_images(left), 2);
  must(aiinfra_vecstore_change(left, "{\"remove_expired\":{}}", &n, &err));
  assert_int_equal(n, 1);
  assert_int_equal(n_images(right), 2);
  must(aiinfra_db_check(a, &err));
  must(aiinfra_db_check(b, &err));
  must(aiinfra_vecstore_change(whole, "{\"drop_tenant\":{\"tenant\":\"x\"}}", &n, &err));
  assert_int_equal(n, 2);
  assert_int_equal(n_images(right), 0);
  put_image(right, 9);
  assert_int_equal(n_images(left), 1);
  must(aiinfra_db_check(a, &err));
  must(aiinfra_db_check(b, &err));
  must(aiinfra_vecstore_drop(b, "things", &err));
  must_sql("SELECT count(*) FROM parts.collections", "0");
  aiinfra_vecstore_free(whole);
  aiinfra_vecstore_free(left);
  aiinfra_vecstore_free(right);
  must(aiinfra_db_check(a, &err));
  aiinfra_db_free(a);
  aiinfra_db_free(b);
}

/* In a process of its own: 20 messages, each behind what is there, and 20 rows. */
static int write_many(const char *name, int at)
{
  aiinfra_runtime *own = NULL;
  aiinfra_db *db = NULL;
  aiinfra_memory *memory = NULL;
  aiinfra_status rc = aiinfra_runtime_create(NULL, &own, &err);
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.busy_timeout_ms = 60000;
  if (rc == AIINFRA_OK) rc = aiinfra_db_open(own, uri_of(name, "many", ""), &opts, &db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_memory_open(db, NULL, &memory, &err);
  aiinfra_vecstore *store = rc == AIINFRA_OK ? store_of(db) : NULL;
  for (int i = 0; rc == AIINFRA_OK && i < 20; i++) {
    rc = aiinfra_memory_append(memory, "talk", "{\"role\":\"user\",\"content\":\"Hello\"}", &err);
    if (rc == AIINFRA_OK) rc = put(store, at * 100 + i, X, "many words");
  }
  if (rc != AIINFRA_OK) fprintf(stderr, "%s: %s\n", name, err.message);
  return rc != AIINFRA_OK;
}

static void test_at_once(void **state)
{
  static const char *const names[] = {"many-a", "many-b", "many-a"}; /* two share a copy */
  pid_t children[3];
  (void)state;
  aiinfra_db_free(node("many-first", "many"));
  for (int i = 0; i < 3; i++) {
    children[i] = fork();
    if (children[i] == 0) _exit(write_many(names[i], i));
  }
  for (int i = 0; i < 3; i++) {
    int status;
    waitpid(children[i], &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  must_sql("SELECT count(*), max(seq), count(DISTINCT seq) FROM many.messages", "60|60|60");
  must_sql("SELECT n_rows, (SELECT count(*) FROM many.rows) FROM many.collections WHERE name = 'notes'", "60|60");
  static const char *const copies[] = {"many-a", "many-b", "many-c"};
  for (size_t i = 0; i < 3; i++) {
    aiinfra_db *db = node(copies[i], "many");
    must(aiinfra_db_check(db, &err));
    aiinfra_db_free(db);
  }
}

/* ---- deaths and losses ------------------------------------------------------------------------------------------- */

static aii_truth_ops real, faulty;

static aiinfra_status commit_and_die(aii_truth *truth, int64_t version, const void *changes, size_t n, aiinfra_error *e)
{
  if (real.commit(truth, version, changes, n, e) == AIINFRA_OK) (void)raise(SIGKILL);
  return AIINFRA_EINTERNAL;
}

static aiinfra_status die_before(aii_truth *truth, int64_t version, const void *changes, size_t n, aiinfra_error *e)
{
  (void)truth, (void)version, (void)changes, (void)n, (void)e;
  (void)raise(SIGKILL);
  return AIINFRA_EINTERNAL;
}

static void break_commit(aiinfra_db *db,
                         aiinfra_status (*commit)(aii_truth *, int64_t, const void *, size_t, aiinfra_error *))
{
  if (db->replica->ops != &faulty) real = *db->replica->ops;
  faulty = real;
  faulty.commit = commit;
  db->replica->ops = &faulty;
}

static void killed(const char *schema,
                   aiinfra_status (*commit)(aii_truth *, int64_t, const void *, size_t, aiinfra_error *),
                   const char *expected)
{
  int status;
  aiinfra_db *db = node("killed", schema);
  aiinfra_vecstore_free(store_of(db));
  aiinfra_db_free(db);
  pid_t child = fork();
  if (child == 0) {
    db = node("killed", schema);
    aiinfra_vecstore *store = store_of(db);
    break_commit(db, commit);
    (void)put(store, 7, X, "written before death");
    _exit(1);
  }
  waitpid(child, &status, 0);
  assert_true(WIFSIGNALED(status));
  db = node("killed", schema);
  aiinfra_vecstore *store = store_of(db);
  assert_string_equal(found(store, "death"), expected);
  must(put(store, 8, Y, "and life goes on"));
  must(aiinfra_db_check(db, &err));
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void test_killed(void **state)
{
  (void)state;
  killed("killed_after", commit_and_die, "7");
  unlink(test_tmp("killed"));
  killed("killed_before", die_before, "");
}

static aiinfra_status restart_and_commit(aii_truth *truth, int64_t version, const void *changes, size_t n,
                                         aiinfra_error *e)
{
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  return real.commit(truth, version, changes, n, e);
}

static aiinfra_status stop_and_commit(aii_truth *truth, int64_t version, const void *changes, size_t n,
                                      aiinfra_error *e)
{
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  return real.commit(truth, version, changes, n, e);
}

/* As if the server had committed and died before it could say so: its log has an entry of this version and node. */
static aiinfra_status commit_unheard(aii_truth *truth, int64_t version, const void *changes, size_t n, aiinfra_error *e)
{
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  must_sql("INSERT INTO unheard.replica_changes SELECT version + 1, node, now(), changes FROM unheard.replica_changes"
           " ORDER BY version DESC LIMIT 1; UPDATE unheard.replica_state SET version = version + 1",
           NULL);
  return real.commit(truth, version, changes, n, e);
}

static void test_unheard(void **state)
{
  aiinfra_db *db = node("unheard", "unheard");
  aiinfra_vecstore *store = store_of(db);
  (void)state;
  must(put(store, 1, X, "before"));
  break_commit(db, commit_unheard);
  must(put(store, 2, X, "committed"));
  assert_string_equal(found(store, "committed"), "2");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void test_restart(void **state)
{
  aiinfra_db *db = node("restart", "restart");
  aiinfra_vecstore *store = store_of(db);
  (void)state;
  must(put(store, 1, X, "before"));
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  assert_string_equal(found(store, "before"), "1"); /* reading makes a new connection */
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  must(put(store, 2, X, "after")); /* so does writing */
  break_commit(db, restart_and_commit);
  assert_int_equal(put(store, 3, X, "lost"), AIINFRA_EIO);
  assert_non_null(strstr(err.message, "nothing was written"));
  assert_string_equal(found(store, "lost"), "");
  break_commit(db, stop_and_commit);
  assert_int_equal(put(store, 4, X, "unknown"), AIINFRA_EIO);
  assert_non_null(strstr(err.message, "not known yet"));
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  assert_string_equal(found(store, "unknown"), "");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void test_gone(void **state)
{
  aiinfra_db *db = node("gone", "gone"), *other;
  aiinfra_vecstore *store = store_of(db);
  (void)state;
  must(put(store, 1, X, "before"));
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  assert_int_equal(put(store, 2, X, "after"), AIINFRA_EIO);
  assert_non_null(strstr(err.message, server_folder));
  assert_int_equal(aiinfra_db_open(rt, uri_of("gone-2", "gone", ""), NULL, &other, &err), AIINFRA_EIO);
  assert_null(other);
  assert_non_null(strstr(err.message, server_folder));
  assert_null(strstr(err.message, "s3cret"));
  uint64_t n = 99;
  assert_int_equal(aiinfra_vecstore_count(store, &n, &err), AIINFRA_EIO); /* nothing old is told as new */
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  must(put(store, 2, X, "after"));
  must(aiinfra_vecstore_count(store, &n, &err));
  assert_int_equal(n, 2);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void test_lock(void **state)
{
  aiinfra_db *a = node("lock-a", "lock"), *b = node("lock-b", "lock");
  aiinfra_vecstore *left = store_of(a), *right = store_of(b);
  (void)state;
  aii_sql_lock(a->sql);
  must(aii_sql_begin(a->sql, &err));
  assert_int_equal(put(right, 1, X, "waits"), AIINFRA_EBUSY);
  assert_non_null(strstr(err.message, "another node"));
  assert_string_equal(found(right, "waits"), ""); /* reading waits for nobody */
  aii_sql_rollback(a->sql);
  aii_sql_unlock(a->sql);
  must(put(right, 1, X, "waits"));
  assert_string_equal(found(left, "waits"), "1");
  aiinfra_vecstore_free(left);
  aiinfra_vecstore_free(right);
  aiinfra_db_free(a);
  aiinfra_db_free(b);
}

/* ---- what differs ------------------------------------------------------------------------------------------------ */

static void test_trimmed(void **state)
{
  aiinfra_db *a = node("trim-a", "trim"), *b = node("trim-b", "trim");
  aiinfra_vecstore *left = store_of(a), *right = store_of(b);
  (void)state;
  must(put(left, 1, X, "first words"));
  assert_string_equal(found(right, "words"), "1");
  must(put(left, 1, X, "second text"));
  must(put(left, 2, Y, "third text"));
  must_sql("DELETE FROM trim.replica_changes", NULL);
  assert_string_equal(found(right, "words"), "");
  assert_int_equal(nearest(right, Y), 2);
  must(aiinfra_db_check(b, &err));
  /* somebody takes a row out behind our back */
  must_sql("DELETE FROM trim.vectors; DELETE FROM trim.rows WHERE id = 1", NULL);
  assert_int_equal(put(right, 1, Y, "changed"), AIINFRA_EBUSY);
  assert_non_null(strstr(err.message, "try again"));
  must(put(right, 1, Y, "changed"));
  aiinfra_vecstore_free(left);
  aiinfra_vecstore_free(right);
  aiinfra_db_free(a);
  aiinfra_db_free(b);
}

static void test_versions(void **state)
{
  aiinfra_db *db = node("versions", "versions"), *other;
  aiinfra_vecstore *store = store_of(db);
  (void)state;
  must_sql("UPDATE versions.replica_state SET tables = 999", NULL);
  assert_int_equal(put(store, 1, X, "old"), AIINFRA_ENOTSUP);
  assert_int_equal(aiinfra_db_open(rt, uri_of("versions-2", "versions", ""), NULL, &other, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "newer library"));
  must_sql("SELECT count(*) FROM versions.rows", "0");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static void test_options(void **state)
{
  aiinfra_db *db;
  aiinfra_vecstore *store;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  char *json = NULL;
  (void)state;
  opts.must_exist = 1;
  assert_int_equal(aiinfra_db_open(rt, uri_of("opts", "opts", ""), &opts, &db, &err), AIINFRA_ENOENT);
  db = node("opts", "opts");
  store = store_of(db);
  must(put(store, 1, X, "kept"));
  must(aiinfra_db_describe(db, &json, &err));
  assert_non_null(strstr(json, "postgres://"));
  assert_null(strstr(json, "s3cret"));
  aiinfra_string_free(json);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  opts.read_only = 1;
  must(aiinfra_db_open(rt, uri_of("opts-2", "opts", ""), &opts, &db, &err));
  store = store_of(db);
  assert_string_equal(found(store, "kept"), "1");
  assert_int_equal(put(store, 2, X, "refused"), AIINFRA_EIO);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  static const char *const bad[] = {"&sync_ms=x", "&sync_ms=9999999999", "&port=12%", "&nonsense=1"};
  for (size_t i = 0; i < AII_COUNT(bad); i++) {
    assert_int_equal(aiinfra_db_open(rt, uri_of("opts", "opts", bad[i]), NULL, &db, &err), AIINFRA_EINVAL);
    assert_null(strstr(err.message, "s3cret"));
  }
  assert_int_equal(aiinfra_db_open(rt, "postgres:///x?plugin=/nowhere/x.so", NULL, &db, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "libpq5"));
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

static int stop_early(void *user, double fraction)
{
  (void)fraction;
  return ++*(int *)user >= 3;
}

static void fill_file(aiinfra_db *db)
{
  static aiinfra_record records[1200];
  static char texts[1200][32];
  aiinfra_memory *memory;
  aiinfra_vecstore *store = store_of(db);
  for (int i = 0; i < 1200; i++) {
    snprintf(texts[i], sizeof texts[i], "note number%d", i + 1);
    records[i] = (aiinfra_record){i + 1, i % 2 == 0 ? X : Y, texts[i], NULL};
  }
  must(aiinfra_vecstore_upsert(store, records, 1200, &err));
  must(aiinfra_memory_open(db, NULL, &memory, &err));
  must(aiinfra_memory_append(memory, "talk", "{\"role\":\"user\",\"content\":\"Hello\"}", &err));
  int64_t id;
  must(aiinfra_memory_remember(memory, "The printer is in room 4.", NULL, &id, &err));
  must(aiinfra_memory_forget(memory, id, &err));
  aiinfra_memory_free(memory);
  aiinfra_vecstore_free(store);
}

/* The next fact's id is behind the one that was forgotten before the copy. */
static int64_t next_id(aiinfra_db *db)
{
  aiinfra_memory *memory;
  int64_t id;
  must(aiinfra_memory_open(db, NULL, &memory, &err));
  must(aiinfra_memory_remember(memory, "The printer has no paper.", NULL, &id, &err));
  aiinfra_memory_free(memory);
  return id;
}

static void test_copy(void **state)
{
  aiinfra_db *file, *shared = node("copy-a", "copies"), *back;
  aiinfra_db_copy_opts opts = AIINFRA_DB_COPY_OPTS_INIT;
  char *there = NULL, *again = NULL;
  int calls = 0;
  (void)state;
  must(aiinfra_db_open(rt, test_tmp("original.db"), NULL, &file, &err));
  fill_file(file);
  opts.progress = stop_early;
  opts.progress_user = &calls;
  assert_int_equal(aiinfra_db_copy(file, shared, &opts, NULL, &err), AIINFRA_ECANCELED);
  must_sql("SELECT count(*) BETWEEN 1 AND 1199 FROM copies.rows", "t");
  must(aiinfra_db_copy(file, shared, NULL, &there, &err)); /* goes on */
  must_sql("SELECT count(*) FROM copies.rows", "1200");
  must(aiinfra_db_check(shared, &err));
  aiinfra_db_free(shared);
  shared = node("copy-b", "copies");
  must(aiinfra_db_open(rt, test_tmp("back.db"), NULL, &back, &err));
  must(aiinfra_db_copy(shared, back, NULL, &again, &err));
  assert_string_equal(there, again); /* rows and checksums */
  must(aiinfra_db_check(back, &err));
  aiinfra_vecstore *store = store_of(back);
  assert_string_equal(found(store, "number77"), "77");
  aiinfra_vecstore_free(store);
  assert_int_equal(next_id(shared), 2);
  assert_int_equal(next_id(back), 2);
  must_sql("UPDATE copies.rows SET text = 'other' WHERE id = 5", NULL);
  assert_int_equal(aiinfra_db_check(shared, &err), AIINFRA_EFORMAT);
  assert_non_null(strstr(err.message, "table rows"));
  must(aiinfra_db_copy(back, file, NULL, NULL, &err) == AIINFRA_EEXIST ? AIINFRA_OK : AIINFRA_EINTERNAL);
  aiinfra_string_free(there);
  aiinfra_string_free(again);
  aiinfra_db_free(shared);
  aiinfra_db_free(back);
  aiinfra_db_free(file);
}

/* ---- memory runs out --------------------------------------------------------------------------------------------- */

/* Opens, writes, reads what another node wrote. */
static aiinfra_status live(aiinfra_runtime *own)
{
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_record record = {5, X, "written with little memory", NULL};
  uint64_t n = 0;
  opts.dims = 3;
  aiinfra_status rc = aiinfra_db_open(own, uri_of("little", "little", ""), NULL, &db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_open(db, "notes", &opts, &store, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_upsert(store, &record, 1, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_count(store, &n, &err);
  if (rc == AIINFRA_OK) assert_int_equal(n, 2);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  return rc;
}

static void test_little_memory(void **state)
{
  aiinfra_db *db = node("plenty", "little");
  aiinfra_vecstore *store = store_of(db);
  aiinfra_status rc = AIINFRA_ENOMEM;
  (void)state;
  must(put(store, 1, X, "written with plenty of it"));
  for (long n = 0; rc != AIINFRA_OK && n < 5000; n += 1 + n / 16) { /* each of the first, then some */
    budget b;
    aiinfra_runtime *own;
    unlink(test_tmp("little"));
    must(budget_runtime(&b, n, &own, &err));
    rc = live(own);
    if (rc != AIINFRA_OK && rc != AIINFRA_ENOMEM) fail_msg("after %ld: %s", n, err.message);
    aiinfra_runtime_free(own);
    assert_int_equal(b.live, 0);
  }
  assert_int_equal(rc, AIINFRA_OK);
  must(aiinfra_db_check(db, &err));
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_runtime_free(rt);
  server_end();
  return 0;
}

static int set_up(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_turns),         cmocka_unit_test(test_parts),   cmocka_unit_test(test_at_once),
      cmocka_unit_test(test_killed),        cmocka_unit_test(test_restart), cmocka_unit_test(test_gone),
      cmocka_unit_test(test_lock),          cmocka_unit_test(test_trimmed), cmocka_unit_test(test_versions),
      cmocka_unit_test(test_options),       cmocka_unit_test(test_copy),    cmocka_unit_test(test_unheard),
      cmocka_unit_test(test_little_memory),
  };
  const char *why = server_begin();
  if (why != NULL) return test_skip_all("%s", why);
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
