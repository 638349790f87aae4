"""The HTTP server from outside, with nothing but Python's standard library: every route, streams, errors, limits, a client
that leaves, eight clients at once, and a clean end."""
import base64
import concurrent.futures
import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.environ.get("AIINFRA_ROOT", ".")
AIINFRA = os.path.join(os.environ.get("AIINFRA_BUILD", "build"), "aiinfra")
NANO = os.path.join(ROOT, "examples/nano/nano.gguf")
STORIES = os.path.join(os.environ.get("AIINFRA_SHARED_DATA", "shared/data"), "models/stories260K/stories260K.gguf")
MODEL = next((path for path in (NANO, STORIES) if os.path.exists(path)), None)
MIB = 1 << 20


class Server:
    """The program on a free port; reads the port from what it says."""

    def __init__(self, *args, model=MODEL):
        self.process = subprocess.Popen([AIINFRA, "serve", "--model", model, "--name", "m", "--port", "0", *args],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.port = None
        while self.port is None:
            line = self.process.stderr.readline().decode()
            if not line:
                raise RuntimeError("the server did not start")
            found = re.search(r"http://[^:]+:(\d+)", line)
            self.port = int(found.group(1)) if found else None

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        said = self.process.stderr.read().decode()
        self.process.stderr.close()
        return self.process.returncode, said

    def ask(self, method, path, body=None, headers=None):
        """Status, headers (lower case), body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body).encode()
            given = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, body=body, headers=dict(given, **(headers or {})))
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path, **fields):
        status, _, body = self.ask("POST", path, fields)
        return status, json.loads(body)

    def stream(self, path, **fields):
        """The events of a stream as a list of objects; the last one must be [DONE]."""
        status, headers, body = self.ask("POST", path, dict(fields, stream=True))
        assert status == 200 and headers["content-type"] == "text/event-stream", (status, body)
        events = body.decode().split("\n\n")
        assert events[-1] == "" and events[-2] == "data: [DONE]", events[-3:]
        return [json.loads(event[len("data: "):]) for event in events[:-2]]

    def metric(self, name):
        text = self.ask("GET", "/metrics")[2].decode()
        return sum(float(value) for value in re.findall(r"^%s(?:\{.*\})? (\S+)$" % name, text, re.M))


def needs_template(case):
    return unittest.skipUnless(MODEL == NANO, "the model at hand has no chat template")(case)


class Pages(unittest.TestCase):
    def test_health_models_metrics(self):
        status, headers, body = server.ask("GET", "/health")
        self.assertEqual((status, json.loads(body)), (200, {"status": "ok"}))
        status, _, body = server.ask("GET", "/v1/models")
        models = json.loads(body)
        self.assertEqual((status, models["object"], models["data"][0]["id"]), (200, "list", "m"))
        self.assertEqual(models["data"][0]["object"], "model")
        self.assertIsInstance(models["data"][0]["created"], int)
        status, _, body = server.ask("GET", "/v1/models/m")
        self.assertEqual((status, json.loads(body)["id"]), (200, "m"))
        status, headers, body = server.ask("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertIn("version=0.0.4", headers["content-type"])
        self.assertIn(b"aiinfra_http_requests_total{", body)
        self.assertEqual(server.ask("HEAD", "/health")[0], 200)


class Completions(unittest.TestCase):
    ASK = dict(model="m", prompt="Once upon a time", max_tokens=24, temperature=0, ignore_eos=True)

    def test_answer(self):
        status, answer = server.post("/v1/completions", **self.ASK)
        self.assertEqual((status, answer["object"], answer["model"]), (200, "text_completion", "m"))
        choice, usage = answer["choices"][0], answer["usage"]
        self.assertTrue(choice["text"])
        self.assertEqual((choice["index"], choice["finish_reason"]), (0, "length"))
        self.assertEqual(usage["completion_tokens"], 24)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 24)
        self.assertIn("cached_tokens", usage["prompt_tokens_details"])

    def test_stream_is_the_same(self):
        _, answer = server.post("/v1/completions", **self.ASK)
        events = server.stream("/v1/completions", stream_options={"include_usage": True}, **self.ASK)
        text = "".join(e["choices"][0]["text"] for e in events if e["choices"])
        self.assertEqual(text, answer["choices"][0]["text"])
        self.assertEqual(events[-1]["choices"], [])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 24)
        self.assertTrue(all(e["usage"] is None for e in events[:-1]))
        self.assertEqual([e["choices"][0]["finish_reason"] for e in events[:-1]][-1], "length")
        self.assertEqual(len({e["id"] for e in events}), 1)
        self.assertNotIn("usage", server.stream("/v1/completions", **self.ASK)[0])

    def test_seed_and_stop(self):
        ask = dict(self.ASK, temperature=1, seed=0, top_p=0.9, top_k=40, min_p=0.01)
        first = server.post("/v1/completions", **ask)[1]["choices"][0]["text"]
        self.assertEqual(first, server.post("/v1/completions", **ask)[1]["choices"][0]["text"])
        whole = server.post("/v1/completions", **self.ASK)[1]["choices"][0]["text"]
        word = re.search(r"(?<=.)[A-Za-z]{2}", whole, re.S).group()
        for stop in (word, ["@@never@@", word]):
            choice = server.post("/v1/completions", stop=stop, **self.ASK)[1]["choices"][0]
            self.assertEqual((choice["text"], choice["finish_reason"]), (whole[:whole.index(word)], "stop"))
        self.assertTrue(server.post("/v1/completions", **dict(self.ASK, top_p=0, temperature=1))[0] == 200)

    def test_bias_and_penalties(self):
        def text(**more):
            return server.post("/v1/completions", **dict(self.ASK, **more))[1]["choices"][0]["text"]
        forced = text(logit_bias={"300": 100})
        self.assertTrue(forced)
        self.assertEqual(text(logit_bias={"300": 100}, max_tokens=12) * 2, forced)
        self.assertNotEqual(text(logit_bias={"300": 30}, frequency_penalty=2, presence_penalty=2), forced)
        self.assertNotEqual(text(repetition_penalty=100), text())
        self.assertEqual(text(repeat_penalty=100, repeat_last_n=0), text())
        status, answer = server.post("/v1/completions", **dict(self.ASK, logit_bias={"300": 101}))
        self.assertEqual(status, 400)
        self.assertIn("logit_bias", answer["error"]["message"])
        self.assertEqual("logit_bias", answer["error"]["param"])

    def test_eight_at_once(self):
        alone = server.post("/v1/completions", **self.ASK)[1]["choices"][0]["text"]

        def one(i):
            if i % 2:
                events = server.stream("/v1/completions", **self.ASK)
                return "".join(e["choices"][0]["text"] for e in events)
            return server.post("/v1/completions", **self.ASK)[1]["choices"][0]["text"]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(one, range(8))), [alone] * 8)

    def test_keep_alive(self):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for stream in (False, True, False):
            connection.request("POST", "/v1/completions", json.dumps(dict(self.ASK, max_tokens=2, stream=stream)),
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.read())
        connection.close()


class Chat(unittest.TestCase):
    ASK = dict(model="m", messages=[{"role": "user", "content": "What is the capital of France?"}], max_tokens=24,
               temperature=0)

    @needs_template
    def test_answer_and_stream(self):
        status, answer = server.post("/v1/chat/completions", **self.ASK)
        self.assertEqual((status, answer["object"]), (200, "chat.completion"))
        message = answer["choices"][0]["message"]
        self.assertEqual(message["role"], "assistant")
        events = server.stream("/v1/chat/completions", **self.ASK)
        self.assertEqual(events[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
        self.assertEqual(text, message["content"])
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], answer["choices"][0]["finish_reason"])
        self.assertTrue(all(e["object"] == "chat.completion.chunk" for e in events))
        parts = [{"type": "text", "text": "What is the capital "}, {"type": "text", "text": "of France?"}]
        same = server.post("/v1/chat/completions", **dict(self.ASK, messages=[{"role": "user", "content": parts}]))[1]
        self.assertEqual(same["choices"][0]["message"]["content"], message["content"])

    @needs_template
    def test_schema(self):
        schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9, "minimum": 0}},
                  "required": ["n"], "additionalProperties": False}
        wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        _, answer = server.post("/v1/chat/completions", response_format=wanted, **self.ASK)
        self.assertIsInstance(json.loads(answer["choices"][0]["message"]["content"])["n"], int)

    @needs_template
    def test_forced_tool(self):
        tool = {"type": "function", "function": {"name": "pick", "description": "Picks.", "parameters": {
            "type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["n"], "additionalProperties": False}}}
        ask = dict(self.ASK, tools=[tool], tool_choice={"type": "function", "function": {"name": "pick"}},
                   max_tokens=64)
        _, answer = server.post("/v1/chat/completions", **ask)
        choice = answer["choices"][0]
        call = choice["message"]["tool_calls"][0]
        self.assertEqual((choice["finish_reason"], call["type"], call["function"]["name"]),
                         ("tool_calls", "function", "pick"))
        self.assertIsInstance(json.loads(call["function"]["arguments"])["n"], int)
        deltas = [e["choices"][0]["delta"] for e in server.stream("/v1/chat/completions", **ask)]
        streamed = [d["tool_calls"][0] for d in deltas if "tool_calls" in d]
        self.assertEqual({d["index"] for d in streamed}, {0})
        self.assertEqual((streamed[0]["id"], streamed[0]["type"]), (call["id"], "function"))
        self.assertFalse([d for d in streamed[1:] if "id" in d])
        self.assertEqual(streamed[0]["function"]["name"], call["function"]["name"])
        self.assertEqual("".join(d["function"]["arguments"] for d in streamed), call["function"]["arguments"])

    def test_wrong_requests(self):
        user = [{"role": "user", "content": "x"}]
        picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]
        for fields, param in ((dict(), "messages"), (dict(messages=[]), "messages"), (dict(messages=picture), "messages"),
                              (dict(messages=[{"role": "nobody", "content": "x"}]), "messages"),
                              (dict(messages=user, tool_choice="perhaps"), "tool_choice"),
                              (dict(messages=user, tools=[{"type": "function"}]), "tools"),
                              (dict(messages=user, response_format={"type": "xml"}), "response_format"),
                              (dict(messages=user, max_completion_tokens=0), "max_completion_tokens")):
            status, answer = server.post("/v1/chat/completions", **fields)
            self.assertEqual((status, answer["error"]["param"]), (400, param), answer)


@unittest.skipUnless(os.path.exists(NANO), "nano.gguf is not here")
class Thinking(unittest.TestCase):
    """A model whose template opens the reasoning: nano's file with another template in the old one's place."""
    TEMPLATE = ("{# </think> #}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
                "{% if m.reasoning_content %}{{ m.reasoning_content }}{% endif %}{% endfor %}"
                "{{ '<|im_start|>assistant\\n<think>\\n' }}")
    ASK = {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 12, "seed": 7, "ignore_eos": True}

    @classmethod
    def setUpClass(cls):
        with open(NANO, "rb") as file:
            data = file.read()
        key = b"tokenizer.chat_template"
        at = data.index(key) + len(key) + 4
        room = struct.unpack("<Q", data[at:at + 8])[0]
        template = (cls.TEMPLATE + "{#").encode()
        template += b" " * (room - len(template) - 2) + b"#}"
        cls.file = tempfile.NamedTemporaryFile(suffix=".gguf")
        cls.file.write(data[:at + 8] + template + data[at + 8 + room:])
        cls.file.flush()
        cls.server = Server(model=cls.file.name)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.file.close()

    def test_answer_and_stream(self):
        status, answer = self.server.post("/v1/chat/completions", **self.ASK)
        self.assertEqual(status, 200, answer)
        message = answer["choices"][0]["message"]
        self.assertEqual(message["content"], "")
        self.assertGreater(len(message["reasoning_content"]), 0)
        deltas = [e["choices"][0]["delta"] for e in self.server.stream("/v1/chat/completions", **self.ASK)]
        self.assertEqual("".join(d.get("reasoning_content", "") for d in deltas), message["reasoning_content"])
        self.assertEqual("".join(d.get("content") or "" for d in deltas), "")

    def test_earlier_reasoning_reaches_the_template(self):
        said = {"role": "assistant", "content": "So."}
        lengths = []
        for more in ({}, {"reasoning_content": "Because it is so, and not otherwise."}):
            ask = dict(self.ASK, messages=self.ASK["messages"] + [dict(said, **more)] + self.ASK["messages"])
            lengths.append(self.server.post("/v1/chat/completions", **ask)[1]["usage"]["prompt_tokens"])
        self.assertGreater(lengths[1], lengths[0])


class Embeddings(unittest.TestCase):
    def test_floats_and_base64(self):
        texts = ["the cat", "the dog", "a long story"] * 7
        status, answer = server.post("/v1/embeddings", model="m", input=texts)
        self.assertEqual((status, answer["object"], len(answer["data"])), (200, "list", len(texts)))
        self.assertEqual([d["index"] for d in answer["data"]], list(range(len(texts))))
        first = answer["data"][0]["embedding"]
        self.assertAlmostEqual(sum(v * v for v in first), 1.0, places=4)
        self.assertEqual(first, answer["data"][3]["embedding"])
        self.assertEqual(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"])
        _, packed = server.post("/v1/embeddings", input="the cat", encoding_format="base64", dimensions=len(first))
        raw = base64.b64decode(packed["data"][0]["embedding"], validate=True)
        numbers = struct.unpack("<%df" % len(first), raw)
        for a, b in zip(first, numbers):
            self.assertAlmostEqual(a, b, places=6)

    def test_dimensions(self):
        _, whole = server.post("/v1/embeddings", input="the cat")
        status, cut = server.post("/v1/embeddings", input=["the cat", "a dog"], dimensions=5)
        self.assertEqual((status, [len(d["embedding"]) for d in cut["data"]]), (200, [5, 5]))
        first = whole["data"][0]["embedding"][:5]
        length = sum(v * v for v in first) ** 0.5
        for a, b in zip(first, cut["data"][0]["embedding"]):
            self.assertAlmostEqual(a / length, b, places=5)
        _, packed = server.post("/v1/embeddings", input="the cat", dimensions=5, encoding_format="base64")
        raw = base64.b64decode(packed["data"][0]["embedding"], validate=True)
        for a, b in zip(cut["data"][0]["embedding"], struct.unpack("<5f", raw)):
            self.assertAlmostEqual(a, b, places=6)

    def test_wrong_requests(self):
        for fields, param in ((dict(), "input"), (dict(input=[]), "input"), (dict(input=""), "input"),
                              (dict(input=["a", 3]), "input"), (dict(input="a", encoding_format="x"), "encoding_format"),
                              (dict(input="a", dimensions=99999), "dimensions"), (dict(input="a", dimensions=-1), "dimensions"), (dict(input="a\0b"), "input")):
            status, answer = server.post("/v1/embeddings", **fields)
            self.assertEqual((status, answer["error"]["param"]), (400, param), answer)


def with_head(path, out):
    """A copy of a GGUF file with a reranker's head of one class, which looks at the first element."""
    with open(path, "rb") as file:
        data = file.read()
    version, n_tensors, n_kv = struct.unpack_from("<IQQ", data, 4)
    at, keys = 24, {}
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def text():
        nonlocal at
        n = struct.unpack_from("<Q", data, at)[0]
        at += 8 + n
        return data[at - n:at].decode("utf-8", "replace")

    def skip(kind):
        nonlocal at
        if kind == 8:
            text()
        elif kind == 9:
            kind, n = struct.unpack_from("<IQ", data, at)
            at += 12
            for _ in range(n):
                skip(kind)
        else:
            at += sizes[kind]

    for _ in range(n_kv):
        key, kind = text(), struct.unpack_from("<I", data, at)[0]
        at += 4
        if kind == 4:
            keys[key] = struct.unpack_from("<I", data, at)[0]
        skip(kind)
    for _ in range(n_tensors):
        text()
        at += 4 + 8 * struct.unpack_from("<I", data, at)[0] + 12
    align = keys.get("general.alignment", 32)
    n_embd = next(value for key, value in keys.items() if key.endswith(".embedding_length"))
    weights = data[(at + align - 1) // align * align:]
    weights += bytes(-len(weights) % align)
    name = b"cls.output.weight"
    info = struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, n_embd, 1, 0, len(weights))
    head = b"GGUF" + struct.pack("<IQQ", version, n_tensors + 1, n_kv) + data[24:at] + info
    with open(out, "wb") as file:
        file.write(head + bytes(-len(head) % align) + weights + struct.pack("<%df" % n_embd, 1.0, *[0.0] * (n_embd - 1)))


class Rerank(unittest.TestCase):
    DOCUMENTS = ["the dog", {"text": "a cat"}, "a long story about the sea", "the cat"]

    def test_scores(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "head.gguf")
            with_head(MODEL, path)
            own = Server(model=path)
            status, answer = own.post("/v1/rerank", model="m", query="cat", documents=self.DOCUMENTS)
            self.assertEqual(status, 200, answer)
            scores = [r["relevance_score"] for r in answer["results"]]
            self.assertEqual(scores, sorted(scores, reverse=True))
            self.assertTrue(all(0 < score < 1 for score in scores))
            self.assertEqual(sorted(r["index"] for r in answer["results"]), [0, 1, 2, 3])
            self.assertEqual(answer["usage"]["total_tokens"], answer["meta"]["tokens"]["input_tokens"])
            status, two = own.post("/v2/rerank", query="cat", documents=self.DOCUMENTS, top_n=2, return_documents=True)
            self.assertEqual([r["index"] for r in two["results"]], [r["index"] for r in answer["results"][:2]])
            texts = ["the dog", "a cat", "a long story about the sea", "the cat"]
            self.assertEqual([r["document"]["text"] for r in two["results"]], [texts[r["index"]] for r in two["results"]])
            _, one = own.post("/rerank", query="cat", documents=["a cat"])
            self.assertEqual(one["results"][0]["relevance_score"],
                             next(r["relevance_score"] for r in answer["results"] if r["index"] == 1))
            self.assertEqual(own.stop()[0], 0)

    def test_wrong_requests(self):
        for fields, param in ((dict(), "query"), (dict(query="a"), "documents"), (dict(query="a", documents=[]), "documents"),
                              (dict(query="a", documents=["a", 3]), "documents"),
                              (dict(query="a", documents=["a"], top_n="x"), "top_n"),
                              (dict(query="a", documents=["a"]), "model")):  # this model is no reranker
            status, answer = server.post("/v1/rerank", **fields)
            self.assertEqual((status, answer["error"]["param"]), (400, param), answer)


class Errors(unittest.TestCase):
    def error(self, wanted, method, path, body=None, headers=None):
        status, got, raw = server.ask(method, path, body, headers)
        error = json.loads(raw)["error"]
        self.assertEqual(status, wanted, raw)
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertTrue(error["message"])
        return error, got

    def test_heads(self):
        self.assertEqual(self.error(404, "GET", "/nothing")[0]["code"], "unknown_url")
        self.assertEqual(self.error(405, "GET", "/v1/completions")[1]["allow"], "POST")
        self.assertEqual(self.error(405, "DELETE", "/v1/models")[1]["allow"], "GET, HEAD")
        self.error(415, "POST", "/v1/completions", b"{}", {"Content-Type": "text/plain"})
        self.assertEqual(self.error(404, "GET", "/v1/models/none")[0]["code"], "model_not_found")

    def test_bodies(self):
        self.assertEqual(self.error(400, "POST", "/v1/completions", b"{")[0]["code"], "invalid_json")
        self.assertEqual(self.error(400, "POST", "/v1/completions", b"")[0]["code"], "invalid_json")
        self.error(400, "POST", "/v1/completions", b"[]")
        self.error(400, "POST", "/v1/completions", b'{"prompt":"\xff"}')
        self.error(400, "POST", "/v1/completions", b"[" * 5000)
        unknown = self.error(404, "POST", "/v1/completions", dict(model="other", prompt="x"))[0]
        self.assertEqual((unknown["code"], unknown["param"]), ("model_not_found", "model"))
        for fields, param in ((dict(), "prompt"), (dict(prompt=["a", "b"]), "prompt"), (dict(prompt=3), "prompt"),
                              (dict(prompt="x", temperature=-1), "temperature"), (dict(prompt="x", top_p=2), "top_p"),
                              (dict(prompt="x", temperature="hot"), "temperature"), (dict(prompt="x", n=2), "n"),
                              (dict(prompt="x", max_tokens=0), "max_tokens"), (dict(prompt="x", stop=[1]), "stop"),
                              (dict(prompt="x", stop=["a"] * 17), "stop"), (dict(prompt="x", stream=1), "stream"),
                              (dict(prompt="x", logprobs=3), "logprobs"), (dict(prompt="x", seed="a"), "seed")):
            self.assertEqual(self.error(400, "POST", "/v1/completions", fields)[0]["param"], param)
        for stream in (False, True):
            long = self.error(400, "POST", "/v1/completions", dict(prompt="word " * 60000, stream=stream))[0]
            self.assertEqual(long["code"], "context_length_exceeded")

    def test_body_limit(self):
        inside = json.dumps({"prompt": "x", "max_tokens": 1, "pad": "y" * (4 * MIB - 64)}).encode()
        self.assertLess(len(inside), 4 * MIB)
        self.assertEqual(server.ask("POST", "/v1/completions", inside)[0], 200)
        self.error(413, "POST", "/v1/completions", b"x" * (4 * MIB + 1))
        chunks = iter([b"x" * MIB] * 6)  # a body without a declared length
        self.error(413, "POST", "/v1/completions", chunks)
        with socket.create_connection(("127.0.0.1", server.port), 30) as s:  # refused before it is sent
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 999999999999\r\n\r\n")
            self.assertIn(b" 413 ", s.recv(4096))

    def test_junk_on_the_wire(self):
        for junk in (b"\0\1\2\3\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 100000,
                     b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), 3) as s:
                try:
                    s.sendall(junk)
                    s.shutdown(socket.SHUT_WR)
                    s.recv(4096)
                except OSError:
                    pass
        self.assertEqual(server.ask("GET", "/health")[0], 200)


