/* test_base.c - the ground floor: messages are cut between characters, memory is counted to the byte, buffers fail once
 * and stay failed, options of any version load.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/base.h"

static aii_mem mem;

static int start_counting(void **state)
{
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  return 0;
}

static int nothing_is_left(void **state)
{
  (void)state;
  return atomic_load(&mem.used_bytes) == 0 ? 0 : -1;
}

/* ---- errors ---------------------------------------------------------------------------------------------------- */

static void test_status_names(void **state)
{
  (void)state;
  assert_string_equal(aiinfra_status_name(AIINFRA_OK), "AIINFRA_OK");
  assert_string_equal(aiinfra_status_name(AIINFRA_EINVAL), "AIINFRA_EINVAL");
  assert_string_equal(aiinfra_status_name((aiinfra_status)-1000), "AIINFRA_E?");
  assert_string_equal(aiinfra_status_text(AIINFRA_ENOMEM), "out of memory");
  assert_string_equal(aiinfra_status_text((aiinfra_status)1), "unknown status");
  assert_string_equal(aiinfra_version(), AIINFRA_VERSION_STRING);
}

static void test_errors_fill_and_wrap(void **state)
{
  (void)state;
  aiinfra_error err;
  memset(&err, 0xAA, sizeof err);
  assert_int_equal(aii_fail(&err, AIINFRA_EFORMAT, "tensor '%s'", "x"), AIINFRA_EFORMAT);
  assert_int_equal(err.status, AIINFRA_EFORMAT);
  assert_int_equal(err.code, 0);
  assert_int_equal(aii_wrap(&err, AIINFRA_EFORMAT, "read %d", 7), AIINFRA_EFORMAT);
  assert_int_equal(aii_wrap(&err, AIINFRA_EIO, "open m.gguf"), AIINFRA_EIO);
  assert_string_equal(err.message, "open m.gguf: read 7: tensor 'x'");
  assert_int_equal(err.status, AIINFRA_EIO);
  assert_int_equal(aii_fail_code(&err, AIINFRA_EDEVICE, 42, "launch"), AIINFRA_EDEVICE);
  assert_int_equal(err.code, 42);
  assert_int_equal(aii_wrap(&err, AIINFRA_EDEVICE, "decode"), AIINFRA_EDEVICE);
  assert_int_equal(err.code, 42); /* wrapping keeps it */
}

static void test_errors_without_a_struct(void **state)
{
  (void)state;
  assert_int_equal(aii_fail(NULL, AIINFRA_EINVAL, "x"), AIINFRA_EINVAL);
  assert_int_equal(aii_fail_code(NULL, AIINFRA_EIO, 1, "x"), AIINFRA_EIO);
  assert_int_equal(aii_wrap(NULL, AIINFRA_EIO, "x"), AIINFRA_EIO);
  assert_int_equal(aii_fail_errno(NULL, ENOENT, "x"), AIINFRA_ENOENT);
}

static void test_errors_of_errno(void **state)
{
  (void)state;
  static const struct {
    int errnum;
    aiinfra_status status;
  } table[] = {{ENOMEM, AIINFRA_ENOMEM}, {ENOENT, AIINFRA_ENOENT},  {EEXIST, AIINFRA_EEXIST},
               {ENOSPC, AIINFRA_ENOSPC}, {EAGAIN, AIINFRA_EBUSY},   {EACCES, AIINFRA_EIO},
               {EIO, AIINFRA_EIO},       {ENOTSUP, AIINFRA_ENOTSUP}};
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    aiinfra_error err;
    assert_int_equal(aii_fail_errno(&err, table[i].errnum, "open %s", "f"), table[i].status);
    assert_int_equal(err.status, table[i].status);
    assert_int_equal(err.code, table[i].errnum);
    assert_memory_equal(err.message, "open f: ", 8);
    assert_true(strlen(err.message) > 8);
  }
}

