/* schema_fuzz.c - any JSON Schema: it is refused with a message or becomes a grammar that can start; as a tool's
 * parameters, too, in the ways that formats write arguments. */
#include <stdlib.h>

#include "tests/support/byte_vocab.h"

static aiinfra_status of_tool(aii_mem *mem, const char *schema, size_t size, aii_grammar **grammar, aiinfra_error *err)
{
  static const char *const formats[] = {"qwen3-coder", "lfm2", "gemma-4", "minimax-m3", "deepseek-dsml", "hermes"};
  aii_buf tools;
  aii_buf_init(&tools, mem, 0);
  aii_buf_fmt(&tools, "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":%s}}]", schema);
  aii_tool_grammar_opts opts = {.tools_json = aii_buf_cstr(&tools),
                                .syntax = {.format = aii_output_format(formats[size % AII_COUNT(formats)])}};
  aiinfra_status rc = aii_grammar_from_tools(mem, &opts, grammar, err);
  aii_buf_free(&tools);
  return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_vocab *vocab = NULL;
  aii_grammar *grammar = NULL;
  aii_grammar_state *state = NULL;
  aiinfra_error err = {0};
  aii_mem_init(&mem, NULL, 256u << 20);
  char *text = calloc(size + 1, 1);
  if (text == NULL) return 0;
  memcpy(text, data, size);
  if (aii_grammar_from_schema(&mem, text, &grammar, &err) != AIINFRA_OK) {
    if (err.message[0] == '\0' || grammar != NULL) abort();
  } else if (byte_vocab(&mem, NULL, 0, &vocab) == AIINFRA_OK) {
    (void)aii_grammar_start(&mem, grammar, vocab, &state, NULL);
  }
  aii_grammar_state_free(state);
  aii_grammar_free(grammar);
  err.message[0] = '\0';
  if (of_tool(&mem, text, size, &grammar, &err) != AIINFRA_OK && (err.message[0] == '\0' || grammar != NULL)) abort();
  aii_grammar_free(grammar);
  aii_vocab_free(vocab);
  free(text);
  if (mem.used_bytes != 0) abort();
  return 0;
}
