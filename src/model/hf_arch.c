/* hf_arch.c - the table of Hugging Face architectures: names of config keys and tensors, there and in GGUF.
 *
 * To add one: a row at the end; names only where they differ from the common ones, keys only where the config has more
 * than the common ones. What a tensor needs on its way is one word, see aii_hf_how.
 */
#include <math.h>
#include <stdio.h>

#include "src/model/hf.h"

/* ---- tensor names ------------------------------------------------------------------------------------------------ */

static const aii_hf_name common_names[] = {
    {"embed_tokens", "token_embd", HF_COPY},
    {"norm", "output_norm", HF_COPY},
    {"lm_head", "output", HF_COPY},
    {"layers.*.input_layernorm", "attn_norm", HF_COPY},
    {"layers.*.self_attn.q_proj", "attn_q", HF_ROPE_Q},
    {"layers.*.self_attn.k_proj", "attn_k", HF_ROPE_K},
    {"layers.*.self_attn.v_proj", "attn_v", HF_COPY},
    {"layers.*.self_attn.o_proj", "attn_output", HF_COPY},
    {"layers.*.self_attn.qkv_proj", "attn_qkv", HF_COPY},
    {"layers.*.self_attn.q_norm", "attn_q_norm", HF_COPY},
    {"layers.*.self_attn.k_norm", "attn_k_norm", HF_COPY},
    {"layers.*.post_attention_layernorm", "ffn_norm", HF_COPY},
    {"layers.*.mlp.gate_proj", "ffn_gate", HF_COPY},
    {"layers.*.mlp.up_proj", "ffn_up", HF_COPY},
    {"layers.*.mlp.gate_up_proj", "ffn_up", HF_COPY},
    {"layers.*.mlp.down_proj", "ffn_down", HF_COPY},
    {"layers.*.mlp.gate", "ffn_gate_inp", HF_COPY},
    {"layers.*.mlp.gate.e_score_correction_bias", "exp_probs_b.bias", HF_COPY},
    {"layers.*.mlp.experts.*.gate_proj", "ffn_gate_exps", HF_EXPERT},
    {"layers.*.mlp.experts.*.up_proj", "ffn_up_exps", HF_EXPERT},
    {"layers.*.mlp.experts.*.down_proj", "ffn_down_exps", HF_EXPERT},
    {"layers.*.mlp.experts.gate_up_proj", "exps.weight", HF_GATE_UP},
    {"layers.*.mlp.experts.down_proj", "ffn_down_exps.weight", HF_COPY},
    {"layers.*.mlp.shared_expert.gate_proj", "ffn_gate_shexp", HF_COPY},
    {"layers.*.mlp.shared_expert.up_proj", "ffn_up_shexp", HF_COPY},
    {"layers.*.mlp.shared_expert.down_proj", "ffn_down_shexp", HF_COPY},
    {"layers.*.mlp.shared_expert_gate", "ffn_gate_inp_shexp", HF_COPY},
    {"layers.*.mlp.shared_experts.gate_proj", "ffn_gate_shexp", HF_COPY},
    {"layers.*.mlp.shared_experts.up_proj", "ffn_up_shexp", HF_COPY},
    {"layers.*.mlp.shared_experts.down_proj", "ffn_down_shexp", HF_COPY},
    {"layers.*.block_sparse_moe.gate", "ffn_gate_inp", HF_COPY},
    {"layers.*.block_sparse_moe.experts.*.w1", "ffn_gate_exps", HF_EXPERT},
    {"layers.*.block_sparse_moe.experts.*.w2", "ffn_down_exps", HF_EXPERT},
    {"layers.*.block_sparse_moe.experts.*.w3", "ffn_up_exps", HF_EXPERT},
    {"layers.*.block_sparse_moe.router.layer", "ffn_gate_inp", HF_COPY},
    {"layers.*.block_sparse_moe.input_linear.weight", "exps.weight", HF_GATE_UP},
    {"layers.*.block_sparse_moe.output_linear", "ffn_down_exps", HF_COPY},
    {"layers.*.self_attn.rotary_emb.inv_freq", "", HF_SKIP},
    {"rotary_emb.inv_freq", "", HF_SKIP},
    {NULL, NULL, HF_SKIP},
};