/* A message of `lead` bytes and then only characters of `size` bytes is cut to whole characters. */
static void check_cut(const char *character, size_t lead, bool wrap)
{
  char text[700];
  size_t size = strlen(character), n = 0;
  while (n < lead) text[n++] = 'a';
  while (n + size < sizeof text) {
    memcpy(text + n, character, size);
    n += size;
  }
  text[n] = '\0';
  aiinfra_error err;
  (void)aii_fail(&err, AIINFRA_EIO, "%s", text);
  if (wrap) (void)aii_wrap(&err, AIINFRA_EIO, "context");
  n = strlen(err.message);
  assert_true(n < AIINFRA_ERROR_MESSAGE_MAX);
  assert_true(n + 4 >= AIINFRA_ERROR_MESSAGE_MAX); /* no more is lost than a part of a character */
  assert_true(aii_utf8_valid(err.message, n));
}

static void test_messages_are_cut_between_characters(void **state)
{
  (void)state;
  static const char *const characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
  for (size_t c = 0; c < AII_COUNT(characters); c++) {
    for (size_t lead = 0; lead < 5; lead++) {
      check_cut(characters[c], lead, false);
      check_cut(characters[c], lead, true);
    }
  }
}

static unsigned n_lines;
static aiinfra_log_level last_level;
static char last_line[2000];

static void on_line(void *user, aiinfra_log_level level, const char *message)
{
  assert_ptr_equal(user, &n_lines);
  n_lines++;
  last_level = level;
  snprintf(last_line, sizeof last_line, "%s", message);
}

