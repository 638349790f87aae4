/* pretok_match.c - the expressions most models share: GPT-2, Llama 3, Qwen 2, tekken and o200k.
 *
 * C   contractions 's 't 're 've 'm 'll 'd, any case
 * W   \s*[\r\n]+ | \s+(?!\S) | \s+
 */
#include <utf8proc.h>

#include "src/text/pretok_impl.h"

uint8_t aii_char_class(uint32_t cp)
{
  if ((cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85) return PC_SPACE;
  switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return PC_L | PC_UP;
    case UTF8PROC_CATEGORY_LL: return PC_L | PC_LOW;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return PC_L | PC_UP | PC_LOW;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return PC_M | PC_UP | PC_LOW;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return PC_N;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return PC_P;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return PC_S;
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return PC_SPACE;
    default: return 0;
  }
}

static size_t run(const aii_pchar *c, size_t i, size_t n, uint8_t any_of)
{
  while (i < n && (c[i].cls & any_of) != 0) i++;
  return i;
}

static size_t run_not(const aii_pchar *c, size_t i, size_t n, uint8_t none_of)
{
  while (i < n && (c[i].cls & none_of) == 0) i++;
  return i;
}

static bool newline(const aii_pchar *c)
{
  return c->cp == '\r' || c->cp == '\n';
}

/* The end of a contraction at i, or i. */
static size_t contraction(const aii_pchar *c, size_t i, size_t n, bool any_case)
{
  if (i + 1 >= n || c[i].cp != '\'') return i;
  uint32_t a = c[i + 1].cp, b = i + 2 < n ? c[i + 2].cp : 0;
  if (any_case && a >= 'A' && a <= 'Z') a += 32;
  if (any_case && b >= 'A' && b <= 'Z') b += 32;
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
  if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
  return i;
}

/* \s+(?!\S): a run at the end of the piece whole, else all but its last character. */
static size_t spaces_before_end(const aii_pchar *c, size_t i, size_t n)
{
  size_t end = run(c, i, n, PC_SPACE);
  return end == n || end == i ? end : end - 1;
}

/* W. The run is white space, so \s*[\r\n]+ ends behind its last newline. */
static size_t white_space(const aii_pchar *c, size_t i, size_t n)
{
  size_t end = run(c, i, n, PC_SPACE), last = end;
  while (last > i && !newline(&c[last - 1])) last--;
  if (last > i) return last;
  size_t most = spaces_before_end(c, i, n);
  return most > i ? most : end;
}

size_t aii_pm_gpt2(const aii_pchar *c, size_t i, size_t n)
{
  size_t end = contraction(c, i, n, false);
  if (end > i) return end;
  size_t from = i + (c[i].cp == ' ');
  if ((end = run(c, from, n, PC_L)) > from) return end;
  if ((end = run(c, from, n, PC_N)) > from) return end;
  if ((end = run_not(c, from, n, PC_SPACE | PC_L | PC_N)) > from) return end;
  return spaces_before_end(c, i, n);
}

/* [^\r\n\p{L}\p{N}] may stand before a word. */
static bool may_lead(const aii_pchar *c)
{
  return !newline(c) && (c->cls & (PC_L | PC_N)) == 0;
}

/* " ?" of punctuation, then any of the tail characters. */
static size_t punctuation(const aii_pchar *c, size_t i, size_t n, uint8_t none_of, bool slash)
{
  size_t from = i + (c[i].cp == ' '), end = run_not(c, from, n, none_of);
  if (end == from) return i;
  while (end < n && (newline(&c[end]) || (slash && c[end].cp == '/'))) end++;
  return end;
}

static size_t llama3(const aii_pchar *c, size_t i, size_t n, size_t max_digits, uint8_t letters)
{
  size_t end = contraction(c, i, n, true);
  if (end > i) return end;
  size_t from = i + (may_lead(&c[i]) ? 1 : 0);
  if ((end = run(c, from, n, letters)) > from) return end;
  if (from > i && (end = run(c, i, n, letters)) > i) return end;
  end = run(c, i, AII_MIN(n, i + max_digits), PC_N);
  if (end > i) return end;
  end = punctuation(c, i, n, (uint8_t)(PC_SPACE | PC_N | letters), false);
  return end > i ? end : white_space(c, i, n);
}

size_t aii_pm_llama3(const aii_pchar *c, size_t i, size_t n)
{
  return llama3(c, i, n, 3, PC_L);
}

size_t aii_pm_qwen2(const aii_pchar *c, size_t i, size_t n)
{
  return llama3(c, i, n, 1, PC_L);
}

size_t aii_pm_qwen35(const aii_pchar *c, size_t i, size_t n)
{
  return llama3(c, i, n, 1, PC_L | PC_M);
}

/* [U]*[D]+ from i: the longest U run gives back characters until a D follows. */
static size_t upper_lower(const aii_pchar *c, size_t i, size_t n)
{
  size_t up = run(c, i, n, PC_UP);
  if (up < n && (c[up].cls & PC_LOW) != 0) return run(c, up, n, PC_LOW);
  while (up > i && (c[up - 1].cls & PC_LOW) == 0) up--;
  return up;
}

static size_t cased_word(const aii_pchar *c, size_t i, size_t n)
{
  size_t from = i + (may_lead(&c[i]) ? 1 : 0), end = upper_lower(c, from, n);
  if (end > from) return end;
  if (from > i && (end = upper_lower(c, i, n)) > i) return end;
  if ((end = run(c, from, n, PC_UP)) > from) return run(c, end, n, PC_LOW);
  return i;
}

static size_t tekken(const aii_pchar *c, size_t i, size_t n, size_t max_digits, bool contractions)
{
  size_t end = cased_word(c, i, n);
  if (end > i) return contractions && end < n ? contraction(c, end, n, true) : end;
  end = run(c, i, AII_MIN(n, i + max_digits), PC_N);
  if (end > i) return end;
  end = punctuation(c, i, n, PC_SPACE | PC_L | PC_N, true);
  return end > i ? end : white_space(c, i, n);
}

size_t aii_pm_tekken(const aii_pchar *c, size_t i, size_t n)
{
  return tekken(c, i, n, 1, false);
}

size_t aii_pm_o200k(const aii_pchar *c, size_t i, size_t n)
{
  return tekken(c, i, n, 3, true);
}
