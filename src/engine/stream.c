/* stream.c - text as it may be shown: whole UTF-8 sequences, and nothing that could become a stop string.
 *
 * Text is appended as tokens come. After each token the new end is searched for stop strings; the earliest one cuts the
 * text. Otherwise the longest end of the text that begins a stop string is held back until it is decided. A stop string
 * may so lie across any number of tokens. Loop thread.
 */
#include "src/engine/engine.h"

void aii_stream_init(aii_stream *stream, aii_mem *mem)
{
  memset(stream, 0, sizeof *stream);
  stream->mem = mem;
  aii_buf_init(&stream->text, mem, 0);
}

void aii_stream_free(aii_stream *stream)
{
  for (size_t i = 0; i < stream->n_stops; i++) aii_strfree(stream->mem, stream->stops[i]);
  aii_buf_free(&stream->text);
}

aiinfra_status aii_stream_add_stop(aii_stream *stream, const char *stop, aiinfra_error *err)
{
  if (stream->n_stops == AII_MAX_STOPS)
    return aii_fail(err, AIINFRA_EINVAL, "more than %d stop strings", AII_MAX_STOPS);
  size_t n = stop != NULL ? strnlen(stop, AII_MAX_STOP_BYTES + 1) : 0;
  if (n == 0 || n > AII_MAX_STOP_BYTES || !aii_utf8_valid(stop, n))
    return aii_fail(err, AIINFRA_EINVAL, "stop string %zu: it must be UTF-8 of 1 to %d bytes", stream->n_stops + 1,
                    AII_MAX_STOP_BYTES);
  char *copy = aii_strndup(stream->mem, stop, n);
  if (copy == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a stop string");
  stream->stops[stream->n_stops++] = copy;
  stream->longest = AII_MAX(stream->longest, n);
  return AIINFRA_OK;
}

void aii_stream_start(aii_stream *stream, const aii_vocab *vocab, bool first_in_text)
{
  aii_detok_init(&stream->detok, vocab, false, first_in_text);
}

/* Where `what` begins at or behind `from`; the text's length when nowhere. */
static size_t find(const aii_stream *stream, size_t from, const char *what)
{
  const char *text = aii_buf_cstr(&stream->text);
  const char *at = memmem(text + from, stream->text.len - from, what, strlen(what));
  return at != NULL ? (size_t)(at - text) : stream->text.len;
}

/* Length of the longest end of text[0..len) that begins `what` but is not all of it. */
static size_t held_for(const char *text, size_t len, const char *what)
{
  size_t n = AII_MIN(strlen(what) - 1, len);
  while (n > 0 && memcmp(text + len - n, what, n) != 0) n--;
  return n;
}

static void cut(aii_stream *stream, size_t len)
{
  stream->text.len = len;
  stream->text.data[len] = '\0';
  stream->stopped = true;
}

/* Looks at what was appended behind old_len: cuts at the first stop string. */
static void search(aii_stream *stream, size_t old_len)
{
  size_t from = old_len >= stream->longest ? old_len - stream->longest : 0, first = stream->text.len;
  for (size_t i = 0; i < stream->n_stops; i++) first = AII_MIN(first, find(stream, from, stream->stops[i]));
  if (first < stream->text.len) cut(stream, first);
}

static void update_ready(aii_stream *stream)
{
  const char *text = aii_buf_cstr(&stream->text);
  size_t held = 0, len = stream->text.len;
  for (size_t i = 0; i < stream->n_stops; i++) held = AII_MAX(held, held_for(text, len, stream->stops[i]));
  stream->n_ready = len - held;
}

aiinfra_status aii_stream_push(aii_stream *stream, aiinfra_token token, bool control, aiinfra_error *err)
{
  size_t old_len = stream->text.len;
  stream->detok.special = control;
  aii_detok_push(&stream->detok, token, &stream->text);
  if (stream->text.failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for the output's text");
  if (stream->text.len == old_len) return AIINFRA_OK;
  search(stream, old_len);
  update_ready(stream);
  return AIINFRA_OK;
}

void aii_stream_finish(aii_stream *stream)
{
  size_t old_len = stream->text.len;
  if (!stream->stopped && stream->detok.vocab != NULL) {
    aii_detok_finish(&stream->detok, &stream->text);
    if (stream->text.len > old_len) search(stream, old_len);
  }
  stream->n_ready = stream->text.len;
}