def raw_post(s, fields):
    body = json.dumps(fields).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
              % len(body) + body)


class Leaving(unittest.TestCase):
    LONG = dict(prompt="Once", max_tokens=400, temperature=0, ignore_eos=True)

    def check_idle(self):
        end = time.time() + 20
        while server.metric("aiinfra_http_requests_in_flight") > 1:  # 1: the one that asks
            self.assertLess(time.time(), end, "a request of a client that left is still in flight")
            time.sleep(0.05)

    def test_client_leaves(self):
        for stream in (False, True):
            with socket.create_connection(("127.0.0.1", server.port), 30) as s:
                raw_post(s, dict(self.LONG, stream=stream))
                if stream:
                    self.assertIn(b" 200 ", s.recv(1024))
                else:
                    time.sleep(0.02)
            self.check_idle()
        self.assertIn(b'code="499"', server.ask("GET", "/metrics")[2])

    def test_many_leave_at_once(self):
        sockets = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(40)]
        for i, s in enumerate(sockets):
            raw_post(s, dict(self.LONG, stream=bool(i % 2)))
        for s in sockets:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            s.close()
        self.check_idle()
        self.assertEqual(server.ask("GET", "/health")[0], 200)


class Own(unittest.TestCase):
    """Tests that need a server of their own."""

    def test_key(self):
        own = Server("--api-key", "secret")
        try:
            for headers in ({}, {"Authorization": "Bearer secrets"}, {"Authorization": "Bearer "},
                            {"Authorization": "Basic secret"}, {"Authorization": "Bearer secre"}):
                status, _, body = own.ask("GET", "/v1/models", headers=headers)
                self.assertEqual((status, json.loads(body)["error"]["type"]), (401, "authentication_error"))
            self.assertEqual(own.ask("GET", "/v1/models", headers={"Authorization": "Bearer secret"})[0], 200)
            self.assertEqual(own.ask("GET", "/health")[0], 200)
            self.assertEqual(own.ask("GET", "/metrics")[0], 200)
        finally:
            code, said = own.stop()
        self.assertNotIn("secret", said)
        self.assertEqual(code, 0, said)

    def test_search(self):
        with tempfile.TemporaryDirectory() as folder:
            db, path = os.path.join(folder, "s.db"), os.path.join(folder, "zoo.md")
            with open(path, "w") as f:
                f.write("# Zoo\n\nThe giraffe eats acacia leaves.\n\n# Port\n\nThe ferry leaves at noon.\n")
            subprocess.run([AIINFRA, "ingest", "--db", db, path], check=True, capture_output=True)
            subprocess.run([AIINFRA, "remember", "--db", db, "My giraffe is called Gus."], check=True, capture_output=True)
            own = Server("--db", db)
            try:
                self.check_search(own, path)
            finally:
                code, said = own.stop()
            self.assertEqual(code, 0, said)

    def check_search(self, own, path):
        search = "/v1/vector_stores/default/search"
        status, _, body = own.ask("POST", search, {"query": "What does the giraffe eat?"})
        page = json.loads(body)
        self.assertEqual((status, page["object"], page["has_more"]), (200, "vector_store.search_results.page", False))
        self.assertEqual(page["search_query"], ["What does the giraffe eat?"])
        first = page["data"][0]
        self.assertTrue(first["filename"].endswith("zoo.md"), first)
        self.assertIn("acacia", first["content"][0]["text"])
        self.assertTrue(0 < first["score"] <= 1 and isinstance(first["attributes"], dict))
        self.assertTrue(any("Gus" in hit["content"][0]["text"] for hit in page["data"]))
        _, _, body = own.ask("POST", search, {"query": ["ferry"], "max_num_results": 1})
        self.assertEqual(len(json.loads(body)["data"]), 1)
        for fields, param in ((dict(), "query"), (dict(query=3), "query"), (dict(query=["a", "b"]), "query"),
                              (dict(query="a", max_num_results=51), "max_num_results"),
                              (dict(query="a", filters={"type": "eq"}), "filters"),
                              (dict(query="a", rewrite_query=True), "rewrite_query")):
            status, _, body = own.ask("POST", search, fields)
            self.assertEqual((status, json.loads(body)["error"]["param"]), (400, param), body)
        for path in ("/v1/vector_stores/other/search", "/v1/vector_stores/default", "/v1/vector_stores//search"):
            self.assertEqual(own.ask("POST", path, {"query": "a"})[0], 404)
        self.assertEqual(own.ask("POST", search, b"{")[0], 400)

    def test_stops_with_work_in_flight(self):
        own = Server()
        sockets = [socket.create_connection(("127.0.0.1", own.port), 30) for _ in range(6)]
        for i, s in enumerate(sockets[:-1]):  # the last one stays idle
            raw_post(s, dict(Leaving.LONG, stream=bool(i % 2)))
        time.sleep(0.05)
        start = time.time()
        code, said = own.stop()
        self.assertLess(time.time() - start, 15)
        self.assertEqual(code, 0, said)
        for s in sockets:
            s.close()


if __name__ == "__main__":
    if MODEL is None or not os.path.exists(AIINFRA):
        print("skipped: needs the aiinfra program and nano.gguf or stories260K")
        sys.exit(77)
    server = Server()
    program = unittest.main(exit=False, verbosity=0)
    code, said = server.stop()
    if code != 0:
        print("the server ended with %d\n%s" % (code, said))
        sys.exit(1)
    sys.exit(0 if program.result.wasSuccessful() else 1)
