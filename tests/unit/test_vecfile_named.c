/* test_vecfile_named.c - vectors under names go to files and come back: all kinds of them in JSONL, with nothing lost; one
 * name in files of vectors alone; what is wrong with a line is named, and what was written before it stays.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/vector/vecfile.h"
#include "support/support.h"

enum { ROWS = 220, DIMS = 3, IMAGE = 5, TOKEN = 4, MOST = 6, PAIRS = 9 };

#define NAMES                                                                                                        \
  "{\"image\":{\"dims\":5,\"metric\":\"l2\",\"element\":\"%s\"},\"words\":{\"sparse\":true},\"tokens\":{\"dims\":4," \
  "\"multi\":true,\"element\":\"%s\"},\"a \\\"name\\\"\\n\":{\"dims\":5,\"metric\":\"ip\"}}"

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_error err;
static unsigned long long seed;

static void check(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
}

static aiinfra_vecstore *must_open(const char *name, const char *element)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  char names[400];
  snprintf(names, sizeof names, NAMES, element, element);
  opts.dims = DIMS;
  opts.vectors_json = names;
  check(aiinfra_vecstore_open(db, name, &opts, &store, &err));
  return store;
}

static const char *path_of(const char *name)
{
  static char paths[4][512];
  static unsigned at;
  char *path = paths[at++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", test_tmp_dir(), name);
  return path;
}

static void must_export(aiinfra_vecstore *store, const char *path, const char *using_name, uint64_t want)
{
  aiinfra_vecstore_export_opts opts = AIINFRA_VECSTORE_EXPORT_OPTS_INIT;
  uint64_t n;
  opts.using_name = using_name;
  check(aiinfra_vecstore_export(store, path, &opts, &n, &err));
  assert_int_equal(n, want);
}

static void must_equal_files(const char *a, const char *b)
{
  size_t n, m;
  char *x = test_read_file(a, &n), *y = test_read_file(b, &m);
  assert_non_null(x);
  assert_non_null(y);
  assert_int_equal(n, m);
  assert_memory_equal(x, y, n);
  free(x);
  free(y);
}

static void random_floats(float *v, size_t n)
{
  for (size_t i = 0; i < n; i++) v[i] = (float)((double)(test_random(&seed) % 2000001) / 1e6 - 1);
}

static void put_rows(aiinfra_vecstore *store)
{
  for (int id = 0; id < ROWS; id++) {
    float v[DIMS], image[2][IMAGE], tokens[MOST * TOKEN], weights[PAIRS];
    uint32_t indices[PAIRS], at = (uint32_t)(test_random(&seed) % 64);
    aiinfra_named_vector named[4];
    char payload[32];
    size_t n = 0, n_pairs = 1 + test_random(&seed) % PAIRS, n_tokens = 1 + test_random(&seed) % MOST;
    random_floats(v, DIMS);
    random_floats(image[0], 2 * IMAGE);
    random_floats(tokens, MOST * TOKEN);
    random_floats(weights, PAIRS);
    for (size_t i = 0; i < n_pairs; i++) indices[i] = (at = (at + 37) % 64) * 0x3ffffff; /* in no order */
    snprintf(payload, sizeof payload, "{\"n\":%d}", id);
    aiinfra_record r = {id * 3 - 50, v, id % 4 > 0 ? "some words" : NULL, id % 3 > 0 ? payload : NULL};
    check(aiinfra_vecstore_upsert(store, &r, 1, &err));
    if (id % 5 > 0) named[n++] = (aiinfra_named_vector){r.id, "image", image[0], NULL, IMAGE};
    if (id % 2 > 0) named[n++] = (aiinfra_named_vector){r.id, "words", weights, indices, n_pairs};
    if (id % 7 > 2) named[n++] = (aiinfra_named_vector){r.id, "tokens", tokens, NULL, n_tokens * TOKEN};
    if (id % 11 > 2) named[n++] = (aiinfra_named_vector){r.id, "a \"name\"\n", image[1], NULL, IMAGE};
    check(aiinfra_vecstore_upsert_named(store, named, n, &err));
  }
}

/* ---- there and back ---------------------------------------------------------------------------------------------- */

#define ALL_OF(name)                                                                                                  \
  "SELECT r.id, r.text, r.payload, r.expires_ms, c.label, v.vector FROM collections c JOIN rows r ON r.collection = " \
  "c.id LEFT JOIN vectors v ON v.row = r.row WHERE c.name = '" name                                                   \
  "' OR c.parent = (SELECT id FROM collections WHERE name = '" name "')"

static void must_be_equal(const char *sql)
{
  int64_t n;
  check(aii_db_ask_int(db->sql, sql, &n, &err));
  assert_int_equal(n, 0);
}

