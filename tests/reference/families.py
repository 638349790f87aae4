"""The architectures as Hugging Face transformers has them: one table of names each, and the small odd models to compare.

A Case is a random model: its configuration for transformers, the keys of its GGUF file that do not follow from that,
and the table that says which GGUF tensors a parameter of transformers is made of. A new plain family is one table (most
often COMMON) and one Case.
"""
import math

import numpy as np

# ---- rules: how a parameter is made of GGUF tensors --------------------------------------------------------------
# rule(gguf name, shape of the parameter, config) -> ({gguf tensor: its numpy shape}, function of these to the parameter)


def plain(name, shape, config):
    return {name: shape}, lambda t: t[name]


def plus_one(name, shape, config):
    """Norms of gemma: the file has 1 + w."""
    return {name: shape}, lambda t: t[name] - np.float32(1)


def transposed(name, shape, config):
    """GPT-2's Conv1D."""
    return ({name: shape[::-1]}, lambda t: t[name].T) if len(shape) == 2 else plain(name, shape, config)


def adjacent(heads):
    """Rows of each head are reordered so that adjacent pairs rotate."""
    def rule(name, shape, config):
        n = getattr(config, heads)
        def back(t):
            rest = t[name].shape[1:]
            return t[name].reshape(n, shape[0] // n // 2, 2, *rest).swapaxes(1, 2).reshape(shape)
        return {name: shape}, back
    return rule


def gate_up(name, shape, config):
    """Experts: the rows of gate, then those of up."""
    gate, up = name.replace("gate_up", "gate"), name.replace("gate_up", "up")
    half = (shape[0], shape[1] // 2, shape[2])
    return {gate: half, up: half}, lambda t: np.concatenate([t[gate], t[up]], axis=1)


def oai_gate_up(name, shape, config):
    """gpt-oss: gate and up alternate, and inputs come first; a bias alternates too."""
    gate, up = name.replace("gate_up", "gate"), name.replace("gate_up", "up")
    half = (shape[0], shape[-1] // 2) + ((shape[1],) if len(shape) == 3 else ())
    def back(t):
        both = np.stack([t[gate], t[up]], axis=2).reshape(shape[0], shape[-1], *half[2:])
        return both.swapaxes(1, 2) if len(shape) == 3 else both
    return {gate: half, up: half}, back


def oai_down(name, shape, config):
    if len(shape) == 2:
        return plain(name, shape, config)
    return {name: (shape[0], shape[2], shape[1])}, lambda t: t[name].swapaxes(1, 2)


def latent(name, shape, config):
    """The newer files of deepseek2: keys and values apart, keys with inputs first."""
    heads, nope, value, rank = (config.num_attention_heads, config.qk_nope_head_dim, config.v_head_dim,
                                config.kv_lora_rank)
    k, v = name.replace("kv_b", "k_b"), name.replace("kv_b", "v_b")
    def back(t):
        return np.concatenate([t[k].swapaxes(1, 2), t[v]], axis=1).reshape(shape)
    return {k: (heads, rank, nope), v: (heads, value, rank)}, back


# ---- tables: inside a layer, transformers' name -> GGUF's, with a rule if it is not plain -------------------------

COMMON = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.experts.gate_up_proj": ("ffn_gate_up_exps.weight", gate_up),
    "mlp.experts.down_proj": "ffn_down_exps.weight",
}
ADJACENT = dict(COMMON, **{
    "self_attn.q_proj": ("attn_q", adjacent("num_attention_heads")),
    "self_attn.k_proj": ("attn_k", adjacent("num_key_value_heads")),
})
QWEN2MOE = dict(COMMON, **{
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
})
GEMMA = dict(COMMON, **{
    "input_layernorm": ("attn_norm", plus_one),
    "post_attention_layernorm": ("ffn_norm", plus_one),
})
GEMMA2 = dict(COMMON, **{
    "input_layernorm": ("attn_norm", plus_one),
    "self_attn.q_norm": ("attn_q_norm", plus_one),
    "self_attn.k_norm": ("attn_k_norm", plus_one),
    "post_attention_layernorm": ("post_attention_norm", plus_one),
    "pre_feedforward_layernorm": ("ffn_norm", plus_one),
    "post_feedforward_layernorm": ("post_ffw_norm", plus_one),
})
OLMO2 = dict(COMMON, **{
    "post_attention_layernorm": "post_attention_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
})
PHI3 = dict(COMMON, **{"self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up"})
GPT2 = {
    "ln_1": "attn_norm",
    "attn.c_attn": ("attn_qkv", transposed),
    "attn.c_proj": ("attn_output", transposed),
    "ln_2": "ffn_norm",
    "mlp.c_fc": ("ffn_up", transposed),
    "mlp.c_proj": ("ffn_down", transposed),
}
DEEPSEEK = dict(COMMON, **{
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
})
LATENT = dict(DEEPSEEK, **{"self_attn.kv_b_proj": ("attn_kv_b", latent)})
GPT_OSS = dict(COMMON, **{
    "post_attention_layernorm": "post_attention_norm",
    "self_attn.sinks": "attn_sinks.weight",
    "mlp.router": "ffn_gate_inp",
    "mlp.experts.gate_up_proj": ("ffn_gate_up_exps.weight", oai_gate_up),
    "mlp.experts.gate_up_proj_bias": ("ffn_gate_up_exps.bias", oai_gate_up),
    "mlp.experts.down_proj": ("ffn_down_exps.weight", oai_down),
    "mlp.experts.down_proj_bias": "ffn_down_exps.bias",
})
OUTSIDE = {
    "embed_tokens": "token_embd", "wte": "token_embd", "wpe": "position_embd",
    "norm": "output_norm", "ln_f": "output_norm", "lm_head": "output",
}

# ---- cases ---------------------------------------------------------------------------------------------------------

N_VOCAB = 263
SMALL = dict(vocab_size=N_VOCAB, hidden_size=40, intermediate_size=56, num_hidden_layers=2, num_attention_heads=5,
             num_key_value_heads=1, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)


def rope(kind="default", theta=10000.0, **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


class Case:
    def __init__(self, name, arch, model, table, config, keys=None, values=None, plus_one_outside=False):
        self.name, self.arch, self.model, self.table = name, arch, model, table
        self.config, self.keys, self.values = config, keys or {}, values or {}
        self.outside_rule = plus_one if plus_one_outside else plain


def llama3_factors(theta, n_rot, factor, low, high, original):
    """What converters write to rope_freqs.weight for Llama 3.1."""
    out = []
    for i in range(n_rot // 2):
        wave = 2 * math.pi * theta ** (2 * i / n_rot)
        smooth = (original / wave - low) / (high - low)
        share = min(max(smooth, 0.0), 1.0)
        out.append(1 / ((1 - share) / factor + share))
    return out


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
SHORT, LONG = [1.0, 1.05, 1.1, 1.25], [1.0, 1.5, 3.0, 7.5]
MLA = dict(num_key_value_heads=5, kv_lora_rank=24, qk_nope_head_dim=10, qk_rope_head_dim=6, v_head_dim=12,
           head_dim=6, n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=20, n_shared_experts=2,
           first_k_dense_replace=1, num_hidden_layers=3)
MLA_KEYS = {"attention.kv_lora_rank": 24, "rope.dimension_count": 6, "leading_dense_block_count": 1,
            "expert_shared_count": 2}
WHOLE_KEYS = dict(MLA_KEYS, **{"attention.key_length": 16, "attention.value_length": 12})
LATENT_KEYS = dict(MLA_KEYS, **{"attention.key_length": 30, "attention.value_length": 24, "attention.head_count_kv": 1,
                                "attention.key_length_mla": 16, "attention.value_length_mla": 12})
EXPERTS = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=20)

CASES = [
    Case("llama", "llama", "Llama", ADJACENT,
         dict(SMALL, head_dim=8, rope_parameters=rope("llama3", 5000.0, **LLAMA3)),
         values={"rope_freqs.weight": llama3_factors(5000.0, 8, 8.0, 1.0, 4.0, 64)}),
    Case("llama-linear", "llama", "Llama", ADJACENT,
         dict(SMALL, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, attention_bias=True,
              mlp_bias=True, rope_parameters=rope("linear", factor=4.0)),
         {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    Case("mistral", "mistral", "Mistral", ADJACENT,
         dict(SMALL, head_dim=10, sliding_window=13), {"attention.sliding_window": 13}),
    Case("mixtral", "llama", "Mixtral", ADJACENT,
         dict(SMALL, head_dim=8, num_local_experts=5, num_experts_per_tok=2, sliding_window=None)),
    Case("qwen2", "qwen2", "Qwen2", COMMON,
         dict(SMALL, num_attention_heads=10, num_key_value_heads=5, tie_word_embeddings=True,
              rope_parameters=rope(theta=1e6))),
    Case("qwen2moe", "qwen2moe", "Qwen2Moe", QWEN2MOE,
         dict(dict(SMALL, **EXPERTS), shared_expert_intermediate_size=28, decoder_sparse_step=1),
         {"expert_shared_feed_forward_length": 28}),
    Case("qwen3", "qwen3", "Qwen3", COMMON, dict(SMALL, num_attention_heads=3, head_dim=24)),
    Case("qwen3-yarn", "qwen3", "Qwen3", COMMON,
         dict(SMALL, head_dim=16, tie_word_embeddings=True,
              rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32)),
         {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}),
    Case("qwen3moe", "qwen3moe", "Qwen3Moe", COMMON, dict(dict(SMALL, **EXPERTS), head_dim=12, norm_topk_prob=True)),
    Case("gemma", "gemma", "Gemma", GEMMA, dict(SMALL, head_dim=14), plus_one_outside=True),
    Case("gemma2", "gemma2", "Gemma2", GEMMA2,
         dict(SMALL, num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=12, sliding_window=11,
              attn_logit_softcapping=3.0, final_logit_softcapping=5.0),
         {"attention.sliding_window": 11, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0},
         plus_one_outside=True),
    Case("gemma3", "gemma3", "Gemma3", GEMMA2,
         dict(SMALL, num_hidden_layers=7, head_dim=12, query_pre_attn_scalar=12, sliding_window=11,
              rope_parameters={"full_attention": rope("linear", 1e6, factor=8.0), "sliding_attention": rope()}),
         {"attention.sliding_window": 11, "rope.freq_base": 1e6, "rope.scaling.type": "linear",
          "rope.scaling.factor": 8.0},
         plus_one_outside=True),
    Case("phi3", "phi3", "Phi3", PHI3,
         dict(SMALL, sliding_window=29, original_max_position_embeddings=32,
              rope_parameters=rope("longrope", short_factor=SHORT, long_factor=LONG,
                                   original_max_position_embeddings=32)),
         {"attention.sliding_window": 29, "rope.scaling.original_context_length": 32,
          "rope.scaling.attn_factor": math.sqrt(1 + math.log(4) / math.log(32))},
         {"rope_factors_short.weight": SHORT, "rope_factors_long.weight": LONG}),
    Case("phi3-short", "phi3", "Phi3", PHI3,
         dict(SMALL, num_attention_heads=4, num_key_value_heads=2, hidden_size=64, partial_rotary_factor=0.5,
              original_max_position_embeddings=128,
              rope_parameters=rope("longrope", short_factor=SHORT, long_factor=LONG, partial_rotary_factor=0.5,
                                   original_max_position_embeddings=128)),
         {"rope.dimension_count": 8, "rope.scaling.original_context_length": 128},
         {"rope_factors_short.weight": SHORT, "rope_factors_long.weight": LONG}),
    Case("smollm3", "smollm3", "SmolLM3", ADJACENT,
         dict(SMALL, num_hidden_layers=5, head_dim=8, tie_word_embeddings=True, rope_parameters=rope(theta=5e6))),
    Case("gpt2", "gpt2", "GPT2LMHead", GPT2,
         dict(vocab_size=N_VOCAB, n_embd=40, n_layer=3, n_head=5, n_positions=128, n_inner=72, bos_token_id=1,
              eos_token_id=2)),
    Case("olmo2", "olmo2", "Olmo2", OLMO2, dict(SMALL, num_attention_heads=4, num_key_value_heads=2)),
    Case("granite", "granite", "Granite", ADJACENT,
         dict(SMALL, attention_multiplier=0.3, embedding_multiplier=3.0, residual_multiplier=0.6, logits_scaling=2.5,
              tie_word_embeddings=True),
         {"attention.scale": 0.3, "embedding_scale": 3.0, "residual_scale": 0.6, "logit_scale": 2.5}),
    Case("deepseek2", "deepseek2", "DeepseekV2", DEEPSEEK,
         dict(dict(SMALL, **MLA), q_lora_rank=None, topk_method="greedy", n_group=1, topk_group=1),
         dict(WHOLE_KEYS, **{"expert_weights_scale": 1.0})),
    Case("deepseek2-groups", "deepseek2", "DeepseekV2", DEEPSEEK,
         dict(dict(SMALL, **MLA), q_lora_rank=20, topk_method="group_limited_greedy", n_group=3, topk_group=2,
              routed_scaling_factor=1.5,
              rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=32, mscale=0.707,
                                   mscale_all_dim=0.707)),
         dict(WHOLE_KEYS, **{
             "attention.q_lora_rank": 20, "expert_weights_scale": 1.5, "expert_group_count": 3,
             "expert_group_used_count": 2, "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
             "rope.scaling.original_context_length": 32, "rope.scaling.yarn_log_multiplier": 0.0707})),
    Case("deepseek2-v3", "deepseek2", "DeepseekV3", LATENT,
         dict(dict(SMALL, **MLA), q_lora_rank=20, n_group=3, topk_group=2, routed_scaling_factor=2.5, norm_topk_prob=True),
         dict(LATENT_KEYS, **{
             "attention.q_lora_rank": 20, "expert_weights_scale": 2.5, "expert_weights_norm": True,
             "expert_gating_func": 2, "expert_group_count": 3, "expert_group_used_count": 2})),
    Case("gpt-oss", "gpt-oss", "GptOss", GPT_OSS,
         dict(SMALL, num_hidden_layers=3, head_dim=24, num_local_experts=5, num_experts_per_tok=2, sliding_window=14,
              rope_parameters=rope("yarn", 150000.0, factor=2.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                                   original_max_position_embeddings=64)),
         {"attention.sliding_window": 14, "rope.scaling.type": "yarn", "rope.scaling.factor": 2.0,
          "rope.scaling.original_context_length": 64, "expert_feed_forward_length": 56}),
]
