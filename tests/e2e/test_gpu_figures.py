"""What tests/gpu/run.sh measures on a GPU: the table for figures that are known, and all of it once on the emulated device."""
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.abspath(os.environ.get("AIINFRA_ROOT", "."))
BUILD = os.path.abspath(os.environ.get("AIINFRA_BUILD", "build"))
PLUGIN, FAKE = os.path.join(BUILD, "libaiinfra-cuda-on-cpu.so"), os.path.join(BUILD, "roof-on-cpu")
sys.dont_write_bytecode = True
sys.path[:0] = [os.path.join(ROOT, "tests/gpu"), os.path.join(ROOT, "tests/bench/cpu")]
import figures  # noqa: E402
import shapes  # noqa: E402

ROOF = {"device": "a GPU", "driver_cuda": "13.0", "copy_gbs": 4000.0, "read_gbs": 4400.0, "gemm_tflops": 800.0}
MAIN, SMALL = "llama-3.1-8b", "llama-3.2-1b"
LAYERS = 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 14336 * 4096)  # weights
OUTPUT = 128256 * 4096
VECTORS = (2 * 32 + 1) * 4096 * 4 + 64 * 4  # bytes of norms and of the factors of rope
KV_BYTES = 2 * 32 * 1024 * 2                # of a token


def tested(kind, *speeds, shape=MAIN, test="tg", tokens=1, depth=0, sequences=1, rounded=False):
    return {"shape": shape, "type": kind, "rounded": rounded, "kind": test, "tokens": tokens, "depth": depth,
            "sequences": sequences, "rounds": list(speeds)}


def results(*tests, roof=None, cold=(), peers=(), skipped=()):
    return {"roof": ROOF if roof is None else roof, "tests": list(tests), "cold": list(cold), "peers": list(peers),
            "skipped": list(skipped)}


def only_row(*tests, **more):
    return dict(zip(figures.HEAD, figures.rows(results(*tests, **more))[0]))


