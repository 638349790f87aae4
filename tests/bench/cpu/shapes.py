"""Synthetic models of real shapes: the sizes, names, types and layouts of real ones, random weights, made-up tokens.

Blocks are random bytes but for their scales, which give weights of the usual size: none of the parts that speed depends
on is zero, and logits stay finite.
"""
import concurrent.futures
import dataclasses
import os
import random
import struct

U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
ALIGNMENT = 32
WRITERS = min(8, os.cpu_count() or 1)


@dataclasses.dataclass(frozen=True)
class Type:
    """A type of tensors: its number, weights and bytes of a block, and which bytes of a block are not just random."""
    number: int
    block: int = 1
    size: int = 2
    fixed: tuple = ()  # (position, values to choose from)


TYPES = {
    "F32": Type(0, size=4),
    "F16": Type(1, fixed=((1, b"\x21\x25\xa1\xa5"),)),
    "BF16": Type(30, fixed=((1, b"\x3b\x3c\xbb\xbc"),)),
    "Q4_0": Type(2, 32, 18, ((1, b"\x19\x99"),)),
    "Q5_0": Type(6, 32, 22, ((1, b"\x15\x95"),)),
    "Q8_0": Type(8, 32, 34, ((1, b"\x0d"),)),
    "Q4_K": Type(12, 256, 144, ((1, b"\x05"), (3, b"\x11"))),
    "Q6_K": Type(14, 256, 210, ((209, b"\x01"),)),
}
FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q6_K": 18, "BF16": 32}
# Where 256 does not divide a row.
SMALL_BLOCKS = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}


@dataclasses.dataclass(frozen=True)
class Shape:
    """Of a decoder. Its output matrix is its embeddings, unless it is untied."""
    name: str
    architecture: str
    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    n_vocab: int
    context: int
    rope_base: float
    pre: str
    biases: bool = False
    head: int = 64
    untied: bool = False

    def matrices(self):
        """(name, columns, rows) of all of a layer."""
        q, kv = self.n_heads * self.head, self.n_kv_heads * self.head
        return (("attn_q", self.n_embd, q), ("attn_k", self.n_embd, kv), ("attn_v", self.n_embd, kv),
                ("attn_output", q, self.n_embd), ("ffn_gate", self.n_embd, self.n_ff),
                ("ffn_up", self.n_embd, self.n_ff), ("ffn_down", self.n_ff, self.n_embd))

    def layer_macs(self):
        """Multiply-adds with weights that a token costs, without the output matrix."""
        return self.n_layers * sum(columns * rows for _, columns, rows in self.matrices())

    def output_macs(self):
        return self.n_embd * self.n_vocab

    def attention_macs(self, length):
        """Of a token that sees `length` tokens."""
        return 2 * self.n_layers * self.n_heads * self.head * length

    def kv_bytes(self):
        """Of a token in an F16 cache."""
        return 2 * 2 * self.n_layers * self.n_kv_heads * self.head


SHAPES = {shape.name: shape for shape in (
    Shape("qwen2.5-0.5b", "qwen2", 24, 896, 4864, 14, 2, 151936, 32768, 1e6, "qwen2", biases=True),
    Shape("llama-3.2-1b", "llama", 16, 2048, 8192, 32, 8, 128256, 131072, 5e5, "llama-bpe"),
    Shape("llama-3.1-8b", "llama", 32, 4096, 14336, 32, 8, 128256, 131072, 5e5, "llama-bpe", head=128, untied=True),
    Shape("tiny", "llama", 2, 512, 1536, 8, 2, 8192, 8192, 1e4, "llama-bpe"),
)}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, data):
    if kind == STRING:
        return string(data)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], data)


def field(key, kind, data):
    """A pair of the header; a list is an array of its kind."""
    if not isinstance(data, list):
        return string(key) + struct.pack("<I", kind) + value(kind, data)
    items = b"".join(value(kind, item) for item in data)
    return string(key) + struct.pack("<IIQ", ARRAY, kind, len(data)) + items


