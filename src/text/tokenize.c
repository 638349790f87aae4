/* tokenize.c - text to tokens: added tokens split it, what lies between is normalised, split into pieces and goes to
 * the model, piece by piece.
 *
 * Happy path: the tokens that go before; walk the text once, from one added token to the next; of each stretch between
 * the normal form, in which again added tokens may be found; its pieces; the tokens that go behind. Words that come
 * again are copied from where their tokens lie in the output. ENOMEM; EINVAL when something has no token and the
 * vocabulary no unknown one; ELIMIT for a text beyond 2 GiB or a regular expression that takes too long.
 */
#include "src/text/vocab_impl.h"

enum { FLAG_SPECIAL = 1, FLAG_ADD = 2 };
enum { BYTES_PER_WORD_SLOT = 8, LEAST_WORD_TEXT = 512, MOST_WORD_SLOTS = 1 << 16 };

void aii_tokens_init(aii_tokens *tokens, aii_mem *mem)
{
  *tokens = (aii_tokens){.mem = mem};
}

void aii_tokens_free(aii_tokens *tokens)
{
  aii_del(tokens->mem, tokens->items, tokens->cap * sizeof *tokens->items);
  aii_tokens_init(tokens, tokens->mem);
}

bool aii_tokens_add(aii_tokens *tokens, aiinfra_token token)
{
  bool room = tokens->n < tokens->cap;
  if (!room && !aii_grow(tokens->mem, &tokens->items, &tokens->cap, tokens->n + 1, sizeof *tokens->items)) return false;
  tokens->items[tokens->n++] = token;
  return true;
}

aiinfra_status aii_work_add(aii_work *w, aiinfra_token token)
{
  return aii_tokens_add(w->out, token) ? AIINFRA_OK : aii_fail(w->err, AIINFRA_ENOMEM, "tokens");
}

aiinfra_status aii_work_nothing_fits(aii_work *w, const char *text, size_t n)
{
  if (n == 1 && (uint8_t)text[0] >= 128) {
    return aii_fail(w->err, AIINFRA_EINVAL, "the vocabulary has no token for the byte 0x%02X", (uint8_t)text[0]);
  }
  return aii_fail(w->err, AIINFRA_EINVAL, "the vocabulary has no token for \"%.*s\"", (int)AII_MIN(n, (size_t)40),
                  text);
}

/* ---- pieces and words ---------------------------------------------------------------------------------------------- */

static aiinfra_status to_model(aii_work *w, const char *text, size_t n)
{
  switch (w->vocab->kind) {
    case AII_VOCAB_SPM: return aii_spm_piece(w, text, n);
    case AII_VOCAB_BPE: return aii_bpe_piece(w, text, n);
    case AII_VOCAB_WPM: return aii_wpm_piece(w, text, n);
    case AII_VOCAB_UGM: return aii_ugm_piece(w, text, n);
    case AII_VOCAB_WORD: break;
  }
  return aii_word_piece(w, text, n);
}

static aiinfra_status word(aii_work *w, const char *text, size_t n)
{
  if (w->n_words == 0 || n == 0 || n > sizeof w->words->text) return to_model(w, text, n);
  aii_word *slot = &w->words[(size_t)aii_hash64(text, n, 0) & (w->n_words - 1)];
  size_t at = w->out->n;
  if (slot->n == n && memcmp(slot->text, text, n) == 0) {
    if (!aii_grow(w->mem, &w->out->items, &w->out->cap, at + slot->n_tokens, sizeof *w->out->items)) {
      return aii_fail(w->err, AIINFRA_ENOMEM, "tokens");
    }
    for (size_t i = 0; i < slot->n_tokens; i++) w->out->items[at + i] = w->out->items[slot->at + i];
    w->out->n += slot->n_tokens;
    return AIINFRA_OK;
  }
  aiinfra_status rc = to_model(w, text, n);
  size_t n_tokens = w->out->n - at;
  if (rc != AIINFRA_OK || n_tokens > UINT8_MAX || at > UINT32_MAX) return rc;
  slot->n = (uint8_t)n;
  slot->n_tokens = (uint8_t)n_tokens;
  slot->at = (uint32_t)at;
  memcpy(slot->text, text, n);
  return AIINFRA_OK;
}

static aiinfra_status pieces(aii_work *w, aii_str text, bool first)
{
  aii_str split;
  aiinfra_status rc = aii_split(&w->vocab->spec.pipe, w->mem, text, first, w->split, w->spans, &split, w->err);
  for (size_t i = 0; i < w->spans[0].n && rc == AIINFRA_OK; i++) {
    aii_span s = w->spans[0].items[i];
    rc = word(w, split.p + s.from, s.to - s.from);
  }
  return rc;
}

/* ---- added tokens -------------------------------------------------------------------------------------------------- */

static aiinfra_status find_added(aii_work *w, bool normalized, aii_str text, bool first);

