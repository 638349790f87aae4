"""Every stored type against the gguf package: decoding and encoding, to the bit, on large random data.

    python tests/reference/quants.py build/tests/unit/unit.quantize
    python tests/reference/quants.py --goldens > tests/data/quant_goldens.h

The program is unit.quantize, used as a tool; the goldens are what it checks by itself. Types whose encoder searches are judged by their error instead: encoding
may not be worse than the bounds below, in parts of the deviation of Gaussian data.
"""
import subprocess
import sys

import gguf
import numpy as np

COLUMNS = 1024
GOLDEN_BYTES, GOLDEN_FLOATS = 8, 512  # blocks to decode, floats to encode
TYPES = ("F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 "
         "NVFP4").split()
ENCODED = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 TQ1_0 TQ2_0 MXFP4".split()
BOUNDS = {"Q2_K": 0.28, "Q3_K": 0.150, "Q4_K": 0.0715, "Q5_K": 0.0355, "Q6_K": 0.0175, "IQ4_NL": 0.076, "IQ4_XS": 0.077}


# Where a block has its halves; 0 is usual. E8M0 exponents above 0xbf would overflow.
HALVES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "TQ1_0": (52,),
          "TQ2_0": (64,), "Q4_1": (0, 2), "Q5_1": (0, 2), "MXFP4": (-1,), "NVFP4": ()}


def tame(blocks, name):
    """Makes all scales finite."""
    for at in HALVES.get(name, (0,)):
        blocks[:, at + 1] &= 0xbf


def tool(path, verb, name, data, *more):
    done = subprocess.run([path, verb, name, str(COLUMNS)] + list(more), input=data.tobytes(), stdout=subprocess.PIPE,
                          check=True)
    return done.stdout


def row_bytes(name):
    block, size = gguf.constants.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    return COLUMNS // block * size


def random_blocks(rng, name, rows):
    """Random bytes; the scales are made small enough to be finite, whatever their place in the block."""
    data = rng.integers(0, 256, (rows, row_bytes(name)), dtype=np.uint8)
    if name in ("F32", "F16", "BF16"):
        return data & 0xbf
    tame(data.reshape(-1, gguf.constants.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]), name)
    return data


def random_floats(rng, rows):
    x = rng.standard_normal((rows, COLUMNS)).astype(np.float32)
    x *= np.exp2(rng.integers(-12, 6, (rows, 1))).astype(np.float32)
    x[::7, 64:128] = 0
    x[3::7, ::5] = 0
    x[5::7] = np.round(x[5::7] * 4) / 4 + 0.0  # ties, but no negative zero
    return x


def check_decoding(path, rng, name):
    data = random_blocks(rng, name, 512)
    want = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
    got = np.frombuffer(tool(path, "decode", name, data), dtype=np.float32).reshape(want.shape)
    return int((want.view(np.uint32) != got.view(np.uint32))[(want != 0) | (got != 0)].sum())


def check_encoding(path, rng, name):
    x = random_floats(rng, 512)
    want = np.ascontiguousarray(gguf.quants.quantize(x, gguf.GGMLQuantizationType[name])).view(np.uint8)
    got = np.frombuffer(tool(path, "encode", name, x), dtype=np.uint8)
    return int((want.reshape(-1) != got).sum())


def error(path, rng, name):
    x = rng.standard_normal((256, COLUMNS)).astype(np.float32)
    blocks = np.frombuffer(tool(path, "encode", name, x), dtype=np.uint8).reshape(256, -1)
    y = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
    return float(np.sqrt(np.mean((x - y).astype(np.float64) ** 2)))


def sequence(n):
    """The numbers that test_quantize.c makes too."""
    state, out = 1, []
    for _ in range(n):
        state = (state * 1664525 + 1013904223) & 0xffffffff
        out.append(state)
    return np.array(out, dtype=np.uint32)


def fnv(data):
    h = 0xcbf29ce484222325
    for byte in np.ascontiguousarray(data).view(np.uint8).reshape(-1).tolist():
        h = (h ^ byte) * 0x100000001b3 & 0xffffffffffffffff
    return h


def golden(name):
    block, size = gguf.constants.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = (sequence(GOLDEN_BYTES * size) >> 24).astype(np.uint8).reshape(-1, size)
    tame(blocks, name)
    y = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name]).reshape(-1) + np.float32(0)
    u = ((sequence(GOLDEN_FLOATS) >> 8).astype(np.float32) - np.float32(2.0**23)) * np.float32(2.0**-22)
    encoded = 0
    if name in ENCODED:
        encoded = fnv(gguf.quants.quantize((u * u * u).reshape(1, -1), gguf.GGMLQuantizationType[name]))
    at = list(HALVES.get(name, (0,))) + [-2, -2]
    sample = ", ".join("0x%08x" % v for v in y.view(np.uint32)[[0, 1, block // 2, len(y) - 1]])
    return "    {AII_%s, {%d, %d}, {%s}, 0x%016xu, 0x%016xu}," % (name, at[0], at[1], sample, fnv(y), encoded)


def print_goldens():
    print("""/* quant_goldens.h - what the gguf package decodes and encodes; written by tests/reference/quants.py --goldens.
 *
 * The inputs are made by test_quantize.c: blocks of random bytes whose halves (at half_at, -2: none; -1: an exponent)
 * are finite, and cubes of random floats. Hashes are FNV-1a over the bytes of all results.
 */
static const struct quant_golden {
  aii_dtype type;
  int half_at[2];
  uint32_t sample[4]; /* bits of the floats 0, 1, block / 2 and the last one */
  uint64_t decoded, encoded; /* encoded 0: the package has no encoder */
} quant_goldens[] = {
    /* clang-format off */""")
    for name in TYPES:
        if name != "F32":
            print(golden(name))
    print("    /* clang-format on */\n};")


def main():
    if sys.argv[1] == "--goldens":
        print_goldens()
        return
    path, failed = sys.argv[1], 0
    rng = np.random.default_rng(1)
    for name in TYPES:
        wrong = check_decoding(path, rng, name)
        line = "%-7s decoding: %d floats differ" % (name, wrong)
        if name in ENCODED:
            bytes_off = check_encoding(path, rng, name)
            wrong += bytes_off
            line += "; encoding: %d bytes differ" % bytes_off
        if name != "NVFP4":
            rmse = error(path, rng, name)
            wrong += name in BOUNDS and not rmse <= BOUNDS[name]
            line += "; error %.5f of the deviation" % rmse
        print(line)
        failed += wrong != 0
    sys.exit("%d types differ" % failed if failed else 0)


if __name__ == "__main__":
    main()
