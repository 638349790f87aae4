/* hf_decode.c - the decoder and the post-processor of a tokenizer.json.
 *
 * Streaming prints each token as it comes, so a decoder that would have to see the end of the text first is refused.
 */
#include "src/text/hf_impl.h"

static aiinfra_status step(aii_hftok *hf, aii_decode_step s)
{
  return aii_pipe_decode(hf->mem, &hf->spec.pipe, s) ? AIINFRA_OK : aii_hftok_no_memory(hf);
}

static bool fused(const aii_hftok *hf)
{
  const aii_pipeline *p = &hf->spec.pipe;
  for (size_t i = 0; i < p->n_decode; i++) {
    if (p->decode[i].kind == AII_DECODE_FUSE) return true;
  }
  return false;
}

static aiinfra_status not_behind_fuse(aii_hftok *hf, const char *path, const char *what)
{
  return aii_fail(hf->err, AIINFRA_ENOTSUP, "%s: %s behind Fuse is not in this version", path, what);
}

static aiinfra_status byte_level(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)o;
  if (fused(hf)) return not_behind_fuse(hf, path, "ByteLevel");
  return step(hf, (aii_decode_step){.kind = AII_DECODE_BYTE_LEVEL});
}

static aiinfra_status byte_fallback(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)o;
  if (fused(hf)) return not_behind_fuse(hf, path, "ByteFallback");
  return step(hf, (aii_decode_step){.kind = AII_DECODE_BYTE_FALLBACK});
}

static aiinfra_status fuse(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)o;
  (void)path;
  return step(hf, (aii_decode_step){.kind = AII_DECODE_FUSE});
}

static aiinfra_status metaspace(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_str mark = aii_hftok_str(o, "replacement"), scheme = aii_hftok_str(o, "prepend_scheme");
  bool never = scheme.p != NULL ? strcmp(scheme.p, "never") == 0 : !aii_hftok_flag(o, "add_prefix_space", true);
  if (mark.p == NULL || mark.n == 0) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: no replacement", path);
  if (fused(hf)) return not_behind_fuse(hf, path, "Metaspace");
  return step(hf, (aii_decode_step){.kind = AII_DECODE_META, .from = mark, .flags = !never});
}

static aiinfra_status wordpiece(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_str prefix = aii_hftok_str(o, "prefix");
  if (prefix.p == NULL) prefix = (aii_str){"##", 2};
  if (fused(hf)) return not_behind_fuse(hf, path, "WordPiece");
  return step(
      hf, (aii_decode_step){.kind = AII_DECODE_WORDPIECE, .from = prefix, .flags = aii_hftok_flag(o, "cleanup", true)});
}

static aiinfra_status bpe(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_str suffix = aii_hftok_str(o, "suffix");
  if (suffix.p == NULL) suffix = (aii_str){"</w>", 4};
  if (fused(hf)) return not_behind_fuse(hf, path, "BPEDecoder");
  return step(hf, (aii_decode_step){.kind = AII_DECODE_SUFFIX, .from = suffix, .to = {" ", 1}});
}

static aiinfra_status replace(aii_hftok *hf, const json_t *o, const char *path)
{
  aii_decode_step s = {.kind = AII_DECODE_REPLACE, .to = aii_hftok_str(o, "content")};
  bool regex;
  if (s.to.p == NULL) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: Replace needs a text 'content'", path);
  aiinfra_status rc = aii_hftok_pattern(hf, o, path, &s.from, &regex);
  if (rc != AIINFRA_OK) return rc;
  if (regex) return aii_fail(hf->err, AIINFRA_ENOTSUP, "%s: Replace by a Regex is not in this version", path);
  if (fused(hf)) return not_behind_fuse(hf, path, "Replace");
  return step(hf, s);
}

static aiinfra_status strip(aii_hftok *hf, const json_t *o, const char *path)
{
  json_int_t start = json_integer_value(json_object_get(o, "start")),
             stop = json_integer_value(json_object_get(o, "stop"));
  aii_str c = aii_hftok_str(o, "content");
  if (c.p == NULL || c.n == 0 || start < 0 || stop < 0 || start > UINT16_MAX || stop > UINT16_MAX) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: Strip needs a character 'content' and small counts", path);
  }
  if (fused(hf) && (stop > 0 || c.n != 1 || c.p[0] != ' ')) {
    return not_behind_fuse(hf, path, "Strip at the end, or of anything but a space,");
  }
  return step(hf, (aii_decode_step){.kind = AII_DECODE_STRIP, .flags = (uint32_t)(start | stop << 16), .from = c});
}

