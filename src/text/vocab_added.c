/* vocab_added.c - the tries of tokens that are found in text before the model sees it.
 *
 * Two pairs: those found in the text as it comes and those found in normalised text (Hugging Face's `normalized`),
 * the latter by their normalised texts. Of each pair one trie holds all, the other only those that are found even when
 * the caller does not ask for special tokens.
 */
#include "src/text/vocab_impl.h"

static bool add(aii_vocab *v, size_t which, aii_str text, uint32_t token)
{
  bool user = v->attr[token] == AII_TOKEN_USER;
  bool replace = v->spec.by_file; /* in GGUF the last of equal texts holds, in Hugging Face's files the first */
  return aii_trie_add(v->mem, &v->added[which].all, text, (int32_t)token, replace) &&
         (!user || aii_trie_add(v->mem, &v->added[which].user, text, (int32_t)token, replace));
}

static aiinfra_status add_all(aii_vocab *v, aii_buf buffers[2], aiinfra_error *err)
{
  for (uint32_t i = 0; i < v->n_tokens; i++) {
    if ((v->flags[i] & AII_TF_ADDED) == 0) continue;
    bool normalized = (v->flags[i] & AII_TF_NORMALIZED) != 0;
    aii_str text = aii_vocab_symbol(v, i);
    if (normalized && text.n > 0) {
      aiinfra_status rc = aii_normalize(&v->spec.pipe, text, true, buffers, &text, err);
      if (rc != AIINFRA_OK) return rc;
    }
    if (!add(v, normalized, text, i)) return aii_fail(err, AIINFRA_ENOMEM, "index of special tokens");
  }
  return AIINFRA_OK;
}

aiinfra_status aii_vocab_build_added(aii_vocab *v, aiinfra_error *err)
{
  aii_buf buffers[2];
  aii_buf_init(&buffers[0], v->mem, INT32_MAX);
  aii_buf_init(&buffers[1], v->mem, INT32_MAX);
  aiinfra_status rc = add_all(v, buffers, err);
  aii_buf_free(&buffers[0]);
  aii_buf_free(&buffers[1]);
  for (size_t i = 0; i < AII_COUNT(v->added) && rc == AIINFRA_OK; i++) {
    if (!aii_trie_link(v->mem, &v->added[i].all) || !aii_trie_link(v->mem, &v->added[i].user)) {
      rc = aii_fail(err, AIINFRA_ENOMEM, "index of special tokens");
    }
  }
  return rc;
}

/* Whether a token that is no word of users stands at text, or begins there and the text ends within it. */
static bool spells(const aii_vocab *v, const aii_trie *trie, const char *text, size_t n)
{
  uint32_t node = 0;
  if (n == 0 || trie->n == 0 || !trie->first[(uint8_t)text[0]]) return false;
  for (size_t i = 0; i < n; i++) {
    node = aii_trie_step(trie, node, (uint8_t)text[i]);
    if (node == 0) return false;
    int32_t token = trie->nodes[node].token;
    if (token >= 0 && v->attr[token] != AII_TOKEN_USER) return true;
  }
  return true;
}

bool aii_vocab_spells_control(const aii_vocab *v, const char *text, size_t n)
{
  return spells(v, &v->added[0].all, text, n) || spells(v, &v->added[1].all, text, n);
}
