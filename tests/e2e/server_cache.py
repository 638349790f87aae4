"""The response cache of the server from outside: what is served again, to whom, and what never is."""
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from server_http import AIINFRA, MODEL, NANO, Server  # noqa: E402


def chat(question, system="Be brief.", **fields):
    messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    return dict(dict(messages=messages, max_tokens=12, temperature=0), **fields)


def text_of(answer):
    choice = answer["choices"][0]
    return choice["message"]["content"] if "message" in choice else choice["text"]


class Cached(Server):
    """A server with a cache in a file of its own."""

    def __init__(self, mode, *args):
        self.folder = tempfile.TemporaryDirectory()
        self.db = os.path.join(self.folder.name, "cache.db")
        super().__init__("--db", self.db, "--cache", mode, *args)

    def request(self, fields, path="/v1/chat/completions", **headers):
        """Answer and headers."""
        status, head, body = self.ask("POST", path, fields, headers)
        assert status == 200, (status, body)
        return json.loads(body), head

    def settle(self):
        """What was answered is stored soon after it was sent."""
        while self.metric("aiinfra_http_requests_in_flight") > 1:
            time.sleep(0.01)

    def fill(self, fields, path="/v1/chat/completions", **headers):
        answer, head = self.request(fields, path, **headers)
        self.settle()
        return answer, head

    def stats(self):
        out = subprocess.run([AIINFRA, "cache", "stats", "--db", self.db], check=True, capture_output=True).stdout
        return json.loads(out)

    def __exit__(self, *_):
        code, said = self.stop() if self.process.poll() is None else (self.process.returncode, "")
        self.folder.cleanup()
        assert code == 0, said

    def __enter__(self):
        return self


