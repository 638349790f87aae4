/* test_tokenizer.c - memory runs out while a vocabulary is read, while text is tokenized and while tokens print.
 *
 * The files are the small ones that the fuzz targets start from: together they have every kind of model and step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "src/text/text.h"
#include "tests/support/support.h"
#include "tests/torture/torture.h"

typedef struct file {
  const char *name;
  char *bytes;
  size_t n;
} file;

static aiinfra_status read_vocab(aii_mem *mem, const file *f, aii_vocab **out, aiinfra_error *err)
{
  const char *bytes = f->bytes + 1; /* corpus/vocab_files: the first byte is the reader */
  size_t n = f->n - 1;
  if (f->bytes[0] == '{') return aii_vocab_from_hf_json(mem, f->bytes, f->n, NULL, out, err);
  if (f->bytes[0] == 0) return aii_vocab_from_tiktoken(mem, bytes, n, "gpt-4o", NULL, out, err);
  if (f->bytes[0] == 1) return aii_vocab_from_sentencepiece(mem, bytes, n, NULL, out, err);
  return aii_vocab_from_wordpiece(mem, bytes, n, NULL, out, err);
}

static aiinfra_status use(void *ctx)
{
  static const char text[] = "hello  world's 123 <s> e\xCC\x81\xCC\xA3 \xC3\xA9 \xE4\xBD\xA0 "
                             "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
  aii_mem mem;
  aii_vocab *vocab;
  aii_tokens tokens;
  aii_buf out;
  aii_detok detok;
  aiinfra_error err = {0};
  aii_mem_init(&mem, torture_allocator(), 0);
  aiinfra_status rc = torture_made(read_vocab(&mem, ctx, &vocab, &err), &vocab, "vocabulary");
  if (rc != AIINFRA_OK) {
    torture_check(err.status == rc && err.message[0] != 0, "the error is told");
    return rc;
  }
  aii_tokens_init(&tokens, &mem);
  aii_buf_init(&out, &mem, 0);
  rc = aii_tokenize(vocab, text, sizeof text - 1, 3, &tokens, &err);
  if (rc != AIINFRA_OK) torture_check(tokens.n == 0, "no tokens on failure");
  aii_detok_init(&detok, vocab, true, true);
  for (size_t i = 0; i < tokens.n; i++) aii_detok_push(&detok, tokens.items[i], &out);
  aii_detok_finish(&detok, &out);
  if (rc == AIINFRA_OK && out.failed) rc = AIINFRA_ENOMEM;
  aii_buf_free(&out);
  aii_tokens_free(&tokens);
  aii_vocab_free(vocab);
  return rc;
}

static void every_file(void **state)
{
  static file files[] = {
      {.name = "tokenizer_json/bpe"},   {.name = "tokenizer_json/bytes"},   {.name = "tokenizer_json/wordpiece"},
      {.name = "tokenizer_json/words"}, {.name = "tokenizer_json/unigram"}, {.name = "vocab_files/tiktoken"},
      {.name = "vocab_files/sp_bpe"},   {.name = "vocab_files/sp_unigram"}, {.name = "vocab_files/vocab_txt"}};
  (void)state;
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    char path[96];
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", files[i].name);
    files[i].bytes = test_read_file(test_path(path), &files[i].n);
    assert_non_null(files[i].bytes);
    assert_int_equal(torture_run(files[i].name, use, &files[i], NULL), 0);
    free(files[i].bytes);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(every_file)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
