/* test_model.c - aiinfra/model.h and aiinfra/kv.h as a host sees them, through the shared library. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "aiinfra/kv.h"
#include "aiinfra/model.h"
#include "support/support.h"
#include "tests/data/gguf_maker.h"

static aiinfra_runtime *rt;
static aiinfra_model *model;
static aiinfra_error err;

static const gm_shape shape = {.arch = "qwen2",
                               .n_vocab = 270,
                               .n_embd = 16,
                               .n_layers = 2,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 4,
                               .n_ff = 24,
                               .n_rot = 4,
                               .context = 48,
                               .bias = true,
                               .tied = true,
                               .seed = 1,
                               .chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
                                                "{% if add_generation_prompt %}<assistant>{% endif %}"};

static const char *write_model(const gm_shape *s, const char *name)
{
  size_t n;
  uint8_t *bytes = gm_model(s, &n);
  const char *path = test_tmp(name);
  assert_int_equal(test_write_file(path, bytes, n), 0);
  free(bytes);
  return path;
}

static int setup(void **state)
{
  (void)state;
  return aiinfra_runtime_create(NULL, &rt, &err) != AIINFRA_OK ||
         aiinfra_model_open(rt, write_model(&shape, "model.gguf"), NULL, &model, &err) != AIINFRA_OK;
}

static int teardown(void **state)
{
  (void)state;
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
  return 0;
}

static void test_arguments(void **state)
{
  (void)state;
  aiinfra_model *none = model;
  assert_int_equal(aiinfra_model_open(NULL, "x", NULL, &none, &err), AIINFRA_EINVAL);
  assert_null(none);
  assert_int_equal(aiinfra_model_open(rt, NULL, NULL, &none, NULL), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_model_open(rt, "x", NULL, NULL, &err), AIINFRA_EINVAL);
  assert_int_equal(aiinfra_model_open(rt, "no such file", NULL, &none, &err), AIINFRA_ENOENT);
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  opts.struct_size = 8;
  assert_int_equal(aiinfra_model_open(rt, "x", &opts, &none, &err), AIINFRA_EINVAL);
  aiinfra_model_free(NULL);
  aiinfra_kv_free(NULL);
}

static void test_info(void **state)
{
  (void)state;
  aiinfra_model_info info = {.struct_size = sizeof info};
  assert_int_equal(aiinfra_model_get_info(model, &info, &err), AIINFRA_OK);
  assert_int_equal(info.n_vocab, 270);
  assert_int_equal(info.n_layers, 2);
  assert_int_equal(info.n_heads, 4);
  assert_int_equal(info.n_kv_heads, 2);
  assert_int_equal(info.head_dim, 4);
  assert_int_equal(info.max_context, 48);
  assert_int_equal(info.bos, 1);
  assert_int_equal(info.eos, 2);
  assert_int_equal(info.has_template, 1);
  /* embedding, output norm; per layer two norms, q k v o with three biases, and three of the feed-forward */
  assert_int_equal(info.n_params, 270 * 16 + 16 + 2 * (32 + 16 * (16 + 8 + 8 + 16) + 32 + 3 * 16 * 24));
  assert_int_equal(info.weight_bytes, 4 * info.n_params);
  info.struct_size = 12;
  assert_int_equal(aiinfra_model_get_info(model, &info, &err), AIINFRA_EINVAL);
  info.struct_size = sizeof info + 8;
  assert_int_equal(aiinfra_model_get_info(model, &info, &err), AIINFRA_ENOTSUP);
}

static void test_describe(void **state)
{
  (void)state;
  char *json;
  assert_int_equal(aiinfra_model_describe(model, &json, &err), AIINFRA_OK);
  assert_memory_equal(json, "{\"name\":\"random\"", 16);
  assert_non_null(strstr(json, "\"architecture\":\"qwen2\",\"architecture_runs\":true"));
  assert_non_null(strstr(json, "\"n_layers\":2"));
  assert_non_null(strstr(json, "\"types\":[{\"type\":\"F32\",\"runs\":true,\"count\":26,"));
  assert_non_null(strstr(json, "\"tokenizer.ggml.tokens\":{\"array_of\":\"string\",\"length\":270}"));
  aiinfra_string_free(json);
}

