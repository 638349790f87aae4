/* quote_fuzz.c - any sources to quote: they are refused, or a walk over allowed tokens that begins with their own words
 * never gets stuck. The input is the JSON of the sources, then a NUL and bytes that choose.
 */
#include <math.h>
#include <stdlib.h>

#include "tests/support/byte_vocab.h"

enum { STEPS = 64 };

/* Where the text of the first source begins. */
static size_t begins(const char *json)
{
  const char *text = strchr(json, '"');
  return text != NULL ? (size_t)(text + 1 - json) : strlen(json);
}

static void walk(aii_quote *q, const aii_vocab *vocab, const char *json, const uint8_t *choices, size_t n_choices)
{
  size_t n = aii_vocab_size(vocab), at = begins(json), end = strlen(json);
  for (size_t i = 0; i < STEPS; i++) {
    float logits[BYTE_VOCAB_MAX] = {0};
    aii_quote_mask(q, logits);
    size_t token = i < AII_QUOTE_FROM && at < end ? (uint8_t)json[at++] : n_choices > 0 ? choices[i % n_choices] : 0;
    for (size_t k = 0; k < n && isinf(logits[token]); k++) token = (token + 1) % n;
    if (isinf(logits[token])) abort(); /* at least one token stays */
    if (aii_quote_accept(q, (aiinfra_token)token, NULL) != AIINFRA_OK) abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const extra[] = {". [", "] ", ". A"};
  aii_mem mem;
  aii_vocab *vocab = NULL;
  aii_quote *q = NULL;
  aii_mem_init(&mem, NULL, 256u << 20);
  char *text = calloc(size + 1, 1);
  if (text == NULL) return 0;
  memcpy(text, data, size);
  size_t n = strlen(text), from = n < size ? n + 1 : size;
  if (byte_vocab(&mem, extra, 3, &vocab) == AIINFRA_OK && aii_quote_create(&mem, vocab, text, &q, NULL) == AIINFRA_OK) {
    walk(q, vocab, text, data + from, size - from);
  }
  aii_quote_free(q);
  aii_vocab_free(vocab);
  free(text);
  if (mem.used_bytes != 0) abort();
  return 0;
}
