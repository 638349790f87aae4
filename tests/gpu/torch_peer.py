"""Hugging Face transformers on torch, on this GPU, with random weights of a shape: generating and reading, one JSON a line.

torch_peer.py PROMPT GENERATED SHAPE...   for a Python with torch and transformers; what it lacks is told as "missing"

Weights and cache are BF16, and attention is torch's own. Prompts are read as they are, with the last row of logits.
Generating is greedy, one sequence, in three ways:
  plain         a forward pass a token, with a cache that grows
  CUDA graph    a static cache, the pass captured once and launched for each token
  compiled      the same through torch.compile with mode "reduce-overhead", which makes CUDA graphs, too
A way that does not work here tells why, and costs no other. DEVICE=cpu in the environment is for a trial, without graphs.
"""
import inspect
import json
import os
import statistics
import sys
import time

import shapes

RUNS, WARM_UP_TOKENS = 5, 16
ENOUGH_SECONDS = 8  # of a way: no further runs from then on


def tell(**values):
    print(json.dumps(values), flush=True)


def missing(why):
    tell(missing=str(why).strip().splitlines()[0][:300])


try:
    import torch
    import transformers
except ImportError as error:
    missing(error)
    sys.exit(0)

DEVICE = os.environ.get("DEVICE", "cuda")


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def seconds_of(work):
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


def make_model(shape):
    config = transformers.LlamaConfig(
        vocab_size=shape.n_vocab, hidden_size=shape.n_embd, intermediate_size=shape.n_ff, num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads, num_key_value_heads=shape.n_kv_heads, head_dim=shape.head,
        max_position_embeddings=shape.context, rms_norm_eps=1e-6, tie_word_embeddings=not shape.untied)
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE):
        model = transformers.LlamaForCausalLM(config)
    return model.to(torch.bfloat16).eval()


class Step:
    """A token goes in, the next one comes out; everything that a graph needs stays where it is."""

    def __init__(self, model, room):
        self.model, self.room = model, room
        self.by_cache_position = "cache_position" in inspect.signature(model.forward).parameters
        self.token = torch.zeros((1, 1), dtype=torch.long, device=DEVICE)
        self.position = torch.zeros((1,), dtype=torch.long, device=DEVICE)
        self.forward = model.forward
        self.cache = None

    def reset(self, is_static):
        """An empty cache, and the token that everything begins with."""
        config = self.model.config
        if not is_static:
            self.cache = transformers.DynamicCache()
        elif self.cache is not None:
            self.cache.reset()
        elif "max_batch_size" in inspect.signature(transformers.StaticCache.__init__).parameters:
            self.cache = transformers.StaticCache(config=config, max_batch_size=1, max_cache_len=self.room, device=DEVICE,
                                                  dtype=torch.bfloat16)
        else:
            self.cache = transformers.StaticCache(config=config, max_cache_len=self.room)
        self.token.fill_(1)
        self.position.zero_()

    def run(self):
        more = {"cache_position": self.position} if self.by_cache_position else {}
        out = self.forward(input_ids=self.token, position_ids=self.position.unsqueeze(0), past_key_values=self.cache,
                           use_cache=True, **more)
        self.token.copy_(out.logits[:, -1].argmax(-1, keepdim=True))
        self.position.add_(1)


def rate(step, run, is_static, n):
    """Tokens a second, the median of several runs behind a few tokens that warm up."""
    def all_tokens():
        for _ in range(n):
            run()

    step.reset(is_static)
    for _ in range(min(n, WARM_UP_TOKENS)):
        run()
    speeds, start = [], time.monotonic()
    while not speeds or len(speeds) < RUNS and time.monotonic() < start + ENOUGH_SECONDS:
        step.reset(is_static)
        speeds.append(n / seconds_of(all_tokens))
    return statistics.median(speeds)


def plain(model, n):
    step = Step(model, n + 1)
    return rate(step, step.run, False, n)


def graph(model, n):
    if DEVICE != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    step = Step(model, n + 8)  # a few steps come before the capture
    side = torch.cuda.Stream()
    step.reset(True)
    wait()
    with torch.cuda.stream(side):
        for _ in range(3):
            step.run()
    wait()
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step.run()
    return rate(step, captured.replay, True, n)


def compiled(model, n):
    step = Step(model, n + 8)
    step.reset(True)
    step.run()  # the cache takes its place before anything is compiled
    step.forward = torch.compile(model.forward, mode="reduce-overhead" if DEVICE == "cuda" else "default")
    return rate(step, step.run, True, n)


def prefill(model, n):
    tokens = torch.randint(0, model.config.vocab_size, (1, n), device=DEVICE)

    def read():
        model(input_ids=tokens, use_cache=True, logits_to_keep=1)

    read()
    return n / statistics.median(seconds_of(read) for _ in range(RUNS))


def attempt(shape, test, how, tokens, work, model):
    try:
        with torch.no_grad():
            speed = work(model, tokens)
        tell(shape=shape.name, test=test, how=how, tokens=tokens, tokens_per_second=speed)
    except Exception as error:  # whatever torch raises is its own affair
        missing("%s, %s, %s: %s: %s" % (shape.name, test, how, type(error).__name__, error))


def main():
    prompt, generated = int(sys.argv[1]), int(sys.argv[2])
    if DEVICE == "cuda" and not torch.cuda.is_available():
        return missing("torch %s sees no GPU" % torch.__version__)
    tell(version="torch %s, transformers %s, on %s" %
         (torch.__version__, transformers.__version__, torch.cuda.get_device_name() if DEVICE == "cuda" else "the CPU"))
    ways = (("prefill", "plain", prompt, prefill), ("decode", "plain", generated, plain),
            ("decode", "CUDA graph", generated, graph), ("decode", "compiled", generated, compiled))
    for shape in [shapes.SHAPES[name] for name in sys.argv[3:]]:
        model = make_model(shape)
        for test, how, tokens, work in ways:
            attempt(shape, test, how, tokens, work, model)
        del model
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
    return None


main()