static void must_answer_equally(aiinfra_vecstore *a, aiinfra_vecstore *b)
{
  static const char *const requests[] = {
      "{\"query\":1,\"using\":\"image\",\"limit\":30}", "{\"query\":1,\"using\":\"words\",\"limit\":30}",
      "{\"query\":[[1,0,0,0.5],[0,1,-1,0]],\"using\":\"tokens\",\"limit\":30,\"filter\":{\"n\":{\"$gt\":9}}}",
      "{\"prefetch\":[{\"text\":\"words\"},{\"vector\":[1,2,3]},{\"query\":1,\"using\":\"words\"}],\"query\":{"
      "\"fusion\":"
      "\"dbsf\"},\"limit\":200,\"with_payload\":true}"};
  for (size_t i = 0; i < AII_COUNT(requests); i++) {
    char *x, *y;
    check(aiinfra_vecstore_query(a, requests[i], &x, &err));
    check(aiinfra_vecstore_query(b, requests[i], &y, &err));
    assert_string_equal(x, y);
    assert_non_null(strstr(x, "\"id\""));
    aiinfra_string_free(x);
    aiinfra_string_free(y);
  }
}

static void test_jsonl(void **state)
{
  static const char *const elements[] = {"f32", "f16", "int8", "binary"};
  (void)state;
  for (size_t e = 0; e < AII_COUNT(elements); e++) {
    const char *first = path_of("first.jsonl"), *second = path_of("second.jsonl");
    aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
    uint64_t next;
    aiinfra_vecstore *from = must_open("from", elements[e]), *to = must_open("to", elements[e]);
    put_rows(from);
    must_export(from, first, NULL, ROWS);
    opts.batch_rows = e % 2 == 0 ? 0 : 7;
    check(aiinfra_vecstore_import(to, first, &opts, &next, &err));
    assert_int_equal(next, ROWS);
    must_export(to, second, NULL, ROWS);
    must_equal_files(first, second);
    must_be_equal("SELECT count(*) FROM (" ALL_OF("from") " EXCEPT " ALL_OF("to") ")");
    must_be_equal("SELECT count(*) FROM (" ALL_OF("to") " EXCEPT " ALL_OF("from") ")");
    must_answer_equally(from, to);
    check(aiinfra_vecstore_import(to, first, NULL, &next, &err)); /* once more changes nothing */
    must_be_equal("SELECT count(*) FROM (" ALL_OF("from") " EXCEPT " ALL_OF("to") ")");
    check(aiinfra_db_check(db, &err));
    aiinfra_vecstore_free(from);
    aiinfra_vecstore_free(to);
    check(aiinfra_vecstore_drop(db, "from", &err));
    check(aiinfra_vecstore_drop(db, "to", &err));
  }
}

static size_t n_hits(aiinfra_vecstore *store, const char *request)
{
  char *out;
  size_t n = 0;
  check(aiinfra_vecstore_query(store, request, &out, &err));
  for (const char *at = out; (at = strstr(at, "\"id\"")) != NULL; at++) n++;
  aiinfra_string_free(out);
  return n;
}

/* What a line does not name stays, null takes it away, and the later one of two lines counts. */
static void test_replaced(void **state)
{
  static const char first[] =
      "{\"id\":1,\"vector\":[1,0,0],\"vectors\":{\"image\":[1,2,3,4,5],\"words\":{\"indices\":[7,2],\"values\":[1,2]}}}"
      "\n"
      "{\"id\":2,\"vector\":[1,0,0],\"vectors\":{\"tokens\":[1,2,3,4],\"image\":[1,2,3,4,5]}}\n"
      "{\"id\":2,\"vector\":[1,0,0],\"vectors\":{\"image\":null}}\n{\"id\":3,\"vector\":[1,0,0],\"vectors\":null}\n",
                    second[] = "{\"id\":1,\"vector\":[1,1,0],\"vectors\":{\"words\":null}}\n"
                               "{\"id\":3,\"vector\":[1,1,0],\"vectors\":{}}\n";
  const char *path = path_of("replaced.jsonl");
  aiinfra_vecstore *store = must_open("replaced", "f32");
  (void)state;
  assert_int_equal(test_write_file(path, first, sizeof first - 1), 0);
  check(aiinfra_vecstore_import(store, path, NULL, NULL, &err));
  assert_int_equal(n_hits(store, "{\"using\":\"image\",\"vector\":[1,2,3,4,5]}"), 1);
  assert_int_equal(n_hits(store, "{\"using\":\"words\",\"vector\":{\"indices\":[2],\"values\":[1]}}"), 1);
  assert_int_equal(n_hits(store, "{\"using\":\"tokens\",\"vector\":[1,2,3,4]}"), 1);
  assert_int_equal(test_write_file(path, second, sizeof second - 1), 0);
  check(aiinfra_vecstore_import(store, path, NULL, NULL, &err));
  assert_int_equal(n_hits(store, "{\"using\":\"image\",\"vector\":[1,2,3,4,5]}"), 1);
  assert_int_equal(n_hits(store, "{\"using\":\"words\",\"vector\":{\"indices\":[2],\"values\":[1]}}"), 0);
  aiinfra_vecstore_free(store);
}

