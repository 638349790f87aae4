/* hf_json.c - Hugging Face's tokenizer.json: a model and the steps before and behind it, read part by part.
 *
 * The happy path: parse; the model's tokens; added tokens; normalizer, pre-tokenizer, post-processor and decoder become
 * steps of the pipeline; names of special tokens from tokenizer_config.json; build. A component that is not known is
 * refused by name and place (ENOTSUP), a wrong shape is EFORMAT; nothing is ever ignored that would change a token.
 */
#include "src/text/hf_impl.h"

/* A token takes a few bytes of its file at least; small files may have holes in their numbers. */
enum { MAX_TOKENS = 1 << 24, MAX_TOKENS_OF_SMALL_FILES = 1 << 16 };

void aii_hftok_init(aii_hftok *hf, size_t file_bytes, aii_mem *mem, aiinfra_error *err)
{
  static const aii_vocab_extras nothing = {0};
  *hf = (aii_hftok){.mem = mem, .err = err, .extras = &nothing};
  hf->max_tokens = (int64_t)AII_MIN(AII_MAX(file_bytes, (size_t)MAX_TOKENS_OF_SMALL_FILES), (size_t)MAX_TOKENS);
  hf->desc = (aii_vocab_desc){.bos = -1,
                              .eos = -1,
                              .unk = -1,
                              .eot = -1,
                              .eom = -1,
                              .pad = -1,
                              .sep = -1,
                              .add_bos = -1,
                              .add_eos = -1,
                              .add_sep = -1,
                              .add_space_prefix = -1,
                              .remove_extra_spaces = -1};
  aii_map_init(&hf->model, mem);
  aii_map_init(&hf->others, mem);
}

void aii_hftok_free(aii_hftok *hf)
{
  aii_del(hf->mem, hf->tokens, hf->cap_tokens * sizeof *hf->tokens);
  aii_del(hf->mem, hf->types, hf->cap_tokens * sizeof *hf->types);
  aii_del(hf->mem, hf->added, hf->cap_tokens * sizeof *hf->added);
  aii_del(hf->mem, hf->log_probs, hf->cap_tokens * sizeof *hf->log_probs);
  aii_del(hf->mem, hf->pairs, hf->cap_pairs * sizeof *hf->pairs);
  aii_map_free(&hf->model);
  aii_map_free(&hf->others);
  aii_pipe_free(hf->mem, &hf->spec.pipe);
  json_decref(hf->root);
  json_decref(hf->config);
  json_decref(hf->beside);
}

aiinfra_status aii_hftok_no_memory(aii_hftok *hf)
{
  return aii_fail(hf->err, AIINFRA_ENOMEM, "no memory for a vocabulary of %u tokens", hf->desc.n_tokens);
}

/* The four arrays grow together. */
static bool grow_tokens(aii_hftok *hf, size_t n)
{
  size_t a = hf->cap_tokens, cap = AII_MAX(n, AII_MAX(2 * a, (size_t)1024));
  aii_str *tokens = aii_new_array(hf->mem, cap, sizeof *tokens);
  int32_t *types = aii_new_array(hf->mem, cap, sizeof *types);
  uint8_t *added = aii_new_array(hf->mem, cap, sizeof *added);
  double *probs = aii_new_array(hf->mem, cap, sizeof *probs);
  bool ok = tokens != NULL && types != NULL && added != NULL && probs != NULL;
  if (!ok) {
    aii_del(hf->mem, tokens, cap * sizeof *tokens);
    aii_del(hf->mem, types, cap * sizeof *types);
    aii_del(hf->mem, added, cap * sizeof *added);
    aii_del(hf->mem, probs, cap * sizeof *probs);
    return false;
  }
  if (a > 0) {
    memcpy(tokens, hf->tokens, a * sizeof *tokens);
    memcpy(types, hf->types, a * sizeof *types);
    memcpy(added, hf->added, a * sizeof *added);
    memcpy(probs, hf->log_probs, a * sizeof *probs);
  }
  aii_del(hf->mem, hf->tokens, a * sizeof *tokens);
  aii_del(hf->mem, hf->types, a * sizeof *types);
  aii_del(hf->mem, hf->added, a * sizeof *added);
  aii_del(hf->mem, hf->log_probs, a * sizeof *probs);
  hf->tokens = tokens;
  hf->types = types;
  hf->added = added;
  hf->log_probs = probs;
  hf->cap_tokens = cap;
  return true;
}

