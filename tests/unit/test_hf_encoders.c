/* test_hf_encoders.c - encoders and rerankers as Hugging Face folders: the same bits as the GGUF file of the same model.
 *
 * The models are the small ones of tests/data/rerankers/ and tests/data/encoders/, whose GGUF form test_encoders.c
 * compares with transformers. Here their tensors go into a folder under the names that they have there.
 */
#include "tests/data/golden_model.h"

#include "aiinfra/batcher.h"
#include "tests/data/hf_maker.h"

enum { MAX_RESULT = 256 };

typedef struct name_pair {
  const char *gguf, *hf; /* '*' is the layer; without ".weight" and ".bias" */
} name_pair;

static const name_pair bert_names[] = {
    {"token_embd", "bert.embeddings.word_embeddings"},
    {"position_embd", "bert.embeddings.position_embeddings"},
    {"token_types", "bert.embeddings.token_type_embeddings"},
    {"token_embd_norm", "bert.embeddings.LayerNorm"},
    {"blk.*.attn_q", "bert.encoder.layer.*.attention.self.query"},
    {"blk.*.attn_k", "bert.encoder.layer.*.attention.self.key"},
    {"blk.*.attn_v", "bert.encoder.layer.*.attention.self.value"},
    {"blk.*.attn_q_norm", "bert.encoder.layer.*.attention.self.layer_norm_q"},
    {"blk.*.attn_k_norm", "bert.encoder.layer.*.attention.self.layer_norm_k"},
    {"blk.*.attn_output", "bert.encoder.layer.*.attention.output.dense"},
    {"blk.*.attn_output_norm", "bert.encoder.layer.*.attention.output.LayerNorm"},
    {"blk.*.attn_norm_2", "bert.encoder.layer.*.layer_norm_1"},
    {"blk.*.ffn_up", "bert.encoder.layer.*.intermediate.dense"},
    {"blk.*.ffn_down", "bert.encoder.layer.*.output.dense"},
    {"blk.*.layer_output_norm", "bert.encoder.layer.*.output.LayerNorm"},
    {"cls", "bert.pooler.dense"},
    {"cls.output", "classifier"},
    {NULL, NULL},
};

static const name_pair jina_names[] = {
    {"blk.*.ffn_down", "encoder.layer.*.mlp.down_layer"},
    {"blk.*.layer_output_norm", "encoder.layer.*.layer_norm_2"},
    {NULL, NULL},
};

static const name_pair modern_names[] = {
    {"token_embd", "model.embeddings.tok_embeddings"},
    {"token_embd_norm", "model.embeddings.norm"},
    {"output_norm", "model.final_norm"},
    {"blk.*.attn_norm", "model.layers.*.attn_norm"},
    {"blk.*.attn_qkv", "model.layers.*.attn.Wqkv"},
    {"blk.*.attn_output", "model.layers.*.attn.Wo"},
    {"blk.*.ffn_norm", "model.layers.*.mlp_norm"},
    {"blk.*.ffn_up", "model.layers.*.mlp.Wi"},
    {"blk.*.ffn_down", "model.layers.*.mlp.Wo"},
    {"cls", "head.dense"},
    {"cls.norm", "head.norm"},
    {"cls.output", "classifier"},
    {NULL, NULL},
};

#define SIZES                                                                                 \
  "\"vocab_size\":263,\"hidden_size\":32,\"num_attention_heads\":4,\"intermediate_size\":48," \
  "\"max_position_embeddings\":128,\"bos_token_id\":1,\"eos_token_id\":2,"

static const char bert_config[] =
    "{\"architectures\":[\"BertForSequenceClassification\"],\"model_type\":\"bert\"," SIZES
    "\"num_hidden_layers\":3,\"layer_norm_eps\":1e-5,\"type_vocab_size\":2}";
