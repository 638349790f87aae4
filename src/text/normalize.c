/* normalize.c - text through the normalisers of a vocabulary, step by step, between two buffers.
 *
 * Steps see valid UTF-8 (the tokenizer replaces what is not before). Each costs O(n), a regular expression within its
 * budget. ENOMEM; ELIMIT when text grows beyond what can be tokenized or a regular expression takes too long.
 */
#include <utf8proc.h>

#include "src/text/pipe_impl.h"

typedef struct point {
  uint32_t cp;
  size_t n; /* bytes */
} point;

static point next_point(aii_str in, size_t i)
{
  point p = {(uint8_t)in.p[i], 1};
  if (p.cp < 128) return p;
  int len = aii_utf8_decode(in.p + i, in.n - i, &p.cp);
  return len > 0 ? (point){p.cp, (size_t)len} : (point){0xFFFD, 1};
}

static void add_point(aii_buf *out, uint32_t cp)
{
  char bytes[4];
  aii_buf_add(out, bytes, aii_utf8_encode(cp, bytes));
}

static bool in_category(uint32_t cp, utf8proc_category_t first, utf8proc_category_t last)
{
  utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)cp);
  return category >= first && category <= last;
}

static bool is_other(uint32_t cp)
{
  if (cp == '\t' || cp == '\n' || cp == '\r') return false;
  if (cp < 128) return cp < 32 || cp == 127;
  return in_category(cp, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO);
}

static bool is_cjk(uint32_t cp)
{
  return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) || (cp >= 0x20000 && cp <= 0x2A6DF) ||
         (cp >= 0x2A700 && cp <= 0x2B73F) || (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
         (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

static bool nmt_drops(uint32_t cp)
{
  return (cp >= 1 && cp <= 8) || cp == 0x0B || (cp >= 0x0E && cp <= 0x1F) || cp == 0x7F || cp == 0x8F || cp == 0x9F;
}

static bool nmt_space(uint32_t cp)
{
  return cp == 9 || cp == 10 || cp == 12 || cp == 13 || cp == 0x1680 || (cp >= 0x200B && cp <= 0x200F) ||
         cp == 0x2028 || cp == 0x2029 || cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
}

/* A stretch of printable ASCII, which these steps leave as it is or only make small. Its bytes. */
static size_t ascii_stretch(aii_norm_kind kind, aii_str in, size_t from, aii_buf *out)
{
  char small[64];
  size_t i = from, n = 0;
  if (kind == AII_NORM_BYTE_LEVEL) return 0;
  while (i < in.n && in.p[i] >= ' ' && in.p[i] < 127) i++;
  if (kind != AII_NORM_LOWER) aii_buf_add(out, in.p + from, i - from);
  for (size_t k = from; kind == AII_NORM_LOWER && k < i; k++) {
    small[n++] = in.p[k] >= 'A' && in.p[k] <= 'Z' ? (char)(in.p[k] + 32) : in.p[k];
    if (n == sizeof small || k + 1 == i) aii_buf_add(out, small, n), n = 0;
  }
  return i - from;
}

/* Steps that look at one character at a time. */
static void map_points(aii_norm_kind kind, aii_str in, aii_buf *out)
{
  char mapped[4];
  for (size_t i = 0; i < in.n;) {
    i += ascii_stretch(kind, in, i, out);
    if (i == in.n) return;
    point p = next_point(in, i);
    const char *same = in.p + i;
    i += p.n;
    bool keep = true;
    switch (kind) {
      case AII_NORM_LOWER: /* the one letter whose small form is two characters */
        if (p.cp == 0x130) aii_buf_str(out, "i\xCC\x87");
        if (p.cp != 0x130) add_point(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)p.cp));
        continue;
      case AII_NORM_STRIP_ACCENTS:
        keep = p.cp < 128 || !in_category(p.cp, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME);
        break;
      case AII_NORM_STRIP_MN:
        keep = p.cp < 128 || !in_category(p.cp, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_MN);
        break;
      case AII_NORM_NMT:
        keep = !nmt_drops(p.cp);
        if (nmt_space(p.cp)) same = " ", p.n = 1;
        break;
      case AII_NORM_CLEAN:
        keep = p.cp != 0 && p.cp != 0xFFFD && !is_other(p.cp);
        if (keep && aii_char_is_space(p.cp)) same = " ", p.n = 1;
        break;
      case AII_NORM_CJK:
        if (!is_cjk(p.cp)) break;
        aii_buf_char(out, ' ');
        add_point(out, p.cp);
        aii_buf_char(out, ' ');
        continue;
      default: /* AII_NORM_BYTE_LEVEL */
        for (size_t b = 0; b < p.n; b++) aii_buf_add(out, mapped, aii_byte_to_char((uint8_t)same[b], mapped));
        continue;
    }
    if (keep) aii_buf_add(out, same, p.n);
  }
}

