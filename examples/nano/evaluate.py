#!/usr/bin/env python3
"""Judges nano on held-out conversations: names, words and seeds that training never saw.

    generate.py --eval 200 --seed 9 > held-out.jsonl
    evaluate.py --model nano.gguf --set held-out.jsonl [--show 3]

Two columns. "exact": every token is as expected, stop token included. "right": a tool call, "I don't
know." and small talk must be exact; an answer from passages or memory must hold the key words and, if
from a passage, end with its number and no other.

One forward pass finds the exact ones: a model that, given the right answer, would at each place have
chosen the next token of it, is one whose greedy decoding writes it. Only the others are generated.
"""
import argparse
import collections
import json
import re

import torch
from tokenizers import Tokenizer

import model as m
import tokenizer as tok

GATES = {"tool call": 0.95, "passage": 0.90, "memory": 0.90, "unknown": 0.85}


def load(path):
    if path.endswith(".gguf"):
        import export
        return export.read(path)
    return m.of(torch.load(path)["model"])


def expected(case):
    if "tool" in case["expect"]:
        return tok.call_text({"function": case["expect"]["tool"]})
    return case["expect"]["answer"]


def category(case):
    if case["kind"] != "tool":
        return case["kind"]
    return "tool call" if "tool" in case["expect"] else "tool answer"


def check_template(case):
    """render() must be what the template says, however an interpreter treats newlines after tags."""
    import export
    import jinja2
    expected_text = "".join(t for t, _ in tok.render(case["messages"], case["tools"], prompt=True))
    for trim in (False, True):
        env = jinja2.Environment(keep_trailing_newline=True, trim_blocks=trim, lstrip_blocks=trim)
        env.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
        text = env.from_string(export.template()).render(messages=case["messages"], tools=case["tools"], add_generation_prompt=True)
        assert text == expected_text, text


@torch.no_grad()
def judge(model, tokenizer, cases, batch_tokens=16384):
    """-> for each case, whether the model writes exactly what is expected."""
    rows = []
    for case in cases:
        prompt, _ = tok.encode(tokenizer, tok.render(case["messages"], case["tools"], prompt=True))
        rows.append((prompt, tokenizer.encode(expected(case) + "<|im_end|>").ids))
    right = [False] * len(rows)
    order = sorted((i for i in range(len(rows)) if sum(map(len, rows[i])) <= m.CONTEXT), key=lambda i: sum(map(len, rows[i])))
    while order:
        longest, batch = 0, []
        while order and (len(batch) + 1) * sum(map(len, rows[order[0]])) <= batch_tokens:
            batch.append(order.pop(0))
            longest = sum(map(len, rows[batch[-1]]))
        ids = torch.tensor([rows[i][0] + rows[i][1] + [0] * (longest - sum(map(len, rows[i]))) for i in batch])
        h = model.hidden(ids)
        for row, i in enumerate(batch):
            start, answer = len(rows[i][0]), rows[i][1]
            best = (h[row, start - 1:start - 1 + len(answer)] @ model.token_embd.weight.T).argmax(-1)
            right[i] = best.tolist() == answer
    return right, rows


def is_right(expect, said):
    numbers = re.findall(r"\[(\d+)\]", said)
    cited = numbers == [str(expect["citation"])] if "citation" in expect else not numbers
    return expect["key"] in said and cited


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tokenizer", help="of a checkpoint; a GGUF file holds its own")
    p.add_argument("--model", required=True, help="a checkpoint or a GGUF file")
    p.add_argument("--set", required=True)
    p.add_argument("--show", type=int, default=0, help="failures to show a category")
    p.add_argument("--gate", action="store_true", help="exit 1 when a category misses its gate")
    p.add_argument("--threads", type=int, default=2)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    model = load(args.model)
    tokenizer = tok.from_gguf(args.model) if args.model.endswith(".gguf") else Tokenizer.from_file(args.tokenizer)
    with open(args.set) as lines:
        cases = [json.loads(line) for line in lines]
    for case in cases[:50]:
        check_template(case)
    exact_rows, rows = judge(model, tokenizer, cases)
    exact_of, right_of, shown = collections.defaultdict(list), collections.defaultdict(list), collections.Counter()
    stop = tokenizer.token_to_id("<|im_end|>")
    for case, exact, (prompt, _) in zip(cases, exact_rows, rows):
        c, right = category(case), exact
        if not exact and (c in ("passage", "memory") or shown[c] < args.show):
            said = tokenizer.decode(m.generate(model, prompt, stop, limit=120), skip_special_tokens=False)
            right = c in ("passage", "memory") and is_right(case["expect"], said)
            if not right and shown[c] < args.show:
                shown[c] += 1
                print("--- %s\n%s\nASKED    %s\nEXPECTED %s\nSAID     %s" % (
                    c, case["messages"][0]["content"][:1500], case["messages"][-1]["content"], expected(case), said))
        exact_of[c].append(exact)
        right_of[c].append(right)
    missed = False
    for c in sorted(right_of):
        n = len(right_of[c])
        right, exact = sum(right_of[c]) / n, sum(exact_of[c]) / n
        missed |= right < GATES.get(c, 0)
        print("%-12s right %5.1f %%  exact %5.1f %%  of %d%s" % (
            c, 100 * right, 100 * exact, n, "  gate %.0f %%" % (100 * GATES[c]) if c in GATES else ""))
    raise SystemExit(args.gate and missed)


if __name__ == "__main__":
    main()
