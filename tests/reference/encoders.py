"""Makes small random encoders, runs them with Hugging Face transformers, keeps what it said.

encoders.py OUT [TYPE]   to OUT/encoders/CASE.json: keys and tensors of a GGUF file, tokens, and the last hidden states
of a few of them, in float32, from weights that were rounded to TYPE (f16, bf16; f32 by default); to OUT/rerankers/CASE.json: a query, documents, and the logits of their pairs; to OUT/model2vec/CASE.json: what
a folder holds, texts, and their vectors. Weights are a formula of (name of the tensor, index), which
tests/data/golden_model.h shares. JinaBERT and model2vec are not part of transformers: their references are below, in
NumPy.
"""
import json
import math
import os
import sys

import numpy as np
import tokenizers
import torch
import transformers

N_VOCAB, WIDTH, HEADS, N_FF, CONTEXT, N_TOKENS = 263, 32, 4, 48, 128, 90
KEPT_ROWS = (0, 1, 44, 89)
TYPE = sys.argv[2] if len(sys.argv) > 2 else "f32"
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32}
KEEP_F32 = ("position_embd.weight", "token_types.weight")
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
        values = (np.float32(base) + np.float32(spread) * uniform(name, int(np.prod(shape)))).reshape(shape)
        if len(shape) == 1 or name in KEEP_F32:
            return values
        return torch.from_numpy(values).to(DTYPES[TYPE]).float().numpy()

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


QUERY, DOCUMENTS = "what barks", ["a dog barks at the moon", "", "The cat sleeps. It is a very quiet cat", "bark"]
BEGIN, END, SPACE, FIRST_BYTE = 1, 2, 259, 3


def spell(text):
    """The tokens of the small vocabulary of the tests: a space, then bytes."""
    return [SPACE] + [SPACE if c == " " else FIRST_BYTE + ord(c) for c in text] if text else []


def score(hf, case, types):
    """The logits of QUERY with each of DOCUMENTS; of two classes, the second minus the first."""
    hf.eval()
    case.scores, case.n_tokens = [], 0
    for document in DOCUMENTS:
        first, second = [BEGIN] + spell(QUERY) + [END], spell(document) + [END]
        tokens = torch.tensor([first + second])
        more = {"token_type_ids": torch.tensor([[0] * len(first) + [1] * len(second)])} if types else {}
        with torch.no_grad():
            logits = hf(input_ids=tokens, attention_mask=torch.ones_like(tokens), **more).logits[0].numpy()
        case.scores.append(float(logits[-1] - (logits[0] if len(logits) == 2 else 0)))
        case.n_tokens += tokens.shape[1]
    return case


# ---- the models -----------------------------------------------------------------------------------------------------

def bert(roberta, rank=False):
    case = Case("bert", 3, {"attention.layer_norm_epsilon": 1e-5, "pooling_type": 4 if rank else 2})
    more = dict(num_hidden_layers=3, layer_norm_eps=1e-5, max_position_embeddings=CONTEXT + 2 * roberta,
                type_vocab_size=1 if roberta else 2, pad_token_id=1 if roberta else 0, attn_implementation="eager")
    if roberta:
        case.tokens = [t if t != 1 else 7 for t in case.tokens]  # no padding inside: it has a position of its own
        base = transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**SIZES, **more), add_pooling_layer=False)
    elif rank:
        hf = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES, **more, num_labels=1))
        base = hf.bert
    else:
        base = transformers.BertModel(transformers.BertConfig(**SIZES, **more), add_pooling_layer=False)
    e = base.embeddings
    put(e.word_embeddings, (case.make("token_embd.weight", N_VOCAB, WIDTH),))
    places = case.make("position_embd.weight", CONTEXT, WIDTH)
    put(e.position_embeddings, (np.concatenate([places[:2], places]) if roberta else places,))
    put(e.token_type_embeddings, (case.make("token_types.weight", 1 if roberta else 2, WIDTH),))
    put(e.LayerNorm, case.norm("token_embd_norm"))
    for i, layer in enumerate(base.encoder.layer):
        blk, own = "blk.%d." % i, layer.attention.self
        for name, module in (("attn_q", own.query), ("attn_k", own.key), ("attn_v", own.value),
                             ("attn_output", layer.attention.output.dense)):
            put(module, case.linear(blk + name, WIDTH, WIDTH, True))
        put(layer.attention.output.LayerNorm, case.norm(blk + "attn_output_norm"))
        put(layer.intermediate.dense, case.linear(blk + "ffn_up", N_FF, WIDTH, True))
        put(layer.output.dense, case.linear(blk + "ffn_down", WIDTH, N_FF, True))
        put(layer.output.LayerNorm, case.norm(blk + "layer_output_norm"))
    if not rank:
        return case, run(base, case)
    put(base.pooler.dense, case.linear("cls", WIDTH, WIDTH, True))
    put(hf.classifier, case.linear("cls.output", 1, WIDTH, True))
    return score(hf, case, True)


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


