"""Makes small random encoders, runs them with Hugging Face transformers, keeps what it said.

encoders.py OUT   to OUT/CASE.json: keys and tensors of a GGUF file, tokens, and the last hidden states of a few of them.
Weights are a formula of (name of the tensor, index), which tests/unit/test_encoders.c shares. JinaBERT is not part of
transformers: its reference is the one function below, in NumPy.
"""
import json
import math
import os
import sys

import numpy as np
import torch
import transformers

N_VOCAB, WIDTH, HEADS, N_FF, CONTEXT, N_TOKENS = 263, 32, 4, 48, 128, 90
KEPT_ROWS = (0, 1, 44, 89)
SIZES = dict(vocab_size=N_VOCAB, hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=N_FF)


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


class Case:
    """A model in the making: the tensors of its file, and their values."""

    def __init__(self, arch, n_layers, more_keys):
        self.keys = {"general.architecture": arch, arch + ".context_length": CONTEXT, arch + ".embedding_length": WIDTH,
                     arch + ".block_count": n_layers, arch + ".feed_forward_length": N_FF,
                     arch + ".attention.head_count": HEADS, arch + ".attention.causal": False}
        self.keys.update({arch + "." + key: value for key, value in more_keys.items()})
        self.tensors = []
        self.tokens = [int(x) for x in (uniform(arch + " tokens", N_TOKENS) + 1) * (N_VOCAB / 2)]

    def make(self, name, *shape):
        """A tensor by its NumPy shape."""
        norm = name.endswith("norm.weight")
        base, spread = (1.0, 0.25) if norm else (0.0, 0.25 if len(shape) == 1 else round(2.2 / math.sqrt(shape[-1]), 4))
        if name in ("token_embd.weight", "position_embd.weight", "token_types.weight"):
            spread = 1.0
        self.tensors.append([name, list(shape[::-1]), base, spread])
        values = np.float32(base) + np.float32(spread) * uniform(name, int(np.prod(shape)))
        return values.reshape(shape)

    def linear(self, name, n_out, n_in, bias):
        weight = self.make(name + ".weight", n_out, n_in)
        return weight, self.make(name + ".bias", n_out) if bias else None

    def norm(self, name, bias=True):
        weight = self.make(name + ".weight", WIDTH)
        return weight, self.make(name + ".bias", WIDTH) if bias else None


def put(module, values):
    for parameter, value in zip((module.weight, getattr(module, "bias", None)), values):
        if value is not None:
            parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def slices(values, *sizes):
    weight, bias = values
    at = np.cumsum((0,) + sizes)
    return [(weight[a:b], None if bias is None else bias[a:b]) for a, b in zip(at, at[1:])]


def run(hf, case):
    hf.eval()
    tokens = torch.tensor([case.tokens])
    with torch.no_grad():
        return hf(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0].numpy()


# ---- the models -----------------------------------------------------------------------------------------------------

def bert(roberta):
    case = Case("bert", 3, {"attention.layer_norm_epsilon": 1e-5, "pooling_type": 2})
    more = dict(num_hidden_layers=3, layer_norm_eps=1e-5, max_position_embeddings=CONTEXT + 2 * roberta,
                type_vocab_size=1 if roberta else 2, pad_token_id=1 if roberta else 0, attn_implementation="eager")
    if roberta:
        case.tokens = [t if t != 1 else 7 for t in case.tokens]  # no padding inside: it has a position of its own
        hf = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SIZES, **more), add_pooling_layer=False)
    else:
        hf = transformers.BertModel(transformers.BertConfig(**SIZES, **more), add_pooling_layer=False)
    e = hf.embeddings
    put(e.word_embeddings, (case.make("token_embd.weight", N_VOCAB, WIDTH),))
    places = case.make("position_embd.weight", CONTEXT, WIDTH)
    put(e.position_embeddings, (np.concatenate([places[:2], places]) if roberta else places,))
    put(e.token_type_embeddings, (case.make("token_types.weight", 1 if roberta else 2, WIDTH),))
    put(e.LayerNorm, case.norm("token_embd_norm"))
    for i, layer in enumerate(hf.encoder.layer):
        blk, own = "blk.%d." % i, layer.attention.self
        for name, module in (("attn_q", own.query), ("attn_k", own.key), ("attn_v", own.value),
                             ("attn_output", layer.attention.output.dense)):
            put(module, case.linear(blk + name, WIDTH, WIDTH, True))
        put(layer.attention.output.LayerNorm, case.norm(blk + "attn_output_norm"))
        put(layer.intermediate.dense, case.linear(blk + "ffn_up", N_FF, WIDTH, True))
        put(layer.output.dense, case.linear(blk + "ffn_down", WIDTH, N_FF, True))
        put(layer.output.LayerNorm, case.norm(blk + "layer_output_norm"))
    return case, run(hf, case)


