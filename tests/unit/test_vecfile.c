/* test_vecfile.c - collections go to files of every format and come back; what is wrong with a file is named; an import
 * that was stopped goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "src/vector/vecfile.h"
#include "support/support.h"

static aiinfra_runtime *rt;
static aiinfra_db *db;
static aiinfra_error err;

static aiinfra_vecstore *must_open(const char *name, uint32_t dims)
{
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  aiinfra_vecstore *store;
  opts.dims = dims;
  opts.metric = AIINFRA_METRIC_L2;
  if (aiinfra_vecstore_open(db, name, &opts, &store, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return store;
}

static uint64_t must_import(aiinfra_vecstore *store, const char *path, const aiinfra_vecstore_import_opts *opts)
{
  uint64_t next;
  if (aiinfra_vecstore_import(store, path, opts, &next, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return next;
}

static uint64_t must_export(aiinfra_vecstore *store, const char *path)
{
  uint64_t n;
  if (aiinfra_vecstore_export(store, path, NULL, &n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return n;
}

static uint64_t count(aiinfra_vecstore *store)
{
  uint64_t n;
  assert_int_equal(aiinfra_vecstore_count(store, &n, &err), AIINFRA_OK);
  return n;
}

static char *scroll(aiinfra_vecstore *store)
{
  char *text;
  if (aiinfra_vecstore_read(store, "{\"scroll\":{\"limit\":100000}}", &text, &err) != AIINFRA_OK)
    fail_msg("%s", err.message);
  return text;
}

static void remove_all(aiinfra_vecstore *store)
{
  assert_int_equal(aiinfra_vecstore_change(store, "{\"delete\":{\"filter\":{}}}", NULL, &err), AIINFRA_OK);
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

/* ---- round trips ------------------------------------------------------------------------------------------------ */

