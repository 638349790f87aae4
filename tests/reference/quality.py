"""How much each type loses on every trained model that is here: size, perplexity and divergence, for `make quality`.

quality.py BUILD [MODEL...]   BUILD holds the program aiinfra. Prints a table for each model; when none is named or
missing, the tables go to docs/quantization.md, between the marks.
"""
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import quantised

DOCS = os.path.join(quantised.ROOT, "docs/quantization.md")
BEGIN, END = "<!-- quality: begin, written by `make quality` -->\n", "<!-- quality: end -->\n"
HEAD = """
%s, %d tokens:

| type | bytes | stored as | perplexity | ratio | mean divergence | 99 %% | same top token |
|---|---|---|---|---|---|---|---|
"""


def stored(path):
    """Bytes of all weights, and the types of the matrices; vectors are F32 beside any of them."""
    tensors = json.loads(quantised.run(PROGRAM, "inspect", path, "--compact"))["tensors"]
    types = [t["type"] for t in sorted(tensors["types"], key=lambda t: -t["bytes"])]
    return tensors["bytes"], ", ".join([t for t in types if t != "F32"] or types)


def row(model, kind, folder, parent, text):
    path = quantised.made(PROGRAM, model.source, kind, os.path.join(folder, kind + ".gguf"))
    out = json.loads(quantised.run(PROGRAM, "kld", path, parent, text, "--json", *model.options()))
    line = "| %s | %d | %s | %.4f | %.4f | %.6f | %.5f | %.2f %% |\n" % (
        kind, *stored(path), out["perplexity"], out["perplexity_ratio"], out["mean_kld"], out["p99_kld"],
        100 * out["same_top"])
    print(line, end="", flush=True)
    return line, out["scored"]


def table(model, folder):
    os.makedirs(folder, exist_ok=True)
    text = os.path.join(folder, "text.txt")
    with open(text, "w", encoding="utf-8") as file:
        file.write(quantised.SEPARATOR.join(model.texts(PROGRAM)))
    parent = quantised.made(PROGRAM, model.source, "F32", os.path.join(folder, "F32.gguf"))
    with ThreadPoolExecutor(int(os.environ.get("JOBS") or os.cpu_count())) as pool:
        rows = list(pool.map(lambda kind: row(model, kind, folder, parent, text), quantised.TYPES))
    return HEAD % (model.name, rows[0][1]) + "".join(line for line, _ in rows)


def write(tables):
    with open(DOCS, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
    with open(DOCS, "w", encoding="utf-8") as file:
        file.write(before + BEGIN + "".join(tables) + "\n" + END + rest.split(END)[1])


def main():
    wanted, here = sys.argv[2:], quantised.models()
    tables = [table(m, os.path.join(sys.argv[1], "quality", m.name)) for m in here if not wanted or m.name in wanted]
    if not wanted and here == quantised.KNOWN:
        write(tables)


PROGRAM = os.path.join(sys.argv[1], "aiinfra")
main()
