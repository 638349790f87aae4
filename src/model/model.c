/* model.c - a model's life: from an opened file to weights that the backend has prepared, and back.
 *
 * The happy path is: architecture -> vocabulary -> hyper-parameters -> plan of layers -> tensors -> does it fit? -> upload
 * -> template. Each step validates what the next one uses. On failure everything made so far is given back.
 * Opening runs on the calling thread; the last reference may go on any thread.
 */
#include <stdio.h>

#include "src/model/arch.h"
#include "src/model/packed.h"

enum { MAX_POOLING = 3 };

void aii_model_ref(aiinfra_model *m)
{
  atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
}

static void destroy(aiinfra_model *m)
{
  aiinfra_runtime *rt = m->rt;
  aii_mem *mem = &rt->mem;
  size_t cursor = 0;
  aii_ranks_end(m);
  for (size_t i = 0; i < m->n_uploaded; i++) rt->backend->ops->unload(rt->backend, aii_tensors_at(m, &cursor));
  if (m->slab != NULL) rt->backend->ops->release(rt->backend, m->slab, m->slab_bytes);
  aii_packed_free(m->packed);
  aii_split_forget(m, true);
  aii_del(mem, m->order_words, m->order_words_cap * sizeof *m->order_words);
  aii_head_free(mem, m->head);
  aii_layers_free(m);
  aii_template_free(m->tmpl);
  aii_vocab_free(m->vocab);
  aii_strfree(mem, m->template_text);
  aii_strfree(mem, m->name);
  aii_strfree(mem, m->bos_text);
  aii_strfree(mem, m->eos_text);
  aii_gguf_free(m->gguf);
  aii_del(mem, m, sizeof *m);
  aii_runtime_unref(rt);
}

void aii_model_unref(aiinfra_model *m)
{
  if (atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) == 1) destroy(m);
}

/* ---- texts --------------------------------------------------------------------------------------------------- */

static aiinfra_status copy_text(aiinfra_model *m, const char *p, size_t n, char **out, aiinfra_error *err)
{
  *out = aii_strndup(&m->rt->mem, p, strnlen(p, n));
  return *out != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a text of %zu bytes", n);
}

static aiinfra_status copy_piece(aiinfra_model *m, int32_t token, char **out, aiinfra_error *err)
{
  aii_str piece = token >= 0 ? aii_vocab_piece(m->vocab, token, true) : (aii_str){"", 0};
  return copy_text(m, piece.n > 0 ? piece.p : "", piece.n, out, err);
}

static aiinfra_status read_name(aiinfra_model *m, const char *fallback, aiinfra_error *err)
{
  aii_str name;
  if (aii_gguf_get_str(m->gguf, "general.name", &name) && name.n > 0 && aii_utf8_valid(name.p, name.n)) {
    return copy_text(m, name.p, name.n, &m->name, err);
  }
  return copy_text(m, fallback, strlen(fallback), &m->name, err);
}

/* A template that the interpreter does not know is no reason to refuse the model: rendering will say so. */
static aiinfra_status read_template(aiinfra_model *m, aiinfra_error *err)
{
  aii_str text;
  if (!aii_gguf_get_str(m->gguf, "tokenizer.chat_template", &text) || text.n == 0) return AIINFRA_OK;
  aiinfra_status rc = copy_text(m, text.p, text.n, &m->template_text, err);
  if (rc != AIINFRA_OK) return rc;
  m->syntax = aii_output_detect(m->template_text);
  aiinfra_error why;
  rc = aii_template_parse(&m->rt->mem, m->template_text, strlen(m->template_text), &m->tmpl, &why);
  if (rc == AIINFRA_ENOMEM) return aii_fail(err, rc, "chat template: %s", why.message);
  if (rc != AIINFRA_OK) {
    m->tmpl = NULL;
    aii_logf(&m->rt->log, AIINFRA_LOG_WARN, "model '%s': its chat template cannot be used: %s", m->name, why.message);
  }
  return AIINFRA_OK;
}

static aiinfra_status read_texts(aiinfra_model *m, const char *fallback, aiinfra_error *err)
{
  aiinfra_status rc = AIINFRA_OK;
  m->vocab = m->gguf->vocab;
  m->gguf->vocab = NULL;
  if (m->vocab == NULL) rc = aii_vocab_from_gguf(&m->rt->mem, m->gguf, &m->vocab, err);
  if (rc != AIINFRA_OK) return rc;
  m->hp.n_vocab = aii_vocab_size(m->vocab);
  rc = read_name(m, fallback, err);
  if (rc == AIINFRA_OK) rc = copy_piece(m, aii_vocab_bos(m->vocab), &m->bos_text, err);
  if (rc == AIINFRA_OK) rc = copy_piece(m, aii_vocab_eos(m->vocab), &m->eos_text, err);
  if (rc == AIINFRA_OK) rc = read_template(m, err);
  return rc;
}

/* ---- loading ------------------------------------------------------------------------------------------------- */

static aiinfra_status set_context(aiinfra_model *m, uint32_t wanted, aiinfra_error *err)
{
  if (wanted > m->hp.train_context) {
    return aii_fail(err, AIINFRA_EINVAL, "max_context is %u; the model was trained for %u tokens", wanted,
                    m->hp.train_context);
  }
  m->max_context = wanted != 0 ? wanted : m->hp.train_context;
  return AIINFRA_OK;
}

