"""Makes small random models of every architecture, runs them with Hugging Face transformers, keeps what it said.

models.py OUT [GOLDEN [CASE...]]   to OUT/CASE/: {f32,f16,bf16}.gguf, tokens.i32, and {f32,f16,bf16}.logits, the float32
logits of every position: 48 of a prompt, then 64 that greedy decoding chose. With GOLDEN also GOLDEN/CASE.json: keys,
names and shapes of tensors, and a few of the logits, enough to make and check the same model without Python.

Weights are a formula of (name of the GGUF tensor, index), which tests/unit/test_architectures.c shares. F16 and BF16
files are compared with what transformers computes, in float32, from the same rounded weights.
"""
import json
import math
import os
import re
import sys

import gguf
import numpy as np
import torch
import transformers

from families import CASES, N_VOCAB, OUTSIDE, plain

N_PROMPT, N_DECODE = 48, 64
KEPT_ROWS, KEPT_LOGITS = (0, 23, 47, 111), 10
TYPES = {"f32": gguf.GGMLQuantizationType.F32, "f16": gguf.GGMLQuantizationType.F16,
         "bf16": gguf.GGMLQuantizationType.BF16}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


# ---- weights -------------------------------------------------------------------------------------------------------

def uniform(name, count):
    """`count` numbers in [-1, 1): splitmix64 from the FNV-1a hash of the name."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = (z ^ (z >> np.uint64(31))) >> np.uint64(32)
    return z.astype(np.uint32).view(np.int32).astype(np.float32) / np.float32(2147483648)


def spread_of(name, shape, tied):
    """What is added to the numbers, and what they are multiplied with before. Where a token's embedding is also its row
    of the output, it is small, so that the layers matter and the model does not only repeat itself."""
    if name.endswith("norm.weight"):
        return 1.0, 0.25
    if len(shape) == 1 or name.endswith(".bias"):
        return 0.0, 0.25
    if name in ("token_embd.weight", "position_embd.weight"):
        return 0.0, 0.15 if tied else 1.0
    return 0.0, round(2.2 / math.sqrt(shape[-1]), 4)


def keeps_f32(name, shape):
    return len(shape) == 1 or name.endswith(".bias") or "ffn_gate_inp" in name


def tensors_of(case, hf):
    """{gguf name: (shape, base, spread or values)}, and {parameter: (gguf names, function)}."""
    tensors, parameters = {}, {}
    for name, value in hf.state_dict().items():
        if name == "lm_head.weight" and hf.config.tie_word_embeddings:
            continue
        shape = tuple(value.shape)
        layer = re.match(r"(?:model|transformer)\.(?:layers|h)\.(\d+)\.(.*)$", name)
        full, ending = (layer.group(2) if layer else name), ""
        table = case.table if layer else OUTSIDE
        if not layer:
            full = full.split(".", 1)[1] if full.startswith(("model.", "transformer.")) else full
        if full not in table:
            full, ending = full.rsplit(".", 1)
            ending = "." + ending
        entry = table[full]
        to, rule = entry if isinstance(entry, tuple) else (entry, plain)
        to += ending
        if not layer and to == "output_norm.weight":
            rule = case.outside_rule
        if layer:
            to = "blk.%s.%s" % (layer.group(1), to)
        sources, function = rule(to, shape, hf.config)
        parameters[name] = (list(sources), function)
        for source, of in sources.items():
            if source.endswith("ffn_gate_inp_shexp.weight"):
                of = (of[-1],)
            tensors[source] = (of,) + spread_of(source, of, hf.config.tie_word_embeddings)
    for name, values in case.values.items():
        tensors[name] = ((len(values),), values, None)
    return tensors, parameters


def values_of(tensors):
    out = {}
    for name, (shape, base, spread) in tensors.items():
        if spread is None:
            out[name] = np.array(base, np.float32)
        else:
            count = int(np.prod(shape))
            out[name] = (np.float32(base) + np.float32(spread) * uniform(name, count)).reshape(shape)
    return out


def rounded(values, kind):
    out = {}
    for name, value in values.items():
        same = kind == "f32" or keeps_f32(name, value.shape)
        out[name] = value if same else torch.from_numpy(value).to(DTYPES[kind]).float().numpy()
    return out


def fill(hf, parameters, values):
    state = hf.state_dict()
    for name, (sources, function) in parameters.items():
        filled = np.ascontiguousarray(function({s: values[s] for s in sources}), np.float32)
        state[name].copy_(torch.from_numpy(filled).reshape(state[name].shape))


# ---- files -----------------------------------------------------------------------------------------------------------

def keys_of(case, config):
    """The keys of every file, then those of this one. Numbers are u32 or f32 by their Python type."""
    c = config.to_dict()
    heads = c.get("num_attention_heads") or c["n_head"]
    width = c.get("hidden_size") or c["n_embd"]
    keys = {
        "context_length": c.get("max_position_embeddings") or c["n_positions"],
        "embedding_length": width,
        "block_count": c.get("num_hidden_layers") or c["n_layer"],
        "feed_forward_length": c.get("intermediate_size") or c["n_inner"],
        "attention.head_count": heads,
        "attention.head_count_kv": c.get("num_key_value_heads") or heads,
    }
    if "rms_norm_eps" in c:
        keys["attention.layer_norm_rms_epsilon"] = float(c["rms_norm_eps"])
    else:
        keys["attention.layer_norm_epsilon"] = float(c["layer_norm_epsilon"])
    if case.arch != "gpt2":
        dim = c.get("head_dim") or width // heads
        keys.update({"attention.key_length": dim, "attention.value_length": dim, "rope.dimension_count": dim})
    theta = (c.get("rope_parameters") or {}).get("rope_theta")
    if theta:
        keys["rope.freq_base"] = float(theta)
    for name in ("num_experts", "num_local_experts", "n_routed_experts"):
        if c.get(name):
            keys["expert_count"] = c[name]
            keys["expert_used_count"] = c["num_experts_per_tok"]
    if c.get("moe_intermediate_size"):
        keys["expert_feed_forward_length"] = c["moe_intermediate_size"]
    keys.update(case.keys)
    out = {"general.architecture": case.arch, "general.name": case.name}
    out.update(("%s.%s" % (case.arch, key), value) for key, value in keys.items())
    return out


def add_vocabulary(writer):
    tokens = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)]
    tokens += ["\u2581"] + ["t%d" % i for i in range(len(tokens) + 1, N_VOCAB)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(N_VOCAB)])
    writer.add_token_types([2] + [3] * 2 + [6] * 256 + [1] * (N_VOCAB - 259))


def write_gguf(path, case, keys, values, kind):
    writer = gguf.GGUFWriter(path, case.arch)
    for key, value in keys.items():
        if key == "general.architecture":
            continue
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
        add[type(value)](key, value)
    add_vocabulary(writer)
    for name, value in values.items():
        to = gguf.GGMLQuantizationType.F32 if keeps_f32(name, value.shape) else TYPES[kind]
        writer.add_tensor(name, gguf.quants.quantize(value, to), raw_dtype=to)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_golden(path, keys, tensors, tokens, logits):
    kept = []
    for row in KEPT_ROWS:
        ids = [int(i) for i in np.argsort(-logits[row])[:2]]
        ids += [(17 * row + 26 * i) % N_VOCAB for i in range(KEPT_LOGITS - 2)]
        kept.append([row, ids, [float("%.9g" % logits[row][i]) for i in ids]])
    golden = {
        "keys": keys,
        "tensors": [[name, list(shape[::-1]), base if spread is not None else [float("%.9g" % v) for v in base]] +
                    ([spread] if spread is not None else []) for name, (shape, base, spread) in tensors.items()],
        "n_prompt": N_PROMPT, "tokens": tokens, "logits": kept}
    with open(path, "w") as file:
        file.write("{\n" + ",\n".join('"%s": %s' % (k, json.dumps(v)) for k, v in golden.items()) + "\n}\n")


# ---- transformers ------------------------------------------------------------------------------------------------------

def make(case):
    base = case.model.removesuffix("LMHead")
    config_class = getattr(transformers, base + ("TextConfig" if base == "Gemma3" else "Config"))
    head = "LMHeadModel" if base != case.model else "ForCausalLM"
    config = config_class(**case.config)
    config._attn_implementation = "eager"
    return getattr(transformers, base + head)(config).eval()


def logits_of(hf, tokens):
    return hf(torch.tensor([tokens]), use_cache=False).logits[0].float().numpy()


def run(case, out, golden):
    hf = make(case)
    tensors, parameters = tensors_of(case, hf)
    keys, exact = keys_of(case, hf.config), values_of(tensors)
    folder = os.path.join(out, case.name)
    os.makedirs(folder, exist_ok=True)
    tokens = [int(3 + (i * 7919 + 31) % (N_VOCAB - 3)) for i in range(N_PROMPT)]
    for kind in TYPES:
        values = rounded(exact, kind)
        fill(hf, parameters, values)
        while len(tokens) < N_PROMPT + N_DECODE:
            tokens.append(int(np.argmax(logits_of(hf, tokens)[-1])))
        logits = logits_of(hf, tokens)
        write_gguf(os.path.join(folder, kind + ".gguf"), case, keys, values, kind)
        logits.astype("<f4").tofile(os.path.join(folder, kind + ".logits"))
        if kind == "f32" and golden:
            write_golden(os.path.join(golden, case.name + ".json"), keys, tensors, tokens, logits)
    np.array(tokens, "<i4").tofile(os.path.join(folder, "tokens.i32"))
    print("%-18s %d tensors, logits up to %.1f, %d different tokens chosen" %
          (case.name, len(tensors), np.abs(logits).max(), len(set(tokens[N_PROMPT:]))), flush=True)


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    out, golden = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    for case in CASES:
        if len(sys.argv) <= 3 or case.name in sys.argv[3:]:
            run(case, out, golden)


if __name__ == "__main__":
    main()
