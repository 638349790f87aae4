"""What the library's code never says.

It never aborts, exits or prints; it takes memory only through lib/base; it leaves the host's signals, locale and
hooks alone; it uses no unbounded string function; assert() has no side effects. And no file leaves a note about
work that is not done, or a path of somebody's machine.
"""
import re

import tree

NEVER = {
    "abort exit _Exit quick_exit": "the library never ends the host's process",
    "printf vprintf fprintf vfprintf puts putchar perror psignal": "the library never prints",
    "strcpy strcat sprintf vsprintf gets stpcpy strtok scanf sscanf": "unbounded or hidden state",
    "alloca": "the stack is not ours to grow",
    "signal sigaction atexit on_exit setlocale uv_replace_allocator sqlite3_config setenv putenv":
        "the host's, not ours",
}
MEMORY = "malloc calloc realloc reallocarray strdup strndup asprintf vasprintf".split()
BELONGS = {  # who may, and why
    "_exit": ("src/agent/",),                       # the sandboxed child, which must not run the host's atexit
    "memory": ("lib/base/", "lib/json/parse.c"),    # the default allocator stands here; jansson's values are malloc's
}
UNFINISHED = re.compile(r"\b(%s)\b" % "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK", "st" + "ub",
                                                "not imple" + "mented"]))
MACHINE = re.compile(r"/wor[k]/|/tmp/bash_job[s]|\.librar[y]\b|/root[/]|\bissue #?[0-9]+")
TEXT = tree.C_ENDINGS + (".py", ".sh", ".md", ".txt", ".in", ".supp", "Makefile", "run", "FLOORS", ".map")


def calls(text, names):
    return re.finditer(r"(?<![\w.>])(%s)\s*\(" % "|".join(names), text)


def check_library(path):
    text = tree.code(tree.read(path))
    for names, reason in NEVER.items():
        for match in calls(text, names.split()):
            tree.finding(path, tree.line_of(text, match.start()), "%s(): %s" % (match.group(1), reason))
    if not path.startswith(BELONGS["_exit"]):
        for match in calls(text, ["_exit"]):
            tree.finding(path, tree.line_of(text, match.start()), "_exit(): the library never ends the host's process")
    if not path.startswith(BELONGS["memory"]):
        for match in calls(text, MEMORY):
            tree.finding(path, tree.line_of(text, match.start()), "%s(): memory comes from aii_mem" % match.group(1))
    for match in re.finditer(r"\b(stderr|stdout)\b", text):
        tree.finding(path, tree.line_of(text, match.start()), "%s: the library never prints" % match.group(1))
    for match in re.finditer(r"\bassert\s*\(([^;]*)\);", text):
        if re.search(r"\+\+|--|(?<![=!<>])=(?!=)", match.group(1)):
            tree.finding(path, tree.line_of(text, match.start()), "assert() with a side effect is lost in a release")


def main():
    for path in tree.c_files(*tree.LIBRARY):
        check_library(path)
    for path in tree.files():
        if not path.endswith(TEXT) or "/corpus/" in path or path.startswith("tests/data/"):
            continue
        text = tree.read(path)
        if not path.endswith(".md"):
            for match in UNFINISHED.finditer(text):
                tree.finding(path, tree.line_of(text, match.start()), "unfinished: '%s'" % match.group(0))
        for match in MACHINE.finditer(text):
            tree.finding(path, tree.line_of(text, match.start()), "belongs to one machine: '%s'" % match.group(0))
    tree.done()


main()