aiinfra_status aii_hftok_decoder(aii_hftok *hf, const json_t *decoder, const char *path)
{
  static const aii_hftok_kind kinds[] = {{"ByteLevel", byte_level},
                                         {"ByteFallback", byte_fallback},
                                         {"Fuse", fuse},
                                         {"Metaspace", metaspace},
                                         {"WordPiece", wordpiece},
                                         {"BPEDecoder", bpe},
                                         {"Replace", replace},
                                         {"Strip", strip}};
  if (decoder == NULL || json_is_null(decoder)) return step(hf, (aii_decode_step){.kind = AII_DECODE_JOIN});
  return aii_hftok_component(hf, decoder, path, kinds, AII_COUNT(kinds), "decoders");
}

/* ---- the tokens around a text ------------------------------------------------------------------------------------ */

static aiinfra_status add(aii_hftok *hf, bool before, const json_t *id, const char *path)
{
  aii_vocab_spec *s = &hf->spec;
  uint32_t *n = before ? &s->n_before : &s->n_behind;
  if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= hf->desc.n_tokens) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: a token around the text is outside the vocabulary", path);
  }
  if (*n == AII_MAX_AROUND) {
    return aii_fail(hf->err, AIINFRA_ELIMIT, "%s: more than %d tokens on one side of the text", path, AII_MAX_AROUND);
  }
  (before ? s->before : s->behind)[(*n)++] = (aiinfra_token)json_integer_value(id);
  return AIINFRA_OK;
}

static aiinfra_status template(aii_hftok *hf, const json_t *o, const char *path)
{
  const json_t *single = json_object_get(o, "single"), *known = json_object_get(o, "special_tokens");
  bool before = true;
  aiinfra_status rc = AIINFRA_OK;
  if (!json_is_array(single)) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: no template 'single'", path);
  if (hf->spec.n_before > 0 || hf->spec.n_behind > 0) {
    return aii_fail(hf->err, AIINFRA_ENOTSUP, "%s: two post-processors that add tokens", path);
  }
  for (size_t i = 0; i < json_array_size(single) && rc == AIINFRA_OK; i++) {
    const json_t *part = json_array_get(single, i), *special = json_object_get(part, "SpecialToken");
    if (json_object_get(part, "Sequence") != NULL) {
      if (!before) return aii_fail(hf->err, AIINFRA_ENOTSUP, "%s: the text twice in 'single'", path);
      before = false;
      continue;
    }
    const char *name = json_string_value(json_object_get(special, "id"));
    const json_t *ids = name != NULL ? json_object_get(json_object_get(known, name), "ids") : NULL;
    if (!json_is_array(ids)) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: a special token has no ids", path);
    for (size_t k = 0; k < json_array_size(ids) && rc == AIINFRA_OK; k++) {
      rc = add(hf, before, json_array_get(ids, k), path);
    }
  }
  return rc;
}

/* {"sep": ["[SEP]", 102], "cls": ["[CLS]", 101]} */
static aiinfra_status cls_and_sep(aii_hftok *hf, const json_t *o, const char *path)
{
  aiinfra_status rc = add(hf, true, json_array_get(json_object_get(o, "cls"), 1), path);
  return rc == AIINFRA_OK ? add(hf, false, json_array_get(json_object_get(o, "sep"), 1), path) : rc;
}

static aiinfra_status nothing(aii_hftok *hf, const json_t *o, const char *path)
{
  (void)hf;
  (void)o;
  (void)path;
  return AIINFRA_OK; /* offsets only */
}

aiinfra_status aii_hftok_post_processor(aii_hftok *hf, const json_t *post, const char *path)
{
  static const aii_hftok_kind kinds[] = {{"TemplateProcessing", template},
                                         {"BertProcessing", cls_and_sep},
                                         {"RobertaProcessing", cls_and_sep},
                                         {"ByteLevel", nothing}};
  if (post == NULL || json_is_null(post)) return AIINFRA_OK;
  return aii_hftok_component(hf, post, path, kinds, AII_COUNT(kinds), "processors");
}
