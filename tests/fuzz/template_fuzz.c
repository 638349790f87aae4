/* template_fuzz.c - any template source: parsing and rendering end, with text or an error, and leak nothing. */
#include <assert.h>
#include <stdlib.h>

#include "src/text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_template *tmpl = NULL;
  aii_template_vars vars = {
      .messages_json =
          "[{\"role\":\"user\",\"content\":\"Hi\"},{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]",
      .tools_json = "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}]",
      .extra_json = "{\"n\":3}",
      .bos_token = "<s>",
      .eos_token = "</s>",
      .add_generation_prompt = true};
  aiinfra_error err = {0};
  aii_mem_init(&mem, NULL, 128u << 20);
  if (aii_template_parse(&mem, (const char *)data, size, &tmpl, &err) == AIINFRA_OK) {
    aii_buf out;
    aii_buf_init(&out, &mem, 0);
    if (aii_template_render(tmpl, &vars, &out, &err) != AIINFRA_OK && err.message[0] == '\0') abort();
    aii_buf_free(&out);
  }
  aii_template_free(tmpl);
  if (mem.used_bytes != 0) abort();
  return 0;
}