/* Norms on both sides of the attention and of the feed-forward network. */
static const aii_hf_name sandwich_names[] = {
    {"layers.*.post_attention_layernorm", "post_attention_norm", HF_COPY},
    {"layers.*.pre_feedforward_layernorm", "ffn_norm", HF_COPY},
    {"layers.*.post_feedforward_layernorm", "post_ffw_norm", HF_COPY},
    {NULL, NULL, HF_SKIP},
};

static const aii_hf_name gpt2_names[] = {
    {"wte", "token_embd", HF_COPY},
    {"wpe", "position_embd", HF_COPY},
    {"ln_f", "output_norm", HF_COPY},
    {"h.*.ln_1", "attn_norm", HF_COPY},
    {"h.*.ln_2", "ffn_norm", HF_COPY},
    {"h.*.attn.c_attn", "attn_qkv", HF_TRANSPOSED},
    {"h.*.attn.c_proj", "attn_output", HF_TRANSPOSED},
    {"h.*.mlp.c_fc", "ffn_up", HF_TRANSPOSED},
    {"h.*.mlp.c_proj", "ffn_down", HF_TRANSPOSED},
    {"h.*.attn.bias", "", HF_SKIP},
    {"h.*.attn.masked_bias", "", HF_SKIP},
    {NULL, NULL, HF_SKIP},
};

static const aii_hf_name deepseek_names[] = {
    {"layers.*.self_attn.q_proj", "attn_q", HF_COPY},
    {"layers.*.self_attn.q_a_proj", "attn_q_a", HF_COPY},
    {"layers.*.self_attn.q_a_layernorm", "attn_q_a_norm", HF_COPY},
    {"layers.*.self_attn.q_b_proj", "attn_q_b", HF_COPY},
    {"layers.*.self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", HF_COPY},
    {"layers.*.self_attn.kv_a_layernorm", "attn_kv_a_norm", HF_COPY},
    {"layers.*.self_attn.kv_b_proj.weight", "", HF_KV_B},
    {NULL, NULL, HF_SKIP},
};

static const aii_hf_name gpt_oss_names[] = {
    {"layers.*.post_attention_layernorm", "post_attention_norm", HF_COPY},
    {"layers.*.self_attn.sinks", "attn_sinks.weight", HF_COPY},
    {"layers.*.mlp.router", "ffn_gate_inp", HF_COPY},
    {"layers.*.mlp.experts.gate_up_proj", "exps.weight", HF_GATE_UP_T},
    {"layers.*.mlp.experts.gate_up_proj_bias", "exps.bias", HF_GATE_UP_BIAS},
    {"layers.*.mlp.experts.down_proj", "ffn_down_exps.weight", HF_STACK_T},
    {"layers.*.mlp.experts.down_proj_bias", "ffn_down_exps.bias", HF_COPY},
    {"layers.*.mlp.experts.gate_up_proj_blocks", "exps.weight", HF_MXFP4_GATE_UP},
    {"layers.*.mlp.experts.gate_up_proj_scales", "", HF_SKIP},
    {"layers.*.mlp.experts.down_proj_blocks", "ffn_down_exps.weight", HF_MXFP4},
    {"layers.*.mlp.experts.down_proj_scales", "", HF_SKIP},
    {NULL, NULL, HF_SKIP},
};

#define ATTENTION_NAMES                                                                                                \
  {"embeddings.word_embeddings", "token_embd", HF_COPY}, {"embeddings.token_type_embeddings", "token_types", HF_COPY}, \
      {"embeddings.LayerNorm", "token_embd_norm", HF_COPY}, {"embeddings.position_ids", "", HF_SKIP},                  \
      {"embeddings.token_type_ids", "", HF_SKIP}, {"encoder.layer.*.attention.self.query", "attn_q", HF_COPY},         \
      {"encoder.layer.*.attention.self.key", "attn_k", HF_COPY},                                                       \
      {"encoder.layer.*.attention.self.value", "attn_v", HF_COPY},                                                     \
      {"encoder.layer.*.attention.output.dense", "attn_output", HF_COPY},                                              \
  {                                                                                                                    \
    "encoder.layer.*.attention.output.LayerNorm", "attn_output_norm", HF_COPY                                          \
  }

