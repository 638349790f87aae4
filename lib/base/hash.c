/* hash.c - a fast 64-bit hash (multiply and fold, as in wyhash's construction) and xoshiro256** random numbers.
 *
 * Neither is cryptographic. Both give the same values on every machine and in every version: hashes are stored in
 * databases, and a seed must repeat a run.
 */
#include "lib/base/base.h"

/* Odd, with about as many bits set as not: the golden ratio and two primes of xxHash. */
static const uint64_t K0 = 0x9E3779B97F4A7C15u, K1 = 0xC2B2AE3D27D4EB4Fu, K2 = 0x165667B19E3779F9u;

static uint64_t fold(uint64_t a, uint64_t b)
{
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load64(const unsigned char *p, size_t n)
{
  uint64_t v = 0;
  for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
  return v;
}

uint64_t aii_hash64(const void *data, size_t n, uint64_t seed)
{
  const unsigned char *p = data;
  uint64_t h = fold(seed ^ K0, K1 ^ n);
  size_t left = n;
  for (; left >= 16; left -= 16, p += 16) h = fold(load64(p, 8) ^ h ^ K1, load64(p + 8, 8) ^ K2);
  uint64_t lo = load64(p, AII_MIN(left, (size_t)8));
  uint64_t hi = left > 8 ? load64(p + 8, left - 8) : 0;
  h = fold(lo ^ h ^ K2, hi ^ K0);
  return fold(h ^ n, K1);
}

static uint64_t splitmix(uint64_t *state)
{
  uint64_t z = *state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

void aii_rng_seed(aii_rng *rng, uint64_t seed)
{
  for (size_t i = 0; i < 4; i++) rng->s[i] = splitmix(&seed);
}

static uint64_t rotl(uint64_t x, int k)
{
  return x << k | x >> (64 - k);
}

uint64_t aii_rng_u64(aii_rng *rng)
{
  uint64_t *s = rng->s;
  uint64_t result = rotl(s[1] * 5, 7) * 9;
  uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotl(s[3], 45);
  return result;
}

double aii_rng_unit(aii_rng *rng)
{
  return (double)(aii_rng_u64(rng) >> 11) * 0x1.0p-53;
}

uint64_t aii_rng_below(aii_rng *rng, uint64_t n)
{
  /* Rejects the part that would make the first values likelier. */
  uint64_t limit = UINT64_MAX - UINT64_MAX % n, x;
  do {
    x = aii_rng_u64(rng);
  } while (x >= limit);
  return x % n;
}
