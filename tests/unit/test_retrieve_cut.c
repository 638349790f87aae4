/* test_retrieve_cut.c - documents cut into passages: headings, paragraphs, code, and no byte lost or made up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/retrieve/retrieve.h"
#include "support/support.h"

typedef struct want {
  const char *text, *headings;
} want;

static aii_mem mem;

/* A loaded document of this text: Markdown, code, or plain. */
static void load(aii_loaded *doc, const char *text, size_t n, const char *name)
{
  aiinfra_error err;
  aii_loaded_init(doc, &mem);
  if (aii_load(doc, name, text, n, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  assert_int_equal(doc->text.len, n);
}

static void check(const char *text, const aii_cut_opts *opts, const char *name, const want *wants, size_t n)
{
  aii_cutter cutter;
  aii_chunk chunk;
  aii_loaded doc;
  size_t i = 0;
  load(&doc, text, strlen(text), name);
  aii_cutter_init(&cutter, &doc, opts);
  for (; aii_cutter_next(&cutter, &chunk); i++) {
    if (i == n) fail_msg("one too many: '%.*s'", (int)chunk.n, text + chunk.first);
    if (chunk.n != strlen(wants[i].text) || memcmp(text + chunk.first, wants[i].text, chunk.n) != 0) {
      fail_msg("passage %zu is '%.*s', not '%s'", i, (int)chunk.n, text + chunk.first, wants[i].text);
    }
    assert_string_equal(chunk.headings, wants[i].headings);
  }
  assert_int_equal(i, n);
  assert_false(cutter.failed);
  aii_loaded_free(&doc);
}
#define CHECK_AS(text, opts, name, ...)                                   \
  do {                                                                    \
    const want wants[] = {__VA_ARGS__};                                   \
    check((text), (opts), (name), wants, sizeof wants / sizeof wants[0]); \
  } while (0)
#define CHECK(text, max, markdown, ...) \
  CHECK_AS(text, (&(aii_cut_opts){.size = (max)}), (markdown) ? "a.md" : "a.txt", __VA_ARGS__)

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

static void test_markdown(void **state)
{
  (void)state;
  CHECK("Title\n=====\n\nA.\n\nPart\n----\n\nB.", 600, true, {"A.", "Title"}, {"B.", "Title > Part"});
  CHECK("````\n```\n# no heading\n```\n````\n# H\nA.", 600, true, {"````\n```\n# no heading\n```\n````", ""},
        {"A.", "H"});
  /* no row is cut, and a block that fits is not cut for the sake of the one before it */
  CHECK("| a | b |\n|---|---|\n| one | two |\n| three | four |", 32, true, {"| a | b |\n|---|---|", ""},
        {"| one | two |\n| three | four |", ""});
  CHECK("Some words.\n\n```\ncode here\n```", 22, true, {"Some words.", ""}, {"```\ncode here\n```", ""});
}

static void test_kinds(void **state)
{
  static const char text[] = "Dr. J. Smith came at 3.5 p.m. today. He left! \"Why?\" she said. Nobody knows.";
  aii_cut_opts sentences = {AII_CUT_SENTENCES, 38, 0, NULL, NULL},
               tokens = {AII_CUT_TOKENS, 4, 0, aii_measure_words, NULL};
  aii_cut_opts overlap = {AII_CUT_TOKENS, 4, 2, aii_measure_words, NULL};
  (void)state;
  CHECK_AS(text, &sentences, "a.txt", {"Dr. J. Smith came at 3.5 p.m. today.", ""}, {"He left! \"Why?\" she said.", ""},
           {"Nobody knows.", ""});
  CHECK_AS("one two three four five six seven", &tokens, "a.txt", {"one two three four", ""}, {"five six seven", ""});
  CHECK_AS("one two three four five six seven", &overlap, "a.txt", {"one two three four", ""},
           {"three four five six", ""}, {"five six seven", ""});
  CHECK_AS("\xE3\x81\x82\xE3\x81\x84\xE3\x80\x82\xE3\x81\x86\xE3\x81\x88\xE3\x80\x82",
           (&(aii_cut_opts){AII_CUT_SENTENCES, 16, 0, NULL, NULL}), "a.txt",
           {"\xE3\x81\x82\xE3\x81\x84\xE3\x80\x82", ""}, {"\xE3\x81\x86\xE3\x81\x88\xE3\x80\x82", ""});
}

static void test_source_code(void **state)
{
  static const char c[] =
      "#include <a.h>\n\n/* Adds. */\nint add(int a)\n{\n  int b = a;\n\n  return b;\n}\n\nint sub(void)\n{\n}\n";
  static const char python[] = "@cache\ndef f():\n    one = 1\n\n    two = 2\n    return one\n\nclass G:\n    pass\n";
  (void)state;
  CHECK_AS(c, (&(aii_cut_opts){.size = 70}), "a.c", {"#include <a.h>", ""},
           {"/* Adds. */\nint add(int a)\n{\n  int b = a;\n\n  return b;\n}", ""}, {"int sub(void)\n{\n}", ""});
  /* a function that does not fit is cut at its blank line, and the rest says which one it is of */
  CHECK_AS(python, (&(aii_cut_opts){.size = 44}), "a.py", {"@cache\ndef f():\n    one = 1", ""},
           {"    two = 2\n    return one", "@cache"}, {"class G:\n    pass", ""});
}

static void test_nothing(void **state)
{
  static const char *const nothing[] = {"", "\n\n", "  \t\r\n ", "# Only\n\n## Headings\n", "#"};
  (void)state;
  for (size_t i = 0; i < AII_COUNT(nothing); i++) {
    aii_cutter cutter;
    aii_chunk chunk;
    aii_loaded doc;
    load(&doc, nothing[i], strlen(nothing[i]), "a.md");
    aii_cutter_init(&cutter, &doc, &(aii_cut_opts){.size = 600});
    assert_false(aii_cutter_next(&cutter, &chunk));
    assert_false(aii_cutter_next(&cutter, &chunk));
    aii_loaded_free(&doc);
  }
}

/* Tokens that are fewer for some longer texts, as a tokenizer's are: pairs of equal bytes are one. */
static size_t odd_measure(void *user, const char *text, size_t n)
{
  size_t tokens = 0;
  (void)user;
  for (size_t i = 0; i < n; i++, tokens++) i += i + 1 < n && text[i] == text[i + 1];
  return tokens;
}

static const char *const parts[] = {"word ",    "End. ", "\n",       "\n\n",         "# Head\n", "## H2\n",
                                    "```\n",    "x",     "\xC3\xA9", "\xE4\xB8\xAD", "- item\n", "| a | b |\n",
                                    "        ", "~~~\n", "===\n",    "int f()\n{\n", "}\n\n",    "Why? \"Yes.\" "};

static size_t random_text(unsigned long long *seed, char *text)
{
  size_t n = 0, n_parts = test_random(seed) % 120;
  for (size_t i = 0; i < n_parts; i++) {
    const char *part = parts[test_random(seed) % AII_COUNT(parts)];
    memcpy(text + n, part, strlen(part));
    n += strlen(part);
  }
  text[n] = '\0';
  return n;
}

/* Whether a byte that no passage has is white space, or part of a heading. */
static bool may_be_left_out(const aii_loaded *doc, size_t at)
{
  char c = doc->text.data[at];
  if (c == '\0' || strchr(" \t\r\n", c) != NULL) return true;
  if (doc->format != AII_FORMAT_MARKDOWN) return false;
  if (strchr("#=", c) != NULL) return true;
  for (size_t i = 0; i < doc->n_blocks; i++) {
    const aii_textblock *b = &doc->blocks[i];
    if (b->kind == AII_BLOCK_HEADING && at >= b->first && at < b->first + b->n) return true;
  }
  return false;
}

/* Random documents: passages ascend, keep to the bound, are UTF-8, overlap no more than they may, and hold every byte
 * that is no space or heading; each reaches further than the one before. */
static void test_random_documents(void **state)
{
  static const char *const names[] = {"a.md", "a.txt", "a.c"};
  static const aii_measure_fn measures[] = {NULL, aii_measure_words, odd_measure};
  unsigned long long seed = test_seed();
  (void)state;
  for (int round = 0; round < 4000; round++) {
    char text[4096];
    size_t n = random_text(&seed, text), last = 0, start = 0;
    aii_cut_opts o = {.kind = (aii_cut_kind)(test_random(&seed) % 3), .measure = measures[test_random(&seed) % 3]};
    o.size = (o.measure == NULL ? 16 : 1) + test_random(&seed) % 100;
    o.overlap = test_random(&seed) % 2 * (test_random(&seed) % (o.size / 2 + 1));
    aii_loaded doc;
    aii_cutter cutter;
    aii_chunk chunk;
    load(&doc, text, n, names[test_random(&seed) % 3]);
    aii_cutter_init(&cutter, &doc, &o);
    while (aii_cutter_next(&cutter, &chunk)) {
      size_t end = chunk.first + chunk.n;
      size_t size = o.measure == NULL ? chunk.n : o.measure(NULL, text + chunk.first, chunk.n);
      assert_true(chunk.n > 0 && end <= n && end > last && (last == 0 || chunk.first > start));
      /* one character of several bytes may be more than one token */
      if (size > o.size && chunk.n > 3) fail_msg("round %d: %zu, at most %zu", round, size, o.size);
      assert_true(aii_utf8_valid(text + chunk.first, chunk.n));
      if (chunk.first < last)
        assert_true((o.measure == NULL ? last - chunk.first
                                       : o.measure(NULL, text + chunk.first, last - chunk.first)) <= o.overlap);
      for (size_t i = last; i < chunk.first; i++) assert_true(may_be_left_out(&doc, i));
      start = chunk.first;
      last = end;
    }
    assert_false(cutter.failed);
    for (size_t i = last; i < n; i++) assert_true(may_be_left_out(&doc, i));
    aii_loaded_free(&doc);
  }
  assert_int_equal(mem.used_bytes, 0);
}

/* A change of one paragraph leaves most passages of a long text as they were. */
static void test_changes_stay_local(void **state)
{
  enum { PARAGRAPHS = 400 };
  static char text[2][PARAGRAPHS * 200];
  static uint64_t before[PARAGRAPHS];
  size_t n_before = 0, n_new = 0, n[2] = {0};
  (void)state;
  for (int k = 0; k < 2; k++) {
    for (int i = 0; i < PARAGRAPHS; i++) {
      unsigned long long seed = (unsigned long long)i;
      if (k == 1 && i == 30) n[k] += (size_t)sprintf(text[k] + n[k], "A paragraph that was not there before.\n\n");
      for (size_t w = 0, words = 5 + test_random(&seed) % 20; w < words; w++)
        n[k] += (size_t)sprintf(text[k] + n[k], "w%llu ", test_random(&seed) % 1000);
      n[k] += (size_t)sprintf(text[k] + n[k], "end.\n\n");
    }
    aii_loaded doc;
    aii_cutter cutter;
    aii_chunk chunk;
    load(&doc, text[k], n[k], "a.txt");
    aii_cutter_init(&cutter, &doc, &(aii_cut_opts){.size = 600});
    while (aii_cutter_next(&cutter, &chunk)) {
      uint64_t hash = aii_hash64(text[k] + chunk.first, chunk.n, 0);
      bool known = false;
      for (size_t i = 0; k == 1 && i < n_before; i++) known = known || before[i] == hash;
      if (k == 0) before[n_before++] = hash;
      else n_new += !known;
    }
    aii_loaded_free(&doc);
  }
  printf("%zu passages, %zu of them new after a change\n", n_before, n_new);
  assert_true(n_before > 60 && n_new >= 1 && n_new <= 6);
}

static int set_up(void **state)
{
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_headings),
      cmocka_unit_test(test_lengths),
      cmocka_unit_test(test_code),
      cmocka_unit_test(test_markdown),
      cmocka_unit_test(test_kinds),
      cmocka_unit_test(test_source_code),
      cmocka_unit_test(test_nothing),
      cmocka_unit_test(test_random_documents),
      cmocka_unit_test(test_changes_stay_local),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