static void put_rows(aiinfra_vecstore *store, uint32_t dims, int64_t n, bool bytes, unsigned long long *seed)
{
  float *v = malloc(dims * sizeof *v);
  assert_non_null(v);
  for (int64_t id = 0; id < n; id++) {
    for (uint32_t i = 0; i < dims; i++) {
      uint32_t bits = (uint32_t)test_random(seed);
      memcpy(&v[i], &bits, sizeof bits); /* any float there is */
      if (bytes || !isfinite(v[i])) v[i] = (float)(bits % 256);
    }
    aiinfra_record r = {id, v, NULL, NULL};
    if (aiinfra_vecstore_upsert(store, &r, 1, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  }
  free(v);
}

/* Out, back into another collection, out again: the files are the same, to the last bit of every float. */
static void test_round_trips(void **state)
{
  static const char *const endings[] = {"fvecs", "npy", "jsonl", "fbin", "ndjson", "bvecs", "u8bin"};
  static const uint32_t all_dims[] = {1, 7, 300};
  unsigned long long seed = test_seed();
  (void)state;
  for (size_t d = 0; d < AII_COUNT(all_dims); d++) {
    for (size_t e = 0; e < AII_COUNT(endings); e++) {
      char name[64], back[64], first[512], second[512];
      bool bytes = e >= 5;
      int64_t n = (int64_t)(1 + test_random(&seed) % 60);
      snprintf(name, sizeof name, "from %zu %zu", d, e);
      snprintf(back, sizeof back, "to %zu %zu", d, e);
      snprintf(first, sizeof first, "%s/a%zu-%zu.%s", test_tmp_dir(), d, e, endings[e]);
      snprintf(second, sizeof second, "%s/b%zu-%zu.%s", test_tmp_dir(), d, e, endings[e]);
      aiinfra_vecstore *from = must_open(name, all_dims[d]), *to = must_open(back, all_dims[d]);
      put_rows(from, all_dims[d], n, bytes, &seed);
      assert_int_equal(must_export(from, first), n);
      uint32_t dims;
      uint64_t rows;
      assert_int_equal(aiinfra_vector_file_probe(rt, first, 0, &dims, &rows, &err), AIINFRA_OK);
      assert_int_equal(dims, all_dims[d]);
      assert_true(rows == (strstr(endings[e], "json") != NULL ? UINT64_MAX : (uint64_t)n));
      assert_int_equal(must_import(to, first, NULL), n);
      assert_int_equal(must_export(to, second), n);
      must_equal_files(first, second);
      aiinfra_vecstore_free(from);
      aiinfra_vecstore_free(to);
    }
  }
}

/* Whatever rows store, files have the vectors that rows have: those of length 1 are not what they have. */
static void test_elements(void **state)
{
  static const float v[4] = {127, -63.5f, 0, 32}, bits[4] = {1, -1, -1, 1};
  aiinfra_vecstore_opts opts = AIINFRA_VECSTORE_OPTS_INIT;
  (void)state;
  for (int32_t element = AIINFRA_ELEMENT_F32; element <= AIINFRA_ELEMENT_BINARY; element++) {
    char first[512], second[512];
    aiinfra_vecstore *from, *to;
    aiinfra_record r = {7, v, NULL, NULL};
    snprintf(first, sizeof first, "%s/e%d.fvecs", test_tmp_dir(), (int)element);
    snprintf(second, sizeof second, "%s/f%d.fvecs", test_tmp_dir(), (int)element);
    opts.dims = 4;
    opts.metric = AIINFRA_METRIC_COSINE;
    opts.element = element;
    if (aiinfra_vecstore_open(db, first + strlen(first) - 8, &opts, &from, &err) != AIINFRA_OK ||
        aiinfra_vecstore_open(db, second + strlen(second) - 8, &opts, &to, &err) != AIINFRA_OK ||
        aiinfra_vecstore_upsert(from, &r, 1, &err) != AIINFRA_OK)
      fail_msg("%s", err.message);
    assert_int_equal(must_export(from, first), 1);
    assert_int_equal(must_import(to, first, NULL), 1);
    assert_int_equal(must_export(to, second), 1);
    must_equal_files(first, second);
    size_t n;
    char *file = test_read_file(first, &n);
    assert_int_equal(n, 20);
    const float *want = element == AIINFRA_ELEMENT_BINARY ? bits : v;
    for (int i = 0; i < 4; i++) {
      float value;
      memcpy(&value, file + 4 + 4 * i, sizeof value);
      if (fabsf(value - want[i]) > (element == AIINFRA_ELEMENT_INT8 ? 0.5f : 0)) fail_msg("element %d: %g", i, value);
    }
    free(file);
    aiinfra_vecstore_free(from);
    aiinfra_vecstore_free(to);
  }
}

static void test_jsonl_keeps_all(void **state)
{
  static const float v[2] = {0.1f, -3e-42f};
  static const aiinfra_record records[] = {
      {INT64_MIN, v, "tabs\tand \"quotes\" and \xC3\xA4 and \xF0\x9F\x98\x80", "{\"a\":[1,{\"b\":null}]}"},
      {-1, v, NULL, "{\n  \"spread\":\r\n [1,\n2]\n}"},
      {0, v, "", NULL},
      {INT64_MAX, v, "red fox", "{\"n\":9007199254740993}"},
  };
  char path[512];
  (void)state;
  aiinfra_vecstore *from = must_open("all from", 2), *to = must_open("all to", 2);
  snprintf(path, sizeof path, "%s", test_tmp("all.jsonl"));
  assert_int_equal(aiinfra_vecstore_upsert(from, records, 4, &err), AIINFRA_OK);
  assert_int_equal(must_export(from, path), 4);
  assert_int_equal(must_import(to, path, NULL), 4);
  char *a = scroll(from), *b = scroll(to);
  json_t *x = json_loads(a, 0, NULL), *y = json_loads(b, 0, NULL); /* blanks in payloads may differ */
  assert_non_null(x);
  assert_true(json_equal(x, y));
  assert_int_equal(json_array_size(json_object_get(x, "rows")), 4);
  json_decref(x);
  json_decref(y);
  aiinfra_string_free(a);
  aiinfra_string_free(b);
  aiinfra_query q = AIINFRA_QUERY_INIT; /* words are indexed */
  aiinfra_hit hits[10];
  size_t n;
  q.text = "fox";
  assert_int_equal(aiinfra_vecstore_search(to, &q, hits, 10, &n, &err), AIINFRA_OK);
  assert_true(n == 1 && hits[0].id == INT64_MAX);
  aiinfra_vecstore_free(from);
  aiinfra_vecstore_free(to);
}

/* ---- NumPy ------------------------------------------------------------------------------------------------------ */

static void write_npy(const char *path, int version, const char *header, const void *data, size_t bytes)
{
  uint8_t file[512] = "\x93NUMPY";
  size_t n = strlen(header), at = version == 1 ? 10 : 12;
  file[6] = (uint8_t)version;
  file[8] = (uint8_t)n;
  memcpy(file + at, header, n);
  if (bytes > 0) memcpy(file + at + n, data, bytes);
  assert_int_equal(test_write_file(path, file, at + n + bytes), 0);
}

static void expect_rows(const char *path, const float want[2][3])
{
  aiinfra_vecstore *store = must_open("numpy", 3);
  char out[512], *bytes;
  size_t n;
  remove_all(store);
  assert_int_equal(must_import(store, path, NULL), 2);
  snprintf(out, sizeof out, "%s", test_tmp("out.fbin"));
  assert_int_equal(must_export(store, out), 2);
  bytes = test_read_file(out, &n);
  assert_int_equal(n, 8 + 24);
  assert_memory_equal(bytes + 8, want, 24);
  free(bytes);
  aiinfra_vecstore_free(store);
}

static void test_npy(void **state)
{
  static const float f4[2][3] = {{1, -2, 0.5f}, {65504, 5.9604645e-8f, -0.0f}},
                     ints[2][3] = {{1, -2, 127}, {-128, 0, 5}};
  static const uint16_t f2[] = {0x3C00, 0xC000, 0x3800, 0x7BFF, 0x0001, 0x8000};
  static const int8_t i1[] = {1, -2, 127, -128, 0, 5};
  static const uint8_t u1[] = {1, 254, 127, 128, 0, 5};
  static const float bytes[2][3] = {{1, 254, 127}, {128, 0, 5}};
  char path[512];
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("a.npy"));
  write_npy(path, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }      \n", f4, sizeof f4);
  expect_rows(path, f4);
  write_npy(path, 2, "{\"shape\":(2,3),\"descr\":\"<f2\",\"fortran_order\":False}\n", f2, sizeof f2);
  expect_rows(path, f4);
  write_npy(path, 3, "{'fortran_order': False, 'shape': (2, 3,), 'descr': '|i1'}", i1, sizeof i1);
  expect_rows(path, ints);
  write_npy(path, 1, "{ 'descr' : '|u1' , 'fortran_order' : False , 'shape' : ( 2 , 3 ) }", u1, sizeof u1);
  expect_rows(path, bytes);
}

/* ---- mistakes --------------------------------------------------------------------------------------------------- */

static void expect_refused(const char *path, aiinfra_status want, const char *said)
{
  aiinfra_vecstore *store = must_open("mistakes", 3);
  uint64_t next = 9, n;
  aiinfra_status rc = aiinfra_vecstore_import(store, path, NULL, &next, &err);
  if (rc != want || strstr(err.message, said) == NULL) fail_msg("%d %s instead of %s", rc, err.message, said);
  assert_non_null(strstr(err.message, path));
  assert_int_equal(next, 0);
  n = count(store);
  assert_int_equal(n, 0); /* the batch before it, in these small files, is none */
  aiinfra_vecstore_free(store);
}

static void test_bad_npy(void **state)
{
  static const struct {
    int version;
    const char *header;
    size_t bytes;
    aiinfra_status rc;
    const char *said;
  } cases[] = {
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 20, AIINFRA_EFORMAT, "cut short"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 28, AIINFRA_EFORMAT, "28 bytes"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551615, 3), }", 24, AIINFRA_EFORMAT,
       "header"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (6148914691236517206, 3), }", 24, AIINFRA_EFORMAT, "rows"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1844674407370955161), }", 24, AIINFRA_EFORMAT, "dims"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (24, 0), }", 24, AIINFRA_EFORMAT, "dims"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", 24, AIINFRA_ENOTSUP, "reshape"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 24, AIINFRA_ENOTSUP, "reshape"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", 24, AIINFRA_ENOTSUP, "reshape"},
      {1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", 24, AIINFRA_ENOTSUP, "ascontiguousarray"},
      {1, "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", 48, AIINFRA_ENOTSUP, "astype"},
      {1, "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", 24, AIINFRA_ENOTSUP, "astype"},
      {1, "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", 24, AIINFRA_ENOTSUP, "one type"},
      {1, "{'descr': '<f4', 'fortran_order': False, }", 24, AIINFRA_EFORMAT, "header"},
      {1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", 24, AIINFRA_EFORMAT, "header"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}", 24, AIINFRA_EFORMAT, "header"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", 24, AIINFRA_EFORMAT, "header"},
      {1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } x", 24, AIINFRA_EFORMAT, "header"},
      {4, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24, AIINFRA_EFORMAT, "header"},
      {1, "{'descr': '<f4", 0, AIINFRA_EFORMAT, "header"},
  };
  static const float data[12] = {0};
  char path[512];
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("bad.npy"));
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    write_npy(path, cases[i].version, cases[i].header, data, cases[i].bytes);
    expect_refused(path, cases[i].rc, cases[i].said);
  }
}

