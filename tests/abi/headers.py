"""Reads the public headers for the gates and the reference pages: functions, structs, and the comments above them.

This is no C parser. It relies on the form the house gives its headers: a function begins with AIINFRA_API at the
start of a line and ends with ';'; a struct is `typedef struct name { ... } name;` with one member a line group.
"""
import collections
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

Function = collections.namedtuple("Function", "header line name text returns comment")
Struct = collections.namedtuple("Struct", "header line name fields comment")
Field = collections.namedtuple("Field", "line name text comment")


def paths():
    include = os.path.join(ROOT, "include")
    return sorted(glob.glob(os.path.join(include, "*.h")) + glob.glob(os.path.join(include, "aiinfra", "*.h")))


def relative(path):
    return os.path.relpath(path, os.path.join(ROOT, "include"))


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def version():
    text = read(os.path.join(ROOT, "include", "aiinfra", "types.h"))
    return re.search(r'define AIINFRA_VERSION_STRING "([^"]+)"', text).group(1)


def blank(text):
    """The text with comments and strings replaced by blanks, so that offsets and lines stay as they are."""
    def spaces(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', spaces, text, flags=re.DOTALL)


def comment_above(text, position):
    """The /** */ comment that ends right above position, without its stars; None if there is none."""
    before = text[:position].rstrip()
    if not before.endswith("*/"):
        return None
    start = before.rfind("/*")
    if not before.startswith("/**", start) or text[:position][len(before):].count("\n") > 1:
        return None
    lines = before[start + 3:-2].split("\n")
    return "\n".join(re.sub(r"^\s*\* ?", "", line) if i else line.strip() for i, line in enumerate(lines)).strip()


def functions():
    for path in paths():
        text = read(path)
        code = blank(text)
        for match in re.finditer(r"^AIINFRA_API\b([^;{]*);", code, re.MULTILINE):
            declaration = " ".join(match.group(1).split())
            declaration = re.sub(r"__attribute__\s*\(\(.*?\)\)(?=[^)]|$)", "", declaration)
            name = re.search(r"\b(aiinfra_\w+)\s*(\(|\[|$)", declaration)
            if name is None:
                continue
            returns = re.sub(r"\bAIINFRA_[A-Z_]+(\([^)]*\))?", "", declaration[:name.start(1)]).strip()
            yield Function(relative(path), code.count("\n", 0, match.start()) + 1, name.group(1),
                           text[match.start():match.end()], returns, comment_above(text, match.start()))


def field_comment(text, code, start, end):
    """A field's comment stands behind it on its line, or right above it."""
    tail = text[end:text.find("\n", end) if text.find("\n", end) >= 0 else len(text)]
    behind = re.match(r"\s*/\*\*<?(.*)", tail)
    if behind:
        stop = text.find("*/", end)
        words = text[end:stop].replace("/**<", "").replace("/**", "")
        return " ".join(re.sub(r"^\s*\*", "", line).strip() for line in words.split("\n")).strip()
    return comment_above(text, start)


def structs():
    for path in paths():
        text = read(path)
        code = blank(text)
        for match in re.finditer(r"^typedef struct (\w+) \{(.*?)^\} (\w+);", code, re.MULTILINE | re.DOTALL):
            fields = []
            for member in re.finditer(r"[^;]+;", match.group(2)):
                lead = len(member.group(0)) - len(member.group(0).lstrip())
                start = match.start(2) + member.start() + lead
                end = match.start(2) + member.end()
                declaration = code[start:end]
                pointer = re.match(r"[^(]*\(\s*\*\s*(\w+)\s*\)", declaration)
                names = [pointer.group(1)] if pointer else [
                    re.search(r"(\w+)\s*(\[[^\]]*\])*\s*$", part).group(1)
                    for part in declaration.rstrip("; \n").split(",")]
                comment = field_comment(text, code, start, end)
                for name in names:
                    fields.append(Field(code.count("\n", 0, start) + 1, name, " ".join(declaration.split()), comment))
            yield Struct(relative(path), code.count("\n", 0, match.start()) + 1, match.group(3), fields,
                         comment_above(text, match.start()))
