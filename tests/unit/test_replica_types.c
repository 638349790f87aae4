/* test_replica_types.c - a database in a PostgreSQL that has pgvector: searches in SQL find what ours find, and stay in
 * step with what nodes write, whatever dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>

#include "aiinfra/vecstore.h"
#include "src/db/replica.h"
#include "support/budget.h"
#include "support/postgres_server.h"

enum { DIMS = 24, ROWS = 600, K = 10, MAX_TEXT = 16384 };

static aiinfra_runtime *rt;
static aiinfra_error err;
static bool newer, iterates; /* pgvector 0.7 or later, 0.8 or later */

static void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

/* ---- SQL --------------------------------------------------------------------------------------------------------- */

/* The statement goes by the environment, so that the shell does not read it. */
static int run_sql(char *out, size_t cap, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int run_sql(char *out, size_t cap, const char *format, ...)
{
  static char sql[MAX_TEXT];
  va_list args;
  va_start(args, format);
  vsnprintf(sql, sizeof sql, format, args);
  va_end(args);
  setenv("AIINFRA_TEST_SQL", sql, 1);
  return server_do("psql", "$AIINFRA_TEST_SQL", out, cap);
}

static void must_sql(const char *sql, const char *expected)
{
  char out[1024];
  if (run_sql(out, sizeof out, "%s", sql) != 0) fail_msg("%s: failed", sql);
  if (expected != NULL) assert_string_equal(out, expected);
}

static void extension(const char *what)
{
  must_sql(what, NULL);
}

static const char *literal(const float *vector, size_t n)
{
  static char text[MAX_TEXT / 2];
  size_t at = 0;
  for (size_t i = 0; i < n; i++)
    at += (size_t)snprintf(text + at, sizeof text - at, "%s%.9g", i > 0 ? "," : "[", (double)vector[i]);
  snprintf(text + at, sizeof text - at, "]");
  return text;
}

/* ---- nodes ------------------------------------------------------------------------------------------------------- */

static const char *uri_of(const char *node, const char *schema)
{
  static char uris[4][4096];
  static unsigned next;
  char *uri = uris[next++ % 4];
  snprintf(uri, sizeof uris[0], "postgres://tester@/postgres?host=%s&sync_ms=0&plugin=%s&schema=%s&replica=%s",
           server_folder, test_built("libaiinfra-postgres.so"), schema, test_tmp(node));
  return uri;
}

static aiinfra_status try_node(const char *name, const char *schema, aiinfra_db **db)
{
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.busy_timeout_ms = 3000;
  return aiinfra_db_open(rt, uri_of(name, schema), &opts, db, &err);
}

static aiinfra_db *node(const char *name, const char *schema)
{
  aiinfra_db *db;
  must(try_node(name, schema, &db));
  return db;
}

static aiinfra_vecstore *store_of(aiinfra_db *db, const char *name, int metric, int element, uint32_t dims)
{
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = dims;
  opts.metric = metric;
  opts.element = element;
  must(aiinfra_vecstore_open(db, name, &opts, &store, &err));
  return store;
}

static aiinfra_vecstore *notes_of(aiinfra_db *db)
{
  return store_of(db, "notes", AIINFRA_METRIC_L2, 0, DIMS);
}

static unsigned long long seed;

static void random_vector(float *v, size_t n)
{
  for (size_t i = 0; i < n; i++) v[i] = (float)(test_random(&seed) % 20001) / 10000.0f - 1.0f;
}

static aiinfra_status put(aiinfra_vecstore *store, int64_t id, const float *vector)
{
  aiinfra_record record = {id, vector, "some words", id % 50 == 0 ? "{\"rare\":true}" : "{\"rare\":false}"};
  return aiinfra_vecstore_upsert(store, &record, 1, &err);
}

static aiinfra_status put_random(aiinfra_vecstore *store, int64_t id, size_t dims)
{
  float v[DIMS];
  random_vector(v, dims);
  return put(store, id, v);
}

static void put_many(aiinfra_vecstore *store, int64_t first, size_t n)
{
  static float vectors[ROWS][DIMS];
  static aiinfra_record records[ROWS];
  for (size_t i = 0; i < n; i++) {
    random_vector(vectors[i], DIMS);
    records[i] = (aiinfra_record){first + (int64_t)i, vectors[i], NULL,
                                  (first + (int64_t)i) % 50 == 0 ? "{\"rare\":true}" : "{\"rare\":false}"};
  }
  must(aiinfra_vecstore_upsert(store, records, n, &err));
}

/* The ids of an exact search, best first, as psql prints a column of them. */
static const char *ours(aiinfra_vecstore *store, const float *vector, const char *filter)
{
  static char ids[512];
  aiinfra_query q = AIINFRA_QUERY_INIT;
  aiinfra_hit hits[K];
  size_t n = 0, at = 0;
  q.vector = vector;
  q.filter_json = filter;
  q.mode = filter == NULL ? AIINFRA_SEARCH_EXACT : AIINFRA_SEARCH_AUTO;
  must(aiinfra_vecstore_search(store, &q, hits, K, &n, &err));
  ids[0] = '\0';
  for (size_t i = 0; i < n; i++)
    at += (size_t)snprintf(ids + at, sizeof ids - at, "%s%lld", i > 0 ? "\n" : "", (long long)hits[i].id);
  return ids;
}

/* Nothing waits, and nothing differs. */
static void assert_in_step(aiinfra_db *db, const char *schema)
{
  char sql[256];
  must(aiinfra_db_check(db, &err));
  snprintf(sql, sizeof sql, "SELECT count(*) FROM %s.vectors WHERE collection IS NULL", schema);
  must_sql(sql, "0");
}

/* ---- searching --------------------------------------------------------------------------------------------------- */

#define ODD_NAME "O'Brien's \"best\"; DROP TABLE rows; -- \\ %s $1 {\xC3\xA9}"

static void assert_same_search(aiinfra_vecstore *store, const char *schema, const char *name, const char *operator)
{
  char out[512];
  float q[DIMS];
  for (int i = 0; i < 5; i++) {
    random_vector(q, DIMS);
    if (run_sql(out, sizeof out,
                "SELECT id FROM %s.embeddings WHERE collection = $name$%s$name$ ORDER BY as_vector %s '%s' LIMIT %d",
                schema, name, operator, literal(q, DIMS), K) != 0)
      fail_msg("the search in SQL fails");
    assert_string_equal(out, ours(store, q, NULL));
  }
}

static void test_search(void **state)
{
  static const struct {
    const char *name;
    int metric, element;
    const char *operator;
  } cases[] = {{"by l2", AIINFRA_METRIC_L2, 0, "<->"},
               {"by ip", AIINFRA_METRIC_IP, 0, "<#>"},
               {"int8", AIINFRA_METRIC_L2, AIINFRA_ELEMENT_INT8, "<->"},
               {ODD_NAME, AIINFRA_METRIC_COSINE, 0, "<=>"}};
  aiinfra_db *a = node("search-a", "search"), *b = node("search-b", "search");
  char out[512];
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    aiinfra_vecstore *left = store_of(a, cases[i].name, cases[i].metric, cases[i].element, DIMS);
    aiinfra_vecstore *right = store_of(b, cases[i].name, cases[i].metric, cases[i].element, DIMS);
    put_many(left, 1, 300);
    put_many(right, 200, 300); /* replaces a hundred */
    assert_same_search(left, "search", cases[i].name, cases[i].operator);
    assert_int_equal(run_sql(out, sizeof out,
                             "SELECT operator FROM search.searchable WHERE collection = $name$%s$name$", cases[i].name),
                     0);
    assert_string_equal(out, cases[i].operator);
    must_sql("SELECT count(*) FROM search.rows", i == 0 ? "499" : NULL); /* the name did no harm */
    aiinfra_vecstore_free(left);
    aiinfra_vecstore_free(right);
  }
  assert_in_step(a, "search");
  must(aiinfra_vecstore_drop(b, ODD_NAME, &err));
  must_sql("SELECT count(*) FROM search.searchable WHERE collection LIKE 'O%'", "0");
  must_sql("SELECT count(*) FROM search.embeddings WHERE collection LIKE 'O%'", "0");
  must_sql("SELECT count(*) FROM search.vectors", "1497");
  aiinfra_db_free(a);
  aiinfra_db_free(b);
}

