/* pretok.c - splits text into the pieces that no merge crosses: the steps in order, each over the pieces of the last.
 *
 * A step that splits only moves spans; one that changes text writes it anew to the other buffer. What lies between two
 * matches is a piece of its own, and what becomes of a match is the step's behavior. The pieces of one text are looked
 * at once a step. ENOMEM; ELIMIT when a regular expression uses up its budget.
 */
#include "src/text/pretok_impl.h"

typedef struct splitter {
  aii_mem *mem;
  const aii_split_step *step;
  aii_spans *out;
  aiinfra_error *err;
  aii_pchar *chars;
  size_t cap;
  uint64_t budget;
  size_t first; /* the spans of this piece begin here in out */
  bool last_was_match, failed;
} splitter;

bool aii_spans_add(aii_mem *mem, aii_spans *spans, size_t from, size_t to)
{
  bool room = spans->n < spans->cap;
  if (!room && !aii_grow(mem, &spans->items, &spans->cap, spans->n + 1, sizeof *spans->items)) return false;
  spans->items[spans->n++] = (aii_span){(uint32_t)from, (uint32_t)to};
  return true;
}

/* Hands on one stretch of a piece, a match or what lies between. */
static void stretch(splitter *s, size_t from, size_t to, bool match)
{
  aii_behavior behavior = s->step->behavior;
  if (from == to) return;
  if (s->step->invert) match = !match;
  bool before = s->last_was_match, any = s->out->n > s->first;
  s->last_was_match = match;
  if (match && behavior == AII_REMOVED) return;
  bool join = (behavior == AII_WITH_PREVIOUS && match && !before) || (behavior == AII_CONTIGUOUS && match == before) ||
              (behavior == AII_WITH_NEXT && before && !match);
  if (join && any) {
    s->out->items[s->out->n - 1].to = (uint32_t)to;
  } else if (!aii_spans_add(s->mem, s->out, from, to)) {
    s->failed = true;
  }
}

static size_t classify(const char *text, size_t from, size_t to, aii_pchar *c)
{
  size_t count = 0;
  for (size_t at = from; at < to;) {
    uint32_t cp = (uint8_t)text[at];
    if (cp < 128) {
      c[count++] = (aii_pchar){cp, (uint32_t)at++, aii_ascii_class[cp]};
      continue;
    }
    int len = aii_utf8_decode(text + at, to - at, &cp);
    if (len <= 0) cp = 0xFFFD;
    c[count++] = (aii_pchar){cp, (uint32_t)at, aii_char_class(cp)};
    at += len > 0 ? (size_t)len : 1;
  }
  return count;
}

/* Whether ASCII text surely has no match: the expression is one run of classes, and no character is of them. */
static bool passes_over(const aii_expr *expr, const char *text, size_t from, size_t to)
{
  const aii_alt *a = expr->alts;
  if (a[0].op != AII_ALT_RUN || a[1].op != AII_ALT_END || a[0].negate || a[0].extra != NULL || a[0].set != 0)
    return false;
  while (from < to && (uint8_t)text[from] < 128 && (aii_ascii_class[(uint8_t)text[from]] & a[0].cls) == 0) from++;
  return from == to;
}

static void split_expr(splitter *s, const char *text, size_t from, size_t to)
{
  if (passes_over(s->step->expr, text, from, to)) {
    stretch(s, from, to, false);
    return;
  }
  if (!aii_grow(s->mem, &s->chars, &s->cap, to - from, sizeof *s->chars)) {
    s->failed = true;
    return;
  }
  const aii_pchar *c = s->chars;
  aii_run_memo memo = {0};
  size_t n = classify(text, from, to, s->chars), gap = 0;
  for (size_t i = 0; i < n && !s->failed;) {
    size_t end = aii_expr_match(s->step->expr, &memo, c, i, n);
    if (end == i) {
      i++;
      continue;
    }
    if (i > gap) stretch(s, c[gap].at, c[i].at, false);
    stretch(s, c[i].at, end < n ? c[end].at : to, true);
    gap = i = end;
  }
  if (gap < n) stretch(s, c[gap].at, to, false);
}

static void split_text(splitter *s, const char *text, size_t from, size_t to)
{
  aii_str find = s->step->text;
  size_t gap = from;
  while (gap < to) {
    const char *at = memmem(text + gap, to - gap, find.p, find.n);
    if (at == NULL) break;
    size_t i = (size_t)(at - text);
    if (i > gap) stretch(s, gap, i, false);
    stretch(s, i, i + find.n, true);
    gap = i + find.n;
  }
  if (gap < to) stretch(s, gap, to, false);
}

static void split_words(splitter *s, const char *text, size_t from, size_t to)
{
  aii_str mark = s->step->text;
  size_t begin = from;
  for (size_t i = from; i < to && !s->failed;) {
    const char *at = memmem(text + i, to - i, mark.p, mark.n);
    if (at == NULL) break;
    size_t found = (size_t)(at - text);
    if (found > begin && found != i) { /* at i it follows itself */
      stretch(s, begin, found, true);
      begin = found;
    }
    i = found + mark.n;
  }
  stretch(s, begin, to, true);
}

static aiinfra_status split_regex(splitter *s, const char *text, size_t from, size_t to)
{
  size_t gap = from, look = from, at, end;
  while (look <= to && !s->failed) {
    aiinfra_status rc =
        aii_regex_next(s->step->regex, text + from, look - from, to - from, &s->budget, &at, &end, s->err);
    if (rc == AIINFRA_ENOENT) break;
    if (rc != AIINFRA_OK) return rc;
    at += from;
    end += from;
    if (at > gap) stretch(s, gap, at, false);
    stretch(s, at, end, true);
    gap = end;
    look = end > at ? end : end + 1; /* behind a match of nothing, one byte on; a sequence is never cut: see regex.c */
  }
  if (gap < to) stretch(s, gap, to, false);
  return AIINFRA_OK;
}