static void test_tokens_and_back(void **state)
{
  (void)state;
  static const char text[] = "caf\xC3\xA9 \xFF";
  aiinfra_token tokens[64];
  size_t n, bytes;
  char *back;
  assert_int_equal(aiinfra_model_tokenize(model, text, sizeof text - 1, 0, NULL, 0, &n, &err), AIINFRA_ENOSPC);
  assert_in_range(n, 1, 64);
  assert_int_equal(aiinfra_model_tokenize(model, text, sizeof text - 1, 0, tokens, 64, &n, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_model_detokenize(model, tokens, n, 0, &back, &bytes, &err), AIINFRA_OK);
  assert_int_equal(bytes, sizeof text - 1);
  assert_memory_equal(back, text, bytes);
  aiinfra_string_free(back);

  const aiinfra_token special[] = {1, 3 + 'h', 3 + 'i', 2};
  assert_int_equal(aiinfra_model_detokenize(model, special, 4, 1, &back, NULL, &err), AIINFRA_OK);
  assert_string_equal(back, "<s>hi</s>");
  aiinfra_string_free(back);
  assert_int_equal(aiinfra_model_detokenize(model, special, 4, 0, &back, NULL, &err), AIINFRA_OK);
  assert_string_equal(back, "hi");
  aiinfra_string_free(back);

  assert_int_equal(aiinfra_model_tokenize(model, "", 0, 0, tokens, 64, &n, &err), AIINFRA_OK);
  assert_int_equal(n, 0);
  assert_int_equal(aiinfra_model_tokenize(model, "x", 1, 64, tokens, 64, &n, &err), AIINFRA_EINVAL);
  tokens[0] = 270;
  assert_int_equal(aiinfra_model_detokenize(model, tokens, 1, 0, &back, NULL, &err), AIINFRA_EINVAL);
  assert_null(back);
}

static void test_render(void **state)
{
  (void)state;
  char *text;
  static const char chat[] = "[{\"role\":\"user\",\"content\":\"Hello\"}]";
  assert_int_equal(aiinfra_model_render(model, chat, NULL, 1, &text, &err), AIINFRA_OK);
  assert_string_equal(text, "<user>Hello<assistant>");
  aiinfra_string_free(text);
  assert_int_equal(aiinfra_model_render(model, "[", NULL, 1, &text, &err), AIINFRA_EINVAL);
  assert_null(text);
  assert_int_equal(aiinfra_model_render_chat(model, NULL, &text, &err), AIINFRA_EINVAL);
  gm_shape plain = shape;
  plain.chat_template = NULL;
  aiinfra_model *other;
  assert_int_equal(aiinfra_model_open(rt, write_model(&plain, "plain.gguf"), NULL, &other, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_model_render(other, chat, NULL, 1, &text, &err), AIINFRA_ENOTSUP);
  aiinfra_model_free(other);
  plain.chat_template = "{{ messages[0].content }}{{ 'x' if think else 'y' }}{{ strftime_now('%Y') }}";
  assert_int_equal(aiinfra_model_open(rt, write_model(&plain, "vars.gguf"), NULL, &other, &err), AIINFRA_OK);
  aiinfra_render_opts opts = AIINFRA_RENDER_OPTS_INIT;
  opts.messages_json = chat;
  opts.variables_json = "{\"think\": true}";
  opts.now_s = 1000000000;
  assert_int_equal(aiinfra_model_render_chat(other, &opts, &text, &err), AIINFRA_OK);
  assert_string_equal(text, "Hellox2001");
  aiinfra_string_free(text);
  opts.variables_json = "[]";
  assert_int_equal(aiinfra_model_render_chat(other, &opts, &text, &err), AIINFRA_EINVAL);
  aiinfra_model_free(other);
  plain.chat_template = "{% nonsense %}"; /* a template that cannot be used does not spoil the model */
  assert_int_equal(aiinfra_model_open(rt, write_model(&plain, "odd.gguf"), NULL, &other, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_model_render(other, chat, NULL, 1, &text, &err), AIINFRA_ENOTSUP);
  aiinfra_model_free(other);
}

static void test_vocab_only(void **state)
{
  (void)state;
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_model *words;
  aiinfra_kv *kv;
  gm_shape odd = shape;
  odd.arch = "unheard-of";
  opts.vocab_only = 1;
  assert_int_equal(aiinfra_model_open(rt, write_model(&odd, "odd.gguf"), NULL, &words, &err), AIINFRA_ENOTSUP);
  assert_int_equal(aiinfra_model_open(rt, write_model(&odd, "odd.gguf"), &opts, &words, &err), AIINFRA_OK);
  aiinfra_model_info info = {.struct_size = sizeof info};
  assert_int_equal(aiinfra_model_get_info(words, &info, &err), AIINFRA_OK);
  assert_int_equal(info.n_embd, 16);
  assert_int_equal(info.n_params, 0);
  assert_int_equal(aiinfra_kv_create(words, NULL, &kv, &err), AIINFRA_ENOTSUP);
  assert_null(kv);
  aiinfra_model_free(words);
}

static void test_cache(void **state)
{
  (void)state;
  aiinfra_kv *kv;
  aiinfra_kv_stats stats = {.struct_size = sizeof stats};
  assert_int_equal(aiinfra_kv_create(model, NULL, &kv, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_kv_get_stats(kv, &stats, &err), AIINFRA_OK);
  assert_int_equal(stats.block_tokens, 16);
  assert_int_equal(stats.n_blocks, 12); /* four times 48 tokens */
  assert_int_equal(stats.n_free, 12);
  assert_int_equal(stats.block_bytes,
                   2 * 2 * (2 * 4 * 16 * 4)); /* layers, keys and values, heads x dim x tokens x F32 */
  aiinfra_kv_free(kv);

  aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
  opts.block_tokens = 8, opts.dtype = AIINFRA_DTYPE_F16, opts.budget_bytes = 10000;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_kv_get_stats(kv, &stats, &err), AIINFRA_OK);
  assert_int_equal(stats.n_blocks, 10000 / (2 * 2 * (2 * 4 * 8 * 2)));
  aiinfra_kv_free(kv);

  opts.budget_bytes = 100;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_EINVAL);
  opts.budget_bytes = (uint64_t)1 << 60;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_ENOMEM);
  opts.budget_bytes = 0, opts.block_tokens = 12;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_EINVAL);
  opts.block_tokens = 0, opts.dtype = AIINFRA_DTYPE_Q4_0;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_EINVAL);
  opts.dtype = AIINFRA_DTYPE_Q8_0; /* heads of 4 elements are no whole block */
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "multiples of 32"));
  assert_null(kv);
}

