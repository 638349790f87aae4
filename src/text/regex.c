/* regex.c - the regular expressions that no hand-written matcher knows, through PCRE2, with a bound on their work.
 *
 * PCRE2 backtracks, so a hostile pattern or text could cost any time. It is compiled with a callout before every item
 * of the pattern, and each callout pays for the distance that the matcher has moved since the last one: when the
 * budget of the text is used up the match fails with ELIMIT. No JIT. Memory is the vocabulary's, for matching bounded
 * by a heap limit. A compiled expression is immutable; match data is made for each search.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "src/text/pipe_impl.h"

enum { STEPS_PER_BYTE = 256, LEAST_STEPS = 100000, HEAP_KIB = 32 << 10, HEAD = 16 };

struct aii_regex {
  aii_mem *mem;
  pcre2_general_context *general;
  pcre2_code *code;
};

typedef struct meter {
  uint64_t left;
  size_t last;
} meter;

/* PCRE2 does not say how much it frees: the size goes in front. */
static void *take(PCRE2_SIZE n, void *user)
{
  size_t size;
  if (!aii_size_add(n, HEAD, &size)) return NULL;
  char *block = aii_new_raw(user, size);
  if (block == NULL) return NULL;
  memcpy(block, &size, sizeof size);
  return block + HEAD;
}

static void give(void *ptr, void *user)
{
  if (ptr == NULL) return;
  char *block = (char *)ptr - HEAD;
  size_t size;
  memcpy(&size, block, sizeof size);
  aii_del(user, block, size);
}

static int pay(pcre2_callout_block *at, void *user)
{
  meter *m = user;
  size_t moved = at->current_position > m->last ? at->current_position - m->last : m->last - at->current_position;
  m->last = at->current_position;
  if (m->left <= moved) return PCRE2_ERROR_CALLOUT;
  m->left -= moved + 1;
  return 0;
}

/* White space and word characters as Unicode and Oniguruma have them, where PCRE2 differs: \s is not U+180E, \w is also
 * marks. \W within a class stays PCRE2's. */
static void spell_out(aii_str pattern, aii_buf *out)
{
  static const struct {
    char letter;
    const char *outside, *inside;
  } classes[] = {{'s', "\\p{White_Space}", "\\p{White_Space}"},
                 {'S', "\\P{White_Space}", "\\P{White_Space}"},
                 {'w', "[\\p{L}\\p{M}\\p{N}\\p{Pc}]", "\\p{L}\\p{M}\\p{N}\\p{Pc}"},
                 {'W', "[^\\p{L}\\p{M}\\p{N}\\p{Pc}]", "\\W"}};
  bool in_class = false;
  for (size_t i = 0; i < pattern.n; i++) {
    char c = pattern.p[i];
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    if (c != '\\' || i + 1 == pattern.n) {
      aii_buf_char(out, c);
      continue;
    }
    const char *spelled = NULL;
    c = pattern.p[++i];
    for (size_t k = 0; k < AII_COUNT(classes); k++) {
      if (classes[k].letter == c) spelled = in_class ? classes[k].inside : classes[k].outside;
    }
    if (spelled != NULL) aii_buf_str(out, spelled);
    if (spelled == NULL) aii_buf_add(out, pattern.p + i - 1, 2);
  }
}

static pcre2_code *compile(aii_regex *r, aii_str pattern, pcre2_compile_context *how, int *code, PCRE2_SIZE *at)
{
  aii_buf spelled;
  pcre2_code *compiled = NULL;
  aii_buf_init(&spelled, r->mem, 0);
  spell_out(pattern, &spelled);
  *code = PCRE2_ERROR_NOMEMORY;
  if (!spelled.failed) {
    (void)pcre2_set_parens_nest_limit(how, 64);
    compiled = pcre2_compile((PCRE2_SPTR)aii_buf_cstr(&spelled), spelled.len,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_AUTO_CALLOUT | PCRE2_NO_AUTO_POSSESS |
                                 PCRE2_NO_START_OPTIMIZE | PCRE2_NEVER_BACKSLASH_C,
                             code, at, how);
  }
  aii_buf_free(&spelled);
  return compiled;
}

aiinfra_status aii_regex_compile(aii_mem *mem, aii_str pattern, aii_regex **out, aiinfra_error *err)
{
  int code = 0;
  PCRE2_SIZE at = 0;
  *out = NULL;
  aii_regex *r = aii_new(mem, sizeof *r);
  if (r == NULL) return aii_fail(err, AIINFRA_ENOMEM, "regular expression");
  r->mem = mem;
  r->general = pcre2_general_context_create(take, give, mem);
  pcre2_compile_context *how = r->general != NULL ? pcre2_compile_context_create(r->general) : NULL;
  if (how != NULL) r->code = compile(r, pattern, how, &code, &at);
  pcre2_compile_context_free(how);
  if (r->code != NULL) {
    *out = r;
    return AIINFRA_OK;
  }
  aii_regex_free(r);
  if (how == NULL || code == PCRE2_ERROR_NOMEMORY || code == 121) {
    return aii_fail(err, AIINFRA_ENOMEM, "regular expression");
  }
  PCRE2_UCHAR text[120];
  (void)pcre2_get_error_message(code, text, sizeof text);
  return aii_fail(err, AIINFRA_ENOTSUP, "the regular expression \"%.*s\" is not understood: %s at %zu",
                  (int)AII_MIN(pattern.n, (size_t)100), pattern.p, (const char *)text, (size_t)at);
}

void aii_regex_free(aii_regex *r)
{
  if (r == NULL) return;
  pcre2_code_free(r->code);
  pcre2_general_context_free(r->general);
  aii_del(r->mem, r, sizeof *r);
}

uint64_t aii_regex_budget(size_t n)
{
  return (uint64_t)n * STEPS_PER_BYTE + LEAST_STEPS;
}

aiinfra_status aii_regex_next(const aii_regex *r, const char *s, size_t from, size_t n, uint64_t *budget, size_t *at,
                              size_t *end, aiinfra_error *err)
{
  meter m = {.left = *budget, .last = from};
  pcre2_match_data *found = pcre2_match_data_create(1, r->general);
  pcre2_match_context *how = found != NULL ? pcre2_match_context_create(r->general) : NULL;
  int rc = PCRE2_ERROR_NOMEMORY;
  while (from < n && ((uint8_t)s[from] & 0xC0) == 0x80) from++; /* never into a sequence */
  if (how != NULL) {
    (void)pcre2_set_callout(how, pay, &m);
    (void)pcre2_set_heap_limit(how, HEAP_KIB);
    rc = pcre2_match(r->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, found, how);
  }
  *budget = m.left;
  if (rc >= 0) {
    const PCRE2_SIZE *where = pcre2_get_ovector_pointer(found);
    *end = where[1];
    *at = AII_MIN(where[0], where[1]); /* \K may put the start behind the end */
    *at = AII_MAX(*at, from);
    *end = AII_MAX(*end, *at);
  }
  pcre2_match_context_free(how);
  pcre2_match_data_free(found);
  if (rc >= 0) return AIINFRA_OK;
  if (rc == PCRE2_ERROR_NOMATCH) return AIINFRA_ENOENT;
  if (rc == PCRE2_ERROR_NOMEMORY) return aii_fail(err, AIINFRA_ENOMEM, "matching %zu bytes", n);
  return aii_fail(err, AIINFRA_ELIMIT,
                  "a regular expression of the tokenizer needs too many steps for this text of %zu bytes", n);
}
