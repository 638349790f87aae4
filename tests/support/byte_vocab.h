/* byte_vocab.h - a small vocabulary for grammar tests: the 256 bytes, some longer pieces, and an end token.
 *
 * Token b is the byte b, token 256 ends generation, those behind are the given texts.
 */
#ifndef AIINFRA_TESTS_BYTE_VOCAB_H
#define AIINFRA_TESTS_BYTE_VOCAB_H

#include <stdio.h>

#include "src/text/text.h"

enum { BYTE_VOCAB_END = 256, BYTE_VOCAB_MAX = 300 };

static aiinfra_status byte_vocab(aii_mem *mem, const char *const *extra, size_t n_extra, aii_vocab **out)
{
  static char names[256][8];
  aii_str tokens[BYTE_VOCAB_MAX];
  int32_t types[BYTE_VOCAB_MAX];
  for (int b = 0; b < 256; b++) {
    snprintf(names[b], sizeof names[b], "<0x%02X>", b);
    tokens[b] = (aii_str){names[b], 6};
    types[b] = AII_TOKEN_BYTE;
  }
  tokens[256] = (aii_str){"<end>", 5};
  types[256] = AII_TOKEN_CONTROL;
  for (size_t i = 0; i < n_extra; i++) {
    tokens[257 + i] = (aii_str){extra[i], strlen(extra[i])};
    types[257 + i] = AII_TOKEN_NORMAL;
  }
  aii_vocab_desc desc = {.kind = AII_VOCAB_SPM,
                         .n_tokens = (uint32_t)(257 + n_extra),
                         .tokens = tokens,
                         .types = types,
                         .bos = -1,
                         .eos = 256,
                         .unk = -1,
                         .eot = -1,
                         .eom = -1,
                         .pad = -1,
                         .add_bos = 0,
                         .add_eos = 0,
                         .add_space_prefix = 0};
  return aii_vocab_create(mem, &desc, out, NULL);
}

#endif
