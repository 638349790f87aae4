/* tokenize.c - text to tokens: special tokens split the text, what lies between goes to SPM or BPE.
 *
 * Happy path: bos; walk the text once, at each byte asking the trie for the longest special token; flush the plain
 * text before it; white space behind a RSTRIP token is dropped; eos. User-defined tokens are found always, control
 * tokens only when the caller says so. ENOMEM, or EINVAL when a byte has no token and the vocabulary no unknown one.
 */
#include "src/text/vocab_impl.h"

enum { FLAG_SPECIAL = 1, FLAG_ADD = 2 };

typedef struct closed { /* places where no control token begins, in order */
  size_t *at;
  size_t n, cap;
} closed;

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
  if (!aii_grow(tokens->mem, &tokens->items, &tokens->cap, tokens->n + 1, sizeof *tokens->items)) return false;
  tokens->items[tokens->n++] = token;
  return true;
}

static aiinfra_status plain(const aii_vocab *vocab, const char *text, size_t n, bool after_special, aii_tokens *out,
                            aiinfra_error *err)
{
  if (n == 0) return AIINFRA_OK;
  if (vocab->kind == AII_VOCAB_SPM) {
    return aii_spm_tokenize(vocab, text, n, vocab->add_space_prefix && after_special, out, err);
  }
  return aii_bpe_tokenize(vocab, text, n, out, err);
}

static bool is_space(char c)
{
  return c == ' ' || (c >= '\t' && c <= '\r');
}

static aiinfra_status body(const aii_vocab *vocab, const char *text, size_t n, bool special, const closed *shut,
                           aii_tokens *out, aiinfra_error *err)
{
  size_t from = 0, next = 0;
  bool after_special = true;
  for (size_t i = 0; i < n;) {
    size_t len = 0;
    while (next < shut->n && shut->at[next] < i) next++;
    bool control = special && !(next < shut->n && shut->at[next] == i);
    int32_t token = vocab->specials.first[(uint8_t)text[i]] != 0
                        ? aii_specials_match(&vocab->specials, text + i, n - i, control, &len)
                        : -1;
    if (token < 0) {
      i++;
      continue;
    }
    aiinfra_status rc = plain(vocab, text + from, i - from, after_special, out, err);
    if (rc != AIINFRA_OK) return rc;
    if (!aii_tokens_add(out, token)) return aii_fail(err, AIINFRA_ENOMEM, "tokens");
    i += len;
    if ((vocab->flags[token] & AII_TF_RSTRIP) != 0) {
      while (i < n && is_space(text[i])) i++;
    }
    from = i;
    after_special = true;
  }
  return plain(vocab, text + from, n - from, after_special, out, err);
}

/* Takes the guards out of a text: what is left, and where they stood. */
static bool take_guards(aii_mem *mem, const char *text, size_t n, aii_buf *plain, closed *shut)
{
  const size_t n_guard = sizeof AII_GUARD - 1;
  for (size_t from = 0; from <= n;) {
    const char *hit = memmem(text + from, n - from, AII_GUARD, n_guard);
    size_t to = hit != NULL ? (size_t)(hit - text) : n;
    aii_buf_add(plain, text + from, to - from);
    if (hit == NULL) break;
    if (!aii_grow(mem, &shut->at, &shut->cap, shut->n + 1, sizeof *shut->at)) return false;
    shut->at[shut->n++] = plain->len;
    from = to + n_guard;
  }
  return !plain->failed;
}

static aiinfra_status guarded(const aii_vocab *vocab, const char *text, size_t n, bool special, aii_tokens *out,
                              aiinfra_error *err)
{
  aii_buf plain;
  closed shut = {0};
  aii_buf_init(&plain, out->mem, 0);
  aiinfra_status rc = take_guards(out->mem, text, n, &plain, &shut)
                          ? body(vocab, aii_buf_cstr(&plain), plain.len, special, &shut, out, err)
                          : aii_fail(err, AIINFRA_ENOMEM, "a text of %zu bytes", n);
  aii_del(out->mem, shut.at, shut.cap * sizeof *shut.at);
  aii_buf_free(&plain);
  return rc;
}

aiinfra_status aii_tokenize(const aii_vocab *vocab, const char *text, size_t n, uint32_t flags, aii_tokens *out,
                            aiinfra_error *err)
{
  if (n > INT32_MAX) return aii_fail(err, AIINFRA_ELIMIT, "a text of %zu bytes is more than can be tokenized", n);
  size_t before = out->n;
  bool add = (flags & FLAG_ADD) != 0;
  aiinfra_status rc = AIINFRA_OK;
  if (add && vocab->add_bos && vocab->bos >= 0 && !aii_tokens_add(out, vocab->bos)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "tokens");
  }
  bool special = (flags & FLAG_SPECIAL) != 0;
  if (rc == AIINFRA_OK && (flags & AII_TOKENIZE_GUARDED) != 0) rc = guarded(vocab, text, n, special, out, err);
  else if (rc == AIINFRA_OK) rc = body(vocab, text, n, special, &(closed){0}, out, err);
  if (rc == AIINFRA_OK && add && vocab->add_eos && vocab->eos >= 0 && !aii_tokens_add(out, vocab->eos)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "tokens");
  }
  if (rc != AIINFRA_OK) out->n = before;
  return rc;
}