aiinfra_status aii_hftok_reserve(aii_hftok *hf, int64_t id, const char *path)
{
  if (id < 0 || id >= hf->max_tokens) {
    return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: the token id %lld is not in 0..%lld", path, (long long)id,
                    (long long)hf->max_tokens - 1);
  }
  size_t n = (size_t)id + 1;
  if (n > hf->cap_tokens && !grow_tokens(hf, n)) return aii_hftok_no_memory(hf);
  for (; hf->desc.n_tokens < n; hf->desc.n_tokens++) {
    hf->types[hf->desc.n_tokens] = AII_TOKEN_UNUSED;
    hf->added[hf->desc.n_tokens] = AII_TF_OUTSIDE;
  }
  return AIINFRA_OK;
}

aiinfra_status aii_hftok_token(aii_hftok *hf, aii_str text, int64_t id, const char *path)
{
  aiinfra_status rc = aii_hftok_reserve(hf, id, path);
  if (rc != AIINFRA_OK) return rc;
  hf->tokens[id] = text;
  hf->types[id] = AII_TOKEN_NORMAL;
  hf->added[id] = 0;
  if (!aii_map_set(&hf->model, text.p, text.n, (uint32_t)id)) return aii_hftok_no_memory(hf);
  hf->n_model = (uint32_t)hf->model.n;
  return AIINFRA_OK;
}

bool aii_hftok_flag(const json_t *obj, const char *key, bool fallback)
{
  const json_t *value = json_object_get(obj, key);
  return json_is_boolean(value) ? json_is_true(value) : fallback;
}

aii_str aii_hftok_str(const json_t *obj, const char *key)
{
  const json_t *value = json_object_get(obj, key);
  return (aii_str){json_string_value(value), json_string_length(value)};
}

aiinfra_status aii_hftok_pattern(aii_hftok *hf, const json_t *obj, const char *path, aii_str *text, bool *regex)
{
  const json_t *pattern = json_object_get(obj, "pattern");
  *text = json_is_string(pattern) ? aii_hftok_str(obj, "pattern") : aii_hftok_str(pattern, "String");
  *regex = false;
  if (text->p == NULL) {
    *text = aii_hftok_str(pattern, "Regex");
    *regex = true;
  }
  if (text->p != NULL && text->n > 0) return AIINFRA_OK;
  return aii_fail(hf->err, AIINFRA_EFORMAT, "%s.pattern: expected a String or a Regex that is not empty", path);
}

static aiinfra_status read_one(aii_hftok *hf, const json_t *obj, const char *path, const aii_hftok_kind *kinds,
                               size_t n_kinds)
{
  const char *type = json_string_value(json_object_get(obj, "type"));
  if (type == NULL) return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: expected an object with a type", path);
  for (size_t i = 0; i < n_kinds; i++) {
    if (strcmp(type, kinds[i].type) == 0) return kinds[i].read(hf, obj, path);
  }
  return aii_fail(hf->err, AIINFRA_ENOTSUP, "%s: '%.64s' is not in this version", path, type);
}

/* Sequences may lie in sequences: the ones that are open wait on a small stack. */
aiinfra_status aii_hftok_component(aii_hftok *hf, const json_t *obj, const char *path, const aii_hftok_kind *kinds,
                                   size_t n_kinds, const char *members)
{
  enum { DEPTH = 8 };
  struct {
    const json_t *list;
    size_t next;
  } open[DEPTH];
  size_t depth = 0;
  const json_t *at = obj;
  aiinfra_status rc = AIINFRA_OK;
  while (rc == AIINFRA_OK) {
    const char *type = json_string_value(json_object_get(at, "type"));
    if (at != NULL && type != NULL && strcmp(type, "Sequence") == 0) {
      const json_t *list = json_object_get(at, members);
      if (!json_is_array(list) || depth == DEPTH) {
        return aii_fail(hf->err, AIINFRA_EFORMAT, "%s: a Sequence needs an array '%s', %d deep at most", path, members,
                        DEPTH);
      }
      open[depth].list = list;
      open[depth++].next = 0;
    } else if (at != NULL) {
      rc = read_one(hf, at, path, kinds, n_kinds);
    }
    while (depth > 0 && open[depth - 1].next == json_array_size(open[depth - 1].list)) depth--;
    if (depth == 0) break;
    at = json_array_get(open[depth - 1].list, open[depth - 1].next++);
  }
  return rc;
}

