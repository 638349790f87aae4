/* error.c - status names and the filling of the caller's aiinfra_error. Never allocates. Any thread. */
#include <errno.h>
#include <stdio.h>

#include "lib/base/base.h"

const char *aiinfra_status_name(aiinfra_status status)
{
  switch (status) {
#define NAME_CASE(name, value, text) \
  case AIINFRA_##name: return "AIINFRA_" #name;
    AIINFRA_STATUS_LIST(NAME_CASE)
#undef NAME_CASE
  }
  return "AIINFRA_E?";
}

const char *aiinfra_status_text(aiinfra_status status)
{
  switch (status) {
#define TEXT_CASE(name, value, text) \
  case AIINFRA_##name: return text;
    AIINFRA_STATUS_LIST(TEXT_CASE)
#undef TEXT_CASE
  }
  return "unknown status";
}

const char *aiinfra_version(void)
{
  return AIINFRA_VERSION_STRING;
}

/* Cuts a message that filled the buffer back to the last whole UTF-8 character. */
static void trim_utf8(char *s, size_t cap)
{
  size_t n = strlen(s);
  if (n + 1 < cap) return;
  size_t start = n;
  while (start > 0 && n - start < 4 && ((unsigned char)s[start - 1] & 0xC0) == 0x80) start--;
  if (start == 0) return;
  if (aii_utf8_decode(s + start - 1, n - start + 1, NULL) == 0) s[start - 1] = '\0';
}

static void fill(aiinfra_error *err, aiinfra_status status, int code, const char *fmt, va_list args)
{
  if (err == NULL) return;
  err->status = (int32_t)status;
  err->code = code;
  (void)vsnprintf(err->message, sizeof err->message, fmt, args);
  trim_utf8(err->message, sizeof err->message);
}

aiinfra_status aii_fail(aiinfra_error *err, aiinfra_status status, const char *fmt, ...)
{
  va_list args;
  va_start(args, fmt);
  fill(err, status, 0, fmt, args);
  va_end(args);
  return status;
}

aiinfra_status aii_fail_code(aiinfra_error *err, aiinfra_status status, int code, const char *fmt, ...)
{
  va_list args;
  va_start(args, fmt);
  fill(err, status, code, fmt, args);
  va_end(args);
  return status;
}

aiinfra_status aii_wrap(aiinfra_error *err, aiinfra_status status, const char *fmt, ...)
{
  if (err == NULL) return status;
  char inner[AIINFRA_ERROR_MESSAGE_MAX];
  memcpy(inner, err->message, sizeof inner);
  inner[sizeof inner - 1] = '\0';
  va_list args;
  va_start(args, fmt);
  (void)vsnprintf(err->message, sizeof err->message, fmt, args);
  va_end(args);
  size_t n = strlen(err->message);
  (void)snprintf(err->message + n, sizeof err->message - n, ": %s", inner);
  trim_utf8(err->message, sizeof err->message);
  err->status = (int32_t)status;
  return status;
}

static aiinfra_status status_of_errno(int errnum)
{
  switch (errnum) {
    case ENOMEM: return AIINFRA_ENOMEM;
    case ENOENT: return AIINFRA_ENOENT;
    case EEXIST: return AIINFRA_EEXIST;
    case EINVAL: return AIINFRA_EINVAL;
    case EBUSY:
    case EAGAIN:
    case EADDRINUSE: return AIINFRA_EBUSY;
    case ENOSPC: return AIINFRA_ENOSPC;
    case ENOSYS:
    case ENOTSUP: return AIINFRA_ENOTSUP;
    case ECANCELED: return AIINFRA_ECANCELED;
    case ETIMEDOUT: return AIINFRA_ETIMEDOUT;
    default: return AIINFRA_EIO;
  }
}

aiinfra_status aii_fail_errno(aiinfra_error *err, int errnum, const char *fmt, ...)
{
  aiinfra_status status = status_of_errno(errnum);
  if (err == NULL) return status;
  va_list args;
  va_start(args, fmt);
  fill(err, status, errnum, fmt, args);
  va_end(args);
  char text[128];
  /* the GNU form: may return a static string instead of filling the buffer */
  const char *reason = strerror_r(errnum, text, sizeof text);
  size_t n = strlen(err->message);
  (void)snprintf(err->message + n, sizeof err->message - n, ": %s", reason);
  trim_utf8(err->message, sizeof err->message);
  return status;
}