@unittest.skipUnless(MODEL == NANO, "the model at hand has no chat template")
class Exact(unittest.TestCase):
    def test_hit_is_the_same_answer(self):
        with Cached("exact") as s:
            first, head = s.fill(chat("Who lives in the forest?"))
            self.assertEqual(head["x-cache"], "MISS")
            self.assertNotIn("x-cache-tier", head)
            again, head = s.request(chat("Who lives in the forest?"))
            self.assertEqual((head["x-cache"], head["x-cache-tier"]), ("HIT", "exact"))
            self.assertTrue(int(head["x-cache-id"]) > 0 and int(head["age"]) >= 0)
            self.assertEqual(again["choices"], first["choices"])
            self.assertEqual(again["usage"]["total_tokens"], first["usage"]["total_tokens"])
            self.assertNotEqual(again["id"], first["id"])
            self.assertEqual(set(again), set(first))
            saved = s.metric('aiinfra_saved_tokens_total')
            self.assertGreaterEqual(saved, first["usage"]["total_tokens"])
            other, head = s.request(chat("who lives in the forest"))
            self.assertEqual(head["x-cache"], "MISS")

    def test_streams_hit_and_fill(self):
        with Cached("exact") as s:
            ask = chat("Tell me about a dragon", stream_options={"include_usage": True})
            fresh = s.stream("/v1/chat/completions", **ask)
            s.settle()
            again = s.stream("/v1/chat/completions", **ask)
            whole, head = s.request(dict(ask, stream=False))
            self.assertEqual(head["x-cache"], "HIT")

            def told(events):
                return "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])

            self.assertEqual(told(again), told(fresh))
            self.assertEqual(told(again), text_of(whole))
            self.assertEqual(again[0]["choices"][0]["delta"], fresh[0]["choices"][0]["delta"])
            for at in (-1, -2):  # usage, reason of the end
                self.assertEqual([set(c) for c in again[at]["choices"]], [set(c) for c in fresh[at]["choices"]])
            self.assertEqual(again[-2]["choices"][0]["finish_reason"], fresh[-2]["choices"][0]["finish_reason"])
            self.assertEqual(again[-1]["usage"]["completion_tokens"], fresh[-1]["usage"]["completion_tokens"])
            self.assertEqual(len({e["id"] for e in again}), 1)

    def test_completions(self):
        with Cached("semantic") as s:
            ask = dict(prompt="How do I tame a dragon?", max_tokens=8, temperature=0, ignore_eos=True)
            first, head = s.fill(ask, "/v1/completions")
            self.assertEqual((head["x-cache"], first["choices"][0]["finish_reason"]), ("MISS", "length"))
            again, head = s.request(ask, "/v1/completions")
            self.assertEqual((head["x-cache"], again["choices"]), ("HIT", first["choices"]))
            events = s.stream("/v1/completions", **ask)
            self.assertEqual("".join(e["choices"][0]["text"] for e in events), first["choices"][0]["text"])
            # a text to be continued is no question: never served to another wording
            _, head = s.request(dict(ask, prompt="How can I tame a dragon?"), "/v1/completions")
            self.assertEqual(head["x-cache"], "MISS")

    def test_who_is_served(self):
        with Cached("exact") as s:
            ask = chat("Who is the king?")
            s.fill(ask)
            for headers, state in (({"Cache-Control": "no-store"}, "BYPASS"),
                                   ({"Cache-Control": "max-age=0, No-Store"}, "BYPASS"),
                                   ({"Cache-Control": "no-cache"}, "BYPASS"), ({"Cache-Control": "max-age=5"}, "HIT"),
                                   ({}, "HIT")):
                self.assertEqual(s.fill(ask, **headers)[1]["x-cache"], state, headers)
            for fields, state in (({"cache": False}, "BYPASS"), ({"cache": {"no-store": True}}, "BYPASS"),
                                  ({"cache": {"no-cache": True}}, "BYPASS"), ({"cache": True}, "HIT"),
                                  ({"temperature": 1}, "BYPASS"), ({"temperature": 1, "seed": 3}, "MISS"),
                                  ({"temperature": 1, "cache": True}, "MISS")):
                self.assertEqual(s.fill(dict(ask, **fields))[1]["x-cache"], state, fields)
            # with chance, only those that ask for it are served what others were
            self.assertEqual(s.request(dict(ask, temperature=1, cache=True))[1]["x-cache"], "HIT")
            self.assertEqual(s.request(dict(ask, temperature=1))[1]["x-cache"], "BYPASS")

    def test_no_store_is_not_stored(self):
        with Cached("exact") as s:
            s.fill(chat("a"), **{"Cache-Control": "no-store"})
            self.assertEqual(s.fill(chat("a"))[1]["x-cache"], "MISS")
            s.fill(chat("b"), **{"Cache-Control": "no-cache"})
            self.assertEqual(s.request(chat("b"))[1]["x-cache"], "HIT")

    def test_partitions(self):
        """Whatever differs beside the question is another partition."""
        with Cached("semantic") as s:
            ask = chat("Who is the king?")
            s.fill(ask)
            tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
            for other in (chat("Who is the king?", system="Be long."), dict(ask, max_tokens=13), dict(ask, top_p=0.5),
                          dict(ask, seed=5), dict(ask, user="bob"), dict(ask, tools=[tool], tool_choice="none"),
                          dict(ask, messages=ask["messages"][1:]), dict(ask, stop=["x"])):
                self.assertEqual(s.request(other)[1]["x-cache"], "MISS", other)
            for key in ("one", "two"):
                head = {"Authorization": "Bearer " + key}
                self.assertEqual(s.fill(ask, **head)[1]["x-cache"], "MISS")
                self.assertEqual(s.request(ask, **head)[1]["x-cache"], "HIT")

    def test_another_model_under_the_same_name(self):
        with Cached("exact") as s:
            s.fill(chat("Who is the king?"))
            with tempfile.TemporaryDirectory() as folder:
                other = os.path.join(folder, "nano.gguf")
                subprocess.run([AIINFRA, "convert", MODEL, other, "--type", "f16"], check=True, capture_output=True)
                second = Server("--db", s.db, "--cache", "exact", model=other)
                try:
                    _, head, _ = second.ask("POST", "/v1/chat/completions", chat("Who is the king?"))
                    self.assertEqual(head["x-cache"], "MISS")
                finally:
                    second.stop()

    def test_restart_and_time_to_live(self):
        with Cached("exact", "--cache-ttl", "1") as s:
            s.fill(chat("Who is the king?"))
            self.assertEqual(s.request(chat("Who is the king?"))[1]["x-cache"], "HIT")
            time.sleep(1.2)
            self.assertEqual(s.fill(chat("Who is the king?"))[1]["x-cache"], "MISS")
            code, said = s.stop()
            self.assertEqual(code, 0, said)
            Server.__init__(s, "--db", s.db, "--cache", "exact")
            self.assertEqual(s.request(chat("Who is the king?"))[1]["x-cache"], "HIT")

    def test_many_at_once(self):
        """Twelve keys at once ask the same words; nobody is served what another's was."""
        with Cached("exact") as s:
            ask, seen, failed = chat("Who is the king?", temperature=1, cache=True), {}, []

            def client(key):
                for turn in range(4):
                    answer, head = s.fill(ask, Authorization="Bearer %d" % key)
                    if head["x-cache"] == "HIT" and text_of(answer) not in seen.get(key, set()):
                        failed.append((key, turn))
                    seen.setdefault(key, set()).add(text_of(answer))

            threads = [threading.Thread(target=client, args=(key,)) for key in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failed, [])
            self.assertEqual(len(seen), 12)


