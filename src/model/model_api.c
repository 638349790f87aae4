/* model_api.c - the public functions of aiinfra/model.h: check the arguments, load the options, call down. */
#include "src/model/arch.h"

enum { MAX_RENDERED_BYTES = 64 << 20 };

static aiinfra_status check_opts(const aiinfra_model_opts *o, aiinfra_error *err)
{
  if (o->vocab_only != 0 && o->vocab_only != 1) {
    return aii_fail(err, AIINFRA_EINVAL, "vocab_only is %d; it must be 0 or 1", o->vocab_only);
  }
  if (o->bf16_activations != 0 && o->bf16_activations != 1) {
    return aii_fail(err, AIINFRA_EINVAL, "bf16_activations is %d; it must be 0 or 1", o->bf16_activations);
  }
  if (o->reserved != 0) return aii_fail(err, AIINFRA_ENOTSUP, "reserved must be 0");
  return AIINFRA_OK;
}

/* MODEL.packed, beside a folder too. */
static aiinfra_status name_packed(const char *path, aii_buf *buf, aiinfra_model_opts *o, aiinfra_error *err)
{
  size_t n = strlen(path);
  if (o->packed_path == NULL || o->packed_path[0] != '\0') return AIINFRA_OK;
  while (n > 1 && path[n - 1] == '/') n--;
  aii_buf_add(buf, path, n);
  aii_buf_str(buf, ".packed");
  if (buf->failed) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a path");
  o->packed_path = buf->data;
  return AIINFRA_OK;
}

static aiinfra_status open_model(aiinfra_runtime *runtime, const char *path, aiinfra_model_opts *o, aiinfra_model **out,
                                 aiinfra_error *err)
{
  aii_gguf *gguf;
  aii_buf packed;
  const char *slash = strrchr(path, '/');
  aii_buf_init(&packed, &runtime->mem, 0);
  aiinfra_status rc = name_packed(path, &packed, o, err);
  if (rc == AIINFRA_OK) rc = aii_source_open(&runtime->mem, path, o->tokenizer, &gguf, err);
  if (rc == AIINFRA_OK) {
    rc = aii_model_load(runtime, gguf, slash != NULL ? slash + 1 : path, o, out, err);
    if (rc != AIINFRA_OK) rc = aii_wrap(err, rc, "open '%s'", path);
  }
  aii_buf_free(&packed);
  if (o->vocab_only != 1) {
    rc = aii_ranks_meet(runtime, *out, rc, err);
    if (rc != AIINFRA_OK && *out != NULL) aii_model_unref(*out);
    if (rc != AIINFRA_OK) *out = NULL;
  }
  return rc;
}

aiinfra_status aiinfra_model_open(aiinfra_runtime *runtime, const char *path, const aiinfra_model_opts *opts,
                                  aiinfra_model **out, aiinfra_error *err)
{
  aiinfra_model_opts o;
  if (out == NULL) return aii_fail(err, AIINFRA_EINVAL, "out is NULL");
  *out = NULL;
  if (runtime == NULL || path == NULL) return aii_fail(err, AIINFRA_EINVAL, "runtime or path is NULL");
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, vocab_only, err);
  if (rc == AIINFRA_OK) rc = check_opts(&o, err);
  return rc == AIINFRA_OK ? open_model(runtime, path, &o, out, err) : rc;
}

aiinfra_status aiinfra_model_follow(aiinfra_model *model, aiinfra_error *err)
{
  if (model == NULL) return aii_fail(err, AIINFRA_EINVAL, "model is NULL");
  if (!aii_is_split(model)) return aii_fail(err, AIINFRA_EINVAL, "this model is in one process alone");
  if (model->rt->comm->rank == 0)
    return aii_fail(err, AIINFRA_EINVAL, "rank 0 leads: use the model, the others follow");
  return aii_ranks_follow(model, err);
}

void aiinfra_model_free(aiinfra_model *model)
{
  if (model != NULL) aii_model_unref(model);
}

aiinfra_status aiinfra_model_get_info(const aiinfra_model *model, aiinfra_model_info *info, aiinfra_error *err)
{
  if (model == NULL || info == NULL) return aii_fail(err, AIINFRA_EINVAL, "model or info is NULL");
  if (info->struct_size != sizeof *info) {
    return aii_fail(err, info->struct_size < sizeof *info ? AIINFRA_EINVAL : AIINFRA_ENOTSUP,
                    "aiinfra_model_info: struct_size is %zu; version %s has %zu bytes", info->struct_size,
                    AIINFRA_VERSION_STRING, sizeof *info);
  }
  *info = (aiinfra_model_info){
      .struct_size = sizeof *info,
      .n_params = model->n_params,
      .weight_bytes = model->weight_bytes,
      .n_vocab = model->hp.n_vocab,
      .n_embd = model->hp.n_embd,
      .n_layers = model->hp.n_layers,
      .n_heads = model->hp.n_heads,
      .n_kv_heads = model->hp.n_kv_heads,
      .head_dim = model->hp.head_dim,
      .max_context = model->max_context,
      .bos = aii_vocab_bos(model->vocab),
      .eos = aii_vocab_eos(model->vocab),
      .has_template = model->template_text != NULL,
  };
  return AIINFRA_OK;
}

