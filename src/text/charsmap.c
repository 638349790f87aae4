/* charsmap.c - SentencePiece's precompiled normalisation: a double-array trie of keys, and what each becomes.
 *
 * The table is u32 (little-endian) bytes of the trie, the trie's units of u32, then texts that end with NUL. A unit
 * holds a label, the offset to its children and whether a key ends there; the unit of the end holds the text's offset.
 * Every index that comes out of the table is checked, since the table comes with the model.
 */
#include <utf8proc.h>

#include "src/text/pipe_impl.h"

typedef struct map_view {
  const uint8_t *units;
  size_t n_units;
  aii_str texts;
} map_view;

static uint32_t u32_at(const uint8_t *p)
{
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static map_view view(aii_str map)
{
  size_t bytes = u32_at((const uint8_t *)map.p);
  return (map_view){(const uint8_t *)map.p + 4, bytes / 4, {map.p + 4 + bytes, map.n - 4 - bytes}};
}

bool aii_charsmap_valid(aii_str map)
{
  if (map.n < 8) return false;
  size_t bytes = u32_at((const uint8_t *)map.p);
  return bytes >= 4 && bytes % 4 == 0 && bytes < map.n - 4 && map.p[map.n - 1] == 0;
}

static size_t offset_of(uint32_t unit)
{
  return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The text of a key that is a prefix of s: the shortest or the longest. Its bytes; 0: none. */
static size_t find_prefix(const map_view *m, const char *s, size_t n, bool shortest, aii_str *to)
{
  size_t found = 0, at = offset_of(u32_at(m->units));
  for (size_t i = 0; i < n && s[i] != 0; i++) {
    at ^= (uint8_t)s[i];
    if (at >= m->n_units) break;
    uint32_t unit = u32_at(m->units + 4 * at);
    if ((unit & (1u << 31 | 0xFF)) != (uint8_t)s[i]) break;
    at ^= offset_of(unit);
    if ((unit >> 8 & 1) == 0) continue;
    if (at >= m->n_units) break;
    size_t text = u32_at(m->units + 4 * at) & 0x7FFFFFFF;
    if (text >= m->texts.n) break;
    found = i + 1;
    *to = (aii_str){m->texts.p + text, strlen(m->texts.p + text)};
    if (shortest) break;
  }
  return found;
}

size_t aii_charsmap_prefix(aii_str map, const char *s, size_t n, aii_str *to)
{
  *to = (aii_str){s, 1};
  if (map.n == 0) return 1;
  map_view m = view(map);
  size_t found = find_prefix(&m, s, n, false, to);
  if (found > 0) return found;
  int len = aii_utf8_decode(s, n, NULL);
  *to = len > 0 ? (aii_str){s, (size_t)len} : (aii_str){"\xEF\xBF\xBD", 3};
  return len > 0 ? (size_t)len : 1;
}

/* The end of the grapheme that begins at `from`. */
static size_t grapheme_end(aii_str in, size_t from)
{
  utf8proc_int32_t state = 0;
  uint32_t last = 0, cp = 0;
  int len = aii_utf8_decode(in.p + from, in.n - from, &last);
  size_t at = from + (len > 0 ? (size_t)len : 1);
  while (at < in.n) {
    len = aii_utf8_decode(in.p + at, in.n - at, &cp);
    if (len <= 0 || utf8proc_grapheme_break_stateful((utf8proc_int32_t)last, (utf8proc_int32_t)cp, &state)) break;
    last = cp;
    at += (size_t)len;
  }
  return at;
}

enum { UNKNOWN, SAME, OTHER }; /* what becomes of an ASCII character that is a grapheme */

/* The end of a stretch of ASCII that stays as it is: only before another ASCII character one surely is a grapheme. */
static size_t same_end(const map_view *m, aii_str in, size_t from, uint8_t known[128])
{
  size_t i = from;
  for (; i + 1 < in.n; i++) {
    uint8_t c = (uint8_t)in.p[i];
    aii_str to;
    if (c >= 128 || c == '\r' || (uint8_t)in.p[i + 1] >= 128) break;
    if (known[c] == UNKNOWN) {
      bool key = find_prefix(m, in.p + i, 1, true, &to) > 0;
      known[c] = !key || (to.n == 1 && to.p[0] == in.p[i]) ? SAME : OTHER;
    }
    if (known[c] != SAME) break;
  }
  return i;
}

/* As Hugging Face does: a grapheme of less than 6 bytes as a whole, by the shortest key that it begins with; else each
 * of its characters. */
void aii_norm_charsmap_hf(aii_str map, aii_str in, aii_buf *out)
{
  enum { WHOLE_BELOW = 6 };
  map_view m = view(map);
  uint8_t known[128] = {UNKNOWN};
  aii_str to;
  for (size_t i = 0; i < in.n;) {
    size_t same = same_end(&m, in, i, known);
    aii_buf_add(out, in.p + i, same - i);
    i = same;
    size_t end = grapheme_end(in, i);
    if (end - i < WHOLE_BELOW && find_prefix(&m, in.p + i, end - i, true, &to) > 0) {
      aii_buf_add(out, to.p, to.n);
      i = end;
      continue;
    }
    while (i < end) {
      int len = aii_utf8_decode(in.p + i, end - i, NULL);
      size_t n = len > 0 ? (size_t)len : 1;
      if (find_prefix(&m, in.p + i, n, true, &to) == 0) to = (aii_str){in.p + i, n};
      aii_buf_add(out, to.p, to.n);
      i += n;
    }
  }
}
