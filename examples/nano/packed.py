"""The network's forward pass for training: conversations laid end to end, nothing padded, only what is asked for computed.

What model.py computes, in another shape. Tokens of several conversations stand in one row of fixed
length, so torch.compile has one shape to make code for; only attention looks at conversations one by
one. The last layer computes queries and all that follows for the places that the loss asks about:
the others serve as keys and values alone.

RoPE turns neighbours (x[2i], x[2i+1]). Permuting the rows of attn_q and attn_k alike leaves their
products as they are and makes the pairs two halves, which vector code likes better.
"""
import torch
import torch.nn.functional as F

from model import CONTEXT, HEAD_DIM, HEADS, NORM_EPS, rope_table

HALVES = torch.cat([torch.arange(first, HEAD_DIM, 2) + head * HEAD_DIM for head in range(HEADS) for first in (0, 1)])


def norm(x, weight):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * weight


def turn(x, cosine, sine):
    a, b = x.unflatten(-1, (HEADS, 2, HEAD_DIM // 2)).unbind(-2)
    return torch.cat([a * cosine - b * sine, a * sine + b * cosine], -1)


def before_attention(x, weight, q, k, v, cosine, sine):
    q, k, v = F.linear(norm(x, weight), torch.cat([q, k, v])).chunk(3, -1)
    return turn(q, cosine, sine), turn(k, cosine, sine), v.unflatten(-1, (HEADS, HEAD_DIM))


def after_attention(x, y, output, weight, gate, up, down):
    x = x + F.linear(y, output)
    gated, straight = F.linear(norm(x, weight), torch.cat([gate, up])).chunk(2, -1)
    return x + F.linear(F.silu(gated) * straight, down)


def heads_first(t):
    return t.transpose(0, 1).unsqueeze(0)


def attend(q, k, v, lengths):
    """Each token looks back, within its conversation."""
    parts = [F.scaled_dot_product_attention(*map(heads_first, each), is_causal=True)
             for each in zip(q.split(lengths), k.split(lengths), v.split(lengths))]
    return torch.cat([y[0].transpose(0, 1).flatten(-2) for y in parts])


def attend_from(q, k, v, places, counts, lengths):
    """As attend, from some places: counts[i] of them in conversation i, at `places` within it."""
    parts = []
    for a, b, c, place in zip(q.split(counts), k.split(lengths), v.split(lengths), places.split(counts)):
        if len(place) == 0:
            continue
        seen = torch.where(torch.arange(len(b)) <= place[:, None], 0.0, float("-inf"))
        parts.append(F.scaled_dot_product_attention(*map(heads_first, (a, b, c)), attn_mask=seen))
    return torch.cat([y[0].transpose(0, 1).flatten(-2) for y in parts])


class Forward:
    """hidden states of a model at asked places; compiled on first use where `fast`."""

    def __init__(self, fast=True):
        make = torch.compile if fast else lambda f: f
        self.before, self.after, self.table = make(before_attention), make(after_attention), rope_table(CONTEXT)

    def __call__(self, model, ids, positions, lengths, where, counts):
        x = F.embedding(ids, model.token_embd.weight)
        table = self.table[positions].unsqueeze(1)
        cosine, sine = table[..., 0].contiguous(), table[..., 1].contiguous()
        for b in model.blk[:-1]:
            q, k, v = self.before(x, b.attn_norm.weight, b.attn_q.weight[HALVES], b.attn_k.weight[HALVES], b.attn_v.weight, cosine, sine)
            x = self.after(x, attend(q, k, v, lengths), *rest(b))
        b = model.blk[-1]
        h = norm(x, b.attn_norm.weight)
        k, v = F.linear(h, torch.cat([b.attn_k.weight[HALVES], b.attn_v.weight])).chunk(2, -1)
        q = turn(F.linear(h[where], b.attn_q.weight[HALVES]), cosine[where], sine[where])
        y = attend_from(q, turn(k, cosine, sine), v.unflatten(-1, (HEADS, HEAD_DIM)), positions[where], counts, lengths)
        return norm(after_attention(x[where], y, *rest(b)), model.output_norm.weight)


def rest(block):
    return [w.weight for w in (block.attn_output, block.ffn_norm, block.ffn_gate, block.ffn_up, block.ffn_down)]
