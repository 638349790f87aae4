/* test_tokenizer.c - the tokenizers against the published conformance strings of real vocabularies.
 *
 * Each vocabulary has 46 strings (.inp) and the ids that they must become (.out). The strings are also printed back
 * from their tokens. A run of a million equal characters must not take more than linear time.
 */
#include <time.h>

#include "tests/support/gguf_vocab.h"
#include "tests/unit/conformance.h"

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

/* Every name that has conformance strings and a vocabulary in this form somewhere; what is not here is skipped. */
static void conform(void **state)
{
  const char *name = *state;
  aii_vocab *vocab = load(name);
  if (vocab == NULL) test_skip("no shared data for %s", name);
  bool reversible = strcmp(name, "bert-bge") != 0;
  size_t wrong = conformance_wrong(vocab, &mem, name, reversible);
  aii_vocab_free(vocab);
  assert_int_equal(wrong, 0);
  assert_int_equal(mem.used_bytes, 0);
}

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Processor time of this thread to tokenize a text; checks that it comes back. */
static double seconds_for(const aii_vocab *vocab, const char *text, size_t n, bool prints)
{
  aii_tokens tokens;
  aii_tokens_init(&tokens, &mem);
  double from = now();
  aiinfra_status rc = aii_tokenize(vocab, text, n, 1, &tokens, NULL);
  double seconds = now() - from;
  assert_true(rc == AIINFRA_OK ||
              (!prints && rc == AIINFRA_EINVAL)); /* some have no token for bytes that no UTF-8 has */
  assert_true(!prints || prints_back(vocab, &tokens, text, n));
  aii_tokens_free(&tokens);
  return seconds;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LONG = 160000 }; /* sanitizers look at every step */
#else
enum { LONG = 1000000 };
#endif
enum { TIMES = 16 };

/* n bytes of a repeated unit; of random bytes or random marks for the units "random" and "marks". */
static void fill(char *text, size_t n, const char *unit)
{
  unsigned long long state = 1;
  size_t len = strlen(unit);
  bool random = strcmp(unit, "random") == 0, marks = strcmp(unit, "marks") == 0;
  for (size_t i = 0; i < n; i++) {
    text[i] = random ? (char)test_random(&state) : unit[i % len];
    if (marks) text[i] = i % 2 == 0 ? '\xCC' : (char)(0x80 + test_random(&state) % 64);
  }
}

/* Sixteen times the text may take sixteen times as long, and some; quadratic work would take 256 times. */
static void check_linear(const aii_vocab *vocab, const char *name, const char *unit, size_t longest, bool prints)
{
  size_t len = strcmp(unit, "marks") == 0 ? 2 : strlen(unit), n = longest / (16 * len) * (16 * len);
  if (strcmp(unit, "random") == 0) prints = false;
  char *text = malloc(n);
  assert_non_null(text);
  fill(text, n, unit);
  bool linear = false;
  for (int attempt = 0; attempt < 3 && !linear; attempt++) { /* another program may have had the caches */
    double few = seconds_for(vocab, text, n / TIMES, prints), many = seconds_for(vocab, text, n, prints);
    linear = many < 8 * TIMES * (few + 0.002);
    if (!linear) print_message("%s, \"%s\": %.4f s and %.3f s\n", name, unit, few, many);
  }
  assert_true(linear);
  free(text);
}

static void linear_time(void **state)
{
  static const char *const names[] = {"llama-spm", "gpt-2", "falcon", "deepseek-llm", "bert-bge"};
  static const char *const units[] = {"a",  " ",       "\n", "1",      "!",    "\xE2\x96\x81", "\xF0\x9F\x99\x82",
                                      "' ", "\t\r\n ", "<|", "random", "marks"};
  (void)state;
  for (size_t v = 0; v < AII_COUNT(names); v++) {
    aii_vocab *vocab = load(names[v]);
    if (vocab == NULL) test_skip("no shared data");
    for (size_t u = 0; u < AII_COUNT(units); u++) {
      bool meta = strcmp(units[u], "\xE2\x96\x81") == 0; /* SPM cannot tell U+2581 from a space */
      check_linear(vocab, names[v], units[u], u < 2 ? LONG : LONG / 8, v != 4 && (v != 0 || !meta));
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
#define CONFORM(name)                                  \
  {                                                    \
    name, conform, NULL, NULL, (void *)(uintptr_t)name \
  }
  const struct CMUnitTest tests[] = {
      CONFORM("llama-spm"),
      CONFORM("gpt-2"),
      CONFORM("falcon"),
      CONFORM("deepseek-llm"),
      CONFORM("phi-3"),
      CONFORM("bert-bge"),
      CONFORM("command-r"),
      CONFORM("deepseek-coder"),
      CONFORM("gemma-4"),
      CONFORM("llama-bpe"),
      CONFORM("mpt"),
      CONFORM("qwen2"),
      CONFORM("qwen35"),
      CONFORM("refact"),
      CONFORM("starcoder"),
      cmocka_unit_test(loads_others),
      cmocka_unit_test(linear_time),
  };
  if (test_data("tokenizers/ggml-vocab/ggml-vocab-gpt-2.gguf") == NULL) return test_skip_all("no shared data");
  return cmocka_run_group_tests(tests, NULL, NULL);
}
