/* opts.c - one door for option structs of any version: copy what we know, refuse what we do not. Any thread. */
#include "lib/base/base.h"

aiinfra_status aii_opts_load(void *dst, size_t dst_size, const void *src, size_t min_size, const char *type,
                             aiinfra_error *err)
{
  memset(dst, 0, dst_size);
  memcpy(dst, &dst_size, sizeof dst_size);
  if (src == NULL) return AIINFRA_OK;
  size_t size;
  memcpy(&size, src, sizeof size);
  if (size < min_size) {
    return aii_fail(err, AIINFRA_EINVAL,
                    "%s: struct_size is %zu, the struct has at least %zu bytes; initialise it with its ..._OPTS_INIT",
                    type, size, min_size);
  }
  for (size_t i = dst_size; i < size; i++) {
    if (((const unsigned char *)src)[i] == 0) continue;
    return aii_fail(
        err, AIINFRA_ENOTSUP,
        "%s: an option at byte %zu is set that version %s of the library does not know; use a newer library", type, i,
        AIINFRA_VERSION_STRING);
  }
  memcpy(dst, src, AII_MIN(size, dst_size));
  memcpy(dst, &dst_size, sizeof dst_size);
  return AIINFRA_OK;
}
