/* utf8.c - strict UTF-8 as in RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. Any thread. */
#include "lib/base/base.h"

/* The length that a first byte promises; 0 when it can start no sequence. */
static size_t length_of(unsigned char first)
{
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first >= 0xE0 && first <= 0xEF) return 3;
  if (first >= 0xF0 && first <= 0xF4) return 4;
  return 0;
}

int aii_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
  static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
  if (n == 0) return 0;
  unsigned char first = (unsigned char)s[0];
  size_t len = length_of(first);
  if (len == 0) return -1;
  uint32_t value = len == 1 ? first : first & (0x7Fu >> len);
  for (size_t i = 1; i < len; i++) {
    if (i == n) return 0;
    unsigned char c = (unsigned char)s[i];
    if ((c & 0xC0) != 0x80) return -1;
    value = value << 6 | (c & 0x3Fu);
    /* the second byte decides overlong forms, surrogates and the upper end */
    if (i == 1 && len == 3 && (value < 0x20 || (value >= 0x360 && value < 0x380))) return -1;
    if (i == 1 && len == 4 && (value < 0x10 || value > 0x10F)) return -1;
  }
  if (value < least[len]) return -1;
  if (cp != NULL) *cp = value;
  return (int)len;
}

size_t aii_utf8_encode(uint32_t cp, char out[4])
{
  if (cp < 0x80) {
    out[0] = (char)cp;
    return 1;
  }
  if (cp < 0x800) {
    out[0] = (char)(0xC0 | cp >> 6);
    out[1] = (char)(0x80 | (cp & 0x3F));
    return 2;
  }
  if (cp >= 0xD800 && cp < 0xE000) return 0;
  if (cp < 0x10000) {
    out[0] = (char)(0xE0 | cp >> 12);
    out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[2] = (char)(0x80 | (cp & 0x3F));
    return 3;
  }
  if (cp > 0x10FFFF) return 0;
  out[0] = (char)(0xF0 | cp >> 18);
  out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
  out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
  out[3] = (char)(0x80 | (cp & 0x3F));
  return 4;
}

bool aii_utf8_valid(const char *s, size_t n)
{
  for (size_t i = 0; i < n;) {
    int len = aii_utf8_decode(s + i, n - i, NULL);
    if (len <= 0) return false;
    i += (size_t)len;
  }
  return true;
}
