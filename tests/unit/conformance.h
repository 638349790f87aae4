/* conformance.h - the published conformance strings of real vocabularies, against any vocabulary built from them.
 *
 * A pair of files of the shared data: .inp holds 46 strings between separators, .out the tokens that each must become,
 * a line each. Everything is static, so that a test needs no further source file.
 */
#ifndef AIINFRA_TESTS_CONFORMANCE_H
#define AIINFRA_TESTS_CONFORMANCE_H

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "src/text/text.h"
#include "tests/support/support.h"

#define CONFORMANCE_SEPARATOR "\n__ggml_vocab_test__\n"

static bool same_ids(const aii_tokens *tokens, const char *expected)
{
  char *end;
  for (size_t i = 0; i < tokens->n; i++) {
    if (strtol(expected, &end, 10) != tokens->items[i] || end == expected) return false;
    expected = end;
  }
  return strspn(expected, " \r") == strlen(expected);
}

/* Do the tokens print the text again? */
static bool prints_back(const aii_vocab *vocab, const aii_tokens *tokens, const char *text, size_t n)
{
  aii_buf out;
  aii_detok detok;
  aii_buf_init(&out, tokens->mem, 0);
  aii_detok_init(&detok, vocab, true, true);
  for (size_t i = 0; i < tokens->n; i++) aii_detok_push(&detok, tokens->items[i], &out);
  aii_detok_finish(&detok, &out);
  bool same = out.len == n && memcmp(aii_buf_cstr(&out), text, n) == 0;
  aii_buf_free(&out);
  return same;
}

/* The two files of a name, wherever they lie; false: not there. */
static bool conformance_files(const char *name, char **inp, char **out)
{
  static const char *const folders[] = {"ggml-vocab", "ggml-vocab-expected-only"};
  char path[160];
  *inp = *out = NULL;
  for (size_t i = 0; i < AII_COUNT(folders) && *inp == NULL; i++) {
    snprintf(path, sizeof path, "tokenizers/%s/ggml-vocab-%s.gguf.inp", folders[i], name);
    if (test_data(path) == NULL) continue;
    *inp = test_read_file(test_data(path), NULL);
    memcpy(strrchr(path, '.'), ".out", 4);
    *out = test_data(path) != NULL ? test_read_file(test_data(path), NULL) : NULL;
  }
  return *inp != NULL && *out != NULL;
}

/* How many strings are wrong; each is told of. */
static size_t conformance_wrong(const aii_vocab *vocab, aii_mem *mem, const char *name, bool reversible)
{
  char *inp, *out;
  if (!conformance_files(name, &inp, &out)) test_skip("no conformance strings for %s", name);
  size_t cases = 0, wrong = 0;
  char *ids = out;
  for (char *text = inp; text != NULL; cases++) {
    char *end = strstr(text, CONFORMANCE_SEPARATOR), *next = end != NULL ? end + strlen(CONFORMANCE_SEPARATOR) : NULL;
    size_t n = end != NULL ? (size_t)(end - text) : strlen(text);
    char *line = strsep(&ids, "\n");
    assert_non_null(line);
    aii_tokens tokens;
    aii_tokens_init(&tokens, mem);
    assert_int_equal(aii_tokenize(vocab, text, n, 0, &tokens, NULL), AIINFRA_OK);
    if (!same_ids(&tokens, line)) {
      print_message("%s, string %zu: expected \"%s\", got", name, cases, line);
      for (size_t i = 0; i < tokens.n; i++) print_message(" %d", tokens.items[i]);
      print_message("\n");
      wrong++;
    } else if (reversible && !prints_back(vocab, &tokens, text, n)) {
      print_message("%s, string %zu is not printed back\n", name, cases);
      wrong++;
    }
    aii_tokens_free(&tokens);
    text = next;
  }
  print_message("%s: %zu strings, %zu wrong\n", name, cases, wrong);
  free(inp);
  free(out);
  assert_true(cases >= 46); /* the file ends with an empty one */
  return wrong;
}

#endif
