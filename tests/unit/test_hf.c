/* test_hf.c - Hugging Face folders: what their configs, tensors and tokenizers become, and what is refused. */
#include "tests/data/model_runner.h"

#include <unistd.h>

#include "aiinfra/convert.h"
#include "src/model/gguf.h"
#include "tests/data/hf_maker.h"
#include "tests/unit/conformance.h"

static aii_mem mem;

static const char *folder_of(const char *name)
{
  static char path[600];
  snprintf(path, sizeof path, "%s/%s", test_tmp_dir(), name);
  (void)mkdir(path, 0755);
  return path;
}

static aii_gguf *open_folder(const char *folder)
{
  aii_gguf *g;
  aiinfra_error err;
  if (aii_source_open(&mem, folder, NULL, &g, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  if (aii_gguf_load(g, NULL, NULL, NULL, &err) != AIINFRA_OK) fail_msg("%s", err.message);
  return g;
}

static void expect(const char *folder, aiinfra_status status, const char *message)
{
  aii_gguf *g;
  aiinfra_error err = {0};
  aiinfra_status rc = aii_source_open(&mem, folder, NULL, &g, &err);
  if (rc != status || (message != NULL && strstr(err.message, message) == NULL)) {
    fail_msg("expected %s '%s', got %s '%s'", aiinfra_status_name(status), message != NULL ? message : "",
             aiinfra_status_name(rc), err.message);
  }
  aii_gguf_free(g);
  assert_int_equal(mem.used_bytes, 0);
}

static void expect_u32(const aii_gguf *g, const char *key, uint32_t wanted)
{
  uint32_t value = 0;
  if (!aii_gguf_get_u32(g, key, &value) || value != wanted) fail_msg("%s is %u, not %u", key, value, wanted);
}

static void expect_str(const aii_gguf *g, const char *key, const char *wanted)
{
  aii_str s = {"", 0};
  if (!aii_gguf_get_str(g, key, &s) || s.n != strlen(wanted) || memcmp(s.p, wanted, s.n) != 0) {
    fail_msg("%s is '%.*s', not '%s'", key, (int)s.n, s.p, wanted);
  }
}

/* The tensor's shape, and its numbers. */
static void expect_tensor(const aii_gguf *g, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2,
                          const float *wanted)
{
  const aii_gguf_tensor *t = aii_gguf_find_tensor(g, name);
  if (t == NULL) fail_msg("no tensor '%s'", name);
  assert_int_equal(t->type, AII_F32);
  assert_int_equal(t->ne[0], ne0);
  assert_int_equal(t->ne[1], ne1);
  assert_int_equal(t->ne[2], ne2);
  for (uint64_t i = 0; i < ne0 * ne1 * ne2; i++) {
    float got;
    memcpy(&got, t->data + 4 * i, sizeof got);
    if (got != wanted[i]) fail_msg("%s[%u] is %g, not %g", name, (unsigned)i, (double)got, (double)wanted[i]);
  }
}

static void test_keys(void **state)
{
  (void)state;
  const char *folder = folder_of("keys");
  float value;
  hm_llama(folder, false);
  hm_text(folder, "generation_config.json", "{\"temperature\":0.5,\"top_k\":7}");
  aii_gguf *g = open_folder(folder);
  expect_str(g, "general.architecture", "llama");
  expect_str(g, "general.name", "keys");
  expect_u32(g, "llama.embedding_length", 8);
  expect_u32(g, "llama.block_count", 1);
  expect_u32(g, "llama.attention.head_count_kv", 1);
  expect_u32(g, "llama.rope.dimension_count", 4);
  assert_true(aii_gguf_get_f32(g, "llama.rope.freq_base", &value) && value == 5000.0f);
  assert_true(aii_gguf_get_f32(g, "general.sampling.temp", &value) && value == 0.5f);
  expect_u32(g, "general.sampling.top_k", 7);
  expect_str(g, "tokenizer.ggml.model", "gpt2");
  expect_str(g, "tokenizer.ggml.pre", "gpt-2");
  expect_u32(g, "tokenizer.ggml.bos_token_id", 0);
  expect_u32(g, "tokenizer.ggml.eos_token_id", 1);
  expect_str(g, "tokenizer.chat_template", "{{ messages[0].content }}");
  assert_int_equal(aii_gguf_find(g, "tokenizer.ggml.tokens")->count, 8); /* seven, and one to fill the embedding */
  const uint8_t *at = aii_gguf_find(g, "tokenizer.ggml.merges")->data;
  aii_str a = aii_gguf_next_str(&at), b = aii_gguf_next_str(&at);
  assert_true(a.n == 3 && memcmp(a.p, "a b", 3) == 0 && b.n == 4 && memcmp(b.p, "ab c", 4) == 0);
  aii_gguf_free(g);
  assert_int_equal(mem.used_bytes, 0);
}

/* Adjacent pairs: within a head of 4 rows, 0 1 2 3 become 0 2 1 3. */
static void test_llama_rows(void **state)
{
  (void)state;
  static const float q[] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15}, bias[] = {0, 2, 1, 3, 4, 6, 5, 7};
  const char *folder = folder_of("rows");
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  hm_text(folder, "config.json", HM_LLAMA);
  hm_text(folder, "tokenizer.json", HM_TOKENIZER);
  hm_count(&m, "model.layers.0.self_attn.q_proj.weight", "8,2", 16, 0);
  hm_count(&m, "model.layers.0.self_attn.q_proj.bias", "8", 8, 0);
  hm_count(&m, "model.layers.0.self_attn.k_proj.weight", "4,2", 8, 0);
  hm_count(&m, "model.layers.0.self_attn.rotary_emb.inv_freq", "2", 2, 0);
  hm_weights(folder, "model.safetensors", &m);
  aii_gguf *g = open_folder(folder);
  expect_tensor(g, "blk.0.attn_q.weight", 2, 8, 1, q);
  expect_tensor(g, "blk.0.attn_q.bias", 8, 1, 1, bias);
  expect_tensor(g, "blk.0.attn_k.weight", 2, 4, 1, q);
  assert_int_equal(aii_gguf_n_tensors(g), 3);
  aii_gguf_free(g);
}

static void one_architecture(const char *name, const char *config, hf_maker *m)
{
  char text[512];
  const char *folder = folder_of("one");
  snprintf(text, sizeof text, "{\"architectures\":[\"%s\"],%s}", name, config);
  hm_text(folder, "config.json", text);
  hm_text(folder, "tokenizer.json", HM_TOKENIZER);
  hm_weights(folder, "model.safetensors", m);
}

static void test_transforms(void **state)
{
  (void)state;
  static const float norm[] = {1, 2}, turned[] = {0, 3, 1, 4, 2, 5}, experts[] = {0, 1, 10, 11, 20, 21};
  static const float gate[] = {0, 4, 2, 6}, up[] = {1, 5, 3, 7}, k_b[] = {0, 2, 1, 3, 8, 10, 9, 11},
                     v_b[] = {4, 5, 6, 7, 12, 13, 14, 15};
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  hm_count(&m, "model.norm.weight", "2", 2, 0);
  one_architecture("GemmaForCausalLM", "\"hidden_size\":2", &m);
  aii_gguf *g = open_folder(folder_of("one"));
  expect_tensor(g, "output_norm.weight", 2, 1, 1, norm);
  aii_gguf_free(g);

  hm_count(&m, "transformer.h.0.attn.c_attn.weight", "2,3", 6, 0);
  hm_count(&m, "transformer.h.0.attn.bias", "1,1,1", 1, 0);
  one_architecture("GPT2LMHeadModel", "\"n_embd\":2", &m);
  g = open_folder(folder_of("one"));
  expect_tensor(g, "blk.0.attn_qkv.weight", 2, 3, 1, turned);
  aii_gguf_free(g);

  hm_count(&m, "model.layers.0.mlp.experts.1.up_proj.weight", "1,2", 2, 10); /* in any order */
  hm_count(&m, "model.layers.0.mlp.experts.2.up_proj.weight", "1,2", 2, 20);
  hm_count(&m, "model.layers.0.mlp.experts.0.up_proj.weight", "1,2", 2, 0);
  one_architecture("Qwen3MoeForCausalLM", "\"num_experts\":3", &m);
  g = open_folder(folder_of("one"));
  expect_tensor(g, "blk.0.ffn_up_exps.weight", 2, 1, 3, experts);
  aii_gguf_free(g);

  hm_count(&m, "model.layers.0.mlp.experts.gate_up_proj", "1,2,4", 8, 0);
  one_architecture("GptOssForCausalLM", "\"num_local_experts\":1", &m);
  g = open_folder(folder_of("one"));
  expect_tensor(g, "blk.0.ffn_gate_exps.weight", 2, 2, 1, gate);
  expect_tensor(g, "blk.0.ffn_up_exps.weight", 2, 2, 1, up);
  aii_gguf_free(g);

  hm_count(&m, "model.layers.0.self_attn.kv_b_proj.weight", "8,2", 16, 0);
  one_architecture("DeepseekV3ForCausalLM",
                   "\"num_attention_heads\":2,\"qk_nope_head_dim\":2,\"v_head_dim\":2,\"kv_lora_rank\":2", &m);
  g = open_folder(folder_of("one"));
  expect_tensor(g, "blk.0.attn_k_b.weight", 2, 2, 2, k_b);
  expect_tensor(g, "blk.0.attn_v_b.weight", 2, 2, 2, v_b);
  aii_gguf_free(g);
  assert_int_equal(mem.used_bytes, 0);
}

/* Nibbles of pairs become nibbles of halves; rows of gate and up alternate. */
static void test_mxfp4(void **state)
{
  (void)state;
  uint8_t blocks[32], scales[2] = {120, 121};
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  for (int i = 0; i < 32; i++)
    blocks[i] = (uint8_t)(((2 * i) & 15) | ((2 * i + 1) & 15) << 4); /* element e has e & 15 */
  hm_tensor(&m, "model.layers.0.mlp.experts.gate_up_proj_blocks", "U8", "1,2,1,16", blocks, 32);
  hm_tensor(&m, "model.layers.0.mlp.experts.gate_up_proj_scales", "U8", "1,2,1", scales, 2);
  one_architecture("GptOssForCausalLM", "\"num_local_experts\":1", &m);
  aii_gguf *g = open_folder(folder_of("one"));
  const aii_gguf_tensor *t = aii_gguf_find_tensor(g, "blk.0.ffn_up_exps.weight");
  assert_int_equal(t->type, AII_MXFP4);
  assert_int_equal(t->ne[0], 32);
  assert_int_equal(t->bytes, 17);
  assert_int_equal(t->data[0], 121);
  for (int i = 0; i < 16; i++) assert_int_equal(t->data[1 + i], i | i << 4);
  aii_gguf_free(g);
  assert_int_equal(mem.used_bytes, 0);
}

static void test_refuses(void **state)
{
  (void)state;
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  const char *folder = folder_of("bad");
  expect(folder, AIINFRA_ENOENT, "config.json");
  hm_text(folder, "config.json", "{\"architectures\":[\"RubyForCausalLM\"]}");
  expect(folder, AIINFRA_ENOTSUP, "'RubyForCausalLM' is not known to this version; these model types are: llama");
  hm_text(folder, "config.json", "{}");
  expect(folder, AIINFRA_EFORMAT, "names no model");
  hm_text(folder, "config.json", "[]");
  expect(folder, AIINFRA_EFORMAT, "no JSON object");
  hm_text(folder, "config.json", "{\"model_type\":\"llama\",\"hidden_size\":1.5}");
  expect(folder, AIINFRA_ENOENT, "'model.safetensors' is missing");
  hm_text(folder, "model.safetensors", "");
  expect(folder, AIINFRA_EFORMAT, "empty");
  hm_count(&m, "model.layers.0.unheard_of.weight", "2", 2, 0);
  hm_weights(folder, "model.safetensors", &m);
  expect(folder, AIINFRA_EFORMAT, "whole number");
  hm_text(folder, "config.json", "{\"model_type\":\"llama\",\"num_attention_heads\":3,\"num_experts\":4}");
  expect(folder, AIINFRA_ENOTSUP, "'model.layers.0.unheard_of.weight' is not one that");
  hm_count(&m, "model.layers.0.self_attn.q_proj.weight", "4,2", 8, 0);
  hm_weights(folder, "model.safetensors", &m);
  expect(folder, AIINFRA_EFORMAT, "shape does not fit");
  hm_count(&m, "model.layers.0.mlp.experts.1.up_proj.weight", "1,1", 1, 0);
  hm_weights(folder, "model.safetensors", &m);
  expect(folder, AIINFRA_EFORMAT, NULL);
  hm_tensor(&m, "model.norm.weight", "I8", "2", "ab", 2);
  hm_weights(folder, "model.safetensors", &m);
  expect(folder, AIINFRA_ENOTSUP, "is I8");
  hm_count(&m, "model.norm.weight", "2", 2, 0);
  hm_weights(folder, "model.safetensors", &m);
  expect(folder, AIINFRA_ENOENT, "tokenizer");
  hm_text(folder, "tokenizer.json", "{\"model\":{\"type\":\"Neural\"}}");
  expect(folder, AIINFRA_ENOTSUP, "'Neural'");
  hm_text(folder, "config.json", "{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"twist\"}}");
  expect(folder, AIINFRA_ENOTSUP, "'twist'");
  hm_text(folder, "config.json", "{\"model_type\":\"llama\",\"quantization_config\":{\"quant_method\":\"gptq\"}}");
  expect(folder, AIINFRA_ENOTSUP, "'gptq'");
}

static void test_shards(void **state)
{
  (void)state;
  const char *folder = folder_of("shards");
  char path[700];
  hm_llama(folder, true);
  aii_gguf *g = open_folder(folder);
  assert_int_equal(aii_gguf_n_tensors(g), 12);
  aii_gguf_free(g);
  snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
  g = open_folder(path);
  aii_gguf_free(g);
  hm_text(folder, "model.safetensors.index.json", "{\"weight_map\":{\"lm_head.weight\":\"../x.safetensors\"}}");
  expect(folder, AIINFRA_EFORMAT, "no file of the folder");
  hm_text(folder, "model.safetensors.index.json", "{\"weight_map\":{\"lm_head.weight\":\"gone.safetensors\"}}");
  expect(folder, AIINFRA_ENOENT, "'gone.safetensors'");
  hm_text(folder, "model.safetensors.index.json",
          "{\"weight_map\":{\"elsewhere.weight\":\"model-00001-of-00002.safetensors\"}}");
  expect(folder, AIINFRA_EFORMAT, "'elsewhere.weight' is not in");
}

static void logits_of(const char *path, float logits[8])
{
  static const aiinfra_token tokens[] = {0, 2, 3, 6};
  runner r;
  runner_open(&r, path, NULL, 4, 16, AII_F32);
  runner_step(&r, tokens, 4, 0, false, logits);
  runner_close(&r);
}

static aiinfra_status convert(const char *from, const char *to, aiinfra_error *err)
{
  aiinfra_runtime *rt;
  assert_int_equal(aiinfra_runtime_create(NULL, &rt, NULL), AIINFRA_OK);
  aiinfra_status rc = aiinfra_convert(rt, from, to, NULL, err);
  aiinfra_runtime_free(rt);
  return rc;
}

/* The folder, the same in two shards, and the file converted from it are one model. */
static void test_runs(void **state)
{
  (void)state;
  float a[8], b[8], c[8];
  const char *whole = folder_of("whole"), *out = test_tmp("whole.gguf");
  aiinfra_error err;
  hm_llama(whole, false);
  logits_of(whole, a);
  assert_true(a[0] != a[1]);
  runner_say("convert", convert(whole, out, &err), &err);
  logits_of(out, b);
  const char *parts = folder_of("parts");
  hm_llama(parts, true);
  logits_of(parts, c);
  assert_memory_equal(a, b, sizeof a);
  assert_memory_equal(a, c, sizeof a);
}

/* The tokens of a text by the vocabulary of a model, between spaces. */
static void expect_tokens(const char *path, const char *text, const char *wanted)
{
  runner r;
  char got[256] = "";
  aii_tokens tokens;
  aiinfra_error err;
  aii_tokens_init(&tokens, &mem);
  runner_open(&r, path, NULL, 4, 16, AII_F32);
  runner_say("tokenize", aii_tokenize(r.model->vocab, text, strlen(text), 3, &tokens, &err), &err);
  for (size_t i = 0; i < tokens.n; i++) snprintf(got + strlen(got), 16, "%s%d", i > 0 ? " " : "", tokens.items[i]);
  assert_string_equal(got, wanted);
  aii_tokens_free(&tokens);
  runner_close(&r);
}

#define MODEL(pre)                                                                                  \
  "{\"pre_tokenizer\":" pre ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"</s>\":1,\"a\":2," \
  "\"b\":3,\"c\":4,\"ab\":5,\"abc\":6},\"merges\":[\"a b\",\"ab c\"]}}"
#define SPLIT(regex)                                                                         \
  "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"behavior\":\"Isolated\"," \
  "\"pattern\":{\"Regex\":\"" regex "\"}},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}]}"

/* What GGUF has no words for opens all the same, and is refused only when a GGUF file shall be written. */
static void test_beyond_gguf(void **state)
{
  (void)state;
  static const struct {
    const char *json, *text, *tokens, *says;
  } cases[] = {
      {MODEL(SPLIT("b")), "abc", "2 3 4", "'/b/'"},
      {MODEL("{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"), "abc", "6", NULL},
      {MODEL("null,\"normalizer\":{\"type\":\"Lowercase\"}"), "a", "2", "has no words"},
      {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"<s>\":0,\"</s>\":1,\"abc\":2}}}", "abc", "2", "whole words"},
  };
  const char *folder = folder_of("beyond");
  for (size_t i = 0; i < AII_COUNT(cases); i++) {
    char out[700];
    aiinfra_error err = {0};
    snprintf(out, sizeof out, "%s/out-%zu.gguf", folder, i);
    hm_llama(folder, false);
    hm_text(folder, "tokenizer.json", cases[i].json);
    expect_tokens(folder, cases[i].text, cases[i].tokens);
    aiinfra_status rc = convert(folder, out, &err);
    if (cases[i].says == NULL) {
      runner_say("convert", rc, &err);
      expect_tokens(out, cases[i].text, cases[i].tokens);
      continue;
    }
    assert_int_equal(rc, AIINFRA_ENOTSUP);
    if (strstr(err.message, cases[i].says) == NULL) fail_msg("case %zu: %s", i, err.message);
    assert_int_not_equal(access(out, F_OK), 0);
  }
  assert_int_equal(mem.used_bytes, 0);
}

/* Real tokenizers, as the only part of a folder that is not made up, and the file converted from it: the published
 * strings become the published tokens in both. */
static void test_real_tokenizers(void **state)
{
  static const struct {
    const char *name, *file, *as;
    uint32_t n_vocab;
  } real[] = {{"llama-spm", "hf-json/llama2/tokenizer.json", "tokenizer.json", 32000},
              {"llama-spm", "sentencepiece/llama2-32k.tokenizer.model", "tokenizer.model", 32000},
              {"phi-3", "hf-json/phi-3-mini/tokenizer.json", "tokenizer.json", 32064},
              {"falcon", "hf-json/falcon-tokenizer/tokenizer.json", "tokenizer.json", 65024},
              {"bert-bge", "wordpiece/bert-base-uncased-vocab.txt", "vocab.txt", 30522}};
  (void)state;
  for (size_t i = 0; i < AII_COUNT(real); i++) {
    char path[160], name[16], out[700];
    snprintf(path, sizeof path, "tokenizers/%s", real[i].file);
    if (test_data(path) == NULL) test_skip("no shared data: %s", path);
    size_t n;
    char *bytes = test_read_file(test_data(path), &n);
    snprintf(name, sizeof name, "real-%zu", i);
    const char *folder = folder_of(name);
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    hm_vocab_only(folder, real[i].n_vocab);
    hm_write(folder, real[i].as, bytes, n);
    free(bytes);
    aiinfra_error err = {0};
    runner_say("convert", convert(folder, out, &err), &err);
    const char *both[] = {folder, out};
    for (size_t k = 0; k < 2; k++) {
      aii_gguf *g;
      aii_vocab *vocab;
      runner_say("open", aii_source_open(&mem, both[k], NULL, &g, &err), &err);
      vocab = g->vocab;
      g->vocab = NULL;
      assert_true((vocab != NULL) == (k == 0));
      if (vocab == NULL) runner_say("vocabulary", aii_vocab_from_gguf(&mem, g, &vocab, &err), &err);
      assert_int_equal(aii_vocab_size(vocab), real[i].n_vocab);
      assert_int_equal(conformance_wrong(vocab, &mem, real[i].name, strcmp(real[i].as, "vocab.txt") != 0), 0);
      aii_vocab_free(vocab);
      aii_gguf_free(g);
    }
  }
  assert_int_equal(mem.used_bytes, 0);
}

/* Bytes of the files that are text, changed: refused or opened. */
static void test_damage(void **state)
{
  (void)state;
  static const char *const files[] = {"config.json", "tokenizer.json", "tokenizer_config.json"};
  const char *folder = folder_of("damage");
  hm_llama(folder, false);
  for (size_t f = 0; f < 3; f++) {
    char path[700];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, files[f]);
    char *text = test_read_file(path, &n);
    for (size_t i = f; i < 2 * n; i += 7) {
      aii_gguf *g;
      char was = text[i / 2];
      text[i / 2] = i % 2 == 0 ? '9' : (char)(was ^ 0x11);
      hm_write(folder, files[f], text, n);
      if (aii_hf_open(&mem, folder, &g, NULL) == AIINFRA_OK) (void)aii_gguf_load(g, NULL, NULL, NULL, NULL);
      aii_gguf_free(g);
      assert_int_equal(mem.used_bytes, 0);
      text[i / 2] = was;
    }
    hm_write(folder, files[f], text, n);
    free(text);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_keys),   cmocka_unit_test(test_llama_rows),  cmocka_unit_test(test_transforms),
      cmocka_unit_test(test_mxfp4),  cmocka_unit_test(test_refuses),     cmocka_unit_test(test_shards),
      cmocka_unit_test(test_runs),   cmocka_unit_test(test_beyond_gguf), cmocka_unit_test(test_real_tokenizers),
      cmocka_unit_test(test_damage),
  };
  aii_mem_init(&mem, NULL, 0);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
