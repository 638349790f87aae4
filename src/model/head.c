/* head.c - the classification head of a reranker: from a pooled hidden state to one score.
 *
 *   score = out tanh(dense h + dense_bias) + out_bias      (without a dense layer: out h + out_bias)
 *
 * ModernBERT's has gelu in place of tanh and a layer norm behind it; h is a mean or that of one token, as the file says.
 * A head of one class gives its logit, one of two the logit of "yes" (or the second class) minus that of the other, so
 * that the logistic function of the score is the probability in both cases. Heads are small: they are kept as F32 and
 * computed by the host, in double, in a fixed order. Reading: the opening thread; scoring: any, it changes nothing.
 */
#include <math.h>
#include <stdio.h>

#include "aiinfra/batcher.h"
#include "src/model/arch.h"

enum { MAX_CLASSES = 2, MAX_TEMPLATE_BYTES = 1 << 16 };

static const char *const names[] = {"cls.weight",    "cls.bias",          "cls.norm.weight",
                                    "cls.norm.bias", "cls.output.weight", "cls.output.bias"};

bool aii_head_owns(const aii_gguf_tensor *t)
{
  for (size_t i = 0; i < AII_COUNT(names); i++)
    if (t->name.n == strlen(names[i]) && memcmp(t->name.p, names[i], t->name.n) == 0) return true;
  return false;
}

void aii_head_free(aii_mem *mem, aii_head *h)
{
  if (h == NULL) return;
  size_t n = h->n_embd;
  aii_del(mem, h->dense, n * n * sizeof(float));
  aii_del(mem, h->dense_bias, n * sizeof(float));
  aii_del(mem, h->norm, n * sizeof(float));
  aii_del(mem, h->norm_bias, n * sizeof(float));
  aii_del(mem, h->out, n * h->n_classes * sizeof(float));
  aii_del(mem, h->out_bias, h->n_classes * sizeof(float));
  aii_strfree(mem, h->prompt);
  aii_del(mem, h, sizeof *h);
}

/* ---- reading ------------------------------------------------------------------------------------------------------ */

