"""llama.cpp beside the library on the same files and the same tokens, in every type that both know.

llama_cpp.py BUILD [CASE...]   with the Python that tests/support/peer.sh prints. BUILD holds aiinfra and libaiinfra.so;
BUILD/reference/wide/ may hold the random models of wide.py, and the trained models are those of quantised.py.

A row of the table: the perplexity of the file with its weights decoded to F32, and of the file as each side computes it;
how far ours is from llama.cpp's, and how far the chance of these tokens alone would bring two that round at random (the
standard error of that difference); the mean divergence of ours from llama.cpp's, in nats; and the median divergence of
each from the decoded weights. (The median, since an expert that only just wins or loses moves a token far.) Both compute
with an F32 cache and without flash attention. What remains is how activations are rounded before they are multiplied:
there to the type of the weights for F16 and BF16, to 8 bits in blocks of 256 for K types and of 32 for others; here to 8
bits in blocks of 32, or not at all. So an F32 file fails when the two differ. Any other fails when ours is further from
the decoded weights than llama.cpp's is, or, of a trained model, when the two perplexities differ by LIMIT and it is not
llama.cpp's rounding that parts them: ours within LIMIT of the decoded weights' perplexity, and nearer to it than theirs.
"""
import ctypes
import os
import sys

import numpy as np

import quantised

# The package has the name of this file.
sys.path = sys.path[1:] + sys.path[:1]
import llama_cpp as peer  # noqa: E402

LIMIT = 0.002
SAME = 1e-6  # a divergence that is rounding; llama.cpp has a table for GELU
NOISE = 1.2  # both round at random: ours may be this much further away
RANDOM_TYPES = ("F32", "F16", "Q8_0", "Q4_0", "Q4_K_M", "MXFP4")
RANDOM_TOKENS, RANDOM_WINDOWS = 120, 8
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


def divergence(p, q):
    return np.concatenate([(np.exp(a) * (a - b)).sum(axis=1) for a, b in zip(p, q)])


def surprise(p, windows):
    """Of each token, in nats."""
    return np.concatenate([-a[np.arange(len(w) - 1), w[1:]] for a, w in zip(p, windows)])


def judge(ours, theirs, name, kind, path, decoded, windows, trained):
    """Prints a row of the table; True when it is as it should be."""
    if not theirs.open(path, max(map(len, windows))):
        print("| %s | %s | refused: %s" % (name, kind, " ".join("".join(theirs.said[-3:]).split())), flush=True)
        return False
    n_vocab = theirs.n_vocab()
    peer_p = [log_softmax(x) for x in theirs.logits(windows)]
    theirs.close()
    our_p = [log_softmax(x) for x in ours.logits(path, windows, n_vocab)]
    exact = [log_softmax(x) for x in ours.logits(decoded, windows, n_vocab)] if decoded != path else our_p
    first, second, third = (surprise(p, windows) for p in (peer_p, our_p, exact))
    off, our_drift, peer_drift = (float(np.exp((a - b).mean())) - 1
                                  for a, b in ((second, first), (second, third), (first, third)))
    chance = float((second - first).std() / np.sqrt(len(first)))
    between, peer_off, our_off = (float(x) for x in (divergence(peer_p, our_p).mean(), np.median(
        divergence(exact, peer_p)), np.median(divergence(exact, our_p))))
    good = between <= SAME if kind == "F32" else our_off <= NOISE * peer_off + SAME
    theirs_drifts = abs(our_drift) < LIMIT and abs(our_drift) < abs(peer_drift)
    good = good and (not trained or abs(off) < LIMIT or theirs_drifts)
    print("| %s | %s | %.4f | %.4f | %.4f | %+.3f %% | %.3f %% | %.1e | %.1e | %.1e |%s" % (
        name, kind, *(float(np.exp(x.mean())) for x in (third, first, second)), 100 * off, 100 * chance, between,
        peer_off, our_off, "" if good else " FAILED"), flush=True)
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
    print("| model | type | decoded | llama.cpp | here | difference | chance | divergence | llama.cpp's | ours |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for cases, trained in ((trained_cases(program), True), (random_cases(build), False)):
        for name, source, windows, types in cases:
            for kind in types if not wanted or name in wanted else ():
                stem = os.path.join(build, "quality", name, kind)
                path = decoded = quantised.made(program, source, kind, stem + ".gguf")
                if kind != "F32":
                    decoded = quantised.made(program, path, "F32", stem + ".decoded.gguf")
                good = judge(ours, theirs, name, kind, path, decoded, windows, trained) and good
    sys.exit(0 if good else "llama.cpp and this library differ")


if __name__ == "__main__":
    main()
