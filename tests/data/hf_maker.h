/* hf_maker.h - writes small Hugging Face folders and safetensors files, good and bad ones, for tests. */
#ifndef AIINFRA_TESTS_HF_MAKER_H
#define AIINFRA_TESTS_HF_MAKER_H

#include <sys/stat.h>

#include "tests/data/gguf_maker.h"
#include "tests/support/support.h"

typedef struct hf_maker {
  gm_bytes header, data;
} hf_maker;

static inline void hm_tensor(hf_maker *m, const char *name, const char *dtype, const char *shape, const void *bytes,
                             size_t n)
{
  char entry[256];
  int len = snprintf(entry, sizeof entry, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                     m->header.n > 0 ? "," : "", name, dtype, shape, m->data.n, m->data.n + n);
  gm_add(&m->header, entry, (size_t)len);
  gm_add(&m->data, bytes, n);
}

/* Numbers 0, 1, 2, ... plus first, as F32. */
static inline void hm_count(hf_maker *m, const char *name, const char *shape, size_t n, float first)
{
  float *values = malloc(n * sizeof *values);
  for (size_t i = 0; i < n; i++) values[i] = first + (float)i;
  hm_tensor(m, name, "F32", shape, values, n * sizeof *values);
  free(values);
}

/* Small random numbers around base. */
static inline void hm_random(hf_maker *m, const char *name, uint32_t rows, uint32_t n, float base, uint64_t *state)
{
  char shape[32];
  size_t all = (size_t)(rows > 0 ? rows : 1) * n;
  float *values = malloc(all * sizeof *values);
  for (size_t i = 0; i < all; i++) values[i] = base + 0.3f * gm_random(state);
  if (rows > 0) snprintf(shape, sizeof shape, "%u,%u", rows, n);
  else snprintf(shape, sizeof shape, "%u", n);
  hm_tensor(m, name, "F32", shape, values, all * sizeof *values);
  free(values);
}

/* The finished file; the maker is empty afterwards. Free it with free(). */
static inline uint8_t *hm_finish(hf_maker *m, size_t *size)
{
  gm_bytes out = {NULL, 0, 0};
  gm_u64(&out, m->header.n + 2);
  gm_add(&out, "{", 1);
  gm_add(&out, m->header.p, m->header.n);
  gm_add(&out, "}", 1);
  gm_add(&out, m->data.p, m->data.n);
  free(m->header.p);
  free(m->data.p);
  memset(m, 0, sizeof *m);
  *size = out.n;
  return out.p;
}

static inline void hm_write(const char *folder, const char *name, const void *bytes, size_t n)
{
  char path[1024];
  (void)mkdir(folder, 0755);
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) abort();
  if (test_write_file(path, bytes, n) != 0) abort();
}

static inline void hm_text(const char *folder, const char *name, const char *text)
{
  hm_write(folder, name, text, strlen(text));
}

static inline void hm_weights(const char *folder, const char *name, hf_maker *m)
{
  size_t n;
  uint8_t *bytes = hm_finish(m, &n);
  hm_write(folder, name, bytes, n);
  free(bytes);
}

/* A tokenizer.json of 8 tokens: <unk> <s> </s> and bytes of BPE that falls back on nothing. */
#define HM_TOKENIZER                                                                                              \
  "{\"added_tokens\":[{\"id\":0,\"content\":\"<s>\",\"special\":true},{\"id\":1,\"content\":\"</s>\","            \
  "\"special\":true}],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"type\":" \
  "\"BPE\","                                                                                                      \
  "\"vocab\":{\"<s>\":0,\"</s>\":1,\"a\":2,\"b\":3,\"c\":4,\"ab\":5,\"abc\":6},\"merges\":[\"a b\",[\"ab\",\"c\"]]}}"

#define HM_LLAMA                                                                                                \
  "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":8,\"intermediate_size\":12,"                       \
  "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"num_key_value_heads\":1,\"max_position_embeddings\":64," \
  "\"rms_norm_eps\":1e-5,\"vocab_size\":8,\"rope_theta\":5000.0,\"bos_token_id\":0,\"eos_token_id\":[1,3]}"

/* A whole random llama of one layer, 8 wide, with 8 tokens; into one file, or with `shards` into two. */
static inline void hm_llama(const char *folder, bool shards)
{
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  uint64_t r = 5;
  hm_text(folder, "config.json", HM_LLAMA);
  hm_text(folder, "tokenizer.json", HM_TOKENIZER);
  hm_text(folder, "tokenizer_config.json",
          "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"</s>\"},"
          "\"model_max_length\":1000000000000000019884624838656,"
          "\"chat_template\":\"{{ messages[0].content }}\"}");
  hm_random(&m, "model.embed_tokens.weight", 8, 8, 0, &r);
  hm_random(&m, "model.norm.weight", 0, 8, 1, &r);
  hm_random(&m, "lm_head.weight", 8, 8, 0, &r);
  if (shards) hm_weights(folder, "model-00001-of-00002.safetensors", &m);
  hm_random(&m, "model.layers.0.input_layernorm.weight", 0, 8, 1, &r);
  hm_random(&m, "model.layers.0.self_attn.q_proj.weight", 8, 8, 0, &r);
  hm_random(&m, "model.layers.0.self_attn.k_proj.weight", 4, 8, 0, &r);
  hm_random(&m, "model.layers.0.self_attn.v_proj.weight", 4, 8, 0, &r);
  hm_random(&m, "model.layers.0.self_attn.o_proj.weight", 8, 8, 0, &r);
  hm_random(&m, "model.layers.0.post_attention_layernorm.weight", 0, 8, 1, &r);
  hm_random(&m, "model.layers.0.mlp.gate_proj.weight", 12, 8, 0, &r);
  hm_random(&m, "model.layers.0.mlp.up_proj.weight", 12, 8, 0, &r);
  hm_random(&m, "model.layers.0.mlp.down_proj.weight", 8, 12, 0, &r);
  hm_weights(folder, shards ? "model-00002-of-00002.safetensors" : "model.safetensors", &m);
  if (!shards) return;
  hm_text(folder, "model.safetensors.index.json",
          "{\"weight_map\":{\"lm_head.weight\":\"model-00001-of-00002.safetensors\","
          "\"model.layers.0.mlp.up_proj.weight\":\"model-00002-of-00002.safetensors\"}}");
}

/* A folder whose only part to look at is its vocabulary of n tokens, which the caller adds. */
static inline void hm_vocab_only(const char *folder, uint32_t n)
{
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  uint64_t r = 5;
  hm_text(folder, "config.json", "{\"model_type\":\"llama\",\"hidden_size\":1,\"num_attention_heads\":1}");
  hm_random(&m, "model.embed_tokens.weight", n, 1, 0, &r);
  hm_weights(folder, "model.safetensors", &m);
}

#endif