@unittest.skipUnless(MODEL == NANO, "the model at hand has no chat template")
class Semantic(unittest.TestCase):
    FIRST, SAME, OTHER = "How do I tame a dragon?", "Hi! How can I tame a dragon?", "How do I not tame a dragon?"

    def test_tier_report_and_stats(self):
        with Cached("semantic") as s:
            first, _ = s.fill(chat(self.FIRST))
            again, head = s.request(chat(self.SAME))
            self.assertEqual((head["x-cache"], head["x-cache-tier"]), ("HIT", "semantic"))
            self.assertEqual(text_of(again), text_of(first))
            self.assertEqual(s.fill(chat(self.OTHER))[1]["x-cache"], "MISS")
            entry = int(head["x-cache-id"])
            self.assertEqual(s.ask("POST", "/v1/cache/report", {"id": entry}, {"Authorization": "Bearer x"})[0], 404)
            self.assertEqual(s.ask("POST", "/v1/cache/report", {"id": "x"})[0], 400)
            self.assertEqual(s.ask("POST", "/v1/cache/report", b"[")[0], 400)
            status, _, body = s.ask("POST", "/v1/cache/report", {"id": entry, "question": self.SAME})
            self.assertEqual((status, json.loads(body)["deleted"]), (200, True))
            self.assertEqual(s.ask("POST", "/v1/cache/report", {"id": entry})[0], 404)
            self.assertEqual(s.fill(chat(self.FIRST))[1]["x-cache"], "MISS")
            self.assertEqual(s.fill(chat(self.SAME))[1]["x-cache"], "MISS")  # never again
            stats = s.stats()
            self.assertEqual((stats["hits_semantic"], stats["false_hits"], stats["stores"]), (1, 1, 4))
            self.assertGreaterEqual(stats["prefix_saved_tokens"], 0)
            other = int(s.request(chat(self.FIRST))[1]["x-cache-id"])
            for code in (0, 1):
                done = subprocess.run([AIINFRA, "cache", "report", "--db", s.db, "--id", str(other)],
                                      capture_output=True)
                self.assertEqual(done.returncode, code, done.stderr)
            self.assertEqual(s.fill(chat(self.FIRST))[1]["x-cache"], "MISS")

    def test_shadow(self):
        with Cached("shadow") as s:
            _, head = s.fill(chat(self.FIRST))
            self.assertNotIn("x-cache-shadow", head)
            _, head = s.fill(chat(self.FIRST))
            self.assertEqual((head["x-cache"], head["x-cache-shadow"]), ("MISS", "exact"))
            _, head = s.fill(chat(self.SAME))
            self.assertEqual((head["x-cache"], head["x-cache-shadow"]), ("MISS", "semantic"))
            s.stop()
            stats = s.stats()
            self.assertEqual((stats["hits_exact"], stats["hits_semantic"], stats["would_have_hit"]), (0, 0, 2))
            self.assertEqual(stats["shadow_same"] + stats["shadow_different"], 2)
            self.assertGreaterEqual(stats["shadow_same"], 1)  # the same words, at temperature 0

    def test_prefix_cache_is_counted_beside(self):
        with Cached("exact") as s:
            system = "You are a knight in a story. " * 8
            s.fill(chat("Who are you?", system=system))
            answer, _ = s.fill(chat("Where are you?", system=system))
            cached = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            self.assertGreater(cached, 0)
            s.fill(chat("Where do you go?", system=system))
            self.assertGreaterEqual(s.stats()["prefix_saved_tokens"], cached)


class Without(unittest.TestCase):
    def test_no_cache(self):
        own = Server()
        try:
            _, head, _ = own.ask("POST", "/v1/completions", dict(prompt="a", max_tokens=1, temperature=0))
            self.assertNotIn("x-cache", head)
            self.assertEqual(own.ask("POST", "/v1/cache/report", {"id": 1})[0], 404)
        finally:
            own.stop()

    def test_usage(self):
        for args in (["--cache", "exact"], ["--db", ":memory:", "--cache", "both"]):
            done = subprocess.run([AIINFRA, "serve", "--model", MODEL, "--port", "0", *args], capture_output=True)
            self.assertEqual(done.returncode, 2, done.stderr)


if __name__ == "__main__":
    if MODEL is None or not os.path.exists(AIINFRA):
        print("skipped: needs the aiinfra program and nano.gguf or stories260K")
        sys.exit(77)
    sys.exit(0 if unittest.main(exit=False, verbosity=0).result.wasSuccessful() else 1)