static void test_bad_files(void **state)
{
#define NAN_ROW "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\xC0\x7F"
#define ROW "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
  static const struct {
    const char *name, *bytes;
    size_t n;
    aiinfra_status rc;
    const char *said;
  } cases[] = {
      {"a.fvecs", "\3\0", 2, AIINFRA_EFORMAT, "first number"},
      {"b.fvecs", ROW ROW, 31, AIINFRA_EFORMAT, "cut short"},
      {"c.fvecs", "\0\0\0\0", 4, AIINFRA_EFORMAT, "0 dims"},
      {"d.fvecs", "\xFF\xFF\xFF\xFF", 4, AIINFRA_EFORMAT, "4294967295 dims"},
      {"e.fvecs", ROW "\2\0\0\0............", 32, AIINFRA_EFORMAT, "row 1: it has 2 dims"},
      {"f.fvecs", ROW NAN_ROW, 32, AIINFRA_EINVAL, "row 1: record 1: element 2"},
      {"g.fvecs", "\1\0\0\0....", 8, AIINFRA_EINVAL, "1 dims, but the collection has 3"},
      {"h.bvecs", "\3\0\0\0abc\3\0\0\0ab", 13, AIINFRA_EFORMAT, "cut short"},
      {"i.fbin", "\1\0\0\0\3\0\0", 7, AIINFRA_EFORMAT, "header of 8"},
      {"j.fbin", "\2\0\0\0\3\0\0\0............", 20, AIINFRA_EFORMAT, "2 rows of 12 bytes, but 12"},
      {"k.fbin", "\xFF\xFF\xFF\xFF\3\0\0\0............", 20, AIINFRA_EFORMAT, "4294967295 rows"},
      {"l.u8bin", "\1\0\0\0\3\0\0\0abcd", 12, AIINFRA_EFORMAT, "4 bytes are behind"},
      {"m.npy", "", 0, AIINFRA_EFORMAT, "header"},
      {"n.what", ROW, 16, AIINFRA_EINVAL, "name one of fvecs"},
      {"o.jsonl", "[1]\n", 4, AIINFRA_EINVAL, "line 1: expected an object"},
      {"p.jsonl", "{\"vector\":[1,2,3]}\n\n{\"vector\":[1,2]}", 36, AIINFRA_EINVAL, "line 3: its vector has 2"},
      {"q.jsonl", "{\"vector\":[1,2,3],\"txt\":\"\"}", 27, AIINFRA_EINVAL, "'txt' is none of"},
      {"r.jsonl", "{\"vector\":[1,2,\"3\"]}", 20, AIINFRA_EINVAL, "vector[2]: expected a number"},
      {"s.jsonl", "{\"vector\":[1,2,1e39]}", 21, AIINFRA_EINVAL, "vector[2]: expected a number"},
      {"t.jsonl", "{\"vector\":[1,2,3],\"id\":1.5}", 27, AIINFRA_EINVAL, "id: expected"},
      {"u.jsonl", "{\"vector\":[1,2,3],\"payload\":[]}", 31, AIINFRA_EINVAL, "payload: expected an object"},
      {"v.jsonl", "{\"vector\":[1,2,3],\"text\":\"a\\u0000b\"}", 36, AIINFRA_EINVAL, "value 0"},
      {"w.jsonl", "{\"id\":1}", 8, AIINFRA_EINVAL, "vector"},
      {"x.jsonl", "{\"vector\":[1,2,3]}\n{\"vector\":[1,2,", 34, AIINFRA_EFORMAT, "line 2: row: line 1, column 16"},
      {"y.jsonl", "{\"vector\":[]}", 13, AIINFRA_EINVAL, "0 elements"},
  };
  (void)state;
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    char path[512];
    snprintf(path, sizeof path, "%s", test_tmp(cases[i].name));
    assert_int_equal(test_write_file(path, cases[i].bytes, cases[i].n), 0);
    expect_refused(path, cases[i].rc, cases[i].said);
  }
  expect_refused(test_tmp("absent.npy"), AIINFRA_ENOENT, "absent.npy");
  aiinfra_vecstore *store = must_open("mistakes", 3);
  aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
  opts.format = AIINFRA_VECTORS_FVECS;
  assert_int_equal(aiinfra_vecstore_import(store, test_tmp_dir(), &opts, NULL, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "regular file"));
  opts.format = 77;
  assert_int_equal(aiinfra_vecstore_import(store, "x", &opts, NULL, &err), AIINFRA_EINVAL);
  aiinfra_vecstore_free(store);
}

