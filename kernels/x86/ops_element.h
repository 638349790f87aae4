/* kernels/x86/ops_element.h - norms, rope and element by element operations. */
#ifndef AII_OPS_ELEMENT_H
#define AII_OPS_ELEMENT_H

static void rms_norm(const float *x, const float *w, uint32_t n, float eps, float *out)
{
  uint32_t whole = n / AII_LANES * AII_LANES;
  v16 lanes = v16_zero();
  for (uint32_t i = 0; i < whole; i += AII_LANES) lanes = v16_fma(v16_load(x + i), v16_load(x + i), lanes);
  if (whole < n) {
    v16 t = v16_load_part(x + whole, n - whole, 0);
    lanes = v16_fma(t, t, lanes);
  }
  float f = 1 / sqrtf(v16_sum(lanes) / (float)n + eps);
  v16 fv = v16_set1(f);
  for (uint32_t i = 0; i < whole; i += AII_LANES) {
    v16 v = v16_mul(v16_load(x + i), fv);
    v16_store(out + i, w != NULL ? v16_mul(v, v16_load(w + i)) : v);
  }
  for (uint32_t i = whole; i < n; i++) out[i] = w != NULL ? x[i] * f * w[i] : x[i] * f;
}

static void layer_norm(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out)
{
  uint32_t whole = n / AII_LANES * AII_LANES;
  v16 sum = v16_zero(), square = v16_zero();
  for (uint32_t i = 0; i < whole; i += AII_LANES) sum = v16_add(sum, v16_load(x + i));
  if (whole < n) sum = v16_add(sum, v16_load_part(x + whole, n - whole, 0));
  float mean = v16_sum(sum) / (float)n;
  v16 mv = v16_set1(mean);
  for (uint32_t i = 0; i < whole; i += AII_LANES) {
    v16 d = v16_sub(v16_load(x + i), mv);
    square = v16_fma(d, d, square);
  }
  if (whole < n) {
    v16 d = v16_sub(v16_load_part(x + whole, n - whole, mean), mv);
    square = v16_fma(d, d, square);
  }
  float f = 1 / sqrtf(v16_sum(square) / (float)n + eps);
  v16 fv = v16_set1(f);
  for (uint32_t i = 0; i < whole; i += AII_LANES) {
    v16 y = v16_mul(v16_mul(v16_sub(v16_load(x + i), mv), fv), v16_load(w + i));
    v16_store(out + i, b != NULL ? v16_add(y, v16_load(b + i)) : y);
  }
  for (uint32_t i = whole; i < n; i++) {
    float y = (x[i] - mean) * f * w[i];
    out[i] = b != NULL ? y + b[i] : y;
  }
}

static void add(float *x, const float *y, size_t n)
{
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store(x + i, v16_add(v16_load(x + i), v16_load(y + i)));
  for (; i < n; i++) x[i] += y[i];
}

static void scale(float *x, float f, size_t n)
{
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store(x + i, v16_mul(v16_load(x + i), v16_set1(f)));
  for (; i < n; i++) x[i] *= f;
}

static void add_scaled(float *x, const float *y, float f, size_t n)
{
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store(x + i, v16_fma(v16_set1(f), v16_load(y + i), v16_load(x + i)));
  for (; i < n; i++) x[i] = fmaf(f, y[i], x[i]);
}

AII_INLINE v16 gelu1(v16 x)
{
  v16 u = v16_mul(x, v16_fma(v16_mul(x, x), v16_set1(-0.0713548162f), v16_set1(-1.59576912f)));
  return v16_div(x, v16_add(v16_set1(1), v16_exp(u)));
}

static void gelu_mul(const float *gate, const float *up, size_t n, float *out)
{
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) {
    v16 y = gelu1(v16_load(gate + i));
    v16_store(out + i, up != NULL ? v16_mul(y, v16_load(up + i)) : y);
  }
  if (i < n) aii_ref_gelu_mul(gate + i, up != NULL ? up + i : NULL, n - i, out + i);
}

AII_INLINE v16 silu_mul1(v16 gate, v16 up)
{
  v16 e = v16_exp(v16_mul(gate, v16_set1(-1)));
  return v16_mul(v16_div(gate, v16_add(v16_set1(1), e)), up);
}

static void silu_mul(const float *gate, const float *up, size_t n, float *out)
{
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store(out + i, silu_mul1(v16_load(gate + i), v16_load(up + i)));
  if (i < n)
    v16_store_part(out + i, n - i, silu_mul1(v16_load_part(gate + i, n - i, 0), v16_load_part(up + i, n - i, 0)));
}

static void exp_rows(const float *x, size_t n, float *out)
{
  size_t i = 0;
  for (; i + AII_LANES <= n; i += AII_LANES) v16_store(out + i, v16_exp(v16_load(x + i)));
  if (i < n) v16_store_part(out + i, n - i, v16_exp(v16_load_part(x + i, n - i, 0)));
}

/* (a, b) rotated by (c, s) in place */
AII_INLINE void rotate(v16 *a, v16 *b, v16 c, v16 s)
{
  v16 x = *a, y = *b;
  *a = v16_fmsub(x, c, v16_mul(y, s));
  *b = v16_fma(x, s, v16_mul(y, c));
}

static void rope_norm(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos, const float *sin)
{
  uint32_t n = n_rot / 2, whole = n / AII_LANES * AII_LANES;
  for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
    for (uint32_t i = 0; i < whole; i += AII_LANES) {
      v16 a, b;
      v16_unzip(x + 2 * i, &a, &b);
      rotate(&a, &b, v16_load(cos + i), v16_load(sin + i));
      v16_zip(x + 2 * i, a, b);
    }
    if (whole < n) aii_ref_rope_norm(x + 2 * whole, 1, head_dim, 2 * (n - whole), cos + whole, sin + whole);
  }
}

static void rope_neox(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos, const float *sin)
{
  uint32_t n = n_rot / 2;
  for (uint32_t h = 0; h < n_heads; h++, x += head_dim) {
    for (uint32_t i = 0; i < n; i += AII_LANES) {
      size_t m = n - i < AII_LANES ? n - i : AII_LANES;
      v16 a = m == AII_LANES ? v16_load(x + i) : v16_load_part(x + i, m, 0);
      v16 b = m == AII_LANES ? v16_load(x + n + i) : v16_load_part(x + n + i, m, 0);
      v16 c = m == AII_LANES ? v16_load(cos + i) : v16_load_part(cos + i, m, 0);
      v16 s = m == AII_LANES ? v16_load(sin + i) : v16_load_part(sin + i, m, 0);
      rotate(&a, &b, c, s);
      v16_store_part(x + i, m, a);
      v16_store_part(x + n + i, m, b);
    }
  }
}

#endif