#define BERT_NAMES(positions)                                                      \
  ATTENTION_NAMES, {"embeddings.position_embeddings", "position_embd", positions}, \
      {"encoder.layer.*.intermediate.dense", "ffn_up", HF_COPY},                   \
      {"encoder.layer.*.output.dense", "ffn_down", HF_COPY},                       \
  {                                                                                \
    "encoder.layer.*.output.LayerNorm", "layer_output_norm", HF_COPY               \
  }

static const aii_hf_name bert_names[] = {
    BERT_NAMES(HF_COPY),
    {"pooler.dense", "", HF_SKIP},
    {"cls.predictions.bias", "", HF_SKIP},
    {"cls.predictions.decoder", "", HF_SKIP},
    {"cls.predictions.transform.dense", "", HF_SKIP},
    {"cls.predictions.transform.LayerNorm", "", HF_SKIP},
    {"cls.seq_relationship", "", HF_SKIP},
    {NULL, NULL, HF_SKIP},
};

static const aii_hf_name bert_rank_names[] = {
    BERT_NAMES(HF_COPY),
    {"pooler.dense", "cls", HF_COPY},
    {"classifier", "cls.output", HF_COPY},
    {NULL, NULL, HF_SKIP},
};

static const aii_hf_name roberta_names[] = {
    BERT_NAMES(HF_POSITIONS),
    {"pooler.dense", "", HF_SKIP},
    {"lm_head.bias", "", HF_SKIP},
    {"lm_head.dense", "", HF_SKIP},
    {"lm_head.layer_norm", "", HF_SKIP},
    {"lm_head.decoder", "", HF_SKIP},
    {"classifier.dense", "cls", HF_COPY},
    {"classifier.out_proj", "cls.output", HF_COPY},
    {NULL, NULL, HF_SKIP},
};
#undef BERT_NAMES

/* Of version 2, and of its variant for code, which normalises queries and keys. */
static const aii_hf_name jina_names[] = {
    ATTENTION_NAMES,
    {"encoder.layer.*.attention.self.layer_norm_q", "attn_q_norm", HF_COPY},
    {"encoder.layer.*.attention.self.layer_norm_k", "attn_k_norm", HF_COPY},
    {"encoder.layer.*.layer_norm_1", "attn_norm_2", HF_COPY},
    {"encoder.layer.*.layer_norm_2", "layer_output_norm", HF_COPY},
    {"encoder.layer.*.mlp.layernorm", "layer_output_norm", HF_COPY},
    {"encoder.layer.*.mlp.gated_layers", "ffn_up", HF_COPY},
    {"encoder.layer.*.mlp.up_gated_layer", "", HF_UP_GATE},
    {"encoder.layer.*.mlp.wo", "ffn_down", HF_COPY},
    {"encoder.layer.*.mlp.down_layer", "ffn_down", HF_COPY},
    {"pooler.dense", "", HF_SKIP},
    {"cls.predictions.bias", "", HF_SKIP},
    {"cls.predictions.decoder", "", HF_SKIP},
    {"cls.predictions.transform.dense", "", HF_SKIP},
    {"cls.predictions.transform.LayerNorm", "", HF_SKIP},
    {NULL, NULL, HF_SKIP},
};
#undef ATTENTION_NAMES

static const aii_hf_name static_names[] = {
    {"embeddings", "token_embd.weight", HF_STATIC},
    {"weights", "", HF_SKIP},
    {"mapping", "", HF_SKIP},
    {NULL, NULL, HF_SKIP},
};

