"""Every stored type against the gguf package: decoding and encoding, to the bit, on large random data.

    python tests/reference/quants.py build/tests/unit/unit.quantize

The program is unit.quantize, used as a tool. Types whose encoder searches are judged by their error instead: encoding
may not be worse than the bounds below, in parts of the deviation of Gaussian data.
"""
import subprocess
import sys

import gguf
import numpy as np

COLUMNS = 1024
TYPES = ("F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS TQ1_0 TQ2_0 MXFP4 "
         "NVFP4").split()
ENCODED = "F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 TQ1_0 TQ2_0 MXFP4".split()
BOUNDS = {"Q2_K": 0.30, "Q3_K": 0.15, "Q4_K": 0.075, "Q5_K": 0.037, "Q6_K": 0.02, "IQ4_NL": 0.09, "IQ4_XS": 0.085}


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
    block, size = gguf.constants.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    blocks = data.reshape(-1, size)
    halves = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "TQ1_0": (52,),
              "TQ2_0": (64,), "Q4_1": (0, 2), "Q5_1": (0, 2), "MXFP4": (), "NVFP4": ()}.get(name, (0,))
    for at in halves:
        blocks[:, at + 1] &= 0xbf
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


def main():
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