static aii_str strip(uint32_t flags, aii_str in)
{
  size_t from = 0, to = in.n;
  while ((flags & AII_NORM_LEFT) != 0 && from < in.n) {
    point p = next_point(in, from);
    if (!aii_char_is_space(p.cp)) break;
    from += p.n;
  }
  while ((flags & AII_NORM_RIGHT) != 0 && to > from) {
    size_t at = to - 1;
    while (at > from && ((uint8_t)in.p[at] & 0xC0) == 0x80) at--;
    if (!aii_char_is_space(next_point(in, at).cp)) break;
    to = at;
  }
  return (aii_str){in.p + from, to - from};
}

static aiinfra_status replace(const aii_norm_step *step, aii_str in, aii_buf *out, aiinfra_error *err)
{
  uint64_t budget = aii_regex_budget(in.n);
  size_t from = 0, look = 0;
  while (look <= in.n && !out->failed) {
    size_t at = 0, end = 0;
    if (step->regex != NULL) {
      aiinfra_status rc = aii_regex_next(step->regex, in.p, look, in.n, &budget, &at, &end, err);
      if (rc == AIINFRA_ENOENT) break;
      if (rc != AIINFRA_OK) return rc;
    } else {
      const char *found = memmem(in.p + look, in.n - look, step->from.p, step->from.n);
      if (found == NULL) break;
      at = (size_t)(found - in.p);
      end = at + step->from.n;
    }
    aii_buf_add(out, in.p + from, at - from);
    aii_buf_add(out, step->to.p, step->to.n);
    from = end;
    look = end > at ? end : end + 1;
  }
  aii_buf_add(out, in.p + from, in.n - from);
  return AIINFRA_OK;
}

/* n steps that each replace another byte, in one pass. */
static void replace_bytes(const aii_norm_step *steps, size_t n, aii_str in, aii_buf *out)
{
  uint8_t which[256] = {0};
  size_t from = 0;
  for (size_t i = 0; i < n; i++) which[(uint8_t)steps[i].from.p[0]] = (uint8_t)(i + 1);
  for (size_t i = 0; i < in.n; i++) {
    size_t k = which[(uint8_t)in.p[i]];
    if (k == 0) continue;
    aii_buf_add(out, in.p + from, i - from);
    aii_buf_add(out, steps[k - 1].to.p, steps[k - 1].to.n);
    from = i + 1;
  }
  aii_buf_add(out, in.p + from, in.n - from);
}

/* \s+ or " {n,}" becomes `to`. */
static void replace_runs(const aii_norm_step *step, aii_str in, aii_buf *out)
{
  size_t done = 0, least = step->flags == 0 ? 1 : step->flags;
  for (size_t i = 0; i < in.n;) {
    size_t from = i, count = 0;
    for (; i < in.n; count++) {
      point p = next_point(in, i);
      if (step->flags != 0 ? p.cp != ' ' : !aii_char_is_space(p.cp)) break;
      i += p.n;
    }
    if (count >= least) {
      aii_buf_add(out, in.p + done, from - done);
      aii_buf_add(out, step->to.p, step->to.n);
      done = i;
    }
    if (i < in.n) i += next_point(in, i).n;
  }
  aii_buf_add(out, in.p + done, in.n - done);
}

