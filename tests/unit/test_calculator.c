/* test_calculator.c - the calculator: exact integers, short decimals, precedence, functions, and clear errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <locale.h>
#include <string.h>

#include "src/agent/agent.h"
#include "tests/support/support.h"

static void gives(const char *expression, const char *expected)
{
  char out[64] = "";
  aiinfra_error err = {0};
  if (aii_calculate(expression, out, sizeof out, &err) != AIINFRA_OK) fail_msg("%s: %s", expression, err.message);
  assert_string_equal(out, expected);
}

static void fails(const char *expression, const char *message)
{
  char out[64] = "";
  aiinfra_error err = {0};
  assert_int_equal(aii_calculate(expression, out, sizeof out, &err), AIINFRA_EINVAL);
  if (strstr(err.message, message) == NULL) fail_msg("%s: '%s' lacks '%s'", expression, err.message, message);
}

static void integers_are_exact(void **state)
{
  (void)state;
  gives("17 * 23", "391");
  gives("9223372036854775807 - 1 + 1 - 1", "9223372036854775806");
  gives("9007199254740993 + 0", "9007199254740993");
  gives("3 ^ 39", "4052555153018976267");
  gives("10 / 2", "5");
  gives("-7 % 3", "-1");
  gives("0 * -5", "0");
}

static void decimals_are_short(void **state)
{
  (void)state;
  gives("0.1 + 0.2", "0.3");
  gives("10 / 4", "2.5");
  gives("1 / 3", "0.333333333333333");
  gives("2.5 * 4", "10");
  gives(".5 + 1.", "1.5");
  gives("1e3 + 2E-1", "1000.2");
  gives("2 ^ 0.5", "1.4142135623731");
  gives("9223372036854775807 + 1", "9.22337203685478e+18");
}

static void precedence_and_grouping(void **state)
{
  (void)state;
  gives("2 + 3 * 4", "14");
  gives("(2 + 3) * 4", "20");
  gives("2 ^ 3 ^ 2", "512");
  gives("2 ** 3", "8");
  gives("-2 ^ 2", "-4");
  gives("2 ^ -1", "0.5");
  gives("8 - 3 - 2", "3");
  gives("- -5", "5");
  gives("2 * -3", "-6");
  gives("+4", "4");
  gives("100 / 10 / 5", "2");
}

static void functions(void **state)
{
  (void)state;
  gives("sqrt(16)", "4");
  gives("sqrt(2)", "1.4142135623731");
  gives("abs(-3)", "3");
  gives("min(3, 1, 2)", "1");
  gives("max(3, 1 + 5, 2)", "6");
  gives("round(2.5)", "3");
  gives("-sqrt(9) ^ 2", "-9");
  gives("max(2, min(5, 3)) * 2", "6");
  gives("min(4)", "4");
}

static void errors_name_the_place(void **state)
{
  char deep[400];
  (void)state;
  fails("", "a number is missing at character 1");
  fails("2 +", "a number is missing at character 4");
  fails("1 / 0", "division by zero");
  fails("5 % 0", "division by zero");
  fails("2 3", "an operator is missing at character 3");
  fails("(1 + 2", "')' is missing");
  fails("1)", "')' without '('");
  fails("1, 2", "',' outside");
  fails("(1, 2)", "',' outside");
  fails("sqrt(1, 2)", "too many arguments");
  fails("sqrt 2", "'(' expected");
  fails("sqrt(-1)", "negative");
  fails("x + 1", "unknown name");
  fails("2 & 3", "an operator is missing");
  fails("()", "unexpected character");
  fails(".", "a number is missing");
  fails("10 ^ 400", "too large");
  memset(deep, '(', sizeof deep - 1);
  deep[sizeof deep - 1] = '\0';
  fails(deep, "too deeply nested");
}

static void long_input_is_refused(void **state)
{
  static char text[AII_CALCULATOR_MAX_BYTES + 2];
  char out[64];
  (void)state;
  memset(text, '1', AII_CALCULATOR_MAX_BYTES + 1);
  fails(text, "longer than");
  for (size_t i = 0; i + 1 < AII_CALCULATOR_MAX_BYTES; i += 2) memcpy(text + i, "1+", 2);
  text[AII_CALCULATOR_MAX_BYTES - 1] = '\0';
  assert_int_equal(aii_calculate(text, out, sizeof out, NULL), AIINFRA_OK);
  assert_string_equal(out, "512");
}

static void the_locale_does_not_matter(void **state)
{
  (void)state;
  if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL) test_skip("needs the locale de_DE.UTF-8");
  gives("1.5 * 3", "4.5");
  setlocale(LC_NUMERIC, "C");
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(integers_are_exact),         cmocka_unit_test(decimals_are_short),
      cmocka_unit_test(precedence_and_grouping),    cmocka_unit_test(functions),
      cmocka_unit_test(errors_name_the_place),      cmocka_unit_test(long_input_is_refused),
      cmocka_unit_test(the_locale_does_not_matter),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
