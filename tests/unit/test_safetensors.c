/* test_safetensors.c - the safetensors reader on files that are well made, and on files that are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "src/model/safetensors.h"
#include "tests/data/hf_maker.h"

static aii_mem mem;

/* In memory of exactly that size, so that a sanitizer sees a byte too far. Every byte that it points at is read. */
static aiinfra_status parse(const void *bytes, size_t n, aiinfra_error *err)
{
  uint8_t *exact = malloc(n + (n == 0));
  aii_safetensors st;
  unsigned sum = 0;
  if (n > 0) memcpy(exact, bytes, n);
  aiinfra_status rc = aii_safetensors_parse(&mem, exact, n, &st, err);
  for (size_t i = 0; rc == AIINFRA_OK && i < st.n; i++) {
    for (uint64_t b = 0; b < st.tensors[i].bytes; b++) sum += st.tensors[i].data[b];
  }
  assert_true(sum < 1u << 31);
  if (rc == AIINFRA_OK) aii_safetensors_free(&st);
  assert_int_equal(mem.used_bytes, 0);
  free(exact);
  return rc;
}

static void expect(const char *header, size_t n_data, aiinfra_status status, const char *message)
{
  gm_bytes file = {NULL, 0, 0};
  aiinfra_error err = {0};
  gm_u64(&file, strlen(header));
  gm_add(&file, header, strlen(header));
  for (size_t i = 0; i < n_data; i++) gm_add(&file, "x", 1);
  aiinfra_status rc = parse(file.p, file.n, &err);
  if (rc != status || (message != NULL && strstr(err.message, message) == NULL)) {
    fail_msg("%s: expected %s '%s', got %s '%s'", header, aiinfra_status_name(status), message != NULL ? message : "",
             aiinfra_status_name(rc), err.message);
  }
  free(file.p);
}

static void test_reads(void **state)
{
  (void)state;
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  aii_safetensors st;
  size_t n;
  hm_count(&m, "a", "2,3", 6, 1);
  hm_tensor(&m, "b", "BF16", "4", "12345678", 8);
  hm_tensor(&m, "c", "I64", "", "12345678", 8);
  hm_tensor(&m, "none", "U8", "0,7", "", 0);
  uint8_t *bytes = hm_finish(&m, &n);
  assert_int_equal(aii_safetensors_parse(&mem, bytes, n, &st, NULL), AIINFRA_OK);
  assert_int_equal(st.n, 4);
  assert_int_equal(st.tensors[0].n_dims, 2);
  assert_int_equal(st.tensors[0].shape[1], 3);
  assert_int_equal(st.tensors[0].type, AII_F32);
  assert_memory_equal(st.tensors[1].data, "12345678", 8);
  assert_string_equal(st.tensors[2].dtype, "I64");
  assert_int_equal(st.tensors[2].n_dims, 0);
  assert_int_equal(st.tensors[3].type, -1);
  aii_safetensors_free(&st);
  assert_int_equal(mem.used_bytes, 0);
  free(bytes);
}

