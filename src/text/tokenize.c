/* tokenize.c - text to tokens: special tokens split the text, what lies between goes to SPM or BPE.
 *
 * Happy path: bos; walk the text once, at each byte asking the trie for the longest special token; flush the plain
 * text before it; white space behind a RSTRIP token is dropped; eos. User-defined tokens are found always, control
 * tokens only when the caller says so. ENOMEM, or EINVAL when a byte has no token and the vocabulary no unknown one.
 */
#include "src/text/vocab_impl.h"

enum { FLAG_SPECIAL = 1, FLAG_ADD = 2 };

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

static aiinfra_status body(const aii_vocab *vocab, const char *text, size_t n, bool special, aii_tokens *out,
                           aiinfra_error *err)
{
  size_t from = 0;
  bool after_special = true;
  for (size_t i = 0; i < n;) {
    size_t len = 0;
    int32_t token = vocab->specials.first[(uint8_t)text[i]] != 0
                        ? aii_specials_match(&vocab->specials, text + i, n - i, special, &len)
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
  if (rc == AIINFRA_OK) rc = body(vocab, text, n, (flags & FLAG_SPECIAL) != 0, out, err);
  if (rc == AIINFRA_OK && add && vocab->add_eos && vocab->eos >= 0 && !aii_tokens_add(out, vocab->eos)) {
    rc = aii_fail(err, AIINFRA_ENOMEM, "tokens");
  }
  if (rc != AIINFRA_OK) out->n = before;
  return rc;
}
