#!/usr/bin/env python3
"""Trains nano on conversations that it makes up as it goes.

    train.py --tokenizer tokenizer.json --out nano.pt --tokens 16e6      resumes when nano.pt exists
    train.py --start nano.gguf --tokenizer new.json --out more.pt        goes on from a finished file

Two processes generate, tokenise, group conversations of like length, and learn, in step.
The curriculum lengthens with the tokens seen: pure copying and single sentences first, then a few
passages, then contexts of up to some 1,800 tokens. All tokens count in the loss, but what the
assistant says counts 25 times as much as the rest.

The learning rate rises, stays, and falls linearly over the last part, so a run may be prolonged
by another --tokens, or told to come to its end in so many --minutes. Every few minutes the state goes to --out (written aside, then renamed).
"""
import argparse
import multiprocessing
import os
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import export
import generate
import tokenizer as tok
from model import CONTEXT, Nano
from muon import Muon

MATRIX_RATE, OTHER_RATE = 0.02, 3e-3
CONTEXT_WEIGHT = 0.04       # of a token that the assistant did not say
BATCH_TOKENS = 1536         # of one forward pass
BATCHES = 4                 # of one step, whoever computes them
SCHOOLED = 3.0e6            # tokens that a model to go on from counts as having seen
DECAY_FROM = 0.15           # of the run
# Millions of tokens seen -> (share of pure copying, how often each level).
CURRICULUM = [(0.0, 0.3, [1, 0, 0, 0, 0]), (0.5, 0.1, [3, 1, 0, 0, 0]), (1.2, 0.02, [2, 3, 1, 0, 0]),
              (2.5, 0.01, [2, 2, 2, 1, 0]), (5.0, 0.01, [1, 2, 2, 2, 2])]


def stage(seen):
    return [s for s in CURRICULUM if s[0] * 1e6 <= seen][-1]


def conversations(tokenizer, source, echoes, levels):
    while True:
        level = source.r.choices(range(5), levels)[0]
        c = generate.training(source, level, echoes)
        ids, spoken = tok.encode(tokenizer, tok.render(c["messages"], c["tools"]))
        if len(ids) <= CONTEXT:
            yield ids, spoken


def batches(tokenizer, source, seen):
    """Yields (ids, weights), padded, shortest with shortest, in random order."""
    while True:
        _, echoes, levels = stage(seen.value)
        stream = conversations(tokenizer, source, echoes, levels)
        pool, total = [], 0
        while total < 16 * BATCH_TOKENS:
            pool.append(next(stream))
            total += len(pool[-1][0])
        pool.sort(key=lambda c: len(c[0]))
        groups, group = [], []
        for c in pool:
            if group and len(c[0]) * (len(group) + 1) > BATCH_TOKENS:
                groups.append(group)
                group = []
            group.append(c)
        source.r.shuffle(groups)
        for group in groups:
            longest = max(len(ids) for ids, _ in group)
            yield (torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in group]),
                   torch.tensor([[1.0 if s else CONTEXT_WEIGHT for s in spoken] + [0.0] * (longest - len(spoken)) for _, spoken in group]))


def loss_of(model, ids, weights):
    """Weighted cross entropy; context tokens are thinned out to a quarter to spare the output layer."""
    target, weight = ids[:, 1:], weights[:, 1:]
    said = weight == 1
    keep = said | ((weight > 0) & (torch.rand_like(weight) < 0.25))
    w = torch.where(said, weight, weight * 4)[keep]
    h = model.hidden(ids[:, :-1])[keep]
    each = F.cross_entropy(F.linear(h, model.token_embd.weight), target[keep], reduction="none")
    return (each * w).sum() / w.sum(), each.detach()[said[keep]].mean().item()


def rate(step, progress):
    return min(1.0, (step + 1) / 50, max(0.0, (1 - progress) / (1 - DECAY_FROM)))


def save(path, model, optimizer_states, seen, step):
    torch.save(dict(model=model.state_dict(), opt=optimizer_states, seen=seen, step=step), path + ".tmp")
    os.replace(path + ".tmp", path)


def change_vocabulary(embeddings, old, new):
    """Gives each token of the new vocabulary the mean of what the old one makes of its text."""
    vocab = old.get_vocab()
    pieces = [[t] if t in vocab else [p.value for p in old.model.tokenize(t)] for t, _ in sorted(new.get_vocab().items(), key=lambda x: x[1])]
    embeddings.copy_(torch.stack([embeddings[[vocab[p] for p in each]].mean(0) for each in pieces]))


def adopt(model, flat):
    """Makes all parameters of model views into flat."""
    at = 0
    for q in model.parameters():
        q.data = flat[at:at + q.numel()].view_as(q)
        at += q.numel()


def take(taken, limit):
    """Claims the next batch of a step; False when all are taken."""
    with taken.get_lock():
        mine = taken.value < limit
        taken.value += mine
        return mine


