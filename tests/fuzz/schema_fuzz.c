/* schema_fuzz.c - any JSON Schema: it is refused with a message or becomes a grammar that can start. */
#include <stdlib.h>

#include "tests/support/byte_vocab.h"

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
  aii_vocab_free(vocab);
  free(text);
  if (mem.used_bytes != 0) abort();
  return 0;
}
