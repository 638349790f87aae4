/* gguf_maker.h - builds GGUF files in memory, good and bad ones, for tests.
 *
 * A maker collects keys and tensors and lays them out as version 3 has them. gm_model() makes a whole random language
 * model of any small shape. Numbers come from a seed. Memory is malloc's; the tests check nothing that can run out.
 */
#ifndef AIINFRA_TESTS_GGUF_MAKER_H
#define AIINFRA_TESTS_GGUF_MAKER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct gm_bytes {
  uint8_t *p;
  size_t n, cap;
} gm_bytes;

typedef struct gguf_maker {
  gm_bytes kvs, infos, data;
  uint64_t n_kv, n_tensors;
  uint32_t version, alignment;
} gguf_maker;

__attribute__((unused, noinline)) static void gm_add(gm_bytes *b, const void *p, size_t n)
{
  if (b->n + n > b->cap) {
    b->cap = (b->n + n) * 2;
    b->p = realloc(b->p, b->cap);
  }
  if (n > 0) memcpy(b->p + b->n, p, n);
  b->n += n;
}

static inline void gm_u32(gm_bytes *b, uint32_t v)
{
  gm_add(b, &v, 4);
}

static inline void gm_u64(gm_bytes *b, uint64_t v)
{
  gm_add(b, &v, 8);
}

static inline void gm_text(gm_bytes *b, const char *s)
{
  gm_u64(b, strlen(s));
  gm_add(b, s, strlen(s));
}

static inline void gm_init(gguf_maker *m)
{
  memset(m, 0, sizeof *m);
  m->version = 3;
  m->alignment = 32;
}

static inline void gm_key(gguf_maker *m, const char *key, uint32_t type)
{
  gm_text(&m->kvs, key);
  gm_u32(&m->kvs, type);
  m->n_kv++;
}

static inline void gm_key_u32(gguf_maker *m, const char *key, uint32_t v)
{
  gm_key(m, key, 4);
  gm_u32(&m->kvs, v);
}

static inline void gm_key_f32(gguf_maker *m, const char *key, float v)
{
  gm_key(m, key, 6);
  gm_add(&m->kvs, &v, 4);
}

static inline void gm_key_bool(gguf_maker *m, const char *key, bool v)
{
  uint8_t byte = v;
  gm_key(m, key, 7);
  gm_add(&m->kvs, &byte, 1);
}

static inline void gm_key_str(gguf_maker *m, const char *key, const char *v)
{
  gm_key(m, key, 8);
  gm_text(&m->kvs, v);
}

/* Begins an array: the caller adds the elements to m->kvs. */
static inline void gm_key_array(gguf_maker *m, const char *key, uint32_t elem_type, uint64_t count)
{
  gm_key(m, key, 9);
  gm_u32(&m->kvs, elem_type);
  gm_u64(&m->kvs, count);
}

static inline void gm_info(gguf_maker *m, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *ne,
                           uint64_t offset)
{
  gm_text(&m->infos, name);
  gm_u32(&m->infos, n_dims);
  for (uint32_t i = 0; i < n_dims; i++) gm_u64(&m->infos, ne[i]);
  gm_u32(&m->infos, type);
  gm_u64(&m->infos, offset);
  m->n_tensors++;
}

static inline void gm_pad(gm_bytes *b, size_t alignment)
{
  static const uint8_t zeros[64];
  while (b->n % alignment != 0) gm_add(b, zeros, 1);
}

static inline void gm_tensor(gguf_maker *m, const char *name, uint32_t type, uint64_t ne0, uint64_t ne1,
                             const void *bytes, size_t n)
{
  uint64_t ne[2] = {ne0, ne1};
  gm_pad(&m->data, m->alignment);
  gm_info(m, name, type, ne1 > 1 ? 2 : 1, ne, m->data.n);
  gm_add(&m->data, bytes, n);
}

/* The finished file; the maker is empty afterwards. Free it with free(). */
static inline uint8_t *gm_finish(gguf_maker *m, size_t *size)
{
  gm_bytes out = {NULL, 0, 0};
  gm_add(&out, "GGUF", 4);
  gm_u32(&out, m->version);
  gm_u64(&out, m->n_tensors);
  gm_u64(&out, m->n_kv);
  gm_add(&out, m->kvs.p, m->kvs.n);
  gm_add(&out, m->infos.p, m->infos.n);
  gm_pad(&out, m->alignment);
  gm_add(&out, m->data.p, m->data.n);
  free(m->kvs.p);
  free(m->infos.p);
  free(m->data.p);
  gm_init(m);
  *size = out.n;
  return out.p;
}