static const aii_hf_name nomic_names[] = {
    {"embeddings.word_embeddings", "token_embd", HF_COPY},
    {"embeddings.token_type_embeddings", "token_types", HF_COPY},
    {"emb_ln", "token_embd_norm", HF_COPY},
    {"encoder.layers.*.attn.Wqkv", "attn_qkv", HF_COPY},
    {"encoder.layers.*.attn.out_proj", "attn_output", HF_COPY},
    {"encoder.layers.*.norm1", "attn_output_norm", HF_COPY},
    {"encoder.layers.*.mlp.fc11", "ffn_up", HF_COPY},
    {"encoder.layers.*.mlp.fc12", "ffn_gate", HF_COPY},
    {"encoder.layers.*.mlp.fc2", "ffn_down", HF_COPY},
    {"encoder.layers.*.norm2", "layer_output_norm", HF_COPY},
    {NULL, NULL, HF_SKIP},
};

#define MODERN_BERT_NAMES                                                                                \
  {"embeddings.tok_embeddings", "token_embd", HF_COPY}, {"embeddings.norm", "token_embd_norm", HF_COPY}, \
      {"final_norm", "output_norm", HF_COPY}, {"layers.*.attn_norm", "attn_norm", HF_COPY},              \
      {"layers.*.attn.Wqkv", "attn_qkv", HF_COPY}, {"layers.*.attn.Wo", "attn_output", HF_COPY},         \
      {"layers.*.mlp_norm", "ffn_norm", HF_COPY}, {"layers.*.mlp.Wi", "ffn_up", HF_COPY},                \
  {                                                                                                      \
    "layers.*.mlp.Wo", "ffn_down", HF_COPY                                                               \
  }

static const aii_hf_name modern_bert_names[] = {
    MODERN_BERT_NAMES,
    {"head.dense", "", HF_SKIP},
    {"head.norm", "", HF_SKIP},
    {"decoder.bias", "", HF_SKIP},
    {"decoder.weight", "", HF_SKIP},
    {NULL, NULL, HF_SKIP},
};

static const aii_hf_name modern_bert_rank_names[] = {
    MODERN_BERT_NAMES,
    {"head.dense", "cls", HF_COPY},
    {"head.norm", "cls.norm", HF_COPY},
    {"classifier", "cls.output", HF_COPY},
    {NULL, NULL, HF_SKIP},
};
#undef MODERN_BERT_NAMES

/* Parts of other kinds of models that lie beside the language model. */
static const char *const foreign[] = {"vision_tower.", "vision_model.", "multi_modal_projector.", "audio_tower.",
                                      "mtp."};

/* ---- config keys --------------------------------------------------------------------------------------------------- */

const aii_hf_key aii_hf_common_keys[] = {
    {"vocab_size", 'u', "vocab_size", NAN},
    {"context_length", 'u', "max_position_embeddings|n_ctx|n_positions|max_sequence_length|model_max_length", NAN},
    {"embedding_length", 'u', "hidden_size|n_embd|dim", NAN},
    {"block_count", 'u', "num_hidden_layers|n_layer|n_layers|num_layers", NAN},
    {"feed_forward_length", 'u', "intermediate_size|n_inner|hidden_dim", NAN},
    {"attention.head_count", 'u', "num_attention_heads|n_head|n_heads", NAN},
    {"attention.head_count_kv", 'u', "num_key_value_heads|n_kv_heads", NAN},
    {"attention.key_length", 'u', "head_dim", NAN},
    {"attention.value_length", 'u', "head_dim", NAN},
    {"attention.layer_norm_rms_epsilon", 'f', "rms_norm_eps", NAN},
    {"attention.layer_norm_epsilon", 'f', "layer_norm_eps|layer_norm_epsilon|norm_epsilon", NAN},
    {"attention.sliding_window", 'u', "sliding_window", NAN},
    {"expert_count", 'u', "num_local_experts|num_experts|n_routed_experts", NAN},
    {"expert_used_count", 'u', "num_experts_per_tok|top_k_experts", NAN},
    {NULL, 0, NULL, NAN},
};