static void test_second_tier_of_a_cache(void **state)
{
  (void)state;
  aiinfra_kv *kv;
  aiinfra_kv_stats stats = {.struct_size = sizeof stats};
  aiinfra_kv_opts opts = AIINFRA_KV_OPTS_INIT;
  opts.spill_bytes = 10000;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_kv_get_stats(kv, &stats, &err), AIINFRA_OK);
  assert_int_equal(stats.n_slots, 10000 / stats.block_bytes);
  assert_int_equal(stats.n_spilled + stats.spills + stats.fetches, 0);
  stats.struct_size = offsetof(aiinfra_kv_stats, spills); /* of a caller who knows no second tier */
  stats.n_slots = 77;
  assert_int_equal(aiinfra_kv_get_stats(kv, &stats, &err), AIINFRA_OK);
  assert_int_equal(stats.n_slots, 77);
  aiinfra_kv_free(kv);

  opts.spill_dir = "/tmp";
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_OK);
  aiinfra_kv_free(kv);
  opts.spill_dir = "/tmp/there/is/no/such/folder";
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_ENOENT);
  assert_non_null(strstr(err.message, "no/such/folder"));
  opts.spill_dir = "/tmp", opts.spill_bytes = (uint64_t)1 << 50;
  assert_int_not_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_OK);
  assert_non_null(strstr(err.message, "reserve"));
  opts.spill_bytes = 100;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "spill_bytes"));
  opts.spill_bytes = 0;
  assert_int_equal(aiinfra_kv_create(model, &opts, &kv, &err), AIINFRA_EINVAL);
  assert_non_null(strstr(err.message, "spill_bytes"));
  assert_null(kv);
}

/* The cache keeps its model, the model its runtime. */
static void test_children_keep_parents(void **state)
{
  (void)state;
  aiinfra_runtime *own;
  aiinfra_model *m;
  aiinfra_kv *kv;
  aiinfra_kv_stats stats = {.struct_size = sizeof stats};
  assert_int_equal(aiinfra_runtime_create(NULL, &own, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_model_open(own, test_tmp("model.gguf"), NULL, &m, &err), AIINFRA_OK);
  assert_int_equal(aiinfra_kv_create(m, NULL, &kv, &err), AIINFRA_OK);
  aiinfra_runtime_free(own);
  aiinfra_model_free(m);
  assert_int_equal(aiinfra_kv_get_stats(kv, &stats, &err), AIINFRA_OK);
  aiinfra_kv_free(kv);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_arguments),
      cmocka_unit_test(test_info),
      cmocka_unit_test(test_describe),
      cmocka_unit_test(test_tokens_and_back),
      cmocka_unit_test(test_render),
      cmocka_unit_test(test_vocab_only),
      cmocka_unit_test(test_cache),
      cmocka_unit_test(test_second_tier_of_a_cache),
      cmocka_unit_test(test_children_keep_parents),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