/* ---- a random language model ----------------------------------------------------------------------------------- */

typedef struct gm_shape {
  const char *arch;
  uint32_t n_vocab, n_embd, n_layers, n_heads, n_kv_heads, head_dim, n_ff, n_rot, context;
  float rope_base, linear_factor; /* 0: the key is left out */
  bool bias, qk_norm, tied, rope_freqs;
  const char *chat_template; /* NULL: none */
  uint32_t pooling;          /* 0: the key is left out */
  uint32_t head_tokens[2];   /* a classification head whose rows are those of output.weight for these; 0: none */
  float head_dense;          /* and a dense layer in front of it: the identity times this; 0: none */
  const char *rerank_prompt; /* NULL: none */
  uint64_t seed;
} gm_shape;

static inline float gm_random(uint64_t *state)
{
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (float)(int32_t)((z ^ (z >> 31)) >> 32) / 2147483648.0f;
}

/* Values in base +- spread. */
static inline void gm_random_tensor(gguf_maker *m, const char *name, uint32_t n_in, uint32_t n_out, float base,
                                    float spread, uint64_t *state)
{
  size_t n = (size_t)n_in * n_out;
  float *values = malloc(n * sizeof *values);
  for (size_t i = 0; i < n; i++) values[i] = base + spread * gm_random(state);
  gm_tensor(m, name, 0, n_in, n_out, values, n * sizeof *values);
  free(values);
}