static const aii_hf_key qwen_moe_keys[] = {
    {"expert_feed_forward_length", 'u', "moe_intermediate_size", NAN},
    {"expert_shared_feed_forward_length", 'u', "shared_expert_intermediate_size", NAN},
    {NULL, 0, NULL, NAN},
};

static const aii_hf_key gemma2_keys[] = {
    {"attn_logit_softcapping", 'f', "attn_logit_softcapping", NAN},
    {"final_logit_softcapping", 'f', "final_logit_softcapping", NAN},
    {NULL, 0, NULL, NAN},
};

static const aii_hf_key gemma3_keys[] = {
    {"context_length", 'u', "max_position_embeddings", 131072},
    {"attention.head_count", 'u', "num_attention_heads", 8},
    {"attention.head_count_kv", 'u', "num_key_value_heads", 4},
    {"attention.key_length", 'u', "head_dim", 256},
    {"attention.value_length", 'u', "head_dim", 256},
    {"attention.layer_norm_rms_epsilon", 'f', "rms_norm_eps", 1e-6},
    {"final_logit_softcapping", 'f', "final_logit_softcapping", NAN},
    {NULL, 0, NULL, NAN},
};

static const aii_hf_key granite_keys[] = {
    {"attention.scale", 'f', "attention_multiplier", NAN},
    {"embedding_scale", 'f', "embedding_multiplier", NAN},
    {"residual_scale", 'f', "residual_multiplier", NAN},
    {"logit_scale", 'f', "logits_scaling", NAN},
    {"expert_shared_feed_forward_length", 'u', "shared_intermediate_size", NAN},
    {NULL, 0, NULL, NAN},
};

static const aii_hf_key deepseek_keys[] = {
    {"attention.q_lora_rank", 'u', "q_lora_rank", NAN},
    {"attention.kv_lora_rank", 'u', "kv_lora_rank", NAN},
    {"leading_dense_block_count", 'u', "first_k_dense_replace", NAN},
    {"expert_feed_forward_length", 'u', "moe_intermediate_size", NAN},
    {"expert_shared_count", 'u', "n_shared_experts", NAN},
    {"expert_weights_scale", 'f', "routed_scaling_factor", NAN},
    {"expert_weights_norm", 'b', "norm_topk_prob", NAN},
    {"expert_group_count", 'u', "n_group", NAN},
    {"expert_group_used_count", 'u', "topk_group", NAN},
    {NULL, 0, NULL, NAN},
};

static const aii_hf_key gpt_oss_keys[] = {
    {"expert_feed_forward_length", 'u', "intermediate_size", NAN},
    {NULL, 0, NULL, NAN},
};

static const aii_hf_key modern_bert_keys[] = {
    {"attention.layer_norm_epsilon", 'f', "norm_eps", 1e-5},
    {"attention.sliding_window", 'u', "local_attention", 128},
    {"attention.sliding_window_pattern", 'u', "global_attn_every_n_layers", 3},
    {NULL, 0, NULL, NAN},
};

/* hidden_dim is the width of the vectors that these were made from; embedding_length is that of the tensor. */
static const aii_hf_key static_keys[] = {
    {"feed_forward_length", 'u', "intermediate_size", NAN},
    {"normalize", 'b', "normalize", NAN},
    {NULL, 0, NULL, NAN},
};

/* ---- the rows ------------------------------------------------------------------------------------------------------- */