/* SentencePiece's own: what the table says, then spaces: extra ones away, one in front, all as U+2581. */
static void pieces(const aii_norm_step *step, aii_str in, bool prefix, aii_buf *out)
{
  static const char meta[] = "\xE2\x96\x81";
  bool merge = (step->flags & AII_NORM_EXTRA_SPACES) != 0, in_word = !merge, any = false;
  if (prefix && (step->flags & AII_NORM_PREFIX) != 0) {
    if (!merge) aii_buf_str(out, meta);
    any = merge; /* with merged spaces each word brings its own */
  }
  if (!merge && step->from.n == 0) {
    size_t from = 0;
    for (const char *at; (at = memchr(in.p + from, ' ', in.n - from)) != NULL; from = (size_t)(at - in.p) + 1) {
      aii_buf_add(out, in.p + from, (size_t)(at - in.p) - from);
      aii_buf_str(out, meta);
    }
    aii_buf_add(out, in.p + from, in.n - from);
    return;
  }
  for (size_t i = 0; i < in.n;) {
    aii_str to;
    i += aii_charsmap_prefix(step->from, in.p + i, in.n - i, &to);
    for (size_t k = 0; k < to.n; k++) {
      if (to.p[k] == ' ') {
        if (!merge) aii_buf_str(out, meta);
        in_word = !merge;
        continue;
      }
      if (!in_word && any) aii_buf_str(out, meta);
      in_word = any = true;
      aii_buf_char(out, to.p[k]);
    }
  }
}

static aiinfra_status run_step(const aii_norm_step *step, aii_str in, bool prefix, aii_buf *out, aiinfra_error *err)
{
  aii_str part;
  switch (step->kind) {
    case AII_NORM_NFC:
    case AII_NORM_NFD:
    case AII_NORM_NFKC:
    case AII_NORM_NFKD: (void)aii_norm_unicode(step->kind, in, out); break;
    case AII_NORM_STRIP:
      part = strip(step->flags, in);
      aii_buf_add(out, part.p, part.n);
      break;
    case AII_NORM_PREPEND:
      if (in.n > 0) aii_buf_add(out, step->to.p, step->to.n);
      aii_buf_add(out, in.p, in.n);
      break;
    case AII_NORM_RUNS: replace_runs(step, in, out); break;
    case AII_NORM_REPLACE: return replace(step, in, out, err);
    case AII_NORM_CHARSMAP: aii_norm_charsmap_hf(step->from, in, out); break;
    case AII_NORM_PIECES: pieces(step, in, prefix, out); break;
    default: map_points(step->kind, in, out); break;
  }
  return AIINFRA_OK;
}

aiinfra_status aii_normalize(const aii_pipeline *pipe, aii_str text, bool prefix, aii_buf buffers[2], aii_str *out,
                             aiinfra_error *err)
{
  *out = text;
  size_t passes = 0;
  buffers[0].max = buffers[1].max = aii_pipe_most(text.n);
  for (size_t i = 0, n; i < pipe->n_norm; i += n) {
    const aii_norm_step *step = &pipe->norm[i];
    aii_buf *to = &buffers[passes++ % 2];
    aiinfra_status rc = AIINFRA_OK;
    aii_buf_clear(to);
    n = 1;
    while (step->kind == AII_NORM_REPLACE && i + n < pipe->n_norm && step[n].kind == AII_NORM_REPLACE &&
           step[n].flags == n) {
      n++;
    }
    if (n > 1) replace_bytes(step, n, *out, to);
    else rc = run_step(step, *out, prefix, to, err);
    if (rc != AIINFRA_OK) return rc;
    if (to->over) {
      return aii_fail(err, AIINFRA_ELIMIT, "the tokenizer's normalizers make more than %zu bytes of a text of %zu",
                      to->max, text.n);
    }
    if (to->failed) return aii_fail(err, AIINFRA_ENOMEM, "normalising %zu bytes", text.n);
    *out = (aii_str){aii_buf_cstr(to), to->len};
  }
  return AIINFRA_OK;
}