/* Files without rows are no mistake. */
static void test_empty(void **state)
{
  static const char *const endings[] = {"fvecs", "bvecs", "npy", "jsonl", "fbin", "u8bin"};
  (void)state;
  aiinfra_vecstore *store = must_open("empty", 3);
  for (size_t i = 0; i < AII_COUNT(endings); i++) {
    char path[512];
    snprintf(path, sizeof path, "%s/empty.%s", test_tmp_dir(), endings[i]);
    assert_int_equal(must_export(store, path), 0);
    assert_int_equal(must_import(store, path, NULL), 0);
    assert_int_equal(count(store), 0);
  }
  aiinfra_vecstore_free(store);
}

/* ---- going on --------------------------------------------------------------------------------------------------- */

static int cancel(void *user, double fraction)
{
  int *calls = user;
  assert_true(fraction >= 0 && fraction <= 1);
  return --*calls < 0;
}

static void expect_resumed(const char *path, bool with_ids)
{
  aiinfra_vecstore *store = must_open("resumed", 7);
  aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
  int calls = 1;
  uint64_t next, size;
  remove_all(store);
  opts.batch_rows = 10;
  opts.first_id = 100;
  opts.progress = cancel;
  opts.progress_user = &calls;
  assert_int_equal(aiinfra_vecstore_import(store, path, &opts, &next, &err), AIINFRA_ECANCELED);
  assert_int_equal(next, 20); /* what is written is told */
  size = count(store);
  assert_int_equal(size, 20);
  opts.progress = NULL;
  opts.max_rows = 5;
  opts.from_row = next;
  assert_int_equal(must_import(store, path, &opts), 25);
  opts.max_rows = 0;
  opts.from_row = 25;
  assert_int_equal(must_import(store, path, &opts), 55);
  size = count(store);
  assert_int_equal(size, 55);
  opts.from_row = 55; /* nothing is left, which is no mistake */
  assert_int_equal(must_import(store, path, &opts), 55);
  opts.from_row = 56;
  assert_int_equal(aiinfra_vecstore_import(store, path, &opts, &next, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "no row 56"));
  char *text;
  assert_int_equal(aiinfra_vecstore_read(store, "{\"scroll\":{\"limit\":1}}", &text, &err), AIINFRA_OK);
  assert_non_null(strstr(text, with_ids ? "{\"id\":0," : "{\"id\":100,"));
  aiinfra_string_free(text);
  aiinfra_vecstore_free(store);
}