/* A tensor as F32; *out NULL and OK when the file does not have it. */
static aiinfra_status read_tensor(aiinfra_model *m, const char *name, uint64_t n_in, uint64_t n_out, size_t *found,
                                  float **out, aiinfra_error *err)
{
  const aii_gguf_tensor *t = aii_gguf_find_tensor(m->gguf, name);
  *out = NULL;
  if (t == NULL) return AIINFRA_OK;
  if (t->ne[0] != n_in || t->ne[1] != n_out || t->ne[2] != 1 || t->ne[3] != 1)
    return aii_fail(err, AIINFRA_EFORMAT, "tensor '%s' is %llu x %llu; the hyper-parameters make it %llu x %llu", name,
                    (unsigned long long)t->ne[0], (unsigned long long)t->ne[1], (unsigned long long)n_in,
                    (unsigned long long)n_out);
  *out = aii_new_array(&m->rt->mem, (size_t)(n_in * n_out), sizeof **out);
  if (*out == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for tensor '%s'", name);
  ++*found;
  aiinfra_status rc = aii_dequantize_rows((aii_dtype)t->type, t->data, (size_t)n_out, (size_t)n_in, *out, err);
  return rc == AIINFRA_OK ? rc : aii_wrap(err, rc, "tensor '%s'", name);
}

/* The class that means "relevant": the label "yes", else the last one. */
static uint32_t find_yes(const aiinfra_model *m, uint32_t n_classes)
{
  char key[96];
  (void)snprintf(key, sizeof key, "%s.classifier.output_labels", m->arch->name);
  const aii_gguf_kv *kv = aii_gguf_find(m->gguf, key);
  if (kv == NULL || kv->type != AII_GGUF_ARRAY || kv->elem_type != AII_GGUF_STRING || kv->count != n_classes)
    return n_classes - 1;
  const uint8_t *at = kv->data;
  for (uint32_t i = 0; i < n_classes; i++) {
    aii_str label = aii_gguf_next_str(&at);
    if (label.n == 3 && memcmp(label.p, "yes", 3) == 0) return i;
  }
  return n_classes - 1;
}

/* RoBERTa and its kin put two separators between a pair, BERT and ModernBERT one. Where the file does not say it, the
 * name of the pre-tokenizer does, or the vocabulary: Unigram is XLM-RoBERTa's. */
static bool takes_two_seps(const aiinfra_model *m)
{
  const aii_gguf *gguf = m->gguf;
  static const char *const robertas[] = {"roberta-bpe", "jina-v1-en", "jina-v2-code"};
  aii_str kind = {"", 0}, pre = {"", 0};
  (void)aii_gguf_get_str(gguf, "tokenizer.ggml.model", &kind);
  (void)aii_gguf_get_str(gguf, "tokenizer.ggml.pre", &pre);
  bool two = kind.n == 2 && memcmp(kind.p, "t5", 2) == 0;
  for (size_t i = 0; i < AII_COUNT(robertas); i++)
    two = two || (pre.n == strlen(robertas[i]) && memcmp(pre.p, robertas[i], pre.n) == 0);
  if ((kind.n == 4 && memcmp(kind.p, "bert", 4) == 0) || (m->arch->flags & AII_MODERN_HEAD) != 0) return false;
  (void)aii_gguf_get_bool(gguf, "tokenizer.ggml.add_sep_token", &two);
  return two;
}

/* Which hidden states it reads. ModernBERT's files of other programs do not say it: there it is the mean. */
static aiinfra_status read_pooling(const aiinfra_model *m, aii_head *h, aiinfra_error *err)
{
  char key[96];
  uint32_t pooling = m->hp.causal ? AIINFRA_POOLING_LAST : h->gelu ? AIINFRA_POOLING_MEAN : AIINFRA_POOLING_CLS;
  (void)snprintf(key, sizeof key, "%s.classifier.pooling_type", m->arch->name);
  bool said = aii_gguf_find(m->gguf, key) != NULL;
  if (said &&
      (!aii_gguf_get_u32(m->gguf, key, &pooling) || pooling < AIINFRA_POOLING_MEAN || pooling > AIINFRA_POOLING_LAST))
    return aii_fail(err, AIINFRA_EFORMAT, "key '%s' must be 1 (mean), 2 (first token) or 3 (last token)", key);
  h->pooling = (int32_t)pooling;
  return AIINFRA_OK;
}

static aiinfra_status read_prompt(aiinfra_model *m, aii_head *h, aiinfra_error *err)
{
  aii_str text;
  h->two_seps = takes_two_seps(m);
  h->pair_types = m->hp.n_types >= 2 && !h->two_seps; /* RoBERTa and its kin never told texts apart */
  if (!aii_gguf_get_str(m->gguf, "tokenizer.chat_template.rerank", &text) || text.n == 0) return AIINFRA_OK;
  if (text.n > MAX_TEMPLATE_BYTES || memchr(text.p, 0, text.n) != NULL)
    return aii_fail(err, AIINFRA_EFORMAT, "key 'tokenizer.chat_template.rerank' is longer than %d bytes, or no text",
                    MAX_TEMPLATE_BYTES);
  h->prompt = aii_strndup(&m->rt->mem, text.p, text.n);
  return h->prompt != NULL ? AIINFRA_OK : aii_fail(err, AIINFRA_ENOMEM, "no memory for a prompt of %zu bytes", text.n);
}

aiinfra_status aii_head_bind(aiinfra_model *m, size_t *found, aiinfra_error *err)
{
  const aii_gguf_tensor *out = aii_gguf_find_tensor(m->gguf, "cls.output.weight");
  uint32_t n = m->hp.n_embd;
  if (out == NULL) return AIINFRA_OK;
  if (out->ne[1] < 1 || out->ne[1] > MAX_CLASSES)
    return aii_fail(err, AIINFRA_ENOTSUP, "tensor 'cls.output.weight' has %llu classes; a reranker with 1 or %d runs",
                    (unsigned long long)out->ne[1], MAX_CLASSES);
  aii_head *h = m->head = aii_new(&m->rt->mem, sizeof *h); /* freed with the model, also on failure */
  if (h == NULL) return aii_fail(err, AIINFRA_ENOMEM, "no memory for a classification head");
  h->n_embd = n;
  h->n_classes = (uint32_t)out->ne[1];
  h->yes = find_yes(m, h->n_classes);
  h->gelu = (m->arch->flags & AII_MODERN_HEAD) != 0;
  h->norm_eps = m->hp.norm_eps;
  aiinfra_status rc = read_pooling(m, h, err);
  if (rc == AIINFRA_OK) rc = read_tensor(m, "cls.weight", n, n, found, &h->dense, err);
  if (rc == AIINFRA_OK) rc = read_tensor(m, "cls.bias", n, 1, found, &h->dense_bias, err);
  if (rc == AIINFRA_OK) rc = read_tensor(m, "cls.norm.weight", n, 1, found, &h->norm, err);
  if (rc == AIINFRA_OK) rc = read_tensor(m, "cls.norm.bias", n, 1, found, &h->norm_bias, err);
  if (rc == AIINFRA_OK) rc = read_tensor(m, "cls.output.weight", n, h->n_classes, found, &h->out, err);
  if (rc == AIINFRA_OK) rc = read_tensor(m, "cls.output.bias", h->n_classes, 1, found, &h->out_bias, err);
  return rc == AIINFRA_OK ? read_prompt(m, h, err) : rc;
}

/* ---- scoring ------------------------------------------------------------------------------------------------------ */

static double dot(const float *w, const double *x, uint32_t n)
{
  double sum = 0.0;
  for (uint32_t i = 0; i < n; i++) sum += (double)w[i] * x[i];
  return sum;
}

static void bend(const aii_head *h, const double *hidden, double *out)
{
  for (uint32_t i = 0; i < h->n_embd; i++) {
    double x = dot(h->dense + (size_t)i * h->n_embd, hidden, h->n_embd);
    if (h->dense_bias != NULL) x += (double)h->dense_bias[i];
    out[i] = h->gelu ? 0.5 * x * erfc(-x / sqrt(2.0)) : tanh(x);
  }
}

static void normalize(const aii_head *h, double *x)
{
  uint32_t n = h->n_embd;
  double mean = 0.0, variance = 0.0;
  for (uint32_t i = 0; i < n; i++) mean += x[i] / n;
  for (uint32_t i = 0; i < n; i++) variance += (x[i] - mean) * (x[i] - mean) / n;
  for (uint32_t i = 0; i < n; i++) {
    x[i] = (x[i] - mean) / sqrt(variance + (double)h->norm_eps) * (double)h->norm[i];
    if (h->norm_bias != NULL) x[i] += (double)h->norm_bias[i];
  }
}

double aii_head_score(const aii_head *h, const double *hidden, double *scratch)
{
  uint32_t n = h->n_embd;
  double logits[MAX_CLASSES] = {0};
  if (h->dense != NULL) {
    bend(h, hidden, scratch);
    if (h->norm != NULL) normalize(h, scratch);
    hidden = scratch;
  }
  for (uint32_t c = 0; c < h->n_classes; c++)
    logits[c] = dot(h->out + (size_t)c * n, hidden, n) + (h->out_bias != NULL ? (double)h->out_bias[c] : 0.0);
  return h->n_classes == 1 ? logits[0] : logits[h->yes] - logits[1 - h->yes];
}
