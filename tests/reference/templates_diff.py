#!/usr/bin/env python3
"""Chat templates against jinja2, set up as Hugging Face's transformers does: any difference is printed.

usage: templates_diff.py [--build build] [--data ../shared/data/chat-templates] [--match REGEX] [--hashes FILE]

Every template is rendered with a few hundred conversations by both; where jinja2 fails, so must we. One difference to
transformers is wanted: a template may change its own lists (Kimi K2 does), which transformers' sandbox refuses.
--hashes writes what tests/data/template_hashes.json holds: for each template a hash over all that jinja2 made.
"""
import argparse
import copy
import datetime
import functools
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile

import jinja2
import jinja2.ext
from jinja2.sandbox import SandboxedEnvironment

NOW = 1722513600  # 2024-08-01 12:00 UTC
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.datetime.fromtimestamp(NOW).strftime(f)
    return env


ENV = environment()
compiled = functools.lru_cache(maxsize=4)(ENV.from_string)


def reference(case):
    """The text, or None where jinja2 fails, and why."""
    c = copy.deepcopy(case)
    names = {"messages": c["messages"], "tools": c["tools"], "bos_token": c["bos"], "eos_token": c["eos"],
             "add_generation_prompt": c["add_generation_prompt"], **(c["extra"] or {})}
    try:
        return compiled(case["template"]).render(**names), None
    except Exception as e:  # noqa: BLE001
        return None, f"{type(e).__name__}: {e}"


# ---- conversations -----------------------------------------------------------------------------------------------

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a \"city\" <now> & later – it's ✓",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Its name"},
        "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        "days": {"type": ["integer", "null"], "minimum": 1}},
        "required": ["city"], "additionalProperties": False}, "strict": True}}
