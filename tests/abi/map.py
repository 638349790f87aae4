"""The linker map: every exported symbol by name, one node a release.

map.py            prints the public functions and variables that the headers declare
map.py --warn     tells what the map lacks, for the build
map.py --update   adds the newly declared ones to src/aiinfra.map, under the node of the current version, and
                  drops those that no header declares any more

A symbol keeps the node of the release that brought it, so that a program linked against 0.3 says so when it meets
a 0.2 library.
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import headers  # noqa: E402

MAP = os.path.join(headers.ROOT, "src", "aiinfra.map")
STORY = ("# Every exported symbol by name, one node a release: what is not here stays inside the library.\n"
         "# Written by `make abi-update` from the AIINFRA_API declarations of include/.\n")


def read():
    """The nodes of the map, oldest first: [(name, [symbols])]."""
    if not os.path.exists(MAP):
        return []
    with open(MAP, encoding="utf-8") as file:
        text = re.sub(r"#.*", "", file.read())
    nodes = re.findall(r"(AIINFRA_[0-9.]+)\s*\{(.*?)\}", text, re.DOTALL)
    return [(name, sorted(re.findall(r"\baiinfra_\w+(?=\s*;)", body))) for name, body in nodes]


def symbols():
    return sorted(name for _, names in read() for name in names)


def write(nodes):
    text = STORY
    previous = None
    for name, names in nodes:
        text += "%s {\n  global:\n" % name + "".join("    %s;\n" % n for n in sorted(names))
        text += "  local: *;\n" if previous is None else ""
        text += "}%s;\n" % (" " + previous if previous else "")
        previous = name
    with open(MAP, "w", encoding="utf-8") as file:
        file.write(text)


def update():
    declared = {d.name for d in headers.functions()}
    nodes = [(name, [s for s in names if s in declared]) for name, names in read()]
    new = sorted(declared - {s for _, names in nodes for s in names})
    current = "AIINFRA_%s" % ".".join(headers.version().split(".")[:2])
    if not nodes or (nodes[-1][0] != current and new):
        nodes.append((current, []))
    nodes[-1][1].extend(new)
    write([n for n in nodes if n[1]] or [(current, [])])
    print("src/aiinfra.map: %d symbols, %d of them new" % (len(declared), len(new)))


if __name__ == "__main__":
    if sys.argv[1:] == ["--update"]:
        update()
    elif sys.argv[1:] == ["--warn"]:
        lacking = sorted({d.name for d in headers.functions()} - set(symbols()))
        if lacking:
            print("  note: src/aiinfra.map lacks %d symbols that headers declare (%s, ...): run `make abi-update`"
                  % (len(lacking), lacking[0]))
    else:
        print("\n".join(sorted(d.name for d in headers.functions())))
