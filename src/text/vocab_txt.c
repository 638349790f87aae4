/* vocab_txt.c - BERT's vocab.txt: a token a line, its number is the line. Normalised, split and decoded as BERT.
 *
 * tokenizer_config.json may say do_lower_case, strip_accents and tokenize_chinese_chars, and name the special tokens;
 * without it they have the names that BERT gave them.
 */
#include "src/text/hf_impl.h"

static bool is_special(aii_str s)
{
  static const char *const names[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    if (strlen(names[i]) == s.n && memcmp(names[i], s.p, s.n) == 0) return true;
  }
  return false;
}

static aiinfra_status read_lines(aii_hftok *hf, const char *file, size_t n)
{
  aiinfra_status rc = AIINFRA_OK;
  int64_t id = 0;
  for (size_t at = 0; at < n && rc == AIINFRA_OK; id++) {
    const char *end = memchr(file + at, '\n', n - at);
    size_t to = end != NULL ? (size_t)(end - file) : n;
    aii_str text = {file + at, to - at};
    if (text.n > 0 && text.p[text.n - 1] == '\r') text.n--;
    rc = aii_hftok_token(hf, text, id, "vocab.txt");
    if (rc == AIINFRA_OK && is_special(text)) {
      hf->types[id] = AII_TOKEN_CONTROL;
      hf->added[id] = AII_TF_ADDED;
    }
    at = to + 1;
  }
  return rc;
}

static int32_t find(const aii_hftok *hf, const char *text)
{
  uint32_t id;
  return aii_map_get(&hf->model, text, strlen(text), &id) ? (int32_t)id : -1;
}

static aiinfra_status read_file(aii_hftok *hf, const char *file, size_t n)
{
  const json_t *config = hf->config;
  aii_vocab_spec *s = &hf->spec;
  bool lower = aii_hftok_flag(config, "do_lower_case", true);
  hf->desc.kind = AII_VOCAB_WPM;
  s->cont_prefix = (aii_str){"##", 2};
  s->max_word_chars = 100;
  aiinfra_status rc = read_lines(hf, file, n);
  if (rc == AIINFRA_OK) rc = aii_hftok_config_tokens(hf);
  if (rc != AIINFRA_OK) return rc;
  hf->desc.unk = find(hf, "[UNK]");
  hf->desc.bos = find(hf, "[CLS]");
  hf->desc.sep = find(hf, "[SEP]");
  hf->desc.pad = find(hf, "[PAD]");
  if (hf->desc.bos >= 0) s->before[s->n_before++] = hf->desc.bos;
  if (hf->desc.sep >= 0) s->behind[s->n_behind++] = hf->desc.sep;
  aii_decode_step decode = {.kind = AII_DECODE_WORDPIECE, .from = {"##", 2}, .flags = 1};
  bool ok = aii_bert_steps(hf->mem, &s->pipe, lower, aii_hftok_flag(config, "strip_accents", lower),
                           aii_hftok_flag(config, "tokenize_chinese_chars", true), true) &&
            aii_bert_splits(hf->mem, &s->pipe) && aii_pipe_decode(hf->mem, &s->pipe, decode);
  return ok ? AIINFRA_OK : aii_hftok_no_memory(hf);
}

aiinfra_status aii_vocab_from_wordpiece(aii_mem *mem, const char *file, size_t n, const aii_vocab_extras *extras,
                                        aii_vocab **out, aiinfra_error *err)
{
  aii_hftok hf;
  *out = NULL;
  aii_hftok_init(&hf, n, mem, err);
  aiinfra_status rc = aii_hftok_read_extras(&hf, extras);
  if (rc == AIINFRA_OK) rc = read_file(&hf, file, n);
  if (rc == AIINFRA_OK) rc = aii_hftok_finish(&hf, out);
  aii_hftok_free(&hf);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "vocab.txt");
}
