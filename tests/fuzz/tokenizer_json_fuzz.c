/* tokenizer_json_fuzz.c - any bytes as a tokenizer.json: refused, or a vocabulary that tokenizes and prints.
 *
 * What was read tokenizes a text of many kinds of characters, and its first bytes themselves; every token prints.
 */
#include <stdlib.h>

#include "src/text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char TEXT[] = "Hello, world's 123 <s>a</s>\t\n  e\xCC\x81\xC3\xA9 \xE4\xBD\xA0\xE5\xA5\xBD "
                           "\xF0\x9F\x91\x8D\xE2\x96\x81x \xFF\x80";

static void use(const aii_vocab *vocab, const char *text, size_t n, aii_mem *mem)
{
  aii_tokens tokens;
  aii_buf out;
  aii_detok detok;
  aii_tokens_init(&tokens, mem);
  aii_buf_init(&out, mem, 0);
  if (aii_tokenize(vocab, text, n, 3, &tokens, NULL) == AIINFRA_OK) {
    aii_detok_init(&detok, vocab, true, true);
    for (size_t i = 0; i < tokens.n; i++) {
      if (tokens.items[i] < 0 || (uint32_t)tokens.items[i] >= aii_vocab_size(vocab)) abort();
      aii_detok_push(&detok, tokens.items[i], &out);
    }
    aii_detok_finish(&detok, &out);
    if (!aii_utf8_valid(aii_buf_cstr(&out), out.len)) abort();
  }
  aii_buf_free(&out);
  aii_tokens_free(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_vocab *vocab = NULL;
  aiinfra_error err;
  aii_mem_init(&mem, NULL, (size_t)256 << 20);
  if (aii_vocab_from_hf_json(&mem, (const char *)data, size, NULL, &vocab, &err) == AIINFRA_OK) {
    use(vocab, TEXT, sizeof TEXT - 1, &mem);
    use(vocab, (const char *)data, size < 256 ? size : 256, &mem);
    aii_vocab_free(vocab);
  } else if (vocab != NULL) {
    abort();
  }
  if (mem.used_bytes != 0) abort();
  return 0;
}
