"""What tests/gpu/measure.py has measured, as a table in Markdown: beside what must be done, what this GPU can do, and the goals.

figures.py RESULTS.JSON   prints the table

The least that must be done, of which everything else is overhead:
  a step of decoding   reads the weights once, whatever the number of sequences, but for embeddings that are looked up; and
                       the keys and values in front of each sequence. It multiplies weights and cache for each sequence.
  a prompt             multiplies each token with the weights of the layers, the last one with the output matrix, and each
                       with the keys and values up to its own.
A multiplication with an addition is two FLOP. Bytes go at the rate at which this GPU copies, FLOP at that of cuBLAS in BF16;
where both are asked for, the slower of them is the limit.
"""
import json
import statistics
import sys

import shapes

MAIN, SMALL = "llama-3.1-8b", "llama-3.2-1b"
DECODE_SHARES = {"BF16": 0.80, "Q8_0": 0.75, "Q4_0": 0.65, "Q4_K_M": 0.65}  # of the rate of copying
SMALL_DECODE = {"Q4_0": 4000}  # tokens a second
BATCH_SHARES = {"BF16": 0.60}  # of the slower of both limits
PREFILL_SHARES = {"BF16": 0.60, "Q4_0": 0.45, "Q4_K_M": 0.45}  # of cuBLAS in BF16
COLD_SECONDS = {"Q4_K_M": 2.0}
PEER_RATIO = 3.0
HEAD = ("test", "model", "tokens/s", "must be done", "rate", "reached", "goal", "met")


# ---- what must be done -----------------------------------------------------------------------------------------------

def decode_bytes(shape, kind, test):
    """Of a step, on average: the new token's keys and values count, too."""
    length = test["depth"] + 2 + (test["tokens"] - 1) / 2
    return shapes.step_bytes(shape, kind) + test["sequences"] * length * shape.kv_bytes()


def decode_flop(shape, test):
    length = test["depth"] + 2 + (test["tokens"] - 1) / 2
    return 2 * test["sequences"] * (shape.layer_macs() + shape.output_macs() + shape.attention_macs(length))


def prefill_flop(shape, n):
    """Of a whole prompt of n tokens."""
    seen = n * (n + 1) // 2
    return 2 * (n * shape.layer_macs() + shape.output_macs() + shape.attention_macs(seen))


# ---- words -----------------------------------------------------------------------------------------------------------

def unit(value, what):
    """Three digits, with a prefix."""
    for prefix in ("", "k", "M", "G", "T"):
        if value < 1000 or prefix == "T":
            return "%.3g %s%s" % (value, prefix, what) if value < 1000 else "%.0f %s%s" % (value, prefix, what)
        value /= 1000
    return None


def percent(share):
    return "%.0f %%" % (100 * share)


def row(test, model, speed="", must="", rate="", reached="", goal=None, met=None):
    """`met` is None where there is no goal, or nothing to judge it by."""
    verdict = "" if goal is None else "?" if met is None else "yes" if met else "**no**"
    return (test, model, speed, must, rate, reached, goal or "", verdict)


def model_name(test):
    return "%s %s%s" % (test["shape"], test["type"], ", rounded" if test.get("rounded") else "")


def speed_of(test):
    return statistics.median(test["rounds"])


def share_row(test, name, must, rate, share, of, goal):
    """A row whose goal, if there is one, is a share of a limit, which is None where it is not known."""
    reached = "rate of %s not known" % of if share is None else "%s of %s" % (percent(share), of)
    return row(name, model_name(test), "%.1f" % speed_of(test), must, rate, reached, goal and ">= %s" % percent(goal),
               share >= goal if goal and share is not None else None)


# ---- rows ------------------------------------------------------------------------------------------------------------

def decode_share(test, roof):
    if not roof.get("copy_gbs"):
        return None
    return decode_bytes(shapes.SHAPES[test["shape"]], test["type"], test) * speed_of(test) / (roof["copy_gbs"] * 1e9)


def decode_row(test, roof):
    shape = shapes.SHAPES[test["shape"]]
    n_bytes = decode_bytes(shape, test["type"], test)
    name = "decode" + (" behind %d" % test["depth"] if test["depth"] else "")
    if test["shape"] == SMALL and test["type"] in SMALL_DECODE:
        goal, share, speed = SMALL_DECODE[test["type"]], decode_share(test, roof), speed_of(test)
        return row(name, model_name(test), "%.1f" % speed, unit(n_bytes, "B") + " a token", unit(n_bytes * speed, "B/s"),
                   "%s of copying" % percent(share) if share is not None else "", ">= %d tokens/s" % goal, speed >= goal)
    goal = DECODE_SHARES.get(test["type"]) if test["shape"] == MAIN and not test["depth"] else None
    return share_row(test, name, unit(n_bytes, "B") + " a token", unit(n_bytes * speed_of(test), "B/s"),
                     decode_share(test, roof), "copying", goal)


def batch_row(test, roof):
    """The limit is that of memory or of cuBLAS, whichever is slower."""
    shape = shapes.SHAPES[test["shape"]]
    n_bytes, flop = decode_bytes(shape, test["type"], test), decode_flop(shape, test)
    steps = speed_of(test) / test["sequences"]
    limits = {"copying": n_bytes * steps / (roof["copy_gbs"] * 1e9)} if roof.get("copy_gbs") else {}
    if roof.get("gemm_tflops"):
        limits["cuBLAS"] = flop * steps / (roof["gemm_tflops"] * 1e12)
    slower = max(limits, key=limits.get) if limits else "copying"
    goal = BATCH_SHARES.get(test["type"]) if test["shape"] == MAIN else None
    return share_row(test, "decode, %d sequences" % test["sequences"],
                     "%s, %s a step" % (unit(n_bytes, "B"), unit(flop, "FLOP")),
                     "%s, %s" % (unit(n_bytes * steps, "B/s"), unit(flop * steps, "FLOP/s")), limits.get(slower), slower,
                     goal)


