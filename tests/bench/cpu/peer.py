"""llama.cpp, asked like `aiinfra bench MODEL --stdin`: the same lines come in, the same JSON goes out.

peer.py MODEL THREADS   for a Python with llama-cpp-python, whose C API is called directly

A test has a context of just the size it needs, and is run once, shortly, before it is measured. Flash attention, the
copying of weights into faster layouts and everything else are at llama.cpp's defaults; batches have up to 512 tokens
and only the last one of a prompt gives logits. Tokens are random, nothing is sampled, as llama-bench has it.
"""
import json
import os
import random
import sys
import time

import llama_cpp as lc

BATCH = 512


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@lc.llama_log_callback
def log(level, text, _):
    if level == 4:  # errors
        sys.stderr.write(text.decode(errors="replace"))


class Peer:
    def __init__(self, path, threads):
        self.threads = threads
        params = lc.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = lc.llama_model_load_from_file(path.encode(), params)
        if not self.model:
            sys.exit("llama.cpp does not load " + path)
        self.n_vocab = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(self.model))
        self.batch = lc.llama_batch_init(BATCH, 0, 1)
        self.context, self.prepared = None, None

    def free(self):
        if self.context:
            lc.llama_free(self.context)
        self.context, self.prepared = None, None

    def decode(self, rows):
        """One call with rows of (sequence, position, wants logits)."""
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, logits) in enumerate(rows):
            batch.token[i] = random.randrange(self.n_vocab)
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = logits
        if lc.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")

    def read(self, sequence, first, n):
        """A prompt of n tokens, from position `first` on."""
        for start in range(first, first + n, BATCH):
            end = min(start + BATCH, first + n)
            self.decode([(sequence, position, position == first + n - 1) for position in range(start, end)])

    def step(self, position, sequences):
        self.decode([(sequence, position, True) for sequence in range(sequences)])

    def prepare(self, test):
        if self.prepared == test:
            return
        self.free()
        kind, tokens, depth, sequences = test
        room = -(-(depth + tokens + 2) // 256) * 256
        params = lc.llama_context_default_params()
        params.n_ctx = room * sequences
        params.n_batch = params.n_ubatch = BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self.threads
        self.context = lc.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit("llama.cpp makes no context")
        self.prepared = test
        for sequence in range(sequences):
            self.read(sequence, 0, depth + 1)
        self.step(depth + 1, sequences)

    def cut(self, sequences, length):
        memory = lc.llama_get_memory(self.context)
        for sequence in range(sequences):
            lc.llama_memory_seq_rm(memory, sequence, length, -1)

    def measure(self, test):
        """Tokens per second."""
        kind, tokens, depth, sequences = test
        self.prepare(test)
        self.cut(sequences, depth + 1 if kind == "tg" else 0)
        start = time.monotonic()
        if kind == "pp":
            self.read(0, 0, tokens)
        else:
            for i in range(tokens):
                self.step(depth + 1 + i, sequences)
        lc.llama_synchronize(self.context)
        return tokens * sequences / (time.monotonic() - start)


def parse(line):
    words = line.split()
    numbers = [int(word) for word in words[1:]]
    return (words[0], *numbers, *(0, 1)[len(numbers) - 1:])


def answer(**values):
    print(json.dumps(values), flush=True)


def main():
    lc.llama_log_set(log, None)
    lc.llama_backend_init()
    before = resident_bytes()
    start = time.monotonic()
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    peer.prepare(("pp", 1, 0, 1))
    answer(load_seconds=time.monotonic() - start, base_bytes=before, version="llama-cpp-python " + lc.__version__,
           system=lc.llama_print_system_info().decode().strip())
    for line in sys.stdin:
        answer(tokens_per_second=peer.measure(parse(line)))
    peer.free()
    lc.llama_model_free(peer.model)


main()
