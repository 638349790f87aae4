/* tokenize_fuzz.c - any bytes through SPM and byte-level BPE: the tokens print valid text that is the input's.
 *
 * The first byte picks the vocabulary and the pre-tokenizer, the rest is the text.
 */
#include <stdlib.h>

#include "tests/support/byte_vocab.h"

static aiinfra_status bpe_vocab(aii_mem *mem, const char *pre, aii_vocab **out)
{
  static char text[256][4];
  aii_str tokens[257], merges[2] = {{"a a", 3}, {"aa a", 4}};
  uint32_t other = 256;
  for (uint32_t b = 0; b < 256; b++) {
    bool same = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    tokens[b] = (aii_str){text[b], aii_utf8_encode(same ? b : other++, text[b])};
  }
  tokens[256] = (aii_str){"aa", 2};
  aii_vocab_desc desc = {.kind = AII_VOCAB_BPE,
                         .pre = pre,
                         .n_tokens = 257,
                         .tokens = tokens,
                         .n_merges = 2,
                         .merges = merges,
                         .bos = -1,
                         .eos = -1,
                         .unk = -1,
                         .eot = -1,
                         .eom = -1,
                         .pad = -1,
                         .add_bos = 0,
                         .add_eos = 0,
                         .add_space_prefix = 0};
  return aii_vocab_create(mem, &desc, out, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  static const char *const pres[] = {"default",      "gpt-2",          "llama-bpe",
                                     "qwen2",        "smollm",         "falcon",
                                     "deepseek-llm", "deepseek-coder", "deepseek-v3",
                                     "tekken",       "gpt-4o",         "qwen35",
                                     "bloom",        "viking",         "tiny_aya",
                                     "seed-coder",   "minicpm5",       "superbpe",
                                     "kimi-k2",      "laguna",         "jais-2",
                                     "youtu",        "exaone-moe",     "chameleon",
                                     "afmoe",        "bailingmoe",     "granite-embed-multi-97m"};
  aii_mem mem;
  aii_vocab *vocab = NULL;
  aii_tokens tokens;
  aii_buf out;
  if (size == 0) return 0;
  size_t which = data[0] % (AII_COUNT(pres) + 1);
  aii_mem_init(&mem, NULL, 0);
  aii_tokens_init(&tokens, &mem);
  aii_buf_init(&out, &mem, 0);
  aiinfra_status rc =
      which < AII_COUNT(pres) ? bpe_vocab(&mem, pres[which], &vocab) : byte_vocab(&mem, NULL, 0, &vocab);
  if (rc != AIINFRA_OK) abort();
  if (aii_tokenize(vocab, (const char *)data + 1, size - 1, 1, &tokens, NULL) != AIINFRA_OK) abort();
  aii_detok detok;
  aii_detok_init(&detok, vocab, true, true);
  for (size_t i = 0; i < tokens.n; i++) aii_detok_push(&detok, tokens.items[i], &out);
  aii_detok_finish(&detok, &out);
  if (!aii_utf8_valid(aii_buf_cstr(&out), out.len)) abort();
  bool text = aii_utf8_valid((const char *)data + 1, size - 1) && which < AII_COUNT(pres);
  if (text && (out.len != size - 1 || memcmp(aii_buf_cstr(&out), data + 1, out.len) != 0)) abort();
  aii_buf_free(&out);
  aii_tokens_free(&tokens);
  aii_vocab_free(vocab);
  if (mem.used_bytes != 0) abort();
  return 0;
}