static aiinfra_status read_parts(aii_hftok *hf)
{
  const json_t *root = hf->root;
  aiinfra_status rc = aii_hftok_model(hf, json_object_get(root, "model"));
  if (rc == AIINFRA_OK) rc = aii_hftok_added_tokens(hf, json_object_get(root, "added_tokens"), "added_tokens");
  if (rc == AIINFRA_OK) rc = aii_hftok_normalizer(hf, json_object_get(root, "normalizer"), "normalizer");
  if (rc == AIINFRA_OK) rc = aii_hftok_pre_tokenizer(hf, json_object_get(root, "pre_tokenizer"), "pre_tokenizer");
  if (rc == AIINFRA_OK) rc = aii_hftok_post_processor(hf, json_object_get(root, "post_processor"), "post_processor");
  if (rc == AIINFRA_OK) rc = aii_hftok_decoder(hf, json_object_get(root, "decoder"), "decoder");
  return rc;
}

aiinfra_status aii_hftok_finish(aii_hftok *hf, aii_vocab **out)
{
  aiinfra_status rc = aii_hftok_ids(hf);
  if (rc != AIINFRA_OK) return rc;
  aii_hftok_add_around(hf);
  hf->desc.tokens = hf->tokens;
  hf->desc.types = hf->types;
  hf->spec.added = hf->added;
  hf->spec.log_probs = hf->desc.kind == AII_VOCAB_UGM ? hf->log_probs : NULL;
  hf->spec.merge_pairs = hf->pairs;
  return aii_vocab_build(hf->mem, &hf->desc, &hf->spec, out, hf->err);
}

/* Brackets that no one closes: the file was cut short, and nothing needs to be made of it to tell. */
static bool is_cut_short(const char *json, size_t n)
{
  size_t open = 0;
  for (size_t i = 0; i < n; i++) {
    if (json[i] == '{' || json[i] == '[') open++;
    if ((json[i] == '}' || json[i] == ']') && open-- == 0) return false;
    if (json[i] != '"') continue;
    for (i++; i < n && json[i] != '"'; i++) i += json[i] == '\\';
    if (i >= n) return true;
  }
  return open > 0;
}

aiinfra_status aii_hf_json_check(const char *json, size_t n, aiinfra_error *err)
{
  size_t from = 0;
  while (from < n && (json[from] == ' ' || json[from] == '\n' || json[from] == '\r' || json[from] == '\t')) from++;
  if (from < n && json[from] == '[') {
    return aii_fail(err, AIINFRA_EFORMAT, "tokenizer.json: expected an object, found an array");
  }
  if (!is_cut_short(json, n)) return AIINFRA_OK;
  return aii_fail(err, AIINFRA_EFORMAT, "tokenizer.json: the file ends too soon");
}

aiinfra_status aii_vocab_from_hf_json(aii_mem *mem, const char *json, size_t n, const aii_vocab_extras *extras,
                                      aii_vocab **out, aiinfra_error *err)
{
  aii_hftok hf;
  *out = NULL;
  aiinfra_status rc = aii_hf_json_check(json, n, err);
  if (rc != AIINFRA_OK) return rc;
  aii_hftok_init(&hf, n, mem, err);
  rc = aii_json_parse(json, n, "tokenizer.json", 0, &hf.root, err);
  if (rc == AIINFRA_OK && !json_is_object(hf.root)) {
    rc = aii_fail(err, AIINFRA_EFORMAT, "expected an object, found %s", aii_json_type(hf.root));
  }
  if (rc == AIINFRA_OK) rc = aii_hftok_read_extras(&hf, extras);
  if (rc == AIINFRA_OK) rc = read_parts(&hf);
  if (rc == AIINFRA_OK) rc = aii_hftok_finish(&hf, out);
  aii_hftok_free(&hf);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "tokenizer.json");
}
