#!/usr/bin/env python3
"""Writes the conversations that nano learns from, and the held-out sets that judge it.

    generate.py --count 1000 --seed 1            training conversations, JSON lines, on stdout
    generate.py --eval 200 --seed 9              200 held-out conversations a kind

A training conversation is one system message (a prompt, and perhaps passages, memory, tools) and some
turns of mixed kinds. A held-out one ends with the user's last message or a tool's result, and `expect`
says what must follow: {"tool": {"name", "arguments"}}, or {"answer", "key", "citation"}.

All answers follow one policy, so that a tiny model can keep it: an answer is a sentence copied from
the context, word for word, with its passage's number; what is not there is "I don't know."
Everything is a function of the seed; nothing but the standard library is needed.
"""
import argparse
import json
import sys

from facts import fact, passages, ask
from memories import memories, memory
from source import Source
from tools import UNKNOWN, default_tools, offered, once_more, tool_case
REMEMBER = "I will remember that."

CHAT = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hey", "Hi there!", "Good morning.", "Good evening!", "Hello there", "hello", "hi", "Good day.", "Hey there"], "Hello! How can I help you?"),
    (["How are you?", "How are you doing?", "How do you do?", "Are you well?", "How is it going?"], "I am well, thank you. How can I help you?"),
    (["Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "What's your name?", "Who is this?", "Are you a robot?"], "I am nano, a tiny model that ships with libaiinfra."),
    (["What can you do?", "How can you help me?", "What are you good for?", "Help", "What do you do?", "Help me."], "I can answer from passages and memory, and I can call tools."),
    (["Thanks", "Thank you!", "Thank you very much.", "Thanks a lot!", "Great, thanks.", "thanks", "Many thanks.", "Cheers"], "You are welcome."),
    (["Bye", "Goodbye!", "See you later.", "Good night.", "bye", "See you.", "That is all."], "Goodbye!"),
    (["OK", "Okay.", "Good.", "Great!", "Nice.", "Fine.", "I see.", "Cool"], "Is there anything else?"),
]
SYSTEM = ["You are nano, a helpful assistant.", "You are a helpful assistant.", "You are nano.", "You are nano, a small and honest assistant.", "Answer briefly.", "You are an assistant.",
          "Answer from the passages and cite them.", "You are nano, a helpful assistant. Answer from the passages and cite them. Say \"I don't know.\" when the answer is not there.",
          "You are a helpful assistant. Use the passages and the memory. If the answer is not there, say that you don't know.", "Use the tools when they help.",
          "You answer questions about the documentation of the project.", "You are the agent of {name}. Be short.", "You are {name}, the assistant of {place}.", "You help {name} with the {noun}.",
          "You are nano, an assistant with a memory and tools.", "Be exact. Do not guess.", "You are the assistant for the {noun} {noun2}. Cite the passage that you used."]


def system_prompt(w):
    return w.pick(SYSTEM).format(name=w.name(), place=w.place(), noun=w.noun(), noun2=w.noun())


def compose(prompt, lines, memory_lines):
    """The system message's content, as the agent composes it."""
    text = prompt
    if lines:
        text += "\n\nPassages:\n" + "\n".join(lines)
    if memory_lines:
        text += "\n\nMemory:\n" + "\n".join("- " + m for m in memory_lines)
    return text


def call_message(name, args, ident="call_1"):
    return {"role": "assistant", "content": "",
            "tool_calls": [{"id": ident, "type": "function", "function": {"name": name, "arguments": json.dumps(args)}}]}


class Conversation:
    def __init__(self, w, level, want=None):
        self.w, self.level = w, level
        self.turns, self.expect = [], None
        p = w.r.random()
        has_passages = want in ("passage", "unknown") and (want == "passage" or w.chance(0.7)) or (want is None and p < 0.8) or w.chance(0.1)
        has_memory = want == "memory" or w.chance(0.3) or (want == "unknown" and not has_passages)
        has_tools = want == "tool" or w.chance(0.35 if want else 0.55)
        self.lines, self.items, self.spare = passages(w, level) if has_passages else ([], [], [])
        self.memory_lines, self.known, self.forgotten = memories(w, w.r.randrange(1, [3, 4, 6, 9, 12][level])) if has_memory else ([], [], [])
        self.own = default_tools(w) if has_tools and w.chance(0.7) else []
        self.cases = [tool_case(w, self.own) for _ in range(w.r.randrange(1, 6))] if has_tools else []
        self.cases += [once_more(w, c) for c in self.cases if len(c) > 6 for _ in range(w.pick([0, 1, 2]))]
        self.tools = list(self.own)
        if has_tools:
            self.tools += [c[0] for c in self.cases if c[0] not in self.own] + offered(w, w.pick([0, 0, 1, 1, 2, 3][:min(6, 3 + level)]))
            names, unique = set(), []
            for t in self.tools:
                if t["function"]["name"] not in names:
                    names.add(t["function"]["name"])
                    unique.append(t)
            self.tools = unique
            if w.chance(0.4):
                w.r.shuffle(self.tools)
            topics = [k[0][0] for k in self.known]
            self.cases = [c for c in self.cases if c[0] in self.tools and (len(c) < 6 or c[5] is None or c[5] not in topics)]
        self.prompt = system_prompt(w)
        w.r.shuffle(self.items)

    def say(self, user, answer, **expect):
        self.turns += [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
        self.expect = dict(answer=answer, **expect)

    def passage(self):
        q, answer, key, n = self.items.pop()
        self.say(ask(self.w, q), answer, key=key, citation=n)

    def memory(self):
        i = self.w.r.randrange(len(self.known))
        q, answer, key = self.known.pop(i)
        self.say(ask(self.w, q), answer, key=key)

    def unknown(self):
        w = self.w
        has_search = any(t["function"]["name"] == "memory_search" for t in self.tools)
        if self.lines and (w.chance(0.75) or has_search):
            q = self.absent()
        elif has_search or w.chance(0.3):
            q = fact(w)[1]
        else:
            q = (self.forgotten.pop() if self.forgotten and w.chance(0.8) else memory(w))[3]
            if any(q[0] == k[0][0] for k in self.known):
                q = fact(w)[1]
        self.say(ask(w, q), UNKNOWN)

    def absent(self):
        """A question that the passages almost answer: a spare fact's, or one with its subject or attribute changed."""
        w = self.w
        if self.spare and w.chance(0.7):
            return self.spare.pop()[1]
        return fact(w)[1]

    def tool(self, part=None):
        t, q, args, result, answer = self.cases.pop()[:5]
        name = t["function"]["name"]
        self.turns += [{"role": "user", "content": q}, call_message(name, args)]
        self.expect = {"tool": {"name": name, "arguments": args}}
        if part != "call":
            self.turns += [{"role": "tool", "tool_call_id": "call_1", "content": result}, {"role": "assistant", "content": answer}]
            self.expect = {"answer": answer, "key": answer}

    def chat(self):
        w = self.w
        if w.chance(0.45):
            m = memory(w)
            text = m[0] if w.chance(0.7) else w.pick(["Remember that %s", "Please remember: %s", "Remember: %s", "Note that %s", "Don't forget: %s"]) % (m[0] if m[0].startswith("I ") else m[0][0].lower() + m[0][1:])
            self.say(text, REMEMBER, key=REMEMBER)
            if m[3][0] not in [k[0][0] for k in self.known] + [c[5] for c in self.cases if len(c) > 5]:
                self.known.append((m[3], m[1], m[4]))
        else:
            says, answer = w.pick(CHAT)
            self.say(w.pick(says), answer, key=answer)

    def line(self, kind):
        messages = [{"role": "system", "content": compose(self.prompt, self.lines, self.memory_lines)}] + self.turns
        return {"kind": kind, "messages": messages, "tools": self.tools, "expect": self.expect}


def echo(w):
    """Pure copying: the first thing a young model learns."""
    n = w.r.randrange(1, 9)
    text = " ".join(w.pick([w.noun, w.pseudo, w.name, w.number, w.value, lambda: w.word("ADJ")])() for _ in range(n))
    if w.chance(0.3):
        text = fact(w)[0]
    return w.pick(["Repeat: %s", "Say this: %s", "Repeat after me: %s", "Please repeat: %s", "Copy this text: %s", "Say %s"]) % text, text


def training(w, level, echoes=0.02):
    c = Conversation(w, level)
    if w.chance(echoes):
        c.lines, c.memory_lines, c.tools = [], [], []
        for _ in range(w.r.randrange(1, 7)):
            c.say(*echo(w))
        return c.line("mixed")
    kinds = ["passage"] * min(len(c.items), 12) + ["memory"] * min(len(c.known), 6) + ["tool"] * len(c.cases)
    kinds += ["unknown"] * w.pick([1, 2, 3, 4] if c.lines else [0, 1, 2]) + ["chat"] * w.pick([0, 0, 1, 1] if kinds else [2, 3, 4])
    w.r.shuffle(kinds)
    for kind in kinds[:w.r.randrange(4, 19)]:
        if kind == "memory" and not c.known:
            continue
        getattr(c, kind)()
    return c.line("mixed")


def held_out(w, kind, level):
    while True:
        c = Conversation(w, level, kind)
        if {"passage": c.items, "memory": c.known, "tool": c.cases}.get(kind, True):
            break
    if w.chance(0.2):
        c.chat()
    if kind == "tool":
        c.tool(w.pick(["call", "call", "answer"]))
    else:
        getattr(c, kind)()
    line = c.line(kind)
    line["messages"].pop()      # what `expect` holds
    return line


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--eval", type=int, default=0, metavar="N", help="N held-out conversations a kind")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--level", type=int, default=None, choices=range(5), help="0 short to 4 long; default: mixed")
    args = p.parse_args()
    w = Source(args.seed, evaluate=args.eval > 0)
    for i in range(args.eval or args.count):
        level = w.r.randrange(5) if args.level is None else args.level
        for line in [held_out(w, k, level) for k in ("tool", "passage", "memory", "unknown", "chat")] if args.eval else [training(w, level)]:
            json.dump(line, sys.stdout, ensure_ascii=False)
            print()


if __name__ == "__main__":
    main()