static const char modern_config[] =
    "{\"architectures\":[\"ModernBertForSequenceClassification\"],\"model_type\":\"modernbert\"," SIZES
    "\"num_hidden_layers\":4,\"norm_eps\":1e-5,\"global_rope_theta\":160000.0,\"local_rope_theta\":10000.0,"
    "\"local_attention\":16,\"global_attn_every_n_layers\":3,\"classifier_activation\":\"%s\","
    "\"classifier_pooling\":\"%s\"}";
static const char jina_config[] =
    "{\"architectures\":[\"JinaBertForMaskedLM\"],\"model_type\":\"bert\"," SIZES
    "\"num_hidden_layers\":3,\"layer_norm_eps\":1e-12,\"feed_forward_type\":\"%s\",\"type_vocab_size\":2}";

/* ---- writing ------------------------------------------------------------------------------------------------------- */

/* The vocabulary that golden_write() gives a model, with the same way to cut text. */
static void write_tokenizer(const char *folder)
{
  json_t *vocab = json_object();
  char name[16];
  for (int i = 0; i < GOLDEN_VOCAB; i++) {
    if (i < 3) snprintf(name, sizeof name, "%s", i == 0 ? "<unk>" : i == 1 ? "<s>" : "</s>");
    else if (i < 259) snprintf(name, sizeof name, "<0x%02X>", (unsigned)i - 3);
    else if (i == 259) snprintf(name, sizeof name, "\xE2\x96\x81");
    else snprintf(name, sizeof name, "t%d", i);
    json_object_set_new(vocab, name, json_integer(i));
  }
  json_t *root =
      json_pack("{s:[{s:i,s:s,s:b},{s:i,s:s,s:b}], s:{s:s,s:[{s:s,s:s},{s:s,s:{s:s},s:s}]}, s:{s:s,s:b,s:s,s:o,s:[]},"
                " s:{s:s, s:[{s:{s:s,s:i}},{s:{s:s,s:i}}], s:[], s:{s:{s:s,s:[i],s:[s]}}}}",
                "added_tokens", "id", 1, "content", "<s>", "special", 1, "id", 2, "content", "</s>", "special", 1,
                "normalizer", "type", "Sequence", "normalizers", "type", "Prepend", "prepend", "\xE2\x96\x81", "type",
                "Replace", "pattern", "String", " ", "content", "\xE2\x96\x81", "model", "type", "BPE", "byte_fallback",
                1, "unk_token", "<unk>", "vocab", vocab, "merges", "post_processor", "type", "TemplateProcessing",
                "single", "SpecialToken", "id", "<s>", "type_id", 0, "Sequence", "id", "A", "type_id", 0, "pair",
                "special_tokens", "<s>", "id", "<s>", "ids", 1, "tokens", "<s>");
  char *text = json_dumps(root, JSON_COMPACT);
  assert_non_null(text);
  hm_text(folder, "tokenizer.json", text);
  free(text);
  json_decref(root);
}

/* The name in the folder; false: the table has none. */
static bool translate(const name_pair *names, const char *gguf, char *out, size_t cap)
{
  char layer[8] = "", pattern[64];
  const char *suffix = strrchr(gguf, '.'), *rest = gguf;
  if (strncmp(gguf, "blk.", 4) == 0) {
    rest = strchr(gguf + 4, '.');
    snprintf(layer, sizeof layer, "%.*s", (int)(rest - gguf - 4), gguf + 4);
    snprintf(pattern, sizeof pattern, "blk.*%.*s", (int)(suffix - rest), rest);
  } else {
    snprintf(pattern, sizeof pattern, "%.*s", (int)(suffix - gguf), gguf);
  }
  for (; names->gguf != NULL; names++) {
    const char *star = strchr(names->hf, '*');
    if (strcmp(names->gguf, pattern) != 0) continue;
    if (star == NULL) snprintf(out, cap, "%s%s", names->hf, suffix);
    else snprintf(out, cap, "%.*s%s%s%s", (int)(star - names->hf), names->hf, layer, star + 1, suffix);
    return true;
  }
  return false;
}

