/* kernels/kernels.h - pure arithmetic, by operation and instruction set.
 *
 * A table of functions that know no threads, no allocation and no models. kernels/ref is the definition of right:
 * plain C, one operation a file. kernels/x86 has the same table for AVX2, AVX-512 and AMX.
 *
 * Exactness: every variant gives the same bits as the reference on finite input, so a model answers the same on every
 * CPU. That is possible because sums have a stated order, the sixteen-lane sum:
 *
 *   lane[i % 16] = fma(a[i], b[i], lane[i % 16])  for i = 0, 1, 2, ...    starting from zero
 *   for w = 8, 4, 2, 1:  lane[i] += lane[i + w]   for i < w;              the sum is lane[0]
 *
 * Sixteen lanes are one AVX-512 register or two of AVX2. The only freedom is the sign of a zero, and what NaN becomes.
 * Nothing here may be compiled with contraction or fast-math, and the rounding mode is to nearest.
 *
 * Memory: pointers need no alignment beyond that of their type; block formats and halves need none. Nothing is read
 * or written outside the stated shapes. Strides of weights and activations are in bytes, of float results in floats.
 */
#ifndef AII_KERNELS_H
#define AII_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aiinfra/runtime.h"

/* Formats of weights: NAME, name, GGUF id, elements of a block, its bytes, encoder (NULL: only read). A new format is a
 * row here and a decoder name_block() in kernels/ref/decode.h. Those before AII_FMT_PACKED are multiplied in panels, the
 * others are decoded to floats first. */
#define AII_FORMATS(X)  \
  AII_PACKED_FORMATS(X) \
  AII_UNPACKED_FORMATS(X)
#define AII_PACKED_FORMATS(X)               \
  X(F32, f32, 0, 1, 4, aii_encode_f32)      \
  X(F16, f16, 1, 1, 2, aii_encode_f16)      \
  X(BF16, bf16, 30, 1, 2, aii_encode_bf16)  \
  X(Q8_0, q8_0, 8, 32, 34, aii_encode_q8_0) \
  X(Q4_0, q4_0, 2, 32, 18, aii_encode_q4_0) \
  AII_PANEL_FORMATS(X)
#define AII_PANEL_FORMATS(X)                       \
  X(Q4_1, q4_1, 3, 32, 20, aii_encode_q4_1)        \
  X(Q5_0, q5_0, 6, 32, 22, aii_encode_q5_0)        \
  X(Q5_1, q5_1, 7, 32, 24, aii_encode_q5_1)        \
  X(Q4_K, q4_k, 12, 256, 144, aii_encode_q4_k)     \
  X(Q5_K, q5_k, 13, 256, 176, aii_encode_q5_k)     \
  X(Q6_K, q6_k, 14, 256, 210, aii_encode_q6_k)     \
  X(IQ4_NL, iq4_nl, 20, 32, 18, aii_encode_iq4_nl) \
  X(MXFP4, mxfp4, 39, 32, 17, aii_encode_mxfp4)
#define AII_UNPACKED_FORMATS(X)                      \
  X(Q2_K, q2_k, 10, 256, 84, aii_encode_q2_k)        \
  X(Q3_K, q3_k, 11, 256, 110, aii_encode_q3_k)       \
  X(IQ4_XS, iq4_xs, 23, 256, 136, aii_encode_iq4_xs) \
  X(TQ1_0, tq1_0, 34, 256, 54, aii_encode_tq1_0)     \
  X(TQ2_0, tq2_0, 35, 256, 66, aii_encode_tq2_0)     \
  X(NVFP4, nvfp4, 40, 64, 36, NULL)                  \
  X(Q1_0, q1_0, 41, 128, 18, NULL)                   \
  X(Q2_0, q2_0, 42, 64, 18, NULL)                    \
  X(I8, i8, 24, 1, 1, NULL)                          \
  X(I16, i16, 25, 1, 2, NULL)                        \
  X(I32, i32, 26, 1, 4, NULL)                        \
  X(I64, i64, 27, 1, 8, NULL)                        \
  X(F64, f64, 28, 1, 8, NULL)

