"""Random models of every architecture whose rows fit blocks of 256, for llama_cpp.py: wide.py OUT [CASE...]

They are the cases of families.py with wider layers, as F32 files OUT/CASE.gguf. Where llama.cpp computes otherwise than
transformers, this library keeps to transformers, and the model does without: llama.cpp ignores the sliding windows of
mistral and phi3, rounds the YaRN range of gpt-oss, judges the groups of DeepSeek-V2 by two experts instead of the best
one, takes a deepseek2 without attn_q_a for another model, and tells tokenizers by the name of the model.
"""
import copy
import os
import sys

import torch
import transformers

import models
from families import CASES, llama3_factors, rope

WIDTHS = dict(hidden_size=256, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
              moe_intermediate_size=256, shared_expert_intermediate_size=256, query_pre_attn_scalar=64,
              n_embd=256, n_head=4, n_inner=512)
LATENT = dict(num_key_value_heads=4, kv_lora_rank=256, q_lora_rank=256, qk_nope_head_dim=48, qk_rope_head_dim=16,
              v_head_dim=64, head_dim=16)
KEYS = {"attention.kv_lora_rank": 256, "attention.q_lora_rank": 256, "expert_feed_forward_length": 256,
        "expert_shared_feed_forward_length": 256}
LATENT_KEYS = {"rope.dimension_count": 16, "attention.key_length": 64, "attention.value_length": 64}
COMPRESSED_KEYS = {"rope.dimension_count": 16, "attention.key_length": 272, "attention.value_length": 256,
                   "attention.key_length_mla": 64, "attention.value_length_mla": 64}
LEFT_OUT = ("deepseek2", "phi3-short")


def without(case, *parts):
    """Takes these parts out of keys."""
    case.keys = {k: v for k, v in case.keys.items() if not any(part in k for part in parts)}


def widen(case):
    wide = copy.copy(case)
    sizes = dict(WIDTHS, **LATENT) if case.arch == "deepseek2" else WIDTHS
    wide.config = {k: sizes.get(k, v) if v is not None else v for k, v in case.config.items()}
    keys = dict(KEYS)
    if case.arch == "deepseek2":
        keys.update(COMPRESSED_KEYS if "attention.key_length_mla" in case.keys else LATENT_KEYS)
    wide.keys = {k: keys.get(k, v) for k, v in case.keys.items()}
    wide.values = dict(case.values)
    if "rope_freqs.weight" in wide.values:
        wide.values["rope_freqs.weight"] = llama3_factors(5000.0, 64, 8.0, 1.0, 4.0, 64)
    wide.name = "random"
    if case.arch in ("mistral", "phi3"):
        wide.arch = "llama" if case.arch == "mistral" else case.arch
        wide.config["sliding_window"] = None
        without(wide, "sliding_window")
    if case.arch == "gpt-oss":
        wide.config["rope_parameters"] = rope(theta=150000.0)
        without(wide, "rope.scaling")
    if case.config.get("topk_method") == "group_limited_greedy":
        wide.config.update(topk_method="greedy", n_group=1, topk_group=1)
        without(wide, "expert_group")
    if "rope_factors_long.weight" in wide.values:
        factors = [[1 + i * step for i in range(32)] for step in (0.01, 0.2)]
        wide.values = dict(zip(("rope_factors_short.weight", "rope_factors_long.weight"), factors))
        wide.config["rope_parameters"] = dict(wide.config["rope_parameters"], short_factor=factors[0],
                                              long_factor=factors[1])
    return wide


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    out, wanted = sys.argv[1], sys.argv[2:]
    os.makedirs(out, exist_ok=True)
    for case in CASES:
        if case.name in LEFT_OUT or (wanted and case.name not in wanted):
            continue
        wide = widen(case)
        hf = models.make(wide)
        tensors, _ = models.tensors_of(wide, hf)
        values = models.values_of(tensors)
        models.write_gguf(os.path.join(out, case.name + ".gguf"), wide, models.keys_of(wide, hf.config), values, "f32")
        print("%-18s %d tensors" % (case.name, len(tensors)), flush=True)


main()
