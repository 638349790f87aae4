/* base64.c - four characters are three bytes; the last group may be shorter, with = or without. */
#include "src/text/base64.h"

static int value_of(char c)
{
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool aii_base64_decode(const char *text, size_t n, aii_buf *out)
{
  for (size_t pad = 0; pad < 2 && n > 0 && text[n - 1] == '='; pad++) n--;
  if (n % 4 == 1) return false;
  uint32_t group = 0;
  for (size_t i = 0; i < n; i++) {
    int value = value_of(text[i]);
    if (value < 0) return false;
    group = group << 6 | (uint32_t)value;
    if (i % 4 != 0) aii_buf_char(out, (char)(group >> (6 - 2 * (i % 4)) & 0xFF));
  }
  return !out->failed;
}