/* The index that the server offers; under a filter it is short, unless it goes on, and ours never is. */
static void test_index(void **state)
{
  enum { MANY = 3000 };
  aiinfra_db *db = node("index", "an \"index\" 'schema'");
  aiinfra_vecstore *store = store_of(db, ODD_NAME, AIINFRA_METRIC_COSINE, 0, DIMS);
  char line[1024], out[1024];
  float q[DIMS];
  (void)state;
  for (int i = 0; i < MANY; i += ROWS) put_many(store, i + 1, ROWS);
  assert_int_equal(run_sql(line, sizeof line, "SELECT create_index FROM \"an \"\"index\"\" 'schema'\".searchable"), 0);
  must_sql(line, NULL);
  must_sql("ANALYZE", NULL);
  random_vector(q, DIMS);
  const char *select = "SELECT id FROM \"an \"\"index\"\" 'schema'\".embeddings WHERE collection_id = 1%s"
                       " ORDER BY as_vector::vector(24) <=> '%s' LIMIT 10";
  char text[MAX_TEXT], explain[MAX_TEXT];
  snprintf(text, sizeof text, select, "", literal(q, DIMS));
  assert_int_equal(run_sql(explain, sizeof explain, "EXPLAIN %s", text), 0);
  assert_non_null(strstr(explain, "vectors_1 ")); /* the index serves the view */
  assert_int_equal(run_sql(out, sizeof out, "SET hnsw.ef_search = 400; %s", text), 0);
  assert_int_equal(strncmp(out, ours(store, q, NULL), 4), 0);
  snprintf(text, sizeof text, select, " AND payload::json->>'rare' = 'true'", literal(q, DIMS));
  assert_int_equal(
      run_sql(out, sizeof out, "SET enable_seqscan = off; SET enable_sort = off; SELECT count(*) FROM (%s) s", text),
      0);
  assert_true(atoi(out) < K);
  const char *filter = "{\"must\":[{\"key\":\"rare\",\"match\":{\"value\":true}}]}";
  if (iterates) {
    assert_int_equal(run_sql(out, sizeof out,
                             "SET enable_seqscan = off; SET enable_sort = off; SET hnsw.iterative_scan = strict_order;"
                             " SET hnsw.ef_search = 400; %s",
                             text),
                     0);
    assert_string_equal(out, ours(store, q, filter));
  }
  must(put_random(store, 1, DIMS));
  assert_in_step(db, "\"an \"\"index\"\" 'schema'\"");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* ---- types ------------------------------------------------------------------------------------------------------- */

static aiinfra_vecstore *kinds_of(aiinfra_db *db)
{
  aiinfra_vecstore *store;
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  opts.dims = 3;
  opts.vectors_json = "{\"half\":{\"dims\":3,\"element\":\"f16\"},\"bits\":{\"dims\":11,\"element\":\"binary\"},"
                      "\"words\":{\"sparse\":true},\"tokens\":{\"dims\":3,\"multi\":true}}";
  must(aiinfra_vecstore_open(db, "kinds", &opts, &store, &err));
  return store;
}

static void test_kinds(void **state)
{
  static const float three[3] = {0.5f, -2, 0.25f}, bits[11] = {1, -1, 1, -1, -1, -1, -1, -1, 1, 1, 1};
  static const float values[3] = {0.5f, 0, -3}, many[6] = {1, 0, 0, 0, 1, 0};
  static const uint32_t indices[3] = {7, 9, 100}, far[1] = {4000000000u};
  aiinfra_db *db = node("kinds", "kinds");
  aiinfra_vecstore *store = kinds_of(db);
  const aiinfra_named_vector named[] = {{1, "half", three, NULL, 3},
                                        {1, "bits", bits, NULL, 11},
                                        {1, "words", values, indices, 3},
                                        {2, "words", values, far, 1},
                                        {1, "tokens", many, NULL, 6}};
  (void)state;
  must(put(store, 1, three));
  must(put(store, 2, three));
  must(aiinfra_vecstore_upsert_named(store, named, 5, &err));
  must_sql("SELECT as_vector FROM kinds.embeddings WHERE collection = 'kinds' AND id = 1", "[0.5,-2,0.25]");
  must_sql("SELECT as_bit FROM kinds.embeddings WHERE label = 'bits'", "10100000111");
  must_sql("SELECT count(*), count(as_vector) FROM kinds.embeddings WHERE label = 'tokens'", "1|0");
  if (newer) {
    must_sql("SELECT as_halfvec FROM kinds.embeddings WHERE label = 'half'", "[0.5,-2,0.25]");
    must_sql("SELECT as_halfvec <-> '[0.5,-2,0.25]' FROM kinds.embeddings WHERE label = 'half'", "0");
    must_sql("SELECT as_bit::bit(11) <~> B'10100000110' FROM kinds.embeddings WHERE label = 'bits'", "1");
    must_sql("SELECT as_sparsevec FROM kinds.embeddings WHERE label = 'words' AND id = 1", "{8:0.5,101:-3}/1000000000");
    must_sql("SELECT count(*) FROM kinds.embeddings WHERE label = 'words' AND as_sparsevec IS NULL", "1");
  }
  assert_in_step(db, "kinds");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* More dimensions than pgvector can index, and than it can hold. */
static void test_large(void **state)
{
  static float v[16001];
  aiinfra_db *db = node("large", "large");
  aiinfra_vecstore *most = store_of(db, "most", AIINFRA_METRIC_L2, 0, 16000);
  aiinfra_vecstore *more = store_of(db, "more", AIINFRA_METRIC_L2, 0, 16001);
  (void)state;
  v[0] = v[16000] = 1;
  must(put(most, 1, v));
  must(put(more, 1, v));
  must_sql("SELECT vector_dims(as_vector) FROM large.embeddings WHERE collection = 'most'", "16000");
  must_sql("SELECT create_index IS NULL FROM large.searchable WHERE collection = 'most'", "t");
  must_sql("SELECT as_vector IS NULL FROM large.embeddings WHERE collection = 'more'", "t");
  must_sql("SELECT count(*) FROM large.searchable WHERE collection = 'more'", "0");
  assert_string_equal(ours(more, v, NULL), "1");
  assert_in_step(db, "large");
  aiinfra_vecstore_free(most);
  aiinfra_vecstore_free(more);
  aiinfra_db_free(db);
}

static void test_time(void **state)
{
  aiinfra_db *db = node("time", "times");
  aiinfra_vecstore *store = notes_of(db);
  uint64_t n;
  (void)state;
  must(put_random(store, 1, DIMS));
  must(put_random(store, 2, DIMS));
  must(aiinfra_vecstore_change(store, "{\"set_expiry\":{\"expires_ms\":1,\"ids\":[2]}}", &n, &err));
  must_sql("SELECT string_agg(id::text, ' ') FROM times.embeddings", "1");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* ---- in step ----------------------------------------------------------------------------------------------------- */

static void test_turns(void **state)
{
  aiinfra_db *a = node("turns-a", "turns"), *b = node("turns-b", "turns");
  aiinfra_vecstore *left = notes_of(a), *right = notes_of(b);
  const int64_t gone[] = {3, 4};
  float q[DIMS], late[DIMS];
  (void)state;
  put_many(left, 1, 20);
  random_vector(q, DIMS);
  must(put(right, 5, q));
  must(aiinfra_vecstore_remove(left, gone, 2, NULL, &err));
  assert_same_search(right, "turns", "notes", "<->");
  must_sql("SELECT count(*) FROM turns.embeddings", "18");
  random_vector(late, DIMS); /* a transaction that is undone */
  aii_sql_lock(a->sql);
  must(aii_sql_begin(a->sql, &err));
  must(aii_sql_exec(a->sql, "UPDATE vectors SET vector = zeroblob(96); DELETE FROM vectors WHERE row > 9", &err));
  aii_sql_rollback(a->sql);
  aii_sql_unlock(a->sql);
  assert_same_search(left, "turns", "notes", "<->");
  assert_in_step(a, "turns");
  assert_in_step(b, "turns");
  aiinfra_vecstore_free(left);
  aiinfra_vecstore_free(right);
  aiinfra_db_free(a);
  aiinfra_db_free(b);
}

/* A row's number is taken again in the transaction that gave it up, for the same vector in another collection. */
static void test_moved(void **state)
{
  aiinfra_db *db = node("moved", "moved");
  aiinfra_vecstore *notes = notes_of(db), *others = store_of(db, "others", AIINFRA_METRIC_L2, 0, DIMS);
  (void)state;
  put_many(notes, 1, 1);
  aii_sql_lock(db->sql);
  must(aii_sql_begin(db->sql, &err));
  must(aii_sql_exec(db->sql,
                    "CREATE TEMP TABLE kept AS SELECT * FROM vectors; DELETE FROM vectors; DELETE FROM rows;"
                    "INSERT INTO rows(row, collection, id, seq) VALUES(1, 2, 8, 1);"
                    "INSERT INTO vectors SELECT * FROM kept; UPDATE collections SET n_rows = id - 1, seq = 1;",
                    &err));
  must(aii_sql_commit(db->sql, &err));
  aii_sql_unlock(db->sql);
  must_sql("SELECT collection, id FROM moved.embeddings", "others|8");
  assert_in_step(db, "moved");
  aiinfra_vecstore_free(notes);
  aiinfra_vecstore_free(others);
  aiinfra_db_free(db);
}

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

static void test_killed(void **state)
{
  float q[DIMS];
  aiinfra_db *db = node("killed", "killed");
  aiinfra_vecstore *store = notes_of(db);
  (void)state;
  put_many(store, 1, 20);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  for (int i = 0; i < 2; i++) {
    int status;
    random_vector(q, DIMS);
    pid_t child = fork();
    if (child == 0) {
      db = node("killed", "killed");
      store = notes_of(db);
      real = faulty = *db->replica->ops;
      faulty.commit = i == 0 ? die_before : commit_and_die;
      db->replica->ops = &faulty;
      (void)put(store, 1, q);
      _exit(1);
    }
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    db = node("killed", "killed");
    store = notes_of(db);
    assert_same_search(store, "killed", "notes", "<->");
    assert_in_step(db, "killed");
    assert_int_equal(run_sql(NULL, 0, "SELECT 1 / (as_vector = '%s')::int FROM killed.embeddings WHERE id = 1",
                             literal(q, DIMS)) == 0,
                     i == 1);
    aiinfra_vecstore_free(store);
    aiinfra_db_free(db);
  }
}

/* Programs that do not know of the columns: what they change is taken out until it is filled again. */
static void test_strangers(void **state)
{
  aiinfra_db *db = node("strangers", "strangers");
  aiinfra_vecstore *store = notes_of(db);
  (void)state;
  put_many(store, 1, 3);
  must_sql("UPDATE strangers.vectors SET vector = decode(repeat('00', 96), 'hex') WHERE row = 2", NULL);
  must_sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM strangers.embeddings", "1 3");
  aiinfra_db_free(node("strangers-2", "strangers"));
  must_sql("SELECT vector_norm(as_vector) FROM strangers.embeddings WHERE id = 2", "0");
  must_sql("SET aiinfra.typed = on; UPDATE strangers.vectors SET as_vector = '[1]' WHERE row = 3", NULL);
  unlink(test_tmp("strangers-3"));
  aiinfra_db *other = node("strangers-3", "strangers");
  assert_int_equal(aiinfra_db_check(other, &err), AIINFRA_EFORMAT);
  assert_non_null(strstr(err.message, "in 1 rows"));
  must_sql("UPDATE strangers.vectors SET collection = NULL", NULL); /* the message's cure */
  aiinfra_db_free(node("strangers-2", "strangers"));
  assert_in_step(other, "strangers");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  aiinfra_db_free(other);
}

/* ---- the extension comes and goes -------------------------------------------------------------------------------- */

static void test_late(void **state)
{
  aiinfra_db *early, *db;
  (void)state;
  extension("DROP EXTENSION vector CASCADE");
  early = node("late-a", "late");
  aiinfra_vecstore *store = notes_of(early);
  put_many(store, 1, ROWS);
  must_sql("SELECT count(*) FROM information_schema.columns WHERE table_schema = 'late' AND table_name = 'vectors'",
           "2");
  extension("CREATE EXTENSION vector");
  must(put_random(store, 1, DIMS)); /* a node that is open goes on as it was */
  must(aiinfra_db_check(early, &err));
  db = node("late-b", "late");
  must_sql("SELECT count(*) FROM late.embeddings", "600");
  must(put_random(store, 2, DIMS)); /* and sees the columns at once */
  must(put_random(store, 601, DIMS));
  assert_same_search(store, "late", "notes", "<->");
  assert_in_step(db, "late");
  aiinfra_db_free(db);
  /* filling is interrupted: by a failure, by a lost connection */
  must_sql("UPDATE late.vectors SET collection = NULL;"
           " CREATE FUNCTION late.stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not this one''; END';"
           " CREATE TRIGGER stop BEFORE UPDATE ON late.vectors FOR EACH ROW WHEN (OLD.row = 400)"
           " EXECUTE FUNCTION late.stop()",
           NULL);
  assert_int_not_equal(try_node("late-b", "late", &db), AIINFRA_OK);
  assert_null(db);
  assert_non_null(strstr(err.message, "pgvector"));
  assert_non_null(strstr(err.message, "not this one"));
  must_sql("SELECT count(collection) FROM late.vectors", "256");
  must_sql("CREATE OR REPLACE FUNCTION late.stop() RETURNS trigger LANGUAGE plpgsql AS"
           " 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NEW; END'",
           NULL);
  assert_int_equal(try_node("late-b", "late", &db), AIINFRA_EIO);
  assert_null(db);
  must_sql("SELECT count(collection) FROM late.vectors", "256");
  must_sql("DROP TRIGGER stop ON late.vectors", NULL);
  db = node("late-b", "late");
  assert_in_step(db, "late");
  assert_same_search(store, "late", "notes", "<->");
  aiinfra_db_free(db);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(early);
}

static void test_dropped(void **state)
{
  aiinfra_db *db = node("dropped", "dropped"), *other;
  aiinfra_vecstore *store = notes_of(db);
  (void)state;
  put_many(store, 1, 20);
  extension("DROP EXTENSION vector CASCADE");
  must(put_random(store, 1, DIMS)); /* as before there was one */
  must(put_random(store, 21, DIMS));
  must(aiinfra_db_check(db, &err));
  other = node("dropped-2", "dropped");
  must(put_random(store, 2, DIMS));
  must_sql("SELECT to_regclass('dropped.embeddings') IS NULL AND to_regclass('dropped.searchable') IS NULL", "t");
  aiinfra_db_free(other);
  extension("CREATE EXTENSION vector"); /* its types have other numbers now */
  other = node("dropped-2", "dropped");
  assert_in_step(db, "dropped");
  must(put_random(store, 1, DIMS));
  must(put_random(store, 22, DIMS));
  assert_same_search(store, "dropped", "notes", "<->");
  assert_in_step(db, "dropped");
  aiinfra_db_free(other);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* The server's files of the extension are gone. */
static void test_uninstalled(void **state)
{
  aiinfra_db *db = node("gone", "gone");
  aiinfra_vecstore *store = notes_of(db);
  (void)state;
  put_many(store, 1, 20);
  must_sql("UPDATE pg_proc SET probin = '$libdir/vector_gone' WHERE probin = '$libdir/vector'", NULL);
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  assert_int_equal(put_random(store, 1, DIMS), AIINFRA_EIO);
  assert_non_null(strstr(err.message, "install pgvector"));
  must_sql("UPDATE pg_proc SET probin = '$libdir/vector' WHERE probin = '$libdir/vector_gone'", NULL);
  assert_int_equal(server_do("stop", NULL, NULL, 0), 0);
  assert_int_equal(server_do("start", NULL, NULL, 0), 0);
  must(put_random(store, 1, DIMS));
  assert_in_step(db, "gone");
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
}

/* The extension lies in a schema of its own; who may not make columns opens as before; nobody waits for a reader. */
static void test_rights(void **state)
{
  aiinfra_db *db;
  (void)state;
  extension("DROP EXTENSION vector CASCADE");
  aiinfra_db_free(node("rights", "rights"));
  extension("CREATE SCHEMA \"ext's \"\"own\"\"\"; CREATE EXTENSION vector SCHEMA \"ext's \"\"own\"\"\"");
  must_sql("CREATE ROLE somebody; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA rights TO somebody;"
           " GRANT USAGE ON SCHEMA rights TO somebody",
           NULL);
  db = node("rights", "rights&options=-crole%3Dsomebody");
  must_sql("SELECT to_regclass('rights.embeddings') IS NULL", "t");
  aiinfra_vecstore *store = notes_of(db);
  put_many(store, 1, 20);
  aiinfra_db_free(node("rights-2", "rights"));
  must_sql("SELECT count(as_vector) FROM rights.embeddings", "20");
  put_many(store, 10, 20); /* somebody writes what there is now */
  assert_in_step(db, "rights");
  must_sql("SELECT expression FROM rights.searchable", "as_vector::\"ext's \"\"own\"\"\".vector(24)");
  char line[1024];
  assert_int_equal(run_sql(line, sizeof line, "SELECT create_index FROM rights.searchable"), 0);
  must_sql(line, NULL);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  extension("DROP EXTENSION vector CASCADE; CREATE EXTENSION vector SCHEMA public");
}

/* ---- memory runs out --------------------------------------------------------------------------------------------- */

/* Opens, which fills; writes; checks. */
static aiinfra_status live(aiinfra_runtime *own)
{
  aiinfra_db *db = NULL;
  aiinfra_vecstore *store = NULL;
  aiinfra_status rc = aiinfra_db_open(own, uri_of("little", "little"), NULL, &db, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_vecstore_open(db, "notes", NULL, &store, &err);
  if (rc == AIINFRA_OK) rc = put_random(store, 5, DIMS);
  if (rc == AIINFRA_OK) rc = aiinfra_db_check(db, &err);
  aiinfra_vecstore_free(store);
  aiinfra_db_free(db);
  return rc;
}

static void test_little_memory(void **state)
{
  aiinfra_db *db = node("plenty", "little");
  aiinfra_vecstore *store = notes_of(db);
  aiinfra_status rc = AIINFRA_ENOMEM;
  (void)state;
  put_many(store, 1, 20);
  for (long n = 0; rc != AIINFRA_OK && n < 5000; n += 1 + n / 8) { /* each of the first, then some */
    budget b;
    aiinfra_runtime *own;
    unlink(test_tmp("little"));
    must_sql("UPDATE little.vectors SET collection = NULL", NULL);
    must(budget_runtime(&b, n, &own, &err));
    rc = live(own);
    if (rc != AIINFRA_OK && rc != AIINFRA_ENOMEM) fail_msg("after %ld: %s", n, err.message);
    aiinfra_runtime_free(own);
    assert_int_equal(b.live, 0);
  }
  assert_int_equal(rc, AIINFRA_OK);
  assert_in_step(db, "little");
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
  char out[64];
  (void)state;
  seed = test_seed();
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 1;
  if (run_sql(out, sizeof out,
              "CREATE EXTENSION vector; SELECT to_regtype('halfvec') IS NOT NULL,"
              " string_to_array(extversion, '.')::int[] >= '{0,8}' FROM pg_extension WHERE extname = 'vector'") != 0)
    return 1;
  newer = out[0] == 't';
  iterates = strcmp(out, "t|t") == 0;
  return 0;
}

/* NULL, or why there is no server with the extension. */
static const char *find_server(void)
{
  static char bin[1024];
  char command[1024];
  snprintf(command, sizeof command, "'%s' '%s'", test_path("tests/support/pgvector.sh"), test_built(""));
  FILE *pipe = popen(command, "r");
  size_t n = pipe != NULL ? fread(bin, 1, sizeof bin - 1, pipe) : 0;
  while (n > 0 && bin[n - 1] == '\n') n--;
  bin[n] = '\0';
  if (pipe == NULL || pclose(pipe) != 0) return n > 0 ? bin : "tests/support/pgvector.sh fails";
  setenv("AIINFRA_POSTGRES_BIN", bin, 1);
  return server_begin();
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_search),      cmocka_unit_test(test_index),         cmocka_unit_test(test_kinds),
      cmocka_unit_test(test_large),       cmocka_unit_test(test_time),          cmocka_unit_test(test_turns),
      cmocka_unit_test(test_moved),       cmocka_unit_test(test_killed),        cmocka_unit_test(test_strangers),
      cmocka_unit_test(test_late),        cmocka_unit_test(test_dropped),       cmocka_unit_test(test_rights),
      cmocka_unit_test(test_uninstalled), cmocka_unit_test(test_little_memory),
  };
  const char *why = find_server();
  if (why != NULL) return test_skip_all("%s", why);
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