/* A format, and its index in the tables below. BF16_PAIRS is no format of files: rows of BF16 become its panels where
 * activations are rounded to BF16, too. */
#define AII_FMT_ID(NAME, ...) AII_FMT_##NAME,
typedef enum aii_fmt {
  AII_FORMATS(AII_FMT_ID) AII_FMT_COUNT,
  AII_FMT_QUANT = AII_FMT_Q4_0 + 1,   /* those before have a fast `quant` */
  AII_FMT_PACKED = AII_FMT_MXFP4 + 1, /* those before, and BF16_PAIRS, are multiplied in panels */
  AII_FMT_BF16_PAIRS = AII_FMT_COUNT,
  AII_FMT_PRODUCTS /* all that are multiplied */
} aii_fmt;
#undef AII_FMT_ID

/* n finite floats to a row, n a multiple of the block. importance (may be NULL: all equal) weighs the squared error of
 * each of the n elements; formats without a search ignore it. */
typedef void (*aii_encode_fn)(const float *x, const float *importance, size_t n, void *row);

typedef struct aii_fmt_traits {
  const char *name; /* "Q4_K" */
  uint32_t gguf_type;
  uint32_t block, block_bytes; /* elements, bytes */
  aii_encode_fn encode;        /* NULL: this format can only be read */
} aii_fmt_traits;
const aii_fmt_traits *aii_fmt_info(aii_fmt fmt);

#define AII_QBLOCK 32     /* elements in a block of Q8_0 and Q4_0 */
#define AII_QK 256        /* elements in a block of the K formats; every format's block divides it */
#define AII_Q8_0_BYTES 34 /* F16 scale, 32 int8 */
#define AII_Q4_0_BYTES 18 /* F16 scale, 16 bytes: low nibbles are elements 0..15, high nibbles 16..31; minus 8 */
#define AII_CODE_BLOCK 64 /* codes of vectors are filled up to a multiple of it */
#define AII_ATTN_TILE 64  /* key positions handled at a time; tiles begin at multiples of it */
#define AII_ATTN_GROUP 16 /* key positions that lie together in the cache: one in each lane of a register */

/* Bytes of a row of n elements; n is a multiple of the format's block. */
size_t aii_fmt_row_bytes(aii_fmt fmt, size_t n);
bool aii_fmt_in_panels(aii_fmt fmt);
/* Products with this format take q8 rows, not float rows. */
bool aii_fmt_takes_q8(aii_fmt fmt);

/* Activations for quantised weights ("q8 row"): per 32 elements x ~ d * q with q in [-127, 127].
 * Layout: int8 q[n64], float d[n64 / 32], float s[n64 / 32], int32 z[n64 / 32], int32 z2[n64 / 16], where n64 is n
 * rounded up to 64; s = d * (float)(sum of the 32 q), z and z2 are -128 times the sums of 32 and of 16 q, with which
 * products take zero points off. What lies beyond n is zero. Rows must be aligned to 4 bytes; aii_q8_row_bytes() is a
 * multiple of 64. */
size_t aii_q8_row_bytes(size_t n);

/* Activations for BF16_PAIRS ("BF16 row"): as quant[AII_FMT_BF16] makes them; what lies beyond n, as far as another
 * element, is zero. Rows are aligned to 4 bytes; aii_bf16_row_bytes() is an odd multiple of 64, so that columns do not
 * meet in the same few lines of a cache. */
size_t aii_bf16_row_bytes(size_t n);

/* Weights are multiplied in panels: 16 rows, repacked so that a vector register holds one element, or four, of each
 * row. kernels/panel.h has the layout. The last panel of a matrix is filled up with rows of zeros. */
