"""Measures the CUDA backend on synthetic models of real shapes, for tests/gpu/run.sh, which has put everything into one folder.

measure.py SECONDS [SHAPE...]   with, in the environment:
  TYPES="Q4_0 BF16"     recipes of weights; without SHAPE and TYPES those that the goals speak of, the most important first
  MODELS=folder         where models are made; /dev/shm, or the folder of this file, whichever has room
  PROMPT=4096 GENERATED=256 SEQUENCES=64 ROUNDS=5   sizes, for a trial where there is no GPU
  ROOF_MB=2048          how much gpu.roof copies and reads
  PEER_PYTHON=python3   a Python with torch and transformers; empty: none

A model is made, measured and deleted before the next one is. Each test is run once before it counts; figures are medians.
What is not measured after SECONDS is given up, and said. Everything lies in results.json as soon as it is known; the table
of figures.py comes last. Ends with 1 when something failed, not when a goal was missed.
"""
import contextlib
import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import figures
import shapes

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM, ROOF, RESULTS = (os.path.join(HERE, name) for name in ("aiinfra", "gpu.roof", "results.json"))
TYPES = ("Q4_0", "Q4_K_M", "Q8_0", "BF16")
PLAN = ((figures.SMALL, "Q4_0"), *((figures.MAIN, kind) for kind in TYPES), (figures.SMALL, "BF16"))
COLD_TYPE, COLD_RUNS = "Q4_K_M", 3
SPARE_BYTES = 4 << 30  # of memory or disk that a model must leave free
TEST_SECONDS = 12      # no further rounds from then on
PIECE = 1 << 24
DRIVER_FIELDS = "driver_version,clocks.sm,clocks.max.sm,clocks.mem,power.limit"


class Failed(Exception):
    """What went wrong, for people."""


class Late(Exception):
    """No time is left."""


def number(name, default):
    return int(os.environ.get(name) or default)