def nomic():
    case = Case("nomic-bert", 3, {"attention.layer_norm_epsilon": 1e-12, "rope.freq_base": 1000.0, "pooling_type": 1})
    config = transformers.NomicBertConfig(**SIZES, num_hidden_layers=3, max_position_embeddings=CONTEXT,
                                          attn_implementation="eager")
    hf = transformers.NomicBertModel(config, add_pooling_layer=False)
    put(hf.embeddings.word_embeddings, (case.make("token_embd.weight", N_VOCAB, WIDTH),))
    put(hf.embeddings.token_type_embeddings, (case.make("token_types.weight", 2, WIDTH),))
    put(hf.embeddings.LayerNorm, case.norm("token_embd_norm"))
    for i, layer in enumerate(hf.layers):
        blk, own = "blk.%d." % i, layer.self_attn
        qkv = slices(case.linear(blk + "attn_qkv", 3 * WIDTH, WIDTH, False), WIDTH, WIDTH, WIDTH)
        for module, values in zip((own.q_proj, own.k_proj, own.v_proj), qkv):
            put(module, values)
        put(own.o_proj, case.linear(blk + "attn_output", WIDTH, WIDTH, False))
        put(layer.post_attention_layernorm, case.norm(blk + "attn_output_norm"))
        put(layer.mlp.gate_proj, case.linear(blk + "ffn_gate", N_FF, WIDTH, False))
        put(layer.mlp.up_proj, case.linear(blk + "ffn_up", N_FF, WIDTH, False))
        put(layer.mlp.down_proj, case.linear(blk + "ffn_down", WIDTH, N_FF, False))
        put(layer.post_mlp_layernorm, case.norm(blk + "layer_output_norm"))
    return case, run(hf, case)


def modern():
    case = Case("modern-bert", 4, {"attention.layer_norm_epsilon": 1e-5, "rope.freq_base": 160000.0,
                                   "rope.freq_base_swa": 10000.0, "attention.sliding_window": 16, "pooling_type": 2})
    config = transformers.ModernBertConfig(**SIZES, num_hidden_layers=4, max_position_embeddings=CONTEXT,
                                           local_attention=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                           cls_token_id=1, sep_token_id=2, attn_implementation="eager")
    hf = transformers.ModernBertModel(config)
    put(hf.embeddings.tok_embeddings, (case.make("token_embd.weight", N_VOCAB, WIDTH),))
    put(hf.embeddings.norm, case.norm("token_embd_norm", False))
    put(hf.final_norm, case.norm("output_norm", False))
    for i, layer in enumerate(hf.layers):
        blk = "blk.%d." % i
        if i > 0:
            put(layer.attn_norm, case.norm(blk + "attn_norm", False))
        put(layer.attn.Wqkv, case.linear(blk + "attn_qkv", 3 * WIDTH, WIDTH, False))
        put(layer.attn.Wo, case.linear(blk + "attn_output", WIDTH, WIDTH, False))
        put(layer.mlp_norm, case.norm(blk + "ffn_norm", False))
        put(layer.mlp.Wi, case.linear(blk + "ffn_up", 2 * N_FF, WIDTH, False))
        put(layer.mlp.Wo, case.linear(blk + "ffn_down", WIDTH, N_FF, False))
    return case, run(hf, case)


def jina(fused):
    """JinaBERT v2: BERT with ALiBi in both directions in place of positions, and a gated feed-forward network."""
    case = Case("jina-bert-v2", 3, {"attention.layer_norm_epsilon": 1e-12, "pooling_type": 1})
    normal = lambda x, wb: ((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)) * wb[0] + wb[1]
    product = lambda x, wb: x @ wb[0].astype(np.float64).T + (0 if wb[1] is None else wb[1])
    gelu = lambda x: np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)
    x = case.make("token_embd.weight", N_VOCAB, WIDTH)[case.tokens].astype(np.float64)
    x = normal(x + case.make("token_types.weight", 2, WIDTH)[0], case.norm("token_embd_norm"))
    places, dim = np.arange(N_TOKENS), WIDTH // HEADS
    for i in range(3):
        blk = "blk.%d." % i
        q, k, v = (product(x, case.linear(blk + name, WIDTH, WIDTH, True)).reshape(N_TOKENS, HEADS, dim)
                   for name in ("attn_q", "attn_k", "attn_v"))
        seen = np.zeros_like(q)
        for h in range(HEADS):
            s = q[:, h] @ k[:, h].T / math.sqrt(dim) - 2.0 ** (-8 * (h + 1) / HEADS) * abs(places[:, None] - places)
            s = np.exp(s - s.max(-1, keepdims=True))
            seen[:, h] = s / s.sum(-1, keepdims=True) @ v[:, h]
        x = x + product(seen.reshape(N_TOKENS, WIDTH), case.linear(blk + "attn_output", WIDTH, WIDTH, True))
        x = normal(x, case.norm(blk + "attn_output_norm"))
        if fused:
            gate, up = slices(case.linear(blk + "ffn_up", 2 * N_FF, WIDTH, False), N_FF, N_FF)
        else:
            gate, up = (case.linear(blk + name, N_FF, WIDTH, False) for name in ("ffn_gate", "ffn_up"))
        x = x + product(gelu(product(x, gate)) * product(x, up), case.linear(blk + "ffn_down", WIDTH, N_FF, True))
        x = normal(x, case.norm(blk + "layer_output_norm"))
    return case, x


CASES = {"bert": lambda: bert(False), "xlm-roberta": lambda: bert(True), "nomic-bert": nomic, "modern-bert": modern,
         "jina-bert-v2": lambda: jina(False), "jina-bert-v2-fused": lambda: jina(True)}


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    for name, make in CASES.items():
        case, hidden = make()
        rows = {str(r): [round(float(v), 6) for v in hidden[r]] for r in KEPT_ROWS}
        with open(os.path.join(out, name + ".json"), "w", encoding="utf-8") as file:
            parts = ['"keys": ' + json.dumps(case.keys), '"tokens": ' + json.dumps(case.tokens),
                     '"tensors": [\n%s]' % ",\n".join(json.dumps(t) for t in case.tensors),
                     '"rows": {\n%s}' % ",\n".join('"%s": %s' % (r, json.dumps(v)) for r, v in rows.items())]
            file.write("{" + ",\n".join(parts) + "}\n")
        print(name)


main()
