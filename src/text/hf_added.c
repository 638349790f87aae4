/* hf_added.c - added tokens, and what tokenizer_config.json says about them.
 *
 * Numbers are given as Hugging Face gives them: a token that the model has keeps the model's number, another gets the
 * next free one; the number in the file is what that comes to in any file that was written by a machine.
 */
#include "src/text/hf_impl.h"

static int64_t next_id(const aii_hftok *hf)
{
  if (hf->any_added && (hf->max_added >= hf->n_model || hf->n_model == 0)) return (int64_t)hf->max_added + 1;
  return hf->n_model;
}

/* obj: what else is known of it; NULL: nothing. */
static aiinfra_status add_text(aii_hftok *hf, aii_str text, const json_t *obj, int64_t listed, const char *path)
{
  if (text.n == 0) return AIINFRA_OK;
  bool special = aii_hftok_flag(obj, "special", false);
  uint32_t known;
  bool in_model = aii_map_get(&hf->model, text.p, text.n, &known);
  bool again = !in_model && aii_map_get(&hf->others, text.p, text.n, &known);
  int64_t id = in_model || again ? (int64_t)known : listed >= 0 ? listed : next_id(hf);
  aiinfra_status rc = aii_hftok_reserve(hf, id, path);
  if (rc != AIINFRA_OK) return rc;
  if (!in_model && !aii_map_set(&hf->others, text.p, text.n, (uint32_t)id)) return aii_hftok_no_memory(hf);
  uint8_t flags = AII_TF_ADDED | (in_model ? 0 : AII_TF_OUTSIDE);
  if (aii_hftok_flag(obj, "lstrip", false)) flags |= AII_TF_LSTRIP;
  if (aii_hftok_flag(obj, "rstrip", false)) flags |= AII_TF_RSTRIP;
  if (aii_hftok_flag(obj, "single_word", false)) flags |= AII_TF_SINGLE_WORD;
  if (aii_hftok_flag(obj, "normalized", !special)) flags |= AII_TF_NORMALIZED;
  hf->tokens[id] = text;
  hf->types[id] = special ? AII_TOKEN_CONTROL : AII_TOKEN_USER;
  hf->added[id] = flags;
  hf->max_added = AII_MAX(hf->max_added, (uint32_t)id);
  hf->any_added = true;
  return AIINFRA_OK;
}

static aiinfra_status add_token(aii_hftok *hf, const json_t *obj, int64_t listed, const char *path)
{
  aii_str text = aii_hftok_str(obj, "content");
  if (text.p == NULL) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: an added token has no content", path);
  return add_text(hf, text, obj, listed, path);
}

aiinfra_status aii_hftok_added_tokens(aii_hftok *hf, const json_t *list, const char *path)
{
  if (list == NULL || json_is_null(list)) return AIINFRA_OK;
  if (!json_is_array(list)) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: expected an array, found %s", path, aii_json_type(list));
  }
  aiinfra_status rc = AIINFRA_OK;
  for (size_t i = 0; i < json_array_size(list) && rc == AIINFRA_OK; i++) {
    rc = add_token(hf, json_array_get(list, i), -1, path);
  }
  return rc;
}

aiinfra_status aii_hftok_config_tokens(aii_hftok *hf)
{
  json_t *decoder = json_object_get(hf->config, "added_tokens_decoder");
  aiinfra_status rc = AIINFRA_OK;
  for (void *at = json_object_iter(hf->beside); at != NULL && rc == AIINFRA_OK;
       at = json_object_iter_next(hf->beside, at)) {
    const json_t *id = json_object_iter_value(at);
    aii_str text = {json_object_iter_key(at), json_object_iter_key_len(at)};
    if (!json_is_integer(id) || json_integer_value(id) < 0) {
      return aii_fail(hf->err, AIINFRA_EFORMAT, "added_tokens.json: the token \"%.64s\" has no number", text.p);
    }
    rc = add_text(hf, text, NULL, json_integer_value(id), "added_tokens.json");
  }
  for (void *at = json_object_iter(decoder); at != NULL && rc == AIINFRA_OK; at = json_object_iter_next(decoder, at)) {
    int64_t id = 0;
    const char *key = json_object_iter_key(at);
    for (const char *c = key; *c != 0 && id >= 0; c++) {
      id = *c >= '0' && *c <= '9' && id < INT32_MAX ? id * 10 + (*c - '0') : -1;
    }
    if (id < 0) return aii_fail(hf->err, AIINFRA_EFORMAT, "added_tokens_decoder: \"%.32s\" is no token number", key);
    rc = add_token(hf, json_object_iter_value(at), id, "added_tokens_decoder");
  }
  return rc;
}