def vocabulary(n):
    """The 256 bytes as byte-level BPE writes them, one merge, made-up words, and an end."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = [b for b in range(256) if b not in plain]
    tokens = [chr(b) for b in plain] + [chr(256 + i) for i in range(len(shifted))] + ["to"]
    tokens += ["word%d" % i for i in range(n - len(tokens) - 1)] + ["<|end|>"]
    return tokens, [1] * (n - 1) + [3]


def fields(shape, recipe):
    arch = shape.architecture
    tokens, kinds = vocabulary(shape.n_vocab)
    return [
        field("general.architecture", STRING, arch),
        field("general.name", STRING, shape.name + ", random weights"),
        field("general.file_type", U32, FILE_TYPES[recipe]),
        field(arch + ".context_length", U32, shape.context),
        field(arch + ".embedding_length", U32, shape.n_embd),
        field(arch + ".block_count", U32, shape.n_layers),
        field(arch + ".feed_forward_length", U32, shape.n_ff),
        field(arch + ".attention.head_count", U32, shape.n_heads),
        field(arch + ".attention.head_count_kv", U32, shape.n_kv_heads),
        field(arch + ".attention.layer_norm_rms_epsilon", F32, 1e-6),
        field(arch + ".rope.freq_base", F32, shape.rope_base),
        field(arch + ".rope.dimension_count", U32, shape.head),
        field(arch + ".vocab_size", U32, shape.n_vocab),
        field("tokenizer.ggml.model", STRING, "gpt2"),
        field("tokenizer.ggml.pre", STRING, shape.pre),
        field("tokenizer.ggml.tokens", STRING, tokens),
        field("tokenizer.ggml.token_type", I32, kinds),
        field("tokenizer.ggml.merges", STRING, ["t o"]),
        field("tokenizer.ggml.bos_token_id", U32, shape.n_vocab - 1),
        field("tokenizer.ggml.eos_token_id", U32, shape.n_vocab - 1),
        field("tokenizer.ggml.add_bos_token", BOOL, False),
    ]


def more_bits(layer, n):
    """Half of the layers."""
    return layer < n // 8 or layer >= 7 * n // 8 or (layer - n // 8) % 3 == 2


def choose_type(shape, recipe, name, columns, layer=0):
    """Of a matrix, by the recipes that real files are made by."""
    kind = "Q4_K" if recipe == "Q4_K_M" else recipe
    if name == ("output" if shape.untied else "token_embd") and kind in ("Q4_0", "Q4_K"):
        kind = "Q6_K"
    elif recipe == "Q4_K_M" and name in ("attn_v", "ffn_down") and more_bits(layer, shape.n_layers):
        kind = "Q6_K"
    return SMALL_BLOCKS.get(kind, kind) if columns % 256 != 0 else kind


def tensors(shape, recipe):
    """(name, sizes, type) in the file's order; vectors are F32, as in real files."""
    yield "token_embd.weight", (shape.n_embd, shape.n_vocab), choose_type(shape, recipe, "token_embd", shape.n_embd)
    yield "output_norm.weight", (shape.n_embd,), "F32"
    if shape.untied:
        yield "output.weight", (shape.n_embd, shape.n_vocab), choose_type(shape, recipe, "output", shape.n_embd)
    if shape.architecture == "llama":
        yield "rope_freqs.weight", (shape.head // 2,), "F32"
    for layer in range(shape.n_layers):
        block = "blk.%d." % layer
        yield block + "attn_norm.weight", (shape.n_embd,), "F32"
        yield block + "ffn_norm.weight", (shape.n_embd,), "F32"
        for name, columns, rows in shape.matrices():
            yield block + name + ".weight", (columns, rows), choose_type(shape, recipe, name, columns, layer)
            if shape.biases and name in ("attn_q", "attn_k", "attn_v"):
                yield block + name + ".bias", (rows,), "F32"


class Weights:
    """Random blocks of each type: pools that are read from ever other places."""
    POOL_BYTES, STARTS = 8 << 20, 1 << 12

    def __init__(self, kinds):
        self.random = random.Random(1)
        self.pools = {kind: self.pool(TYPES[kind]) for kind in sorted(kinds)}

    def pool(self, how):
        n = self.POOL_BYTES // how.size
        pool = bytearray(self.random.randbytes(n * how.size))
        for position, choice in how.fixed:
            table = bytes(choice[i % len(choice)] for i in range(256))
            pool[position::how.size] = self.random.randbytes(n).translate(table)
        return bytes(pool)

    def write(self, file, at, kind, n_bytes):
        """Of one tensor, which are others wherever it lies."""
        start = random.Random(at)
        while n_bytes > 0:
            place = start.randrange(self.STARTS) * TYPES[kind].size
            piece = memoryview(self.pools[kind])[place:place + n_bytes]
            write_at(file, at, piece)
            at += len(piece)
            n_bytes -= len(piece)


def write_at(file, at, data):
    while data:
        n = os.pwrite(file.fileno(), data, at)
        data, at = data[n:], at + n


def tensor_bytes(sizes, kind):
    n = 1
    for size in sizes:
        n *= size
    return n // TYPES[kind].block * TYPES[kind].size


def looked_up_bytes(shape, recipe):
    """Of weights that no step reads: embeddings of which it takes a row."""
    kind = choose_type(shape, recipe, "token_embd", shape.n_embd)
    return tensor_bytes((shape.n_embd, shape.n_vocab), kind) if shape.untied else 0


def step_bytes(shape, recipe):
    """Of weights that a step of decoding reads, whatever the number of its sequences."""
    return sum(tensor_bytes(sizes, kind) for _, sizes, kind in tensors(shape, recipe)) - looked_up_bytes(shape, recipe)


def padding(n):
    return -n % ALIGNMENT


def write_tensor(weights, file, at, name, kind, n_bytes):
    if kind == "F32":  # factors are one, biases are small
        write_at(file, at, struct.pack("<f", 0.01 if name.endswith("bias") else 1.0) * (n_bytes // 4))
    else:
        weights.write(file, at, kind, n_bytes)


def write_tensors(shape, recipe, file, at, between):
    """Several at once: most of the time the system finds memory for them."""
    weights = Weights({kind for _, _, kind in tensors(shape, recipe)} - {"F32"})
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        jobs = []
        for name, sizes, kind in tensors(shape, recipe):
            n_bytes = tensor_bytes(sizes, kind)
            jobs.append(pool.submit(write_tensor, weights, file, at, name, kind, n_bytes))
            at += n_bytes + padding(n_bytes)
        file.truncate(at)
        try:
            for job in jobs:
                between()
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def write_model(shape, recipe, path, between):
    keys, info, offset = fields(shape, recipe), [], 0
    for name, sizes, kind in tensors(shape, recipe):
        where = (*sizes, TYPES[kind].number, offset)
        info.append(string(name) + struct.pack("<I%dQIQ" % len(sizes), len(sizes), *where))
        offset += tensor_bytes(sizes, kind)
        offset += padding(offset)
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(info), len(keys)) + b"".join(keys) + b"".join(info)
    with open(path + ".part", "wb", buffering=0) as file:
        write_at(file, 0, header + bytes(padding(len(header))))
        write_tensors(shape, recipe, file, len(header) + padding(len(header)), between)
    os.rename(path + ".part", path)


def path_of(shape, recipe, folder):
    return os.path.join(folder, "%s-%s.gguf" % (shape.name, recipe))


def make(shape, recipe, folder, between=lambda: None):
    """The path of the model, which is made when it is not there. `between` is called between tensors, and may raise."""
    path = path_of(shape, recipe, folder)
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        write_model(shape, recipe, path, between)
    return path
