"""The documentation holds: every link leads somewhere, every program shown compiles.

In README.md and docs/, each fenced c or cpp block that contains main() is compiled against the public headers, and
each relative link and each path written as `folder/file` must exist in the tree.
"""
import os
import re
import subprocess
import tempfile

import tree

LANGUAGES = {"c": ("gcc", "-std=c11", ".c"), "cpp": ("g++", "-std=c++11", ".cc")}
PATH = re.compile(r"`((?:include|lib|src|kernels|examples|tests|bindings|docs)/[\w./-]*[\w/])`")


def blocks(text):
    for match in re.finditer(r"^```(\w+)[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield tree.line_of(text, match.start()) + 1, match.group(1), match.group(2)


def check_program(path, line, language, source):
    compiler, standard, ending = LANGUAGES[language]
    with tempfile.TemporaryDirectory() as folder:
        name = os.path.join(folder, "block" + ending)
        with open(name, "w", encoding="utf-8") as file:
            file.write('#line %d "%s"\n%s' % (line, path, source))
        done = subprocess.run([compiler, standard, "-D_GNU_SOURCE", "-Wall", "-Werror", "-fsyntax-only",
                               "-I" + os.path.join(tree.ROOT, "include"), name], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        tree.finding(path, line, "the program does not compile:\n" + done.stdout)


def check_links(path, text):
    prose = re.sub(r"^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text, flags=re.MULTILINE | re.DOTALL)
    for match in re.finditer(r"\[[^\]]*\]\(([^)\s]+)\)", prose):
        target = match.group(1).split("#")[0]
        if target and not re.match(r"[a-z]+:", target) and not os.path.exists(
                os.path.join(tree.ROOT, os.path.dirname(path), target)):
            tree.finding(path, tree.line_of(text, match.start()), "dead link: %s" % match.group(1))
    for match in PATH.finditer(prose):
        if not os.path.exists(os.path.join(tree.ROOT, match.group(1))):
            tree.finding(path, tree.line_of(text, match.start()), "no such file: %s" % match.group(1))


def main():
    programs = 0
    for path in tree.files():
        if path != "README.md" and not (path.startswith("docs/") and path.endswith(".md")):
            continue
        text = tree.read(path)
        check_links(path, text)
        for line, language, source in blocks(text):
            if language in LANGUAGES and re.search(r"\bmain\s*\(", source):
                programs += 1
                check_program(path, line, language, source)
    print("%d programs" % programs)
    tree.done()


main()