#define AII_PANEL 16
#define AII_PANEL_LAYOUT 2                     /* of files that hold panels: another number when any byte moves */
size_t aii_panel_bytes(aii_fmt fmt, size_t n); /* of rows of n elements; 0: a format that is not packed */
/* n_rows <= 16 rows of n elements, `stride` bytes apart, to one panel. */
void aii_panel_pack(aii_fmt fmt, const void *rows, size_t stride, uint32_t n_rows, size_t n, void *panel);

/* y[c][r] = w[r] . x[c], then + bias[r], then added to the old y[c][r] when accumulate.
 * x rows are q8 rows for the formats that take them, else floats. Each y depends on its row and column alone: any split
 * of rows or columns into calls gives the same bits. The sum of floats goes over runs of 64 elements:
 *   run = fma(w[i], x[i], run) for the i of a run, from zero;   sum = sum + run
 * and that of quantised weights over blocks of 32, with integer sums that are exact (dx, s: of the q8 row's block):
 *   Q8_0 Q4_0 Q5_0 IQ4_NL MXFP4:  sum = fma((float)(sum of q * xq), d * dx, sum)        q with its zero point taken off
 *   Q4_1 Q5_1:                    sum = fma((float)(sum of q * xq), d * dx, sum), sum = fma(m, s, sum)
 *   Q4_K Q5_K:                    the same with d * scale for d and -(dmin * min) for m
 *   Q6_K:                         t = (float)(sum of q * xq) * (d * scale) of the first 16 of them, t = fma(the same of the
 *                                 last 16, t), sum = fma(t, dx, sum)
 * BF16_PAIRS takes BF16 rows. Its sum has no runs, and goes over pairs of elements, the second one first:
 *   sum = fma(w[k + 1], x[k + 1], sum), sum = fma(w[k], x[k], sum)    for k = 0, 2, 4, ...
 * where all that is subnormal counts as zero of its sign: w, x, sum, and what fma gives. So vdpbf16ps works by Intel's
 * manual, and so it does on AMD's Zen 4, where it was compared; on a CPU that rounds otherwise, bits would be its own. */
typedef struct aii_product {
  const void *w;   /* panels, one behind the other; rows, of a format that is not packed */
  size_t w_stride; /* bytes of a panel, or from row to row */
  uint32_t n_in;   /* a multiple of the format's block */
  uint32_t n_rows; /* of w */
  const void *x;
  size_t x_stride;         /* bytes */
  const uint32_t *x_index; /* column c is row x_index[c] of x; NULL: row c */
  uint32_t n_cols;
  bool accumulate;
  const float *bias; /* [n_rows] or NULL */
  float *y;
  size_t y_stride;         /* floats */
  const uint32_t *y_index; /* the same for y */
  void *work;              /* AII_PRODUCT_WORK bytes, aligned to 64: destroyed */
} aii_product;
#define AII_PRODUCT_WORK ((size_t)72 << 10)

/* Keys and values of adjacent positions lie in groups (F32, F16, or Q8_0 with dim a multiple of 32), of AII_ATTN_GROUP
 * positions for kernels. A group of keys has the positions side by side:
 *   F32, F16:  elements [dim][position]             Q8_0:  F16 scales [dim / 32][position], int8 [dim / 4][position][4]
 * and one of values
 *   F32, F16:  elements [position][dim]             Q8_0:  F16 scales [dim / 32][position], int8 [position / 2][dim][2]
 * It has as many bytes as its rows. group.c: */
typedef enum aii_attn_part { AII_ATTN_KEYS, AII_ATTN_VALUES } aii_attn_part;
/* A row as `quant` writes it to position `at` of a group of n positions; and back. */
void aii_attn_put(aii_attn_part part, aii_fmt fmt, uint32_t dim, const void *row, void *group, uint32_t n, uint32_t at);
void aii_attn_get(aii_attn_part part, aii_fmt fmt, uint32_t dim, const void *group, uint32_t n, uint32_t at, void *row);

/* Some adjacent groups of one tile. */
typedef struct aii_attn_tile {
  aii_fmt fmt;
  uint32_t dim, n_groups;    /* n_groups: at most AII_ATTN_TILE / AII_ATTN_GROUP */
  const void *const *groups; /* [n_groups] */
  const void *const *next;   /* NULL, or [n_groups] groups that will be read next: worth a prefetch */
} aii_attn_tile;