static aiinfra_status stretch(aii_work *w, bool normalized, aii_str text, bool first)
{
  if (text.n == 0) return AIINFRA_OK;
  if (normalized) return pieces(w, text, first);
  aiinfra_status rc = aii_normalize(&w->vocab->spec.pipe, text, true, w->norm, &text, w->err);
  return rc == AIINFRA_OK ? find_added(w, true, text, first) : rc;
}

static size_t char_before(aii_str text, size_t at, uint32_t *cp)
{
  size_t from = at - 1;
  while (from > 0 && at - from < 4 && ((uint8_t)text.p[from] & 0xC0) == 0x80) from--;
  *cp = 0xFFFD;
  (void)aii_utf8_decode(text.p + from, at - from, cp);
  return from;
}

static size_t char_at(aii_str text, size_t at, uint32_t *cp)
{
  *cp = 0xFFFD;
  int len = aii_utf8_decode(text.p + at, text.n - at, cp);
  return at + (len > 0 ? (size_t)len : 1);
}

static bool touches_word(aii_str text, size_t from, size_t to)
{
  uint32_t cp;
  if (from > 0 && (char_before(text, from, &cp), aii_char_is_word(cp))) return true;
  return to < text.n && (char_at(text, to, &cp), aii_char_is_word(cp));
}

static size_t skip_back(aii_str text, size_t at, size_t least)
{
  uint32_t cp;
  while (at > least) {
    size_t from = char_before(text, at, &cp);
    if (!aii_char_is_space(cp)) break;
    at = from;
  }
  return AII_MAX(at, least);
}

static size_t skip_on(aii_str text, size_t at)
{
  uint32_t cp;
  while (at < text.n) {
    size_t to = char_at(text, at, &cp);
    if (!aii_char_is_space(cp)) break;
    at = to;
  }
  return at;
}

/* Whether a guard stands at this place of the text as it came; places are asked for in order. */
static bool is_guarded(aii_work *w, size_t at)
{
  while (w->next_guard < w->n_guards && w->guards[w->next_guard] < at) w->next_guard++;
  return w->next_guard < w->n_guards && w->guards[w->next_guard] == at;
}

static aiinfra_status find_added(aii_work *w, bool normalized, aii_str text, bool first)
{
  const aii_vocab *v = w->vocab;
  bool special = w->special && !(normalized && w->n_guards > 0); /* there nobody knows where the guards were */
  const aii_trie *trie = special ? &v->added[normalized].all : &v->added[normalized].user;
  size_t done = 0, look = 0, at, len, skipped = 0; /* skipped: where white space known to be such ends */
  int32_t token;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK && aii_trie_find(trie, text.p, look, text.n, &at, &len, &token)) {
    size_t end = look = at + len;
    uint8_t flags = v->flags[token];
    if (!normalized && v->attr[token] != AII_TOKEN_USER && is_guarded(w, at)) {
      look = at + 1;
      continue;
    }
    if ((flags & AII_TF_SINGLE_WORD) != 0 && touches_word(text, at, end)) continue;
    if ((flags & AII_TF_LSTRIP) != 0) at = skip_back(text, at, AII_MIN(done, at));
    if ((flags & AII_TF_RSTRIP) != 0) end = skipped = end < skipped ? skipped : skip_on(text, end);
    if (done < at) rc = stretch(w, normalized, (aii_str){text.p + done, at - done}, first && done == 0);
    if (rc == AIINFRA_OK) rc = aii_work_add(w, token);
    done = end;
  }
  if (rc != AIINFRA_OK || done >= text.n) return rc;
  return stretch(w, normalized, (aii_str){text.p + done, text.n - done}, first && done == 0);
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

/* Steps that look at characters want valid UTF-8: what is none becomes U+FFFD, but for models that spell bytes. */
static bool must_be_valid(const aii_vocab *v)
{
  if (v->spec.by_file) return v->kind == AII_VOCAB_WPM;
  for (size_t i = 0; i < v->spec.pipe.n_split; i++) {
    if (v->spec.pipe.split[i].kind == AII_SPLIT_REGEX) return true;
  }
  return !v->spec.byte_level || v->spec.pipe.n_norm > 0 || v->added[1].all.n > 0;
}

static void make_valid(const char *text, size_t n, aii_buf *out)
{
  size_t from = 0;
  for (size_t i = 0; i < n;) {
    int len = aii_utf8_decode(text + i, n - i, NULL);
    if (len > 0) {
      i += (size_t)len;
      continue;
    }
    aii_buf_add(out, text + from, i - from);
    aii_buf_str(out, "\xEF\xBF\xBD");
    size_t broken = 1; /* what began well is broken as one */
    while (i + broken < n && broken < 3 && aii_utf8_decode(text + i, broken + 1, NULL) == 0) broken++;
    from = i += broken;
  }
  aii_buf_add(out, text + from, n - from);
}

