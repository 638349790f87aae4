#!/usr/bin/env python3
"""Writes the heads of small models, one for each architecture, to tests/fuzz/corpus/model/ for model_fuzz.c.

A head is a GGUF file without its weights. The models are those of tests/data, with one layer (or as many as the
architecture needs) and a vocabulary of 12 tokens.
"""
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data")
N_VOCAB, GOLDEN_VOCAB, N_LAYERS = 12, 263, 1
TWO_LAYERS = ("deepseek2", "gemma2", "gemma3", "gpt-oss", "modern-bert", "smollm3")  # kinds of layers take turns
CASES = [("architectures", name) for name in
         ("deepseek2", "deepseek2-v3", "gemma", "gemma2", "gemma3", "gpt-oss", "gpt2", "granite", "llama", "mixtral",
          "olmo2", "phi3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "smollm3")]
CASES += [("encoders", name) for name in ("bert", "jina-bert-v2", "modern-bert", "nomic-bert")]
U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


def text(s):
    raw = s.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def value(v):
    if isinstance(v, bool):
        return struct.pack("<IB", BOOL, v)
    if isinstance(v, int):
        return struct.pack("<II", U32, v)
    if isinstance(v, float):
        return struct.pack("<If", F32, v)
    if isinstance(v, str):
        return struct.pack("<I", STRING) + text(v)
    return struct.pack("<I", ARRAY) + value(v[0])[:4] + struct.pack("<Q", len(v)) + b"".join(value(x)[4:] for x in v)


def head(folder, name):
    with open(os.path.join(DATA, folder, name + ".json"), encoding="utf-8") as file:
        golden = json.load(file)
    keys, layers = dict(golden["keys"]), N_LAYERS + (name.split("-v")[0] in TWO_LAYERS)
    keys[keys["general.architecture"] + ".block_count"] = layers
    keys["tokenizer.ggml.model"] = "llama"
    keys["tokenizer.ggml.tokens"] = ["<unk>", "<s>", "</s>"] + [chr(ord("a") + i) for i in range(N_VOCAB - 3)]
    keys["tokenizer.ggml.scores"] = [0.0] * N_VOCAB
    keys["tokenizer.ggml.token_type"] = [2, 3, 3] + [1] * (N_VOCAB - 3)
    tensors, at = b"", 0
    n = 0
    for tensor in golden["tensors"]:
        if tensor[0].startswith("blk.") and int(tensor[0].split(".")[1]) >= layers:
            continue
        shape = [N_VOCAB if d == GOLDEN_VOCAB else d for d in tensor[1]]
        tensors += text(tensor[0]) + struct.pack("<I%dQIQ" % len(shape), len(shape), *shape, 0, at)
        size = 4
        for d in shape:
            size *= d
        at += (size + 31) // 32 * 32
        n += 1
    return struct.pack("<4sIQQ", b"GGUF", 3, n, len(keys)) + b"".join(text(k) + value(v) for k, v in keys.items()) + tensors


def main():
    out = os.path.join(HERE, "corpus", "model")
    os.makedirs(out, exist_ok=True)
    for folder, name in CASES:
        with open(os.path.join(out, name), "wb") as file:
            file.write(head(folder, name))


main()
