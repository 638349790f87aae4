"""The network of nano: a small Llama, written so that GGUF can hold it without a rewrite.

Happy path: tokens -> embedding -> LAYERS x (RMSNorm, attention with RoPE, RMSNorm, SwiGLU) -> RMSNorm
-> the embedding again, transposed, as the output layer.

Names follow GGUF (attn_q, ffn_gate, ...), so export.py copies tensors by name. RoPE turns the
neighbours (x[2i], x[2i+1]), which is what `general.architecture = llama` means.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

VOCAB = 1536
HIDDEN = 256
LAYERS = 6
HEADS = 4
HEAD_DIM = HIDDEN // HEADS
FEED_FORWARD = 512
CONTEXT = 2048
ROPE_BASE = 1000000.0    # slow pairs let a head find a word a thousand tokens back
NORM_EPS = 1e-5


def rope_table(length):
    """[length, HEAD_DIM / 2, 2]: cosine and sine of one rotation a position and pair."""
    rates = ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2).double() / HEAD_DIM)
    angles = torch.outer(torch.arange(length).double(), rates)
    return torch.stack([angles.cos(), angles.sin()], -1).float()


def rotate(x, table):
    """x [batch, time, head, HEAD_DIM]; table [time or batch x time, pairs, 2]. Pairs are complex numbers: one pass."""
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.view_as_complex(table).unsqueeze(-2)
    return torch.view_as_real(turned).flatten(-2)


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS) * self.weight


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        linear = lambda a, b: nn.Linear(a, b, bias=False)
        self.attn_norm = RMSNorm()
        self.attn_q = linear(HIDDEN, HIDDEN)
        self.attn_k = linear(HIDDEN, HIDDEN)
        self.attn_v = linear(HIDDEN, HIDDEN)
        self.attn_output = linear(HIDDEN, HIDDEN)
        self.ffn_norm = RMSNorm()
        self.ffn_gate = linear(HIDDEN, FEED_FORWARD)
        self.ffn_up = linear(HIDDEN, FEED_FORWARD)
        self.ffn_down = linear(FEED_FORWARD, HIDDEN)

    def forward(self, x, table, cache=None):
        h = self.attn_norm(x)
        split = lambda t: t.unflatten(-1, (HEADS, HEAD_DIM))
        q, k = rotate(split(self.attn_q(h)), table), rotate(split(self.attn_k(h)), table)
        v = split(self.attn_v(h))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if cache is not None:
            k, v = cache.append(self, k, v)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        x = x + self.attn_output(y.transpose(1, 2).flatten(-2))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Cache:
    """Keys and values of one growing sequence, for generation."""

    def __init__(self):
        self.kv, self.length = {}, 0

    def append(self, block, k, v):
        if block in self.kv:
            k, v = torch.cat([self.kv[block][0], k], 2), torch.cat([self.kv[block][1], v], 2)
        self.kv[block] = (k, v)
        return k, v


class Nano(nn.Module):
    def __init__(self, layers=LAYERS):
        super().__init__()
        self.token_embd = nn.Embedding(VOCAB, HIDDEN)
        self.blk = nn.ModuleList(Block() for _ in range(layers))
        self.output_norm = RMSNorm()
        self.register_buffer("rope", rope_table(CONTEXT), persistent=False)
        for block in self.blk:
            nn.init.zeros_(block.attn_output.weight)
            nn.init.zeros_(block.ffn_down.weight)
        self.start_copying()

    @torch.no_grad()
    def start_copying(self):
        """Begins with an induction circuit, which else takes a million tokens to appear.

        Embeddings share a direction, so that heads can look by position alone. Head 0 of layer 0 looks
        one token back and notes what it was. Heads 0 and 1 of layer 1 seek a place whose note equals
        the current token, by the slow pairs of RoPE, and copy the token found there. Training goes on from this.
        """
        half = HEAD_DIM // 2
        basis = torch.linalg.qr(torch.randn(HIDDEN, HIDDEN))[0].T
        shared, read, note, copy = basis[0], basis[1:1 + HEAD_DIM], basis[65:65 + HEAD_DIM], basis[129:256]
        random = torch.randn(VOCAB, HIDDEN) * 0.03
        self.token_embd.weight.copy_(random - (random @ shared)[:, None] * shared + 0.48 * shared)
        rates = ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        look = torch.zeros(2, HEAD_DIM)
        look[0, 0::2] = 1
        look[1, 0::2], look[1, 1::2] = rates.cos(), rates.sin()
        look[:, half:] = 0
        first, second = self.blk[0], self.blk[1]
        first.attn_q.weight[:HEAD_DIM] = 0.6 * torch.outer(look[0], shared)
        first.attn_k.weight[:HEAD_DIM] = 0.6 * torch.outer(look[1], shared)
        first.attn_v.weight[:HEAD_DIM] = read
        first.attn_output.weight[:, :HEAD_DIM] = 0.08 * note.T
        for head in range(2):
            rows = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
            slow = slice(head * HEAD_DIM + half, (head + 1) * HEAD_DIM)
            part = slice(head * half, (head + 1) * half)
            second.attn_q.weight[rows] = 0
            second.attn_k.weight[rows] = 0
            second.attn_q.weight[slow] = 2.5 * read[part]
            second.attn_k.weight[slow] = 2.5 * note[part]
            values = torch.cat([copy[head::2], read[:1]])[:HEAD_DIM]
            second.attn_v.weight[rows] = values
            second.attn_output.weight[:, rows] = 0.2 * values.T

    def hidden(self, tokens, start=0, cache=None):
        """start: an int, or [batch, 1] of ints: the position of each row's first token."""
        x = self.token_embd(tokens)
        table = self.rope[start + torch.arange(tokens.shape[1])]
        for block in self.blk:
            x = block(x, table, cache)
        return self.output_norm(x)

    def forward(self, tokens, start=0):
        return F.linear(self.hidden(tokens, start), self.token_embd.weight)


def layers_of(state):
    return len({name.split(".")[1] for name in state if name.startswith("blk.")})


def of(state):
    """The network with these weights."""
    model = Nano(layers_of(state))
    model.load_state_dict(state)
    return model


@torch.no_grad()
def grow(model, layers, after):
    """A deeper network that computes the same: twins of layer `after` behind it, whose outputs are zero until training finds a use."""
    deeper = Nano(layers)
    added = layers - len(model.blk)
    for name in ("token_embd", "output_norm"):
        getattr(deeper, name).load_state_dict(getattr(model, name).state_dict())
    for i, block in enumerate(deeper.blk):
        block.load_state_dict(model.blk[i if i <= after else max(after, i - added)].state_dict())
        if after < i <= after + added:
            nn.init.zeros_(block.attn_output.weight)
            nn.init.zeros_(block.ffn_down.weight)
    return deeper


@torch.no_grad()
def generate(model, prompt, stop, limit=160):
    """Greedy decoding of a list of ids; the answer's ids without the stop token."""
    cache, answer, feed = Cache(), [], prompt
    while len(answer) < limit and cache.length + len(feed) < CONTEXT:
        h = model.hidden(torch.tensor([feed]), cache.length, cache)[0, -1]
        cache.length += len(feed)
        token = int((model.token_embd.weight @ h).argmax())
        if token == stop:
            break
        answer.append(token)
        feed = [token]
    return answer
