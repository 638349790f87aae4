/* test_gguf.c - the GGUF reader on files that are well made, and on files that are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/model/model.h"
#include "support/support.h"
#include "tests/data/gguf_maker.h"

static aii_mem mem;

static void expect(const uint8_t *bytes, size_t n, aiinfra_status status, const char *message)
{
  aii_gguf *g;
  aiinfra_error err = {0};
  aiinfra_status rc = aii_gguf_from_memory(&mem, bytes, n, &g, &err);
  if (rc != status || (message != NULL && strstr(err.message, message) == NULL)) {
    fail_msg("expected %s '%s', got %s '%s'", aiinfra_status_name(status), message != NULL ? message : "",
             aiinfra_status_name(rc), err.message);
  }
  if (rc != AIINFRA_OK) assert_null(g);
  aii_gguf_free(g);
  assert_int_equal(mem.used_bytes, 0);
}

/* Builds what the maker holds, expects the outcome. */
static void expect_made(gguf_maker *m, aiinfra_status status, const char *message)
{
  size_t n;
  uint8_t *bytes = gm_finish(m, &n);
  expect(bytes, n, status, message);
  free(bytes);
}

static void test_reads_every_type(void **state)
{
  (void)state;
  gguf_maker m;
  aii_gguf *g;
  size_t n;
  float data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  gm_init(&m);
  gm_key_u32(&m, "u32", 7);
  gm_key_f32(&m, "f32", 0.5f);
  gm_key_bool(&m, "bool", true);
  gm_key_str(&m, "str", "text");
  gm_key(&m, "i64", 11), gm_u64(&m.kvs, (uint64_t)-3);
  gm_key(&m, "big", 10), gm_u64(&m.kvs, (uint64_t)1 << 40);
  gm_key_array(&m, "strs", 8, 2), gm_text(&m.kvs, "a"), gm_text(&m.kvs, "");
  gm_tensor(&m, "first", 0, 4, 2, data, sizeof data);
  gm_tensor(&m, "second", 1, 4, 1, data, 8);
  uint8_t *bytes = gm_finish(&m, &n);
  assert_int_equal(aii_gguf_from_memory(&mem, bytes, n, &g, NULL), AIINFRA_OK);
  uint32_t u;
  float f;
  bool b;
  aii_str s;
  assert_true(aii_gguf_get_u32(g, "u32", &u) && u == 7);
  assert_false(aii_gguf_get_u32(g, "i64", &u)); /* negative */
  assert_false(aii_gguf_get_u32(g, "big", &u));
  assert_false(aii_gguf_get_u32(g, "str", &u));
  assert_false(aii_gguf_get_u32(g, "missing", &u));
  assert_true(aii_gguf_get_f32(g, "f32", &f) && f == 0.5f);
  assert_true(aii_gguf_get_f32(g, "u32", &f) && f == 7.0f);
  assert_true(aii_gguf_get_bool(g, "bool", &b) && b);
  assert_false(aii_gguf_get_bool(g, "u32", &b));
  assert_true(aii_gguf_get_str(g, "str", &s) && s.n == 4 && memcmp(s.p, "text", 4) == 0);
  assert_int_equal(aii_gguf_find(g, "strs")->count, 2);
  assert_int_equal(aii_gguf_n_kv(g), 7);
  const aii_gguf_tensor *t = aii_gguf_find_tensor(g, "second");
  assert_int_equal(aii_gguf_find_tensor(g, "first")->ne[1], 2);
  assert_int_equal(t->ne[0], 4);
  assert_int_equal(t->bytes, 8);
  assert_memory_equal(t->data, data, 8);
  assert_null(aii_gguf_find_tensor(g, "third"));
  assert_null(aii_gguf_tensor_at(g, 2));
  aii_gguf_free(g);
  free(bytes);
}

