"""Trained models, a text for each, and a file of every type made of them: what quality.py and llama_cpp.py measure.

The models are those of the shared test data, which stands beside the checkout, and nano. What is not there is left out.
"""
import json
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DATA = os.environ.get("AIINFRA_SHARED_DATA", os.path.join(ROOT, "../shared/data"))
STORIES = os.path.join(DATA, "corpus/tinystories_v2_sample_2MiB.txt")
NANO = os.path.join(ROOT, "examples/nano")
SEPARATOR = "<|endoftext|>"
TYPES = ("F32 F16 BF16 Q8_0 Q6_K Q5_1 Q5_K_M Q5_K_S Q5_0 Q4_1 Q4_K_M Q4_K_S IQ4_NL IQ4_XS Q4_0 MXFP4 Q3_K_M "
         "Q2_K").split()


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit("%s: %s" % (" ".join(command)[:200], done.stderr.strip()))
    return done.stdout


class Model:
    """A trained model. Its windows are as long as it was trained for; all their tokens but the first are scored.

    `chunks` of them show what a type loses; to tell two implementations apart takes `many`.
    """

    def __init__(self, name, source, texts, context, chunks, many, special=False):
        self.name, self.source, self.texts = name, source, texts
        self.context, self.chunks, self.many, self.special = context, chunks, many, special

    def options(self):
        """For the commands perplexity and kld."""
        out = ["--from-start", "--separator", SEPARATOR, "--context", str(self.context), "--chunks", str(self.chunks),
               "--threads", "1"]
        return out + ["--special"] * self.special

    def windows(self, program):
        """The windows that these commands cut and those behind them, as lists of tokens."""
        tokens, wanted = [], self.context * self.many
        for text in self.texts(program):
            words = run(program, "tokenize", self.source, text, "--ids", "--bos", *["--special"] * self.special)
            tokens += [int(word) for word in words.split()]
            if len(tokens) >= wanted:
                break
        return [tokens[i:i + self.context] for i in range(0, min(len(tokens), wanted), self.context)]


def stories(program):
    with open(STORIES, encoding="utf-8") as file:
        return [text.strip(" \n\t\r") for text in file.read().split(SEPARATOR)[:300]]


def conversations(program):
    """Such as nano was trained on, from a seed that it was not."""
    lines = run(sys.executable, "-B", os.path.join(NANO, "generate.py"), "--count", "140", "--seed", "900001", "--level", "1")
    with tempfile.TemporaryDirectory() as folder:
        for line in lines.splitlines():
            case, options = json.loads(line), []
            for part in ("messages", "tools"):
                if case.get(part):
                    path = os.path.join(folder, part)
                    with open(path, "w", encoding="utf-8") as file:
                        json.dump(case[part], file)
                    options += [path] if part == "messages" else ["--tools", path]
            yield run(program, "template", os.path.join(NANO, "nano.gguf"), *options, "--no-generation-prompt").strip()


KNOWN = [
    Model("stories260K", os.path.join(DATA, "models/stories260K/stories260K.gguf"), stories, 512, 8, 16),
    Model("babyllama", os.path.join(DATA, "models/babyllama-tok105/model5000.bin"), stories, 256, 12, 24),
    Model("nano", os.path.join(NANO, "nano.gguf"), conversations, 512, 4, 20, special=True),
]


def models():
    """Those that are here."""
    here = [m for m in KNOWN if os.path.exists(m.source) and (m.texts != stories or os.path.exists(STORIES))]
    for model in KNOWN:
        if model not in here:
            print("%s or its text is not here" % model.name, file=sys.stderr)
    return here


def made(program, source, kind, path):
    """The model as a file of this type; made again only when the program or the source is newer."""
    newest = max(os.path.getmtime(program), os.path.getmtime(source))
    if not os.path.exists(path) or os.path.getmtime(path) < newest:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = "%s.%d" % (path, os.getpid())
        run(program, "quantize", source, part, kind)
        os.replace(part, path)
    return path
