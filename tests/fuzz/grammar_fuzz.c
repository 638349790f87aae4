/* grammar_fuzz.c - any GBNF text: it is refused, or a short walk over allowed tokens never gets stuck. */
#include <math.h>
#include <stdlib.h>

#include "tests/support/byte_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_vocab *vocab = NULL;
  aii_grammar *grammar = NULL;
  aii_grammar_state *state = NULL;
  aii_mem_init(&mem, NULL, 256u << 20);
  char *text = calloc(size + 1, 1);
  if (text == NULL) return 0;
  memcpy(text, data, size);
  static const char *const extra[] = {"ab", "\"}", "1, "};
  if (byte_vocab(&mem, extra, 3, &vocab) == AIINFRA_OK &&
      aii_grammar_from_gbnf(&mem, text, NULL, &grammar, NULL) == AIINFRA_OK &&
      aii_grammar_start(&mem, grammar, vocab, &state, NULL) == AIINFRA_OK) {
    for (size_t i = 0; i < 16; i++) {
      float logits[BYTE_VOCAB_MAX] = {0};
      if (aii_grammar_mask(state, logits, NULL) != AIINFRA_OK) break;
      size_t n = aii_vocab_size(vocab), token = size > 0 ? data[i % size] : 0;
      for (size_t k = 0; k < n && isinf(logits[token]); k++) token = (token + 1) % n;
      if (isinf(logits[token])) abort(); /* at least one token stays */
      if (aii_grammar_accept(state, (aiinfra_token)token, NULL) != AIINFRA_OK) abort();
    }
  }
  aii_grammar_state_free(state);
  aii_grammar_free(grammar);
  aii_vocab_free(vocab);
  free(text);
  if (mem.used_bytes != 0) abort();
  return 0;
}