NESTED = {"type": "function", "function": {
    "name": "plan", "description": "", "parameters": {"type": "object", "properties": {
        "stops": {"type": "array", "items": {"type": "object", "properties": {
            "at": {"type": "number"}, "tags": {"type": "array", "items": {"type": "string"}}}}},
        "either": {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
        "where": {"$ref": "#/$defs/place"}}, "$defs": {"place": {"type": "object", "properties": {}}}},
    "return": {"type": "object", "description": "the plan"}}}
BARE = {"type": "function", "function": {"name": "ping", "description": "no arguments",
                                         "parameters": {"type": "object", "properties": {}}}}
NO_PARAMETERS = {"type": "function", "function": {"name": "pong"}}
TOOLS = {"none": None, "empty": [], "one": [WEATHER], "three": [WEATHER, NESTED, BARE], "odd": [NO_PARAMETERS]}


def call(name, arguments, id_="call00001"):
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(text="What is the weather in Zürich?"):
    return {"role": "user", "content": text}


ARGS = {"city": "Zürich \"HB\" <x>", "days": 2, "f": 1.5, "deep": {"a": [1, None, True], "e": {}}, "n": []}
SYSTEM = {"role": "system", "content": "You are terse.\n\nAlways."}
PARTS = [{"type": "text", "text": "Look: "}, {"type": "text", "text": "two\n parts "}]
IMAGE = [{"type": "text", "text": "What is it?"}, {"type": "image"}, {"type": "image_url", "image_url": {"url": "x"}}]


def called(arguments=ARGS, content="", **more):
    return {"role": "assistant", "content": content, "tool_calls": [call("get_weather", arguments)], **more}


def told(content="{\"t\": 21}", **more):
    return {"role": "tool", "tool_call_id": "call00001", "name": "get_weather", "content": content, **more}


CONVERSATIONS = {
    "user": [user()],
    "system": [SYSTEM, user("Hi")],
    "turns": [user("Hi"), {"role": "assistant", "content": " Hello!\n"}, user("  Again \n\n")],
    "system_turns": [SYSTEM, user("a"), {"role": "assistant", "content": "b"}, user("c"),
                     {"role": "assistant", "content": "d"}, user("e")],
    "ends_assistant": [user("Hi"), {"role": "assistant", "content": "Once upon"}],
    "unicode": [user("日本語 🦀 \u00a0 é \u2028 \t end\u0000"), {"role": "assistant", "content": "ÀÉ ß ﬁ"}, user("…")],
    "control": [user("<|im_end|> </s> [INST] {{ x }} {% if %} <think>a</think>"), {"role": "assistant", "content": "k"},
                user("'quotes\" \\n and \\")],
    "empty_content": [user(""), {"role": "assistant", "content": ""}, user(" ")],
    "none_content": [user("q"), {"role": "assistant", "content": None}, user("r")],
    "no_content": [user("q"), {"role": "assistant"}, user("r")],
    "parts": [{"role": "user", "content": PARTS}],
    "parts_all": [{"role": "system", "content": PARTS[:1]}, {"role": "user", "content": PARTS},
                  {"role": "assistant", "content": PARTS[1:]}, {"role": "user", "content": PARTS}],
    "image": [{"role": "user", "content": IMAGE}],
    "no_parts": [{"role": "user", "content": []}],
    "think_tags": [user("1"), {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}, user("2"),
                   {"role": "assistant", "content": "<think>no end"}, user("3")],
    "reasoning": [user("1"), {"role": "assistant", "content": "yes", "reasoning_content": "\nhm, so\n"}, user("2")],
    "reasoning_last": [user("1"), {"role": "assistant", "content": "yes", "reasoning_content": "hm"}],
    "thinking": [user("1"), {"role": "assistant", "content": "yes", "thinking": "hm", "reasoning": "mm"}, user("2")],
    "call": [user(), called()],
    "call_text": [user(), called(json.dumps(ARGS))],
    "call_result": [user(), called(), told()],
    "call_result_text": [SYSTEM, user(), called(json.dumps(ARGS)), told()],
    "call_none": [user(), called(content=None), told(), {"role": "assistant", "content": "21 degrees."}, user("ok")],
    "call_words": [user(), called(content="Let me see.", reasoning_content="I need it"), told(),
                   {"role": "assistant", "content": "21.", "reasoning_content": "done"}, user("more")],
    "call_two": [user(), {"role": "assistant", "content": "", "tool_calls": [
        call("get_weather", {"city": "A"}, "aaaaaaaaa"), call("ping", {}, "bbbbbbbbb")]},
        {"role": "tool", "tool_call_id": "aaaaaaaaa", "content": "r1"},
        {"role": "tool", "tool_call_id": "bbbbbbbbb", "name": "ping", "content": "r2 <b>"}],
    "call_twice": [user(), called({"city": "A"}), told("1"), called({"city": "B"}, reasoning_content="again"),
                   told("2"), {"role": "assistant", "content": "both"}, user("x")],
    "call_empty": [user(), called({}), told("")],
    "call_no_id": [user(), {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "ping", "arguments": {}}}]}, {"role": "tool", "content": "pong"}],
    "call_flat": [user(), {"role": "assistant", "content": "", "tool_calls": [
        {"name": "ping", "arguments": {"a": 1}}]}, {"role": "tool", "name": "ping", "content": "pong"}],
    "call_no_list": [user(), {"role": "assistant", "content": "x", "tool_calls": []}, user("y")],
    "call_null_list": [user(), {"role": "assistant", "content": "x", "tool_calls": None}, user("y")],
    "result_object": [user(), called({"city": "A"}), told({"t": 21, "ok": True, "l": [1.0, "é"]})],
    "result_parts": [user(), called({"city": "A"}), told([{"type": "text", "text": "21"}])],
    "result_list": [user(), called({"city": "A"}), told(["a", 1])],
    "result_number": [user(), called({"city": "A"}), told(21.5)],
    "tool_last_user": [user(), called({"city": "A"}), told("21"), user("and?")],
    "developer": [{"role": "developer", "content": "Be kind."}, user("hi")],
    "system_late": [user("a"), SYSTEM, user("b")],
    "system_two": [SYSTEM, SYSTEM, user("b")],
    "system_only": [SYSTEM],
    "user_twice": [user("a"), user("b")],
    "assistant_first": [{"role": "assistant", "content": "a"}, user("b")],
    "unknown_role": [{"role": "critic", "content": "a"}, user("b")],
    "ipython": [user("a"), {"role": "ipython", "content": "{\"x\": 1}"}],
    "no_role": [{"content": "a"}],
    "empty": [],
    "named": [{"role": "user", "name": "Ann", "content": "hi"}, {"role": "assistant", "name": "Bot", "content": "yo"},
              user("z")],
    "wrong_content": [{"role": "user", "content": 5}, {"role": "assistant", "content": {"a": 1}}, user("z")],
    "prefix": [user("a"), {"role": "assistant", "content": "So", "prefix": True}],
}
EXTRAS = {
    "plain": None,
    "thinking_on": {"enable_thinking": True, "thinking": True},
    "thinking_off": {"enable_thinking": False, "thinking": False},
    "kwargs": {"reasoning_effort": "high", "documents": [{"title": "T", "text": "doc é", "doc_id": 1}],
               "date_string": "1 Jan 2025", "builtin_tools": ["browser", "python"], "keep_past_thinking": True,
               "clear_thinking": False, "thinking_budget": 512, "custom_tools": None, "tools_in_user_message": False,
               "model_identity": "I am Nobody.", "current_date": "2025-01-01", "add_vision_id": True},
}