static void test_headers(void **state)
{
  (void)state;
#define T(name, dtype, shape, from, to) \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"
  expect("{}", 0, AIINFRA_OK, NULL);
  expect("{ \"__metadata__\" : { \"format\" : \"p\\\"t\" } , " T("a", "F32", "[1]", "0", "4") " } ", 4, AIINFRA_OK,
         NULL);
  expect("{" T("a", "F32", "[1]", "4", "8") "," T("b", "F32", "[1]", "0", "4") "}", 8, AIINFRA_OK, NULL);
  expect("{}", 1, AIINFRA_EFORMAT, "belong to no tensor");
  expect("{" T("a", "F32", "[1]", "0", "4") "}", 3, AIINFRA_EFORMAT, "cut short");
  expect("{" T("a", "F32", "[1]", "4", "8") "}", 8, AIINFRA_EFORMAT, "gap");
  expect("{" T("a", "F32", "[2]", "0", "8") "," T("b", "F32", "[1]", "4", "8") "}", 8, AIINFRA_EFORMAT, "overlaps");
  expect("{" T("a", "F32", "[2]", "0", "4") "}", 4, AIINFRA_EFORMAT, "shape takes 8 bytes");
  expect("{" T("a", "F32", "[4294967296,4294967296]", "0", "4") "}", 4, AIINFRA_EFORMAT, "overflows");
  expect("{" T("a", "F32", "[99999999999999999999]", "0", "4") "}", 4, AIINFRA_EFORMAT, "64 bits");
  expect("{" T("a", "F32", "[1.0]", "0", "4") "}", 4, AIINFRA_EFORMAT, "not whole");
  expect("{" T("a", "F32", "[-1]", "0", "4") "}", 4, AIINFRA_EFORMAT, "whole number");
  expect("{" T("a", "F32", "[1]", "8", "4") "}", 4, AIINFRA_EFORMAT, NULL);
  expect("{" T("a", "Q9", "[1]", "0", "4") "}", 4, AIINFRA_ENOTSUP, "'Q9' is not known");
  expect("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, AIINFRA_ENOTSUP, "more than 8");
  expect("{" T("a", "F32", "[1]", "0", "4") "," T("a", "F32", "[1]", "4", "8") "}", 8, AIINFRA_EFORMAT,
         "'a' appears twice");
  expect("{" T("", "F32", "[1]", "0", "4") "}", 4, AIINFRA_EFORMAT, "empty");
  expect("{" T("a\\u0062", "F32", "[1]", "0", "4") "}", 4, AIINFRA_ENOTSUP, "escapes");
  expect("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, AIINFRA_EFORMAT, "needs dtype");
  expect("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, AIINFRA_EFORMAT, "twice");
  expect("{\"a\":{\"extra\":1}}", 0, AIINFRA_EFORMAT, "unknown member");
  expect("{\"__metadata__\":{\"a\":1}}", 0, AIINFRA_EFORMAT, NULL);
  expect("{} x", 0, AIINFRA_EFORMAT, "behind the header");
  expect("{\"a", 0, AIINFRA_EFORMAT, "does not end");
  expect("{\"a\xFF\":{}}", 0, AIINFRA_EFORMAT, "UTF-8");
#undef T
}

/* The collection says which must be read and which refused. */
static void test_collection(void **state)
{
  (void)state;
  const char *manifest = test_data("malformed/safetensors-synthetic/manifest.json"), *name;
  json_t *cases = manifest != NULL ? json_load_file(manifest, 0, NULL) : NULL, *one;
  if (cases == NULL) test_skip("malformed/safetensors-synthetic is not here");
  json_object_foreach(cases, name, one)
  {
    char path[256];
    size_t n;
    aiinfra_error err;
    snprintf(path, sizeof path, "malformed/safetensors-synthetic/%s", name);
    char *bytes = test_read_file(test_data(path), &n);
    assert_non_null(bytes);
    aiinfra_status rc = parse(bytes, n, &err);
    const char *wanted = json_string_value(json_object_get(one, "expect"));
    if (strcmp(wanted, "accept") == 0 && rc != AIINFRA_OK) fail_msg("%s: %s", name, err.message);
    if (strcmp(wanted, "reject") == 0 && rc == AIINFRA_OK) fail_msg("%s was read", name);
    free(bytes);
  }
  json_decref(cases);
}

/* A thousand beginnings of a real file, and every bit of a small one. */
static void test_damage(void **state)
{
  (void)state;
  size_t n;
  char *bytes = test_read_file(test_data("models/tiny-random/deepseek2-tiny-random.safetensors"), &n);
  for (size_t i = 0; bytes != NULL && i < 1000; i++) {
    size_t cut = i < 500 ? i * 8 : n / 1000 * i;
    mem.peak_bytes = 0;
    assert_int_not_equal(parse(bytes, cut, NULL), AIINFRA_OK);
    assert_true(mem.peak_bytes <= 4 * cut);
  }
  if (bytes != NULL) assert_int_equal(parse(bytes, n, NULL), AIINFRA_OK);
  free(bytes);
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  hm_count(&m, "a", "2,3", 6, 1);
  hm_tensor(&m, "b", "BF16", "4", "12345678", 8);
  uint8_t *small = hm_finish(&m, &n);
  for (size_t i = 0; i < 8 * n; i++) {
    small[i / 8] ^= (uint8_t)(1u << i % 8);
    (void)parse(small, n, NULL);
    small[i / 8] ^= (uint8_t)(1u << i % 8);
  }
  free(small);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_reads), cmocka_unit_test(test_headers),
                                     cmocka_unit_test(test_collection), cmocka_unit_test(test_damage)};
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