/* ---- one name ---------------------------------------------------------------------------------------------------- */

static void test_one_name(void **state)
{
  static const char *const endings[] = {"fvecs", "npy", "fbin"};
  aiinfra_vecstore *from = must_open("one from", "f32");
  (void)state;
  for (int id = 0; id < 30; id++) {
    float v[DIMS], image[IMAGE];
    random_floats(v, DIMS);
    random_floats(image, IMAGE);
    aiinfra_record r = {100 + id, v, NULL, NULL};
    aiinfra_named_vector named = {r.id, "image", image, NULL, IMAGE};
    check(aiinfra_vecstore_upsert(from, &r, 1, &err));
    check(aiinfra_vecstore_upsert_named(from, &named, 1, &err));
  }
  for (size_t e = 0; e < AII_COUNT(endings); e++) {
    char name[32];
    aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
    uint64_t next = 9;
    aiinfra_vecstore *to = must_open(endings[e], "f32");
    snprintf(name, sizeof name, "rows.%s", endings[e]);
    const char *rows = path_of(name);
    snprintf(name, sizeof name, "image.%s", endings[e]);
    const char *image = path_of(name);
    snprintf(name, sizeof name, "again.%s", endings[e]);
    const char *again = path_of(name);
    must_export(from, rows, NULL, 30);
    must_export(from, image, "image", 30);
    opts.first_id = 100;
    opts.batch_rows = 7;
    opts.using_name = "image"; /* the rows are not there yet */
    assert_int_equal(aiinfra_vecstore_import(to, image, &opts, &next, &err), AIINFRA_ENOENT);
    assert_non_null(strstr(err.message, "no row has the id 100; write the row first"));
    assert_int_equal(next, 0);
    opts.using_name = NULL;
    check(aiinfra_vecstore_import(to, rows, &opts, &next, &err));
    opts.using_name = "image";
    check(aiinfra_vecstore_import(to, image, &opts, &next, &err));
    assert_int_equal(next, 30);
    must_export(to, again, "image", 30);
    must_equal_files(image, again);
    must_export(from, path_of("a.jsonl"), NULL, 30);
    must_export(to, path_of("b.jsonl"), NULL, 30);
    must_equal_files(path_of("a.jsonl"), path_of("b.jsonl"));
    aiinfra_vecstore_free(to);
  }
  aiinfra_vecstore_free(from);
}

static void refuse_name(aiinfra_vecstore *store, const char *name, const char *file, const char *why)
{
  aiinfra_vecstore_import_opts in = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
  aiinfra_vecstore_export_opts out = AIINFRA_VECSTORE_EXPORT_OPTS_INIT;
  const char *path = path_of(file);
  static const char row[] = "{\"vector\":[1,2,3]}";
  in.using_name = out.using_name = name;
  assert_int_equal(aiinfra_vecstore_export(store, path, &out, NULL, &err), AIINFRA_EINVAL);
  if (strstr(err.message, why) == NULL) fail_msg("%s", err.message);
  if (strstr(file, "json") != NULL) assert_int_equal(test_write_file(path, row, sizeof row - 1), 0);
  else must_export(store, path, NULL, 1);
  assert_int_equal(aiinfra_vecstore_import(store, path, &in, NULL, &err), AIINFRA_EINVAL);
  if (strstr(file, "dims") == NULL && strstr(err.message, why) == NULL) fail_msg("%s", err.message);
}

static void test_names_refused(void **state)
{
  static const float v[DIMS] = {1, 2, 3};
  const aiinfra_record r = {7, v, NULL, NULL};
  aiinfra_vecstore *store = must_open("refused", "f32");
  (void)state;
  check(aiinfra_vecstore_upsert(store, &r, 1, &err));
  refuse_name(store, "picture", "p.fvecs", "no vectors 'picture'; name them in vectors_json");
  refuse_name(store, "words", "w.fvecs", "'words' are sparse, which only jsonl has");
  refuse_name(store, "tokens", "t.npy", "'tokens' are several a row, which only jsonl has");
  refuse_name(store, "image", "i.jsonl", "rows of jsonl have all vectors; leave it out");
  refuse_name(store, "image", "dims.fvecs", "row 7 has no vector under 'image'");
  assert_non_null(strstr(err.message, "3 dims, but the collection has 5"));
  aiinfra_vecstore_free(store);
}

