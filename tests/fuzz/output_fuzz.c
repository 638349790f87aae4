/* output_fuzz.c - any model output: it parses or is refused; what it gives is a JSON array of calls. */
#include <stdlib.h>

#include "lib/json/json.h"
#include "src/text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_buf content, calls;
  aii_mem_init(&mem, NULL, 0);
  aii_buf_init(&content, &mem, 0);
  aii_buf_init(&calls, &mem, 0);
  aiinfra_status rc = aii_output_parse(&mem, (const char *)data, size, "hermes", &content, &calls, NULL);
  if (rc != AIINFRA_OK && calls.len != 0) abort();
  if (calls.len > 0) {
    json_t *json = NULL;
    if (aii_json_parse(calls.data, calls.len, "calls", 0, &json, NULL) != AIINFRA_OK || !json_is_array(json)) abort();
    json_decref(json);
  }
  aii_buf_free(&content);
  aii_buf_free(&calls);
  if (mem.used_bytes != 0) abort();
  return 0;
}
