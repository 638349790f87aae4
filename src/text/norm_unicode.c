/* norm_unicode.c - Unicode's normalisation forms, in linear time.
 *
 * utf8proc decomposes each character and composes the whole; the canonical order of marks between the two is ours,
 * because utf8proc sorts a run of marks by exchanging neighbours, which a hostile run makes quadratic.
 */
#include <utf8proc.h>

#include "src/text/pipe_impl.h"

enum { MAX_DECOMPOSED = 32, SHORT_RUN = 16 };

typedef struct points {
  aii_mem *mem;
  utf8proc_int32_t *items;
  size_t n, cap;
} points;

static uint8_t class_of(utf8proc_int32_t cp)
{
  return (uint8_t)utf8proc_get_property(cp)->combining_class;
}

static bool decompose(points *p, aii_str in, utf8proc_option_t options)
{
  int boundary = 0;
  for (size_t i = 0; i < in.n;) {
    uint32_t cp = 0xFFFD;
    int len = aii_utf8_decode(in.p + i, in.n - i, &cp);
    i += len > 0 ? (size_t)len : 1;
    if (len <= 0) cp = 0xFFFD;
    if (!aii_grow(p->mem, &p->items, &p->cap, p->n + MAX_DECOMPOSED, sizeof *p->items)) return false;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, p->items + p->n, MAX_DECOMPOSED, options, &boundary);
    if (n <= 0 || n > MAX_DECOMPOSED) {
      p->items[p->n] = (utf8proc_int32_t)cp;
      n = 1;
    }
    p->n += (size_t)n;
  }
  return true;
}

static void sort_short(utf8proc_int32_t *c, size_t n)
{
  for (size_t i = 1; i < n; i++) {
    utf8proc_int32_t held = c[i];
    uint8_t cls = class_of(held);
    size_t at = i;
    for (; at > 0 && class_of(c[at - 1]) > cls; at--) c[at] = c[at - 1];
    c[at] = held;
  }
}

/* Stable, by counting the 256 classes. */
static bool sort_long(aii_mem *mem, utf8proc_int32_t *c, size_t n)
{
  size_t starts[257] = {0};
  utf8proc_int32_t *copy = aii_new_array(mem, n, sizeof *copy);
  if (copy == NULL) return false;
  memcpy(copy, c, n * sizeof *copy);
  for (size_t i = 0; i < n; i++) starts[class_of(c[i]) + 1]++;
  for (size_t k = 1; k < 257; k++) starts[k] += starts[k - 1];
  for (size_t i = 0; i < n; i++) c[starts[class_of(copy[i])]++] = copy[i];
  aii_del(mem, copy, n * sizeof *copy);
  return true;
}

static bool order_marks(points *p)
{
  for (size_t i = 0; i < p->n;) {
    size_t from = i;
    while (i < p->n && class_of(p->items[i]) != 0) i++;
    if (i - from > SHORT_RUN) {
      if (!sort_long(p->mem, p->items + from, i - from)) return false;
    } else {
      sort_short(p->items + from, i - from);
    }
    i += i == from;
  }
  return true;
}

static bool normalize(points *p, aii_norm_kind kind, aii_str in, aii_buf *out)
{
  bool compose = kind == AII_NORM_NFC || kind == AII_NORM_NFKC, compat = kind == AII_NORM_NFKC || kind == AII_NORM_NFKD;
  utf8proc_option_t options = UTF8PROC_DECOMPOSE;
  if (compat) options |= UTF8PROC_COMPAT;
  p->n = 0;
  if (!decompose(p, in, options) || !order_marks(p)) return false;
  if (compose && p->n > 0) {
    utf8proc_ssize_t n = utf8proc_normalize_utf32(p->items, (utf8proc_ssize_t)p->n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (n >= 0) p->n = (size_t)n;
  }
  char bytes[4];
  for (size_t i = 0; i < p->n; i++) aii_buf_add(out, bytes, aii_utf8_encode((uint32_t)p->items[i], bytes));
  return true;
}

/* ASCII is its own normal form; only the last character before something else may have to do with it. */
bool aii_norm_unicode(aii_norm_kind kind, aii_str in, aii_buf *out)
{
  points p = {.mem = out->mem};
  bool ok = true;
  for (size_t i = 0; i < in.n && ok;) {
    size_t from = i;
    while (i < in.n && (uint8_t)in.p[i] < 128) i++;
    if (i < in.n && i > from) i--;
    aii_buf_add(out, in.p + from, i - from);
    if (i == in.n) break;
    from = i++;
    while (i < in.n && (uint8_t)in.p[i] >= 128) i++;
    ok = normalize(&p, kind, (aii_str){in.p + from, i - from}, out);
  }
  if (!ok) out->failed = true;
  aii_del(p.mem, p.items, p.cap * sizeof *p.items);
  return ok;
}
