/* hf_split.c - the pre-tokenizer of a tokenizer.json as steps.
 *
 * Byte level at the end of the list, before a model without affixes, is no step: the model then takes bytes as they
 * are. Regular expressions are known by their text where a matcher exists, others are compiled.
 */
#include "src/text/hf_impl.h"

static aiinfra_status step(aii_hftok *hf, aii_split_step s)
{
  return aii_pipe_split(hf->mem, &hf->spec.pipe, s) ? AIINFRA_OK : aii_hftok_no_memory(hf);
}

static aiinfra_status expr_step(aii_hftok *hf, const char *name, aii_behavior behavior, bool invert)
{
  return step(hf, (aii_split_step){
                      .kind = AII_SPLIT_EXPR, .behavior = behavior, .invert = invert, .expr = aii_expr_by_name(name)});
}

static aiinfra_status read_behavior(aii_hftok *hf, const json_t *o, const char *path, aii_behavior *out)
{
  static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  aii_str name = aii_hftok_str(o, "behavior");
  *out = AII_ISOLATED;
  if (name.p == NULL) return AIINFRA_OK;
  for (size_t i = 0; i < AII_COUNT(names); i++) {
    if (strcmp(names[i], name.p) != 0) continue;
    *out = (aii_behavior)i;
    return AIINFRA_OK;
  }
  return aii_fail(hf->err, AIINFRA_ENOTSUP, "%s.behavior: '%.64s' is not in this version", path, name.p);
}

static aiinfra_status bert(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)o;
  (void)path;
  return aii_bert_splits(hf->mem, &hf->spec.pipe) ? AIINFRA_OK : aii_hftok_no_memory(hf);
}

static aiinfra_status byte_level(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)path;
  aiinfra_status rc = AIINFRA_OK;
  if (aii_hftok_flag(o, "add_prefix_space", true)) rc = step(hf, (aii_split_step){.kind = AII_SPLIT_SPACE});
  if (rc == AIINFRA_OK && aii_hftok_flag(o, "use_regex", true)) rc = expr_step(hf, "gpt2", AII_ISOLATED, false);
  return rc == AIINFRA_OK ? step(hf, (aii_split_step){.kind = AII_SPLIT_BYTE_MAP}) : rc;
}

static aiinfra_status metaspace(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_str mark = aii_hftok_str(o, "replacement"), scheme = aii_hftok_str(o, "prepend_scheme");
  aii_split_step s = {.kind = AII_SPLIT_META, .text = mark, .flags = AII_META_ALWAYS};
  if (mark.p == NULL || mark.n == 0) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: no replacement", path);
  if (!aii_hftok_flag(o, "add_prefix_space", true)) s.flags = 0;
  if (scheme.p != NULL) {
    s.flags = strcmp(scheme.p, "always") == 0 ? AII_META_ALWAYS : strcmp(scheme.p, "first") == 0 ? AII_META_FIRST : 0;
  }
  aiinfra_status rc = step(hf, s);
  if (rc != AIINFRA_OK || !aii_hftok_flag(o, "split", true)) return rc;
  return step(hf, (aii_split_step){.kind = AII_SPLIT_TEXT, .behavior = AII_WITH_NEXT, .text = mark});
}

static aiinfra_status whitespace(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)o;
  (void)path;
  return expr_step(hf, "words", AII_REMOVED, true);
}

static aiinfra_status whitespace_split(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)o;
  (void)path;
  return expr_step(hf, "space", AII_REMOVED, false);
}

static aiinfra_status punctuation(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_behavior behavior;
  aiinfra_status rc = read_behavior(hf, o, path, &behavior);
  return rc == AIINFRA_OK ? expr_step(hf, "one-punct", behavior, false) : rc;
}

static aiinfra_status digits(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)path;
  bool each = aii_hftok_flag(o, "individual_digits", false);
  return expr_step(hf, "digit", each ? AII_ISOLATED : AII_CONTIGUOUS, false);
}

static aiinfra_status delimiter(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_str text = aii_hftok_str(o, "delimiter");
  if (text.p == NULL || text.n == 0) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: no delimiter", path);
  return step(hf, (aii_split_step){.kind = AII_SPLIT_TEXT, .behavior = AII_REMOVED, .text = text});
}

static aiinfra_status split(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_split_step s = {.kind = AII_SPLIT_TEXT, .invert = aii_hftok_flag(o, "invert", false)};
  aii_str text;
  bool regex;
  aiinfra_status rc = aii_hftok_pattern(hf, o, path, &text, &regex);
  if (rc == AIINFRA_OK) rc = read_behavior(hf, o, path, &s.behavior);
  if (rc != AIINFRA_OK) return rc;
  s.text = text;
  if (!regex) return step(hf, s);
  s.expr = aii_expr_by_regex(text);
  s.kind = s.expr != NULL ? AII_SPLIT_EXPR : AII_SPLIT_REGEX;
  if (s.expr == NULL) rc = aii_regex_compile(hf->mem, text, &s.regex, hf->err);
  return rc == AIINFRA_OK ? step(hf, s) : aii_wrap(hf->err, rc, "%s", path);
}

aiinfra_status aii_hftok_pre_tokenizer(aii_hftok *hf, const json_t *pre, const char *path)
{
  static const aii_hftok_kind kinds[] = {{"BertPreTokenizer", bert},
                                         {"ByteLevel", byte_level},
                                         {"Metaspace", metaspace},
                                         {"Whitespace", whitespace},
                                         {"WhitespaceSplit", whitespace_split},
                                         {"Punctuation", punctuation},
                                         {"Digits", digits},
                                         {"CharDelimiterSplit", delimiter},
                                         {"Split", split}};
  aii_pipeline *p = &hf->spec.pipe;
  if (pre == NULL || json_is_null(pre)) return AIINFRA_OK;
  aiinfra_status rc = aii_hftok_component(hf, pre, path, kinds, AII_COUNT(kinds), "pretokenizers");
  if (rc != AIINFRA_OK) return rc;
  bool bytes = hf->desc.kind == AII_VOCAB_BPE && hf->spec.cont_prefix.n == 0 && hf->spec.word_suffix.n == 0;
  if (bytes && p->n_split > 0 && p->split[p->n_split - 1].kind == AII_SPLIT_BYTE_MAP) {
    p->n_split--;
    hf->spec.byte_level = true;
  }
  return AIINFRA_OK;
}