def learner(rank, args, flat, grads, seen, taken, step0, optimizer_states, results, barrier):
    """One of --learners equal processes. They share weights; each owns the update of some parameters.

    A step: the learners take batches, one after the other, until BATCHES are done, and add up gradients; then each
    one averages and applies what belongs to the parameters it owns. Nothing waits except at the two barriers.
    """
    torch.set_num_threads(1)
    torch.manual_seed(args.seed * 77 + rank + int(step0))
    model = Nano()
    adopt(model, flat)
    views, at = [], 0
    for q in model.parameters():
        views.append([g[at:at + q.numel()].view_as(q) for g in grads])
        q.grad = views[-1][rank]
        at += q.numel()
    named = list(model.named_parameters())
    matrix = lambda n, q: q.ndim == 2 and "embd" not in n
    matrices = [(q, v) for (n, q), v in zip(named, views) if matrix(n, q)]
    others = [(q, v) for (n, q), v in zip(named, views) if not matrix(n, q)]
    share = len(matrices) * rank // args.learners, len(matrices) * (rank + 1) // args.learners
    mine = matrices[share[0]:share[1]] + (others if rank == args.learners - 1 else [])
    optimizers = [Muon([q for q, _ in matrices[share[0]:share[1]]], lr=args.lr)]
    if rank == args.learners - 1:
        optimizers.append(torch.optim.AdamW([q for q, _ in others], lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0))
    for o, state in zip(optimizers, optimizer_states.get(rank, [])):
        o.load_state_dict(state)
    base = [args.lr, OTHER_RATE]
    tokenizer, source = Tokenizer.from_file(args.tokenizer), generate.Source(args.seed * 1000003 + int(step0) * 31 + rank)
    stream, step = batches(tokenizer, source, seen), int(step0)
    began, saved, first, running = time.time(), time.time(), seen.value, None
    progress = first / args.tokens
    while progress < 1:
        grads[rank].zero_()
        while take(taken, (step - int(step0) + 1) * BATCHES):
            ids, weights = next(stream)
            loss, said = loss_of(model, ids, weights)
            loss.backward()
            running = said if running is None else 0.98 * running + 0.02 * said
            with seen.get_lock():
                seen.value += int((weights > 0).sum())
        barrier.wait()
        if rank == 0:
            results["progress"] = seen.value / args.tokens if not args.minutes else (
                first / args.tokens + (1 - first / args.tokens) * (time.time() - began) / 60 / args.minutes)
        for q, each in mine:
            q.grad = sum(each) / BATCHES
        factor = rate(step, progress)
        for o, b in zip(optimizers, base):
            for group in o.param_groups:
                group["lr"] = b * factor
            o.step()
        if rank == 0:
            results["due"] = results["progress"] >= 1 or time.time() - saved > args.save_every
        barrier.wait()
        progress = results["progress"]
        for (q, v) in zip(model.parameters(), views):
            q.grad = v[rank]
        step += 1
        if results["due"]:
            results[rank] = [o.state_dict() for o in optimizers]
            barrier.wait()
            if rank == 0:
                save(args.out, model, {r: results[r] for r in range(args.learners)}, seen.value, step)
                saved = time.time()
        if rank == 0 and step % 10 == 0 and running is not None:
            print("%s step %d  %.2fM tokens  spoken loss %.4f  %.0f tokens/s" % (
                time.strftime("%H:%M:%S"), step, seen.value / 1e6, running, (seen.value - first) / (time.time() - began)) + "  rate %.2f" % factor, flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--tokenizer", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--start", help="a GGUF file to go on from when --out is not there yet, with its own vocabulary or, if there is one, that of --tokenizer")
    p.add_argument("--tokens", type=float, default=12e6)
    p.add_argument("--minutes", type=float, default=0, help="end after so many, whatever --tokens says")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--learners", type=int, default=2, help="processes, each on one core")
    p.add_argument("--save-every", type=float, default=240, help="seconds")
    p.add_argument("--lr", type=float, default=MATRIX_RATE)
    args = p.parse_args()
    torch.manual_seed(args.seed)
    model = Nano()
    seen, step, states = 0.0, 0, {}
    if os.path.exists(args.out):
        saved = torch.load(args.out)
        model.load_state_dict(saved["model"])
        seen, step, states = saved["seen"], saved["step"], saved["opt"]
    elif args.start:
        model.load_state_dict(export.read(args.start).state_dict())
        seen, old = SCHOOLED, tok.from_gguf(args.start)
        if os.path.exists(args.tokenizer):
            change_vocabulary(model.token_embd.weight.data, old, Tokenizer.from_file(args.tokenizer))
        else:
            old.save(args.tokenizer)
    size = sum(q.numel() for q in model.parameters())
    flat = torch.cat([q.detach().flatten() for q in model.parameters()]).share_memory_()
    grads = [torch.zeros(size).share_memory_() for _ in range(args.learners)]
    shared, taken = multiprocessing.Value("d", seen), multiprocessing.Value("q", 0)
    barrier, results = multiprocessing.Barrier(args.learners), multiprocessing.Manager().dict()
    team = [multiprocessing.Process(target=learner, args=(r, args, flat, grads, shared, taken, step, states, results, barrier))
            for r in range(args.learners)]
    for process in team:
        process.start()
    for process in team:
        process.join()


if __name__ == "__main__":
    main()
