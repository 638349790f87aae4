/* kernels/x86/ops_codes.h - products of one query with codes of 8 bits that lie anywhere: the step of a walk over a
 * graph. Four rows at a time, while the four behind them are fetched; the last ones with rows twice. */
#ifndef AII_OPS_CODES_H
#define AII_OPS_CODES_H

AII_INLINE void codes_four(const uint8_t *const *row, const uint8_t *const *next, const uint8_t *query, uint32_t dim,
                           int32_t start, int32_t out[4])
{
  b64 sum[4] = {fours_zero(), fours_zero(), fours_zero(), fours_zero()};
  for (uint32_t i = 0; i < dim; i += AII_CODE_BLOCK) {
    b64 q = codes_signed(query + i);
    for (int r = 0; r < 4; r++) {
      _mm_prefetch((const char *)next[r] + i, _MM_HINT_T0);
      sum[r] = codes_add(sum[r], b64_load(row[r] + i), q);
    }
  }
  __m256i ab = _mm256_hadd_epi32(codes_fold(sum[0]), codes_fold(sum[1]));
  __m256i cd = _mm256_hadd_epi32(codes_fold(sum[2]), codes_fold(sum[3]));
  __m256i all = _mm256_hadd_epi32(ab, cd);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storeu_si128((void *)out, _mm_add_epi32(four, _mm_set1_epi32(start)));
}

static void vec_codes(const uint8_t *const *rows, uint32_t n_rows, const uint8_t *query, uint32_t dim, int32_t start,
                      int32_t *out)
{
  const uint8_t *now[4], *next[4];
  int32_t four[4];
  for (uint32_t r = 0; r < 4 && n_rows > 0; r++) next[r] = rows[r < n_rows ? r : n_rows - 1];
  for (uint32_t r = 0; r < n_rows; r += 4) {
    uint32_t n = n_rows - r < 4 ? n_rows - r : 4;
    memcpy(now, next, sizeof now);
    for (uint32_t i = 0; i < 4; i++) next[i] = rows[r + 4 + i < n_rows ? r + 4 + i : n_rows - 1];
    codes_four(now, next, query, dim, start, four);
    memcpy(out + r, four, n * sizeof *out);
  }
}

#endif
