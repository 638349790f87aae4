/* vocab_files_fuzz.c - any bytes as a tiktoken file, a SentencePiece model or a vocab.txt: refused, or it tokenizes.
 *
 * The first byte picks the reader, the rest is the file.
 */
#include <stdlib.h>

#include "src/text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char TEXT[] = "Hello  world's 123 <s>\n e\xCC\x81 \xE4\xBD\xA0\xF0\x9F\x91\x8D\xE2\x96\x81x \xFF";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_vocab *vocab = NULL;
  aii_tokens tokens;
  aiinfra_status rc;
  if (size == 0) return 0;
  const char *file = (const char *)data + 1;
  aii_mem_init(&mem, NULL, (size_t)256 << 20);
  aii_tokens_init(&tokens, &mem);
  switch (data[0] % 3) {
    case 0: rc = aii_vocab_from_tiktoken(&mem, file, size - 1, "gpt-4o", NULL, &vocab, NULL); break;
    case 1: rc = aii_vocab_from_sentencepiece(&mem, file, size - 1, NULL, &vocab, NULL); break;
    default: rc = aii_vocab_from_wordpiece(&mem, file, size - 1, NULL, &vocab, NULL); break;
  }
  if ((rc == AIINFRA_OK) != (vocab != NULL)) abort();
  if (vocab != NULL && aii_tokenize(vocab, TEXT, sizeof TEXT - 1, 3, &tokens, NULL) == AIINFRA_OK) {
    for (size_t i = 0; i < tokens.n; i++) {
      if (tokens.items[i] < 0 || (uint32_t)tokens.items[i] >= aii_vocab_size(vocab)) abort();
    }
  }
  aii_tokens_free(&tokens);
  aii_vocab_free(vocab);
  if (mem.used_bytes != 0) abort();
  return 0;
}
