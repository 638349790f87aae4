/* hf_norm.c - the normalizer of a tokenizer.json as steps. */
#include "src/text/base64.h"
#include "src/text/hf_impl.h"

static aiinfra_status step(aii_hftok *hf, aii_norm_step s)
{
  return aii_pipe_norm(hf->mem, &hf->spec.pipe, s) ? AIINFRA_OK : aii_hftok_no_memory(hf);
}

static aiinfra_status bert(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)path;
  bool lower = aii_hftok_flag(o, "lowercase", true);
  bool ok = aii_bert_steps(hf->mem, &hf->spec.pipe, lower, aii_hftok_flag(o, "strip_accents", lower),
                           aii_hftok_flag(o, "handle_chinese_chars", true), aii_hftok_flag(o, "clean_text", true));
  return ok ? AIINFRA_OK : aii_hftok_no_memory(hf);
}

static aiinfra_status plain(aii_hftok *hf, const json_t *o, const char *path)
{
  static const struct {
    const char *type;
    aii_norm_kind kind;
  } kinds[] = {{"NFC", AII_NORM_NFC},         {"NFD", AII_NORM_NFD},
               {"NFKC", AII_NORM_NFKC},       {"NFKD", AII_NORM_NFKD},
               {"Lowercase", AII_NORM_LOWER}, {"StripAccents", AII_NORM_STRIP_ACCENTS},
               {"Nmt", AII_NORM_NMT},         {"ByteLevel", AII_NORM_BYTE_LEVEL}};
  const char *type = json_string_value(json_object_get(o, "type"));
  (void)path;
  for (size_t i = 0; i < AII_COUNT(kinds); i++) {
    if (strcmp(kinds[i].type, type) == 0) return step(hf, (aii_norm_step){.kind = kinds[i].kind});
  }
  return AIINFRA_OK;
}

static aiinfra_status strip(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)path;
  uint32_t flags = (aii_hftok_flag(o, "strip_left", true) ? AII_NORM_LEFT : 0u) |
                   (aii_hftok_flag(o, "strip_right", true) ? AII_NORM_RIGHT : 0u);
  return step(hf, (aii_norm_step){.kind = AII_NORM_STRIP, .flags = flags});
}

static aiinfra_status prepend(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_str text = aii_hftok_str(o, "prepend");
  if (text.p == NULL) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: Prepend needs a text 'prepend'", path);
  return step(hf, (aii_norm_step){.kind = AII_NORM_PREPEND, .to = text});
}

static bool is(aii_str s, const char *text)
{
  return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

static aiinfra_status replace(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_norm_step s = {.kind = AII_NORM_REPLACE, .to = aii_hftok_str(o, "content")};
  bool regex;
  if (s.to.p == NULL) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: Replace needs a text 'content'", path);
  aiinfra_status rc = aii_hftok_pattern(hf, o, path, &s.from, &regex);
  bool white = regex && rc == AIINFRA_OK && is(s.from, "\\s+"),
       spaces = regex && rc == AIINFRA_OK && is(s.from, " {2,}");
  if (white || spaces) {
    s.kind = AII_NORM_RUNS;
    s.flags = spaces ? 2 : 0;
    return step(hf, s);
  }
  if (rc == AIINFRA_OK && regex) rc = aii_regex_compile(hf->mem, s.from, &s.regex, hf->err);
  return rc == AIINFRA_OK ? step(hf, s) : rc;
}

static aiinfra_status precompiled(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_buf map;
  aii_str text = aii_hftok_str(o, "precompiled_charsmap");
  if (text.p == NULL || text.n == 0) return AIINFRA_OK;
  aii_buf_init(&map, hf->mem, 0);
  bool ok = aii_base64_decode(text.p, text.n, &map);
  aii_str bytes = {aii_buf_cstr(&map), map.len};
  aiinfra_status rc = AIINFRA_OK;
  if (map.failed) {
    rc = aii_hftok_no_memory(hf);
  } else if (!ok || !aii_charsmap_valid(bytes)) {
    rc = aii_fail(hf->err, AIINFRA_EFORMAT, "%s: the precompiled table is broken", path);
  } else {
    rc = step(hf, (aii_norm_step){.kind = AII_NORM_CHARSMAP, .from = bytes});
  }
  aii_buf_free(&map);
  return rc;
}

aiinfra_status aii_hftok_normalizer(aii_hftok *hf, const json_t *norm, const char *path)
{
  static const aii_hftok_kind kinds[] = {{"BertNormalizer", bert},
                                         {"NFC", plain},
                                         {"NFD", plain},
                                         {"NFKC", plain},
                                         {"NFKD", plain},
                                         {"Lowercase", plain},
                                         {"StripAccents", plain},
                                         {"Nmt", plain},
                                         {"ByteLevel", plain},
                                         {"Strip", strip},
                                         {"Prepend", prepend},
                                         {"Replace", replace},
                                         {"Precompiled", precompiled}};
  if (norm == NULL || json_is_null(norm)) return AIINFRA_OK;
  return aii_hftok_component(hf, norm, path, kinds, AII_COUNT(kinds), "normalizers");
}
