"""The aiinfra program from outside: what goes to stdout and what to stderr, exit codes, mistakes, Ctrl-C."""
import ctypes
import json
import math
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

ROOT = os.environ.get("AIINFRA_ROOT", ".")
AIINFRA = os.path.join(os.environ.get("AIINFRA_BUILD", "build"), "aiinfra")
NANO = os.path.join(ROOT, "examples/nano/nano.gguf")
STORIES = os.path.join(os.environ.get("AIINFRA_SHARED_DATA", ""), "models/stories260K")
COMMANDS = "agent ingest search remember forget memory migrate import export db query cache run serve bench inspect tokenize template logits perplexity kld imatrix".split()


def call(*args, stdin=subprocess.DEVNULL, env=None):
    done = subprocess.run([AIINFRA] + list(args), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=300, env=dict(os.environ, **(env or {})))
    return done.returncode, done.stdout, done.stderr.decode()


def any_model():
    for path in (NANO, os.path.join(STORIES, "stories260K.gguf")):
        if os.path.exists(path):
            return path
    return None


MODEL = any_model()
needs_model = unittest.skipUnless(MODEL, "neither nano.gguf nor stories260K is here")
needs_nano = unittest.skipUnless(os.path.exists(NANO), "nano.gguf is not here")
needs_stories = unittest.skipUnless(os.path.exists(STORIES), "stories260K is not here")


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        self.db = os.path.join(self.dir, "a.db")

    def tearDown(self):
        shutil.rmtree(self.dir)

    def file(self, name, content):
        path = os.path.join(self.dir, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def good(self, *args, **more):
        code, out, err = call(*args, **more)
        self.assertEqual(code, 0, err)
        return out, err

    def bad(self, wanted, *args, said=""):
        code, out, err = call(*args)
        self.assertEqual(code, wanted, err)
        self.assertEqual(out, b"")
        self.assertIn(said, err)
        return err


class Usage(Case):
    def test_help(self):
        out, err = self.good("help")
        for name in COMMANDS:
            self.assertIn(("  %s " % name).encode(), out)
        self.assertEqual(err, "")
        self.assertEqual(self.good("--help")[0], out)
        for name in COMMANDS:
            out, err = self.good(name, "--help")
            self.assertTrue(out.startswith(("usage: aiinfra %s " % name).encode()))
            self.assertEqual(err, "")

    def test_version(self):
        self.assertRegex(self.good("version")[0], rb"^aiinfra \d+\.\d+\.\d+\n$")
        self.assertEqual(self.good("--version")[0], self.good("version")[0])

    def test_no_command(self):
        code, _, _ = call()
        self.assertEqual(code, 2)

    def test_misspelt(self):
        self.bad(2, "serch", said="did you mean 'search'?")
        self.bad(2, "xyzzy", said="unknown command 'xyzzy'")
        self.bad(2, "run", "m.gguf", "--treads", "2", said="did you mean '--threads'?")
        self.bad(2, "run", "m.gguf", "--treads=2", said="did you mean '--threads'?")
        self.bad(2, "run", "m.gguf", "-z", said="unknown option '-z'")
        self.bad(2, "run", "m.gguf", "--", "-p", said="'-p' is too much")

    def test_values(self):
        self.bad(2, "run", "m.gguf", "-n", said="needs a value")
        self.bad(2, "run", "m.gguf", "-n", "many", said="whole number")
        self.bad(2, "run", "m.gguf", "-n", "5x", said="whole number")
        self.bad(2, "run", "m.gguf", "-n", "-5", said="whole number")
        self.bad(2, "run", "m.gguf", "-n", "99999999999999999999", said="whole number")
        self.bad(2, "run", "m.gguf", "--top-p=1.5", said="from 0 to 1")
        self.bad(2, "run", "m.gguf", "--temp", "nan", said="a number")
        self.bad(2, "run", "m.gguf", "--greedy=1", said="takes no value")

    def test_arguments(self):
        self.bad(2, "run", said="something is missing")
        self.bad(2, "run", "m.gguf", "--tools", "t.json", said="needs a prompt")
        self.bad(2, "run", "m.gguf", "-p", "x", "--tool-choice", "auto", said="needs --tools")
        self.bad(2, "run", "a", "b", said="'b' is too much")
        self.bad(2, "logits", "m.gguf", "-p", "x", "--tokens", "1", said="at once")
        for wrong in ("", "1,", ",1", "1;2", "-1", "1 2", "99999999999"):
            self.bad(2, "logits", "m.gguf", "--tokens=" + wrong, said="no list of numbers")
        self.bad(2, "perplexity", "m.gguf", said="something is missing")
        self.bad(2, "perplexity", "m.gguf", "f", "-c", "1", said="--context")
        self.bad(2, "kld", "m.gguf", "p.gguf", said="something is missing")
        self.bad(2, "imatrix", "m.gguf", "-o", "i.gguf", said="something is missing")
        self.bad(2, "imatrix", "m.gguf", "t.txt", said="-o FILE is missing")
        self.bad(2, "imatrix", "m.gguf", "t.txt", "-o", "i.gguf", "--json", said="unknown option")
        self.bad(1, "imatrix", "m.gguf", "t.txt", "-o", self.dir + "/none/i.gguf", said="none")
        self.bad(2, "ingest", "docs", said="--db FILE is missing")
        self.bad(2, "agent", "--db", self.db, said="question or --resume")
        self.bad(2, "agent", "--db", self.db, "--resume", "What?", said="question or --resume")
        self.bad(2, "agent", "--db", self.db, "--run", "3", "What?", said="--resume")
        self.bad(2, "forget", "--db", self.good("remember", "--db", self.db, "A.") and self.db, "x", said="no number")


class Files(Case):
    def test_missing(self):
        for args in (["run"], ["inspect"], ["bench"]):
            self.bad(1, *args, self.dir + "/none.gguf", said="none.gguf")
        self.bad(1, "tokenize", self.dir + "/none.gguf", "x", said="none.gguf")
        self.bad(1, "search", "--db", self.dir + "/none.db", "x", said="none.db")
        self.bad(1, "ingest", "--db", self.db, self.dir + "/none", said="none")

    def test_malformed(self):
        for content in (b"", b"GGUF", b"GGUF" + bytes(100), os.urandom(1000)):
            path = self.file("bad.gguf", content)
            self.bad(1, "run", path, said="bad.gguf")
            self.bad(1, "inspect", path, said="bad.gguf")
        path = self.file("bad.db", b"this is no database, only some text" * 100)
        self.bad(1, "search", "--db", path, "x", said="bad.db")

    @needs_model
    def test_truncated(self):
        with open(MODEL, "rb") as file:
            whole = file.read()
        for share in (0.01, 0.3, 0.9):
            path = self.file("cut.gguf", whole[:int(len(whole) * share)])
            self.bad(1, "run", path, said="cut.gguf")


class Run(Case):
    @needs_stories
    def test_golden(self):
        with open(os.path.join(STORIES, "expected_greedy_200steps.txt"), "rb") as file:
            expected = file.read()
        for threads in ("1", "2"):
            out, err = self.good("run", STORIES + "/stories260K.gguf", "--greedy", "-n", "200", "--threads", threads)
            self.assertEqual(out, expected)
            self.assertEqual(err, "")

    @needs_model
    def test_only_text_on_stdout(self):
        args = ["run", MODEL, "-p", "Once upon", "-n", "20", "--temp", "1", "--top-k", "40", "--min-p", "0.01", "--seed",
                "7"]
        out, err = self.good(*args)
        self.assertEqual(err, "")
        again, err = self.good(*args, "--stats")
        self.assertEqual(again, out)
        self.assertRegex(err, r"generated \d+ tokens, [\d.]+ tokens/s")

    @needs_model
    def test_penalties(self):
        args = ["run", MODEL, "-p", "Once upon", "-n", "60", "--temp", "1", "--seed", "7"]
        plain, _ = self.good(*args)
        self.assertEqual(self.good(*args, "--repeat-penalty", "1")[0], plain)
        for option, value in (("repeat", "50"), ("presence", "2"), ("frequency", "2")):
            self.assertNotEqual(self.good(*args, "--%s-penalty" % option, value)[0], plain, option)
        self.assertEqual(self.good(*args, "--repeat-penalty", "50", "--repeat-last-n", "0")[0], plain)
        self.bad(2, "run", MODEL, "--presence-penalty", "2.5", said="presence-penalty")

    @needs_model
    def test_logit_bias(self):
        said = self.good("run", MODEL, "-p", "Once upon", "-n", "3", "--greedy", "--logit-bias", '{"300": 100}')[0]
        self.assertTrue(said)
        self.assertEqual(said[:len(said) // 3] * 3, said)
        self.bad(1, "run", MODEL, "--logit-bias", '{"a": 1}', said="logit_bias")

    @needs_model
    def test_packed(self):
        model = os.path.join(self.dir, "model.gguf")
        shutil.copyfile(MODEL, model)
        args = ["run", model, "-p", "Once upon", "-n", "20", "--greedy"]
        plain, _ = self.good(*args)
        self.assertEqual(os.listdir(self.dir), ["model.gguf"])
        for option, name in (("--packed", "model.gguf.packed"), ("--packed=" + self.dir + "/other", "other")):
            for _ in range(2):
                out, err = self.good(*args, option)
                self.assertEqual((out, err), (plain, ""))
            self.assertTrue(os.path.exists(os.path.join(self.dir, name)))
        out, err = self.good(*args, "--packed=" + model)
        self.assertEqual(out, plain)
        self.assertIn("this is no file of packed weights", err)

    @needs_model
    def test_bf16_activations(self):
        model = os.path.join(self.dir, "bf16.gguf")
        text = os.path.join(self.dir, "text")
        with open(text, "w", encoding="ascii") as file:
            file.write("Once upon a time there was a little girl. " * 80)
        self.good("quantize", MODEL, model, "BF16")
        out, err = self.good("run", model, "-p", "Once upon", "-n", "8", "--greedy", "--bf16-activations")
        self.assertTrue(out and not err)
        said = json.loads(self.good("kld", model, model, text, "--chunks", "1", "--bf16-activations", "--json")[0])
        self.assertLess(abs(said["mean_kld"]), 1e-2)

    @needs_model
    def test_reader_goes_away(self):
        run = subprocess.Popen([AIINFRA, "run", MODEL, "-p", "a", "--temp", "1"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
        run.stdout.read(1)
        run.stdout.close()
        self.assertEqual(run.wait(60), 1)
        run.stderr.close()

    @needs_stories
    def test_interrupt(self):
        run = subprocess.Popen([AIINFRA, "run", STORIES + "/stories260K.gguf", "--temp", "1", "-p", "Lily"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        run.stdout.read(1)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
        if run.returncode != 0:  # it may have ended before the signal came
            self.assertEqual(run.returncode, 1)
            self.assertIn(b"interrupted", err)

    @needs_model
    def test_inspect(self):
        self.assertIn("architecture", json.loads(self.good("inspect", MODEL)[0]))
        self.assertEqual(self.good("inspect", "--compact", MODEL)[0].count(b"\n"), 1)

    @needs_model
    def test_tokenize(self):
        ids = [int(word) for word in self.good("tokenize", "--ids", MODEL, "One two.")[0].split()]
        lines = self.good("tokenize", MODEL, "One two.")[0].decode().splitlines()
        self.assertEqual([int(line.split()[0]) for line in lines], ids)
        tokens = json.loads(self.good("tokenize", "--json", MODEL, "One two.")[0])
        self.assertEqual([token["id"] for token in tokens], ids)
        self.assertEqual("".join(token["text"] for token in tokens).strip(), "One two.")
        half = json.loads(self.good("tokenize", "--json", MODEL, "\U0001f9ff")[0])
        pieces = [bytes(token["bytes"]) if token["text"] is None else token["text"].encode() for token in half]
        self.assertEqual(b"".join(pieces).strip(), "\U0001f9ff".encode())

    @needs_nano
    def test_template(self):
        messages = self.file("messages.json", b'[{"role": "user", "content": "How are you?"}]')
        tools = self.file("tools.json", b'[{"type": "function", "function": {"name": "look_up", "parameters": {}}}]')
        out, err = self.good("template", NANO, messages)
        self.assertIn(b"How are you?", out)
        self.assertEqual(err, "")
        closed = self.good("template", NANO, messages, "--no-generation-prompt")[0]
        self.assertTrue(out.startswith(closed) and len(out) > len(closed))
        self.assertIn(b"look_up", self.good("template", NANO, messages, "--tools", tools)[0])
        with open(messages, "rb") as file:
            self.assertEqual(self.good("template", NANO, "-", stdin=file)[0], out)
        self.bad(1, "template", NANO, self.dir + "/none.json", said="none.json")
        self.bad(1, "template", NANO, self.file("bad.json", b"[{"), said="template")

    @needs_model
    def test_bench(self):
        out, _ = self.good("bench", MODEL, "--pp", "16", "--tg", "8", "-r", "1", "--json")
        figures = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([f["test"] for f in figures], ["pp", "tg"])
        self.assertTrue(all(f["tokens_per_second"] > 0 for f in figures))
        out, _ = self.good("bench", MODEL, "--pp", "0", "--tg", "4", "--depth", "40", "-s", "3", "-r", "1", "--json")
        figure = json.loads(out)
        self.assertEqual([figure[key] for key in ("tokens", "depth", "sequences")], [4, 40, 3])
        self.assertGreater(figure["tokens_per_second"], 0)

    @needs_model
    def test_bench_asked_line_by_line(self):
        with open(self.file("tests", b"pp 8\ntg 4\ntg 4 20 2\n"), "rb") as file:
            first, *figures = map(json.loads, self.good("bench", MODEL, "--stdin", stdin=file)[0].splitlines())
        self.assertGreater(first["load_seconds"], 0)
        self.assertGreater(first["weight_bytes"], 0)
        self.assertIn("isa", first["runtime"])
        self.assertEqual([(f["test"], f["tokens"], f["depth"], f["sequences"]) for f in figures],
                         [("pp", 8, 0, 1), ("tg", 4, 0, 1), ("tg", 4, 20, 2)])
        self.assertTrue(all(f["tokens_per_second"] > 0 for f in figures))
        with open(self.file("none", b""), "rb") as file:
            asked = json.loads(self.good("bench", MODEL, "--stdin", "--isa", "ref", stdin=file)[0])
        self.assertEqual(asked["runtime"]["isa"], "ref")
        self.bad(2, "bench", MODEL, "--isa", "mmx", said="mmx")
        for line in (b"pp", b"tg 0", b"pp 4 4", b"tg 4 -1", b"tg 4 0 257", b"x"):
            with open(self.file("bad", line + b"\n"), "rb") as file:
                code, out, err = call("bench", MODEL, "--stdin", stdin=file)
            self.assertEqual((code, out.count(b"\n")), (2, 1))
            self.assertIn("is no test", err)


class Look(Case):
    """logits, perplexity and kld, checked against each other."""

    def logprobs(self, model, tokens):
        out, err = self.good("logits", model, "--tokens", ",".join(map(str, tokens)), "--all", "--top", "0", "--json")
        self.assertEqual(err, "")
        rows = json.loads(out)
        self.assertEqual([(row["position"], row["token"]) for row in rows], list(enumerate(tokens)))
        return [{entry["id"]: entry["logprob"] for entry in row["top"]} for row in rows]

    @needs_nano
    def test_run_calls_a_tool(self):
        tools = self.file("tools.json", json.dumps([{"type": "function", "function": {
            "name": "pick", "parameters": {"type": "object", "properties": {"side": {"enum": ["left", "right"]}},
                                           "required": ["side"], "additionalProperties": False}}}]).encode())
        out, _ = self.good("run", NANO, "-p", "Which?", "--tools", tools, "--tool-choice", "pick", "--greedy", "-n", "60")
        call = json.loads(out)[0]["function"]
        self.assertEqual(call["name"], "pick")
        self.assertIn(json.loads(call["arguments"])["side"], ("left", "right"))

    @needs_model
    def test_logits(self):
        for row in self.logprobs(MODEL, [1, 20, 30]):
            self.assertAlmostEqual(sum(math.exp(value) for value in row.values()), 1, places=5)
        out, err = self.good("logits", MODEL, "-p", "One two", "--top", "3")
        lines = [line.split(None, 3) for line in out.decode().splitlines()]
        self.assertEqual(err, "")
        self.assertEqual(len(lines), 3)
        self.assertEqual(sorted((float(line[1]) for line in lines), reverse=True), [float(line[1]) for line in lines])
        top = json.loads(self.good("logits", MODEL, "-p", "One two", "--top", "3", "--json")[0])
        self.assertEqual([entry["id"] for entry in top[0]["top"]], [int(line[0]) for line in lines])
        text, _ = self.good("run", MODEL, "-p", "One two", "--greedy", "-n", "1")
        self.assertEqual(text.decode().strip(), (top[0]["top"][0]["text"] or "").strip())
        self.bad(1, "logits", MODEL, "--tokens", "99999999", said="vocabulary")
        self.bad(1, "logits", MODEL, "--tokens", ",".join(["1"] * 50000), said="context")

    def text(self):
        words = "Once upon a time there was a little dog. He liked to play with a red ball in the park all day. "
        return self.file("text.txt", (words * 3).encode())

    def tokens(self, model, path):
        with open(path, encoding="utf-8") as file:
            return [int(word) for word in self.good("tokenize", "--ids", "--bos", model, file.read())[0].split()]

    @needs_stories
    def test_perplexity(self):
        model, path, context = STORIES + "/stories260K.gguf", self.text(), 24
        tokens = self.tokens(model, path)
        for from_start in (False, True):
            nll = []
            for at in range(0, len(tokens), context):
                window = tokens[at:at + context]
                if not from_start and len(window) < context:
                    break
                if not from_start:
                    window[0] = tokens[0]
                rows = self.logprobs(model, window)
                first = 0 if from_start else context // 2
                nll += [-rows[i][window[i + 1]] for i in range(first, len(window) - 1)]
            options = ["--context", str(context), "--json"] + ["--from-start"] * from_start
            out, err = self.good("perplexity", model, path, *options)
            figures = json.loads(out)
            self.assertEqual(err, "")
            self.assertEqual(figures["scored"], len(nll))
            self.assertAlmostEqual(figures["nll"], sum(nll) / len(nll), places=6)
            self.assertAlmostEqual(figures["perplexity"], math.exp(sum(nll) / len(nll)), places=4)
        one = json.loads(self.good("perplexity", model, path, "--context", "24", "--chunks", "1", "--json")[0])
        self.assertEqual((one["windows"], one["scored"]), (1, 11))
        self.assertRegex(self.good("perplexity", model, path, "-c", "24")[0], rb"^perplexity [\d.]+ \+- [\d.]+ \(\d+ tok")
        self.bad(1, "perplexity", model, path, said="smaller --context")
        self.bad(1, "perplexity", model, path, "-c", "1000000", said="the model's context")
        self.bad(1, "perplexity", model, self.dir + "/none.txt", said="none.txt")

    @needs_nano
    def test_special(self):
        path = self.file("chat.txt", b"<|im_start|>user\nHello<|im_end|>\n" * 8)
        plain, special = (json.loads(self.good("perplexity", NANO, path, "-c", "16", "--json", *option)[0])
                          for option in ([], ["--special"]))
        self.assertLess(special["windows"], plain["windows"])

    @needs_stories
    def test_kld(self):
        model, path, context = STORIES + "/stories260K.gguf", self.text(), 24
        same = json.loads(self.good("kld", model, model, path, "-c", "24", "--json")[0])
        self.assertEqual((same["max_kld"], same["same_top"], same["perplexity_ratio"]), (0, 1, 1))
        with open(model, "rb") as file:
            content = bytearray(file.read())
        for at in range(len(content) - 40000, len(content), 4):  # the last weights of the file, which are F32
            struct.pack_into("<f", content, at, struct.unpack_from("<f", content, at)[0] * 1.2)
        moved = self.file("moved.gguf", bytes(content))
        tokens, klds, top = self.tokens(model, path), [], 0
        for at in range(0, len(tokens) - context + 1, context):
            window = [tokens[0]] + tokens[at + 1:at + context]
            pairs = list(zip(self.logprobs(model, window), self.logprobs(moved, window)))[context // 2:-1]
            klds += [sum(math.exp(p[t]) * (p[t] - q[t]) for t in p) for p, q in pairs]
            top += sum(max(p, key=p.get) == max(q, key=q.get) for p, q in pairs)
        out, err = self.good("kld", moved, model, path, "-c", "24", "--json")
        figures = json.loads(out)
        self.assertEqual(err, "")
        self.assertEqual(figures["scored"], len(klds))
        self.assertGreater(figures["mean_kld"], 0)
        self.assertAlmostEqual(figures["mean_kld"], sum(klds) / len(klds), places=6)
        self.assertAlmostEqual(figures["max_kld"], max(klds), places=5)
        self.assertAlmostEqual(figures["same_top"], top / len(klds))
        self.assertTrue(figures["median_kld"] <= figures["p99_kld"] <= figures["max_kld"])
        self.assertAlmostEqual(figures["perplexity_ratio"], figures["perplexity"] / figures["parent_perplexity"])
        self.assertRegex(self.good("kld", moved, model, path, "-c", "24")[0].decode(), r"^mean divergence +0\.\d+")
        if os.path.exists(NANO):
            self.bad(1, "kld", model, NANO, path, said="cannot be compared")

    @needs_nano
    def test_kv_type(self):
        """A cache of Q8_0 moves a model a little, and only the first of the two."""
        moved = json.loads(self.good("kld", NANO, NANO, self.text(), "-c", "24", "--kv-type", "q8_0", "--json")[0])
        self.assertGreater(moved["mean_kld"], 0)
        self.assertLess(moved["mean_kld"], 0.05)
        self.assertLess(abs(moved["perplexity_ratio"] - 1), 0.05)
        self.bad(2, "run", NANO, "--kv-type", "q9", said="f32, f16 or q8_0")

    @needs_nano
    def test_second_tier(self):
        words = ["run", NANO, "-p", "Once", "-n", "4", "--greedy"]
        plain = self.good(*words)[0]
        self.assertEqual(self.good(*words, "--kv-size", "4", "--kv-spill", "2")[0], plain)
        self.assertEqual(self.good(*words, "--kv-spill", "2", "--kv-spill-dir", self.dir)[0], plain)
        self.bad(1, *words, "--kv-spill", "2", "--kv-spill-dir", self.dir + "/none", said="second tier")
        self.bad(1, *words, "--kv-spill-dir", self.dir, said="spill_bytes")

    @needs_nano
    def test_kv_file(self):
        """The second process finds the prompt of the first; a damaged file is told and made anew."""
        path = os.path.join(self.dir, "cache.kv")
        words = ["run", NANO, "-p", "word " * 40, "-n", "4", "--greedy", "--stats", "--kv-file", path]
        first, stats = self.good(*words)
        self.assertIn(", 0 of them cached", stats)
        again, stats = self.good(*words)
        self.assertEqual(again, first)
        self.assertRegex(stats, r", [1-9]\d* of them cached")
        with open(path, "r+b") as file:
            file.seek(3000)
            file.write(b"damage")
        third, stats = self.good(*words)
        self.assertEqual(third, first)
        self.assertIn("damaged", stats)
        self.assertNotIn("damaged", self.good(*words)[1])

    @needs_stories
    def test_kv_type_that_does_not_fit(self):
        self.bad(1, "run", STORIES + "/stories260K.gguf", "--kv-type", "q8_0", said="multiples of 32")


class Smaller(Case):
    """An importance matrix, and a model that was quantised with it."""

    @needs_nano
    def test_imatrix(self):
        sentences = b"The default port of the server is 8080. A full queue returns an error. My cat is called Miso. What is 12 * 12? "
        text = self.file("text.txt", sentences * 30)  # such as nano was trained on
        matrix, plain, better = (os.path.join(self.dir, name) for name in ("i.gguf", "plain.gguf", "better.gguf"))
        out, err = self.good("imatrix", NANO, text, "-o", matrix, "-c", "64", "--chunks", "4")
        self.assertEqual(out.decode(), "%s: 4 windows of 64 tokens\n" % matrix)
        self.assertEqual(err, "")
        with open(matrix, "rb") as file:
            self.assertEqual(file.read(4), b"GGUF")
        self.good("quantize", NANO, plain, "Q4_0")
        self.good("quantize", NANO, better, "Q4_0", "--imatrix", matrix)
        with open(plain, "rb") as one, open(better, "rb") as other:
            self.assertNotEqual(one.read(), other.read())
        moved = [json.loads(self.good("kld", model, NANO, text, "-c", "64", "--chunks", "4", "--json")[0])["mean_kld"]
                 for model in (plain, better)]
        self.assertLess(moved[1], moved[0])
        self.bad(1, "imatrix", NANO, text, "-o", matrix, "-c", "1000000", said="the model's context")
        self.bad(1, "imatrix", NANO, self.dir + "/none.txt", "-o", matrix, said="none.txt")
        self.bad(1, "imatrix", self.dir + "/none.gguf", text, "-o", matrix, said="none.gguf")


class Memory(Case):
    def test_documents(self):
        path = self.file("boats.md", b"# Boats\n\nThe red boat belongs to Ann.\n")
        self.assertIn(b"1 files", self.good("ingest", "--db", self.db, path)[0])
        self.assertIn(b"1 files unchanged", self.good("ingest", "--db", self.db, path)[0])
        out, err = self.good("search", "--db", self.db, "Who owns the red boat?")
        self.assertIn(b"belongs to Ann", out)
        self.assertIn(b"boats.md", out)
        self.assertEqual(err, "")
        hits = json.loads(self.good("search", "--db", self.db, "--json", "boat")[0])
        self.assertEqual(hits[0]["kind"], "passage")

    @needs_model
    def test_ingest_options(self):
        self.file("a.html", b"<h1>House</h1><p>The key is <b>under</b> the mat.")
        self.file("b.png", b"\x89PNG\0\0")
        out, err = self.good("ingest", "--db", self.db, self.dir + "/a.html", self.dir + "/b.png")
        self.assertIn(b"1 files", out)
        self.assertIn("b.png: it is a PNG image, not text", err)
        self.assertIn(b"The key is under the mat.", self.good("search", "--db", self.db, "key")[0])
        path = self.file("c.txt", b"one two three four five six seven eight nine")
        options = ["--chunking", "tokens", "--words", "--size", "4", "--overlap", "2", "--json"]
        report = json.loads(self.good("ingest", "--db", self.db, path, *options)[0])
        self.assertEqual((report["passages"], report["problems"]), (4, []))
        report = json.loads(self.good("ingest", "--db", self.db, path, "--tokenizer", MODEL, "--json")[0])
        self.assertEqual((report["passages"], report["removed"]), (1, 4))
        os.unlink(path)
        self.assertIn(b"1 gone", self.good("ingest", "--db", self.db, path)[0])
        self.bad(1, "ingest", "--db", self.db, path, said="c.txt")
        self.bad(2, "ingest", "--db", self.db, path, "--chunking", "pages", said="sentences")
        self.bad(2, "ingest", "--db", self.db, path, "--words", "--tokenizer", "x.gguf", said="exclude")

    @needs_model
    def test_pack(self):
        path = self.file("boats.md", b"# Boats\n\nThe red boat belongs to Ann.\n")
        self.good("ingest", "--db", self.db, path)
        search = ["search", "--db", self.db, "red boat", "--pack", "100"]
        out, err = self.good(*search)
        self.assertIn(b"boats.md > Boats\nThe red boat belongs to Ann.", out)
        self.assertIn("boats.md, bytes 9 to 37", err)
        packed = json.loads(self.good(*search, "--tokenizer", MODEL, "--json")[0])
        self.assertEqual([(s["begin"], s["end"]) for s in packed["sources"]], [(9, 37)])
        self.bad(1, *search, "--rerank", MODEL, said="no reranker")
        self.bad(2, "search", "--db", self.db, "boat", "--rerank", MODEL, said="--pack")

    @needs_model
    def test_migrate(self):
        path = self.file("boats.md", b"# Boats\n\nThe red boat belongs to Ann.\n")
        self.good("ingest", "--db", self.db, path)
        search = ["search", "--db", self.db, "red boat", "--explain", "--json"]
        self.bad(1, *search, "--embedder", MODEL, said="migrate first")
        report = json.loads(self.good("migrate", "--db", self.db, "--embedder", MODEL)[0])
        self.assertEqual(report["embedded"], 1)
        out, err = self.good(*search, "--embedder", MODEL)
        self.assertEqual(len(json.loads(out)), 1)
        self.assertEqual(json.loads(err)["embedder"], report["embedder"])
        self.assertIsNone(json.loads(self.good(*search)[1])["embedder"])
        self.assertIsNone(json.loads(self.good("migrate", "--db", self.db, "--built-in")[0])["embedder"])
        self.bad(2, "migrate", "--db", self.db, said="--embedder")

    def test_facts(self):
        number = self.good("remember", "--db", self.db, "My cat is called Miso.")[0].decode().strip()
        self.assertIn(b"Miso", self.good("search", "--db", self.db, "cat")[0])
        self.good("forget", "--db", self.db, "#" + number)
        self.assertNotIn(b"Miso", self.good("search", "--db", self.db, "cat")[0])
        self.bad(1, "forget", "--db", self.db, number)

    def test_search_filters(self):
        path = self.file("boats.md", b"# Boats\n\nThe red boat belongs to Ann.\n")
        self.good("ingest", "--db", self.db, path)
        self.good("memory", "remember", "--db", self.db, "The blue boat is Bob's.", "--source", "Bob")
        search = ["search", "--db", self.db, "--json", "red boat"]
        all_found = json.loads(self.good(*search)[0])
        self.assertEqual(len(all_found), 2)
        for one in all_found:
            kept = json.loads(self.good(*search, "--filter", json.dumps({"source": one["source"]}))[0])
            self.assertEqual(kept, [one])
        kept = json.loads(self.good(*search, "--filter=" + json.dumps({"metadata.headings": "Boats"}))[0])
        self.assertEqual([one["kind"] for one in kept], ["passage"])
        self.assertIn("nothing found", self.good("search", "--db", self.db, "--filter", '{"source": "x"}', "boat")[1])
        self.bad(1, *search, "--filter", '{"must": [{"key": "kind", "match": {"near": 1}}]}', said="must[0].match.near")
        self.bad(1, *search, "--filter", "{", said="filter")
        self.bad(2, *search, "--filter", said="needs a value: JSON")

    def collection(self, name, rows):
        """Writes a collection of two dimensions as a program does: rows of id, vector, text and payload."""
        class Opts(ctypes.Structure):
            _fields_ = [("struct_size", ctypes.c_size_t), ("dims", ctypes.c_uint32), ("rest", ctypes.c_uint8 * 60)]

        class Record(ctypes.Structure):
            _fields_ = [("id", ctypes.c_int64), ("vector", ctypes.POINTER(ctypes.c_float)), ("text", ctypes.c_char_p),
                        ("payload", ctypes.c_char_p)]
        lib = ctypes.CDLL(os.path.join(os.path.dirname(AIINFRA), "libaiinfra.so"))
        rt, db, store = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self.assertEqual(lib.aiinfra_runtime_create(None, ctypes.byref(rt), None), 0)
        self.assertEqual(lib.aiinfra_db_open(rt, self.db.encode(), None, ctypes.byref(db), None), 0)
        opts = Opts(ctypes.sizeof(Opts), 2)
        self.assertEqual(lib.aiinfra_vecstore_open(db, name.encode(), ctypes.byref(opts), ctypes.byref(store), None), 0)
        for number, vector, text, payload in rows:
            record = Record(number, (ctypes.c_float * 2)(*vector), text.encode(), json.dumps(payload).encode())
            self.assertEqual(lib.aiinfra_vecstore_upsert(store, ctypes.byref(record), ctypes.c_size_t(1), None), 0)
        lib.aiinfra_vecstore_free(store)
        lib.aiinfra_db_free(db)
        lib.aiinfra_runtime_free(rt)

    def test_query(self):
        self.collection("boats", [(1, (1, 0), "red boat", {"n": 3}), (2, (0, 1), "blue boat", {"n": 5})])
        query = ["query", "--db", self.db, "--collection", "boats"]
        request = {"prefetch": [{"vector": [1, 0]}, {"text": "blue"}], "with_payload": True,
                   "query": {"formula": {"sum": ["$score[0]", {"mult": ["n", 0.5]}]}}}
        hits = json.loads(self.good(*query, json.dumps(request))[0])["hits"]
        self.assertEqual([(hit["id"], round(hit["score"], 6), hit["payload"]) for hit in hits],
                         [(1, 2.5, {"n": 3}), (2, 2.5, {"n": 5})])
        self.assertEqual(json.loads(self.good(*query, "--read", '{"count": {}}')[0]), {"count": 2})
        self.bad(1, *query, '{"near": 1}', said="there is no member 'near'")
        self.bad(1, "query", "--db", self.db, "--collection", "trains", "{}", said="trains")
        self.bad(1, "query", "--db", self.db + "x", "--collection", "boats", "{}", said="a.dbx")
        self.bad(2, "query", "--db", self.db, "{}", said="--collection")
        self.bad(2, "query", "--collection", "boats", "{}", said="--db FILE is missing")

    def test_search_modes(self):
        for text in ("We saw boats.", "Trains run at night."):
            self.good("remember", "--db", self.db, text)
        search = ["search", "--db", self.db, "--json", "boats"]
        words = json.loads(self.good(*search, "--words-only")[0])
        self.assertEqual([(one["text"], one["vector_score"]) for one in words], [("We saw boats.", None)])
        vectors = json.loads(self.good(*search, "--vector-only")[0])
        self.assertEqual([one["text_score"] for one in vectors], [None, None])
        self.bad(2, *search, "--words-only", "--vector-only", said="exclude each other")
        out, err = self.good(*search, "--explain", "--words-only")
        self.assertEqual(json.loads(out), words)
        story = json.loads(err)
        self.assertEqual(story["mode"], "words")
        self.assertEqual(story["searches"][0]["query"]["plan"], "words")
        self.assertEqual(json.loads(self.good(*search, "--explain")[1])["searches"][0]["found"], 2)

    def test_scopes(self):
        self.good("remember", "--db", self.db, "--scope", "ann", "My cat is called Miso.")
        self.assertNotIn(b"Miso", self.good("search", "--db", self.db, "cat")[0])
        self.assertIn(b"Miso", self.good("search", "--db", self.db, "--scope", "ann", "cat")[0])


    def memory(self, action, *more):
        return self.good("memory", action, "--db", self.db, *more)[0].decode()

    def lines(self, action, *more):
        return [json.loads(line) for line in self.memory(action, *more).splitlines()]

    def test_facts_in_time(self):
        first = self.lines("remember", "I live in Porto.", "--source", "Ann", "--trust", "0.9", "--valid-from", "1000")[0]
        self.assertEqual(first["outcome"], "new")
        self.assertEqual(self.lines("remember", "i live in  porto."), [dict(first, outcome="same")])
        self.assertEqual(self.lines("remember", "I live in Porto"), [dict(first, outcome="near")])
        self.assertEqual(self.lines("remember", "I do not live in Porto")[0]["outcome"], "new")
        second = self.memory("supersede", "#%d" % first["id"], "I live in Faro.", "--valid-from", "2000").strip()
        third = self.memory("revise", second, "I live in Lagos.").strip()
        self.assertEqual([v["text"] for v in self.lines("history", second)],
                         ["I live in Porto.", "I live in Faro.", "I live in Lagos."])
        self.assertEqual(self.lines("history", third)[0]["source"], "Ann")
        self.assertIn("I live in Lagos.", [f["text"] for f in self.lines("list")])
        self.assertEqual([f["text"] for f in self.lines("list", "--as-of", "1500")], ["I live in Porto."])
        self.assertEqual(len(self.lines("list", "--all")), 4)
        hit = self.lines("recall", "Where do I live?", "-k", "1", "--as-of", "1500")[0]
        self.assertEqual(hit["text"], "I live in Porto.")
        self.assertAlmostEqual(hit["trust"], 0.9, 5)
        self.memory("forget", third)
        self.bad(1, "memory", "history", "--db", self.db, second, said="forgotten at")
        with open(self.db, "rb") as file:
            self.assertNotIn(b"Faro", file.read())

    def test_moving(self):
        self.memory("remember", "My cat is called Miso.", "--user", "ann")
        lines = self.memory("export", "--user", "ann")
        self.assertEqual(self.memory("export", "--user", "bob"), "")
        path = self.file("a.jsonl", lines.encode())
        self.assertEqual(self.memory("import", "--user", "bob", path), "1 new\n")
        self.assertEqual(self.memory("import", "--user", "bob", path), "0 new\n")
        self.assertEqual(len(self.lines("list", "--user", "bob")), 1)
        self.memory("forget", "--everything", "--user", "ann")
        self.assertEqual(self.lines("list", "--user", "ann"), [])
        self.assertEqual(len(self.lines("list", "--user", "bob")), 1)

    def test_memory_care(self):
        self.memory("remember", "I live in Porto.", "--valid-from", "1000")
        self.memory("remember", "I live in Faro.", "--valid-from", "2000")
        done = json.loads(self.memory("consolidate", "--dry-run"))
        self.assertEqual((done["superseded"], done["changes"][0]["text"]), (1, "I live in Porto."))
        self.assertEqual(json.loads(self.memory("consolidate"))["superseded"], 1)
        self.assertEqual([fact["text"] for fact in self.lines("list")], ["I live in Faro."])
        blocks = self.lines("block", "user", "Likes tea.", "--limit", "30", "--description", "Whom we talk to")
        self.assertEqual((blocks[0]["text"], blocks[0]["limit_bytes"]), ("Likes tea.", 30))
        self.assertEqual(self.lines("block", "user", "coffee", "--find", "tea")[0]["text"], "Likes coffee.")
        self.bad(1, "memory", "block", "--db", self.db, "user", "Much more than thirty bytes.", "--add",
                 said="may have 30")
        self.assertEqual(self.memory("summarise", "nobody"), "")
        exported = self.memory("export")
        self.assertIn('"limit_bytes":30', exported)
        self.assertEqual(self.memory("block", "user", ""), "")

    def test_memory_mistakes(self):
        self.bad(2, "memory", "rember", said="did you mean 'remember'?")
        self.bad(2, "memory", "remember", "x", said="--db FILE is missing")
        self.bad(2, "memory", said="usage")
        self.bad(1, "memory", "list", "--db", self.db, said="does not exist")
        self.memory("remember", "x")
        self.bad(2, "memory", "history", "--db", self.db, "x", said="no number")
        self.bad(2, "memory", "forget", "--db", self.db, said="nothing is named")
        self.bad(1, "memory", "revise", "--db", self.db, "99", "y", said="no fact")
        self.bad(1, "memory", "remember", "--db", self.db, "y", "--metadata", "3", said="expected an object")
        self.bad(1, "memory", "import", "--db", self.db, self.file("b.jsonl", b"{}\n"), said="line 1")
        self.assertIn(b"--trust", self.good("memory", "remember", "--help")[0])

    def test_db(self):
        self.memory("remember", "The sky is blue.")
        copy = self.db + ".copy"
        self.assertEqual(self.good("db", "check", self.db)[0], b"ok\n")
        self.assertEqual(json.loads(self.good("db", "check", "--json", self.db)[0]), {"ok": True})
        self.assertEqual(self.good("db", "backup", self.db, copy)[0].decode(), copy + "\n")
        self.bad(1, "db", "backup", self.db, copy, said="exists already")
        self.bad(1, "db", "backup", self.db, self.dir + "/none/b.db", said="No such file")
        self.assertIn(b"The sky is blue.", self.good("memory", "list", "--db", copy)[0])
        stats = json.loads(self.good("db", "stats", "--json", copy)[0])
        self.assertEqual([t["rows"] for t in stats["tables"] if t["name"] == "items"], [1])
        self.assertIn(b"@memory/hash1/default", self.good("db", "stats", copy)[0])
        result = json.loads(self.good("db", "optimise", "--rewrite", "--json", copy)[0])
        self.assertEqual(result["bytes_after"], os.path.getsize(copy))
        self.assertIn(b"bytes, before", self.good("db", "optimise", copy)[0])
        self.assertEqual(sorted(os.listdir(self.dir)), ["a.db", "a.db.copy"])

    def test_import_and_export(self):
        rows = [(i, 0.5 * i, -1.0) for i in range(30)]
        packed = b"".join(struct.pack("<i2f", 2, x, y) for _, x, y in rows)
        vectors = self.file("a.fvecs", packed)
        self.assertEqual(self.good("import", self.db, "things", vectors, "--metric", "l2")[0], b"30 rows\n")
        out = json.loads(self.good("import", self.db, "things", vectors, "--first-id", "100", "--from", "10", "--rows",
                                   "5", "--json")[0])
        self.assertEqual(out, {"rows": 5, "next": 15})
        lines = os.path.join(self.dir, "b.jsonl")
        self.assertEqual(json.loads(self.good("export", self.db, "things", lines, "--json")[0]), {"rows": 35})
        with open(lines) as file:
            written = [json.loads(line) for line in file]
        self.assertEqual([row["id"] for row in written], list(range(30)) + list(range(110, 115)))
        self.assertEqual(written[30]["vector"], [5.0, -1.0])
        self.good("import", self.db, "again", lines)
        again = os.path.join(self.dir, "again")
        self.good("export", self.db, "again", again, "--format", "fvecs")
        with open(again, "rb") as file:
            self.assertEqual(file.read(), packed + packed[120:180])
        self.assertEqual(self.good("import", self.db, "again", lines, "--tenant", "ann", "--rows", "4")[0], b"4 rows\n")
        self.assertEqual(self.good("export", self.db, "again", lines, "--tenant", "ann")[0], b"4 rows\n")
        self.assertEqual(self.good("export", self.db, "again", lines, "--tenant", "bob")[0], b"0 rows\n")
        self.assertIn(b"\n  ann ", self.good("db", "stats", self.db)[0])
        self.assertEqual(self.good("db", "drop", self.db, "again", "--tenant", "ann")[0], b"4 rows\n")
        self.assertEqual(self.good("db", "drop", self.db, "things")[0], b"")
        self.bad(1, "db", "drop", self.db, "things", said="no such collection")
        self.assertEqual(self.good("db", "check", self.db)[0], b"ok\n")
        self.good("import", self.db, "again", vectors, "--first-id", "1000", "--ttl", "1000")
        self.good("export", self.db, "again", lines)
        with open(lines) as file:
            expires = [json.loads(line).get("expires_ms") for line in file]
        self.assertEqual(expires[:35], [None] * 35)
        self.assertAlmostEqual(expires[35] / 1000, time.time() + 1000, delta=60)
        broken = self.file("c.jsonl", b'{"vector":[1,2]}\n{"vector":[1,2]}\n{"vector":[1]}\n')
        err = self.bad(1, "import", self.db, "again", broken, "--batch", "2", said="line 3")
        self.assertIn("go on with --from 2", err)
        self.bad(2, "import", self.db, "again", broken, "--format", "csv", said="csv")
        self.bad(1, "export", self.db, "none", lines, said="no such collection")

    def test_db_failures(self):
        letter = self.file("letter.db", b"This is a letter, and not a database at all.")
        newer = self.file("newer.db", b"")
        base = sqlite3.connect(newer)
        base.executescript("PRAGMA application_id=0x61696931; CREATE TABLE x(y); PRAGMA user_version=999;")
        base.close()
        for action in ("check", "stats", "optimise"):
            if action != "check":
                self.bad(1, "db", action, "--json", letter, said="not a database")
            self.bad(1, "db", action, letter, said="not a database")
            self.bad(1, "db", action, newer, said="newer library")
            self.bad(1, "db", action, self.db, said="does not exist")
        code, out, err = call("db", "check", "--json", letter)
        self.assertEqual((code, err), (1, ""))
        found = json.loads(out)
        self.assertEqual((found["ok"], found["status"]), (False, "AIINFRA_EFORMAT"))
        self.assertIn("not a database", found["problem"])
        self.bad(2, "db", "chek", self.db, said="did you mean 'check'?")
        self.bad(2, "db", "check")
        self.bad(2, "db", "backup", self.db)
        self.bad(2, "db", said="usage")

    def test_cache(self):
        self.memory("remember", "x")
        stats = json.loads(self.good("cache", "stats", "--db", self.db)[0])
        self.assertEqual((stats["entries"], stats["hits_exact"], stats["gates"]["negation"]), (0, 0, 0))
        self.assertEqual(self.good("cache", "clear", "--db", self.db)[0], b"0 answers removed\n")
        self.bad(2, "cache", "state", "--db", self.db, said="none of stats, report and clear")
        self.bad(2, "cache", "stats", said="--db FILE is missing")
        self.bad(1, "cache", "stats", "--db", self.db + "x", said="does not exist")


class Agent(Case):
    def ask(self, question, *more):
        return self.good("agent", "--db", self.db, question, *more, env={"AIINFRA_MODEL": NANO})

    def test_no_model(self):
        code, out, err = call("agent", "--db", self.db, "Hi", env={"AIINFRA_MODEL": self.dir + "/none.gguf"})
        self.assertEqual((code, out), (1, b""))
        self.assertIn("none.gguf", err)

    @needs_nano
    def test_events(self):
        out, _ = self.ask("What is 12 * 12?", "--events")
        events = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([e["seq"] for e in events], list(range(1, len(events) + 1)))
        types = [e["type"] for e in events]
        self.assertEqual(types[0], "run_started")
        self.assertEqual(types[-1], "run_finished")
        answer = [e["text"] for e in events if e["type"] == "answer"]
        self.assertEqual(len(answer), 1)

    @needs_nano
    def test_answer(self):
        out, err = self.ask("Hello")
        self.assertTrue(out.endswith(b"\n"))
        self.assertGreater(len(out), 5)
        self.assertRegex(err, r"run 1: 1 steps, 0 tool calls; prompt \d+ tokens")
        self.assertRegex(err, r"recall [\d.]+ ms, queue")
        out, err = self.ask("Hello", "--quiet")
        self.assertEqual(err, "")

    @needs_nano
    def test_quote(self):
        document = os.path.join(self.dir, "pump.md")
        with open(document, "w") as f:
            f.write("The Zorblix pump drains the northern tank every 47 minutes. It was built in Quandel.\n")
        self.good("ingest", "--db", self.db, document)
        out, _ = self.ask("How often does the Zorblix pump drain the northern tank?", "--quote", "--quiet")
        self.assertEqual(out, b"The Zorblix pump drains the northern tank every 47 minutes. [1]\n")

    @needs_nano
    def test_resume(self):
        self.ask("Hello")
        code, out, err = call("agent", "--db", self.db, "--resume", env={"AIINFRA_MODEL": NANO})
        self.assertEqual((code, out), (1, b""))
        self.assertIn("no run was left unfinished", err)
        code, _, err = call("agent", "--db", self.db, "--resume", "--run", "77", env={"AIINFRA_MODEL": NANO})
        self.assertEqual(code, 1)
        self.assertIn("no run 77", err)
        code, _, err = call("agent", "--db", self.db, "--resume", "--run", "1", env={"AIINFRA_MODEL": NANO})
        self.assertEqual(code, 1)
        self.assertIn("run 1 has finished", err)

    @needs_nano
    def test_killed(self):
        resumed = 0
        for i in range(8):
            run = subprocess.Popen([AIINFRA, "agent", "--db", self.db, "What is %d * 7?" % (i + 11)],
                                   env=dict(os.environ, AIINFRA_MODEL=NANO), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
            time.sleep(0.03 + 0.05 * i)
            run.kill()
            run.wait()
            code, out, err = call("agent", "--db", self.db, "--resume", env={"AIINFRA_MODEL": NANO})
            if code != 0:  # killed before its run was in the journal, or the journal in the file; or after its end
                self.assertRegex(err, "no run was left unfinished|does not exist")
            else:
                resumed += 1
                self.assertGreater(len(out), 1)
        print("%d of 8 killed runs were resumed" % resumed)


class Serve(Case):
    @needs_model
    def test_serve(self):
        server = subprocess.Popen([AIINFRA, "serve", "--model", MODEL, "--port", "0"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        line = server.stderr.readline()
        if "no server" in line:
            server.communicate()
            self.skipTest("this build has no server")
        match = re.search(r"http://[\d.]+:\d+", line)
        self.assertTrue(match, line)
        with urllib.request.urlopen(match.group(0) + "/health", timeout=30) as answer:
            self.assertEqual(answer.status, 200)
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)
        self.assertEqual(server.returncode, 0)


class Reasons(unittest.TextTestResult):
    """The runner of all tests looks for lines "skipped: reason"."""

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print("skipped: %s: %s" % (test.id().split(".", 1)[1], reason), flush=True)


if __name__ == "__main__":
    if not os.path.exists(AIINFRA):
        print("skipped: the aiinfra program is not built")
        sys.exit(77)
    unittest.main(testRunner=unittest.TextTestRunner(resultclass=Reasons, verbosity=1))