/* Some queries that see the same positions of a tile, and how far their softmax has come. */
typedef struct aii_attn_state {
  uint32_t n_q, dim;   /* dim: of values */
  uint32_t first, end; /* what they see, as positions within the tile's groups: first < end */
  float *scores;       /* [n_q][stride], then weights */
  size_t stride;
  float *m, *l, *acc; /* [n_q], [n_q][16], [n_q][dim] */
  const void *next;   /* NULL, or next_bytes that will be read soon: worth a prefetch while nothing else is read */
  size_t next_bytes;
} aii_attn_state;

typedef struct aii_kernels {
  const char *name; /* "ref", "avx2", "avx512", "amx", ... */
  int32_t isa;      /* aiinfra_isa */

  /* ---- rows ---- */
  /* Exact by GGUF's definitions: Q8_0 d * q, Q4_0 d * (q - 8), ... F32 copies. */
  void (*dequant[AII_FMT_COUNT])(const void *row, size_t n, float *out);
  /* F16, BF16: to nearest, ties to even. Q8_0: d = amax / 127, q = round half away from zero (x / d).
   * Q4_0: d = v / -8 with v the (first) element of largest magnitude, q = min(15, floor(x / d + 8.5)). */
  void (*quant[AII_FMT_QUANT])(const float *x, size_t n, void *row);
  /* x -> q8 row: d = amax / 127, q = round half to even (x * (127 / amax)). Any n. */
  void (*quant_q8)(const float *x, size_t n, void *q8_row);

  /* ---- products ---- */
  void (*product[AII_FMT_PRODUCTS])(const aii_product *p); /* BF16_PAIRS: see aii_kernels_pair_bf16() */

  /* ---- norms and elements; out may be an input ---- */
  /* out = (x * (1 / sqrt(sum x^2 / n + eps))) * w; w NULL: not multiplied */
  void (*rms_norm)(const float *x, const float *w, uint32_t n, float eps, float *out);
  /* d = x - mean, the sum of x by the sixteen-lane sum; out = (d * (1 / sqrt(sum d^2 / n + eps))) * w + b; b NULL: none */
  void (*layer_norm)(const float *x, const float *w, const float *b, uint32_t n, float eps, float *out);
  void (*add)(float *x, const float *y, size_t n);                 /* x += y */
  void (*scale)(float *x, float f, size_t n);                      /* x *= f */
  void (*add_scaled)(float *x, const float *y, float f, size_t n); /* x = fma(f, y, x) */
  /* out = (gate / (1 + exp(-gate))) * up with the exp below */
  void (*silu_mul)(const float *gate, const float *up, size_t n, float *out);
  /* out = gelu(gate) * up; up NULL: not multiplied. gelu by tanh: x / (1 + exp(-2 u)), u = sqrt(2/pi) (x + 0.044715 x^3),
   * computed as x / (1 + exp(x * fma(x * x, -0.0713548162, -1.59576912))) */
  void (*gelu_mul)(const float *gate, const float *up, size_t n, float *out);
  /* out = gelu(gate) * up; up NULL: not multiplied. The exact gelu: x * (0.5 + 0.5 * erf(x * sqrt(1/2))) */
  void (*gelu_erf_mul)(const float *gate, const float *up, size_t n, float *out);
  /* gpt-oss: g = min(gate, 7), u = clamp(up, -7, 7); out = (g / (1 + exp(-1.702 g))) * (u + 1) */
  void (*swiglu_oai)(const float *gate, const float *up, size_t n, float *out);
  void (*softcap)(float *x, float cap, size_t n); /* x = cap * tanh(x * (1 / cap)) */
  /* out = exp(x), at most 2 ulp off; 0 for x < -86, inf beyond the range of float */
  void (*exp)(const float *x, size_t n, float *out);

  /* ---- rope: rotates the first n_rot of head_dim elements of n_heads adjacent heads by (cos[i], sin[i]) ----
   * (a, b) -> (fma(a, cos, -(b * sin)), fma(a, sin, b * cos)); pairs (2i, 2i+1), or (i, i + n_rot/2) */
  void (*rope_norm)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos, const float *sin);
  void (*rope_neox)(float *x, uint32_t n_heads, uint32_t head_dim, uint32_t n_rot, const float *cos, const float *sin);

  /* ---- attention: the steps of an online softmax over one tile of keys ----
   * x, times scale, as a query for keys of this format; out has room for dim floats. F32, F16: floats. Q8_0: int8 [n64] and
   * float d[n64 / 32] like a q8 row's, then int32 [n64 / 32], each the sum of 32 of the int8 times -128. */
  void (*attn_query)(aii_fmt fmt, const float *x, uint32_t dim, float scale, void *out);
  /* out[i * out_stride + j] = q[i] . key j; q [n_q][dim] made by attn_query. From zero, in order,
   *   F32, F16:  sum = fma(q[d], k[d], sum)     Q8_0:  sum = fma((float)(sum of 32 q * k, exact), dk * dq, sum)
   * for the scales dk and dq of key and query. Keys that nobody sees have scores, too: they may be anything. */
  void (*attn_scores)(const aii_attn_tile *keys, const void *q, uint32_t n_q, float *out, size_t out_stride);
  /* Takes the scores from first to end, binary logarithms, into the softmax. If their maximum is above m + 8, it becomes
   * m', and l and acc are multiplied by 2^(m - m'); else m' = m. They become 2^(score - m'), and l[j % 16] is increased
   * by that of j. Other scores of the same sixteens are zero then. 2^x is 0 for x < -125, else 2^n * p(x - n) for
   * n = rint(x) and the polynomial in ref.h. */
  void (*attn_soften)(const aii_attn_state *s);
  /* F32, F16: acc[d] = fma(weight j, value j [d], acc[d]) for j = first, first + 1, ... of each query. Q8_0: the weights
   * times the scales of a block of dims become integers, 32767 for the largest of them, which a is:
   *   w = rint(weight j * scale j * (32767 / a));   acc[d] = fma((float)(sum of w * value j [d], exact), a / 32767, acc[d])
   * weights are not negative. Scores outside first..end count as zero. */
  void (*attn_values)(const aii_attn_tile *values, const aii_attn_state *s);
  float (*max)(const float *x, size_t n); /* n > 0 */
  /* x = exp(x - m); returns the sum, element i counted in lane i % 16 */
  float (*exp_sum)(float *x, size_t n, float m);

  /* ---- vectors: out[r] for n_rows rows of dim floats, one query; sixteen-lane sums ---- */
  void (*vec_dot)(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim,
                  float *out); /* row_stride in floats */
  void (*vec_l2sq)(const float *rows, size_t row_stride, uint32_t n_rows, const float *query, uint32_t dim, float *out);
  /* Codes of 8 bits, 1 to 255, which mean 128 less: out[r] = start + the sum of rows[r][i] * (query[i] - 128), exact,
   * for dim a multiple of AII_CODE_BLOCK and at most 65536. With start = -128 times the sum of query[i] - 128, that is
   * the product of what both mean: dpbusd wants one side unsigned. Rows are fetched while those before are multiplied. */
  void (*vec_codes)(const uint8_t *const *rows, uint32_t n_rows, const uint8_t *query, uint32_t dim, int32_t start,
                    int32_t *out);
} aii_kernels;

/* The kernels of an aiinfra_isa (0: the best of this CPU). NULL when the CPU, the system or the build lacks it. */
const aii_kernels *aii_kernels_get(int32_t isa);
/* Whether k has products with BF16_PAIRS, and this CPU their instruction (the reference needs none). */
bool aii_kernels_pair_bf16(const aii_kernels *k);

extern const aii_kernels aii_kernels_ref;

#endif
