/* buf.c - growing byte strings with a sticky failure flag. One owner at a time. */
#include <stdio.h>

#include "lib/base/base.h"

void aii_buf_init(aii_buf *buf, aii_mem *mem, size_t max)
{
  memset(buf, 0, sizeof *buf);
  buf->mem = mem;
  buf->max = max;
}

void aii_buf_free(aii_buf *buf)
{
  aii_del(buf->mem, buf->data, buf->cap);
  aii_buf_init(buf, buf->mem, buf->max);
}

void aii_buf_clear(aii_buf *buf)
{
  buf->len = 0;
  buf->failed = buf->over = false;
  if (buf->data != NULL) buf->data[0] = '\0';
}

/* Makes room for n more bytes and the NUL; false sets `failed`. */
static bool reserve(aii_buf *buf, size_t n)
{
  if (buf->failed) return false;
  size_t want;
  if (!aii_size_add(buf->len, n, &want) || !aii_size_add(want, 1, &want)) {
    buf->failed = true;
  } else if (buf->max != 0 && want - 1 > buf->max) {
    buf->failed = buf->over = true;
  } else if (!aii_grow(buf->mem, &buf->data, &buf->cap, want, 1)) {
    buf->failed = true;
  }
  return !buf->failed;
}

void aii_buf_add(aii_buf *buf, const void *bytes, size_t n)
{
  if (!reserve(buf, n)) return;
  if (n > 0) memcpy(buf->data + buf->len, bytes, n);
  buf->len += n;
  buf->data[buf->len] = '\0';
}

void aii_buf_str(aii_buf *buf, const char *s)
{
  aii_buf_add(buf, s, strlen(s));
}

void aii_buf_char(aii_buf *buf, char c)
{
  aii_buf_add(buf, &c, 1);
}

void aii_buf_line(aii_buf *buf, const char *text)
{
  bool space = false, any = false;
  for (; *text != '\0'; text++) {
    if (*text == ' ' || *text == '\n' || *text == '\r' || *text == '\t') {
      space = any;
      continue;
    }
    if (space) aii_buf_char(buf, ' ');
    aii_buf_char(buf, *text);
    space = false;
    any = true;
  }
}

void aii_buf_fmt(aii_buf *buf, const char *fmt, ...)
{
  va_list args;
  va_start(args, fmt);
  int n = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  if (n < 0) buf->failed = true;
  if (n < 0 || !reserve(buf, (size_t)n)) return;
  va_start(args, fmt);
  (void)vsnprintf(buf->data + buf->len, (size_t)n + 1, fmt, args);
  va_end(args);
  buf->len += (size_t)n;
}

void aii_buf_double(aii_buf *buf, double value, int digits)
{
  char text[64];
  (void)snprintf(text, sizeof text, "%.*g", digits, value);
  for (char *p = text; *p != '\0'; p++) {
    if (*p == ',') *p = '.';
  }
  aii_buf_str(buf, text);
}

static void add_json_char(aii_buf *buf, const char *s, size_t n)
{
  unsigned char c = (unsigned char)s[0];
  switch (c) {
    case '"': aii_buf_str(buf, "\\\""); return;
    case '\\': aii_buf_str(buf, "\\\\"); return;
    case '\n': aii_buf_str(buf, "\\n"); return;
    case '\r': aii_buf_str(buf, "\\r"); return;
    case '\t': aii_buf_str(buf, "\\t"); return;
    default: break;
  }
  if (c < 0x20 || c == 0x7F) {
    aii_buf_fmt(buf, "\\u%04x", c);
  } else {
    aii_buf_add(buf, s, n);
  }
}

void aii_buf_json(aii_buf *buf, const char *s, size_t n)
{
  aii_buf_char(buf, '"');
  for (size_t i = 0; i < n && !buf->failed;) {
    int len = aii_utf8_decode(s + i, n - i, NULL);
    if (len > 0) {
      add_json_char(buf, s + i, (size_t)len);
      i += (size_t)len;
    } else {
      aii_buf_str(buf, "\xEF\xBF\xBD"); /* U+FFFD for each byte that is no UTF-8 */
      i++;
    }
  }
  aii_buf_char(buf, '"');
}

const char *aii_buf_cstr(const aii_buf *buf)
{
  return buf->data != NULL ? buf->data : "";
}

aiinfra_status aii_buf_export(aii_buf *buf, char **out, aiinfra_error *err)
{
  bool over = buf->over;
  size_t n = buf->len;
  *out = buf->failed ? NULL : aii_export_string(buf->mem, aii_buf_cstr(buf), n);
  aii_buf_free(buf);
  if (over) return aii_fail(err, AIINFRA_ELIMIT, "the text would be longer than its limit of %zu bytes", buf->max);
  if (*out == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a text of %zu bytes", n);
  return AIINFRA_OK;
}