static void test_log_levels(void **state)
{
  (void)state;
  aii_log silent = {NULL, NULL, AIINFRA_LOG_DEBUG}, log = {on_line, &n_lines, AIINFRA_LOG_WARN};
  char big[3000];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = '\0';
  aii_logf(&silent, AIINFRA_LOG_ERROR, "x");
  n_lines = 0;
  aii_logf(&log, AIINFRA_LOG_INFO, "not wanted");
  assert_int_equal(n_lines, 0);
  aii_logf(&log, AIINFRA_LOG_WARN, "%s %d", "wanted", 1);
  assert_int_equal(n_lines, 1);
  assert_int_equal(last_level, AIINFRA_LOG_WARN);
  assert_string_equal(last_line, "wanted 1");
  aii_logf(&log, AIINFRA_LOG_ERROR, "%s", big);
  assert_int_equal(n_lines, 2);
  assert_true(strlen(last_line) >= 500 && strlen(last_line) < sizeof big - 1);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void test_memory_is_counted(void **state)
{
  (void)state;
  unsigned char *a = aii_new(&mem, 100);
  for (size_t i = 0; i < 100; i++) assert_int_equal(a[i], 0);
  char *b = aii_new_raw(&mem, 50);
  uint32_t *c = aii_new_array(&mem, 10, sizeof *c);
  assert_int_equal(atomic_load(&mem.used_bytes), 190);
  assert_int_equal(c[9], 0);
  aii_del(&mem, b, 50);
  assert_int_equal(atomic_load(&mem.used_bytes), 140);
  assert_int_equal(atomic_load(&mem.peak_bytes), 190);
  aii_del(&mem, a, 100);
  aii_del(&mem, c, 40);
  aii_del(&mem, NULL, 1000);
  assert_int_equal(atomic_load(&mem.used_bytes), 0);
  assert_null(aii_new(&mem, 0));
  assert_null(aii_new_array(&mem, SIZE_MAX / 2, 3));
  assert_int_equal(atomic_load(&mem.used_bytes), 0);
}

static void test_memory_limit(void **state)
{
  (void)state;
  aii_mem small;
  aii_mem_init(&small, NULL, 1000);
  char *a = aii_new(&small, 600);
  assert_non_null(a);
  assert_null(aii_new(&small, 401));
  assert_null(aii_new(&small, SIZE_MAX));
  assert_null(aii_new_aligned(&small, 400));
  assert_null(aii_new_aligned(&small, SIZE_MAX - 8));
  assert_int_equal(atomic_load(&small.used_bytes), 600); /* what was refused is not counted */
  assert_int_equal(atomic_load(&small.peak_bytes), 600);
  char *b = aii_new(&small, 400); /* exactly the limit */
  assert_non_null(b);
  b[0] = 'b';
  assert_null(aii_resize(&small, b, 400, 401));
  assert_int_equal(b[0], 'b');
  aii_del(&small, a, 600);
  b = aii_resize(&small, b, 400, 1000);
  assert_non_null(b);
  aii_del(&small, b, 1000);
  assert_int_equal(atomic_load(&small.used_bytes), 0);
}

static void test_resize(void **state)
{
  (void)state;
  char *p = aii_resize(&mem, NULL, 0, 10);
  assert_non_null(p);
  memcpy(p, "012345678", 10);
  p = aii_resize(&mem, p, 10, 5000);
  assert_string_equal(p, "012345678");
  assert_int_equal(atomic_load(&mem.used_bytes), 5000);
  p = aii_resize(&mem, p, 5000, 4);
  assert_memory_equal(p, "0123", 4);
  assert_int_equal(atomic_load(&mem.used_bytes), 4);
  assert_null(aii_resize(&mem, p, 4, 0)); /* the block is as it was */
  assert_memory_equal(p, "0123", 4);
  aii_del(&mem, p, 4);
}

static void test_aligned(void **state)
{
  (void)state;
  for (size_t size = 1; size < 300; size += 7) {
    unsigned char *p = aii_new_aligned(&mem, size);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    memset(p, 0xEE, size);
    assert_true(atomic_load(&mem.used_bytes) >= size);
    aii_del_aligned(&mem, p, size);
    assert_int_equal(atomic_load(&mem.used_bytes), 0);
  }
  aii_del_aligned(&mem, NULL, 10);
  assert_null(aii_new_aligned(&mem, 0));
}

static void test_strings(void **state)
{
  (void)state;
  char *a = aii_strdup(&mem, "hello"), *b = aii_strndup(&mem, "hello", 2), *c = aii_strndup(&mem, NULL, 0);
  assert_string_equal(a, "hello");
  assert_string_equal(b, "he");
  assert_string_equal(c, "");
  aii_strfree(&mem, a);
  aii_strfree(&mem, b);
  aii_strfree(&mem, c);
  aii_strfree(&mem, NULL);
  assert_null(aii_strndup(&mem, "x", SIZE_MAX));
  char *out = aii_export_string(&mem, "a\0b", 3);
  assert_memory_equal(out, "a\0b", 4);
  assert_true(atomic_load(&mem.used_bytes) > 4);
  aiinfra_string_free(out);
  aiinfra_string_free(NULL);
  assert_null(aii_export_string(&mem, "x", SIZE_MAX - 4));
}

static void test_sizes_and_growth(void **state)
{
  (void)state;
  size_t n;
  assert_true(aii_size_mul(SIZE_MAX / 2, 2, &n));
  assert_false(aii_size_mul(SIZE_MAX / 2 + 1, 2, &n));
  assert_true(aii_size_add(SIZE_MAX, 0, &n));
  assert_false(aii_size_add(SIZE_MAX, 1, &n));
  uint64_t *items = NULL;
  size_t cap = 0, n_moves = 0;
  for (uint64_t i = 0; i < 10000; i++) {
    size_t before = cap;
    assert_true(aii_grow(&mem, &items, &cap, (size_t)i + 1, sizeof *items));
    n_moves += cap != before;
    items[i] = i;
  }
  for (uint64_t i = 0; i < 10000; i++) assert_true(items[i] == i);
  assert_true(n_moves < 40); /* geometric */
  assert_false(aii_grow(&mem, &items, &cap, SIZE_MAX / 4, sizeof *items));
  assert_true(items[9999] == 9999);
  aii_del(&mem, items, cap * sizeof *items);
}

/* ---- buffers --------------------------------------------------------------------------------------------------- */

static void test_buf_appends(void **state)
{
  (void)state;
  aii_buf buf;
  aii_buf_init(&buf, &mem, 0);
  assert_string_equal(aii_buf_cstr(&buf), "");
  aii_buf_str(&buf, "ab");
  aii_buf_char(&buf, 'c');
  aii_buf_fmt(&buf, "%d-%s", 42, "x");
  aii_buf_add(&buf, NULL, 0);
  assert_string_equal(aii_buf_cstr(&buf), "abc42-x");
  for (int i = 0; i < 1000; i++) aii_buf_fmt(&buf, "%d", i % 10);
  assert_int_equal(buf.len, 1007);
  assert_int_equal(strlen(aii_buf_cstr(&buf)), 1007);
  aii_buf_clear(&buf);
  assert_string_equal(aii_buf_cstr(&buf), "");
  aii_buf_str(&buf, "again");
  char *out = NULL;
  assert_int_equal(aii_buf_export(&buf, &out, NULL), AIINFRA_OK);
  assert_string_equal(out, "again");
  assert_int_equal(buf.len, 0);
  aiinfra_string_free(out);
}

static void test_buf_bound(void **state)
{
  (void)state;
  aii_buf buf;
  aiinfra_error err;
  char *out = (char *)1;
  aii_buf_init(&buf, &mem, 5);
  aii_buf_str(&buf, "12345"); /* exactly the bound */
  assert_false(buf.failed);
  aii_buf_char(&buf, '6');
  assert_true(buf.failed && buf.over);
  assert_string_equal(aii_buf_cstr(&buf), "12345");
  aii_buf_clear(&buf);
  aii_buf_str(&buf, "123");
  aii_buf_fmt(&buf, "%d", 456);
  assert_true(buf.failed && buf.over);
  aii_buf_str(&buf, "4"); /* would fit, but a failure stays */
  assert_string_equal(aii_buf_cstr(&buf), "123");
  assert_int_equal(aii_buf_export(&buf, &out, &err), AIINFRA_ELIMIT);
  assert_null(out);
  assert_non_null(strstr(err.message, "5 bytes"));
  assert_int_equal(atomic_load(&mem.used_bytes), 0); /* emptied all the same */
}

static void test_buf_without_memory(void **state)
{
  (void)state;
  aii_mem small;
  aii_buf buf;
  aiinfra_error err;
  char *out = (char *)1;
  aii_mem_init(&small, NULL, 64);
  aii_buf_init(&buf, &small, 0);
  aii_buf_str(&buf, "short");
  for (int i = 0; i < 100; i++) aii_buf_str(&buf, "longer");
  assert_true(buf.failed);
  assert_false(buf.over);
  assert_int_equal(aii_buf_export(&buf, &out, &err), AIINFRA_ENOMEM);
  assert_null(out);
  assert_int_equal(atomic_load(&small.used_bytes), 0);
}

static void check_json(const char *bytes, size_t n, const char *expected)
{
  aii_buf buf;
  aii_buf_init(&buf, &mem, 0);
  aii_buf_json(&buf, bytes, n);
  assert_string_equal(aii_buf_cstr(&buf), expected);
  aii_buf_free(&buf);
}

static void test_buf_line(void **state)
{
  (void)state;
  static const char *const cases[][2] = {{"", ""}, {" \n", ""}, {" a  b\r\n\tc ", "a b c"}, {"a", "a"}};
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    aii_buf buf;
    aii_buf_init(&buf, &mem, 0);
    aii_buf_line(&buf, cases[i][0]);
    assert_string_equal(aii_buf_cstr(&buf), cases[i][1]);
    aii_buf_free(&buf);
  }
}