/* ---- mistakes ---------------------------------------------------------------------------------------------------- */

static void test_lines_refused(void **state)
{
  static const struct {
    const char *vectors, *why;
  } cases[] = {
      {"[]", "vectors: expected an object"},
      {"{\"picture\":[1]}", "no vectors 'picture'; name them in vectors_json"},
      {"{\"image\":7}", "vectors.image: expected an array of numbers, an array of such"},
      {"{\"image\":[]}", "vectors.image is empty; leave it out"},
      {"{\"image\":[1,2,\"3\",4,5]}", "vectors.image[2]: expected a number"},
      {"{\"image\":[1,2,1e39,4,5]}", "vectors.image[2]: expected a number"},
      {"{\"image\":[1,2]}", "vectors.image: a vector has 2 elements, but the collection's have 5"},
      {"{\"image\":[[1,2,3,4,5]]}",
       "vectors.image: the collection has one vector a row there; write an array of numbers"},
      {"{\"image\":{\"indices\":[1],\"values\":[1]}}",
       "vectors.image: the collection's are not sparse; write an array"},
      {"{\"words\":[1,2]}", "vectors.words: the collection's are sparse; write {\"indices\""},
      {"{\"words\":{}}", "vectors.words.indices"},
      {"{\"words\":{\"indices\":[1],\"values\":[1,2]}}", "vectors.words: indices and values are not as many"},
      {"{\"words\":{\"indices\":[],\"values\":[]}}", "vectors.words: indices and values are not as many, 1 to"},
      {"{\"words\":{\"indices\":[4294967296],\"values\":[1]}}", "vectors.words.indices[0] is not"},
      {"{\"words\":{\"indices\":[5,5],\"values\":[1,1]}}", "the index 5 comes twice"},
      {"{\"words\":{\"indices\":[5],\"values\":[null]}}", "vectors.words.values[0]"},
      {"{\"words\":{\"indices\":[5],\"values\":[1],\"n\":1}}", "vectors.words: there is no option 'n'"},
      {"{\"tokens\":[[1,2,3,4],[1,2,3]]}", "vectors.tokens[1]: expected an array of 4 numbers, as the first one"},
      {"{\"tokens\":[[1,2,3,4],5]}", "vectors.tokens[1]: expected an array"},
      {"{\"tokens\":[[]]}", "vectors.tokens[0]: a vector has 0 elements"},
      {"{\"tokens\":[[1,2],[3,4]]}", "vectors.tokens: a vector has 2 elements, but the collection's have 4"},
      {"{\"tokens\":[1,2,3,4,5,6,7,8]}", "vectors.tokens: a vector has 8 elements, but the collection's have 4"},
      {"{\"tokens\":[[1,2,3,4],[0,0,0,0]]}", "its vector 1"},
  };
  const char *path = path_of("refused.jsonl");
  aiinfra_vecstore *store = must_open("lines", "f32");
  (void)state;
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
    char lines[400];
    uint64_t next = 9;
    int n = snprintf(lines, sizeof lines,
                     "{\"id\":1,\"vector\":[1,0,0],\"vectors\":{\"image\":[1,2,3,4,5]}}\n"
                     "{\"id\":2,\"vector\":[1,0,0],\"vectors\":{\"image\":[1,2,3,4,5]}}\n"
                     "{\"id\":3,\"vector\":[1,0,0],\"vectors\":%s}\n",
                     cases[i].vectors);
    assert_int_equal(test_write_file(path, lines, (size_t)n), 0);
    opts.batch_rows = 2;
    assert_int_equal(aiinfra_vecstore_import(store, path, &opts, &next, &err), AIINFRA_EINVAL);
    if (strstr(err.message, cases[i].why) == NULL || strstr(err.message, "line 3: ") == NULL) {
      fail_msg("%s: %s", cases[i].vectors, err.message);
    }
    assert_int_equal(next, 2); /* whole batches stay */
    assert_int_equal(n_hits(store, "{\"using\":\"image\",\"vector\":[1,2,3,4,5]}"), 2);
    assert_int_equal(aiinfra_vecstore_change(store, "{\"delete\":{\"filter\":{}}}", NULL, &err), AIINFRA_OK);
  }
  aiinfra_vecstore_free(store);
}

static int set_up(void **state)
{
  (void)state;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1;
  seed = test_seed();
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 1;
  return aiinfra_db_open(rt, test_tmp("named.db"), &opts, &db, &err) != AIINFRA_OK;
}

static int tear_down(void **state)
{
  (void)state;
  aiinfra_db_free(db);
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_jsonl),         cmocka_unit_test(test_replaced),      cmocka_unit_test(test_one_name),
      cmocka_unit_test(test_names_refused), cmocka_unit_test(test_lines_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
