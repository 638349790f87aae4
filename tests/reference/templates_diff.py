#!/usr/bin/env python3
"""Chat templates against jinja2, set up as Hugging Face's transformers does: any difference is printed.

usage: templates_diff.py [--build build] [--data ../shared/data/chat-templates] [--match REGEX] [--goldens FILE]

Every template is rendered with a few hundred conversations by both; where jinja2 fails, so must we. One difference to
transformers is wanted: a template may change its own lists (Kimi K2 does), which transformers' sandbox refuses.
--goldens writes tests/data/template_cases.json: our own snippets with what jinja2 made of them; and some of the
conversations, with a hash over all that each of the templates made of them. Only where nothing differs.
"""
import argparse
import copy
import datetime
import functools
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


# ---- the language itself: our own snippets -------------------------------------------------------------------------

LITTLE = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}], "tools": None,
          "extra": {"n": 3, "f": 1.5, "d": {"a": 1, "b": [True, None]}, "s": " x "}, "bos": "<s>", "eos": "</s>",
          "add_generation_prompt": True, "now": NOW}
SNIPPETS = [
    # lists that jinja2 makes on demand
    "{{ [1,2,3] | map('string') | list | tojson }} {{ d.items() | list }} {{ d.keys() | list }}",
    "{{ [1,2,3] | map('string') | tojson }}",
    "{{ d.items() | tojson }}",
    "{{ messages | selectattr('role', 'equalto', 'nobody') and 'true' or 'false' }}",
    "{{ messages | selectattr('role', 'equalto', 'nobody') | length }}",
    "{% set g = [1,2] | map('abs') %}{{ g | join(',') }}|{{ g | join(',') }}|{{ g | first is defined }}",
    "{% set g = [1,2,3] | select('odd') %}{{ g | first }}-{{ g | list }}",
    "{{ (d.keys() | list)[0] }} {{ d.keys()[0] is defined }} {{ d.items() | length }} {{ d.values() is sequence }}",
    "{{ [1,2] | reverse | list }} {{ 'abc' | reverse }} {{ [1,2] | reverse is iterable }}",
    "{{ [3,1,2] | sort(reverse=true) }} {{ ['b','A'] | sort }} {{ [1,1,2] | unique | list }} {{ [1,2] == (1,2) }}",
    # safe strings
    "{{ '<' | safe + '<' }} {{ ('<' | e) ~ '<' }} {{ '<' + '<' | safe }} {{ ('a<' | safe).upper() + '&' }}",
    "{{ ('a,b' | safe).split(',')[0] + '<' }} {{ ('<' | safe).replace('<', '>') }} {{ '<' | safe | replace('<','>') + '&' }}",
    "{{ 'x<y' | escape | tojson }} {{ '<' | safe | trim + '<' }} {{ '<' | e | e }} {{ ('<' | safe) * 2 + '<' }}",
    # names, scopes, namespaces
    "{% set ns = namespace(a=1, b='x') %}{% set ns.c = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns.zzz is defined }}",
    "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}{% endfor %}{{ x }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (a, b) = (b, a) %}{{ a }}{{ b }}{% for a, b in [(1,2),[3,4]] %}{{ a+b }}{% endfor %}",
    "{% for i in [1,2] %}{% for j in 'ab' %}{{ loop.index }}{{ j }}{{ loop.last }}{% endfor %}{{ loop.index0 }}{% endfor %}",
    "{% for i in [1,2,3] %}{{ loop.previtem if loop.previtem is defined }}{{ loop.nextitem | default('-') }}{{ loop.cycle('x','y') }}{{ loop.revindex }}{% endfor %}",
    "{% for i in [1,2,3] if i > 9 %}{{ i }}{% else %}none{% endfor %}{% for c in 'añb' %}{{ c }}.{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}{% for k, v in d | dictsort %}{{ k }}={{ v }}{% endfor %}{% for k, v in d | items %}{{ k }}{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% elif i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [1,2,3] %}{% if loop.changed is defined %}{% endif %}{{ loop.length }}{% endfor %}{{ loop is defined }}",
    # macros, call blocks, filter blocks
    "{% macro f(a, b=2, c='z') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}{{ f(1, c=3) }}{{ f(a='q', b=none) }}",
    "{% macro f(a) %}{{ a }}{{ a is defined }}{% endmacro %}{{ f() }}",
    "{% macro f(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, k=3) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}",
    "{% macro w(t) %}<{{ t }}>{{ caller('in') }}</{{ t }}>{% endmacro %}{% call(x) w('b') %}[{{ x }}]{% endcall %}",
    "{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}{{ f.name }}",
    "{% set y = 5 %}{% macro f() %}{{ y }}{% endmacro %}{% set y = 6 %}{{ f() }}",
    "{% filter upper | trim %} ab {{ 'c' }} {% endfilter %}{% set t | upper %}q{{ 1 }}{% endset %}{{ t }}",
    "{% generation %}a{{ 1 }}{% endgeneration %}b",
    # undefined
    "{{ nothing }}|{{ nothing is defined }}|{{ nothing or 'x' }}|{{ nothing | length }}|{{ nothing ~ 'y' }}|{{ [nothing] }}",
    "{{ nothing.a }}", "{{ nothing['a'] }}", "{{ nothing() }}", "{{ nothing + 1 }}", "{{ d.q.r }}", "{{ d.q }}|{{ d['q'] | default('e') }}",
    "{{ none.a is defined }}|{{ (none).a }}|{{ none | default('x') }}|{{ none | default('x', true) }}|{{ '' | d('y', true) }}",
    "{% if nothing %}a{% else %}b{% endif %}{% for x in nothing %}c{% endfor %}{{ nothing == none }}{{ nothing in [1] }}",
    "{{ nothing < 1 }}", "{{ 'x' in nothing }}", "{{ nothing | tojson }}", "{{ (1 if false) }}|{{ (1 if false) is defined }}",
    "{{ messages[5] is defined }}{{ messages[5] }}{{ messages['x'] is defined }}{{ s.foo is defined }}{{ n.foo is defined }}",
    # arithmetic and comparison
    "{{ 7 // -2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 1 / 4 }} {{ 10 / 5 }} {{ true + 1 }}",
    "{{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 < 2 < 3 < 3 }} {{ 1 == true }} {{ '1' == 1 }} {{ none == false }}",
    "{{ 'a' < 1 }}", "{{ 1 // 0 }}", "{{ 'a' * 3 ~ [1] * 2 }} {{ 3 * 'ab' }}", "{{ 'a' - 'b' }}", "{{ [1] + [2] }} {{ (1,) + (2,) }} {{ [1] ~ [2] }}",
    "{{ -1 ** 2 }} {{ (-1) ** 2 }} {{ 2 + 3 ~ 'x' ~ 4 * 5 }} {{ not 1 == 2 }} {{ 1 if 0 else 2 if 0 else 3 }}",
    "{{ 1.0 }} {{ 1e100 }} {{ 1.5e-10 }} {{ 123456789012345678 }} {{ 0.1 + 0.2 }} {{ 100 | float }} {{ '3.7' | int }} {{ '0x1f' | int(9) }}",
    "{{ 2.5 | round }} {{ 3.5 | round | int }} {{ 2.567 | round(2) }} {{ 2.1 | round(0, 'ceil') }} {{ -3 | abs }} {{ [1, 2.5] | sum }}",
    # strings
    "{{ 'a-b-c'.split('-', 1) }} {{ 'a b  c'.split() }} {{ 'a-b-c'.rsplit('-', 1) }} {{ ' a b '.split(' ') }} {{ 'abc'.split('x') }}",
    "{{ 'xxabxx'.strip('x') }} {{ 'abab'.replace('a', 'c', 1) }} {{ 'aé'.upper() }} {{ 'ß'.upper() }} {{ 'ǅ x'.title() }} {{ \"it's\".title() }}",
    "{{ 'a\\nb\\n'.splitlines() }} {{ 'abc'.find('c') }} {{ 'éabc'.find('c') }} {{ 'aXbX'.count('X') }} {{ ','.join(['a', 'b']) }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }} {{ 'abc'.removeprefix('a') }} {{ 'a{}b{}'.format(1, 'x') }} {{ '{0}{k}'.format(1, k=2) }}",
    "{{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ ' '.isspace() }} {{ 'AB'.isupper() }} {{ 'abc'.capitalize() }} {{ 'aBC' | capitalize }} {{ 'a b' | title }}",
    "{{ 'añb'[1] }} {{ 'añb'[::-1] }} {{ 'añb'[-2:] }} {{ 'abc'[5] is defined }} {{ 'abc'[1:10] }} {{ [1,2,3][-2:] }} {{ (1,2,3)[:2] }}",
    "{{ 'it\\'s' ~ \"q\\\"\" ~ '\\t|\\x41|\\u00e9|\\n' }} {{ ['it\\'s', 'q\"', '\\n\\t', 'é', '\\\\'] }}",
    "{{ ' a ' | trim }}|{{ 'xax' | trim('x') }}|{{ 'a\\nb\\n\\nc' | indent(2) }}|{{ 'a\\nb' | indent(2, true) }}|{{ 'a\\nb' | indent('> ') }}",
    "{{ 'abc' | length }} {{ 'añ' | count }} {{ [1,2] | first }} {{ [1,2] | last }} {{ 'ab' | list }} {{ [] | first is defined }}",
    "{{ ['a', 'b'] | join(', ') }} {{ [1, none, true] | join('-') }} {{ messages | join(',', attribute='role') }} {{ 'abc' | join('.') }}",
    "{{ 'a' 'b' }} {{ 'a' in 'abc' }} {{ '' in 'abc' }} {{ 1 in [1.0] }} {{ 'a' not in ['b'] }} {{ 'k' in {'k': 1} }}",
    # json
    "{{ {'a': [1, 2.0, none, true, 'é<\\n'], 'b': {}} | tojson }} {{ [] | tojson(indent=2) }} {{ {'a': [1, {}]} | tojson(indent=2) }}",
    "{{ {'b': 1, 'a': 'é'} | tojson(ensure_ascii=true, sort_keys=true) }} {{ {'a': 1} | tojson(separators=(',', ':')) }} {{ {1: 2, none: 3, true: 4} | tojson }}",
    "{{ d | tojson(indent=4) }} {{ 1e16 | tojson }} {{ 1.5 | tojson }} {{ '\\u2028\\x7f' | tojson }} {{ (1, 2) | tojson }} {{ [1] | tojson(2) }}",
    "{{ {'a': none, 'f': false, 't': (1,), 'n': {'k': [1.0, 'x']}} }} {{ [true, none, 'a'] | string }} {{ none | string }} {{ 1.0 | string }}",
    # tests
    "{{ 1 is number }} {{ true is number }} {{ 1 is integer }} {{ true is integer }} {{ 1.0 is float }} {{ true is boolean }} {{ 'a' is string }}",
    "{{ d is mapping }} {{ [] is sequence }} {{ 'a' is sequence }} {{ 1 is iterable }} {{ 'a' is iterable }} {{ d is sequence }} {{ d is iterable }}",
    "{{ 3 is odd }} {{ 4 is even }} {{ 6 is divisibleby 3 }} {{ 1 is eq 1 }} {{ 1 is lt(2) }} {{ 1 is in [1] }} {{ none is none }} {{ 'a' is lower }}",
    "{{ x is not defined }} {{ n is defined and n > 2 }} {{ n is sameas n }} {{ true is true }} {{ 1 is true }} {{ range is callable }}",
    # lists and dicts
    "{% set l = [] %}{% set _ = l.append(1) %}{{ l }}{% set _ = l.extend([2, 3]) %}{{ l.pop() }}{{ l }}{{ l.index(2) }}{{ l.insert(0, 9) }}{{ l }}",
    "{{ d.get('a') }} {{ d.get('z') }} {{ d.get('z', 'y') }} {{ dict(a=1, b=2) }} {{ dict([('k', 1)]) }} {{ d.copy() == d }} {{ d['a'] }}",
    "{{ [1, 2, 3, 4] | select('even') | list }} {{ [1, none] | reject('none') | list }} {{ ['a', 'B'] | map('upper') | list }} {{ [[1], []] | map('length') | list }}",
    "{{ messages | map(attribute='content') | list }} {{ messages | map(attribute='zz', default='-') | list }} {{ [3, 1] | min }} {{ [3, 1] | max }} {{ ['b', 'A'] | max }}",
    "{{ [{'a': 2}, {'a': 1}] | sort(attribute='a') }} {{ [{'a': {'b': 1}}] | map(attribute='a.b') | list }} {{ {'b': 1, 'a': 2} | dictsort(by='value') }}",
    # white space
    "a\n  {%- if true %}\n b\n {%- endif -%}\n c", "a {{- 1 -}} b", "  {# c #}\nx", "  {#- c -#}\n x", "{% raw %} {{ x }} {% endraw %} y", "{%+ if true %} z {% endif %}",
    "x\n{% if true -%}\n   y\n{%- endif %}\n\n\nz\n\n", "\t{% set a = 1 %}\n\t{{ a }}\n", "{{ 'a' }}\n{{ 'b' }}\n", "{% if true %}\n\n a\n{% endif %}", "a{% if true +%}\nb{% endif %}",
    # errors
    "{{ raise_exception('no ' ~ 'way') }}", "{{ 1 | zzz }}", "{{ 1 is zzz }}", "{% zzz %}", "{{ (1 }}", "{{ [1, }}", "{% if 1 %}", "{% endif %}", "{{ 'a }}", "{{ 1 1 }}",
    "{% for x in 5 %}{% endfor %}", "{{ 5[0] is defined }}", "{{ 'a'.zzz() }}", "{{ {}['a'].b }}", "{{ d.a.b.c }}", "{% set 1 = 2 %}", "{{ int }}", "{{ range(3) | list }}",
    "{% for a, b in [1] %}{% endfor %}", "{{ 'abc'.split('') }}", "{{ [1].index(5) }}", "{{ [] | max }}|", "{{ 'x' | int }} {{ 'x' | float }} {{ none | int }} {{ [] | first }}|",
    "{{ strftime_now('%Y-%m-%d %H %b %A %j') }}", "{{ strftime_now('%d') + strftime_now('%B') }}", "{{ namespace(a=[1]).a }} {{ range(2, 8, 3) | list }} {{ range(3, 0, -1) | list }}",
]