static aiinfra_status read_object(aii_hftok *hf, aii_str text, const char *name, json_t **out)
{
  if (text.p == NULL) return AIINFRA_OK;
  aiinfra_status rc = aii_json_parse(text.p, text.n, name, 0, out, hf->err);
  if (rc != AIINFRA_OK || json_is_object(*out)) return rc;
  return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: expected an object, found %s", name, aii_json_type(*out));
}

aiinfra_status aii_hftok_read_extras(aii_hftok *hf, const aii_vocab_extras *extras)
{
  if (extras == NULL) return AIINFRA_OK;
  hf->extras = extras;
  aiinfra_status rc = read_object(hf, extras->config, "tokenizer_config.json", &hf->config);
  return rc == AIINFRA_OK ? read_object(hf, extras->added, "added_tokens.json", &hf->beside) : rc;
}

/* "bos_token": "<s>" or {"content": "<s>"}. */
static aii_str named(const aii_hftok *hf, const char *key)
{
  const json_t *value = json_object_get(hf->config, key);
  return json_is_object(value) ? aii_hftok_str(value, "content") : aii_hftok_str(hf->config, key);
}

static void find_named(aii_hftok *hf, const char *key, int32_t *out)
{
  aii_str text = named(hf, key);
  for (uint32_t i = 0; text.p != NULL && i < hf->desc.n_tokens; i++) {
    if (hf->types[i] == AII_TOKEN_UNUSED || hf->tokens[i].n != text.n) continue;
    if (memcmp(hf->tokens[i].p, text.p, text.n) != 0) continue;
    *out = (int32_t)i;
    return;
  }
}

/* Some files leave the tokens around a text to these switches, because a class of Hugging Face's adds them. */
void aii_hftok_add_around(aii_hftok *hf)
{
  aii_vocab_spec *s = &hf->spec;
  if (s->n_before > 0 || s->n_behind > 0) return;
  if (aii_hftok_flag(hf->config, "add_bos_token", false) && hf->desc.bos >= 0) s->before[s->n_before++] = hf->desc.bos;
  if (aii_hftok_flag(hf->config, "add_eos_token", false) && hf->desc.eos >= 0) s->behind[s->n_behind++] = hf->desc.eos;
}

static void fall_back(const aii_hftok *hf, int32_t id, int32_t *out)
{
  if (*out < 0 && id >= 0 && (uint32_t)id < hf->desc.n_tokens) *out = id;
}

aiinfra_status aii_hftok_ids(aii_hftok *hf)
{
  aii_vocab_desc *d = &hf->desc;
  const struct aii_vocab_ids *ids = hf->extras->ids;
  int32_t cls = -1;
  uint32_t least = hf->extras->n_least; /* as many as the model has rows for */
  hf->max_tokens = AII_MAX(hf->max_tokens, (int64_t)least);
  aiinfra_status rc = least > 0 ? aii_hftok_reserve(hf, (int64_t)least - 1, "the number of tokens") : AIINFRA_OK;
  if (rc != AIINFRA_OK) return rc;
  find_named(hf, "bos_token", &d->bos);
  find_named(hf, "eos_token", &d->eos);
  find_named(hf, "pad_token", &d->pad);
  find_named(hf, "sep_token", &d->sep);
  find_named(hf, "cls_token", &cls);
  fall_back(hf, cls, &d->bos);
  if (hf->spec.n_before > 0) fall_back(hf, hf->spec.before[0], &d->bos);
  if (ids == NULL) return AIINFRA_OK;
  fall_back(hf, ids->bos, &d->bos);
  fall_back(hf, ids->eos, &d->eos);
  fall_back(hf, ids->sep, &d->sep);
  fall_back(hf, ids->pad, &d->pad);
  return AIINFRA_OK;
}