class Watch:
    def __init__(self, seconds):
        self.start = time.monotonic()
        self.end = self.start + seconds

    def left(self):
        """Seconds, more than none."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise Late("time was up")
        return left


# ---- programs --------------------------------------------------------------------------------------------------------

def last_line(file):
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it says nothing"


class Lines:
    """A process whose lines are waited for, but no longer than there is time. Closing it ends it."""

    def __init__(self, command, watch, env=None):
        self.watch, self.name, self.buffer = watch, os.path.basename(command[0]), b""
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        bufsize=0, env=env)

    def chunk(self):
        """Some bytes, none at the end."""
        if not select.select([self.process.stdout], [], [], self.watch.left())[0]:
            self.watch.left()
        return self.process.stdout.read(1 << 16)

    def line(self):
        """None at the end."""
        while b"\n" not in self.buffer:
            data = self.chunk()
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode(errors="replace")

    def object(self):
        line = self.line()
        if line is None:
            self.process.wait(10)
            raise Failed("%s ended: %s" % (self.name, last_line(self.errors)))
        return json.loads(line)

    def say(self, line):
        try:
            self.process.stdin.write((line + "\n").encode())
        except BrokenPipeError:
            pass  # the reason is read next

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(min(20, max(1, self.watch.end - time.monotonic())))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def open_lines(stack, command, watch, env=None):
    process = Lines(command, watch, env)
    stack.callback(process.close)
    return process


def library_path(first):
    """The environment of a program whose libraries lie in the folder `first`."""
    rest = os.environ.get("LD_LIBRARY_PATH", "").strip(":")
    return {**os.environ, "LD_LIBRARY_PATH": first + (":" + rest if rest else "")}


def open_program(stack, words, watch):
    return open_lines(stack, [PROGRAM, *words, "--device", "cuda"], watch, library_path(os.path.join(HERE, "lib")))


# ---- what the GPU can do ---------------------------------------------------------------------------------------------

def find_cublas():
    """Among the packages of this Python, newest first; None when the loader has to find it."""
    names = ["libcublas.so.%d" % n for n in (13, 12, 11)]
    for name in names:
        for folder in sys.path:
            for inside in ("nvidia/cu13/lib", "nvidia/cublas/lib"):
                path = os.path.join(folder, inside, name)
                if os.path.exists(path):
                    return path
    return None


def measure_roof(watch):
    found, env = os.environ.get("AIINFRA_CUBLAS") or find_cublas(), None
    if found:  # its parts lie beside it
        env = {**library_path(os.path.dirname(found)), "AIINFRA_CUBLAS": found}
    with contextlib.ExitStack() as stack:
        return open_lines(stack, [ROOF, str(number("ROOF_MB", 2048))], watch, env).object()


def ask_driver(watch, fields):
    """Of the first GPU; None where there is nobody to ask."""
    command = ["nvidia-smi", "--id=0", "--query-gpu=" + fields, "--format=csv,noheader"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                              timeout=min(20, watch.left()))
    except (OSError, subprocess.TimeoutExpired):
        return None
    return "driver " + done.stdout.strip() if done.returncode == 0 else None


# ---- models ----------------------------------------------------------------------------------------------------------

def available_memory():
    with open("/proc/meminfo", encoding="ascii") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))


def has_room(folder, n_bytes):
    if not os.access(folder, os.W_OK) or shutil.disk_usage(folder).free < n_bytes + SPARE_BYTES:
        return False
    return not folder.startswith("/dev/shm") or available_memory() > n_bytes + SPARE_BYTES


def choose_folder(n_bytes):
    given = os.environ.get("MODELS")
    for folder in [given] if given else ["/dev/shm", HERE]:
        if has_room(folder, n_bytes):
            return folder
    raise Failed("no room for %.1f GB" % (n_bytes * 1e-9))


def read_through(path, watch):
    """Into the page cache. Bytes a second."""
    start = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(PIECE)
        while file.readinto(buffer):
            watch.left()
    return os.path.getsize(path) / (time.monotonic() - start)


@contextlib.contextmanager
def model(shape, kind, watch):
    """The path of a model that is deleted in the end."""
    watch.left()
    size = shapes.step_bytes(shape, kind) + shapes.looked_up_bytes(shape, kind)
    folder = tempfile.mkdtemp(prefix="aiinfra-", dir=choose_folder(size))
    try:
        start = time.monotonic()
        path = shapes.make(shape, kind, folder, watch.left)
        made = time.monotonic() - start
        rate = read_through(path, watch)
        print("%s %s: %.2f GB in %s, made in %.1f s, read at %.1f GB/s" %
              (shape.name, kind, size * 1e-9, os.path.dirname(folder), made, rate * 1e-9), flush=True)
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- measuring -------------------------------------------------------------------------------------------------------

def test_line(test):
    """As the program reads it."""
    kind, tokens, depth, sequences = test
    return "pp %d" % tokens if kind == "pp" else "tg %d %d %d" % (tokens, depth, sequences)


class Measure:
    def __init__(self, watch, names):
        env = os.environ.get
        self.watch, self.failures = watch, 0
        self.rounds, self.prompt = number("ROUNDS", 5), number("PROMPT", 4096)
        self.generated, self.sequences = number("GENERATED", 256), number("SEQUENCES", 64)
        kinds = (env("TYPES") or "").split()
        for name, known in ((names, shapes.SHAPES), (kinds, TYPES)):
            for word in name:
                if word not in known:
                    raise SystemExit("measure.py: there is no '%s'; there are: %s" % (word, " ".join(known)))
        self.plan = PLAN
        if names or kinds:
            self.plan = [(name, kind) for name in names or (figures.SMALL, figures.MAIN) for kind in kinds or TYPES]
        self.results = {"roof": {}, "tests": [], "cold": [], "peers": [], "skipped": []}

    def tests(self):
        """(kind, tokens, depth, sequences)"""
        few = min(64, self.generated)
        return (("tg", self.generated, 0, 1), ("pp", self.prompt, 0, 1), ("tg", few, 0, self.sequences),
                ("tg", few, self.prompt, 1))

    def save(self):
        with open(RESULTS + ".part", "w", encoding="utf-8") as file:
            json.dump(self.results, file, indent=1)
            file.write("\n")
        os.rename(RESULTS + ".part", RESULTS)

    @contextlib.contextmanager
    def part(self, what):
        """Failing, or being late, leaves the rest to be measured."""
        try:
            yield
        except Late as late:
            self.results["skipped"].append("%s: %s" % (what, late))
        except (Failed, OSError, ValueError, KeyError, MemoryError, subprocess.SubprocessError) as error:
            self.failures += 1
            self.results["skipped"].append("%s: %s" % (what, error))
            print("FAILED  %s: %s" % (what, error), flush=True)
        self.save()

    def run_test(self, bench, known, test):
        kind, tokens, depth, sequences = test
        speeds, start = [], time.monotonic()
        while len(speeds) < self.rounds + 1 and (not speeds or time.monotonic() < start + TEST_SECONDS):
            bench.say(test_line(test))
            speeds.append(bench.object()["tokens_per_second"])
        counted = speeds[1:] or speeds  # the first one warms up, unless it took all the time
        self.results["tests"].append({**known, "kind": kind, "tokens": tokens, "depth": depth, "sequences": sequences,
                                      "rounds": counted})
        print("  %-14s %-16s %12.1f tokens/s" % (known["type"] + " rounded" * known["rounded"], test_line(test),
                                                 statistics.median(counted)), flush=True)

    def run_bench(self, path, shape, kind, rounded):
        words = ["bench", path, "--stdin"] + ["--bf16-activations"] * rounded
        known = {"shape": shape.name, "type": kind, "rounded": rounded}
        with contextlib.ExitStack() as stack:
            bench = open_program(stack, words, self.watch)
            known["load_seconds"] = bench.object()["load_seconds"]
            for i, test in enumerate(self.tests()):
                try:
                    self.run_test(bench, known, test)
                except (Failed, Late) as error:
                    rest = ", ".join(map(test_line, self.tests()[i:]))
                    raise type(error)("%s: %s" % (rest, error)) from error
                self.save()

    def run_cold(self, path, shape, kind):
        """From the start of a process to the first byte that it writes, or to its end if it writes none."""
        words = ["run", path, "-p", "Hello", "-n", "1", "--greedy"]
        cold = {"shape": shape.name, "type": kind, "seconds": [], "whole_seconds": []}
        for _ in range(COLD_RUNS):
            with contextlib.ExitStack() as stack:
                start = time.monotonic()
                run = open_program(stack, words, self.watch)
                data = run.chunk()
                cold["seconds"].append(time.monotonic() - start)
                while data:
                    data = run.chunk()
                cold["whole_seconds"].append(time.monotonic() - start)
                if run.process.wait(10) != 0:
                    raise Failed("aiinfra run fails: " + last_line(run.errors))
        self.results["cold"].append(cold)
        print("  %-14s first token      %12.2f s" % (kind, statistics.median(cold["seconds"])), flush=True)

    def run_model(self, name, kind):
        shape = shapes.SHAPES[name]
        with self.part("%s %s" % (name, kind)), model(shape, kind, self.watch) as path:
            if kind == COLD_TYPE:
                with self.part("%s %s, first token" % (name, kind)):
                    self.run_cold(path, shape, kind)
            for rounded in (True, False) if kind == "BF16" else (False,):
                with self.part("%s %s%s" % (name, kind, ", rounded" * rounded)):
                    self.run_bench(path, shape, kind, rounded)

    def run_peers(self):
        """torch_peer.py tells its figures one by one, so that what it had no time for costs no others."""
        python = os.environ.get("PEER_PYTHON", "python3")
        names = [name for name, kind in self.plan if kind == "BF16"]
        if not python or not names:
            return
        with self.part("transformers"), contextlib.ExitStack() as stack:
            command = [python, os.path.join(HERE, "torch_peer.py"), str(self.prompt), str(self.generated), *names]
            peer = open_lines(stack, command, self.watch)
            while (line := peer.line()) is not None:
                if not line.startswith("{"):  # torch has something to say
                    continue
                self.results["peers"].append(json.loads(line))
                print("  transformers: " + line, flush=True)
            if peer.process.wait(10) != 0:
                raise Failed("torch_peer.py fails: " + last_line(peer.errors))

    def all(self):
        with self.part("what this GPU can do"):
            self.results["roof"] = measure_roof(self.watch)
            self.results["driver"] = ask_driver(self.watch, DRIVER_FIELDS)
        for name, kind in self.plan:
            self.run_model(name, kind)
        self.run_peers()
        self.results["seconds"] = time.monotonic() - self.watch.start
        self.save()
        print("\n" + figures.page(self.results), flush=True)
        return 1 if self.failures else 0


def main():
    if len(sys.argv) < 2 or not sys.argv[1].lstrip("-").isdigit():
        raise SystemExit("measure.py SECONDS [SHAPE...]")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that models are deleted
    sys.exit(Measure(Watch(int(sys.argv[1])), sys.argv[2:]).all())


main()
