/* tiktoken.c - vocabularies as tiktoken keeps them: a line is the base64 of a token's bytes and its rank.
 *
 * There are no merges: two neighbours merge when their bytes together are a token, the lowest rank first, so the rank
 * is both the number and the order. A piece that is a token as a whole is not merged. Special tokens stand elsewhere:
 * in tokenizer_config.json, or nowhere.
 */
#include "src/text/base64.h"
#include "src/text/hf_impl.h"

typedef struct line {
  aii_str token; /* base64 */
  int64_t rank;
} line;

/* The next line that is not empty. False: the end, or *rc says what is wrong. */
static bool next_line(const char *file, size_t n, size_t *at, line *out, aiinfra_status *rc, aiinfra_error *err)
{
  while (*at < n && (file[*at] == '\n' || file[*at] == '\r')) ++*at;
  if (*at >= n) return false;
  size_t from = *at, i = from;
  while (i < n && file[i] != ' ' && file[i] != '\n') i++;
  out->token = (aii_str){file + from, i - from};
  out->rank = i + 1 < n && file[i] == ' ' && file[i + 1] >= '0' && file[i + 1] <= '9' ? 0 : -1;
  for (i++; i < n && out->rank >= 0 && file[i] >= '0' && file[i] <= '9'; i++) {
    out->rank = AII_MIN(out->rank * 10 + (file[i] - '0'), (int64_t)INT32_MAX);
  }
  if (out->rank < 0 || (i < n && file[i] != '\n' && file[i] != '\r')) {
    *rc = aii_fail(err, AIINFRA_EFORMAT, "byte %zu: expected a line of base64 and a rank", from);
    return false;
  }
  *at = i;
  return true;
}

/* The token in stand-ins of its bytes, at the end of `texts`, which has room for all and does not move. */
static aiinfra_status add_line(aii_hftok *hf, const line *l, aii_buf *texts, aii_buf *bytes)
{
  char mapped[4];
  size_t from = texts->len;
  aii_buf_clear(bytes);
  bool ok = aii_base64_decode(l->token.p, l->token.n, bytes) && bytes->len > 0;
  if (bytes->failed) return aii_hftok_no_memory(hf);
  if (!ok) return aii_fail(hf->err, AIINFRA_EFORMAT, "rank %lld: its token is no base64", (long long)l->rank);
  for (size_t i = 0; i < bytes->len; i++) {
    aii_buf_add(texts, mapped, aii_byte_to_char((uint8_t)bytes->data[i], mapped));
  }
  return aii_hftok_token(hf, (aii_str){texts->data + from, texts->len - from}, l->rank, "rank");
}

static aiinfra_status read_lines(aii_hftok *hf, const char *file, size_t n, aii_buf *texts)
{
  aiinfra_status rc = AIINFRA_OK;
  aii_buf bytes;
  line l;
  aii_buf_init(&bytes, hf->mem, 0);
  for (size_t at = 0; rc == AIINFRA_OK && next_line(file, n, &at, &l, &rc, hf->err);) {
    rc = add_line(hf, &l, texts, &bytes);
  }
  aii_buf_free(&bytes);
  return rc;
}

static aiinfra_status read_file(aii_hftok *hf, const char *file, size_t n, const char *pre, aii_buf *texts)
{
  const aii_pretok *known = aii_pretok_find(pre != NULL ? pre : "");
  if (known == NULL) {
    return aii_fail(hf->err, AIINFRA_ENOTSUP, "the pre-tokenizer \"%s\" is not known", pre != NULL ? pre : "");
  }
  hf->desc.kind = AII_VOCAB_BPE;
  hf->spec.byte_level = hf->spec.merge_by_text = hf->spec.ignore_merges = true;
  /* Four characters of base64 are three bytes, each at most two bytes as a stand-in. */
  if (!aii_grow(hf->mem, &texts->data, &texts->cap, 2 * n + 1, 1)) return aii_hftok_no_memory(hf);
  texts->data[0] = 0;
  aiinfra_status rc = read_lines(hf, file, n, texts);
  if (rc == AIINFRA_OK) rc = aii_hftok_config_tokens(hf);
  if (rc != AIINFRA_OK) return rc;
  bool ok = aii_pretok_steps(known, hf->mem, &hf->spec.pipe) &&
            aii_pipe_decode(hf->mem, &hf->spec.pipe, (aii_decode_step){.kind = AII_DECODE_BYTE_LEVEL});
  return ok ? AIINFRA_OK : aii_hftok_no_memory(hf);
}

aiinfra_status aii_vocab_from_tiktoken(aii_mem *mem, const char *file, size_t n, const char *pre,
                                       const aii_vocab_extras *extras, aii_vocab **out, aiinfra_error *err)
{
  aii_hftok hf;
  aii_buf texts;
  *out = NULL;
  aii_hftok_init(&hf, n, mem, err);
  aii_buf_init(&texts, mem, 0);
  aiinfra_status rc = n <= INT32_MAX / 4 ? AIINFRA_OK : aii_fail(err, AIINFRA_ELIMIT, "more than 512 MiB");
  if (rc == AIINFRA_OK) rc = aii_hftok_read_extras(&hf, extras);
  if (rc == AIINFRA_OK) rc = read_file(&hf, file, n, pre, &texts);
  if (rc == AIINFRA_OK) rc = aii_hftok_finish(&hf, out);
  aii_hftok_free(&hf);
  aii_buf_free(&texts);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "tiktoken file");
}