def modern(pooling=None, n_labels=1, bias=False):
    case = Case("modern-bert", 4, {"attention.layer_norm_epsilon": 1e-5, "rope.freq_base": 160000.0,
                                   "rope.freq_base_swa": 10000.0, "attention.sliding_window": 16, "pooling_type": 2})
    config = transformers.ModernBertConfig(**SIZES, num_hidden_layers=4, max_position_embeddings=CONTEXT,
                                           local_attention=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
                                           cls_token_id=1, sep_token_id=2, attn_implementation="eager", num_labels=n_labels,
                                           classifier_bias=bias, **({"classifier_pooling": pooling} if pooling else {}))
    if pooling:
        hf = transformers.ModernBertForSequenceClassification(config)
        base = hf.model
    else:
        base = transformers.ModernBertModel(config)
    put(base.embeddings.tok_embeddings, (case.make("token_embd.weight", N_VOCAB, WIDTH),))
    put(base.embeddings.norm, case.norm("token_embd_norm", False))
    put(base.final_norm, case.norm("output_norm", False))
    for i, layer in enumerate(base.layers):
        blk = "blk.%d." % i
        if i > 0:
            put(layer.attn_norm, case.norm(blk + "attn_norm", False))
        put(layer.attn.Wqkv, case.linear(blk + "attn_qkv", 3 * WIDTH, WIDTH, False))
        put(layer.attn.Wo, case.linear(blk + "attn_output", WIDTH, WIDTH, False))
        put(layer.mlp_norm, case.norm(blk + "ffn_norm", False))
        put(layer.mlp.Wi, case.linear(blk + "ffn_up", 2 * N_FF, WIDTH, False))
        put(layer.mlp.Wo, case.linear(blk + "ffn_down", WIDTH, N_FF, False))
    if not pooling:
        return case, run(base, case)
    if pooling == "cls":  # the mean is what a file means that does not say it
        case.keys["modern-bert.classifier.pooling_type"] = 2
    case.keys["modern-bert.pooling_type"] = 4
    put(hf.head.dense, case.linear("cls", WIDTH, WIDTH, bias))
    put(hf.head.norm, case.norm("cls.norm", False))
    put(hf.classifier, case.linear("cls.output", n_labels, WIDTH, True))
    return score(hf, case, False)


def jina(kind):
    """JinaBERT v2: BERT with ALiBi in both directions in place of positions, and a gated feed-forward network. Its
    variant for code normalises queries and keys, and adds the layer's input a second time."""
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
        if kind == "code":
            q, k = (normal(t.reshape(N_TOKENS, WIDTH), case.norm(blk + name)).reshape(N_TOKENS, HEADS, dim)
                    for t, name in ((q, "attn_q_norm"), (k, "attn_k_norm")))
        seen = np.zeros_like(q)
        for h in range(HEADS):
            s = q[:, h] @ k[:, h].T / math.sqrt(dim) - 2.0 ** (-8 * (h + 1) / HEADS) * abs(places[:, None] - places)
            s = np.exp(s - s.max(-1, keepdims=True))
            seen[:, h] = s / s.sum(-1, keepdims=True) @ v[:, h]
        y = x + product(seen.reshape(N_TOKENS, WIDTH), case.linear(blk + "attn_output", WIDTH, WIDTH, True))
        y = normal(y, case.norm(blk + "attn_output_norm"))
        x = normal(x + y, case.norm(blk + "attn_norm_2")) if kind == "code" else y
        if kind == "fused":
            gate, up = slices(case.linear(blk + "ffn_up", 2 * N_FF, WIDTH, False), N_FF, N_FF)
        else:
            gate, up = (case.linear(blk + name, N_FF, WIDTH, False) for name in ("ffn_gate", "ffn_up"))
        x = x + product(gelu(product(x, gate)) * product(x, up), case.linear(blk + "ffn_down", WIDTH, N_FF, True))
        x = normal(x, case.norm(blk + "layer_output_norm"))
    return case, x


