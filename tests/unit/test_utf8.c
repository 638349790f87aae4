/* test_utf8.c - strict UTF-8: the edges of every length, overlong forms, surrogates, cut sequences, all code points. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lib/base/base.h"

static void test_utf8_decode(void **state)
{
  (void)state;
  static const struct {
    const char *s;
    size_t n;
    int length;
    uint32_t cp;
  } table[] = {
      {"", 0, 0, 0},
      {"\0", 1, 1, 0},
      {"A", 1, 1, 'A'},
      {"\x7F", 1, 1, 0x7F},
      {"\xC2\x80", 2, 2, 0x80},
      {"\xDF\xBF", 2, 2, 0x7FF},
      {"\xE0\xA0\x80", 3, 3, 0x800},
      {"\xED\x9F\xBF", 3, 3, 0xD7FF},
      {"\xEE\x80\x80", 3, 3, 0xE000},
      {"\xEF\xBF\xBF", 3, 3, 0xFFFF},
      {"\xF0\x90\x80\x80", 4, 4, 0x10000},
      {"\xF4\x8F\xBF\xBF", 4, 4, 0x10FFFF},
      {"\xC3\xA9zz", 4, 2, 0xE9}, /* what follows does not matter */
      {"\xC2", 1, 0, 0},          /* cut short */
      {"\xE2\x82", 2, 0, 0},
      {"\xF0\x9F\x98", 3, 0, 0},
      {"\xF0", 1, 0, 0},
      {"\x80", 1, -1, 0}, /* a continuation at the start */
      {"\xBF\x80", 2, -1, 0},
      {"\xC0\x80", 2, -1, 0}, /* overlong */
      {"\xC1\xBF", 2, -1, 0},
      {"\xC0", 1, -1, 0},
      {"\xE0\x80\x80", 3, -1, 0},
      {"\xE0\x9F\xBF", 3, -1, 0},
      {"\xE0\x9F", 2, -1, 0}, /* invalid already, though cut short */
      {"\xF0\x8F\xBF\xBF", 4, -1, 0},
      {"\xF0\x80", 2, -1, 0},
      {"\xED\xA0\x80", 3, -1, 0}, /* surrogates */
      {"\xED\xBF\xBF", 3, -1, 0},
      {"\xED\xA0", 2, -1, 0},
      {"\xF4\x90\x80\x80", 4, -1, 0}, /* above U+10FFFF */
      {"\xF4\x90", 2, -1, 0},
      {"\xF5\x80\x80\x80", 4, -1, 0},
      {"\xFF", 1, -1, 0},
      {"\xC2"
       "A",
       2, -1, 0}, /* the second byte is no continuation */
      {"\xE2\x82"
       "A",
       3, -1, 0},
      {"\xF0\x9F\x98"
       "A",
       4, -1, 0},
  };
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    uint32_t cp = 0;
    assert_int_equal(aii_utf8_decode(table[i].s, table[i].n, &cp), table[i].length);
    if (table[i].length > 0) assert_int_equal(cp, table[i].cp);
    assert_int_equal(aii_utf8_decode(table[i].s, table[i].n, NULL), table[i].length);
  }
}

static void test_utf8_round_trip(void **state)
{
  (void)state;
  for (uint32_t cp = 0; cp <= 0x110010; cp++) {
    char s[4];
    uint32_t back = 0;
    size_t n = aii_utf8_encode(cp, s);
    bool scalar = cp <= 0x10FFFF && (cp < 0xD800 || cp > 0xDFFF);
    if ((n != 0) != scalar) fail_msg("U+%X: %zu bytes", cp, n);
    if (!scalar) continue;
    if (aii_utf8_decode(s, n, &back) != (int)n || back != cp) fail_msg("U+%X comes back as U+%X", cp, back);
    if (n > 1 && aii_utf8_decode(s, n - 1, NULL) != 0) fail_msg("U+%X cut short", cp);
  }
}

static void test_utf8_valid(void **state)
{
  (void)state;
  assert_true(aii_utf8_valid("", 0));
  assert_true(aii_utf8_valid("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10));
  assert_false(aii_utf8_valid("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 9));
  assert_false(aii_utf8_valid("a\xED\xA0\x80", 4));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_utf8_decode),
      cmocka_unit_test(test_utf8_round_trip),
      cmocka_unit_test(test_utf8_valid),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
