/* kernels/x86/ops_rows.h - rows between formats. Stored Q8_0 and Q4_0 are written by the reference: files are made
 * once, and its rounding is ggml's. */
#ifndef AII_OPS_ROWS_H
#define AII_OPS_ROWS_H

static void dequant_f16(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store(out + i, v16_load_f16(p + 2 * i));
  aii_ref_dequant_f16(p + 2 * i, n - i, out + i);
}

static void dequant_bf16(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store(out + i, v16_load_bf16(p + 2 * i));
  aii_ref_dequant_bf16(p + 2 * i, n - i, out + i);
}

static void dequant_q8_0(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  for (size_t b = 0; b < n / AII_QBLOCK; b++, p += AII_Q8_0_BYTES, out += AII_QBLOCK) {
    v16 d = v16_set1(lanes_half(p));
    v16_store(out, v16_mul(d, v16_from_i8(_mm_loadu_si128((const void *)(p + 2)))));
    v16_store(out + 16, v16_mul(d, v16_from_i8(_mm_loadu_si128((const void *)(p + 18)))));
  }
}

static void dequant_q4_0(const void *row, size_t n, float *out)
{
  const unsigned char *p = row;
  __m128i mask = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
  for (size_t b = 0; b < n / AII_QBLOCK; b++, p += AII_Q4_0_BYTES, out += AII_QBLOCK) {
    v16 d = v16_set1(lanes_half(p));
    __m128i q = _mm_loadu_si128((const void *)(p + 2));
    __m128i lo = _mm_sub_epi8(_mm_and_si128(q, mask), eight);
    __m128i hi = _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(q, 4), mask), eight);
    v16_store(out, v16_mul(d, v16_from_i8(lo)));
    v16_store(out + 16, v16_mul(d, v16_from_i8(hi)));
  }
}

static void quant_f16(const float *x, size_t n, void *row)
{
  unsigned char *p = row;
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store_f16(p + 2 * i, v16_load(x + i));
  aii_ref_quant_f16(x + i, n - i, p + 2 * i);
}

static void quant_bf16(const float *x, size_t n, void *row)
{
  unsigned char *p = row;
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store_bf16(p + 2 * i, v16_load(x + i));
  aii_ref_quant_bf16(x + i, n - i, p + 2 * i);
}

/* The sum of 16 int8. */
AII_INLINE int lanes_sum_i8(const int8_t *q)
{
  __m128i biased = _mm_xor_si128(_mm_loadu_si128((const void *)q), _mm_set1_epi8((char)0x80));
  __m128i halves = _mm_sad_epu8(biased, _mm_setzero_si128());
  return _mm_cvtsi128_si32(halves) + _mm_extract_epi16(halves, 4) - 16 * 128;
}

static void quant_q8(const float *x, size_t n, void *q8_row)
{
  size_t n64 = (n + 63) / 64 * 64;
  int8_t *q = q8_row;
  float *d = (float *)(void *)(q + n64), *s = d + n64 / AII_QBLOCK;
  int32_t *z = (int32_t *)(void *)(s + n64 / AII_QBLOCK), *z2 = z + n64 / AII_QBLOCK;
  for (size_t b = 0; b < n64 / AII_QBLOCK; b++, q += AII_QBLOCK, z2 += 2) {
    float part[AII_QBLOCK] = {0};
    const float *p = x + b * AII_QBLOCK;
    if ((b + 1) * AII_QBLOCK > n) {
      if (b * AII_QBLOCK < n) memcpy(part, p, (n - b * AII_QBLOCK) * sizeof *x);
      p = part;
    }
    v16 v0 = v16_load(p), v1 = v16_load(p + 16);
    float amax = v16_hmax(v16_max(v16_abs(v0), v16_abs(v1)));
    v16 inverse = v16_set1(amax != 0 ? 127 / amax : 0);
    v16_store_i8(q, v16_mul(v0, inverse));
    v16_store_i8(q + 16, v16_mul(v1, inverse));
    int half[2] = {lanes_sum_i8(q), lanes_sum_i8(q + 16)};
    for (int h = 0; h < 2; h++) z2[h] = -128 * half[h];
    z[b] = z2[0] + z2[1];
    d[b] = amax / 127;
    s[b] = d[b] * (float)(half[0] + half[1]);
  }
}

#endif
