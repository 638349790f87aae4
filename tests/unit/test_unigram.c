/* test_unigram.c - Unigram against its definition: over every start and every token, the way of the largest sum.
 *
 * Small random vocabularies over few characters, so that tokens overlap and sums tie, and one in which nearly every
 * pair of characters is a token, so that the index of pieces has full nodes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
/* cmocka wants these first */
#include <cmocka.h>

#include "src/text/text.h"
#include "tests/support/support.h"

enum { MAX_TOKENS = 40, MAX_BYTES = 200 };

typedef struct token {
  char text[40];
  double score;
} token;

static aii_mem mem;
static token tokens[MAX_TOKENS]; /* 0 is the unknown one */
static size_t n_tokens;
static const char *const letters[] = {"a", "b", "\x01", "\xE2\x96\x81", "\xC3\xA9"};
static const char *const others[] = {"z", "\xC3\xBC", "\xF0\x9F\x99\x82"}; /* in no token */

static bool is_token(const char *text)
{
  for (size_t i = 0; i < n_tokens; i++) {
    if (strcmp(tokens[i].text, text) == 0) return true;
  }
  return false;
}

static void random_text(unsigned long long *seed, char *out, size_t n_letters, bool any)
{
  out[0] = 0;
  for (size_t i = 0; i < n_letters; i++) {
    bool other = any && test_random(seed) % 8 == 0;
    strcat(out,
           other ? others[test_random(seed) % AII_COUNT(others)] : letters[test_random(seed) % AII_COUNT(letters)]);
  }
}

/* Scores are quarters, so that sums are exact and often the same. */
static void random_tokens(unsigned long long *seed)
{
  size_t wanted = 2 + test_random(seed) % (MAX_TOKENS - 2);
  n_tokens = 0;
  tokens[n_tokens++] = (token){"<unk>", 0};
  for (int tries = 0; n_tokens < wanted && tries < 200; tries++) {
    char text[sizeof tokens->text];
    random_text(seed, text, 1 + test_random(seed) % 6, false);
    if (is_token(text)) continue;
    strcpy(tokens[n_tokens].text, text);
    tokens[n_tokens++].score = -0.25 * (double)(1 + test_random(seed) % 40);
  }
}

static void add_json_text(aii_buf *out, const char *text)
{
  aii_buf_char(out, '"');
  for (; *text != 0; text++) {
    if ((unsigned char)*text < ' ' || *text == '"' || *text == '\\') aii_buf_fmt(out, "\\u%04x", (unsigned)*text);
    else aii_buf_char(out, *text);
  }
  aii_buf_char(out, '"');
}

static aii_vocab *read_vocab(aii_buf *json)
{
  aii_vocab *vocab = NULL;
  aiinfra_error err = {0};
  aiinfra_status rc = aii_vocab_from_hf_json(&mem, aii_buf_cstr(json), json->len, NULL, &vocab, &err);
  aii_buf_free(json);
  if (rc != AIINFRA_OK) fail_msg("%s", err.message);
  return vocab;
}

static aii_vocab *make_vocab(void)
{
  aii_buf json;
  aii_buf_init(&json, &mem, 0);
  aii_buf_str(&json, "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[");
  for (size_t i = 0; i < n_tokens; i++) {
    aii_buf_str(&json, i > 0 ? ",[" : "[");
    add_json_text(&json, tokens[i].text);
    aii_buf_fmt(&json, ",%.2f]", tokens[i].score);
  }
  aii_buf_str(&json, "]}}");
  return read_vocab(&json);
}

