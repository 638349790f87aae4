/* test_tokenizer.c - the tokenizers against the published conformance strings of real vocabularies.
 *
 * Each vocabulary has 46 strings (.inp) and the ids that they must become (.out). The strings are also printed back
 * from their tokens. A run of a million equal characters must not take more than linear time.
 */
#include <setjmp.h>
#include <stdio.h>
#include <time.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "tests/support/gguf_vocab.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

static aii_mem mem;

static aii_vocab *load(const char *name)
{
  char path[128];
  snprintf(path, sizeof path, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf", name);
  if (test_data(path) == NULL) return NULL;
  gguf_vocab file;
  aiinfra_error err = {0};
  aii_vocab *vocab = NULL;
  assert_true(gguf_vocab_load(&file, test_data(path)));
  if (aii_vocab_create(&mem, &file.desc, &vocab, &err) != AIINFRA_OK) fail_msg("%s: %s", name, err.message);
  gguf_vocab_free(&file);
  return vocab;
}

static bool same_ids(const aii_tokens *tokens, const char *expected)
{
  char *end;
  for (size_t i = 0; i < tokens->n; i++) {
    if (strtol(expected, &end, 10) != tokens->items[i] || end == expected) return false;
    expected = end;
  }
  return strspn(expected, " \r") == strlen(expected);
}

/* The tokens print the text again; SPM adds one space in front. */
static bool prints_back(const aii_vocab *vocab, const aii_tokens *tokens, const char *text, size_t n)
{
  aii_buf out;
  aii_detok detok;
  aii_buf_init(&out, &mem, 0);
  aii_detok_init(&detok, vocab, true, true);
  for (size_t i = 0; i < tokens->n; i++) aii_detok_push(&detok, tokens->items[i], &out);
  aii_detok_finish(&detok, &out);
  bool same = out.len == n && memcmp(aii_buf_cstr(&out), text, n) == 0;
  aii_buf_free(&out);
  return same;
}

static void conform(const char *name, bool reversible)
{
  aii_vocab *vocab = load(name);
  if (vocab == NULL) test_skip("no shared data for %s", name);
  char path[128];
  snprintf(path, sizeof path, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf.inp", name);
  char *inp = test_read_file(test_data(path), NULL);
  snprintf(path, sizeof path, "tokenizers/ggml-vocab/ggml-vocab-%s.gguf.out", name);
  char *out = test_read_file(test_data(path), NULL);
  assert_true(inp != NULL && out != NULL);
  size_t cases = 0, wrong = 0;
  char *ids = out;
  for (char *text = inp; text != NULL; cases++) {
    char *end = strstr(text, SEPARATOR), *next = end != NULL ? end + strlen(SEPARATOR) : NULL;
    size_t n = end != NULL ? (size_t)(end - text) : strlen(text);
    char *line = strsep(&ids, "\n");
    assert_non_null(line);
    aii_tokens tokens;
    aii_tokens_init(&tokens, &mem);
    assert_int_equal(aii_tokenize(vocab, text, n, 0, &tokens, NULL), AIINFRA_OK);
    if (!same_ids(&tokens, line)) {
      print_message("%s, string %zu: expected \"%s\", got", name, cases, line);
      for (size_t i = 0; i < tokens.n; i++) print_message(" %d", tokens.items[i]);
      print_message("\n");
      wrong++;
    }
    if (reversible && !prints_back(vocab, &tokens, text, n)) {
      print_message("%s, string %zu is not printed back\n", name, cases);
      wrong++;
    }
    aii_tokens_free(&tokens);
    text = next;
  }
  print_message("%s: %zu strings, %zu wrong\n", name, cases, wrong);
  free(inp);
  free(out);
  aii_vocab_free(vocab);
  assert_true(cases >= 46); /* the file ends with an empty one */
  assert_int_equal(wrong, 0);
  assert_int_equal(mem.used_bytes, 0);
}

static void llama_spm(void **state)
{
  (void)state;
  conform("llama-spm", true);
}
static void gpt_2(void **state)
{
  (void)state;
  conform("gpt-2", true);
}
static void falcon(void **state)
{
  (void)state;
  conform("falcon", true);
}
static void deepseek_llm(void **state)
{
  (void)state;
  conform("deepseek-llm", true);
}
static void phi_3(void **state)
{
  (void)state;
  conform("phi-3", true);
}

static void bert_bge(void **state)
{
  (void)state;
  conform("bert-bge", false);
}

/* Processor time of this thread to tokenize n bytes of one repeated unit; checks that the text comes back. */
static double seconds_for(const aii_vocab *vocab, const char *unit, size_t n, bool prints)
{
  struct timespec from, to;
  size_t len = strlen(unit);
  char *text = malloc(n + 1);
  aii_tokens tokens;
  n = n / len * len;
  for (size_t i = 0; i < n; i += len) memcpy(text + i, unit, len);
  text[n] = 'x';
  aii_tokens_init(&tokens, &mem);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
  assert_int_equal(aii_tokenize(vocab, text, n + 1, 1, &tokens, NULL), AIINFRA_OK);
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
  assert_true(!prints || prints_back(vocab, &tokens, text, n + 1));
  aii_tokens_free(&tokens);
  free(text);
  return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
}

/* Sixteen times the text may take sixteen times as long, and some; quadratic work would take 256 times. */
static void linear_time(void **state)
{
  static const char *const names[] = {"llama-spm", "gpt-2", "falcon", "deepseek-llm"};
  static const char *const runs[] = {"a",  " ",       "\n", "1", "!", "\xE2\x96\x81", "\xF0\x9F\x99\x82",
                                     "' ", "\t\r\n ", "<|"};
  enum { LONG = 1000000, SHORT = LONG / 16 };
  (void)state;
  for (size_t v = 0; v < AII_COUNT(names); v++) {
    aii_vocab *vocab = load(names[v]);
    if (vocab == NULL) test_skip("no shared data");
    for (size_t r = 0; r < AII_COUNT(runs); r++) {
      bool prints = v != 0 || r != 5; /* SPM cannot tell U+2581 from a space */
      double few = seconds_for(vocab, runs[r], SHORT, prints), many = seconds_for(vocab, runs[r], LONG, prints);
      print_message("%s, run %zu: %.4f s and %.3f s\n", names[v], r, few, many);
      assert_true(many < 80 * (few + 0.002));
    }
    aii_vocab_free(vocab);
  }
}

static void loads_others(void **state)
{
  (void)state;
  aii_vocab *vocab = load("baichuan");
  if (vocab == NULL) test_skip("no shared data");
  aii_vocab_free(vocab);
  aii_vocab_free(load("gpt-neox"));
  assert_int_equal(mem.used_bytes, 0);
}

int main(void)
{
  aii_mem_init(&mem, NULL, 0);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(llama_spm),    cmocka_unit_test(gpt_2),       cmocka_unit_test(falcon),
      cmocka_unit_test(deepseek_llm), cmocka_unit_test(phi_3),       cmocka_unit_test(bert_bge),
      cmocka_unit_test(loads_others), cmocka_unit_test(linear_time),
  };
  if (test_data("tokenizers/ggml-vocab/ggml-vocab-gpt-2.gguf") == NULL) return test_skip_all("no shared data");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
