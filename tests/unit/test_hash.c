/* test_hash.c - hashes and random numbers are the same everywhere and for good, and as even as they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "lib/base/base.h"

static void test_hash_is_stable(void **state)
{
  (void)state;
  unsigned char bytes[64];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)i;
  static const struct {
    size_t n;
    uint64_t seed, hash;
  } table[] = {{0, 0, 0x81C9DA4F42DFA03Cu},  {1, 0, 0xFEBE5DBCE4B9A14Du},      {8, 0, 0x732BB24B75F1B480u},
               {9, 0, 0x82806FEFAEF5B5C7u},  {15, 0, 0xD548D99F6362BACEu},     {16, 0, 0x14839CF502F4DF6Cu},
               {17, 0, 0xF30FAC96302996B1u}, {33, 12345, 0x0B4E19F08B7E7C44u}, {64, UINT64_MAX, 0x565F768B6D0A3F9Cu}};
  for (size_t i = 0; i < AII_COUNT(table); i++) {
    uint64_t h = aii_hash64(bytes, table[i].n, table[i].seed);
    if (h != table[i].hash)
      fail_msg("%zu bytes, seed %llu: 0x%016llXu", table[i].n, (unsigned long long)table[i].seed,
               (unsigned long long)h);
  }
}

static void test_hash_sees_every_bit(void **state)
{
  (void)state;
  unsigned char bytes[40] = {0};
  for (size_t n = 0; n <= sizeof bytes; n++) {
    uint64_t plain = aii_hash64(bytes, n, 0);
    assert_true(aii_hash64(bytes, n, 1) != plain);
    if (n > 0) assert_true(aii_hash64(bytes, n - 1, 0) != plain); /* the length counts */
    for (size_t bit = 0; bit < n * 8; bit++) {
      bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
      assert_true(aii_hash64(bytes, n, 0) != plain);
      bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
  }
}

static void test_random_numbers(void **state)
{
  (void)state;
  aii_rng a, b;
  aii_rng_seed(&a, 0);
  assert_true(a.s[0] == 0xE220A8397B1DCDAFu && a.s[1] == 0x6E789E6AA1B965F4u); /* splitmix64's known first values */
  a = (aii_rng){{1, 2, 3, 4}};
  assert_true(aii_rng_u64(&a) == 11520 && aii_rng_u64(&a) == 0); /* xoshiro256**'s known first values */
  assert_true(aii_rng_u64(&a) == 1509978240 && aii_rng_u64(&a) == 1215971899390074240);
  aii_rng_seed(&a, 7);
  aii_rng_seed(&b, 7);
  for (int i = 0; i < 100; i++) assert_true(aii_rng_u64(&a) == aii_rng_u64(&b));
  double sum = 0;
  for (int i = 0; i < 10000; i++) {
    double x = aii_rng_unit(&a);
    assert_true(x >= 0.0 && x < 1.0);
    sum += x;
  }
  assert_true(fabs(sum / 10000 - 0.5) < 0.02);
}

static void test_random_below(void **state)
{
  (void)state;
  static const uint64_t limits[] = {1, 2, 3, 6, 10, 1000, (uint64_t)1 << 63, UINT64_MAX};
  aii_rng rng;
  aii_rng_seed(&rng, 3);
  for (size_t i = 0; i < AII_COUNT(limits); i++) {
    for (int j = 0; j < 1000; j++) assert_true(aii_rng_below(&rng, limits[i]) < limits[i]);
  }
  unsigned counts[6] = {0};
  for (int i = 0; i < 60000; i++) counts[aii_rng_below(&rng, 6)]++;
  for (size_t i = 0; i < 6; i++) assert_true(counts[i] > 9500 && counts[i] < 10500);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hash_is_stable),
      cmocka_unit_test(test_hash_sees_every_bit),
      cmocka_unit_test(test_random_numbers),
      cmocka_unit_test(test_random_below),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
