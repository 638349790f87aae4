#!/usr/bin/env python3
"""Trains nano on conversations that it makes up as it goes.

    train.py --tokenizer tokenizer.json --out nano.pt --tokens 16e6      resumes when nano.pt exists
    train.py --start nano.gguf --tokenizer new.json --out more.pt        goes on from a finished file

Generates, tokenises, lays conversations end to end in rows of ROW tokens, and learns from ROWS rows a step.
The curriculum lengthens with the tokens seen: pure copying and single sentences first, then a few
passages, then contexts of up to some 1,800 tokens. A young model learns from all tokens, what the
assistant says counting 25 times as much as the rest; one that goes on learns from what is said alone.

The learning rate rises, stays, and falls linearly over the last part, so a run may be prolonged
by another --tokens, or told to come to its end in so many --minutes. Every few minutes the state goes to --out (written
aside, then renamed), and with it the running mean of the weights, which is what export.py takes.
"""
import argparse
import ctypes
import os
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import export
import generate
import model as m
import packed
import tokenizer as tok
from muon import Muon

MATRIX_RATE, OTHER_RATE = 0.02, 3e-3
CONTEXT_WEIGHT = 0.04       # of a token that the assistant did not say
THINNED = 4                 # one such token in so many is learnt from, to spare the output layer
ROW, ROWS = m.CONTEXT, 4    # tokens of one forward pass; passes of one step
SCHOOLED = 5.0e6            # tokens that a model to go on from counts as having seen
DECAY_FROM = 0.15           # of the run
MEAN_OVER = 100             # steps that the running mean of the weights looks back
# Millions of tokens seen -> (share of pure copying, how often each level).
CURRICULUM = [(0.0, 0.3, [1, 0, 0, 0, 0]), (0.5, 0.1, [3, 1, 0, 0, 0]), (1.2, 0.02, [2, 3, 1, 0, 0]),
              (2.5, 0.01, [2, 2, 2, 1, 0]), (5.0, 0.01, [1, 3, 3, 2, 2])]


def stage(seen):
    return [s for s in CURRICULUM if s[0] * 1e6 <= seen][-1]


def conversations(tokenizer, source, clock):
    while True:
        _, echoes, levels = stage(clock.seen)
        level = source.r.choices(range(5), levels)[0]
        c = generate.training(source, level, echoes)
        ids, spoken = tok.encode(tokenizer, tok.render(c["messages"], c["tools"]))
        if len(ids) <= m.CONTEXT:
            yield ids, spoken


class Clock:
    """What a run counts, and what it decides by it."""

    def __init__(self, args, seen, step):
        self.args, self.seen, self.step, self.first, self.began = args, seen, step, seen, time.time()

    def progress(self):
        if self.args.minutes:
            return (time.time() - self.began) / 60 / self.args.minutes
        return self.seen / self.args.tokens

    def rate(self):
        return min(1.0, (self.step + 1) / 50, max(0.0, (1 - self.progress()) / (1 - DECAY_FROM)))

    def speed(self):
        return (self.seen - self.first) / (time.time() - self.began)


def rows(stream, context_weight):
    """Yields (ids, positions, lengths, where, counts, targets, weights): a row of conversations, the last one cut, and
    the places whose next token the loss asks for, with what each must be and how much it counts."""
    while True:
        ids, spoken, positions, lengths = [], [], [], []
        while len(ids) < ROW:
            new, says = next(stream)
            n = min(len(new), ROW - len(ids))
            ids += new[:n]
            spoken += [False] + says[1:n]
            positions += range(n)
            lengths.append(n)
        ids, said, positions = torch.tensor(ids), torch.tensor(spoken), torch.tensor(positions)
        kept = said | ((context_weight > 0) & (positions > 0) & (torch.rand(ROW) < 1 / THINNED))
        asked = torch.cat([kept[1:], torch.tensor([False])])
        where = asked.nonzero()[:, 0]
        weights = torch.where(said[where + 1], 1.0, THINNED * context_weight)
        yield ids, positions, lengths, where, [int(part.sum()) for part in asked.split(lengths)], ids[where + 1], weights


def change_vocabulary(embeddings, old, new):
    """Gives each token of the new vocabulary the mean of what the old one makes of its text."""
    vocab = old.get_vocab()
    pieces = [[t] if t in vocab else [p.value for p in old.model.tokenize(t)] for t, _ in sorted(new.get_vocab().items(), key=lambda x: x[1])]
    embeddings.copy_(torch.stack([embeddings[[vocab[p] for p in each]].mean(0) for each in pieces]))