static size_t char_bytes(const char *text)
{
  unsigned char c = (unsigned char)*text;
  return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

/* What the definition gives: of ways with equal sums the one whose last token is the longest, unknown ones joined. */
static void define(const char *text, aii_buf *out)
{
  double best[MAX_BYTES + 1], least = 0;
  size_t from[MAX_BYTES + 1], which[MAX_BYTES + 1], n = strlen(text), path[MAX_BYTES], n_path = 0;
  bool reached[MAX_BYTES + 1] = {true};
  best[0] = 0;
  for (size_t t = 0; t < n_tokens; t++) least = tokens[t].score < least ? tokens[t].score : least;
  for (size_t i = 0; i < n; i += char_bytes(text + i)) {
    for (size_t t = 0; t <= n_tokens; t++) { /* the last is one unknown character */
      size_t len = t == n_tokens ? char_bytes(text + i) : strlen(tokens[t].text), end = i + len;
      double score = best[i] + (t == n_tokens ? least - 10 : tokens[t].score);
      if (t < n_tokens && strncmp(text + i, tokens[t].text, len) != 0) continue;
      if (reached[end] && score <= best[end]) continue;
      reached[end] = true;
      best[end] = score;
      from[end] = i;
      which[end] = t == n_tokens ? 0 : t;
    }
  }
  for (size_t end = n; end > 0; end = from[end]) path[n_path++] = which[end];
  for (size_t i = n_path; i > 0; i--) {
    if (path[i - 1] != 0 || i == n_path || path[i] != 0) aii_buf_fmt(out, "%zu ", path[i - 1]);
  }
}

static void tokenize(const aii_vocab *vocab, const char *text, aii_buf *out)
{
  aii_tokens got;
  aiinfra_error err = {0};
  aii_tokens_init(&got, &mem);
  if (aii_tokenize(vocab, text, strlen(text), 0, &got, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  for (size_t i = 0; i < got.n; i++) aii_buf_fmt(out, "%d ", got.items[i]);
  aii_tokens_free(&got);
}

static void test_the_best_way(void **state)
{
  unsigned long long seed = 7;
  (void)state;
  for (int v = 0; v < 300; v++) {
    random_tokens(&seed);
    aii_vocab *vocab = make_vocab();
    for (int i = 0; i < 30; i++) {
      char text[MAX_BYTES + 1];
      aii_buf want, got;
      aii_buf_init(&want, &mem, 0);
      aii_buf_init(&got, &mem, 0);
      random_text(&seed, text, test_random(&seed) % 40, true);
      define(text, &want);
      tokenize(vocab, text, &got);
      assert_string_equal(aii_buf_cstr(&got), aii_buf_cstr(&want));
      aii_buf_free(&want);
      aii_buf_free(&got);
    }
    aii_vocab_free(vocab);
  }
  assert_int_equal(mem.used_bytes, 0);
}

/* Each character and nearly each pair of them: a pair is found as one token, or as two where it is none. */
static void test_full_nodes(void **state)
{
  enum { FIRST = ' ' + 1, LAST = '~', MISSING = 7 };
  (void)state;
  aii_buf json;
  size_t count = 1;
  aii_buf_init(&json, &mem, 0);
  aii_buf_str(&json, "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0]");
  for (int a = FIRST; a <= LAST; a++) aii_buf_fmt(&json, ",[\"\\u%04x\",-2]", (unsigned)a);
  for (int a = FIRST; a <= LAST; a++) {
    for (int b = FIRST; b <= LAST; b++) {
      if ((a * b) % MISSING != 0) aii_buf_fmt(&json, ",[\"\\u%04x\\u%04x\",-3]", (unsigned)a, (unsigned)b);
    }
  }
  aii_buf_str(&json, "]}}");
  aii_vocab *vocab = read_vocab(&json);
  count += LAST - FIRST + 1;
  for (int a = FIRST; a <= LAST; a++) {
    for (int b = FIRST; b <= LAST; b++) {
      char text[3] = {(char)a, (char)b, 0}, want[32];
      aii_buf got;
      aii_buf_init(&got, &mem, 0);
      if ((a * b) % MISSING != 0) snprintf(want, sizeof want, "%zu ", count++);
      else snprintf(want, sizeof want, "%d %d ", a - FIRST + 1, b - FIRST + 1);
      tokenize(vocab, text, &got);
      assert_string_equal(aii_buf_cstr(&got), want);
      aii_buf_free(&got);
    }
  }
  aii_vocab_free(vocab);
  assert_int_equal(mem.used_bytes, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_the_best_way), cmocka_unit_test(test_full_nodes)};
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
