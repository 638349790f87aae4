"""llama.cpp beside the library on the same files and the same tokens, in every type that both know.

llama_cpp.py BUILD [CASE...]   with the Python that tests/support/peer.sh prints. BUILD holds aiinfra and libaiinfra.so;
BUILD/reference/wide/ may hold the random models of wide.py, and the trained models are those of quantised.py.

A row of the table: the perplexities of both, how far ours is from llama.cpp's, and the mean divergence of our
distributions from llama.cpp's in nats. Both compute with an F32 cache and without flash attention. llama.cpp rounds the
activations to 8 bits (16 for F16 and BF16) before it multiplies; here only Q8_0 and Q4_0 do. What that costs is in
proportion to the noise of the type itself, so a row fails when the perplexities of a trained model are further apart than
LIMIT, or when the divergence is more than what 8-bit activations explain.
"""
import ctypes
import os
import sys

import numpy as np

import quantised

# The package has the name of this file.
sys.path = sys.path[1:] + sys.path[:1]
import llama_cpp as peer  # noqa: E402

LIMIT, DIVERGENCE = 0.002, {"F32": 1e-6, "F16": 1e-4, "BF16": 1e-3}
OTHER_DIVERGENCE = 5e-3
RANDOM_TYPES = ("F32", "F16", "Q8_0", "Q4_0", "Q4_K_M", "MXFP4")
RANDOM_TOKENS, RANDOM_WINDOWS = 120, 2
F32 = {"ours": 1, "peer": 0}  # as each side numbers its types


# ---- the two sides: logits of all tokens of a window -----------------------------------------------------------------


class EvalOpts(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("max_context", ctypes.c_uint32), ("kv_dtype", ctypes.c_int32)]


class Error(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int32), ("code", ctypes.c_int32), ("message", ctypes.c_char * 504)]


class Ours:
    def __init__(self, build):
        self.lib = ctypes.CDLL(os.path.join(os.path.abspath(build), "libaiinfra.so"))
        self.lib.aiinfra_runtime_free.restype = None
        self.runtime = ctypes.c_void_p()
        self.call("aiinfra_runtime_create", None, ctypes.byref(self.runtime))

    def call(self, name, *args):
        error = Error()
        if getattr(self.lib, name)(*args, ctypes.byref(error)) != 0:
            sys.exit("%s: %s" % (name, error.message.decode()))

    def logits(self, path, windows, n_vocab):
        model, evaluator = ctypes.c_void_p(), ctypes.c_void_p()
        longest = max(map(len, windows))
        opts = EvalOpts(ctypes.sizeof(EvalOpts), longest, F32["ours"])
        self.call("aiinfra_model_open", self.runtime, path.encode(), None, ctypes.byref(model))
        self.call("aiinfra_eval_create", model, ctypes.byref(opts), ctypes.byref(evaluator))
        for window in windows:
            out = np.empty((len(window), n_vocab), np.float32)
            tokens = (ctypes.c_int32 * len(window))(*window)
            self.lib.aiinfra_eval_cut(evaluator, ctypes.c_size_t(0))
            self.call("aiinfra_eval_run", evaluator, tokens, ctypes.c_size_t(len(window)), ctypes.c_size_t(len(window)),
                      out.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(out.size))
            yield out
        self.lib.aiinfra_eval_free(evaluator)
        self.lib.aiinfra_model_free(model)