static const aii_hf_arch rows[] = {
    {"LlamaForCausalLM", "llama", "llama", NULL, NULL, HF_PERMUTED | HF_ROTATES_ALL},
    {"MistralForCausalLM", "mistral", "llama", NULL, NULL, HF_PERMUTED | HF_ROTATES_ALL},
    {"MixtralForCausalLM", "mixtral", "llama", NULL, NULL, HF_PERMUTED | HF_ROTATES_ALL},
    {"Qwen2ForCausalLM", "qwen2", "qwen2", NULL, NULL, 0},
    {"Qwen2MoeForCausalLM", "qwen2_moe", "qwen2moe", NULL, qwen_moe_keys, 0},
    {"Qwen3ForCausalLM", "qwen3", "qwen3", NULL, NULL, 0},
    {"Qwen3MoeForCausalLM", "qwen3_moe", "qwen3moe", NULL, qwen_moe_keys, 0},
    {"GemmaForCausalLM", "gemma", "gemma", NULL, NULL, HF_NORM_PLUS | HF_NO_OUTPUT},
    {"Gemma2ForCausalLM", "gemma2", "gemma2", sandwich_names, gemma2_keys, HF_NORM_PLUS | HF_NO_OUTPUT},
    {"Gemma3ForCausalLM", "gemma3_text", "gemma3", sandwich_names, gemma3_keys, HF_NORM_PLUS | HF_NO_OUTPUT},
    {"Gemma3ForConditionalGeneration", "gemma3", "gemma3", sandwich_names, gemma3_keys, HF_NORM_PLUS | HF_NO_OUTPUT},
    {"Phi3ForCausalLM", "phi3", "phi3", NULL, NULL, HF_ROTATES_ALL},
    {"SmolLM3ForCausalLM", "smollm3", "smollm3", NULL, NULL, HF_PERMUTED | HF_ROTATES_ALL},
    {"GPT2LMHeadModel", "gpt2", "gpt2", gpt2_names, NULL, HF_NO_ROPE | HF_NO_OUTPUT},
    {"Olmo2ForCausalLM", "olmo2", "olmo2", sandwich_names, NULL, 0},
    {"GraniteForCausalLM", "granite", "granite", NULL, granite_keys, HF_PERMUTED | HF_ROTATES_ALL},
    {"GraniteMoeForCausalLM", "granitemoe", "granitemoe", NULL, granite_keys, HF_PERMUTED | HF_ROTATES_ALL},
    {"DeepseekV2ForCausalLM", "deepseek_v2", "deepseek2", deepseek_names, deepseek_keys, HF_MLA},
    {"DeepseekV3ForCausalLM", "deepseek_v3", "deepseek2", deepseek_names, deepseek_keys, HF_MLA},
    {"GptOssForCausalLM", "gpt_oss", "gpt-oss", gpt_oss_names, gpt_oss_keys, 0},
    {"BertModel", "bert", "bert", bert_names, NULL, HF_ENCODER | HF_NO_ROPE},
    {"BertForMaskedLM", "bert", "bert", bert_names, NULL, HF_ENCODER | HF_NO_ROPE},
    {"BertForSequenceClassification", "bert", "bert", bert_rank_names, NULL, HF_ENCODER | HF_NO_ROPE},
    {"JinaBertModel", "bert", "jina-bert-v2", jina_names, NULL, HF_ENCODER | HF_NO_ROPE},
    {"JinaBertForMaskedLM", "bert", "jina-bert-v2", jina_names, NULL, HF_ENCODER | HF_NO_ROPE},
    {"RobertaModel", "roberta", "bert", roberta_names, NULL, HF_ENCODER | HF_NO_ROPE | HF_OFFSET},
    {"XLMRobertaModel", "xlm-roberta", "bert", roberta_names, NULL, HF_ENCODER | HF_NO_ROPE | HF_OFFSET},
    {"XLMRobertaForSequenceClassification", "xlm-roberta", "bert", roberta_names, NULL,
     HF_ENCODER | HF_NO_ROPE | HF_OFFSET},
    {"NomicBertModel", "nomic_bert", "nomic-bert", nomic_names, NULL, HF_ENCODER},
    {"ModernBertModel", "modernbert", "modern-bert", modern_bert_names, modern_bert_keys, HF_ENCODER},
    {"ModernBertForMaskedLM", "modernbert", "modern-bert", modern_bert_names, modern_bert_keys, HF_ENCODER},
    {"ModernBertForSequenceClassification", "modernbert", "modern-bert", modern_bert_rank_names, modern_bert_keys,
     HF_ENCODER},
    {"StaticModel", "model2vec", "model2vec", static_names, static_keys, HF_ENCODER | HF_NO_ROPE | HF_TOKENIZER},
};