ENCODERS = {"bert": lambda: bert(False), "xlm-roberta": lambda: bert(True), "nomic-bert": nomic, "modern-bert": modern,
            "jina-bert-v2": lambda: jina(""), "jina-bert-v2-fused": lambda: jina("fused"),
            "jina-bert-v2-code": lambda: jina("code")}
RERANKERS = {"bert": lambda: bert(False, True), "modern-bert-mean": lambda: modern("mean"),
             "modern-bert-cls": lambda: modern("cls", 2, True)}


# ---- model2vec ------------------------------------------------------------------------------------------------------

WORDS = "the a dog cat bark ##s ##ed moon sleep at very quiet . , un ##known it".split()
TEXTS = ["The dog barks at the moon.", "zebra, a CAT!", "dog " * 700, "A quiet cat sleeps; it barked."]


def word_pieces():
    vocab = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])])
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return made, vocab["[UNK]"]


def model2vec(normalize, weights, n_rows):
    """n_rows: of the vectors, which tokens share by a mapping; 0: one each."""
    tokenizer, unknown = word_pieces()
    n_vocab = tokenizer.get_vocab_size()
    vectors = uniform("embeddings", (n_rows or n_vocab) * 6).reshape(-1, 6)
    factors = 1 + 0.5 * uniform("weights", n_vocab) if weights else np.ones(n_vocab)
    mapping = [(5 * i + 2) % n_rows for i in range(n_vocab)] if n_rows else list(range(n_vocab))
    result = []
    for text in TEXTS:
        ids = [i for i in tokenizer.encode(text, add_special_tokens=False).ids if i != unknown]
        mean = np.mean(np.float64(vectors)[np.array(mapping)[ids]] * np.float64(factors)[ids][:, None], axis=0)
        result.append(mean / np.linalg.norm(mean) if normalize else mean)
    config = {"model_type": "model2vec", "architectures": ["StaticModel"], "hidden_dim": 64, "seq_length": 1000000,
              "normalize": normalize}
    return {"config": config, "tokenizer": json.loads(tokenizer.to_str()), "n_rows": len(vectors), "n_vocab": n_vocab,
            "weights": weights, "mapping": mapping if n_rows else None, "texts": TEXTS,
            "vectors": [[round(float(v), 7) for v in row] for row in result]}


STATIC = {"plain": lambda: model2vec(True, False, 0), "weighted": lambda: model2vec(False, True, 0),
          "mapped": lambda: model2vec(True, True, 7)}


# ---- files ----------------------------------------------------------------------------------------------------------

def write(folder, name, parts):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".json"), "w", encoding="utf-8") as file:
        file.write("{" + ",\n".join('"%s": %s' % part for part in parts) + "}\n")
    print(name)


def model_parts(case):
    return [("keys", json.dumps(case.keys)), ("tensors", "[\n%s]" % ",\n".join(json.dumps(t) for t in case.tensors))]


def main():
    out = sys.argv[1]
    for name, make in ENCODERS.items():
        case, hidden = make()
        rows = {r: json.dumps([round(float(v), 6) for v in hidden[r]]) for r in KEPT_ROWS}
        keys, tensors = model_parts(case)
        write(out + "/encoders", name, [keys, ("tokens", json.dumps(case.tokens)), tensors, (
            "rows", "{\n%s}" % ",\n".join('"%s": %s' % row for row in rows.items()))])
    for name, make in RERANKERS.items():
        case = make()
        write(out + "/rerankers", name, model_parts(case) + [
            ("query", json.dumps(QUERY)), ("documents", json.dumps(DOCUMENTS)), ("n_tokens", case.n_tokens),
            ("scores", json.dumps([round(x, 6) for x in case.scores]))])
    for name, make in STATIC.items():
        write(out + "/model2vec", name, [(key, json.dumps(value)) for key, value in make().items()])


main()