class Peer:
    """llama.cpp, by its C API. What it has to say is kept for the message when it refuses a file."""

    def __init__(self):
        self.said = []
        self.keep = peer.llama_log_callback(lambda level, text, user: self.said.append(text.decode(errors="replace")))
        peer.llama_log_set(self.keep, None)
        peer.llama_backend_init()

    def open(self, path, n):
        self.said.clear()
        options = peer.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = peer.llama_model_load_from_file(path.encode(), options)
        if not self.model:
            return False
        options = peer.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = n
        options.n_threads = options.n_threads_batch = 1
        options.type_k = options.type_v = F32["peer"]
        options.flash_attn_type = peer.LLAMA_FLASH_ATTN_TYPE_DISABLED
        options.swa_full = True
        self.context = peer.llama_init_from_model(self.model, options)
        return bool(self.context)

    def n_vocab(self):
        return peer.llama_vocab_n_tokens(peer.llama_model_get_vocab(self.model))

    def logits(self, windows):
        for window in windows:
            n = len(window)
            batch = peer.llama_batch_init(n, 0, 1)
            batch.n_tokens = n
            for i, token in enumerate(window):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
                batch.seq_id[i][0] = 0
            peer.llama_memory_clear(peer.llama_get_memory(self.context), True)
            if peer.llama_decode(self.context, batch) != 0:
                sys.exit("llama.cpp cannot compute: " + "".join(self.said[-4:]))
            rows = ctypes.cast(peer.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
            yield np.ctypeslib.as_array(rows, (n, self.n_vocab())).copy()
            peer.llama_batch_free(batch)

    def close(self):
        peer.llama_free(self.context)
        peer.llama_model_free(self.model)


# ---- figures ---------------------------------------------------------------------------------------------------------


def log_softmax(logits):
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def compare(ours, theirs, path, windows):
    """Perplexity of llama.cpp, ours, and the mean divergence; None when llama.cpp refuses the file."""
    if not theirs.open(path, max(map(len, windows))):
        return None
    nll, divergence = [[], []], []
    for window, p, q in zip(windows, theirs.logits(windows), ours.logits(path, windows, theirs.n_vocab())):
        p, q = log_softmax(p), log_softmax(q)
        divergence.append((np.exp(p) * (p - q)).sum(axis=1))
        at = np.arange(len(window) - 1), np.array(window[1:])
        nll[0].append(-p[:-1][at])
        nll[1].append(-q[:-1][at])
    theirs.close()
    first, second = (float(np.exp(np.concatenate(x).mean())) for x in nll)
    return first, second, float(np.concatenate(divergence).mean())


def judge(ours, theirs, name, kind, path, windows, trained):
    """Prints a row of the table; True when it is as it should be."""
    figures = compare(ours, theirs, path, windows)
    if figures is None:
        print("| %s | %s | refused: %s |" % (name, kind, " ".join("".join(theirs.said[-3:]).split())), flush=True)
        return False
    first, second, divergence = figures
    off = second / first - 1
    good = divergence <= DIVERGENCE.get(kind, OTHER_DIVERGENCE) and (abs(off) < LIMIT or not trained)
    print("| %s | %s | %.4f | %.4f | %+.3f %% | %.2e |%s" % (name, kind, first, second, 100 * off, divergence,
                                                          "" if good else " FAILED"), flush=True)
    return good


def random_cases(build):
    folder = os.path.join(build, "reference/wide")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".gguf"):
            windows = [[3 + (i * 7919 + 31 * w + i * i) % 260 for i in range(RANDOM_TOKENS)] for w in range(RANDOM_WINDOWS)]
            yield name[:-len(".gguf")], os.path.join(folder, name), windows, RANDOM_TYPES


def trained_cases(program):
    for model in quantised.models():
        yield model.name, model.source, model.windows(program), quantised.TYPES


def main():
    build, wanted = sys.argv[1], sys.argv[2:]
    program, good = os.path.join(build, "aiinfra"), True
    ours, theirs = Ours(build), Peer()
    print("| model | type | llama.cpp | here | difference | divergence |\n|---|---|---|---|---|---|", flush=True)
    for cases, trained in ((trained_cases(program), True), (random_cases(build), False)):
        for name, source, windows, types in cases:
            for kind in types if not wanted or name in wanted else ():
                path = quantised.made(program, source, kind, os.path.join(build, "quality", name, kind + ".gguf"))
                good = judge(ours, theirs, name, kind, path, windows, trained) and good
    sys.exit(0 if good else "llama.cpp and this library differ")


main()
