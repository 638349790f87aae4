/* test_chunker.c - documents cut into passages: headings, paragraphs, code, and no byte lost or made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/memory/memory.h"
#include "support/support.h"

typedef struct want {
  const char *text, *headings;
} want;

static void check(const char *text, size_t max, bool markdown, const want *wants, size_t n)
{
  aii_chunker chunker;
  aii_chunk chunk;
  size_t i = 0;
  aii_chunker_init(&chunker, text, strlen(text), max, markdown);
  for (; aii_chunker_next(&chunker, &chunk); i++) {
    if (i == n) fail_msg("one too many: '%.*s'", (int)chunk.n, text + chunk.first);
    if (chunk.n != strlen(wants[i].text) || memcmp(text + chunk.first, wants[i].text, chunk.n) != 0) {
      fail_msg("passage %zu is '%.*s', not '%s'", i, (int)chunk.n, text + chunk.first, wants[i].text);
    }
    assert_string_equal(chunk.headings, wants[i].headings);
  }
  assert_int_equal(i, n);
}
#define CHECK(text, max, markdown, ...)                                      \
  do {                                                                       \
    const want wants[] = {__VA_ARGS__};                                      \
    check((text), (max), (markdown), wants, sizeof wants / sizeof wants[0]); \
  } while (0)

static void test_headings(void **state)
{
  (void)state;
  CHECK("Before.\n\n# One\n\nA.\n\nB.\n\n## Two ##\nC.\n\n### Three\n\n# Four\nD.", 600, true, {"Before.", ""},
        {"A.\n\nB.", "One"}, {"C.", "One > Two"}, {"D.", "Four"});
  CHECK("#no\n\n    # code\n\n####### seven\n\n#\n\nE.", 600, true, {"#no\n\n    # code\n\n####### seven", ""},
        {"E.", ""});
  CHECK("# C#\n\nF.", 600, true, {"F.", "C#"});
  CHECK("# not markdown\n\nG.", 600, false, {"# not markdown\n\nG.", ""});
  CHECK("### Deep first\n\nH.\n\n# Top\n\nI.", 600, true, {"H.", "Deep first"}, {"I.", "Top"});
  CHECK("# A\r\n\r\nJ.\r\n\r\nK.\r\n", 600, true, {"J.\r\n\r\nK.", "A"});
}

static void test_lengths(void **state)
{
  (void)state;
  CHECK("One two three.\n\nFour five six.\n\nSeven.", 32, true, {"One two three.\n\nFour five six.", ""},
        {"Seven.", ""});
  CHECK("First sentence. Second one here.", 20, true, {"First sentence.", ""}, {"Second one here.", ""});
  CHECK("line one\nline two\nline three", 20, true, {"line one\nline two", ""}, {"line three", ""});
  CHECK("abcdefghijklmnopqrstuvwxyz", 16, true, {"abcdefghijklmnop", ""}, {"qrstuvwxyz", ""});
  CHECK("\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4x\xC3\xA4", 16, true,
        {"\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4\xC3\xA4x", ""}, {"\xC3\xA4", ""});
}

static void test_code(void **state)
{
  (void)state;
  CHECK("# A\n\n```sh\n# no heading\n\nls\n```\n\n# B\n\nC.", 600, true, {"```sh\n# no heading\n\nls\n```", "A"},
        {"C.", "B"});
  CHECK("```\n# one two three\n\n# four five six\n```\n# D\nE.", 20, true, {"```\n# one two three", ""},
        {"# four five six\n```", ""}, {"E.", "D"});
  CHECK("```\nnever closed\n\n# X", 600, true, {"```\nnever closed\n\n# X", ""});
}

static void test_nothing(void **state)
{
  aii_chunker chunker;
  aii_chunk chunk;
  static const char *const nothing[] = {"", "\n\n", "  \t\r\n ", "# Only\n\n## Headings\n", "#"};
  (void)state;
  for (size_t i = 0; i < AII_COUNT(nothing); i++) {
    aii_chunker_init(&chunker, nothing[i], strlen(nothing[i]), 600, true);
    assert_false(aii_chunker_next(&chunker, &chunk));
    assert_false(aii_chunker_next(&chunker, &chunk));
  }
}

/* Random documents: passages ascend, keep to the bound, are UTF-8, and hold every byte that is no space or heading. */
static void test_random_documents(void **state)
{
  static const char *const parts[] = {"word ",       "End. ", "\n",       "\n\n",         "# Head\n",
                                      "## H2\n",     "```\n", "\xC3\xA9", "\xE4\xB8\xAD", "- item\n",
                                      "| a | b |\n", "x",     "        ", "~~~\n"};
  unsigned long long seed = test_seed();
  (void)state;
  for (int round = 0; round < 3000; round++) {
    char text[4096];
    size_t n = 0, last = 0, n_parts = test_random(&seed) % 120, max = 16 + test_random(&seed) % 100;
    bool markdown = test_random(&seed) % 2 == 0;
    for (size_t i = 0; i < n_parts; i++) {
      const char *part = parts[test_random(&seed) % AII_COUNT(parts)];
      memcpy(text + n, part, strlen(part));
      n += strlen(part);
    }
    aii_chunker chunker;
    aii_chunk chunk;
    aii_chunker_init(&chunker, text, n, max, markdown);
    while (aii_chunker_next(&chunker, &chunk)) {
      assert_true(chunk.first >= last && chunk.n > 0 && chunk.n <= max && chunk.first + chunk.n <= n);
      assert_true(aii_utf8_valid(text + chunk.first, chunk.n));
      for (size_t i = last; i < chunk.first; i++) {
        assert_true(strchr(markdown ? " \t\r\n#Head2" : " \t\r\n", text[i]) != NULL);
      }
      last = chunk.first + chunk.n;
    }
    for (size_t i = last; i < n; i++) assert_true(strchr(markdown ? " \t\r\n#Head2" : " \t\r\n", text[i]) != NULL);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_headings), cmocka_unit_test(test_lengths),          cmocka_unit_test(test_code),
      cmocka_unit_test(test_nothing),  cmocka_unit_test(test_random_documents),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
