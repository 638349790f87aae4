/* test_filter_oracle.c - random filters on random payloads: the library and a second interpreter agree on every one.
 *
 * AIINFRA_FILTER_CASES sets how many (50000); AIINFRA_SEED another seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "src/vector/vector.h"
#include "unit/filter_oracle.h"
#include "unit/filter_cases.h"

enum { PAYLOADS_PER_FILTER = 5 };

static aii_mem mem;

static void test_against_oracle(void **state)
{
  const char *wanted = getenv("AIINFRA_FILTER_CASES");
  long n_cases = wanted != NULL ? atol(wanted) : 50000, n_passed = 0;
  unsigned long long seed = test_seed();
  (void)state;
  for (long i = 0; i < n_cases; i += PAYLOADS_PER_FILTER) {
    json_t *filter = random_filter(&seed, 3, false);
    char *text = json_dumps(filter, JSON_REAL_PRECISION(17));
    aii_filter *compiled;
    aiinfra_error err;
    assert_non_null(text);
    if (aii_filter_compile(&mem, text, &compiled, &err) != AIINFRA_OK) fail_msg("%s: %s", text, err.message);
    for (int p = 0; p < PAYLOADS_PER_FILTER; p++) {
      json_t *payload = random_payload(&seed);
      bool passes, want = oracle_filter(filter, payload, p);
      assert_true(aii_filter_test(compiled, p, payload, &passes));
      if (passes != want) {
        char *row = json_dumps(payload, 0);
        fail_msg("%s on row %d, %s: %d, not %d", text, p, row, passes, want);
      }
      n_passed += passes;
      json_decref(payload);
    }
    aii_filter_free(compiled);
    free(text);
    json_decref(filter);
  }
  assert_int_equal(mem.used_bytes, 0);
  print_message("%ld cases, %ld passed\n", n_cases, n_passed);
  assert_true(n_passed > n_cases / 10 && n_passed < n_cases - n_cases / 10); /* the cases tell something */
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_oracle)};
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
