"""libaiinfra beside llama.cpp on the CPU, for `make bench-cpu`: the same file, threads and machine, taking turns.

run.py BUILD PEER_PYTHON   with, in the environment:
  QUICK=1       the half-billion shape in Q4_0 and Q8_0, without the longest prompt, in under five minutes
  SHAPES, TYPES, TESTS   names, such as SHAPES=tiny TYPES="Q4_0 F16" TESTS="prefill64 decode0": only these
  ISA=avx2      for a CPU with nothing newer than AVX2: libaiinfra is told so, llama.cpp is one that was built so
  ROUNDS=5      how often each side runs a test; THREADS=n, by default every CPU this process may use
  JSON=file     writes the figures there too
  PAGE=file     where the tables go, between markers; docs/performance.md after a run of everything, otherwise
                BUILD/bench/performance.md. The picture lies beside it

Each side is a process that has the model open and answers one round a line. The two take turns, round by round, and
whoever was second is first the next time. A side that waits sleeps. Nothing else should run on the machine.
"""
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import time

import report
import shapes

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
ROUNDED = "BF16-rounded"  # the file of BF16, with activations that ours rounds to BF16, as the peer does
TYPES = ("Q4_0", "Q8_0", "Q4_K_M", "Q6_K", "BF16", ROUNDED, "F16")
GENERATED = 32
QUICK_SECONDS_A_MODEL = 100  # no further rounds from then on


@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    kind: str  # "pp": read a prompt, "tg": generate
    tokens: int
    depth: int = 0
    sequences: int = 1

    def line(self):
        return "pp %d" % self.tokens if self.kind == "pp" else "tg %d %d %d" % (self.tokens, self.depth, self.sequences)


TESTS = (*(Test("prefill%d" % n, "pp", n) for n in (64, 512, 2048)),
         Test("decode0", "tg", GENERATED),
         *(Test("batch%d" % n, "tg", GENERATED, sequences=n) for n in (2, 4, 8, 16)),
         Test("decode4096", "tg", GENERATED, depth=4096))


# ---- the two sides ---------------------------------------------------------------------------------------------------

class Side:
    """A process that answers a line with a line of JSON. It ends when its input does, whatever becomes of us."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench-cpu: %s ended" % self.process.args[0])
        return json.loads(line)

    def ask(self, test):
        """Tokens per second."""
        self.process.stdin.write(test.line() + "\n")
        self.process.stdin.flush()
        return self.read()["tokens_per_second"]

    def peak_bytes(self):
        with open("/proc/%d/status" % self.process.pid, encoding="ascii") as file:
            peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        return peak * 1024 - self.ready.get("base_bytes", 0)

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def open_sides(stack, commands):
    """Both, closed with the stack. Only one of them loads at a time."""
    sides = []
    for command in commands:
        sides.append(Side(command))
        stack.callback(sides[-1].close)
    return sides


def take_turns(sides, rounds, ask, deadline=None):
    """The median of each side's answers."""
    answers = [[] for _ in sides]
    for turn in range(rounds):
        for i in (0, 1) if turn % 2 == 0 else (1, 0):
            time.sleep(0.05)  # until the other one's threads sleep
            answers[i].append(ask(sides[i]))
        if deadline is not None and time.monotonic() > deadline:
            break
    return [statistics.median(values) for values in answers]


# ---- what the machine allows -----------------------------------------------------------------------------------------

def limit_seconds(test, shape, kind, weight_bytes, machine):
    """The least time that moving the bytes, or doing the multiply-adds, can take; None when it is not known."""
    read, f32 = machine["read_gbs"] * 1e9, machine["f32_gmacs"] * 1e9
    rates = {"BF16": max(machine["bf16_gmacs"], machine["f32_gmacs"]) * 1e9, "F16": f32}
    rate = rates.get(kind, machine["int8_gmacs"] * 1e9)
    if not rate or not f32:
        return None
    if test.kind == "pp":
        n = test.tokens
        macs = n * shape.layer_macs() + shape.output_macs()
        attention = sum(shape.attention_macs(i + 1) for i in range(n))
        moved = weight_bytes
    else:
        lengths = [test.depth + 2 + i for i in range(test.tokens)]
        macs = test.tokens * test.sequences * (shape.layer_macs() + shape.output_macs())
        attention = test.sequences * sum(map(shape.attention_macs, lengths))
        moved = test.tokens * weight_bytes + test.sequences * sum(lengths) * shape.kv_bytes()
    return max(moved / read, macs / rate + attention / f32)


