"""Folders that Hugging Face transformers wrote, opened and converted here, against what they should become.

formats.py OUT AIINFRA [CASE...]   makes OUT/CASE/ with transformers, converts it with the program AIINFRA

For every case of families.py the converted file, read with the gguf package, must have the keys, names, shapes and
bits that models.py gives the same weights; the folder and the file must give the same logits, and those of
transformers where the architecture runs here. Vocabularies are checked against the tokenizers library.
"""
import json
import os
import shutil
import subprocess
import sys

import gguf
import numpy as np
import tokenizers
import torch
import transformers

import models
from families import CASES, N_VOCAB

TOLERANCE = 2e-3  # of logits, by their largest
RENAMED = {"mistral": "llama"}  # what converters call it
WHOLE = {"deepseek2", "deepseek2-groups"}  # older files keep keys and values together


def fail(case, *what):
    print("FAILED %s: %s" % (case, " ".join(str(w) for w in what)))
    sys.exit(1)


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def byte_level():
    """256 bytes, two special tokens, a few merges."""
    tok = tokenizers.Tokenizer(tokenizers.models.BPE())
    tok.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=N_VOCAB, special_tokens=["<s>", "</s>"],
                                             initial_alphabet=alphabet, show_progress=False)
    tok.train_from_iterator(["the thin thing there"] * 8, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>")


def pieces():
    """BPE with bytes to fall back on, as SentencePiece makes it; only ASCII has them, for want of room."""
    words = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(32, 128)] + ["\u2581", "t", "h", "e", "th", "the",
                                                                              "\u2581the"]
    merges = [("t", "h"), ("th", "e"), ("\u2581", "the")]
    tok = tokenizers.Tokenizer(tokenizers.models.BPE({w: i for i, w in enumerate(words)}, merges, unk_token="<unk>",
                                                     byte_fallback=True, fuse_unk=True))
    tok.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Prepend("\u2581"),
                                                      tokenizers.normalizers.Replace(" ", "\u2581")])
    tok.decoder = tokenizers.decoders.Sequence([tokenizers.decoders.Replace("\u2581", " "),
                                                tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()])
    tok.add_special_tokens(["<s>", "</s>", "<unk>"])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<s>", eos_token="</s>",
                                                unk_token="<unk>")


def check_keys(case, reader, wanted):
    for key, value in wanted.items():
        key = key.replace(case.arch + ".", RENAMED.get(case.arch, case.arch) + ".", 1)
        if key in ("general.name", "general.architecture"):
            continue
        field = reader.get_field(key)
        if field is None:
            if key.endswith(("key_length", "value_length", "dimension_count")):
                continue  # the default says the same
            if key.endswith("head_count_kv") and value == wanted[case.arch + ".attention.head_count"]:
                continue
            fail(case.name, "key", key, "is missing, should be", value)
        got = field.contents()
        if got != value and not (isinstance(value, float) and abs(got - value) <= 1e-6 * abs(value)):
            fail(case.name, "key", key, "is", got, "should be", value)


def check_tensors(case, reader, values):
    got = {t.name: t for t in reader.tensors}
    if set(got) != set(values):
        fail(case.name, "tensors differ:", sorted(set(got) ^ set(values)))
    for name, value in values.items():
        data = got[name].data
        if not np.array_equal(data.reshape(-1), value.astype(np.float32).reshape(-1)) and not (
                name.endswith("norm.weight") and np.allclose(data, value, atol=1e-6)) and not (
                name.startswith("rope") and np.allclose(data, value, rtol=1e-6)):
            fail(case.name, "tensor", name, "differs", data.reshape(-1)[:4], value.reshape(-1)[:4])


def logits(program, path, tokens):
    done = run(program, "logits", path, "--tokens", ",".join(map(str, tokens)), "--top", "0", "--json")
    if done.returncode != 0:
        return None, done.stderr.strip()
    rows = json.loads(done.stdout)
    out = np.zeros(N_VOCAB, np.float32)
    for one in (rows[-1] if isinstance(rows, list) else rows)["top"]:
        out[one["id"]] = one["logit"]
    return out, None


def check_logits(case, program, folder, converted, hf):
    tokens = [(7 * i + 3) % N_VOCAB for i in range(40)]
    a, why = logits(program, folder, tokens)
    b, other = logits(program, converted, tokens)
    if a is None:
        if "does not run" not in why and "not one that" not in why:
            fail(case.name, why)
        return "does not run yet"
    if b is None or not np.array_equal(a, b):
        fail(case.name, "the folder and the file give different logits", other)
    wanted = models.logits_of(hf, tokens)[-1]
    worst = np.abs(a - wanted).max() / np.abs(wanted).max()
    if worst > TOLERANCE:
        fail(case.name, "logits are off by", worst)
    return "logits off by %.1e" % worst


def check_tokens(name, program, path, tok, text):
    done = run(program, "tokenize", path, text, "--ids")
    ids = [int(i) for i in done.stdout.split()]
    wanted = tok.encode(text, add_special_tokens=False)
    if ids != wanted:
        fail(name, "tokens", ids, "should be", wanted, done.stderr)


def check_case(case, out, program):
    hf = models.make(case)
    tensors, parameters = models.tensors_of(case, hf)
    values = models.values_of(tensors)
    models.fill(hf, parameters, values)
    folder = os.path.join(out, case.name)
    shutil.rmtree(folder, ignore_errors=True)
    hf.save_pretrained(folder, max_shard_size="40KB")
    tok = byte_level() if len(case.name) % 2 == 0 else pieces()
    tok.save_pretrained(folder)
    converted = folder + ".gguf"
    done = run(program, "convert", folder, converted)
    if done.returncode != 0:
        fail(case.name, done.stderr.strip())
    reader = gguf.GGUFReader(converted)
    if case.name not in WHOLE:
        check_keys(case, reader, models.keys_of(case, hf.config))
        check_tensors(case, reader, values)
    for text in ("the thin thing", "t!e the  the", "the"):
        check_tokens(case.name, program, folder, tok, text)
        check_tokens(case.name, program, converted, tok, text)
    print("%-18s %3d tensors, %d shards, %s" % (
        case.name, len(reader.tensors), sum(f.endswith(".safetensors") for f in os.listdir(folder)),
        check_logits(case, program, folder, converted, hf)), flush=True)


def main():
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    out, program = sys.argv[1:3]
    os.makedirs(out, exist_ok=True)
    for case in CASES:
        if len(sys.argv) == 3 or case.name in sys.argv[3:]:
            check_case(case, out, program)


if __name__ == "__main__":
    main()
