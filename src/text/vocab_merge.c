/* vocab_merge.c - the merges of BPE: the symbols they name, and a table from pairs of symbols to rank and result.
 *
 * GGUF's files may merge by way of symbols that are no tokens; these get numbers behind the vocabulary. So do the
 * stand-ins of bytes that are no tokens. Of equal merges the first holds in GGUF's files, the last in Hugging Face's.
 */
#include "src/text/vocab_impl.h"

/* "a b" at its separating space; Byte-mapped text holds no other space. */
static bool split_merge(aii_str merge, aii_str *left, aii_str *right)
{
  const char *space = merge.n > 2 ? memchr(merge.p + 1, ' ', merge.n - 2) : NULL;
  if (space == NULL) return false;
  *left = (aii_str){merge.p, (size_t)(space - merge.p)};
  *right = (aii_str){space + 1, merge.n - left->n - 1};
  return true;
}

/* The number of a symbol by its text; a new one is appended behind *n. UINT32_MAX: memory ran out. */
static uint32_t intern(aii_vocab *v, uint32_t *n, aii_str a, aii_str b)
{
  char *at = v->text + v->text_at[*n];
  if (a.n > 0) memcpy(at, a.p, a.n);
  if (b.n > 0) memcpy(at + a.n, b.p, b.n);
  uint32_t symbol;
  if (aii_map_get(&v->by_text, at, a.n + b.n, &symbol)) return symbol;
  if (!aii_map_set(&v->by_text, at, a.n + b.n, *n)) return UINT32_MAX;
  v->text_at[*n + 1] = v->text_at[*n] + (uint32_t)(a.n + b.n);
  return (*n)++;
}

static aiinfra_status intern_bytes(aii_vocab *v, uint32_t *n, aiinfra_error *err)
{
  for (uint32_t b = 0; b < 256; b++) {
    char ch[4];
    aii_str text = {ch, aii_byte_to_char((uint8_t)b, ch)};
    if (!v->spec.by_file) {
      v->byte_symbol[b] = aii_vocab_model_find(v, text.p, text.n);
      continue;
    }
    v->byte_symbol[b] = intern(v, n, text, (aii_str){"", 0});
    if (v->byte_symbol[b] == UINT32_MAX) return aii_fail(err, AIINFRA_ENOMEM, "byte symbols");
  }
  return AIINFRA_OK;
}

static aiinfra_status put(aii_vocab *v, uint32_t rank, uint32_t a, uint32_t b, uint32_t ab, aiinfra_error *err)
{
  aii_pair *slot = aii_pairs_put(v->mem, &v->merges, (uint64_t)a << 32 | b);
  if (slot == NULL) return aii_fail(err, AIINFRA_ENOMEM, "%u merges", rank);
  if (slot->value == UINT32_MAX || v->spec.last_merge_holds) {
    slot->rank = rank;
    slot->value = ab;
  }
  return AIINFRA_OK;
}

static aiinfra_status add_merge(aii_vocab *v, uint32_t *n, uint32_t rank, aii_str merge, aiinfra_error *err)
{
  aii_str left, right, none = {"", 0};
  if (!split_merge(merge, &left, &right)) {
    return aii_fail(err, AIINFRA_EFORMAT, "merge %u is not two symbols with a space between", rank);
  }
  uint32_t a = intern(v, n, left, none);
  uint32_t b = a != UINT32_MAX ? intern(v, n, right, none) : UINT32_MAX;
  uint32_t ab = b != UINT32_MAX ? intern(v, n, left, right) : UINT32_MAX;
  if (ab == UINT32_MAX) return aii_fail(err, AIINFRA_ENOMEM, "symbols of merges");
  return put(v, rank, a, b, ab, err);
}

/* Both halves and the whole are tokens; the right one's prefix goes. */
static aiinfra_status add_pair(aii_vocab *v, uint32_t rank, const aii_str pair[2], aii_buf *whole, aiinfra_error *err)
{
  aii_str right = pair[1], prefix = v->spec.cont_prefix;
  uint32_t a = aii_vocab_model_find(v, pair[0].p, pair[0].n), b = aii_vocab_model_find(v, right.p, right.n);
  if (prefix.n > 0 && right.n >= prefix.n && memcmp(right.p, prefix.p, prefix.n) == 0) {
    right = (aii_str){right.p + prefix.n, right.n - prefix.n};
  }
  aii_buf_clear(whole);
  aii_buf_add(whole, pair[0].p, pair[0].n);
  aii_buf_add(whole, right.p, right.n);
  if (whole->failed) return aii_fail(err, AIINFRA_ENOMEM, "merges");
  uint32_t ab = aii_vocab_model_find(v, aii_buf_cstr(whole), whole->len);
  if (a == UINT32_MAX || b == UINT32_MAX || ab == UINT32_MAX) {
    return aii_fail(err, AIINFRA_EFORMAT, "merge %u makes \"%.*s\" of what are not all tokens", rank,
                    (int)AII_MIN(whole->len, (size_t)100), aii_buf_cstr(whole));
  }
  return put(v, rank, a, b, ab, err);
}

static aiinfra_status add_pairs(aii_vocab *v, const aii_str *pairs, uint32_t n, aiinfra_error *err)
{
  aii_buf whole;
  aii_buf_init(&whole, v->mem, 0);
  aiinfra_status rc = AIINFRA_OK;
  for (uint32_t i = 0; i < n && rc == AIINFRA_OK; i++) rc = add_pair(v, i, &pairs[2 * (size_t)i], &whole, err);
  aii_buf_free(&whole);
  return rc;
}

aiinfra_status aii_vocab_build_merges(aii_vocab *v, const aii_vocab_desc *d, const aii_str *pairs, aiinfra_error *err)
{
  uint32_t n = d->n_tokens;
  aiinfra_status rc = AIINFRA_OK;
  if (!aii_pairs_reserve(v->mem, &v->merges, d->n_merges))
    return aii_fail(err, AIINFRA_ENOMEM, "%u merges", d->n_merges);
  if (v->spec.byte_level) rc = intern_bytes(v, &n, err);
  if (rc == AIINFRA_OK && pairs != NULL) return add_pairs(v, pairs, d->n_merges, err);
  for (uint32_t i = 0; i < d->n_merges && rc == AIINFRA_OK; i++) rc = add_merge(v, &n, i, d->merges[i], err);
  if (rc != AIINFRA_OK || !v->spec.by_file) return rc;
  uint32_t *fewer =
      aii_resize(v->mem, v->text_at, ((size_t)v->n_symbols + 1) * sizeof *fewer, ((size_t)n + 1) * sizeof *fewer);
  if (fewer == NULL) return aii_fail(err, AIINFRA_ENOMEM, "symbols");
  v->text_at = fewer;
  v->n_symbols = n;
  return AIINFRA_OK;
}