/* GGUF's numbers of mean, cls and last are ours; others (none, a reranker's head) say nothing about a vector. */
static void read_pooling(aiinfra_model *m)
{
  char key[96];
  uint32_t pooling = 0;
  bool normalize = true;
  (void)snprintf(key, sizeof key, "%s.normalize", m->arch->name);
  (void)aii_gguf_get_bool(m->gguf, key, &normalize);
  m->raw_vectors = !normalize;
  (void)snprintf(key, sizeof key, "%s.pooling_type", m->arch->name);
  if (aii_gguf_get_u32(m->gguf, key, &pooling) && pooling <= MAX_POOLING) m->pooling = (int32_t)pooling;
}

/* Making tensors counts as the first half of the progress where there are any to make. */
static int first_half(void *user, double fraction)
{
  const aiinfra_model_opts *opts = user;
  return opts->progress(opts->progress_user, fraction / 2);
}

static aiinfra_status make_tensors(aiinfra_model *m, const aiinfra_model_opts *opts, aiinfra_error *err)
{
  aiinfra_model_opts copy = *opts;
  return aii_gguf_load(m->gguf, opts->load_type, opts->progress != NULL ? first_half : NULL, &copy, err);
}

static aiinfra_status load_weights(aiinfra_model *m, const aiinfra_model_opts *opts, aiinfra_error *err)
{
  aiinfra_status rc = aii_hparams_read(m->gguf, m->arch, &m->hp, err);
  if (rc == AIINFRA_OK) read_pooling(m);
  if (rc == AIINFRA_OK) rc = set_context(m, opts->max_context, err);
  if (rc == AIINFRA_OK) rc = aii_layers_plan(m, err);
  if (rc == AIINFRA_OK) rc = make_tensors(m, opts, err);
  if (rc == AIINFRA_OK) rc = aii_tensors_bind(m, err);
  if (rc == AIINFRA_OK) rc = aii_split_model(m, err);
  if (rc == AIINFRA_OK) rc = aii_model_upload(m, opts, err);
  aii_split_forget(m, false);
  return rc;
}

static aiinfra_status load(aiinfra_model *m, const char *name, const aiinfra_model_opts *opts, aiinfra_error *err)
{
  aii_str arch;
  aiinfra_status rc = aii_arch_find(m->gguf, &m->arch, &arch, err);
  m->vocab_only = opts->vocab_only == 1;
  if (rc != AIINFRA_OK && !(rc == AIINFRA_ENOTSUP && m->vocab_only)) return rc;
  rc = read_texts(m, name, err);
  if (rc != AIINFRA_OK) return rc;
  if (!m->vocab_only) return load_weights(m, opts, err);
  aii_hparams_glance(m->gguf, arch, &m->hp);
  m->max_context = opts->max_context != 0 ? AII_MIN(opts->max_context, m->hp.train_context) : m->hp.train_context;
  return AIINFRA_OK;
}

aiinfra_status aii_model_load(aiinfra_runtime *rt, aii_gguf *gguf, const char *name, const aiinfra_model_opts *opts,
                              aiinfra_model **out, aiinfra_error *err)
{
  *out = NULL;
  aiinfra_model *m = aii_new(&rt->mem, sizeof *m);
  if (m == NULL) {
    aii_gguf_free(gguf);
    return aii_fail(err, AIINFRA_ENOMEM, "no memory for a model");
  }
  m->rt = rt;
  m->gguf = gguf;
  atomic_init(&m->refs, 1);
  aii_runtime_ref(rt);
  aiinfra_status rc = load(m, name, opts, err);
  if (rc != AIINFRA_OK) {
    aii_model_unref(m);
    return rc;
  }
  aii_logf(&rt->log, AIINFRA_LOG_INFO, "model '%s' opened: %llu weights, %llu bytes", m->name,
           (unsigned long long)m->n_params, (unsigned long long)m->weight_bytes);
  *out = m;
  return AIINFRA_OK;
}

aiinfra_status aii_model_render(const aiinfra_model *m, const aiinfra_render_opts *opts, bool guarded, aii_buf *out,
                                aiinfra_error *err)
{
  if (m->template_text == NULL) return aii_fail(err, AIINFRA_ENOTSUP, "model '%s' has no chat template", m->name);
  if (m->tmpl == NULL) {
    aii_template *again = NULL;
    aiinfra_status rc = aii_template_parse(out->mem, m->template_text, strlen(m->template_text), &again, err);
    aii_template_free(again);
    return rc == AIINFRA_ENOMEM ? rc : aii_wrap(err, AIINFRA_ENOTSUP, "the chat template of model '%s'", m->name);
  }
  aii_template_vars vars = {.messages_json = opts->messages_json,
                            .tools_json = opts->tools_json,
                            .extra_json = opts->variables_json,
                            .now_s = opts->now_s,
                            .guard = guarded ? m->vocab : NULL,
                            .bos_token = m->bos_text,
                            .eos_token = m->eos_text,
                            .add_generation_prompt = opts->add_generation_prompt > 0};
  aiinfra_status rc = aii_template_render(m->tmpl, &vars, out, err);
  return rc == AIINFRA_EFORMAT ? aii_wrap(err, AIINFRA_EINVAL, "chat") : rc; /* the caller's JSON is an argument */
}
