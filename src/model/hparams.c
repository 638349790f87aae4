/* hparams.c - the hyper-parameters of a model: read from their keys, checked before anything is computed from them.
 *
 * What is refused: a value that is missing, zero, of another type, not finite, or so large that a size computed from
 * it could overflow 64 bits; heads that do not divide evenly; features that the forward pass does not have (experts,
 * YaRN, per-layer sizes). Whether the tensors have these sizes is tensors.c's to check.
 */
#include <math.h>
#include <stdio.h>

#include "src/model/arch.h"

/* Far above every model that exists; products of any three of them fit 64 bits. */
enum { MAX_EMBD = 1 << 20, MAX_LAYERS = 1 << 12, MAX_HEADS = 1 << 14, MAX_HEAD_DIM = 1 << 12, MAX_FF = 1 << 24 };
enum { MAX_CONTEXT = 1 << 28 };

typedef struct reader {
  const aii_gguf *gguf;
  const char *arch;
  aiinfra_error *err;
  aiinfra_status rc; /* sticky: the first failure */
  char key[128];
} reader;

static const aii_gguf_kv *find(reader *r, const char *name)
{
  (void)snprintf(r->key, sizeof r->key, "%s.%s", r->arch, name);
  return aii_gguf_find(r->gguf, r->key);
}

/* An integer or, for what may differ by layer, an array of equal ones. `fallback` when missing; 0: required. */
static uint32_t read_u32(reader *r, const char *name, uint32_t fallback, uint32_t max)
{
  const aii_gguf_kv *kv = find(r, name);
  if (r->rc != AIINFRA_OK) return 0;
  if (kv == NULL) {
    if (fallback == 0) r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' is missing", r->key);
    return fallback;
  }
  aii_gguf_type type = kv->type == AII_GGUF_ARRAY ? kv->elem_type : kv->type;
  int64_t first = 0, value;
  for (uint64_t i = 0; i < kv->count && r->rc == AIINFRA_OK; i++) {
    if (type == AII_GGUF_BOOL || !aii_gguf_elem_i64(type, kv->data, i, &value)) break;
    if (i == 0) first = value;
    if (value != first) {
      r->rc =
          aii_fail(r->err, AIINFRA_ENOTSUP, "key '%s' differs between layers; this version needs equal ones", r->key);
    }
  }
  if (r->rc == AIINFRA_OK && (first < 1 || first > max)) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' is %lld; it must be a number from 1 to %u", r->key,
                     (long long)first, max);
  }
  return r->rc == AIINFRA_OK ? (uint32_t)first : 0;
}

/* A finite float above 0. `fallback` when missing; 0: required. */
static float read_f32(reader *r, const char *name, float fallback)
{
  const aii_gguf_kv *kv = find(r, name);
  float value = fallback;
  if (r->rc != AIINFRA_OK) return 0;
  if (kv == NULL && fallback == 0) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' is missing", r->key);
  } else if (kv != NULL && (!aii_gguf_get_f32(r->gguf, r->key, &value) || !isfinite(value) || value <= 0)) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "key '%s' must be a finite number above 0", r->key);
  }
  return value;
}

static void check_heads(reader *r, const aii_hparams *hp, uint32_t value_dim)
{
  if (r->rc != AIINFRA_OK) return;
  if (hp->n_heads % hp->n_kv_heads != 0) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "%u query heads do not divide evenly over %u key/value heads",
                     hp->n_heads, hp->n_kv_heads);
  } else if (value_dim != hp->head_dim) {
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "keys have %u elements and values %u; this version needs equal ones",
                     hp->head_dim, value_dim);
  } else if (hp->n_rot % 2 != 0 || hp->n_rot > hp->head_dim) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "%u rotated dimensions of a head of %u: must be even and no more",
                     hp->n_rot, hp->head_dim);
  }
}

static void read_heads(reader *r, aii_hparams *hp)
{
  hp->n_heads = read_u32(r, "attention.head_count", 0, MAX_HEADS);
  hp->n_kv_heads = read_u32(r, "attention.head_count_kv", hp->n_heads, MAX_HEADS);
  if (r->rc != AIINFRA_OK) return;
  if (find(r, "attention.key_length") == NULL && hp->n_embd % hp->n_heads != 0) {
    r->rc = aii_fail(r->err, AIINFRA_EFORMAT, "a width of %u does not divide evenly into %u heads", hp->n_embd,
                     hp->n_heads);
    return;
  }
  uint32_t even = AII_MAX(hp->n_embd / hp->n_heads, 1u);
  hp->head_dim = read_u32(r, "attention.key_length", even, MAX_HEAD_DIM);
  uint32_t value_dim = read_u32(r, "attention.value_length", even, MAX_HEAD_DIM);
  hp->n_rot = read_u32(r, "rope.dimension_count", hp->head_dim, MAX_HEAD_DIM);
  check_heads(r, hp, value_dim);
}