def measure_machine(program, threads, isa):
    command = [program, str(threads)] + (["1024", isa] if isa else [])
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    machine = json.loads(done.stdout)
    print("machine: reads %(read_gbs).1f GB/s, %(int8_gmacs).0f G int8 products/s (%(int8)s), "
          "%(f32_gmacs).0f G F32 products/s (%(f32)s)" % machine, flush=True)
    return machine


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith(("model name", "Model"))]
    return names[0] if names else "unknown CPU"


def cache_bytes():
    """Of the last level."""
    sizes = [0]
    folder = "/sys/devices/system/cpu/cpu0/cache"
    for index in os.listdir(folder) if os.path.isdir(folder) else []:
        with contextlib.suppress(OSError), open("%s/%s/size" % (folder, index), encoding="ascii") as file:
            sizes.append(int(file.read().strip().rstrip("K")) * 1024)
    return max(sizes)


# ---- one model -------------------------------------------------------------------------------------------------------

class Run:
    def __init__(self, build, peer_python):
        env = os.environ.get
        cpus = sorted(os.sched_getaffinity(0))
        self.build = os.path.abspath(build)
        self.peer_python = peer_python
        self.quick = env("QUICK", "0") not in ("", "0")
        self.isa = env("ISA", "")
        self.threads = int(env("THREADS") or len(cpus))
        self.rounds = int(env("ROUNDS") or (3 if self.quick else 5))
        names = self.pick("SHAPES", shapes.SHAPES, ["qwen2.5-0.5b"] + ([] if self.quick else ["llama-3.2-1b"]))
        self.shapes = [shapes.SHAPES[name] for name in names]
        self.types = self.pick("TYPES", TYPES, ["Q4_0", "Q8_0"] if self.quick else list(TYPES))
        every = [test.name for test in TESTS]
        names = self.pick("TESTS", every, [name for name in every if not self.quick or name != "prefill2048"])
        self.tests = [test for test in TESTS if test.name in names]
        self.whole = not self.quick and not any(env(name) for name in ("SHAPES", "TYPES", "TESTS", "ISA"))
        self.rows = []
        if not 1 <= self.threads <= len(cpus):
            raise SystemExit("bench-cpu: THREADS is %d; there are %d CPUs" % (self.threads, len(cpus)))
        os.sched_setaffinity(0, cpus[:self.threads])  # for both sides, which inherit it

    @staticmethod
    def pick(name, known, default):
        chosen = os.environ.get(name, "").split() or default
        for word in chosen:
            if word not in known:
                raise SystemExit("bench-cpu: %s has '%s'; there are: %s" % (name, word, " ".join(known)))
        return chosen

    def row(self, shape, kind, test, figures, limit, unit):
        """Keeps and prints a row; in all of them a ratio above 1 is in our favour. `limit` is in the unit."""
        ours, peer = figures
        more_is_better = unit == "tokens/s"
        ratio = ours / peer if more_is_better else peer / ours
        shares = [figure / limit if more_is_better else limit / figure for figure in figures] if limit else [None] * 2
        self.rows.append({"model": shape.name, "type": kind, "test": test, "threads": self.threads, "unit": unit,
                          "ours": ours, "peer": peer, "ratio": ratio, "limit": limit, "limit_share": shares[0],
                          "peer_limit_share": shares[1]})
        shown = ["%4.0f %%" % (share * 100) if share is not None else "   - %" for share in shares]
        print("  %-12s %10.4g %10.4g %-8s  ratio %5.2f   of the limit %s, peer %s" %
              (test, ours, peer, unit, ratio, *shown), flush=True)

    def measure(self, shape, kind, machine):
        stored = "BF16" if kind == ROUNDED else kind
        path = shapes.make(shape, stored, os.path.join(self.build, "bench", "models"))
        ours = [os.path.join(self.build, "aiinfra"), "bench", path, "--stdin", "--threads", str(self.threads)]
        ours += ["--isa", self.isa] if self.isa else []
        ours += ["--bf16-activations"] if kind == ROUNDED else []
        peer = [self.peer_python, os.path.join(HERE, "peer.py"), path, str(self.threads)]
        deadline = time.monotonic() + QUICK_SECONDS_A_MODEL if self.quick else None
        print("%s %s, %.0f MB: ours, llama.cpp" % (shape.name, kind, os.path.getsize(path) / 1e6), flush=True)
        if os.path.getsize(path) < 2 * machine["cache_bytes"]:
            print("  smaller than twice the last cache: decoding may beat the memory's limit", flush=True)
        with open(path, "rb") as file:  # into the page cache, for both
            while file.read(1 << 24):
                pass
        loads = []
        for turn in range(self.rounds):
            with contextlib.ExitStack() as stack:
                sides = open_sides(stack, (ours, peer))
                loads.append([side.ready["load_seconds"] for side in sides])
                if turn + 1 == self.rounds:
                    self.measure_open(shape, kind, sides, loads, machine, deadline)

    def measure_open(self, shape, kind, sides, loads, machine, deadline):
        weight_bytes = sides[0].ready["weight_bytes"]
        machine.update(isa=sides[0].ready["runtime"]["isa"], version=sides[0].ready["runtime"]["version"],
                       peer=sides[1].ready["version"], peer_system=sides[1].ready["system"])
        self.row(shape, kind, "load", [statistics.median(values) for values in zip(*loads)],
                 weight_bytes / machine["read_gbs"] * 1e-9, "s")
        for test in self.tests:
            figures = take_turns(sides, self.rounds, lambda side, asked=test: side.ask(asked), deadline)
            stored = "BF16" if kind == ROUNDED else kind
            limit = limit_seconds(test, shape, stored, weight_bytes - shapes.looked_up_bytes(shape, stored), machine)
            self.row(shape, kind, test.name, figures, limit and test.tokens * test.sequences / limit, "tokens/s")
        most = max(test.sequences * (test.depth + test.tokens) for test in self.tests)
        self.row(shape, kind, "memory", [side.peak_bytes() / 1e6 for side in sides],
                 (weight_bytes + most * shape.kv_bytes()) / 1e6, "MB")

    def all(self):
        program = os.path.join(self.build, "bench", "machine")
        load = os.getloadavg()[0]
        if load > 0.3:
            print("the machine is busy (load average %.1f): figures will be noise" % load, flush=True)
        machine = {"cpu": cpu_name(), "cache_bytes": cache_bytes(), "load_average": load, "rounds": self.rounds}
        rates = []  # measured before each model: neighbours come and go
        for shape in self.shapes:
            for kind in self.types:
                machine.update(measure_machine(program, self.threads, self.isa))
                rates.append(machine["read_gbs"])
                self.measure(shape, kind, machine)
        self.write({**machine, "least_gbs": min(rates), "most_gbs": max(rates)})

    def write(self, machine):
        data = {"machine": machine, "rows": self.rows}
        if os.environ.get("JSON"):
            with open(os.environ["JSON"], "w", encoding="utf-8") as file:
                json.dump(data, file, indent=1)
                file.write("\n")
        page = os.environ.get("PAGE")
        if not page:
            page = os.path.join(*(ROOT, "docs") if self.whole else (self.build, "bench"), "performance.md")
        report.write(data, page)
        print("wrote " + page, flush=True)


def main():
    if len(sys.argv) != 3:
        raise SystemExit("run.py BUILD PEER_PYTHON")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    Run(sys.argv[1], sys.argv[2]).all()


main()