aiinfra_status aiinfra_model_describe(const aiinfra_model *model, char **out_json, aiinfra_error *err)
{
  if (out_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_json is NULL");
  *out_json = NULL;
  if (model == NULL) return aii_fail(err, AIINFRA_EINVAL, "model is NULL");
  aii_buf buf;
  aii_buf_init(&buf, &model->rt->mem, 0);
  aii_model_describe(model, &buf);
  return aii_buf_export(&buf, out_json, err);
}

aiinfra_status aiinfra_model_tokenize(const aiinfra_model *model, const char *text, size_t n_bytes, uint32_t flags,
                                      aiinfra_token *tokens, size_t cap, size_t *n, aiinfra_error *err)
{
  if (n == NULL) return aii_fail(err, AIINFRA_EINVAL, "n is NULL");
  *n = 0;
  if (model == NULL || (text == NULL && n_bytes > 0) || (tokens == NULL && cap > 0)) {
    return aii_fail(err, AIINFRA_EINVAL, "model, text or tokens is NULL");
  }
  if ((flags & ~(uint32_t)(AIINFRA_TOKENIZE_SPECIAL | AIINFRA_TOKENIZE_BOS)) != 0) {
    return aii_fail(err, AIINFRA_EINVAL, "flags 0x%x are not known", flags);
  }
  aii_tokens found;
  aii_tokens_init(&found, &model->rt->mem);
  aiinfra_status rc = aii_tokenize(model->vocab, text != NULL ? text : "", n_bytes, flags, &found, err);
  if (rc == AIINFRA_OK) {
    *n = found.n;
    size_t fit = AII_MIN(cap, found.n);
    if (fit > 0) memcpy(tokens, found.items, fit * sizeof tokens[0]);
    if (found.n > cap) {
      rc = aii_fail(err, AIINFRA_ENOSPC, "the text has %zu tokens, there is room for %zu", found.n, cap);
    }
  }
  aii_tokens_free(&found);
  return rc;
}

aiinfra_status aiinfra_model_detokenize(const aiinfra_model *model, const aiinfra_token *tokens, size_t n, int special,
                                        char **out_text, size_t *out_bytes, aiinfra_error *err)
{
  if (out_text == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_text is NULL");
  *out_text = NULL;
  if (out_bytes != NULL) *out_bytes = 0;
  if (model == NULL || (tokens == NULL && n > 0)) return aii_fail(err, AIINFRA_EINVAL, "model or tokens is NULL");
  aii_detok start;
  aii_detok_init(&start, model->vocab, special != 0, true);
  aii_buf buf;
  aii_buf_init(&buf, &model->rt->mem, 0);
  for (size_t i = 0; i < n; i++) {
    if (tokens[i] < 0 || (uint32_t)tokens[i] >= model->hp.n_vocab) {
      aii_buf_free(&buf);
      return aii_fail(err, AIINFRA_EINVAL, "token %d is outside the vocabulary of %u", tokens[i], model->hp.n_vocab);
    }
    aii_detok_bytes(&start, tokens[i], &buf);
  }
  size_t bytes = buf.len;
  aiinfra_status rc = aii_buf_export(&buf, out_text, err);
  if (rc == AIINFRA_OK && out_bytes != NULL) *out_bytes = bytes;
  return rc;
}

aiinfra_status aiinfra_model_render_chat(const aiinfra_model *model, const aiinfra_render_opts *opts, char **out_text,
                                         aiinfra_error *err)
{
  aiinfra_render_opts o;
  if (out_text == NULL) return aii_fail(err, AIINFRA_EINVAL, "out_text is NULL");
  *out_text = NULL;
  aiinfra_status rc = AII_OPTS_LOAD(&o, opts, add_generation_prompt, err);
  if (rc != AIINFRA_OK) return rc;
  if (model == NULL || o.messages_json == NULL) return aii_fail(err, AIINFRA_EINVAL, "model or messages_json is NULL");
  aii_buf buf;
  aii_buf_init(&buf, &model->rt->mem, MAX_RENDERED_BYTES);
  rc = aii_model_render(model, &o, false, &buf, err);
  if (rc == AIINFRA_OK) return aii_buf_export(&buf, out_text, err);
  aii_buf_free(&buf);
  return rc;
}

aiinfra_status aiinfra_model_render(const aiinfra_model *model, const char *messages_json, const char *tools_json,
                                    int add_generation_prompt, char **out_text, aiinfra_error *err)
{
  aiinfra_render_opts opts = AIINFRA_RENDER_OPTS_INIT;
  opts.messages_json = messages_json;
  opts.tools_json = tools_json;
  opts.add_generation_prompt = add_generation_prompt != 0;
  return aiinfra_model_render_chat(model, &opts, out_text, err);
}