static aiinfra_status split_all(aii_mem *mem, const aii_split_step *step, aii_str text, const aii_spans *in,
                                aii_spans *out, aiinfra_error *err)
{
  splitter s = {.mem = mem, .step = step, .out = out, .err = err, .budget = aii_regex_budget(text.n)};
  aiinfra_status rc = AIINFRA_OK;
  out->n = 0;
  for (size_t i = 0; i < in->n && rc == AIINFRA_OK && !s.failed; i++) {
    s.first = out->n;
    s.last_was_match = false;
    size_t from = in->items[i].from, to = in->items[i].to;
    if (step->kind == AII_SPLIT_EXPR) {
      split_expr(&s, text.p, from, to);
    } else if (step->kind == AII_SPLIT_TEXT) {
      split_text(&s, text.p, from, to);
    } else if (step->kind == AII_SPLIT_WORDS) {
      split_words(&s, text.p, from, to);
    } else {
      rc = split_regex(&s, text.p, from, to);
    }
  }
  aii_del(mem, s.chars, s.cap * sizeof *s.chars);
  if (rc != AIINFRA_OK) return rc;
  return s.failed ? aii_fail(err, AIINFRA_ENOMEM, "splitting %zu bytes", text.n) : AIINFRA_OK;
}

static void add_replaced(aii_buf *out, const char *s, size_t n, aii_str to)
{
  size_t from = 0;
  for (size_t i = 0; i < n; i++) {
    if (s[i] != ' ') continue;
    aii_buf_add(out, s + from, i - from);
    aii_buf_add(out, to.p, to.n);
    from = i + 1;
  }
  aii_buf_add(out, s + from, n - from);
}

/* Printable ASCII stands for itself. */
static void add_mapped(aii_buf *out, const char *s, size_t n)
{
  char mapped[4];
  for (size_t i = 0, from; i < n;) {
    for (from = i; i < n && s[i] > ' ' && s[i] < 127;) i++;
    if (i > from) aii_buf_add(out, s + from, i - from);
    if (i < n) aii_buf_add(out, mapped, aii_byte_to_char((uint8_t)s[i], mapped));
    i++;
  }
}

static void rewrite_piece(const aii_split_step *step, const char *s, size_t n, bool first, aii_buf *out)
{
  aii_str meta = step->text;
  bool starts;
  switch (step->kind) {
    case AII_SPLIT_BYTE_MAP: add_mapped(out, s, n); break;
    case AII_SPLIT_SPACE:
      if (n > 0 && s[0] != ' ') aii_buf_char(out, ' ');
      aii_buf_add(out, s, n);
      break;
    default:
      starts = s[0] == ' ' || (n >= meta.n && memcmp(s, meta.p, meta.n) == 0);
      if (!starts && ((step->flags & AII_META_ALWAYS) != 0 || ((step->flags & AII_META_FIRST) != 0 && first))) {
        aii_buf_add(out, meta.p, meta.n);
      }
      add_replaced(out, s, n, meta);
      break;
  }
}

/* The pieces' texts, changed and end to end in *out. */
static aiinfra_status rewrite_all(aii_mem *mem, const aii_split_step *step, aii_str text, bool first,
                                  const aii_spans *in, aii_spans *spans, aii_buf *out, aiinfra_error *err)
{
  aii_buf_clear(out);
  spans->n = 0;
  bool ok = true;
  for (size_t i = 0; i < in->n && ok; i++) {
    size_t from = out->len;
    rewrite_piece(step, text.p + in->items[i].from, in->items[i].to - in->items[i].from,
                  first && i == 0 && in->items[i].from == 0, out);
    ok = !out->failed && aii_spans_add(mem, spans, from, out->len);
  }
  if (out->over) {
    return aii_fail(err, AIINFRA_ELIMIT, "the tokenizer's splitting makes more than %zu bytes of a text of %zu",
                    out->max, text.n);
  }
  return ok ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "splitting %zu bytes", text.n);
}

aiinfra_status aii_split(const aii_pipeline *pipe, aii_mem *mem, aii_str text, bool first, aii_buf buffers[2],
                         aii_spans spans[2], aii_str *out, aiinfra_error *err)
{
  size_t which = 0; /* buffers[which] is free */
  buffers[0].max = buffers[1].max = aii_pipe_most(text.n);
  *out = text;
  spans[0].n = 0;
  if (text.n > 0 && !aii_spans_add(mem, &spans[0], 0, text.n)) {
    return aii_fail(err, AIINFRA_ENOMEM, "splitting %zu bytes", text.n);
  }
  for (size_t i = 0; i < pipe->n_split; i++) {
    const aii_split_step *step = &pipe->split[i];
    aiinfra_status rc;
    if (step->kind >= AII_SPLIT_BYTE_MAP) {
      rc = rewrite_all(mem, step, *out, first, &spans[0], &spans[1], &buffers[which], err);
      *out = (aii_str){aii_buf_cstr(&buffers[which]), buffers[which].len};
      which = 1 - which;
    } else {
      rc = split_all(mem, step, *out, &spans[0], &spans[1], err);
    }
    if (rc != AIINFRA_OK) return rc;
    aii_spans held = spans[0];
    spans[0] = spans[1];
    spans[1] = held;
  }
  return AIINFRA_OK;
}
