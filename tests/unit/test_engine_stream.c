/* test_engine_stream.c - text that may be shown: stop strings over any split into tokens, held-back ends.
 *
 * A vocabulary of single bytes and some longer pieces stands in for a real one, so that a text can be cut into tokens
 * in every way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "src/engine/engine.h"

static aii_mem mem;
static aii_vocab *vocab;

/* Byte-level vocabulary: token i is the byte i. */
static int make_vocab(void **state)
{
  (void)state;
  static char texts[256][8];
  static aii_str tokens[256];
  static int32_t types[256];
  for (unsigned i = 0; i < 256; i++) {
    tokens[i].p = texts[i];
    tokens[i].n = (size_t)snprintf(texts[i], sizeof texts[i], "<0x%02X>", i);
    types[i] = AII_TOKEN_BYTE;
  }
  aii_vocab_desc desc = {.kind = AII_VOCAB_SPM,
                         .n_tokens = 256,
                         .tokens = tokens,
                         .types = types,
                         .bos = -1,
                         .eos = -1,
                         .unk = -1,
                         .eot = -1,
                         .eom = -1,
                         .pad = -1,
                         .add_bos = 0,
                         .add_eos = 0,
                         .add_space_prefix = 0};
  aiinfra_error err;
  aii_mem_init(&mem, NULL, 0);
  aiinfra_status rc = aii_vocab_create(&mem, &desc, &vocab, &err);
  if (rc != AIINFRA_OK) print_error("%s\n", err.message);
  return rc;
}

static int free_vocab(void **state)
{
  (void)state;
  aii_vocab_free(vocab);
  return atomic_load(&mem.used_bytes) != 0;
}

static void start(aii_stream *s, const char *const *stops, size_t n_stops)
{
  aii_stream_init(s, &mem);
  for (size_t i = 0; i < n_stops; i++) assert_int_equal(aii_stream_add_stop(s, stops[i], NULL), AIINFRA_OK);
  aii_stream_start(s, vocab, false);
}

/* Pushes text byte by byte; nothing that was ready may ever be taken back. Returns the bytes taken. */
static size_t push(aii_stream *s, const char *text)
{
  char shown[256] = "";
  size_t n = 0;
  while (text[n] != '\0' && !s->stopped) {
    assert_int_equal(aii_stream_push(s, (unsigned char)text[n++], false, NULL), AIINFRA_OK);
    assert_true(s->n_ready <= s->text.len);
    assert_true(s->n_ready >= strlen(shown) || s->stopped);
    assert_memory_equal(aii_buf_cstr(&s->text), shown, AII_MIN(strlen(shown), s->text.len));
    if (s->n_ready > strlen(shown)) memcpy(shown, s->text.data, s->n_ready);
  }
  return n;
}

static void assert_text(const aii_stream *s, const char *expected)
{
  assert_string_equal(aii_buf_cstr(&s->text), expected);
  assert_int_equal(s->n_ready, strlen(expected));
}

static void test_stop_is_cut_off(void **state)
{
  (void)state;
  const char *stops[] = {"\n\nUser:", "END"};
  aii_stream s;
  start(&s, stops, 2);
  assert_int_equal(push(&s, "one\n\nUsEND two"), strlen("one\n\nUsEND"));
  aii_stream_finish(&s);
  assert_true(s.stopped);
  assert_text(&s, "one\n\nUs");
  aii_stream_free(&s);
}

static void test_a_beginning_is_held_back(void **state)
{
  (void)state;
  const char *stops[] = {"abcabd"};
  aii_stream s;
  start(&s, stops, 1);
  push(&s, "xxabcab");
  assert_int_equal(s.n_ready, 2);
  push(&s, "c");
  assert_int_equal(s.n_ready, 5); /* "abc" may still begin it */
  aii_stream_finish(&s);
  assert_text(&s, "xxabcabc");
  aii_stream_free(&s);
}

static void test_overlapping_stop(void **state)
{
  (void)state;
  const char *stops[] = {"aab"};
  aii_stream s;
  start(&s, stops, 1);
  push(&s, "aaaaab!");
  assert_true(s.stopped);
  aii_stream_finish(&s);
  assert_text(&s, "aaa");
  aii_stream_free(&s);
}

static void test_earliest_stop_wins(void **state)
{
  (void)state;
  const char *stops[] = {"long stop", "g"};
  aii_stream s;
  start(&s, stops, 2);
  push(&s, "a long stop");
  aii_stream_finish(&s);
  assert_text(&s, "a lon");
  aii_stream_free(&s);
}

static void test_unfinished_utf8(void **state)
{
  (void)state;
  const char *stops[] = {"\xC3\xA4"};
  aii_stream s;
  start(&s, stops, 1);
  push(&s, "x\xC3");
  assert_int_equal(s.text.len, 1);
  push(&s, "\xA9");
  assert_text(&s, "x\xC3\xA9");
  push(&s, "\xC3\xA4");
  assert_true(s.stopped);
  assert_text(&s, "x\xC3\xA9");
  aii_stream_free(&s);

  start(&s, NULL, 0);
  push(&s, "x\xE2\x82");
  assert_int_equal(s.n_ready, 1);
  aii_stream_finish(&s);
  assert_true(aii_utf8_valid(s.text.data, s.text.len));
  assert_true(s.text.len > 1 && s.n_ready == s.text.len);
  aii_stream_free(&s);
}

static void test_bad_stops(void **state)
{
  (void)state;
  static char longest[AII_MAX_STOP_BYTES + 2];
  aiinfra_error err;
  aii_stream s;
  memset(longest, 'x', AII_MAX_STOP_BYTES + 1);
  aii_stream_init(&s, &mem);
  assert_int_equal(aii_stream_add_stop(&s, "", &err), AIINFRA_EINVAL);
  assert_int_equal(aii_stream_add_stop(&s, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aii_stream_add_stop(&s, "\xC3", &err), AIINFRA_EINVAL);
  assert_int_equal(aii_stream_add_stop(&s, longest, &err), AIINFRA_EINVAL);
  for (int i = 0; i < AII_MAX_STOPS; i++) assert_int_equal(aii_stream_add_stop(&s, "x", &err), AIINFRA_OK);
  assert_int_equal(aii_stream_add_stop(&s, "x", &err), AIINFRA_EINVAL);
  aii_stream_free(&s);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_stop_is_cut_off),  cmocka_unit_test(test_a_beginning_is_held_back),
      cmocka_unit_test(test_overlapping_stop), cmocka_unit_test(test_earliest_stop_wins),
      cmocka_unit_test(test_unfinished_utf8),  cmocka_unit_test(test_bad_stops),
  };
  return cmocka_run_group_tests(tests, make_vocab, free_vocab);
}