static inline void gm_vocab(gguf_maker *m, uint32_t n_vocab)
{
  char text[32];
  gm_key_str(m, "tokenizer.ggml.model", "llama");
  gm_key_array(m, "tokenizer.ggml.tokens", 8, n_vocab);
  for (uint32_t i = 0; i < n_vocab; i++) {
    if (i < 3) {
      snprintf(text, sizeof text, "%s", i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
    } else if (i < 259) {
      snprintf(text, sizeof text, "<0x%02X>", i - 3);
    } else if (i == 259) {
      snprintf(text, sizeof text, "\xE2\x96\x81"); /* U+2581, a space */
    } else {
      snprintf(text, sizeof text, "t%u", i);
    }
    gm_text(&m->kvs, text);
  }
  gm_key_array(m, "tokenizer.ggml.scores", 6, n_vocab);
  for (uint32_t i = 0; i < n_vocab; i++) {
    float score = -(float)i;
    gm_add(&m->kvs, &score, 4);
  }
  gm_key_array(m, "tokenizer.ggml.token_type", 5, n_vocab);
  for (uint32_t i = 0; i < n_vocab; i++) gm_u32(&m->kvs, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
}

static inline void gm_arch_u32(gguf_maker *m, const gm_shape *s, const char *key, uint32_t v)
{
  char name[96];
  snprintf(name, sizeof name, "%s.%s", s->arch, key);
  gm_key_u32(m, name, v);
}

static inline void gm_arch_f32(gguf_maker *m, const gm_shape *s, const char *key, float v)
{
  char name[96];
  snprintf(name, sizeof name, "%s.%s", s->arch, key);
  gm_key_f32(m, name, v);
}

static inline void gm_layer(gguf_maker *m, const gm_shape *s, uint32_t l, uint64_t *r)
{
  uint32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
  float wide = 1.5f / (float)s->n_embd * 4, deep = 0.2f;
  const struct {
    const char *name;
    uint32_t n_in, n_out;
    float base, spread;
    bool there;
  } tensors[] = {
      {"attn_norm.weight", s->n_embd, 1, 1, 0.2f, true},
      {"attn_q.weight", s->n_embd, q, 0, wide, true},
      {"attn_k.weight", s->n_embd, kv, 0, wide, true},
      {"attn_v.weight", s->n_embd, kv, 0, wide, true},
      {"attn_output.weight", q, s->n_embd, 0, deep, true},
      {"ffn_norm.weight", s->n_embd, 1, 1, 0.2f, true},
      {"ffn_gate.weight", s->n_embd, s->n_ff, 0, deep, true},
      {"ffn_up.weight", s->n_embd, s->n_ff, 0, deep, true},
      {"ffn_down.weight", s->n_ff, s->n_embd, 0, deep, true},
      {"attn_q.bias", q, 1, 0, 0.5f, s->bias},
      {"attn_k.bias", kv, 1, 0, 0.5f, s->bias},
      {"attn_v.bias", kv, 1, 0, 0.5f, s->bias},
      {"attn_q_norm.weight", s->head_dim, 1, 1, 0.3f, s->qk_norm},
      {"attn_k_norm.weight", s->head_dim, 1, 1, 0.3f, s->qk_norm},
  };
  for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
    char name[64];
    snprintf(name, sizeof name, "blk.%u.%s", l, tensors[i].name);
    if (tensors[i].there) {
      gm_random_tensor(m, name, tensors[i].n_in, tensors[i].n_out, tensors[i].base, tensors[i].spread, r);
    }
  }
}

/* All keys of a shape, no tensors. */
static inline void gm_model_keys(gguf_maker *m, const gm_shape *s)
{
  gm_key_str(m, "general.architecture", s->arch);
  gm_key_str(m, "general.name", "random");
  gm_arch_u32(m, s, "context_length", s->context);
  gm_arch_u32(m, s, "embedding_length", s->n_embd);
  gm_arch_u32(m, s, "block_count", s->n_layers);
  gm_arch_u32(m, s, "feed_forward_length", s->n_ff);
  gm_arch_u32(m, s, "attention.head_count", s->n_heads);
  gm_arch_u32(m, s, "attention.head_count_kv", s->n_kv_heads);
  gm_arch_u32(m, s, "attention.key_length", s->head_dim);
  gm_arch_u32(m, s, "attention.value_length", s->head_dim);
  gm_arch_u32(m, s, "rope.dimension_count", s->n_rot);
  gm_arch_f32(m, s, "attention.layer_norm_rms_epsilon", 1e-5f);
  if (s->rope_base > 0) gm_arch_f32(m, s, "rope.freq_base", s->rope_base);
  if (s->linear_factor > 0) gm_arch_f32(m, s, "rope.scaling.factor", s->linear_factor);
  if (s->pooling > 0) gm_arch_u32(m, s, "pooling_type", s->pooling);
  if (s->rerank_prompt != NULL) gm_key_str(m, "tokenizer.chat_template.rerank", s->rerank_prompt);
  if (s->chat_template != NULL) gm_key_str(m, "tokenizer.chat_template", s->chat_template);
  gm_vocab(m, s->n_vocab);
}

/* The state r of the random numbers is the one that output.weight was made from. */
static inline void gm_head(gguf_maker *m, const gm_shape *s, uint64_t r)
{
  uint32_t n = s->n_embd, n_classes = s->head_tokens[1] > 0 ? 2 : 1;
  float *dense = calloc((size_t)n * n, sizeof *dense), *out = calloc((size_t)n * 2, sizeof *out);
  for (uint32_t i = 0; i < s->n_vocab * n; i++) {
    float value = 0.5f * gm_random(&r);
    for (uint32_t c = 0; c < n_classes; c++)
      if (i / n == s->head_tokens[c]) out[c * n + i % n] = s->head_dense > 0 ? value / s->head_dense : value;
  }
  for (uint32_t i = 0; i < n; i++) dense[i * n + i] = s->head_dense;
  gm_tensor(m, "cls.output.weight", 0, n, n_classes, out, (size_t)n * n_classes * sizeof *out);
  if (s->head_dense > 0) gm_tensor(m, "cls.weight", 0, n, n, dense, (size_t)n * n * sizeof *dense);
  free(dense);
  free(out);
}

static inline uint8_t *gm_model(const gm_shape *s, size_t *size)
{
  gguf_maker m;
  uint64_t r = s->seed;
  gm_init(&m);
  gm_model_keys(&m, s);
  gm_random_tensor(&m, "token_embd.weight", s->n_embd, s->n_vocab, 0, 1, &r);
  gm_random_tensor(&m, "output_norm.weight", s->n_embd, 1, 1, 0.2f, &r);
  uint64_t r_output = r;
  if (!s->tied) gm_random_tensor(&m, "output.weight", s->n_embd, s->n_vocab, 0, 0.5f, &r);
  if (s->rope_freqs) gm_random_tensor(&m, "rope_freqs.weight", s->n_rot / 2, 1, 2, 1, &r);
  for (uint32_t l = 0; l < s->n_layers; l++) gm_layer(&m, s, l, &r);
  if (s->head_tokens[0] > 0) gm_head(&m, s, r_output);
  return gm_finish(&m, size);
}

#endif
