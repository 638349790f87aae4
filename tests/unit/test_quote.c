/* test_quote.c - quotes: what may come next letter by letter, where they may end, and what stays free. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants these first */
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "tests/support/byte_vocab.h"
#include "tests/support/support.h"

enum { DOT_CITE = 257, PORT, N_EXTRA = 3, N_TOKENS = 257 + N_EXTRA };
static const char *const EXTRA[N_EXTRA] = {". [", " port", " is 80"};

static aii_mem mem;
static aii_vocab *vocab;

static aii_quote *quotes(const char *sources)
{
  aii_quote *q = NULL;
  aiinfra_error err = {0};
  if (aii_quote_create(&mem, vocab, sources, &q, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return q;
}

static bool allows(aii_quote *q, aiinfra_token token)
{
  float logits[N_TOKENS] = {0};
  aii_quote_mask(q, logits);
  return logits[token] == 0.0f;
}

static void say(aii_quote *q, const char *text)
{
  for (; *text != '\0'; text++) assert_int_equal(aii_quote_accept(q, (uint8_t)*text, NULL), AIINFRA_OK);
}

/* Everything may come. */
static bool is_free(aii_quote *q)
{
  float logits[N_TOKENS] = {0};
  aii_quote_mask(q, logits);
  for (int i = 0; i < N_TOKENS; i++)
    if (logits[i] != 0.0f) return false;
  return true;
}

/* What may come of single bytes, in order; '$' for the end. */
static const char *next_of(aii_quote *q)
{
  static char out[258];
  size_t n = 0;
  for (int b = 1; b < 256; b++)
    if (allows(q, b)) out[n++] = (char)b;
  if (allows(q, BYTE_VOCAB_END)) out[n++] = '$';
  out[n] = '\0';
  return out;
}

#define SOURCES \
  "[\"The default port is 8080. A full queue is refused.\", \"The default port of the proxy is 80! Yes.\"]"

static void goes_on_in_the_words(void **state)
{
  (void)state;
  aii_quote *q = quotes(SOURCES);
  say(q, "The default");
  assert_true(is_free(q)); /* eleven bytes */
  say(q, " ");
  assert_string_equal(next_of(q), "p"); /* both sources */
  say(q, "port ");
  assert_string_equal(next_of(q), "io");
  say(q, "is 8080");
  assert_string_equal(next_of(q), ".");
  assert_true(allows(q, DOT_CITE)); /* a token across the end of the sentence */
  say(q, ".");
  assert_string_equal(next_of(q), " "); /* on, or the number: no end without it */
  say(q, " ");
  assert_string_equal(next_of(q), "A[");
  say(q, "[");
  assert_string_equal(next_of(q), "1");
  say(q, "1]");
  assert_string_equal(next_of(q), "$");
  aii_quote_free(q);
}

static void several_sentences(void **state)
{
  (void)state;
  aii_quote *q = quotes(SOURCES);
  say(q, "\n The default port of the proxy is 80");
  assert_string_equal(next_of(q), "!");
  say(q, "! Yes");
  assert_string_equal(next_of(q), ".");
  say(q, ".");
  assert_string_equal(next_of(q), " ");
  say(q, " [2]");
  assert_string_equal(next_of(q), "$");
  assert_int_equal(aii_quote_accept(q, BYTE_VOCAB_END, NULL), AIINFRA_OK);
  assert_true(is_free(q)); /* where the end does not end it */
  aii_quote_free(q);
}

static void long_tokens(void **state)
{
  (void)state;
  aii_quote *q = quotes(SOURCES);
  say(q, "The default");
  assert_int_equal(aii_quote_accept(q, PORT, NULL), AIINFRA_OK);
  assert_true(allows(q, PORT + 1));
  assert_false(allows(q, PORT));
  assert_int_equal(aii_quote_accept(q, PORT + 1, NULL), AIINFRA_OK);
  assert_string_equal(next_of(q), "8");
  aii_quote_free(q);
}

/* The same sentence in two sources: either may be cited. */
static void the_same_twice(void **state)
{
  (void)state;
  aii_quote *q = quotes("[\"x\", \"It is cold and dark.\", \"No. It is  cold\\nand dark. \"]");
  say(q, "It is cold and dark.");
  assert_string_equal(next_of(q), " ");
  say(q, " [");
  assert_string_equal(next_of(q), "23");
  aii_quote_free(q);
}

static void stays_free(void **state)
{
  (void)state;
  static const char *const said[] = {"I don't know.",
                                     "default portable",
                                     "efault port is 8080",
                                     "he default port is",
                                     "<tool_call>\n{\"name\"",
                                     "A full queuf is",
                                     "Yes."};
  for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
    aii_quote *q = quotes(SOURCES);
    say(q, said[i]);
    assert_true(is_free(q));
    aii_quote_free(q);
  }
  aii_quote *q = quotes("[]");
  say(q, "The default port is");
  assert_true(is_free(q));
  aii_quote_free(q);
}

/* Sources that repeat themselves take no time without end. */
static void many_places(void **state)
{
  (void)state;
  enum { N = 20000 };
  char *text = malloc(2 * N + 8);
  assert_non_null(text);
  strcpy(text, "[\"");
  for (int i = 0; i < N; i++) strcpy(text + 2 + 2 * i, "a ");
  strcpy(text + 2 + 2 * N, "\"]");
  aii_quote *q = quotes(text);
  say(q, "a a a a a a a");
  assert_true(is_free(q));
  aii_quote_free(q);
  free(text);
}

/* When a grammar has ruled out what the quote wants, the grammar is right. */
static void gives_way(void **state)
{
  (void)state;
  aii_quote *q = quotes(SOURCES);
  float logits[N_TOKENS];
  for (int i = 0; i < N_TOKENS; i++) logits[i] = -INFINITY;
  logits['{'] = 1;
  say(q, "The default port is 808");
  aii_quote_mask(q, logits);
  assert_true(logits['{'] == 1.0f);
  assert_true(is_free(q));
  aii_quote_free(q);
}

/* Every prefix of a quote may be gone on with to its end, whatever was drawn. */
static void random_walks(void **state)
{
  (void)state;
  unsigned long long seed = 7;
  for (int round = 0; round < 300; round++) {
    aii_quote *q = quotes(SOURCES);
    char text[256];
    size_t n = 0;
    say(q, "The default port");
    for (aiinfra_token token = 0; token != BYTE_VOCAB_END;) {
      float logits[N_TOKENS] = {0};
      aii_quote_mask(q, logits);
      do token = (aiinfra_token)(test_random(&seed) % N_TOKENS);
      while (logits[token] != 0.0f);
      assert_int_equal(aii_quote_accept(q, token, NULL), AIINFRA_OK);
      const char *piece = token > BYTE_VOCAB_END ? EXTRA[token - 257] : "";
      assert_true(n + 8 < sizeof text);
      if (token < BYTE_VOCAB_END) text[n++] = (char)token;
      else n += (size_t)sprintf(text + n, "%s", piece);
    }
    text[n] = '\0';
    bool first = strcmp(text, " is 8080. [1]") == 0 || strcmp(text, " is 8080. A full queue is refused. [1]") == 0;
    bool second = strcmp(text, " of the proxy is 80! [2]") == 0 || strcmp(text, " of the proxy is 80! Yes. [2]") == 0;
    if (!first && !second) fail_msg("'%s'", text);
    aii_quote_free(q);
  }
}

static void refuses(void **state)
{
  (void)state;
  static const struct {
    const char *json, *says;
  } cases[] = {{"{}", "expected an array of texts, found an object"},
               {"[\"a\", 3]", "quotes_json[1]: expected a text"},
               {"[", "quotes_json"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    aii_quote *q = NULL;
    aiinfra_error err = {0};
    assert_int_not_equal(aii_quote_create(&mem, vocab, cases[i].json, &q, &err), AIINFRA_OK);
    assert_null(q);
    if (strstr(err.message, cases[i].says) == NULL) fail_msg("%s", err.message);
  }
}

static int set_up(void **state)
{
  (void)state;
  aii_mem_init(&mem, NULL, 0);
  return byte_vocab(&mem, EXTRA, N_EXTRA, &vocab);
}

static int tear_down(void **state)
{
  (void)state;
  aii_vocab_free(vocab);
  return mem.used_bytes != 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(goes_on_in_the_words), cmocka_unit_test(several_sentences), cmocka_unit_test(long_tokens),
      cmocka_unit_test(the_same_twice),       cmocka_unit_test(stays_free),        cmocka_unit_test(gives_way),
      cmocka_unit_test(many_places),          cmocka_unit_test(random_walks),      cmocka_unit_test(refuses),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
