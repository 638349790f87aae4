#!/usr/bin/env python3
"""Writes a checkpoint of nano as GGUF, and proves that the file says what the checkpoint says.

    export.py --tokenizer tokenizer.json --checkpoint nano.pt --out nano.gguf

Matrices become Q8_0, norms stay F32. Then the file is read back: every tensor is dequantised into a
second model, and the two models' logits on a held-out conversation are compared.
"""
import argparse
import json
import os
import pathlib

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

import generate
import model as m
import tokenizer as tok

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
TYPES = {"<|endoftext|>": CONTROL, "<|im_start|>": CONTROL, "<|im_end|>": CONTROL,
         "<tool_call>": USER_DEFINED, "</tool_call>": USER_DEFINED}


def template():
    return (pathlib.Path(__file__).parent / "template.jinja").read_text().removesuffix("\n")


def write(path, state, tokenizer_path):
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("nano")
    w.add_description("The demo model of libaiinfra, trained from nothing on generated conversations")
    w.add_license("MIT")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(2)
    w.add_context_length(m.CONTEXT)
    w.add_embedding_length(m.HIDDEN)
    w.add_block_count(m.layers_of(state))
    w.add_feed_forward_length(m.FEED_FORWARD)
    w.add_head_count(m.HEADS)
    w.add_head_count_kv(m.HEADS)
    w.add_key_length(m.HEAD_DIM)
    w.add_value_length(m.HEAD_DIM)
    w.add_rope_dimension_count(m.HEAD_DIM)
    w.add_rope_freq_base(m.ROPE_BASE)
    w.add_layer_norm_rms_eps(m.NORM_EPS)
    w.add_vocab_size(m.VOCAB)
    bpe = json.loads(pathlib.Path(tokenizer_path).read_text())["model"]
    tokens = [t for t, _ in sorted(bpe["vocab"].items(), key=lambda kv: kv[1])]
    assert len(tokens) == m.VOCAB
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types([TYPES.get(t, NORMAL) for t in tokens])
    w.add_token_merges([x if isinstance(x, str) else " ".join(x) for x in bpe["merges"]])
    w.add_eos_token_id(bpe["vocab"]["<|im_end|>"])
    w.add_bos_token_id(bpe["vocab"]["<|endoftext|>"])
    w.add_pad_token_id(bpe["vocab"]["<|endoftext|>"])
    w.add_add_bos_token(False)
    w.add_chat_template(template())
    for name, value in state.items():
        value = value.float().numpy()
        if value.ndim == 1:
            w.add_tensor(name, value)
        else:
            q8 = gguf.GGMLQuantizationType.Q8_0
            w.add_tensor(name, gguf.quants.quantize(value, q8), raw_dtype=q8)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read(path):
    """-> a model whose weights are the file's, dequantised."""
    state = {}
    for t in gguf.GGUFReader(path).tensors:
        shape = tuple(int(n) for n in reversed(t.shape))
        data = gguf.quants.dequantize(t.data, t.tensor_type) if t.tensor_type != gguf.GGMLQuantizationType.F32 else t.data
        state[t.name] = torch.from_numpy(np.array(data, dtype=np.float32).reshape(shape))
    return m.of(state)


@torch.no_grad()
def compare(a, b, tokenizer):
    """-> (largest logit difference, share of equal best tokens) over one held-out conversation."""
    c = generate.held_out(generate.Source(1, evaluate=True), "passage", 3)
    ids, _ = tok.encode(tokenizer, tok.render(c["messages"], c["tools"], prompt=True))
    x, y = a(torch.tensor([ids])), b(torch.tensor([ids]))
    return (x - y).abs().max().item(), (x.argmax(-1) == y.argmax(-1)).float().mean().item()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--checkpoint", required=True)
    p.add_argument("--out", required=True)
    args = p.parse_args()
    saved = torch.load(args.checkpoint)
    write(args.out + ".tmp", saved["model"], args.tokenizer)
    model = m.of(saved["model"])
    far, same = compare(model, read(args.out + ".tmp"), Tokenizer.from_file(args.tokenizer))
    os.replace(args.out + ".tmp", args.out)
    print("%s: %d bytes after %.2fM tokens; Q8_0 moves logits by at most %.3f, %.1f %% of best tokens equal" % (
        args.out, os.path.getsize(args.out), saved["seen"] / 1e6, far, 100 * same))


if __name__ == "__main__":
    main()