static void read_rope(reader *r, aii_hparams *hp)
{
  aii_str kind = {"linear", 6};
  hp->rope_base = read_f32(r, "rope.freq_base", 10000.0f);
  if (find(r, "rope.scaling.type") != NULL && !aii_gguf_get_str(r->gguf, r->key, &kind)) kind.n = 0;
  bool none = kind.n == 4 && memcmp(kind.p, "none", 4) == 0;
  if (!none && (kind.n != 6 || memcmp(kind.p, "linear", 6) != 0)) {
    if (r->rc != AIINFRA_OK) return;
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "RoPE scaling '%.*s' does not run in this version; none and linear do",
                     AII_SHOW(kind));
    return;
  }
  float factor = read_f32(r, "rope.scaling.factor", read_f32(r, "rope.scale_linear", 1.0f));
  hp->rope_scale = none ? 1.0f : 1.0f / factor;
}

/* What would change the result and is not there. */
static void refuse_features(reader *r)
{
  bool causal = true;
  uint32_t experts = 0;
  if (r->rc != AIINFRA_OK) return;
  if (find(r, "expert_count") != NULL) (void)aii_gguf_get_u32(r->gguf, r->key, &experts);
  if (find(r, "attention.causal") != NULL) (void)aii_gguf_get_bool(r->gguf, r->key, &causal);
  if (experts > 0) {
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "a mixture of %u experts does not run in this version", experts);
  } else if (!causal) {
    r->rc = aii_fail(r->err, AIINFRA_ENOTSUP, "attention that is not causal does not run in this version");
  }
}

aiinfra_status aii_hparams_read(const aii_gguf *gguf, const char *arch, aii_hparams *hp, aiinfra_error *err)
{
  reader r = {.gguf = gguf, .arch = arch, .err = err, .rc = AIINFRA_OK};
  hp->train_context = read_u32(&r, "context_length", 0, MAX_CONTEXT);
  hp->n_embd = read_u32(&r, "embedding_length", 0, MAX_EMBD);
  hp->n_layers = read_u32(&r, "block_count", 0, MAX_LAYERS);
  hp->n_ff = read_u32(&r, "feed_forward_length", 0, MAX_FF);
  read_heads(&r, hp);
  hp->norm_eps = read_f32(&r, "attention.layer_norm_rms_epsilon", 0);
  read_rope(&r, hp);
  hp->window = 0;
  if (find(&r, "attention.sliding_window") != NULL && !aii_gguf_get_u32(gguf, r.key, &hp->window) &&
      r.rc == AIINFRA_OK) {
    r.rc = aii_fail(err, AIINFRA_EFORMAT, "key '%s' is no number", r.key);
  }
  refuse_features(&r);
  return r.rc;
}

void aii_hparams_glance(const aii_gguf *gguf, aii_str arch, aii_hparams *hp)
{
  const struct {
    const char *name;
    uint32_t *value;
  } wanted[] = {{"context_length", &hp->train_context},  {"embedding_length", &hp->n_embd},
                {"block_count", &hp->n_layers},          {"feed_forward_length", &hp->n_ff},
                {"attention.head_count", &hp->n_heads},  {"attention.head_count_kv", &hp->n_kv_heads},
                {"attention.key_length", &hp->head_dim}, {"rope.dimension_count", &hp->n_rot}};
  char key[128];
  for (size_t i = 0; i < AII_COUNT(wanted); i++) {
    (void)snprintf(key, sizeof key, "%.*s.%s", AII_SHOW(arch), wanted[i].name);
    (void)aii_gguf_get_u32(gguf, key, wanted[i].value);
  }
  if (hp->n_kv_heads == 0) hp->n_kv_heads = hp->n_heads;
  if (hp->head_dim == 0 && hp->n_heads > 0) hp->head_dim = hp->n_embd / hp->n_heads;
}