static void test_resume(void **state)
{
  static const char *const endings[] = {"fvecs", "npy", "jsonl"};
  unsigned long long seed = test_seed();
  (void)state;
  aiinfra_vecstore *from = must_open("resume from", 7);
  put_rows(from, 7, 55, false, &seed);
  for (size_t i = 0; i < AII_COUNT(endings); i++) {
    char path[512];
    snprintf(path, sizeof path, "%s/resume.%s", test_tmp_dir(), endings[i]);
    must_export(from, path);
    expect_resumed(path, i == 2);
  }
  aiinfra_vecstore_free(from);
}

static int files_like(const char *prefix)
{
  int n = 0;
  DIR *dir = opendir(test_tmp_dir());
  for (struct dirent *e; (e = readdir(dir)) != NULL;) n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
  closedir(dir);
  return n;
}

/* An export that fails leaves the older file as it was, and nothing beside it. */
static void test_export_is_whole(void **state)
{
  aiinfra_vecstore_export_opts opts = AIINFRA_VECSTORE_EXPORT_OPTS_INIT;
  unsigned long long seed = test_seed();
  char path[512];
  size_t before, after;
  uint64_t n = 7;
  int calls = 2;
  (void)state;
  snprintf(path, sizeof path, "%s", test_tmp("whole.npy"));
  aiinfra_vecstore *store = must_open("whole", 7);
  put_rows(store, 7, 50, false, &seed);
  must_export(store, path);
  free(test_read_file(path, &before));
  put_rows(store, 7, 80, false, &seed);
  opts.batch_rows = 10;
  opts.progress = cancel;
  opts.progress_user = &calls;
  assert_int_equal(aiinfra_vecstore_export(store, path, &opts, &n, &err), AIINFRA_ECANCELED);
  assert_int_equal(n, 0);
  free(test_read_file(path, &after));
  assert_int_equal(before, after);
  opts.progress = NULL;
  opts.format = AIINFRA_VECTORS_BVECS;
  assert_int_equal(aiinfra_vecstore_export(store, path, &opts, &n, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "whole number from 0 to 255"));
  assert_int_equal(files_like("whole."), 1);
  opts.format = 0;
  assert_int_equal(aiinfra_vecstore_export(store, path, &opts, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 80);
  assert_int_equal(aiinfra_vecstore_export(store, test_tmp("no/folder.npy"), NULL, &n, &err), AIINFRA_ENOENT);
  assert_int_equal(aiinfra_vecstore_export(store, test_tmp("unknown"), NULL, &n, &err), AIINFRA_EINVAL);
  aiinfra_vecstore_free(store);
}

/* ---- real vectors ----------------------------------------------------------------------------------------------- */

/* SIFT descriptors of BIGANN: read, found as their published neighbours say, and written again to the byte. */
static void test_real(void **state)
{
  (void)state;
  const char *base = test_data("vectors/bigann10k/base.u8bin");
  if (base == NULL) test_skip("no shared/data/vectors/bigann10k");
  char own[512], out[512];
  snprintf(own, sizeof own, "%s", base);
  snprintf(out, sizeof out, "%s", test_tmp("sift.u8bin"));
  size_t bytes, answers;
  const uint8_t *vectors = (const uint8_t *)test_read_file(own, &bytes) + 8;
  const int32_t *truth = (const int32_t *)(const void *)test_read_file(
                             test_data("vectors/bigann10k/gt_split9800_200_l2_top100.bin"), &answers) +
                         2;
  aiinfra_vecstore *store = must_open("sift", 128);
  aiinfra_vecstore_import_opts opts = AIINFRA_VECSTORE_IMPORT_OPTS_INIT;
  opts.max_rows = 9800;
  assert_int_equal(must_import(store, own, &opts), 9800);
  for (int q = 0; q < 200; q += 20) {
    aiinfra_query query = AIINFRA_QUERY_INIT;
    aiinfra_hit hits[10];
    float v[128];
    size_t n;
    for (int i = 0; i < 128; i++) v[i] = (float)vectors[(size_t)(9800 + q) * 128 + (size_t)i];
    query.vector = v;
    query.mode = AIINFRA_SEARCH_EXACT;
    assert_int_equal(aiinfra_vecstore_search(store, &query, hits, 10, &n, &err), AIINFRA_OK);
    for (int i = 0; i < 10; i++) assert_int_equal(hits[i].id, truth[q * 100 + i]);
  }
  opts.max_rows = 0;
  opts.from_row = 9800;
  assert_int_equal(must_import(store, own, &opts), 10000);
  assert_int_equal(must_export(store, out), 10000);
  must_equal_files(own, out);
  free((void *)(uintptr_t)(vectors - 8));
  free((void *)(uintptr_t)(truth - 2));
  aiinfra_vecstore_free(store);
}

static int set_up(void **state)
{
  (void)state;
  aiinfra_db_opts opts = AIINFRA_DB_OPTS_INIT;
  opts.synchronous = -1;
  if (aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK) return 1;
  return aiinfra_db_open(rt, test_tmp("vecfile.db"), &opts, &db, &err) != AIINFRA_OK;
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
      cmocka_unit_test(test_round_trips), cmocka_unit_test(test_elements), cmocka_unit_test(test_jsonl_keeps_all),
      cmocka_unit_test(test_npy),         cmocka_unit_test(test_bad_npy),  cmocka_unit_test(test_bad_files),
      cmocka_unit_test(test_empty),       cmocka_unit_test(test_resume),   cmocka_unit_test(test_export_is_whole),
      cmocka_unit_test(test_real),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