def snippets():
    for source in SNIPPETS:
        yield source, {"template": source, **LITTLE}


# ---- the other side ----------------------------------------------------------------------------------------------

def build_tool(build):
    tool = os.path.join(tempfile.mkdtemp(), "template_tool")
    libs = subprocess.check_output(["pkg-config", "--libs", "jansson", "libutf8proc", "libpcre2-8"], text=True)
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


def hash_of(process, source):
    """Over the chosen cases, each beginning with the hash of the one before."""
    seed = "0"
    for label, case in cases(source):
        if chosen(label):
            seed = ours(process, {**case, "seed": seed})["hash"]
    return seed


def chosen(label):
    _, tools, extra, prompt = label.split("/")
    return prompt == "prompt" and tools in ("none", "three") and extra in ("plain", "thinking_off")


def write_goldens(path, process, folder):
    picked = [(label, case) for label, case in cases("") if chosen(label)]
    for _, case in picked:
        del case["template"]
    names = sorted(n for n in os.listdir(folder) if n.endswith(".jinja"))
    hashes = {n: hash_of(process, open(os.path.join(folder, n), encoding="utf-8", newline="").read()) for n in names}
    with open(path, "w", encoding="utf-8") as f:
        f.write('{"little": ' + json.dumps(LITTLE) + ',\n"snippets": [\n')
        f.write(",\n".join(json.dumps([t, reference(c)[0]], ensure_ascii=False) for t, c in snippets()))
        f.write('],\n"cases": [\n' + ",\n".join(json.dumps(case) for _, case in picked))
        f.write('],\n"hashes": ' + json.dumps(hashes, indent=1) + "}\n")


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--build", default=os.path.join(ROOT, "build"))
    args.add_argument("--data", default=os.path.join(os.path.dirname(ROOT), "shared/data/chat-templates"))
    args.add_argument("--match", default="")
    args.add_argument("--goldens")
    args.add_argument("--show", type=int, default=3, help="differences shown of each template")
    args = args.parse_args()
    process = build_tool(args.build)
    folder = os.path.join(args.data, "llama.cpp")
    sets = [(name, cases(open(os.path.join(folder, name), encoding="utf-8", newline="").read()))
            for name in sorted(os.listdir(folder)) if name.endswith(".jinja") and re.search(args.match, name)]
    sets += [("published", published(args.data)), ("snippets", snippets())]
    total = bad = errors = 0
    for name, these in sets:
        wrong = 0
        for label, case in these:
            total += 1
            expected, why = reference(case)
            got = ours(process, case)
            errors += expected is None
            if got.get("text") == expected:
                continue
            wrong += 1
            if wrong <= args.show:
                print(f"{name} {label}\n  jinja2: {expected if expected is not None else why!r:.600}\n  ours:   "
                      f"{got.get('text', got.get('error'))!r:.600}")
                if expected is not None and "text" in got:
                    at = next((i for i, (a, b) in enumerate(zip(expected, got["text"])) if a != b), -1)
                    print(f"  at {at}: {expected[at - 20:at + 60]!r} / {got['text'][at - 20:at + 60]!r}")
        bad += wrong
        if wrong:
            print(f"{name}: {wrong} differ")
    print(f"{total} renderings, {errors} of them errors on purpose, {bad} differ")
    if args.goldens and bad == 0:
        write_goldens(args.goldens, process, folder)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
