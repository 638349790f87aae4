#!/usr/bin/env python3
"""Compares the tokenizers with Hugging Face's, on many random and hostile strings: tokens and text printed back.

tokenizers_diff.py [--tool build/tests/reference/tokenize_tool] [--strings 2000] [--seed 1] [--data ../shared/data]
                   [tokenizer.json ...]

Needs the Python package tokenizers. Without files it takes those of the shared test data. A character that Unicode got
after the tables that the two sides carry would be no fair question, so characters come from blocks that are old.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILES = ["tokenizers/hf-json/llama2", "tokenizers/hf-json/phi-3-mini", "tokenizers/hf-json/falcon-tokenizer",
         "tokenizers/hf-json/phi-2", "tokenizers/hf-json/roberta-base", "tokenizers/hf-json/t5-small",
         "embeddings/model2vec/float32", "embeddings/model2vec/vocab-quantized"]
RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0xFF), (0x100, 0x17F), (0x391, 0x3A1), (0x3B1, 0x3C9), (0x410, 0x44F),
          (0x5D0, 0x5EA), (0x627, 0x63A), (0x660, 0x669), (0x905, 0x939), (0x93E, 0x94C), (0xE01, 0xE3A),
          (0x1100, 0x1112), (0x1E00, 0x1EFF), (0x2010, 0x2027), (0x2030, 0x205E), (0x2070, 0x2071), (0x20A0, 0x20AC),
          (0x2150, 0x2182), (0x2190, 0x21FF), (0x2460, 0x24E9), (0x3041, 0x3093), (0x30A1, 0x30F6), (0x4E00, 0x4FFF),
          (0xAC00, 0xAEFF), (0xF900, 0xFA2D), (0xFF01, 0xFF5E), (0x1D400, 0x1D454), (0x1F600, 0x1F64F)]
MARKS = [0x300, 0x301, 0x302, 0x303, 0x304, 0x307, 0x308, 0x30A, 0x323, 0x327, 0x328, 0x331, 0x345, 0x5B0, 0x5BC, 0x64B,
         0x651, 0x93C, 0x94D, 0x3099, 0x20D0, 0x20DD, 0xFE0F]
ODD = [0, 1, 7, 8, 0xB, 0xC, 0x1B, 0x1C, 0x1F, 0x7F, 0x80, 0x85, 0x9F, 0xA0, 0xAD, 0x130, 0x131, 0x17F, 0x1C5, 0x1680,
       0x180E, 0x2000, 0x2003, 0x200B, 0x200C, 0x200D, 0x2028, 0x2029, 0x202F, 0x205F, 0x2060, 0x2126, 0x212A, 0x2581,
       0x2581, 0x3000, 0xFB01, 0xFDFA, 0xFEFF, 0xFFFD, 0xFFFE, 0xE000, 0x10FFFF]
SPACES = " " * 8 + "\t\n\r\v\f\u0085\u00a0\u2003\u3000"
WORDS = ("the of and to in a is that it was for on are with they be at one have this from 's 't 're 've 'm 'll 'd 'S "
         "don't I'll WE'RE HTTPServer camelCase snake_case hello world Hello WORLD ... !!! ?! -- == => -> <= ({[ ]}) "
         "123 4567 3.14 1,000,000 0x1F 2024-01-01 <s> </s> <unk> <|endoftext|> <|end|> <|user|> <|assistant|> [CLS] "
         "[SEP] [UNK] [MASK] >>TITLE<< <mask> <pad> <0x41> ##ing naïve café über straße ÅNGSTRÖM 你好 世界 日本語 "
         "한국어 русский язык ελληνικά العربية हिन्दी ไทย 👍🏽 👨‍👩‍👧 🇩🇪 e\u0301 ﬁ ½ ² ③").split()


def lossy(rng):
    text = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 24))).decode("utf-8", "replace")
    return "".join(c for c in text if unicodedata.ucd_3_2_0.category(c) != "Cn")


def bit(rng):
    kind = rng.randrange(12)
    if kind < 4:
        return rng.choice(["", " ", " ", "  "]) + rng.choice(WORDS)
    if kind == 4:
        first, last = rng.choice(RANGES)
        return "".join(chr(rng.randint(first, last)) for _ in range(rng.randrange(1, 10)))
    if kind == 5:
        return "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 9)))
    if kind == 6:
        first, last = rng.choice(RANGES)
        return chr(rng.randint(first, last)) + "".join(chr(rng.choice(MARKS)) for _ in range(rng.randrange(1, 6)))
    if kind == 7:
        return "".join(chr(rng.choice(ODD)) for _ in range(rng.randrange(1, 4)))
    if kind == 8:
        return rng.choice(["a", " ", "\n", "1", "!", "\u2581", "\u00e9", "x ", "' "]) * rng.randrange(1, 40)
    if kind == 9:
        return lossy(rng)
    if kind == 10:
        return "".join(rng.choice("aAbB01 .,'-_\n\t") for _ in range(rng.randrange(1, 16)))
    return "".join(chr(rng.randint(*rng.choice(RANGES))) for _ in range(rng.randrange(1, 8)))


def strings(count, seed):
    rng = random.Random(seed)
    yield ""
    for _ in range(count - 1):
        yield "".join(bit(rng) for _ in range(rng.randrange(1, 8)))


def damaged(rng, raw):
    """The bytes of a text with some of them cut out or changed: nearly never UTF-8."""
    raw = bytearray(raw or b"x")
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(raw))
        if rng.randrange(2):
            raw[at] = rng.randrange(128, 256)
        else:
            raw[at:at + rng.randrange(1, 3)] = bytes(rng.randrange(128, 256) for _ in range(rng.randrange(2)))
        raw = raw or bytearray(b"\xff")
    return bytes(raw)


def ask(program, path, texts, around):
    """What ours answers to all texts: (tokens or None, text printed back)."""
    requests = b"".join((b"e" if a else b"p") + struct.pack("<I", len(t)) + t for t, a in zip(texts, around))
    out = subprocess.run([program, "hf", path], input=requests, stdout=subprocess.PIPE).stdout
    at = 0
    while at < len(out):
        (n,) = struct.unpack_from("<I", out, at)
        ids = None if n == 0xFFFFFFFF else list(struct.unpack_from("<%di" % n, out, at + 4))
        at += 4 if ids is None else 4 + 4 * n
        (n,) = struct.unpack_from("<I", out, at)
        yield ids, out[at + 4:at + 4 + n]
        at += 4 + n


def reference(path):
    """Old files hold merges of tokens with spaces in a form that the package no longer reads: give it pairs."""
    from tokenizers import Tokenizer
    try:
        return Tokenizer.from_file(path)
    except Exception as error:  # noqa: the package raises nothing more exact
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        merges = data["model"].get("merges")
        if not isinstance(merges, list):
            raise error
        vocab = data["model"]["vocab"]
        pairs = []
        for merge in merges:
            cuts = [i for i, c in enumerate(merge) if c == " " and merge[:i] in vocab and merge[i + 1:] in vocab]
            pairs.append([merge[:cuts[0]], merge[cuts[0] + 1:]])
        data["model"]["merges"] = pairs
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
            json.dump(data, file)
            file.flush()
            return Tokenizer.from_file(file.name)


def is_utf8(raw):
    try:
        raw.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def compare_invalid(path, options, texts):
    """The package takes only UTF-8: of other bytes ours has to make tokens, and UTF-8 again."""
    rng = random.Random(options.seed)
    texts = [damaged(rng, text) for text in texts[::10]]
    good = sum(ids is not None and is_utf8(printed)
               for ids, printed in ask(options.tool, path, texts, [True] * len(texts)))
    print("%s: %d strings of damaged UTF-8, %d fail" % (path, len(texts), len(texts) - good), flush=True)
    return len(texts) - good


def compare(path, options):
    ref = reference(path)
    texts = [text.encode("utf-8") for text in strings(options.strings, options.seed)]
    around = [number % 2 == 0 for number in range(len(texts))]
    wrong = panics = number = 0
    for number, (ids, printed) in enumerate(ask(options.tool, path, texts, around), 1):
        text = texts[number - 1].decode("utf-8")
        try:
            want = ref.encode(text, add_special_tokens=around[number - 1]).ids
        except BaseException as error:  # the package panics where added tokens overlap after stripping
            if type(error).__name__ != "PanicException":
                raise
            panics += 1
            continue
        printed = printed.decode("utf-8")
        back = ref.decode(want, skip_special_tokens=False)
        if ids == want and printed == back:
            continue
        wrong += 1
        if wrong <= options.show:
            print("%s, string %d: %a" % (path, number, text))
            if ids != want:
                print("  expected %s\n  got      %s" % ([ref.id_to_token(i) for i in want],
                                                       [ref.id_to_token(i) for i in ids or []] or printed))
            else:
                print("  expected text %a\n  got           %a" % (back, printed))
    missing = len(texts) - number  # refused, or it fell over
    print("%s: %d strings, %d differ%s%s" % (path, len(texts), wrong, ", %d unanswered" % missing if missing else "",
                                             ", %d make the reference panic" % panics if panics else ""), flush=True)
    return wrong + missing + compare_invalid(path, options, texts)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", default=os.path.join(ROOT, "build/tests/reference/tokenize_tool"))
    parser.add_argument("--strings", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=5)
    parser.add_argument("--data", default=os.path.join(ROOT, "../shared/data"))
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    files = options.files or [os.path.join(options.data, name, "tokenizer.json") for name in FILES]
    wrong = 0
    for path in files:
        if os.path.exists(path):
            wrong += compare(path, options)
        else:
            print("%s: not there" % path)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
