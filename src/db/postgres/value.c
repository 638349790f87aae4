/* value.c - a vector as pgvector receives it: the binary form of its types, made of the bytes that a row holds.
 *
 *   collection's elements    type        here
 *   f32, int8                vector      floats; those of int8 are multiplied by the scale
 *   f16                      halfvec     halves
 *   binary                   bit         1 for 1, 0 for -1
 *   any, of a sparse one     sparsevec   values that are not 0, with their indices
 *
 * Numbers are big endian; every float is that of the row to the bit, but for zeros of sparse vectors, which are left out.
 * What pgvector would refuse has no value: more dimensions or values than it can hold, numbers that are not finite,
 * bytes that are not as many as they should be, several vectors in one row.
 */
#include "aiinfra/vecstore.h"
#include "src/db/postgres/postgres.h"

enum {
  ONE = 0,
  SPARSE = 2, /* a collection's kind */
  MAX_DIMS = 16000,
  MAX_VALUES = 16000,
  MAX_INDEX = 999999999,
  MAX_BITS = 65536,
  SOME = 256 /* elements at a time */
};

static uint32_t load32(const unsigned char *from)
{
  uint32_t value;
  memcpy(&value, from, sizeof value);
  return value;
}

static uint32_t bits_of(float value)
{
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static void put16(unsigned char *to, unsigned value)
{
  to[0] = (unsigned char)(value >> 8);
  to[1] = (unsigned char)value;
}

static void put32(unsigned char *to, uint32_t value)
{
  put16(to, value >> 16);
  put16(to + 2, value & 0xFFFF);
}

static void add32(aii_buf *buf, uint32_t value)
{
  unsigned char bytes[4];
  put32(bytes, value);
  aii_buf_add(buf, bytes, sizeof bytes);
}

static bool is_finite(uint32_t bits)
{
  return (bits & 0x7F800000) != 0x7F800000;
}

/* The number of dimensions, and two bytes that mean nothing yet. */
static void add_dims(aii_buf *buf, size_t dims)
{
  add32(buf, (uint32_t)dims << 16);
}

static bool add_floats(const aii_truth_vector *as, aii_buf *buf)
{
  const unsigned char *in = as->stored;
  size_t dims = (size_t)as->dims;
  bool int8 = as->element == AIINFRA_ELEMENT_INT8;
  float scale = 0;
  if (dims > MAX_DIMS || as->n != (int8 ? sizeof scale + dims : dims * 4)) return false;
  if (int8) memcpy(&scale, in, sizeof scale);
  add_dims(buf, dims);
  for (size_t from = 0; from < dims; from += SOME) {
    unsigned char out[SOME * 4];
    size_t n = AII_MIN(dims - from, (size_t)SOME);
    for (size_t i = 0; i < n; i++) {
      uint32_t bits = int8 ? bits_of((float)(int8_t)in[sizeof scale + from + i] * scale) : load32(in + (from + i) * 4);
      if (!is_finite(bits)) return false;
      put32(out + i * 4, bits);
    }
    aii_buf_add(buf, out, n * 4);
  }
  return true;
}

static bool add_halves(const aii_truth_vector *as, aii_buf *buf)
{
  const unsigned char *in = as->stored;
  size_t dims = (size_t)as->dims;
  if (dims > MAX_DIMS || as->n != dims * 2) return false;
  add_dims(buf, dims);
  for (size_t from = 0; from < dims; from += SOME) {
    unsigned char out[SOME * 2];
    size_t n = AII_MIN(dims - from, (size_t)SOME);
    for (size_t i = 0; i < n; i++) {
      unsigned half = in[(from + i) * 2] | (unsigned)in[(from + i) * 2 + 1] << 8;
      if ((half & 0x7C00) == 0x7C00) return false;
      put16(out + i * 2, half);
    }
    aii_buf_add(buf, out, n * 2);
  }
  return true;
}

/* Bits of a byte begin at its lowest in a row, at its highest in the server. */
static bool add_bits(const aii_truth_vector *as, aii_buf *buf)
{
  const unsigned char *in = as->stored;
  if (as->dims > MAX_BITS || as->n != ((size_t)as->dims + 7) / 8) return false;
  add32(buf, (uint32_t)as->dims);
  for (size_t i = 0; i < as->n; i++) {
    unsigned char byte = 0;
    for (int bit = 0; bit < 8; bit++) byte = (unsigned char)(byte << 1 | (in[i] >> bit & 1));
    aii_buf_char(buf, (char)byte);
  }
  return true;
}

static bool add_sparse(const aii_truth_vector *as, aii_buf *buf)
{
  const unsigned char *in = as->stored;
  size_t n = as->n / 8, kept = 0;
  if (as->n % 8 != 0) return false;
  for (size_t i = 0; i < n; i++) {
    uint32_t bits = load32(in + (n + i) * 4);
    if (load32(in + i * 4) > MAX_INDEX || !is_finite(bits)) return false;
    kept += (bits & 0x7FFFFFFF) != 0;
  }
  if (kept > MAX_VALUES) return false;
  add32(buf, MAX_INDEX + 1);
  add32(buf, (uint32_t)kept);
  add32(buf, 0);
  for (int part = 0; part < 2; part++) { /* the indices, then the values */
    for (size_t i = 0; i < n; i++) {
      if ((load32(in + (n + i) * 4) & 0x7FFFFFFF) != 0) add32(buf, load32(in + ((size_t)part * n + i) * 4));
    }
  }
  return true;
}

unsigned aii_pg_value(const aii_truth_vector *as, aii_buf *buf)
{
  if (as->kind == SPARSE) return add_sparse(as, buf) ? AII_PG_TYPE_SPARSEVEC : 0;
  if (as->kind != ONE || as->dims < 1) return 0;
  if (as->element == AIINFRA_ELEMENT_F16) return add_halves(as, buf) ? AII_PG_TYPE_HALFVEC : 0;
  if (as->element == AIINFRA_ELEMENT_BINARY) return add_bits(as, buf) ? AII_PG_TYPE_BIT : 0;
  return add_floats(as, buf) ? AII_PG_TYPE_VECTOR : 0;
}