static void add(hf_maker *m, const char *name, uint64_t n_in, uint64_t n_out, const float *values)
{
  char shape[48];
  if (n_out > 1 || strcmp(name, "classifier.weight") == 0)
    snprintf(shape, sizeof shape, "%u,%u", (unsigned)n_out, (unsigned)n_in);
  else snprintf(shape, sizeof shape, "%u", (unsigned)n_in);
  hm_tensor(m, name, "F32", shape, values, (size_t)(n_in * n_out) * sizeof *values);
}

/* Gate and up of a JinaBERT for code lie in one tensor: up comes first. */
static void add_up_gate(hf_maker *m, const json_t *golden, const char *gate_name)
{
  char up_name[64], name[96];
  const json_t *spec;
  size_t i, n = 0, n_up = 0;
  uint64_t ne[4];
  float *gate = NULL, *up = NULL;
  unsigned layer = (unsigned)strtoul(gate_name + 4, NULL, 10);
  snprintf(up_name, sizeof up_name, "blk.%u.ffn_up.weight", layer);
  json_array_foreach(json_object_get(golden, "tensors"), i, spec)
  {
    const char *its = json_string_value(json_array_get(spec, 0));
    if (strcmp(its, up_name) == 0) up = golden_values(spec, ne, &n_up);
    if (strcmp(its, gate_name) == 0) gate = golden_values(spec, ne, &n);
  }
  assert_int_equal(n, n_up);
  up = realloc(up, 2 * n * sizeof *up);
  memcpy(up + n, gate, n * sizeof *up);
  snprintf(name, sizeof name, "encoder.layer.%u.mlp.up_gated_layer.weight", layer);
  add(m, name, ne[0], 2 * ne[1], up);
  free(up);
  free(gate);
}

