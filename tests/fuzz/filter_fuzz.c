/* filter_fuzz.c - filters from strangers: the first line is a filter, the rest a payload. */
#include <stdint.h>
#include <stdlib.h>

#include "src/vector/vector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_filter *filter;
  aiinfra_error err;
  const uint8_t *end = size > 0 ? memchr(data, '\n', size) : NULL;
  size_t n = end != NULL ? (size_t)(end - data) : size;
  char *text = malloc(n + 1);
  if (text == NULL) return 0;
  if (n > 0) memcpy(text, data, n);
  text[n] = '\0';
  aii_mem_init(&mem, NULL, 0);
  if (aii_filter_compile(&mem, text, &filter, &err) == AIINFRA_OK) {
    json_t *payload = end != NULL ? json_loadb((const char *)end + 1, size - n - 1, 0, NULL) : NULL;
    bool passes;
    (void)aii_filter_test(filter, (int64_t)size, payload, &passes);
    json_decref(payload);
    aii_filter_free(filter);
  }
  free(text);
  if (mem.used_bytes != 0) abort();
  return 0;
}
