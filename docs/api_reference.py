"""Writes the API reference, one Markdown page a public header, from the comments of the headers.

api_reference.py FOLDER      (make docs: build/docs)
"""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "abi"))
import headers  # noqa: E402


def story(text):
    """The comment at the top of a header, without stars; its first line is `name - what it is`."""
    body = re.match(r"\s*/\*(.*?)\*/", text, re.DOTALL).group(1)
    return "\n".join(re.sub(r"^\s*\* ?", "", line) for line in body.split("\n")).strip()


def in_order(comment):
    """A comment as Markdown: @param and @return tables keep their columns."""
    out, code = [], False
    for line in (comment or "").split("\n"):
        starts = line.startswith(("@param", "@return"))
        if starts and not code:
            out += ["", "```text"]
            code = True
        if code and not starts and not line.startswith(" "):
            out += ["```", ""]
            code = False
        out.append(line)
    return "\n".join(out + (["```"] if code else []))


def page(path):
    name = headers.relative(path)
    text = headers.read(path)
    out = ["# %s\n" % name, story(text) + "\n"]
    structs = [s for s in headers.structs() if s.header == name]
    functions = [f for f in headers.functions() if f.header == name]
    if structs:
        out.append("## Structs\n")
    for struct in structs:
        out.append("### %s\n\n%s\n\n| field | meaning |\n|---|---|" % (struct.name, struct.comment or ""))
        for field in struct.fields:
            out.append("| `%s` | %s |" % (field.text.rstrip(";"), (field.comment or "").replace("|", "\\|")))
        out.append("")
    if functions:
        out.append("## Functions\n")
    for function in functions:
        declaration = re.sub(r"\bAIINFRA_(API|MUST_USE)\s+", "", function.text)
        declaration = re.sub(r"\n\s+", "\n    ", declaration)
        out.append("### %s\n\n```c\n%s\n```\n\n%s\n" % (function.name, declaration, in_order(function.comment)))
    return "\n".join(out)


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    index = ["# libaiinfra %s: API reference\n" % headers.version()]
    for path in headers.paths():
        target = headers.relative(path).replace("/", "_").replace(".h", ".md")
        with open(os.path.join(folder, target), "w", encoding="utf-8") as file:
            file.write(page(path))
        count = sum(1 for f in headers.functions() if f.header == headers.relative(path))
        index.append("- [%s](%s): %d functions" % (headers.relative(path), target, count))
    with open(os.path.join(folder, "index.md"), "w", encoding="utf-8") as file:
        file.write("\n".join(index) + "\n")
    print("%s: %d pages" % (folder, len(headers.paths()) + 1))


if __name__ == "__main__":
    main()
