/* decode.c - encodings: UTF-8 with and without a byte order mark, UTF-16 with one, and Windows-1252 for the rest.
 *
 * What is not UTF-8 is taken for Windows-1252 (which has Latin-1 in it) when it looks like text of a language written
 * with Latin letters: no control characters, and twice as much ASCII as other bytes. Anything else is not text.
 */
#include "src/retrieve/retrieve.h"

/* 0x80 to 0x9F; 0: not assigned. From https://encoding.spec.whatwg.org/index-windows-1252.txt */
static const uint16_t high[32] = {0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                  0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                  0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                  0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

static bool looks_latin(const unsigned char *s, size_t n)
{
  size_t above = 0;
  for (size_t i = 0; i < n; i++) {
    if (s[i] < 0x20 && s[i] != '\t' && s[i] != '\n' && s[i] != '\r' && s[i] != '\f') return false;
    if (s[i] == 0x7F || (s[i] >= 0x80 && s[i] < 0xA0 && high[s[i] - 0x80] == 0)) return false;
    above += s[i] >= 0x80;
  }
  return above <= n / 3;
}

aii_encoding aii_encoding_of(const char *bytes, size_t n, size_t *skip)
{
  *skip = 0;
  if (n >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0) *skip = 3;
  if (n >= 2 && (memcmp(bytes, "\xFF\xFE", 2) == 0 || memcmp(bytes, "\xFE\xFF", 2) == 0)) {
    *skip = 2;
    return bytes[0] == '\xFF' ? AII_ENCODING_UTF16LE : AII_ENCODING_UTF16BE;
  }
  if (n > 0 && memchr(bytes, '\0', n) != NULL) return AII_ENCODING_NONE;
  if (aii_utf8_valid(bytes + *skip, n - *skip)) return AII_ENCODING_UTF8;
  *skip = 0;
  return looks_latin((const unsigned char *)bytes, n) ? AII_ENCODING_WINDOWS1252 : AII_ENCODING_NONE;
}

/* One character at `at`; half of a pair becomes U+FFFD. Returns its bytes. */
static size_t utf16_next(const unsigned char *s, size_t n, size_t at, bool big, uint32_t *cp)
{
  *cp = 0xFFFD;
  if (n - at < 2) return 1;
  uint32_t a = big ? (uint32_t)s[at] << 8 | s[at + 1] : (uint32_t)s[at + 1] << 8 | s[at];
  if (a < 0xD800 || a > 0xDFFF) *cp = a;
  if (a < 0xD800 || a > 0xDBFF || n - at < 4) return 2;
  uint32_t b = big ? (uint32_t)s[at + 2] << 8 | s[at + 3] : (uint32_t)s[at + 3] << 8 | s[at + 2];
  if (b < 0xDC00 || b > 0xDFFF) return 2;
  *cp = 0x10000 + ((a - 0xD800) << 10 | (b - 0xDC00));
  return 4;
}

static size_t next_char(const unsigned char *s, size_t n, size_t at, aii_encoding encoding, uint32_t *cp)
{
  if (encoding != AII_ENCODING_WINDOWS1252) return utf16_next(s, n, at, encoding == AII_ENCODING_UTF16BE, cp);
  *cp = s[at] >= 0x80 && s[at] < 0xA0 ? high[s[at] - 0x80] : s[at];
  return 1;
}

bool aii_decode(aii_loaded *doc, const char *bytes, size_t n, aii_encoding encoding, size_t skip)
{
  const unsigned char *s = (const unsigned char *)bytes;
  if (encoding == AII_ENCODING_UTF8) {
    aii_put_exact(doc, bytes, skip, n - skip);
    return true;
  }
  char run[256]; /* a word, or the white space behind it: passages begin and end at words */
  size_t used = 0, from = skip;
  bool space = false;
  for (size_t at = skip; at < n;) {
    uint32_t cp;
    size_t step = next_char(s, n, at, encoding, &cp);
    bool blank = cp == ' ' || cp == '\n' || cp == '\r' || cp == '\t';
    if (cp == 0) return false;
    if (used > sizeof run - 4 || (used > 0 && blank != space)) {
      aii_put_made(doc, run, used, from, at);
      used = 0;
      from = at;
    }
    space = blank;
    used += aii_utf8_encode(cp, run + used);
    at += step;
  }
  aii_put_made(doc, run, used, from, n);
  return true;
}