static void test_headers(void **state)
{
  (void)state;
  gguf_maker m;
  size_t n;
  gm_init(&m);
  gm_key_u32(&m, "a", 1);
  uint8_t *bytes = gm_finish(&m, &n);
  expect(bytes, n, AIINFRA_OK, NULL);
  bytes[4] = 2;
  expect(bytes, n, AIINFRA_OK, NULL);
  bytes[4] = 1;
  expect(bytes, n, AIINFRA_ENOTSUP, "version 1");
  bytes[4] = 0, bytes[7] = 3;
  expect(bytes, n, AIINFRA_ENOTSUP, "big-endian");
  bytes[4] = 3, bytes[7] = 0;
  for (size_t cut = 0; cut < n; cut++) { /* in memory of exactly that size, so that a sanitizer sees a byte too far */
    uint8_t *exact = malloc(cut + (cut == 0));
    memcpy(exact, bytes, cut);
    aii_gguf *g;
    aiinfra_status rc = aii_gguf_from_memory(&mem, exact, cut, &g, NULL);
    aii_gguf_free(g);
    if (cut < 24 + 8 + 1 + 4 + 4) assert_int_not_equal(rc, AIINFRA_OK);
    free(exact);
  }
  bytes[16] = 200; /* more keys than bytes */
  expect(bytes, n, AIINFRA_EFORMAT, "more than a file of");
  memcpy(bytes, "GGML", 4);
  expect(bytes, n, AIINFRA_EFORMAT, "not a GGUF file");
  free(bytes);
}

static void test_keys(void **state)
{
  (void)state;
  gguf_maker m;
  gm_init(&m);
  gm_key_u32(&m, "same", 1), gm_key_u32(&m, "same", 2);
  expect_made(&m, AIINFRA_EFORMAT, "'same' appears twice");
  gm_key_u32(&m, "", 1);
  expect_made(&m, AIINFRA_EFORMAT, "empty");
  gm_key_u32(&m, "bad\xFF", 1);
  expect_made(&m, AIINFRA_EFORMAT, "UTF-8");
  gm_key(&m, "typed", 13), gm_u64(&m.kvs, 0);
  expect_made(&m, AIINFRA_EFORMAT, "type 13");
  gm_key_array(&m, "nested", 9, 1), gm_u64(&m.kvs, 0), gm_u64(&m.kvs, 0);
  expect_made(&m, AIINFRA_EFORMAT, "array of arrays");
  gm_key_array(&m, "huge", 4, (uint64_t)1 << 62), gm_u64(&m.kvs, 0);
  expect_made(&m, AIINFRA_EFORMAT, "larger than the rest");
  gm_key_array(&m, "strings", 8, 2), gm_text(&m.kvs, "fine"), gm_u64(&m.kvs, UINT64_MAX);
  expect_made(&m, AIINFRA_EFORMAT, "string 1 is longer");
  gm_key_u32(&m, "general.alignment", 48);
  expect_made(&m, AIINFRA_EFORMAT, "power of two");
  gm_key_str(&m, "general.alignment", "x");
  expect_made(&m, AIINFRA_EFORMAT, "no 32-bit number");
}

static void tensor(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dims, uint64_t a, uint64_t b,
                   uint64_t offset)
{
  static const uint8_t zeros[256];
  uint64_t ne[8] = {a, b, 1, 1, 1, 1, 1, 1};
  gm_info(m, name, type, n_dims, ne, offset);
  if (m->data.n == 0) gm_add(&m->data, zeros, sizeof zeros);
}