def prefill_share(test, roof):
    if not roof.get("gemm_tflops"):
        return None
    flop = prefill_flop(shapes.SHAPES[test["shape"]], test["tokens"]) / test["tokens"]
    return flop * speed_of(test) / (roof["gemm_tflops"] * 1e12)


def prefill_row(test, roof):
    flop = prefill_flop(shapes.SHAPES[test["shape"]], test["tokens"]) / test["tokens"]
    goal = PREFILL_SHARES.get(test["type"]) if test["shape"] == MAIN else None
    return share_row(test, "prefill %d" % test["tokens"], unit(flop, "FLOP") + " a token",
                     unit(flop * speed_of(test), "FLOP/s"), prefill_share(test, roof), "cuBLAS", goal)


def test_row(test, roof):
    if test["kind"] == "pp":
        return prefill_row(test, roof)
    return decode_row(test, roof) if test["sequences"] == 1 else batch_row(test, roof)


def cold_row(cold):
    seconds = statistics.median(cold["seconds"])
    goal = COLD_SECONDS.get(cold["type"]) if cold["shape"] == MAIN else None
    return row("first token, from the start of the process", model_name(cold), reached="%.2f s" % seconds,
               goal=goal and "< %g s" % goal, met=goal and seconds < goal)


def best_peers(results):
    """{(shape, "decode" or "prefill"): the fastest way of transformers}"""
    best = {}
    for peer in results["peers"]:
        if "tokens_per_second" in peer:
            key = (peer["shape"], peer["test"])
            if key not in best or peer["tokens_per_second"] > best[key]["tokens_per_second"]:
                best[key] = peer
    return best


def peer_row(test, best):
    """Beside the fastest way of transformers; None where there is none."""
    what = "prefill" if test["kind"] == "pp" else "decode" if test["sequences"] == 1 and not test["depth"] else None
    peer = best.get((test["shape"], what))
    if peer is None or (what == "prefill" and peer["tokens"] != test["tokens"]):
        return None
    ratio = speed_of(test) / peer["tokens_per_second"]
    has_goal = what == "decode"
    return row("%s beside transformers" % what, model_name(test), "%.1f" % speed_of(test),
               "transformers: %.1f" % peer["tokens_per_second"], peer["how"], "%.2f x" % ratio,
               has_goal and ">= %g x" % PEER_RATIO or None, has_goal and ratio >= PEER_RATIO)


def rows(results):
    roof, best = results["roof"], best_peers(results)
    found = [test_row(test, roof) for test in results["tests"]] + [cold_row(cold) for cold in results["cold"]]
    return found + [line for line in (peer_row(test, best) for test in results["tests"]) if line is not None]


# ---- the page --------------------------------------------------------------------------------------------------------

def describe(results):
    roof, lines = results["roof"], []
    if roof.get("device"):
        lines.append("Measured on %s (%s)." % (roof["device"], results.get("driver") or "CUDA " + roof["driver_cuda"]))
    if roof.get("copy_gbs"):
        lines.append("It copies %s, read and written, and reads %s." % (unit(roof["copy_gbs"] * 1e9, "B/s"),
                                                                     unit(roof["read_gbs"] * 1e9, "B/s")))
    if roof.get("gemm_tflops"):
        lines.append("cuBLAS multiplies %s in BF16." % unit(roof["gemm_tflops"] * 1e12, "FLOP/s"))
    else:
        lines.append("The rate of cuBLAS is not known: %s." % roof.get("no_gemm", "it was not measured"))
    return " ".join(lines)


def peer_lines(results):
    """Every way of transformers, and what was missing."""
    lines = []
    for peer in results["peers"]:
        if "tokens_per_second" in peer:
            lines.append("- transformers, %s BF16, %s, %s: %.1f tokens/s" %
                         (peer["shape"], peer["test"], peer["how"], peer["tokens_per_second"]))
        elif "version" in peer:
            lines.append("- %s" % peer["version"])
        else:
            lines.append("- transformers: %s" % peer["missing"])
    return lines


def invariance(results):
    """What can be said of the cost of independence of the batch, without kernels that are not to compare with."""
    bounds = []
    for test in results["tests"]:
        if test["shape"] == MAIN and (test["kind"] == "pp" or test["sequences"] == 1 and not test["depth"]):
            share = (prefill_share if test["kind"] == "pp" else decode_share)(test, results["roof"])
            if share is not None:
                bounds.append("%s of %s %s" % (percent(max(0, 1 - share)), "reading" if test["kind"] == "pp" else
                                               "generating", model_name(test)))
    if not bounds:
        return []
    return ["What independence of the batch costs was not measured, as no kernel has a form without it. It is at most what "
            "is missing to the limit: " + ", ".join(bounds) + "."]


def page(results):
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += ["| " + " | ".join(line) + " |" for line in rows(results)]
    parts = [describe(results), "\n".join(lines), "\n".join(peer_lines(results)), *invariance(results),
             "\n".join("- not measured: " + reason for reason in results["skipped"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def main():
    if len(sys.argv) != 2:
        raise SystemExit("figures.py RESULTS.JSON")
    with open(sys.argv[1], encoding="utf-8") as file:
        print(page(json.load(file)), end="")


if __name__ == "__main__":
    main()