class Table(unittest.TestCase):
    def test_sizes_are_those_of_the_real_model(self):
        shape = shapes.SHAPES[MAIN]
        self.assertEqual(LAYERS + 2 * OUTPUT + 65 * 4096, 8030261248)
        self.assertEqual(shapes.step_bytes(shape, "BF16"), 2 * (LAYERS + OUTPUT) + VECTORS)
        self.assertEqual(shapes.looked_up_bytes(shape, "BF16"), 2 * OUTPUT)
        self.assertEqual(shapes.step_bytes(shape, "Q4_0"), LAYERS // 32 * 18 + OUTPUT // 256 * 210 + VECTORS)
        self.assertEqual(shapes.looked_up_bytes(shape, "Q4_0"), OUTPUT // 32 * 18)
        small = shapes.SHAPES[SMALL]
        self.assertEqual(shapes.looked_up_bytes(small, "Q4_0"), 0)  # the embeddings are its output matrix

    def test_decode_is_a_share_of_copying(self):
        n_bytes = 2 * (LAYERS + OUTPUT) + VECTORS + (100 + 2 + 1) * KV_BYTES
        test = tested("BF16", 200, tokens=3, depth=100)
        self.assertEqual(figures.decode_bytes(shapes.SHAPES[MAIN], "BF16", test), n_bytes)
        self.assertAlmostEqual(figures.decode_share(test, ROOF), n_bytes * 200 / 4000e9)
        row = only_row(tested("BF16", 213, 220, 180, rounded=True))  # the median, 79.93 %
        self.assertEqual((row["model"], row["tokens/s"], row["must be done"], row["reached"], row["goal"], row["met"]),
                         (MAIN + " BF16, rounded", "213.0", "15 GB a token", "80 % of copying", ">= 80 %", "**no**"))
        self.assertEqual(only_row(tested("BF16", 214))["met"], "yes")
        for kind, least in (("Q8_0", 376.2), ("Q4_0", 596.7), ("Q4_K_M", 563.1)):
            self.assertEqual(only_row(tested(kind, least * 1.002))["met"], "yes", kind)
            self.assertEqual(only_row(tested(kind, least * 0.998))["met"], "**no**", kind)
        behind = only_row(tested("Q4_0", 1, depth=4096))
        self.assertEqual((behind["test"], behind["goal"], behind["met"]), ("decode behind 4096", "", ""))

    def test_the_small_model_has_a_speed(self):
        self.assertEqual(only_row(tested("Q4_0", 4000, shape=SMALL))["met"], "yes")
        row = only_row(tested("Q4_0", 3999.9, shape=SMALL))
        self.assertEqual((row["goal"], row["met"]), (">= 4000 tokens/s", "**no**"))

    def test_batch_is_beside_the_slower_limit(self):
        test = tested("BF16", 64 * 170, sequences=64)
        row = only_row(test)
        share = (2 * (LAYERS + OUTPUT) + VECTORS + 64 * 2 * KV_BYTES) * 170 / 4000e9
        self.assertEqual((row["reached"], row["goal"], row["met"]), ("%.0f %% of copying" % (100 * share), ">= 60 %", "yes"))
        row = only_row(test, roof={**ROOF, "gemm_tflops": 100.0})
        self.assertIn("% of cuBLAS", row["reached"])
        flop = 2 * 64 * (LAYERS + OUTPUT + 2 * 32 * 4096 * 2)
        self.assertEqual(figures.decode_flop(shapes.SHAPES[MAIN], test), flop)
        self.assertEqual(only_row(test, roof={**ROOF, "gemm_tflops": None})["reached"], "%.0f %% of copying" % (100 * share))

    def test_prefill_is_a_share_of_cublas(self):
        flop = 2 * (4096 * LAYERS + OUTPUT + 2 * 32 * 4096 * sum(range(1, 4097)))
        self.assertEqual(figures.prefill_flop(shapes.SHAPES[MAIN], 4096), flop)
        least = 0.6 * 800e12 / (flop / 4096)
        self.assertEqual(only_row(tested("BF16", least * 1.001, test="pp", tokens=4096))["met"], "yes")
        self.assertEqual(only_row(tested("BF16", least * 0.999, test="pp", tokens=4096))["met"], "**no**")
        self.assertEqual(only_row(tested("Q8_0", 1, test="pp", tokens=4096))["goal"], "")
        row = only_row(tested("Q4_0", 1e5, test="pp", tokens=4096), roof={"no_gemm": "no cuBLAS here"})
        self.assertEqual((row["reached"], row["met"]), ("rate of cuBLAS not known", "?"))

    def test_starting(self):
        cold = {"shape": MAIN, "type": "Q4_K_M", "seconds": [2.5, 1.9, 1.8]}
        row = only_row(cold=[cold])
        self.assertEqual((row["reached"], row["goal"], row["met"]), ("1.90 s", "< 2 s", "yes"))

    def test_beside_the_fastest_way_of_transformers(self):
        peers = [{"version": "torch 2"}, {"missing": "compiled: no compiler"}]
        peers += [{"shape": MAIN, "test": "decode", "how": how, "tokens": 1, "tokens_per_second": speed}
                  for how, speed in (("plain", 40.0), ("CUDA graph", 200.0))]
        found = figures.rows(results(tested("Q4_0", 601), tested("BF16", 220), tested("Q4_0", 1, shape=SMALL), peers=peers))
        self.assertEqual([line[5:] for line in found[3:]], [("3.00 x", ">= 3 x", "yes"), ("1.10 x", ">= 3 x", "**no**")])
        self.assertEqual(found[3][3:5], ("transformers: 200.0", "CUDA graph"))

    def test_the_page_tells_what_is_missing(self):
        page = figures.page(results(tested("Q8_0", 450), roof={**ROOF, "gemm_tflops": None, "no_gemm": "no cuBLAS here"},
                                    peers=[{"missing": "No module named 'torch'"}], skipped=["all else: time was up"]))
        for words in ("Measured on a GPU (CUDA 13.0).", "copies 4 TB/s", "rate of cuBLAS is not known: no cuBLAS here",
                      "- transformers: No module named 'torch'", "- not measured: all else: time was up",
                      "what is missing to the limit: 10 % of generating llama-3.1-8b Q8_0"):
            self.assertIn(words, page)
        widths = {line.count("|") for line in page.splitlines() if line.startswith("|")}
        self.assertEqual(widths, {len(figures.HEAD) + 1})
        self.assertIn("The rate of cuBLAS is not known: it was not measured", figures.page(results(roof={})))


class Models(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)

    def test_an_output_matrix_of_its_own(self):
        shape = dataclasses.replace(shapes.SHAPES["tiny"], name="own", untied=True)
        path = shapes.make(shape, "Q4_K_M", self.dir)
        done = subprocess.run([os.path.join(BUILD, "aiinfra"), "bench", path, "--stdin"], stdout=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, text=True, timeout=120, check=True)
        factors = shape.head // 2 * 4  # of rope, which the program does not count
        self.assertEqual(json.loads(done.stdout)["weight_bytes"] + factors,
                         shapes.step_bytes(shape, "Q4_K_M") + shapes.looked_up_bytes(shape, "Q4_K_M"))

    def test_the_same_bytes_each_time_and_giving_up(self):
        shape, calls = shapes.SHAPES["tiny"], []
        with open(shapes.make(shape, "Q4_0", self.dir), "rb") as file:
            first = file.read()
        os.remove(shapes.path_of(shape, "Q4_0", self.dir))
        with open(shapes.make(shape, "Q4_0", self.dir, lambda: calls.append(1)), "rb") as file:
            self.assertEqual(file.read(), first)
        self.assertEqual(len(calls), len(list(shapes.tensors(shape, "Q4_0"))))
        with self.assertRaises(ZeroDivisionError):
            shapes.make(shape, "BF16", self.dir, lambda: 1 // 0)
        self.assertFalse(os.path.exists(shapes.path_of(shape, "BF16", self.dir)))


@unittest.skipUnless(os.path.exists(PLUGIN) and os.path.exists(FAKE + "/gpu.roof"), "no emulated device here")
class Emulated(unittest.TestCase):
    SIZES = {"ROOF_MB": "1", "PROMPT": "6", "GENERATED": "2", "SEQUENCES": "2", "ROUNDS": "1"}

    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.dir)
        for path in ("gpu/measure.py", "gpu/figures.py", "gpu/torch_peer.py", "bench/cpu/shapes.py"):
            shutil.copy(os.path.join(ROOT, "tests", path), self.dir)
        os.symlink(os.path.join(BUILD, "aiinfra"), os.path.join(self.dir, "aiinfra"))
        os.symlink(FAKE + "/gpu.roof", os.path.join(self.dir, "gpu.roof"))

    def measure(self, *words, **env):
        env = {**os.environ, "AIINFRA_CUDA_PLUGIN": PLUGIN, "MODELS": self.dir, "PEER_PYTHON": "", **self.SIZES, **env}
        done = subprocess.run([sys.executable, "-B", os.path.join(self.dir, "measure.py"), *words], env=env, timeout=500,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        path = os.path.join(self.dir, "results.json")
        if not os.path.exists(path):
            return done.returncode, done.stdout, None
        with open(path, encoding="utf-8") as file:
            return done.returncode, done.stdout, json.load(file)

    def test_everything_once(self):
        code, out, found = self.measure("400", "tiny", TYPES="Q4_K_M", AIINFRA_CUBLAS=FAKE + "/libcublas.so")
        self.assertEqual(code, 0, out)
        self.assertEqual(found["roof"]["device"], "an emulated GPU")
        self.assertGreater(found["roof"]["copy_gbs"], 0)
        self.assertGreater(found["roof"]["gemm_tflops"], 0)
        tests = [(test["kind"], test["tokens"], test["depth"], test["sequences"]) for test in found["tests"]]
        self.assertEqual(tests, [("tg", 2, 0, 1), ("pp", 6, 0, 1), ("tg", 2, 0, 2), ("tg", 2, 6, 1)])
        self.assertTrue(all(test["rounds"][0] > 0 for test in found["tests"]))
        self.assertEqual(len(found["cold"][0]["seconds"]), 3)
        self.assertEqual(found["skipped"], [])
        self.assertIn("| decode, 2 sequences | tiny Q4_K_M |", out)
        self.assertIn("first token, from the start of the process", out)
        self.assertEqual([name for name in os.listdir(self.dir) if name.startswith("aiinfra-")], [])

    def test_both_forms_of_bf16_and_what_the_peer_lacks(self):
        os.mkdir(os.path.join(self.dir, "torch"))
        with open(os.path.join(self.dir, "torch", "__init__.py"), "w", encoding="ascii") as file:
            file.write("print('a word of torch')\nraise ImportError('no torch here')\n")
        code, out, found = self.measure("400", "tiny", TYPES="BF16", PEER_PYTHON=sys.executable,
                                        AIINFRA_CUBLAS="/none.so", PROMPT="2")
        self.assertEqual(code, 0, out)
        self.assertEqual([test["rounded"] for test in found["tests"]], 4 * [True] + 4 * [False])
        self.assertEqual(found["peers"], [{"missing": "no torch here"}])
        self.assertEqual(found["roof"]["no_gemm"], "the library of AIINFRA_CUBLAS does not open")

    def test_time_that_is_up(self):
        code, out, found = self.measure("0")
        self.assertEqual(code, 0, out)
        self.assertEqual([reason for reason in found["skipped"] if not reason.endswith(": time was up")], [])
        self.assertEqual(len(found["skipped"]), 7)  # what the GPU can do, and six models
        code, out, found = self.measure("1", "tiny", TYPES="Q4_0", PROMPT="4000")
        self.assertEqual(code, 0, out)
        self.assertRegex(found["skipped"][-1], "time was up")

    def test_failures(self):
        code, out, found = self.measure("100", "tiny", TYPES="Q4_0", AIINFRA_FAKE_CUDA="none")
        self.assertEqual(code, 1, out)
        self.assertEqual(found["roof"], {"device": None, "reason": "no CUDA-capable device is detected"})
        self.assertRegex(out, r"FAILED  tiny Q4_0: aiinfra ended: .*no CUDA-capable device")
        code, out, found = self.measure("100", "tiny", TYPES="Q4_0", AIINFRA_FAKE_CUDA="small")
        self.assertRegex(out, r"FAILED  what this GPU can do: gpu.roof ended: .*out of memory")
        for words in (["100", "huge"], ["x"], []):
            self.assertNotEqual(self.measure(*words)[0], 0)
        self.assertIn("there is no 'Q9'", self.measure("100", TYPES="Q9")[1])

    def test_a_cublas_that_does_not_start(self):
        roof = subprocess.run([FAKE + "/gpu.roof", "1"], stdout=subprocess.PIPE, text=True, timeout=60, check=True, env={
            **os.environ, "AIINFRA_CUBLAS": FAKE + "/libcublas.so", "AIINFRA_FAKE_CUBLAS": "dead"})
        self.assertTrue(re.search('"no_gemm":"cuBLAS does not start on this device"', roof.stdout), roof.stdout)
        json.loads(roof.stdout)


class Reasons(unittest.TextTestResult):
    """The runner of all tests looks for lines "skipped: reason"."""

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print("skipped: %s: %s" % (test.id().split(".", 1)[1], reason), flush=True)


if __name__ == "__main__":
    if not os.path.exists(os.path.join(BUILD, "aiinfra")):
        print("skipped: the aiinfra program is not built")
        sys.exit(77)
    unittest.main(testRunner=unittest.TextTestRunner(resultclass=Reasons, verbosity=1))
