/* kernels/x86/ops_codes.h - products of one query with codes of 8 bits that lie anywhere: the step of a walk over a
 * graph. Four rows at a time, while others behind them are fetched; the last ones with rows twice. Long rows that lie one
 * behind the other, as a scan has them, are read one after the other where the CPU follows that better. */
#ifndef AII_OPS_CODES_H
#define AII_OPS_CODES_H

enum { LINE_DIM = 256, LINE_AHEAD = 12 }; /* how long; so many rows ahead are fetched */

AII_INLINE void codes_end(const b64 *sum, int32_t start, int32_t out[4])
{
  __m256i ab = _mm256_hadd_epi32(codes_fold(sum[0]), codes_fold(sum[1]));
  __m256i cd = _mm256_hadd_epi32(codes_fold(sum[2]), codes_fold(sum[3]));
  __m256i all = _mm256_hadd_epi32(ab, cd);
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storeu_si128((void *)out, _mm_add_epi32(four, _mm_set1_epi32(start)));
}

AII_INLINE void codes_four(fetch_to to, const uint8_t *const *row, const uint8_t *const *next, const uint8_t *query,
                           uint32_t dim, b64 *sum)
{
  for (int r = 0; r < 4; r++) sum[r] = fours_zero();
  for (uint32_t i = 0; i < dim; i += AII_CODE_BLOCK) {
    b64 q = codes_signed(query + i);
    for (int r = 0; r < 4; r++) {
      fetch(to, next[r] + i);
      sum[r] = codes_add(sum[r], b64_load(row[r] + i), q);
    }
  }
}

AII_INLINE void codes_line(fetch_to to, const uint8_t *row, const uint8_t *query, uint32_t dim, b64 *sum)
{
  for (int r = 0; r < 4; r++, row += dim) {
    sum[r] = fours_zero();
    for (uint32_t i = 0; i < dim; i += AII_CODE_BLOCK) {
      fetch(to, row + (size_t)LINE_AHEAD * dim + i);
      sum[r] = codes_add(sum[r], b64_load(row + i), codes_signed(query + i));
    }
  }
}

static void vec_codes(const uint8_t *const *rows, uint32_t n_rows, const uint8_t *query, uint32_t dim, int32_t start,
                      int32_t *out)
{
  const fetch_to to = where_to_fetch();
  const uint32_t ahead = to == FETCH_FIRST ? 4 : 8;
  for (uint32_t r = 0; r < n_rows; r += 4) {
    const uint8_t *now[4], *next[4];
    b64 sum[4];
    int32_t four[4];
    for (uint32_t i = 0; i < 4; i++) {
      now[i] = rows[r + i < n_rows ? r + i : n_rows - 1];
      next[i] = rows[r + ahead + i < n_rows ? r + ahead + i : n_rows - 1];
    }
    bool line = now[1] == now[0] + dim && now[2] == now[1] + dim && now[3] == now[2] + dim;
    if (line && dim >= LINE_DIM && to == FETCH_SECOND) codes_line(to, now[0], query, dim, sum);
    else codes_four(to, now, next, query, dim, sum);
    codes_end(sum, start, four);
    memcpy(out + r, four, (n_rows - r < 4 ? n_rows - r : 4) * sizeof *out);
  }
}

#endif
