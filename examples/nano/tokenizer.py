#!/usr/bin/env python3
"""nano's tokenizer, and how a conversation becomes tokens.

    tokenizer.py CONVERSATIONS.jsonl tokenizer.json     trains the byte-level BPE

The vocabulary: 5 special tokens, the 256 bytes, then merges. Pre-tokenising is Qwen2's, in which each
digit stands alone; but the merges are learnt on letters apart from all else, so that a word is cut in the same
places behind a space, a quote or an underscore: copying it into JSON is then copying tokens. render() writes a conversation exactly as template.jinja does (evaluate.py compares
the two), in pieces that say which text the assistant spoke: that is what training is about.
"""
import collections
import json
import re
import sys

from gguf import GGUFReader
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from model import VOCAB

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"]
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPACE, SPACED = "\u0120", 480    # a space as the vocabulary writes it; how many tokens have a twin with one before
APART = r"\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s"


def call_text(call):
    arguments = call["function"]["arguments"]
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return '<tool_call>\n{"name": %s, "arguments": %s}\n</tool_call>' % (json.dumps(call["function"]["name"]), arguments)


def render(messages, tools=(), prompt=False):
    """-> [(text, spoken by the assistant)]. With prompt, it ends where the assistant is to speak."""
    system = messages[0]["content"] if messages[0]["role"] == "system" else "You are nano, a helpful assistant."
    if tools:
        system += "\n\nTools:" + "".join("\n" + json.dumps(t["function"], ensure_ascii=False) for t in tools)
    pieces = [("<|im_start|>system\n%s<|im_end|>\n" % system, False)]
    for m in messages:
        if m["role"] == "assistant":
            text = (m["content"] or "") + "".join(call_text(c) for c in m.get("tool_calls", ()))
            pieces += [("<|im_start|>assistant\n", False), (text + "<|im_end|>", True), ("\n", False)]
        elif m["role"] != "system":
            pieces.append(("<|im_start|>%s\n%s<|im_end|>\n" % (m["role"], m["content"]), False))
    if prompt:
        pieces.append(("<|im_start|>assistant\n", False))
    return pieces


def encode(tokenizer, pieces):
    """-> (ids, spoken): spoken[i] tells whether the assistant says ids[i]."""
    ids, spoken = [], []
    for text, says in pieces:
        new = tokenizer.encode(text).ids
        ids += new
        spoken += [says] * len(new)
    return ids, spoken


def with_rules(bpe, pieces=QWEN2):
    """The tokenizer around a vocabulary and merges: Qwen2's pieces, bytes as letters."""
    t = Tokenizer(bpe)
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pieces), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    return t


def from_gguf(path):
    """The tokenizer that a GGUF file holds."""
    fields = GGUFReader(path).fields
    tokens, merges = (fields["tokenizer.ggml." + k].contents() for k in ("tokens", "merges"))
    t = with_rules(models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(merge.split(" ")) for merge in merges]))
    t.add_special_tokens(SPECIAL)
    return t


def train(lines):
    """Merges of letters first, which know no spaces; then one more for each of the tokens that most often begin a
    word: the space before it. So ` sector` and `"sector` differ in their first token alone, by a space."""
    cut = re.compile("|".join(map(re.escape, SPECIAL)))
    texts = [text for c in map(json.loads, lines) for text in cut.split("".join(p for p, _ in render(c["messages"], c["tools"])))]
    t = with_rules(models.BPE(), APART)
    t.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCAB - SPACED, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    begins = collections.Counter()
    for e in t.encode_batch(texts[:20000]):
        begins.update(b for a, b in zip(e.tokens, e.tokens[1:]) if a == SPACE and b[0].isalpha())
    bpe = json.loads(t.to_str())["model"]
    vocab, merges = bpe["vocab"], [tuple(m) for m in bpe["merges"]]
    for token, _ in sorted(begins.items(), key=lambda x: (-x[1], x[0]))[:SPACED]:
        vocab[SPACE + token] = len(vocab)
        merges.append((SPACE, token))
    t = with_rules(models.BPE(vocab, merges))
    t.add_special_tokens(SPECIAL)
    return t


if __name__ == "__main__":
    with open(sys.argv[1]) as conversations:
        train(conversations).save(sys.argv[2])