static void test_buf_json(void **state)
{
  (void)state;
  check_json("", 0, "\"\"");
  check_json("a\"b\\c/", 6, "\"a\\\"b\\\\c/\"");
  check_json("\n\r\t", 3, "\"\\n\\r\\t\"");
  check_json("\0\x01\x1F", 3, "\"\\u0000\\u0001\\u001f\"");
  check_json("\xC3\xA9\xF0\x9F\x98\x80", 6, "\"\xC3\xA9\xF0\x9F\x98\x80\"");
  check_json("a\xFFz", 3, "\"a\xEF\xBF\xBDz\"");
  check_json("\xE2\x82", 2, "\"\xEF\xBF\xBD\xEF\xBF\xBD\""); /* cut short: one for each byte */
}

static void test_buf_double(void **state)
{
  (void)state;
  static const double values[] = {0.0, -1.5, 0.1, 1e300, 1.0 / 3.0, 123456789.0, 5e-324};
  for (size_t i = 0; i < AII_COUNT(values); i++) {
    aii_buf buf;
    aii_buf_init(&buf, &mem, 0);
    aii_buf_double(&buf, values[i], 17);
    assert_true(strtod(aii_buf_cstr(&buf), NULL) == values[i]); /* 17 digits lose nothing */
    aii_buf_free(&buf);
  }
}