def start(args):
    """-> the model to train, what --out holds of an earlier run."""
    if os.path.exists(args.out):
        saved = torch.load(args.out)
        return m.of(saved["raw"]), saved
    if not args.start:
        return m.Nano(args.layers), None
    model, old = export.read(args.start), tok.from_gguf(args.start)
    if len(model.blk) < args.layers:
        model = m.grow(model, args.layers, after=len(model.blk) // 2)
    if os.path.exists(args.tokenizer):
        change_vocabulary(model.token_embd.weight.data, old, Tokenizer.from_file(args.tokenizer))
    else:
        old.save(args.tokenizer)
    return model, None


def optimizers_for(model, args):
    matrix = lambda name, q: q.ndim == 2 and "embd" not in name
    named = list(model.named_parameters())
    return [Muon([q for n, q in named if matrix(n, q)], lr=args.lr),
            torch.optim.AdamW([q for n, q in named if not matrix(n, q)], lr=args.other_lr, betas=(0.9, 0.95), weight_decay=0.0)]


def learn(model, forward, stream, clock):
    """Adds up the gradients of one step; -> the mean loss of a token that the assistant says."""
    total = 0.0
    for _ in range(ROWS):
        ids, positions, lengths, where, counts, targets, weights = next(stream)
        h = forward(model, ids, positions, lengths, where, counts)
        each = F.cross_entropy(F.linear(h, model.token_embd.weight), targets, reduction="none")
        ((each * weights).sum() / weights.sum() / ROWS).backward()
        total += each.detach()[weights == 1].mean().item() / ROWS
        clock.seen += ROW
    return total


def keep_memory():
    """Tells glibc's allocator not to give freed tensors back to the system: their pages would come back as zeros, at a price."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)       # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)     # M_TRIM_THRESHOLD
    except AttributeError:
        pass


def save(path, model, mean, optimizers, clock):
    torch.save(dict(model=mean, raw=model.state_dict(), opt=[o.state_dict() for o in optimizers], seen=clock.seen, step=clock.step), path + ".tmp")
    os.replace(path + ".tmp", path)


def run(args):
    model, saved = start(args)
    clock = Clock(args, saved["seen"] if saved else SCHOOLED if args.start else 0.0, saved["step"] if saved else 0)
    optimizers = optimizers_for(model, args)
    for o, state in zip(optimizers, saved["opt"] if saved else []):
        o.load_state_dict(state)
    mean = saved["model"] if saved else {k: v.clone() for k, v in model.state_dict().items()}
    source = generate.Source(args.seed * 1000003 + clock.step * 31)
    stream = rows(conversations(Tokenizer.from_file(args.tokenizer), source, clock), args.context_weight)
    forward, running, written = packed.Forward(not args.eager), None, time.time()
    while clock.progress() < 1:
        loss = learn(model, forward, stream, clock)
        running = loss if running is None else 0.95 * running + 0.05 * loss
        factor = clock.rate()
        for o, base in zip(optimizers, (args.lr, args.other_lr)):
            for group in o.param_groups:
                group["lr"] = base * factor
            o.step()
            o.zero_grad()
        clock.step += 1
        with torch.no_grad():
            for name, value in model.state_dict().items():
                mean[name].lerp_(value, max(1 / MEAN_OVER, 1 / (clock.step + 1)))
        if clock.progress() >= 1 or time.time() - written > args.save_every:
            save(args.out, model, mean, optimizers, clock)
            written = time.time()
        if clock.step % 10 == 0:
            print("%s step %d  %.2fM tokens  spoken loss %.4f  %.0f tokens/s  rate %.2f" % (
                time.strftime("%H:%M:%S"), clock.step, clock.seen / 1e6, running, clock.speed(), factor), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--start", help="a GGUF file to go on from when --out is not there yet, with its own vocabulary or, if there is one, that of --tokenizer")
    p.add_argument("--tokens", type=float, default=12e6)
    p.add_argument("--minutes", type=float, default=0, help="end after so many, whatever --tokens says")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--layers", type=int, default=m.LAYERS, help="with --start: make the network so deep first, if it is not")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--save-every", type=float, default=240, help="seconds")
    p.add_argument("--lr", type=float, default=MATRIX_RATE, help="of the weight matrices")
    p.add_argument("--other-lr", type=float, default=OTHER_RATE, help="of embeddings and norms")
    p.add_argument("--context-weight", type=float, default=CONTEXT_WEIGHT, help="of a token that the assistant does not say; 0 is fastest")
    p.add_argument("--eager", action="store_true", help="do without torch.compile, which wants a C++ compiler")
    args = p.parse_args()
    keep_memory()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    run(args)


if __name__ == "__main__":
    main()