static const aii_hf_arch *find_row(const char *name, const char *model_type)
{
  for (size_t i = 0; i < AII_COUNT(rows); i++) {
    if (name != NULL && strcmp(rows[i].name, name) == 0) return &rows[i];
  }
  for (size_t i = 0; name == NULL && model_type != NULL && i < AII_COUNT(rows); i++) {
    if (strcmp(rows[i].model_type, model_type) == 0) return &rows[i];
  }
  return NULL;
}

aiinfra_status aii_hf_find_arch(const json_t *config, const aii_hf_arch **out, aiinfra_error *err)
{
  const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
  const char *model_type = json_string_value(json_object_get(config, "model_type"));
  *out = find_row(name, model_type);
  if (*out != NULL) return AIINFRA_OK;
  if (name == NULL && model_type == NULL) {
    return aii_fail(err, AIINFRA_EFORMAT, "config.json names no model: 'architectures' and 'model_type' are missing");
  }
  char known[400] = "";
  for (size_t i = 0, n = 0; i < AII_COUNT(rows) && n < sizeof known; i++) {
    if (i > 0 && strcmp(rows[i].model_type, rows[i - 1].model_type) == 0) continue;
    n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "", rows[i].model_type);
  }
  return aii_fail(err, AIINFRA_ENOTSUP, "architecture '%.64s' is not known to this version; these model types are: %s",
                  name != NULL ? name : model_type, known);
}

/* ---- finding a name --------------------------------------------------------------------------------------------------- */

static bool drop(aii_str *s, const char *prefix)
{
  size_t n = strlen(prefix);
  if (s->n <= n || memcmp(s->p, prefix, n) != 0) return false;
  *s = (aii_str){s->p + n, s->n - n};
  return true;
}

/* Whether the name begins with the pattern and then ends or has a dot; what follows goes to *suffix. */
static bool matches(const char *pattern, aii_str name, uint32_t numbers[2], aii_str *suffix)
{
  size_t at = 0;
  uint32_t n = 0;
  for (const char *p = pattern; *p != '\0'; p++) {
    if (*p != '*') {
      if (at == name.n || name.p[at++] != *p) return false;
      continue;
    }
    size_t start = at;
    numbers[n] = 0;
    for (; at < name.n && name.p[at] >= '0' && name.p[at] <= '9' && at - start < 6; at++) {
      numbers[n] = numbers[n] * 10 + (uint32_t)(name.p[at] - '0');
    }
    if (at == start) return false;
    n++;
  }
  *suffix = (aii_str){name.p + at, name.n - at};
  return suffix->n == 0 || (suffix->n == 7 && memcmp(suffix->p, ".weight", 7) == 0) ||
         (suffix->n == 5 && memcmp(suffix->p, ".bias", 5) == 0);
}

static const aii_hf_name *find_in(const aii_hf_name *names, aii_str name, uint32_t numbers[2], aii_str *suffix)
{
  for (; names != NULL && names->from != NULL; names++) {
    if (matches(names->from, name, numbers, suffix)) return names;
  }
  return NULL;
}

const aii_hf_name *aii_hf_find_name(const aii_hf_arch *arch, aii_str name, uint32_t numbers[2], aii_str *suffix)
{
  static const char *const prefixes[] = {"model.", "language_model.", "transformer.", "bert.", "roberta."};
  static const aii_hf_name skipped = {"", "", HF_SKIP};
  for (bool more = true; more;) {
    more = false;
    for (size_t i = 0; i < AII_COUNT(foreign); i++) {
      if (drop(&name, foreign[i])) return &skipped;
    }
    for (size_t i = 0; i < AII_COUNT(prefixes); i++) more = drop(&name, prefixes[i]) || more;
  }
  const aii_hf_name *own = find_in(arch->names, name, numbers, suffix);
  return own != NULL ? own : find_in(common_names, name, numbers, suffix);
}
