/* tokenize_tool.c - the tokenizers over a pipe, for comparison with other implementations.
 *
 * tokenize_tool hf tokenizer.json [tokenizer_config.json]
 *               tiktoken file.tiktoken pre | sentencepiece tokenizer.model | wordpiece vocab.txt
 *
 * Reads requests from standard input: 'e' (with the tokens around a text) or 'p' (without), u32 length, text; answers
 * u32 number of tokens, the tokens as i32, u32 length and text printed back. A text that fails is answered with
 * UINT32_MAX, u32 length and the message.
 */
#include <stdio.h>
#include <stdlib.h>

#include "src/text/text.h"
#include "tests/support/support.h"

static aii_mem mem;

static void put_u32(uint32_t v)
{
  fwrite(&v, sizeof v, 1, stdout);
}

static void answer(const aii_vocab *vocab, const char *text, uint32_t n, bool around)
{
  aii_tokens tokens;
  aii_buf out;
  aii_detok detok;
  aiinfra_error err = {0};
  aii_tokens_init(&tokens, &mem);
  aii_buf_init(&out, &mem, 0);
  if (aii_tokenize(vocab, text, n, around ? 3 : 1, &tokens, &err) != AIINFRA_OK) {
    put_u32(UINT32_MAX);
    aii_buf_str(&out, err.message);
  } else {
    put_u32((uint32_t)tokens.n);
    fwrite(tokens.items, sizeof *tokens.items, tokens.n, stdout);
    aii_detok_init(&detok, vocab, true, true);
    for (size_t i = 0; i < tokens.n; i++) aii_detok_push(&detok, tokens.items[i], &out);
    aii_detok_finish(&detok, &out);
  }
  put_u32((uint32_t)out.len);
  fwrite(aii_buf_cstr(&out), 1, out.len, stdout);
  aii_buf_free(&out);
  aii_tokens_free(&tokens);
}

static aiinfra_status load(char **argv, aii_vocab **vocab, aiinfra_error *err)
{
  size_t n = 0;
  aii_vocab_extras extras = {0};
  char *file = test_read_file(argv[2], &n);
  char *config = strcmp(argv[1], "hf") == 0 && argv[3] != NULL ? test_read_file(argv[3], &extras.config.n) : NULL;
  extras.config.p = config;
  aiinfra_status rc = AIINFRA_EINVAL;
  if (file == NULL) {
    fprintf(stderr, "cannot read %s\n", argv[2]);
  } else if (strcmp(argv[1], "hf") == 0) {
    rc = aii_vocab_from_hf_json(&mem, file, n, &extras, vocab, err);
  } else if (strcmp(argv[1], "tiktoken") == 0) {
    rc = aii_vocab_from_tiktoken(&mem, file, n, argv[3], NULL, vocab, err);
  } else if (strcmp(argv[1], "sentencepiece") == 0) {
    rc = aii_vocab_from_sentencepiece(&mem, file, n, NULL, vocab, err);
  } else if (strcmp(argv[1], "wordpiece") == 0) {
    rc = aii_vocab_from_wordpiece(&mem, file, n, NULL, vocab, err);
  }
  free(config);
  free(file);
  return rc;
}

int main(int argc, char **argv)
{
  aii_vocab *vocab = NULL;
  aiinfra_error err = {0};
  int mode;
  uint32_t n;
  aii_mem_init(&mem, NULL, 0);
  if (argc < 3) return 2;
  if (load(argv, &vocab, &err) != AIINFRA_OK) {
    fprintf(stderr, "%s\n", err.message);
    return 1;
  }
  while ((mode = getchar()) != EOF && fread(&n, sizeof n, 1, stdin) == 1) {
    char *text = malloc((size_t)n + 1);
    if (text == NULL || fread(text, 1, n, stdin) != n) return 1;
    answer(vocab, text, n, mode == 'e');
    free(text);
  }
  aii_vocab_free(vocab);
  return mem.used_bytes != 0;
}
