/* test_gguf_split.c - model files in several parts: joined into one directory, refused when they do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "src/model/model.h"
#include "tests/data/hf_maker.h"

static aii_mem mem;

static void put_key(gguf_maker *m, const char *key, uint32_t value)
{
  gm_key(m, key, 2);
  gm_add(&m->kvs, &value, 2);
}

/* Part `no` of `count`, with one tensor whose name ends in the number of it. */
static uint8_t *make_part(uint32_t no, uint32_t count, uint32_t n_tensors, const char *name, size_t *n)
{
  gguf_maker m;
  float data[4] = {(float)no, 1, 2, 3};
  gm_init(&m);
  put_key(&m, "split.no", no);
  put_key(&m, "split.count", count);
  if (n_tensors > 0) gm_key(&m, "split.tensors.count", 5), gm_u32(&m.kvs, n_tensors);
  if (no == 0) gm_key_str(&m, "general.architecture", "llama");
  gm_tensor(&m, name, 0, 4, 1, data, sizeof data);
  return gm_finish(&m, n);
}

static const char *part_path(uint32_t no, uint32_t count)
{
  char name[64];
  snprintf(name, sizeof name, "set-%05u-of-%05u.gguf", no + 1, count);
  return test_tmp(name);
}

static void write_part(uint32_t no, uint32_t claimed_no, uint32_t count, uint32_t n_tensors, const char *name)
{
  size_t n;
  uint8_t *bytes = make_part(claimed_no, count, n_tensors, name, &n);
  assert_int_equal(test_write_file(part_path(no, count), bytes, n), 0);
  free(bytes);
}

static void expect(const char *path, aiinfra_status status, const char *message)
{
  aii_gguf *g;
  aiinfra_error err = {0};
  aiinfra_status rc = aii_gguf_open(&mem, path, &g, &err);
  if (rc != status || (message != NULL && strstr(err.message, message) == NULL)) {
    fail_msg("expected %s '%s', got %s '%s'", aiinfra_status_name(status), message != NULL ? message : "",
             aiinfra_status_name(rc), err.message);
  }
  if (rc != AIINFRA_OK) assert_null(g);
  aii_gguf_free(g);
  assert_int_equal(mem.used_bytes, 0);
}

static void write_all(void)
{
  write_part(0, 0, 3, 3, "a");
  write_part(1, 1, 3, 3, "b");
  write_part(2, 2, 3, 3, "c");
}

static void test_joins(void **state)
{
  (void)state;
  aii_gguf *g;
  write_all();
  assert_int_equal(aii_gguf_open(&mem, part_path(0, 3), &g, NULL), AIINFRA_OK);
  assert_int_equal(aii_gguf_n_tensors(g), 3);
  for (uint32_t i = 0; i < 3; i++) {
    const char name[2] = {(char)('a' + (int)i), '\0'};
    float first;
    memcpy(&first, aii_gguf_find_tensor(g, name)->data, sizeof first);
    assert_true(first == (float)i);
  }
  aii_gguf_free(g);
  assert_int_equal(mem.used_bytes, 0);
}

static void test_refuses(void **state)
{
  (void)state;
  write_all();
  expect(part_path(1, 3), AIINFRA_EINVAL, "part 2 of 3; open the first one, which ends in -00001-of-00003.gguf");
  assert_int_equal(unlink(part_path(2, 3)), 0);
  expect(part_path(0, 3), AIINFRA_ENOENT, "set-00003-of-00003.gguf");
  write_part(2, 1, 3, 3, "c");
  expect(part_path(0, 3), AIINFRA_EFORMAT, "says that it is part 2 of 3");
  write_part(2, 2, 3, 3, "a");
  expect(part_path(0, 3), AIINFRA_EFORMAT, "'a' is in another part");
  assert_int_equal(test_write_file(part_path(2, 3), "GGUF", 4), 0);
  expect(part_path(0, 3), AIINFRA_EFORMAT, "part 3 of 3");
  write_part(0, 0, 3, 4, "a");
  write_part(2, 2, 3, 3, "c");
  expect(part_path(0, 3), AIINFRA_EFORMAT, "says 4 tensors");
  write_part(0, 3, 3, 3, "a");
  expect(part_path(0, 3), AIINFRA_EFORMAT, "part 3 of 3");
  size_t n;
  uint8_t *bytes = make_part(0, 3, 3, "a", &n);
  assert_int_equal(test_write_file(test_tmp("odd.gguf"), bytes, n), 0);
  expect(test_tmp("odd.gguf"), AIINFRA_EINVAL, "NAME-00001-of-00003.gguf");
  free(bytes);
}

/* Any beginning of a part is refused. */
static void test_truncated(void **state)
{
  (void)state;
  size_t n;
  write_all();
  uint8_t *bytes = make_part(1, 3, 3, "b", &n);
  for (size_t cut = 0; cut < n; cut++) {
    assert_int_equal(test_write_file(part_path(1, 3), bytes, cut), 0);
    expect(part_path(0, 3), AIINFRA_EFORMAT, NULL);
  }
  free(bytes);
}

/* A thousand beginnings of a real file: refused, with no more memory than four times what is there. */
static void test_truncated_model(void **state)
{
  (void)state;
  size_t n;
  char *bytes = test_read_file(test_data("models/stories260K/stories260K.gguf"), &n);
  if (bytes == NULL) test_skip("models/stories260K is not here");
  for (size_t i = 0; i < 1000; i++) {
    aii_gguf *g;
    size_t cut = i < 600 ? i * 32 : n / 1000 * i;
    mem.peak_bytes = 0;
    assert_int_not_equal(aii_gguf_from_memory(&mem, bytes, cut, &g, NULL), AIINFRA_OK);
    assert_true(mem.peak_bytes <= 4 * cut + 1024); /* the handle itself */
    assert_int_equal(mem.used_bytes, 0);
  }
  free(bytes);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_joins), cmocka_unit_test(test_refuses),
                                     cmocka_unit_test(test_truncated), cmocka_unit_test(test_truncated_model)};
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