static void test_tensors(void **state)
{
  (void)state;
  gguf_maker m;
  gm_init(&m);
  tensor(&m, "t", 0, 1, 64, 1, 0);
  expect_made(&m, AIINFRA_OK, NULL);
  tensor(&m, "t", 0, 1, 65, 1, 0);
  expect_made(&m, AIINFRA_EFORMAT,
              "tensor 't': offset 0 + 260 bytes lies outside the data section of 256 bytes; the file is cut short");
  tensor(&m, "t", 0, 1, 1, 1, UINT64_MAX - 31);
  expect_made(&m, AIINFRA_EFORMAT, "lies outside the data section");
  tensor(&m, "t", 0, 1, 1, 1, 4);
  expect_made(&m, AIINFRA_EFORMAT, "not a multiple of the alignment");
  tensor(&m, "t", 0, 2, 4, 0, 0);
  expect_made(&m, AIINFRA_EFORMAT, "zero or overflows");
  tensor(&m, "t", 0, 2, (uint64_t)1 << 40, (uint64_t)1 << 40, 0);
  expect_made(&m, AIINFRA_EFORMAT, "zero or overflows");
  tensor(&m, "t", 0, 0, 1, 1, 0);
  expect_made(&m, AIINFRA_EFORMAT, "0 dimensions");
  tensor(&m, "t", 0, 5, 1, 1, 0);
  expect_made(&m, AIINFRA_EFORMAT, "5 dimensions");
  tensor(&m, "t", 4, 1, 32, 1, 0);
  expect_made(&m, AIINFRA_ENOTSUP, "tensor type 4");
  tensor(&m, "t", 2, 1, 33, 1, 0);
  expect_made(&m, AIINFRA_EFORMAT, "blocks of 32");
  tensor(&m, "t", 28, 1, (uint64_t)1 << 61, 1, 0);
  expect_made(&m, AIINFRA_EFORMAT, NULL); /* its bytes overflow */
  tensor(&m, "t", 12, 1, 256, 1, 0);
  expect_made(&m, AIINFRA_OK, NULL); /* Q4_K can be inspected */
  tensor(&m, "t", 0, 1, 8, 1, 0), tensor(&m, "t", 0, 1, 8, 1, 32);
  expect_made(&m, AIINFRA_EFORMAT, "'t' appears twice");
  tensor(&m, "a", 0, 1, 9, 1, 0), tensor(&m, "b", 0, 1, 8, 1, 32);
  expect_made(&m, AIINFRA_EFORMAT, "'a' and 'b' overlap");
  tensor(&m, "a", 0, 1, 8, 1, 64), tensor(&m, "b", 0, 1, 8, 1, 0), tensor(&m, "c", 0, 1, 8, 1, 32);
  expect_made(&m, AIINFRA_OK, NULL); /* any order, with gaps */
  tensor(&m, "a", 0, 1, 8, 1, 64), tensor(&m, "b", 0, 1, 8, 1, 0), tensor(&m, "c", 0, 1, 9, 1, 32);
  expect_made(&m, AIINFRA_EFORMAT, "'c' and 'a' overlap");
}

static void test_files(void **state)
{
  (void)state;
  aii_gguf *g;
  aiinfra_error err;
  assert_int_equal(aii_gguf_open(&mem, test_tmp("missing.gguf"), &g, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "missing.gguf"));
  assert_int_equal(aii_gguf_open(&mem, test_tmp_dir(), &g, &err), AIINFRA_EINVAL);
  assert_int_equal(test_write_file(test_tmp("empty.gguf"), "", 0), 0);
  assert_int_equal(aii_gguf_open(&mem, test_tmp("empty.gguf"), &g, &err), AIINFRA_EFORMAT);
  assert_null(g);
  assert_int_equal(mem.used_bytes, 0);
}

/* Every byte of a small file, changed in every bit: refused or read, and every byte it points at exists. */
static void test_flipped_bits(void **state)
{
  (void)state;
  gguf_maker m;
  size_t n;
  float data[8] = {0};
  gm_init(&m);
  gm_key_str(&m, "general.architecture", "llama");
  gm_key_array(&m, "strs", 8, 2), gm_text(&m.kvs, "a"), gm_text(&m.kvs, "bc");
  gm_key_array(&m, "nums", 5, 3), gm_u64(&m.kvs, 1), gm_u32(&m.kvs, 1);
  gm_tensor(&m, "x", 0, 8, 1, data, sizeof data);
  gm_tensor(&m, "y", 8, 32, 1, data, 34 > sizeof data ? sizeof data : 34);
  gm_add(&m.data, data, 8);
  uint8_t *bytes = gm_finish(&m, &n);
  for (size_t i = 0; i < 8 * n; i++) {
    aii_gguf *g;
    unsigned sum = 0;
    bytes[i / 8] ^= (uint8_t)(1u << i % 8);
    if (aii_gguf_from_memory(&mem, bytes, n, &g, NULL) == AIINFRA_OK) {
      for (size_t t = 0; t < aii_gguf_n_tensors(g); t++) {
        const aii_gguf_tensor *one = aii_gguf_tensor_at(g, t);
        for (uint64_t b = 0; b < one->bytes; b++) sum += one->data[b];
      }
    }
    assert_true(sum < 1u << 30);
    aii_gguf_free(g);
    bytes[i / 8] ^= (uint8_t)(1u << i % 8);
  }
  assert_int_equal(mem.used_bytes, 0);
  free(bytes);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_reads_every_type), cmocka_unit_test(test_headers), cmocka_unit_test(test_keys),
      cmocka_unit_test(test_tensors),          cmocka_unit_test(test_files),   cmocka_unit_test(test_flipped_bits),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