/* Takes the guards out of a text: what is left, and where they stood. */
static aiinfra_status take_guards(aii_work *w, aii_str *text, aii_buf *plain)
{
  const size_t n_guard = sizeof AII_GUARD - 1;
  for (size_t from = 0;;) {
    const char *hit = memmem(text->p + from, text->n - from, AII_GUARD, n_guard);
    if (hit == NULL && from == 0) return AIINFRA_OK; /* nearly always */
    size_t to = hit != NULL ? (size_t)(hit - text->p) : text->n;
    aii_buf_add(plain, text->p + from, to - from);
    if (hit == NULL) break;
    if (!aii_grow(w->mem, &w->guards, &w->cap_guards, w->n_guards + 1, sizeof *w->guards)) plain->failed = true;
    if (plain->failed) break;
    w->guards[w->n_guards++] = plain->len;
    from = to + n_guard;
  }
  if (plain->failed) return aii_fail(w->err, AIINFRA_ENOMEM, "a text of %zu bytes", text->n);
  *text = (aii_str){aii_buf_cstr(plain), plain->len};
  return AIINFRA_OK;
}

static void work_init(aii_work *w, const aii_vocab *vocab, size_t n, aii_tokens *out, aiinfra_error *err)
{
  *w = (aii_work){.vocab = vocab, .mem = out->mem, .out = out, .err = err};
  for (size_t i = 0; i < 2; i++) {
    aii_buf_init(&w->norm[i], w->mem, INT32_MAX);
    aii_buf_init(&w->split[i], w->mem, INT32_MAX);
  }
  aii_heap_init(&w->heap, w->mem, AII_HEAP_BYTES, vocab->kind == AII_VOCAB_SPM ? aii_spm_before : aii_bpe_before);
  if (n < LEAST_WORD_TEXT || vocab->spec.pipe.n_split == 0) return;
  size_t slots = LEAST_WORD_TEXT / BYTES_PER_WORD_SLOT;
  while (slots < n / BYTES_PER_WORD_SLOT && slots < MOST_WORD_SLOTS) slots *= 2;
  w->words = aii_new_array(w->mem, slots, sizeof *w->words);
  if (w->words != NULL) w->n_words = slots; /* without memory it only takes longer */
}

static void work_free(aii_work *w)
{
  for (size_t i = 0; i < 2; i++) {
    aii_buf_free(&w->norm[i]);
    aii_buf_free(&w->split[i]);
    aii_del(w->mem, w->spans[i].items, w->spans[i].cap * sizeof *w->spans[i].items);
  }
  aii_heap_free(&w->heap);
  aii_del(w->mem, w->words, w->n_words * sizeof *w->words);
  aii_del(w->mem, w->guards, w->cap_guards * sizeof *w->guards);
  aii_del(w->mem, w->ids, w->cap_ids * sizeof *w->ids);
  aii_del(w->mem, w->items, w->cap_items * AII_SYMBOL_BYTES);
  aii_del(w->mem, w->ways.items, w->ways.cap * sizeof *w->ways.items);
}

aiinfra_status aii_tokenize(const aii_vocab *vocab, const char *text, size_t n, uint32_t flags, aii_tokens *out,
                            aiinfra_error *err)
{
  if (n > INT32_MAX / 4) return aii_fail(err, AIINFRA_ELIMIT, "a text of %zu bytes is more than can be tokenized", n);
  aii_work w;
  aii_buf valid, plain;
  size_t before = out->n;
  bool around = (flags & FLAG_ADD) != 0;
  aii_str s = {text, n};
  aiinfra_status rc = AIINFRA_OK;
  work_init(&w, vocab, n, out, err);
  w.special = (flags & FLAG_SPECIAL) != 0;
  aii_buf_init(&valid, w.mem, 0);
  aii_buf_init(&plain, w.mem, 0);
  if (must_be_valid(vocab) && !aii_utf8_valid(text, n)) {
    make_valid(text, n, &valid);
    if (valid.failed) rc = aii_fail(err, AIINFRA_ENOMEM, "a text of %zu bytes", n);
    s = (aii_str){aii_buf_cstr(&valid), valid.len};
  }
  if (rc == AIINFRA_OK && (flags & AII_TOKENIZE_GUARDED) != 0) rc = take_guards(&w, &s, &plain);
  for (uint32_t i = 0; around && i < vocab->spec.n_before && rc == AIINFRA_OK; i++) {
    rc = aii_work_add(&w, vocab->spec.before[i]);
  }
  if (rc == AIINFRA_OK) rc = find_added(&w, false, s, true);
  for (uint32_t i = 0; around && i < vocab->spec.n_behind && rc == AIINFRA_OK; i++) {
    rc = aii_work_add(&w, vocab->spec.behind[i]);
  }
  aii_buf_free(&valid);
  aii_buf_free(&plain);
  work_free(&w);
  if (rc != AIINFRA_OK) out->n = before;
  return rc;
}