/* ---- options --------------------------------------------------------------------------------------------------- */

typedef struct new_opts { /* as this library knows it */
  size_t struct_size;
  uint64_t first;
  uint64_t last_of_0_1;
  uint64_t later;
} new_opts;

static void test_opts_load(void **state)
{
  (void)state;
  aiinfra_error err;
  new_opts o;
  memset(&o, 0xFF, sizeof o);
  assert_int_equal(AII_OPTS_LOAD(&o, (const new_opts *)NULL, last_of_0_1, &err), AIINFRA_OK);
  assert_true(o.struct_size == sizeof o && o.first == 0 && o.last_of_0_1 == 0 && o.later == 0);
  new_opts full = {sizeof full, 1, 2, 3};
  assert_int_equal(AII_OPTS_LOAD(&o, &full, last_of_0_1, &err), AIINFRA_OK);
  assert_memory_equal(&o, &full, sizeof o);
  new_opts old = {offsetof(new_opts, later), 1, 2, 99}; /* a caller of 0.1: what lies behind is not ours to read */
  assert_int_equal(AII_OPTS_LOAD(&o, &old, last_of_0_1, &err), AIINFRA_OK);
  assert_true(o.struct_size == sizeof o && o.first == 1 && o.last_of_0_1 == 2 && o.later == 0);
}

static void test_opts_too_short(void **state)
{
  (void)state;
  static const size_t sizes[] = {0, 1, sizeof(size_t), offsetof(new_opts, later) - 1};
  for (size_t i = 0; i < AII_COUNT(sizes); i++) {
    aiinfra_error err;
    new_opts o, given = {sizes[i], 1, 2, 3};
    assert_int_equal(AII_OPTS_LOAD(&o, &given, last_of_0_1, &err), AIINFRA_EINVAL);
    assert_non_null(strstr(err.message, "struct_size"));
    assert_int_equal(err.status, AIINFRA_EINVAL);
  }
}

static void test_opts_from_the_future(void **state)
{
  (void)state;
  struct {
    new_opts known;
    unsigned char unknown[9];
  } future;
  aiinfra_error err;
  new_opts o;
  memset(&future, 0, sizeof future);
  future.known.struct_size = sizeof future.known + 9;
  future.known.first = 5;
  assert_int_equal(AII_OPTS_LOAD(&o, &future.known, last_of_0_1, &err), AIINFRA_OK);
  assert_true(o.struct_size == sizeof o && o.first == 5);
  future.unknown[8] = 1;
  assert_int_equal(AII_OPTS_LOAD(&o, &future.known, last_of_0_1, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, AIINFRA_VERSION_STRING));
}

static void test_clocks(void **state)
{
  (void)state;
  uint64_t before = aii_now_ns();
  for (int i = 0; i < 1000; i++) {
    uint64_t now = aii_now_ns();
    assert_true(now >= before);
    before = now;
  }
  assert_true(aii_unix_ms() > 1600000000000); /* after 2020 */
}

#define COUNTED(test) cmocka_unit_test_setup_teardown(test, start_counting, nothing_is_left)

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_status_names),
      cmocka_unit_test(test_errors_fill_and_wrap),
      cmocka_unit_test(test_errors_without_a_struct),
      cmocka_unit_test(test_errors_of_errno),
      cmocka_unit_test(test_messages_are_cut_between_characters),
      cmocka_unit_test(test_log_levels),
      COUNTED(test_memory_is_counted),
      cmocka_unit_test(test_memory_limit),
      COUNTED(test_resize),
      COUNTED(test_aligned),
      COUNTED(test_strings),
      COUNTED(test_sizes_and_growth),
      COUNTED(test_buf_appends),
      COUNTED(test_buf_bound),
      cmocka_unit_test(test_buf_without_memory),
      COUNTED(test_buf_line),
      COUNTED(test_buf_json),
      COUNTED(test_buf_double),
      cmocka_unit_test(test_opts_load),
      cmocka_unit_test(test_opts_too_short),
      cmocka_unit_test(test_opts_from_the_future),
      cmocka_unit_test(test_clocks),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
