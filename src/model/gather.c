/* gather.c - reads the elements of any tensor, wherever they come from: as floats, or as its type stores them.
 *
 * A tensor of a GGUF file is read where it lies. A tensor of another format is a list of strided views of numbers:
 * a transposed matrix swaps two strides, rows that were permuted for the rotation of adjacent pairs are a view of three
 * dimensions, stacked experts are one view each. Reading walks the views in their order, run by run; nothing is
 * allocated, so a tensor of any size can be made in pieces. Any thread.
 */
#include "kernels/kernels.h"
#include "src/model/gguf.h"

static uint64_t view_elems(const aii_view *v)
{
  return v->n[0] * v->n[1] * v->n[2] * v->n[3];
}

static size_t elem_bytes(uint32_t type)
{
  return type == AII_F64 ? 8 : type == AII_F32 ? 4 : 2;
}

/* Whether the elements lie one behind the other. */
static bool is_plain(const aii_view *v)
{
  uint64_t dense = 1;
  for (uint32_t d = 0; d < AII_VIEW_DIMS; d++) {
    if (v->n[d] > 1 && v->stride[d] != dense) return false;
    dense *= v->n[d];
  }
  return true;
}

const uint8_t *aii_gather_in_place(const aii_gguf *g, size_t t)
{
  const aii_gather *how = &g->gathers[t];
  const aii_view *v = &g->views[how->first];
  bool same = how->n == 1 && how->add == 0 && !how->mxfp4 && v->type == g->tensors[t].type;
  return same && is_plain(v) ? v->data : NULL;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static aii_fmt fmt_of(uint32_t type)
{
  aii_fmt fmt = AII_FMT_F32;
  while (fmt < AII_FMT_COUNT && aii_fmt_info(fmt)->gguf_type != type) fmt++;
  return fmt;
}

bool aii_gguf_readable(uint32_t type)
{
  return fmt_of(type) != AII_FMT_COUNT;
}

static void to_floats(uint32_t type, const uint8_t *data, uint64_t n, float *out)
{
  aii_kernels_ref.dequant[fmt_of(type)](data, (size_t)n, out);
}

/* ---- views ------------------------------------------------------------------------------------------------------- */

/* Calls for the runs of dimension 0 that elements [first, first + n) of the view lie in. */
typedef void (*run_fn)(const aii_view *v, const uint8_t *at, uint64_t n, void *out);

static void for_runs(const aii_view *v, uint64_t first, uint64_t n, uint8_t *out, size_t out_bytes, run_fn fn)
{
  size_t size = elem_bytes(v->type);
  while (n > 0) {
    uint64_t rest = first, at = 0, i0 = first % v->n[0], run = AII_MIN(n, v->n[0] - i0);
    for (uint32_t d = 0; d < AII_VIEW_DIMS; d++) {
      at += rest % v->n[d] * v->stride[d];
      rest /= v->n[d];
    }
    fn(v, v->data + at * size, run, out);
    out += run * out_bytes;
    first += run;
    n -= run;
  }
}

static void run_floats(const aii_view *v, const uint8_t *at, uint64_t n, void *out)
{
  float *f = out;
  size_t step = elem_bytes(v->type) * v->stride[0];
  if (v->stride[0] == 1) {
    to_floats(v->type, at, n, f);
    return;
  }
  for (uint64_t i = 0; i < n; i++) to_floats(v->type, at + i * step, 1, &f[i]);
}

static void run_raw(const aii_view *v, const uint8_t *at, uint64_t n, void *out)
{
  uint8_t *p = out;
  size_t size = elem_bytes(v->type), step = size * v->stride[0];
  if (v->stride[0] == 1) {
    memcpy(p, at, n * size);
    return;
  }
  for (uint64_t i = 0; i < n; i++) memcpy(p + i * size, at + i * step, size);
}

static void read_views(const aii_gguf *g, const aii_gather *how, uint64_t first, uint64_t n, void *out,
                       size_t out_bytes, run_fn fn)
{
  uint8_t *p = out;
  uint64_t each = view_elems(&g->views[how->first]);
  while (n > 0) {
    uint64_t inside = first % each, some = AII_MIN(n, each - inside);
    for_runs(&g->views[how->first + first / each], inside, some, p, out_bytes, fn);
    p += some * out_bytes;
    first += some;
    n -= some;
  }
}

/* Blocks of 16 bytes, each with element 2i in the low and 2i + 1 in the high nibble of byte i, and a scale a block ->
 * GGUF's blocks: the scale, then element i in the low and i + 16 in the high nibble. The views count in blocks. */
static void read_mxfp4(const aii_gguf *g, const aii_gather *how, uint64_t first, uint64_t n, uint8_t *out)
{
  enum { ELEMS = 32, HALF = 16 };
  const aii_view *nibbles = &g->views[how->first], *scales = nibbles + 1;
  for (uint64_t b = first / ELEMS; b < (first + n) / ELEMS; b++, out += 1 + HALF) {
    uint64_t rest = b, at = 0;
    for (uint32_t d = 0; d < AII_VIEW_DIMS; d++) {
      at += rest % nibbles->n[d] * nibbles->stride[d];
      rest /= nibbles->n[d];
    }
    const uint8_t *from = nibbles->data + at * HALF;
    out[0] = scales->data[at];
    for (uint32_t i = 0; i < HALF; i++) {
      uint8_t lo = from[i / 2] >> (4 * (i % 2)) & 15, hi = from[HALF / 2 + i / 2] >> (4 * (i % 2)) & 15;
      out[1 + i] = (uint8_t)(lo | hi << 4);
    }
  }
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

void aii_gguf_read_f32(const aii_gguf *g, size_t t, uint64_t first, uint64_t n, float *out)
{
  const aii_gguf_tensor *tensor = &g->tensors[t];
  if (tensor->data != NULL) {
    const aii_dtype_traits *traits = aii_gguf_type_info(tensor->type);
    to_floats(tensor->type, tensor->data + first / traits->block * traits->block_bytes, n, out);
    return;
  }
  read_views(g, &g->gathers[t], first, n, out, sizeof *out, run_floats);
  float add = g->gathers[t].add;
  for (uint64_t i = 0; add != 0 && i < n; i++) out[i] += add;
}

/* By way of floats, some at a time. */
static void read_converted(const aii_gguf *g, size_t t, uint64_t first, uint64_t n, uint8_t *out)
{
  enum { SOME = 256 };
  float some[SOME];
  aii_fmt fmt = fmt_of(g->tensors[t].type);
  while (n > 0) {
    uint64_t now = AII_MIN(n, (uint64_t)SOME);
    aii_gguf_read_f32(g, t, first, now, some);
    aii_kernels_ref.quant[fmt](some, (size_t)now, out);
    out += aii_fmt_row_bytes(fmt, (size_t)now);
    first += now;
    n -= now;
  }
}

void aii_gguf_read_raw(const aii_gguf *g, size_t t, uint64_t first, uint64_t n, void *out)
{
  const aii_gguf_tensor *tensor = &g->tensors[t];
  const aii_dtype_traits *traits = aii_gguf_type_info(tensor->type);
  if (tensor->data != NULL) {
    memcpy(out, tensor->data + first / traits->block * traits->block_bytes,
           (size_t)(n / traits->block * traits->block_bytes));
    return;
  }
  const aii_gather *how = &g->gathers[t];
  if (how->mxfp4) read_mxfp4(g, how, first, n, out);
  else if (how->add == 0 && g->views[how->first].type == tensor->type)
    read_views(g, how, first, n, out, traits->block_bytes, run_raw);
  else read_converted(g, t, first, n, out);
}