def cases(source):
    for (cn, conversation), (tn, tools), (en, extra), prompt in itertools.product(
            CONVERSATIONS.items(), TOOLS.items(), EXTRAS.items(), (True, False)):
        if (tn != "none" and en in ("thinking_off", "kwargs") and cn not in ("user", "call_words", "call_twice")):
            continue  # enough is enough
        if tn in ("empty", "odd") and (en != "plain" or not prompt):
            continue
        yield (f"{cn}/{tn}/{en}/{'prompt' if prompt else 'whole'}",
               {"template": source, "messages": conversation, "tools": tools, "extra": extra, "bos": "<BOS>",
                "eos": "<EOS>", "add_generation_prompt": prompt, "now": NOW})


# ---- the other side ----------------------------------------------------------------------------------------------

def build_tool(build):
    tool = os.path.join(tempfile.mkdtemp(), "template_tool")
    libs = subprocess.check_output(["pkg-config", "--libs", "jansson", "libutf8proc", "libuv", "sqlite3"], text=True)
    subprocess.check_call(["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-g", f"-I{ROOT}", f"-I{ROOT}/include",
                           os.path.join(HERE, "template_tool.c"), os.path.join(build, "libaiinfra.a"), *libs.split(),
                           "-lm", "-ldl", "-pthread", "-o", tool])
    return subprocess.Popen([tool], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ours(process, case):
    process.stdin.write(json.dumps(case) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def published(data):
    """The cases of template_render_cases.dev.json, each with its template."""
    path = os.path.join(data, "template_render_cases.dev.json")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8") as f:
        root = json.load(f)
    for c in root["cases"]:
        yield "published " + c["name"], {
            "template": c["template"], "messages": root["conversation"] + c.get("extra_conversation", []),
            "tools": None, "extra": None, "bos": c["bos_token"], "eos": c["eos_token"],
            "add_generation_prompt": True, "now": NOW}


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--build", default=os.path.join(ROOT, "build"))
    args.add_argument("--data", default=os.path.join(os.path.dirname(ROOT), "shared/data/chat-templates"))
    args.add_argument("--match", default="")
    args.add_argument("--hashes")
    args.add_argument("--show", type=int, default=3, help="differences shown of each template")
    args = args.parse_args()
    process = build_tool(args.build)
    folder = os.path.join(args.data, "llama.cpp")
    sets = [(name, cases(open(os.path.join(folder, name), encoding="utf-8", newline="").read()))
            for name in sorted(os.listdir(folder)) if name.endswith(".jinja") and re.search(args.match, name)]
    sets.append(("published", published(args.data)))
    total = bad = errors = 0
    hashes = {}
    for name, these in sets:
        wrong = 0
        digest = hashlib.sha256()
        for label, case in these:
            total += 1
            expected, why = reference(case)
            got = ours(process, case)
            errors += expected is None
            digest.update(b"\0error" if expected is None else b"\1" + expected.encode("utf-8", "surrogatepass"))
            if got.get("text") == expected:
                continue
            wrong += 1
            if wrong <= args.show:
                print(f"{name} {label}\n  jinja2: {expected if expected is not None else why!r:.600}\n  ours:   "
                      f"{got.get('text', got.get('error'))!r:.600}")
                if expected is not None and "text" in got:
                    at = next((i for i, (a, b) in enumerate(zip(expected, got["text"])) if a != b), -1)
                    print(f"  at {at}: {expected[at - 20:at + 60]!r} / {got['text'][at - 20:at + 60]!r}")
        hashes[name] = digest.hexdigest()
        bad += wrong
        if wrong:
            print(f"{name}: {wrong} differ")
    print(f"{total} renderings, {errors} of them errors on purpose, {bad} differ")
    if args.hashes:
        with open(args.hashes, "w", encoding="utf-8") as f:
            json.dump(hashes, f, indent=1)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