static const char *write_folder(const json_t *golden, const char *config, const name_pair *first,
                                const name_pair *second)
{
  static char folder[600];
  const json_t *spec;
  size_t i;
  hf_maker m = {{NULL, 0, 0}, {NULL, 0, 0}};
  snprintf(folder, sizeof folder, "%s", test_tmp("folder"));
  hm_text(folder, "config.json", config);
  write_tokenizer(folder);
  json_array_foreach(json_object_get(golden, "tensors"), i, spec)
  {
    char name[128];
    uint64_t ne[4];
    size_t n;
    const char *gguf = json_string_value(json_array_get(spec, 0));
    bool gated = first == jina_names;
    if (gated && strstr(gguf, ".ffn_gate.") != NULL) add_up_gate(&m, golden, gguf);
    if (gated && (strstr(gguf, ".ffn_gate.") != NULL || strstr(gguf, ".ffn_up.") != NULL)) continue;
    if (!translate(first, gguf, name, sizeof name) && !translate(second, gguf, name, sizeof name))
      fail_msg("no name for %s", gguf);
    float *values = golden_values(spec, ne, &n);
    add(&m, name, ne[0], ne[1], values);
    free(values);
  }
  hm_weights(folder, "model.safetensors", &m);
  return folder;
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

typedef struct result {
  float v[MAX_RESULT];
  size_t n;
} result;

static void on_scores(void *user, aiinfra_status status, const aiinfra_rerank_result *r)
{
  result *out = user;
  if (status != AIINFRA_OK) fail_msg("rerank: %s", r->error->message);
  out->n = r->n_documents;
  memcpy(out->v, r->scores, out->n * sizeof out->v[0]);
}

static void on_vectors(void *user, aiinfra_status status, const aiinfra_embed_result *r)
{
  result *out = user;
  if (status != AIINFRA_OK) fail_msg("embed: %s", r->error->message);
  out->n = r->n_texts * r->n_dims;
  memcpy(out->v, r->vectors, out->n * sizeof out->v[0]);
}

/* Scores with a query, vectors without. */
static void run(const char *path, const char *query, result *out)
{
  static const char *const texts[3] = {"a dog barks at the moon", "", "The cat sleeps"};
  aiinfra_rerank_opts rank = AIINFRA_RERANK_OPTS_INIT;
  aiinfra_embed_opts embed = AIINFRA_EMBED_OPTS_INIT;
  aiinfra_batcher *batcher;
  aiinfra_request *request;
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  aiinfra_kv *kv;
  memset(out, 0, sizeof *out);
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  runner_say("model", aiinfra_model_open(rt, path, NULL, &model, &err), &err);
  runner_say("kv", aiinfra_kv_create(model, NULL, &kv, &err), &err);
  runner_say("batcher", aiinfra_batcher_create(model, kv, NULL, &batcher, &err), &err);
  rank.query = query;
  rank.documents = embed.texts = texts;
  rank.n_documents = embed.n_texts = 3;
  rank.raw_scores = 1;
  if (query != NULL) runner_say("rerank", aiinfra_batcher_rerank(batcher, &rank, on_scores, out, &request, &err), &err);
  else runner_say("embed", aiinfra_batcher_embed_texts(batcher, &embed, on_vectors, out, &request, &err), &err);
  runner_say("request", aiinfra_request_wait(request, 60000, &err), &err);
  aiinfra_request_free(request);
  aiinfra_batcher_free(batcher);
  aiinfra_kv_free(kv);
  aiinfra_model_free(model);
  aiinfra_runtime_free(rt);
}

static void same(const json_t *golden, const char *folder, const char *query)
{
  static result file, opened;
  run(golden_write(golden), query, &file);
  run(folder, query, &opened);
  assert_true(file.n > 0);
  assert_memory_equal(&file, &opened, sizeof file);
}

static void test_bert(void **state)
{
  (void)state;
  json_t *golden = golden_load("rerankers", "bert.json");
  same(golden, write_folder(golden, bert_config, bert_names, bert_names), "what barks");
  json_decref(golden);
}

static void test_modern_bert(void **state)
{
  (void)state;
  static const char *const poolings[2] = {"mean", "cls"};
  for (int i = 0; i < 2; i++) {
    char name[32], config[1024];
    snprintf(name, sizeof name, "modern-bert-%s.json", poolings[i]);
    snprintf(config, sizeof config, modern_config, "gelu", poolings[i]);
    json_t *golden = golden_load("rerankers", name);
    same(golden, write_folder(golden, config, modern_names, modern_names), "what barks");
    json_decref(golden);
  }
}

static void test_jina_for_code(void **state)
{
  (void)state;
  char config[1024];
  json_t *golden = golden_load("encoders", "jina-bert-v2-code.json");
  snprintf(config, sizeof config, jina_config, "geglu");
  const char *folder = write_folder(golden, config, jina_names, bert_names);
  same(golden, folder, NULL);
  json_decref(golden);
}

static void test_refusals(void **state)
{
  (void)state;
  char config[1024];
  aiinfra_runtime *rt;
  aiinfra_model *model;
  aiinfra_error err;
  json_t *golden = golden_load("rerankers", "modern-bert-mean.json");
  snprintf(config, sizeof config, modern_config, "silu", "mean");
  runner_say("runtime", aiinfra_runtime_create(NULL, &rt, &err), &err);
  const char *folder = write_folder(golden, config, modern_names, modern_names);
  assert_int_equal(aiinfra_model_open(rt, folder, NULL, &model, &err), AIINFRA_ENOTSUP);
  assert_non_null(strstr(err.message, "'classifier_activation' is 'silu'"));
  aiinfra_runtime_free(rt);
  json_decref(golden);
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_bert), cmocka_unit_test(test_modern_bert),
                                     cmocka_unit_test(test_jina_for_code), cmocka_unit_test(test_refusals)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
